/* SPDX-License-Identifier: Apache-2.0 */
#include "unit/check_main.h"

#include "unit/rollout_rig.h"

/* The fake load balancers are the simulator's. */
#include "sim/fakelb.c"

static void finish(struct rig *r, uint64_t id, enum reply_result result, uint32_t rev)
{
	ck_assert_msg(
		rig_until_reply(r, id, SEC(900)), "no answer; it waits for: %s", r->s->wait_text);
	ck_assert_msg(r->reply[id] == result, "answer %d: %s", r->reply[id], r->reply_text[id]);
	if (rev)
		ck_assert_msg(rig_all_on(r, rev), "mixed revisions");
	rig_free(r);
}

START_TEST(deploy_replaces_every_member_and_keeps_all_but_one_serving)
{
	struct rig *r = rig_new(4, 0, 2, 7);
	rig_start(r);
	r->is_watching = true;
	r->floor = 3;
	rig_deploy(r, 2, 2);
	ck_assert(rig_until_reply(r, 2, SEC(300)));
	ck_assert_uint_eq(r->s->revision, 2);
	ck_assert_uint_eq(r->durable_revision, 2);
	ck_assert_uint_eq(r->n_kills, 4);
	finish(r, 2, REPLY_DONE, 2);
}
END_TEST

START_TEST(surge_keeps_all_serving_and_takes_the_extra_member_away_again)
{
	struct rig *r = rig_new(3, 1, 2, 8);
	rig_start(r);
	r->is_watching = true;
	r->floor = 3;
	rig_deploy(r, 2, 2);
	ck_assert(rig_until_reply(r, 2, SEC(300)));
	ck_assert(!r->process[3].is_running);
	finish(r, 2, REPLY_DONE, 2);
}
END_TEST

START_TEST(revision_that_crashes_is_rolled_back_and_only_one_member_was_touched)
{
	struct rig *r = rig_new(4, 0, 2, 9);
	rig_set_kind(r, 2, RIG_CRASH);
	rig_start(r);
	r->is_watching = true;
	r->floor = 3;
	rig_deploy(r, 2, 2);
	ck_assert(rig_until_reply(r, 2, SEC(300)));
	ck_assert_uint_eq(r->n_kills, 1);
	ck_assert_ptr_nonnull(strstr(r->reply_text[2], "web@1: "));
	ck_assert_ptr_nonnull(strstr(r->reply_text[2], "status=3"));
	finish(r, 2, REPLY_ROLLED_BACK, 1);
}
END_TEST

START_TEST(revision_that_never_gets_ready_is_rolled_back_with_the_probes_answer)
{
	struct rig *r = rig_new(3, 0, 1, 10);
	rig_set_kind(r, 2, RIG_UNREADY);
	rig_start(r);
	rig_deploy(r, 2, 2);
	ck_assert(rig_until_reply(r, 2, SEC(900)));
	ck_assert_ptr_nonnull(strstr(r->reply_text[2], "http 503"));
	finish(r, 2, REPLY_ROLLED_BACK, 1);
}
END_TEST

START_TEST(crash_while_soaking_rolls_back)
{
	struct rig *r = rig_new(3, 0, 1, 11);
	rig_set_kind(r, 2, RIG_LATE_CRASH);
	RIG_POLICY(r, rollout.min_ready_us, SEC(5));
	rig_start(r);
	rig_deploy(r, 2, 2);
	finish(r, 2, REPLY_ROLLED_BACK, 1);
}
END_TEST

START_TEST(member_that_ends_well_while_it_soaks_is_rolled_back_and_runs_again)
{
	struct rig *r = rig_new(3, 0, 1, 15);
	rig_set_kind(r, 2, RIG_LATE_EXIT);
	RIG_POLICY(r, rollout.min_ready_us, SEC(5));
	rig_start(r);
	rig_deploy(r, 2, 2);
	ck_assert(rig_until_reply(r, 2, SEC(300)));
	ck_assert_ptr_nonnull(strstr(r->reply_text[2], "ended by itself"));
	ck_assert_uint_eq(r->s->failure.index, 1);
	ck_assert(r->process[0].is_running);
	finish(r, 2, REPLY_ROLLED_BACK, 1);
}
END_TEST

START_TEST(broken_surge_member_is_taken_away_and_nobody_else_was_touched)
{
	struct rig *r = rig_new(3, 1, 1, 12);
	rig_set_kind(r, 2, RIG_CRASH);
	rig_start(r);
	r->is_watching = true;
	r->floor = 3;
	rig_deploy(r, 2, 2);
	ck_assert(rig_until_reply(r, 2, SEC(300)));
	ck_assert_uint_eq(r->n_kills, 0);
	ck_assert(!r->process[3].is_running);
	finish(r, 2, REPLY_ROLLED_BACK, 1);
}
END_TEST

