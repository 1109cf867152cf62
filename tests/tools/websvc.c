/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A small, correct HTTP/1.1 service: what the demo deploys and the end-to-end tests restart.
 *
 *  1. A request that was accepted is answered, also after SIGTERM: the accept queue is emptied
 *     before the listening socket is closed, and no connection with unread bytes is closed.
 *     (A connection that completes its handshake between the two is reset by the kernel; only
 *     draining at the load balancer, or passing the socket on, avoids that.)
 *  2. Nothing sleeps: delays are timers in one heap, so any number of requests is in flight.
 *  3. Faults are asked for by words, each an argument or a line of $RELEASE_DIR/mode; see modes[].
 *
 *   websvc [--port N] [--bind ADDR] [--instance NAME] [--version-file PATH] [--WORD [VALUE]]...
 *   paths: /healthz   /stream?s=SECONDS   /delay?ms=N   anything else: one line with the release
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define IN_MAX                16384 /* request line and headers; larger: 431 */
#define TIMERS_MAX            65536 /* further connections are not accepted until one ends */
#define EXIT_BOUND_US         10000000ULL
#define IDLE_GRACE_US         200000ULL
#define container_of(p, t, m) ((t *)(void *)((char *)(p)-offsetof(t, m)))

struct timer {
	uint64_t at_us;
	size_t pos; /* in heap, from 1; 0 = not armed */
	void (*fn)(struct timer *t);
};

enum body { BODY_NONE, BODY_LENGTH, CHUNK_SIZE, CHUNK_DATA, CHUNK_END, CHUNK_TRAILER };
enum conn_state { READ_HEAD, READ_BODY, WORKING, STREAMING };

struct conn {
	int fd;
	enum conn_state state;
	enum body body;
	struct timer timer;
	struct conn *next, *prev;
	uint64_t body_left, body_seen;
	unsigned stream_left, n_requests, chunk_line;
	bool close_after, is_get_health, wants_out, is_head, broken;
	char method[16], path[256];
	size_t in_size, out_size, out_pos;
	char in[IN_MAX];
	char out[4096];
};

static struct {
	int port, listen_fd, epoll_fd, signal_fd;
	const char *bind, *instance;
	char release[128], health_text[256];
	uint64_t work_us, start_delay_us, ready_after_us, crash_us, hang_us, exit_us, watchdog_us;
	unsigned exit_code, errors_percent;
	bool never_ready, ignore_term, is_ready, is_stopping, is_full;
	uint64_t requests;
	unsigned n_conns;
	struct conn *conns;
} w = {.port = 8080, .bind = "127.0.0.1", .listen_fd = -1};

