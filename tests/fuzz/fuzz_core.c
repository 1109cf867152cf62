/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What core hears: frames of keeper, launcher, logger and stay-net, datagrams of services, time and
 * requests, in any order and with any content, through its real sources and a real loop.
 *
 * Checked: no state outside of the model's, whoever is signalled is somebody's process, every plan
 * that goes to the launcher is one it takes, every frame to the others is well formed, and what
 * services say about themselves is printable.
 * Options: -max_len=1024 -detect_leaks=0
 */
#include "world_rig.h"

#include "launch/plan.h"
#include "no_harm.h"

#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>

#define OPS_MAX   40
#define ASKED_MAX 64

static struct core core;
static int peer[ROLE_MAX], peer_notify;
static struct spawn_id asked[ASKED_MAX]; /* identities core has chosen, the newest last */
static unsigned n_asked;

/* ---- the peers ---- */

static void pair(int type, int *ret_ours, int *ret_peer)
{
	int p[2];
	if (socketpair(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, p) < 0)
		abort();
	*ret_ours = p[0];
	*ret_peer = p[1];
}

static void check_kp(const struct kp_frame *f)
{
	assert(f->magic == KP_MAGIC && memchr(f->name, '\0', sizeof(f->name)));
	assert(f->kind >= KP_HELLO && f->kind <= KP_EXIT);
	assert(f->kind != KP_SIGNAL || (f->status > 0 && f->status <= 64));
	assert(f->kind != KP_TRACK || f->pid > 1);
}

static void check_request(const char *data, size_t size)
{
	const struct ln_head *h = (const void *)data;
	assert(size >= sizeof(*h) && h->build == WIRE_BUILD);
	if (h->flags & (LN_SYNC | LN_HOLD | LN_PLAN_IN_FD))
		return;
	assert(size == sizeof(*h) + h->plan_size);
	struct plan *p = exact_copy(data + sizeof(*h), h->plan_size);
	assert(plan_check(p, h->plan_size) == 0);
	free(p);
	asked[n_asked++ % ASKED_MAX] = h->id;
}

static void check_lg(const struct lg_frame *f)
{
	assert(f->build == WIRE_BUILD && memchr(f->name, '\0', sizeof(f->name)));
	assert(memchr(f->text, '\0', sizeof(f->text)));
}

static void check_nt(const struct nt_frame *f)
{
	assert(f->build == WIRE_BUILD && memchr(f->text, '\0', sizeof(f->text)));
	assert(f->state < LB_STATE_MAX && f->weight <= 100);
}

static void hear(enum role role)
{
	static char data[LN_FRAME_MAX + 1024] __attribute__((aligned(8)));
	for (int i = 0; i < 4096 && peer[role] >= 0; i++) {
		int fds[FDS_MAX];
		size_t n_fds = FDS_MAX;
		ssize_t n = recv_fds(peer[role], data, sizeof(data), fds, &n_fds, MSG_DONTWAIT);
		if (n <= 0)
			return;
		for (size_t k = 0; k < n_fds; k++)
			fd_close(fds[k]);
		if (role == ROLE_CORE)
			check_kp((const void *)data);
		else if (role == ROLE_LAUNCHER)
			check_request(data, (size_t)n);
		else if (role == ROLE_LOGGER)
			check_lg((const void *)data);
		else
			check_nt((const void *)data);
	}
}

static void turn(void)
{
	for (int i = 0; i < 8 && !core.loop.is_done; i++)
		if (loop_turn(&core.loop, 0) <= 0)
			break;
	for (enum role k = ROLE_CORE; k <= ROLE_NET; k++)
		hear(k);
}

/* ---- a core of its own for each input ---- */

static void to_core(enum role role, const void *data, size_t size, const int *fds, size_t n_fds)
{
	if (peer[role] >= 0)
		(void)send_fds(peer[role], data, size, fds, n_fds, MSG_DONTWAIT);
}

