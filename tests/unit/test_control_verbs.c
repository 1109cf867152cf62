/* SPDX-License-Identifier: Apache-2.0 */
#include <fcntl.h>
#include <grp.h>
#include <netinet/in.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "check_main.h"
#include "control/json.h"
#include "control/waits.h"
#include "control_doubles.h"
#include "stayd/stayd.h"

#define DEADLINE_US (60 * USEC_PER_SEC)

static struct loop loop;
static struct core *core;
static char dir[] = "/tmp/stayd-control-XXXXXX", path[64];
static int listener;

static void setup(void)
{
	struct sockaddr_un a;
	unsigned len;
	memcpy(dir, "/tmp/stayd-control-XXXXXX", sizeof(dir));
	ck_assert_ptr_nonnull(mkdtemp(dir));
	ck_assert_int_eq(chmod(dir, 0755), 0);
	snprintf(path, sizeof(path), "%s/s", dir);
	ck_assert_int_eq(unix_addr(path, &a, &len), 0);
	listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	ck_assert_int_eq(bind(listener, (struct sockaddr *)&a, len), 0);
	ck_assert_int_eq(chmod(path, 0666), 0);
	ck_assert_int_eq(listen(listener, 128), 0);
	log_to_fd(open("/dev/null", O_WRONLY | O_CLOEXEC));
	ck_assert_int_eq(loop_init(&loop), 0);
	core = fake_core();
	ck_assert_int_eq(control_new(&loop, listener, NULL, &fake_daemon, core, &core->control), 0);
}

static void teardown(void)
{
	control_free(core->control);
	fake_core_free(core);
	loop_done(&loop);
	fd_close(listener);
	unlink(path);
	rmdir(dir);
}

static int dial(void)
{
	struct sockaddr_un a;
	unsigned len;
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	ck_assert_int_eq(unix_addr(path, &a, &len), 0);
	ck_assert_int_eq(connect(fd, (struct sockaddr *)&a, len), 0);
	return fd;
}

/* The next message; NULL at the end of the stream. */
static char *next(int fd)
{
	struct buf b = {0};
	uint64_t end = now_mono_us() + DEADLINE_US;
	for (;;) {
		char chunk[65536];
		ssize_t n = recv(fd, chunk, sizeof(chunk), MSG_PEEK);
		if (n > 0) { /* not byte by byte: who reads too slowly is let go */
			const char *nul = memchr(chunk, '\0', (size_t)n);
			size_t size = nul ? (size_t)(nul - chunk) : (size_t)n;
			ck_assert_int_ge(recv(fd, chunk, size + (nul != NULL), 0), (ssize_t)size);
			buf_add(&b, chunk, size);
			if (nul)
				return b.size ? b.data : xstrdup("");
			continue;
		}
		if (n == 0 || errno == ECONNRESET) {
			buf_done(&b);
			return NULL;
		}
		ck_assert_int_eq(errno, EAGAIN);
		ck_assert_msg(now_mono_us() < end, "no answer in time");
		ck_assert_int_ge(loop_turn(&loop, 20), 0);
	}
}

static void say(int fd, const void *data, size_t size)
{
	uint64_t end = now_mono_us() + DEADLINE_US;
	for (size_t at = 0; at < size;) {
		ssize_t n = send(fd, (const char *)data + at, size - at, MSG_NOSIGNAL);
		if (n < 0 && errno == EPIPE)
			return;
		at += n > 0 ? (size_t)n : 0;
		ck_assert_msg(now_mono_us() < end, "cannot send");
		if (n < 0)
			ck_assert_int_ge(loop_turn(&loop, 20), 0);
	}
}

static json_t *parse(char *text)
{
	ck_assert_msg(text, "the connection was closed");
	json_t *j = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
	ck_assert_msg(j, "not JSON: %.200s", text);
	free(text);
	return j;
}

static json_t *ask(int fd, const char *text)
{
	say(fd, text, strlen(text) + 1);
	return parse(next(fd));
}

static void expect_error(json_t *j, const char *error)
{
	ck_assert_str_eq(strna(json_string_value(json_object_get(j, "error"))), error);
	json_decref(j);
}

