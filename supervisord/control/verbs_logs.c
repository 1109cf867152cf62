/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Handlers of logs and events.
 *
 * Owns nothing.
 * Called by server.c.
 */
#include "control/json.h"
#include "control/logs.h"
#include "control/show.h"
#include "control/verbs.h"
#include "control/waits.h"

#define LOG_LINES_DEFAULT 10
#define LOG_LINES_MAX     100000
#define LOG_TOTAL_MAX     (6 * 1024 * 1024) /* escaped it must fit into CONTROL_REPLY_MAX */

static int logs_of(struct call *c, const struct targets *t, const char *dir)
{
	int64_t lines = call_int(c, "lines", LOG_LINES_DEFAULT);
	int64_t since = call_int(c, "since_us", 0);
	if (lines < 0 || lines > LOG_LINES_MAX || since < 0)
		return err_set(&c->e, -EINVAL, "lines: 0 (all) to %d", LOG_LINES_MAX);
	struct log_cursor *cursors = xcalloc(t->n + 1, sizeof(*cursors));
	size_t max = LOG_TOTAL_MAX / 4 / MAX(t->n, (size_t)1);
	struct buf text = {0};
	j_open(&c->out, NULL, '{');
	j_str(&c->out, "schema", "stay.logs/1");
	j_open(&c->out, "logs", '[');
	for (size_t i = 0; i < t->n; i++) {
		buf_reset(&text);
		int r = log_read_last(dir, t->units[i]->name, (unsigned)lines, (uint64_t)since, max,
			&text, &cursors[i]);
		if (r >= 0)
			log_json(&c->out, t->units[i]->name, &text);
	}
	j_close(&c->out, ']');
	j_close(&c->out, '}');
	buf_done(&text);
	int r = c->more ? logs_follow(c, t, dir, cursors) : VERB_REPLIED;
	free(cursors);
	return r;
}

int verb_LOGS(struct call *c)
{
	const char *dir = c->daemon->status(c->core)->log_dir;
	struct targets t = {0};
	if (!dir) {
		str_copy(c->hint, "logs go to the standard output of stayd", sizeof(c->hint));
		return err_set(&c->e, -EOPNOTSUPP, "logs are not kept in files");
	}
	int r = targets_resolve(c, 0, &t);
	if (r == 0)
		r = logs_of(c, &t, dir);
	targets_done(&t);
	return r;
}

/* ---- events ---------------------------------------------------------------------------------------------- */

/* Names are compared as they stand in events: full unit names and names of sets. */
static void filter_names(struct call *c, struct strv *out)
{
	const json_t *names = json_object_get(c->params, "names");
	for (size_t i = 0; i < json_array_size(names); i++) {
		const char *name = json_string_value(json_array_get(names, i));
		struct set *s = strlen(name) <= UNIT_NAME_MAX
					? find_set(c->daemon->world(c->core), name)
					: NULL;
		if (s) {
			strv_add(out, s->name);
			continue;
		}
		char *full = complete_name(name);
		if (full)
			strv_add_take(out, full);
		else
			strv_add(out, name);
	}
}

static bool entry_wanted(const struct strv *names, const struct event_entry *e)
{
	return names->n == 0 || (e->unit && strv_has(names, e->unit)) ||
	       (e->set && strv_has(names, e->set));
}

int verb_EVENTS(struct call *c)
{
	const struct waits *w = c->control->waits;
	struct strv names = {0};
	filter_names(c, &names);
	j_open(&c->out, NULL, '{');
	j_str(&c->out, "schema", "stay.events/1");
	j_open(&c->out, "events", '[');
	for (size_t i = 0; i < waits_ring_count(w); i++)
		if (entry_wanted(&names, waits_ring_at(w, i)))
			event_json(&c->out, waits_ring_at(w, i));
	j_close(&c->out, ']');
	j_close(&c->out, '}');
	if (!c->more) {
		strv_done(&names);
		return VERB_REPLIED;
	}
	struct waiting *wt = client_waiting(c->client);
	wt->kind = WAIT_EVENTS;
	wt->names = names;
	client_send(c->client, &c->out, true);
	return VERB_WAITS;
}
