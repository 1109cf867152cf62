/* SPDX-License-Identifier: Apache-2.0 */
/*
 * deploy, plan and rollout. A deploy waits by default and its exit code is the outcome: 0, 150
 * rolled back, 151 halted, 152 refused, 153 still going on, 154 daemon unreachable.
 */
#include "ctl.h"

#define RECONNECT_US   (30 * USEC_PER_SEC) /* a core that died is back in less */
#define RECONNECTS_MAX 20

/* The core died, or was replaced, in the middle: the rollout goes on, and so do we. The listening
 * socket outlives the core, so that connect(2) succeeds and the call waits for the next one. */
static int follow_again(struct ctl *c, struct client *cl, const char *set)
{
	char *path = socket_path(c->socket);
	uint64_t deadline = cl->deadline_us, end = now_mono_us() + RECONNECT_US;
	int r;
	client_close(cl);
	do {
		r = client_open(cl, path);
		if (r == 0)
			r = client_call(cl, "Rollout", json_pack("{s:s}", "name", set), true);
		if (r < 0) {
			client_close(cl);
			usleep(50 * 1000);
		}
	} while (r < 0 && now_mono_us() < MIN(end, deadline));
	free(path);
	cl->deadline_us = deadline;
	return r;
}

static bool is_broken(int r)
{
	return r == -ECONNRESET || r == -EPIPE;
}

/* Follows a stream of rollout states to its end. Ctrl-C detaches; the rollout goes on. */
static int follow(struct ctl *c, struct client *cl, const char *set, struct reply *last)
{
	struct live live;
	char id[64] = "";
	bool is_known = false; /* id is a rollout's: it can be found again */
	unsigned n_again = 0;
	int r;
	FILE *out = c->json ? stderr : stdout;
	live_begin(&live, out);
	for (;;) {
		r = client_reply(cl, last);
		if (is_broken(r) && is_known && n_again++ < RECONNECTS_MAX &&
			follow_again(c, cl, set) == 0) {
			fprintf(stderr, "note: the daemon was restarted; %s goes on\n", id);
			continue;
		}
		if (r || last->error)
			return r ? say_broken(r, id[0] ? id : NULL) : 0;
		const json_t *ro = json_object_get(last->params, "rollout");
		bool has_id = js(ro, "id")[0];
		if (is_known && has_id && !streq(id, js(ro, "id"))) {
			reply_done(last); /* another one: ours ended while nobody looked */
			return say_broken(-ECONNRESET, id);
		}
		str_copy(id, has_id ? jp(ro, "id") : jp(last->params, "request"), sizeof(id));
		is_known = has_id;
		if (!c->quiet && ro)
			live_show(&live, out, ro);
		if (!last->continues)
			return 0;
		reply_done(last);
	}
}

/* The failed outcome of a rollout is said with its cause and log lines; a good one in one line. */
static int finish(struct ctl *c, const struct reply *rep)
{
	const json_t *ro = json_object_get(rep->params, "rollout");
	const json_t *o = json_array_get(json_object_get(rep->params, "outcomes"), 0);
	if (o && (c->json || c->no_wait || !streq(js(o, "result"), "done")))
		return print_outcomes(c, rep->params);
	if (!c->json)
		return rollout_end(stdout, ro);
	print_json(c->verb->name, rep->params);
	return exit_of_rollout(js(ro, "state"));
}

static int deploy_like(struct ctl *c, const char *method, const char *set, json_t *params)
{
	struct client cl;
	struct reply rep = {0};
	if (c->no_wait)
		json_object_set_new(params, "no_wait", json_true());
	int r = connect_or_say(c, &cl);
	if (r) {
		json_decref(params);
		return r;
	}
	r = client_call(&cl, method, params, true);
	r = r ? say_broken(r, NULL) : follow(c, &cl, set, &rep);
	client_close(&cl);
	if (r)
		return r;
	r = rep.error ? say_error(c, &rep) : finish(c, &rep);
	reply_done(&rep);
	return r;
}

int do_DEPLOY(struct ctl *c)
{
	if (c->argc < 1 || c->argc > 2)
		return usage(c, "deploy takes UNIT and RELEASE");
	json_t *params = json_pack("{s:s}", "name", c->argv[0]);
	if (c->argc == 2)
		json_object_set_new(params, "release", json_string(c->argv[1]));
	if (c->pause_after >= 0)
		json_object_set_new(params, "pause_after", json_integer(c->pause_after));
	return deploy_like(c, "Deploy", c->argv[0], params);
}

int do_PLAN(struct ctl *c)
{
	struct reply rep;
	if (c->argc < 1 || c->argc > 2)
		return usage(c, "plan takes UNIT and RELEASE");
	json_t *params = json_pack("{s:s}", "name", c->argv[0]);
	if (c->argc == 2)
		json_object_set_new(params, "release", json_string(c->argv[1]));
	int r = ask(c, "Plan", params, &rep);
	if (r)
		return c->detailed_exitcode ? STAY_EXIT_FAILED : r;
	if (c->json) {
		print_json("plan", rep.params);
	} else {
		for (const char *p = js(rep.params, "text"); *p;) {
			size_t n = strcspn(p, "\n");
			print_line(stdout, "", p, n);
			p += n + (p[n] == '\n');
		}
	}
	r = c->detailed_exitcode && ji(rep.params, "changes") > 0 ? 2 : 0;
	reply_done(&rep);
	return r;
}

