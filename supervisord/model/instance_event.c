/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What one unit's processes do, told to its state machine; and the unit after a restart of core.
 *
 *  1. An event of another invocation, or of a process that was given up, changes no state.
 *  2. A process is forgotten (seq 0) before its end is told to the machine, and the record says so.
 *  3. After a restart the effects of the state we are in are given again: none does harm twice.
 *
 * Called by world.c.
 */
#include "model/instance.h"

#define PID_FILE_RETRY_US (50 * USEC_PER_MSEC)

/* ---- what an exit means ---- */

static enum inst_result exit_result(const struct unit *u, int code, int status)
{
	if (inst_is_clean_exit(u, code, status))
		return RES_SUCCESS;
	if (code == CHILD_EXITED)
		return RES_EXIT_CODE;
	if (code == CHILD_KILLED)
		return RES_SIGNAL;
	return code == CHILD_DUMPED ? RES_CORE_DUMP : RES_LOST;
}

static void exit_text(char out[96], int code, int status)
{
	if (code == CHILD_EXITED)
		snprintf(out, 96, "code=exited, status=%d", status);
	else if (code == CHILD_LOST)
		snprintf(out, 96, "its status is not known");
	else
		snprintf(out, 96, "code=%s, signal=%s", code == CHILD_DUMPED ? "dumped" : "killed",
			strna(signal_name(status)));
}

/* ---- events from outside ---- */

static bool id_eq(const struct spawn_id *a, const struct spawn_id *b)
{
	return a->seq && a->seq == b->seq && memcmp(a->invocation, b->invocation, 16) == 0;
}

/* Which state waits for commands of a kind; elsewhere one is only a process to be gone. */
static bool is_current(const struct unit *u, enum exec_kind kind)
{
	static const uint8_t runs_in[EXEC_KIND_MAX] = {
		[EXEC_CONDITION] = INST_CONDITION,
		[EXEC_START_PRE] = INST_START_PRE,
		[EXEC_START] = INST_START,
		[EXEC_START_POST] = INST_START_POST,
		[EXEC_RELOAD] = INST_RELOAD,
		[EXEC_STOP] = INST_STOP,
		[EXEC_STOP_POST] = INST_STOP_POST,
	};
	return u->rec.state == runs_in[kind];
}

/* The exit of a process may be what the final states wait for; its children may outlive it. */
static void exit_noted(struct world *w, struct unit *u)
{
	unit_touch(w, u);
	u->is_empty = false;
	if (u->rec.state == INST_FINAL_SIGTERM || u->rec.state == INST_FINAL_SIGKILL)
		inst_check_empty(w, u);
}

static void main_exited(
	struct world *w, struct unit *u, int32_t pid, int code, int status, const char *why)
{
	const struct exec_list *l = &service(u)->exec[EXEC_START];
	bool is_oneshot = service(u)->type == SERVICE_ONESHOT;
	uint32_t index = is_oneshot ? u->rec.control_index : 0;
	char text[96];
	exit_text(text, code, status);
	u->rec.main.seq = 0;
	u->rec.main_pid = 0;
	u->rec.main_code = code;
	u->rec.main_status = status;
	exit_noted(w, u);
	enum inst_result r = exit_result(u, code, status);
	if (index < l->n && l->v[index].ignore_failure)
		r = RES_SUCCESS;
	/* It was told to end and did; that nobody saw how is no failure of it. */
	if (r == RES_LOST &&
		inst_active_state((enum inst_state)u->rec.state) == ACTIVE_DEACTIVATING)
		r = RES_SUCCESS;
	/* With its pid: a core that dies after this word and before the record says it again. */
	if (why)
		; /* a failed start: EVENT_SPAWN_FAILED told */
	else if (pid)
		fx_event(w, EVENT_EXITED, u, NULL, "main process %d: %s", pid, text);
	else
		fx_event(w, EVENT_EXITED, u, NULL, "main process: %s", text);
	if (u->rec.state == INST_START && is_oneshot && r == RES_SUCCESS && index + 1 < l->n) {
		inst_spawn(w, u, EXEC_START, index + 1, true);
		inst_arm_state(w, u, service(u)->timeout_start_us);
		return;
	}
	if (u->rec.state == INST_START && waits_for_ready(u) && r == RES_SUCCESS)
		inst_fail(u, RES_PROTOCOL, "it ended before it said READY=1");
	if (!unit_is_down(u))
		inst_fail(u, r, "main process: %s", why ? why : text);
	inst_fire(w, u, FSM_MAIN_EXIT);
}

