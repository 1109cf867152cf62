/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The file of the audit log: chained lines (base/seal.c) that get to the disk without being waited for.
 *
 * Owns STATE-DIR/audit.log, its predecessors audit.log.FIRSTSEQ, its successor audit.new while that is made,
 * and the anchor RUNTIME-DIR/audit.head.
 * Invariants:
 *  1. Nothing here waits for a disk: lines are written to the page cache and fsync'ed behind by the
 *     kernel (io_submit), all that came meanwhile at once. Where that is not possible the write-back
 *     is begun at least.
 *  2. What cannot be written stops nobody: it is counted, said, and there is a line "gap" with the count
 *     as soon as one can be written again.
 *  3. The chain goes on over rotations and cores. The anchor and `status` hold the last line's hash, so
 *     that lines cut off at the end are missed.
 *  4. A line is written whole or not at all; half of one is cut off again.
 *  5. At every moment audit.log is there and has the newest lines, and no line is in none of the files: a
 *     rotation gives the old file its second name before the new one, begun already, takes its place. Who
 *     reads meanwhile sees the old file by both names, one inode.
 * Called by audit.c; the completion of a sync comes from the loop.
 */
#include "control/audit_file.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "control/json.h"
#include "stayd/stayd.h"

#define TAIL_MAX   (512 * 1024) /* of the log, looked at when it is opened */
#define ANCHOR_MAX 128
#define RETRY_US   (5 * USEC_PER_SEC) /* doubled up to */
#define RETRY_MAX  (600 * USEC_PER_SEC)
#define NAME       "audit.log"
#define NAME_NEW   "audit.new" /* not NAME.*, which are read */

struct audit_file {
	struct loop *loop;
	char *dir, *path;
	int fd, anchor_fd;
	uint64_t size, first_seq;
	uint64_t grow_to; /* a rotation that failed is tried again at this size */
	struct seal head;
	uint64_t synced_seq, syncing_seq;
	aio_context_t aio; /* 0: none */
	struct iocb iocb;
	struct source sync_source;
	bool is_syncing;
	int error;       /* why lines are being lost; 0 = they are not */
	uint64_t n_lost; /* since the last one that was written */
	uint64_t n_lost_ever, lost_since_us;
	uint64_t retry_us, pause_us; /* 0: nothing is lost */
	struct unfinished *unfinished; /* intents without an outcome, found at the opening */
	size_t n_unfinished, cap_unfinished;
};

/* ---- to the disk, behind ---- */

static void sync_begin(struct audit_file *f)
{
	struct iocb *list[] = {&f->iocb};
	if (f->is_syncing || f->fd < 0 || f->synced_seq == f->head.seq)
		return;
	f->iocb = (struct iocb){.aio_lio_opcode = IOCB_CMD_FDSYNC,
		.aio_fildes = (uint32_t)f->fd,
		.aio_flags = IOCB_FLAG_RESFD,
		.aio_resfd = (uint32_t)f->sync_source.fd};
	if (f->aio && syscall(SYS_io_submit, f->aio, 1L, list) == 1) {
		f->is_syncing = true;
		f->syncing_seq = f->head.seq;
		return;
	}
	(void)sync_file_range(f->fd, 0, 0, SYNC_FILE_RANGE_WRITE);
}

static void rotate_when_large(struct audit_file *f);

static void on_synced(struct source *s, uint32_t events UNUSED)
{
	struct audit_file *f = container_of(s, struct audit_file, sync_source);
	struct io_event done = {0};
	struct timespec now = {0};
	uint64_t n;
	if (read(s->fd, &n, sizeof(n)) < 0 ||
		syscall(SYS_io_getevents, f->aio, 0L, 1L, &done, &now) != 1)
		return;
	f->is_syncing = false;
	if (done.res == 0)
		f->synced_seq = f->syncing_seq;
	else
		log_warn(NULL, "%s: fsync: %s; the latest lines may not survive a power cut",
			f->path, errno_name((int)done.res));
	rotate_when_large(f);
	if (done.res == 0)
		sync_begin(f);
}

static void sync_open(struct audit_file *f)
{
	int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (fd < 0 || syscall(SYS_io_setup, 4L, &f->aio) < 0) {
		f->aio = 0;
		fd_close(fd);
		return;
	}
	(void)loop_add(f->loop, &f->sync_source, fd, EPOLLIN, PRIO_CONTROL, on_synced);
}

/* ---- files ---- */

/* A file of ours alone, never one that somebody laid in wait. */
static int open_own(const char *path, int flags)
{
	struct stat st;
	int fd = open(path, flags | O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_uid != geteuid() ||
		st.st_nlink != 1 || (st.st_mode & 077)) {
		fd_close(fd);
		return -EPERM;
	}
	return fd;
}

