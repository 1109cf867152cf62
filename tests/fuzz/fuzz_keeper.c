/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Keeper: frames of core of any kind and size, words and ends of children, time, and a state as a
 * keeper before it may have left it, whole, lying or damaged.
 *
 * Only living children of its own are signalled, each row is in its chains as it is said to be, what
 * goes to core is well formed, and a state that it saved comes back as it was.
 * Options: -max_len=1024 -detect_leaks=0 -close_fd_mask=2
 */
#include "keeper/private.h"
#define OWN_KILL
#include "no_harm.h"
#include "table/rows.c"
#include "table/state.c"

#include <sys/socket.h>

#define OPS_MAX   40
#define FD_FIRST  200 /* descriptors that a state may name */
#define FD_COUNT  8
#define PID_FIRST 40000000 /* above what the kernel gives: nobody's */
#define PID_COUNT 16

int waitid(idtype_t type, id_t id, siginfo_t *info, int options);
pid_t waitpid(pid_t pid, int *status, int options);

static int core_end;
static uint32_t is_alive; /* bit per child of ours */

int waitid(idtype_t type, id_t id, siginfo_t *info, int options)
{
	(void)type, (void)options;
	memset(info, 0, sizeof(*info));
	bool is_child =
		id >= PID_FIRST && id < PID_FIRST + PID_COUNT && is_alive >> (id - PID_FIRST) & 1;
	errno = ECHILD;
	return is_child ? 0 : -1;
}

pid_t waitpid(pid_t pid, int *status, int options)
{
	(void)pid, (void)status, (void)options;
	errno = ECHILD;
	return -1;
}

/* The pids of an input are anybody's. Keeper itself may only name what can be a process. */
int kill(pid_t pid, int signo)
{
	assert(pid > 1 || !signo);
	n_kills++;
	bool is_child = pid >= PID_FIRST && pid < PID_FIRST + PID_COUNT &&
			is_alive >> (pid - PID_FIRST) & 1;
	errno = ESRCH;
	return is_child ? 0 : -1;
}

static void hear(void)
{
	struct kp_frame f;
	int fd;
	size_t n_fds = 1;
	for (;; n_fds = 1) {
		fd = -1;
		if (recv_fds(core_end, &f, sizeof(f), &fd, &n_fds, MSG_DONTWAIT) != sizeof(f))
			return;
		if (n_fds)
			fd_close(fd);
		assert(f.magic == KP_MAGIC && memchr(f.name, '\0', sizeof(f.name)));
		assert(f.kind >= KP_FD && f.kind <= KP_REFUSED);
		if (f.kind == KP_EXITED || f.kind == KP_CHILD)
			assert(f.role >= KP_ROW_CHILD && f.role <= KP_ROW_BELOW && f.code >= 0);
		if (f.kind == KP_EXITED)
			assert(f.code >= CLD_EXITED && f.code <= CLD_DUMPED);
	}
}

static void begin(void)
{
	int p[2];
	static int null_fd = -1;
	if (null_fd < 0)
		null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	for (int i = 0; i < FD_COUNT; i++)
		(void)dup2(null_fd, FD_FIRST + i);
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, p) < 0)
		abort();
	table.kept = (struct kept){.core_link = p[0], .self_fd = dup(null_fd), .cores = 1};
	core_end = p[1];
	K.args[0] = (char *)(uintptr_t) "stayd";
	is_alive = (1u << PID_COUNT) - 1;
	rows_init();
	row_begin(&table.row[ROLE_CORE], PID_FIRST, 0);
	row_begin(&table.row[ROLE_LAUNCHER], PID_FIRST + 1, 0);
}

static void end(void)
{
	unsigned high = slots.high;
	while (news_head())
		news_told();
	for (unsigned i = 1; i <= high; i++) {
		if (table.row[i].kind == ROW_ROLE)
			drop_fd(&table.row[i].fd);
		if (table.row[i].kind)
			row_free(&table.row[i]);
		table.row[i] = (struct row){0};
		id_nexts[i] = pid_nexts[i] = 0;
	}
	slots.high = slots.first_free = 0;
	memset(orphans, 0, sizeof(orphans));
	orphans_seen = 0;
	for (unsigned i = 0; i < table.n_deposits; i++) {
		drop_fd(&table.deposit[i].fd);
		table.deposit[i].name[0] = '\0';
	}
	table.n_deposits = 0;
	for (int r = 0; r < ROLE_MAX; r++) {
		drop_fd(&table.role[r].program_fd);
		table.role[r] = (struct role_state){0};
	}
	drop_fd(&table.kept.core_link);
	drop_fd(&table.kept.self_fd);
	drop_fd(&table.kept.previous_fd);
	for (int i = 0; i < 2; i++) {
		drop_fd(&table.kept.words[i]);
		drop_fd(&table.kept.leash[i]);
	}
	core_gone();
	fd_close(core_end);
	for (int i = 0; i < FD_COUNT; i++)
		(void)close(FD_FIRST + i);
	K.stop = STOP_NOT;
	K.is_welcome = K.has_hello = K.is_full = K.is_stuck = false;
	K.sent = K.seen = K.looks = K.fds_told = K.crashes = 0;
	K.prove_by_us = 0;
}

