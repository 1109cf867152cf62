/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Stories of a few requests each, told again and again with a death at every instant of them.
 *
 *  1. Without a death a story is the measure: what every unit and the set are at its end, and how often
 *     each main process was started.
 *  2. With a death of core at any instant the end is the same, and no process was started once more: a
 *     core that dies is nobody's restart.
 *  3. With a death before the record the end is the same; a READY=1 that went with it makes the start
 *     time out, and so more may be started. With a death of keeper, too: exits that nobody saw count as
 *     failures of what was to go on.
 *  4. Who asks is patient: a request that died with core is asked again until there is an answer, and
 *     the next one comes after it.
 *
 * Called by sim.c. A failed story is told again, in full, with --story.
 */
#include "sim.h"

#include "../model_conf.h"

#define ACTIONS_MAX   8
#define STORY_US      (900 * USEC_PER_SEC)
#define FAILURES_MAX  5U
#define SOME_OF       5
#define PAIR_MAX      6 /* the second death comes at most so many instants after the first */
#define OF_SET        0xffff
#define OF_LB_RESTART 0xfffe
#define OF_LB_CUT     0xfffd
#define OF_SUSPEND    0xfffc /* number hours */

struct action {
	uint64_t after_us; /* the answer to the one before */
	unsigned unit;     /* of the script, or OF_... */
	enum request_verb verb;
	uint64_t number;
};

struct script {
	const char *name;
	void (*make)(struct sim *s);
	/* Something may be started once more: a request that is no other than the first when it is
	 * asked again, or the new release, when core died between the record of a member that was told
	 * to go back and the journal that says so. It is tried again, and fails again. */
	bool starts_more;
	unsigned min_serving; /* after its first request */
	struct action actions[ACTIONS_MAX];
};

#define SEC(n) ((n)*USEC_PER_SEC)

/* ---- the units of the stories ---- */

static struct unit_conf *put(struct sim *s, const char *name, enum service_type type)
{
	struct unit_conf *c = conf_service(&s->arena, name, type);
	c->service.restart.mode = type == SERVICE_ONESHOT ? RESTART_ON_FAILURE : RESTART_ALWAYS;
	c->service.restart.limit_interval_us = 0;
	c->service.timeout_start_us = c->service.timeout_stop_us = SEC(10);
	c->service.timeout_abort_us = SEC(10);
	s->units[s->n_units++].conf = c;
	return c;
}

static void needs(struct sim *s, struct unit_conf *c, enum dep_kind kind, const char *name)
{
	conf_dep(&s->arena, c, kind, name);
	conf_dep(&s->arena, c, DEP_AFTER, name);
}

/* A target over an application of each type, with every kind of command. */
static void make_chain(struct sim *s)
{
	struct unit_conf *setup = put(s, "setup.service", SERVICE_ONESHOT);
	setup->service.exec[EXEC_START] = conf_commands(&s->arena, 2);
	setup->service.remain_after_exit = true;
	struct unit_conf *db = put(s, "db.service", SERVICE_NOTIFY);
	db->service.exec[EXEC_START_PRE] = conf_commands(&s->arena, 1);
	db->service.exec[EXEC_STOP] = conf_commands(&s->arena, 1);
	db->n_conditions = 1;
	needs(s, db, DEP_REQUIRES, "setup.service");
	struct unit_conf *cache = put(s, "cache.service", SERVICE_FORKING);
	cache->service.pid_file = arena_strdup(&s->arena, "/run/cache.pid");
	cache->service.exec[EXEC_STOP_POST] = conf_commands(&s->arena, 1);
	needs(s, cache, DEP_WANTS, "setup.service");
	struct unit_conf *app = put(s, "app.service", SERVICE_NOTIFY_RELOAD);
	app->service.watchdog_us = SEC(3);
	app->service.exec[EXEC_START_POST] = conf_commands(&s->arena, 1);
	needs(s, app, DEP_BINDS_TO, "db.service");
	needs(s, app, DEP_WANTS, "cache.service");
	struct unit_conf *all = conf_target(&s->arena, "all.target");
	needs(s, all, DEP_REQUIRES, "app.service");
	s->units[s->n_units++].conf = all;
	universe_gone(s);
}

static void make_crash_loop(struct sim *s)
{
	struct unit_conf *c = put(s, "crash.service", SERVICE_EXEC);
	c->description = arena_strdup(&s->arena, "crash");
	c->service.restart.limit_interval_us = SEC(600);
	c->service.restart.limit_burst = 4;
	c->service.restart.sec_us = SEC(1);
	struct unit_conf *by = put(s, "by.service", SERVICE_SIMPLE);
	needs(s, by, DEP_WANTS, "crash.service");
	universe_gone(s);
}

