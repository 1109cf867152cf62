/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Keeper, launcher and the processes themselves.
 *
 *  1. Processes and keeper outlive core: a death of core loses its questions, never a process or
 *     an exit. An exit is kept until a step with it has been recorded.
 *  2. EV_EMPTY is true at the moment it is given.
 *  3. When the simulation is quiet, processes do what they should, if slowly.
 */
#include "sim.h"

#define MS USEC_PER_MSEC

static struct proc *proc_new(struct sim *s, uint32_t unit)
{
	for (size_t i = 0; i < SIM_PROCS_MAX; i++) {
		struct proc *p = &s->procs[i];
		if (p->is_used)
			continue;
		*p = (struct proc){.is_used = true, .unit = unit, .conf = s->w->units[unit]->conf};
		p->serial = ++s->next_serial;
		return p;
	}
	sim_fail(s, "more than %d processes", SIM_PROCS_MAX);
	return NULL;
}

static struct pending *later(struct sim *s, struct proc *p, uint64_t in_us, enum pending_kind kind)
{
	struct pending *n = sim_later(s, in_us, kind);
	n->proc = (uint32_t)(p - s->procs);
	n->serial = p->serial;
	n->unit = p->unit;
	return n;
}

bool host_unit_is_empty(const struct sim *s, uint32_t unit)
{
	for (size_t i = 0; i < SIM_PROCS_MAX; i++)
		if (s->procs[i].is_used && s->procs[i].is_alive && s->procs[i].unit == unit)
			return false;
	return true;
}

/* A command that is under way has an end of its own to tell. */
int32_t host_some_pid(struct sim *s, uint32_t unit)
{
	size_t from = sim_random(s, SIM_PROCS_MAX);
	for (size_t k = 0; k < SIM_PROCS_MAX; k++) {
		const struct proc *p = &s->procs[(from + k) % SIM_PROCS_MAX];
		if (p->is_used && p->is_alive && p->unit == unit && (p->is_main || !p->id.seq))
			return p->pid;
	}
	return 0;
}

void host_named_main(struct sim *s, uint32_t unit, int32_t pid)
{
	for (size_t i = 0; i < SIM_PROCS_MAX; i++)
		if (s->procs[i].is_used && s->procs[i].unit == unit)
			s->procs[i].is_main = s->procs[i].pid == pid;
}

static void notify(struct sim *s, struct proc *p, uint64_t in_us, uint32_t bits)
{
	struct pending *n = later(s, p, in_us, P_NOTIFY);
	n->ev.kind = EV_NOTIFY;
	n->ev.bits = bits;
	n->ev.value_us = 2 * USEC_PER_SEC;
}

/* ---- ends ---- */

static void maybe_empty(struct sim *s, uint32_t unit)
{
	if (!s->units[unit].wants_empty || !host_unit_is_empty(s, unit))
		return;
	s->units[unit].wants_empty = false;
	struct pending *n = sim_later(s, sim_random(s, 300), P_EVENT);
	n->core = s->core;
	n->unit = unit;
	n->ev.kind = EV_EMPTY;
}

static void proc_die(struct sim *s, struct proc *p, int code, int status)
{
	p->is_alive = false;
	p->code = code;
	p->status = status;
	sim_trace(s, "pid %d of %s ends: %d/%d", p->pid, p->conf->name, code, status);
	if (p->id.seq || p->is_main || s->w->units[p->unit]->rec.main_pid == p->pid) {
		p->has_exit = true;
		later(s, p, sim_random(s, s->is_tough && sim_fault(s, 1000) ? 2000 * MS : 2 * MS),
			P_EXITED);
	} else {
		p->is_used = false;
	}
	maybe_empty(s, p->unit);
}

static void end_later(struct sim *s, struct proc *p, uint64_t in_us, int code, int status)
{
	struct pending *n = later(s, p, in_us, P_END);
	n->code = code;
	n->status = status;
}

/* ---- lives ---- */

static uint64_t a_while(struct sim *s)
{
	return s->is_quiet || s->script ? sim_random(s, 200 * MS)
					: sim_random(s, 1ULL << (10 + sim_random(s, 14)));
}

