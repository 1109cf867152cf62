/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A real keeper process with roles of our own: this program links keeper.a, so keeper executes it
 * again for each role. The core and the launcher here only connect to the test's socket ($KT_SOCKET):
 * the core hands over its link, so that the test itself speaks as core, and the launcher makes
 * children as it is told. A copy of this program called "...-broken" has a core that cannot start;
 * one called "...-stuck" in addition takes from keeper for a while what it needs for the way back.
 */
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

static void kill_core(void)
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

static void wait_gone(pid_t pid)
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

START_TEST(the_first_core_gets_the_launchers_link_and_a_welcome)
{
	daemon_start();
	struct list l = hello();
	ck_assert_uint_eq(l.links, 1);
	ck_assert_uint_eq(l.fds + l.alive + l.ended, 0);
	ck_assert_uint_eq(T.welcome, 0);
	ck_assert_int_eq(send(l.link, "x", 1, 0), 1); /* it leads to the launcher */
	readable(T.launcher_core_end, "what core said");
	daemon_stop();
}
END_TEST

START_TEST(an_exit_is_told_with_status_and_is_told_again_until_forgotten)
{
	daemon_start();
	hello();
	pid_t pid = spawn_children(OP_EXIT, 1, 1, 42);
	struct kp_frame f = hear(KP_EXITED);
	ck_assert_int_eq(f.pid, pid);
	ck_assert_int_eq(f.code, CLD_EXITED);
	ck_assert_int_eq(f.status, 42);
	ck_assert_uint_gt(f.time_us, 0);
	struct list l = hello();
	ck_assert_uint_eq(l.ended, 1);
	tell((struct kp_frame){.kind = KP_FORGET, .id = id_of(1)});
	ck_assert_uint_eq(hello().ended, 0);
	daemon_stop();
}
END_TEST

START_TEST(an_exit_while_core_is_away_is_delivered_to_the_next)
{
	daemon_start();
	hello();
	pid_t pid = spawn_children(OP_HANG, 5, 1, 0);
	ck_assert_int_eq(kill(T.core_pid, SIGKILL), 0);
	ck_assert_int_eq(kill(pid, SIGKILL), 0);
	accept_role(ROLE_CORE);
	wait_gone(pid); /* reaped before this core said anything */
	struct list l = hello();
	ck_assert_uint_eq(l.ended, 1);
	ck_assert_int_eq(l.last_ended.pid, pid);
	ck_assert_int_eq(l.last_ended.code, CLD_KILLED);
	ck_assert_int_eq(l.last_ended.status, SIGKILL);
	ck_assert_uint_eq(T.welcome, 1);
	daemon_stop();
}
END_TEST

START_TEST(children_that_end_right_after_birth_are_never_lost)
{
	enum { N = 2000 };
	static uint8_t seen[N];
	daemon_start();
	hello();
	spawn_children(OP_EXIT, 0, N, 3);
	for (int i = 0; i < N; i++) {
		struct kp_frame f = hear(KP_EXITED);
		ck_assert_uint_lt(f.id.seq, N);
		ck_assert_int_eq(seen[f.id.seq]++, 0);
		ck_assert_int_eq(f.status, 3);
		tell((struct kp_frame){.kind = KP_FORGET, .id = f.id});
	}
	ck_assert_uint_eq(hello().ended, 0);
	daemon_stop();
}
END_TEST

START_TEST(a_core_that_does_not_read_gets_every_exit_later)
{
	enum { N = 3000 }; /* many more than a socket holds */
	daemon_start();
	hello();
	pid_t last = spawn_children(OP_EXIT, 0, N, 1);
	wait_gone(last);
	for (int i = 0; i < N; i++)
		hear(KP_EXITED);
	ck_assert_uint_eq(hello().ended, N); /* the list is longer than the socket too */
	daemon_stop();
}
END_TEST

static unsigned open_fds(pid_t pid)
{
	char path[64];
	struct stat st;
	unsigned n = 0;
	for (int fd = 0; fd < 4096; fd++) {
		snprintf(path, sizeof(path), "/proc/%d/fd/%d", (int)pid, fd);
		n += lstat(path, &st) == 0;
	}
	return n;
}

