/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The keeper: PID 1, or a subreaper. Reaps everything, keeps what must outlive core, runs the roles.
 *
 *  1. After start() it never returns on an error and never allocates; it ends only by stop_begin().
 *  2. Only the reaper signals by pid: a pid it has not reaped cannot have been reused.
 *  3. A child speaks (KP_BORN) before its exec, so before its exit. Whoever is reaped unknown has
 *     its word waiting in a launcher's link, or never was anybody's: an orphan.
 *  4. Every exit of a known child is told to every core until one says KP_FORGET.
 *
 * The promise of 800 lines holds for the two halves, not for the sum: reaping, table and loop are one,
 * roles, links and re-exec the other. tests/purity.py bounds them together, and what they may call.
 *
 * Called by main(). Read in this order: turn(), child_ended(), then links.c, roles.c, reexec.c.
 */
#include "private.h"

#include <fcntl.h>
#include <linux/close_range.h>
#include <sys/auxv.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/reboot.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/wait.h>

#define REAP_BATCH    512 /* exits in one turn, so that links are served in a storm too */
#define CRASHES_MAX   5   /* of core without a welcome: we answer SIGTERM ourselves then */
#define STOP_TERM_US  (10 * USEC_PER_SEC)
#define STOP_KILL_US  (2 * USEC_PER_SEC)
#define STOP_ROLES_US (5 * USEC_PER_SEC) /* killed after STOP_KILL_US; then one is stuck */
#define STOP_REST_US  (5 * USEC_PER_SEC)
#define STOP_AGAIN_US USEC_PER_SEC /* what a second SIGTERM leaves */

struct keeper K;
struct timing timing = {
	.backoff_max_us = USEC_PER_SEC, /* nobody decides meanwhile; a start costs some ms of CPU */
	.settled_us = 10 * USEC_PER_SEC,
	.alive_us = 30 * USEC_PER_SEC,
	.prove_us = 10 * USEC_PER_SEC,
};

/* ---- children ------------------------------------------------------------------------------------ */

/* Has core been told of this row already, so that a change is news? Else the list brings it. */
static bool is_news(const struct row *r)
{
	return K.phase > CORE_CHILDREN || (K.phase == CORE_CHILDREN && row_index(r) <= K.cursor);
}

/* Our child (alive or not yet reaped)? Only then may its pid be used. */
static bool is_ours(pid_t pid)
{
	siginfo_t info;
	return waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT | __WALL) == 0;
}

void child_born(const struct kp_frame *f, pid_t pid)
{
	struct row *r = row_of_pid(pid);
	if (r && r->kind == ROW_CHILD)
		return; /* said it twice */
	if (r)
		row_free(r); /* a tracked main that ended elsewhere: its pid was used again */
	r = row_new(ROW_CHILD, &f->id, pid);
	if (!r) {
		struct kp_frame about = *f;
		about.pid = pid;
		core_refused(KP_BORN, -ENOSPC, &about); /* runs on, but its exit is an orphan's */
	} else if (K.phase != CORE_LIVE && is_news(r)) {
		queue_add(r); /* asked for by the previous core, missed by the list */
	}
}

static void row_ended(struct row *r, int wait_status, uint64_t time_us)
{
	if (WIFEXITED(wait_status))
		row_end(r, CLD_EXITED, WEXITSTATUS(wait_status), time_us);
	else
		row_end(r, WCOREDUMP(wait_status) ? CLD_DUMPED : CLD_KILLED, WTERMSIG(wait_status),
			time_us);
}

static void child_ended(pid_t pid, int wait_status)
{
	for (enum role i = ROLE_CORE; i < ROLE_MAX; i++)
		if (K.kept.role[i].pid == pid) {
			role_end(i, wait_status);
			return;
		}
	if (K.trial_pid == pid) {
		reexec_trial_ended(wait_status);
		return;
	}
	struct row *r;
	while (!(r = row_of_pid(pid)) && born_read_one())
		; /* one by one: behind its word may wait that of the next owner of this pid */
	if (!r) {
		orphan_add(pid, wait_status, now_boot_us());
		return;
	}
	row_ended(r, wait_status, now_boot_us());
	while (r->kind == ROW_CHILD && born_read_one())
		; /* a shim's last words come before its own exit */
	if (is_news(r))
		queue_add(r);
}

/* A shim's word: which of those below is the program (for a core that never hears the launcher's
 * word), or that one of them ended. */
