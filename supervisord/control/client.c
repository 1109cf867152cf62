/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The clients of the control server: connections, varlink framing, bounds.
 *
 * Owns the clients and their buffers. Invariants:
 *  1. The peer's uid and groups are known, and its role chosen, before a byte is read.
 *  2. A client has at most one call under way, and one in a turn, whether it wants an answer or not;
 *     further messages stay unparsed in its buffer, which holds at most one of full size. Nobody is
 *     read from while an answer to him is unsent.
 *  3. Nothing here blocks: sockets are non-blocking, what does not fit is queued and EPOLLOUT asked.
 *  4. A client is freed only in its own callback or by the timer, never while somebody walks the
 *     list. An answer that comes later (waits.c) is only queued: the socket's callback sends it
 *     and reads the next message, so that no call is dispatched from inside a step of the world.
 *  5. The timer is armed only while a message is incomplete, an answer unread, a dropped client drains or
 *     clients_wake() asks for it: an idle daemon with idle clients is not woken.
 *  6. A turn of the loop gives clients TURN_US together, and no more of them anything as soon as
 *     keeper or launcher has news: however many ask, exits and starts of services come first.
 *  7. A user has a bounded number of places and of bytes he does not read; guests together leave places
 *     to others, and all together to admins.
 *  8. Who may not operate has a share of our time (shares.c). Beyond it they are not even listened to,
 *     and the timer takes them in again. Accepting connections has a share too: whose they are is
 *     not known before.
 * Called by server.c, whose client_ops it calls, and by whoever answers.
 */
#include <fcntl.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>

#include "control/access.h"
#include "control/client.h"
#include "control/json.h"
#include "control/shares.h"
#include "stayd/stayd.h"

#define TURN_US         500            /* for all clients together; services come first */
#define ACCEPT_TURN_MAX 16             /* connections taken in one turn of the loop */
#define ACCEPT_PAUSE_US (USEC_PER_SEC) /* after EMFILE and the like */
#define GRACE_US        (USEC_PER_SEC) /* more, once, for who has done its part: see gets_grace() */
#define ACCEPT_SHARE    ((struct share_size){.percent = 10, .max_us = 1000}) /* thousands a second */

struct client {
	struct source source;
	struct clients *clients;
	struct client *next, *prev;
	struct peer peer;
	struct buf in, out;
	size_t out_sent;
	uint64_t deadline_us; /* of a started message, an unread answer or a drop; 0 = none */
	uint64_t
		message_us; /* when the first byte of an incomplete message came; 0 = there is none */
	uint64_t away_until_us, away_since_us; /* not listened to; until 0 = is */
	enum control_role role;                /* when it came: for its place, not for its rights */
	bool is_in_callback;
	bool is_busy; /* a call is under way */
	bool is_oneway, is_eof;
	bool had_grace;
	bool is_ending; /* close as soon as the queue is sent */
	struct waiting waiting;
};

struct clients {
	struct loop *loop;
	struct source listener, timer;
	struct client *first;
	size_t n;
	uint64_t accept_again_us; /* 0 = accepting */
	struct share accepting;
	uint64_t turn, turn_until_us;
	bool is_short;    /* of descriptors: said once */
	uint64_t wake_us; /* see clients_wake() */
	struct access *access;
	struct shares *shares;
	const struct client_ops *ops;
	void *owner;
};

/* ---- the timer ---------------------------------------------------------------------------------- */

static void timer_rearm(struct clients *c)
{
	uint64_t at = c->accept_again_us ? c->accept_again_us : USEC_INFINITY;
	at = MIN(at, c->wake_us);
	for (struct client *cl = c->first; cl; cl = cl->next) {
		if (cl->away_until_us)
			at = MIN(at, cl->away_until_us);
		else if (cl->deadline_us)
			at = MIN(at, cl->deadline_us);
	}
	struct itimerspec t = {0};
	if (at != USEC_INFINITY) {
		t.it_value.tv_sec = (time_t)(at / USEC_PER_SEC);
		t.it_value.tv_nsec = (long)(at % USEC_PER_SEC * 1000 + 1);
	}
	(void)timerfd_settime(c->timer.fd, TFD_TIMER_ABSTIME, &t, NULL);
}