static uint64_t now_us(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

static void say(const char *format, ...)
{
	va_list ap;
	va_start(ap, format);
	printf("websvc %s %s pid %d: ", w.instance, w.release, (int)getpid());
	vprintf(format, ap);
	putchar('\n');
	fflush(stdout);
	va_end(ap);
}

/* ---- timers: a binary heap ---------------------------------------------------------------- */

static struct timer *heap[TIMERS_MAX + 64];
static size_t heap_size;

static void heap_place(struct timer *t, size_t i)
{
	heap[i] = t;
	t->pos = i;
}

static void heap_sift(size_t i)
{
	struct timer *t = heap[i];
	for (; i > 1 && heap[i / 2]->at_us > t->at_us; i /= 2)
		heap_place(heap[i / 2], i);
	for (size_t c; (c = 2 * i) <= heap_size; i = c) {
		if (c < heap_size && heap[c + 1]->at_us < heap[c]->at_us)
			c++;
		if (heap[c]->at_us >= t->at_us)
			break;
		heap_place(heap[c], i);
	}
	heap_place(t, i);
}

static void timer_drop(struct timer *t)
{
	size_t i = t->pos;
	if (!i)
		return;
	t->pos = 0;
	struct timer *last = heap[heap_size--];
	if (last != t) {
		heap_place(last, i);
		heap_sift(i);
	}
}

static void timer_arm(struct timer *t, uint64_t after_us, void (*fn)(struct timer *))
{
	timer_drop(t);
	t->at_us = now_us() + after_us;
	t->fn = fn;
	heap_place(t, ++heap_size);
	heap_sift(heap_size);
}

/* Runs what is due; milliseconds to the next one, -1 for none. */
static int timers_run(void)
{
	while (heap_size) {
		struct timer *t = heap[1];
		uint64_t now = now_us();
		if (t->at_us > now)
			return (int)((t->at_us - now + 999) / 1000);
		timer_drop(t);
		t->fn(t);
	}
	return -1;
}

/* ---- sd_notify(3) ------------------------------------------------------------------------- */

static void notify(const char *text)
{
	const char *path = getenv("NOTIFY_SOCKET");
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	if (!path || !*path || strlen(path) >= sizeof(a.sun_path))
		return;
	memcpy(a.sun_path, path, strlen(path));
	if (path[0] == '@')
		a.sun_path[0] = '\0';
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return;
	(void)!sendto(fd, text, strlen(text), MSG_NOSIGNAL, (struct sockaddr *)&a,
		(socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(path)));
	close(fd);
}

/* ---- connections -------------------------------------------------------------------------- */

static void conn_read(struct conn *c);
static void conn_next(struct conn *c);

static void finish_if_idle(void)
{
	if (!w.is_stopping || w.conns)
		return;
	say("stopped after %llu requests", (unsigned long long)w.requests);
	exit(0);
}

static void listener_watch(void)
{
	struct epoll_event e = {.events = EPOLLIN, .data.ptr = NULL};
	w.is_full = false;
	epoll_ctl(w.epoll_fd, EPOLL_CTL_ADD, w.listen_fd, &e);
}

/* At the bound, or out of descriptors: wait in the accept queue until a connection ends. */
static void listener_unwatch(void)
{
	w.is_full = true;
	epoll_ctl(w.epoll_fd, EPOLL_CTL_DEL, w.listen_fd, NULL);
}

static void conn_free(struct conn *c)
{
	timer_drop(&c->timer);
	*(c->prev ? &c->prev->next : &w.conns) = c->next;
	if (c->next)
		c->next->prev = c->prev;
	close(c->fd);
	free(c);
	w.n_conns--;
	if (w.is_full && w.listen_fd >= 0)
		listener_watch();
}

static void conn_events(struct conn *c)
{
	/* Nothing is read while a request is worked on: one request at a time, in order. */
	struct epoll_event e = {.data.ptr = c};
	if (c->wants_out)
		e.events = EPOLLOUT;
	else if (c->state == READ_HEAD || c->state == READ_BODY)
		e.events = EPOLLIN;
	epoll_ctl(w.epoll_fd, EPOLL_CTL_MOD, c->fd, &e);
}

/* Sends what is in out; true when all of it has gone. c->broken on error. */
static bool conn_flush(struct conn *c)
{
	while (c->out_pos < c->out_size) {
		ssize_t n =
			send(c->fd, c->out + c->out_pos, c->out_size - c->out_pos, MSG_NOSIGNAL);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno != EAGAIN)
			c->broken = true;
		if (n < 0)
			break;
		c->out_pos += (size_t)n;
	}
	bool done = c->out_pos == c->out_size;
	if (done)
		c->out_pos = c->out_size = 0;
	if (c->wants_out == done) {
		c->wants_out = !done;
		conn_events(c);
	}
	return done;
}

static void out_add(struct conn *c, const char *format, ...)
{
	va_list ap;
	va_start(ap, format);
	int n = vsnprintf(c->out + c->out_size, sizeof(c->out) - c->out_size, format, ap);
	va_end(ap);
	if (n > 0 && (size_t)n < sizeof(c->out) - c->out_size)
		c->out_size += (size_t)n;
}

static void out_head(struct conn *c, int code, const char *reason, long length)
{
	if (w.is_stopping)
		c->close_after = true;
	out_add(c,
		"HTTP/1.1 %d %s\r\nContent-Type: text/plain\r\nX-Release: %s\r\nX-Instance: %s\r\n",
		code, reason, w.release, w.instance);
	if (length >= 0)
		out_add(c, "Content-Length: %ld\r\n", length);
	else
		out_add(c, "Transfer-Encoding: chunked\r\n");
	out_add(c, "%s\r\n", c->close_after ? "Connection: close\r\n" : "");
}

/* The answer is complete in out: send it and go on to the next request, or close. */
static void conn_answered(struct conn *c)
{
	w.requests++;
	if (conn_flush(c))
		conn_next(c);
	else if (c->broken)
		conn_free(c);
	else
		c->state = WORKING; /* conn_on_event() goes on when it is out */
}

