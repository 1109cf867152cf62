/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Opening the file of a standard stream with root's rights, before the service has its own.
 *
 *  1. The directory is often the service's, or somebody's: a link that root has not made is not followed
 *     with root's rights, nor is a file opened that has other names there. Else StandardOutput=append:
 *     in a directory of the service would write to any file, and StandardInput=file: show it.
 *  2. What is not opened so is opened by the service's process with the rights of its user, who may have
 *     links for his own files. A service of root's gets an error.
 *  3. Each step is by descriptor: nothing can be put in its place between the look and the use.
 *
 * launch_open() is called by core; by child.c, too, where it may do no more than system calls.
 */
#include "parts.h"

#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>

#define LINKS_MAX 40 /* as the kernel */

struct walk {
	char path[PATH_MAX]; /* what is left of it */
	char name[NAME_MAX + 1];
	int at;
	unsigned n_links;
	mode_t mode;
};

static int go_to(struct walk *w, int fd)
{
	if (w->at >= 0)
		close(w->at);
	w->at = fd;
	return fd < 0 ? -errno : 0;
}

static int begin_at_root(struct walk *w)
{
	return go_to(w, open("/", O_PATH | O_DIRECTORY | O_CLOEXEC));
}

/* The next part of the path into name; is it the last? */
static int next_part(struct walk *w, bool *ret_is_last)
{
	const char *p = w->path + strspn(w->path, "/");
	size_t n = strcspn(p, "/");
	if (n > NAME_MAX)
		return -ENAMETOOLONG;
	memcpy(w->name, p, n);
	w->name[n] = '\0';
	p += n;
	*ret_is_last = *p == '\0';
	memmove(w->path, p, strlen(p) + 1);
	return n ? 0 : -EISDIR;
}

/* The link's text before what is left of the path. */
static int follow(struct walk *w, int link)
{
	char target[PATH_MAX];
	struct stat st;
	if (fstat(link, &st) < 0)
		return -errno;
	if (st.st_uid != 0)
		return -EPERM;
	if (++w->n_links > LINKS_MAX)
		return -ELOOP;
	ssize_t n = readlinkat(link, "", target, sizeof(target));
	size_t left = strlen(w->path) + 1;
	if (n <= 0 || (size_t)n + left > sizeof(target))
		return n < 0 ? -errno : -ENAMETOOLONG;
	memmove(w->path + n, w->path, left);
	memcpy(w->path, target, (size_t)n);
	return target[0] == '/' ? begin_at_root(w) : 0;
}

static int follow_entry(struct walk *w, int error)
{
	struct stat st;
	int link = openat(w->at, w->name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	int r = link < 0 || fstat(link, &st) < 0 ? -errno : S_ISLNK(st.st_mode) ? 0 : -error;
	if (r == 0)
		r = follow(w, link);
	if (link >= 0)
		close(link);
	return r;
}

/* The links of /proc lead where their text does not say. */
static int step(struct walk *w, bool is_last, int flags, int *ret_fd)
{
	struct statfs fs;
	bool is_proc = fstatfs(w->at, &fs) == 0 && fs.f_type == PROC_SUPER_MAGIC;
	int how = is_last ? flags : O_PATH | O_DIRECTORY | O_CLOEXEC;
	int fd = openat(w->at, w->name, how | (is_proc ? 0 : O_NOFOLLOW), w->mode);
	if (fd < 0)
		return errno == ELOOP || errno == ENOTDIR ? follow_entry(w, errno) : -errno;
	if (!is_last)
		return go_to(w, fd);
	*ret_fd = fd;
	return 0;
}

/* One that has more names may be anybody's, put there by who has the directory. */
static int check_names(const struct walk *w, int fd, uint32_t uid)
{
	struct stat st, dir;
	if (fstat(fd, &st) < 0 || fstat(w->at, &dir) < 0)
		return -errno;
	bool is_roots = dir.st_uid == 0 && (dir.st_mode & 022) == 0;
	return is_roots || !S_ISREG(st.st_mode) || st.st_nlink == 1 || st.st_uid == uid ? 0 : -EPERM;
}

static int open_as_root(const char *path, int flags, mode_t mode, uint32_t uid)
{
	struct walk w = {.at = -1, .mode = mode};
	bool is_last;
	int fd = -1;
	if (str_copy(w.path, path, sizeof(w.path)) >= sizeof(w.path))
		return -ENAMETOOLONG;
	int r = begin_at_root(&w);
	while (r == 0 && fd < 0) {
		r = next_part(&w, &is_last);
		if (r == 0)
			r = step(&w, is_last, flags & ~O_TRUNC, &fd);
	}
	if (r == 0)
		r = check_names(&w, fd, uid);
	if (r == 0 && (flags & O_TRUNC) && ftruncate(fd, 0) < 0 && errno != EINVAL)
		r = -errno;
	if (w.at >= 0)
		close(w.at);
	if (r < 0 && fd >= 0)
		close(fd);
	return r < 0 ? r : fd;
}

/* The groups stay: they are the service's anyway. */
static int open_as_user(struct plan *p, const char *path, int flags)
{
	if ((p->flags & PLAN_SET_GROUPS) &&
		syscall(SYS_setgroups, p->groups.n, plan_at(p, p->groups.off)) < 0)
		return -errno;
	if (p->flags & PLAN_SET_GID)
		(void)syscall(SYS_setfsgid, p->gid);
	(void)syscall(SYS_setfsuid, p->uid);
	int fd = open(path, flags, 0666), error = errno;
	(void)syscall(SYS_setfsuid, 0);
	(void)syscall(SYS_setfsgid, 0);
	return fd < 0 ? -error : fd;
}

int launch_open(const char *path, int flags, mode_t mode, uint32_t uid)
{
	if (geteuid() == 0 && path[0] == '/')
		return open_as_root(path, flags, mode, uid);
	int fd = open(path, flags, mode);
	return fd < 0 ? -errno : fd;
}

int child_open(struct plan *p, const char *path, int flags)
{
	bool is_user = (p->flags & PLAN_SET_UID) && p->uid != 0;
	int r = launch_open(path, flags, 0666, is_user ? p->uid : UINT32_MAX);
	return r == -EPERM && is_user ? open_as_user(p, path, flags) : r;
}
