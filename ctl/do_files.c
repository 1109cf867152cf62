/* SPDX-License-Identifier: Apache-2.0 */
/*
 * check and explain read files, not the daemon: they live in check.c and take their own options.
 */
#include "ctl.h"

static int elsewhere(struct ctl *c, int (*run)(int, char **))
{
	if (run)
		return run(c->argc + 1, c->argv - 1); /* argv[0] is the verb */
	fprintf(stderr, "error: this stayctl was built without %s\n", c->verb->name);
	return STAY_EXIT_NOT_RUNNING; /* LSB: 3, unimplemented */
}

int do_CHECK(struct ctl *c)
{
	return elsewhere(c, ctl_check);
}

int do_EXPLAIN(struct ctl *c)
{
	return elsewhere(c, ctl_explain);
}
