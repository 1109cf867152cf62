/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Verbs that change units and the daemon. They wait and report; --no-wait, --timeout and Ctrl-C
 * leave the request to the daemon and print its id.
 */
#include <poll.h>

#include "ctl.h"

#define REEXEC_US      (60 * USEC_PER_SEC) /* for a core to answer, the way back included */
#define REEXEC_LOOK_MS 50

static void set_flag(json_t *params, const char *key, bool value)
{
	if (value)
		json_object_set_new(params, key, json_true());
}

/* Calls, shows nothing until the last answer. The first of several carries the id. */
static int change(struct ctl *c, const char *method, json_t *params)
{
	struct client cl;
	struct reply rep = {0};
	char id[32] = "";
	set_flag(params, "no_wait", c->no_wait);
	int r = connect_or_say(c, &cl);
	if (r) {
		json_decref(params);
		return r;
	}
	r = client_call(&cl, method, params, !c->no_wait);
	while (r == 0 && (r = client_reply(&cl, &rep)) == 0 && rep.continues) {
		str_copy(id, jp(rep.params, "request"), sizeof(id));
		reply_done(&rep);
	}
	client_close(&cl);
	if (r)
		return say_broken(r, id[0] ? id : NULL);
	r = rep.error ? say_error(c, &rep) : print_outcomes(c, rep.params);
	reply_done(&rep);
	return r;
}

static int change_units(struct ctl *c, const char *method, const char *flag, bool flag_value)
{
	if (c->argc == 0)
		return usage(c, "which unit?");
	json_t *params = json_pack("{s:o}", "names", names_json(c));
	if (flag)
		set_flag(params, flag, flag_value);
	return change(c, method, params);
}

int do_START(struct ctl *c)
{
	return change_units(c, "Start", NULL, false);
}

int do_STOP(struct ctl *c)
{
	return change_units(c, "Stop", NULL, false);
}

int do_RESTART(struct ctl *c)
{
	return change_units(c, "Restart", "try", c->try_restart);
}

int do_RELOAD(struct ctl *c)
{
	return change_units(c, "Reload", "or_restart", c->or_restart);
}

int do_DRAIN(struct ctl *c)
{
	return change_units(c, "Drain", NULL, false);
}

int do_UNDRAIN(struct ctl *c)
{
	return change_units(c, "Undrain", NULL, false);
}

static int simple(struct ctl *c, const char *method, json_t *params)
{
	struct reply rep;
	int r = ask(c, method, params, &rep);
	if (r)
		return r;
	r = print_outcomes(c, rep.params);
	reply_done(&rep);
	return r;
}

int do_RESET_FAILED(struct ctl *c)
{
	return simple(c, "ResetFailed", json_pack("{s:o}", "names", names_json(c)));
}

int do_KILL(struct ctl *c)
{
	if (c->argc == 0)
		return usage(c, "which unit?");
	json_t *params = json_pack("{s:o}", "names", names_json(c));
	if (c->signal)
		json_object_set_new(params, "signal", json_string(c->signal));
	if (c->who)
		json_object_set_new(params, "who", json_string(c->who));
	return simple(c, "Kill", params);
}

/* web=6 */
int do_SCALE(struct ctl *c)
{
	if (c->argc != 1)
		return usage(c, "scale takes one UNIT=N");
	char *eq = strrchr(c->argv[0], '='), *end;
	long n = eq ? strtol(eq + 1, &end, 10) : -1;
	if (!eq || eq == c->argv[0] || end == eq + 1 || *end || n < 0 || n > SET_MEMBERS_MAX)
		return usage(
			c, "'%s' is not UNIT=N with N from 0 to %d", c->argv[0], SET_MEMBERS_MAX);
	char *name = xstrndup(c->argv[0], (size_t)(eq - c->argv[0]));
	json_t *params = json_pack("{s:s,s:I}", "name", name, "count", (json_int_t)n);
	free(name);
	return change(c, "Scale", params);
}

/* ---- links -------------------------------------------------------------------------------------------- */

static int change_links(struct ctl *c, const char *method, int (*then)(struct ctl *))
{
	struct reply rep;
	size_t i;
	json_t *line;
	if (c->argc == 0)
		return usage(c, "which unit?");
	json_t *params = json_pack("{s:o}", "names", names_json(c));
	set_flag(params, "runtime", c->runtime);
	int r = ask(c, method, params, &rep);
	if (r)
		return r;
	if (c->json)
		c->changes = json_incref(json_object_get(rep.params, "changes"));
	else
		json_array_foreach(json_object_get(rep.params, "changes"), i, line)
			print_line(c->quiet ? stderr : stdout, "", json_string_value(line),
				json_string_length(line));
	r = c->now ? then(c) : 0;
	if (c->changes) /* nothing was said of outcomes */
		print_json(c->verb->name, rep.params);
	json_decref(TAKE_PTR(c->changes));
	reply_done(&rep);
	return r;
}

int do_ENABLE(struct ctl *c)
{
	return change_links(c, "Enable", do_START);
}

int do_DISABLE(struct ctl *c)
{
	return change_links(c, "Disable", do_STOP);
}

/* ---- the daemon ------------------------------------------------------------------------------------------ */

static int no_operands(struct ctl *c)
{
	return c->argc ? usage(c, "%s takes no '%s'", c->verb->name, c->argv[0]) : 0;
}