static void answer_text(struct conn *c, int code, const char *reason, const char *text)
{
	out_head(c, code, reason, (long)strlen(text));
	out_add(c, "%s", c->is_head ? "" : text);
	conn_answered(c);
}

static void on_stream_tick(struct timer *t)
{
	struct conn *c = container_of(t, struct conn, timer);
	if (c->wants_out) { /* slow reader: no chunk is added before the last one has gone */
		timer_arm(&c->timer, 100000, on_stream_tick);
		return;
	}
	char text[64];
	int n = snprintf(text, sizeof(text), "%u seconds left\n", c->stream_left);
	out_add(c, "%x\r\n%s\r\n", (unsigned)n, text);
	if (c->stream_left-- == 0) {
		out_add(c, "0\r\n\r\n");
		conn_answered(c);
		return;
	}
	conn_flush(c);
	if (c->broken)
		conn_free(c);
	else
		timer_arm(&c->timer, 1000000, on_stream_tick);
}

static void answer(struct conn *c)
{
	static unsigned turn;
	char text[512];
	if (c->is_get_health) {
		bool ok = w.is_ready && !w.health_text[0];
		snprintf(text, sizeof(text), "%s\n",
			ok ? "ok" : (w.health_text[0] ? w.health_text : "starting"));
		answer_text(c, ok ? 200 : 503, ok ? "OK" : "Service Unavailable", text);
		return;
	}
	if (w.errors_percent && turn++ % 100 < w.errors_percent) {
		answer_text(c, 500, "Internal Server Error", "this release is broken\n");
		return;
	}
	if (strncmp(c->path, "/stream", 7) == 0) {
		const char *s = strstr(c->path, "s=");
		c->stream_left = s ? (unsigned)strtoul(s + 2, NULL, 10) : 3;
		if (c->stream_left > 3600)
			c->stream_left = 3600;
		c->state = STREAMING;
		conn_events(c);
		out_head(c, 200, "OK", -1);
		on_stream_tick(&c->timer);
		return;
	}
	snprintf(text, sizeof(text), "release %s instance %s: %s %s, %llu bytes\n", w.release,
		w.instance, c->method, c->path, (unsigned long long)c->body_seen);
	answer_text(c, 200, "OK", text);
}

static void on_work_done(struct timer *t)
{
	answer(container_of(t, struct conn, timer));
}

/* The whole request is here. */
static void conn_serve(struct conn *c)
{
	uint64_t delay_us = w.work_us;
	c->n_requests++;
	c->is_get_health = strncmp(c->path, "/healthz", 8) == 0;
	if (c->is_get_health)
		delay_us = 0;
	if (strncmp(c->path, "/delay?ms=", 10) == 0)
		delay_us = strtoull(c->path + 10, NULL, 10) * 1000;
	c->state = WORKING;
	if (!delay_us) {
		answer(c);
		return;
	}
	conn_events(c);
	timer_arm(&c->timer, delay_us, on_work_done);
}

static void on_pipelined(struct timer *t)
{
	conn_read(container_of(t, struct conn, timer));
}

