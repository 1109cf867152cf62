/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The new process between its first instruction and its exec.
 *
 *  1. System calls only, no allocation, no lock, no stdio: in the vfork-style way this code runs in
 *     the launcher's memory, on a stack of its own, while the launcher stands still. It writes to
 *     *c, to the plan (pid slots) and to its stack, nothing else. Identity changes are raw calls.
 *  2. Its first act is KP_BORN, so that the keeper knows it before it can exit.
 *  3. The order is that of systemd's exec_child(): what needs privilege first, seccomp last.
 *  4. Whatever fails is reported with its stage and what it was about, and the exit status is the
 *     stage's number, as under systemd ("status=203/EXEC").
 *  5. prctl()s that act on the address space (MDWE, dumpable) are for forked children alone.
 *
 * Called by launcher.c, through shim.c for services without a cgroup.
 */
#include "parts.h"

#include <fcntl.h>
#include <limits.h>
#include <linux/capability.h>
#include <linux/close_range.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#ifndef PR_SET_MDWE
#	define PR_SET_MDWE              65
#	define PR_MDWE_REFUSE_EXEC_GAIN 1
#endif
#define SAY_TRIES           500 /* 5 s: the keeper reads at once, or something is very wrong */
#define SAY_PAUSE_MS        10
#define IOPRIO_WHO_PROCESS_ 1

/* A word that found no room or no memory, and may find it in a moment: waits. The start of a service
 * does not fail by what the daemon, or the machine, lacks for so long. Keeps errno. */
static bool may_say_again(int fd, unsigned *tries)
{
	int error = errno;
	struct pollfd room = {.fd = error == EAGAIN ? fd : -1, .events = POLLOUT};
	if (error == EINTR)
		return true;
	if ((error != EAGAIN && error != ENOBUFS && error != ENOMEM) || ++*tries > SAY_TRIES)
		return false;
	(void)poll(&room, 1, SAY_PAUSE_MS);
	errno = error;
	return true;
}

/* A report that cannot be given must stop the start: the launcher takes silence for a death. Without
 * a launcher there is nobody to mislead. */
int child_report(struct child *c)
{
	const struct report copy =
		c->report; /* gcc 12 under ASan takes &c->report for its first member */
	size_t done = 0;
	unsigned tries = 0;
	while (c->report_fd >= 0 && done < sizeof(copy)) {
		ssize_t n = write(c->report_fd, (const char *)&copy + done, sizeof(copy) - done);
		if (n < 0 && errno == EPIPE)
			return 0;
		if (n < 0 && !may_say_again(c->report_fd, &tries))
			return -errno;
		done += n > 0 ? (size_t)n : 0;
	}
	return 0;
}

int child_fail(struct child *c, int stage, int error, const char *detail)
{
	c->report.kind = REPORT_FAILED;
	c->report.stage = stage;
	c->report.error = error;
	str_copy(c->report.detail, strna(detail), sizeof(c->report.detail));
	(void)child_report(c);
	return -error;
}

static int fail_errno(struct child *c, int stage, const char *detail)
{
	return child_fail(c, stage, errno, detail);
}

int tell_keeper_born(struct child *c)
{
	struct kp_frame f;
	memset(&f, 0, sizeof(f));
	f.magic = KP_MAGIC;
	f.kind = KP_BORN;
	f.id = *c->id;
	unsigned tries = 0;
	while (send(c->keeper_fd, &f, sizeof(f), MSG_NOSIGNAL) < 0)
		if (!may_say_again(c->keeper_fd, &tries))
			return fail_errno(c, EXIT_FDS, "link to the keeper");
	return 0;
}

static int enter_cgroup(struct child *c)
{
	if (c->cgroup_procs_fd < 0)
		return 0;
	if (write(c->cgroup_procs_fd, "0", 1) < 0)
		return fail_errno(c, EXIT_CGROUP, "cgroup.procs");
	return 0;
}

/* ---- descriptors ---- */

