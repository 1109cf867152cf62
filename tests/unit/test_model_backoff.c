/* SPDX-License-Identifier: Apache-2.0 */
#include "../model_conf.h"
#include "../model_stubs.h"
#include "check_main.h"

static struct restart_conf growing(void)
{
	return (struct restart_conf){
		.sec_us = USEC_PER_SEC, .steps = 4, .max_delay_us = 16 * USEC_PER_SEC};
}

START_TEST(the_delay_grows_by_a_constant_factor_to_the_maximum)
{
	struct restart_conf c = growing();
	static const unsigned seconds[] = {1, 2, 4, 8, 16, 16, 16};
	for (unsigned i = 0; i < ARRAY_SIZE(seconds); i++)
		ck_assert_uint_eq(backoff_delay_us(&c, i), seconds[i] * USEC_PER_SEC);
}
END_TEST

START_TEST(without_steps_or_maximum_the_delay_is_restart_sec)
{
	struct restart_conf c = growing();
	c.steps = 0;
	ck_assert_uint_eq(backoff_delay_us(&c, 9), USEC_PER_SEC);
	c = growing();
	c.max_delay_us = USEC_INFINITY;
	ck_assert_uint_eq(backoff_delay_us(&c, 9), USEC_PER_SEC);
}
END_TEST

START_TEST(the_delay_never_shrinks_and_never_passes_the_maximum)
{
	for (unsigned steps = 1; steps < 40; steps++)
		for (uint64_t first = 0; first < 5000000; first = first * 3 + 1) {
			struct restart_conf c = {
				.sec_us = first, .steps = steps, .max_delay_us = 7000001};
			uint64_t last = 0;
			for (unsigned i = 0; i <= steps + 1; i++) {
				uint64_t d = backoff_delay_us(&c, i);
				ck_assert_uint_ge(d, last);
				ck_assert_uint_le(d, c.max_delay_us);
				last = d;
			}
			ck_assert_uint_eq(last, c.max_delay_us);
		}
}
END_TEST

static struct arena arena;
static struct effects fx;
static struct world *w;
static struct unit *u;

static struct restart_conf *begin(void)
{
	struct unit_conf *c = conf_service(&arena, "a.service", SERVICE_SIMPLE);
	w = world_new(3);
	w->now_us = 100 * USEC_PER_SEC;
	w->fx = &fx;
	u = world_put_unit(w, c);
	u->rec.result = RES_EXIT_CODE;
	return &c->service.restart;
}

static void finish(void)
{
	world_free(w);
	effects_done(&fx);
	arena_done(&arena);
}

START_TEST(the_limit_ends_restarts_after_burst_within_interval)
{
	begin();
	for (int i = 0; i < 5; i++)
		ck_assert_uint_eq(backoff_next(w, u), 100 * USEC_PER_MSEC);
	ck_assert_uint_eq(backoff_next(w, u), USEC_INFINITY);
	w->now_us += 10 * USEC_PER_SEC;
	ck_assert_uint_eq(backoff_next(w, u), 100 * USEC_PER_MSEC);
	finish();
}
END_TEST

START_TEST(a_manual_start_clears_the_limit)
{
	begin();
	for (int i = 0; i < 5; i++)
		backoff_next(w, u);
	backoff_clear(w, u);
	ck_assert_uint_eq(backoff_next(w, u), 100 * USEC_PER_MSEC);
	ck_assert_uint_eq(u->rec.n_restarts, 1);
	finish();
}
END_TEST

START_TEST(slow_goes_on_beyond_the_limit_at_a_second_or_the_longest_delay)
{
	struct restart_conf *c = begin();
	c->on_limit = ON_LIMIT_SLOW;
	for (int i = 0; i < 5; i++)
		backoff_next(w, u);
	ck_assert_uint_eq(backoff_next(w, u), USEC_PER_SEC);
	c->max_delay_us = 9 * USEC_PER_SEC;
	ck_assert_uint_eq(backoff_next(w, u), 9 * USEC_PER_SEC);
	finish();
}
END_TEST

START_TEST(jitter_stays_within_its_percentage)
{
	struct restart_conf *c = begin();
	c->jitter_percent = 10;
	c->limit_interval_us = 0;
	bool is_varied = false;
	for (int i = 0; i < 1000; i++) {
		uint64_t d = backoff_next(w, u);
		ck_assert_uint_ge(d, 90 * USEC_PER_MSEC);
		ck_assert_uint_le(d, 110 * USEC_PER_MSEC);
		is_varied |= d != 100 * USEC_PER_MSEC;
	}
	ck_assert(is_varied);
	finish();
}
END_TEST

START_TEST(a_clean_exit_does_not_raise_the_delay_and_stable_running_clears_it)
{
	begin();
	u->rec.result = RES_SUCCESS;
	backoff_next(w, u);
	ck_assert_uint_eq(u->rec.backoff_step, 0);
	u->rec.result = RES_SIGNAL;
	backoff_next(w, u);
	ck_assert_uint_eq(u->rec.backoff_step, 1);
	backoff_running(w, u);
	ck_assert_uint_eq(u->timers[TIMER_STABLE].at_us, w->now_us + 60 * USEC_PER_SEC);
	backoff_stable(w, u);
	ck_assert_uint_eq(u->rec.backoff_step, 0);
	finish();
}
END_TEST

Suite *suite(void)
{
	Suite *s = suite_create("model backoff");
	TCase *t = tcase_create("backoff");
	tcase_add_test(t, the_delay_grows_by_a_constant_factor_to_the_maximum);
	tcase_add_test(t, without_steps_or_maximum_the_delay_is_restart_sec);
	tcase_add_test(t, the_delay_never_shrinks_and_never_passes_the_maximum);
	tcase_add_test(t, the_limit_ends_restarts_after_burst_within_interval);
	tcase_add_test(t, a_manual_start_clears_the_limit);
	tcase_add_test(t, slow_goes_on_beyond_the_limit_at_a_second_or_the_longest_delay);
	tcase_add_test(t, jitter_stays_within_its_percentage);
	tcase_add_test(t, a_clean_exit_does_not_raise_the_delay_and_stable_running_clears_it);
	suite_add_tcase(s, t);
	return s;
}
