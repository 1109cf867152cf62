/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Owns the rows: who is alive, whose end core has yet to hear of, and what it may ask about them.
 *
 *  1. A pid is in its chain exactly while its row is alive: a reaped pid is never found, and only
 *     who is found, and ours, is signalled.
 *  2. A child speaks (KP_BORN) before its exec, so before its exit. Whoever is reaped unknown has
 *     its word waiting in the words link, or never was anybody's: an orphan.
 *  3. Every exit of a known child is told to every core until one says KP_FORGET.
 *  4. A row is at most once among the news, and not used again before it left them: no overflow.
 *  5. Nothing per exit walks all rows; only a new core does.
 */
#include "private.h"

#include <sys/wait.h>

#define BUCKETS     16384u
#define ORPHANS_MAX 1024 /* kept for a KP_TRACK that comes after the exit */

static uint16_t pid_heads[BUCKETS], pid_nexts[ROWS_MAX + 1], id_heads[BUCKETS],
	id_nexts[ROWS_MAX + 1];
static struct chain by_pid = {pid_heads, pid_nexts, BUCKETS - 1},
		    by_id = {id_heads, id_nexts, BUCKETS - 1};
static struct slots slots = {.nexts = id_nexts, .max = ROWS_MAX};
static struct fifo news;
static struct row orphans[ORPHANS_MAX];
static unsigned orphans_seen;

/* ---- rows -------------------------------------------------------------------------------------- */

static unsigned index_of(const struct row *r)
{
	return (unsigned)(r - K.row);
}

static uint64_t id_key(const struct spawn_id *id)
{
	return hash_bytes(id, sizeof(*id));
}

void row_begin(struct row *r, pid_t pid)
{
	r->pid = pid;
	r->code = 0;
	chain_add(&by_pid, (uint64_t)pid, index_of(r));
}

struct row *row_new(enum row_kind kind, const struct spawn_id *id, pid_t pid, int code)
{
	unsigned i = slot_take(&slots);
	if (!i)
		return NULL;
	K.row[i] =
		(struct row){.kind = (uint8_t)kind, .id = *id, .code = (uint8_t)code, .pid = pid};
	chain_add(&by_id, id_key(id), i);
	if (!code)
		row_begin(&K.row[i], pid);
	return &K.row[i];
}

void row_end(struct row *r, int code, int status, uint64_t time_us)
{
	if (!r->code)
		chain_del(&by_pid, (uint64_t)r->pid, index_of(r));
	r->code = (uint8_t)code;
	r->status = status;
	r->time_us = time_us;
}

void row_free(struct row *r)
{
	row_end(r, CLD_EXITED, 0, 0);
	chain_del(&by_id, id_key(&r->id), index_of(r));
	r->kind = ROW_UNUSED;
	if (!r->is_queued)
		slot_give(&slots, index_of(r));
}

struct row *row_of_pid(pid_t pid)
{
	unsigned i = chain_first(&by_pid, (uint64_t)pid);
	while (i && K.row[i].pid != pid)
		i = pid_nexts[i];
	return i ? &K.row[i] : NULL;
}

struct row *row_of_id(const struct spawn_id *id, const struct row *after)
{
	unsigned i = after ? id_nexts[index_of(after)] : chain_first(&by_id, id_key(id));
	while (i && memcmp(&K.row[i].id, id, sizeof(*id)) != 0)
		i = id_nexts[i];
	return i ? &K.row[i] : NULL;
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

void news_told(void)
{
	struct row *r = &K.row[fifo_take(&news)];
	r->is_queued = 0;
	if (!r->kind)
		slot_give(&slots, index_of(r)); /* freed meanwhile */
}

struct row *news_head(void)
{
	return fifo_head(&news) ? &K.row[fifo_head(&news)] : NULL;
}

void news_all(void)
{
	while (news_head())
		news_told();
	for (unsigned i = 1; i <= slots.high; i++)
		if (K.row[i].kind)
			news_add(&K.row[i]);
}

/* ---- births and ends ----------------------------------------------------------------------------- */

bool is_ours(pid_t pid)
{
	siginfo_t info;
	return waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT | __WALL) == 0;
}

static void row_ended(struct row *r, int wait_status, uint64_t time_us)
{
	if (WIFEXITED(wait_status))
		row_end(r, CLD_EXITED, WEXITSTATUS(wait_status), time_us);
	else
		row_end(r, WCOREDUMP(wait_status) ? CLD_DUMPED : CLD_KILLED, WTERMSIG(wait_status),
			time_us);
}

