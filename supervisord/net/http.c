/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Probes over libcurl's multi_socket interface, in the program's own loop.
 *
 *  1. Every probe makes a connection of its own: it shall prove that the service accepts.
 *  2. Nothing of the answer is trusted: headers and body together are bounded, no redirect is
 *     followed, no proxy is asked, no protocol but http and https is spoken, TLS is verified.
 *  3. The total deadline covers name, connection, TLS and answer. Nobody waits for a resolver
 *     thread (QUICK_EXIT): a dead name server costs a thread for some seconds, never this loop.
 *  4. A body that is longer than the bound does not make a good status bad: it is cut there.
 *
 * Called by probe.c.
 */
#include "net/net.h"

#include <curl/curl.h>
#include <sys/epoll.h>

struct http_request {
	CURL *easy;
	void *context;
	bool is_http;
	bool is_cut;     /* the body was longer than the bound: enough was read */
	bool is_flooded; /* the headers were */
	uint64_t timeout_us, started_us;
	size_t received;
	size_t body_size;
	char body[256]; /* its beginning */
	char error[CURL_ERROR_SIZE];
};

/* libcurl's watch on one of its sockets. */
struct watch {
	struct source source;
};

static struct {
	struct loop *loop;
	CURLM *multi;
	struct curl_slist *headers;
	http_done_fn *done;
	uint64_t timer_us;
} http = {.timer_us = USEC_INFINITY};

static void read_finished(void);

/* ---- sockets and time ----------------------------------------------------------------------- */

static void on_socket(struct source *s, uint32_t epoll_events)
{
	int running, what = 0;
	if (epoll_events & (EPOLLIN | EPOLLHUP | EPOLLRDHUP))
		what |= CURL_CSELECT_IN;
	if (epoll_events & EPOLLOUT)
		what |= CURL_CSELECT_OUT;
	if (epoll_events & EPOLLERR)
		what |= CURL_CSELECT_ERR;
	(void)curl_multi_socket_action(http.multi, s->fd, what, &running);
	read_finished();
}

static int watch_socket(CURL *easy, curl_socket_t fd, int what, void *data, void *per_socket)
{
	struct watch *w = per_socket;
	(void)easy;
	(void)data;
	if (what == CURL_POLL_REMOVE) {
		if (w)
			loop_remove(http.loop, &w->source);
		free(w);
		(void)curl_multi_assign(http.multi, fd, NULL);
		return 0;
	}
	uint32_t events =
		(what & CURL_POLL_IN ? EPOLLIN : 0) | (what & CURL_POLL_OUT ? EPOLLOUT : 0);
	if (w)
		return loop_modify(http.loop, &w->source, events) < 0 ? -1 : 0;
	w = xcalloc(1, sizeof(*w));
	if (loop_add(http.loop, &w->source, fd, events, PRIO_NORMAL, on_socket) < 0) {
		free(w);
		return -1;
	}
	(void)curl_multi_assign(http.multi, fd, w);
	return 0;
}

static int watch_time(CURLM *multi, long timeout_ms, void *data)
{
	(void)multi;
	(void)data;
	http.timer_us = timeout_ms < 0 ? USEC_INFINITY
				       : now_mono_us() + (uint64_t)timeout_ms * USEC_PER_MSEC;
	return 0;
}

uint64_t http_next_us(void)
{
	return http.timer_us;
}

void http_on_time(uint64_t now_us)
{
	int running;
	if (now_us < http.timer_us)
		return;
	http.timer_us = USEC_INFINITY;
	(void)curl_multi_socket_action(http.multi, CURL_SOCKET_TIMEOUT, 0, &running);
	read_finished();
}

/* ---- one answer ------------------------------------------------------------------------------- */

static size_t on_header(char *data, size_t size, size_t n, void *context)
{
	struct http_request *q = context;
	(void)data;
	q->received += size * n;
	if (q->received <= PROBE_ANSWER_MAX)
		return size * n;
	q->is_flooded = true;
	return 0;
}

static size_t on_body(char *data, size_t size, size_t n, void *context)
{
	struct http_request *q = context;
	size_t keep = MIN(size * n, sizeof(q->body) - q->body_size);
	memcpy(q->body + q->body_size, data, keep);
	q->body_size += keep;
	q->received += size * n;
	q->is_cut = q->received > PROBE_ANSWER_MAX;
	return q->is_cut ? 0 : size * n;
}

static const char *phase_of(const struct http_request *q)
{
	curl_off_t t = 0;
	if (curl_easy_getinfo(q->easy, CURLINFO_NAMELOOKUP_TIME_T, &t) == CURLE_OK && t == 0)
		return "resolving the name";
	if (curl_easy_getinfo(q->easy, CURLINFO_CONNECT_TIME_T, &t) == CURLE_OK && t == 0)
		return "connecting";
	if (q->received == 0)
		return "waiting for the answer";
	return "reading the answer";
}

static void describe_error(const struct http_request *q, CURLcode code, char *out, size_t size)
{
	long error = 0;
	char span[TIMESPAN_MAX];
	(void)curl_easy_getinfo(q->easy, CURLINFO_OS_ERRNO, &error);
	if (q->is_flooded)
		snprintf(out, size, "more than %d KiB of headers", PROBE_ANSWER_MAX / 1024);
	else if (code == CURLE_OPERATION_TIMEDOUT)
		snprintf(out, size, "timeout after %s %s", format_timespan(span, q->timeout_us),
			phase_of(q));
	else if (code == CURLE_COULDNT_CONNECT && error)
		snprintf(out, size, "%s", strerror((int)error));
	else if (code == CURLE_COULDNT_RESOLVE_HOST)
		snprintf(out, size, "the name does not resolve");
	else
		snprintf(out, size, "%s", q->error[0] ? q->error : curl_easy_strerror(code));
	if (out[0] >= 'A' && out[0] <= 'Z' && out[1] >= 'a' && out[1] <= 'z')
		out[0] = (char)(out[0] + ('a' - 'A'));
}

