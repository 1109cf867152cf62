/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Owns the children core knows of, the descriptors it deposited, and the last orphans.
 *
 *  1. Fixed arrays in zeroed memory: a page costs nothing until its rows are used.
 *  2. A pid is in the pid chain exactly while its row is alive: a reaped pid is never found.
 *  3. Nothing here walks all rows, except once for a new core (row_at) and at a re-exec.
 *
 * Called by keeper.c (exits, requests), links.c (telling core) and reexec.c.
 */
#include "private.h"

#define BUCKETS      16384u
#define NAME_BUCKETS 4096u

static struct row rows[KEEPER_CHILDREN_MAX + 1];
static struct deposit deposits[KEEPER_FDS_MAX + 1];
static struct orphan orphans[ORPHANS_MAX];
static uint16_t by_pid[BUCKETS], by_id[BUCKETS], by_name[NAME_BUCKETS];
static uint16_t high, free_first, deposit_high, deposit_free_first, queue_first, queue_last;
static unsigned alive, orphans_seen;

static uint16_t *pid_chain(pid_t pid)
{
	return &by_pid[(unsigned)pid % BUCKETS];
}

static uint16_t *id_chain(const struct spawn_id *id)
{
	return &by_id[hash_bytes(id, sizeof(*id)) % BUCKETS];
}

static void pid_unlink(struct row *r)
{
	uint16_t *p = pid_chain(r->pid);
	while (*p && &rows[*p] != r)
		p = &rows[*p].pid_next;
	if (*p)
		*p = r->pid_next;
}

static void id_unlink(struct row *r)
{
	uint16_t *p = id_chain(&r->id);
	while (*p && &rows[*p] != r)
		p = &rows[*p].id_next;
	if (*p)
		*p = r->id_next;
}

static void row_link(struct row *r)
{
	uint16_t *p = id_chain(&r->id);
	r->id_next = *p;
	*p = (uint16_t)row_index(r);
	if (r->code)
		return;
	p = pid_chain(r->pid);
	r->pid_next = *p;
	*p = (uint16_t)row_index(r);
	alive++;
}

struct row *row_new(enum row_kind kind, const struct spawn_id *id, pid_t pid)
{
	uint16_t i = free_first;
	if (i)
		free_first = rows[i].id_next;
	else if (high < KEEPER_CHILDREN_MAX)
		i = ++high;
	else
		return NULL;
	rows[i] = (struct row){.kind = (uint8_t)kind, .id = *id, .pid = pid};
	if (kind == ROW_BELOW)
		rows[i].code = CLD_EXITED; /* never alive; the caller says how it ended */
	row_link(&rows[i]);
	return &rows[i];
}

void row_free(struct row *r)
{
	if (!r->code) {
		pid_unlink(r);
		alive--;
	}
	queue_remove(r);
	id_unlink(r);
	*r = (struct row){.id_next = free_first};
	free_first = (uint16_t)row_index(r);
}

struct row *row_of_pid(pid_t pid)
{
	for (uint16_t i = *pid_chain(pid); i; i = rows[i].pid_next)
		if (rows[i].pid == pid)
			return &rows[i];
	return NULL;
}

struct row *row_of_id(const struct spawn_id *id, const struct row *after)
{
	for (uint16_t i = after ? after->id_next : *id_chain(id); i; i = rows[i].id_next)
		if (memcmp(&rows[i].id, id, sizeof(*id)) == 0)
			return &rows[i];
	return NULL;
}

void row_end(struct row *r, int code, int status, uint64_t time_us)
{
	if (!r->code) {
		pid_unlink(r);
		alive--;
	}
	r->code = (uint8_t)code;
	r->status = status;
	r->time_us = time_us;
}

struct row *row_at(unsigned index)
{
	return &rows[index];
}

unsigned row_index(const struct row *r)
{
	return (unsigned)(r - rows);
}

unsigned rows_high(void)
{
	return high;
}

unsigned rows_alive(void)
{
	return alive;
}

void queue_add(struct row *r)
{
	if (r->is_queued)
		return;
	r->is_queued = 1;
	r->queue_next = 0;
	r->queue_prev = queue_last;
	*(queue_last ? &rows[queue_last].queue_next : &queue_first) = (uint16_t)row_index(r);
	queue_last = (uint16_t)row_index(r);
}

