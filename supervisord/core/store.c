/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Units, replica sets and revisions: from files and the state directory into the world.
 *
 *  1. Every unit of the world has a companion (struct unit_core), every set a struct set_core.
 *  2. A member of a set runs the set's committed revision, which is a snapshot: editing the unit
 *     file changes nothing until the next deploy. Revision 0 is the file as it was when the set
 *     was loaded first; it is kept as a snapshot too, so that a first deploy can be undone.
 *  3. Nothing here starts anything.
 *  4. What cannot be read is not taken for absent: a unit keeps the settings it has, a request is told
 *     the file and the reason, and both are looked at again, by themselves (store_look_again()) and at
 *     the next request.
 */
#include "core/store.h"

#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>

#define CLOSURE_MAX UNITS_MAX

#define UNREAD_WAIT_US     (500 * USEC_PER_MSEC) /* doubles up to ... */
#define UNREAD_WAIT_MAX_US (30 * USEC_PER_SEC)

char *store_revision_dir(struct core *c, const char *set, uint32_t revision)
{
	return xasprintf("%s/sets/%s/revisions/%u", c->state_dir, set, revision);
}

/* Name of the set a unit of that name would be in: "web@1.service" -> "web", "org.web.service" and
 * "org.web" -> "org.web". */
static char *set_name_of(const char *unit)
{
	const char *at = strchr(unit, '@'), *end = at ? at : unit + strlen(unit);
	if (!at && unit_name_type(unit) != UNIT_TYPE_MAX)
		end = strrchr(unit, '.');
	return xstrndup(unit, (size_t)(end - unit));
}

/* What cannot be looked at may be there: the next look says. */
static bool snapshot_is_absent(const char *file)
{
	return access(file, R_OK) < 0 && (errno == ENOENT || errno == ENOTDIR);
}

struct unit_conf *store_load_revision(
	struct core *c, const char *name, const char *set, uint32_t revision)
{
	CLEANUP_FREE char *dir = store_revision_dir(c, set, revision);
	CLEANUP_FREE char *file = xasprintf("%s/unit", dir);
	/* One that is there and cannot be read is no reason to run another text. */
	if (!snapshot_is_absent(file)) {
		struct unit_conf *conf = unit_load(&c->path, name, dir);
		if (conf->load == LOAD_LOADED ||
			(conf->load == LOAD_BAD && !snapshot_is_absent(file)))
			return conf;
		unit_conf_unref(conf);
	}
	if (revision)
		log_warn(name, "no snapshot of revision %u in %s: using the unit file", revision,
			dir);
	return unit_load(&c->path, name, NULL);
}

/* ---- companions ------------------------------------------------------------------------------ */

void store_attach(struct core *c, struct unit *u)
{
	if (u->core)
		return;
	struct unit_core *x = xcalloc(1, sizeof(*x));
	x->core = c;
	x->unit = u;
	x->slot = UINT32_MAX;
	x->cgroup_fd = x->log_fd = x->empty_fd = -1;
	u->core = x;
}

void store_look_later(struct core *c)
{
	if (c->unread_at_us)
		return;
	c->unread_wait_us =
		c->unread_wait_us ? MIN(2 * c->unread_wait_us, UNREAD_WAIT_MAX_US) : UNREAD_WAIT_US;
	c->unread_at_us = now_mono_us() + c->unread_wait_us;
	core_arm(c);
}

void store_note_unread(struct core *c, const struct unit_conf *conf)
{
	char text[TROUBLE_TEXT_MAX];
	const char *dir;
	int error = unit_path_error(&c->path, &dir);
	if (error)
		snprintf(text, sizeof(text),
			"%s cannot be read: %s; units in it are not known, it is tried again", dir,
			errno_name(error));
	else
		snprintf(text, sizeof(text), "%s: %s; it is tried again", conf->name,
			unit_conf_error(conf));
	core_trouble(c, TROUBLE_UNITS, text);
	store_look_later(c);
}

