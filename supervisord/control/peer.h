/* SPDX-License-Identifier: Apache-2.0 */
/* Who is at the other end of a connection. */
#pragma once

#include <sys/types.h>

#include "base/base.h"

#define UID_NONE ((uid_t)-1)

struct peer {
	uid_t uid;
	gid_t gid, *groups;
	size_t n_groups;
	/* For the audit log only, never to decide: */
	pid_t pid;
	uid_t login_uid; /* who logged in, before sudo or su; UID_NONE */
	char program[17];
	char name[33];  /* by peer_name() */
	char actor[64]; /* "uid 0 (root)" */
	bool is_described;
};

int peer_identify(int fd, struct peer *ret);
void peer_done(struct peer *p);
const char *peer_name(struct peer *p); /* "?" when it has none; reads /etc/passwd once */
const char *peer_actor(struct peer *p);
void peer_describe(int fd, struct peer *p); /* fills in all that is for the audit log */
