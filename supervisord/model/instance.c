/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One unit: from the decision to start it to the certainty that nothing of it is left.
 *
 *  1. Only instance.def changes a state. Entering a state does its work and arms its timers;
 *     leaving it drops them (kept_timers()).
 *  2. Each activation has a new invocation id, each process of it a new seq. What is heard of
 *     another id is of the past and is ignored.
 *  3. DEAD, FAILED and AUTO_RESTART are entered when the main and the control process have exited
 *     and EV_EMPTY said that no other is left; KillMode=process and none, and what even SIGKILL
 *     does not end, are the exceptions, marked by rec.left_over.
 *  4. The first thing that goes wrong in an activation gives its result.
 *  5. A stop always runs ExecStop= when the start had succeeded, even if the main process is gone
 *     (systemd.service(5)); ExecStopPost= runs always.
 *
 * The states are those of systemd's service.c. What processes do comes in by instance_event.c.
 * Called by world.c, job.c and health.c.
 */
#include "model/instance.h"

/* Internal events that follow one from outside; the longest path is a start without commands that
 * stops again, some 15. */
#define FOLLOW_MAX 64

typedef enum inst_event_id action_fn(struct world *w, struct unit *u);
typedef enum inst_state pick_fn(const struct world *w, const struct unit *u, enum inst_event_id e);

/* ---- small questions ---- */

/* Whether processes beyond main and control are ours to end. */
static bool owns_group(const struct unit *u)
{
	enum kill_mode m = service(u)->kill_mode;
	return m == KILL_CONTROL_GROUP || m == KILL_MIXED;
}

static bool is_gone(const struct unit *u)
{
	return !has_process(u) && !u->n_dropped && (u->is_empty || !owns_group(u));
}

static bool in_set(const struct exit_set *s, int code, int status)
{
	if (code == CHILD_EXITED)
		return status >= 0 && status < 256 && (s->codes[status / 8] >> (status % 8) & 1);
	return code != CHILD_LOST && status > 0 && status < 64 && (s->signals >> status & 1);
}

bool inst_is_clean_exit(const struct unit *u, int code, int status)
{
	if (code == CHILD_EXITED && status == 0)
		return true;
	if (code == CHILD_KILLED && service(u)->type != SERVICE_ONESHOT &&
		(status == SIGNAL_HUP || status == SIGNAL_INT || status == SIGNAL_TERM ||
			status == SIGNAL_PIPE))
		return true;
	return in_set(&service(u)->restart.success, code, status);
}

void inst_fail(struct unit *u, enum inst_result r, const char *format, ...)
{
	if (r == RES_SUCCESS || u->rec.result != RES_SUCCESS)
		return;
	u->rec.result = (uint8_t)r;
	char text[FAIL_TEXT_MAX + 1];
	va_list args;
	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	unit_fail_text(u, "%s", text);
}

/* The service goes on; who asked is told. */
void inst_reload_failed(struct unit *u, enum inst_result r, const char *why)
{
	u->rec.reload_result = (uint8_t)r;
	unit_fail_text(u, "%s", why);
}

bool inst_can_reload(const struct unit *u)
{
	return is_service(u) &&
	       (service(u)->exec[EXEC_RELOAD].n || service(u)->type == SERVICE_NOTIFY_RELOAD);
}

/* ---- effects ---- */

void inst_arm_state(struct world *w, struct unit *u, uint64_t in_us)
{
	bool is_bounded = in_us && in_us != USEC_INFINITY;
	timer_arm(w, &u->timers[TIMER_STATE], is_bounded ? w->now_us + in_us : USEC_INFINITY);
}

uint64_t inst_state_timeout(const struct unit *u)
{
	switch (inst_active_state((enum inst_state)u->rec.state)) {
	case ACTIVE_ACTIVATING:
	case ACTIVE_RELOADING:
		return service(u)->timeout_start_us;
	case ACTIVE_DEACTIVATING:
		return u->rec.state == INST_STOP_WATCHDOG ? service(u)->timeout_abort_us
							  : service(u)->timeout_stop_us;
	case ACTIVE_INACTIVE:
	case ACTIVE_ACTIVE:
	case ACTIVE_FAILED:
	case ACTIVE_STATE_MAX:
		break;
	}
	return USEC_INFINITY;
}

