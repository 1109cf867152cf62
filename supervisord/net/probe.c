/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Health probes: what core asked and was not answered yet.
 *
 *  1. Each NT_PROBE is answered by exactly one NT_PROBED with its number, whatever the peer does,
 *     unless core says NT_HELLO first.
 *  2. PROBES_MAX at once, PROBES_BY_NAME_MAX of them by name; further ones fail at once.
 *  3. An answer is counted by its first status line; its text is made printable before it is passed.
 *
 * Called by main.c; finished by http.c.
 */
#include "net/net.h"

#include <arpa/inet.h>

struct probe {
	struct probe *next, *prev;
	uint64_t number;
	bool by_name;
	struct http_request *request;
};

static struct {
	struct link *link;
	struct probe *head;
	size_t n, n_by_name;
} probes;

/* ---- targets -------------------------------------------------------------------------------- */

static bool host_is_numeric(const char *host, size_t size)
{
	char text[INET6_ADDRSTRLEN];
	unsigned char a[16];
	if (size >= 2 && host[0] == '[' && host[size - 1] == ']') {
		host++;
		size -= 2;
	}
	if (size == 9 && memcmp(host, "localhost", 9) == 0)
		return true; /* libcurl and nss-files know it */
	if (size >= sizeof(text))
		return false;
	memcpy(text, host, size);
	text[size] = '\0';
	return inet_pton(AF_INET, text, a) == 1 || inet_pton(AF_INET6, text, a) == 1;
}

/* "user@host:port/path" -> host, with the brackets of IPv6. */
static void split_authority(
	const char *rest, const char **ret_host, size_t *ret_size, const char **ret_port)
{
	size_t size = strcspn(rest, "/?#");
	const char *at = memrchr(rest, '@', size);
	const char *host = at ? at + 1 : rest, *end = rest + size;
	const char *after = *host == '[' ? memchr(host, ']', (size_t)(end - host)) : host;
	const char *colon = after ? memchr(after, ':', (size_t)(end - after)) : NULL;
	*ret_host = host;
	*ret_size = (size_t)((colon ? colon : end) - host);
	*ret_port = colon ? colon + 1 : NULL;
}

static int parse_tcp(const char *rest, struct probe_target *ret, struct err *e)
{
	const char *host, *port;
	size_t size;
	split_authority(rest, &host, &size, &port);
	char *end = NULL;
	unsigned long n = port && *port >= '0' && *port <= '9' ? strtoul(port, &end, 10) : 0;
	if (!size || host != rest || n == 0 || n > UINT16_MAX || *end)
		return err_set(e, -EINVAL, "not tcp://HOST:PORT");
	ret->by_name = !host_is_numeric(host, size);
	snprintf(ret->url, sizeof(ret->url), "http://%.*s:%lu/", (int)size, host, n);
	return 0;
}

static int parse_unix(const char *path, struct probe_target *ret, struct err *e)
{
	if ((path[0] != '/' && path[0] != '@') || !path[1])
		return err_set(e, -EINVAL, "not unix:/PATH");
	if (str_copy(ret->path, path, sizeof(ret->path)) >= sizeof(ret->path))
		return err_set(e, -EINVAL, "the path is too long for a socket");
	str_copy(ret->url, "http://localhost/", sizeof(ret->url));
	return 0;
}

static int parse_http(const char *text, const char *rest, struct probe_target *ret, struct err *e)
{
	const char *host, *port;
	size_t size;
	split_authority(rest, &host, &size, &port);
	if (!size)
		return err_set(e, -EINVAL, "no host in the URL");
	ret->is_http = true;
	ret->by_name = !host_is_numeric(host, size);
	if (str_copy(ret->url, text, sizeof(ret->url)) >= sizeof(ret->url))
		return err_set(e, -EINVAL, "the URL is too long");
	return 0;
}

int probe_target_parse(const char *text, struct probe_target *ret, struct err *e)
{
	memset(ret, 0, sizeof(*ret));
	for (const char *p = text; *p; p++)
		if ((unsigned char)*p <= ' ' || *p == 0x7f)
			return err_set(e, -EINVAL, "a target has no spaces or control characters");
	if (startswith(text, "http://"))
		return parse_http(text, text + 7, ret, e);
	if (startswith(text, "https://"))
		return parse_http(text, text + 8, ret, e);
	if (startswith(text, "tcp://"))
		return parse_tcp(text + 6, ret, e);
	if (startswith(text, "unix:"))
		return parse_unix(text + (startswith(text, "unix://") ? 7 : 5), ret, e);
	if (startswith(text, "grpc://"))
		return err_set(e, -EINVAL, "grpc probes are not supported yet");
	return err_set(e, -EINVAL, "not http://, https://, tcp:// or unix:");
}

void probe_body_line(char out[PROBE_BODY_TEXT_MAX + 1], const char *body, size_t size)
{
	size_t start = 0, n = 0;
	while (start < size && (body[start] == '\n' || body[start] == '\r' || body[start] == ' '))
		start++;
	while (start + n < size && n < PROBE_BODY_TEXT_MAX && body[start + n] != '\n' &&
		body[start + n] != '\r') {
		out[n] = body[start + n] == '\0' || body[start + n] == '"' ? '?' : body[start + n];
		n++;
	}
	out[n] = '\0';
	str_make_printable(out);
}

/* ---- the table -------------------------------------------------------------------------------- */

static void answer(uint64_t number, bool is_ok, uint64_t latency_us, const char *text)
{
	struct nt_frame f = {
		.kind = NT_PROBED, .number = number, .ok = is_ok, .latency_us = latency_us};
	str_copy(f.text, text, sizeof(f.text));
	str_make_printable(f.text);
	link_send(probes.link, &f);
}

static void probe_drop(struct probe *p)
{
	if (p->prev)
		p->prev->next = p->next;
	else
		probes.head = p->next;
	if (p->next)
		p->next->prev = p->prev;
	probes.n--;
	probes.n_by_name -= p->by_name;
	free(p);
}

static void on_done(void *context, const struct http_result *r)
{
	struct probe *p = context;
	answer(p->number, r->is_ok, r->latency_us, r->text);
	probe_drop(p);
}

void probe_start(uint64_t number, uint64_t timeout_us, const char *text)
{
	struct probe_target t;
	struct err e;
	struct http_result r = {0};
	if (probe_target_parse(text, &t, &e) < 0) {
		answer(number, false, 0, e.text);
		return;
	}
	if (probes.n >= PROBES_MAX || (t.by_name && probes.n_by_name >= PROBES_BY_NAME_MAX)) {
		answer(number, false, 0,
			probes.n >= PROBES_MAX ? "too many probes" : "too many probes by name");
		return;
	}
	struct probe *p = xcalloc(1, sizeof(*p));
	p->number = number;
	p->by_name = t.by_name;
	p->request = http_start(
		&t, timeout_us ? MIN(timeout_us, PROBE_TIMEOUT_MAX_US) : PROBE_TIMEOUT_US, p, &r);
	if (!p->request) {
		answer(number, false, 0, r.text);
		free(p);
		return;
	}
	p->next = probes.head;
	if (p->next)
		p->next->prev = p;
	probes.head = p;
	probes.n++;
	probes.n_by_name += p->by_name;
}

int probes_init(struct loop *loop, struct link *link)
{
	probes.link = link;
	return http_init(loop, on_done);
}

void probes_reset(void)
{
	while (probes.head) {
		http_cancel(probes.head->request);
		probe_drop(probes.head);
	}
}

uint64_t probes_next_us(void)
{
	return http_next_us();
}

void probes_on_time(uint64_t now_us)
{
	http_on_time(now_us);
}