void clients_wake(struct clients *c, uint64_t at_us)
{
	bool is_new = c->wake_us != at_us;
	c->wake_us = at_us;
	if (is_new)
		timer_rearm(c);
}

static void client_deadline(struct client *cl, uint64_t at_us)
{
	bool is_new = cl->deadline_us != at_us;
	cl->deadline_us = at_us;
	if (is_new)
		timer_rearm(cl->clients);
}

/* ---- clients ------------------------------------------------------------------------------------ */

struct waiting *client_waiting(struct client *cl)
{
	return &cl->waiting;
}

struct peer *client_peer(struct client *cl)
{
	return &cl->peer;
}

int client_fd(const struct client *cl)
{
	return cl->source.fd;
}

struct client *client_first(struct clients *c)
{
	return c->first;
}

struct client *client_next(const struct client *cl)
{
	return cl->next;
}

size_t clients_count(const struct clients *c)
{
	return c->n;
}

void *client_owner(const struct client *cl)
{
	return cl->clients->owner;
}

size_t client_behind(const struct client *cl)
{
	return cl->out.size - cl->out_sent;
}

size_t client_user_behind(const struct client *cl)
{
	size_t n = 0;
	for (const struct client *of = cl->clients->first; of; of = of->next)
		n += of->peer.uid == cl->peer.uid ? client_behind(of) : 0;
	return n;
}

/* What lies unread in a connection may hold descriptors, where the kernel knows no SO_PASSRIGHTS. */
static void connection_close(int fd)
{
	closing_begin();
	fd_close(fd);
	closing_end();
}

static void client_close(struct client *cl)
{
	struct clients *c = cl->clients;
	c->ops->gone(cl);
	loop_remove(c->loop, &cl->source);
	connection_close(cl->source.fd);
	if (cl->prev)
		cl->prev->next = cl->next;
	else
		c->first = cl->next;
	if (cl->next)
		cl->next->prev = cl->prev;
	c->n--;
	bool had_deadline = cl->deadline_us || cl->away_until_us;
	buf_done(&cl->in);
	buf_done(&cl->out);
	peer_done(&cl->peer);
	free(cl);
	if (had_deadline)
		timer_rearm(c);
}

static bool has_message(const struct client *cl)
{
	return cl->in.size && memchr(cl->in.data, '\0', cl->in.size);
}

/* What to be woken for. */
static void client_interest(struct client *cl)
{
	uint32_t events = 0;
	if (cl->away_until_us)
		return;
	bool is_sending = client_behind(cl) > 0;
	if (!is_sending && !cl->is_eof && !cl->is_ending && cl->in.size <= CONTROL_MESSAGE_MAX)
		events |= EPOLLIN;
	if (is_sending || cl->is_ending || (!cl->is_busy && (has_message(cl) || cl->is_eof)))
		events |= EPOLLOUT;
	(void)loop_modify(cl->clients->loop, &cl->source, events);
}

static int client_write(struct client *cl);

static bool is_follower(const struct client *cl)
{
	return cl->waiting.kind == WAIT_EVENTS || cl->waiting.kind == WAIT_LOGS;
}

/* What comes between the calls of on_client() is tried at once: a socket that is full gives no event
 * that would set the deadline. Logs are not: their next lines wait for the event. */
static void client_queue(struct client *cl, const struct buf *message)
{
	buf_add(&cl->out, message->data, message->size);
	buf_add_byte(&cl->out, '\0');
	if (!cl->is_in_callback && cl->waiting.kind != WAIT_LOGS) {
		(void)client_write(cl); /* an error comes back as an event */
		if (client_behind(cl) && !is_follower(cl) && !cl->is_ending && !cl->deadline_us)
			client_deadline(cl, now_mono_us() + CONTROL_STALL_US);
	}
	client_interest(cl);
}

