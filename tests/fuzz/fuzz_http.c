/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a service may answer to an HTTP probe, through libcurl and the real loop. First byte: in how
 * many pieces. There is always a verdict; it is one printable line, and good only for 2xx and 3xx.
 * Options: -max_len=2048 -detect_leaks=0
 */
#include "fuzz.h"
#include "net/net.h"

#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>

static struct loop loop;
static struct http_result result;
static bool is_over;
static int listener = -1;
static struct probe_target target = {.is_http = true, .url = "http://service/"};

static void on_done(void *context, const struct http_result *r)
{
	assert(context == &target);
	result = *r;
	is_over = true;
}

static void start(void)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	socklen_t size = sizeof(a);
	be_quiet();
	listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (listener < 0 || bind(listener, (struct sockaddr *)&a, sizeof(sa_family_t)) < 0 ||
		listen(listener, 16) < 0 || getsockname(listener, (struct sockaddr *)&a, &size) < 0)
		abort();
	snprintf(target.path, sizeof(target.path), "@%.*s",
		(int)(size - offsetof(struct sockaddr_un, sun_path) - 1), a.sun_path + 1);
	if (loop_init(&loop) < 0 || http_init(&loop, on_done) < 0)
		abort();
}

static void turn(void)
{
	http_on_time(now_mono_us());
	(void)loop_turn(&loop, 0);
}

static void check(const struct http_result *r)
{
	assert(memchr(r->text, '\0', sizeof(r->text)) && r->text[0]);
	assert(!strpbrk(r->text, "\r\n\033"));
	if (r->is_ok)
		assert(r->status >= 200 && r->status <= 399 && startswith(r->text, "http "));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = in_begin(data, size);
	struct http_result failed = {0};
	size_t pieces = in_u8(&in) % 5 + 1, piece = in_left(&in) / pieces + 1;
	int fd = -1;
	if (listener < 0)
		start();
	is_over = false;
	struct http_request *q = http_start(&target, 5 * USEC_PER_SEC, &target, &failed);
	assert(q || failed.text[0]);
	for (int i = 0; q && i < 100 && !is_over; i++) {
		turn();
		if (fd < 0 &&
			(fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) < 0)
			continue;
		size_t n = MIN(piece, in_left(&in));
		if (n && send(fd, in.p, n, MSG_NOSIGNAL | MSG_DONTWAIT) > 0)
			in.p += n;
		if (!in_left(&in))
			(void)shutdown(fd, SHUT_WR);
	}
	fd_close(fd);
	for (int i = 0; q && i < 1000 && !is_over; i++) {
		http_on_time(now_mono_us());
		(void)loop_turn(&loop, 10);
	}
	assert(!q || is_over);
	if (q)
		check(&result);
	return 0;
}
