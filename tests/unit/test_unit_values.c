/* SPDX-License-Identifier: Apache-2.0 */
/* Times, sizes, signals, words, names and the directives built on them. */
#include <sched.h>
#include <signal.h>
#include <sys/capability.h>

#include "unit/units.h"

#include "check_main.h"

static struct unit_path path;

static struct unit_conf *parse_as(const char *name, const char *text)
{
	return unit_load_text(&path, name, "test", text, strlen(text));
}

/* A service with these lines in [Service]. */
static struct unit_conf *service(const char *lines)
{
	CLEANUP_FREE char *text = xasprintf("[Service]\nExecStart=/bin/x\n%s", lines);
	return parse_as("web-api@eu-1.service", text);
}

static uint64_t us(const char *s)
{
	uint64_t v = 1234567;
	struct err e;
	return parse_timespan(s, USEC_PER_SEC, &v, &e) < 0 ? 1234567 : v;
}

START_TEST(time_spans_follow_systemds_grammar)
{
	ck_assert_uint_eq(us("5"), 5 * USEC_PER_SEC);
	ck_assert_uint_eq(us("1min 30s"), 90 * USEC_PER_SEC);
	ck_assert_uint_eq(us("1min30s"), 90 * USEC_PER_SEC);
	ck_assert_uint_eq(us(" 2 h "), 7200 * USEC_PER_SEC);
	ck_assert_uint_eq(us("1.5s"), 1500000);
	ck_assert_uint_eq(us("20m"), 1200 * USEC_PER_SEC);
	ck_assert_uint_eq(us("100ms"), 100000);
	ck_assert_uint_eq(us("7\xc2\xb5s"), 7);
	ck_assert_uint_eq(us("1y"), 31557600000000ULL);
	ck_assert_uint_eq(us("infinity"), USEC_INFINITY);
	ck_assert_uint_eq(us("0"), 0);
	const char *bad[] = {"", "s", "5x", "-5", "5 apples", "infinity 5", "99999999999999999999",
		"1.2.3", "."};
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		ck_assert_msg(us(bad[i]) == 1234567, "'%s' was taken", bad[i]);
}
END_TEST

START_TEST(sizes_have_binary_suffixes_and_never_wrap)
{
	uint64_t v = 0;
	struct err e;
	ck_assert_int_eq(parse_size("1.5G", 1024, &v, &e), 0);
	ck_assert_uint_eq(v, 1536ULL << 20);
	ck_assert_int_eq(parse_size("8K", 1024, &v, &e), 0);
	ck_assert_uint_eq(v, 8192);
	ck_assert_int_eq(parse_size("65536", 1024, &v, &e), 0);
	const char *bad[] = {"", "1GiB", "1GB", "x", "16E", "-1", "1 x"};
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		ck_assert_msg(
			parse_size(bad[i], 1024, &v, &e) == -EINVAL, "'%s' was taken", bad[i]);
	ck_assert_uint_eq(v, 65536);
}
END_TEST

START_TEST(every_signal_name_reads_back_as_its_number)
{
	for (int s = 1; s <= 64; s++)
		if (s != 32 && s != 33)
			ck_assert_int_eq(parse_signal(signal_name(s)), s);
	ck_assert_int_eq(parse_signal("TERM"), SIGTERM);
	ck_assert_int_eq(parse_signal("RTMIN+3"), 37);
	ck_assert_int_eq(parse_signal("RTMAX"), 64);
	ck_assert_int_eq(parse_signal("65"), -EINVAL);
	ck_assert_int_eq(parse_signal("term"), -EINVAL);
}
END_TEST

START_TEST(words_split_with_quotes_and_escapes)
{
	const char *pos = "one 'two three' fo\"u\"r a\\x41\\tb \\. '' end";
	const char *want[] = {"one", "two three", "four", "aA\tb", "\\.", "", "end"};
	char *w;
	for (size_t i = 0; i < ARRAY_SIZE(want); i++) {
		ck_assert_int_eq(split_word(&pos, &w, true, NULL), 1);
		ck_assert_str_eq(w, want[i]);
		free(w);
	}
	ck_assert_int_eq(split_word(&pos, &w, true, NULL), 0);
	pos = "\"open";
	ck_assert_int_eq(split_word(&pos, &w, true, NULL), -EINVAL);
}
END_TEST

