/* SPDX-License-Identifier: Apache-2.0 */
#include "unit/check_main.h"

#include "unit/rollout_rig.h"

/* The fake load balancers are the simulator's; here they keep silent and the tests speak for them. */
#include "sim/fakelb.c"

static struct rig *silent_rig(unsigned n_lbs)
{
	struct rig *r = rig_new(1, 0, n_lbs, 5);
	r->f->n = 0;
	return r;
}

static void status(struct rig *r, unsigned lb, bool is_reachable, uint32_t generation)
{
	rig_step(r, (struct event){.kind = EV_LB_STATUS,
			    .set = r->s,
			    .lb = lb,
			    .ok = is_reachable,
			    .number = generation,
			    .text = "gone"});
}

static void say(struct rig *r, unsigned lb, struct lb_sample s)
{
	s.serial = s.serial ? s.serial : ++r->serial;
	rig_step(r, (struct event){.kind = EV_LB_SAMPLE, .unit = r->u[0], .lb = lb, .sample = &s});
}

/* A sample that agrees with what is wanted. */
static void agree(struct rig *r, unsigned lb, uint64_t sessions, uint64_t total)
{
	say(r, lb,
		(struct lb_sample){.known = 1,
			.in_sync = 1,
			.state = (uint32_t)r->f->row[0].wanted,
			.is_up = 1,
			.check = LB_CHECK_OK,
			.weight = 100,
			.sessions = sessions,
			.total = total});
}

static enum lb_phase phase(const struct rig *r)
{
	return (enum lb_phase)r->u[0]->rec.lb_phase;
}

static void bring_in(struct rig *r, unsigned n_lbs)
{
	for (unsigned i = 0; i < n_lbs; i++)
		status(r, i, true, 1);
	rig_request(r, REQ_START, 0, 0, NULL, NULL);
	rig_run(r, SEC(1));
	for (unsigned k = 0; k < 3; k++)
		for (unsigned i = 0; i < n_lbs; i++)
			agree(r, i, 0, 0);
	ck_assert_str_eq(lb_phase_name(phase(r)), "in");
}

START_TEST(entry_goes_maint_drain_check_ready_and_never_faster)
{
	struct rig *r = silent_rig(2);
	struct lb_sample unchecked = {
		.known = 1, .in_sync = 1, .state = LB_DRAIN, .check = LB_CHECK_UNKNOWN};
	status(r, 0, true, 1);
	status(r, 1, true, 1);
	rig_request(r, REQ_START, 0, 0, NULL, NULL);
	rig_run(r, SEC(1));
	ck_assert_str_eq(r->wants, "M");
	agree(r, 0, 0, 0);
	ck_assert_int_eq(phase(r), LBP_OUT); /* the other has not read maint back */
	agree(r, 1, 0, 0);
	ck_assert_str_eq(r->wants, "MD");
	agree(r, 0, 0, 0);
	say(r, 1, unchecked);
	ck_assert_int_eq(phase(r), LBP_CHECKING);
	unchecked.check = LB_CHECK_FAILED;
	say(r, 1, unchecked);
	ck_assert_int_eq(phase(r), LBP_CHECKING);
	agree(r, 1, 0, 0);
	ck_assert_str_eq(r->wants, "MDR");
	ck_assert_int_eq(phase(r), LBP_RAMPING);
	agree(r, 0, 0, 0);
	ck_assert(!unit_is_available(r->u[0]));
	agree(r, 1, 0, 0);
	ck_assert_int_eq(phase(r), LBP_IN);
	ck_assert(unit_is_available(r->u[0]));
	rig_free(r);
}
END_TEST

START_TEST(load_balancer_without_checks_counts_as_soon_as_it_agrees)
{
	struct rig *r = silent_rig(1);
	struct lb_sample s = {.known = 1, .in_sync = 1, .check = LB_CHECK_NONE, .is_up = 1};
	status(r, 0, true, 1);
	rig_request(r, REQ_START, 0, 0, NULL, NULL);
	rig_run(r, SEC(1));
	for (unsigned k = 0; k < 3; k++) {
		s.state = (uint32_t)r->f->row[0].wanted;
		s.serial = 0;
		say(r, 0, s);
	}
	ck_assert_int_eq(phase(r), LBP_IN);
	rig_free(r);
}
END_TEST

