/* SPDX-License-Identifier: Apache-2.0 */
/* A real launcher, with the test as its keeper and core; tests/tools/probe.c says what it found. */
#include "launch_rig.h"

#include <grp.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <seccomp.h>

static struct rig rig;
static struct unit u;

static void start(void)
{
	rig_start(&rig, NULL);
	unit_init(&u, probe_path());
	unit_arg(&u, "show");
}

START_TEST(a_plain_service_starts_and_its_end_is_ours)
{
	start();
	unit_arg(&u, "exit");
	unit_arg(&u, "42");
	struct result r = rig_run(&rig, &u);
	ck_assert_int_eq(r.reply.kind, LN_SPAWNED);
	ck_assert_int_eq(r.reply.pid, r.pid);
	ck_assert(WIFEXITED(r.status) && WEXITSTATUS(r.status) == 42);
	ASSERT_LINE(r, "cwd /");
	ASSERT_LINE(r, "umask 0022");
	ASSERT_LINE(r, "fds 0 1 2");
	ASSERT_LINE(r, "dumpable 1");
	ASSERT_LINE(r, "SigBlk:\t0000000000000000");
	ASSERT_LINE(r, "SigIgn:\t0000000000001000"); /* SIGPIPE, IgnoreSIGPIPE=yes */
	ASSERT_LINE(r, "CapInh:\t0000000000000000");
	ASSERT_LINE(r, "env INVOCATION_ID=0102030405060708090a0b0c0d0e0f10");
	char line[64];
	snprintf(line, sizeof(line), "ppid %d", (int)getpid());
	ASSERT_LINE(r, line);
	snprintf(line, sizeof(line), "sid %d", (int)r.pid);
	ASSERT_LINE(r, line);
	snprintf(line, sizeof(line), "env SYSTEMD_EXEC_PID=%d", (int)r.pid);
	ASSERT_LINE(r, line);
	rig_stop(&rig);
}
END_TEST

/* ---- what must not be inherited ---- */

static void spoil_signals(void)
{
	static const uint64_t ignored[4] = {(uintptr_t)SIG_IGN}; /* the kernel's struct sigaction */
	sigset_t all;
	for (int i = 1; i < NSIG; i++)
		(void)syscall(SYS_rt_sigaction, i, ignored, NULL, sizeof(uint64_t));
	sigfillset(&all);
	(void)sigprocmask(SIG_SETMASK, &all, NULL);
}

START_TEST(masks_and_dispositions_are_reset_whatever_the_launcher_inherited)
{
	rig_start(&rig, spoil_signals);
	for (int forks = 0; forks < 2; forks++) {
		unit_init(&u, probe_path());
		unit_arg(&u, "show");
		u.conf.exec.ignore_sigpipe = false;
		u.conf.exec.sandbox.private_mounts = forks;
		struct result r = rig_run(&rig, &u);
		ASSERT_LINE(r, "SigBlk:\t0000000000000000");
		ASSERT_LINE(r, "SigIgn:\t0000000000000000");
		ASSERT_LINE(r, "SigCgt:\t0000000000000000");
	}
	rig_stop(&rig);
}
END_TEST

static void spoil_fds(void)
{
	struct rlimit l;
	int fd = open("/dev/null", O_RDONLY);
	for (int i = 5; i <= 300; i++)
		dup2(fd, i);
	getrlimit(RLIMIT_NOFILE, &l);
	dup2(fd, (int)l.rlim_cur - 1);
}

START_TEST(junk_descriptors_never_reach_a_service)
{
	rig_start(&rig, spoil_fds);
	for (int forks = 0; forks < 2; forks++) {
		unit_init(&u, probe_path());
		unit_arg(&u, "show");
		u.conf.exec.sandbox.private_mounts = forks;
		struct result r = rig_run(&rig, &u);
		ASSERT_LINE(r, "fds 0 1 2");
	}
	rig_stop(&rig);
}
END_TEST

START_TEST(passed_descriptors_stand_from_3_with_their_names)
{
	static const char *const names[] = {"http", "admin", "third"};
	int fds[3];
	start();
	for (int i = 0; i < 3; i++)
		fds[i] = memfd_create(names[i], MFD_CLOEXEC);
	u.vars.fd_names = names;
	struct result r = rig_run_with(&rig, &u, fds, 3);
	char line[64];
	ASSERT_LINE(r, "fds 0 1 2 3 4 5");
	ASSERT_LINE(r, "env LISTEN_FDS=3");
	ASSERT_LINE(r, "env LISTEN_FDNAMES=http:admin:third");
	snprintf(line, sizeof(line), "env LISTEN_PID=%d", (int)r.pid);
	ASSERT_LINE(r, line);
	rig_stop(&rig);
}
END_TEST

