/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The face of base/: memory, strings, containers, errors, logging, descriptors, the event loop.
 *
 * Rules that hold for every function here and above:
 *  - an int result < 0 is -errno and is passed up unchanged; > 0 is a named result; 0 is done;
 *  - outputs are called ret_x, come last and are written on success only;
 *  - memory exhaustion aborts (oom()): the core is restartable, half-done work is not. Only the
 *    keeper must never die, and it allocates nothing;
 *  - descriptors are CLOEXEC at birth.
 */
#pragma once

#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

#include "banned.h"

#define ARRAY_SIZE(a)         (sizeof(a) / sizeof((a)[0]))
#define MIN(a, b)             ((a) < (b) ? (a) : (b))
#define MAX(a, b)             ((a) > (b) ? (a) : (b))
#define container_of(p, t, m) ((t *)(void *)((char *)(p)-offsetof(t, m)))
#define PRINTF_LIKE(f, a)     __attribute__((format(printf, f, a)))
#define UNUSED                __attribute__((unused))
#define USEC_PER_MSEC         1000ULL
#define USEC_PER_SEC          1000000ULL
#define USEC_INFINITY         UINT64_MAX

/* ---- ownership ------------------------------------------------------------------------- */

#define TAKE_PTR(p)                                                                                \
	({                                                                                         \
		__typeof__(p) *p_ = &(p);                                                          \
		__typeof__(p) v_ = *p_;                                                            \
		*p_ = NULL;                                                                        \
		v_;                                                                                \
	})
#define TAKE_FD(fd)                                                                                \
	({                                                                                         \
		int *fd_ = &(fd);                                                                  \
		int v_ = *fd_;                                                                     \
		*fd_ = -1;                                                                         \
		v_;                                                                                \
	})

static inline void freep_(void *p)
{
	free(*(void **)p);
}
void closep_(int *fd);

#define CLEANUP(f)    __attribute__((cleanup(f)))
#define CLEANUP_FREE  CLEANUP(freep_)
#define CLEANUP_CLOSE CLEANUP(closep_)

/* ---- memory ---------------------------------------------------------------------------- */

_Noreturn void oom(void);
void *xmalloc(size_t size);
void *xcalloc(size_t count, size_t size);
void *xrealloc(void *p, size_t size);
char *xstrdup(const char *s);
char *xstrndup(const char *s, size_t size);
char *xasprintf(const char *format, ...) PRINTF_LIKE(1, 2);

/* Grows *items to hold at least one more than count; doubles. */
#define GROW(items, count, cap)                                                                    \
	do {                                                                                       \
		if ((count) >= (cap)) {                                                            \
			(cap) = (cap) ? (cap)*2 : 8;                                               \
			(items) = xrealloc((items), (cap) * sizeof(*(items)));                     \
		}                                                                                  \
	} while (0)

/* An arena: many small allocations freed at once. Everything in it is zeroed at birth. */
struct arena {
	struct arena_chunk *head;
	size_t used, size; /* of the head chunk */
	size_t total;      /* bytes taken from malloc */
};
void *arena_alloc(struct arena *a, size_t size);
char *arena_strdup(struct arena *a, const char *s);
char *arena_strndup(struct arena *a, const char *s, size_t size);
char *arena_printf(struct arena *a, const char *format, ...) PRINTF_LIKE(2, 3);
void arena_done(struct arena *a);

/* ---- strings --------------------------------------------------------------------------- */

#define streq(a, b) (strcmp((a), (b)) == 0)
static inline const char *strna(const char *s)
{
	return s ? s : "";
}
bool startswith(const char *s, const char *prefix);
bool endswith(const char *s, const char *suffix);
/* Copies with truncation, always terminated; returns strlen(src) like strlcpy(3). */
size_t str_copy(char *dst, const char *src, size_t dst_size);
bool utf8_is_valid(const char *s, size_t size);
/* Replaces control characters and invalid UTF-8 by '?', in place: for text shown to people. */
void str_make_printable(char *s);
/* Damerau-Levenshtein distance, bounded by limit (returns limit + 1 when above). */
unsigned str_distance(const char *a, const char *b, unsigned limit);

