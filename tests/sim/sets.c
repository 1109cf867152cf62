/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A replica set in some universes: two revisions, the second perhaps broken, load balancers in front.
 *
 *  1. What is durable here is what core keeps: the journal at FX_JOURNAL, the committed revision at
 *     FX_RELEASE_LINK, the number of members at FX_COUNT.
 *  2. No process is stopped by request while a load balancer that can be seen has sessions on it, or
 *     offers it, unless the drain timeout forced it.
 *  3. READY is wanted only for a unit that has a main process.
 *  4. When faults are over a rollout ends, and its members agree on a revision if it ended well.
 *  5. What a rollout does to a member is in the journal before the member feels it: its DRAIN before
 *     the first signal, its START before the spawn; and DONE before the revision is committed. Only
 *     a stop that somebody else decided (by name, of the set, the process itself, a core that died
 *     before the journal was written, whatever was under way when the rollout began) may come
 *     before: the rollout then takes over what it finds.
 *  6. A member that is wanted down is wanted up again only by a request that says so, for it or the
 *     set, or because its drain was given up; not because of what becomes of a rollout.
 */
#include "sim/fakelb.h"
#include "sim/sim.h"

#include "../model_conf.h"

#define MEMBERS    4 /* and one extra */
#define SETTLED_US (60 * USEC_PER_SEC)

struct sets {
	struct fakelb *lb;
	uint32_t first; /* unit of the first member */
	uint32_t revision;
	unsigned count;
	struct rollout_rec journal;
	uint64_t rollout_id;           /* before the step under way */
	bool is_asked[MEMBERS + 1];    /* the stop under way was not decided by a rollout */
	bool is_stopping[MEMBERS + 1]; /* before the step under way */
	bool is_named[MEMBERS + 1];    /* the event of this step is about it, or all */
	bool was_down[MEMBERS + 1];    /* wanted down before it, and nothing in it says otherwise */
	bool is_by_hand[MEMBERS + 1];  /* and it is a request to stop or restart it, and no other */
};

static struct sim *the_sim;

static struct sets *sets_of(const struct sim *s)
{
	return s->lb;
}

static struct set *set_of(const struct sim *s)
{
	return s->w->sets[0];
}

static bool serves(const struct unit *u)
{
	for (size_t i = 0; i < SIM_PROCS_MAX; i++) {
		const struct proc *p = &the_sim->procs[i];
		if (p->is_used && p->is_alive && p->is_main && p->unit == u->id)
			return true;
	}
	return false;
}

static char *addresses[] = {(char *)"lb1", (char *)"lb2"};

/* In front of all of them: none, one or two load balancers; the rest is what people write. */
static void random_policy(struct sim *s, struct unit_conf *c)
{
	size_t n = s->is_of_several ? 2 : sim_random(s, 3);
	c->lb.is_set = n > 0;
	c->lb.address = (struct conf_list){addresses, n};
	c->lb.drain_timeout_us = 20 * USEC_PER_SEC;
	c->lb.on_drain_timeout = (enum drain_policy)(sim_chance(s, 5000) ? 0 : sim_random(s, 3));
	c->lb.unreachable = (enum unreachable_policy)sim_random(s, 3);
	if (sim_chance(s, 3000)) {
		memcpy(c->lb.ramp.percent, (uint8_t[]){25, 50, 100}, 3);
		c->lb.ramp.n = 3;
		c->lb.ramp.step_us = (1 + sim_random(s, 3)) * USEC_PER_SEC;
	}
	c->rollout.is_set = true;
	c->rollout.auto_rollback = !sim_chance(s, 2000);
	c->rollout.progress_deadline_us = 90 * USEC_PER_SEC;
	c->rollout.min_ready_us = sim_random(s, 3) * USEC_PER_SEC;
	c->rollout.max_surge.value = (unsigned)sim_random(s, 2);
	c->rollout.max_unavailable.value = (unsigned)sim_random(s, 3);
	c->rollout.strategy = sim_chance(s, 2000) ? ROLLOUT_CANARY : ROLLOUT_ROLLING;
	if (sim_chance(s, 4000))
		conf_check(&s->arena, c, CHECK_READY);
	if (sim_chance(s, 1500))
		conf_check(&s->arena, c, CHECK_LIVE);
}

