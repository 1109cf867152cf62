/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The line discipline of systemd's conf-parser in front of inih.
 *
 * inih as packaged cuts lines at 200 bytes, ends values at " ;", takes ':' for '=' and section
 * names of at most 49 bytes, and knows no continuation. So this reader, handed to
 * ini_parse_stream(), does the lines itself and feeds inih only short lines that cannot be
 * misread:
 *
 *	[7]                      the seventh header, whatever its text
 *	Key=v<chunk>+            first piece of a value; 'v' and '+' guard blanks at both ends
 *	+=v<chunk>+              more of it
 *	+=v<chunk>.              the last piece
 *
 * where bytes that mean something to inih are 0x01 and a letter. inih still finds sections, keys
 * and values and calls back; the handler puts the pieces together.
 *
 *  1. No line given to inih starts with a blank or a comment character, holds ';' or (before
 *     the '=') ':', or is longer than the buffer it came with.
 *  2. Ends of line are \n, \r and NUL in any set of different ones (systemd: read_line()); so no
 *     NUL is ever in a value.
 *  3. Comments are dropped inside a continuation too; an empty line ends one.
 *  4. Every byte of a value knows its line and column in the file (pieces[]).
 *  5. A joined line is at most UNIT_LINE_MAX bytes; beyond it the file is given up, as systemd does.
 *
 * Called by parse.c. The same documents go through a plain reimplementation of systemd's rules in
 * tests/unit/test_unit_reader.c, at random.
 */
#include <ini.h>

#include "reader.h"
#include "stayd/stayd.h"

#if INI_HANDLER_LINENO
#	error "inih built with INI_HANDLER_LINENO has another handler type"
#endif

#define BLANKS " \t\n\r"

/* One physical line's part of the joined line. */
struct piece {
	size_t offset; /* in joined */
	const char *source;
	size_t source_size;
	size_t skipped; /* bytes of the physical line before the piece: a BOM */
	unsigned line;
};

struct reader {
	const char *text, *end, *next;
	unsigned line;
	bool bom_seen, is_over;
	int result;
	const struct reader_ops *ops;
	void *ctx;

	struct buf joined;
	struct piece *pieces;
	size_t n_pieces, cap_pieces;

	unsigned n_sections;
	struct buf section;

	/* What is being fed to inih: value_left bytes of it remain. */
	const char *key, *value_next;
	size_t key_offset, value_offset, value_left;
	bool is_feeding, is_first_chunk;
	struct buf value; /* what the handler has put together */
	char key_seen[READER_KEY_MAX + 1];
};

/* ---- places ---- */

static void locate(const struct reader *r, size_t offset, struct text_pos *ret)
{
	/* A line may have half a million pieces, and as many findings. */
	size_t low = 0, high = r->n_pieces;
	while (high - low > 1) {
		size_t middle = low + (high - low) / 2;
		if (r->pieces[middle].offset <= offset)
			low = middle;
		else
			high = middle;
	}
	const struct piece *p = &r->pieces[low];
	*ret = (struct text_pos){
		.line = p->line,
		.column = (unsigned)(offset - p->offset + p->skipped + 1),
		.source = p->source,
		.source_size = p->source_size,
	};
}

void assignment_where(const struct assignment *a, size_t offset, struct text_pos *ret)
{
	locate(a->reader, a->reader->value_offset + offset, ret);
}

static void trouble_at(struct reader *r, enum reader_trouble t, size_t offset)
{
	struct text_pos at;
	locate(r, offset, &at);
	r->ops->trouble(r->ctx, t, &at);
}

/* ---- lines ---- */

enum eol { EOL_NONE = 0, EOL_ZERO = 1, EOL_TEN = 2, EOL_THIRTEEN = 4 };

static enum eol eol_of(char c)
{
	return c == '\n' ? EOL_TEN : c == '\r' ? EOL_THIRTEEN : c == '\0' ? EOL_ZERO : EOL_NONE;
}

/* The next physical line; false at the end. Takes "\n", "\r\n", "\n\r", NUL ... as one end. */
static bool next_line(struct reader *r, const char **ret, size_t *ret_size, bool *ret_has_nul)
{
	if (r->next >= r->end)
		return false;
	const char *start = r->next, *p = start;
	while (p < r->end && eol_of(*p) == EOL_NONE)
		p++;
	*ret = start;
	*ret_size = (size_t)(p - start);
	unsigned seen = EOL_NONE;
	while (p < r->end && !(seen & EOL_ZERO)) {
		enum eol e = eol_of(*p);
		if (e == EOL_NONE || (seen & e))
			break;
		seen |= e;
		p++;
	}
	*ret_has_nul = seen & EOL_ZERO;
	r->next = p;
	r->line++;
	return true;
}

/* Odd number of backslashes at the end? Counting may start at the last piece: the one before it
 * ends in a backslash that became a blank. */
