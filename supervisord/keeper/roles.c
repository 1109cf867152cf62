/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Owns the role processes: starts them with their links, and again when they end.
 *
 *  1. A wanted role always either has a pid or a time at which it is started (never gives up).
 *  2. The dup of core's end of a role's link lives as long as the role: core may come and go.
 *  3. Between fork and exec only async-signal-safe calls; fds 3 and 4 are the role's alone.
 *
 * Called by keeper.c (reaping, ticks), links.c (KP_ROLE) and reexec.c (replacing).
 */
#include "private.h"

#include <fcntl.h>
#include <limits.h>
#include <sys/socket.h>
#include <sys/wait.h>

extern char **environ;

const char *role_name(enum role r)
{
	static const char *const names[] = {"keeper", "core", "launcher", "logger", "net", "web"};
	return names[r];
}

/* Our own binary, or stay-net / stay-web: $STAYD_LIBEXEC, beside ourselves, /usr/lib/stayd. */
static int role_binary(enum role r)
{
	if (r < ROLE_NET)
		return fcntl(K.self_fd, F_DUPFD_CLOEXEC, 10);
	char self[PATH_MAX], path[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	self[n > 0 ? n : 0] = '\0';
	char *slash = strrchr(self, '/');
	if (slash)
		*slash = '\0';
	const char *dirs[] = {getenv("STAYD_LIBEXEC"), self, "/usr/lib/stayd"};
	for (size_t i = 0; i < ARRAY_SIZE(dirs); i++) {
		size_t len = dirs[i] ? str_copy(path, dirs[i], sizeof(path) - 16) : 0;
		if (!len || len >= sizeof(path) - 16)
			continue;
		len += str_copy(path + len, "/stay-", 8);
		str_copy(path + len, role_name(r), 8);
		int fd = open(path, O_PATH | O_CLOEXEC);
		if (fd >= 0)
			return fcntl(fd, F_DUPFD_CLOEXEC, 10); /* the low one goes at the exec */
	}
	return -1;
}

void exec_self(int fd, char **argv)
{
	sigset_t none;
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	(void)execveat(fd, "", argv, environ, AT_EMPTY_PATH);
}

static void become(enum role r, int binary, int link, int core)
{
	static char option[32] = "--role=";
	str_copy(option + 7, role_name(r), sizeof(option) - 7);
	K.args[1] = option;
	(void)setpgid(0, 0); /* Ctrl-C of a terminal is for keeper alone, which tells core */
	link = fcntl(link, F_DUPFD_CLOEXEC, 10);
	core = core >= 0 ? fcntl(core, F_DUPFD_CLOEXEC, 10) : -1;
	if (dup2(link, ROLE_KEEPER_FD) >= 0 && (core < 0 || dup2(core, ROLE_CORE_FD) >= 0))
		exec_self(binary, K.args);
	say("cannot execute %s: %s", role_name(r), errno_name(errno));
	_exit(EXIT_EXEC);
}

/* 0 or -errno; on success the state has pid and our ends, on failure nothing is left open. */
static int spawn(enum role r, struct role_state *s)
{
	int link[2] = {-1, -1}, core[2] = {-1, -1}, on = 1, e = 0;
	int binary = role_binary(r);
	pid_t pid = -1;
	if (binary < 0)
		return -ENOENT;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, link) < 0 ||
		setsockopt(link[0], SOL_SOCKET, SO_PASSCRED, &on, sizeof(on)) < 0 ||
		(r != ROLE_CORE &&
			socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, core) < 0) ||
		(pid = fork()) < 0)
		e = -errno;
	if (pid == 0)
		become(r, binary, link[1], core[1]);
	fd_close(binary);
	fd_close(link[1]);
	fd_close(core[1]);
	if (e < 0) {
		fd_close(link[0]);
		fd_close(core[0]);
		return e;
	}
	s->pid = pid;
	s->link_fd = link[0];
	s->core_fd = core[0];
	return 0;
}

static void start_later(struct role_state *s, uint64_t first_us)
{
	s->start_at_us = now_us() + s->backoff_us;
	s->backoff_us = MIN(MAX(s->backoff_us * 2, first_us), timing.backoff_max_us);
}

void role_start(enum role r)
{
	struct role_state *s = &K.kept.role[r];
	s->start_at_us = 0;
	int e = spawn(r, s);
	if (e < 0) {
		say("cannot start %s: %s", role_name(r), errno_name(e));
		if (r >= ROLE_NET && e == -ENOENT) { /* not installed: core's problem, not ours */
			s->is_wanted = 0;
			core_refused(KP_ROLE, e, &(struct kp_frame){.role = (uint16_t)r});
			return;
		}
		s->backoff_us = MAX(s->backoff_us, 100 * USEC_PER_MSEC);
		start_later(s, 0);
		return;
	}
	s->started_us = now_us();
	link_watch(s->link_fd, r);
	if (r == ROLE_CORE)
		K.kept.cores++;
	else
		K.links_unsent |= 1u << r;
}

/* Closes our ends. The launcher's link is kept while shims hold it. */
void role_close(enum role r)
{
	struct role_state *s = &K.kept.role[r];
	int link = TAKE_FD(s->link_fd);
	if (r == ROLE_LAUNCHER && link > 0)
		link_retire(link);
	else
		fd_close(link);
	s->core_fd = fd_close(s->core_fd);
	K.links_unsent &= ~(1u << r);
	if (r == ROLE_CORE)
		core_gone();
}

void role_end(enum role r, int wait_status)
{
	struct role_state *s = &K.kept.role[r];
	role_close(r);
	s->pid = 0;
	s->kill_at_us = 0;
	K.to_replace &= ~(1u << r);
	if (now_us() - s->started_us >= timing.settled_us)
		s->backoff_us = 0;
	if (r == ROLE_CORE && !K.stop) {
		K.crashes++;
		reexec_core_ended();
	}
	if (!s->is_wanted || K.stop >= STOP_ROLES)
		return;
	bool is_signal = WIFSIGNALED(wait_status);
	say("%s ended (%s %d), starting it again in %d ms", role_name(r),
		is_signal ? "signal" : "status",
		is_signal ? WTERMSIG(wait_status) : WEXITSTATUS(wait_status),
		(int)(s->backoff_us / USEC_PER_MSEC));
	start_later(s, (r == ROLE_CORE ? 50 : 100) * USEC_PER_MSEC);
}

void role_ask_to_end(enum role r, uint64_t grace_us)
{
	struct role_state *s = &K.kept.role[r];
	s->start_at_us = s->is_wanted ? s->start_at_us : 0;
	if (!s->pid)
		return;
	(void)kill(s->pid, grace_us ? SIGTERM : SIGKILL);
	if (!s->kill_at_us)
		s->kill_at_us = now_us() + grace_us;
}

void roles_tick(uint64_t now, uint64_t *next)
{
	for (enum role r = ROLE_CORE; r < ROLE_MAX; r++) {
		struct role_state *s = &K.kept.role[r];
		if (s->start_at_us && s->start_at_us <= now)
			role_start(r);
		if (s->kill_at_us && s->kill_at_us <= now) {
			(void)kill(s->pid, SIGKILL);
			s->kill_at_us = now + USEC_PER_SEC;
		}
		earliest(next, s->start_at_us);
		earliest(next, s->kill_at_us);
	}
}