/* Keeper closes what is over in a turn of its own. */
static void wait_fds(unsigned most)
{
	uint64_t end = now_mono_us() + DEADLINE_MS * 1000ULL;
	while (open_fds(T.keeper) > most) {
		ck_assert_msg(now_mono_us() < end, "keeper had %u descriptors and has %u", most,
			open_fds(T.keeper));
		poll(NULL, 0, 1);
	}
}

START_TEST(fifty_dead_cores_cost_no_child_link_or_deposit)
{
	daemon_start();
	hello();
	pid_t pid = spawn_children(OP_HANG, 1, 20, 0), launcher = T.launcher_pid;
	int pipe_fds[2];
	ck_assert_int_eq(pipe2(pipe_fds, O_CLOEXEC), 0);
	tell_fd((struct kp_frame){.kind = KP_PUT, .name = "unit/log"}, pipe_fds[1]);
	close(pipe_fds[1]);
	unsigned fds = 0;
	for (int i = 1; i <= 50; i++) {
		kill_core();
		struct list l = hello();
		fds = i == 1 ? open_fds(T.keeper) : fds;
		ck_assert_uint_eq(T.welcome, (unsigned)i);
		ck_assert_uint_eq(l.alive, 20);
		ck_assert_uint_eq(l.fds, 1);
		ck_assert_str_eq(l.fd_name, "unit/log");
		ck_assert_uint_eq(l.links, 1);
		ck_assert_int_eq(write(l.fd, "x", 1), 1);
		fd_close(l.fd);
		fd_close(l.link);
	}
	wait_fds(fds);
	char c;
	ck_assert_int_eq(read(pipe_fds[0], &c, 1), 1);
	ck_assert_int_eq(T.launcher_pid, launcher);
	ck_assert_int_eq(kill(pid, 0), 0);
	daemon_stop();
}
END_TEST

START_TEST(a_dead_launcher_is_replaced_and_core_gets_the_new_link)
{
	daemon_start();
	hello();
	pid_t pid = spawn_children(OP_HANG, 1, 1, 0), old = T.launcher_pid;
	ck_assert_int_eq(kill(old, SIGKILL), 0);
	accept_role(ROLE_LAUNCHER);
	ck_assert_int_ne(T.launcher_pid, old);
	int fd;
	struct kp_frame f = hear_fd(&fd);
	ck_assert_uint_eq(f.kind, KP_LINK);
	ck_assert_uint_eq(f.role, ROLE_LAUNCHER);
	ck_assert_int_eq(f.pid, T.launcher_pid);
	ck_assert_int_eq(send(fd, "x", 1, 0), 1);
	readable(T.launcher_core_end, "what core said on the new link");
	ck_assert_int_eq(kill(pid, SIGTERM), 0);
	ck_assert_int_eq(hear(KP_EXITED).pid, pid); /* the old one's child is still known */
	daemon_stop();
}
END_TEST

START_TEST(dead_launchers_leave_no_descriptor_behind)
{
	daemon_start();
	hello();
	unsigned fds = open_fds(T.keeper);
	for (int i = 0; i < 80; i++) { /* more than RETIRED_MAX */
		ck_assert_int_eq(kill(T.launcher_pid, SIGKILL), 0);
		accept_role(ROLE_LAUNCHER);
	}
	for (int i = 0; i < 80; i++)
		hear(KP_LINK);
	wait_fds(fds);
	daemon_stop();
}
END_TEST

static unsigned children_of(pid_t pid)
{
	char path[64], text[65536];
	snprintf(path, sizeof(path), "/proc/%d/task/%d/children", (int)pid, (int)pid);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = read(fd, text, sizeof(text));
	unsigned count = 0;
	close(fd);
	for (ssize_t i = 0; i < n; i++)
		count += text[i] == ' ';
	return count;
}

