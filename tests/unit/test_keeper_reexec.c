/* SPDX-License-Identifier: Apache-2.0 */
/* Keeper executes itself anew, or another program, and finds the way back from one whose core cannot start. */
#include "keeper_rig.h"

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

Suite *suite(void)
{
	Suite *s = suite_create("keeper_reexec");
	TCase *t = tcase_create("keeper_reexec");
	tcase_set_timeout(t, 120);
	tcase_add_test(t, a_reexec_keeps_children_exits_and_deposits);
	tcase_add_test(t, a_reexec_into_a_new_program_keeps_children_exits_and_deposits);
	tcase_add_test(t, a_program_of_before_a_reexec_is_not_started_again);
	tcase_add_test(t, a_program_that_cannot_be_executed_changes_nothing);
	tcase_add_test(t, a_program_whose_core_cannot_start_is_left_for_the_previous_one);
	tcase_add_test(t, the_way_back_is_tried_until_it_works);
	tcase_add_test(t, an_end_during_probation_is_no_reason_to_go_back);
	suite_add_tcase(s, t);
	return s;
}
