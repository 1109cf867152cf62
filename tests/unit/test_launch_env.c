/* SPDX-License-Identifier: Apache-2.0 */
/* Environment files, the order of sources, and command line expansion, against systemd.exec(5) and
 * systemd.service(5). */
#include "launch_rig.h"

#include <time.h>

static struct unit u;
static struct strv env;
static struct err err;

static int parse(const char *text)
{
	strv_done(&env);
	memset(&env, 0, sizeof(env));
	return env_parse_file("f.env", text, strlen(text), &env, &err);
}

static void expect_var(const char *name, const char *value)
{
	const char *got = env_get(&env, name, strlen(name));
	ck_assert_msg(got != NULL, "%s is not set", name);
	ck_assert_str_eq(got, value);
}

START_TEST(environment_files_read_as_systemd_reads_them)
{
	ck_assert_int_eq(parse("# comment\n; another\\\nstill=comment\n"
			       "A=plain value with blanks  \n"
			       "  B = spaced\n"
			       "C='single $x \\n'\n"
			       "D=\"double \\\" \\$ \\x \\\nnext\"\n"
			       "E=a\\ b\\\nc\n"
			       "F=\n"
			       "not a line\n"
			       "1BAD=x\n"
			       "G=it's\n"
			       "H='one''two' three\n"
			       "A=again\r\n"
			       "I=\"multi\nline\""),
		0);
	expect_var("A", "again");
	expect_var("B", "spaced");
	expect_var("C", "single $x \\n");
	expect_var("D", "double \" $ \\x next");
	expect_var("E", "a bc");
	expect_var("F", "");
	expect_var("G", "it's");
	expect_var("H", "onetwothree");
	expect_var("I", "multi\nline");
	ck_assert_uint_eq(env.n, 9);
}
END_TEST

START_TEST(an_unreadable_byte_is_named_with_file_and_line)
{
	ck_assert_int_eq(parse("A=b\nB=\xff\n"), -EINVAL);
	ck_assert_str_eq(err.text, "f.env:2: not valid UTF-8");
	strv_done(&env);
	memset(&env, 0, sizeof(env));
	ck_assert_int_eq(env_parse_file("f.env", "A=1\n\0", 5, &env, &err), -EINVAL);
	ck_assert_ptr_nonnull(strstr(err.text, "f.env:2"));
}
END_TEST

/* Whoever may write the file is not who waits for it: the daemon does. */
START_TEST(a_file_of_many_names_is_no_matter_of_seconds)
{
	enum { NAMES = 60000 };
	struct buf b = {0};
	for (unsigned i = 0; i < NAMES; i++)
		buf_printf(&b, "NAME%u=\n", i);
	buf_add_str(&b, "NAME7=last\nNAME59999=one\nNAME59999=two\n");
	clock_t before = clock();
	ck_assert_int_eq(parse(b.data), 0);
	ck_assert_int_lt((clock() - before) / CLOCKS_PER_SEC, 5); /* quadratic: 18 s */
	ck_assert_uint_eq(env.n, NAMES);
	ck_assert_str_eq(env.v[7], "NAME7=last");
	ck_assert_str_eq(env.v[8], "NAME8=");
	ck_assert_str_eq(env.v[NAMES - 1], "NAME59999=two");
	buf_done(&b);
}
END_TEST

static void build(int expected)
{
	struct launch_image *image = image_of(&u.conf);
	strv_done(&env);
	memset(&env, 0, sizeof(env));
	int r = env_build(image, &u.vars, &env, &err);
	ck_assert_msg(r == expected, "%d: %s", r, err.text);
	launch_image_free(image);
}

START_TEST(later_sources_win_and_unset_takes_away)
{
	NEED_ROOT(); /* for another user */
	static const char *const last[] = {"PORT=8001", "GONE=back"};
	char path[] = "/tmp/test-env-XXXXXX";
	int fd = mkstemp(path);
	ck_assert_int_eq(write_all(fd, "FILE=file\nBOTH=file\nPASS=file\n", 30), 0);
	close(fd);
	unit_init(&u, "/bin/true");
	setenv("PASS", "outer", 1);
	setenv("PASSED", "yes", 1);
	setenv("OTHER", "never", 1);
	u.conf.exec.pass_environment = LIST((char *)"PASS", (char *)"PASSED", (char *)"UNKNOWN_X");
	u.conf.exec.environment = LIST((char *)"BOTH=unit", (char *)"ENV=unit", (char *)"GONE=1",
		(char *)"KEPT=2", (char *)"PATH=/only");
	u.conf.exec.unset_environment = LIST((char *)"GONE", (char *)"KEPT=3");
	struct env_file f[] = {
		{path,		       false},
		{(char *)"/nonexistent/env", true },
	};
	u.conf.exec.environment_files = f;
	u.conf.exec.n_environment_files = 2;
	u.conf.exec.identity.user = (char *)"nobody";
	u.vars.env = last;
	u.vars.n_env = 2;
	build(0);
	expect_var("FILE", "file");
	expect_var("BOTH", "file");
	expect_var("PASS", "file");
	expect_var("PASSED", "yes");
	expect_var("ENV", "unit");
	expect_var("KEPT", "2");
	expect_var("GONE", "back");
	expect_var("PORT", "8001");
	expect_var("PATH", "/only");
	expect_var("USER", "nobody");
	ck_assert_ptr_null(env_get(&env, "OTHER", 5));
	ck_assert_ptr_null(env_get(&env, "UNKNOWN_X", 9));
	unlink(path);
}
END_TEST

