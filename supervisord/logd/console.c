/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The console: stored lines as "web@1 | text" on our standard output, as containers want it.
 *
 *  1. It never blocks the logger. What does not fit into CONSOLE_MAX is dropped and counted, and
 *     the count is shown once there is room again.
 *  2. Whole lines only, and no byte that could drive a terminal: controls and bytes that are not
 *     UTF-8 come out as \xNN.
 *  3. O_NONBLOCK is never set on a descriptor we share with the shell or the container runtime; a
 *     description of our own is opened through /proc. Where that is not allowed we write at most
 *     PIPE_BUF bytes after poll(2) said that so many fit.
 */
#include "private.h"

#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>

static void on_writable(struct source *s, uint32_t epoll_events);

static bool fd_is_ready(int fd)
{
	struct pollfd p = {fd, POLLOUT, 0};
	return poll(&p, 1, 0) == 1 && (p.revents & POLLOUT);
}

static ssize_t write_some(struct console *c)
{
	if (c->is_nonblocking || c->is_file)
		return write(c->fd, c->out.data, c->out.size);
	ssize_t n = send(c->fd, c->out.data, c->out.size, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (n >= 0 || errno != ENOTSOCK)
		return n;
	if (!fd_is_ready(c->fd)) {
		errno = EAGAIN;
		return -1;
	}
	return write(c->fd, c->out.data, MIN(c->out.size, (size_t)PIPE_BUF));
}

static void console_flush(struct console *c)
{
	while (c->out.size) {
		ssize_t n = write_some(c);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			break;
		if (n <= 0) { /* nobody reads it any more */
			buf_reset(&c->out);
			break;
		}
		buf_consume(&c->out, (size_t)n);
	}
	if (c->is_file)
		return;
	if (c->out.size && !c->source.is_added)
		(void)loop_add(c->loop, &c->source, c->fd, EPOLLOUT, PRIO_NORMAL, on_writable);
	else if (!c->out.size)
		loop_remove(c->loop, &c->source);
}

static void on_writable(struct source *s, uint32_t epoll_events)
{
	(void)epoll_events;
	console_flush(container_of(s, struct console, source));
}

void console_init(struct console *c, struct loop *loop, int fd)
{
	char path[32];
	struct stat st;
	memset(c, 0, sizeof(*c));
	c->loop = loop;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	c->fd = open(path, O_WRONLY | O_APPEND | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	c->is_nonblocking = c->fd >= 0;
	if (c->fd < 0)
		c->fd = fcntl(fd, F_DUPFD_CLOEXEC, 5);
	c->is_file = fstat(c->fd, &st) == 0 && (S_ISREG(st.st_mode) || S_ISBLK(st.st_mode));
}

void console_done(struct console *c)
{
	console_flush(c);
	loop_remove(c->loop, &c->source);
	c->fd = fd_close(c->fd);
	buf_done(&c->out);
}

/* Bytes of the UTF-8 character at s that a terminal may see, 0 when it must be escaped. */
static size_t harmless(const char *s, size_t size)
{
	unsigned char c = (unsigned char)s[0];
	if (c < 0x80)
		return c == '\t' || (c >= 0x20 && c != 0x7f);
	size_t n = c >= 0xf0 ? 4 : c >= 0xe0 ? 3 : 2;
	if (n > size || !utf8_is_valid(s, n))
		return 0;
	if (c == 0xc2 && (unsigned char)s[1] < 0xa0)
		return 0; /* C1 controls: 8-bit CSI and the like */
	return n;
}

static void add_escaped(struct buf *b, const char *s, size_t size)
{
	static const char hex[] = "0123456789abcdef";
	while (size) {
		size_t n = harmless(s, size);
		if (n) {
			buf_add(b, s, n);
		} else {
			unsigned char c = (unsigned char)*s;
			char text[4] = {'\\', 'x', hex[c >> 4], hex[c & 15]};
			buf_add(b, text, 4);
			n = 1;
		}
		s += n;
		size -= n;
	}
}

static void show_line(
	struct console *c, const char *unit, size_t unit_size, const char *line, size_t size)
{
	if (c->out.size + unit_size + 4 * size + 64 > CONSOLE_MAX) {
		c->dropped++;
		return;
	}
	if (c->dropped) {
		buf_printf(&c->out, "stayd | %llu lines not shown: the console is slow\n",
			(unsigned long long)c->dropped);
		c->dropped = 0;
	}
	buf_add(&c->out, unit, unit_size);
	buf_add_str(&c->out, " | ");
	add_escaped(&c->out, line, size);
	buf_add_byte(&c->out, '\n');
}

void console_show(struct console *c, const char *unit, const char *data, size_t size)
{
	size_t unit_size = strlen(unit);
	if (endswith(unit, ".service"))
		unit_size -= strlen(".service");
	for (const char *end = data + size, *newline; data < end; data = newline + 1) {
		newline = memchr(data, '\n', (size_t)(end - data));
		if (!newline)
			break;
		show_line(c, unit, unit_size, data + LOG_HEAD_SIZE,
			(size_t)(newline - data) - LOG_HEAD_SIZE);
		if (c->out.size > CONSOLE_MAX / 2)
			console_flush(c);
	}
	console_flush(c);
}
