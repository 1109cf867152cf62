/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A rollout as it goes: on a terminal a picture redrawn in place, elsewhere one timestamped line
 * for each change, so that a CI log reads like a story.
 *
 * Invariant: each message holds the whole state, so lost ones in between cost nothing.
 */
#include "ctl.h"

#include <sys/ioctl.h>

void live_begin(struct live *l, FILE *out)
{
	const char *term = getenv("TERM");
	*l = (struct live){.began_us = now_mono_us()};
	l->is_terminal = isatty(fileno(out)) && term && !streq(term, "dumb");
	struct winsize size;
	if (l->is_terminal && ioctl(fileno(out), TIOCGWINSZ, &size) == 0)
		l->columns = size.ws_col;
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

/* Two columns of indent, and no more than fits. */
static void drawn_line(const struct live *l, FILE *out, char *text)
{
	unsigned n = 0, room = l->columns > 4 ? l->columns - 3 : 0;
	for (char *p = text; *p && room; p++) {
		if ((*p & 0xc0) != 0x80)
			n++;
		if (n > room) {
			*p = '\0';
			break;
		}
	}
	line(out, "  ", text);
}

/* What it is going to do; once, as soon as the rollout is known. */
static void head(struct live *l, FILE *out, const json_t *ro)
{
	const char *from = js(ro, "from_release"), *to = js(ro, "to_release");
	if (l->has_head || !js(ro, "id")[0])
		return;
	l->has_head = true;
	bool is_same = streq(from, to);
	line(out, "",
		xasprintf("%s of %s: %s%s%s, %lld instances, surge %lld, unavailable %lld%s",
			js(ro, "id"), js(ro, "set"), from[0] ? from : "(no release)",
			is_same ? "" : " -> ", is_same ? "" : to, (long long)ji(ro, "count"),
			(long long)ji(ro, "surge"), (long long)ji(ro, "unavailable"),
			l->is_terminal && !l->is_once ? " (Ctrl-C detaches, the rollout goes on)"
						      : ""));
}

/* "web@1" of "web@1.service" */
static const char *short_name(const json_t *m, char *out, size_t size)
{
	str_copy(out, js(m, "name"), size);
	char *dot = strstr(out, ".service");
	if (dot)
		*dot = '\0';
	return out;
}
#define SHORT(m) short_name((m), (char[UNIT_NAME_MAX + 1]){0}, UNIT_NAME_MAX + 1)

static const char *step_time(const struct live *l, const json_t *m, char out[TIMESPAN_MAX + 8])
{
	int64_t i = ji(m, "index");
	const char *step = js(m, "step");
	bool is_over = streq(step, "done") || streq(step, "failed");
	out[0] = '\0';
	if (i < 1 || i > (int64_t)ARRAY_SIZE(l->begun_us) || !l->begun_us[i - 1])
		return out;
	uint64_t end = is_over ? l->ended_us[i - 1] : now_mono_us();
	snprintf(out, TIMESPAN_MAX + 8, "%.1fs", (double)(end - l->begun_us[i - 1]) / USEC_PER_SEC);
	return out;
}

/* When each member was begun and ended, as seen from here. */
static void note_times(struct live *l, const json_t *ro)
{
	size_t k;
	json_t *m;
	json_array_foreach(json_object_get(ro, "members"), k, m)
	{
		int64_t i = ji(m, "index");
		const char *step = js(m, "step");
		bool is_over = streq(step, "done") || streq(step, "failed");
		if (i < 1 || i > (int64_t)ARRAY_SIZE(l->begun_us))
			continue;
		if (!l->begun_us[i - 1] && !is_over && !streq(step, "pending"))
			l->begun_us[i - 1] = now_mono_us();
		if (!is_over)
			l->ended_us[i - 1] = 0;
		else if (!l->ended_us[i - 1])
			l->ended_us[i - 1] = now_mono_us();
	}
}

static void draw(struct live *l, FILE *out, const json_t *ro)
{
	size_t i;
	json_t *m, *members = json_object_get(ro, "members");
	unsigned n = 0;
	char took[TIMESPAN_MAX + 8];
	if (l->n_drawn)
		fprintf(out, "\033[%uA\033[J", l->n_drawn);
	json_array_foreach(members, i, m)
	{
		char *text = member_text(m);
		drawn_line(l, out,
			xasprintf("%s %-10s %-10s %-44s %6s", member_mark(m), SHORT(m),
				js(m, "release"), text, step_time(l, m, took)));
		free(text);
		n++;
	}
	drawn_line(l, out,
		xasprintf("%s  %lld/%lld available  elapsed %llus%s%s", js(ro, "state"),
			(long long)ji(ro, "available"), (long long)ji(ro, "count"),
			(unsigned long long)((now_mono_us() - l->began_us) / USEC_PER_SEC),
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
	json_array_foreach(json_object_get(ro, "members"), i, m)
	{
		int64_t index = ji(m, "index");
		if (index < 1 || index > (int64_t)ARRAY_SIZE(l->last))
			continue;
		bool is_silent = streq(js(m, "step"), "pending") && !l->last[index - 1][0];
		if (is_silent)
			continue; /* what was not begun is no news */
		/* The sessions of a drain change all the time: only that it drains is told. */
		char *text =
			streq(js(m, "step"), "draining") ? xstrdup("draining") : member_text(m);
		tell(out, l->last[index - 1], sizeof(l->last[0]), SHORT(m), text);
		free(text);
	}
	bool has_reason = streq(js(ro, "state"), "rolling-back") && js(ro, "reason")[0];
	char *state = xasprintf("%s, %lld/%lld available%s%s", js(ro, "state"),
		(long long)ji(ro, "available"), (long long)ji(ro, "count"), has_reason ? ": " : "",
		has_reason ? js(ro, "reason") : "");
	tell(out, l->last_state, sizeof(l->last_state), js(ro, "id"), state);
	free(state);
}

void live_show(struct live *l, FILE *out, const json_t *rollout)
{
	head(l, out, rollout);
	note_times(l, rollout);
	if (l->is_terminal || l->is_once)
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
	char *text = xasprintf("%s of %s: %s, %lld/%lld available on %s%s%s", js(ro, "id"),
		js(ro, "set"), js(ro, "state"), (long long)ji(ro, "available"),
		(long long)ji(ro, "count"),
		code == 0 ? js(ro, "to_release") : js(ro, "from_release"),
		js(ro, "reason")[0] ? ": " : "", js(ro, "reason"));
	line(code ? stderr : out, code ? "error: " : "", text);
	return code;
}