START_TEST(ramp_rises_step_by_step)
{
	struct rig *r = silent_rig(1);
	RIG_POLICY(r, lb.ramp.n, 3);
	RIG_POLICY(r, lb.ramp.percent[0], 25);
	RIG_POLICY(r, lb.ramp.percent[1], 50);
	RIG_POLICY(r, lb.ramp.percent[2], 100);
	RIG_POLICY(r, lb.ramp.step_us, SEC(2));
	status(r, 0, true, 1);
	rig_request(r, REQ_START, 0, 0, NULL, NULL);
	rig_run(r, SEC(1));
	agree(r, 0, 0, 0);
	agree(r, 0, 0, 0);
	ck_assert_uint_eq(r->f->row[0].weight, 25);
	agree(r, 0, 0, 0);
	ck_assert_int_eq(phase(r), LBP_RAMPING);
	rig_run(r, SEC(2));
	ck_assert_uint_eq(r->f->row[0].weight, 50);
	rig_run(r, SEC(2));
	ck_assert_uint_eq(r->f->row[0].weight, 100);
	agree(r, 0, 0, 0);
	ck_assert_int_eq(phase(r), LBP_IN);
	rig_free(r);
}
END_TEST

static void begin_stop(struct rig *r, uint64_t id)
{
	rig_request(r, REQ_STOP, id, 0, r->u[0], NULL);
	ck_assert_int_eq(phase(r), LBP_DRAINING);
}

START_TEST(drained_is_zero_twice_with_the_total_still_after_the_read_back)
{
	struct rig *r = silent_rig(1);
	bring_in(r, 1);
	begin_stop(r, 2);
	/* Not read back yet: counts nothing, however idle. */
	for (unsigned k = 0; k < 4; k++)
		say(r, 0, (struct lb_sample){.known = 1, .state = LB_READY, .is_up = 1});
	for (unsigned k = 0; k < 4; k++) /* its address is not the wanted one yet */
		say(r, 0, (struct lb_sample){.known = 1, .state = LB_DRAIN, .is_up = 1});
	agree(r, 0, 0, 10); /* the read-back */
	agree(r, 0, 0, 10);
	agree(r, 0, 0, 11); /* a request between two samples */
	agree(r, 0, 1, 12);
	agree(r, 0, 0, 12);
	ck_assert_int_eq(phase(r), LBP_DRAINING);
	agree(r, 0, 0, 12);
	ck_assert_int_eq(phase(r), LBP_LEAVING);
	ck_assert_uint_eq(r->n_kills, 0);
	agree(r, 0, 0, 12);
	ck_assert_uint_eq(r->n_kills, 1);
	rig_free(r);
}
END_TEST

START_TEST(sample_with_an_old_serial_is_not_counted)
{
	struct rig *r = silent_rig(1);
	bring_in(r, 1);
	begin_stop(r, 2);
	agree(r, 0, 1, 1);
	for (unsigned k = 0; k < 5; k++)
		say(r, 0,
			(struct lb_sample){.known = 1,
				.in_sync = 1,
				.state = LB_DRAIN,
				.total = 1,
				.serial = r->serial});
	ck_assert_int_eq(phase(r), LBP_DRAINING);
	rig_free(r);
}
END_TEST

START_TEST(every_load_balancer_has_to_be_drained)
{
	struct rig *r = silent_rig(2);
	bring_in(r, 2);
	begin_stop(r, 2);
	for (unsigned k = 0; k < 6; k++) {
		agree(r, 0, 0, 1);
		agree(r, 1, 3, 9);
	}
	ck_assert_int_eq(phase(r), LBP_DRAINING);
	struct buf b = {0};
	lb_waiting_text(r->w, r->u[0], &b);
	ck_assert_str_eq(b.data, "draining, 3 sessions left on 1 of 2 load balancers");
	buf_done(&b);
	rig_free(r);
}
END_TEST

START_TEST(server_that_is_unknown_is_never_drained)
{
	struct rig *r = silent_rig(1);
	bring_in(r, 1);
	begin_stop(r, 2);
	for (unsigned k = 0; k < 6; k++)
		say(r, 0, (struct lb_sample){.in_sync = 1, .state = LB_DRAIN});
	ck_assert_int_eq(phase(r), LBP_DRAINING);
	ck_assert_uint_eq(r->seen[EVENT_LB_TROUBLE], 1);
	rig_free(r);
}
END_TEST

