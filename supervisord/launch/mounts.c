/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From the sandbox directives to an ordered list of mount steps (sandbox.c carries them out).
 *
 *  1. Steps are sorted by path, parents before children, so that the deeper rule wins.
 *  2. On one path: what brings content first, then read-write, read-only, inaccessible: the
 *     stricter one is on top, as in systemd.
 *  3. Nothing is mounted below a path that is inaccessible.
 *
 * The tables are those of systemd 252's namespace.c (paths are facts of the kernel's interfaces).
 * Called by plan_build().
 */
#include "parts.h"

struct fixed_step {
	const char *dst;
	enum mount_op op;
};

static const struct fixed_step kernel_tunables[] = {
	{"/proc/acpi",          MOUNT_READ_ONLY   },
        {"/proc/apm",           MOUNT_READ_ONLY   },
	{"/proc/asound",        MOUNT_READ_ONLY   },
        {"/proc/bus",           MOUNT_READ_ONLY   },
	{"/proc/fs",            MOUNT_READ_ONLY   },
        {"/proc/irq",           MOUNT_READ_ONLY   },
	{"/proc/latency_stats", MOUNT_READ_ONLY   },
        {"/proc/mtrr",          MOUNT_READ_ONLY   },
	{"/proc/scsi",          MOUNT_READ_ONLY   },
        {"/proc/sys",           MOUNT_READ_ONLY   },
	{"/proc/sysrq-trigger", MOUNT_READ_ONLY   },
        {"/proc/timer_stats",   MOUNT_READ_ONLY   },
	{"/proc/kallsyms",      MOUNT_INACCESSIBLE},
        {"/proc/kcore",         MOUNT_INACCESSIBLE},
	{"/sys",                MOUNT_READ_ONLY   },
	{"/sys/fs/cgroup",      MOUNT_READ_WRITE  }, /* ProtectControlGroups= decides */
};
static const struct fixed_step kernel_modules[] = {
	{"/lib/modules",     MOUNT_INACCESSIBLE},
	{"/usr/lib/modules", MOUNT_INACCESSIBLE},
};
static const struct fixed_step kernel_logs[] = {
	{"/proc/kmsg", MOUNT_INACCESSIBLE},
	{"/dev/kmsg",  MOUNT_INACCESSIBLE},
};
static const struct fixed_step control_groups[] = {
	{"/sys/fs/cgroup", MOUNT_READ_ONLY},
};
static const struct fixed_step system_yes[] = {
	{"/usr",   MOUNT_READ_ONLY},
	{"/boot",  MOUNT_READ_ONLY},
	{"/efi",   MOUNT_READ_ONLY},
	{"/lib",   MOUNT_READ_ONLY},
	{"/lib64", MOUNT_READ_ONLY},
	{"/bin",   MOUNT_READ_ONLY},
	{"/sbin",  MOUNT_READ_ONLY},
};
static const struct fixed_step system_full[] = {
	{"/etc", MOUNT_READ_ONLY},
};
/* The home directories stay as they are: ProtectHome= decides. */
static const struct fixed_step system_strict[] = {
	{"/",         MOUNT_READ_ONLY },
	{"/proc",     MOUNT_READ_WRITE},
	{"/sys",      MOUNT_READ_WRITE},
	{"/dev",      MOUNT_READ_WRITE},
	{"/home",     MOUNT_READ_WRITE},
	{"/run/user", MOUNT_READ_WRITE},
	{"/root",     MOUNT_READ_WRITE},
};
static const char *const home_paths[] = {"/home", "/root", "/run/user"};

bool sandbox_needs_mounts(const struct exec_conf *c)
{
	const struct exec_sandbox *s = &c->sandbox;
	return s->private_tmp || s->private_devices || s->private_mounts ||
	       s->protect_kernel_tunables || s->protect_kernel_modules || s->protect_kernel_logs ||
	       s->protect_control_groups || s->protect_system || s->protect_home ||
	       (s->protect_proc && !streq(s->protect_proc, "default")) ||
	       (s->proc_subset && streq(s->proc_subset, "pid")) || s->root_directory ||
	       s->read_write_paths.n || s->read_only_paths.n || s->inaccessible_paths.n ||
	       s->exec_paths.n || s->no_exec_paths.n || s->bind_paths.n ||
	       s->bind_read_only_paths.n || s->temporary_file_systems.n;
}

