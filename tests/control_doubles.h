/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A small core for the control server: one set of three, one service, requests answered when the
 * test says so. Included by one file of a program. Everything that is real elsewhere is weak here,
 * so that the program links with and without the parts it stands in for.
 */
#pragma once

#include "control/control.h"
#include "control/names.h"
#include "logd/logd.h"

#define WEAK __attribute__((weak))

struct core {
	struct world world;
	struct core_status status;
	struct unit_path path;
	struct control *control;
	struct request last; /* of the latest submit */
	uint64_t next_request;
	unsigned n_submitted, n_shutdown;
	bool is_deferred;  /* submit does not answer */
	uint64_t stall_us; /* what its next answer takes, by the clock */
	enum reply_result result;
	const char *result_text;
};

static struct unit *fake_unit(struct core *core, const char *name, const char *instance)
{
	struct unit *u = xcalloc(1, sizeof(*u));
	static struct health no_health[CHECK_KIND_MAX];
	u->fail_text = xstrdup("");
	u->health = no_health;
	u->name = xstrdup(name);
	u->conf = xcalloc(1, sizeof(*u->conf));
	u->conf->text = xstrdup("");
	u->conf->refs = 1;
	u->conf->name = u->name;
	u->conf->instance = instance ? xstrdup(instance) : NULL;
	u->conf->type = UNIT_SERVICE;
	u->conf->load = LOAD_LOADED;
	u->rec.state = INST_RUNNING;
	u->rec.main_pid = 100;
	GROW(core->world.units, core->world.n_units, core->world.cap_units);
	core->world.units[core->world.n_units++] = u;
	map_put(&core->world.unit_by_name, u->name, u);
	return u;
}

static struct core *fake_core(void)
{
	struct core *core = xcalloc(1, sizeof(*core));
	unit_path_default(&core->path, "/nonexistent");
	core->status = (struct core_status){.version = "0",
		.state = "running",
		.core_pid = 42,
		.log_dir = "/nonexistent",
		.unit_path = &core->path};
	struct set *s = xcalloc(1, sizeof(*s));
	s->name = xstrdup("web");
	s->template = xstrdup("web@.service");
	s->is_template = true;
	s->count = 3;
	for (unsigned i = 0; i < 3; i++) {
		char name[32], instance[8];
		snprintf(name, sizeof(name), "web@%u.service", i + 1);
		snprintf(instance, sizeof(instance), "%u", i + 1);
		s->members[i] = fake_unit(core, name, instance);
		s->members[i]->set = s;
		s->members[i]->rec.index = (uint16_t)(i + 1);
	}
	GROW(core->world.sets, core->world.n_sets, core->world.cap_sets);
	core->world.sets[core->world.n_sets++] = s;
	map_put(&core->world.set_by_name, s->name, s);
	fake_unit(core, "db.service", NULL);
	return core;
}

UNUSED static void fake_core_free(struct core *core)
{
	unit_path_done(&core->path);
	for (size_t i = 0; i < core->world.n_units; i++) {
		struct unit *u = core->world.units[i];
		free(u->conf->instance);
		free(u->conf->text);
		free((void *)(uintptr_t)u->fail_text);
		free(u->conf);
		free(u->name);
		free(u);
	}
	for (size_t i = 0; i < core->world.n_sets; i++) {
		free(core->world.sets[i]->name);
		free(core->world.sets[i]->template);
		free(core->world.sets[i]);
	}
	free(core->world.units);
	free(core->world.sets);
	map_done(&core->world.unit_by_name);
	map_done(&core->world.set_by_name);
	free(core);
}

/* ---- core ---- */

static const struct core_status *core_status(struct core *core)
{
	if (core->stall_us)
		(void)usleep((useconds_t)core->stall_us);
	core->stall_us = 0;
	return &core->status;
}
static struct world *core_world(struct core *core)
{
	return &core->world;
}
static uint64_t core_next_request(struct core *core)
{
	return ++core->next_request;
}
static int fake_answer(struct core *core, uint64_t request)
{
	core->n_submitted++;
	if (!core->is_deferred)
		control_reply_done(core->control, request, core->result, core->result_text);
	return 0;
}
static int core_submit(struct core *core, const struct request *r)
{
	core->last = *r;
	return fake_answer(core, r->id);
}
static struct unit *core_load_unit(struct core *core UNUSED, const char *name, struct err *e)
{
	err_set(e, -ENOENT, "no unit %s", name);
	return NULL;
}
static bool core_unit_is_unread(const struct unit *u UNUSED)
{
	return false;
}
/* As the real one, it finds the set of an instance, too. */
static struct set *core_find_set(struct core *core, const char *name, struct err *unread UNUSED)
{
	char key[UNIT_NAME_MAX + 1];
	str_copy(key, name, sizeof(key));
	key[strcspn(key, "@#.")] = '\0';
	return find_set(&core->world, key);
}
static void core_each_unconfined(struct core *core UNUSED,
	void (*each)(void *arg, const char *process, const char *why) UNUSED, void *arg UNUSED)
{
}

