/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Value parsers that any section uses: booleans, numbers, times, strings, paths, unit lists,
 * conditions.
 *
 *  1. A parser stores into the field its table row names, or complains and stores nothing.
 *  2. An empty value resets a list or string, as in systemd.
 *  3. Everything stored lives in the unit's arena.
 *
 * Called by parse.c through the rows of directives.def.
 */
#include <ctype.h>

#include "fields.h"
#include "stayd/stayd.h"

/* ---- lists ---- */

/* The array grows by doubling at each power of two; capacity needs no field of its own. */
void conf_list_add(struct parser *p, struct conf_list *l, const char *s)
{
	if (l->n >= ITEMS_MAX) {
		complain(p, S0129, NULL, "more than %d items", ITEMS_MAX);
		return;
	}
	if ((l->n & (l->n - 1)) == 0) {
		char **v = arena_alloc(p->arena, (l->n ? 2 * l->n : 1) * sizeof(*v));
		if (l->n)
			memcpy(v, l->v, l->n * sizeof(*v));
		l->v = v;
	}
	l->v[l->n++] = (char *)s;
}

bool conf_list_has(const struct conf_list *l, const char *s)
{
	for (size_t i = 0; i < l->n; i++)
		if (streq(l->v[i], s))
			return true;
	return false;
}

static void list_reset(struct conf_list *l)
{
	*l = (struct conf_list){0};
}

/* ---- scalars ---- */

void set_ignored(struct parser *p, const char *value)
{
	(void)p;
	(void)value;
}

static int boolean_of(struct parser *p, const char *value)
{
	int b = parse_boolean(value);
	if (b < 0)
		complain(p, S0111, NULL, "%s=%s: not a boolean; write yes or no", p->d->info.key,
			value);
	return b;
}

void set_boolean(struct parser *p, const char *value)
{
	int b = boolean_of(p, value);
	if (b >= 0)
		*FIELD(p, bool) = b;
}

void set_tristate(struct parser *p, const char *value)
{
	int b = boolean_of(p, value);
	if (b >= 0)
		*FIELD(p, int) = b;
}

void set_string(struct parser *p, const char *value)
{
	char *s = *value ? specifier_expand(p, value) : NULL;
	if (s || !*value)
		*FIELD(p, char *) = s;
}

void set_description(struct parser *p, const char *value)
{
	set_string(p, value);
}

void set_plain(struct parser *p, const char *value)
{
	*FIELD(p, char *) = *value ? arena_strdup(p->arena, value) : NULL;
}

static bool number_of(const char *value, uint64_t max, uint64_t *ret)
{
	uint64_t n = 0;
	if (!*value)
		return false;
	for (; *value; value++) {
		if (!isdigit((unsigned char)*value))
			return false;
		n = n * 10 + (uint64_t)(*value - '0');
		if (n > max)
			return false;
	}
	*ret = n;
	return true;
}

void set_unsigned(struct parser *p, const char *value)
{
	uint64_t n, max = p->d->arg ? (uint64_t)p->d->arg : UINT32_MAX;
	if (number_of(value, max, &n))
		*FIELD(p, unsigned) = (unsigned)n;
	else
		complain(p, S0113, NULL, "%s=%s: not a number from 0 to %llu", p->d->info.key,
			value, (unsigned long long)max);
}

void set_exit_code(struct parser *p, const char *value)
{
	uint64_t n;
	if (!*value)
		*FIELD(p, int) = -1;
	else if (number_of(value, 255, &n))
		*FIELD(p, int) = (int)n;
	else
		complain(
			p, S0113, NULL, "%s=%s: not a number from 0 to 255", p->d->info.key, value);
}

void set_time(struct parser *p, const char *value)
{
	struct err e;
	uint64_t us;
	bool nsec = p->d->arg == TIME_NSEC;
	/* A bare number of TimerSlackNSec= counts nanoseconds; written units count in full. */
	if (nsec && number_of(value, UINT64_MAX / 16, &us)) {
		*FIELD(p, uint64_t) = us;
		return;
	}
	if (parse_timespan(value, USEC_PER_SEC, &us, &e) < 0) {
		complain(p, S0112, NULL, "%s=%s: %s", p->d->info.key, value, e.text);
		return;
	}
	if (p->d->arg == TIME_ZERO_IS_INFINITY && us == 0)
		us = USEC_INFINITY;
	*FIELD(p, uint64_t) = nsec && us < UINT64_MAX / 1000 ? us * 1000 : us;
}

void set_mode(struct parser *p, const char *value)
{
	unsigned m = 0;
	const char *s = value;
	for (; *s >= '0' && *s <= '7' && m <= 07777; s++)
		m = m * 8 + (unsigned)(*s - '0');
	if (*s || s == value || m > 07777)
		complain(p, S0115, NULL, "%s=%s: not an octal access mode such as 0750",
			p->d->info.key, value);
	else
		*FIELD(p, mode_t) = m;
}