START_TEST(names_escape_and_come_apart)
{
	ck_assert(unit_name_is_valid("web@1.service"));
	ck_assert(!unit_name_is_valid("../x.service"));
	ck_assert(!unit_name_is_valid("..service"));
	ck_assert(!unit_name_is_valid("a b.service"));
	ck_assert(!unit_name_is_valid("x.nosuch"));
	CLEANUP_FREE char *a = unit_name_complete("web@1"), *b = unit_name_complete("/mnt/my-disk");
	ck_assert_str_eq(a, "web@1.service");
	ck_assert_str_eq(b, "mnt-my\\x2ddisk.mount");
	CLEANUP_FREE char *t = unit_name_template(a), *i = unit_name_instance(a);
	ck_assert_str_eq(t, "web@.service");
	ck_assert_str_eq(i, "1");
	CLEANUP_FREE char *again = unit_name_with_instance(t, "2");
	ck_assert_str_eq(again, "web@2.service");
	ck_assert_ptr_null(unit_name_template("web.service"));
	CLEANUP_FREE char *root = unit_escape("/", true);
	ck_assert_str_eq(root, "-");
}
END_TEST

START_TEST(specifiers_are_those_of_systemd)
{
	struct unit_conf *c =
		service("Environment=\"S=%n %N %p %P %i %I %j %f %t %S %C %L %E %% %z\"\n");
	ck_assert_str_eq(c->exec.environment.v[0],
		"S=web-api@eu-1.service web-api@eu-1 web-api web/api eu-1 eu/1 api /eu/1 /run "
		"/var/lib /var/cache /var/log /etc % %z");
	unit_conf_unref(c);
}
END_TEST

START_TEST(command_lines_follow_systemd)
{
	struct unit_conf *c = parse_as("a.service",
		"[Service]\nType=oneshot\n"
		"ExecStart=-/bin/sh -c 'echo \"$X\" ${Y}' ; @/bin/b argv0 \\; %n ; !!/bin/c\n"
		"ExecStartPre=+:nginx -g \"daemon on;\"\nExecStop=!/bin/kill\n");
	const struct exec_list *l = &c->service.exec[EXEC_START];
	ck_assert_uint_eq(l->n, 3);
	ck_assert(l->v[0].ignore_failure);
	ck_assert_uint_eq(l->v[0].argc, 3);
	ck_assert_str_eq(l->v[0].argv[2], "echo \"$X\" ${Y}");
	ck_assert_str_eq(l->v[1].path, "/bin/b");
	ck_assert_str_eq(l->v[1].argv[0], "argv0");
	ck_assert_str_eq(l->v[1].argv[1], ";");
	ck_assert_str_eq(l->v[1].argv[2], "a.service");
	ck_assert(!l->v[2].no_user && !l->v[2].full_privilege);
	const struct exec_cmd *pre = &c->service.exec[EXEC_START_PRE].v[0];
	ck_assert(pre->full_privilege && pre->no_expand);
	ck_assert_str_eq(pre->path, "nginx");
	ck_assert_str_eq(pre->argv[2], "daemon on;");
	ck_assert(c->service.exec[EXEC_STOP].v[0].no_user);
	ck_assert_int_eq(c->load, LOAD_LOADED);
	unit_conf_unref(c);
}
END_TEST

START_TEST(a_bad_command_line_makes_the_unit_bad)
{
	const char *bad[] = {"ExecStart=bin/x\n", "ExecStart=/bin/\n", "ExecStart=/bin/x \"open\n",
		"ExecStart=-\n", "ExecStart=@/bin/x\n"};
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		CLEANUP_FREE char *text =
			xasprintf("[Service]\nType=oneshot\nExecStart=/ok\n%s", bad[i]);
		struct unit_conf *c = parse_as("a.service", text);
		ck_assert_msg(c->load == LOAD_BAD, "%s was taken", bad[i]);
		ck_assert_uint_eq(c->diagnostics[0].line, 4);
		unit_conf_unref(c);
	}
}
END_TEST

