/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where units are looked for, and what is there: listings of the directories, kept in memory.
 *
 *  1. A listing is trusted as long as the directory's identity and mtime are the same and its
 *     mtime was not "just now" when it was read (a change in the same clock tick is invisible).
 *  2. Loading a unit costs one stat per directory and a few map look-ups, not a scan.
 *  3. A directory that cannot be looked into is not an empty one: its error is kept with the listing,
 *     and each refresh tries it again.
 *  4. At most UNIT_DIRS_MAX directories; further ones are dropped. Directories that are the same
 *     (merged /usr) count once.
 *
 * Called by load.c and install.c; the cache hangs off struct unit_path.
 */
#include <dirent.h>
#include <limits.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "internal.h"
#include "stayd/stayd.h"

#define UNIT_DIRS_MAX 64
#define FRESH_US      (20 * 1000ULL) /* two ticks of the slowest kernel clock */

struct dir_state {
	dev_t dev;
	ino_t ino;
	struct timespec mtime;
	bool exists, is_fresh; /* is_fresh: read within FRESH_US of its mtime */
	int error;             /* what kept us from seeing all of it; 0 = nothing */
};

struct cache_entry {
	uint64_t dirs;
	struct strv aliases; /* links with another name that end here */
};

struct unit_cache {
	struct dir_state dirs[UNIT_DIRS_MAX];
	size_t n_dirs;
	bool is_valid;
	struct map names;
	struct arena arena;
};

struct unit_cache *unit_cache_new(void)
{
	return xcalloc(1, sizeof(struct unit_cache));
}

static void forget(struct unit_cache *c)
{
	size_t pos = 0;
	void *value;
	while (map_next(&c->names, &pos, NULL, &value))
		strv_done(&((struct cache_entry *)value)->aliases);
	map_done(&c->names);
	arena_done(&c->arena);
	c->names = (struct map){0};
	c->arena = (struct arena){0};
	c->is_valid = false;
}

struct unit_cache *unit_cache_free(struct unit_cache *c)
{
	if (c) {
		forget(c);
		free(c);
	}
	return NULL;
}

static struct dir_state look_at(const char *path)
{
	struct stat st;
	struct dir_state d = {0};
	if (stat(path, &st) < 0) {
		d.error = is_absence(errno) ? 0 : errno;
		return d;
	}
	if (!S_ISDIR(st.st_mode))
		return d;
	d.dev = st.st_dev;
	d.ino = st.st_ino;
	d.mtime = st.st_mtim;
	d.exists = true;
	uint64_t t =
		(uint64_t)st.st_mtim.tv_sec * USEC_PER_SEC + (uint64_t)st.st_mtim.tv_nsec / 1000;
	d.is_fresh = now_wall_us() < t + FRESH_US;
	return d;
}

static bool is_same(const struct dir_state *a, const struct dir_state *b)
{
	return a->exists == b->exists && a->dev == b->dev && a->ino == b->ino &&
	       a->mtime.tv_sec == b->mtime.tv_sec && a->mtime.tv_nsec == b->mtime.tv_nsec;
}

static struct cache_entry *entry_of(struct unit_cache *c, const char *name)
{
	struct cache_entry *e = map_get(&c->names, name);
	if (!e) {
		e = arena_alloc(&c->arena, sizeof(*e));
		(void)map_put(&c->names, arena_strdup(&c->arena, name), e);
	}
	return e;
}

static int note_alias(struct unit_cache *c, int dirfd, const char *name)
{
	char target[PATH_MAX];
	ssize_t n = readlinkat(dirfd, name, target, sizeof(target) - 1);
	if (n <= 0)
		return n < 0 && !is_absence(errno) ? errno : 0;
	target[n] = '\0';
	const char *slash = strrchr(target, '/'), *base = slash ? slash + 1 : target;
	if (!streq(base, name) && unit_name_is_valid(base) && unit_name_is_valid(name) &&
		unit_name_type(base) == unit_name_type(name)) {
		struct cache_entry *e = entry_of(c, base);
		if (!strv_has(&e->aliases, name))
			strv_add(&e->aliases, name);
	}
	return 0;
}

static void scan(struct unit_cache *c, const char *path, size_t i)
{
	DIR *d = dir_open(path);
	struct dirent *e;
	int error = 0;
	while (d && (e = dir_next(d)))
		if (e->d_name[0] != '.' && strchr(e->d_name, '.')) {
			entry_of(c, e->d_name)->dirs |= 1ULL << i;
			if (e->d_type == DT_LNK)
				error = note_alias(c, dirfd(d), e->d_name) ?: error;
		}
	if (errno && !is_absence(errno)) /* of dir_open(), or of the last dir_next() */
		error = errno;
	c->dirs[i].error = error;
	if (d)
		closedir(d);
}

/* One that could not be looked into may be open by now, without any other sign of it. */
static bool is_still_closed(const char *path, struct dir_state *now, int error)
{
	DIR *d = now->exists ? opendir(path) : NULL;
	if (d)
		closedir(d);
	now->error = now->error ?: error;
	return !d;
}

