/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A small world for the targets that stand behind a parser: a set of replicas with checks, load
 * balancers and rollouts, and one service of each kind. The units are parsed once, each input gets
 * a world of its own. What must hold whatever was read: check_world().
 */
#pragma once

#include "core/inner.h"
#include "model/parts.h"
#include "fuzz.h"

#define RIG_MEMBERS 4

static const struct {
	const char *name, *text;
} rig_texts[] = {
	{"web@1.service",
         "[Unit]\nRequires=db.service\nAfter=db.service\n"
		"[Service]\nType=notify\nNotifyAccess=all\nExecStartPre=/bin/true\n"
		"ExecStart=/bin/web %i\nExecStartPost=/bin/true\nExecReload=/bin/kill -HUP $MAINPID\n"
		"ExecStop=/bin/true\nExecStopPost=/bin/true\nRestart=always\nWatchdogSec=10\n"
		"FileDescriptorStoreMax=4\n"
		"[X-Replicas]\nCount=3\n"
		"[X-Health]\nStartup=exec:/bin/true\nReady=http://127.0.0.1:1/ready\n"
		"Live=tcp://127.0.0.1:1\nIntervalSec=2\nRise=2\nFall=2\n"
		"[X-LoadBalancer]\nDriver=haproxy\nAddress=127.0.0.1:9\nAddress=127.0.0.1:10\nBackend=web\n"
		"DrainTimeoutSec=20\nRamp=10,50\n"
		"[X-Rollout]\nMaxSurge=1\nMaxUnavailable=1\nMinReadySec=1\nAutoRollback=yes\n"
		"ReleaseRoot=/opt/web/releases\nReleaseLink=/opt/web/current\n"                           },
	{"db.service",    "[Service]\nExecStart=/bin/db\nExecStartPost=/bin/true\nRestart=on-failure\n"
		       "KillMode=mixed\nRuntimeMaxSec=1h\n"                         },
	{"fork.service",
         "[Unit]\nAfter=db.service\nConflicts=once.service\n"
		"[Service]\nType=forking\nPIDFile=/nonexistent/pid\nExecStart=/bin/fork\nRestart=always\n"},
	{"once.service",
         "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecCondition=/bin/true\nExecStart=/bin/a\n"
		"ExecStart=-/bin/b\nExecStop=/bin/c\n"                                                    },
	{"api.service",   "[Unit]\nBindsTo=fork.service\n[Service]\nExecStart=/bin/api\n"
			"[X-Replicas]\nCount=1\n[X-Rollout]\nStrategy=rolling\n"   },
	{"all.target",
         "[Unit]\nWants=web@1.service web@2.service db.service once.service\nRequires=api.service\n"      },
};

static struct unit_conf *rig_confs[ARRAY_SIZE(rig_texts)], *rig_members[RIG_MEMBERS];

static struct unit_path rig_path;

static struct unit_conf *rig_parse(const char *name, const char *text)
{
	if (!rig_path.config_dir)
		unit_path_default(&rig_path, "/nonexistent");
	struct unit_conf *c = unit_load_text(&rig_path, name, "fuzz", text, strlen(text));
	for (size_t i = 0; i < c->n_diagnostics; i++)
		if (c->diagnostics[i].is_error)
			fprintf(stderr, "%s: %s\n", name, c->diagnostics[i].text);
	if (c->load != LOAD_LOADED)
		abort();
	return c;
}

static void rig_confs_make(void)
{
	if (rig_confs[0])
		return;
	for (size_t i = 0; i < ARRAY_SIZE(rig_texts); i++)
		rig_confs[i] = rig_parse(rig_texts[i].name, rig_texts[i].text);
	for (unsigned i = 0; i < RIG_MEMBERS; i++) {
		char name[32];
		snprintf(name, sizeof(name), "web@%u.service", i + 1);
		rig_members[i] = rig_parse(name, rig_texts[0].text);
	}
}

static void rig_set(struct world *w, const char *name, const char *template, unsigned count,
	struct unit_conf *conf)
{
	struct set *s = world_put_set(w, name, template, count);
	struct set_core *x = xcalloc(1, sizeof(*x));
	x->conf = unit_conf_ref(conf);
	x->journal_fd = -1;
	x->lb_base = (uint16_t)(10 * (w->n_sets - 1));
	x->has_lb_base = true;
	s->core = x;
}

