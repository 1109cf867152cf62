/* SPDX-License-Identifier: Apache-2.0 */
/* What the names in a call stand for. */
#pragma once

#include "control/call.h"

struct targets {
	struct unit **units;
	size_t n, cap;
	struct set **sets; /* only with TARGETS_SETS */
	size_t n_sets, cap_sets;
	struct map known; /* of units, when they are many */
};
enum {
	TARGETS_LOAD = 1, /* load what is not in the world */
	TARGETS_SETS = 2, /* keep a set as a set instead of its members */
	TARGETS_ALL = 4,  /* no names: everything */
};
int targets_resolve(struct call *c, int flags, struct targets *t);
void targets_add(struct targets *t, struct unit *u); /* once, however often it is named */
void targets_done(struct targets *t);
/* One more name of the call is a pattern or a unit to be read from its files: -E2BIG with e filled when
 * there were too many. */
int call_looks_up(struct call *c);
/* A known set by any of its spellings, without loading anything. */
struct set *find_set(struct world *w, const char *name);
/* The set the parameter "name" means, loading it if need be; NULL with e and hint filled. */
struct set *call_set(struct call *c);
/* Could it mean a set? "web@1" never does. */
bool name_may_be_set(const char *name);
bool name_fits(const char *pattern, const char *name); /* with or without .service */
/* "web#1" -> "web@1.service"; NULL when it cannot be a name. The caller frees. */
char *complete_name(const char *name);
int fail_no_unit(struct call *c, const char *name); /* -ENOENT with did-you-mean */
