/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Namespaces and the mount tree of one service, carried out in its forked child.
 *
 *  1. Targets are resolved by openat2(RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS) and mounted on by
 *     descriptor, never by string: a symbolic link in a service's root leads back into that root.
 *  2. What ReadWritePaths= names is captured before anything else and put back later, so it has the
 *     attributes the host gave it: "writable" never means more than it was.
 *  3. Nothing of this reaches the host's mounts: the tree is made a slave first.
 *
 * Called by child_run(), as root, before identity and capabilities go.
 */
#include "parts.h"

#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>

#define TREE_FLAGS (OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC)

struct tree_root {
	struct child *c;
	int host;                  /* "/" as it was */
	int root;                  /* "/" as the service will see it */
	int kept[PLAN_MOUNTS_MAX]; /* captured trees, by step */
	int empty_file;            /* a detached mount of a file of mode 000, -1: not made yet */
};

static int resolve(int root, const char *path, int flags)
{
	struct open_how how = {.flags = (uint64_t)(flags | O_CLOEXEC),
		.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS};
	long fd = syscall(
		SYS_openat2, root, path[0] == '/' && path[1] ? path + 1 : ".", &how, sizeof(how));
	return fd < 0 ? -errno : (int)fd;
}

static int tree_of(int fd, bool is_recursive)
{
	int tree = (int)syscall(SYS_open_tree, fd, "",
		TREE_FLAGS | AT_EMPTY_PATH | (is_recursive ? AT_RECURSIVE : 0u));
	return tree < 0 ? -errno : tree;
}

static int tree_attr(int tree, uint64_t set, uint64_t clear)
{
	struct mount_attr a = {.attr_set = set, .attr_clr = clear};
	if (syscall(SYS_mount_setattr, tree, "", AT_EMPTY_PATH | AT_RECURSIVE, &a, sizeof(a)) < 0)
		return -errno;
	return 0;
}

static int tree_attach(int tree, int target)
{
	if (syscall(SYS_move_mount, tree, "", target, "",
		    MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH) < 0)
		return -errno;
	return 0;
}