START_TEST(environment_keeps_quoted_blanks_and_resets)
{
	struct unit_conf *c =
		service("Environment=X=1\nEnvironment=\nEnvironment=\"A=b c\" D='e f' G=\n"
			"EnvironmentFile=-/etc/default/x\n");
	ck_assert_uint_eq(c->exec.environment.n, 3);
	ck_assert_str_eq(c->exec.environment.v[0], "A=b c");
	ck_assert_str_eq(c->exec.environment.v[1], "D=e f");
	ck_assert_str_eq(c->exec.environment.v[2], "G=");
	ck_assert(c->exec.environment_files[0].is_optional);
	unit_conf_unref(c);
}
END_TEST

START_TEST(capability_lists_merge_as_in_systemd)
{
	struct unit_conf *c = service(
		"CapabilityBoundingSet=CAP_CHOWN CAP_KILL\nCapabilityBoundingSet=~CAP_KILL\n"
		"AmbientCapabilities=CAP_NET_BIND_SERVICE\n");
	ck_assert_uint_eq(c->exec.identity.bounding_set, 1ULL << CAP_CHOWN);
	ck_assert_uint_eq(c->exec.identity.ambient_set, 1ULL << CAP_NET_BIND_SERVICE);
	unit_conf_unref(c);
	c = service("CapabilityBoundingSet=\n");
	ck_assert_uint_eq(c->exec.identity.bounding_set, 0);
	ck_assert(c->exec.identity.has_bounding_set);
	unit_conf_unref(c);
	c = service("CapabilityBoundingSet=CAP_NONSENSE\n");
	ck_assert_int_eq(c->load, LOAD_BAD);
	unit_conf_unref(c);
}
END_TEST

START_TEST(syscall_filters_keep_sense_errno_and_what_is_taken_back)
{
	struct unit_conf *c = service(
		"SystemCallFilter=@system-service mount:EPERM\nSystemCallFilter=~@privileged\n"
		"SystemCallErrorNumber=EPERM\n");
	const struct exec_sandbox *s = &c->exec.sandbox;
	ck_assert(s->has_syscall_filter && !s->syscall_filter_is_deny);
	ck_assert_uint_eq(s->syscall_filter.n, 3);
	ck_assert_str_eq(s->syscall_filter.v[1], "mount:EPERM");
	ck_assert_str_eq(s->syscall_filter.v[2], "~@privileged");
	ck_assert_int_eq(s->syscall_errno, EPERM);
	unit_conf_unref(c);
	c = service("SystemCallFilter=@nonsense\n");
	ck_assert_int_eq(c->load, LOAD_BAD);
	unit_conf_unref(c);
}
END_TEST

START_TEST(a_security_directive_with_a_bad_value_never_starts)
{
	const char *bad[] = {"NoNewPrivileges=ys", "PrivateTmp=maybe", "ProtectSystem=strickt",
		"RestrictNamespaces=foo", "RestrictAddressFamilies=INET", "User=a b",
		"RootImage=/x", "ReadOnlyPaths=etc"};
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct unit_conf *c = service(bad[i]);
		ck_assert_msg(c->load == LOAD_BAD, "%s was taken", bad[i]);
		unit_conf_unref(c);
	}
}
END_TEST

START_TEST(limits_have_soft_hard_and_their_own_units)
{
	struct unit_conf *c =
		service("LimitNOFILE=1024:64K\nLimitCORE=infinity\nLimitNICE=+5\nLimitCPU=1min\n"
			"LimitRTTIME=5ms\n");
	const struct exec_limits *l = &c->exec.limits;
	ck_assert_uint_eq(l->rlimit[RLIMIT_NOFILE].soft, 1024);
	ck_assert_uint_eq(l->rlimit[RLIMIT_NOFILE].hard, 65536);
	ck_assert(l->rlimit[RLIMIT_CORE].hard == RLIM_INFINITY);
	ck_assert_uint_eq(l->rlimit[RLIMIT_NICE].soft, 15);
	ck_assert_uint_eq(l->rlimit[RLIMIT_CPU].soft, 60);
	ck_assert_uint_eq(l->rlimit[RLIMIT_RTTIME].soft, 5000);
	ck_assert_uint_eq(c->n_diagnostics, 0);
	unit_conf_unref(c);
}
END_TEST