void inst_spawn(struct world *w, struct unit *u, enum exec_kind kind, uint32_t index, bool is_main)
{
	struct spawn_id *id = is_main ? &u->rec.main : &u->rec.control;
	id->seq = ++u->rec.next_seq;
	if (is_main) {
		u->rec.main_pid = 0;
	} else {
		u->rec.control_pid = 0;
		u->rec.control_kind = (uint8_t)kind;
	}
	if (!is_main || service(u)->type == SERVICE_ONESHOT)
		u->rec.control_index = index;
	u->is_empty = false;
	struct effect *e = fx_add(w, FX_SPAWN);
	e->unit = u;
	e->exec = kind;
	e->index = index;
	e->id = *id;
	unit_touch(w, u);
}

static enum inst_event_id run_list(struct world *w, struct unit *u, enum exec_kind kind)
{
	if (!service(u)->exec[kind].n)
		return FSM_DONE;
	inst_spawn(w, u, kind, 0, false);
	inst_arm_state(w, u, inst_state_timeout(u));
	return FSM_NONE;
}

static void kill_one(struct world *w, struct unit *u, enum kill_who who, int signal)
{
	struct effect *e = fx_add(w, FX_KILL);
	e->unit = u;
	e->who = who;
	e->signal = signal;
	if (who != KILL_WHO_ALL)
		e->id = who == KILL_WHO_MAIN ? u->rec.main : u->rec.control;
}

void inst_check_empty(struct world *w, struct unit *u)
{
	fx_add(w, FX_CHECK_EMPTY)->unit = u;
}

static void kill_at(struct world *w, struct unit *u, bool is_all, int signal)
{
	if (is_all) {
		kill_one(w, u, KILL_WHO_ALL, signal);
		return;
	}
	if (u->rec.main.seq)
		kill_one(w, u, KILL_WHO_MAIN, signal);
	if (u->rec.control.seq)
		kill_one(w, u, KILL_WHO_CONTROL, signal);
}

/* What the state we are in sends to whom (systemd.kill(5)). */
void inst_kill(struct world *w, struct unit *u)
{
	const struct service_conf *s = service(u);
	bool is_final = u->rec.state == INST_STOP_SIGKILL || u->rec.state == INST_FINAL_SIGKILL;
	/* Under mixed the rest is not asked first. */
	bool is_rest = s->kill_mode == KILL_MIXED && !has_process(u);
	bool is_all = s->kill_mode == KILL_CONTROL_GROUP ||
		      (s->kill_mode == KILL_MIXED && is_final) || is_rest;
	if (s->kill_mode == KILL_NONE)
		return;
	if (is_final || is_rest) {
		kill_at(w, u, is_all, s->final_kill_signal);
	} else if (u->rec.state == INST_STOP_WATCHDOG) {
		kill_at(w, u, is_all, s->watchdog_signal);
	} else {
		kill_at(w, u, is_all,
			u->rec.restart_wanted && s->restart_kill_signal ? s->restart_kill_signal
									: s->kill_signal);
		if (s->send_sighup)
			kill_at(w, u, is_all, SIGNAL_HUP);
	}
}

static void note_dropped(struct unit *u, uint32_t seq)
{
	if (u->n_dropped == DROPPED_MAX)
		memmove(u->dropped, u->dropped + 1, --u->n_dropped * sizeof(*u->dropped));
	u->dropped[u->n_dropped++] = seq;
}

/* A command that the state being entered has no room for: its exit will be of the past. One that
 * is not born yet cannot be killed and must not be forgotten: it may come any moment. */
static void drop_control(struct world *w, struct unit *u)
{
	if (!u->rec.control.seq)
		return;
	kill_one(w, u, KILL_WHO_CONTROL, SIGNAL_KILL);
	if (!u->rec.control_pid)
		note_dropped(u, u->rec.control.seq);
	u->rec.control.seq = 0;
	u->rec.control_pid = 0;
}

/* ---- actions of STAY rows ---- */

static enum inst_event_id nothing(struct world *w, struct unit *u)
{
	(void)w;
	(void)u;
	return FSM_NONE;
}

static enum inst_event_id now_empty(struct world *w, struct unit *u)
{
	if (u->rec.left_over && u->is_empty) {
		u->rec.left_over = 0;
		unit_touch(w, u);
	}
	job_survivors_gone(w, u);
	return FSM_NONE;
}

/* Its children may outlive it, and what was said of them before says nothing now. */
static enum inst_event_id survivor_gone(struct world *w, struct unit *u)
{
	if (u->rec.left_over)
		inst_check_empty(w, u);
	job_survivors_gone(w, u);
	return FSM_NONE;
}

