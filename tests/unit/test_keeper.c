/* SPDX-License-Identifier: Apache-2.0 */
/* What keeper does for core and launcher, against a real keeper process. */
#include "keeper_rig.h"

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
/* ---- the end ---- */

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
	tcase_add_test(t, exit_ends_children_grandchildren_and_roles);
	tcase_add_test(t, as_pid_1_it_speaks_of_the_pids_of_its_namespace);
	tcase_add_test(t, keeper_stops_by_itself_when_no_core_can_start);
	suite_add_tcase(s, t);
	return s;
}
