/* SPDX-License-Identifier: Apache-2.0 */
/* keeper/table.c: children by pid and by id, the queue, deposits, orphans, saving. */
#include <fcntl.h>
#include <sys/mman.h>

#include "keeper/private.h"
#include "unit/check_main.h"

static struct spawn_id id_of(uint32_t n)
{
	struct spawn_id id = {.seq = n};
	memcpy(id.invocation, &n, sizeof(n));
	return id;
}

static struct row *child(uint32_t n, pid_t pid)
{
	struct spawn_id id = id_of(n);
	return row_new(ROW_CHILD, &id, pid, 0);
}

START_TEST(a_row_is_found_by_pid_while_alive_and_by_id_until_freed)
{
	struct spawn_id id = id_of(1);
	struct row *r = child(1, 4242);
	ck_assert_ptr_eq(row_of_pid(4242), r);
	ck_assert_ptr_eq(row_of_id(&id, NULL), r);
	row_end(r, CLD_EXITED, 3, 99);
	ck_assert_ptr_null(row_of_pid(4242));
	ck_assert_ptr_eq(row_of_id(&id, NULL), r);
	row_free(r);
	ck_assert_ptr_null(row_of_id(&id, NULL));
}
END_TEST

START_TEST(pids_of_one_bucket_do_not_disturb_each_other)
{
	struct row *r[3];
	for (unsigned i = 0; i < 3; i++)
		r[i] = child(i, (pid_t)(100 + 16384 * i));
	row_end(r[1], CLD_EXITED, 0, 0);
	ck_assert_ptr_eq(row_of_pid(100), r[0]);
	ck_assert_ptr_null(row_of_pid(100 + 16384));
	ck_assert_ptr_eq(row_of_pid(100 + 32768), r[2]);
	struct row *again = child(9, 100 + 16384); /* the pid comes back while the exit waits */
	ck_assert_ptr_eq(row_of_pid(100 + 16384), again);
	ck_assert_int_eq(r[1]->code, CLD_EXITED);
}
END_TEST

START_TEST(one_id_may_have_several_rows)
{
	struct spawn_id id = id_of(7);
	struct row *a = row_new(ROW_CHILD, &id, 10, 0), *b = row_new(ROW_TRACKED, &id, 11, 0);
	struct row *first = row_of_id(&id, NULL), *second = row_of_id(&id, first);
	ck_assert((first == a && second == b) || (first == b && second == a));
	ck_assert_ptr_null(row_of_id(&id, second));
}
END_TEST

START_TEST(the_table_takes_its_maximum_and_refuses_one_more)
{
	for (unsigned i = 0; i < ROWS_MAX; i++)
		ck_assert_ptr_nonnull(child(i, (pid_t)i + 2));
	ck_assert_ptr_null(child(ROWS_MAX, 4000000));
	for (unsigned i = 0; i < ROWS_MAX; i++)
		ck_assert_uint_eq(row_of_pid((pid_t)i + 2)->id.seq, i);
	row_free(row_of_pid(5000));
	ck_assert_ptr_nonnull(child(ROWS_MAX, 4000000));
	ck_assert_uint_eq(rows_high(), ROWS_MAX);
}
END_TEST

START_TEST(news_keep_their_order_and_a_freed_row_is_not_used_before_it_left_them)
{
	struct row *r[5];
	for (unsigned i = 0; i < 5; i++) {
		r[i] = child(i, (pid_t)i + 2);
		news_add(r[i]);
		news_add(r[i]); /* once is enough */
	}
	ck_assert_ptr_eq(news_head(), r[0]);
	news_told();
	row_free(r[1]);
	struct row *other = child(9, 99);
	ck_assert_ptr_ne(other, r[1]);
	ck_assert_ptr_eq(news_head(), r[1]); /* nobody's now: skipped by who tells */
	ck_assert_int_eq(r[1]->kind, ROW_UNUSED);
	news_told();
	ck_assert_ptr_eq(child(10, 100), r[1]);
	ck_assert_ptr_eq(news_head(), r[2]);
	news_all();
	for (unsigned i = 0; i < 6; i++, news_told())
		ck_assert_ptr_eq(news_head(), &table.row[i + 1]);
	ck_assert_ptr_null(news_head());
}
END_TEST

START_TEST(news_of_a_full_table_fit_twice_over)
{
	for (unsigned i = 0; i < ROWS_MAX; i++)
		news_add(child(i, (pid_t)i + 2));
	for (unsigned i = 0; i < ROWS_MAX / 2; i++)
		news_told();
	for (unsigned i = 1; i <= ROWS_MAX / 2; i++)
		news_add(&table.row[i]);
	for (unsigned i = 0; i < ROWS_MAX; i++, news_told())
		ck_assert_ptr_nonnull(news_head());
	ck_assert_ptr_null(news_head());
}
END_TEST

START_TEST(a_deposit_of_the_same_name_replaces_and_closes_the_old_one)
{
	int a = open("/dev/null", O_RDONLY), b = open("/dev/null", O_RDONLY);
	ck_assert_int_eq(deposit_put("x", a), 0);
	ck_assert_int_eq(deposit_put("x", b), 0);
	ck_assert_int_lt(fcntl(a, F_GETFD), 0);
	ck_assert_int_eq(table.deposit[0].fd, b);
	ck_assert_uint_eq(table.n_deposits, 1);
	ck_assert_int_eq(deposit_put("x", 0), 0);
	ck_assert_int_lt(fcntl(b, F_GETFD), 0);
	ck_assert_int_eq(table.deposit[0].fd, 0);
	ck_assert_int_eq(deposit_put("", 5), -EINVAL);
}
END_TEST

START_TEST(deposits_are_refused_beyond_their_maximum)
{
	char name[32];
	for (int i = 0; i <= KEEPER_FDS_MAX; i++) {
		snprintf(name, sizeof(name), "fd-%d", i);
		ck_assert_int_eq(deposit_put(name, 1000000 + i), i < KEEPER_FDS_MAX ? 0 : -ENOSPC);
	}
	ck_assert_int_eq(deposit_put("fd-17", 0), 0);
	ck_assert_int_eq(deposit_put("another", 2000000), 0);
	ck_assert_int_eq(deposit_put("one more", 2000001), -ENOSPC);
}
END_TEST

Suite *suite(void)
{
	Suite *s = suite_create("keeper_table");
	TCase *t = tcase_create("table");
	tcase_add_test(t, a_row_is_found_by_pid_while_alive_and_by_id_until_freed);
	tcase_add_test(t, pids_of_one_bucket_do_not_disturb_each_other);
	tcase_add_test(t, one_id_may_have_several_rows);
	tcase_add_test(t, the_table_takes_its_maximum_and_refuses_one_more);
	tcase_add_test(t, news_keep_their_order_and_a_freed_row_is_not_used_before_it_left_them);
	tcase_add_test(t, news_of_a_full_table_fit_twice_over);
	tcase_add_test(t, a_deposit_of_the_same_name_replaces_and_closes_the_old_one);
	tcase_add_test(t, deposits_are_refused_beyond_their_maximum);
	suite_add_tcase(s, t);
	return s;
}
