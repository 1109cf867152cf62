/* SPDX-License-Identifier: Apache-2.0 */
/* The words of the model's enums, from the same rows as the enums themselves. */
#include "parts.h"

const char *inst_state_name(enum inst_state s)
{
	static const char *const names[] = {
#define STATE(id, text, active) [INST_##id] = text,
		INST_STATES(STATE)
#undef STATE
	};
	return s < INST_STATE_MAX ? names[s] : "?";
}

enum active_state inst_active_state(enum inst_state s)
{
	static const uint8_t active_of[] = {
#define STATE(id, text, active) [INST_##id] = active,
		INST_STATES(STATE)
#undef STATE
	};
	return s < INST_STATE_MAX ? active_of[s] : ACTIVE_INACTIVE;
}

bool unit_is_being_executed(const struct unit *u)
{
	return u->rec.state == INST_RUNNING && u->rec.main.seq && !u->rec.main_pid;
}

enum active_state unit_active_state(const struct unit *u)
{
	return unit_is_being_executed(u) ? ACTIVE_ACTIVATING
					 : inst_active_state((enum inst_state)u->rec.state);
}

const char *active_state_name(enum active_state s)
{
	static const char *const names[] = {
		[ACTIVE_INACTIVE] = "inactive",
		[ACTIVE_ACTIVATING] = "activating",
		[ACTIVE_ACTIVE] = "active",
		[ACTIVE_RELOADING] = "reloading",
		[ACTIVE_DEACTIVATING] = "deactivating",
		[ACTIVE_FAILED] = "failed",
	};
	return s < ACTIVE_STATE_MAX ? names[s] : "?";
}

const char *inst_result_name(enum inst_result r)
{
	static const char *const names[] = {
#define RESULT(id, text) [RES_##id] = text,
		INST_RESULTS(RESULT)
#undef RESULT
	};
	return r < RES_MAX ? names[r] : "?";
}

const char *lb_phase_name(enum lb_phase p)
{
	static const char *const names[] = {
#define PHASE(id, text) [LBP_##id] = text,
		LB_PHASES(PHASE)
#undef PHASE
	};
	return p < LBP_MAX ? names[p] : "?";
}

const char *rollout_state_name(enum rollout_state s)
{
	static const char *const names[] = {
#define STATE(id, text) [ROLL_##id] = text,
		ROLLOUT_STATES(STATE)
#undef STATE
	};
	return s < ROLL_STATE_MAX ? names[s] : "?";
}

const char *rollout_step_name(enum rollout_step s)
{
	static const char *const names[] = {
#define STEP(id, text) [STEP_##id] = text,
		ROLLOUT_STEPS(STEP)
#undef STEP
	};
	return s < STEP_MAX ? names[s] : "?";
}

const char *request_verb_name(enum request_verb v)
{
	static const char *const names[] = {
#define VERB(id, text) [REQ_##id] = text,
		REQUEST_VERBS(VERB)
#undef VERB
	};
	return v < REQ_VERB_MAX ? names[v] : "?";
}

const char *event_name(enum event_id id)
{
	static const char *const names[] = {
#define EVENT(id, name, level, doc) [EVENT_##id] = name,
#include "stayd/events.def"
#undef EVENT
	};
	return id < EVENT_ID_MAX ? names[id] : "?";
}

int event_level(enum event_id id)
{
	static const uint8_t levels[] = {
#define EVENT(id, name, level, doc) [EVENT_##id] = level,
#include "stayd/events.def"
#undef EVENT
	};
	return id < EVENT_ID_MAX ? levels[id] : LOG_NOTE;
}

const char *inst_event_name(enum inst_event_id e)
{
	static const char *const names[] = {
#define EVENT(id) [FSM_##id] = #id,
		INST_EVENTS(EVENT)
#undef EVENT
	};
	return e < FSM_MAX ? names[e] : "-";
}