START_TEST(the_launcher_reports_born_before_any_exit_two_thousand_times)
{
	struct buf plan = {0};
	start();
	u.cmd.argc = 1;
	unit_arg(&u, "exit");
	unit_arg(&u, "0");
	plan_of(&u, &plan);
	for (unsigned i = 1; i <= 2000; i++) {
		struct spawn_id id = u.vars.id;
		pid_t pid, gone;
		int status;
		id.seq = i;
		rig_send(&rig, &plan, &id, 0, NULL, 0, 0);
		gone = waitpid(-1, &status, 0); /* nothing was read from the links yet */
		struct kp_frame born = rig_frame(&rig, &pid);
		ck_assert_uint_eq(born.kind, KP_BORN);
		ck_assert_uint_eq(born.id.seq, i);
		ck_assert_int_eq(pid, gone);
		ck_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0);
		struct ln_reply reply = rig_reply(&rig);
		ck_assert_int_eq(reply.kind, LN_SPAWNED);
		ck_assert_int_eq(reply.pid, pid);
	}
	rig_stop(&rig);
}
END_TEST

/* Starts that hang before their exec, as those do whom a service of the same user stops: their
 * standard output is a FIFO without a reader. */
static void start_hung(pid_t *ret_pids, int n, const char *fifo)
{
	u.conf.exec.std_out.kind = STD_FILE;
	u.conf.exec.std_out.path = (char *)fifo;
	for (int i = 0; i < n; i++) {
		struct buf plan = {0};
		u.vars.id.seq = ++rig.seq;
		plan_of(&u, &plan);
		rig_send(&rig, &plan, &u.vars.id, 0, NULL, 0, 0);
		ck_assert_uint_eq(rig_frame(&rig, &ret_pids[i]).id.seq, rig.seq);
		buf_done(&plan);
	}
}

static void end_hung(const pid_t *pids, int n)
{
	int status;
	for (int i = 0; i < n; i++) {
		ck_assert_int_eq(kill(pids[i], SIGKILL), 0);
		ck_assert_int_eq(waitpid(pids[i], &status, 0), pids[i]);
	}
	for (int i = 0; i < n; i++)
		ck_assert_int_eq(rig_reply(&rig).error, ECANCELED);
}

static void fifo_make(char *dir, char *fifo, size_t size)
{
	ck_assert_ptr_nonnull(mkdtemp(dir));
	snprintf(fifo, size, "%s/fifo", dir);
	ck_assert_int_eq(mkfifo(fifo, 0600), 0);
}

START_TEST(starts_that_hang_before_their_exec_hold_up_no_other)
{
	enum { HUNG = 150 };
	char dir[] = "/tmp/stayd-test.XXXXXX", fifo[64];
	pid_t pids[HUNG];
	fifo_make(dir, fifo, sizeof(fifo));
	start();
	start_hung(pids, HUNG, fifo);
	unit_init(&u, probe_path());
	unit_arg(&u, "show");
	struct result r = rig_run(&rig, &u);
	end_hung(pids, HUNG); /* first: an assertion that fails would leave them */
	ck_assert_int_eq(r.reply.kind, LN_SPAWNED);
	rig_stop(&rig);
	unlink(fifo);
	rmdir(dir);
}
END_TEST

START_TEST(a_start_that_hangs_before_its_exec_holds_up_no_sync)
{
	struct ln_head sync = {.build = WIRE_BUILD, .flags = LN_SYNC};
	char dir[] = "/tmp/stayd-test.XXXXXX", fifo[64];
	pid_t pids[2];
	fifo_make(dir, fifo, sizeof(fifo));
	start();
	start_hung(pids, 2, fifo);
	ck_assert_int_gt(send_fds(rig.core, &sync, sizeof(sync), NULL, 0, 0), 0);
	ck_assert_int_eq(rig_reply(&rig).kind, LN_SYNCED);
	end_hung(pids, 2);
	rig_stop(&rig);
	unlink(fifo);
	rmdir(dir);
}
END_TEST

/* ---- identity and privileges ---- */

