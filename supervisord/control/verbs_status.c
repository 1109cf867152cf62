/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Handlers that show: status, show, cat, names, is-enabled.
 *
 * Owns nothing and changes nothing: a unit that is not in the world is read from its files and
 * forgotten. The words are systemd's in snake case; fields are only added within a schema number.
 * Called by server.c.
 */
#include "control/audit.h"
#include "control/json.h"
#include "control/names.h"
#include "control/show.h"
#include "control/verbs.h"

#define HINTS_MAX 4 /* of one answer: each compares a name with all there are */

/* ---- one unit ------------------------------------------------------------------------------------------ */

static void health_json(struct buf *b, const struct unit *u)
{
	static const char *const names[CHECK_KIND_MAX] = {"startup", "ready", "live"};
	static const char *const states[] = {"unknown", "passing", "failing"};
	j_open(b, "checks", '[');
	for (int k = 0; u->conf && k < CHECK_KIND_MAX; k++) {
		if (!u->conf->health[k].target)
			continue;
		j_open(b, NULL, '{');
		j_str(b, "check", names[k]);
		j_str(b, "target", u->conf->health[k].target);
		j_str(b, "state", states[MIN(u->rec.check_ok[k], 2)]);
		j_str(b, "answer", u->health[k].text);
		j_int(b, "latency_us", (int64_t)u->health[k].latency_us);
		j_close(b, '}');
	}
	j_close(b, ']');
}

static int64_t sessions(const struct unit *u)
{
	int64_t n = 0;
	for (unsigned i = 0; u->lb && u->set && i < u->set->n_lbs; i++)
		n += (int64_t)u->lb->sample[i].sessions;
	return n;
}

static void degraded_row(void *b, const struct degraded *d)
{
	j_open(b, NULL, '{');
	j_str(b, "directive", d->directive);
	j_str(b, "reason", strna(d->reason));
	j_str(b, "class", directive_class_name(d->class));
	j_close(b, '}');
}

static void files_json(struct buf *b, const struct unit_conf *conf)
{
	j_str(b, "fragment_path", conf ? conf->fragment_path : NULL);
	j_open(b, "drop_in_paths", '[');
	for (size_t i = 0; conf && i < conf->drop_ins.n; i++)
		j_str(b, NULL, conf->drop_ins.v[i]);
	j_close(b, ']');
}

static void identity_json(struct buf *b, const struct control *c, const struct unit *u)
{
	char hex[ID128_HEX];
	struct id128 id;
	memcpy(id.b, u->rec.main.invocation, sizeof(id.b));
	j_int(b, "exec_main_code", u->rec.main_code);
	j_int(b, "exec_main_status", u->rec.main_status);
	j_str(b, "invocation_id", id128_is_null(&id) ? "" : id128_hex(hex, &id));
	j_str(b, "control_group", unit_is_down(u) ? "" : strna(c->daemon->unit_cgroup(c->core, u)));
}

static const char *release_of(const struct unit *u)
{
	return u->rec.release[0] || !u->set ? u->rec.release : u->set->release;
}

static void first_error(const struct unit_conf *conf, struct buf *out)
{
	for (size_t i = 0; i < conf->n_diagnostics; i++) {
		const struct diagnostic *d = &conf->diagnostics[i];
		if (!d->is_error)
			continue;
		if (d->line)
			buf_printf(out, "line %u: ", d->line);
		buf_add_str(out, strna(d->text));
		return;
	}
}

static void detail_json(struct buf *b, const struct control *c, const struct unit *u, bool is_brief)
{
	struct buf text = {0};
	unit_waiting_text(c->daemon->world(c->core), u, &text);
	if (!text.size && u->rec.state == INST_FAILED)
		buf_add_str(&text, u->fail_text);
	if (!text.size && u->conf && u->conf->load == LOAD_BAD)
		first_error(u->conf, &text);
	if (text.size || !is_brief)
		j_strn(b, "detail", strna(text.data), text.size);
	buf_done(&text);
}

/* For lists: what is empty or zero is left out. A thousand units are then 100 KB instead of 500,
 * and the parsing on the other side is most of what a list costs. */
