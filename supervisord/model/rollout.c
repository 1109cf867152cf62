/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Rollouts: replacing the members of a set, a few at a time, with a way back.
 *
 * Owns set->rollout (the journal record), wait_text, TIMER_ROLLOUT and TIMER_SOAK. rollout.def is
 * the machine of the whole; the steps of one member are a line (advance()), each decided by looking
 * at the member itself, so that a restarted core goes on by looking again.
 *
 *  1. The journal is written before the effects that follow from it: a member's DRAIN is in the
 *     record before its stop can be performed, its START before the spawn.
 *  2. A serving member is taken down only while at least count - max_unavailable others serve.
 *     Serving is what the load balancers say; a member that soaks does not count yet; extra (surge)
 *     members do. Members that do not serve anyway cost nothing and are replaced first.
 *  3. A new member that fails before it is DONE fails the rollout. One that crashes after it was
 *     done has to become ready and soak again, and fails the rollout the second time.
 *  4. Rolling back touches only what was touched, newest first, without soak or canary; a new member
 *     that does not serve is replaced at once. A rollback that fails halts.
 *  5. A member that was not touched stays on its revision whatever happens to it (only
 *     rollout_unit_starting() swaps confs).
 *  6. Except while paused there is always a deadline: progress_deadline_us since a member last got
 *     further than ever before. Flapping is no progress.
 *  7. Extra members leave with the rollout that brought them; what one left that was aborted or halted
 *     leaves at the good end of the next, drained as ever.
 *  8. The waiting request is answered once, when the rollout is over in whichever way.
 *
 * Members told to be down (stopped by hand, or the whole set) switch revision without a start.
 * A member held by an operator is replaced and stays held; it is not waited for at the load balancer.
 *
 * Called by set.c; rollout_unit_failed() and rollout_unit_starting() by instance.c.
 */
#include "model/rollout.h"

#define PASSES_MAX 64 /* rounds in one look at a set */

/* ---- saying -------------------------------------------------------------------------------------- */

void rollout_journal(struct world *w, struct set *s, const char *format, ...)
{
	struct effect *fx;
	char text[192];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	s->is_dirty = true;
	fx = fx_add(w, FX_JOURNAL);
	fx->set = s;
	fx->text = arena_strdup(&w->fx->arena, text);
}

/* A load balancer that is restarted in the middle has forgotten everything; between two looks it
 * sends requests wherever its file says. 0 = as slowly as ever. */
static void look_often(struct world *w, struct set *s, uint64_t for_us)
{
	struct effect *fx;

	if (!s->n_lbs)
		return;
	fx = fx_add(w, FX_LB_FAST);
	fx->set = s;
	fx->number = (for_us == USEC_INFINITY ? 3600 * USEC_PER_SEC : for_us) / USEC_PER_MSEC;
}

void rollout_arm_deadline(struct world *w, struct set *s, uint64_t extra_us)
{
	uint64_t t = rollout_deadline_us(s);
	timer_arm(w, rollout_timer(s, TIMER_ROLLOUT),
		t == USEC_INFINITY ? t : w->now_us + t + extra_us);
	look_often(w, s, t == USEC_INFINITY ? t : t + extra_us);
}

/* Moves one member on: record first, then the clock (invariants 1 and 6). */
void rollout_set_step(struct world *w, struct set *s, unsigned i, enum rollout_step step)
{
	struct rollout_rec *r = &s->rollout;
	struct unit *u = s->members[i];

	if (r->step[i] == step)
		return;
	r->step[i] = (uint8_t)step;
	rollout_journal(w, s, "%s %s", SHORT(u), rollout_step_name(step));
	fx_event(w, EVENT_ROLLOUT_STEP, u, s, "%s", rollout_step_name(step));
	s->soak_since_us[i] = step == STEP_SOAK ? w->now_us : 0;
	if (step > s->best_step[i]) {
		s->best_step[i] = (uint8_t)step;
		if (r->state != ROLL_PAUSED)
			rollout_arm_deadline(w, s, step == STEP_SOAK ? rollout_soak_us(s, i) : 0);
	}
}

static void begin_step(struct world *w, struct set *s, unsigned i, enum rollout_step step)
{
	s->rollout.touched[i] = TOUCHED;
	s->has_started[i] = 0;
	s->best_step[i] = STEP_PENDING;
	rollout_set_step(w, s, i, step);
}

/* ---- the choices of rollout.def ------------------------------------------------------------------ */

static enum rollout_state pick_begin(struct world *w, struct set *s, struct unit *u)
{
	(void)w, (void)u;
	return s->rollout.surge ? ROLL_SURGE : ROLL_ROLLING;
}

