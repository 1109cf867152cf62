/* SPDX-License-Identifier: Apache-2.0 */
/* Search path, drop-ins, aliases, masks, links, built-ins, install, snapshots, hostile files. */
#include <fcntl.h>
#include <ftw.h>
#include <sys/stat.h>
#include <time.h>

#include "unit/units.h"

#include "check_main.h"
#include "stayd/stayd.h"

static char *top;
static struct unit_path path;

/* Writes top/PATH with its directories. */
static void put(const char *name, const char *text)
{
	CLEANUP_FREE char *file = xasprintf("%s/%s", top, name);
	CLEANUP_FREE char *dir = xstrndup(file, (size_t)(strrchr(file, '/') - file));
	ck_assert_int_eq(mkdir_parents(dir, 0755), 0);
	int fd = open(file, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(fchmod(fd, 0644), 0);
	ck_assert_int_eq(write_all(fd, text, strlen(text)), 0);
	close(fd);
}

static void put_link(const char *name, const char *target)
{
	CLEANUP_FREE char *file = xasprintf("%s/%s", top, name);
	CLEANUP_FREE char *dir = xstrndup(file, (size_t)(strrchr(file, '/') - file));
	ck_assert_int_eq(mkdir_parents(dir, 0755), 0);
	ck_assert_int_eq(symlink(target, file), 0);
}

static bool has(const struct conf_list *l, const char *s)
{
	for (size_t i = 0; i < l->n; i++)
		if (streq(l->v[i], s))
			return true;
	return false;
}

static const struct diagnostic *find_code(const struct unit_conf *c, const char *code)
{
	for (size_t i = 0; i < c->n_diagnostics; i++)
		if (streq(c->diagnostics[i].code, code))
			return &c->diagnostics[i];
	return NULL;
}

/* Root may read everything; somebody else, who is let in here, may not. */
static void be_nobody(bool is_wanted)
{
	if (is_wanted)
		ck_assert_int_eq(chmod(top, 0755), 0);
	if (getuid() == 0)
		ck_assert_int_eq(seteuid(is_wanted ? 65534 : 0), 0);
}

static void set_mode(const char *name, mode_t mode)
{
	CLEANUP_FREE char *file = xasprintf("%s/%s", top, name);
	ck_assert_int_eq(chmod(file, mode), 0);
}

#define SERVICE "[Service]\nExecStart=/bin/x\n"

START_TEST(the_first_directory_wins)
{
	put("etc/a.service", "[Unit]\nDescription=etc\n" SERVICE);
	put("lib/a.service", "[Unit]\nDescription=lib\n" SERVICE);
	struct unit_conf *c = unit_load(&path, "a.service", NULL);
	ck_assert_str_eq(c->description, "etc");
	ck_assert_int_eq(c->load, LOAD_LOADED);
	unit_conf_unref(c);
}
END_TEST

START_TEST(drop_ins_of_all_kinds_apply_in_order_of_their_names)
{
	put("lib/web-api@.service", "[Unit]\nDescription=base\n" SERVICE);
	put("lib/service.d/10-all.conf", "[Service]\nEnvironment=all\nNice=1\n");
	put("lib/web-.service.d/20-prefix.conf", "[Service]\nNice=2\n");
	put("lib/web-api@.service.d/30-template.conf", "[Service]\nNice=3\n");
	put("etc/web-api@1.service.d/40-own.conf", "[Service]\nNice=4\n");
	put("etc/web-api@.service.d/20-prefix.conf", "[Service]\nUMask=0077\n"); /* hides lib's */
	put("etc/web-api@.service.d/readme.txt", "not a drop-in");
	put_link("etc/web-api@.service.d/30-template.conf", "/dev/null");
	struct unit_conf *c = unit_load(&path, "web-api@1.service", NULL);
	ck_assert_uint_eq(c->drop_ins.n, 3);
	ck_assert_int_eq(c->exec.limits.nice, 4);
	ck_assert_uint_eq(c->exec.limits.umask, 0077);
	ck_assert(strstr(c->text, "# ") && strstr(c->text, "40-own.conf"));
	ck_assert_ptr_nonnull(find_code(c, "S0126")); /* Environment=all, with its own file */
	ck_assert_ptr_nonnull(strstr(find_code(c, "S0126")->file, "10-all.conf"));
	unit_conf_unref(c);
}
END_TEST

START_TEST(an_alias_is_the_other_unit)
{
	put("lib/real.service", SERVICE);
	put_link("etc/nick.service", "../lib/real.service");
	put("etc/nick.service.d/x.conf", "[Service]\nNice=5\n");
	struct unit_conf *c = unit_load(&path, "nick.service", NULL);
	ck_assert_str_eq(c->name, "real.service");
	ck_assert_int_eq(c->exec.limits.nice, 5);
	unit_conf_unref(c);
	c = unit_load(&path, "real.service", NULL);
	ck_assert_int_eq(c->exec.limits.nice, 5);
	unit_conf_unref(c);
	ck_assert_str_eq(unit_file_state(&path, "nick.service"), "alias");
}
END_TEST

START_TEST(a_built_in_target_wins_over_a_file_outside_of_the_path)
{
	put("elsewhere/graphical.target", "[Unit]\nWants=display-manager.service\n");
	put("elsewhere/other.service", SERVICE);
	put_link("etc/default.target", "../elsewhere/graphical.target");
	put_link("etc/nick.service", "../elsewhere/other.service");
	struct unit_conf *c = unit_load(&path, "default.target", NULL);
	ck_assert_str_eq(c->name, "graphical.target");
	ck_assert_ptr_null(c->fragment_path);
	ck_assert(has(&c->deps[DEP_REQUIRES], "multi-user.target"));
	unit_conf_unref(c);
	c = unit_load(&path, "nick.service", NULL);
	ck_assert_str_eq(c->name, "other.service");
	ck_assert_int_eq(c->load, LOAD_LOADED);
	unit_conf_unref(c);
}
END_TEST

START_TEST(links_in_a_circle_are_a_diagnostic)
{
	put_link("etc/a.service", "b.service");
	put_link("etc/b.service", "a.service");
	struct unit_conf *c = unit_load(&path, "a.service", NULL);
	ck_assert_int_eq(c->load, LOAD_BAD);
	ck_assert_ptr_nonnull(find_code(c, "S0005"));
	unit_conf_unref(c);
}
END_TEST

START_TEST(a_link_to_dev_null_and_an_empty_file_mask)
{
	put_link("etc/a.service", "/dev/null");
	put("lib/a.service", SERVICE);
	put("etc/b.service", "");
	struct unit_conf *a = unit_load(&path, "a.service", NULL),
			 *b = unit_load(&path, "b.service", NULL);
	ck_assert_int_eq(a->load, LOAD_MASKED);
	ck_assert_int_eq(b->load, LOAD_MASKED);
	ck_assert_str_eq(unit_file_state(&path, "a.service"), "masked");
	unit_conf_unref(a);
	unit_conf_unref(b);
}
END_TEST

START_TEST(wants_and_requires_directories_are_dependencies)
{
	put_link("etc/multi-user.target.wants/a.service", "/x/a.service");
	put_link("lib/multi-user.target.requires/b.service", "/x/b.service");
	struct unit_conf *c = unit_load(&path, "default.target", NULL);
	ck_assert(has(&c->deps[DEP_REQUIRES], "multi-user.target"));
	unit_conf_unref(c);
	c = unit_load(&path, "multi-user.target", NULL);
	ck_assert_ptr_null(c->fragment_path);
	ck_assert(has(&c->deps[DEP_WANTS], "a.service"));
	ck_assert(has(&c->deps[DEP_REQUIRES], "b.service"));
	ck_assert(has(&c->deps[DEP_AFTER], "a.service"));
	ck_assert_int_eq(c->load, LOAD_LOADED);
	unit_conf_unref(c);
}
END_TEST

START_TEST(services_get_systemds_default_dependencies)
{
	put("etc/a.service", SERVICE);
	put("etc/b.service", "[Unit]\nDefaultDependencies=no\n" SERVICE);
	struct unit_conf *c = unit_load(&path, "a.service", NULL);
	ck_assert(has(&c->deps[DEP_REQUIRES], "sysinit.target"));
	ck_assert(has(&c->deps[DEP_AFTER], "basic.target"));
	ck_assert(has(&c->deps[DEP_CONFLICTS], "shutdown.target"));
	ck_assert(has(&c->deps[DEP_BEFORE], "shutdown.target"));
	ck_assert_uint_eq(c->service.timeout_start_us, 90 * USEC_PER_SEC);
	ck_assert_int_eq(c->service.type, SERVICE_SIMPLE);
	unit_conf_unref(c);
	c = unit_load(&path, "b.service", NULL);
	for (enum dep_kind k = 0; k < DEP_MAX; k++)
		ck_assert_uint_eq(c->deps[k].n, 0);
	unit_conf_unref(c);
}
END_TEST

START_TEST(every_unit_the_packages_order_themselves_against_is_built_in)
{
	static const char *const names[] = {"multi-user", "network-online", "network", "sockets",
		"nss-lookup", "local-fs", "shutdown", "time-sync", "timers", "remote-fs-pre",
		"remote-fs", "sysinit", "umount", "default", "network-pre", "basic", "syslog",
		"nss-user-lookup", "local-fs-pre", "sleep", "sound", "printer", "bluetooth",
		"rpcbind"};
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		CLEANUP_FREE char *name = xasprintf("%s.target", names[i]);
		struct unit_conf *c = unit_load(&path, name, NULL);
		ck_assert_msg(c->load == LOAD_LOADED && c->n_diagnostics == 0, "%s", name);
		unit_conf_unref(c);
	}
	struct unit_conf *c = unit_load(&path, "system.slice", NULL);
	ck_assert_int_eq(c->load, LOAD_LOADED);
	unit_conf_unref(c);
	c = unit_load(&path, "nosuch.service", NULL);
	ck_assert_int_eq(c->load, LOAD_NOT_FOUND);
	unit_conf_unref(c);
}
END_TEST

