/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Handlers of sets: scale, deploy, plan, rollout and its sub-verbs, history.
 *
 * Owns nothing. What a rollout does is the model's; these start it, show it, and find out what
 * would change.
 * Called by server.c.
 */
#include "control/json.h"
#include "control/show.h"
#include "control/verbs.h"
#include "control/waits.h"

#define PLAN_LINES_MAX 4000 /* of one unit text that are compared line by line */

/* ---- showing ------------------------------------------------------------------------------------------- */

int verb_ROLLOUT(struct call *c)
{
	struct set *s = find_set(c->daemon->world(c->core), call_str(c, "name"));
	if (!s)
		return fail_no_unit(c, call_str(c, "name"));
	return waits_rollout(c, s);
}

static void history_each(void *arg, const struct rollout_rec *rec)
{
	rollout_rec_json(arg, NULL, rec, NULL);
}

int verb_HISTORY(struct call *c)
{
	struct set *s = find_set(c->daemon->world(c->core), call_str(c, "name"));
	if (!s)
		return fail_no_unit(c, call_str(c, "name"));
	j_open(&c->out, NULL, '{');
	j_str(&c->out, "schema", "stay.rollout-history/1");
	j_str(&c->out, "set", s->name);
	j_int(&c->out, "revision", s->revision);
	j_open(&c->out, "rollouts", '[');
	int r = c->daemon->history(c->core, s, history_each, &c->out);
	j_close(&c->out, ']');
	j_close(&c->out, '}');
	return r < 0 ? err_set(&c->e, r, "the journal cannot be read: %s", errno_name(r)) : 0;
}

/* ---- changing ------------------------------------------------------------------------------------------- */

/* A request about a set that core, not the world, begins; the outcome comes the same way. */
static int set_begin(struct call *c, struct set **ret_set, uint64_t *ret_id, bool is_watched)
{
	struct set *s = call_set(c);
	if (!s)
		return c->e.code;
	outcomes_begin(c);
	uint64_t id = outcomes_add(c, s->name, NULL, s);
	if (!id) {
		waits_client_gone(c->control->waits, c->client);
		return err_set(&c->e, -ENOSPC, "too many requests are under way (%d)", PENDING_MAX);
	}
	if (is_watched)
		client_waiting(c->client)->watch = s;
	*ret_set = s;
	*ret_id = id;
	return 0;
}

static int set_end(struct call *c, uint64_t id, int r)
{
	if (r < 0) {
		outcomes_refuse(c, id, c->e.text[0] ? c->e.text : errno_name(r));
		waits_client_gone(c->control->waits, c->client);
		if (!c->e.text[0])
			err_set(&c->e, r, "%s", errno_name(r));
		if (!c->error)
			c->error = "Refused"; /* nothing was changed */
		return r;
	}
	return outcomes_end(c, call_bool(c, "no_wait"));
}

int verb_SCALE(struct call *c)
{
	struct set *s;
	uint64_t id;
	int64_t count = call_int(c, "count", -1);
	if (count < 0 || count > SET_MEMBERS_MAX)
		return err_set(&c->e, -EINVAL, "a set has 0 to %d instances", SET_MEMBERS_MAX);
	int r = set_begin(c, &s, &id, false);
	if (r < 0)
		return r;
	return set_end(
		c, id, c->daemon->scale(c->core, s, (unsigned)count, id, call_actor(c), &c->e));
}

int verb_DEPLOY(struct call *c)
{
	struct set *s;
	uint64_t id;
	const char *release = call_str(c, "release");
	int64_t pause_after = call_int(c, "pause_after", 0);
	if (release && !release_name_is_valid(release))
		return err_set(&c->e, -EINVAL,
			"a release is at most %d of A-Z a-z 0-9 . _ - + : @ ~ and begins with no dot",
			RELEASE_NAME_MAX);
	if (pause_after < 0 || pause_after > SET_MEMBERS_MAX)
		return err_set(&c->e, -EINVAL, "pause-after is 0 to %d", SET_MEMBERS_MAX);
	int r = set_begin(c, &s, &id, true);
	if (r < 0)
		return r;
	r = c->daemon->deploy(c->core, s, release, (unsigned)pause_after, id, call_actor(c), &c->e);
	return set_end(c, id, r);
}

