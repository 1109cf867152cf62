/* SPDX-License-Identifier: Apache-2.0 */
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "check_main.h"
#include "control/access.h"
#include "control/json.h"
#include "stayd/stayd.h"

#define OWN 1000

static char dir[] = "/tmp/stayd-access-XXXXXX", path[64];
static struct access *a;

static void setup(void)
{
	memcpy(dir, "/tmp/stayd-access-XXXXXX", sizeof(dir));
	ck_assert_ptr_nonnull(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/stayd.conf", dir);
	a = access_new(path, OWN);
}

static void teardown(void)
{
	access_free(a);
	unlink(path);
	rmdir(dir);
}

static int load(const char *text, struct err *e)
{
	ck_assert_int_eq(write_file_atomic(path, text, strlen(text), 0644), 0);
	*e = (struct err){0};
	return access_reload(a, e);
}

static enum control_role role_of(uid_t uid, gid_t gid, gid_t *groups, size_t n)
{
	struct peer p = {.uid = uid, .gid = gid, .groups = groups, .n_groups = n};
	return access_role(a, &p);
}

START_TEST(without_a_file_root_and_the_own_user_are_admins_and_others_guests)
{
	struct err e = {0};
	ck_assert_int_eq(access_reload(a, &e), 0);
	ck_assert_int_eq(role_of(0, 0, NULL, 0), CONTROL_ADMIN);
	ck_assert_int_eq(role_of(OWN, 5, NULL, 0), CONTROL_ADMIN);
	ck_assert_int_eq(role_of(2000, 2000, NULL, 0), CONTROL_GUEST);
	struct group *g = getgrnam("stayd");
	if (g)
		ck_assert_int_eq(role_of(2000, g->gr_gid, NULL, 0), CONTROL_OPERATOR);
}
END_TEST

START_TEST(numbers_names_and_groups_give_the_highest_role)
{
	struct err e;
	gid_t groups[] = {5, 78, 79};
	ck_assert_int_eq(load("[Access]\nViewer=@78 2001 daemon\nOperator=@79\nOperator=2002\n"
			      "Admin=2003\n",
				 &e),
		0);
	ck_assert_int_eq(role_of(2001, 1, NULL, 0), CONTROL_VIEWER);
	ck_assert_int_eq(role_of(2002, 1, NULL, 0), CONTROL_OPERATOR);
	ck_assert_int_eq(role_of(2003, 1, groups, 3), CONTROL_ADMIN);
	ck_assert_int_eq(role_of(2004, 1, groups, 3), CONTROL_OPERATOR);
	ck_assert_int_eq(role_of(2004, 1, groups, 2), CONTROL_VIEWER);
	ck_assert_int_eq(role_of(2004, 79, NULL, 0), CONTROL_OPERATOR);
	ck_assert_int_eq(role_of(79, 1, NULL, 0), CONTROL_GUEST);
	struct passwd *daemon = getpwnam("daemon");
	if (daemon)
		ck_assert_int_eq(role_of(daemon->pw_uid, 1, NULL, 0), CONTROL_VIEWER);
}
END_TEST

START_TEST(an_empty_assignment_takes_back_and_everybody_can_be_shut_out)
{
	struct err e;
	ck_assert_int_eq(
		load("[Access]\nGuest=\nOperator=2001\nOperator=\nOperator=2002\n", &e), 0);
	ck_assert_int_eq(role_of(2001, 1, NULL, 0), CONTROL_NOBODY);
	ck_assert_int_eq(role_of(2002, 1, NULL, 0), CONTROL_OPERATOR);
	ck_assert_int_eq(role_of(0, 0, NULL, 0), CONTROL_ADMIN);
}
END_TEST

START_TEST(somebody_of_another_user_namespace_is_nobody_in_particular)
{
	struct err e;
	ck_assert_int_eq(load("[Access]\nOperator=65534 @65534 nobody @nogroup\n", &e), 0);
	ck_assert_int_eq(role_of(OVERFLOW_ID, OVERFLOW_ID, NULL, 0), CONTROL_GUEST);
}
END_TEST

START_TEST(a_file_with_a_mistake_gives_nobody_anything)
{
	static const char *const bad[] = {"[Access]\nOperator=2001\nOperatr=2002\n",
		"[Access]\nOperator=2001 a:b\n", "[Acess]\nOperator=2001\n", "Operator=2001\n",
		"[Access]\nOperator=-1\n", "[Access]\nOperator=@\n",
		"[Access]\nOperator=4294967295\n", "[Access]\nOperator=2001\nnonsense\n",
		"[Access]\nOperator=0day\n"};
	struct err e;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		ck_assert_msg(load(bad[i], &e) < 0, "%s", bad[i]);
		ck_assert_msg(strstr(e.text, path), "%s: %s", bad[i], e.text);
		ck_assert_int_eq(role_of(2001, 1, NULL, 0), CONTROL_NOBODY);
		ck_assert_int_eq(role_of(0, 0, NULL, 0), CONTROL_ADMIN);
	}
}
END_TEST

