/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where everything meets: an event goes into the world, and what the world decided comes out.
 *
 * Owns the events that wait, the one timer, and what the daemon itself lacks. The links, sockets and
 * cgroups call core_step() with what they hear; effect.c tells them what to do. See inner.h for the
 * order within a turn.
 */
#include "core/inner.h"

#include <signal.h>
#include <sys/epoll.h>

#define AGAIN_US (500 * USEC_PER_MSEC)

/* ---- one event ---------------------------------------------------------------------------------- */

/* Events that come up while effects are performed wait until the list is done: effects of one
 * step are never interleaved with those of another. */
struct queued_event {
	struct event ev;
	char *text;
	struct lb_sample sample;
};

static struct queued_event *queued;
static size_t n_queued, cap_queued, head_queued;

static void enqueue(const struct event *ev)
{
	assert(ev->kind != EV_REQUEST);
	GROW(queued, n_queued, cap_queued);
	struct queued_event *q = &queued[n_queued++];
	q->ev = *ev;
	q->text = ev->text ? xstrdup(ev->text) : NULL;
	if (ev->sample)
		q->sample = *ev->sample;
}

/* Its end may take long, and who asked was answered: a core that comes after us goes on with it. Keeper
 * remembers by itself that a signal asked, but neither a verb nor the SuccessAction= of a unit. */
static void keep_shutdown(struct core *c)
{
	char name[KP_NAME_MAX];
	if (!c->world->is_shutting_down || c->is_shutdown_kept)
		return;
	snprintf(name, sizeof(name), SHUTDOWN_DEPOSIT "%d/%s", c->world->exit_code,
		c->world->exit_text);
	c->is_shutdown_kept = true;
	keeper_put(c, name, c->keeper_fd);
}

static void step_once(struct core *c, struct event *ev)
{
	ev->now_us = now_mono_us();
	ev->wall_us = now_wall_us();
	effects_reset(&c->fx);
	int r = world_step(c->world, ev, &c->fx);
	if (r < 0)
		log_error(ev->unit ? ev->unit->name : NULL, "event %d cannot be: %s", (int)ev->kind,
			errno_name(r));
	keep_shutdown(c);
	core_tell(c, &c->fx);
	bool is_named = ev->kind == EV_MAIN_PID && ev->pid && main_is_named(ev->unit, ev->pid);
	if (core_acts(&c->fx) || is_named)
		record_write_dirty(c);
	if (is_named)
		main_pid_changed(c, ev->unit, ev->pid);
	core_perform(c, &c->fx);
}

void core_step(struct core *c, struct event *ev)
{
	if (c->is_stepping) {
		enqueue(ev);
		return;
	}
	c->is_stepping = true;
	step_once(c, ev);
	while (head_queued < n_queued) {
		struct queued_event q = queued[head_queued++];
		q.ev.text = q.text;
		if (q.ev.sample)
			q.ev.sample = &q.sample;
		step_once(c, &q.ev);
		free(q.text);
	}
	n_queued = head_queued = 0;
	c->is_stepping = false;
	core_arm(c);
}

/* ---- time ------------------------------------------------------------------------------------------- */

void core_arm(struct core *c)
{
	uint64_t due = world_next_deadline(c->world);
	due = MIN(due, launcher_probe_deadline(c));
	due = MIN(due, launcher_watch_deadline(c));
	if (c->relist_at_us)
		due = MIN(due, c->relist_at_us);
	if (c->stop_budget_us)
		due = MIN(due, c->stop_budget_us);
	if (c->again_us)
		due = MIN(due, c->again_us);
	if (c->unread_at_us)
		due = MIN(due, c->unread_at_us);
	if (c->log_sync_until_us)
		due = MIN(due, c->log_sync_until_us);
	if (c->notify_rest_us)
		due = MIN(due, c->notify_rest_us);
	loop_arm(&c->loop, due);
}

void core_again(struct core *c)
{
	if (c->again_us)
		return;
	c->again_us = now_mono_us() + AGAIN_US;
	core_arm(c);
}

void core_trouble(struct core *c, enum trouble kind, const char *text)
{
	char *now = c->trouble[kind];
	if (text && !*now)
		log_warn(NULL, "%s", text);
	else if (!text && *now)
		log_note(NULL, "over: %s", now);
	str_copy(now, strna(text), TROUBLE_TEXT_MAX);
}

/* The container's runtime kills everything soon: better we do, and in order. */
static void stop_budget_spent(struct core *c)
{
	c->stop_budget_us = 0;
	log_warn(NULL, "the time to stop is over: killing what is left");
	for (size_t i = 0; i < c->world->n_units; i++)
		if (!unit_is_down(c->world->units[i]))
			cgroup_kill(c, c->world->units[i], KILL_WHO_ALL, SIGKILL);
}

void core_on_timer(struct loop *l)
{
	struct core *c = container_of(l, struct core, loop);
	struct event ev = {.kind = EV_TIME};
	uint64_t now = now_mono_us();
	if (c->log_sync_until_us && now >= c->log_sync_until_us)
		logger_sync_over(c);
	if (c->notify_rest_us && now >= c->notify_rest_us)
		notify_rested(c);
	launcher_probe_timeouts(c);
	launcher_watch(c);
	if (c->relist_at_us && now >= c->relist_at_us) {
		c->relist_at_us = 0;
		keeper_relist(c);
	}
	if (c->stop_budget_us && now >= c->stop_budget_us)
		stop_budget_spent(c);
	if (c->again_us && now >= c->again_us) {
		c->again_us = 0;
		(void)record_settle(c);
		record_write_dirty(c);
		keeper_watch_again(c);
		cgroup_kill_again(c);
		cgroup_check_again(c);
		journal_again(c);
	}
	if (c->unread_at_us && now >= c->unread_at_us)
		store_look_again(c);
	core_step(c, &ev);
}

static void on_log_room(struct source *s, uint32_t epoll_events)
{
	struct core *c = container_of(s, struct core, log_source);
	(void)epoll_events;
	if (log_flush())
		loop_remove(&c->loop, s);
}

void core_before_wait(struct loop *l)
{
	struct core *c = container_of(l, struct core, loop);
	record_write_dirty(c);
	keeper_flush(c);
	if (!log_flush() && !c->log_source.is_added)
		(void)loop_add(
			l, &c->log_source, log_descriptor(), EPOLLOUT, PRIO_NORMAL, on_log_room);
}
