/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One call on its way through the control server. Private to control/.
 *
 * Arrows: control.c (framing, clients) -> verbs.c (may they? table) -> verbs_*.c (handlers) ->
 * verbs_wait.c (who waits for what) -> control.c's client_*() to answer. access.c, peer.c and audit.c
 * stand beside: who may what, who it is, and what was done.
 */
#pragma once

#include <jansson.h>
#include <sys/types.h>

#include "control/control.h"

enum control_role {
	CONTROL_NOBODY,
#define ROLE(id, word, key, members, doc) CONTROL_##id,
#include "stayd/roles.def"
};

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

#define UID_NONE ((uid_t)-1)

struct peer {
	uid_t uid;
	gid_t gid, *groups;
	size_t n_groups;
	/* For the audit log only, never to decide: */
	pid_t pid;
	uid_t login_uid; /* who logged in, before sudo or su; UID_NONE */
	char program[17];
	char name[33];  /* by peer_name() */
	char actor[64]; /* "uid 0 (root)" */
	bool is_described;
};

struct client;

/* One kept event; the strings are owned. */
struct event_entry {
	uint64_t wall_us;
	enum event_id id;
	char *unit, *set, *text;
};

struct call {
	struct control *control;
	struct core *core;
	struct client *client;
	enum method_id method;
	const json_t *params; /* checked against the method's `in`; NULL when none were sent */
	bool more;
	enum control_role role; /* of the peer, now */
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

/* ---- control.c: clients ---- */

#define CLIENT_BEHIND_MAX (1024 * 1024) /* a follower that far behind is let go */

enum wait_kind {
	WAIT_NONE,
	WAIT_OUTCOMES, /* requests of this client are under way */
	WAIT_STATE,    /* the verb wait */
	WAIT_ROLLOUT,
	WAIT_EVENTS,
	WAIT_LOGS,
};

struct outcome {
	uint64_t request;
	char *name;
	struct unit *unit; /* NULL for a set */
	struct set *set;
	bool is_done;
	enum reply_result result;
	char *text;
};

/* What a client waits for; one thing at a time, as varlink answers in order. */
struct waiting {
	enum wait_kind kind;
	enum method_id method;
	bool is_collecting; /* the handler is still adding outcomes */
	bool is_streaming;  /* more: send progress */
	bool has_synced;    /* the logger was asked for the last words of what failed ... */
	bool awaits_logs;   /* ... and has not answered */
	struct outcome *v;
	size_t n, cap, n_done;
	struct set *watch; /* WAIT_OUTCOMES of a deploy, WAIT_ROLLOUT */
	uint64_t request;
	struct strv names; /* filter of events */
	int state_for;     /* enum wait_for */
	struct log_follow *logs;
};

struct waiting *client_waiting(struct client *cl);
struct peer *client_peer(struct client *cl);
int client_fd(const struct client *cl);
/* Queues one message. params is a JSON object's text. A final one ends the call. */
void client_send(struct client *cl, const struct buf *params, bool continues);
void client_send_error(struct client *cl, const char *error, const char *message, const char *hint);
size_t client_behind(const struct client *cl);
/* Too slow a follower: a last error, then the connection ends. */
void client_drop(struct client *cl, const char *why);
struct client *client_first(struct control *c);
struct client *client_next(const struct client *cl);
struct loop *control_loop(struct control *c);
struct core *control_core(struct control *c);

/* ---- peer.c ---- */

int peer_identify(int fd, struct peer *ret);
void peer_done(struct peer *p);
const char *peer_name(struct peer *p);      /* "?" when it has none; reads /etc/passwd once */
const char *peer_actor(struct peer *p);
void peer_describe(int fd, struct peer *p); /* fills in all that is for the audit log */

/* ---- access.c ---- */

struct access;
/* path: of stayd.conf; NULL: none. Gives nobody anything before access_reload(). */
struct access *access_new(const char *path, uid_t own_uid);
struct access *access_free(struct access *a); /* NULL */
/* Reads stayd.conf. When it fails, root and own_uid are all who may do anything. */
int access_reload(struct access *a, struct err *e);
const char *access_path(const struct access *a); /* "" */
enum control_role access_role(struct access *a, const struct peer *p);
/* What [X-Access] of the unit gives beside that: NOBODY, VIEWER or OPERATOR. */
enum control_role access_unit_role(
	struct access *a, const struct unit_conf *conf, const struct peer *p);
const char *access_role_name(enum control_role r);
const char *access_role_key(enum control_role r);  /* in stayd.conf */
void user_name(uid_t uid, char *out, size_t size); /* "?" when there is none */
struct access *control_access(struct control *c);

/* ---- shares.c ---- */

struct shares; /* free() */
struct shares *shares_new(void);
void shares_charge(struct shares *s, uid_t uid, uint64_t us);
uint64_t shares_wait_until(struct shares *s, uid_t uid); /* CLOCK_MONOTONIC, us; 0: has time now */

/* ---- audit.c ---- */

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
struct audit *control_audit(struct control *c);
void control_rearm(struct control *c); /* after lines were written */

/* ---- rights.c ---- */

/* May the peer make this call, on all that it names? -EACCES with is_denied, e and hint. */
int verbs_allowed(struct call *c);

/* ---- verbs.c ---- */

int verbs_dispatch(struct call *c);
const char *verbs_error_name(const struct call *c);
int error_exit(const char *name);  /* of stayctl */
int method_find(const char *name); /* METHOD_*, -1 */
void verbs_describe(struct buf *out);
/* Type check by a varlink struct type, "(names: ?[]string)". -EINVAL with the name in ret_bad. */
int params_check(const char *type, const json_t *params, char *ret_bad, size_t bad_size);

const char *call_str(const struct call *c, const char *key); /* NULL when absent */
bool call_bool(const struct call *c, const char *key);
int64_t call_int(const struct call *c, const char *key, int64_t absent);

#define CALL_NAMES_MAX 1024 /* names in one request; more are refused */

/* What a name stands for. */
struct targets {
	struct unit **units;
	size_t n, cap;
	struct set **sets; /* only with TARGETS_SETS */
	size_t n_sets, cap_sets;
};
enum {
	TARGETS_LOAD = 1, /* load what is not in the world */
	TARGETS_SETS = 2, /* keep a set as a set instead of its members */
	TARGETS_ALL = 4,  /* no names: everything */
};
int targets_resolve(struct call *c, int flags, struct targets *t);
void targets_done(struct targets *t);
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

/* The handlers, one a method. */
#define METHOD(id, name, role, is_change, in, out, doc) verb_fn verb_##id;
#include "stayd/verbs.def"

/* ---- verbs_json.c: JSON text straight into a buffer; commas are put by themselves ---- */

void j_open(struct buf *b, const char *key, char bracket); /* key NULL: none */
void j_close(struct buf *b, char bracket);
void j_str(struct buf *b, const char *key, const char *value); /* value NULL: null */
void j_strn(struct buf *b, const char *key, const char *value, size_t size);
void j_int(struct buf *b, const char *key, int64_t value);
void j_bool(struct buf *b, const char *key, bool value);
void j_time(struct buf *b, const char *key, uint64_t wall_us); /* RFC 3339, null for 0 */

/* ---- verbs_status.c, verbs_rollout.c: objects others show too ---- */

void unit_json(struct buf *b, struct core *core, const struct unit *u);
void rollout_json(struct buf *b, const char *key, const struct set *s);
const char *unit_health(const struct unit *u);

/* ---- verbs_logs.c ---- */

/* Lines of [since_us, until_us), the last n of them; 0 = no bound. */
int logs_tail_json(struct buf *b, const char *key, struct core *core, const char *unit,
	unsigned n_lines, uint64_t since_us, uint64_t until_us);
void logs_follow_free(struct log_follow *f);
void logs_follow_poke(struct client *cl); /* it has read all that was sent */
void event_json(struct buf *b, const struct event_entry *e);

/* ---- verbs_wait.c ---- */

#define PENDING_MAX 4096 /* requests under way; further ones are refused */
#define RING_MAX    1000 /* events kept */

enum wait_for { FOR_READY, FOR_STOPPED, FOR_AVAILABLE };

struct waits;
struct waits *waits_new(struct control *c);
struct waits *waits_free(struct waits *w); /* NULL */
struct waits *control_waits(struct control *c);
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
/* Into the daemon's own log and the ring: who asks for what. */
void waits_note(struct call *c, uint64_t request, const char *what);
const char *result_word(enum reply_result r); /* "done" */
int result_exit(enum reply_result r);         /* of stayctl */
/* The ring, oldest first; i < waits_ring_count(). */
size_t waits_ring_count(const struct waits *w);
const struct event_entry *waits_ring_at(const struct waits *w, size_t i);
