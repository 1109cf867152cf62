/* SPDX-License-Identifier: Apache-2.0 */
/*
 * [Install]: the links that enable a unit, made and removed.
 *
 *  1. Links are made in one place: the first directory of the unit path (or, for this boot only,
 *     the first one below the runtime directory).
 *  2. An existing file or a link that leads elsewhere is never replaced.
 *  3. What cannot be looked at is an error, with its name: "done" means that the links are as asked.
 *  4. Also= is followed once per unit; at most ALSO_MAX units.
 *
 * Called by core for enable, disable and unit listings.
 */
#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>

#include "load.h"
#include "stayd/stayd.h"

#define ALSO_MAX 64

static const char *link_dir(const struct unit_path *p, bool is_runtime)
{
	for (size_t i = 0; is_runtime && i < p->dirs.n; i++)
		if (p->runtime_dir && startswith(p->dirs.v[i], p->runtime_dir))
			return p->dirs.v[i];
	return p->dirs.n && !is_runtime ? p->dirs.v[0] : NULL;
}

/* Specifiers in [Install] values are expanded now, with the unit's own name. */
static char *expand(const struct unit_path *path, const struct unit_conf *c, const char *s)
{
	struct arena a = {0};
	struct unit_conf copy = *c;
	copy.diagnostics = NULL; /* c's have no room for another: it does not change */
	copy.n_diagnostics = 0;
	struct parser p = {.conf = &copy, .arena = &a, .path = path, .file = c->name};
	char *e = strchr(s, '%') ? specifier_expand(&p, s) : NULL;
	char *out = xstrdup(e ? e : s);
	arena_done(&a);
	return out;
}

static int make_link(const char *path, const char *target, struct strv *changes, struct err *e)
{
	char now[PATH_MAX];
	CLEANUP_FREE char *dir = xstrndup(path, (size_t)(strrchr(path, '/') - path));
	int r = mkdir_parents(dir, 0755);
	if (r < 0)
		return err_set(e, r, "cannot make %s: %s", dir, errno_name(-r));
	if (symlink(target, path) == 0) {
		strv_add_take(changes, xasprintf("created %s -> %s", path, target));
		return 0;
	}
	if (errno != EEXIST)
		return err_set(e, -errno, "cannot make %s: %s", path, errno_name(errno));
	ssize_t n = readlink(path, now, sizeof(now) - 1);
	if (n < 0)
		return err_set(e, -EEXIST, "%s exists and is not a link", path);
	now[n] = '\0';
	const char *slash = strrchr(target, '/'), *had = strrchr(now, '/');
	if (streq(slash ? slash + 1 : target, had ? had + 1 : now))
		return 0;
	return err_set(e, -EEXIST, "%s exists and leads to %s", path, now);
}

/* The name of the unit that goes below X.wants: a template takes its DefaultInstance=. */
static char *enabled_name(const struct unit_conf *c)
{
	if (strstr(c->name, "@.") && c->install.default_instance)
		return unit_name_with_instance(c->name, c->install.default_instance);
	return xstrdup(c->name);
}

static int link_group(const struct unit_path *p, const struct unit_conf *c, const char *dir,
	const struct conf_list *l, const char *suffix, struct strv *changes, struct err *e)
{
	CLEANUP_FREE char *name = enabled_name(c);
	int r = 0;
	for (size_t i = 0; i < l->n && r == 0; i++) {
		CLEANUP_FREE char *owner = expand(p, c, l->v[i]);
		CLEANUP_FREE char *link = xasprintf("%s/%s.%s/%s", dir, owner, suffix, name);
		if (!unit_name_is_valid(owner))
			return err_set(e, -EINVAL, "'%s' in [Install] is not a unit name", owner);
		if (!unit_name_is_valid(name)) /* it would be a link to anywhere, "/" and all */
			return err_set(e, -EINVAL,
				"DefaultInstance= of %s is no part of a unit name", c->name);
		if (strstr(name, "@."))
			return err_set(e, -EINVAL,
				"%s is a template without DefaultInstance=; enable "
				"an instance of it",
				name);
		r = make_link(link, c->fragment_path, changes, e);
	}
	return r;
}

static int link_aliases(const struct unit_path *p, const struct unit_conf *c, const char *dir,
	struct strv *changes, struct err *e)
{
	int r = 0;
	for (size_t i = 0; i < c->install.alias.n && r == 0; i++) {
		CLEANUP_FREE char *alias = expand(p, c, c->install.alias.v[i]);
		CLEANUP_FREE char *link = xasprintf("%s/%s", dir, alias);
		if (!unit_name_is_valid(alias) || unit_name_type(alias) != c->type)
			return err_set(
				e, -EINVAL, "Alias=%s is not a name of the same type", alias);
		r = make_link(link, c->fragment_path, changes, e);
	}
	return r;
}