static json_t *params(json_t *j)
{
	ck_assert_ptr_null(json_object_get(j, "error"));
	return json_object_get(j, "parameters");
}

static const char *at(json_t *j, const char *list, size_t i, const char *key)
{
	return strna(json_string_value(
		json_object_get(json_array_get(json_object_get(params(j), list), i), key)));
}

/* Turns until nothing more is ready. */
static void settle_loop(void)
{
	for (int i = 0; i < 50; i++)
		ck_assert_int_ge(loop_turn(&loop, 0), 0);
}

#define M(x) "{\"method\":\"org.stayd.Control." x "}"

START_TEST(status_has_schema_first_and_every_unit)
{
	int fd = dial();
	static const char call[] = M("Status\"");
	say(fd, call, sizeof(call));
	char *text = next(fd);
	ck_assert(startswith(text, "{\"parameters\":{\"schema\":\"stay.status/1\","));
	json_t *j = parse(text);
	ck_assert_uint_eq(json_array_size(json_object_get(params(j), "units")), 4);
	ck_assert_str_eq(at(j, "units", 0, "name"), "web@1.service");
	ck_assert_str_eq(at(j, "units", 0, "active_state"), "active");
	ck_assert_str_eq(at(j, "sets", 0, "name"), "web");
	ck_assert_int_eq(json_integer_value(
				 json_object_get(json_object_get(params(j), "daemon"), "core_pid")),
		42);
	json_decref(j);
	close(fd);
}
END_TEST

START_TEST(status_of_an_unknown_unit_says_not_found_and_suggests)
{
	int fd = dial();
	json_t *j = ask(fd, M("Status\",\"parameters\":{\"names\":[\"bd\"]}"));
	ck_assert_str_eq(at(j, "units", 0, "load_state"), "not-found");
	ck_assert_ptr_nonnull(strstr(at(j, "units", 0, "detail"), "did you mean 'db.service'"));
	json_decref(j);
	close(fd);
}
END_TEST

START_TEST(a_message_in_single_bytes_is_one_message)
{
	int fd = dial();
	static const char call[] = M("Ping\"");
	for (size_t i = 0; i < sizeof(call); i++) {
		say(fd, call + i, 1);
		settle_loop();
	}
	json_t *j = parse(next(fd));
	ck_assert_str_eq(json_string_value(json_object_get(params(j), "version")), "0");
	json_decref(j);
	close(fd);
}
END_TEST

START_TEST(two_messages_at_once_are_answered_in_order)
{
	int fd = dial();
	static const char calls[] = M("Ping\"") "\0" M("Names\"");
	say(fd, calls, sizeof(calls));
	json_t *a = parse(next(fd)), *b = parse(next(fd));
	ck_assert_ptr_nonnull(json_object_get(params(a), "version"));
	ck_assert_ptr_nonnull(json_object_get(params(b), "names"));
	json_decref(a);
	json_decref(b);
	close(fd);
}
END_TEST

START_TEST(a_message_of_the_largest_size_is_read_and_one_more_byte_is_not)
{
	for (size_t more = 0; more < 2; more++) {
		int fd = dial();
		char *m = xmalloc(CONTROL_MESSAGE_MAX + 2);
		memset(m, ' ', CONTROL_MESSAGE_MAX + 2);
		memcpy(m, M("Ping\""), sizeof(M("Ping\"")) - 1);
		m[CONTROL_MESSAGE_MAX + more] = '\0';
		say(fd, m, CONTROL_MESSAGE_MAX + more + 1);
		json_t *j = parse(next(fd));
		if (more) {
			expect_error(j, "org.stayd.Malformed");
			ck_assert_ptr_null(next(fd));
		} else {
			ck_assert_ptr_nonnull(json_object_get(params(j), "version"));
			json_decref(j);
		}
		free(m);
		close(fd);
	}
}
END_TEST

START_TEST(what_is_not_a_call_is_refused_and_ends_the_connection)
{
	static const char *const bad[] = {"hello", "[]", "{}", "{\"method\":7}", "\xff\xfe",
		"{\"method\":\"org.stayd.Control.Ping\",\"parameters\":[]}",
		"{\"method\":\"org.stayd.Control.Ping\",\"more\":1}",
		"{\"a\":[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]}", ""};
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		int fd = dial();
		expect_error(ask(fd, bad[i]), "org.stayd.Malformed");
		ck_assert_ptr_null(next(fd));
		close(fd);
	}
}
END_TEST

