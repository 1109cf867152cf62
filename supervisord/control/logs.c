/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading the logs of units, and following them.
 *
 * Owns the followers of logs: an inotify instance each on the directories their units' files are
 * in, so that a rotation (another file under the same name) is seen like a write. Invariants:
 *  1. At most FOLLOWERS_MAX at once; the kernel allows 128 instances to a user by default. Who may not
 *     operate has FOLLOWERS_UID_MAX of them, and FOLLOWERS_LEFT are for those who may.
 *  2. A follower that does not read gets no more lines until it does: nothing is read for it, the
 *     cursor stays, the file keeps the lines. Only one message of LOG_CHUNK_MAX or a little more waits.
 *  3. Text is passed on as it was written; who shows it makes it printable.
 * Called by the handlers and waits.c; its watch runs in the loop.
 */
#include <sys/epoll.h>
#include <sys/inotify.h>

#include "control/json.h"
#include "control/logs.h"
#include "logd/logd.h"

#define FOLLOWERS_MAX     32
#define FOLLOWERS_UID_MAX 8
#define FOLLOWERS_LEFT    8
#define FOLLOW_UNITS_MAX  256
#define LOG_CHUNK_MAX     (256 * 1024)
#define TAIL_MAX          (8 * 1024)

struct log_follow {
	struct source source;
	struct client *client;
	struct loop *loop;
	char *log_dir;
	struct log_member {
		char *unit;
		struct log_cursor cursor;
	} * v;
	size_t n, turn;
};

static unsigned n_followers;

/* Where the next line begins. */
static size_t line_end(const struct buf *text, size_t at)
{
	const char *nl = memchr(text->data + at, '\n', text->size - at);
	return nl ? (size_t)(nl - text->data) + 1 : text->size;
}

/* Cuts off what was written at that time and later: each line begins with its time. */
static void cut_from(struct buf *text, uint64_t until_us)
{
	char until[TIMESTAMP_MAX];
	size_t n = strlen(format_timestamp(until, until_us));
	for (size_t at = 0; at < text->size; at = line_end(text, at))
		if (text->size - at >= n && memcmp(text->data + at, until, n) >= 0) {
			text->size = at;
			return;
		}
}

/* The last lines as an array of strings; nothing when there are none. */
int logs_tail_json(struct buf *b, const char *key, const char *dir, const char *unit,
	unsigned n_lines, uint64_t since_us, uint64_t until_us)
{
	struct buf text = {0};
	struct log_cursor cursor;
	unsigned n = 0;
	size_t at = 0;
	int r = dir ? log_read_last(dir, unit, until_us ? 0 : n_lines, since_us,
			      until_us ? CLIENT_BEHIND_MAX : TAIL_MAX, &text, &cursor)
		    : -ENOENT;
	if (r >= 0 && until_us)
		cut_from(&text, until_us);
	for (size_t p = 0; r >= 0 && p < text.size; p = line_end(&text, p))
		n++;
	for (; n > n_lines; n--)
		at = line_end(&text, at);
	if (r >= 0 && at < text.size) {
		j_open(b, key, '[');
		for (size_t next; at < text.size; at = next) {
			next = line_end(&text, at);
			j_strn(b, NULL, text.data + at, next - at - (text.data[next - 1] == '\n'));
		}
		j_close(b, ']');
	}
	buf_done(&text);
	return MIN(r, 0);
}

void log_json(struct buf *b, const char *unit, const struct buf *text)
{
	j_open(b, NULL, '{');
	j_str(b, "unit", unit);
	j_strn(b, "text", strna(text->data), text->size);
	j_close(b, '}');
}

/* ---- following ------------------------------------------------------------------------------------------ */

void logs_follow_free(struct log_follow *f)
{
	if (!f)
		return;
	loop_remove(f->loop, &f->source);
	fd_close(f->source.fd);
	for (size_t i = 0; i < f->n; i++)
		free(f->v[i].unit);
	free(f->v);
	free(f->log_dir);
	free(f);
	n_followers--;
}

