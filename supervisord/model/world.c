/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The world: units and sets by name, timers, the list of records to write, the step itself.
 *
 *  1. A step takes one event, lets the parts decide, and runs what became due, until nothing is
 *     left to do at this instant. It appends effects; it performs none.
 *  2. After a step no timer is armed for the past, and the queues are empty.
 *  3. timers[k].at_us and rec.timer_at_us[k] are the same number, so the record restores the timer.
 *  4. Units and sets are never removed; a pointer to one stays good as long as the world.
 *  5. A deadline that passed while nobody looked (the machine slept, core was stopped or dead) is
 *     held against nobody at once: what would have met it may stand in a queue. It is put off.
 *
 * Called by core and by tests/sim.
 */
#include "parts.h"

/* Timers that may fire in one step: each armed one once, and then some for re-armed ones. They are
 * armed at least 1 us ahead, so this is never reached; it keeps a mistake from being a hang. */
#define TIMERS_PER_STEP_MAX 1000000
/* So late a timer was due while nobody looked; and how long it is put off then. */
#define LATE_US  USEC_PER_SEC
#define GRACE_US (5 * USEC_PER_SEC)
/* Room for effects kept from step to step. */
#define EFFECTS_KEPT_MAX 256
/* Turns of units and sets in one step; what is left then is looked at in the next one. */
#define ROUNDS_MAX 1000

/* ---- making it ---- */

struct world *world_new(uint64_t seed)
{
	struct world *w = xcalloc(1, sizeof(*w));
	w->rng = seed ? seed : 1;
	w->next_rollout_id = 1;
	return w;
}

/* Most units have no health checks and never fail: they share these, which nobody writes to. */
static struct health no_health[CHECK_KIND_MAX];
static const char no_text[] = "";

void unit_fail_text(struct unit *u, const char *format, ...)
{
	char text[FAIL_TEXT_MAX + 1];
	va_list args;
	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	str_make_printable(text); /* it quotes others, and may be cut within a character */
	if (u->fail_text != no_text)
		free((void *)(uintptr_t)u->fail_text);
	u->fail_text = text[0] ? xstrdup(text) : no_text;
}

static struct health *health_for(struct unit *u, const struct unit_conf *conf)
{
	for (int k = 0; k < CHECK_KIND_MAX; k++)
		if (conf->health[k].target && u->health == no_health)
			return xcalloc(CHECK_KIND_MAX, sizeof(*u->health));
	return u->health;
}

static void unit_free(struct unit *u)
{
	unit_fail_text(u, "%s", "");
	if (u->health != no_health)
		free(u->health);
	free(u->next_release);

	unit_conf_unref(u->conf);
	if (u->next_conf)
		unit_conf_unref(u->next_conf);
	free(u->name);
	free(u->edges);
	free(u->lb);
	free(u->status_text);
	free(u);
}

struct world *world_free(struct world *w)
{
	if (!w)
		return NULL;
	for (size_t i = 0; i < w->n_units; i++)
		unit_free(w->units[i]);
	for (size_t i = 0; i < w->n_sets; i++) {
		free(w->sets[i]->name);
		free(w->sets[i]->template);
		free(w->sets[i]);
	}
	map_done(&w->unit_by_name);
	strv_done(&w->aliases);
	map_done(&w->set_by_name);
	free(w->units);
	free(w->sets);
	free(w->heap);
	free(w->dirty);
	free(w->queue);
	free(w->set_queue);
	free(w);
	return NULL;
}

static struct unit *unit_new(struct world *w, const char *name)
{
	struct unit *u = xcalloc(1, sizeof(*u));
	u->id = (uint32_t)w->n_units;
	u->name = xstrdup(name);
	u->rec.version = UNIT_REC_VERSION;
	u->fail_text = no_text;
	u->health = no_health;
	for (int k = 0; k < TIMER_UNIT_MAX; k++)
		u->timers[k].kind = (uint8_t)k;
	GROW(w->units, w->n_units, w->cap_units);
	w->units[w->n_units++] = u;
	map_put(&w->unit_by_name, u->name, u);
	return u;
}

