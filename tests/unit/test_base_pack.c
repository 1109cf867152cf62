/* SPDX-License-Identifier: Apache-2.0 */
#include <fcntl.h>
#include <sys/stat.h>

#include "base/base.h"
#include "check_main.h"

enum { VERSION = 5, OLDEST = 3, N_ITEMS = 7 };

struct old_item {
	uint32_t a;
};
struct new_item {
	uint32_t a, b;
};

static struct new_item taken[N_ITEMS];
static unsigned n_taken;

static bool take_new(uint32_t i, const void *item)
{
	ck_assert_uint_lt(i, N_ITEMS);
	memcpy(&taken[i], item, sizeof(taken[i]));
	n_taken++;
	return true;
}

static bool take_old(uint32_t i, const void *item)
{
	taken[i].b = 0;
	memcpy(&taken[i].a, item, sizeof(taken[i].a));
	n_taken++;
	return true;
}

static int save_new(uint32_t version, uint32_t oldest)
{
	static struct new_item items[N_ITEMS];
	for (uint32_t i = 0; i < N_ITEMS; i++)
		items[i] = (struct new_item){.a = i + 1, .b = 100 + i};
	struct pack_section s = {.items = items, .count = N_ITEMS, .size = sizeof(items[0])};
	int fd = pack_save(&s, 1, version, oldest);
	ck_assert_int_ge(fd, 0);
	return fd;
}

static int load(int fd, uint32_t item_size, bool (*take)(uint32_t, const void *), uint32_t version,
	uint32_t oldest)
{
	struct pack_section s = {.size = item_size, .take = take};
	n_taken = 0;
	memset(taken, 0xff, sizeof(taken));
	return pack_load(fd, &s, 1, version, oldest);
}

START_TEST(what_was_saved_is_loaded)
{
	int fd = save_new(VERSION, OLDEST);
	ck_assert_int_eq(load(fd, sizeof(struct new_item), take_new, VERSION, OLDEST), 0);
	ck_assert_uint_eq(n_taken, N_ITEMS);
	for (uint32_t i = 0; i < N_ITEMS; i++) {
		ck_assert_uint_eq(taken[i].a, i + 1);
		ck_assert_uint_eq(taken[i].b, 100 + i);
	}
	fd_close(fd);
}
END_TEST

START_TEST(an_older_reader_skips_what_it_does_not_know)
{
	int fd = save_new(VERSION, OLDEST);
	ck_assert_int_eq(load(fd, sizeof(struct old_item), take_old, OLDEST, OLDEST), 0);
	ck_assert_uint_eq(n_taken, N_ITEMS);
	ck_assert_uint_eq(taken[N_ITEMS - 1].a, N_ITEMS);
	fd_close(fd);
}
END_TEST

START_TEST(a_newer_reader_finds_zero_where_nothing_was_written)
{
	struct old_item items[2] = {{.a = 8}, {.a = 9}};
	struct pack_section s = {.items = items, .count = 2, .size = sizeof(items[0])};
	int fd = pack_save(&s, 1, OLDEST, OLDEST);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(load(fd, sizeof(struct new_item), take_new, VERSION, OLDEST), 0);
	ck_assert_uint_eq(n_taken, 2);
	ck_assert_uint_eq(taken[1].a, 9);
	ck_assert_uint_eq(taken[1].b, 0);
	fd_close(fd);
}
END_TEST

START_TEST(versions_that_do_not_understand_each_other_do_not_try)
{
	int fd = save_new(VERSION, OLDEST);
	ck_assert_int_eq(
		load(fd, sizeof(struct new_item), take_new, OLDEST - 1, OLDEST - 1), -EBADMSG);
	ck_assert_int_eq(
		load(fd, sizeof(struct new_item), take_new, VERSION + 9, VERSION + 1), -EBADMSG);
	ck_assert_uint_eq(n_taken, 0);
	fd_close(fd);
}
END_TEST

START_TEST(nothing_is_taken_from_a_pack_with_any_wrong_byte_or_length)
{
	int fd = save_new(VERSION, OLDEST);
	struct stat st;
	ck_assert_int_eq(fstat(fd, &st), 0);
	for (off_t at = 0; at < st.st_size; at++) {
		char was, wrong;
		ck_assert_int_eq(pread(fd, &was, 1, at), 1);
		wrong = (char)(was ^ 0x55);
		ck_assert_int_eq(pwrite(fd, &wrong, 1, at), 1);
		(void)load(fd, sizeof(struct new_item), take_new, VERSION, OLDEST);
		/* Of the head only our own version is no part of what must be right. */
		for (unsigned i = 0; i < n_taken; i++)
			ck_assert_uint_eq(taken[i].b, 100 + i);
		ck_assert_int_eq(pwrite(fd, &was, 1, at), 1);
	}
	for (off_t size = 0; size < st.st_size; size++) {
		ck_assert_int_eq(ftruncate(fd, size), 0);
		ck_assert_int_lt(
			load(fd, sizeof(struct new_item), take_new, VERSION, OLDEST), 0);
		ck_assert_uint_eq(n_taken, 0);
	}
	fd_close(fd);
}
END_TEST

Suite *suite(void)
{
	Suite *s = suite_create("pack");
	TCase *t = tcase_create("pack");
	tcase_add_test(t, what_was_saved_is_loaded);
	tcase_add_test(t, an_older_reader_skips_what_it_does_not_know);
	tcase_add_test(t, a_newer_reader_finds_zero_where_nothing_was_written);
	tcase_add_test(t, versions_that_do_not_understand_each_other_do_not_try);
	tcase_add_test(t, nothing_is_taken_from_a_pack_with_any_wrong_byte_or_length);
	suite_add_tcase(s, t);
	return s;
}
