/* SPDX-License-Identifier: Apache-2.0 */
/*
 * JSON text written straight into a buffer.
 *
 * Owns nothing. A status of a thousand units is one pass over the units and one message: no tree of
 * small allocations is built to be walked once. Invariants:
 *  1. Whatever bytes a unit, a service's STATUS= or a log line holds, the result is valid JSON in
 *     valid UTF-8: control characters are escaped, invalid bytes become U+FFFD.
 *  2. A comma is put before a member exactly when one precedes it, by looking at the last byte.
 * Called by whoever writes an answer or a line of the audit log.
 */
#include "control/json.h"

static void comma(struct buf *b)
{
	char last = b->size ? b->data[b->size - 1] : '{';
	if (last != '{' && last != '[' && last != ':')
		buf_add_byte(b, ',');
}

/* Length of the valid UTF-8 sequence at p, 0 when there is none. */
static size_t sequence(const unsigned char *p, size_t size)
{
	size_t n = p[0] < 0x80   ? 1
		   : p[0] < 0xc2 ? 0
		   : p[0] < 0xe0 ? 2
		   : p[0] < 0xf0 ? 3
		   : p[0] < 0xf5 ? 4
				 : 0;
	return n && n <= size && utf8_is_valid((const char *)p, n) ? n : 0;
}

static void escaped(struct buf *b, unsigned char c)
{
	switch (c) {
	case '"':
		buf_add(b, "\\\"", 2);
		break;
	case '\\':
		buf_add(b, "\\\\", 2);
		break;
	case '\n':
		buf_add(b, "\\n", 2);
		break;
	case '\t':
		buf_add(b, "\\t", 2);
		break;
	default:
		buf_printf(b, "\\u%04x", c);
	}
}

static void quoted(struct buf *b, const char *s, size_t size)
{
	const unsigned char *p = (const unsigned char *)s;
	size_t plain = 0; /* bytes before i that go out as they are */
	buf_add_byte(b, '"');
	for (size_t i = 0; i < size;) {
		size_t n = p[i] < 0x80 ? 1 : sequence(p + i, size - i);
		if (n > 1 ||
			(n == 1 && p[i] >= 0x20 && p[i] != '"' && p[i] != '\\' && p[i] != 0x7f)) {
			plain += n;
			i += n;
			continue;
		}
		buf_add(b, p + i - plain, plain);
		plain = 0;
		if (n)
			escaped(b, p[i]);
		else
			buf_add(b, "\xef\xbf\xbd", 3);
		i++;
	}
	buf_add(b, p + size - plain, plain);
	buf_add_byte(b, '"');
}

static void key_of(struct buf *b, const char *key)
{
	comma(b);
	if (key) {
		quoted(b, key, strlen(key));
		buf_add_byte(b, ':');
	}
}

void j_open(struct buf *b, const char *key, char bracket)
{
	key_of(b, key);
	buf_add_byte(b, bracket);
}

void j_close(struct buf *b, char bracket)
{
	buf_add_byte(b, bracket);
}

void j_strn(struct buf *b, const char *key, const char *value, size_t size)
{
	key_of(b, key);
	quoted(b, value, size);
}

void j_str(struct buf *b, const char *key, const char *value)
{
	if (value) {
		j_strn(b, key, value, strlen(value));
		return;
	}
	key_of(b, key);
	buf_add(b, "null", 4);
}

void j_int(struct buf *b, const char *key, int64_t value)
{
	key_of(b, key);
	buf_printf(b, "%lld", (long long)value);
}

void j_bool(struct buf *b, const char *key, bool value)
{
	key_of(b, key);
	buf_add_str(b, value ? "true" : "false");
}

void j_time(struct buf *b, const char *key, uint64_t wall_us)
{
	char t[TIMESTAMP_MAX];
	j_str(b, key, wall_us ? format_timestamp(t, wall_us) : NULL);
}
