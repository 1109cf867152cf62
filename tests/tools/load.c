/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Open-loop HTTP load: so many requests a second, whatever the service does.
 *
 *  1. Latency counts from the moment a request was due, not from when a connection was free: a
 *     service that stalls for a second makes a thousand late requests, not one.
 *  2. Nothing is ever retried; a request ends exactly once, as ok or as one kind of failure.
 *  3. sent = ok + failed + in_flight, over the whole run; a phase counts a request as sent in the
 *     phase it was due in and as ended in the phase it ended in.
 *
 *   load --url http://IP:PORT/PATH [--rate N] [--seconds N | --until-eof] [--connections N]
 *        [--close] [--post BYTES] [--timeout-ms N] [--out FILE.jsonl]
 *
 * On stdin: "mark NAME" ends the phase and prints its totals as one JSON line, "peek" prints them
 * and goes on, "stop" ends the run. The last line on stdout is the total. --out also gets a line a second and the first
 * failures one by one. Exit code: 0 when nothing failed, 1 when something did, 2 for bad usage.
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
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define CONNECTIONS_MAX 16384
#define QUEUE_MAX       65536 /* due but without a connection; beyond it: failed as queue_full */
#define NAMES_MAX       24    /* kinds or releases; further ones count as "other" */
#define FAILURES_SHOWN  200
#define IN_MAX          16384
#define BUCKETS         (64 * 32) /* log-linear, 32 steps per power of two: 3 % wide */

/* ---- counting ----------------------------------------------------------------------------- */

struct names {
	struct {
		char name[48];
		uint64_t n;
	} v[NAMES_MAX];
	size_t n;
};

struct stats {
	char name[64];
	uint64_t start_us, sent, ok, failed, max_us, lag_max_us;
	uint32_t hist[BUCKETS];
	struct names kinds, releases;
};

static struct stats second, phase, total;

static size_t bucket_of(uint64_t us)
{
	if (us < 32)
		return us;
	unsigned shift = 63 - (unsigned)__builtin_clzll(us) - 5;
	return (shift + 1) * 32 + ((us >> shift) & 31);
}

static uint64_t bucket_top(size_t b)
{
	if (b < 32)
		return b;
	size_t shift = b / 32 - 1;
	return ((32 + (b & 31) + 1) << shift) - 1;
}

static double percentile_ms(const struct stats *s, double p)
{
	uint64_t want = (uint64_t)((double)s->ok * p / 100.0 + 0.999999), seen = 0;
	if (want > s->ok)
		want = s->ok;
	for (size_t b = 0; b < BUCKETS && s->ok; b++) {
		seen += s->hist[b];
		if (seen >= want) {
			uint64_t us = bucket_top(b) < s->max_us ? bucket_top(b) : s->max_us;
			return (double)us / 1000.0;
		}
	}
	return 0;
}

static void names_count(struct names *l, const char *name)
{
	size_t i = 0;
	while (i < l->n && strcmp(l->v[i].name, name) != 0)
		i++;
	if (i == l->n) {
		if (l->n == NAMES_MAX) {
			i = NAMES_MAX - 1;
			snprintf(l->v[i].name, sizeof(l->v[i].name), "other");
		} else {
			snprintf(l->v[l->n++].name, sizeof(l->v[i].name), "%s", name);
		}
	}
	l->v[i].n++;
}

static void print_names(FILE *f, const char *key, const struct names *l)
{
	fprintf(f, ",\"%s\":{", key);
	for (size_t i = 0; i < l->n; i++)
		fprintf(f, "%s\"%s\":%llu", i ? "," : "", l->v[i].name,
			(unsigned long long)l->v[i].n);
	fputc('}', f);
}

/* ---- requests and connections --------------------------------------------------------------- */

enum conn_state { CONN_FREE, CONN_CONNECTING, CONN_IDLE, CONN_BUSY };
enum body { BODY_LENGTH, BODY_CHUNKED, BODY_TO_EOF };