int verb_UNDO(struct call *c)
{
	struct set *s;
	uint64_t id;
	int64_t revision = call_int(c, "revision", 0);
	if (revision < 0 || revision > UINT32_MAX)
		return err_set(&c->e, -EINVAL, "that is not a revision");
	int r = set_begin(c, &s, &id, true);
	if (r < 0)
		return r;
	r = c->daemon->undo(c->core, s, (uint32_t)revision, id, call_actor(c), &c->e);
	return set_end(c, id, r);
}

static int set_request(struct call *c, enum request_verb verb, uint64_t number)
{
	struct set *s;
	uint64_t id;
	int r = set_begin(c, &s, &id, false);
	if (r < 0)
		return r;
	struct request q = {
		.id = id, .verb = verb, .set = s, .number = number, .actor = call_actor(c)};
	return set_end(c, id, c->daemon->submit(c->core, &q));
}

int verb_PAUSE(struct call *c)
{
	return set_request(c, REQ_PAUSE, 0);
}

int verb_RESUME(struct call *c)
{
	return set_request(c, REQ_RESUME, 0);
}

int verb_ABORT(struct call *c)
{
	return set_request(c, REQ_ABORT, !call_bool(c, "stay"));
}

/* ---- plan -------------------------------------------------------------------------------------------------- */

static size_t line_size(const char *s)
{
	return strcspn(s, "\n");
}

static bool has_line(const char *text, const char *line, size_t size)
{
	unsigned n = 0;
	for (const char *p = text; *p && n++ < PLAN_LINES_MAX;) {
		size_t len = line_size(p);
		if (len == size && memcmp(p, line, size) == 0)
			return true;
		p += len + (p[len] == '\n');
	}
	return false;
}

/* Lines of a that b lacks; comments (the "# path" heads too) and empty lines say nothing. */
static unsigned lines_missing(struct buf *out, char sign, const char *a, const char *b)
{
	unsigned n = 0, seen = 0;
	for (const char *p = a; *p && seen++ < PLAN_LINES_MAX;) {
		size_t len = line_size(p);
		if (len && p[0] != '#' && p[0] != ';' && !has_line(b, p, len)) {
			buf_printf(out, "  %c %.*s\n", sign, (int)MIN(len, (size_t)200), p);
			n++;
		}
		p += len + (p[len] == '\n');
	}
	return n;
}

static unsigned plan_text(struct call *c, const struct set *s, struct buf *out)
{
	const struct unit *u = NULL;
	for (unsigned i = 0; !u && i < SET_MEMBERS_MAX; i++)
		u = s->members[i];
	if (!u || !u->conf)
		return 0;
	struct unit_conf *now = unit_load(c->daemon->status(c->core)->unit_path, u->name, NULL);
	unsigned n = 0;
	if (now->load != LOAD_LOADED) {
		buf_printf(out, "! %s: %s; see stayctl check %s\n", u->name,
			unit_load_name(now->load), u->name);
	} else {
		n = lines_missing(out, '-', strna(u->conf->text), strna(now->text));
		n += lines_missing(out, '+', strna(now->text), strna(u->conf->text));
	}
	unit_conf_unref(now);
	return n;
}

int verb_PLAN(struct call *c)
{
	struct set *s = call_set(c);
	struct buf text = {0}, lines = {0};
	const char *release = call_str(c, "release");
	if (!s)
		return c->e.code;
	unsigned changes = plan_text(c, s, &lines);
	if (release && !streq(release, s->release)) {
		buf_printf(&lines, "  ~ release %s -> %.*s\n",
			s->release[0] ? s->release : "(none)", RELEASE_NAME_MAX, release);
		changes++;
	}
	buf_printf(&text, "%c %s (%u change%s)\n", changes ? '~' : '=', s->name, changes,
		changes == 1 ? "" : "s");
	if (lines.size)
		buf_add(&text, lines.data, lines.size);
	set_plan(c->daemon->world(c->core), s, &text);
	j_open(&c->out, NULL, '{');
	j_str(&c->out, "schema", "stay.plan/1");
	j_str(&c->out, "set", s->name);
	j_int(&c->out, "changes", changes);
	j_strn(&c->out, "text", strna(text.data), text.size);
	j_close(&c->out, '}');
	buf_done(&text);
	buf_done(&lines);
	return VERB_REPLIED;
}