void set_signal(struct parser *p, const char *value)
{
	int s = parse_signal(value);
	if (s < 0)
		complain(p, S0114, NULL, "%s=%s: no such signal", p->d->info.key, value);
	else
		*FIELD(p, int) = s;
}

/* Complains and returns -EINVAL when the word is none of the table's. */
static int enumeration_of(struct parser *p, const char *value)
{
	int v = enum_parse((enum enum_table)p->d->arg, value);
	if (v >= 0)
		return v;
	struct err e;
	char hint[96];
	const char *near = enum_explain((enum enum_table)p->d->arg, value, &e);
	snprintf(hint, sizeof(hint), "did you mean '%s'?", strna(near));
	complain(p, S0110, near ? hint : NULL, "%s=%s: %s", p->d->info.key, value, e.text);
	return -EINVAL;
}

/* SCHED_OTHER and the like are ints too; every enum field is as wide as an int. */
void set_enumeration(struct parser *p, const char *value)
{
	int v = enumeration_of(p, value);
	if (v >= 0)
		*FIELD(p, int) = v;
}

void set_word(struct parser *p, const char *value)
{
	if (!*value)
		*FIELD(p, char *) = NULL;
	else if (enumeration_of(p, value) >= 0)
		set_plain(p, value);
}

/* ---- paths ---- */

static bool has_dot_dot(const char *s)
{
	for (; *s; s += strcspn(s, "/"), s += *s == '/')
		if (startswith(s, "..") && (s[2] == '/' || s[2] == '\0'))
			return true;
	return false;
}

/* "//a/./b/" -> "/a/b" in place. */
static void simplify(char *s)
{
	char *out = s;
	for (const char *in = s; *in;) {
		if (in[0] == '/' && (in[1] == '/' || in[1] == '\0') && in != s)
			in++;
		else if (in[0] == '/' && in[1] == '/')
			in++;
		else if (in[0] == '/' && in[1] == '.' && (in[2] == '/' || in[2] == '\0'))
			in += 2;
		else
			*out++ = *in++;
	}
	if (out == s)
		*out++ = '/';
	*out = '\0';
}

/* The text of an absolute path with specifiers expanded and prefix kept; NULL: complained. */
static char *path_of(struct parser *p, const char *value, size_t n_prefix)
{
	char *s = specifier_expand(p, value);
	if (!s)
		return NULL;
	if (s[n_prefix] != '/' || has_dot_dot(s + n_prefix)) {
		complain(p, S0116, NULL, "%s=%s: %s", p->d->info.key, value,
			s[n_prefix] != '/' ? "not an absolute path"
					   : "'..' is not allowed in a path");
		return NULL;
	}
	simplify(s + n_prefix);
	return s;
}

void set_path(struct parser *p, const char *value)
{
	if (!*value) {
		*FIELD(p, char *) = NULL;
		return;
	}
	if (p->d->arg == PATH_RUN && value[0] != '/' && value[0] != '%')
		value = arena_printf(p->arena, "/run/%s", value);
	char *s = path_of(p, value, 0);
	if (!s)
		return;
	/* systemd rewrites the old place too (and warns): /var/run is a link to /run. */
	if (p->d->arg == PATH_RUN && startswith(s, "/var/run/"))
		s += strlen("/var");
	*FIELD(p, char *) = s;
}

/* Each word of the value with its offset in p->value_at; false at the end or after complaining. */
static bool next_word(struct parser *p, const char *value, const char **pos, char **ret)
{
	struct err e;
	*pos += strspn(*pos, " \t\n\r");
	p->value_at = (size_t)(*pos - value);
	char *word;
	int r = split_word(pos, &word, true, &e);
	if (r < 0)
		complain(p, S0128, NULL, "%s=: %s", p->d->info.key, e.text);
	if (r <= 0)
		return false;
	*ret = arena_strdup(p->arena, word);
	free(word);
	return true;
}

void set_path_list(struct parser *p, const char *value)
{
	struct conf_list *l = FIELD(p, struct conf_list);
	const char *pos = value;
	char *word;
	if (!*value)
		list_reset(l);
	while (next_word(p, value, &pos, &word)) {
		char *s = path_of(p, word, strspn(word, "-+"));
		if (s)
			conf_list_add(p, l, s);
	}
}

void set_words(struct parser *p, const char *value)
{
	struct conf_list *l = FIELD(p, struct conf_list);
	const char *pos = value;
	char *word;
	if (!*value)
		list_reset(l);
	while (next_word(p, value, &pos, &word)) {
		char *s = specifier_expand(p, word);
		if (s)
			conf_list_add(p, l, s);
	}
}