static void core_each_degraded(struct core *core UNUSED, const struct unit *u,
	void (*each)(void *arg, const struct degraded *d), void *arg)
{
	for (size_t i = 0; u->conf && i < u->conf->n_degraded; i++)
		each(arg, &u->conf->degraded[i]);
}
static const char *core_unit_cgroup(struct core *core UNUSED, const struct unit *u UNUSED)
{
	return NULL;
}
static int core_unit_files(struct core *core UNUSED, struct strv *ret_names UNUSED)
{
	return 0;
}
static bool core_sync_logs(struct core *core UNUSED)
{
	return false;
}
static int core_unit_errno(struct core *core UNUSED, const struct unit *u UNUSED)
{
	return 0;
}
static int core_scale(struct core *core, struct set *s, unsigned count, uint64_t request,
	const char *actor UNUSED, struct err *e UNUSED)
{
	s->count = count;
	return fake_answer(core, request);
}
static int core_deploy(struct core *core, struct set *s, const char *release,
	unsigned pause_after UNUSED, uint64_t request, const char *actor UNUSED, struct err *e)
{
	if (release && streq(release, "locked"))
		return err_set(e, -EBUSY, "another rollout is under way");
	s->rollout.state = ROLL_ROLLING;
	s->rollout.id = 118;
	return fake_answer(core, request);
}
static int core_undo(struct core *core, struct set *s UNUSED, uint32_t revision UNUSED,
	uint64_t request, const char *actor UNUSED, struct err *e UNUSED)
{
	return fake_answer(core, request);
}
static int core_history(struct core *core UNUSED, struct set *s,
	void (*each)(void *arg, const struct rollout_rec *rec), void *arg)
{
	each(arg, &s->rollout);
	return 0;
}
static int core_kill(struct core *core UNUSED, struct unit *u UNUSED, int signal UNUSED,
	enum kill_who who UNUSED, struct err *e)
{
	return err_set(e, -ESRCH, "no process");
}
static int core_enable(struct core *core UNUSED, const char *name, bool is_runtime UNUSED,
	struct strv *changes, struct err *e UNUSED)
{
	strv_add(changes, name);
	return 0;
}
static int core_disable(
	struct core *core UNUSED, const char *name, struct strv *changes, struct err *e UNUSED)
{
	strv_add(changes, name);
	return 0;
}
static int core_daemon_reload(
	struct core *core UNUSED, const char *actor UNUSED, struct buf *notes, struct err *e UNUSED)
{
	buf_add_str(notes, "reloaded");
	return 0;
}
static int core_reexec(
	struct core *core UNUSED, const char *path UNUSED, const char *actor UNUSED, struct err *e)
{
	return err_set(e, -EOPNOTSUPP, "not here");
}
static int core_shutdown(
	struct core *core, int exit_code UNUSED, const char *actor UNUSED, struct err *e UNUSED)
{
	core->n_shutdown++;
	return 0;
}

