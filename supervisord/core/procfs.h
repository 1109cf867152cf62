/* SPDX-License-Identifier: Apache-2.0 */
/* What the kernel says about a process, by /proc and pidfd. Private to core/. */
#pragma once

#include "base/base.h"

#include <sys/types.h>

#define TREE_DEPTH_MAX 4096 /* parents walked up */

struct proc_stat {
	char state;
	pid_t parent;
	uint64_t start_us; /* boot clock, rounded down to a tick */
	int wait_status;   /* of a zombie, to who may trace it; else 0 */
	char name[16];
};
int procfs_stat(pid_t pid, struct proc_stat *ret);
bool proc_is_below(pid_t pid, pid_t ancestor); /* or is it */
int procfs_environ(pid_t pid, struct buf *ret);
const char *environ_get(const struct buf *env, const char *name); /* NULL: not there */

int pidfd_of(pid_t pid); /* or -errno */
int pidfd_signal(int pidfd, int signo);
bool pidfd_has_ended(int pidfd);
/* How the process of a pidfd that has ended did; -errno: that cannot be known. May wait REAPED_MS. */
int pidfd_status(int pidfd, pid_t pid, int *ret_code, int *ret_status);