START_TEST(a_changed_directory_is_seen_by_the_next_load)
{
	for (int i = 0; i < 50; i++) {
		CLEANUP_FREE char *name = xasprintf("n%d.service", i),
				  *file = xasprintf("etc/%s", name);
		struct unit_conf *c = unit_load(&path, name, NULL);
		ck_assert_int_eq(c->load, LOAD_NOT_FOUND);
		unit_conf_unref(c);
		put(file, SERVICE);
		c = unit_load(&path, name, NULL);
		ck_assert_int_eq(c->load, LOAD_LOADED);
		unit_conf_unref(c);
	}
}
END_TEST

START_TEST(enable_makes_links_and_disable_removes_them)
{
	struct strv changes = {0};
	struct err e;
	put("lib/a.service", SERVICE
		"[Install]\nWantedBy=multi-user.target\nAlias=nick.service\nAlso=b.service\n");
	put("lib/b.service", SERVICE "[Install]\nRequiredBy=multi-user.target\n");
	ck_assert_str_eq(unit_file_state(&path, "a.service"), "disabled");
	ck_assert_int_eq(unit_enable(&path, "a.service", false, &changes, &e), 0);
	ck_assert_uint_eq(changes.n, 3);
	ck_assert_str_eq(unit_file_state(&path, "a.service"), "enabled");
	ck_assert_int_eq(unit_enable(&path, "a.service", false, &changes, &e), 0);
	ck_assert_uint_eq(changes.n, 3); /* again: nothing to do */
	struct unit_conf *c = unit_load(&path, "multi-user.target", NULL);
	ck_assert(
		has(&c->deps[DEP_WANTS], "a.service") && has(&c->deps[DEP_REQUIRES], "b.service"));
	unit_conf_unref(c);
	ck_assert_int_eq(unit_disable(&path, "a.service", &changes, &e), 0);
	ck_assert_uint_eq(changes.n, 6);
	ck_assert_str_eq(unit_file_state(&path, "a.service"), "disabled");
	ck_assert_int_eq(unit_enable(&path, "nosuch.service", false, &changes, &e), -ENOENT);
	strv_done(&changes);
}
END_TEST