static void step_add(
	struct mount_list *l, enum mount_op op, unsigned flags, const char *src, const char *dst)
{
	GROW(l->v, l->n, l->cap);
	l->v[l->n++] = (struct mount_step){op, flags, src ? xstrdup(src) : NULL, xstrdup(dst)};
	/* "/a/b/" and "/a/b" are one path. */
	for (size_t n = strlen(l->v[l->n - 1].dst); n > 1 && l->v[l->n - 1].dst[n - 1] == '/'; n--)
		l->v[l->n - 1].dst[n - 1] = '\0';
}

static void steps_fixed(struct mount_list *l, const struct fixed_step *v, size_t n)
{
	for (size_t i = 0; i < n; i++)
		step_add(l, v[i].op, MOUNT_OPTIONAL, NULL, v[i].dst);
}
#define STEPS_FIXED(l, table) steps_fixed((l), (table), ARRAY_SIZE(table))

static const char *path_flags(const char *s, unsigned *ret_flags)
{
	*ret_flags = 0;
	for (; *s == '-' || *s == '+'; s++)
		*ret_flags |= *s == '-' ? MOUNT_OPTIONAL : MOUNT_BELOW_ROOT;
	return s;
}

static void steps_paths(struct mount_list *l, const struct conf_list *paths, enum mount_op op)
{
	for (size_t i = 0; i < paths->n; i++) {
		unsigned flags;
		const char *path = path_flags(paths->v[i], &flags);
		step_add(l, op, flags, NULL, path);
	}
}

/* "SRC[:DST[:rbind|norbind]]" */
static void steps_binds(struct mount_list *l, const struct conf_list *binds, enum mount_op op)
{
	for (size_t i = 0; i < binds->n; i++) {
		unsigned flags;
		const char *s = path_flags(binds->v[i], &flags);
		size_t n = strcspn(s, ":");
		CLEANUP_FREE char *src = xstrndup(s, n);
		const char *rest = s[n] ? s + n + 1 : "";
		size_t m = strcspn(rest, ":");
		CLEANUP_FREE char *dst = m ? xstrndup(rest, m) : xstrdup(src);
		if (rest[m] && streq(rest + m + 1, "norbind"))
			flags |= MOUNT_NON_RECURSIVE;
		step_add(l, op, flags, src, dst);
	}
}

static void steps_tmpfs(struct mount_list *l, const struct conf_list *v)
{
	for (size_t i = 0; i < v->n; i++) {
		size_t n = strcspn(v->v[i], ":");
		CLEANUP_FREE char *dst = xstrndup(v->v[i], n);
		step_add(l, MOUNT_TMPFS, 0, v->v[i][n] ? v->v[i] + n + 1 : "", dst);
	}
}

static void steps_private_tmp(
	struct mount_list *l, const struct unit_conf *conf, const struct launch_vars *v)
{
	static const char *const where[] = {"/tmp", "/var/tmp"};
	char hex[ID128_HEX];
	struct id128 id;
	memcpy(id.b, v->id.invocation, sizeof(id.b));
	id128_hex(hex, &id);
	for (size_t i = 0; i < ARRAY_SIZE(where); i++) {
		/* Unguessable by others and the same for every command of one activation. */
		CLEANUP_FREE char *src =
			xasprintf("%s/stayd-private-%s-%s", where[i], conf->name, hex);
		/* Optional: images from scratch have neither. */
		step_add(l, MOUNT_PRIVATE_TMP, MOUNT_OPTIONAL, src, where[i]);
	}
}