START_TEST(timeout_forces_waits_or_gives_the_stop_up)
{
	for (unsigned policy = DRAIN_FORCE; policy <= DRAIN_ABORT; policy++) {
		struct rig *r = silent_rig(1);
		RIG_POLICY(r, lb.on_drain_timeout, policy);
		bring_in(r, 1);
		begin_stop(r, 2);
		agree(r, 0, 2, 5);
		agree(r, 0, 2, 5);
		rig_run(r, SEC(31));
		ck_assert_uint_eq(r->seen[EVENT_LB_FORCED], 1);
		ck_assert_ptr_nonnull(strstr(r->last_event[EVENT_LB_FORCED], "2 sessions left"));
		if (policy == DRAIN_FORCE) {
			agree(r, 0, 2, 5);
			rig_run(r, SEC(1));
			ck_assert_uint_eq(r->n_kills, 1);
		} else if (policy == DRAIN_WAIT) {
			ck_assert_int_eq(phase(r), LBP_DRAINING);
			rig_run(r, SEC(600));
			ck_assert_uint_eq(r->n_kills, 0);
		} else {
			ck_assert_uint_eq(r->replies[2], 1);
			ck_assert_int_eq(r->reply[2], REPLY_REFUSED);
			agree(r, 0, 2, 5);
			agree(r, 0, 2, 5);
			ck_assert_int_eq(phase(r), LBP_IN);
			ck_assert_uint_eq(r->n_kills, 0);
		}
		rig_free(r);
	}
}
END_TEST

/* Its drain was over in vain before anybody wanted it stopped. */
static struct rig *worn_out_rig(enum drain_policy policy)
{
	struct rig *r = silent_rig(1);
	RIG_POLICY(r, lb.on_drain_timeout, policy);
	bring_in(r, 1);
	r->process[0].kind = RIG_UNREADY;
	rig_run(r, SEC(1));
	agree(r, 0, 2, 5);
	rig_run(r, SEC(60));
	ck_assert_int_eq(phase(r), LBP_DRAINING);
	return r;
}

START_TEST(stop_of_one_whose_drain_was_in_vain_is_given_up_in_time)
{
	struct rig *r = worn_out_rig(DRAIN_ABORT);
	begin_stop(r, 2);
	ck_assert_uint_eq(r->replies[2], 0);
	rig_run(r, SEC(31));
	ck_assert_uint_eq(r->replies[2], 1);
	ck_assert_int_eq(r->reply[2], REPLY_REFUSED);
	rig_free(r);
}
END_TEST

START_TEST(shutdown_ends_a_drain_that_was_to_be_waited_for)
{
	for (unsigned held = 0; held < 2; held++) {
		struct rig *r = worn_out_rig(DRAIN_WAIT);
		if (held) {
			rig_request(r, REQ_DRAIN, 3, 0, r->u[0], NULL);
			agree(r, 0, 2, 5);
			rig_run(r, SEC(31));
			ck_assert_int_eq(phase(r), LBP_HELD);
		} else {
			begin_stop(r, 2);
			rig_run(r, SEC(60));
		}
		ck_assert_uint_eq(r->n_kills, 0);
		rig_step(r, (struct event){.kind = EV_SHUTDOWN});
		ck_assert_uint_eq(r->n_kills, 0);
		rig_run(r, SEC(40));
		ck_assert_uint_eq(r->n_kills, 1);
		rig_free(r);
	}
}
END_TEST

START_TEST(stop_that_is_given_up_brings_back_only_what_is_ready)
{
	struct rig *r = silent_rig(1);
	RIG_POLICY(r, lb.on_drain_timeout, DRAIN_ABORT);
	bring_in(r, 1);
	begin_stop(r, 2);
	agree(r, 0, 2, 5);
	r->process[0].kind = RIG_UNREADY;
	rig_run(r, SEC(31));
	ck_assert_int_eq(r->reply[2], REPLY_REFUSED);
	agree(r, 0, 2, 5);
	agree(r, 0, 2, 5);
	ck_assert_str_eq(r->wants, "MDRD");
	r->process[0].kind = RIG_GOOD;
	rig_run(r, SEC(1));
	agree(r, 0, 2, 5);
	agree(r, 0, 2, 5);
	ck_assert_int_eq(phase(r), LBP_IN);
	rig_free(r);
}
END_TEST

