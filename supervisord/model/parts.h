/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the parts of model/ call in each other. Arrows: world -> job -> instance -> {health, lb};
 * set, rollout -> job; whoever changes a unit calls set_unit_changed(), nothing calls back up.
 */
#pragma once

#include "model/model.h"
#include "unit/units.h"

/* <signal.h> is not for pure code; these are the same on every Linux stayd runs on. */
enum {
	SIGNAL_HUP = 1,
	SIGNAL_INT = 2,
	SIGNAL_KILL = 9,
	SIGNAL_PIPE = 13,
	SIGNAL_TERM = 15,
};
/* si_code of SIGCHLD; 0: the status was lost. */
enum { CHILD_LOST = 0, CHILD_EXITED = 1, CHILD_KILLED = 2, CHILD_DUMPED = 3 };

/* ---- world.c ---- */
struct effect *fx_add(struct world *w, enum effect_kind kind);
void fx_event(struct world *w, enum event_id id, struct unit *u, struct set *s, const char *format,
	...) PRINTF_LIKE(5, 6);
void fx_reply(struct world *w, uint64_t request, enum reply_result result, const char *format, ...)
	PRINTF_LIKE(4, 5);
void unit_touch(struct world *w, struct unit *u);                 /* rec changed: write it */
void timer_arm(struct world *w, struct timer *t, uint64_t at_us); /* USEC_INFINITY: drop */
void timer_drop(struct world *w, struct timer *t);
uint64_t world_random(struct world *w, uint64_t below);

/* ---- job.c: desired state and dependencies ---- */
/* Sets what is wanted and queues the unit; request 0 = nobody waits. */
void unit_want(struct world *w, struct unit *u, enum want want, bool is_manual, uint64_t request);
/* Down (drained first), then up again; rollout_unit_starting() chooses the conf. */
void unit_restart(struct world *w, struct unit *u, uint64_t request);
void unit_poke(struct world *w, struct unit *u); /* look at it again in this step */
void jobs_run(struct world *w);                  /* until the queue is empty; bounded */
void job_request(struct world *w, const struct request *r);
void job_shutdown(struct world *w, int exit_code, const char *text);
void job_restored(struct world *w, struct unit *u);
void job_survivors_gone(struct world *w, struct unit *u); /* of a unit that is down */
bool job_is_upheld(const struct unit *u);                 /* a unit that is up has Upholds= on it */
/* The unit's state changed: propagate to those that depend on it. */
void job_unit_changed(struct world *w, struct unit *u, enum inst_state from);

/* ---- instance.c, instance_event.c: the state machine of one unit ---- */
void inst_start(struct world *w, struct unit *u); /* job.c decided that it may start now */
void inst_stop(struct world *w, struct unit *u);  /* drained or without LB: stop now */
void inst_reload(struct world *w, struct unit *u);
void inst_arm_watchdog(struct world *w, struct unit *u);
int inst_event(struct world *w, struct unit *u, const struct event *ev);
void inst_timer(struct world *w, struct unit *u, enum timer_kind kind);
void inst_unhealthy(
	struct world *w, struct unit *u, const char *why); /* liveness: drain, kill, replace */
void inst_restored(struct world *w, struct unit *u);
/* How many events and rows the table has; the name of an event, for tests. */
#define INST_EVENTS(EVENT)                                                                         \
	EVENT(START) /* job.c: begin an activation */                                              \
	EVENT(STOP)                                                                                \
	EVENT(RELOAD)                                                                              \
	EVENT(COND_OK)                                                                             \
	EVENT(COND_FAIL)                                                                           \
	EVENT(DONE)       /* this state has nothing to do */                                       \
	EVENT(CONTROL_OK) /* the last command of the state's list ended well */                    \
	EVENT(CONTROL_FAIL)                                                                        \
	EVENT(SPAWNED)                                                                             \
	EVENT(MAIN_EXIT)                                                                           \
	EVENT(READY)                                                                               \
	EVENT(RELOADING)                                                                           \
	EVENT(STOPPING)                                                                            \
	EVENT(MAIN_PID)                                                                            \
	EVENT(EMPTY)                                                                               \
	EVENT(TIMEOUT)                                                                             \
	EVENT(RETRY) /* TIMER_RESTART */                                                           \
	EVENT(WATCHDOG)                                                                            \
	EVENT(RUNTIME_MAX)                                                                         \
	EVENT(UNHEALTHY)

enum inst_event_id {
#define EVENT(id) FSM_##id,
	INST_EVENTS(EVENT)
#undef EVENT
		FSM_MAX,
	FSM_NONE = FSM_MAX,
};
const char *inst_event_name(enum inst_event_id e);
/* What the table says: 'G' go, 'S' stay, 'P' pick, 'N' never. */
char inst_row_kind(enum inst_state s, enum inst_event_id e);
/* Why a row that never is cannot be; NULL for the others. */
const char *inst_row_why(enum inst_state s, enum inst_event_id e);
/* Runs one event through the table; for tests, and for instance.c itself. */
void inst_fire(struct world *w, struct unit *u, enum inst_event_id e);
bool inst_can_reload(const struct unit *u);
bool inst_is_clean_exit(const struct unit *u, int code, int status);

