/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading logs back, while the logger goes on writing and rotating.
 *
 *  1. Only whole lines are returned, and in order: rotated files by number, then current.
 *  2. A rotation between two of our steps loses nothing: current is opened before the directory is
 *     listed, and a file is told by its identity, not by its name.
 *  3. A cursor whose file has been deleted continues with the oldest file there is: files go
 *     oldest first, so all that are left are newer.
 *
 * Identity is the inode mixed with the birth time, where the file system has one: inode numbers
 * are used again at once by some. Called by core/ for the logs verb.
 */
#include "private.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>

struct log_file {
	uint64_t seq; /* UINT64_MAX: current */
	uint64_t identity, size;
	int fd;
};

struct log_files {
	struct log_file *v; /* oldest first */
	size_t n, cap;
};

char *log_path(const char *log_dir, const char *unit)
{
	return xasprintf("%s/%s/current", log_dir, unit);
}

static void files_done(struct log_files *l)
{
	for (size_t i = 0; i < l->n; i++)
		fd_close(l->v[i].fd);
	free(l->v);
}

static int files_add(struct log_files *l, int dir_fd, const char *name, uint64_t seq)
{
	struct statx sx;
	CLEANUP_CLOSE int fd =
		openat(dir_fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
	if (fd < 0)
		return -errno;
	if (statx(fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS | STATX_BTIME, &sx) < 0)
		return -errno;
	if (!S_ISREG(sx.stx_mode))
		return -EINVAL;
	uint64_t key[3] = {sx.stx_ino, 0, 0};
	if (sx.stx_mask & STATX_BTIME) {
		key[1] = (uint64_t)sx.stx_btime.tv_sec;
		key[2] = sx.stx_btime.tv_nsec;
	}
	struct log_file f = {seq, hash_bytes(key, sizeof(key)), sx.stx_size, -1};
	for (size_t i = 0; i < l->n; i++)
		if (l->v[i].identity == f.identity)
			return 0; /* what was current a moment ago */
	f.fd = TAKE_FD(fd);
	GROW(l->v, l->n, l->cap);
	l->v[l->n++] = f;
	return 0;
}

static int compare_files(const void *a, const void *b)
{
	const struct log_file *x = a, *y = b;
	return x->seq < y->seq ? -1 : x->seq > y->seq;
}

/* Opens all files of a unit; bounded by what the logger keeps. */
static int files_open(struct log_files *l, const char *log_dir, const char *unit)
{
	if (!log_name_is_valid(unit))
		return -EINVAL;
	CLEANUP_FREE char *path = xasprintf("%s/%s", log_dir, unit);
	int dir_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	if (dir_fd < 0)
		return -errno;
	(void)files_add(l, dir_fd, "current", UINT64_MAX);
	DIR *d = fdopendir(dir_fd);
	if (!d) {
		fd_close(dir_fd);
		return -errno;
	}
	for (struct dirent *e; (e = readdir(d)) && l->n <= LOG_KEEP_MAX + 1;) {
		char *end;
		uint64_t seq = strtoull(e->d_name, &end, 10);
		if (end != e->d_name && streq(end, ".log"))
			(void)files_add(l, dirfd(d), e->d_name, seq);
	}
	closedir(d);
	if (l->n)
		qsort(l->v, l->n, sizeof(*l->v), compare_files);
	return 0;
}

/* ---- the last lines ----------------------------------------------------------------------------- */

/* Filled from its end towards its beginning. */
struct tail {
	char *data;
	size_t cap, start;
	unsigned n_lines, want;
	char since[TIMESTAMP_MAX]; /* "" = any */
	bool is_cut;               /* the first line may lack its beginning */
};

static bool is_before(const char *line, size_t size, const char *since)
{
	return *since && size >= LOG_STAMP_SIZE && memcmp(line, since, LOG_STAMP_SIZE) < 0;
}

/* True when what is in hand reaches back far enough. */
static bool tail_has_enough(const struct tail *t)
{
	if (t->start == 0 || (t->want && t->n_lines > t->want))
		return true;
	const char *line = t->data + t->start, *end = t->data + t->cap;
	const char *newline = memchr(line, '\n', (size_t)(end - line));
	if (!newline)
		return false;
	newline++; /* the first line may lack its beginning; the second is whole */
	return is_before(newline, (size_t)(end - newline), t->since);
}

/* The whole lines of one file, from its end; sets *ret_end to the end of its last whole line. */
static int tail_add_file(struct tail *t, const struct log_file *f, uint64_t *ret_end)
{
	uint64_t pos = f->size;
	bool has_end = false;
	*ret_end = 0;
	while (pos && !tail_has_enough(t)) {
		size_t size = MIN(MIN((uint64_t)LOG_READ_MAX, pos), t->start);
		char *to = t->data + t->start - size;
		ssize_t n = pread(f->fd, to, size, (off_t)(pos - size));
		if (n < 0)
			return -errno;
		if ((size_t)n < size)
			return -EAGAIN; /* cut meanwhile (a torn line was taken back) */
		pos -= size;
		if (!has_end) { /* leave out what has no newline yet */
			const char *newline = memrchr(to, '\n', size);
			if (!newline)
				continue;
			size_t whole = (size_t)(newline - to) + 1;
			memmove(to + size - whole, to, whole);
			to += size - whole;
			size = whole;
			*ret_end = pos + whole;
			has_end = true;
		}
		t->start -= size;
		for (const char *p = t->data + t->start, *end = p + size;
			(p = memchr(p, '\n', (size_t)(end - p))); p++)
			t->n_lines++;
	}
	t->is_cut = pos > 0;
	return 0;
}

/* Cuts the front: a line without its beginning, lines too many, lines too old. */
static void tail_trim(struct tail *t)
{
	while (t->start < t->cap) {
		const char *line = t->data + t->start;
		size_t size = t->cap - t->start;
		bool is_surplus = t->want && t->n_lines > t->want;
		if (!t->is_cut && !is_surplus && !is_before(line, size, t->since))
			return;
		const char *newline = memchr(line, '\n', size);
		t->start += newline ? (size_t)(newline - line) + 1 : size;
		t->n_lines--;
		t->is_cut = false;
	}
}

int log_read_last(const char *log_dir, const char *unit, unsigned n_lines, uint64_t since_us,
	size_t max, struct buf *out, struct log_cursor *ret_cursor)
{
	struct log_files files = {0};
	struct log_cursor cursor = {0};
	struct tail t = {.want = n_lines};
	uint64_t total = 0, end = 0;
	int r = files_open(&files, log_dir, unit);
	for (size_t i = 0; i < files.n; i++)
		total += files.v[i].size;
	t.cap = t.start = MIN((uint64_t)MAX(max, 1), total);
	t.data = xmalloc(t.cap + 1);
	if (since_us)
		(void)format_timestamp(t.since, since_us);
	for (size_t i = files.n; i-- > 0 && r == 0;) {
		bool is_newest = i == files.n - 1;
		if (!is_newest && tail_has_enough(&t))
			break;
		r = tail_add_file(&t, &files.v[i], &end);
		if (is_newest)
			cursor = (struct log_cursor){files.v[i].identity, end};
	}
	if (r == 0) {
		tail_trim(&t);
		buf_add(out, t.data + t.start, t.cap - t.start);
		*ret_cursor = cursor;
	}
	free(t.data);
	files_done(&files);
	return r;
}

/* ---- going on from there ------------------------------------------------------------------------ */

/* Whole lines from offset on, at most max bytes; moves *offset behind them. */
static int add_from(const struct log_file *f, uint64_t *offset, size_t max, struct buf *out)
{
	size_t room = MIN((uint64_t)max, f->size - *offset);
	if (!room)
		return 0;
	buf_reserve(out, room + 1);
	ssize_t n = pread(f->fd, out->data + out->size, room, (off_t)*offset);
	if (n < 0)
		return -errno;
	const char *newline = n ? memrchr(out->data + out->size, '\n', (size_t)n) : NULL;
	size_t whole = newline ? (size_t)(newline - (out->data + out->size)) + 1 : 0;
	out->size += whole;
	out->data[out->size] = '\0';
	*offset += whole;
	return 0;
}

int log_read_more(const char *log_dir, const char *unit, size_t max, struct buf *out,
	struct log_cursor *cursor)
{
	struct log_files files = {0};
	size_t limit = out->size + max;
	int r = files_open(&files, log_dir, unit);
	size_t i = 0;
	while (i < files.n && files.v[i].identity != cursor->inode)
		i++;
	if (i == files.n || cursor->offset > files.v[i].size) {
		i = 0; /* invariant 3 */
		cursor->offset = 0;
	}
	for (; r == 0 && i < files.n; i++) {
		uint64_t offset = cursor->inode == files.v[i].identity ? cursor->offset : 0;
		r = add_from(&files.v[i], &offset, limit - out->size, out);
		if (r < 0)
			break;
		*cursor = (struct log_cursor){files.v[i].identity, offset};
		if (files.v[i].size - offset > limit - out->size)
			break; /* the rest of it at the next call */
	}
	files_done(&files);
	return r;
}