static void plain_policy(struct sim *s, struct unit_conf *c)
{
	static char *addresses[] = {(char *)"lb1", (char *)"lb2"};
	c->lb.is_set = true;
	c->lb.address = (struct conf_list){addresses, 2};
	c->lb.drain_timeout_us = SEC(10);
	c->lb.unreachable = UNREACHABLE_WAIT;
	c->rollout.is_set = true;
	c->rollout.auto_rollback = true;
	c->rollout.progress_deadline_us = SEC(20);
	c->rollout.min_ready_us = SEC(1);
	c->rollout.max_unavailable.value = 1;
	conf_check(&s->arena, c, CHECK_READY);
	c->health[CHECK_READY].interval_us = SEC(2);
}

static void surge_policy(struct sim *s, struct unit_conf *c)
{
	plain_policy(s, c);
	c->rollout.max_unavailable.value = 0;
	c->rollout.max_surge.value = 1;
	c->lb.ramp.percent[0] = 50;
	c->lb.ramp.percent[1] = 100;
	c->lb.ramp.n = 2;
	c->lb.ramp.step_us = SEC(1);
}

static void canary_policy(struct sim *s, struct unit_conf *c)
{
	plain_policy(s, c);
	c->rollout.strategy = ROLLOUT_CANARY;
	c->rollout.canary = arena_strdup(&s->arena, "1");
}

static void make_good_set(struct sim *s)
{
	universe_gone(s);
	sets_make(s, "good", plain_policy);
}

static void make_surge_set(struct sim *s)
{
	universe_gone(s);
	sets_make(s, "good", surge_policy);
}

static void make_bad_set(struct sim *s)
{
	universe_gone(s);
	sets_make(s, "bad", plain_policy);
}

static void make_sick_set(struct sim *s)
{
	universe_gone(s);
	sets_make(s, "sick", surge_policy);
}

static void make_canary_set(struct sim *s)
{
	universe_gone(s);
	sets_make(s, "good", canary_policy);
}

/* Units of make_chain: 0 setup 1 db 2 cache 3 app 4 all; of sets: 0 gone, 1 ... the members. */
static const struct script scripts[] = {
	{"start and stop",                     make_chain,      false, 0,
         {{SEC(1), 4, REQ_START, 0}, {SEC(2), 4, REQ_STOP, 0}, {SEC(1), 3, REQ_STOP, 0},
			{SEC(1), 1, REQ_STOP, 0}}                                          },
	{"restart of a dependency",            make_chain,      true,  0,
         {{SEC(1), 4, REQ_START, 0}, {SEC(2), 1, REQ_RESTART, 0}, {SEC(2), 3, REQ_RELOAD, 0},
			{SEC(2), 0, REQ_RESTART, 0}}                                       },
	{"crash loop",			 make_crash_loop, false, 0,
         {{SEC(1), 1, REQ_START, 0}, {SEC(20), 0, REQ_RESET_FAILED, 0}}                    },
	{"deploy",			     make_good_set,   false, 3,
         {{SEC(1), OF_SET, REQ_START, 0}, {SEC(2), OF_SET, REQ_DEPLOY, 2}}                 },
	{"deploy with surge, and back",        make_surge_set,  false, 4,
         {{SEC(1), OF_SET, REQ_START, 0}, {SEC(2), OF_SET, REQ_DEPLOY, 2},
			{SEC(2), OF_SET, REQ_UNDO, 1}}                                     },
	{"deploy that crashes",                make_bad_set,    true,  3,
         {{SEC(1), OF_SET, REQ_START, 0}, {SEC(2), OF_SET, REQ_DEPLOY, 2}}                 },
	{"deploy that never gets ready",       make_sick_set,   true,  4,
         {{SEC(1), OF_SET, REQ_START, 0}, {SEC(2), OF_SET, REQ_DEPLOY, 2}}                 },
	{"canary",			     make_canary_set, true,  3,
         {{SEC(1), OF_SET, REQ_START, 0}, {SEC(2), OF_SET, REQ_DEPLOY, 2}}                 },
	{"scale and stop",                     make_good_set,   false, 0,
         {{SEC(1), OF_SET, REQ_SCALE, 2}, {SEC(2), OF_SET, REQ_SCALE, 4},
			{SEC(2), OF_SET, REQ_SCALE, 1}, {SEC(2), OF_SET, REQ_STOP, 0}}     },
	{"drain and undrain",                  make_good_set,   false, 0,
         {{SEC(1), OF_SET, REQ_START, 0}, {SEC(2), 2, REQ_DRAIN, 0},
			{SEC(2), 2, REQ_UNDRAIN, 0}}                                       },
	{"load balancers restart and go away", make_good_set,   false, 0,
         {{SEC(1), OF_SET, REQ_START, 0}, {SEC(2), OF_LB_RESTART, REQ_START, 0},
			{SEC(2), OF_LB_CUT, REQ_START, 0}, {SEC(2), OF_SET, REQ_DEPLOY, 2}}},
	{"the machine sleeps",                 make_chain,      true,  0,
         {{SEC(1), 4, REQ_START, 0}, {SEC(2), OF_SUSPEND, REQ_START, 5},
			{SEC(2), 1, REQ_RESTART, 0}, {1, OF_SUSPEND, REQ_START, 3}}        },
	{"the machine sleeps in a deploy",     make_good_set,   false, 0,
         {{SEC(1), OF_SET, REQ_START, 0}, {SEC(2), OF_SUSPEND, REQ_START, 5},
			{SEC(2), OF_SET, REQ_DEPLOY, 2}}                                   },
	{"rolling restart",                    make_surge_set,  true,  4,
         {{SEC(1), OF_SET, REQ_START, 0}, {SEC(2), OF_SET, REQ_ROLLING_RESTART, 0}}        },
};

