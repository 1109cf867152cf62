/* SPDX-License-Identifier: Apache-2.0 */
#include <sys/epoll.h>
#include <sys/socket.h>

#include "base/base.h"
#include "check_main.h"

#define N 4

static struct loop loop;
static struct source sources[N];
static int ends[N][2];
static char order[64];

static void note(struct source *s, uint32_t events UNUSED)
{
	size_t n = strlen(order);
	order[n] = (char)('a' + (s - sources));
	order[n + 1] = '\0';
}

static void begin(int priority)
{
	ck_assert_int_eq(loop_init(&loop), 0);
	order[0] = '\0';
	for (int i = 0; i < N; i++) {
		ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, ends[i]), 0);
		ck_assert_int_eq(
			loop_add(&loop, &sources[i], ends[i][0], EPOLLIN, priority, note), 0);
	}
}

static void end(void)
{
	for (int i = 0; i < N; i++) {
		loop_remove(&loop, &sources[i]);
		fd_close(ends[i][0]);
		fd_close(ends[i][1]);
	}
	loop_done(&loop);
}

static void make_ready(int i)
{
	ck_assert_int_eq(write(ends[i][1], "x", 1), 1);
}

/* Nobody reads, so all are ready in every turn. */
START_TEST(clients_take_turns_at_being_first)
{
	bool was_first[N] = {false};
	begin(PRIO_CONTROL);
	for (int i = 0; i < N; i++)
		make_ready(i);
	for (int turn = 0; turn < N; turn++) {
		order[0] = '\0';
		ck_assert_int_eq(loop_turn(&loop, 0), N);
		ck_assert_uint_eq(strlen(order), N);
		was_first[order[0] - 'a'] = true;
	}
	for (int i = 0; i < N; i++)
		ck_assert(was_first[i]);
	end();
}
END_TEST

START_TEST(others_keep_the_order_in_which_they_came)
{
	begin(PRIO_NORMAL);
	for (int i = N; i-- > 0;)
		make_ready(i);
	for (int turn = 0; turn < N; turn++) {
		order[0] = '\0';
		ck_assert_int_eq(loop_turn(&loop, 0), N);
		ck_assert_str_eq(order, "dcba");
	}
	end();
}
END_TEST

START_TEST(what_is_urgent_is_seen_before_the_turn_ends)
{
	begin(PRIO_KEEPER);
	loop_urgent(&loop, &sources[1]);
	make_ready(0);
	ck_assert(!loop_is_urgent(&loop));
	make_ready(1);
	ck_assert(loop_is_urgent(&loop));
	loop_remove(&loop, &sources[1]);
	ck_assert(!loop_is_urgent(&loop));
	end();
}
END_TEST

START_TEST(a_share_is_used_up_and_leaks_away)
{
	struct share_size size = {.percent = 10, .max_us = 1000};
	struct share s = {0};
	ck_assert_uint_eq(share_wait_until(&s, size), 0);
	share_charge(&s, size, 900);
	ck_assert_uint_eq(share_wait_until(&s, size), 0);
	share_charge(&s, size, 1000000);
	uint64_t now = now_mono_us(), until = share_wait_until(&s, size);
	/* 1000.9 ms less 0.5 ms at a tenth: some ten seconds, whatever this test took */
	ck_assert_uint_ge(until, now + 9 * USEC_PER_SEC);
	ck_assert_uint_le(until, now + 11 * USEC_PER_SEC);
	s.at_us -= 6 * USEC_PER_SEC; /* as if so long had gone by */
	ck_assert_uint_le(share_wait_until(&s, size), until - 5 * USEC_PER_SEC);
	s.at_us -= 6 * USEC_PER_SEC;
	ck_assert_uint_eq(share_wait_until(&s, size), 0);
}
END_TEST

Suite *suite(void)
{
	Suite *s = suite_create("loop");
	TCase *t = tcase_create("loop");
	tcase_add_test(t, clients_take_turns_at_being_first);
	tcase_add_test(t, others_keep_the_order_in_which_they_came);
	tcase_add_test(t, what_is_urgent_is_seen_before_the_turn_ends);
	tcase_add_test(t, a_share_is_used_up_and_leaks_away);
	suite_add_tcase(s, t);
	return s;
}
