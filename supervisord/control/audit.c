/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The audit log: who changed or tried to change what, and how it ended.
 *
 * Owns the changes under way and what their lines say; audit_file.c writes the lines. Invariants:
 *  1. The intent of a change is in the kernel before the change begins; its outcome follows when it is
 *     known. A core that died in between is followed by one that writes the outcome "unknown".
 *  2. A change is one call, also of many units: one intent, one outcome with the worst result.
 *  3. Nobody but operators can push the history out: refusals are limited per user and in all, and so are
 *     the changes of those who may change no more than units of their own.
 * Called by server.c, waits.c and the handlers.
 */
#include "control/audit.h"
#include "control/audit_file.h"
#include "control/json.h"
#include "stayd/stayd.h"

#define USERS_MAX      16   /* with limits of their own; all others share them */
#define ARGS_SHORT_MAX 512  /* of a refused call */
#define ARGS_OWNER_MAX 4096 /* of an owner's change; those of operators are kept whole */

/* So many at once, of a user, and one more after each per_us. */
struct allowance {
	unsigned burst;
	uint64_t per_us;
};
static const struct allowance refusals = {16, 30 * USEC_PER_SEC};
/* Two lines of some kilobytes a second take hours for the whole log. */
static const struct allowance owner_changes = {100, USEC_PER_SEC};

/* A change under way; waits.c bounds them, as each has a request under way. */
struct change {
	uint64_t id;  /* in this core */
	uint64_t seq; /* of its intent; 0: that line was lost */
	uint64_t began_us;
	enum method_id method;
	unsigned n_open, n_done;
	bool is_called; /* the handler has returned */
	enum reply_result result;
	char text[160];
};

struct bucket {
	unsigned n;        /* lines it has had lately */
	uint64_t since_us; /* n is of */
	unsigned n_silent; /* those since that were too many */
};

struct user_lines {
	uid_t uid;
	struct bucket refusals, changes;
};

struct audit {
	struct audit_file *file; /* NULL: there is no place for it */
	struct change *changes;
	size_t n_changes, cap_changes;
	uint64_t last_id;
	struct user_lines users[USERS_MAX + 1];
	size_t n_users;
};

/* ---- lines ---- */

static void who(struct buf *b, struct client *cl)
{
	struct peer *p = client_peer(cl);
	peer_describe(client_fd(cl), p);
	j_int(b, "uid", p->uid);
	j_int(b, "gid", p->gid);
	j_int(b, "pid", p->pid);
	j_str(b, "user", peer_name(p));
	if (p->login_uid != UID_NONE)
		j_int(b, "login_uid", p->login_uid);
	if (p->program[0])
		j_str(b, "program", p->program);
}

static void what(struct buf *b, const struct call *c, size_t args_max)
{
	j_str(b, "verb", methods[c->method].name);
	char *args = c->params ? json_dumps(c->params, JSON_COMPACT) : NULL;
	size_t size = args ? strlen(args) : 0;
	if (size > args_max)
		j_strn(b, "args_begin", args, args_max);
	else if (size)
		buf_printf(b, ",\"args\":%s", args);
	free(args);
}

static void outcome_line(struct audit *a, const struct change *ch, const char *result,
	int exit_code, const char *text)
{
	struct buf b = {0};
	audit_line_begin(&b, "outcome");
	j_int(&b, "of", (int64_t)ch->seq);
	j_str(&b, "verb", methods[ch->method].name);
	j_int(&b, "units", ch->n_done);
	j_int(&b, "duration_ms", (int64_t)((now_mono_us() - ch->began_us) / USEC_PER_MSEC));
	j_str(&b, "result", result);
	j_int(&b, "exit", exit_code);
	if (text && text[0])
		j_str(&b, "text", text);
	(void)audit_file_append(a->file, &b);
	buf_done(&b);
}