static int open_stream(struct child *c, int i, const struct plan_stream *s)
{
	static const int stages[3] = {EXIT_STDIN, EXIT_STDOUT, EXIT_STDERR};
	const char *path = plan_str(c->plan, s->path);
	int flags = s->from == PLAN_STD_TTY ? O_RDWR | O_NOCTTY | O_CLOEXEC
					    : s->open_flags | O_CLOEXEC | O_NOCTTY;
	int fd = child_open(c->plan, path, flags);
	if (fd < 0)
		return child_fail(c, stages[i], -fd, path);
	if (s->from == PLAN_STD_TTY && i == 0)
		(void)ioctl(fd, TIOCSCTTY, 0); /* another session's terminal: it works without */
	if (dup2(fd, i) < 0)
		return fail_errno(c, stages[i], path);
	return fd == i ? 0 : close(fd);
}

static int set_streams(struct child *c)
{
	static const int stages[3] = {EXIT_STDIN, EXIT_STDOUT, EXIT_STDERR};
	for (int i = 0; i < 3; i++) {
		const struct plan_stream *s = &c->plan->std[i];
		int from = c->std[i];
		if (from < 0 && s->from == PLAN_STD_OURS)
			continue;
		if (from < 0 && (s->from == PLAN_STD_OPEN || s->from == PLAN_STD_TTY)) {
			if (open_stream(c, i, s) < 0)
				return -1;
			continue;
		}
		if (from < 0)
			from = s->from == PLAN_STD_PREVIOUS ? i - 1 : c->null_fd;
		if (dup2(from, i) < 0)
			return fail_errno(c, stages[i], NULL);
	}
	return 0;
}

/* Sources below the target range are moved above it first, so that no dup2() hits one. */
static int set_passed(struct child *c)
{
	int n = (int)c->plan->n_pass, base = 3 + n, fds[FDS_MAX];
	for (int i = 0; i < n; i++) {
		fds[i] = c->pass[i] < base ? fcntl(c->pass[i], F_DUPFD_CLOEXEC, base) : c->pass[i];
		if (fds[i] < 0)
			return fail_errno(c, EXIT_FDS, "descriptors");
	}
	if (c->report_fd >= 0 && c->report_fd < base) {
		int moved = fcntl(c->report_fd, F_DUPFD_CLOEXEC, base);
		if (moved < 0)
			return fail_errno(c, EXIT_FDS, "descriptors");
		close(c->report_fd);
		c->report_fd = moved;
	}
	for (int i = 0; i < n; i++) {
		if (dup2(fds[i], 3 + i) < 0)
			return fail_errno(c, EXIT_FDS, "descriptors");
		int flags = fcntl(3 + i, F_GETFL);
		if ((c->plan->flags & PLAN_FDS_NONBLOCK) && flags >= 0)
			(void)fcntl(3 + i, F_SETFL, flags | O_NONBLOCK);
	}
	/* All of ours are CLOEXEC from birth; this is for what we do not know of. */
	if (syscall(SYS_close_range, base, ~0U, CLOSE_RANGE_CLOEXEC) < 0 && errno != ENOSYS)
		return fail_errno(c, EXIT_FDS, "close_range");
	return 0;
}

/* ---- scheduling and limits ---- */

/* Not allowed to: go on with what we have, as systemd does for these two. */
static void set_nice_and_oom(const struct plan *p)
{
	if (p->flags & PLAN_NICE)
		(void)setpriority(PRIO_PROCESS, 0, p->nice);
	if (!(p->flags & PLAN_OOM_SCORE))
		return;
	char text[16];
	size_t n = 0;
	unsigned v = (unsigned)(p->oom_score < 0 ? -p->oom_score : p->oom_score), div = 1000;
	if (p->oom_score < 0)
		text[n++] = '-';
	for (; div > 1 && v / div == 0; div /= 10) {
	}
	for (; div; div /= 10)
		text[n++] = (char)('0' + v / div % 10);
	int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return;
	ssize_t r = write(fd, text, n);
	(void)r;
	close(fd);
}

