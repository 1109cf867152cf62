/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The driver: time, faults, the death of core, and the command line.
 *
 *   sim --check            tests/sim/seeds.txt, the scripts, fixed seeds: 18 s; prints TAP
 *   sim --scripts [--seconds N]    every script with a death at every instant; with N: pairs
 *   sim --steps N [--seed S]   universes from seed S on, until N steps
 *   sim --seconds N        universes from a seed of the clock
 *   sim --seed S --trace   one universe, every event and effect
 *   sim ... --failures N   stop after that many failing universes, 10 by default
 */
#include "sim.h"

#include <time.h>

#define STEPS_WITH_FAULTS 1500
#define QUIET_US          (1800 * USEC_PER_SEC)
#define STORY_QUIET_US    (30 * USEC_PER_SEC)
#define QUIET_STEPS_MAX   20000
#define CORE_DEATHS_MAX   200
#define WORLDS_ONE_IN     8 /* every so many universes have several hosts */
#define CHECK_SECONDS     18
#define NIGHT_SECONDS     1800 /* of one job: from here on a row that was never reached is a failure */

/* ---- weak: there is no load balancer ---- */
#define WEAK __attribute__((weak))
WEAK void fake_lb_universe(struct sim *s)
{
	(void)s;
}
WEAK void fake_lb_world(struct sim *s)
{
	(void)s;
}
WEAK bool fake_lb_effect(struct sim *s, const struct effect *e)
{
	return (void)s, (void)e, false;
}
WEAK void fake_lb_event(struct sim *s, const struct pending *p)
{
	(void)s, (void)p;
}
WEAK void fake_lb_core_back(struct sim *s)
{
	(void)s;
}
WEAK void fake_lb_request(struct sim *s)
{
	(void)s;
}
WEAK void fake_lb_quiet(struct sim *s)
{
	(void)s;
}
WEAK void fake_lb_before(struct sim *s, const struct event *ev)
{
	(void)s, (void)ev;
}
WEAK void fake_lb_check(struct sim *s)
{
	(void)s;
}
WEAK void fake_lb_end(struct sim *s)
{
	(void)s;
}
WEAK void fake_lb_done(struct sim *s)
{
	(void)s;
}

struct options {
	uint64_t seed, steps;
	double seconds;
};

static bool should_trace;
unsigned failures_max = 10;

uint64_t sim_random(struct sim *s, uint64_t below)
{
	return below ? (rng_next(&s->rng) >> 11) % below : 0;
}

bool sim_chance(struct sim *s, unsigned of_10000)
{
	return sim_random(s, 10000) < of_10000;
}

bool sim_fault(struct sim *s, unsigned weight)
{
	return !s->is_quiet && sim_chance(s, weight * s->p_fault / 10000);
}

void sim_trace(struct sim *s, const char *format, ...)
{
	if (!s->is_tracing)
		return;
	va_list args;
	printf("# %12.6f ", (double)s->now_us / 1e6);
	va_start(args, format);
	vprintf(format, args);
	va_end(args);
	putchar('\n');
}

void sim_fail(struct sim *s, const char *format, ...)
{
	va_list args;
	if (s->has_failed)
		return;
	s->has_failed = true;
	va_start(args, format);
	vsnprintf(s->failure, sizeof(s->failure), format, args);
	va_end(args);
	sim_trace(s, "FAILURE %s", s->failure);
	for (uint32_t i = 0; s->is_tracing && s->w && i < s->w->n_units; i++) {
		const struct unit *u = s->w->units[i];
		sim_trace(s, "  %s %s want %d stop %d restart %d stuck %d waits for %s: %s",
			u->name, inst_state_name((enum inst_state)u->rec.state), u->rec.want,
			u->rec.stop_wanted, u->rec.restart_wanted, u->is_stuck,
			u->waits_for ? u->waits_for->name : "-", u->fail_text);
	}
}

/* ---- things to come ---- */

static bool is_before(const struct pending *a, const struct pending *b)
{
	return a->at_us != b->at_us ? a->at_us < b->at_us : a->order < b->order;
}

