/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The face of launch/: a plan (made in core) and the process that carries it out (the launcher).
 *
 * A plan is one flat, bounded, checked message that says everything about one exec: command,
 * environment, identity, limits, directories, sandbox, prebuilt seccomp filter. Building it may
 * allocate and read files; carrying it out does system calls only. Plans are cached by core per
 * unit revision and command; the parts that differ from start to start (invocation id, $MAINPID,
 * $PORT ...) are in launch_vars and are appended by plan_build() each time.
 */
#pragma once

#include "base/base.h"
#include "stayd/unit.h"
#include "stayd/wire.h"

/* What this kernel, container and privilege allow; probed once at start (launch_probe()). */
struct launch_caps {
	bool can_clone3; /* false: ENOSYS/EPERM, Docker's default filter */
	bool can_clone_into_cgroup;
	bool can_mount_ns, can_net_ns, can_user_ns, can_pid_ns;
	bool can_setuid, can_setgid;
	bool can_raise_rlimits;
	uint64_t bounding, effective; /* capabilities launcher has, and so services may */
	int landlock_abi;  /* 0 = none */
	bool is_container;
	char container[32]; /* "docker", "podman", "lxc" ... or "" */
};
void launch_probe(struct launch_caps *ret);

/* One seccomp program, built once per unit load. */
struct bpf_program {
	void *data;  /* struct sock_filter[] */
	size_t size; /* bytes */
};

/* Everything about a unit's exec that is the same at each start. Owned by core, one per conf. */
struct launch_image {
	const struct unit_conf *conf;
	uint32_t uid, gid; /* UINT32_MAX: unchanged */
	uint32_t *groups;
	size_t n_groups;
	char *home, *shell, *user_name;
	/* Shared between images with the same filters. Up to two programs stand one behind the other
	 * (an allow-list, then the restrictions); seccomp_split bytes belong to the first, 0: one. */
	struct bpf_program seccomp;
	size_t seccomp_split;
	uint64_t drop_bounding; /* capabilities to take out of the bounding set */
	bool no_new_privileges; /* asked for, or implied as systemd does */
	const struct launch_caps *caps; /* the caller's */
	struct degraded *degraded; /* what this host does not allow, with the reason */
	size_t n_degraded;
	uint64_t users_stamp; /* of the files that users and groups were looked up in */
	struct arena arena;
};
/* Has getent(1) started for a name that is not in the files, its output going to fd: core's way to the
 * launcher. 0, or -errno; the end of the output is the answer. Without one the files are all. */
typedef int launch_getent_fn(void *arg, const char *database, const char *name, int fd);
void launch_getent_by(launch_getent_fn *fn, void *arg);

/* Resolves users (files first, then getent with a time limit), builds seccomp, decides
 * what degrades here. -ESRCH: no such user or group,
 * -EPERM: we may not become it (EXIT_USER); -EOPNOTSUPP: no such root (EXIT_NAMESPACE); -EINVAL:
 * filter impossible. */
int launch_image_new(const struct unit_conf *conf, const struct launch_caps *caps,
	struct launch_image **ret, struct err *e);
struct launch_image *launch_image_free(struct launch_image *i);
/* False: it names users or groups, and /etc/passwd or /etc/group have changed since. */
bool launch_image_is_current(const struct launch_image *i);

/* A process of the unit runs with this uid, which an earlier core gave it: a DynamicUser= of another
 * name will not get it. */
void launch_hold_dynamic(const struct unit_conf *conf, uint32_t uid);

/* What differs from start to start. */
struct launch_vars {
	struct spawn_id id;
	const struct exec_cmd *cmd;
	enum exec_kind kind;
	const char *const
		*env; /* "A=b" lines that come last: PORT, RELEASE, MAINPID, WATCHDOG_USEC ... */
	size_t n_env;
	const char *const *fd_names; /* of the descriptors passed on (LISTEN_FDNAMES) */
	size_t n_fds;
	/* ReleaseLink= prefix and what replaces it in paths; NULL when the unit has none. */
	const char *release_link, *release_dir;
	const char *runtime_root; /* /run, or $XDG_RUNTIME_DIR: below it RuntimeDirectory= lives */
	const char *state_root, *cache_root, *logs_root, *config_root;
	bool use_shim;    /* no cgroup: keep a subreaper above the program */
	bool dirs_wanted; /* first command of an activation: create Runtime/State/...Directory= */
};
/* Appends the finished plan to out. */
int plan_build(const struct launch_image *image, const struct launch_vars *v, struct buf *out,
	struct err *e);

/* The file of a standard stream, or -errno; -EPERM: root is not to open it, as a link on the way is not
 * root's, or it has other names where others than root can give it some, and is not of uid. Core then
 * passes no descriptor, and the service's process opens it with its user's rights. */
int launch_open(const char *path, int flags, mode_t mode, uint32_t uid);

/* Removes RuntimeDirectory= (and PrivateTmp= of that activation and earlier ones) after a stop, as
 * Preserve= says. */
void launch_cleanup_dirs(const struct unit_conf *conf, const struct spawn_id *id,
	const char *runtime_root, bool is_restart_coming);

/* Has the directory name in dir removed by a process of its own: core's way to the launcher, for what
 * is more than core may wait for. 0, or -errno: nobody does. Without one all is removed at once. */
typedef int launch_remove_fn(void *arg, int dir, const char *name);
void launch_remove_by(launch_remove_fn *fn, void *arg);
/* What was put aside for that, in the root or as a private /tmp, and is there still: by the fn again. */
void launch_remove_left_over(const char *runtime_root);

/* The launcher process: links at ROLE_KEEPER_FD and ROLE_CORE_FD. Returns the exit code. */
int launcher_main(int argc, char **argv);

/* Name of a stage (enum exec_exit) as systemd writes it: "EXEC", "NAMESPACE", "USER" ... */
const char *exec_exit_name(int status);
