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
	return row_new(ROW_CHILD, &id, pid);
}

START_TEST(a_row_is_found_by_pid_while_alive_and_by_id_until_freed)
{
	struct spawn_id id = id_of(1);
	struct row *r = child(1, 4242);
	ck_assert_ptr_eq(row_of_pid(4242), r);
	ck_assert_ptr_eq(row_of_id(&id, NULL), r);
	ck_assert_uint_eq(rows_alive(), 1);
	row_end(r, CLD_EXITED, 3, 99);
	ck_assert_ptr_null(row_of_pid(4242));
	ck_assert_ptr_eq(row_of_id(&id, NULL), r);
	ck_assert_uint_eq(rows_alive(), 0);
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
	struct row *a = row_new(ROW_CHILD, &id, 10), *b = row_new(ROW_TRACKED, &id, 11);
	struct row *first = row_of_id(&id, NULL), *second = row_of_id(&id, first);
	ck_assert((first == a && second == b) || (first == b && second == a));
	ck_assert_ptr_null(row_of_id(&id, second));
}
END_TEST

START_TEST(the_table_takes_its_maximum_and_refuses_one_more)
{
	for (unsigned i = 0; i < KEEPER_CHILDREN_MAX; i++)
		ck_assert_ptr_nonnull(child(i, (pid_t)i + 2));
	ck_assert_ptr_null(child(KEEPER_CHILDREN_MAX, 4000000));
	ck_assert_uint_eq(rows_alive(), KEEPER_CHILDREN_MAX);
	for (unsigned i = 0; i < KEEPER_CHILDREN_MAX; i++)
		ck_assert_uint_eq(row_of_pid((pid_t)i + 2)->id.seq, i);
	row_free(row_of_pid(5000));
	ck_assert_ptr_nonnull(child(KEEPER_CHILDREN_MAX, 4000000));
	ck_assert_uint_eq(rows_high(), KEEPER_CHILDREN_MAX);
}
END_TEST

START_TEST(the_queue_keeps_order_and_forgets_freed_rows)
{
	struct row *r[5];
	for (unsigned i = 0; i < 5; i++) {
		r[i] = child(i, (pid_t)i + 2);
		queue_add(r[i]);
		queue_add(r[i]); /* once is enough */
	}
	queue_remove(r[0]);
	row_free(r[2]);
	queue_remove(r[4]);
	ck_assert_ptr_eq(queue_head(), r[1]);
	queue_remove(r[1]);
	ck_assert_ptr_eq(queue_head(), r[3]);
	queue_add(r[0]);
	queue_remove(r[3]);
	ck_assert_ptr_eq(queue_head(), r[0]);
	queue_clear();
	ck_assert_ptr_null(queue_head());
}
END_TEST

START_TEST(a_deposit_of_the_same_name_replaces_and_closes_the_old_one)
{
	int a = open("/dev/null", O_RDONLY), b = open("/dev/null", O_RDONLY);
	ck_assert_int_eq(deposit_put("x", a), 0);
	ck_assert_int_eq(deposit_put("x", b), 0);
	ck_assert_int_lt(fcntl(a, F_GETFD), 0);
	ck_assert_int_eq(deposit_at(1)->fd, b);
	ck_assert_uint_eq(deposits_high(), 1);
	ck_assert_int_eq(deposit_drop("x"), 0);
	ck_assert_int_lt(fcntl(b, F_GETFD), 0);
	ck_assert_int_eq(deposit_drop("x"), -ENOENT);
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
	ck_assert_int_eq(deposit_drop("fd-17"), 0);
	ck_assert_int_eq(deposit_put("another", 2000000), 0);
}
END_TEST

START_TEST(the_newest_orphan_of_a_pid_is_found_until_1024_came_after_it)
{
	orphan_add(5, 100, 1);
	orphan_add(5, 200, 2);
	ck_assert_int_eq(orphan_find(5)->status, 200);
	for (int i = 0; i < ORPHANS_MAX; i++)
		orphan_add(1000 + i, 0, 3);
	ck_assert_ptr_null(orphan_find(5));
	ck_assert_ptr_nonnull(orphan_find(1000));
}
END_TEST

static int saved(void)
{
	int fd = memfd_create("table", MFD_CLOEXEC), held = open("/dev/null", O_RDONLY | O_CLOEXEC);
	ck_assert_int_eq(deposit_put("held", held), 0);
	row_free(child(1, 10));
	child(2, 20);
	row_end(child(3, 30), CLD_KILLED, 9, 77);
	ck_assert_uint_gt(table_save(fd), 0);
	return fd;
}

START_TEST(a_saved_table_comes_back_and_a_damaged_one_is_refused)
{
	int fd = saved();
	char data[4096];
	ssize_t n = pread(fd, data, sizeof(data), 0);
	struct spawn_id two = id_of(2), three = id_of(3);
	row_free(row_of_id(&two, NULL));
	row_free(row_of_id(&three, NULL));
	int held = dup(deposit_at(1)->fd);
	ck_assert_int_eq(deposit_drop("held"), 0);
	ck_assert_int_eq(table_load(data, (size_t)n - 1), -EBADMSG);
	ck_assert_int_eq(table_load(data, 3), -EBADMSG);
	ck_assert_int_eq(dup2(held, held - 1), held - 1); /* the number it was saved with */
	ck_assert_int_eq(table_load(data, (size_t)n), 0);
	ck_assert_int_eq(row_of_pid(20)->id.seq, 2);
	ck_assert_ptr_null(row_of_pid(30));
	struct row *r = row_of_id(&three, NULL);
	ck_assert_int_eq(r->code, CLD_KILLED);
	ck_assert_int_eq(r->status, 9);
	ck_assert_uint_eq(r->time_us, 77);
	uint32_t huge = 0x7fffffff;
	memcpy(data, &huge, sizeof(huge));
	ck_assert_int_eq(table_load(data, (size_t)n), -EBADMSG);
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
	tcase_add_test(t, the_queue_keeps_order_and_forgets_freed_rows);
	tcase_add_test(t, a_deposit_of_the_same_name_replaces_and_closes_the_old_one);
	tcase_add_test(t, deposits_are_refused_beyond_their_maximum);
	tcase_add_test(t, the_newest_orphan_of_a_pid_is_found_until_1024_came_after_it);
	tcase_add_test(t, a_saved_table_comes_back_and_a_damaged_one_is_refused);
	suite_add_tcase(s, t);
	return s;
}
