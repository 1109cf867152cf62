/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of keeper/ share. Nobody else includes this, except its tests. */
#pragma once

#include <signal.h>

#include "base/base.h"
#include "keeper/keeper.h"
#include "stayd/wire.h"

/* ---- table.c: children and deposited descriptors --------------------------------------------- */

enum row_kind {
	ROW_UNUSED,
	ROW_CHILD = KP_ROW_CHILD, /* said KP_BORN; reaped by us, so its pid is its own until then */
	ROW_TRACKED =
		KP_ROW_TRACKED,   /* a main named by core; reaped by us only if it was reparented */
	ROW_BELOW = KP_ROW_BELOW, /* ended below a shim, pid is the shim's view: never alive here */
};

/* Indices are 16 bits, 1-based; 0 is none, so that zeroed memory is an empty table. */
struct row {
	uint64_t time_us; /* of the exit, CLOCK_BOOTTIME */
	struct spawn_id id;
	int32_t pid;
	int32_t status;
	int32_t program; /* below a shim, as it said; 0 = none */
	uint8_t kind;
	uint8_t code; /* 0 alive, else CLD_* */
	uint8_t is_queued, unused;
	uint16_t pid_next, id_next, queue_next, queue_prev;
};

struct deposit {
	int32_t fd; /* 0 = free slot: descriptors held are never 0 */
	uint16_t next, unused;
	char name[KP_NAME_MAX];
};

struct row *row_new(enum row_kind kind, const struct spawn_id *id, pid_t pid); /* NULL: full */
void row_free(struct row *r);
struct row *row_of_pid(pid_t pid); /* alive ones only */
struct row *row_of_id(const struct spawn_id *id, const struct row *after);
void row_end(struct row *r, int code, int status, uint64_t time_us);
struct row *row_at(unsigned index); /* 1 ... rows_high() */
unsigned row_index(const struct row *r);
unsigned rows_high(void);
unsigned rows_alive(void);
/* Rows core has to hear about, oldest first. */
void queue_add(struct row *r);
void queue_remove(struct row *r);
struct row *queue_head(void);
void queue_clear(void);

/* Takes fd on success. 0, -EINVAL (no name), -ENOSPC. */
int deposit_put(const char *name, int fd);
int deposit_drop(const char *name); /* 0 or -ENOENT */
struct deposit *deposit_at(unsigned index);
unsigned deposits_high(void);

/* The last orphans, for a KP_TRACK that comes after the exit. */
#define ORPHANS_MAX 1024
struct orphan {
	int32_t pid, status;
	uint64_t time_us;
};
void orphan_add(pid_t pid, int wait_status, uint64_t time_us);
const struct orphan *orphan_find(pid_t pid); /* the newest of that pid, or NULL */

/* Both tables as they are in memory; table_load() checks every row and builds the chains anew. */
size_t table_save(int fd); /* bytes written, 0 on failure */
int table_load(const void *data, size_t size);

/* ---- the keeper's state ------------------------------------------------------------------------ */

#define RETIRED_MAX 64 /* links of dead launchers still held by shims; the oldest goes first */
#define REFUSED_MAX 32 /* refusals waiting for core; further ones are logged only */

struct role_state {
	int32_t pid;
	uint32_t is_wanted;
	int32_t link_fd; /* our end of its ROLE_KEEPER_FD */
	int32_t core_fd; /* a dup of core's end of its ROLE_CORE_FD: survives core */
	uint64_t started_us, start_at_us, kill_at_us; /* CLOCK_MONOTONIC; 0 = none */
	uint64_t backoff_us;
};

/* What a re-exec carries over, besides the tables. Plain old data. */
struct kept {
	struct role_state role[ROLE_MAX];
	int32_t retired[RETIRED_MAX]; /* descriptors, 0 = free */
	int32_t previous_fd;          /* the program to return to, -1 none */
	uint32_t cores;               /* started so far */
	uint64_t signals;             /* received, not yet given to core: bit n is signal n + 1 */
	uint64_t ends;                /* of them given: an end once asked for outlives a core */
	uint32_t came_back;           /* the new program failed: tell core */
};