START_TEST(without_auto_rollback_a_failure_halts_and_stops_no_further_member)
{
	struct rig *r = rig_new(3, 0, 1, 13);
	rig_set_kind(r, 2, RIG_CRASH);
	RIG_POLICY(r, rollout.auto_rollback, false);
	rig_start(r);
	rig_deploy(r, 2, 2);
	ck_assert(rig_until_reply(r, 2, SEC(300)));
	ck_assert_int_eq(r->reply[2], REPLY_HALTED);
	rig_run(r, SEC(60));
	ck_assert_uint_eq(r->n_kills, 1);
	ck_assert(r->process[1].is_running && r->process[2].is_running);
	/* A person goes back. */
	rig_request(r, REQ_ABORT, 3, 1, NULL, NULL);
	ck_assert(rig_until_reply(r, 3, SEC(300)));
	ck_assert_int_eq(r->s->rollout.state, ROLL_ROLLED_BACK);
	finish(r, 3, REPLY_DONE, 1);
}
END_TEST

START_TEST(abort_of_a_halted_rollout_answers_who_waits_for_the_set)
{
	struct rig *r = rig_new(3, 0, 1, 13);
	rig_set_kind(r, 2, RIG_CRASH);
	RIG_POLICY(r, rollout.auto_rollback, false);
	rig_start(r);
	rig_deploy(r, 2, 2);
	ck_assert(rig_until_reply(r, 2, SEC(300)));
	rig_request(r, REQ_START, 3, 0, NULL, NULL);
	ck_assert_uint_eq(r->replies[3], 0);
	rig_request(r, REQ_ABORT, 4, 1, NULL, NULL);
	ck_assert_int_eq(r->reply[3], REPLY_CANCELED);
	ck_assert(rig_until_reply(r, 4, SEC(300)));
	rig_free(r);
}
END_TEST

/* One extra member has left; the other cannot, because the load balancer went away. NULL: it was as
 * quick. */
static struct rig *half_unsurged(uint64_t seed)
{
	struct rig *r = rig_new(2, 2, 1, seed);

	RIG_POLICY(r, rollout.progress_deadline_us, SEC(20));
	rig_start(r);
	rig_deploy(r, 2, 2);
	while (r->s->rollout.step[2] != STEP_DRAIN || r->s->rollout.step[3] != STEP_DRAIN)
		rig_turn(r);
	while (r->process[2].is_running && r->process[3].is_running)
		rig_turn(r);
	fakelb_cut(r->f, 0, r->now_us + SEC(22));
	ck_assert(rig_until_reply(r, 2, SEC(300)));
	if (r->reply[2] == REPLY_HALTED)
		return r;
	rig_free(r);
	return NULL;
}

START_TEST(resume_after_an_extra_member_did_not_leave_takes_it_away)
{
	struct rig *r = NULL;

	for (uint64_t seed = 1; !r && seed < 50; seed++)
		r = half_unsurged(seed);
	ck_assert_ptr_nonnull(r);
	ck_assert_int_eq(r->process[2].is_running + r->process[3].is_running, 1);
	r->floor = 2;
	rig_run(r, SEC(3));
	r->is_watching = true;
	rig_request(r, REQ_RESUME, 3, 0, NULL, NULL);
	for (uint64_t end = r->now_us + SEC(300); rollout_is_active(r->s) && r->now_us < end;)
		rig_turn(r);
	ck_assert_str_eq(rollout_state_name(r->s->rollout.state), "done");
	ck_assert(!r->process[2].is_running && !r->process[3].is_running);
	ck_assert(rig_all_on(r, 2));
	rig_free(r);
}
END_TEST

START_TEST(scale_of_a_halted_set_leaves_nothing_to_resume)
{
	struct rig *r = rig_new(2, 2, 1, 13);
	rig_start(r);
	rig_set_kind(r, 2, RIG_CRASH);
	RIG_POLICY(r, rollout.auto_rollback, false);
	rig_deploy(r, 2, 2);
	ck_assert(rig_until_reply(r, 2, SEC(300)));
	ck_assert_int_eq(r->reply[2], REPLY_HALTED);
	rig_set_kind(r, 2, RIG_GOOD);
	rig_request(r, REQ_SCALE, 3, 4, NULL, NULL);
	ck_assert(rig_until_reply(r, 3, SEC(60)));
	rig_request(r, REQ_RESUME, 4, 0, NULL, NULL);
	rig_run(r, SEC(120));
	ck_assert_int_eq(r->reply[4], REPLY_REFUSED);
	for (unsigned i = 0; i < 4; i++)
		ck_assert(r->process[i].is_running);
	RIG_POLICY(r, rollout.max_surge.value, 0);
	rig_deploy(r, 5, 3);
	finish(r, 5, REPLY_DONE, 3);
}
END_TEST

