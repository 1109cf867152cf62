/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Dependencies as edges between units, both ways.
 *
 *  1. Every dependency stands twice: at the unit that wrote it and, is_inverse, at the other.
 *  2. Before= is stored as the other unit's After=; ReloadPropagatedFrom= as PropagatesReload=.
 *  3. A name that cannot be loaded gets an edge only where it makes the start impossible
 *     (Requires=, BindsTo=, Requisite=). Everything else about it is as if it were not written.
 *  4. After world_link() the After= edges have no cycle. As systemd does, a cycle is broken where
 *     it hurts least: an ordering between units of which neither requires the other goes first.
 *
 * Called by core through model.h, edges read by job.c. The step after world_link() looks again at
 * every unit that waits.
 */
#include "parts.h"

struct unit *edge_next(const struct unit *u, uint32_t *pos, enum dep_kind kind, bool is_inverse)
{
	while (*pos < u->n_edges) {
		const struct edge *e = &u->edges[(*pos)++];
		if (e->kind == kind && e->is_inverse == is_inverse)
			return e->to;
	}
	return NULL;
}

static void edge_put(struct unit *u, struct unit *to, enum dep_kind kind, bool is_inverse)
{
	if (!u->cap_edges) { /* most have one or two */
		u->cap_edges = 2;
		u->edges = xcalloc(u->cap_edges, sizeof(*u->edges));
	}
	GROW(u->edges, u->n_edges, u->cap_edges);
	u->edges[u->n_edges++] = (struct edge){to, (uint8_t)kind, is_inverse};
}

static void edge_del(struct unit *u, struct unit *to, enum dep_kind kind, bool is_inverse)
{
	for (uint32_t i = 0; i < u->n_edges; i++) {
		struct edge *e = &u->edges[i];
		if (e->to == to && e->kind == kind && e->is_inverse == is_inverse) {
			*e = u->edges[--u->n_edges];
			return;
		}
	}
}

static bool edge_is_there(
	const struct unit *u, const struct unit *to, enum dep_kind kind, bool is_inverse)
{
	for (uint32_t i = 0; i < u->n_edges; i++)
		if (u->edges[i].to == to && u->edges[i].kind == kind &&
			u->edges[i].is_inverse == is_inverse)
			return true;
	return false;
}

static bool edge_has(const struct unit *u, const struct unit *to, enum dep_kind kind)
{
	return edge_is_there(u, to, kind, false);
}

/* Both have it or none: whoever has fewer edges is asked, a target may have thousands. */
static void link_two(struct unit *from, struct unit *to, enum dep_kind kind)
{
	if (from->n_edges <= to->n_edges ? edge_is_there(from, to, kind, false)
					 : edge_is_there(to, from, kind, true))
		return;
	edge_put(from, to, kind, false);
	edge_put(to, from, kind, true);
}

static void link_dep(struct unit *u, struct unit *to, enum dep_kind kind)
{
	bool is_needed = kind == DEP_REQUIRES || kind == DEP_BINDS_TO || kind == DEP_REQUISITE;
	if (to == u || (to->conf->load == LOAD_NOT_FOUND && !is_needed))
		return;
	if (kind == DEP_BEFORE)
		link_two(to, u, DEP_AFTER);
	else if (kind == DEP_RELOAD_PROPAGATED_FROM)
		link_two(to, u, DEP_PROPAGATES_RELOAD);
	else if (kind != DEP_JOINS_NAMESPACE_OF)
		link_two(u, to, kind);
}

static void link_unit(struct world *w, struct unit *u)
{
	for (int k = 0; k < DEP_MAX; k++) {
		const struct conf_list *l = &u->conf->deps[k];
		for (size_t i = 0; i < l->n; i++) {
			struct unit *to = map_get(&w->unit_by_name, l->v[i]);
			if (to)
				link_dep(u, to, (enum dep_kind)k);
		}
	}
}

/* ---- cycles ---- */

/* Depth-first along After= with its own stack: names come from files, so no recursion. */
struct walk {
	struct unit **stack;
	uint32_t *pos; /* the next edge of stack[i] */
	size_t n, cap, cap_pos;
	uint8_t *colour; /* by unit id: 0 new, 1 on the stack, 2 done */
};

