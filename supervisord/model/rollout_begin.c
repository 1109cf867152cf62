/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Beginning a rollout: what people ask for, the checks before anything is touched, the plan, and going
 * on after a restart of core.
 *
 *  1. A refused request changed nothing and says why, with the names a person needs.
 *  2. Only one rollout at a time in a set. HALTED, ABORTED and the good ends are over: the next
 *     deploy may begin from there, also with mixed revisions.
 *  3. A deploy of what runs already is done at once; a restart replaces members on their own revision.
 *  4. After a restart of core each member's step is put right by what the member is, not by what
 *     the journal hoped; the journal is told before anything is done about it, and rollout.c goes on.
 *
 * Called by set.c and world.c.
 */
#include "model/rollout.h"

/* What is about to begin. */
struct proposal {
	struct set *s;
	bool is_restart, is_undo;
	uint32_t to_revision;
	const char *to_release;
	const struct rollout_conf *policy;
	unsigned count, surge, unavailable;
};

static bool is_restart_verb(enum request_verb verb)
{
	return verb == REQ_ROLLING_RESTART || verb == REQ_RESTART || verb == REQ_TRY_RESTART;
}

/* The numbers as Kubernetes resolves them: surge up, unavailable down, and never neither. */
static void propose_numbers(struct proposal *p)
{
	const struct rollout_conf *c = p->policy;

	p->count = MIN(p->s->count, (unsigned)SET_MEMBERS_MAX);
	p->surge = c ? amount_of(&c->max_surge, p->count, true) : 0;
	p->unavailable = c ? amount_of(&c->max_unavailable, p->count, false) : 0;
	p->surge = MIN(p->surge, SET_MEMBERS_MAX - p->count);
	p->unavailable = MIN(p->unavailable, p->count);
	if (!p->surge && !p->unavailable)
		p->unavailable = MIN(1U, p->count);
}

static bool is_on(const struct proposal *p, const struct unit *u)
{
	return !p->is_restart && u->rec.revision == p->to_revision;
}

static struct unit_conf *conf_for(const struct proposal *p, const struct unit *u)
{
	if (p->is_restart || is_on(p, u))
		return u->conf;
	return u->next_conf && u->next_revision == p->to_revision ? u->next_conf : NULL;
}

/* Nobody to wait for (the whole set is down on purpose), or nothing to do: no extra members then. */
static void propose(struct proposal *p)
{
	bool any_runs = false, any_to_do = false;

	for (unsigned i = 0; i < MIN(p->s->count, (unsigned)SET_MEMBERS_MAX); i++) {
		const struct unit *u = p->s->members[i];
		struct unit_conf *c = u ? conf_for(p, u) : NULL;
		if (!u)
			continue;
		if (!p->policy && c)
			p->policy = &c->rollout;
		any_runs |= !unit_is_told_down(u);
		any_to_do |= !is_on(p, u);
	}
	propose_numbers(p);
	if (!any_runs || !any_to_do)
		p->surge = 0;
}

/* ---- checks before anything is touched --------------------------------------------------------- */

static bool check_members(const struct proposal *p, struct buf *why)
{
	for (unsigned i = 0; i < p->count + p->surge; i++) {
		const struct unit *u = p->s->members[i];
		const struct unit_conf *c = u ? conf_for(p, u) : NULL;
		if (!u) {
			buf_printf(why, "member %u was not loaded", i + 1);
		} else if (!c && i >= p->count && u->rec.revision == 0) {
			continue; /* a new extra member has the conf it starts with */
		} else if (!c) {
			buf_printf(why, "%s has no unit text of revision %u", SHORT(u),
				p->to_revision);
		} else if (c->load != LOAD_LOADED) {
			buf_printf(why, "the unit file of %s in revision %u does not load: %s",
				SHORT(u), p->to_revision, unit_load_name(c->load));
		} else {
			continue;
		}
		return false;
	}
	return true;
}

static bool check_policy(const struct proposal *p, struct buf *why)
{
	if (!p->policy || p->is_restart)
		return true;
	if (p->policy->strategy == ROLLOUT_BLUE_GREEN) {
		buf_add_str(why, "Strategy=blue-green is not implemented; Strategy=rolling with "
				 "MaxSurge=100% and MaxUnavailable=0 keeps the old ones until all "
				 "new ones serve");
		return false;
	}
	if (p->policy->gate && *p->policy->gate) {
		buf_add_str(why, "Gate= is not implemented; a gate that is not asked must not "
				 "look as if it had agreed");
		return false;
	}
	return true;
}

