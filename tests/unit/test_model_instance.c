/* SPDX-License-Identifier: Apache-2.0 */
#include "../model_conf.h"
#include "../model_stubs.h"
#include "check_main.h"

static struct arena arena;
static struct world *w;
static struct effects fx;
static struct unit *u;
static uint64_t now;

static void setup_with(struct unit_conf *c)
{
	w = world_new(7);
	now = USEC_PER_SEC;
	u = world_put_unit(w, c);
	world_link(w, &fx);
	effects_reset(&fx);
}

static struct unit_conf *conf(enum service_type t)
{
	return conf_service(&arena, "a.service", t);
}

static void teardown(void)
{
	w = world_free(w);
	effects_done(&fx);
	arena_done(&arena);
}

static void step(struct event ev)
{
	effects_reset(&fx);
	ev.unit = u;
	ev.now_us = now;
	ck_assert_int_eq(world_step(w, &ev, &fx), 0);
}

static void ask(enum request_verb verb)
{
	struct request r = {.id = 1, .verb = verb, .unit = u};
	step((struct event){.kind = EV_REQUEST, .request = &r});
}

static const struct effect *find(enum effect_kind kind)
{
	for (size_t i = 0; i < fx.n; i++)
		if (fx.v[i].kind == kind)
			return &fx.v[i];
	return NULL;
}

static const struct effect *spawned(enum exec_kind kind)
{
	const struct effect *e = find(FX_SPAWN);
	ck_assert_ptr_nonnull(e);
	ck_assert_int_eq(e->exec, kind);
	struct spawn_id id = e->id;
	step((struct event){.kind = EV_SPAWNED, .id = id, .pid = (int32_t)(100 + id.seq)});
	return NULL;
}

static void main_ends(int code, int status)
{
	step((struct event){.kind = EV_EXITED, .id = u->rec.main, .code = code, .status = status});
}

static void control_ends(int status)
{
	step((struct event){
		.kind = EV_EXITED, .id = u->rec.control, .code = CHILD_EXITED, .status = status});
}

static void is_empty(void)
{
	step((struct event){.kind = EV_EMPTY});
}

static void time_passes(uint64_t us)
{
	now += us;
	step((struct event){.kind = EV_TIME});
}

#define STATE_IS(s)  ck_assert_str_eq(inst_state_name(u->rec.state), inst_state_name(INST_##s))
#define RESULT_IS(r) ck_assert_str_eq(inst_result_name(u->rec.result), inst_result_name(RES_##r))

START_TEST(every_state_and_event_has_one_row_and_never_rows_change_nothing)
{
	for (int t = 0; t < SERVICE_TYPE_MAX; t++)
		for (int s = 0; s < INST_STATE_MAX; s++)
			for (int e = 0; e < FSM_MAX; e++) {
				setup_with(conf((enum service_type)t));
				w->fx = &fx;
				w->now_us = now;
				u->rec.state = (uint8_t)s;
				inst_fire(w, u, (enum inst_event_id)e);
				bool is_never = inst_row_kind((enum inst_state)s,
							(enum inst_event_id)e) == 'N';
				ck_assert_int_eq(w->step_error, is_never ? -EINVAL : 0);
				ck_assert_int_lt(u->rec.state, INST_STATE_MAX);
				if (is_never)
					ck_assert_int_eq(u->rec.state, s);
				teardown();
			}
}
END_TEST

START_TEST(simple_is_up_as_soon_as_it_is_asked_for)
{
	setup_with(conf(SERVICE_SIMPLE));
	ask(REQ_START);
	STATE_IS(RUNNING);
	ck_assert_msg(!find(FX_REPLY), "who asked waits for the exec");
	spawned(EXEC_START);
	ck_assert_int_eq(find(FX_REPLY)->result, REPLY_DONE);
}
END_TEST

START_TEST(a_main_process_killed_for_lack_of_memory_has_the_result_oom_kill)
{
	setup_with(conf(SERVICE_EXEC));
	ask(REQ_START);
	spawned(EXEC_START);
	step((struct event){.kind = EV_EXITED,
		.id = u->rec.main,
		.code = CHILD_KILLED,
		.status = 9,
		.ok = true});
	is_empty();
	STATE_IS(FAILED);
	RESULT_IS(OOM_KILL);
}
END_TEST

