/* SPDX-License-Identifier: Apache-2.0 */
/* The file of the audit log. For audit.c alone. */
#pragma once

#include "base/base.h"

struct audit_file;

/* An intent whose outcome the core before did not write. */
struct unfinished {
	uint64_t seq;
	char verb[24];
};

/* Opens or makes STATE-DIR/audit.log and writes the line that this core begins; then unfinished()
 * is called for every intent without an outcome that the core before left. */
struct audit_file *audit_file_open(struct loop *l, const char *state_dir, const char *runtime_dir,
	void (*unfinished)(void *arg, struct audit_file *f, const struct unfinished *u), void *arg);
void audit_file_close(struct audit_file *f); /* NULL is fine */
/* kind, wall clock and boot clock: how the body of every line begins. */
void audit_line_begin(struct buf *b, const char *kind);
/* The number of the line; 0: it is lost, and counted. */
uint64_t audit_file_append(struct audit_file *f, const struct buf *body);
/* When lines are being lost: when to try again, else USEC_INFINITY. */
uint64_t audit_file_retry_at(const struct audit_file *f);
void audit_file_retry(struct audit_file *f);
void audit_file_json(struct buf *b, const struct audit_file *f); /* members of an object */
