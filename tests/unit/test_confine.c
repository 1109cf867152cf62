/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What each role may call and do: the filter for every number and the arguments that matter, by
 * interpreting it; then the kernel's own word, from children that confine themselves and try.
 */
#include "confine/confine.h"
#include "check_main.h"

#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define CALLS_MAX 600 /* beyond the last number there is */
#define SOMEBODY  12345

static const enum role roles[] = {ROLE_CORE, ROLE_LOGGER, ROLE_NET};
static const char *const role_names[] = {"core", "logger", "stay-net"};

/* The kernel's rules for the few instructions that the filter uses. */
static uint32_t run(const struct sock_filter *f, size_t n, const struct seccomp_data *d)
{
	uint32_t a = 0;
	for (size_t pc = 0; pc < n; pc++) {
		const struct sock_filter *i = &f[pc];
		bool yes = false;
		switch (i->code) {
		case BPF_LD | BPF_W | BPF_ABS:
			ck_assert_uint_le(i->k + 4, sizeof(*d));
			memcpy(&a, (const char *)d + i->k, 4);
			continue;
		case BPF_RET | BPF_K:
			return i->k;
		case BPF_JMP | BPF_JEQ | BPF_K:
			yes = a == i->k;
			break;
		case BPF_JMP | BPF_JGE | BPF_K:
			yes = a >= i->k;
			break;
		case BPF_JMP | BPF_JSET | BPF_K:
			yes = a & i->k;
			break;
		default:
			ck_abort_msg("instruction %x", i->code);
		}
		pc += yes ? i->jt : i->jf;
	}
	ck_abort_msg("the end is no return");
	return 0;
}

static uint32_t answer(enum role role, int nr, unsigned arg, uint64_t value)
{
	static struct sock_filter f[CONFINE_FILTER_MAX];
	size_t n = confine_filter(role, f);
	struct seccomp_data d = {.nr = nr, .arch = f[1].k};
	ck_assert_uint_gt(n, 10);
	d.args[arg] = value;
	return run(f, n, &d);
}

START_TEST(every_call_is_answered_as_the_table_says)
{
	unsigned allowed = 0, killed = 0;
	for (size_t r = 0; r < ARRAY_SIZE(roles); r++)
		for (int nr = 0; nr < CALLS_MAX; nr++) {
			uint32_t is = answer(roles[r], nr, 0, 0);
			switch (confine_answer(roles[r], nr)) {
			case CONFINE_ALLOWED:
				ck_assert_uint_eq(is, SECCOMP_RET_ALLOW);
				allowed++;
				break;
			case CONFINE_KILLED:
				ck_assert_uint_eq(is, SECCOMP_RET_KILL_PROCESS);
				killed++;
				break;
			case CONFINE_REFUSED:
				ck_assert_uint_eq(is, SECCOMP_RET_ERRNO | ENOSYS);
				break;
			case CONFINE_DEPENDS:
				ck_assert(is == SECCOMP_RET_ALLOW ||
					  is == (SECCOMP_RET_ERRNO | ENOSYS));
				break;
			}
		}
	ck_assert_uint_gt(allowed, 150);
	ck_assert_uint_gt(killed, 150);
}
END_TEST

