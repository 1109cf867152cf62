/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Shared by the tests of keeper/: a real keeper process with roles of our own. A test links keeper.a,
 * so keeper executes it again for each role. The core and the launcher here only connect to the test's
 * socket ($KT_SOCKET): the core hands over its link, so that the test itself speaks as core, and the
 * launcher makes children as it is told. A copy of the test called "...-broken" has a core that cannot
 * start; one called "...-stuck" in addition takes from keeper for a while what it needs for the way back.
 */
#pragma once

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "keeper/private.h"
#include "unit/check_main.h"

#include <sys/resource.h> /* has a PRIO_MAX, too */

#define DEADLINE_MS 60000

/* ---- the roles ------------------------------------------------------------------------------- */

enum op { OP_EXIT, OP_HANG, OP_ORPHAN, OP_SHIM, OP_GRANDCHILD, OP_BAD };

struct introduction {
	pid_t pid;
	enum role role;
};

struct order {
	enum op op;
	uint32_t seq, count;
	int status;
};

static struct spawn_id id_of(uint32_t seq)
{
	struct spawn_id id = {.seq = seq};
	memcpy(id.invocation, &seq, sizeof(seq));
	return id;
}

static int connect_test(enum role r, int pass)
{
	struct sockaddr_un a;
	unsigned len;
	int s = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	struct introduction hello = {getpid(), r};
	if (!getenv("KT_SOCKET") || unix_addr(getenv("KT_SOCKET"), &a, &len) < 0 ||
		connect(s, (struct sockaddr *)&a, len) < 0 ||
		send_fds(s, &hello, sizeof(hello), &pass, 1, 0) < 0)
		_exit(9);
	return s;
}

static void wait_for_end(int fd)
{
	struct pollfd p = {fd, POLLIN, 0};
	while (poll(&p, 1, -1) < 0)
		;
	_exit(0);
}

/* The size of the files that keeper may write, as its state is one: 5, 4, ... 0 bytes, then any again. */
static void hold_keeper(void)
{
	struct rlimit l;
	if (prlimit(getppid(), RLIMIT_FSIZE, NULL, &l) < 0)
		_exit(7);
	l.rlim_cur = l.rlim_cur == RLIM_INFINITY ? 5 : l.rlim_cur ? l.rlim_cur - 1 : RLIM_INFINITY;
	_exit(prlimit(getppid(), RLIMIT_FSIZE, &l, NULL) < 0 ? 8 : 7);
}

static void core_of_test(void)
{
	char self[512];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	self[n > 0 ? n : 0] = '\0';
	if (endswith(self, "-broken"))
		_exit(7);
	if (endswith(self, "-stuck"))
		hold_keeper();
	/* the test holds our link now; its connection ends with the test */
	wait_for_end(connect_test(ROLE_CORE, ROLE_KEEPER_FD));
}

static void say_frame(struct kp_frame f)
{
	f.magic = KP_MAGIC;
	if (send(ROLE_KEEPER_FD, &f, sizeof(f), MSG_NOSIGNAL) != sizeof(f))
		_exit(8);
}

static pid_t clone_sibling(void)
{
	return (pid_t)syscall(SYS_clone, CLONE_PARENT, 0, 0, 0, 0);
}

static void child_of_test(const struct order *o, uint32_t seq, int born_fd)
{
	if (o->op != OP_ORPHAN)
		say_frame((struct kp_frame){.kind = KP_BORN, .id = id_of(seq)});
	close(born_fd);
	const char *diary = getenv("KT_BORN");
	int fd = diary ? open(diary, O_WRONLY | O_APPEND | O_CLOEXEC) : -1;
	if (fd >= 0 && write(fd, "x", 1) != 1)
		_exit(6);
	if (o->op == OP_SHIM)
		say_frame((struct kp_frame){.kind = KP_SHIM_EXIT,
			.id = id_of(seq),
			.pid = 2,
			.code = CLD_EXITED,
			.status = 55});
	if (o->op == OP_GRANDCHILD && fork() == 0) {
		struct pollfd none;
		for (;;)
			poll(&none, 0, -1); /* outlives its parent: becomes keeper's */
	}
	close(ROLE_KEEPER_FD);
	close(ROLE_CORE_FD);
	while (o->op == OP_HANG)
		poll(NULL, 0, -1);
	_exit(o->status);
}

