/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the kernel says about a process that is not our child: /proc/PID and pidfds.
 *
 *  1. A pidfd is opened first and everything else is read afterwards: what was read of a pid that
 *     is still the pidfd's is of that process, and a signal through the pidfd hits nobody else.
 *  2. All of it is the process's own word or the kernel's: environ may be overwritten (setproctitle),
 *     start time, parent and cgroup may not.
 */
#include "core/procfs.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define ENVIRON_MAX (2 * 1024 * 1024)
#define REAPED_MS   50 /* for the parent of a zombie whose status we may not read to reap it */

/* <linux/pidfd.h> of 6.15; the headers here may be older. The first version of the structure: a newer
 * kernel takes it too. */
struct pidfd_info_v0 {
	uint64_t mask, cgroup_id;
	uint32_t pid, tgid, ppid, ruid, rgid, euid, egid, suid, sgid, fsuid, fsgid;
	int32_t exit_code;
};
#define PIDFD_GET_INFO_V0 _IOWR(0xFF, 11, struct pidfd_info_v0)
#define PIDFD_INFO_EXIT_  (1ULL << 3)

int pidfd_of(pid_t pid)
{
	int fd = (int)syscall(SYS_pidfd_open, pid, 0);
	return fd < 0 ? -errno : fd;
}

int pidfd_signal(int pidfd, int signo)
{
	return syscall(SYS_pidfd_send_signal, pidfd, signo, NULL, 0) < 0 ? -errno : 0;
}

bool pidfd_has_ended(int pidfd)
{
	struct pollfd p = {pidfd, POLLIN, 0};
	return poll(&p, 1, 0) == 1;
}

int procfs_stat(pid_t pid, struct proc_stat *ret)
{
	char path[64];
	struct buf b = {0};
	unsigned long long start;
	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	int r = read_file(AT_FDCWD, path, 4096, &b);
	/* The name may hold anything but is in parentheses. Fields 3, 4, 22 and 52 of proc(5). */
	const char *name = r == 0 ? strchr(b.data, '(') : NULL,
		   *p = name ? strrchr(name, ')') : NULL;
	if (r == 0 &&
		(!p || sscanf(p + 1,
			       " %c %d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d"
			       " %*d %*d %*d %llu",
			       &ret->state, &ret->parent, &start) != 3))
		r = -EBADMSG;
	if (r == 0) {
		const char *last = strrchr(b.data, ' ');
		ret->start_us = start * (USEC_PER_SEC / (uint64_t)sysconf(_SC_CLK_TCK));
		ret->wait_status = last ? (int)strtol(last + 1, NULL, 10) : 0;
		size_t n = MIN((size_t)(p - name - 1), sizeof(ret->name) - 1);
		memcpy(ret->name, name + 1, n);
		ret->name[n] = '\0';
	}
	buf_done(&b);
	return r;
}

bool proc_is_below(pid_t pid, pid_t ancestor)
{
	struct proc_stat s;
	for (int depth = 0; pid > 1 && depth < TREE_DEPTH_MAX; depth++) {
		if (pid == ancestor)
			return true;
		if (procfs_stat(pid, &s) < 0)
			return false;
		pid = s.parent;
	}
	return false;
}

int procfs_environ(pid_t pid, struct buf *ret)
{
	char path[64];
	snprintf(path, sizeof(path), "/proc/%d/environ", (int)pid);
	return read_file(AT_FDCWD, path, ENVIRON_MAX, ret);
}

const char *environ_get(const struct buf *env, const char *name)
{
	size_t n = strlen(name);
	for (const char *p = env->data, *end = p + env->size; p && p < end; p += strlen(p) + 1)
		if (strncmp(p, name, n) == 0 && p[n] == '=')
			return p + n + 1; /* read_file() puts a NUL behind the last */
	return NULL;
}

/* ---- the status of somebody else's child ----------------------------------------------------- */

static int status_of(int wait_status, int *ret_code, int *ret_status)
{
	if (WIFEXITED(wait_status)) {
		*ret_code = CLD_EXITED;
		*ret_status = WEXITSTATUS(wait_status);
	} else {
		*ret_code = WCOREDUMP(wait_status) ? CLD_DUMPED : CLD_KILLED;
		*ret_status = WTERMSIG(wait_status);
	}
	return 0;
}

/* The kernel keeps it for whoever had a pidfd open when the process was reaped, from 6.15 on. */
static int status_by_pidfd(int pidfd, int *ret_code, int *ret_status)
{
	struct pidfd_info_v0 info = {.mask = PIDFD_INFO_EXIT_};
	if (ioctl(pidfd, PIDFD_GET_INFO_V0, &info) < 0)
		return -errno;
	if (!(info.mask & PIDFD_INFO_EXIT_))
		return -ENODATA;
	return status_of(info.exit_code, ret_code, ret_status);
}

/* A zombie shows its status to who may trace it; to others, 0. */
static int status_of_zombie(pid_t pid, int *ret_code, int *ret_status)
{
	char path[64];
	struct stat st;
	struct proc_stat s;
	snprintf(path, sizeof(path), "/proc/%d", (int)pid);
	if (stat(path, &st) < 0 || procfs_stat(pid, &s) < 0 || s.state != 'Z')
		return -ENODATA;
	if (!s.wait_status && st.st_uid != geteuid())
		return -ENODATA;
	return status_of(s.wait_status, ret_code, ret_status);
}

int pidfd_status(int pidfd, pid_t pid, int *ret_code, int *ret_status)
{
	struct pollfd p = {pidfd, 0, 0}; /* POLLHUP: it is reaped */
	int r = status_by_pidfd(pidfd, ret_code, ret_status);
	if (r == -ENODATA || r == -ENOTTY || r == -EINVAL)
		r = status_of_zombie(pid, ret_code, ret_status);
	if (r < 0) {
		(void)poll(&p, 1, REAPED_MS);
		r = status_by_pidfd(pidfd, ret_code, ret_status);
	}
	return r;
}