struct pending *sim_later(struct sim *s, uint64_t in_us, enum pending_kind kind)
{
	GROW(s->heap, s->n_heap, s->cap_heap);
	struct pending n = {.at_us = s->now_us + 1 + in_us, .order = s->order++, .kind = kind};
	size_t i = s->n_heap++;
	for (; i && is_before(&n, &s->heap[(i - 1) / 2]); i = (i - 1) / 2)
		s->heap[i] = s->heap[(i - 1) / 2];
	s->heap[i] = n;
	return &s->heap[i];
}

static struct pending take(struct sim *s)
{
	struct pending first = s->heap[0], last = s->heap[--s->n_heap];
	size_t i = 0;
	for (;;) {
		size_t c = 2 * i + 1;
		if (c + 1 < s->n_heap && is_before(&s->heap[c + 1], &s->heap[c]))
			c++;
		if (c >= s->n_heap || !is_before(&s->heap[c], &last))
			break;
		s->heap[i] = s->heap[c];
		i = c;
	}
	s->heap[i] = last;
	return first;
}

/* ---- core ---- */

static void core_start(struct sim *s)
{
	s->core++;
	universe_build_world(s);
	for (uint32_t i = 0; i < s->n_units; i++) {
		struct sim_unit *v = &s->units[i];
		if (!v->has_stored)
			continue;
		s->restored[i] = v->stored;
		world_restore_unit(s->w, s->w->units[i], &v->stored);
		if (memcmp(&s->w->units[i]->rec, &v->stored, sizeof(v->stored)) != 0)
			sim_fail(s, "%s: a restored record is another one", v->conf->name);
	}
}

/* The world is thrown away; processes live on. */
void sim_death(struct sim *s, enum death how)
{
	sim_trace(s, how == DEATH_OF_KEEPER ? "keeper and core die" : "core dies");
	s->n_core_deaths++;
	s->w = world_free(s->w);
	for (size_t i = 1; i < s->n_requests; i++)
		if (s->requests[i] == 1)
			s->requests[i] = 3;
	host_core_died(s);
	if (how == DEATH_OF_KEEPER)
		host_keeper_died(s);
	core_start(s);
	host_flush_births(s);
	uint32_t core = s->core;
	struct event ev = {.kind = EV_RESTORED};
	sim_step(s, &ev);
	if (s->core != core)
		return;
	fake_lb_core_back(s);
	host_core_back(s);
}

static void write_records(struct sim *s)
{
	for (size_t i = 0; i < s->w->n_dirty; i++) {
		struct unit *u = s->w->dirty[i];
		if (unit_rec_check(&u->rec) < 0)
			sim_fail(s, "%s: no core would believe this record", u->name);
		s->units[u->id].stored = u->rec;
		s->units[u->id].has_stored = true;
		u->is_dirty = u->in_dirty_list = false;
	}
	s->w->n_dirty = 0;
}

/* Answers that were decided and not given: whoever asked has heard nothing. */
static void lose_answers(struct sim *s, size_t from)
{
	for (size_t i = from; i < s->fx.n; i++)
		if (s->fx.v[i].kind == FX_REPLY && s->fx.v[i].request < s->n_requests)
			s->requests[s->fx.v[i].request] = 3;
}

/* Every instant at which a death is another one has a number. True: there is no core any more. */
static bool dies_here(struct sim *s, bool is_recorded, size_t n_performed)
{
	enum death how = is_recorded ? DEATH_BEFORE_EFFECT : DEATH_BEFORE_RECORD;
	if (s->script) {
		bool is_point = !s->is_quiet && is_recorded == (s->death != DEATH_BEFORE_RECORD);
		s->n_points += is_point;
		if (!is_point || (s->n_points != s->kill_at[0] && s->n_points != s->kill_at[1]))
			return false;
		how = s->death;
	} else {
		if (s->is_quiet || s->n_core_deaths >= CORE_DEATHS_MAX ||
			!sim_chance(s, s->p_core_dies) || (!is_recorded && sim_chance(s, 8000)))
			return false;
		if (sim_chance(s, s->p_keeper_dies))
			how = DEATH_OF_KEEPER;
	}
	lose_answers(s, n_performed);
	sim_death(s, how);
	return true;
}