/* In a backend of several hosts each has servers of its own. */
static const char *server_name(const struct sim *s, unsigned index)
{
	static char name[32];
	snprintf(name, sizeof(name), "h%uweb%u", s->host, index);
	return name;
}

/* A bad one ends soon after it began; a sick one never gets ready, where it is asked. */
static struct unit_conf *member(
	struct sim *s, unsigned index, const char *kind, const struct unit_conf *like)
{
	char name[32];
	snprintf(name, sizeof(name), "web@%u.service", index);
	struct unit_conf *c = conf_service(&s->arena, name, SERVICE_EXEC);
	c->lb.server = arena_strdup(&s->arena, server_name(s, index));
	c->service.timeout_stop_us = c->service.timeout_abort_us = 5 * USEC_PER_SEC;
	c->service.send_sigkill = true;
	c->service.restart.mode = RESTART_ALWAYS;
	c->service.restart.sec_us = USEC_PER_SEC;
	c->service.restart.limit_interval_us = 0;
	c->description = arena_strdup(&s->arena, kind);
	if (!like)
		return c;
	char *server = c->lb.server;
	c->lb = like->lb;
	c->lb.server = server;
	c->rollout = like->rollout;
	memcpy(c->health, like->health, sizeof(c->health));
	return c;
}

void sets_make(struct sim *s, const char *kind, set_policy *policy)
{
	const struct unit_conf *like = NULL;
	struct sets *t = s->lb = xcalloc(1, sizeof(*t));
	t->first = s->n_units;
	t->revision = 1;
	t->count = MEMBERS;
	for (unsigned i = 1; i <= MEMBERS + 1; i++) {
		struct sim_unit *v = &s->units[s->n_units++];
		v->conf = member(s, i, "good", like);
		if (!like)
			policy(s, v->conf);
		like = v->conf;
		v->other = member(s, i, kind, like);
	}
}

void fake_lb_universe(struct sim *s)
{
	const char *kind = sim_chance(s, 7000) ? "good" : sim_chance(s, 6000) ? "bad" : "sick";
	if (!s->is_about_sets && !sim_chance(s, 3000))
		return;
	sets_make(s, kind, random_policy);
	/* Ordered after a member: its stop waits for theirs, and may be called off meanwhile. */
	for (uint32_t i = 0; i + 1 < sets_of(s)->first; i++)
		if (sim_chance(s, 4000))
			conf_dep(&s->arena, s->units[i].conf, DEP_AFTER,
				s->units[sets_of(s)->first + sim_random(s, MEMBERS)].conf->name);
}

static bool is_going(const struct unit_rec *r)
{
	return r->stop_wanted ||
	       inst_active_state((enum inst_state)r->state) == ACTIVE_DEACTIVATING;
}

static void make_lbs(struct sim *s, struct set *set)
{
	struct sets *t = sets_of(s);
	struct fakelb *f = t->lb =
		fakelb_new(set, (unsigned)s->units[t->first].conf->lb.address.n, s->seed, serves);
	f->ahead_us = s->ahead_us;
	if (s->shares_with)
		fakelb_share(f, sets_of(s->shares_with)->lb, s->host, s->host * FAKELB_STRIDE);
	sim_later(s, 0, P_CUSTOM);
	f->fast_us = 200 * USEC_PER_MSEC;
	f->slow_us = 2 * USEC_PER_SEC;
	if (s->script) {
		f->fast_us = f->slow_us = USEC_PER_SEC / 2;
		return;
	}
	f->is_lying = sim_chance(s, 3000);
	for (unsigned lie = LIE_TOTAL; lie <= LIE_ZERO; lie <<= 1)
		f->lies |= sim_chance(s, 800) ? lie : 0;
	f->keeps_state = sim_chance(s, 3000);
	f->is_checking = sim_chance(s, 8000);
	f->session_us = (sim_chance(s, 7000) ? 3 : 60) * USEC_PER_SEC;
	f->lag_us = (300 + 1200 * sim_random(s, 6)) * USEC_PER_MSEC;
}