START_TEST(extra_member_left_by_an_aborted_rollout_is_replaced_by_the_next)
{
	struct rig *r = rig_new(3, 1, 1, 13);
	rig_start(r);
	rig_deploy(r, 2, 2);
	while (r->s->rollout.state != ROLL_ROLLING)
		rig_turn(r);
	rig_request(r, REQ_ABORT, 3, 0, NULL, NULL);
	ck_assert_int_eq(r->s->rollout.state, ROLL_ABORTED);
	rig_run(r, SEC(30));
	ck_assert(r->process[3].is_running);
	ck_assert_uint_eq(r->u[3]->rec.revision, 2);
	rig_deploy(r, 4, 3);
	r->floor = 3;
	r->is_watching = true;
	finish(r, 4, REPLY_DONE, 3);
}
END_TEST

/* The next one has fewer extra members, or none; it ends well, or is rolled back. */
START_TEST(extra_members_left_beyond_those_of_the_next_rollout_leave_at_its_end)
{
	for (unsigned surge = 0; surge <= 1; surge++)
		for (int is_back = 0; is_back <= 1; is_back++) {
			struct rig *r = rig_new(3, 2, 1, 13);
			rig_start(r);
			rig_deploy(r, 2, 2);
			while (r->s->rollout.state != ROLL_ROLLING)
				rig_turn(r);
			rig_request(r, REQ_ABORT, 3, 0, NULL, NULL);
			rig_run(r, SEC(30));
			ck_assert(r->process[3].is_running && r->process[4].is_running);
			RIG_POLICY(r, rollout.max_surge, ((struct amount){.value = surge}));
			if (is_back)
				rig_set_kind(r, 3, RIG_CRASH);
			rig_deploy(r, 4, 3);
			ck_assert(rig_until_reply(r, 4, SEC(900)));
			rig_run(r, SEC(60));
			ck_assert(!r->process[3].is_running && !r->process[4].is_running);
			ck_assert(r->process[0].is_running && r->process[2].is_running);
			finish(r, 4, is_back ? REPLY_ROLLED_BACK : REPLY_DONE, is_back ? 0 : 3);
		}
}
END_TEST

START_TEST(deploy_mends_a_set_whose_old_revision_is_broken)
{
	struct rig *r = rig_new(4, 0, 1, 14);
	rig_start(r);
	rig_set_kind(r, 1, RIG_CRASH);
	for (unsigned i = 0; i < 4; i++)
		rig_exit(r, i, CHILD_EXITED, 1, MS(1));
	rig_run(r, SEC(5));
	rig_deploy(r, 2, 2);
	finish(r, 2, REPLY_DONE, 2);
}
END_TEST

START_TEST(old_member_that_crashes_during_a_rollout_restarts_on_its_old_revision)
{
	struct rig *r = rig_new(4, 0, 1, 15);
	RIG_POLICY(r, rollout.min_ready_us, SEC(20));
	rig_start(r);
	rig_deploy(r, 2, 2);
	rig_run(r, SEC(5));
	rig_exit(r, 3, CHILD_EXITED, 1, MS(1));
	rig_run(r, SEC(3));
	ck_assert(r->process[3].is_running);
	ck_assert_uint_eq(r->u[3]->rec.revision, 1);
	finish(r, 2, REPLY_DONE, 2);
}
END_TEST

START_TEST(second_deploy_and_scaling_are_refused_while_one_is_under_way)
{
	struct rig *r = rig_new(3, 0, 1, 16);
	rig_start(r);
	rig_deploy(r, 2, 2);
	rig_run(r, SEC(1));
	rig_request(r, REQ_DEPLOY, 3, 3, NULL, "v3");
	ck_assert_int_eq(r->reply[3], REPLY_REFUSED);
	ck_assert_ptr_nonnull(strstr(r->reply_text[3], "d-1"));
	rig_request(r, REQ_SCALE, 4, 2, NULL, NULL);
	ck_assert_int_eq(r->reply[4], REPLY_REFUSED);
	finish(r, 2, REPLY_DONE, 2);
}
END_TEST

