/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What time core has for users who may not operate: each has a share of one processor.
 *
 * Owns how much of it each has had. Invariants:
 *  1. Who is over it waits, and the others do not wait with them. Nothing is refused for that: the time
 *     for a message that was begun, or an answer that is not read, stands still meanwhile. What a user
 *     is charged goes by the clock, and a processor taken away or a slow disk can make it seconds.
 *  2. Nothing here grows: SHARES_MAX users are known, and the one unheard of for longest makes way. So
 *     many users together get more than one, but each of them comes with a full share only.
 * Called by client.c.
 */
#include "control/shares.h"

#define SHARES_MAX 32

/* At once some hundred refusals, or a look at a thousand units. */
static const struct share_size size = {.percent = 10, .max_us = 5000};

struct shares {
	struct user_share {
		uid_t uid;
		struct share share;
	} of[SHARES_MAX];
	size_t n;
};

struct shares *shares_new(void)
{
	return xcalloc(1, sizeof(struct shares));
}

static struct share *share_of(struct shares *s, uid_t uid)
{
	struct user_share *oldest = &s->of[0];
	for (size_t i = 0; i < s->n; i++) {
		if (s->of[i].uid == uid)
			return &s->of[i].share;
		if (s->of[i].share.at_us < oldest->share.at_us)
			oldest = &s->of[i];
	}
	if (s->n < SHARES_MAX)
		oldest = &s->of[s->n++];
	*oldest = (struct user_share){.uid = uid};
	return &oldest->share;
}

void shares_charge(struct shares *s, uid_t uid, uint64_t us)
{
	share_charge(share_of(s, uid), size, us);
}

uint64_t shares_wait_until(struct shares *s, uid_t uid)
{
	return share_wait_until(share_of(s, uid), size);
}