static void unit_brief_json(struct buf *b, const struct control *c, const struct unit *u)
{
	j_open(b, NULL, '{');
	j_str(b, "name", u->name);
	j_str(b, "load_state", u->conf ? unit_load_name(u->conf->load) : "not-found");
	j_str(b, "active_state", active_state_name(unit_active_state(u)));
	j_str(b, "sub_state", inst_state_name(u->rec.state));
	if (u->rec.n_restarts)
		j_int(b, "n_restarts", u->rec.n_restarts);
	if (u->rec.state_since_wall_us)
		j_time(b, "since", u->rec.state_since_wall_us);
	if (u->set)
		j_str(b, "set", u->set->name);
	if (release_of(u)[0])
		j_str(b, "release", release_of(u));
	if (unit_is_available(u))
		j_bool(b, "available", true);
	detail_json(b, c, u, true);
	j_close(b, '}');
}

static void unit_json(struct buf *b, const struct control *c, const struct unit *u)
{
	j_open(b, NULL, '{');
	j_str(b, "name", u->name);
	j_str(b, "load_state", u->conf ? unit_load_name(u->conf->load) : "not-found");
	j_str(b, "active_state", active_state_name(unit_active_state(u)));
	j_str(b, "sub_state", inst_state_name(u->rec.state));
	j_str(b, "result", inst_result_name(u->rec.result));
	j_int(b, "main_pid", u->rec.main_pid);
	j_int(b, "n_restarts", u->rec.n_restarts);
	j_time(b, "since", u->rec.state_since_wall_us);
	j_str(b, "set", u->set ? u->set->name : "");
	j_str(b, "instance", strna(u->conf ? u->conf->instance : NULL));
	j_str(b, "release", release_of(u));
	j_int(b, "revision", u->rec.revision);
	j_str(b, "health", unit_health(u));
	j_str(b, "lb_state", lb_phase_name(u->rec.lb_phase));
	j_bool(b, "available", unit_is_available(u));
	detail_json(b, c, u, false);
	j_str(b, "description", strna(u->conf ? u->conf->description : NULL));
	identity_json(b, c, u);
	j_str(b, "status_text", strna(u->status_text));
	j_str(b, "status_errno",
		c->daemon->unit_errno(c->core, u) ? errno_name(c->daemon->unit_errno(c->core, u))
						  : "");
	j_int(b, "port", u->rec.port);
	j_int(b, "sessions", sessions(u));
	health_json(b, u);
	files_json(b, u->conf);
	j_open(b, "degraded", '[');
	c->daemon->each_degraded(c->core, u, degraded_row, b);
	j_close(b, ']');
	j_close(b, '}');
}

/* A unit that has files but was never asked for: as systemd shows it. */
static void conf_json(struct buf *b, const struct unit_conf *conf, const char *detail)
{
	j_open(b, NULL, '{');
	j_str(b, "name", conf->name);
	j_str(b, "load_state", unit_load_name(conf->load));
	j_str(b, "active_state", "inactive");
	j_str(b, "sub_state", "dead");
	j_str(b, "result", "success");
	j_int(b, "main_pid", 0);
	j_int(b, "n_restarts", 0);
	j_time(b, "since", 0);
	j_str(b, "set", "");
	j_str(b, "instance", strna(conf->instance));
	j_str(b, "release", "");
	j_int(b, "revision", 0);
	j_str(b, "health", "none");
	j_str(b, "lb_state", "none");
	j_bool(b, "available", false);
	j_str(b, "detail", detail);
	j_str(b, "description", strna(conf->description));
	j_int(b, "exec_main_code", 0);
	j_int(b, "exec_main_status", 0);
	j_str(b, "invocation_id", "");
	j_str(b, "control_group", "");
	j_str(b, "status_text", "");
	j_str(b, "status_errno", "");
	j_int(b, "port", 0);
	j_int(b, "sessions", 0);
	j_open(b, "checks", '[');
	j_close(b, ']');
	files_json(b, conf);
	j_open(b, "degraded", '[');
	for (size_t i = 0; i < conf->n_degraded; i++)
		degraded_row(b, &conf->degraded[i]);
	j_close(b, ']');
	j_close(b, '}');
}

