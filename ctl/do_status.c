/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Verbs that show states. Exit codes as LSB says for status, except that a bare `status` is 0:
 * it was asked for a list, and gave one.
 */
#include "ctl.h"

#define STATUS_LOG_LINES 10

static json_t *status_params(struct ctl *c, bool is_brief)
{
	json_t *params = json_object();
	if (c->argc)
		json_object_set_new(params, "names", names_json(c));
	if (is_brief)
		json_object_set_new(params, "brief", json_true());
	return params;
}

static bool is_up_word(const char *active_state)
{
	return streq(active_state, "active") || streq(active_state, "reloading");
}

/* 0 all up, 3 some not, 4 some unknown. */
static int status_exit(const json_t *params)
{
	size_t i;
	json_t *u;
	int code = 0;
	json_array_foreach(json_object_get(params, "units"), i, u)
	{
		if (streq(js(u, "load_state"), "not-found"))
			return STAY_EXIT_NOT_PERMITTED; /* LSB's "unknown" */
		if (!is_up_word(js(u, "active_state")))
			code = STAY_EXIT_NOT_RUNNING;
	}
	if (json_array_size(json_object_get(params, "units")) == 0)
		return STAY_EXIT_NOT_RUNNING;
	return code;
}

/* ---- the list ----------------------------------------------------------------------------------------- */

static bool is_over(const char *rollout_state)
{
	static const char *const words[] = {"", "none", "done", "rolled-back", "halted", "aborted"};
	for (size_t i = 0; i < ARRAY_SIZE(words); i++)
		if (streq(words[i], rollout_state))
			return true;
	return false;
}

/* What the members of a set come to. */
struct sum {
	unsigned n, active, failed;
	int64_t restarts;
	const char *since;
};

static struct sum set_sum(const json_t *units, const char *set)
{
	struct sum s = {.since = ""};
	size_t i;
	json_t *u;
	json_array_foreach(units, i, u)
	{
		if (!streq(js(u, "set"), set))
			continue;
		s.n++;
		s.active += is_up_word(js(u, "active_state"));
		s.failed += streq(js(u, "active_state"), "failed");
		s.restarts += ji(u, "n_restarts");
		if (strcmp(js(u, "since"), s.since) > 0)
			s.since = js(u, "since");
	}
	return s;
}

static void add_number(struct table *t, int64_t n)
{
	char text[32];
	snprintf(text, sizeof(text), "%lld", (long long)n);
	table_add(t, text);
}

static void add_row(struct table *t, const char *active, const char *name, const char *word,
	int64_t ready, int64_t count, const char *release, int64_t restarts, const char *since,
	const char *detail)
{
	char head[UNIT_NAME_MAX + 32], age[AGE_MAX], of[48];
	snprintf(head, sizeof(head), "%s %s", state_symbol(active), name);
	table_add(t, head);
	table_add(t, word);
	snprintf(of, sizeof(of), "%lld/%lld", (long long)ready, (long long)count);
	table_add(t, of);
	table_add(t, release);
	add_number(t, restarts);
	table_add(t, age_of(age, since, now_wall_us()));
	table_add(t, detail);
}

static void add_set(struct table *t, const json_t *set, const json_t *units)
{
	const json_t *ro = json_object_get(set, "rollout");
	struct sum s = set_sum(units, js(set, "name"));
	bool is_rolling = !is_over(js(ro, "state"));
	const char *active = s.failed     ? "failed"
			     : is_rolling ? "activating"
			     : s.active   ? "active"
					  : "inactive";
	char release[2 * RELEASE_NAME_MAX + 8], detail[512] = "";
	str_copy(release, js(set, "release"), sizeof(release));
	if (is_rolling) {
		snprintf(release, sizeof(release), "%s>%s", js(ro, "from_release"),
			js(ro, "to_release"));
		snprintf(detail, sizeof(detail), "%s: %s", js(ro, "id"), js(ro, "waits_for"));
	} else if (streq(js(ro, "state"), "halted")) {
		snprintf(detail, sizeof(detail), "halted: %s", js(ro, "reason"));
	}
	add_row(t, active, js(set, "name"), is_rolling ? js(ro, "state") : active,
		ji(set, "available"), ji(set, "count"), release, s.restarts, s.since, detail);
}