static bool check_lbs(const struct proposal *p, struct buf *why)
{
	bool any_runs = false;

	for (unsigned i = 0; i < p->count; i++) {
		const struct unit *u = p->s->members[i];
		if (unit_is_told_down(u))
			continue;
		any_runs = true;
		if (!lb_unit_is_known(u, why))
			return false;
	}
	/* Unreachable=wait: it may begin, and does nothing until they answer (rollout_is_blocked()). */
	return !any_runs || p->s->members[0]->conf->lb.unreachable == UNREACHABLE_WAIT ||
	       lb_set_is_usable(p->s, &p->s->members[0]->conf->lb, why);
}

/* Members that are down on purpose or held out never come to help: enough others must be left. A set
 * that is merely broken is not refused: a deploy is how one mends it. */
static bool check_enough(const struct proposal *p, struct buf *why)
{
	unsigned able = 0, need = p->count - p->unavailable;
	const struct unit *missing = NULL;

	for (unsigned i = 0; i < p->count; i++) {
		const struct unit *u = p->s->members[i];
		if (unit_is_told_down(u) || unit_is_held(u))
			missing = u;
		else
			able++;
	}
	if (!able || !missing || able + p->surge >= need + 1)
		return true;
	buf_printf(why, "%u of %u members run and %u must go on serving: start or undrain %s first",
		able, p->count, need, SHORT(missing));
	return false;
}

static bool check_free(const struct proposal *p, struct buf *why)
{
	if (!rollout_is_active(p->s))
		return true;
	buf_printf(why, "rollout d-%llu is under way (%s)", (unsigned long long)p->s->rollout.id,
		rollout_state_name(p->s->rollout.state));
	return false;
}

static bool preflight(const struct proposal *p, struct buf *why)
{
	return check_free(p, why) && check_members(p, why) && check_policy(p, why) &&
	       check_lbs(p, why) && check_enough(p, why);
}

/* ---- beginning ------------------------------------------------------------------------------------- */

/* Extra members of the rollout before that are none of this one's: touched beyond its members, until its
 * good end takes them away (stop_surplus()). */
static void note_surplus(struct set *s, const struct rollout_rec *before)
{
	bool was_left = before->state == ROLL_HALTED || before->state == ROLL_ABORTED;

	for (unsigned i = rollout_total(s); was_left && i < SET_MEMBERS_MAX; i++) {
		bool was_extra =
			i >= before->count &&
			(i < (unsigned)before->count + before->surge || before->touched[i]);
		if (was_extra && s->members[i] && !unit_is_down(s->members[i]))
			s->rollout.touched[i] = TOUCHED;
	}
}

static void record(struct world *w, const struct proposal *p, const struct request *r)
{
	struct set *s = p->s;
	struct rollout_rec *rec = &s->rollout;
	const struct rollout_rec before = *rec;

	memset(rec, 0, sizeof(*rec));
	rec->version = ROLLOUT_REC_VERSION;
	rec->state = ROLL_PREFLIGHT;
	rec->is_undo = p->is_undo;
	rec->is_restart = p->is_restart;
	rec->id = w->next_rollout_id++;
	str_copy(rec->set, s->name, sizeof(rec->set));
	rec->from_revision = s->revision;
	rec->to_revision = p->to_revision;
	str_copy(rec->from_release, s->release, sizeof(rec->from_release));
	str_copy(rec->to_release, p->to_release, sizeof(rec->to_release));
	rec->count = p->count;
	rec->surge = p->surge;
	rec->unavailable = p->unavailable;
	note_surplus(s, &before);
	rec->pause_after = r->verb == REQ_DEPLOY ? r->pause_after : 0;
	rec->began_wall_us = w->wall_us;
	rec->request = r->id;
	str_copy(rec->actor, strna(r->actor), sizeof(rec->actor));
	memset(s->soak_since_us, 0, sizeof(s->soak_since_us));
	memset(s->best_step, 0, sizeof(s->best_step));
	memset(s->has_started, 0, sizeof(s->has_started));
	s->wait_key = 0;
	memset(&s->failure, 0, sizeof(s->failure));
}

