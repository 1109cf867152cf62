/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The change of program, as far as it is core's: the trial before, the news of it afterwards.
 *
 *  1. Keeper is asked to become nothing that has not said, in a child of ours, that it runs here and
 *     reads the state keeper would hand over. One trial at a time, killed after TRIAL_SEC.
 *  2. What came of it is in status until the next one: whoever asked looks there, as the core that
 *     could answer is gone by then.
 *
 * Called by the verb and by keeper.c (what keeper says of it).
 */
#include "core/inner.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "keeper/keeper.h"
#include "table/table.h"

#define TRIAL_SEC 5

static void set_outcome(struct core *c, const char *state, const char *text)
{
	free(c->reexec.text);
	c->reexec.state = state;
	c->reexec.text = xstrdup(text);
}

void reexec_refused(struct core *c, const char *why)
{
	log_error(NULL, "re-exec refused: %s; nothing was replaced", why);
	set_outcome(c, "refused", why);
	c->reexec.program = fd_close(c->reexec.program);
}

/* Keeper has said how we came to be: the first core of a program finds the roles of the one before. */
void reexec_welcomed(struct core *c)
{
	bool is_first = c->role_is_stale[ROLE_LAUNCHER];
	c->reexec.program = c->reexec.source.fd = -1;
	if (c->reexec.error) {
		set_outcome(c, "returned",
			"the new program's core did not come up: this is the previous program again");
		if (is_first)
			log_error(NULL, "re-exec: %s", c->reexec.text);
		return;
	}
	set_outcome(c, c->reexec.count ? "done" : "", "");
	if (is_first)
		log_note(NULL, "re-exec: stayd %s took over", STAYD_VERSION);
}

static void on_trial(struct source *s, uint32_t events UNUSED)
{
	struct core *c = container_of(s, struct core, reexec.source);
	siginfo_t si = {0};
	char why[160];
	int fd = s->fd;
	if (waitid(P_PIDFD, (id_t)fd, &si, WEXITED | WNOHANG | __WALL) == 0 && !si.si_pid)
		return;
	loop_remove(&c->loop, s);
	s->fd = fd_close(fd);
	if (si.si_code == CLD_EXITED && si.si_status == KEEPER_TRIAL_OK) {
		keeper_reexec(c, TAKE_FD(c->reexec.program));
		return;
	}
	if (si.si_code == CLD_EXITED)
		snprintf(why, sizeof(why),
			"the program is no stayd that can take over from this one (its trial ended with %d)",
			si.si_status);
	else
		snprintf(why, sizeof(why), "the trial of the program was ended by %s",
			strna(signal_name(si.si_status)));
	reexec_refused(c, why);
}

_Noreturn static void try_program(int program)
{
	char version[16], name[] = "stayd", role[] = "--role=trial";
	char *argv[] = {name, role, version, NULL};
	(void)put_number(version, STATE_VERSION);
	signal(SIGPIPE, SIG_DFL);
	(void)alarm(TRIAL_SEC); /* holds over the exec, and kills */
	(void)exec_with_fds(program, argv, NULL, 0);
	_exit(EXIT_EXEC);
}

static int trial_begin(struct core *c)
{
	pid_t pid = fork();
	if (pid < 0)
		return -errno;
	if (pid == 0)
		try_program(c->reexec.program);
	int fd = (int)syscall(SYS_pidfd_open, pid, 0);
	int r = fd < 0 ? -errno
		       : loop_add(&c->loop, &c->reexec.source, fd, EPOLLIN, PRIO_NORMAL, on_trial);
	if (r < 0) {
		fd_close(fd);
		(void)kill(pid, SIGKILL); /* ours and not reaped: its pid is its own */
		(void)waitpid(pid, NULL, __WALL);
	}
	return r;
}

int core_reexec(struct core *c, const char *path, const char *actor, struct err *e)
{
	if (c->reexec.program >= 0)
		return err_set(e, -EBUSY, "another program is being tried");
	log_note(NULL, "re-exec asked for by %s", actor);
	set_outcome(c, "trying", "");
	if (!path) {
		keeper_reexec(c, -1);
		return 0;
	}
	c->reexec.program = open(path, O_PATH | O_CLOEXEC);
	int r = c->reexec.program < 0 || access(path, X_OK) < 0 ? -errno : trial_begin(c);
	if (r == 0)
		return 0;
	reexec_refused(c, errno_name(r));
	return err_set(e, r, "%s: %s", path, errno_name(r));
}