static void bad_end(struct sim *s, struct proc *p, uint64_t in_us)
{
	bool is_signal = sim_chance(s, 4000);
	static const int signals[] = {6, 9, 11, 15, 1};
	if (is_signal)
		end_later(s, p, in_us, sim_chance(s, 2000) ? CHILD_DUMPED : CHILD_KILLED,
			signals[sim_random(s, ARRAY_SIZE(signals))]);
	else
		end_later(s, p, in_us, CHILD_EXITED, (int)sim_random(s, 6));
}

static struct proc *fork_extra(struct sim *s, struct proc *parent)
{
	struct proc *p = proc_new(s, parent->unit);
	if (!p)
		return NULL;
	memcpy(p->id.invocation, parent->id.invocation, 16);
	p->is_free = parent->is_free;
	p->is_born = p->is_alive = true;
	p->kind = parent->kind;
	p->pid = s->next_pid++;
	p->ignores_term = sim_fault(s, 2000);
	return p;
}

static void live_main(struct sim *s, struct proc *p)
{
	const struct service_conf *v = &p->conf->service;
	p->ignores_term = sim_fault(s, 1000);
	if (sim_fault(s, 2000))
		fork_extra(s, p);
	if (v->type == SERVICE_ONESHOT) {
		if (sim_fault(s, 2000))
			bad_end(s, p, a_while(s));
		else if (!sim_fault(s, 500))
			end_later(s, p, a_while(s), CHILD_EXITED, 0);
		return;
	}
	if (p->conf->description && streq(p->conf->description, "crash")) {
		bad_end(s, p, sim_random(s, 200 * MS));
		return;
	}
	bool is_notifying = v->type == SERVICE_NOTIFY || v->type == SERVICE_NOTIFY_RELOAD;
	if (is_notifying && !sim_fault(s, 1000))
		notify(s, p, a_while(s), NOTIFY_READY);
	if (v->watchdog_us && !sim_fault(s, 2000))
		notify(s, p, v->watchdog_us / 2, NOTIFY_WATCHDOG);
	if (sim_fault(s, 3000))
		bad_end(s, p, a_while(s));
	else if (sim_fault(s, 1000))
		end_later(s, p, a_while(s) * 16, CHILD_EXITED, 0);
	if (sim_fault(s, 200))
		notify(s, p, a_while(s), 1u << sim_random(s, 7));
}

/* The daemon that a forking start leaves behind. */
static void fork_daemon(struct sim *s, struct proc *parent)
{
	struct proc *p = fork_extra(s, parent);
	if (!p)
		return;
	p->is_main = true;
	live_main(s, p);
}

static void live_control(struct sim *s, struct proc *p)
{
	p->ignores_term = sim_fault(s, 1000);
	if (p->kind == EXEC_START && !sim_fault(s, 800))
		fork_daemon(s, p);
	if (sim_fault(s, 1500))
		bad_end(s, p, a_while(s));
	else if (!sim_fault(s, 500))
		end_later(s, p, a_while(s), CHILD_EXITED, 0);
}

static void born(struct sim *s, struct proc *p, const struct pending *n)
{
	p->pid = s->next_pid++;
	struct pending *a = sim_later(s, sim_random(s, 2 * MS), P_EVENT);
	a->core = s->core;
	a->unit = p->unit;
	a->ev.id = p->id;
	if (n->code) {
		a->ev.kind = EV_SPAWN_FAILED;
		a->ev.stage = n->code == 1 ? 0 : EXIT_EXEC;
		a->ev.error = ENOENT;
		p->is_used = false;
		return;
	}
	p->is_born = p->is_alive = true;
	a->ev.kind = EV_SPAWNED;
	a->ev.pid = p->pid;
	sim_trace(s, "pid %d of %s is born (%s, seq %u)", p->pid, p->conf->name,
		exec_kind_name(p->kind), p->id.seq);
	s->n_spawns++;
	s->units[p->unit].n_births += p->kind == EXEC_START;
	check_birth(s, p);
	if (p->is_main)
		live_main(s, p);
	else
		live_control(s, p);
}