static void say_link(enum role role)
{
	struct kp_frame f = {
		.magic = KP_MAGIC, .kind = KP_LINK, .role = (uint16_t)role, .pid = 500 + role};
	int ours;
	if (role == ROLE_LAUNCHER || role == ROLE_LOGGER || role == ROLE_NET)
		fd_close(peer[role]);
	else
		return;
	pair(SOCK_SEQPACKET, &ours, &peer[role]);
	to_core(ROLE_CORE, &f, sizeof(f), &ours, 1);
	fd_close(ours);
}

static void say_welcome(void)
{
	struct kp_frame f = {.magic = KP_MAGIC, .kind = KP_WELCOME};
	say_link(ROLE_LAUNCHER);
	say_link(ROLE_LOGGER);
	say_link(ROLE_NET);
	to_core(ROLE_CORE, &f, sizeof(f), NULL, 0);
}

static void before_wait(struct loop *l)
{
	struct core *c = container_of(l, struct core, loop);
	record_write_dirty(c);
	keeper_flush(c);
}

/* An identity core may know, a process it may know. */
static struct spawn_id pick_id(struct input *in)
{
	uint8_t b = in_u8(in);
	const struct unit *u = core.world->units[b % core.world->n_units];
	unsigned n = MIN(n_asked, (unsigned)ASKED_MAX);
	if (b < 128 && n)
		return asked[(n_asked - 1 - b % n) % ASKED_MAX];
	if (b < 200)
		return b & 1 ? u->rec.main : u->rec.control;
	return (struct spawn_id){.invocation = {b}, .seq = in_u8(in)};
}

static int32_t pick_pid(struct input *in)
{
	uint8_t b = in_u8(in);
	if (b < 64)
		return getpid();
	if (b < 128)
		return getppid();
	if (b < 240)
		return 40000000 + b % 8; /* there is none: above the kernel's largest */
	return b < 248 ? 0 : (int32_t)in_u32(in);
}

static void say_kp(struct input *in, uint16_t kind)
{
	struct kp_frame f = {.magic = KP_MAGIC,
		.kind = kind,
		.id = pick_id(in),
		.pid = pick_pid(in),
		.role = in_u8(in) % 5,
		.code = in_u8(in) % 6,
		.status = (int8_t)in_u8(in),
		.program = pick_pid(in)};
	int fd = -1;
	if (kind == KP_FD) {
		snprintf(f.name, sizeof(f.name), in_u8(in) & 1 ? "log/%u" : "fds/1/%u/stored",
			in_u8(in) % 8);
		fd = memfd_create("fuzz", MFD_CLOEXEC);
	}
	to_core(ROLE_CORE, &f, sizeof(f), &fd, fd >= 0);
	fd_close(fd);
}

static void say_known(struct input *in)
{
	static const uint16_t kinds[] = {KP_CHILD, KP_EXITED, KP_GOT, KP_FD};
	for (unsigned n = in_u8(in) % 8; n > 0; n--)
		say_kp(in, kinds[in_u8(in) % ARRAY_SIZE(kinds)]);
}

static void restore_records(struct input *in)
{
	struct event restored = {.kind = EV_RESTORED};
	for (unsigned n = in_u8(in) % 8; n > 0; n--) {
		struct unit *u = core.world->units[in_u8(in) % core.world->n_units];
		struct unit_rec r = u->rec;
		r.state = in_u8(in) % INST_STATE_MAX;
		r.want = in_u8(in) % 3;
		r.control_kind = in_u8(in) % EXEC_KIND_MAX;
		r.next_seq = 8;
		r.main = (struct spawn_id){.invocation = {in_u8(in)}, .seq = in_u8(in) % 8};
		r.control = (struct spawn_id){.invocation = {in_u8(in)}, .seq = in_u8(in) % 8};
		r.main_pid = r.main.seq ? pick_pid(in) & INT32_MAX : 0;
		r.control_pid = r.control.seq ? pick_pid(in) & INT32_MAX : 0;
		r.lb_phase = in_u8(in) % LBP_MAX;
		(void)world_restore_unit(core.world, u, &r);
		uc(u)->slot = u->id;
	}
	core.n_slots = (uint32_t)core.world->n_units;
	core.restarts_of_core = 1;
	keeper_adopt_begin(&core);
	core_step(&core, &restored);
}

