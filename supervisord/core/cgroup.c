/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which processes belong to a unit, and how to reach all of them.
 *
 * With a writable cgroup v2: a cgroup per unit. Its emptiness is read from cgroup.events; the
 * kernel's notification may be 10 ms late, so after an exit the file is read directly and the
 * notification only serves stragglers. Without one: a shim (subreaper) above each program; the
 * unit is the shim's tree, found by a walk of /proc.
 *
 *  1. Only keeper signals a pid that keeper reaps. Everything else is signalled through a pidfd
 *     that was opened first and checked for membership afterwards, so a reused pid is never hit.
 *  2. Never touch a cgroup above our own (/proc/self/cgroup): in a container with the host's
 *     cgroup namespace the rest belongs to others.
 *  3. What could not be looked at is not an answer: it is looked at again, and what depends on it
 *     waits.
 *  4. Emptiness is watched only while the model asked for it: no descriptor per idle unit.
 */
#include "core/inner.h"
#include "core/procfs.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/stat.h>

#define KILL_PIDS_MAX 256 /* of one unit, one by one */
#define KILL_ROUNDS_MAX                                                                            \
	50 /* a fork bomb without cgroup.kill: rounds until the walk finds nobody new */
#define TREE_PIDS_MAX    32768
#define SCOPE_SWEEPS_MAX 16

static int write_at(int dirfd, const char *file, const char *text)
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
				moved += write_at(dirfd, "init.scope/cgroup.procs", pid) == 0;
		}
		buf_done(&b);
		if (!moved)
			return;
	}
}

