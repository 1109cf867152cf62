/* SPDX-License-Identifier: Apache-2.0 */
/* What must hold, whatever happens. Each is checked where it could first be seen to be broken. */
#include "sim.h"

#define EFFECTS_MAX 4096
#define IDLE_MAX    100                  /* timers in a row, each within a millisecond */
#define HANG_US     (120 * USEC_PER_SEC) /* longer than any timeout of universe.c */

static bool is_exempt(const struct unit_conf *c)
{
	return c->service.kill_mode == KILL_PROCESS || c->service.kill_mode == KILL_NONE;
}

/* Never two main processes of one unit; never a process beside those of an earlier activation. */
void check_birth(struct sim *s, const struct proc *p)
{
	for (size_t i = 0; i < SIM_PROCS_MAX; i++) {
		const struct proc *o = &s->procs[i];
		if (o == p || !o->is_used || !o->is_alive || o->unit != p->unit || o->is_free)
			continue;
		bool is_other = memcmp(o->id.invocation, p->id.invocation, 16) != 0;
		/* Given up under KillMode=none, it holds no start, whatever the file says by now. */
		bool is_left = o->conf->service.kill_mode == KILL_NONE ||
			       p->conf->service.kill_mode == KILL_NONE;
		if (o->is_main && p->is_main && !is_left)
			sim_fail(s, "two main processes of %s: %d and %d", p->conf->name, o->pid,
				p->pid);
		else if (is_other && !is_left && !is_exempt(o->conf))
			sim_fail(s, "%s starts while %d of its last activation lives",
				p->conf->name, o->pid);
	}
}

static bool is_starting(const struct unit *u)
{
	return inst_active_state((enum inst_state)u->rec.state) == ACTIVE_ACTIVATING &&
	       u->rec.state != INST_AUTO_RESTART;
}

static bool is_ending(const struct unit *u)
{
	return inst_active_state((enum inst_state)u->rec.state) == ACTIVE_DEACTIVATING;
}

/* Its start or stop was decided in this step, but only after that. */
static bool moves_after(const struct sim *s, const struct effect *e, const struct unit *x)
{
	for (const struct effect *later = e; later < s->fx.v + s->fx.n; later++)
		if (later->kind == FX_EVENT && later->unit == x &&
			(later->event == EVENT_STARTING || later->event == EVENT_STOPPING))
			return true;
	return false;
}

/* The order of starts, read from what the units were told, not from job.c. */
static void check_start_order(struct sim *s, const struct effect *e)
{
	const struct unit *u = e->unit;
	for (uint32_t i = 0; i < u->n_edges; i++) {
		const struct unit *x = u->edges[i].to;
		if (u->edges[i].kind == DEP_CONFLICTS && !unit_is_down(x) && !is_starting(x))
			sim_fail(s, "%s starts beside %s, which it conflicts with", u->name,
				x->name);
		if (u->edges[i].kind != DEP_AFTER || u->edges[i].is_inverse)
			continue;
		if (moves_after(s, e, x))
			continue;
		/* One that went down in this step may have been wanted again after that. */
		bool is_waiting = x->rec.want == WANT_UP && unit_is_down(x) && !x->is_stuck &&
				  x->rec.state_since_us != s->now_us;
		if (is_starting(x) || is_ending(x) || is_waiting)
			sim_fail(s, "%s starts before %s (%s)", u->name, x->name,
				inst_state_name((enum inst_state)x->rec.state));
	}
}

static void check_stop_order(struct sim *s, const struct unit *u)
{
	for (uint32_t i = 0; i < u->n_edges; i++) {
		const struct unit *x = u->edges[i].to;
		if (u->edges[i].kind == DEP_AFTER && u->edges[i].is_inverse && x->rec.stop_wanted &&
			!unit_is_down(x) && u->rec.stop_wanted && u->rec.main.seq &&
			u->rec.result == RES_SUCCESS) /* else it went by itself */
			sim_fail(s, "%s stops before %s, which is after it", u->name, x->name);
	}
}

