/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Core's side of the link to stay-net: probes out, answers in; the desired table of the load
 * balancers out, samples of what they say in.
 *
 *  1. The table is said again, whole, to every new stay-net: it may die at any time.
 *  2. A probe that cannot be sent is answered as failed, so the model always gets its answer.
 *  3. Unix sockets of load balancers are opened here, where the privilege is, and handed over:
 *     stay-net parses what comes back.
 *  4. A set's load balancers are those of its committed revision. What a rollout's revision has beside
 *     them is there from its beginning; another one in the place of one takes it at the commit:
 *     members of before are behind the old one until then. One that nobody names any more (the
 *     rollout was rolled back) is dropped; who names it again has it configured again.
 */
#include "core/conns.h"
#include "core/inner.h"

#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>

#define NET_BATCH 64

static int send_frame(struct core *c, struct nt_frame *f, int fd)
{
	f->build = WIRE_BUILD;
	if (c->net_fd < 0)
		return -ENOTCONN;
	ssize_t n = send_fds(c->net_fd, f, sizeof(*f), &fd, fd >= 0 ? 1 : 0, MSG_DONTWAIT);
	return n < 0 ? (int)n : 0;
}

static void want_net(struct core *c)
{
	if (c->net_wanted)
		return;
	c->net_wanted = true;
	keeper_role(c, ROLE_NET, true);
}

/* ---- what it says --------------------------------------------------------------------------------- */

static struct set *set_of_lb(const struct core *c, uint16_t lb, unsigned *ret_index)
{
	for (size_t i = 0; i < c->world->n_sets; i++) {
		struct set *s = c->world->sets[i];
		if (s->n_lbs && lb >= sc(s)->lb_base && lb < sc(s)->lb_base + s->n_lbs) {
			*ret_index = lb - sc(s)->lb_base;
			return s;
		}
	}
	return NULL;
}

/* Who says where load balancer i of the set is (invariant 4); NULL: there is none. */
static const struct lb_conf *lb_conf_of(const struct set *s, unsigned i)
{
	const struct lb_conf *conf = &sc(s)->conf->lb;
	if (conf->is_set && i < conf->address.n)
		return conf;
	for (unsigned k = 0; i < SET_LBS_MAX && k < SET_MEMBERS_MAX; k++) {
		const struct unit *u = s->members[k];
		bool is_one = u && (k < s->count || rollout_is_active(s) || !unit_is_down(u));
		if (is_one && u->conf->lb.is_set && i < u->conf->lb.address.n)
			return &u->conf->lb;
		if (u && u->next_conf && rollout_is_active(s) && u->next_conf->lb.is_set &&
			i < u->next_conf->lb.address.n)
			return &u->next_conf->lb;
	}
	return NULL;
}

/* We open it with privileges that stay-net does not have: only what the unit files name as that load
 * balancer's address, or whoever takes stay-net over could have any socket of the host. */
static bool is_address_of_lb(const struct core *c, const struct nt_frame *q)
{
	unsigned index;
	const struct set *s = set_of_lb(c, q->lb, &index);
	const struct lb_conf *conf = s ? lb_conf_of(s, index) : NULL;
	return conf && streq(conf->address.v[index], q->text);
}

static void connect_for(struct core *c, const struct nt_frame *q)
{
	struct nt_frame a = {.kind = NT_LB_SOCKET, .lb = q->lb, .number = q->number};
	struct sockaddr_un addr;
	unsigned len;
	CLEANUP_CLOSE int fd = -1;
	a.error = is_address_of_lb(c, q) ? -unix_addr(q->text, &addr, &len) : EPERM;
	if (!a.error) {
		fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
		/* A full backlog answers EAGAIN at once on Unix sockets: stay-net tries again. */
		if (fd < 0 || connect(fd, (struct sockaddr *)&addr, len) < 0)
			a.error = errno;
	}
	send_frame(c, &a, a.error ? -1 : fd);
}

static void row_key(char out[160], uint16_t lb, const char *server)
{
	snprintf(out, 160, "%u/%s", lb, server);
}

static void sample_received(struct core *c, const struct nt_frame *f)
{
	char key[160];
	row_key(key, f->lb, f->server);
	struct lb_row *row = map_get(&c->lb_rows, key);
	if (!row)
		return;
	struct lb_sample sample = f->sample;
	struct unit *u = row->unit;
	/* About to be stopped: the last word is the kernel's (model/lb.c, invariant 2). */
	if (u->rec.lb_phase == LBP_LEAVING && u->rec.port && sample.in_sync && !sample.sessions)
		sample.sessions = conns_owing(u->rec.port);
	struct event ev = {.kind = EV_LB_SAMPLE, .unit = u, .lb = row->lb_index, .sample = &sample};
	core_step(c, &ev);
}

static void status_received(struct core *c, const struct nt_frame *f)
{
	struct event ev = {
		.kind = EV_LB_STATUS, .ok = f->reachable, .number = f->generation, .text = f->text};
	ev.set = set_of_lb(c, f->lb, &ev.lb);
	if (ev.set)
		core_step(c, &ev);
}