static void trace_event(struct sim *s, const struct event *ev)
{
	if (s->is_tracing && ev->kind != EV_TIME)
		sim_trace(s, "event %d %s seq %u pid %d %d/%d ok %d bits %u", (int)ev->kind,
			ev->unit ? ev->unit->name : "", ev->id.seq, ev->pid, ev->code, ev->status,
			ev->ok, ev->bits);
}

static void trace_effect(struct sim *s, const struct effect *e)
{
	if (!s->is_tracing)
		return;
	if (e->kind == FX_EVENT)
		sim_trace(s, "    %s: %s: %s", e->unit ? e->unit->name : "-", event_name(e->event),
			strna(e->text));
	else
		sim_trace(s, "    effect %d %s exec %d seq %u sig %d req %llu res %d %s",
			(int)e->kind, e->unit ? e->unit->name : "", (int)e->exec, e->id.seq,
			e->signal, (unsigned long long)e->request, (int)e->result, strna(e->text));
}

void sim_step(struct sim *s, struct event *ev)
{
	if (s->has_failed)
		return;
	s->step++;
	ev->now_us = s->now_us;
	ev->wall_us = s->now_us + (uint64_t)s->wall_us;
	trace_event(s, ev);
	effects_reset(&s->fx);
	if (ev->kind == EV_NOTIFY && ev->bits & NOTIFY_STOPPING)
		s->units[ev->unit->id].is_leaving = true;
	fake_lb_before(s, ev);
	int r = world_step(s->w, ev, &s->fx);
	check_step(s, r);
	for (size_t i = 0; i < s->fx.n; i++) {
		trace_effect(s, &s->fx.v[i]);
		check_effect(s, &s->fx.v[i]);
	}
	if (s->has_failed || ((s->fx.n || s->w->n_dirty) && dies_here(s, false, 0)))
		return;
	write_records(s);
	for (size_t i = 0; i < s->fx.n; i++) {
		if (dies_here(s, true, i))
			return;
		host_effect(s, &s->fx.v[i]);
	}
}

/* ---- requests ---- */

uint64_t sim_request(struct sim *s, enum request_verb verb, struct unit *u, struct set *set)
{
	GROW(s->requests, s->n_requests, s->cap_requests);
	if (!s->n_requests) {
		s->requests[s->n_requests++] = 0;
		GROW(s->requests, s->n_requests, s->cap_requests);
	}
	uint64_t id = s->n_requests++;
	s->requests[id] = 1;
	struct request r = {.id = id, .verb = verb, .unit = u, .set = set, .actor = "sim"};
	struct event ev = {.kind = EV_REQUEST, .request = &r};
	sim_trace(s, "request %llu: %d %s", (unsigned long long)id, (int)verb, u ? u->name : "");
	uint32_t unit = u ? u->id : 0;
	if (u)
		s->units[unit].since_request = 0;
	for (uint32_t i = 0; i < s->n_units; i++)
		s->units[i].expects_down = false;
	bool is_clearing = u && (verb == REQ_START || verb == REQ_RESET_FAILED) &&
			   u->conf->load == LOAD_LOADED;
	uint32_t core = s->core;
	sim_step(s, &ev);
	if (is_clearing && s->requests[id] != 4 && s->core == core)
		s->units[unit].since_clear = 0;
	return id;
}

static bool has_followers(const struct unit *u)
{
	uint32_t pos = 0;
	return edge_next(u, &pos, DEP_AFTER, true) != NULL;
}

