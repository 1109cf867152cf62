/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Coming up once more, when not everything could be read: keeper counts by the name of a deposit how
 * many cores in a row that was so.
 *
 * Called by main.c and record.c, coming up.
 */
#include "core/inner.h"

static void unread_name(char name[KP_NAME_MAX], unsigned n)
{
	snprintf(name, KP_NAME_MAX, "unread/%u", n);
}

void unread_count_cores(struct core *c)
{
	for (unsigned i = 1; i <= RECORD_AGAIN_MAX; i++) {
		char name[KP_NAME_MAX];
		unread_name(name, i);
		int fd = deposit_take(name);
		c->n_unread_cores = fd >= 0 ? i : c->n_unread_cores;
		fd_close(fd);
	}
}

void unread_forget_cores(struct core *c)
{
	char name[KP_NAME_MAX];
	unread_name(name, c->n_unread_cores);
	if (c->n_unread_cores)
		keeper_drop(c, name);
}

bool core_may_try_again(struct core *c, unsigned max)
{
	char name[KP_NAME_MAX];
	if (c->n_unread_cores >= max)
		return false;
	unread_forget_cores(c);
	unread_name(name, c->n_unread_cores + 1);
	keeper_put(c, name, c->keeper_fd);
	return true;
}
