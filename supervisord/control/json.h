/* SPDX-License-Identifier: Apache-2.0 */
/* JSON text straight into a buffer; commas are put by themselves. */
#pragma once

#include "base/base.h"

void j_open(struct buf *b, const char *key, char bracket); /* key NULL: none */
void j_close(struct buf *b, char bracket);
void j_str(struct buf *b, const char *key, const char *value); /* value NULL: null */
void j_strn(struct buf *b, const char *key, const char *value, size_t size);
void j_int(struct buf *b, const char *key, int64_t value);
void j_bool(struct buf *b, const char *key, bool value);
void j_time(struct buf *b, const char *key, uint64_t wall_us); /* RFC 3339, null for 0 */
