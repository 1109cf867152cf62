/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A rollout as it goes: on a terminal a picture redrawn in place, elsewhere one timestamped line
 * for each change, so that a CI log reads like a story.
 *
 * Invariant: each message holds the whole state, so lost ones in between cost nothing.
 */
#include "ctl.h"

void live_begin(struct live *l, FILE *out)
{
	const char *term = getenv("TERM");
	*l = (struct live){.began_us = now_boot_us()};
	l->is_terminal = isatty(fileno(out)) && term && !streq(term, "dumb");
}

static const char *member_mark(const json_t *m)
{
	const char *step = js(m, "step");
	bool utf8 = out_is_utf8();
	if (streq(step, "done"))
		return utf8 ? "✓" : "+";
	if (streq(step, "failed"))
		return utf8 ? "✗" : "x";
	if (streq(step, "pending"))
		return utf8 ? "·" : ".";
	return utf8 ? "◐" : "~";
}

/* "draining, 14 sessions", "waiting for ready: 503", "done" */
static char *member_text(const json_t *m)
{
	const char *step = js(m, "step"), *cause = js(m, "cause");
	if (streq(step, "draining"))
		return xasprintf("draining, %lld sessions", (long long)ji(m, "sessions"));
	if (streq(step, "failed"))
		return xasprintf("failed%s%s", cause[0] ? ": " : "", cause);
	return xasprintf("%s", step);
}

static void line(FILE *out, const char *prefix, char *text)
{
	print_line(out, prefix, text, strlen(text));
	free(text);
}

static void draw(struct live *l, FILE *out, const json_t *ro)
{
	size_t i;
	json_t *m, *members = json_object_get(ro, "members");
	unsigned n = 0;
	if (l->n_drawn)
		fprintf(out, "\033[%uA\033[J", l->n_drawn);
	json_array_foreach(members, i, m) {
		char *text = member_text(m);
		line(out, "  ", xasprintf("%s %-12s %-10s %s", member_mark(m), js(m, "name"),
					js(m, "release"), text));
		free(text);
		n++;
	}
	line(out, "  ", xasprintf("%s  %lld/%lld available  elapsed %llus%s%s", js(ro, "state"),
				(long long)ji(ro, "available"), (long long)ji(ro, "count"),
				(unsigned long long)((now_boot_us() - l->began_us) / USEC_PER_SEC),
				js(ro, "waits_for")[0] ? "  " : "", js(ro, "waits_for")));
	l->n_drawn = n + 1;
}

/* Says text when it differs from what was said last. */
static void tell(FILE *out, char *last, size_t last_size, const char *who, const char *text)
{
	char now[64], stamp[TIMESTAMP_MAX];
	str_copy(now, text, MIN(sizeof(now), last_size));
	if (streq(last, now))
		return;
	str_copy(last, now, last_size);
	line(out, "", xasprintf("%s %s %s", format_timestamp(stamp, now_wall_us()), who, text));
}

static void tell_all(struct live *l, FILE *out, const json_t *ro)
{
	size_t i;
	json_t *m;
	json_array_foreach(json_object_get(ro, "members"), i, m) {
		int64_t index = ji(m, "index");
		if (index < 1 || index > (int64_t)ARRAY_SIZE(l->last))
			continue;
		/* The sessions of a drain change all the time: only that it drains is told. */
		char *text = streq(js(m, "step"), "draining") ? xstrdup("draining") : member_text(m);
		tell(out, l->last[index - 1], sizeof(l->last[0]), js(m, "name"), text);
		free(text);
	}
	char *state = xasprintf("%s, %lld/%lld available", js(ro, "state"), (long long)ji(ro, "available"),
		(long long)ji(ro, "count"));
	tell(out, l->last_state, sizeof(l->last_state), js(ro, "id"), state);
	free(state);
}

void live_show(struct live *l, FILE *out, const json_t *rollout)
{
	if (l->is_terminal)
		draw(l, out, rollout);
	else
		tell_all(l, out, rollout);
	fflush(out);
}

int exit_of_rollout(const char *state)
{
	static const struct {
		const char *state;
		int code;
	} rows[] = {
		{"done",        STAY_EXIT_OK         },
		{"none",        STAY_EXIT_OK         },
		{"rolled-back", STAY_EXIT_ROLLED_BACK},
		{"halted",      STAY_EXIT_HALTED     },
		{"aborted",     STAY_EXIT_HALTED     },
	};
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		if (streq(rows[i].state, state))
			return rows[i].code;
	return STAY_EXIT_OK; /* going on */
}

int rollout_end(FILE *out, const json_t *ro)
{
	int code = exit_of_rollout(js(ro, "state"));
	char *text = xasprintf("%s of %s: %s, %lld/%lld available on %s%s%s", js(ro, "id"), js(ro, "set"),
		js(ro, "state"), (long long)ji(ro, "available"), (long long)ji(ro, "count"),
		code == 0 ? js(ro, "to_release") : js(ro, "from_release"), js(ro, "reason")[0] ? ": " : "",
		js(ro, "reason"));
	line(code ? stderr : out, code ? "error: " : "", text);
	return code;
}
