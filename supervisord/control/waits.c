/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who waits for what: outcomes of requests, states of units, rollouts, events.
 *
 * Owns the table of requests under way and the ring of events. Invariants:
 *  1. A request is in the table before it is submitted, so an outcome that comes at once is not lost.
 *  2. A request outlives the client that made it; its outcome is then only written to the log.
 *  3. Nobody polls: every change of the world that matters here comes with an event or an outcome.
 *  4. Nothing here closes a client or starts a call (client.c, invariant 4).
 * Called by the handlers, and by server.c with what core tells.
 */
#include "control/audit.h"
#include "control/json.h"
#include "control/logs.h"
#include "control/show.h"
#include "control/waits.h"
#include "stayd/stayd.h"

#define OUTCOME_LOG_LINES 10

struct pending {
	uint64_t request;
	struct client *client; /* NULL: nobody waits any more */
	size_t slot;           /* of its outcomes */
	enum method_id method;
	uint64_t change; /* of the audit log */
	uint64_t began_us;
	char name[UNIT_NAME_MAX + 1];
};

struct waits {
	struct control *control;
	struct pending *pending;
	size_t n_pending, cap_pending;
	struct event_entry ring[RING_MAX];
	size_t ring_head, n_ring;
};

struct waits *waits_new(struct control *c)
{
	struct waits *w = xcalloc(1, sizeof(*w));
	w->control = c;
	return w;
}

static void entry_done(struct event_entry *e)
{
	free(e->unit);
	free(e->set);
	free(e->text);
	*e = (struct event_entry){0};
}

struct waits *waits_free(struct waits *w)
{
	if (!w)
		return NULL;
	for (size_t i = 0; i < RING_MAX; i++)
		entry_done(&w->ring[i]);
	free(w->pending);
	free(w);
	return NULL;
}

static void waiting_done(struct waiting *wt)
{
	for (size_t i = 0; i < wt->n; i++) {
		free(wt->v[i].name);
		free(wt->v[i].text);
	}
	free(wt->v);
	strv_done(&wt->names);
	logs_follow_free(wt->logs);
	*wt = (struct waiting){0};
}

void waits_client_gone(struct waits *w, struct client *cl)
{
	for (size_t i = 0; i < w->n_pending; i++)
		if (w->pending[i].client == cl)
			w->pending[i].client = NULL;
	waiting_done(client_waiting(cl));
}

/* ---- events ----------------------------------------------------------------------------------------- */

size_t waits_ring_count(const struct waits *w)
{
	return w->n_ring;
}

const struct event_entry *waits_ring_at(const struct waits *w, size_t i)
{
	return &w->ring[(w->ring_head + RING_MAX - w->n_ring + i) % RING_MAX];
}

static bool event_wanted(const struct waiting *wt, const struct event_entry *e)
{
	return wt->names.n == 0 || (e->unit && strv_has(&wt->names, e->unit)) ||
	       (e->set && strv_has(&wt->names, e->set));
}

static void event_fan_out(struct waits *w, const struct event_entry *e)
{
	struct buf b = {0};
	for (struct client *cl = client_first(w->control->clients); cl; cl = client_next(cl)) {
		struct waiting *wt = client_waiting(cl);
		if (wt->kind != WAIT_EVENTS || !event_wanted(wt, e))
			continue;
		if (client_behind(cl) > CLIENT_BEHIND_MAX) {
			wt->kind = WAIT_NONE;
			client_drop(cl, "does not read its events");
			continue;
		}
		if (!b.size) {
			j_open(&b, NULL, '{');
			j_open(&b, "events", '[');
			event_json(&b, e);
			j_close(&b, ']');
			j_close(&b, '}');
		}
		client_send(cl, &b, true);
	}
	buf_done(&b);
}

static void event_add(struct waits *w, uint64_t wall_us, enum event_id id, const char *unit,
	const char *set, const char *text)
{
	struct event_entry *e = &w->ring[w->ring_head];
	entry_done(e);
	*e = (struct event_entry){
		.wall_us = wall_us,
		.id = id,
		.unit = unit ? xstrdup(unit) : NULL,
		.set = set ? xstrdup(set) : NULL,
		.text = text ? xstrdup(text) : NULL,
	};
	w->ring_head = (w->ring_head + 1) % RING_MAX;
	w->n_ring = MIN(w->n_ring + 1, (size_t)RING_MAX);
	event_fan_out(w, e);
}

/* ---- outcomes --------------------------------------------------------------------------------------- */

/* Which member a rollout failed on, and the time its log is of interest: from its start on the
 * new release to its start on the old one. Found in the kept events, as the member itself is another
 * process by the time somebody is told. */