/* Loads it as nobody. */
static struct unit_conf *load_as_nobody(const char *name)
{
	be_nobody(true);
	struct unit_conf *c = unit_load(&path, name, NULL);
	be_nobody(false);
	return c;
}

START_TEST(what_cannot_be_read_is_not_absent_and_is_looked_at_again)
{
	static const struct {
		const char *locked, *code;
		mode_t mode;
		enum unit_load load;
	} rows[] = {
		{"etc",                    "S0006", 0755, LOAD_BAD   },
		{"etc/a.service",          "S0001", 0644, LOAD_BAD   },
		{"etc/a.service.d",        "S0006", 0755, LOAD_BAD   },
		{"etc/a.service.d/x.conf", "S0001", 0644, LOAD_BAD   },
		{"etc/a.service.wants",    "S0006", 0755, LOAD_LOADED},
	};
	put("etc/a.service", SERVICE);
	put("etc/a.service.d/x.conf", "[Service]\nNice=1\n");
	put_link("etc/a.service.wants/b.service", "../a.service");
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		set_mode(rows[i].locked, 0);
		for (int look = 0; look < 2; look++) { /* of the listings, kept and not */
			struct unit_conf *c = load_as_nobody("a.service");
			ck_assert_msg(c->load == rows[i].load, "%s", rows[i].locked);
			ck_assert(c->is_unread);
			ck_assert_ptr_nonnull(find_code(c, rows[i].code));
			ck_assert_ptr_nonnull(strstr(unit_conf_error(c), rows[i].locked));
			ck_assert_ptr_nonnull(strstr(unit_conf_error(c), "EACCES"));
			unit_conf_unref(c);
		}
		set_mode(rows[i].locked, rows[i].mode); /* which changes no mtime */
		struct unit_conf *c = load_as_nobody("a.service");
		ck_assert_int_eq(c->load, LOAD_LOADED);
		ck_assert(!c->is_unread && c->drop_ins.n == 1 &&
			  has(&c->deps[DEP_WANTS], "b.service"));
		unit_conf_unref(c);
	}
}
END_TEST