/* A new file system with options "k=v,flag,..."; unknown ones are the caller's error. */
static int fs_new(const char *type, const char *options, uint64_t attrs)
{
	char word[128];
	int fs = (int)syscall(SYS_fsopen, type, FSOPEN_CLOEXEC), r = 0;
	if (fs < 0)
		return -errno;
	while (r == 0 && *options) {
		size_t n = strcspn(options, ",");
		if (n >= sizeof(word))
			r = -EINVAL;
		memcpy(word, options, MIN(n, sizeof(word) - 1));
		word[MIN(n, sizeof(word) - 1)] = '\0';
		options += n + (options[n] == ',');
		char *value = strchr(word, '=');
		if (value)
			*value++ = '\0';
		/* Attributes of the mount rather than of the file system. */
		if (streq(word, "ro"))
			attrs |= MOUNT_ATTR_RDONLY;
		else if (streq(word, "noexec"))
			attrs |= MOUNT_ATTR_NOEXEC;
		else if (streq(word, "nosuid"))
			attrs |= MOUNT_ATTR_NOSUID;
		else if (streq(word, "nodev"))
			attrs |= MOUNT_ATTR_NODEV;
		else if (*word && (!value || *value) && !streq(word, "rw") && r == 0 &&
			 syscall(SYS_fsconfig, fs, value ? FSCONFIG_SET_STRING : FSCONFIG_SET_FLAG,
				 word, value, 0) < 0)
			r = -errno;
	}
	if (r == 0 && syscall(SYS_fsconfig, fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
		r = -errno;
	int tree = r == 0 ? (int)syscall(SYS_fsmount, fs, FSMOUNT_CLOEXEC, attrs) : -1;
	if (r == 0 && tree < 0)
		r = -errno;
	close(fs);
	return r < 0 ? r : tree;
}

/* ---- mount points that are not there yet ---- */

static int make_target(struct tree_root *t, const char *path, bool is_directory)
{
	char parent[PATH_MAX];
	size_t n = str_copy(parent, path, sizeof(parent));
	if (n >= sizeof(parent))
		return -ENAMETOOLONG;
	for (size_t i = 1; i <= n; i++) {
		if (path[i] != '/' && path[i] != '\0')
			continue;
		parent[i] = '\0';
		int fd = resolve(t->root, parent, O_PATH);
		if (fd >= 0) {
			close(fd);
		} else {
			char *leaf = strrchr(parent, '/');
			*leaf = '\0';
			int at = resolve(t->root, *parent ? parent : "/", O_PATH | O_DIRECTORY);
			*leaf = '/';
			int r = at < 0 ? at : 0;
			if (r == 0 && (is_directory || path[i] == '/'))
				r = mkdirat(at, leaf + 1, 0755) < 0 && errno != EEXIST ? -errno : 0;
			else if (r == 0)
				r = mknodat(at, leaf + 1, S_IFREG | 0444, 0) < 0 && errno != EEXIST
					    ? -errno
					    : 0;
			if (at >= 0)
				close(at);
			if (r < 0)
				return r;
		}
		parent[i] = path[i];
	}
	return 0;
}

static bool is_directory(int fd)
{
	struct stat st;
	return fstat(fd, &st) == 0 && S_ISDIR(st.st_mode);
}

/* Puts tree on path, making the mount point if need be. Takes tree. */
static int attach_at(struct tree_root *t, int tree, const char *path)
{
	int target = resolve(t->root, path, O_PATH), r = 0;
	if (target == -ENOENT) {
		r = make_target(t, path, is_directory(tree));
		target = r < 0 ? r : resolve(t->root, path, O_PATH);
	}
	if (target < 0)
		r = target;
	if (r == 0)
		r = tree_attach(tree, target);
	if (target >= 0)
		close(target);
	close(tree);
	return r;
}

/* ---- the steps ---- */

static int step_bind(struct tree_root *t, const struct plan_mount *m)
{
	const struct plan *p = t->c->plan;
	const char *src = plan_str(p, m->src);
	int at = m->flags & MOUNT_BELOW_ROOT ? t->root : t->host;
	int fd = resolve(at, src, O_PATH);
	if (fd < 0)
		return fd;
	int tree = tree_of(fd, !(m->flags & MOUNT_NON_RECURSIVE));
	close(fd);
	int r = tree < 0 ? tree : 0;
	if (r == 0 && m->op == MOUNT_BIND_RO)
		r = tree_attr(tree, MOUNT_ATTR_RDONLY, 0);
	if (r == 0)
		return attach_at(t, tree, plan_str(p, m->dst));
	if (tree >= 0)
		close(tree);
	return r;
}

/* Read-only, noexec ...: "/" is changed where it stands, the rest is a copy put over itself. */
static int step_attr(struct tree_root *t, const char *path, uint64_t set, uint64_t clear)
{
	int fd = resolve(t->root, path, O_PATH);
	if (fd < 0)
		return fd;
	if (streq(path, "/")) {
		int r = tree_attr(fd, set, clear);
		close(fd);
		return r;
	}
	int tree = tree_of(fd, true);
	int r = tree < 0 ? tree : tree_attr(tree, set, clear);
	if (r == 0)
		r = tree_attach(tree, fd);
	if (tree >= 0)
		close(tree);
	close(fd);
	return r;
}

static int step_read_write(struct tree_root *t, const struct plan_mount *m, int *kept)
{
	const char *path = plan_str(t->c->plan, m->dst);
	if (m->flags & MOUNT_LATE)
		return step_attr(t, path, 0, MOUNT_ATTR_RDONLY);
	if (*kept < 0)
		return *kept;
	int fd = resolve(t->root, path, O_PATH);
	int r = fd < 0 ? fd : streq(path, "/") ? 0 : tree_attach(*kept, fd);
	if (fd >= 0)
		close(fd);
	close(*kept);
	*kept = -1;
	return r;
}

/* A file of mode 000 on a tmpfs that only this mount still refers to. */
static int make_empty_file(struct tree_root *t)
{
	static const char name[] = "empty";
	int tree = fs_new("tmpfs", "mode=000,size=4k,nr_inodes=4",
		MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC);
	if (tree < 0)
		return tree;
	/* Cloning needs it attached somewhere in this namespace for a moment: on top of "/". */
	int r = tree_attach(tree, t->root), fd = -1;
	if (r == 0) {
		r = mknodat(tree, name, S_IFREG | 0000, 0) < 0 ? -errno : 0;
		if (r == 0)
			fd = (int)syscall(SYS_open_tree, tree, name, TREE_FLAGS);
		if (r == 0 && fd < 0)
			r = -errno;
		if (r == 0 && (fchdir(tree) < 0 || umount2(".", MNT_DETACH) < 0 || chdir("/") < 0))
			r = -errno;
	}
	close(tree);
	return r < 0 ? r : fd;
}

static int step_inaccessible(struct tree_root *t, const char *path)
{
	int fd = resolve(t->root, path, O_PATH), tree;
	if (fd < 0)
		return fd;
	if (is_directory(fd)) {
		tree = fs_new("tmpfs", "mode=000,size=4k,nr_inodes=2",
			MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV |
				MOUNT_ATTR_NOEXEC);
	} else {
		if (t->empty_file < 0)
			t->empty_file = make_empty_file(t);
		tree = t->empty_file < 0 ? t->empty_file : tree_of(t->empty_file, false);
		if (tree == -EINVAL) { /* before 6.15 a detached mount cannot be copied */
			tree = t->empty_file;
			t->empty_file = -1;
		}
		if (tree >= 0)
			(void)tree_attr(tree, MOUNT_ATTR_RDONLY, 0);
	}
	int r = tree < 0 ? tree : tree_attach(tree, fd);
	if (tree >= 0)
		close(tree);
	close(fd);
	return r;
}

static int step_tmpfs(struct tree_root *t, const struct plan_mount *m)
{
	const struct plan *p = t->c->plan;
	const char *options = m->src ? plan_str(p, m->src) : "";
	uint64_t attrs = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV;
	char all[512];
	if (m->op == MOUNT_EMPTY_RO) {
		options = "mode=755,nr_inodes=1024,size=4m";
		attrs |= MOUNT_ATTR_NOEXEC;
	} else if (!strstr(options, "mode=")) {
		size_t n = str_copy(all, "mode=755,", sizeof(all));
		str_copy(all + n, options, sizeof(all) - n);
		options = all;
	}
	int tree = fs_new("tmpfs", options, attrs);
	return tree < 0 ? tree : attach_at(t, tree, plan_str(p, m->dst));
}

/* ProtectHome=tmpfs becomes read-only at the end, when bind mounts have had their mount points. */
static int step_empty_close(struct tree_root *t, const char *path)
{
	struct mount_attr a = {.attr_set = MOUNT_ATTR_RDONLY};
	int fd = resolve(t->root, path, O_PATH);
	if (fd < 0)
		return fd;
	int r = syscall(SYS_mount_setattr, fd, "", AT_EMPTY_PATH, &a, sizeof(a)) < 0 ? -errno : 0;
	close(fd);
	return r;
}

/* src/tmp is shared by the commands of one activation; src is ours alone, or we do not use it. The
 * tree of src/tmp: taken before any step, because a step on "/" or "/tmp" would hide or lock it. */
static int private_tmp_tree(struct tree_root *t, const struct plan_mount *m)
{
	const char *src = plan_str(t->c->plan, m->src);
	struct stat st;
	if (mkdir(src, 0700) < 0 && errno != EEXIST)
		return -errno;
	int fd = open(src, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	int r = fstat(fd, &st) < 0 ? -errno : 0;
	if (r == 0 && (st.st_uid != geteuid() || (st.st_mode & 077)))
		r = -EPERM;
	if (r == 0 && mkdirat(fd, "tmp", 01777) < 0 && errno != EEXIST)
		r = -errno;
	if (r == 0 && fchmodat(fd, "tmp", 01777, 0) < 0)
		r = -errno;
	int inner = r == 0 ? openat(fd, "tmp", O_PATH | O_NOFOLLOW | O_CLOEXEC) : -1;
	int tree = inner < 0 ? -errno : tree_of(inner, true);
	close(fd);
	if (inner >= 0)
		close(inner);
	if (r < 0)
		return r;
	if (tree >= 0)
		(void)tree_attr(tree, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV, 0);
	return tree;
}

static int step_private_tmp(struct tree_root *t, const struct plan_mount *m, int *kept)
{
	if (*kept < 0)
		return *kept;
	int r = attach_at(t, *kept, plan_str(t->c->plan, m->dst));
	*kept = -1;
	return r;
}

/* ---- /dev of its own ---- */

static const struct {
	const char *name;
	unsigned major, minor;
} devices[] = {
	{"null",    1, 3},
	{"zero",    1, 5},
	{"full",    1, 7},
	{"random",  1, 8},
	{"urandom", 1, 9},
	{"tty",     5, 0},
};
static const struct {
	const char *target, *name;
} device_links[] = {
	{"/proc/self/fd",   "fd"    },
	{"/proc/self/fd/0", "stdin" },
	{"/proc/self/fd/1", "stdout"},
	{"/proc/self/fd/2", "stderr"},
	{"/proc/kcore",     "core"  },
	{"pts/ptmx",        "ptmx"  },
};
static const char *const device_trees[] = {"pts", "shm", "mqueue", "hugepages"};

static int device_from_host(int host_dev, int tree, const char *name)
{
	int fd = openat(host_dev, name, O_PATH | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT ? 0 : -errno;
	int copy = tree_of(fd, true), target = -1, r = copy < 0 ? copy : 0;
	if (r == 0)
		r = (is_directory(fd) ? mkdirat(tree, name, 0755)
				      : mknodat(tree, name, S_IFREG | 0666, 0)) < 0
			    ? -errno
			    : 0;
	if (r == 0) {
		target = openat(tree, name, O_PATH | O_CLOEXEC);
		r = target < 0 ? -errno : tree_attach(copy, target);
	}
	if (target >= 0)
		close(target);
	if (copy >= 0)
		close(copy);
	close(fd);
	return r;
}

static int fill_dev(int host_dev, int tree)
{
	int r = 0;
	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(devices); i++) {
		(void)umask(0);
		if (mknodat(tree, devices[i].name, S_IFCHR | 0666,
			    makedev(devices[i].major, devices[i].minor)) < 0)
			r = device_from_host(host_dev, tree, devices[i].name);
		(void)umask(022);
	}
	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(device_links); i++)
		if (symlinkat(device_links[i].target, tree, device_links[i].name) < 0)
			r = -errno;
	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(device_trees); i++)
		r = device_from_host(host_dev, tree, device_trees[i]);
	return r;
}

/* The log socket is a link on systemd's hosts and a socket elsewhere. */
static void add_dev_log(int host_dev, int tree)
{
	char target[256];
	ssize_t n = readlinkat(host_dev, "log", target, sizeof(target) - 1);
	if (n > 0) {
		target[n] = '\0';
		if (symlinkat(target, tree, "log") < 0)
			return; /* a convenience: libc falls back to nothing by itself */
	} else {
		(void)device_from_host(host_dev, tree, "log");
	}
}

static int step_private_dev(struct tree_root *t, const char *path)
{
	int host_dev = resolve(t->host, "/dev", O_PATH | O_DIRECTORY);
	int tree = fs_new("tmpfs", "mode=755,size=4m,nr_inodes=64k", MOUNT_ATTR_NOSUID);
	int r = host_dev < 0 ? host_dev : tree < 0 ? tree : 0, target = -1;
	if (r == 0) {
		target = resolve(t->root, path, O_PATH);
		if (target == -ENOENT && (r = make_target(t, path, true)) == 0)
			target = resolve(t->root, path, O_PATH);
		r = target < 0 ? target : tree_attach(tree, target);
	}
	if (r == 0)
		r = fill_dev(host_dev, tree);
	if (r == 0) {
		struct mount_attr a = {.attr_set = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOEXEC};
		add_dev_log(host_dev, tree);
		r = syscall(SYS_mount_setattr, tree, "", AT_EMPTY_PATH, &a, sizeof(a)) < 0 ? -errno
											   : 0;
	}
	for (size_t i = 0; i < 3; i++) {
		int fd = i == 0 ? host_dev : i == 1 ? tree : target;
		if (fd >= 0)
			close(fd);
	}
	return r;
}

static int step_api(struct tree_root *t, const struct plan_mount *m)
{
	const char *dst = plan_str(t->c->plan, m->dst);
	const uint64_t quiet = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC;
	int tree;
	if (m->op == MOUNT_PROC) {
		tree = fs_new("proc", m->src ? plan_str(t->c->plan, m->src) : "", quiet);
	} else {
		int fd = resolve(t->host, m->op == MOUNT_SYS ? "/sys" : "/dev", O_PATH);
		tree = fd < 0 ? fd : tree_of(fd, true);
		if (fd >= 0)
			close(fd);
	}
	return tree < 0 ? tree : attach_at(t, tree, dst);
}

static int step(struct tree_root *t, const struct plan_mount *m, int *kept)
{
	const char *dst = plan_str(t->c->plan, m->dst);
	switch ((enum mount_op)m->op) {
	case MOUNT_BIND:
	case MOUNT_BIND_RO:
		return step_bind(t, m);
	case MOUNT_READ_ONLY:
		return step_attr(t, dst, MOUNT_ATTR_RDONLY, 0);
	case MOUNT_READ_WRITE:
		return step_read_write(t, m, kept);
	case MOUNT_INACCESSIBLE:
		return step_inaccessible(t, dst);
	case MOUNT_TMPFS:
	case MOUNT_EMPTY_RO:
		return step_tmpfs(t, m);
	case MOUNT_PRIVATE_TMP:
		return step_private_tmp(t, m, kept);
	case MOUNT_PRIVATE_DEV:
		return step_private_dev(t, dst);
	case MOUNT_PROC:
	case MOUNT_SYS:
	case MOUNT_DEV:
		return step_api(t, m);
	case MOUNT_EXEC:
		return step_attr(t, dst, 0, MOUNT_ATTR_NOEXEC);
	case MOUNT_NO_EXEC:
		return step_attr(t, dst, MOUNT_ATTR_NOEXEC, 0);
	case MOUNT_OP_MAX:
		break;
	}
	return -EINVAL;
}

/* ---- the whole tree ---- */

/* RootDirectory=: a copy of it, mounted over itself, becomes "/" at the end. */
static int open_root(struct tree_root *t, const char *path)
{
	t->host = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (t->host < 0)
		return -errno;
	if (!path) {
		t->root = t->host;
		return 0;
	}
	int fd = resolve(t->host, path, O_PATH | O_DIRECTORY);
	if (fd < 0)
		return fd;
	t->root = tree_of(fd, true);
	int r = t->root < 0 ? t->root : tree_attach(t->root, fd);
	close(fd);
	return r;
}

static int enter_root(struct tree_root *t)
{
	if (t->root == t->host)
		return 0;
	if (fchdir(t->root) < 0 || syscall(SYS_pivot_root, ".", ".") < 0 ||
		umount2(".", MNT_DETACH) < 0 || chdir("/") < 0)
		return -errno;
	return 0;
}

/* What a step needs as it was before the first of them; -errno is the step's own when it comes. */
static void keep_trees(struct tree_root *t, const struct plan_mount *m, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++) {
		t->kept[i] = m[i].op == MOUNT_PRIVATE_TMP ? private_tmp_tree(t, &m[i]) : -1;
		if (m[i].op != MOUNT_READ_WRITE || (m[i].flags & MOUNT_LATE))
			continue;
		int fd = resolve(t->root, plan_str(t->c->plan, m[i].dst), O_PATH);
		t->kept[i] = fd < 0 ? fd : tree_of(fd, true);
		if (fd >= 0)
			close(fd);
	}
}

