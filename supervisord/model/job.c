/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is wanted of units, and when each may go there.
 *
 * Every unit has a want: nothing, up, down. A request, a dependency or a set changes wants, and
 * that is all it does: PROPAGATE first. Units whose want or surroundings changed stand in one
 * queue; jobs_run() takes one after the other and asks a single question of it, "may it go on
 * now?", and if so EXECUTES by inst_start() or inst_stop(). Executing changes states; a changed
 * state only queues others. Nothing here calls itself, and no job exists that could be lost,
 * merged wrongly or outlive its reason: what is left to do follows from wants and states alone, so
 * it also follows after a restart of core.
 *
 *  1. A start waits for: units it is After= that are coming or stopping; units Before= it that are
 *     stopping; units it Conflicts= with until they are down; survivors of its own last run.
 *  2. A stop waits for units After= it that are stopping: stop order is start order reversed.
 *     Stops wait for stops only, along After=, which has no cycle: so no wait is for ever.
 *  3. A unit whose Requires= or BindsTo= is down and not coming is stuck: its requests are told,
 *     its want stays, and it starts when that unit comes up. Nobody waits for a stuck unit, unless
 *     he requires it; then he is stuck as well.
 *  4. want UP ends when the unit ends for good (no restart follows). A failed unit is not started
 *     again by anything but a request, a dependent's start or OnFailure=.
 *  5. Explicit stop: everything that requires, binds to or is part of the unit stops. Explicit or
 *     automatic restart: what of those is up stops before and starts after. A crash: those that
 *     bind to it stop, and start when it is back.
 *  6. rec.stop_wanted from the moment a stop is decided (it may wait for order or drain) until the
 *     unit is down; rec.restart_wanted says that it starts again then.
 *  7. A request is answered exactly once: reached, failed, skipped, or canceled by a contrary one.
 *
 * Called by world.c (requests), instance.c (changes), set.c and rollout.c (wants).
 */
#include "parts.h"

/* Looks at one unit per step and unit of the world; more means that two units undo each other. */
#define LOOKS_PER_UNIT_MAX 256
/* Units that wait for each other in a row; further ones are taken as the last one looked at. */
#define CHAIN_MAX 64

/* ---- questions ---- */

bool unit_is_up(const struct unit *u)
{
	enum active_state a = inst_active_state((enum inst_state)u->rec.state);
	return a == ACTIVE_ACTIVE || a == ACTIVE_RELOADING;
}

bool unit_is_down(const struct unit *u)
{
	return u->rec.state == INST_DEAD || u->rec.state == INST_FAILED;
}

bool unit_is_available(const struct unit *u)
{
	return unit_is_up(u) && !unit_is_being_executed(u) && health_is_ready(u) && lb_is_in(u);
}

static bool is_stopping(const struct unit *u)
{
	return u->rec.stop_wanted && !unit_is_down(u);
}

/* Down, but the process outlived its SIGKILL: a successor would meet it. */
static bool has_survivors(const struct unit *u)
{
	enum kill_mode m = u->conf->service.kill_mode;
	if (u->conf->type != UNIT_SERVICE || m == KILL_NONE)
		return false;
	return u->rec.main.seq || u->rec.control.seq || u->n_dropped ||
	       (u->rec.left_over && m != KILL_PROCESS);
}

static bool is_loaded(const struct unit *u)
{
	return u->conf->load == LOAD_LOADED;
}

/* Whether a unit found stuck still is: what it waits for may be on its way since, and the unit
 * itself only stands in the queue. */
static bool is_still_stuck(const struct unit *u)
{
	for (int i = 0; i < CHAIN_MAX && u->is_stuck && u->waits_for; i++) {
		const struct unit *by = u->waits_for;
		if (!by->is_stuck)
			return unit_is_down(by) && (by->rec.want != WANT_UP || !is_loaded(by));
		u = by;
	}
	return u->is_stuck;
}

/* Whose back-off a start waits for in the end, perhaps through others; NULL: nobody's. That may
 * be long, or again and again. */
static const struct unit *waits_for_restart(const struct unit *u)
{
	for (int i = 0; i < CHAIN_MAX && u->waits_for && u->waits_for != u; i++) {
		u = u->waits_for;
		if (u->rec.state == INST_AUTO_RESTART)
			return u->timers[TIMER_RESTART].at_us ? u : NULL;
		if (!unit_is_down(u))
			return NULL;
	}
	return NULL;
}

