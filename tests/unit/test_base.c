/* SPDX-License-Identifier: Apache-2.0 */
#include "base/base.h"
#include "check_main.h"

START_TEST(map_keeps_every_key_through_growth_and_deletion)
{
	struct map m = {0};
	static char keys[1000][8];
	for (size_t i = 0; i < 1000; i++) {
		snprintf(keys[i], sizeof(keys[i]), "k%zu", i);
		ck_assert_ptr_null(map_put(&m, keys[i], keys[i]));
	}
	for (size_t i = 0; i < 1000; i += 2)
		ck_assert_ptr_eq(map_del(&m, keys[i]), keys[i]);
	for (size_t i = 0; i < 1000; i++)
		ck_assert_ptr_eq(map_get(&m, keys[i]), i % 2 ? keys[i] : NULL);
	ck_assert_uint_eq(m.n, 500);
	map_done(&m);
}
END_TEST

START_TEST(utf8_refuses_overlong_surrogate_and_truncated)
{
	ck_assert(utf8_is_valid("h\xc3\xa9llo", 6));
	ck_assert(!utf8_is_valid("\xc0\x80", 2));
	ck_assert(!utf8_is_valid("\xed\xa0\x80", 3));
	ck_assert(!utf8_is_valid("\xf0\x9f\x98", 3));
	ck_assert(!utf8_is_valid("\xff", 1));
}
END_TEST

START_TEST(printable_removes_terminal_controls)
{
	char s[] = "a\033[31m\xc2\x9b"
		   "b\n";
	str_make_printable(s);
	ck_assert_str_eq(s, "a?[31m??b?");
}
END_TEST

START_TEST(distance_counts_a_swap_as_one)
{
	ck_assert_uint_eq(str_distance("strat", "start", 2), 1);
	ck_assert_uint_eq(str_distance("Aftr", "After", 2), 1);
	ck_assert_uint_eq(str_distance("abc", "xyzzy", 2), 3);
}
END_TEST

START_TEST(timespan_is_written_as_systemd_writes_it)
{
	char t[TIMESPAN_MAX];
	ck_assert_str_eq(format_timespan(t, 123 * USEC_PER_SEC), "2min 3s");
	ck_assert_str_eq(format_timespan(t, 0), "0");
	ck_assert_str_eq(format_timespan(t, USEC_INFINITY), "infinity");
}
END_TEST

Suite *suite(void)
{
	Suite *s = suite_create("base");
	TCase *t = tcase_create("base");
	tcase_add_test(t, map_keeps_every_key_through_growth_and_deletion);
	tcase_add_test(t, utf8_refuses_overlong_surrogate_and_truncated);
	tcase_add_test(t, printable_removes_terminal_controls);
	tcase_add_test(t, distance_counts_a_swap_as_one);
	tcase_add_test(t, timespan_is_written_as_systemd_writes_it);
	suite_add_tcase(s, t);
	return s;
}