void store_log_diagnostics(const struct unit_conf *conf)
{
	for (size_t i = 0; i < conf->n_diagnostics; i++) {
		const struct diagnostic *d = &conf->diagnostics[i];
		log_at(d->is_error ? LOG_ERROR : LOG_WARN, conf->name, "%s:%u:%u: %s%s%s",
			strna(d->file), d->line, d->column, strna(d->text), d->hint ? "; " : "",
			strna(d->hint));
	}
}

/* ---- sets -------------------------------------------------------------------------------------- */

bool store_makes_set(const struct unit_conf *conf)
{
	return conf->type == UNIT_SERVICE &&
	       (conf->replicas.is_set || conf->rollout.is_set || conf->lb.is_set) &&
	       (conf->load == LOAD_LOADED || conf->load == LOAD_BAD);
}

static bool file_makes_set(struct core *c, const char *name)
{
	struct unit_conf *conf = unit_load(&c->path, name, NULL);
	bool makes = store_makes_set(conf);
	unit_conf_unref(conf);
	return makes;
}

/* web.service and web@1.service would both be of a set web, whose snapshots are of one of the two: of the
 * kind the set is when it is there, else of the one whose file makes a set. */
static bool is_of_set(struct core *c, const char *name, const char *set)
{
	const struct set *s = world_set(c->world, set);
	bool is_instance = strchr(name, '@') != NULL;
	if (s)
		return s->is_template == is_instance;
	CLEANUP_FREE char *other = xasprintf(is_instance ? "%s.service" : "%s@1.service", set);
	return file_makes_set(c, name) || !file_makes_set(c, other);
}

static bool read_current(
	struct core *c, const char *set, uint32_t *ret_revision, char release[RELEASE_NAME_MAX + 1])
{
	struct buf b = {0};
	struct rollout_rec done;
	bool ok = false;
	release[0] = '\0';
	int r = state_read(c, set, "current", &b);
	if (r == 0)
		ok = sscanf(b.data, "%u %63s", ret_revision, release) >= 1;
	buf_done(&b);
	if (ok || r == -ENOENT || journal_last_done(c, set, &done) < 0)
		return ok;
	*ret_revision = done.to_revision;
	str_copy(release, done.to_release, RELEASE_NAME_MAX + 1);
	return true;
}

/* Before the first deploy the release is what ReleaseLink= points at. */
static void release_of_link(const struct unit_conf *conf, char release[RELEASE_NAME_MAX + 1])
{
	char target[PATH_MAX];
	ssize_t n = conf->rollout.release_link
			    ? readlink(conf->rollout.release_link, target, sizeof(target) - 1)
			    : -1;
	if (n <= 0)
		return;
	target[n] = '\0';
	const char *slash = strrchr(target, '/'), *base = slash ? slash + 1 : target;
	if (release_name_is_valid(base)) /* whoever deployed before us made the link */
		str_copy(release, base, RELEASE_NAME_MAX + 1);
	else
		log_warn(conf->name,
			"ReleaseLink=%s leads to '%s', which is no release name: taken for none",
			conf->rollout.release_link, target);
}

void store_snapshot_write(struct core *c, struct set *s, uint32_t revision, struct err *e)
{
	CLEANUP_FREE char *dir = store_revision_dir(c, s->name, revision);
	CLEANUP_FREE char *first =
		s->is_template ? unit_name_with_instance(s->template, "1") : xstrdup(s->template);
	if (mkdir_parents(dir, 0755) < 0 || unit_snapshot_write(&c->path, first, dir, e) < 0)
		log_warn(s->name, "cannot keep a snapshot of revision %u: %s", revision, e->text);
}

char *store_member_name(const struct set *s, unsigned index)
{
	char number[16];
	if (!s->is_template)
		return xstrdup(s->template);
	snprintf(number, sizeof(number), "%u", index);
	return unit_name_with_instance(s->template, number);
}

static unsigned member_index(const struct set *s, const struct unit_conf *conf)
{
	char *end;
	if (!s->is_template) /* web@1.service is not web.service's */
		return streq(conf->name, s->template);
	unsigned long n = conf->instance ? strtoul(conf->instance, &end, 10) : 0;
	if (n < 1 || n > SET_MEMBERS_MAX || *end || conf->instance[0] == '0')
		return 0;
	return (unsigned)n;
}

