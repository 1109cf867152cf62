/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is the same at each start of a unit: numbers for names, the filter, what this host denies.
 *
 *  1. User=, Group=, capabilities, NoNewPrivileges= and seccomp are enforced or the image is not
 *     made; they never stand in the degraded list.
 *  2. Everything else the host cannot do is in the degraded list, once, with the reason.
 *
 * launch_image_new() runs in core at load time: it reads files and may wait for getent (2 s).
 */
#include "parts.h"

#include <linux/capability.h>
#include <sched.h>

/* DynamicUser= numbers, systemd's range. Core is the only one who gives them out. */
#define DYNAMIC_FIRST 61184u
#define DYNAMIC_LAST  65519u
static char *dynamic_names[DYNAMIC_LAST - DYNAMIC_FIRST + 1];

/* ---- degraded ---- */

static void degrade(struct launch_image *i, bool is_asked, bool is_possible, const char *directive,
	const char *reason)
{
	if (!is_asked || is_possible)
		return;
	/* A handful per unit; the arena keeps the outgrown arrays. */
	struct degraded *v = arena_alloc(&i->arena, (i->n_degraded + 1) * sizeof(*v));
	if (i->n_degraded)
		memcpy(v, i->degraded, i->n_degraded * sizeof(*v));
	v[i->n_degraded++] =
		(struct degraded){directive, reason, CLASS_IGNORED_WARN, i->conf->fragment_path, 0};
	i->degraded = v;
}

static void degrade_mounts(struct launch_image *i)
{
	static const char why[] = "no mount namespace here (needs CAP_SYS_ADMIN)";
	const struct exec_sandbox *s = &i->conf->exec.sandbox;
	const struct {
		bool is_asked;
		const char *directive;
	} rows[] = {
		{s->private_tmp,                            "PrivateTmp"           },
		{s->private_devices,                        "PrivateDevices"       },
		{s->private_mounts,                         "PrivateMounts"        },
		{s->protect_system != PROTECT_SYSTEM_NO,    "ProtectSystem"        },
		{s->protect_home != PROTECT_HOME_NO,        "ProtectHome"          },
		{s->protect_kernel_tunables,                "ProtectKernelTunables"},
		{s->protect_control_groups,                 "ProtectControlGroups" },
		{s->protect_proc && !streq(s->protect_proc, "default"),              "ProtectProc"},
		{s->proc_subset && streq(s->proc_subset,                                         "pid"),                           "ProcSubset"},
		{s->read_only_paths.n > 0,                             "ReadOnlyPaths"                         },
		{s->read_write_paths.n > 0,"ReadWritePaths"},
		{s->inaccessible_paths.n > 0,                            "InaccessiblePaths"                                                       },
		{s->exec_paths.n > 0,"ExecPaths"},
		{s->no_exec_paths.n > 0,                                    "NoExecPaths"												},
		{s->bind_paths.n > 0,"BindPaths"},
		{s->bind_read_only_paths.n > 0,                                      "BindReadOnlyPaths"																	     },
		{s->temporary_file_systems.n > 0,"TemporaryFileSystem"},
		{s->private_ipc,				    "PrivateIPC"																								},
		{s->protect_hostname,"ProtectHostname"},
	};
	for (size_t k = 0; k < ARRAY_SIZE(rows); k++)
		degrade(i, rows[k].is_asked, i->caps->can_mount_ns, rows[k].directive, why);
}

static void degrade_rest(struct launch_image *i)
{
	const struct exec_conf *x = &i->conf->exec;
	const struct exec_sandbox *s = &x->sandbox;
	const struct launch_caps *can = i->caps;
	degrade(i, s->private_network, can->can_net_ns, "PrivateNetwork",
		"no network namespace here (needs CAP_SYS_ADMIN)");
	degrade(i, s->private_network && can->can_net_ns, can->effective & CAP_BIT(CAP_NET_ADMIN),
		"PrivateNetwork", "enforced, but its loopback is down (needs CAP_NET_ADMIN)");
	degrade(i, s->network_namespace_path, can->can_net_ns, "NetworkNamespacePath",
		"cannot enter a network namespace here (needs CAP_SYS_ADMIN)");
	degrade(i, s->private_users, can->can_user_ns && can->can_mount_ns, "PrivateUsers",
		"no user namespace here");
	bool lowers = x->limits.has_oom_score_adjust && x->limits.oom_score_adjust < 0;
	degrade(i, lowers, can->can_raise_rlimits, "OOMScoreAdjust",
		"lowering needs CAP_SYS_RESOURCE");
}