void child_below(const struct kp_frame *f, pid_t shim)
{
	struct row *r = row_of_id(&f->id, NULL);
	while (r && !(r->kind == ROW_CHILD && r->pid == shim))
		r = row_of_id(&f->id, r);
	if (!r)
		return; /* not the shim of that id */
	if (f->kind == KP_SHIM_MAIN) {
		r->program = f->pid;
		return;
	}
	r = row_new(ROW_BELOW, &f->id, f->pid);
	if (!r)
		return;
	row_end(r, f->code ? f->code : CLD_EXITED, f->status, now_boot_us());
	if (is_news(r))
		queue_add(r);
}

void child_track(const struct kp_frame *f)
{
	struct row *r = row_of_pid(f->pid);
	if (f->pid <= 1 || f->pid == getpid() || (r && memcmp(&r->id, &f->id, sizeof(f->id)))) {
		core_refused(KP_TRACK, r ? -EEXIST : -EINVAL, f);
		return;
	}
	if (r)
		return;
	const struct orphan *o = NULL;
	if (!is_ours(f->pid) && kill(f->pid, 0) < 0 && errno == ESRCH)
		o = orphan_find(f->pid); /* it was faster than core */
	r = row_new(ROW_TRACKED, &f->id, f->pid);
	if (!r) {
		core_refused(KP_TRACK, -ENOSPC, f);
	} else if (o) {
		row_ended(r, o->status, o->time_us);
		queue_add(r);
	}
}

void child_signal(const struct kp_frame *f)
{
	struct row *to = NULL;
	do {
		struct row *r = NULL;
		while ((r = row_of_id(&f->id, r)))
			if (!r->code && (!f->pid || f->pid == r->pid) &&
				(!to || r->kind == ROW_CHILD))
				to = r;
	} while (!to && born_read_one()); /* core may know of it before we read its word */
	if (!to || (to->kind == ROW_TRACKED && !is_ours(to->pid)))
		core_refused(KP_SIGNAL, -ESRCH, f);
	else if (kill(to->pid, f->status) < 0)
		core_refused(KP_SIGNAL, -errno, f);
	else if (f->code)
		(void)kill(to->pid, f->code);
}

/* With a pid: that row. Without: every exit of the id that core has been told. */
void child_forget(const struct kp_frame *f)
{
	struct row *r = row_of_id(&f->id, NULL), *next;
	for (; r; r = next) {
		next = row_of_id(&f->id, r);
		bool is_done = r->code && !r->is_queued;
		if (f->pid ? f->pid == r->pid && (is_done || r->kind == ROW_TRACKED) : is_done)
			row_free(r);
	}
}

/* ---- the end -------------------------------------------------------------------------------------- */

static void signal_children(int signal)
{
	for (unsigned i = 1; i <= rows_high(); i++) {
		struct row *r = row_at(i);
		if (r->kind && !r->code && (r->kind == ROW_CHILD || is_ours(r->pid)))
			(void)kill(r->pid, signal);
	}
}

static void signal_rest(void)
{
	if (K.is_pid1) {
		(void)kill(-1, SIGKILL);
		return;
	}
	char list[4096]; /* what does not fit comes with the next round */
	int fd = open("/proc/thread-self/children", O_RDONLY | O_CLOEXEC), pid = 0;
	ssize_t n = fd >= 0 ? read(fd, list, sizeof(list)) : 0;
	fd_close(fd);
	for (ssize_t i = 0; i < n; i++) {
		if (list[i] != ' ') {
			pid = pid * 10 + (list[i] - '0');
			continue;
		}
		(void)kill(pid, SIGKILL);
		pid = 0;
	}
}

void stop_begin(enum stop_phase phase, int status, int how)
{
	static const uint64_t time_us[] = {[STOP_CHILDREN] = STOP_TERM_US,
		[STOP_CHILDREN_KILL] = STOP_KILL_US,
		[STOP_ROLES] = STOP_ROLES_US,
		[STOP_REST] = STOP_REST_US};
	if (phase <= K.stop)
		return;
	K.stop = phase;
	K.stop_by_us = now_us() + time_us[phase];
	K.exit_status = status;
	K.exit_how = how;
	for (enum role i = ROLE_CORE; i < ROLE_MAX; i++) {
		if (phase != STOP_ROLES && !(phase == STOP_CHILDREN && i == ROLE_CORE))
			continue;
		K.kept.role[i].is_wanted = 0;
		role_close(i);
		role_ask_to_end(i, STOP_KILL_US);
	}
	if (phase == STOP_CHILDREN || phase == STOP_CHILDREN_KILL)
		signal_children(phase == STOP_CHILDREN ? SIGTERM : SIGKILL);
}