/* A growable byte buffer. data is always NUL-terminated once anything was added. */
struct buf {
	char *data;
	size_t size, cap;
};
void buf_done(struct buf *b);
void buf_reset(struct buf *b); /* keeps the memory */
void buf_reserve(struct buf *b, size_t more);
void buf_add(struct buf *b, const void *data, size_t size);
void buf_add_byte(struct buf *b, char c);
void buf_add_str(struct buf *b, const char *s);
void buf_printf(struct buf *b, const char *format, ...) PRINTF_LIKE(2, 3);
void buf_consume(struct buf *b, size_t size); /* drops bytes at the front */
char *buf_steal(struct buf *b);               /* the caller frees */

/* A list of strings. Owned ones are malloc'ed unless the owner says arena. */
struct strv {
	char **v; /* NULL-terminated once anything was added */
	size_t n, cap;
};
void strv_add(struct strv *l, const char *s);
void strv_add_take(struct strv *l, char *s);
bool strv_has(const struct strv *l, const char *s);
void strv_done(struct strv *l);

/* String -> pointer map; the keys are the caller's and must outlive their entry. */
struct map {
	struct map_entry *entries;
	size_t n, cap, tombs;
};
void *map_get(const struct map *m, const char *key);
void *map_put(struct map *m, const char *key, void *value); /* the previous value, or NULL */
void *map_del(struct map *m, const char *key);              /* the removed value, or NULL */
bool map_next(const struct map *m, size_t *pos, const char **ret_key, void **ret_value);
void map_done(struct map *m);

uint64_t hash_bytes(const void *data, size_t size);
uint32_t crc32_of(const void *data, size_t size);

/* ---- errors ---------------------------------------------------------------------------- */

/* Text for a person, beside an errno. Used by loaders and by exec, where somebody will read it. */
struct err {
	int code; /* -errno */
	char text[512];
};
int err_set(struct err *e, int code, const char *format, ...) PRINTF_LIKE(3, 4); /* returns code */
/* "ENOENT" rather than a sentence: short, greppable, the same in every locale. */
const char *errno_name(int error);

/* ---- logging: programs log, libraries return -------------------------------------------- */

enum log_level { LOG_ERROR = 3, LOG_WARN = 4, LOG_NOTE = 5, LOG_INFORM = 6, LOG_TRACE = 7 };

void log_open(const char *role, int max_level);
void log_to_fd(int fd);
/* From now on lines wait for a slow reader: 16 KiB of them; more are dropped and counted, and the count
 * is shown. Without it none waits. */
void log_keep(void);
/* ... and for log_flush(), a full buffer or an error: one write a turn, not a line. */
void log_hold(void);
/* False: some still wait; to be called again when log_descriptor() is writable. */
bool log_flush(void);
int log_descriptor(void);
/* One line: "stayd-core: unit: text". unit may be NULL. Never blocks for long, never fails. */
void log_at(int level, const char *unit, const char *format, ...) PRINTF_LIKE(3, 4);
#define log_error(u, ...) log_at(LOG_ERROR, (u), __VA_ARGS__)
#define log_warn(u, ...)  log_at(LOG_WARN, (u), __VA_ARGS__)
#define log_note(u, ...)  log_at(LOG_NOTE, (u), __VA_ARGS__)
#define log_info(u, ...)  log_at(LOG_INFORM, (u), __VA_ARGS__)
#define log_trace(u, ...) log_at(LOG_TRACE, (u), __VA_ARGS__)

/* ---- for programs that must never die: no allocator, no stdio (bare.c) -------------------- */

/* One line on stderr; %s and %d only; dropped when stderr would block. */
void say_line(const char *format, ...) PRINTF_LIKE(1, 2);
size_t put_number(char *out, int value); /* in decimal, terminated: at most 12 bytes */
uint64_t now_mono_us(void);              /* CLOCK_MONOTONIC: stands while the machine sleeps */
/* How long to leave zombies alone after a fruitless waitpid(-1) of that cost. It walks all living
 * children, so while thousands die together looking at each wake-up is quadratic; a pause in
 * proportion lets them gather. Nothing below 20 us (some thousand children), at most 10 ms. */
