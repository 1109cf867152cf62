/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The face of confine/: how a process of stayd gives up what it does not need.
 *
 * What each keeps stands in three tables: users.def (who it is), caps.def (capabilities) and
 * calls.def (system calls). stayd.8, PRIVILEGES, says the same for people.
 *
 *   core      its uid, the capabilities of caps.def, an allow-list
 *   logger    a uid of its own, none, an allow-list; Landlock: its directory
 *   stay-net  a uid of its own, none, an allow-list; Landlock: reading what libc and TLS read
 *   launcher  nothing is taken away, on purpose: services are its children, and inherit bounding
 *   keeper    set, no_new_privs and filters. What a service is refused is written in its unit.
 *
 * A role confines itself after its exec. So a core started anew has all of keeper's privileges again,
 * and keeper can replace itself by a version with other tables.
 */
#pragma once

#include "base/base.h"
#include "stayd/wire.h"

struct sock_filter;

/* Everything but Landlock, in the order that works: uid and groups, bounding set, capabilities,
 * no_new_privs, dumpable, filter. What the environment does not allow (a uid that is not mapped,
 * a kernel without seccomp) is logged and left; what fails otherwise is an error. */
int confine(enum role role, struct err *e);

/* The parts, for tests. confine() is them in this order. */
int confine_user(enum role role, struct err *e); /* also the bounding set */
int confine_caps(enum role role, struct err *e); /* also no_new_privs and dumpable */
int confine_calls(enum role role, struct err *e);

/* Who the role becomes when it is started by this process. False: it stays who we are. */
bool confine_user_of(enum role role, uid_t *ret_uid, gid_t *ret_gid);
/* May a role be given another uid here? Asked before the caps it needs are dropped. */
bool confine_can_change_user(void);
uint64_t confine_caps_of(enum role role);
int confine_cap_number(const char *name); /* "CHOWN"; -1 */

/* Landlock, where the kernel has it: nothing but these paths, and no TCP but to connect if asked. */
struct confine_path {
	int fd; /* of it; -1: by its path, which need not exist */
	const char *path;
	bool is_writable;
};
int confine_files(
	const struct confine_path *paths, size_t n, bool can_connect, struct err *e); /* 1: done */

/* ---- the filter, for tests -------------------------------------------------------------- */

#define CONFINE_FILTER_MAX 1024 /* instructions */
/* f has room for CONFINE_FILTER_MAX. How many there are now; 0: this architecture has none. */
size_t confine_filter(enum role role, struct sock_filter *f);

enum confine_answer { CONFINE_REFUSED, CONFINE_KILLED, CONFINE_DEPENDS, CONFINE_ALLOWED };
/* What the table, read apart from the filter, says of a call; DEPENDS: on its arguments. */
enum confine_answer confine_answer(enum role role, long nr);
const char *confine_call_name(long nr); /* of a call in the table; NULL */