START_TEST(enable_and_disable_are_done_or_say_what_is_in_the_way)
{
	static const char *const locked[] = {"etc", "etc/a.service", "etc/multi-user.target.wants"};
	struct strv changes = {0};
	struct err e;
	put("etc/a.service", SERVICE "[Install]\nWantedBy=multi-user.target\n");
	ck_assert_int_eq(unit_enable(&path, "a.service", false, &changes, &e), 0);
	for (size_t i = 0; i < ARRAY_SIZE(locked); i++) {
		set_mode(locked[i], 0);
		be_nobody(true);
		ck_assert_int_lt(unit_disable(&path, "a.service", &changes, &e), 0);
		ck_assert_ptr_nonnull(strstr(e.text, locked[i]));
		ck_assert_ptr_nonnull(strstr(e.text, "EACCES"));
		ck_assert_str_eq(unit_file_state(&path, "a.service"), "bad");
		if (i < 2)
			ck_assert_int_lt(unit_enable(&path, "a.service", false, &changes, &e), 0);
		be_nobody(false);
		set_mode(locked[i], 0755);
	}
	be_nobody(true); /* the link can be seen, and not be removed */
	int r = unit_disable(&path, "a.service", &changes, &e);
	be_nobody(false);
	ck_assert_int_eq(r, getuid() == 0 ? -EACCES : 0);
	if (r < 0)
		ck_assert_str_eq(unit_file_state(&path, "a.service"), "enabled");
	strv_done(&changes);
}
END_TEST

