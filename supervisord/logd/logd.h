/* SPDX-License-Identifier: Apache-2.0 */
/* The face of logd/: pipes of services -> files with rotation and one total cap. */
#pragma once

#include "base/base.h"

/* The logger process: links at ROLE_KEEPER_FD and ROLE_CORE_FD. */
int logger_main(int argc, char **argv);

/* What a line is stored as: 24 bytes of time stamp (UTC), a blank, the stream (o, e, or d for the
 * daemon's own word), a blank, the text. A line above 16 KiB is stored in pieces; each further piece has '+' in place of the second blank. */
#define LOG_STAMP_SIZE 24
#define LOG_HEAD_SIZE  (LOG_STAMP_SIZE + 3)
#define LOG_LINE_MAX   (16 * 1024)
/* Beside the units' directories, which begin with a letter or digit. */
#define LOG_LOCK_NAME  ".lock"

/* Reading back, for the logs verb: the last n_lines of unit (0 = all) in order, at most max bytes,
 * added to out. since_us: only lines stamped at or after it (0 = any). *ret_cursor lets
 * log_read_more() continue where this ended; its max must have room for a line. -ENOENT: the unit
 * has no log. A cursor is opaque. */
struct log_cursor {
	uint64_t inode, offset;
};
int log_read_last(const char *log_dir, const char *unit, unsigned n_lines, uint64_t since_us,
	size_t max, struct buf *out, struct log_cursor *ret_cursor);
int log_read_more(const char *log_dir, const char *unit, size_t max, struct buf *out,
	struct log_cursor *cursor);
/* Path of the file a unit's log is in now, for inotify. */
char *log_path(const char *log_dir, const char *unit);