/* A unit and those ordered after it are told to stop, and soon it is told otherwise. */
static void change_of_mind(struct sim *s)
{
	struct unit *u = s->w->units[sim_random(s, s->n_units)];
	for (int k = 0; k < 20 && s->is_about_sets && (!u->set || !has_followers(u)); k++)
		u = s->w->units[sim_random(s, s->n_units)];
	uint32_t id = u->id, core = s->core;
	for (uint32_t i = 0; s->core == core && i < u->n_edges; i++)
		if (u->edges[i].kind == DEP_AFTER && u->edges[i].is_inverse)
			sim_request(s, REQ_STOP, u->edges[i].to, NULL);
	if (s->core != core || s->has_failed)
		return;
	sim_request(s, REQ_STOP, u, NULL);
	struct pending *n = sim_later(s, sim_random(s, 2 * USEC_PER_SEC), P_REQUEST);
	n->unit = id;
	n->ev.number = sim_chance(s, 8000) ? REQ_START : REQ_RESTART;
}

static void random_request(struct sim *s)
{
	static const uint8_t verbs[] = {REQ_START, REQ_START, REQ_START, REQ_STOP, REQ_RESTART,
		REQ_TRY_RESTART, REQ_RELOAD, REQ_RELOAD_OR_RESTART, REQ_RESET_FAILED, REQ_DRAIN,
		REQ_UNDRAIN};
	if (sim_chance(s, s->is_about_sets ? 6000 : 2000)) {
		fake_lb_request(s);
		return;
	}
	if (sim_chance(s, 1500)) {
		change_of_mind(s);
		return;
	}
	struct unit *u = s->w->units[sim_random(s, s->n_units)];
	sim_request(s, (enum request_verb)verbs[sim_random(s, ARRAY_SIZE(verbs))], u, NULL);
}

static bool is_settled(const struct unit *u)
{
	return unit_is_down(u) || u->rec.state == INST_RUNNING || u->rec.state == INST_EXITED;
}

/* What a process may say at any time, and answers that come late or twice. */
static void stray_event(struct sim *s)
{
	uint32_t i = (uint32_t)sim_random(s, s->n_units);
	for (int k = 0; k < 8 && s->is_chatty && is_settled(s->w->units[i]); k++)
		i = (uint32_t)sim_random(s, s->n_units);
	struct unit *u = s->w->units[i];
	struct event ev = {.unit = u};
	switch (s->is_chatty && sim_chance(s, 8000) ? 5 : sim_random(s, 6)) {
	case 0:
		ev.kind = EV_CONDITIONS;
		ev.ok = sim_chance(s, 5000);
		break;
	case 1:
		if (!host_unit_is_empty(s, i))
			return;
		ev.kind = EV_EMPTY;
		break;
	case 2:
		ev.kind = EV_MAIN_PID;
		ev.pid = host_some_pid(s, i);
		break;
	case 3: /* of another time */
		ev.kind = sim_chance(s, 5000) ? EV_EXITED : EV_SPAWN_FAILED;
		ev.id = u->rec.main;
		ev.id.seq += 1000000;
		ev.code = CHILD_EXITED;
		ev.status = ev.stage = EXIT_EXEC;
		break;
	case 4: /* the same process, but of an invocation before */
		ev.kind = EV_EXITED;
		ev.id = u->rec.main;
		ev.id.invocation[3] ^= 1;
		ev.code = CHILD_EXITED;
		break;
	default:
		if (host_unit_is_empty(s, i) && sim_chance(s, 8000))
			return;
		ev.kind = EV_NOTIFY;
		ev.bits = 1u << sim_random(s, 7);
		ev.value_us = sim_random(s, 10 * USEC_PER_SEC);
	}
	uint32_t core = s->core;
	sim_step(s, &ev);
	if (ev.pid && s->core == core && !s->has_failed && u->rec.main_pid == ev.pid)
		host_named_main(s, i, ev.pid);
}

/* ---- time ---- */

