/* SPDX-License-Identifier: Apache-2.0 */
/* Wants, dependencies, their graph, and health: what several units mean to each other. */
#include "../model_conf.h"
#include "../model_stubs.h"
#include "check_main.h"

static struct arena arena;
static struct world *w;
static struct effects fx;
static struct unit *a, *b;
static struct unit_conf *ca, *cb;
static uint64_t now;

static void confs(void)
{
	now = USEC_PER_SEC;
	ca = conf_service(&arena, "a.service", SERVICE_NOTIFY);
	cb = conf_service(&arena, "b.service", SERVICE_SIMPLE);
}

static void begin(void)
{
	const char *name;
	w = world_new(5);
	a = world_put_unit(w, ca);
	b = world_put_unit(w, cb);
	if (world_missing(w, &name)) {
		struct unit_conf *c = conf_target(&arena, name);
		c->load = LOAD_NOT_FOUND;
		world_put_unit(w, c);
	}
	world_link(w, &fx);
}

static void finish(void)
{
	world_free(w);
	effects_done(&fx);
	arena_done(&arena);
}

static void step(struct event ev)
{
	effects_reset(&fx);
	ev.now_us = now += USEC_PER_MSEC;
	ck_assert_int_eq(world_step(w, &ev, &fx), 0);
}

static void ask(struct unit *u, enum request_verb verb)
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

static void ready(struct unit *u)
{
	step((struct event){.kind = EV_SPAWNED, .unit = u, .id = u->rec.main, .pid = 9});
	step((struct event){.kind = EV_NOTIFY, .unit = u, .bits = NOTIFY_READY});
}

static void dies(struct unit *u, int status)
{
	step((struct event){.kind = EV_EXITED,
		.unit = u,
		.id = u->rec.main,
		.code = CHILD_EXITED,
		.status = status});
	step((struct event){.kind = EV_EMPTY, .unit = u});
}

static void need(enum dep_kind kind)
{
	confs();
	conf_dep(&arena, cb, kind, "a.service");
	conf_dep(&arena, cb, DEP_AFTER, "a.service");
	begin();
}

START_TEST(a_start_pulls_in_what_it_requires_and_waits_for_it)
{
	need(DEP_REQUIRES);
	ask(b, REQ_START);
	ck_assert_int_eq(a->rec.state, INST_START);
	ck_assert_int_eq(b->rec.state, INST_DEAD);
	ck_assert_ptr_eq(b->waits_for, a);
	ready(a);
	ck_assert_int_eq(b->rec.state, INST_RUNNING);
	finish();
}
END_TEST

START_TEST(a_dependent_of_a_failed_unit_is_told_and_starts_when_it_recovers)
{
	need(DEP_REQUIRES);
	ask(b, REQ_START);
	dies(a, 1);
	ck_assert_int_eq(a->rec.state, INST_FAILED);
	ck_assert_int_eq(find(FX_REPLY)->result, REPLY_FAILED);
	ck_assert(b->is_stuck);
	ask(a, REQ_START);
	ready(a);
	ck_assert_int_eq(b->rec.state, INST_RUNNING);
	finish();
}
END_TEST

START_TEST(what_goes_with_a_crash_goes_once)
{
	confs();
	ca->service.restart.mode = RESTART_ALWAYS;
	ca->service.restart.sec_us = 0;
	struct unit_conf *cc = conf_service(&arena, "c.service", SERVICE_SIMPLE);
	conf_dep(&arena, cb, DEP_PART_OF, "a.service");
	conf_dep(&arena, cb, DEP_AFTER, "a.service");
	conf_dep(&arena, cc, DEP_PART_OF, "a.service");
	begin();
	struct unit *c = world_put_unit(w, cc);
	world_link(w, &fx);
	ask(a, REQ_START);
	ready(a);
	ask(b, REQ_START);
	ask(c, REQ_START);
	now += USEC_PER_SEC;
	dies(a, 1);
	ck_assert_ptr_eq(a->waits_for, b);
	ck_assert_int_eq(c->rec.state, INST_STOP_SIGTERM);
	dies(c, 0);
	ck_assert_int_eq(c->rec.state, INST_RUNNING); /* it is not ordered after a */
	dies(b, 0);
	ck_assert_int_eq(a->rec.state, INST_START);
	ck_assert(!c->rec.stop_wanted);
	finish();
}
END_TEST

