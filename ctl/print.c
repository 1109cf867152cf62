/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Showing things to people: tables, colours, ages, outcomes.
 *
 * Owns nothing. Never colour alone: a state has its word and a symbol. Whatever comes from a unit or
 * a log goes through print_line() or table_add(), which leave no control character standing: a
 * service must not be able to drive the terminal of who looks at it. Nor must who listens at a socket
 * that stayctl was pointed to: short words go through jp().
 */
#include <stdio.h>
#include <time.h>

#include "ctl.h"

const char *js(const json_t *o, const char *key)
{
	return strna(json_string_value(json_object_get(o, key)));
}

/* The document is ours alone: one of who serves the socket, which need not be a daemon. */
const char *jp(const json_t *o, const char *key)
{
	json_t *v = json_object_get(o, key);
	CLEANUP_FREE char *s = xstrdup(strna(json_string_value(v)));
	str_make_printable(s);
	(void)json_string_set(v, s);
	return js(o, key);
}

int64_t ji(const json_t *o, const char *key)
{
	return json_integer_value(json_object_get(o, key));
}

/* ---- tables -------------------------------------------------------------------------------------------- */

/* Columns on the screen, taking every code point as one. */
static size_t width(const char *s)
{
	size_t n = 0;
	for (; *s; s++)
		n += ((unsigned char)*s & 0xc0) != 0x80;
	return n;
}

void table_begin(struct table *t, size_t n_columns, const char *const *heads)
{
	*t = (struct table){.n_columns = n_columns};
	for (size_t i = 0; i < n_columns; i++)
		table_add(t, heads[i]);
}

void table_add(struct table *t, const char *text)
{
	GROW(t->cells, t->n_cells, t->cap_cells);
	char *cell = xstrdup(text[0] ? text : "-");
	str_make_printable(cell);
	t->cells[t->n_cells++] = cell;
}

static void column_widths(const struct table *t, size_t *widths)
{
	for (size_t i = 0; i < t->n_cells; i++)
		widths[i % t->n_columns] = MAX(widths[i % t->n_columns], width(t->cells[i]));
}

void table_done(struct table *t)
{
	for (size_t i = 0; i < t->n_cells; i++)
		free(t->cells[i]);
	free(t->cells);
	*t = (struct table){0};
}

void table_print(struct table *t, FILE *out)
{
	size_t *widths = xcalloc(t->n_columns, sizeof(*widths));
	column_widths(t, widths);
	for (size_t i = 0; i < t->n_cells; i++) {
		size_t col = i % t->n_columns;
		bool is_last = col == t->n_columns - 1;
		fputs(t->cells[i], out);
		for (size_t n = width(t->cells[i]); !is_last && n < widths[col] + 2; n++)
			fputc(' ', out);
		if (is_last)
			fputc('\n', out);
	}
	free(widths);
	table_done(t);
}

/* ---- symbols and colours --------------------------------------------------------------------------------- */

bool out_is_utf8(void)
{
	static const char *const names[] = {"LC_ALL", "LC_CTYPE", "LANG"};
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		const char *v = getenv(names[i]);
		if (v && v[0])
			return strcasestr(v, "UTF-8") || strcasestr(v, "UTF8");
	}
	return false;
}

bool out_has_colour(int fd)
{
	const char *term = getenv("TERM"), *no = getenv("NO_COLOR");
	return isatty(fd) && (!no || !no[0]) && term && !streq(term, "dumb");
}

static const struct {
	const char *state, *symbol, *ascii;
	enum colour colour;
} looks[] = {
	{"active",       "●", "*", COLOUR_GREEN },
	{"reloading",    "◐", "~", COLOUR_YELLOW},
	{"activating",   "◐", "~", COLOUR_YELLOW},
	{"deactivating", "◐", "~", COLOUR_YELLOW},
	{"failed",       "✗", "x", COLOUR_RED   },
	{"inactive",     "○", "o", COLOUR_DIM   },
};

const char *state_symbol(const char *active_state)
{
	for (size_t i = 0; i < ARRAY_SIZE(looks); i++)
		if (streq(looks[i].state, active_state))
			return out_is_utf8() ? looks[i].symbol : looks[i].ascii;
	return "?";
}

enum colour state_colour(const char *active_state)
{
	for (size_t i = 0; i < ARRAY_SIZE(looks); i++)
		if (streq(looks[i].state, active_state))
			return looks[i].colour;
	return COLOUR_NONE;
}

const char *colour_on(enum colour c)
{
	static const char *const codes[] = {"", "\033[32m", "\033[33m", "\033[31m", "\033[2m"};
	return out_has_colour(STDOUT_FILENO) ? codes[c] : "";
}

const char *colour_off(void)
{
	return out_has_colour(STDOUT_FILENO) ? "\033[0m" : "";
}

