/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A command line: the value of ExecStart=, with its specifiers, then its variables. First byte: the
 * unit's name, and whether specifiers stay out; the rest is the value.
 *
 * Whatever was understood and is written again with every word quoted is understood the same way;
 * expanding variables never fails but for its bound, and keeps the first word.
 * Options: -max_len=1024
 */
#include "fuzz.h"
#include "launch/parts.h"
#include "unit/units.h"

static const char *const names[] = {
	"web@1.service", "a.service", "x-y@a\\x2db-c.service", "very-long\\x40name.service"};
static const char *const variables[] = {"A=one", "B=two words", "C='a b' \"c\\\"d\" e\\ f",
	"EMPTY=", "Q='\"", "LONG=aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"};

static struct unit_conf *load(const char *name, const char *value, size_t size)
{
	static struct unit_path path;
	struct buf b = {0};
	if (!path.config_dir)
		unit_path_default(&path, "/nonexistent");
	buf_add_str(&b, "[Service]\nExecStart=");
	buf_add(&b, value, size);
	buf_add_byte(&b, '\n');
	char *exact = exact_copy(b.data, b.size);
	struct unit_conf *c = unit_load_text(&path, name, "fuzz", exact, b.size);
	free(exact);
	buf_done(&b);
	return c;
}

static void add_word(struct buf *b, const char *prefix, const char *word)
{
	buf_printf(b, " \"%s", prefix);
	for (const char *p = word; *p; p++) {
		if (*p == '%')
			buf_add_str(b, "%%");
		else if (*p < ' ' || *p > '~' || strchr("\"'\\;", *p))
			buf_printf(b, "\\x%02x", (unsigned char)*p);
		else
			buf_add_byte(b, *p);
	}
	buf_add_byte(b, '"');
}

/* True: it can be said again. A program that begins with a prefix of its own cannot, as it is said
 * here: "--x" would lose two. */
static bool print(const struct exec_list *l, struct buf *b)
{
	for (size_t i = 0; i < l->n; i++) {
		const struct exec_cmd *c = &l->v[i];
		char prefix[8];
		if (strchr("-@:+!", c->path[0]))
			return false;
		snprintf(prefix, sizeof(prefix), "@%s%s%s%s", c->ignore_failure ? "-" : "",
			c->no_expand ? ":" : "", c->full_privilege ? "+" : "",
			c->no_user ? "!" : "");
		if (i)
			buf_add_str(b, " ;");
		add_word(b, prefix, c->path);
		for (size_t k = 0; k < c->argc; k++)
			add_word(b, "", c->argv[k]);
	}
	return l->n > 0;
}

static void check_same(const struct exec_list *a, const struct exec_list *b)
{
	assert(a->n == b->n);
	for (size_t i = 0; i < a->n; i++) {
		const struct exec_cmd *x = &a->v[i], *y = &b->v[i];
		assert(streq(x->path, y->path) && x->argc == y->argc);
		assert(x->ignore_failure == y->ignore_failure && x->no_expand == y->no_expand);
		assert(x->full_privilege == y->full_privilege && x->no_user == y->no_user);
		for (size_t k = 0; k < x->argc; k++)
			assert(streq(x->argv[k], y->argv[k]));
	}
}

static void check_expansion(const struct exec_cmd *c)
{
	struct strv env = {0}, argv = {0};
	for (size_t i = 0; i < ARRAY_SIZE(variables); i++)
		strv_add(&env, variables[i]);
	assert(argv_expand(c, &env, &argv) == 0 || argv.n > PLAN_WORDS_MAX);
	assert(argv.n >= 1 && argv.v[argv.n] == NULL);
	if (c->no_expand) {
		assert(argv.n == c->argc);
		for (size_t k = 0; k < c->argc; k++)
			assert(streq(argv.v[k], c->argv[k]));
	}
	for (size_t k = 0; k < argv.n; k++) {
		CLEANUP_FREE char *moved =
			release_replace(argv.v[k], "/opt/web/current", "/opt/web/v2");
		CLEANUP_FREE char *again =
			release_replace(moved, "/opt/web/current", "/opt/web/v2");
		assert(streq(moved, again));
	}
	strv_done(&argv);
	strv_done(&env);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = in_begin(data, size);
	const char *name = names[in_u8(&in) % ARRAY_SIZE(names)];
	struct unit_conf *c = load(name, (const char *)in.p, in_left(&in));
	const struct exec_list *l = &c->service.exec[EXEC_START];
	struct buf text = {0};
	for (size_t i = 0; i < l->n; i++) {
		const struct exec_cmd *cmd = &l->v[i];
		assert(cmd->path[0] && cmd->argc > 0 && cmd->argv[cmd->argc] == NULL);
		assert(cmd->path[0] == '/' || !strchr(cmd->path, '/'));
		for (const char *s = cmd->path; *s; s++)
			assert((unsigned char)*s >= ' ' && *s != 0x7f);
		check_expansion(cmd);
	}
	/* Other lines may follow it in the input. */
	if (!memchr(in.p, '\n', in_left(&in)) && c->load == LOAD_LOADED && print(l, &text)) {
		struct unit_conf *again = load(name, text.data, text.size);
		check_same(l, &again->service.exec[EXEC_START]);
		unit_conf_unref(again);
	}
	buf_done(&text);
	unit_conf_unref(c);
	return 0;
}