START_TEST(arguments_decide_where_the_table_says_so)
{
#ifdef __SANITIZE_ADDRESS__
	SKIP("the sanitizers' rows allow more");
#endif
	const uint32_t yes = SECCOMP_RET_ALLOW, no = SECCOMP_RET_ERRNO | ENOSYS;
	ck_assert_uint_eq(answer(ROLE_CORE, SYS_mmap, 2, PROT_READ | PROT_WRITE), yes);
	ck_assert_uint_eq(answer(ROLE_CORE, SYS_mmap, 2, PROT_READ | PROT_EXEC), no);
	ck_assert_uint_eq(answer(ROLE_NET, SYS_mmap, 2, PROT_READ | PROT_EXEC), yes);
	ck_assert_uint_eq(answer(ROLE_NET, SYS_mprotect, 2, PROT_EXEC), no);
	ck_assert_uint_eq(answer(ROLE_NET, SYS_clone, 0, CLONE_THREAD | CLONE_VM), yes);
	ck_assert_uint_eq(answer(ROLE_NET, SYS_clone, 0, SIGCHLD), no);
	ck_assert_uint_eq(answer(ROLE_LOGGER, SYS_clone, 0, CLONE_THREAD | CLONE_VM), no);
	ck_assert_uint_eq(answer(ROLE_LOGGER, SYS_tgkill, 0, (uint64_t)getpid()), yes);
	ck_assert_uint_eq(answer(ROLE_LOGGER, SYS_tgkill, 0, 1), no);
	ck_assert_uint_eq(answer(ROLE_LOGGER, SYS_socket, 0, AF_INET), no);
	ck_assert_uint_eq(
		answer(ROLE_NET, SYS_socket, 0, AF_INET6), yes); /* the fourth row of it */
	ck_assert_uint_eq(answer(ROLE_NET, SYS_socket, 0, AF_PACKET), no);
}
END_TEST

START_TEST(another_architectures_numbers_end_the_process)
{
	static struct sock_filter f[CONFINE_FILTER_MAX];
	size_t n = confine_filter(ROLE_CORE, f);
	struct seccomp_data d = {.nr = SYS_read, .arch = AUDIT_ARCH_I386};
	ck_assert_uint_eq(run(f, n, &d), SECCOMP_RET_KILL_PROCESS);
	d.arch = f[1].k;
	ck_assert_uint_eq(run(f, n, &d), SECCOMP_RET_ALLOW);
	d.nr |= 0x40000000;
	ck_assert_uint_eq(run(f, n, &d), SECCOMP_RET_KILL_PROCESS);
}
END_TEST

START_TEST(services_parents_have_no_list)
{
	static struct sock_filter f[CONFINE_FILTER_MAX];
	ck_assert_uint_eq(confine_filter(ROLE_LAUNCHER, f), 0);
	ck_assert_uint_eq(confine_filter(ROLE_KEEPER, f), 0);
}
END_TEST

/* ---- the kernel's word ------------------------------------------------------------------------ */

static enum role child_role;

static int confined(int (*fn)(void *arg), void *arg)
{
	int status;
	pid_t pid = fork();
	ck_assert_int_ge(pid, 0);
	if (pid == 0) {
		struct err e = {0};
		if (confine(child_role, &e) < 0)
			_exit(99);
		_exit(fn(arg));
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	return status;
}

/* All arguments are nonsense, so that what is allowed fails for another reason. */
static int try_call(void *arg)
{
	errno = 0;
	long r = syscall(*(const int *)arg, -1L, -1L, -1L, -1L, -1L, -1L);
	return r < 0 ? errno : 0;
}

/* Calls that do not return, wait, or say ENOSYS to nonsense themselves. */
static bool is_untryable(int nr)
{
	return nr == SYS_exit || nr == SYS_exit_group || nr == SYS_rt_sigreturn ||
	       nr == SYS_futex || nr == SYS_restart_syscall || nr == SYS_clone ||
	       nr == SYS_munmap || nr == SYS_ptrace || nr == SYS_wait4;
}

START_TEST(the_kernel_allows_every_listed_call_and_ends_who_makes_a_forbidden_one)
{
	unsigned allowed = 0, killed = 0;
	child_role = roles[_i];
	for (int nr = 0; nr < CALLS_MAX; nr++) {
		enum confine_answer a = confine_answer(child_role, nr);
		if (a == CONFINE_ALLOWED && !is_untryable(nr)) {
			int status = confined(try_call, &nr);
			ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) != ENOSYS,
				"%s may %s: %x", role_names[_i], confine_call_name(nr), status);
			allowed++;
		} else if (a == CONFINE_KILLED) {
			int status = confined(try_call, &nr);
			ck_assert_msg(WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS,
				"%s must not %s: %x", role_names[_i], confine_call_name(nr),
				status);
			killed++;
		}
	}
	ck_assert_uint_gt(allowed, 30);
	ck_assert_uint_gt(killed, 50);
}
END_TEST