static bool ends_escaped(const struct reader *r)
{
	bool escaped = false;
	for (size_t i = r->pieces[r->n_pieces - 1].offset; i < r->joined.size; i++)
		escaped = !escaped && r->joined.data[i] == '\\';
	return escaped;
}

static bool is_comment(const char *s, size_t size)
{
	size_t i = 0;
	while (i < size && (s[i] == ' ' || s[i] == '\t'))
		i++;
	return i < size && (s[i] == '#' || s[i] == ';');
}

/* Adds a physical line to the joined one; false when that is too long. */
static bool join(struct reader *r, const char *s, size_t size)
{
	static const char bom[] = "\xef\xbb\xbf";
	struct piece p = {
		.offset = r->joined.size, .source = s, .source_size = size, .line = r->line};
	if (!r->bom_seen && size >= 3 && memcmp(s, bom, 3) == 0) {
		r->bom_seen = true;
		p.skipped = 3;
	}
	GROW(r->pieces, r->n_pieces, r->cap_pieces);
	r->pieces[r->n_pieces++] = p;
	if (size - p.skipped > UNIT_LINE_MAX - r->joined.size)
		return false;
	buf_add(&r->joined, s + p.skipped, size - p.skipped);
	return true;
}

/* The next joined line into r->joined; 1, 0 at the end, -EBADMSG. */
static int next_joined(struct reader *r)
{
	const char *s;
	size_t size;
	bool has_nul, is_continued = false;
	buf_reset(&r->joined);
	r->n_pieces = 0;
	while (next_line(r, &s, &size, &has_nul)) {
		bool skip = is_comment(s, size);
		if (!skip && !join(r, s, size)) {
			trouble_at(r, READER_LINE_TOO_LONG, r->pieces[r->n_pieces - 1].offset);
			return -EBADMSG;
		}
		if (has_nul) {
			struct text_pos at = {r->line, (unsigned)size + 1, s, size};
			r->ops->trouble(r->ctx, READER_NUL, &at);
		}
		if (skip)
			continue;
		if (!ends_escaped(r))
			return 1;
		r->joined.data[r->joined.size - 1] = ' ';
		is_continued = true;
	}
	return is_continued ? 1 : 0;
}

/* ---- one line: header, assignment or trouble ---- */

static size_t strip(const char *s, size_t *from, size_t to)
{
	while (*from < to && strchr(BLANKS, s[*from]))
		(*from)++;
	while (to > *from && strchr(BLANKS, s[to - 1]))
		to--;
	return to;
}

static bool is_safe_header(const char *s, size_t size)
{
	for (size_t i = 0; i < size; i++)
		if ((unsigned char)s[i] < ' ' || strchr("\"'\\\x7f", s[i]))
			return false;
	return true;
}

static int take_header(struct reader *r, size_t from, size_t to)
{
	const char *s = r->joined.data;
	if (s[to - 1] != ']' || to - from < 2 || !is_safe_header(s + from + 1, to - from - 2)) {
		trouble_at(r, READER_BAD_HEADER, from);
		return -EBADMSG;
	}
	buf_reset(&r->section);
	buf_add(&r->section, s + from + 1, to - from - 2);
	r->n_sections++;
	struct text_pos at;
	locate(r, from, &at);
	r->ops->section(r->ctx, r->section.data, &at);
	return 1;
}

static int take_assignment(struct reader *r, size_t from, size_t to)
{
	char *s = r->joined.data, *eq = memchr(s + from, '=', to - from);
	if (!eq || eq == s + from) {
		trouble_at(r, eq ? READER_NO_KEY : READER_NO_EQUALS, from);
		return 0;
	}
	size_t key_end = strip(s, &from, (size_t)(eq - s)), value = (size_t)(eq - s) + 1;
	if (key_end - from > READER_KEY_MAX) {
		trouble_at(r, READER_KEY_TOO_LONG, from);
		return 0;
	}
	to = strip(s, &value, to);
	s[key_end] = '\0'; /* at most the '=' itself */
	s[to] = '\0';
	r->key = s + from;
	r->key_offset = from;
	r->value_next = s + value;
	r->value_offset = value;
	r->value_left = to - value;
	r->is_feeding = r->is_first_chunk = true;
	return 2;
}

/* The first byte that is no UTF-8. */
static size_t find_bad_utf8(const char *s, size_t from, size_t to)
{
	while (from < to) {
		size_t n = 1;
		while (n <= 4 && n <= to - from && !utf8_is_valid(s + from, n))
			n++;
		if (n > 4 || n > to - from)
			break;
		from += n;
	}
	return from;
}