/* ---- telling one ---- */

void script_make(struct sim *s)
{
	s->script->make(s);
}

static uint64_t act(struct sim *s, const struct action *a)
{
	if (a->unit == OF_SUSPEND)
		sim_suspend(s, a->number * 3600 * USEC_PER_SEC);
	else if (a->unit == OF_LB_RESTART || a->unit == OF_LB_CUT)
		sets_lb_fault(s, a->unit == OF_LB_RESTART);
	else if (a->unit == OF_SET)
		return sets_ask(s, a->verb, a->number);
	else
		return sim_request(s, a->verb, s->w->units[a->unit], NULL);
	return 0;
}

/* A canary that is good waits for somebody to say so. */
static void resume(struct sim *s)
{
	if (!s->has_failed && s->w->n_sets && s->w->sets[0]->rollout.state == ROLL_PAUSED)
		sets_ask(s, REQ_RESUME, 0);
}

static struct rollout_rec *rollout_of(struct sim *s)
{
	return s->w->n_sets ? &s->w->sets[0]->rollout : NULL;
}

/* There is an answer, or the journal shows that it was heard and how it went. */
static bool is_settled(struct sim *s, const struct action *a, uint64_t id, uint64_t last_rollout)
{
	bool begins = a->unit == OF_SET && (a->verb == REQ_DEPLOY || a->verb == REQ_UNDO ||
						   a->verb == REQ_ROLLING_RESTART);
	if (!id)
		return true;
	if (begins && rollout_of(s)->id > last_rollout)
		return s->requests[id] != 1 && !rollout_is_active(s->w->sets[0]);
	return s->requests[id] == 2 || s->requests[id] == 4;
}

static void pass(struct sim *s, uint64_t until_us)
{
	while (!s->has_failed && sim_advance(s, until_us))
		;
	s->now_us = MAX(s->now_us, until_us);
}

/* Asks until it is settled. */
static void ask_patiently(struct sim *s, const struct action *a)
{
	uint64_t last_rollout = rollout_of(s) ? rollout_of(s)->id : 0, id = act(s, a);
	uint64_t until_us = s->now_us + STORY_US;
	while (!s->has_failed && !is_settled(s, a, id, last_rollout)) {
		if (s->now_us >= until_us) {
			sim_fail(s, "request %llu of the script is not answered",
				(unsigned long long)id);
			return;
		}
		bool is_heard = rollout_of(s) && rollout_of(s)->id > last_rollout;
		if (s->requests[id] == 3 && !is_heard)
			id = act(s, a);
		pass(s, s->now_us + SEC(1));
		resume(s);
	}
}

void script_run(struct sim *s)
{
	for (size_t i = 0; i < ACTIONS_MAX && s->script->actions[i].after_us; i++) {
		const struct action *a = &s->script->actions[i];
		pass(s, s->now_us + a->after_us);
		if (!s->has_failed)
			ask_patiently(s, a);
		s->min_serving = s->script->min_serving;
	}
	pass(s, s->now_us + SEC(3)); /* in which a death may come, too */
}

/* ---- comparing ---- */

struct ending {
	uint64_t n_points;
	uint32_t n_units;
	struct {
		enum active_state active;
		uint32_t revision;
		unsigned n_births;
	} unit[SIM_UNITS_MAX];
	uint32_t set_revision;
	unsigned set_count;
};

static void read_ending(const struct sim *s, struct ending *e)
{
	e->n_points = s->n_points;
	e->n_units = s->n_units;
	for (uint32_t i = 0; i < s->n_units; i++) {
		const struct unit_rec *r = &s->w->units[i]->rec;
		e->unit[i].active = inst_active_state((enum inst_state)r->state);
		e->unit[i].revision = r->revision;
		e->unit[i].n_births = s->units[i].n_births;
	}
	e->set_revision = s->w->n_sets ? s->w->sets[0]->revision : 0;
	e->set_count = s->w->n_sets ? s->w->sets[0]->count : 0;
}

