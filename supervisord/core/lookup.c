/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Users and groups that only the name service knows: asked of getent(1), which the launcher starts.
 *
 * Core itself may not start programs (confine/calls.def), and what NSS modules do is nobody's list.
 * The question goes the way plans go, with the write end of a pipe; its end is the answer, so the
 * launcher has nothing to say, and a launcher that dies has answered too.
 *
 * Called through launch_getent_by() by launch_image_new(), which waits for at most two seconds.
 */
#include "core/inner.h"

#include <poll.h>
#include <sys/socket.h>

#define ROOM_WAIT_MS 1000 /* for the launcher to read: it is busy with a storm of starts */

int core_getent(void *arg, const char *database, const char *name, int fd)
{
	struct core *c = arg;
	struct buf b = {0};
	struct pollfd p = {.fd = c->launcher_fd, .events = POLLOUT};
	struct ln_head head = {.build = WIRE_BUILD, .flags = LN_LOOKUP | LN_HAS_STDOUT};
	if (c->launcher_fd < 0)
		return -ENOTCONN;
	head.plan_size = (uint32_t)(strlen(database) + strlen(name) + 2);
	buf_add(&b, &head, sizeof(head));
	buf_add(&b, database, strlen(database) + 1);
	buf_add(&b, name, strlen(name) + 1);
	ssize_t r = send_fds(c->launcher_fd, b.data, b.size, &fd, 1, MSG_DONTWAIT);
	if (r == -EAGAIN && poll(&p, 1, ROOM_WAIT_MS) == 1)
		r = send_fds(c->launcher_fd, b.data, b.size, &fd, 1, MSG_DONTWAIT);
	buf_done(&b);
	return r < 0 ? (int)r : 0;
}
