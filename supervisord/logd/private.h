/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of logd/ share; nobody else includes this. */
#pragma once

#include "logd.h"
#include "stayd/wire.h"

#define LOG_READ_MAX (64 * 1024)
/* One batch of stored lines; when full it is written and the next one begun. */
#define LOG_BATCH_MAX (256 * 1024)
/* After a failed write the next try is this much later; what comes in between is dropped. */
#define LOG_RETRY_US (1 * USEC_PER_SEC)
/* Pipes read at once. A further LG_OPEN is refused with LG_TROUBLE. */
#define LOG_STREAMS_MAX (2 * UNITS_MAX)
/* Unit directories known in a log directory; further ones are not counted against the cap. */
#define LOG_UNITS_MAX (4 * UNITS_MAX)
/* Rotated files of one unit, whatever the configuration says. */
#define LOG_KEEP_MAX 1000

#define LOG_FILE_MAX_DEFAULT  (10 * 1024 * 1024ULL)
#define LOG_FILE_KEEP_DEFAULT 10
#define LOG_TOTAL_MAX_DEFAULT (1024 * 1024 * 1024ULL)

/* ---- store.c: the files --------------------------------------------------------------------- */

struct rotated {
	uint64_t seq, size, mtime_us;
};

/* One unit's directory: <log_dir>/<unit>/current and <seq>.log. */
struct unit_log {
	char name[UNIT_NAME_MAX + 1];
	int dir_fd, fd; /* -1 while no stream is open, or after trouble */
	uint64_t size;  /* of current; every byte of it belongs to a whole line */
	uint64_t next_seq;
	struct rotated *rotated; /* by seq, oldest first */
	size_t n_rotated, cap_rotated;
	struct stream *streams; /* open pipes, logger.c's; NULL: nothing writes to it */
	/* trouble: error != 0 from the first failed write to the first good one */
	int error;
	uint64_t trouble_since_us, retry_at_us, dropped;
	bool is_told;        /* the core knows of it */
	char over_text[160]; /* it is over, and the core does not know yet */
};

struct store {
	int dir_fd;     /* from core; its path is not ours to walk */
	int dir_error;  /* why there is none; 0: nothing is to be stored */
	bool wants_dir; /* core is to look after it */
	bool is_fixed;  /* by Landlock: no other directory can be written any more */
	uint64_t file_max, total_max, total;
	unsigned file_keep;
	struct map logs; /* name -> struct unit_log */
	bool has_news;   /* some unit_log has trouble to tell */
};

/* Takes over the descriptor of the directory, -1 and why: there is none. What it holds counts against
 * the cap. 1: it is another one than before, which is_fixed forbids. */
int store_open(struct store *st, int fd, int error);
void store_limits(struct store *st, uint64_t file_max, uint64_t total_max, unsigned file_keep);
void store_done(struct store *st);
struct unit_log *store_log(
	struct store *st, const char *name); /* made when new; NULL at the bound */
/* Whole lines, n_lines of them. Never fails: what cannot be written is counted. */
void store_write(
	struct store *st, struct unit_log *log, const char *data, size_t size, size_t n_lines);
void store_release(struct unit_log *log); /* the last stream ended: close its files */

/* ---- turn.c: one logger to a directory ------------------------------------------------------- */

/* Waits (bounded) until the logger before us is gone. A descriptor to keep open, or -errno: it does
 * not go, or the directory cannot be written. */
int turn_take(int dir_fd);

/* ---- lines.c: bytes -> stored lines ----------------------------------------------------------- */

struct stamper {
	uint64_t ms;
	char head[LOG_HEAD_SIZE + 1];
};

struct batch {
	char *data; /* LOG_BATCH_MAX */
	size_t size, n_lines;
};

/* Where whole lines go; called whenever the batch is full and at the end. */
typedef void batch_fn(void *arg, struct batch *b);

struct line_state {
	struct buf carry; /* the unfinished last line */
	bool is_split;    /* its beginning was stored already */
};

/* Stores the lines in [data, data + size); the unfinished rest goes to s->carry. data must have
 * s->carry's bytes in front already (see stream_read()). */
void lines_add(struct line_state *s, struct stamper *t, char letter, uint64_t wall_us,
	const char *data, size_t size, struct batch *b, batch_fn *full, void *arg);
/* End of file, or of the process: the unfinished line is stored as it is. */
void lines_end(struct line_state *s, struct stamper *t, char letter, uint64_t wall_us,
	struct batch *b, batch_fn *full, void *arg);

/* ---- console.c -------------------------------------------------------------------------------- */

struct console {
	int fd;
	bool is_nonblocking; /* our own open file description, so O_NONBLOCK hurts nobody else */
	bool is_file;        /* never blocks, cannot be polled */
	struct source source;
	struct loop *loop;
	struct buf out; /* at most CONSOLE_MAX */
	uint64_t dropped;
};
#define CONSOLE_MAX (256 * 1024)

void console_init(struct console *c, struct loop *loop, int fd);
void console_done(struct console *c);
/* Stored lines of a batch, shown as "web@1 | text". */
void console_show(struct console *c, const char *unit, const char *data, size_t size);

/* A unit name that may be a directory's: not empty, no slash, not hidden, terminated. */
bool log_name_is_valid(const char *name);
