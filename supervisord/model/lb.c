/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One instance and its load balancers.
 *
 * Owns unit->lb, rec.lb_phase, TIMER_LB and TIMER_RAMP. It edits one wanted row per instance
 * (FX_LB_WANT goes to every load balancer of the set; a reconciler outside pushes and reads back)
 * and believes only what was observed afterwards. lb.def is the whole state machine.
 *
 *  1. Traffic is given back in one order only: maint read back, drain read back and the load
 *     balancer's own check passing, then ready. HAProxy takes a server for up when it leaves
 *     maint, before the first check: one client gets a 503 for each such hurry.
 *  2. Drained means: on every load balancer that counts, two samples in a row with zero sessions and
 *     an unchanged total, both taken after the sample that read the drain back. One zero proves
 *     nothing: a client with a kept-alive connection has none between two requests. The same is
 *     asked before a stop of one that is out: a load balancer that was restarted took every server for
 *     ready until the row was pushed again.
 *     LEAVING looks once more: with maint read back nothing may be under way. A load balancer that was
 *     reloaded answers for its new process only; what the old one still has in hand core counts
 *     (connections of the instance itself that owe an answer) and adds to the sessions here.
 *  3. READY is never wanted for a process that is not running: lb_unit_gone() wants maint in the
 *     step that saw the exit.
 *  4. Samples count only when their serial grows, and start anew when a load balancer restarted or
 *     came back. The wanted row does not change then: the reconciler pushes it again.
 *  5. A server a load balancer does not know is never drained and never in.
 *  6. Every wait has an end (DrainTimeoutSec=, for LEAVING at least LEAVE_US) except the entry, which is
 *     bounded by whoever waits for it (a rollout's progress deadline), a drain that nobody waits for,
 *     and OnDrainTimeout=wait, which was asked for; a shutdown ends that, too.
 *
 * Core reports a load balancer as unreachable when it loses its link to the process that talks to
 * it: serials may begin again only across such a break or a new generation.
 *
 * Called by instance.c, health.c, job.c (lb_hold_stop), world.c (samples, timers, restore).
 */
#include "model/parts.h"

#define LEAVE_US  (5 * USEC_PER_SEC) /* for maint to be read back; then it goes on without */
#define ZERO_SEEN 2                  /* samples in a row with zero sessions */
#define FEED_MAX  8                  /* phases one event may pass through */

#define LB_EVENTS(EVENT)                                                                           \
	EVENT(AVAILABLE)                                                                           \
	EVENT(UNAVAILABLE)                                                                         \
	EVENT(GONE)                                                                                \
	EVENT(HOLD)                                                                                \
	EVENT(OBSERVED)                                                                            \
	EVENT(TIMEOUT)                                                                             \
	EVENT(RAMP)                                                                                \
	EVENT(OP_DRAIN)                                                                            \
	EVENT(OP_UNDRAIN)

enum lb_event {
#define EVENT(id) LBE_##id,
	LB_EVENTS(EVENT)
#undef EVENT
		LBE_MAX,
};

/* ---- what counts -------------------------------------------------------------------------- */

static unsigned lb_count(const struct unit *u)
{
	if (!u->set || !u->conf || !u->conf->lb.is_set)
		return 0;
	return (unsigned)MIN(u->conf->lb.address.n, (size_t)SET_LBS_MAX);
}

static bool is_reachable(const struct unit *u, unsigned i)
{
	return u->set->lb[i].is_known && u->set->lb[i].is_reachable;
}

static unsigned reachable_count(const struct unit *u)
{
	unsigned n = 0;
	for (unsigned i = 0; i < lb_count(u); i++)
		n += is_reachable(u, i);
	return n;
}

/* Nothing reachable: only Unreachable=skip goes on, and only when that was really heard. */
static bool may_go_on_alone(const struct unit *u)
{
	for (unsigned i = 0; i < lb_count(u); i++)
		if (!u->set->lb[i].is_known)
			return false;
	return u->conf->lb.unreachable == UNREACHABLE_SKIP;
}

/* The row as wanted was read back with this state. */
static bool reads_back(const struct unit *u, unsigned i, enum lb_state state)
{
	const struct lb_sample *s = &u->lb->sample[i];
	return s->serial && s->known && s->in_sync && s->state == (uint32_t)state;
}

static bool all_read_back(const struct unit *u, enum lb_state state)
{
	for (unsigned i = 0; i < lb_count(u); i++)
		if (is_reachable(u, i) && !reads_back(u, i, state))
			return false;
	return reachable_count(u) > 0 || may_go_on_alone(u);
}

/* Invariant 2 for one load balancer; an unreachable one counts as not drained unless skipped. */
static bool is_drained_on(const struct unit *u, unsigned i)
{
	if (!is_reachable(u, i))
		return u->set->lb[i].is_known && u->conf->lb.unreachable == UNREACHABLE_SKIP;
	return reads_back(u, i, LB_DRAIN) && u->lb->zero_seen[i] >= ZERO_SEEN;
}

static bool is_drained(const struct unit *u)
{
	for (unsigned i = 0; i < lb_count(u); i++)
		if (!is_drained_on(u, i))
			return false;
	return true;
}

static bool is_stop_wanted(const struct unit *u)
{
	return u->rec.stop_wanted || u->rec.restart_wanted || u->rec.want == WANT_DOWN ||
	       u->rec.is_unhealthy;
}

static bool is_enterable(const struct unit *u)
{
	return unit_is_up(u) && health_is_ready(u) && !is_stop_wanted(u);
}

static uint64_t sessions_seen(const struct unit *u)
{
	uint64_t n = 0;
	for (unsigned i = 0; i < lb_count(u); i++)
		n += is_reachable(u, i) ? u->lb->sample[i].sessions : 0;
	return n;
}

/* Sessions left, and on how many of the load balancers something is still to end. */
static void sessions_text(const struct unit *u, struct buf *out)
{
	uint64_t sessions = 0;
	unsigned busy = 0, unseen = 0, n = lb_count(u);

	for (unsigned i = 0; i < n; i++) {
		if (is_drained_on(u, i))
			continue;
		busy++;
		sessions += u->lb->sample[i].sessions;
		unseen += !is_reachable(u, i);
	}
	buf_printf(out, "%llu session%s left on %u of %u load balancer%s",
		(unsigned long long)sessions, sessions == 1 ? "" : "s", busy, n, n == 1 ? "" : "s");
	if (unseen)
		buf_printf(out, ", %u unreachable", unseen);
}

/* ---- the wanted row ------------------------------------------------------------------------ */

static void lb_want(struct world *w, struct unit *u, enum lb_state state, unsigned weight)
{
	struct effect *fx;

	if (u->lb->wanted == state && u->lb->weight == weight)
		return;
	u->lb->wanted = state;
	u->lb->weight = weight;
	u->lb->is_drained &= state != LB_READY;
	for (unsigned i = 0; i < SET_LBS_MAX; i++)
		u->lb->zero_seen[i] = 0, u->lb->first_serial[i] = 0;
	fx = fx_add(w, FX_LB_WANT);
	fx->unit = u;
	fx->set = u->set;
	fx->lb_state = state;
	fx->weight = weight;
}

static void sample_fast(struct world *w, struct unit *u, uint64_t for_us)
{
	struct effect *fx = fx_add(w, FX_LB_FAST);
	fx->set = u->set;
	fx->unit = u;
	fx->number = for_us == USEC_INFINITY ? 60000 : for_us / USEC_PER_MSEC;
}

static unsigned ramp_percent(const struct unit *u)
{
	const struct lb_conf *c = &u->conf->lb;
	return c->ramp.n && u->lb->ramp_step < c->ramp.n ? c->ramp.percent[u->lb->ramp_step] : 100;
}

static bool is_ramp_over(const struct unit *u)
{
	return (size_t)u->lb->ramp_step + 1 >= u->conf->lb.ramp.n;
}

/* Answers whoever asked for DRAIN or UNDRAIN. */
static void answer(struct world *w, struct unit *u, enum reply_result result, const char *text)
{
	if (!u->lb->request)
		return;
	fx_reply(w, u->lb->request, result, "%s: %s", u->name, text);
	u->lb->request = 0;
}

static void arm_drain(struct world *w, struct unit *u)
{
	uint64_t t = u->conf->lb.drain_timeout_us;
	sample_fast(w, u, t);
	timer_arm(w, &u->timers[TIMER_LB], t == USEC_INFINITY ? t : w->now_us + t);
}

/* ---- the choices of lb.def ----------------------------------------------------------------- */

static enum lb_phase pick_enter(struct world *w, struct unit *u)
{
	(void)w;
	return is_enterable(u) && all_read_back(u, LB_MAINT) ? LBP_CHECKING : LBP_OUT;
}

static enum lb_phase pick_checked(struct world *w, struct unit *u)
{
	(void)w;
	if (!all_read_back(u, LB_DRAIN))
		return LBP_CHECKING;
	for (unsigned i = 0; i < lb_count(u); i++) {
		uint32_t check = u->lb->sample[i].check;
		if (is_reachable(u, i) && check != LB_CHECK_OK && check != LB_CHECK_NONE)
			return LBP_CHECKING;
	}
	return LBP_RAMPING;
}

static enum lb_phase pick_ramped(struct world *w, struct unit *u)
{
	(void)w;
	if (!is_ramp_over(u) || !all_read_back(u, LB_READY))
		return LBP_RAMPING;
	for (unsigned i = 0; i < lb_count(u); i++)
		if (is_reachable(u, i) && !u->lb->sample[i].is_up)
			return LBP_RAMPING;
	return LBP_IN;
}

static enum lb_phase pick_ramp_step(struct world *w, struct unit *u)
{
	if (is_ramp_over(u))
		return LBP_RAMPING;
	u->lb->ramp_step++;
	lb_want(w, u, LB_READY, ramp_percent(u));
	if (!is_ramp_over(u))
		timer_arm(w, &u->timers[TIMER_RAMP], w->now_us + u->conf->lb.ramp.step_us);
	return LBP_RAMPING;
}

static enum lb_phase pick_drained(struct world *w, struct unit *u)
{
	if (is_enterable(u))
		return LBP_CHECKING; /* the stop was called off, or the ready check passes again */
	if (!is_drained(u))
		return LBP_DRAINING;
	u->lb->is_drained = true;
	fx_event(w, EVENT_LB_DRAINED, u, NULL, "drained in %llu ms",
		(unsigned long long)((w->now_us - u->lb->since_us) / USEC_PER_MSEC));
	return LBP_LEAVING;
}

/* Invariant 2 for one that is out: a load balancer from which it may have sessions all the same. */
static bool has_doubt(const struct unit *u)
{
	if (!unit_is_up(u) || u->lb->is_forced || u->lb->is_drained)
		return false;
	for (unsigned i = 0; i < lb_count(u); i++) {
		const struct lb_sample *s = &u->lb->sample[i];
		bool is_unknown = s->serial && !s->known;
		if (is_reachable(u, i) && !is_unknown && u->lb->zero_seen[i] < ZERO_SEEN)
			return true;
	}
	return false;
}

static bool is_unseen(const struct unit *u)
{
	for (unsigned i = 0; i < lb_count(u); i++)
		if (is_reachable(u, i) && !u->lb->sample[i].serial)
			return true;
	return false;
}

/* A stop while it is out: look first, for as long as that may take, then drain if need be. */
static enum lb_phase pick_out_hold(struct world *w, struct unit *u)
{
	(void)w;
	if (!has_doubt(u))
		return LBP_OUT;
	return is_unseen(u) ? LBP_LEAVING : LBP_DRAINING;
}

static enum lb_phase pick_left_timeout(struct world *w, struct unit *u)
{
	(void)w;
	u->lb->is_forced = true; /* not waited for twice */
	return LBP_OUT;
}

static enum lb_phase pick_left(struct world *w, struct unit *u)
{
	(void)w;
	if (!all_read_back(u, LB_MAINT) || (!u->lb->is_forced && sessions_seen(u)))
		return LBP_LEAVING;
	return LBP_OUT;
}

/* OnDrainTimeout=abort: the stop does not happen; everybody who waits for it is told. */
static void give_up_stop(struct world *w, struct unit *u, const char *why)
{
	u->rec.stop_wanted = u->rec.restart_wanted = 0;
	u->rec.want = WANT_UP;
	for (unsigned i = 0; i < u->n_requests; i++)
		fx_reply(w, u->requests[i], REPLY_REFUSED, "%s: %s", u->name, why);
	u->n_requests = 0;
	unit_touch(w, u);
	rollout_unit_failed(w, u, why);
	unit_want(w, u, WANT_UP, u->rec.is_manual, 0);
}

static enum lb_phase pick_drain_timeout(struct world *w, struct unit *u)
{
	enum drain_policy policy = u->conf->lb.on_drain_timeout;
	enum lb_phase next = LBP_DRAINING;
	bool is_given_up = false;
	struct buf text = {0};

	/* A shutdown is bounded whatever the file says. And of the replacement of one that is not live
	 * there is nothing to give up: nobody asked for it, and nobody wants the instance back. */
	if (w->is_shutting_down || (policy == DRAIN_ABORT && u->rec.is_unhealthy))
		policy = DRAIN_FORCE;
	buf_add_str(&text, "drain timeout: ");
	sessions_text(u, &text);
	if (policy == DRAIN_FORCE) {
		buf_add_str(&text, "; going on without them");
		u->lb->is_forced = true;
		next = LBP_LEAVING;
	} else if (policy == DRAIN_ABORT && is_stop_wanted(u)) {
		buf_add_str(&text, "; the stop is given up");
		is_given_up = true;
	} else {
		buf_add_str(&text, "; still waiting");
	}
	fx_event(w, EVENT_LB_FORCED, u, NULL, "%s", text.data);
	if (is_given_up)
		give_up_stop(w, u, text.data);
	buf_done(&text);
	/* One that is not ready stays out until it is. */
	return is_given_up && is_enterable(u) ? LBP_CHECKING : next;
}

/* HELD has two halves: wanted drain until drained, then maint. */
static enum lb_phase pick_held(struct world *w, struct unit *u)
{
	if (u->lb->wanted == LB_DRAIN && is_drained(u)) {
		u->lb->is_drained = true;
		timer_drop(w, &u->timers[TIMER_LB]);
		fx_event(w, EVENT_LB_DRAINED, u, NULL, "held out of the load balancer");
		lb_want(w, u, LB_MAINT, 100);
		answer(w, u, REPLY_DONE, "drained");
	}
	return LBP_HELD;
}

/* A stop of one that is held: what is held out may have to be drained as well (has_doubt()). */
static enum lb_phase pick_held_hold(struct world *w, struct unit *u)
{
	if (u->lb->wanted != LB_DRAIN && has_doubt(u)) {
		lb_want(w, u, LB_DRAIN, 100);
		arm_drain(w, u);
	}
	return LBP_HELD;
}

static enum lb_phase pick_held_timeout(struct world *w, struct unit *u)
{
	struct buf text = {0};
	enum lb_phase next = LBP_HELD;

	if (u->lb->wanted != LB_DRAIN)
		return next;
	buf_add_str(&text, "drain timeout: ");
	sessions_text(u, &text);
	fx_event(w, EVENT_LB_FORCED, u, NULL, "%s", text.data);
	if (is_stop_wanted(u) || u->conf->lb.on_drain_timeout == DRAIN_FORCE) {
		u->lb->is_forced = true;
		lb_want(w, u, LB_MAINT, 100);
		answer(w, u, REPLY_DONE, text.data);
	} else if (u->conf->lb.on_drain_timeout == DRAIN_ABORT) {
		answer(w, u, REPLY_REFUSED, text.data);
		next = is_enterable(u) ? LBP_CHECKING : LBP_DRAINING;
	}
	buf_done(&text);
	return next;
}

static enum lb_phase pick_held_gone(struct world *w, struct unit *u)
{
	timer_drop(w, &u->timers[TIMER_LB]);
	lb_want(w, u, LB_MAINT, 100);
	answer(w, u, REPLY_DONE, "its process ended");
	return LBP_HELD;
}

static enum lb_phase pick_undrain(struct world *w, struct unit *u)
{
	(void)w;
	return is_enterable(u) && u->lb->wanted == LB_DRAIN ? LBP_CHECKING : LBP_OUT;
}

/* ---- the machine ----------------------------------------------------------------------------- */

struct row {
	enum lb_phase next;
	enum lb_phase (*pick)(struct world *, struct unit *);
	const char *never; /* why it cannot be */
};

/* Every row is an enumerator, every pair refers to one: a double or a gap does not compile. */
enum {
#define GO(p, e, n)    ROW_##p##_##e,
#define PICK(p, e, fn) ROW_##p##_##e,
#define STAY(p, e)     ROW_##p##_##e,
#define NEVER(p, e, y) ROW_##p##_##e,
#include "model/lb.def"
#undef GO
#undef PICK
#undef STAY
#undef NEVER
	ROW_MAX,
};

static const struct row rows[ROW_MAX] = {
#define GO(p, e, n)    [ROW_##p##_##e] = {LBP_##n, NULL, NULL},
#define PICK(p, e, fn) [ROW_##p##_##e] = {LBP_##p, fn, NULL},
#define STAY(p, e)     [ROW_##p##_##e] = {LBP_##p, NULL, NULL},
#define NEVER(p, e, y) [ROW_##p##_##e] = {LBP_##p, NULL, y},
#include "model/lb.def"
#undef GO
#undef PICK
#undef STAY
#undef NEVER
};

_Static_assert(LBE_MAX <= COVERAGE_EVENTS_MAX, "counted in world->lb_coverage");

#define ROWS_OF(p)                                                                                 \
	{                                                                                          \
		ROW_##p##_AVAILABLE, ROW_##p##_UNAVAILABLE, ROW_##p##_GONE, ROW_##p##_HOLD,        \
			ROW_##p##_OBSERVED, ROW_##p##_TIMEOUT, ROW_##p##_RAMP, ROW_##p##_OP_DRAIN, \
			ROW_##p##_OP_UNDRAIN                                                       \
	}
static const uint8_t table[LBP_MAX][LBE_MAX] = {
#define PHASE(id, text) [LBP_##id] = ROWS_OF(id),
	LB_PHASES(PHASE)
#undef PHASE
};

char lb_row_kind(enum lb_phase p, unsigned event, const char **ret_event)
{
	static const char *const names[] = {
#define EVENT(id) #id,
		LB_EVENTS(EVENT)
#undef EVENT
	};
	if (event >= LBE_MAX)
		return 0;
	const struct row *row = &rows[table[p][event]];
	*ret_event = names[event];
	return row->never ? 'N' : row->pick ? 'P' : row->next == p ? 'S' : 'G';
}

const char *lb_row_why(enum lb_phase p, unsigned event)
{
	return rows[table[p][event]].never;
}

static void enter_draining(struct world *w, struct unit *u)
{
	struct buf text = {0};
	uint64_t sessions = 0;

	for (unsigned i = 0; i < lb_count(u); i++)
		sessions += u->lb->sample[i].sessions;
	buf_printf(&text, "draining, %llu sessions", (unsigned long long)sessions);
	fx_event(w, EVENT_LB_DRAIN, u, NULL, "%s", text.data);
	buf_done(&text);
	u->lb->is_forced = false;
	lb_want(w, u, LB_DRAIN, 100);
	arm_drain(w, u);
}

static void enter_ramping(struct world *w, struct unit *u)
{
	u->lb->ramp_step = 0;
	lb_want(w, u, LB_READY, ramp_percent(u));
	if (!is_ramp_over(u))
		timer_arm(w, &u->timers[TIMER_RAMP], w->now_us + u->conf->lb.ramp.step_us);
}

static void enter_held(struct world *w, struct unit *u, enum lb_phase from)
{
	if (from == LBP_OUT || from == LBP_LEAVING || !unit_is_up(u)) {
		lb_want(w, u, LB_MAINT, 100);
		answer(w, u, REPLY_DONE, "drained");
		return;
	}
	fx_event(w, EVENT_LB_DRAIN, u, NULL, "draining by request");
	u->lb->is_forced = false;
	lb_want(w, u, LB_DRAIN, 100);
	arm_drain(w, u);
}

/* Entering a phase owns its timers and its wanted row. */
static void enter(struct world *w, struct unit *u, enum lb_phase next)
{
	enum lb_phase from = u->rec.lb_phase;
	uint64_t drain_at_us = from == LBP_DRAINING ? u->timers[TIMER_LB].at_us : 0;

	timer_drop(w, &u->timers[TIMER_LB]);
	timer_drop(w, &u->timers[TIMER_RAMP]);
	u->rec.lb_phase = (uint8_t)next;
	u->lb->since_us = w->now_us;
	unit_touch(w, u);
	switch (next) {
	case LBP_OUT:
		lb_want(w, u, LB_MAINT, 100);
		break;
	case LBP_CHECKING:
		fx_event(w, EVENT_LB_ENTER, u, NULL, "waiting for the load balancer's check");
		u->lb->is_forced = false;
		lb_want(w, u, LB_DRAIN, 100);
		sample_fast(w, u, u->conf->lb.drain_timeout_us);
		break;
	case LBP_RAMPING:
		enter_ramping(w, u);
		break;
	case LBP_IN:
		fx_event(w, EVENT_LB_IN, u, NULL, "in the load balancer");
		answer(w, u, REPLY_DONE, "in the load balancer");
		break;
	case LBP_DRAINING:
		enter_draining(w, u);
		break;
	case LBP_LEAVING:
		lb_want(w, u, LB_MAINT, 100);
		sample_fast(w, u, MAX(drain_at_us, w->now_us + LEAVE_US) - w->now_us);
		timer_arm(w, &u->timers[TIMER_LB], MAX(drain_at_us, w->now_us + LEAVE_US));
		break;
	case LBP_HELD:
		enter_held(w, u, from);
		break;
	case LBP_NONE:
	case LBP_MAX:
		break;
	}
}

/* Runs the machine until the phase holds still. The unit and its set look again when it moved. */
static void feed(struct world *w, struct unit *u, enum lb_event event)
{
	bool moved = false;
	enum lb_state wanted = u->lb->wanted;

	for (unsigned i = 0; i < FEED_MAX; i++) {
		enum lb_phase from = u->rec.lb_phase;
		const struct row *row = &rows[table[from][event]];
		enum lb_phase next;

		if (w->lb_coverage)
			w->lb_coverage[from][event]++;
		if (row->never) {
			w->step_error = -EINVAL;
			return;
		}
		next = row->pick ? row->pick(w, u) : row->next;
		if (next == from)
			break;
		enter(w, u, next);
		moved = true;
		if (event == LBE_GONE)
			break; /* its state still says up: this is told while leaving it */
		event = LBE_OBSERVED;
	}
	if (moved || wanted != u->lb->wanted)
		unit_poke(w, u);
	set_unit_changed(w, u);
}

/* Makes or drops unit->lb as the conf in force says; false: this unit has no load balancer. */
static bool attach(struct world *w, struct unit *u)
{
	unsigned n = lb_count(u);

	if (!n) {
		if (u->lb && u->rec.lb_phase != LBP_NONE) {
			struct effect *fx = fx_add(w, FX_LB_FORGET);
			fx->unit = u;
			fx->set = u->set;
			timer_drop(w, &u->timers[TIMER_LB]);
			timer_drop(w, &u->timers[TIMER_RAMP]);
			u->rec.lb_phase = LBP_NONE;
			unit_touch(w, u);
		}
		return false;
	}
	u->set->n_lbs = MAX(u->set->n_lbs, n);
	if (!u->lb)
		u->lb = xcalloc(1, sizeof(*u->lb));
	if (u->rec.lb_phase == LBP_NONE) {
		u->lb->wanted = LB_STATE_MAX; /* nothing was wanted yet: the row is sent */
		enter(w, u, LBP_OUT);
	}
	return true;
}

/* Whoever undrained it hears so: when it gets in after all is another story. */
static void entry_is_off(struct world *w, struct unit *u, const char *why)
{
	if (u->rec.lb_phase != LBP_HELD)
		answer(w, u, REPLY_FAILED, why);
}

/* ---- what the others call ---------------------------------------------------------------------- */

void lb_unit_available(struct world *w, struct unit *u)
{
	if (attach(w, u))
		feed(w, u, LBE_AVAILABLE);
}

void lb_unit_unavailable(struct world *w, struct unit *u)
{
	if (!attach(w, u))
		return;
	feed(w, u, LBE_UNAVAILABLE);
	entry_is_off(w, u, "its ready check fails; it enters when that passes");
}

void lb_unit_gone(struct world *w, struct unit *u)
{
	if (!u->lb || u->rec.lb_phase == LBP_NONE)
		return;
	feed(w, u, LBE_GONE);
	entry_is_off(w, u, "its process ended before it was in the load balancer");
}

/* Invariant 6: the time of a drain may have passed before anybody wanted a stop of it; the stop gets
 * that time once more. */
static void bound_drain(struct world *w, struct unit *u)
{
	bool is_draining = u->rec.lb_phase == LBP_DRAINING;
	bool is_endless =
		is_draining && u->conf->lb.on_drain_timeout == DRAIN_WAIT && !w->is_shutting_down;

	is_draining |= u->rec.lb_phase == LBP_HELD && u->lb->wanted == LB_DRAIN;
	if (is_draining && !is_endless && !u->timers[TIMER_LB].at_us)
		arm_drain(w, u);
}

bool lb_hold_stop(struct world *w, struct unit *u)
{
	if (!attach(w, u))
		return false;
	if (u->rec.lb_phase != LBP_DRAINING && u->rec.lb_phase != LBP_LEAVING)
		feed(w, u, LBE_HOLD);
	bound_drain(w, u);
	if (u->rec.lb_phase == LBP_HELD)
		return u->lb->wanted == LB_DRAIN;
	return u->rec.lb_phase != LBP_OUT;
}

/* Invariant 2: counts the zeros of one load balancer. */
static void count_zeros(struct unit *u, unsigned lb)
{
	struct lb_member *m = u->lb;
	const struct lb_sample *s = &m->sample[lb];

	if (m->wanted == LB_READY || !reads_back(u, lb, m->wanted)) {
		m->zero_seen[lb] = 0;
		m->first_serial[lb] = 0;
		return;
	}
	if (!m->first_serial[lb]) {
		m->first_serial[lb] = s->serial; /* its counters may be from before the change */
		return;
	}
	if (s->sessions) {
		m->zero_seen[lb] = 0;
	} else if (m->zero_seen[lb] && m->zero_total[lb] == s->total) {
		m->zero_seen[lb] = (uint8_t)MIN(m->zero_seen[lb] + 1, ZERO_SEEN);
	} else {
		m->zero_seen[lb] = 1;
		m->zero_total[lb] = s->total;
	}
}

void lb_sample(struct world *w, struct unit *u, unsigned lb, const struct lb_sample *s)
{
	struct lb_sample *last;
	bool was_known;

	if (lb >= lb_count(u) || !attach(w, u))
		return;
	last = &u->lb->sample[lb];
	if (s->serial <= last->serial)
		return; /* late, or told twice */
	was_known = !last->serial || last->known;
	*last = *s;
	if (was_known && !s->known)
		fx_event(w, EVENT_LB_TROUBLE, u, NULL, "load balancer %u does not know its server",
			lb + 1);
	count_zeros(u, lb);
	feed(w, u, LBE_OBSERVED);
}

/* What was seen of a load balancer no longer says anything about it. */
static void forget_samples(struct unit *u, unsigned lb)
{
	memset(&u->lb->sample[lb], 0, sizeof(u->lb->sample[lb]));
	u->lb->zero_seen[lb] = 0;
	u->lb->first_serial[lb] = 0;
	u->lb->is_drained = false;
}

void lb_status(struct world *w, struct set *s, unsigned lb, bool is_reachable_now,
	uint32_t generation, const char *text)
{
	bool was_known, was_reachable, is_new;

	if (lb >= SET_LBS_MAX)
		return;
	s->n_lbs = MAX(s->n_lbs, lb + 1);
	was_known = s->lb[lb].is_known;
	was_reachable = was_known && s->lb[lb].is_reachable;
	is_new = generation != s->lb[lb].generation || was_reachable != is_reachable_now;
	if (was_known && was_reachable && !is_reachable_now)
		fx_event(w, EVENT_LB_TROUBLE, NULL, s, "load balancer %u unreachable: %s", lb + 1,
			strna(text));
	else if (was_known && is_reachable_now && is_new)
		fx_event(w, EVENT_LB_BACK, NULL, s, "load balancer %u %s", lb + 1,
			was_reachable ? "was restarted" : "is reachable again");
	s->lb[lb].is_known = true;
	s->lb[lb].is_reachable = is_reachable_now;
	s->lb[lb].generation = generation;
	str_copy(s->lb[lb].text, strna(text), sizeof(s->lb[lb].text));
	for (unsigned i = 0; i < SET_MEMBERS_MAX; i++) {
		struct unit *u = s->members[i];
		/* Members that never ran get a row, too: to a load balancer without a state file
		 * every server that it knows is ready. */
		if (!u || lb >= lb_count(u) || !attach(w, u))
			continue;
		if (is_new)
			forget_samples(u, lb);
		feed(w, u, LBE_OBSERVED);
	}
}

void world_drop_lbs(struct set *s, unsigned n)
{
	for (unsigned lb = n; lb < s->n_lbs; lb++) {
		memset(&s->lb[lb], 0, sizeof(s->lb[lb]));
		for (unsigned i = 0; i < SET_MEMBERS_MAX; i++)
			if (s->members[i] && s->members[i]->lb)
				forget_samples(s->members[i], lb);
	}
	s->n_lbs = MIN(s->n_lbs, n);
}

void lb_timer(struct world *w, struct unit *u, enum timer_kind kind)
{
	if (u->lb)
		feed(w, u, kind == TIMER_RAMP ? LBE_RAMP : LBE_TIMEOUT);
}

bool lb_is_in(const struct unit *u)
{
	unsigned n = lb_count(u);

	if (!n)
		return true;
	if (!u->lb || u->rec.lb_phase != LBP_IN)
		return false;
	for (unsigned i = 0; i < n; i++)
		if (is_reachable(u, i) && !(reads_back(u, i, LB_READY) && u->lb->sample[i].is_up))
			return false;
	return true;
}

static void request_drain(struct world *w, struct unit *u, const struct request *r)
{
	if (!unit_is_up(u)) {
		fx_reply(w, r->id, REPLY_NOT_RUNNING, "%s is not running", u->name);
	} else if (u->rec.lb_phase == LBP_HELD && u->lb->wanted == LB_MAINT) {
		fx_reply(w, r->id, REPLY_SKIPPED, "%s is drained already", u->name);
	} else {
		answer(w, u, REPLY_CANCELED, "a later request took its place");
		u->lb->request = r->id;
		feed(w, u, LBE_OP_DRAIN);
	}
}

static void request_undrain(struct world *w, struct unit *u, const struct request *r)
{
	if (u->rec.lb_phase != LBP_HELD) {
		fx_reply(w, r->id, REPLY_SKIPPED, "%s is not held", u->name);
		return;
	}
	answer(w, u, REPLY_CANCELED, "undrained meanwhile");
	u->lb->request = is_enterable(u) ? r->id : 0;
	if (!u->lb->request)
		fx_reply(w, r->id, REPLY_DONE, "%s: enters when it is ready", u->name);
	feed(w, u, LBE_OP_UNDRAIN);
}

void lb_request(struct world *w, struct unit *u, const struct request *r)
{
	if (!attach(w, u))
		fx_reply(w, r->id, REPLY_REFUSED, "%s has no load balancer", u->name);
	else if (rollout_owns(u) && u->rec.lb_phase != LBP_HELD)
		fx_reply(w, r->id, REPLY_REFUSED, "%s is being replaced by a rollout", u->name);
	else if (r->verb == REQ_DRAIN)
		request_drain(w, u, r);
	else
		request_undrain(w, u, r);
}

/* The phase is from the record, the row is wanted again, all counting starts anew. HELD wants maint:
 * sessions in flight end there too, and a drain that was over must not be opened to sticky clients. */
void lb_restored(struct world *w, struct unit *u)
{
	enum lb_phase phase = u->rec.lb_phase;
	uint64_t drain_at_us;

	if (!lb_count(u) || phase == LBP_NONE) {
		u->rec.lb_phase = LBP_NONE;
		return;
	}
	u->set->n_lbs = MAX(u->set->n_lbs, lb_count(u));
	if (!u->lb)
		u->lb = xcalloc(1, sizeof(*u->lb));
	drain_at_us = u->timers[TIMER_LB].at_us;
	u->lb->wanted = LB_STATE_MAX;
	if (phase == LBP_HELD) {
		timer_drop(w, &u->timers[TIMER_LB]);
		u->lb->since_us = w->now_us;
		lb_want(w, u, LB_MAINT, 100);
	} else if (!unit_is_up(u)) {
		enter(w, u, LBP_OUT);
	} else if (phase == LBP_IN) {
		u->lb->since_us = w->now_us;
		lb_want(w, u, LB_READY, 100);
	} else {
		enter(w, u, phase);
		if (phase == LBP_DRAINING && drain_at_us) /* its time goes on */
			timer_arm(w, &u->timers[TIMER_LB], drain_at_us);
	}
	set_unit_changed(w, u);
}

/* Its revision has other load balancers than the one before, or another server at them: to those the
 * row was never said. */
void lb_conf_swapped(struct world *w, struct unit *u, const struct unit_conf *from)
{
	bool is_same = from->lb.address.n == u->conf->lb.address.n &&
		       streq(strna(from->lb.server), strna(u->conf->lb.server));
	struct lb_member *m = u->lb;

	if (is_same || !lb_count(u) || !m || u->rec.lb_phase == LBP_NONE ||
		m->wanted == LB_STATE_MAX)
		return;
	enum lb_state wanted = m->wanted;
	m->wanted = LB_STATE_MAX;
	lb_want(w, u, wanted, m->weight);
}

/* ---- for people -------------------------------------------------------------------------------- */

static bool is_check_failing(const struct unit *u)
{
	for (unsigned i = 0; i < lb_count(u); i++)
		if (is_reachable(u, i) && u->lb->sample[i].check == LB_CHECK_FAILED)
			return true;
	return false;
}

void lb_waiting_text(const struct world *w, const struct unit *u, struct buf *out)
{
	(void)w;
	if (!u->lb || !lb_count(u))
		return;
	switch ((enum lb_phase)u->rec.lb_phase) {
	case LBP_OUT:
		if (is_enterable(u))
			buf_add_str(out, "waiting for the load balancer to take it back");
		break;
	case LBP_CHECKING:
		buf_add_str(out, is_check_failing(u) ? "the load balancer's own check fails"
						     : "waiting for the load balancer's check");
		break;
	case LBP_RAMPING:
		buf_printf(out, "entering the load balancer at %u%%", u->lb->weight);
		break;
	case LBP_DRAINING:
		buf_add_str(out, "draining, ");
		sessions_text(u, out);
		break;
	case LBP_LEAVING:
		buf_add_str(out, "leaving the load balancer");
		if (sessions_seen(u))
			buf_printf(out, ", %llu requests under way",
				(unsigned long long)sessions_seen(u));
		break;
	case LBP_HELD:
		buf_add_str(out, "held out of the load balancer");
		if (u->lb->wanted == LB_DRAIN) {
			buf_add_str(out, ", ");
			sessions_text(u, out);
		}
		break;
	case LBP_IN:
	case LBP_NONE:
	case LBP_MAX:
		break;
	}
}

bool lb_set_is_usable(const struct set *s, const struct lb_conf *c, struct buf *ret_why)
{
	if (!c->is_set)
		return true;
	for (unsigned i = 0; i < MIN(c->address.n, (size_t)SET_LBS_MAX); i++) {
		if (!s->lb[i].is_known) {
			buf_printf(ret_why, "nothing was heard from load balancer %u (%s) yet",
				i + 1, c->address.v[i]);
			return false;
		}
		if (!s->lb[i].is_reachable && c->unreachable != UNREACHABLE_SKIP) {
			buf_printf(ret_why, "load balancer %u (%s) is unreachable: %s", i + 1,
				c->address.v[i], s->lb[i].text);
			return false;
		}
	}
	return true;
}

bool lb_unit_is_known(const struct unit *u, struct buf *ret_why)
{
	for (unsigned i = 0; u->lb && i < lb_count(u); i++) {
		const struct lb_sample *s = &u->lb->sample[i];
		if (!is_reachable(u, i) || !s->serial || s->known)
			continue;
		if (ret_why)
			buf_printf(ret_why, "load balancer %u (%s) does not know server %s of %s",
				i + 1, u->conf->lb.address.v[i], strna(u->conf->lb.server),
				u->name);
		return false;
	}
	return true;
}