static void outcome_of_another(struct audit_file *f, const struct unfinished *u, const char *result,
	int exit_code, const char *text)
{
	struct buf b = {0};
	audit_line_begin(&b, "outcome");
	j_int(&b, "of", (int64_t)u->seq);
	if (u->verb[0])
		j_str(&b, "verb", u->verb);
	j_str(&b, "result", result);
	j_int(&b, "exit", exit_code);
	j_str(&b, "text", text);
	(void)audit_file_append(f, &b);
	buf_done(&b);
}

/* What the core before this one began and did not live to see the end of. A re-exec is meant to end it:
 * we are the outcome. */
static void late_outcome(void *arg, struct audit_file *f, const struct unfinished *u)
{
	const struct core_status *s = arg;
	char text[160];
	if (!streq(u->verb, methods[METHOD_REEXEC].name) || !s->is_reexec_news) {
		outcome_of_another(f, u, "unknown", STAY_EXIT_FAILED,
			"core ended before it was known; it may have been done");
	} else if (streq(s->reexec_state, "returned")) {
		outcome_of_another(
			f, u, result_word(REPLY_FAILED), STAY_EXIT_FAILED, s->reexec_text);
	} else {
		snprintf(text, sizeof(text), "stayd %s took over", s->version);
		outcome_of_another(f, u, result_word(REPLY_DONE), STAY_EXIT_OK, text);
	}
}

/* ---- changes ---- */

static struct change *change_find(struct audit *a, uint64_t id)
{
	for (size_t i = a->n_changes; id && i-- > 0;)
		if (a->changes[i].id == id)
			return &a->changes[i];
	return NULL;
}

static uint64_t change_begin(struct audit *a, enum method_id method, struct buf *line)
{
	GROW(a->changes, a->n_changes, a->cap_changes);
	a->changes[a->n_changes++] = (struct change){
		.id = ++a->last_id,
		.seq = audit_file_append(a->file, line),
		.method = method,
		.began_us = now_mono_us(),
	};
	buf_done(line);
	return a->last_id;
}

void audit_intent(struct audit *a, struct call *c)
{
	struct buf b = {0};
	if (!a->file)
		return;
	audit_line_begin(&b, "intent");
	who(&b, c->client);
	what(&b, c, c->role < CONTROL_OPERATOR ? ARGS_OWNER_MAX : 2 * CONTROL_MESSAGE_MAX);
	c->change = change_begin(a, c->method, &b);
}

uint64_t audit_signal(struct audit *a, enum method_id method, const char *signal)
{
	struct buf b = {0};
	if (!a->file)
		return 0;
	audit_line_begin(&b, "intent");
	j_str(&b, "signal", signal);
	j_str(&b, "verb", methods[method].name);
	return change_begin(a, method, &b);
}

static void change_end(
	struct audit *a, struct change *ch, const char *result, int exit_code, const char *text)
{
	outcome_line(a, ch, result, exit_code, text);
	*ch = a->changes[--a->n_changes];
}

static void change_end_if_done(struct audit *a, struct change *ch)
{
	if (ch->is_called && !ch->n_open)
		change_end(a, ch, result_word(ch->result), result_exit(ch->result), ch->text);
}

void audit_adds(struct audit *a, uint64_t change)
{
	struct change *ch = change_find(a, change);
	if (ch)
		ch->n_open++;
}

static void note_result(struct change *ch, enum reply_result result, const char *text)
{
	ch->n_done++;
	if (!result_exit(result) || result_exit(ch->result))
		return;
	ch->result = result;
	str_copy(ch->text, strna(text), sizeof(ch->text));
}

void audit_result(struct audit *a, uint64_t change, enum reply_result result, const char *text)
{
	struct change *ch = change_find(a, change);
	if (ch)
		note_result(ch, result, text);
}

void audit_settled(struct audit *a, uint64_t change, enum reply_result result, const char *text)
{
	struct change *ch = change_find(a, change);
	if (!ch || !ch->n_open)
		return;
	note_result(ch, result, text);
	ch->n_open--;
	change_end_if_done(a, ch);
}