static enum inst_event_id restart_due(struct world *w, struct unit *u)
{
	unit_poke(w, u);
	return FSM_NONE;
}

static enum inst_event_id run_exec_condition(struct world *w, struct unit *u)
{
	if (u->rec.control.seq)
		return FSM_NONE;
	return is_service(u) ? run_list(w, u, EXEC_CONDITION) : FSM_DONE;
}

/* ExecStartPost= finds $MAINPID: of a Type= that is up at once the pid may still be on its way. */
static enum inst_event_id enter_start_post(struct world *w, struct unit *u)
{
	if (service(u)->exec[EXEC_START_POST].n && u->rec.main.seq && !u->rec.main_pid) {
		inst_arm_state(w, u, inst_state_timeout(u));
		return FSM_NONE;
	}
	return run_list(w, u, EXEC_START_POST);
}

static enum inst_event_id run_start_post(struct world *w, struct unit *u)
{
	return u->rec.control.seq ? FSM_NONE : run_list(w, u, EXEC_START_POST);
}

enum inst_event_id inst_find_main_pid(struct world *w, struct unit *u)
{
	if (!service(u)->pid_file && !service(u)->guess_main_pid)
		return FSM_DONE;
	fx_add(w, FX_FIND_MAIN_PID)->unit = u;
	return FSM_NONE;
}

static enum inst_event_id kill_again(struct world *w, struct unit *u)
{
	inst_kill(w, u);
	return FSM_NONE;
}

/* Born after its unit was given up, perhaps with children by now. */
enum inst_event_id inst_kill_late(struct world *w, struct unit *u)
{
	kill_at(w, u, owns_group(u), SIGNAL_KILL);
	u->rec.left_over = 1;
	unit_touch(w, u);
	inst_check_empty(w, u);
	return FSM_NONE;
}

/* ---- choices of PICK rows: pure ---- */

static enum inst_state stay(const struct unit *u)
{
	return (enum inst_state)u->rec.state;
}

static enum inst_state stop_or_down(
	const struct world *w, const struct unit *u, enum inst_event_id e)
{
	(void)w;
	(void)e;
	if (!is_service(u) || (u->rec.state == INST_CONDITION && !u->rec.control.seq))
		return INST_DEAD;
	return u->rec.state == INST_CONDITION ? INST_STOP_SIGTERM : INST_STOP;
}

static enum inst_state after_condition(
	const struct world *w, const struct unit *u, enum inst_event_id e)
{
	(void)w;
	(void)e;
	return is_service(u) ? INST_START_PRE : INST_EXITED;
}

static enum inst_state start_spawned(
	const struct world *w, const struct unit *u, enum inst_event_id e)
{
	(void)w;
	(void)e;
	return service(u)->type == SERVICE_EXEC ? INST_START_POST : stay(u);
}

static enum inst_state start_exited(
	const struct world *w, const struct unit *u, enum inst_event_id e)
{
	(void)w;
	(void)e;
	return u->rec.result == RES_SUCCESS ? INST_START_POST : INST_STOP_SIGTERM;
}

static enum inst_state start_ready(
	const struct world *w, const struct unit *u, enum inst_event_id e)
{
	(void)w;
	(void)e;
	return waits_for_ready(u) ? INST_START_POST : stay(u);
}

static enum inst_state start_main_pid(
	const struct world *w, const struct unit *u, enum inst_event_id e)
{
	(void)w;
	(void)e;
	if (service(u)->type != SERVICE_FORKING || u->rec.control.seq)
		return stay(u);
	return u->rec.main.seq || !service(u)->pid_file ? INST_START_POST : stay(u);
}

static enum inst_state started(const struct world *w, const struct unit *u, enum inst_event_id e)
{
	(void)w;
	(void)e;
	if (u->rec.result != RES_SUCCESS)
		return INST_STOP_SIGTERM;
	if (u->rec.main.seq || main_is_unknown(u))
		return INST_RUNNING;
	return service(u)->remain_after_exit ? INST_EXITED : INST_STOP;
}

static enum inst_state running_exited(
	const struct world *w, const struct unit *u, enum inst_event_id e)
{
	(void)w;
	(void)e;
	return u->rec.result == RES_SUCCESS && service(u)->remain_after_exit ? INST_EXITED
									     : INST_STOP;
}