uint64_t reap_pause_us(uint64_t cost_us);
/* All signals blocked (ret_mask: as it was before, may be NULL), exits not thrown away, orphans ours. */
void reaper_begin(sigset_t *ret_mask);
/* The last close(2) of a socket with SO_LINGER waits, O_NONBLOCK or not, for as long as its owner liked;
 * so does the kernel when it throws away a message with one. Around what may be that, for a socket that
 * others gave us: a signal ends the wait at once, and what was to be sent goes out behind. No other
 * system calls in between: they could fail with EINTR. */
void closing_begin(void);
void closing_end(void);
void fds_begin(void);     /* no hole at 0, 1, 2; as many as the hard limit allows */
void kill_children(void); /* SIGKILL to (some thousand of) them; as PID 1 to everybody */

/* In a child, behind fork(): becomes the program with fds as 3, 4 ..., 0 to 2 as they are and nothing
 * else, signals unblocked. -errno. */
#define EXEC_FDS_MAX 4
int exec_with_fds(int program, char **argv, const int *fds, unsigned n);

/* Indices of 16 bits, from 1, into an array of the caller's, to whom the arrays here belong too. */
struct hash16 { /* a hash of them */
	uint16_t *heads, *nexts;
	uint32_t mask; /* heads - 1, with heads a power of two */
};
unsigned hash16_first(const struct hash16 *c, uint64_t key); /* 0: none; the others by nexts[] */
void hash16_add(struct hash16 *c, uint64_t key, unsigned i);
void hash16_del(struct hash16 *c, uint64_t key, unsigned i);
struct slots { /* those in use: nexts[] is theirs while they are not */
	uint16_t *nexts, first_free;
	uint32_t high, max; /* the highest used ever; at most UINT16_MAX */
};
unsigned slot_take(struct slots *s); /* 0: all in use */
void slot_give(struct slots *s, unsigned i);
struct fifo { /* each at most once: the caller sees to it */
	uint16_t first, end, ring[UINT16_MAX + 1];
};
void fifo_put(struct fifo *f, unsigned i);
unsigned fifo_head(const struct fifo *f); /* 0: empty */
unsigned fifo_take(struct fifo *f);

/* One frame that waits, with at most one descriptor (not CLOEXEC, else -1) and, with SO_PASSCRED,
 * who sent it (else 0). Bytes, 0 at end of file, -errno; -EMSGSIZE when something was too large. */
ssize_t recv_said(int sock, void *data, size_t size, int *ret_fd, pid_t *ret_pid);

/* A pack: arrays of plain items in a memfd, for the next program or the one before it. A reader may
 * know fewer or more sections than the writer, and fewer or more members at the end of an item:
 * what it does not know is skipped, what it misses is 0. */
#define PACK_SECTIONS_MAX 8
#define PACK_ITEM_MAX     512
struct pack_section {
	const void *items;
	uint32_t count, size;                       /* of an item: at most PACK_ITEM_MAX */
	bool (*take)(uint32_t i, const void *item); /* false: there is something wrong with it */
};
/* A descriptor (not CLOEXEC) or -errno. oldest: the first version that understands this pack. */
int pack_save(const struct pack_section *s, unsigned n, uint32_t version, uint32_t oldest);
/* Calls take for each item. -EBADMSG, and nothing is taken: damaged, cut off, or from a version that
 * is older than oldest or says that ours does not understand it. */
int pack_load(int fd, const struct pack_section *s, unsigned n, uint32_t version, uint32_t oldest);

/* ---- time, identity, randomness --------------------------------------------------------- */

/* Which clock is for what, everywhere:
 *  - now_mono_us() (above) for whatever lasts: every timer and deadline, the loop's included, watchdogs,
 *    backoff and start limits, probes, drains, soaks, shares, times in records (of the same boot). It
 *    stands while the machine is suspended, as its services do: systemd's choice, or a watchdog would
 *    run out at resume.
 *  - now_boot_us() where the kernel's own times of birth are compared (/proc/PID/stat), which go on
 *    then; the audit log says it, too.
 *  - now_wall_us() for what people read and for what outlives a boot (journal, audit, logs). Nothing
 *    waits for it: it jumps. */