START_TEST(pause_begins_nothing_new_and_resume_goes_on)
{
	struct rig *r = rig_new(4, 0, 1, 17);
	unsigned kills;
	rig_start(r);
	rig_deploy(r, 2, 2);
	rig_run(r, SEC(3));
	rig_request(r, REQ_PAUSE, 3, 0, NULL, NULL);
	ck_assert_int_eq(r->reply[3], REPLY_DONE);
	rig_run(r, SEC(60));
	kills = r->n_kills;
	ck_assert_uint_lt(kills, 4);
	rig_run(r, SEC(600)); /* longer than the progress deadline */
	ck_assert_uint_eq(r->n_kills, kills);
	ck_assert_int_eq(r->s->rollout.state, ROLL_PAUSED);
	rig_request(r, REQ_RESUME, 4, 0, NULL, NULL);
	finish(r, 2, REPLY_DONE, 2);
}
END_TEST

START_TEST(canary_waits_for_a_person_after_its_members)
{
	struct rig *r = rig_new(4, 0, 1, 18);
	RIG_POLICY(r, rollout.strategy, ROLLOUT_CANARY);
	RIG_POLICY(r, rollout.canary, (char *)"50%");
	rig_start(r);
	rig_deploy(r, 2, 2);
	rig_run(r, SEC(300));
	ck_assert_int_eq(r->s->rollout.state, ROLL_PAUSED);
	ck_assert_uint_eq(r->n_kills, 2);
	rig_request(r, REQ_RESUME, 3, 0, NULL, NULL);
	finish(r, 2, REPLY_DONE, 2);
}
END_TEST

START_TEST(canary_with_a_time_goes_on_by_itself)
{
	struct rig *r = rig_new(3, 0, 1, 19);
	RIG_POLICY(r, rollout.strategy, ROLLOUT_CANARY);
	RIG_POLICY(r, rollout.canary, (char *)"1:40");
	rig_start(r);
	rig_deploy(r, 2, 2);
	rig_run(r, SEC(38));
	ck_assert_uint_eq(r->n_kills, 1);
	finish(r, 2, REPLY_DONE, 2);
}
END_TEST

START_TEST(abort_rolls_back_and_both_waiters_are_answered)
{
	struct rig *r = rig_new(4, 0, 2, 20);
	rig_start(r);
	r->is_watching = true;
	r->floor = 3;
	rig_deploy(r, 2, 2);
	rig_run(r, SEC(12));
	rig_request(r, REQ_ABORT, 3, 1, NULL, NULL);
	ck_assert(rig_until_reply(r, 3, SEC(300)));
	ck_assert_int_eq(r->reply[3], REPLY_DONE);
	finish(r, 2, REPLY_ROLLED_BACK, 1);
}
END_TEST

/* The rollout drains the first member when a person asks something of it; then the rollout is aborted. */
static struct rig *aborted_while_it_drains(enum request_verb verb, bool is_back)
{
	struct rig *r = rig_new(3, 0, 2, 20);
	rig_start(r);
	rig_deploy(r, 2, 2);
	while (r->u[0]->rec.lb_phase != LBP_DRAINING)
		rig_turn(r);
	ck_assert_int_eq(r->s->rollout.step[0], STEP_DRAIN);
	rig_request(r, verb, 3, 0, r->u[0], NULL);
	rig_request(r, REQ_ABORT, 4, is_back, NULL, NULL);
	ck_assert(rig_until_reply(r, 3, SEC(60)));
	ck_assert_int_eq(r->reply[3], REPLY_DONE);
	ck_assert(rig_until_reply(r, 4, SEC(300)));
	ck_assert_int_eq(r->s->rollout.state, is_back ? ROLL_ROLLED_BACK : ROLL_ABORTED);
	rig_run(r, SEC(60));
	ck_assert_uint_eq(r->u[0]->rec.revision, 1);
	ck_assert_uint_eq(r->n_kills, 1);
	return r;
}

START_TEST(member_stopped_by_hand_while_it_drains_stays_down_when_the_rollout_is_aborted)
{
	for (int is_back = 0; is_back < 2; is_back++) {
		struct rig *r = aborted_while_it_drains(REQ_STOP, is_back);
		ck_assert(!r->process[0].is_running);
		ck_assert_int_eq(r->u[0]->rec.want, WANT_DOWN);
		rig_free(r);
	}
}
END_TEST