START_TEST(a_file_that_others_can_write_gives_nobody_anything)
{
	struct err e;
	ck_assert_int_eq(load("[Access]\nOperator=2001\n", &e), 0);
	ck_assert_int_eq(chmod(path, 0646), 0);
	ck_assert_int_eq(access_reload(a, &e), -EPERM);
	ck_assert_msg(strstr(e.text, "chmod o-w"), "%s", e.text);
	ck_assert_int_eq(role_of(2001, 1, NULL, 0), CONTROL_NOBODY);
	ck_assert_int_eq(chmod(path, 0644), 0);
	ck_assert_int_eq(chmod(dir, 0777), 0);
	uint64_t end = now_mono_us() + 30 * USEC_PER_SEC; /* it is believed for 100 ms */
	while (access_reload(a, &e) != -EPERM)
		ck_assert_msg(now_mono_us() < end, "a directory of everybody's was believed");
	ck_assert_int_eq(chmod(dir, 0700), 0);
	ck_assert_int_eq(access_reload(a, &e), 0);
	ck_assert_int_eq(role_of(2001, 1, NULL, 0), CONTROL_OPERATOR);
}
END_TEST

START_TEST(a_unit_has_owners_and_viewers_of_its_own)
{
	struct unit_path where = {0};
	struct err e = {0};
	static const char text[] = "[Service]\nExecStart=/bin/true\nUser=2005\n"
				   "[X-Access]\nOwner=2001 @78 bad:name *\nViewer=2002 @79\n";
	struct unit_conf *conf =
		unit_load_text(&where, "a.service", "a.service", text, sizeof(text) - 1);
	ck_assert_uint_eq(conf->access.owner.n, 2);
	ck_assert_int_eq(access_reload(a, &e), 0);
	gid_t groups[] = {78, 79};
	struct peer p = {.uid = 2001};
	ck_assert_int_eq(access_unit_role(a, conf, &p), CONTROL_OPERATOR);
	p.uid = 2002;
	ck_assert_int_eq(access_unit_role(a, conf, &p), CONTROL_VIEWER);
	p.groups = groups;
	p.n_groups = 2;
	ck_assert_int_eq(access_unit_role(a, conf, &p), CONTROL_OPERATOR);
	p.uid = 2005; /* User= gives nothing */
	p.n_groups = 0;
	ck_assert_int_eq(access_unit_role(a, conf, &p), CONTROL_NOBODY);
	unit_conf_unref(conf);
}
END_TEST

START_TEST(the_groups_of_a_peer_are_all_read)
{
	int fds[2];
	gid_t many[300], before[300];
	if (geteuid() != 0)
		return;
	int n_before = getgroups(300, before);
	for (gid_t i = 0; i < 300; i++)
		many[i] = 5000 + i;
	ck_assert_int_eq(setgroups(300, many), 0);
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
	struct peer p;
	ck_assert_int_eq(peer_identify(fds[0], &p), 0);
	ck_assert_uint_eq(p.n_groups, 300);
	ck_assert_uint_eq(p.groups[299], 5299);
	peer_describe(fds[0], &p);
	ck_assert_str_eq(p.actor, "uid 0 (root)");
	peer_done(&p);
	ck_assert_int_eq(setgroups((size_t)n_before, before), 0);
	close(fds[0]);
	close(fds[1]);
}
END_TEST

Suite *suite(void)
{
	Suite *s = suite_create("control_access");
	TCase *t = tcase_create("access");
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, without_a_file_root_and_the_own_user_are_admins_and_others_guests);
	tcase_add_test(t, numbers_names_and_groups_give_the_highest_role);
	tcase_add_test(t, an_empty_assignment_takes_back_and_everybody_can_be_shut_out);
	tcase_add_test(t, somebody_of_another_user_namespace_is_nobody_in_particular);
	tcase_add_test(t, a_file_with_a_mistake_gives_nobody_anything);
	tcase_add_test(t, a_file_that_others_can_write_gives_nobody_anything);
	tcase_add_test(t, a_unit_has_owners_and_viewers_of_its_own);
	tcase_add_test(t, the_groups_of_a_peer_are_all_read);
	suite_add_tcase(s, t);
	return s;
}