void fake_lb_world(struct sim *s)
{
	struct sets *t = sets_of(s);
	if (!t)
		return;
	the_sim = s;
	struct set *set = world_put_set(s->w, "web", "web@.service", t->count);
	set->revision = t->revision;
	for (unsigned i = 0; i <= MEMBERS; i++) {
		struct sim_unit *v = &s->units[t->first + i];
		struct unit *u = s->w->units[t->first + i];
		uint32_t rev =
			v->has_stored && v->stored.revision ? v->stored.revision : t->revision;
		if (rev == 2)
			world_put_unit(s->w, v->other);
		u->rec.revision = rev;
		t->is_asked[i] = v->has_stored && is_going(&v->stored);
		world_set_member(s->w, set, i + 1, u);
		world_set_next_conf(
			s->w, u, rev == 2 ? v->conf : v->other, 3 - rev, rev == 2 ? "v1" : "v2");
	}
	world_restore_rollout(s->w, set, &t->journal);
	if (t->lb) {
		fakelb_core_restarted(t->lb, set);
		return;
	}
	make_lbs(s, set);
}

/* ---- effects ---- */

static void check_kill(struct sim *s, const struct effect *e)
{
	const struct unit *u = e->unit;
	bool is_asked = u->rec.stop_wanted && u->rec.state == INST_STOP_SIGTERM &&
			u->rec.result == RES_SUCCESS;
	if (!is_asked || !u->rec.is_ready || !u->lb || u->lb->is_forced || !serves(u) ||
		u->rec.lb_phase == LBP_NONE)
		return;
	if (sets_of(s)->lb->lies & (LIE_STATE | LIE_ZERO))
		return; /* fakelb.h says what can be promised then */
	if (fakelb_sessions(sets_of(s)->lb, u, s->now_us))
		sim_fail(s, "%s is stopped with sessions", u->name);
	if (fakelb_is_offered(sets_of(s)->lb, u))
		sim_fail(s, "%s is stopped while it is offered", u->name);
}

/* What a rollout does to a member is in the journal before the member feels it. */
static void check_journal(struct sim *s, const struct effect *e)
{
	const struct set *set = e->unit->set;
	const struct rollout_rec *r = &set->rollout, *j = &sets_of(s)->journal;
	const struct unit_rec *u = &e->unit->rec;
	unsigned i = u->index - 1U;
	if (!rollout_is_active(set) || sets_of(s)->is_asked[i])
		return;
	bool is_taken = u->state == INST_STOP_SIGTERM && u->result == RES_SUCCESS &&
			u->restart_wanted && (r->step[i] == STEP_DRAIN || r->step[i] == STEP_STOP);
	bool is_known = j->id == r->id && j->is_rollback_wanted == r->is_rollback_wanted;
	if (e->kind == FX_KILL && is_taken &&
		!(is_known && (j->step[i] == STEP_DRAIN || j->step[i] == STEP_STOP)))
		sim_fail(s, "%s is stopped by a rollout, and the journal does not know",
			e->unit->name);
	if (e->kind == FX_SPAWN && !sets_of(s)->is_named[i] && set->has_started[i] &&
		r->step[i] >= STEP_START && r->step[i] <= STEP_SOAK &&
		!(is_known && j->step[i] >= STEP_START))
		sim_fail(s, "%s is started by a rollout, and the journal does not know",
			e->unit->name);
}

