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
 */
#include "core/inner.h"

#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#define LOG_FILE_MAX  (10ULL * 1024 * 1024)
#define LOG_TOTAL_MAX (512ULL * 1024 * 1024)
#define LOG_KEEP      4
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
	ssize_t n = send_fds(c->logger_fd, f, sizeof(*f), &fd, fd >= 0 ? 1 : 0, 0);
	return n < 0 ? (int)n : 0;
}

static void on_logger(struct source *s, uint32_t events)
{
	struct core *c = container_of(s, struct core, logger_source);
	struct lg_frame f;
	size_t n_fds = 0;
	(void)events;
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
	if (f.kind == LG_TROUBLE)
		log_warn(f.name[0] ? f.name : NULL, "log: %s", f.text);
}

static void open_stream(struct core *c, struct unit *u, int read_fd)
{
	struct lg_frame f = {.kind = LG_OPEN, .stream = 'o', .to_console = c->logs_to_console};
	str_copy(f.name, u->name, sizeof(f.name));
	uc(u)->is_logged = send_frame(c, &f, read_fd) == 0;
}

static void send_sync(struct core *c)
{
	struct lg_frame f = {.kind = LG_SYNC, .number = ++c->log_sync};
	send_frame(c, &f, -1);
}

/* A logger that is just starting, or was killed, gets the question when it is there. */
bool logger_sync(struct core *c)
{
	if (!c->logger_wanted)
		return false;
	if (!c->log_sync_until_us)
		c->log_sync_until_us = now_boot_us() + LOG_SYNC_MAX;
	send_sync(c);
	core_arm(c);
	return true;
}

void logger_sync_over(struct core *c)
{
	c->log_sync_until_us = 0;
	if (c->control)
		control_logs_written(c->control);
}

/* The read end of a unit's pipe, reopened from the write end: a pipe is one file. */
static int read_end(int write_fd)
{
	char path[64];
	snprintf(path, sizeof(path), "/proc/self/fd/%d", write_fd);
	return open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
}

void logger_connected(struct core *c, int fd)
{
	struct lg_frame f = {.kind = LG_CONFIG,
		.to_console = c->logs_to_console,
		.file_max = c->is_log_volatile ? LOG_VOLATILE_FILE_MAX : LOG_FILE_MAX,
		.total_max = c->is_log_volatile ? LOG_VOLATILE_TOTAL_MAX : LOG_TOTAL_MAX,
		.file_keep = LOG_KEEP};
	loop_remove(&c->loop, &c->logger_source);
	fd_close(c->logger_fd);
	c->logger_fd = fd;
	loop_add(&c->loop, &c->logger_source, fd, EPOLLIN, PRIO_NORMAL, on_logger);
	str_copy(f.text, c->log_dir, sizeof(f.text));
	str_copy(f.name, c->log_dir, sizeof(f.name));
	send_frame(c, &f, -1);
	for (size_t i = 0; c->world && i < c->world->n_units; i++) {
		struct unit *u = c->world->units[i];
		if (uc(u)->log_fd < 0)
			continue;
		CLEANUP_CLOSE int rd = read_end(uc(u)->log_fd);
		if (rd >= 0)
			open_stream(c, u, rd);
	}
	if (c->log_sync_until_us)
		send_sync(c);
}

int logger_stream(struct core *c, struct unit *u)
{
	struct unit_core *x = uc(u);
	char name[KP_NAME_MAX];
	int p[2];
	if (!c->logger_wanted) {
		c->logger_wanted = true;
		keeper_role(c, ROLE_LOGGER, true);
	}
	if (x->log_fd >= 0)
		return x->log_fd;
	if (pipe2(p, O_CLOEXEC) < 0)
		return -1;
	x->log_fd = p[1];
	log_name(u, name);
	if (name[0])
		keeper_put(c, name, p[0]);
	open_stream(c, u, p[0]);
	fd_close(p[0]);
	return x->log_fd;
}

void logger_adopt(struct core *c, struct unit *u, int read_fd)
{
	struct unit_core *x = uc(u);
	char path[64];
	snprintf(path, sizeof(path), "/proc/self/fd/%d", read_fd);
	c->logger_wanted = true;
	x->log_fd = open(path, O_WRONLY | O_CLOEXEC);
	if (x->log_fd >= 0)
		open_stream(c, u, read_fd);
	fd_close(read_fd);
}

void logger_note(struct core *c, struct unit *u, const char *text)
{
	struct lg_frame f = {.kind = LG_NOTE};
	if (c->logger_fd < 0 || uc(u)->log_fd < 0)
		return;
	str_copy(f.name, u->name, sizeof(f.name));
	str_copy(f.text, text, sizeof(f.text));
	send_frame(c, &f, -1);
}