/* Members stand in their set's row; targets and the like only when something is wrong with them. */
static bool is_listed(const json_t *u, const json_t *sets)
{
	size_t i;
	json_t *s;
	json_array_foreach(sets, i, s) if (streq(js(s, "name"), js(u, "set"))) return false;
	return endswith(js(u, "name"), ".service") || streq(js(u, "active_state"), "failed") ||
	       streq(js(u, "load_state"), "bad-setting");
}

static void print_head(const json_t *daemon)
{
	char age[AGE_MAX];
	age_of(age, js(daemon, "since"), now_wall_us());
	printf("stayd %s   %s   up %s   core %lld", jp(daemon, "version"), jp(daemon, "state"), age,
		(long long)ji(daemon, "core_pid"));
	if (ji(daemon, "restarts_of_core"))
		printf(" (restarted %lld times)", (long long)ji(daemon, "restarts_of_core"));
	printf("\n");
	size_t i;
	json_t *t;
	json_array_foreach(json_object_get(daemon, "troubles"), i, t)
		print_line(stdout, "trouble: ", strna(json_string_value(t)), json_string_length(t));
	printf("\n");
}

static void print_list(const json_t *params)
{
	static const char *const heads[] = {
		"  UNIT", "STATE", "READY", "RELEASE", "RST", "SINCE", "DETAIL"};
	const json_t *units = json_object_get(params, "units"),
		     *sets = json_object_get(params, "sets");
	struct table t;
	size_t i;
	json_t *o;
	const char *failed = NULL;
	print_head(json_object_get(params, "daemon"));
	table_begin(&t, ARRAY_SIZE(heads), heads);
	json_array_foreach(sets, i, o) add_set(&t, o, units);
	json_array_foreach(units, i, o)
	{
		if (streq(js(o, "active_state"), "failed"))
			failed = jp(o, "name");
		if (is_listed(o, sets))
			add_row(&t, js(o, "active_state"), js(o, "name"), js(o, "sub_state"),
				json_is_true(json_object_get(o, "available")), 1, js(o, "release"),
				ji(o, "n_restarts"), js(o, "since"), js(o, "detail"));
	}
	table_print(&t, stdout);
	if (failed)
		fprintf(stderr, "hint: stayctl status %s\n", failed);
}

/* ---- one unit ----------------------------------------------------------------------------------------------- */

static void print_text(const char *label, const char *text)
{
	if (text[0])
		print_line(stdout, label, text, strlen(text));
}

static void print_checks(const json_t *u)
{
	size_t i;
	json_t *k;
	json_array_foreach(json_object_get(u, "checks"), i, k)
	{
		char *s = xasprintf("%s %s (%s -> %s)", js(k, "check"), js(k, "state"),
			js(k, "target"), js(k, "answer")[0] ? js(k, "answer") : "no answer yet");
		print_text("   Check: ", s);
		free(s);
	}
}

static void print_degraded(const json_t *u)
{
	size_t i;
	json_t *d;
	json_array_foreach(json_object_get(u, "degraded"), i, d)
	{
		char *s = xasprintf("%s=: %s", js(d, "directive"), js(d, "reason"));
		print_text("Degraded: ", s);
		free(s);
	}
}

static void print_unit(const json_t *u)
{
	const char *active = jp(u, "active_state");
	char age[AGE_MAX];
	char *title = xasprintf("%s%s%s", js(u, "name"), js(u, "description")[0] ? " - " : "",
		js(u, "description"));
	printf("%s%s%s ", colour_on(state_colour(active)), state_symbol(active), colour_off());
	print_line(stdout, "", title, strlen(title));
	free(title);
	char *loaded =
		xasprintf("%s%s%s%s", js(u, "load_state"), js(u, "fragment_path")[0] ? " (" : "",
			js(u, "fragment_path"), js(u, "fragment_path")[0] ? ")" : "");
	print_text("  Loaded: ", loaded);
	free(loaded);
	printf("   State: %s (%s) since %s ago, result %s\n", active, jp(u, "sub_state"),
		age_of(age, jp(u, "since"), now_wall_us()), jp(u, "result"));
	print_text("  Detail: ", js(u, "detail"));
	if (ji(u, "main_pid"))
		printf("Main PID: %lld   restarts %lld\n", (long long)ji(u, "main_pid"),
			(long long)ji(u, "n_restarts"));
	if (js(u, "release")[0])
		printf(" Release: %s (revision %lld)\n", jp(u, "release"),
			(long long)ji(u, "revision"));
	if (!streq(js(u, "lb_state"), "none"))
		printf("      LB: %s, %lld sessions, port %lld\n", jp(u, "lb_state"),
			(long long)ji(u, "sessions"), (long long)ji(u, "port"));
	print_text("  Status: ", js(u, "status_text"));
	print_text("   Error: ", js(u, "status_errno"));
	print_checks(u);
	print_degraded(u);
	print_text("  CGroup: ", js(u, "control_group"));
}

