/* SPDX-License-Identifier: Apache-2.0 */
/* Descriptors, files, and frames with descriptors. */
#include "base.h"

#include <dirent.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <libgen.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

void closep_(int *fd)
{
	fd_close(*fd);
}

int fd_close(int fd)
{
	if (fd >= 0) {
		int saved = errno;
		(void)close(fd); /* EINTR closes on Linux; nothing to repeat */
		errno = saved;
	}
	return -1;
}

int fd_set_cloexec(int fd, bool on)
{
	return fcntl(fd, F_SETFD, on ? FD_CLOEXEC : 0) < 0 ? -errno : 0;
}

int fd_set_nonblock(int fd, bool on)
{
	int flags = fcntl(fd, F_GETFL);
	if (flags < 0)
		return -errno;
	int want = on ? flags | O_NONBLOCK : flags & ~O_NONBLOCK;
	return want != flags && fcntl(fd, F_SETFL, want) < 0 ? -errno : 0;
}

int write_all(int fd, const void *data, size_t size)
{
	const char *p = data;
	while (size) {
		ssize_t n = write(fd, p, size);
		if (n < 0) {
			if (errno == EINTR)
				continue;
			return -errno;
		}
		p += n;
		size -= (size_t)n;
	}
	return 0;
}

bool fds_are_short(int probe, unsigned left)
{
	struct rlimit l;
	int fd = fcntl(probe, F_DUPFD_CLOEXEC, 0);
	if (fd < 0 || getrlimit(RLIMIT_NOFILE, &l) < 0)
		return fd < 0;
	fd_close(fd);
	return (rlim_t)fd >= l.rlim_cur - MIN((rlim_t)left, l.rlim_cur * left / FDS_USUAL);
}

/* ---- what could not be read ---- */

static unsigned unread, denied;

int file_unread(int error)
{
	unread += error == EMFILE || error == ENFILE || error == ENOMEM || error == EIO;
	denied += error == EACCES || error == EPERM;
	return -error;
}

unsigned files_unread(void)
{
	return unread;
}

unsigned files_denied(void)
{
	return denied;
}

DIR *dir_open(const char *path)
{
	DIR *d = opendir(path);
	if (!d)
		(void)file_unread(errno);
	return d;
}

struct dirent *dir_next(DIR *d)
{
	errno = 0;
	struct dirent *e = readdir(d);
	if (!e && errno)
		(void)file_unread(errno);
	return e;
}

int read_file(int dirfd, const char *path, size_t max, struct buf *b)
{
	CLEANUP_CLOSE int fd = -1;
	do
		fd = openat(dirfd, path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	while (fd < 0 && errno == EINTR); /* of a network file system */
	if (fd < 0)
		return file_unread(errno);
	struct stat st;
	if (fstat(fd, &st) < 0)
		return file_unread(errno);
	if (S_ISDIR(st.st_mode))
		return -EISDIR;
	if (!S_ISREG(st.st_mode))
		return -EINVAL; /* a fifo or device would block or never end */
	if (st.st_size > 0 && (size_t)st.st_size > max)
		return -E2BIG;
	for (;;) {
		buf_reserve(b, st.st_size > 0 ? (size_t)st.st_size + 1 : 4096);
		ssize_t n = read(fd, b->data + b->size, b->cap - b->size - 1);
		if (n < 0) {
			if (errno == EINTR)
				continue;
			return file_unread(errno);
		}
		b->size += (size_t)n;
		b->data[b->size] = '\0';
		if (n == 0)
			return 0;
		if (b->size > max)
			return -E2BIG;
	}
}

static int fsync_parent(const char *path)
{
	CLEANUP_FREE char *copy = xstrdup(path);
	CLEANUP_CLOSE int fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	return fsync(fd) < 0 ? -errno : 0;
}

int write_file_atomic(const char *path, const void *data, size_t size, mode_t mode)
{
	CLEANUP_FREE char *tmp = xasprintf("%s.tmp.%d", path, (int)getpid());
	CLEANUP_CLOSE int fd =
		open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, mode);
	if (fd < 0)
		return -errno;
	int r = write_all(fd, data, size);
	if (r == 0 && fsync(fd) < 0)
		r = -errno;
	if (r == 0 && rename(tmp, path) < 0)
		r = -errno;
	if (r < 0) {
		(void)unlink(tmp);
		return r;
	}
	return fsync_parent(path);
}

/* One that is there need not be made: what mkdir(2) lacks for a moment says nothing about it. */
static int mkdir_one(const char *path, mode_t mode)
{
	struct stat st;
	if (mkdir(path, mode) == 0 || errno == EEXIST)
		return 0;
	int error = errno;
	return stat(path, &st) == 0 && S_ISDIR(st.st_mode) ? 0 : -error;
}

int mkdir_parents(const char *path, mode_t mode)
{
	CLEANUP_FREE char *p = xstrdup(path);
	for (char *s = p + 1; *s; s++) {
		if (*s != '/')
			continue;
		*s = '\0';
		int r = mkdir_one(p, 0755);
		if (r < 0)
			return r;
		*s = '/';
	}
	return mkdir_one(p, mode);
}