static void check_commit(struct sim *s)
{
	const struct rollout_rec *j = &sets_of(s)->journal;
	if (j->state != ROLL_DONE || j->id != set_of(s)->rollout.id)
		sim_fail(s, "revision %u is committed before the journal has it as done",
			set_of(s)->revision);
}

/* A serving member is taken only while enough others serve, as the load balancers say. */
static void check_budget(struct sim *s, const struct effect *e)
{
	const struct set *set = e->unit->set;
	const struct rollout_rec *r = &set->rollout;
	unsigned n = 0;
	if (r->state != ROLL_ROLLING || e->unit->rec.lb_phase != LBP_DRAINING ||
		!health_is_ready(e->unit) || e->unit->rec.is_unhealthy)
		return;
	for (unsigned i = 0; i < r->count + r->surge; i++)
		n += set->members[i] != e->unit && unit_is_available(set->members[i]);
	if (n + r->unavailable < r->count)
		sim_fail(s, "%s is taken down with %u of %u others serving", e->unit->name, n,
			r->count);
}

/* A row is that of a member of this world, under the name that is its own. */
static void check_row(struct sim *s, const struct effect *e)
{
	const struct unit *u = e->unit;
	unsigned index = u->rec.index;
	if (u->set != set_of(s) || !index || index > MEMBERS + 1 ||
		set_of(s)->members[index - 1] != u || u->id != sets_of(s)->first + index - 1)
		sim_fail(s, "%s: a row of another one", u->name);
	else if (u->conf->lb.is_set && !streq(u->conf->lb.server, server_name(s, index)))
		sim_fail(s, "%s: its row is server %s", u->name, u->conf->lb.server);
}

bool fake_lb_effect(struct sim *s, const struct effect *e)
{
	struct sets *t = sets_of(s);
	bool is_ours = t && e->unit && e->unit->set;
	if (!t)
		return false;
	the_sim = s;
	if (e->kind == FX_LB_WANT || e->kind == FX_LB_FORGET)
		check_row(s, e);
	if (e->kind == FX_KILL && is_ours && e->who != KILL_WHO_CONTROL)
		check_kill(s, e), check_journal(s, e);
	if (e->kind == FX_SPAWN && is_ours && e->exec == EXEC_START)
		check_journal(s, e);
	if (e->kind == FX_RELEASE_LINK)
		check_commit(s);
	if (e->kind == FX_EVENT && e->event == EVENT_ROLLOUT_STEP && is_ours &&
		streq(e->text, "draining"))
		check_budget(s, e);
	if (e->kind == FX_LB_WANT && e->lb_state == LB_READY && !e->unit->rec.main.seq)
		sim_fail(s, "%s: ready is wanted, and it has no process", e->unit->name);
	if (e->kind == FX_JOURNAL && rollout_rec_check(&set_of(s)->rollout) < 0)
		sim_fail(s, "the journal says what no core would believe");
	if (e->kind == FX_JOURNAL)
		t->journal = set_of(s)->rollout;
	if (e->kind == FX_COUNT)
		t->count = set_of(s)->count;
	if (e->kind == FX_RELEASE_LINK)
		t->revision = set_of(s)->revision;
	fakelb_effect(t->lb, e, s->now_us);
	return e->kind == FX_LB_WANT || e->kind == FX_LB_FORGET || e->kind == FX_LB_FAST ||
	       e->kind == FX_JOURNAL || e->kind == FX_COUNT || e->kind == FX_RELEASE_LINK;
}

/* ---- what happens ---- */

/* A bad revision ends soon after it began, also when all else is quiet. */
static void doom_bad_ones(struct sim *s)
{
	for (size_t i = 0; i < SIM_PROCS_MAX; i++) {
		struct proc *p = &s->procs[i];
		if (!p->is_used || !p->is_alive || !p->is_main || p->unit < sets_of(s)->first ||
			!streq(p->conf->description, "bad"))
			continue;
		struct pending *n = sim_later(s, sim_random(s, USEC_PER_SEC), P_END);
		n->proc = (uint32_t)i;
		n->serial = p->serial;
		n->unit = p->unit;
		n->code = CHILD_EXITED;
		n->status = 3;
	}
}

