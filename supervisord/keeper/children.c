/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a child's birth and end mean, and what core may ask about one.
 *
 *  1. Only who is found in the table, and is ours, is signalled.
 *  2. A child speaks (KP_BORN) before its exec, so before its exit. Whoever is reaped unknown has
 *     its word waiting in the words link, or never was anybody's: an orphan.
 *  3. Every exit of a known child is told to every core until one says KP_FORGET.
 */
#include "private.h"

void child_ended(pid_t pid, int wait_status)
{
	struct row *r;
	while (!(r = row_of_pid(pid)) && words_read_one())
		; /* one by one: behind its word may wait that of the next owner of this pid */
	if (!r) {
		orphan_add(pid, wait_status);
		return;
	}
	if (r->kind == ROW_ROLE)
		role_ended((enum role)r->id.seq, wait_status);
	row_ended(r, wait_status, now_mono_us());
	while (r->kind == ROW_CHILD && words_read_one())
		; /* a shim's last words come before its own exit */
	news_add(r);
}

/* Words of nobody, or of a later version, are not heard. */
void child_said(const struct kp_frame *f, pid_t pid)
{
	if (pid > 0 && (f->kind == KP_SHIM_EXIT || f->kind == KP_SHIM_MAIN))
		row_below(f, pid);
	if (pid <= 0 || f->kind != KP_BORN)
		return;
	struct row *r = row_born(&f->id, pid);
	if (!r) /* runs on, but its exit is an orphan's */
		core_refuse(KP_BORN, -ENOSPC, &(struct kp_frame){.id = f->id, .pid = pid});
	else if (!K.is_welcome || r->code)
		news_add(r); /* asked for by the core before this one, or over */
}

void child_track(const struct kp_frame *f, int *fd UNUSED)
{
	struct row *r = row_of_pid(f->pid);
	if (r && memcmp(&r->id, &f->id, sizeof(f->id)) == 0)
		return;
	bool is_gone = !is_ours(f->pid) && kill(f->pid, 0) < 0 && errno == ESRCH;
	const struct row *o = is_gone ? orphan_find(f->pid) : NULL; /* it was faster than core */
	bool is_bad = f->pid <= 1 || f->pid == getpid();
	int e = r ? -EEXIST : is_bad ? -EINVAL : is_gone && !o ? -ESRCH : 0;
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