/* With the companions that core's functions want; c may be NULL. */
UNUSED static struct world *rig_world(struct core *c)
{
	struct effects fx = {0};
	rig_confs_make();
	struct world *w = world_new(7);
	w->now_us = 1000 * USEC_PER_SEC;
	rig_set(w, "web", "web@.service", 3, rig_confs[0]);
	rig_set(w, "api", "api.service", 1, rig_confs[4]);
	for (unsigned i = 0; i < RIG_MEMBERS; i++) {
		struct unit *u = world_put_unit(w, rig_members[i]);
		world_set_member(w, world_set(w, "web"), i + 1, u);
	}
	for (size_t i = 1; i < ARRAY_SIZE(rig_confs); i++)
		world_put_unit(w, rig_confs[i]);
	world_set_member(w, world_set(w, "api"), 1, world_unit(w, "api.service"));
	for (size_t i = 0; i < w->n_units; i++) {
		store_attach(c, w->units[i]);
		world_set_next_conf(w, w->units[i], w->units[i]->conf, 2, "v2");
	}
	world_link(w, &fx);
	effects_done(&fx);
	return w;
}

UNUSED static void rig_world_free(struct world *w)
{
	for (size_t i = 0; i < w->n_units; i++) {
		struct unit_core *x = w->units[i]->core;
		for (size_t k = 0; k < x->n_fds; k++)
			fd_close(x->fds[k].fd);
		free(x->fds);
		if (x->image)
			launch_image_free(x->image);
		if (x->image_conf)
			unit_conf_unref(x->image_conf);
		fd_close(x->log_fd);
		free(x);
	}
	for (size_t i = 0; i < w->n_sets; i++) {
		fd_close(sc(w->sets[i])->journal_fd);
		unit_conf_unref(sc(w->sets[i])->conf);
		free(w->sets[i]->core);
	}
	world_free(w);
}

static void check_unit(const struct world *w, const struct unit *u)
{
	const struct unit_rec *r = &u->rec;
	assert(r->state < INST_STATE_MAX && r->result < RES_MAX && r->want <= WANT_DOWN);
	assert(r->lb_phase < LBP_MAX && r->control_kind < EXEC_KIND_MAX);
	assert(r->index <= SET_MEMBERS_MAX && memchr(r->release, '\0', sizeof(r->release)));
	assert(!r->index || !u->set || u->set->members[r->index - 1] == u);
	assert(r->main_pid >= 0 && r->control_pid >= 0);
	assert((r->main.seq || !r->main_pid) && (r->control.seq || !r->control_pid));
	for (int k = 0; k < TIMER_UNIT_MAX; k++) {
		const struct timer *t = &u->timers[k];
		assert(!t->at_us || (t->heap_pos < w->n_heap && w->heap[t->heap_pos] == t));
		/* probes begin anew: they are in no record */
		assert(r->timer_at_us[k] == (k >= TIMER_STARTUP && k <= TIMER_LIVE ? 0 : t->at_us));
	}
	struct buf text = {0};
	unit_waiting_text(w, u, &text);
	assert(is_printable(text.data));
	buf_done(&text);
	assert(is_printable(u->fail_text));
}

UNUSED static void check_rollout(const struct rollout_rec *r)
{
	assert(r->state < ROLL_STATE_MAX && r->resume_state < ROLL_STATE_MAX);
	assert(r->count <= SET_MEMBERS_MAX && r->surge <= SET_MEMBERS_MAX - r->count);
	assert(r->unavailable <= SET_MEMBERS_MAX);
	for (unsigned i = 0; i < SET_MEMBERS_MAX; i++)
		assert(r->step[i] < STEP_MAX && r->touched[i] <= 2);
	assert(memchr(r->set, '\0', sizeof(r->set)) && memchr(r->actor, '\0', sizeof(r->actor)));
	assert(memchr(r->reason, '\0', sizeof(r->reason)));
	assert(memchr(r->from_release, '\0', sizeof(r->from_release)));
	assert(memchr(r->to_release, '\0', sizeof(r->to_release)));
}

UNUSED static void check_world(const struct world *w)
{
	for (size_t i = 0; i < w->n_units; i++)
		check_unit(w, w->units[i]);
	for (size_t i = 0; i < w->n_sets; i++)
		check_rollout(&w->sets[i]->rollout);
	assert(w->n_queue == w->head_queue || w->n_queue == 0);
}