/* ---- unit names ---- */

/* "foo@.service" in a dependency of bar@1.service means foo@1.service. */
static const char *with_own_instance(struct parser *p, char *name)
{
	const char *at = strstr(name, "@.");
	if (!at || !p->conf->instance || strchr(at + 2, '.'))
		return name;
	return arena_printf(
		p->arena, "%.*s@%s%s", (int)(at - name), name, p->conf->instance, at + 1);
}

static void complain_unit_name(struct parser *p, const char *word)
{
	char hint[UNIT_NAME_MAX + 64];
	bool lacks_type = unit_name_type(word) == UNIT_TYPE_MAX;
	snprintf(hint, sizeof(hint), "did you mean '%.200s.service'?", word);
	complain(p, S0117, lacks_type && !strpbrk(word, "/ ") ? hint : NULL,
		"%s=: '%s' is not a unit name%s", p->d->info.key, word,
		lacks_type ? "; its type is missing" : "");
}

/* Names in any number; on itself: left out, as in systemd. */
static void add_units(struct parser *p, struct conf_list *l, const char *value)
{
	const char *pos = value;
	char *word;
	while (next_word(p, value, &pos, &word)) {
		char *s = specifier_expand(p, word);
		if (!s)
			continue;
		const char *name = with_own_instance(p, s);
		if (!unit_name_is_valid(name))
			complain_unit_name(p, name);
		else if (!streq(name, p->conf->name) && !conf_list_has(l, name))
			conf_list_add(p, l, name);
	}
}

void set_units(struct parser *p, const char *value)
{
	struct conf_list *l = &p->conf->deps[p->d->arg];
	if (!*value && p->d->arg != DEP_AFTER && p->d->arg != DEP_BEFORE)
		list_reset(l); /* systemd itself cannot reset After= and Before= either */
	add_units(p, l, value);
}

void set_sockets(struct parser *p, const char *value)
{
	struct conf_list *l = FIELD(p, struct conf_list);
	if (!*value)
		list_reset(l);
	add_units(p, l, value);
}

void set_install(struct parser *p, const char *value)
{
	struct conf_list *l = FIELD(p, struct conf_list);
	const char *pos = value;
	char *word;
	if (!*value)
		list_reset(l);
	while (next_word(p, value, &pos, &word)) {
		/* Specifiers are expanded when the links are made. */
		if (!strchr(word, '%') && !unit_name_is_valid(word))
			complain_unit_name(p, word);
		else if (!conf_list_has(l, word))
			conf_list_add(p, l, word);
	}
}

/* ---- Condition*= and Assert*= ---- */

static bool condition_takes_path(enum condition_kind k)
{
	return k <= COND_FILE_IS_EXECUTABLE;
}

static struct condition *add_condition(struct parser *p)
{
	struct unit_conf *c = p->conf;
	if (c->n_conditions >= ITEMS_MAX) {
		complain(p, S0129, NULL, "more than %d conditions", ITEMS_MAX);
		return NULL;
	}
	if (c->n_conditions >= p->cap_conditions) {
		size_t cap = p->cap_conditions ? 2 * p->cap_conditions : 2;
		struct condition *v = arena_alloc(p->arena, cap * sizeof(*v));
		if (c->n_conditions)
			memcpy(v, c->conditions, c->n_conditions * sizeof(*v));
		c->conditions = v;
		p->cap_conditions = cap;
	}
	return &c->conditions[c->n_conditions++];
}

/* An empty value of any of them drops all conditions (or all asserts), as in systemd. */
static void reset_conditions(struct unit_conf *c, bool asserts)
{
	size_t n = 0;
	for (size_t i = 0; i < c->n_conditions; i++)
		if (c->conditions[i].is_assert != asserts)
			c->conditions[n++] = c->conditions[i];
	c->n_conditions = n;
}

void set_condition(struct parser *p, const char *value)
{
	bool is_assert = p->d->arg & COND_ASSERT;
	if (!*value) {
		reset_conditions(p->conf, is_assert);
		return;
	}
	struct condition k = {
		.kind = (enum condition_kind)(p->d->arg & ~COND_ASSERT),
		.is_assert = is_assert,
		.directive = p->d->info.key,
	};
	const char *s = value;
	k.is_trigger = *s == '|';
	s += k.is_trigger;
	s += strspn(s, " \t");
	k.is_negated = *s == '!';
	s += k.is_negated;
	s += strspn(s, " \t");
	p->value_at = (size_t)(s - value);
	k.arg = condition_takes_path(k.kind) ? path_of(p, s, 0) : specifier_expand(p, s);
	struct condition *slot = k.arg ? add_condition(p) : NULL;
	if (slot)
		*slot = k;
}
