/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The files of the logger: <dir>/<unit>/current, rotated to <dir>/<unit>/<seq>.log.
 *
 *  1. Every file consists of whole lines: a batch is cut at a line's end before a rotation, and
 *     what a failing write left of a line is cut off again. A line torn by a crash of the machine
 *     is closed when the file is opened next.
 *  2. total is the sum of all sizes below dir, and is at most total_max after each write (plus one
 *     line, if that is longer): rotated files go first, the oldest of all units before others,
 *     then the largest current file.
 *  3. A file is larger than file_max only when it is one line.
 *  4. Nothing here fails towards the reader of the pipes: services never block on our disk.
 *
 * The directory comes from core as a descriptor, made and handed over to our user; when it cannot be
 * written any more core is asked for it again (LG_DIR), by the first failure and each one after.
 *
 * Nothing is fsynced: after a power cut the last seconds of a log may be gone, as with any syslog.
 * Called by logger.c only.
 */
#include "private.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>

#define SEQ_NAME_MAX 32

bool log_name_is_valid(const char *name)
{
	return name[0] && name[0] != '.' && !strchr(name, '/') && strlen(name) <= UNIT_NAME_MAX;
}

static char *seq_name(char out[SEQ_NAME_MAX], uint64_t seq)
{
	snprintf(out, SEQ_NAME_MAX, "%010llu.log", (unsigned long long)seq);
	return out;
}

static bool seq_of(const char *name, uint64_t *ret_seq)
{
	char *end;
	if (name[0] < '0' || name[0] > '9')
		return false;
	uint64_t seq = strtoull(name, &end, 10);
	if (!streq(end, ".log"))
		return false;
	*ret_seq = seq;
	return true;
}

/* ---- what is there already -------------------------------------------------------------------- */

static int compare_seq(const void *a, const void *b)
{
	const struct rotated *x = a, *y = b;
	return x->seq < y->seq ? -1 : x->seq > y->seq;
}

static void log_add_rotated(struct unit_log *log, uint64_t seq, const struct stat *s)
{
	GROW(log->rotated, log->n_rotated, log->cap_rotated);
	log->rotated[log->n_rotated++] = (struct rotated){seq, (uint64_t)s->st_size,
		(uint64_t)s->st_mtim.tv_sec * USEC_PER_SEC + (uint64_t)s->st_mtim.tv_nsec / 1000};
	if (seq >= log->next_seq)
		log->next_seq = seq + 1;
}

