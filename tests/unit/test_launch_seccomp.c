/* SPDX-License-Identifier: Apache-2.0 */
/* Filters, judged by what the probe may still call. */
#include "launch_rig.h"

#include <linux/capability.h>

static struct rig rig;
static struct unit u;

static void start(void)
{
	rig_start(&rig, NULL);
	unit_init(&u, probe_path());
}

static void ask(const char *name)
{
	unit_arg(&u, "call");
	unit_arg(&u, name);
}

static void expect(const struct result *r, const char *name, const char *answer)
{
	CLEANUP_FREE char *line = xasprintf("call %s %s", name, answer);
	ck_assert_int_eq(r->reply.kind, LN_SPAWNED);
	ASSERT_LINE(*r, line);
}

START_TEST(an_allow_list_of_groups_lets_a_program_run_and_kills_the_rest)
{
	start();
	u.conf.exec.sandbox.has_syscall_filter = true;
	u.conf.exec.sandbox.syscall_filter = LIST((char *)"@system-service");
	u.conf.exec.sandbox.syscall_archs = LIST((char *)"native");
	ask("inet");
	struct result r = rig_run(&rig, &u);
	expect(&r, "inet", "ok");
	ck_assert(WIFEXITED(r.status));
	ask("mount");
	r = rig_run(&rig, &u);
	ck_assert_int_eq(r.reply.kind, LN_SPAWNED);
	ck_assert(WIFSIGNALED(r.status) && WTERMSIG(r.status) == SIGSYS);
	rig_stop(&rig);
}
END_TEST

START_TEST(the_errno_of_the_filter_and_of_a_single_call_are_used)
{
	start();
	u.conf.exec.sandbox.has_syscall_filter = true;
	u.conf.exec.sandbox.syscall_errno = EPERM;
	u.conf.exec.sandbox.syscall_filter =
		LIST((char *)"@system-service", (char *)"~@resources", (char *)"unshare:ENOSYS");
	ask("mount");
	ask("utsns");
	ask("rt");
	ask("unix");
	struct result r = rig_run(&rig, &u);
	expect(&r, "mount", "EPERM");
	expect(&r, "utsns", "ENOSYS");
	expect(&r, "rt", "EPERM");
	expect(&r, "unix", "ok");
	rig_stop(&rig);
}
END_TEST

START_TEST(a_deny_list_forbids_what_it_names)
{
	start();
	u.conf.exec.sandbox.has_syscall_filter = u.conf.exec.sandbox.syscall_filter_is_deny = true;
	u.conf.exec.sandbox.syscall_errno = EACCES;
	u.conf.exec.sandbox.syscall_filter = LIST((char *)"@mount", (char *)"sethostname:EINVAL");
	ask("mount");
	ask("hostname");
	ask("inet");
	struct result r = rig_run(&rig, &u);
	expect(&r, "mount", "EACCES");
	expect(&r, "hostname", "EINVAL");
	expect(&r, "inet", "ok");
	rig_stop(&rig);
}
END_TEST

START_TEST(address_families_work_both_ways)
{
	start();
	u.conf.exec.sandbox.has_address_families = true;
	u.conf.exec.sandbox.address_families = LIST((char *)"AF_UNIX", (char *)"AF_NETLINK");
	ask("inet");
	ask("unix");
	ask("netlink");
	ask("unix-high");
	struct result r = rig_run(&rig, &u);
	expect(&r, "inet", "EAFNOSUPPORT");
	expect(&r, "unix", "ok");
	expect(&r, "netlink", "ok");
	u.conf.exec.sandbox.address_families_is_deny = true;
	r = rig_run(&rig, &u);
	expect(&r, "inet", "ok");
	expect(&r, "unix", "EAFNOSUPPORT");
	expect(&r, "netlink", "EAFNOSUPPORT");
	expect(&r, "unix-high", "EAFNOSUPPORT");
	rig_stop(&rig);
}
END_TEST

