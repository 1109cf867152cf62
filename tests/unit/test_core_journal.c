/* SPDX-License-Identifier: Apache-2.0 */
#include "check_main.h"

#include <fcntl.h>
#include <sys/stat.h>

#include "core/inner.h"

static struct core core;
static struct set set;
static struct set_core companion;
static char dir[64], path[128];

static void setup(void)
{
	memset(&core, 0, sizeof(core));
	memset(&set, 0, sizeof(set));
	memset(&companion, 0, sizeof(companion));
	str_copy(dir, "/tmp/stayd-journal-XXXXXX", sizeof(dir));
	ck_assert_ptr_nonnull(mkdtemp(dir));
	core.state_dir = dir;
	set.name = (char *)"web";
	set.core = &companion;
	companion.journal_fd = -1;
	set.rollout = (struct rollout_rec){.version = ROLLOUT_REC_VERSION,
		.state = ROLL_ROLLING,
		.id = 7,
		.from_revision = 1,
		.to_revision = 2,
		.count = 4,
		.began_wall_us = 12345};
	str_copy(set.rollout.set, "web", sizeof(set.rollout.set));
	str_copy(set.rollout.to_release, "v2", sizeof(set.rollout.to_release));
	str_copy(set.rollout.actor, "uid 0 (root)", sizeof(set.rollout.actor));
	snprintf(path, sizeof(path), "%s/sets/web/rollouts/d-7.log", dir);
}

static void teardown(void)
{
	char command[128];
	fd_close(companion.journal_fd);
	snprintf(command, sizeof(command), "rm -rf '%s'", dir);
	ck_assert_int_eq(system(command), 0);
}

static void write_line(uint8_t step, const char *reason)
{
	set.rollout.step[0] = step;
	set.rollout.touched[1] = step % 3; /* the values there are */
	str_copy(set.rollout.reason, reason, sizeof(set.rollout.reason));
	journal_write(&core, &set, "tested");
}

static int last(struct rollout_rec *ret)
{
	memset(ret, 0xee, sizeof(*ret));
	return journal_last(&core, &set, ret);
}

START_TEST(the_last_line_is_the_rollout_as_it_was)
{
	struct rollout_rec r;
	write_line(1, "begun");
	write_line(2, "a \"quoted\" reason with \\ and a comma, too");
	ck_assert_int_eq(last(&r), 0);
	ck_assert_uint_eq(r.step[0], 2);
	ck_assert_uint_eq(r.touched[1], 2);
	ck_assert_uint_eq(r.state, ROLL_ROLLING);
	ck_assert_uint_eq(r.id, 7);
	ck_assert_uint_eq(r.to_revision, 2);
	ck_assert_uint_eq(r.count, 4);
	ck_assert_uint_eq(r.began_wall_us, 12345);
	ck_assert_str_eq(r.to_release, "v2");
	ck_assert_str_eq(r.actor, set.rollout.actor);
	ck_assert_str_eq(r.reason, set.rollout.reason);
}
END_TEST

START_TEST(a_line_torn_at_any_byte_leaves_the_one_before)
{
	struct rollout_rec r;
	struct stat st;
	write_line(1, "begun");
	ck_assert_int_eq(stat(path, &st), 0);
	off_t whole = st.st_size;
	write_line(2, "next");
	ck_assert_int_eq(stat(path, &st), 0);
	for (off_t size = st.st_size - 1; size >= whole; size--) {
		ck_assert_int_eq(truncate(path, size), 0);
		ck_assert_int_eq(last(&r), 0);
		ck_assert_msg(r.step[0] == 1, "cut at %d", (int)size);
	}
	ck_assert_int_eq(truncate(path, whole - 1), 0);
	ck_assert_int_lt(last(&r), 0);
}
END_TEST

START_TEST(a_line_goes_on_after_a_torn_one)
{
	struct rollout_rec r;
	struct stat st;
	write_line(1, "begun");
	write_line(2, "torn");
	ck_assert_int_eq(stat(path, &st), 0);
	ck_assert_int_eq(truncate(path, st.st_size - 10), 0);
	companion.journal_fd = fd_close(companion.journal_fd); /* another core */
	write_line(3, "after");
	ck_assert_int_eq(last(&r), 0);
	ck_assert_uint_eq(r.step[0], 3);
}
END_TEST

START_TEST(a_changed_byte_is_not_believed)
{
	struct rollout_rec r;
	struct buf b = {0};
	write_line(1, "begun");
	ck_assert_int_eq(read_file(AT_FDCWD, path, 65536, &b), 0);
	for (size_t i = 0; i + 1 < b.size; i++) {
		char was = b.data[i];
		b.data[i] ^= 4;
		int fd = open(path, O_WRONLY | O_TRUNC | O_CLOEXEC);
		ck_assert_int_eq(write_all(fd, b.data, b.size), 0);
		close(fd);
		ck_assert_msg(last(&r) < 0, "byte %zu of %zu (%c) changed and nobody noticed", i,
			b.size, was);
		b.data[i] = was;
	}
	buf_done(&b);
}
END_TEST

