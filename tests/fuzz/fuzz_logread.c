/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading logs back from files of any content: a rotated one and the current one. What comes back is
 * what a plain reading of both gives: whole lines, in order, the last ones, at most so many bytes;
 * and going on from the cursor gives what was written since, whole and once.
 * Options: -max_len=1024 -detect_leaks=0
 */
#include "fuzz.h"
#include "logd/private.h"

#include <sys/stat.h>

static char dir[64], current[128], rotated[128];

static void clean_up(void)
{
	char unit[80];
	snprintf(unit, sizeof(unit), "%s/u", dir);
	(void)unlink(current);
	(void)unlink(rotated);
	(void)rmdir(unit);
	(void)rmdir(dir);
}

static void start(void)
{
	char unit[80];
	str_copy(dir, "/dev/shm/stayd-fuzz-XXXXXX", sizeof(dir));
	if (!mkdtemp(dir))
		abort();
	snprintf(unit, sizeof(unit), "%s/u", dir);
	snprintf(current, sizeof(current), "%s/u/current", dir);
	snprintf(rotated, sizeof(rotated), "%s/u/1.log", dir);
	if (mkdir(unit, 0700) < 0)
		abort();
	(void)atexit(clean_up);
}

static void put(const char *path, const char *data, size_t size, int flags)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC | flags, 0600);
	if (fd < 0 || write_all(fd, data, size) < 0)
		abort();
	fd_close(fd);
}

static size_t whole_lines(const char *data, size_t size)
{
	const char *newline = size ? memrchr(data, '\n', size) : NULL;
	return newline ? (size_t)(newline - data) + 1 : 0;
}

/* The last n lines of text (0: all), then at most max bytes of whole lines, by the book. */
static const char *expected(const struct buf *text, unsigned n, size_t max, size_t *ret_size)
{
	size_t start = text->size, lines = 0;
	while (start > 0) {
		size_t line = start - 1;
		while (line > 0 && text->data[line - 1] != '\n')
			line--;
		if ((n && lines == n) || text->size - line > max)
			break;
		start = line;
		lines++;
	}
	*ret_size = text->size - start;
	return text->data + start;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = in_begin(data, size);
	struct buf both = {0}, out = {0};
	struct log_cursor cursor = {0};
	unsigned n = in_u8(&in) % 9;
	size_t max = in_u16(&in) % 2048 + 1, more = in_u8(&in) % 64;
	uint64_t since = in_u8(&in) & 1 ? 1700000000000000ULL : 0;
	size_t first = in_u16(&in);
	if (!dir[0])
		start();
	const char *text = (const char *)in.p;
	size_t left = in_left(&in);
	more = MIN(more, left);
	left -= more; /* the last bytes are written after the first reading */
	first = MIN(first, left);
	put(rotated, text, first, O_TRUNC);
	put(current, text + first, left - first, O_TRUNC);
	size_t whole = whole_lines(text + first, left - first);
	buf_add(&both, text, whole_lines(text, first));
	buf_add(&both, text + first, whole);
	int r = log_read_last(dir, "u", n, since, max, &out, &cursor);
	assert(r == 0 && out.size <= max);
	assert(out.size == 0 || out.data[out.size - 1] == '\n');
	if (!since) {
		size_t want;
		const char *e = expected(&both, n, max, &want);
		/* Where max cuts, the first line that would just fit may be missing: whether it is
		 * whole shows in the byte before it. */
		if (out.size != want && both.size > max) {
			const char *newline = memchr(e, '\n', want);
			want -= (size_t)(newline + 1 - e);
			e = newline + 1;
		}
		assert(out.size == want && (!want || memcmp(out.data, e, want) == 0));
	}
	/* What is unfinished now is read when it is whole. */
	buf_reset(&out);
	put(current, text + left, more, O_APPEND);
	size_t new_whole = whole_lines(text + first, left + more - first);
	r = log_read_more(dir, "u", LOG_LINE_MAX, &out, &cursor);
	assert(r == 0);
	assert(out.size == new_whole - whole);
	assert(!out.size || memcmp(out.data, text + first + whole, out.size) == 0);
	buf_done(&both);
	buf_done(&out);
	return 0;
}
