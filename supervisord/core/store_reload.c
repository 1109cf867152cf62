/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Unit files that have changed since they were loaded, or could not be read then.
 *
 *  1. What runs keeps its settings and its name while its file cannot be used.
 *  2. A member of a set that was deployed gets new settings by a deploy only.
 */
#include "control/control.h"
#include "core/store.h"

#include <malloc.h>

static void note_diagnostics(const struct unit_conf *conf, struct buf *notes)
{
	for (size_t i = 0; i < conf->n_diagnostics; i++) {
		const struct diagnostic *d = &conf->diagnostics[i];
		buf_printf(notes, "%s:%u:%u: %s%s%s\n", strna(d->file), d->line, d->column,
			strna(d->text), d->hint ? "; " : "", strna(d->hint));
	}
}

/* A unit that runs keeps the settings it was started with when its file is gone, masked or has
 * errors now: they say how to stop it and whether to restart it. */
static void keep_conf(struct unit *u, const struct unit_conf *conf, struct buf *notes)
{
	uc(u)->is_stale = true;
	free(TAKE_PTR(uc(u)->alias_of));
	if (!streq(conf->name, u->name)) {
		uc(u)->alias_of = xstrdup(conf->name);
		uc(u)->core->has_aliases = true;
		buf_printf(notes,
			"%s: its file is a link to %s now; it keeps its settings while it runs\n",
			u->name, conf->name);
		return;
	}
	buf_printf(notes, "%s: %s; it keeps its settings while it runs\n", u->name,
		conf->is_unread                ? unit_conf_error(conf)
		: conf->load == LOAD_NOT_FOUND ? "its file is gone"
		: conf->load == LOAD_MASKED    ? "it is masked"
					       : "its file has errors");
}

/* Its file has become a link to another unit's. What runs goes on under the name it was started with, which
 * is that of its cgroup and its record; then the name is the other unit's. */
static bool is_alias_now(struct core *c, struct unit *u, struct unit_conf *conf)
{
	if (streq(conf->name, u->name) || store_is_to_run(u) || u->set)
		return false;
	world_pass_name(c->world, u, store_put_read(c, conf->name, 0, false, conf));
	return true;
}

void store_reload_unit(struct core *c, struct unit *u, struct buf *notes)
{
	struct unit_conf *conf = u->set && u->rec.revision ? store_load_revision(c, u->name,
								     u->set->name, u->rec.revision)
							   : unit_load(&c->path, u->name, NULL);
	bool was_whole = !u->conf->is_unread, was_unread = uc(u)->is_unread;
	bool is_other = !streq(conf->name, u->name);
	bool is_kept = is_other || (conf->load != LOAD_LOADED && !unit_is_down(u));
	bool is_changed = is_other || conf->load != u->conf->load ||
			  conf->text_hash != u->conf->text_hash ||
			  conf->is_unread != u->conf->is_unread;
	if (is_alias_now(c, u, conf)) {
		unit_conf_unref(conf);
		return;
	}
	if (!is_other)
		world_pass_name(c->world, u, u);
	is_kept |= conf->is_unread && was_whole; /* half of it is another configuration */
	uc(u)->is_stale = false;
	uc(u)->is_unread = conf->is_unread;
	if (conf->is_unread)
		store_note_unread(c, conf);
	if (is_changed && !(was_unread && conf->is_unread)) /* said once, not at each try */
		store_log_diagnostics(conf);
	if (is_changed)
		note_diagnostics(conf, notes);
	if (is_changed || u->conf->exec.identity.user) /* which NSS may answer otherwise now */
		launcher_image_forget(u);
	if (is_kept && is_changed)
		keep_conf(u, conf, notes);
	if (!is_kept && is_changed) {
		world_put_unit(c->world, conf);
		if (!was_whole && store_makes_set(conf) && !u->set) {
			struct set *s = store_make_set(c, conf);
			store_join_set(c, s, u);
			store_load_members(c, s, 1, s->count);
		}
		if (u->set && !u->rec.revision && u->rec.index == 1) {
			struct err e = {0};
			unit_conf_unref(sc(u->set)->conf);
			sc(u->set)->conf = unit_conf_ref(conf);
			store_snapshot_write(c, u->set, 0, &e);
		}
		if (u->set)
			sc(u->set)->is_conf_new = true;
		else
			unit_conf_drop_text(conf);
	}
	unit_conf_unref(conf);
}

/* When all its members have their new settings: each has rows where those say. */
void store_configure_again(struct core *c)
{
	for (size_t i = 0; i < c->world->n_sets; i++) {
		struct set *s = c->world->sets[i];
		if (sc(s)->is_conf_new)
			net_set_configure(c, s);
		sc(s)->is_conf_new = false;
	}
}

bool store_is_unread(struct core *c)
{
	for (size_t i = 0; i < c->world->n_units; i++)
		if (core_unit_is_unread(c->world->units[i]))
			return true;
	for (size_t i = 0; i < c->unread_names.n; i++) {
		struct err e = {0}, unread = {0};
		(void)core_find_set(c, c->unread_names.v[i], &unread);
		(void)core_load_unit(c, c->unread_names.v[i], &e);
		if (unread.code || e.code == -EIO)
			return true;
	}
	strv_done(&c->unread_names);
	return false;
}

/* A set that was not seen, a start that was left out: what came of it is put right as after a crash, by
 * another core, which reads everything. */
void store_look_again(struct core *c)
{
	struct buf notes = {0};
	c->unread_at_us = 0;
	for (size_t i = 0; i < c->world->n_units; i++)
		if (core_unit_is_unread(c->world->units[i]))
			store_reload_unit(c, c->world->units[i], &notes);
	buf_done(&notes);
	store_configure_again(c);
	store_load_closure(c);
	if (store_is_unread(c)) {
		store_look_later(c);
		return;
	}
	c->unread_wait_us = 0;
	core_trouble(c, TROUBLE_UNITS, NULL);
	if (!c->is_incomplete)
		return;
	log_note(NULL, "all files of units can be read now: another core takes them in");
	c->loop.is_done = true;
	c->loop.exit_code = EXIT_FAILURE;
}

int store_reload(struct core *c, struct buf *notes)
{
	size_t n = c->world->n_units;
	for (size_t i = 0; i < n; i++)
		store_reload_unit(c, c->world->units[i], notes);
	store_configure_again(c);
	int r = store_load_closure(c);
	(void)malloc_trim(0); /* what the old settings took lies between what is kept */
	return r;
}

int core_daemon_reload(struct core *c, const char *actor, struct buf *notes, struct err *e)
{
	(void)e;
	log_note(NULL, "unit files loaded again, asked for by %s", actor);
	if (c->control)
		control_reload(c->control, notes);
	int r = store_reload(c, notes);
	struct event ev = {.kind = EV_TIME}; /* who waited for what is written no longer goes on */
	core_step(c, &ev);
	return r;
}
