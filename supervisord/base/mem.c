/* SPDX-License-Identifier: Apache-2.0 */
/* Allocation that aborts instead of failing, and arenas. */
#include "base.h"

#define ARENA_CHUNK (16 * 1024)

_Noreturn void oom(void)
{
	static const char text[] = "stayd: out of memory\n";
	ssize_t r = write(STDERR_FILENO, text, sizeof(text) - 1);
	(void)r;
	abort();
}

void *xmalloc(size_t size)
{
	void *p = malloc(size ? size : 1);
	if (!p)
		oom();
	return p;
}

void *xcalloc(size_t count, size_t size)
{
	void *p = calloc(count ? count : 1, size ? size : 1);
	if (!p)
		oom();
	return p;
}

void *xrealloc(void *p, size_t size)
{
	p = realloc(p, size ? size : 1);
	if (!p)
		oom();
	return p;
}

char *xstrdup(const char *s)
{
	return xstrndup(s, strlen(s));
}

char *xstrndup(const char *s, size_t size)
{
	char *p = xmalloc(size + 1);
	memcpy(p, s, size);
	p[size] = '\0';
	return p;
}

char *xasprintf(const char *format, ...)
{
	va_list ap;
	char *s;
	va_start(ap, format);
	if (vasprintf(&s, format, ap) < 0)
		oom();
	va_end(ap);
	return s;
}

struct arena_chunk {
	struct arena_chunk *next;
	_Alignas(16) char data[];
};

void *arena_alloc(struct arena *a, size_t size)
{
	size = (size + 15) & ~(size_t)15;
	if (!a->head || size > a->size - a->used) {
		/* Chunks grow with the arena: small ones waste little, large ones stay few. */
		size_t want = MIN((size_t)ARENA_CHUNK, MAX((size_t)240, a->total / 8));
		want = MAX(size, want);
		struct arena_chunk *c = xcalloc(1, sizeof(*c) + want);
		c->next = a->head;
		a->head = c;
		a->used = 0;
		a->size = want;
		a->total += sizeof(*c) + want;
	}
	void *p = a->head->data + a->used;
	a->used += size;
	return p;
}

char *arena_strndup(struct arena *a, const char *s, size_t size)
{
	char *p = arena_alloc(a, size + 1);
	memcpy(p, s, size);
	return p;
}

char *arena_strdup(struct arena *a, const char *s)
{
	return arena_strndup(a, s, strlen(s));
}

char *arena_printf(struct arena *a, const char *format, ...)
{
	va_list ap, again;
	va_start(ap, format);
	va_copy(again, ap);
	int n = vsnprintf(NULL, 0, format, ap);
	assert(n >= 0);
	char *p = arena_alloc(a, (size_t)n + 1);
	vsnprintf(p, (size_t)n + 1, format, again);
	va_end(again);
	va_end(ap);
	return p;
}

void arena_done(struct arena *a)
{
	while (a->head) {
		struct arena_chunk *next = a->head->next;
		free(a->head);
		a->head = next;
	}
	memset(a, 0, sizeof(*a));
}