static void anchor_write(struct audit_file *f)
{
	char text[ANCHOR_MAX];
	if (f->anchor_fd < 0)
		return;
	memset(text, ' ', sizeof(text));
	int n = snprintf(text, sizeof(text), "%llu %s %016llx", (unsigned long long)f->head.seq,
		f->head.hash, (unsigned long long)hash_bytes(f->path, strlen(f->path)));
	text[n] = ' ';
	text[sizeof(text) - 1] = '\n';
	if (pwrite(f->anchor_fd, text, sizeof(text), 0) < 0)
		f->anchor_fd = fd_close(f->anchor_fd);
}

static bool anchor_read(const struct audit_file *f, struct seal *ret)
{
	char text[ANCHOR_MAX + 1] = "", *end;
	if (f->anchor_fd < 0 || pread(f->anchor_fd, text, ANCHOR_MAX, 0) < SEAL_HASH_HEX)
		return false;
	ret->seq = strtoull(text, &end, 10);
	if (*end != ' ' || strlen(end) < 1 + SEAL_HASH_HEX + 16)
		return false;
	str_copy(ret->hash, end + 1, sizeof(ret->hash));
	/* Of this log, not of one in another state directory. */
	return strtoull(end + 1 + SEAL_HASH_HEX, NULL, 16) == hash_bytes(f->path, strlen(f->path));
}

static void lost(struct audit_file *f, int error, unsigned n)
{
	if (n && !f->n_lost)
		f->lost_since_us = now_wall_us();
	if (f->error != error)
		log_error(NULL, "%s: %s; changes go on, what is not written is counted", f->path,
			errno_name(error));
	f->error = error;
	f->n_lost += n;
	f->n_lost_ever += n;
	if (!f->n_lost)
		return; /* nobody has asked for anything yet: no need to wake up for it */
	f->pause_us = f->retry_us ? f->pause_us : RETRY_US;
	if (f->retry_us <= now_mono_us()) {
		f->retry_us = now_mono_us() + f->pause_us;
		f->pause_us = MIN(2 * f->pause_us, RETRY_MAX);
	}
}

static int write_line(struct audit_file *f, const char *body)
{
	struct seal before = f->head;
	struct buf line = {0};
	seal_add(&f->head, &line, body);
	ssize_t n = write(f->fd, line.data, line.size);
	int r = n < 0 ? -errno : (size_t)n < line.size ? -ENOSPC : 0;
	if (r < 0)
		f->head = before;
	if (r == 0 || (n > 0 && ftruncate(f->fd, (off_t)f->size) < 0))
		f->size += (uint64_t)n;
	buf_done(&line);
	return r;
}

void audit_line_begin(struct buf *b, const char *kind)
{
	char t[TIMESTAMP_MAX];
	buf_printf(b, "\"kind\":\"%s\",\"time\":\"%s\",\"boot_us\":%llu", kind,
		format_timestamp(t, now_wall_us()), (unsigned long long)now_boot_us());
}

static int write_gap(struct audit_file *f)
{
	struct buf b = {0};
	char t[TIMESTAMP_MAX];
	audit_line_begin(&b, "gap");
	j_int(&b, "lost", (int64_t)f->n_lost);
	j_str(&b, "since", format_timestamp(t, f->lost_since_us));
	j_str(&b, "error", errno_name(f->error));
	int r = write_line(f, b.data);
	buf_done(&b);
	if (r < 0)
		return r;
	log_note(NULL, "%s: it can be written again; %llu lines are missing", f->path,
		(unsigned long long)f->n_lost);
	f->n_lost = 0;
	return 0;
}

static int open_log(struct audit_file *f);

/* Makes it writable if it is not; the lines lost are owned up to first. */
static int make_ready(struct audit_file *f)
{
	int r = f->fd < 0 ? open_log(f) : 0;
	if (r == 0 && f->n_lost)
		r = write_gap(f);
	if (r < 0)
		return r;
	f->error = 0;
	f->retry_us = 0;
	return 0;
}

uint64_t audit_file_append(struct audit_file *f, const struct buf *body)
{
	int r = make_ready(f);
	if (r == 0)
		r = write_line(f, body->data);
	if (r < 0) {
		lost(f, r, 1);
		return 0;
	}
	uint64_t seq = f->head.seq;
	anchor_write(f);
	sync_begin(f);
	rotate_when_large(f);
	return seq;
}

uint64_t audit_file_retry_at(const struct audit_file *f)
{
	return f->retry_us ? f->retry_us : USEC_INFINITY;
}