enum core_phase { CORE_SILENT, CORE_FDS, CORE_LINKS, CORE_CHILDREN, CORE_WELCOME, CORE_LIVE };
enum stop_phase { STOP_NOT, STOP_CHILDREN, STOP_CHILDREN_KILL, STOP_ROLES, STOP_REST };

struct keeper {
	struct kept kept;
	int epoll_fd, signal_fd, self_fd;
	bool is_pid1, is_host;
	char *args[KEEPER_ARGS_MAX + 3]; /* argv[0], one slot for us, the original ones */
	/* towards core */
	enum core_phase phase;
	unsigned cursor;       /* of the phase */
	uint32_t links_unsent; /* bit per role */
	uint64_t alive_by_us;  /* the next frame of core is due; 0: it never said KP_ALIVE */
	unsigned crashes;      /* of core since its last welcome */
	bool wants_writable;
	struct kp_frame refused[REFUSED_MAX];
	unsigned n_refused;
	/* after and before a re-exec */
	uint64_t prove_by_us; /* core must have said hello, then: has proven itself */
	int prove_crashes;
	uint32_t to_replace; /* roles that still run the old program */
	pid_t trial_pid;
	int trial_fd;
	uint64_t trial_by_us;
	bool has_more_dead;  /* perhaps */
	uint64_t reap_at_us; /* not before: see reap_pause_us() */
	/* the end */
	enum stop_phase stop;
	uint64_t stop_by_us;
	int exit_status, exit_how;
};
extern struct keeper K;

/* Constants of the daemon; variables only so that a test of a minute takes a second. */
struct timing {
	uint64_t backoff_max_us;
	uint64_t settled_us; /* a role alive this long: its next start is immediate again */
	uint64_t alive_us;   /* silence of a core that once said KP_ALIVE */
	uint64_t prove_us;   /* for the core of a new program to say hello, then to live */
};
extern struct timing timing;

uint64_t now_us(void); /* CLOCK_MONOTONIC: deadlines do not run while the machine sleeps */
/* How long to leave zombies alone after a fruitless waitpid(-1) of that cost. It walks all living
 * children, so while thousands die together looking at each wake-up is quadratic; a pause in
 * proportion lets them gather. Nothing below 20 us (some thousand children), at most 10 ms. */
uint64_t reap_pause_us(uint64_t cost_us);
/* One line on stderr; %s and %d only, no stdio; dropped when stderr would block. */
void say(const char *format, ...) PRINTF_LIKE(1, 2);
const char *role_name(enum role r);

/* ---- links.c: frames in and out ------------------------------------------------------------------ */

#define TAG_SIGNALS 0u
#define TAG_RETIRED 100u /* + slot; roles are their own number */

void link_watch(int fd, unsigned tag);
void link_ready(unsigned tag); /* epoll says so: read a bounded number of frames */
bool born_read_one(void);      /* one frame of any launcher; false: none waiting */
void link_retire(int fd);
void core_flush(void);
uint64_t signal_ends(void); /* the signals that ask for an end of everything */
void core_gone(void);
void core_refused(uint16_t kind, int error, const struct kp_frame *about);

/* ---- roles.c ---------------------------------------------------------------------------------------- */

void role_start(enum role r);
void role_end(enum role r, int wait_status); /* it was reaped */
void role_ask_to_end(enum role r, uint64_t grace_us);
void role_close(enum role r);
void roles_tick(uint64_t now, uint64_t *next);
/* Child side: reset signals and become the program. Only returns on failure. */
void exec_self(int fd, char **argv);

/* ---- reexec.c -------------------------------------------------------------------------------------- */

void reexec_ask(const struct kp_frame *f);
void reexec_trial_ended(int wait_status);
void reexec_tick(uint64_t now, uint64_t *next);
void reexec_core_ended(void);
void reexec_core_hello(void);
int state_load(int fd);
void reexec_start(bool is_restored);

/* ---- keeper.c -------------------------------------------------------------------------------------- */

void child_born(const struct kp_frame *f, pid_t pid);
void child_below(const struct kp_frame *f, pid_t shim);
void child_track(const struct kp_frame *f);
void child_signal(const struct kp_frame *f);
void child_forget(const struct kp_frame *f);
void stop_begin(enum stop_phase phase, int status, int how);
static inline void earliest(uint64_t *next, uint64_t at)
{
	if (at && at < *next)
		*next = at;
}
