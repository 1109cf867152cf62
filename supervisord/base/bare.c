/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a program that must never die may use: no allocator, no stdio, nothing that blocks.
 *
 * Called by keeper/ and init/; tests/purity.py holds them to it.
 */
#include "base.h"

#include <fcntl.h>
#include <linux/close_range.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>

extern char **environ;

#define EXEC_FDS_FIRST 3
#define EXEC_FDS_HIGH  10
#define CLOSING_US     200

/* ---- clock and voice --------------------------------------------------------------------------- */

uint64_t now_mono_us(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * USEC_PER_SEC + (uint64_t)t.tv_nsec / 1000;
}

uint64_t reap_pause_us(uint64_t cost_us)
{
	return cost_us < 20 ? 0 : MIN(16 * cost_us, 10 * USEC_PER_MSEC);
}

size_t put_number(char *out, int value)
{
	char digits[16];
	size_t n = 0, size = 0;
	unsigned u = value < 0 ? 0u - (unsigned)value : (unsigned)value;
	do
		digits[n++] = (char)('0' + u % 10);
	while (u /= 10);
	if (value < 0)
		out[size++] = '-';
	while (n)
		out[size++] = digits[--n];
	out[size] = '\0';
	return size;
}

void say_line(const char *format, ...)
{
	char line[512];
	size_t n = str_copy(line, "stayd: ", sizeof(line));
	va_list ap;
	va_start(ap, format);
	for (const char *p = format; *p && n < sizeof(line) - 24; p++) {
		if (*p != '%') {
			line[n++] = *p;
		} else if (*++p == 'd') {
			n += put_number(line + n, va_arg(ap, int));
		} else {
			size_t room = sizeof(line) - 16 - n;
			size_t size = str_copy(line + n, va_arg(ap, const char *), room);
			n += MIN(size, room - 1);
		}
	}
	va_end(ap);
	line[n++] = '\n';
	struct pollfd out = {STDERR_FILENO, POLLOUT, 0};
	if (poll(&out, 1, 0) == 1 && (out.revents & POLLOUT))
		(void)!write(STDERR_FILENO, line, n); /* nobody to tell when even this fails */
}

/* ---- processes --------------------------------------------------------------------------------- */

void reaper_begin(sigset_t *ret_mask)
{
	sigset_t all;
	sigfillset(&all);
	(void)sigprocmask(SIG_SETMASK, &all, ret_mask);
	signal(SIGCHLD, SIG_DFL); /* inherited SIG_IGN would throw exits away */
	if (getpid() != 1 && prctl(PR_SET_CHILD_SUBREAPER, 1) < 0)
		say_line("cannot become a subreaper (%s): orphans go elsewhere", errno_name(errno));
}

void fds_begin(void)
{
	struct rlimit limit;
	if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
		limit.rlim_cur = limit.rlim_max;
		(void)setrlimit(RLIMIT_NOFILE, &limit);
	}
	for (int fd = 0; fd <= STDERR_FILENO; fd++)
		if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", O_RDWR) < 0)
			(void)!memfd_create("null", 0); /* no /dev: anything but a hole */
}

void kill_children(void)
{
	char list[4096];
	if (getpid() == 1) {
		(void)kill(-1, SIGKILL);
		return;
	}
	int fd = open("/proc/thread-self/children", O_RDONLY | O_CLOEXEC), pid = 0;
	ssize_t n = fd >= 0 ? read(fd, list, sizeof(list)) : 0;
	fd_close(fd);
	for (ssize_t i = 0; i < n; i++) {
		if (list[i] != ' ') {
			pid = pid * 10 + (list[i] - '0');
			continue;
		}
		(void)kill(pid, SIGKILL);
		pid = 0;
	}
}

static void on_alarm(int signal UNUSED)
{
}

static void closing_timer(int every_us, int how)
{
	const struct itimerval t = {.it_interval.tv_usec = every_us, .it_value.tv_usec = every_us};
	sigset_t alarm_only;
	sigemptyset(&alarm_only);
	sigaddset(&alarm_only, SIGALRM);
	(void)sigprocmask(how, &alarm_only, NULL);
	(void)setitimer(ITIMER_REAL, &t, NULL);
}

