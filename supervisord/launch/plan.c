/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writing a plan: everything that can be computed before the fork is computed here.
 *
 *  1. plan_build() appends one plan that plan_check() accepts, or nothing.
 *  2. Whatever the unit asks for is either in the plan, in image->degraded, or an error: nothing
 *     is left out silently.
 *  3. A plan says PLAN_FORK when carrying it out needs an address space of its own or may wait
 *     (mounts, directories, opening what may be a FIFO); all others run vfork-style.
 *
 * Called by core for each start. The reader is plan_check.c.
 */
#include "parts.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/personality.h>

#define NOFILE_SOFT_DEFAULT 1024 /* what select(2) users expect; systemd's default too */
#define FILE_MODE_FLAGS     (O_CLOEXEC | O_NOCTTY)

struct writer {
	const struct launch_image *image;
	const struct launch_vars *v;
	const struct exec_conf *x;
	struct buf b;
	struct plan p;
	bool is_sandboxed, has_identity;
	struct err *e;
};

uint32_t plan_put(struct buf *b, const void *data, size_t size, size_t align)
{
	static const char zeros[8];
	if (size == 0)
		return 0;
	if (b->size % align)
		buf_add(b, zeros, align - b->size % align);
	uint32_t off = (uint32_t)b->size;
	buf_add(b, data, size);
	return off;
}

uint32_t plan_put_str(struct buf *b, const char *s)
{
	return plan_put(b, s, strlen(s) + 1, 1);
}

static uint32_t put_path(struct writer *w, const char *s)
{
	if (!w->v->release_link)
		return plan_put_str(&w->b, s);
	CLEANUP_FREE char *path = release_replace(s, w->v->release_link, w->v->release_dir);
	return plan_put_str(&w->b, path);
}

static struct plan_span put_words(struct writer *w, const struct strv *l)
{
	uint64_t *slots = xcalloc(l->n + 1, sizeof(*slots));
	for (size_t i = 0; i < l->n; i++)
		slots[i] = plan_put_str(&w->b, l->v[i]);
	struct plan_span s = {
		plan_put(&w->b, slots, (l->n + 1) * sizeof(*slots), 8), (uint32_t)l->n};
	free(slots);
	return s;
}

/* LISTEN_PID= and SYSTEMD_EXEC_PID= are known only to the child, which writes its pid over blanks. */
static void put_pid_slots(struct writer *w, const struct strv *env)
{
	uint32_t slots[PLAN_PID_SLOTS_MAX], n = 0;
	const uint64_t *words = (const void *)(w->b.data + w->p.envp.off);
	for (size_t i = 0; i < env->n && n < PLAN_PID_SLOTS_MAX; i++)
		if (streq(env->v[i], "LISTEN_PID=          ") ||
			streq(env->v[i], "SYSTEMD_EXEC_PID=          "))
			slots[n++] = (uint32_t)words[i] + (uint32_t)strcspn(env->v[i], "=") + 1;
	w->p.pid_slots = (struct plan_span){plan_put(&w->b, slots, n * sizeof(*slots), 4), n};
}

static int put_command(struct writer *w)
{
	struct strv env = {0}, argv = {0};
	const struct exec_cmd *cmd = w->v->cmd;
	int r = env_build(w->image, w->v, &env, w->e);
	if (r == 0) {
		if (w->v->n_fds)
			env_put(&env, "LISTEN_PID=          ");
		env_put(&env, "SYSTEMD_EXEC_PID=          ");
		r = argv_expand(cmd, &env, &argv);
		if (r < 0)
			err_set(w->e, r, "command line too long");
	}
	if (r == 0 && w->v->release_link)
		for (size_t i = 0; i < argv.n; i++) {
			char *s = release_replace(argv.v[i], w->v->release_link, w->v->release_dir);
			free(argv.v[i]);
			argv.v[i] = s;
		}
	if (r == 0) {
		w->p.argv = put_words(w, &argv);
		w->p.envp = put_words(w, &env);
		put_pid_slots(w, &env);
	}
	strv_done(&env);
	strv_done(&argv);
	return r;
}