static void add_member(struct table *t, const json_t *u)
{
	char head[UNIT_NAME_MAX + 32], age[AGE_MAX];
	snprintf(head, sizeof(head), "%s %s", state_symbol(js(u, "active_state")), js(u, "name"));
	table_add(t, head);
	table_add(t, js(u, "release"));
	table_add(t, js(u, "sub_state"));
	table_add(t, js(u, "health"));
	table_add(t, js(u, "lb_state"));
	add_number(t, ji(u, "main_pid"));
	add_number(t, ji(u, "port"));
	add_number(t, ji(u, "n_restarts"));
	table_add(t, age_of(age, js(u, "since"), now_wall_us()));
	table_add(t, js(u, "detail"));
}

static void print_members(const json_t *units, const char *set)
{
	static const char *const heads[] = {"  INSTANCE", "RELEASE", "STATE", "HEALTH", "LB", "PID",
		"PORT", "RST", "SINCE", "DETAIL"};
	struct table t;
	size_t i;
	json_t *u;
	table_begin(&t, ARRAY_SIZE(heads), heads);
	json_array_foreach(units, i, u) if (!set || streq(js(u, "set"), set)) add_member(&t, u);
	table_print(&t, stdout);
}

static void print_set(const json_t *s, const json_t *units)
{
	const json_t *ro = json_object_get(s, "rollout");
	printf("%s (%s)\n", jp(s, "name"), jp(s, "template"));
	printf("   Ready: %lld/%lld   release %s (revision %lld)\n", (long long)ji(s, "available"),
		(long long)ji(s, "count"), jp(s, "release")[0] ? jp(s, "release") : "-",
		(long long)ji(s, "revision"));
	if (!streq(js(ro, "state"), "none") && js(ro, "state")[0])
		printf(" Rollout: %s %s %s -> %s\n", jp(ro, "id"), jp(ro, "state"),
			jp(ro, "from_release"), jp(ro, "to_release"));
	print_text(" Waiting: ", js(ro, "waits_for"));
	print_text("  Reason: ", js(ro, "reason"));
	print_members(units, js(s, "name"));
}

/* Not fatal when they cannot be read: a viewer may not, or there are none. */
static void print_last_log(struct ctl *c, const char *unit)
{
	struct reply rep = {0};
	struct client cl;
	char *path = socket_path(c->socket);
	if (client_open(&cl, path) == 0 &&
		client_call(&cl, "Logs",
			json_pack("{s:[s],s:i}", "names", unit, "lines", STATUS_LOG_LINES),
			false) == 0 &&
		client_reply(&cl, &rep) == 0 && !rep.error) {
		const char *p = js(json_array_get(json_object_get(rep.params, "logs"), 0), "text");
		if (*p)
			putchar('\n');
		while (*p) {
			size_t n = strcspn(p, "\n");
			print_line(stdout, "  ", p, n);
			p += n + (p[n] == '\n');
		}
	}
	reply_done(&rep);
	client_close(&cl);
	free(path);
}

static void print_details(struct ctl *c, const json_t *params)
{
	const json_t *units = json_object_get(params, "units"),
		     *sets = json_object_get(params, "sets");
	size_t i;
	json_t *o;
	json_array_foreach(sets, i, o) print_set(o, units);
	json_array_foreach(units, i, o)
	{
		if (json_array_size(sets) && js(o, "set")[0])
			continue; /* in its set's table */
		if (streq(js(o, "load_state"), "not-found")) {
			fprintf(stderr, "error: no unit '%s'\n  hint: %s\n", jp(o, "name"),
				jp(o, "detail")[0] ? jp(o, "detail") : "stayctl list-units");
			continue;
		}
		print_unit(o);
		if (json_array_size(units) == 1)
			print_last_log(c, js(o, "name"));
	}
}