struct conn {
	int fd;
	enum conn_state state;
	struct conn *next, *prev; /* idle or free: a stack; with a request: in order of due time */
	uint64_t due_us;
	unsigned n_answers;
	size_t sent; /* of the request's bytes */
	size_t in_size;
	bool has_head, is_close, wants_out;
	enum body body;
	uint64_t body_left;
	unsigned chunk_state, chunk_line;
	int code;
	char release[48];
	char in[IN_MAX];
};

static struct {
	struct sockaddr_in addr;
	char *request;
	size_t request_size;
	uint64_t rate, end_us, timeout_us, start_us, next_due_us, n_due;
	unsigned connections, n_open;
	bool close_each, until_eof, is_ending, stdin_open;
	int epoll_fd;
	FILE *out;
	unsigned n_shown;
	struct conn *conns, *idle, *unused, *first, *last; /* first..last: with a request */
	uint64_t queue[QUEUE_MAX];
	size_t queue_head, queue_n;
	char line[256];
	size_t line_size;
} g = {.rate = 1000, .connections = 256, .timeout_us = 10000000};

static uint64_t now_us(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

static uint64_t in_flight(void)
{
	return total.sent - total.ok - total.failed;
}

static void print_stats(FILE *f, const struct stats *s, const char *key)
{
	uint64_t now = now_us();
	fprintf(f, "{\"%s\":\"%s\",\"seconds\":%.3f,\"sent\":%llu,\"ok\":%llu,\"failed\":%llu", key,
		s->name, (double)(now - s->start_us) / 1e6, (unsigned long long)s->sent,
		(unsigned long long)s->ok, (unsigned long long)s->failed);
	fprintf(f, ",\"in_flight\":%llu", (unsigned long long)in_flight());
	print_names(f, "kinds", &s->kinds);
	fprintf(f, ",\"p50_ms\":%.3f,\"p99_ms\":%.3f,\"max_ms\":%.3f,\"sender_lag_max_ms\":%.3f",
		percentile_ms(s, 50), percentile_ms(s, 99), (double)s->max_us / 1000.0,
		(double)s->lag_max_us / 1000.0);
	print_names(f, "releases", &s->releases);
	fputs("}\n", f);
	fflush(f);
}

static void stats_start(struct stats *s, const char *name)
{
	memset(s, 0, sizeof(*s));
	s->start_us = now_us();
	for (size_t i = 0; name[i] && i < sizeof(s->name) - 1; i++)
		s->name[i] = name[i] == '"' || name[i] == '\\' || name[i] < ' ' ? '_' : name[i];
}

static void count_ok(uint64_t due_us, const char *release)
{
	struct stats *all[] = {&second, &phase, &total};
	uint64_t us = now_us() - due_us;
	for (size_t i = 0; i < 3; i++) {
		all[i]->ok++;
		all[i]->hist[bucket_of(us)]++;
		if (us > all[i]->max_us)
			all[i]->max_us = us;
		if (*release)
			names_count(&all[i]->releases, release);
	}
}

static void count_failed(uint64_t due_us, const char *kind, const char *release)
{
	struct stats *all[] = {&second, &phase, &total};
	for (size_t i = 0; i < 3; i++) {
		all[i]->failed++;
		names_count(&all[i]->kinds, kind);
	}
	if (!g.out || g.n_shown++ >= FAILURES_SHOWN)
		return;
	fprintf(g.out,
		"{\"failure\":\"%s\",\"phase\":\"%s\",\"due_s\":%.6f,\"after_ms\":%.3f,\"release\":\"%s\"}\n",
		kind, phase.name, (double)(due_us - g.start_us) / 1e6,
		(double)(now_us() - due_us) / 1000.0, release);
}

static void list_remove(struct conn *c)
{
	*(c->prev ? &c->prev->next : &g.first) = c->next;
	*(c->next ? &c->next->prev : &g.last) = c->prev;
	c->next = c->prev = NULL;
}

static void list_append(struct conn *c)
{
	c->next = NULL;
	c->prev = g.last;
	*(g.last ? &g.last->next : &g.first) = c;
	g.last = c;
}

/* Idle connections are a doubly linked stack: the last one used is the next one taken. */
static void idle_push(struct conn *c)
{
	c->state = CONN_IDLE;
	c->prev = NULL;
	c->next = g.idle;
	if (g.idle)
		g.idle->prev = c;
	g.idle = c;
}

static void idle_remove(struct conn *c)
{
	*(c->prev ? &c->prev->next : &g.idle) = c->next;
	if (c->next)
		c->next->prev = c->prev;
	c->next = c->prev = NULL;
}

/* Not in any list any more: close, and make room for another one. */
static void conn_close(struct conn *c)
{
	close(c->fd);
	c->fd = -1;
	c->state = CONN_FREE;
	c->next = g.unused;
	g.unused = c;
	g.n_open--;
}

static void conn_fail(struct conn *c, const char *kind)
{
	count_failed(c->due_us, kind, c->release);
	list_remove(c);
	conn_close(c);
}

static void conn_watch(struct conn *c, bool wants_out, int op)
{
	struct epoll_event e = {.events = EPOLLIN | (wants_out ? EPOLLOUT : 0), .data.ptr = c};
	if (op == EPOLL_CTL_MOD && c->wants_out == wants_out)
		return;
	c->wants_out = wants_out;
	epoll_ctl(g.epoll_fd, op, c->fd, &e);
}

static const char *connect_kind(int error)
{
	switch (error) {
	case ECONNREFUSED:
		return "connect_refused";
	case ETIMEDOUT:
		return "connect_timeout";
	case ECONNRESET:
		return "connect_reset";
	default:
		return "connect_other";
	}
}

/* The connection ended, or broke, with a request on it. */
static void conn_lost(struct conn *c)
{
	if (c->in_size || c->has_head)
		conn_fail(c, "closed_in_answer");
	else
		conn_fail(c, c->n_answers ? "closed_reused" : "closed_before_answer");
}

/* False when the connection has gone. */
static bool conn_write(struct conn *c)
{
	while (c->sent < g.request_size) {
		ssize_t n = send(c->fd, g.request + c->sent, g.request_size - c->sent,
			MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			break;
		if (n < 0) { /* an early answer may still be in our buffer: let the read decide */
			c->sent = g.request_size;
			break;
		}
		c->sent += (size_t)n;
	}
	conn_watch(c, c->sent < g.request_size, EPOLL_CTL_MOD);
	return true;
}

static void conn_begin(struct conn *c, uint64_t due_us)
{
	c->due_us = due_us;
	c->sent = c->in_size = 0;
	c->has_head = c->is_close = false;
	c->release[0] = '\0';
	list_append(c);
}

static void conn_connect(uint64_t due_us)
{
	struct conn *c = g.unused;
	int one = 1;
	g.unused = c->next;
	g.n_open++;
	c->next = c->prev = NULL;
	c->n_answers = 0;
	conn_begin(c, due_us);
	c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (c->fd < 0) {
		conn_fail(c, "no_socket");
		return;
	}
	setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	c->state = CONN_CONNECTING;
	if (connect(c->fd, (struct sockaddr *)&g.addr, sizeof(g.addr)) < 0 && errno != EINPROGRESS)
		conn_fail(c, connect_kind(errno));
	else
		conn_watch(c, true, EPOLL_CTL_ADD);
}

/* Starts a request that is due; false when it has to wait for a connection. */
static bool request_start(uint64_t due_us)
{
	struct conn *c = g.idle;
	if (c) {
		idle_remove(c);
		c->state = CONN_BUSY;
		conn_begin(c, due_us);
		conn_write(c);
		return true;
	}
	if (g.n_open >= g.connections)
		return false;
	conn_connect(due_us);
	return true;
}

static void queue_serve(void)
{
	while (g.queue_n && request_start(g.queue[g.queue_head])) {
		g.queue_head = (g.queue_head + 1) % QUEUE_MAX;
		g.queue_n--;
	}
}

static void conn_done(struct conn *c)
{
	if (c->code >= 200 && c->code < 400) {
		count_ok(c->due_us, c->release);
	} else {
		char kind[16];
		snprintf(kind, sizeof(kind), "http_%03d", c->code);
		count_failed(c->due_us, kind, c->release);
	}
	list_remove(c);
	c->n_answers++;
	if (g.close_each || c->is_close || c->in_size || c->sent < g.request_size)
		conn_close(c);
	else
		idle_push(c);
}

static bool header_is(const char *line, const char *name, const char **ret_value)
{
	size_t n = strlen(name);
	if (strncasecmp(line, name, n) != 0 || line[n] != ':')
		return false;
	*ret_value = line + n + 1 + strspn(line + n + 1, " \t");
	return true;
}

/* 0, or -1 when it is not an answer. The block is NUL-terminated. */
static int parse_head(struct conn *c, char *head)
{
	char *save = NULL, *line = strtok_r(head, "\r\n", &save);
	const char *value;
	int minor;
	if (!line || sscanf(line, "HTTP/1.%1d %3d", &minor, &c->code) != 2)
		return -1;
	c->body = BODY_TO_EOF;
	c->is_close = minor == 0;
	c->chunk_state = c->chunk_line = 0;
	c->body_left = 0;
	while ((line = strtok_r(NULL, "\r\n", &save))) {
		if (header_is(line, "Content-Length", &value)) {
			c->body_left = strtoull(value, NULL, 10);
			c->body = BODY_LENGTH;
		} else if (header_is(line, "Transfer-Encoding", &value)) {
			c->body = BODY_CHUNKED;
			c->body_left = 0;
		} else if (header_is(line, "Connection", &value)) {
			if (strcasestr(value, "close"))
				c->is_close = true;
		} else if (header_is(line, "X-Release", &value)) {
			size_t n = strcspn(value, "\"\\");
			if (n >= sizeof(c->release))
				n = sizeof(c->release) - 1;
			memcpy(c->release, value, n);
			c->release[n] = '\0';
		}
	}
	if (c->code == 204 || c->code == 304) {
		c->body = BODY_LENGTH;
		c->body_left = 0;
	}
	return 0;
}

enum chunk { CHUNK_SIZE, CHUNK_EXT, CHUNK_DATA, CHUNK_CRLF, CHUNK_TRAILER };

/* Eats chunked body; 1 complete, 0 more, -1 nonsense. *pos moves. */
static int take_chunks(struct conn *c, size_t *pos)
{
	static const char digits[] = "0123456789abcdef";
	while (*pos < c->in_size) {
		if (c->chunk_state == CHUNK_DATA) {
			uint64_t n =
				c->in_size - *pos < c->body_left ? c->in_size - *pos : c->body_left;
			*pos += n;
			c->body_left -= n;
			if (!c->body_left)
				c->chunk_state = CHUNK_CRLF;
			continue;
		}
		char b = c->in[(*pos)++];
		if (b == '\r')
			continue;
		if (b != '\n') {
			const char *d = b >= '0' ? strchr(digits, b | 0x20) : NULL;
			c->chunk_line++;
			if (c->chunk_state == CHUNK_CRLF)
				return -1;
			if (c->chunk_state == CHUNK_SIZE && d && *d)
				c->body_left = c->body_left * 16 + (uint64_t)(d - digits);
			else if (c->chunk_state == CHUNK_SIZE)
				c->chunk_state = CHUNK_EXT;
			continue;
		}
		bool is_empty = c->chunk_line == 0;
		c->chunk_line = 0;
		if (c->chunk_state == CHUNK_TRAILER && is_empty)
			return 1;
		if (c->chunk_state == CHUNK_CRLF)
			c->chunk_state = CHUNK_SIZE;
		else if (c->chunk_state != CHUNK_TRAILER)
			c->chunk_state = c->body_left ? CHUNK_DATA : CHUNK_TRAILER;
	}
	return 0;
}

/* 1 when the answer is complete, 0 for more, -1 on nonsense. */
static int conn_parse(struct conn *c)
{
	size_t pos = 0;
	while (!c->has_head) {
		char *end = memmem(c->in, c->in_size, "\r\n\r\n", 4);
		if (!end)
			return c->in_size == IN_MAX ? -1 : 0;
		end[2] = '\0';
		pos = (size_t)(end - c->in) + 4;
		if (parse_head(c, c->in) < 0)
			return -1;
		c->has_head = c->code >= 200; /* 1xx: another one follows */
		memmove(c->in, c->in + pos, c->in_size - pos);
		c->in_size -= pos;
		pos = 0;
	}
	int r = 0;
	if (c->body == BODY_CHUNKED) {
		r = take_chunks(c, &pos);
	} else if (c->body == BODY_TO_EOF) {
		pos = c->in_size;
	} else {
		pos = c->in_size < c->body_left ? c->in_size : c->body_left;
		c->body_left -= pos;
		r = c->body_left == 0;
	}
	memmove(c->in, c->in + pos, c->in_size - pos);
	c->in_size -= pos;
	return r;
}

static void conn_read(struct conn *c)
{
	for (;;) {
		ssize_t n = recv(c->fd, c->in + c->in_size, IN_MAX - c->in_size, MSG_DONTWAIT);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return;
		if (n == 0 && c->has_head && c->body == BODY_TO_EOF) {
			c->is_close = true;
			conn_done(c);
			return;
		}
		if (n <= 0) {
			conn_lost(c);
			return;
		}
		c->in_size += (size_t)n;
		int r = conn_parse(c);
		if (r < 0)
			conn_fail(c, "bad_answer");
		else if (r > 0)
			conn_done(c);
		if (r)
			return;
	}
}

static void conn_on_event(struct conn *c, uint32_t events)
{
	if (c->state == CONN_FREE)
		return;
	if (c->state == CONN_IDLE) { /* closed by the other side between requests: nobody's loss */
		idle_remove(c);
		conn_close(c);
		return;
	}
	if (c->state == CONN_CONNECTING) {
		int error = 0;
		socklen_t size = sizeof(error);
		getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &size);
		if (error) {
			conn_fail(c, connect_kind(error));
			return;
		}
		c->state = CONN_BUSY;
	}
	if (c->wants_out && (events & (EPOLLOUT | EPOLLERR | EPOLLHUP)))
		conn_write(c);
	if (events & (EPOLLIN | EPOLLERR | EPOLLHUP))
		conn_read(c);
}

/* ---- the schedule --------------------------------------------------------------------------- */

static void send_due(uint64_t now)
{
	while (!g.is_ending && g.next_due_us <= now) {
		uint64_t due = g.next_due_us;
		struct stats *all[] = {&second, &phase, &total};
		for (size_t i = 0; i < 3; i++) {
			all[i]->sent++;
			if (now - due > all[i]->lag_max_us)
				all[i]->lag_max_us = now - due;
		}
		g.n_due++;
		g.next_due_us = g.start_us + g.n_due * 1000000 / g.rate;
		if (!g.queue_n && request_start(due))
			continue;
		if (g.queue_n == QUEUE_MAX)
			count_failed(due, "queue_full", "");
		else
			g.queue[(g.queue_head + g.queue_n++) % QUEUE_MAX] = due;
	}
}

static void expire(uint64_t now)
{
	while (g.first && now - g.first->due_us >= g.timeout_us)
		conn_fail(
			g.first, g.first->state == CONN_CONNECTING ? "connect_timeout" : "timeout");
	while (g.queue_n && now - g.queue[g.queue_head] >= g.timeout_us) {
		count_failed(g.queue[g.queue_head], "timeout", "");
		g.queue_head = (g.queue_head + 1) % QUEUE_MAX;
		g.queue_n--;
	}
}

static void each_second(uint64_t now)
{
	if (now - second.start_us < 1000000)
		return;
	if (g.out)
		print_stats(g.out, &second, "second");
	char name[32];
	snprintf(name, sizeof(name), "%llu", (unsigned long long)((now - g.start_us) / 1000000));
	stats_start(&second, name);
}

static void end_phase(const char *next)
{
	print_stats(stdout, &phase, "phase");
	if (g.out)
		print_stats(g.out, &phase, "phase");
	stats_start(&phase, next);
}

static void command(char *line)
{
	if (strncmp(line, "mark ", 5) == 0)
		end_phase(line + 5);
	else if (strcmp(line, "peek") == 0)
		print_stats(stdout, &phase, "peek");
	else if (strcmp(line, "stop") == 0)
		g.is_ending = true;
	else
		fprintf(stderr, "load: unknown command: %s\n", line);
}

static void on_stdin(void)
{
	ssize_t n = read(0, g.line + g.line_size, sizeof(g.line) - 1 - g.line_size);
	if (n < 0 && (errno == EINTR || errno == EAGAIN))
		return;
	if (n <= 0) {
		g.stdin_open = false;
		epoll_ctl(g.epoll_fd, EPOLL_CTL_DEL, 0, NULL);
		if (g.until_eof)
			g.is_ending = true;
		return;
	}
	g.line_size += (size_t)n;
	g.line[g.line_size] = '\0';
	char *end;
	while ((end = strchr(g.line, '\n'))) {
		*end++ = '\0';
		command(g.line);
		g.line_size -= (size_t)(end - g.line);
		memmove(g.line, end, g.line_size + 1);
	}
	if (g.line_size == sizeof(g.line) - 1)
		g.line_size = 0; /* longer than any command */
}

/* How long the loop may wait: to the next request, the next time-out, the end of the second. */
static struct timespec next_wait(uint64_t now)
{
	uint64_t at = second.start_us + 1000000;
	if (!g.is_ending && g.next_due_us < at)
		at = g.next_due_us;
	if (g.first && g.first->due_us + g.timeout_us < at)
		at = g.first->due_us + g.timeout_us;
	if (g.queue_n && g.queue[g.queue_head] + g.timeout_us < at)
		at = g.queue[g.queue_head] + g.timeout_us;
	uint64_t us = at > now ? at - now : 0;
	return (struct timespec){(time_t)(us / 1000000), (long)(us % 1000000) * 1000};
}

static void run(void)
{
	struct epoll_event events[512];
	g.start_us = g.next_due_us = now_us();
	stats_start(&second, "0");
	stats_start(&phase, "start");
	stats_start(&total, "total");
	while (!g.is_ending || in_flight()) {
		struct timespec wait = next_wait(now_us());
		int n = epoll_pwait2(g.epoll_fd, events, 512, &wait, NULL);
		/* Answers and closes first: a request is not sent on what is known to be closed. */
		for (int i = 0; i < n; i++) {
			if (events[i].data.ptr)
				conn_on_event(events[i].data.ptr, events[i].events);
			else
				on_stdin();
		}
		uint64_t now = now_us();
		if (g.end_us && now - g.start_us >= g.end_us)
			g.is_ending = true;
		expire(now);
		queue_serve();
		send_due(now);
		each_second(now);
	}
	print_stats(stdout, &phase, "phase");
	print_stats(stdout, &total, "total");
	if (g.out) {
		print_stats(g.out, &phase, "phase");
		print_stats(g.out, &total, "total");
		fclose(g.out);
	}
}

/* ---- configuration -------------------------------------------------------------------------- */

static int usage(const char *why)
{
	fprintf(stderr,
		"load: %s\nusage: load --url http://IP:PORT/PATH [--rate N] [--seconds N | --until-eof]\n"
		"       [--connections N] [--close] [--post BYTES] [--timeout-ms N] [--out FILE.jsonl]\n",
		why);
	return 2;
}

static int make_request(const char *url, unsigned long post)
{
	char host[64], path[1024] = "/", head[2048];
	unsigned port = 80;
	if (sscanf(url, "http://%63[0-9.]:%u%1023s", host, &port, path) < 2 || port > 65535)
		return -1;
	g.addr.sin_family = AF_INET;
	g.addr.sin_port = htons((uint16_t)port);
	if (inet_pton(AF_INET, host, &g.addr.sin_addr) != 1)
		return -1;
	int n = snprintf(head, sizeof(head), "%s %s HTTP/1.1\r\nHost: %s:%u\r\n%s",
		post ? "POST" : "GET", path, host, port,
		g.close_each ? "Connection: close\r\n" : "");
	if (post)
		n += snprintf(head + n, sizeof(head) - (size_t)n, "Content-Length: %lu\r\n", post);
	n += snprintf(head + n, sizeof(head) - (size_t)n, "\r\n");
	g.request_size = (size_t)n + post;
	g.request = malloc(g.request_size);
	if (!g.request)
		return -1;
	memcpy(g.request, head, (size_t)n);
	memset(g.request + n, 'x', post);
	return 0;
}

static int configure(int argc, char **argv)
{
	const char *url = NULL;
	unsigned long post = 0;
	for (int i = 1; i < argc; i++) {
		const char *word = argv[i], *value = i + 1 < argc ? argv[i + 1] : NULL;
		if (strcmp(word, "--close") == 0) {
			g.close_each = true;
			continue;
		}
		if (strcmp(word, "--until-eof") == 0) {
			g.until_eof = true;
			continue;
		}
		if (!value)
			return usage(word);
		i++;
		if (strcmp(word, "--url") == 0)
			url = value;
		else if (strcmp(word, "--rate") == 0)
			g.rate = strtoull(value, NULL, 10);
		else if (strcmp(word, "--seconds") == 0)
			g.end_us = (uint64_t)(strtod(value, NULL) * 1e6);
		else if (strcmp(word, "--connections") == 0)
			g.connections = (unsigned)strtoul(value, NULL, 10);
		else if (strcmp(word, "--post") == 0)
			post = strtoul(value, NULL, 10);
		else if (strcmp(word, "--timeout-ms") == 0)
			g.timeout_us = strtoull(value, NULL, 10) * 1000;
		else if (strcmp(word, "--out") == 0 && !(g.out = fopen(value, "we")))
			return usage(value);
		else if (strcmp(word, "--out") != 0)
			return usage(word);
	}
	if (!url || make_request(url, post) < 0)
		return usage("--url must be http://IP:PORT/PATH");
	if (!g.rate || !g.connections || g.connections > CONNECTIONS_MAX)
		return usage("--rate and --connections must be in range");
	if (!g.end_us && !g.until_eof)
		return usage("one of --seconds and --until-eof is needed");
	return 0;
}

int main(int argc, char **argv)
{
	struct rlimit rl;
	int r = configure(argc, argv);
	if (r)
		return r;
	signal(SIGPIPE, SIG_IGN);
	if (getrlimit(RLIMIT_NOFILE, &rl) == 0) {
		rl.rlim_cur = rl.rlim_max;
		setrlimit(RLIMIT_NOFILE, &rl);
	}
	g.conns = calloc(g.connections, sizeof(*g.conns));
	g.epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (!g.conns || g.epoll_fd < 0)
		return 2;
	for (unsigned i = 0; i < g.connections; i++) {
		g.conns[i].fd = -1;
		g.conns[i].next = g.unused;
		g.unused = &g.conns[i];
	}
	struct epoll_event e = {.events = EPOLLIN, .data.ptr = NULL};
	g.stdin_open = epoll_ctl(g.epoll_fd, EPOLL_CTL_ADD, 0, &e) == 0; /* EPERM: a file or null */
	if (!g.stdin_open && g.until_eof)
		return usage("--until-eof needs a pipe or a terminal on stdin");
	run();
	return total.failed ? 1 : 0;
}