START_TEST(an_alias_in_a_dependency_means_the_unit)
{
	const char *missing;
	confs();
	conf_dep(&arena, cb, DEP_REQUIRES, "x.service");
	conf_dep(&arena, cb, DEP_AFTER, "a.service");
	conf_dep(&arena, cb, DEP_AFTER, "x.service");
	w = world_new(5);
	a = world_put_unit(w, ca);
	b = world_put_unit(w, cb);
	ck_assert(world_missing(w, &missing));
	world_put_alias(w, "x.service", a);
	ck_assert(!world_missing(w, &missing));
	world_link(w, &fx);
	ck_assert_uint_eq(b->n_edges, 2);
	ask(b, REQ_START);
	ck_assert_int_eq(a->rec.state, INST_START);
	ck_assert_ptr_eq(b->waits_for, a);
	struct unit *x = world_put_unit(w, conf_service(&arena, "x.service", SERVICE_SIMPLE));
	ck_assert_ptr_ne(x, a); /* the link was replaced by a file */
	ck_assert_ptr_eq(a->conf, ca);
	ck_assert_ptr_eq(world_unit(w, "x.service"), x);
	finish();
}
END_TEST

START_TEST(a_start_that_waits_for_a_back_off_through_others_is_told_so)
{
	confs();
	ca->service.restart.mode = RESTART_ALWAYS;
	ca->service.restart.sec_us = USEC_PER_SEC;
	struct unit_conf *cc = conf_service(&arena, "c.service", SERVICE_SIMPLE);
	conf_dep(&arena, cb, DEP_REQUIRES, "a.service");
	conf_dep(&arena, cb, DEP_AFTER, "a.service");
	conf_dep(&arena, cc, DEP_REQUIRES, "b.service");
	conf_dep(&arena, cc, DEP_AFTER, "b.service");
	begin();
	struct unit *c = world_put_unit(w, cc);
	world_link(w, &fx);
	ask(c, REQ_START);
	ck_assert_ptr_null(find(FX_REPLY));
	dies(a, 1);
	ck_assert_int_eq(a->rec.state, INST_AUTO_RESTART);
	ck_assert_int_eq(find(FX_REPLY)->result, REPLY_FAILED);
	ck_assert_ptr_nonnull(strstr(find(FX_REPLY)->text, "a.service"));
	now += 2 * USEC_PER_SEC;
	step((struct event){.kind = EV_TIME});
	ready(a);
	ck_assert_int_eq(c->rec.state, INST_RUNNING); /* it was not given up */
	finish();
}
END_TEST

START_TEST(a_wanted_unit_that_fails_does_not_hold_the_start)
{
	need(DEP_WANTS);
	ask(b, REQ_START);
	dies(a, 1);
	ck_assert_int_eq(b->rec.state, INST_RUNNING);
	finish();
}
END_TEST

START_TEST(requisite_fails_at_once_when_the_other_is_down)
{
	need(DEP_REQUISITE);
	ask(b, REQ_START);
	ck_assert_int_eq(find(FX_REPLY)->result, REPLY_FAILED);
	ck_assert_int_eq(b->rec.want, WANT_NOTHING);
	finish();
}
END_TEST

START_TEST(a_required_unit_that_does_not_exist_fails_the_start_by_name)
{
	confs();
	conf_dep(&arena, cb, DEP_REQUIRES, "gone.service");
	begin();
	ask(b, REQ_START);
	ck_assert_str_eq(find(FX_REPLY)->text, "it needs gone.service, and there is no such unit");
	finish();
}
END_TEST

