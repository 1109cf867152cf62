/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a service writes, in whatever pieces: stored lines are whole, have their head, and give back
 * the bytes as they came. First byte: the size of the pieces; second: where they have an end.
 *
 * A byte 0xff at the beginning of a run makes it long, so that lines above the limit come up.
 * Options: -max_len=1024
 */
#include "fuzz.h"
#include "logd/private.h"

#define PIECES_MAX 64

struct store_check {
	struct buf text; /* the lines without their heads, pieces put together */
	uint64_t wall_us, stamp_us;
	char stamp[TIMESTAMP_MAX]; /* of stamp_us */
};

static void take_line(struct store_check *c, const char *line, size_t size)
{
	if (c->stamp_us != c->wall_us)
		(void)format_timestamp(c->stamp, c->stamp_us = c->wall_us);
	assert(size >= LOG_HEAD_SIZE && size - LOG_HEAD_SIZE <= LOG_LINE_MAX);
	assert(memcmp(line, c->stamp, LOG_STAMP_SIZE) == 0);
	assert(line[LOG_STAMP_SIZE] == ' ' && line[LOG_STAMP_SIZE + 1] == 'o');
	char mark = line[LOG_HEAD_SIZE - 1];
	assert(mark == ' ' || (mark == '+' && c->text.size));
	if (mark == '+') /* goes on where the line before was broken off */
		c->text.size--;
	buf_add(&c->text, line + LOG_HEAD_SIZE, size - LOG_HEAD_SIZE);
	buf_add_byte(&c->text, '\n');
}

static void on_batch(void *arg, struct batch *b)
{
	struct store_check *c = arg;
	size_t n = 0;
	for (const char *p = b->data, *end = p + b->size; p < end; n++) {
		const char *newline = memchr(p, '\n', (size_t)(end - p));
		assert(newline); /* never half a line */
		take_line(c, p, (size_t)(newline - p));
		p = newline + 1;
	}
	assert(n == b->n_lines && b->size <= LOG_BATCH_MAX);
	b->size = b->n_lines = 0;
}

/* 0xff n c: the byte c, n * 96 times; no flood of newlines, which says nothing new slowly. */
static void blow_up(struct input *in, struct buf *out)
{
	while (in_left(in) && out->size < 36 * 1024) {
		uint8_t c = in_u8(in);
		if (c != 0xff) {
			buf_add_byte(out, (char)c);
			continue;
		}
		size_t n = in_u8(in) * 96u;
		c = in_u8(in);
		c = c == '\n' ? 'n' : c;
		buf_reserve(out, n);
		memset(out->data + out->size, c, n);
		out->size += n;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static char memory[LOG_BATCH_MAX], in_memory[LOG_LINE_MAX + LOG_READ_MAX];
	struct input in = in_begin(data, size);
	struct store_check c = {0};
	struct batch b = {.data = memory};
	struct stamper t = {0};
	struct line_state s = {0};
	struct buf all = {0}, want = {0};
	size_t piece = (size_t)in_u8(&in) * in_u8(&in) + 1;
	uint8_t ends = in_u8(&in);
	c.wall_us = 1700000000000000ULL + (uint64_t)in_u16(&in) * 100000;
	blow_up(&in, &all);
	piece = MIN(MAX(piece, all.size / PIECES_MAX), (size_t)LOG_READ_MAX);
	for (size_t at = 0, i = 0; at < all.size; i++) {
		size_t n = MIN(piece, all.size - at), carried = s.carry.size;
		char *to = in_memory + LOG_LINE_MAX;
		assert(carried <= LOG_LINE_MAX);
		memcpy(to, all.data + at, n);
		if (carried)
			memcpy(to - carried, s.carry.data, carried);
		buf_add(&want, all.data + at, n);
		at += n;
		lines_add(&s, &t, 'o', c.wall_us, to - carried, n + carried, &b, on_batch, &c);
		on_batch(&c, &b);
		c.wall_us += i % 3 * 999;
		if (ends && i % 8 == ends % 8) {
			bool has_rest = s.carry.size > 0;
			lines_end(&s, &t, 'o', c.wall_us, &b, on_batch, &c);
			on_batch(&c, &b);
			if (has_rest)
				buf_add_byte(&want, '\n');
		}
	}
	bool has_rest = s.carry.size > 0;
	lines_end(&s, &t, 'o', c.wall_us, &b, on_batch, &c);
	on_batch(&c, &b);
	if (has_rest)
		buf_add_byte(&want, '\n');
	assert(c.text.size == want.size);
	assert(!want.size || memcmp(c.text.data, want.data, want.size) == 0);
	buf_done(&c.text);
	buf_done(&all);
	buf_done(&want);
	return 0;
}