static uint64_t status_field(const char *name)
{
	struct buf b = {0};
	ck_assert_int_eq(read_file(AT_FDCWD, "/proc/self/status", 8192, &b), 0);
	const char *p = strstr(b.data, name);
	uint64_t v = p ? strtoull(p + strlen(name), NULL, strchr(name, 'C') ? 16 : 10) : 0;
	buf_done(&b);
	return v;
}

static int look_at_self(void *arg)
{
	uint64_t kept = *(const uint64_t *)arg;
	if (status_field("\nCapEff:") & ~kept || status_field("\nCapPrm:") & ~kept ||
		status_field("\nCapInh:") || status_field("\nCapBnd:") & ~kept)
		return 1;
	if (status_field("\nNoNewPrivs:") != 1 || status_field("\nSeccomp:") != 2)
		return 2;
	return child_role != ROLE_CORE && geteuid() == 0 ? 3 : 0;
}

START_TEST(a_role_is_what_the_tables_say)
{
	uint64_t kept;
	if (!confine_can_change_user())
		SKIP("needs root with CAP_SETUID and others");
	child_role = roles[_i];
	kept = confine_caps_of(child_role);
	ck_assert_int_eq(confined(look_at_self, &kept), 0);
}
END_TEST

START_TEST(no_two_roles_have_the_same_user)
{
	uid_t log, net;
	gid_t gid;
	ck_assert(confine_user_of(ROLE_LOGGER, &log, &gid));
	ck_assert(confine_user_of(ROLE_NET, &net, &gid));
	ck_assert_uint_ne(log, net);
	ck_assert(log && net);
	ck_assert(!confine_user_of(ROLE_CORE, &log, &gid));
	ck_assert(!confine_user_of(ROLE_LAUNCHER, &log, &gid));
}
END_TEST

/* ---- core's capabilities: each does what it is kept for, and not without it ------------------------ */

static char place[64];

static void make(const char *name, mode_t type, mode_t mode, uid_t uid)
{
	char path[128];
	snprintf(path, sizeof(path), "%s/%s", place, name);
	if (type == S_IFDIR)
		ck_assert_int_eq(mkdir(path, mode), 0);
	else
		ck_assert_int_eq(mknod(path, type | mode, 0), 0);
	ck_assert_int_eq(chmod(path, mode), 0);
	ck_assert_int_eq(chown(path, uid, uid), 0);
}