START_TEST(simple_that_cannot_be_executed_fails_who_asked)
{
	setup_with(conf(SERVICE_SIMPLE));
	ask(REQ_START);
	step((struct event){.kind = EV_SPAWN_FAILED,
		.id = u->rec.main,
		.stage = EXIT_EXEC,
		.error = ENOENT,
		.text = "/bin/nothing"});
	is_empty();
	STATE_IS(FAILED);
	RESULT_IS(EXIT_CODE);
	ck_assert_int_eq(u->rec.main_status, EXIT_EXEC);
	ck_assert_str_eq(find(FX_REPLY)->text, "main process: /bin/nothing (ENOENT)");
}
END_TEST

START_TEST(exec_is_up_when_the_exec_succeeded)
{
	setup_with(conf(SERVICE_EXEC));
	ask(REQ_START);
	STATE_IS(START);
	spawned(EXEC_START);
	STATE_IS(RUNNING);
}
END_TEST

START_TEST(exec_that_cannot_be_executed_fails_the_start_with_203)
{
	setup_with(conf(SERVICE_EXEC));
	ask(REQ_START);
	step((struct event){.kind = EV_SPAWN_FAILED,
		.id = u->rec.main,
		.stage = EXIT_EXEC,
		.error = ENOENT,
		.text = "/bin/nothing"});
	is_empty();
	STATE_IS(FAILED);
	RESULT_IS(EXIT_CODE);
	ck_assert_int_eq(u->rec.main_status, EXIT_EXEC);
	ck_assert_str_eq(find(FX_REPLY)->text, "main process: /bin/nothing (ENOENT)");
}
END_TEST

START_TEST(notify_is_up_when_it_says_so)
{
	setup_with(conf(SERVICE_NOTIFY));
	ask(REQ_START);
	spawned(EXEC_START);
	STATE_IS(START);
	step((struct event){.kind = EV_NOTIFY, .bits = NOTIFY_READY});
	STATE_IS(RUNNING);
}
END_TEST

START_TEST(notify_that_ends_without_a_word_is_a_protocol_failure)
{
	setup_with(conf(SERVICE_NOTIFY));
	ask(REQ_START);
	spawned(EXEC_START);
	main_ends(CHILD_EXITED, 0);
	is_empty();
	STATE_IS(FAILED);
	RESULT_IS(PROTOCOL);
}
END_TEST

START_TEST(start_timeout_terminates_and_then_kills)
{
	setup_with(conf(SERVICE_NOTIFY));
	ask(REQ_START);
	spawned(EXEC_START);
	time_passes(90 * USEC_PER_SEC);
	STATE_IS(STOP_SIGTERM);
	ck_assert_int_eq(find(FX_KILL)->signal, SIGNAL_TERM);
	time_passes(90 * USEC_PER_SEC);
	STATE_IS(STOP_SIGKILL);
	ck_assert_int_eq(find(FX_KILL)->signal, SIGNAL_KILL);
	main_ends(CHILD_KILLED, SIGNAL_KILL);
	is_empty();
	STATE_IS(FAILED);
	RESULT_IS(TIMEOUT);
}
END_TEST

START_TEST(oneshot_runs_its_commands_in_turn_and_is_dead_again)
{
	struct unit_conf *c = conf(SERVICE_ONESHOT);
	c->service.exec[EXEC_START] = conf_commands(&arena, 2);
	setup_with(c);
	ask(REQ_START);
	spawned(EXEC_START);
	main_ends(CHILD_EXITED, 0);
	ck_assert_uint_eq(find(FX_SPAWN)->index, 1);
	spawned(EXEC_START);
	main_ends(CHILD_EXITED, 0);
	is_empty();
	STATE_IS(DEAD);
	ck_assert_int_eq(find(FX_REPLY)->result, REPLY_DONE);
}
END_TEST

START_TEST(oneshot_with_remain_after_exit_stays_active)
{
	struct unit_conf *c = conf(SERVICE_ONESHOT);
	c->service.remain_after_exit = true;
	setup_with(c);
	ask(REQ_START);
	spawned(EXEC_START);
	main_ends(CHILD_EXITED, 0);
	STATE_IS(EXITED);
	ck_assert(unit_is_up(u));
}
END_TEST