struct unit *world_put_unit(struct world *w, struct unit_conf *conf)
{
	struct unit *u = map_get(&w->unit_by_name, conf->name);
	if (!u || !streq(u->name, conf->name)) /* what was an alias may become a unit of its own */
		u = unit_new(w, conf->name);
	unit_conf_ref(conf);
	if (u->conf)
		unit_conf_unref(u->conf);
	u->conf = conf;
	u->health = health_for(u, conf);
	if (conf->lb.is_set && !u->lb)
		u->lb = xcalloc(1, sizeof(*u->lb));
	w->missing_from = MIN(w->missing_from, (size_t)u->id);
	health_conf_changed(w, u);
	return u;
}

void world_put_alias(struct world *w, const char *alias, struct unit *u)
{
	if (map_get(&w->unit_by_name, alias))
		return;
	strv_add(&w->aliases, alias);
	map_put(&w->unit_by_name, w->aliases.v[w->aliases.n - 1], u);
}

void world_pass_name(struct world *w, const struct unit *named, struct unit *u)
{
	map_put(&w->unit_by_name, named->name, u);
}

struct unit *world_unit(const struct world *w, const char *name)
{
	return map_get(&w->unit_by_name, name);
}

struct set *world_put_set(struct world *w, const char *name, const char *template, unsigned count)
{
	struct set *s = map_get(&w->set_by_name, name);
	if (!s) {
		s = xcalloc(1, sizeof(*s));
		s->id = (uint32_t)w->n_sets;
		s->name = xstrdup(name);
		s->template = xstrdup(template);
		s->is_template = strstr(template, "@.") != NULL;
		str_copy(s->rollout.set, name, sizeof(s->rollout.set));
		s->rollout.version = ROLLOUT_REC_VERSION;
		for (int k = TIMER_UNIT_MAX; k < TIMER_SET_MAX; k++)
			s->timers[k - TIMER_UNIT_MAX].kind = (uint8_t)k;
		GROW(w->sets, w->n_sets, w->cap_sets);
		w->sets[w->n_sets++] = s;
		map_put(&w->set_by_name, s->name, s);
	}
	s->count = MIN(count, (unsigned)SET_MEMBERS_MAX);
	return s;
}

struct set *world_set(const struct world *w, const char *name)
{
	return map_get(&w->set_by_name, name);
}

void world_set_member(struct world *w, struct set *s, unsigned index, struct unit *u)
{
	(void)w;
	assert(index >= 1 && index <= SET_MEMBERS_MAX);
	s->members[index - 1] = u;
	u->set = s;
	u->rec.index = (uint16_t)index;
	s->n_lbs = MAX(s->n_lbs, (unsigned)MIN(u->conf->lb.address.n, (size_t)SET_LBS_MAX));
}

void world_set_next_conf(struct world *w, struct unit *u, struct unit_conf *conf, uint32_t revision,
	const char *release)
{
	(void)w;
	if (conf) {
		unit_conf_ref(conf);
		u->health = health_for(u, conf);
	}
	if (u->next_conf)
		unit_conf_unref(u->next_conf);
	u->next_conf = conf;
	u->next_revision = revision;
	if (!u->next_release)
		u->next_release = xcalloc(1, RELEASE_NAME_MAX + 1);
	str_copy(u->next_release, strna(release), RELEASE_NAME_MAX + 1);
}

void world_set_port(struct world *w, struct unit *u, uint16_t port)
{
	if (u->rec.port == port)
		return;
	u->rec.port = port;
	unit_touch(w, u);
}

/* ---- effects ---- */

void effects_reset(struct effects *fx)
{
	fx->n = 0;
	if (fx->cap > EFFECTS_KEPT_MAX) { /* a start or stop of everything was that long, once */
		free(TAKE_PTR(fx->v));
		fx->cap = 0;
	}
	arena_done(&fx->arena);
}

void effects_done(struct effects *fx)
{
	arena_done(&fx->arena);
	free(fx->v);
	memset(fx, 0, sizeof(*fx));
}