START_TEST(one_that_is_not_live_is_replaced_whatever_becomes_of_its_sessions)
{
	struct rig *r = silent_rig(1);
	RIG_POLICY(r, lb.on_drain_timeout, DRAIN_ABORT);
	for (unsigned rev = 1; rev < 4; rev++)
		r->conf[rev][0].health[CHECK_LIVE] = r->conf[rev][0].health[CHECK_READY];
	bring_in(r, 1);
	rig_run(r, SEC(1));
	r->process[0].kind = RIG_UNREADY;
	rig_run(r, SEC(2));
	ck_assert(r->u[0]->rec.is_unhealthy);
	agree(r, 0, 2, 5);
	rig_run(r, SEC(40));
	ck_assert_str_eq(r->wants, "MDRDM");
	ck_assert_uint_ge(r->n_kills, 1);
	rig_free(r);
}
END_TEST

START_TEST(unreachable_one_is_skipped_or_waited_for_as_long_as_a_drain_may_take)
{
	for (unsigned policy = UNREACHABLE_ABORT; policy <= UNREACHABLE_SKIP; policy++) {
		struct rig *r = silent_rig(2);
		RIG_POLICY(r, lb.unreachable, policy);
		bring_in(r, 2);
		status(r, 1, false, 1);
		begin_stop(r, 2);
		for (unsigned k = 0; k < 4; k++)
			agree(r, 0, 0, 1);
		ck_assert_uint_eq(r->n_kills, policy == UNREACHABLE_SKIP);
		rig_run(r, SEC(40));
		ck_assert_uint_eq(r->n_kills, 1);
		rig_free(r);
	}
}
END_TEST

START_TEST(death_of_the_process_takes_it_out_at_once_and_it_enters_from_the_start)
{
	struct rig *r = silent_rig(1);
	bring_in(r, 1);
	ck_assert_str_eq(r->wants, "MDR");
	rig_exit(r, 0, CHILD_EXITED, 1, 0);
	rig_run(r, MS(5));
	ck_assert_str_eq(r->wants, "MDRM");
	rig_run(r, SEC(2)); /* runs again; maint was never read back */
	ck_assert(r->process[0].is_running);
	say(r, 0,
		(struct lb_sample){
			.known = 1, .state = LB_READY, .is_up = 1, .check = LB_CHECK_OK});
	ck_assert_str_eq(r->wants, "MDRM");
	for (unsigned k = 0; k < 3; k++)
		agree(r, 0, 0, 0);
	ck_assert_str_eq(r->wants, "MDRMDR");
	ck_assert_int_eq(phase(r), LBP_IN);
	rig_free(r);
}
END_TEST

START_TEST(restart_of_a_load_balancer_keeps_the_row_and_counts_anew)
{
	struct rig *r = silent_rig(1);
	bring_in(r, 1);
	status(r, 0, true, 2);
	ck_assert_str_eq(r->wants, "MDR");
	ck_assert_int_eq(phase(r), LBP_IN);
	ck_assert(!unit_is_available(r->u[0])); /* nothing was seen of it since */
	r->serial = 0;
	agree(r, 0, 0, 0);
	ck_assert(unit_is_available(r->u[0]));
	begin_stop(r, 2);
	agree(r, 0, 0, 5);
	agree(r, 0, 0, 5);
	status(r, 0, true, 3);
	agree(r, 0, 0, 5);
	agree(r, 0, 0, 5);
	ck_assert_int_eq(phase(r), LBP_DRAINING);
	agree(r, 0, 0, 5);
	ck_assert_int_eq(phase(r), LBP_LEAVING);
	rig_free(r);
}
END_TEST