/* Each child notes its birth in a file itself; keeper has to know exactly as many. */
START_TEST(children_born_while_their_launcher_dies_are_not_lost)
{
	char diary[64];
	struct stat st;
	snprintf(diary, sizeof(diary), "/tmp/stayd-test-born-%d-%08x", (int)getpid(), nonce());
	close(open(diary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
	setenv("KT_BORN", diary, 1);
	daemon_start();
	hello();
	for (uint32_t round = 0; round < 20; round++) {
		struct order o = {OP_EXIT, round * 500, 500, 0};
		ck_assert_int_eq(send(T.launcher, &o, sizeof(o), MSG_NOSIGNAL), sizeof(o));
		hear(KP_EXITED); /* it is at work */
		ck_assert_int_eq(kill(T.launcher_pid, SIGKILL), 0);
		accept_role(ROLE_LAUNCHER);
	}
	uint64_t end = now_mono_us() + DEADLINE_MS * 1000ULL;
	while (children_of(T.keeper) > 2) {
		ck_assert_msg(now_mono_us() < end, "%u children", children_of(T.keeper));
		poll(NULL, 0, 1);
	}
	struct list l = hello();
	ck_assert_int_eq(stat(diary, &st), 0);
	unlink(diary);
	ck_assert_uint_eq(l.ended, (unsigned)st.st_size);
	ck_assert_uint_lt(l.ended, 20 * 500); /* some launcher did die in the middle */
	daemon_stop();
}
END_TEST

START_TEST(orphans_are_reaped_and_can_be_tracked_afterwards)
{
	daemon_start();
	hello();
	pid_t pid = spawn_children(OP_ORPHAN, 0, 300, 33);
	wait_gone(pid);
	tell((struct kp_frame){.kind = KP_TRACK, .id = id_of(9), .pid = pid});
	struct kp_frame f = hear(KP_EXITED);
	ck_assert_int_eq(f.pid, pid);
	ck_assert_uint_eq(f.id.seq, 9);
	ck_assert_int_eq(f.status, 33);
	daemon_stop();
}
END_TEST

START_TEST(a_tracked_main_that_was_reparented_is_signalled_and_reported)
{
	daemon_start();
	hello();
	pid_t parent = spawn_children(OP_GRANDCHILD, 4, 1, 0);
	ck_assert_int_eq(hear(KP_EXITED).pid, parent);
	char path[64], text[4096] = "";
	snprintf(path, sizeof(path), "/proc/%d/task/%d/children", (int)T.keeper, (int)T.keeper);
	int fd = open(path, O_RDONLY), main_pid = 0;
	ck_assert_int_gt(read(fd, text, sizeof(text) - 1), 0);
	close(fd);
	for (char *p = text, *end; *p; p = *end ? end + 1 : end) {
		int pid = (int)strtol(p, &end, 10);
		if (pid != T.core_pid && pid != T.launcher_pid)
			main_pid = pid;
	}
	ck_assert_int_gt(main_pid, 0);
	tell((struct kp_frame){.kind = KP_TRACK, .id = id_of(4), .pid = main_pid});
	tell((struct kp_frame){.kind = KP_SIGNAL, .id = id_of(4), .status = SIGUSR1});
	struct kp_frame f = hear(KP_EXITED);
	ck_assert_int_eq(f.pid, main_pid);
	ck_assert_int_eq(f.code, CLD_KILLED);
	ck_assert_int_eq(f.status, SIGUSR1);
	ck_assert_uint_eq(hello().ended, 2);
	daemon_stop();
}
END_TEST

START_TEST(a_signal_reaches_a_live_child_and_never_a_reaped_pid)
{
	daemon_start();
	hello();
	pid_t pid = spawn_children(OP_HANG, 1, 1, 0);
	tell((struct kp_frame){.kind = KP_SIGNAL, .id = id_of(1), .status = SIGTERM});
	struct kp_frame f = hear(KP_EXITED);
	ck_assert_int_eq(f.pid, pid);
	ck_assert_int_eq(f.status, SIGTERM);
	tell((struct kp_frame){.kind = KP_SIGNAL, .id = id_of(1), .status = SIGTERM});
	f = hear(KP_REFUSED);
	ck_assert_int_eq(f.code, KP_SIGNAL);
	ck_assert_int_eq(f.status, -ESRCH);
	tell((struct kp_frame){.kind = KP_SIGNAL, .id = id_of(99), .status = SIGTERM});
	ck_assert_int_eq(hear(KP_REFUSED).status, -ESRCH);
	daemon_stop();
}
END_TEST

START_TEST(a_shims_report_comes_before_its_own_exit)
{
	daemon_start();
	hello();
	pid_t shim = spawn_children(OP_SHIM, 6, 1, 1);
	struct kp_frame f = hear(KP_EXITED);
	ck_assert_int_eq(f.pid, 2);
	ck_assert_int_eq(f.status, 55);
	f = hear(KP_EXITED);
	ck_assert_int_eq(f.pid, shim);
	ck_assert_int_eq(f.status, 1);
	tell((struct kp_frame){.kind = KP_FORGET, .id = id_of(6), .pid = 2});
	ck_assert_uint_eq(hello().ended, 1);
	daemon_stop();
}
END_TEST

START_TEST(a_signal_to_keeper_waits_for_the_next_core)
{
	daemon_start();
	hello();
	pid_t old = T.core_pid;
	ck_assert_int_eq(kill(old, SIGKILL), 0);
	wait_gone(old);
	ck_assert_int_eq(kill(T.keeper, SIGHUP), 0);
	ck_assert_int_eq(kill(T.keeper, SIGRTMIN + 3), 0);
	accept_role(ROLE_CORE);
	hello();
	ck_assert_int_eq(hear(KP_GOT).status, SIGHUP);
	ck_assert_int_eq(hear(KP_GOT).status, SIGRTMIN + 3);
	daemon_stop();
}
END_TEST

START_TEST(a_request_to_end_is_told_to_every_later_core)
{
	daemon_start();
	hello();
	ck_assert_int_eq(kill(T.keeper, SIGTERM), 0);
	ck_assert_int_eq(hear(KP_GOT).status, SIGTERM);
	kill_core(); /* in the middle of stopping */
	hello();
	ck_assert_int_eq(hear(KP_GOT).status, SIGTERM);
	daemon_stop();
}
END_TEST

static void send_raw(const void *data, size_t size)
{
	ck_assert_int_eq(send(T.core, data, size, MSG_NOSIGNAL), (ssize_t)size);
}

START_TEST(bad_frames_cost_core_its_link_and_nothing_else)
{
	struct kp_frame wrong_magic =
				{
					.magic = 1, .kind = KP_HELLO
        },
			too_large[8] = {{.magic = KP_MAGIC, .kind = KP_HELLO}},
			not_terminated = {.magic = KP_MAGIC, .kind = KP_DROP};
	memset(not_terminated.name, 'x', KP_NAME_MAX);
	daemon_start();
	hello();
	pid_t pid = spawn_children(OP_HANG, 1, 1, 0);
	for (int i = 0; i < 4; i++) {
		if (i == 0)
			send_raw("rubbish", 7);
		else if (i == 1)
			send_raw(&wrong_magic, sizeof(wrong_magic));
		else if (i == 2)
			send_raw(too_large, sizeof(too_large));
		else
			send_raw(&not_terminated, sizeof(not_terminated));
		accept_role(ROLE_CORE);
		ck_assert_uint_eq(hello().alive, 1);
	}
	ck_assert_int_eq(kill(pid, 0), 0);
	tell((struct kp_frame){.kind = KP_BORN}); /* whole, but not core's to say */
	ck_assert_int_eq(hear(KP_REFUSED).status, -EOPNOTSUPP);
	spawn_children(OP_BAD, 0, 0, 0);
	spawn_children(OP_EXIT, 2, 1, 0); /* heard behind the rubbish */
	ck_assert_uint_eq(hear(KP_EXITED).id.seq, 2);
	daemon_stop();
}
END_TEST

START_TEST(deposits_are_dropped_and_roles_are_run_on_request)
{
	daemon_start();
	hello();
	int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	tell_fd((struct kp_frame){.kind = KP_PUT, .name = "a"}, fd);
	tell_fd((struct kp_frame){.kind = KP_PUT, .name = "b"}, fd);
	tell((struct kp_frame){.kind = KP_DROP, .name = "a"});
	tell_fd((struct kp_frame){.kind = KP_PUT, .name = ""}, fd);
	ck_assert_int_eq(hear(KP_REFUSED).status, -EINVAL);
	struct list l = hello();
	ck_assert_uint_eq(l.fds, 1);
	ck_assert_str_eq(l.fd_name, "b");
	tell((struct kp_frame){.kind = KP_ROLE, .role = ROLE_LOGGER, .status = 1});
	struct kp_frame f = hear(KP_LINK);
	ck_assert_uint_eq(f.role, ROLE_LOGGER);
	ck_assert_int_eq(kill(f.pid, SIGKILL), 0);
	ck_assert_int_ne(hear(KP_LINK).pid, f.pid);
	int program = open("/bin/sleep", O_PATH | O_CLOEXEC); /* knows no --role: ends at once */
	tell_fd((struct kp_frame){.kind = KP_ROLE, .role = ROLE_NET, .status = 1}, program);
	for (int i = 0; i < 2; i++)
		ck_assert_uint_eq(hear(KP_LINK).role, ROLE_NET);
	tell((struct kp_frame){.kind = KP_ROLE, .role = ROLE_NET, .status = 0});
	tell((struct kp_frame){.kind = KP_ROLE, .role = ROLE_CORE, .status = 0});
	ck_assert_int_eq(hear(KP_REFUSED).status, -EINVAL);
	daemon_stop();
}
END_TEST

START_TEST(a_core_that_reads_nothing_is_aborted_and_replaced)
{
	setenv("KT_HANG_MS", "2000", 1);
	daemon_start();
	hello();
	pid_t old = T.core_pid;
	spawn_children(OP_EXIT, 1, 1, 0);
	accept_role(ROLE_CORE); /* nobody read the exit */
	ck_assert_int_ne(T.core_pid, old);
	wait_gone(old);
	ck_assert_uint_eq(hello().ended, 1);
	daemon_stop();
}
END_TEST

START_TEST(a_core_that_never_says_hello_is_replaced)
{
	setenv("KT_HANG_MS", "2000", 1);
	daemon_start();
	pid_t old = T.core_pid;
	accept_role(ROLE_CORE);
	ck_assert_int_ne(T.core_pid, old);
	hello();
	daemon_stop();
}
END_TEST

/* Busy at every look, but reading: as slow as it may be, it does not hang. */
START_TEST(a_core_that_reads_a_little_does_not_hang)
{
	setenv("KT_HANG_MS", "2000", 1);
	daemon_start();
	hello();
	pid_t old = T.core_pid;
	spawn_children(OP_EXIT, 0, 40, 0);
	for (int i = 0; i < 40; i++) {
		poll(NULL, 0, 100); /* the pace of a slow core; the test is that it takes long */
		hear(KP_EXITED);
	}
	ck_assert_int_eq(T.core_pid, old);
	ck_assert_int_eq(kill(old, 0), 0);
	daemon_stop();
}
END_TEST

START_TEST(a_daemon_that_was_stopped_does_not_abort_its_core)
{
	setenv("KT_HANG_MS", "3000", 1);
	daemon_start();
	hello();
	pid_t old = T.core_pid;
	spawn_children(OP_EXIT, 1, 1, 0);
	ck_assert_int_eq(kill(T.keeper, SIGSTOP), 0);
	poll(NULL, 0, 7000); /* more than twice the time there is to read */
	ck_assert_int_eq(kill(T.keeper, SIGCONT), 0);
	hear(KP_EXITED);
	hello();
	ck_assert_int_eq(kill(old, 0), 0);
	ck_assert_uint_eq(T.welcome, 0); /* the same core */
	daemon_stop();
}
END_TEST

START_TEST(an_idle_keeper_does_not_wake_up)
{
	char path[64], text[4096];
	daemon_start();
	hello();
	spawn_children(OP_HANG, 1, 5, 0);
	snprintf(path, sizeof(path), "/proc/%d/status", (int)T.keeper);
	long last = -1, switches = 0;
	for (int i = 0; i < 20 && switches != last; i++) { /* settles, then: not one in 300 ms */
		poll(NULL, 0, 300);
		int fd = open(path, O_RDONLY);
		ssize_t n = read(fd, text, sizeof(text) - 1);
		text[n > 0 ? n : 0] = '\0';
		close(fd);
		const char *key = "\nvoluntary_ctxt_switches:", *p = strstr(text, key);
		ck_assert_ptr_nonnull(p);
		last = switches;
		switches = strtol(p + strlen(key), NULL, 10);
	}
	ck_assert_int_eq(switches, last);
	daemon_stop();
}
END_TEST

/* ---- re-exec ---- */

static void copy_self(char path[64], const char *suffix)
{
	snprintf(path, 64, "/tmp/stayd-test-keeper-%d-%08x%s", (int)getpid(), nonce(), suffix);
	struct buf b = {0};
	ck_assert_int_eq(read_file(AT_FDCWD, "/proc/self/exe", 256u << 20, &b), 0);
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0755);
	ck_assert_int_eq(write_all(fd, b.data, b.size), 0);
	close(fd);
	buf_done(&b);
}

static void exe_of(pid_t pid, char out[256])
{
	char link[64];
	snprintf(link, sizeof(link), "/proc/%d/exe", (int)pid);
	ssize_t n = readlink(link, out, 255);
	out[n > 0 ? n : 0] = '\0';
}

static void ask_reexec(const char *path)
{
	int fd = path[0] ? open(path, O_PATH | O_CLOEXEC) : -1;
	ck_assert(!path[0] || fd >= 0);
	tell_fd((struct kp_frame){.kind = KP_REEXEC}, fd);
	fd_close(fd);
}

static void reexec_keeps_everything(const char *path)
{
	daemon_start();
	hello();
	pid_t pid = spawn_children(OP_HANG, 1, 3, 0), launcher = T.launcher_pid;
	int pipe_fds[2];
	ck_assert_int_eq(pipe2(pipe_fds, O_CLOEXEC), 0);
	tell_fd((struct kp_frame){.kind = KP_PUT, .name = "kept"}, pipe_fds[1]);
	spawn_children(OP_EXIT, 9, 1, 4); /* an exit nobody forgot goes over too */
	hear(KP_EXITED);
	ask_reexec(path);
	accept_role(ROLE_CORE);
	struct list l = hello();
	ck_assert_uint_eq(l.alive, 3);
	ck_assert_uint_eq(l.ended, 1);
	ck_assert_int_eq(l.last_ended.status, 4);
	ck_assert_uint_eq(l.fds, 1);
	ck_assert_str_eq(l.fd_name, "kept");
	ck_assert_int_eq(write(l.fd, "x", 1), 1);
	ck_assert_uint_eq(T.welcome, 1);
	ck_assert_int_eq(l.is_stale, 1);
	struct spawn_id role = {.seq = ROLE_LAUNCHER};
	tell((struct kp_frame){.kind = KP_SIGNAL, .id = role, .status = SIGTERM});
	accept_role(ROLE_LAUNCHER);
	ck_assert_int_ne(T.launcher_pid, launcher);
	ck_assert_int_eq(kill(pid, SIGKILL), 0);
	ck_assert_int_eq(hear(KP_EXITED).pid, pid);
	char exe[256];
	exe_of(T.keeper, exe);
	if (path[0])
		ck_assert_str_eq(exe, path);
	daemon_stop();
}

START_TEST(a_reexec_keeps_children_exits_and_deposits)
{
	reexec_keeps_everything("");
}
END_TEST

START_TEST(a_reexec_into_a_new_program_keeps_children_exits_and_deposits)
{
	char path[64];
	copy_self(path, "");
	reexec_keeps_everything(path);
	unlink(path);
}
END_TEST

START_TEST(a_program_of_before_a_reexec_is_not_started_again)
{
	daemon_start();
	hello();
	int program = open("/bin/sleep", O_PATH | O_CLOEXEC); /* ends at once, again and again */
	tell_fd((struct kp_frame){.kind = KP_ROLE, .role = ROLE_NET, .status = 1}, program);
	ck_assert_uint_eq(hear(KP_LINK).role, ROLE_NET);
	ask_reexec("");
	accept_role(ROLE_CORE);
	hello();
	struct pollfd p = {T.core, POLLIN, 0};
	ck_assert_int_eq(poll(&p, 1, 500), 0); /* a link would be told of */
	tell_fd((struct kp_frame){.kind = KP_ROLE, .role = ROLE_NET, .status = 1}, program);
	ck_assert_uint_eq(hear(KP_LINK).role, ROLE_NET);
	fd_close(program);
	daemon_stop();
}
END_TEST

START_TEST(a_program_that_cannot_be_executed_changes_nothing)
{
	static const char *const bad[] = {"/etc/passwd", "/tmp"};
	daemon_start();
	hello();
	pid_t core = T.core_pid;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		ask_reexec(bad[i]);
		struct kp_frame f = hear(KP_REFUSED);
		ck_assert_int_eq(f.code, KP_REEXEC);
		ck_assert_int_eq(f.status, -EACCES);
	}
	spawn_children(OP_EXIT, 2, 1, 0);
	ck_assert_uint_eq(hear(KP_EXITED).id.seq, 2);
	ck_assert_int_eq(kill(core, 0), 0);
	daemon_stop();
}
END_TEST