START_TEST(each_restriction_forbids_its_own_and_nothing_else)
{
	static const struct {
		size_t at;
		const char *name, *answer;
	} rows[] = {
#define ROW(field, name, answer) {offsetof(struct exec_sandbox, field), name, answer}
		ROW(lock_personality, "personality", "EPERM"),
		ROW(memory_deny_write_execute, "wx", "EPERM"),
		ROW(restrict_realtime, "rt", "EPERM"),
		ROW(restrict_suid_sgid, "suid", "EPERM"),
		ROW(protect_hostname, "hostname", "EPERM"),
		ROW(protect_kernel_modules, "module", "EPERM"),
		ROW(protect_kernel_logs, "syslog", "EPERM"),
	};
	start();
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		unit_init(&u, probe_path());
		u.conf.exec.sandbox.private_network = true;
		u.conf.exec.sandbox.private_mounts = true;
		*(bool *)((char *)&u.conf.exec.sandbox + rows[i].at) = true;
		for (size_t k = 0; k < ARRAY_SIZE(rows); k++)
			if (!streq(rows[k].name, "hostname") || k == i)
				ask(rows[k].name);
		struct result r = rig_run(&rig, &u);
		expect(&r, rows[i].name, rows[i].answer);
		for (size_t k = 0; k < ARRAY_SIZE(rows); k++) {
			CLEANUP_FREE char *line = xasprintf("call %s %s", rows[k].name, "EPERM");
			bool is_free = k != i && (streq(rows[k].name, "personality") ||
							 streq(rows[k].name, "wx") ||
							 streq(rows[k].name, "suid"));
			if (is_free)
				ck_assert_msg(
					!has_line(r.out, line), "%s with %s", line, rows[i].name);
		}
	}
	rig_stop(&rig);
}
END_TEST

START_TEST(a_file_without_a_name_gets_no_set_id_bit_either)
{
	start();
	ask("suid-tmpfile");
	struct result r = rig_run(&rig, &u);
	ck_assert(!has_line(r.out, "call suid-tmpfile EPERM"));
	u.conf.exec.sandbox.restrict_suid_sgid = true;
	r = rig_run(&rig, &u);
	expect(&r, "suid-tmpfile", "EPERM");
	rig_stop(&rig);
}
END_TEST

START_TEST(forbidden_namespaces_are_refused_and_others_not)
{
	start();
	u.conf.exec.sandbox.restrict_namespaces = CLONE_NEWUTS;
	ask("setns-high");
	ask("utsns");
	ask("userns");
	ask("clone3");
	struct result r = rig_run(&rig, &u);
	expect(&r, "setns-high", "EPERM");
	expect(&r, "utsns", "EPERM");
	expect(&r, "userns", "ok");
	expect(&r, "clone3", "ENOSYS");
	rig_stop(&rig);
}
END_TEST

START_TEST(a_filter_with_a_user_implies_no_new_privileges)
{
	NEED_ROOT(); /* for another user */
	start();
	unit_arg(&u, "show");
	u.conf.exec.sandbox.lock_personality = true;
	struct result r = rig_run(&rig, &u);
	bool has_admin = prctl(PR_CAPBSET_READ, CAP_SYS_ADMIN, 0, 0, 0) == 1 && geteuid() == 0;
	ASSERT_LINE(r, has_admin ? "NoNewPrivs:\t0" : "NoNewPrivs:\t1");
	ASSERT_LINE(r, "Seccomp:\t2");
	u.conf.exec.identity.user = (char *)"nobody";
	u.conf.exec.sandbox.has_syscall_filter = true;
	u.conf.exec.sandbox.syscall_filter = LIST((char *)"@system-service");
	r = rig_run(&rig, &u);
	ASSERT_LINE(r, "NoNewPrivs:\t1");
	ASSERT_LINE(r, "Seccomp_filters:\t2");
	rig_stop(&rig);
}
END_TEST

static int build(struct err *e)
{
	struct bpf_program p = {0};
	size_t split;
	int r = filter_get(&u.conf.exec.sandbox, &p, &split, e);
	if (r == 0)
		filter_put(&p);
	return r;
}