/* On its way up. A restart's back-off counts only for those that cannot do without it. */
static bool is_coming(const struct unit *u, bool is_required)
{
	enum inst_state s = (enum inst_state)u->rec.state;
	if (unit_is_up(u) || !is_loaded(u) || is_still_stuck(u))
		return false;
	if (s == INST_AUTO_RESTART)
		return is_required || !u->timers[TIMER_RESTART].at_us;
	if (!unit_is_down(u))
		return true; /* activating, or ending: what follows is decided soon */
	return u->rec.want == WANT_UP;
}

/* It did what it was started for: a oneshot that is over, a start skipped by its condition. */
static bool is_done(const struct unit *u)
{
	if (u->rec.state == INST_AUTO_RESTART)
		return u->conf->service.type == SERVICE_ONESHOT && u->rec.result == RES_SUCCESS;
	return u->rec.state == INST_DEAD && u->rec.want == WANT_NOTHING &&
	       u->rec.inactive_since_us &&
	       (u->rec.result == RES_SUCCESS || u->rec.result == RES_CONDITION ||
		       u->rec.result == RES_EXEC_CONDITION);
}

static bool edge_is(const struct unit *u, const struct unit *to, enum dep_kind kind)
{
	for (uint32_t i = 0; i < u->n_edges; i++)
		if (u->edges[i].to == to && u->edges[i].kind == kind && !u->edges[i].is_inverse)
			return true;
	return false;
}

bool job_is_upheld(const struct unit *u)
{
	const struct unit *by;
	for (uint32_t pos = 0; (by = edge_next(u, &pos, DEP_UPHOLDS, true));)
		if (unit_is_up(by) && !by->rec.stop_wanted)
			return true;
	return false;
}

/* ---- the queue ---- */

void unit_poke(struct world *w, struct unit *u)
{
	if (u->in_queue)
		return;
	u->in_queue = true;
	GROW(w->queue, w->n_queue, w->cap_queue);
	w->queue[w->n_queue++] = u;
}

/* Each waiting unit remembers one blocker, so a change concerns few, however many edges. */
static void poke_waiters(struct world *w, struct unit *u)
{
	for (uint32_t i = 0; i < u->n_edges; i++)
		if (u->edges[i].to->waits_for == u)
			unit_poke(w, u->edges[i].to);
}

void job_survivors_gone(struct world *w, struct unit *u)
{
	unit_poke(w, u);
	poke_waiters(w, u);
}

/* A walk over dependencies, each unit once, without recursion. */
struct spread {
	struct unit **v;
	size_t n, cap;
};

static void spread_begin(struct world *w, struct spread *s, struct unit *u)
{
	*s = (struct spread){0};
	w->mark++;
	u->mark = w->mark;
	GROW(s->v, s->n, s->cap);
	s->v[s->n++] = u;
}

static void spread_add(struct world *w, struct spread *s, struct unit *u)
{
	if (u->mark == w->mark)
		return;
	u->mark = w->mark;
	GROW(s->v, s->n, s->cap);
	s->v[s->n++] = u;
}

/* ---- requests that wait for an outcome ---- */

enum request_class { CLASS_UP, CLASS_DOWN, CLASS_RELOAD };

static enum request_class class_of(unsigned verb)
{
	return verb == REQ_STOP ? CLASS_DOWN : verb == REQ_RELOAD ? CLASS_RELOAD : CLASS_UP;
}

static void PRINTF_LIKE(4, 5) requests_answer(
	struct world *w, struct unit *u, enum reply_result result, const char *format, ...)
{
	char text[256];
	va_list args;
	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	for (unsigned i = 0; i < u->n_requests; i++)
		fx_reply(w, u->requests[i], result, "%s", text);
	u->n_requests = 0;
}

static void requests_cancel(struct world *w, struct unit *u, enum request_class other)
{
	if (u->n_requests && class_of(u->request_verb) != other)
		requests_answer(w, u, REPLY_CANCELED, "canceled by a later request");
}

/* False: too many wait already; the new one was answered. */
static bool request_add(struct world *w, struct unit *u, uint64_t id, enum request_verb verb)
{
	requests_cancel(w, u, class_of(verb));
	if (!id)
		return true;
	if (u->n_requests >= ARRAY_SIZE(u->requests)) {
		fx_reply(w, id, REPLY_REFUSED, "too many requests wait for %s", u->name);
		return false;
	}
	u->requests[u->n_requests++] = id;
	u->request_verb = (uint8_t)verb;
	return true;
}

