/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The shim: where there is no cgroup, a subreaper above the program that keeps its orphans together.
 *
 *  1. It never returns, never allocates, and holds one descriptor: the link to the keeper.
 *  2. The program is named to the keeper first (KP_SHIM_MAIN), because the launcher that hears it
 *     too may die; every process it reaps is reported (KP_SHIM_EXIT) before the next is waited for.
 *  3. It leaves when it has no child, with the program's own end: status, or signal without core.
 *  4. Every signal is blocked: core speaks to the program, and SIGKILL means it.
 *
 * Called by child_main().
 */
#include "parts.h"

#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define TELL_TRIES    1000 /* the word of an end is worth waiting for memory */
#define TELL_PAUSE_MS 10
#define FDS_SEARCHED  1024 /* without close_range(): the launcher has few, and low ones */

static void tell_keeper(const struct child *c, enum kp_kind kind, pid_t pid, int code, int status)
{
	struct kp_frame f;
	memset(&f, 0, sizeof(f));
	f.magic = KP_MAGIC;
	f.kind = (uint16_t)kind;
	f.id = *c->id;
	f.pid = pid;
	f.code = code;
	f.status = status;
	for (int tries = 0; tries < TELL_TRIES; tries++) {
		if (send(c->keeper_fd, &f, sizeof(f), MSG_NOSIGNAL) >= 0)
			return;
		if (errno == ENOBUFS || errno == ENOMEM || errno == EAGAIN)
			(void)poll(NULL, 0, TELL_PAUSE_MS);
		else if (errno != EINTR)
			return; /* no keeper: who comes after it looks for itself */
	}
}

_Noreturn static void leave_like(const siginfo_t *si)
{
	struct rlimit none = {0, 0};
	struct sigaction act = {.sa_handler = SIG_DFL};
	sigset_t all;
	if (si->si_code == CLD_EXITED)
		_exit(si->si_status);
	(void)setrlimit(RLIMIT_CORE, &none);
	(void)prctl(PR_SET_DUMPABLE, 0, 0, 0, 0); /* core patterns with a pipe ignore the limit */
	(void)sigaction(si->si_status, &act, NULL);
	sigemptyset(&all);
	(void)sigprocmask(SIG_SETMASK, &all, NULL);
	pid_t self = (pid_t)syscall(SYS_getpid);
	if (self > 0) /* a filter's errno, negative, would be everybody */
		(void)kill(self, si->si_status);
	_exit(128 + si->si_status);
}

/* What the fork copied and the shim will never look at again. */
static void drop_memory(struct child *c)
{
	uintptr_t page = 4096, from = ((uintptr_t)c->plan + page - 1) & ~(page - 1),
		  to = ((uintptr_t)c->plan + c->plan->size) & ~(page - 1);
	if (to > from)
		(void)madvise((void *)from, to - from, MADV_DONTNEED);
}

/* The report pipe above all: its end is what the launcher waits for. */
static void keep_one_fd(struct child *c)
{
	int keep = c->keeper_fd;
	c->report_fd = fd_close(c->report_fd);
	if (syscall(SYS_close_range, 0, keep - 1, 0) == 0 &&
		syscall(SYS_close_range, keep + 1, ~0U, 0) == 0)
		return;
	for (int fd = 0; fd < FDS_SEARCHED; fd++)
		if (fd != keep)
			fd_close(fd);
}

_Noreturn void shim_main(struct child *c)
{
	sigset_t all, none;
	siginfo_t main_end = {.si_code = CLD_EXITED};
	sigfillset(&all);
	sigemptyset(&none);
	(void)prctl(PR_SET_NAME, "stayd-shim", 0, 0, 0);
	(void)setsid();
	(void)sigprocmask(SIG_SETMASK, &all, NULL);
	if (prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) < 0) {
		(void)child_fail(c, EXIT_CGROUP, errno, "subreaper");
		_exit(EXIT_CGROUP);
	}
	c->shim_pid = (pid_t)syscall(SYS_getpid);
	pid_t pid = (pid_t)syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, NULL);
	if (pid == 0) {
		child_die_with_shim(c);
		(void)sigprocmask(SIG_SETMASK, &none, NULL);
		child_run(c);
	}
	if (pid < 0) {
		(void)child_fail(c, EXIT_LIMITS, errno, "fork");
		_exit(EXIT_LIMITS);
	}
	tell_keeper(c, KP_SHIM_MAIN, pid, 0, 0);
	c->report.kind = REPORT_PROGRAM;
	c->report.pid = pid;
	if (child_report(c) < 0)
		(void)kill(pid, SIGKILL);
	keep_one_fd(c);
	drop_memory(c);
	for (;;) {
		siginfo_t si = {0};
		if (waitid(P_ALL, 0, &si, WEXITED | __WALL) < 0) {
			if (errno == EINTR)
				continue;
			leave_like(&main_end);
		}
		if (si.si_pid == pid)
			main_end = si;
		tell_keeper(c, KP_SHIM_EXIT, si.si_pid, si.si_code, si.si_status);
	}
}
