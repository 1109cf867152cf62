/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What people are told of an instance's life: the texts of its events.
 *
 * They are read in `stayctl events`, in the daemon's log and in the unit's own log, each time after
 * the name of the event, which they therefore do not repeat: "ready: in 12ms", "failed: exit-code:
 * main process: code=exited, status=3". They say why and how much. Called by instance.c.
 */
#include "instance.h"

/* To three digits or so: nobody reads microseconds of a minute. */
static const char *span(char out[TIMESPAN_MAX], uint64_t us)
{
	uint64_t grain = us < 10 * USEC_PER_MSEC  ? 100
			 : us < USEC_PER_SEC      ? USEC_PER_MSEC
			 : us < 60 * USEC_PER_SEC ? 10 * USEC_PER_MSEC
						  : USEC_PER_SEC;
	us = us == USEC_INFINITY ? us : (us + grain / 2) / grain * grain;
	return us ? format_timespan(out, us) : "no time";
}

/* Who wants it up, when nobody asked for it by name. */
static const struct unit *puller_of(const struct unit *u)
{
	static const uint8_t pulls[] = {DEP_REQUIRES, DEP_BINDS_TO, DEP_WANTS, DEP_UPHOLDS};
	const struct unit *by;
	for (size_t k = 0; k < ARRAY_SIZE(pulls); k++)
		for (uint32_t pos = 0; (by = edge_next(u, &pos, (enum dep_kind)pulls[k], true));)
			if (by->rec.want == WANT_UP)
				return by;
	return NULL;
}

void say_starting(struct world *w, struct unit *u, enum inst_state from)
{
	const struct unit *by = puller_of(u);
	if (u->conf->type != UNIT_SERVICE)
		return; /* "ready" follows at once */
	if (from == INST_AUTO_RESTART && u->rec.n_restarts)
		fx_event(w, EVENT_STARTING, u, NULL, "restart %u", u->rec.n_restarts);
	else if (u->rec.is_manual)
		fx_event(w, EVENT_STARTING, u, NULL, "as asked for");
	else if (by)
		fx_event(w, EVENT_STARTING, u, NULL, "for %s", by->name);
	else if (u->set)
		fx_event(w, EVENT_STARTING, u, NULL, "as member %u of %s", u->rec.index,
			u->set->name);
	else
		fx_event(w, EVENT_STARTING, u, NULL, "%s", "");
}

void say_ready(struct world *w, struct unit *u)
{
	char t[TIMESPAN_MAX];
	if (u->conf->type != UNIT_SERVICE || !u->started_us || w->now_us <= u->started_us)
		fx_event(w, EVENT_READY, u, NULL, "%s", "");
	else
		fx_event(w, EVENT_READY, u, NULL, "after %s", span(t, w->now_us - u->started_us));
}

void say_stopping(struct world *w, struct unit *u, enum inst_event_id e)
{
	const char *why = e == FSM_EMPTY || e == FSM_MAIN_EXIT        ? "its main process ended"
			  : e == FSM_DONE || e == FSM_CONTROL_OK      ? "it did what it is for"
			  : w->is_shutting_down                       ? "everything stops"
			  : u->rec.restart_wanted                     ? "for a restart"
			  : e == FSM_STOP && u->rec.want == WANT_DOWN ? "as asked for"
								      : u->fail_text;
	if (e == FSM_RUNTIME_MAX)
		why = "RuntimeMaxSec= is over";
	fx_event(w, EVENT_STOPPING, u, NULL, "%s", why);
}

void say_stopped(struct world *w, struct unit *u)
{
	char t[TIMESPAN_MAX];
	uint64_t since = u->rec.active_since_us;
	bool was_up = since && since >= u->started_us && w->now_us > since;
	if (was_up && u->conf->type == UNIT_SERVICE)
		fx_event(w, EVENT_STOPPED, u, NULL, "after %s", span(t, w->now_us - since));
	else
		fx_event(w, EVENT_STOPPED, u, NULL, "%s", "");
}

void say_failed(struct world *w, struct unit *u)
{
	fx_event(w, EVENT_FAILED, u, NULL, "%s%s%s",
		inst_result_name((enum inst_result)u->rec.result), u->fail_text[0] ? ": " : "",
		u->fail_text);
}

void say_restart(struct world *w, struct unit *u, uint64_t delay)
{
	char t[TIMESPAN_MAX];
	bool is_clean = u->rec.result == RES_SUCCESS || !u->fail_text[0];
	fx_event(w, EVENT_RESTART, u, NULL, "number %u %s%s, after %s", u->rec.n_restarts,
		delay ? "in " : "at once", delay ? span(t, delay) : "",
		is_clean ? "a clean exit" : u->fail_text);
}

void say_reloaded(struct world *w, struct unit *u)
{
	char t[TIMESPAN_MAX];
	if (u->rec.reload_result != RES_SUCCESS)
		fx_event(w, EVENT_RELOADED, u, NULL, "not: %s", u->fail_text);
	else
		fx_event(w, EVENT_RELOADED, u, NULL, "after %s",
			span(t, w->now_us - u->rec.state_since_us));
}

/* "start-pre takes more than 5s": of what, and how long it was given. */
void say_timeout(struct world *w, struct unit *u, char out[TIMEOUT_TEXT_MAX])
{
	char t[TIMESPAN_MAX];
	snprintf(out, TIMEOUT_TEXT_MAX, "%s takes more than %s",
		inst_state_name((enum inst_state)u->rec.state),
		span(t, w->now_us - u->rec.state_since_us));
	fx_event(w, EVENT_TIMEOUT, u, NULL, "%s", out);
}