static void settle_up(struct world *w, struct unit *u)
{
	const char *why = u->fail_text;
	if (unit_is_being_executed(u))
		return;
	if (unit_is_up(u)) {
		bool is_starting_up = u->conf->health[CHECK_STARTUP].target &&
				      u->rec.state == INST_RUNNING &&
				      u->rec.check_ok[CHECK_STARTUP] != 1;
		if (!u->rec.stop_wanted && !u->rec.restart_wanted && !is_starting_up)
			requests_answer(w, u, REPLY_DONE, "%s is up", u->name);
	} else if (u->rec.state == INST_AUTO_RESTART && is_done(u)) {
		requests_answer(w, u, REPLY_DONE, "%s ran; it is run again", u->name);
	} else if (u->rec.state == INST_AUTO_RESTART) {
		requests_answer(w, u, REPLY_FAILED, "%s; it will be tried again", why);
	} else if (unit_is_down(u) && u->rec.want == WANT_UP && waits_for_restart(u)) {
		requests_answer(w, u, REPLY_FAILED,
			"it waits for %.100s, which ended and waits to be restarted; it starts "
			"when that is up",
			waits_for_restart(u)->name);
	} else if (unit_is_down(u) && u->is_stuck) {
		requests_answer(w, u, REPLY_FAILED, "%s; it starts when that is up", why);
	} else if (unit_is_down(u) && u->rec.want != WANT_UP) {
		if (u->rec.state == INST_DEAD && u->rec.result == RES_SUCCESS)
			requests_answer(w, u, REPLY_DONE, "%s ran and is over", u->name);
		else if (u->rec.result == RES_CONDITION || u->rec.result == RES_EXEC_CONDITION)
			requests_answer(w, u, REPLY_SKIPPED, "%s", why);
		else
			requests_answer(w, u, REPLY_FAILED, "%s", why);
	}
}

static void answer_reload(struct world *w, struct unit *u)
{
	if (u->rec.reload_result == RES_SUCCESS)
		requests_answer(w, u, REPLY_DONE, "%s was reloaded", u->name);
	else
		requests_answer(w, u, REPLY_FAILED, "the reload failed: %s", u->fail_text);
}

static void settle(struct world *w, struct unit *u)
{
	if (!u->n_requests)
		return;
	switch (class_of(u->request_verb)) {
	case CLASS_UP:
		settle_up(w, u);
		break;
	case CLASS_DOWN:
		if (unit_is_down(u))
			requests_answer(w, u, REPLY_DONE, "%s is down", u->name);
		break;
	case CLASS_RELOAD:
		if (!unit_is_up(u))
			requests_answer(
				w, u, REPLY_FAILED, "%s ended while it was reloaded", u->name);
		else if (u->rec.state != INST_RELOAD)
			answer_reload(w, u);
		break;
	}
}

/* ---- propagation: wants ---- */

static void want_down(struct world *w, struct unit *root);

static void set_want(struct world *w, struct unit *u, enum want want)
{
	u->rec.want = (uint8_t)want;
	u->is_stuck = false;
	u->waits_for = NULL;
	unit_touch(w, u);
	unit_poke(w, u);
	poke_waiters(w, u);
}

/* A stop that was decided but has not begun is taken back; one under way is followed by a start. */
static void undo_stop(struct world *w, struct unit *u)
{
	if (u->rec.restart_wanted || unit_is_down(u))
		return;
	bool is_live = unit_is_up(u);
	if (!is_live && inst_active_state((enum inst_state)u->rec.state) == ACTIVE_DEACTIVATING) {
		u->rec.restart_wanted = 1;
		return;
	}
	if (!u->rec.stop_wanted)
		return;
	u->rec.stop_wanted = 0;
	if (u->rec.state == INST_RUNNING && health_is_ready(u))
		lb_unit_available(w, u);
}

/* Takes u and what it pulls in up; not the units that are there or on their way already. */
static void want_up(struct world *w, struct unit *root, bool is_manual)
{
	static const uint8_t pulls[] = {DEP_REQUIRES, DEP_BINDS_TO, DEP_WANTS, DEP_UPHOLDS};
	struct spread s;
	struct unit *to, **out = NULL;
	size_t n_out = 0, cap_out = 0;
	if (w->is_shutting_down)
		return;
	spread_begin(w, &s, root);
	while (s.n) {
		struct unit *u = s.v[--s.n];
		bool is_new = u->rec.want != WANT_UP;
		if (!is_loaded(u) && u != root)
			continue;
		requests_cancel(w, u, CLASS_UP);
		if (u->rec.stop_wanted || is_new || (u == root && is_manual))
			undo_stop(w, u);
		set_want(w, u, WANT_UP);
		for (size_t k = 0; k < ARRAY_SIZE(pulls); k++)
			for (uint32_t pos = 0;
				(to = edge_next(u, &pos, (enum dep_kind)pulls[k], false));)
				if (to->rec.want != WANT_UP || to->rec.stop_wanted ||
					(!unit_is_up(to) && to->is_stuck))
					spread_add(w, &s, to);
		for (uint32_t i = 0; i < u->n_edges; i++)
			if (u->edges[i].kind == DEP_CONFLICTS) {
				GROW(out, n_out, cap_out);
				out[n_out++] = u->edges[i].to;
			}
	}
	free(s.v);
	for (size_t i = 0; i < n_out; i++)
		if (!unit_is_down(out[i]) || out[i]->rec.want == WANT_UP)
			want_down(w, out[i]);
	free(out);
}