/* ---- status ------------------------------------------------------------------------------------------------ */

static void unconfined_row(void *arg, const char *process, const char *why)
{
	j_open(arg, NULL, '{');
	j_str(arg, "process", process);
	j_str(arg, "reason", why);
	j_close(arg, '}');
}

static void daemon_json(struct buf *b, const struct control *c)
{
	const struct core_status *s = c->daemon->status(c->core);
	j_open(b, "daemon", '{');
	j_str(b, "version", s->version);
	j_str(b, "state", s->state);
	j_int(b, "keeper_pid", s->keeper_pid);
	j_int(b, "core_pid", s->core_pid);
	j_int(b, "launcher_pid", s->launcher_pid);
	j_int(b, "net_pid", s->net_pid);
	j_int(b, "logger_pid", s->logger_pid);
	j_int(b, "restarts_of_core", s->restarts_of_core);
	j_int(b, "reexecs", s->reexecs);
	j_str(b, "reexec_state", strna(s->reexec_state));
	j_str(b, "reexec_text", strna(s->reexec_text));
	j_time(b, "since", s->started_wall_us);
	j_open(b, "troubles", '[');
	for (size_t i = 0; i < s->n_troubles; i++)
		j_str(b, NULL, s->troubles[i]);
	j_close(b, ']');
	j_open(b, "degraded", '[');
	c->daemon->each_unconfined(c->core, unconfined_row, b);
	j_close(b, ']');
	audit_json(b, "audit", c->audit);
	j_close(b, '}');
}

static void set_json(struct buf *b, const struct set *s)
{
	j_open(b, NULL, '{');
	j_str(b, "name", s->name);
	j_str(b, "template", s->template);
	j_int(b, "count", s->count);
	j_int(b, "available", set_available(s));
	j_str(b, "release", s->release);
	j_int(b, "revision", s->revision);
	rollout_json(b, "rollout", s);
	j_close(b, '}');
}

/* What a read verb was asked about: a unit of the world, or one read from its files. */
struct shown {
	struct targets in_world;
	struct unit_conf **confs;
	size_t n_confs, cap_confs;
	struct set **sets;
	size_t n_sets, cap_sets;
};

static void shown_done(struct shown *s)
{
	for (size_t i = 0; i < s->n_confs; i++)
		unit_conf_unref(s->confs[i]);
	free(s->confs);
	free(s->sets);
	targets_done(&s->in_world);
}

static void add_set(struct shown *s, struct set *set)
{
	for (size_t i = 0; i < s->n_sets; i++)
		if (s->sets[i] == set)
			return;
	GROW(s->sets, s->n_sets, s->cap_sets);
	s->sets[s->n_sets++] = set;
	for (unsigned i = 0; i < SET_MEMBERS_MAX; i++)
		if (set->members[i] && (i < set->count || !unit_is_down(set->members[i])))
			targets_add(&s->in_world, set->members[i]);
}

static int shown_add(struct call *c, const char *name, struct shown *s)
{
	struct world *w = c->daemon->world(c->core);
	struct set *set = strlen(name) <= UNIT_NAME_MAX ? find_set(w, name) : NULL;
	if (set) {
		add_set(s, set);
		return 0;
	}
	char *full = strpbrk(name, "*?[") ? NULL : complete_name(name);
	if (full && !world_unit(w, full)) {
		int r = call_looks_up(c);
		if (r < 0) {
			free(full);
			return r;
		}
		GROW(s->confs, s->n_confs, s->cap_confs);
		s->confs[s->n_confs++] =
			unit_load(c->daemon->status(c->core)->unit_path, full, NULL);
		free(full);
		return 0;
	}
	free(full);
	/* One name through the common path, for globs and errors. */
	json_t *params = json_pack("{s:[s]}", "names", name);
	struct call one = *c;
	one.params = params;
	int r = params ? targets_resolve(&one, 0, &s->in_world) : -EINVAL;
	c->e = one.e;
	c->n_looked_up = one.n_looked_up;
	memcpy(c->hint, one.hint, sizeof(c->hint));
	json_decref(params);
	return r;
}