START_TEST(stop_of_one_that_is_out_drains_what_a_restarted_load_balancer_sent_it)
{
	struct rig *r = silent_rig(1);
	status(r, 0, true, 2);
	rig_request(r, REQ_START, 0, 0, NULL, NULL);
	rig_run(r, SEC(1));
	rig_request(r, REQ_STOP, 2, 0, r->u[0], NULL);
	ck_assert_int_eq(phase(r), LBP_LEAVING); /* nothing was seen of it yet */
	agree(r, 0, 0, 5);
	ck_assert_int_eq(phase(r), LBP_DRAINING);
	agree(r, 0, 1, 6); /* a client that was sent here before the row was pushed */
	agree(r, 0, 0, 6);
	ck_assert_uint_eq(r->n_kills, 0);
	agree(r, 0, 0, 6);
	agree(r, 0, 0, 6);
	ck_assert_uint_eq(r->n_kills, 1);
	rig_free(r);
}
END_TEST

START_TEST(stop_of_one_that_is_held_drains_again_after_the_load_balancer_was_restarted)
{
	struct rig *r = silent_rig(1);
	bring_in(r, 1);
	rig_request(r, REQ_DRAIN, 2, 0, r->u[0], NULL);
	for (int i = 0; i < 4; i++)
		agree(r, 0, 0, 5);
	ck_assert_int_eq(r->reply[2], REPLY_DONE);
	status(r, 0, true, 2);
	rig_request(r, REQ_STOP, 3, 0, r->u[0], NULL);
	agree(r, 0, 1, 1);
	agree(r, 0, 0, 1);
	ck_assert_uint_eq(r->n_kills, 0);
	agree(r, 0, 0, 1);
	ck_assert_uint_eq(r->n_kills, 1);
	rig_free(r);
}
END_TEST

START_TEST(operator_drains_and_it_stays_out_over_a_crash_until_undrained)
{
	struct rig *r = silent_rig(1);
	bring_in(r, 1);
	rig_request(r, REQ_DRAIN, 2, 0, r->u[0], NULL);
	ck_assert_int_eq(phase(r), LBP_HELD);
	for (unsigned k = 0; k < 3; k++) {
		ck_assert_uint_eq(r->replies[2], 0);
		agree(r, 0, 0, 7);
	}
	ck_assert_uint_eq(r->replies[2], 1);
	ck_assert_int_eq(r->reply[2], REPLY_DONE);
	ck_assert_str_eq(r->wants, "MDRDM");
	rig_exit(r, 0, CHILD_EXITED, 1, 0);
	rig_run(r, SEC(2));
	ck_assert(r->process[0].is_running);
	agree(r, 0, 0, 7);
	ck_assert_int_eq(phase(r), LBP_HELD);
	rig_request(r, REQ_UNDRAIN, 3, 0, r->u[0], NULL);
	for (unsigned k = 0; k < 3; k++)
		agree(r, 0, 0, 7);
	ck_assert_int_eq(phase(r), LBP_IN);
	ck_assert_uint_eq(r->replies[3], 1);
	ck_assert_int_eq(r->reply[3], REPLY_DONE);
	rig_free(r);
}
END_TEST

START_TEST(undrain_is_answered_when_the_process_ends_before_it_is_in)
{
	struct rig *r = silent_rig(1);
	bring_in(r, 1);
	rig_request(r, REQ_DRAIN, 2, 0, r->u[0], NULL);
	for (unsigned k = 0; k < 3; k++)
		agree(r, 0, 0, 7);
	ck_assert_uint_eq(r->replies[2], 1);
	rig_request(r, REQ_UNDRAIN, 3, 0, r->u[0], NULL);
	ck_assert_uint_eq(r->replies[3], 0);
	rig_exit(r, 0, CHILD_EXITED, 1, 0);
	rig_run(r, MS(100));
	ck_assert_uint_eq(r->replies[3], 1);
	ck_assert_int_eq(r->reply[3], REPLY_FAILED);
	rig_free(r);
}
END_TEST

START_TEST(failing_ready_check_drains_and_a_passing_one_brings_it_back)
{
	struct rig *r = silent_rig(1);
	bring_in(r, 1);
	r->process[0].kind = RIG_UNREADY;
	rig_run(r, SEC(1));
	ck_assert_int_eq(phase(r), LBP_DRAINING);
	r->process[0].kind = RIG_GOOD;
	rig_run(r, SEC(1));
	ck_assert_int_eq(phase(r), LBP_CHECKING);
	agree(r, 0, 0, 0);
	agree(r, 0, 0, 0);
	ck_assert_int_eq(phase(r), LBP_IN);
	ck_assert_uint_eq(r->n_kills, 0);
	rig_free(r);
}
END_TEST