static void is_left_for_the_previous_one(const char *suffix)
{
	char path[64], before[256], after[256];
	copy_self(path, suffix);
	daemon_start();
	hello();
	exe_of(T.keeper, before);
	pid_t pid = spawn_children(OP_HANG, 1, 1, 0);
	ask_reexec(path);
	accept_role(ROLE_CORE);
	struct list l = hello();
	ck_assert_uint_eq(l.alive, 1);
	ck_assert_int_eq(l.came_back, -ECANCELED);
	exe_of(T.keeper, after);
	ck_assert_str_eq(before, after);
	ck_assert_int_eq(kill(pid, 0), 0);
	daemon_stop();
	unlink(path);
}

START_TEST(a_program_whose_core_cannot_start_is_left_for_the_previous_one)
{
	is_left_for_the_previous_one("-broken");
}
END_TEST

START_TEST(the_way_back_is_tried_until_it_works)
{
	is_left_for_the_previous_one("-stuck");
}
END_TEST

/* ---- the end ---- */

START_TEST(an_end_during_probation_is_no_reason_to_go_back)
{
	char path[64];
	copy_self(path, "");
	setenv("KT_PROVE_MS", "300", 1);
	daemon_start();
	hello();
	ask_reexec(path);
	accept_role(ROLE_CORE);
	hello();
	ck_assert_int_eq(kill(T.launcher_pid, SIGSTOP), 0); /* so the roles' end takes longer */
	daemon_stop();
	unsetenv("KT_PROVE_MS");
	unlink(path);
}
END_TEST

