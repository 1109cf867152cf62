/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What only another program can answer, which the launcher starts: core itself may not
 * (confine/calls.def). Users and groups that only the name service knows, asked of getent(1), as
 * what NSS modules do is nobody's list; and whether a program can take over from this one.
 *
 * The question goes the way plans go, with the write end of a pipe; its end is the answer, so the
 * launcher has nothing to say, and a launcher that dies has answered too.
 *
 * What takes time goes there as well: directories with more files than core may wait for.
 *
 * Called by reexec.c, and through launch_getent_by() by launch_image_new(), which waits for at most
 * two seconds; through launch_remove_by() by launch_cleanup_dirs(), which does not wait.
 */
#include "core/inner.h"

#include <poll.h>
#include <sys/socket.h>

#define ROOM_WAIT_MS 1000 /* for the launcher to read: it is busy with a storm of starts */

int launcher_ask(
	struct core *c, uint32_t flags, const void *text, size_t size, const int *fds, size_t n_fds)
{
	struct buf b = {0};
	struct pollfd p = {.fd = c->launcher_fd, .events = POLLOUT};
	struct ln_head head = {.build = WIRE_BUILD,
		.flags = flags | LN_HAS_STDOUT,
		.plan_size = (uint32_t)size,
		.n_pass_fds = (uint32_t)n_fds - 1};
	if (c->launcher_fd < 0)
		return -ENOTCONN;
	buf_add(&b, &head, sizeof(head));
	buf_add(&b, text, size);
	ssize_t r = send_fds(c->launcher_fd, b.data, b.size, fds, n_fds, MSG_DONTWAIT);
	if (r == -EAGAIN && poll(&p, 1, ROOM_WAIT_MS) == 1)
		r = send_fds(c->launcher_fd, b.data, b.size, fds, n_fds, MSG_DONTWAIT);
	buf_done(&b);
	return r < 0 ? (int)r : 0;
}

int core_getent(void *arg, const char *database, const char *name, int fd)
{
	struct buf b = {0};
	buf_add(&b, database, strlen(database) + 1);
	buf_add(&b, name, strlen(name) + 1);
	int r = launcher_ask(arg, LN_LOOKUP, b.data, b.size, &fd, 1);
	buf_done(&b);
	return r;
}

/* At the end the launcher goes before it has read it: then there is nothing left to wait for core. */
int core_remove(void *arg, int dir, const char *name)
{
	const struct core *c = arg;
	if (c->world->is_shutting_down)
		return -ESHUTDOWN;
	return launcher_ask(arg, LN_REMOVE, name, strlen(name) + 1, &dir, 1);
}