void audit_file_retry(struct audit_file *f)
{
	int r = make_ready(f);
	if (r < 0)
		lost(f, r, 0);
	anchor_write(f);
	sync_begin(f);
}

/* ---- rotation ---- */

static int name_order(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* The rotated files, the oldest first. */
static void rotated(const struct audit_file *f, struct strv *ret_names)
{
	DIR *d = opendir(f->dir);
	for (struct dirent *e; d && (e = readdir(d));)
		if (startswith(e->d_name, NAME "."))
			strv_add(ret_names, e->d_name);
	if (d)
		closedir(d);
	if (ret_names->n)
		qsort(ret_names->v, ret_names->n, sizeof(*ret_names->v), name_order);
}

static void remove_oldest(const struct audit_file *f)
{
	struct strv names = {0};
	rotated(f, &names);
	for (size_t i = 0; i + AUDIT_FILES_MAX - 1 < names.n; i++) {
		CLEANUP_FREE char *path = xasprintf("%s/%s", f->dir, names.v[i]);
		(void)unlink(path);
	}
	strv_done(&names);
}

static int write_begin(struct audit_file *f, const char *why, const char *text)
{
	struct buf b = {0};
	struct id128 boot;
	char hex[ID128_HEX];
	boot_id(&boot);
	audit_line_begin(&b, "begin");
	j_str(&b, "why", why);
	if (text[0])
		j_str(&b, "text", text);
	j_int(&b, "core_pid", getpid());
	j_str(&b, "boot_id", id128_hex(hex, &boot));
	j_str(&b, "version", STAYD_VERSION);
	int r = write_line(f, b.data);
	buf_done(&b);
	return r;
}

/* The file that comes after this one, with its first line. */
static int new_begin(struct audit_file *f, const char *path)
{
	(void)unlink(path); /* a core died over it */
	f->fd = open_own(path, O_APPEND | O_EXCL);
	f->size = 0;
	return f->fd < 0 ? f->fd : write_begin(f, "rotation", "");
}

static bool second_name(const char *path, const char *then)
{
	if (linkat(AT_FDCWD, path, AT_FDCWD, then, 0) == 0)
		return true;
	return errno == EEXIST && unlink(then) == 0 &&
	       linkat(AT_FDCWD, path, AT_FDCWD, then, 0) == 0;
}

/* The old file keeps its name until the new one has it; where a file system has no hard links nobody has it
 * for a moment. */
static int new_take_place(const char *path, const char *new, const char *then)
{
	bool has_both = second_name(path, then);
	if (!has_both && rename(path, then) < 0)
		return -errno;
	if (rename(new, path) == 0)
		return 0;
	int r = -errno;
	(void)(has_both ? unlink(then) : rename(then, path));
	return r;
}

/* When all of it is on the disk; or when that does not come about at twice the size. */
static void rotate_when_large(struct audit_file *f)
{
	bool is_synced = f->synced_seq == f->head.seq || !f->aio;
	if (f->fd < 0 || f->size < MAX((uint64_t)AUDIT_FILE_MAX, f->grow_to) || f->is_syncing ||
		(!is_synced && f->size < 2 * (uint64_t)AUDIT_FILE_MAX))
		return;
	CLEANUP_FREE char *new = xasprintf("%s/%s", f->dir, NAME_NEW);
	CLEANUP_FREE char *then =
		xasprintf("%s.%020llu", f->path, (unsigned long long)f->first_seq);
	struct seal head = f->head;
	uint64_t size = f->size;
	int fd = f->fd, r = new_begin(f, new);
	if (r == 0)
		r = new_take_place(f->path, new, then);
	if (r == 0) {
		fd_close(fd);
		f->grow_to = 0;
		f->first_seq = head.seq + 1;
		anchor_write(f);
		remove_oldest(f);
		return;
	}
	log_warn(NULL, "%s cannot become %s: %s; it grows on", f->path, then, errno_name(r));
	fd_close(f->fd);
	f->fd = fd;
	f->head = head;
	f->size = size;
	f->grow_to = size + AUDIT_FILE_MAX / 8; /* no word at every line */
	(void)unlink(new);
}

/* ---- opening: what is there, and what the core before left open ---- */

static uint64_t number_at(const char *line, size_t size, const char *key)
{
	const char *p = memmem(line, size, key, strlen(key));
	return p ? strtoull(p + strlen(key), NULL, 10) : 0;
}

static bool is_kind(const char *line, size_t size, const char *kind)
{
	char key[40];
	int n = snprintf(key, sizeof(key), "\",\"kind\":\"%s\"", kind);
	return memmem(line, MIN(size, (size_t)160), key, (size_t)n) != NULL;
}

static void unfinished_drop(struct audit_file *f, uint64_t seq)
{
	for (size_t i = 0; i < f->n_unfinished; i++)
		if (f->unfinished[i].seq == seq) {
			f->unfinished[i] = f->unfinished[--f->n_unfinished];
			return;
		}
}

/* Who asked comes before it, as strings in which a quote is escaped. */
static void verb_of(const char *line, size_t size, char *ret, size_t ret_size)
{
	static const char key[] = "\"verb\":\"";
	const char *p = memmem(line, size, key, sizeof(key) - 1),
		   *verb = p ? p + sizeof(key) - 1 : line,
		   *end = p ? memchr(verb, '"', size - (size_t)(verb - line)) : line;
	size_t n = end ? MIN((size_t)(end - verb), ret_size - 1) : 0;
	memcpy(ret, verb, n);
	ret[n] = '\0';
}

/* Intents without an outcome; also of cores before the last one, which may have died before it said so. */
static void find_unfinished(struct audit_file *f, const struct buf *tail)
{
	const char *end;
	for (const char *p = tail->data;
		(end = memchr(p, '\n', tail->size - (size_t)(p - tail->data))); p = end + 1) {
		size_t n = (size_t)(end - p);
		if (is_kind(p, n, "intent")) {
			GROW(f->unfinished, f->n_unfinished, f->cap_unfinished);
			struct unfinished *u = &f->unfinished[f->n_unfinished++];
			u->seq = number_at(p, MIN(n, (size_t)32), "\"seq\":");
			verb_of(p, n, u->verb, sizeof(u->verb));
		} else if (is_kind(p, n, "outcome")) {
			unfinished_drop(f, number_at(p, n, "\"of\":"));
		}
	}
}

/* The last whole line; what stands behind it was never finished. Bytes to cut off. */
static size_t find_end(struct audit_file *f, const struct buf *tail, struct buf *why)
{
	char prev[SEAL_HASH_HEX];
	size_t end = tail->size;
	while (end && tail->data[end - 1] != '\n')
		end--;
	size_t from = end ? end - 1 : 0;
	while (from && tail->data[from - 1] != '\n')
		from--;
	if (end && !seal_read(tail->data + from, end - 1 - from, &f->head, prev))
		buf_add_str(why, "the last line is broken; ");
	return tail->size - end;
}

static void cut_off(struct audit_file *f, size_t n, struct buf *why)
{
	if (!n || ftruncate(f->fd, (off_t)(f->size - n)) < 0)
		return;
	f->size -= n;
	buf_printf(why, "%zu bytes of a line that was never finished were cut off; ", n);
}

static void check_anchor(struct audit_file *f, struct buf *why)
{
	struct seal anchor;
	if (!anchor_read(f, &anchor) || f->head.seq > anchor.seq)
		return; /* the core before died between line and anchor */
	if (f->head.seq == anchor.seq && streq(f->head.hash, anchor.hash))
		return;
	buf_printf(why, "line %llu with hash %s was written and is not there; ",
		(unsigned long long)anchor.seq, anchor.hash);
	f->head.seq = MAX(f->head.seq, anchor.seq); /* no number is given twice */
}

static int read_end(int fd, uint64_t size, size_t max, struct buf *tail)
{
	size_t n = MIN(size, (uint64_t)max);
	buf_reserve(tail, n + 1);
	if (pread(fd, tail->data, n, (off_t)(size - n)) != (ssize_t)n)
		return -EIO;
	tail->size = n;
	tail->data[n] = '\0';
	return 0;
}

static int read_tail(struct audit_file *f, struct buf *tail)
{
	char first[32] = "";
	if (read_end(f->fd, f->size, TAIL_MAX, tail) < 0 ||
		pread(f->fd, first, sizeof(first) - 1, 0) < 0)
		return -EIO;
	f->first_seq = number_at(first, strlen(first), "\"seq\":");
	return 0;
}

/* What of the last TAIL_MAX bytes is in the file before this one. */
static void find_unfinished_before(struct audit_file *f)
{
	struct strv names = {0};
	struct buf tail = {0};
	struct stat st;
	if (f->size < TAIL_MAX)
		rotated(f, &names);
	if (names.n) {
		CLEANUP_FREE char *path = xasprintf("%s/%s", f->dir, names.v[names.n - 1]);
		CLEANUP_CLOSE int fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
		if (fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode) &&
			read_end(fd, (uint64_t)st.st_size, TAIL_MAX - f->size, &tail) == 0)
			find_unfinished(f, &tail);
	}
	buf_done(&tail);
	strv_done(&names);
}