static const uint8_t follows_stop[] = {DEP_REQUIRES, DEP_BINDS_TO, DEP_PART_OF, DEP_REQUISITE};

static void want_down(struct world *w, struct unit *root)
{
	struct spread s;
	struct unit *to;
	spread_begin(w, &s, root);
	while (s.n) {
		struct unit *u = s.v[--s.n];
		requests_cancel(w, u, CLASS_DOWN);
		u->rec.restart_wanted = 0;
		u->rec.is_manual = 0;
		u->rec.stop_wanted = !unit_is_down(u);
		set_want(w, u, WANT_DOWN);
		for (size_t k = 0; k < ARRAY_SIZE(follows_stop); k++)
			for (uint32_t pos = 0;
				(to = edge_next(u, &pos, (enum dep_kind)follows_stop[k], true));)
				if (!unit_is_down(to) || to->rec.want == WANT_UP)
					spread_add(w, &s, to);
	}
	free(s.v);
}

/* Marks what is up of the units that go down and up with u. */
static void restart_followers(struct world *w, struct unit *root)
{
	struct spread s;
	struct unit *to;
	spread_begin(w, &s, root);
	while (s.n) {
		struct unit *u = s.v[--s.n];
		if (u != root) {
			u->rec.stop_wanted = 1;
			u->rec.restart_wanted = MAX(u->rec.restart_wanted, 1);
			set_want(w, u, WANT_UP);
		}
		for (size_t k = 0; k < ARRAY_SIZE(follows_stop); k++)
			for (uint32_t pos = 0;
				(to = edge_next(u, &pos, (enum dep_kind)follows_stop[k], true));)
				if (!unit_is_down(to) && !to->rec.stop_wanted &&
					to->rec.state != INST_AUTO_RESTART)
					spread_add(w, &s, to);
	}
	free(s.v);
}

static void restart(struct world *w, struct unit *u)
{
	if (w->is_shutting_down)
		return;
	want_up(w, u, false);
	if (unit_is_down(u))
		return;
	u->rec.stop_wanted = 1;
	u->rec.restart_wanted = 1;
	unit_touch(w, u);
	restart_followers(w, u);
}

void unit_restart(struct world *w, struct unit *u, uint64_t request)
{
	if (!request_add(w, u, request, REQ_RESTART))
		return;
	restart(w, u);
}

void unit_want(struct world *w, struct unit *u, enum want want, bool is_manual, uint64_t request)
{
	if (want == WANT_NOTHING) {
		set_want(w, u, want);
		fx_reply(w, request, REPLY_DONE, "%s is left as it is", u->name);
		return;
	}
	if (want == WANT_UP && w->is_shutting_down) {
		fx_reply(w, request, REPLY_REFUSED, "shutting down");
		return;
	}
	if (!request_add(w, u, request, want == WANT_UP ? REQ_START : REQ_STOP))
		return;
	if (want == WANT_DOWN) {
		want_down(w, u);
		return;
	}
	if (is_manual) {
		backoff_clear(w, u);
		u->rec.is_manual = 1;
		if (u->rec.state == INST_AUTO_RESTART)
			timer_drop(w, &u->timers[TIMER_RESTART]);
	}
	want_up(w, u, is_manual);
}

/* ---- execution: may it go on now? ---- */

enum may { MAY_GO, MAY_WAIT, MAY_STUCK, MAY_NEVER };

static enum may may_with_required(const struct unit *u, const struct unit *x, enum dep_kind kind)
{
	bool is_ordered = edge_is(u, x, DEP_AFTER);
	bool is_there = unit_is_up(x) && !x->rec.stop_wanted;
	if (!is_loaded(x))
		return MAY_NEVER;
	if (is_there || (kind == DEP_REQUIRES && is_done(x)))
		return MAY_GO;
	if (is_coming(x, kind != DEP_REQUISITE) || is_stopping(x))
		return is_ordered ? MAY_WAIT : kind == DEP_REQUISITE ? MAY_NEVER : MAY_GO;
	if (kind == DEP_REQUISITE)
		return MAY_NEVER;
	/* systemd starts what requires without order beside it, whatever comes of that. */
	return is_ordered || kind == DEP_BINDS_TO ? MAY_STUCK : MAY_GO;
}