static void describe_status(const struct http_request *q, struct http_result *r)
{
	char line[PROBE_BODY_TEXT_MAX + 1];
	probe_body_line(line, q->body, q->body_size);
	r->is_ok = r->status >= 200 && r->status <= 399;
	if (r->is_ok || !line[0])
		snprintf(r->text, sizeof(r->text), "http %ld", r->status);
	else
		snprintf(r->text, sizeof(r->text), "http %ld \"%s\"", r->status, line);
}

static void finish(struct http_request *q, CURLcode code)
{
	struct http_result r = {0};
	if (q->is_http && (code == CURLE_OK || q->is_cut)) {
		(void)curl_easy_getinfo(q->easy, CURLINFO_RESPONSE_CODE, &r.status);
		describe_status(q, &r);
	} else if (code == CURLE_OK) {
		r.is_ok = true;
		snprintf(r.text, sizeof(r.text), "connected");
	} else {
		describe_error(q, code, r.text, sizeof(r.text));
	}
	r.latency_us = now_mono_us() - q->started_us;
	void *context = q->context;
	http_cancel(q);
	http.done(context, &r);
}

static void read_finished(void)
{
	CURLMsg *m;
	int left;
	while ((m = curl_multi_info_read(http.multi, &left))) {
		struct http_request *q = NULL;
		if (m->msg != CURLMSG_DONE)
			continue;
		CURLcode code = m->data.result;
		(void)curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, (char **)&q);
		finish(q, code);
	}
}

/* ---- start and end ------------------------------------------------------------------------------ */

static void set_options(struct http_request *q, const struct probe_target *t)
{
	CURL *c = q->easy;
	uint64_t ms = MAX(q->timeout_us / USEC_PER_MSEC, 1u);
#define SET(option, value) (void)curl_easy_setopt(c, CURLOPT_##option, value)
	SET(PRIVATE, q);
	SET(ERRORBUFFER, q->error);
	SET(URL, t->url);
#if LIBCURL_VERSION_NUM >= 0x075500
	SET(PROTOCOLS_STR, "http,https");
#else
	SET(PROTOCOLS, (long)(CURLPROTO_HTTP | CURLPROTO_HTTPS));
#endif
#if LIBCURL_VERSION_NUM >= 0x075700
	SET(QUICK_EXIT, 1L);
#endif
	SET(NOPROXY, "*");
	SET(NOSIGNAL, 1L);
	SET(NOPROGRESS, 1L);
	SET(FOLLOWLOCATION, 0L);
	SET(FRESH_CONNECT, 1L);
	SET(FORBID_REUSE, 1L);
	SET(HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
	SET(USERAGENT, "stayd/" STAYD_VERSION);
	SET(HTTPHEADER, http.headers);
	SET(TIMEOUT_MS, (long)ms);
	SET(CONNECTTIMEOUT_MS, (long)ms);
	SET(BUFFERSIZE, 16 * 1024L);
	SET(HEADERFUNCTION, on_header);
	SET(HEADERDATA, q);
	SET(WRITEFUNCTION, on_body);
	SET(WRITEDATA, q);
	if (t->path[0] == '@')
		SET(ABSTRACT_UNIX_SOCKET, t->path + 1);
	else if (t->path[0])
		SET(UNIX_SOCKET_PATH, t->path);
	if (!t->is_http)
		SET(CONNECT_ONLY, 1L);
#undef SET
}

struct http_request *http_start(
	const struct probe_target *t, uint64_t timeout_us, void *context, struct http_result *r)
{
	struct http_request *q = xcalloc(1, sizeof(*q));
	q->context = context;
	q->is_http = t->is_http;
	q->timeout_us = timeout_us;
	q->started_us = now_mono_us();
	q->easy = curl_easy_init();
	if (!q->easy)
		oom();
	set_options(q, t);
	CURLMcode code = curl_multi_add_handle(http.multi, q->easy);
	if (code == CURLM_OK)
		return q;
	snprintf(r->text, sizeof(r->text), "%s", curl_multi_strerror(code));
	curl_easy_cleanup(q->easy);
	free(q);
	return NULL;
}

void http_cancel(struct http_request *q)
{
	(void)curl_multi_remove_handle(http.multi, q->easy);
	curl_easy_cleanup(q->easy);
	free(q);
}

int http_init(struct loop *loop, http_done_fn *fn)
{
	http.loop = loop;
	http.done = fn;
	/* A resolver thread outlives its probe by at most one round of questions. */
	(void)setenv("RES_OPTIONS", "timeout:1 attempts:2", 0);
	if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
		return -ENOMEM;
	http.multi = curl_multi_init();
	http.headers = curl_slist_append(NULL, "Connection: close");
	if (!http.multi || !http.headers)
		return -ENOMEM;
	(void)curl_multi_setopt(http.multi, CURLMOPT_SOCKETFUNCTION, watch_socket);
	(void)curl_multi_setopt(http.multi, CURLMOPT_TIMERFUNCTION, watch_time);
	return 0;
}

void http_done(void)
{
	if (http.multi)
		(void)curl_multi_cleanup(http.multi);
	curl_slist_free_all(http.headers);
	http.multi = NULL;
	http.headers = NULL;
	http.timer_us = USEC_INFINITY;
	curl_global_cleanup();
}
