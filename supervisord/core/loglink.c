/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Core's side of the link to the logger.
 *
 * One pipe per unit, for as long as the unit is known. The read end is deposited with keeper, so
 * that neither a dead logger nor a dead core breaks a service's output; the write end stays here
 * and is handed to each process that is started.
 *
 * Standard output and standard error share it: lines stay in the order they were written, which two
 * pipes cannot promise, and a unit costs three descriptors (here, keeper, logger) instead of six. So
 * every line of a service is marked 'o'; StandardError=append:FILE keeps errors apart.
 *
 *  1. Nothing here blocks: a logger that hangs on its disk must not stop who decides. What it has to
 *     be told is state (the configuration, a bit per unit) and is told when there is room.
 *  2. Notes are the exception, a queue: NOTES_MAX of them wait for room or for the next logger,
 *     further ones are dropped and counted. They are in the daemon's own log in any case.
 */
#include "control/control.h"
#include "core/inner.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>

#define LOG_FILE_MAX  (10ULL * 1024 * 1024)
#define LOG_TOTAL_MAX (512ULL * 1024 * 1024)
#define LOG_KEEP      4
#define NOTES_MAX     256
#define LOG_SYNC_MAX  (1 * USEC_PER_SEC)
/* Where the directory is a container's small tmpfs: */
#define LOG_VOLATILE_FILE_MAX  (1024ULL * 1024)
#define LOG_VOLATILE_TOTAL_MAX (8ULL * 1024 * 1024)

static void log_name(struct unit *u, char out[KP_NAME_MAX])
{
	if (uc(u)->slot == UINT32_MAX)
		out[0] = '\0';
	else
		snprintf(out, KP_NAME_MAX, "log/%u", uc(u)->slot);
}

static int send_frame(struct core *c, struct lg_frame *f, int fd)
{
	f->build = WIRE_BUILD;
	if (c->logger_fd < 0)
		return -ENOTCONN;
	ssize_t n = send_fds(c->logger_fd, f, sizeof(*f), &fd, fd >= 0 ? 1 : 0, MSG_DONTWAIT);
	return n < 0 ? (int)n : 0;
}

/* ---- what it is told ----------------------------------------------------------------------------- */

static struct note {
	struct unit *unit;
	char text[sizeof(((struct lg_frame *)0)->text)];
} * notes; /* ring of NOTES_MAX, made when the first note has to wait */
static unsigned n_notes, first_note, notes_dropped;
static bool is_config_due, is_sync_due;
static size_t n_streams_due; /* units with a pipe that the logger was not told of */

/* The read end of a unit's pipe, reopened from the write end: a pipe is one file. */
static int read_end(int write_fd)
{
	char path[64];
	snprintf(path, sizeof(path), "/proc/self/fd/%d", write_fd);
	return open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
}

static int send_config(struct core *c)
{
	struct lg_frame f = {.kind = LG_CONFIG,
		.to_console = c->logs_to_console,
		.file_max = c->is_log_volatile ? LOG_VOLATILE_FILE_MAX : LOG_FILE_MAX,
		.total_max = c->is_log_volatile ? LOG_VOLATILE_TOTAL_MAX : LOG_TOTAL_MAX,
		.file_keep = LOG_KEEP};
	CLEANUP_CLOSE int fd = logdir_open(c);
	f.number = fd < 0 ? (uint64_t)-fd : 0;
	return send_frame(c, &f, fd);
}

/* read_fd: -1 = there is none open. */
static int send_stream(struct core *c, struct unit *u, int read_fd)
{
	struct lg_frame f = {.kind = LG_OPEN, .stream = 'o', .to_console = c->logs_to_console};
	CLEANUP_CLOSE int own = read_fd < 0 ? read_end(uc(u)->log_fd) : -1;
	int rd = read_fd < 0 ? own : read_fd;
	str_copy(f.name, u->name, sizeof(f.name));
	int r = rd < 0 ? 0 : send_frame(c, &f, rd);
	if (rd < 0)
		log_error(u->name, "cannot open its log pipe: %s", errno_name(errno));
	if (r == 0) {
		uc(u)->is_logged = true;
		n_streams_due--;
	}
	return r;
}

static int send_note(struct core *c, struct unit *u, const char *text)
{
	struct lg_frame f = {.kind = LG_NOTE};
	str_copy(f.name, u->name, sizeof(f.name));
	str_copy(f.text, text, sizeof(f.text));
	return send_frame(c, &f, -1);
}

static int send_streams(struct core *c)
{
	int r = 0;
	for (size_t i = 0; n_streams_due && r == 0 && c->world && i < c->world->n_units; i++) {
		struct unit *u = c->world->units[i];
		if (uc(u)->log_fd >= 0 && !uc(u)->is_logged)
			r = send_stream(c, u, -1);
	}
	return r;
}