void audit_called(struct audit *a, const struct call *c, int r)
{
	struct change *ch = change_find(a, c->change);
	if (!ch)
		return;
	ch->is_called = true;
	if (r < 0 && !ch->n_open && !ch->n_done)
		change_end(a, ch, call_error(c), error_exit(call_error(c)), c->e.text);
	else
		change_end_if_done(a, ch);
}

void audit_signal_done(struct audit *a, uint64_t change)
{
	struct change *ch = change_find(a, change);
	if (ch)
		change_end(a, ch, result_word(REPLY_DONE), STAY_EXIT_OK, "");
}

void audit_reexec_refused(struct audit *a, const char *why)
{
	for (size_t i = a->n_changes; i-- > 0;)
		if (a->changes[i].method == METHOD_REEXEC)
			audit_settled(a, a->changes[i].id, REPLY_FAILED, why);
}

/* ---- what floods ---- */

static struct user_lines *lines_of(struct audit *a, uid_t uid)
{
	for (size_t i = 0; i < a->n_users; i++)
		if (a->users[i].uid == uid)
			return &a->users[i];
	if (a->n_users == USERS_MAX)
		return &a->users[USERS_MAX];
	a->users[a->n_users].uid = uid;
	return &a->users[a->n_users++];
}

/* How many before it were too many; -1: so is this one. */
static int64_t bucket_takes(struct bucket *k, const struct allowance *l)
{
	uint64_t now = now_mono_us(), n_back = (now - k->since_us) / l->per_us;
	if (n_back) {
		k->n -= (unsigned)MIN(n_back, (uint64_t)k->n);
		k->since_us = now;
	}
	if (k->n >= l->burst) {
		k->n_silent++;
		return -1;
	}
	int64_t silent = k->n_silent;
	k->n++;
	k->n_silent = 0;
	return silent;
}

int audit_may_change(struct audit *a, struct call *c)
{
	uid_t uid = client_peer(c->client)->uid;
	if (c->role >= CONTROL_OPERATOR ||
		bucket_takes(&lines_of(a, uid)->changes, &owner_changes) >= 0)
		return 0;
	c->error = "Busy";
	snprintf(c->hint, sizeof(c->hint), "try again in a second");
	return err_set(&c->e, -EBUSY,
		"too many changes: an owner has %u at once and then one a second",
		owner_changes.burst);
}

bool audit_refused(struct audit *a, const struct call *c)
{
	struct buf b = {0};
	int64_t silent =
		bucket_takes(&lines_of(a, client_peer(c->client)->uid)->refusals, &refusals);
	if (silent < 0)
		return false;
	if (!a->file)
		return true;
	audit_line_begin(&b, "refused");
	who(&b, c->client);
	what(&b, c, ARGS_SHORT_MAX);
	j_str(&b, "role", access_role_name(c->role));
	j_str(&b, "needs", access_role_name(methods[c->method].role));
	j_int(&b, "exit", STAY_EXIT_NOT_PERMITTED);
	if (silent)
		j_int(&b, "not_told", silent);
	(void)audit_file_append(a->file, &b);
	buf_done(&b);
	return true;
}

/* ---- the whole ---- */

struct audit *audit_new(struct loop *l, const struct core_status *s)
{
	struct audit *a = xcalloc(1, sizeof(*a));
	if (s->state_dir)
		a->file = audit_file_open(
			l, s->state_dir, s->runtime_dir, late_outcome, (void *)s);
	return a;
}

struct audit *audit_free(struct audit *a)
{
	if (!a)
		return NULL;
	audit_file_close(a->file);
	free(a->changes);
	free(a);
	return NULL;
}

uint64_t audit_retry_at(const struct audit *a)
{
	return a->file ? audit_file_retry_at(a->file) : USEC_INFINITY;
}

void audit_retry(struct audit *a)
{
	audit_file_retry(a->file);
}

void audit_json(struct buf *b, const char *key, const struct audit *a)
{
	j_open(b, key, '{');
	audit_file_json(b, a->file);
	j_close(b, '}');
}