static void walk_push(struct walk *k, struct unit *u)
{
	if (k->n >= k->cap_pos) {
		k->cap_pos = k->cap_pos ? k->cap_pos * 2 : 64;
		k->pos = xrealloc(k->pos, k->cap_pos * sizeof(*k->pos));
	}
	GROW(k->stack, k->n, k->cap);
	k->pos[k->n] = 0;
	k->stack[k->n++] = u;
	k->colour[u->id] = 1;
}

/* Finds a cycle reachable from u; true: stack[*ret_from .. n) is it, each after the next one. */
static bool walk_from(struct walk *k, struct unit *u, size_t *ret_from)
{
	k->n = 0;
	walk_push(k, u);
	while (k->n) {
		struct unit *top = k->stack[k->n - 1];
		struct unit *to = edge_next(top, &k->pos[k->n - 1], DEP_AFTER, false);
		if (!to) {
			k->colour[top->id] = 2;
			k->n--;
		} else if (!k->colour[to->id]) {
			walk_push(k, to);
		} else if (k->colour[to->id] == 1) {
			for (size_t i = 0; i < k->n; i++)
				if (k->stack[i] == to)
					*ret_from = i;
			return true;
		}
	}
	return false;
}

static bool is_hard(const struct unit *a, const struct unit *b)
{
	return edge_has(a, b, DEP_REQUIRES) || edge_has(a, b, DEP_BINDS_TO) ||
	       edge_has(a, b, DEP_REQUISITE);
}

static void break_cycle(struct world *w, struct walk *k, size_t from)
{
	size_t cut = k->n - 1;
	struct buf text = {0};
	for (size_t i = from; i < k->n; i++) {
		struct unit *a = k->stack[i], *b = k->stack[i + 1 < k->n ? i + 1 : from];
		if (!is_hard(a, b) && !is_hard(b, a))
			cut = i;
		if (i - from < 8)
			buf_printf(&text, "%s after ", a->name);
	}
	struct unit *a = k->stack[cut], *b = k->stack[cut + 1 < k->n ? cut + 1 : from];
	edge_del(a, b, DEP_AFTER, false);
	edge_del(b, a, DEP_AFTER, true);
	fx_event(w, EVENT_DEPENDENCY, a, NULL,
		"ordering cycle: %s%s%s; ignoring that %s is after %s", text.data,
		k->n - from > 8 ? "... after " : "", k->stack[from]->name, a->name, b->name);
	buf_done(&text);
}

static void break_cycles(struct world *w)
{
	struct walk k = {.colour = xcalloc(w->n_units + 1, 1)};
	for (size_t i = 0; i < w->n_units; i++) {
		size_t from = 0;
		while (!k.colour[i] && walk_from(&k, w->units[i], &from)) {
			break_cycle(w, &k, from);
			for (size_t j = 0; j < k.n; j++)
				k.colour[k.stack[j]->id] = 0;
		}
	}
	free(k.stack);
	free(k.pos);
	free(k.colour);
}

void world_link(struct world *w, struct effects *out)
{
	w->fx = out;
	for (size_t i = 0; i < w->n_units; i++)
		w->units[i]->n_edges = 0;
	for (size_t i = 0; i < w->n_units; i++)
		link_unit(w, w->units[i]);
	break_cycles(w);
	/* What some waited for may be none of theirs now; whom would its coming wake? */
	for (size_t i = 0; i < w->n_units; i++)
		if (w->units[i]->waits_for)
			unit_poke(w, w->units[i]);
	w->fx = NULL;
}

bool world_missing(const struct world *w, const char **ret_name)
{
	/* The cursor is a memory of earlier answers, not a part of what the world is. */
	struct world *memory = (struct world *)(uintptr_t)w;
	for (; memory->missing_from < w->n_units; memory->missing_from++) {
		const struct unit_conf *c = w->units[memory->missing_from]->conf;
		for (int k = 0; k < DEP_MAX; k++)
			for (size_t i = 0; i < c->deps[k].n; i++)
				if (!map_get(&w->unit_by_name, c->deps[k].v[i])) {
					*ret_name = c->deps[k].v[i];
					return true;
				}
	}
	return false;
}
