/* SPDX-License-Identifier: Apache-2.0 */
/*
 * stayctl: what its files share. args.c parses, client.c talks, print.c shows, live.c follows a
 * rollout, do_*.c are the verbs.
 *
 * Rules of output: standard output carries data only, notes go to standard error; --json is one
 * document whose first key is "schema"; text from units is made printable before it is shown.
 */
#pragma once

#include <jansson.h>

#include "base/base.h"
#include "stayd/stayd.h"

enum verb_group { GROUP_SEE, GROUP_DO, GROUP_CHANGE, GROUP_FILES, GROUP_ADMIN, GROUP_MAX };

struct ctl;
struct verb {
	const char *name;
	enum verb_group group;
	bool is_change; /* its method is one */
	const char *grammar, *doc, *examples;
	int (*run)(struct ctl *c);
};
extern const struct verb verbs[];
extern const size_t n_verbs;

#define PROPERTIES_MAX 16

struct ctl {
	const struct verb *verb;
	const char *socket;
	int argc; /* after the verb and its options */
	char **argv;
	bool json, quiet, follow, no_wait, now, runtime, try_restart, or_restart, stay;
	bool detailed_exitcode, verify;
	const char *file, *head; /* of the audit log */
	uint64_t timeout_us;     /* USEC_INFINITY: none */
	uint64_t since_us;       /* wall clock; 0 = any */
	const char *signal, *who, *wait_for, *state;
	long lines, pause_after, to_revision, code; /* -1: not given */
	const char *properties[PROPERTIES_MAX];
	size_t n_properties;
	json_t *changes; /* of links: --json has one document, so what --now does is told with them */
};

/* ---- args.c ---- */
const struct verb *verb_find(const char *name);
/* The nearest verb, NULL when none is near. */
const char *verb_nearest(const char *name);
/* "30", "30s", "5min", "500ms", "1h" -> microseconds. -EINVAL. */
int parse_span(const char *s, uint64_t *ret_us);
/* A wrong use: message, hint to --help; the exit code. */
int usage(const struct ctl *c, const char *format, ...) PRINTF_LIKE(2, 3);
void print_help(const struct verb *v, FILE *out); /* NULL: all verbs */
int ctl_main(int argc, char **argv);

/* ---- client.c ---- */
struct client {
	int fd;
	struct buf in;
	size_t scanned;       /* bytes of in known to hold no NUL */
	uint64_t deadline_us; /* CLOCK_MONOTONIC; USEC_INFINITY */
};
enum { CLIENT_TIMED_OUT = 1, CLIENT_INTERRUPTED = 2 };
bool client_is_interrupted(void); /* from the first client_read() on Ctrl-C ends no program */

/* $STAYD_SOCKET, --socket, or the runtime directory's. The caller frees. */
char *socket_path(const char *option);
int client_open(struct client *cl, const char *path); /* -errno */
void client_close(struct client *cl);
/* Takes params (may be NULL). */
int client_call(struct client *cl, const char *method, json_t *params, bool more);
/* One message, in cl->in until the next call: 0, CLIENT_*, -errno (-ECONNRESET: closed). */
int client_read(struct client *cl, char **ret_text, size_t *ret_size);

struct reply {
	json_t *root;
	json_t *params;    /* borrowed from root */
	const char *error; /* NULL: none */
	bool continues;
};
int client_reply(struct client *cl, struct reply *ret); /* as client_read(); -EBADMSG */
void reply_done(struct reply *r);
/* The bytes of the parameters object inside a final answer's text, without parsing it; NULL when
 * it is not of that shape. */
const char *reply_raw(const char *text, size_t size, size_t *ret_size);

/* Opens a connection or says why not: 0, or the exit code. */
int connect_or_say(struct ctl *c, struct client *cl);
/* Prints a varlink error; the exit code. */
int say_error(struct ctl *c, const struct reply *r);
int exit_of_error(const char *error, bool is_status);
int exit_of_result(const char *result);
/* One call, one answer: 0 with *ret, else the exit code after saying why. */
int ask(struct ctl *c, const char *method, json_t *params, struct reply *ret);
/* As ask(), and prints the parameters to stdout as they came. */
int ask_raw(struct ctl *c, const char *method, json_t *params);
/* A client_read() result other than 0: says it; the exit code. id: NULL or what goes on. */
int say_broken(int r, const char *id);
json_t *names_json(struct ctl *c); /* argv as an array, '#' as it is */

/* ---- print.c ---- */
struct table {
	char **cells;
	size_t n_cells, cap_cells, n_columns;
};
void table_begin(struct table *t, size_t n_columns, const char *const *heads);
void table_add(struct table *t, const char *text); /* next cell; made printable */
void table_done(struct table *t);
void table_print(struct table *t, FILE *out); /* and frees */

enum colour { COLOUR_NONE, COLOUR_GREEN, COLOUR_YELLOW, COLOUR_RED, COLOUR_DIM };
bool out_is_utf8(void);
bool out_has_colour(int fd);
/* "●" in the colour of an active_state, or its ASCII likeness. */
const char *state_symbol(const char *active_state);
enum colour state_colour(const char *active_state);
const char *colour_on(enum colour c);
const char *colour_off(void);
/* Text with control characters as \xNN; the tab stays. Ends the line. */
void print_line(FILE *out, const char *prefix, const char *text, size_t size);
/* "2min" since an RFC 3339 time; "-" for null. */
#define AGE_MAX 32
char *age_of(char out[AGE_MAX], const char *rfc3339, uint64_t now_wall_us);
int64_t parse_rfc3339(const char *s);             /* wall us; -1 */
const char *js(const json_t *o, const char *key); /* "" when absent */
const char *jp(const json_t *o, const char *key); /* printable: for printf() */
int64_t ji(const json_t *o, const char *key);
/* {"schema":"stay.VERB/1", ...the members of params} to stdout. */
void print_json(const char *verb, const json_t *params);
/* Outcomes of a change to stdout and stderr; the exit code. */
int print_outcomes(struct ctl *c, const json_t *params);

/* ---- live.c ---- */
struct live {
	bool is_terminal, has_head;
	bool is_once;       /* one picture, nothing follows */
	unsigned n_drawn;   /* lines to go back */
	unsigned columns;   /* longer lines are cut: a wrapped one would not be gone back over */
	char last[256][64]; /* what was said of each member, by index - 1 */
	char last_state[64];
	uint64_t began_us;
	uint64_t begun_us[256], ended_us[256]; /* of each member, as seen from here; 0 = not yet */
};
void live_begin(struct live *l, FILE *out);
void live_show(struct live *l, FILE *out, const json_t *rollout);
/* Last line of a rollout; the exit code. */
int rollout_end(FILE *out, const json_t *rollout);
int exit_of_rollout(const char *state);

/* ---- do_*.c ---- */
#define VERB(id, name, group, method, grammar, doc, examples) int do_##id(struct ctl *c);
#include "stayd/verbs.def"
/* Hidden: words for the completion scripts. */
int do_complete_words(struct ctl *c);

/* ---- check.c, in files of their own ---- */
int ctl_check(int argc, char **argv) __attribute__((weak));
int ctl_explain(int argc, char **argv) __attribute__((weak));