static int set_scheduling(struct child *c)
{
	const struct plan *p = c->plan;
	set_nice_and_oom(p);
	if (p->cpu_policy >= 0) {
		struct sched_param param = {.sched_priority = p->cpu_priority};
		int policy =
			p->cpu_policy | (p->flags & PLAN_SCHED_RESET ? SCHED_RESET_ON_FORK : 0);
		if (syscall(SYS_sched_setscheduler, 0, policy, &param) < 0)
			return fail_errno(c, EXIT_SETSCHEDULER, NULL);
	}
	if (p->cpu_mask.n && syscall(SYS_sched_setaffinity, 0, p->cpu_mask.n,
				     plan_at(c->plan, p->cpu_mask.off)) < 0)
		return fail_errno(c, EXIT_CPUAFFINITY, NULL);
	if (p->io_prio >= 0 && syscall(SYS_ioprio_set, IOPRIO_WHO_PROCESS_, 0, p->io_prio) < 0)
		return fail_errno(c, EXIT_IOPRIO, NULL);
	if (p->timer_slack_ns && prctl(PR_SET_TIMERSLACK, p->timer_slack_ns, 0, 0, 0) < 0)
		return fail_errno(c, EXIT_TIMERSLACK, NULL);
	if ((p->flags & PLAN_PERSONALITY) && syscall(SYS_personality, p->personality) < 0)
		return fail_errno(c, EXIT_PERSONALITY, NULL);
	return 0;
}

/* A hard limit above ours that we may not raise becomes ours (systemd's setrlimit_closest()). */
static int set_rlimits(struct child *c)
{
	for (int i = 0; i < RLIM_NLIMITS; i++) {
		const struct plan_rlimit *w = &c->plan->rlimit[i];
		struct rlimit now, want = {w->soft, w->hard};
		if (!w->is_set)
			continue;
		if (getrlimit(i, &now) < 0)
			return fail_errno(c, EXIT_LIMITS, NULL);
		if (w->is_soft_only) {
			want.rlim_max = now.rlim_max;
			want.rlim_cur = MIN(want.rlim_cur, now.rlim_max);
		}
		if (setrlimit(i, &want) == 0)
			continue;
		want.rlim_max = MIN(want.rlim_max, now.rlim_max);
		want.rlim_cur = MIN(want.rlim_cur, want.rlim_max);
		if (errno != EPERM || setrlimit(i, &want) < 0)
			return fail_errno(c, EXIT_LIMITS, NULL);
	}
	return 0;
}

/* ---- privileges ---- */

static int cap_set(uint64_t effective, uint64_t permitted, uint64_t inheritable)
{
	struct __user_cap_header_struct h = {_LINUX_CAPABILITY_VERSION_3, 0};
	struct __user_cap_data_struct d[2] = {
		{(uint32_t)effective,         (uint32_t)permitted,         (uint32_t)inheritable},
		{(uint32_t)(effective >> 32), (uint32_t)(permitted >> 32),
                 (uint32_t)(inheritable >> 32)                                                  },
	};
	return (int)syscall(SYS_capset, &h, d);
}

static uint64_t cap_permitted(void)
{
	struct __user_cap_header_struct h = {_LINUX_CAPABILITY_VERSION_3, 0};
	struct __user_cap_data_struct d[2] = {{0}};
	if (syscall(SYS_capget, &h, d) < 0)
		return 0;
	return (uint64_t)d[1].permitted << 32 | d[0].permitted;
}

static int drop_bounding(struct child *c)
{
	uint64_t drop = c->plan->drop_bounding;
	for (unsigned i = 0; drop >> i; i++) {
		if ((drop >> i & 1) && prctl(PR_CAPBSET_DROP, i, 0, 0, 0) < 0 && errno != EINVAL)
			return fail_errno(c, EXIT_CAPABILITIES, "CapabilityBoundingSet");
		if (i == 63)
			break;
	}
	return 0;
}

