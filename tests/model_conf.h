/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Unit confs made by hand, with the loader's defaults, for tests of model/.
 *
 * They hold a reference of their own that is never given back, so that the world's unref never
 * frees what is in the test's arena.
 */
#pragma once

#include "model/parts.h"

static inline struct exec_list conf_commands(struct arena *a, size_t n)
{
	struct exec_list l = {n ? arena_alloc(a, n * sizeof(*l.v)) : NULL, n};
	for (size_t i = 0; i < n; i++) {
		l.v[i].path = arena_strdup(a, "/bin/true");
		l.v[i].argv = arena_alloc(a, 2 * sizeof(char *));
		l.v[i].argv[0] = l.v[i].path;
		l.v[i].argc = 1;
	}
	return l;
}

static inline struct unit_conf *conf_service(
	struct arena *a, const char *name, enum service_type type)
{
	struct unit_conf *c = arena_alloc(a, sizeof(*c));
	struct service_conf *s = &c->service;
	c->refs = 1;
	c->name = arena_strdup(a, name);
	c->type = UNIT_SERVICE;
	c->load = LOAD_LOADED;
	c->failure_exit_status = c->success_exit_status = -1;
	s->type = type;
	s->exec[EXEC_START] = conf_commands(a, 1);
	s->guess_main_pid = s->send_sigkill = true;
	s->timeout_start_us = s->timeout_stop_us = s->timeout_abort_us = 90 * USEC_PER_SEC;
	if (type == SERVICE_ONESHOT)
		s->timeout_start_us = USEC_INFINITY;
	s->runtime_max_us = USEC_INFINITY;
	s->watchdog_signal = 6;
	s->kill_signal = SIGNAL_TERM;
	s->final_kill_signal = SIGNAL_KILL;
	s->reload_signal = SIGNAL_HUP;
	s->restart.sec_us = 100 * USEC_PER_MSEC;
	s->restart.max_delay_us = USEC_INFINITY;
	s->restart.limit_interval_us = 10 * USEC_PER_SEC;
	s->restart.limit_burst = 5;
	s->restart.reset_after_us = 60 * USEC_PER_SEC;
	return c;
}

static inline struct unit_conf *conf_target(struct arena *a, const char *name)
{
	struct unit_conf *c = conf_service(a, name, SERVICE_SIMPLE);
	c->type = UNIT_TARGET;
	c->service.exec[EXEC_START] = (struct exec_list){0};
	return c;
}

static inline void conf_dep(
	struct arena *a, struct unit_conf *c, enum dep_kind kind, const char *to)
{
	struct conf_list *l = &c->deps[kind];
	char **v = arena_alloc(a, (l->n + 1) * sizeof(*v));
	if (l->n)
		memcpy(v, l->v, l->n * sizeof(*v));
	v[l->n] = arena_strdup(a, to);
	l->v = v;
	l->n++;
}

static inline void conf_check(struct arena *a, struct unit_conf *c, enum check_kind k)
{
	c->health[k] = (struct health_check){
		arena_strdup(a, "tcp://127.0.0.1:1"), USEC_PER_SEC, USEC_PER_SEC, 1, 3};
}