START_TEST(filters_that_cannot_work_are_refused_with_a_reason)
{
	struct err e = {0};
	struct exec_sandbox *s = &u.conf.exec.sandbox;
	unit_init(&u, "/bin/true");
	s->has_syscall_filter = s->syscall_filter_is_deny = true;
	s->syscall_filter = LIST((char *)"execve");
	ck_assert_int_eq(build(&e), -EINVAL);
	ck_assert_ptr_nonnull(strstr(e.text, "execve"));
	s->syscall_filter = LIST((char *)"@no-such-group");
	ck_assert_int_eq(build(&e), -EINVAL);
	s->syscall_filter = LIST((char *)"mount:ENOTANERRNO");
	ck_assert_int_eq(build(&e), -EINVAL);
	s->syscall_filter = LIST((char *)"no_such_call");
	ck_assert_int_eq(build(&e), -EINVAL);
	s->syscall_filter_is_deny = false;
	ck_assert_int_eq(build(&e), 0);
	s->has_syscall_filter = false;
	s->has_address_families = true;
	s->address_families = LIST((char *)"AF_NONSENSE");
	ck_assert_int_eq(build(&e), -EINVAL);
	s->has_address_families = false;
	s->syscall_archs = LIST((char *)"pdp-11");
	ck_assert_int_eq(build(&e), -EINVAL);
}
END_TEST

START_TEST(every_group_of_systemd_builds_as_an_allow_list)
{
	static const char *const names[] = {
#define SYSCALL_GROUP(name, members) name,
#include "launch/syscall_groups.def"
#undef SYSCALL_GROUP
	};
	struct err e = {0};
	unit_init(&u, "/bin/true");
	u.conf.exec.sandbox.has_syscall_filter = true;
	u.conf.exec.sandbox.syscall_archs = LIST((char *)"native");
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		u.conf.exec.sandbox.syscall_filter = LIST((char *)names[i]);
		ck_assert_msg(build(&e) == 0, "%s: %s", names[i], e.text);
	}
}
END_TEST

START_TEST(equal_filters_are_built_once_and_freed_with_the_last_image)
{
	struct unit other;
	unit_init(&u, "/bin/true");
	unit_init(&other, "/bin/false");
	u.conf.exec.sandbox.lock_personality = other.conf.exec.sandbox.lock_personality = true;
	struct launch_image *a = image_of(&u.conf), *b = image_of(&other.conf);
	ck_assert_ptr_eq(a->seccomp.data, b->seccomp.data);
	ck_assert_uint_eq(filters_cached(), 1);
	other.conf.exec.sandbox.restrict_realtime = true;
	struct launch_image *c = image_of(&other.conf);
	ck_assert_ptr_ne(a->seccomp.data, c->seccomp.data);
	launch_image_free(a);
	launch_image_free(b);
	launch_image_free(c);
	ck_assert_uint_eq(filters_cached(), 0);
}
END_TEST

Suite *suite(void)
{
	Suite *s = suite_create("seccomp");
	TCase *t = tcase_create("seccomp");
	tcase_set_timeout(t, 60);
	tcase_add_test(t, an_allow_list_of_groups_lets_a_program_run_and_kills_the_rest);
	tcase_add_test(t, the_errno_of_the_filter_and_of_a_single_call_are_used);
	tcase_add_test(t, a_deny_list_forbids_what_it_names);
	tcase_add_test(t, address_families_work_both_ways);
	tcase_add_test(t, each_restriction_forbids_its_own_and_nothing_else);
	tcase_add_test(t, a_file_without_a_name_gets_no_set_id_bit_either);
	tcase_add_test(t, forbidden_namespaces_are_refused_and_others_not);
	tcase_add_test(t, a_filter_with_a_user_implies_no_new_privileges);
	tcase_add_test(t, filters_that_cannot_work_are_refused_with_a_reason);
	tcase_add_test(t, every_group_of_systemd_builds_as_an_allow_list);
	tcase_add_test(t, equal_filters_are_built_once_and_freed_with_the_last_image);
	suite_add_tcase(s, t);
	return s;
}