START_TEST(forking_takes_the_main_pid_from_its_pid_file_and_looks_again_if_it_is_late)
{
	struct unit_conf *c = conf(SERVICE_FORKING);
	c->service.pid_file = arena_strdup(&arena, "/run/a.pid");
	setup_with(c);
	ask(REQ_START);
	spawned(EXEC_START);
	control_ends(0);
	ck_assert_ptr_nonnull(find(FX_FIND_MAIN_PID));
	step((struct event){.kind = EV_MAIN_PID, .pid = 0});
	STATE_IS(START);
	time_passes(USEC_PER_SEC);
	ck_assert_ptr_nonnull(find(FX_FIND_MAIN_PID));
	step((struct event){.kind = EV_MAIN_PID, .pid = 77});
	STATE_IS(RUNNING);
	ck_assert_int_eq(u->rec.main_pid, 77);
	ck_assert_uint_ne(u->rec.main.seq, 0);
}
END_TEST

START_TEST(a_failed_condition_skips_the_start_without_failure)
{
	struct unit_conf *c = conf(SERVICE_SIMPLE);
	c->n_conditions = 1;
	setup_with(c);
	ask(REQ_START);
	ck_assert_ptr_nonnull(find(FX_CONDITIONS));
	step((struct event){.kind = EV_CONDITIONS, .ok = false, .text = "no such path"});
	STATE_IS(DEAD);
	RESULT_IS(CONDITION);
	ck_assert_int_eq(find(FX_REPLY)->result, REPLY_SKIPPED);
}
END_TEST

START_TEST(start_post_waits_for_the_main_pid_it_is_told)
{
	struct unit_conf *c = conf(SERVICE_SIMPLE);
	c->service.exec[EXEC_START_POST] = conf_commands(&arena, 1);
	setup_with(c);
	ask(REQ_START);
	STATE_IS(START_POST);
	ck_assert_int_eq(u->rec.control.seq, 0);
	spawned(EXEC_START);
	ck_assert_int_ne(u->rec.control.seq, 0);
	ck_assert_int_ne(u->rec.main_pid, 0);
	control_ends(0);
	STATE_IS(RUNNING);
}
END_TEST

START_TEST(a_failed_start_pre_fails_the_start_unless_it_has_a_minus)
{
	for (int minus = 0; minus < 2; minus++) {
		struct unit_conf *c = conf(SERVICE_SIMPLE);
		c->service.exec[EXEC_START_PRE] = conf_commands(&arena, 1);
		c->service.exec[EXEC_START_PRE].v[0].ignore_failure = minus;
		setup_with(c);
		ask(REQ_START);
		spawned(EXEC_START_PRE);
		control_ends(1);
		if (minus)
			STATE_IS(RUNNING);
		else
			ck_assert_int_eq(inst_active_state(u->rec.state), ACTIVE_DEACTIVATING);
		teardown();
	}
}
END_TEST

START_TEST(exit_and_restart_without_delay_are_one_step_once_it_is_empty)
{
	struct unit_conf *c = conf(SERVICE_SIMPLE);
	c->service.restart.mode = RESTART_ALWAYS;
	c->service.restart.sec_us = 0;
	setup_with(c);
	ask(REQ_START);
	spawned(EXEC_START);
	struct spawn_id first = u->rec.main;
	now += USEC_PER_SEC;
	main_ends(CHILD_KILLED, SIGNAL_KILL);
	ck_assert_ptr_nonnull(find(FX_CHECK_EMPTY));
	ck_assert_ptr_null(find(FX_SPAWN));
	is_empty();
	ck_assert_ptr_nonnull(find(FX_SPAWN));
	STATE_IS(RUNNING);
	ck_assert_mem_ne(first.invocation, u->rec.main.invocation, 16);
}
END_TEST

START_TEST(an_exit_of_another_invocation_is_ignored)
{
	setup_with(conf(SERVICE_SIMPLE));
	ask(REQ_START);
	struct spawn_id id = u->rec.main;
	id.invocation[0] ^= 1;
	step((struct event){.kind = EV_EXITED, .id = id, .code = CHILD_EXITED, .status = 1});
	STATE_IS(RUNNING);
	ck_assert_uint_eq(fx.n, 0);
}
END_TEST