START_TEST(wrong_methods_and_parameters_get_varlink_errors)
{
	static const struct {
		const char *call, *error;
	} rows[] = {
		{M("Nope\""),							    "org.varlink.service.MethodNotFound"   },
		{"{\"method\":\"org.varlink.service.X\"}",                               "org.varlink.service.MethodNotFound"   },
		{"{\"method\":\"com.example.Ping\"}",                                    "org.varlink.service.InterfaceNotFound"},
		{"{\"method\":\"nodots\"}",					      "org.varlink.service.InterfaceNotFound"},
		{M("Start\""),							   "org.varlink.service.InvalidParameter" },
		{M("Start\",\"parameters\":{\"names\":\"web\"}"),
                 "org.varlink.service.InvalidParameter"									 },
		{M("Start\",\"parameters\":{\"names\":[1]}"),
                 "org.varlink.service.InvalidParameter"									 },
		{M("Ping\",\"parameters\":{\"x\":1}"),                                   "org.varlink.service.InvalidParameter" },
		{M("Start\",\"parameters\":{\"names\":[\"nope\"]}"),                     "org.stayd.NoSuchUnit"                 },
		{M("Start\",\"parameters\":{\"names\":[]}"),                             "org.stayd.BadArgument"                },
		{M("Scale\",\"parameters\":{\"name\":\"web\",\"count\":-1}"),
                 "org.stayd.BadArgument"											},
		{M("Scale\",\"parameters\":{\"name\":\"db\",\"count\":1}"),              "org.stayd.NoSuchUnit"                 },
		{M("Kill\",\"parameters\":{\"names\":[\"db\"],\"signal\":\"NOPE\"}"),
                 "org.stayd.BadArgument"											},
		{M("Deploy\",\"parameters\":{\"name\":\"web\",\"release\":\"../x\"}"),
                 "org.stayd.BadArgument"											},
		{M("Deploy\",\"parameters\":{\"name\":\"web\",\"release\":\"locked\"}"),
                 "org.stayd.Refused"											    },
		{M("Reexec\""),							  "org.stayd.Unsupported"                },
	};
	int fd = dial();
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		expect_error(ask(fd, rows[i].call), rows[i].error);
	close(fd);
}
END_TEST

START_TEST(a_start_is_submitted_with_its_actor_and_answered_with_its_outcome)
{
	int fd = dial();
	core->result = REPLY_FAILED;
	core->result_text = "exit-code 1";
	json_t *j = ask(fd, M("Start\",\"parameters\":{\"names\":[\"web#2\"]}"));
	ck_assert_int_eq(core->last.verb, REQ_START);
	ck_assert_str_eq(core->last.unit->name, "web@2.service");
	ck_assert_ptr_nonnull(strstr(core->last.actor, "uid "));
	ck_assert_str_eq(at(j, "outcomes", 0, "result"), "failed");
	ck_assert_str_eq(at(j, "outcomes", 0, "text"), "exit-code 1");
	ck_assert_ptr_nonnull(strstr(at(j, "outcomes", 0, "hint"), "stayctl logs web@2"));
	/* Raw bytes of a log arrive as valid JSON. */
	json_t *log =
		json_object_get(json_array_get(json_object_get(params(j), "outcomes"), 0), "log");
	ck_assert_str_eq(
		json_string_value(json_array_get(log, 1)), "\x1b[31mline \xef\xbf\xbd two");
	json_decref(j);
	close(fd);
}
END_TEST

START_TEST(a_refusal_brings_no_log_lines)
{
	int fd = dial();
	core->result = REPLY_REFUSED;
	core->result_text = "no ExecReload=";
	json_t *j = ask(fd, M("Reload\",\"parameters\":{\"names\":[\"db\"]}"));
	ck_assert_str_eq(at(j, "outcomes", 0, "result"), "refused");
	ck_assert_ptr_null(
		json_object_get(json_array_get(json_object_get(params(j), "outcomes"), 0), "log"));
	json_decref(j);
	close(fd);
}
END_TEST