static int put_candidates(struct writer *w)
{
	static const char *const standard[] = {
		"/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"};
	const char *name = w->v->cmd->path;
	uint32_t offs[PLAN_CANDIDATES_MAX], n = 0;
	if (!name || !*name)
		return err_set(w->e, -EINVAL, "no program to execute");
	if (strchr(name, '/')) {
		offs[n++] = put_path(w, name);
	} else {
		bool is_own = w->x->exec_search_path.n > 0;
		size_t count = is_own ? w->x->exec_search_path.n : ARRAY_SIZE(standard);
		if (count > PLAN_CANDIDATES_MAX)
			return err_set(w->e, -E2BIG, "ExecSearchPath= has more than %d entries",
				PLAN_CANDIDATES_MAX);
		for (size_t i = 0; i < count; i++) {
			CLEANUP_FREE char *path = xasprintf(
				"%s/%s", is_own ? w->x->exec_search_path.v[i] : standard[i], name);
			offs[n++] = put_path(w, path);
		}
	}
	w->p.exec = (struct plan_span){plan_put(&w->b, offs, n * sizeof(*offs), 4), n};
	return 0;
}

static int put_cwd(struct writer *w)
{
	const char *cwd = w->x->working_directory ? w->x->working_directory : "/";
	if (streq(cwd, "~"))
		cwd = w->image->home ? w->image->home : "/root";
	if (cwd[0] != '/')
		return err_set(w->e, -EINVAL, "WorkingDirectory=%s is not absolute", cwd);
	w->p.cwd = put_path(w, cwd);
	if (w->x->working_directory_is_optional)
		w->p.flags |= PLAN_CWD_OPTIONAL;
	return 0;
}

/* ---- identity ---- */

static void put_identity(struct writer *w)
{
	const struct launch_image *i = w->image;
	w->p.dir_uid = i->uid;
	w->p.dir_gid = i->gid;
	if (!w->has_identity)
		return;
	if (i->uid != UINT32_MAX) {
		/* Another process of that user may stop the child before its exec, and whoever waits
		 * for it in vfork(2) waits as long. Root may do so to the launcher anyway. */
		w->p.flags |= PLAN_SET_UID | (i->uid != 0 ? PLAN_FORK : 0);
		w->p.uid = i->uid;
	}
	if (i->gid != UINT32_MAX) {
		w->p.flags |= PLAN_SET_GID;
		w->p.gid = i->gid;
	}
	bool sets_groups = i->uid != UINT32_MAX || i->gid != UINT32_MAX || i->n_groups;
	if (sets_groups) {
		w->p.flags |= PLAN_SET_GROUPS;
		w->p.groups = (struct plan_span){
			plan_put(&w->b, i->groups, i->n_groups * sizeof(*i->groups), 4),
			(uint32_t)i->n_groups};
	}
}

static void put_privileges(struct writer *w)
{
	const struct exec_identity *id = &w->x->identity;
	if (!w->is_sandboxed)
		return;
	w->p.drop_bounding = w->image->drop_bounding;
	w->p.ambient = id->ambient_set;
	if (id->secure_bits) {
		w->p.flags |= PLAN_SECURE_BITS;
		w->p.secure_bits = id->secure_bits;
	}
	if (id->ambient_set || id->secure_bits)
		w->p.flags |= PLAN_SET_CAPS;
	if (w->image->no_new_privileges)
		w->p.flags |= PLAN_NO_NEW_PRIVS;
	if (w->x->sandbox.memory_deny_write_execute)
		w->p.flags |= PLAN_MDWE;
	w->p.seccomp = (struct plan_span){
		plan_put(&w->b, w->image->seccomp.data, w->image->seccomp.size, 8),
		(uint32_t)w->image->seccomp.size};
	w->p.seccomp_split = (uint32_t)w->image->seccomp_split;
}

