/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Handlers of the verbs that change units and the daemon itself.
 *
 * Owns nothing. Every change is an audit line before it is asked for (waits_note()), and its
 * outcome another; those that need no time have both at once.
 * Called by server.c.
 */
#include <signal.h>

#include "control/audit.h"
#include "control/json.h"
#include "control/verbs.h"
#include "control/waits.h"

static int refuse_full(struct call *c)
{
	return err_set(&c->e, -ENOSPC, "too many requests are under way (%d)", PENDING_MAX);
}

/* One request for a unit or a set. */
static int submit(struct call *c, enum request_verb verb, struct unit *u, struct set *s)
{
	uint64_t id = outcomes_add(c, u ? u->name : s->name, u, s);
	if (!id)
		return refuse_full(c);
	struct request r = {.id = id, .verb = verb, .unit = u, .set = s, .actor = call_actor(c)};
	int e = c->daemon->submit(c->core, &r);
	if (e < 0)
		outcomes_refuse(c, id, errno_name(e));
	return 0;
}

/* The common shape: names -> one request each -> wait. */
static int act(struct call *c, enum request_verb verb, enum request_verb set_verb, int flags)
{
	struct targets t = {0};
	int r = targets_resolve(c, flags, &t);
	if (r == 0 && t.n + t.n_sets == 0 && !(flags & TARGETS_ALL))
		r = err_set(&c->e, -ENOENT, "the set has no members");
	if (r == 0)
		outcomes_begin(c);
	for (size_t i = 0; r == 0 && i < t.n; i++)
		r = submit(c, verb, t.units[i], NULL);
	for (size_t i = 0; r == 0 && i < t.n_sets; i++)
		r = submit(c, set_verb, NULL, t.sets[i]);
	targets_done(&t);
	if (r < 0) {
		waits_client_gone(c->control->waits, c->client);
		return r;
	}
	return outcomes_end(c, call_bool(c, "no_wait"));
}

int verb_START(struct call *c)
{
	return act(c, REQ_START, REQ_START, TARGETS_LOAD);
}

int verb_STOP(struct call *c)
{
	return act(c, REQ_STOP, REQ_STOP, TARGETS_LOAD);
}

int verb_RESTART(struct call *c)
{
	enum request_verb verb = call_bool(c, "try") ? REQ_TRY_RESTART : REQ_RESTART;
	return act(c, verb, REQ_ROLLING_RESTART, TARGETS_LOAD | TARGETS_SETS);
}

int verb_RELOAD(struct call *c)
{
	enum request_verb verb = call_bool(c, "or_restart") ? REQ_RELOAD_OR_RESTART : REQ_RELOAD;
	return act(c, verb, verb, TARGETS_LOAD);
}

int verb_DRAIN(struct call *c)
{
	return act(c, REQ_DRAIN, REQ_DRAIN, TARGETS_LOAD);
}

int verb_UNDRAIN(struct call *c)
{
	return act(c, REQ_UNDRAIN, REQ_UNDRAIN, TARGETS_LOAD);
}

/* Without names: every unit that failed. */
int verb_RESET_FAILED(struct call *c)
{
	struct targets t = {0};
	bool is_all = json_array_size(json_object_get(c->params, "names")) == 0;
	int r = targets_resolve(c, TARGETS_ALL, &t);
	if (r == 0)
		outcomes_begin(c);
	for (size_t i = 0; r == 0 && i < t.n; i++)
		if (!is_all || t.units[i]->rec.state == INST_FAILED)
			r = submit(c, REQ_RESET_FAILED, t.units[i], NULL);
	targets_done(&t);
	if (r < 0) {
		waits_client_gone(c->control->waits, c->client);
		return r;
	}
	return outcomes_end(c, false);
}

static int who_of(struct call *c, enum kill_who *ret)
{
	static const struct {
		const char *name;
		enum kill_who who;
	} words[] = {
		{"main",    KILL_WHO_MAIN   },
		{"control", KILL_WHO_CONTROL},
		{"all",     KILL_WHO_ALL    },
	};
	const char *text = call_str(c, "who");
	for (size_t i = 0; i < ARRAY_SIZE(words); i++)
		if (streq(text ? text : "all", words[i].name)) {
			*ret = words[i].who;
			return 0;
		}
	return err_set(&c->e, -EINVAL, "who: main, control or all");
}

static void killed_json(struct call *c, const char *name, int r, const struct err *e)
{
	j_open(&c->out, NULL, '{');
	j_str(&c->out, "name", name);
	j_str(&c->out, "result", r == 0 ? "done" : r == -ESRCH ? "not-running" : "failed");
	j_str(&c->out, "text", r == 0 ? "" : e->text[0] ? e->text : errno_name(r));
	j_close(&c->out, '}');
}