static int enable_one(const struct unit_path *p, const struct unit_conf *c, const char *dir,
	struct strv *changes, struct err *e)
{
	int r = link_group(p, c, dir, &c->install.wanted_by, "wants", changes, e);
	if (r == 0)
		r = link_group(p, c, dir, &c->install.required_by, "requires", changes, e);
	return r < 0 ? r : link_aliases(p, c, dir, changes, e);
}

/* Calls fn for the unit and, once each, for what its Also= names. */
static int each_also(const struct unit_path *p, const char *name, struct err *e,
	int (*fn)(const struct unit_path *p, const struct unit_conf *c, const char *dir,
		struct strv *changes, struct err *e),
	const char *dir, struct strv *changes)
{
	struct strv todo = {0};
	int r = 0;
	strv_add(&todo, name);
	for (size_t i = 0; i < todo.n && i < ALSO_MAX && r == 0; i++) {
		struct unit_conf *c = unit_load(p, todo.v[i], NULL);
		if (c->is_unread) /* its [Install] may be in what is missing */
			r = err_set(e, -EIO, "%s: %s", todo.v[i], unit_conf_error(c));
		else if (c->load == LOAD_MASKED)
			r = err_set(e, -ESHUTDOWN, "%s is masked", todo.v[i]);
		else if (!c->fragment_path || c->load == LOAD_NOT_FOUND)
			r = i == 0 ? err_set(e, -ENOENT, "there is no unit file for %s", todo.v[i])
				   : 0;
		else
			r = fn(p, c, dir, changes, e);
		for (size_t k = 0; k < c->install.also.n; k++) {
			char *also = expand(p, c, c->install.also.v[k]);
			if (strv_has(&todo, also) || !unit_name_is_valid(also))
				free(also);
			else
				strv_add_take(&todo, also);
		}
		unit_conf_unref(c);
	}
	strv_done(&todo);
	return r;
}

int unit_enable(const struct unit_path *p, const char *name, bool is_runtime,
	struct strv *ret_changes, struct err *e)
{
	const char *dir = link_dir(p, is_runtime);
	if (!unit_name_is_valid(name))
		return err_set(e, -EINVAL, "'%s' is not a unit name", name);
	if (!dir)
		return err_set(e, -ENOENT, "the unit path has no %sdirectory for links",
			is_runtime ? "runtime " : "");
	return each_also(p, name, e, enable_one, dir, ret_changes);
}

/* ---- disable: every link named so, or leading to a file named so, in any directory ---- */

/* error: an errno; what is not there any more is as it should be. */
static int cannot_look(const char *path, int error, struct err *e)
{
	return is_absence(error)
		       ? 0
		       : err_set(e, -error, "cannot look at %s: %s", path, errno_name(error));
}

/* 1, 0 or -errno. */
static int leads_to(const char *link, const char *name, struct err *e)
{
	char target[PATH_MAX];
	ssize_t n = readlink(link, target, sizeof(target) - 1);
	if (n < 0)
		return cannot_look(link, errno, e);
	target[n] = '\0';
	const char *slash = strrchr(target, '/');
	return streq(slash ? slash + 1 : target, name);
}

static int remove_link(const char *path, struct strv *changes, struct err *e)
{
	if (unlink(path) < 0 && errno != ENOENT)
		return err_set(e, -errno, "cannot remove %s: %s", path, errno_name(errno));
	strv_add_take(changes, xasprintf("removed %s", path));
	return 0;
}

static int unlink_one(
	const char *path, const char *name, bool aliases, struct strv *changes, struct err *e)
{
	struct stat st;
	bool is_same = streq(strrchr(path, '/') + 1, name);
	if (lstat(path, &st) < 0)
		return cannot_look(path, errno, e);
	if (!S_ISLNK(st.st_mode) || (aliases && is_same))
		return 0;
	int r = is_same ? 1 : leads_to(path, name, e);
	return r > 0 ? remove_link(path, changes, e) : r;
}

/* Goes on after an error: what can be removed is. The first one is told. */
static int unlink_in(
	const char *dir, const char *name, bool aliases, struct strv *changes, struct err *e)
{
	DIR *d = dir_open(dir);
	struct dirent *ent;
	int result = 0;
	while (d && (ent = dir_next(d))) {
		CLEANUP_FREE char *path = xasprintf("%s/%s", dir, ent->d_name);
		struct err ignored;
		if (unit_name_is_valid(ent->d_name)) {
			int r = unlink_one(path, name, aliases, changes, result ? &ignored : e);
			result = result ? result : r;
		}
	}
	if (errno && result == 0) /* of dir_open() or dir_next() */
		result = cannot_look(dir, errno, e);
	if (d)
		closedir(d);
	return result;
}

