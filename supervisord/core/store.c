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
#include "control/control.h"
#include "core/inner.h"

#include <fcntl.h>
#include <limits.h>
#include <malloc.h>
#include <sys/stat.h>

#define CLOSURE_MAX UNITS_MAX

#define UNREAD_WAIT_US     (500 * USEC_PER_MSEC) /* doubles up to ... */
#define UNREAD_WAIT_MAX_US (30 * USEC_PER_SEC)

static struct unit *put(struct core *c, const char *name, uint32_t revision, bool has_revision);
static void reload_unit(struct core *c, struct unit *u, struct buf *notes);
static void configure_again(struct core *c);

static char *revision_dir(struct core *c, const char *set, uint32_t revision)
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

static struct unit_conf *load_revision(
	struct core *c, const char *name, const char *set, uint32_t revision)
{
	CLEANUP_FREE char *dir = revision_dir(c, set, revision);
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

static void note_unread(struct core *c, const struct unit_conf *conf)
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

static void log_diagnostics(const struct unit_conf *conf)
{
	for (size_t i = 0; i < conf->n_diagnostics; i++) {
		const struct diagnostic *d = &conf->diagnostics[i];
		log_at(d->is_error ? LOG_ERROR : LOG_WARN, conf->name, "%s:%u:%u: %s%s%s",
			strna(d->file), d->line, d->column, strna(d->text), d->hint ? "; " : "",
			strna(d->hint));
	}
}

/* ---- sets -------------------------------------------------------------------------------------- */

static bool conf_makes_set(const struct unit_conf *conf)
{
	return conf->type == UNIT_SERVICE &&
	       (conf->replicas.is_set || conf->rollout.is_set || conf->lb.is_set) &&
	       (conf->load == LOAD_LOADED || conf->load == LOAD_BAD);
}

static bool file_makes_set(struct core *c, const char *name)
{
	struct unit_conf *conf = unit_load(&c->path, name, NULL);
	bool makes = conf_makes_set(conf);
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

static void snapshot_write(struct core *c, struct set *s, uint32_t revision, struct err *e)
{
	CLEANUP_FREE char *dir = revision_dir(c, s->name, revision);
	CLEANUP_FREE char *first =
		s->is_template ? unit_name_with_instance(s->template, "1") : xstrdup(s->template);
	if (mkdir_parents(dir, 0755) < 0 || unit_snapshot_write(&c->path, first, dir, e) < 0)
		log_warn(s->name, "cannot keep a snapshot of revision %u: %s", revision, e->text);
}

static char *member_name(const struct set *s, unsigned index)
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

static void join_set(struct core *c, struct set *s, struct unit *u)
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

static struct set *make_set(struct core *c, const struct unit_conf *conf)
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
		snapshot_write(c, s, 0, &e);
	remember_rollout(c, s);
	net_set_configure(c, s);
	return s;
}

static void load_members(struct core *c, struct set *s, unsigned from, unsigned to)
{
	for (unsigned i = from; i <= to && i <= SET_MEMBERS_MAX; i++) {
		if (s->members[i - 1])
			continue;
		CLEANUP_FREE char *name = member_name(s, i);
		put(c, name, 0, false);
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
		return load_revision(c, name, set, current);
	return read ? unit_conf_ref(read) : unit_load(&c->path, name, NULL);
}

static struct unit *put_conf(struct core *c, const char *name, struct unit_conf *conf)
{
	struct unit *u;
	log_diagnostics(conf);
	u = world_put_unit(c->world, conf);
	store_attach(c, u);
	uc(u)->is_unread = conf->is_unread;
	if (conf->is_unread)
		note_unread(c, conf);
	if (!streq(u->name, name))
		world_put_alias(c->world, name, u);
	if (conf_makes_set(conf)) {
		struct set *s = make_set(c, conf);
		join_set(c, s, u);
		load_members(c, s, 1, s->count);
	}
	if (!u->set) /* a plan compares the texts of sets */
		unit_conf_drop_text(conf);
	return u;
}

static struct unit *put_read(struct core *c, const char *name, uint32_t revision, bool has_revision,
	struct unit_conf *read)
{
	struct unit *u = world_unit(c->world, name);
	if (u && u->core)
		return u;
	struct unit_conf *conf = conf_of(c, name, revision, has_revision, read);
	u = put_conf(c, name, conf);
	unit_conf_unref(conf);
	return u;
}

static struct unit *put(struct core *c, const char *name, uint32_t revision, bool has_revision)
{
	return put_read(c, name, revision, has_revision, NULL);
}

int store_load_closure(struct core *c)
{
	const char *name;
	for (unsigned i = 0; i < CLOSURE_MAX && world_missing(c->world, &name); i++) {
		CLEANUP_FREE char *copy = xstrdup(name);
		put(c, copy, 0, false);
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

static bool is_to_run(const struct unit *u)
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
		if (is_it && is_to_run(v))
			return v;
	}
	return NULL;
}

/* What it kept while it ran may be given up now; or it may not be started now. */
bool core_unit_is_outdated(const struct unit *u)
{
	const struct unit_core *x = uc(u);
	return core_unit_is_unread(u) ||
	       (x && ((x->is_stale && !is_to_run(u)) || runs_as(x->core, u)));
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
		u = put_read(c, name, 0, false, conf);
		unit_conf_unref(conf);
		store_load_closure(c);
	} else if (uc(u)->is_stale && !is_to_run(u)) {
		struct buf notes = {0};
		store_reload(c, &notes);
		buf_done(&notes);
		u = world_unit(c->world, name);
	} else if (uc(u)->is_unread) {
		struct buf notes = {0};
		reload_unit(c, u, &notes);
		configure_again(c);
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
		bool makes_set = conf_makes_set(conf) && (i == 1 || conf->replicas.is_set);
		if (!makes_set && conf->is_unread && conf->load == LOAD_BAD && unread)
			(void)load_says(conf, candidates[i], unread);
		unit_conf_unref(conf);
		if (makes_set) {
			put(c, candidates[i], 0, false);
			store_load_closure(c);
			return world_set(c->world, set);
		}
	}
	return NULL;
}

/* ---- after a restart of core ------------------------------------------------------------------------ */

struct unit *store_restore_unit(struct core *c, const char *name, const struct unit_rec *r)
{
	return put(c, name, r->revision, r->index != 0);
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
	struct unit *u = put_conf(c, name, conf);
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
		struct unit_conf *conf = load_revision(c, u->name, s->name, is_new ? from : to);
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
		load_members(c, s, 1, s->count);
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
			load_members(c, s, 1, r.count + r.surge);
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

/* ---- changes ------------------------------------------------------------------------------------------- */

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
	if (streq(conf->name, u->name) || is_to_run(u) || u->set)
		return false;
	world_pass_name(c->world, u, put_read(c, conf->name, 0, false, conf));
	return true;
}

static void reload_unit(struct core *c, struct unit *u, struct buf *notes)
{
	struct unit_conf *conf = u->set && u->rec.revision
					 ? load_revision(c, u->name, u->set->name, u->rec.revision)
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
		note_unread(c, conf);
	if (is_changed && !(was_unread && conf->is_unread)) /* said once, not at each try */
		log_diagnostics(conf);
	if (is_changed)
		note_diagnostics(conf, notes);
	if (is_changed || u->conf->exec.identity.user) /* which NSS may answer otherwise now */
		launcher_image_forget(u);
	if (is_kept && is_changed)
		keep_conf(u, conf, notes);
	if (!is_kept && is_changed) {
		world_put_unit(c->world, conf);
		if (!was_whole && conf_makes_set(conf) && !u->set) {
			struct set *s = make_set(c, conf);
			join_set(c, s, u);
			load_members(c, s, 1, s->count);
		}
		if (u->set && !u->rec.revision && u->rec.index == 1) {
			struct err e = {0};
			unit_conf_unref(sc(u->set)->conf);
			sc(u->set)->conf = unit_conf_ref(conf);
			snapshot_write(c, u->set, 0, &e);
		}
		if (u->set)
			sc(u->set)->is_conf_new = true;
		else
			unit_conf_drop_text(conf);
	}
	unit_conf_unref(conf);
}

/* When all its members have their new settings: each has rows where those say. */
static void configure_again(struct core *c)
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
			reload_unit(c, c->world->units[i], &notes);
	buf_done(&notes);
	configure_again(c);
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
		reload_unit(c, c->world->units[i], notes);
	configure_again(c);
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

int core_scale(struct core *c, struct set *s, unsigned count, uint64_t request, const char *actor,
	struct err *e)
{
	if (!s->is_template)
		return err_set(e, -EINVAL, "%s is not a template unit: it cannot have replicas",
			s->template);
	if (count > SET_MEMBERS_MAX)
		return err_set(e, -ERANGE, "at most %d replicas", SET_MEMBERS_MAX);
	const struct replicas_conf *r = &sc(s)->conf->replicas;
	if (r->port_first && count > (unsigned)(r->port_last - r->port_first + 1))
		return err_set(e, -ERANGE, "Ports=%u-%u is too small for %u replicas",
			r->port_first, r->port_last, count);
	load_members(c, s, 1, count);
	store_load_closure(c);
	struct request q = {
		.id = request, .verb = REQ_SCALE, .set = s, .number = count, .actor = actor};
	return core_submit(c, &q);
}

static int check_release(const struct set *s, const char *release, struct err *e)
{
	const struct rollout_conf *r = &sc(s)->conf->rollout;
	struct stat st;
	if (!release_name_is_valid(release))
		return err_set(e, -EINVAL, "'%s' is not a release name", release);
	if (!r->release_root)
		return 0;
	CLEANUP_FREE char *dir = xasprintf("%s/%s", r->release_root, release);
	if (stat(dir, &st) < 0)
		return err_set(e, -ENOENT, "release %s: %s: %s", release, dir, errno_name(errno));
	if (!S_ISDIR(st.st_mode))
		return err_set(e, -ENOTDIR, "release %s: %s is not a directory", release, dir);
	return 0;
}

static int roll_to(struct core *c, struct set *s, uint32_t revision, const char *release,
	enum request_verb verb, unsigned pause_after, uint64_t request, const char *actor,
	struct err *e)
{
	struct err ignored = {0};
	CLEANUP_FREE char *first = member_name(s, 1);
	struct unit_conf *conf = load_revision(c, first, s->name, revision);
	int r = 0;
	if (conf->load != LOAD_LOADED) {
		r = err_set(e, -EBADMSG, "%s", unit_conf_error(conf));
		log_diagnostics(conf);
		unit_conf_unref(conf);
		return r;
	}
	unsigned surge = s->is_template ? amount_of(&conf->rollout.max_surge, s->count, true) : 0;
	unsigned members = MIN(s->count + surge, (unsigned)SET_MEMBERS_MAX);
	(void)ignored;
	load_members(c, s, 1, members);
	store_load_closure(c);
	for (unsigned i = 1; i <= members; i++) {
		struct unit *u = s->members[i - 1];
		if (!u)
			continue;
		struct unit_conf *next = load_revision(c, u->name, s->name, revision);
		world_set_next_conf(c->world, u, next, revision, release);
		unit_conf_unref(next);
	}
	unit_conf_unref(conf);
	struct request q = {.id = request,
		.verb = verb,
		.set = s,
		.number = revision,
		.pause_after = pause_after,
		.release = release,
		.actor = actor};
	r = core_submit(c, &q);
	if (rollout_is_active(s))
		net_set_configure(c, s);
	return r;
}

int core_deploy(struct core *c, struct set *s, const char *release, unsigned pause_after,
	uint64_t request, const char *actor, struct err *e)
{
	if (rollout_is_active(s))
		return err_set(e, -EBUSY, "rollout d-%llu of %s is %s, begun by %s",
			(unsigned long long)s->rollout.id, s->name,
			rollout_state_name(s->rollout.state), s->rollout.actor);
	char name[RELEASE_NAME_MAX + 1];
	str_copy(name, release && *release ? release : s->release, sizeof(name));
	if (name[0]) {
		int r = check_release(s, release && *release ? release : name, e);
		if (r < 0)
			return r;
	}
	journal_prune_failed(c, s);
	uint32_t revision = ++sc(s)->last_revision;
	CLEANUP_FREE char *dir = revision_dir(c, s->name, revision);
	CLEANUP_FREE char *first = member_name(s, 1);
	CLEANUP_FREE char *sub = xasprintf("revisions/%u/release", revision);
	CLEANUP_FREE char *line = xasprintf("%s\n", name);
	int r = mkdir_parents(dir, 0755);
	if (r < 0)
		return err_set(e, r, "%s: %s", dir, errno_name(r));
	r = unit_snapshot_write(&c->path, first, dir, e);
	if (r < 0)
		return r;
	r = state_write(c, s->name, sub, line);
	if (r < 0)
		return err_set(e, r, "%s: %s", sub, errno_name(r));
	return roll_to(c, s, revision, name, REQ_DEPLOY, pause_after, request, actor, e);
}

int core_undo(struct core *c, struct set *s, uint32_t revision, uint64_t request, const char *actor,
	struct err *e)
{
	if (rollout_is_active(s))
		return err_set(e, -EBUSY, "rollout d-%llu of %s is %s",
			(unsigned long long)s->rollout.id, s->name,
			rollout_state_name(s->rollout.state));
	if (!revision) {
		if (s->rollout.state != ROLL_DONE)
			return err_set(e, -ENOENT, "no completed rollout to undo");
		revision = s->rollout.from_revision;
	}
	char release[RELEASE_NAME_MAX + 1] = "";
	CLEANUP_FREE char *dir = revision_dir(c, s->name, revision);
	CLEANUP_FREE char *sub = xasprintf("revisions/%u/release", revision);
	struct buf b = {0};
	if (access(dir, R_OK) < 0)
		return errno == ENOENT ? err_set(e, -ENOENT, "no revision %u of %s is kept",
						 revision, s->name)
				       : err_set(e, -errno, "%s cannot be read: %s", dir,
						 errno_name(errno));
	if (state_read(c, s->name, sub, &b) == 0)
		(void)sscanf(b.data, "%63s", release);
	else if (revision == s->rollout.from_revision)
		str_copy(release, s->rollout.from_release, sizeof(release));
	buf_done(&b);
	return roll_to(c, s, revision, release, REQ_UNDO, 0, request, actor, e);
}
