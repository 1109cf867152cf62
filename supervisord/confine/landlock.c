/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Landlock: the few paths a process needs, and no others.
 *
 * An accelerator, not a wall that others lean on: the uid keeps a role from what is not its own,
 * this keeps it from what everybody may read or write. Kernels without it (before 5.13, or
 * where it is not enabled) answer so and nothing is said. Rules stand for directories, not for names:
 * one that is made anew below the same name is out of reach for good.
 *
 * Called by the roles, after confine().
 */
#include "confine.h"

#include <fcntl.h>
#include <linux/landlock.h>
#include <sys/syscall.h>

/* Beyond the headers of today's distributions. */
#define FS_REFER       (1ULL << 13) /* ABI 2 */
#define FS_TRUNCATE    (1ULL << 14) /* ABI 3 */
#define NET_BIND       (1ULL << 0)  /* ABI 4 */
#define NET_CONNECT    (1ULL << 1)
#define FS_IOCTL_DEV   (1ULL << 15) /* ABI 5 */
#define SCOPE_ABSTRACT (1ULL << 0)  /* ABI 6 */
#define SCOPE_SIGNAL   (1ULL << 1)

struct ruleset_attr {
	uint64_t fs, net, scoped;
};

#define FS_READ (LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR)
#define FS_WRITE                                                                                   \
	(LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_REMOVE_FILE |                          \
		LANDLOCK_ACCESS_FS_MAKE_REG | LANDLOCK_ACCESS_FS_MAKE_DIR | FS_TRUNCATE)

static struct ruleset_attr attr_of(long abi, bool can_connect, size_t *ret_size)
{
	struct ruleset_attr a = {.fs = FS_REFER - 1}; /* the 13 of ABI 1 */
	*ret_size = abi >= 6 ? sizeof(a) : abi >= 4 ? 2 * sizeof(uint64_t) : sizeof(uint64_t);
	a.fs |= abi >= 2 ? FS_REFER : 0;
	a.fs |= abi >= 3 ? FS_TRUNCATE : 0;
	a.fs |= abi >= 5 ? FS_IOCTL_DEV : 0;
	a.net = abi < 4 ? 0 : can_connect ? NET_BIND : NET_BIND | NET_CONNECT;
	/* A probe may be of an abstract socket; a logger has nothing to say to anybody. */
	a.scoped = abi < 6 ? 0 : can_connect ? SCOPE_SIGNAL : SCOPE_SIGNAL | SCOPE_ABSTRACT;
	return a;
}

static int add_path(int ruleset, const struct confine_path *p, uint64_t handled)
{
	CLEANUP_CLOSE int own = p->fd < 0 ? open(p->path, O_PATH | O_CLOEXEC) : -1;
	int fd = p->fd < 0 ? own : p->fd;
	if (fd < 0)
		return 0;
	struct landlock_path_beneath_attr rule = {.parent_fd = fd,
		.allowed_access = handled & (p->is_writable ? FS_READ | FS_WRITE : FS_READ)};
	long r = syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &rule, 0);
	if (r < 0 && errno == EINVAL) { /* a file, not a directory */
		rule.allowed_access = LANDLOCK_ACCESS_FS_READ_FILE;
		r = syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &rule, 0);
	}
	return r < 0 ? -errno : 0;
}

int confine_files(const struct confine_path *paths, size_t n, bool can_connect, struct err *e)
{
	size_t size;
	long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
	if (abi <= 0)
		return 0;
	struct ruleset_attr a = attr_of(abi, can_connect, &size);
	CLEANUP_CLOSE int ruleset = (int)syscall(SYS_landlock_create_ruleset, &a, size, 0);
	int r = ruleset < 0 ? -errno : 0;
	for (size_t i = 0; i < n && r == 0; i++)
		r = add_path(ruleset, &paths[i], a.fs);
	if (r == 0 && syscall(SYS_landlock_restrict_self, ruleset, 0) < 0)
		r = -errno;
	return r < 0 ? err_set(e, r, "landlock: %s", errno_name(r)) : 1;
}