START_TEST(an_exit_may_come_before_the_word_that_it_was_spawned)
{
	setup_with(conf(SERVICE_EXEC));
	ask(REQ_START);
	struct spawn_id id = u->rec.main;
	main_ends(CHILD_EXITED, 3);
	step((struct event){.kind = EV_SPAWNED, .id = id, .pid = 5});
	is_empty();
	STATE_IS(FAILED);
	RESULT_IS(EXIT_CODE);
}
END_TEST

START_TEST(a_missed_keep_alive_sends_the_watchdog_signal)
{
	struct unit_conf *c = conf(SERVICE_SIMPLE);
	c->service.watchdog_us = 2 * USEC_PER_SEC;
	setup_with(c);
	ask(REQ_START);
	spawned(EXEC_START);
	now += USEC_PER_SEC;
	step((struct event){.kind = EV_NOTIFY, .bits = NOTIFY_WATCHDOG});
	time_passes(USEC_PER_SEC + 1);
	STATE_IS(RUNNING);
	time_passes(USEC_PER_SEC);
	STATE_IS(STOP_WATCHDOG);
	ck_assert_int_eq(find(FX_KILL)->signal, 6);
	RESULT_IS(WATCHDOG);
}
END_TEST

START_TEST(a_crash_while_reloading_is_restarted)
{
	struct unit_conf *c = conf(SERVICE_SIMPLE);
	c->service.exec[EXEC_RELOAD] = conf_commands(&arena, 1);
	c->service.restart.mode = RESTART_ON_FAILURE;
	setup_with(c);
	ask(REQ_START);
	spawned(EXEC_START);
	ask(REQ_RELOAD);
	spawned(EXEC_RELOAD);
	STATE_IS(RELOAD);
	main_ends(CHILD_DUMPED, 11);
	ck_assert_int_eq(find(FX_KILL)->who, KILL_WHO_CONTROL);
	is_empty();
	STATE_IS(AUTO_RESTART);
}
END_TEST

START_TEST(a_command_given_up_before_it_was_born_is_waited_for)
{
	struct unit_conf *c = conf(SERVICE_SIMPLE);
	c->service.exec[EXEC_RELOAD] = conf_commands(&arena, 1);
	c->service.restart.mode = RESTART_ALWAYS;
	c->service.restart.sec_us = 0;
	setup_with(c);
	ask(REQ_START);
	spawned(EXEC_START);
	now += USEC_PER_SEC;
	ask(REQ_RELOAD);
	STATE_IS(RELOAD);
	struct spawn_id late = find(FX_SPAWN)->id;
	main_ends(CHILD_EXITED, 0);
	is_empty(); /* of what is there; the launcher has one more to start */
	ck_assert_ptr_null(find(FX_SPAWN));
	step((struct event){.kind = EV_SPAWNED, .id = late, .pid = 77});
	ck_assert_int_eq(find(FX_KILL)->signal, SIGNAL_KILL);
	ck_assert_ptr_null(find(FX_SPAWN));
	is_empty();
	ck_assert_int_eq(find(FX_SPAWN)->exec, EXEC_START);
	teardown();
}
END_TEST

START_TEST(exec_stop_runs_also_when_the_main_process_is_gone)
{
	struct unit_conf *c = conf(SERVICE_SIMPLE);
	c->service.exec[EXEC_STOP] = conf_commands(&arena, 1);
	setup_with(c);
	ask(REQ_START);
	spawned(EXEC_START);
	main_ends(CHILD_EXITED, 1);
	STATE_IS(STOP);
	spawned(EXEC_STOP);
}
END_TEST