void store_join_set(struct core *c, struct set *s, struct unit *u)
{
	unsigned index = member_index(s, u->conf);
	if (!index || s->members[index - 1] == u)
		return;
	world_set_member(c->world, s, index, u);
	if (!u->rec.release[0])
		str_copy(u->rec.release, s->release, sizeof(u->rec.release));
	if (!u->rec.revision)
		u->rec.revision = s->revision;
}

/* Whoever starts anew (a reboot, a stopped daemon) starts members on the committed revision. A rollout
 * that was under way then is over; it must not come to life when core restarts some day. */
static void end_interrupted(struct core *c, struct set *s)
{
	struct rollout_rec *r = &s->rollout;
	if (rollout_is_active(s) || r->state == ROLL_HALTED) {
		r->state = ROLL_ABORTED;
		r->ended_wall_us = now_wall_us();
		str_copy(r->reason, "the daemon was started anew", sizeof(r->reason));
		journal_write(c, s, "aborted: the daemon was started anew");
	} else if (r->state == ROLL_DONE && !r->is_restart && r->to_revision != s->revision) {
		s->revision = r->to_revision; /* done, but not yet said */
		str_copy(s->release, r->to_release, sizeof(s->release));
		journal_commit(c, s);
	}
}

static void remember_rollout(struct core *c, struct set *s)
{
	struct set_core *x = sc(s);
	struct rollout_rec last;
	if (journal_last(c, s, &last) < 0 || world_restore_rollout(c->world, s, &last) < 0)
		return;
	x->last_revision = MAX(x->last_revision, last.to_revision);
	x->last_revision = MAX(x->last_revision, last.from_revision);
	if (!c->is_restoring)
		end_interrupted(c, s);
}

struct set *store_make_set(struct core *c, const struct unit_conf *conf)
{
	CLEANUP_FREE char *name = set_name_of(conf->name);
	struct set *s = world_set(c->world, name);
	if (s)
		return s;
	uint32_t count = conf->replicas.is_set ? conf->replicas.count : 1;
	uint32_t revision = 0;
	char release[RELEASE_NAME_MAX + 1] = "";
	int r = conf->template ? state_read_number(c, name, "count", &count) : -ENOENT;
	if (!read_current(c, name, &revision, release))
		release_of_link(conf, release);
	s = world_put_set(c->world, name, conf->template ? conf->template : conf->name,
		MIN(count, (uint32_t)SET_MEMBERS_MAX));
	struct set_core *x = xcalloc(1, sizeof(*x));
	x->journal_fd = -1;
	x->conf = unit_conf_ref((struct unit_conf *)conf);
	x->last_revision = revision;
	x->is_count_lost = r < 0 && r != -ENOENT;
	x->is_scaled = r == 0;
	s->core = x;
	s->is_template = conf->template != NULL;
	s->revision = revision;
	str_copy(s->release, release, sizeof(s->release));
	struct err e = {0};
	if (!revision)
		store_snapshot_write(c, s, 0, &e);
	remember_rollout(c, s);
	net_set_configure(c, s);
	return s;
}

void store_load_members(struct core *c, struct set *s, unsigned from, unsigned to)
{
	for (unsigned i = from; i <= to && i <= SET_MEMBERS_MAX; i++) {
		if (s->members[i - 1])
			continue;
		CLEANUP_FREE char *name = store_member_name(s, i);
		store_put(c, name, 0, false);
	}
}

/* ---- units ---------------------------------------------------------------------------------------- */

/* The conf it is to have: of its set's revision, or read, which the caller may have done just now
 * (a reference, or NULL). */
static struct unit_conf *conf_of(struct core *c, const char *name, uint32_t revision,
	bool has_revision, struct unit_conf *read)
{
	char release[RELEASE_NAME_MAX + 1] = "";
	CLEANUP_FREE char *set = set_name_of(name);
	uint32_t current = 0;
	bool in_set = unit_name_type(name) == UNIT_SERVICE &&
		      read_current(c, set, &current, release) && is_of_set(c, name, set);
	if (has_revision)
		current = revision;
	if ((in_set || has_revision) && unit_name_type(name) == UNIT_SERVICE)
		return store_load_revision(c, name, set, current);
	return read ? unit_conf_ref(read) : unit_load(&c->path, name, NULL);
}