START_TEST(what_binds_stops_with_a_crash_and_comes_back)
{
	need(DEP_BINDS_TO);
	ca->service.restart.mode = RESTART_ALWAYS;
	ask(b, REQ_START);
	ready(a);
	ck_assert_int_eq(b->rec.state, INST_RUNNING);
	dies(a, 1);
	ck_assert_int_eq(a->rec.state, INST_AUTO_RESTART);
	ck_assert_int_eq(b->rec.state, INST_STOP_SIGTERM);
	dies(b, 0);
	ck_assert_int_eq(b->rec.state, INST_DEAD);
	now += USEC_PER_SEC;
	step((struct event){.kind = EV_TIME});
	ready(a);
	ck_assert_int_eq(b->rec.state, INST_RUNNING);
	finish();
}
END_TEST

START_TEST(stop_order_is_start_order_reversed)
{
	need(DEP_REQUIRES);
	ask(b, REQ_START);
	ready(a);
	ask(a, REQ_STOP);
	ck_assert_int_eq(a->rec.state, INST_RUNNING);
	ck_assert_int_eq(b->rec.state, INST_STOP_SIGTERM);
	dies(b, 0);
	ck_assert_int_eq(a->rec.state, INST_STOP_SIGTERM);
	dies(a, 0);
	ck_assert_int_eq(find(FX_REPLY)->result, REPLY_DONE);
	finish();
}
END_TEST

START_TEST(a_later_stop_cancels_a_start)
{
	need(DEP_REQUIRES);
	ask(b, REQ_START);
	struct request r = {.id = 2, .verb = REQ_STOP, .unit = b};
	step((struct event){.kind = EV_REQUEST, .request = &r});
	ck_assert_uint_eq(find(FX_REPLY)->request, 1);
	ck_assert_int_eq(find(FX_REPLY)->result, REPLY_CANCELED);
	finish();
}
END_TEST

START_TEST(a_shutdown_stops_all_in_order_and_then_exits)
{
	need(DEP_REQUIRES);
	ask(b, REQ_START);
	ready(a);
	step((struct event){.kind = EV_SHUTDOWN, .number = 3});
	dies(b, 0);
	ck_assert_ptr_null(find(FX_EXIT));
	dies(a, 0);
	ck_assert_uint_eq(find(FX_EXIT)->number, 3);
	ck_assert_str_eq(find(FX_EXIT)->text, "exit");
	finish();
}
END_TEST

START_TEST(a_shutdown_gone_on_with_after_a_restart_leaves_in_the_same_way)
{
	need(DEP_REQUIRES);
	step((struct event){.kind = EV_SHUTDOWN, .number = 3, .text = "reboot"});
	ck_assert_uint_eq(find(FX_EXIT)->number, 3);
	ck_assert_str_eq(find(FX_EXIT)->text, "reboot");
	finish();
}
END_TEST

START_TEST(failure_action_exit_takes_the_status_of_the_service)
{
	confs();
	cb->failure_action = ACTION_EXIT;
	begin();
	ask(b, REQ_START);
	dies(b, 42);
	ck_assert_uint_eq(find(FX_EXIT)->number, 42);
	finish();
}
END_TEST

START_TEST(a_cycle_is_broken_where_nothing_is_required_and_said_once)
{
	confs();
	conf_dep(&arena, cb, DEP_REQUIRES, "a.service");
	conf_dep(&arena, cb, DEP_AFTER, "a.service");
	conf_dep(&arena, ca, DEP_AFTER, "c.service");
	struct unit_conf *cc = conf_target(&arena, "c.target");
	conf_dep(&arena, ca, DEP_AFTER, "c.target");
	conf_dep(&arena, cc, DEP_AFTER, "b.service");
	w = world_new(5);
	a = world_put_unit(w, ca);
	b = world_put_unit(w, cb);
	world_put_unit(w, cc);
	world_link(w, &fx);
	ck_assert_uint_eq(fx.n, 1);
	ck_assert_ptr_nonnull(strstr(fx.v[0].text, "ordering cycle"));
	uint32_t pos = 0;
	ck_assert_ptr_eq(edge_next(b, &pos, DEP_AFTER, false), a);
	finish();
}
END_TEST