static int shown_resolve(struct call *c, struct shown *s)
{
	const json_t *names = json_object_get(c->params, "names");
	const char *name = call_str(c, "name");
	struct world *w = c->daemon->world(c->core);
	int r = 0;
	if (name)
		return shown_add(c, name, s);
	for (size_t i = 0; r == 0 && i < json_array_size(names); i++)
		r = shown_add(c, json_string_value(json_array_get(names, i)), s);
	if (json_array_size(names) == 0) {
		r = targets_resolve(c, TARGETS_ALL, &s->in_world);
		for (size_t i = 0; i < w->n_sets; i++) {
			GROW(s->sets, s->n_sets, s->cap_sets);
			s->sets[s->n_sets++] = w->sets[i];
		}
	}
	return r;
}

static void status_json(struct call *c, const struct shown *s)
{
	struct buf *b = &c->out;
	bool is_brief = call_bool(c, "brief");
	buf_reserve(b, 512 + s->in_world.n * (is_brief ? 160 : 768));
	j_open(b, NULL, '{');
	j_str(b, "schema", "stay.status/1");
	daemon_json(b, c->control);
	j_open(b, "units", '[');
	for (size_t i = 0; i < s->in_world.n; i++)
		if (is_brief)
			unit_brief_json(b, c->control, s->in_world.units[i]);
		else
			unit_json(b, c->control, s->in_world.units[i]);
	for (size_t i = 0, n_hints = 0; i < s->n_confs; i++) {
		c->hint[0] = '\0';
		if (s->confs[i]->load == LOAD_NOT_FOUND && n_hints++ < HINTS_MAX)
			fail_no_unit(c, s->confs[i]->name); /* for its did-you-mean only */
		conf_json(b, s->confs[i], c->hint);
	}
	j_close(b, ']');
	j_open(b, "sets", '[');
	for (size_t i = 0; i < s->n_sets; i++)
		set_json(b, s->sets[i]);
	j_close(b, ']');
	j_close(b, '}');
}

int verb_STATUS(struct call *c)
{
	struct shown s = {0};
	int r = shown_resolve(c, &s);
	if (r == 0)
		status_json(c, &s);
	shown_done(&s);
	return r;
}

/* ---- show, cat ------------------------------------------------------------------------------------------------ */

static void list_json(struct buf *b, const char *key, const struct conf_list *l)
{
	j_open(b, key, '[');
	for (size_t i = 0; i < l->n; i++)
		j_str(b, NULL, l->v[i]);
	j_close(b, ']');
}

static void span_json(struct buf *b, const char *key, uint64_t us)
{
	char t[TIMESPAN_MAX];
	j_str(b, key, format_timespan(t, us));
}

static void exec_json(struct buf *b, const struct unit_conf *conf)
{
	for (int k = 0; k < EXEC_KIND_MAX; k++) {
		const struct exec_list *l = &conf->service.exec[k];
		if (!l->n)
			continue;
		j_open(b, exec_kind_name((enum exec_kind)k), '[');
		for (size_t i = 0; i < l->n; i++) {
			struct buf line = {0};
			buf_add_str(&line, l->v[i].path);
			for (size_t a = 1; a < l->v[i].argc; a++)
				buf_printf(&line, " %s", l->v[i].argv[a]);
			j_strn(b, NULL, line.data, line.size);
			buf_done(&line);
		}
		j_close(b, ']');
	}
}

/* The settings people ask for when a unit does not do what its file seems to say. */
static void settings_json(struct buf *b, const struct unit_conf *conf)
{
	j_open(b, "settings", '{');
	for (int k = 0; k < DEP_MAX; k++)
		if (conf->deps[k].n)
			list_json(b, dep_kind_name((enum dep_kind)k), &conf->deps[k]);
	if (conf->type == UNIT_SERVICE) {
		const struct service_conf *s = &conf->service;
		j_str(b, "Type", service_type_name(s->type));
		j_str(b, "Restart", restart_mode_name(s->restart.mode));
		span_json(b, "RestartSec", s->restart.sec_us);
		span_json(b, "TimeoutStartSec", s->timeout_start_us);
		span_json(b, "TimeoutStopSec", s->timeout_stop_us);
		span_json(b, "WatchdogSec", s->watchdog_us);
		j_int(b, "StartLimitBurst", s->restart.limit_burst);
		span_json(b, "StartLimitIntervalSec", s->restart.limit_interval_us);
		j_str(b, "KillSignal", strna(signal_name(s->kill_signal)));
		j_str(b, "User", strna(conf->exec.identity.user));
		j_str(b, "WorkingDirectory", strna(conf->exec.working_directory));
		exec_json(b, conf);
	}
	j_close(b, '}');
}

