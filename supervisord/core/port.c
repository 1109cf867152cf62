/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Ports of replica sets: the lowest port of the set's pool that no member of any set has and that
 * can be bound now. Pools may overlap, and who was given a port binds it some time later. A member
 * keeps its port for as long as it is free at its next start, so that a load balancer's row changes
 * as seldom as possible.
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

struct owner {
	char port[8];
	struct unit *unit;
};

static struct owner *owner_of(const struct core *c, uint16_t port)
{
	char key[8];
	snprintf(key, sizeof(key), "%u", port);
	return map_get(&c->port_owners, key);
}

/* Who was given a port last, and is not down, has it: nobody else was given it meanwhile. */
static bool is_of_another(const struct core *c, const struct unit *u, uint16_t port)
{
	const struct owner *o = owner_of(c, port);
	return o && o->unit != u && o->unit->rec.port == port && !unit_is_down(o->unit);
}

static void give(struct core *c, struct unit *u, uint16_t port)
{
	struct owner *o = owner_of(c, port);
	if (!o) {
		o = xcalloc(1, sizeof(*o));
		snprintf(o->port, sizeof(o->port), "%u", port);
		(void)map_put(&c->port_owners, o->port, o);
	}
	o->unit = u;
	if (u->rec.port == port)
		return;
	world_set_port(c->world, u, port);
	record_write_dirty(c);
}

void port_owners_begin(struct core *c)
{
	for (size_t i = 0; i < c->world->n_units; i++) {
		struct unit *u = c->world->units[i];
		if (u->rec.port && !unit_is_down(u))
			give(c, u, u->rec.port);
	}
}

static bool can_have(const struct core *c, const struct unit *u, uint16_t port)
{
	return !is_of_another(c, u, port) && port_is_free(port);
}

int port_allocate(struct core *c, struct unit *u)
{
	const struct replicas_conf *r = &u->conf->replicas;
	uint16_t own = u->rec.port;
	if (!r->port_first)
		return 0;
	/* Another process of this activation has the port already. */
	if (own && u->rec.main_pid)
		return 0;
	unsigned port = r->port_first;
	if (own >= r->port_first && own <= r->port_last && can_have(c, u, own))
		port = own;
	else
		while (port <= r->port_last && !can_have(c, u, (uint16_t)port))
			port++;
	if (port > r->port_last)
		return -EADDRINUSE;
	give(c, u, (uint16_t)port);
	return 0;
}