START_TEST(cgroup_knobs_take_percentages)
{
	struct unit_conf *c =
		service("MemoryMax=50%\nMemoryHigh=1G\nTasksMax=80%\nCPUQuota=20%\nCPUWeight=200\n"
			"Delegate=pids memory\n");
	const struct cgroup_limits *g = &c->exec.cgroup;
	ck_assert_uint_eq(g->memory_max_permille, 500);
	ck_assert_uint_eq(g->memory_high, 1 << 30);
	ck_assert_uint_eq(g->tasks_max_permille, 800);
	ck_assert_uint_eq(g->cpu_quota_us_per_sec, 200000);
	ck_assert_uint_eq(g->cpu_weight, 200);
	ck_assert(g->delegate);
	unit_conf_unref(c);
}
END_TEST

START_TEST(exit_statuses_have_names_and_signals)
{
	struct unit_conf *c = service("SuccessExitStatus=143 DATAERR SIGTERM\n");
	const struct exit_set *s = &c->service.restart.success;
	ck_assert(s->codes[143 / 8] & 1 << 143 % 8);
	ck_assert(s->codes[65 / 8] & 1 << 65 % 8);
	ck_assert(s->signals == 1ULL << SIGTERM);
	unit_conf_unref(c);
}
END_TEST

START_TEST(old_spellings_work)
{
	struct unit_conf *c = service(
		"StartLimitInterval=30\nStartLimitBurst=7\nReadWriteDirectories=/var/x\n"
		"InaccessibleDirectories=-/boot\nPermissionsStartOnly=true\nMemoryLimit=1M\n"
		"PIDFile=/var/run/x.pid\n");
	ck_assert_uint_eq(c->service.restart.limit_interval_us, 30 * USEC_PER_SEC);
	ck_assert_uint_eq(c->service.restart.limit_burst, 7);
	ck_assert_str_eq(c->exec.sandbox.read_write_paths.v[0], "/var/x");
	ck_assert_str_eq(c->exec.sandbox.inaccessible_paths.v[0], "-/boot");
	ck_assert(c->service.permissions_start_only);
	ck_assert_uint_eq(c->exec.cgroup.memory_max, 1 << 20);
	ck_assert_str_eq(c->service.pid_file, "/run/x.pid");
	ck_assert_uint_eq(c->n_diagnostics, 0);
	unit_conf_unref(c);
}
END_TEST

START_TEST(our_sections_are_read)
{
	struct unit_conf *c = parse_as("web@1.service",
		"[Service]\nExecStart=/x\n[X-Replicas]\nCount=4\nPorts=8001-8016\n[X-Health]\n"
		"Ready=http://127.0.0.1:${PORT}/h\nIntervalSec=500ms\nFall=2\n[X-Restart]\nOnLimit=slow\n"
		"JitterPercent=20%\n[X-LoadBalancer]\nDriver=haproxy\nAddress=/run/a.sock\nAddress=tcp 127.0.0.1:9\n"
		"Backend=be\nRamp=25%,50%,100%:2s\n[X-Rollout]\nMaxSurge=25%\nReleaseRoot=/r\nReleaseLink=/c\n"
		"[X-Someone-Else]\nAny=thing\n");
	ck_assert_int_eq(c->load, LOAD_LOADED);
	ck_assert_uint_eq(c->n_diagnostics, 0);
	ck_assert(c->replicas.is_set && c->replicas.count == 4 && c->replicas.port_last == 8016);
	ck_assert_str_eq(c->health[CHECK_READY].target, "http://127.0.0.1:${PORT}/h");
	ck_assert_uint_eq(c->health[CHECK_LIVE].interval_us, 500000);
	ck_assert_uint_eq(c->health[CHECK_READY].fall, 2);
	ck_assert_int_eq(c->service.restart.on_limit, ON_LIMIT_SLOW);
	ck_assert_uint_eq(c->service.restart.jitter_percent, 20);
	ck_assert(c->lb.is_set && c->lb.address.n == 2);
	ck_assert_str_eq(c->lb.server, "web1");
	ck_assert_uint_eq(c->lb.ramp.n, 3);
	ck_assert_uint_eq(c->lb.ramp.step_us, 2 * USEC_PER_SEC);
	ck_assert(c->rollout.is_set && c->rollout.max_surge.is_percent);
	ck_assert_uint_eq(c->rollout.max_unavailable.value, 0);
	unit_conf_unref(c);
}
END_TEST

