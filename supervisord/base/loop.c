/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The event loop: level-triggered epoll, one timerfd, priorities within a turn.
 *
 *  1. A source removed during a turn is not called later in that turn.
 *  2. The timer is re-armed only when its deadline changes: an idle loop makes no system calls.
 *  3. A source for which the kernel has no memory, or the user no watches left, counts as added and
 *     is tried again every DUE_MS: whoever adds the link to a process it depends on has nothing
 *     better to do about that than to wait, and epoll is level-triggered, so nothing is missed.
 *  4. Time is CLOCK_MONOTONIC (base.h says why): a suspend lets nothing expire.
 */
#include "base.h"

#include <poll.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>

#define DUE_MS 100

static void on_timerfd(struct source *s, uint32_t epoll_events)
{
	struct loop *l = container_of(s, struct loop, timer);
	uint64_t expirations;
	(void)epoll_events;
	if (read(s->fd, &expirations, sizeof(expirations)) < 0)
		return;
	l->timer_armed_us = USEC_INFINITY;
	if (l->on_timer)
		l->on_timer(l);
}

int loop_init(struct loop *l)
{
	memset(l, 0, sizeof(*l));
	l->timer_armed_us = USEC_INFINITY;
	l->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (l->epoll_fd < 0)
		return -errno;
	l->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	if (l->timer_fd < 0) {
		int r = -errno;
		l->epoll_fd = fd_close(l->epoll_fd);
		return r;
	}
	return loop_add(l, &l->timer, l->timer_fd, EPOLLIN, PRIO_TIMER, on_timerfd);
}

void loop_done(struct loop *l)
{
	l->timer_fd = fd_close(l->timer_fd);
	l->epoll_fd = fd_close(l->epoll_fd);
}

static int watch(struct loop *l, struct source *s)
{
	struct epoll_event e = {.events = s->events, .data.ptr = s};
	return epoll_ctl(l->epoll_fd, EPOLL_CTL_ADD, s->fd, &e) < 0 ? -errno : 0;
}

/* The first that still cannot be watched ends it: the next ones could not either. */
static void watch_due(struct loop *l)
{
	while (l->due) {
		struct source *s = l->due;
		int r = watch(l, s);
		if (r == -ENOMEM || r == -ENOSPC)
			return;
		l->due = s->next_due;
		s->is_due = false;
	}
}

static void not_due(struct loop *l, struct source *s)
{
	struct source **at = &l->due;
	while (*at && *at != s)
		at = &(*at)->next_due;
	if (*at)
		*at = s->next_due;
	s->is_due = false;
}

int loop_add(struct loop *l, struct source *s, int fd, uint32_t events, int priority, source_fn *fn)
{
	assert(!s->is_added && priority >= 0 && priority < PRIO_MAX);
	*s = (struct source){
		.fd = fd, .events = events, .priority = priority, .fn = fn, .is_added = true};
	int r = watch(l, s);
	if (r == -ENOMEM || r == -ENOSPC) {
		s->is_due = true;
		s->next_due = l->due;
		l->due = s;
		r = 0;
	}
	s->is_added = r == 0;
	return r;
}

int loop_modify(struct loop *l, struct source *s, uint32_t events)
{
	struct epoll_event e = {.events = events, .data.ptr = s};
	if (s->events == events)
		return 0;
	if (!s->is_due && epoll_ctl(l->epoll_fd, EPOLL_CTL_MOD, s->fd, &e) < 0)
		return -errno;
	s->events = events;
	return 0;
}

void loop_remove(struct loop *l, struct source *s)
{
	if (!s->is_added)
		return;
	if (s->is_due)
		not_due(l, s);
	else
		(void)epoll_ctl(l->epoll_fd, EPOLL_CTL_DEL, s->fd,
			NULL); /* EBADF: closed before, gone anyway */
	s->is_added = false;
	for (size_t i = 0; i < ARRAY_SIZE(l->urgent); i++)
		if (l->urgent[i] == s)
			l->urgent[i] = NULL;
	for (int i = 0; i < l->n_ready; i++)
		if (l->ready[i] == s)
			l->ready[i] = NULL;
}

void loop_urgent(struct loop *l, struct source *s)
{
	size_t i = 0;
	while (i < ARRAY_SIZE(l->urgent) && l->urgent[i])
		i++;
	assert(i < ARRAY_SIZE(l->urgent));
	if (s->is_added)
		l->urgent[i] = s;
}

bool loop_is_urgent(const struct loop *l)
{
	struct pollfd p[ARRAY_SIZE(l->urgent)];
	nfds_t n = 0;
	for (size_t i = 0; i < ARRAY_SIZE(l->urgent); i++)
		if (l->urgent[i])
			p[n++] = (struct pollfd){.fd = l->urgent[i]->fd, .events = POLLIN};
	return n && poll(p, n, 0) > 0;
}

void loop_arm(struct loop *l, uint64_t at_us)
{
	struct itimerspec t = {0};
	if (at_us == l->timer_armed_us)
		return;
	if (at_us != USEC_INFINITY) {
		t.it_value.tv_sec = (time_t)(at_us / USEC_PER_SEC);
		t.it_value.tv_nsec = (long)(at_us % USEC_PER_SEC) * 1000;
		if (at_us == 0)
			t.it_value.tv_nsec = 1; /* zero would disarm */
	}
	(void)timerfd_settime(l->timer_fd, TFD_TIMER_ABSTIME, &t, NULL);
	l->timer_armed_us = at_us;
}

int loop_turn(struct loop *l, int timeout_ms)
{
	struct epoll_event events[ARRAY_SIZE(l->ready)];
	if (l->before_wait)
		l->before_wait(l);
	watch_due(l);
	if (l->due && (timeout_ms < 0 || timeout_ms > DUE_MS))
		timeout_ms = DUE_MS;
	int n = epoll_wait(l->epoll_fd, events, ARRAY_SIZE(events), timeout_ms);
	if (n < 0)
		return errno == EINTR ? 0 : -errno;
	l->n_ready = n;
	l->turn++;
	for (int i = 0; i < n; i++) {
		l->ready[i] = events[i].data.ptr;
		l->ready_events[i] = events[i].events;
	}
	for (int priority = 0; priority < PRIO_MAX; priority++) {
		/* Clients take turns at being first: there may be time for a few of them only. */
		unsigned first = priority == PRIO_CONTROL ? (unsigned)l->turn : 0;
		for (int k = 0; k < n; k++) {
			unsigned i = (first + (unsigned)k) % (unsigned)n;
			struct source *s = l->ready[i];
			if (!s || s->priority != priority)
				continue;
			l->ready[i] = NULL;
			s->fn(s, l->ready_events[i]);
		}
	}
	l->n_ready = 0;
	return n;
}

int loop_run(struct loop *l)
{
	while (!l->is_done) {
		int r = loop_turn(l, -1);
		if (r < 0)
			return r;
	}
	return l->exit_code;
}