static void begin(struct world *w, const struct request *r)
{
	struct set *s = r->set;
	struct proposal p = {.s = s, .is_restart = is_restart_verb(r->verb)};
	struct buf why = {0};

	p.is_undo = r->verb == REQ_UNDO;
	p.to_revision = p.is_restart ? s->revision : (uint32_t)r->number;
	p.to_release = p.is_restart ? s->release : strna(r->release);
	propose(&p);
	if (!preflight(&p, &why)) {
		fx_reply(w, r->id, REPLY_REFUSED, "%s: %s", s->name, why.data);
		buf_done(&why);
		return;
	}
	set_op_cancel(w, s, "a rollout began");
	record(w, &p, r);
	rollout_journal(
		w, s, "begin: revision %u to %u", s->rollout.from_revision, s->rollout.to_revision);
	fx_event(w, EVENT_ROLLOUT_START, NULL, s,
		"d-%llu: %s%s to %s, %u members, surge %u, unavailable %u",
		(unsigned long long)s->rollout.id, p.is_restart ? "restart, " : "",
		*s->release ? s->release : "-", *p.to_release ? p.to_release : "-", p.count,
		p.surge, p.unavailable);
	/* Members are changed in a later step: their records are written before this step's journal. */
	timer_arm(w, rollout_timer(s, TIMER_SOAK), w->now_us + 1);
	set_queue(w, s);
	buf_done(&why);
}

static void steer(struct world *w, const struct request *r, enum rollout_event event)
{
	struct set *s = r->set;
	enum rollout_state before = s->rollout.state;
	bool is_refused;

	/* Members that came since have the revision of before, and were its extra ones perhaps. */
	if (before == ROLL_HALTED && s->count > s->rollout.count &&
		(event == RE_RESUME || (event == RE_ABORT && s->rollout.surge))) {
		fx_reply(w, r->id, REPLY_REFUSED,
			"%s: it has %u members now, %u when the rollout began: deploy again",
			s->name, s->count, s->rollout.count);
		return;
	}
	if (event == RE_ABORT || event == RE_ABORT_STAY) {
		bool is_over = !rollout_is_active(s) && before != ROLL_HALTED;
		if (!is_over && before != ROLL_ROLLING_BACK)
			snprintf(s->rollout.reason, sizeof(s->rollout.reason), "aborted by %s",
				r->actor ? r->actor : "request");
	}
	rollout_feed(w, s, event, NULL, &is_refused);
	/* Whoever waits for the set waited for it without a rollout; its patience has that timer now. */
	if (!is_refused && (event == RE_ABORT || event == RE_RESUME))
		set_op_cancel(w, s, "the rollout goes on");
	if (is_refused) {
		fx_reply(w, r->id, REPLY_REFUSED, "%s: the rollout is %s", s->name,
			rollout_state_name(before));
	} else if (event == RE_ABORT) {
		s->op_request = r->id; /* answered when it is rolled back, or halted */
		s->op_verb = REQ_ABORT;
	} else {
		fx_reply(w, r->id, REPLY_DONE, "d-%llu of %s is %s",
			(unsigned long long)s->rollout.id, s->name,
			rollout_state_name(s->rollout.state));
	}
}

void rollout_request(struct world *w, const struct request *r)
{
	switch (r->verb) {
	case REQ_DEPLOY:
	case REQ_UNDO:
	case REQ_RESTART:
	case REQ_TRY_RESTART:
	case REQ_ROLLING_RESTART:
		begin(w, r);
		break;
	case REQ_PAUSE:
		steer(w, r, RE_PAUSE);
		break;
	case REQ_RESUME:
		steer(w, r, RE_RESUME);
		break;
	case REQ_ABORT:
		steer(w, r, r->number ? RE_ABORT : RE_ABORT_STAY);
		break;
	case REQ_START:
	case REQ_STOP:
	case REQ_RELOAD:
	case REQ_RELOAD_OR_RESTART:
	case REQ_RESET_FAILED:
	case REQ_SCALE:
	case REQ_DRAIN:
	case REQ_UNDRAIN:
	case REQ_VERB_MAX:
		break;
	}
}

