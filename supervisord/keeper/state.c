/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Owns the change of program: the state in a pack, the exec, the probation, the way back.
 *
 *  1. Core has tried the program in a child of its own before it asks (--role=trial).
 *  2. Children, deposits and links go over as they are; core is replaced at once, the other roles when
 *     the new core says so. A state that is no good is an empty table: core adopts whom it finds.
 *  3. The previous program stays open until the new core has said hello and lived timing.prove_us
 *     from then on; else it comes back, with everything, and tells its core.
 */
#include "private.h"

#include <fcntl.h>

#define PROVE_STARTS 3 /* of the new program's core; instead of the next one, the way back */

extern char **environ;

/* Each item is looked at before it is used: false is one that no keeper wrote. */
static bool is_fd(int32_t fd)
{
	return !fd || (fd > STDERR_FILENO && fcntl(fd, F_GETFD) >= 0);
}

static bool take_kept(uint32_t i UNUSED, const void *item)
{
	const struct kept *k = item;
	const int32_t fds[] = {
		k->previous_fd, k->core_link, k->words[0], k->words[1], k->leash[0], k->leash[1]};
	for (size_t n = 0; n < ARRAY_SIZE(fds); n++)
		if (!is_fd(fds[n]))
			return false;
	K.kept = *k;
	return k->self_fd && is_fd(k->self_fd);
}

static bool take_role(uint32_t r, const void *item)
{
	const struct role_state *s = item;
	if (r < ROLE_MAX && is_fd(s->program_fd))
		K.role[r] = *s;
	return is_fd(s->program_fd); /* one of a later version leaves when nobody speaks to it */
}

static bool take_row(uint32_t i UNUSED, const void *item)
{
	const struct row *r = item;
	bool is_role = r->kind == ROW_ROLE && r->id.seq < ROLE_MAX;
	if (!r->kind || r->kind > ROW_ROLE)
		return !r->kind;
	if (!is_fd(r->fd) ||
		(r->code ? r->code > CLD_DUMPED : row_of_pid(r->pid) || r->kind == ROW_BELOW))
		return false;
	if (!r->code && r->kind != ROW_TRACKED && !is_ours(r->pid))
		return false;
	struct row *n = is_role ? &K.row[r->id.seq] : row_new(r->kind, &r->id, r->pid, r->code);
	if (!n)
		return false;
	if (is_role && !r->code)
		row_begin(n, r->pid);
	n->time_us = r->time_us;
	n->status = r->status;
	n->program = r->program;
	n->fd = r->fd;
	n->is_stale = is_role;
	return true;
}

static bool take_deposit(uint32_t i UNUSED, const void *item)
{
	struct deposit d = *(const struct deposit *)item;
	d.name[KP_NAME_MAX - 1] = '\0';
	return is_fd(d.fd) && (!d.fd || deposit_put(d.name, d.fd) == 0);
}

#define SECTIONS                                                                                   \
	{                                                                                          \
		{&K.kept, 1, sizeof(K.kept), take_kept},                                           \
			{K.role, ROLE_MAX, sizeof(K.role[0]), take_role},                          \
			{K.row + 1, rows_high(), sizeof(K.row[0]), take_row},                      \
			{K.deposit, K.n_deposits, sizeof(K.deposit[0]), take_deposit},             \
	}

bool state_load(int fd)
{
	const struct pack_section s[] = SECTIONS;
	int r = pack_load(fd, s, ARRAY_SIZE(s), KEEPER_STATE_VERSION, KEEPER_STATE_OLDEST);
	if (r < 0)
		say_line("the saved state is damaged or not ours (%s): starting with an empty table",
			errno_name(r));
	if (r < 0)
		return false;
	if (K.kept.previous_fd)
		K.prove_by_us = now_mono_us() + timing.prove_us;
	K.prove_cores = K.kept.cores + PROVE_STARTS;
	if (!K.row[ROLE_CORE].code)
		(void)kill(K.row[ROLE_CORE].pid, SIGKILL);
	return true;
}

/* Becomes the program; -errno when it cannot, with all as before. Signals stay blocked over the exec
 * and wait for the successor. */
static int become(int program, int previous, int came_back)
{
	static char option[40] = "--keeper-state=";
	const struct pack_section s[] = SECTIONS;
	const struct kept before = K.kept;
	K.kept.self_fd = program;
	K.kept.previous_fd = previous;
	K.kept.came_back = came_back;
	K.kept.reexecs++;
	int state = pack_save(s, ARRAY_SIZE(s), KEEPER_STATE_VERSION, KEEPER_STATE_OLDEST),
	    e = state;
	K.kept = before;
	if (state < 0)
		return e;
	(void)put_number(option + strlen("--keeper-state="), state);
	K.args[1] = option;
	(void)execveat(program, "", K.args, environ, AT_EMPTY_PATH);
	e = -errno;
	fd_close(state);
	return e;
}

/* A core that can ask has proven the present program. */
void reexec_asked(const struct kp_frame *f, int *fd)
{
	int self = K.kept.self_fd;
	K.prove_by_us = 0;
	drop_fd(&K.kept.previous_fd);
	core_refuse(KP_REEXEC, *fd > 0 ? become(*fd, self, 0) : become(self, 0, 0), f);
}

void reexec_tick(uint64_t now, uint64_t *next)
{
	bool is_dead = K.kept.cores == K.prove_cores && K.row[ROLE_CORE].code;
	if (!K.prove_by_us || (K.prove_by_us > now && !is_dead)) {
		earliest(next, K.prove_by_us);
		return;
	}
	K.prove_by_us = 0;
	if (!K.has_hello) {
		say_line("the new program's core does not come up: going back to the previous one");
		say_line("cannot go back: %s", errno_name(become(K.kept.previous_fd, 0, -ECANCELED)));
	}
	drop_fd(&K.kept.previous_fd);
}
