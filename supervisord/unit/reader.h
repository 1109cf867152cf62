/* SPDX-License-Identifier: Apache-2.0 */
/* Lines of a unit file -> sections and assignments with their places. Private to unit/. */
#pragma once

#include "base/base.h"

/* A key longer than this is refused: it must fit one inih line together with its guards. */
#define READER_KEY_MAX 160

struct text_pos {
	unsigned line, column; /* from 1 */
	const char *source;    /* that physical line, not terminated */
	size_t source_size;
};

enum reader_trouble {
	READER_BAD_HEADER,
	READER_NO_EQUALS,
	READER_NO_KEY,
	READER_BAD_UTF8,
	READER_LINE_TOO_LONG,
	READER_KEY_TOO_LONG,
	READER_NUL,
};

/* One assignment; valid during the call. value_offset() positions are bytes of value. */
struct assignment {
	const char *section; /* "" before the first header */
	const char *key, *value;
	struct text_pos at; /* of the key */
	const struct reader *reader;
};

struct reader_ops {
	void (*section)(void *ctx, const char *name, const struct text_pos *at);
	void (*assign)(void *ctx, const struct assignment *a);
	void (*trouble)(void *ctx, enum reader_trouble t, const struct text_pos *at);
};

/* 0, or -EBADMSG when the rest of the file was given up (bad header, over-long line). */
int reader_run(const char *text, size_t size, const struct reader_ops *ops, void *ctx);
/* The place of byte `offset` of the value. */
void assignment_where(const struct assignment *a, size_t offset, struct text_pos *ret);