struct unit *store_put_conf(struct core *c, const char *name, struct unit_conf *conf)
{
	struct unit *u;
	store_log_diagnostics(conf);
	u = world_put_unit(c->world, conf);
	store_attach(c, u);
	uc(u)->is_unread = conf->is_unread;
	if (conf->is_unread)
		store_note_unread(c, conf);
	if (!streq(u->name, name))
		world_put_alias(c->world, name, u);
	if (store_makes_set(conf)) {
		struct set *s = store_make_set(c, conf);
		store_join_set(c, s, u);
		store_load_members(c, s, 1, s->count);
	}
	if (!u->set) /* a plan compares the texts of sets */
		unit_conf_drop_text(conf);
	return u;
}

struct unit *store_put_read(struct core *c, const char *name, uint32_t revision, bool has_revision,
	struct unit_conf *read)
{
	struct unit *u = world_unit(c->world, name);
	if (u && u->core)
		return u;
	struct unit_conf *conf = conf_of(c, name, revision, has_revision, read);
	u = store_put_conf(c, name, conf);
	unit_conf_unref(conf);
	return u;
}

struct unit *store_put(struct core *c, const char *name, uint32_t revision, bool has_revision)
{
	return store_put_read(c, name, revision, has_revision, NULL);
}

int store_load_closure(struct core *c)
{
	const char *name;
	for (unsigned i = 0; i < CLOSURE_MAX && world_missing(c->world, &name); i++) {
		CLEANUP_FREE char *copy = xstrdup(name);
		store_put(c, copy, 0, false);
	}
	effects_reset(&c->fx);
	world_link(c->world, &c->fx);
	core_tell(c, &c->fx);
	core_perform(c, &c->fx);
	return 0;
}

/* 0: there is a file, such as it is. */
static int load_says(const struct unit_conf *conf, const char *name, struct err *e)
{
	if (conf->load == LOAD_NOT_FOUND)
		return err_set(e, -ENOENT, "no unit %s in the search path", name);
	if (conf->load == LOAD_BAD && conf->is_unread)
		return err_set(e, -EIO, "%s: %s", name, unit_conf_error(conf));
	return 0;
}

bool store_is_to_run(const struct unit *u)
{
	return !unit_is_down(u) || u->rec.left_over || u->rec.want == WANT_UP;
}

bool core_unit_is_unread(const struct unit *u)
{
	return u->core && uc(u)->is_unread;
}

/* What its file says now (a reference). Whether a name is a set and which unit it is are asked one
 * behind the other: read once a turn. */
static struct unit_conf *read_file_of(struct core *c, const char *name)
{
	bool is_read = c->last_read && c->last_read_turn == c->loop.turn && c->loop.turn > 0 &&
		       streq(c->last_read->name, name);
	if (!is_read) {
		unit_conf_unref(c->last_read);
		c->last_read = unit_load(&c->path, name, NULL);
		c->last_read_turn = c->loop.turn;
	}
	return unit_conf_ref(c->last_read);
}

/* It would run twice. */
static const struct unit *runs_as(const struct core *c, const struct unit *u)
{
	bool may_be = c->has_aliases && unit_is_down(u);
	for (size_t i = 0; may_be && i < c->world->n_units; i++) {
		const struct unit *v = c->world->units[i];
		bool is_it = v->core && uc(v)->is_stale && uc(v)->alias_of &&
			     streq(uc(v)->alias_of, u->name);
		if (is_it && store_is_to_run(v))
			return v;
	}
	return NULL;
}

/* What it kept while it ran may be given up now; or it may not be started now. */
bool core_unit_is_outdated(const struct unit *u)
{
	const struct unit_core *x = uc(u);
	return core_unit_is_unread(u) ||
	       (x && ((x->is_stale && !store_is_to_run(u)) || runs_as(x->core, u)));
}