static const struct control_daemon fake_daemon = {
	.status = core_status,
	.world = core_world,
	.next_request = core_next_request,
	.submit = core_submit,
	.load_unit = core_load_unit,
	.unit_is_outdated = core_unit_is_unread,
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

/* ---- model ---- */

const char *WEAK inst_state_name(enum inst_state s)
{
	return s == INST_RUNNING ? "running" : s == INST_FAILED ? "failed" : "dead";
}
enum active_state WEAK inst_active_state(enum inst_state s)
{
	return s == INST_RUNNING  ? ACTIVE_ACTIVE
	       : s == INST_FAILED ? ACTIVE_FAILED
				  : ACTIVE_INACTIVE;
}
const char *WEAK active_state_name(enum active_state s)
{
	return s == ACTIVE_ACTIVE ? "active" : s == ACTIVE_FAILED ? "failed" : "inactive";
}
const char *WEAK inst_result_name(enum inst_result r UNUSED)
{
	return "success";
}
const char *WEAK lb_phase_name(enum lb_phase p UNUSED)
{
	return "none";
}
const char *WEAK rollout_state_name(enum rollout_state s)
{
	return s == ROLL_NONE ? "none" : s == ROLL_DONE ? "done" : "rolling";
}
const char *WEAK rollout_step_name(enum rollout_step s UNUSED)
{
	return "pending";
}
const char *WEAK event_name(enum event_id id)
{
	return id == EVENT_REQUEST ? "request" : "ready";
}
int WEAK event_level(enum event_id id UNUSED)
{
	return 6;
}
struct unit *WEAK world_unit(const struct world *w, const char *name)
{
	return map_get(&w->unit_by_name, name);
}
struct set *WEAK world_set(const struct world *w, const char *name)
{
	return map_get(&w->set_by_name, name);
}
bool WEAK unit_is_up(const struct unit *u)
{
	return u->rec.state == INST_RUNNING;
}
bool WEAK unit_is_available(const struct unit *u)
{
	return u->rec.state == INST_RUNNING;
}
bool WEAK unit_is_down(const struct unit *u)
{
	return u->rec.state == INST_DEAD || u->rec.state == INST_FAILED;
}
void WEAK unit_waiting_text(
	const struct world *w UNUSED, const struct unit *u UNUSED, struct buf *out UNUSED)
{
}
bool WEAK rollout_is_active(const struct set *s)
{
	return s->rollout.state != ROLL_NONE && s->rollout.state < ROLL_DONE;
}
unsigned WEAK set_available(const struct set *s)
{
	return s->count;
}
void WEAK set_plan(const struct world *w UNUSED, const struct set *s UNUSED, struct buf *out)
{
	buf_add_str(out, "would do nothing\n");
}

/* ---- unit ---- */

bool WEAK unit_name_is_valid(const char *name)
{
	return name[0] && !strpbrk(name, " /\n") && strrchr(name, '.');
}
char *WEAK unit_name_complete(const char *s)
{
	return strchr(s, '.') ? xstrdup(s) : xasprintf("%s.service", s);
}
struct unit_conf *WEAK unit_load(
	const struct unit_path *p UNUSED, const char *name, const char *snapshot UNUSED)
{
	struct unit_conf *c = xcalloc(1, sizeof(*c));
	c->name = xstrdup(name);
	c->load = LOAD_NOT_FOUND;
	return c;
}
struct unit_conf *WEAK unit_conf_unref(struct unit_conf *c)
{
	if (!c)
		return NULL;
	free(c->name);
	free(c->text);
	free(c);
	return NULL;
}
const char *WEAK unit_load_name(enum unit_load l)
{
	return l == LOAD_LOADED ? "loaded" : "not-found";
}
const char *WEAK dep_kind_name(enum dep_kind k UNUSED)
{
	return "After";
}
const char *WEAK service_type_name(enum service_type t UNUSED)
{
	return "simple";
}
const char *WEAK restart_mode_name(enum restart_mode m UNUSED)
{
	return "no";
}
const char *WEAK exec_kind_name(enum exec_kind k UNUSED)
{
	return "ExecStart";
}
const char *WEAK directive_class_name(enum directive_class c UNUSED)
{
	return "partial";
}
int WEAK parse_signal(const char *s)
{
	return streq(s, "HUP") ? 1 : -EINVAL;
}
const char *WEAK signal_name(int signo UNUSED)
{
	return "SIGTERM";
}
const char *WEAK unit_file_state(const struct unit_path *p UNUSED, const char *name UNUSED)
{
	return "enabled";
}

/* ---- logd ---- */

int WEAK log_read_last(const char *log_dir UNUSED, const char *unit, unsigned n_lines UNUSED,
	uint64_t since_us UNUSED, size_t max UNUSED, struct buf *out, struct log_cursor *ret_cursor)
{
	*ret_cursor = (struct log_cursor){0};
	buf_printf(out, "line one of %s\n\x1b[31mline \xff two\n", unit);
	return 0;
}
int WEAK log_read_more(const char *log_dir UNUSED, const char *unit UNUSED, size_t max UNUSED,
	struct buf *out UNUSED, struct log_cursor *cursor UNUSED)
{
	return 0;
}
char *WEAK log_path(const char *log_dir UNUSED, const char *unit UNUSED)
{
	return xstrdup("/tmp/none");
}
