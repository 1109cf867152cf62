/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A set on a small fake host behind fake load balancers, driven in virtual time: what the tests of
 * lb.c and rollout.c stand on. Records and the journal are written as core writes them, so that the
 * core can be killed at any effect and restored.
 */
#pragma once

#include <check.h>

#include "model/parts.h"
#include "sim/fakelb.h"

#define RIG_MEMBERS 8
#define RIG_EVENTS  4096
#define MS(n)       ((n)*USEC_PER_MSEC)
#define SEC(n)      ((n)*USEC_PER_SEC)

enum rig_kind { RIG_GOOD, RIG_CRASH, RIG_UNREADY, RIG_LATE_CRASH, RIG_LATE_EXIT };

struct rig_process {
	bool is_running;
	struct spawn_id id;
	uint64_t since_us;
	enum rig_kind kind;
};

struct rig_event {
	uint64_t at_us;
	struct event ev;
	unsigned unit; /* index of the member */
};

struct rig {
	struct world *w;
	struct set *s;
	struct unit *u[RIG_MEMBERS];
	unsigned unready; /* number of a member that serves, and is found not ready */
	struct unit_conf conf[4][RIG_MEMBERS]; /* by revision, by member */
	char *addresses[SET_LBS_MAX];
	unsigned n_members;
	struct fakelb *f;
	struct rig_process process[RIG_MEMBERS];
	struct rig_event events[RIG_EVENTS];
	unsigned n_events;
	uint64_t now_us;
	/* what is durable */
	struct unit_rec rec[RIG_MEMBERS];
	struct rollout_rec journal;
	unsigned durable_count;
	uint32_t durable_revision;
	/* what was seen */
	unsigned replies[64];
	enum reply_result reply[64];
	char reply_text[64][256];
	unsigned seen[EVENT_ID_MAX];
	unsigned n_kills, n_forced, n_effects, n_steps, n_journals;
	unsigned min_available, crash_at_effect;
	bool is_watching; /* the budget is checked at every instant */
	unsigned floor;
	char last_event[EVENT_ID_MAX][256];
	char wants[128]; /* rows wanted, in order: M, D, R */
	uint64_t serial;
};

static struct rig *the_rig;

/* ---- fake host ---- */

static bool rig_serves(const struct unit *u)
{
	const struct rig_process *p = &the_rig->process[u->rec.index - 1];
	return p->is_running && p->kind != RIG_UNREADY && the_rig->now_us >= p->since_us + MS(20);
}

static void rig_later(struct rig *r, unsigned i, uint64_t in_us, struct event ev)
{
	ck_assert_uint_lt(r->n_events, RIG_EVENTS);
	r->events[r->n_events++] = (struct rig_event){r->now_us + in_us, ev, i};
}

static void rig_exit(struct rig *r, unsigned i, int code, int status, uint64_t in_us)
{
	struct rig_process *p = &r->process[i];
	struct event ev = {
		.kind = EV_EXITED, .id = p->id, .pid = 100, .code = code, .status = status};
	rig_later(r, i, in_us, ev);
}

static enum rig_kind rig_kind_of(const struct unit_conf *c)
{
	return (enum rig_kind)(c->description[0] - '0');
}

static void rig_spawn(struct rig *r, const struct effect *fx)
{
	unsigned i = fx->unit->rec.index - 1U;
	struct rig_process *p = &r->process[i];
	struct event ev = {.kind = EV_SPAWNED, .id = fx->id, .pid = 100};

	ck_assert_msg(!p->is_running, "two processes of %s", fx->unit->name);
	*p = (struct rig_process){true, fx->id, r->now_us, rig_kind_of(fx->unit->conf)};
	rig_later(r, i, MS(1), ev);
	if (p->kind == RIG_CRASH)
		rig_exit(r, i, CHILD_EXITED, 3, MS(30));
	if (p->kind == RIG_LATE_CRASH)
		rig_exit(r, i, CHILD_EXITED, 4, SEC(3));
	if (p->kind == RIG_LATE_EXIT)
		rig_exit(r, i, CHILD_EXITED, 0, SEC(3));
}

