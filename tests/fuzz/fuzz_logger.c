/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The logger's frames and pipes: whatever core says, whatever services write meanwhile. Nothing is
 * stored (no directory), or the directory cannot be made.
 * Options: -max_len=2048 -detect_leaks=0
 */
#include "logd/logger.c"
#include "no_harm.h"

#include <sys/socket.h>

#define OPS_MAX   48
#define PIPES_MAX 6

static int core_end, keeper_end, write_end[PIPES_MAX];

static void hear(void)
{
	struct lg_frame f;
	size_t n_fds = 0;
	while (recv_fds(core_end, &f, sizeof(f), NULL, &n_fds, MSG_DONTWAIT) == sizeof(f)) {
		assert(f.build == WIRE_BUILD && f.kind >= LG_SYNCED && f.kind <= LG_DIR);
		assert(memchr(f.name, '\0', sizeof(f.name)) &&
			memchr(f.text, '\0', sizeof(f.text)));
		assert(is_printable(f.text));
	}
}

static void pair(int *ret_ours, int *ret_peer)
{
	int p[2];
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, p) < 0)
		abort();
	*ret_ours = p[0];
	*ret_peer = p[1];
}

static void begin(void)
{
	static char *batch;
	static int null_fd = -1;
	int core, keeper;
	if (!batch) {
		be_quiet();
		batch = xmalloc(LOG_BATCH_MAX);
		(void)signal(SIGPIPE, SIG_IGN); /* as logger_init() */
		null_fd = open("/dev/null", O_WRONLY | O_CLOEXEC);
	}
	memset(&g, 0, offsetof(struct logger, in));
	g.keeper.fd = g.core.fd = g.store.dir_fd = -1;
	g.batch.data = batch;
	g.has_keeper = true;
	store_limits(&g.store, 0, 0, 0);
	if (loop_init(&g.loop) < 0)
		abort();
	console_init(&g.console, &g.loop, null_fd);
	pair(&core, &core_end);
	pair(&keeper, &keeper_end);
	if (loop_add(&g.loop, &g.keeper, keeper, EPOLLIN, PRIO_KEEPER, on_keeper) < 0)
		abort();
	core_link(core);
	memset(write_end, -1, sizeof(write_end));
}

static void end(void)
{
	int keeper = g.keeper.fd;
	each_stream(stream_end);
	console_done(&g.console);
	store_done(&g.store);
	loop_remove(&g.loop, &g.core);
	fd_close(g.core.fd);
	fd_close(keeper);
	fd_close(core_end);
	fd_close(keeper_end);
	for (int i = 0; i < PIPES_MAX; i++)
		fd_close(write_end[i]);
	loop_done(&g.loop);
}

static void say(struct input *in)
{
	static const char *const names[] = {"web@1.service", "db.service", "", "..", "a/b", ".x"};
	struct lg_frame f = {.build = WIRE_BUILD, .kind = in_u8(in) % 7};
	uint8_t how = in_u8(in), which = in_u8(in) % PIPES_MAX;
	int p[2] = {-1, -1};
	if (how & 1) {
		in_bytes(in, &f, sizeof(f));
		f.build = how & 6 ? WIRE_BUILD : f.build;
	} else {
		f.stream = "oedx"[in_u8(in) % 4];
		f.number = in_u8(in);
		f.to_console = in_u8(in) & 1;
		str_copy(f.name, names[in_u8(in) % ARRAY_SIZE(names)], sizeof(f.name));
		in_some(in, f.text, sizeof(f.text));
	}
	if (f.kind == LG_CONFIG) { /* a directory that never comes to be */
		f.name[0] = '\0';
		str_copy(f.text, how & 8 ? "/proc/fuzz/log" : "", sizeof(f.text));
	}
	if (how & 16 && pipe2(p, O_CLOEXEC | O_NONBLOCK) == 0) {
		fd_close(write_end[which]);
		write_end[which] = p[1];
	}
	size_t size = how & 32 ? in_u16(in) % sizeof(f) : sizeof(f);
	(void)send_fds(core_end, &f, size, p, p[0] >= 0, MSG_DONTWAIT);
	fd_close(p[0]);
}

static void write_some(struct input *in)
{
	int fd = write_end[in_u8(in) % PIPES_MAX];
	size_t n = in_u8(in);
	n = MIN(n, in_left(in));
	if (fd >= 0 && n)
		(void)!write(fd, in->p, n);
	in->p += n;
}

static void relink(void)
{
	struct kp_frame f = {.magic = KP_MAGIC, .kind = KP_LINK, .role = ROLE_CORE};
	int ours;
	fd_close(core_end);
	pair(&ours, &core_end);
	(void)send_fds(keeper_end, &f, sizeof(f), &ours, 1, MSG_DONTWAIT);
	fd_close(ours);
}

static void check(void)
{
	size_t pos = 0, n = 0;
	void *v;
	const char *key;
	while (map_next(&g.store.logs, &pos, &key, &v)) {
		const struct unit_log *log = v;
		assert(log_name_is_valid(key) && streq(key, log->name));
		for (const struct stream *s = log->streams; s; s = s->next, n++)
			assert(s->log == log && s->lines.carry.size <= LOG_LINE_MAX);
	}
	assert(n == g.n_streams && n <= LOG_STREAMS_MAX && g.batch.size == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = in_begin(data, size);
	begin();
	for (int i = 0; i < OPS_MAX && in_left(&in) && !g.loop.is_done; i++) {
		uint8_t what = in_u8(&in);
		if (what % 8 < 4)
			say(&in);
		else if (what % 8 < 6)
			write_some(&in);
		else if (what % 8 == 6)
			write_end[what / 8 % PIPES_MAX] = fd_close(write_end[what / 8 % PIPES_MAX]);
		else if (what == 255)
			relink();
		for (int k = 0; k < 4 && !g.loop.is_done && loop_turn(&g.loop, 0) > 0; k++)
			hear();
		check();
	}
	end();
	return 0;
}