/* From the newest rotated file, when there is no current one. */
static void read_rotated_end(struct audit_file *f, struct buf *why)
{
	struct strv names = {0};
	struct buf text = {0};
	rotated(f, &names);
	if (names.n) {
		CLEANUP_FREE char *path = xasprintf("%s/%s", f->dir, names.v[names.n - 1]);
		if (read_file(AT_FDCWD, path, 4 * AUDIT_FILE_MAX, &text) == 0)
			(void)find_end(f, &text, why);
	}
	buf_done(&text);
	strv_done(&names);
}

/* A core that died in a rotation leaves the old file with both names, or a new one that nobody has seen. */
static void undo_rotation(const struct audit_file *f)
{
	CLEANUP_FREE char *new = xasprintf("%s/%s", f->dir, NAME_NEW);
	struct strv names = {0};
	struct stat now, then;
	(void)unlink(new);
	rotated(f, &names);
	for (size_t i = 0; i < names.n; i++) {
		CLEANUP_FREE char *path = xasprintf("%s/%s", f->dir, names.v[i]);
		if (lstat(f->path, &now) == 0 && lstat(path, &then) == 0 &&
			now.st_dev == then.st_dev && now.st_ino == then.st_ino)
			(void)unlink(path);
	}
	strv_done(&names);
}

