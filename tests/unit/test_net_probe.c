/* SPDX-License-Identifier: Apache-2.0 */
#include "check_main.h"
#include "net/net.h"

#include <fcntl.h>
#include <sys/socket.h>

static struct probe_target target;
static struct err error;

static int parse(const char *text)
{
	return probe_target_parse(text, &target, &error);
}

START_TEST(targets_are_recognized_by_their_scheme)
{
	ck_assert_int_eq(parse("http://127.0.0.1:8001/health?x=1"), 0);
	ck_assert(target.is_http && !target.by_name);
	ck_assert_str_eq(target.url, "http://127.0.0.1:8001/health?x=1");
	ck_assert_int_eq(parse("https://[::1]/"), 0);
	ck_assert(target.is_http && !target.by_name);
	ck_assert_int_eq(parse("tcp://127.0.0.1:5432"), 0);
	ck_assert(!target.is_http && !target.by_name);
	ck_assert_str_eq(target.url, "http://127.0.0.1:5432/");
	ck_assert_int_eq(parse("tcp://[fe80::1]:22"), 0);
	ck_assert_str_eq(target.url, "http://[fe80::1]:22/");
	ck_assert_int_eq(parse("unix:/run/app.sock"), 0);
	ck_assert_str_eq(target.path, "/run/app.sock");
	ck_assert_int_eq(parse("unix:///run/app.sock"), 0);
	ck_assert_str_eq(target.path, "/run/app.sock");
	ck_assert_int_eq(parse("unix:@abstract"), 0);
	ck_assert_str_eq(target.path, "@abstract");
}
END_TEST

START_TEST(names_are_told_from_addresses)
{
	static const char *const names[] = {"http://a.example/", "tcp://db:5432",
		"http://127.0.0.1@evil.example/", "http://127.0.0.1.example",
		"https://[nonsense]/"};
	static const char *const addresses[] = {"http://user:pw@127.0.0.1/", "http://localhost:1",
		"http://[::1]:80", "http://127.0.0.1/@b.example", "http://127.0.0.1?x=@b"};
	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		ck_assert_msg(parse(names[i]) == 0 && target.by_name, "%s", names[i]);
	for (size_t i = 0; i < ARRAY_SIZE(addresses); i++)
		ck_assert_msg(parse(addresses[i]) == 0 && !target.by_name, "%s", addresses[i]);
}
END_TEST

START_TEST(other_targets_are_refused_with_a_reason)
{
	static const char *const bad[] = {"", "http", "http://", "https:///x", "http://:80",
		"file:///etc/passwd", "gopher://x/", "HTTP://x/", "tcp://", "tcp://h",
		"tcp://h:", "tcp://h:0", "tcp://h:65536", "tcp://h:1x", "tcp://h:+1", "tcp://u@h:1",
		"tcp://:1", "tcp://h:1/x", "unix:", "unix:/", "unix:rel", "grpc://h:1",
		"http://a\nb/", "http://a b", "http://a/\x7f"};
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		error.text[0] = '\0';
		ck_assert_msg(parse(bad[i]) == -EINVAL && error.text[0], "%s", bad[i]);
	}
	char text[512] = "unix:/";
	memset(text + 6, 'x', 108);
	ck_assert_int_eq(parse(text), -EINVAL);
	ck_assert_int_eq(parse("grpc://h:1"), -EINVAL);
	ck_assert_str_eq(error.text, "grpc probes are not supported yet");
}
END_TEST

START_TEST(body_lines_are_short_and_printable)
{
	char out[PROBE_BODY_TEXT_MAX + 1], big[1000];
	static const char nul[] = "\r\n  db: \0\033[2J \"q\"\nsecond";
	probe_body_line(out, nul, sizeof(nul) - 1);
	ck_assert_str_eq(out, "db: ??[2J ?q?");
	memset(big, 'x', sizeof(big));
	probe_body_line(out, big, sizeof(big));
	ck_assert_uint_eq(strlen(out), PROBE_BODY_TEXT_MAX);
	probe_body_line(out, "", 0);
	ck_assert_str_eq(out, "");
	memset(big, '\n', sizeof(big));
	probe_body_line(out, big, sizeof(big));
	ck_assert_str_eq(out, "");
}
END_TEST

