/* SPDX-License-Identifier: Apache-2.0 */
/* Random units: every type, every Restart= and KillMode=, random edges, some of them in cycles. */
#include "sim.h"
#include "../model_conf.h"
#include "../model_stubs.h"

#define UNKNOWN_RESTARTS 1000000 /* no limit is too early then */

static size_t few(struct sim *s, unsigned chance)
{
	return sim_chance(s, chance) ? 1 + sim_random(s, 2) : 0;
}

static void make_commands(struct sim *s, struct service_conf *c)
{
	static const uint8_t lists[] = {EXEC_CONDITION, EXEC_START_PRE, EXEC_START_POST,
		EXEC_RELOAD, EXEC_STOP, EXEC_STOP_POST};
	for (size_t i = 0; i < ARRAY_SIZE(lists); i++) {
		struct exec_list l =
			conf_commands(&s->arena, few(s, lists[i] == EXEC_CONDITION ? 500 : 2000));
		for (size_t k = 0; k < l.n; k++)
			l.v[k].ignore_failure = sim_chance(s, 2000);
		c->exec[lists[i]] = l;
	}
	if (c->type == SERVICE_ONESHOT)
		c->exec[EXEC_START] = conf_commands(&s->arena, 1 + sim_random(s, 3));
	if (sim_chance(s, 300) && c->remain_after_exit)
		c->exec[EXEC_START].n = 0;
}

static void make_restart(struct sim *s, struct restart_conf *r)
{
	r->mode = (enum restart_mode)sim_random(s, RESTART_MODE_MAX);
	if (sim_chance(s, 4000))
		r->mode = RESTART_ALWAYS;
	r->sec_us = sim_chance(s, 4000) ? 0 : sim_random(s, 3 * USEC_PER_SEC);
	if (sim_chance(s, 4000)) {
		r->steps = (unsigned)sim_random(s, 6);
		r->max_delay_us = r->sec_us + sim_random(s, 60 * USEC_PER_SEC);
	}
	r->limit_interval_us = sim_chance(s, 1500) ? 0 : (1 + sim_random(s, 30)) * USEC_PER_SEC;
	r->limit_burst = 1 + (unsigned)sim_random(s, 6);
	r->jitter_percent = (unsigned)sim_random(s, 30);
	r->reset_after_us = (1 + sim_random(s, 60)) * USEC_PER_SEC;
	r->on_limit = sim_chance(s, 5000) ? ON_LIMIT_SLOW : ON_LIMIT_FAIL;
	r->success.codes[0] = sim_chance(s, 1000) ? 2 : 0;
	r->prevent.codes[0] = sim_chance(s, 1000) ? 4 : 0;
	r->force.codes[0] = sim_chance(s, 1000) ? 8 : 0;
}

static struct unit_conf *make_service(struct sim *s, const char *name)
{
	enum service_type t = (enum service_type)sim_random(s, SERVICE_TYPE_MAX);
	struct unit_conf *c = conf_service(&s->arena, name, t);
	struct service_conf *v = &c->service;
	v->remain_after_exit = sim_chance(s, t == SERVICE_ONESHOT ? 5000 : 1000);
	make_commands(s, v);
	make_restart(s, &v->restart);
	if (t == SERVICE_ONESHOT && v->restart.mode == RESTART_ALWAYS)
		v->restart.mode = RESTART_ON_FAILURE;
	if (t == SERVICE_FORKING && sim_chance(s, 5000))
		v->pid_file = arena_strdup(&s->arena, "/run/x.pid");
	v->guess_main_pid = sim_chance(s, 9000);
	v->kill_mode = sim_chance(s, 6000) ? KILL_CONTROL_GROUP : (enum kill_mode)sim_random(s, 4);
	v->send_sigkill = sim_chance(s, 9500);
	v->send_sighup = sim_chance(s, 1000);
	v->timeout_start_us = (1 + sim_random(s, 20)) * USEC_PER_SEC;
	v->timeout_stop_us = (1 + sim_random(s, 10)) * USEC_PER_SEC;
	v->timeout_abort_us = (1 + sim_random(s, 10)) * USEC_PER_SEC;
	if (sim_chance(s, 1500))
		v->watchdog_us = (1 + sim_random(s, 10)) * USEC_PER_SEC;
	if (sim_chance(s, 500))
		v->runtime_max_us = (1 + sim_random(s, 120)) * USEC_PER_SEC;
	for (int k = 0; k < CHECK_KIND_MAX; k++)
		if (sim_chance(s, 2000))
			conf_check(&s->arena, c, (enum check_kind)k);
	c->n_conditions = sim_chance(s, 1500);
	return c;
}

static const char *alias_of(uint32_t i)
{
	static char name[32];
	snprintf(name, sizeof(name), "alias%u.service", i);
	return name;
}

