/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Replica sets: how many members there are, and what is asked of all of them at once.
 *
 * Owns set->count, the queue of sets to look at, and op_request. Members are units that core added
 * with their index before it scales or deploys; this file only says which of them are wanted.
 *
 *  1. A set changes wants only when it is asked to. A member that somebody stopped by hand stays
 *     stopped; nothing here starts it again behind his back.
 *  2. Scaling down takes the highest indexes, and each drains before it stops (job.c holds the stop).
 *  3. One request at a time waits for the set; a later one cancels it. Each is answered once.
 *  4. A rollout under way owns the members: scaling and a second deploy are refused. Stopping the
 *     whole set always works: it ends the rollout as aborted, because whoever types "stop" means it.
 *
 * Called by world.c (requests, timers, set_run) and by whoever changes a unit (set_unit_changed).
 */
#include "model/parts.h"

#define SET_RUNS_MAX 64 /* looks at one set in one step; further ones wait for the next event */

void set_queue(struct world *w, struct set *s)
{
	if (s->in_queue)
		return;
	s->in_queue = true;
	GROW(w->set_queue, w->n_set_queue, w->cap_set_queue);
	w->set_queue[w->n_set_queue++] = s;
}

void set_unit_changed(struct world *w, struct unit *u)
{
	if (u->set)
		set_queue(w, u->set);
}

unsigned set_available(const struct set *s)
{
	unsigned n = 0;
	for (unsigned i = 0; i < MIN(s->count, SET_MEMBERS_MAX); i++)
		n += s->members[i] && unit_is_available(s->members[i]);
	return n;
}

/* ---- a request that waits for the whole set --------------------------------------------------- */

static void op_answer(struct world *w, struct set *s, enum reply_result result, const char *text)
{
	uint64_t id = s->op_request;

	if (!rollout_is_active(s))
		timer_drop(w, &s->timers[TIMER_ROLLOUT - TIMER_UNIT_MAX]);
	s->op_request = 0;
	if (id)
		fx_reply(w, id, result, "%s: %s", s->name, text);
}

void set_op_cancel(struct world *w, struct set *s, const char *why)
{
	op_answer(w, s, REPLY_CANCELED, why);
}

static uint64_t patience_us(const struct set *s)
{
	const struct unit *u = s->members[0];
	uint64_t t = u && u->conf ? u->conf->rollout.progress_deadline_us : 0;
	return t ? t : 600 * USEC_PER_SEC;
}

static void op_begin(struct world *w, struct set *s, const struct request *r)
{
	uint64_t t = patience_us(s);

	if (s->op_request)
		op_answer(w, s, REPLY_CANCELED, "a later request took its place");
	s->op_request = r->id;
	s->op_verb = (uint8_t)r->verb;
	if (r->id)
		timer_arm(w, &s->timers[TIMER_ROLLOUT - TIMER_UNIT_MAX],
			t == USEC_INFINITY ? t : w->now_us + t);
}

/* The first member that is not yet as wanted; NULL when all are. */
static struct unit *op_open_member(const struct set *s)
{
	for (unsigned i = 0; i < SET_MEMBERS_MAX; i++) {
		struct unit *u = s->members[i];
		bool is_wanted = i < s->count && s->op_verb != REQ_STOP;
		bool is_there;
		if (!u)
			continue;
		if (is_wanted && s->op_verb == REQ_SCALE && u->rec.want == WANT_DOWN)
			continue; /* stopped by hand: scaling does not start it */
		is_there = is_wanted ? unit_is_available(u) || u->rec.lb_phase == LBP_HELD
				     : unit_is_down(u);
		if (u->in_queue || !is_there)
			return u;
	}
	return NULL;
}

static void op_check(struct world *w, struct set *s)
{
	char text[256];

	if (!s->op_request || s->op_verb == REQ_ABORT)
		return;
	for (unsigned i = 0; i < SET_MEMBERS_MAX; i++) {
		struct unit *u = s->members[i];
		if (!u || u->in_queue)
			continue;
		if (i < s->count && s->op_verb != REQ_STOP && u->rec.want != WANT_DOWN &&
			u->rec.state == INST_FAILED) {
			snprintf(text, sizeof(text), "%s failed: %.180s", u->name, u->fail_text);
			op_answer(w, s, REPLY_FAILED, text);
			return;
		}
		/* OnDrainTimeout=abort gave the stop up. */
		if ((i >= s->count || s->op_verb == REQ_STOP) && u->rec.want == WANT_UP) {
			snprintf(text, sizeof(text), "%s was not stopped", u->name);
			op_answer(w, s, REPLY_REFUSED, text);
			return;
		}
	}
	if (op_open_member(s))
		return;
	if (s->op_verb == REQ_STOP)
		snprintf(text, sizeof(text), "stopped");
	else
		snprintf(text, sizeof(text), "%u of %u available", set_available(s), s->count);
	op_answer(w, s, REPLY_DONE, text);
}