/* The unit's own directories stay writable whatever ProtectSystem= says. */
static void steps_own_directories(
	struct mount_list *l, const struct exec_conf *x, const struct launch_vars *v)
{
	const char *roots[DIR_KIND_MAX] = {
		v->runtime_root, v->state_root, v->cache_root, v->logs_root, v->config_root};
	for (int k = 0; k < DIR_CONFIGURATION; k++) {
		for (size_t i = 0; roots[k] && i < x->dirs[k].names.n; i++) {
			const char *name = x->dirs[k].names.v[i];
			CLEANUP_FREE char *dst =
				xasprintf("%s/%.*s", roots[k], (int)strcspn(name, ":"), name);
			step_add(l, MOUNT_READ_WRITE, MOUNT_OPTIONAL, NULL, dst);
		}
	}
}

static void steps_kernel(struct mount_list *l, const struct exec_sandbox *s)
{
	if (s->protect_kernel_tunables)
		STEPS_FIXED(l, kernel_tunables);
	if (s->protect_kernel_modules)
		STEPS_FIXED(l, kernel_modules);
	if (s->protect_kernel_logs)
		STEPS_FIXED(l, kernel_logs);
	if (s->protect_control_groups)
		STEPS_FIXED(l, control_groups);
	bool has_proc = (s->protect_proc && !streq(s->protect_proc, "default")) ||
			(s->proc_subset && streq(s->proc_subset, "pid"));
	if (has_proc || (s->root_directory && s->mount_api_vfs)) {
		CLEANUP_FREE char *options = xasprintf("hidepid=%s,subset=%s",
			s->protect_proc && !streq(s->protect_proc, "default") ? s->protect_proc
									      : "off",
			s->proc_subset && streq(s->proc_subset, "pid") ? "pid" : "");
		step_add(l, MOUNT_PROC, 0, options, "/proc");
	}
	if (s->root_directory && s->mount_api_vfs) {
		step_add(l, MOUNT_SYS, 0, NULL, "/sys");
		if (!s->private_devices)
			step_add(l, MOUNT_DEV, 0, NULL, "/dev");
	}
}

static void steps_system(struct mount_list *l, const struct exec_sandbox *s)
{
	if (s->protect_system == PROTECT_SYSTEM_STRICT) {
		STEPS_FIXED(l, system_strict);
	} else if (s->protect_system != PROTECT_SYSTEM_NO) {
		STEPS_FIXED(l, system_yes);
		if (s->protect_system == PROTECT_SYSTEM_FULL)
			STEPS_FIXED(l, system_full);
	}
	if (s->protect_home == PROTECT_HOME_NO)
		return;
	enum mount_op op = s->protect_home == PROTECT_HOME_YES         ? MOUNT_INACCESSIBLE
			   : s->protect_home == PROTECT_HOME_READ_ONLY ? MOUNT_READ_ONLY
								       : MOUNT_EMPTY_RO;
	for (size_t i = 0; i < ARRAY_SIZE(home_paths); i++)
		step_add(l, op, MOUNT_OPTIONAL, NULL, home_paths[i]);
}

/* ---- order ---- */

static int op_rank(enum mount_op op)
{
	static const int ranks[MOUNT_OP_MAX] = {
		[MOUNT_READ_WRITE] = 1,
		[MOUNT_READ_ONLY] = 2,
		[MOUNT_EXEC] = 3,
		[MOUNT_NO_EXEC] = 4,
		[MOUNT_INACCESSIBLE] = 5,
	};
	return ranks[op];
}

/* '/' sorts before every other byte, so that a directory's children follow it directly. */
static int path_compare(const char *a, const char *b)
{
	while (*a && *a == *b) {
		a++;
		b++;
	}
	int x = *a == '/' ? 1 : *a ? (unsigned char)*a + 1 : 0;
	int y = *b == '/' ? 1 : *b ? (unsigned char)*b + 1 : 0;
	return x - y;
}

static bool path_is_below(const char *path, const char *dir)
{
	size_t n = strlen(dir);
	if (streq(dir, "/"))
		return path[1] != '\0';
	return strncmp(path, dir, n) == 0 && path[n] == '/';
}

static int step_compare(const void *a, const void *b)
{
	const struct mount_step *x = a, *y = b;
	int r = path_compare(x->dst, y->dst);
	return r ? r : op_rank(x->op) - op_rank(y->op);
}

