/* SPDX-License-Identifier: Apache-2.0 */
#include "check_main.h"
#include "net/lb/lb.h"

/* Answers as HAProxy 2.6.12 gives them, shortened to some columns; their order is not the real one,
 * for it must not matter. */
#define INFO                                                                                       \
	"Name: HAProxy\nVersion: 2.6.12\nPid: 4711\nUptime_sec: 12\nStopping: 0\nStart_time_sec: 1795171959\n\n"
#define STATE_HEAD                                                                                 \
	"1\n# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight "    \
	"srv_iweight srv_check_state srv_port\n"
#define STAT_HEAD                                                                                  \
	"# pxname,svname,scur,qcur,stot,econ,eresp,wretr,wredis,status,check_status,hrsp_5xx,last_chk,\n"
#define STATE_1 "3 web 1 web1 10.0.0.1 2 4 50 100 6 8001\n"
#define STAT_1  "web,web1,3,1,77,1,2,4,8,UP,L7OK,5,OK,\n"
#define GOOD    INFO STATE_HEAD STATE_1 "\n" STAT_HEAD STAT_1 "\n"

static struct lb_report report;
static struct err error;

static const struct lb_driver *driver(void)
{
	const struct lb_driver *d = lb_driver_by_name("haproxy");
	ck_assert_ptr_nonnull(d);
	return d;
}

static int read_text(struct lb_change *changes, size_t n, const char *text)
{
	lb_report_done(&report);
	memset(&error, 0, sizeof(error));
	return driver()->read_answer("web", changes, n, text, strlen(text), &report, &error);
}

static const struct lb_sample *sample_of(const char *state, const char *stat)
{
	CLEANUP_FREE char *text = xasprintf(INFO STATE_HEAD "%s\n" STAT_HEAD "%s\n", state, stat);
	ck_assert_int_eq(read_text(NULL, 0, text), 0);
	ck_assert_uint_eq(report.n_seen, 1);
	return &report.seen[0].sample;
}

static char *request_for(const struct lb_row *want, const struct lb_seen *seen, struct lb_change *c)
{
	struct buf b = {0};
	*c = (struct lb_change){.want = want, .seen = seen};
	ck_assert_uint_eq(driver()->write_request("web", c, 1, &b), 1);
	ck_assert(endswith(b.data, "show info;show servers state web;show stat web 4 -1\n"));
	b.data[b.size - strlen("show info;show servers state web;show stat web 4 -1\n")] = '\0';
	return buf_steal(&b);
}

START_TEST(columns_are_found_by_name)
{
	ck_assert_int_eq(read_text(NULL, 0, GOOD), 0);
	ck_assert_str_eq(report.identity, "4711/1795171959");
	ck_assert_uint_eq(report.uptime_s, 12);
	ck_assert(!report.is_stopping);
	ck_assert_uint_eq(report.n_seen, 1);
	const struct lb_seen *s = &report.seen[0];
	ck_assert_str_eq(s->server, "web1");
	ck_assert_str_eq(s->addr, "10.0.0.1");
	ck_assert_uint_eq(s->port, 8001);
	ck_assert_uint_eq(s->full_weight, 100);
	ck_assert_uint_eq(s->raw_weight, 50);
	ck_assert_uint_eq(s->sample.known, 1);
	ck_assert_uint_eq(s->sample.state, LB_READY);
	ck_assert_uint_eq(s->sample.is_up, 1);
	ck_assert_uint_eq(s->sample.check, LB_CHECK_OK);
	ck_assert_uint_eq(s->sample.weight, 50);
	ck_assert_uint_eq(s->sample.sessions, 4);
	ck_assert_uint_eq(s->sample.total, 77);
	ck_assert_uint_eq(s->sample.errors, 3);
	ck_assert_uint_eq(s->sample.retries, 12);
	ck_assert_uint_eq(s->sample.http_5xx, 5);
}
END_TEST