static void begin(struct input *in)
{
	int one = 1, much = 8 * 1024 * 1024;
	bool is_restart = in_u8(in) & 1;
	memset(&core, 0, sizeof(core));
	memset(peer, -1, sizeof(peer));
	fake_now_us = 1000 * USEC_PER_SEC;
	n_asked = 0;
	core.launcher_fd = core.logger_fd = core.net_fd = core.control_fd = core.record_fd =
		core.launcher_pidfd = -1;
	core.cgroup_base_fd = core.lock_fds[0] = core.lock_fds[1] = -1;
	core.reexec.program = -1;
	core.is_in_memory = true; /* no files */
	core.runtime_dir = (char *)"@fuzz";
	core.runtime_root = (char *)"/proc/fuzz";
	core.state_dir = core.log_dir = (char *)"/proc/fuzz/state";
	core.notify_path = (char *)"@fuzz/notify";
	core.keeper_pid = 2;
	if (loop_init(&core.loop) < 0)
		abort();
	core.loop.before_wait = before_wait;
	core.world = rig_world(&core);
	core.path = rig_path;
	if (record_open(&core, memfd_create("fuzz", MFD_CLOEXEC)) < 0)
		abort();
	pair(SOCK_SEQPACKET, &core.keeper_fd, &peer[ROLE_CORE]);
	(void)setsockopt(core.keeper_fd, SOL_SOCKET, SO_SNDBUFFORCE, &much, sizeof(much));
	pair(SOCK_DGRAM, &core.notify_fd, &peer_notify);
	(void)setsockopt(core.notify_fd, SOL_SOCKET, SO_PASSCRED, &one, sizeof(one));
	if (notify_open(&core, core.notify_fd) < 0)
		abort();
	if (is_restart)
		say_known(in);
	say_welcome();
	if (keeper_connect(&core) < 0)
		abort();
	if (is_restart)
		restore_records(in);
	else
		keeper_adopt_begin(&core);
	keeper_adopt(&core);
	for (size_t i = 0; i < core.world->n_sets; i++)
		net_set_configure(&core, core.world->sets[i]);
	turn();
}

/* Nothing of this world may be left in what is static in core's files: notes wait for a logger. */
static void settle(void)
{
	int ours;
	keeper_flush(&core);
	loop_remove(&core.loop, &core.keeper_source);
	fd_close(peer[ROLE_LOGGER]);
	pair(SOCK_SEQPACKET, &ours, &peer[ROLE_LOGGER]);
	logger_connected(&core, ours);
	core.loop.is_done = false;
	for (int i = 0; i < 32 && (!i || core.logger_source.events & EPOLLOUT); i++)
		turn();
	keeper_flush(&core);
}

static void end(void)
{
	size_t pos = 0;
	void *row;
	settle();
	for (enum role k = ROLE_CORE; k <= ROLE_NET; k++)
		fd_close(peer[k]);
	fd_close(peer_notify);
	fd_close(core.keeper_fd);
	fd_close(core.notify_fd);
	fd_close(core.launcher_fd);
	fd_close(core.launcher_pidfd);
	fd_close(core.logger_fd);
	fd_close(core.net_fd);
	fd_close(core.record_fd);
	loop_done(&core.loop);
	while (map_next(&core.lb_rows, &pos, NULL, &row))
		free(row);
	map_done(&core.lb_rows);
	for (size_t i = 0; i < core.procs.cap; i++)
		if (core.procs.by_id[i])
			free(core.procs.by_id[i]->early);
	procs_done(&core.procs);
	free(core.reexec.text);
	free(core.pending);
	free(core.probes);
	rig_world_free(core.world);
	effects_done(&core.fx);
}