static void follow_read(struct log_follow *f)
{
	struct buf b = {0}, text = {0};
	if (client_behind(f->client) > 0)
		return; /* logs_follow_poke() comes when it has read */
	j_open(&b, NULL, '{');
	j_open(&b, "logs", '[');
	size_t empty = b.size;
	for (size_t i = 0; i < f->n && b.size < LOG_CHUNK_MAX; i++) {
		buf_reset(&text);
		f->turn = (f->turn + 1) % f->n; /* where the last message ended the next goes on */
		struct log_member *m = &f->v[f->turn];
		int r = log_read_more(f->log_dir, m->unit, LOG_CHUNK_MAX, &text, &m->cursor);
		if (r >= 0 && text.size)
			log_json(&b, m->unit, &text);
	}
	bool has_text = b.size > empty;
	j_close(&b, ']');
	j_close(&b, '}');
	if (has_text)
		client_send(f->client, &b, true);
	buf_done(&text);
	buf_done(&b);
}

void logs_follow_poke(struct client *cl)
{
	struct waiting *wt = client_waiting(cl);
	if (wt->kind == WAIT_LOGS && wt->logs)
		follow_read(wt->logs);
}

static void on_follow(struct source *s, uint32_t events UNUSED)
{
	struct log_follow *f = container_of(s, struct log_follow, source);
	char drain[16 * 1024];
	/* What happened is not looked at: the cursors know. A storm of writes is one read here. */
	while (read(s->fd, drain, sizeof(drain)) > 0)
		;
	follow_read(f);
}

static int follow_watch(struct log_follow *f)
{
	for (size_t i = 0; i < f->n; i++) {
		char *path = log_path(f->log_dir, f->v[i].unit);
		char *slash = path ? strrchr(path, '/') : NULL;
		if (slash)
			*slash = '\0';
		int r = slash ? inotify_add_watch(
					f->source.fd, path, IN_MODIFY | IN_CREATE | IN_MOVED_TO)
			      : -1;
		int error = errno;
		free(path);
		if (r < 0)
			return -error;
	}
	return 0;
}

static bool has_place(struct call *c)
{
	uid_t uid = client_peer(c->client)->uid;
	unsigned n = 0;
	for (struct client *cl = client_first(c->control->clients); cl; cl = client_next(cl))
		n += client_waiting(cl)->logs && client_peer(cl)->uid == uid;
	return n_followers < FOLLOWERS_MAX &&
	       (c->role >= CONTROL_OPERATOR ||
		       (n < FOLLOWERS_UID_MAX && n_followers < FOLLOWERS_MAX - FOLLOWERS_LEFT));
}

int logs_follow(
	struct call *c, const struct targets *t, const char *dir, const struct log_cursor *cursors)
{
	struct waiting *wt = client_waiting(c->client);
	if (!has_place(c) || t->n > FOLLOW_UNITS_MAX)
		return err_set(&c->e, -ENOSPC,
			"at most %d follow logs, %d of a user who is no operator, of %d units each",
			FOLLOWERS_MAX, FOLLOWERS_UID_MAX, FOLLOW_UNITS_MAX);
	int fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	if (fd < 0)
		return err_set(&c->e, -errno, "inotify: %s", errno_name(errno));
	struct log_follow *f = xcalloc(1, sizeof(*f));
	n_followers++;
	*f = (struct log_follow){.client = c->client,
		.loop = c->control->loop,
		.log_dir = xstrdup(dir),
		.v = xcalloc(t->n, sizeof(*f->v)),
		.n = t->n};
	f->source.fd = fd;
	for (size_t i = 0; i < t->n; i++) {
		f->v[i].unit = xstrdup(t->units[i]->name);
		f->v[i].cursor = cursors[i];
	}
	int r = follow_watch(f);
	if (r >= 0)
		r = loop_add(f->loop, &f->source, fd, EPOLLIN, PRIO_CONTROL, on_follow);
	if (r < 0) {
		logs_follow_free(f);
		return err_set(&c->e, r, "the log cannot be watched: %s", errno_name(r));
	}
	wt->kind = WAIT_LOGS;
	wt->logs = f;
	client_send(c->client, &c->out, true);
	/* What came between reading and watching is read when the client has taken this. */
	return VERB_WAITS;
}