static void stop_next(void)
{
	stop_begin(K.stop + 1, K.exit_status, K.exit_how);
}

/* True when there is nothing left to wait for. */
static bool stop_tick(uint64_t now, uint64_t *next)
{
	bool is_late = now >= K.stop_by_us, has_roles = false;
	for (enum role i = ROLE_CORE; i < ROLE_MAX; i++)
		has_roles |= K.kept.role[i].pid != 0;
	if (K.stop == STOP_NOT)
		return false;
	if (K.stop < STOP_ROLES && !rows_alive())
		stop_begin(STOP_ROLES, K.exit_status, K.exit_how);
	else if (K.stop < STOP_REST && (is_late || (K.stop == STOP_ROLES && !has_roles)))
		stop_next();
	if (K.stop == STOP_REST) {
		siginfo_t info;
		signal_rest();
		if (is_late || waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT | __WALL) < 0)
			return true;
		earliest(next, now + 20 * USEC_PER_MSEC); /* grandchildren become ours one by one */
	}
	earliest(next, K.stop_by_us);
	return false;
}

static int leave(void)
{
	if (K.is_host) { /* a host without PID 1 panics, so there is no mere exit */
		sync();
		(void)reboot(K.exit_how == 1 ? RB_AUTOBOOT : RB_POWER_OFF);
	}
	return K.exit_status;
}

/* ---- the loop ------------------------------------------------------------------------------------- */

/* Kept for core, which may be away; also see check_hopeless(). */
static void on_signal(int signal)
{
	static const uint64_t told = 1ULL << (SIGTERM - 1) | 1ULL << (SIGINT - 1) |
				     1ULL << (SIGHUP - 1) | 1ULL << (SIGUSR1 - 1) |
				     1ULL << (SIGUSR2 - 1) | 1ULL << (SIGQUIT - 1) |
				     1ULL << (SIGPWR - 1) | 1ULL << (SIGWINCH - 1);
	if (signal <= 0 || signal > 64 || (signal < SIGRTMIN && !(told >> (signal - 1) & 1)))
		return;
	uint64_t bit = 1ULL << (signal - 1);
	if (K.stop && (bit & signal_ends()))
		K.stop_by_us = MIN(K.stop_by_us, now_us() + STOP_AGAIN_US);
	K.kept.signals |= bit;
}

static void check_hopeless(void)
{
	if (K.stop || K.crashes < CRASHES_MAX || !(K.kept.signals & signal_ends()))
		return;
	say("core cannot start: stopping %d children without it", (int)rows_alive());
	stop_begin(STOP_CHILDREN, 1, 0);
}

/* The signal names one exit, whatever the number of children: that one is told first. Others may
 * hide behind it, because pending signals of one kind are merged. */
static void on_sigchld(pid_t pid)
{
	int status;
	K.has_more_dead = true;
	if (pid > 0 && waitpid(pid, &status, WNOHANG | __WALL) == pid)
		child_ended(pid, status);
}

static void read_signals(void)
{
	struct signalfd_siginfo info[16];
	ssize_t n = read(K.signal_fd, info, sizeof(info)); /* more of them: epoll says so again */
	for (ssize_t i = 0; i < n / (ssize_t)sizeof(info[0]); i++) {
		if (info[i].ssi_signo == SIGCHLD)
			on_sigchld((pid_t)info[i].ssi_pid);
		else
			on_signal((int)info[i].ssi_signo);
	}
}

static void reap(void)
{
	int status;
	pid_t pid = 1;
	uint64_t before = 0;
	for (int i = 0; i < REAP_BATCH && pid > 0; i++) {
		before = now_us();
		pid = waitpid(-1, &status, WNOHANG | __WALL);
		if (pid > 0)
			child_ended(pid, status);
	}
	K.has_more_dead = pid > 0;
	K.reap_at_us = pid > 0 ? 0 : now_us() + reap_pause_us(now_us() - before);
}

/* A core that said KP_ALIVE once and falls silent hangs: SIGABRT for a trace, then SIGKILL. */
static void alive_tick(uint64_t now, uint64_t *next)
{
	if (K.alive_by_us && K.alive_by_us + USEC_PER_SEC < now) {
		K.alive_by_us = now + timing.alive_us; /* we are late too: all were stopped */
	} else if (K.alive_by_us && K.alive_by_us <= now) {
		struct role_state *core = &K.kept.role[ROLE_CORE];
		say("core hangs: aborting it");
		(void)kill(core->pid, SIGABRT);
		core->kill_at_us = now + 5 * USEC_PER_SEC;
		K.alive_by_us = 0;
	}
	earliest(next, K.alive_by_us);
}

