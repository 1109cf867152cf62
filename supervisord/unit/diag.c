/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Diagnostics and degradations of one unit: where, what, and what would be right.
 *
 *  1. Every text and every file's name is made printable: it may quote a hostile file.
 *  2. At most DIAGNOSTICS_MAX are kept; the last one then says how many were not.
 *  3. A finding of severity FATAL makes the unit LOAD_BAD; nothing else here changes load.
 *
 * Called by the parsers and the loader; the texts are printed by check.c, core and stayctl.
 */
#include "internal.h"

#define SOURCE_MAX 240

static const struct {
	const char *id;
	enum severity severity;
	const char *title, *text;
} codes[CODE_MAX] = {
#define CODE(number, severity, title, text) {"S" #number, SEVERITY_##severity, title, text},
#include "codes.def"
#undef CODE
};

const char *diagnostic_explain(const char *code, const char **ret_title)
{
	for (size_t i = 0; i < CODE_MAX; i++)
		if (strcasecmp(code, codes[i].id) == 0) {
			*ret_title = codes[i].title;
			return codes[i].text;
		}
	return NULL;
}

char *shown_file(struct parser *p, const char *file)
{
	char *s = arena_strdup(p->arena, file);
	str_make_printable(s);
	return s;
}

static struct diagnostic *add_diagnostic(struct parser *p)
{
	struct unit_conf *c = p->conf;
	if (c->n_diagnostics >= DIAGNOSTICS_MAX) {
		p->n_dropped++;
		struct diagnostic *last = &c->diagnostics[DIAGNOSTICS_MAX - 1];
		last->hint = NULL;
		last->source = NULL;
		last->line = last->column = 0;
		last->text = "too many findings; the others are not shown";
		return NULL;
	}
	if (c->n_diagnostics >= p->cap_diagnostics) {
		size_t cap = p->cap_diagnostics ? 2 * p->cap_diagnostics : 2;
		struct diagnostic *v = arena_alloc(p->arena, cap * sizeof(*v));
		if (c->n_diagnostics)
			memcpy(v, c->diagnostics, c->n_diagnostics * sizeof(*v));
		c->diagnostics = v;
		p->cap_diagnostics = cap;
	}
	return &c->diagnostics[c->n_diagnostics++];
}

static void report(struct parser *p, enum code code, enum severity severity, const char *file,
	const struct text_pos *at, const char *hint, const char *format, va_list ap)
{
	if (severity == SEVERITY_FATAL && p->conf->load == LOAD_LOADED)
		p->conf->load = LOAD_BAD;
	struct diagnostic *d = add_diagnostic(p);
	if (!d)
		return;
	char text[512];
	vsnprintf(text, sizeof(text), format, ap);
	str_make_printable(text);
	d->file = file;
	d->is_error = severity != SEVERITY_NOTE;
	d->code = codes[code].id;
	d->text = arena_strdup(p->arena, text);
	if (hint) {
		char *h = arena_strdup(p->arena, hint);
		str_make_printable(h);
		d->hint = h;
	}
	if (!at)
		return;
	d->line = at->line;
	d->column = at->column;
	if (at->source && at->source_size <= SOURCE_MAX) {
		char *s = arena_strndup(p->arena, at->source, at->source_size);
		for (char *t = s; *t; t++)
			if (*t == '\t')
				*t = ' '; /* one column, as counted */
		str_make_printable(s);
		d->source = s;
	}
}

void diag_at(struct parser *p, enum code code, const struct text_pos *at, const char *hint,
	const char *format, ...)
{
	va_list ap;
	va_start(ap, format);
	report(p, code, codes[code].severity, p->file, at, hint, format, ap);
	va_end(ap);
}

/* A restriction that cannot be understood is not a smaller mistake than one that is refused. */
static bool is_security_field(const struct parser *p)
{
	return p->d && p->d->info.class != CLASS_IGNORED_SAFE &&
	       p->d->offset >= offsetof(struct unit_conf, exec.identity) &&
	       p->d->offset < offsetof(struct unit_conf, exec.limits);
}

static void complain_as(struct parser *p, enum code code, enum severity severity, const char *hint,
	const char *format, va_list ap)
{
	struct text_pos at, *where = NULL;
	if (p->at) {
		assignment_where(p->at, p->value_at, &at);
		where = &at;
	}
	report(p, code, severity, p->file, where, hint, format, ap);
}

void complain(struct parser *p, enum code code, const char *hint, const char *format, ...)
{
	enum severity s = codes[code].severity;
	va_list ap;
	va_start(ap, format);
	complain_as(p, code, is_security_field(p) && s == SEVERITY_ERROR ? SEVERITY_FATAL : s, hint,
		format, ap);
	va_end(ap);
}

void complain_fatal(struct parser *p, enum code code, const char *hint, const char *format, ...)
{
	va_list ap;
	va_start(ap, format);
	complain_as(p, code, SEVERITY_FATAL, hint, format, ap);
	va_end(ap);
}

void complain_file(struct parser *p, enum code code, const char *file, const char *hint,
	const char *format, ...)
{
	va_list ap;
	va_start(ap, format);
	report(p, code, codes[code].severity, file ? shown_file(p, file) : p->file, NULL, hint,
		format, ap);
	va_end(ap);
}

static void report_file(struct parser *p, enum code code, enum severity severity, const char *file,
	const char *format, ...)
{
	va_list ap;
	va_start(ap, format);
	report(p, code, severity, shown_file(p, file), NULL, NULL, format, ap);
	va_end(ap);
}

void complain_unread(struct parser *p, enum code code, const char *path, int error, bool is_fatal)
{
	p->conf->is_unread = true;
	report_file(p, code, is_fatal ? SEVERITY_FATAL : SEVERITY_ERROR, path,
		"%s cannot be read now: %s", path, errno_name(error));
}

/* One entry per directive and reason; a refused one also stops the unit. */
void degrade(struct parser *p, enum directive_class class, const char *reason)
{
	static const enum code code_of[CLASS_MAX] = {
		[CLASS_FULL] = S0301,
		[CLASS_PARTIAL] = S0301,
		[CLASS_IGNORED_SAFE] = S0301,
		[CLASS_IGNORED_WARN] = S0302,
		[CLASS_REFUSED] = S0303,
	};
	struct unit_conf *c = p->conf;
	for (size_t i = 0; i < c->n_degraded; i++)
		if (streq(c->degraded[i].directive, p->d->info.key) &&
			streq(c->degraded[i].reason, reason))
			return;
	if (c->n_degraded >= p->cap_degraded) {
		size_t cap = p->cap_degraded ? 2 * p->cap_degraded : 8;
		struct degraded *v = arena_alloc(p->arena, cap * sizeof(*v));
		if (c->n_degraded)
			memcpy(v, c->degraded, c->n_degraded * sizeof(*v));
		c->degraded = v;
		p->cap_degraded = cap;
	}
	c->degraded[c->n_degraded++] = (struct degraded){
		.directive = p->d->info.key,
		.reason = reason,
		.class = class,
		.file = p->file,
		.line = p->at ? p->at->at.line : 0,
	};
	if (p->at)
		diag_at(p, code_of[class], &p->at->at, NULL, "%s=: %s", p->d->info.key, reason);
}