/* ---- health ---- */

static void answer(enum check_kind c, bool ok)
{
	now += 20 * USEC_PER_SEC;
	for (int i = 0; i < 2 && !b->health[c].is_waiting; i++)
		step((struct event){.kind = EV_TIME});
	ck_assert(b->health[c].is_waiting);
	step((struct event){.kind = EV_PROBED,
		.unit = b,
		.check = c,
		.ok = ok,
		.number = b->health[c].number,
		.text = "http 500"});
}

START_TEST(a_unit_is_available_after_its_ready_check_passed_and_until_it_failed_thrice)
{
	confs();
	conf_check(&arena, cb, CHECK_READY);
	begin();
	ask(b, REQ_START);
	ck_assert(unit_is_up(b));
	ck_assert(!health_is_ready(b));
	answer(CHECK_READY, true);
	ck_assert(health_is_ready(b));
	answer(CHECK_READY, false);
	answer(CHECK_READY, false);
	ck_assert(health_is_ready(b));
	answer(CHECK_READY, false);
	ck_assert(!health_is_ready(b));
	finish();
}
END_TEST

START_TEST(ready_and_live_are_not_probed_before_startup_passed)
{
	confs();
	conf_check(&arena, cb, CHECK_STARTUP);
	conf_check(&arena, cb, CHECK_LIVE);
	begin();
	ask(b, REQ_START);
	ck_assert(!b->health[CHECK_LIVE].is_running);
	answer(CHECK_STARTUP, true);
	ck_assert(b->health[CHECK_LIVE].is_running);
	ck_assert(!b->health[CHECK_STARTUP].is_running);
	finish();
}
END_TEST

START_TEST(a_restarted_core_wants_to_see_every_failure_itself)
{
	confs();
	conf_check(&arena, cb, CHECK_LIVE);
	begin();
	ask(b, REQ_START);
	for (int i = 0; i < 5; i++)
		answer(CHECK_LIVE, true);
	struct unit_rec rec = b->rec;
	world_free(w);
	begin();
	world_restore_unit(w, b, &rec);
	step((struct event){.kind = EV_RESTORED});
	answer(CHECK_LIVE, false);
	answer(CHECK_LIVE, false);
	ck_assert_int_eq(b->rec.state, INST_RUNNING);
	answer(CHECK_LIVE, false);
	ck_assert_int_eq(b->rec.state, INST_STOP_SIGTERM);
	finish();
}
END_TEST

START_TEST(answers_that_change_nothing_write_no_record)
{
	confs();
	conf_check(&arena, cb, CHECK_READY);
	begin();
	ask(b, REQ_START);
	for (int i = 0; i < 4; i++)
		answer(CHECK_READY, true);
	b->is_dirty = false;
	answer(CHECK_READY, true);
	ck_assert(!b->is_dirty);
	finish();
}
END_TEST

START_TEST(a_failed_live_check_replaces_the_unit)
{
	confs();
	conf_check(&arena, cb, CHECK_LIVE);
	cb->service.restart.mode = RESTART_ON_FAILURE;
	begin();
	ask(b, REQ_START);
	for (int i = 0; i < 3; i++)
		answer(CHECK_LIVE, false);
	ck_assert_int_eq(b->rec.state, INST_STOP_SIGTERM);
	dies(b, 0);
	ck_assert_int_eq(b->rec.state, INST_AUTO_RESTART);
	ck_assert_int_eq(b->rec.result, RES_UNHEALTHY);
	finish();
}
END_TEST