static void check_limit(struct sim *s, const struct effect *e)
{
	struct sim_unit *v = &s->units[e->unit->id];
	const struct restart_conf *c = &v->conf->service.restart;
	unsigned n = 0, max = ARRAY_SIZE(v->restarts);
	if (e->event == EVENT_START_LIMIT && v->since_clear < c->limit_burst)
		sim_fail(s, "%s hit its limit of %u after %u restarts", v->conf->name,
			c->limit_burst, v->since_clear);
	if (e->event != EVENT_RESTART)
		return;
	v->since_clear++;
	v->since_request++;
	v->restarts[v->n_restarts++ % max] = s->now_us;
	for (unsigned i = 0; i < MIN(MIN(v->n_restarts, v->since_request), max); i++)
		n += s->now_us - v->restarts[(v->n_restarts - 1 - i) % max] < c->limit_interval_us;
	if (c->limit_interval_us && c->on_limit == ON_LIMIT_FAIL && n > 2 * c->limit_burst)
		sim_fail(s, "%s was restarted %u times within its interval", v->conf->name, n);
}

static void check_reply(struct sim *s, const struct effect *e)
{
	if (e->request >= s->n_requests || s->requests[e->request] != 1)
		sim_fail(s, "request %llu is answered, but is not open",
			(unsigned long long)e->request);
	else
		s->requests[e->request] = e->result == REPLY_REFUSED ? 4 : 2;
}

/* An identity is used once: whoever adopts by it could not tell two processes apart. */
void check_spawn(struct sim *s, const struct effect *e)
{
	struct spawn_id *last = &s->units[e->unit->id].last_spawn;
	bool is_same = memcmp(last->invocation, e->id.invocation, sizeof(last->invocation)) == 0;
	if (!e->id.seq || (is_same && e->id.seq <= last->seq))
		sim_fail(s, "%s is spawned twice as number %u", e->unit->name, e->id.seq);
	*last = e->id;
}

/* Nobody is killed for nothing: somebody decided its stop, or it failed, or its main process is gone,
 * or it is leaving by itself; and the record says so before the signal. */
static void check_cause(struct sim *s, const struct effect *e)
{
	const struct unit_rec *r = &e->unit->rec;
	bool is_reload =
		r->state == INST_RELOAD && e->signal == e->unit->conf->service.reload_signal;
	bool is_caused = r->stop_wanted || r->restart_wanted || r->result != RES_SUCCESS ||
			 !r->main.seq || unit_is_down(e->unit) || r->state == INST_AUTO_RESTART ||
			 s->units[e->unit->id].is_leaving || s->w->is_shutting_down;
	if (e->who != KILL_WHO_CONTROL && !is_reload && !is_caused)
		sim_fail(s, "%s is killed in %s, and nothing says why", e->unit->name,
			inst_state_name((enum inst_state)r->state));
}

void check_effect(struct sim *s, const struct effect *e)
{
	if (e->unit && (e->unit->id >= s->w->n_units || s->w->units[e->unit->id] != e->unit))
		sim_fail(s, "effect %d of no unit", (int)e->kind);
	if (e->set && (e->set->id >= s->w->n_sets || s->w->sets[e->set->id] != e->set))
		sim_fail(s, "effect %d of no set", (int)e->kind);
	if (e->kind == FX_KILL)
		check_cause(s, e);
	if (e->kind == FX_EVENT && e->unit && e->event == EVENT_STARTING)
		s->units[e->unit->id].is_leaving = false;
	if (e->kind == FX_REPLY)
		check_reply(s, e);
	for (size_t i = 0; e->kind == FX_EXIT && i < s->w->n_units; i++)
		if (!unit_is_down(s->w->units[i]))
			sim_fail(s, "the daemon exits before %s is down", s->w->units[i]->name);
	if (e->kind != FX_EVENT)
		return;
	s->events[e->event]++;
	if (s->script && e->event == EVENT_WATCHDOG)
		sim_fail(s, "the watchdog of %s bites, and every keep-alive was sent",
			e->unit->name);
	if (!e->unit)
		return;
	check_limit(s, e);
	if (e->event == EVENT_STARTING && !unit_is_down(e->unit))
		check_start_order(s, e);
	if (e->event == EVENT_STOPPING)
		check_stop_order(s, e->unit);
}

