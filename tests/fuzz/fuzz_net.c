/* SPDX-License-Identifier: Apache-2.0 */
/*
 * stay-net between core and its load balancers: frames of core of any content, time, and a load
 * balancer that answers anything, in pieces or not at all. Through the real link and a real loop; a
 * connection to a load balancer is one end of a socket pair.
 *
 * Every frame to core is well formed and printable, every request to a load balancer one bounded
 * line about the rows that core wants, and nothing stays open.
 * Options: -max_len=2048 -detect_leaks=0
 */
#define main stay_net_main
int stay_net_main(void);
#include "net/main.c"
#undef main
#include "net/lb/lb.h"
#include "no_harm.h"

#define OPS_MAX 48

int connect(int fd, const struct sockaddr *address, socklen_t size);

static int core_end = -1, lb_end = -1;
static uint64_t asked_number;
static uint16_t asked_lb;

/* Nobody is called: a load balancer is reached through NT_LB_SOCKET only. */
int connect(int fd, const struct sockaddr *address, socklen_t size)
{
	(void)fd, (void)address, (void)size;
	errno = ECONNREFUSED;
	return -1;
}

static void hear_core(void)
{
	struct nt_frame f;
	size_t n_fds = 0;
	while (recv_fds(core_end, &f, sizeof(f), NULL, &n_fds, MSG_DONTWAIT) == sizeof(f)) {
		assert(f.build == WIRE_BUILD && f.kind >= NT_PROBED && f.kind <= NT_LB_SAMPLE);
		assert(memchr(f.text, '\0', sizeof(f.text)));
		assert(memchr(f.server, '\0', sizeof(f.server)));
		assert(f.kind != NT_LB_STATUS || is_printable(f.text));
		assert(f.sample.state < LB_STATE_MAX && f.sample.check <= LB_CHECK_FAILED);
		if (f.kind == NT_LB_CONNECT) {
			asked_number = f.number;
			asked_lb = f.lb;
		}
	}
}

static void turns(void)
{
	for (int i = 0; i < 6 && !loop.is_done; i++) {
		probes_on_time(now_mono_us());
		lbs_on_time(now_mono_us());
		hear_core();
		if (loop_turn(&loop, 0) <= 0)
			break;
	}
	hear_core();
}

static void say(struct nt_frame *f, int fd)
{
	f->build = WIRE_BUILD;
	(void)send_fds(core_end, f, sizeof(*f), &fd, fd >= 0, MSG_DONTWAIT);
	fd_close(fd);
}

static void give_socket(void)
{
	struct nt_frame f = {.kind = NT_LB_SOCKET, .lb = asked_lb, .number = asked_number};
	int p[2];
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, p) < 0)
		abort();
	fd_close(lb_end);
	lb_end = p[1];
	say(&f, p[0]);
}

static void answer_lb(struct input *in, bool is_end)
{
	char request[LB_REQUEST_MAX + 1];
	size_t size = in_u16(in) % 1024;
	if (lb_end < 0)
		return;
	ssize_t n = recv(lb_end, request, sizeof(request), MSG_DONTWAIT);
	if (n > 0) {
		assert(n <= LB_REQUEST_MAX);
		const char *newline = memchr(request, '\n', (size_t)n);
		assert(newline == request + n - 1);
		assert(!memchr(request, '\0', (size_t)n));
	}
	size = MIN(size, in_left(in));
	if (size)
		(void)send(lb_end, in->p, size, MSG_DONTWAIT | MSG_NOSIGNAL);
	in->p += size;
	if (is_end)
		lb_end = fd_close(lb_end);
}

static void say_typical(struct input *in)
{
	static const char *const configs[] = {"haproxy\n@lb\nweb", "haproxy\n127.0.0.1:9\nweb",
		"haproxy\n/run/x.sock\nb", "nothing\n@x\ny", "haproxy\n@lb", "\n\n"};
	static const char *const servers[] = {"web1", "web2", "w;e", "", "web3"};
	static const char *const targets[] = {"http://127.0.0.1:1/", "tcp://[::1]:2", "unix:/x",
		"exec:x", "http://a b", "tcp://127.0.0.1:99999"};
	static const uint16_t kinds[] = {NT_LB, NT_LB_WANT, NT_LB_WANT, NT_LB_FORGET, NT_LB_FAST,
		NT_PROBE, NT_LB_REMOVE, NT_HELLO};
	struct nt_frame f = {.kind = kinds[in_u8(in) % ARRAY_SIZE(kinds)], .lb = in_u8(in) % 3};
	uint8_t what = in_u8(in);
	if (f.kind == NT_LB)
		str_copy(f.text, configs[what % ARRAY_SIZE(configs)], sizeof(f.text));
	if (f.kind == NT_PROBE)
		str_copy(f.text, targets[what % ARRAY_SIZE(targets)], sizeof(f.text));
	str_copy(f.server, servers[in_u8(in) % ARRAY_SIZE(servers)], sizeof(f.server));
	f.state = in_u8(in) % 4;
	f.weight = in_u8(in) % 110;
	f.port = in_u8(in) & 1 ? 80 : 0;
	if (f.port)
		str_copy(f.addr, in_u8(in) & 1 ? "127.0.0.1" : "::1", sizeof(f.addr));
	f.number = in_u16(in);
	f.timeout_us = in_u16(in);
	say(&f, -1);
}

static void say_anything(struct input *in)
{
	struct nt_frame f;
	size_t size = in_u8(in) & 7 ? sizeof(f) : in_u16(in) % sizeof(f);
	in_bytes(in, &f, sizeof(f));
	if (in_u8(in) & 3)
		f.build = WIRE_BUILD;
	(void)send_fds(core_end, &f, size, NULL, 0, MSG_DONTWAIT);
}

static void begin(void)
{
	static bool is_ready;
	int p[2];
	fake_now_us = 1000 * USEC_PER_SEC;
	if (!is_ready)
		be_quiet();
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, p) < 0 ||
		loop_init(&loop) < 0)
		abort();
	core_end = p[1];
	if (link_init(&link_core, &loop, p[0], on_frame) < 0)
		abort();
	lbs_init(&loop, &link_core);
	if (!is_ready && probes_init(&loop, &link_core) < 0)
		abort();
	is_ready = true;
}

static void end(void)
{
	int link = link_core.source.fd;
	probes_reset();
	lbs_reset();
	link_done(&link_core);
	fd_close(link);
	core_end = fd_close(core_end);
	lb_end = fd_close(lb_end);
	loop_done(&loop);
	loop.is_done = false;
	asked_number = 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = in_begin(data, size);
	begin();
	(void)start;
	for (int i = 0; i < OPS_MAX && in_left(&in) && !loop.is_done; i++) {
		uint8_t what = in_u8(&in);
		switch (what % 8) {
		case 0:
		case 1:
		case 2:
			say_typical(&in);
			break;
		case 3:
			give_socket();
			break;
		case 4:
		case 5:
			answer_lb(&in, what & 8);
			break;
		case 6:
			fake_now_us += (uint64_t)in_u8(&in) * 20 * USEC_PER_MSEC;
			break;
		default:
			say_anything(&in);
			break;
		}
		turns();
	}
	end();
	return 0;
}
