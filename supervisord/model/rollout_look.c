/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Looking at a rollout: what counts as serving, whose policy holds, and what it waits for.
 *
 *  1. Nothing here changes a rollout, except the text of what it waits for.
 *  2. Every wait has words: the first member under way, else what keeps the next from being begun.
 *
 * Called by rollout.c and rollout_begin.c.
 */
#include "model/rollout.h"

/* ---- looking ------------------------------------------------------------------------------------ */

struct timer *rollout_timer(struct set *s, enum timer_kind kind)
{
	return &s->timers[kind - TIMER_UNIT_MAX];
}

bool rollout_state_is_active(enum rollout_state state)
{
	return state == ROLL_PREFLIGHT || state == ROLL_SURGE || state == ROLL_ROLLING ||
	       state == ROLL_UNSURGE || state == ROLL_PAUSED || state == ROLL_ROLLING_BACK;
}

bool rollout_is_active(const struct set *s)
{
	return rollout_state_is_active(s->rollout.state);
}

/* What it does, also while paused. */
enum rollout_state rollout_phase(const struct set *s)
{
	const struct rollout_rec *r = &s->rollout;
	return r->state == ROLL_PAUSED ? r->resume_state : r->state;
}

unsigned rollout_total(const struct set *s)
{
	return MIN(s->rollout.count + s->rollout.surge, (unsigned)SET_MEMBERS_MAX);
}

bool rollout_is_extra(const struct set *s, unsigned i)
{
	return i >= s->rollout.count;
}

uint32_t rollout_target(const struct set *s)
{
	return s->rollout.is_rollback_wanted ? s->rollout.from_revision : s->rollout.to_revision;
}

/* The policy is the new revision's own. */
const struct rollout_conf *rollout_policy(const struct set *s)
{
	for (unsigned i = 0; i < SET_MEMBERS_MAX; i++) {
		const struct unit *u = s->members[i];
		if (!u)
			continue;
		if (u->next_conf && u->next_revision == s->rollout.to_revision &&
			!s->rollout.is_restart)
			return &u->next_conf->rollout;
		if (u->conf && u->rec.revision == s->rollout.to_revision)
			return &u->conf->rollout;
	}
	return s->members[0] ? &s->members[0]->conf->rollout : NULL;
}

uint64_t rollout_deadline_us(const struct set *s)
{
	const struct rollout_conf *c = rollout_policy(s);
	return c && c->progress_deadline_us ? c->progress_deadline_us : 600 * USEC_PER_SEC;
}

/* Canary=N|N%[:TIME], or what a person asked for: how many go first, and how long they soak; no time = a person resumes. */
unsigned rollout_canary(const struct set *s, uint64_t *ret_soak_us)
{
	const struct rollout_conf *c = rollout_policy(s);
	struct amount a = {.value = 1};
	const char *text, *colon;
	char *end;
	struct err e;
	unsigned n;

	*ret_soak_us = USEC_INFINITY;
	if (s->rollout.pause_after)
		return MIN(s->rollout.pause_after, s->rollout.count);
	if (!c || c->strategy != ROLLOUT_CANARY || s->rollout.is_undo || s->rollout.is_restart)
		return 0;
	text = strna(c->canary);
	if (*text) {
		a.value = (unsigned)strtoul(text, &end, 10);
		a.is_percent = *end == '%';
	}
	colon = strchr(text, ':');
	if (colon && parse_timespan(colon + 1, USEC_PER_SEC, ret_soak_us, &e) < 0)
		*ret_soak_us = USEC_INFINITY;
	n = amount_of(&a, s->rollout.count, true);
	return MIN(MAX(n, 1U), s->rollout.count);
}

uint64_t rollout_soak_us(const struct set *s, unsigned i)
{
	const struct rollout_conf *c = rollout_policy(s);
	uint64_t soak = c ? c->min_ready_us : 0, canary_us;
	unsigned n;

	if (s->rollout.is_rollback_wanted || s->rollout.is_undo)
		return 0;
	n = rollout_canary(s, &canary_us);
	if (n && !s->rollout.is_canary_passed && !rollout_is_extra(s, i) &&
		canary_us != USEC_INFINITY)
		soak = MAX(soak, canary_us);
	return soak == USEC_INFINITY ? 0 : soak;
}

/* Somebody said that it shall be down, or nobody ever said that it shall be up. A member that failed
 * is another thing, and so is a restart under way. */
bool unit_is_told_down(const struct unit *u)
{
	if (u->rec.restart_wanted || u->rec.want == WANT_UP)
		return false;
	return u->rec.want == WANT_DOWN || u->rec.state == INST_DEAD;
}

/* The same of a member under our hands: one that ended on the new release was to be up. */
bool rollout_is_told_down(const struct set *s, unsigned i)
{
	const struct unit *u = s->members[i];
	bool was_up = s->rollout.touched[i] == TOUCHED_FAILED && u->rec.want != WANT_DOWN;
	return !was_up && unit_is_told_down(u);
}