START_TEST(a_template_is_enabled_as_an_instance)
{
	struct strv changes = {0};
	struct err e;
	put("lib/t@.service",
		SERVICE "[Install]\nWantedBy=multi-user.target\nDefaultInstance=main\n");
	put("lib/u@.service", SERVICE "[Install]\nWantedBy=multi-user.target\n");
	ck_assert_int_eq(unit_enable(&path, "t@.service", false, &changes, &e), 0);
	ck_assert_int_eq(unit_enable(&path, "u@2.service", false, &changes, &e), 0);
	ck_assert_int_eq(unit_enable(&path, "u@.service", false, &changes, &e), -EINVAL);
	struct unit_conf *c = unit_load(&path, "multi-user.target", NULL);
	ck_assert(has(&c->deps[DEP_WANTS], "t@main.service") &&
		  has(&c->deps[DEP_WANTS], "u@2.service"));
	unit_conf_unref(c);
	strv_done(&changes);
}
END_TEST

/* What is found then is of that value, not of the unit, whose findings stand already. */
START_TEST(an_install_value_that_cannot_be_expanded_is_refused)
{
	static const char bad[] = "v@\\xff.service"; /* \xff alone is no UTF-8 */
	struct strv changes = {0};
	struct buf b = {0};
	struct err e;
	for (int i = 0; i < 50; i++)
		buf_printf(&b, "[Unit]\nNosuch%d=1\n", i);
	buf_add_str(&b, SERVICE "[Install]\nWantedBy=%I.target\n");
	put("lib/v@.service", b.data);
	buf_done(&b);
	ck_assert_int_eq(unit_enable(&path, bad, false, &changes, &e), -EINVAL);
	ck_assert_uint_eq(changes.n, 0);
	ck_assert_str_eq(unit_file_state(&path, bad), "disabled");
	ck_assert_int_eq(unit_enable(&path, "v@good.service", false, &changes, &e), 0);
	ck_assert_str_eq(unit_file_state(&path, "v@good.service"), "enabled");
	strv_done(&changes);
}
END_TEST

START_TEST(what_enable_made_disable_removes_wherever_the_path_begins)
{
	struct strv changes = {0};
	struct err e;
	struct unit_path other;
	CLEANUP_FREE char *arg = xasprintf("/usr/..%s/etc", top);
	put("etc/a.service", SERVICE "[Install]\nWantedBy=multi-user.target\n");
	unit_path_default(&other, arg);
	other.is_system = false;
	ck_assert_int_eq(unit_enable(&other, "a.service", false, &changes, &e), 0);
	ck_assert_str_eq(unit_file_state(&other, "a.service"), "enabled");
	ck_assert_int_eq(unit_disable(&other, "a.service", &changes, &e), 0);
	ck_assert_str_eq(unit_file_state(&other, "a.service"), "disabled");
	unit_path_done(&other);
	strv_done(&changes);
}
END_TEST

START_TEST(a_snapshot_loads_as_the_unit_did)
{
	struct err e;
	CLEANUP_FREE char *dir = xasprintf("%s/rev/3", top);
	put("etc/a.service", "[Unit]\nDescription=old\n[Service]\nExecStart=/bin/x %n");
	put("etc/a.service.d/x.conf", "[Service]\nNice=7\n");
	ck_assert_int_eq(unit_snapshot_write(&path, "a.service", dir, &e), 0);
	put("etc/a.service", "[Unit]\nDescription=new\n" SERVICE);
	put("etc/a.service.d/x.conf", "[Service]\nNice=8\n");
	struct unit_conf *c = unit_load(&path, "a.service", dir);
	ck_assert_str_eq(c->description, "old");
	ck_assert_int_eq(c->exec.limits.nice, 7);
	ck_assert_str_eq(c->service.exec[EXEC_START].v[0].argv[1], "a.service");
	ck_assert_uint_eq(c->n_diagnostics, 0);
	unit_conf_unref(c);
}
END_TEST