int do_STATUS(struct ctl *c)
{
	struct reply rep;
	int r;
	if (c->json && !c->argc)
		return ask_raw(c, "Status", status_params(c, false));
	r = ask(c, "Status", status_params(c, !c->argc), &rep);
	if (r)
		return r;
	if (c->json)
		print_json("status", rep.params);
	else if (c->argc)
		print_details(c, rep.params);
	else
		print_list(rep.params);
	r = c->argc ? status_exit(rep.params) : 0;
	reply_done(&rep);
	return r;
}

int do_PS(struct ctl *c)
{
	struct reply rep;
	int r = ask(c, "Status", status_params(c, false), &rep);
	if (r)
		return r;
	if (c->json)
		print_json("ps", rep.params);
	else
		print_members(json_object_get(rep.params, "units"), NULL);
	reply_done(&rep);
	return 0;
}

int do_LIST_UNITS(struct ctl *c)
{
	static const char *const heads[] = {"UNIT", "LOAD", "ACTIVE", "SUB", "DETAIL"};
	struct reply rep;
	struct table t;
	size_t i;
	json_t *u;
	int r = ask(c, "Status", status_params(c, !c->json), &rep);
	if (r)
		return r;
	json_t *units = json_object_get(rep.params, "units");
	for (i = json_array_size(units); c->state && i-- > 0;) {
		u = json_array_get(units, i);
		if (!streq(js(u, "active_state"), c->state) && !streq(js(u, "sub_state"), c->state))
			json_array_remove(units, i);
	}
	if (c->json) {
		print_json("list-units", rep.params);
	} else {
		table_begin(&t, ARRAY_SIZE(heads), heads);
		json_array_foreach(units, i, u)
		{
			static const char *const keys[] = {
				"name", "load_state", "active_state", "sub_state", "detail"};
			for (size_t k = 0; k < ARRAY_SIZE(keys); k++)
				table_add(&t, js(u, keys[k]));
		}
		table_print(&t, stdout);
	}
	reply_done(&rep);
	return 0;
}

/* ---- questions ---------------------------------------------------------------------------------------------- */

/* Prints a word a unit; the answer is the exit code. */
static int question(struct ctl *c, const char *method, const char *key, struct reply *ret)
{
	size_t i;
	json_t *u;
	if (c->argc == 0)
		return usage(c, "which unit?");
	int r = ask(c, method, json_pack("{s:o}", "names", names_json(c)), ret);
	if (r == STAY_EXIT_UNREACHABLE)
		return STAY_EXIT_NOT_PERMITTED; /* LSB: 4, unknown */
	if (r)
		return r;
	if (c->json)
		print_json(c->verb->name, ret->params);
	else if (!c->quiet)
		json_array_foreach(json_object_get(ret->params, "units"), i, u) puts(jp(u, key));
	return -1;
}

int do_IS_ACTIVE(struct ctl *c)
{
	struct reply rep;
	int r = question(c, "Status", "active_state", &rep);
	if (r >= 0)
		return r;
	r = status_exit(rep.params);
	reply_done(&rep);
	return r;
}

static bool any_is(const json_t *params, const char *key, const char *word)
{
	size_t i;
	json_t *u;
	json_array_foreach(json_object_get(params, "units"), i,
		u) if (startswith(js(u, key), word)) return true;
	return false;
}

int do_IS_FAILED(struct ctl *c)
{
	struct reply rep;
	int r = question(c, "Status", "active_state", &rep);
	if (r >= 0)
		return r;
	r = any_is(rep.params, "active_state", "failed") ? 0 : STAY_EXIT_FAILED;
	reply_done(&rep);
	return r;
}

/* systemd's exit code: 0 for enabled, enabled-runtime, static, alias, indirect; here also linked. */
int do_IS_ENABLED(struct ctl *c)
{
	static const char *const good[] = {"enabled", "static", "alias", "indirect", "generated"};
	struct reply rep;
	int r = question(c, "IsEnabled", "state", &rep);
	if (r >= 0)
		return r;
	r = STAY_EXIT_FAILED;
	for (size_t i = 0; i < ARRAY_SIZE(good); i++)
		if (any_is(rep.params, "state", good[i]))
			r = 0;
	reply_done(&rep);
	return r;
}

