/* SPDX-License-Identifier: Apache-2.0 */
/* The audit log: what a change says of itself. */
#pragma once

#include "control/call.h"

struct audit;
/* state_dir NULL: nothing is kept. runtime_dir NULL: without an anchor. */
struct audit *audit_new(struct loop *l, const char *state_dir, const char *runtime_dir);
struct audit *audit_free(struct audit *a); /* NULL */
/* -EBUSY with c->e filled: a user who is no operator has changed too much lately to be written down. */
int audit_may_change(struct audit *a, struct call *c);
/* Before a change begins; c->change names it from now on. */
void audit_intent(struct audit *a, struct call *c);
/* One more request of it is under way ... */
void audit_adds(struct audit *a, uint64_t change);
/* ... and has ended. The last one ends the change, when its handler has returned. */
void audit_settled(struct audit *a, uint64_t change, enum reply_result result, const char *text);
/* A part that took no time. */
void audit_result(struct audit *a, uint64_t change, enum reply_result result, const char *text);
/* The handler has returned r. */
void audit_called(struct audit *a, const struct call *c, int r);
/* False: one too many of this user's, which is only counted. */
bool audit_refused(struct audit *a, const struct call *c);
/* When lines are being lost: when to try again; else USEC_INFINITY. */
uint64_t audit_retry_at(const struct audit *a);
void audit_retry(struct audit *a);
void audit_json(struct buf *b, const char *key, const struct audit *a);