static enum rollout_state pick_failed(struct world *w, struct set *s, struct unit *u)
{
	const struct rollout_conf *c = rollout_policy(s);

	(void)u;
	fx_event(w, EVENT_ROLLOUT_FAILING, u, s, "%s", s->rollout.reason);
	return c && c->auto_rollback ? ROLL_ROLLING_BACK : ROLL_HALTED;
}

static enum rollout_state pick_unsurge_failed(struct world *w, struct set *s, struct unit *u)
{
	if (u && u->rec.index && rollout_is_extra(s, u->rec.index - 1U))
		return ROLL_HALTED;
	return pick_failed(w, s, u);
}

static enum rollout_state pick_rolled(struct world *w, struct set *s, struct unit *u)
{
	(void)w, (void)u;
	return s->rollout.surge ? ROLL_UNSURGE : ROLL_DONE;
}

static enum rollout_state pick_resume(struct world *w, struct set *s, struct unit *u)
{
	uint64_t soak_us;

	(void)w, (void)u;
	/* Resuming past the canary; resuming an earlier pause does not skip it. */
	if (s->rollout.resume_state == ROLL_ROLLING && rollout_canary(s, &soak_us)) {
		unsigned done = 0;
		for (unsigned i = 0; i < s->rollout.count; i++)
			done += s->rollout.step[i] == STEP_DONE;
		if (done >= rollout_canary(s, &soak_us))
			s->rollout.is_canary_passed = 1;
	}
	return s->rollout.resume_state;
}

static bool is_mixed(const struct set *s)
{
	if (s->rollout.is_restart)
		return false;
	for (unsigned i = 0; i < s->rollout.count; i++)
		if (s->members[i] && s->members[i]->rec.revision != s->rollout.from_revision)
			return true;
	return false;
}

static enum rollout_state pick_rolled_back(struct world *w, struct set *s, struct unit *u)
{
	(void)w, (void)u;
	return is_mixed(s) ? ROLL_HALTED : ROLL_ROLLED_BACK;
}

/* A person says "again": what failed is tried anew in the direction it had. */
static enum rollout_state pick_retry(struct world *w, struct set *s, struct unit *u)
{
	(void)w, (void)u;
	for (unsigned i = 0; i < rollout_total(s); i++) {
		bool has_left = rollout_is_extra(s, i) && unit_is_down(s->members[i]);
		if (s->rollout.step[i] != STEP_DONE || has_left)
			s->rollout.step[i] = STEP_PENDING;
	}
	if (s->rollout.is_rollback_wanted)
		return ROLL_ROLLING_BACK;
	if (rollout_all_done(s, 0, s->rollout.count))
		return pick_rolled(w, s, u); /* an extra one did not leave */
	for (unsigned i = s->rollout.count; i < rollout_total(s); i++)
		if (s->rollout.step[i] != STEP_DONE)
			return ROLL_SURGE;
	return ROLL_ROLLING;
}

/* ---- the machine ---------------------------------------------------------------------------------- */

struct row {
	enum rollout_state next;
	enum rollout_state (*pick)(struct world *, struct set *, struct unit *);
	bool is_refused;
	const char *never; /* why it cannot be */
};

/* Every row is an enumerator, every pair refers to one: a double or a gap does not compile. */
enum {
#define GO(p, e, n)    ROW_##p##_##e,
#define PICK(p, e, fn) ROW_##p##_##e,
#define STAY(p, e)     ROW_##p##_##e,
#define REFUSE(p, e)   ROW_##p##_##e,
#define NEVER(p, e, y) ROW_##p##_##e,
#include "model/rollout.def"
#undef GO
#undef PICK
#undef STAY
#undef REFUSE
#undef NEVER
	ROW_MAX,
};

static const struct row rows[ROW_MAX] = {
#define GO(p, e, n)    [ROW_##p##_##e] = {ROLL_##n, NULL, false, NULL},
#define PICK(p, e, fn) [ROW_##p##_##e] = {ROLL_##p, fn, false, NULL},
#define STAY(p, e)     [ROW_##p##_##e] = {ROLL_##p, NULL, false, NULL},
#define REFUSE(p, e)   [ROW_##p##_##e] = {ROLL_##p, NULL, true, NULL},
#define NEVER(p, e, y) [ROW_##p##_##e] = {ROLL_##p, NULL, false, y},
#include "model/rollout.def"
#undef GO
#undef PICK
#undef STAY
#undef REFUSE
#undef NEVER
};

_Static_assert(RE_MAX <= COVERAGE_EVENTS_MAX, "counted in world->rollout_coverage");

