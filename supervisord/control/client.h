/* SPDX-License-Identifier: Apache-2.0 */
/* The clients of the control server: connections, framing, bounds. */
#pragma once

#include <jansson.h>

#include "control/peer.h"
#include "control/waiting.h"

struct access;
struct client;
struct clients;

#define CLIENT_BEHIND_MAX (1024 * 1024) /* a follower that far behind is let go */
#define CLIENT_KEPT_MAX   (16 * 1024)   /* of a buffer, for a client that may idle for days */

/* What the server does with its clients. */
struct client_ops {
	/* A call has come whole; client_send() or one of the errors ends it, now or later. params: an
	 * object or NULL, good until this returns. */
	void (*called)(struct client *cl, const char *name, const json_t *params, bool more);
	void (*has_read)(struct client *cl); /* all that was sent */
	void (*gone)(struct client *cl);     /* it ends here */
	void (*wake)(void *owner);           /* see clients_wake() */
};

/* Listens on listen_fd, which stays the caller's. access gives who comes a place by its role. */
int clients_new(struct loop *l, int listen_fd, struct access *a, const struct client_ops *ops,
	void *owner, struct clients **ret);
struct clients *clients_free(struct clients *c); /* NULL is fine; NULL */
size_t clients_count(const struct clients *c);
/* The clients' timer also calls wake(), once, at or after at_us (monotonic clock); USEC_INFINITY: not. */
void clients_wake(struct clients *c, uint64_t at_us);
struct client *client_first(struct clients *c);
struct client *client_next(const struct client *cl);

void *client_owner(const struct client *cl);
struct waiting *client_waiting(struct client *cl);
struct peer *client_peer(struct client *cl);
int client_fd(const struct client *cl);
/* Queues one message. params is a JSON object's text. A final one ends the call. */
void client_send(struct client *cl, const struct buf *params, bool continues);
/* An error of ours, by its name below org.stayd. */
void client_send_error(struct client *cl, const char *error, const char *message, const char *hint);
/* Any error, by its full name, with one parameter of that key. */
void client_fail(
	struct client *cl, const char *error, const char *key, const char *value, const char *hint);
size_t client_behind(const struct client *cl);      /* bytes it has not read */
size_t client_user_behind(const struct client *cl); /* ... on all connections of its user */
/* Too slow a follower: a last error, then the connection ends. */
void client_drop(struct client *cl, const char *why);
