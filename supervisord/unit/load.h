/* SPDX-License-Identifier: Apache-2.0 */
/* Finding a unit's files; shared by loading, enabling and snapshots. Private to unit/. */
#pragma once

#include "internal.h"

/* What a name leads to in the unit path. Strings are malloc'ed. */
struct unit_found {
	char *name;        /* after following aliases */
	char *file;        /* the fragment; NULL: none */
	struct strv links; /* the aliases on the way to it */
	bool is_masked, is_loop;
	int error; /* the file is there and cannot be looked at */
};
void unit_find(const struct unit_path *p, const char *name, struct unit_found *ret);
void unit_found_done(struct unit_found *f);
/* Drop-ins in the order they apply. */
/* -E2BIG: more than DROP_INS_MAX, and ret_files is empty. *ret_unread: a directory of them that cannot
 * be read (malloc'ed), and *ret_error why; NULL: there is none. */
int unit_find_drop_ins(const struct unit_path *p, const char *asked, const char *name,
	struct strv *ret_files, char **ret_unread, int *ret_error);