/* ExecCondition=: 1 to 254 mean "not now", which is no failure. */
static enum inst_result control_result(
	const struct unit *u, enum exec_kind kind, int code, int status)
{
	if (kind == EXEC_CONDITION && code == CHILD_EXITED && status > 0 && status < 255)
		return RES_EXEC_CONDITION;
	return exit_result(u, code, status);
}

static void control_exited(struct world *w, struct unit *u, int code, int status, const char *why)
{
	enum exec_kind kind = (enum exec_kind)u->rec.control_kind;
	const struct exec_list *l = &service(u)->exec[kind];
	uint32_t index = u->rec.control_index;
	char text[96];
	exit_text(text, code, status);
	u->rec.control.seq = 0;
	u->rec.control_pid = 0;
	exit_noted(w, u);
	enum inst_result r = control_result(u, kind, code, status);
	if (index < l->n && l->v[index].ignore_failure)
		r = RES_SUCCESS;
	if (is_current(u, kind) && r == RES_SUCCESS && index + 1 < l->n) {
		inst_spawn(w, u, kind, index + 1, false);
		inst_arm_state(w, u, inst_state_timeout(u));
		return;
	}
	if (is_current(u, kind) && r != RES_SUCCESS) {
		if (r != RES_EXEC_CONDITION)
			fx_event(w, EVENT_COMMAND_FAILED, u, NULL, "%s: %s", exec_kind_name(kind),
				why ? why : text);
		if (kind == EXEC_RELOAD)
			inst_reload_failed(u, r, why ? why : text);
		else
			inst_fail(u, r, "%s: %s", exec_kind_name(kind), why ? why : text);
	}
	inst_fire(w, u, r == RES_SUCCESS ? FSM_CONTROL_OK : FSM_CONTROL_FAIL);
}

/* Recorded, but nobody ever saw it: core died between the record and the deed. Do it now. */
static bool spawn_again(struct world *w, struct unit *u, bool is_main)
{
	enum active_state a = inst_active_state((enum inst_state)u->rec.state);
	if (is_main ? u->rec.main_pid : u->rec.control_pid)
		return false;
	if (is_main && a != ACTIVE_ACTIVATING && a != ACTIVE_ACTIVE && a != ACTIVE_RELOADING)
		return false;
	if (!is_main && !is_current(u, (enum exec_kind)u->rec.control_kind))
		return false;
	if (is_main && u->rec.state == INST_AUTO_RESTART)
		return false;
	if (is_main)
		inst_spawn(w, u, EXEC_START,
			service(u)->type == SERVICE_ONESHOT ? u->rec.control_index : 0, true);
	else
		inst_spawn(w, u, (enum exec_kind)u->rec.control_kind, u->rec.control_index, false);
	return true;
}

static void exited(struct world *w, struct unit *u, const struct event *ev)
{
	bool is_main = id_eq(&u->rec.main, &ev->id);
	if (!is_main && !id_eq(&u->rec.control, &ev->id))
		return;
	if (ev->code == CHILD_LOST && !ev->pid && spawn_again(w, u, is_main))
		return;
	if (is_main && ev->code == CHILD_LOST)
		fx_event(w, EVENT_LOST, u, NULL,
			"the main process is gone, its status is not known");
	if (ev->ok && !unit_is_down(u))
		inst_fail(u, RES_OOM_KILL, "killed by the kernel for lack of memory");
	if (is_main)
		main_exited(w, u, ev->code == CHILD_LOST ? u->rec.main_pid : ev->pid, ev->code,
			ev->status, NULL);
	else
		control_exited(w, u, ev->code, ev->status, NULL);
}