/* The whole set is told to stop: the rollout ends as it stands, the members keep their revisions. The
 * next deploy of the stopped set makes them equal. */
void rollout_set_stopped(struct world *w, struct set *s)
{
	if (!rollout_is_active(s) && s->rollout.state != ROLL_HALTED)
		return;
	str_copy(s->rollout.reason, "the set was stopped", sizeof(s->rollout.reason));
	rollout_feed(w, s, RE_SET_STOP, NULL, NULL);
}

/* ---- after a restart of core ---------------------------------------------------------------------------- */

/* Says again what the step wants; all of it is idempotent. */
static void restore_extra(struct world *w, struct set *s, unsigned i)
{
	struct unit *u = s->members[i];
	uint8_t step = s->rollout.step[i];
	enum rollout_state phase = rollout_phase(s);

	if (phase == ROLL_UNSURGE || phase == ROLL_ROLLING_BACK) {
		if (step == STEP_DRAIN)
			unit_want(w, u, WANT_DOWN, true, 0);
		return;
	}
	/* One that somebody stopped meanwhile stays so, restart or not. */
	if (step != STEP_PENDING && step != STEP_FAILED && u->rec.want != WANT_DOWN)
		unit_want(w, u, WANT_UP, true, 0);
	if (step >= STEP_START && !rollout_is_on_target(s, u) && unit_is_down(u))
		s->rollout.step[i] = STEP_START;
}

static void restore_member(struct world *w, struct set *s, unsigned i)
{
	struct unit *u = s->members[i];
	uint8_t *step = &s->rollout.step[i];

	if (*step == STEP_PENDING && !s->rollout.is_restart && !s->rollout.is_rollback_wanted &&
		u->rec.revision == s->rollout.to_revision &&
		u->next_revision == s->rollout.from_revision) {
		s->rollout.touched[i] = TOUCHED; /* its record was ahead of the journal */
		*step = rollout_is_told_down(s, i) ? STEP_DRAIN : STEP_START;
	}
	if (*step == STEP_PENDING || *step == STEP_FAILED)
		return;
	if (rollout_is_told_down(s, i) && unit_is_down(u) && *step != STEP_DONE)
		*step = STEP_DRAIN; /* advance() sees that it is down on purpose */
	else if (*step > STEP_START && !rollout_is_on_target(s, u) && s->rollout.touched[i])
		*step = STEP_PENDING; /* another boot: it came up on its old revision */
	else if (*step <= STEP_STOP && !s->rollout.is_restart && rollout_is_on_target(s, u) &&
		 !unit_is_down(u) && !s->rollout.is_rollback_wanted)
		*step = STEP_START; /* the record was ahead of the journal */
	if (rollout_is_told_down(s, i)) {
		return;
	} else if (*step == STEP_DRAIN || *step == STEP_STOP) {
		unit_restart(w, u, 0);
	} else if (*step == STEP_START) {
		if (unit_is_down(u) || !rollout_is_on_target(s, u))
			unit_restart(w, u, 0);
		else
			s->has_started[i] = 1;
	} else if (*step > STEP_START && *step <= STEP_SOAK) {
		s->has_started[i] = 1;
	}
}

void rollout_restored(struct world *w, struct set *s)
{
	struct rollout_rec *r = &s->rollout;
	const struct rollout_rec before = *r;

	w->next_rollout_id = MAX(w->next_rollout_id, r->id + 1);
	r->request = 0; /* whoever waited was connected to the core that is gone */
	if (r->state == ROLL_DONE && !r->is_restart && s->revision != r->to_revision)
		rollout_commit(w, s);
	if (!rollout_is_active(s))
		return;
	for (unsigned i = 0; i < rollout_total(s); i++) {
		if (!s->members[i]) {
			snprintf(r->reason, sizeof(r->reason), "member %u is not loaded any more",
				i + 1);
			r->count = MIN(r->count, i);
			r->surge = 0;
			rollout_enter(w, s, ROLL_HALTED);
			return;
		}
		if (r->state == ROLL_PREFLIGHT)
			; /* nothing is touched yet: who is on the new revision was so before */
		else if (rollout_is_extra(s, i))
			restore_extra(w, s, i);
		else
			restore_member(w, s, i);
		s->best_step[i] = r->step[i];
		s->soak_since_us[i] = r->step[i] == STEP_SOAK ? w->now_us : 0;
	}
	if (memcmp(before.step, r->step, sizeof(r->step)) != 0)
		rollout_journal(w, s, "core was restarted");
	if (r->state != ROLL_PAUSED)
		rollout_arm_deadline(w, s, rollout_soak_us(s, 0));
	s->wait_key = 0;
	set_queue(w, s);
}

