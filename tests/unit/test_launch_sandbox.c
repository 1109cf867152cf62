/* SPDX-License-Identifier: Apache-2.0 */
/* What a service can still see and do: each directive judged from inside by the probe. Needs a mount
 * namespace; where there is none the tests say so and pass over. */
#include "launch_rig.h"

#include <limits.h>
#include <sched.h>
#include <sys/mount.h>

static struct rig rig;
static struct unit u;
static char base[] = "/var/tmp/test-sandbox-XXXXXX";
static bool can_mount;

/* The name is that of the test, for the skip: what needs no mounts is checked all the same. */
#define start() start_named(__func__)
static void start_named(const char *test)
{
	struct launch_caps caps;
	launch_probe(&caps);
	can_mount = caps.can_mount_ns;
	if (!can_mount)
		printf("ok - %.*s # SKIP no mount namespace: only the host's side was checked\n",
			(int)strlen(test) - 3, test); /* _fn */
	rig_start(&rig, NULL);
	unit_init(&u, probe_path());
	ck_assert_ptr_nonnull(mkdtemp(base));
	ck_assert_int_eq(chmod(base, 0755), 0);
}

static void stop(void)
{
	CLEANUP_FREE char *cmd = xasprintf("rm -rf %s", base);
	ck_assert_int_eq(system(cmd), 0);
	rig_stop(&rig);
}

static char *below(const char *name)
{
	char *p = xasprintf("%s/%s", base, name);
	return p;
}

static char *make_dir(const char *name)
{
	char *p = below(name);
	ck_assert_int_eq(mkdir_parents(p, 0755), 0);
	return p;
}