static void rig_kill(struct rig *r, const struct effect *fx)
{
	unsigned i = fx->unit->rec.index - 1U;
	struct rig_process *p = &r->process[i];

	if (!p->is_running)
		return;
	r->n_kills++;
	if (rollout_is_active(r->s) && r->s->rollout.step[i] < STEP_DRAIN &&
		fx->unit->rec.restart_wanted)
		ck_abort_msg("%s is stopped without a journalled step", fx->unit->name);
	if (fx->unit->lb && !fx->unit->lb->is_forced && rig_serves(fx->unit) &&
		!fx->unit->rec.is_unhealthy) {
		unsigned n = fakelb_sessions(r->f, fx->unit, r->now_us);
		ck_assert_msg(!n, "%s is stopped with %u sessions", fx->unit->name, n);
		ck_assert_msg(!fakelb_is_offered(r->f, fx->unit), "%s is stopped while offered",
			fx->unit->name);
	}
	rig_exit(r, i, CHILD_KILLED, fx->signal ? fx->signal : 15, MS(10));
}

static void rig_seen(struct rig *r, const struct effect *fx)
{
	r->seen[fx->event]++;
	str_copy(r->last_event[fx->event], strna(fx->text), sizeof(r->last_event[0]));
	if (getenv("RIG_TRACE"))
		printf("# %8.3f %-8s %-16s %s\n", (double)r->now_us / 1e6,
			fx->unit ? fx->unit->name : r->s->name, event_name(fx->event),
			strna(fx->text));
}

static void rig_perform(struct rig *r, const struct effect *fx)
{
	unsigned i = fx->unit ? fx->unit->rec.index - 1U : 0;
	struct event ev = {0};

	switch (fx->kind) {
	case FX_CONDITIONS:
		ev.kind = EV_CONDITIONS;
		ev.ok = true;
		rig_later(r, i, 0, ev);
		break;
	case FX_SPAWN:
		rig_spawn(r, fx);
		break;
	case FX_KILL:
		rig_kill(r, fx);
		break;
	case FX_CHECK_EMPTY:
		ev.kind = EV_EMPTY;
		if (!r->process[i].is_running)
			rig_later(r, i, 0, ev);
		break;
	case FX_PROBE:
		ev = (struct event){.kind = EV_PROBED, .check = fx->check, .number = fx->number};
		ev.ok = rig_serves(fx->unit) && fx->unit->rec.index != r->unready;
		ev.text = ev.ok ? "http 200" : "http 503 db: connection refused";
		rig_later(r, i, MS(2), ev);
		break;
	case FX_LB_WANT:
		if (fx->lb_state == LB_READY)
			ck_assert_msg(r->process[i].is_running, "%s: ready wanted, nothing runs",
				fx->unit->name);
		if (strlen(r->wants) < sizeof(r->wants) - 1)
			r->wants[strlen(r->wants)] = "MDR"[fx->lb_state];
		break;
	case FX_JOURNAL:
		r->journal = r->s->rollout;
		r->n_journals++;
		break;
	case FX_COUNT:
		r->durable_count = r->s->count;
		break;
	case FX_RELEASE_LINK:
		r->durable_revision = r->s->revision;
		break;
	case FX_REPLY:
		ck_assert_uint_lt(fx->request, 64);
		if (fx->result == REPLY_DONE)
			ck_assert_uint_eq(r->durable_count, r->s->count);
		r->replies[fx->request]++;
		r->reply[fx->request] = fx->result;
		str_copy(r->reply_text[fx->request], strna(fx->text), 256);
		break;
	case FX_EVENT:
		rig_seen(r, fx);
		break;
	case FX_FIND_MAIN_PID:
	case FX_CLEANUP:
	case FX_LB_FORGET:
	case FX_LB_FAST:
	case FX_EXIT:
	case FX_KIND_MAX:
		break;
	}
	fakelb_effect(r->f, fx, r->now_us);
}