static void show_one(struct call *c, const struct unit *u, const struct unit_conf *conf)
{
	struct buf *b = &c->out;
	if (u)
		unit_json(b, c->control, u);
	else
		conf_json(b, conf, "");
	if (!conf)
		return;
	b->data[--b->size] = '\0'; /* reopen the object just closed */
	settings_json(b, conf);
	j_close(b, '}');
}

static void cat_one(struct call *c, const struct unit *u UNUSED, const struct unit_conf *conf)
{
	if (!conf)
		return;
	j_open(&c->out, NULL, '{');
	j_str(&c->out, "name", conf->name);
	files_json(&c->out, conf);
	struct unit_conf *now =
		conf->text ? NULL
			   : unit_load(c->daemon->status(c->core)->unit_path, conf->name, NULL);
	j_str(&c->out, "text", strna(now ? now->text : conf->text));
	unit_conf_unref(now);
	j_close(&c->out, '}');
}

static int each_shown(struct call *c, const char *schema,
	void (*one)(struct call *, const struct unit *, const struct unit_conf *))
{
	struct shown s = {0};
	int r = shown_resolve(c, &s);
	if (r == 0 && s.n_confs && s.confs[0]->load == LOAD_NOT_FOUND)
		r = fail_no_unit(c, s.confs[0]->name);
	if (r == 0) {
		j_open(&c->out, NULL, '{');
		j_str(&c->out, "schema", schema);
		j_open(&c->out, "units", '[');
		for (size_t i = 0; i < s.in_world.n; i++)
			one(c, s.in_world.units[i], s.in_world.units[i]->conf);
		for (size_t i = 0; i < s.n_confs; i++)
			one(c, NULL, s.confs[i]);
		j_close(&c->out, ']');
		j_close(&c->out, '}');
	}
	shown_done(&s);
	return r;
}

int verb_SHOW(struct call *c)
{
	return each_shown(c, "stay.show/1", show_one);
}

int verb_CAT(struct call *c)
{
	return each_shown(c, "stay.cat/1", cat_one);
}

int verb_NAMES(struct call *c)
{
	struct world *w = c->daemon->world(c->core);
	const char *prefix = strna(call_str(c, "prefix"));
	j_open(&c->out, NULL, '{');
	j_open(&c->out, "names", '[');
	for (size_t i = 0; i < w->n_sets; i++)
		if (startswith(w->sets[i]->name, prefix))
			j_str(&c->out, NULL, w->sets[i]->name);
	for (size_t i = 0; i < w->n_units; i++)
		if (startswith(w->units[i]->name, prefix))
			j_str(&c->out, NULL, w->units[i]->name);
	j_close(&c->out, ']');
	j_close(&c->out, '}');
	return VERB_REPLIED;
}

int verb_IS_ENABLED(struct call *c)
{
	const json_t *names = json_object_get(c->params, "names");
	const struct unit_path *path = c->daemon->status(c->core)->unit_path;
	int r = 0;
	j_open(&c->out, NULL, '{');
	j_str(&c->out, "schema", "stay.is-enabled/1");
	j_open(&c->out, "units", '[');
	for (size_t i = 0; r == 0 && i < json_array_size(names); i++) {
		const char *name = json_string_value(json_array_get(names, i));
		char *full = complete_name(name);
		j_open(&c->out, NULL, '{');
		j_str(&c->out, "name", full ? full : name);
		j_str(&c->out, "state", full ? unit_file_state(path, full) : "not-found");
		j_close(&c->out, '}');
		free(full);
		r = call_looks_up(c);
	}
	j_close(&c->out, ']');
	j_close(&c->out, '}');
	return r < 0 ? r : VERB_REPLIED;
}
