/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which processes belong to a unit, and when the last of them has ended.
 *
 * With a writable cgroup v2: a cgroup per unit. Its emptiness is read from cgroup.events; the
 * kernel's notification may be 10 ms late, so after an exit the file is read directly and the
 * notification only serves stragglers. Without one: a shim (subreaper) above each program; the
 * unit is the shim's tree, found by a walk of /proc.
 *
 *  1. What could not be looked at is not an answer: it is looked at again, and what depends on it
 *     waits.
 *  2. Emptiness is watched only while the model asked for it: no descriptor per idle unit.
 */
#include "core/cgroup.h"
#include "core/procfs.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/epoll.h>
#include <sys/stat.h>

#define TREE_PIDS_MAX 32768

/* ---- one unit's cgroup --------------------------------------------------------------------------- */

static bool is_frozen(int file)
{
	char frozen = '0';
	return file >= 0 && pread(file, &frozen, 1, 0) == 1 && frozen == '1';
}

bool cgroup_is_frozen(struct core *c, struct unit *u)
{
	int dir = cgroup_fd_of(c, u);
	CLEANUP_CLOSE int file = dir >= 0 ? openat(dir, "cgroup.freeze", O_RDONLY | O_CLOEXEC) : -1;
	return is_frozen(file);
}

/* A process born in a frozen cgroup never gets to its exec, and the launcher waits with it. Whoever
 * froze it (a person, a checkpoint) meant the processes of before. False: there is none any more,
 * somebody removed it while nothing ran in it. */
static bool make_ready(struct unit *u, int dir)
{
	CLEANUP_CLOSE int file = openat(dir, "cgroup.freeze", O_RDWR | O_CLOEXEC);
	if (file < 0)
		return errno != ENOENT && errno != ENODEV;
	if (is_frozen(file)) {
		log_warn(u->name, "its cgroup was frozen (cgroup.freeze): thawed for this start");
		(void)!pwrite(file, "0", 1, 0);
	}
	return true;
}