static void check_unit(struct sim *s, const struct unit *u)
{
	const char *state = inst_state_name((enum inst_state)u->rec.state);
	for (int k = 0; k <= TIMER_STABLE; k++)
		if (u->timers[k].at_us != u->rec.timer_at_us[k])
			sim_fail(s, "%s: timer %d is not in its record", u->name, k);
	if (unit_is_down(u))
		for (int k = 0; k < TIMER_LB; k++)
			if (u->timers[k].at_us)
				sim_fail(s, "%s is %s and has timer %d", u->name, state, k);
	if (unit_is_down(u) && (u->rec.stop_wanted || u->rec.restart_wanted))
		sim_fail(s, "%s is %s and still to be stopped", u->name, state);
	if (u->n_dropped > DROPPED_MAX || u->n_requests > ARRAY_SIZE(u->requests))
		sim_fail(s, "%s: more is kept than there is room for", u->name);
	if (!u->is_dirty && s->units[u->id].has_stored &&
		memcmp(&s->units[u->id].stored, &u->rec, sizeof(u->rec)) != 0)
		sim_fail(s, "%s: the record changed and nobody said so", u->name);
}

/* After the decision, before the records are written. */
void check_step(struct sim *s, int r)
{
	struct world *w = s->w;
	if (r < 0)
		sim_fail(s, "world_step: %d", r);
	if (w->n_queue || w->head_queue)
		sim_fail(s, "%zu units are left in the queue", w->n_queue);
	if (world_next_deadline(w) <= w->now_us)
		sim_fail(s, "a timer is in the past");
	if (w->n_heap > w->n_units * TIMER_UNIT_MAX + w->n_sets * 2)
		sim_fail(s, "%zu timers", w->n_heap);
	if (s->fx.n > EFFECTS_MAX)
		sim_fail(s, "%zu effects in one step", s->fx.n);
	for (size_t i = 0; i < w->n_units && !s->has_failed; i++)
		check_unit(s, w->units[i]);
	fake_lb_check(s);
}

/* Timers that do nothing but come again soon are a core that spins. */
void check_idle(struct sim *s)
{
	bool is_soon = s->now_us - s->woken_us < USEC_PER_MSEC;
	s->n_idle = !s->fx.n && is_soon ? s->n_idle + 1 : 0;
	s->woken_us = s->now_us;
	if (s->n_idle > IDLE_MAX)
		sim_fail(s, "core wakes again and again to do nothing");
}

/* Faults are over for long: what is wanted is there. */
void check_end(struct sim *s)
{
	for (size_t i = 0; i < s->w->n_units && !s->has_failed; i++) {
		const struct unit *u = s->w->units[i];
		const char *state = inst_state_name((enum inst_state)u->rec.state);
		bool is_over =
			unit_is_down(u) || unit_is_up(u) || u->rec.state == INST_AUTO_RESTART;
		/* What is in the way may wait in turn, for one that comes and goes. */
		const struct unit *by = u->waits_for;
		for (int k = 0; k < 16 && by && by->waits_for && by->waits_for != by; k++)
			by = by->waits_for;
		if (u->rec.want == WANT_UP && unit_is_down(u) && !u->is_stuck &&
			!(by && (by == u || by->rec.left_over || !unit_is_down(by))))
			sim_fail(s, "%s is wanted, but %s, and nothing is said to be in the way",
				u->name, state);
		if (u->rec.want == WANT_UP && u->is_stuck && unit_is_up(u->waits_for))
			sim_fail(s, "%s is stuck, but %s is up", u->name, u->waits_for->name);
		if (u->rec.want == WANT_DOWN && !unit_is_down(u) && is_over)
			sim_fail(s, "%s shall be down, but is %s", u->name, state);
		if (s->units[i].expects_down && !unit_is_down(u))
			sim_fail(s, "%s was told to stop, but is %s", u->name, state);
		/* Some come and go for ever, by their configuration; none stays in between. */
		if (!is_over && s->now_us - u->rec.state_since_us > HANG_US)
			sim_fail(s, "%s hangs in %s", u->name, state);
		if (u->rec.stop_wanted && s->now_us - u->rec.state_since_us > HANG_US)
			sim_fail(s, "%s still waits to stop", u->name);
	}
	for (size_t i = 1; i < s->n_requests; i++)
		if (s->requests[i] == 1)
			sim_fail(s, "request %zu was never answered", i);
	fake_lb_end(s);
}