static int daemon_does(struct ctl *c, const char *method, json_t *params)
{
	struct reply rep;
	int r = ask(c, method, params, &rep);
	if (r)
		return r;
	const char *notes = js(rep.params, "notes");
	while (*notes) {
		size_t n = strcspn(notes, "\n");
		print_line(stderr, "note: ", notes, n);
		notes += n + (notes[n] == '\n');
	}
	if (c->json)
		print_json(c->verb->name, rep.params);
	reply_done(&rep);
	return 0;
}

int do_DAEMON_RELOAD(struct ctl *c)
{
	int r = no_operands(c);
	return r ? r : daemon_does(c, "DaemonReload", NULL);
}

/* The answer is the next core's, or the present one's when its trial of the program failed. */
static int reexec_outcome(struct ctl *c, long long before, uint64_t end, bool *ret_is_over)
{
	struct client cl;
	struct reply rep = {0};
	char *path = socket_path(c->socket);
	int code = STAY_EXIT_OK;
	bool has = client_open(&cl, path) == 0;
	cl.deadline_us = end;
	has = has && client_call(&cl, "Status", json_pack("{s:b}", "brief", 1), false) == 0 &&
	      client_reply(&cl, &rep) == 0 && !rep.error;
	json_t *daemon = has ? json_object_get(rep.params, "daemon") : NULL;
	const char *state = js(daemon, "reexec_state");
	bool is_refused = streq(state, "refused");
	bool has_forgotten = streq(state, "forgotten"); /* also how many there were before */
	*ret_is_over = is_refused || has_forgotten || (has && ji(daemon, "reexecs") != before);
	if (*ret_is_over && (is_refused || streq(state, "returned"))) {
		fprintf(stderr, "error: re-exec %s: %s\n", is_refused ? "refused" : "failed",
			jp(daemon, "reexec_text"));
		code = STAY_EXIT_FAILED;
	} else if (*ret_is_over && !c->quiet && !c->json) {
		printf("stayd %s took over%s%s\n", jp(daemon, "version"), has_forgotten ? "; " : "",
			has_forgotten ? jp(daemon, "reexec_text") : "");
	}
	reply_done(&rep);
	client_close(&cl);
	free(path);
	return code;
}

int do_REEXEC(struct ctl *c)
{
	struct reply rep;
	if (c->argc > 1)
		return usage(c, "reexec takes one PATH");
	int r = ask(c, "Status", json_pack("{s:b}", "brief", 1), &rep);
	if (r)
		return r;
	long long before = ji(json_object_get(rep.params, "daemon"), "reexecs");
	reply_done(&rep);
	r = daemon_does(c, "Reexec", c->argc ? json_pack("{s:s}", "path", c->argv[0]) : NULL);
	uint64_t end = now_mono_us() + (c->timeout_us != USEC_INFINITY ? c->timeout_us : REEXEC_US);
	bool is_over = r != 0 || c->no_wait;
	while (!is_over && now_mono_us() < end) {
		(void)poll(NULL, 0, REEXEC_LOOK_MS); /* for a core that is not there yet */
		r = reexec_outcome(c, before, end, &is_over);
		if (!is_over && client_is_interrupted())
			return say_broken(CLIENT_INTERRUPTED, "the re-exec");
	}
	if (is_over)
		return r;
	fprintf(stderr,
		"error: no core has answered since the re-exec\n  hint: its messages are in the daemon's output\n");
	return STAY_EXIT_TIMED_OUT;
}

/* It is done when the daemon is gone, which may be before it could answer: the end of the
 * connection is the answer. */
int do_SHUTDOWN(struct ctl *c)
{
	struct client cl;
	struct reply rep;
	int r = no_operands(c);
	if (r == 0)
		r = connect_or_say(c, &cl);
	if (r)
		return r;
	json_t *params = c->code >= 0 ? json_pack("{s:I}", "code", (json_int_t)c->code) : NULL;
	r = client_call(&cl, "Shutdown", params, false);
	int code = 0;
	for (bool is_over = false; r == 0 && !is_over;) {
		r = client_reply(&cl, &rep);
		if (r)
			break;
		code = rep.error ? say_error(c, &rep) : 0;
		is_over = rep.error || c->no_wait;
		reply_done(&rep);
	}
	client_close(&cl);
	return r && r != -ECONNRESET && r != -EPIPE ? say_broken(r, "the shutdown") : code;
}

int do_PING(struct ctl *c)
{
	struct reply rep;
	int r = no_operands(c);
	if (r == 0)
		r = ask(c, "Ping", NULL, &rep);
	if (r)
		return r;
	if (c->json)
		print_json("ping", rep.params);
	else if (!c->quiet)
		printf("stayd %s\n", jp(rep.params, "version"));
	reply_done(&rep);
	return 0;
}

/* Works without a daemon, too: the version of stayctl is then all there is. */
int do_VERSION(struct ctl *c)
{
	struct client cl;
	struct reply rep = {0};
	char *path = socket_path(c->socket);
	bool has = client_open(&cl, path) == 0 && client_call(&cl, "Ping", NULL, false) == 0 &&
		   client_reply(&cl, &rep) == 0;
	const char *daemon = has ? jp(rep.params, "version") : "";
	client_close(&cl);
	free(path);
	if (c->json)
		printf("{\"schema\":\"stay.version/1\",\"stayctl\":\"%s\",\"stayd\":%s%s%s}\n",
			STAYD_VERSION, daemon[0] ? "\"" : "", daemon[0] ? daemon : "null",
			daemon[0] ? "\"" : "");
	else
		printf("stayctl %s\nstayd %s\n", STAYD_VERSION,
			daemon[0] ? daemon : "(not reachable)");
	reply_done(&rep);
	return 0;
}