#define ROWS_OF(p)                                                                                 \
	{                                                                                          \
		ROW_##p##_WORKED, ROW_##p##_FAILED, ROW_##p##_DEADLINE, ROW_##p##_CANARY,          \
			ROW_##p##_PAUSE, ROW_##p##_RESUME, ROW_##p##_ABORT, ROW_##p##_ABORT_STAY,  \
			ROW_##p##_SET_STOP                                                         \
	}
static const uint8_t table[ROLL_STATE_MAX][RE_MAX] = {
#define STATE(id, text) [ROLL_##id] = ROWS_OF(id),
	ROLLOUT_STATES(STATE)
#undef STATE
};

char rollout_row_kind(enum rollout_state state, unsigned event, const char **ret_event)
{
	static const char *const names[] = {
#define EVENT(id) #id,
		ROLLOUT_EVENTS(EVENT)
#undef EVENT
	};
	if (event >= RE_MAX)
		return 0;
	const struct row *row = &rows[table[state][event]];
	*ret_event = names[event];
	return row->never           ? 'N'
	       : row->is_refused    ? 'R'
	       : row->pick          ? 'P'
	       : row->next == state ? 'S'
				    : 'G';
}

const char *rollout_row_why(enum rollout_state state, unsigned event)
{
	return rows[table[state][event]].never;
}

static void answer(struct world *w, struct set *s, enum reply_result result, const char *what)
{
	struct rollout_rec *r = &s->rollout;
	uint64_t id = r->request;

	r->request = 0;
	fx_reply(w, id, result, "d-%llu of %s %s%s%s", (unsigned long long)r->id, s->name, what,
		*r->reason ? ": " : "", r->reason);
	if (s->op_verb != REQ_ABORT || !s->op_request)
		return;
	fx_reply(w, s->op_request, r->state == ROLL_HALTED ? REPLY_HALTED : REPLY_DONE,
		"d-%llu of %s %s", (unsigned long long)r->id, s->name, what);
	s->op_request = 0;
}

/* Somebody wants it down or restarted himself, and waits for that. */
static bool is_drained_by_hand(const struct unit *u)
{
	return u->rec.want == WANT_DOWN || (u->n_requests && u->request_verb == REQ_RESTART);
}

/* Nothing further is taken down: members whose stop was decided and has not begun stay. STOP as well:
 * one that is up then waits for another unit, or has just been found to have sessions. */
static void call_off_drains(struct world *w, struct set *s)
{
	for (unsigned i = 0; i < s->rollout.count; i++) {
		struct unit *u = s->members[i];
		enum rollout_step step = s->rollout.step[i];
		if (!u || (step != STEP_DRAIN && step != STEP_STOP) || !unit_is_up(u) ||
			is_drained_by_hand(u))
			continue;
		u->rec.restart_wanted = 0; /* else taking the stop back would be a restart */
		unit_want(w, u, WANT_UP, u->rec.is_manual, 0);
	}
}

static void enter_rolling_back(struct world *w, struct set *s)
{
	struct rollout_rec *r = &s->rollout;

	call_off_drains(w, s);
	r->is_rollback_wanted = 1;
	for (unsigned i = 0; i < rollout_total(s); i++) {
		bool has_part = rollout_is_extra(s, i) || r->touched[i];
		r->step[i] = has_part ? STEP_PENDING : STEP_DONE;
		s->best_step[i] = STEP_PENDING;
		s->has_started[i] = 0;
	}
}

/* Idempotent: a core that was killed between the journal and this does it again. */
void rollout_commit(struct world *w, struct set *s)
{
	struct effect *fx;

	s->revision = s->rollout.to_revision;
	str_copy(s->release, s->rollout.to_release, sizeof(s->release));
	fx = fx_add(w, FX_RELEASE_LINK);
	fx->set = s;
	fx->number = s->revision;
	fx->text = arena_strdup(&w->fx->arena, s->release);
}

/* What an aborted or halted rollout before this one left behind its members: all of those serve now. */
static void stop_surplus(struct world *w, struct set *s)
{
	for (unsigned i = SET_MEMBERS_MAX; i-- > MAX(rollout_total(s), s->count);) {
		struct unit *u = s->members[i];
		if (u && s->rollout.touched[i] && !unit_is_down(u))
			unit_want(w, u, WANT_DOWN, true, 0);
	}
}

