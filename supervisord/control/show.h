/* SPDX-License-Identifier: Apache-2.0 */
/* Objects that several answers show. */
#pragma once

#include "model/model.h"

/* One kept event; the strings are owned. */
struct event_entry {
	uint64_t wall_us;
	enum event_id id;
	char *unit, *set, *text;
};

const char *unit_health(const struct unit *u);
void rollout_json(struct buf *b, const char *key, const struct set *s);
/* A rollout's record and what belongs to it; of an earlier one s is NULL, and there are no members. */
void rollout_rec_json(
	struct buf *b, const char *key, const struct rollout_rec *r, const struct set *s);
void event_json(struct buf *b, const struct event_entry *e);