/* Somebody removed our cgroup, which is possible while nothing runs. False: errno says why not. */
static bool reopen_base(struct core *c)
{
	if (mkdir(c->cgroup_base, 0755) < 0 && errno != EEXIST)
		return false;
	int fd = open(c->cgroup_base, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return false;
	log_warn(NULL, "%s was removed by somebody: made again", c->cgroup_base);
	fd_close(c->cgroup_base_fd);
	c->cgroup_base_fd = fd;
	keeper_put(c, "cgroup", fd);
	cgroup_enable_controllers(c, fd);
	return true;
}

/* One that is there without our having made it may have been killed: see kill_cgroup(). With somebody in
 * it, it stays: EBUSY. */
static bool make_unit(struct core *c, const struct unit *u)
{
	int base = c->cgroup_base_fd;
	return mkdirat(base, u->name, 0755) == 0 ||
	       (errno == EEXIST && unlinkat(base, u->name, AT_REMOVEDIR) == 0 &&
		       mkdirat(base, u->name, 0755) == 0);
}

int cgroup_open_unit(struct core *c, struct unit *u, struct err *e)
{
	struct unit_core *x = uc(u);
	if (x->is_cgroup_spent) /* see kill_cgroup(); a busy one keeps its name and its fault */
		cgroup_remove_unit(c, u);
	if (x->cgroup_fd >= 0 && make_ready(u, x->cgroup_fd))
		return x->cgroup_fd;
	x->cgroup_fd = fd_close(x->cgroup_fd);
	x->is_cgroup_gone = x->is_cgroup_spent = false;
	bool is_new = make_unit(c, u);
	if (!is_new && errno == ENOENT && reopen_base(c))
		is_new = make_unit(c, u);
	if (!is_new && errno != EEXIST && errno != EBUSY)
		return err_set(
			e, -errno, "cgroup %s/%s: %s", c->cgroup_base, u->name, errno_name(errno));
	x->cgroup_fd = openat(c->cgroup_base_fd, u->name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (x->cgroup_fd < 0)
		return err_set(
			e, -errno, "cgroup %s/%s: %s", c->cgroup_base, u->name, errno_name(errno));
	if (!is_new)
		(void)make_ready(u, x->cgroup_fd);
	cgroup_set_limits(c, u, x->cgroup_fd);
	x->oom_kills = cgroup_oom_kills(x->cgroup_fd);
	return x->cgroup_fd;
}

/* The unit's cgroup as it is, not made: after a restart of core it is there but not open. -1: none. */
int cgroup_fd_of(struct core *c, struct unit *u)
{
	struct unit_core *x = uc(u);
	if (x->cgroup_fd < 0 && c->cgroup_base && !x->is_cgroup_gone) {
		x->cgroup_fd =
			openat(c->cgroup_base_fd, u->name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		x->is_cgroup_spent = x->cgroup_fd >= 0; /* for all that we know */
		if (x->cgroup_fd >= 0)
			cgroup_check_limits(u, x->cgroup_fd);
	}
	return x->cgroup_fd;
}

void cgroup_remove_unit(struct core *c, struct unit *u)
{
	struct unit_core *x = uc(u);
	x->cgroup_fd = fd_close(x->cgroup_fd);
	if (!c->cgroup_base || x->is_cgroup_gone)
		return;
	/* EBUSY: somebody is left; reported by the model */
	int r = unlinkat(c->cgroup_base_fd, u->name, AT_REMOVEDIR);
	x->is_cgroup_gone = r == 0 || errno == ENOENT;
	x->is_cgroup_spent = x->is_cgroup_spent && !x->is_cgroup_gone;
}

void cgroup_path_of(const struct core *c, const struct unit *u, struct buf *out)
{
	if (c->cgroup_base)
		buf_printf(out, "%s/%s", c->cgroup_base, u->name);
}

/* 1, 0 (also when it is no more), or -errno: nobody knows. */
static int cgroup_is_populated(int dir)
{
	char text[128];
	ssize_t n;
	CLEANUP_CLOSE int fd = openat(dir, "cgroup.events", O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT || errno == ENODEV ? 0 : -errno;
	do
		n = read(fd, text, sizeof(text) - 1);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return errno == ENODEV ? 0 : -errno;
	text[n] = '\0';
	return strstr(text, "populated 1") != NULL;
}

/* ---- trees without cgroups ------------------------------------------------------------------------- */

/* The children file of one thread: each thread has those it made itself. */
static void children_add(int task_fd, const char *tid, pid_t **v, size_t *n, size_t *cap)
{
	char path[NAME_MAX + 16];
	struct buf b = {0};
	snprintf(path, sizeof(path), "%s/children", tid);
	if (read_file(task_fd, path, CGROUP_PROCS_MAX, &b) == 0) {
		char *end = b.data;
		for (char *p = b.data; p && *p; p = end) {
			long child = strtol(p, &end, 10);
			if (end == p)
				break;
			GROW(*v, *n, *cap);
			(*v)[(*n)++] = (pid_t)child;
		}
	}
	buf_done(&b);
}

/* The descendants of root and root itself, breadth first. */
size_t tree_pids(pid_t root, pid_t **ret)
{
	pid_t *v = NULL;
	size_t n = 0, cap = 0;
	GROW(v, n, cap);
	v[n++] = root;
	for (size_t i = 0; i < n && n < TREE_PIDS_MAX; i++) {
		char path[64];
		struct dirent *t;
		snprintf(path, sizeof(path), "/proc/%d/task", (int)v[i]);
		DIR *d = opendir(path);
		while (d && (t = readdir(d)))
			if (t->d_name[0] != '.')
				children_add(dirfd(d), t->d_name, &v, &n, &cap);
		if (d)
			closedir(d);
	}
	*ret = v;
	return n;
}

/* The next shim in a unit's list. There is one for each command that runs or left something behind:
 * the main process, ExecReload= beside it, a helper that ExecStartPre= put in the background. */
struct proc *cgroup_next_shim(struct proc *p)
{
	while (p && !p->shim_pid)
		p = p->next;
	return p;
}

/* The usual cgroup has a line or two: one read. Else, or when it may go on, the whole file. */
int cgroup_read_procs(int dir, struct buf *b)
{
	char text[512];
	CLEANUP_CLOSE int fd = openat(dir, "cgroup.procs", O_RDONLY | O_CLOEXEC);
	ssize_t n = fd >= 0 ? read(fd, text, sizeof(text)) : -1;
	if (n < 0 || (size_t)n > sizeof(text) / 2)
		return read_file(dir, "cgroup.procs", CGROUP_PROCS_MAX, b);
	buf_add(b, text, (size_t)n);
	return 0;
}

int32_t cgroup_only_process(struct core *c, struct unit *u)
{
	struct buf b = {0};
	int32_t only = 0;
	size_t n = 0;
	if (!c->cgroup_base) {
		FOR_EACH_SHIM(p, u)
		{
			pid_t *v;
			size_t found = tree_pids(p->shim_pid, &v); /* the shim itself comes first */
			n += found - 1;
			only = found > 1 ? v[1] : only;
			free(v);
		}
		return n == 1 ? only : 0;
	}
	if (cgroup_fd_of(c, u) >= 0 && cgroup_read_procs(cgroup_fd_of(c, u), &b) == 0 && b.data) {
		char *end;
		long pid = strtol(b.data, &end, 10);
		if (pid > 1 && pid <= INT32_MAX && (end[0] == '\0' || end[1] == '\0'))
			only = (int32_t)pid;
	}
	buf_done(&b);
	return only;
}

/* Below any of the unit's shims? */
bool cgroup_is_in_trees(const struct unit *u, pid_t pid)
{
	FOR_EACH_SHIM(p, u)
	if (proc_is_below(pid, p->shim_pid))
		return true;
	return false;
}

/* ---- emptiness -------------------------------------------------------------------------------------- */

/* A main process that somebody moved to another cgroup is still the unit's. */
static bool has_process(const struct unit *u)
{
	for (const struct proc *p = uc(u)->procs; p; p = p->next)
		if (p->tracked_pid || (p->is_spawned && p->pid && !p->child_gone))
			return true;
	return false;
}

/* What cannot be looked at (no descriptor left) is not empty: a successor beside processes that live
 * on would be worse than a late one. */
static bool group_is_empty(struct core *c, struct unit *u)
{
	int fd = cgroup_fd_of(c, u);
	int r = fd >= 0 ? cgroup_is_populated(fd) : errno == ENOENT ? 0 : -errno;
	return r == 0;
}

static bool unit_is_empty(struct core *c, struct unit *u)
{
	if (!c->cgroup_base)
		return !uc(u)->procs;
	struct unit_core *x = uc(u);
	if (x->is_empty || x->is_cgroup_gone)
		x->is_empty = true;
	else
		x->is_empty = group_is_empty(c, u);
	return x->is_empty && !has_process(u);
}

static void unwatch(struct core *c, struct unit *u)
{
	struct unit_core *x = uc(u);
	loop_remove(&c->loop, &x->empty_source);
	x->empty_fd = fd_close(x->empty_fd);
	x->waits_empty = false;
}

static void on_cgroup_events(struct source *s, uint32_t events)
{
	struct unit_core *x = container_of(s, struct unit_core, empty_source);
	(void)events;
	cgroup_check_empty(x->core, x->unit);
}

static void watch_failed(struct core *c, const struct unit *u, int error)
{
	char text[TROUBLE_TEXT_MAX];
	snprintf(text, sizeof(text), "%s: cannot see whether its processes have ended: %s", u->name,
		errno_name(error));
	core_trouble(c, TROUBLE_CGROUP, text);
	core_again(c);
}

/* Those that could not be watched. */
void cgroup_check_again(struct core *c)
{
	for (size_t i = 0; c->cgroup_base && i < c->world->n_units; i++) {
		struct unit *u = c->world->units[i];
		if (u->core && uc(u)->waits_empty && uc(u)->empty_fd < 0)
			cgroup_check_empty(c, u);
	}
	if (!c->again_us)
		core_trouble(c, TROUBLE_CGROUP, NULL);
}

void cgroup_check_empty(struct core *c, struct unit *u)
{
	struct unit_core *x = uc(u);
	if (unit_is_empty(c, u)) {
		struct event ev = {.kind = EV_EMPTY, .unit = u};
		unwatch(c, u);
		core_step(c, &ev);
		return;
	}
	if (x->waits_empty && (x->empty_fd >= 0 || !c->cgroup_base)) {
		/* Reading re-arms EPOLLPRI; unit_is_empty() opened the file anew, so read ours too. */
		char c1[64];
		if (x->empty_fd >= 0 && pread(x->empty_fd, c1, sizeof(c1), 0) < 0)
			unwatch(c, u);
		return;
	}
	x->waits_empty = true;
	if (!c->cgroup_base)
		return; /* the exit of the shim comes back here */
	x->empty_fd = openat(x->cgroup_fd, "cgroup.events", O_RDONLY | O_CLOEXEC);
	if (x->empty_fd < 0) {
		watch_failed(c, u, errno);
		return;
	}
	char text[64];
	(void)!pread(x->empty_fd, text, sizeof(text), 0);
	loop_add(&c->loop, &x->empty_source, x->empty_fd, EPOLLPRI, PRIO_NORMAL, on_cgroup_events);
	if (unit_is_empty(c, u)) { /* it became so in between */
		struct event ev = {.kind = EV_EMPTY, .unit = u};
		unwatch(c, u);
		core_step(c, &ev);
	}
}

/* ---- whose is it? --------------------------------------------------------------------------------------- */

char *cgroup_unit_name(struct core *c, pid_t pid)
{
	char path[64], *name = NULL;
	struct buf b = {0};
	snprintf(path, sizeof(path), "/proc/%d/cgroup", (int)pid);
	if (read_file(AT_FDCWD, path, 65536, &b) == 0) {
		char *p = startswith(b.data, "0::") ? b.data : strstr(b.data, "\n0::");
		p = p ? strstr(p, "0::") + strlen("0::") : NULL;
		/* The whole of it: below what is delegated to them others give names as they like. */
		if (p && startswith(p, c->cgroup_path) && p[strlen(c->cgroup_path)] == '/') {
			p += strlen(c->cgroup_path) + 1;
			name = xstrndup(p, strcspn(p, "/\n"));
		}
	}
	buf_done(&b);
	return name;
}

static struct unit *unit_by_cgroup(struct core *c, pid_t pid)
{
	CLEANUP_FREE char *name = cgroup_unit_name(c, pid);
	return name ? world_unit(c->world, name) : NULL;
}

struct unit *cgroup_unit_of(struct core *c, pid_t pid)
{
	if (c->cgroup_base)
		return unit_by_cgroup(c, pid);
	for (int depth = 0; pid > 1 && depth < 64; depth++) {
		struct proc *p = proc_find_pid(&c->procs, pid);
		if (p && p->kind == PROC_UNIT)
			return p->unit;
		struct proc_stat s;
		pid = procfs_stat(pid, &s) == 0 ? s.parent : 0;
	}
	return NULL;
}