START_TEST(a_set_restarts_as_one_and_starts_member_by_member)
{
	int fd = dial();
	json_decref(ask(fd, M("Restart\",\"parameters\":{\"names\":[\"web\"]}")));
	ck_assert_int_eq(core->last.verb, REQ_ROLLING_RESTART);
	ck_assert_str_eq(core->last.set->name, "web");
	ck_assert_uint_eq(core->n_submitted, 1);
	json_decref(ask(fd, M("Start\",\"parameters\":{\"names\":[\"web\"]}")));
	ck_assert_uint_eq(core->n_submitted, 4);
	json_decref(ask(fd, M("Stop\",\"parameters\":{\"names\":[\"web@*\"]}")));
	ck_assert_uint_eq(core->n_submitted, 7);
	ck_assert_int_eq(core->last.verb, REQ_STOP);
	close(fd);
}
END_TEST

START_TEST(an_instance_is_never_taken_for_its_set)
{
	static const char *const names[] = {"web@1", "web#1", "web@1.service"};
	int fd = dial();
	for (unsigned i = 0; i < ARRAY_SIZE(names); i++) {
		char call[160];
		snprintf(call, sizeof(call), M("Restart\",\"parameters\":{\"names\":[\"%s\"]}"),
			names[i]);
		json_decref(ask(fd, call));
		ck_assert_uint_eq(core->n_submitted, i + 1);
		ck_assert_int_eq(core->last.verb, REQ_RESTART);
		ck_assert_ptr_null(core->last.set);
		ck_assert_str_eq(core->last.unit->name, "web@1.service");
		snprintf(call, sizeof(call), M("Deploy\",\"parameters\":{\"name\":\"%s\"}"),
			names[i]);
		expect_error(ask(fd, call), "org.stayd.BadArgument");
	}
	close(fd);
}
END_TEST

START_TEST(an_answer_waits_for_every_outcome)
{
	int fd = dial();
	core->is_deferred = true;
	static const char call[] =
		M("Start\",\"parameters\":{\"names\":[\"web@1\",\"db\"]}") "\0" M("Ping\"");
	say(fd, call, sizeof(call));
	settle_loop();
	ck_assert_uint_eq(core->n_submitted, 2);
	control_reply_done(core->control, 2, REPLY_DONE, NULL);
	settle_loop();
	char c;
	ck_assert_int_eq(recv(fd, &c, 1, 0), -1);
	control_reply_done(core->control, 1, REPLY_SKIPPED, "already");
	json_t *j = parse(next(fd));
	ck_assert_str_eq(at(j, "outcomes", 0, "result"), "skipped");
	ck_assert_str_eq(at(j, "outcomes", 1, "result"), "done");
	json_decref(j);
	j = parse(next(fd)); /* the message that stood behind it */
	ck_assert_ptr_nonnull(json_object_get(params(j), "version"));
	json_decref(j);
	control_reply_done(core->control, 1, REPLY_DONE, NULL); /* twice, unknown: ignored */
	control_reply_done(core->control, 999, REPLY_DONE, NULL);
	close(fd);
}
END_TEST

START_TEST(no_wait_answers_at_once_with_the_id)
{
	int fd = dial();
	core->is_deferred = true;
	json_t *j = ask(fd, M("Start\",\"parameters\":{\"names\":[\"db\"],\"no_wait\":true}"));
	ck_assert_str_eq(json_string_value(json_object_get(params(j), "request")), "r-1");
	ck_assert_str_eq(at(j, "outcomes", 0, "result"), "started");
	json_decref(j);
	control_reply_done(core->control, 1, REPLY_DONE, NULL);
	close(fd);
}
END_TEST

START_TEST(a_request_outlives_its_client)
{
	int fd = dial();
	core->is_deferred = true;
	static const char call[] = M("Start\",\"parameters\":{\"names\":[\"db\"]}");
	say(fd, call, sizeof(call));
	settle_loop();
	ck_assert_uint_eq(control_clients(core->control), 1);
	close(fd);
	settle_loop();
	ck_assert_uint_eq(control_clients(core->control), 0);
	control_reply_done(core->control, 1, REPLY_DONE, NULL);
}
END_TEST