void queue_remove(struct row *r)
{
	if (!r->is_queued)
		return;
	r->is_queued = 0;
	*(r->queue_prev ? &rows[r->queue_prev].queue_next : &queue_first) = r->queue_next;
	*(r->queue_next ? &rows[r->queue_next].queue_prev : &queue_last) = r->queue_prev;
}

struct row *queue_head(void)
{
	return queue_first ? &rows[queue_first] : NULL;
}

void queue_clear(void)
{
	while (queue_first)
		queue_remove(&rows[queue_first]);
}

/* ---- deposits ---------------------------------------------------------------------------------- */

/* The link that points to the deposit of that name, or the 0 at the end of its chain. */
static uint16_t *deposit_find(const char *name)
{
	uint16_t *p = &by_name[hash_bytes(name, strlen(name)) % NAME_BUCKETS];
	while (*p && !streq(deposits[*p].name, name))
		p = &deposits[*p].next;
	return p;
}

int deposit_put(const char *name, int fd)
{
	if (!name[0])
		return -EINVAL;
	uint16_t *p = deposit_find(name), i = *p;
	if (i) {
		fd_close(deposits[i].fd);
		deposits[i].fd = fd;
		return 0;
	}
	i = deposit_free_first;
	if (i)
		deposit_free_first = deposits[i].next;
	else if (deposit_high < KEEPER_FDS_MAX)
		i = ++deposit_high;
	else
		return -ENOSPC;
	deposits[i].fd = fd;
	deposits[i].next = 0;
	str_copy(deposits[i].name, name, sizeof(deposits[i].name));
	*p = i;
	return 0;
}

int deposit_drop(const char *name)
{
	uint16_t *p = deposit_find(name), i = *p;
	if (!i)
		return -ENOENT;
	*p = deposits[i].next;
	fd_close(deposits[i].fd);
	deposits[i] = (struct deposit){.next = deposit_free_first};
	deposit_free_first = i;
	return 0;
}

struct deposit *deposit_at(unsigned index)
{
	return &deposits[index];
}

unsigned deposits_high(void)
{
	return deposit_high;
}

/* ---- orphans ----------------------------------------------------------------------------------- */

void orphan_add(pid_t pid, int wait_status, uint64_t time_us)
{
	orphans[orphans_seen++ % ORPHANS_MAX] = (struct orphan){pid, wait_status, time_us};
}

const struct orphan *orphan_find(pid_t pid)
{
	for (unsigned i = 1; i <= ORPHANS_MAX; i++) {
		const struct orphan *o = &orphans[(orphans_seen - i) % ORPHANS_MAX];
		if (o->pid == pid)
			return o;
	}
	return NULL;
}

/* ---- carried over a re-exec ------------------------------------------------------------------------ */

size_t table_save(int fd)
{
	uint32_t counts[2] = {high, deposit_high};
	size_t rows_size = high * sizeof(rows[0]), size = deposit_high * sizeof(deposits[0]);
	if (write_all(fd, counts, sizeof(counts)) < 0 || write_all(fd, rows + 1, rows_size) < 0 ||
		write_all(fd, deposits + 1, size) < 0)
		return 0;
	return sizeof(counts) + rows_size + size;
}

int table_load(const void *data, size_t size)
{
	uint32_t counts[2];
	if (size < sizeof(counts))
		return -EBADMSG;
	memcpy(counts, data, sizeof(counts));
	if (counts[0] > KEEPER_CHILDREN_MAX || counts[1] > KEEPER_FDS_MAX ||
		size != sizeof(counts) + counts[0] * sizeof(rows[0]) +
				counts[1] * sizeof(deposits[0]))
		return -EBADMSG;
	const char *p = (const char *)data + sizeof(counts);
	for (uint32_t i = 0; i < counts[0]; i++) {
		struct row r;
		memcpy(&r, p + i * sizeof(r), sizeof(r));
		struct row *n = r.kind ? row_new(r.kind, &r.id, r.pid) : NULL;
		if (!n)
			continue;
		n->program = r.program;
		if (r.code)
			row_end(n, r.code, r.status, r.time_us);
	}
	p += counts[0] * sizeof(rows[0]);
	for (uint32_t i = 0; i < counts[1]; i++) {
		struct deposit d;
		memcpy(&d, p + i * sizeof(d), sizeof(d));
		d.name[KP_NAME_MAX - 1] = '\0';
		if (d.fd > STDERR_FILENO && fd_set_cloexec(d.fd, true) == 0)
			(void)deposit_put(d.name, d.fd);
	}
	return 0;
}
