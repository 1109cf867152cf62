/* SPDX-License-Identifier: Apache-2.0 */
#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>

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

/* Every path the pattern names below dir, without dir, joined by spaces. */
static const char *globbed(const char *dir, const char *pattern)
{
	static char text[256];
	struct strv paths = {0};
	CLEANUP_FREE char *full = xasprintf("%s/%s", dir, pattern);
	path_glob(full, &paths);
	text[0] = '\0';
	for (size_t i = 0; i < paths.n; i++) {
		ck_assert(startswith(paths.v[i], dir));
		snprintf(text + strlen(text), sizeof(text) - strlen(text), "%s%s", i ? " " : "",
			paths.v[i] + strlen(dir) + 1);
	}
	strv_done(&paths);
	return text;
}

START_TEST(glob_finds_what_exists_in_order)
{
	char dir[] = "/tmp/stayd-base.XXXXXX";
	static const char *const files[] = {"b/two", "b/one", "a/one", ".h/one", "b/x[y]"};
	ck_assert_ptr_nonnull(mkdtemp(dir));
	for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
		CLEANUP_FREE char *path = xasprintf("%s/%s", dir, files[i]);
		char *slash = strrchr(path, '/');
		*slash = '\0';
		ck_assert_int_eq(mkdir_parents(path, 0700), 0);
		*slash = '/';
		ck_assert_int_eq(write_file_atomic(path, "", 0, 0600), 0);
	}
	ck_assert_str_eq(globbed(dir, "*/one"), "a/one b/one");
	ck_assert_str_eq(globbed(dir, "b//t*"), "b/two");
	ck_assert_str_eq(globbed(dir, "b/x\\[y]"), "b/x[y]");
	ck_assert_str_eq(globbed(dir, "[!a]/[ot]??"), "b/one b/two");
	ck_assert_str_eq(globbed(dir, ".h/*"), ".h/one"); /* hidden only to a leading wildcard */
	ck_assert_str_eq(globbed(dir, "b"), "b");
	ck_assert_str_eq(globbed(dir, "*/three"), "");
	ck_assert_str_eq(globbed(dir, "b/one/*"), "");
	CLEANUP_FREE char *rm = xasprintf("rm -r %s", dir);
	ck_assert_int_eq(system(rm), 0);
}
END_TEST

static const char *check_chain(const char *text)
{
	struct seal c;
	bool is_first = true;
	seal_init(&c);
	for (const char *p = text, *end; (end = strchr(p, '\n')); p = end + 1) {
		const char *why = seal_check(&c, p, (size_t)(end - p), is_first);
		if (why)
			return why;
		is_first = false;
	}
	return NULL;
}

START_TEST(a_chain_shows_every_changed_removed_or_moved_line)
{
	struct seal c;
	struct buf b = {0};
	char body[64];
	seal_init(&c);
	size_t ends[6] = {0};
	for (int i = 1; i <= 5; i++) {
		snprintf(body, sizeof(body), "\"kind\":\"test\",\"n\":%d", i);
		seal_add(&c, &b, body);
		ends[i] = b.size;
	}
	ck_assert_uint_eq(c.seq, 5);
	ck_assert_ptr_null(check_chain(b.data));
	for (size_t i = 0; i < b.size; i++) { /* any byte */
		char was = b.data[i];
		if (was == '\n')
			continue;
		b.data[i] = was == 'x' ? 'y' : 'x';
		ck_assert_msg(check_chain(b.data) != NULL, "byte %zu", i);
		b.data[i] = was;
	}
	for (int i = 2; i <= 4; i++) { /* any line but the first and last */
		struct buf less = {0};
		buf_add(&less, b.data, ends[i - 1]);
		buf_add(&less, b.data + ends[i], b.size - ends[i]);
		ck_assert_ptr_nonnull(check_chain(less.data));
		buf_done(&less);
	}
	struct buf twice = {0};
	buf_add(&twice, b.data, b.size);
	buf_add(&twice, b.data + ends[4], b.size - ends[4]);
	ck_assert_ptr_nonnull(check_chain(twice.data));
	buf_done(&twice);
	buf_done(&b);
}
END_TEST

START_TEST(a_chain_is_sha256)
{
	/* sha256sum of the line before its hash */
	struct seal c;
	struct buf b = {0};
	seal_init(&c);
	seal_add(&c, &b, "\"a\":1");
	ck_assert_str_eq(
		c.hash, "79d849221fb23cd49e2bc95431e155e121723309f579af3db1cc2677c5ec6407");
	buf_done(&b);
}
END_TEST

/* Does anybody but us hold the other end of what p[1] writes into? */
static bool is_held(int write_end)
{
	(void)signal(SIGPIPE, SIG_IGN);
	return write(write_end, "x", 1) == 1;
}

START_TEST(descriptors_of_an_empty_or_cut_frame_are_closed)
{
	for (size_t size = 0; size <= 2; size++) {
		char in[1];
		int link[2], p[2], fd = -1;
		size_t n_fds = 1;
		ck_assert_int_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, link), 0);
		ck_assert_int_eq(pipe2(p, O_CLOEXEC), 0);
		ck_assert_int_eq(send_fds(link[0], "ab", size, &p[0], 1, 0), size);
		fd_close(p[0]);
		ssize_t n = recv_fds(link[1], in, sizeof(in), &fd, &n_fds, MSG_DONTWAIT);
		ck_assert_int_eq(n, size > sizeof(in) ? -EMSGSIZE : (ssize_t)size);
		ck_assert_int_eq(n_fds, n > 0);
		ck_assert(is_held(p[1]) == (n > 0));
		ck_assert((fd >= 0) == (n > 0));
		fd_close(fd);
		fd_close(p[1]);
		fd_close(link[0]);
		fd_close(link[1]);
	}
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
	tcase_add_test(t, glob_finds_what_exists_in_order);
	tcase_add_test(t, a_chain_shows_every_changed_removed_or_moved_line);
	tcase_add_test(t, a_chain_is_sha256);
	tcase_add_test(t, descriptors_of_an_empty_or_cut_frame_are_closed);
	suite_add_tcase(s, t);
	return s;
}