static int name_cmp(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* The entries of dir that match one component of a pattern. */
static void glob_step(const char *dir, const char *part, struct strv *paths)
{
	const char *slash = *dir && !endswith(dir, "/") ? "/" : "";
	size_t first = paths->n;
	if (!strpbrk(part, "*?[\\")) {
		char *path = xasprintf("%s%s%s", dir, slash, part);
		if (paths->n < GLOB_PATHS_MAX &&
			faccessat(AT_FDCWD, path, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
			strv_add_take(paths, TAKE_PTR(path));
		free(path);
		return;
	}
	DIR *d = dir_open(*dir ? dir : ".");
	for (struct dirent *e; d && paths->n < GLOB_PATHS_MAX && (e = dir_next(d));)
		if (!streq(e->d_name, ".") && !streq(e->d_name, "..") &&
			fnmatch(part, e->d_name, FNM_PERIOD) == 0)
			strv_add_take(paths, xasprintf("%s%s%s", dir, slash, e->d_name));
	if (d)
		closedir(d);
	if (paths->n > first)
		qsort(paths->v + first, paths->n - first, sizeof(paths->v[0]), name_cmp);
}

/* Component by component. Not glob(3): for the sake of "~" it brings the name service and the DNS
 * resolver into a static program, a tenth of it. */
void path_glob(const char *pattern, struct strv *paths)
{
	struct strv found = {0};
	strv_add(&found, *pattern == '/' ? "/" : "");
	for (const char *p = pattern + strspn(pattern, "/"); *p; p += strspn(p, "/")) {
		CLEANUP_FREE char *part = xstrndup(p, strcspn(p, "/"));
		struct strv next = {0};
		for (size_t i = 0; i < found.n; i++)
			glob_step(found.v[i], part, &next);
		strv_done(&found);
		found = next;
		p += strlen(part);
	}
	for (size_t i = 0; i < found.n; i++)
		strv_add(paths, found.v[i]);
	strv_done(&found);
}

bool first_pid_namespace(void)
{
	char ns[64]; /* its inode number is fixed: PROC_PID_INIT_INO */
	ssize_t n = readlink("/proc/self/ns/pid", ns, sizeof(ns) - 1);
	ns[n > 0 ? n : 0] = '\0';
	return streq(ns, "pid:[4026531836]");
}

char *runtime_dir_choice(unsigned i)
{
	const char *xdg = getenv("XDG_RUNTIME_DIR");
	unsigned uid = (unsigned)geteuid();
	char ns[64];
	if (i == 0 && uid == 0)
		return xstrdup("/run/stayd");
	if (i == 0 && xdg && xdg[0] == '/')
		return xasprintf("%s/stayd", xdg);
	if (i == 0)
		return xasprintf("/run/user/%u/stayd", uid);
	if (i == 1)
		return xasprintf("/tmp/stayd-%u", uid);
	if (i == 2)
		return xasprintf("/dev/shm/stayd-%u", uid);
	if (i > 3)
		return NULL;
	/* Abstract names are the network namespace's; containers that share one differ in this. */
	ssize_t n = readlink("/proc/self/ns/pid", ns, sizeof(ns) - 1);
	ns[n > 0 ? n : 0] = '\0';
	return xasprintf("@stayd-%u-%s", uid, ns);
}

int unix_addr(const char *path, void *ret_sockaddr_un, unsigned *ret_len)
{
	struct sockaddr_un *a = ret_sockaddr_un;
	size_t n = strlen(path);
	if (n + 1 > sizeof(a->sun_path))
		return -ENAMETOOLONG;
	memset(a, 0, sizeof(*a));
	a->sun_family = AF_UNIX;
	memcpy(a->sun_path, path, n);
	if (path[0] == '@')
		a->sun_path[0] = '\0'; /* abstract namespace, spelled as systemd spells it */
	*ret_len = (unsigned)(offsetof(struct sockaddr_un, sun_path) + n + (path[0] != '@'));
	return 0;
}

ssize_t send_fds(int sock, const void *data, size_t size, const int *fds, size_t n_fds, int flags)
{
	assert(n_fds <= FDS_MAX);
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int) * FDS_MAX)];
	} control;
	struct iovec iov = {(void *)data, size};
	struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};
	if (n_fds) {
		memset(&control, 0, sizeof(control));
		m.msg_control = &control;
		m.msg_controllen = CMSG_SPACE(sizeof(int) * n_fds);
		struct cmsghdr *c = CMSG_FIRSTHDR(&m);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int) * n_fds);
		memcpy(CMSG_DATA(c), fds, sizeof(int) * n_fds);
	}
	ssize_t n;
	do
		n = sendmsg(sock, &m, flags | MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
	/* No memory, or too many descriptors on their way: as a full socket. */
	if (n < 0 && (flags & MSG_DONTWAIT) &&
		(errno == ENOBUFS || errno == ENOMEM || errno == ETOOMANYREFS))
		return -EAGAIN;
	return n < 0 ? -errno : n;
}

ssize_t recv_fds(int sock, void *data, size_t size, int *fds, size_t *n_fds, int flags)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int) * FDS_MAX) + CMSG_SPACE(sizeof(struct {
			pid_t p;
			uid_t u;
			gid_t g;
		}))];
	} control;
	struct iovec iov = {data, size};
	struct msghdr m = {.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control)};
	size_t room = *n_fds, got = 0;
	ssize_t n;
	do
		n = recvmsg(sock, &m, flags | MSG_CMSG_CLOEXEC);
	while (n < 0 && errno == EINTR);
	/* The frame is still there, and so is the peer: to be read when there is memory. */
	if (n < 0 && (flags & MSG_DONTWAIT) && (errno == ENOMEM || errno == ENOBUFS))
		return -EAGAIN;
	if (n < 0)
		return -errno;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c)) {
		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (size_t i = 0; i < count; i++) {
			int fd;
			memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(fd));
			if (got < room)
				fds[got++] = fd;
			else
				fd_close(fd);
		}
	}
	bool is_cut = m.msg_flags & (MSG_TRUNC | MSG_CTRUNC);
	for (; (is_cut || n == 0) && got > 0;
		got--) /* no bytes: the end of the link to everybody */
		fds[got - 1] = fd_close(fds[got - 1]);
	*n_fds = got;
	return is_cut ? -EMSGSIZE : n;
}