static int do_chown(void)
{
	CLEANUP_CLOSE int fd = open(place, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return fchownat(fd, "mine", SOMEBODY, SOMEBODY, 0);
}
static int do_override(void)
{
	char path[128];
	snprintf(path, sizeof(path), "%s/theirs/file", place);
	CLEANUP_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
	return fd < 0 ? -1 : 0;
}
static int do_fowner(void)
{
	char path[128];
	snprintf(path, sizeof(path), "%s/sticky/file", place);
	return unlink(path);
}
static int do_fsetid(void)
{
	struct stat st;
	CLEANUP_CLOSE int fd = open(place, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return fchmod(fd, 0755 | S_ISGID) == 0 && fstat(fd, &st) == 0 && (st.st_mode & S_ISGID)
		       ? 0
		       : -1;
}
static pid_t victim;
static int do_kill(void)
{
	CLEANUP_CLOSE int fd = (int)syscall(SYS_pidfd_open, victim, 0);
	return (int)syscall(SYS_pidfd_send_signal, fd, 0, NULL, 0);
}
static int do_bind(void)
{
	CLEANUP_CLOSE int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
	for (uint16_t port = 1; port < 30; port++) {
		a.sin_port = htons(port);
		if (bind(fd, (struct sockaddr *)&a, sizeof(a)) == 0)
			return 0;
		if (errno != EADDRINUSE)
			return -1;
	}
	return -1;
}

static const struct {
	const char *name;
	int (*fn)(void);
} uses[] = {
	{"CHOWN",            do_chown   },
	{"DAC_OVERRIDE",     do_override},
	{"FOWNER",           do_fowner  },
	{"FSETID",           do_fsetid  },
	{"KILL",             do_kill    },
	{"NET_BIND_SERVICE", do_bind    },
};

/* The directory is somebody else's group, which is what clears the bit without CAP_FSETID. */
static void make_place(void)
{
	str_copy(place, "/tmp/test-confine.XXXXXX", sizeof(place));
	ck_assert_ptr_nonnull(mkdtemp(place));
	make("mine", S_IFREG, 0600, 0);
	make("theirs", S_IFDIR, 0700, SOMEBODY);
	make("theirs/file", S_IFREG, 0600, SOMEBODY);
	make("sticky", S_IFDIR, 01777, SOMEBODY + 1);
	make("sticky/file", S_IFREG, 0600, SOMEBODY);
	ck_assert_int_eq(chown(place, 0, SOMEBODY), 0);
	victim = fork();
	if (victim == 0) {
		if (setresuid(SOMEBODY, SOMEBODY, SOMEBODY) < 0)
			_exit(1);
		for (;;)
			pause();
	}
	struct stat st;
	char path[64];
	snprintf(path, sizeof(path), "/proc/%d", (int)victim);
	for (int i = 0; i < 10000 && stat(path, &st) == 0 && st.st_uid != SOMEBODY; i++)
		(void)usleep(1000);
}

static void unmake_place(void)
{
	char command[96];
	(void)kill(victim, SIGKILL);
	(void)waitpid(victim, NULL, 0);
	snprintf(command, sizeof(command), "rm -rf %s", place);
	ck_assert_int_eq(system(command), 0);
}

/* Uses a capability; without: after it alone was given up too. */
static int use(void *arg)
{
	size_t i = *(size_t *)arg / 2;
	return uses[i].fn() == 0 ? 0 : 1;
}

static int child_without(size_t i)
{
	int status;
	pid_t pid = fork();
	if (pid == 0) {
		struct {
			uint32_t version;
			int pid;
		} h = {0x20080522, 0};
		struct {
			uint32_t effective, permitted, inheritable;
		} d[2];
		(void)syscall(SYS_capget, &h, d);
		d[0].effective &= ~(1u << confine_cap_number(uses[i].name));
		d[0].permitted = d[0].effective;
		/* also the one that stands in for DAC_OVERRIDE when reading */
		d[0].effective &= ~(1u << 2);
		d[0].permitted &= ~(1u << 2);
		(void)syscall(SYS_capset, &h, d);
		_exit(uses[i].fn() == 0 ? 0 : 1);
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	return status;
}

START_TEST(core_keeps_what_it_uses_and_uses_what_it_keeps)
{
	size_t arg = (size_t)_i * 2;
	if (!confine_can_change_user())
		SKIP("needs root with CAP_SETUID and others");
	child_role = ROLE_CORE;
	make_place();
	int without = child_without((size_t)_i), with = confined(use, &arg);
	unmake_place();
	ck_assert_msg(without != 0, "CAP_%s is not needed for it", uses[_i].name);
	ck_assert_msg(with == 0, "core has lost what CAP_%s is for", uses[_i].name);
}
END_TEST

/* ---- Landlock ---------------------------------------------------------------------------------------- */

static int in_its_directory(void *arg)
{
	struct confine_path dir = {.fd = *(int *)arg, .is_writable = true};
	struct err e = {0};
	int r = confine_files(&dir, 1, false, &e);
	if (r == 0)
		return 77;
	if (r < 0 || mkdirat(dir.fd, "unit", 0750) < 0)
		return 1;
	CLEANUP_CLOSE int fd = openat(dir.fd, "unit/current", O_RDWR | O_CREAT | O_CLOEXEC, 0640);
	if (fd < 0 || ftruncate(fd, 0) < 0 ||
		renameat(dir.fd, "unit/current", dir.fd, "unit/1.log") < 0 ||
		unlinkat(dir.fd, "unit/1.log", 0) < 0)
		return 2;
	if (open("/etc/passwd", O_RDONLY | O_CLOEXEC) >= 0 || errno != EACCES)
		return 3;
	return open("/tmp/test-confine.out", O_WRONLY | O_CREAT | O_CLOEXEC, 0600) >= 0 ? 4 : 0;
}

START_TEST(the_logger_reaches_nothing_but_its_directory)
{
	char dir[] = "/tmp/test-confine.XXXXXX", command[96];
	uid_t uid;
	gid_t gid;
	ck_assert_ptr_nonnull(mkdtemp(dir));
	int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (confine_can_change_user() && confine_user_of(ROLE_LOGGER, &uid, &gid))
		ck_assert_int_eq(fchown(fd, uid, gid), 0);
	child_role = ROLE_LOGGER;
	int status = confined(in_its_directory, &fd);
	close(fd);
	snprintf(command, sizeof(command), "rm -rf %s", dir);
	ck_assert_int_eq(system(command), 0);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
		SKIP("no Landlock in this kernel");
	ck_assert_int_eq(status, 0);
}
END_TEST

/* ---- what it costs ------------------------------------------------------------------------------------ */

/* On a machine so slow that a millisecond is nothing: less than so many forks with their ends. */
#define FORKS_MAX 10

START_TEST(confinement_costs_less_than_a_millisecond)
{
	enum { ROUNDS = 20 };
	double best = 1e9, best_fork = 1e9;
	for (int i = 0; i < ROUNDS; i++) {
		int p[2];
		uint64_t us = 0, began = now_boot_us();
		pid_t pid = fork();
		if (pid == 0)
			_exit(0);
		ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
		best_fork = MIN(best_fork, (double)(now_boot_us() - began));
		ck_assert_int_eq(pipe2(p, O_CLOEXEC), 0);
		pid = fork();
		if (pid == 0) {
			struct err e = {0};
			uint64_t start = now_mono_us();
			(void)confine(roles[_i], &e);
			us = now_mono_us() - start;
			_exit(write(p[1], &us, sizeof(us)) != sizeof(us));
		}
		ck_assert_int_eq(read(p[0], &us, sizeof(us)), sizeof(us));
		(void)waitpid(pid, NULL, 0);
		close(p[0]);
		close(p[1]);
		best = MIN(best, (double)us);
	}
	printf("# %s confines itself in %.0f us, a fork takes %.0f us\n", role_names[_i], best,
		best_fork);
#ifndef __SANITIZE_ADDRESS__
	ck_assert_double_lt(best, MAX(1000, FORKS_MAX * best_fork));
#endif
}
END_TEST

Suite *suite(void)
{
	Suite *s = suite_create("confine");
	TCase *t = tcase_create("table"), *k = tcase_create("kernel");
	int n_roles = ARRAY_SIZE(roles), n_uses = ARRAY_SIZE(uses);
	tcase_add_test(t, every_call_is_answered_as_the_table_says);
	tcase_add_test(t, arguments_decide_where_the_table_says_so);
	tcase_add_test(t, another_architectures_numbers_end_the_process);
	tcase_add_test(t, services_parents_have_no_list);
	tcase_add_test(t, no_two_roles_have_the_same_user);
	suite_add_tcase(s, t);
	tcase_set_timeout(k, 120);
	tcase_add_loop_test(k,
		the_kernel_allows_every_listed_call_and_ends_who_makes_a_forbidden_one, 0, n_roles);
	tcase_add_loop_test(k, a_role_is_what_the_tables_say, 0, n_roles);
	tcase_add_loop_test(k, core_keeps_what_it_uses_and_uses_what_it_keeps, 0, n_uses);
	tcase_add_test(k, the_logger_reaches_nothing_but_its_directory);
	tcase_add_loop_test(k, confinement_costs_less_than_a_millisecond, 0, n_roles);
	suite_add_tcase(s, k);
	return s;
}
