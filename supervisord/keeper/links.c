/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Owns the frames: what each peer may say, and what core still has to hear.
 *
 *  1. Nothing blocks. What does not fit into core's socket stays where it is (a row, a bit, a slot)
 *     until poll says writable; core away is the same as socket full.
 *  2. A broken frame costs core its life; among the words of children it is dropped.
 *  3. A core that reads nothing of what lies in its socket for timing.hang_us hangs. There is a timer
 *     only while something is unread, or before its KP_HELLO.
 */
#include "private.h"

#include <sys/ioctl.h>
#include <sys/socket.h>

#define READ_BATCH 256                /* frames of one link in one turn */
#define ABORT_US   (5 * USEC_PER_SEC) /* for a core that hangs to leave a trace */

/* 1 a frame, 0 none waiting, < 0: the link is over, or this was no frame of ours. */
static int read_frame(int link, struct kp_frame *f, int *ret_fd, pid_t *ret_pid)
{
	union {
		struct kp_frame f;
		char room[KP_FRAME_MAX];
	} in = {0};
	ssize_t n = recv_said(link, &in, sizeof(in), ret_fd, ret_pid);
	*f = in.f;
	if (n >= KP_FRAME_MIN && f->magic == KP_MAGIC && !f->name[KP_NAME_MAX - 1])
		return 1;
	*ret_fd = fd_close(*ret_fd);
	return n == -EAGAIN ? 0 : n < 0 ? (int)n : -EBADMSG;
}

bool words_read_one(void)
{
	struct kp_frame f;
	int fd = -1, r;
	pid_t pid;
	if (!table.kept.words[0] || (r = read_frame(table.kept.words[0], &f, &fd, &pid)) == 0)
		return false;
	if (r > 0)
		child_said(&f, pid);
	else
		say_line("what pid %d says is no word of a child: %s", (int)pid, errno_name(r));
	drop_fd(&fd);
	return r > 0 || r == -EBADMSG || r == -EMSGSIZE; /* else it would say so for ever */
}

static void on_hello(const struct kp_frame *f UNUSED, int *fd UNUSED)
{
	while (words_read_one())
		; /* who was born before core asked is in the list */
	news_all();
	K.has_hello = true;
	K.is_welcome = false;
	K.fds_told = K.crashes = 0;
	if (K.prove_by_us)
		K.prove_by_us = now_mono_us() + timing.prove_us;
}

static void on_put(const struct kp_frame *f, int *fd)
{
	bool is_drop = f->kind == KP_DROP;
	int r = is_drop ? deposit_put(f->name, 0) : *fd > 0 ? deposit_put(f->name, *fd) : -EBADF;
	if (r < 0)
		core_refuse(f->kind, r, f);
	else if (!is_drop)
		*fd = 0;
}

static void on_leave(const struct kp_frame *f, int *fd UNUSED)
{
	stop_begin(STOP_ROLES, f->status, f->code);
}

/* One that keeps the descriptor sets it to 0. */
static void (*const from_core[])(const struct kp_frame *f, int *fd) = {
	[KP_HELLO] = on_hello,
	[KP_SIGNAL] = child_signal,
	[KP_FORGET] = row_forget,
	[KP_TRACK] = child_track,
	[KP_PUT] = on_put,
	[KP_DROP] = on_put,
	[KP_ROLE] = role_asked,
	[KP_REEXEC] = reexec_asked,
	[KP_EXIT] = on_leave,
};

void core_read(void)
{
	struct kp_frame f;
	int fd, r = 1;
	pid_t pid;
	for (int i = 0; i < READ_BATCH && table.kept.core_link; i++) {
		if ((r = read_frame(table.kept.core_link, &f, &fd, &pid)) <= 0)
			break;
		if (f.kind < ARRAY_SIZE(from_core) && from_core[f.kind])
			from_core[f.kind](&f, &fd);
		else
			core_refuse(f.kind, -EOPNOTSUPP, &f);
		drop_fd(&fd);
	}
	if (r < 0) {
		say_line("a frame of core is broken (%s): killing it", errno_name(r));
		core_gone();
		(void)kill(table.row[ROLE_CORE].pid, SIGKILL);
	}
}

/* ---- towards core ---------------------------------------------------------------------------------- */