static void check_tables(void)
{
	for (unsigned i = 1; i <= slots.high; i++) {
		const struct row *r = &table.row[i];
		if (!r->kind)
			continue;
		assert(r->kind <= ROW_ROLE && r->code <= CLD_DUMPED);
		unsigned n = 0;
		for (unsigned k = hash16_first(&by_id, id_key(&r->id)); k; k = id_nexts[k])
			assert(++n <= slots.high);
		struct row *found = row_of_pid(r->pid);
		if (!r->code)
			assert(found && found->pid == r->pid);
		assert(!found || !found->code);
	}
	for (unsigned i = 0; i < table.n_deposits; i++)
		assert(memchr(table.deposit[i].name, '\0', KP_NAME_MAX) &&
			table.deposit[i].fd >= 0);
	if (news_head())
		assert(news_head()->is_queued);
}

static int32_t pick_pid(struct input *in)
{
	uint8_t b = in_u8(in);
	return b < 250 ? PID_FIRST + b % (PID_COUNT + 2) : (int32_t)in_u32(in);
}

static struct kp_frame pick_frame(struct input *in, uint16_t kind)
{
	static const char *const names[] = {"", "state", "log/1", "fds/1/1/x"};
	uint8_t id = in_u8(in) % 8;
	struct kp_frame f = {
		.magic = KP_MAGIC, .kind = kind, .id = {{id}, id}
        };
	f.pid = pick_pid(in);
	f.role = in_u8(in) % 8;
	f.status = (int8_t)in_u8(in);
	f.code = (int8_t)in_u8(in);
	if (in_u8(in) > 240)
		f.code = (int32_t)in_u32(in);
	str_copy(f.name, names[in_u8(in) % ARRAY_SIZE(names)], sizeof(f.name));
	return f;
}

static void core_says(struct input *in)
{
	struct kp_frame f = pick_frame(in, in_u8(in) % 12);
	uint8_t how = in_u8(in);
	int fd = how & 1 ? dup(FD_FIRST) : -1;
	char raw[KP_FRAME_MAX + 8] = {0};
	size_t size = sizeof(f);
	memcpy(raw, &f, sizeof(f));
	if (how > 250) {
		size = in_u16(in) % sizeof(raw);
		in_bytes(in, raw, MIN(size, sizeof(f)));
	}
	/* Leaving is the end of everything: not every time. */
	if (f.kind != KP_EXIT || how > 128)
		(void)send_fds(core_end, raw, size, &fd, fd >= 0, MSG_DONTWAIT);
	fd_close(fd);
	if (table.kept.core_link)
		core_read();
}

static void child_speaks(struct input *in)
{
	static const uint16_t kinds[] = {KP_BORN, KP_SHIM_EXIT, KP_SHIM_MAIN, KP_SIGNAL};
	struct kp_frame f = pick_frame(in, kinds[in_u8(in) % ARRAY_SIZE(kinds)]);
	pid_t pid = pick_pid(in);
	/* The kernel's word: somebody of ours. */
	if (pid >= PID_FIRST && pid < PID_FIRST + PID_COUNT && is_alive >> (pid - PID_FIRST) & 1)
		child_said(&f, pid);
}

static void child_ends(struct input *in)
{
	pid_t pid = PID_FIRST + in_u8(in) % PID_COUNT;
	int status = in_u8(in) & 1 ? in_u8(in) << 8 : in_u8(in) % 128;
	if (!(is_alive >> (pid - PID_FIRST) & 1))
		return;
	is_alive &= ~(1u << (pid - PID_FIRST));
	child_ended(pid, status);
	is_alive |= 1u << (pid - PID_FIRST); /* the pid is used again at once */
}