void closing_begin(void)
{
	struct sigaction a = {.sa_handler = on_alarm}; /* without SA_RESTART */
	(void)sigaction(SIGALRM, &a, NULL);
	closing_timer(CLOSING_US, SIG_UNBLOCK); /* again and again: one may come before the wait */
}

void closing_end(void)
{
	closing_timer(0, SIG_BLOCK);
}

int exec_with_fds(int program, char **argv, const int *fds, unsigned n)
{
	int high[EXEC_FDS_MAX] = {0};
	sigset_t none;
	program = fcntl(program, F_DUPFD, EXEC_FDS_HIGH);
	for (unsigned i = 0; i < MIN(n, EXEC_FDS_MAX);
		i++) /* out of the way of those they become */
		high[i] = fcntl(fds[i], F_DUPFD, EXEC_FDS_HIGH);
	for (unsigned i = 0; i < n; i++)
		if (dup2(high[i], EXEC_FDS_FIRST + (int)i) < 0)
			return -errno;
	sigemptyset(&none);
	if (close_range(EXEC_FDS_FIRST + n, ~0u, CLOSE_RANGE_CLOEXEC) < 0 ||
		sigprocmask(SIG_SETMASK, &none, NULL) < 0)
		return -errno;
	(void)execveat(program, "", argv, environ, AT_EMPTY_PATH);
	return -errno;
}

/* ---- indices ----------------------------------------------------------------------------------- */

unsigned hash16_first(const struct hash16 *c, uint64_t key)
{
	return c->heads[key & c->mask];
}

void hash16_add(struct hash16 *c, uint64_t key, unsigned i)
{
	uint16_t *head = &c->heads[key & c->mask];
	c->nexts[i] = *head;
	*head = (uint16_t)i;
}

void hash16_del(struct hash16 *c, uint64_t key, unsigned i)
{
	uint16_t *p = &c->heads[key & c->mask];
	while (*p && *p != i)
		p = &c->nexts[*p];
	*p = *p ? c->nexts[i] : 0;
}

unsigned slot_take(struct slots *s)
{
	unsigned i = s->first_free;
	if (!i)
		return s->high < s->max ? ++s->high : 0;
	s->first_free = s->nexts[i];
	return i;
}

void slot_give(struct slots *s, unsigned i)
{
	s->nexts[i] = s->first_free;
	s->first_free = (uint16_t)i;
}

void fifo_put(struct fifo *f, unsigned i)
{
	f->ring[f->end++] = (uint16_t)i;
}

unsigned fifo_head(const struct fifo *f)
{
	return f->first != f->end ? f->ring[f->first] : 0;
}

unsigned fifo_take(struct fifo *f)
{
	unsigned i = fifo_head(f);
	f->first += i != 0;
	if (f->first == f->end)
		f->first = f->end = 0; /* the same few pages again */
	return i;
}

/* ---- frames ------------------------------------------------------------------------------------ */

ssize_t recv_said(int sock, void *data, size_t size, int *ret_fd, pid_t *ret_pid)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int)) + CMSG_SPACE(sizeof(struct ucred))];
	} control;
	struct iovec iov = {data, size};
	struct msghdr m = {.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control)};
	*ret_fd = -1;
	*ret_pid = 0;
	ssize_t n = recvmsg(sock, &m, MSG_DONTWAIT);
	if (n < 0)
		/* Without memory it is still there, and so is the peer. */
		return errno == EINTR || errno == ENOMEM || errno == ENOBUFS ? -EAGAIN : -errno;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c)) {
		if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS)
			memcpy(ret_fd, CMSG_DATA(c),
				sizeof(int)); /* room for one: no second gets in */
		else if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_CREDENTIALS)
			memcpy(ret_pid, CMSG_DATA(c) + offsetof(struct ucred, pid), sizeof(pid_t));
	}
	if (m.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) {
		*ret_fd = fd_close(*ret_fd);
		return -EMSGSIZE;
	}
	return n;
}