START_TEST(member_restarted_by_hand_while_it_drains_is_restarted_though_the_rollout_is_aborted)
{
	for (int is_back = 0; is_back < 2; is_back++) {
		struct rig *r = aborted_while_it_drains(REQ_RESTART, is_back);
		ck_assert(unit_is_available(r->u[0]));
		rig_free(r);
	}
}
END_TEST

/* A new member does not get ready, and a load balancer that was restarted sent it a client: it is out
 * and has a session all the same, so that going back has to drain it. */
static struct rig *drains_while_out(enum drain_policy policy)
{
	struct rig *r = rig_new(3, 0, 1, 20);
	RIG_POLICY(r, lb.on_drain_timeout, policy);
	rig_start(r);
	rig_deploy(r, 2, 2);
	r->unready = 1;
	while (r->s->rollout.step[0] != STEP_READY)
		rig_turn(r);
	rig_run(r, SEC(5));
	fakelb_restart(r->f, 0);
	struct fakelb_server *v = server(r->f, 0, 0);
	v->ends_us[v->n_sessions++] = r->now_us + SEC(100);
	rig_run(r, SEC(1));
	ck_assert_int_eq(r->u[0]->rec.lb_phase, LBP_OUT);
	ck_assert_uint_eq(fakelb_sessions(r->f, r->u[0], r->now_us), 1);
	rig_request(r, REQ_ABORT, 3, 1, NULL, NULL);
	while (r->u[0]->rec.lb_phase == LBP_OUT)
		rig_turn(r);
	ck_assert_int_eq(r->u[0]->rec.lb_phase, LBP_DRAINING);
	ck_assert(unit_is_up(r->u[0]));
	return r;
}

START_TEST(member_that_still_drains_is_not_stopped_when_a_rollback_is_aborted)
{
	struct rig *r = drains_while_out(DRAIN_FORCE);
	unsigned kills = r->n_kills;
	rig_request(r, REQ_ABORT, 4, 0, NULL, NULL);
	ck_assert_int_eq(r->s->rollout.state, ROLL_ABORTED);
	rig_run(r, SEC(200));
	ck_assert_uint_eq(r->n_kills, kills);
	rig_free(r);
}
END_TEST

START_TEST(drain_of_one_that_is_out_is_waited_for_as_a_drain_and_given_up_as_one)
{
	struct rig *r = drains_while_out(DRAIN_ABORT);
	unsigned kills = r->n_kills;
	rig_run(r, SEC(1));
	ck_assert_int_eq(r->s->rollout.step[0], STEP_DRAIN);
	ck_assert_ptr_nonnull(strstr(r->s->wait_text, "1 session left"));
	ck_assert(rig_until_reply(r, 2, SEC(30)));
	ck_assert_int_eq(r->reply[2], REPLY_HALTED);
	ck_assert_ptr_nonnull(strstr(r->s->rollout.reason, "the stop is given up"));
	ck_assert_uint_eq(r->n_kills, kills);
	rig_free(r);
}
END_TEST

START_TEST(undo_skips_soak_and_canary)
{
	struct rig *r = rig_new(3, 0, 1, 21);
	uint64_t begin;
	rig_start(r);
	rig_deploy(r, 2, 2);
	ck_assert(rig_until_reply(r, 2, SEC(300)));
	RIG_POLICY(r, rollout.strategy, ROLLOUT_CANARY);
	RIG_POLICY(r, rollout.min_ready_us, SEC(100));
	for (unsigned i = 0; i < 3; i++)
		world_set_next_conf(r->w, r->u[i], &r->conf[1][i], 1, "v1");
	begin = r->now_us;
	rig_request(r, REQ_UNDO, 3, 1, NULL, "v1");
	ck_assert(rig_until_reply(r, 3, SEC(300)));
	ck_assert_uint_lt(r->now_us - begin, SEC(99));
	finish(r, 3, REPLY_DONE, 1);
}
END_TEST

START_TEST(rolling_restart_replaces_each_member_once_on_its_own_revision)
{
	struct rig *r = rig_new(4, 0, 1, 22);
	rig_start(r);
	r->is_watching = true;
	r->floor = 3;
	rig_request(r, REQ_ROLLING_RESTART, 2, 0, NULL, NULL);
	ck_assert(rig_until_reply(r, 2, SEC(300)));
	ck_assert_uint_eq(r->n_kills, 4);
	finish(r, 2, REPLY_DONE, 1);
}
END_TEST