struct effect *fx_add(struct world *w, enum effect_kind kind)
{
	struct effects *fx = w->fx;
	GROW(fx->v, fx->n, fx->cap);
	struct effect *e = &fx->v[fx->n++];
	memset(e, 0, sizeof(*e));
	e->kind = kind;
	return e;
}

static char *fx_text(struct world *w, const char *format, va_list args)
{
	char text[512];
	vsnprintf(text, sizeof(text), format, args);
	str_make_printable(text); /* it quotes others, and may be cut within a character */
	return arena_strdup(&w->fx->arena, text);
}

void fx_event(
	struct world *w, enum event_id id, struct unit *u, struct set *s, const char *format, ...)
{
	struct effect *e = fx_add(w, FX_EVENT);
	e->event = id;
	e->unit = u;
	e->set = s;
	va_list args;
	va_start(args, format);
	e->text = fx_text(w, format, args);
	va_end(args);
	if (!e->text[0])
		e->text = NULL; /* the name of the event says it all */
}

void fx_reply(struct world *w, uint64_t request, enum reply_result result, const char *format, ...)
{
	if (!request)
		return;
	struct effect *e = fx_add(w, FX_REPLY);
	e->request = request;
	e->result = result;
	va_list args;
	va_start(args, format);
	e->text = fx_text(w, format, args);
	va_end(args);
}

void unit_touch(struct world *w, struct unit *u)
{
	u->is_dirty = true;
	if (u->in_dirty_list)
		return;
	u->in_dirty_list = true;
	GROW(w->dirty, w->n_dirty, w->cap_dirty);
	w->dirty[w->n_dirty++] = u;
}

uint64_t world_random(struct world *w, uint64_t below)
{
	return below ? rng_next(&w->rng) % below : 0;
}

/* ---- timers: a binary heap, each timer knows its place ---- */

static void heap_set(struct world *w, size_t i, struct timer *t)
{
	w->heap[i] = t;
	t->heap_pos = (uint32_t)i;
}

static void heap_sift(struct world *w, size_t i)
{
	struct timer *t = w->heap[i];
	for (; i && w->heap[(i - 1) / 2]->at_us > t->at_us; i = (i - 1) / 2)
		heap_set(w, i, w->heap[(i - 1) / 2]);
	for (;;) {
		size_t child = 2 * i + 1;
		if (child + 1 < w->n_heap && w->heap[child + 1]->at_us < w->heap[child]->at_us)
			child++;
		if (child >= w->n_heap || w->heap[child]->at_us >= t->at_us)
			break;
		heap_set(w, i, w->heap[child]);
		i = child;
	}
	heap_set(w, i, t);
}

/* The record follows the timer, except for probes: they begin anew after a restart of core, and
 * one write per probe would be all that most records are ever written for. */
static void timer_record(struct world *w, struct timer *t)
{
	if (t->kind >= TIMER_STARTUP && t->kind <= TIMER_LIVE)
		return;
	if (t->kind >= TIMER_UNIT_MAX)
		return;
	struct unit *u = timer_unit(t);
	u->rec.timer_at_us[t->kind] = t->at_us;
	unit_touch(w, u);
}

void timer_drop(struct world *w, struct timer *t)
{
	if (!t->at_us)
		return;
	size_t i = t->heap_pos;
	struct timer *last = w->heap[--w->n_heap];
	t->at_us = 0;
	if (last != t) {
		heap_set(w, i, last);
		heap_sift(w, i);
	}
	timer_record(w, t);
}

void timer_arm(struct world *w, struct timer *t, uint64_t at_us)
{
	if (at_us == USEC_INFINITY) {
		timer_drop(w, t);
		return;
	}
	at_us = MAX(at_us, w->now_us + 1);
	if (!t->at_us) {
		GROW(w->heap, w->n_heap, w->cap_heap);
		heap_set(w, w->n_heap++, t);
	}
	t->at_us = at_us;
	heap_sift(w, t->heap_pos);
	timer_record(w, t);
}