static enum may may_with(const struct unit *u, const struct edge *e)
{
	const struct unit *x = e->to;
	switch ((enum dep_kind)e->kind) {
	case DEP_AFTER:
		if (is_stopping(x) || (!e->is_inverse && is_coming(x, false)))
			return MAY_WAIT;
		return MAY_GO;
	case DEP_CONFLICTS:
		return unit_is_down(x) && !has_survivors(x) ? MAY_GO : MAY_WAIT;
	case DEP_REQUIRES:
	case DEP_BINDS_TO:
	case DEP_REQUISITE:
		return e->is_inverse ? MAY_GO : may_with_required(u, x, (enum dep_kind)e->kind);
	case DEP_BEFORE:
	case DEP_WANTS:
	case DEP_PART_OF:
	case DEP_UPHOLDS:
	case DEP_ON_FAILURE:
	case DEP_ON_SUCCESS:
	case DEP_PROPAGATES_RELOAD:
	case DEP_RELOAD_PROPAGATED_FROM:
	case DEP_JOINS_NAMESPACE_OF:
	case DEP_MAX:
		break;
	}
	return MAY_GO;
}

/* Begins with what it waited for last: a target after a thousand units is asked again as each of
 * them comes up, and must not look at all that are up already every time. */
static enum may may_start(struct unit *u, struct unit **ret_by)
{
	enum may worst = MAY_GO;
	*ret_by = NULL;
	if (has_survivors(u)) {
		worst = MAY_WAIT;
		*ret_by = u;
	}
	uint32_t i = u->wait_edge < u->n_edges ? u->wait_edge : 0;
	for (uint32_t k = 0; k < u->n_edges && worst != MAY_NEVER; k++, i++) {
		i = i < u->n_edges ? i : 0;
		const struct edge *e = &u->edges[i];
		if (worst >= MAY_WAIT && (e->kind == DEP_AFTER || e->kind == DEP_CONFLICTS))
			continue; /* these can do no more than hold it */
		enum may m = may_with(u, e);
		if (m > worst) {
			worst = m;
			*ret_by = e->to;
			u->wait_edge = i;
		}
	}
	return worst;
}

static const char *why_not(const struct unit *x)
{
	switch (x->conf->load) {
	case LOAD_NOT_FOUND:
		return "there is no such unit";
	case LOAD_BAD:
		return "its unit file has errors";
	case LOAD_MASKED:
		return "it is masked";
	case LOAD_LOADED:
	case LOAD_MAX:
		break;
	}
	return x->rec.state == INST_FAILED ? "it failed"
	       : x->is_stuck               ? "it cannot start itself"
					   : "it is not up";
}

/* It does not start now, and nothing under way will change that. */
static void give_up_start(struct world *w, struct unit *u)
{
	u->rec.result = RES_DEPENDENCY;
	timer_drop(w, &u->timers[TIMER_RESTART]);
	if (u->rec.state == INST_AUTO_RESTART)
		inst_stop(w, u);
	u->rec.want = WANT_NOTHING;
	u->rec.is_manual = 0;
	unit_touch(w, u);
	fx_event(w, EVENT_DEPENDENCY, u, NULL, "%s", u->fail_text);
	poke_waiters(w, u);
}

static void be_stuck(struct world *w, struct unit *u, struct unit *by)
{
	if (u->is_stuck && u->waits_for == by) {
		poke_waiters(w, u); /* they may have hoped */
		return;
	}
	u->is_stuck = true;
	u->waits_for = by;
	unit_fail_text(u, "it needs %.100s, and %s", by->name, why_not(by));
	fx_event(w, EVENT_DEPENDENCY, u, NULL, "waits: %s", u->fail_text);
	poke_waiters(w, u);
	set_unit_changed(w, u);
}