static char *make_file(const char *name)
{
	char *p = below(name);
	int fd = open(p, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(write_all(fd, "text\n", 5), 0);
	close(fd);
	return p;
}

static void ask(const char *what, const char *path)
{
	unit_arg(&u, what);
	unit_arg(&u, path);
}

static void expect(const struct result *r, const char *what, const char *path, const char *answer)
{
	CLEANUP_FREE char *line = xasprintf("%s %s %s", what, path, answer);
	ck_assert_int_eq(r->reply.kind, LN_SPAWNED);
	ASSERT_LINE(*r, line);
}

START_TEST(read_only_and_read_write_paths_nest_and_the_deeper_wins)
{
	start();
	char *a = make_dir("a"), *b = make_dir("a/b"), *c = make_dir("a/b/c"),
	     *f = make_file("a/f");
	u.conf.exec.sandbox.read_only_paths = LIST(a, c, (char *)"-/nonexistent/x");
	u.conf.exec.sandbox.read_write_paths = LIST(b);
	ask("write", a);
	ask("write", b);
	ask("write", c);
	ask("write", f);
	struct result r = rig_run(&rig, &u);
	if (can_mount) {
		expect(&r, "write", a, "EROFS");
		expect(&r, "write", b, "ok");
		expect(&r, "write", c, "EROFS");
		expect(&r, "write", f, "EROFS");
	}
	ck_assert_int_eq(access(a, W_OK), 0); /* the host's is untouched */
	stop();
}
END_TEST

START_TEST(a_missing_path_without_dash_is_a_failure_of_stage_namespace)
{
	start();
	u.conf.exec.sandbox.read_only_paths = LIST((char *)"/nonexistent/x");
	struct result r = rig_run(&rig, &u);
	if (can_mount) {
		ck_assert_int_eq(r.reply.kind, LN_FAILED);
		ck_assert_int_eq(r.reply.stage, EXIT_NAMESPACE);
		ck_assert_str_eq(r.reply.detail, "/nonexistent/x");
	}
	stop();
}
END_TEST

START_TEST(inaccessible_paths_hide_directories_and_files)
{
	NEED_ROOT(); /* for another user */
	start();
	char *d = make_dir("secret"), *in = make_file("secret/in"), *f = make_file("f"),
	     *g = make_file("g");
	u.conf.exec.sandbox.inaccessible_paths = LIST(d, f, g);
	u.conf.exec.identity.user = (char *)"nobody";
	ask("list", d);
	ask("read", in);
	ask("read", f);
	ask("read", g);
	struct result r = rig_run(&rig, &u);
	if (can_mount) {
		expect(&r, "list", d, "-13");
		expect(&r, "read", in, "EACCES");
		expect(&r, "read", f, "EACCES");
		expect(&r, "read", g, "EACCES");
	}
	stop();
}
END_TEST

START_TEST(protect_system_strict_leaves_only_what_is_named)
{
	start();
	char *rw = make_dir("rw"), *ro = make_dir("ro");
	CLEANUP_FREE char *name = xasprintf("test-sandbox-%d", (int)getpid());
	CLEANUP_FREE char *run = xasprintf("/run/%s", name);
	u.conf.exec.sandbox.protect_system = PROTECT_SYSTEM_STRICT;
	u.conf.exec.sandbox.read_write_paths = LIST(rw);
	u.conf.exec.dirs[DIR_RUNTIME].names = LIST(name);
	u.vars.dirs_wanted = true;
	ask("write", "/etc");
	ask("write", "/usr");
	ask("write", ro);
	ask("write", rw);
	ask("write", run);
	ask("write", "/dev/null");
	struct result r = rig_run(&rig, &u);
	if (can_mount) {
		expect(&r, "write", "/etc", "EROFS");
		expect(&r, "write", "/usr", "EROFS");
		expect(&r, "write", ro, "EROFS");
		expect(&r, "write", rw, "ok");
		expect(&r, "write", run, "ok");
		expect(&r, "write", "/dev/null", "ok");
	}
	launch_cleanup_dirs(&u.conf, &u.vars.id, "/run", false);
	ck_assert_int_lt(access(run, F_OK), 0);
	stop();
}
END_TEST

START_TEST(protect_system_yes_and_full_differ_in_etc)
{
	start();
	ask("write", "/etc");
	ask("write", "/usr");
	u.conf.exec.sandbox.protect_system = PROTECT_SYSTEM_YES;
	struct result r = rig_run(&rig, &u);
	if (can_mount) {
		expect(&r, "write", "/etc", "ok");
		expect(&r, "write", "/usr", "EROFS");
	}
	u.conf.exec.sandbox.protect_system = PROTECT_SYSTEM_FULL;
	r = rig_run(&rig, &u);
	if (can_mount)
		expect(&r, "write", "/etc", "EROFS");
	stop();
}
END_TEST

START_TEST(protect_home_hides_empties_or_locks_the_homes)
{
	NEED_ROOT(); /* for another user */
	start();
	u.conf.exec.identity.user = (char *)"nobody";
	u.conf.exec.sandbox.protect_home = PROTECT_HOME_YES;
	ask("list", "/home");
	ask("list", "/root");
	struct result r = rig_run(&rig, &u);
	if (can_mount) {
		expect(&r, "list", "/home", "-13");
		expect(&r, "list", "/root", "-13");
	}
	u.conf.exec.identity.user = NULL;
	u.conf.exec.sandbox.protect_home = PROTECT_HOME_TMPFS;
	ask("write", "/root");
	r = rig_run(&rig, &u);
	if (can_mount) {
		expect(&r, "list", "/root", "0");
		expect(&r, "write", "/root", "EROFS");
	}
	u.conf.exec.sandbox.protect_home = PROTECT_HOME_READ_ONLY;
	r = rig_run(&rig, &u);
	if (can_mount)
		expect(&r, "write", "/root", "EROFS");
	stop();
}
END_TEST

START_TEST(private_tmp_is_empty_shared_within_an_activation_and_removed)
{
	start();
	CLEANUP_FREE char *private =
		xasprintf("/tmp/stayd-private-%s-0102030405060708090a0b0c0d0e0f10", u.conf.name);
	u.conf.exec.sandbox.private_tmp = true;
	ask("list", "/tmp");
	ask("list", "/var/tmp");
	ask("write", "/tmp");
	struct result r = rig_run(&rig, &u);
	if (can_mount) {
		expect(&r, "list", "/tmp", "0");
		expect(&r, "list", "/var/tmp", "0");
		expect(&r, "write", "/tmp", "ok");
		CLEANUP_FREE char *tmp = xasprintf("%s/tmp", private);
		CLEANUP_FREE char *file = xasprintf("%s/x", tmp);
		ck_assert_int_eq(access(tmp, F_OK), 0);
		int fd = open(file, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
		ck_assert_int_ge(fd, 0);
		close(fd);
		r = rig_run(&rig, &u);
		expect(&r, "list", "/tmp", "1");
	}
	launch_cleanup_dirs(&u.conf, &u.vars.id, "/run", false);
	ck_assert_int_lt(access(private, F_OK), 0);
	stop();
}
END_TEST

/* Anybody fills /tmp, and core waits for this. */
START_TEST(private_tmp_is_removed_among_a_hundred_thousand_files)
{
	start();
	char name[128];
	u.conf.exec.sandbox.private_tmp = true;
	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
		mount("crowd", "/tmp", "tmpfs", 0, "mode=1777") < 0) {
		stop();
		return;
	}
	int at = open("/tmp", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	for (int i = 0; i < 100 * 1000; i++) {
		snprintf(name, sizeof(name), "file-%d", i);
		ck_assert_int_eq(mknodat(at, name, S_IFREG | 0600, 0), 0);
	}
	static const char format[] = "stayd-private-%s-0102030405060708090a0b0c0d0e0f10";
	uint64_t best_us = UINT64_MAX;
	for (int i = 0; i < 5; i++) {
		snprintf(name, sizeof(name), format, u.conf.name);
		ck_assert_int_eq(mkdirat(at, name, 0700), 0);
		uint64_t began_us = now_mono_us();
		launch_cleanup_dirs(&u.conf, &u.vars.id, "/run", false);
		best_us = MIN(best_us, now_mono_us() - began_us);
		ck_assert_int_lt(faccessat(at, name, F_OK, 0), 0);
	}
	printf("# removed in %llu us\n", (unsigned long long)best_us);
	ck_assert_uint_lt(best_us, 5000);
	close(at);
	ck_assert_int_eq(umount2("/tmp", MNT_DETACH), 0);
	stop();
}
END_TEST

START_TEST(private_tmp_is_writable_where_the_system_is_not)
{
	start();
	u.conf.exec.sandbox.private_tmp = true;
	u.conf.exec.sandbox.protect_system = PROTECT_SYSTEM_STRICT;
	ask("list", "/tmp");
	ask("write", "/tmp");
	ask("write", "/var/tmp");
	ask("write", "/var");
	struct result r = rig_run(&rig, &u);
	if (can_mount) {
		expect(&r, "list", "/tmp", "0");
		expect(&r, "write", "/tmp", "ok");
		expect(&r, "write", "/var/tmp", "ok");
		expect(&r, "write", "/var", "EROFS");
	}
	launch_cleanup_dirs(&u.conf, &u.vars.id, "/run", false);
	stop();
}
END_TEST

START_TEST(private_devices_has_the_harmless_ones_only)
{
	start();
	u.conf.exec.sandbox.private_devices = true;
	unit_arg(&u, "show");
	ask("write", "/dev/null");
	ask("read", "/dev/urandom");
	ask("read", "/dev/kmsg");
	ask("write", "/dev");
	struct result r = rig_run(&rig, &u);
	if (can_mount) {
		expect(&r, "write", "/dev/null", "ok");
		expect(&r, "read", "/dev/urandom", "ok");
		expect(&r, "read", "/dev/kmsg", "ENOENT");
		expect(&r, "write", "/dev", "EROFS");
	}
	u.conf.exec.sandbox.protect_system = PROTECT_SYSTEM_STRICT;
	r = rig_run(&rig, &u);
	if (can_mount) {
		expect(&r, "write", "/dev/null", "ok");
		expect(&r, "write", "/dev", "EROFS");
	}
	stop();
}
END_TEST

START_TEST(bind_mounts_and_temporary_file_systems_appear)
{
	start();
	char *src = make_dir("src"), *tmp = make_dir("tmp"), *dst = below("made/for/it"),
	     *ro = below("ro");
	free(make_file("src/one"));
	CLEANUP_FREE char *b = xasprintf("%s:%s", src, dst);
	CLEANUP_FREE char *c = xasprintf("%s:%s:norbind", src, ro);
	CLEANUP_FREE char *t = xasprintf("%s:size=1m,mode=0700", tmp);
	free(make_file("tmp/hidden"));
	u.conf.exec.sandbox.bind_paths = LIST(b);
	u.conf.exec.sandbox.bind_read_only_paths = LIST(c, (char *)"-/nonexistent/y");
	u.conf.exec.sandbox.temporary_file_systems = LIST(t);
	ask("list", dst);
	ask("write", dst);
	ask("list", ro);
	ask("write", ro);
	ask("list", tmp);
	ask("write", tmp);
	struct result r = rig_run(&rig, &u);
	if (can_mount) {
		expect(&r, "list", dst, "1");
		expect(&r, "write", dst, "ok");
		expect(&r, "list", ro, "1");
		expect(&r, "write", ro, "EROFS");
		expect(&r, "list", tmp, "0");
		expect(&r, "write", tmp, "ok");
	}
	stop();
}
END_TEST

START_TEST(kernel_interfaces_are_locked)
{
	start();
	struct exec_sandbox *s = &u.conf.exec.sandbox;
	s->protect_kernel_tunables = s->protect_kernel_logs = s->protect_control_groups = true;
	ask("write", "/proc/sys/kernel/panic");
	ask("write", "/sys/kernel/mm/transparent_hugepage/enabled");
	ask("read", "/proc/kmsg");
	ask("write", "/sys/fs/cgroup");
	unit_arg(&u, "show");
	struct result r = rig_run(&rig, &u);
	if (can_mount) {
		expect(&r, "write", "/proc/sys/kernel/panic", "EROFS");
		expect(&r, "write", "/sys/fs/cgroup", "EROFS");
		ck_assert_ptr_null(strstr(r.out, "transparent_hugepage/enabled ok"));
	}
	stop();
}
END_TEST

START_TEST(root_directory_is_the_whole_world_and_links_in_it_stay_inside)
{
	start();
	char *root = make_dir("root"), *program = below("root/probe");
	free(make_dir("root/real"));
	free(make_file("root/inside"));
	CLEANUP_FREE char *copy = xasprintf("cp %s %s", probe_path(), program);
	ck_assert_int_eq(system(copy), 0);
	char *link = below("root/evil");
	ck_assert_int_eq(symlink("/real", link), 0);
	if (!can_mount) {
		stop();
		return;
	}
	u.conf.exec.sandbox.root_directory = root;
	u.conf.exec.sandbox.bind_paths = LIST((char *)"/usr/share:/evil");
	u.conf.exec.sandbox.mount_api_vfs = true;
	u.cmd.path = u.argv[0] = (char *)"/probe";
	ask("list", "/");
	ask("read", "/inside");
	ask("read", "/proc/self/status");
	ask("read", "/dev/null");
	ask("read", "/etc/passwd");
	ask("read", "/real/common-licenses");
	struct result r = rig_run(&rig, &u);
	if (can_mount) {
		expect(&r, "read", "/inside", "ok");
		expect(&r, "read", "/proc/self/status", "ok");
		expect(&r, "read", "/dev/null", "ok");
		expect(&r, "read", "/etc/passwd", "ENOENT");
		expect(&r, "read", "/real/common-licenses", "ok");
	}
	stop();
}
END_TEST

START_TEST(no_working_directory_leads_out_of_the_root_directory)
{
	start();
	char *root = make_dir("root"), *program = below("root/probe");
	CLEANUP_FREE char *copy = xasprintf("cp %s %s", probe_path(), program);
	ck_assert_int_eq(system(copy), 0);
	unit_arg(&u, "show");
	u.conf.exec.sandbox.root_directory = root;
	u.conf.exec.sandbox.mount_api_vfs = true;
	u.cmd.path = u.argv[0] = (char *)"/probe";
	for (int fd = 0; can_mount && fd < 24; fd++) {
		CLEANUP_FREE char *cwd = xasprintf("/proc/self/fd/%d", fd);
		CLEANUP_FREE char *link = below("root/link");
		(void)unlink(link);
		ck_assert_int_eq(symlink(cwd, link), 0);
		for (int by_link = 0; by_link < 2; by_link++) {
			u.conf.exec.working_directory = by_link ? (char *)"/link" : cwd;
			struct result r = rig_run(&rig, &u);
			if (r.reply.kind == LN_FAILED)
				ck_assert_int_eq(r.reply.stage, EXIT_CHDIR);
			else
				ASSERT_LINE(r, "cwd /");
		}
	}
	stop();
}
END_TEST

static char *line_of(const char *out, const char *key)
{
	const char *s = strstr(out, key);
	ck_assert_ptr_nonnull(s);
	return xstrndup(s, strcspn(s, "\n"));
}

START_TEST(namespaces_are_ones_own)
{
	static const char *const keys[] = {"netns ", "ipcns ", "utsns ", "mntns "};
	start();
	unit_arg(&u, "show");
	struct result plain = rig_run(&rig, &u);
	u.conf.exec.sandbox.private_network = u.conf.exec.sandbox.private_ipc = true;
	u.conf.exec.sandbox.protect_hostname = u.conf.exec.sandbox.private_mounts = true;
	struct result own = rig_run(&rig, &u);
	for (size_t i = 0; can_mount && i < ARRAY_SIZE(keys); i++)
		ck_assert_str_ne(line_of(plain.out, keys[i]), line_of(own.out, keys[i]));
	stop();
}
END_TEST

START_TEST(private_users_maps_root_and_the_user)
{
	NEED_ROOT(); /* for another user */
	struct launch_caps caps;
	start();
	launch_probe(&caps);
	unit_arg(&u, "show");
	u.conf.exec.identity.user = (char *)"nobody";
	u.conf.exec.sandbox.private_users = true;
	ask("list", "/");
	struct result plain = rig_run(&rig, &u);
	if (caps.can_user_ns) {
		ck_assert_int_eq(plain.reply.kind, LN_SPAWNED);
		ASSERT_LINE(plain, "Uid:\t65534\t65534\t65534\t65534");
		ASSERT_LINE(plain, "CapEff:\t0000000000000000");
	}
	stop();
}
END_TEST

START_TEST(protect_proc_hides_the_others)
{
	NEED_ROOT(); /* for another user */
	start();
	u.conf.exec.identity.user = (char *)"nobody";
	u.conf.exec.sandbox.protect_proc = (char *)"invisible";
	u.conf.exec.sandbox.proc_subset = (char *)"pid";
	ask("list", "/proc/1");
	ask("read", "/proc/self/status");
	ask("read", "/proc/meminfo");
	struct result r = rig_run(&rig, &u);
	if (can_mount) {
		expect(&r, "list", "/proc/1", "-2");
		expect(&r, "read", "/proc/self/status", "ok");
		expect(&r, "read", "/proc/meminfo", "ENOENT");
	}
	stop();
}
END_TEST

START_TEST(directories_are_made_owned_and_never_through_links)
{
	NEED_ROOT(); /* for another user */
	struct stat st;
	start();
	char *state = make_dir("state"), *run = make_dir("run"), *old = make_dir("state/old/in");
	u.vars.state_root = state;
	u.vars.runtime_root = run;
	u.vars.dirs_wanted = true;
	u.conf.exec.identity.user = (char *)"nobody";
	u.conf.exec.dirs[DIR_STATE].names = LIST((char *)"a/b", (char *)"old", (char *)"c:link");
	u.conf.exec.dirs[DIR_STATE].mode = 0700;
	u.conf.exec.dirs[DIR_RUNTIME].names = LIST((char *)"r");
	unit_arg(&u, "show");
	struct result r = rig_run(&rig, &u);
	ck_assert_msg(r.reply.kind == LN_SPAWNED, "%s", r.reply.detail);
	CLEANUP_FREE char *line =
		xasprintf("env STATE_DIRECTORY=%s/a/b:%s/old:%s/c", state, state, state);
	ASSERT_LINE(r, line);
	ck_assert_int_eq(stat(below("state/a/b"), &st), 0);
	ck_assert_uint_eq(st.st_uid, 65534);
	ck_assert_uint_eq(st.st_mode & 07777, 0700);
	ck_assert_int_eq(stat(below("state/a"), &st), 0);
	ck_assert_uint_eq(st.st_uid, 0);
	ck_assert_int_eq(stat(old, &st), 0);
	ck_assert_uint_eq(st.st_uid, 65534);
	ck_assert_int_eq(stat(below("state/link"), &st), 0);
	launch_cleanup_dirs(&u.conf, &u.vars.id, run, false);
	ck_assert_int_lt(access(below("run/r"), F_OK), 0);
	ck_assert_int_eq(symlink("/etc", below("state/l")), 0);
	u.conf.exec.dirs[DIR_STATE].names = LIST((char *)"l/x");
	r = rig_run(&rig, &u);
	ck_assert_int_eq(r.reply.stage, EXIT_STATE_DIRECTORY);
	ck_assert_int_lt(access("/etc/x", F_OK), 0);
	stop();
}
END_TEST

/* Where the kernel does not protect links, who had the directory may have put anybody's file there. */
START_TEST(a_new_owner_gets_what_the_old_one_had_and_no_more)
{
	NEED_ROOT(); /* for another user */
	struct stat st;
	start();
	char *state = make_dir("state"), *old = make_dir("state/old");
	ck_assert_int_eq(write_file_atomic(below("secret"), "x", 1, 0600), 0);
	ck_assert_int_eq(write_file_atomic(below("state/old/a"), "x", 1, 0600), 0);
	ck_assert_int_eq(chown(old, 1, 1), 0);
	ck_assert_int_eq(chown(below("state/old/a"), 1, 1), 0);
	ck_assert_int_eq(link(below("state/old/a"), below("state/old/b")), 0);
	ck_assert_int_eq(link(below("secret"), below("state/old/secret")), 0);
	ck_assert_int_eq(symlink(below("secret"), below("state/old/l")), 0);
	u.vars.state_root = state;
	u.vars.dirs_wanted = true;
	u.conf.exec.identity.user = (char *)"nobody";
	u.conf.exec.dirs[DIR_STATE].names = LIST((char *)"old");
	u.conf.exec.dirs[DIR_STATE].mode = 0700;
	unit_arg(&u, "show");
	struct result r = rig_run(&rig, &u);
	ck_assert_msg(r.reply.kind == LN_SPAWNED, "%s", r.reply.detail);
	ck_assert_int_eq(stat(old, &st), 0);
	ck_assert_uint_eq(st.st_uid, 65534);
	ck_assert_int_eq(stat(below("state/old/b"), &st), 0);
	ck_assert_uint_eq(st.st_uid, 65534);
	ck_assert_int_eq(lstat(below("state/old/l"), &st), 0);
	ck_assert_uint_eq(st.st_uid, 65534);
	ck_assert_int_eq(stat(below("secret"), &st), 0);
	ck_assert_uint_eq(st.st_uid, 0);
	stop();
}
END_TEST

/* "r" may be the user's own, and so what is in it. */
START_TEST(a_link_half_way_leads_no_removal_elsewhere)
{
	start();
	char *run = make_dir("run"), *else_where = make_dir("else/y/z");
	(void)make_dir("run/r/x/y/z");
	u.conf.exec.dirs[DIR_RUNTIME].names = LIST((char *)"r/x/y/z");
	launch_cleanup_dirs(&u.conf, &u.vars.id, run, false);
	ck_assert_int_lt(access(below("run/r/x/y/z"), F_OK), 0);
	ck_assert_int_eq(access(below("run/r/x/y"), F_OK), 0);
	ck_assert_int_eq(rename(below("run/r/x"), below("run/r/w")), 0);
	ck_assert_int_eq(symlink(below("else"), below("run/r/x")), 0);
	launch_cleanup_dirs(&u.conf, &u.vars.id, run, false);
	ck_assert_int_eq(access(else_where, F_OK), 0);
	stop();
}
END_TEST

/* Where core would hand it to: the test does so. */
static struct {
	int dir;
	char name[NAME_MAX + 1];
} handed = {.dir = -1};

static int hand_on(void *arg, int dir, const char *name)
{
	(void)arg;
	handed.dir = fcntl(dir, F_DUPFD_CLOEXEC, 10);
	str_copy(handed.name, name, sizeof(handed.name));
	return 0;
}

START_TEST(what_has_many_files_is_put_aside_and_removed_by_the_launcher)
{
	struct spawn_id none = {0};
	struct buf name = {0};
	int status;
	start();
	char *run = make_dir("run"), *in = make_dir("run/few"), *deep = make_dir("run/r/deep");
	for (int i = 0; i < 3000; i++) {
		CLEANUP_FREE char *path = xasprintf("%s/%d", deep, i);
		CLEANUP_CLOSE int fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
		ck_assert_int_ge(fd, 0);
	}
	launch_remove_by(hand_on, NULL);
	u.conf.exec.dirs[DIR_RUNTIME].names = LIST((char *)"few", (char *)"r");
	launch_cleanup_dirs(&u.conf, &u.vars.id, run, false);
	ck_assert_int_lt(access(in, F_OK), 0);
	ck_assert_int_lt(access(below("run/r"), F_OK), 0);
	ck_assert_msg(startswith(handed.name, ".stayd-gone-"), "%s", handed.name);
	ck_assert_int_eq(faccessat(handed.dir, handed.name, F_OK, 0), 0);
	buf_add(&name, handed.name, strlen(handed.name) + 1);
	rig_send(&rig, &name, &none, LN_REMOVE | LN_HAS_STDOUT, &handed.dir, 1, 0);
	ck_assert_int_gt(waitpid(-1, &status, __WALL), 0);
	ck_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	ck_assert_int_lt(faccessat(handed.dir, handed.name, F_OK, 0), 0);
	launch_remove_by(NULL, NULL);
	close(handed.dir);
	buf_done(&name);
	stop();
}
END_TEST

static struct {
	unsigned n;
	char names[8][64];
} left;

static int note_left(void *arg, int dir, const char *name)
{
	const char *root = arg;
	struct stat a, b;
	if (stat(root, &a) < 0 || fstat(dir, &b) < 0 || a.st_ino != b.st_ino || left.n == 8)
		return 0; /* /tmp and its like */
	str_copy(left.names[left.n++], name, sizeof(left.names[0]));
	return 0;
}

/* What nobody else can have made: never a link, nor what others could put there. */
START_TEST(what_a_killed_removal_left_is_removed_and_no_more)
{
	start();
	char *run = make_dir("run");
	make_dir("run/.stayd-gone-0123456789abcdef");
	make_dir("run/.stayd-gone-0123456789abcde");
	make_dir("run/.stayd-gone-0123456789abcdeg");
	make_dir("other");
	ck_assert_int_eq(symlink("../other", below("run/.stayd-gone-1111111111111111")), 0);
	fd_close(open(below("run/.stayd-gone-2222222222222222"), O_CREAT | O_CLOEXEC, 0600));
	launch_remove_by(note_left, run);
	launch_remove_left_over(run);
	ck_assert_uint_eq(left.n, 1);
	ck_assert_str_eq(left.names[0], ".stayd-gone-0123456789abcdef");
	left.n = 0;
	ck_assert_int_eq(chmod(run, 01777), 0);
	ck_assert_int_eq(chmod(below("run/.stayd-gone-0123456789abcdef"), 0755), 0);
	launch_remove_left_over(run);
	ck_assert_uint_eq(left.n, 0);
	ck_assert_int_eq(chmod(below("run/.stayd-gone-0123456789abcdef"), 0700), 0);
	launch_remove_left_over(run);
	ck_assert_uint_eq(left.n, 1);
	launch_remove_by(NULL, NULL);
	stop();
}
END_TEST

START_TEST(output_files_are_opened_by_the_launcher)
{
	struct buf b = {0}, plan = {0};
	pid_t pid;
	start();
	char *path = below("log");
	u.conf.exec.std_out = (struct std_stream){.kind = STD_APPEND, .path = path};
	unit_arg(&u, "show");
	for (int i = 0; i < 2; i++) {
		buf_reset(&plan);
		plan_of(&u, &plan);
		rig_send(&rig, &plan, &u.vars.id, 0, NULL, 0, 0);
		struct ln_reply r = rig_reply(&rig);
		ck_assert_int_eq(r.kind, LN_SPAWNED);
		(void)rig_frame(&rig, &pid);
		ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
	}
	ck_assert_int_ge(read_file(AT_FDCWD, path, 65536, &b), 0);
	ck_assert_ptr_nonnull(strstr(strstr(b.data, "umask") + 5, "umask"));
	stop();
}
END_TEST

Suite *suite(void)
{
	Suite *s = suite_create("sandbox");
	TCase *t = tcase_create("sandbox");
	tcase_set_timeout(t, 60);
	tcase_add_test(t, read_only_and_read_write_paths_nest_and_the_deeper_wins);
	tcase_add_test(t, a_missing_path_without_dash_is_a_failure_of_stage_namespace);
	tcase_add_test(t, inaccessible_paths_hide_directories_and_files);
	tcase_add_test(t, protect_system_strict_leaves_only_what_is_named);
	tcase_add_test(t, protect_system_yes_and_full_differ_in_etc);
	tcase_add_test(t, protect_home_hides_empties_or_locks_the_homes);
	tcase_add_test(t, private_tmp_is_empty_shared_within_an_activation_and_removed);
	tcase_add_test(t, private_tmp_is_removed_among_a_hundred_thousand_files);
	tcase_add_test(t, private_tmp_is_writable_where_the_system_is_not);
	tcase_add_test(t, private_devices_has_the_harmless_ones_only);
	tcase_add_test(t, bind_mounts_and_temporary_file_systems_appear);
	tcase_add_test(t, kernel_interfaces_are_locked);
	tcase_add_test(t, root_directory_is_the_whole_world_and_links_in_it_stay_inside);
	tcase_add_test(t, no_working_directory_leads_out_of_the_root_directory);
	tcase_add_test(t, namespaces_are_ones_own);
	tcase_add_test(t, private_users_maps_root_and_the_user);
	tcase_add_test(t, protect_proc_hides_the_others);
	tcase_add_test(t, directories_are_made_owned_and_never_through_links);
	tcase_add_test(t, a_new_owner_gets_what_the_old_one_had_and_no_more);
	tcase_add_test(t, a_link_half_way_leads_no_removal_elsewhere);
	tcase_add_test(t, what_has_many_files_is_put_aside_and_removed_by_the_launcher);
	tcase_add_test(t, what_a_killed_removal_left_is_removed_and_no_more);
	tcase_add_test(t, output_files_are_opened_by_the_launcher);
	suite_add_tcase(s, t);
	return s;
}