static void deliver(void *arg, const struct event *ev)
{
	struct event e = *ev;
	sim_step(arg, &e);
}

void fake_lb_event(struct sim *s, const struct pending *p)
{
	struct sets *t = sets_of(s);
	(void)p;
	the_sim = s;
	if (t->lb->n && sim_fault(s, 60))
		fakelb_hang(t->lb, (unsigned)sim_random(s, t->lb->n),
			s->now_us + sim_random(s, 20 * USEC_PER_SEC));
	if (t->lb->n && sim_fault(s, 60))
		fakelb_restart(t->lb, (unsigned)sim_random(s, t->lb->n));
	if (t->lb->n && sim_fault(s, 60))
		fakelb_cut(t->lb, (unsigned)sim_random(s, t->lb->n),
			s->now_us + sim_random(s, 30 * USEC_PER_SEC));
	doom_bad_ones(s);
	fakelb_run(t->lb, s->now_us, deliver, s);
	uint64_t next = fakelb_next(t->lb);
	sim_later(s, next == USEC_INFINITY || next <= s->now_us ? USEC_PER_SEC : next - s->now_us,
		P_CUSTOM);
}

uint64_t sets_ask(struct sim *s, enum request_verb verb, uint64_t number)
{
	struct set *set = set_of(s);
	GROW(s->requests, s->n_requests, s->cap_requests);
	if (!s->n_requests) {
		s->requests[s->n_requests++] = 0;
		GROW(s->requests, s->n_requests, s->cap_requests);
	}
	uint64_t id = s->n_requests++;
	s->requests[id] = 1;
	struct request r = {.id = id,
		.verb = verb,
		.set = set,
		.number = number,
		.actor = "sim",
		.release = number == 2 ? "v2" : "v1"};
	struct event ev = {.kind = EV_REQUEST, .request = &r};
	sim_trace(s, "request %llu: %d %llu of the set", (unsigned long long)id, (int)verb,
		(unsigned long long)number);
	for (uint32_t i = 0; i < s->n_units; i++)
		s->units[i].expects_down = false;
	sim_step(s, &ev);
	return id;
}

void sets_lb_fault(struct sim *s, bool is_restart)
{
	struct sets *t = sets_of(s);
	if (is_restart)
		fakelb_restart(t->lb, 0);
	else
		fakelb_cut(t->lb, 0, s->now_us + 10 * USEC_PER_SEC);
}

/* What people do to one of them by hand. */
static void ask_member(struct sim *s)
{
	static const uint8_t verbs[] = {
		REQ_DRAIN, REQ_DRAIN, REQ_UNDRAIN, REQ_UNDRAIN, REQ_STOP, REQ_START, REQ_RESTART};
	struct unit *u = set_of(s)->members[sim_random(s, MEMBERS + 1)];
	sim_request(s, (enum request_verb)verbs[sim_random(s, ARRAY_SIZE(verbs))], u, NULL);
}

void fake_lb_request(struct sim *s)
{
	static const uint8_t verbs[] = {REQ_START, REQ_START, REQ_DEPLOY, REQ_DEPLOY, REQ_DEPLOY,
		REQ_DEPLOY, REQ_ROLLING_RESTART, REQ_PAUSE, REQ_RESUME, REQ_RESUME, REQ_ABORT,
		REQ_UNDO, REQ_STOP, REQ_SCALE};
	if (!sets_of(s))
		return;
	if (sim_chance(s, 2000)) {
		ask_member(s);
		return;
	}
	enum request_verb verb = (enum request_verb)verbs[sim_random(s, ARRAY_SIZE(verbs))];
	uint64_t number = 1 + sim_random(s, 2);
	if (verb == REQ_ABORT)
		number = !sim_chance(s, 3000);
	if (verb == REQ_SCALE)
		number = 1 + sim_random(s, MEMBERS);
	sets_ask(s, verb, number);
}