static void launcher_of_test(void)
{
	int s = connect_test(ROLE_LAUNCHER, ROLE_CORE_FD);
	struct pollfd p[2] = {
		{s,              POLLIN, 0},
                {ROLE_KEEPER_FD, POLLIN, 0}
        };
	for (;;) {
		struct order o;
		poll(p, 2, -1);
		if (p[1].revents || recv(s, &o, sizeof(o), MSG_DONTWAIT) != sizeof(o))
			_exit(0);
		pid_t pid = 0;
		int born[2];
		if (pipe2(born, O_CLOEXEC) < 0)
			_exit(7);
		for (uint32_t i = 0; i < o.count && o.op != OP_BAD; i++) {
			while ((pid = clone_sibling()) < 0)
				sched_yield(); /* the machine is short of tasks */
			if (pid == 0)
				child_of_test(&o, o.seq + i, born[1]);
		}
		close(born[1]);
		(void)!read(born[0], &(char){0}, 1); /* until all of them said KP_BORN */
		close(born[0]);
		if (o.op == OP_BAD)
			(void)!send(ROLE_KEEPER_FD, "rubbish", 7, MSG_NOSIGNAL);
		(void)!send(s, &pid, sizeof(pid), MSG_NOSIGNAL);
	}
}

static __attribute__((constructor)) void dispatch(int argc, char **argv)
{
	if (argc < 2)
		return;
	timing.backoff_max_us = 10000;
	if (getenv("KT_HANG_MS"))
		timing.hang_us = strtoull(getenv("KT_HANG_MS"), NULL, 10) * USEC_PER_MSEC;
	if (getenv("KT_PROVE_MS"))
		timing.prove_us = strtoull(getenv("KT_PROVE_MS"), NULL, 10) * USEC_PER_MSEC;
	if (streq(argv[1], "--role=core"))
		core_of_test();
	if (streq(argv[1], "--role=launcher"))
		launcher_of_test();
	if (streq(argv[1], "--role=logger"))
		wait_for_end(ROLE_KEEPER_FD);
	if (streq(argv[1], "--role=trial"))
		_exit(KEEPER_TRIAL_OK);
	if (streq(argv[1], "--keeper") || startswith(argv[1], "--keeper-state="))
		_exit(keeper_main(argc, argv, &(int){0}));
}

/* ---- the test's side --------------------------------------------------------------------------- */

static struct {
	int listener, core, core_hold, launcher, launcher_core_end;
	pid_t keeper, core_pid, launcher_pid;
	uint32_t welcome;
} T;

static void readable(int fd, const char *what)
{
	struct pollfd p = {fd, POLLIN, 0};
	int r;
	do
		r = poll(&p, 1, DEADLINE_MS);
	while (r < 0 && errno == EINTR);
	ck_assert_msg(r == 1, "nothing came in time: %s", what);
}

/* Takes connections of roles until one of that role is there. */
static void accept_role(enum role wanted)
{
	for (;;) {
		readable(T.listener, "a role");
		int s = accept4(T.listener, NULL, NULL, SOCK_CLOEXEC), fd = -1;
		struct introduction hello;
		size_t n = 1;
		if (recv_fds(s, &hello, sizeof(hello), &fd, &n, 0) != sizeof(hello) || n != 1) {
			close(s);
			continue; /* died before it spoke */
		}
		if (hello.role == ROLE_CORE) {
			fd_close(T.core);
			fd_close(T.core_hold);
			T.core = fd, T.core_hold = s, T.core_pid = hello.pid;
		} else {
			fd_close(T.launcher);
			fd_close(T.launcher_core_end);
			T.launcher = s, T.launcher_core_end = fd, T.launcher_pid = hello.pid;
		}
		if (hello.role == wanted)
			return;
	}
}

static void tell_fd(struct kp_frame f, int fd)
{
	f.magic = KP_MAGIC;
	ck_assert_int_eq(send_fds(T.core, &f, sizeof(f), &fd, fd >= 0, 0), sizeof(f));
}

static void tell(struct kp_frame f)
{
	tell_fd(f, -1);
}

static struct kp_frame hear_fd(int *ret_fd)
{
	struct kp_frame f;
	int fd = -1;
	size_t n = 1;
	readable(T.core, "a frame for core");
	ck_assert_int_eq(recv_fds(T.core, &f, sizeof(f), &fd, &n, 0), sizeof(f));
	ck_assert_uint_eq(f.magic, KP_MAGIC);
	*ret_fd = n ? fd : -1;
	return f;
}

/* The next frame of that kind; others are dropped. */
static struct kp_frame hear(enum kp_kind kind)
{
	for (;;) {
		int fd;
		struct kp_frame f = hear_fd(&fd);
		fd_close(fd);
		if (f.kind == kind)
			return f;
	}
}

