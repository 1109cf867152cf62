/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The link to core: fixed frames over SOCK_SEQPACKET.
 *
 *  1. Only frames of our build, of a kind core may send, with terminated texts get past
 *     frame_check(); anything else ends the program: core starts a fresh one.
 *  2. Frames leave in order. While core does not read they queue here, and from LINK_BUSY of them on
 *     nothing more is read from it: who asks faster than it takes answers waits by itself.
 *  3. The end of the link ends the loop with status 0: without core there is nothing to do.
 *
 * Called by main.c; link_send() by probe.c and reconcile.c.
 */
#include "net/net.h"

#include <sys/epoll.h>
#include <sys/socket.h>

#define FRAMES_PER_TURN 64

struct link_item {
	struct link_item *next;
	struct nt_frame frame;
};

/* The kinds core may send, and whether a descriptor comes along. */
static bool kind_is_permitted(uint16_t kind)
{
	static const uint16_t permitted[] = {NT_HELLO, NT_PROBE, NT_LB, NT_LB_REMOVE, NT_LB_WANT,
		NT_LB_FORGET, NT_LB_SOCKET, NT_LB_FAST};
	for (size_t i = 0; i < ARRAY_SIZE(permitted); i++)
		if (permitted[i] == kind)
			return true;
	return false;
}

int frame_check(const void *data, size_t size)
{
	const struct nt_frame *f = data;
	if (size != sizeof(*f))
		return -EBADMSG;
	if (f->build != WIRE_BUILD)
		return -EPROTO;
	if (!kind_is_permitted(f->kind))
		return -EOPNOTSUPP;
	if (!memchr(f->addr, '\0', sizeof(f->addr)) ||
		!memchr(f->server, '\0', sizeof(f->server)) ||
		!memchr(f->text, '\0', sizeof(f->text)))
		return -EBADMSG;
	return 0;
}

static void link_end(struct link *l, int exit_code)
{
	l->loop->is_done = true;
	l->loop->exit_code = exit_code;
	loop_remove(l->loop, &l->source);
}

bool link_is_busy(const struct link *l)
{
	return l->n_queued >= LINK_BUSY;
}

static void link_watch(struct link *l)
{
	uint32_t events = (link_is_busy(l) ? 0 : EPOLLIN) | (l->head ? EPOLLOUT : 0);
	if (l->source.is_added)
		(void)loop_modify(l->loop, &l->source, events);
}

/* 0 sent; 1 later. */
static int send_frame(struct link *l, const struct nt_frame *f)
{
	ssize_t n = send_fds(l->source.fd, f, sizeof(*f), NULL, 0, MSG_DONTWAIT);
	if (n == -EAGAIN || n == -ENOBUFS)
		return 1;
	return n < 0 ? (int)n : 0;
}

static void link_flush(struct link *l)
{
	while (l->head) {
		struct link_item *i = l->head;
		int r = send_frame(l, &i->frame);
		if (r == 1)
			return;
		if (r < 0) {
			link_end(l, 0);
			return;
		}
		l->head = i->next;
		if (!l->head)
			l->tail = NULL;
		l->n_queued--;
		free(i);
	}
}

void link_send(struct link *l, struct nt_frame *f)
{
	f->build = WIRE_BUILD;
	if (!l->source.is_added)
		return; /* ended: nobody listens */
	int r = l->head ? 1 : send_frame(l, f);
	if (r < 0) {
		link_end(l, 0);
		return;
	}
	if (r == 0)
		return;
	struct link_item *i = xmalloc(sizeof(*i));
	*i = (struct link_item){NULL, *f};
	if (l->tail)
		l->tail->next = i;
	else
		l->head = i;
	l->tail = i;
	l->n_queued++;
	link_watch(l);
}

static bool link_receive(struct link *l)
{
	struct nt_frame f;
	int fd = -1;
	size_t n_fds = 1;
	ssize_t n = recv_fds(l->source.fd, &f, sizeof(f), &fd, &n_fds, MSG_DONTWAIT);
	if (n == -EAGAIN)
		return false;
	if (n == 0 || n == -ECONNRESET) {
		link_end(l, 0);
		return false;
	}
	int r = n < 0 ? (int)n : frame_check(&f, (size_t)n);
	if (r < 0) {
		log_error(NULL, "a frame from core is refused: %s", errno_name(r));
		if (n > 0 && n_fds)
			fd_close(fd);
		link_end(l, 1);
		return false;
	}
	l->on_frame(l, &f, n_fds ? fd : -1);
	return !l->loop->is_done;
}

static void on_link(struct source *s, uint32_t epoll_events)
{
	struct link *l = container_of(s, struct link, source);
	link_flush(l);
	if (epoll_events & (EPOLLIN | EPOLLHUP | EPOLLERR))
		for (int i = 0; i < FRAMES_PER_TURN && !link_is_busy(l) && link_receive(l);)
			i++;
	/* Hang-up without anything to read while we are busy: core is gone. */
	if ((epoll_events & EPOLLHUP) && link_is_busy(l))
		link_end(l, 0);
	link_watch(l);
}

int link_init(struct link *l, struct loop *loop, int fd, link_frame_fn *fn)
{
	*l = (struct link){.loop = loop, .on_frame = fn};
	int r = fd_set_nonblock(fd, true);
	return r < 0 ? r : loop_add(loop, &l->source, fd, EPOLLIN, PRIO_CONTROL, on_link);
}

void link_done(struct link *l)
{
	loop_remove(l->loop, &l->source);
	while (l->head) {
		struct link_item *i = l->head;
		l->head = i->next;
		free(i);
	}
	l->tail = NULL;
	l->n_queued = 0;
}
