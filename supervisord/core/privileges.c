/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the daemon's own processes could not give up here, seen from outside of them.
 *
 * Read from the kernel when somebody asks, not remembered from what was tried: a status that says
 * nothing means that /proc says so. A process that is not there, or just starting, is not judged.
 */
#include "core/inner.h"

#include <fcntl.h>

#define STATUS_SIZE_MAX 8192

/* A field of /proc/PID/status; UINT64_MAX: none. */
static uint64_t field(const struct buf *b, const char *name, int base)
{
	const char *p = strstr(b->data, name);
	return p ? strtoull(p + strlen(name), NULL, base) : UINT64_MAX;
}

void core_each_unconfined(
	struct core *c, void (*each)(void *arg, const char *process, const char *why), void *arg)
{
	const struct {
		const char *name;
		pid_t pid;
		bool has_user;
	} roles[] = {
		{"core",     getpid(),                 false},
		{"logger",   c->role_pid[ROLE_LOGGER], true },
		{"stay-net", c->role_pid[ROLE_NET],    true },
	};
	for (size_t i = 0; i < ARRAY_SIZE(roles); i++) {
		char path[64];
		struct buf b = {0};
		snprintf(path, sizeof(path), "/proc/%d/status", (int)roles[i].pid);
		if (roles[i].pid && read_file(AT_FDCWD, path, STATUS_SIZE_MAX, &b) == 0) {
			if (c->is_root && roles[i].has_user && field(&b, "\nUid:", 10) == 0)
				each(arg, roles[i].name,
					"runs as root: CAP_SETUID, CAP_SETGID, CAP_KILL, CAP_CHOWN or "
					"CAP_DAC_OVERRIDE is missing, or its uid is not mapped here");
			if (roles[i].has_user && field(&b, "\nCapPrm:", 16) != 0)
				each(arg, roles[i].name, "has capabilities");
			if (field(&b, "\nSeccomp:", 10) == 0)
				each(arg, roles[i].name,
					"no filter over system calls: not in this kernel, or no list "
					"for this architecture");
		}
		buf_done(&b);
	}
}