START_TEST(restart_modes_follow_the_table_of_systemd)
{
	static const struct {
		int code, status;
		bool by_mode[RESTART_MODE_MAX];
	} cases[] = {
		{CHILD_EXITED, 0,           {false, true, false, false, false, false, true}},
		{CHILD_KILLED, SIGNAL_TERM, {false, true, false, false, false, false, true}},
		{CHILD_EXITED, 1,           {false, false, true, false, false, false, true}},
		{CHILD_KILLED, 9,           {false, false, true, true, false, true, true}  },
		{CHILD_DUMPED, 11,          {false, false, true, true, false, true, true}  },
	};
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		for (int m = 0; m < RESTART_MODE_MAX; m++) {
			struct unit_conf *c = conf(SERVICE_SIMPLE);
			c->service.restart.mode = (enum restart_mode)m;
			setup_with(c);
			ask(REQ_START);
			spawned(EXEC_START);
			main_ends(cases[i].code, cases[i].status);
			is_empty();
			ck_assert_msg((u->rec.state == INST_AUTO_RESTART) == cases[i].by_mode[m],
				"case %zu mode %d", i, m);
			teardown();
		}
}
END_TEST

START_TEST(mixed_terminates_the_main_process_and_kills_the_rest)
{
	struct unit_conf *c = conf(SERVICE_SIMPLE);
	c->service.kill_mode = KILL_MIXED;
	setup_with(c);
	ask(REQ_START);
	spawned(EXEC_START);
	ask(REQ_STOP);
	ck_assert_int_eq(find(FX_KILL)->who, KILL_WHO_MAIN);
	main_ends(CHILD_KILLED, SIGNAL_TERM);
	ck_assert_int_eq(find(FX_KILL)->who, KILL_WHO_ALL);
	ck_assert_int_eq(find(FX_KILL)->signal, SIGNAL_KILL);
	STATE_IS(FINAL_SIGTERM);
	is_empty();
	STATE_IS(DEAD);
}
END_TEST

START_TEST(a_restored_core_repeats_a_spawn_that_never_happened)
{
	struct unit_conf *c = conf(SERVICE_NOTIFY);
	setup_with(c);
	ask(REQ_START);
	struct unit_rec rec = u->rec;
	world_free(w);
	setup_with(c);
	world_restore_unit(w, u, &rec);
	ck_assert_mem_eq(&u->rec, &rec, sizeof(rec));
	step((struct event){.kind = EV_RESTORED});
	step((struct event){.kind = EV_EXITED, .id = rec.main, .code = CHILD_LOST});
	STATE_IS(START);
	spawned(EXEC_START);
}
END_TEST

/* A service whose reload command was given up before it was born, and that ended by SIGTERM. */
static struct spawn_id give_up_a_reload(struct unit_conf *c)
{
	c->service.exec[EXEC_RELOAD] = conf_commands(&arena, 1);
	c->service.timeout_stop_us = USEC_PER_SEC;
	setup_with(c);
	ask(REQ_START);
	spawned(EXEC_START);
	ask(REQ_RELOAD);
	struct spawn_id late = find(FX_SPAWN)->id;
	ask(REQ_STOP);
	main_ends(CHILD_KILLED, SIGNAL_TERM);
	while (!unit_is_down(u))
		time_passes(USEC_PER_SEC);
	return late;
}

START_TEST(children_of_one_born_after_its_unit_was_given_up_hold_the_next_start)
{
	struct spawn_id late = give_up_a_reload(conf(SERVICE_SIMPLE));
	is_empty();
	ask(REQ_START);
	ck_assert_ptr_null(find(FX_SPAWN));
	step((struct event){.kind = EV_SPAWNED, .id = late, .pid = 77});
	ck_assert_int_eq(find(FX_KILL)->signal, SIGNAL_KILL);
	ck_assert_ptr_null(find(FX_SPAWN)); /* what it may have forked is not gone yet */
	is_empty();
	ck_assert_int_eq(find(FX_SPAWN)->exec, EXEC_START);
	teardown();
}
END_TEST