static void on_idle_grace(struct timer *t)
{
	struct conn *c = container_of(t, struct conn, timer);
	char byte;
	if (recv(c->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 1) {
		conn_read(c);
		return;
	}
	conn_free(c);
	finish_if_idle();
}

/* Ready for the next request of this connection; some of it may be in the buffer already. */
static void conn_next(struct conn *c)
{
	c->state = READ_HEAD;
	c->body = BODY_NONE;
	c->body_seen = c->body_left = 0;
	c->chunk_line = 0;
	if (c->close_after) {
		shutdown(c->fd, SHUT_WR);
		conn_free(c);
		finish_if_idle();
		return;
	}
	conn_events(c);
	if (c->in_size) /* by a timer, so that many requests in one packet do not recurse */
		timer_arm(&c->timer, 0, on_pipelined);
	else if (w.is_stopping)
		timer_arm(&c->timer, IDLE_GRACE_US, on_idle_grace);
}

static void conn_reject(struct conn *c, int code, const char *reason)
{
	c->close_after = true;
	answer_text(c, code, reason, "");
}

static bool header_is(const char *line, const char *name, const char **ret_value)
{
	size_t n = strlen(name);
	if (strncasecmp(line, name, n) != 0 || line[n] != ':')
		return false;
	*ret_value = line + n + 1 + strspn(line + n + 1, " \t");
	return true;
}

/* Header block [in, in+size) is NUL-terminated lines; 0, or the status code to refuse with. */
static int parse_head(struct conn *c, char *head)
{
	char *save = NULL, *line = strtok_r(head, "\r\n", &save);
	const char *value;
	if (!line || sscanf(line, "%15s %255s HTTP/1.", c->method, c->path) != 2)
		return 400;
	bool is_10 = strstr(line, "HTTP/1.0") != NULL;
	c->is_head = strcmp(c->method, "HEAD") == 0;
	c->close_after = is_10;
	while ((line = strtok_r(NULL, "\r\n", &save))) {
		if (header_is(line, "Content-Length", &value)) {
			char *end;
			errno = 0;
			c->body_left = strtoull(value, &end, 10);
			if (errno || end == value || *value == '-' || (*end && *end != ' '))
				return 400;
			if (c->body == BODY_NONE)
				c->body = BODY_LENGTH;
		} else if (header_is(line, "Transfer-Encoding", &value)) {
			if (strcasecmp(value, "chunked") != 0)
				return 501;
			c->body = CHUNK_SIZE;
		} else if (header_is(line, "Connection", &value)) {
			if (strcasestr(value, "close"))
				c->close_after = true;
			else if (strcasestr(value, "keep-alive"))
				c->close_after = false;
		} else if (header_is(line, "Expect", &value)) {
			out_add(c, "HTTP/1.1 100 Continue\r\n\r\n");
		}
	}
	if (c->body == CHUNK_SIZE)
		c->body_left = 0;
	return 0;
}

/* One line of the chunked coding, a byte at a time. -1 when it is not one. */
static int chunk_byte(struct conn *c, unsigned char b)
{
	static const char digits[] = "0123456789abcdef";
	if (b == '\n') {
		bool is_empty = c->chunk_line == 0;
		c->chunk_line = 0;
		if (c->body == CHUNK_SIZE) {
			if (is_empty)
				return -1;
			c->body = c->body_left ? CHUNK_DATA : CHUNK_TRAILER;
		} else if (c->body == CHUNK_END) {
			c->body = CHUNK_SIZE;
		} else if (is_empty) {
			c->body = BODY_NONE; /* the empty line after the trailers */
		}
		return 0;
	}
	if (b == '\r')
		return 0;
	c->chunk_line++;
	if (c->body != CHUNK_SIZE)
		return c->body == CHUNK_END ? -1 : 0;
	const char *d = c->chunk_line <= 15 ? strchr(digits, b | 0x20) : NULL;
	if (b >= '0' && d && *d)
		c->body_left = c->body_left * 16 + (uint64_t)(d - digits);
	else if (c->chunk_line == 1)
		return -1;
	else
		c->chunk_line = 1 << 20; /* an extension: the size is over */
	return 0;
}

/* Takes the body's bytes out of the buffer; 1 when it is complete, 0 for more, -1 on nonsense. */
static int take_body(struct conn *c)
{
	size_t i = 0;
	int r = 0;
	while (i < c->in_size && c->body != BODY_NONE && r == 0) {
		if (c->body != BODY_LENGTH && c->body != CHUNK_DATA) {
			r = chunk_byte(c, (unsigned char)c->in[i++]);
			continue;
		}
		uint64_t n = c->in_size - i < c->body_left ? c->in_size - i : c->body_left;
		i += n;
		c->body_left -= n;
		c->body_seen += n;
		if (c->body_left)
			break;
		c->body = c->body == BODY_LENGTH ? BODY_NONE : CHUNK_END;
	}
	memmove(c->in, c->in + i, c->in_size - i);
	c->in_size -= i;
	if (c->body == BODY_LENGTH && !c->body_left)
		c->body = BODY_NONE;
	return r < 0 ? -1 : c->body == BODY_NONE;
}

/* Works on what is in the buffer. True when the connection still waits for bytes. */
static bool conn_parse(struct conn *c)
{
	if (c->state == READ_HEAD) {
		char *end = memmem(c->in, c->in_size, "\r\n\r\n", 4);
		if (!end && c->in_size == sizeof(c->in)) {
			conn_reject(c, 431, "Request Header Fields Too Large");
			return false;
		}
		if (!end)
			return true;
		size_t size = (size_t)(end - c->in) + 4;
		end[2] = '\0';
		timer_drop(&c->timer);
		int refuse = parse_head(c, c->in);
		memmove(c->in, c->in + size, c->in_size - size);
		c->in_size -= size;
		if (refuse) {
			conn_reject(c, refuse, refuse == 501 ? "Not Implemented" : "Bad Request");
			return false;
		}
		c->state = READ_BODY;
		if (c->out_size)
			conn_flush(c); /* 100 Continue */
	}
	int r = take_body(c);
	if (r < 0)
		conn_reject(c, 400, "Bad Request");
	else if (r > 0)
		conn_serve(c);
	return r == 0;
}

static void conn_read(struct conn *c)
{
	for (;;) {
		if (c->in_size && !conn_parse(c))
			return;
		ssize_t n =
			recv(c->fd, c->in + c->in_size, sizeof(c->in) - c->in_size, MSG_DONTWAIT);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return;
		if (n <= 0) {
			conn_free(c);
			finish_if_idle();
			return;
		}
		c->in_size += (size_t)n;
	}
}

static void conn_on_event(struct conn *c, uint32_t events)
{
	if (c->wants_out && (events & (EPOLLOUT | EPOLLERR | EPOLLHUP))) {
		bool done = conn_flush(c);
		if (c->broken) {
			conn_free(c);
			finish_if_idle();
		} else if (done && c->state == WORKING) {
			conn_next(c);
		}
		return;
	}
	if (c->state == READ_HEAD || c->state == READ_BODY) {
		conn_read(c);
	} else if (events & (EPOLLERR | EPOLLHUP)) { /* the client has gone */
		conn_free(c);
		finish_if_idle();
	}
}

static void accept_all(void)
{
	for (;;) {
		if (w.n_conns == TIMERS_MAX) {
			listener_unwatch();
			return;
		}
		int fd = accept4(w.listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK), one = 1;
		if (fd < 0 && (errno == EINTR || errno == ECONNABORTED))
			continue;
		struct conn *c = fd < 0 ? NULL : malloc(sizeof(*c));
		if (!c) {
			if (fd >= 0)
				close(fd);
			else if (errno != EAGAIN)
				listener_unwatch();
			return;
		}
		memset(c, 0, offsetof(struct conn, in));
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
		c->fd = fd;
		c->next = w.conns;
		if (w.conns)
			w.conns->prev = c;
		w.conns = c;
		w.n_conns++;
		struct epoll_event e = {.events = EPOLLIN, .data.ptr = c};
		epoll_ctl(w.epoll_fd, EPOLL_CTL_ADD, fd, &e);
		if (w.is_stopping)
			timer_arm(&c->timer, IDLE_GRACE_US, on_idle_grace);
	}
}

/* ---- life --------------------------------------------------------------------------------- */

static void on_exit_bound(struct timer *t)
{
	(void)t;
	say("stopped with %u connections still open", w.n_conns);
	exit(0);
}

static void stop(void)
{
	static struct timer bound;
	if (w.is_stopping)
		return;
	w.is_stopping = true;
	notify("STOPPING=1\nSTATUS=Finishing requests");
	say("stopping, %u connections", w.n_conns);
	if (w.listen_fd >= 0) {
		accept_all();
		close(w.listen_fd);
		w.listen_fd = -1;
	}
	timer_arm(&bound, EXIT_BOUND_US, on_exit_bound);
	for (struct conn *c = w.conns; c; c = c->next)
		if (c->state == READ_HEAD && !c->in_size)
			timer_arm(&c->timer, IDLE_GRACE_US, on_idle_grace);
	finish_if_idle();
}

static void on_signal(void)
{
	struct signalfd_siginfo si;
	if (read(w.signal_fd, &si, sizeof(si)) != sizeof(si))
		return;
	if (si.ssi_signo == SIGTERM && w.ignore_term)
		say("ignoring SIGTERM");
	else
		stop();
}

static void on_ready(struct timer *t)
{
	(void)t;
	w.is_ready = true;
	notify("READY=1\nSTATUS=Serving");
	say("ready on port %d", w.port);
}

static void on_crash(struct timer *t)
{
	(void)t;
	say("crashing as asked");
	signal(SIGABRT, SIG_DFL);
	abort();
}

static void on_hang(struct timer *t)
{
	(void)t;
	say("hanging as asked");
	for (;;)
		pause(); /* signals are blocked: only SIGKILL or the watchdog's signal ends it */
}

static void on_exit_time(struct timer *t)
{
	(void)t;
	say("exiting with %u as asked", w.exit_code);
	exit((int)w.exit_code);
}

static void on_watchdog(struct timer *t)
{
	notify("WATCHDOG=1");
	timer_arm(t, w.watchdog_us / 2, on_watchdog);
}

static int open_listener(void)
{
	const char *fds = getenv("LISTEN_FDS"), *pid = getenv("LISTEN_PID");
	if (fds && pid && atoi(fds) >= 1 && atoi(pid) == (int)getpid()) {
		fcntl(3, F_SETFL, fcntl(3, F_GETFL) | O_NONBLOCK);
		fcntl(3, F_SETFD, FD_CLOEXEC);
		return 3;
	}
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)w.port)};
	socklen_t size = sizeof(a);
	int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0 || inet_pton(AF_INET, w.bind, &a.sin_addr) != 1)
		return -1;
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(fd, (struct sockaddr *)&a, size) < 0 || listen(fd, 4096) < 0) {
		fprintf(stderr, "websvc: cannot listen on %s:%d: %s\n", w.bind, w.port,
			strerror(errno));
		close(fd);
		return -1;
	}
	getsockname(fd, (struct sockaddr *)&a, &size);
	w.port = ntohs(a.sin_port);
	return fd;
}

