/* SPDX-License-Identifier: Apache-2.0 */
/* The logs of units, as they are told to clients. */
#pragma once

#include "control/names.h"
#include "logd/logd.h"

/* {unit, text} */
void log_json(struct buf *b, const char *unit, const struct buf *text);
/* Lines of [since_us, until_us), the last n of them; 0 = no bound. dir NULL: none are kept. */
int logs_tail_json(struct buf *b, const char *key, const char *dir, const char *unit,
	unsigned n_lines, uint64_t since_us, uint64_t until_us);
/* Sends what is in c->out, and from now on what is written behind the cursors of t's units. */
int logs_follow(
	struct call *c, const struct targets *t, const char *dir, const struct log_cursor *cursors);
void logs_follow_free(struct log_follow *f);
void logs_follow_poke(struct client *cl); /* it has read all that was sent */
