/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The launcher's frames: whatever core says, with descriptors, plans in the frame or in a memfd,
 * sealed or not. No process is made (no_harm.h): each request that is one gets exactly one answer, a
 * damaged one says so, and no descriptor is left open.
 * Options: -max_len=2048 -detect_leaks=0
 */
#include "stayd/wire.h"
static int fuzz_core_fd = -1, fuzz_keeper_fd = -1;
#undef ROLE_CORE_FD
#undef ROLE_KEEPER_FD
#define ROLE_CORE_FD   fuzz_core_fd
#define ROLE_KEEPER_FD fuzz_keeper_fd
#include "launch/launcher.c"
#include "no_harm.h"

#define OPS_MAX 16

int clone(int (*fn)(void *), void *stack, int flags, void *arg, ...);

/* The vfork-style start: refused, as a host out of memory would. */
int clone(int (*fn)(void *), void *stack, int flags, void *arg, ...)
{
	(void)fn, (void)stack, (void)flags, (void)arg;
	errno = ENOMEM;
	return -1;
}

static int peer;
static struct spawn_id last_id;
static unsigned n_answers;

static void hear(void)
{
	struct ln_reply r;
	size_t n_fds = 0;
	while (recv_fds(peer, &r, sizeof(r), NULL, &n_fds, MSG_DONTWAIT) == sizeof(r)) {
		assert(r.build == WIRE_BUILD && memchr(r.detail, '\0', sizeof(r.detail)));
		assert(r.kind == LN_FAILED || r.kind == LN_SYNCED);
		assert(is_printable(r.detail));
		if (r.kind == LN_FAILED) {
			assert(r.stage > 0 && r.error > 0);
			assert(memcmp(&r.id, &last_id, sizeof(r.id)) == 0);
		}
		n_answers++;
	}
}

/* A plan of the seeds' kind: its sum put right, or nothing would get further. */
static void make_plan(struct input *in, struct buf *b)
{
	size_t size = in_u16(in) % 1536;
	size = MIN(size, in_left(in));
	buf_add(b, in->p, size);
	in->p += size;
	if (size >= sizeof(struct plan) && size % 8 == 0) {
		struct plan *p = exact_copy(b->data, size);
		p->sum = plan_sum(p, size);
		memcpy(b->data, p, size);
		free(p);
	}
}

static void say(struct input *in)
{
	struct ln_head h = {.build = WIRE_BUILD, .flags = in_u8(in)};
	struct buf plan = {0}, frame = {0};
	int fds[FDS_MAX];
	size_t n_fds = in_u8(in) % 8;
	uint8_t how = in_u8(in);
	h.id.seq = in_u8(in);
	make_plan(in, &plan);
	h.plan_size = (uint32_t)plan.size;
	if (how & 1) /* as many as the flags say: else it goes no further */
		n_fds = (size_t)__builtin_popcount(h.flags & 31) + (h.n_pass_fds = n_fds % 4);
	else
		h.n_pass_fds = in_u8(in);
	if (how & 2)
		h.plan_size = in_u32(in);
	if (how & 4)
		h.build = in_u32(in);
	for (size_t i = 0; i < n_fds; i++)
		fds[i] = dup(L.null_fd);
	if ((h.flags & LN_PLAN_IN_FD) && n_fds) {
		fd_close(fds[n_fds - 1]);
		fds[n_fds - 1] = memfd_create("plan", MFD_CLOEXEC | MFD_ALLOW_SEALING);
		(void)write_all(fds[n_fds - 1], strna(plan.data), plan.size);
		if (how & 8)
			(void)fcntl(fds[n_fds - 1], F_ADD_SEALS,
				F_SEAL_SHRINK | F_SEAL_WRITE | F_SEAL_GROW);
		buf_reset(&plan);
		plan.size = 0;
	}
	buf_add(&frame, &h, sizeof(h));
	if (plan.size)
		buf_add(&frame, plan.data, plan.size);
	size_t size = how & 16 ? in_u16(in) % frame.size + 1 : frame.size;
	last_id = h.id;
	(void)send_fds(peer, frame.data, size, fds, n_fds, MSG_DONTWAIT);
	for (size_t i = 0; i < n_fds; i++)
		fd_close(fds[i]);
	buf_done(&plan);
	buf_done(&frame);
}

static void begin(void)
{
	static bool is_ready;
	int p[2], k[2];
	if (!is_ready) {
		be_quiet();
		L.null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
		L.pending_max = PENDING_MAX;
		is_ready = true;
	}
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, p) < 0 ||
		socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, k) < 0 ||
		loop_init(&L.loop) < 0)
		abort();
	for (size_t i = 0; i < HELD_MAX; i++)
		L.held[i] = -1;
	L.loop.is_done = false;
	fuzz_core_fd = p[0];
	fuzz_keeper_fd = k[0];
	peer = p[1];
	fd_close(k[1]);
	if (loop_add(&L.loop, &L.core, ROLE_CORE_FD, EPOLLIN, PRIO_NORMAL, on_core) < 0)
		abort();
}

static void end(void)
{
	for (size_t i = 0; i < HELD_MAX; i++)
		L.held[i] = fd_close(L.held[i]);
	loop_remove(&L.loop, &L.core);
	loop_done(&L.loop);
	fd_close(fuzz_core_fd);
	fd_close(fuzz_keeper_fd);
	fd_close(peer);
	L.n_replies = L.first_reply = 0;
	L.is_sync_wanted = false;
}

/* The lowest free descriptor: the same again when nothing was left open. */
static int lowest_free(void)
{
	int fd = dup(L.null_fd);
	fd_close(fd);
	return fd;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = in_begin(data, size);
	begin();
	int before = lowest_free();
	for (int i = 0; i < OPS_MAX && in_left(&in) && !L.loop.is_done; i++) {
		n_answers = 0;
		say(&in);
		for (int k = 0; k < 4 && !L.loop.is_done && loop_turn(&L.loop, 0) > 0; k++)
			;
		hear();
		assert(n_answers <= 1 && L.n_pending == 0);
	}
	for (size_t i = 0; i < HELD_MAX; i++)
		L.held[i] = fd_close(L.held[i]);
	assert(L.loop.is_done || lowest_free() == before); /* or the process is on its way out */
	end();
	return 0;
}