/* ---- identity ---- */

static uint32_t dynamic_uid(const char *name)
{
	size_t n = ARRAY_SIZE(dynamic_names), at = hash_bytes(name, strlen(name)) % n, left = n;
	/* Held is not always where a search begins: what was there before may be gone. */
	for (size_t i = 0; i < n; i++)
		if (dynamic_names[i] && streq(dynamic_names[i], name))
			return DYNAMIC_FIRST + (uint32_t)i;
	while (left && dynamic_names[at]) {
		at = (at + 1) % n;
		left--;
	}
	if (!left)
		return UINT32_MAX;
	dynamic_names[at] = xstrdup(name);
	return DYNAMIC_FIRST + (uint32_t)at;
}

static const char *dynamic_name(const struct unit_conf *conf)
{
	return conf->exec.identity.user ? conf->exec.identity.user : conf->prefix;
}

void launch_hold_dynamic(const struct unit_conf *conf, uint32_t uid)
{
	if (uid >= DYNAMIC_FIRST && uid <= DYNAMIC_LAST && !dynamic_names[uid - DYNAMIC_FIRST])
		dynamic_names[uid - DYNAMIC_FIRST] = xstrdup(dynamic_name(conf));
}

static int set_dynamic(struct launch_image *i, struct err *e)
{
	const char *name = dynamic_name(i->conf);
	struct user_entry u;
	struct err ignored;
	if (user_lookup(&i->arena, name, &u, &ignored) == 0) {
		i->uid = u.uid; /* a static user of that name is taken, as systemd does */
		i->gid = u.gid;
	} else {
		i->uid = i->gid = dynamic_uid(name);
		if (i->uid == UINT32_MAX)
			return err_set(e, -ENOSPC, "no dynamic user id is free");
	}
	i->user_name = arena_strdup(&i->arena, name);
	return 0;
}

static int set_user(struct launch_image *i, struct err *e)
{
	const struct exec_identity *id = &i->conf->exec.identity;
	struct user_entry u;
	if (id->dynamic_user)
		return set_dynamic(i, e);
	if (!id->user)
		return 0;
	int r = user_lookup(&i->arena, id->user, &u, e);
	char *end;
	unsigned long n = strtoul(id->user, &end, 10);
	/* A bare uid that nobody lists is a user when Group= says the rest (images without passwd). */
	if (r == -ESRCH && *end == '\0' && id->group) {
		i->uid = (uint32_t)n;
		i->user_name = arena_strdup(&i->arena, id->user);
		return 0;
	}
	if (r < 0)
		return r;
	i->uid = u.uid;
	i->gid = u.gid;
	i->user_name = u.name;
	i->home = u.home;
	i->shell = u.shell;
	return 0;
}

static int set_groups(struct launch_image *i, struct err *e)
{
	const struct exec_identity *id = &i->conf->exec.identity;
	if (id->group) {
		int r = group_lookup(id->group, &i->gid, e);
		if (r < 0)
			return r;
	}
	if (i->user_name && i->gid != UINT32_MAX && !id->dynamic_user)
		(void)user_groups(&i->arena, i->user_name, i->gid, &i->groups, &i->n_groups);
	size_t n = i->n_groups, more = id->supplementary_groups.n;
	if (!more)
		return 0;
	uint32_t *v = arena_alloc(&i->arena, (n + more) * sizeof(*v));
	if (n)
		memcpy(v, i->groups, n * sizeof(*v));
	for (size_t k = 0; k < more; k++) {
		int r = group_lookup(id->supplementary_groups.v[k], &v[n + k], e);
		if (r < 0)
			return r;
	}
	i->groups = v;
	i->n_groups = n + more;
	return 0;
}