static void unit_timer(struct world *w, struct unit *u, enum timer_kind kind)
{
	switch (kind) {
	case TIMER_STARTUP:
	case TIMER_READY:
	case TIMER_LIVE:
		health_timer(w, u, (enum check_kind)(kind - TIMER_STARTUP));
		break;
	case TIMER_LB:
	case TIMER_RAMP:
		lb_timer(w, u, kind);
		break;
	case TIMER_STATE:
	case TIMER_RESTART:
	case TIMER_WATCHDOG:
	case TIMER_RUNTIME_MAX:
	case TIMER_STABLE:
		inst_timer(w, u, kind);
		break;
	case TIMER_ROLLOUT:
	case TIMER_SOAK:
	case TIMER_SET_MAX:
		break;
	}
}

/* Whether its end is held against somebody: a process, a load balancer, a rollout. */
static bool is_judging(enum timer_kind kind)
{
	return kind == TIMER_STATE || kind == TIMER_WATCHDOG || kind == TIMER_LB ||
	       kind == TIMER_ROLLOUT;
}

/* Invariant 5. True: it was put off. */
static bool is_put_off(struct world *w, struct timer *t)
{
	if (!is_judging(t->kind) || w->now_us - t->at_us < LATE_US)
		return false;
	timer_drop(w, t);
	if (t->kind == TIMER_WATCHDOG)
		inst_arm_watchdog(w, timer_unit(t));
	else
		timer_arm(w, t, w->now_us + GRACE_US);
	return true;
}

static void timers_run(struct world *w)
{
	for (int i = 0; i < TIMERS_PER_STEP_MAX && w->n_heap && w->heap[0]->at_us <= w->now_us;
		i++) {
		struct timer *t = w->heap[0];
		if (is_put_off(w, t))
			continue;
		timer_drop(w, t);
		if (t->kind < TIMER_UNIT_MAX)
			unit_timer(w, timer_unit(t), t->kind);
		else
			set_timer(w, timer_set(t), t->kind);
	}
}

uint64_t world_next_deadline(const struct world *w)
{
	return w->n_heap ? w->heap[0]->at_us : USEC_INFINITY;
}

/* ---- restoring ---- */

int world_restore_unit(struct world *w, struct unit *u, const struct unit_rec *rec)
{
	uint16_t index = u->rec.index;
	(void)w;
	if (unit_rec_check(rec) < 0 || (index && rec->index && index != rec->index))
		return -EBADMSG;
	u->rec = *rec;
	if (!u->rec.index)
		u->rec.index = index;
	return 0;
}

int world_restore_rollout(struct world *w, struct set *s, const struct rollout_rec *rec)
{
	if (rollout_rec_check(rec) < 0 || !streq(rec->set, s->name))
		return -EBADMSG;
	s->rollout = *rec;
	if (rec->id >= w->next_rollout_id)
		w->next_rollout_id = rec->id + 1;
	return 0;
}

/* A record of a core whose clock was ahead of ours (by what a suspend lasted, of a version that counted it). */
static void bound_times(const struct world *w, struct unit_rec *r)
{
	r->state_since_us = MIN(r->state_since_us, w->now_us);
	r->active_since_us = MIN(r->active_since_us, w->now_us);
	r->inactive_since_us = MIN(r->inactive_since_us, w->now_us);
}

/* What was due while nobody looked is due at once (timer_arm() moves it to now), or put off. */
static void rearm(struct world *w, struct unit *u)
{
	bound_times(w, &u->rec);
	for (int k = 0; k < TIMER_UNIT_MAX; k++) {
		uint64_t at_us = u->rec.timer_at_us[k];
		if (!at_us)
			continue;
		if (is_judging((enum timer_kind)k) && at_us <= w->now_us)
			at_us = w->now_us + GRACE_US;
		timer_arm(w, &u->timers[k], at_us);
	}
}