uint64_t now_boot_us(void); /* CLOCK_BOOTTIME */
uint64_t now_wall_us(void); /* CLOCK_REALTIME */
/* "2026-01-02T03:04:05.678Z" */
#define TIMESTAMP_MAX 32
char *format_timestamp(char out[TIMESTAMP_MAX], uint64_t wall_us);
/* "2min 3s", systemd's spelling; "infinity" */
#define TIMESPAN_MAX 64
char *format_timespan(char out[TIMESPAN_MAX], uint64_t us);

/* A share of one processor for somebody who must not have more of it: what he has had leaks away. Zero
 * is one who has had nothing. Time is CLOCK_MONOTONIC. */
struct share {
	uint64_t had_us, at_us; /* had_us as of at_us */
};
struct share_size {
	unsigned percent; /* in the long run */
	unsigned max_us;  /* at once */
};
void share_charge(struct share *s, struct share_size size, uint64_t us);
/* 0: there is time for him; else when half of max_us is free again. */
uint64_t share_wait_until(struct share *s, struct share_size size);

struct id128 {
	uint8_t b[16];
};
#define ID128_HEX 33
char *id128_hex(char out[ID128_HEX], const struct id128 *id);
bool id128_is_null(const struct id128 *id);
static inline bool id128_eq(const struct id128 *a, const struct id128 *b)
{
	return memcmp(a->b, b->b, 16) == 0;
}
/* xorshift64*: for jitter and simulation, never for secrets. *state must not be 0. */
uint64_t rng_next(uint64_t *state);
void random_bytes(void *out, size_t size); /* getrandom(2), never blocks after boot */
void boot_id(struct id128 *ret_id);        /* /proc/sys/kernel/random/boot_id; zero if unreadable */

/* ---- descriptors and files --------------------------------------------------------------- */

int fd_set_cloexec(int fd, bool on);
int fd_set_nonblock(int fd, bool on);
int fd_close(int fd); /* always -1, so that fd = fd_close(fd) */
int write_all(int fd, const void *data, size_t size);
/* Whole file, at most max bytes (-E2BIG beyond); NUL-terminated in b, size without it. */
int read_file(int dirfd, const char *path, size_t max, struct buf *b);
/* Reads of files and directories that failed for a reason of the moment: no descriptor, no memory, an
 * input/output error. Half of the files is another configuration, not a smaller one: who decides by
 * them looks at this first. dir_open() and dir_next() are opendir() and readdir() that count; others
 * say file_unread(), whose result is -error. */
unsigned files_unread(void);
/* Those that we may not read, which is everyday with files of others (in /proc), but no proof that one
 * of our own is not there. */
unsigned files_denied(void);
int file_unread(int error);
/* Is the lowest free descriptor among the last ones (of a small limit: the same part of it as of
 * FDS_USUAL)? They are for what goes on already, a restart needs some for a moment; whoever would hold
 * one for long asks first. Units leave more than connections, or nobody could stop one of them.
 * probe: any descriptor that is open. */
#define FDS_USUAL           128u
#define FDS_LEFT_BY_UNITS   32u
#define FDS_LEFT_BY_CLIENTS 16u
bool fds_are_short(int probe, unsigned left);
struct __dirstream;
struct dirent;
struct __dirstream *dir_open(const char *path);
struct dirent *dir_next(struct __dirstream *d);
/* Writes a temporary file beside path, fsyncs it, renames, fsyncs the directory. */
int write_file_atomic(const char *path, const void *data, size_t size, mode_t mode);
int mkdir_parents(const char *path, mode_t mode);
/* Adds the existing paths a pattern of fnmatch(3) names, sorted; at most GLOB_PATHS_MAX of them. */
#define GLOB_PATHS_MAX 4096
void path_glob(const char *pattern, struct strv *paths);
/* Where the runtime directory may be when nobody says: the i-th choice of this user, best first,
 * malloc'ed; NULL behind the last. The last one is no directory but a prefix of abstract socket
 * names ("@..."), for where nothing can be written. Daemon and client walk the same list. */