static int core_send(struct kp_frame f, int fd)
{
	f.magic = KP_MAGIC;
	ssize_t n = send_fds(table.kept.core_link, &f, sizeof(f), &fd, fd > 0, MSG_DONTWAIT);
	if (n < 0)
		return (int)n;
	K.sent++;
	if (!K.look_at_us)
		K.look_at_us = now_mono_us() + timing.hang_us / 2;
	return 0;
}

void core_refuse(uint16_t kind, int error, const struct kp_frame *about)
{
	struct kp_frame f = *about;
	f.kind = KP_REFUSED;
	f.code = kind;
	f.status = error;
	if (kind != KP_SIGNAL) /* too late for a signal is everyday */
		say_line("refused request %d of core: %s", kind, errno_name(error));
	if (K.has_hello)
		(void)core_send(f, 0);
}

static int send_row(const struct row *r)
{
	struct kp_frame f = {.kind = r->code && K.is_welcome ? KP_EXITED : KP_CHILD,
		.role = r->kind, /* enum kp_row */
		.id = r->id,
		.pid = r->pid,
		.code = r->code,
		.status = r->status,
		.program = r->program,
		.time_us = r->time_us};
	if (r->kind != ROW_ROLE)
		return r->kind ? core_send(f, 0) : 0;
	f.kind = KP_LINK;
	f.role = (uint16_t)r->id.seq;
	f.status = r->is_stale;
	return r->code || f.role == ROLE_CORE ? 0 : core_send(f, r->fd);
}

/* The next thing core does not know: 0 told, 1 there is none, < 0 no room. */
static int tell_next(void)
{
	uint64_t signals = table.kept.signals & ~K.signals_told;
	int e = 1, bit = signals ? __builtin_ctzll(signals) : 0;
	if (!K.has_hello)
		return 1;
	if (K.fds_told < table.n_deposits) {
		struct deposit *d = &table.deposit[K.fds_told];
		struct kp_frame f = {.kind = KP_FD};
		str_copy(f.name, d->name, sizeof(f.name));
		if ((e = d->fd && !K.is_welcome ? core_send(f, d->fd) : 0) == 0)
			K.fds_told++;
	} else if (news_head()) {
		if ((e = send_row(news_head())) == 0)
			news_told();
	} else if (!K.is_welcome) {
		e = core_send((struct kp_frame){.kind = KP_WELCOME,
				      .status = (int32_t)table.kept.cores - 1,
				      .pid = (int32_t)table.kept.reexecs,
				      .code = table.kept.came_back},
			0);
		K.is_welcome = e == 0;
	} else if (signals) {
		if ((e = core_send((struct kp_frame){.kind = KP_GOT, .status = bit + 1}, 0)) == 0)
			K.signals_told |= 1ULL << bit;
	}
	return e;
}

void core_flush(void)
{
	int e;
	while ((e = tell_next()) == 0)
		;
	K.is_full = e == -EAGAIN;
	K.is_stuck = e < 0 && !K.is_full;
	table.kept.signals &= signal_ends() | ~K.signals_told;
	K.signals_told &= table.kept.signals;
}

void core_gone(void)
{
	drop_fd(&table.kept.core_link);
	K.has_hello = K.is_welcome = K.is_full = K.is_stuck = K.is_up = false;
	K.signals_told = K.look_at_us = K.looks = 0;
}

/* Two looks in a row saw nothing read; a late one does not count, we were stopped too. */
void hang_tick(uint64_t now, uint64_t *next)
{
	struct row *core = &table.row[ROLE_CORE];
	int unread = 0;
	if (K.look_at_us && K.look_at_us <= now) {
		(void)ioctl(core->fd, FIONREAD, &unread);
		uint32_t seen = K.sent - (uint32_t)unread / sizeof(struct kp_frame);
		bool is_waiting = !K.has_hello || unread;
		bool is_late = now - K.look_at_us > USEC_PER_SEC;
		K.looks = is_waiting && seen == K.seen && !is_late ? K.looks + 1 : 0;
		K.look_at_us = is_waiting ? now + timing.hang_us / 2 : 0;
		K.seen = seen;
		if (K.looks >= 2) {
			say_line("core hangs (%d bytes unread): aborting it", unread);
			(void)kill(core->pid, K.looks == 2 ? SIGABRT : SIGKILL);
			K.look_at_us = now + ABORT_US;
		}
	}
	earliest(next, K.look_at_us);
}
