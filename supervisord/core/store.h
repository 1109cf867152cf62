/* SPDX-License-Identifier: Apache-2.0 */
/* What the files about units, sets and revisions have in common; for others: inner.h. */
#pragma once

#include "core/inner.h"

/* store.c; confs and names that are returned are the caller's */
char *store_revision_dir(struct core *c, const char *set, uint32_t revision);
struct unit_conf *store_load_revision(
	struct core *c, const char *name, const char *set, uint32_t revision);
void store_snapshot_write(struct core *c, struct set *s, uint32_t revision, struct err *e);
bool store_makes_set(const struct unit_conf *conf);
struct set *store_make_set(struct core *c, const struct unit_conf *conf);
void store_join_set(struct core *c, struct set *s, struct unit *u);
char *store_member_name(const struct set *s, unsigned index);
void store_load_members(struct core *c, struct set *s, unsigned from, unsigned to);
/* Into the world, unless it is there: with the conf given, the one read (or NULL), or its own. */
struct unit *store_put_conf(struct core *c, const char *name, struct unit_conf *conf);
struct unit *store_put_read(struct core *c, const char *name, uint32_t revision, bool has_revision,
	struct unit_conf *read);
struct unit *store_put(struct core *c, const char *name, uint32_t revision, bool has_revision);
bool store_is_to_run(const struct unit *u);
void store_note_unread(struct core *c, const struct unit_conf *conf);
void store_log_diagnostics(const struct unit_conf *conf);

/* store_reload.c */
void store_reload_unit(struct core *c, struct unit *u, struct buf *notes);
void store_configure_again(struct core *c);