START_TEST(a_missing_file_is_an_error_and_a_fifo_does_not_stop_us)
{
	char path[] = "/tmp/test-env-XXXXXX";
	struct env_file f = {(char *)"/nonexistent/env", false};
	unit_init(&u, "/bin/true");
	u.conf.exec.environment_files = &f;
	u.conf.exec.n_environment_files = 1;
	build(-ENOENT);
	ck_assert_ptr_nonnull(strstr(err.text, "/nonexistent/env"));
	ck_assert_ptr_nonnull(mkdtemp(path));
	CLEANUP_FREE char *fifo = xasprintf("%s/fifo", path);
	ck_assert_int_eq(mkfifo(fifo, 0600), 0);
	f.path = fifo;
	build(-EINVAL);
	f.path = (char *)"/dev/zero";
	build(-EINVAL);
	f.is_optional = true;
	build(0);
	unlink(fifo);
	CLEANUP_FREE char *one = xasprintf("%s/1.env", path), *two = xasprintf("%s/2.env", path);
	CLEANUP_FREE char *pattern = xasprintf("%s/*.env", path);
	ck_assert_int_eq(write_file_atomic(one, "A=1\nB=1\n", 8, 0600), 0);
	ck_assert_int_eq(write_file_atomic(two, "B=2\n", 4, 0600), 0);
	f = (struct env_file){pattern, false};
	build(0);
	expect_var("A", "1");
	expect_var("B", "2");
	unlink(one);
	unlink(two);
	build(-ENOENT);
	rmdir(path);
}
END_TEST

static void expand(
	bool no_expand, const char *const *in, size_t n_in, const char *const *out, size_t n)
{
	struct exec_cmd cmd = {.path = (char *)"/bin/x",
		.argv = (char **)in,
		.argc = n_in,
		.no_expand = no_expand};
	struct strv argv = {0};
	ck_assert_int_eq(argv_expand(&cmd, &env, &argv), 0);
	ck_assert_uint_eq(argv.n, n);
	for (size_t i = 0; i < n; i++)
		ck_assert_str_eq(argv.v[i], out[i]);
	strv_done(&argv);
}
#define WORDS(...)                                                                                 \
	(const char *const[]){__VA_ARGS__},                                                        \
		sizeof((const char *const[]){__VA_ARGS__}) / sizeof(char *)

START_TEST(command_lines_expand_as_in_the_manual)
{
	ck_assert_int_eq(parse("ONE=one\nTWO='two two'\nQ=\"\\\"a b\\\" c\"\nEMPTY=\n"), 0);
	/* The example of systemd.service(5). */
	expand(false, WORDS("/bin/echo", "$ONE", "$TWO", "${TWO}"),
		WORDS("/bin/echo", "one", "two", "two", "two two"));
	expand(false, WORDS("/bin/echo", "${ONE}", "${TWO}"), WORDS("/bin/echo", "one", "two two"));
	expand(false, WORDS("x", "$Q"), WORDS("x", "a b", "c"));
	expand(false, WORDS("x", "$EMPTY", "${EMPTY}", "$UNSET", "${UNSET}"), WORDS("x", "", ""));
	expand(false, WORDS("x", "$$ONE", "a$$", "a$ONE", "a${ONE}b${TWO}"),
		WORDS("x", "$ONE", "a$", "a$ONE", "aonebtwo two"));
	expand(false, WORDS("x", "${ONE", "$", "${}"), WORDS("x", "${ONE", ""));
	expand(true, WORDS("x", "$ONE", "${TWO}", "$$"), WORDS("x", "$ONE", "${TWO}", "$$"));
}
END_TEST

START_TEST(the_release_link_is_replaced_where_a_path_begins)
{
	static const struct {
		const char *in, *out;
	} rows[] = {
		{"/opt/web/current",                         "/opt/web/releases/v2"           },
		{"/opt/web/current/bin/x",                   "/opt/web/releases/v2/bin/x"     },
		{"/opt/web/currently",                       "/opt/web/currently"             },
		{"--config=/opt/web/current/c",              "--config=/opt/web/releases/v2/c"},
		{"P=/a:/opt/web/current/b:/opt/web/current",
                 "P=/a:/opt/web/releases/v2/b:/opt/web/releases/v2"                           },
		{"/x/opt/web/current",                       "/x/opt/web/current"             },
		{"",					 ""			       },
	};
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		CLEANUP_FREE char *s =
			release_replace(rows[i].in, "/opt/web/current", "/opt/web/releases/v2");
		ck_assert_str_eq(s, rows[i].out);
	}
}
END_TEST

Suite *suite(void)
{
	Suite *s = suite_create("env");
	TCase *t = tcase_create("env");
	tcase_add_test(t, environment_files_read_as_systemd_reads_them);
	tcase_add_test(t, an_unreadable_byte_is_named_with_file_and_line);
	tcase_add_test(t, a_file_of_many_names_is_no_matter_of_seconds);
	tcase_add_test(t, later_sources_win_and_unset_takes_away);
	tcase_add_test(t, a_missing_file_is_an_error_and_a_fifo_does_not_stop_us);
	tcase_add_test(t, command_lines_expand_as_in_the_manual);
	tcase_add_test(t, the_release_link_is_replaced_where_a_path_begins);
	suite_add_tcase(s, t);
	return s;
}