static bool may_be_missing(const struct plan_mount *m, int r)
{
	return (m->flags & MOUNT_OPTIONAL) && (r == -ENOENT || r == -ENOTDIR);
}

int child_build_mounts(struct child *c)
{
	static struct tree_root t; /* one per process; its array is too large for a stack */
	const struct plan *p = c->plan;
	const struct plan_mount *m = plan_at(c->plan, p->mounts.off);
	struct mount_attr slave = {.propagation = MS_SLAVE};
	if (!(p->namespaces & CLONE_NEWNS))
		return 0;
	t = (struct tree_root){.c = c, .host = -1, .root = -1, .empty_file = -1};
	if (syscall(SYS_mount_setattr, AT_FDCWD, "/", AT_RECURSIVE, &slave, sizeof(slave)) < 0)
		return child_fail(c, EXIT_NAMESPACE, errno, "making mounts private");
	int r = open_root(&t, plan_str(p, p->root));
	if (r < 0)
		return child_fail(c, EXIT_CHROOT, -r, plan_str(p, p->root));
	keep_trees(&t, m, p->mounts.n);
	for (uint32_t i = 0; i < p->mounts.n; i++) {
		r = step(&t, &m[i], &t.kept[i]);
		if (r < 0 && !may_be_missing(&m[i], r))
			return child_fail(c, EXIT_NAMESPACE, -r, plan_str(p, m[i].dst));
	}
	for (uint32_t i = 0; i < p->mounts.n; i++)
		if (m[i].op == MOUNT_EMPTY_RO)
			(void)step_empty_close(&t, plan_str(p, m[i].dst));
	r = enter_root(&t);
	if (r < 0)
		return child_fail(c, EXIT_CHROOT, -r, plan_str(p, p->root));
	return 0;
}

