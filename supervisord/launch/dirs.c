/* SPDX-License-Identifier: Apache-2.0 */
/*
 * RuntimeDirectory= and its relatives: made before the start, taken away after the stop.
 *
 *  1. Every step below the root is by descriptor and follows no symbolic link, so that the unit's
 *     user, who owns the leaves, cannot turn a later chown or removal against anything else.
 *  2. A directory that is there with the right owner is left as it is but for its mode; one with another
 *     owner, where that may be somebody's work, is an error.
 *  3. Walks are iterative and at most TREE_DEPTH_MAX deep; what is deeper stays and is an error.
 *  4. Core removes ENTRIES_AT_ONCE itself. What has more is put aside, so that the next start makes its
 *     own, and removed by a child of the launcher: how many files there are is the service's choice.
 *     What is left of it when that child was killed goes with the next such removal, or the next start.
 *
 * child_make_dirs() runs in forked children only (it opens directory streams); the clean-up runs
 * in core.
 */
#include "parts.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>

#define TREE_DEPTH_MAX  128
#define ENTRIES_AT_ONCE 1000
#define GONE_PREFIX     ".stayd-gone-"
#define GONE_DIGITS     16
#define LEFT_OVER_MAX   16    /* a process each */
#define LEFT_OVER_LOOKS 10000 /* entries of /tmp, which anybody fills */
#define EARLIER_LOOKS   1000  /* of them at each stop */

enum tree_action { TREE_CHOWN, TREE_REMOVE };

struct tree {
	enum tree_action action;
	uint32_t uid, gid, from_uid;
	DIR *stack[TREE_DEPTH_MAX];
	char names[TREE_DEPTH_MAX][NAME_MAX + 1];
	size_t depth;
	size_t n, n_max; /* entries looked at; 0: no bound */
	int error;
};

static void tree_enter(struct tree *t, int at, const char *name)
{
	int fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	if (!d || t->depth == TREE_DEPTH_MAX) {
		t->error = d ? -ELOOP : -errno;
		if (d)
			closedir(d);
		else if (fd >= 0)
			close(fd);
		return;
	}
	str_copy(t->names[t->depth], name, sizeof(t->names[0]));
	t->stack[t->depth++] = d;
}

/* A file that has more names may be anybody's, put there by who had the directory: it changes hands
 * only if it was his own. */
static int give_entry(const struct tree *t, int at, const char *name, struct stat *st)
{
	CLEANUP_CLOSE int fd = openat(at, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0 || fstat(fd, st) < 0)
		return -errno;
	bool is_anybodys = !S_ISDIR(st->st_mode) && st->st_nlink > 1 && st->st_uid != t->from_uid;
	return is_anybodys || fchownat(fd, "", t->uid, t->gid, AT_EMPTY_PATH) == 0 ? 0 : -errno;
}

