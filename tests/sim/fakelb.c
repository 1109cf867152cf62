/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The simulator's load balancers.
 *
 *  1. One struct is all load balancers of one set and the reconciler in front of them: it pushes a
 *     wanted row after a delay of its own for each, and again when one restarted or came back.
 *  2. The truth (state, sessions, total) moves at the ticks of each load balancer; a sample is what it
 *     says at such a tick. A kept-alive client shows as a session only in every other sample, while
 *     its total moves: exactly what makes one zero worth nothing.
 *  3. A restarted load balancer has every server ready, as HAProxy has without a state file.
 */
#include "sim/fakelb.h"

#define CHECK_US (200 * USEC_PER_MSEC)

static uint64_t below(struct fakelb *f, uint64_t n)
{
	return n ? rng_next(&f->rng) % n : 0;
}

struct fakelb *fakelb_new(
	struct set *s, unsigned n, uint64_t seed, bool (*serves)(const struct unit *))
{
	struct fakelb *f = xcalloc(1, sizeof(*f));

	f->set = s;
	f->n = MIN(n, SET_LBS_MAX);
	f->rng = seed * 2 + 1;
	f->lag_us = 300 * USEC_PER_MSEC;
	f->session_us = 3 * USEC_PER_SEC;
	f->load = 6;
	f->fast_us = 50 * USEC_PER_MSEC;
	f->slow_us = 500 * USEC_PER_MSEC;
	f->is_checking = true;
	f->serves = serves;
	f->one = f->own;
	f->next = f;
	for (unsigned i = 0; i < f->n; i++) {
		f->one[i].is_reachable = true;
		f->one[i].generation = 1;
		for (unsigned k = 0; k < SET_MEMBERS_MAX; k++)
			f->one[i].server[k].state = LB_MAINT;
	}
	return f;
}

void fakelb_share(struct fakelb *f, struct fakelb *with, unsigned host, unsigned slot)
{
	f->one = with->one;
	f->n = with->n;
	f->host = host;
	f->slot = slot;
	f->next = with->next;
	with->next = f;
}

static struct fakelb_server *server(const struct fakelb *f, unsigned lb, unsigned k)
{
	return &f->one[lb].server[(f->slot + k) % SET_MEMBERS_MAX];
}

static void push(struct fakelb *f, unsigned lb, unsigned k, uint64_t now_us)
{
	server(f, lb, k)->apply_us = now_us + 1 + below(f, f->lag_us);
}

void fakelb_effect(struct fakelb *f, const struct effect *fx, uint64_t now_us)
{
	unsigned k = fx->unit ? fx->unit->rec.index - 1U : 0;

	if (fx->kind == FX_LB_FAST && fx->set == f->set)
		f->fast_until_us = MAX(f->fast_until_us, now_us + fx->number * USEC_PER_MSEC);
	if (!fx->unit || fx->unit->set != f->set)
		return;
	if (fx->kind == FX_LB_FORGET)
		f->row[k].is_wanted = false;
	if (fx->kind != FX_LB_WANT)
		return;
	f->row[k].is_wanted = true;
	f->row[k].wanted = fx->lb_state;
	f->row[k].weight = fx->weight;
	f->row[k].wanted_us = now_us;
	for (unsigned i = 0; i < f->n; i++)
		push(f, i, k, now_us);
}

uint64_t fakelb_next(const struct fakelb *f)
{
	uint64_t at = USEC_INFINITY;

	for (unsigned i = 0; i < f->n; i++)
		at = MIN(at, f->link[i].next_us);
	return at;
}

static void apply(
	struct fakelb *f, struct fakelb_server *v, const struct fakelb_row *row, uint64_t now_us)
{
	if (!v->apply_us || v->apply_us > now_us || !row->is_wanted)
		return;
	v->apply_us = 0;
	if (v->state == LB_MAINT && row->wanted != LB_MAINT) {
		v->check = f->is_checking ? LB_CHECK_UNKNOWN : LB_CHECK_NONE;
		v->check_us = now_us + CHECK_US;
		v->is_up = row->wanted == LB_READY; /* optimistic, as HAProxy is */
	}
	v->state = row->wanted;
	v->weight = row->weight;
	v->writer = f->host + 1;
}

static void check(struct fakelb *f, struct fakelb_server *v, bool serves, uint64_t now_us)
{
	if (v->state == LB_MAINT || !f->is_checking) {
		v->is_up = v->state != LB_MAINT;
		v->check = f->is_checking ? LB_CHECK_UNKNOWN : LB_CHECK_NONE;
		return;
	}
	if (now_us < v->check_us)
		return;
	v->check_us = now_us + CHECK_US;
	v->check = serves ? LB_CHECK_OK : LB_CHECK_FAILED;
	v->is_up = serves;
}