/* ---- effects ---- */

static void do_spawn(struct sim *s, const struct effect *e)
{
	struct proc *p = proc_new(s, e->unit->id);
	if (!p)
		return;
	p->id = e->id;
	p->kind = e->exec;
	p->is_main = e->exec == EXEC_START && p->conf->service.type != SERVICE_FORKING;
	uint64_t in_us = sim_fault(s, 200) ? a_while(s) : sim_random(s, 2 * MS);
	if (s->is_tough && sim_fault(s, 1000))
		in_us = sim_random(s, 60 * USEC_PER_SEC);
	struct pending *n = later(s, p, in_us, P_BORN);
	n->code = sim_fault(s, 300) ? 1 + (int)sim_random(s, 2) : 0;
}

static void signal_one(struct sim *s, struct proc *p, int signal)
{
	bool is_reload = signal == p->conf->service.reload_signal &&
			 p->conf->service.type == SERVICE_NOTIFY_RELOAD;
	s->n_kills++;
	if (signal == SIGNAL_KILL) {
		if (!sim_fault(s, s->is_tough ? 3000 : 100)) /* uninterruptible, for a while */
			end_later(s, p, sim_random(s, MS), CHILD_KILLED, signal);
		else if (sim_chance(s, 5000))
			end_later(s, p, sim_random(s, 60 * USEC_PER_SEC), CHILD_KILLED, signal);
		else /* what it waited for came first */
			end_later(s, p, sim_random(s, 60 * USEC_PER_SEC), CHILD_EXITED, 0);
	} else if (is_reload) {
		if (!sim_fault(s, 2000)) {
			notify(s, p, sim_random(s, MS), NOTIFY_RELOADING);
			notify(s, p, MS + a_while(s), NOTIFY_READY);
		}
	} else if (!p->ignores_term) {
		bool is_polite = sim_chance(s, 5000) && signal != 6;
		end_later(s, p, a_while(s), is_polite ? CHILD_EXITED : CHILD_KILLED,
			is_polite ? 0 : signal);
	}
}

static void do_kill(struct sim *s, const struct effect *e)
{
	for (size_t i = 0; i < SIM_PROCS_MAX; i++) {
		struct proc *p = &s->procs[i];
		if (!p->is_used || !p->is_alive || p->unit != e->unit->id)
			continue;
		if (e->who == KILL_WHO_ALL ||
			(p->id.seq == e->id.seq && memcmp(&p->id, &e->id, sizeof(p->id)) == 0))
			signal_one(s, p, e->signal);
	}
}

static void do_find_main(struct sim *s, const struct effect *e)
{
	struct pending *n = sim_later(s, sim_random(s, 5 * MS), P_EVENT);
	n->core = s->core;
	n->unit = e->unit->id;
	n->ev.kind = EV_MAIN_PID;
	if (sim_fault(s, 3000))
		return;
	for (size_t i = 0; i < SIM_PROCS_MAX; i++) {
		struct proc *p = &s->procs[i];
		if (p->is_used && p->is_alive && p->is_main && p->unit == n->unit)
			n->ev.pid = p->pid;
	}
}

static struct pending *answer(struct sim *s, const struct effect *e, enum event_kind kind)
{
	struct pending *n = sim_later(s, a_while(s) / 4, P_EVENT);
	n->core = s->core;
	n->unit = e->unit->id;
	n->ev.kind = kind;
	return n;
}