static void enter_end(struct world *w, struct set *s, enum rollout_state next)
{
	struct rollout_rec *r = &s->rollout;

	switch (next) {
	case ROLL_DONE:
		if (!r->is_restart)
			rollout_commit(w, s);
		stop_surplus(w, s);
		fx_event(w, EVENT_ROLLOUT_DONE, NULL, s, "d-%llu: %u members on %s",
			(unsigned long long)r->id, r->count, r->to_release);
		answer(w, s, REPLY_DONE, "is done");
		break;
	case ROLL_ROLLED_BACK:
		stop_surplus(w, s);
		fx_event(w, EVENT_ROLLED_BACK, NULL, s, "d-%llu: %s", (unsigned long long)r->id,
			r->reason);
		answer(w, s, REPLY_ROLLED_BACK, "failed and was rolled back");
		break;
	case ROLL_HALTED:
		call_off_drains(w, s);
		fx_event(w, EVENT_ROLLOUT_HALTED, NULL, s, "d-%llu: %s", (unsigned long long)r->id,
			r->reason);
		answer(w, s, REPLY_HALTED, "is halted with mixed revisions");
		break;
	case ROLL_ABORTED:
		call_off_drains(w, s);
		fx_event(w, EVENT_ROLLOUT_HALTED, NULL, s, "d-%llu: aborted",
			(unsigned long long)r->id);
		answer(w, s, REPLY_CANCELED, "was aborted");
		break;
	case ROLL_NONE:
	case ROLL_PREFLIGHT:
	case ROLL_SURGE:
	case ROLL_ROLLING:
	case ROLL_UNSURGE:
	case ROLL_PAUSED:
	case ROLL_ROLLING_BACK:
	case ROLL_STATE_MAX:
		break;
	}
}

/* The record is changed and journalled, then come the effects of being there. */
void rollout_enter(struct world *w, struct set *s, enum rollout_state next)
{
	struct rollout_rec *r = &s->rollout;
	enum rollout_state from = r->state;

	if (next == ROLL_PAUSED)
		r->resume_state = (uint8_t)from;
	r->state = (uint8_t)next;
	timer_drop(w, rollout_timer(s, TIMER_ROLLOUT));
	if (next == ROLL_UNSURGE && from != ROLL_PAUSED)
		for (unsigned i = r->count; i < rollout_total(s); i++)
			r->step[i] = STEP_PENDING;
	if (next == ROLL_ROLLING_BACK)
		enter_rolling_back(w, s);
	if (!rollout_state_is_active(next))
		r->ended_wall_us = w->wall_us;
	rollout_journal(
		w, s, "%s%s%s", rollout_state_name(next), *r->reason ? ": " : "", r->reason);
	if (next == ROLL_PAUSED)
		fx_event(w, EVENT_ROLLOUT_PAUSED, NULL, s, "d-%llu paused while %s",
			(unsigned long long)r->id, rollout_state_name(from));
	else if (from == ROLL_PAUSED && rollout_state_is_active(next))
		fx_event(w, EVENT_ROLLOUT_RESUMED, NULL, s, "d-%llu: %s", (unsigned long long)r->id,
			rollout_state_name(next));
	if (rollout_state_is_active(next) && next != ROLL_PAUSED)
		rollout_arm_deadline(w, s, 0);
	if (!rollout_state_is_active(next)) {
		look_often(w, s, 0);
		timer_drop(w, rollout_timer(s, TIMER_SOAK));
		s->wait_text[0] = '\0';
		enter_end(w, s, next);
	}
	set_queue(w, s);
}

/* True: the state changed. A refused request is told apart by is_refusable. */
bool rollout_feed(struct world *w, struct set *s, enum rollout_event event, struct unit *u,
	bool *ret_is_refused)
{
	enum rollout_state from = s->rollout.state;
	const struct row *row = &rows[table[from][event]];
	enum rollout_state next;

	if (w->rollout_coverage)
		w->rollout_coverage[from][event]++;
	if (row->never) {
		w->step_error = -EINVAL;
		return false;
	}
	if (ret_is_refused)
		*ret_is_refused = row->is_refused;
	next = row->pick ? row->pick(w, s, u) : row->next;
	if (next == from)
		return false;
	rollout_enter(w, s, next);
	return true;
}

/* ---- failure --------------------------------------------------------------------------------------- */

/* Which member, and which of its checks did not pass: going back makes it another process with
 * other answers, and people ask afterwards. */
static void keep_failure(struct set *s, const struct unit *u)
{
	s->failure.index = u->rec.index;
	s->failure.check = CHECK_KIND_MAX;
	for (int k = 0; k < CHECK_KIND_MAX; k++) {
		if (u->rec.check_ok[k] == 1 || !*u->health[k].text)
			continue;
		s->failure.check = (uint8_t)k;
		str_copy(s->failure.answer, u->health[k].text, sizeof(s->failure.answer));
	}
}

