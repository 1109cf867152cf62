/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What keeper held for us while there was no core: its children and the deposited descriptors, given to
 * the units whose records name them.
 *
 *  1. Every process that a record names is entered before the model goes on: its first step may be to
 *     kill it, or to start others.
 *  2. A child that no record names, and that nobody claims (adopt.c), is killed.
 *
 * Filled by keeper.c before WELCOME; the rest is called by main.c, coming up.
 */
#include "core/inner.h"

#include <signal.h>
#include <sys/stat.h>

/* What keeper told before WELCOME, kept until the records are restored. */
static struct kp_frame *known;
static size_t n_known, cap_known;
static struct deposit {
	char name[KP_NAME_MAX];
	int fd;
} * deposits;
static size_t n_deposits, cap_deposits;

void keeper_unlearn(void)
{
	for (size_t i = 0; i < n_deposits; i++)
		fd_close(deposits[i].fd);
	n_known = n_deposits = 0;
}

void keeper_know(const struct kp_frame *f)
{
	GROW(known, n_known, cap_known);
	known[n_known++] = *f;
}

void deposit_keep(const char *name, int fd)
{
	GROW(deposits, n_deposits, cap_deposits);
	str_copy(deposits[n_deposits].name, name, KP_NAME_MAX);
	deposits[n_deposits++].fd = fd;
}

int deposit_take(const char *name)
{
	for (size_t i = 0; i < n_deposits; i++)
		if (deposits[i].fd >= 0 && streq(deposits[i].name, name))
			return TAKE_FD(deposits[i].fd);
	return -1;
}

int deposit_take_like(const char *prefix, char ret_name[KP_NAME_MAX])
{
	for (size_t i = 0; i < n_deposits; i++)
		if (deposits[i].fd >= 0 && startswith(deposits[i].name, prefix)) {
			str_copy(ret_name, deposits[i].name, KP_NAME_MAX);
			return TAKE_FD(deposits[i].fd);
		}
	return -1;
}

/* "log/<slot>" and "fds/<number>/<slot>/<name>" find their units by the slots of their records. */
static void take_deposit(struct core *c, struct deposit *d, struct unit **by_slot)
{
	unsigned number, slot;
	int used = 0;
	if (adopt_deposit(c, d->name, d->fd))
		d->fd = -1;
	else if (sscanf(d->name, "log/%u%n", &slot, &used) == 1 && !d->name[used]) {
		if (slot < c->n_slots && by_slot[slot])
			logger_adopt(c, by_slot[slot], TAKE_FD(d->fd));
	} else if (sscanf(d->name, "fds/%u/%u/%n", &number, &slot, &used) == 2 && used) {
		if (slot < c->n_slots && by_slot[slot])
			fdstore_restore(c, by_slot[slot], number, d->name + used, TAKE_FD(d->fd));
	}
	if (d->fd >= 0) { /* of a unit that is no more */
		keeper_drop(c, d->name);
		d->fd = fd_close(d->fd);
	}
}

static void adopt_deposits(struct core *c)
{
	CLEANUP_FREE struct unit **by_slot = xcalloc(c->n_slots + 1, sizeof(*by_slot));
	for (size_t i = 0; i < c->world->n_units; i++)
		if (uc(c->world->units[i])->slot < c->n_slots)
			by_slot[uc(c->world->units[i])->slot] = c->world->units[i];
	for (size_t i = 0; i < n_deposits; i++)
		if (deposits[i].fd >= 0)
			take_deposit(c, &deposits[i], by_slot);
	free(TAKE_PTR(deposits));
	n_deposits = cap_deposits = 0;
}

/* Keeper's list, sorted once: looked up for each process that a record names. Of one identity the
 * last row comes first: what ended below a shim is told before the shim's own end. */
static int by_row(const void *a, const void *b)
{
	const struct kp_frame *x = a, *y = b;
	int r = memcmp(&x->id, &y->id, sizeof(x->id));
	return r ? r : (int)y->role - (int)x->role;
}

static const struct kp_frame *known_child(const struct spawn_id *id, enum kp_row row)
{
	struct kp_frame key = {.id = *id, .role = (uint16_t)row};
	const struct kp_frame *k =
		n_known ? bsearch(&key, known, n_known, sizeof(*known), by_row) : NULL;
	return k; /* or its KP_EXITED: of one that ended while the list was told there are two */
}

/* The record was written, and the launcher was not asked or did not get to it; or it got to it in
 * its last moment: the child may not have told keeper yet, so keeper is asked again first. */
static void adopt_unknown(struct core *c, struct unit *u, const struct spawn_id *id, int32_t pid)
{
	if (!pid)
		pid = id->seq == u->rec.main.seq ? uc(u)->left_by_main : uc(u)->left_by_control;
	if (c->is_launcher_synced || pid) {
		struct event lost = {.kind = EV_EXITED, .unit = u, .id = *id, .pid = pid};
		core_step(c, &lost);
		return;
	}
	struct proc *p = proc_new(&c->procs, id, PROC_UNIT, u);
	p->is_shimmed = !c->cgroup_base;
	p->is_doubtful = true;
	launcher_relist_later(c);
}

/* A process that a record speaks of and keeper knows is entered before the model goes on: what it
 * does first may be to kill it. A main that was named, and whose core did not live to tell keeper,
 * keeper is told of now. */