START_TEST(stopped_set_switches_revision_without_starting_anything)
{
	struct rig *r = rig_new(3, 0, 1, 23);
	rig_start(r);
	rig_request(r, REQ_STOP, 2, 0, NULL, NULL);
	ck_assert(rig_until_reply(r, 2, SEC(100)));
	ck_assert_int_eq(r->reply[2], REPLY_DONE);
	rig_deploy(r, 3, 2);
	ck_assert(rig_until_reply(r, 3, SEC(10)));
	ck_assert_int_eq(r->reply[3], REPLY_DONE);
	for (unsigned i = 0; i < 3; i++) {
		ck_assert_uint_eq(r->u[i]->rec.revision, 2);
		ck_assert(!r->process[i].is_running);
	}
	rig_free(r);
}
END_TEST

START_TEST(stopping_the_set_ends_its_rollout_as_aborted)
{
	struct rig *r = rig_new(3, 0, 1, 24);
	rig_start(r);
	rig_deploy(r, 2, 2);
	rig_run(r, SEC(3));
	rig_request(r, REQ_STOP, 3, 0, NULL, NULL);
	ck_assert_int_eq(r->reply[2], REPLY_CANCELED);
	ck_assert(rig_until_reply(r, 3, SEC(100)));
	ck_assert_int_eq(r->s->rollout.state, ROLL_ABORTED);
	for (unsigned i = 0; i < 3; i++)
		ck_assert(!r->process[i].is_running);
	rig_free(r);
}
END_TEST

START_TEST(preflight_refuses_and_nothing_changed)
{
	static const char *const words[] = {"unreachable", "does not know", "blue-green", "Gate="};
	for (unsigned k = 0; k < ARRAY_SIZE(words); k++) {
		struct rig *r = rig_new(3, 0, 2, 25 + k);
		rig_start(r);
		if (k == 0)
			fakelb_cut(r->f, 1, r->now_us + SEC(1000));
		if (k == 1)
			r->f->unknown_index = 2;
		if (k == 2)
			RIG_POLICY(r, rollout.strategy, ROLLOUT_BLUE_GREEN);
		if (k == 3)
			RIG_POLICY(r, rollout.gate, (char *)"http://x");
		rig_run(r, SEC(3));
		rig_deploy(r, 2, 2);
		ck_assert_uint_eq(r->replies[2], 1);
		ck_assert_int_eq(r->reply[2], REPLY_REFUSED);
		ck_assert_msg(strstr(r->reply_text[2], words[k]), "%s", r->reply_text[2]);
		rig_run(r, SEC(30));
		ck_assert_uint_eq(r->n_kills, 0);
		ck_assert_int_eq(r->s->rollout.state, ROLL_NONE);
		rig_free(r);
	}
}
END_TEST

START_TEST(rollout_goes_on_after_the_core_was_killed_at_any_effect)
{
	unsigned total = 0;
	for (unsigned kind = 0; kind < 2; kind++) {
		for (unsigned k = 0; k <= total; k += kind ? 3 : 1) {
			struct rig *r = rig_new(3, kind ? 1 : 0, 2, 31);
			unsigned before;
			rig_start(r);
			rig_run(r, SEC(1));
			before = r->n_effects;
			r->crash_at_effect = k ? before + k : 0;
			r->is_watching = true;
			r->floor = kind ? 3 : 2;
			rig_deploy(r, 2, 2);
			while (rollout_is_active(r->s) || r->s->revision != 2) {
				ck_assert_msg(
					r->now_us < SEC(1900), "effect %u: %s", k, r->s->wait_text);
				if (!rollout_is_active(r->s) && r->s->rollout.state != ROLL_DONE)
					rig_deploy(r, 3, 2); /* killed before the journal had it */
				rig_turn(r);
			}
			if (!k)
				total = r->n_effects - before;
			ck_assert_msg(r->s->rollout.state == ROLL_DONE, "effect %u: %s", k,
				rollout_state_name(r->s->rollout.state));
			ck_assert_msg(rig_all_on(r, 2), "effect %u: mixed", k);
			ck_assert_uint_le(r->replies[2], 1);
			rig_free(r);
		}
		ck_assert_uint_gt(total, 100);
	}
}
END_TEST

START_TEST(core_that_dies_in_the_preflight_takes_nobody_for_touched)
{
	struct rig *r = rig_new(3, 0, 1, 17);
	rig_start(r);
	rig_deploy(r, 2, 2);
	for (int i = 0; i < 300 && r->s->rollout.step[0] != STEP_DONE; i++)
		rig_run(r, MS(500));
	rig_request(r, REQ_ABORT, 3, 0, NULL, NULL); /* and stay mixed */
	ck_assert_uint_eq(r->u[0]->rec.revision, 2);
	rig_run(r, SEC(120));
	rig_deploy(r, 4, 2);
	ck_assert_int_eq(r->s->rollout.state, ROLL_PREFLIGHT);
	rig_crash_core(r);
	ck_assert_uint_eq(r->s->rollout.touched[0], 0);
	rig_run(r, SEC(300));
	ck_assert_int_eq(r->s->rollout.state, ROLL_DONE);
	ck_assert(rig_all_on(r, 2));
	rig_free(r);
}
END_TEST