/* Cause first, then what the last failing probe said: "web@2: exited with 3; http 503 (ready check)". */
static void set_reason(struct set *s, struct unit *u, const char *why)
{
	static const char *const check_names[] = {"startup check", "ready check", "live check"};
	struct rollout_rec *r = &s->rollout;
	size_t n;

	snprintf(r->reason, sizeof(r->reason), "%s: %.150s", SHORT(u), why);
	for (int k = 0; k < CHECK_KIND_MAX; k++) {
		if (u->rec.check_ok[k] == 1 || !*u->health[k].text ||
			strstr(r->reason, u->health[k].text))
			continue;
		n = strlen(r->reason);
		snprintf(r->reason + n, sizeof(r->reason) - n, "; %s: %.80s", check_names[k],
			u->health[k].text);
	}
	str_make_printable(r->reason);
	keep_failure(s, u);
}

bool rollout_owns(const struct unit *u)
{
	const struct set *s = u->set;
	unsigned i;

	if (!s || !rollout_is_active(s) || !u->rec.index || u->rec.index > rollout_total(s))
		return false;
	i = u->rec.index - 1U;
	if (rollout_is_extra(s, i) && rollout_phase(s) != ROLL_SURGE &&
		rollout_phase(s) != ROLL_ROLLING)
		return false;
	return s->rollout.step[i] >= STEP_START && s->rollout.step[i] <= STEP_SOAK;
}

void rollout_unit_failed(struct world *w, struct unit *u, const char *why)
{
	struct set *s = u->set;
	unsigned i;

	if (!s || !rollout_is_active(s) || !u->rec.index || u->rec.index > rollout_total(s))
		return;
	i = u->rec.index - 1U;
	/* Ours is what was begun and is not over; DRAIN: its stop was given up. */
	if (!rollout_owns(u) && s->rollout.step[i] != STEP_DRAIN)
		return;
	set_reason(s, u, why && *why ? why : *u->fail_text ? u->fail_text : "failed");
	s->rollout.touched[i] = TOUCHED_FAILED;
	rollout_set_step(w, s, i, STEP_FAILED);
	rollout_feed(w, s, RE_FAILED, u, NULL);
}

/* The member under way, the first of several; NULL: none could be begun. */
static struct unit *first_in_flight(const struct set *s)
{
	for (unsigned i = 0; i < rollout_total(s); i++)
		if (s->rollout.step[i] > STEP_PENDING && s->rollout.step[i] < STEP_DONE)
			return s->members[i];
	return NULL;
}

void rollout_deadline(struct world *w, struct set *s)
{
	struct unit *u = first_in_flight(s);
	char span[TIMESPAN_MAX];

	rollout_say_wait(w, s); /* as it is now */
	snprintf(s->rollout.reason, sizeof(s->rollout.reason), "no progress for %s: %.190s",
		format_timespan(span, rollout_deadline_us(s)), s->wait_text);
	str_make_printable(s->rollout.reason);
	if (u)
		keep_failure(s, u);
	rollout_feed(w, s, RE_DEADLINE, u, NULL);
}

/* Says itself what it sees, for ends that nobody reported: the start was skipped or gave up. */
static bool is_dead(const struct set *s, unsigned i)
{
	const struct unit *u = s->members[i];

	return s->has_started[i] && !u->in_queue && !u->rec.restart_wanted &&
	       u->rec.want != WANT_DOWN &&
	       (u->rec.state == INST_FAILED || u->rec.state == INST_DEAD ||
		       u->rec.state == INST_AUTO_RESTART);
}

static void fail_dead(struct world *w, struct set *s, unsigned i)
{
	struct unit *u = s->members[i];
	char text[320];

	snprintf(text, sizeof(text), "%s%s%s (%s)", u->rec.state == INST_DEAD ? "ended" : "failed",
		*u->fail_text ? ": " : "", u->fail_text, inst_result_name(u->rec.result));
	rollout_unit_failed(w, u, text);
}

/* ---- the steps of one member ------------------------------------------------------------------------ */

static void swap_conf(struct world *w, struct unit *u)
{
	struct unit_conf *conf = u->conf;
	uint32_t revision = u->rec.revision;
	char release[RELEASE_NAME_MAX + 1];

	str_copy(release, u->rec.release, sizeof(release));
	u->conf = u->next_conf;
	u->rec.revision = u->next_revision;
	str_copy(u->rec.release, strna(u->next_release), sizeof(u->rec.release));
	u->next_conf = conf;
	u->next_revision = revision;
	if (u->next_release)
		str_copy(u->next_release, release, RELEASE_NAME_MAX + 1);
	lb_conf_swapped(w, u, conf);
	unit_touch(w, u);
}

/* Onto the revision the rollout wants it on; nothing when it is there already. */
static void switch_revision(struct world *w, struct set *s, struct unit *u)
{
	const struct rollout_rec *r = &s->rollout;

	if (r->is_restart || u->rec.revision == rollout_target(s))
		return;
	/* Back means to where this member came from, also in a set that was mixed before. */
	if (u->next_conf && (u->next_revision == rollout_target(s) || r->is_rollback_wanted))
		swap_conf(w, u);
}