/* ---- namespaces ---- */

static int loopback_up(void)
{
	struct ifreq q = {.ifr_flags = IFF_UP | IFF_RUNNING};
	memcpy(q.ifr_name, "lo", sizeof("lo"));
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	int r = ioctl(fd, SIOCSIFFLAGS, &q) < 0 ? -errno : 0;
	close(fd);
	return r;
}

int child_enter_namespaces(struct child *c)
{
	const struct plan *p = c->plan;
	int flags = (int)(p->namespaces & ~(uint32_t)CLONE_NEWUSER);
	if (p->netns) {
		const char *path = plan_str(p, p->netns);
		int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
		int r = fd < 0 || setns(fd, CLONE_NEWNET) < 0 ? -errno : 0;
		if (fd >= 0)
			close(fd);
		if (r < 0)
			return child_fail(c, EXIT_NETWORK, -r, path);
	}
	if (flags && unshare(flags) < 0)
		return child_fail(
			c, flags & CLONE_NEWNET ? EXIT_NETWORK : EXIT_NAMESPACE, errno, "unshare");
	if (flags & CLONE_NEWNET) {
		/* Without CAP_NET_ADMIN it stays down, as with systemd: private all the same. */
		int r = loopback_up();
		if (r < 0 && r != -EPERM)
			return child_fail(c, EXIT_NETWORK, -r, "lo");
	}
	return 0;
}

