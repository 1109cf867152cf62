/* SPDX-License-Identifier: Apache-2.0 */
/* What all universes of a run did together, and which rows of the three tables they reached. */
#include "sim.h"

static struct {
	uint64_t universes, steps, deaths, keepers, points, spawns, kills, events[EVENT_ID_MAX];
	uint64_t inst[INST_STATE_MAX * FSM_MAX];
	uint64_t lb[LBP_MAX][COVERAGE_EVENTS_MAX];
	uint64_t rollout[ROLL_STATE_MAX][COVERAGE_EVENTS_MAX];
} total;

static void add(uint64_t *to, const uint64_t *from, size_t n)
{
	for (size_t i = 0; i < n; i++)
		to[i] += from[i];
}

void report_add(const struct sim *s)
{
	total.universes++;
	total.steps += s->step;
	total.deaths += s->n_core_deaths;
	total.keepers += s->n_keeper_deaths;
	total.spawns += s->n_spawns;
	total.kills += s->n_kills;
	add(total.events, s->events, EVENT_ID_MAX);
	add(total.inst, s->coverage, INST_STATE_MAX * FSM_MAX);
	add(*total.lb, *s->lb_coverage, LBP_MAX * COVERAGE_EVENTS_MAX);
	add(*total.rollout, *s->rollout_coverage, ROLL_STATE_MAX * COVERAGE_EVENTS_MAX);
}

void report_points(uint64_t n)
{
	total.points += n;
}

uint64_t report_steps(void)
{
	return total.steps;
}

/* ---- rows ---- */

struct rows {
	const char *table;
	unsigned reached, possible, never;
};

static unsigned n_unreached, n_unreasoned;

static void row(struct rows *r, char kind, const char *why, uint64_t n, const char *state,
	const char *event)
{
	if (kind == 'N') {
		r->never++;
		n_unreasoned += !why || !*why;
		if (!why || !*why)
			printf("# no reason is given why it cannot be: %s: %s x %s\n", r->table,
				state, event);
		return;
	}
	r->possible++;
	r->reached += n > 0;
	n_unreached += !n;
	if (!n)
		printf("# never reached: %s: %s x %s\n", r->table, state, event);
}

static void print_rows(void)
{
	struct rows inst = {.table = "instance.def"}, lb = {.table = "lb.def"},
		    rollout = {.table = "rollout.def"};
	const struct rows *all[] = {&inst, &lb, &rollout};
	const char *name = NULL;
	char kind;
	for (int s = 0; s < INST_STATE_MAX; s++)
		for (int e = 0; e < FSM_MAX; e++)
			row(&inst, inst_row_kind((enum inst_state)s, (enum inst_event_id)e),
				inst_row_why((enum inst_state)s, (enum inst_event_id)e),
				total.inst[s * FSM_MAX + e], inst_state_name((enum inst_state)s),
				inst_event_name((enum inst_event_id)e));
	for (int p = 0; p < LBP_MAX; p++)
		for (unsigned e = 0; (kind = lb_row_kind((enum lb_phase)p, e, &name)); e++)
			row(&lb, kind, lb_row_why((enum lb_phase)p, e), total.lb[p][e],
				lb_phase_name((enum lb_phase)p), name);
	for (int s = 0; s < ROLL_STATE_MAX; s++)
		for (unsigned e = 0; (kind = rollout_row_kind((enum rollout_state)s, e, &name));
			e++)
			row(&rollout, kind, rollout_row_why((enum rollout_state)s, e),
				total.rollout[s][e], rollout_state_name((enum rollout_state)s),
				name);
	for (size_t i = 0; i < ARRAY_SIZE(all); i++)
		printf("# rows reached of %s: %u of %u (and %u that cannot be, each with its "
		       "reason)\n",
			all[i]->table, all[i]->reached, all[i]->possible, all[i]->never);
}

void report_print(double seconds)
{
	static const uint8_t shown[] = {EVENT_RESTART, EVENT_START_LIMIT, EVENT_WATCHDOG,
		EVENT_UNHEALTHY, EVENT_LOST, EVENT_LB_DRAINED, EVENT_LB_FORCED, EVENT_LB_TROUBLE,
		EVENT_LB_BACK, EVENT_SCALED, EVENT_ROLLOUT_START, EVENT_ROLLOUT_PAUSED,
		EVENT_ROLLOUT_DONE, EVENT_ROLLED_BACK, EVENT_ROLLOUT_HALTED, EVENT_SHUTDOWN};
	printf("# %llu universes, %llu steps, %llu deaths of core, %.0f steps/s\n",
		(unsigned long long)total.universes, (unsigned long long)total.steps,
		(unsigned long long)total.deaths, (double)total.steps / seconds);
	printf("# %llu of the deaths were keeper's, too; %llu stories with a death at a chosen "
	       "instant\n",
		(unsigned long long)total.keepers, (unsigned long long)total.points);
	printf("# %llu processes, %llu signals", (unsigned long long)total.spawns,
		(unsigned long long)total.kills);
	for (size_t i = 0; i < ARRAY_SIZE(shown); i++)
		printf(", %llu %s", (unsigned long long)total.events[shown[i]],
			event_name((enum event_id)shown[i]));
	putchar('\n');
	print_rows();
}

unsigned report_unreached(void)
{
	return n_unreached;
}

unsigned report_unreasoned(void)
{
	return n_unreasoned;
}