static void probed(struct core *c, const struct nt_frame *f)
{
	uint32_t unit_id = (uint32_t)(f->number >> 40);
	enum check_kind check = (enum check_kind)((f->number >> 36) & 15);
	if (unit_id >= c->world->n_units || check >= CHECK_KIND_MAX)
		return;
	struct unit *u = c->world->units[unit_id];
	struct event ev = {.kind = EV_PROBED,
		.unit = u,
		.check = check,
		.ok = f->ok,
		.latency_us = f->latency_us,
		.text = f->text};
	/* The low 36 bits are enough to tell a stale answer from the one that is waited for. */
	uint64_t waited = u->health[check].number;
	ev.number = (waited & ((1ULL << 36) - 1)) == (f->number & ((1ULL << 36) - 1)) ? waited : 0;
	core_step(c, &ev);
}

/* Without stay-net nobody looks at the load balancers: what they said last counts no more, and
 * the next one numbers its samples anew. */
static void say_unreachable(struct core *c)
{
	for (size_t i = 0; i < c->world->n_sets; i++)
		for (unsigned lb = 0; lb < c->world->sets[i]->n_lbs; lb++) {
			struct event ev = {.kind = EV_LB_STATUS,
				.set = c->world->sets[i],
				.lb = lb,
				.text = "stay-net is being restarted"};
			core_step(c, &ev);
		}
}

static void on_net(struct source *s, uint32_t events)
{
	struct core *c = container_of(s, struct core, net_source);
	(void)events;
	for (int i = 0; i < NET_BATCH; i++) {
		struct nt_frame f;
		size_t n_fds = 0;
		ssize_t n = recv_fds(c->net_fd, &f, sizeof(f), NULL, &n_fds, MSG_DONTWAIT);
		if (n == -EAGAIN)
			return;
		if (n != sizeof(f) || f.build != WIRE_BUILD) {
			loop_remove(&c->loop, &c->net_source);
			c->net_fd = fd_close(c->net_fd);
			say_unreachable(c);
			return;
		}
		f.text[sizeof(f.text) - 1] = f.server[sizeof(f.server) - 1] = '\0';
		str_make_printable(f.text);
		switch (f.kind) {
		case NT_PROBED:
			probed(c, &f);
			break;
		case NT_LB_CONNECT:
			connect_for(c, &f);
			break;
		case NT_LB_STATUS:
			status_received(c, &f);
			break;
		case NT_LB_SAMPLE:
			sample_received(c, &f);
			break;
		default:
			break;
		}
	}
}

/* ---- what it is told ---------------------------------------------------------------------------------- */

static void say_set(struct core *c, struct set *s)
{
	for (unsigned i = 0; i < s->n_lbs; i++) {
		const struct lb_conf *conf = lb_conf_of(s, i);
		struct nt_frame f = {.kind = NT_LB, .lb = (uint16_t)(sc(s)->lb_base + i)};
		if (conf)
			snprintf(f.text, sizeof(f.text), "%s\n%s\n%s", strna(conf->driver),
				conf->address.v[i], strna(conf->backend));
		else
			f.kind = NT_LB_REMOVE; /* the settings have fewer than there were */
		send_frame(c, &f, -1);
	}
}

void net_connected(struct core *c, int fd)
{
	struct nt_frame hello = {.kind = NT_HELLO};
	size_t pos = 0;
	void *v;
	loop_remove(&c->loop, &c->net_source);
	fd_close(c->net_fd);
	c->net_fd = fd;
	c->net_wanted = true;
	loop_add(&c->loop, &c->net_source, fd, EPOLLIN, PRIO_NORMAL, on_net);
	send_frame(c, &hello, -1);
	if (!c->world)
		return;
	for (size_t i = 0; i < c->world->n_sets; i++)
		say_set(c, c->world->sets[i]);
	while (map_next(&c->lb_rows, &pos, NULL, &v))
		send_frame(c, &((struct lb_row *)v)->want, -1);
	/* Probes that the old one had not answered never will be. */
	for (size_t i = 0; i < c->world->n_units; i++) {
		struct unit *u = c->world->units[i];
		for (int k = 0; k < CHECK_KIND_MAX; k++) {
			const char *target = u->conf->health[k].target;
			if (!u->health[k].is_waiting || !target || startswith(target, "exec:"))
				continue;
			net_probe(c, u, (enum check_kind)k, u->health[k].number,
				u->conf->health[k].timeout_us, target);
		}
	}
}

static unsigned count_of_lbs(const struct set *s)
{
	unsigned n = 0;
	while (n < SET_LBS_MAX && lb_conf_of(s, n))
		n++;
	return n;
}

static struct lb_row *row_beyond(const struct core *c, const struct set *s, unsigned n)
{
	size_t pos = 0;
	void *v;
	while (map_next(&c->lb_rows, &pos, NULL, &v)) {
		struct lb_row *row = v;
		if (row->want.lb >= sc(s)->lb_base + n &&
			row->want.lb < sc(s)->lb_base + SET_LBS_MAX)
			return row;
	}
	return NULL;
}