void fake_lb_quiet(struct sim *s)
{
	struct sets *t = sets_of(s);
	if (!t)
		return;
	fakelb_calm(t->lb, s->now_us);
	t->lb->fast_us = USEC_PER_SEC; /* so that much time passes in few steps */
	t->lb->slow_us = 10 * USEC_PER_SEC;
	/* Somebody looks after what waits for a person, also a canary that passes only now. */
	if (set_of(s)->rollout.state == ROLL_PAUSED)
		sets_ask(s, sim_chance(s, 5000) ? REQ_ABORT : REQ_RESUME, 1);
}

static bool is_stop_verb(enum request_verb verb)
{
	return verb == REQ_STOP || verb == REQ_RESTART || verb == REQ_TRY_RESTART ||
	       verb == REQ_RELOAD_OR_RESTART;
}

void fake_lb_before(struct sim *s, const struct event *ev)
{
	struct sets *t = sets_of(s);
	const struct request *r = ev->kind == EV_REQUEST ? ev->request : NULL;
	if (!t)
		return;
	t->rollout_id = set_of(s)->rollout.id;
	bool is_for_all = ev->kind == EV_SHUTDOWN ||
			  (r && r->set && (r->verb == REQ_STOP || r->verb == REQ_SCALE));
	bool is_of_process = ev->kind == EV_EXITED || ev->kind == EV_NOTIFY ||
			     ev->kind == EV_SPAWN_FAILED || ev->kind == EV_EMPTY;
	bool is_set_up = r && r->set && (r->verb == REQ_START || r->verb == REQ_SCALE);
	for (unsigned i = 0; i <= MEMBERS; i++) {
		const struct unit *u = set_of(s)->members[i];
		t->was_down[i] = u->rec.want == WANT_DOWN && !is_set_up && !(r && r->unit == u) &&
				 u->conf->lb.on_drain_timeout != DRAIN_ABORT;
		t->is_stopping[i] = is_going(&u->rec);
		t->is_by_hand[i] = r && r->unit == u && is_stop_verb(r->verb);
		t->is_named[i] =
			is_for_all || (r && r->unit == u) || (ev->unit == u && is_of_process);
	}
}

/* Traffic is wanted in two phases, and in no other: nothing is enabled and on its way out. */
static void check_phase(struct sim *s, const struct unit *u)
{
	enum lb_phase p = (enum lb_phase)u->rec.lb_phase;
	bool is_entering = p == LBP_RAMPING || p == LBP_IN;
	if (!u->lb || p == LBP_NONE || !u->conf->lb.is_set)
		return;
	if ((u->lb->wanted == LB_READY) != is_entering)
		sim_fail(s, "%s is %s, and state %d is wanted of its load balancers", u->name,
			lb_phase_name(p), (int)u->lb->wanted);
}

/* Where nothing but the daemon itself fails, clients never have fewer than they were promised: as
 * the load balancers see it, not as the model believes. */
static void check_serving(struct sim *s)
{
	unsigned n = 0;
	if (!s->min_serving || s->is_quiet)
		return;
	for (unsigned i = 0; i <= MEMBERS; i++)
		n += fakelb_is_available(sets_of(s)->lb, set_of(s)->members[i]);
	if (n < s->min_serving)
		sim_fail(s, "%u members serve, %u were promised", n, s->min_serving);
}

