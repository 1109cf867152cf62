/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The processes core has asked for, by identity.
 *
 *  1. An entry is made before the launcher is asked and lives until keeper's report of the exit
 *     was handled (for a shim: until the shim itself is gone).
 *  2. Lookup by identity costs the same for one process and for thousands, and so does all that is
 *     asked about a unit's own processes: each unit has a list of them, and the probes have one.
 */
#include "core/inner.h"

static size_t slot_of(const struct procs *t, const struct spawn_id *id)
{
	uint64_t h;
	memcpy(&h, id->invocation, sizeof(h)); /* random by construction */
	h ^= (uint64_t)id->seq * 0x9e3779b97f4a7c15ULL;
	h ^= h >> 29;
	return (size_t)h & (t->cap - 1);
}

static bool id_eq(const struct spawn_id *a, const struct spawn_id *b)
{
	return a->seq == b->seq && memcmp(a->invocation, b->invocation, sizeof(a->invocation)) == 0;
}

static void insert(struct procs *t, struct proc *p)
{
	size_t i = slot_of(t, &p->id);
	while (t->by_id[i])
		i = (i + 1) & (t->cap - 1);
	t->by_id[i] = p;
	t->n++;
}

static void grow(struct procs *t)
{
	struct procs old = *t;
	t->cap = old.cap ? old.cap * 2 : 64;
	t->by_id = xcalloc(t->cap, sizeof(struct proc *));
	t->n = 0;
	for (size_t i = 0; i < old.cap; i++)
		if (old.by_id[i])
			insert(t, old.by_id[i]);
	free(old.by_id);
}

static void link_in(struct proc **list, struct proc *p)
{
	p->next = *list;
	p->link = list;
	if (p->next)
		p->next->link = &p->next;
	*list = p;
}

static void link_out(struct proc *p)
{
	*p->link = p->next;
	if (p->next)
		p->next->link = p->link;
}

struct proc *proc_new(
	struct procs *t, const struct spawn_id *id, enum proc_kind kind, struct unit *u)
{
	struct proc *p = proc_find(t, id);
	if (p)
		return p;
	if ((t->n + 1) * 2 > t->cap)
		grow(t);
	p = xcalloc(1, sizeof(*p));
	p->id = *id;
	p->kind = kind;
	p->unit = u;
	insert(t, p);
	link_in(kind == PROC_PROBE ? &t->probes : &uc(u)->procs, p);
	return p;
}

struct proc *proc_find(const struct procs *t, const struct spawn_id *id)
{
	if (!t->cap)
		return NULL;
	for (size_t i = slot_of(t, id); t->by_id[i]; i = (i + 1) & (t->cap - 1))
		if (id_eq(&t->by_id[i]->id, id))
			return t->by_id[i];
	return NULL;
}

/* The identity under which keeper tells the end of a process of the unit; seq 0: none yet. */
struct spawn_id proc_known_as(const struct unit *u, int32_t pid)
{
	for (const struct proc *p = uc(u)->procs; p; p = p->next)
		if (p->is_spawned && !p->has_exited && (p->tracked_pid ?: p->pid) == pid)
			return p->id;
	return (struct spawn_id){.seq = 0};
}

/* Linear: used for notifications only, after the cheaper ways have not answered. */
struct proc *proc_find_pid(const struct procs *t, int32_t pid)
{
	for (size_t i = 0; i < t->cap; i++) {
		struct proc *p = t->by_id[i];
		if (p && (p->pid == pid || (p->shim_pid && p->shim_pid == pid)))
			return p;
	}
	return NULL;
}

/* Linear: for the end below a shim that ended with it, while nobody who knew the shim was there. */
struct proc *proc_find_named(const struct procs *t, const struct spawn_id *shim, int32_t pid)
{
	for (size_t i = 0; i < t->cap; i++) {
		struct proc *p = t->by_id[i];
		if (p && p->tracked_pid == pid &&
			memcmp(p->id.invocation, shim->invocation, sizeof(shim->invocation)) == 0)
			return p;
	}
	return NULL;
}

void proc_drop(struct procs *t, struct proc *p)
{
	size_t i = slot_of(t, &p->id);
	while (t->by_id[i] != p)
		i = (i + 1) & (t->cap - 1);
	t->by_id[i] = NULL;
	t->n--;
	link_out(p);
	/* Close the gap: entries behind it in the same run are put in again. */
	for (i = (i + 1) & (t->cap - 1); t->by_id[i]; i = (i + 1) & (t->cap - 1)) {
		struct proc *moved = TAKE_PTR(t->by_id[i]);
		t->n--;
		insert(t, moved);
	}
	free(p->early);
	free(p);
}

void procs_done(struct procs *t)
{
	for (size_t i = 0; i < t->cap; i++)
		free(t->by_id[i]);
	free(t->by_id);
	memset(t, 0, sizeof(*t));
}