/* Becoming whom we are already needs no privilege and changes nothing. */
static int check_identity(struct launch_image *i, struct err *e)
{
	bool is_same = (i->uid == UINT32_MAX || i->uid == geteuid()) &&
		       (i->gid == UINT32_MAX || i->gid == getegid());
	bool is_able = i->caps->can_setuid && i->caps->can_setgid;
	bool has_extra = i->conf->exec.identity.supplementary_groups.n > 0;
	if (is_same && !is_able && !has_extra) {
		i->uid = i->gid = UINT32_MAX;
		i->n_groups = 0;
		return 0;
	}
	if ((i->uid == UINT32_MAX && i->gid == UINT32_MAX && !has_extra) || is_able)
		return 0;
	return err_set(
		e, -EPERM, "User=/Group= other than our own needs CAP_SETUID and CAP_SETGID");
}

/* ---- privileges ---- */

static void set_privileges(struct launch_image *i)
{
	const struct exec_identity *id = &i->conf->exec.identity;
	const struct exec_sandbox *s = &i->conf->exec.sandbox;
	uint64_t effective = i->caps->effective,
		 keep = id->has_bounding_set ? id->bounding_set : ~0ULL;
	bool can_drop = effective & (1ULL << CAP_SETPCAP);
	/* What directives imply is taken away where we may; what is written must be. */
	if (can_drop && s->private_devices)
		keep &= ~(CAP_BIT(CAP_MKNOD) | CAP_BIT(CAP_SYS_RAWIO));
	if (can_drop && s->protect_kernel_modules)
		keep &= ~CAP_BIT(CAP_SYS_MODULE);
	if (can_drop && s->protect_kernel_logs)
		keep &= ~CAP_BIT(CAP_SYSLOG);
	if (can_drop && s->protect_clock)
		keep &= ~(CAP_BIT(CAP_SYS_TIME) | CAP_BIT(CAP_WAKE_ALARM));
	i->drop_bounding = i->caps->bounding & ~keep;
	/* systemd: seccomp-like directives imply it unless CAP_SYS_ADMIN is there at that point. */
	bool has_admin =
		(effective & CAP_BIT(CAP_SYS_ADMIN)) && (i->uid == UINT32_MAX || i->uid == 0);
	i->no_new_privileges = id->no_new_privileges == 1 || id->no_new_privileges_implied ||
			       (filter_is_wanted(s) && !has_admin);
}

/* Who a name is may change at any time; a number that was its user's may be somebody else's now. */
bool launch_image_is_current(const struct launch_image *i)
{
	bool has_names = i->user_name || i->n_groups || i->gid != UINT32_MAX;
	return !has_names || i->users_stamp == users_stamp();
}

int launch_image_new(const struct unit_conf *conf, const struct launch_caps *caps,
	struct launch_image **ret, struct err *e)
{
	struct launch_image *i = xcalloc(1, sizeof(*i));
	i->conf = conf;
	i->caps = caps;
	i->uid = i->gid = UINT32_MAX;
	i->users_stamp = users_stamp();
	int r = set_user(i, e);
	if (r == 0)
		r = set_groups(i, e);
	if (r == 0)
		r = check_identity(i, e);
	if (r == 0 && filter_is_wanted(&conf->exec.sandbox))
		r = filter_get(&conf->exec.sandbox, &i->seccomp, &i->seccomp_split, e);
	if (r == 0 && conf->exec.sandbox.root_directory && !caps->can_mount_ns)
		r = err_set(e, -EOPNOTSUPP, "RootDirectory= needs CAP_SYS_ADMIN");
	if (r < 0) {
		launch_image_free(i);
		return r;
	}
	set_privileges(i);
	degrade_mounts(i);
	degrade_rest(i);
	*ret = i;
	return 0;
}

struct launch_image *launch_image_free(struct launch_image *i)
{
	if (!i)
		return NULL;
	filter_put(&i->seccomp);
	arena_done(&i->arena);
	free(i);
	return NULL;
}