int do_WAIT(struct ctl *c)
{
	struct client cl;
	struct reply rep;
	if (c->argc == 0)
		return usage(c, "which unit?");
	int r = connect_or_say(c, &cl);
	if (r)
		return r;
	r = client_call(&cl, "Wait",
		json_pack("{s:o,s:s}", "names", names_json(c), "for",
			c->wait_for ? c->wait_for : "ready"),
		false);
	if (r == 0)
		r = client_reply(&cl, &rep);
	client_close(&cl);
	if (r == CLIENT_TIMED_OUT) {
		fprintf(stderr, "error: not %s in time\n", c->wait_for ? c->wait_for : "ready");
		return STAY_EXIT_TIMED_OUT;
	}
	if (r)
		return say_broken(r, NULL);
	r = rep.error ? say_error(c, &rep) : print_outcomes(c, rep.params);
	reply_done(&rep);
	return r;
}

/* ---- show, cat ------------------------------------------------------------------------------------------------ */

static bool is_wanted(const struct ctl *c, const char *key)
{
	for (size_t i = 0; i < c->n_properties; i++)
		if (strcasecmp(c->properties[i], key) == 0)
			return true;
	return c->n_properties == 0;
}

static void show_object(const struct ctl *c, const json_t *o)
{
	const char *key;
	json_t *v;
	json_object_foreach((json_t *)o, key, v)
	{
		if (streq(key, "settings")) {
			show_object(c, v);
			continue;
		}
		if (!is_wanted(c, key))
			continue;
		char *text = json_is_string(v) ? xstrdup(json_string_value(v))
			     : json_is_null(v) ? xstrdup("")
					       : json_dumps(v, JSON_COMPACT | JSON_ENCODE_ANY);
		char *prefix = xasprintf("%s=", key);
		print_line(stdout, prefix, strna(text), strlen(strna(text)));
		free(prefix);
		free(text);
	}
}

/* --json with -p: the same objects with only those keys. */
static void show_json(const struct ctl *c, const json_t *params)
{
	json_t *out = json_object(), *list = json_array(), *u, *v;
	const char *key;
	size_t i;
	json_array_foreach(json_object_get(params, "units"), i, u)
	{
		json_t *o = json_object();
		json_object_foreach(json_object_get(u, "settings"), key, v) if (is_wanted(c, key))
			json_object_set(o, key, v);
		json_object_foreach(u, key, v) if (is_wanted(c, key)) json_object_set(o, key, v);
		json_array_append_new(list, o);
	}
	json_object_set_new(out, "units", list);
	print_json("show", out);
	json_decref(out);
}

static int ask_unit(struct ctl *c, const char *method, struct reply *ret)
{
	if (c->argc != 1)
		return usage(c, "%s takes one UNIT", c->verb->name);
	if (c->json && !c->n_properties) {
		int r = ask_raw(c, method, json_pack("{s:s}", "name", c->argv[0]));
		return r;
	}
	int r = ask(c, method, json_pack("{s:s}", "name", c->argv[0]), ret);
	return r ? r : -1;
}

int do_SHOW(struct ctl *c)
{
	struct reply rep;
	size_t i;
	json_t *u;
	int r = ask_unit(c, "Show", &rep);
	if (r >= 0)
		return r;
	if (c->json)
		show_json(c, rep.params);
	json_array_foreach(json_object_get(rep.params, "units"), i, u)
	{
		if (c->json)
			break;
		if (i)
			putchar('\n');
		show_object(c, u);
	}
	reply_done(&rep);
	return 0;
}

int do_CAT(struct ctl *c)
{
	struct reply rep;
	int r = ask_unit(c, "Cat", &rep);
	if (r >= 0)
		return r;
	/* Members of a set have one text. */
	const char *p = js(json_array_get(json_object_get(rep.params, "units"), 0), "text");
	while (*p) {
		size_t n = strcspn(p, "\n");
		print_line(stdout, "", p, n);
		p += n + (p[n] == '\n');
	}
	reply_done(&rep);
	return 0;
}
