/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bytes of a pipe -> stored lines, "2026-11-20T15:04:11.123Z o text".
 *
 *  1. Only whole lines leave here. What has no newline yet waits in the stream's carry.
 *  2. The letter is o (standard output), e (standard error) or d (the daemon's own word).
 *  3. A line above LOG_LINE_MAX is stored in pieces; each further piece has '+' where the blank
 *     stands after the letter. Without the '+' lines and their heads, the bytes are those written.
 *  4. One clock reading per batch; the text of the stamp is made again only when the millisecond
 *     has changed.
 *
 * Lines are copied into one buffer and written in one call: for lines of usual length that beats
 * an iovec pair a line, by measurement (tests/unit/test_logd_speed.c).
 */
#include "private.h"

static void stamper_set(struct stamper *t, uint64_t wall_us)
{
	uint64_t ms = wall_us / 1000;
	if (ms == t->ms)
		return;
	if (ms / 1000 == t->ms / 1000) { /* same second: only three digits differ */
		unsigned n = (unsigned)(ms % 1000);
		t->head[20] = (char)('0' + n / 100);
		t->head[21] = (char)('0' + n / 10 % 10);
		t->head[22] = (char)('0' + n % 10);
	} else {
		char text[TIMESTAMP_MAX];
		memcpy(t->head, format_timestamp(text, wall_us), LOG_STAMP_SIZE);
	}
	t->ms = ms;
	t->head[LOG_STAMP_SIZE] = ' ';
}

static void add_line(struct batch *b, const struct stamper *t, char mark, const char *line,
	size_t size, batch_fn *full, void *arg)
{
	if (b->size + LOG_HEAD_SIZE + size + 1 > LOG_BATCH_MAX)
		full(arg, b);
	char *to = b->data + b->size;
	memcpy(to, t->head, LOG_HEAD_SIZE);
	to[LOG_HEAD_SIZE - 1] = mark;
	memcpy(to + LOG_HEAD_SIZE, line, size);
	to[LOG_HEAD_SIZE + size] = '\n';
	b->size += LOG_HEAD_SIZE + size + 1;
	b->n_lines++;
}

/* A line, or the unfinished rest: as many pieces as it takes. Returns the bytes left over. */
static size_t add_pieces(struct line_state *s, struct batch *b, const struct stamper *t,
	const char *line, size_t size, batch_fn *full, void *arg)
{
	while (size > LOG_LINE_MAX) {
		add_line(b, t, s->is_split ? '+' : ' ', line, LOG_LINE_MAX, full, arg);
		s->is_split = true;
		line += LOG_LINE_MAX;
		size -= LOG_LINE_MAX;
	}
	return size;
}

static void add_last(struct line_state *s, struct batch *b, const struct stamper *t,
	const char *line, size_t size, batch_fn *full, void *arg)
{
	size_t rest = add_pieces(s, b, t, line, size, full, arg);
	add_line(b, t, s->is_split ? '+' : ' ', line + size - rest, rest, full, arg);
	s->is_split = false;
}

void lines_add(struct line_state *s, struct stamper *t, char letter, uint64_t wall_us,
	const char *data, size_t size, struct batch *b, batch_fn *full, void *arg)
{
	const char *end = data + size, *newline;
	stamper_set(t, wall_us);
	t->head[LOG_STAMP_SIZE + 1] = letter;
	while ((newline = memchr(data, '\n', (size_t)(end - data)))) {
		add_last(s, b, t, data, (size_t)(newline - data), full, arg);
		data = newline + 1;
	}
	size_t rest = add_pieces(s, b, t, data, (size_t)(end - data), full, arg);
	buf_reset(&s->carry);
	if (rest)
		buf_add(&s->carry, end - rest, rest);
	else if (s->carry.cap)
		buf_done(&s->carry); /* a thousand idle streams hold no memory */
}

void lines_end(struct line_state *s, struct stamper *t, char letter, uint64_t wall_us,
	struct batch *b, batch_fn *full, void *arg)
{
	if (s->carry.size) {
		stamper_set(t, wall_us);
		t->head[LOG_STAMP_SIZE + 1] = letter;
		add_last(s, b, t, s->carry.data, s->carry.size, full, arg);
	}
	buf_done(&s->carry);
	s->is_split = false;
}