/* What a new core is told. */
struct list {
	unsigned fds, links, alive, ended;
	struct kp_frame last_ended;
	char fd_name[KP_NAME_MAX];
	int fd, link, is_stale, came_back;
};

static struct list hello(void)
{
	struct list l = {.fd = -1, .link = -1};
	tell((struct kp_frame){.kind = KP_HELLO});
	for (;;) {
		int fd;
		struct kp_frame f = hear_fd(&fd);
		if (f.kind == KP_FD) {
			l.fds++;
			fd_close(l.fd);
			l.fd = TAKE_FD(fd);
			str_copy(l.fd_name, f.name, sizeof(l.fd_name));
		} else if (f.kind == KP_LINK) {
			l.links++;
			l.is_stale = f.status;
			fd_close(l.link);
			l.link = TAKE_FD(fd);
		} else if (f.kind == KP_CHILD && f.code) {
			l.ended++;
			l.last_ended = f;
		} else if (f.kind == KP_CHILD) {
			l.alive++;
		}
		fd_close(fd);
		if (f.kind == KP_WELCOME) {
			T.welcome = (uint32_t)f.status;
			l.came_back = f.code;
			return l;
		}
	}
}

static pid_t spawn_children(enum op op, uint32_t seq, uint32_t count, int status)
{
	struct order o = {op, seq, count, status};
	pid_t pid = -1;
	ck_assert_int_eq(send(T.launcher, &o, sizeof(o), MSG_NOSIGNAL), sizeof(o));
	if (op == OP_BAD)
		return 0; /* it may not live to answer */
	readable(T.launcher, "the launcher's answer");
	ck_assert_int_eq(recv(T.launcher, &pid, sizeof(pid), 0), sizeof(pid));
	return pid;
}

UNUSED static void kill_core(void)
{
	ck_assert_int_eq(kill(T.core_pid, SIGKILL), 0);
	accept_role(ROLE_CORE);
}

static char state_of(pid_t pid)
{
	char path[64], text[256] = "";
	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return 0;
	ssize_t n = read(fd, text, sizeof(text) - 1);
	close(fd);
	char *p = n > 0 ? strrchr(text, ')') : NULL;
	return p ? p[2] : 0;
}

UNUSED static void wait_gone(pid_t pid)
{
	uint64_t end = now_mono_us() + DEADLINE_MS * 1000ULL;
	while (state_of(pid)) {
		ck_assert_msg(
			now_mono_us() < end, "%d is still there (%c)", (int)pid, state_of(pid));
		poll(NULL, 0, 1);
	}
}

/* Files and abstract names are everybody's, pids are not: in a namespace of few they come again soon. */
static unsigned nonce(void)
{
	unsigned n;
	random_bytes(&n, sizeof(n));
	return n;
}

static void daemon_start_with(int clone_flags)
{
	char name[64];
	struct sockaddr_un a;
	unsigned len;
	snprintf(name, sizeof(name), "@stayd-test-keeper-%d-%08x", (int)getpid(), nonce());
	T.core = T.core_hold = T.launcher = T.launcher_core_end = -1;
	ck_assert_int_eq(unix_addr(name, &a, &len), 0);
	T.listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	ck_assert_int_eq(bind(T.listener, (struct sockaddr *)&a, len), 0);
	ck_assert_int_eq(listen(T.listener, 64), 0);
	setenv("KT_SOCKET", name, 1);
	T.keeper = (pid_t)syscall(SYS_clone, clone_flags | SIGCHLD, 0, 0, 0, 0);
	ck_assert_msg(T.keeper >= 0, "clone: %s", errno_name(errno));
	if (T.keeper == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		execl("/proc/self/exe", "test_keeper", "--keeper", "some", "arguments", NULL);
		_exit(99);
	}
	accept_role(ROLE_CORE);
	if (T.launcher < 0)
		accept_role(ROLE_LAUNCHER);
}

static void daemon_start(void)
{
	daemon_start_with(0);
}

static int keeper_status(void)
{
	int status;
	ck_assert_int_eq(waitpid(T.keeper, &status, 0), T.keeper);
	ck_assert_msg(WIFEXITED(status), "keeper died: %#x", (unsigned)status);
	return WEXITSTATUS(status);
}

/* The end of each test: asked to exit, keeper ends everything and leaves with that code. */
static void daemon_stop(void)
{
	tell((struct kp_frame){.kind = KP_EXIT, .status = 17});
	ck_assert_int_eq(keeper_status(), 17);
}
