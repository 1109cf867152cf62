/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Owns the table: who is alive, whose end core has yet to hear of, what it deposited.
 *
 *  1. A pid is in its chain exactly while its row is alive: a reaped pid is never found.
 *  2. A row is at most once among the news, and not used again before it left them: no overflow.
 *  3. Nothing per exit walks all rows; a new core does, and a deposit walks the deposits.
 *
 * Called by keeper/.
 */
#include "table/table.h"

#include <sys/wait.h>

#define BUCKETS      16384u
#define ORPHANS_MAX  1024
#define ORPHANS_NEAR 64 /* a word is late by a turn or two; each birth looks */

static uint16_t pid_heads[BUCKETS], pid_nexts[ROWS_MAX + 1], id_heads[BUCKETS],
	id_nexts[ROWS_MAX + 1];
static struct hash16 by_pid = {pid_heads, pid_nexts, BUCKETS - 1},
		     by_id = {id_heads, id_nexts, BUCKETS - 1};
static struct slots slots = {.nexts = id_nexts, .max = ROWS_MAX};
static struct fifo news;
static struct row orphans[ORPHANS_MAX];
static unsigned orphans_seen;
struct table table;

/* ---- rows -------------------------------------------------------------------------------------- */

static unsigned index_of(const struct row *r)
{
	return (unsigned)(r - table.row);
}

static uint64_t id_key(const struct spawn_id *id)
{
	return hash_bytes(id, sizeof(*id));
}

static void row_live(struct row *r, pid_t pid)
{
	r->pid = pid;
	r->code = 0;
	hash16_add(&by_pid, (uint64_t)pid, index_of(r));
}

struct row *row_new(enum row_kind kind, const struct spawn_id *id, pid_t pid, int code)
{
	unsigned i = slot_take(&slots);
	if (!i)
		return NULL;
	table.row[i] =
		(struct row){.kind = (uint8_t)kind, .id = *id, .code = (uint8_t)code, .pid = pid};
	hash16_add(&by_id, id_key(id), i);
	if (!code)
		row_live(&table.row[i], pid);
	return &table.row[i];
}

void row_end(struct row *r, int code, int status, uint64_t time_us)
{
	if (!r->code)
		hash16_del(&by_pid, (uint64_t)r->pid, index_of(r));
	r->code = (uint8_t)code;
	r->status = status;
	r->time_us = time_us;
}

void row_ended(struct row *r, int wait_status, uint64_t time_us)
{
	if (WIFEXITED(wait_status))
		row_end(r, CLD_EXITED, WEXITSTATUS(wait_status), time_us);
	else
		row_end(r, WCOREDUMP(wait_status) ? CLD_DUMPED : CLD_KILLED, WTERMSIG(wait_status),
			time_us);
}

void row_free(struct row *r)
{
	row_end(r, CLD_EXITED, 0, 0);
	hash16_del(&by_id, id_key(&r->id), index_of(r));
	r->kind = ROW_UNUSED;
	if (!r->is_queued)
		slot_give(&slots, index_of(r));
}

struct row *row_of_pid(pid_t pid)
{
	unsigned i = hash16_first(&by_pid, (uint64_t)pid);
	while (i && table.row[i].pid != pid)
		i = pid_nexts[i];
	return i ? &table.row[i] : NULL;
}

struct row *row_of_id(const struct spawn_id *id, const struct row *after)
{
	unsigned i = after ? id_nexts[index_of(after)] : hash16_first(&by_id, id_key(id));
	while (i && memcmp(&table.row[i].id, id, sizeof(*id)) != 0)
		i = id_nexts[i];
	return i ? &table.row[i] : NULL;
}

void rows_init(void)
{
	for (uint32_t r = ROLE_CORE; r < ROLE_MAX; r++)
		(void)row_new(ROW_ROLE, &(struct spawn_id){.seq = r}, 0, CLD_EXITED);
}

unsigned rows_high(void)
{
	return slots.high;
}

void news_add(struct row *r)
{
	if (!r->is_queued)
		fifo_put(&news, index_of(r));
	r->is_queued = 1;
}

