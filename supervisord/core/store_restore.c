/* SPDX-License-Identifier: Apache-2.0 */
/* After a restart of core: units and sets as the core before had them, by records and journals. */
#include "core/store.h"

struct unit *store_restore_unit(struct core *c, const char *name, const struct unit_rec *r)
{
	return store_put(c, name, r->revision, r->index != 0);
}

/* A record of a unit whose name is another one's by now. NULL: it is down, so nothing is left of it. */
struct unit *store_restore_former(
	struct core *c, const char *name, const char *of, const struct unit_rec *r)
{
	enum active_state a = inst_active_state((enum inst_state)r->state);
	if ((a == ACTIVE_INACTIVE || a == ACTIVE_FAILED) && !r->left_over)
		return NULL;
	struct unit_conf *conf = unit_load_as(&c->path, name);
	log_warn(name, "its file is a link to %s now; it keeps its name while it runs", of);
	struct unit *u = store_put_conf(c, name, conf);
	uc(u)->is_stale = true;
	uc(u)->alias_of = xstrdup(of);
	c->has_aliases = true;
	unit_conf_unref(conf);
	return u;
}

/* Gives each member the conf of the revision it is not running. */
static void give_next_confs(struct core *c, struct set *s, uint32_t from, const char *from_release,
	uint32_t to, const char *to_release, unsigned members)
{
	for (unsigned i = 1; i <= members && i <= SET_MEMBERS_MAX; i++) {
		struct unit *u = s->members[i - 1];
		if (!u)
			continue;
		bool is_new = u->rec.revision == to;
		struct unit_conf *conf =
			store_load_revision(c, u->name, s->name, is_new ? from : to);
		c->n_state_unread += conf->is_unread; /* see_all_read() */
		world_set_next_conf(
			c->world, u, conf, is_new ? from : to, is_new ? from_release : to_release);
		unit_conf_unref(conf);
	}
}

/* The settings of the set are those of what is committed now. */
void store_committed(struct core *c, struct set *s)
{
	struct set_core *x = sc(s);
	struct unit_conf *conf = NULL;
	for (unsigned i = 0; i < SET_MEMBERS_MAX && !conf; i++) {
		const struct unit *u = s->members[i];
		if (u && u->rec.revision == s->revision)
			conf = u->conf;
		else if (u && u->next_revision == s->revision)
			conf = u->next_conf;
	}
	if (conf) {
		unit_conf_ref(conf);
		unit_conf_unref(x->conf);
		x->conf = conf;
	}
	net_set_configure(c, s);
}

/* By the records of its members; 0: they do not say. */
static unsigned recorded_count(const struct set *s)
{
	uint64_t count = 0;
	for (unsigned k = 0; k < SET_MEMBERS_MAX; k++)
		if (s->members[k])
			count = MAX(count, uc(s->members[k])->kept.set_count);
	return (unsigned)MIN(count, (uint64_t)SET_MEMBERS_MAX);
}

/* A set that was never scaled has as many members as Count= said when it was loaded first, and an edit of
 * that counts, as after daemon-reload, when the daemon is started anew: members beyond it would be missing
 * in a rollout, or ones that nobody has started would hold it up. */
void store_restore_counts(struct core *c)
{
	for (size_t i = 0; i < c->world->n_sets; i++) {
		struct set *s = c->world->sets[i];
		unsigned count = recorded_count(s);
		if (!s->is_template || sc(s)->is_scaled || !count)
			continue;
		s->count = count;
		store_load_members(c, s, 1, s->count);
	}
	store_load_closure(c);
}

void store_restore_rollouts(struct core *c)
{
	for (size_t i = 0; i < c->world->n_sets; i++) {
		struct set *s = c->world->sets[i];
		struct rollout_rec r;
		if (journal_last(c, s, &r) == 0 && world_restore_rollout(c->world, s, &r) == 0 &&
			(rollout_is_active(s) || r.state == ROLL_HALTED)) {
			store_load_members(c, s, 1, r.count + r.surge);
			give_next_confs(c, s, r.from_revision, r.from_release, r.to_revision,
				r.to_release, r.count + r.surge);
		}
		store_committed(c, s); /* the member seen first may have been another's */
	}
}

static unsigned members_there(const struct set *s)
{
	unsigned n = 0;
	for (unsigned i = 0; i < SET_MEMBERS_MAX; i++) {
		const struct unit *u = s->members[i];
		if (u && u->rec.want != WANT_DOWN && (u->rec.want == WANT_UP || !unit_is_down(u)))
			n = i + 1;
	}
	return n;
}

/* Members beyond a count that is too small run, but are in no rollout, and gone after a reboot. */
void store_recount(struct core *c)
{
	for (size_t i = 0; i < c->world->n_sets; i++) {
		struct set *s = c->world->sets[i];
		unsigned recorded = recorded_count(s), n = recorded ? recorded : members_there(s);
		n = rollout_is_active(s) ? s->rollout.count : n;
		if (!sc(s)->is_count_lost || !n)
			continue;
		sc(s)->is_count_lost = false;
		s->count = MIN(n, (unsigned)SET_MEMBERS_MAX);
		log_warn(s->name, "its number of members is lost: %u, by those that are there",
			s->count);
		journal_count(c, s);
	}
}
