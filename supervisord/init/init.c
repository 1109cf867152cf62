/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Init mode, `stayd -- CMD`: one command, everything else is only reaped.
 *
 *  1. The reaper sleeps in waitpid(2). Signals are passed on by a handler, through a pidfd, so
 *     that a reused pid can never get one.
 *  2. The command has its own process group, in the foreground of the terminal if we are.
 *  3. Exit status: that of the command, 128 + n when signal n killed it, 127 not found, 126 not
 *     executable; what is left then is not our business (as PID 1 the kernel ends it).
 *
 * Called by main() alone.
 */
#include "base/base.h"
#include "init/init.h"
#include "stayd/stayd.h"

#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>

static volatile sig_atomic_t child;
static volatile sig_atomic_t child_fd = -1;

static void pass_on(int signal)
{
	int saved = errno;
	if (child_fd < 0 || syscall(SYS_pidfd_send_signal, (int)child_fd, signal, NULL, 0) < 0) {
		if (child_fd < 0 || errno == ENOSYS || errno == EPERM)
			(void)kill(child, signal);
	}
	errno = saved;
}

/* All but our own faults, the exits themselves, and job control of the terminal we give away. */
static bool is_passed_on(int signal)
{
	static const int kept[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS, SIGABRT,
		SIGCHLD, SIGTTIN, SIGTTOU, SIGKILL, SIGSTOP};
	for (size_t i = 0; i < ARRAY_SIZE(kept); i++)
		if (kept[i] == signal)
			return false;
	return true;
}

static void become(char **cmd, const sigset_t *mask)
{
	bool is_front = tcgetpgrp(STDIN_FILENO) == getpgrp();
	(void)setpgid(0, 0);
	if (is_front) {
		/* Or the next call stops us: our new group is not in front yet. */
		signal(SIGTTOU, SIG_IGN);
		(void)tcsetpgrp(STDIN_FILENO, getpgrp());
		signal(SIGTTOU, SIG_DFL);
	}
	sigprocmask(SIG_SETMASK, mask, NULL);
	execvp(cmd[0], cmd);
	int error = errno;
	say_line("cannot execute %s: %s", cmd[0], errno_name(error));
	_exit(error == ENOENT ? 127 : 126);
}

int init_main(char **cmd)
{
	sigset_t all, mask;
	sigfillset(&all);
	reaper_begin(&mask);
	pid_t pid = fork();
	if (pid < 0) {
		say_line("cannot fork: %s", errno_name(errno));
		return 1;
	}
	if (pid == 0)
		become(cmd, &mask);
	child = pid;
	child_fd = (int)syscall(SYS_pidfd_open, pid, 0);
	struct sigaction act = {.sa_handler = pass_on, .sa_mask = all, .sa_flags = SA_RESTART};
	for (int s = 1; s <= SIGRTMAX; s++)
		if (is_passed_on(s))
			(void)sigaction(s, &act, NULL);
	signal(SIGTTIN, SIG_IGN);
	signal(SIGTTOU, SIG_IGN);
	sigemptyset(&all);
	sigprocmask(SIG_SETMASK, &all, NULL);
	for (int wait = 0;;) {
		int status;
		uint64_t before = now_mono_us();
		pid_t done = waitpid(-1, &status, __WALL | wait);
		if (done == pid)
			return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
		if (done < 0 && errno == ECHILD)
			return 1; /* somebody else reaped it: a tracer gone wrong */
		wait = done > 0 ? WNOHANG : 0;
		uint64_t pause_us = done == 0 ? reap_pause_us(now_mono_us() - before) : 0;
		if (pause_us)
			(void)usleep((useconds_t)pause_us);
	}
}