/* Behind say_set(), which told stay-net to forget them with their rows. */
static void drop_lbs(struct core *c, struct set *s, unsigned n)
{
	struct lb_row *row;
	while ((row = row_beyond(c, s, n)))
		free(map_del(&c->lb_rows, row->key));
	world_drop_lbs(s, n);
}

/* The set's load balancers as its conf says now. To one that is new the rows are said. */
void net_set_configure(struct core *c, struct set *s)
{
	unsigned n = count_of_lbs(s);
	if (!n && !sc(s)->has_lb_base)
		return;
	if (!sc(s)->has_lb_base) {
		sc(s)->has_lb_base = true;
		sc(s)->lb_base = c->next_lb;
		c->next_lb += SET_LBS_MAX;
	}
	s->n_lbs = MAX(s->n_lbs, n);
	want_net(c);
	say_set(c, s);
	drop_lbs(c, s, n);
	sc(s)->n_lbs_said = n;
	for (unsigned i = 0; i < SET_MEMBERS_MAX; i++) {
		struct unit *u = s->members[i];
		if (u && u->lb && u->rec.lb_phase != LBP_NONE && u->lb->wanted < LB_STATE_MAX)
			net_lb_want(c, u, u->lb->wanted, u->lb->weight);
	}
}

void net_probe(struct core *c, struct unit *u, enum check_kind check, uint64_t number,
	uint64_t timeout_us, const char *target)
{
	if (startswith(target, "exec:")) {
		launcher_probe(c, u, check, number, timeout_us);
		return;
	}
	want_net(c);
	CLEANUP_FREE char *expanded = expand_variables(c, u, target);
	struct nt_frame f = {.kind = NT_PROBE,
		.number = (uint64_t)u->id << 40 | (uint64_t)check << 36 |
			  (number & ((1ULL << 36) - 1)),
		.timeout_us = timeout_us};
	str_copy(f.text, expanded, sizeof(f.text));
	int r = send_frame(c, &f, -1);
	if (r < 0 && r != -ENOTCONN && r != -EPIPE && r != -ECONNRESET) {
		struct event ev = {.kind = EV_PROBED,
			.unit = u,
			.check = check,
			.number = number,
			.text = "stay-net is not listening"};
		core_step(c, &ev);
	}
	/* Not connected: it is being (re)started and is asked again then (net_connected). */
}

static const char *server_name(const struct unit *u)
{
	return u->conf->lb.server ? u->conf->lb.server : u->conf->prefix;
}

void net_lb_want(struct core *c, struct unit *u, enum lb_state state, unsigned weight)
{
	struct set *s = u->set;
	if (s && sc(s)->n_lbs_said < count_of_lbs(s))
		net_set_configure(c, s);
	/* No other than its own conf has: on those its drain would not be waited for. */
	for (unsigned i = 0; s && i < MIN((size_t)s->n_lbs, u->conf->lb.address.n); i++) {
		char key[160];
		uint16_t lb = (uint16_t)(sc(s)->lb_base + i);
		if (i >= sc(s)->n_lbs_said)
			break; /* dropped, and u is no member that could name it */
		row_key(key, lb, server_name(u));
		struct lb_row *row = map_get(&c->lb_rows, key);
		if (!row) {
			row = xcalloc(1, sizeof(*row));
			str_copy(row->key, key, sizeof(row->key));
			map_put(&c->lb_rows, row->key, row);
		}
		row->unit = u;
		row->lb_index = i;
		row->want = (struct nt_frame){.kind = NT_LB_WANT,
			.lb = lb,
			.state = state,
			.weight = weight,
			.port = u->rec.port};
		str_copy(row->want.server, server_name(u), sizeof(row->want.server));
		/* Without $PORT the address in the load balancer's own configuration stands. */
		if (u->rec.port)
			str_copy(row->want.addr, u->conf->lb.host ? u->conf->lb.host : "127.0.0.1",
				sizeof(row->want.addr));
		send_frame(c, &row->want, -1);
	}
}

void net_lb_forget(struct core *c, struct unit *u)
{
	struct set *s = u->set;
	for (unsigned i = 0; s && i < s->n_lbs; i++) {
		char key[160];
		uint16_t lb = (uint16_t)(sc(s)->lb_base + i);
		row_key(key, lb, server_name(u));
		struct lb_row *row = map_del(&c->lb_rows, key);
		if (!row)
			continue;
		struct nt_frame f = {.kind = NT_LB_FORGET, .lb = lb};
		str_copy(f.server, server_name(u), sizeof(f.server));
		send_frame(c, &f, -1);
		free(row);
	}
}

void net_lb_fast(struct core *c, struct set *s, uint64_t for_ms)
{
	for (unsigned i = 0; i < s->n_lbs; i++) {
		struct nt_frame f = {
			.kind = NT_LB_FAST, .lb = (uint16_t)(sc(s)->lb_base + i), .number = for_ms};
		send_frame(c, &f, -1);
	}
}