/* ---- rollout ------------------------------------------------------------------------------------------- */

static json_t *set_params(struct ctl *c)
{
	return json_pack("{s:s}", "name", c->argv[1]);
}

static int rollout_status(struct ctl *c)
{
	struct client cl;
	struct reply rep = {0};
	int r = connect_or_say(c, &cl);
	if (r)
		return r;
	r = client_call(&cl, "Rollout", set_params(c), c->follow);
	if (r == 0 && c->follow) {
		r = follow(c, &cl, c->argv[1], &rep);
	} else {
		r = r ? r : client_reply(&cl, &rep);
		r = r ? say_broken(r, NULL) : 0;
	}
	client_close(&cl);
	if (r)
		return r;
	if (rep.error) {
		r = say_error(c, &rep);
	} else {
		const json_t *ro = json_object_get(rep.params, "rollout");
		struct live live;
		live_begin(&live, stdout);
		live.is_once = true;
		if (c->json)
			print_json("rollout", rep.params);
		else if (!c->follow && !streq(js(ro, "state"), "none"))
			live_show(&live, stdout, ro);
		if (c->json)
			r = exit_of_rollout(js(ro, "state"));
		else if (streq(js(ro, "state"), "none"))
			printf("%s was never rolled out\n", jp(ro, "set"));
		else
			r = rollout_end(stdout, ro);
	}
	reply_done(&rep);
	return r;
}

static void add_rollout(struct table *t, const json_t *ro)
{
	char age[AGE_MAX], took[TIMESPAN_MAX] = "-";
	int64_t began = parse_rfc3339(js(ro, "began")), ended = parse_rfc3339(js(ro, "ended"));
	if (began > 0 && ended >= began)
		format_timespan(took, (uint64_t)(ended - began));
	table_add(t, js(ro, "id"));
	table_add(t, js(ro, "to_release"));
	char *revision = xasprintf("%lld", (long long)ji(ro, "to_revision"));
	table_add(t, revision);
	free(revision);
	table_add(t, js(ro, "actor"));
	table_add(t, age_of(age, js(ro, "began"), now_wall_us()));
	table_add(t, took);
	table_add(t, js(ro, "state"));
	table_add(t, js(ro, "reason"));
}

static int rollout_history(struct ctl *c)
{
	static const char *const heads[] = {
		"DEPLOY", "RELEASE", "REVISION", "BY", "AGO", "TOOK", "RESULT", "NOTE"};
	struct reply rep;
	struct table t;
	size_t i;
	json_t *ro;
	int r = ask(c, "History", set_params(c), &rep);
	if (r)
		return r;
	if (c->json) {
		print_json("rollout-history", rep.params);
	} else {
		json_t *list = json_object_get(rep.params, "rollouts");
		table_begin(&t, ARRAY_SIZE(heads), heads);
		for (i = json_array_size(list); i-- > 0;) { /* the latest first */
			ro = json_array_get(list, i);
			add_rollout(&t, ro);
		}
		table_print(&t, stdout);
	}
	reply_done(&rep);
	return 0;
}

static int rollout_asks(struct ctl *c, const char *method, json_t *params)
{
	struct reply rep;
	if (c->no_wait)
		json_object_set_new(params, "no_wait", json_true());
	int r = ask(c, method, params, &rep);
	if (r)
		return r;
	r = print_outcomes(c, rep.params);
	reply_done(&rep);
	return r;
}

static int rollout_pause(struct ctl *c)
{
	return rollout_asks(c, "Pause", set_params(c));
}

static int rollout_resume(struct ctl *c)
{
	return rollout_asks(c, "Resume", set_params(c));
}

static int rollout_abort(struct ctl *c)
{
	json_t *params = set_params(c);
	if (c->stay)
		json_object_set_new(params, "stay", json_true());
	return rollout_asks(c, "Abort", params);
}

static int rollout_undo(struct ctl *c)
{
	json_t *params = set_params(c);
	if (c->to_revision >= 0)
		json_object_set_new(params, "revision", json_integer(c->to_revision));
	return deploy_like(c, "Undo", c->argv[1], params);
}

int do_ROLLOUT(struct ctl *c)
{
	static const struct {
		const char *name;
		bool is_change;
		int (*run)(struct ctl *c);
	} subs[] = {
		{"status",  false, rollout_status },
		{"pause",   true,  rollout_pause  },
		{"resume",  true,  rollout_resume },
		{"abort",   true,  rollout_abort  },
		{"undo",    true,  rollout_undo   },
		{"history", false, rollout_history},
	};
	static struct verb changing; /* c->verb points to it after we return */
	changing = *c->verb;
	if (c->argc != 2)
		return usage(c, "rollout takes what to do and one UNIT");
	for (size_t i = 0; i < ARRAY_SIZE(subs); i++)
		if (streq(subs[i].name, c->argv[0])) {
			changing.is_change = subs[i].is_change; /* for the exit code of errors */
			c->verb = &changing;
			return subs[i].run(c);
		}
	return usage(c, "rollout cannot '%s'", c->argv[0]);
}