/* The end of a file ends a line, also one that goes on. */
START_TEST(a_snapshot_keeps_the_files_of_a_unit_apart)
{
	static const char *const ends[] = {"", "\n", "\r\n"};
	struct err e;
	CLEANUP_FREE char *dir = xasprintf("%s/rev/3", top);
	put("etc/a.service.d/x.conf", "[Service]\nNice=7\n");
	for (size_t i = 0; i < ARRAY_SIZE(ends); i++) {
		CLEANUP_FREE char *text = xasprintf("[Service]\nExecStart=/bin/x 1 \\%s", ends[i]);
		put("etc/a.service", text);
		ck_assert_int_eq(unit_snapshot_write(&path, "a.service", dir, &e), 0);
		for (int k = 0; k < 2; k++) {
			struct unit_conf *c = unit_load(&path, "a.service", k ? dir : NULL);
			ck_assert_uint_eq(c->service.exec[EXEC_START].v[0].argc, 2);
			ck_assert_int_eq(c->exec.limits.nice, 7);
			unit_conf_unref(c);
		}
	}
}
END_TEST

START_TEST(a_link_that_somebody_else_may_turn_is_refused_for_the_system)
{
	if (geteuid() != 0)
		return;
	put("lib/real.service", SERVICE);
	put("his/readme", "");
	put_link("his/link.service", "../lib/real.service");
	put_link("etc/nick.service", "../his/link.service");
	CLEANUP_FREE char *his = xasprintf("%s/his", top);
	ck_assert_int_eq(chown(his, 65534, 65534), 0);
	path.is_system = true;
	struct unit_conf *c = unit_load(&path, "real.service", NULL);
	ck_assert_int_eq(c->load, LOAD_LOADED);
	unit_conf_unref(c);
	c = unit_load(&path, "nick.service", NULL);
	ck_assert_int_eq(c->load, LOAD_BAD);
	ck_assert_ptr_nonnull(find_code(c, "S0003"));
	ck_assert_uint_eq(c->service.exec[EXEC_START].n, 0);
	unit_conf_unref(c);
}
END_TEST

START_TEST(a_file_everybody_may_write_is_refused_for_the_system)
{
	put("etc/a.service", SERVICE);
	CLEANUP_FREE char *file = xasprintf("%s/etc/a.service", top);
	ck_assert_int_eq(chmod(file, 0666), 0);
	path.is_system = true;
	struct unit_conf *c = unit_load(&path, "a.service", NULL);
	if (geteuid() == 0) {
		ck_assert_int_eq(c->load, LOAD_BAD);
		ck_assert_ptr_nonnull(find_code(c, "S0003"));
		ck_assert_uint_eq(c->service.exec[EXEC_START].n, 0);
	} else
		ck_assert_int_eq(c->load, LOAD_LOADED);
	unit_conf_unref(c);
}
END_TEST

START_TEST(hostile_names_are_refused)
{
	static const char *const names[] = {"../etc/passwd.service", "a/b.service", "..", "",
		".service", "@.service", "a\nb.service", "x.exe"};
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		struct unit_conf *c = unit_load(&path, names[i], NULL);
		ck_assert_int_eq(c->load, LOAD_NOT_FOUND);
		ck_assert_str_eq(c->diagnostics[0].code, "S0004");
		unit_conf_unref(c);
	}
	put("etc/a.service", "[Unit]\nAfter=ok.service\nAfter=../x.service\n" SERVICE);
	struct unit_conf *c = unit_load(&path, "a.service", NULL);
	const struct diagnostic *d = find_code(c, "S0117");
	ck_assert(d && d->line == 3 && d->column == 7);
	unit_conf_unref(c);
}
END_TEST

/* size bytes of one repeated line. */
static void put_big(const char *name, const char *head, const char *line, size_t size)
{
	struct buf b = {0};
	buf_add_str(&b, head);
	while (b.size < size)
		buf_add_str(&b, line);
	put(name, b.data);
	buf_done(&b);
}

