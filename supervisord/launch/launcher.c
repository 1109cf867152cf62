/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The launcher: takes plans from core, starts processes that are the keeper's children, answers.
 *
 *  1. It is single-threaded, allocates nothing per start, and never waits for a child: vfork-style
 *     starts last until the child's exec, all others are watched through their error pipe.
 *  2. Its dispositions are default and its mask empty from the first line on, so that no child has
 *     anything to reset; every descriptor is CLOEXEC, all but its own were closed at start.
 *  3. One start, one reply; what core may not start itself (getent, the trial of a new program)
 *     answers by a pipe of core's, and the removal of a directory not at all. While a reply waits
 *     for room or PROMPT_MAX starts are under way it reads no request: the socket is the queue.
 *     A start that takes SLOW_US counts no more: it may be one that somebody stops before its exec
 *     (kill(-1, SIGSTOP) of a service of the same user), and that is no reason to wait for others.
 *  4. A plan is checked before it is looked at; a frame that is not one of core's ends the process
 *     (the keeper makes a new one): there is nothing to agree on with a peer of another build.
 *  5. As root it is never dumpable: a vfork child that became another user shares its memory, and
 *     that user must not be able to trace it (setresuid() would also flip the flag under us).
 *
 * The clone ladder: clone3 (with CLONE_INTO_CGROUP), else clone() and the child enters its cgroup
 * itself (Docker's default filter answers ENOSYS to clone3).
 */
#include "parts.h"

#include <fcntl.h>
#include <limits.h>
#include <linux/capability.h>
#include <linux/close_range.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define PENDING_MAX     1024 /* forked starts that have not reached their exec */
#define PROMPT_MAX      64   /* those of them that may be expected to do so in a moment */
#define SLOW_US         (100 * USEC_PER_MSEC)
#define FDS_A_PENDING   4 /* descriptors that we may have for each: one is its pipe */
#define REPLIES_MAX     (PENDING_MAX + 8)
#define REQUESTS_A_TURN 16 /* so that error pipes and the keeper's end are seen in a storm */
#define READ_PAUSE_MS   1  /* after a read of a report that failed */
#define HELD_MAX        2  /* locks of the daemon: LN_HOLD */
#define CHILD_STACK     (128 * 1024)

#if defined(__SANITIZE_ADDRESS__)
#	define CAN_VFORK false /* ASan's shadow of the stack belongs to the parent */
#elif defined(__x86_64__) || defined(__aarch64__)
#	define CAN_VFORK true
#else
#	define CAN_VFORK false
#endif

struct pending {
	struct source source; /* of the pipe's read end */
	struct spawn_id id;
	struct report failure; /* kind 0: none yet */
	struct report in;      /* n_in bytes of the next one */
	size_t n_in;
	uint64_t began_us;
	pid_t pid, program;
	bool is_used, is_shim, is_at_exec, is_slow;
};

static struct {
	struct loop loop;
	struct source core, keeper;
	int null_fd;
	bool has_clone3, is_sync_wanted;
	struct pending pending[PENDING_MAX]; /* zero, so not in memory, until there are that many */
	volatile uint8_t *is_born; /* of each pending one, written by it; NULL: no memory */
	unsigned n_pending, n_slow, pending_max;
	struct ln_reply replies[REPLIES_MAX]; /* ring: waiting for room in the socket */
	unsigned first_reply, n_replies;
	int held[HELD_MAX];
} L;

/* The head is 36 bytes and the plan behind it wants 8-byte alignment. */
#define FRAME_AT (64 - sizeof(struct ln_head))
static _Alignas(64) char frame_memory[64 + LN_FRAME_MAX];
static _Alignas(16) char child_stack[CHILD_STACK];

/* ---- replies ---- */

static bool may_start(void)
{
	return L.n_pending < L.pending_max && L.n_pending - L.n_slow < PROMPT_MAX;
}

static void update_core(void)
{
	bool may_read = L.n_replies == 0 && may_start();
	bool is_waiting = L.is_sync_wanted || L.n_pending - L.n_slow >= PROMPT_MAX;
	if (is_waiting && L.loop.timer_armed_us == USEC_INFINITY)
		loop_arm(&L.loop, now_mono_us() + SLOW_US);
	uint32_t events = (may_read ? EPOLLIN : 0u) | (L.n_replies ? EPOLLOUT : 0u);
	(void)loop_modify(&L.loop, &L.core, events);
}

static void leave(int code)
{
	L.loop.is_done = true;
	L.loop.exit_code = code;
}

static void flush_replies(void)
{
	while (L.n_replies) {
		ssize_t n = send_fds(ROLE_CORE_FD, &L.replies[L.first_reply],
			sizeof(struct ln_reply), NULL, 0, MSG_DONTWAIT);
		if (n == -EAGAIN)
			break;
		if (n < 0) {
			leave(EXIT_FAILURE); /* core is gone: so are we, the keeper starts both */
			return;
		}
		L.first_reply = (L.first_reply + 1) % REPLIES_MAX;
		L.n_replies--;
	}
	update_core();
}

static void reply(const struct ln_reply *r)
{
	assert(L.n_replies < REPLIES_MAX);
	if (L.n_replies == 0 && send_fds(ROLE_CORE_FD, r, sizeof(*r), NULL, 0, MSG_DONTWAIT) > 0)
		return;
	L.replies[(L.first_reply + L.n_replies++) % REPLIES_MAX] = *r;
	flush_replies();
}

static void reply_failed(const struct spawn_id *id, int stage, int error, const char *detail)
{
	struct ln_reply r = {
		.build = WIRE_BUILD, .kind = LN_FAILED, .id = *id, .stage = stage, .error = error};
	str_copy(r.detail, detail, sizeof(r.detail));
	reply(&r);
}

static void reply_spawned(const struct spawn_id *id, pid_t pid, pid_t shim_pid)
{
	struct ln_reply r = {.build = WIRE_BUILD,
		.kind = LN_SPAWNED,
		.id = *id,
		.pid = pid,
		.shim_pid = shim_pid};
	reply(&r);
}

/* Answered, or slow and known to the keeper: that may hang for ever, and core waits for us. */
static bool is_answered(const struct pending *p)
{
	return !p->is_used || (p->is_slow && L.is_born && L.is_born[p - L.pending]);
}

/* LN_SYNC: nothing that was asked before can be born later. */
static void reply_synced(void)
{
	struct ln_reply r = {.build = WIRE_BUILD, .kind = LN_SYNCED};
	unsigned left = L.n_pending;
	if (!L.is_sync_wanted)
		return;
	for (const struct pending *p = L.pending; left; p++) {
		left -= p->is_used;
		if (!is_answered(p))
			return;
	}
	L.is_sync_wanted = false;
	reply(&r);
}

/* What the child found, said so that one needs not look up the rest: here files may be looked at. */
static void reply_report(const struct spawn_id *id, const struct report *report)
{
	char detail[sizeof(report->detail) + 64];
	struct stat st;
	const char *path = report->detail;
	bool is_exec = report->stage == EXIT_EXEC && path[0] == '/';
	bool is_there = is_exec && stat(path, &st) == 0;
	const char *hint = "";
	if (is_there && report->error == ENOENT)
		hint = ": its interpreter is missing";
	else if (is_there && S_ISDIR(st.st_mode))
		hint = ": is a directory";
	else if (is_there && report->error == EACCES && !(st.st_mode & 0111))
		hint = ": not executable";
	else if (is_there && report->error == ENOEXEC)
		hint = ": no \"#!\" line and not a program for this machine";
	size_t n = str_copy(detail, path, sizeof(detail));
	str_copy(detail + MIN(n, sizeof(detail) - 1), hint,
		sizeof(detail) - MIN(n, sizeof(detail) - 1));
	str_make_printable(detail);
	reply_failed(id, report->stage, report->error, detail);
}

/* ---- clone ---- */

static void child_entry(struct child *c)
{
	child_main(c);
}

static int child_entry_clone(void *c)
{
	child_main(c);
}

static long clone_modern(struct child *c, int cgroup_fd, bool is_vfork)
{
	struct clone_args a = {.flags = CLONE_PARENT};
	if (cgroup_fd >= 0) {
		a.flags |= CLONE_INTO_CGROUP;
		a.cgroup = (uint64_t)cgroup_fd;
	}
	if (!is_vfork) {
		long pid = syscall(SYS_clone3, &a, sizeof(a));
		if (pid == 0)
			child_main(c);
		return pid < 0 ? -errno : pid;
	}
	a.flags |= CLONE_VM | CLONE_VFORK;
	a.stack = (uint64_t)(uintptr_t)child_stack;
	a.stack_size = sizeof(child_stack);
	return clone3_raw(&a, child_entry, c);
}

static long clone_old(struct child *c, int cgroup_fd, bool is_vfork)
{
	long pid;
	if (cgroup_fd >= 0) {
		c->cgroup_procs_fd = openat(cgroup_fd, "cgroup.procs", O_WRONLY | O_CLOEXEC);
		if (c->cgroup_procs_fd < 0)
			return -errno;
	}
	if (is_vfork) {
		pid = clone(child_entry_clone, child_stack + sizeof(child_stack),
			CLONE_PARENT | CLONE_VM | CLONE_VFORK, c);
	} else {
		pid = syscall(SYS_clone, CLONE_PARENT, NULL, NULL, NULL, NULL);
		if (pid == 0)
			child_main(c);
	}
	if (pid < 0)
		pid = -errno;
	c->cgroup_procs_fd = fd_close(c->cgroup_procs_fd);
	return pid;
}

/* ENOSYS and EPERM are a filter's answers, EINVAL an old kernel's: the other way is tried, and the
 * first is not tried again once the second has worked. */
static long clone_child(struct child *c, int cgroup_fd, bool is_vfork)
{
	if (L.has_clone3) {
		long pid = clone_modern(c, cgroup_fd, is_vfork);
		if (pid != -ENOSYS && pid != -EPERM && pid != -EINVAL)
			return pid;
	}
	long pid = clone_old(c, cgroup_fd, is_vfork);
	if (pid > 0)
		L.has_clone3 = false;
	return pid;
}

static int clone_stage(long error, bool has_cgroup)
{
	if (error == -ENOMEM)
		return EXIT_MEMORY;
	return has_cgroup ? EXIT_CGROUP : EXIT_LIMITS;
}

/* ---- starts that share our memory ---- */

static void spawn_shared(struct child *c, int cgroup_fd)
{
	c->report_fd = -1;
	long pid = clone_child(c, cgroup_fd, true);
	if (pid < 0)
		reply_failed(c->id, clone_stage(pid, cgroup_fd >= 0), (int)-pid, "clone");
	else if (c->report.kind == REPORT_AT_EXEC)
		reply_spawned(c->id, (pid_t)pid, 0);
	else if (c->report.kind == REPORT_FAILED)
		reply_report(c->id, &c->report);
	else
		reply_failed(c->id, EXIT_EXEC, ECANCELED, "killed before its exec");
}

/* ---- starts with an address space of their own ---- */

static void pending_done(struct pending *p)
{
	loop_remove(&L.loop, &p->source);
	p->source.fd = fd_close(p->source.fd);
	p->is_used = false;
	L.n_pending--;
	L.n_slow -= p->is_slow;
	if (p->failure.kind == REPORT_FAILED)
		reply_report(&p->id, &p->failure);
	else if (p->is_at_exec && (!p->is_shim || p->program))
		reply_spawned(&p->id, p->is_shim ? p->program : p->pid, p->is_shim ? p->pid : 0);
	else
		reply_failed(&p->id, EXIT_EXEC, ECANCELED, "killed before its exec");
	reply_synced();
	update_core();
}

static void on_report(struct source *s, uint32_t epoll_events)
{
	struct pending *p = container_of(s, struct pending, source);
	(void)epoll_events;
	ssize_t n = read(s->fd, (char *)&p->in + p->n_in, sizeof(p->in) - p->n_in);
	if (n < 0) {
		/* No end: the child may run on, and its successor would run beside it. */
		if (errno != EINTR && errno != EAGAIN)
			(void)poll(NULL, 0, READ_PAUSE_MS);
		return;
	}
	if (n == 0) {
		pending_done(p);
		return;
	}
	p->n_in += (size_t)n;
	if (p->n_in < sizeof(p->in))
		return;
	struct report r = p->in;
	p->n_in = 0;
	r.detail[sizeof(r.detail) - 1] = '\0';
	if (r.kind == REPORT_FAILED)
		p->failure = r;
	else if (r.kind == REPORT_PROGRAM)
		p->program = r.pid;
	else if (r.kind == REPORT_AT_EXEC)
		p->is_at_exec = true;
}

static struct pending *pending_new(void)
{
	for (size_t i = 0; i < PENDING_MAX; i++)
		if (!L.pending[i].is_used)
			return &L.pending[i];
	return NULL;
}

/* Armed when PROMPT_MAX starts, or all of them for LN_SYNC, are waited for. */
static void on_timer(struct loop *l)
{
	uint64_t now = now_mono_us();
	unsigned left = L.n_pending;
	(void)l;
	for (struct pending *p = L.pending; left; p++) {
		left -= p->is_used;
		if (!p->is_used || p->is_slow || now - p->began_us < SLOW_US)
			continue;
		p->is_slow = true;
		L.n_slow++;
	}
	reply_synced();
	update_core();
}

static void spawn_forked(struct child *c, int cgroup_fd)
{
	int fds[2];
	struct pending *p = pending_new();
	assert(p); /* update_core(): no request is read without a free one */
	if (pipe2(fds, O_CLOEXEC | O_NONBLOCK) < 0) {
		reply_failed(c->id, EXIT_FDS, errno, "pipe");
		return;
	}
	c->report_fd = fds[1];
	c->is_born = L.is_born ? &L.is_born[p - L.pending] : NULL;
	if (c->is_born)
		*c->is_born = false;
	long pid = clone_child(c, cgroup_fd, false);
	close(fds[1]);
	if (pid < 0) {
		close(fds[0]);
		reply_failed(c->id, clone_stage(pid, cgroup_fd >= 0), (int)-pid, "clone");
		return;
	}
	*p = (struct pending){.id = *c->id,
		.pid = (pid_t)pid,
		.began_us = now_mono_us(),
		.is_used = true,
		.is_shim = c->plan->flags & PLAN_SHIM};
	L.n_pending++;
	if (loop_add(&L.loop, &p->source, fds[0], EPOLLIN, PRIO_LAUNCHER, on_report) < 0) {
		p->source.fd = fds[0];
		pending_done(p);
	}
}

/* ---- requests ---- */

struct request {
	struct ln_head head;
	struct plan *plan;
	void *mapping; /* of a plan that came in a memfd */
	int fds[FDS_MAX];
	size_t n_fds;
	int cgroup_fd;
};

/* A plan in a memfd: sealed against shrinking (SIGBUS) and writing (checked, then changed). */
static int map_plan(struct request *q, int fd)
{
	struct stat st;
	int seals = fcntl(fd, F_GET_SEALS);
	if (seals < 0 || (seals & (F_SEAL_SHRINK | F_SEAL_WRITE)) != (F_SEAL_SHRINK | F_SEAL_WRITE))
		return -EBADMSG;
	if (fstat(fd, &st) < 0 || st.st_size < (off_t)q->head.plan_size)
		return -EBADMSG;
	q->mapping = mmap(NULL, q->head.plan_size, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	if (q->mapping == MAP_FAILED) {
		q->mapping = NULL;
		return -errno;
	}
	q->plan = q->mapping;
	return 0;
}

static int take_fds(struct request *q, struct child *c)
{
	static const uint32_t bits[3] = {LN_HAS_STDIN, LN_HAS_STDOUT, LN_HAS_STDERR};
	size_t at = 0, wanted = q->head.n_pass_fds;
	for (int i = 0; i < 3; i++)
		wanted += (q->head.flags & bits[i]) != 0;
	wanted += (q->head.flags & LN_HAS_CGROUP) != 0;
	wanted += (q->head.flags & LN_PLAN_IN_FD) != 0;
	if (q->head.n_pass_fds > FDS_MAX || wanted != q->n_fds)
		return -EBADMSG;
	for (int i = 0; i < 3; i++)
		c->std[i] = q->head.flags & bits[i] ? q->fds[at++] : -1;
	q->cgroup_fd = q->head.flags & LN_HAS_CGROUP ? q->fds[at++] : -1;
	c->pass = q->fds + at;
	return 0;
}

static int take_plan(struct request *q, char *bytes, size_t size)
{
	if (q->head.plan_size > LN_PLAN_MAX)
		return -EBADMSG;
	if (q->head.flags & LN_PLAN_IN_FD) {
		int r = size == 0 ? map_plan(q, q->fds[q->n_fds - 1]) : -EBADMSG;
		if (r < 0)
			return r;
	} else if (size != q->head.plan_size) {
		return -EBADMSG;
	} else {
		q->plan = (void *)bytes;
	}
	int r = plan_check(q->plan, q->head.plan_size);
	if (r == 0 && q->plan->n_pass != q->head.n_pass_fds)
		r = -EBADMSG;
	return r;
}

static int handle(struct request *q, char *bytes, size_t size)
{
	struct child c = {.id = &q->head.id,
		.keeper_fd = ROLE_KEEPER_FD,
		.null_fd = L.null_fd,
		.report_fd = -1,
		.cgroup_procs_fd = -1};
	int r = take_fds(q, &c);
	if (r == 0)
		r = take_plan(q, bytes, size);
	if (r < 0) {
		reply_failed(&q->head.id, EXIT_EXEC, -r, "the plan is damaged");
		return 0;
	}
	plan_relocate(q->plan);
	c.plan = q->plan;
	if (CAN_VFORK && !(q->plan->flags & PLAN_FORK))
		spawn_shared(&c, q->cgroup_fd);
	else
		spawn_forked(&c, q->cgroup_fd);
	return 0;
}

/* ---- names ---- */

#define LOOKUP_SECONDS  3 /* core waits less */
#define LOOKUP_SIZE_MAX 512

/* NSS modules are other people's code, so getent is a program of its own; as a child of keeper, who
 * reaps whatever it does not know, it owes nobody an exit. */
static void run_getent(const char *database, const char *name, int out)
{
	char *const argv[] = {(char *)"getent", (char *)"--", (char *)database, (char *)name, NULL};
	char *const envp[] = {(char *)"PATH=/usr/bin:/bin", NULL};
	if (syscall(SYS_clone, CLONE_PARENT, NULL, NULL, NULL, NULL) != 0)
		return;
	(void)alarm(LOOKUP_SECONDS);
	if (dup2(L.null_fd, STDIN_FILENO) >= 0 && dup2(out, STDOUT_FILENO) >= 0 &&
		dup2(L.null_fd, STDERR_FILENO) >= 0)
		(void)execve("/usr/bin/getent", argv, envp);
	_exit(EXIT_FAILURE);
}

/* Two strings, and one descriptor; the reply is what getent writes. */
static int lookup(const struct request *q, const char *bytes, size_t size)
{
	size_t first = strnlen(bytes, MIN(size, (size_t)LOOKUP_SIZE_MAX)) + 1;
	if (q->head.flags != (LN_LOOKUP | LN_HAS_STDOUT) || q->n_fds != 1 ||
		size > LOOKUP_SIZE_MAX || first >= size ||
		strnlen(bytes + first, size - first) + 1 != size - first ||
		(!streq(bytes, "passwd") && !streq(bytes, "group")))
		return -EPROTO;
	run_getent(bytes, bytes + first, q->fds[0]);
	return 0;
}

/* ---- is it a stayd that could take over? ---- */

#define TRIAL_SECONDS 5

/* By a child of keeper, which owes nobody an exit, and its own child, whose end it tells. */
static void run_trial(char *version, int out, int program)
{
	char *const argv[] = {(char *)"stayd", (char *)"--role=trial", version, NULL};
	int status;
	if (syscall(SYS_clone, CLONE_PARENT, NULL, NULL, NULL, NULL) != 0)
		return;
	pid_t pid = fork();
	if (pid == 0) {
		(void)signal(SIGALRM, SIG_DFL);
		(void)alarm(TRIAL_SECONDS); /* holds over the exec, and kills */
		(void)exec_with_fds(program, (char **)argv, NULL, 0);
		_exit(EXIT_EXEC);
	}
	if (pid > 0 && waitpid(pid, &status, __WALL) == pid)
		(void)write_all(out, &status, sizeof(status));
	_exit(EXIT_SUCCESS);
}

static int trial(const struct request *q, char *bytes, size_t size)
{
	if (q->head.flags != (LN_TRIAL | LN_HAS_STDOUT) || q->n_fds != 2 || !size ||
		size > LOOKUP_SIZE_MAX || bytes[size - 1])
		return -EPROTO;
	run_trial(bytes, q->fds[0], q->fds[1]);
	return 0;
}

/* ---- directories that are more than core can wait for ---- */

/* Links, locks and others' reports must not live as long as this. */
static bool keep_only(int fd)
{
	return dup2(fd, ROLE_KEEPER_FD) >= 0 &&
	       syscall(SYS_close_range, ROLE_KEEPER_FD + 1, ~0U, 0) == 0;
}

/* A child of keeper, which owes nobody an exit. */
static int remove_dir(const struct request *q, const char *name, size_t size)
{
	if (q->head.flags != (LN_REMOVE | LN_HAS_STDOUT) || q->n_fds != 1 || size > NAME_MAX + 1 ||
		strnlen(name, size) + 1 != size || strchr(name, '/') || !name[0] ||
		streq(name, ".") || streq(name, ".."))
		return -EPROTO;
	long pid = syscall(SYS_clone, CLONE_PARENT, NULL, NULL, NULL, NULL);
	if (pid < 0)
		log_warn(NULL, "cannot remove what a service left in %s: %s", name,
			errno_name(errno));
	if (pid != 0)
		return 0;
	(void)prctl(PR_SET_NAME, "stayd-remove", 0, 0, 0);
	if (keep_only(q->fds[0]))
		dir_remove(ROLE_KEEPER_FD, name);
	_exit(EXIT_SUCCESS);
}

/* Takes the descriptors; those of an earlier core go. */
static int hold(const int *fds, size_t *n_fds)
{
	if (*n_fds > HELD_MAX)
		return -EPROTO;
	for (size_t i = 0; i < HELD_MAX; i++) {
		fd_close(L.held[i]);
		L.held[i] = i < *n_fds ? fds[i] : -1;
	}
	*n_fds = 0;
	return 0;
}

/* 1: more may wait; 0: nothing there; < 0: the link is of no use any more. */
static int receive(void)
{
	struct request q = {.n_fds = FDS_MAX};
	char *frame = frame_memory + FRAME_AT;
	ssize_t n = recv_fds(
		ROLE_CORE_FD, frame, sizeof(q.head) + LN_FRAME_MAX, q.fds, &q.n_fds, MSG_DONTWAIT);
	if (n == -EAGAIN)
		return 0;
	if (n <= 0)
		return n < 0 ? (int)n : -EPIPE;
	int r = -EPROTO;
	if ((size_t)n >= sizeof(q.head)) {
		memcpy(&q.head, frame, sizeof(q.head));
		if (q.head.build == WIRE_BUILD && (q.head.flags & LN_SYNC)) {
			L.is_sync_wanted = true;
			reply_synced();
			r = 0;
		} else if (q.head.build == WIRE_BUILD && (q.head.flags & LN_PING)) {
			reply(&(struct ln_reply){.build = WIRE_BUILD, .kind = LN_PONG});
			r = 0;
		} else if (q.head.build == WIRE_BUILD && (q.head.flags & LN_HOLD)) {
			r = hold(q.fds, &q.n_fds);
		} else if (q.head.build == WIRE_BUILD && (q.head.flags & LN_LOOKUP)) {
			r = lookup(&q, frame + sizeof(q.head), (size_t)n - sizeof(q.head));
		} else if (q.head.build == WIRE_BUILD && (q.head.flags & LN_REMOVE)) {
			r = remove_dir(&q, frame + sizeof(q.head), (size_t)n - sizeof(q.head));
		} else if (q.head.build == WIRE_BUILD && (q.head.flags & LN_TRIAL)) {
			r = trial(&q, frame + sizeof(q.head), (size_t)n - sizeof(q.head));
		} else if (q.head.build == WIRE_BUILD)
			r = handle(&q, frame + sizeof(q.head), (size_t)n - sizeof(q.head));
	}
	for (size_t i = 0; i < q.n_fds; i++)
		close(q.fds[i]);
	if (q.mapping)
		(void)munmap(q.mapping, q.head.plan_size);
	return r < 0 ? r : 1;
}

static void on_core(struct source *s, uint32_t epoll_events)
{
	(void)s;
	if (L.n_replies) {
		if (epoll_events & (EPOLLERR | EPOLLHUP))
			leave(EXIT_SUCCESS);
		else
			flush_replies();
		return;
	}
	for (int i = 0; i < REQUESTS_A_TURN; i++) {
		if (L.n_replies || !may_start())
			break;
		int r = receive();
		if (r == 0)
			break;
		if (r == -EPIPE || r == -ECONNRESET) {
			leave(EXIT_SUCCESS);
			return;
		}
		if (r < 0) {
			log_error(NULL, "unusable frame from core: %s", errno_name(-r));
			leave(EXIT_FAILURE);
			return;
		}
	}
	update_core();
}

static void on_keeper(struct source *s, uint32_t epoll_events)
{
	struct kp_frame
		f; /* the keeper has nothing to ask of us: only the end of the link matters */
	(void)epoll_events;
	ssize_t n = recv(s->fd, &f, sizeof(f), MSG_DONTWAIT);
	if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
		leave(EXIT_SUCCESS);
}

/* ---- start ---- */

/* The bare system call: libc's sigaction() refuses 32 and 33, its own, which a parent may have left
 * ignored all the same. KILL and STOP refuse. */
static void reset_signals(void)
{
	static const uint64_t by_default[4]; /* the kernel's struct sigaction, all zero: SIG_DFL */
	sigset_t none;
	for (int i = 1; i < NSIG; i++)
		(void)syscall(SYS_rt_sigaction, i, by_default, NULL, sizeof(uint64_t));
	sigemptyset(&none);
	(void)sigprocmask(SIG_SETMASK, &none, NULL);
}

/* Capabilities that would pass an exec by themselves are nobody's intention. */
static void reset_capabilities(void)
{
	struct __user_cap_header_struct h = {_LINUX_CAPABILITY_VERSION_3, 0};
	struct __user_cap_data_struct d[2] = {{0}};
	(void)prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
	if (syscall(SYS_capget, &h, d) < 0)
		return;
	d[0].inheritable = d[1].inheritable = 0;
	(void)syscall(SYS_capset, &h, d);
}

static int reset_fds(void)
{
	int fd;
	do
		fd = open("/dev/null", O_RDWR);
	while (fd >= 0 && fd < 3);
	if (fd < 0)
		return -errno;
	if (fd != ROLE_KEEPER_FD && fd != ROLE_CORE_FD)
		close(fd);
	for (int i = 0; i < 3; i++)
		(void)fd_set_cloexec(i, false);
	(void)fd_set_cloexec(ROLE_KEEPER_FD, true);
	(void)fd_set_cloexec(ROLE_CORE_FD, true);
	(void)syscall(SYS_close_range, ROLE_CORE_FD + 1, ~0U, 0);
	L.null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	return L.null_fd < 0 ? -errno : 0;
}

static unsigned pending_max(void)
{
	struct rlimit l;
	if (getrlimit(RLIMIT_NOFILE, &l) < 0)
		return PROMPT_MAX;
	return (unsigned)MIN(
		MAX(l.rlim_cur / FDS_A_PENDING, (rlim_t)PROMPT_MAX), (rlim_t)PENDING_MAX);
}

static int launcher_init(void)
{
	log_open("stayd-launcher", LOG_NOTE);
	(void)prctl(PR_SET_NAME, "stayd-launcher", 0, 0, 0);
	if (geteuid() == 0)
		(void)prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
	(void)setsid(); /* a terminal's ^C is for the keeper */
	(void)umask(022);
	if (chdir("/") < 0)
		return -errno;
	reset_signals();
	reset_capabilities();
	L.has_clone3 = true;
	L.pending_max = pending_max();
	void *born =
		mmap(NULL, PENDING_MAX, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	L.is_born = born == MAP_FAILED ? NULL : born;
	for (size_t i = 0; i < HELD_MAX; i++)
		L.held[i] = -1;
	int r = reset_fds();
	if (r == 0)
		r = loop_init(&L.loop);
	L.loop.on_timer = on_timer;
	if (r == 0)
		r = loop_add(&L.loop, &L.core, ROLE_CORE_FD, EPOLLIN, PRIO_NORMAL, on_core);
	if (r == 0)
		r = loop_add(&L.loop, &L.keeper, ROLE_KEEPER_FD, EPOLLIN, PRIO_KEEPER, on_keeper);
	return r;
}

int launcher_main(int argc, char **argv)
{
	(void)argc;
	(void)argv;
	int r = launcher_init();
	if (r < 0) {
		log_error(NULL, "cannot start: %s", errno_name(-r));
		return EXIT_FAILURE;
	}
	r = loop_run(&L.loop);
	return r < 0 ? EXIT_FAILURE : r;
}
