/* SPDX-License-Identifier: Apache-2.0 */
/*
 * logs and events: what was written and what happened, and, with -f, what comes.
 */
#include "ctl.h"

typedef void show_fn(struct ctl *c, const json_t *params);

/* One answer, or a stream of them until the daemon or the user ends it. */
static int stream(struct ctl *c, const char *method, json_t *params, show_fn *show)
{
	struct client cl;
	struct reply rep;
	int r = connect_or_say(c, &cl);
	if (r) {
		json_decref(params);
		return r;
	}
	r = client_call(&cl, method, params, c->follow);
	for (bool more = true; r == 0 && more;) {
		r = client_reply(&cl, &rep);
		if (r != 0)
			break;
		if (rep.error) {
			r = say_error(c, &rep);
			reply_done(&rep);
			client_close(&cl);
			return r;
		}
		show(c, rep.params);
		fflush(stdout);
		more = rep.continues;
		reply_done(&rep);
	}
	client_close(&cl);
	if (r == CLIENT_TIMED_OUT)
		return 0; /* of what one asked to see for so long */
	return r ? say_broken(r, NULL) : 0;
}

static void show_logs(struct ctl *c, const json_t *params)
{
	size_t i;
	json_t *log, *logs = json_object_get(params, "logs");
	if (c->json) {
		print_json("logs", params);
		return;
	}
	/* The unit stands before each line when there may be several. */
	bool is_one = c->argc == 1 && strchr(c->argv[0], '@') && !strpbrk(c->argv[0], "*?[");
	json_array_foreach(logs, i, log)
	{
		char *prefix = is_one ? xstrdup("") : xasprintf("%s | ", jp(log, "unit"));
		for (const char *p = js(log, "text"); *p;) {
			size_t n = strcspn(p, "\n");
			print_line(stdout, prefix, p, n);
			p += n + (p[n] == '\n');
		}
		free(prefix);
	}
}

int do_LOGS(struct ctl *c)
{
	if (c->argc == 0)
		return usage(c, "which unit?");
	json_t *params = json_pack("{s:o}", "names", names_json(c));
	if (c->lines == 0) { /* none of what is there: 0 is "all" to the daemon */
		c->lines = -1;
		c->since_us = now_wall_us();
	}
	if (c->lines >= 0)
		json_object_set_new(params, "lines", json_integer(c->lines));
	else if (c->since_us)
		json_object_set_new(params, "lines", json_integer(0));
	if (c->since_us)
		json_object_set_new(params, "since_us", json_integer((json_int_t)c->since_us));
	return stream(c, "Logs", params, show_logs);
}

static void show_events(struct ctl *c, const json_t *params)
{
	size_t i;
	json_t *e;
	if (c->json) {
		print_json("events", params);
		return;
	}
	json_array_foreach(json_object_get(params, "events"), i, e)
	{
		const char *who = js(e, "unit")[0]  ? js(e, "unit")
				  : js(e, "set")[0] ? js(e, "set")
						    : "stayd";
		char *s = xasprintf(
			"%s %-20s %-14s %s", js(e, "time"), who, js(e, "event"), js(e, "text"));
		print_line(stdout, "", s, strlen(s));
		free(s);
	}
}

int do_EVENTS(struct ctl *c)
{
	return stream(c, "Events", c->argc ? json_pack("{s:o}", "names", names_json(c)) : NULL,
		show_events);
}