char *runtime_dir_choice(unsigned i);
/* Is this a machine's own pid namespace, not a container's? false also when /proc does not tell. */
bool first_pid_namespace(void);
int unix_addr(const char *path, void *ret_sockaddr_un, unsigned *ret_len); /* -ENAMETOOLONG */
/* One datagram or SEQPACKET frame with up to FDS_MAX descriptors. */
#define FDS_MAX 16
ssize_t send_fds(int sock, const void *data, size_t size, const int *fds, size_t n_fds, int flags);
/* *n_fds: in, room in fds; out, received. Surplus descriptors are closed, and those of an empty frame.
 * Result: bytes, 0 at end of file, -errno; -EMSGSIZE when the frame or the control data was truncated. */
ssize_t recv_fds(int sock, void *data, size_t size, int *fds, size_t *n_fds, int flags);

/* ---- the event loop ----------------------------------------------------------------------
 *
 * Level-triggered epoll; in one turn ready sources are called in order of priority, so that
 * exits are known before a control client is answered and notifications before exits
 * (systemd's order, for the same reason: the sender must still be identifiable).
 */
enum loop_priority {
	PRIO_NOTIFY,
	PRIO_KEEPER,
	PRIO_LAUNCHER,
	PRIO_TIMER,
	PRIO_NORMAL,
	PRIO_CONTROL,
	PRIO_MAX,
};

struct source;
typedef void source_fn(struct source *s, uint32_t epoll_events);

/* Embedded by its owner; container_of() in the callback gives the owner back. */
struct source {
	int fd;          /* not owned */
	uint32_t events; /* EPOLLIN ... */
	int priority;
	source_fn *fn;
	bool is_added, is_due; /* is_due: not watched yet, see loop.c */
	struct source *next_due;
};

struct loop {
	int epoll_fd;
	int timer_fd;
	uint64_t timer_armed_us; /* CLOCK_MONOTONIC; USEC_INFINITY when not armed */
	bool is_done;
	int exit_code;
	uint64_t turn; /* its number, for those who share one out */
	struct source timer;
	void (*on_timer)(struct loop *l);
	void (*before_wait)(
		struct loop *l);  /* what was put off to the end of the turn; may be NULL */
	struct source *urgent[4]; /* loop_urgent() */
	struct source *ready[64]; /* of this turn; removed sources are cleared in here */
	uint32_t ready_events[64];
	int n_ready;
	struct source *due; /* added while the kernel had no memory for them */
};

int loop_init(struct loop *l);
void loop_done(struct loop *l);
int loop_add(
	struct loop *l, struct source *s, int fd, uint32_t events, int priority, source_fn *fn);
int loop_modify(struct loop *l, struct source *s, uint32_t events);
void loop_remove(
	struct loop *l, struct source *s); /* safe inside any callback; not added is fine */
/* For a source that others have to make way for: they ask loop_is_urgent() between their pieces of work
 * and leave the rest to the next turn, which begins with it. */
void loop_urgent(struct loop *l, struct source *s);
bool loop_is_urgent(const struct loop *l);
/* One timer per loop: on_timer is called at or after at_us (CLOCK_MONOTONIC). */
void loop_arm(struct loop *l, uint64_t at_us);
int loop_turn(struct loop *l, int timeout_ms); /* -1: until something happens */
int loop_run(struct loop *l);                  /* until is_done; returns exit_code or -errno */

/* ---- chained lines (seal.c): a log that shows what was changed in it ---------------------- */

#define SEAL_HASH_HEX 65
struct seal { /* where a chain is: its last line */
	uint64_t seq;
	char hash[SEAL_HASH_HEX];
};
void seal_init(struct seal *c);
/* Appends the next line with its line feed. body: members of a JSON object, without braces. */
void seal_add(struct seal *c, struct buf *out, const char *body);
/* A line (without line feed) that is whole and has its own hash. */
bool seal_read(const char *line, size_t size, struct seal *ret, char ret_prev[SEAL_HASH_HEX]);
/* Is it the next one? NULL, and c moves on; else what is wrong. is_first: nothing is known before. */
const char *seal_check(struct seal *c, const char *line, size_t size, bool is_first);

/* ---- JSON (jansson) ---------------------------------------------------------------------- */

struct json_t;
/* Parses one bounded document: size and nesting checked before jansson sees it.
 * *ret_json is the caller's to json_decref(). -EBADMSG with text in e. */
int json_parse_bounded(
	const char *text, size_t size, unsigned depth_max, struct json_t **ret_json, struct err *e);
