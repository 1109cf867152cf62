/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Owns the role processes, core among them: starts them with their links, and again when they end.
 *
 *  1. A wanted role that is not alive is started at its time, again and again (never gives up).
 *  2. Core's end of a role's link is kept as long as the role lives: core may come and go.
 */
#include "private.h"

#include <sys/socket.h>
#include <sys/wait.h>

#define FAILED_US (100 * USEC_PER_MSEC) /* before the next try when a start failed */

static const char *const names[] = {"keeper", "core", "launcher", "logger", "net", "web"};

static int pair_open(int32_t fds[2])
{
	return fds[0] || socketpair(AF_UNIX, SOCK_SEQPACKET, 0, fds) == 0 ? 0 : -errno;
}

static void become(enum role r, int end)
{
	static char option[32] = "--role=";
	const int up = r == ROLE_CORE       ? end
		       : r == ROLE_LAUNCHER ? table.kept.words[1]
					    : table.kept.leash[1];
	const int fds[] = {up, end}, program = table.role[r].program_fd ?: table.kept.self_fd;
	str_copy(option + 7, names[r], sizeof(option) - 7);
	K.args[1] = option;
	(void)setpgid(0, 0); /* Ctrl-C of a terminal is for keeper alone, which tells core */
	int e = exec_with_fds(program, K.args, fds, r == ROLE_CORE ? 1 : 2);
	say_line("cannot execute %s: %s", names[r], errno_name(e));
	_exit(EXIT_EXEC);
}

/* 0 or -errno, and then nothing is left open. */
static int spawn(enum role r)
{
	int32_t link[2] = {0, 0};
	int on = 1, e;
	if ((e = pair_open(table.kept.words)) < 0 || (e = pair_open(table.kept.leash)) < 0 ||
		(e = pair_open(link)) < 0)
		return e;
	pid_t pid = setsockopt(table.kept.words[0], SOL_SOCKET, SO_PASSCRED, &on, sizeof(on)) < 0
			    ? -1
			    : fork();
	if (pid < 0) {
		e = -errno;
		drop_fd(&link[0]);
		drop_fd(&link[1]);
		return e;
	}
	if (pid == 0)
		become(r, link[1]);
	struct row *row = &table.row[r];
	row_begin(row, pid);
	row->time_us = now_boot_us();
	row->is_stale = 0;
	row->fd = link[r == ROLE_CORE];
	if (r == ROLE_CORE)
		table.kept.core_link = link[0];
	else
		drop_fd(&link[1]);
	news_add(row);
	return 0;
}

static void start_later(enum role r, uint64_t first_us)
{
	struct role_state *s = &table.role[r];
	s->start_at_us = now_mono_us() + s->backoff_us;
	s->backoff_us = MIN(MAX(s->backoff_us * 2, first_us), timing.backoff_max_us);
}

static void start(enum role r)
{
	int e = spawn(r);
	if (e < 0) {
		say_line("cannot start %s: %s", names[r], errno_name(e));
		table.role[r].backoff_us = MAX(table.role[r].backoff_us, FAILED_US);
		start_later(r, 0);
	} else if (r == ROLE_CORE) {
		table.kept.cores++;
		K.look_at_us = now_mono_us() + timing.hang_us / 2;
	}
}

void role_ended(enum role r, int wait_status)
{
	bool is_signal = WIFSIGNALED(wait_status);
	drop_fd(&table.row[r].fd);
	if (r == ROLE_CORE)
		core_gone();
	if (now_boot_us() - table.row[r].time_us >= timing.settled_us)
		table.role[r].backoff_us = 0;
	if (!table.role[r].is_wanted)
		return;
	K.crashes += r == ROLE_CORE;
	say_line("%s ended (%s %d), starting it again in %d ms", names[r],
		is_signal ? "signal" : "status",
		is_signal ? WTERMSIG(wait_status) : WEXITSTATUS(wait_status),
		(int)(table.role[r].backoff_us / USEC_PER_MSEC));
	start_later(r, (r == ROLE_CORE ? 50 : 100) * USEC_PER_MSEC);
}

void role_asked(const struct kp_frame *f, int *fd)
{
	if (f->role <= ROLE_CORE || f->role >= ROLE_MAX || K.stop) {
		core_refuse(KP_ROLE, K.stop ? -EBUSY : -EINVAL, f);
		return;
	}
	struct role_state *s = &table.role[f->role];
	s->is_wanted = f->status != 0;
	if (*fd > 0) {
		drop_fd(&s->program_fd);
		s->program_fd = *fd;
		*fd = 0;
	}
}

void roles_tick(uint64_t now, uint64_t *next)
{
	for (enum role r = ROLE_CORE; r < ROLE_MAX; r++) {
		bool is_due = table.role[r].is_wanted && table.row[r].code;
		if (is_due && table.role[r].start_at_us <= now)
			start(r);
		if (is_due)
			earliest(next, table.role[r].start_at_us);
	}
}