/* Vendors' directories (lib) are not ours; what stands in /etc and /run and in a user's is, and where
 * enable makes its links. */
static bool is_ours(const struct unit_path *p, size_t i)
{
	const char *dir = p->dirs.v[i];
	return i == 0 || (!startswith(dir, "/usr/") && !startswith(dir, "/lib/"));
}

/* Links to it in one directory of the path: in those of links, and aliases. */
static int disable_in(const char *dir, const char *name, struct strv *changes, struct err *e)
{
	DIR *d = dir_open(dir);
	struct dirent *ent;
	int result = 0;
	while (d && (ent = dir_next(d))) {
		CLEANUP_FREE char *links = xasprintf("%s/%s", dir, ent->d_name);
		struct err ignored;
		if (endswith(ent->d_name, ".wants") || endswith(ent->d_name, ".requires")) {
			int r = unlink_in(links, name, false, changes, result ? &ignored : e);
			result = result ? result : r;
		}
	}
	if (errno && result == 0) /* of dir_open() or dir_next() */
		result = cannot_look(dir, errno, e);
	if (d)
		closedir(d);
	return result ? result : unlink_in(dir, name, true, changes, e);
}

static int disable_one(const struct unit_path *p, const struct unit_conf *c, const char *unused,
	struct strv *changes, struct err *e)
{
	(void)unused;
	int result = 0;
	for (size_t i = 0; i < p->dirs.n; i++)
		if (is_ours(p, i)) {
			struct err ignored;
			int r = disable_in(p->dirs.v[i], c->name, changes, result ? &ignored : e);
			result = result ? result : r;
		}
	return result;
}

int unit_disable(
	const struct unit_path *p, const char *name, struct strv *ret_changes, struct err *e)
{
	if (!unit_name_is_valid(name))
		return err_set(e, -EINVAL, "'%s' is not a unit name", name);
	return each_also(p, name, e, disable_one, NULL, ret_changes);
}

/* ---- state ---- */

/* 1, 0 or -errno. */
static int has_link(
	const struct unit_path *p, const char *owner, const char *suffix, const char *name)
{
	CLEANUP_FREE char *entry = xasprintf("%s.%s", owner, suffix);
	uint64_t dirs = unit_cache_lookup(p, entry);
	for (size_t i = 0; dirs; i++, dirs >>= 1) {
		CLEANUP_FREE char *link = xasprintf("%s/%s/%s", p->dirs.v[i], entry, name);
		struct stat st;
		if ((dirs & 1) && lstat(link, &st) == 0)
			return 1;
		if ((dirs & 1) && !is_absence(errno))
			return -errno;
	}
	return 0;
}

/* 1, 0 or -errno. */
static int is_enabled(const struct unit_path *p, const struct unit_conf *c)
{
	CLEANUP_FREE char *name = enabled_name(c);
	const struct install_conf *n = &c->install;
	int r = 0;
	for (size_t i = 0; i < n->wanted_by.n && r == 0; i++) {
		CLEANUP_FREE char *owner = expand(p, c, n->wanted_by.v[i]);
		r = has_link(p, owner, "wants", name);
	}
	for (size_t i = 0; i < n->required_by.n && r == 0; i++) {
		CLEANUP_FREE char *owner = expand(p, c, n->required_by.v[i]);
		r = has_link(p, owner, "requires", name);
	}
	for (size_t i = 0; i < n->alias.n && r == 0; i++) {
		CLEANUP_FREE char *alias = expand(p, c, n->alias.v[i]);
		r = unit_cache_lookup(p, alias) != 0;
	}
	return r;
}

const char *unit_file_state(const struct unit_path *p, const char *name)
{
	if (!unit_name_is_valid(name))
		return "not-found";
	unit_cache_refresh(p);
	struct unit_found f;
	unit_find(p, name, &f);
	struct unit_conf *c = unit_load(p, name, NULL);
	const struct install_conf *n = &c->install;
	const char *state = "static";
	int enabled = c->is_unread ? -EIO : 0;
	if (enabled == 0 && !f.is_masked && f.file && streq(f.name, name))
		enabled = is_enabled(p, c);
	if (enabled < 0)
		state = "bad"; /* systemd's word too */
	else if (f.is_masked)
		state = "masked";
	else if (!f.file)
		state = builtin_text(f.name) ? "static" : "not-found";
	else if (!streq(f.name, name))
		state = "alias";
	else if (enabled)
		state = "enabled";
	else if (n->wanted_by.n || n->required_by.n || n->alias.n)
		state = "disabled";
	else if (n->also.n)
		state = "indirect";
	unit_found_done(&f);
	unit_conf_unref(c);
	return state;
}
