/* SPDX-License-Identifier: Apache-2.0 */
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "../../ctl/ctl.h"
#include "check_main.h"

/* ---- a daemon that says what it is told, and stayctl's output in files ---- */

static char dir[32], socket_name[64], out_name[64], err_name[64];
static struct buf out, err;

static void setup(void)
{
	snprintf(dir, sizeof(dir), "/tmp/stayctl-XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(dir));
	snprintf(socket_name, sizeof(socket_name), "%s/s", dir);
	snprintf(out_name, sizeof(out_name), "%s/out", dir);
	snprintf(err_name, sizeof(err_name), "%s/err", dir);
}

static void teardown(void)
{
	unlink(socket_name);
	unlink(out_name);
	unlink(err_name);
	rmdir(dir);
	buf_done(&out);
	buf_done(&err);
}

/* Answers a connection with messages, each ending in '\n', sent as NUL. A '\f' begins those of the
 * next connection; the last ones are for all that follow. */
static void serve(int listener, const char *answers)
{
	for (;;) {
		int fd = accept(listener, NULL, NULL);
		char c = 1;
		const char *p = answers, *end = strchrnul(answers, '\f');
		if (fd < 0)
			_exit(0);
		while (c != '\0' && read(fd, &c, 1) == 1)
			;
		for (; p < end; p++) {
			c = *p == '\n' ? '\0' : *p;
			if (write(fd, &c, 1) != 1)
				break;
		}
		if (*end)
			answers = end + 1;
		if (*end || !strstr(answers, "\"continues\":true") || strstr(answers, "\"last\""))
			close(fd); /* else it is kept open: the request goes on */
	}
}

static pid_t daemon_start(const char *answers)
{
	struct sockaddr_un a;
	unsigned len;
	unlink(socket_name);
	ck_assert_int_eq(unix_addr(socket_name, &a, &len), 0);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	ck_assert_int_eq(bind(fd, (struct sockaddr *)&a, len), 0);
	ck_assert_int_eq(listen(fd, 8), 0);
	pid_t pid = fork();
	ck_assert_int_ge(pid, 0);
	if (pid == 0)
		serve(fd, answers);
	close(fd);
	return pid;
}

/* The exit code; what it printed is in out and err. */
static int run(const char *answers, ...)
{
	char *argv[16] = {(char *)"stayctl", (char *)"--socket", socket_name};
	int argc = 3, status;
	va_list ap;
	va_start(ap, answers);
	while ((argv[argc] = va_arg(ap, char *)))
		argc++;
	va_end(ap);
	pid_t server = answers ? daemon_start(answers) : 0;
	fflush(NULL);
	pid_t pid = fork();
	if (pid == 0) {
		if (!freopen(out_name, "w", stdout) || !freopen(err_name, "w", stderr))
			_exit(99);
		unsetenv("LC_ALL");
		setenv("LANG", "C", 1);
		unsetenv("STAYD_SOCKET");
		int code = ctl_main(argc, argv);
		fflush(NULL);
		_exit(code);
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	if (server) {
		kill(server, SIGKILL);
		waitpid(server, NULL, 0);
	}
	buf_reset(&out);
	buf_reset(&err);
	ck_assert_int_ge(read_file(AT_FDCWD, out_name, 1 << 20, &out), 0);
	ck_assert_int_ge(read_file(AT_FDCWD, err_name, 1 << 20, &err), 0);
	ck_assert(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static bool said(const struct buf *b, const char *text)
{
	return b->size && strstr(b->data, text);
}

#define UNIT(name, load, active, sub)                                                              \
	"{\"name\":\"" name "\",\"load_state\":\"" load "\",\"active_state\":\"" active            \
	"\",\"sub_state\":\"" sub "\",\"set\":\"\",\"description\":\"d\",\"detail\":\"\"}"
#define STATUS(units)                                                                                    \
	"{\"parameters\":{\"schema\":\"stay.status/1\",\"daemon\":{\"version\":\"1\"},\"units\":[" units \
	"],\"sets\":[]}}\n"
#define OUTCOME(result, more)                                                                                 \
	"{\"parameters\":{\"request\":\"r-1\",\"outcomes\":[{\"name\":\"web@1.service\",\"result\":\"" result \
	"\",\"text\":\"t\"" more "}]}}\n"
#define ERROR(name) "{\"error\":\"" name "\",\"parameters\":{\"message\":\"m\",\"hint\":\"h\"}}\n"

START_TEST(a_bare_status_is_0_whatever_is_down)
{
	ck_assert_int_eq(
		run(STATUS(UNIT("a.service", "loaded", "failed", "failed")), "status", NULL), 0);
	ck_assert(said(&out, "x a.service"));
	ck_assert_int_eq(run(STATUS(""), "status", NULL), 0);
}
END_TEST

START_TEST(status_of_a_unit_is_0_3_or_4)
{
	static const struct {
		const char *answer;
		int code;
	} rows[] = {
		{STATUS(UNIT("a.service", "loaded",            "active", "running")), 0},
		{STATUS(UNIT("a.service",            "loaded",                              "inactive", "dead")), 3},
		{STATUS(UNIT("a.service", "loaded", "failed", "failed")), 3},
		{STATUS(UNIT("a.service",               "not-found",                                 "inactive", "dead")), 4},
		{ERROR("org.stayd.NoSuchUnit"), 4           },
	};
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		ck_assert_int_eq(run(rows[i].answer, "status", "a", NULL), rows[i].code);
		ck_assert_int_eq(run(rows[i].answer, "is-active", "a", NULL), rows[i].code);
	}
	ck_assert_int_eq(run(NULL, "is-active", "a", NULL), 4);
	ck_assert_int_eq(run(NULL, "status", "a", NULL), 154);
	ck_assert_int_eq(run(rows[2].answer, "is-failed", "a", NULL), 0);
	ck_assert_int_eq(run(rows[0].answer, "is-failed", "a", NULL), 1);
}
END_TEST

START_TEST(json_is_one_document_with_schema_first)
{
	static const char *const verbs_of[] = {"status", "ps", "list-units"};
	for (size_t i = 0; i < ARRAY_SIZE(verbs_of); i++) {
		run(STATUS(UNIT("a.service", "loaded", "active", "running")), verbs_of[i], "--json",
			NULL);
		ck_assert_msg(startswith(out.data, "{\"schema\":\"stay."), "%s", out.data);
		json_t *j = json_loadb(out.data, out.size, 0, NULL);
		ck_assert_ptr_nonnull(j);
		json_decref(j);
		ck_assert_uint_eq(err.size, 0);
	}
	run(OUTCOME("failed", ""), "start", "a", "--json", NULL);
	ck_assert(startswith(out.data, "{\"schema\":\"stay.start/1\""));
}
END_TEST

START_TEST(exit_codes_follow_the_outcome)
{
	static const struct {
		const char *answer;
		int code;
	} rows[] = {
		{OUTCOME("done",        ""),                      0},
                {OUTCOME("skipped",                     ""),                             0},
                {OUTCOME("failed",                    ""),                1},
		{OUTCOME("refused",""),       152},
                {OUTCOME("rolled-back",     ""),                            150},
		{OUTCOME("halted",                     ""),                         151},
                {OUTCOME("not-running",                  ""),               7},
		{ERROR("org.stayd.NoSuchUnit"),5},
                {ERROR("org.stayd.NotConfigured"), 6    },
		{ERROR("org.stayd.Refused"),                     152                },
                {ERROR("org.stayd.BadArgument"),                     2                   },
		{ERROR("org.varlink.service.PermissionDenied"),                     4               },
		{ERROR("org.varlink.service.MethodNotFound"),                     3},
		{"",		     154}, /* closed without an answer */
	};
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		ck_assert_int_eq(run(rows[i].answer, "restart", "a", NULL), rows[i].code);
		ck_assert_int_eq(run(rows[i].answer, "deploy", "a", "v2", NULL), rows[i].code);
	}
	ck_assert_int_eq(run(NULL, "deploy", "a", "v2", NULL), 154);
}
END_TEST

START_TEST(a_timeout_leaves_the_request_and_says_its_id)
{
	static const char going[] =
		"{\"continues\":true,\"parameters\":{\"request\":\"r-7\",\"outcomes\":[]}}\n";
	/* long enough for the answer to come on a loaded machine, too */
	ck_assert_int_eq(run(going, "start", "a", "--timeout", "3s", NULL), 153);
	ck_assert(said(&err, "r-7 goes on"));
	ck_assert_int_eq(run(going, "deploy", "a", "v2", "--timeout", "50ms", NULL), 153);
	/* An answer that has begun and does not end. */
	ck_assert_int_eq(run("{\"continues\":true", "wait", "a", "--timeout", "50ms", NULL), 153);
}
END_TEST

START_TEST(a_failure_says_cause_answer_log_and_hint_on_stderr)
{
	ck_assert_int_eq(
		run(OUTCOME("failed",
			    ",\"unit\":\"web@1.service\",\"cause\":\"not ready after 30s\",\"probe\":\"http://x/\","
			    "\"answer\":\"503\",\"log\":[\"FATAL \\u001b[31m db\"],\"hint\":\"stayctl logs web@1\""),
			"start", "web@1", NULL),
		1);
	ck_assert(said(&err, "cause: not ready after 30s"));
	ck_assert(said(&err, "http://x/ -> 503"));
	ck_assert(said(&err, "FATAL \\x1b[31m db"));
	ck_assert(said(&err, "hint: stayctl logs web@1"));
	ck_assert_uint_eq(out.size, 0);
}
END_TEST

START_TEST(a_deploy_tells_each_change_once)
{
#define STEP(step, more)                                                                                         \
	"\"parameters\":{\"request\":\"r-1\",\"rollout\":{\"id\":\"d-1\",\"set\":\"web\",\"state\":\"rolling\"," \
	"\"count\":1,\"available\":1,\"members\":[{\"name\":\"web@1\",\"index\":1,\"step\":\"" step              \
	"\"}]}," more
	ck_assert_int_eq(
		run("{\"continues\":true," STEP("starting", "\"outcomes\":[]}}\n")     //
			"{\"continues\":true," STEP("starting", "\"outcomes\":[]}}\n") //
			"{" STEP("done",
				"\"last\":1,\"outcomes\":[{\"name\":\"web\",\"result\":\"done\"}]}}\n"),
			"deploy", "web", "v2", NULL),
		0);
	const char *first = strstr(out.data, "web@1 starting");
	ck_assert_ptr_nonnull(first);
	ck_assert_ptr_null(strstr(first + 1, "web@1 starting"));
	ck_assert(said(&out, "web@1 done"));
}
END_TEST

START_TEST(a_deploy_is_followed_across_a_restart_of_the_daemon)
{
	static const char watched[] =
		"{\"parameters\":{\"schema\":\"stay.rollout/1\",\"rollout\":{\"id\":\"d-1\","
		"\"set\":\"web\",\"state\":\"%s\",\"reason\":\"core gone\"}}}\n";
	static const struct {
		const char *state;
		int code;
	} rows[] = {
		{"done",        0  },
		{"rolled-back", 150},
		{"halted",      151},
	};
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct buf b = {0};
		buf_add_str(&b, "{\"continues\":true," STEP("starting", "\"outcomes\":[]}}\n\f"));
		const char *at = strstr(watched, "%s");
		buf_add(&b, watched, (size_t)(at - watched));
		buf_add_str(&b, rows[i].state);
		buf_add_str(&b, at + 2);
		ck_assert_int_eq(run(b.data, "deploy", "web", "v2", NULL), rows[i].code);
		ck_assert(said(&err, "note: the daemon was restarted; d-1 goes on"));
		buf_done(&b);
	}
}
END_TEST

START_TEST(a_shutdown_is_done_when_the_daemon_is_gone)
{
	ck_assert_int_eq(run("", "shutdown", NULL), 0);
	ck_assert_int_eq(run("{\"parameters\":{}}\n", "shutdown", NULL), 0);
	ck_assert_int_eq(run(ERROR("org.varlink.service.PermissionDenied"), "shutdown", NULL), 4);
	ck_assert_int_eq(run("{\"continues\":true", "shutdown", "--timeout", "50ms", NULL), 153);
	ck_assert_int_eq(run(NULL, "shutdown", NULL), 154);
}
END_TEST

START_TEST(plan_exits_0_unless_asked_for_detail)
{
	static const char answer[] =
		"{\"parameters\":{\"schema\":\"stay.plan/1\",\"changes\":2,\"text\":\"~ web\\n\"}}\n";
	ck_assert_int_eq(run(answer, "plan", "web", NULL), 0);
	ck_assert_str_eq(out.data, "~ web\n");
	ck_assert_int_eq(run(answer, "plan", "web", "--detailed-exitcode", NULL), 2);
	ck_assert_int_eq(
		run(ERROR("org.stayd.NoSuchUnit"), "plan", "web", "--detailed-exitcode", NULL), 1);
}
END_TEST

START_TEST(wrong_use_is_2_and_suggests)
{
	ck_assert_int_eq(run(NULL, "strat", "a", NULL), 2);
	ck_assert(said(&err, "did you mean 'start'"));
	ck_assert_int_eq(run(NULL, "start", "--no-wiat", "a", NULL), 2);
	ck_assert(said(&err, "did you mean --no-wait"));
	ck_assert_int_eq(run(NULL, "start", NULL), 2);
	ck_assert_int_eq(run(NULL, "start", "a", "--follow", NULL), 2);
	ck_assert_int_eq(run(NULL, "scale", "web", NULL), 2);
	ck_assert_int_eq(run(NULL, "scale", "web=x", NULL), 2);
	ck_assert_int_eq(run(NULL, "scale", "web=99999", NULL), 2);
	ck_assert_int_eq(run(NULL, "rollout", "explode", "web", NULL), 2);
	ck_assert_int_eq(run(NULL, "start", "--timeout", "soon", "a", NULL), 2);
	ck_assert_int_eq(run(NULL, NULL), 2);
}
END_TEST

START_TEST(help_of_every_verb_has_an_example_and_fits_a_screen)
{
	for (size_t i = 0; i < n_verbs; i++) {
		unsigned lines = 0;
		ck_assert_int_eq(run(NULL, "help", verbs[i].name, NULL), 0);
		for (const char *p = out.data; (p = strchr(p, '\n')); p++)
			lines++;
		ck_assert_msg(lines <= 24, "%s: %u lines", verbs[i].name, lines);
		ck_assert_msg(said(&out, "$ stayctl "), "%s has no example", verbs[i].name);
	}
	ck_assert_int_eq(run(NULL, "--help", NULL), 0);
	ck_assert(said(&out, "list-units"));
}
END_TEST

START_TEST(completion_offers_verbs_options_words_and_units)
{
	ck_assert_int_eq(run(NULL, "__complete", "sta", NULL), 0);
	ck_assert_str_eq(out.data, "status\nstart\n");
	run(NULL, "__complete", "start", "--no", NULL);
	ck_assert_str_eq(out.data, "--no-wait\n");
	run(NULL, "__complete", "rollout", "pa", NULL);
	ck_assert_str_eq(out.data, "pause\n");
	run(NULL, "__complete", "completion", "", NULL);
	ck_assert_str_eq(out.data, "bash\nzsh\nfish\n");
	/* Before the socket can be named: the environment's. */
	pid_t server = daemon_start("{\"parameters\":{\"names\":[\"web\",\"web@1.service\"]}}\n");
	setenv("STAYD_SOCKET", socket_name, 1);
	struct ctl c = {
		.argc = 2, .argv = (char *[]){(char *)"start", (char *)"we"}
        };
	fflush(NULL);
	int saved = dup(1), fd = open(out_name, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	dup2(fd, 1);
	do_complete_words(&c);
	fflush(stdout);
	dup2(saved, 1);
	close(saved);
	close(fd);
	kill(server, SIGKILL);
	waitpid(server, NULL, 0);
	buf_reset(&out);
	ck_assert_int_ge(read_file(AT_FDCWD, out_name, 1 << 20, &out), 0);
	ck_assert_str_eq(out.data, "web\nweb@1.service\n");
}
END_TEST

START_TEST(tables_line_up_by_characters)
{
	static const char *const heads[] = {"A", "B"};
	struct table t;
	char *text = NULL;
	size_t size;
	FILE *f = open_memstream(&text, &size);
	table_begin(&t, 2, heads);
	table_add(&t, "● é");
	table_add(&t, "x\033[1m");
	table_add(&t, "long cell");
	table_add(&t, "");
	table_print(&t, f);
	fclose(f);
	ck_assert_str_eq(text, "A          B\n● é        x?[1m\nlong cell  -\n");
	free(text);
}
END_TEST

START_TEST(spans_and_instants_are_read)
{
	uint64_t us;
	ck_assert_int_eq(parse_span("30", &us), 0);
	ck_assert_uint_eq(us, 30 * USEC_PER_SEC);
	ck_assert_int_eq(parse_span("1.5min", &us), 0);
	ck_assert_uint_eq(us, 90 * USEC_PER_SEC);
	ck_assert_int_eq(parse_span("500ms", &us), 0);
	ck_assert_uint_eq(us, 500 * USEC_PER_MSEC);
	ck_assert_int_eq(parse_span("-1", &us), -EINVAL);
	ck_assert_int_eq(parse_span("nan", &us), -EINVAL);
	ck_assert_int_eq(parse_span("", &us), -EINVAL);
	ck_assert_int_eq(parse_span("3 parsecs", &us), -EINVAL);
	char stamp[TIMESTAMP_MAX];
	ck_assert_int_eq(
		parse_rfc3339(format_timestamp(stamp, 1700000000123000)), 1700000000123000);
	ck_assert_int_eq(parse_rfc3339("yesterday"), -1);
}
END_TEST

Suite *suite(void)
{
	Suite *s = suite_create("ctl");
	TCase *t = tcase_create("ctl");
	tcase_set_timeout(t, 60);
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, a_bare_status_is_0_whatever_is_down);
	tcase_add_test(t, status_of_a_unit_is_0_3_or_4);
	tcase_add_test(t, json_is_one_document_with_schema_first);
	tcase_add_test(t, exit_codes_follow_the_outcome);
	tcase_add_test(t, a_timeout_leaves_the_request_and_says_its_id);
	tcase_add_test(t, a_failure_says_cause_answer_log_and_hint_on_stderr);
	tcase_add_test(t, a_deploy_tells_each_change_once);
	tcase_add_test(t, a_deploy_is_followed_across_a_restart_of_the_daemon);
	tcase_add_test(t, a_shutdown_is_done_when_the_daemon_is_gone);
	tcase_add_test(t, plan_exits_0_unless_asked_for_detail);
	tcase_add_test(t, wrong_use_is_2_and_suggests);
	tcase_add_test(t, help_of_every_verb_has_an_example_and_fits_a_screen);
	tcase_add_test(t, completion_offers_verbs_options_words_and_units);
	tcase_add_test(t, tables_line_up_by_characters);
	tcase_add_test(t, spans_and_instants_are_read);
	suite_add_tcase(s, t);
	return s;
}
