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

/* A pipe that is its reader's and full; returns where to read. */
static int log_to_a_full_pipe(void)
{
	int p[2];
	ck_assert_int_eq(pipe2(p, O_CLOEXEC | O_NONBLOCK), 0);
	ck_assert_int_eq(fcntl(p[1], F_SETPIPE_SZ, 4096), 4096);
	while (write(p[1], "................", 16) == 16)
		continue;
	log_to_fd(p[1]);
	return p[0];
}

/* What is in the pipe now, behind what filled it. */
static const char *read_all(int fd)
{
	static char text[64 << 10];
	ssize_t n = read(fd, text, sizeof(text) - 1);
	text[n > 0 ? n : 0] = '\0';
	return text + strspn(text, ".");
}

START_TEST(lines_wait_for_a_slow_reader_and_what_is_too_many_is_counted)
{
	int fd = log_to_a_full_pipe();
	log_hold();
	log_warn("a", "first");
	log_error("b", "second"); /* what may be the last word waits, too, rather than block */
	ck_assert(!log_flush());
	ck_assert_str_eq(read_all(fd), "");
	ck_assert(log_flush());
	ck_assert_str_eq(read_all(fd), "stayd: a: first\nstayd: b: second\n");

	while (write(log_descriptor(), "................", 16) == 16)
		continue;
	for (int i = 0; i < 2000; i++)
		log_warn("u", "line %04d", i);
	unsigned n = 0, dropped = 0;
	for (bool is_over = false; !is_over;) {
		const char *line = read_all(fd);
		is_over = log_flush() && *line == '\0' && n > 0;
		for (; *line; line = strchr(line, '\n') + 1) {
			char want[64];
			snprintf(want, sizeof(want), "stayd: u: line %04u\n", n);
			if (strncmp(line, want, strlen(want)) == 0)
				n++;
			else
				ck_assert_int_eq(
					sscanf(line, "stayd: %u lines dropped", &dropped), 1);
		}
	}
	ck_assert_uint_gt(n, 500); /* 16 KiB of them */
	ck_assert_uint_eq(n + dropped, 2000);
	fd_close(fd);
	ck_assert(log_flush()); /* nobody will read it: nothing waits */
	log_warn("u", "to nobody");
	(void)signal(SIGPIPE, SIG_IGN);
	ck_assert(log_flush());
}
END_TEST

START_TEST(lines_of_who_never_flushes_do_not_wait)
{
	int fd = log_to_a_full_pipe();
	log_warn("a", "first");
	log_warn("b", "second");
	ck_assert_str_eq(read_all(fd), "");
	log_warn("c", "third");
	ck_assert_str_eq(
		read_all(fd), "stayd: 2 lines dropped, nobody read them\nstayd: c: third\n");
	fd_close(fd);
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
	tcase_add_test(t, lines_wait_for_a_slow_reader_and_what_is_too_many_is_counted);
	tcase_add_test(t, lines_of_who_never_flushes_do_not_wait);
	suite_add_tcase(s, t);
	return s;
}