START_TEST(user_and_groups_are_taken_on_and_capabilities_go)
{
	NEED_ROOT();
	start();
	u.conf.exec.identity.user = (char *)"nobody";
	u.conf.exec.identity.supplementary_groups = LIST("daemon", "7");
	struct result r = rig_run(&rig, &u);
	ASSERT_LINE(r, "Uid:\t65534\t65534\t65534\t65534");
	ASSERT_LINE(r, "Gid:\t65534\t65534\t65534\t65534");
	ASSERT_LINE(r, "Groups:\t1 7 65534 ");
	ASSERT_LINE(r, "CapEff:\t0000000000000000");
	ASSERT_LINE(r, "CapPrm:\t0000000000000000");
	ASSERT_LINE(r, "env USER=nobody");
	ASSERT_LINE(r, "env LOGNAME=nobody");
	ASSERT_LINE(r, "env HOME=/nonexistent");
	ck_assert_ptr_null(strstr(r.out, "env SHELL="));
	rig_stop(&rig);
}
END_TEST

START_TEST(the_launcher_is_the_same_after_a_hundred_users)
{
	NEED_ROOT();
	(void)setgroups(0, NULL); /* a login gives root some */
	start();
	for (int i = 0; i < 100; i++) {
		unit_init(&u, probe_path());
		unit_arg(&u, "show");
		u.conf.exec.identity.user = (char *)(i % 2 ? "nobody" : "daemon");
		(void)rig_run(&rig, &u);
	}
	unit_init(&u, probe_path());
	unit_arg(&u, "show");
	struct result r = rig_run(&rig, &u);
	ASSERT_LINE(r, "Uid:\t0\t0\t0\t0");
	ASSERT_LINE(r, "Groups:\t ");
	ASSERT_LINE(r, "dumpable 1");
	rig_stop(&rig);
}
END_TEST

START_TEST(ambient_capabilities_survive_the_change_of_user)
{
	NEED_ROOT();
	start();
	u.conf.exec.identity.user = (char *)"nobody";
	u.conf.exec.identity.ambient_set = 1 << CAP_NET_BIND_SERVICE;
	u.conf.exec.identity.has_bounding_set = true;
	u.conf.exec.identity.bounding_set = 1 << CAP_NET_BIND_SERVICE;
	struct result r = rig_run(&rig, &u);
	ASSERT_LINE(r, "CapAmb:\t0000000000000400");
	ASSERT_LINE(r, "CapInh:\t0000000000000400");
	ASSERT_LINE(r, "CapPrm:\t0000000000000400");
	ASSERT_LINE(r, "CapEff:\t0000000000000400");
	ASSERT_LINE(r, "CapBnd:\t0000000000000400");
	rig_stop(&rig);
}
END_TEST

START_TEST(secure_bits_and_bounding_set_are_set_for_root_too)
{
	NEED_ROOT();
	start();
	u.conf.exec.identity.secure_bits = 1 << 0; /* noroot */
	u.conf.exec.identity.has_bounding_set = true;
	u.conf.exec.identity.bounding_set = 1 << CAP_CHOWN;
	struct result r = rig_run(&rig, &u);
	ASSERT_LINE(r, "securebits 1");
	ASSERT_LINE(r, "CapBnd:\t0000000000000001");
	ASSERT_LINE(r, "CapEff:\t0000000000000000");
	rig_stop(&rig);
}
END_TEST

START_TEST(plus_runs_with_full_privilege_and_bang_without_the_user)
{
	NEED_ROOT();
	start();
	u.conf.exec.identity.user = (char *)"nobody";
	u.conf.exec.identity.no_new_privileges = 1;
	u.conf.exec.sandbox.private_tmp = true;
	u.cmd.full_privilege = true;
	struct result r = rig_run(&rig, &u);
	ASSERT_LINE(r, "Uid:\t0\t0\t0\t0");
	ASSERT_LINE(r, "NoNewPrivs:\t0");
	u.cmd.full_privilege = false;
	u.cmd.no_user = true;
	r = rig_run(&rig, &u);
	ASSERT_LINE(r, "Uid:\t0\t0\t0\t0");
	ASSERT_LINE(r, "NoNewPrivs:\t1");
	launch_cleanup_dirs(&u.conf, &u.vars.id, "/nonexistent", false);
	rig_stop(&rig);
}
END_TEST

/* ---- limits ---- */