/* ---- what may happen ---- */

static void say_launcher(struct input *in)
{
	struct ln_reply r = {.build = WIRE_BUILD,
		.kind = in_u8(in) % 4,
		.id = pick_id(in),
		.pid = pick_pid(in),
		.stage = in_u8(in),
		.error = in_u8(in),
		.shim_pid = in_u8(in) & 1 ? pick_pid(in) : 0};
	in_some(in, r.detail, sizeof(r.detail));
	to_core(ROLE_LAUNCHER, &r, sizeof(r), NULL, 0);
}

static void say_logger(struct input *in)
{
	struct lg_frame f = {.build = WIRE_BUILD, .kind = LG_SYNCED + in_u8(in) % 3};
	f.number = in_u8(in);
	in_some(in, f.name, sizeof(f.name));
	in_some(in, f.text, sizeof(f.text));
	to_core(ROLE_LOGGER, &f, sizeof(f), NULL, 0);
}

static void say_net(struct input *in)
{
	static const uint16_t kinds[] = {NT_PROBED, NT_LB_CONNECT, NT_LB_STATUS, NT_LB_SAMPLE, 77};
	static const char *const servers[] = {"web1", "web2", "web3", "api", "web@1"};
	struct nt_frame f = {.build = WIRE_BUILD, .kind = kinds[in_u8(in) % ARRAY_SIZE(kinds)]};
	const struct unit *u = core.world->units[in_u8(in) % core.world->n_units];
	enum check_kind check = in_u8(in) % CHECK_KIND_MAX;
	f.number = (uint64_t)u->id << 40 | (uint64_t)check << 36 | u->health[check].number;
	if (in_u8(in) > 240)
		f.number = in_u64(in);
	f.lb = in_u8(in) % 12;
	f.ok = in_u8(in) & 1;
	f.reachable = in_u8(in) & 1;
	f.generation = in_u8(in) % 4;
	str_copy(f.server, servers[in_u8(in) % ARRAY_SIZE(servers)], sizeof(f.server));
	f.sample = (struct lb_sample){.known = in_u8(in) & 1,
		.in_sync = in_u8(in) & 1,
		.state = in_u8(in) % 4,
		.is_up = in_u8(in) & 1,
		.check = in_u8(in) % 5,
		.weight = in_u8(in),
		.sessions = in_u8(in) % 2,
		.total = in_u8(in),
		.serial = in_u8(in)};
	in_some(in, f.text, sizeof(f.text));
	if (f.kind == NT_LB_CONNECT)
		f.text[0] = '@'; /* no file is opened */
	to_core(ROLE_NET, &f, sizeof(f), NULL, 0);
}

static void say_notify(struct input *in)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(struct ucred)) + CMSG_SPACE(3 * sizeof(int))];
	} control = {0};
	struct ucred cred = {in_u8(in) & 1 ? getppid() : getpid(), getuid(), getgid()};
	size_t n_fds = in_u8(in) % 4, size = in_u8(in) * 4u;
	int fds[3];
	size = MIN(size, in_left(in));
	struct iovec iov = {(void *)(uintptr_t)in->p, size};
	struct msghdr m = {.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen =
			CMSG_SPACE(sizeof(cred)) + (n_fds ? CMSG_SPACE(n_fds * sizeof(int)) : 0)};
	struct cmsghdr *k = CMSG_FIRSTHDR(&m);
	k->cmsg_level = SOL_SOCKET;
	k->cmsg_type = SCM_CREDENTIALS;
	k->cmsg_len = CMSG_LEN(sizeof(cred));
	memcpy(CMSG_DATA(k), &cred, sizeof(cred));
	for (size_t i = 0; i < n_fds; i++)
		fds[i] = dup(core.record_fd);
	if (n_fds) {
		k = CMSG_NXTHDR(&m, k);
		k->cmsg_level = SOL_SOCKET;
		k->cmsg_type = SCM_RIGHTS;
		k->cmsg_len = CMSG_LEN(n_fds * sizeof(int));
		memcpy(CMSG_DATA(k), fds, n_fds * sizeof(int));
	}
	(void)!sendmsg(peer_notify, &m, MSG_DONTWAIT | MSG_NOSIGNAL);
	for (size_t i = 0; i < n_fds; i++)
		fd_close(fds[i]);
	in->p += size;
}

