/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of keeper/ share. Nobody else includes this, except its tests. */
#pragma once

#include <signal.h>

#include "base/base.h"
#include "keeper/keeper.h"
#include "stayd/wire.h"

/* ---- the state: what goes over a re-exec -------------------------------------------------------
 *
 * RULE OF VERSIONS. A keeper reads what its neighbours wrote, the one before and the one after: there
 * must be a way back. So a member is only added, at the end of its struct, with 0 for "not said";
 * none moves or changes its meaning; a new kind of thing is a section of its own behind the others
 * (state.c). The pack says counts and sizes: a reader skips what it does not know.
 * A descriptor of 0 is none. None of them is CLOEXEC: exec_with_fds() closes them in a role. */

enum row_kind {
	ROW_UNUSED,
	ROW_CHILD = KP_ROW_CHILD,     /* said KP_BORN; ours, so its pid is its own until reaped */
	ROW_TRACKED = KP_ROW_TRACKED, /* a main named by core; ours only if it was reparented */
	ROW_BELOW = KP_ROW_BELOW,     /* ended below a shim; the pid is as the shim sees it */
	ROW_ROLE,                     /* row and id.seq are the number of the role */
};

struct row {
	uint64_t time_us; /* CLOCK_BOOTTIME; of the exit, of a role: of its start */
	struct spawn_id id;
	int32_t pid, status;
	int32_t program; /* of a shim, as it said: the pid below; 0 = none */
	uint8_t kind;
	uint8_t code; /* 0 alive, else CLD_* */
	uint8_t is_queued;
	uint8_t is_stale; /* a role that runs the program of before a re-exec */
	int32_t fd;       /* of a role: core's end of its link; of core: its own end of ours */
#ifdef STAYD_NEXT
	uint64_t next;
#endif
};

struct deposit {
	int32_t fd;
	char name[KP_NAME_MAX];
};

struct role_state {
	uint32_t is_wanted;
	int32_t program_fd; /* 0: our own program */
	uint64_t start_at_us, backoff_us;
};

struct kept {
	uint32_t cores;               /* started so far */
	int32_t self_fd, previous_fd; /* our program; on probation, the one to return to */
	int32_t core_link;
	int32_t words[2];  /* children speak into 1 (KP_BORN), whichever launcher made them */
	int32_t leash[2];  /* 1 is what other roles have of us: its end is ours */
	uint32_t reexecs;  /* that led to a program, the way back included */
	int32_t came_back; /* -errno of the last re-exec, if it failed */
	uint64_t signals;  /* for core: bit n is signal n + 1; those that ask for an end stay */
#ifdef STAYD_NEXT
	uint64_t next;
#endif
};

enum stop_phase { STOP_NOT, STOP_CHILDREN, STOP_ROLES, STOP_REST, STOP_DONE };
#define ROWS_MAX (KEEPER_CHILDREN_MAX + ROLE_MAX)

struct keeper {
	struct kept kept;
	struct role_state role[ROLE_MAX];
	struct row row[ROWS_MAX + 1]; /* from 1; a page costs nothing until used */
	struct deposit deposit[KEEPER_FDS_MAX];
	uint32_t n_deposits; /* highest used */
	/* From here on nothing is carried over. */
	char *args[KEEPER_ARGS_MAX + 3]; /* argv[0], one slot for us, the original ones */
	int signal_fd;
	bool is_pid1, is_host, has_more_dead; /* dead ones: perhaps */
	uint64_t reap_at_us;                  /* not before: see reap_pause_us() */
	/* what core was told */
	bool has_hello, is_welcome, is_full, is_stuck; /* no room; no memory */
	unsigned fds_told, crashes;                    /* since the last hello */
	uint64_t signals_told;
	/* whether it reads: frames sent, those read when we looked last, looks that saw no progress */
	uint32_t sent, seen, looks;
	uint64_t look_at_us;
	/* probation: by then core must live, before it was started that often */
	uint64_t prove_by_us;
	uint32_t prove_cores;
	/* the end */
	enum stop_phase stop;
	uint64_t stop_by_us;
	int exit_status, exit_how;
};
extern struct keeper K;

/* Constants of the daemon; variables only so that a test of a minute takes a second. */
struct timing {
	uint64_t backoff_max_us, settled_us; /* a role alive that long is started at once again */
	uint64_t hang_us;  /* for core to read something of what it was told, or to say hello */
	uint64_t prove_us; /* for the core of a new program to say hello, then to live */
};
extern struct timing timing;

static inline void earliest(uint64_t *next, uint64_t at)
{
	if (at && at < *next)
		*next = at;
}

static inline void drop_fd(int32_t *fd)
{
	if (*fd > 0)
		fd_close(*fd);
	*fd = 0;
}

/* ---- children.c -------------------------------------------------------------------------------- */

struct row *row_new(
	enum row_kind kind, const struct spawn_id *id, pid_t pid, int code); /* or NULL */
void row_begin(struct row *r, pid_t pid); /* a role is alive again */
void row_end(struct row *r, int code, int status, uint64_t time_us);
void row_free(struct row *r);
struct row *row_of_pid(pid_t pid); /* alive ones only */
struct row *row_of_id(const struct spawn_id *id, const struct row *after);
unsigned rows_high(void);
void news_add(struct row *r);
struct row *news_head(void); /* the oldest row core has to hear of, or NULL */
void news_told(void);        /* the head was */
void news_all(void);         /* every row, for a new core */
bool is_ours(pid_t pid);     /* our child, alive or not yet reaped? Only then may its pid be used */
void child_ended(pid_t pid, int wait_status);
void child_said(const struct kp_frame *f, pid_t pid);
void child_track(const struct kp_frame *f, int *fd);
void child_signal(const struct kp_frame *f, int *fd);
void child_forget(const struct kp_frame *f, int *fd);

/* ---- links.c, roles.c, state.c, keeper.c -------------------------------------------------------- */

bool words_read_one(void); /* one frame of any child; false: none waiting */
void core_read(void);
void core_flush(void);
void core_refuse(uint16_t kind, int error, const struct kp_frame *about);
void core_gone(void);
void hang_tick(uint64_t now, uint64_t *next);
void role_ended(enum role r, int wait_status);
void role_asked(const struct kp_frame *f, int *fd);
void roles_tick(uint64_t now, uint64_t *next);
int deposit_put(const char *name, int fd); /* takes fd; 0 drops the name; -EINVAL, -ENOSPC */
bool state_load(int fd);
void reexec_asked(const struct kp_frame *f, int *fd);
void reexec_tick(uint64_t now, uint64_t *next);
void stop_begin(enum stop_phase phase, int status, int how);
uint64_t signal_ends(void); /* the signals that ask for an end of everything */