static void adopt_enter(struct core *c, struct unit *u, const struct spawn_id *id, int32_t pid)
{
	const struct kp_frame *child = known_child(id, KP_ROW_CHILD),
			      *tracked = known_child(id, KP_ROW_TRACKED);
	if (!child && !tracked) {
		if (pid && id == &u->rec.main && adopt_is_main(c, u))
			main_pid_changed(c, u, pid);
		return;
	}
	struct proc *p = proc_new(&c->procs, id, PROC_UNIT, u);
	p->is_shimmed = !c->cgroup_base;
	p->child_gone = !child;
	if (child)
		(void)proc_take_pids(p, child);
	p->tracked_pid = tracked ? tracked->pid : 0;
	if (tracked || pid)
		p->pid = tracked ? tracked->pid : pid;
	p->is_spawned = p->pid != 0;
}

/* And the model hears of it afterwards: that it runs, or never did. */
static void adopt_tell(struct core *c, struct unit *u, const struct spawn_id *id, int32_t pid)
{
	const struct kp_frame *child = known_child(id, KP_ROW_CHILD);
	struct proc *p = proc_find(&c->procs, id);
	if (!p) {
		adopt_unknown(c, u, id, pid);
		return;
	}
	/* Without a child: two records name one identity, and the other's is not known either. */
	if (!p->is_spawned && !(child && child->code))
		launcher_relist_later(c);
	if (!pid && p->pid && !(child && child->code)) {
		struct event ev = {.kind = EV_SPAWNED, .unit = u, .id = *id, .pid = p->pid};
		record_window(p);
		core_step(c, &ev);
	}
}

/* What the records say runs, taken before the model goes on: its first step may start others. */
static struct recorded {
	struct unit *unit;
	struct spawn_id id;
	int32_t pid;
} * recorded;
static size_t n_recorded, cap_recorded;

static void remember(struct core *c, struct unit *u, const struct spawn_id *id, int32_t pid)
{
	if (!id->seq)
		return;
	GROW(recorded, n_recorded, cap_recorded);
	recorded[n_recorded++] = (struct recorded){u, *id, pid};
	adopt_enter(c, u, id, pid);
}

/* A shim whose program has ended, for what it left behind. */
void keeper_keep_shim(struct core *c, struct unit *u, const struct spawn_id *id, pid_t shim)
{
	struct proc *p = proc_new(&c->procs, id, PROC_UNIT, u);
	p->is_shimmed = p->is_spawned = p->has_exited = true;
	p->shim_pid = shim;
}

/* What the service was started with, now that another process is its main one. */
void keeper_keep_former(struct core *c, struct unit *u, const struct kp_frame *f)
{
	struct proc *p = proc_new(&c->procs, &f->id, PROC_UNIT, u);
	p->is_spawned = true;
	p->pid = f->pid;
}

/* Living children of keeper that no record names: which are kept all the same? */
static void adopt_strays(struct core *c)
{
	CLEANUP_FREE bool *is_recorded = xcalloc(n_known + 1, sizeof(*is_recorded));
	for (size_t i = 0; i < c->world->n_units; i++) {
		const struct unit_rec *r = &c->world->units[i]->rec;
		const struct spawn_id *ids[] = {&r->main, &r->control};
		for (size_t j = 0; j < ARRAY_SIZE(ids); j++) {
			const struct kp_frame *k =
				ids[j]->seq ? known_child(ids[j], KP_ROW_CHILD) : NULL;
			if (k)
				is_recorded[k - known] = true;
			uc(c->world->units[i])->has_main |= k && j == 0 && !k->code;
		}
	}
	for (size_t i = 0; i < n_known; i++)
		if (known[i].kind == KP_CHILD && !known[i].code && !is_recorded[i])
			(void)adopt_stray(c, &known[i]);
}

/* Which uid a DynamicUser= has is not recorded: its process is asked, before anything is started. */
static void hold_user(const struct unit *u)
{
	char path[32];
	struct stat st;
	if (!u->rec.main_pid || !u->conf->exec.identity.dynamic_user)
		return;
	snprintf(path, sizeof(path), "/proc/%d", (int)u->rec.main_pid);
	if (stat(path, &st) == 0)
		launch_hold_dynamic(u->conf, st.st_uid);
}

void keeper_adopt_begin(struct core *c)
{
	adopt_deposits(c);
	if (n_known)
		qsort(known, n_known, sizeof(*known), by_row);
	adopt_strays(c);
	for (size_t i = 0; i < c->world->n_units; i++) {
		struct unit *u = c->world->units[i];
		remember(c, u, &u->rec.main, u->rec.main_pid);
		remember(c, u, &u->rec.control, u->rec.control_pid);
		hold_user(u);
	}
}

void keeper_adopt(struct core *c)
{
	for (size_t i = 0; i < n_recorded; i++)
		adopt_tell(c, recorded[i].unit, &recorded[i].id, recorded[i].pid);
	free(TAKE_PTR(recorded));
	n_recorded = cap_recorded = 0;
	launcher_replay(c);
	/* Exits that waited in keeper, and children that no record knows. */
	for (size_t i = 0; i < n_known; i++) {
		struct kp_frame *k = &known[i];
		if (k->kind == KP_GOT) {
			keeper_signalled(c, k->status);
		} else if (k->kind == KP_EXITED || k->code) {
			keeper_child_exited(c, k);
		} else if (!proc_find(&c->procs, &k->id) && k->role == KP_ROW_TRACKED) {
			/* The main of before the present one. It is in the unit's cgroup or tree, and
			 * the pid may be another's by now. */
			keeper_forget(c, &k->id, k->pid);
		} else if (!proc_find(&c->procs, &k->id)) {
			log_warn(NULL, "pid %d has no record: killing it", k->pid);
			keeper_signal(c, &k->id, SIGKILL);
		}
	}
	free(TAKE_PTR(known));
	n_known = cap_known = 0;
	launcher_words_lost(c);
}