void row_begin(struct row *r, pid_t pid, int fd)
{
	row_live(r, pid);
	r->time_us = now_mono_us();
	r->is_stale = 0;
	r->fd = fd;
	news_add(r);
}

void news_told(void)
{
	struct row *r = &table.row[fifo_take(&news)];
	r->is_queued = 0;
	if (!r->kind)
		slot_give(&slots, index_of(r)); /* freed meanwhile */
}

struct row *news_head(void)
{
	return fifo_head(&news) ? &table.row[fifo_head(&news)] : NULL;
}

void news_all(void)
{
	while (news_head())
		news_told();
	for (unsigned i = 1; i <= slots.high; i++)
		if (table.row[i].kind)
			news_add(&table.row[i]);
}

/* ---- words --------------------------------------------------------------------------------------- */

/* The newest n are looked at. */
static const struct row *orphan_among(pid_t pid, unsigned n)
{
	for (unsigned i = 1; i <= n; i++)
		if (orphans[(orphans_seen - i) % ORPHANS_MAX].pid == pid)
			return &orphans[(orphans_seen - i) % ORPHANS_MAX];
	return NULL;
}

struct row *row_born(const struct spawn_id *id, pid_t pid)
{
	struct row *r = row_of_pid(pid);
	if (r && r->kind != ROW_TRACKED)
		return r; /* said it twice */
	if (r)
		row_free(r); /* a main that ended elsewhere: its pid was used again */
	r = row_new(ROW_CHILD, id, pid, 0);
	const struct row *o = r ? orphan_among(pid, ORPHANS_NEAR) : NULL;
	if (o && !is_ours(pid)) /* its word could not be read when it was reaped */
		row_ended(r, o->status, o->time_us);
	return r;
}

void row_below(const struct kp_frame *f, pid_t shim)
{
	struct row *r = row_of_id(&f->id, NULL);
	while (r && !(r->kind == ROW_CHILD && r->pid == shim))
		r = row_of_id(&f->id, r);
	if (!r)
		return; /* not the shim of that id */
	if (f->kind == KP_SHIM_MAIN) {
		r->program = f->pid;
	} else if ((r = row_new(ROW_BELOW, &f->id, f->pid, CLD_EXITED))) {
		bool is_end = f->code >= CLD_EXITED && f->code <= CLD_DUMPED;
		row_end(r, is_end ? f->code : CLD_EXITED, f->status, now_mono_us());
		news_add(r);
	}
}

void row_forget(const struct kp_frame *f, int *fd UNUSED)
{
	struct row *r = row_of_id(&f->id, NULL), *next;
	for (; r; r = next) {
		next = row_of_id(&f->id, r);
		bool is_done = r->code && !r->is_queued && r->kind != ROW_ROLE;
		if (f->pid ? f->pid == r->pid && (is_done || r->kind == ROW_TRACKED) : is_done)
			row_free(r);
	}
}

/* ---- orphans and deposits ---------------------------------------------------------------------- */

void orphan_add(pid_t pid, int wait_status)
{
	orphans[orphans_seen++ % ORPHANS_MAX] =
		(struct row){.pid = pid, .status = wait_status, .time_us = now_mono_us()};
}

const struct row *orphan_find(pid_t pid)
{
	return orphan_among(pid, ORPHANS_MAX);
}

int deposit_put(const char *name, int fd)
{
	struct deposit *d = table.deposit, *unused = NULL, *end = d + table.n_deposits;
	for (; d < end && !(d->fd && streq(d->name, name)); d++)
		if (!d->fd && !unused)
			unused = d;
	if (d == end && unused)
		d = unused;
	if (d == table.deposit + KEEPER_FDS_MAX || !name[0])
		return name[0] ? -ENOSPC : -EINVAL;
	closing_begin(); /* a service may have stored it */
	drop_fd(&d->fd);
	closing_end();
	d->fd = fd;
	str_copy(d->name, name, sizeof(d->name));
	table.n_deposits += d == end;
	return 0;
}