/* ---- the plan -------------------------------------------------------------------------------------------- */

static void plan_member(const struct proposal *p, unsigned i, bool is_out, struct buf *out)
{
	const struct unit *u = p->s->members[i];
	const struct lb_conf *lb = u ? &u->conf->lb : NULL;
	char span[TIMESPAN_MAX];

	if (!u)
		return;
	buf_printf(out, "  %-12s ", SHORT(u));
	if (unit_is_told_down(u) && i < p->count) {
		buf_add_str(out, "stays down, switches revision\n");
		return;
	}
	if (is_on(p, u) && !is_out) {
		buf_add_str(out, "is there already\n");
		return;
	}
	if (i < p->count || is_out) {
		if (lb->is_set && lb->drain_timeout_us != USEC_INFINITY)
			buf_printf(out, "drain (at most %s), ",
				format_timespan(span, lb->drain_timeout_us));
		else if (lb->is_set)
			buf_add_str(out, "drain, ");
		buf_add_str(out, is_out ? "stop\n" : "stop, ");
	}
	if (is_out)
		return;
	buf_printf(out, "start%s, ready", i < p->count ? "" : " (extra)");
	if (lb->is_set)
		buf_printf(out, ", enter %u load balancer%s", (unsigned)lb->address.n,
			lb->address.n == 1 ? "" : "s");
	if (p->policy && p->policy->min_ready_us)
		buf_printf(out, ", soak %s", format_timespan(span, p->policy->min_ready_us));
	buf_add_byte(out, '\n');
}

/* At least the soaks, one batch after the other; at most every drain to its end as well. */
static void plan_time(const struct proposal *p, struct buf *out)
{
	const struct unit *u = p->s->members[0];
	uint64_t soak = p->policy ? p->policy->min_ready_us : 0, drain = 0;
	unsigned batch = MAX(1U, p->unavailable ? p->unavailable : p->surge);
	unsigned batches = (p->count + batch - 1) / batch;
	char least[TIMESPAN_MAX], most[TIMESPAN_MAX];

	if (u && u->conf->lb.is_set && u->conf->lb.drain_timeout_us != USEC_INFINITY)
		drain = u->conf->lb.drain_timeout_us;
	if (p->surge)
		batches++;
	buf_printf(out,
		"%u batches of at most %u; at least %s, with every drain to its limit %s, plus "
		"starting\n",
		batches, batch, format_timespan(least, batches * soak),
		format_timespan(most, batches * (soak + drain)));
}

void rollout_plan(const struct world *w, const struct set *s, struct buf *out)
{
	struct proposal p = {.s = (struct set *)s};
	struct buf why = {0};

	(void)w;
	for (unsigned i = 0; i < s->count && i < SET_MEMBERS_MAX; i++)
		if (s->members[i] && s->members[i]->next_conf)
			p.to_revision = MAX(p.to_revision, s->members[i]->next_revision);
	p.is_restart = !p.to_revision;
	propose(&p);
	buf_printf(out, "%s: %u members, surge %u, unavailable %u: never fewer than %u serve\n",
		s->name, p.count, p.surge, p.unavailable, p.count - p.unavailable);
	for (unsigned i = p.count; i < p.count + p.surge; i++)
		plan_member(&p, i, false, out);
	for (unsigned i = 0; i < p.count; i++)
		plan_member(&p, i, false, out);
	for (unsigned i = p.count + p.surge; i-- > p.count;)
		plan_member(&p, i, true, out);
	if (p.count)
		plan_time(&p, out);
	if (!preflight(&p, &why))
		buf_printf(out, "would be refused now: %s\n", why.data);
	buf_done(&why);
}