/* Not of one that is known to have ended: its birth may be told after its end. */
static void dropped_answered(struct world *w, struct unit *u, const struct spawn_id *id)
{
	if (memcmp(id->invocation, u->rec.main.invocation, 16) != 0)
		return;
	for (unsigned i = 0; i < u->n_dropped; i++) {
		if (u->dropped[i] != id->seq)
			continue;
		u->dropped[i] = u->dropped[--u->n_dropped];
		u->is_empty = false;
		inst_check_empty(w, u);
		return;
	}
}

static void spawned(struct world *w, struct unit *u, const struct event *ev)
{
	if (id_eq(&u->rec.main, &ev->id)) {
		u->rec.main_pid = ev->pid;
		unit_touch(w, u);
		inst_fire(w, u, FSM_SPAWNED);
		if (u->n_requests)
			unit_poke(w, u); /* who asked waits for the exec: job.c */
		set_unit_changed(w, u);  /* and a rollout: it is available now */
	} else if (id_eq(&u->rec.control, &ev->id)) {
		u->rec.control_pid = ev->pid;
		unit_touch(w, u);
		enum inst_state s = (enum inst_state)u->rec.state;
		if (unit_is_down(u) || s == INST_AUTO_RESTART)
			inst_kill_late(w, u);
		else if (inst_active_state(s) == ACTIVE_DEACTIVATING && s != INST_STOP &&
			 s != INST_STOP_POST)
			inst_kill(w, u);
	} else {
		/* Given up before it was born, so that the signal found nobody. */
		struct effect *e = fx_add(w, FX_KILL);
		e->unit = u;
		e->who = KILL_WHO_CONTROL;
		e->signal = SIGNAL_KILL;
		e->id = ev->id;
		dropped_answered(w, u, &ev->id);
	}
}

/* As systemd has it: a failed exec is an exit with the status of the stage that failed, so that
 * "-" and SuccessExitStatus= apply. Without a stage there was not even a process. */
static void spawn_failed(struct world *w, struct unit *u, const struct event *ev)
{
	bool is_main = id_eq(&u->rec.main, &ev->id);
	if (!is_main && !id_eq(&u->rec.control, &ev->id)) {
		dropped_answered(w, u, &ev->id);
		return;
	}
	char text[160];
	snprintf(text, sizeof(text), "%s (%s)", ev->text ? ev->text : "cannot be started",
		errno_name(ev->error));
	fx_event(w, EVENT_SPAWN_FAILED, u, NULL, "%s", text);
	if (!ev->stage && !unit_is_down(u))
		inst_fail(u, RES_RESOURCES, "%s", text);
	int status = ev->stage ? ev->stage : 255;
	if (is_main)
		main_exited(w, u, 0, CHILD_EXITED, status, text);
	else
		control_exited(w, u, CHILD_EXITED, status, text);
}

static void conditions(struct world *w, struct unit *u, const struct event *ev)
{
	if (u->rec.state != INST_CONDITION || u->rec.control.seq)
		return;
	if (ev->ok) {
		inst_fire(w, u, FSM_COND_OK);
		return;
	}
	inst_fail(u, ev->number ? RES_ASSERT : RES_CONDITION, "%s",
		ev->text ? ev->text : "a condition was not met");
	inst_fire(w, u, FSM_COND_FAIL);
}

/* A process that core found, or that the service named, is the main one from now on. */
static void main_pid(struct world *w, struct unit *u, const struct event *ev)
{
	enum inst_state s = (enum inst_state)u->rec.state;
	/* As systemd: what runs before the start has no main process to name; and nothing that our
	 * own one, not yet known to be born, could have said comes before that. */
	bool is_unborn = u->rec.main.seq && !u->rec.main_pid;
	bool may_be_named = s == INST_START || s == INST_START_POST || is_live_state(s);
	bool is_searching = u->rec.state == INST_START && service(u)->type == SERVICE_FORKING &&
			    !u->rec.control.seq;
	if (ev->pid > 0 && may_be_named && !is_unborn && ev->pid != u->rec.main_pid) {
		if (ev->id.seq) /* started, or named before, as that */
			u->rec.main = ev->id;
		else
			u->rec.main.seq = ++u->rec.next_seq;
		u->rec.main_pid = ev->pid;
		u->rec.main_code = 0;
		u->is_empty = false;
		unit_touch(w, u);
	} else if (!ev->pid && is_searching && service(u)->pid_file) {
		timer_arm(w, &u->timers[TIMER_RESTART], w->now_us + PID_FILE_RETRY_US);
	}
	inst_fire(w, u, FSM_MAIN_PID);
}