START_TEST(huge_files_and_lines_end_in_a_diagnostic)
{
	put_big("etc/lines.service", SERVICE "[Unit]\n", "Aftr=network.target\n", 10 * 1024 * 1024);
	put_big("etc/line.service", SERVICE "Environment=A=", "aaaaaaaaaaaaaaaa", 2 * 1024 * 1024);
	put_big("etc/file.service", SERVICE, "# comment comment comment comment\n",
		UNIT_FILE_MAX + 100);
	put_big("etc/deps.service", SERVICE "[Unit]\n", "Wants=a.service b.service c.service\n",
		1024 * 1024);
	struct unit_conf *c = unit_load(&path, "lines.service", NULL);
	ck_assert_int_eq(c->load, LOAD_LOADED);
	ck_assert_uint_eq(c->n_diagnostics, 100);
	ck_assert_uint_eq(c->diagnostics[0].line, 4);
	ck_assert_str_eq(c->diagnostics[0].hint, "did you mean 'After'?");
	unit_conf_unref(c);
	c = unit_load(&path, "line.service", NULL);
	ck_assert(c->load == LOAD_BAD && find_code(c, "S0107") && find_code(c, "S0107")->line == 3);
	unit_conf_unref(c);
	c = unit_load(&path, "file.service", NULL);
	ck_assert(c->load == LOAD_BAD && find_code(c, "S0002"));
	unit_conf_unref(c);
	c = unit_load(&path, "deps.service", NULL);
	ck_assert_uint_eq(c->deps[DEP_WANTS].n, 3);
	unit_conf_unref(c);
}
END_TEST

START_TEST(findings_in_a_line_of_many_lines_cost_little)
{
	struct buf b = {0};
	struct timespec before, after;
	buf_add_str(&b, "[Unit]\nAfter=x.service");
	for (int i = 0; i < 200000; i++)
		buf_add_str(&b, "\\\n");
	for (int i = 0; i < 50000; i++)
		buf_add_str(&b, " a/");
	buf_add_str(&b, "\n" SERVICE);
	put("etc/a.service", b.data);
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &before);
	struct unit_conf *c = unit_load(&path, "a.service", NULL);
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &after);
	ck_assert_uint_eq(c->deps[DEP_AFTER].n, 3); /* and two by default */
	ck_assert_uint_eq(c->diagnostics[0].line, 200002);
	ck_assert_int_lt(after.tv_sec - before.tv_sec, 5); /* it was half a minute */
	unit_conf_unref(c);
	buf_done(&b);
}
END_TEST

START_TEST(nul_bom_crlf_and_bad_utf8_are_survived_with_a_place)
{
	static const char text[] =
		"\xef\xbb\xbf[Service]\r\nExecStart=/bin/x\r\nNice=5\0Nice=6\r\nUser=\xff\r\n";
	struct unit_conf *c =
		unit_load_text(&path, "a.service", "a.service", text, sizeof(text) - 1);
	ck_assert_str_eq(c->service.exec[EXEC_START].v[0].path, "/bin/x");
	ck_assert_int_eq(c->exec.limits.nice, 6);
	ck_assert(find_code(c, "S0109") && find_code(c, "S0109")->line == 3 &&
		  find_code(c, "S0109")->column == 7);
	ck_assert(find_code(c, "S0106") && find_code(c, "S0106")->line == 5 &&
		  find_code(c, "S0106")->column == 6);
	ck_assert_int_eq(c->load, LOAD_BAD);
	unit_conf_unref(c);
}
END_TEST