bool sim_advance(struct sim *s, uint64_t until_us)
{
	uint64_t due = world_next_deadline(s->w);
	if (due != USEC_INFINITY && !s->is_quiet && sim_chance(s, 500))
		due += sim_random(s, 50 * USEC_PER_MSEC); /* core is slow */
	uint64_t next = s->n_heap ? s->heap[0].at_us : USEC_INFINITY;
	if (MIN(due, next) == USEC_INFINITY || MIN(due, next) > until_us)
		return false;
	if (due < next) {
		struct event ev = {.kind = EV_TIME};
		s->now_us = MAX(s->now_us, due);
		sim_step(s, &ev);
		check_idle(s);
		return true;
	}
	struct pending p = take(s);
	s->now_us = MAX(s->now_us, p.at_us);
	if (p.kind == P_CUSTOM)
		fake_lb_event(s, &p);
	else if (p.kind == P_REQUEST && !s->is_quiet)
		sim_request(s, (enum request_verb)p.ev.number, s->w->units[p.unit], NULL);
	else
		host_pending(s, &p);
	return true;
}

void sim_suspend(struct sim *s, uint64_t for_us)
{
	sim_trace(s, "the machine sleeps for %llu s", (unsigned long long)(for_us / USEC_PER_SEC));
	s->now_us += for_us;
	s->ahead_us += (int64_t)for_us;
	for (size_t i = 0; i < s->n_heap; i++)
		s->heap[i].at_us += for_us;
}

/* The wall clock goes where it likes, also back; the monotonic clock only forwards. */
static void jump_of_clocks(struct sim *s)
{
	if (sim_chance(s, 7000))
		s->wall_us = (int64_t)sim_random(s, 20 * 365 * 86400 * USEC_PER_SEC) -
			     (int64_t)MIN(s->now_us, 10 * 365 * 86400 * USEC_PER_SEC);
	else
		sim_suspend(s, sim_random(s, 10 * 3600 * USEC_PER_SEC));
}

uint64_t sim_next(struct sim *s)
{
	uint64_t due = world_next_deadline(s->w);
	return MAX(s->now_us, MIN(due, s->n_heap ? s->heap[0].at_us : USEC_INFINITY));
}

void sim_turn(struct sim *s)
{
	if (sim_chance(s, 300))
		random_request(s);
	else if (sim_fault(s, s->p_stray))
		stray_event(s);
	else if (sim_fault(s, s->p_edit))
		universe_edit(s);
	else if (sim_fault(s, 5))
		jump_of_clocks(s);
	else if (!sim_advance(s, USEC_INFINITY)) {
		s->now_us += sim_random(s, USEC_PER_SEC);
		random_request(s);
	}
}

static void faulty_time(struct sim *s)
{
	uint64_t steps = s->is_about_sets ? 4 * STEPS_WITH_FAULTS : STEPS_WITH_FAULTS;
	while (s->step < steps && !s->has_failed)
		sim_turn(s);
}

/* OnFailure= and OnSuccess= may start anything again, by way of what they start. */
static bool has_triggers(const struct sim *s)
{
	for (uint32_t i = 0; i < s->n_units; i++)
		if (s->units[i].conf->deps[DEP_ON_FAILURE].n ||
			s->units[i].conf->deps[DEP_ON_SUCCESS].n)
			return true;
	return false;
}

/* OnDrainTimeout=abort gives a stop up, and says so. */
static bool may_give_up(const struct sim *s, uint32_t unit)
{
	const struct lb_conf *c = &s->units[unit].conf->lb;
	return c->is_set && c->on_drain_timeout == DRAIN_ABORT;
}

/* An extra member of a rollout that goes on is begun anew by it, whoever stopped what it was before. */
static bool may_be_begun(const struct unit *u)
{
	return u->set && rollout_is_active(u->set) && u->rec.index > u->set->rollout.count;
}

/* Some leave with a stop whose effects core dies of: it must be done all the same. */
static void last_words(struct sim *s)
{
	uint32_t i = (uint32_t)sim_random(s, s->n_units);
	if (s->has_failed || s->script || sim_chance(s, 5000))
		return;
	sim_request(s, REQ_STOP, s->w->units[i], NULL);
	bool is_told = s->w->units[i]->rec.want == WANT_DOWN;
	if (is_told && sim_chance(s, 5000) && !s->has_failed)
		sim_death(s, DEATH_BEFORE_EFFECT);
	if (!s->has_failed)
		s->units[i].expects_down = is_told && !has_triggers(s) && !may_give_up(s, i) &&
					   !may_be_begun(s->w->units[i]);
}