void rollout_unit_starting(struct world *w, struct unit *u)
{
	struct set *s = u->set;
	unsigned i;

	if (!s || !rollout_is_active(s) || !u->rec.index || u->rec.index > rollout_total(s))
		return;
	i = u->rec.index - 1U;
	if (s->rollout.step[i] < STEP_DRAIN || s->rollout.step[i] > STEP_START)
		return;
	if (rollout_is_extra(s, i) && rollout_phase(s) != ROLL_SURGE)
		return;
	switch_revision(w, s, u);
	s->has_started[i] = 1;
	rollout_set_step(w, s, i, STEP_START);
}

static bool has_left_lb(const struct unit *u)
{
	return u->rec.lb_phase == LBP_NONE || u->rec.lb_phase == LBP_OUT ||
	       (unit_is_held(u) && u->lb && u->lb->wanted == LB_MAINT) || !unit_is_up(u);
}

/* Nothing happened to it. A load balancer that was restarted, or a core that was, has yet to see it
 * again; then it does not count as serving, but need not soak anew. */
static bool has_stayed(const struct unit *u)
{
	enum lb_phase p = u->rec.lb_phase;
	return unit_is_up(u) && health_is_ready(u) &&
	       (p == LBP_NONE || p == LBP_IN || p == LBP_HELD);
}

/* The next step of a member that is under way, or the same one. */
static enum rollout_step next_step(struct world *w, struct set *s, unsigned i)
{
	struct unit *u = s->members[i];
	enum rollout_step step = s->rollout.step[i];

	switch (step) {
	case STEP_DRAIN:
		return has_left_lb(u) ? STEP_STOP : step;
	case STEP_STOP:
		/* One that is out may have to be drained all the same (lb.c, has_doubt()). From here
		 * rollout_unit_starting() goes on. */
		return has_left_lb(u) ? step : STEP_DRAIN;
	case STEP_START:
		return unit_is_up(u) && rollout_is_on_target(s, u) ? STEP_READY : step;
	case STEP_READY:
		return unit_is_up(u) && health_is_ready(u) ? STEP_ENTER : step;
	case STEP_ENTER:
		if (!unit_is_up(u) || !health_is_ready(u))
			return STEP_READY;
		return unit_is_good(u) ? STEP_SOAK : step;
	case STEP_SOAK:
		if (!unit_is_good(u))
			return STEP_READY;
		return w->now_us >= s->soak_since_us[i] + rollout_soak_us(s, i) ? STEP_DONE : step;
	case STEP_DONE:
		return has_stayed(u) ? step : STEP_READY;
	case STEP_PENDING:
	case STEP_FAILED:
	case STEP_MAX:
		break;
	}
	return step;
}

/* Somebody else's request called the stop off, or a back-off was quicker: it is up and stays up. */
static bool is_stop_lost(const struct unit *u)
{
	return unit_is_up(u) && !u->in_queue && !u->rec.restart_wanted && !u->rec.stop_wanted &&
	       !u->rec.is_unhealthy;
}

/* An extra member on its way out. */
static void advance_leaving(struct world *w, struct set *s, unsigned i)
{
	struct unit *u = s->members[i];

	if (s->rollout.step[i] == STEP_DRAIN && unit_is_down(u) && !u->in_queue)
		rollout_set_step(w, s, i, STEP_DONE);
}

static void advance(struct world *w, struct set *s, unsigned i)
{
	struct unit *u = s->members[i];
	uint8_t *step = &s->rollout.step[i];
	bool is_leaving = rollout_phase(s) == ROLL_UNSURGE || rollout_phase(s) == ROLL_ROLLING_BACK;

	if (rollout_is_extra(s, i) && is_leaving) {
		advance_leaving(w, s, i);
		return;
	}
	if (*step == STEP_PENDING || *step == STEP_FAILED)
		return;
	if (*step >= STEP_START && *step <= STEP_SOAK && is_dead(s, i)) {
		fail_dead(w, s, i);
		return;
	}
	if (rollout_is_told_down(s, i) && !rollout_is_extra(s, i)) {
		if (!unit_is_down(u) || u->in_queue)
			return;
		switch_revision(w, s, u);
		rollout_set_step(w, s, i, STEP_DONE);
		return;
	}
	if ((*step == STEP_DRAIN || *step == STEP_STOP) && is_stop_lost(u)) {
		unit_restart(w, u, 0);
		return;
	}
	for (int k = 0; k < STEP_MAX; k++) {
		enum rollout_step next;
		if (*step == STEP_DONE && !s->rollout.touched[i])
			return;
		next = next_step(w, s, i);
		if (next == *step)
			return;
		rollout_set_step(w, s, i, next);
	}
}