static void compare(struct sim *s, const struct ending *want)
{
	struct ending got;
	read_ending(s, &got);
	for (uint32_t i = 0; i < got.n_units && !s->has_failed; i++) {
		const char *name = s->w->units[i]->name;
		if (got.unit[i].active != want->unit[i].active)
			sim_fail(s, "%s is %s at the end, not %s", name,
				active_state_name(got.unit[i].active),
				active_state_name(want->unit[i].active));
		if (got.unit[i].revision != want->unit[i].revision)
			sim_fail(s, "%s is on revision %u at the end, not %u", name,
				got.unit[i].revision, want->unit[i].revision);
		if (s->death == DEATH_BEFORE_EFFECT && !s->script->starts_more &&
			got.unit[i].n_births > want->unit[i].n_births)
			sim_fail(s, "%s was started %u times, not %u", name, got.unit[i].n_births,
				want->unit[i].n_births);
	}
	if (got.set_revision != want->set_revision || got.set_count != want->set_count)
		sim_fail(s, "the set has %u members on revision %u at the end, not %u on %u",
			got.set_count, got.set_revision, want->set_count, want->set_revision);
}

/* ---- all of them ---- */

struct telling {
	size_t script;
	enum death death;
	uint64_t seed, at[2];
	bool is_traced;
};

void script_end(struct sim *s)
{
	if (s->has_failed)
		return;
	if (s->kill_at[0])
		compare(s, s->ending);
	else
		read_ending(s, s->ending);
}

/* Tells it; e is what to compare with, or where to put it when nobody dies. */
static bool tell(const struct telling *t, struct ending *e)
{
	static const char *const how[] = {
		"core before an effect", "core before the record", "keeper"};
	struct sim *s = sim_new(t->seed);
	s->script = &scripts[t->script];
	s->death = t->death;
	s->kill_at[0] = t->at[0];
	s->kill_at[1] = t->at[1];
	s->is_tracing = t->is_traced;
	s->ending = e;
	sim_run(s);
	bool is_ok = !s->has_failed;
	if (!is_ok)
		printf("not ok - story %zu:%d:%llu:%llu, %s, death of %s: %s\n", t->script,
			(int)t->death, (unsigned long long)t->at[0], (unsigned long long)t->at[1],
			s->script->name, how[t->death], s->failure);
	sim_free(s);
	report_points(t->at[0] > 0);
	return is_ok;
}

/* A death at every instant, or at some; with pairs, also one soon after: of the core that has to
 * clean up. */
static unsigned tell_all(struct telling t, enum effort effort, double until_s)
{
	unsigned stride = effort == EFFORT_SOME ? SOME_OF : 1, pairs = PAIR_MAX;
	unsigned failed = 0;
	struct ending e = {0};
	if (!tell(&t, &e))
		return 1;
	if (effort != EFFORT_PAIRS)
		pairs = 0;
	for (t.at[0] = 1 + (t.script + t.death) % stride; t.at[0] <= e.n_points; t.at[0] += stride)
		for (uint64_t d = 0; d <= pairs; d++) {
			t.at[1] = d ? t.at[0] + d : 0;
			if (failed >= MIN(failures_max, FAILURES_MAX) || seconds_now() > until_s)
				return failed;
			failed += !tell(&t, &e);
		}
	return failed;
}

unsigned scripts_run(uint64_t seed, enum effort effort, double until_s)
{
	unsigned failed = 0;
	struct telling t = {.seed = seed};
	for (int death = 0; death < DEATH_MAX; death++)
		for (t.script = 0; t.script < ARRAY_SIZE(scripts); t.script++) {
			t.death = (enum death)death;
			if (failed >= failures_max)
				return failed;
			failed += tell_all(t, effort, until_s);
		}
	if (seconds_now() > until_s)
		printf("# there was no time for all of the scripts\n");
	return failed;
}

int script_trace(const char *story, uint64_t seed)
{
	struct telling t = {.seed = seed, .is_traced = true};
	unsigned long long a = 0, b = 0;
	int death = 0;
	struct ending e = {0};
	if (sscanf(story, "%zu:%d:%llu:%llu", &t.script, &death, &a, &b) != 4 ||
		t.script >= ARRAY_SIZE(scripts) || death < 0 || death >= DEATH_MAX)
		return STAY_EXIT_USAGE;
	t.death = (enum death)death;
	t.is_traced = false;
	tell(&t, &e);
	t.is_traced = true;
	t.at[0] = a;
	t.at[1] = b;
	return tell(&t, &e) ? EXIT_SUCCESS : EXIT_FAILURE;
}
