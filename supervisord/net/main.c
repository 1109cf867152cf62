/* SPDX-License-Identifier: Apache-2.0 */
/*
 * stay-net: probes services and talks to load balancers, so that no privileged process of stayd
 * parses anything from the network.
 *
 * Descriptor 3 is the link to keeper (its end means: leave), 4 the link to core. It keeps no state:
 * NT_HELLO forgets everything, and a core that finds it gone has a new one started and tells it all
 * again. What runs when is decided by three times only: libcurl's, each load balancer's next
 * round, and none; with nothing to do it sleeps.
 */
#include "net/net.h"

#include <linux/close_range.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>

static struct loop loop;
static struct link link_core;
static struct source link_keeper;

static void on_keeper(struct source *s, uint32_t epoll_events)
{
	char frame[sizeof(struct kp_frame)];
	(void)epoll_events;
	ssize_t n = recv(s->fd, frame, sizeof(frame), MSG_DONTWAIT);
	if (n > 0 || (n < 0 && (errno == EAGAIN || errno == EINTR)))
		return; /* keeper tells roles nothing; what it may say one day is not for us */
	loop.is_done = true;
	loop.exit_code = 0;
}

static void on_frame(struct link *l, const struct nt_frame *f, int fd)
{
	(void)l;
	if (f->kind == NT_LB_SOCKET) {
		lb_socket(f->lb, f->number, f->error, fd);
		return;
	}
	fd_close(fd);
	switch ((enum nt_kind)f->kind) {
	case NT_HELLO:
		probes_reset();
		lbs_reset();
		break;
	case NT_PROBE:
		probe_start(f->number, f->timeout_us, f->text);
		break;
	case NT_LB:
		lb_configure(f->lb, f->text);
		break;
	case NT_LB_REMOVE:
		lb_remove(f->lb);
		break;
	case NT_LB_WANT:
		lb_want(f);
		break;
	case NT_LB_FORGET:
		lb_forget(f->lb, f->server);
		break;
	case NT_LB_FAST:
		lb_fast(f->lb, f->number);
		break;
	case NT_LB_SOCKET:
	case NT_PROBED:
	case NT_LB_CONNECT:
	case NT_LB_STATUS:
	case NT_LB_SAMPLE:
		assert(!"refused by frame_check()");
	}
}

static void on_timer(struct loop *l)
{
	uint64_t now = now_mono_us();
	(void)l;
	probes_on_time(now);
	lbs_on_time(now);
}

static int run(void)
{
	while (!loop.is_done) {
		/* After every turn: frames may have made something due at once. */
		loop_arm(&loop, MIN(probes_next_us(), lbs_next_us()));
		int r = loop_turn(&loop, -1);
		if (r < 0)
			return r;
	}
	return loop.exit_code;
}

static int start(struct err *e)
{
	int r = loop_init(&loop);
	if (r < 0)
		return err_set(e, r, "event loop: %s", errno_name(r));
	loop.on_timer = on_timer;
	r = fd_set_nonblock(ROLE_KEEPER_FD, true);
	if (r == 0)
		r = loop_add(&loop, &link_keeper, ROLE_KEEPER_FD, EPOLLIN, PRIO_KEEPER, on_keeper);
	if (r == 0)
		r = link_init(&link_core, &loop, ROLE_CORE_FD, on_frame);
	if (r < 0)
		return err_set(e, r,
			"no links at descriptors %d and %d (%s): this program is "
			"started by stayd",
			ROLE_KEEPER_FD, ROLE_CORE_FD, errno_name(r));
	r = net_confine(e);
	if (r < 0)
		return r;
	lbs_init(&loop, &link_core);
	r = probes_init(&loop, &link_core);
	return r < 0 ? err_set(e, r, "libcurl: %s", errno_name(r)) : 0;
}

int main(void)
{
	struct err e = {0};
	log_open("stay-net", LOG_INFORM);
	(void)prctl(PR_SET_NAME, "stay-net");
	(void)syscall(SYS_close_range, ROLE_CORE_FD + 1, ~0U, 0);
	(void)signal(SIGPIPE, SIG_IGN);
	if (start(&e) < 0) {
		log_error(NULL, "%s", e.text);
		return EXIT_FAILURE;
	}
	int r = run();
	probes_reset();
	lbs_reset();
	link_done(&link_core);
	http_done();
	loop_done(&loop);
	return r < 0 ? EXIT_FAILURE : r;
}