static int send_notes(struct core *c)
{
	int r = 0;
	while (n_notes && (r = send_note(c, notes[first_note].unit, notes[first_note].text)) == 0) {
		first_note = (first_note + 1) % NOTES_MAX;
		n_notes--;
	}
	if (!n_notes && notes_dropped) {
		log_warn(NULL, "the logger was away or slow: %u notes are not in units' logs",
			notes_dropped);
		notes_dropped = 0;
	}
	return r;
}

static int send_sync(struct core *c)
{
	struct lg_frame f = {.kind = LG_SYNC, .number = c->log_sync};
	int r = is_sync_due ? send_frame(c, &f, -1) : 0;
	is_sync_due = is_sync_due && r < 0;
	return r;
}

/* In this order: a logger keeps what it reads only once it knows where to. */
static void flush(struct core *c)
{
	int r = is_config_due ? send_config(c) : 0;
	if (r == 0) {
		is_config_due = false;
		r = send_streams(c);
	}
	if (r == 0)
		r = send_notes(c);
	if (r == 0)
		r = send_sync(c);
	/* On other errors it is gone: everything is said again to the next one. */
	if (c->logger_source.is_added)
		loop_modify(
			&c->loop, &c->logger_source, r == -EAGAIN ? EPOLLIN | EPOLLOUT : EPOLLIN);
}

/* A logger that is just starting, or was killed, gets the question when it is there. */
bool logger_sync(struct core *c)
{
	if (!c->logger_wanted)
		return false;
	if (!c->log_sync_until_us)
		c->log_sync_until_us = now_mono_us() + LOG_SYNC_MAX;
	c->log_sync++;
	is_sync_due = true;
	flush(c);
	core_arm(c);
	return true;
}

void logger_sync_over(struct core *c)
{
	c->log_sync_until_us = 0;
	if (c->control)
		control_logs_written(c->control);
}

/* ---- the link ------------------------------------------------------------------------------------- */

static void on_logger(struct source *s, uint32_t events)
{
	struct core *c = container_of(s, struct core, logger_source);
	struct lg_frame f;
	size_t n_fds = 0;
	if (events & EPOLLOUT)
		flush(c);
	ssize_t n = recv_fds(c->logger_fd, &f, sizeof(f), NULL, &n_fds, MSG_DONTWAIT);
	if (n == -EAGAIN)
		return;
	if (n != sizeof(f) || f.build != WIRE_BUILD) {
		loop_remove(&c->loop, &c->logger_source);
		c->logger_fd = fd_close(c->logger_fd);
		return;
	}
	f.name[sizeof(f.name) - 1] = f.text[sizeof(f.text) - 1] = '\0';
	if (f.kind == LG_SYNCED && f.number == c->log_sync)
		logger_sync_over(c);
	if (f.kind == LG_DIR) {
		is_config_due = true;
		flush(c);
	}
	if (f.kind == LG_TROUBLE) {
		log_warn(f.name[0] ? f.name : NULL, "log: %s", f.text);
		CLEANUP_FREE char *text =
			xasprintf("%s%slog: %s", f.name, f.name[0] ? ": " : "", f.text);
		str_copy(c->trouble[TROUBLE_LOG], f.number ? "" : text, TROUBLE_TEXT_MAX);
	}
}

void logger_connected(struct core *c, int fd)
{
	loop_remove(&c->loop, &c->logger_source);
	fd_close(c->logger_fd);
	c->logger_fd = fd;
	loop_add(&c->loop, &c->logger_source, fd, EPOLLIN, PRIO_NORMAL, on_logger);
	is_config_due = true;
	is_sync_due = c->log_sync_until_us != 0;
	n_streams_due = 0;
	for (size_t i = 0; c->world && i < c->world->n_units; i++) {
		struct unit_core *x = uc(c->world->units[i]);
		x->is_logged = false;
		n_streams_due += x->log_fd >= 0;
	}
	flush(c);
}

/* ---- one unit -------------------------------------------------------------------------------------- */

static void stream_made(struct core *c, struct unit *u, int write_fd, int read_fd)
{
	struct stat st;
	uc(u)->kept.log_inode = fstat(write_fd, &st) == 0 ? st.st_ino : 0;
	uc(u)->log_fd = write_fd;
	uc(u)->is_logged = false;
	n_streams_due++;
	if (!is_config_due && n_streams_due == 1 && !n_notes && send_stream(c, u, read_fd) == 0)
		return;
	flush(c);
}

static void want_logger(struct core *c)
{
	if (!c->logger_wanted) {
		c->logger_wanted = true;
		keeper_role(c, ROLE_LOGGER, true);
	}
}