int verb_KILL(struct call *c)
{
	struct targets t = {0};
	enum kill_who who = KILL_WHO_ALL;
	const char *text = call_str(c, "signal");
	int signo = text ? parse_signal(text) : SIGTERM;
	if (signo <= 0)
		return err_set(&c->e, -EINVAL, "'%.40s' is not a signal", text);
	int r = who_of(c, &who);
	if (r == 0)
		r = targets_resolve(c, 0, &t);
	if (r == 0) {
		j_open(&c->out, NULL, '{');
		j_open(&c->out, "outcomes", '[');
	}
	for (size_t i = 0; r == 0 && i < t.n; i++) {
		struct err e = {0};
		waits_note(c, c->daemon->next_request(c->core), t.units[i]->name);
		int k = c->daemon->kill(c->core, t.units[i], signo, who, &e);
		audit_result(c->control->audit, c->change,
			k == 0        ? REPLY_DONE
			: k == -ESRCH ? REPLY_NOT_RUNNING
				      : REPLY_FAILED,
			e.text);
		killed_json(c, t.units[i]->name, k, &e);
	}
	if (r == 0) {
		j_close(&c->out, ']');
		j_close(&c->out, '}');
	}
	targets_done(&t);
	return r;
}

int verb_WAIT(struct call *c)
{
	static const char *const words[] = {
		[FOR_READY] = "ready", [FOR_STOPPED] = "stopped", [FOR_AVAILABLE] = "available"};
	struct targets t = {0};
	int what = -1;
	for (size_t i = 0; i < ARRAY_SIZE(words); i++)
		if (streq(words[i], call_str(c, "for")))
			what = (int)i;
	if (what < 0)
		return err_set(&c->e, -EINVAL, "for: ready, stopped or available");
	int r = targets_resolve(c, 0, &t);
	if (r == 0 && t.n == 0)
		r = err_set(&c->e, -ENOENT, "the set has no members");
	if (r == 0)
		r = waits_state(c, &t, (enum wait_for)what);
	targets_done(&t);
	return r;
}

/* ---- links ------------------------------------------------------------------------------------------- */

static int each_file(struct call *c, bool is_enable)
{
	const json_t *names = json_object_get(c->params, "names");
	struct strv changes = {0};
	int r = 0;
	if (json_array_size(names) == 0)
		return err_set(&c->e, -EINVAL, "which unit?");
	for (size_t i = 0; r == 0 && i < json_array_size(names); i++) {
		const char *name = json_string_value(json_array_get(names, i));
		char *full = complete_name(name);
		if (!full)
			r = err_set(&c->e, -EINVAL, "'%.255s' is not a unit name", name);
		else if (is_enable)
			r = c->daemon->enable(
				c->core, full, call_bool(c, "runtime"), &changes, &c->e);
		else
			r = c->daemon->disable(c->core, full, &changes, &c->e);
		if (full)
			waits_note(c, c->daemon->next_request(c->core), full);
		free(full);
	}
	if (r == 0) {
		j_open(&c->out, NULL, '{');
		j_open(&c->out, "changes", '[');
		for (size_t i = 0; i < changes.n; i++)
			j_str(&c->out, NULL, changes.v[i]);
		j_close(&c->out, ']');
		j_close(&c->out, '}');
	}
	strv_done(&changes);
	return r;
}

int verb_ENABLE(struct call *c)
{
	return each_file(c, true);
}

int verb_DISABLE(struct call *c)
{
	return each_file(c, false);
}

/* ---- the daemon ---------------------------------------------------------------------------------------- */

int verb_PING(struct call *c)
{
	j_open(&c->out, NULL, '{');
	j_str(&c->out, "version", c->daemon->status(c->core)->version);
	j_close(&c->out, '}');
	return VERB_REPLIED;
}

int verb_DAEMON_RELOAD(struct call *c)
{
	struct buf notes = {0};
	waits_note(c, c->daemon->next_request(c->core), "");
	int r = c->daemon->daemon_reload(c->core, call_actor(c), &notes, &c->e);
	if (r >= 0) {
		j_open(&c->out, NULL, '{');
		j_strn(&c->out, "notes", strna(notes.data), notes.size);
		j_close(&c->out, '}');
	}
	buf_done(&notes);
	return MIN(r, 0);
}

int verb_REEXEC(struct call *c)
{
	const char *path = call_str(c, "path");
	if (path && path[0] != '/')
		return err_set(&c->e, -EINVAL, "the path must be absolute");
	waits_note(c, c->daemon->next_request(c->core), strna(path));
	int r = c->daemon->reexec(c->core, path, call_actor(c), &c->e);
	if (r >= 0) /* what comes of it, the core of then says */
		audit_adds(c->control->audit, c->change);
	return MIN(r, 0);
}

int verb_SHUTDOWN(struct call *c)
{
	int64_t code = call_int(c, "code", 0);
	if (code < 0 || code > 255)
		return err_set(&c->e, -EINVAL, "an exit code is 0 to 255");
	waits_note(c, c->daemon->next_request(c->core), "");
	return MIN(c->daemon->shutdown(c->core, (int)code, call_actor(c), &c->e), 0);
}