START_TEST(exit_ends_children_grandchildren_and_roles)
{
	daemon_start();
	hello();
	pid_t pid = spawn_children(OP_HANG, 1, 10, 0);
	spawn_children(OP_GRANDCHILD, 50, 5, 0);
	pid_t core = T.core_pid, launcher = T.launcher_pid;
	daemon_stop();
	ck_assert_int_eq(state_of(pid), 0);
	ck_assert_int_eq(state_of(core), 0);
	ck_assert_int_eq(state_of(launcher), 0);
}
END_TEST

START_TEST(as_pid_1_it_speaks_of_the_pids_of_its_namespace)
{
	NEED_ROOT(); /* for a pid namespace */
	daemon_start_with(CLONE_NEWPID);
	hello();
	ck_assert_int_lt(T.core_pid, 10);
	pid_t pid = spawn_children(OP_HANG, 1, 3, 0);
	ck_assert_int_lt(pid, 100);
	tell((struct kp_frame){.kind = KP_SIGNAL, .id = id_of(3), .status = SIGTERM});
	struct kp_frame f = hear(KP_EXITED);
	ck_assert_int_eq(f.pid, pid);
	spawn_children(OP_ORPHAN, 0, 200, 0);
	spawn_children(OP_EXIT, 100, 100, 6);
	for (int i = 0; i < 100; i++)
		ck_assert_int_eq(hear(KP_EXITED).status, 6);
	tell((struct kp_frame){.kind = KP_REEXEC});
	accept_role(ROLE_CORE);
	struct list l = hello();
	ck_assert_uint_eq(l.alive, 2);
	ck_assert_uint_eq(l.ended, 101);
	daemon_stop();
}
END_TEST