START_TEST(only_frames_of_core_pass)
{
	struct nt_frame f = {.build = WIRE_BUILD};
	for (unsigned kind = 0; kind < 256; kind++) {
		f.kind = (uint16_t)kind;
		ck_assert_int_eq(
			frame_check(&f, sizeof(f)) == 0, kind >= NT_HELLO && kind <= NT_LB_FAST);
	}
	f.kind = NT_PROBE;
	ck_assert_int_lt(frame_check(&f, sizeof(f) - 1), 0);
	f.build++;
	ck_assert_int_lt(frame_check(&f, sizeof(f)), 0);
	f.build--;
	memset(f.text, 'x', sizeof(f.text));
	ck_assert_int_lt(frame_check(&f, sizeof(f)), 0);
	f.text[0] = '\0';
	memset(f.server, 'x', sizeof(f.server));
	ck_assert_int_lt(frame_check(&f, sizeof(f)), 0);
	f.server[0] = '\0';
	memset(f.addr, 'x', sizeof(f.addr));
	ck_assert_int_lt(frame_check(&f, sizeof(f)), 0);
}
END_TEST

static void ignore_frame(struct link *l, const struct nt_frame *f, int fd)
{
	(void)l;
	(void)f;
	fd_close(fd);
}

START_TEST(a_core_that_does_not_read_gets_everything_later_in_order)
{
	struct loop loop;
	struct link l;
	int sp[2];
	ck_assert_int_eq(
		socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, sp), 0);
	ck_assert_int_eq(loop_init(&loop), 0);
	ck_assert_int_eq(link_init(&l, &loop, sp[0], ignore_frame), 0);
	uint64_t sent = 0, got = 0;
	while (!link_is_busy(&l)) {
		struct nt_frame f = {.kind = NT_PROBED, .number = ++sent};
		link_send(&l, &f);
	}
	ck_assert_uint_ge(sent, LINK_BUSY);
	for (int turns = 0; got < sent && turns < 10000; turns++) {
		struct nt_frame f;
		while (recv(sp[1], &f, sizeof(f), 0) == (ssize_t)sizeof(f))
			ck_assert_uint_eq(f.number, ++got);
		ck_assert_int_ge(loop_turn(&loop, 0), 0);
	}
	ck_assert_uint_eq(got, sent);
	ck_assert(!link_is_busy(&l) && !loop.is_done);
	fd_close(sp[1]);
	ck_assert_int_ge(loop_turn(&loop, 1000), 0);
	ck_assert(loop.is_done);
	link_done(&l);
	loop_done(&loop);
	fd_close(sp[0]);
}
END_TEST

START_TEST(load_balancers_are_reached_by_numeric_addresses_only)
{
	static const char *const bad[] = {"", ":80", "127.0.0.1", "127.0.0.1:", "127.0.0.1:0",
		"127.0.0.1:65536", "127.0.0.1:8x", "lb.example:80", "[::1", "[127.0.0.1]:80"};
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		ck_assert_msg(connect_numeric(bad[i]) == -EINVAL, "%s", bad[i]);
}
END_TEST

Suite *suite(void)
{
	Suite *s = suite_create("net_probe");
	TCase *t = tcase_create("probe");
	tcase_add_test(t, targets_are_recognized_by_their_scheme);
	tcase_add_test(t, names_are_told_from_addresses);
	tcase_add_test(t, other_targets_are_refused_with_a_reason);
	tcase_add_test(t, body_lines_are_short_and_printable);
	tcase_add_test(t, only_frames_of_core_pass);
	tcase_add_test(t, a_core_that_does_not_read_gets_everything_later_in_order);
	tcase_add_test(t, load_balancers_are_reached_by_numeric_addresses_only);
	suite_add_tcase(s, t);
	return s;
}