void host_effect(struct sim *s, const struct effect *e)
{
	struct pending *n;
	if (fake_lb_effect(s, e))
		return;
	if (e->kind == FX_SPAWN) {
		check_spawn(s, e);
		do_spawn(s, e);
	} else if (e->kind == FX_KILL) {
		do_kill(s, e);
	} else if (e->kind == FX_CHECK_EMPTY) {
		s->units[e->unit->id].wants_empty = true;
		maybe_empty(s, e->unit->id);
	} else if (e->kind == FX_FIND_MAIN_PID) {
		do_find_main(s, e);
	} else if (e->kind == FX_CONDITIONS) {
		n = answer(s, e, EV_CONDITIONS);
		n->ev.ok = !sim_fault(s, 2000);
		n->ev.number = sim_chance(s, 3000);
	} else if (e->kind == FX_PROBE && !sim_fault(s, 300)) {
		n = answer(s, e, EV_PROBED);
		n->ev.check = e->check;
		n->ev.number = e->number;
		n->ev.ok = !sim_fault(s, 3500) &&
			   !(e->check == CHECK_READY && e->unit->conf->description &&
				   streq(e->unit->conf->description, "sick"));
		n->text = "probe";
	}
}

/* ---- what comes due ---- */

static void tell_exit(struct sim *s, struct proc *p)
{
	struct event ev = {.kind = EV_EXITED,
		.id = p->id,
		.pid = p->pid,
		.code = p->is_orphan ? CHILD_LOST : p->code,
		.status = p->is_orphan ? 0 : p->status};
	ev.unit = s->w->units[p->unit];
	/* A tracked pid is told under the id that core gave it. */
	if ((!p->id.seq || p->is_main) && ev.unit->rec.main_pid == p->pid)
		ev.id = ev.unit->rec.main;
	uint32_t core = s->core;
	uint64_t serial = p->serial;
	sim_step(s, &ev);
	if ((s->core == core || s->is_quiet || sim_chance(s, 5000)) && p->serial == serial)
		if (s->core == core) {
			p->has_exit = false;
			p->is_used = false;
		}
}

static bool pid_is_alive(const struct sim *s, int32_t pid)
{
	for (size_t i = 0; i < SIM_PROCS_MAX; i++)
		if (s->procs[i].is_used && s->procs[i].is_alive && s->procs[i].pid == pid)
			return true;
	return false;
}

void host_pending(struct sim *s, const struct pending *n)
{
	struct proc *p = &s->procs[n->proc];
	bool has_proc = p->is_used && p->serial == n->serial;
	struct event ev = n->ev;
	ev.unit = s->w->units[n->unit];
	ev.text = n->text;
	switch (n->kind) {
	case P_BORN:
		if (has_proc && !p->is_born)
			born(s, p, n);
		break;
	case P_END:
	case P_SIGNAL:
		if (has_proc && p->is_alive)
			proc_die(s, p, n->code, n->status);
		break;
	case P_EXITED:
		if (has_proc && p->has_exit)
			tell_exit(s, p);
		break;
	case P_EVENT:
		if (n->core != s->core)
			break;
		if (ev.kind == EV_EMPTY && !host_unit_is_empty(s, n->unit)) {
			s->units[n->unit].wants_empty = true;
			break;
		}
		if (ev.kind == EV_MAIN_PID && ev.pid && !pid_is_alive(s, ev.pid))
			ev.pid = 0;
		sim_step(s, &ev);
		break;
	case P_NOTIFY:
		if (!has_proc || !p->is_alive)
			break;
		if (ev.bits == NOTIFY_WATCHDOG && p->conf->service.watchdog_us &&
			!sim_fault(s, 200))
			notify(s, p, p->conf->service.watchdog_us / 2, NOTIFY_WATCHDOG);
		sim_step(s, &ev);
		break;
	case P_REQUEST:
	case P_CUSTOM:
		break;
	}
}

/* ---- core dies and comes back ---- */

void host_core_died(struct sim *s)
{
	for (uint32_t i = 0; i < s->n_units; i++)
		s->units[i].wants_empty = false;
}

/* What was on its way to keeper or launcher ends with them. Processes live on, but no keeper after
 * this one is their parent. */
void host_keeper_died(struct sim *s)
{
	s->n_keeper_deaths++;
	for (size_t i = 0; i < SIM_PROCS_MAX; i++) {
		struct proc *p = &s->procs[i];
		if (!p->is_used)
			continue;
		p->is_orphan = true;
		if (!p->is_born || !p->is_alive)
			p->is_used = p->has_exit = false;
	}
}