static int open_log(struct audit_file *f)
{
	struct buf tail = {0}, why = {0};
	struct seal known = f->head;
	undo_rotation(f);
	int fd = open_own(f->path, O_APPEND), r = 0;
	if (fd < 0)
		return fd;
	off_t end = lseek(fd, 0, SEEK_END);
	f->fd = fd;
	f->size = end > 0 ? (uint64_t)end : 0;
	if (f->size)
		r = read_tail(f, &tail);
	if (r == 0 && f->size)
		cut_off(f, find_end(f, &tail, &why), &why);
	else if (r == 0)
		read_rotated_end(f, &why);
	if (known.seq)
		f->head = known; /* it was open before: what we wrote counts */
	else if (r == 0) {
		find_unfinished_before(f);
		if (tail.size)
			find_unfinished(f, &tail);
	}
	check_anchor(f, &why);
	if (f->size == 0)
		f->first_seq = f->head.seq + 1;
	if (why.size)
		log_error(NULL, "%s: %ssee stayctl audit --verify", f->path, why.data);
	if (r == 0)
		r = write_begin(f, "start", strna(why.data));
	if (r < 0)
		f->fd = fd_close(fd);
	buf_done(&tail);
	buf_done(&why);
	return r;
}

struct audit_file *audit_file_open(struct loop *l, const char *state_dir, const char *runtime_dir,
	void (*unfinished)(void *arg, struct audit_file *f, const struct unfinished *u), void *arg)
{
	struct audit_file *f = xcalloc(1, sizeof(*f));
	f->loop = l;
	f->fd = f->anchor_fd = f->sync_source.fd = -1;
	f->dir = xstrdup(state_dir);
	f->path = xasprintf("%s/%s", state_dir, NAME);
	seal_init(&f->head);
	if (runtime_dir && runtime_dir[0] == '/') {
		CLEANUP_FREE char *anchor = xasprintf("%s/audit.head", runtime_dir);
		f->anchor_fd = MAX(open_own(anchor, 0), -1);
	}
	sync_open(f);
	int r = make_ready(f);
	if (r < 0)
		lost(f, r, 0);
	for (size_t i = 0; i < f->n_unfinished; i++)
		unfinished(arg, f, &f->unfinished[i]);
	f->n_unfinished = 0;
	anchor_write(f);
	sync_begin(f);
	return f;
}

void audit_file_close(struct audit_file *f)
{
	if (!f)
		return;
	loop_remove(f->loop, &f->sync_source);
	if (f->aio)
		(void)syscall(SYS_io_destroy, f->aio);
	fd_close(f->sync_source.fd);
	fd_close(f->fd);
	fd_close(f->anchor_fd);
	free(f->unfinished);
	free(f->path);
	free(f->dir);
	free(f);
}

void audit_file_json(struct buf *b, const struct audit_file *f)
{
	j_str(b, "path", f ? f->path : NULL);
	if (!f)
		return;
	j_int(b, "seq", (int64_t)f->head.seq);
	j_str(b, "head", f->head.hash);
	j_int(b, "synced_seq", (int64_t)f->synced_seq);
	j_int(b, "lost", (int64_t)f->n_lost_ever);
	j_str(b, "error", f->error ? errno_name(f->error) : "");
}