static void make_edges(struct sim *s, uint32_t i)
{
	static const uint8_t kinds[] = {DEP_REQUIRES, DEP_WANTS, DEP_WANTS, DEP_BINDS_TO,
		DEP_PART_OF, DEP_REQUISITE, DEP_UPHOLDS, DEP_CONFLICTS, DEP_ON_FAILURE,
		DEP_ON_SUCCESS, DEP_PROPAGATES_RELOAD};
	struct unit_conf *c = s->units[i].conf;
	size_t n = i ? sim_random(s, 4) : 0;
	for (size_t k = 0; k < n; k++) {
		uint32_t to = (uint32_t)sim_random(s, i);
		uint8_t kind = kinds[sim_random(s, ARRAY_SIZE(kinds))];
		if (kind == DEP_CONFLICTS && !sim_chance(s, 3000))
			continue;
		conf_dep(&s->arena, c, (enum dep_kind)kind,
			sim_chance(s, 1500) ? alias_of(to) : s->units[to].conf->name);
		if (sim_chance(s, 7000))
			conf_dep(&s->arena, c, DEP_AFTER, s->units[to].conf->name);
	}
	if (sim_chance(s, 300)) /* perhaps a cycle */
		conf_dep(&s->arena, c, sim_chance(s, 5000) ? DEP_AFTER : DEP_BEFORE,
			s->units[sim_random(s, s->n_units)].conf->name);
	if (sim_chance(s, 100))
		conf_dep(&s->arena, c, sim_chance(s, 5000) ? DEP_REQUIRES : DEP_WANTS,
			"gone.service");
}

static void trace_units(struct sim *s)
{
	for (uint32_t i = 0; i < s->n_units; i++) {
		const struct unit_conf *c = s->units[i].conf;
		sim_trace(s, "%s type %d restart %d kill %d", c->name, (int)c->service.type,
			(int)c->service.restart.mode, (int)c->service.kill_mode);
		for (int k = 0; k < DEP_MAX; k++)
			for (size_t j = 0; j < c->deps[k].n; j++)
				sim_trace(s, "    dep %d %s", k, c->deps[k].v[j]);
	}
}

void universe_gone(struct sim *s)
{
	s->units[s->n_units].conf = conf_target(&s->arena, "gone.service");
	s->units[s->n_units++].conf->load = LOAD_NOT_FOUND;
}

void universe_make(struct sim *s)
{
	char name[32];
	s->is_about_sets = s->is_about_sets || sim_chance(s, 3000);
	s->n_units = 1 + (uint32_t)sim_random(s, s->is_about_sets ? 2 : 9);
	for (uint32_t i = 0; i < s->n_units; i++) {
		bool is_target = sim_chance(s, 1200);
		snprintf(name, sizeof(name), "u%u.%s", i, is_target ? "target" : "service");
		s->units[i].conf = is_target ? conf_target(&s->arena, name) : make_service(s, name);
	}
	for (uint32_t i = 0; i < s->n_units; i++)
		make_edges(s, i);
	universe_gone(s);
	fake_lb_universe(s);
	trace_units(s);
}

static void lose_dependency(struct sim *s)
{
	struct unit_conf *c = s->units[sim_random(s, s->n_units)].conf;
	struct conf_list *l = &c->deps[sim_random(s, DEP_MAX)];
	if (!l->n)
		return;
	sim_trace(s, "%s: %s is written no longer", c->name, l->v[l->n - 1]);
	l->n--;
}

static bool owns_group(const struct unit_conf *c)
{
	return c->service.kill_mode == KILL_CONTROL_GROUP || c->service.kill_mode == KILL_MIXED;
}

/* Another text under the same name, whatever the unit is doing; its processes know the old one. */
static void write_anew(struct sim *s)
{
	uint32_t i = (uint32_t)sim_random(s, s->n_units);
	for (int k = 0; k < 4 && (unit_is_down(s->w->units[i]) || unit_is_up(s->w->units[i])); k++)
		i = (uint32_t)sim_random(s, s->n_units);
	struct sim_unit *v = &s->units[i];
	if (v->conf->type != UNIT_SERVICE || v->conf->load != LOAD_LOADED || v->other)
		return;
	struct unit_conf *c = make_service(s, v->conf->name);
	memcpy(c->deps, v->conf->deps, sizeof(c->deps));
	sim_trace(s, "%s is written anew: type %d, was %d", c->name, (int)c->service.type,
		(int)v->conf->service.type);
	for (size_t k = 0; k < SIM_PROCS_MAX; k++)
		if (s->procs[k].is_used && s->procs[k].unit == i &&
			!(owns_group(c) && owns_group(v->conf) &&
				c->service.type == v->conf->service.type))
			s->procs[k].is_free = true;
	v->conf = c;
	v->n_restarts = v->since_request = 0;
	v->since_clear = UNKNOWN_RESTARTS;
	world_put_unit(s->w, c);
}

void universe_edit(struct sim *s)
{
	if (sim_chance(s, 5000))
		lose_dependency(s);
	else
		write_anew(s);
	effects_reset(&s->fx);
	world_link(s->w, &s->fx);
	struct event ev = {.kind = EV_TIME};
	sim_step(s, &ev);
}

void universe_build_world(struct sim *s)
{
	const char *missing;
	s->w = world_new(s->seed * 31 + s->core);
	s->w->coverage = s->coverage;
	s->w->lb_coverage = s->lb_coverage;
	s->w->rollout_coverage = s->rollout_coverage;
	s->w->now_us = s->now_us;
	for (uint32_t i = 0; i < s->n_units; i++)
		world_put_unit(s->w, s->units[i].conf);
	for (uint32_t i = 0; i < s->n_units; i++)
		world_put_alias(s->w, alias_of(i), s->w->units[i]);
	if (world_missing(s->w, &missing))
		sim_fail(s, "%s is missing from the world", missing);
	effects_reset(&s->fx);
	world_link(s->w, &s->fx);
	fake_lb_world(s);
}