/* The end that a service gets can be read, too: as long as it has it the pipe has a reader, and when
 * keeper, core and logger are all gone a full pipe makes it wait, not die of SIGPIPE. Without /proc it
 * is a plain write end. */
static int service_end(int fd)
{
	char path[64];
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	int both = open(path, O_RDWR | O_CLOEXEC);
	return both >= 0 ? both : fcntl(fd, F_DUPFD_CLOEXEC, 0);
}

int logger_stream(struct core *c, struct unit *u)
{
	struct unit_core *x = uc(u);
	char name[KP_NAME_MAX];
	int p[2];
	want_logger(c);
	if (x->log_fd >= 0)
		return x->log_fd;
	if (pipe2(p, O_CLOEXEC) < 0)
		return -1;
	int end = service_end(p[1]);
	if (end >= 0) {
		fd_close(p[1]);
		p[1] = end;
	}
	log_name(u, name);
	if (name[0])
		keeper_put(c, name, p[0]);
	stream_made(c, u, p[1], p[0]);
	fd_close(p[0]); /* not before: without a reader the write end is of no use */
	return x->log_fd;
}

void logger_adopt(struct core *c, struct unit *u, int read_fd)
{
	char path[64];
	snprintf(path, sizeof(path), "/proc/self/fd/%d", read_fd);
	c->logger_wanted = true;
	/* Regained already, when a core before us died while it took over. */
	int fd = uc(u)->log_fd < 0 ? open(path, O_RDWR | O_CLOEXEC) : -1;
	if (fd >= 0)
		stream_made(c, u, fd, read_fd);
	fd_close(read_fd);
}

/* Opened as what it was when it was looked at: the process may put anything in its place, also what it
 * could not open itself. */
static int open_pipe(int dir, const char *entry, uint64_t inode)
{
	char path[64];
	struct stat st;
	CLEANUP_CLOSE int seen = openat(dir, entry, O_PATH | O_CLOEXEC);
	if (seen < 0 || fstat(seen, &st) < 0)
		return -errno;
	if (!S_ISFIFO(st.st_mode) || st.st_ino != inode)
		return -ENOENT;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", seen);
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	return fd < 0 ? -errno : fd;
}

/* The unit's pipe among the descriptors of a process; -ENOENT: it does not have it (any more). */
static int find_pipe(pid_t pid, uint64_t inode)
{
	char dir[64], want[64];
	int r = -ENOENT;
	snprintf(dir, sizeof(dir), "/proc/%d/fd", (int)pid);
	snprintf(want, sizeof(want), "pipe:[%llu]", (unsigned long long)inode);
	DIR *d = opendir(dir);
	if (!d)
		return -errno;
	for (struct dirent *e; r == -ENOENT && (e = readdir(d));) {
		char target[64];
		ssize_t n = readlinkat(dirfd(d), e->d_name, target, sizeof(target) - 1);
		target[MAX(n, 0)] = '\0';
		if (!streq(target, want))
			continue;
		r = open_pipe(dirfd(d), e->d_name, inode);
	}
	closedir(d);
	return r;
}

/* After the death of a keeper: its deposit went with it, but whoever writes has the pipe. */
void logger_regain(struct core *c, struct unit *u, pid_t pid)
{
	char name[KP_NAME_MAX];
	if (!uc(u)->kept.log_inode || uc(u)->log_fd >= 0)
		return;
	int fd = find_pipe(pid, uc(u)->kept.log_inode);
	if (fd == -ENOENT)
		return; /* it does not write there */
	if (fd < 0) {
		log_error(u->name,
			"pid %d: cannot take over its output (%s; that needs CAP_SYS_PTRACE or its"
			" uid): restart it, or it waits once its pipe is full",
			pid, errno_name(fd));
		return;
	}
	want_logger(c);
	log_name(u, name);
	if (name[0])
		keeper_put(c, name, fd);
	logger_adopt(c, u, fd);
}

void logger_note(struct core *c, struct unit *u, const char *text)
{
	if (uc(u)->log_fd < 0)
		return;
	if (!n_notes && !n_streams_due && !is_config_due && send_note(c, u, text) == 0)
		return;
	if (n_notes == NOTES_MAX) {
		notes_dropped++;
		return;
	}
	if (!notes)
		notes = xcalloc(NOTES_MAX, sizeof(*notes));
	struct note *n = &notes[(first_note + n_notes++) % NOTES_MAX];
	n->unit = u;
	str_copy(n->text, text, sizeof(n->text));
	if (c->logger_source.is_added)
		loop_modify(&c->loop, &c->logger_source, EPOLLIN | EPOLLOUT);
}