static void on_start(struct timer *t)
{
	static struct timer ready;
	(void)t;
	w.listen_fd = open_listener();
	if (w.listen_fd < 0)
		exit(1);
	listener_watch();
	if (w.never_ready)
		say("listening on port %d, never ready", w.port);
	else
		timer_arm(&ready, w.ready_after_us, on_ready);
}

/* ---- configuration ------------------------------------------------------------------------ */

#define MODE_TIME(name, field)                                                                     \
	{                                                                                          \
		name, &w.field, NULL, NULL                                                         \
	}
static const struct mode {
	const char *name;
	uint64_t *time_us; /* value in milliseconds */
	bool *flag;
	unsigned *number;
} modes[] = {
	MODE_TIME("work-ms", work_us),
	MODE_TIME("start-delay-ms", start_delay_us), /* before listening */
	MODE_TIME("ready-after-ms", ready_after_us), /* /healthz is 503 until then */
	MODE_TIME("crash-after-ms", crash_us), /* abort(3) */
	MODE_TIME("hang-after-ms", hang_us), /* alive, answers nothing, ignores SIGTERM */
	MODE_TIME("exit-after-ms", exit_us),
	{"exit-code",      NULL, NULL,           &w.exit_code     },
	{"errors-percent", NULL, NULL,           &w.errors_percent}, /* so many of 100 answers are 500 */
	{"never-ready",    NULL, &w.never_ready, NULL             },
	{"ignore-term",    NULL, &w.ignore_term, NULL             },
};

