/* SPDX-License-Identifier: Apache-2.0 */
/* Who may do what: the roles, and stayd.conf that gives them. */
#pragma once

#include "control/peer.h"
#include "unit/units.h"

enum control_role {
	CONTROL_NOBODY,
#define ROLE(id, word, key, members, doc) CONTROL_##id,
#include "stayd/roles.def"
};

struct access;
/* path: of stayd.conf; NULL: none. Gives nobody anything before access_reload(). */
struct access *access_new(const char *path, uid_t own_uid);
struct access *access_free(struct access *a); /* NULL */
/* Reads stayd.conf. When it fails, root and own_uid are all who may do anything. */
int access_reload(struct access *a, struct err *e);
const char *access_path(const struct access *a); /* "" */
enum control_role access_role(struct access *a, const struct peer *p);
/* What [X-Access] of the unit gives beside that: NOBODY, VIEWER or OPERATOR. */
enum control_role access_unit_role(
	struct access *a, const struct unit_conf *conf, const struct peer *p);
const char *access_role_name(enum control_role r);
const char *access_role_key(enum control_role r); /* in stayd.conf */
