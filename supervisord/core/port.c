/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Ports of replica sets: the lowest port of the set's pool that no member has and that can be
 * bound now. A member keeps its port for as long as it is free at its next start, so that a load
 * balancer's row changes as seldom as possible.
 */
#include "core/inner.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

/* SO_REUSEADDR lets us look past connections in TIME_WAIT; a listener still answers EADDRINUSE. */
static bool port_is_free(uint16_t port)
{
	CLEANUP_CLOSE int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int one = 1;
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port)};
	if (fd < 0)
		return true;
	(void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	return bind(fd, (struct sockaddr *)&a, sizeof(a)) == 0 && listen(fd, 1) == 0;
}

static bool port_is_taken(const struct unit *u, uint16_t port)
{
	for (unsigned i = 0; u->set && i < SET_MEMBERS_MAX; i++) {
		const struct unit *m = u->set->members[i];
		if (m && m != u && m->rec.port == port && !unit_is_down(m))
			return true;
	}
	return false;
}

int port_allocate(struct core *c, struct unit *u)
{
	const struct replicas_conf *r = &u->conf->replicas;
	if (!r->port_first)
		return 0;
	/* Another process of this activation has the port already. */
	if (u->rec.port && u->rec.main_pid)
		return 0;
	if (u->rec.port >= r->port_first && u->rec.port <= r->port_last &&
		!port_is_taken(u, u->rec.port) && port_is_free(u->rec.port))
		return 0;
	for (unsigned port = r->port_first; port <= r->port_last; port++) {
		if (port_is_taken(u, (uint16_t)port) || !port_is_free((uint16_t)port))
			continue;
		world_set_port(c->world, u, (uint16_t)port);
		record_write_dirty(c);
		return 0;
	}
	return -EADDRINUSE;
}
