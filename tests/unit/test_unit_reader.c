/* SPDX-License-Identifier: Apache-2.0 */
/* The reader with inih against a plain re-implementation of systemd's config_parse(), at random. */
#include "unit/reader.h"

#include "check_main.h"
#include "stayd/stayd.h"

/* Both sides write what they saw as text, so that a difference can be read. */
static void log_section(void *ctx, const char *name, const struct text_pos *at)
{
	buf_printf(ctx, "section %s %u\n", name, at->line);
}

static void log_assign(void *ctx, const struct assignment *a)
{
	buf_printf(ctx, "set %s|%s|%u|", a->section, a->key, a->at.line);
	buf_add_str(ctx, a->value);
	buf_add_byte(ctx, '\n');
}

static void log_trouble(void *ctx, enum reader_trouble t, const struct text_pos *at)
{
	buf_printf(ctx, "trouble %d %u\n", t, at->line);
}

static const struct reader_ops log_ops = {log_section, log_assign, log_trouble};

/* ---- the reference: systemd's read_line(), config_parse() and parse_line(), simply ---- */

struct reference {
	const char *p, *end;
	unsigned line, first_line;
	char section[256];
	struct buf *out;
};

static bool ref_line(struct reference *r, char *out, size_t *n, bool *nul)
{
	unsigned previous = 0;
	*n = 0;
	*nul = false;
	if (r->p >= r->end)
		return false;
	for (; r->p < r->end; r->p++) {
		unsigned eol = *r->p == '\n' ? 1 : *r->p == '\r' ? 2 : *r->p == 0 ? 4 : 0;
		if ((previous & 4) || (!eol && previous) || (eol && (previous & eol)))
			break;
		previous |= eol;
		if (!eol)
			out[(*n)++] = *r->p;
	}
	*nul = previous & 4;
	out[*n] = '\0';
	r->line++;
	return true;
}

static char *ref_strip(char *s)
{
	s += strspn(s, " \t\n\r");
	size_t n = strlen(s);
	while (n && strchr(" \t\n\r", s[n - 1]))
		s[--n] = '\0';
	return s;
}

static bool ref_header(struct reference *r, char *l)
{
	size_t n = strlen(l);
	bool safe = n >= 2 && l[n - 1] == ']';
	for (size_t i = 1; safe && i + 1 < n; i++)
		safe = (unsigned char)l[i] >= ' ' && !strchr("\"'\\\x7f", l[i]);
	if (!safe) {
		buf_printf(r->out, "trouble %d %u\n", READER_BAD_HEADER, r->first_line);
		return false;
	}
	l[n - 1] = '\0';
	str_copy(r->section, l + 1, sizeof(r->section));
	buf_printf(r->out, "section %s %u\n", r->section, r->first_line);
	return true;
}

static bool ref_parse_line(struct reference *r, char *s)
{
	char *l = ref_strip(s);
	if (!*l)
		return true;
	if (!utf8_is_valid(l, strlen(l))) {
		buf_printf(r->out, "trouble %d", READER_BAD_UTF8);
		buf_add_str(r->out, " ?\n"); /* the line of the bad byte: compared elsewhere */
		return true;
	}
	if (*l == '[')
		return ref_header(r, l);
	char *e = strchr(l, '=');
	if (!e || e == l) {
		buf_printf(r->out, "trouble %d %u\n", e ? READER_NO_KEY : READER_NO_EQUALS,
			r->first_line);
		return true;
	}
	*e = '\0';
	char *value = ref_strip(e + 1), *key = ref_strip(l);
	if (strlen(key) > READER_KEY_MAX) {
		buf_printf(r->out, "trouble %d %u\n", READER_KEY_TOO_LONG, r->first_line);
		return true;
	}
	buf_printf(r->out, "set %s|%s|%u|%s\n", r->section, key, r->first_line, value);
	return true;
}

static void reference_run(const char *text, size_t size, struct buf *out)
{
	struct reference r = {.p = text, .end = text + size, .out = out};
	char *line = xmalloc(size + 1), *joined = xcalloc(1, 2 * size + 1);
	size_t n;
	bool nul, bom_seen = false, continued = false, go = true;
	while (go && ref_line(&r, line, &n, &nul)) {
		if (nul)
			buf_printf(out, "trouble %d %u\n", READER_NUL, r.line);
		char *l = line + strspn(line, " \t\n\r");
		if (*l == '#' || *l == ';')
			continue;
		l = line;
		if (!bom_seen && startswith(l, "\xef\xbb\xbf")) {
			l += 3;
			bom_seen = true;
		}
		if (!continued) {
			joined[0] = '\0';
			r.first_line = r.line;
		}
		memcpy(joined + strlen(joined), l, strlen(l) + 1);
		bool escaped = false;
		for (char *e = joined; *e; e++)
			escaped = !escaped && *e == '\\';
		continued = escaped;
		if (escaped)
			joined[strlen(joined) - 1] = ' ';
		else
			go = ref_parse_line(&r, joined);
	}
	if (continued && go)
		(void)ref_parse_line(&r, joined);
	free(line);
	free(joined);
}