/* Finds a unit's files as an earlier logger left them. */
static void log_scan(struct store *st, struct unit_log *log)
{
	int fd = st->dir_fd < 0 ? -1
				: openat(st->dir_fd, log->name,
					  O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	if (!d) {
		fd_close(fd);
		return;
	}
	for (struct dirent *e; (e = readdir(d));) {
		struct stat s;
		uint64_t seq;
		if (fstatat(dirfd(d), e->d_name, &s, AT_SYMLINK_NOFOLLOW) < 0 ||
			!S_ISREG(s.st_mode))
			continue;
		if (streq(e->d_name, "current"))
			log->size = (uint64_t)s.st_size;
		else if (seq_of(e->d_name, &seq))
			log_add_rotated(log, seq, &s);
		else
			continue;
		st->total += (uint64_t)s.st_size;
	}
	closedir(d);
	if (log->n_rotated)
		qsort(log->rotated, log->n_rotated, sizeof(*log->rotated), compare_seq);
}

struct unit_log *store_log(struct store *st, const char *name)
{
	struct unit_log *log = map_get(&st->logs, name);
	if (log)
		return log;
	if (st->logs.n >= LOG_UNITS_MAX)
		return NULL;
	log = xcalloc(1, sizeof(*log));
	str_copy(log->name, name, sizeof(log->name));
	log->dir_fd = log->fd = -1;
	log->next_seq = 1;
	map_put(&st->logs, log->name, log);
	log_scan(st, log);
	return log;
}

void store_limits(struct store *st, uint64_t file_max, uint64_t total_max, unsigned file_keep)
{
	st->file_max = file_max ? file_max : LOG_FILE_MAX_DEFAULT;
	st->total_max = total_max ? total_max : LOG_TOTAL_MAX_DEFAULT;
	st->file_max = MIN(st->file_max, st->total_max / 2);
	st->file_keep = MIN(file_keep ? file_keep : LOG_FILE_KEEP_DEFAULT, LOG_KEEP_MAX);
}

/* Forgets what was known of the previous directory; the units and their streams stay. */
static void store_rescan(struct store *st)
{
	size_t pos = 0;
	void *v;
	st->total = 0;
	while (map_next(&st->logs, &pos, NULL, &v)) {
		struct unit_log *log = v;
		store_release(log);
		log->size = log->n_rotated = 0;
		log->next_seq = 1;
		log->retry_at_us = 0;
		log_scan(st, log);
	}
}

static bool is_same_file(int a, int b)
{
	struct stat x, y;
	return a >= 0 && b >= 0 && fstat(a, &x) == 0 && fstat(b, &y) == 0 && x.st_dev == y.st_dev &&
	       x.st_ino == y.st_ino;
}

/* Units of earlier loggers. */
static void scan_units(struct store *st)
{
	int fd = openat(st->dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	for (struct dirent *e; d && (e = readdir(d));)
		if (log_name_is_valid(e->d_name) &&
			(e->d_type == DT_DIR || e->d_type == DT_UNKNOWN))
			(void)store_log(st, e->d_name);
	if (d)
		closedir(d);
	else
		fd_close(fd);
}

int store_open(struct store *st, int fd, int error)
{
	st->dir_error = error;
	if (fd < 0 || is_same_file(fd, st->dir_fd)) {
		fd_close(fd);
		return 0;
	}
	if (st->is_fixed) {
		fd_close(fd);
		return 1;
	}
	fd_close(st->dir_fd);
	st->dir_fd = fd;
	store_rescan(st);
	scan_units(st);
	return 0;
}

void store_release(struct unit_log *log)
{
	log->fd = fd_close(log->fd);
	log->dir_fd = fd_close(log->dir_fd);
}

void store_done(struct store *st)
{
	size_t pos = 0;
	void *v;
	while (map_next(&st->logs, &pos, NULL, &v)) {
		struct unit_log *log = v;
		store_release(log);
		free(log->rotated);
		free(log);
	}
	map_done(&st->logs);
	st->dir_fd = fd_close(st->dir_fd);
}

/* ---- writing ---------------------------------------------------------------------------------- */

/* A line that a crash tore has no end: give it one, so that ours begins on a line of its own. */
static void log_mend(struct store *st, struct unit_log *log)
{
	char last;
	if (log->size && pread(log->fd, &last, 1, (off_t)log->size - 1) == 1 && last != '\n' &&
		write(log->fd, "\n", 1) == 1) {
		log->size++;
		st->total++;
	}
}

static int log_open_current(struct store *st, struct unit_log *log)
{
	struct stat s;
	if (st->dir_fd < 0)
		return -st->dir_error;
	if (log->dir_fd < 0) {
		if (mkdirat(st->dir_fd, log->name, 0750) < 0 && errno != EEXIST)
			return -errno;
		log->dir_fd = openat(
			st->dir_fd, log->name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
		if (log->dir_fd < 0)
			return -errno;
	}
	log->fd = openat(log->dir_fd, "current",
		O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0640);
	if (log->fd < 0)
		return -errno;
	if (fstat(log->fd, &s) < 0 || !S_ISREG(s.st_mode)) {
		log->fd = fd_close(log->fd);
		return -EINVAL; /* somebody put a fifo there: it would block us */
	}
	st->total += (uint64_t)s.st_size - log->size; /* others may have changed it: believe it */
	log->size = (uint64_t)s.st_size;
	log_mend(st, log);
	return 0;
}

/* Removes the oldest rotated file of one unit. */
static void drop_oldest(struct store *st, struct unit_log *log)
{
	char name[SEQ_NAME_MAX], path[UNIT_NAME_MAX + SEQ_NAME_MAX + 2];
	struct rotated r = log->rotated[0];
	snprintf(path, sizeof(path), "%s/%s", log->name, seq_name(name, r.seq));
	(void)unlinkat(st->dir_fd, path, 0); /* gone already, or read-only: either way not ours */
	st->total -= r.size;
	log->n_rotated--;
	memmove(log->rotated, log->rotated + 1, log->n_rotated * sizeof(r));
}

static int log_rotate(struct store *st, struct unit_log *log)
{
	char name[SEQ_NAME_MAX];
	struct stat s;
	if (log->fd < 0) {
		int r = log_open_current(st, log);
		if (r < 0)
			return r;
	}
	if (fstat(log->fd, &s) < 0 ||
		renameat(log->dir_fd, "current", log->dir_fd, seq_name(name, log->next_seq)) < 0)
		return -errno;
	log_add_rotated(log, log->next_seq, &s);
	log->fd = fd_close(log->fd);
	log->size = 0;
	while (log->n_rotated > st->file_keep)
		drop_oldest(st, log);
	return 0;
}

/* The unit whose oldest rotated file is the oldest of all; NULL when there is none anywhere. */
static struct unit_log *find_oldest(struct store *st)
{
	struct unit_log *found = NULL;
	size_t pos = 0;
	void *v;
	while (map_next(&st->logs, &pos, NULL, &v)) {
		struct unit_log *log = v;
		if (log->n_rotated &&
			(!found || log->rotated[0].mtime_us < found->rotated[0].mtime_us))
			found = log;
	}
	return found;
}

static struct unit_log *find_largest(struct store *st)
{
	struct unit_log *found = NULL;
	size_t pos = 0;
	void *v;
	while (map_next(&st->logs, &pos, NULL, &v)) {
		struct unit_log *log = v;
		if (log->size && (!found || log->size > found->size))
			found = log;
	}
	return found;
}

/* Invariant 2: room for so many more bytes under the cap. Walks all units, but only at the cap. */
static void make_room(struct store *st, uint64_t more)
{
	while (st->total + more > st->total_max) {
		struct unit_log *log = find_oldest(st);
		if (!log) {
			log = find_largest(st);
			if (!log || log_rotate(st, log) < 0)
				return;
			if (!log->streams)
				store_release(log);
			if (!log->n_rotated)
				continue;
		}
		drop_oldest(st, log);
	}
}

/* Bytes of [data, data + size) that go into current now: whole lines; 0 = rotate first. */
static size_t fitting(
	const struct store *st, const struct unit_log *log, const char *data, size_t size)
{
	uint64_t room = log->size < st->file_max ? st->file_max - log->size : 0;
	if (size <= room)
		return size;
	const char *end = room ? memrchr(data, '\n', room) : NULL;
	if (end)
		return (size_t)(end - data) + 1;
	if (log->size)
		return 0;
	end = memchr(data, '\n', size); /* one line that no file has room for */
	return end ? (size_t)(end - data) + 1 : size;
}

/* Appends all of it or, on error, nothing beyond the last whole line; *ret_done counts bytes. */
static int append(
	struct store *st, struct unit_log *log, const char *data, size_t size, size_t *ret_done)
{
	size_t done = 0;
	int r = 0;
	while (done < size) {
		ssize_t n = write(log->fd, data + done, size - done);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0) {
			r = n < 0 ? -errno : -EIO;
			break;
		}
		done += (size_t)n;
	}
	if (r < 0) {
		const char *end = done ? memrchr(data, '\n', done) : NULL;
		size_t whole = end ? (size_t)(end - data) + 1 : 0;
		if (whole < done && ftruncate(log->fd, (off_t)(log->size + whole)) < 0)
			whole = done; /* read-only by now; log_mend() closes the line later */
		done = whole;
	}
	log->size += done;
	st->total += done;
	*ret_done = done;
	return r;
}

static int write_lines(
	struct store *st, struct unit_log *log, const char *data, size_t size, size_t *ret_done)
{
	*ret_done = 0;
	while (size) {
		int r = log->fd < 0 ? log_open_current(st, log) : 0;
		size_t n = r < 0 ? 0 : fitting(st, log, data, size), done = 0;
		if (r == 0 && !n)
			r = log_rotate(st, log);
		if (r == 0 && n) {
			if (st->total + n > st->total_max)
				make_room(st, n);
			/* making room may have rotated this very file */
			r = log->fd < 0 ? log_open_current(st, log) : 0;
			if (r == 0)
				r = append(st, log, data, n, &done);
		}
		*ret_done += done;
		data += done;
		size -= done;
		if (r < 0)
			return r;
	}
	return 0;
}

static size_t count_lines(const char *data, size_t size)
{
	size_t n = 0;
	for (const char *p = data, *end = data + size; (p = memchr(p, '\n', (size_t)(end - p)));
		p++)
		n++;
	return n;
}

/* The first good write after trouble says in the log itself what is missing there. */
static int write_gap(struct store *st, struct unit_log *log)
{
	char line[256], stamp[TIMESTAMP_MAX], since[TIMESTAMP_MAX];
	size_t done;
	int n = snprintf(line, sizeof(line), "%s d %llu lines lost since %s: %s\n",
		format_timestamp(stamp, now_wall_us()), (unsigned long long)log->dropped,
		format_timestamp(since, log->trouble_since_us), errno_name(log->error));
	return write_lines(st, log, line, (size_t)n, &done);
}

static void trouble_begin(struct store *st, struct unit_log *log, int error)
{
	store_release(log); /* the directory may have been replaced: core looks after it */
	st->wants_dir = true;
	if (!log->error) {
		log->trouble_since_us = now_wall_us();
		log->is_told = false;
		st->has_news = true;
	}
	log->error = error;
	log->retry_at_us = now_mono_us() + LOG_RETRY_US;
}

static void trouble_end(struct store *st, struct unit_log *log)
{
	snprintf(log->over_text, sizeof(log->over_text),
		"log is written again; %llu lines lost (%s)", (unsigned long long)log->dropped,
		errno_name(log->error));
	log->error = 0;
	log->dropped = 0;
	st->has_news = true;
}

void store_write(
	struct store *st, struct unit_log *log, const char *data, size_t size, size_t n_lines)
{
	size_t done = 0;
	int r = 0;
	if (!size || (st->dir_fd < 0 && !st->dir_error))
		return;
	if (log->error) {
		if (now_mono_us() < log->retry_at_us) {
			log->dropped += n_lines;
			return;
		}
		r = write_gap(st, log);
	}
	if (r == 0)
		r = write_lines(st, log, data, size, &done);
	if (r < 0) {
		trouble_begin(st, log, -r);
		log->dropped += n_lines - MIN(n_lines, count_lines(data, done));
	} else if (log->error) {
		trouble_end(st, log);
	}
}
