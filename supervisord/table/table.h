/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The face of table/: what the keeper knows, all of it, and how that goes over a re-exec.
 *
 * Bookkeeping only: nothing here starts, signals, reads or tells; keeper/ does.
 */
#pragma once

#include <signal.h>

#include "base/base.h"
#include "stayd/wire.h"

/* The layout of the state, and the oldest one this program reads. */
#ifndef STAYD_NEXT
#	define STATE_VERSION 2
#else
#	define STATE_VERSION 3
#endif
#define STATE_OLDEST 2

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
	uint64_t time_us; /* CLOCK_MONOTONIC; of the exit, of a role: of its start */
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

#define ROWS_MAX (KEEPER_CHILDREN_MAX + ROLE_MAX)
struct table {
	struct kept kept;
	struct role_state role[ROLE_MAX];
	struct row row[ROWS_MAX + 1]; /* from 1; a page costs nothing until used */
	struct deposit deposit[KEEPER_FDS_MAX];
	uint32_t n_deposits; /* highest used */
};
extern struct table table;

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

/* ---- rows.c: children and roles, by pid and by id ------------------------------------------------ */

void rows_init(void); /* the rows of roles */
struct row *row_new(
	enum row_kind kind, const struct spawn_id *id, pid_t pid, int code); /* NULL: full */
void row_begin(struct row *r, pid_t pid, int fd); /* a role is alive again */
void row_end(struct row *r, int code, int status, uint64_t time_us);
void row_ended(struct row *r, int wait_status, uint64_t time_us);
void row_free(struct row *r);
struct row *row_of_pid(pid_t pid); /* alive ones only */
struct row *row_of_id(const struct spawn_id *id, const struct row *after);
unsigned rows_high(void);
/* Rows core has to hear of, oldest first. */
void news_add(struct row *r);
struct row *news_head(void); /* or NULL; ROW_UNUSED when it was freed since */
void news_told(void);        /* the head was */
void news_all(void);         /* every row, for a new core */
struct row *row_born(const struct spawn_id *id, pid_t pid); /* KP_BORN; NULL: full */
/* A shim's word: which of those below is the program (for a core that never hears the launcher's
 * word), or that one of them ended. */
void row_below(const struct kp_frame *f, pid_t shim);
/* With a pid: that row. Without: every exit of the id that core has been told. */
void row_forget(const struct kp_frame *f, int *fd);
/* The last orphans, for a KP_TRACK that comes after the exit. */
void orphan_add(pid_t pid, int wait_status);
const struct row *orphan_find(pid_t pid); /* the newest of that pid, or NULL */
/* Takes fd, 0 drops the name; 0, -EINVAL (no name), -ENOSPC. */
int deposit_put(const char *name, int fd);

/* ---- state.c -------------------------------------------------------------------------------------- */

bool is_ours(pid_t pid); /* our child, alive or not yet reaped? Only then may its pid be used */
/* There is none: closes what was left to us, and takes our own program, started as that name. */
void state_begin(void);
int program_open(const char *name); /* our own, into table.kept.self_fd; -errno */
int state_save(void);               /* a descriptor or -errno */
int state_load(int fd);             /* 0, or -errno and all is as before */