static void event(struct unit *u, struct set *s, const char *text)
{
	struct effect fx = {
		.kind = FX_EVENT, .event = EVENT_READY, .unit = u, .set = s, .text = (char *)text};
	control_event(core->control, &fx);
}

START_TEST(events_follow_what_they_were_asked_for)
{
	int fd = dial();
	json_t *j = ask(fd, "{\"method\":\"org.stayd.Control.Events\",\"more\":true,"
			    "\"parameters\":{\"names\":[\"db\"]}}");
	ck_assert(json_is_true(json_object_get(j, "continues")));
	json_decref(j);
	event(core->world.units[0], NULL, "not this");
	event(core->world.units[3], NULL, "this");
	j = parse(next(fd));
	ck_assert_str_eq(at(j, "events", 0, "text"), "this");
	ck_assert_str_eq(at(j, "events", 0, "unit"), "db.service");
	json_decref(j);
	close(fd);
	fd = dial();
	for (int i = 0; i < 1200; i++)
		event(core->world.units[3], NULL, "many");
	j = ask(fd, M("Events\""));
	ck_assert_uint_eq(json_array_size(json_object_get(params(j), "events")), RING_MAX);
	json_decref(j);
	close(fd);
}
END_TEST

START_TEST(a_reader_that_does_not_read_is_let_go_and_others_are_served)
{
	int slow = dial(), other = dial();
	char *text = xmalloc(8192);
	memset(text, 'x', 8191);
	text[8191] = '\0';
	static const char call[] = "{\"method\":\"org.stayd.Control.Events\",\"more\":true}";
	say(slow, call, sizeof(call));
	settle_loop();
	for (int i = 0; i < 400; i++) {
		event(core->world.units[3], NULL, text);
		ck_assert_int_ge(loop_turn(&loop, 0), 0);
	}
	json_decref(ask(other, M("Ping\"")));
	unsigned n = 0;
	char *m, *last = NULL;
	while ((m = next(slow))) {
		free(last);
		last = m;
		n++;
	}
	ck_assert_uint_lt(n, 400);
	expect_error(parse(last), "org.stayd.TooSlow");
	free(text);
	close(slow);
	close(other);
}
END_TEST

START_TEST(wait_answers_when_the_state_is_reached)
{
	int fd = dial();
	struct unit *u = core->world.units[3];
	u->rec.state = INST_DEAD;
	static const char call[] =
		M("Wait\",\"parameters\":{\"names\":[\"db\"],\"for\":\"ready\"}");
	say(fd, call, sizeof(call));
	settle_loop();
	char c;
	ck_assert_int_eq(recv(fd, &c, 1, 0), -1);
	u->rec.state = INST_RUNNING;
	event(u, NULL, "up");
	json_t *j = parse(next(fd));
	ck_assert_str_eq(at(j, "outcomes", 0, "result"), "done");
	json_decref(j);
	close(fd);
}
END_TEST

START_TEST(a_deploy_streams_its_rollout_and_ends_with_the_outcome)
{
	int fd = dial();
	core->is_deferred = true;
	json_t *j = ask(fd, "{\"method\":\"org.stayd.Control.Deploy\",\"more\":true,"
			    "\"parameters\":{\"name\":\"web\",\"release\":\"v2\"}}");
	ck_assert(json_is_true(json_object_get(j, "continues")));
	ck_assert_str_eq(
		json_string_value(json_object_get(json_object_get(params(j), "rollout"), "id")),
		"d-118");
	json_decref(j);
	event(NULL, core->world.sets[0], "step");
	j = parse(next(fd));
	ck_assert(json_is_true(json_object_get(j, "continues")));
	json_decref(j);
	control_reply_done(core->control, 1, REPLY_ROLLED_BACK, "web@2 not ready");
	j = parse(next(fd));
	ck_assert_ptr_null(json_object_get(j, "continues"));
	ck_assert_str_eq(at(j, "outcomes", 0, "result"), "rolled-back");
	json_decref(j);
	close(fd);
}
END_TEST

