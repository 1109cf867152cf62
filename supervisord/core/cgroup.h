/* SPDX-License-Identifier: Apache-2.0 */
/* What the files about cgroups and trees of processes have in common; for others: inner.h. */
#pragma once

#include "core/inner.h"

/* cgroup_place.c */
int cgroup_write(int dirfd, const char *file, const char *text);
void cgroup_enable_controllers(struct core *c, int dirfd);

/* cgroup_limits.c */
void cgroup_set_limits(struct core *c, struct unit *u, int fd);
void cgroup_check_limits(struct unit *u, int fd); /* that a core before us has set */
uint64_t cgroup_oom_kills(int fd);                /* so far */

/* cgroup.c */
int cgroup_read_procs(int dir, struct buf *b);            /* the processes in it, one a line */
bool cgroup_is_in_trees(const struct unit *u, pid_t pid); /* below any of its shims */
struct proc *cgroup_next_shim(struct proc *p);            /* the first that is one, from p on */
#define FOR_EACH_SHIM(p, u)                                                                        \
	for (struct proc *p = cgroup_next_shim(uc(u)->procs); p; p = cgroup_next_shim(p->next))