/* ---- choosing the next member ------------------------------------------------------------------------ */

static unsigned in_flight(const struct set *s)
{
	unsigned n = 0;

	for (unsigned i = 0; i < s->rollout.count; i++)
		n += s->rollout.step[i] > STEP_PENDING && s->rollout.step[i] < STEP_DONE;
	return n;
}

static bool may_take_down(const struct set *s, const struct unit *u)
{
	return unit_is_worthless(u) ||
	       rollout_serving(s) >= rollout_needed(s) + unit_is_available(u);
}

/* Down, and up again on the other revision; the journal has it first. */
static void begin_member(struct world *w, struct set *s, unsigned i)
{
	struct unit *u = s->members[i];

	if (rollout_is_told_down(s, i)) {
		if (!unit_is_down(u))
			return;
		switch_revision(w, s, u);
		begin_step(w, s, i, STEP_DONE);
		return;
	}
	begin_step(w, s, i, STEP_DRAIN);
	unit_restart(w, u, 0);
}

static bool is_canary_full(const struct set *s)
{
	uint64_t soak_us;
	unsigned n = rollout_canary(s, &soak_us), begun = 0;

	if (!n || s->rollout.is_canary_passed)
		return false;
	for (unsigned i = 0; i < s->rollout.count; i++)
		begun += s->rollout.step[i] != STEP_PENDING;
	return begun >= n;
}

/* Members already there (a set that was mixed before) are only watched. */
static bool begin_if_on_target(struct world *w, struct set *s, unsigned i)
{
	struct unit *u = s->members[i];

	if (s->rollout.is_restart || u->rec.revision != s->rollout.to_revision ||
		unit_is_told_down(u) || u->rec.state == INST_FAILED)
		return false;
	s->best_step[i] = STEP_PENDING;
	rollout_set_step(w, s, i, STEP_READY);
	return true;
}

static bool select_rolling(struct world *w, struct set *s)
{
	struct rollout_rec *r = &s->rollout;

	/* First what costs nothing; then in index order what the budget allows. */
	for (int is_free = 1; is_free >= 0; is_free--) {
		for (unsigned i = 0; i < r->count; i++) {
			struct unit *u = s->members[i];
			if (r->step[i] != STEP_PENDING || unit_is_worthless(u) != is_free)
				continue;
			if (is_canary_full(s))
				return false;
			if (begin_if_on_target(w, s, i))
				return true;
			if (is_free && !unit_is_told_down(u) &&
				in_flight(s) >= MAX(1U, r->unavailable + r->surge))
				continue;
			if (!is_free && (!unit_is_available(u) || !may_take_down(s, u)))
				continue;
			begin_member(w, s, i);
			if (r->step[i] != STEP_PENDING)
				return true;
		}
	}
	return false;
}

/* Newest first; broken ones at once, serving ones under the guard. */
static bool select_back(struct world *w, struct set *s)
{
	struct rollout_rec *r = &s->rollout;

	for (unsigned i = r->count; i-- > 0;) {
		struct unit *u = s->members[i];
		if (r->step[i] != STEP_PENDING)
			continue;
		if (unit_is_told_down(u) || u->rec.state == INST_FAILED) {
			/* Down: costs nothing. */
			begin_member(w, s, i);
		} else if (rollout_is_on_target(s, u)) {
			/* Never left, or on its way up on the old revision: only watched. */
			rollout_set_step(w, s, i, u->rec.restart_wanted ? STEP_STOP : STEP_READY);
		} else if (may_take_down(s, u)) {
			begin_member(w, s, i);
		}
		if (r->step[i] != STEP_PENDING)
			return true;
	}
	return false;
}

/* An extra member of a rollout that was aborted or halted: it still runs what that brought. */
static bool is_left_over(const struct set *s, const struct unit *u)
{
	return !unit_is_down(u) && u->rec.state != INST_AUTO_RESTART && !rollout_is_on_target(s, u);
}

static bool select_surge(struct world *w, struct set *s)
{
	bool any = false;

	for (unsigned i = s->rollout.count; i < rollout_total(s); i++) {
		if (s->rollout.step[i] != STEP_PENDING)
			continue;
		struct unit *u = s->members[i];
		if (is_left_over(s, u)) {
			if (!may_take_down(s, u))
				continue;
			begin_member(w, s, i);
		} else {
			begin_step(w, s, i, STEP_START);
			if (u->rec.state == INST_FAILED)
				unit_restart(w, u, 0);
			else
				unit_want(w, u, WANT_UP, true, 0);
		}
		any |= s->rollout.step[i] != STEP_PENDING;
	}
	return any;
}

