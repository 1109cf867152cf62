/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Owns the frames: what each peer may say, and what core still has to hear.
 *
 *  1. Nothing blocks. What does not fit into core's socket stays where it is (a row of the table, a
 *     bit, a slot) and is sent when epoll says writable; core away is the same as socket full.
 *  2. A frame that its peer may not send costs the peer its link, nothing else.
 *  3. A link to a dead launcher is read to its end before it goes: shims may still hold the other
 *     end, and children born in its last moment have spoken on it.
 *
 * Called by keeper.c (epoll) and roles.c (a link ends).
 */
#include "private.h"

#include <sys/epoll.h>
#include <sys/socket.h>

#define READ_BATCH 256 /* frames of one link in one turn */

void link_watch(int fd, unsigned tag)
{
	struct epoll_event e = {.events = EPOLLIN, .data.u32 = tag};
	if (epoll_ctl(K.epoll_fd, EPOLL_CTL_ADD, fd, &e) < 0 && errno == EEXIST)
		(void)epoll_ctl(K.epoll_fd, EPOLL_CTL_MOD, fd, &e);
}

/* 1 a frame, 0 none waiting, -EPIPE end of file, -EBADMSG. pid is the kernel's word, 0 without. */
static int receive(int link, struct kp_frame *f, int *ret_fd, pid_t *ret_pid)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int)) + CMSG_SPACE(sizeof(struct ucred))];
	} control;
	struct iovec iov = {f, sizeof(*f)};
	struct msghdr m = {.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control)};
	int fd = -1;
	ssize_t n = recvmsg(link, &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	if (n < 0)
		/* Without memory it is still there, and so is the peer. */
		return errno == EAGAIN || errno == EINTR || errno == ENOMEM || errno == ENOBUFS
			       ? 0
			       : -EPIPE;
	*ret_pid = 0;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c)) {
		if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS)
			memcpy(&fd, CMSG_DATA(c), sizeof(fd)); /* room for one: no second gets in */
		else if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_CREDENTIALS)
			memcpy(ret_pid, CMSG_DATA(c) + offsetof(struct ucred, pid), sizeof(pid_t));
	}
	bool is_good = n == sizeof(*f) && !(m.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) &&
		       f->build == WIRE_BUILD && f->name[KP_NAME_MAX - 1] == '\0' &&
		       (fd >= 0) == (f->kind == KP_PUT);
	if (is_good) {
		*ret_fd = fd;
		return 1;
	}
	fd_close(fd);
	return n == 0 ? -EPIPE : -EBADMSG;
}

static void on_hello(const struct kp_frame *f UNUSED)
{
	queue_clear(); /* every exit is told as KP_CHILD now */
	K.phase = CORE_FDS;
	K.cursor = 0;
	reexec_core_hello();
}

static void on_drop(const struct kp_frame *f)
{
	(void)deposit_drop(f->name);
}

static void on_alive(const struct kp_frame *f UNUSED)
{
	K.alive_by_us = now_us() + timing.alive_us;
}

static void on_role(const struct kp_frame *f)
{
	if (f->role <= ROLE_LAUNCHER || f->role >= ROLE_MAX) {
		core_refused(KP_ROLE, -EINVAL, f);
		return;
	}
	struct role_state *r = &K.kept.role[f->role];
	r->is_wanted = f->status != 0;
	if (r->is_wanted && !r->pid && !r->start_at_us)
		role_start(f->role);
	else if (!r->is_wanted)
		role_ask_to_end(f->role, 5 * USEC_PER_SEC);
}

static void on_exit_asked(const struct kp_frame *f)
{
	stop_begin(STOP_ROLES, f->status, f->code);
}

static void (*const from_core[])(const struct kp_frame *f) = {
	[KP_HELLO] = on_hello,
	[KP_SIGNAL] = child_signal,
	[KP_FORGET] = child_forget,
	[KP_TRACK] = child_track,
	[KP_DROP] = on_drop,
	[KP_ROLE] = on_role,
	[KP_ALIVE] = on_alive,
	[KP_REEXEC] = reexec_ask,
	[KP_EXIT] = on_exit_asked,
};

static int core_said(const struct kp_frame *f, int fd)
{
	if (K.alive_by_us)
		on_alive(f);
	if (f->kind == KP_PUT) {
		int r = deposit_put(f->name, fd);
		if (r < 0) {
			fd_close(fd);
			core_refused(KP_PUT, r, f);
		}
		return 0;
	}
	if (f->kind >= ARRAY_SIZE(from_core) || !from_core[f->kind])
		return -EBADMSG;
	from_core[f->kind](f);
	return 0;
}