static void look_at_start(struct world *w, struct unit *u)
{
	struct unit *by;
	enum may may;
	if (!is_loaded(u)) {
		unit_fail_text(u, "%.100s: %s", u->name, why_not(u));
		give_up_start(w, u);
		return;
	}
	may = may_start(u, &by);
	if (may == MAY_GO && u->rec.state == INST_AUTO_RESTART && !u->has_spread) {
		/* Those that go with it go down first; ordered ones it now waits for. Once: one
		 * that is not ordered after u may be up again before u starts. */
		u->has_spread = true;
		restart_followers(w, u);
		may = may_start(u, &by);
	}
	if (may == MAY_NEVER) {
		unit_fail_text(u, "it needs %.100s, and %s", by->name, why_not(by));
		give_up_start(w, u);
	} else if (may == MAY_STUCK) {
		be_stuck(w, u, by);
	} else {
		bool was_stuck = u->is_stuck;
		u->is_stuck = false;
		u->waits_for = by;
		if (may == MAY_GO)
			inst_start(w, u);
		else if (was_stuck || waits_for_restart(u))
			poke_waiters(w, u); /* they are no longer, or are now, to be told so */
	}
}

/* Begins with what it waited for last, as may_start() does. */
static struct unit *stop_blocker(struct unit *u)
{
	uint32_t i = u->wait_edge < u->n_edges ? u->wait_edge : 0;
	for (uint32_t k = 0; k < u->n_edges; k++, i++) {
		i = i < u->n_edges ? i : 0;
		const struct edge *e = &u->edges[i];
		if (e->kind == DEP_AFTER && e->is_inverse && is_stopping(e->to)) {
			u->wait_edge = i;
			return e->to;
		}
	}
	return NULL;
}

static void look_at_stop(struct world *w, struct unit *u)
{
	enum inst_state s = (enum inst_state)u->rec.state;
	if (inst_active_state(s) == ACTIVE_DEACTIVATING)
		return;
	u->waits_for = stop_blocker(u);
	if (u->waits_for)
		return;
	if ((s == INST_RUNNING || s == INST_RELOAD) && lb_hold_stop(w, u))
		return;
	inst_stop(w, u);
}

static void look_at(struct world *w, struct unit *u)
{
	enum inst_state s = (enum inst_state)u->rec.state;
	bool is_due = s == INST_AUTO_RESTART && !u->timers[TIMER_RESTART].at_us;
	if (is_due && is_done(u))
		settle(w, u); /* a oneshot that is run again at once was never down */
	if (is_stopping(u))
		look_at_stop(w, u);
	else if (u->rec.is_unhealthy && (s == INST_RUNNING || s == INST_RELOAD)) {
		if (!lb_hold_stop(w, u))
			inst_unhealthy(w, u, "a live check failed");
	} else if (u->rec.want == WANT_UP && !w->is_shutting_down && (unit_is_down(u) || is_due))
		look_at_start(w, u);
	settle(w, u);
}

void jobs_run(struct world *w)
{
	size_t looks = 0, max = (w->n_units + 4) * LOOKS_PER_UNIT_MAX;
	while (w->head_queue < w->n_queue) {
		struct unit *u = w->queue[w->head_queue++];
		u->in_queue = false;
		if (looks++ < max)
			look_at(w, u);
		else
			w->step_error = -ELOOP;
	}
	w->head_queue = w->n_queue = 0;
}

/* ---- what a change of state means to others ---- */

static void run_action(struct world *w, struct unit *u, enum emergency_action action, int status)
{
	int code = u->rec.main_code == CHILD_EXITED ? u->rec.main_status : 128 + u->rec.main_status;
	if (action == ACTION_NONE || w->is_shutting_down)
		return;
	if (status >= 0)
		code = status;
	else if (!u->rec.main_code)
		code = u->rec.state == INST_FAILED;
	bool is_reboot = action == ACTION_REBOOT || action == ACTION_REBOOT_FORCE;
	bool is_exit = action == ACTION_EXIT || action == ACTION_EXIT_FORCE;
	job_shutdown(w, code, is_exit ? "exit" : is_reboot ? "reboot" : "poweroff");
}

static void trigger(struct world *w, struct unit *u, enum dep_kind kind)
{
	struct unit *to;
	for (uint32_t pos = 0; (to = edge_next(u, &pos, kind, false));)
		want_up(w, to, false);
}

static bool is_needed(const struct unit *u)
{
	static const uint8_t needs[] = {
		DEP_REQUIRES, DEP_BINDS_TO, DEP_WANTS, DEP_REQUISITE, DEP_UPHOLDS};
	const struct unit *by;
	for (size_t k = 0; k < ARRAY_SIZE(needs); k++)
		for (uint32_t pos = 0; (by = edge_next(u, &pos, (enum dep_kind)needs[k], true));)
			if (!unit_is_down(by) || by->rec.want == WANT_UP)
				return true;
	return false;
}