static void quiet_time(struct sim *s)
{
	s->is_quiet = true;
	last_words(s);
	uint64_t until = s->now_us + QUIET_US, steps = s->step + QUIET_STEPS_MAX, release = 0;
	if (s->script)
		until = s->now_us + STORY_QUIET_US;
	while (!s->has_failed && s->step < steps && s->now_us < until) {
		/* Now and then, because a unit may yet go down and leave something. */
		if (s->now_us >= release) {
			host_release(s);
			fake_lb_quiet(s);
			release = s->now_us + 300 * USEC_PER_SEC;
		}
		if (!sim_advance(s, MIN(until, release)))
			s->now_us = release;
	}
	if (!s->has_failed)
		check_end(s);
}

/* Every unit goes down, in order, and then core may leave. */
static void last_shutdown(struct sim *s)
{
	struct event ev = {.kind = EV_SHUTDOWN, .number = 7};
	uint64_t until = s->now_us + QUIET_US;
	if (s->has_failed)
		return;
	for (uint32_t i = 0; i < s->n_units; i++)
		s->units[i].expects_down = false;
	sim_step(s, &ev);
	while (!s->has_failed && !s->w->has_exited && sim_advance(s, until))
		;
	if (!s->has_failed && !s->w->has_exited)
		sim_fail(s, "the shutdown does not end");
}

struct sim *sim_new(uint64_t seed)
{
	struct sim *s = xcalloc(1, sizeof(*s));
	s->seed = seed;
	s->rng = (seed + 1) * 0x9e3779b97f4a7c15ULL;
	s->now_us = USEC_PER_SEC;
	s->next_pid = 100;
	for (int i = 0; i < 8; i++)
		rng_next(&s->rng);
	return s;
}

static void choose_faults(struct sim *s)
{
	s->p_core_dies = sim_chance(s, 5000) ? (unsigned)sim_random(s, 200) : 0;
	s->p_keeper_dies = sim_chance(s, 3000) ? 3000 : 0;
	s->p_fault = (unsigned)sim_random(s, 10001);
	s->is_chatty = sim_chance(s, 3000);
	s->is_tough = sim_chance(s, 2000);
	s->p_stray = s->is_chatty ? 3000 : 300;
	s->p_edit = sim_chance(s, 3000) ? 100 : 10;
}

void sim_begin(struct sim *s)
{
	struct event ev = {.kind = EV_RESTORED};
	if (s->script) {
		script_make(s);
	} else {
		choose_faults(s);
		universe_make(s);
	}
	core_start(s);
	sim_step(s, &ev);
}

void sim_end(struct sim *s)
{
	quiet_time(s);
	if (s->script)
		script_end(s);
	last_shutdown(s);
}

void sim_run(struct sim *s)
{
	sim_begin(s);
	if (s->script)
		script_run(s);
	else
		faulty_time(s);
	sim_end(s);
}

void sim_free(struct sim *s)
{
	report_add(s);
	fake_lb_done(s);
	world_free(s->w);
	effects_done(&s->fx);
	arena_done(&s->arena);
	free(s->heap);
	free(s->requests);
	free(s);
}

/* ---- the command line ---- */

double seconds_now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static bool run_one(uint64_t seed)
{
	if (seed % WORLDS_ONE_IN == 0)
		return worlds_run(seed, should_trace);
	struct sim *s = sim_new(seed);
	s->is_tracing = should_trace;
	sim_run(s);
	bool is_ok = !s->has_failed;
	if (!is_ok)
		printf("not ok - seed %llu: step %llu: %s\n", (unsigned long long)seed,
			(unsigned long long)s->step, s->failure);
	sim_free(s);
	return is_ok;
}

static unsigned run_seeds(void)
{
	unsigned failed = 0;
	char line[64];
	FILE *f = fopen("tests/sim/seeds.txt", "re");
	while (f && fgets(line, sizeof(line), f))
		if (line[0] != '#' && line[0] != '\n')
			failed += !run_one(strtoull(line, NULL, 10));
	if (f)
		fclose(f);
	return failed;
}