bool unit_is_held(const struct unit *u)
{
	return u->rec.lb_phase == LBP_HELD;
}

/* As good as it gets: serving, or ready and held out by an operator. */
bool unit_is_good(const struct unit *u)
{
	return unit_is_available(u) || (unit_is_held(u) && unit_is_up(u) && health_is_ready(u));
}

/* It gives nothing to anybody now and will not by itself soon: replacing it costs nothing. A member
 * on its way into the load balancer, or unobserved since that restarted, is not this. */
bool unit_is_worthless(const struct unit *u)
{
	return !unit_is_up(u) || !health_is_ready(u) || unit_is_held(u) || u->rec.is_unhealthy;
}

/* Members that serve and that nobody is about to take down (invariant 2). */
unsigned rollout_serving(const struct set *s)
{
	unsigned n = 0;

	for (unsigned i = 0; i < rollout_total(s); i++) {
		uint8_t step = s->rollout.step[i];
		if (s->members[i] && (step == STEP_PENDING || step == STEP_DONE))
			n += unit_is_available(s->members[i]);
	}
	return n;
}

unsigned rollout_needed(const struct set *s)
{
	return s->rollout.count - MIN(s->rollout.unavailable, s->rollout.count);
}

const char *unit_short_name(const struct unit *u, char *out, size_t size)
{
	const char *end = strstr(u->name, ".service");

	str_copy(out, u->name, size);
	if (end && (size_t)(end - u->name) < size)
		out[end - u->name] = '\0';
	return out;
}

bool rollout_all_done(const struct set *s, unsigned from, unsigned to)
{
	for (unsigned i = from; i < to; i++)
		if (s->rollout.step[i] != STEP_DONE)
			return false;
	return true;
}

bool rollout_is_blocked(const struct set *s, struct buf *why)
{
	const struct unit *u = s->members[0];

	return u && !lb_set_is_usable(s, &u->conf->lb, why);
}

bool rollout_is_on_target(const struct set *s, const struct unit *u)
{
	return s->rollout.is_restart || u->rec.revision == rollout_target(s) ||
	       (s->rollout.is_rollback_wanted && u->rec.revision != s->rollout.to_revision);
}

/* ---- what it waits for --------------------------------------------------------------------------------- */

static void member_wait_text(
	const struct world *w, const struct set *s, unsigned i, struct buf *out)
{
	const struct unit *u = s->members[i];
	enum rollout_step step = s->rollout.step[i];
	struct buf lb = {0}, why = {0};
	char span[TIMESPAN_MAX];

	buf_printf(out, "%s: ", SHORT(u));
	lb_waiting_text(w, u, &lb);
	if (step == STEP_READY) {
		buf_add_str(out, rollout_step_name(step));
		if (*u->health[CHECK_READY].text)
			buf_printf(out, " (%s)", u->health[CHECK_READY].text);
	} else if (step == STEP_SOAK) {
		buf_printf(out, "soaking for %s", format_timespan(span, rollout_soak_us(s, i)));
	} else if ((step == STEP_DRAIN || step == STEP_ENTER) && lb.size) {
		buf_add_str(out, lb.data);
		if (!lb_unit_is_known(u, NULL)) {
			buf_add_str(out, "; ");
			lb_unit_is_known(u, out);
		} else if (!lb_set_is_usable(s, &u->conf->lb, &why)) {
			buf_printf(out, "; %s", why.data);
		}
	} else {
		buf_add_str(out, rollout_step_name(step));
	}
	buf_done(&lb);
	buf_done(&why);
}

/* The key changes when the thing waited for is another one, not when a number in it moves. */
static uint32_t wait_describe(const struct world *w, const struct set *s, struct buf *out)
{
	const struct rollout_rec *r = &s->rollout;

	if (r->state == ROLL_PAUSED) {
		buf_add_str(out, "paused: stayctl rollout resume, or abort");
		return 1;
	}
	for (unsigned i = 0; i < rollout_total(s); i++) {
		if (r->step[i] == STEP_PENDING || r->step[i] >= STEP_DONE)
			continue;
		member_wait_text(w, s, i, out);
		return 0x10000U | i << 8 | r->step[i];
	}
	if (rollout_is_blocked(s, out))
		return 2;
	if (r->state == ROLL_ROLLING_BACK || !rollout_all_done(s, 0, rollout_total(s))) {
		buf_printf(out, "%u of %u members serve, more than %u are needed to go on",
			rollout_serving(s), r->count, rollout_needed(s));
		return 3;
	}
	return 0;
}

void rollout_say_wait(struct world *w, struct set *s)
{
	struct buf text = {0};
	uint32_t key = wait_describe(w, s, &text);

	str_copy(s->wait_text, text.size ? text.data : "", sizeof(s->wait_text));
	if (key != s->wait_key) {
		s->wait_key = key;
		s->wait_since_us = w->now_us;
		if (text.size)
			fx_event(w, EVENT_ROLLOUT_WAIT, NULL, s, "%s", s->wait_text);
	}
	buf_done(&text);
}