static enum inst_state running_empty(
	const struct world *w, const struct unit *u, enum inst_event_id e)
{
	return main_is_unknown(u) && !u->rec.control.seq ? running_exited(w, u, e) : stay(u);
}

static enum inst_state reloaded(const struct world *w, const struct unit *u, enum inst_event_id e)
{
	return u->rec.main.seq || main_is_unknown(u) ? INST_RUNNING : running_exited(w, u, e);
}

static enum inst_state reload_ready(
	const struct world *w, const struct unit *u, enum inst_event_id e)
{
	return u->rec.control.seq ? stay(u) : reloaded(w, u, e);
}

static enum inst_state when_gone(const struct world *w, const struct unit *u, enum inst_event_id e)
{
	(void)w;
	(void)e;
	return has_process(u) ? stay(u) : INST_STOP_POST;
}

static enum inst_state kill_or_post(
	const struct world *w, const struct unit *u, enum inst_event_id e)
{
	(void)w;
	(void)e;
	return service(u)->send_sigkill ? INST_STOP_SIGKILL : INST_STOP_POST;
}

static enum inst_state dead_state(const struct unit *u)
{
	switch ((enum inst_result)u->rec.result) {
	case RES_SUCCESS:
	case RES_CONDITION:
	case RES_EXEC_CONDITION:
	case RES_ASSERT:
		return INST_DEAD;
	case RES_RESOURCES:
	case RES_PROTOCOL:
	case RES_TIMEOUT:
	case RES_EXIT_CODE:
	case RES_SIGNAL:
	case RES_CORE_DUMP:
	case RES_WATCHDOG:
	case RES_START_LIMIT:
	case RES_OOM_KILL:
	case RES_DEPENDENCY:
	case RES_UNHEALTHY:
	case RES_LOST:
	case RES_MAX:
		break;
	}
	return INST_FAILED;
}

/* Restart=, table 2 of systemd.service(5); a failed live check and a lost status count as what
 * on-failure and on-abnormal are for. */
static bool mode_restarts(enum restart_mode mode, enum inst_result r)
{
	switch (mode) {
	case RESTART_ALWAYS:
		return true;
	case RESTART_ON_SUCCESS:
		return r == RES_SUCCESS;
	case RESTART_ON_FAILURE:
		return r != RES_SUCCESS;
	case RESTART_ON_ABNORMAL:
		return r != RES_SUCCESS && r != RES_EXIT_CODE;
	case RESTART_ON_WATCHDOG:
		return r == RES_WATCHDOG;
	case RESTART_ON_ABORT:
		return r == RES_SIGNAL || r == RES_CORE_DUMP;
	case RESTART_NO:
	case RESTART_MODE_MAX:
		break;
	}
	return false;
}

static bool shall_restart(const struct unit *u)
{
	const struct restart_conf *c = &service(u)->restart;
	enum inst_result r = (enum inst_result)u->rec.result;
	if (r == RES_EXEC_CONDITION)
		return false;
	if (u->rec.main_code && in_set(&c->prevent, u->rec.main_code, u->rec.main_status))
		return false;
	if (u->rec.main_code && in_set(&c->force, u->rec.main_code, u->rec.main_status))
		return true;
	return mode_restarts(c->mode, r);
}

static enum inst_state ended(const struct world *w, const struct unit *u, enum inst_event_id e)
{
	(void)e;
	if (u->rec.stop_wanted || u->rec.restart_wanted || w->is_shutting_down || rollout_owns(u))
		return dead_state(u);
	return shall_restart(u) || job_is_upheld(u) ? INST_AUTO_RESTART : dead_state(u);
}

static enum inst_state ended_when_empty(
	const struct world *w, const struct unit *u, enum inst_event_id e)
{
	return is_gone(u) ? ended(w, u, e) : stay(u);
}

static enum inst_state kill_or_end(
	const struct world *w, const struct unit *u, enum inst_event_id e)
{
	return service(u)->send_sigkill ? INST_FINAL_SIGKILL : ended(w, u, e);
}

/* ---- the table ---- */

enum row_kind { ROW_GO, ROW_PICK, ROW_STAY, ROW_NEVER };
struct row {
	enum row_kind kind;
	enum inst_state next;
	pick_fn *pick;
	action_fn *act;
	const char *why; /* it never is */
};