/* Before a user namespace, which would know none of the supplementary groups. */
static int set_groups(struct child *c)
{
	const struct plan *p = c->plan;
	if ((p->flags & PLAN_SET_GROUPS) &&
		syscall(SYS_setgroups, p->groups.n, plan_at(c->plan, p->groups.off)) < 0)
		return fail_errno(c, EXIT_GROUP, "setgroups");
	if ((p->flags & PLAN_SET_GID) && syscall(SYS_setresgid, p->gid, p->gid, p->gid) < 0)
		return fail_errno(c, EXIT_GROUP, NULL);
	return 0;
}

static int set_user(struct child *c)
{
	const struct plan *p = c->plan;
	if ((p->flags & PLAN_SET_CAPS) && prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) < 0)
		return fail_errno(c, EXIT_CAPABILITIES, NULL);
	if ((p->flags & PLAN_SET_UID) && syscall(SYS_setresuid, p->uid, p->uid, p->uid) < 0)
		return fail_errno(c, EXIT_USER, NULL);
	return 0;
}

/* Ambient first, secure bits behind it (they may forbid raising), then what only we needed goes. */
static int set_capabilities(struct child *c)
{
	const struct plan *p = c->plan;
	uint64_t permitted = cap_permitted(), ambient = p->ambient;
	bool is_user = (p->flags & PLAN_SET_UID) && p->uid != 0;
	if (!(p->flags & PLAN_SET_CAPS))
		return 0;
	uint64_t keep = is_user ? permitted & (ambient | CAP_BIT(CAP_SETPCAP)) : permitted;
	if (cap_set(keep, keep, ambient) < 0)
		return fail_errno(c, EXIT_CAPABILITIES, "AmbientCapabilities");
	for (unsigned i = 0; i < 64; i++)
		if ((ambient >> i & 1) && prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, i, 0, 0) < 0)
			return fail_errno(c, EXIT_CAPABILITIES, "AmbientCapabilities");
	if ((p->flags & PLAN_SECURE_BITS) && prctl(PR_SET_SECUREBITS, p->secure_bits, 0, 0, 0) < 0)
		return fail_errno(c, EXIT_SECUREBITS, NULL);
	if (is_user && cap_set(permitted & ambient, permitted & ambient, ambient) < 0)
		return fail_errno(c, EXIT_CAPABILITIES, NULL);
	return 0;
}

/* /proc/self/fd/N, also through a link in the service's root, would leave the program in a place
 * outside of that root (CVE-2024-21626 of runc): the kernel then calls it "(unreachable)". */
static int set_cwd(struct child *c)
{
	char where[PATH_MAX];
	const char *cwd = plan_str(c->plan, c->plan->cwd);
	if (chdir(cwd) < 0) {
		if (c->plan->flags & PLAN_CWD_OPTIONAL)
			return chdir("/");
		return fail_errno(c, EXIT_CHDIR, cwd);
	}
	if (!c->plan->root && !startswith(cwd, "/proc/"))
		return 0;
	if (syscall(SYS_getcwd, where, sizeof(where)) < 0 || where[0] != '/')
		return child_fail(c, EXIT_CHDIR, ENOENT, cwd);
	return 0;
}

static void set_sigpipe(void (*how)(int))
{
	struct sigaction act = {.sa_handler = how};
	(void)sigaction(SIGPIPE, &act, NULL);
}

static int load_filter(struct child *c, uint32_t from, uint32_t size)
{
	struct sock_fprog prog = {
		.len = (unsigned short)(size / sizeof(struct sock_filter)),
		.filter = (void *)((char *)plan_at(c->plan, c->plan->seccomp.off) + from),
	};
	if (size == 0 || syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &prog) == 0)
		return 0;
	return fail_errno(c, EXIT_SECCOMP, NULL);
}