void client_send(struct client *cl, const struct buf *params, bool continues)
{
	if (cl->is_ending)
		return;
	if (!continues)
		cl->is_busy = false;
	if (cl->is_oneway) {
		client_interest(cl);
		return;
	}
	struct buf m = {0};
	buf_add_str(&m, continues ? "{\"continues\":true,\"parameters\":" : "{\"parameters\":");
	if (params && params->size)
		buf_add(&m, params->data, params->size);
	else
		buf_add_str(&m, "{}");
	buf_add_byte(&m, '}');
	client_queue(cl, &m);
	buf_done(&m);
}

void client_fail(
	struct client *cl, const char *error, const char *key, const char *value, const char *hint)
{
	struct buf m = {0};
	cl->is_busy = false;
	if (cl->is_oneway) {
		client_interest(cl);
		return;
	}
	j_open(&m, NULL, '{');
	j_str(&m, "error", error);
	j_open(&m, "parameters", '{');
	if (key)
		j_str(&m, key, strna(value));
	if (hint && hint[0])
		j_str(&m, "hint", hint);
	j_close(&m, '}');
	j_close(&m, '}');
	client_queue(cl, &m);
	buf_done(&m);
}

void client_send_error(struct client *cl, const char *error, const char *message, const char *hint)
{
	char name[96];
	snprintf(name, sizeof(name), "org.stayd.%s", error);
	client_fail(cl, name, "message", message, hint);
}

void client_drop(struct client *cl, const char *why)
{
	if (cl->is_ending)
		return;
	log_note(NULL, "control: %s pid %d is let go: %s", peer_actor(&cl->peer), (int)cl->peer.pid,
		why);
	client_send_error(cl, "TooSlow", why, NULL);
	cl->is_ending = true;
	client_deadline(cl, now_mono_us() + CONTROL_IDLE_US);
	client_interest(cl);
}

/* A message that is none: nothing that follows can be trusted to be framed either. */
static void client_refuse(struct client *cl, const char *why)
{
	cl->is_oneway = false;
	client_send_error(cl, "Malformed", why, NULL);
	cl->is_ending = true;
	client_deadline(cl, now_mono_us() + CONTROL_IDLE_US);
}

/* ---- one message --------------------------------------------------------------------------------- */

static bool is_flag(const json_t *j)
{
	return !j || json_is_boolean(j) || json_is_null(j);
}

static void client_message(struct client *cl, const char *text, size_t size)
{
	json_t *j = NULL;
	struct err e = {0};
	cl->is_oneway = false;
	if (json_parse_bounded(text, size, CONTROL_DEPTH_MAX, &j, &e) < 0) {
		client_refuse(cl, e.text);
		return;
	}
	const char *name = json_string_value(json_object_get(j, "method"));
	const json_t *params = json_object_get(j, "parameters");
	const json_t *more = json_object_get(j, "more"), *oneway = json_object_get(j, "oneway");
	if (json_is_null(params))
		params = NULL;
	if (!name || (params && !json_is_object(params)) || !is_flag(more) || !is_flag(oneway)) {
		client_refuse(
			cl, "not a varlink call: {\"method\": string, \"parameters\": object}");
	} else {
		cl->is_busy = true;
		cl->is_oneway = json_is_true(oneway);
		cl->clients->ops->called(cl, name, params, json_is_true(more));
	}
	json_decref(j);
}

/* ---- reading and writing -------------------------------------------------------------------------- */

/* One message, also of those that want no answer: the turn of the others is between two. */
static void client_process(struct client *cl)
{
	bool is_next = !cl->is_busy && !cl->is_ending && client_behind(cl) == 0 && cl->in.size;
	char *end = is_next ? memchr(cl->in.data, '\0', cl->in.size) : NULL;
	size_t size = end ? (size_t)(end - cl->in.data) : cl->in.size;
	if (is_next && size > CONTROL_MESSAGE_MAX) {
		client_refuse(cl, "message too large");
	} else if (end) {
		/* Taken out first: the call may end in a state where the buffer is looked at. */
		char *message = xstrndup(cl->in.data, size);
		buf_consume(&cl->in, size + 1);
		client_message(cl, message, size);
		free(message);
	}
	if (cl->in.size == 0 && cl->in.cap > CLIENT_KEPT_MAX)
		buf_done(&cl->in);
	bool is_partial = cl->in.size && !cl->is_busy && !has_message(cl);
	cl->message_us = !is_partial ? 0 : cl->message_us ? cl->message_us : now_mono_us();
}

