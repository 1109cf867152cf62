/* SPDX-License-Identifier: Apache-2.0 */
/* The audit log: what a change says of itself. */
#pragma once

#include "control/call.h"

struct audit;
/* Without a state directory nothing is kept; without a runtime directory there is no anchor. */
struct audit *audit_new(struct loop *l, const struct core_status *s);
struct audit *audit_free(struct audit *a); /* NULL */
/* -EBUSY with c->e filled: a user who is no operator has changed too much lately to be written down. */
int audit_may_change(struct audit *a, struct call *c);
/* Before a change begins; c->change names it from now on. */
void audit_intent(struct audit *a, struct call *c);
/* One more request of it is under way ... */
void audit_adds(struct audit *a, uint64_t change);
/* ... and has ended. The last one ends the change, when its handler has returned. */
void audit_settled(struct audit *a, uint64_t change, enum reply_result result, const char *text);
/* The program that a change under way wanted to go to is not taken. */
void audit_reexec_refused(struct audit *a, const char *why);
/* What a signal to the daemon asks for: the kernel's word of who sent it ends at keeper. */
uint64_t audit_signal(struct audit *a, enum method_id method, const char *signal);
void audit_signal_done(struct audit *a, uint64_t change);
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