/* One turn; true at the end of everything. */
static bool turn(void)
{
	struct epoll_event ready[32];
	uint64_t now = now_us(), next = USEC_INFINITY;
	check_hopeless();
	roles_tick(now, &next);
	alive_tick(now, &next);
	if (stop_tick(now, &next))
		return true;
	core_flush();            /* now: the ticks make news too */
	reexec_tick(now, &next); /* now: it waits for core to know everything */
	int wait_ms = -1;
	if (K.has_more_dead)
		earliest(&next, MAX(K.reap_at_us, 1u));
	if (next != USEC_INFINITY)
		wait_ms = next <= now ? 0 : (int)MIN((next - now + 999) / 1000, 3600000u);
	int n = epoll_wait(K.epoll_fd, ready, ARRAY_SIZE(ready), wait_ms);
	for (int i = 0; i < n; i++)
		if (ready[i].data.u32 == TAG_SIGNALS)
			read_signals();
		else
			link_ready(ready[i].data.u32);
	if (K.has_more_dead && K.reap_at_us <= now_us()) {
		core_flush(); /* who was named by its signal is told before the search for more */
		reap();
	}
	return false;
}

static void open_self(const char *name)
{
	int fd = open("/proc/self/exe", O_PATH | O_CLOEXEC);
	if (fd < 0 && getauxval(AT_EXECFN))
		fd = open((const char *)getauxval(AT_EXECFN), O_PATH | O_CLOEXEC);
	if (fd < 0)
		fd = open(name, O_PATH | O_CLOEXEC);
	K.self_fd = fcntl(fd, F_DUPFD_CLOEXEC, 10); /* 3 and 4 belong to the roles */
	fd_close(fd);
}

static void open_stdio(void)
{
	for (int fd = 0; fd <= STDERR_FILENO; fd++)
		if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", O_RDWR) < 0)
			(void)!memfd_create("null", 0); /* no /dev: anything but a hole */
}

/* Already the first process of the machine, not of a container? */
static bool is_host(void)
{
	char ns[64];
	ssize_t n = readlink("/proc/self/ns/pid", ns, sizeof(ns) - 1);
	ns[n > 0 ? n : 0] = '\0';
	return getpid() == 1 && (n > 0 ? streq(ns, "pid:[4026531836]") : !getenv("container"));
}

static void start(int argc, char **argv)
{
	sigset_t all;
	sigfillset(&all);
	(void)sigprocmask(SIG_SETMASK, &all, NULL);
	signal(SIGCHLD, SIG_DFL); /* inherited SIG_IGN would throw exits away */
	open_stdio();
	int skip = argc > 1 && startswith(argv[1], "--keeper-state="), state = 0;
	for (const char *p = skip ? argv[1] + 15 : ""; *p >= '0' && *p <= '9'; p++)
		state = state * 10 + (*p - '0');
	int n = 2;
	K.args[0] = argv[0];
	for (int i = 1 + skip; i < argc && n < KEEPER_ARGS_MAX + 2; i++)
		K.args[n++] = argv[i];
	K.is_pid1 = getpid() == 1;
	K.is_host = is_host();
	if (K.is_host)
		(void)reboot(RB_DISABLE_CAD); /* Ctrl-Alt-Del becomes SIGINT */
	if (!K.is_pid1 && prctl(PR_SET_CHILD_SUBREAPER, 1) < 0)
		say("cannot become a subreaper (%s): orphans go elsewhere", errno_name(errno));
	struct rlimit limit;
	if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
		limit.rlim_cur = limit.rlim_max;
		(void)setrlimit(RLIMIT_NOFILE, &limit);
	}
	bool is_restored = state > STDERR_FILENO && state_load(state) == 0;
	(void)close_range(3, ~0u, is_restored ? CLOSE_RANGE_CLOEXEC : 0);
	open_self(argv[0]);
	K.epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	K.signal_fd = signalfd(-1, &all, SFD_CLOEXEC | SFD_NONBLOCK);
	link_watch(K.signal_fd, TAG_SIGNALS);
	K.has_more_dead = true; /* children of a previous life */
	reexec_start(is_restored);
}

int keeper_main(int argc, char **argv)
{
	start(argc, argv);
	while (!turn())
		;
	return leave();
}