static bool say_part(unsigned failed, const char *what)
{
	printf("%sok - %s\n", failed ? "not " : "", what);
	return !failed;
}

static int check(void)
{
	double start = seconds_now();
	bool is_ok = say_part(run_seeds(), "seeds that once failed");
	is_ok &= say_part(
		scripts_run(1, EFFORT_SOME, start + 600), "scripts with a death at every instant");
	unsigned failed = 0;
	for (uint64_t seed = 1; seconds_now() - start < CHECK_SECONDS && failed < 5; seed++)
		failed += !run_one(seed);
	is_ok &= say_part(failed, "universes from seed 1 on");
	report_print(seconds_now() - start);
	is_ok &= say_part(report_unreasoned(), "rows that cannot be have their reasons");
	return is_ok ? EXIT_SUCCESS : EXIT_FAILURE;
}

/* A quarter of the time belongs to the scripts, pairs of deaths included. */
static int run_many(const struct options *o)
{
	double start = seconds_now();
	uint64_t seed = o->seed ? o->seed : (uint64_t)time(NULL) * 100000;
	unsigned failed = 0;
	if (o->seconds > 0 && !o->steps)
		failed += scripts_run(seed, EFFORT_PAIRS, start + o->seconds / 4);
	while (failed < failures_max &&
		(o->steps ? report_steps() < o->steps : seconds_now() - start < o->seconds))
		failed += !run_one(seed++);
	report_print(seconds_now() - start);
	printf("# next seed %llu, %u violations\n", (unsigned long long)seed, failed);
	bool is_ok = say_part(failed, "sim");
	is_ok &= say_part(report_unreasoned(), "rows that cannot be have their reasons");
	if (o->seconds >= NIGHT_SECONDS)
		is_ok &= say_part(report_unreached(), "rows that can be are reached");
	return is_ok ? EXIT_SUCCESS : EXIT_FAILURE;
}

int main(int argc, char **argv)
{
	struct options o = {0};
	bool is_check = false, is_scripts = false;
	const char *story = NULL;
	setvbuf(stdout, NULL, _IOLBF, 0);
	for (int i = 1; i < argc; i++) {
		const char *value = i + 1 < argc ? argv[i + 1] : NULL;
		if (streq(argv[i], "--check"))
			is_check = true;
		else if (streq(argv[i], "--scripts"))
			is_scripts = true;
		else if (streq(argv[i], "--trace"))
			should_trace = true;
		else if (value && streq(argv[i], "--story"))
			story = argv[++i];
		else if (value && streq(argv[i], "--seed"))
			o.seed = strtoull(argv[++i], NULL, 10);
		else if (value && streq(argv[i], "--steps"))
			o.steps = strtoull(argv[++i], NULL, 10);
		else if (value && streq(argv[i], "--failures"))
			failures_max = (unsigned)strtoul(argv[++i], NULL, 10);
		else if (value && streq(argv[i], "--seconds"))
			o.seconds = strtod(argv[++i], NULL);
		else {
			fprintf(stderr,
				"usage: sim --check | --scripts | --story S:D:N:N | [--seed S] [--steps N | "
				"--seconds N] [--failures N] [--trace]\n");
			return STAY_EXIT_USAGE;
		}
	}
	if (is_check)
		return check();
	if (story)
		return script_trace(story, o.seed ? o.seed : 1);
	if (is_scripts) {
		unsigned failed =
			scripts_run(o.seed ? o.seed : 1, o.seconds > 0 ? EFFORT_PAIRS : EFFORT_ALL,
				seconds_now() + (o.seconds > 0 ? o.seconds : 3600));
		report_print(1);
		return failed ? EXIT_FAILURE : EXIT_SUCCESS;
	}
	if (!o.steps && o.seconds <= 0)
		return run_one(o.seed) ? EXIT_SUCCESS : EXIT_FAILURE;
	return run_many(&o);
}