static void enable_controllers(struct core *c, int dirfd)
{
	struct buf b = {0};
	if (read_file(dirfd, "cgroup.controllers", 4096, &b) == 0) {
		char *save = NULL;
		/* One by one: a write with several fails as a whole. */
		for (char *name = strtok_r(b.data, " \n", &save); name;
			name = strtok_r(NULL, " \n", &save)) {
			CLEANUP_FREE char *text = xasprintf("+%s", name);
			if (write_at(dirfd, "cgroup.subtree_control", text) == 0 &&
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
		enable_controllers(c, own_fd);
	}
	int r = is_decided ? 0 : own_fd < 0 ? 1 : look_for_base(c, base);
	if (r < 0)
		return r;
	if (!is_decided)
		keeper_put(c, r ? "shims" : "cgroup", r ? c->keeper_fd : c->cgroup_base_fd);
	if (r == 0) {
		enable_controllers(c, c->cgroup_base_fd);
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

/* ---- one unit's cgroup --------------------------------------------------------------------------- */

static uint64_t physical_memory(void)
{
	return (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);
}

static uint64_t oom_kills(int fd)
{
	struct buf b = {0};
	uint64_t n = 0;
	if (fd >= 0 && read_file(fd, "memory.events", 4096, &b) == 0) {
		const char *p = strstr(b.data, "oom_kill ");
		n = p ? strtoull(p + strlen("oom_kill "), NULL, 10) : 0;
	}
	buf_done(&b);
	return n;
}

bool cgroup_oom_killed(struct core *c, struct unit *u)
{
	struct unit_core *x = uc(u);
	uint64_t n = oom_kills(cgroup_fd_of(c, u)), before = x->oom_kills;
	x->oom_kills = n;
	return n > before;
}

/* What 100% of TasksMax= is. */
static uint64_t system_tasks(void)
{
	static const char *const files[] = {
		"/proc/sys/kernel/pid_max", "/proc/sys/kernel/threads-max"};
	uint64_t max = UINT64_MAX;
	for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
		struct buf b = {0};
		uint64_t n =
			read_file(AT_FDCWD, files[i], 64, &b) == 0 ? strtoull(b.data, NULL, 10) : 0;
		max = n ? MIN(max, n) : max;
		buf_done(&b);
	}
	return max;
}

/* One row a directive that is a file of the cgroup. */
struct knob {
	const char *directive, *controller, *file;
	uint64_t value; /* UINT64_MAX = not asked for */
};
#define KNOBS 9

static void knobs_of(const struct unit *u, struct knob ret[KNOBS])
{
	const struct cgroup_limits *l = &u->conf->exec.cgroup;
	uint64_t memory = l->memory_max_permille ? physical_memory() / 1000 * l->memory_max_permille
						 : l->memory_max;
	uint64_t tasks = l->tasks_max_permille ? system_tasks() * l->tasks_max_permille / 1000
					       : l->tasks_max;
	const struct knob knobs[KNOBS] = {
		{"MemoryMax",     "memory", "memory.max",      memory                 },
		{"MemoryHigh",    "memory", "memory.high",     l->memory_high         },
		{"MemoryLow",     "memory", "memory.low",      l->memory_low          },
		{"MemoryMin",     "memory", "memory.min",      l->memory_min          },
		{"MemorySwapMax", "memory", "memory.swap.max", l->memory_swap_max     },
		{"TasksMax",      "pids",   "pids.max",        tasks                  },
		{"CPUWeight",     "cpu",    "cpu.weight",      l->cpu_weight          },
		{"IOWeight",      "io",     "io.weight",       l->io_weight           },
		{"CPUQuota",      "cpu",    "cpu.max",         l->cpu_quota_us_per_sec},
	};
	memcpy(ret, knobs, sizeof(knobs));
}

static void apply_limits(struct core *c, struct unit *u, int fd)
{
	struct knob knobs[KNOBS];
	knobs_of(u, knobs);
	uc(u)->limits_refused = 0;
	for (size_t i = 0; i < KNOBS; i++) {
		const struct knob *k = &knobs[i];
		char text[64];
		if (k->value == UINT64_MAX || !strv_has(&c->cgroup_controllers, k->controller))
			continue;
		if (streq(k->file, "cpu.max"))
			snprintf(text, sizeof(text), "%llu 100000",
				(unsigned long long)(k->value / 10));
		else
			snprintf(text, sizeof(text), "%llu", (unsigned long long)k->value);
		int r = write_at(fd, k->file, text);
		if (r == 0)
			continue;
		log_warn(u->name, "cannot set %s to %s: %s", k->file, text, errno_name(r));
		uc(u)->limits_refused |= (uint16_t)(1u << i);
	}
}

/* Is this limit not what was set? A controller takes its files with it, and comes back without limits. */
static bool is_limit_gone(int fd, const char *file)
{
	struct buf b = {0};
	int r = read_file(fd, file, 64, &b);
	bool is_gone = r == -ENOENT || (r == 0 && startswith(b.data, "max"));
	buf_done(&b);
	return is_gone;
}

/* After a restart of core, which set none of them. */
static void check_limits(struct unit *u, int fd)
{
	struct knob knobs[KNOBS];
	if (!u->conf)
		return;
	knobs_of(u, knobs);
	for (size_t i = 0; i < KNOBS; i++)
		if (knobs[i].value != UINT64_MAX && is_limit_gone(fd, knobs[i].file))
			uc(u)->limits_refused |= (uint16_t)(1u << i);
}

void cgroup_each_degraded(struct core *c, const struct unit *u,
	void (*each)(void *arg, const struct degraded *d), void *arg)
{
	struct knob knobs[KNOBS];
	knobs_of(u, knobs);
	for (size_t i = 0; i < KNOBS; i++) {
		char why[96];
		struct degraded d = {.directive = knobs[i].directive,
			.reason = why,
			.class = CLASS_IGNORED_WARN};
		if (knobs[i].value == UINT64_MAX)
			continue;
		if (u->core && !unit_is_down(u))
			(void)cgroup_fd_of(
				c, uc(u)->unit); /* looks at it after a restart of core */
		bool has_controller = strv_has(&c->cgroup_controllers, knobs[i].controller);
		if (has_controller && !(u->core && uc(u)->limits_refused & 1u << i))
			continue;
		if (has_controller)
			snprintf(why, sizeof(why), "not enforced: it is not in %s of its cgroup",
				knobs[i].file);
		else if (c->cgroup_base)
			snprintf(why, sizeof(why), "not enforced: no %s controller in our cgroup",
				knobs[i].controller);
		else
			str_copy(why, "not enforced: no cgroup of our own here", sizeof(why));
		each(arg, &d);
	}
}

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
	enable_controllers(c, fd);
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
	apply_limits(c, u, x->cgroup_fd);
	x->oom_kills = oom_kills(x->cgroup_fd);
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
			check_limits(u, x->cgroup_fd);
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
static struct proc *shim_next(struct proc *p)
{
	while (p && !p->shim_pid)
		p = p->next;
	return p;
}

#define FOR_EACH_SHIM(p, u)                                                                        \
	for (struct proc *p = shim_next(uc(u)->procs); p; p = shim_next(p->next))

/* The usual cgroup has a line or two: one read. Else, or when it may go on, the whole file. */
static int read_procs(int dir, struct buf *b)
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
	if (cgroup_fd_of(c, u) >= 0 && read_procs(cgroup_fd_of(c, u), &b) == 0 && b.data) {
		char *end;
		long pid = strtol(b.data, &end, 10);
		if (pid > 1 && pid <= INT32_MAX && (end[0] == '\0' || end[1] == '\0'))
			only = (int32_t)pid;
	}
	buf_done(&b);
	return only;
}

/* Below any of the unit's shims? */
static bool is_in_trees(const struct unit *u, pid_t pid)
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

/* ---- signals ------------------------------------------------------------------------------------------ */

/* A stopped process does not see a signal other than KILL until it is continued (systemd too). */
static bool wants_cont(int signo)
{
	return signo != SIGKILL && signo != SIGCONT;
}

/* Signals pid if it is (still) in the unit's cgroup. */
static void signal_member(struct core *c, struct unit *u, pid_t pid, int signo)
{
	CLEANUP_CLOSE int fd = pidfd_of(pid);
	if (fd < 0 || cgroup_unit_of(c, pid) != u)
		return;
	(void)pidfd_signal(fd, signo);
	if (wants_cont(signo))
		(void)pidfd_signal(fd, SIGCONT);
}

struct pids {
	pid_t v[KILL_PIDS_MAX];
	size_t n;
};

/* False: no room. *ret_is_new: it was not there before. */
static bool pids_add(struct pids *p, pid_t pid, bool *ret_is_new)
{
	for (size_t i = 0; i < p->n; i++)
		if (p->v[i] == pid)
			return true;
	*ret_is_new = true;
	if (p->n == KILL_PIDS_MAX)
		return false;
	p->v[p->n++] = pid;
	return true;
}

/* The list cannot be read: keeper needs no descriptor for those it knows. */
static int signal_known(struct core *c, const struct unit *u, int signo)
{
	if (u->rec.main_pid)
		keeper_signal(c, &u->rec.main, signo);
	if (u->rec.control_pid)
		keeper_signal(c, &u->rec.control, signo);
	return 0;
}

/* Of the processes that keeper knows, those a walk has met. */
struct known {
	bool main, control;
};

/* One walk. Returns how many were met that are not in seen (NULL: nobody is); -1: seen is full. */
static int signal_members(
	struct core *c, struct unit *u, int fd, int signo, struct pids *seen, struct known *ret_met)
{
	struct buf b = {0};
	char *save = NULL;
	int met = 0;
	if (read_procs(fd, &b) < 0 || !b.data) {
		buf_done(&b);
		ret_met->main = ret_met->control = true;
		return signal_known(c, u, signo);
	}
	for (char *line = strtok_r(b.data, "\n", &save); line && met >= 0;
		line = strtok_r(NULL, "\n", &save)) {
		pid_t pid = (pid_t)strtol(line, NULL, 10);
		bool is_new = !seen;
		if (pid <= 1)
			continue;
		if (seen && !pids_add(seen, pid, &is_new)) {
			met = -1;
			break;
		}
		if (!is_new)
			continue; /* it has its signal; it may be dying */
		met++;
		if (pid == u->rec.main_pid) {
			ret_met->main = true;
			keeper_signal(c, &u->rec.main, signo);
		} else if (pid == u->rec.control_pid) {
			ret_met->control = true;
			keeper_signal(c, &u->rec.control, signo);
		} else {
			signal_member(c, u, pid, signo);
		}
	}
	buf_done(&b);
	return met;
}

/* cgroup.kill is for what outruns us only: at least up to Linux 6.18 a cgroup that it was written to
 * kills every process cloned into it from then on (the child's kill_seq is taken from the parent's
 * cgroup), so ExecStopPost= and the next start would die at birth. */
static void kill_cgroup(struct core *c, struct unit *u, int fd, struct known *ret_met)
{
	struct pids seen = {.n = 0};
	int met = 1;
	for (int round = 0; met > 0 && round < KILL_ROUNDS_MAX; round++)
		met = signal_members(c, u, fd, SIGKILL, &seen, ret_met);
	if (met != 0 && write_at(fd, "cgroup.kill", "1") == 0)
		uc(u)->is_cgroup_spent = true;
}

/* Who was moved out of the cgroup by somebody is not among its members, and ours all the same. */
static void signal_strayed(
	struct core *c, const struct unit *u, const struct spawn_id *id, int32_t pid, int signo)
{
	if (id->seq && pid && cgroup_unit_of(c, pid) != u)
		keeper_signal(c, id, signo);
}

static void signal_cgroup(struct core *c, struct unit *u, int signo)
{
	struct known met = {0};
	int fd = uc(u)->is_empty ? -1 : cgroup_fd_of(c, u);
	if (fd < 0 && !uc(u)->is_empty && !uc(u)->is_cgroup_gone)
		(void)signal_known(c, u, signo);
	else if (fd >= 0 && signo == SIGKILL)
		kill_cgroup(c, u, fd, &met);
	else if (fd >= 0)
		(void)signal_members(c, u, fd, signo, NULL, &met);
	if (!met.main)
		signal_strayed(c, u, &u->rec.main, u->rec.main_pid, signo);
	if (!met.control)
		signal_strayed(c, u, &u->rec.control, u->rec.control_pid, signo);
}

/* True when somebody got it who may have forked meanwhile. */
static bool signal_below(pid_t shim, int signo)
{
	pid_t *v;
	size_t n = tree_pids(shim, &v), hit = 0;
	for (size_t i = 1; i < n; i++) {
		CLEANUP_CLOSE int fd = pidfd_of(v[i]);
		if (fd >= 0 && proc_is_below(v[i], shim))
			hit += pidfd_signal(fd, signo) == 0;
	}
	free(v);
	return hit > 0;
}

static void signal_trees(struct unit *u, int signo)
{
	FOR_EACH_SHIM(p, u)
	{
		/* SIGKILL: again until nobody new appears, or a forking process could outrun the walk. */
		int rounds = signo == SIGKILL ? KILL_ROUNDS_MAX : 1;
		while (signal_below(p->shim_pid, signo) && --rounds)
			;
	}
}

static void signal_one(
	struct core *c, const struct unit *u, const struct spawn_id *id, pid_t pid, int signo)
{
	if (!id->seq)
		return;
	if (c->cgroup_base || !pid) {
		keeper_signal(c, id, signo);
		return;
	}
	CLEANUP_CLOSE int fd = pidfd_of(pid);
	if (fd < 0 || !is_in_trees(u, pid))
		return;
	(void)pidfd_signal(fd, signo);
	if (wants_cont(signo))
		(void)pidfd_signal(fd, SIGCONT);
}

void cgroup_kill(struct core *c, struct unit *u, enum kill_who who, int signo)
{
	if (who == KILL_WHO_MAIN)
		signal_one(c, u, &u->rec.main, u->rec.main_pid, signo);
	else if (who == KILL_WHO_CONTROL)
		signal_one(c, u, &u->rec.control, u->rec.control_pid, signo);
	else if (c->cgroup_base)
		signal_cgroup(c, u, signo);
	else
		signal_trees(u, signo);
	if (who == KILL_WHO_ALL && !c->cgroup_base && wants_cont(signo))
		signal_trees(u, SIGCONT);
}

void cgroup_kill_refused(struct core *c, const struct spawn_id *id, int error)
{
	struct proc *p = proc_find(&c->procs, id);
	struct unit *u = p && p->kind == PROC_UNIT ? p->unit : NULL;
	log_warn(u ? u->name : NULL, "cannot signal its process: %s", errno_name(error));
	if (!u)
		return;
	uc(u)->is_kill_refused = true;
	core_again(c);
}

/* Whoever outlives the last signal of a stop is in the way of its successor, for good when nobody sends
 * it again. */
static void kill_again(struct core *c, struct unit *u)
{
	const struct service_conf *s = &u->conf->service;
	const struct unit_rec *r = &u->rec;
	bool is_over = unit_is_down(u) && !r->left_over && !r->main.seq && !r->control.seq;
	bool is_last =
		r->state == INST_STOP_SIGKILL || r->state == INST_FINAL_SIGKILL || unit_is_down(u);
	if (is_over || r->state == INST_RUNNING || !s->send_sigkill || s->kill_mode == KILL_NONE) {
		uc(u)->is_kill_refused = false;
	} else if (is_last) {
		uc(u)->is_kill_refused = false; /* unless it is again */
		cgroup_kill(c, u, s->kill_mode == KILL_PROCESS ? KILL_WHO_MAIN : KILL_WHO_ALL,
			s->final_kill_signal);
	} else {
		core_again(c);
	}
}

void cgroup_kill_again(struct core *c)
{
	for (size_t i = 0; i < c->world->n_units; i++) {
		struct unit *u = c->world->units[i];
		if (u->core && uc(u)->is_kill_refused && u->conf->type == UNIT_SERVICE)
			kill_again(c, u);
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