static void op_deadline(struct world *w, struct set *s)
{
	struct unit *u = op_open_member(s);
	struct buf why = {0};
	char text[400];

	if (!s->op_request)
		return;
	if (u)
		unit_waiting_text(w, u, &why);
	snprintf(text, sizeof(text), "still waiting for %s%s%.240s", u ? u->name : "its members",
		why.size ? ": " : "", why.size ? why.data : "");
	op_answer(w, s, REPLY_FAILED, text);
	buf_done(&why);
}

/* ---- requests ---------------------------------------------------------------------------------- */

static void want_members(struct world *w, struct set *s, enum want want)
{
	unsigned to = want == WANT_UP ? s->count : SET_MEMBERS_MAX;

	for (unsigned k = 0; k < MIN(to, SET_MEMBERS_MAX); k++) {
		unsigned i = want == WANT_UP ? k : SET_MEMBERS_MAX - 1 - k;
		struct unit *u = s->members[i];
		if (u && (want == WANT_UP || u->rec.want == WANT_UP || !unit_is_down(u)))
			unit_want(w, u, want, true, 0);
	}
}

static void request_scale(struct world *w, const struct request *r)
{
	struct set *s = r->set;
	unsigned before = s->count;

	if (rollout_is_active(s)) {
		fx_reply(w, r->id, REPLY_REFUSED, "%s: rollout d-%llu is %s; scale when it is over",
			s->name, (unsigned long long)s->rollout.id,
			rollout_state_name(s->rollout.state));
		return;
	}
	if (r->number > SET_MEMBERS_MAX) {
		fx_reply(w, r->id, REPLY_REFUSED, "%s: at most %u members", s->name,
			SET_MEMBERS_MAX);
		return;
	}
	for (unsigned i = 0; i < r->number; i++)
		if (!s->members[i]) {
			fx_reply(w, r->id, REPLY_REFUSED, "%s: member %u was not loaded", s->name,
				i + 1);
			return;
		}
	s->count = (unsigned)r->number;
	s->is_dirty = true;
	fx_add(w, FX_COUNT)->set = s;
	fx_event(w, EVENT_SCALED, NULL, s, "%u to %u members", before, s->count);
	op_begin(w, s, r);
	for (unsigned i = SET_MEMBERS_MAX; i-- > s->count;)
		if (s->members[i] &&
			(s->members[i]->rec.want == WANT_UP || !unit_is_down(s->members[i])))
			unit_want(w, s->members[i], WANT_DOWN, true, 0);
	for (unsigned i = 0; i < s->count; i++) {
		struct unit *u = s->members[i];
		bool has_ended = u->rec.want != WANT_DOWN && unit_is_down(u);
		if (i >= before || before == 0 || has_ended)
			unit_want(w, u, WANT_UP, true, 0);
	}
	set_queue(w, s);
}

static void request_stop(struct world *w, const struct request *r)
{
	rollout_set_stopped(w, r->set);
	op_begin(w, r->set, r);
	want_members(w, r->set, WANT_DOWN);
	set_queue(w, r->set);
}

static void request_start(struct world *w, const struct request *r)
{
	struct set *s = r->set;

	if (rollout_is_active(s)) {
		fx_reply(w, r->id, REPLY_REFUSED, "%s: rollout d-%llu is %s", s->name,
			(unsigned long long)s->rollout.id, rollout_state_name(s->rollout.state));
		return;
	}
	op_begin(w, s, r);
	want_members(w, s, WANT_UP);
	set_queue(w, s);
}

void set_request(struct world *w, const struct request *r)
{
	struct set *s = r->set;

	switch (r->verb) {
	case REQ_SCALE:
		request_scale(w, r);
		break;
	case REQ_START:
		request_start(w, r);
		break;
	case REQ_STOP:
		request_stop(w, r);
		break;
	case REQ_DEPLOY:
	case REQ_UNDO:
	case REQ_RESTART:
	case REQ_TRY_RESTART:
	case REQ_ROLLING_RESTART:
	case REQ_PAUSE:
	case REQ_RESUME:
	case REQ_ABORT:
		rollout_request(w, r);
		break;
	case REQ_RELOAD:
	case REQ_RELOAD_OR_RESTART:
	case REQ_RESET_FAILED:
	case REQ_DRAIN:
	case REQ_UNDRAIN:
	case REQ_VERB_MAX:
		fx_reply(w, r->id, REPLY_REFUSED, "%s is a set; name one of its members", s->name);
		break;
	}
}

/* ---- looking at sets ------------------------------------------------------------------------------ */

void set_run(struct world *w)
{
	size_t looks = 0, max = (w->n_sets + 1) * SET_RUNS_MAX;

	while (w->n_set_queue && looks++ < max) {
		struct set *s = w->set_queue[0];
		w->n_set_queue--;
		memmove(w->set_queue, w->set_queue + 1, w->n_set_queue * sizeof(struct set *));
		s->in_queue = false;
		rollout_step_set(w, s);
		op_check(w, s);
	}
}

void set_timer(struct world *w, struct set *s, enum timer_kind kind)
{
	if (kind == TIMER_ROLLOUT && rollout_is_active(s))
		rollout_deadline(w, s);
	else if (kind == TIMER_ROLLOUT)
		op_deadline(w, s);
	set_queue(w, s);
}

void set_plan(const struct world *w, const struct set *s, struct buf *out)
{
	rollout_plan(w, s, out);
}
