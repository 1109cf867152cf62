/* SPDX-License-Identifier: Apache-2.0 */
/* Reading logs back: the last lines over rotated files, and following by cursor. */
#include "logd/private.h"
#include "check_main.h"

#include <fcntl.h>
#include <sys/stat.h>

static char dir[64];
static struct store store;

static void setup(void)
{
	str_copy(dir, "/tmp/test-logd.XXXXXX", sizeof(dir));
	ck_assert_ptr_nonnull(mkdtemp(dir));
	memset(&store, 0, sizeof(store));
	store.dir_fd = -1;
	store_limits(&store, 2000, 1 << 20, 10);
	ck_assert_int_eq(store_open(&store, open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC), 0), 0);
}

static void teardown(void)
{
	char command[128];
	store_done(&store);
	snprintf(command, sizeof(command), "rm -rf %s", dir);
	ck_assert_int_eq(system(command), 0);
}

/* Stores lines first..last-1, one stamp a second from 1000 s on: 35 bytes each. */
static void add(int first, int last)
{
	struct unit_log *log = store_log(&store, "a.service");
	char stamp[TIMESTAMP_MAX], line[128];
	for (int i = first; i < last; i++) {
		int n = snprintf(line, sizeof(line), "%s o %06d\n",
			format_timestamp(stamp, (1000 + (uint64_t)i) * USEC_PER_SEC), i);
		store_write(&store, log, line, (size_t)n, 1);
	}
}

/* out holds exactly the lines first..last-1. */
static void check_lines(const struct buf *out, int first, int last)
{
	ck_assert_uint_eq(out->size, (size_t)(last - first) * 34);
	for (int i = first; i < last; i++)
		ck_assert_int_eq(
			strtol(out->data + (size_t)(i - first) * 34 + LOG_HEAD_SIZE, NULL, 10), i);
}

START_TEST(the_last_lines_come_over_any_number_of_files)
{
	add(0, 400); /* 58 lines a file: 7 files */
	for (int n = 1; n <= 410; n++) {
		struct buf out = {0};
		struct log_cursor c;
		ck_assert_int_eq(
			log_read_last(dir, "a.service", (unsigned)n, 0, 1 << 20, &out, &c), 0);
		check_lines(&out, MAX(0, 400 - n), 400);
		buf_done(&out);
	}
}
END_TEST

START_TEST(since_is_by_the_stamp)
{
	add(0, 400);
	for (int i = 0; i <= 400; i += 7) {
		struct buf out = {0};
		struct log_cursor c;
		ck_assert_int_eq(log_read_last(dir, "a.service", 0,
					 (1000 + (uint64_t)i) * USEC_PER_SEC, 1 << 20, &out, &c),
			0);
		check_lines(&out, i, 400);
		buf_done(&out);
	}
}
END_TEST

START_TEST(a_small_maximum_cuts_whole_lines_off_the_front)
{
	add(0, 100);
	for (size_t max = 0; max < 3500; max += 11) {
		struct buf out = {0};
		struct log_cursor c;
		ck_assert_int_eq(log_read_last(dir, "a.service", 0, 0, max, &out, &c), 0);
		ck_assert_uint_le(out.size, max);
		/* all but the last byte of room: whether a cut is at a line's start is not known */
		check_lines(&out, 100 - (int)(out.size / 34), 100);
		ck_assert_uint_ge(out.size + 68, MIN(max, 3400));
		buf_done(&out);
	}
}
END_TEST

START_TEST(a_cursor_follows_through_rotations)
{
	struct buf out = {0};
	struct log_cursor c;
	add(0, 10);
	ck_assert_int_eq(log_read_last(dir, "a.service", 3, 0, 1 << 20, &out, &c), 0);
	check_lines(&out, 7, 10);
	int read_to = 10, written_to = 10;
	for (int step = 0; step < 60; step++) {
		add(written_to, written_to + step * 7 % 200);
		written_to += step * 7 % 200;
		buf_reset(&out);
		ck_assert_int_eq(log_read_more(dir, "a.service", 1 << 20, &out, &c), 0);
		check_lines(&out, read_to, written_to);
		read_to = written_to;
	}
	buf_done(&out);
}
END_TEST

START_TEST(a_cursor_takes_small_bites)
{
	struct buf out = {0};
	struct log_cursor c;
	add(0, 5);
	ck_assert_int_eq(log_read_last(dir, "a.service", 1, 0, 1 << 20, &out, &c), 0);
	add(5, 300);
	buf_reset(&out);
	for (int i = 0; i < 300 && out.size < 295 * 34; i++)
		ck_assert_int_eq(log_read_more(dir, "a.service", 100, &out, &c), 0);
	check_lines(&out, 5, 300);
	ck_assert_int_eq(log_read_more(dir, "a.service", 100, &out, &c), 0);
	check_lines(&out, 5, 300);
	buf_done(&out);
}
END_TEST