/* What it has time for now: a message it has begun, or an answer it does not take. */
static void client_time(struct client *cl, bool has_taken)
{
	if (cl->is_ending)
		return;
	cl->had_grace = cl->had_grace && (cl->message_us || client_behind(cl));
	if (client_behind(cl) && !is_follower(cl)) {
		if (has_taken || !cl->deadline_us)
			client_deadline(cl, now_mono_us() + CONTROL_STALL_US);
	} else {
		client_deadline(cl, cl->message_us ? cl->message_us + CONTROL_IDLE_US : 0);
	}
}

/* -errno when the peer is gone. */
static int client_read(struct client *cl)
{
	char chunk[16 * 1024];
	size_t room = CONTROL_MESSAGE_MAX + 1 - MIN(cl->in.size, CONTROL_MESSAGE_MAX + 1);
	if (!room)
		return 0;
	closing_begin(); /* of descriptors that came along */
	ssize_t n = recv(cl->source.fd, chunk, MIN(room, sizeof(chunk)), MSG_DONTWAIT);
	int error = n < 0 ? errno : 0;
	closing_end();
	if (n < 0)
		return error == EAGAIN || error == EINTR ? 0 : -error;
	if (n == 0)
		cl->is_eof = true;
	buf_add(&cl->in, chunk, (size_t)n);
	return 0;
}

