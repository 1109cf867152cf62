/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Ports of replica sets: the lowest port of the set's pool that no member of any set has and that
 * can be bound now: pools may overlap, and who was given a port binds it some time later. A member keeps its port for as long as it is free at its next start, so that a load
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

struct ports {
	uint8_t bits[(UINT16_MAX + 1) / 8];
};

static struct ports ports_of_others(const struct core *c, const struct unit *u)
{
	struct ports taken = {{0}};
	for (size_t i = 0; i < c->world->n_units; i++) {
		const struct unit *m = c->world->units[i];
		if (m != u && m->rec.port && !unit_is_down(m))
			taken.bits[m->rec.port / 8] |= (uint8_t)(1U << m->rec.port % 8);
	}
	return taken;
}

static bool can_have(const struct ports *taken, uint16_t port)
{
	return !(taken->bits[port / 8] >> port % 8 & 1) && port_is_free(port);
}

int port_allocate(struct core *c, struct unit *u)
{
	const struct replicas_conf *r = &u->conf->replicas;
	if (!r->port_first)
		return 0;
	/* Another process of this activation has the port already. */
	if (u->rec.port && u->rec.main_pid)
		return 0;
	struct ports taken = ports_of_others(c, u);
	if (u->rec.port >= r->port_first && u->rec.port <= r->port_last &&
		can_have(&taken, u->rec.port))
		return 0;
	for (unsigned port = r->port_first; port <= r->port_last; port++) {
		if (!can_have(&taken, (uint16_t)port))
			continue;
		world_set_port(c->world, u, (uint16_t)port);
		record_write_dirty(c);
		return 0;
	}
	return -EADDRINUSE;
}