START_TEST(a_cursor_whose_file_has_gone_goes_on_with_the_oldest)
{
	struct buf out = {0};
	struct log_cursor c;
	add(0, 5);
	ck_assert_int_eq(log_read_last(dir, "a.service", 1, 0, 1 << 20, &out, &c), 0);
	add(5, 2000); /* ten files of 58 are kept */
	buf_reset(&out);
	ck_assert_int_eq(log_read_more(dir, "a.service", 1 << 20, &out, &c), 0);
	ck_assert_uint_ge(out.size, 10 * 58 * 34);
	check_lines(&out, 2000 - (int)(out.size / 34), 2000);
	buf_done(&out);
}
END_TEST

START_TEST(a_line_being_written_is_not_shown_before_its_end)
{
	struct buf out = {0};
	struct log_cursor c;
	char *path = log_path(dir, "a.service");
	add(0, 3);
	int fd = open(path, O_WRONLY | O_APPEND | O_CLOEXEC);
	ck_assert_int_eq(write_all(fd, "1970-01-01T00:16:43.000Z o ", 27), 0);
	ck_assert_int_eq(log_read_last(dir, "a.service", 0, 0, 1 << 20, &out, &c), 0);
	check_lines(&out, 0, 3);
	buf_reset(&out);
	ck_assert_int_eq(log_read_more(dir, "a.service", 1 << 20, &out, &c), 0);
	ck_assert_uint_eq(out.size, 0);
	ck_assert_int_eq(write_all(fd, "000003\n", 7), 0);
	ck_assert_int_eq(log_read_more(dir, "a.service", 1 << 20, &out, &c), 0);
	check_lines(&out, 3, 4);
	close(fd);
	free(path);
	buf_done(&out);
}
END_TEST

START_TEST(what_is_not_there_or_not_a_log_is_an_error)
{
	struct buf out = {0};
	struct log_cursor c;
	char path[128];
	ck_assert_int_eq(log_read_last(dir, "none.service", 1, 0, 100, &out, &c), -ENOENT);
	ck_assert_int_eq(log_read_last(dir, "../etc", 1, 0, 100, &out, &c), -EINVAL);
	snprintf(path, sizeof(path), "%s/f.service", dir);
	ck_assert_int_eq(mkdir(path, 0755), 0);
	str_copy(path + strlen(path), "/current", sizeof(path) - strlen(path));
	ck_assert_int_eq(mkfifo(path, 0644), 0); /* must not block */
	ck_assert_int_eq(log_read_last(dir, "f.service", 1, 0, 100, &out, &c), 0);
	ck_assert_uint_eq(out.size, 0);
	buf_done(&out);
}
END_TEST

START_TEST(a_new_store_counts_what_an_old_one_left)
{
	add(0, 400);
	uint64_t total = store.total;
	ck_assert_uint_eq(total, 400 * 34);
	store_done(&store);
	memset(&store, 0, sizeof(store));
	store.dir_fd = -1;
	store_limits(&store, 2000, 1 << 20, 10);
	ck_assert_int_eq(store_open(&store, open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC), 0), 0);
	ck_assert_uint_eq(store.total, total);
	add(400, 500);
	struct buf out = {0};
	struct log_cursor c;
	ck_assert_int_eq(log_read_last(dir, "a.service", 0, 0, 1 << 20, &out, &c), 0);
	check_lines(&out, 0, 500);
	buf_done(&out);
}
END_TEST

Suite *suite(void)
{
	Suite *s = suite_create("logd read");
	TCase *t = tcase_create("read");
	tcase_set_timeout(t, 60);
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, the_last_lines_come_over_any_number_of_files);
	tcase_add_test(t, since_is_by_the_stamp);
	tcase_add_test(t, a_small_maximum_cuts_whole_lines_off_the_front);
	tcase_add_test(t, a_cursor_follows_through_rotations);
	tcase_add_test(t, a_cursor_takes_small_bites);
	tcase_add_test(t, a_cursor_whose_file_has_gone_goes_on_with_the_oldest);
	tcase_add_test(t, a_line_being_written_is_not_shown_before_its_end);
	tcase_add_test(t, what_is_not_there_or_not_a_log_is_an_error);
	tcase_add_test(t, a_new_store_counts_what_an_old_one_left);
	suite_add_tcase(s, t);
	return s;
}