struct failed_member {
	const struct unit *unit;
	uint64_t since_us, until_us; /* wall clock; 0 = no bound */
};

static bool is_start_of(const struct event_entry *e, const struct unit *u)
{
	return e->id == EVENT_ROLLOUT_STEP && e->unit && streq(e->unit, u->name) &&
	       streq(strna(e->text), rollout_step_name(STEP_START));
}

static struct failed_member failed_member(const struct waits *w, const struct outcome *o)
{
	struct failed_member m = {.unit = o->unit};
	bool is_before = false;
	if (m.unit || !o->set || !o->set->failure.index)
		return m;
	m.unit = o->set->members[o->set->failure.index - 1];
	for (size_t i = w->n_ring; m.unit && i-- > 0;) {
		const struct event_entry *e = waits_ring_at(w, i);
		if (e->id == EVENT_ROLLOUT_FAILING && e->set && streq(e->set, o->set->name))
			is_before = true;
		if (!is_start_of(e, m.unit))
			continue;
		if (is_before) {
			m.since_us = e->wall_us;
			break;
		}
		m.until_us = e->wall_us;
	}
	return m;
}

static void probe_json(struct buf *b, const struct unit *u, unsigned check, const char *answer)
{
	if (check >= CHECK_KIND_MAX || !u->conf || !u->conf->health[check].target || !answer[0])
		return;
	j_str(b, "probe", u->conf->health[check].target);
	j_str(b, "answer", answer);
}

/* The latest kind of check that does not pass; CHECK_KIND_MAX: all that were asked do. */
static unsigned failing_check(const struct unit *u)
{
	for (unsigned k = CHECK_KIND_MAX; k-- > 0;)
		if (u->rec.check_ok[k] != 1 && u->health[k].text[0])
			return k;
	return CHECK_KIND_MAX;
}

/* What a person needs to see why it failed: the probe's answer, the last lines, what to type. */
static void failure_json(struct buf *b, const struct waits *w, const struct outcome *o)
{
	const struct control_daemon *daemon = w->control->daemon;
	struct failed_member m = failed_member(w, o);
	const struct unit *u = m.unit;
	char hint[UNIT_NAME_MAX + 64];
	if (!u)
		return;
	j_str(b, "unit", u->name);
	if (!o->unit) {
		probe_json(b, u, o->set->failure.check, o->set->failure.answer);
	} else {
		unsigned k = failing_check(u);
		if (u->fail_text[0])
			j_str(b, "cause", u->fail_text);
		if (k < CHECK_KIND_MAX)
			probe_json(b, u, k, u->health[k].text);
	}
	logs_tail_json(b, "log", daemon->status(w->control->core)->log_dir, u->name,
		OUTCOME_LOG_LINES, m.since_us, m.until_us);
	if (u->conf && u->conf->load != LOAD_LOADED)
		snprintf(hint, sizeof(hint), "stayctl check %s", u->name);
	else
		snprintf(hint, sizeof(hint), "stayctl logs %s -n 50", u->name);
	j_str(b, "hint", hint);
}

/* A refusal is its own explanation; the unit's log has nothing to do with it. */
static bool tells_more(enum reply_result r)
{
	return r == REPLY_FAILED || r == REPLY_ROLLED_BACK || r == REPLY_HALTED;
}

static void outcome_json(struct buf *b, const struct waits *w, const struct outcome *o)
{
	j_open(b, NULL, '{');
	j_str(b, "name", o->name);
	j_str(b, "result", o->is_done ? result_word(o->result) : "started");
	j_str(b, "text", strna(o->text));
	if (o->unit) {
		j_str(b, "active_state", active_state_name(unit_active_state(o->unit)));
		j_str(b, "sub_state", inst_state_name(o->unit->rec.state));
		j_int(b, "main_pid", o->unit->rec.main_pid);
	}
	if (o->is_done && tells_more(o->result))
		failure_json(b, w, o);
	j_close(b, '}');
}

static void outcomes_json(struct buf *b, const struct waits *w, const struct waiting *wt)
{
	char id[32];
	j_open(b, NULL, '{');
	snprintf(id, sizeof(id), "r-%llu", (unsigned long long)wt->request);
	j_str(b, "request", id);
	if (wt->watch)
		rollout_json(b, "rollout", wt->watch);
	j_open(b, "outcomes", '[');
	for (size_t i = 0; i < wt->n; i++)
		outcome_json(b, w, &wt->v[i]);
	j_close(b, ']');
	j_close(b, '}');
}

void outcomes_begin(struct call *c)
{
	struct waiting *wt = client_waiting(c->client);
	waiting_done(wt);
	wt->kind = WAIT_OUTCOMES;
	wt->is_collecting = true;
	wt->is_streaming = c->more;
}