START_TEST(an_empty_group_says_nothing_of_one_that_is_still_to_be_born)
{
	struct unit_conf *c = conf(SERVICE_EXEC);
	c->service.timeout_stop_us = USEC_PER_SEC;
	setup_with(c);
	ask(REQ_START);
	struct spawn_id late = find(FX_SPAWN)->id;
	ask(REQ_STOP);
	while (!unit_is_down(u))
		time_passes(USEC_PER_SEC);
	is_empty(); /* it is, as yet */
	ck_assert_int_eq(u->rec.left_over, 1);
	step((struct event){.kind = EV_SPAWNED, .id = late, .pid = 77});
	main_ends(CHILD_KILLED, SIGNAL_KILL);
	ck_assert_ptr_nonnull(find(FX_CHECK_EMPTY));
	ask(REQ_START);
	ck_assert_ptr_null(find(FX_SPAWN));
	is_empty();
	ck_assert_int_eq(find(FX_SPAWN)->exec, EXEC_START);
	teardown();
}
END_TEST

START_TEST(a_word_of_birth_after_the_end_settles_no_spawn_that_was_given_up)
{
	struct unit_conf *c = conf(SERVICE_SIMPLE);
	c->service.exec[EXEC_STOP] = conf_commands(&arena, 1);
	c->service.exec[EXEC_RELOAD] = conf_commands(&arena, 1);
	c->service.timeout_stop_us = USEC_PER_SEC;
	setup_with(c);
	ask(REQ_START);
	spawned(EXEC_START);
	ask(REQ_RELOAD);
	struct spawn_id late = find(FX_SPAWN)->id;
	ask(REQ_STOP);
	struct spawn_id stop = find(FX_SPAWN)->id;
	control_ends(0); /* of ExecStop=, and its birth is told only now */
	step((struct event){.kind = EV_SPAWNED, .id = stop, .pid = 76});
	ck_assert_int_eq(u->n_dropped, 1);
	step((struct event){.kind = EV_SPAWNED, .id = late, .pid = 77});
	ck_assert_int_eq(u->n_dropped, 0);
	teardown();
}
END_TEST

START_TEST(a_command_before_the_start_cannot_name_the_main_process)
{
	struct unit_conf *c = conf(SERVICE_NOTIFY);
	c->service.exec[EXEC_START_PRE] = conf_commands(&arena, 1);
	setup_with(c);
	ask(REQ_START);
	spawned(EXEC_START_PRE);
	step((struct event){.kind = EV_MAIN_PID, .pid = 99});
	ck_assert_uint_eq(u->rec.main.seq, 0);
	control_ends(0);
	step((struct event){.kind = EV_MAIN_PID, .pid = 99});
	ck_assert_int_eq(u->rec.main_pid, 0); /* its own is on its way */
	step((struct event){.kind = EV_SPAWNED, .id = u->rec.main, .pid = 98});
	step((struct event){.kind = EV_MAIN_PID, .pid = 99});
	ck_assert_int_eq(u->rec.main_pid, 99);
	teardown();
}
END_TEST

START_TEST(what_is_gone_without_a_status_is_not_started_again_behind_restart)
{
	setup_with(conf(SERVICE_SIMPLE)); /* Restart=no */
	ask(REQ_START);
	spawned(EXEC_START);
	main_ends(CHILD_LOST, 0);
	ck_assert_ptr_null(find(FX_SPAWN));
	is_empty();
	STATE_IS(FAILED);
	RESULT_IS(LOST);
	teardown();
}
END_TEST

START_TEST(one_that_was_told_to_end_and_did_ended_well_also_when_nobody_saw_how)
{
	setup_with(conf(SERVICE_SIMPLE));
	ask(REQ_START);
	spawned(EXEC_START);
	ask(REQ_STOP);
	main_ends(CHILD_LOST, 0);
	is_empty();
	STATE_IS(DEAD);
	teardown();
}
END_TEST

START_TEST(a_deadline_that_passed_while_nobody_looked_is_put_off)
{
	struct unit_conf *c = conf(SERVICE_NOTIFY);
	c->service.watchdog_us = 10 * USEC_PER_SEC;
	setup_with(c);
	ask(REQ_START);
	spawned(EXEC_START);
	time_passes(5 * 3600 * USEC_PER_SEC); /* the machine slept, and READY=1 is in the queue */
	STATE_IS(START);
	step((struct event){.kind = EV_NOTIFY, .bits = NOTIFY_READY});
	STATE_IS(RUNNING);
	time_passes(5 * 3600 * USEC_PER_SEC);
	STATE_IS(RUNNING);
	time_passes(10 * USEC_PER_SEC); /* awake, and no word of it */
	STATE_IS(STOP_WATCHDOG);
	teardown();
}
END_TEST

