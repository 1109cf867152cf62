/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Owns the change of program: the exec, the probation, the way back.
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

/* Becomes the program; -errno when it cannot, with all as before. Signals stay blocked over the exec
 * and wait for the successor. */
static int become(int program, int previous, int came_back)
{
	static char option[40] = STATE_OPTION;
	const struct kept before = table.kept;
	table.kept.self_fd = program;
	table.kept.previous_fd = previous;
	table.kept.came_back = came_back;
	table.kept.reexecs++;
	int state = state_save(), e = state;
	table.kept = before;
	if (state < 0)
		return e;
	(void)put_number(option + strlen(STATE_OPTION), state);
	K.args[1] = option;
	(void)execveat(program, "", K.args, environ, AT_EMPTY_PATH);
	e = -errno;
	fd_close(state);
	return e;
}

void reexec_begin(int state)
{
	int r = state_load(state);
	fd_close(state);
	if (r < 0)
		say_line(
			"the state is damaged or not ours (%s): starting with none", errno_name(r));
	if (table.kept.previous_fd)
		K.prove_by_us = now_mono_us() + timing.prove_us;
	K.prove_cores = table.kept.cores + PROVE_STARTS;
	if (!table.row[ROLE_CORE].code)
		(void)kill(table.row[ROLE_CORE].pid, SIGKILL);
}

/* A core that can ask has proven the present program. */
void reexec_asked(const struct kp_frame *f, int *fd)
{
	int self = table.kept.self_fd;
	K.prove_by_us = 0;
	drop_fd(&table.kept.previous_fd);
	core_refuse(KP_REEXEC, *fd > 0 ? become(*fd, self, 0) : become(self, 0, 0), f);
}

void reexec_tick(uint64_t now, uint64_t *next)
{
	bool is_dead = table.kept.cores == K.prove_cores && table.row[ROLE_CORE].code;
	if (!K.prove_by_us || (K.prove_by_us > now && !is_dead)) {
		earliest(next, K.prove_by_us);
		return;
	}
	K.prove_by_us = 0;
	if (!K.has_hello) {
		say_line("the new program's core does not come up: going back to the previous one");
		say_line("cannot go back: %s",
			errno_name(become(table.kept.previous_fd, 0, -ECANCELED)));
	}
	drop_fd(&table.kept.previous_fd);
}
