/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Performs what the model decided, in its order. Nothing here decides: an effect that cannot be
 * performed becomes an event.
 */
#include "control/control.h"
#include "core/condition.h"
#include "core/inner.h"

#include <fcntl.h>
#include <sys/stat.h>

static void perform_conditions(struct core *c, struct unit *u)
{
	struct event ev = {.kind = EV_CONDITIONS, .unit = u};
	struct buf text = {0};
	bool is_assert;
	condition_check(&c->caps, u->conf, &ev.ok, &text, &is_assert);
	ev.text = text.data;
	ev.number = is_assert;
	core_step(c, &ev);
	buf_done(&text);
}

/* PIDFile= of a forking service, or the only process left in its cgroup. */
static void perform_find_main(struct core *c, struct unit *u)
{
	struct event ev = {.kind = EV_MAIN_PID, .unit = u};
	const char *file = u->conf->service.pid_file;
	struct buf b = {0};
	if (file && read_file(AT_FDCWD, file, 4096, &b) == 0) {
		long pid = strtol(b.data, NULL, 10);
		if (pid > 1 && pid <= INT32_MAX && cgroup_unit_of(c, (pid_t)pid) == u)
			ev.pid = (int32_t)pid;
	} else if (!file && u->conf->service.guess_main_pid) {
		ev.pid = cgroup_only_process(c, u);
	}
	buf_done(&b);
	core_step(c, &ev);
}

/* A unit that comes back keeps its cgroup (making one costs as much as an exec) and, as under
 * systemd, its stored descriptors, and its runtime directories if Preserve= says so. */
static void perform_cleanup(struct core *c, struct unit *u, bool is_restart)
{
	if (!is_restart || unit_is_down(u) || uc(u)->is_cgroup_spent)
		cgroup_remove_unit(c, u);
	if (!is_restart)
		fdstore_clear(c, u);
	launch_cleanup_dirs(u->conf, &u->rec.main, c->runtime_root, is_restart);
}

static void perform_event(struct core *c, const struct effect *fx)
{
	const char *name = fx->unit ? fx->unit->name : fx->set ? fx->set->name : NULL;
	int level = event_level(fx->event);
	CLEANUP_FREE char *said =
		xasprintf("%s%s%s", event_name(fx->event), fx->text ? ": " : "", strna(fx->text));
	log_at(level, name, "%s", said);
	if (fx->unit && level <= LOG_NOTE)
		logger_note(c, fx->unit, said);
	if (c->control)
		control_event(c->control, fx);
}

static void perform_exit(struct core *c, int code, const char *how)
{
	cgroup_done(c);
	lock_leave(c);
	const char *const files[] = {"control.sock", "notify", "state"};
	for (size_t i = 0; !c->is_in_memory && i < ARRAY_SIZE(files); i++) {
		CLEANUP_FREE char *path = xasprintf("%s/%s", c->runtime_dir, files[i]);
		(void)unlink(path);
	}
	keeper_exit(c, code, how);
}

static void perform(struct core *c, const struct effect *fx)
{
	struct unit *u = fx->unit;
	switch (fx->kind) {
	case FX_CONDITIONS:
		perform_conditions(c, u);
		break;
	case FX_SPAWN:
		launcher_spawn(c, u, fx->exec, fx->index, &fx->id);
		break;
	case FX_KILL:
		cgroup_kill(c, u, fx->who, fx->signal);
		break;
	case FX_CHECK_EMPTY:
		cgroup_check_empty(c, u);
		break;
	case FX_FIND_MAIN_PID:
		perform_find_main(c, u);
		break;
	case FX_CLEANUP:
		perform_cleanup(c, u, fx->number != 0);
		break;
	case FX_PROBE:
		net_probe(c, u, fx->check, fx->number, fx->timeout_us,
			u->conf->health[fx->check].target);
		break;
	case FX_LB_WANT:
		net_lb_want(c, u, fx->lb_state, fx->weight);
		break;
	case FX_LB_FORGET:
		net_lb_forget(c, u);
		break;
	case FX_LB_FAST:
		net_lb_fast(c, fx->set, fx->number);
		break;
	case FX_JOURNAL:
		journal_write(c, fx->set, fx->text);
		if (!rollout_is_active(fx->set))
			net_set_configure(c, fx->set); /* what only its revision named goes */
		break;
	case FX_COUNT:
		journal_count(c, fx->set);
		break;
	case FX_RELEASE_LINK:
		journal_commit(c, fx->set);
		break;
	case FX_REPLY:
		if (c->control)
			control_reply_done(c->control, fx->request, fx->result, fx->text);
		break;
	case FX_EVENT:
		break; /* told: core_tell() */
	case FX_EXIT:
		perform_exit(c, (int)fx->number, fx->text);
		break;
	case FX_KIND_MAX:
		break;
	}
}

/* Does anything here leave a trace outside of this process? What was only seen and told so far may
 * be seen and told again by a successor, so its record may wait for the next that counts. */
bool core_acts(const struct effects *fx)
{
	for (size_t i = 0; i < fx->n; i++)
		if (fx->v[i].kind != FX_EVENT && fx->v[i].kind != FX_CHECK_EMPTY &&
			fx->v[i].kind != FX_CONDITIONS)
			return true;
	return false;
}

/* A word may be said twice when we die between it and the record, but is never missing. */
void core_tell(struct core *c, const struct effects *fx)
{
	for (size_t i = 0; i < fx->n; i++)
		if (fx->v[i].kind == FX_EVENT)
			perform_event(c, &fx->v[i]);
}

void core_perform(struct core *c, const struct effects *fx)
{
	for (size_t i = 0; i < fx->n; i++)
		perform(c, &fx->v[i]);
}
