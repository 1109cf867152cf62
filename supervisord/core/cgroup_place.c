/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where our cgroups are: below our own of cgroup v2, when that can be written; else there are shims.
 *
 *  1. Never touch a cgroup above our own (/proc/self/cgroup): in a container with the host's
 *     cgroup namespace the rest belongs to others.
 *  2. What could not be looked at is not an answer: another core asks again.
 */
#include "core/cgroup.h"

#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>

#define SCOPE_SWEEPS_MAX 16

int cgroup_write(int dirfd, const char *file, const char *text)
{
	CLEANUP_CLOSE int fd = openat(dirfd, file, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	return write(fd, text, strlen(text)) < 0 ? -errno : 0;
}

/* ---- finding our place ------------------------------------------------------------------------ */

/* Of cgroup2, or of the older hierarchy of a controller. */
static bool is_mount_of(const char *tail, const char *controller)
{
	if (!controller)
		return startswith(tail, " - cgroup2 ");
	const char *p = startswith(tail, " - cgroup ") ? strstr(tail, controller) : NULL;
	size_t n = strlen(controller); /* its options: rw,memory */
	return p && p[-1] == ',' && (p[n] == ',' || p[n] == '\0');
}

/* Mount point and the part of the tree it shows. */
static char *cgroup_mount(const char *controller, char **ret_root)
{
	struct buf b = {0};
	char *found = NULL;
	if (read_file(AT_FDCWD, "/proc/self/mountinfo", 4 * 1024 * 1024, &b) == 0) {
		char *save = NULL;
		for (char *line = strtok_r(b.data, "\n", &save); line && !found;
			line = strtok_r(NULL, "\n", &save)) {
			char root[512], point[512];
			char *tail = strstr(line, " - ");
			if (!tail || !is_mount_of(tail, controller))
				continue;
			if (sscanf(line, "%*s %*s %*s %511s %511s", root, point) == 2) {
				found = xstrdup(point);
				*ret_root = xstrdup(root);
			}
		}
	}
	buf_done(&b);
	return found;
}

static char *own_cgroup_path(const char *controller)
{
	struct buf b = {0};
	char *path = NULL, *save = NULL, *line = NULL;
	if (read_file(AT_FDCWD, "/proc/self/cgroup", 65536, &b) == 0)
		line = strtok_r(b.data, "\n", &save);
	for (; line && !path; line = strtok_r(NULL, "\n", &save)) { /* NUMBER:CONTROLLERS:PATH */
		char *list = strchr(line, ':'), *end = list ? strchr(list + 1, ':') : NULL;
		size_t n = end ? (size_t)(end - list - 1) : 0;
		if (end && n == strlen(controller ?: "") && !memcmp(list + 1, controller ?: "", n))
			path = xstrdup(end + 1);
	}
	buf_done(&b);
	return path;
}

char *cgroup_own_dir(const char *controller)
{
	CLEANUP_FREE char *root = NULL;
	CLEANUP_FREE char *mount = cgroup_mount(controller, &root);
	CLEANUP_FREE char *path = own_cgroup_path(controller);
	if (!mount || !path || startswith(path, "/.."))
		return NULL;
	const char *below = path;
	if (!streq(root, "/") && startswith(path, root))
		below = path + strlen(root);
	return xasprintf("%s%s", mount, streq(below, "/") ? "" : below);
}

/* ---- setting up -------------------------------------------------------------------------------- */

/* Controllers can be enabled for children only when the cgroup itself has no process ("no internal
 * processes"). As PID 1 of a container we move everybody into init.scope first, again and again:
 * a process exec'ed into the container from outside lands in the root at any time. */
static void leave_root(int dirfd)
{
	if (mkdirat(dirfd, "init.scope", 0755) < 0 && errno != EEXIST)
		return;
	for (int sweep = 0; sweep < SCOPE_SWEEPS_MAX; sweep++) {
		struct buf b = {0};
		int moved = 0;
		if (read_file(dirfd, "cgroup.procs", CGROUP_PROCS_MAX, &b) == 0) {
			char *save = NULL;
			for (char *pid = strtok_r(b.data, "\n", &save); pid;
				pid = strtok_r(NULL, "\n", &save))
				moved += cgroup_write(dirfd, "init.scope/cgroup.procs", pid) == 0;
		}
		buf_done(&b);
		if (!moved)
			return;
	}
}

void cgroup_enable_controllers(struct core *c, int dirfd)
{
	struct buf b = {0};
	if (read_file(dirfd, "cgroup.controllers", 4096, &b) == 0) {
		char *save = NULL;
		/* One by one: a write with several fails as a whole. */
		for (char *name = strtok_r(b.data, " \n", &save); name;
			name = strtok_r(NULL, " \n", &save)) {
			CLEANUP_FREE char *text = xasprintf("+%s", name);
			if (cgroup_write(dirfd, "cgroup.subtree_control", text) == 0 &&
				!strv_has(&c->cgroup_controllers, name))
				strv_add(&c->cgroup_controllers, name);
		}
	}
	buf_done(&b);
}

/* Another look, in a moment, may see what this one did not. */
static bool is_passing(int error)
{
	return error == EMFILE || error == ENFILE || error == ENOMEM || error == EINTR ||
	       error == EIO;
}

/* 0: ours to use, c->cgroup_base_fd is open; 1: shims have to do; -errno: it cannot be told now. */
static int look_for_base(struct core *c, const char *base)
{
	if (mkdir(base, 0755) < 0 && errno != EEXIST && !is_passing(errno)) {
		log_note(NULL, "no cgroup of our own (%s: %s): tracking processes by shims", base,
			errno_name(errno));
		return 1;
	}
	int fd = open(base, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd >= 0 && faccessat(fd, "cgroup.procs", W_OK, AT_EACCESS) == 0) {
		c->cgroup_base_fd = fd;
		return 0;
	}
	int error = errno;
	fd_close(fd);
	if (is_passing(error))
		return -error;
	log_note(NULL, "cannot use %s (%s): tracking processes by shims", base, errno_name(error));
	return 1;
}

/* By its descriptor: the base stays where it is, also when somebody moves us elsewhere. */
static char *path_of_base(const struct core *c, const char *base)
{
	char link[64], dir[PATH_MAX];
	CLEANUP_FREE char *root = NULL;
	CLEANUP_FREE char *mount = cgroup_mount(NULL, &root);
	snprintf(link, sizeof(link), "/proc/self/fd/%d", c->cgroup_base_fd);
	ssize_t n = readlink(link, dir, sizeof(dir) - 1);
	dir[MAX(n, 0)] = '\0';
	if (n > 0 && endswith(dir, " (deleted)"))
		dir[n - (ssize_t)strlen(" (deleted)")] = '\0';
	if (!mount)
		return NULL;
	const char *at = n > 0 && startswith(dir, mount) ? dir : base;
	return xasprintf("%s%s", streq(root, "/") ? "" : root, at + strlen(mount));
}

/* How processes are tracked is decided once in the life of a daemon, because those that run are tracked
 * so: a core that looked again and saw something else would not find them. The first one deposits its
 * decision with keeper, "cgroup" with the directory or "shims". */
int cgroup_setup(struct core *c)
{
	c->cgroup_base_fd = deposit_take("cgroup");
	int shims = deposit_take("shims");
	bool is_decided = c->cgroup_base_fd >= 0 || shims >= 0;
	fd_close(shims);
	if (c->tracking_is_forced_shim || shims >= 0) {
		c->cgroup_base_fd = fd_close(c->cgroup_base_fd);
		return 0;
	}
	unsigned unread = files_unread();
	CLEANUP_FREE char *own = cgroup_own_dir(NULL);
	if (!own && (is_decided || files_unread() != unread))
		return -EAGAIN;
	if (!own) {
		keeper_put(c, "shims", c->keeper_fd);
		return 0;
	}
	/* A restarted core sits in init.scope: its base is beside it. */
	if (c->is_init && endswith(own, "/init.scope"))
		own[strlen(own) - strlen("/init.scope")] = '\0';
	CLEANUP_FREE char *base =
		c->is_init ? xasprintf("%s/system.slice", own)
			   : xasprintf("%s/stayd-%08x", own,
				     (unsigned)hash_bytes(c->runtime_dir, strlen(c->runtime_dir)));
	CLEANUP_CLOSE int own_fd = open(own, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (own_fd < 0 && (is_decided || is_passing(errno)))
		return -errno;
	if (own_fd >= 0 && c->is_init) {
		leave_root(own_fd);
		cgroup_enable_controllers(c, own_fd);
	}
	int r = is_decided ? 0 : own_fd < 0 ? 1 : look_for_base(c, base);
	if (r < 0)
		return r;
	if (!is_decided)
		keeper_put(c, r ? "shims" : "cgroup", r ? c->keeper_fd : c->cgroup_base_fd);
	if (r == 0) {
		cgroup_enable_controllers(c, c->cgroup_base_fd);
		c->cgroup_path = path_of_base(c, base);
		if (!c->cgroup_path)
			return -EAGAIN;
		c->cgroup_base = TAKE_PTR(base);
	}
	return 0;
}

void cgroup_done(struct core *c)
{
	if (!c->cgroup_base)
		return;
	for (size_t i = 0; i < c->world->n_units; i++)
		cgroup_remove_unit(c, c->world->units[i]);
	(void)rmdir(c->cgroup_base);
	c->cgroup_base_fd = fd_close(c->cgroup_base_fd);
	free(TAKE_PTR(c->cgroup_base));
	free(TAKE_PTR(c->cgroup_path));
}
