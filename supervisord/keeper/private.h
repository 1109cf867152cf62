/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of keeper/ share. Nobody else includes this, except its tests. */
#pragma once

#include <signal.h>

#include "base/base.h"
#include "keeper/keeper.h"
#include "stayd/wire.h"
#include "table/table.h"

enum stop_phase { STOP_NOT, STOP_CHILDREN, STOP_ROLES, STOP_REST, STOP_DONE };

#define STATE_OPTION "--keeper-state=" /* and the descriptor of a pack */

/* What no re-exec carries over; the table does the rest. */
struct keeper {
	char *args[KEEPER_ARGS_MAX + 3]; /* argv[0], one slot for us, the original ones */
	int signal_fd;
	bool has_more_dead;  /* dead ones: perhaps */
	uint64_t reap_at_us; /* not before: see reap_pause_us() */
	/* what core was told */
	bool has_hello, is_welcome, is_full, is_stuck, is_up; /* no room; no memory; it says so */
	unsigned fds_told, crashes;                           /* since the last hello */
	uint64_t signals_told;
	/* whether it reads: frames sent, those read when we looked last, looks that saw no progress */
	uint32_t sent, seen, looks;
	uint64_t look_at_us;
	/* probation: by then core must live, before it was started that often; and the end */
	uint64_t prove_by_us;
	uint32_t prove_cores;
	enum stop_phase stop;
	uint64_t stop_by_us;
	int exit_status, exit_how;
};
extern struct keeper K;

/* Constants of the daemon; variables only so that a test of a minute takes a second. */
struct timing {
	uint64_t backoff_max_us, settled_us; /* a role alive that long is started at once again */
	uint64_t hang_us;  /* for core to read something of what it was told, or to say hello */
	uint64_t prove_us; /* for the core of a new program to say hello, then to be up */
};
extern struct timing timing;

/* ---- children.c, links.c, roles.c, keeper.c ----------------------------------------------------------  */

void child_ended(pid_t pid, int wait_status);
void child_said(const struct kp_frame *f, pid_t pid);
void child_track(const struct kp_frame *f, int *fd);
void child_signal(const struct kp_frame *f, int *fd);
bool words_read_one(void); /* one frame of any child; false: none waiting */
void core_read(void);
void core_flush(void);
void core_refuse(uint16_t kind, int error, const struct kp_frame *about);
void core_gone(void);
void hang_tick(uint64_t now, uint64_t *next);
void role_ended(enum role r, int wait_status);
void role_asked(const struct kp_frame *f, int *fd);
void roles_tick(uint64_t now, uint64_t *next);
void reexec_begin(int state);
void reexec_asked(const struct kp_frame *f, int *fd);
void reexec_tick(uint64_t now, uint64_t *next);
void stop_begin(enum stop_phase phase, int status, int how);
uint64_t signal_ends(void); /* the signals that ask for an end of everything */