static void stop_unneeded(struct world *w, struct unit *u)
{
	for (uint32_t i = 0; i < u->n_edges; i++) {
		struct unit *to = u->edges[i].to;
		if (!u->edges[i].is_inverse && to->conf->stop_when_unneeded && unit_is_up(to) &&
			!to->rec.is_manual && !is_needed(to))
			want_down(w, to);
	}
}

/* u ended: for good, unless somebody wants it started again. */
static void went_down(struct world *w, struct unit *u)
{
	bool was_asked = u->rec.stop_wanted;
	bool is_failed = u->rec.state == INST_FAILED;
	bool is_skipped = !is_failed && u->rec.result != RES_SUCCESS;
	u->rec.stop_wanted = 0;
	if (u->rec.restart_wanted) {
		u->rec.restart_wanted = 0;
		return;
	}
	if (u->rec.want == WANT_UP)
		u->rec.want = WANT_NOTHING;
	if (!was_asked && rollout_owns(u) && u->rec.result != RES_UNHEALTHY)
		rollout_unit_failed(w, u,
			u->fail_text[0] ? u->fail_text
			: u->rec.result == RES_SUCCESS
				? "ended by itself, exit status 0"
				: inst_result_name((enum inst_result)u->rec.result));
	if (w->is_shutting_down || is_skipped)
		return;
	trigger(w, u, is_failed ? DEP_ON_FAILURE : DEP_ON_SUCCESS);
	stop_unneeded(w, u);
	if (is_failed && u->rec.result == RES_START_LIMIT)
		run_action(w, u, u->conf->service.restart.limit_action, -1);
	if (is_failed)
		run_action(w, u, u->conf->failure_action, u->conf->failure_exit_status);
	else
		run_action(w, u, u->conf->success_action, u->conf->success_exit_status);
}

/* Its end was not asked for: what is bound to it goes too, and comes back with it. */
static void stop_bound(struct world *w, struct unit *u)
{
	struct unit *to;
	for (uint32_t pos = 0; (to = edge_next(u, &pos, DEP_BINDS_TO, true));) {
		if (unit_is_down(to) || to->rec.stop_wanted)
			continue;
		fx_event(
			w, EVENT_DEPENDENCY, to, NULL, "stops, because it is bound to %s", u->name);
		to->rec.stop_wanted = 1;
		to->rec.restart_wanted = 1;
		set_want(w, to, WANT_UP);
		restart_followers(w, to);
	}
}

void job_unit_changed(struct world *w, struct unit *u, enum inst_state from)
{
	enum active_state a = inst_active_state(from);
	bool was_up = a == ACTIVE_ACTIVE || a == ACTIVE_RELOADING;
	if (was_up && !unit_is_up(u) && !u->rec.stop_wanted && !w->is_shutting_down)
		stop_bound(w, u);
	if (unit_is_down(u) && from != INST_FAILED)
		went_down(w, u);
	unit_touch(w, u);
	if (unit_is_up(u) || unit_is_down(u) || u->rec.state == INST_AUTO_RESTART)
		unit_poke(w, u);
	if (a != inst_active_state((enum inst_state)u->rec.state))
		poke_waiters(w, u);
	set_unit_changed(w, u);
}

/* ---- requests ---- */

static void request_start(struct world *w, const struct request *r)
{
	struct unit *u = r->unit;
	if (!is_loaded(u))
		fx_reply(w, r->id, REPLY_FAILED, "%s: %s", u->name, why_not(u));
	else if (u->conf->refuse_manual_start)
		fx_reply(w, r->id, REPLY_REFUSED, "%s has RefuseManualStart=yes", u->name);
	else
		unit_want(w, u, WANT_UP, true, r->id);
}

static void request_restart(struct world *w, const struct request *r)
{
	struct unit *u = r->unit;
	enum active_state a = inst_active_state((enum inst_state)u->rec.state);
	if (r->verb == REQ_TRY_RESTART && (a == ACTIVE_INACTIVE || a == ACTIVE_FAILED)) {
		fx_reply(w, r->id, REPLY_SKIPPED, "%s is not up", u->name);
	} else if (w->is_shutting_down) {
		fx_reply(w, r->id, REPLY_REFUSED, "shutting down");
	} else if (unit_is_down(u) || u->rec.state == INST_AUTO_RESTART) {
		request_start(w, r);
	} else if (u->conf->refuse_manual_start || u->conf->refuse_manual_stop) {
		fx_reply(w, r->id, REPLY_REFUSED, "%s refuses manual starts or stops", u->name);
	} else if (request_add(w, u, r->id, REQ_RESTART)) {
		backoff_clear(w, u);
		restart(w, u);
	}
}