/* True when the word was known; *ret_used: it consumed the value. */
static bool apply_mode(const char *word, const char *value, bool *ret_used)
{
	*ret_used = true;
	if (strcmp(word, "healthz-503") == 0) {
		snprintf(w.health_text, sizeof(w.health_text), "%s", value ? value : "not healthy");
		return true;
	}
	for (size_t i = 0; i < sizeof(modes) / sizeof(*modes); i++) {
		if (strcmp(word, modes[i].name) != 0)
			continue;
		if (modes[i].flag) {
			*modes[i].flag = true;
			*ret_used = false;
		} else if (value && modes[i].number) {
			*modes[i].number = (unsigned)strtoul(value, NULL, 10);
		} else if (value) {
			*modes[i].time_us =
				strtoull(value, NULL, 10) * 1000 + 1; /* 0 is "at once" */
		}
		return true;
	}
	return false;
}

static void read_mode_file(const char *dir)
{
	char path[4096], line[512];
	bool used;
	snprintf(path, sizeof(path), "%s/mode", dir);
	FILE *f = fopen(path, "re");
	if (!f)
		return;
	while (fgets(line, sizeof(line), f)) {
		line[strcspn(line, "\n")] = '\0';
		char *value = line + strcspn(line, " ");
		if (*value)
			*value++ = '\0';
		size_t n = strlen(value);
		if (n >= 2 && value[0] == '"' && value[n - 1] == '"') {
			value[n - 1] = '\0';
			value++;
		}
		if (line[0] && line[0] != '#' && !apply_mode(line, *value ? value : NULL, &used))
			fprintf(stderr, "websvc: %s: unknown word %s\n", path, line);
	}
	fclose(f);
}