static void extend(struct world *w, struct unit *u, uint64_t us)
{
	struct timer *t = &u->timers[TIMER_STATE];
	if (!t->at_us && is_live_state((enum inst_state)u->rec.state))
		t = &u->timers[TIMER_RUNTIME_MAX];
	if (t->at_us && us != USEC_INFINITY)
		timer_arm(w, t, MAX(t->at_us, w->now_us + us));
}

static void notified(struct world *w, struct unit *u, const struct event *ev)
{
	if (ev->bits & NOTIFY_EXTEND)
		extend(w, u, ev->value_us);
	if (ev->bits & NOTIFY_WATCHDOG_USEC) {
		u->rec.watchdog_us = ev->value_us;
		unit_touch(w, u);
	}
	if (ev->bits & (NOTIFY_WATCHDOG | NOTIFY_WATCHDOG_USEC) &&
		is_live_state((enum inst_state)u->rec.state))
		inst_arm_watchdog(w, u);
	if (ev->bits & NOTIFY_RELOADING)
		inst_fire(w, u, FSM_RELOADING);
	if (ev->bits & NOTIFY_READY)
		inst_fire(w, u, FSM_READY);
	if (ev->bits & NOTIFY_STOPPING)
		inst_fire(w, u, FSM_STOPPING);
	if (ev->bits & NOTIFY_WATCHDOG_TRIGGER && is_live_state((enum inst_state)u->rec.state))
		inst_fire(w, u, FSM_WATCHDOG);
}

int inst_event(struct world *w, struct unit *u, const struct event *ev)
{
	if (ev->kind == EV_EXITED)
		exited(w, u, ev);
	else if (ev->kind == EV_SPAWNED)
		spawned(w, u, ev);
	else if (ev->kind == EV_SPAWN_FAILED)
		spawn_failed(w, u, ev);
	else if (ev->kind == EV_CONDITIONS)
		conditions(w, u, ev);
	else if (ev->kind == EV_NOTIFY)
		notified(w, u, ev);
	else if (ev->kind == EV_MAIN_PID)
		main_pid(w, u, ev);
	else if (ev->kind == EV_EMPTY) {
		/* With an exit still to come, ask again then: the answer may be older than a child. */
		u->is_empty = !has_process(u) && !u->n_dropped;
		inst_fire(w, u, FSM_EMPTY);
	} else
		return -EINVAL;
	return 0;
}

/* ---- after a restart of core ---- */

/* Effects of the last step may not have been performed: those of the state we are in are given
 * again; each is harmless to repeat. Lost spawns come back as exits with code 0. */
void inst_restored(struct world *w, struct unit *u)
{
	u->is_empty = unit_is_down(u) && !u->rec.left_over;
	switch ((enum inst_state)u->rec.state) {
	case INST_CONDITION:
		if (!u->rec.control.seq)
			fx_add(w, FX_CONDITIONS)->unit = u;
		break;
	case INST_START:
		if (service(u)->type == SERVICE_FORKING && !u->rec.control.seq)
			inst_find_main_pid(w, u);
		break;
	case INST_RUNNING:
	case INST_RELOAD:
		if (main_is_unknown(u))
			inst_check_empty(w, u);
		inst_arm_watchdog(w, u); /* keep-alives went unheard */
		fx_event(w, EVENT_ADOPTED, u, NULL, "still running");
		break;
	case INST_STOP_WATCHDOG:
	case INST_STOP_SIGTERM:
	case INST_STOP_SIGKILL:
	case INST_FINAL_SIGTERM:
	case INST_FINAL_SIGKILL:
		inst_check_empty(w, u);
		inst_kill(w, u);
		break;
	case INST_DEAD:
	case INST_FAILED:
	case INST_AUTO_RESTART:
		if (u->rec.left_over)
			inst_check_empty(w, u);
		break;
	case INST_START_PRE:
	case INST_START_POST:
	case INST_EXITED:
	case INST_STOP:
	case INST_STOP_POST:
	case INST_STATE_MAX:
		break;
	}
}