static void restored(struct world *w)
{
	w->is_restoring = true;
	for (size_t i = 0; i < w->n_units; i++)
		rearm(w, w->units[i]);
	for (size_t i = 0; i < w->n_units; i++) {
		struct unit *u = w->units[i];
		inst_restored(w, u);
		health_restored(w, u);
		lb_restored(w, u);
		job_restored(w, u);
	}
	for (size_t i = 0; i < w->n_sets; i++)
		rollout_restored(w, w->sets[i]);
	w->is_restoring = false;
}

/* ---- the step ---- */

static void request_event(struct world *w, const struct request *r)
{
	if (r->verb == REQ_DRAIN || r->verb == REQ_UNDRAIN) {
		if (r->unit)
			lb_request(w, r->unit, r);
		else
			fx_reply(w, r->id, REPLY_REFUSED, "drain needs one instance");
	} else if (r->set && (r->verb >= REQ_SCALE || !r->unit)) {
		set_request(w, r);
	} else if (r->unit && r->verb <= REQ_RESET_FAILED) {
		job_request(w, r);
	} else {
		fx_reply(w, r->id, REPLY_REFUSED, "this works on a replica set only");
	}
}

/* As a constant: it is kept. */
static const char *way_out(const char *text)
{
	return streq(strna(text), "reboot")     ? "reboot"
	       : streq(strna(text), "poweroff") ? "poweroff"
						: "exit";
}

static int dispatch(struct world *w, const struct event *ev)
{
	switch (ev->kind) {
	case EV_TIME:
		return 0;
	case EV_CONDITIONS:
	case EV_SPAWNED:
	case EV_SPAWN_FAILED:
	case EV_EXITED:
	case EV_EMPTY:
	case EV_NOTIFY:
	case EV_MAIN_PID:
		return ev->unit ? inst_event(w, ev->unit, ev) : -EINVAL;
	case EV_PROBED:
		if (!ev->unit || ev->check >= CHECK_KIND_MAX)
			return -EINVAL;
		health_probed(w, ev->unit, ev);
		return 0;
	case EV_LB_SAMPLE:
		if (!ev->unit || !ev->sample || ev->lb >= SET_LBS_MAX)
			return -EINVAL;
		lb_sample(w, ev->unit, ev->lb, ev->sample);
		return 0;
	case EV_LB_STATUS:
		if (!ev->set || ev->lb >= SET_LBS_MAX)
			return -EINVAL;
		lb_status(w, ev->set, ev->lb, ev->ok, (uint32_t)ev->number, ev->text);
		return 0;
	case EV_REQUEST:
		if (!ev->request || ev->request->verb >= REQ_VERB_MAX)
			return -EINVAL;
		request_event(w, ev->request);
		return 0;
	case EV_SHUTDOWN:
		job_shutdown(w, (int)ev->number, way_out(ev->text));
		return 0;
	case EV_RESTORED:
		restored(w);
		return 0;
	case EV_KIND_MAX:
		break;
	}
	return -EINVAL;
}

/* When a shutdown is asked for and every unit is down, and nothing is to be said before. */
static void exit_when_down(struct world *w)
{
	if (!w->is_shutting_down || w->has_exited)
		return;
	/* What is down stays down now, so that no step looks at it twice. */
	for (; w->down_from < w->n_units; w->down_from++)
		if (!unit_is_down(w->units[w->down_from]))
			return;
	w->has_exited = true;
	struct effect *e = fx_add(w, FX_EXIT);
	e->number = (uint64_t)w->exit_code;
	e->text = arena_strdup(&w->fx->arena, w->exit_text ? w->exit_text : "exit");
}

int world_step(struct world *w, const struct event *ev, struct effects *out)
{
	w->fx = out;
	w->step_error = 0;
	w->now_us = MAX(w->now_us, ev->now_us);
	w->wall_us = ev->wall_us;
	int r = dispatch(w, ev);
	timers_run(w);
	/* Sets want things of units, and units tell their sets: until both are done. */
	for (int i = 0; i < ROUNDS_MAX && (!i || w->n_queue > w->head_queue); i++) {
		jobs_run(w);
		set_run(w);
	}
	exit_when_down(w);
	w->fx = NULL;
	return r < 0 ? r : w->step_error;
}