START_TEST(limits_and_scheduling_are_applied)
{
	start();
	struct exec_limits *l = &u.conf.exec.limits;
	struct conf_rlimit rlimits[RLIM_NLIMITS] = {0};
	char cpu_name[16], line[64];
	int nice = getpriority(PRIO_PROCESS, 0); /* ours, and so the launcher's */
	cpu_set_t cpus;
	unsigned cpu = 0;
	ck_assert_int_eq(sched_getaffinity(0, sizeof(cpus), &cpus), 0);
	while (cpu < 63 && !CPU_ISSET(cpu, &cpus))
		cpu++;
	snprintf(cpu_name, sizeof(cpu_name), "%u", cpu);
	l->umask = 077;
	l->rlimit = rlimits;
	l->rlimit[RLIMIT_NOFILE].is_set = true;
	l->rlimit[RLIMIT_NOFILE].soft = 100;
	l->rlimit[RLIMIT_NOFILE].hard = 200;
	l->has_nice = true;
	l->nice = 7;
	l->has_oom_score_adjust = true;
	l->oom_score_adjust = 321;
	l->timer_slack_ns = 12345;
	l->io_class = 3;
	l->cpu_policy = SCHED_BATCH;
	l->has_cpu_affinity = true;
	l->cpu_affinity = LIST(cpu_name);
	u.conf.exec.working_directory = (char *)"/usr";
	u.conf.exec.sandbox.personality = (char *)"x86";
	struct result r = rig_run(&rig, &u);
	ASSERT_LINE(r, "umask 0077");
	ASSERT_LINE(r, "rlimit7 100 200");
	ASSERT_LINE(r, "nice 7");
	ASSERT_LINE(r, "oom 321");
	ASSERT_LINE(r, "timerslack 12345");
	ASSERT_LINE(r, "policy 3");
	ASSERT_LINE(r, "cpus 1");
	ASSERT_LINE(r, "cwd /usr");
	ASSERT_LINE(r, "personality 8");
	unit_init(&u, probe_path());
	unit_arg(&u, "show");
	r = rig_run(&rig, &u);
	ASSERT_LINE(r, "umask 0022");
	snprintf(line, sizeof(line), "nice %d", nice);
	ASSERT_LINE(r, line);
	ASSERT_LINE(r, "personality 0");
	ck_assert_msg(strstr(r.out, "rlimit7 1024 ") != NULL, "%s", r.out);
	rig_stop(&rig);
}
END_TEST

/* ---- failures ---- */

static char dir[] = "/tmp/test-launcher-XXXXXX";

static const char *make_file(const char *name, mode_t mode, const char *text)
{
	static char path[512];
	snprintf(path, sizeof(path), "%s/%s", dir, name);
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0700);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(write_all(fd, text, strlen(text)), 0);
	fchmod(fd, mode);
	close(fd);
	return path;
}

static void expect_failure(const char *path, int stage, int error, const char *detail)
{
	for (int forks = 0; forks < 2; forks++) {
		u.cmd.path = u.argv[0] = (char *)path;
		u.conf.exec.sandbox.private_mounts = forks;
		struct result r = rig_run(&rig, &u);
		ck_assert_int_eq(r.reply.kind, LN_FAILED);
		ck_assert_msg(r.reply.stage == stage && r.reply.error == error,
			"%s: stage %d error %d %s", path, r.reply.stage, r.reply.error,
			r.reply.detail);
		ck_assert_msg(strstr(r.reply.detail, detail) != NULL, "%s", r.reply.detail);
		ck_assert(WIFEXITED(r.status) && WEXITSTATUS(r.status) == stage);
	}
}

START_TEST(each_kind_of_failing_exec_says_what_and_where)
{
	start();
	ck_assert_ptr_nonnull(mkdtemp(dir));
	expect_failure("/nonexistent/program", EXIT_EXEC, ENOENT, "/nonexistent/program");
	expect_failure(make_file("plain", 0644, "x"), EXIT_EXEC, EACCES, "not executable");
	expect_failure(
		make_file("text", 0755, "no program\n"), EXIT_EXEC, ENOEXEC, "no \"#!\" line");
	expect_failure(make_file("script", 0755, "#!/nonexistent/sh\n"), EXIT_EXEC, ENOENT,
		"its interpreter is missing");
	expect_failure(dir, EXIT_EXEC, EACCES, "is a directory");
	expect_failure("no-such-program", EXIT_EXEC, ENOENT, "no-such-program");
	u.conf.exec.working_directory = (char *)"/nonexistent/cwd";
	expect_failure("/bin/true", EXIT_CHDIR, ENOENT, "/nonexistent/cwd");
	u.conf.exec.working_directory_is_optional = true;
	struct result r = rig_run(&rig, &u);
	ck_assert_int_eq(r.reply.kind, LN_SPAWNED);
	CLEANUP_FREE char *cmd = xasprintf("rm -rf %s", dir);
	ck_assert_int_eq(system(cmd), 0);
	rig_stop(&rig);
}
END_TEST

