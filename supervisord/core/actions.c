/* SPDX-License-Identifier: Apache-2.0 */
/* What the control verbs may ask of core (control.h), and how, where it is no business of other files. */
#include "control/control.h"
#include "core/inner.h"

static const struct core_status *core_status(struct core *c)
{
	static struct core_status s;
	s = (struct core_status){
		.version = STAYD_VERSION,
		.state = c->world->is_shutting_down ? "stopping" : "running",
		.keeper_pid = c->keeper_pid,
		.core_pid = getpid(),
		.launcher_pid = c->role_pid[ROLE_LAUNCHER],
		.net_pid = c->role_pid[ROLE_NET],
		.logger_pid = c->role_pid[ROLE_LOGGER],
		.restarts_of_core = c->restarts_of_core,
		.reexec_state = c->reexec.state,
		.reexec_text = c->reexec.text,
		.reexecs = c->reexec.count,
		.is_reexec_news = c->reexec.is_news,
		.started_wall_us = c->started_wall_us,
		.log_dir = c->log_dir,
		.runtime_dir = c->runtime_dir,
		.state_dir = c->state_dir,
		.unit_path = &c->path,
	};
	for (size_t i = 0; streq(s.state, "running") && i < c->world->n_units; i++)
		if (inst_active_state(c->world->units[i]->rec.state) == ACTIVE_FAILED)
			s.state = "degraded";
	for (int i = 0; i < TROUBLE_MAX; i++)
		if (c->trouble[i][0] && s.n_troubles < ARRAY_SIZE(s.troubles)) {
			s.troubles[s.n_troubles++] = c->trouble[i];
			s.state = streq(s.state, "running") ? "degraded" : s.state;
		}
	return &s;
}

static struct world *core_world(struct core *c)
{
	return c->world;
}

/* Unique across cores: the upper half is how many cores came before. */
static uint64_t core_next_request(struct core *c)
{
	return ((uint64_t)(c->restarts_of_core + 1) << 32) | ++c->next_request;
}

int core_submit(struct core *c, const struct request *r)
{
	struct event ev = {.kind = EV_REQUEST, .unit = r->unit, .set = r->set, .request = r};
	core_step(c, &ev);
	return 0;
}

static const char *core_unit_cgroup(struct core *c, const struct unit *u)
{
	static struct buf path;
	if (!c->cgroup_base)
		return NULL;
	buf_reset(&path);
	cgroup_path_of(c, u, &path);
	return path.data;
}

static void core_each_degraded(struct core *c, const struct unit *u,
	void (*each)(void *arg, const struct degraded *d), void *arg)
{
	const struct unit_core *x = uc(u);
	bool is_started = x && u->conf && u->conf->type == UNIT_SERVICE && !unit_is_down(u);
	/* An adopted unit has no image yet: it is made for the answer. */
	const struct launch_image *image = is_started ? launcher_image(c, x->unit)
					   : x        ? x->image
						      : NULL;
	for (size_t i = 0; u->conf && i < u->conf->n_degraded; i++)
		each(arg, &u->conf->degraded[i]);
	for (size_t i = 0; image && i < image->n_degraded; i++)
		each(arg, &image->degraded[i]);
	if (u->conf)
		cgroup_each_degraded(c, u, each, arg);
}

static int core_unit_files(struct core *c, struct strv *ret_names)
{
	return unit_list_files(&c->path, ret_names);
}

static bool core_sync_logs(struct core *c)
{
	return logger_sync(c);
}

static int core_unit_errno(struct core *c, const struct unit *u)
{
	(void)c;
	return u->core ? uc(u)->said_errno : 0;
}

static int core_kill(struct core *c, struct unit *u, int signo, enum kill_who who, struct err *e)
{
	if (!u->rec.main.seq && !u->rec.control.seq)
		return err_set(e, -ESRCH, "%s has no process", u->name);
	cgroup_kill(c, u, who, signo);
	return 0;
}

static int core_enable(
	struct core *c, const char *name, bool is_runtime, struct strv *changes, struct err *e)
{
	return unit_enable(&c->path, name, is_runtime, changes, e);
}

static int core_disable(struct core *c, const char *name, struct strv *changes, struct err *e)
{
	return unit_disable(&c->path, name, changes, e);
}

static int core_shutdown(struct core *c, int exit_code, const char *actor, struct err *e)
{
	struct event ev = {.kind = EV_SHUTDOWN, .number = (uint64_t)exit_code};
	(void)e;
	log_note(NULL, "shutdown asked for by %s", actor);
	core_step(c, &ev);
	return 0;
}

const struct control_daemon daemon_for_control = {
	.status = core_status,
	.world = core_world,
	.next_request = core_next_request,
	.submit = core_submit,
	.load_unit = core_load_unit,
	.unit_is_outdated = core_unit_is_outdated,
	.find_set = core_find_set,
	.unit_cgroup = core_unit_cgroup,
	.each_unconfined = core_each_unconfined,
	.each_degraded = core_each_degraded,
	.unit_files = core_unit_files,
	.sync_logs = core_sync_logs,
	.unit_errno = core_unit_errno,
	.scale = core_scale,
	.deploy = core_deploy,
	.undo = core_undo,
	.history = core_history,
	.kill = core_kill,
	.enable = core_enable,
	.disable = core_disable,
	.daemon_reload = core_daemon_reload,
	.reexec = core_reexec,
	.shutdown = core_shutdown,
};
