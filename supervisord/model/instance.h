/* SPDX-License-Identifier: Apache-2.0 */
/* What instance.c and instance_event.c share; nobody else includes it. */
#pragma once

#include "model/parts.h"

/* ---- small questions ---- */

static inline const struct service_conf *service(const struct unit *u)
{
	return &u->conf->service;
}

static inline bool has_process(const struct unit *u)
{
	return u->rec.main.seq || u->rec.control.seq;
}

static inline bool is_service(const struct unit *u)
{
	return u->conf->type == UNIT_SERVICE;
}

/* A forking service whose main process nobody could name: alive as long as anything is. */
static inline bool main_is_unknown(const struct unit *u)
{
	return service(u)->type == SERVICE_FORKING && !u->rec.main.seq && !u->rec.main_code;
}

static inline bool waits_for_ready(const struct unit *u)
{
	return service(u)->type == SERVICE_NOTIFY || service(u)->type == SERVICE_NOTIFY_RELOAD;
}

static inline bool is_live_state(enum inst_state s)
{
	return s == INST_RUNNING || s == INST_RELOAD;
}

/* ---- instance.c ---- */
/* The first thing that goes wrong in an activation is its result. */
void inst_reload_failed(struct unit *u, enum inst_result r, const char *why);
void inst_fail(struct unit *u, enum inst_result r, const char *format, ...) PRINTF_LIKE(3, 4);
/* Ends the state's wait in that time; 0 and USEC_INFINITY: never. */
void inst_arm_state(struct world *w, struct unit *u, uint64_t in_us);
uint64_t inst_state_timeout(const struct unit *u);
void inst_spawn(struct world *w, struct unit *u, enum exec_kind kind, uint32_t index, bool is_main);
void inst_check_empty(struct world *w, struct unit *u);
/* What the state we are in sends to whom (systemd.kill(5)). */
void inst_kill(struct world *w, struct unit *u);
/* Born after its unit was given up. */
enum inst_event_id inst_kill_late(struct world *w, struct unit *u);
/* Asks for PIDFile= or a guess; FSM_DONE: neither may be asked. */
enum inst_event_id inst_find_main_pid(struct world *w, struct unit *u);

/* say.c: the texts of an instance's events */
#define TIMEOUT_TEXT_MAX 96
void say_starting(struct world *w, struct unit *u, enum inst_state from);
void say_ready(struct world *w, struct unit *u);
void say_stopping(struct world *w, struct unit *u, enum inst_event_id e);
void say_stopped(struct world *w, struct unit *u);
void say_failed(struct world *w, struct unit *u);
void say_restart(struct world *w, struct unit *u, uint64_t delay);
void say_reloaded(struct world *w, struct unit *u);
void say_timeout(struct world *w, struct unit *u, char out[TIMEOUT_TEXT_MAX]);