struct unit *core_load_unit(struct core *c, const char *name, struct err *e)
{
	struct unit *u = world_unit(c->world, name);
	if (!unit_name_is_valid(name)) {
		err_set(e, -ENOENT, "%s is not a unit name", name);
		return NULL;
	}
	if (strstr(name, "@.")) {
		err_set(e, -EINVAL, "%s is a template: name an instance, as in %.*sNAME%s", name,
			(int)(strchr(name, '@') - name + 1), name, strchr(name, '@') + 1);
		return NULL;
	}
	if (!u || !u->core) {
		struct unit_conf *conf = read_file_of(c, name);
		if (load_says(conf, name, e) < 0 && !u) {
			unit_conf_unref(conf);
			return NULL;
		}
		*e = (struct err){0};
		u = store_put_read(c, name, 0, false, conf);
		unit_conf_unref(conf);
		store_load_closure(c);
	} else if (uc(u)->is_stale && !store_is_to_run(u)) {
		struct buf notes = {0};
		store_reload(c, &notes);
		buf_done(&notes);
		u = world_unit(c->world, name);
	} else if (uc(u)->is_unread) {
		struct buf notes = {0};
		store_reload_unit(c, u, &notes);
		store_configure_again(c);
		store_load_closure(c);
		buf_done(&notes);
	}
	(void)load_says(u->conf, name, e);
	if (u->conf->load == LOAD_MASKED)
		err_set(e, -EPERM, "%s is masked", name);
	else if (u->conf->load == LOAD_BAD && !u->conf->is_unread)
		err_set(e, -EBADMSG, "%s: %s", name, unit_conf_error(u->conf));
	const struct unit *former = runs_as(c, u);
	if (former) {
		err_set(e, -EBUSY, "%s runs under the name it was started by, %s: stop that first",
			name, former->name);
		return NULL;
	}
	/* One that is up can still be stopped, whatever its file is now. */
	return u->conf->load == LOAD_LOADED || !unit_is_down(u) ? u : NULL;
}

/* What makes a set of it or not (a reference): what it was loaded from, or its file. */
static struct unit_conf *conf_now(struct core *c, const char *name)
{
	const struct unit *u = world_unit(c->world, name);
	bool is_known = u && u->core && u->conf && u->conf->load == LOAD_LOADED &&
			!uc(u)->is_stale && !uc(u)->is_unread;
	return is_known ? unit_conf_ref(u->conf) : read_file_of(c, name);
}

struct set *core_find_set(struct core *c, const char *name, struct err *unread)
{
	CLEANUP_FREE char *set = set_name_of(name);
	struct set *s = world_set(c->world, set);
	const char *at = strchr(name, '@');
	if (s && s->is_template && !at && unit_name_type(name) == UNIT_SERVICE) {
		struct unit_conf *conf = read_file_of(c, name);
		bool is_there = conf->load != LOAD_NOT_FOUND;
		unit_conf_unref(conf);
		if (is_there) /* a service beside the set, called by its full name */
			return NULL;
	}
	if (s || strchr(name, '/'))
		return s;
	/* A member by its instance is a unit, not the set. */
	if (at && at[1] && at[1] != '.')
		return NULL;
	CLEANUP_FREE char *first = xasprintf("%s@1.service", set);
	CLEANUP_FREE char *plain = xasprintf("%s.service", set);
	const char *const candidates[] = {first, plain};
	for (size_t i = 0; i < ARRAY_SIZE(candidates); i++) {
		if (!unit_name_is_valid(candidates[i]))
			continue;
		struct unit_conf *conf = conf_now(c, candidates[i]);
		bool makes_set = store_makes_set(conf) && (i == 1 || conf->replicas.is_set);
		if (!makes_set && conf->is_unread && conf->load == LOAD_BAD && unread)
			(void)load_says(conf, candidates[i], unread);
		unit_conf_unref(conf);
		if (makes_set) {
			store_put(c, candidates[i], 0, false);
			store_load_closure(c);
			return world_set(c->world, set);
		}
	}
	return NULL;
}