static int launcher_said(const struct kp_frame *f, pid_t pid)
{
	if (pid <= 0)
		return -EBADMSG;
	if (f->kind == KP_BORN)
		child_born(f, pid);
	else if (f->kind == KP_SHIM_EXIT || f->kind == KP_SHIM_MAIN)
		child_below(f, pid);
	else
		return -EBADMSG;
	return 0;
}

/* One frame of a link. > 0: handled, 0: none waiting, < 0: the link is over. */
static int read_one(int link, unsigned tag)
{
	struct kp_frame f;
	int fd = -1, r;
	pid_t pid;
	r = receive(link, &f, &fd, &pid);
	if (r <= 0)
		return r;
	if (tag == ROLE_CORE)
		r = core_said(&f, fd);
	else if (tag == ROLE_LAUNCHER || tag >= TAG_RETIRED)
		r = launcher_said(&f, pid);
	else
		r = -EBADMSG;
	if (f.kind == KP_PUT && tag != ROLE_CORE)
		fd_close(fd);
	return r < 0 ? r : 1;
}

static int *link_of(unsigned tag)
{
	return tag >= TAG_RETIRED ? &K.kept.retired[tag - TAG_RETIRED] : &K.kept.role[tag].link_fd;
}

static void link_over(unsigned tag, int error)
{
	int *link = link_of(tag);
	if (error == -EBADMSG)
		say("a frame %s may not send: closing its link",
			role_name(tag >= TAG_RETIRED ? ROLE_LAUNCHER : tag));
	fd_close(*link);
	if (tag >= TAG_RETIRED) {
		*link = 0;
		return;
	}
	*link = -1;
	role_close(tag); /* a live role ends by itself then; one that does not is killed */
	role_ask_to_end(tag, 2 * USEC_PER_SEC);
}

void link_ready(unsigned tag)
{
	int r = 1;
	for (int i = 0; i < READ_BATCH && r > 0 && *link_of(tag) > 0; i++)
		r = read_one(*link_of(tag), tag);
	if (r < 0)
		link_over(tag, r);
}

bool born_read_one(void)
{
	for (unsigned i = 0; i <= RETIRED_MAX; i++) {
		unsigned tag = i ? TAG_RETIRED + i - 1 : ROLE_LAUNCHER;
		int r = *link_of(tag) > 0 ? read_one(*link_of(tag), tag) : 0;
		if (r < 0)
			link_over(tag, r);
		else if (r > 0)
			return true;
	}
	return false;
}

void link_retire(int fd)
{
	int r;
	while ((r = read_one(fd, TAG_RETIRED)) > 0)
		;
	for (unsigned i = 0; r == 0 && i < RETIRED_MAX; i++)
		if (!K.kept.retired[i]) {
			K.kept.retired[i] = fd;
			link_watch(fd, TAG_RETIRED + i);
			return;
		}
	if (r == 0)
		say("too many links of dead launchers: their shims cannot report any more");
	fd_close(fd);
}

/* ---- towards core -------------------------------------------------------------------------------- */

static int core_send(struct kp_frame *f, int fd)
{
	f->build = WIRE_BUILD;
	ssize_t n =
		send_fds(K.kept.role[ROLE_CORE].link_fd, f, sizeof(*f), &fd, fd >= 0, MSG_DONTWAIT);
	return n < 0 ? (int)n : 0;
}

static int send_row(const struct row *r, uint16_t kind)
{
	struct kp_frame f = {.kind = kind,
		.role = (uint16_t)r->kind, /* enum kp_row */
		.id = r->id,
		.pid = r->pid,
		.code = r->code,
		.status = r->status,
		.program = r->program,
		.time_us = r->time_us};
	return core_send(&f, -1);
}

static int send_link(unsigned role)
{
	struct role_state *r = &K.kept.role[role];
	struct kp_frame f = {.kind = KP_LINK, .role = (uint16_t)role, .pid = r->pid};
	int e = r->core_fd > 0 ? core_send(&f, r->core_fd) : 0;
	if (e == 0)
		K.links_unsent &= ~(1u << role);
	return e;
}