/* The last line made another version's: its key is there, its check sum too. */
static void last_line_says(const char *from, const char *to)
{
	struct buf b = {0};
	ck_assert_int_eq(read_file(AT_FDCWD, path, 1 << 20, &b), 0);
	b.data[b.size - 1] = '\0';
	char *line = strrchr(b.data, '\n');
	line = line ? line + 1 : b.data;
	*strchr(line, '\t') = '\0';
	char *at = strstr(line, from);
	ck_assert_ptr_nonnull(at);
	char *text = xasprintf("%.*s%s%s", (int)(at - line), line, to, at + strlen(from));
	char *all = xasprintf(
		"%.*s%s\t%08x\n", (int)(line - b.data), b.data, text, crc32_of(text, strlen(text)));
	ck_assert_int_eq(write_file_atomic(path, all, strlen(all), 0644), 0);
	free(all);
	free(text);
	buf_done(&b);
}

START_TEST(lines_of_the_versions_around_ours_are_read_and_those_beyond_are_not)
{
	struct rollout_rec r;
	char own[32], next[64], far[64];
	snprintf(own, sizeof(own), "\"v\":%d", ROLLOUT_REC_VERSION);
	snprintf(next, sizeof(next), "\"v\":%d,\"unheard\":[1]", ROLLOUT_REC_VERSION + 1);
	snprintf(far, sizeof(far), "\"v\":%d", ROLLOUT_REC_VERSION + 2);
	write_line(1, "first");
	write_line(2, "second");
	last_line_says(own, next);
	ck_assert_int_eq(last(&r), 0);
	ck_assert_str_eq(r.reason, "second");
	last_line_says(next, "\"x\":0"); /* the version before versions */
	ck_assert_int_eq(last(&r), 0);
	ck_assert_str_eq(r.reason, "second");
	last_line_says("\"x\":0", far);
	ck_assert_int_eq(last(&r), 0);
	ck_assert_str_eq(r.reason, "first");
	last_line_says(far, own);
	last_line_says("\"rolling\"", "\"levitating\"");
	ck_assert_int_eq(last(&r), 0);
	ck_assert_str_eq(r.reason, "first");
}
END_TEST

static int number(uint32_t *ret)
{
	return state_read_number(&core, "web", "count", ret);
}

START_TEST(a_small_file_is_whole_or_not_believed)
{
	char file[128];
	struct buf b = {0};
	uint32_t n = 0;
	snprintf(file, sizeof(file), "%s/sets/web/count", dir);
	ck_assert_int_eq(number(&n), -ENOENT);
	ck_assert_int_eq(state_write(&core, "web", "count", "50\n"), 0);
	ck_assert_int_eq(number(&n), 0);
	ck_assert_uint_eq(n, 50);
	ck_assert_int_eq(read_file(AT_FDCWD, file, 4096, &b), 0);
	log_open("test", LOG_ERROR - 1);
	for (size_t cut = 0; cut < b.size; cut++) {
		ck_assert_int_eq(write_file_atomic(file, b.data, cut, 0644), 0);
		n = 0;
		ck_assert_msg(number(&n) < 0 || n == 50, "cut at %zu: %u", cut, n);
	}
	for (size_t at = 0; at < b.size; at++) {
		b.data[at] ^= 1;
		ck_assert_int_eq(write_file_atomic(file, b.data, b.size, 0644), 0);
		b.data[at] ^= 1;
		n = 0;
		ck_assert_msg(number(&n) < 0 || n == 50, "byte %zu changed: %u", at, n);
	}
	ck_assert_int_eq(write_file_atomic(file, "7\n", 2, 0644), 0); /* before there was a mark */
	ck_assert_int_eq(number(&n), 0);
	ck_assert_uint_eq(n, 7);
	buf_done(&b);
}
END_TEST

Suite *suite(void)
{
	Suite *s = suite_create("journal");
	TCase *t = tcase_create("journal");
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_set_timeout(t, 60);
	tcase_add_test(t, the_last_line_is_the_rollout_as_it_was);
	tcase_add_test(t, lines_of_the_versions_around_ours_are_read_and_those_beyond_are_not);
	tcase_add_test(t, a_small_file_is_whole_or_not_believed);
	tcase_add_test(t, a_line_torn_at_any_byte_leaves_the_one_before);
	tcase_add_test(t, a_line_goes_on_after_a_torn_one);
	tcase_add_test(t, a_changed_byte_is_not_believed);
	suite_add_tcase(s, t);
	return s;
}