static void say_anything(struct input *in)
{
	char frame[1500];
	enum role role = ROLE_CORE + in_u8(in) % 4;
	size_t size = in_u16(in) % sizeof(frame);
	in_bytes(in, frame, size);
	if (size >= 4 && in_u8(in) & 3)
		memcpy(frame, &(uint32_t){WIRE_BUILD}, 4);
	to_core(role, frame, size, NULL, 0);
}

static void ask(struct input *in)
{
	struct world *w = core.world;
	struct request q = {.id = in_u8(in),
		.verb = in_u8(in) % REQ_VERB_MAX,
		.actor = "fuzz",
		.release = "v2"};
	uint8_t who = in_u8(in);
	q.number = in_u8(in) % 4;
	q.pause_after = in_u8(in) % 3;
	if (who & 128)
		q.set = w->sets[who % w->n_sets];
	else
		q.unit = w->units[who % w->n_units];
	core_submit(&core, &q);
}

static void pass_time(struct input *in)
{
	struct event ev = {.kind = EV_TIME};
	fake_now_us += (uint64_t)in_u8(in) * in_u8(in) * 10 * USEC_PER_MSEC;
	launcher_probe_timeouts(&core);
	if (core.relist_at_us && now_mono_us() >= core.relist_at_us) {
		core.relist_at_us = 0;
		keeper_relist(&core);
	}
	core_step(&core, &ev);
}

static void happen(struct input *in)
{
	switch (in_u8(in) % 12) {
	case 0:
	case 1:
		say_kp(in, KP_EXITED);
		break;
	case 2:
		say_kp(in, KP_FD + in_u8(in) % 8);
		break;
	case 3:
		say_link(ROLE_CORE + in_u8(in) % 5);
		break;
	case 4:
	case 5:
		say_launcher(in);
		break;
	case 6:
		say_logger(in);
		break;
	case 7:
		say_net(in);
		break;
	case 8:
		say_notify(in);
		break;
	case 9:
		say_anything(in);
		break;
	case 10:
		pass_time(in);
		break;
	default:
		ask(in);
		break;
	}
}

static void check_core(void)
{
	check_world(core.world);
	for (size_t i = 0; i < core.world->n_units; i++) {
		const struct unit *u = core.world->units[i];
		const struct unit_core *x = uc(u);
		assert(!u->status_text || is_printable(u->status_text));
		assert(x->said_errno >= 0 && x->said_errno < 4096);
		assert(x->n_fds <= FD_STORE_MAX);
		for (size_t k = 0; k < x->n_fds; k++)
			assert(x->fds[k].fd >= 0 && is_printable(x->fds[k].name));
	}
	size_t n = 0;
	for (size_t i = 0; i < core.procs.cap; i++) {
		const struct proc *p = core.procs.by_id[i];
		n += p != NULL;
		assert(!p || (proc_find(&core.procs, &p->id) == p && p->n_early <= EARLY_MAX));
	}
	assert(n == core.procs.n);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static bool is_ready;
	struct input in = in_begin(data, size);
	if (!is_ready)
		be_quiet();
	is_ready = true;
	begin(&in);
	check_core();
	for (int i = 0; i < OPS_MAX && in_left(&in) && !core.loop.is_done; i++) {
		happen(&in);
		turn();
		check_core();
	}
	end();
	return 0;
}