START_TEST(a_command_line_beyond_the_kernels_limit_is_e2big_and_comes_in_a_memfd)
{
	struct buf plan = {0};
	pid_t pid;
	start();
	char *big = xmalloc(3 * 1024 * 1024);
	memset(big, 'x', 3 * 1024 * 1024 - 1);
	big[3 * 1024 * 1024 - 1] = '\0';
	unit_arg(&u, big);
	plan_of(&u, &plan);
	int fd = memfd_create("plan", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	ck_assert_int_eq(write_all(fd, plan.data, plan.size), 0);
	rig_send(&rig, &plan, &u.vars.id, LN_PLAN_IN_FD, &fd, 1, 0);
	struct ln_reply r = rig_reply(&rig); /* not sealed */
	ck_assert_int_eq(r.error, EBADMSG);
	ck_assert_int_eq(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE), 0);
	rig_send(&rig, &plan, &u.vars.id, LN_PLAN_IN_FD, &fd, 1, 0);
	r = rig_reply(&rig);
	ck_assert_int_eq(r.kind, LN_FAILED);
	ck_assert_int_eq(r.stage, EXIT_EXEC);
	ck_assert_int_eq(r.error, E2BIG);
	(void)rig_frame(&rig, &pid);
	ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
	free(big);
	rig_stop(&rig);
}
END_TEST

START_TEST(a_damaged_plan_is_answered_and_does_no_harm)
{
	struct buf plan = {0};
	start();
	plan_of(&u, &plan);
	plan.data[plan.size / 2] ^= 1;
	rig_send(&rig, &plan, &u.vars.id, 0, NULL, 0, 0);
	struct ln_reply r = rig_reply(&rig);
	ck_assert_int_eq(r.kind, LN_FAILED);
	ck_assert_int_eq(r.error, EBADMSG);
	struct result ok = rig_run(&rig, &u);
	ck_assert_int_eq(ok.reply.kind, LN_SPAWNED);
	rig_stop(&rig);
}
END_TEST

START_TEST(a_bad_user_is_refused_and_never_becomes_root)
{
	static const char *const bad[] = {"0day", "-1", "4294967295", "65535", "", "1000abc", "00",
		"a b", "no-such-user-here"};
	struct launch_caps caps;
	char longest[300];
	memset(longest, 'a', sizeof(longest) - 1);
	longest[sizeof(longest) - 1] = '\0';
	launch_probe(&caps);
	for (size_t i = 0; i <= ARRAY_SIZE(bad); i++) {
		struct launch_image *image = NULL;
		struct err e = {0};
		unit_init(&u, "/bin/true");
		u.conf.exec.identity.user = (char *)(i < ARRAY_SIZE(bad) ? bad[i] : longest);
		int r = launch_image_new(&u.conf, &caps, &image, &e);
		ck_assert_msg(r == -EINVAL || r == -ESRCH, "%s: %d", u.conf.exec.identity.user, r);
		ck_assert_ptr_null(image);
	}
}
END_TEST

/* ---- cgroups ---- */

static int cgroup_new(char *path, size_t size)
{
	static const char *const roots[] = {"/sys/fs/cgroup/unified", "/sys/fs/cgroup"};
	for (size_t i = 0; i < ARRAY_SIZE(roots); i++) {
		snprintf(path, size, "%s/cgroup.procs", roots[i]);
		if (access(path, F_OK) < 0)
			continue;
		snprintf(path, size, "%s/stayd-test-%d", roots[i], (int)getpid());
		if (mkdir(path, 0755) == 0)
			return open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	}
	return -1;
}

/* A process that was waited for may leave its cgroup a moment later (Linux 6.19). */
static void remove_cgroup(const char *path)
{
	uint64_t end = now_mono_us() + RIG_DEADLINE_MS * USEC_PER_MSEC;
	while (rmdir(path) < 0) {
		ck_assert_msg(errno == EBUSY && now_mono_us() < end, "rmdir %s: %s", path,
			errno_name(errno));
		poll(NULL, 0, 1);
	}
}

