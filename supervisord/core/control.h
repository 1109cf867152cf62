/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The control socket: a varlink server for the interface org.stayd.Control (verbs.def).
 *
 * Private to core/. Never blocks; every client, queue and message is bounded (stayd.h).
 */
#pragma once

#include "model/model.h"

struct core;
struct control;

/* Listens on listen_fd (a bound, listening, non-blocking SOCK_STREAM Unix socket). The descriptor
 * stays the caller's: keeper holds it across cores. */
int control_new(struct loop *l, int listen_fd, struct core *core, struct control **ret);
/* Flushes what the sockets take at once, closes clients. NULL is fine; returns NULL. */
struct control *control_free(struct control *c);

/* FX_REPLY: the outcome of a request that a handler submitted. Unknown ids are ignored (they may
 * be from before a restart of core). May be called from within core_submit(). */
void control_reply_done(
	struct control *c, uint64_t request, enum reply_result result, const char *text);

/* FX_EVENT: goes into the ring of the last events, to `events -f`, to those who watch a rollout or
 * wait for a state. Call it after the step is over and the world is consistent. */
void control_event(struct control *c, const struct effect *fx);
/* What core_sync_logs() asked for is done, or took too long. */
void control_logs_written(struct control *c);

/* Connections open now, for status and tests. */
size_t control_clients(const struct control *c);