uint64_t outcomes_add(struct call *c, const char *name, struct unit *u, struct set *s)
{
	struct waits *w = c->control->waits;
	struct waiting *wt = client_waiting(c->client);
	if (w->n_pending >= PENDING_MAX)
		return 0;
	uint64_t request = c->daemon->next_request(c->core);
	GROW(w->pending, w->n_pending, w->cap_pending);
	struct pending *p = &w->pending[w->n_pending++];
	*p = (struct pending){.request = request,
		.client = c->client,
		.slot = wt->n,
		.method = c->method,
		.change = c->change,
		.began_us = now_mono_us()};
	audit_adds(c->control->audit, c->change);
	str_copy(p->name, name, sizeof(p->name));
	GROW(wt->v, wt->n, wt->cap);
	wt->v[wt->n++] =
		(struct outcome){.request = request, .name = xstrdup(name), .unit = u, .set = s};
	if (!wt->request)
		wt->request = request;
	waits_note(c, request, name);
	return request;
}

void waits_note(struct call *c, uint64_t request, const char *what)
{
	struct peer *p = client_peer(c->client);
	char text[UNIT_NAME_MAX + 160];
	snprintf(text, sizeof(text), "%s%s%s by %s, pid %d (r-%llu)", methods[c->method].name,
		what[0] ? " " : "", what, peer_actor(p), (int)p->pid, (unsigned long long)request);
	log_note(NULL, "request %s", text);
	event_add(c->control->waits, now_wall_us(), EVENT_REQUEST, strchr(what, '.') ? what : NULL,
		strchr(what, '.') ? NULL : what, text);
}

static void outcome_settle(struct waits *w, size_t at, enum reply_result result, const char *text)
{
	struct pending p = w->pending[at];
	w->pending[at] = w->pending[--w->n_pending];
	log_note(NULL, "request r-%llu: %s %s: %s%s%s (%.3fs)", (unsigned long long)p.request,
		methods[p.method].name, p.name, result_word(result), text && text[0] ? ": " : "",
		strna(text), (double)(now_mono_us() - p.began_us) / USEC_PER_SEC);
	audit_settled(w->control->audit, p.change, result, text);
	clients_wake(w->control->clients, audit_retry_at(w->control->audit));
	if (!p.client)
		return;
	struct waiting *wt = client_waiting(p.client);
	struct outcome *o = &wt->v[p.slot];
	o->is_done = true;
	o->result = result;
	o->text = text ? xstrdup(text) : NULL;
	wt->n_done++;
}

static bool shows_log(const struct waiting *wt)
{
	for (size_t i = 0; i < wt->n; i++)
		if (tells_more(wt->v[i].result))
			return true;
	return false;
}

static void outcomes_send_if_done(struct waits *w, struct client *cl)
{
	struct waiting *wt = client_waiting(cl);
	if (wt->kind != WAIT_OUTCOMES || wt->is_collecting || wt->n_done < wt->n || wt->awaits_logs)
		return;
	if (shows_log(wt) && !wt->has_synced) {
		/* The last words may still be in a pipe, and they say why. */
		wt->has_synced = true;
		wt->awaits_logs = w->control->daemon->sync_logs(w->control->core);
		if (wt->awaits_logs)
			return;
	}
	struct buf b = {0};
	outcomes_json(&b, w, wt);
	waiting_done(wt);
	client_send(cl, &b, false);
	buf_done(&b);
}

static bool settle(struct waits *w, uint64_t request, enum reply_result result, const char *text,
	struct client **ret_client)
{
	for (size_t i = 0; i < w->n_pending; i++)
		if (w->pending[i].request == request) {
			*ret_client = w->pending[i].client;
			outcome_settle(w, i, result, text);
			return true;
		}
	return false;
}

void outcomes_refuse(struct call *c, uint64_t request, const char *text)
{
	struct client *cl;
	(void)settle(c->control->waits, request, REPLY_REFUSED, text, &cl);
}

int outcomes_end(struct call *c, bool no_wait)
{
	struct waits *w = c->control->waits;
	struct waiting *wt = client_waiting(c->client);
	wt->is_collecting = false;
	outcomes_json(&c->out, c->control->waits, wt);
	if (!no_wait && wt->n_done < wt->n) {
		if (c->more) /* the id, for those who will not wait to the end */
			client_send(c->client, &c->out, true);
		return VERB_WAITS;
	}
	waits_client_gone(w, c->client);
	return VERB_REPLIED;
}

/* ---- states and rollouts ------------------------------------------------------------------------------ */