/* ---- making ---- */

static char *rig_address[SET_LBS_MAX] = {"lb1", "lb2", "lb3"};
static struct exec_cmd rig_cmd = {.path = (char *)"/bin/x"};

static void rig_conf(struct rig *r, unsigned rev, unsigned i, unsigned n_lbs, bool has_check)
{
	struct unit_conf *c = &r->conf[rev][i];

	c->refs = 1000;
	c->name = xasprintf("web@%u.service", i + 1);
	c->type = UNIT_SERVICE;
	c->description = xstrdup("0");
	c->service.type = SERVICE_EXEC;
	c->service.exec[EXEC_START] = (struct exec_list){&rig_cmd, 1};
	c->service.timeout_start_us = c->service.timeout_stop_us = SEC(10);
	c->service.timeout_abort_us = SEC(10);
	c->service.runtime_max_us = USEC_INFINITY;
	c->service.kill_signal = 15;
	c->service.final_kill_signal = 9;
	c->service.send_sigkill = true;
	c->service.restart = (struct restart_conf){.mode = RESTART_ALWAYS,
		.sec_us = MS(100),
		.max_delay_us = USEC_INFINITY,
		.reset_after_us = SEC(60)};
	if (has_check)
		c->health[CHECK_READY] =
			(struct health_check){(char *)"http://x", MS(100), MS(500), 1, 3};
	c->lb.is_set = n_lbs > 0;
	c->lb.address = (struct conf_list){rig_address, n_lbs};
	c->lb.drain_timeout_us = SEC(30);
	c->rollout.is_set = true;
	c->rollout.auto_rollback = true;
	c->rollout.max_unavailable.value = 1;
	c->rollout.min_ready_us = SEC(1);
	c->rollout.progress_deadline_us = SEC(120);
}

static void rig_world(struct rig *r, unsigned count, uint64_t seed)
{
	r->w = world_new(seed);
	r->s = world_put_set(r->w, "web", "web@.service", count);
	r->s->revision = r->durable_revision;
	str_copy(r->s->release, r->durable_revision == 1 ? "v1" : "v2", sizeof(r->s->release));
	for (unsigned i = 0; i < r->n_members; i++) {
		uint32_t rev = r->rec[i].revision ? r->rec[i].revision : r->durable_revision;
		r->u[i] = world_put_unit(r->w, &r->conf[rev][i]);
		r->u[i]->rec.revision = rev;
		world_set_member(r->w, r->s, i + 1, r->u[i]);
	}
}

/* n members with room for surge; two revisions. */
static struct rig *rig_new(unsigned count, unsigned surge, unsigned n_lbs, uint64_t seed)
{
	struct rig *r = xcalloc(1, sizeof(*r));

	the_rig = r;
	r->now_us = SEC(1000);
	r->n_members = count + surge;
	r->durable_revision = 1;
	r->durable_count = count;
	for (unsigned rev = 1; rev < 4; rev++)
		for (unsigned i = 0; i < r->n_members; i++) {
			rig_conf(r, rev, i, n_lbs, true);
			r->conf[rev][i].rollout.max_surge.value = surge;
			if (surge)
				r->conf[rev][i].rollout.max_unavailable.value = 0;
		}
	rig_world(r, count, seed);
	r->f = fakelb_new(r->s, n_lbs, seed, rig_serves);
	return r;
}

#define RIG_POLICY(r, field, x)                                                                    \
	do {                                                                                       \
		for (unsigned rev_ = 1; rev_ < 4; rev_++)                                          \
			for (unsigned i_ = 0; i_ < (r)->n_members; i_++)                           \
				(r)->conf[rev_][i_].field = (x);                                   \
	} while (0)

