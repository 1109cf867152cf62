/* SPDX-License-Identifier: Apache-2.0 */
/*
 * stayctl check: reads units as the daemon would and says what it finds, without a daemon.
 * stayctl explain: the long text of a directive or of a diagnostic's code.
 *
 *  1. Findings are those of unit/, no others: check and the daemon cannot disagree.
 *  2. --json is one document, schema "stay.check/1", nothing else on stdout.
 *  3. Exit 0: clean or warnings; 1: an error in some unit; 2: usage.
 *
 * Called by ctl/main.c.
 */
#include <ctype.h>
#include <fcntl.h>
#include <getopt.h>
#include <jansson.h>

#include "base/base.h"
#include "check.h"
#include "stayd/stayd.h"
#include "unit/units.h"

enum output { OUTPUT_HUMAN, OUTPUT_GCC, OUTPUT_JSON };

struct check {
	enum output output;
	bool is_strict, all_classes;
	struct unit_path path;
	unsigned n_errors, n_warnings;
	const char *first_code;
	json_t *units;
};

/* ---- one unit ---- */

/* Loads a file of any name and place as if it stood in the path, or a unit by its name. */
static struct unit_conf *load(const struct check *k, const char *arg, const char *shown)
{
	const char *slash = strrchr(arg, '/'), *base = slash ? slash + 1 : arg;
	bool is_file = slash || access(arg, F_OK) == 0;
	CLEANUP_FREE char *name = unit_name_complete(base);
	if (!is_file)
		return unit_load(&k->path, name, NULL);
	struct buf b = {0};
	int r = read_file(AT_FDCWD, arg, UNIT_FILE_MAX, &b);
	if (r < 0) {
		fprintf(stderr, "stayctl: cannot read %s: %s\n", shown, errno_name(-r));
		buf_done(&b);
		return NULL;
	}
	/* A template is checked as one of its instances would be. */
	char *instance = strstr(name, "@.") ? unit_name_with_instance(name, "instance") : NULL;
	struct unit_conf *c =
		unit_load_text(&k->path, instance ? instance : name, arg, strna(b.data), b.size);
	free(instance);
	buf_done(&b);
	return c;
}

/* ---- text ---- */

static void print_marker(const struct diagnostic *d)
{
	if (!d->source || d->column == 0)
		return;
	size_t size = strlen(d->source), from = MIN(d->column - 1, size), n = 0;
	while (from + n < size && (isalnum((unsigned char)d->source[from + n]) ||
					  strchr("-_@.:/%~+", d->source[from + n])))
		n++;
	printf("%4u | %s\n     | %*s", d->line, d->source, (int)from, "");
	for (size_t i = 0; i < MAX(n, (size_t)1); i++)
		putchar('^');
	if (d->hint)
		printf(" %s", d->hint);
	putchar('\n');
}

static void print_diagnostic(const struct check *k, const struct diagnostic *d)
{
	const char *severity = d->is_error || k->is_strict ? "error" : "warning";
	printf("%s:%u:%u: %s", d->file, d->line ? d->line : 1, d->column ? d->column : 1, severity);
	if (k->output == OUTPUT_GCC) {
		printf(": %s%s%s%s [%s]\n", d->text, d->hint ? " (" : "", strna(d->hint),
			d->hint ? ")" : "", d->code);
		return;
	}
	printf("[%s]: %s\n", d->code, d->text);
	print_marker(d);
	if (d->hint && (!d->source || d->column == 0))
		printf("     = hint: %s\n", d->hint);
}

/* ---- the directives a unit uses: with their class, for --json and --all-classes ---- */

/* Walks the effective text the way a person reads it; only to list what is used. */
static void each_directive(const struct unit_conf *c,
	void (*fn)(struct check *k, const struct directive_info *i, const char *section,
		const char *key, void *arg),
	struct check *k, void *arg)
{
	char section[64] = "";
	bool continued = false;
	for (const char *s = c->text + (startswith(c->text, "\xef\xbb\xbf") ? 3 : 0); *s;) {
		size_t n = strcspn(s, "\r\n");
		const char *line = s + strspn(s, " \t"), *end = s + n;
		bool is_comment = line < end && (*line == '#' || *line == ';');
		const char *eq = memchr(line, '=', line < end ? (size_t)(end - line) : 0);
		if (!is_comment && !continued && line < end && *line == '[') {
			size_t len = strcspn(line + 1, "]\r\n");
			snprintf(section, sizeof(section), "%.*s",
				(int)MIN(len, sizeof(section) - 1), line + 1);
		} else if (!is_comment && !continued && eq && eq > line) {
			const char *key_end = eq;
			while (key_end > line && isspace((unsigned char)key_end[-1]))
				key_end--;
			CLEANUP_FREE char *key = xstrndup(line, (size_t)(key_end - line));
			fn(k, directive_find(section, key), section, key, arg);
		}
		if (!is_comment)
			continued = n > 0 && end[-1] == '\\';
		s = end + strspn(end, "\r\n");
	}
}