START_TEST(a_guest_may_look_and_change_nothing)
{
	NEED_ROOT(); /* for another uid; the rules are tested in test_control_access.c */
	ck_assert_int_eq(seteuid(65534), 0);
	int fd = dial();
	ck_assert_int_eq(seteuid(0), 0);
	json_decref(ask(fd, M("Status\"")));
	for (int i = 0; i < METHOD_MAX; i++) {
		char call[128];
		if (methods[i].role == CONTROL_GUEST)
			continue;
		snprintf(call, sizeof(call), M("%s\""), methods[i].name);
		expect_error(ask(fd, call), "org.varlink.service.PermissionDenied");
	}
	ck_assert_uint_eq(core->n_submitted, 0);
	ck_assert_uint_eq(core->n_shutdown, 0);
	close(fd);
}
END_TEST

START_TEST(every_change_needs_more_than_a_viewer)
{
	for (int i = 0; i < METHOD_MAX; i++)
		ck_assert(!methods[i].is_change || methods[i].role > CONTROL_VIEWER);
}
END_TEST

START_TEST(connections_of_one_uid_are_bounded)
{
	int fds[CONTROL_CLIENTS_UID_MAX + 1];
	for (size_t i = 0; i < ARRAY_SIZE(fds); i++) {
		fds[i] = dial();
		settle_loop();
	}
	expect_error(parse(next(fds[CONTROL_CLIENTS_UID_MAX])), "org.stayd.Busy");
	ck_assert_ptr_null(next(fds[CONTROL_CLIENTS_UID_MAX]));
	json_decref(ask(fds[0], M("Ping\"")));
	for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
		close(fds[i]);
}
END_TEST

START_TEST(a_started_message_that_never_ends_is_closed)
{
	int fd = dial();
	uint64_t began = now_mono_us();
	say(fd, "{", 1);
	ck_assert_ptr_null(next(fd));
	ck_assert_uint_ge(now_mono_us() - began, CONTROL_IDLE_US - USEC_PER_SEC);
	close(fd);
}
END_TEST

/* The time of one who has used up his share and is not listened to stands still. */
START_TEST(a_started_message_is_waited_for_while_its_sender_is_not_listened_to)
{
	static const char first[] = M("Status\"") "\0{\"method\"",
			  rest[] = ":\"org.stayd.Control.Ping\"}";
	NEED_ROOT(); /* for another uid */
	ck_assert_int_eq(seteuid(65534), 0);
	int fd = dial();
	ck_assert_int_eq(seteuid(0), 0);
	core->stall_us =
		CONTROL_IDLE_US / 10 * 3 / 2; /* of 10 percent of our time: half as long again */
	say(fd, first, sizeof(first) - 1);
	json_decref(parse(next(fd)));
	ck_assert_uint_eq(core->stall_us, 0);
	uint64_t began = now_boot_us();
	say(fd, rest, sizeof(rest));
	json_t *j = parse(next(fd));
	params(j);
	ck_assert_uint_ge(now_boot_us() - began, CONTROL_IDLE_US);
	json_decref(j);
	close(fd);
}
END_TEST