START_TEST(keeper_stops_by_itself_when_no_core_can_start)
{
	daemon_start();
	hello();
	pid_t pid = spawn_children(OP_HANG, 1, 5, 0);
	for (int i = 0; i < 5; i++) { /* none of them says hello */
		ck_assert_int_eq(kill(T.core_pid, SIGKILL), 0);
		if (i < 4)
			accept_role(ROLE_CORE);
	}
	ck_assert_int_eq(kill(T.keeper, SIGTERM), 0);
	ck_assert_int_eq(keeper_status(), 1);
	ck_assert_int_eq(state_of(pid), 0);
}
END_TEST

Suite *suite(void)
{
	Suite *s = suite_create("keeper");
	TCase *t = tcase_create("keeper");
	tcase_set_timeout(t, 120);
	tcase_add_test(t, the_first_core_gets_the_launchers_link_and_a_welcome);
	tcase_add_test(t, an_exit_is_told_with_status_and_is_told_again_until_forgotten);
	tcase_add_test(t, an_exit_while_core_is_away_is_delivered_to_the_next);
	tcase_add_test(t, children_that_end_right_after_birth_are_never_lost);
	tcase_add_test(t, a_core_that_does_not_read_gets_every_exit_later);
	tcase_add_test(t, fifty_dead_cores_cost_no_child_link_or_deposit);
	tcase_add_test(t, a_dead_launcher_is_replaced_and_core_gets_the_new_link);
	tcase_add_test(t, dead_launchers_leave_no_descriptor_behind);
	tcase_add_test(t, children_born_while_their_launcher_dies_are_not_lost);
	tcase_add_test(t, orphans_are_reaped_and_can_be_tracked_afterwards);
	tcase_add_test(t, a_tracked_main_that_was_reparented_is_signalled_and_reported);
	tcase_add_test(t, a_signal_reaches_a_live_child_and_never_a_reaped_pid);
	tcase_add_test(t, a_shims_report_comes_before_its_own_exit);
	tcase_add_test(t, a_signal_to_keeper_waits_for_the_next_core);
	tcase_add_test(t, a_request_to_end_is_told_to_every_later_core);
	tcase_add_test(t, bad_frames_cost_core_its_link_and_nothing_else);
	tcase_add_test(t, deposits_are_dropped_and_roles_are_run_on_request);
	tcase_add_test(t, a_core_that_reads_nothing_is_aborted_and_replaced);
	tcase_add_test(t, a_core_that_never_says_hello_is_replaced);
	tcase_add_test(t, a_core_that_reads_a_little_does_not_hang);
	tcase_add_test(t, a_daemon_that_was_stopped_does_not_abort_its_core);
	tcase_add_test(t, an_idle_keeper_does_not_wake_up);
	tcase_add_test(t, a_reexec_keeps_children_exits_and_deposits);
	tcase_add_test(t, a_reexec_into_a_new_program_keeps_children_exits_and_deposits);
	tcase_add_test(t, a_program_of_before_a_reexec_is_not_started_again);
	tcase_add_test(t, a_program_that_cannot_be_executed_changes_nothing);
	tcase_add_test(t, a_program_whose_core_cannot_start_is_left_for_the_previous_one);
	tcase_add_test(t, the_way_back_is_tried_until_it_works);
	tcase_add_test(t, an_end_during_probation_is_no_reason_to_go_back);
	tcase_add_test(t, exit_ends_children_grandchildren_and_roles);
	tcase_add_test(t, as_pid_1_it_speaks_of_the_pids_of_its_namespace);
	tcase_add_test(t, keeper_stops_by_itself_when_no_core_can_start);
	suite_add_tcase(s, t);
	return s;
}