START_TEST(a_startup_check_that_never_passes_fails_the_start)
{
	confs();
	conf_check(&arena, cb, CHECK_STARTUP);
	begin();
	ask(b, REQ_START);
	now += 90 * USEC_PER_SEC;
	step((struct event){.kind = EV_TIME});
	ck_assert_int_eq(b->rec.state, INST_STOP_SIGTERM);
	dies(b, 0);
	ck_assert_int_eq(b->rec.state, INST_FAILED);
	ck_assert_int_eq(find(FX_REPLY)->result, REPLY_FAILED);
	finish();
}
END_TEST

START_TEST(every_want_in_every_state_leads_to_a_state_without_a_mistake)
{
	static const uint8_t verbs[] = {REQ_START, REQ_STOP, REQ_RESTART, REQ_TRY_RESTART,
		REQ_RELOAD, REQ_RELOAD_OR_RESTART, REQ_RESET_FAILED};
	for (int s = 0; s < INST_STATE_MAX; s++)
		for (int want = 0; want <= WANT_DOWN; want++)
			for (size_t v = 0; v < ARRAY_SIZE(verbs); v++) {
				need(DEP_REQUIRES);
				a->rec.state = (uint8_t)s;
				a->rec.want = (uint8_t)want;
				ask(a, (enum request_verb)verbs[v]);
				if (verbs[v] == REQ_STOP)
					ck_assert_int_eq(a->rec.want, WANT_DOWN);
				ck_assert(unit_is_down(a) || a->rec.want != WANT_DOWN ||
					  a->rec.stop_wanted || verbs[v] != REQ_STOP);
				finish();
			}
}
END_TEST

Suite *suite(void)
{
	Suite *s = suite_create("model job");
	TCase *t = tcase_create("job");
	tcase_add_test(t, a_start_pulls_in_what_it_requires_and_waits_for_it);
	tcase_add_test(t, a_dependent_of_a_failed_unit_is_told_and_starts_when_it_recovers);
	tcase_add_test(t, what_goes_with_a_crash_goes_once);
	tcase_add_test(t, an_alias_in_a_dependency_means_the_unit);
	tcase_add_test(t, a_start_that_waits_for_a_back_off_through_others_is_told_so);
	tcase_add_test(t, a_wanted_unit_that_fails_does_not_hold_the_start);
	tcase_add_test(t, requisite_fails_at_once_when_the_other_is_down);
	tcase_add_test(t, a_required_unit_that_does_not_exist_fails_the_start_by_name);
	tcase_add_test(t, what_binds_stops_with_a_crash_and_comes_back);
	tcase_add_test(t, stop_order_is_start_order_reversed);
	tcase_add_test(t, a_later_stop_cancels_a_start);
	tcase_add_test(t, a_shutdown_stops_all_in_order_and_then_exits);
	tcase_add_test(t, a_shutdown_gone_on_with_after_a_restart_leaves_in_the_same_way);
	tcase_add_test(t, failure_action_exit_takes_the_status_of_the_service);
	tcase_add_test(t, a_cycle_is_broken_where_nothing_is_required_and_said_once);
	tcase_add_test(t, every_want_in_every_state_leads_to_a_state_without_a_mistake);
	suite_add_tcase(s, t);
	t = tcase_create("health");
	tcase_add_test(
		t, a_unit_is_available_after_its_ready_check_passed_and_until_it_failed_thrice);
	tcase_add_test(t, ready_and_live_are_not_probed_before_startup_passed);
	tcase_add_test(t, a_restarted_core_wants_to_see_every_failure_itself);
	tcase_add_test(t, answers_that_change_nothing_write_no_record);
	tcase_add_test(t, a_failed_live_check_replaces_the_unit);
	tcase_add_test(t, a_startup_check_that_never_passes_fails_the_start);
	suite_add_tcase(s, t);
	return s;
}
