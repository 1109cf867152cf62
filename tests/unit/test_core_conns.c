/* SPDX-License-Identifier: Apache-2.0 */
/* The kernel's word on connections: who owes an answer (core/conns.c), with real sockets. */
#include "core/conns.h"

#include <arpa/inet.h>
#include <check.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

Suite *suite(void);

struct pair {
	int listener, client, server;
	uint16_t port;
};

/* Two things in one tick of the kernel's clock look the same, and only for a second: see conns.c. */
static void next_tick(void)
{
	poll(NULL, 0, 30);
}

static struct pair connect_pair(void)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t size = sizeof(a);
	struct pair p;

	p.listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	ck_assert_int_eq(bind(p.listener, (struct sockaddr *)&a, size), 0);
	ck_assert_int_eq(listen(p.listener, 8), 0);
	ck_assert_int_eq(getsockname(p.listener, (struct sockaddr *)&a, &size), 0);
	p.port = ntohs(a.sin_port);
	p.client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	ck_assert_int_eq(connect(p.client, (struct sockaddr *)&a, size), 0);
	p.server = accept(p.listener, NULL, NULL);
	ck_assert_int_ge(p.server, 0);
	next_tick();
	return p;
}

static void say(int from, int to)
{
	char c = 'x';
	struct pollfd f = {.fd = to, .events = POLLIN};
	ck_assert_int_eq(write(from, &c, 1), 1);
	ck_assert_int_eq(poll(&f, 1, 10000), 1);
	ck_assert_int_eq(read(to, &c, 1), 1);
}

static void close_pair(struct pair *p)
{
	close(p->client);
	close(p->server);
	close(p->listener);
}

/* Until the clock of the kernel tells in from out; 1 s at most, see conns.c. */
static unsigned settles_at(const struct pair *p, unsigned wanted)
{
	uint64_t end = now_mono_us() + 30 * USEC_PER_SEC;
	unsigned n;
	do {
		n = conns_owing(p->port);
	} while (n != wanted && now_mono_us() < end && poll(NULL, 0, 5) == 0);
	return n;
}

START_TEST(connection_that_was_never_used_owes_nothing)
{
	struct pair p = connect_pair();
	ck_assert_uint_eq(conns_owing(p.port), 0);
	close_pair(&p);
}
END_TEST

START_TEST(request_owes_an_answer_until_it_was_given)
{
	struct pair p = connect_pair();
	char c = 'q';
	ck_assert_int_eq(write(p.client, &c, 1), 1);
	ck_assert_uint_eq(settles_at(&p, 1), 1); /* not even read */
	ck_assert_int_eq(read(p.server, &c, 1), 1);
	ck_assert_uint_eq(conns_owing(p.port), 1);
	say(p.server, p.client);
	ck_assert_uint_eq(settles_at(&p, 0), 0);
	next_tick();
	say(p.client, p.server);
	ck_assert_uint_eq(conns_owing(p.port), 1);
	close_pair(&p);
}
END_TEST

START_TEST(connections_of_other_ports_do_not_count)
{
	struct pair p = connect_pair(), q = connect_pair();
	say(q.client, q.server);
	ck_assert_uint_eq(conns_owing(p.port), 0);
	ck_assert_uint_eq(conns_owing(q.port), 1);
	close_pair(&p);
	close_pair(&q);
}
END_TEST

START_TEST(connection_that_the_client_has_closed_owes_nothing)
{
	struct pair p = connect_pair();
	say(p.client, p.server);
	shutdown(p.client, SHUT_WR);
	ck_assert_uint_eq(settles_at(&p, 0), 0);
	close_pair(&p);
}
END_TEST

Suite *suite(void)
{
	Suite *s = suite_create("conns");
	TCase *c = tcase_create("conns");
	tcase_add_test(c, connection_that_was_never_used_owes_nothing);
	tcase_add_test(c, request_owes_an_answer_until_it_was_given);
	tcase_add_test(c, connections_of_other_ports_do_not_count);
	tcase_add_test(c, connection_that_the_client_has_closed_owes_nothing);
	suite_add_tcase(s, c);
	return s;
}