/* ---- scheduling and limits ---- */

static int put_affinity(struct writer *w)
{
	cpu_set_t set;
	const struct conf_list *l = &w->x->limits.cpu_affinity;
	CPU_ZERO(&set);
	for (size_t i = 0; i < l->n; i++) {
		const char *s = l->v[i];
		while (*s) {
			char *end;
			s += strspn(s, ", \t");
			if (!*s)
				break;
			unsigned long a = strtoul(s, &end, 10), b = a;
			if (end != s && *end == '-') {
				s = end + 1;
				b = strtoul(s, &end, 10);
			}
			if (end == s || a > b || b >= CPU_SETSIZE)
				return err_set(w->e, -EINVAL, "CPUAffinity=%s", l->v[i]);
			for (; a <= b; a++)
				CPU_SET(a, &set);
			s = end;
		}
	}
	if (CPU_COUNT(&set) > 0)
		w->p.cpu_mask = (struct plan_span){
			plan_put(&w->b, &set, sizeof(set), 8), (uint32_t)sizeof(set)};
	return 0;
}

static void put_rlimits(struct writer *w)
{
	const struct exec_limits *l = &w->x->limits;
	for (int i = 0; i < RLIM_NLIMITS; i++)
		if (l->rlimit && l->rlimit[i].is_set)
			w->p.rlimit[i] =
				(struct plan_rlimit){1, 0, l->rlimit[i].soft, l->rlimit[i].hard};
	/* The keeper raised its own; hard stays what it was given. */
	if (!l->rlimit || !l->rlimit[RLIMIT_NOFILE].is_set)
		w->p.rlimit[RLIMIT_NOFILE] =
			(struct plan_rlimit){1, 1, NOFILE_SOFT_DEFAULT, RLIM_INFINITY};
}

static int put_personality(struct writer *w)
{
	static const struct {
		const char *name;
		uint32_t value;
	} known[] = {
		{"x86-64", PER_LINUX  },
		{"arm64",  PER_LINUX  },
		{"x86",    PER_LINUX32},
		{"arm",    PER_LINUX32},
	};
	const char *s = w->x->sandbox.personality;
	for (size_t i = 0; s && i < ARRAY_SIZE(known); i++) {
		if (!streq(s, known[i].name))
			continue;
		w->p.flags |= PLAN_PERSONALITY;
		w->p.personality = known[i].value;
		return 0;
	}
	return s ? err_set(w->e, -EINVAL, "Personality=%s is unknown here", s) : 0;
}

static int put_limits(struct writer *w)
{
	const struct exec_limits *l = &w->x->limits;
	w->p.umask = l->umask & 0777;
	w->p.nice = l->nice;
	w->p.oom_score = l->oom_score_adjust;
	if (l->has_nice)
		w->p.flags |= PLAN_NICE;
	if (l->has_oom_score_adjust)
		w->p.flags |= PLAN_OOM_SCORE;
	if (l->cpu_reset_on_fork)
		w->p.flags |= PLAN_SCHED_RESET;
	if (w->x->ignore_sigpipe)
		w->p.flags |= PLAN_IGNORE_SIGPIPE;
	w->p.cpu_policy = l->cpu_policy;
	w->p.cpu_priority = MAX(l->cpu_priority, 0);
	w->p.io_prio = l->io_class < 0 && l->io_priority < 0
			       ? -1
			       : (l->io_class < 0 ? 2 : l->io_class) << 13 |
					 (l->io_priority < 0 ? 4 : l->io_priority);
	w->p.timer_slack_ns = l->timer_slack_ns;
	put_rlimits(w);
	int r = l->has_cpu_affinity ? put_affinity(w) : 0;
	return r < 0 ? r : put_personality(w);
}

/* ---- standard streams, for what core does not pass as a descriptor ---- */

