/* SPDX-License-Identifier: Apache-2.0 */
/* Who waits for what, and the events kept. */
#pragma once

#include "control/names.h"
#include "control/show.h"

#define PENDING_MAX 4096 /* requests under way; further ones are refused */
#define RING_MAX    1000 /* events kept */

enum wait_for { FOR_READY, FOR_STOPPED, FOR_AVAILABLE };

struct waits;
struct waits *waits_new(struct control *c);
struct waits *waits_free(struct waits *w); /* NULL */
/* Begins collecting outcomes for this call. */
void outcomes_begin(struct call *c);
/* A new outcome under a fresh request id; 0 when PENDING_MAX is reached. */
uint64_t outcomes_add(struct call *c, const char *name, struct unit *u, struct set *s);
/* The request was not accepted. */
void outcomes_refuse(struct call *c, uint64_t request, const char *text);
/* All are added: answers now when none is open or the caller does not wait. */
int outcomes_end(struct call *c, bool no_wait);
void waits_client_gone(struct waits *w, struct client *cl);
int waits_state(struct call *c, const struct targets *t, enum wait_for what);
int waits_rollout(struct call *c, struct set *s);
/* What core tells; see control.h. */
void waits_reply_done(
	struct waits *w, uint64_t request, enum reply_result result, const char *text);
void waits_event(struct waits *w, const struct effect *fx);
void waits_logs_written(struct waits *w);
/* Into the daemon's own log and the ring: who asks for what. */
void waits_note(struct call *c, uint64_t request, const char *what);
/* The ring, oldest first; i < waits_ring_count(). */
size_t waits_ring_count(const struct waits *w);
const struct event_entry *waits_ring_at(const struct waits *w, size_t i);
