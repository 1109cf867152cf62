/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What this kernel, container and privilege allow: tried once, in children that do nothing else.
 *
 * A capability bit says little in a container (filters, read-only trees), so each thing is tried.
 */
#include "parts.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <linux/landlock.h>
#include <linux/sched.h>
#include <linux/mount.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define CAPS_MAX 64

/* A new mount namespace is of use only when mounts can be changed in it: filters and AppArmor
 * profiles of container engines allow the one and not the other. */
static bool can_change_mounts(void)
{
	struct mount_attr slave = {.propagation = MS_SLAVE};
	return syscall(SYS_mount_setattr, AT_FDCWD, "/", AT_RECURSIVE, &slave, sizeof(slave)) ==
		       0 &&
	       syscall(SYS_open_tree, AT_FDCWD, "/", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC) >= 0 &&
	       syscall(SYS_fsopen, "tmpfs", FSOPEN_CLOEXEC) >= 0;
}

/* Runs in a child of its own: an unshare cannot be taken back. */
static bool can_unshare(int flags)
{
	int status = 1;
	pid_t pid = fork();
	if (pid == 0)
		_exit(unshare(flags) < 0 || ((flags & CLONE_NEWNS) && !can_change_mounts()));
	if (pid < 0)
		return false;
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return false;
	return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static bool clone3_works(void)
{
	struct clone_args a = {.exit_signal = SIGCHLD};
	long pid = syscall(SYS_clone3, &a, sizeof(a));
	if (pid == 0)
		_exit(0);
	if (pid < 0)
		return false;
	while (waitpid((pid_t)pid, NULL, 0) < 0 && errno == EINTR) {
	}
	return true;
}

static uint64_t effective(void)
{
	struct __user_cap_header_struct h = {_LINUX_CAPABILITY_VERSION_3, 0};
	struct __user_cap_data_struct d[2] = {{0}};
	if (syscall(SYS_capget, &h, d) < 0)
		return 0;
	return (uint64_t)d[1].effective << 32 | d[0].effective;
}

static void probe_container(struct launch_caps *c)
{
	const char *name = getenv("container");
	struct buf b = {0};
	if (!name && access("/.dockerenv", F_OK) == 0)
		name = "docker";
	if (!name && access("/run/.containerenv", F_OK) == 0)
		name = "podman";
	if (!name && read_file(AT_FDCWD, "/run/systemd/container", 64, &b) >= 0 && b.size) {
		b.data[strcspn(b.data, "\n")] = '\0';
		name = b.data;
	}
	/* Engines below Kubernetes leave no mark, but the PID 1 of a machine is in the first namespace. */
	if (!name && access("/proc/self/ns/pid", F_OK) == 0 && !first_pid_namespace())
		name = "other";
	c->is_container = name != NULL;
	str_copy(c->container, strna(name), sizeof(c->container));
	str_make_printable(c->container);
	buf_done(&b);
}

void launch_probe(struct launch_caps *ret)
{
	struct launch_caps c = {0};
	uint64_t have = effective();
	c.can_clone3 = clone3_works();
	c.can_clone_into_cgroup =
		c.can_clone3; /* 5.7; below it the launcher falls back by itself */
	c.can_mount_ns = can_unshare(CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWUTS);
	c.can_net_ns = can_unshare(CLONE_NEWNET);
	c.can_user_ns = can_unshare(CLONE_NEWUSER);
	c.can_pid_ns = can_unshare(CLONE_NEWPID);
	c.effective = have;
	c.can_setuid = have & CAP_BIT(CAP_SETUID);
	c.can_setgid = have & CAP_BIT(CAP_SETGID);
	c.can_raise_rlimits = have & CAP_BIT(CAP_SYS_RESOURCE);
	for (unsigned i = 0; i < CAPS_MAX; i++)
		if (prctl(PR_CAPBSET_READ, i, 0, 0, 0) == 1)
			c.bounding |= CAP_BIT(i);
	long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
	c.landlock_abi = abi > 0 ? (int)abi : 0;
	probe_container(&c);
	*ret = c;
}