/* Line numbers are compared only where both define them alike: an assignment whose first joined
 * lines are blank is counted from its key here and from its first line there. */
static char *without_lines(const struct buf *b)
{
	struct buf out = {0};
	const char *s = strna(b->data);
	while (*s) {
		size_t n = strcspn(s, "\n");
		CLEANUP_FREE char *l = xstrndup(s, n);
		if (!startswith(l, "set ")) {
			char *space = strrchr(l, ' ');
			*space = '\0';
			buf_printf(&out, "%s\n", l);
		} else {
			char *a = strchr(l, '|'), *k = strchr(a + 1, '|'), *v = strchr(k + 1, '|');
			buf_printf(&out, "%.*s%s\n", (int)(k - l), l, v);
		}
		s += n + (s[n] == '\n');
	}
	return buf_steal(&out);
}

static const char *const tokens[] = {"\n", "\n", "\n", "\r", "\r\n", "\n\r", "\\\n", "\\\n",
	"\\\\\n", "\\", "=", "=", "=", ";", " ;", "#", "\n#", "\n ;", "[", "]", "[a]\n", "[X-b]\n",
	":", "a", "Key=", "+", "+=v", "\x01", "\x01s", " ", "\t", "\xef\xbb\xbf", "\xc3\xa9",
	"\xff", "\v", "\f", "value with blanks ", "\"", "'",
	"long long long long long long long long long long long long long long long long long long long"};

static void make_document(uint64_t *rng, struct buf *b)
{
	size_t n = rng_next(rng) % 60;
	buf_reset(b);
	for (size_t i = 0; i < n; i++) {
		const char *t = tokens[rng_next(rng) % ARRAY_SIZE(tokens)];
		if (rng_next(rng) % 40 == 0)
			buf_add(b, "\0", 1);
		if (rng_next(rng) % 60 == 0) /* the guards must survive any length */
			for (size_t k = rng_next(rng) % 2000; k; k--)
				buf_add_byte(b, ";ab\x01"[rng_next(rng) % 4]);
		buf_add_str(b, t);
	}
}

START_TEST(reader_agrees_with_systemds_rules_on_random_documents)
{
	uint64_t rng = 20260101;
	size_t n_refused = 0;
	struct buf text = {0};
	for (size_t i = 0; i < 100000; i++) {
		struct buf ours = {0}, theirs = {0};
		make_document(&rng, &text);
		(void)reader_run(strna(text.data), text.size, &log_ops, &ours);
		reference_run(strna(text.data), text.size, &theirs);
		CLEANUP_FREE char *a = without_lines(&ours), *b = without_lines(&theirs);
		/* A key of many escaped bytes does not fit beside its guards: refused, not compared. */
		if (strstr(a, "trouble 5"))
			n_refused++;
		else if (!streq(a, b)) {
			fprintf(stderr, "document %zu:\n%s\nours:\n%s\ntheirs:\n%s\n", i, text.data,
				a, b);
			ck_abort_msg("document %zu is read differently", i);
		}
		buf_done(&ours);
		buf_done(&theirs);
	}
	ck_assert_uint_lt(n_refused, 10000);
	buf_done(&text);
}
END_TEST

static char *run(const char *text, size_t size, int *ret_result)
{
	struct buf out = {0};
	*ret_result = reader_run(text, size, &log_ops, &out);
	return buf_steal(&out);
}

#define EXPECT(text, result, expected)                                                             \
	do {                                                                                       \
		int r_;                                                                            \
		CLEANUP_FREE char *s_ = run(text, sizeof(text) - 1, &r_);                          \
		ck_assert_str_eq(s_, expected);                                                    \
		ck_assert_int_eq(r_, result);                                                      \
	} while (0)