void child_ended(pid_t pid, int wait_status)
{
	struct row *r;
	while (!(r = row_of_pid(pid)) && words_read_one())
		; /* one by one: behind its word may wait that of the next owner of this pid */
	if (!r) {
		orphans[orphans_seen++ % ORPHANS_MAX] =
			(struct row){.pid = pid, .status = wait_status, .time_us = now_boot_us()};
		return;
	}
	row_ended(r, wait_status, now_boot_us());
	if (r->kind == ROW_ROLE)
		role_ended((enum role)r->id.seq, wait_status);
	while (r->kind == ROW_CHILD && words_read_one())
		; /* a shim's last words come before its own exit */
	news_add(r);
}

static void child_born(const struct kp_frame *f, pid_t pid)
{
	struct row *r = row_of_pid(pid);
	if (r && r->kind != ROW_TRACKED)
		return; /* said it twice */
	if (r)
		row_free(r); /* a main that ended elsewhere: its pid was used again */
	r = row_new(ROW_CHILD, &f->id, pid, 0);
	if (!r) /* runs on, but its exit is an orphan's */
		core_refuse(KP_BORN, -ENOSPC, &(struct kp_frame){.id = f->id, .pid = pid});
	else if (!K.is_welcome)
		news_add(r); /* asked for by the core before this one */
}

/* A shim's word: which of those below is the program (for a core that never hears the launcher's
 * word), or that one of them ended. */
static void child_below(const struct kp_frame *f, pid_t shim)
{
	struct row *r = row_of_id(&f->id, NULL);
	while (r && !(r->kind == ROW_CHILD && r->pid == shim))
		r = row_of_id(&f->id, r);
	if (!r)
		return; /* not the shim of that id */
	if (f->kind == KP_SHIM_MAIN) {
		r->program = f->pid;
	} else if ((r = row_new(ROW_BELOW, &f->id, f->pid, CLD_EXITED))) {
		row_end(r, f->code ? f->code : CLD_EXITED, f->status, now_boot_us());
		news_add(r);
	}
}

/* Words of nobody, or of a later version, are not heard. */
void child_said(const struct kp_frame *f, pid_t pid)
{
	if (pid > 0 && f->kind == KP_BORN)
		child_born(f, pid);
	else if (pid > 0 && (f->kind == KP_SHIM_EXIT || f->kind == KP_SHIM_MAIN))
		child_below(f, pid);
}

/* ---- what core asks ------------------------------------------------------------------------------ */

void child_track(const struct kp_frame *f, int *fd UNUSED)
{
	struct row *r = row_of_pid(f->pid), *o = NULL;
	if (r && memcmp(&r->id, &f->id, sizeof(f->id)) == 0)
		return;
	bool is_gone = !is_ours(f->pid) && kill(f->pid, 0) < 0 && errno == ESRCH;
	for (unsigned i = 0; is_gone && i < ORPHANS_MAX; i++) /* it was faster than core */
		if (orphans[i].pid == f->pid && (!o || o->time_us < orphans[i].time_us))
			o = &orphans[i];
	int e = r ? -EEXIST : f->pid <= 1 || f->pid == getpid() ? -EINVAL : 0;
	if (e == 0 && !(r = row_new(ROW_TRACKED, &f->id, f->pid, 0)))
		e = -ENOSPC;
	if (e < 0) {
		core_refuse(KP_TRACK, e, f);
	} else if (o) {
		row_ended(r, o->status, o->time_us);
		news_add(r);
	}
}

void child_signal(const struct kp_frame *f, int *fd UNUSED)
{
	struct row *to = NULL;
	do
		for (struct row *r = NULL; (r = row_of_id(&f->id, r));)
			if (!r->code && (!f->pid || f->pid == r->pid) &&
				(!to || r->kind == ROW_CHILD))
				to = r;
	while (!to && words_read_one()); /* core may know of it before we read its word */
	if (!to || !is_ours(to->pid))
		core_refuse(KP_SIGNAL, -ESRCH, f);
	else if (kill(to->pid, f->status) < 0)
		core_refuse(KP_SIGNAL, -errno, f);
	else if (f->code)
		(void)kill(to->pid, f->code);
}

/* With a pid: that row. Without: every exit of the id that core has been told. */
void child_forget(const struct kp_frame *f, int *fd UNUSED)
{
	struct row *r = row_of_id(&f->id, NULL), *next;
	for (; r; r = next) {
		next = row_of_id(&f->id, r);
		bool is_done = r->code && !r->is_queued && r->kind != ROW_ROLE;
		if (f->pid ? f->pid == r->pid && (is_done || r->kind == ROW_TRACKED) : is_done)
			row_free(r);
	}
}