/* A TCP socket that is waited for at its last close(2), as nobody reads what it sent. */
static int lingering(int *ret_listener)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
	struct linger l = {.l_onoff = 1, .l_linger = 600};
	socklen_t size = sizeof(a);
	char data[65536] = "";
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	*ret_listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	ck_assert_int_eq(bind(*ret_listener, (struct sockaddr *)&a, sizeof(a)), 0);
	ck_assert_int_eq(listen(*ret_listener, 1), 0);
	ck_assert_int_eq(getsockname(*ret_listener, (struct sockaddr *)&a, &size), 0);
	ck_assert_int_eq(connect(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	while (send(fd, data, sizeof(data), MSG_DONTWAIT) > 0)
		;
	ck_assert_int_eq(setsockopt(fd, SOL_SOCKET, SO_LINGER, &l, sizeof(l)), 0);
	return fd;
}

/* As on kernels without SO_PASSRIGHTS: read with a message, and left unread at the end. */
START_TEST(a_descriptor_that_comes_along_is_not_waited_for)
{
	int peers[2], reader[2];
	for (int i = 0; i < 2; i++) {
		peers[i] = dial();
		int fd = lingering(&reader[i]);
		ck_assert_int_gt(send_fds(peers[i], "{", 1 + (size_t)i, &fd, 1, 0), 0);
		fd_close(fd);
		if (i)
			fd_close(peers[i]);
	}
	int fd = dial();
	json_decref(ask(fd, "{\"method\":\"org.stayd.Control.Ping\"}"));
	fd_close(fd);
	fd_close(peers[0]);
	fd_close(reader[0]);
	fd_close(reader[1]);
}
END_TEST

START_TEST(the_interface_describes_every_method)
{
	int fd = dial();
	json_t *j = ask(fd, "{\"method\":\"org.varlink.service.GetInterfaceDescription\","
			    "\"parameters\":{\"interface\":\"org.stayd.Control\"}}");
	const char *text = json_string_value(json_object_get(params(j), "description"));
	for (int i = 0; i < METHOD_MAX; i++) {
		char line[64];
		snprintf(line, sizeof(line), "\nmethod %s(", methods[i].name);
		ck_assert_msg(strstr(text, line), "%s", methods[i].name);
	}
	json_decref(j);
	j = ask(fd, "{\"method\":\"org.varlink.service.GetInfo\"}");
	ck_assert_uint_eq(json_array_size(json_object_get(params(j), "interfaces")), 2);
	json_decref(j);
	close(fd);
}
END_TEST

START_TEST(any_bytes_become_valid_json)
{
	uint64_t rng = 7;
	for (int i = 0; i < 2000; i++) {
		char bytes[40];
		struct buf b = {0};
		for (size_t k = 0; k < sizeof(bytes); k++)
			bytes[k] = (char)rng_next(&rng);
		j_open(&b, NULL, '{');
		j_strn(&b, "k", bytes, 1 + rng_next(&rng) % sizeof(bytes));
		j_int(&b, "n", -5);
		j_close(&b, '}');
		json_t *j = json_loadb(b.data, b.size, JSON_ALLOW_NUL, NULL);
		ck_assert_msg(j, "%s", b.data);
		json_decref(j);
		buf_done(&b);
	}
}
END_TEST

Suite *suite(void)
{
	Suite *s = suite_create("core_control");
	TCase *t = tcase_create("control");
	tcase_set_timeout(t, 60);
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, status_has_schema_first_and_every_unit);
	tcase_add_test(t, status_of_an_unknown_unit_says_not_found_and_suggests);
	tcase_add_test(t, a_message_in_single_bytes_is_one_message);
	tcase_add_test(t, two_messages_at_once_are_answered_in_order);
	tcase_add_test(t, a_message_of_the_largest_size_is_read_and_one_more_byte_is_not);
	tcase_add_test(t, what_is_not_a_call_is_refused_and_ends_the_connection);
	tcase_add_test(t, wrong_methods_and_parameters_get_varlink_errors);
	tcase_add_test(t, a_start_is_submitted_with_its_actor_and_answered_with_its_outcome);
	tcase_add_test(t, a_refusal_brings_no_log_lines);
	tcase_add_test(t, a_set_restarts_as_one_and_starts_member_by_member);
	tcase_add_test(t, an_instance_is_never_taken_for_its_set);
	tcase_add_test(t, an_answer_waits_for_every_outcome);
	tcase_add_test(t, no_wait_answers_at_once_with_the_id);
	tcase_add_test(t, a_request_outlives_its_client);
	tcase_add_test(t, events_follow_what_they_were_asked_for);
	tcase_add_test(t, a_reader_that_does_not_read_is_let_go_and_others_are_served);
	tcase_add_test(t, wait_answers_when_the_state_is_reached);
	tcase_add_test(t, a_deploy_streams_its_rollout_and_ends_with_the_outcome);
	tcase_add_test(t, a_guest_may_look_and_change_nothing);
	tcase_add_test(t, every_change_needs_more_than_a_viewer);
	tcase_add_test(t, connections_of_one_uid_are_bounded);
	tcase_add_test(t, a_started_message_that_never_ends_is_closed);
	tcase_add_test(t, a_started_message_is_waited_for_while_its_sender_is_not_listened_to);
	tcase_add_test(t, a_descriptor_that_comes_along_is_not_waited_for);
	tcase_add_test(t, the_interface_describes_every_method);
	tcase_add_test(t, any_bytes_become_valid_json);
	suite_add_tcase(s, t);
	return s;
}