static void put_stream(struct writer *w, int i, const struct std_stream *s)
{
	struct plan_stream *out = &w->p.std[i];
	int mode = i == 0 ? O_RDONLY : O_WRONLY | O_CREAT;
	switch (s->kind) {
	case STD_NULL:
	case STD_DATA:
	case STD_SOCKET:
	case STD_FD:
		out->from = PLAN_STD_NULL; /* all but null come as descriptors */
		return;
	case STD_LOG:
		out->from = PLAN_STD_OURS;
		return;
	case STD_INHERIT:
		out->from = i == 2 || (i == 1 && w->x->std_in.kind != STD_NULL) ? PLAN_STD_PREVIOUS
			    : i == 1                                            ? PLAN_STD_OURS
										: PLAN_STD_NULL;
		return;
	case STD_TTY:
		out->from = PLAN_STD_TTY;
		out->path = plan_put_str(&w->b, w->x->tty_path ? w->x->tty_path : "/dev/console");
		w->p.flags |= PLAN_FORK;
		return;
	case STD_FILE:
	case STD_APPEND:
	case STD_TRUNCATE:
		out->from = s->path ? PLAN_STD_OPEN : PLAN_STD_NULL;
		out->path = s->path ? put_path(w, s->path) : 0;
		out->open_flags = mode | FILE_MODE_FLAGS | (s->kind == STD_APPEND ? O_APPEND : 0) |
				  (s->kind == STD_TRUNCATE ? O_TRUNC : 0);
		w->p.flags |= PLAN_FORK; /* may be a FIFO: opening it waits for its reader */
		return;
	}
}

/* ---- directories and namespaces ---- */

static int put_dirs(struct writer *w)
{
	const struct launch_vars *v = w->v;
	const char *roots[DIR_KIND_MAX] = {
		v->runtime_root, v->state_root, v->cache_root, v->logs_root, v->config_root};
	struct plan_dir dirs[PLAN_DIRS_MAX];
	uint32_t n = 0;
	for (uint32_t k = 0; v->dirs_wanted && k < DIR_KIND_MAX; k++) {
		const struct exec_dirs *d = &w->x->dirs[k];
		uint32_t root = d->names.n ? plan_put_str(&w->b, strna(roots[k])) : 0;
		for (size_t i = 0; i < d->names.n; i++) {
			const char *name = d->names.v[i], *colon = strchr(name, ':');
			if (!roots[k] || n == PLAN_DIRS_MAX)
				return err_set(
					w->e, -EINVAL, "directory %s has no place here", name);
			CLEANUP_FREE char *plain = xstrndup(name, strcspn(name, ":"));
			dirs[n++] = (struct plan_dir){k, root, plan_put_str(&w->b, plain),
				colon && colon[1] ? plan_put_str(&w->b, colon + 1) : 0, d->mode};
		}
	}
	w->p.dirs = (struct plan_span){plan_put(&w->b, dirs, n * sizeof(*dirs), 4), n};
	if (n)
		w->p.flags |= PLAN_FORK;
	return 0;
}

static int put_mounts(struct writer *w)
{
	struct mount_list l = {0};
	int r = mounts_build(w->image->conf, w->v, &l, w->e);
	if (r < 0)
		return r;
	struct plan_mount *v = xcalloc(l.n, sizeof(*v));
	for (size_t i = 0; i < l.n; i++)
		v[i] = (struct plan_mount){(uint32_t)l.v[i].op, l.v[i].flags,
			l.v[i].src ? put_path(w, l.v[i].src) : 0, put_path(w, l.v[i].dst)};
	w->p.mounts = (struct plan_span){plan_put(&w->b, v, l.n * sizeof(*v), 4), (uint32_t)l.n};
	free(v);
	mounts_done(&l);
	return 0;
}

