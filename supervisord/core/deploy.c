/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What begins a change of a set: scale, deploy, undo. Each is checked and made durable here, and asked of
 * the model, which does it.
 */
#include "core/store.h"

#include <sys/stat.h>

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
	store_load_members(c, s, 1, count);
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
	CLEANUP_FREE char *first = store_member_name(s, 1);
	struct unit_conf *conf = store_load_revision(c, first, s->name, revision);
	int r = 0;
	if (conf->load != LOAD_LOADED) {
		r = err_set(e, -EBADMSG, "%s", unit_conf_error(conf));
		store_log_diagnostics(conf);
		unit_conf_unref(conf);
		return r;
	}
	unsigned surge = s->is_template ? amount_of(&conf->rollout.max_surge, s->count, true) : 0;
	unsigned members = MIN(s->count + surge, (unsigned)SET_MEMBERS_MAX);
	store_load_members(c, s, 1, members);
	store_load_closure(c);
	for (unsigned i = 1; i <= members; i++) {
		struct unit *u = s->members[i - 1];
		if (!u)
			continue;
		struct unit_conf *next = store_load_revision(c, u->name, s->name, revision);
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
	CLEANUP_FREE char *dir = store_revision_dir(c, s->name, revision);
	CLEANUP_FREE char *first = store_member_name(s, 1);
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
	CLEANUP_FREE char *dir = store_revision_dir(c, s->name, revision);
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