/* The launcher finishes what it has before a new core asks: plans in its socket are born, now. */
void host_flush_births(struct sim *s)
{
	for (size_t i = 0; i < s->n_heap; i++) {
		struct pending n = s->heap[i];
		struct proc *p = &s->procs[n.proc];
		if (n.kind == P_BORN && p->is_used && p->serial == n.serial && !p->is_born)
			born(s, p, &n);
	}
}

static struct proc *proc_of(struct sim *s, uint32_t unit, const struct spawn_id *id, int32_t pid)
{
	for (size_t i = 0; i < SIM_PROCS_MAX; i++) {
		struct proc *p = &s->procs[i];
		if (p->is_used && p->is_born && p->unit == unit &&
			(memcmp(&p->id, id, sizeof(*id)) == 0 || (pid && p->pid == pid)))
			return p;
	}
	return NULL;
}

/* After the death of a keeper only a recorded pid can be told from others of its group: a process
 * that was born and not yet recorded is killed, and told as gone without a status once it is. */
static void tell_known(struct sim *s, uint32_t unit, struct spawn_id id, int32_t pid)
{
	struct proc *p = id.seq ? proc_of(s, unit, &id, pid) : NULL;
	struct event ev = {.kind = EV_EXITED, .unit = s->w->units[unit], .id = id};
	if (!id.seq)
		return;
	if (p && p->is_alive && p->is_orphan && p->pid != pid) {
		end_later(s, p, sim_random(s, MS), CHILD_KILLED, SIGNAL_KILL);
		return;
	}
	if (p && p->is_alive) {
		ev.kind = EV_SPAWNED;
		ev.pid = p->pid;
	} else if (p) {
		ev.code = p->is_orphan ? CHILD_LOST : p->code;
		ev.status = p->is_orphan ? 0 : p->status;
	}
	uint32_t core = s->core;
	uint64_t serial = p ? p->serial : 0;
	sim_step(s, &ev);
	if (ev.kind == EV_EXITED && p && p->serial == serial && s->core == core)
		p->is_used = p->has_exit = false; /* else it was not recorded, perhaps */
}

/* Children that no record names were given up before they were born. */
static void kill_unknown(struct sim *s, uint32_t unit, const struct unit_rec *r)
{
	for (size_t i = 0; i < SIM_PROCS_MAX; i++) {
		struct proc *p = &s->procs[i];
		if (p->is_used && p->is_alive && p->unit == unit && p->id.seq &&
			memcmp(&p->id, &r->main, sizeof(p->id)) != 0 && p->pid != r->main_pid &&
			memcmp(&p->id, &r->control, sizeof(p->id)) != 0)
			end_later(s, p, sim_random(s, MS), CHILD_KILLED, SIGNAL_KILL);
	}
}

/* Keeper's table against the records as they were restored: each process of theirs is alive, or
 * ended, or was never born. What the steps in between start is not in question. */
void host_core_back(struct sim *s)
{
	struct unit_rec recs[SIM_UNITS_MAX];
	uint32_t core = s->core;
	for (uint32_t i = 0; i < s->n_units; i++) {
		recs[i] = s->restored[i];
		kill_unknown(s, i, &recs[i]);
	}
	for (uint32_t i = 0; i < s->n_units && s->core == core; i++) {
		tell_known(s, i, recs[i].main, recs[i].main_pid);
		if (s->core == core)
			tell_known(s, i, recs[i].control, recs[i].control_pid);
	}
}

/* Faults are over: what ignored signals obeys, and what outlived its unit ends. */
void host_release(struct sim *s)
{
	for (size_t i = 0; i < SIM_PROCS_MAX; i++) {
		struct proc *p = &s->procs[i];
		if (!p->is_used || !p->is_alive)
			continue;
		p->ignores_term = false;
		if (unit_is_down(s->w->units[p->unit]) ||
			s->w->units[p->unit]->rec.state == INST_AUTO_RESTART)
			end_later(s, p, sim_random(s, USEC_PER_SEC), CHILD_EXITED, 0);
	}
}