static int put_namespaces(struct writer *w)
{
	const struct exec_sandbox *s = &w->x->sandbox;
	const struct launch_caps *can = w->image->caps;
	bool roots_all =
		!w->image->conf->service.root_directory_start_only || w->v->kind == EXEC_START;
	if (!w->is_sandboxed)
		return 0;
	if (can->can_mount_ns && sandbox_needs_mounts(w->x)) {
		w->p.namespaces |= CLONE_NEWNS;
		int r = put_mounts(w);
		if (r < 0)
			return r;
		if (s->root_directory && roots_all && !streq(s->root_directory, "/"))
			w->p.root = put_path(w, s->root_directory);
	}
	if (can->can_net_ns && s->network_namespace_path)
		w->p.netns = plan_put_str(&w->b, s->network_namespace_path);
	else if (can->can_net_ns && s->private_network)
		w->p.namespaces |= CLONE_NEWNET;
	if (can->can_mount_ns && s->private_ipc)
		w->p.namespaces |= CLONE_NEWIPC;
	if (can->can_mount_ns && s->protect_hostname)
		w->p.namespaces |= CLONE_NEWUTS;
	if (can->can_user_ns && can->can_mount_ns && s->private_users) {
		w->p.namespaces |= CLONE_NEWUSER;
		w->p.flags |= PLAN_MAP_USERS;
	}
	if (w->p.namespaces || w->p.netns)
		w->p.flags |= PLAN_FORK;
	return 0;
}

static int put_all(struct writer *w)
{
	int r = put_command(w);
	if (r == 0)
		r = put_candidates(w);
	if (r == 0)
		r = put_cwd(w);
	if (r == 0)
		r = put_limits(w);
	if (r == 0)
		r = put_dirs(w);
	if (r == 0)
		r = put_namespaces(w);
	if (r < 0)
		return r;
	put_identity(w);
	put_privileges(w);
	put_stream(w, 0, &w->x->std_in);
	put_stream(w, 1, &w->x->std_out);
	put_stream(w, 2, &w->x->std_err);
	return 0;
}

int plan_build(const struct launch_image *image, const struct launch_vars *v, struct buf *out,
	struct err *e)
{
	static const char zeros[8];
	const struct service_conf *service = &image->conf->service;
	struct writer w = {.image = image, .v = v, .x = &image->conf->exec, .e = e};
	bool is_main = v->kind == EXEC_START;
	w.is_sandboxed = !v->cmd->full_privilege;
	w.has_identity = !v->cmd->full_privilege && !v->cmd->no_user &&
			 (!service->permissions_start_only || is_main);
	w.p.magic = PLAN_MAGIC;
	w.p.version = PLAN_VERSION;
	w.p.kind = (uint32_t)v->kind;
	w.p.n_pass = (uint32_t)v->n_fds;
	if (v->n_fds > FDS_MAX - 5) /* three streams, the cgroup, the plan's own */
		return err_set(e, -E2BIG, "more than %d descriptors to pass", FDS_MAX - 5);
	if (v->use_shim)
		w.p.flags |= PLAN_SHIM | PLAN_FORK;
	if (service->non_blocking)
		w.p.flags |= PLAN_FDS_NONBLOCK;
	buf_add(&w.b, &w.p, sizeof(w.p));
	w.p.unit = plan_put_str(&w.b, image->conf->name);
	int r = put_all(&w);
	if (r == 0 && w.b.size % 8)
		buf_add(&w.b, zeros, 8 - w.b.size % 8);
	if (r == 0 && w.b.size > LN_PLAN_MAX)
		r = err_set(e, -E2BIG, "plan larger than %d bytes", LN_PLAN_MAX);
	if (r == 0) {
		w.p.size = (uint32_t)w.b.size;
		memcpy(w.b.data, &w.p, sizeof(w.p));
		((struct plan *)(void *)w.b.data)->sum = plan_sum((void *)w.b.data, w.b.size);
		buf_add(out, w.b.data, w.b.size);
	}
	buf_done(&w.b);
	return r;
}
