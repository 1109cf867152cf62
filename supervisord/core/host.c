/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the first process of a machine finds missing: the kernel's own file systems.
 *
 * An initramfs or a boot loader may have mounted them already; what is a mount point is left alone.
 * A container's runtime always did. Called once, by core_init(), before anything reads /proc.
 */
#include "core/host.h"

#include <sys/mount.h>
#include <sys/stat.h>

static bool is_mount_point(const char *path)
{
	CLEANUP_FREE char *parent = xasprintf("%s/..", path);
	struct stat a, b;
	return stat(path, &a) == 0 && stat(parent, &b) == 0 && a.st_dev != b.st_dev;
}

void host_mounts(void)
{
	static const struct {
		const char *path, *type, *options;
		unsigned long flags;
		bool is_needed;
	} mounts[] = {
		{"/proc",          "proc",     NULL,                              MS_NOSUID | MS_NODEV | MS_NOEXEC, true },
		{"/sys",           "sysfs",    NULL,                              MS_NOSUID | MS_NODEV | MS_NOEXEC, true },
		{"/dev",           "devtmpfs", "mode=755",                        MS_NOSUID,                        true },
		{"/dev/pts",       "devpts",   "mode=620,ptmxmode=666",           MS_NOSUID | MS_NOEXEC,            false},
		{"/dev/shm",       "tmpfs",    "mode=1777",                       MS_NOSUID | MS_NODEV,             false},
		{"/run",           "tmpfs",    "mode=755",                        MS_NOSUID | MS_NODEV,             true },
		{"/sys/fs/cgroup", "cgroup2",  "nsdelegate,memory_recursiveprot",
                 MS_NOSUID | MS_NODEV | MS_NOEXEC,								  true },
	};
	for (size_t i = 0; i < ARRAY_SIZE(mounts); i++) {
		const char *path = mounts[i].path;
		if (is_mount_point(path))
			continue;
		(void)mkdir(path, 0755); /* fails on a read-only root, where it exists */
		if (mount(mounts[i].type, path, mounts[i].type, mounts[i].flags,
			    mounts[i].options) < 0 &&
			mounts[i].is_needed)
			log_warn(NULL, "cannot mount %s on %s: %s", mounts[i].type, path,
				errno_name(errno));
	}
}