/* ---- PrivateUsers= ---- */

static int write_map(pid_t pid, const char *file, uint32_t id)
{
	char path[64], text[96];
	snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, file);
	int n = snprintf(text, sizeof(text), "0 0 1\n");
	if (id != 0 && id != UINT32_MAX)
		n += snprintf(text + n, sizeof(text) - (size_t)n, "%u %u 1\n", id, id);
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	int r = fd < 0 || write(fd, text, (size_t)n) != n ? -errno : 0;
	if (fd >= 0)
		close(fd);
	return r;
}

/* The maps are written by a process that stayed outside: from inside one may map only oneself. */
_Noreturn static void write_maps(const struct plan *p, pid_t pid, int go)
{
	char byte;
	uint32_t uid = p->flags & PLAN_SET_UID ? p->uid : 0,
		 gid = p->flags & PLAN_SET_GID ? p->gid : 0;
	if (read(go, &byte, 1) != 1)
		_exit(ECANCELED);
	int r = write_map(pid, "gid_map", gid);
	if (r == 0)
		r = write_map(pid, "uid_map", uid);
	_exit(-r);
}

int child_enter_userns(struct child *c)
{
	int p[2], status = 0, error = 0;
	if (!(c->plan->flags & PLAN_MAP_USERS))
		return 0;
	if (pipe2(p, O_CLOEXEC) < 0)
		return child_fail(c, EXIT_USER, errno, "PrivateUsers");
	pid_t self = getpid(), helper = (pid_t)syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, NULL);
	if (helper == 0) {
		close(p[1]);
		write_maps(c->plan, self, p[0]);
	}
	if (helper < 0 || unshare(CLONE_NEWUSER) < 0)
		error = errno;
	if (error == 0 && write(p[1], "", 1) != 1)
		error = errno;
	close(p[0]);
	close(p[1]);
	while (helper > 0 && waitpid(helper, &status, 0) < 0 && errno == EINTR) {
	}
	if (error == 0 && status)
		error = WIFEXITED(status) ? WEXITSTATUS(status) : ECANCELED;
	return error ? child_fail(c, EXIT_USER, error, "PrivateUsers") : 0;
}
