/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One logger to a directory, one after the other.
 *
 * A logger outlives a killed keeper and goes on reading, so that no service waits and no line is lost
 * (see on_keeper()). Its successor has the same pipes and files: it asks the one before it to end, which
 * stores what it has read and leaves the rest in the pipes, and begins when that one is gone.
 *
 * The lock is fcntl(2)'s, because only that one tells who holds it, in the kernel's word; it goes with
 * its process, so there is nothing stale.
 *
 * Called by logger.c when it is told of its directory.
 */
#include "private.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/syscall.h>

#define TURN_MS   2000    /* its drain is a turn of its loop; longer, and its disk hangs */
#define TURNS_MAX 4       /* others may want it too */

static pid_t holder_of(int fd)
{
	struct flock l = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
	return fcntl(fd, F_GETLK, &l) == 0 && l.l_type != F_UNLCK ? l.l_pid : 0;
}

/* Whoever holds the lock still when its pidfd is open is the one behind the pidfd. */
static int ask_to_end(int fd, pid_t pid)
{
	CLEANUP_CLOSE int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	if (pidfd < 0 || holder_of(fd) != pid)
		return 0; /* gone already */
	if (syscall(SYS_pidfd_send_signal, pidfd, SIGTERM, NULL, 0) < 0)
		return -errno;
	struct pollfd p = {pidfd, POLLIN, 0};
	return poll(&p, 1, TURN_MS) == 1 ? 0 : -ETIMEDOUT;
}

int turn_take(int dir_fd)
{
	CLEANUP_CLOSE int fd =
		openat(dir_fd, LOG_LOCK_NAME, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return -errno;
	for (int i = 0; i < TURNS_MAX; i++) {
		struct flock l = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
		if (fcntl(fd, F_SETLK, &l) == 0)
			return TAKE_FD(fd);
		pid_t pid = holder_of(fd);
		int r = pid > 0 ? ask_to_end(fd, pid) : 0;
		if (r < 0)
			return r;
	}
	return -EBUSY;
}