static void sessions(struct fakelb *f, struct fakelb_server *v, bool serves, uint64_t now_us)
{
	unsigned n = 0;

	if (!serves) {
		v->n_sessions = 0;
		v->sticky_until_us = 0;
		return;
	}
	for (unsigned i = 0; i < v->n_sessions; i++)
		if (v->ends_us[i] > now_us || f->lies & LIE_STUCK)
			v->ends_us[n++] = v->ends_us[i];
	v->n_sessions = n;
	if (v->state == LB_READY && v->is_up && v->weight && f->load) {
		unsigned want = (unsigned)below(f, f->load + 1);
		while (v->n_sessions < MIN(want, FAKELB_SESSIONS_MAX)) {
			v->ends_us[v->n_sessions++] = now_us + 1 + below(f, f->session_us);
			v->total++;
		}
		if (!below(f, 3))
			v->sticky_until_us = now_us + 1 + below(f, f->session_us);
	}
	if (f->lies & LIE_TOTAL && !below(f, 8))
		v->total = 0;
	if (v->sticky_until_us > now_us)
		v->total++;
}

static void lie(struct fakelb *f, const struct fakelb_row *row, struct lb_sample *s)
{
	if (f->lies & LIE_STATE && !below(f, 4) && row->is_wanted) {
		s->in_sync = 1;
		s->state = (uint32_t)row->wanted;
		s->is_up = row->wanted == LB_READY;
		s->weight = row->weight;
	}
	if (f->lies & LIE_ZERO && !below(f, 3))
		s->sessions = 0;
}

static void give(struct fakelb *f, unsigned lb, unsigned k, struct lb_sample *s, uint64_t now_us,
	fakelb_deliver *deliver, void *arg)
{
	struct event ev = {.kind = EV_LB_SAMPLE, .now_us = now_us, .wall_us = now_us, .lb = lb};

	ev.unit = f->set->members[k];
	ev.sample = s;
	deliver(arg, &ev);
}

static void sample(struct fakelb *f, unsigned lb, unsigned k, uint64_t now_us,
	fakelb_deliver *deliver, void *arg)
{
	struct fakelb_link *l = &f->link[lb];
	struct fakelb_server *v = server(f, lb, k);
	const struct fakelb_row *row = &f->row[k];
	struct lb_sample s = {.known = f->unknown_index != k + 1,
		.in_sync = row->is_wanted && !v->apply_us && v->state == row->wanted &&
			   v->weight == row->weight,
		.state = (uint32_t)v->state,
		.is_up = v->is_up,
		.check = (uint32_t)v->check,
		.weight = v->weight,
		.total = v->total,
		.serial = l->serial};

	s.sessions = v->n_sessions + (v->sticky_until_us > now_us && l->serial % 2);
	if (f->lies)
		lie(f, row, &s);
	if (now_us < l->hung_until_us) {
		if (l->n_late < FAKELB_LATE_MAX) {
			l->late[l->n_late].k = k;
			l->late[l->n_late++].sample = s;
		}
		return;
	}
	give(f, lb, k, &s, now_us, deliver, arg);
	if (f->is_lying && v->last.serial && !below(f, 4)) { /* late, or twice */
		struct lb_sample old = below(f, 2) ? v->last : s;
		give(f, lb, k, &old, now_us, deliver, arg);
	}
	v->last = s;
}

static void tell(struct fakelb *f, unsigned lb, uint64_t now_us, fakelb_deliver *deliver, void *arg)
{
	struct fakelb_one *o = &f->one[lb];
	struct event ev = {.kind = EV_LB_STATUS,
		.now_us = now_us,
		.wall_us = now_us,
		.lb = lb,
		.set = f->set,
		.ok = o->is_reachable,
		.number = o->generation,
		.text = o->is_reachable ? "" : "connection refused"};

	f->link[lb].is_told = true;
	deliver(arg, &ev);
}

static void push_all(struct fakelb *f, unsigned lb, uint64_t now_us)
{
	for (unsigned k = 0; k < SET_MEMBERS_MAX; k++)
		if (f->row[k].is_wanted)
			push(f, lb, k, now_us);
}

/* It can be seen again: every host is told so at its next look, and pushes all it wants. */
static void come_back(struct fakelb *f, unsigned lb)
{
	struct fakelb *g = f;

	f->one[lb].is_reachable = true;
	do {
		g->link[lb].is_told = false;
		push_all(g, lb, g->link[lb].next_us);
		g = g->next;
	} while (g != f);
}

/* What stood in the pipe while it hung. A core that dies of one loses the rest. */
static void catch_up(
	struct fakelb *f, unsigned lb, uint64_t now_us, fakelb_deliver *deliver, void *arg)
{
	struct fakelb_link *l = &f->link[lb];
	unsigned n = l->n_late;

	l->n_late = 0;
	for (unsigned i = 0; i < n && !l->n_late && f->set->members[l->late[i].k]; i++) {
		struct lb_sample s = l->late[i].sample;
		give(f, lb, l->late[i].k, &s, now_us, deliver, arg);
	}
}