static UNUSED void rig_set_kind(struct rig *r, unsigned rev, enum rig_kind kind)
{
	for (unsigned i = 0; i < r->n_members; i++)
		r->conf[rev][i].description[0] = (char)('0' + kind);
}

static void rig_free(struct rig *r)
{
	world_free(r->w);
	for (unsigned rev = 1; rev < 4; rev++)
		for (unsigned i = 0; i < r->n_members; i++) {
			free(r->conf[rev][i].name);
			free(r->conf[rev][i].description);
		}
	free(r->f);
	free(r);
	the_rig = NULL;
}

/* ---- driving ---- */

static unsigned rig_available(const struct rig *r)
{
	unsigned n = 0;
	for (unsigned i = 0; i < r->n_members; i++)
		n += fakelb_is_available(r->f, r->u[i]);
	return n;
}

static void rig_write(struct rig *r)
{
	for (size_t i = 0; i < r->w->n_dirty; i++) {
		struct unit *u = r->w->dirty[i];
		r->rec[u->rec.index - 1] = u->rec;
		u->is_dirty = u->in_dirty_list = false;
	}
	r->w->n_dirty = 0;
}

static void rig_step(struct rig *r, struct event ev);

/* The core dies; a new one finds records, journal and processes. */
static void rig_crash_core(struct rig *r)
{
	uint64_t seed = r->now_us | 1;
	unsigned count = r->durable_count;

	world_free(r->w);
	rig_world(r, count, seed);
	fakelb_core_restarted(r->f, r->s);
	for (unsigned i = 0; i < r->n_members; i++) {
		struct rollout_rec *j = &r->journal;
		uint32_t rev = r->u[i]->rec.revision;
		uint32_t other = rev == j->to_revision ? j->from_revision : j->to_revision;
		world_restore_unit(r->w, r->u[i], &r->rec[i]);
		if (!r->u[i]->rec.revision)
			r->u[i]->rec.revision = rev;
		if (j->id && other)
			world_set_next_conf(
				r->w, r->u[i], &r->conf[other][i], other, other == 1 ? "v1" : "v2");
	}
	world_restore_rollout(r->w, r->s, &r->journal);
	/* Probes of the old core find nobody; exits are kept by the keeper. */
	for (unsigned i = 0; i < r->n_events; i++)
		if (r->events[i].ev.kind == EV_PROBED || r->events[i].ev.kind == EV_CONDITIONS ||
			r->events[i].ev.kind == EV_EMPTY)
			r->events[i--] = r->events[--r->n_events];
	rig_step(r, (struct event){.kind = EV_RESTORED});
	for (unsigned i = 0; i < r->n_members; i++) {
		const struct unit_rec *rec = &r->u[i]->rec;
		struct rig_process *p = &r->process[i];
		bool is_its = p->is_running && rec->main.seq == p->id.seq &&
			      memcmp(rec->main.invocation, p->id.invocation, 16) == 0;
		if (rec->main.seq && !is_its)
			rig_step(r, (struct event){
					    .kind = EV_EXITED, .unit = r->u[i], .id = rec->main});
		else if (is_its && !rec->main_pid)
			rig_step(r, (struct event){.kind = EV_SPAWNED,
					    .unit = r->u[i],
					    .id = p->id,
					    .pid = 100});
	}
}

static void rig_watch(struct rig *r)
{
	unsigned n = rig_available(r);

	if (n < r->min_available)
		r->min_available = n;
	if (r->is_watching)
		ck_assert_msg(n >= r->floor, "%.3f: %u available, %u needed",
			(double)r->now_us / 1e6, n, r->floor);
}

static void rig_step(struct rig *r, struct event ev)
{
	struct effects fx = {0};
	bool is_dead = false;

	ev.now_us = ev.wall_us = r->now_us;
	r->n_steps++;
	ck_assert_int_eq(world_step(r->w, &ev, &fx), 0);
	rig_write(r);
	for (size_t i = 0; i < fx.n && !is_dead; i++) {
		r->n_effects++;
		is_dead = r->crash_at_effect && r->n_effects == r->crash_at_effect;
		if (!is_dead)
			rig_perform(r, &fx.v[i]);
	}
	effects_done(&fx);
	rig_watch(r);
	if (is_dead)
		rig_crash_core(r);
}