START_TEST(a_circle_of_a_thousand_units_loads_quickly)
{
	for (int i = 0; i < 1000; i++) {
		CLEANUP_FREE char *name = xasprintf("etc/c%d.service", i);
		CLEANUP_FREE char *text = xasprintf(
			"[Unit]\nDescription=c %%n\nRequires=c%d.service\nAfter=c%d.service "
			"network.target\n[Service]\nExecStart=/bin/x --n %d\nRestart=always\nUser=daemon\n"
			"[Install]\nWantedBy=multi-user.target\n",
			(i + 1) % 1000, (i + 1) % 1000, i);
		put(name, text);
	}
	struct unit_conf *all[1000];
	struct timespec before, after;
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &before);
	for (int i = 0; i < 1000; i++) {
		CLEANUP_FREE char *name = xasprintf("c%d.service", i);
		all[i] = unit_load(&path, name, NULL);
	}
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &after);
	double ms = (double)(after.tv_sec - before.tv_sec) * 1e3 +
		    (double)(after.tv_nsec - before.tv_nsec) / 1e6;
	size_t bytes = 0;
	for (int i = 0; i < 1000; i++) {
		ck_assert_int_eq(all[i]->load, LOAD_LOADED);
		ck_assert_uint_eq(all[i]->deps[DEP_REQUIRES].n, 2);
		bytes += ((struct arena *)all[i]->arena)->total;
		unit_conf_unref(all[i]);
	}
	printf("# 1000 units: %.1f ms of CPU, %zu bytes each\n", ms, bytes / 1000);
	ck_assert_double_lt(
		ms, 2000); /* 100 ms is the goal; sanitizers and a loaded machine have room */
}
END_TEST

static void setup(void)
{
	top = xstrdup("/tmp/stayd-unit-XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(top));
	CLEANUP_FREE char *arg = xasprintf("%s/etc:%s/run:%s/lib", top, top, top);
	unit_path_default(&path, arg);
	path.is_system = false;
}

static int remove_one(const char *file, const struct stat *st, int type, struct FTW *f)
{
	(void)st;
	(void)type;
	(void)f;
	return remove(file);
}

static void teardown(void)
{
	unit_path_done(&path);
	(void)nftw(top, remove_one, 16, FTW_DEPTH | FTW_PHYS);
	free(top);
}

Suite *suite(void)
{
	Suite *s = suite_create("unit_load");
	TCase *t = tcase_create("load");
	tcase_set_timeout(t, 60);
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, the_first_directory_wins);
	tcase_add_test(t, drop_ins_of_all_kinds_apply_in_order_of_their_names);
	tcase_add_test(t, an_alias_is_the_other_unit);
	tcase_add_test(t, a_built_in_target_wins_over_a_file_outside_of_the_path);
	tcase_add_test(t, links_in_a_circle_are_a_diagnostic);
	tcase_add_test(t, a_link_to_dev_null_and_an_empty_file_mask);
	tcase_add_test(t, wants_and_requires_directories_are_dependencies);
	tcase_add_test(t, services_get_systemds_default_dependencies);
	tcase_add_test(t, every_unit_the_packages_order_themselves_against_is_built_in);
	tcase_add_test(t, a_changed_directory_is_seen_by_the_next_load);
	tcase_add_test(t, enable_makes_links_and_disable_removes_them);
	tcase_add_test(t, what_cannot_be_read_is_not_absent_and_is_looked_at_again);
	tcase_add_test(t, enable_and_disable_are_done_or_say_what_is_in_the_way);
	tcase_add_test(t, a_template_is_enabled_as_an_instance);
	tcase_add_test(t, an_install_value_that_cannot_be_expanded_is_refused);
	tcase_add_test(t, what_enable_made_disable_removes_wherever_the_path_begins);
	tcase_add_test(t, a_snapshot_loads_as_the_unit_did);
	tcase_add_test(t, a_snapshot_keeps_the_files_of_a_unit_apart);
	tcase_add_test(t, a_link_that_somebody_else_may_turn_is_refused_for_the_system);
	tcase_add_test(t, a_file_everybody_may_write_is_refused_for_the_system);
	tcase_add_test(t, hostile_names_are_refused);
	tcase_add_test(t, huge_files_and_lines_end_in_a_diagnostic);
	tcase_add_test(t, findings_in_a_line_of_many_lines_cost_little);
	tcase_add_test(t, nul_bom_crlf_and_bad_utf8_are_survived_with_a_place);
	tcase_add_test(t, a_circle_of_a_thousand_units_loads_quickly);
	suite_add_tcase(s, t);
	return s;
}