static void print_class(struct check *k, const struct directive_info *i, const char *section,
	const char *key, void *arg)
{
	(void)k;
	(void)arg;
	if (!i)
		return;
	printf("  %-13s [%s] %s%s%s\n", directive_class_name(i->class), section, key,
		i->reason ? ": " : "", strna(i->reason));
}

static void json_class(struct check *k, const struct directive_info *i, const char *section,
	const char *key, void *arg)
{
	(void)k;
	if (!i && (startswith(section, "X-") || startswith(key, "X-")))
		return;
	if (!utf8_is_valid(key, strlen(key)) || !utf8_is_valid(section, strlen(section)))
		return;
	json_array_append_new(
		arg, json_pack("{s:s, s:s, s:s, s:s?}", "section", section, "key", key, "class",
			     i ? directive_class_name(i->class) : "unknown", "reason",
			     i ? i->reason : NULL));
}

/* ---- JSON ---- */

static json_t *json_diagnostic(const struct check *k, const struct diagnostic *d)
{
	bool is_error = d->is_error || k->is_strict;
	return json_pack("{s:s, s:i, s:i, s:s, s:s, s:s, s:s?}", "file", d->file, "line",
		(int)d->line, "column", (int)d->column, "severity", is_error ? "error" : "warning",
		"code", d->code, "text", d->text, "hint", d->hint);
}

static json_t *json_unit(struct check *k, const struct unit_conf *c, const char *arg)
{
	json_t *diagnostics = json_array(), *degraded = json_array(), *used = json_array();
	for (size_t i = 0; i < c->n_diagnostics; i++)
		json_array_append_new(diagnostics, json_diagnostic(k, &c->diagnostics[i]));
	for (size_t i = 0; i < c->n_degraded; i++) {
		const struct degraded *d = &c->degraded[i];
		json_array_append_new(
			degraded, json_pack("{s:s, s:s, s:s, s:s, s:i}", "directive", d->directive,
					  "class", directive_class_name(d->class), "reason",
					  d->reason, "file", d->file, "line", (int)d->line));
	}
	each_directive(c, json_class, k, used);
	return json_pack("{s:s, s:s, s:s, s:s, s:o, s:o, s:o}", "argument", arg, "name", c->name,
		"type", unit_type_name(c->type), "load_state", unit_load_name(c->load),
		"diagnostics", diagnostics, "degraded", degraded, "directives", used);
}

/* ---- the verb ---- */

static void check_unit(struct check *k, const char *arg)
{
	CLEANUP_FREE char *shown = xstrdup(arg);
	str_make_printable(shown);
	struct unit_conf *c = load(k, arg, shown);
	if (!c) {
		k->n_errors++;
		return;
	}
	for (size_t i = 0; i < c->n_diagnostics; i++) {
		const struct diagnostic *d = &c->diagnostics[i];
		if (d->is_error || k->is_strict)
			k->n_errors++;
		else
			k->n_warnings++;
		if (!k->first_code)
			k->first_code = xstrdup(d->code);
		if (k->output != OUTPUT_JSON)
			print_diagnostic(k, d);
	}
	if (c->load == LOAD_NOT_FOUND && c->n_diagnostics == 0) {
		k->n_errors++;
		if (k->output != OUTPUT_JSON)
			printf("%s: error: there is no such unit in the unit path\n", c->name);
	}
	if (k->output == OUTPUT_JSON)
		json_array_append_new(k->units, json_unit(k, c, shown));
	else if (k->all_classes) {
		printf("%s:\n", c->name);
		each_directive(c, print_class, k, NULL);
	}
	unit_conf_unref(c);
}