static void tree_entry(struct tree *t, const struct dirent *e)
{
	int at = dirfd(t->stack[t->depth - 1]);
	struct stat st;
	if (streq(e->d_name, ".") || streq(e->d_name, ".."))
		return;
	int r = t->action == TREE_CHOWN ? give_entry(t, at, e->d_name, &st)
		: fstatat(at, e->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0 ? -errno
								       : 0;
	if (r == -ENOENT)
		return;
	if (r < 0) {
		t->error = r;
		return;
	}
	if (S_ISDIR(st.st_mode))
		tree_enter(t, at, e->d_name);
	else if (t->action == TREE_REMOVE && unlinkat(at, e->d_name, 0) < 0)
		t->error = -errno;
}

static void tree_leave(struct tree *t)
{
	closedir(t->stack[--t->depth]);
	if (t->action == TREE_REMOVE && t->depth > 0 &&
		unlinkat(dirfd(t->stack[t->depth - 1]), t->names[t->depth], AT_REMOVEDIR) < 0)
		t->error = -errno;
}

static int tree_give_up(struct tree *t)
{
	while (t->depth)
		closedir(t->stack[--t->depth]);
	return -EAGAIN;
}

/* Everything below at/name; at/name itself is the caller's. -EAGAIN: there are more than n_max. */
static int tree_walk(struct tree *t, int at, const char *name)
{
	tree_enter(t, at, name);
	while (t->depth) {
		if (t->n_max && t->n++ >= t->n_max)
			return tree_give_up(t);
		struct dirent *e = readdir(t->stack[t->depth - 1]);
		if (e)
			tree_entry(t, e);
		else
			tree_leave(t);
	}
	return t->error;
}

/* ---- making ---- */

static int stage_of(uint32_t kind)
{
	static const int stages[DIR_KIND_MAX] = {EXIT_RUNTIME_DIRECTORY, EXIT_STATE_DIRECTORY,
		EXIT_CACHE_DIRECTORY, EXIT_LOGS_DIRECTORY, EXIT_CONFIGURATION_DIRECTORY};
	return stages[kind];
}

struct made {
	bool is_new;       /* the last part was made */
	bool is_others;    /* others than root can put something else in the place of the last part */
	bool is_others_at; /* and in that of what comes next */
};

static void look_who_has(struct made *m, int at)
{
	struct stat st;
	m->is_others = m->is_others_at;
	m->is_others_at |= fstat(at, &st) < 0 || st.st_uid != geteuid() || (st.st_mode & 022);
}

/* Opens root/name, making what is missing. */
static int open_made(const char *root, const char *name, struct made *ret)
{
	char part[NAME_MAX + 1];
	if (mkdir(root, 0755) < 0 && errno != EEXIST && errno != EROFS)
		return -errno;
	int at = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	*ret = (struct made){.is_new = false};
	while (at >= 0 && *name) {
		size_t n = strcspn(name, "/");
		if (n > NAME_MAX || (n == 2 && name[0] == '.' && name[1] == '.')) {
			close(at);
			return -EINVAL;
		}
		if (n && !(n == 1 && name[0] == '.')) {
			memcpy(part, name, n);
			part[n] = '\0';
			ret->is_new = mkdirat(at, part, 0755) == 0;
			int next =
				!ret->is_new && errno != EEXIST
					? -1
					: openat(at, part,
						  O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
			int error = errno;
			close(at);
			errno = error;
			at = next;
			if (at >= 0)
				look_who_has(ret, at);
		}
		name += n + (name[n] == '/');
	}
	return at < 0 ? -errno : at;
}

/* What somebody may have moved there is not given away: it can be root's, closed to all others, in a
 * directory of the service. */
static int give_directory(struct child *c, const struct plan_dir *d, int fd, const struct made *m)
{
	static struct tree t; /* too large for a stack; this process has no other use for it */
	uint32_t uid = c->plan->dir_uid, gid = c->plan->dir_gid;
	struct stat st;
	if (fstat(fd, &st) < 0)
		return -errno;
	bool is_ours = d->kind != DIR_CONFIGURATION && (uid != UINT32_MAX || gid != UINT32_MAX);
	bool is_wrong =
		(uid != UINT32_MAX && st.st_uid != uid) || (gid != UINT32_MAX && st.st_gid != gid);
	if (is_ours && is_wrong && m->is_others && !m->is_new)
		return -EPERM;
	if (is_ours && is_wrong) {
		t = (struct tree){
			.action = TREE_CHOWN, .uid = uid, .gid = gid, .from_uid = st.st_uid};
		int r = m->is_new ? 0 : tree_walk(&t, fd, ".");
		if (r < 0)
			return r;
		if (fchown(fd, uid, gid) < 0)
			return -errno;
	}
	if ((st.st_mode & 07777) != d->mode && fchmod(fd, d->mode) < 0)
		return -errno;
	return 0;
}

/* "name:link": root/link points to name; a link of ours from before is fine. */
static int make_link(const char *root, const char *link, const char *name)
{
	int at = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (at < 0)
		return -errno;
	int r = strchr(link, '/') ? -EINVAL : 0; /* would need a relative target: not supported */
	if (r == 0 && symlinkat(name, at, link) < 0 && errno != EEXIST)
		r = -errno;
	close(at);
	return r;
}

int child_make_dirs(struct child *c)
{
	const struct plan_dir *d = plan_at(c->plan, c->plan->dirs.off);
	for (uint32_t i = 0; i < c->plan->dirs.n; i++, d++) {
		const char *root = plan_str(c->plan, d->root), *name = plan_str(c->plan, d->name);
		struct made made;
		int fd = open_made(root, name, &made);
		int r = fd < 0 ? fd : give_directory(c, d, fd, &made);
		if (fd >= 0)
			close(fd);
		if (r == 0 && d->link)
			r = make_link(root, plan_str(c->plan, d->link), name);
		if (r < 0)
			return child_fail(c, stage_of(d->kind), -r, name);
	}
	return 0;
}

/* ---- cleaning up ---- */

static launch_remove_fn *remove_fn;
static void *remove_arg;

void launch_remove_by(launch_remove_fn *fn, void *arg)
{
	remove_fn = fn;
	remove_arg = arg;
}

static int remove_up_to(int at, const char *name, size_t n_max)
{
	struct tree *t = xcalloc(1, sizeof(*t));
	t->action = TREE_REMOVE;
	t->n_max = n_max;
	int r = tree_walk(t, at, name);
	if (r != -EAGAIN)
		(void)unlinkat(at, name, AT_REMOVEDIR);
	free(t);
	return r;
}

void dir_remove(int at, const char *name)
{
	(void)remove_up_to(at, name, 0);
}

/* Nobody else made it: it is in a directory that only we write to, or closed to all but us. */
static bool is_left_over(int at, const char *name, bool is_ours)
{
	const char *number = startswith(name, GONE_PREFIX) ? name + strlen(GONE_PREFIX) : "";
	struct stat st;
	return strlen(number) == GONE_DIGITS && strspn(number, "0123456789abcdef") == GONE_DIGITS &&
	       fstatat(at, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(st.st_mode) &&
	       (is_ours || (st.st_uid == geteuid() && (st.st_mode & 077) == 0));
}

static void remove_left_over(int dir)
{
	struct stat st;
	int at = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), n = 0, looks = 0;
	DIR *d = at < 0 ? NULL : fdopendir(at);
	if (!d) {
		fd_close(at);
		return;
	}
	bool is_ours = fstat(at, &st) == 0 && st.st_uid == geteuid() && (st.st_mode & 022) == 0;
	for (struct dirent *e; n < LEFT_OVER_MAX && looks++ < LEFT_OVER_LOOKS && (e = readdir(d));)
		if (is_left_over(at, e->d_name, is_ours))
			n += remove_fn(remove_arg, at, e->d_name) < 0 ? LEFT_OVER_MAX : 1;
	closedir(d);
}

void launch_remove_left_over(const char *runtime_root)
{
	const char *where[] = {runtime_root, "/tmp", "/var/tmp"};
	for (size_t i = 0; remove_fn && i < ARRAY_SIZE(where); i++) {
		CLEANUP_CLOSE int at =
			where[i] ? open(where[i], O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
		if (at >= 0)
			remove_left_over(at);
	}
}

static void remove_tree(int at, const char *name)
{
	char aside[64];
	uint64_t number;
	if (remove_up_to(at, name, remove_fn ? ENTRIES_AT_ONCE : 0) != -EAGAIN)
		return;
	remove_left_over(at);
	random_bytes(&number, sizeof(number));
	snprintf(aside, sizeof(aside), GONE_PREFIX "%016llx", (unsigned long long)number);
	if (renameat(at, name, at, aside) < 0)
		dir_remove(at, name);
	else if (remove_fn(remove_arg, at, aside) < 0)
		dir_remove(at, aside);
}

/* Only what has our owner and mode: anybody may make a directory of that name in /tmp. */
static void remove_private_dir(int at, const char *name)
{
	struct stat st;
	if (fstatat(at, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(st.st_mode) &&
		st.st_uid == geteuid() && (st.st_mode & 077) == 0)
		remove_tree(at, name);
}

/* Its name is known; those of earlier activations, whose end nobody saw, are looked for, but not through
 * all that somebody put there. */
static void remove_private_tmp(const char *unit, const struct spawn_id *id)
{
	static const char *const where[] = {"/tmp", "/var/tmp"};
	char hex[ID128_HEX];
	struct id128 invocation;
	memcpy(invocation.b, id->invocation, sizeof(invocation.b));
	CLEANUP_FREE char *prefix = xasprintf("stayd-private-%s-", unit);
	CLEANUP_FREE char *own = xasprintf("%s%s", prefix, id128_hex(hex, &invocation));
	for (size_t i = 0; i < ARRAY_SIZE(where); i++) {
		DIR *d = opendir(where[i]);
		int looks = 0;
		if (d)
			remove_private_dir(dirfd(d), own);
		for (struct dirent *e; d && looks++ < EARLIER_LOOKS && (e = readdir(d));)
			if (startswith(e->d_name, prefix) && strlen(e->d_name) == strlen(own))
				remove_private_dir(dirfd(d), e->d_name);
		if (d)
			closedir(d);
	}
}

/* The directory that path is in, reached through no symbolic link; *ret_leaf is its last part. */
static int open_parent(int at, const char *path, const char **ret_leaf)
{
	int dir = openat(at, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	for (const char *slash; dir >= 0 && (slash = strchr(path, '/')); path = slash + 1) {
		CLEANUP_FREE char *part = xstrndup(path, (size_t)(slash - path));
		CLEANUP_CLOSE int above = dir;
		if (*part)
			dir = openat(above, part, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		else
			(void)TAKE_FD(above);
	}
	*ret_leaf = path;
	return dir < 0 ? -errno : dir;
}

void launch_cleanup_dirs(const struct unit_conf *conf, const struct spawn_id *id,
	const char *runtime_root, bool is_restart_coming)
{
	enum preserve preserve = conf->exec.runtime_directory_preserve;
	const struct exec_dirs *d = &conf->exec.dirs[DIR_RUNTIME];
	if (conf->exec.sandbox.private_tmp)
		remove_private_tmp(conf->name, id);
	if (preserve == PRESERVE_YES || (preserve == PRESERVE_RESTART && is_restart_coming) ||
		!runtime_root || !d->names.n)
		return;
	CLEANUP_CLOSE int at = open(runtime_root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	for (size_t i = 0; at >= 0 && i < d->names.n; i++) {
		/* The innermost directory of "a/b" is ours, "a" may be another unit's too. */
		CLEANUP_FREE char *name = xstrndup(d->names.v[i], strcspn(d->names.v[i], ":"));
		const char *leaf;
		if (!*name || strstr(name, ".."))
			continue;
		CLEANUP_CLOSE int parent = open_parent(at, name, &leaf);
		if (parent >= 0 && *leaf)
			remove_tree(parent, leaf);
	}
}