START_TEST(a_startup_check_written_under_a_running_service_holds_nobody)
{
	setup_with(conf(SERVICE_SIMPLE));
	ask(REQ_START);
	spawned(EXEC_START);
	struct unit_conf *c = conf(SERVICE_SIMPLE);
	conf_check(&arena, c, CHECK_STARTUP);
	conf_check(&arena, c, CHECK_LIVE);
	ck_assert_ptr_eq(world_put_unit(w, c), u);
	ck_assert(health_is_ready(u));
	ask(REQ_START);
	ck_assert_int_eq(find(FX_REPLY)->result, REPLY_DONE);
	time_passes(USEC_PER_SEC);
	ck_assert_int_eq(find(FX_PROBE)->check, CHECK_LIVE);
	teardown();
}
END_TEST

Suite *suite(void)
{
	Suite *s = suite_create("model instance");
	TCase *t = tcase_create("instance");
	tcase_add_checked_fixture(t, NULL, NULL);
	tcase_set_timeout(t, 60);
	tcase_add_test(t, every_state_and_event_has_one_row_and_never_rows_change_nothing);
	tcase_add_test(t, simple_is_up_as_soon_as_it_is_asked_for);
	tcase_add_test(t, simple_that_cannot_be_executed_fails_who_asked);
	tcase_add_test(t, exec_is_up_when_the_exec_succeeded);
	tcase_add_test(t, exec_that_cannot_be_executed_fails_the_start_with_203);
	tcase_add_test(t, notify_is_up_when_it_says_so);
	tcase_add_test(t, notify_that_ends_without_a_word_is_a_protocol_failure);
	tcase_add_test(t, start_timeout_terminates_and_then_kills);
	tcase_add_test(t, oneshot_runs_its_commands_in_turn_and_is_dead_again);
	tcase_add_test(t, oneshot_with_remain_after_exit_stays_active);
	tcase_add_test(
		t, forking_takes_the_main_pid_from_its_pid_file_and_looks_again_if_it_is_late);
	tcase_add_test(t, a_failed_condition_skips_the_start_without_failure);
	tcase_add_test(t, start_post_waits_for_the_main_pid_it_is_told);
	tcase_add_test(t, a_failed_start_pre_fails_the_start_unless_it_has_a_minus);
	tcase_add_test(t, exit_and_restart_without_delay_are_one_step_once_it_is_empty);
	tcase_add_test(t, an_exit_of_another_invocation_is_ignored);
	tcase_add_test(t, an_exit_may_come_before_the_word_that_it_was_spawned);
	tcase_add_test(t, a_missed_keep_alive_sends_the_watchdog_signal);
	tcase_add_test(t, a_crash_while_reloading_is_restarted);
	tcase_add_test(t, a_command_given_up_before_it_was_born_is_waited_for);
	tcase_add_test(t, exec_stop_runs_also_when_the_main_process_is_gone);
	tcase_add_test(t, a_main_process_killed_for_lack_of_memory_has_the_result_oom_kill);
	tcase_add_test(t, restart_modes_follow_the_table_of_systemd);
	tcase_add_test(t, mixed_terminates_the_main_process_and_kills_the_rest);
	tcase_add_test(t, a_restored_core_repeats_a_spawn_that_never_happened);
	tcase_add_test(t, children_of_one_born_after_its_unit_was_given_up_hold_the_next_start);
	tcase_add_test(t, an_empty_group_says_nothing_of_one_that_is_still_to_be_born);
	tcase_add_test(t, a_word_of_birth_after_the_end_settles_no_spawn_that_was_given_up);
	tcase_add_test(t, a_command_before_the_start_cannot_name_the_main_process);
	tcase_add_test(t, what_is_gone_without_a_status_is_not_started_again_behind_restart);
	tcase_add_test(t, one_that_was_told_to_end_and_did_ended_well_also_when_nobody_saw_how);
	tcase_add_test(t, a_deadline_that_passed_while_nobody_looked_is_put_off);
	tcase_add_test(t, a_startup_check_written_under_a_running_service_holds_nobody);
	suite_add_tcase(s, t);
	return s;
}