START_TEST(degraded_says_what_is_not_honoured_and_no_more)
{
	struct unit_conf *c = service(
		"DeviceAllow=/dev/null rw\nDeviceAllow=/dev/zero\nRemoveIPC=no\nIPAddressDeny=any\n"
		"SyslogFacility=daemon\nSlice=\n");
	ck_assert_uint_eq(c->n_degraded, 2);
	ck_assert_str_eq(c->degraded[0].directive, "DeviceAllow");
	ck_assert_int_eq(c->degraded[0].class, CLASS_IGNORED_WARN);
	ck_assert_uint_eq(c->degraded[0].line, 3);
	ck_assert_int_eq(c->load, LOAD_LOADED);
	unit_conf_unref(c);
}
END_TEST

START_TEST(every_row_of_the_table_is_found_and_has_a_reason_when_it_needs_one)
{
	for (size_t i = 0; i < directive_count(); i++) {
		const struct directive_info *d = directive_at(i);
		ck_assert_ptr_eq(directive_find(d->section, d->key), d); /* also: no row twice */
		ck_assert_msg((d->class == CLASS_FULL) == (d->reason == NULL), "%s", d->key);
		ck_assert(d->doc && *d->doc);
		/* Any text as its value is no crash and no silence about a class. */
		CLEANUP_FREE char *text =
			xasprintf("[%s]\n%s=nonsense %%i 5\n%s=\n", d->section, d->key, d->key);
		struct unit_conf *c = parse_as("a@b.service", text);
		bool is_told = d->class == CLASS_FULL || d->class == CLASS_IGNORED_SAFE ||
			       c->n_degraded > 0;
		ck_assert_msg(is_told, "%s is not reported", d->key);
		unit_conf_unref(c);
	}
}
END_TEST

static void setup(void)
{
	unit_path_default(&path, "/nonexistent");
	/* The test may run as anybody; the specifiers of root are what is compared. */
	free(path.runtime_dir);
	free(path.state_dir);
	free(path.cache_dir);
	free(path.logs_dir);
	free(path.config_dir);
	path.runtime_dir = xstrdup("/run");
	path.state_dir = xstrdup("/var/lib");
	path.cache_dir = xstrdup("/var/cache");
	path.logs_dir = xstrdup("/var/log");
	path.config_dir = xstrdup("/etc");
}

static void teardown(void)
{
	unit_path_done(&path);
}

Suite *suite(void)
{
	Suite *s = suite_create("unit_values");
	TCase *t = tcase_create("values");
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, time_spans_follow_systemds_grammar);
	tcase_add_test(t, sizes_have_binary_suffixes_and_never_wrap);
	tcase_add_test(t, every_signal_name_reads_back_as_its_number);
	tcase_add_test(t, words_split_with_quotes_and_escapes);
	tcase_add_test(t, names_escape_and_come_apart);
	tcase_add_test(t, specifiers_are_those_of_systemd);
	tcase_add_test(t, command_lines_follow_systemd);
	tcase_add_test(t, a_bad_command_line_makes_the_unit_bad);
	tcase_add_test(t, environment_keeps_quoted_blanks_and_resets);
	tcase_add_test(t, capability_lists_merge_as_in_systemd);
	tcase_add_test(t, syscall_filters_keep_sense_errno_and_what_is_taken_back);
	tcase_add_test(t, a_security_directive_with_a_bad_value_never_starts);
	tcase_add_test(t, limits_have_soft_hard_and_their_own_units);
	tcase_add_test(t, cgroup_knobs_take_percentages);
	tcase_add_test(t, exit_statuses_have_names_and_signals);
	tcase_add_test(t, old_spellings_work);
	tcase_add_test(t, our_sections_are_read);
	tcase_add_test(t, degraded_says_what_is_not_honoured_and_no_more);
	tcase_add_test(t, every_row_of_the_table_is_found_and_has_a_reason_when_it_needs_one);
	suite_add_tcase(s, t);
	return s;
}