/* ---- backoff.c ---- */
/* The delay before the automatic restart that is due now, jitter included, counting it against
 * the limit; USEC_INFINITY: the limit is reached and the unit gives up. */
uint64_t backoff_next(struct world *w, struct unit *u);
void backoff_clear(struct world *w, struct unit *u); /* a manual start, reset-failed */
void backoff_running(struct world *w, struct unit *u);
void backoff_stable(struct world *w, struct unit *u); /* TIMER_STABLE */

/* ---- graph.c ---- */
/* The next edge of u of that kind and direction, after *pos; NULL at the end. */
struct unit *edge_next(const struct unit *u, uint32_t *pos, enum dep_kind kind, bool is_inverse);

/* ---- health.c ---- */
/* unit_rec.check_ok */
enum { CHECK_UNKNOWN, CHECK_PASSING, CHECK_FAILING };
void health_start(struct world *w, struct unit *u); /* the process runs: probes begin */
void health_stop(struct world *w, struct unit *u);
void health_probed(struct world *w, struct unit *u, const struct event *ev);
void health_timer(struct world *w, struct unit *u, enum check_kind check);
bool health_is_ready(const struct unit *u); /* startup and ready checks pass, or there are none */
void health_restored(struct world *w, struct unit *u);
void health_conf_changed(struct world *w, struct unit *u);

/* ---- lb.c: one instance and its load balancers ---- */
/* What lb.def says, for tests: 'G' go, 'P' pick, 'S' stay, 'N' never; 0: no such event. */
char lb_row_kind(enum lb_phase p, unsigned event, const char **ret_event);
const char *lb_row_why(enum lb_phase p, unsigned event); /* as inst_row_why() */
void lb_unit_available(struct world *w, struct unit *u); /* up and ready check passing: enter */
void lb_unit_unavailable(
	struct world *w, struct unit *u); /* ready check failing: drain, come back later */
void lb_unit_gone(struct world *w, struct unit *u); /* its process died: maint at once */
/* Before a stop. Begins or goes on draining; true: wait, lb.c pokes the unit when it is over. */
bool lb_hold_stop(struct world *w, struct unit *u);
void lb_sample(struct world *w, struct unit *u, unsigned lb, const struct lb_sample *s);
void lb_status(struct world *w, struct set *s, unsigned lb, bool is_reachable, uint32_t generation,
	const char *text);
void lb_timer(struct world *w, struct unit *u, enum timer_kind kind);
bool lb_is_in(const struct unit *u); /* traffic flows, or no LB */
void lb_request(struct world *w, struct unit *u, const struct request *r); /* DRAIN, UNDRAIN */
void lb_restored(struct world *w, struct unit *u);
void lb_conf_swapped(struct world *w, struct unit *u, const struct unit_conf *from);
/* "draining, 14 sessions left on 1 of 2 load balancers"; adds nothing when it waits for nothing. */
void lb_waiting_text(const struct world *w, const struct unit *u, struct buf *out);
/* A load balancer of the set that forbids a change now (unreachable, not yet heard of): false and
 * text. Unreachable=skip ones do not count. */
bool lb_set_is_usable(const struct set *s, const struct lb_conf *c, struct buf *ret_why);
/* Every reachable load balancer has a row for u, or u has none to have; else false and text. */
bool lb_unit_is_known(const struct unit *u, struct buf *ret_why);

/* ---- set.c, rollout.c ---- */
/* What rollout.def says, for tests; as lb_row_kind(), and 'R' refuse. */
char rollout_row_kind(enum rollout_state s, unsigned event, const char **ret_event);
const char *rollout_row_why(enum rollout_state s, unsigned event);
void set_unit_changed(struct world *w, struct unit *u); /* anything a set may care about */
void set_run(struct world *w);                          /* reconcile the dirty sets */
void set_request(struct world *w, const struct request *r);
void set_timer(struct world *w, struct set *s, enum timer_kind kind);
void set_queue(struct world *w, struct set *s); /* look at it again in this step */
void set_op_cancel(struct world *w, struct set *s, const char *why);
void rollout_request(struct world *w, const struct request *r);
void rollout_set_stopped(struct world *w, struct set *s); /* the whole set is told to stop */
void rollout_deadline(struct world *w, struct set *s);
void rollout_plan(const struct world *w, const struct set *s, struct buf *out);
void rollout_step_set(struct world *w, struct set *s);
void rollout_unit_failed(struct world *w, struct unit *u,
	const char *why); /* a new instance crashed, timed out, is unhealthy */
void rollout_restored(struct world *w, struct set *s);
/* inst_start() calls it first: swaps conf and next_conf when a rollout wants u on the other
 * revision, and journals the step. The old conf stays in next_conf: rolling back swaps again. */
void rollout_unit_starting(struct world *w, struct unit *u);
/* True while u is being replaced by a rollout: a crash then fails the rollout instead of backing off. */
bool rollout_owns(const struct unit *u);