static void tick(struct fakelb *f, unsigned lb, uint64_t now_us, fakelb_deliver *deliver, void *arg)
{
	struct fakelb_one *o = &f->one[lb];
	struct fakelb_link *l = &f->link[lb];

	l->serial++;
	l->next_us = now_us + (now_us < f->fast_until_us ? f->fast_us : f->slow_us);
	if (!o->is_reachable && now_us - (uint64_t)f->ahead_us >= o->back_us)
		come_back(f, lb);
	if (l->n_late && now_us >= l->hung_until_us)
		catch_up(f, lb, now_us, deliver, arg);
	if (!l->is_told && now_us >= l->hung_until_us)
		tell(f, lb, now_us, deliver, arg);
	for (unsigned k = 0; k < SET_MEMBERS_MAX; k++) {
		struct fakelb_server *v = server(f, lb, k);
		const struct unit *u = f->set->members[k];
		bool serves = u && f->serves(u);
		if (!u)
			continue;
		if (o->is_reachable)
			apply(f, v, &f->row[k], now_us);
		check(f, v, serves, now_us);
		sessions(f, v, serves, now_us);
		if (o->is_reachable && f->row[k].is_wanted)
			sample(f, lb, k, now_us, deliver, arg);
	}
}

void fakelb_run(struct fakelb *f, uint64_t now_us, fakelb_deliver *deliver, void *arg)
{
	for (unsigned i = 0; i < f->n; i++)
		if (f->link[i].next_us <= now_us)
			tick(f, i, now_us, deliver, arg);
}

void fakelb_core_restarted(struct fakelb *f, struct set *s)
{
	f->set = s;
	for (unsigned k = 0; k < SET_MEMBERS_MAX; k++)
		f->row[k].is_wanted = false;
	for (unsigned i = 0; i < f->n; i++) {
		f->link[i].is_told = false;
		f->link[i].n_late = 0;
		for (unsigned k = 0; k < (f->next == f ? SET_MEMBERS_MAX : FAKELB_STRIDE); k++)
			server(f, i, k)->apply_us = 0;
	}
}

static void lose_state(struct fakelb *f, unsigned lb)
{
	for (unsigned k = 0; k < SET_MEMBERS_MAX && f->set->members[k]; k++) {
		struct fakelb_server *v = server(f, lb, k);
		memset(v, 0, sizeof(*v));
		v->state = LB_READY;
		v->weight = 100;
		v->is_up = true;
	}
}

void fakelb_restart(struct fakelb *f, unsigned lb)
{
	struct fakelb *g = f;
	bool is_reachable = f->one[lb].is_reachable;

	f->one[lb].generation++;
	do {
		if (!f->keeps_state)
			lose_state(g, lb);
		g = g->next;
	} while (g != f);
	come_back(f, lb);
	f->one[lb].is_reachable = is_reachable;
}

void fakelb_cut(struct fakelb *f, unsigned lb, uint64_t until_us)
{
	struct fakelb *g = f;

	f->one[lb].is_reachable = false;
	f->one[lb].back_us = until_us - (uint64_t)f->ahead_us;
	do {
		g->link[lb].is_told = false;
		g = g->next;
	} while (g != f);
}

void fakelb_hang(struct fakelb *f, unsigned lb, uint64_t until_us)
{
	f->link[lb].hung_until_us = until_us;
}

void fakelb_calm(struct fakelb *f, uint64_t now_us)
{
	f->is_lying = false;
	f->lies = 0;
	for (unsigned i = 0; i < f->n; i++) {
		f->one[i].back_us = MIN(f->one[i].back_us, now_us - (uint64_t)f->ahead_us);
		f->link[i].hung_until_us = MIN(f->link[i].hung_until_us, now_us);
	}
}

const struct fakelb_server *fakelb_trespassed(const struct fakelb *f, unsigned n)
{
	for (unsigned i = 0; i < f->n; i++)
		for (unsigned k = 0; k < n; k++)
			if (server(f, i, k)->writer && server(f, i, k)->writer != f->host + 1)
				return server(f, i, k);
	return NULL;
}

/* ---- the truth ---- */

bool fakelb_is_available(const struct fakelb *f, const struct unit *u)
{
	unsigned k = u->rec.index - 1U;

	if (!f->serves(u))
		return false;
	for (unsigned i = 0; i < f->n; i++) {
		const struct fakelb_server *v = server(f, i, k);
		if (f->one[i].is_reachable && !(v->state == LB_READY && v->is_up))
			return false;
	}
	return true;
}

unsigned fakelb_sessions(const struct fakelb *f, const struct unit *u, uint64_t now_us)
{
	unsigned k = u->rec.index - 1U, n = 0;

	for (unsigned i = 0; i < f->n; i++) {
		const struct fakelb_server *v = server(f, i, k);
		if (!f->one[i].is_reachable || !f->link[i].is_told)
			continue; /* nobody can know yet that it was restarted */
		for (unsigned j = 0; j < v->n_sessions; j++)
			n += v->ends_us[j] > now_us;
		n += v->sticky_until_us > now_us;
	}
	return n;
}

bool fakelb_is_offered(const struct fakelb *f, const struct unit *u)
{
	unsigned k = u->rec.index - 1U;

	for (unsigned i = 0; i < f->n; i++)
		if (f->one[i].is_reachable && f->link[i].is_told &&
			server(f, i, k)->state == LB_READY)
			return true;
	return false;
}