static void read_release(const char *path)
{
	FILE *f = fopen(path, "re");
	if (f && fgets(w.release, sizeof(w.release), f))
		w.release[strcspn(w.release, "\r\n")] = '\0';
	if (f)
		fclose(f);
}

static int usage(const char *word)
{
	fprintf(stderr,
		"websvc: %s?\nusage: websvc [--port N] [--bind ADDR] [--instance NAME] [--version-file PATH]\n",
		word);
	for (size_t i = 0; i < sizeof(modes) / sizeof(*modes); i++)
		fprintf(stderr, "  --%s%s\n", modes[i].name, modes[i].flag ? "" : " N");
	fprintf(stderr, "  --healthz-503 TEXT\n");
	return 2;
}

static int configure(int argc, char **argv)
{
	const char *dir = getenv("RELEASE_DIR");
	const char *e;
	w.instance = (e = getenv("INSTANCE")) ? e : "-";
	snprintf(w.release, sizeof(w.release), "%s", (e = getenv("RELEASE")) && *e ? e : "-");
	if ((e = getenv("PORT")))
		w.port = atoi(e);
	if ((e = getenv("WATCHDOG_USEC")))
		w.watchdog_us = strtoull(e, NULL, 10);
	if (dir)
		read_mode_file(dir);
	for (int i = 1; i < argc; i++) {
		const char *word = argv[i], *value = i + 1 < argc ? argv[i + 1] : NULL;
		bool used = true;
		if (strncmp(word, "--", 2) != 0)
			return usage(word);
		if (strcmp(word, "--port") == 0 && value)
			w.port = atoi(value);
		else if (strcmp(word, "--bind") == 0 && value)
			w.bind = value;
		else if (strcmp(word, "--instance") == 0 && value)
			w.instance = value;
		else if (strcmp(word, "--version-file") == 0 && value)
			read_release(value);
		else if (!apply_mode(word + 2, value, &used))
			return usage(word);
		i += used;
	}
	return 0;
}

static void arm_faults(void)
{
	static struct timer start, crash, hang, leave, watchdog;
	timer_arm(&start, w.start_delay_us, on_start);
	if (w.crash_us)
		timer_arm(&crash, w.crash_us, on_crash);
	if (w.hang_us)
		timer_arm(&hang, w.hang_us, on_hang);
	if (w.exit_us)
		timer_arm(&leave, w.exit_us, on_exit_time);
	if (w.watchdog_us)
		timer_arm(&watchdog, w.watchdog_us / 2, on_watchdog);
}

int main(int argc, char **argv)
{
	struct epoll_event events[256];
	sigset_t signals;
	int r = configure(argc, argv);
	if (r)
		return r;
	sigemptyset(&signals);
	sigaddset(&signals, SIGTERM);
	sigaddset(&signals, SIGINT);
	sigprocmask(SIG_BLOCK, &signals, NULL);
	w.signal_fd = signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK);
	w.epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	struct epoll_event e = {.events = EPOLLIN, .data.ptr = &w.signal_fd};
	if (w.signal_fd < 0 || w.epoll_fd < 0 ||
		epoll_ctl(w.epoll_fd, EPOLL_CTL_ADD, w.signal_fd, &e) < 0)
		return 1;
	say("starting");
	arm_faults();
	for (;;) {
		int timeout_ms = timers_run();
		int n = epoll_wait(w.epoll_fd, events, 256, timeout_ms);
		bool do_signal = false, do_accept = false;
		for (int i = 0; i < n; i++) {
			if (events[i].data.ptr == &w.signal_fd)
				do_signal = true;
			else if (!events[i].data.ptr)
				do_accept = true;
			else
				conn_on_event(events[i].data.ptr, events[i].events);
		}
		if (do_accept && w.listen_fd >= 0)
			accept_all();
		if (do_signal) /* last: what was readable in this turn is answered first */
			on_signal();
	}
}
