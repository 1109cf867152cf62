/* SPDX-License-Identifier: Apache-2.0 */
/* Plans: what is built is accepted, what is damaged is not, and nothing of it is read beyond its end. */
#include "launch_rig.h"

static struct unit u;

/* A unit that uses every span of a plan. */
static void full_unit(void)
{
	static const char *const names[] = {"a", "b"};
	unit_init(&u, "program");
	unit_arg(&u, "${HOME}");
	u.conf.exec.identity.user = (char *)"nobody";
	u.conf.exec.identity.supplementary_groups = LIST((char *)"daemon");
	u.conf.exec.sandbox.private_tmp = u.conf.exec.sandbox.lock_personality = true;
	u.conf.exec.sandbox.has_syscall_filter = true;
	u.conf.exec.sandbox.syscall_filter = LIST((char *)"@system-service");
	u.conf.exec.sandbox.protect_system = PROTECT_SYSTEM_STRICT;
	u.conf.exec.sandbox.bind_paths = LIST((char *)"/a:/b");
	u.conf.exec.sandbox.root_directory = (char *)"/srv";
	u.conf.exec.dirs[DIR_STATE].names = LIST((char *)"x:y");
	u.conf.exec.limits.has_cpu_affinity = true;
	u.conf.exec.limits.cpu_affinity = LIST((char *)"0-1");
	u.conf.exec.std_in = (struct std_stream){.kind = STD_FILE, .path = (char *)"/in"};
	u.vars.dirs_wanted = true;
	u.vars.n_fds = 2;
	u.vars.fd_names = names;
}

static struct plan *copy_of(const struct buf *b)
{
	struct plan *p = xmalloc(b->size); /* exactly: ASan sees a read beyond */
	memcpy(p, b->data, b->size);
	return p;
}

START_TEST(a_built_plan_is_accepted_and_says_what_was_asked)
{
	NEED_ROOT(); /* for another user */
	struct buf b = {0};
	full_unit();
	buf_add_str(&b, "before ");
	size_t before = b.size;
	plan_of(&u, &b);
	buf_consume(&b, before);
	struct plan *p = copy_of(&b);
	ck_assert_int_eq(plan_check(p, b.size), 0);
	ck_assert_uint_eq(p->uid, 65534);
	ck_assert(p->flags & PLAN_FORK);
	ck_assert(p->flags & PLAN_NO_NEW_PRIVS);
	ck_assert_uint_eq(p->exec.n, 6);
	ck_assert_uint_eq(p->pid_slots.n, 2);
	ck_assert_uint_eq(p->groups.n, 2);
	ck_assert_uint_gt(p->seccomp_split, 0);
	plan_relocate(p);
	char *const *argv = plan_at(p, p->argv.off);
	ck_assert_str_eq(argv[0], "program");
	ck_assert_str_eq(argv[1], "/nonexistent");
	ck_assert_ptr_null(argv[2]);
	free(p);
	buf_done(&b);
}
END_TEST

START_TEST(a_service_without_mounts_and_directories_needs_no_fork)
{
	struct buf b = {0};
	unit_init(&u, "/bin/true");
	u.conf.exec.sandbox.lock_personality = true;
	plan_of(&u, &b);
	struct plan *p = copy_of(&b);
	ck_assert(!(p->flags & PLAN_FORK));
	free(p);
	buf_done(&b);
}
END_TEST

START_TEST(a_service_of_another_user_is_not_waited_for)
{
	NEED_ROOT(); /* for another user */
	struct buf b = {0};
	unit_init(&u, "/bin/true");
	u.conf.exec.identity.user = (char *)"nobody";
	plan_of(&u, &b);
	struct plan *p = copy_of(&b);
	ck_assert(p->flags & PLAN_FORK);
	free(p);
	buf_done(&b);
}
END_TEST

START_TEST(every_truncation_is_refused)
{
	NEED_ROOT(); /* for another user */
	struct buf b = {0};
	full_unit();
	plan_of(&u, &b);
	for (size_t n = 0; n < b.size; n += n < 512 ? 1 : 61) {
		struct plan *p = xmalloc(n);
		memcpy(p, b.data, n);
		ck_assert_int_lt(plan_check(p, n), 0);
		free(p);
	}
	buf_done(&b);
}
END_TEST

/* Each 32-bit word in turn becomes something else, with the sum put right: accepted or refused, no
 * reader may look outside. Relocating and reading every string is what the launcher would do. */
START_TEST(every_changed_word_is_refused_or_harmless)
{
	NEED_ROOT(); /* for another user */
	static const uint32_t values[] = {0, 1, 7, 0x7fffffff, 0xffffffff, 4096, 0x80000000};
	struct buf b = {0};
	full_unit();
	plan_of(&u, &b);
	size_t accepted = 0, refused = 0;
	for (size_t at = 16; at + 4 <= b.size; at += at < sizeof(struct plan) ? 4 : 36) {
		for (size_t k = 0; k < ARRAY_SIZE(values); k++) {
			struct plan *p = copy_of(&b);
			memcpy((char *)p + at, &values[k], 4);
			p->sum = plan_sum(p, b.size);
			if (plan_check(p, b.size) < 0) {
				refused++;
			} else {
				accepted++;
				plan_relocate(p);
				char *const *argv = plan_at(p, p->argv.off);
				size_t total =
					strlen(plan_str(p, p->unit)) + strlen(plan_str(p, p->cwd));
				for (; *argv; argv++)
					total += strlen(*argv);
				ck_assert_uint_lt(total, b.size);
			}
			free(p);
		}
	}
	ck_assert_uint_gt(accepted, 0);
	ck_assert_uint_gt(refused, 100);
	buf_done(&b);
}
END_TEST