static void check_cgroup(bool can_unshare)
{
	char path[128], line[160];
	struct buf plan = {0}, out = {0};
	int fds[2], p[2], cgroup = cgroup_new(path, sizeof(path));
	pid_t pid;
	if (cgroup < 0)
		return; /* no writable cgroup v2 here */
	for (int forks = 0; forks < 2; forks++) {
		unit_init(&u, probe_path());
		unit_arg(&u, "show");
		u.conf.exec.sandbox.private_mounts = forks && can_unshare;
		u.vars.use_shim = forks && !can_unshare;
		plan_of(&u, &plan);
		ck_assert_int_eq(pipe2(p, O_CLOEXEC), 0);
		fds[0] = p[1];
		fds[1] = cgroup;
		rig_send(&rig, &plan, &u.vars.id, LN_HAS_STDOUT | LN_HAS_CGROUP, fds, 2, 0);
		close(p[1]);
		struct ln_reply r = rig_reply(&rig);
		ck_assert_msg(r.kind == LN_SPAWNED, "%d %d %s", r.stage, r.error, r.detail);
		(void)rig_frame(&rig, &pid);
		read_all(p[0], &out);
		for (int i = 0; u.vars.use_shim && i < 2; i++)
			(void)rig_frame(&rig, &pid); /* KP_SHIM_MAIN, KP_SHIM_EXIT */
		snprintf(line, sizeof(line), "%s\n", strrchr(path, '/'));
		char *at = strstr(out.data, "0::/"); /* behind it: where the hierarchy is mounted */
		ck_assert_msg(at && strstr(at, line), "%s", out.data);
		ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
		buf_reset(&plan);
		buf_reset(&out);
	}
	close(cgroup);
	remove_cgroup(path);
}

START_TEST(a_service_is_born_in_its_cgroup)
{
	rig_start(&rig, NULL);
	check_cgroup(true);
	rig_stop(&rig);
}
END_TEST

/* Docker's default filter: clone3 is unknown, namespaces are forbidden. */
static void docker_filter(void)
{
	scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_ALLOW);
	seccomp_rule_add(ctx, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0);
	seccomp_rule_add(ctx, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(unshare), 0);
	seccomp_rule_add(ctx, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(mount), 0);
	if (seccomp_load(ctx) < 0)
		_exit(99); /* no ck_assert() here: its pipe was where the links are now */
	seccomp_release(ctx);
}

START_TEST(without_clone3_the_old_call_does_the_same)
{
	NEED_ROOT();
	rig_start(&rig, docker_filter);
	check_cgroup(false);
	unit_init(&u, probe_path());
	unit_arg(&u, "show");
	u.conf.exec.identity.user = (char *)"nobody";
	struct result r = rig_run(&rig, &u);
	ck_assert_int_eq(r.reply.kind, LN_SPAWNED);
	ASSERT_LINE(r, "Uid:\t65534\t65534\t65534\t65534");
	ASSERT_LINE(r, "fds 0 1 2");
	u.conf.exec.sandbox.private_mounts = true;
	struct launch_caps caps; /* what core finds out, outside of the filter */
	launch_probe(&caps);
	r = rig_run(&rig, &u);
	ck_assert_int_eq(r.reply.kind, caps.can_mount_ns ? LN_FAILED : LN_SPAWNED);
	if (!caps.can_mount_ns) {
		rig_stop(&rig);
		return;
	}
	ck_assert_int_eq(r.reply.stage, EXIT_NAMESPACE);
	ck_assert_int_eq(r.reply.error, EPERM);
	rig_stop(&rig);
}
END_TEST

/* ---- the shim ---- */