void unit_cache_refresh(const struct unit_path *p)
{
	struct unit_cache *c = p->cache;
	assert(c); /* a struct unit_path comes from unit_path_default() */
	size_t n = MIN(p->dirs.n, (size_t)UNIT_DIRS_MAX);
	bool is_same_set = c->is_valid && c->n_dirs == n;
	for (size_t i = 0; i < n; i++) {
		struct dir_state now = look_at(p->dirs.v[i]), *was = &c->dirs[i];
		bool is_as_known = is_same(&now, was) && !was->is_fresh;
		if (is_as_known && was->error)
			is_as_known = is_still_closed(p->dirs.v[i], &now, was->error);
		is_same_set &= is_as_known;
		*was = now;
	}
	if (is_same_set)
		return;
	forget(c);
	c->n_dirs = n;
	for (size_t i = 0; i < n; i++) {
		bool is_double = !c->dirs[i].exists;
		for (size_t k = 0; k < i; k++)
			is_double |= c->dirs[k].exists && c->dirs[k].dev == c->dirs[i].dev &&
				     c->dirs[k].ino == c->dirs[i].ino;
		if (!is_double)
			scan(c, p->dirs.v[i], i);
	}
	c->is_valid = true;
}

uint64_t unit_cache_lookup(const struct unit_path *p, const char *entry)
{
	const struct cache_entry *e = map_get(&p->cache->names, entry);
	return e ? e->dirs : 0;
}

const struct strv *unit_cache_aliases(const struct unit_path *p, const char *name)
{
	const struct cache_entry *e = map_get(&p->cache->names, name);
	return e && e->aliases.n ? &e->aliases : NULL;
}

int unit_path_error(const struct unit_path *p, const char **ret_dir)
{
	for (size_t i = 0; i < p->cache->n_dirs; i++)
		if (p->cache->dirs[i].error) {
			*ret_dir = p->dirs.v[i];
			return p->cache->dirs[i].error;
		}
	return 0;
}

bool unit_cache_next(const struct unit_path *p, size_t *pos, const char **ret_name)
{
	void *value;
	while (map_next(&p->cache->names, pos, ret_name, &value))
		if (((struct cache_entry *)value)->dirs)
			return true;
	return false;
}

static int compare_names(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

int unit_list_files(const struct unit_path *p, struct strv *ret_names)
{
	size_t pos = 0, from = ret_names->n;
	const char *name;
	unit_cache_refresh(p);
	while (unit_cache_next(p, &pos, &name))
		if (unit_name_is_valid(name))
			strv_add(ret_names, name);
	if (ret_names->n > from)
		qsort(ret_names->v + from, ret_names->n - from, sizeof(char *), compare_names);
	return 0;
}

/* ---- defaults ---- */

static const char *const system_dirs[] = {"/etc/stayd/units", "/run/stayd/units",
	"/usr/local/lib/stayd/units", "/usr/lib/stayd/units", "/etc/systemd/system",
	"/run/systemd/system", "/usr/local/lib/systemd/system", "/usr/lib/systemd/system",
	"/lib/systemd/system"};

bool unit_dir_is_vendor_systemd(const char *dir)
{
	return streq(dir, "/usr/lib/systemd/system") || streq(dir, "/lib/systemd/system");
}

/* $NAME when it is an absolute path, else HOME/fallback. */
static char *xdg(const char *name, const char *fallback)
{
	const char *v = getenv(name), *home = getenv("HOME");
	if (v && v[0] == '/')
		return xstrdup(v);
	return xasprintf("%s/%s", home && home[0] == '/' ? home : "/nonexistent", fallback);
}

static void add_split(struct strv *l, const char *s)
{
	while (*s) {
		size_t n = strcspn(s, ":");
		if (n && l->n < UNIT_DIRS_MAX)
			strv_add_take(l, xstrndup(s, n));
		s += n + (s[n] == ':');
	}
}

static void set_user_dirs(struct unit_path *p, bool with_units)
{
	static const char *const tails[] = {"stayd/units", "systemd/user"};
	CLEANUP_FREE char *data = xdg("XDG_DATA_HOME", ".local/share");
	p->config_dir = xdg("XDG_CONFIG_HOME", ".config");
	p->cache_dir = xdg("XDG_CACHE_HOME", ".cache");
	p->state_dir = xdg("XDG_STATE_HOME", ".local/state");
	p->logs_dir = xasprintf("%s/log", p->state_dir);
	const char *run = getenv("XDG_RUNTIME_DIR");
	p->runtime_dir = run && run[0] == '/' ? xstrdup(run)
					      : xasprintf("/run/user/%u", (unsigned)geteuid());
	for (size_t i = 0; with_units && i < ARRAY_SIZE(tails); i++) {
		strv_add_take(&p->dirs, xasprintf("%s/%s", p->config_dir, tails[i]));
		strv_add_take(&p->dirs, xasprintf("%s/%s", p->runtime_dir, tails[i]));
		strv_add_take(&p->dirs, xasprintf("%s/%s", data, tails[i]));
	}
	if (with_units) {
		strv_add(&p->dirs, "/etc/systemd/user");
		strv_add(&p->dirs, "/usr/lib/systemd/user");
	}
}

void unit_path_default(struct unit_path *p, const char *path_arg)
{
	*p = (struct unit_path){.cache = unit_cache_new()};
	if (path_arg)
		add_split(&p->dirs, path_arg);
	if (geteuid() != 0) {
		set_user_dirs(p, !path_arg);
		return;
	}
	p->is_system = true;
	p->runtime_dir = xstrdup("/run");
	p->state_dir = xstrdup("/var/lib");
	p->cache_dir = xstrdup("/var/cache");
	p->logs_dir = xstrdup("/var/log");
	p->config_dir = xstrdup("/etc");
	for (size_t i = 0; !path_arg && i < ARRAY_SIZE(system_dirs); i++)
		strv_add(&p->dirs, system_dirs[i]);
}

void unit_path_done(struct unit_path *p)
{
	strv_done(&p->dirs);
	free(p->runtime_dir);
	free(p->state_dir);
	free(p->cache_dir);
	free(p->logs_dir);
	free(p->config_dir);
	unit_cache_free(p->cache);
	*p = (struct unit_path){0};
}