static bool step_brings_content(const struct mount_step *s)
{
	return op_rank(s->op) == 0;
}

/* What a step brings is not touched by read-only parents, which came before it: there "writable"
 * needs a step only where something read-only lies in between. Without that, ProtectSystem=strict's
 * writable /dev would open the /dev of PrivateDevices=. */
static bool writable_needs_step(const struct mount_list *l, size_t n, struct mount_step *s)
{
	bool is_brought = false, is_locked = false;
	for (size_t i = 0; i < n; i++) {
		const struct mount_step *above = &l->v[i];
		if (!path_is_below(s->dst, above->dst) && !streq(s->dst, above->dst))
			continue;
		if (step_brings_content(above)) {
			is_brought = true;
			is_locked = above->op == MOUNT_BIND_RO && !streq(s->dst, above->dst);
		} else if (above->op == MOUNT_READ_ONLY) {
			is_locked = true;
		}
	}
	if (is_brought)
		s->flags |= MOUNT_LATE;
	return !is_brought || is_locked;
}

static void steps_prune(struct mount_list *l)
{
	size_t kept = 0;
	const char *hidden = NULL;
	for (size_t i = 0; i < l->n; i++) {
		struct mount_step *s = &l->v[i];
		bool is_idle = s->op == MOUNT_READ_WRITE && !writable_needs_step(l, kept, s);
		bool is_double = kept && l->v[kept - 1].op == s->op &&
				 streq(l->v[kept - 1].dst, s->dst) && op_rank(s->op) > 0;
		if ((hidden && path_is_below(s->dst, hidden)) || is_double || is_idle) {
			if (is_double && !(s->flags & MOUNT_OPTIONAL))
				l->v[kept - 1].flags &= ~(unsigned)MOUNT_OPTIONAL;
			free(s->src);
			free(s->dst);
			continue;
		}
		if (s->op == MOUNT_INACCESSIBLE)
			hidden = s->dst;
		l->v[kept++] = *s;
	}
	l->n = kept;
}

void mounts_done(struct mount_list *l)
{
	for (size_t i = 0; i < l->n; i++) {
		free(l->v[i].src);
		free(l->v[i].dst);
	}
	free(l->v);
	memset(l, 0, sizeof(*l));
}

int mounts_build(const struct unit_conf *conf, const struct launch_vars *v, struct mount_list *ret,
	struct err *e)
{
	const struct exec_sandbox *s = &conf->exec.sandbox;
	struct mount_list l = {0};
	steps_kernel(&l, s);
	steps_system(&l, s);
	steps_own_directories(&l, &conf->exec, v);
	if (s->private_tmp)
		steps_private_tmp(&l, conf, v);
	if (s->private_devices)
		step_add(&l, MOUNT_PRIVATE_DEV, 0, NULL, "/dev");
	steps_tmpfs(&l, &s->temporary_file_systems);
	steps_binds(&l, &s->bind_paths, MOUNT_BIND);
	steps_binds(&l, &s->bind_read_only_paths, MOUNT_BIND_RO);
	steps_paths(&l, &s->read_write_paths, MOUNT_READ_WRITE);
	steps_paths(&l, &s->read_only_paths, MOUNT_READ_ONLY);
	steps_paths(&l, &s->inaccessible_paths, MOUNT_INACCESSIBLE);
	steps_paths(&l, &s->exec_paths, MOUNT_EXEC);
	steps_paths(&l, &s->no_exec_paths, MOUNT_NO_EXEC);
	for (size_t i = 0; i < l.n; i++) {
		if (l.v[i].dst[0] == '/')
			continue;
		int r = err_set(
			e, -EINVAL, "%s: mount path %s is not absolute", conf->name, l.v[i].dst);
		mounts_done(&l);
		return r;
	}
	if (l.n)
		qsort(l.v, l.n, sizeof(*l.v), step_compare);
	steps_prune(&l);
	if (l.n > PLAN_MOUNTS_MAX) {
		mounts_done(&l);
		return err_set(
			e, -E2BIG, "%s: more than %d mount steps", conf->name, PLAN_MOUNTS_MAX);
	}
	*ret = l;
	return 0;
}