void fake_lb_check(struct sim *s)
{
	struct sets *t = sets_of(s);
	if (!t)
		return;
	the_sim = s;
	t->lb->ahead_us = s->ahead_us;
	if (fakelb_trespassed(t->lb, MEMBERS + 1))
		sim_fail(s, "a server of this host was changed by another");
	check_serving(s);
	for (unsigned i = 0; i <= MEMBERS; i++)
		check_phase(s, set_of(s)->members[i]);
	for (unsigned i = 0; i < MIN(set_of(s)->count, set_of(s)->rollout.count); i++)
		if (t->was_down[i] && set_of(s)->members[i]->rec.want == WANT_UP)
			sim_fail(s, "%s was told to be down, and nobody said otherwise",
				set_of(s)->members[i]->name);
	bool has_begun = set_of(s)->rollout.id != t->rollout_id;
	for (unsigned i = 0; i <= MEMBERS; i++) {
		bool is_new = (!t->is_stopping[i] && t->is_named[i]) || t->is_by_hand[i];
		t->is_asked[i] = is_going(&set_of(s)->members[i]->rec) &&
				 (t->is_asked[i] || is_new || has_begun);
	}
	if (s->w->n_set_queue)
		sim_fail(s, "a set is left in the queue");
	const struct rollout_rec *r = &set_of(s)->rollout;
	if (rollout_is_active(set_of(s)) && r->state != ROLL_PAUSED && r->state != ROLL_PREFLIGHT &&
		!s->w->is_shutting_down && !set_of(s)->timers[0].at_us)
		sim_fail(s, "the rollout waits in %s without a deadline",
			rollout_state_name(r->state));
	if (!rollout_is_active(set_of(s)) && set_of(s)->timers[1].at_us)
		sim_fail(s, "the rollout is %s and still looks at soaking members",
			rollout_state_name(r->state));
}

/* All is quiet for long: who serves is offered, who is down is not. */
static void check_offers(struct sim *s)
{
	const struct fakelb *f = sets_of(s)->lb;
	for (unsigned i = 0; i <= MEMBERS; i++) {
		const struct unit *u = set_of(s)->members[i];
		if (!u->lb || s->now_us - u->rec.state_since_us < SETTLED_US)
			continue;
		if (unit_is_down(u) && fakelb_is_offered(f, u))
			sim_fail(s, "%s is down, and a load balancer offers it", u->name);
		bool is_serving = u->rec.state == INST_RUNNING && health_is_ready(u) &&
				  !u->rec.stop_wanted && u->rec.lb_phase != LBP_HELD &&
				  s->now_us - u->lb->since_us > SETTLED_US;
		if (is_serving && !fakelb_is_available(f, u))
			sim_fail(s, "%s serves, is %s, and not every load balancer offers it",
				u->name, lb_phase_name((enum lb_phase)u->rec.lb_phase));
		if (is_serving && !unit_is_available(u))
			sim_fail(s, "%s serves and is offered, and core does not know", u->name);
	}
}

void fake_lb_end(struct sim *s)
{
	struct sets *t = sets_of(s);
	if (!t)
		return;
	the_sim = s;
	const struct set *set = set_of(s);
	const struct rollout_rec *r = &set->rollout;
	check_offers(s);
	if (rollout_is_active(set) && r->state != ROLL_PAUSED)
		sim_fail(s, "the rollout is still %s: %s", rollout_state_name(r->state),
			set->wait_text);
	uint32_t want = r->state == ROLL_DONE && !r->is_restart          ? r->to_revision
			: r->state == ROLL_ROLLED_BACK && !r->is_restart ? r->from_revision
									 : 0;
	for (unsigned i = 0; want && i < MIN(set->count, r->count); i++)
		if (set->members[i]->rec.revision != want)
			sim_fail(s, "%s is on revision %u after the rollout to %u is %s",
				set->members[i]->name, set->members[i]->rec.revision, want,
				rollout_state_name(r->state));
}

void fake_lb_done(struct sim *s)
{
	struct sets *t = sets_of(s);
	if (!t)
		return;
	free(t->lb);
	free(t);
	s->lb = NULL;
}