/* Extra members leave, the last first; a serving one only when it is not needed any more. */
static bool select_unsurge(struct world *w, struct set *s)
{
	for (unsigned i = rollout_total(s); i-- > s->rollout.count;) {
		struct unit *u = s->members[i];
		if (s->rollout.step[i] != STEP_PENDING)
			continue;
		if (!unit_is_worthless(u) &&
			(!rollout_all_done(s, 0, s->rollout.count) || !may_take_down(s, u)))
			continue;
		s->best_step[i] = STEP_PENDING;
		rollout_set_step(w, s, i, STEP_DRAIN);
		unit_want(w, u, WANT_DOWN, true, 0);
		return true;
	}
	return false;
}

static bool select_next(struct world *w, struct set *s)
{
	struct buf why = {0};
	bool is_ok;

	if (s->rollout.state == ROLL_ROLLING_BACK)
		return select_back(w, s) || select_unsurge(w, s);
	is_ok = !rollout_is_blocked(s, &why);
	buf_done(&why);
	if (!is_ok)
		return false;
	if (s->rollout.state == ROLL_SURGE)
		return select_surge(w, s);
	if (s->rollout.state == ROLL_ROLLING)
		return select_rolling(w, s);
	return s->rollout.state == ROLL_UNSURGE && select_unsurge(w, s);
}

/* ---- one look -------------------------------------------------------------------------------------------- */

/* One that soaked long enough and is not done waits for something else, not for the time. */
static void arm_soak(struct world *w, struct set *s)
{
	uint64_t at = USEC_INFINITY;

	for (unsigned i = 0; i < rollout_total(s); i++) {
		uint64_t end = s->soak_since_us[i] + rollout_soak_us(s, i);
		if (s->rollout.step[i] == STEP_SOAK && end > w->now_us)
			at = MIN(at, end);
	}
	timer_arm(w, rollout_timer(s, TIMER_SOAK), at);
}

/* The canary is good: a person, or its soak time, lets the rest follow. True: something changed. */
static bool check_canary(struct world *w, struct set *s)
{
	uint64_t soak_us;
	unsigned done = 0, n = rollout_canary(s, &soak_us);

	if (s->rollout.state != ROLL_ROLLING || !n || s->rollout.is_canary_passed)
		return false;
	for (unsigned i = 0; i < s->rollout.count; i++)
		done += s->rollout.step[i] == STEP_DONE;
	if (done < n || done == s->rollout.count)
		return false;
	/* Whoever resumes has seen it, however long that takes and whatever restarts meanwhile. */
	s->rollout.is_canary_passed = 1;
	if (soak_us == USEC_INFINITY)
		return rollout_feed(w, s, RE_CANARY, NULL, NULL);
	rollout_journal(w, s, "canary passed");
	return true;
}

static bool is_worked(const struct set *s)
{
	switch ((enum rollout_state)s->rollout.state) {
	case ROLL_PREFLIGHT:
		return true;
	case ROLL_SURGE:
		return rollout_all_done(s, s->rollout.count, rollout_total(s));
	case ROLL_ROLLING:
		return rollout_all_done(s, 0, s->rollout.count);
	case ROLL_UNSURGE:
	case ROLL_ROLLING_BACK:
		return rollout_all_done(s, 0, rollout_total(s));
	case ROLL_NONE:
	case ROLL_PAUSED:
	case ROLL_DONE:
	case ROLL_ROLLED_BACK:
	case ROLL_HALTED:
	case ROLL_ABORTED:
	case ROLL_STATE_MAX:
		break;
	}
	return false;
}

void rollout_step_set(struct world *w, struct set *s)
{
	if (!rollout_is_active(s) || w->is_shutting_down || w->is_restoring)
		return;
	if (s->rollout.state == ROLL_PREFLIGHT && rollout_timer(s, TIMER_SOAK)->at_us)
		return; /* the journal is not written yet */
	for (int pass = 0; pass < PASSES_MAX * SET_MEMBERS_MAX; pass++) {
		enum rollout_state state = s->rollout.state;
		for (unsigned i = 0; i < rollout_total(s) && s->rollout.state == state; i++)
			advance(w, s, i);
		if (!rollout_is_active(s))
			return;
		if (s->rollout.state != state || check_canary(w, s))
			continue;
		if (is_worked(s)) {
			rollout_feed(w, s, RE_WORKED, NULL, NULL);
			if (!rollout_is_active(s))
				return;
			continue;
		}
		if (s->rollout.state == ROLL_PAUSED || !select_next(w, s))
			break;
	}
	arm_soak(w, s);
	rollout_say_wait(w, s);
}