START_TEST(an_empty_line_ends_a_continuation_and_a_comment_does_not)
{
	EXPECT("[S]\nA=1 \\\n# no\n 2\nB=3\\\n\nC=4\n", 0,
		"section S 1\nset S|A|2|1   2\nset S|B|5|3\nset S|C|7|4\n");
}
END_TEST

START_TEST(crlf_and_bom_are_taken_as_systemd_takes_them)
{
	EXPECT("\xef\xbb\xbf[S]\r\nA=1\r\n\r\nB=2\r\n", 0,
		"section S 1\nset S|A|2|1\nset S|B|4|2\n");
}
END_TEST

START_TEST(what_inih_would_cut_arrives_whole)
{
	EXPECT("[S:t]\nA:b=c ; d # e\nExecStart=\n;x=y\n", 0,
		"section S:t 1\nset S:t|A:b|2|c ; d # e\nset S:t|ExecStart|3|\n");
}
END_TEST

START_TEST(a_bad_header_ends_the_file)
{
	EXPECT("[S]\nA=1\n[T\nB=2\n", -EBADMSG, "section S 1\nset S|A|2|1\ntrouble 0 3\n");
}
END_TEST

START_TEST(lines_without_key_or_equals_are_left_out)
{
	EXPECT("[S]\nnothing\n=x\nA=1\n", 0,
		"section S 1\ntrouble 1 2\ntrouble 2 3\nset S|A|4|1\n");
}
END_TEST

START_TEST(bad_utf8_is_reported_where_it_stands)
{
	EXPECT("[S]\nA=1 \\\n  \xc3\xa9\xff\nB=2\n", 0, "section S 1\ntrouble 3 3\nset S|B|4|2\n");
}
END_TEST

static void remember_column(void *ctx, const struct assignment *a)
{
	struct text_pos *at = ctx;
	assignment_where(a, strlen("one    "), at);
}

START_TEST(a_byte_of_a_joined_value_knows_its_line_and_column)
{
	static const char body[] = "A=one \\\n \\\n# x\nthree\n";
	struct reader_ops ops = {log_section, remember_column, log_trouble};
	struct text_pos at = {0};
	ck_assert_int_eq(reader_run(body, sizeof(body) - 1, &ops, &at), 0);
	ck_assert_uint_eq(at.line, 4);
	ck_assert_uint_eq(at.column, 1);
	ck_assert_uint_eq(at.source_size, strlen("three"));
}
END_TEST

START_TEST(a_line_above_the_limit_gives_the_file_up)
{
	size_t size = UNIT_LINE_MAX + 100;
	char *text = xmalloc(size);
	memset(text, 'a', size);
	memcpy(text, "[S]\nA=", 6);
	text[size - 1] = '\n';
	int r;
	CLEANUP_FREE char *s = run(text, size, &r);
	ck_assert_int_eq(r, -EBADMSG);
	ck_assert_str_eq(s, "section S 1\ntrouble 4 2\n");
	free(text);
}
END_TEST

START_TEST(half_a_million_continuations_take_no_quadratic_time)
{
	struct buf b = {0};
	buf_add_str(&b, "A=");
	for (size_t i = 0; i < UNIT_LINE_MAX - 10; i++)
		buf_add_str(&b, "\\\n");
	buf_add_str(&b, "x\n");
	int r;
	CLEANUP_FREE char *s = run(b.data, b.size, &r); /* the suite's timeout is the assertion */
	ck_assert_int_eq(r, 0);
	ck_assert_str_eq(s, "set |A|1|x\n");
	buf_done(&b);
}
END_TEST

Suite *suite(void)
{
	Suite *s = suite_create("unit_reader");
	TCase *t = tcase_create("reader");
	tcase_set_timeout(t, 60);
	tcase_add_test(t, reader_agrees_with_systemds_rules_on_random_documents);
	tcase_add_test(t, an_empty_line_ends_a_continuation_and_a_comment_does_not);
	tcase_add_test(t, crlf_and_bom_are_taken_as_systemd_takes_them);
	tcase_add_test(t, what_inih_would_cut_arrives_whole);
	tcase_add_test(t, a_bad_header_ends_the_file);
	tcase_add_test(t, lines_without_key_or_equals_are_left_out);
	tcase_add_test(t, bad_utf8_is_reported_where_it_stands);
	tcase_add_test(t, a_byte_of_a_joined_value_knows_its_line_and_column);
	tcase_add_test(t, a_line_above_the_limit_gives_the_file_up);
	tcase_add_test(t, half_a_million_continuations_take_no_quadratic_time);
	suite_add_tcase(s, t);
	return s;
}