START_TEST(every_admin_state_bit_maps_to_a_state)
{
	for (unsigned admin = 0; admin < 128; admin++) {
		char state[128];
		snprintf(state, sizeof(state), "3 web 1 web1 10.0.0.1 2 %u 100 100 6 80\n", admin);
		unsigned want = admin & 0x63 ? LB_MAINT : admin & 0x18 ? LB_DRAIN : LB_READY;
		ck_assert_uint_eq(sample_of(state, STAT_1)->state, want);
	}
}
END_TEST

START_TEST(check_results_are_believed_only_from_a_server_that_is_up)
{
	/* clang-format off */
	static const struct {
		const char *status;
		unsigned op, check_state, want;
	} t[] = {
		{"L4OK", 2, 6, LB_CHECK_OK},
		{"L6OK", 2, 6, LB_CHECK_OK},
		{"L7OK", 2, 7, LB_CHECK_OK},
		{"* L7OK", 2, 7, LB_CHECK_OK},
		{"L4OK", 0, 6, LB_CHECK_UNKNOWN}, /* of whatever had the slot before */
		{"INI", 2, 6, LB_CHECK_UNKNOWN},
		{"", 0, 14, LB_CHECK_UNKNOWN}, /* maint: none is running */
		{"L4CON", 0, 6, LB_CHECK_FAILED},
		{"L7STS", 0, 6, LB_CHECK_FAILED},
		{"L7OKC", 3, 6, LB_CHECK_FAILED},
		{"NEWOK", 2, 6, LB_CHECK_FAILED},
		{"", 2, 8, LB_CHECK_NONE},
		{"L4OK", 2, 2, LB_CHECK_NONE}, /* disabled by "disable health" */
	};
	/* clang-format on */
	for (size_t i = 0; i < ARRAY_SIZE(t); i++) {
		char state[128], stat[128];
		snprintf(state, sizeof(state), "3 web 1 web1 10.0.0.1 %u 8 100 100 %u 80\n",
			t[i].op, t[i].check_state);
		snprintf(stat, sizeof(stat), "web,web1,0,0,0,0,0,0,0,DRAIN,%s,0,,\n", t[i].status);
		ck_assert_msg(sample_of(state, stat)->check == t[i].want, "%s", t[i].status);
	}
}
END_TEST

START_TEST(a_server_in_one_table_only_is_not_known)
{
	ck_assert_int_eq(read_text(NULL, 0, INFO STATE_HEAD STATE_1 "\n" STAT_HEAD "\n"), 0);
	ck_assert_uint_eq(report.n_seen, 1);
	ck_assert_uint_eq(report.seen[0].sample.known, 0);
	ck_assert_int_eq(read_text(NULL, 0, INFO STATE_HEAD "\n" STAT_HEAD STAT_1 "\n"), 0);
	ck_assert_uint_eq(report.n_seen, 0);
	/* the same name in another backend is another server */
	ck_assert_int_eq(read_text(NULL, 0,
				 INFO STATE_HEAD STATE_1
				 "4 other 1 web1 10.9.9.9 2 1 1 1 6 9\n\n" STAT_HEAD
				 "other,web1,9,9,9,0,0,0,0,UP,L7OK,0,,\n" STAT_1 "\n"),
		0);
	ck_assert_uint_eq(report.n_seen, 1);
	ck_assert_uint_eq(report.seen[0].sample.sessions, 4);
}
END_TEST

START_TEST(a_session_count_that_is_no_number_is_no_zero)
{
	static const char *const bad[] = {"", "x", "-1", "1x", "99999999999999999999999", " 0"};
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		CLEANUP_FREE char *text = xasprintf(INFO STATE_HEAD STATE_1
			"\n" STAT_HEAD "web,web1,%s,0,0,0,0,0,0,UP,L7OK,0,,\n\n",
			bad[i]);
		ck_assert_int_eq(read_text(NULL, 0, text), -EBADMSG);
	}
}
END_TEST