static int finish(struct check *k)
{
	if (k->output == OUTPUT_JSON) {
		json_t *top = json_pack("{s:s, s:i, s:i, s:o}", "schema", "stay.check/1", "errors",
			(int)k->n_errors, "warnings", (int)k->n_warnings, "units", k->units);
		json_dumpf(top, stdout, JSON_INDENT(2));
		putchar('\n');
		json_decref(top);
	} else if (k->output == OUTPUT_HUMAN && k->n_errors + k->n_warnings > 0)
		printf("%u error%s, %u warning%s%s%s\n", k->n_errors, k->n_errors == 1 ? "" : "s",
			k->n_warnings, k->n_warnings == 1 ? "" : "s",
			k->first_code ? "   stayctl explain " : "", strna(k->first_code));
	free((char *)k->first_code);
	unit_path_done(&k->path);
	return k->n_errors ? STAY_EXIT_FAILED : STAY_EXIT_OK;
}

static int usage(void)
{
	fprintf(stderr,
		"usage: stayctl check FILE|UNIT... [--strict] [--output=human|gcc|json] [--json]\n"
		"                     [--unit-path DIR[:DIR]] [--all-classes]\n");
	return STAY_EXIT_USAGE;
}

static int parse_output(const char *s)
{
	static const char *const words[] = {"human", "gcc", "json"};
	for (size_t i = 0; i < ARRAY_SIZE(words); i++)
		if (streq(s, words[i]))
			return (int)i;
	return -EINVAL;
}

int ctl_check(int argc, char **argv)
{
	static const struct option options[] = {
		{"strict",      no_argument,       NULL, 's'},
		{"output",      required_argument, NULL, 'o'},
		{"json",        no_argument,       NULL, 'j'},
		{"unit-path",   required_argument, NULL, 'p'},
		{"all-classes", no_argument,       NULL, 'a'},
		{NULL,          0,                 NULL, 0  },
	};
	struct check k = {.output = OUTPUT_HUMAN};
	const char *unit_path = NULL;
	int c, o;
	optind = 0; /* starts over: main() has used getopt on its own options */
	while ((c = getopt_long(argc, argv, "o:", options, NULL)) != -1) {
		if (c == 's')
			k.is_strict = true;
		else if (c == 'a')
			k.all_classes = true;
		else if (c == 'j')
			k.output = OUTPUT_JSON;
		else if (c == 'p')
			unit_path = optarg;
		else if (c == 'o' && (o = parse_output(optarg)) >= 0)
			k.output = (enum output)o;
		else
			return usage();
	}
	if (optind >= argc)
		return usage();
	unit_path_default(&k.path, unit_path);
	if (k.output == OUTPUT_JSON)
		k.units = json_array();
	for (int i = optind; i < argc; i++)
		check_unit(&k, argv[i]);
	return finish(&k);
}

/* ---- explain ---- */

static void explain_directive(const struct directive_info *i)
{
	printf("[%s] %s=\n  %s\n  class: %s%s%s\n", i->section, i->key, i->doc,
		directive_class_name(i->class), i->reason ? " - " : "", strna(i->reason));
}

/* Every section has its own row; those of one directive that say the same are shown once. */
static bool explain_key(const char *key)
{
	size_t n = strlen(key);
	const struct directive_info *last = NULL;
	CLEANUP_FREE char *plain = xstrndup(key, n && key[n - 1] == '=' ? n - 1 : n);
	for (size_t i = 0; i < directive_count(); i++) {
		const struct directive_info *d = directive_at(i);
		bool is_again = last && streq(last->doc, d->doc) && d->class == CLASS_IGNORED_WARN;
		if (strcasecmp(d->key, plain) != 0 || is_again)
			continue;
		explain_directive(d);
		last = d;
	}
	return last != NULL;
}

static void suggest(const char *word)
{
	const char *best = NULL;
	unsigned best_distance = 3;
	for (size_t i = 0; i < directive_count(); i++) {
		unsigned d = str_distance(word, directive_at(i)->key, 2);
		if (d < best_distance) {
			best_distance = d;
			best = directive_at(i)->key;
		}
	}
	fprintf(stderr, "stayctl: '%s' is neither a directive nor a code\n", word);
	if (best)
		fprintf(stderr, "hint: did you mean '%s'?\n", best);
}

int ctl_explain(int argc, char **argv)
{
	if (argc != 2 || argv[1][0] == '-') {
		fprintf(stderr, "usage: stayctl explain DIRECTIVE|CODE\n");
		return STAY_EXIT_USAGE;
	}
	const char *title, *text = diagnostic_explain(argv[1], &title);
	if (text) {
		printf("%s: %s\n  %s\n", argv[1], title, text);
		return STAY_EXIT_OK;
	}
	if (explain_key(argv[1]))
		return STAY_EXIT_OK;
	suggest(argv[1]);
	return STAY_EXIT_FAILED;
}
