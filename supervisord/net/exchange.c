/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One exchange with a load balancer: write a request, read until the peer closes.
 *
 *  1. At most one exchange is under way per struct exchange; its fd is owned here until the end.
 *  2. The answer is bounded (LB_ANSWER_MAX) and the whole takes at most LB_EXCHANGE_US: the owner
 *     watches deadline_us and calls exchange_cancel().
 *  3. fn is called exactly once per exchange that was not cancelled, last thing in the callback: it
 *     may start the next one.
 *
 * Called by reconcile.c.
 */
#include "net/net.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/epoll.h>
#include <sys/socket.h>

void exchange_cancel(struct exchange *x)
{
	if (!x->is_active)
		return;
	loop_remove(x->loop, &x->source);
	x->fd = fd_close(x->fd);
	x->is_active = false;
}

void exchange_done(struct exchange *x)
{
	exchange_cancel(x);
	buf_done(&x->request);
	buf_done(&x->answer);
}

static void finish(struct exchange *x, int error, const char *text)
{
	exchange_cancel(x);
	x->fn(x, error, text);
}

/* 0: all written; 1: later. */
static int write_some(struct exchange *x)
{
	while (x->sent < x->request.size) {
		ssize_t n = send(x->fd, x->request.data + x->sent, x->request.size - x->sent,
			MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno == EAGAIN || errno == ENOTCONN ? 1 : -errno;
		x->sent += (size_t)n;
	}
	return 0;
}

/* 0: end of the answer; 1: later. */
static int read_some(struct exchange *x)
{
	for (;;) {
		buf_reserve(&x->answer, 16 * 1024);
		ssize_t n = recv(x->fd, x->answer.data + x->answer.size,
			x->answer.cap - x->answer.size - 1, MSG_DONTWAIT);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno == EAGAIN ? 1 : -errno;
		x->answer.size += (size_t)n;
		x->answer.data[x->answer.size] = '\0';
		if (n == 0)
			return 0;
		if (x->answer.size > LB_ANSWER_MAX)
			return -EMSGSIZE;
	}
}

static void on_exchange(struct source *s, uint32_t epoll_events)
{
	struct exchange *x = container_of(s, struct exchange, source);
	int error = 0;
	socklen_t size = sizeof(error);
	if ((epoll_events & EPOLLERR) &&
		getsockopt(x->fd, SOL_SOCKET, SO_ERROR, &error, &size) == 0 && error) {
		finish(x, -error, strerror(error));
		return;
	}
	int r = write_some(x);
	if (r == 0)
		r = loop_modify(x->loop, s, EPOLLIN);
	if (r == 0)
		r = read_some(x);
	if (r == 0)
		finish(x, 0, "");
	else if (r == -EMSGSIZE)
		finish(x, r, "the answer is larger than 1 MiB");
	else if (r < 0)
		finish(x, r, strerror(-r));
}

void exchange_start(struct exchange *x, struct loop *loop, int fd, exchange_fn *fn)
{
	assert(!x->is_active);
	x->loop = loop;
	x->fn = fn;
	x->fd = fd;
	x->sent = 0;
	x->is_active = true;
	buf_reset(&x->answer);
	int r = fd_set_nonblock(fd, true);
	if (r == 0)
		r = loop_add(loop, &x->source, fd, EPOLLIN | EPOLLOUT, PRIO_NORMAL, on_exchange);
	if (r < 0) /* no memory for one more in epoll: the owner's deadline ends it */
		log_error(NULL, "cannot watch a connection: %s", errno_name(r));
}

int connect_numeric(const char *host_port)
{
	union {
		struct sockaddr sa;
		struct sockaddr_in in;
		struct sockaddr_in6 in6;
	} a = {0};
	char host[64];
	const char *colon = strrchr(host_port, ':');
	if (!colon || colon == host_port || (size_t)(colon - host_port) >= sizeof(host))
		return -EINVAL;
	char *end;
	unsigned long port = strtoul(colon + 1, &end, 10);
	if (colon[1] < '0' || colon[1] > '9' || *end || port == 0 || port > UINT16_MAX)
		return -EINVAL;
	bool is_bracketed = host_port[0] == '[' && colon[-1] == ']';
	size_t n = (size_t)(colon - host_port) - (is_bracketed ? 2 : 0);
	memcpy(host, host_port + (is_bracketed ? 1 : 0), n);
	host[n] = '\0';
	if (streq(host, "localhost"))
		str_copy(host, "127.0.0.1", sizeof(host));
	if (!is_bracketed && inet_pton(AF_INET, host, &a.in.sin_addr) == 1) {
		a.in.sin_family = AF_INET;
		a.in.sin_port = htons((uint16_t)port);
	} else if (inet_pton(AF_INET6, host, &a.in6.sin6_addr) == 1) {
		a.in6.sin6_family = AF_INET6;
		a.in6.sin6_port = htons((uint16_t)port);
	} else {
		return -EINVAL;
	}
	int fd = socket(a.sa.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	if (connect(fd, &a.sa, sizeof(a)) < 0 && errno != EINPROGRESS) {
		int r = -errno;
		fd_close(fd);
		return r;
	}
	return fd;
}