START_TEST(restored_core_wants_the_row_of_the_phase_again)
{
	static const char *const rows[LBP_MAX] = {[LBP_CHECKING] = "D",
		[LBP_RAMPING] = "R",
		[LBP_IN] = "R",
		[LBP_DRAINING] = "D",
		[LBP_LEAVING] = "M",
		[LBP_HELD] = "M"};
	for (unsigned p = LBP_CHECKING; p < LBP_MAX; p++) {
		struct rig *r = silent_rig(1);
		bring_in(r, 1);
		memset(r->wants, 0, sizeof(r->wants));
		r->rec[0].lb_phase = (uint8_t)p;
		if (p == LBP_DRAINING || p == LBP_LEAVING) {
			r->rec[0].want = WANT_DOWN;
			r->rec[0].stop_wanted = 1;
		}
		rig_crash_core(r);
		ck_assert_msg(startswith(r->wants, rows[p]), "%s: %s", lb_phase_name(p), r->wants);
		ck_assert_int_eq(phase(r), p);
		rig_free(r);
	}
}
END_TEST

START_TEST(unit_without_load_balancer_is_in_and_never_held)
{
	struct rig *r = silent_rig(0);
	rig_request(r, REQ_START, 0, 0, NULL, NULL);
	rig_run(r, SEC(1));
	ck_assert(unit_is_available(r->u[0]));
	rig_request(r, REQ_DRAIN, 2, 0, r->u[0], NULL);
	ck_assert_int_eq(r->reply[2], REPLY_REFUSED);
	rig_request(r, REQ_STOP, 0, 0, r->u[0], NULL);
	ck_assert_uint_eq(r->n_kills, 1);
	ck_assert_str_eq(r->wants, "");
	rig_free(r);
}
END_TEST

Suite *suite(void)
{
	Suite *s = suite_create("model lb");
	TCase *c = tcase_create("lb");
	tcase_add_test(c, entry_goes_maint_drain_check_ready_and_never_faster);
	tcase_add_test(c, load_balancer_without_checks_counts_as_soon_as_it_agrees);
	tcase_add_test(c, ramp_rises_step_by_step);
	tcase_add_test(c, drained_is_zero_twice_with_the_total_still_after_the_read_back);
	tcase_add_test(c, sample_with_an_old_serial_is_not_counted);
	tcase_add_test(c, every_load_balancer_has_to_be_drained);
	tcase_add_test(c, server_that_is_unknown_is_never_drained);
	tcase_add_test(c, timeout_forces_waits_or_gives_the_stop_up);
	tcase_add_test(c, stop_of_one_whose_drain_was_in_vain_is_given_up_in_time);
	tcase_add_test(c, shutdown_ends_a_drain_that_was_to_be_waited_for);
	tcase_add_test(c, stop_that_is_given_up_brings_back_only_what_is_ready);
	tcase_add_test(c, one_that_is_not_live_is_replaced_whatever_becomes_of_its_sessions);
	tcase_add_test(c, unreachable_one_is_skipped_or_waited_for_as_long_as_a_drain_may_take);
	tcase_add_test(c, death_of_the_process_takes_it_out_at_once_and_it_enters_from_the_start);
	tcase_add_test(c, restart_of_a_load_balancer_keeps_the_row_and_counts_anew);
	tcase_add_test(c, stop_of_one_that_is_out_drains_what_a_restarted_load_balancer_sent_it);
	tcase_add_test(
		c, stop_of_one_that_is_held_drains_again_after_the_load_balancer_was_restarted);
	tcase_add_test(c, operator_drains_and_it_stays_out_over_a_crash_until_undrained);
	tcase_add_test(c, undrain_is_answered_when_the_process_ends_before_it_is_in);
	tcase_add_test(c, failing_ready_check_drains_and_a_passing_one_brings_it_back);
	tcase_add_test(c, restored_core_wants_the_row_of_the_phase_again);
	tcase_add_test(c, unit_without_load_balancer_is_in_and_never_held);
	suite_add_tcase(s, c);
	return s;
}