static int send_welcome(void)
{
	struct kp_frame f = {.kind = KP_WELCOME, .status = (int32_t)K.kept.cores - 1};
	int e = core_send(&f, -1);
	if (e < 0)
		return e;
	K.crashes = 0;
	if (K.kept.came_back)
		core_refused(KP_REEXEC, -ECANCELED, NULL);
	K.kept.came_back = 0;
	return 0;
}

/* TERM, INT, PWR and systemd's SIGRTMIN+3 (halt) to +6 (kexec), which containers are stopped by. */
uint64_t signal_ends(void)
{
	return 1ULL << (SIGTERM - 1) | 1ULL << (SIGINT - 1) | 1ULL << (SIGPWR - 1) |
	       15ULL << (SIGRTMIN + 3 - 1);
}

/* What is left for a core that knows the tables. 1: nothing. */
static int send_news(void)
{
	int e;
	if (K.links_unsent)
		return send_link((unsigned)__builtin_ctz(K.links_unsent));
	if (K.n_refused) {
		if ((e = core_send(&K.refused[0], -1)) == 0)
			memmove(K.refused, K.refused + 1, --K.n_refused * sizeof(K.refused[0]));
		return e;
	}
	if (K.kept.signals) {
		struct kp_frame f = {.kind = KP_GOT, .status = __builtin_ctzll(K.kept.signals) + 1};
		if ((e = core_send(&f, -1)) == 0) {
			K.kept.ends |= 1ULL << (f.status - 1) & signal_ends();
			K.kept.signals &= K.kept.signals - 1;
		}
		return e;
	}
	struct row *r = queue_head();
	if (!r)
		return 1;
	if ((e = send_row(r, r->code ? KP_EXITED : KP_CHILD)) == 0)
		queue_remove(r);
	return e;
}

/* Sends the next thing of the current phase; 1 when core knows everything, < 0 when it is full. */
static int core_send_next(void)
{
	unsigned end = 0;
	int e = 0, i = (int)K.cursor + 1;
	if (K.phase == CORE_SILENT)
		return 1;
	if (K.phase == CORE_LIVE)
		return send_news();
	if (K.phase == CORE_FDS && K.cursor < (end = deposits_high())) {
		struct deposit *d = deposit_at((unsigned)i);
		struct kp_frame f = {.kind = KP_FD};
		str_copy(f.name, d->name, sizeof(f.name));
		e = d->fd ? core_send(&f, d->fd) : 0;
	} else if (K.phase == CORE_LINKS && K.cursor < (end = ROLE_MAX - 1)) {
		e = send_link((unsigned)i);
	} else if (K.phase == CORE_CHILDREN && K.cursor < (end = rows_high())) {
		struct row *r = row_at((unsigned)i);
		e = r->kind ? send_row(r, KP_CHILD) : 0;
		if (e == 0)
			queue_remove(r);
	} else if (K.phase == CORE_WELCOME) {
		e = send_welcome();
	}
	if (e < 0)
		return e;
	if (K.cursor < end) {
		K.cursor++;
	} else {
		K.phase++;
		K.cursor = 0;
	}
	return 0;
}

void core_flush(void)
{
	int e = 0;
	while (e == 0)
		e = core_send_next();
	/* EPIPE: core just died; its exit or the end of file tells us */
	bool wants = e < 0 && e != -EPIPE;
	if (wants == K.wants_writable)
		return;
	struct epoll_event ev = {.events = EPOLLIN | (wants ? EPOLLOUT : 0), .data.u32 = ROLE_CORE};
	(void)epoll_ctl(K.epoll_fd, EPOLL_CTL_MOD, K.kept.role[ROLE_CORE].link_fd, &ev);
	K.wants_writable = wants;
}

void core_gone(void)
{
	K.phase = CORE_SILENT;
	K.wants_writable = false;
	K.alive_by_us = 0;
	K.n_refused = 0; /* answers to a dead core's questions */
	K.kept.signals |= K.kept.ends;
}

void core_refused(uint16_t kind, int error, const struct kp_frame *about)
{
	if (kind != KP_SIGNAL) /* too late for a signal is everyday */
		say("refused request %d of core: %s", kind, errno_name(error));
	if (K.n_refused == REFUSED_MAX)
		return;
	struct kp_frame *f = &K.refused[K.n_refused++];
	*f = about ? *about : (struct kp_frame){0};
	f->kind = KP_REFUSED;
	f->code = kind;
	f->status = error;
}
