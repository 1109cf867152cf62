/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading a plan: the launcher's only parser. Core writes plans (plan.c), the launcher trusts none.
 *
 *  1. After plan_check() every offset, count and string of the plan lies inside it, so that
 *     nobody below looks at a bound again.
 *  2. Enumerations and flags are in range: an unknown step is refused here, not skipped there.
 *  3. plan_relocate() writes only slots that plan_check() has seen; nothing else points into argv
 *     or envp (spans that overlap them are refused).
 */
#include "parts.h"

#include <linux/filter.h>
#include <sched.h>

#define NAMESPACES_ALLOWED                                                                         \
	(CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWUSER)

uint32_t plan_sum(const struct plan *p, size_t size)
{
	size_t i = offsetof(struct plan, sum) + sizeof(p->sum);
	uint64_t h = 0x9e3779b97f4a7c15ULL ^ size;
	for (; i + 8 <= size; i += 8) {
		uint64_t w;
		memcpy(&w, (const char *)p + i, 8);
		h = (h ^ w) * 0xff51afd7ed558ccdULL;
		h ^= h >> 32;
	}
	return (uint32_t)(h ^ (h >> 29));
}

struct checker {
	const struct plan *p;
	uint32_t slots_from, slots_to; /* argv and envp: two ranges */
	uint32_t slots2_from, slots2_to;
};

static bool is_span(
	const struct checker *k, const struct plan_span *s, size_t size, size_t align, size_t max)
{
	uint64_t end = (uint64_t)s->off + (uint64_t)s->n * size;
	if (s->n == 0)
		return s->off == 0;
	if (s->n > max || s->off < sizeof(struct plan) || s->off % align || end > k->p->size)
		return false;
	return (end <= k->slots_from || s->off >= k->slots_to) &&
	       (end <= k->slots2_from || s->off >= k->slots2_to);
}

static bool is_string(const struct checker *k, uint32_t off)
{
	if (off < sizeof(struct plan) || off >= k->p->size)
		return false;
	const char *s = (const char *)k->p + off;
	size_t room = k->p->size - off, n = strnlen(s, room);
	if (n == room)
		return false;
	/* A string never reaches into slots: relocating would change it under its user. */
	return (off + n < k->slots_from || off >= k->slots_to) &&
	       (off + n < k->slots2_from || off >= k->slots2_to);
}

static bool is_string_or_none(const struct checker *k, uint32_t off)
{
	return off == 0 || is_string(k, off);
}

static bool are_slots(const struct plan *p, const struct plan_span *s)
{
	uint64_t end = (uint64_t)s->off + ((uint64_t)s->n + 1) * 8;
	if (s->n > PLAN_WORDS_MAX || s->off < sizeof(struct plan) || s->off % 8 || end > p->size)
		return false;
	uint64_t last;
	memcpy(&last, (const char *)p + s->off + (size_t)s->n * 8, 8);
	return last == 0;
}

/* Slot strings are checked in bulk: a plan may hold half a million of them, and strnlen() from each
 * to its end must not become quadratic, so their total length is bounded by the plan's size. */
static bool are_slot_strings(const struct checker *k, const struct plan_span *s)
{
	uint64_t total = 0;
	for (uint32_t i = 0; i < s->n; i++) {
		uint64_t off;
		memcpy(&off, (const char *)k->p + s->off + (size_t)i * 8, 8);
		if (off > UINT32_MAX || !is_string(k, (uint32_t)off))
			return false;
		total += strlen((const char *)k->p + off) + 1;
		if (total > k->p->size)
			return false;
	}
	return true;
}

static bool are_strings(const struct checker *k, const struct plan_span *s, size_t max)
{
	if (!is_span(k, s, 4, 4, max))
		return false;
	const uint32_t *v = (const void *)((const char *)k->p + s->off);
	for (uint32_t i = 0; i < s->n; i++)
		if (!is_string(k, v[i]))
			return false;
	return true;
}

static bool are_pid_slots(const struct checker *k)
{
	if (!is_span(k, &k->p->pid_slots, 4, 4, PLAN_PID_SLOTS_MAX))
		return false;
	const uint32_t *v = (const void *)((const char *)k->p + k->p->pid_slots.off);
	for (uint32_t i = 0; i < k->p->pid_slots.n; i++)
		if (!is_string(k, v[i]) || strlen((const char *)k->p + v[i]) != PLAN_PID_DIGITS)
			return false;
	return true;
}

