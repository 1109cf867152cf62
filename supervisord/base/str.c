/* SPDX-License-Identifier: Apache-2.0 */
/* Strings, byte buffers and lists of strings. */
#include "base.h"

bool startswith(const char *s, const char *prefix)
{
	return strncmp(s, prefix, strlen(prefix)) == 0;
}

bool endswith(const char *s, const char *suffix)
{
	size_t n = strlen(s), m = strlen(suffix);
	return n >= m && memcmp(s + n - m, suffix, m) == 0;
}

size_t str_copy(char *dst, const char *src, size_t dst_size)
{
	size_t n = strlen(src);
	if (dst_size) {
		size_t m = MIN(n, dst_size - 1);
		memcpy(dst, src, m);
		dst[m] = '\0';
	}
	return n;
}

/* Length of the valid UTF-8 sequence at s (at most size bytes), 0 when there is none.
 * RFC 3629: no overlong forms, no surrogates, nothing above U+10FFFF. */
static size_t utf8_sequence(const unsigned char *s, size_t size)
{
	if (s[0] < 0x80)
		return 1;
	size_t n = s[0] >= 0xc2 && s[0] < 0xe0   ? 2
		   : (s[0] & 0xf0) == 0xe0       ? 3
		   : s[0] >= 0xf0 && s[0] < 0xf5 ? 4
						 : 0;
	if (n == 0 || n > size)
		return 0;
	for (size_t i = 1; i < n; i++)
		if ((s[i] & 0xc0) != 0x80)
			return 0;
	if ((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] > 0x9f) ||
		(s[0] == 0xf0 && s[1] < 0x90) || (s[0] == 0xf4 && s[1] > 0x8f))
		return 0;
	return n;
}

bool utf8_is_valid(const char *s, size_t size)
{
	for (size_t i = 0; i < size;) {
		size_t n = utf8_sequence((const unsigned char *)s + i, size - i);
		if (n == 0)
			return false;
		i += n;
	}
	return true;
}

void str_make_printable(char *s)
{
	size_t size = strlen(s);
	for (size_t i = 0; i < size;) {
		unsigned char *p = (unsigned char *)s + i;
		size_t n = utf8_sequence(p, size - i);
		/* C0, DEL, and C1 (U+0080..U+009F), which terminals obey as well. */
		bool is_control = n == 0 || p[0] < 0x20 || p[0] == 0x7f ||
				  (n == 2 && p[0] == 0xc2 && p[1] < 0xa0);
		if (is_control)
			memset(p, '?', n ? n : 1);
		i += n ? n : 1;
	}
}

unsigned str_distance(const char *a, const char *b, unsigned limit)
{
	enum { LEN_MAX = 64 };
	size_t n = strlen(a), m = strlen(b);
	unsigned row[3][LEN_MAX + 1];
	if (n > LEN_MAX || m > LEN_MAX || (n > m ? n - m : m - n) > limit)
		return limit + 1;
	for (size_t j = 0; j <= m; j++)
		row[0][j] = (unsigned)j;
	for (size_t i = 1; i <= n; i++) {
		unsigned *cur = row[i % 3], *prev = row[(i - 1) % 3], *prev2 = row[(i + 1) % 3];
		cur[0] = (unsigned)i;
		for (size_t j = 1; j <= m; j++) {
			unsigned cost = a[i - 1] != b[j - 1];
			unsigned v = MIN(prev[j] + 1, cur[j - 1] + 1);
			v = MIN(v, prev[j - 1] + cost);
			if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
				v = MIN(v, prev2[j - 2] + 1);
			cur[j] = v;
		}
	}
	return MIN(row[n % 3][m], limit + 1);
}

/* ---- buf ---- */

void buf_done(struct buf *b)
{
	free(b->data);
	memset(b, 0, sizeof(*b));
}

void buf_reset(struct buf *b)
{
	b->size = 0;
	if (b->data)
		b->data[0] = '\0';
}

void buf_reserve(struct buf *b, size_t more)
{
	size_t want = b->size + more + 1;
	if (want <= b->cap)
		return;
	size_t cap = b->cap ? b->cap : 64;
	while (cap < want)
		cap *= 2;
	b->data = xrealloc(b->data, cap);
	b->cap = cap;
}

void buf_add(struct buf *b, const void *data, size_t size)
{
	buf_reserve(b, size);
	if (size)
		memcpy(b->data + b->size, data, size);
	b->size += size;
	b->data[b->size] = '\0';
}

void buf_add_byte(struct buf *b, char c)
{
	buf_add(b, &c, 1);
}

void buf_add_str(struct buf *b, const char *s)
{
	buf_add(b, s, strlen(s));
}

void buf_printf(struct buf *b, const char *format, ...)
{
	va_list ap, again;
	va_start(ap, format);
	va_copy(again, ap);
	int n = vsnprintf(NULL, 0, format, ap);
	assert(n >= 0);
	buf_reserve(b, (size_t)n);
	vsnprintf(b->data + b->size, (size_t)n + 1, format, again);
	b->size += (size_t)n;
	va_end(again);
	va_end(ap);
}

void buf_consume(struct buf *b, size_t size)
{
	assert(size <= b->size);
	memmove(b->data, b->data + size, b->size - size);
	b->size -= size;
	if (b->data)
		b->data[b->size] = '\0';
}

char *buf_steal(struct buf *b)
{
	buf_reserve(b, 0);
	b->data[b->size] = '\0';
	char *p = b->data;
	memset(b, 0, sizeof(*b));
	return p;
}

/* ---- strv ---- */

void strv_add_take(struct strv *l, char *s)
{
	GROW(l->v, l->n + 1, l->cap);
	l->v[l->n++] = s;
	l->v[l->n] = NULL;
}

void strv_add(struct strv *l, const char *s)
{
	strv_add_take(l, xstrdup(s));
}

bool strv_has(const struct strv *l, const char *s)
{
	for (size_t i = 0; i < l->n; i++)
		if (streq(l->v[i], s))
			return true;
	return false;
}

void strv_done(struct strv *l)
{
	for (size_t i = 0; i < l->n; i++)
		free(l->v[i]);
	free(l->v);
	memset(l, 0, sizeof(*l));
}
