/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Objects that several answers show.
 *
 * Owns nothing.
 * Called by the handlers and waits.c.
 */
#include "control/json.h"
#include "control/show.h"

const char *unit_health(const struct unit *u)
{
	bool has_check = false, is_ok = true;
	for (int k = 0; u->conf && k < CHECK_KIND_MAX; k++) {
		if (!u->conf->health[k].target)
			continue;
		has_check = true;
		if (u->rec.check_ok[k] == 2)
			return "failing";
		is_ok = is_ok && u->rec.check_ok[k] == 1;
	}
	return !has_check ? "none" : is_ok ? "ok" : "unknown";
}

static void member_json(struct buf *b, const struct set *s, unsigned i)
{
	const struct unit *u = s->members[i];
	uint8_t step = s->rollout.step[i];
	int64_t sessions = 0;
	j_open(b, NULL, '{');
	j_str(b, "name", u->name);
	j_int(b, "index", i + 1);
	j_str(b, "step", step < STEP_MAX ? rollout_step_name(step) : "");
	j_str(b, "active_state", active_state_name(unit_active_state(u)));
	j_str(b, "sub_state", inst_state_name(u->rec.state));
	j_str(b, "release", u->rec.release[0] ? u->rec.release : s->release);
	j_int(b, "revision", u->rec.revision);
	j_str(b, "health", unit_health(u));
	j_str(b, "lb_state", lb_phase_name(u->rec.lb_phase));
	for (unsigned l = 0; u->lb && l < s->n_lbs; l++)
		sessions += (int64_t)u->lb->sample[l].sessions;
	j_int(b, "sessions", sessions);
	j_str(b, "cause", u->fail_text);
	j_close(b, '}');
}

/* The record and what belongs to it; also of an earlier rollout, then without members. */
void rollout_rec_json(
	struct buf *b, const char *key, const struct rollout_rec *r, const struct set *s)
{
	char id[32];
	snprintf(id, sizeof(id), "d-%llu", (unsigned long long)r->id);
	j_open(b, key, '{');
	j_str(b, "id", r->state == ROLL_NONE ? "" : id);
	j_str(b, "set", s ? s->name : r->set);
	j_str(b, "state", rollout_state_name(r->state));
	j_str(b, "from_release", r->from_release);
	j_str(b, "to_release", r->to_release);
	j_int(b, "from_revision", r->from_revision);
	j_int(b, "to_revision", r->to_revision);
	j_int(b, "count", r->count);
	j_int(b, "surge", r->surge);
	j_int(b, "unavailable", r->unavailable);
	j_bool(b, "is_undo", r->is_undo);
	j_time(b, "began", r->began_wall_us);
	j_time(b, "ended", r->ended_wall_us);
	j_str(b, "actor", r->actor);
	j_str(b, "reason", r->reason);
	if (s) {
		j_int(b, "available", set_available(s));
		j_str(b, "waits_for", s->wait_text);
		j_open(b, "members", '[');
		for (unsigned i = 0; i < SET_MEMBERS_MAX; i++)
			if (s->members[i] && (i < s->count || !unit_is_down(s->members[i])))
				member_json(b, s, i);
		j_close(b, ']');
	}
	j_close(b, '}');
}

void rollout_json(struct buf *b, const char *key, const struct set *s)
{
	rollout_rec_json(b, key, &s->rollout, s);
}

static const char *level_name(int level)
{
	static const char *const names[] = {
		"emerg", "alert", "crit", "error", "warning", "notice", "info"};
	return level >= 0 && (size_t)level < ARRAY_SIZE(names) ? names[level] : "info";
}

void event_json(struct buf *b, const struct event_entry *e)
{
	j_open(b, NULL, '{');
	j_time(b, "time", e->wall_us);
	j_str(b, "event", event_name(e->id));
	j_str(b, "level", level_name(event_level(e->id)));
	j_str(b, "unit", strna(e->unit));
	j_str(b, "set", strna(e->set));
	j_str(b, "text", strna(e->text));
	j_close(b, '}');
}