/* 0: nothing for inih in this line; 1: a header; 2: an assignment; -EBADMSG: give up. */
static int take_line(struct reader *r)
{
	size_t from = 0, to = strip(r->joined.data, &from, r->joined.size);
	if (from == to)
		return 0;
	if (!utf8_is_valid(r->joined.data + from, to - from)) {
		trouble_at(r, READER_BAD_UTF8, find_bad_utf8(r->joined.data, from, to));
		return 0;
	}
	if (r->joined.data[from] == '[')
		return take_header(r, from, to);
	return take_assignment(r, from, to);
}

/* ---- feeding inih ---- */

static const char escape_from[] = "\x01;:#[+\v\f\xef", escape_to[] = "eschbpvfB";

static char escape_code(char c)
{
	const char *at = c ? strchr(escape_from, c) : NULL;
	return at ? escape_to[at - escape_from] : 0;
}

/* Writes `[N]` or the next chunk of the assignment into inih's buffer. */
static void feed_header(struct reader *r, char *out, int size)
{
	snprintf(out, (size_t)size, "[%u]\n", r->n_sections);
}

static int feed_key(const struct reader *r, char *out, size_t room)
{
	size_t n = 0;
	for (const char *k = r->key; *k; k++) {
		char code = escape_code(*k);
		if (n + 2 > room)
			return -1;
		if (code)
			out[n++] = '\x01';
		out[n++] = code ? code : *k;
	}
	return (int)n;
}

/* False when the key, escaped, leaves no room for a value. */
static bool feed_chunk(struct reader *r, char *out, size_t size)
{
	enum { GUARDS = sizeof("=v+\n") + 2 };
	size_t n = 1;
	out[0] = '+';
	if (r->is_first_chunk) {
		int k = size > GUARDS ? feed_key(r, out, size - GUARDS) : -1;
		if (k < 0)
			return false;
		n = (size_t)k;
	}
	out[n++] = '=';
	out[n++] = 'v';
	while (r->value_left > 0 && n + 5 <= size) { /* 2 for the byte, flag, newline, NUL */
		char c = *r->value_next++;
		r->value_left--;
		if (c == ';' || c == '\x01') {
			out[n++] = '\x01';
			c = escape_code(c);
		}
		out[n++] = c;
	}
	out[n++] = r->value_left > 0 ? '+' : '.';
	out[n++] = '\n';
	out[n] = '\0';
	r->is_first_chunk = false;
	r->is_feeding = r->value_left > 0;
	return true;
}

static char *read_for_inih(char *out, int size, void *stream)
{
	struct reader *r = stream;
	while (!r->is_over) {
		if (r->is_feeding) {
			if (feed_chunk(r, out, (size_t)size))
				return out;
			r->is_feeding = false;
			trouble_at(r, READER_KEY_TOO_LONG, r->key_offset);
		}
		int k = next_joined(r);
		if (k > 0)
			k = take_line(r);
		else if (k == 0)
			r->is_over = true;
		if (k < 0) {
			r->result = k;
			r->is_over = true;
		}
		if (k == 1) {
			feed_header(r, out, size);
			return out;
		}
	}
	return NULL;
}

/* ---- what inih gives back ---- */

static void unescape_into(struct buf *b, const char *s, size_t size)
{
	for (size_t i = 0; i < size; i++) {
		char c = s[i];
		if (c == '\x01' && i + 1 < size) {
			const char *at = strchr(escape_to, s[++i]);
			assert(at);
			c = escape_from[at - escape_to];
		}
		buf_add_byte(b, c);
	}
}

static int on_inih(void *user, const char *section, const char *name, const char *value)
{
	struct reader *r = user;
	size_t n = strlen(value);
	assert(n >= 2 && value[0] == 'v');
	assert(r->n_sections == (section[0] ? strtoul(section, NULL, 10) : 0));
	if (!streq(name, "+")) {
		struct buf key = {0};
		unescape_into(&key, name, strlen(name));
		str_copy(r->key_seen, key.data, sizeof(r->key_seen));
		buf_done(&key);
		buf_reset(&r->value);
	}
	buf_reserve(&r->value, n);
	unescape_into(&r->value, value + 1, n - 2);
	if (value[n - 1] == '.') {
		struct assignment a = {
			.section = r->n_sections ? r->section.data : "",
			.key = r->key_seen,
			.value = r->value.data,
			.reader = r,
		};
		r->value.data[r->value.size] = '\0';
		locate(r, r->key_offset, &a.at);
		r->ops->assign(r->ctx, &a);
	}
	return 1;
}

int reader_run(const char *text, size_t size, const struct reader_ops *ops, void *ctx)
{
	struct reader r = {.text = text, .end = text + size, .next = text, .ops = ops, .ctx = ctx};
	buf_reserve(&r.joined, 256);
	int k = ini_parse_stream(read_for_inih, &r, on_inih, &r);
	/* Nothing given to inih can be an error of syntax; anything but 0 is a bug here. */
	assert(k == 0);
	buf_done(&r.joined);
	buf_done(&r.section);
	buf_done(&r.value);
	free(r.pieces);
	return r.result;
}
