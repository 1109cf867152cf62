/* SPDX-License-Identifier: Apache-2.0 */
/*
 * When a unit that ended is started again, and when it no longer is.
 *
 *  1. Only automatic restarts are counted; a manual start clears count, limit and back-off.
 *  2. The delay before restart i is systemd 254's: RestartSec grows to RestartMaxDelaySec over
 *     RestartSteps by a constant factor. Unlike there, running reset_after_us in one piece clears
 *     it, so that a service which crashes once a month never waits the maximum.
 *  3. A clean exit does not make the next delay longer.
 *  4. Beyond StartLimitBurst= in StartLimitIntervalSec= a unit gives up (fail), or goes on at the
 *     longest delay it has, at least a second (slow).
 *
 * Called by instance.c.
 */
#include "parts.h"

#define SLOW_MIN_US USEC_PER_SEC
/* What an activation that ended in the very step it began waits at least: without a process to
 * wait for, "restart at once" would never end. */
#define INSTANT_MIN_US (100 * USEC_PER_MSEC)

static double power(double base, unsigned n)
{
	double r = 1;
	for (; n; n >>= 1, base *= base)
		if (n & 1)
			r *= base;
	return r;
}

/* ratio^(1/n) for ratio >= 1; by halving, because libm is not for pure code. */
static double root(double ratio, unsigned n)
{
	double low = 1, high = ratio;
	for (int i = 0; i < 100; i++) {
		double middle = (low + high) / 2;
		if (power(middle, n) < ratio)
			low = middle;
		else
			high = middle;
	}
	return (low + high) / 2;
}

uint64_t backoff_delay_us(const struct restart_conf *c, unsigned step)
{
	uint64_t first = c->sec_us;
	if (!c->steps || c->max_delay_us == USEC_INFINITY || c->max_delay_us <= first || !step ||
		first == USEC_INFINITY)
		return first;
	if (step >= c->steps)
		return c->max_delay_us;
	if (!first)
		first = 1;
	double factor = root((double)c->max_delay_us / (double)first, c->steps);
	return MIN((uint64_t)((double)first * power(factor, step) + 0.5), c->max_delay_us);
}

static uint64_t jittered(struct world *w, uint64_t delay, unsigned percent)
{
	if (!delay || !percent || delay == USEC_INFINITY)
		return delay;
	uint64_t range = delay / 100 * MIN(percent, 100u);
	return delay - range + world_random(w, 2 * range + 1);
}

/* True when this restart is one too many in the window. */
static bool limit_is_hit(struct world *w, struct unit *u)
{
	const struct restart_conf *c = &u->conf->service.restart;
	if (!c->limit_interval_us || !c->limit_burst)
		return false;
	if (!u->rec.limit_begin_us ||
		(c->limit_interval_us != USEC_INFINITY &&
			w->now_us - u->rec.limit_begin_us >= c->limit_interval_us)) {
		u->rec.limit_begin_us = w->now_us;
		u->rec.limit_count = 0;
	}
	if (u->rec.limit_count >= c->limit_burst)
		return true;
	u->rec.limit_count++;
	return false;
}

uint64_t backoff_next(struct world *w, struct unit *u)
{
	const struct restart_conf *c = &u->conf->service.restart;
	uint64_t delay = backoff_delay_us(c, u->rec.backoff_step);
	unit_touch(w, u);
	if (limit_is_hit(w, u)) {
		bool is_slow = c->on_limit == ON_LIMIT_SLOW;
		fx_event(w, EVENT_START_LIMIT, u, NULL,
			"%u restarts within the limit's interval: %s", u->rec.limit_count,
			is_slow ? "slowing down" : "giving up");
		if (!is_slow)
			return USEC_INFINITY;
		if (c->max_delay_us != USEC_INFINITY)
			delay = MAX(delay, c->max_delay_us);
		delay = MAX(delay, SLOW_MIN_US);
	}
	delay = jittered(w, delay, c->jitter_percent);
	if (w->now_us == u->started_us)
		delay = MAX(delay, INSTANT_MIN_US);
	u->rec.n_restarts++;
	if (u->rec.result != RES_SUCCESS)
		u->rec.backoff_step++;
	return delay;
}

void backoff_clear(struct world *w, struct unit *u)
{
	u->rec.backoff_step = u->rec.n_restarts = u->rec.limit_count = 0;
	u->rec.limit_begin_us = 0;
	unit_touch(w, u);
}

void backoff_running(struct world *w, struct unit *u)
{
	uint64_t after = u->conf->service.restart.reset_after_us;
	if (u->rec.backoff_step && after && after != USEC_INFINITY &&
		!u->timers[TIMER_STABLE].at_us)
		timer_arm(w, &u->timers[TIMER_STABLE], w->now_us + after);
}

void backoff_stable(struct world *w, struct unit *u)
{
	u->rec.backoff_step = 0;
	unit_touch(w, u);
}
