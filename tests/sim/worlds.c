/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Several hosts behind the same load balancers.
 *
 *  1. Each host has a world, processes and clocks of its own; they share load balancers, in whose
 *     backend each owns its servers. What restarts or cannot be reached is so for all of them.
 *  2. Whoever is behind in time goes first; their monotonic clocks began at other times and jump on their own.
 *  3. Now and then all deploy at once, and some die at once.
 *  4. A server that another host wrote to, and a set with fewer members serving than its policy
 *     allows, is seen by sets.c in the host that has it.
 */
#include "sim.h"

#define HOSTS_MAX      3
#define TURNS_PER_HOST 2500

static uint64_t time_of_all(struct sim *s)
{
	return sim_next(s) - (uint64_t)s->ahead_us;
}

static struct sim *next_host(struct sim **hosts, unsigned n)
{
	struct sim *first = hosts[0];
	for (unsigned i = 1; i < n; i++)
		if (time_of_all(hosts[i]) < time_of_all(first))
			first = hosts[i];
	return first;
}

static void all_at_once(struct sim **hosts, unsigned n)
{
	uint64_t revision = 1 + sim_random(hosts[0], 2);
	bool is_death = hosts[0]->p_core_dies && sim_chance(hosts[0], 3000);
	for (unsigned i = 0; i < n && !hosts[i]->has_failed; i++) {
		if (is_death)
			sim_death(hosts[i], DEATH_BEFORE_EFFECT);
		else
			sets_ask(hosts[i], REQ_DEPLOY, revision);
	}
}

static struct sim *new_host(uint64_t seed, unsigned i, struct sim *first)
{
	struct sim *s = sim_new(seed * HOSTS_MAX + i);
	s->seed = seed;
	s->is_of_several = true;
	s->host = i;
	s->shares_with = first;
	s->is_about_sets = true;
	s->ahead_us = (int64_t)sim_random(s, 100 * 86400 * USEC_PER_SEC);
	s->now_us += (uint64_t)s->ahead_us;
	s->wall_us = (int64_t)sim_random(s, 3600 * USEC_PER_SEC);
	return s;
}

bool worlds_run(uint64_t seed, bool is_traced)
{
	struct sim *hosts[HOSTS_MAX];
	unsigned n = 2 + (unsigned)(seed / 2 % 2), failed = HOSTS_MAX;
	for (unsigned i = 0; i < n; i++) {
		hosts[i] = new_host(seed, i, i ? hosts[0] : NULL);
		hosts[i]->is_tracing = is_traced;
		sim_begin(hosts[i]);
	}
	for (unsigned turn = 0; turn < n * TURNS_PER_HOST && failed == HOSTS_MAX; turn++) {
		struct sim *s = next_host(hosts, n);
		sim_turn(s);
		if (sim_chance(s, 20) && !s->has_failed)
			all_at_once(hosts, n);
		for (unsigned i = 0; i < n; i++)
			failed = hosts[i]->has_failed ? i : failed;
	}
	for (unsigned i = 0; i < n && failed == HOSTS_MAX; i++) {
		sim_end(hosts[i]);
		failed = hosts[i]->has_failed ? i : failed;
	}
	if (failed < HOSTS_MAX)
		printf("not ok - seed %llu: host %u, step %llu: %s\n", (unsigned long long)seed,
			failed, (unsigned long long)hosts[failed]->step, hosts[failed]->failure);
	for (unsigned i = n; i-- > 0;)
		sim_free(hosts[i]);
	return failed == HOSTS_MAX;
}
