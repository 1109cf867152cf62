/* SPDX-License-Identifier: Apache-2.0 */
/* What core does for a logger: the directory, made, handed over to its user, as a descriptor. */
#pragma once

#include "check_main.h"
#include "confine/confine.h"

#include <fcntl.h>

/* -errno when there is something else. */
static inline int log_dir_open(const char *path)
{
	char command[160];
	uid_t uid;
	gid_t gid;
	int r = mkdir_parents(path, 0755);
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return r < 0 ? r : -errno;
	if (confine_can_change_user() && confine_user_of(ROLE_LOGGER, &uid, &gid)) {
		snprintf(command, sizeof(command), "chown -R %u:%u %s", uid, gid, path);
		ck_assert_int_eq(system(command), 0);
	}
	return fd;
}