static bool are_dirs(const struct checker *k)
{
	if (!is_span(k, &k->p->dirs, sizeof(struct plan_dir), 4, PLAN_DIRS_MAX))
		return false;
	const struct plan_dir *d = (const void *)((const char *)k->p + k->p->dirs.off);
	for (uint32_t i = 0; i < k->p->dirs.n; i++, d++)
		if (d->kind >= DIR_KIND_MAX || !is_string(k, d->root) || !is_string(k, d->name) ||
			!is_string_or_none(k, d->link) || d->mode > 07777)
			return false;
	return true;
}

static bool are_mounts(const struct checker *k)
{
	if (!is_span(k, &k->p->mounts, sizeof(struct plan_mount), 4, PLAN_MOUNTS_MAX))
		return false;
	const struct plan_mount *m = (const void *)((const char *)k->p + k->p->mounts.off);
	for (uint32_t i = 0; i < k->p->mounts.n; i++, m++) {
		bool has_source =
			m->op == MOUNT_BIND || m->op == MOUNT_BIND_RO || m->op == MOUNT_PRIVATE_TMP;
		if (m->op >= MOUNT_OP_MAX || (m->flags & ~(uint32_t)MOUNT_FLAGS_ALL) ||
			!is_string(k, m->dst) || !is_string_or_none(k, m->src) ||
			(has_source && !m->src))
			return false;
	}
	return true;
}

static bool are_streams(const struct checker *k)
{
	for (int i = 0; i < 3; i++) {
		const struct plan_stream *s = &k->p->std[i];
		if (s->from >= PLAN_STD_MAX || !is_string_or_none(k, s->path))
			return false;
		if ((s->from == PLAN_STD_OPEN || s->from == PLAN_STD_TTY) && !s->path)
			return false;
		if (s->from == PLAN_STD_PREVIOUS && i == 0)
			return false;
	}
	return true;
}

int plan_check(const struct plan *p, size_t size)
{
	if (size < sizeof(*p) || size % 8 || size > UINT32_MAX || p->magic != PLAN_MAGIC ||
		p->version != PLAN_VERSION || p->size != size || p->sum != plan_sum(p, size))
		return -EBADMSG;
	if (!are_slots(p, &p->argv) || !are_slots(p, &p->envp) || p->argv.n == 0)
		return -EBADMSG;
	struct checker k = {p, p->argv.off, p->argv.off + (p->argv.n + 1) * 8, p->envp.off,
		p->envp.off + (p->envp.n + 1) * 8};
	if (k.slots_from < k.slots2_to && k.slots2_from < k.slots_to)
		return -EBADMSG;
	bool is_good = are_slot_strings(&k, &p->argv) && are_slot_strings(&k, &p->envp) &&
		       !(p->flags & ~(uint32_t)PLAN_FLAGS_ALL) && p->kind < EXEC_KIND_MAX &&
		       is_string(&k, p->unit) && p->exec.n > 0 &&
		       are_strings(&k, &p->exec, PLAN_CANDIDATES_MAX) && are_pid_slots(&k) &&
		       is_string(&k, p->cwd) && is_span(&k, &p->groups, 4, 4, PLAN_GROUPS_MAX) &&
		       is_span(&k, &p->cpu_mask, 1, 8, 8192) &&
		       is_span(&k, &p->seccomp, 1, 8, PLAN_FILTER_MAX) &&
		       p->seccomp.n % sizeof(struct sock_filter) == 0 &&
		       p->seccomp_split % sizeof(struct sock_filter) == 0 &&
		       (p->seccomp_split == 0 || p->seccomp_split < p->seccomp.n) &&
		       are_streams(&k) && are_dirs(&k) && are_mounts(&k) &&
		       !(p->namespaces & ~(uint32_t)NAMESPACES_ALLOWED) &&
		       is_string_or_none(&k, p->root) && is_string_or_none(&k, p->netns) &&
		       p->n_pass <= FDS_MAX && p->umask <= 0777;
	return is_good ? 0 : -EBADMSG;
}

void plan_relocate(struct plan *p)
{
	uint64_t *argv = plan_at(p, p->argv.off), *envp = plan_at(p, p->envp.off);
	for (uint32_t i = 0; i < p->argv.n; i++)
		argv[i] = (uint64_t)(uintptr_t)plan_at(p, (uint32_t)argv[i]);
	for (uint32_t i = 0; i < p->envp.n; i++)
		envp[i] = (uint64_t)(uintptr_t)plan_at(p, (uint32_t)envp[i]);
}