/* The allow-list stands first in the plan and is loaded last: it may forbid seccomp(2) itself. */
static int set_filters(struct child *c)
{
	const struct plan *p = c->plan;
	if ((p->flags & PLAN_NO_NEW_PRIVS) && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return fail_errno(c, EXIT_NO_NEW_PRIVILEGES, NULL);
	if ((p->flags & PLAN_MDWE) && c->report_fd >= 0)
		(void)prctl(PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN, 0, 0, 0);
	if (p->seccomp_split &&
		load_filter(c, p->seccomp_split, p->seccomp.n - p->seccomp_split) < 0)
		return -1;
	/* From here on only what filters always let through is called. */
	c->report.kind = REPORT_AT_EXEC;
	c->report.stage = EXIT_FDS;
	if (child_report(c) < 0)
		return -1;
	if (c->report_fd >= 0 && !(p->flags & PLAN_IGNORE_SIGPIPE))
		set_sigpipe(SIG_DFL);
	return load_filter(c, 0, p->seccomp_split ? p->seccomp_split : p->seccomp.n);
}

/* ---- exec ---- */

static void write_pid_slots(struct child *c)
{
	const uint32_t *slots = plan_at(c->plan, c->plan->pid_slots.off);
	for (uint32_t i = 0; i < c->plan->pid_slots.n; i++) {
		char *s = plan_at(c->plan, slots[i]);
		unsigned pid = (unsigned)syscall(SYS_getpid), div = 1000000000;
		for (; div > 1 && pid / div == 0; div /= 10) {
		}
		for (; div; div /= 10)
			*s++ = (char)('0' + pid / div % 10);
		*s = '\0';
	}
}

_Noreturn static void exec_program(struct child *c)
{
	const uint32_t *v = plan_at(c->plan, c->plan->exec.off);
	const char *path = NULL, *refused = NULL;
	int error = ENOENT;
	for (uint32_t i = 0; i < c->plan->exec.n; i++) {
		path = plan_str(c->plan, v[i]);
		execve(path, c->argv, c->envp);
		error = errno;
		if (error == EACCES)
			refused = path;
		else if (error != ENOENT && error != ENOTDIR)
			break;
	}
	if (refused && (error == ENOENT || error == ENOTDIR)) {
		error = EACCES;
		path = refused;
	}
	(void)child_fail(c, EXIT_EXEC, error, path);
	_exit(EXIT_EXEC);
}

void child_die_with_shim(const struct child *c)
{
	(void)prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
	if (syscall(SYS_getppid) != c->shim_pid) /* it was faster */
		_exit(EXIT_CGROUP);
}

_Noreturn void child_run(struct child *c)
{
	struct plan *p = c->plan;
	bool is_busy = p->dirs.n || p->namespaces || p->netns;
	c->argv = plan_at(p, p->argv.off);
	c->envp = plan_at(p, p->envp.off);
	/* A launcher that dies meanwhile must not take a start with it through the report pipe. */
	if (c->report_fd >= 0 || (p->flags & PLAN_IGNORE_SIGPIPE))
		set_sigpipe(SIG_IGN);
	(void)setsid();
	(void)umask(p->umask);
	bool is_good = set_streams(c) >= 0 && set_passed(c) >= 0 && set_scheduling(c) >= 0 &&
		       set_rlimits(c) >= 0;
	if (is_good && is_busy) {
		(void)umask(022);
		is_good = child_make_dirs(c) >= 0 && child_enter_namespaces(c) >= 0 &&
			  child_build_mounts(c) >= 0;
		(void)umask(p->umask);
	}
	is_good = is_good && set_groups(c) >= 0 && child_enter_userns(c) >= 0 &&
		  drop_bounding(c) >= 0 && set_user(c) >= 0 && set_capabilities(c) >= 0 &&
		  set_cwd(c) >= 0;
	/* Below a shim that is killed, the program would be nobody's, and its successor would meet it.
	 * Behind the change of identity, which forgets this. */
	if (is_good && (p->flags & PLAN_SHIM))
		child_die_with_shim(c);
	if (is_good)
		write_pid_slots(c);
	if (is_good && set_filters(c) >= 0)
		exec_program(c);
	_exit(c->report.stage);
}

_Noreturn void child_main(struct child *c)
{
	if (enter_cgroup(c) < 0 || tell_keeper_born(c) < 0)
		_exit(c->report.stage);
	if (c->is_born)
		*c->is_born = true;
	if (c->plan->flags & PLAN_SHIM)
		shim_main(c);
	child_run(c);
}