static bool unit_fits(const struct unit *u, enum wait_for what)
{
	switch (what) {
	case FOR_READY:
		return unit_is_up(u);
	case FOR_STOPPED:
		return unit_is_down(u);
	case FOR_AVAILABLE:
		return unit_is_available(u);
	}
	return false;
}

/* Waiting for "up" ends early when the unit has failed: nothing more would come. */
static void state_look(struct waiting *wt)
{
	for (size_t i = 0; i < wt->n; i++) {
		struct outcome *o = &wt->v[i];
		if (o->is_done)
			continue;
		bool fits = unit_fits(o->unit, (enum wait_for)wt->state_for);
		if (!fits && (wt->state_for == FOR_STOPPED || o->unit->rec.state != INST_FAILED))
			continue;
		o->is_done = true;
		o->result = fits ? REPLY_DONE : REPLY_FAILED;
		o->text = fits ? NULL : xstrdup("the unit has failed");
		wt->n_done++;
	}
}

int waits_state(struct call *c, const struct targets *t, enum wait_for what)
{
	struct waiting *wt = client_waiting(c->client);
	waiting_done(wt);
	wt->kind = WAIT_STATE;
	wt->state_for = what;
	for (size_t i = 0; i < t->n; i++) {
		GROW(wt->v, wt->n, wt->cap);
		wt->v[wt->n++] =
			(struct outcome){.name = xstrdup(t->units[i]->name), .unit = t->units[i]};
	}
	state_look(wt);
	if (wt->n_done < wt->n)
		return VERB_WAITS;
	outcomes_json(&c->out, c->control->waits, wt);
	waiting_done(wt);
	return VERB_REPLIED;
}

static void watch_json(struct buf *b, const struct set *s)
{
	j_open(b, NULL, '{');
	j_str(b, "schema", "stay.rollout/1");
	rollout_json(b, "rollout", s);
	j_close(b, '}');
}

int waits_rollout(struct call *c, struct set *s)
{
	struct waiting *wt = client_waiting(c->client);
	watch_json(&c->out, s);
	if (!c->more || !rollout_is_active(s))
		return VERB_REPLIED;
	waiting_done(wt);
	wt->kind = WAIT_ROLLOUT;
	wt->watch = s;
	client_send(c->client, &c->out, true);
	return VERB_WAITS;
}

/* A rollout's state is sent whole each time, so one who is behind may miss some in between. */
static void watcher_look(struct waits *w, struct client *cl, const struct set *s)
{
	struct waiting *wt = client_waiting(cl);
	struct buf b = {0};
	if (wt->watch != s || !s)
		return;
	if (wt->kind == WAIT_ROLLOUT && !rollout_is_active(s)) {
		watch_json(&b, s);
		waiting_done(wt);
		client_send(cl, &b, false);
	} else if (wt->kind == WAIT_ROLLOUT && client_behind(cl) == 0) {
		watch_json(&b, s);
		client_send(cl, &b, true);
	} else if (wt->kind == WAIT_OUTCOMES && wt->is_streaming && client_behind(cl) == 0) {
		outcomes_json(&b, w, wt);
		client_send(cl, &b, true);
	}
	buf_done(&b);
}

static void watchers_look(struct waits *w, const struct set *s)
{
	for (struct client *cl = client_first(w->control->clients); cl; cl = client_next(cl)) {
		struct waiting *wt = client_waiting(cl);
		watcher_look(w, cl, s);
		if (wt->kind != WAIT_STATE)
			continue;
		state_look(wt);
		if (wt->n_done < wt->n)
			continue;
		struct buf b = {0};
		outcomes_json(&b, w, wt);
		waiting_done(wt);
		client_send(cl, &b, false);
		buf_done(&b);
	}
}

/* ---- from core ------------------------------------------------------------------------------------------ */

void waits_reply_done(struct waits *w, uint64_t request, enum reply_result result, const char *text)
{
	struct client *cl = NULL;
	if (!settle(w, request, result, text, &cl))
		return;
	if (cl)
		outcomes_send_if_done(w, cl);
}

void waits_logs_written(struct waits *w)
{
	for (struct client *cl = client_first(w->control->clients), *next; cl; cl = next) {
		struct waiting *wt = client_waiting(cl);
		next = client_next(cl);
		if (!wt->awaits_logs)
			continue;
		wt->awaits_logs = false;
		outcomes_send_if_done(w, cl);
	}
}

void waits_event(struct waits *w, const struct effect *fx)
{
	struct set *s = fx->set ? fx->set : fx->unit ? fx->unit->set : NULL;
	event_add(w, now_wall_us(), fx->event, fx->unit ? fx->unit->name : NULL, s ? s->name : NULL,
		fx->text);
	watchers_look(w, s);
}