static void rig_deliver(void *arg, const struct event *ev)
{
	struct rig *r = arg;
	struct event e = *ev;
	if (e.unit)
		e.unit = r->u[e.unit->rec.index - 1];
	if (e.set)
		e.set = r->s;
	rig_step(r, e);
}

static void rig_fire(struct rig *r, unsigned k)
{
	struct rig_event e = r->events[k];
	struct rig_process *p = &r->process[e.unit];

	r->events[k] = r->events[--r->n_events];
	if (e.ev.kind == EV_EXITED) {
		if (!p->is_running || p->id.seq != e.ev.id.seq ||
			memcmp(p->id.invocation, e.ev.id.invocation, 16) != 0)
			return; /* killed twice */
		p->is_running = false;
	}
	e.ev.unit = r->u[e.unit];
	rig_step(r, e.ev);
	if (e.ev.kind == EV_EXITED)
		rig_step(r, (struct event){.kind = EV_EMPTY, .unit = r->u[e.unit]});
}

/* One instant: the earliest of events, load balancers and timers. */
static void rig_turn(struct rig *r)
{
	uint64_t at = MIN(world_next_deadline(r->w), fakelb_next(r->f));
	unsigned k = RIG_EVENTS;

	for (unsigned i = 0; i < r->n_events; i++)
		if (r->events[i].at_us < at || (r->events[i].at_us == at && k == RIG_EVENTS)) {
			at = r->events[i].at_us;
			k = i;
		}
	r->now_us = MAX(r->now_us, at);
	if (k < RIG_EVENTS)
		rig_fire(r, k);
	else if (fakelb_next(r->f) <= r->now_us)
		fakelb_run(r->f, r->now_us, rig_deliver, r);
	else
		rig_step(r, (struct event){.kind = EV_TIME});
}

static void rig_run(struct rig *r, uint64_t for_us)
{
	uint64_t end = r->now_us + for_us;
	while (r->now_us < end)
		rig_turn(r);
}

static void rig_request(struct rig *r, enum request_verb verb, uint64_t id, uint64_t number,
	struct unit *u, const char *release)
{
	struct request q = {.id = id,
		.verb = verb,
		.unit = u,
		.set = u ? NULL : r->s,
		.number = number,
		.release = release,
		.actor = "uid 0 (root)"};
	rig_step(r, (struct event){.kind = EV_REQUEST, .request = &q});
}

static UNUSED bool rig_until_reply(struct rig *r, uint64_t id, uint64_t within_us)
{
	uint64_t end = r->now_us + within_us;
	while (r->now_us < end && !r->replies[id])
		rig_turn(r);
	return r->replies[id] == 1;
}

static UNUSED void rig_deploy(struct rig *r, uint64_t id, unsigned rev)
{
	for (unsigned i = 0; i < r->n_members; i++)
		world_set_next_conf(r->w, r->u[i], &r->conf[rev][i], rev, rev == 1 ? "v1" : "v2");
	rig_request(r, REQ_DEPLOY, id, rev, NULL, rev == 1 ? "v1" : "v2");
}

/* Everything up and in. */
static UNUSED void rig_start(struct rig *r)
{
	rig_request(r, REQ_START, 1, 0, NULL, NULL);
	ck_assert(rig_until_reply(r, 1, SEC(60)));
	ck_assert_int_eq(r->reply[1], REPLY_DONE);
	r->min_available = UINT32_MAX;
}

static UNUSED bool rig_all_on(const struct rig *r, uint32_t rev)
{
	for (unsigned i = 0; i < r->s->count; i++)
		if (r->u[i]->rec.revision != rev || r->process[i].is_running != true)
			return false;
	return true;
}