/* One enumerator per row: a doubled row is a redeclaration, and a missing one is undeclared below. */
enum {
#define GO(state, event, next)     ROW_##state##_##event,
#define PICK(state, event, choose) ROW_##state##_##event,
#define STAY(state, event, act)    ROW_##state##_##event,
#define NEVER(state, event, why)   ROW_##state##_##event,
#include "instance.def"
#undef GO
#undef PICK
#undef STAY
#undef NEVER
};

static const struct row rows[] = {
#define GO(state, event, to) [ROW_##state##_##event] = {ROW_GO, INST_##to, NULL, NULL, NULL},
#define PICK(state, event, choose)                                                                 \
	[ROW_##state##_##event] = {ROW_PICK, INST_STATE_MAX, choose, NULL, NULL},
#define STAY(state, event, act) [ROW_##state##_##event] = {ROW_STAY, INST_##state, NULL, act, NULL},
#define NEVER(state, event, why)                                                                   \
	[ROW_##state##_##event] = {ROW_NEVER, INST_##state, NULL, NULL, why},
#include "instance.def"
#undef GO
#undef PICK
#undef STAY
#undef NEVER
};

/* The whole product of states and events, each named once. */
static const uint16_t table[INST_STATE_MAX][FSM_MAX] = {
#define EVENTS_OF(S)                                                                               \
	[FSM_START] = ROW_##S##_START, [FSM_STOP] = ROW_##S##_STOP,                                \
	[FSM_RELOAD] = ROW_##S##_RELOAD, [FSM_COND_OK] = ROW_##S##_COND_OK,                        \
	[FSM_COND_FAIL] = ROW_##S##_COND_FAIL, [FSM_DONE] = ROW_##S##_DONE,                        \
	[FSM_CONTROL_OK] = ROW_##S##_CONTROL_OK, [FSM_CONTROL_FAIL] = ROW_##S##_CONTROL_FAIL,      \
	[FSM_SPAWNED] = ROW_##S##_SPAWNED, [FSM_MAIN_EXIT] = ROW_##S##_MAIN_EXIT,                  \
	[FSM_READY] = ROW_##S##_READY, [FSM_RELOADING] = ROW_##S##_RELOADING,                      \
	[FSM_STOPPING] = ROW_##S##_STOPPING, [FSM_MAIN_PID] = ROW_##S##_MAIN_PID,                  \
	[FSM_EMPTY] = ROW_##S##_EMPTY, [FSM_TIMEOUT] = ROW_##S##_TIMEOUT,                          \
	[FSM_RETRY] = ROW_##S##_RETRY, [FSM_WATCHDOG] = ROW_##S##_WATCHDOG,                        \
	[FSM_RUNTIME_MAX] = ROW_##S##_RUNTIME_MAX, [FSM_UNHEALTHY] = ROW_##S##_UNHEALTHY
#define STATE(id, text, active) [INST_##id] = {EVENTS_OF(id)},
	INST_STATES(STATE)
#undef STATE
};
/* A new event must be added to EVENTS_OF, too. */
_Static_assert(FSM_MAX == 20, "EVENTS_OF lists every event");
_Static_assert(ARRAY_SIZE(rows) == INST_STATE_MAX * FSM_MAX, "instance.def is the whole product");

char inst_row_kind(enum inst_state s, enum inst_event_id e)
{
	return "GPSN"[rows[table[s][e]].kind];
}

const char *inst_row_why(enum inst_state s, enum inst_event_id e)
{
	return rows[table[s][e]].why;
}

/* ---- entering states ---- */

static void new_invocation(struct world *w, struct unit *u)
{
	for (int i = 0; i < 2; i++) {
		uint64_t r = rng_next(&w->rng);
		memcpy(u->rec.main.invocation + 8 * i, &r, 8);
	}
	memcpy(u->rec.control.invocation, u->rec.main.invocation, 16);
	u->rec.main.seq = u->rec.control.seq = 0;
	u->rec.main_pid = u->rec.control_pid = 0;
}

static enum inst_event_id enter_condition(struct world *w, struct unit *u, enum inst_state from)
{
	struct unit_rec *r = &u->rec;
	if (r->left_over && r->inactive_since_us != w->now_us)
		fx_event(w, EVENT_LEFT_OVER, u, NULL,
			"processes of the last run are still there (KillMode=%s)",
			service(u)->kill_mode == KILL_NONE ? "none" : "process");
	r->left_over = 0;
	u->n_dropped = 0;
	u->is_empty = true;
	new_invocation(w, u);
	r->result = RES_SUCCESS;
	r->main_code = r->main_status = 0;
	r->is_ready = r->is_unhealthy = r->reload_result = 0;
	r->watchdog_us = is_service(u) ? service(u)->watchdog_us : 0;
	memset(r->check_ok, 0, sizeof(r->check_ok));
	for (int k = 0; k < CHECK_KIND_MAX; k++)
		u->health[k].text[0] = '\0'; /* the answer of the process before */
	memset(r->check_streak, 0, sizeof(r->check_streak));
	unit_fail_text(u, "%s", "");
	u->started_us = w->now_us;
	say_starting(w, u, from);
	if (!u->conf->n_conditions)
		return run_exec_condition(w, u);
	fx_add(w, FX_CONDITIONS)->unit = u;
	return FSM_NONE;
}

static enum inst_event_id enter_start(struct world *w, struct unit *u)
{
	const struct service_conf *s = service(u);
	if (!s->exec[EXEC_START].n)
		return FSM_DONE;
	if (s->type == SERVICE_FORKING)
		return run_list(w, u, EXEC_START);
	inst_spawn(w, u, EXEC_START, 0, true);
	if (s->type == SERVICE_SIMPLE || s->type == SERVICE_IDLE || s->type == SERVICE_DBUS)
		return FSM_DONE;
	inst_arm_state(w, u, s->timeout_start_us);
	return FSM_NONE;
}

void inst_arm_watchdog(struct world *w, struct unit *u)
{
	uint64_t us = u->rec.watchdog_us;
	timer_arm(w, &u->timers[TIMER_WATCHDOG],
		us && us != USEC_INFINITY ? w->now_us + us : USEC_INFINITY);
}

static void become_up(struct world *w, struct unit *u)
{
	if (u->rec.is_ready)
		return;
	u->rec.is_ready = 1;
	u->rec.active_since_us = w->now_us;
	say_ready(w, u);
}

static enum inst_event_id enter_running(struct world *w, struct unit *u, enum inst_state from)
{
	const struct service_conf *s = service(u);
	become_up(w, u);
	if (main_is_unknown(u))
		inst_check_empty(w, u);
	if (from != INST_RELOAD) {
		if (s->runtime_max_us && s->runtime_max_us != USEC_INFINITY)
			timer_arm(w, &u->timers[TIMER_RUNTIME_MAX], w->now_us + s->runtime_max_us);
		inst_arm_watchdog(w, u);
		backoff_running(w, u);
		health_start(w, u);
	}
	/* A startup check has what is left of the start's time; health.c drops this when it passes. */
	if (u->conf->health[CHECK_STARTUP].target && u->rec.check_ok[CHECK_STARTUP] != 1)
		inst_arm_state(w, u, s->timeout_start_us);
	return FSM_NONE;
}

static enum inst_event_id enter_reload(struct world *w, struct unit *u, enum inst_event_id e)
{
	const struct service_conf *s = service(u);
	fx_event(w, EVENT_RELOADING, u, NULL, "%s",
		e == FSM_RELOADING       ? "by its own decision"
		: s->exec[EXEC_RELOAD].n ? "by ExecReload="
					 : "by signal");
	u->rec.reload_result = RES_SUCCESS;
	if (e == FSM_RELOADING) { /* by its own decision: READY=1 follows */
		inst_arm_state(w, u, s->timeout_start_us);
		return FSM_NONE;
	}
	if (s->type == SERVICE_NOTIFY_RELOAD && !s->exec[EXEC_RELOAD].n && u->rec.main.seq) {
		kill_one(w, u, KILL_WHO_MAIN, s->reload_signal);
		inst_arm_state(w, u, s->timeout_start_us);
		return FSM_NONE;
	}
	return run_list(w, u, EXEC_RELOAD);
}

static enum inst_event_id enter_stop(struct world *w, struct unit *u, enum inst_event_id e)
{
	drop_control(w, u);
	say_stopping(w, u, e);
	return run_list(w, u, EXEC_STOP);
}

/* STOP_SIGTERM, STOP_SIGKILL, STOP_WATCHDOG: to the end of main and control process. */
static enum inst_event_id enter_kill(struct world *w, struct unit *u, enum inst_event_id e)
{
	bool has_post = service(u)->exec[EXEC_STOP_POST].n > 0;
	if (service(u)->kill_mode == KILL_NONE || is_gone(u))
		return FSM_DONE;
	/* Nobody to wait for but stragglers: the final states see to them, unless ExecStopPost=
	 * must find them gone. */
	if (!has_process(u) && !has_post)
		return FSM_DONE;
	if (!has_process(u))
		inst_check_empty(w, u);
	if (e != FSM_STOPPING) /* it stops by itself */
		inst_kill(w, u);
	inst_arm_state(w, u, inst_state_timeout(u));
	return FSM_NONE;
}

static enum inst_event_id enter_final(struct world *w, struct unit *u)
{
	if (service(u)->kill_mode == KILL_NONE) {
		u->rec.main.seq = u->rec.control.seq = 0;
		u->rec.main_pid = u->rec.control_pid = 0;
		return FSM_DONE;
	}
	if (is_gone(u))
		return FSM_DONE;
	inst_check_empty(w, u); /* first: a performer that finds nothing may skip the kill */
	inst_kill(w, u);
	inst_arm_state(w, u, service(u)->timeout_stop_us);
	return FSM_NONE;
}

static void cleanup(struct world *w, struct unit *u)
{
	if (!is_service(u))
		return;
	struct effect *e = fx_add(w, FX_CLEANUP);
	e->unit = u;
	e->number = u->rec.state == INST_AUTO_RESTART || u->rec.restart_wanted;
}

static void enter_down(struct world *w, struct unit *u)
{
	struct unit_rec *r = &u->rec;
	if (!u->is_empty && !r->left_over) {
		r->left_over = 1;
		inst_check_empty(w, u);
		if (owns_group(u))
			fx_event(w, EVENT_LEFT_OVER, u, NULL,
				"processes are left that would not end");
	}
	r->is_ready = r->is_unhealthy = 0;
	r->inactive_since_us = w->now_us;
	cleanup(w, u);
}

static enum inst_event_id enter_dead(struct world *w, struct unit *u)
{
	enter_down(w, u);
	enum inst_result res = (enum inst_result)u->rec.result;
	if (res == RES_CONDITION || res == RES_EXEC_CONDITION)
		fx_event(w, EVENT_CONDITION, u, NULL, "skipped: %s", u->fail_text);
	else if (res == RES_ASSERT)
		fx_event(w, EVENT_ASSERT, u, NULL, "%s", u->fail_text);
	else
		say_stopped(w, u);
	return FSM_NONE;
}

static enum inst_event_id enter_failed(struct world *w, struct unit *u, enum inst_state from)
{
	if (from == INST_AUTO_RESTART)
		cleanup(w, u); /* of what was kept for the restart that does not come */
	else
		enter_down(w, u);
	say_failed(w, u);
	return FSM_NONE;
}

static enum inst_event_id enter_auto_restart(struct world *w, struct unit *u)
{
	enter_down(w, u);
	uint64_t delay = backoff_next(w, u);
	if (delay == USEC_INFINITY) {
		u->rec.result = RES_START_LIMIT;
		return FSM_DONE;
	}
	say_restart(w, u, delay);
	if (delay)
		timer_arm(w, &u->timers[TIMER_RESTART], w->now_us + delay);
	else
		unit_poke(w, u); /* at once: job.c starts it in this step */
	return FSM_NONE;
}

static enum inst_event_id enter(
	struct world *w, struct unit *u, enum inst_state from, enum inst_event_id e)
{
	switch ((enum inst_state)u->rec.state) {
	case INST_DEAD:
		return enter_dead(w, u);
	case INST_CONDITION:
		return enter_condition(w, u, from);
	case INST_START_PRE:
		return run_list(w, u, EXEC_START_PRE);
	case INST_START:
		return enter_start(w, u);
	case INST_START_POST:
		return enter_start_post(w, u);
	case INST_RUNNING:
		return enter_running(w, u, from);
	case INST_EXITED:
		drop_control(w, u);
		become_up(w, u);
		return FSM_NONE;
	case INST_RELOAD:
		return enter_reload(w, u, e);
	case INST_STOP:
		return enter_stop(w, u, e);
	case INST_STOP_WATCHDOG:
	case INST_STOP_SIGTERM:
	case INST_STOP_SIGKILL:
		return enter_kill(w, u, e);
	case INST_STOP_POST:
		drop_control(w, u);
		return run_list(w, u, EXEC_STOP_POST);
	case INST_FINAL_SIGTERM:
	case INST_FINAL_SIGKILL:
		return enter_final(w, u);
	case INST_FAILED:
		return enter_failed(w, u, from);
	case INST_AUTO_RESTART:
		return enter_auto_restart(w, u);
	case INST_STATE_MAX:
		break;
	}
	return FSM_NONE;
}

/* ---- the machine ---- */

/* Timers that go on in the next state; every other one is the old state's and goes with it. */
static uint32_t kept_timers(enum inst_state next)
{
	return is_live_state(next)
		       ? 1u << TIMER_WATCHDOG | 1u << TIMER_RUNTIME_MAX | 1u << TIMER_STABLE
		       : 0;
}

static void leave(struct world *w, struct unit *u, enum inst_state next)
{
	enum inst_state from = (enum inst_state)u->rec.state;
	for (int k = 0; k <= TIMER_STABLE; k++)
		if (!(kept_timers(next) >> k & 1))
			timer_drop(w, &u->timers[k]);
	if (from == INST_RELOAD) {
		drop_control(w, u);
		say_reloaded(w, u);
	}
	if (is_live_state(from) && !is_live_state(next)) {
		health_stop(w, u);
		lb_unit_gone(w, u);
	}
}

static void change(struct world *w, struct unit *u, enum inst_state next)
{
	leave(w, u, next);
	u->has_spread = false;
	u->rec.state = (uint8_t)next;
	u->rec.state_since_us = w->now_us;
	u->rec.state_since_wall_us = w->wall_us;
	unit_touch(w, u);
}

/* What an event by itself says about how the activation went. */
static void note(struct world *w, struct unit *u, enum inst_event_id e)
{
	char text[TIMEOUT_TEXT_MAX];
	if (e == FSM_TIMEOUT) {
		say_timeout(w, u, text);
		if (u->rec.state == INST_RELOAD)
			inst_reload_failed(u, RES_TIMEOUT, text);
		else
			inst_fail(u, RES_TIMEOUT, "%s", text);
	} else if (e == FSM_WATCHDOG) {
		inst_fail(u, RES_WATCHDOG, "no WATCHDOG=1 in time");
		fx_event(w, EVENT_WATCHDOG, u, NULL, "no WATCHDOG=1 in time");
	} else if (e == FSM_RUNTIME_MAX) {
		inst_fail(u, RES_TIMEOUT, "RuntimeMaxSec= is over");
	}
}

void inst_fire(struct world *w, struct unit *u, enum inst_event_id e)
{
	for (int i = 0; e != FSM_NONE; i++) {
		assert(i < FOLLOW_MAX);
		enum inst_state from = (enum inst_state)u->rec.state, next = from;
		const struct row *row = &rows[table[from][e]];
		if (w->coverage)
			w->coverage[from * FSM_MAX + e]++;
		if (row->kind == ROW_NEVER) {
			w->step_error = -EINVAL;
			return;
		}
		if (row->kind == ROW_STAY) {
			e = row->act(w, u);
			continue;
		}
		note(w, u, e);
		next = row->kind == ROW_GO ? row->next : row->pick(w, u, e);
		if (next == from)
			return;
		change(w, u, next);
		e = enter(w, u, from, e);
		job_unit_changed(w, u, from);
	}
}

void inst_start(struct world *w, struct unit *u)
{
	rollout_unit_starting(w, u);
	inst_fire(w, u, FSM_START);
}

void inst_stop(struct world *w, struct unit *u)
{
	inst_fire(w, u, FSM_STOP);
}

void inst_reload(struct world *w, struct unit *u)
{
	inst_fire(w, u, FSM_RELOAD);
}

void inst_unhealthy(struct world *w, struct unit *u, const char *why)
{
	if (!is_live_state((enum inst_state)u->rec.state))
		return;
	inst_fail(u, RES_UNHEALTHY, "%s", why);
	inst_fire(w, u, FSM_UNHEALTHY);
}

void inst_timer(struct world *w, struct unit *u, enum timer_kind kind)
{
	if (kind == TIMER_STATE)
		inst_fire(w, u, FSM_TIMEOUT);
	else if (kind == TIMER_RESTART)
		inst_fire(w, u, FSM_RETRY);
	else if (kind == TIMER_WATCHDOG)
		inst_fire(w, u, FSM_WATCHDOG);
	else if (kind == TIMER_RUNTIME_MAX)
		inst_fire(w, u, FSM_RUNTIME_MAX);
	else if (kind == TIMER_STABLE)
		backoff_stable(w, u);
}