void print_line(FILE *out, const char *prefix, const char *text, size_t size)
{
	fputs(prefix, out);
	for (size_t i = 0; i < size; i++) {
		unsigned char c = (unsigned char)text[i];
		bool is_c1 = c == 0xc2 && i + 1 < size && (unsigned char)text[i + 1] < 0xa0;
		if ((c < 0x20 && c != '\t') || c == 0x7f) {
			fprintf(out, "\\x%02x", c);
		} else if (is_c1) {
			fprintf(out, "\\x%02x", (unsigned char)text[++i]);
		} else {
			fputc(c, out);
		}
	}
	fputc('\n', out);
}

/* ---- times -------------------------------------------------------------------------------------------------- */

int64_t parse_rfc3339(const char *s)
{
	struct tm tm = {0};
	int ms = 0;
	char z = 0;
	int n = sscanf(s, "%4d-%2d-%2dT%2d:%2d:%2d.%3d%c", &tm.tm_year, &tm.tm_mon, &tm.tm_mday,
		&tm.tm_hour, &tm.tm_min, &tm.tm_sec, &ms, &z);
	if (n != 8 && (n != 6 || sscanf(s, "%*4d-%*2d-%*2dT%*2d:%*2d:%*2d%c", &z) != 1))
		return -1;
	if (z != 'Z')
		return -1;
	tm.tm_year -= 1900;
	tm.tm_mon -= 1;
	return (int64_t)timegm(&tm) * 1000000 + ms * 1000;
}

char *age_of(char out[AGE_MAX], const char *rfc3339, uint64_t now_wall_us)
{
	static const struct {
		uint64_t from, unit;
		const char *name;
	} rows[] = {
		{2 * 86400, 86400, "d"  },
		{2 * 3600,  3600,  "h"  },
		{2 * 60,    60,    "min"},
		{0,         1,     "s"  },
	};
	int64_t at = rfc3339[0] ? parse_rfc3339(rfc3339) : -1;
	str_copy(out, "-", AGE_MAX);
	if (at < 0)
		return out;
	uint64_t sec = (int64_t)now_wall_us > at ? (now_wall_us - (uint64_t)at) / USEC_PER_SEC : 0;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		if (sec >= rows[i].from) {
			snprintf(out, AGE_MAX, "%llu%s", (unsigned long long)(sec / rows[i].unit),
				rows[i].name);
			break;
		}
	return out;
}

/* ---- documents and outcomes ----------------------------------------------------------------------------------- */

void print_json(const char *verb, const json_t *params)
{
	json_t *o = json_object(), *v;
	const char *key;
	json_object_set_new(o, "schema", json_sprintf("stay.%s/1", verb));
	json_object_foreach((json_t *)params, key, v) if (!streq(key, "schema"))
		json_object_set(o, key, v);
	json_dumpf(o, stdout, JSON_COMPACT); /* insertion order: schema is first */
	fputc('\n', stdout);
	json_decref(o);
}

static void print_failure(const json_t *o)
{
	const char *unit = jp(o, "unit"), *text;
	size_t i;
	json_t *line, *log = json_object_get(o, "log");
	text = js(o, "cause");
	if (text[0] && !streq(text, js(o, "text")))
		print_line(stderr, "  cause: ", text, strlen(text));
	text = js(o, "answer");
	if (text[0]) {
		char *s = xasprintf("%s -> %s", js(o, "probe"), text);
		print_line(stderr, "  probe: ", s, strlen(s));
		free(s);
	}
	if (json_array_size(log))
		fprintf(stderr, "  last log lines of %s:\n", unit);
	json_array_foreach(log, i, line)
		print_line(stderr, "    ", json_string_value(line), json_string_length(line));
	text = js(o, "hint");
	if (text[0])
		print_line(stderr, "  hint: ", text, strlen(text));
}

/* "web@1.service: done (running): the text", "start web@1.service: failed: the text" */
static void print_outcome(struct ctl *c, const json_t *o)
{
	const char *result = js(o, "result"), *text = js(o, "text"), *state = js(o, "sub_state");
	bool is_good = exit_of_result(result) == 0;
	struct buf b = {0};
	if (!is_good)
		buf_printf(&b, "%s ", c->verb->name);
	buf_printf(&b, "%s: %s", js(o, "name"), streq(result, "started") ? "under way" : result);
	if (is_good && state[0])
		buf_printf(&b, " (%s)", state);
	if (text[0])
		buf_printf(&b, ": %s", text);
	if (!is_good || !c->quiet)
		print_line(is_good ? stdout : stderr, is_good ? "" : "error: ", b.data, b.size);
	buf_done(&b);
	if (!is_good)
		print_failure(o);
}

/* The worst of several wins: the first that is not success. */
int print_outcomes(struct ctl *c, const json_t *params)
{
	int code = 0;
	size_t i;
	json_t *o;
	if (c->changes)
		json_object_set_new((json_t *)params, "changes", TAKE_PTR(c->changes));
	if (c->json)
		print_json(c->verb->name, params);
	json_array_foreach(json_object_get(params, "outcomes"), i, o)
	{
		int one = exit_of_result(js(o, "result"));
		if (code == 0)
			code = one;
		if (!c->json)
			print_outcome(c, o);
	}
	if (c->no_wait && !c->json && !c->quiet)
		fprintf(stderr, "note: %s goes on in the daemon\n", jp(params, "request"));
	return code;
}
