/* SPDX-License-Identifier: Apache-2.0 */
/* What the fuzz targets share: taking an input apart. At its end everything reads as zero. */
#pragma once

#include "base/base.h"

#include <fcntl.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct input {
	const uint8_t *p, *end;
};

static inline struct input in_begin(const uint8_t *data, size_t size)
{
	return (struct input){data, data + size};
}

static inline size_t in_left(const struct input *in)
{
	return (size_t)(in->end - in->p);
}

static inline uint8_t in_u8(struct input *in)
{
	return in->p < in->end ? *in->p++ : 0;
}

static inline void in_bytes(struct input *in, void *out, size_t size)
{
	size_t n = MIN(size, in_left(in));
	memset(out, 0, size);
	if (n)
		memcpy(out, in->p, n);
	in->p += n;
}

/* As many bytes as the next one says, at most what fits. */
static inline void in_some(struct input *in, void *out, size_t size)
{
	size_t n = in_u8(in);
	in_bytes(in, out, MIN(n, size));
}

static inline uint16_t in_u16(struct input *in)
{
	uint16_t v;
	in_bytes(in, &v, sizeof(v));
	return v;
}

static inline uint32_t in_u32(struct input *in)
{
	uint32_t v;
	in_bytes(in, &v, sizeof(v));
	return v;
}

static inline uint64_t in_u64(struct input *in)
{
	uint64_t v;
	in_bytes(in, &v, sizeof(v));
	return v;
}

/* A block of exactly this size, so that ASan sees a read beyond it; the caller frees. */
static inline void *exact_copy(const void *data, size_t size)
{
	void *p = malloc(size);
	if (!p)
		abort();
	if (size)
		memcpy(p, data, size);
	return p;
}

/* Up to the next zero byte or the end of the input; the caller frees. */
static inline char *in_str(struct input *in)
{
	const uint8_t *zero = in_left(in) ? memchr(in->p, 0, in_left(in)) : NULL;
	size_t n = zero ? (size_t)(zero - in->p) : in_left(in);
	char *s = xstrndup((const char *)in->p, n);
	in->p += n + (zero != NULL);
	return s;
}

/* Nothing a person reads may carry control characters or bytes that are no text. */
static inline bool is_printable(const char *s)
{
	CLEANUP_FREE char *same = xstrdup(s);
	str_make_printable(same);
	return streq(same, s);
}

static inline void be_quiet(void)
{
	log_to_fd(open("/dev/null", O_WRONLY | O_CLOEXEC));
}