static int client_write(struct client *cl)
{
	while (client_behind(cl) > 0) {
		ssize_t n = send(cl->source.fd, cl->out.data + cl->out_sent, client_behind(cl),
			MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno == EAGAIN ? 0 : -errno;
		cl->out_sent += (size_t)n;
	}
	if (cl->out.cap > CLIENT_KEPT_MAX)
		buf_done(&cl->out);
	else
		buf_reset(&cl->out);
	cl->out_sent = 0;
	return 0;
}

static int client_flush(struct client *cl)
{
	bool was_behind = client_behind(cl) > 0;
	int r = client_write(cl);
	if (r == 0 && was_behind && client_behind(cl) == 0)
		cl->clients->ops->has_read(cl);
	return r;
}

/* Has this turn of the loop time for one more client? The first always gets it; the event of one who
 * does not comes again. */
static bool turn_has_time(struct clients *c)
{
	if (c->turn != c->loop->turn) {
		c->turn = c->loop->turn;
		c->turn_until_us = now_mono_us() + TURN_US;
		return true;
	}
	return now_mono_us() < c->turn_until_us && !loop_is_urgent(c->loop);
}

/* Out of the loop altogether: the kernel would tell of a closed connection again and again. */
static bool goes_away(struct client *cl)
{
	struct clients *c = cl->clients;
	uint64_t until_us = 0;
	if (cl->role < CONTROL_OPERATOR)
		until_us = shares_wait_until(c->shares, cl->peer.uid);
	if (!until_us)
		return false;
	loop_remove(c->loop, &cl->source);
	cl->away_until_us = until_us;
	cl->away_since_us = now_mono_us();
	timer_rearm(c);
	return true;
}

static void on_client(struct source *s, uint32_t events);

static void comes_back(struct client *cl)
{
	/* It was we who did not listen. */
	uint64_t away_us = now_mono_us() - cl->away_since_us;
	cl->message_us += cl->message_us ? away_us : 0;
	cl->deadline_us += cl->deadline_us ? away_us : 0;
	cl->away_until_us = 0;
	if (goes_away(cl))
		return;
	if (loop_add(cl->clients->loop, &cl->source, cl->source.fd, 0, PRIO_CONTROL, on_client) < 0)
		client_close(cl);
	else
		client_interest(cl);
}

static void on_client(struct source *s, uint32_t events)
{
	struct client *cl = container_of(s, struct client, source);
	if (!turn_has_time(cl->clients) || goes_away(cl))
		return;
	struct clients *c = cl->clients;
	uid_t uid = cl->peer.uid;
	bool has_share = cl->role < CONTROL_OPERATOR;
	uint64_t began_us = now_mono_us();
	size_t behind = client_behind(cl);
	int r = 0;
	cl->is_in_callback = true;
	if (events & EPOLLIN)
		r = client_read(cl);
	if (r == 0)
		r = client_flush(cl);
	if (r == 0) {
		client_process(cl);
		r = client_flush(cl);
	}
	/* HUP without IN: the peer closed; nobody is left to answer. Its requests go on, and those that
	 * want no answer are heard. */
	bool is_closed = (events & EPOLLHUP) && !(events & EPOLLIN);
	bool is_gone = r < 0 || (events & EPOLLERR) ||
		       (is_closed && (cl->is_busy || !has_message(cl)));
	bool is_over = client_behind(cl) == 0 &&
		       (cl->is_ending || (cl->is_eof && !cl->is_busy && !has_message(cl)));
	cl->is_in_callback = false;
	if (is_gone || is_over) {
		client_close(cl);
	} else {
		client_time(cl, client_behind(cl) < behind);
		client_interest(cl);
	}
	if (has_share)
		shares_charge(c->shares, uid, now_mono_us() - began_us);
}

/* Is there a place for one more of this role, of this user? */
static bool has_place(const struct clients *c, uid_t uid, enum control_role role)
{
	size_t n_uid = 0, n_guests = 0;
	for (const struct client *cl = c->first; cl; cl = cl->next) {
		n_uid += cl->peer.uid == uid;
		n_guests += cl->role <= CONTROL_GUEST;
	}
	if (n_uid >= CONTROL_CLIENTS_UID_MAX || c->n >= CONTROL_CLIENTS_MAX)
		return false;
	if (role <= CONTROL_GUEST && n_guests >= CONTROL_CLIENTS_GUEST)
		return false;
	return role == CONTROL_ADMIN || c->n < CONTROL_CLIENTS_MAX - CONTROL_CLIENTS_ADMIN;
}

/* A connection beyond the bounds gets a sentence, as far as its socket takes it at once. */
static void refuse_connection(int fd)
{
	static const char busy[] =
		"{\"error\":\"org.stayd.Busy\",\"parameters\":{\"message\":\"too many connections\"}}";
	(void)send(fd, busy, sizeof(busy), MSG_DONTWAIT | MSG_NOSIGNAL);
	connection_close(fd);
}

static void client_new(struct clients *c, int fd)
{
	struct peer p = {0};
	bool is_short = fds_are_short(fd, FDS_LEFT_BY_CLIENTS);
	if (is_short && !c->is_short)
		log_warn(NULL,
			"control: no descriptors left for more connections: they are refused");
	c->is_short = is_short;
	enum control_role role = CONTROL_NOBODY;
	int r = peer_identify(fd, &p);
	if (r == 0)
		role = access_role(c->access, &p);
	if (is_short || r < 0 || !has_place(c, p.uid, role)) {
		peer_done(&p);
		refuse_connection(fd);
		return;
	}
	struct client *cl = xcalloc(1, sizeof(*cl));
	cl->clients = c;
	cl->peer = p;
	cl->role = role;
	if (loop_add(c->loop, &cl->source, fd, EPOLLIN, PRIO_CONTROL, on_client) < 0) {
		connection_close(fd);
		peer_done(&cl->peer);
		free(cl);
		return;
	}
	cl->next = c->first;
	if (cl->next)
		cl->next->prev = cl;
	c->first = cl;
	c->n++;
}

static void accept_later(struct clients *c, uint64_t at_us)
{
	loop_remove(c->loop, &c->listener);
	c->accept_again_us = at_us;
	timer_rearm(c);
}

static void on_listener(struct source *s, uint32_t events UNUSED)
{
	struct clients *c = container_of(s, struct clients, listener);
	uint64_t began_us = now_mono_us();
	int error = 0;
	for (int i = 0; i < ACCEPT_TURN_MAX && !error && turn_has_time(c); i++) {
		int fd = accept4(s->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
		if (fd >= 0)
			client_new(c, fd);
		else if (errno != EINTR && errno != ECONNABORTED)
			error = errno;
	}
	share_charge(&c->accepting, ACCEPT_SHARE, now_mono_us() - began_us);
	uint64_t wait_until_us = share_wait_until(&c->accepting, ACCEPT_SHARE);
	if (error && error != EAGAIN) { /* level-triggered: without a pause EMFILE would spin */
		log_warn(NULL, "control: accept: %s; again in 1s", errno_name(error));
		accept_later(c, now_mono_us() + ACCEPT_PAUSE_US);
	} else if (wait_until_us) {
		accept_later(c, wait_until_us);
	}
}

/* The rest of its message is here, or it has taken what we sent: it was we who had no processor. */
static bool gets_grace(struct client *cl, uint64_t now_us)
{
	struct pollfd p = {.fd = cl->source.fd, .events = POLLIN};
	p.events |= client_behind(cl) ? POLLOUT : 0;
	if (cl->had_grace || cl->is_ending || poll(&p, 1, 0) <= 0)
		return false;
	cl->had_grace = true;
	cl->message_us = cl->message_us ? now_us + GRACE_US - CONTROL_IDLE_US : 0;
	cl->deadline_us = now_us + GRACE_US;
	return true;
}

static void on_timer(struct source *s, uint32_t events UNUSED)
{
	struct clients *c = container_of(s, struct clients, timer);
	uint64_t count, now = now_mono_us();
	if (read(s->fd, &count, sizeof(count)) < 0)
		return;
	for (struct client *cl = c->first, *next; cl; cl = next) {
		next = cl->next;
		if (cl->away_until_us && cl->away_until_us <= now)
			comes_back(cl);
		else if (!cl->away_until_us && cl->deadline_us && cl->deadline_us <= now &&
			 !gets_grace(cl, now))
			client_close(cl);
	}
	if (c->wake_us <= now) {
		c->wake_us = USEC_INFINITY;
		c->ops->wake(c->owner);
	}
	if (c->accept_again_us && c->accept_again_us <= now) {
		c->accept_again_us = 0;
		(void)loop_add(
			c->loop, &c->listener, c->listener.fd, EPOLLIN, PRIO_CONTROL, on_listener);
	}
	timer_rearm(c);
}

/* ---- the whole ------------------------------------------------------------------------------------ */

int clients_new(struct loop *l, int listen_fd, struct access *a, const struct client_ops *ops,
	void *owner, struct clients **ret)
{
	int timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	if (timer_fd < 0)
		return -errno;
	struct clients *c = xcalloc(1, sizeof(*c));
	c->loop = l;
	c->access = a;
	c->shares = shares_new();
	c->ops = ops;
	c->owner = owner;
	c->wake_us = USEC_INFINITY;
	c->timer.fd = timer_fd;
	int r = fd_set_nonblock(listen_fd, true);
	if (r >= 0)
		r = loop_add(l, &c->timer, timer_fd, EPOLLIN, PRIO_CONTROL, on_timer);
	if (r >= 0)
		r = loop_add(l, &c->listener, listen_fd, EPOLLIN, PRIO_CONTROL, on_listener);
	if (r < 0) {
		loop_remove(l, &c->timer);
		fd_close(timer_fd);
		free(c->shares);
		free(c);
		return r;
	}
	*ret = c;
	return 0;
}

struct clients *clients_free(struct clients *c)
{
	if (!c)
		return NULL;
	while (c->first) {
		(void)client_write(c->first);
		client_close(c->first);
	}
	loop_remove(c->loop, &c->listener);
	loop_remove(c->loop, &c->timer);
	fd_close(c->timer.fd);
	free(c->shares);
	free(c);
	return NULL;
}