START_TEST(a_missing_column_is_an_error)
{
	static const char *const columns[] = {"svname", "scur", "qcur", "stot", "check_status",
		"srv_admin_state", "srv_op_state", "srv_addr", "srv_iweight", "srv_uweight"};
	for (size_t i = 0; i < ARRAY_SIZE(columns); i++) {
		CLEANUP_FREE char *text = xstrdup(GOOD);
		strstr(text, columns[i])[0] = 'X';
		ck_assert_int_eq(read_text(NULL, 0, text), -EBADMSG);
		ck_assert_ptr_nonnull(strstr(error.text, columns[i]));
	}
}
END_TEST

START_TEST(an_answer_cut_anywhere_is_never_believed)
{
	size_t size = strlen(GOOD);
	for (size_t cut = 0; cut < size; cut++) {
		CLEANUP_FREE char *text = xstrndup(GOOD, cut);
		ck_assert_int_lt(read_text(NULL, 0, text), 0);
		ck_assert_str_ne(error.text, "");
	}
}
END_TEST

START_TEST(quoted_fields_may_hold_anything)
{
	const struct lb_sample *s = sample_of(STATE_1 "",
		"web,\"web1\",3,0,5,0,0,0,0,UP,L7OK,1,\"a, \"\"b\"\"\n\nweb,web1,0,0,0\",\n");
	ck_assert_uint_eq(s->sessions, 3);
	ck_assert_uint_eq(s->total, 5);
}
END_TEST

START_TEST(errors_are_told_as_haproxy_told_them)
{
	ck_assert_int_eq(
		read_text(NULL, 0, "Permission denied\n\nPermission denied\n\nx\n\n"), -EBADMSG);
	ck_assert_ptr_nonnull(strstr(error.text, "Permission denied"));
	ck_assert_int_eq(
		read_text(NULL, 0, INFO "Can't find backend.\n\nNo such proxy.\n\n"), -ENOENT);
	ck_assert_ptr_nonnull(strstr(error.text, "web"));
	ck_assert_str_eq(report.identity, "4711/1795171959");
	ck_assert_int_eq(driver()->read_answer("web", NULL, 0, GOOD, sizeof(GOOD), &report, &error),
		-EBADMSG);
}
END_TEST

START_TEST(a_stopping_process_says_so)
{
	CLEANUP_FREE char *text = xstrdup(GOOD);
	strstr(text, "Stopping: 0")[10] = '1';
	ck_assert_int_eq(read_text(NULL, 0, text), 0);
	ck_assert(report.is_stopping);
}
END_TEST

START_TEST(answers_to_changes_are_told_apart)
{
	const struct lb_row rows[] = {
		{.server = "web1", .state = LB_MAINT},
		{.server = "web2", .state = LB_READY},
	};
	const struct lb_seen seen = {.full_weight = 100};
	struct lb_change c[] = {
		{.want = &rows[0], .seen = &seen},
		{.want = &rows[1], .seen = &seen},
	};
	struct buf b = {0};
	ck_assert_uint_eq(driver()->write_request("web", c, 2, &b), 2);
	ck_assert_uint_eq(c[0].n_commands, 2);
	ck_assert_uint_eq(c[1].n_commands, 2);
	buf_done(&b);
	ck_assert_int_eq(read_text(c, 2, "\n\nNo such server.\n\nNo such server.\n\n" GOOD), 0);
	ck_assert_str_eq(c[0].trouble, "");
	ck_assert_str_eq(c[1].trouble, "No such server.");
	ck_assert_int_eq(
		read_text(c, 2,
			"\nno need to change the addr, port changed from '1' to '3' by 'x'\n\n"
			"Unknown command, but maybe one of these\n  show fd\n  quit\n\n\n" GOOD),
		0);
	ck_assert_str_eq(c[0].trouble, "");
	ck_assert_str_eq(c[1].trouble, "Unknown command, but maybe one of these");
	ck_assert_int_eq(read_text(c, 2, "\n\n\n" GOOD), -EBADMSG);
}
END_TEST

