/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Health checks of one instance: when to probe, and what the answers amount to.
 *
 *  1. Ready and live are not probed before startup has passed; startup is not probed after.
 *  2. A status changes only after rise (fall) equal answers in a row. Unknown counts as not ready
 *     and as alive (kubelet's initial values).
 *  3. An answer counts only if its number is that of the probe last sent.
 *  4. A live check that failed is on hold until the next activation: one verdict, one replacement.
 *  5. A unit is offered to its load balancers while health_is_ready(), never before.
 *
 * The readiness of the unit itself is its Type='s; health adds availability, and a startup check
 * that does not pass within TimeoutStartSec= fails the start (TIMER_STATE in state RUNNING).
 *
 * Called by instance.c and world.c.
 */
#include "parts.h"


/* Part of the interval within which the first probe of an activation is made. */
#define FIRST_PART 10

static bool has_check(const struct unit *u, enum check_kind c)
{
	return u->conf->type == UNIT_SERVICE && u->conf->health[c].target;
}

static bool passes(const struct unit *u, enum check_kind c)
{
	return !has_check(u, c) || u->rec.check_ok[c] == CHECK_PASSING;
}

bool health_is_ready(const struct unit *u)
{
	return passes(u, CHECK_STARTUP) && passes(u, CHECK_READY);
}

static struct timer *timer_of(struct unit *u, enum check_kind c)
{
	return &u->timers[TIMER_STARTUP + (int)c];
}

static void begin(struct world *w, struct unit *u, enum check_kind c, uint64_t within_us)
{
	if (!has_check(u, c))
		return;
	u->health[c].is_running = true;
	u->health[c].is_waiting = false;
	timer_arm(w, timer_of(u, c), w->now_us + world_random(w, within_us + 1));
}

static void end(struct world *w, struct unit *u, enum check_kind c)
{
	if (u->health[c].is_running)
		u->health[c].is_running = u->health[c].is_waiting = false;
	timer_drop(w, timer_of(u, c));
}

static void begin_all(struct world *w, struct unit *u, unsigned part)
{
	for (int c = 0; c < CHECK_KIND_MAX; c++) {
		bool is_its_time = c == CHECK_STARTUP
					   ? !passes(u, CHECK_STARTUP) || !has_check(u, c)
					   : passes(u, CHECK_STARTUP);
		bool is_on_hold = c == CHECK_LIVE && u->rec.check_ok[c] == CHECK_FAILING;
		if (is_its_time && !is_on_hold)
			begin(w, u, (enum check_kind)c, u->conf->health[c].interval_us / part);
	}
}

void health_start(struct world *w, struct unit *u)
{
	begin_all(w, u, FIRST_PART);
	if (health_is_ready(u))
		lb_unit_available(w, u);
}

void health_stop(struct world *w, struct unit *u)
{
	for (int c = 0; c < CHECK_KIND_MAX; c++)
		end(w, u, (enum check_kind)c);
}

/* Spread over a whole interval: after a restart of core all units would probe at once. */
void health_restored(struct world *w, struct unit *u)
{
	/* What the answers before were is not known any more: they are counted anew. */
	for (int c = 0; c < CHECK_KIND_MAX; c++) {
		if (u->rec.check_streak[c])
			unit_touch(w, u);
		u->rec.check_streak[c] = 0;
	}
	if (u->rec.state == INST_RUNNING || u->rec.state == INST_RELOAD)
		begin_all(w, u, 1);
}

/* The unit file was loaded again, and its process goes on. A start that is over is not judged anew;
 * what is asked of a running one is asked from now on. */
void health_conf_changed(struct world *w, struct unit *u)
{
	struct health *h = u->health;
	bool was_starting = h[CHECK_STARTUP].is_running;
	if (u->rec.state != INST_RUNNING && u->rec.state != INST_RELOAD)
		return;
	for (int c = 0; c < CHECK_KIND_MAX; c++)
		if (h[c].is_running && !has_check(u, (enum check_kind)c))
			end(w, u, (enum check_kind)c);
	if (was_starting && !h[CHECK_STARTUP].is_running && u->rec.state == INST_RUNNING)
		timer_drop(w, &u->timers[TIMER_STATE]);
	if (!was_starting && !passes(u, CHECK_STARTUP)) {
		u->rec.check_ok[CHECK_STARTUP] = CHECK_PASSING;
		unit_touch(w, u);
	}
	for (int c = CHECK_READY; c <= CHECK_LIVE && passes(u, CHECK_STARTUP); c++)
		if (!h[c].is_running && u->rec.check_ok[c] != CHECK_FAILING)
			begin(w, u, (enum check_kind)c, u->conf->health[c].interval_us);
	unit_poke(w, u);
	set_unit_changed(w, u);
}

/* ---- verdicts ---- */

static void startup_passed(struct world *w, struct unit *u)
{
	end(w, u, CHECK_STARTUP);
	if (u->rec.state == INST_RUNNING)
		timer_drop(w, &u->timers[TIMER_STATE]);
	begin(w, u, CHECK_READY, u->conf->health[CHECK_READY].interval_us / FIRST_PART);
	begin(w, u, CHECK_LIVE, u->conf->health[CHECK_LIVE].interval_us / FIRST_PART);
	if (health_is_ready(u))
		lb_unit_available(w, u);
}

static void ready_changed(struct world *w, struct unit *u, uint8_t from)
{
	if (u->rec.check_ok[CHECK_READY] == CHECK_PASSING) {
		fx_event(w, EVENT_HEALTHY, u, NULL, "ready check: %s", u->health[CHECK_READY].text);
		lb_unit_available(w, u);
		return;
	}
	fx_event(w, EVENT_UNHEALTHY, u, NULL, "ready check: %s", u->health[CHECK_READY].text);
	if (from != CHECK_PASSING)
		return;
	lb_unit_unavailable(w, u);
	if (rollout_owns(u))
		rollout_unit_failed(w, u, u->health[CHECK_READY].text);
}

static void live_failed(struct world *w, struct unit *u)
{
	char why[160];
	snprintf(why, sizeof(why), "live check: %s", u->health[CHECK_LIVE].text);
	end(w, u, CHECK_LIVE);
	fx_event(w, EVENT_UNHEALTHY, u, NULL, "%s; it will be replaced", why);
	u->rec.is_unhealthy = 1;
	if (rollout_owns(u))
		rollout_unit_failed(w, u, why);
}

static void verdict(struct world *w, struct unit *u, enum check_kind c, bool is_ok)
{
	uint8_t from = u->rec.check_ok[c], to = is_ok ? CHECK_PASSING : CHECK_FAILING;
	if (from == to)
		return;
	u->rec.check_ok[c] = to;
	if (c == CHECK_STARTUP && is_ok)
		startup_passed(w, u);
	else if (c == CHECK_READY)
		ready_changed(w, u, from);
	else if (c == CHECK_LIVE && !is_ok)
		live_failed(w, u);
	unit_touch(w, u);
	unit_poke(w, u);
	set_unit_changed(w, u);
}

static void answered(struct world *w, struct unit *u, enum check_kind c, bool is_ok)
{
	const struct health_check *k = &u->conf->health[c];
	struct health *h = &u->health[c];
	uint8_t *streak = &u->rec.check_streak[c], before = *streak;
	h->is_waiting = false;
	h->last_us = w->now_us;
	if (h->last_ok != is_ok)
		*streak = 0;
	h->last_ok = is_ok;
	/* Beyond what a verdict needs it is not counted: else each answer changed the record. */
	if (*streak < MIN(MAX(MAX(k->rise, k->fall), 1u), (unsigned)UINT8_MAX))
		(*streak)++;
	if (*streak != before)
		unit_touch(w, u);
	timer_arm(w, timer_of(u, c), w->now_us + k->interval_us);
	if (*streak >= MAX(1u, is_ok ? k->rise : k->fall))
		verdict(w, u, c, is_ok);
}

void health_probed(struct world *w, struct unit *u, const struct event *ev)
{
	struct health *h = &u->health[ev->check];
	if (!h->is_running || !h->is_waiting || h->number != ev->number)
		return;
	str_copy(h->text, strna(ev->text), sizeof(h->text));
	h->latency_us = ev->latency_us;
	answered(w, u, ev->check, ev->ok);
}

void health_timer(struct world *w, struct unit *u, enum check_kind c)
{
	const struct health_check *k = &u->conf->health[c];
	struct health *h = &u->health[c];
	if (!h->is_running || !has_check(u, c))
		return;
	/* Who was asked always answers, a timeout too: silence means that it died, and says nothing
	 * about the service. It is asked again. */
	if (h->is_waiting)
		str_copy(h->text, "no answer, asked again", sizeof(h->text));
	h->is_waiting = true;
	h->number = ++u->probe_number;
	struct effect *e = fx_add(w, FX_PROBE);
	e->unit = u;
	e->check = c;
	e->number = h->number;
	e->timeout_us = k->timeout_us;
	timer_arm(w, timer_of(u, c), w->now_us + k->timeout_us + k->interval_us);
}