START_TEST(rollback_goes_on_after_the_core_was_killed_at_any_effect)
{
	unsigned total = 0;
	for (unsigned k = 0; k <= total; k++) {
		struct rig *r = rig_new(3, 0, 1, 32);
		unsigned before;
		rig_set_kind(r, 2, RIG_CRASH);
		rig_start(r);
		before = r->n_effects;
		r->crash_at_effect = k ? before + k : 0;
		rig_deploy(r, 2, 2);
		rig_run(r, MS(1));
		while (rollout_is_active(r->s)) {
			ck_assert_msg(r->now_us < SEC(1900), "effect %u: %s", k, r->s->wait_text);
			rig_turn(r);
		}
		if (!k)
			total = r->n_effects - before;
		rig_run(r, SEC(20));
		ck_assert_msg(rig_all_on(r, 1), "effect %u: mixed, %s", k,
			rollout_state_name(r->s->rollout.state));
		rig_free(r);
	}
	ck_assert_uint_gt(total, 50);
}
END_TEST

START_TEST(random_faults_of_load_balancers_never_cut_a_session)
{
	for (uint64_t seed = 1; seed <= 60; seed++) {
		struct rig *r = rig_new(4, seed % 2, 2, seed);
		r->f->is_lying = seed % 3 == 0;
		rig_set_kind(r, 2, seed % 4 == 0 ? RIG_CRASH : RIG_GOOD);
		RIG_POLICY(r, lb.on_drain_timeout, DRAIN_FORCE);
		rig_start(r);
		rig_deploy(r, 2, 2);
		for (unsigned i = 0; i < 12; i++) {
			unsigned lb = (unsigned)(rng_next(&r->f->rng) % 2);
			if (rng_next(&r->f->rng) % 2)
				fakelb_restart(r->f, lb);
			else
				fakelb_cut(r->f, lb, r->now_us + SEC(1 + rng_next(&r->f->rng) % 8));
			rig_run(r, SEC(1 + rng_next(&r->f->rng) % 10));
		}
		ck_assert_msg(rig_until_reply(r, 2, SEC(900)), "seed %llu: %s",
			(unsigned long long)seed, r->s->wait_text);
		if (seed % 4 == 0)
			ck_assert_msg(rig_all_on(r, 1), "seed %llu: %s", (unsigned long long)seed,
				r->reply_text[2]);
		else if (r->reply[2] == REPLY_DONE)
			ck_assert(rig_all_on(r, 2));
		rig_free(r);
	}
}
END_TEST

START_TEST(what_is_not_executed_yet_is_not_available)
{
	struct rig *r = rig_new(2, 1, 0, 42);
	RIG_POLICY(r, service.type, SERVICE_SIMPLE);
	RIG_POLICY(r, health[CHECK_READY].target, NULL);
	rig_start(r);
	rig_request(r, REQ_SCALE, 2, 3, NULL, NULL);
	ck_assert(unit_is_up(r->u[2]) && r->process[2].is_running);
	ck_assert(!unit_is_available(r->u[2]));
	ck_assert_uint_eq(r->replies[2], 0);
	ck_assert(rig_until_reply(r, 2, SEC(1)));
	ck_assert_int_eq(r->reply[2], REPLY_DONE);
	ck_assert_int_ne(r->u[2]->rec.main_pid, 0);
	rig_free(r);
}
END_TEST

START_TEST(scaling_starts_and_drains_the_highest_members)
{
	struct rig *r = rig_new(2, 3, 1, 40);
	rig_start(r);
	rig_request(r, REQ_SCALE, 2, 5, NULL, NULL);
	ck_assert(rig_until_reply(r, 2, SEC(60)));
	ck_assert_int_eq(r->reply[2], REPLY_DONE);
	ck_assert_uint_eq(rig_available(r), 5);
	rig_request(r, REQ_SCALE, 3, 1, NULL, NULL);
	ck_assert(rig_until_reply(r, 3, SEC(60)));
	ck_assert_int_eq(r->reply[3], REPLY_DONE);
	ck_assert(r->process[0].is_running);
	for (unsigned i = 1; i < 5; i++)
		ck_assert(!r->process[i].is_running);
	rig_request(r, REQ_SCALE, 4, 6, NULL, NULL);
	ck_assert_int_eq(r->reply[4], REPLY_REFUSED);
	rig_free(r);
}
END_TEST