START_TEST(place_and_weight_come_before_traffic_and_after_its_end)
{
	struct lb_change c;
	struct lb_row want = {"web1", "10.0.0.2", 81, LB_READY, 50};
	struct lb_seen seen = {
		"web1", "10.0.0.1", 80, 100, 100, {.state = LB_MAINT, .check = LB_CHECK_UNKNOWN}
        };
	char *r = request_for(&want, &seen, &c);
	ck_assert_str_eq(r,
		"set server web/web1 addr 10.0.0.2 port 81;set server web/web1 weight 50;"
		"set server web/web1 state ready;");
	free(r);
	want.state = LB_DRAIN;
	r = request_for(&want, &seen, &c);
	ck_assert_str_eq(r,
		"set server web/web1 addr 10.0.0.2 port 81;set server web/web1 weight 50;"
		"set server web/web1 state drain;set server web/web1 health down;");
	free(r);
	seen.sample.check = LB_CHECK_NONE; /* nobody would ever bring it up again */
	r = request_for(&want, &seen, &c);
	ck_assert_ptr_null(strstr(r, "health"));
	free(r);
	seen.sample.state = LB_READY;
	seen.sample.check = LB_CHECK_OK;
	r = request_for(&want, &seen, &c);
	ck_assert(startswith(r, "set server web/web1 state drain;"));
	ck_assert_ptr_nonnull(strstr(r, "health down")); /* another address: another check */
	free(r);
	want = (struct lb_row){"web1", "10.0.0.1", 80, LB_DRAIN, 100};
	r = request_for(&want, &seen, &c);
	ck_assert_ptr_null(strstr(r, "health")); /* a drain before a stop keeps its health */
	free(r);
	want = (struct lb_row){"web1", "", 0, LB_MAINT, 0};
	r = request_for(&want, &seen, &c);
	ck_assert_str_eq(r, "set server web/web1 state maint;set server web/web1 weight 0;");
	free(r);
}
END_TEST

START_TEST(leaving_servers_come_before_entering_ones)
{
	const struct lb_row rows[] = {
		{.server = "a", .state = LB_READY},
		{.server = "b", .state = LB_DRAIN},
		{.server = "c", .state = LB_MAINT},
	};
	const struct lb_seen seen = {.full_weight = 1};
	struct lb_change c[3];
	struct buf b = {0};
	for (size_t i = 0; i < 3; i++)
		c[i] = (struct lb_change){.want = &rows[i], .seen = &seen};
	ck_assert_uint_eq(driver()->write_request("web", c, 3, &b), 3);
	ck_assert_str_eq(c[0].want->server, "c");
	ck_assert_str_eq(c[1].want->server, "b");
	ck_assert_str_eq(c[2].want->server, "a");
	buf_done(&b);
}
END_TEST

START_TEST(a_request_is_bounded_and_whole)
{
	struct lb_row *rows = xcalloc(NET_ROWS_MAX, sizeof(*rows));
	struct lb_change *c = xcalloc(NET_ROWS_MAX, sizeof(*c));
	struct lb_seen seen = {.full_weight = 256};
	struct buf b = {0};
	for (size_t i = 0; i < NET_ROWS_MAX; i++) {
		memset(rows[i].server, 'x', sizeof(rows[i].server) - 1);
		str_copy(rows[i].addr, "2001:0db8:1111:2222:3333:4444:5555:6666",
			sizeof(rows[i].addr));
		rows[i].port = 65535;
		rows[i].state = LB_READY;
		c[i] = (struct lb_change){.want = &rows[i], .seen = &seen};
	}
	size_t n = driver()->write_request("web", c, NET_ROWS_MAX, &b);
	ck_assert_uint_gt(n, 5);
	ck_assert_uint_lt(n, NET_ROWS_MAX);
	ck_assert_uint_le(b.size, LB_REQUEST_MAX);
	ck_assert_ptr_eq(strchr(b.data, '\n'), b.data + b.size - 1);
	buf_done(&b);
	free(rows);
	free(c);
}
END_TEST

