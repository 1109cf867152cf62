/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One call on its way through the control server. Private to control/.
 *
 * Arrows, from the top: server.c (it joins all below) -> verbs_*.c (the handlers) and rights.c (may they?) ->
 * waits.c (who waits for what) -> logs.c, show.c (what is told of units) -> names.c (what names mean),
 * audit.c (what was done) -> call.c (methods and their parameters) -> client.c (connections) ->
 * access.c, shares.c, peer.c (who may what and how much; who it is).
 */
#pragma once

#include <jansson.h>

#include "control/access.h"
#include "control/client.h"
#include "control/control.h"

enum method_id {
#define METHOD(id, name, role, is_change, in, out, doc) METHOD_##id,
#include "stayd/verbs.def"
	METHOD_MAX,
};

struct method {
	const char *name;
	enum control_role role;
	bool is_change;
	const char *in, *out, *doc;
};
extern const struct method methods[METHOD_MAX];

/* What all calls share; server.c makes it. */
struct control {
	struct loop *loop;
	const struct control_daemon *daemon;
	struct core *core;
	struct clients *clients;
	struct waits *waits;
	struct access *access;
	struct audit *audit;
};

struct call {
	struct control *control;
	const struct control_daemon *daemon;
	struct core *core;
	struct client *client;
	enum method_id method;
	const json_t *params; /* checked against the method's `in`; NULL when none were sent */
	bool more;
	enum control_role role; /* of the peer, now */
	unsigned n_looked_up;   /* names that took more than a look into the world */
	bool is_denied;         /* the failure is a lack of rights */
	uint64_t change;        /* of the audit log; 0: it is none */
	struct buf out;         /* the reply's parameters: one JSON object */
	/* On failure: */
	struct err e;
	const char *error; /* name below org.stayd.; NULL: chosen by e.code */
	char hint[320];
};

/* A handler's result: negative = -errno with e filled; else one of these. */
enum { VERB_REPLIED, VERB_WAITS };
typedef int verb_fn(struct call *c);

int method_find(const char *name); /* METHOD_*, -1 */
void methods_describe(struct buf *out);
/* Type check by a varlink struct type, "(names: ?[]string)". -EINVAL with the name in ret_bad. */
#define CALL_NAMES_MAX 1024 /* names in one request; more are refused */
int params_check(const char *type, const json_t *params, char *ret_bad, size_t bad_size);

const char *call_str(const struct call *c, const char *key); /* NULL when absent */
bool call_bool(const struct call *c, const char *key);
int64_t call_int(const struct call *c, const char *key, int64_t absent);
const char *call_actor(const struct call *c); /* "uid 0 (root)" */

const char *call_error(const struct call *c); /* the name of its failure */
int error_exit(const char *name);             /* of stayctl */
const char *result_word(enum reply_result r); /* "done" */
int result_exit(enum reply_result r);         /* of stayctl */