START_TEST(the_shim_keeps_daemonized_children_and_tells_their_ends)
{
	struct buf plan = {0};
	bool seen_program = false, seen_orphan = false;
	pid_t shim, from, program;
	int status;
	start();
	u.cmd.argc = 1;
	unit_arg(&u, "daemonize");
	unit_arg(&u, "exit");
	unit_arg(&u, "5");
	u.vars.use_shim = true;
	plan_of(&u, &plan);
	rig_send(&rig, &plan, &u.vars.id, 0, NULL, 0, 0);
	struct ln_reply r = rig_reply(&rig);
	ck_assert_int_eq(r.kind, LN_SPAWNED);
	ck_assert_int_gt(r.shim_pid, 0);
	program = r.pid;
	struct kp_frame f = rig_frame(&rig, &shim);
	ck_assert_uint_eq(f.kind, KP_BORN);
	ck_assert_int_ne(shim, program);
	f = rig_frame(&rig, &from);
	ck_assert_uint_eq(f.kind, KP_SHIM_MAIN);
	ck_assert_int_eq(from, shim);
	ck_assert_int_eq(f.pid, program);
	while (!seen_program || !seen_orphan) {
		f = rig_frame(&rig, &from);
		ck_assert_uint_eq(f.kind, KP_SHIM_EXIT);
		ck_assert_int_eq(from, shim);
		ck_assert_int_eq(f.code, CLD_EXITED);
		if (f.pid == program) {
			seen_program = true;
			ck_assert_int_eq(f.status, 5);
		} else if (f.status == 7) {
			seen_orphan = true;
		}
	}
	ck_assert_int_eq(waitpid(shim, &status, 0), shim);
	ck_assert(WIFEXITED(status) && WEXITSTATUS(status) == 5);
	rig_stop(&rig);
}
END_TEST

START_TEST(the_shim_dies_of_its_programs_signal)
{
	start();
	unit_arg(&u, "kill");
	unit_arg(&u, "15");
	u.vars.use_shim = true;
	struct result r = rig_run(&rig, &u);
	ck_assert(WIFSIGNALED(r.status) && WTERMSIG(r.status) == SIGTERM);
	ASSERT_LINE(r, "fds 0 1 2");
	ASSERT_LINE(r, "SigBlk:\t0000000000000000");
	rig_stop(&rig);
}
END_TEST

START_TEST(a_shim_whose_program_cannot_start_says_so)
{
	start();
	u.vars.use_shim = true;
	u.cmd.path = (char *)"/nonexistent/x";
	struct result r = rig_run(&rig, &u);
	ck_assert_int_eq(r.reply.kind, LN_FAILED);
	ck_assert_int_eq(r.reply.stage, EXIT_EXEC);
	ck_assert_int_eq(WEXITSTATUS(r.status), EXIT_EXEC);
	rig_stop(&rig);
}
END_TEST

Suite *suite(void)
{
	Suite *s = suite_create("launcher");
	TCase *t = tcase_create("launcher");
	tcase_set_timeout(t, 120);
	tcase_add_test(t, a_plain_service_starts_and_its_end_is_ours);
	tcase_add_test(t, masks_and_dispositions_are_reset_whatever_the_launcher_inherited);
	tcase_add_test(t, junk_descriptors_never_reach_a_service);
	tcase_add_test(t, passed_descriptors_stand_from_3_with_their_names);
	tcase_add_test(t, the_launcher_reports_born_before_any_exit_two_thousand_times);
	tcase_add_test(t, starts_that_hang_before_their_exec_hold_up_no_other);
	tcase_add_test(t, a_start_that_hangs_before_its_exec_holds_up_no_sync);
	tcase_add_test(t, user_and_groups_are_taken_on_and_capabilities_go);
	tcase_add_test(t, the_launcher_is_the_same_after_a_hundred_users);
	tcase_add_test(t, ambient_capabilities_survive_the_change_of_user);
	tcase_add_test(t, secure_bits_and_bounding_set_are_set_for_root_too);
	tcase_add_test(t, plus_runs_with_full_privilege_and_bang_without_the_user);
	tcase_add_test(t, limits_and_scheduling_are_applied);
	tcase_add_test(t, each_kind_of_failing_exec_says_what_and_where);
	tcase_add_test(t, a_command_line_beyond_the_kernels_limit_is_e2big_and_comes_in_a_memfd);
	tcase_add_test(t, a_damaged_plan_is_answered_and_does_no_harm);
	tcase_add_test(t, a_bad_user_is_refused_and_never_becomes_root);
	tcase_add_test(t, a_service_is_born_in_its_cgroup);
	tcase_add_test(t, without_clone3_the_old_call_does_the_same);
	tcase_add_test(t, the_shim_keeps_daemonized_children_and_tells_their_ends);
	tcase_add_test(t, the_shim_dies_of_its_programs_signal);
	tcase_add_test(t, a_shim_whose_program_cannot_start_says_so);
	suite_add_tcase(s, t);
	return s;
}