START_TEST(mount_steps_are_ordered_and_nothing_lies_below_what_is_hidden)
{
	struct mount_list l = {0};
	struct err e;
	unit_init(&u, "/bin/true");
	struct exec_sandbox *s = &u.conf.exec.sandbox;
	s->inaccessible_paths = LIST((char *)"/a/b");
	s->read_only_paths =
		LIST((char *)"/a/b-c", (char *)"/a/", (char *)"/a/b/c", (char *)"/a", (char *)"/t");
	s->read_write_paths = LIST((char *)"/t/x", (char *)"/a/z", (char *)"/u/x", (char *)"/u");
	s->temporary_file_systems = LIST((char *)"/t", (char *)"/u");
	ck_assert_int_eq(mounts_build(&u.conf, &u.vars, &l, &e), 0);
	static const struct {
		const char *dst;
		enum mount_op op;
		unsigned flags;
	} want[] = {
		{"/a",     MOUNT_READ_ONLY,    0         },
		{"/a/b",   MOUNT_INACCESSIBLE, 0         },
		{"/a/b-c", MOUNT_READ_ONLY,    0         },
		{"/a/z",   MOUNT_READ_WRITE,   0         },
		{"/t",     MOUNT_TMPFS,        0         },
		{"/t",     MOUNT_READ_ONLY,    0         },
		{"/t/x",   MOUNT_READ_WRITE,   MOUNT_LATE},
		{"/u",     MOUNT_TMPFS,        0         },
	};
	ck_assert_uint_eq(l.n, ARRAY_SIZE(want));
	for (size_t i = 0; i < l.n; i++) {
		ck_assert_str_eq(l.v[i].dst, want[i].dst);
		ck_assert_int_eq(l.v[i].op, want[i].op);
		ck_assert_uint_eq(l.v[i].flags, want[i].flags);
	}
	mounts_done(&l);
}
END_TEST

START_TEST(what_the_host_cannot_do_is_degraded_or_refused_by_its_class)
{
	struct launch_caps none = {0};
	struct launch_image *i;
	struct err e;
	full_unit();
	u.conf.exec.identity.user = NULL;
	u.conf.exec.identity.supplementary_groups.n = 0;
	u.conf.exec.sandbox.root_directory = NULL;
	ck_assert_int_eq(launch_image_new(&u.conf, &none, &i, &e), 0);
	ck_assert_uint_eq(i->n_degraded, 3); /* PrivateTmp, ProtectSystem, BindPaths */
	ck_assert_str_eq(i->degraded[0].directive, "PrivateTmp");
	launch_image_free(i);
	u.conf.exec.identity.user = (char *)"nobody";
	ck_assert_int_eq(launch_image_new(&u.conf, &none, &i, &e), -EPERM);
	u.conf.exec.identity.user = NULL;
	u.conf.exec.sandbox.root_directory = (char *)"/srv";
	ck_assert_int_eq(launch_image_new(&u.conf, &none, &i, &e), -EOPNOTSUPP);
}
END_TEST

START_TEST(stages_have_systemds_names)
{
	ck_assert_str_eq(exec_exit_name(203), "EXEC");
	ck_assert_str_eq(exec_exit_name(226), "NAMESPACE");
	ck_assert_ptr_null(exec_exit_name(1));
}
END_TEST

/* Seeds for tests/fuzz/fuzz_plan.c, when somebody asks for them. */
START_TEST(seeds_are_written_when_asked_for)
{
	NEED_ROOT(); /* for another user */
	const char *seeds = getenv("FUZZ_SEEDS");
	for (int i = 0; i < 3; i++) {
		struct buf b = {0};
		full_unit();
		if (i == 0)
			unit_init(&u, "/bin/true");
		if (i == 2)
			u.conf.exec.sandbox.has_syscall_filter = false;
		plan_of(&u, &b);
		ck_assert_uint_gt(b.size, sizeof(struct plan));
		if (seeds) {
			CLEANUP_FREE char *path = xasprintf("%s/plan-%d", seeds, i);
			ck_assert_int_eq(write_file_atomic(path, b.data, b.size, 0644), 0);
		}
		buf_done(&b);
	}
}
END_TEST

Suite *suite(void)
{
	Suite *s = suite_create("plan");
	TCase *t = tcase_create("plan");
	tcase_set_timeout(t, 60);
	tcase_add_test(t, a_built_plan_is_accepted_and_says_what_was_asked);
	tcase_add_test(t, a_service_without_mounts_and_directories_needs_no_fork);
	tcase_add_test(t, a_service_of_another_user_is_not_waited_for);
	tcase_add_test(t, every_truncation_is_refused);
	tcase_add_test(t, every_changed_word_is_refused_or_harmless);
	tcase_add_test(t, mount_steps_are_ordered_and_nothing_lies_below_what_is_hidden);
	tcase_add_test(t, what_the_host_cannot_do_is_degraded_or_refused_by_its_class);
	tcase_add_test(t, stages_have_systemds_names);
	tcase_add_test(t, seeds_are_written_when_asked_for);
	suite_add_tcase(s, t);
	return s;
}
