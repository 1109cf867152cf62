/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Owns what runs: the role processes, core among them, and our own program.
 *
 *  1. A wanted role that is not alive is started at its time, again and again (never gives up).
 *  2. Core's end of a role's link is kept as long as the role lives: core may come and go.
 *  3. Core has had a new program tried (--role=trial) before it asks. All in the table goes over as it is;
 *     core is replaced at once, the other roles when the new core says so.
 *  4. The previous program stays open until a new core is up and lives timing.prove_us after its hello;
 *     else it comes back, as soon as that can be, with everything, and tells its core.
 */
#include "private.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/wait.h>

#define FAILED_US    (100 * USEC_PER_MSEC) /* before the next try when a start failed */
#define PROVE_STARTS 3 /* of the new program's core; instead of the next one, the way back */

extern char **environ;

static const char *const names[] = {"keeper", "core", "launcher", "logger", "net", "web"};

/* Who speaks into it is said by the kernel. */
static int pair_open(int32_t fds[2])
{
	int on = 1;
	if (fds[0])
		return 0;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET, 0, fds) == 0 &&
		setsockopt(fds[0], SOL_SOCKET, SO_PASSCRED, &on, sizeof(on)) == 0)
		return 0;
	on = errno;
	drop_fd(&fds[0]);
	drop_fd(&fds[1]);
	return -on;
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

static int spawn(enum role r)
{
	int32_t link[2] = {0, 0};
	int e = table.kept.self_fd ? 0 : program_open(K.args[0]);
	e = e < 0 ? e : pair_open(table.kept.words);
	e = e < 0 ? e : pair_open(table.kept.leash);
	e = e < 0 ? e : pair_open(link);
	pid_t pid = e < 0 ? -1 : fork();
	if (pid == 0)
		become(r, link[1]);
	if (pid < 0) {
		e = e < 0 ? e : -errno;
		drop_fd(&link[0]);
		drop_fd(&link[1]);
		return e;
	}
	row_begin(&table.row[r], pid, link[r == ROLE_CORE]);
	if (r == ROLE_CORE)
		table.kept.core_link = link[0];
	else
		drop_fd(&link[1]);
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
	if (now_mono_us() - table.row[r].time_us >= timing.settled_us)
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
	bool is_up = f->role == ROLE_CORE && f->status;
	if ((f->role <= ROLE_CORE && !is_up) || f->role >= ROLE_MAX || K.stop) {
		core_refuse(KP_ROLE, K.stop ? -EBUSY : -EINVAL, f);
		return;
	}
	struct role_state *s = &table.role[f->role];
	s->is_wanted = f->status != 0;
	K.is_up |= is_up;
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

/* ---- the change of program -------------------------------------------------------------------------- */

/* -errno: all is as before. Signals stay blocked over the exec and wait for the successor. */
static int exec_self(int program, int previous, int came_back)
{
	static char option[40] = STATE_OPTION;
	const struct kept before = table.kept;
	table.kept.self_fd = program;
	table.kept.previous_fd = previous;
	table.kept.came_back = came_back;
	table.kept.reexecs++;
	int state = state_save(), e = state;
	table.kept = before;
	if (state < 0)
		return e;
	(void)put_number(option + strlen(STATE_OPTION), state);
	K.args[1] = option;
	(void)execveat(program, "", K.args, environ, AT_EMPTY_PATH);
	e = -errno;
	fd_close(state);
	return e;
}

void reexec_begin(int state)
{
	int r = state_load(state);
	fd_close(state);
	if (r < 0)
		say_line("the state is damaged or not ours (%s): starting without it", errno_name(r));
	/* Of a program before this one: core says which now. */
	table.role[ROLE_NET].is_wanted = table.role[ROLE_WEB].is_wanted = 0;
	K.prove_by_us = table.kept.previous_fd ? now_mono_us() + timing.prove_us : 0;
	K.prove_cores = table.kept.cores + PROVE_STARTS;
	if (!table.row[ROLE_CORE].code && kill(table.row[ROLE_CORE].pid, SIGKILL) < 0)
		core_gone(); /* it leaves when its link ends */
}

/* A core that can ask has proven the present program. */
void reexec_asked(const struct kp_frame *f, int *fd)
{
	int self = table.kept.self_fd;
	K.prove_by_us = 0;
	drop_fd(&table.kept.previous_fd);
	core_refuse(KP_REEXEC, *fd > 0 ? exec_self(*fd, self, 0) : exec_self(self, 0, 0), f);
}

void reexec_tick(uint64_t now, uint64_t *next)
{
	bool is_dead = table.kept.cores == K.prove_cores && table.row[ROLE_CORE].code;
	bool is_due = !K.stop && K.prove_by_us && (K.prove_by_us <= now || is_dead);
	if (is_due && K.is_up) {
		K.prove_by_us = 0;
		drop_fd(&table.kept.previous_fd);
	} else if (is_due) {
		K.prove_by_us = now + timing.backoff_max_us;
		K.prove_cores = 0; /* from now on by time alone */
		say_line("the new program's core does not come up: going back to the previous one");
		say_line("cannot go back, trying again: %s",
			errno_name(exec_self(table.kept.previous_fd, 0, -ECANCELED)));
	}
	earliest(next, K.stop ? 0 : K.prove_by_us);
}