START_TEST(plan_names_every_member_and_the_bound)
{
	struct rig *r = rig_new(2, 1, 1, 41);
	struct buf b = {0};
	rig_start(r);
	for (unsigned i = 0; i < 3; i++)
		world_set_next_conf(r->w, r->u[i], &r->conf[2][i], 2, "v2");
	set_plan(r->w, r->s, &b);
	ck_assert_ptr_nonnull(strstr(b.data, "never fewer than 2 serve"));
	ck_assert_ptr_nonnull(strstr(b.data, "web@3"));
	ck_assert_ptr_null(strstr(b.data, "refused"));
	buf_done(&b);
	rig_free(r);
}
END_TEST

Suite *suite(void)
{
	Suite *s = suite_create("model rollout");
	TCase *c = tcase_create("rollout");
	tcase_set_timeout(c, 250);
	tcase_add_test(c, deploy_replaces_every_member_and_keeps_all_but_one_serving);
	tcase_add_test(c, surge_keeps_all_serving_and_takes_the_extra_member_away_again);
	tcase_add_test(c, revision_that_crashes_is_rolled_back_and_only_one_member_was_touched);
	tcase_add_test(c, revision_that_never_gets_ready_is_rolled_back_with_the_probes_answer);
	tcase_add_test(c, crash_while_soaking_rolls_back);
	tcase_add_test(c, member_that_ends_well_while_it_soaks_is_rolled_back_and_runs_again);
	tcase_add_test(c, broken_surge_member_is_taken_away_and_nobody_else_was_touched);
	tcase_add_test(c, without_auto_rollback_a_failure_halts_and_stops_no_further_member);
	tcase_add_test(c, abort_of_a_halted_rollout_answers_who_waits_for_the_set);
	tcase_add_test(c, resume_after_an_extra_member_did_not_leave_takes_it_away);
	tcase_add_test(c, scale_of_a_halted_set_leaves_nothing_to_resume);
	tcase_add_test(c, extra_member_left_by_an_aborted_rollout_is_replaced_by_the_next);
	tcase_add_test(c, extra_members_left_beyond_those_of_the_next_rollout_leave_at_its_end);
	tcase_add_test(c, deploy_mends_a_set_whose_old_revision_is_broken);
	tcase_add_test(c, old_member_that_crashes_during_a_rollout_restarts_on_its_old_revision);
	tcase_add_test(c, second_deploy_and_scaling_are_refused_while_one_is_under_way);
	tcase_add_test(c, pause_begins_nothing_new_and_resume_goes_on);
	tcase_add_test(c, canary_waits_for_a_person_after_its_members);
	tcase_add_test(c, canary_with_a_time_goes_on_by_itself);
	tcase_add_test(c, abort_rolls_back_and_both_waiters_are_answered);
	tcase_add_test(
		c, member_stopped_by_hand_while_it_drains_stays_down_when_the_rollout_is_aborted);
	tcase_add_test(c,
		member_restarted_by_hand_while_it_drains_is_restarted_though_the_rollout_is_aborted);
	tcase_add_test(c, member_that_still_drains_is_not_stopped_when_a_rollback_is_aborted);
	tcase_add_test(c, drain_of_one_that_is_out_is_waited_for_as_a_drain_and_given_up_as_one);
	tcase_add_test(c, undo_skips_soak_and_canary);
	tcase_add_test(c, rolling_restart_replaces_each_member_once_on_its_own_revision);
	tcase_add_test(c, stopped_set_switches_revision_without_starting_anything);
	tcase_add_test(c, stopping_the_set_ends_its_rollout_as_aborted);
	tcase_add_test(c, preflight_refuses_and_nothing_changed);
	tcase_add_test(c, rollout_goes_on_after_the_core_was_killed_at_any_effect);
	tcase_add_test(c, core_that_dies_in_the_preflight_takes_nobody_for_touched);
	tcase_add_test(c, rollback_goes_on_after_the_core_was_killed_at_any_effect);
	tcase_add_test(c, random_faults_of_load_balancers_never_cut_a_session);
	tcase_add_test(c, what_is_not_executed_yet_is_not_available);
	tcase_add_test(c, scaling_starts_and_drains_the_highest_members);
	tcase_add_test(c, plan_names_every_member_and_the_bound);
	suite_add_tcase(s, c);
	return s;
}