static void request_reload(struct world *w, const struct request *r)
{
	struct unit *to, *u = r->unit;
	if (u->rec.stop_wanted || !unit_is_up(u)) {
		fx_reply(w, r->id, REPLY_NOT_RUNNING, "%s is not up", u->name);
		return;
	}
	for (uint32_t pos = 0; (to = edge_next(u, &pos, DEP_PROPAGATES_RELOAD, false));)
		if (inst_can_reload(to) && unit_is_up(to) && !to->rec.stop_wanted)
			inst_reload(w, to);
	if (!inst_can_reload(u))
		fx_reply(w, r->id, REPLY_REFUSED, "%s has no ExecReload=", u->name);
	else if (request_add(w, u, r->id, REQ_RELOAD))
		inst_reload(w, u);
}

static void request_reset(struct world *w, const struct request *r)
{
	struct unit *u = r->unit;
	backoff_clear(w, u);
	if (u->rec.state == INST_FAILED) {
		u->rec.result = RES_SUCCESS;
		unit_fail_text(u, "%s", "");
		inst_stop(w, u);
	}
	fx_reply(w, r->id, REPLY_DONE, "%s: start limit, back-off and failure are forgotten",
		u->name);
}

void job_request(struct world *w, const struct request *r)
{
	if (!r->id) /* else core has told who asked for what */
		fx_event(w, EVENT_REQUEST, r->unit, NULL, "%s, by %s", request_verb_name(r->verb),
			strna(r->actor));
	if (r->verb == REQ_START)
		request_start(w, r);
	else if (r->verb == REQ_STOP && r->unit->conf->refuse_manual_stop)
		fx_reply(w, r->id, REPLY_REFUSED, "%s has RefuseManualStop=yes", r->unit->name);
	else if (r->verb == REQ_STOP)
		unit_want(w, r->unit, WANT_DOWN, true, r->id);
	else if (r->verb == REQ_RESTART || r->verb == REQ_TRY_RESTART)
		request_restart(w, r);
	else if (r->verb == REQ_RELOAD)
		request_reload(w, r);
	else if (r->verb == REQ_RELOAD_OR_RESTART && unit_is_up(r->unit) &&
		 inst_can_reload(r->unit) && !r->unit->rec.stop_wanted)
		request_reload(w, r);
	else if (r->verb == REQ_RELOAD_OR_RESTART)
		request_restart(w, r);
	else
		request_reset(w, r);
}

void job_shutdown(struct world *w, int exit_code, const char *text)
{
	if (w->is_shutting_down)
		return;
	w->is_shutting_down = true;
	w->exit_code = exit_code;
	w->exit_text = text;
	fx_event(w, EVENT_SHUTDOWN, NULL, NULL, "stopping everything; exit code %d", exit_code);
	for (size_t i = 0; i < w->n_units; i++) {
		struct unit *u = w->units[i];
		requests_cancel(w, u, CLASS_DOWN);
		u->rec.restart_wanted = 0;
		u->rec.stop_wanted = !unit_is_down(u);
		set_want(w, u, WANT_DOWN);
	}
}

void job_restored(struct world *w, struct unit *u)
{
	unit_poke(w, u);
}

/* ---- for people ---- */

void unit_waiting_text(const struct world *w, const struct unit *u, struct buf *out)
{
	char span[TIMESPAN_MAX];
	uint64_t at = u->timers[TIMER_RESTART].at_us, deadline = u->timers[TIMER_STATE].at_us;
	enum inst_state s = (enum inst_state)u->rec.state;
	buf_add_str(out, "");
	if (u->waits_for == u && (u->rec.want == WANT_UP || is_stopping(u)))
		buf_add_str(out, "waiting for left-over processes to end");
	else if (u->waits_for && (u->rec.want == WANT_UP || is_stopping(u)))
		buf_printf(out, "waiting for %s%s", u->waits_for->name,
			is_stopping(u) ? " to stop" : "");
	else if (s == INST_AUTO_RESTART && at)
		buf_printf(out, "restart in %s",
			format_timespan(span, at > w->now_us ? at - w->now_us : 0));
	else if (unit_is_up(u) && (is_stopping(u) || u->rec.is_unhealthy))
		buf_printf(out, "%s", u->rec.lb_phase == LBP_DRAINING ? "draining" : "stopping");
	else if (deadline && !unit_is_down(u))
		buf_printf(out, "in %s, at most %s more", inst_state_name(s),
			format_timespan(span, deadline > w->now_us ? deadline - w->now_us : 0));
	else if (unit_is_up(u) && !health_is_ready(u))
		buf_add_str(out, "waiting for its ready check");
}