START_TEST(names_cannot_carry_commands)
{
	static const char *const bad[] = {
		"", "a;b", "a\nb", "a b", "a/b", "a\\b", "a\"", "\xc3\xa9", "a\t"};
	ck_assert(driver()->name_is_valid("web-1_a.b:8080"));
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		ck_assert(!driver()->name_is_valid(bad[i]));
}
END_TEST

START_TEST(weights_round_up_so_that_a_ramp_is_never_silence)
{
	for (uint32_t full = 1; full <= 256; full++)
		for (uint32_t percent = 0; percent <= 100; percent++) {
			uint32_t w = lb_weight_scaled(percent, full);
			ck_assert_uint_le(w, full);
			ck_assert_int_eq(w == 0, percent == 0);
			ck_assert_uint_ge(w * 100, percent * full);
		}
	ck_assert_uint_eq(lb_weight_scaled(100, 256), 256);
}
END_TEST

START_TEST(a_row_is_met_only_when_everything_reads_back)
{
	const struct lb_row want = {"web1", "127.0.0.1", 80, LB_READY, 50};
	const struct lb_seen good = {
		"web1",
		"127.0.0.1",
		80,
		100,
		50,
		{.known = 1, .state = LB_READY},
	};
	struct lb_seen s = good;
	ck_assert(lb_row_is_met(&want, &s));
	s.sample.known = 0;
	ck_assert(!lb_row_is_met(&want, &s));
	s = good;
	s.sample.state = LB_DRAIN;
	ck_assert(!lb_row_is_met(&want, &s));
	s = good;
	s.raw_weight = 51;
	ck_assert(!lb_row_is_met(&want, &s));
	s = good;
	s.port = 81;
	ck_assert(!lb_row_is_met(&want, &s));
	s = good;
	str_copy(s.addr, "127.0.0.2", sizeof(s.addr));
	ck_assert(!lb_row_is_met(&want, &s));
	ck_assert(lb_addr_equal("::1", "0:0:0:0:0:0:0:1"));
	ck_assert(!lb_addr_equal("127.0.0.1", "-"));
}
END_TEST

static void forget(void)
{
	lb_report_done(&report);
}

Suite *suite(void)
{
	Suite *s = suite_create("net_haproxy");
	TCase *t = tcase_create("haproxy");
	tcase_add_checked_fixture(t, NULL, forget);
	tcase_add_test(t, columns_are_found_by_name);
	tcase_add_test(t, every_admin_state_bit_maps_to_a_state);
	tcase_add_test(t, check_results_are_believed_only_from_a_server_that_is_up);
	tcase_add_test(t, a_server_in_one_table_only_is_not_known);
	tcase_add_test(t, a_session_count_that_is_no_number_is_no_zero);
	tcase_add_test(t, a_missing_column_is_an_error);
	tcase_add_test(t, an_answer_cut_anywhere_is_never_believed);
	tcase_add_test(t, quoted_fields_may_hold_anything);
	tcase_add_test(t, errors_are_told_as_haproxy_told_them);
	tcase_add_test(t, a_stopping_process_says_so);
	tcase_add_test(t, answers_to_changes_are_told_apart);
	tcase_add_test(t, place_and_weight_come_before_traffic_and_after_its_end);
	tcase_add_test(t, leaving_servers_come_before_entering_ones);
	tcase_add_test(t, a_request_is_bounded_and_whole);
	tcase_add_test(t, names_cannot_carry_commands);
	tcase_add_test(t, weights_round_up_so_that_a_ramp_is_never_silence);
	tcase_add_test(t, a_row_is_met_only_when_everything_reads_back);
	suite_add_tcase(s, t);
	return s;
}