static void pass_time(struct input *in)
{
	uint64_t now = now_mono_us() + (uint64_t)in_u8(in) * USEC_PER_SEC, next = USEC_INFINITY;
	hang_tick(now, &next);
	roles_tick(now, &next);
	reexec_tick(now, &next);
}

/* ---- the state ---- */

static int32_t pick_fd(struct input *in)
{
	uint8_t b = in_u8(in);
	return b < 64 ? 0 : b < 240 ? FD_FIRST + b % (FD_COUNT + 1) : (int8_t)b;
}

/* A whole pack whose items say what they like. */
static int lying_state(struct input *in)
{
	struct kept kept;
	struct role_state role[ROLE_MAX + 1];
	struct row row[12];
	struct deposit deposit[6];
	uint32_t n_roles = in_u8(in) % (ROLE_MAX + 2), n_rows = in_u8(in) % 13,
		 n_deposits = in_u8(in) % 7;
	in_bytes(in, &kept, in_u8(in) % sizeof(kept));
	int32_t *fds[] = {&kept.self_fd, &kept.previous_fd, &kept.core_link, &kept.words[0],
		&kept.words[1], &kept.leash[0], &kept.leash[1]};
	for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
		*fds[i] = pick_fd(in);
	memset(role, 0, sizeof(role));
	for (uint32_t i = 0; i < n_roles && i <= ROLE_MAX; i++) {
		role[i].is_wanted = in_u8(in) & 1;
		role[i].program_fd = pick_fd(in);
		role[i].start_at_us = in_u16(in);
	}
	memset(row, 0, sizeof(row));
	for (uint32_t i = 0; i < n_rows && i < ARRAY_SIZE(row); i++) {
		uint8_t id = in_u8(in) % 9;
		row[i] = (struct row){
			.id = {{id}, id},
                          .kind = in_u8(in) % 6, .code = in_u8(in) % 5
                };
		row[i].pid = pick_pid(in);
		row[i].fd = pick_fd(in);
		row[i].is_queued = in_u8(in) & 1;
	}
	memset(deposit, 0, sizeof(deposit));
	for (uint32_t i = 0; i < n_deposits && i < ARRAY_SIZE(deposit); i++) {
		deposit[i].fd = pick_fd(in);
		in_some(in, deposit[i].name, sizeof(deposit[i].name));
	}
	const struct pack_section s[] = {
		{&kept,           1,			      sizeof(kept),       NULL},
		{ role,    MIN(n_roles,        (uint32_t)ROLE_MAX + 1),    sizeof(role[0]), NULL},
		{ row,     MIN(n_rows,     (uint32_t)ARRAY_SIZE(row)),     sizeof(row[0]), NULL},
		{ deposit, MIN(n_deposits, (uint32_t)ARRAY_SIZE(deposit)), sizeof(deposit[0]),
                 NULL}
        };
	return pack_save(s, ARRAY_SIZE(s), STATE_VERSION, STATE_OLDEST);
}

/* The head is not under the checksum; the body with a wrong one is refused. */
static void damage(struct input *in, int fd)
{
	for (unsigned n = in_u8(in) % 4; n > 0; n--) {
		uint8_t at = in_u8(in) % 64, byte = in_u8(in);
		(void)!pwrite(fd, &byte, 1, at);
	}
}

static void load_state(struct input *in)
{
	drop_fd(&table.kept.self_fd); /* what a fresh keeper has is nothing */
	drop_fd(&table.kept.core_link);
	row_end(&table.row[ROLE_CORE], CLD_EXITED, 0, 0);
	row_end(&table.row[ROLE_LAUNCHER], CLD_EXITED, 0, 0);
	int fd = lying_state(in);
	damage(in, fd);
	(void)state_load(fd);
	check_tables();
	for (uint32_t r = ROLE_CORE; r < ROLE_MAX; r++)
		assert(table.row[r].kind == ROW_ROLE && table.row[r].id.seq == r);
	fd_close(fd);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = in_begin(data, size);
	begin();
	if (in_u8(&in) & 1)
		load_state(&in);
	for (int i = 0; i < OPS_MAX && in_left(&in) && K.stop == STOP_NOT; i++) {
		switch (in_u8(&in) % 6) {
		case 0:
		case 1:
			core_says(&in);
			break;
		case 2:
			child_speaks(&in);
			break;
		case 3:
			child_ends(&in);
			break;
		case 4:
			pass_time(&in);
			break;
		default:
			core_flush();
			break;
		}
		hear();
		check_tables();
	}
	end();
	return 0;
}
