/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Internal frames between the processes of one daemon: SOCK_SEQPACKET, host byte order.
 *
 * Each receiver accepts only the kinds its peer may send (a table beside the receiver). All text
 * fields are NUL-terminated; a receiver checks that.
 *
 *   keeper <-> core      struct kp_frame   control of children, deposited descriptors, roles
 *   launcher, shim, every new child -> keeper   struct kp_frame (KP_BORN, KP_SHIM_*) only
 *   core  <-> launcher   struct ln_head + plan bytes / struct ln_reply
 *   core  <-> logger     struct lg_frame
 *   core  <-> stay-net   struct nt_frame
 *
 * Versions. The last three are between programs of one build: a frame with another WIRE_BUILD closes
 * the link, and keeper starts the role anew. A kp_frame is not: a shim, and a child that waits for its
 * exec, outlive upgrades and the way back, so each speaks to the keeper of a neighbouring version.
 * Its layout is frozen therefore: what there is never moves and never changes its meaning; a member
 * may be added at the end, nil meaning "not said"; a receiver takes any size from KP_FRAME_MIN to
 * KP_FRAME_MAX, reads what it knows and takes the rest for nil; a kind it does not know it ignores
 * or refuses, and goes on.
 */
#pragma once

#include <stdint.h>

#include "stayd/stayd.h"

#ifndef STAYD_NEXT
#define WIRE_BUILD 0x53544103u /* "STA", layout version; change when any struct here changes */
#else
#define WIRE_BUILD 0x53544104u
#endif

/* Roles: the processes keeper runs. Each finds its links at fixed descriptors. */
enum role { ROLE_KEEPER, ROLE_CORE, ROLE_LAUNCHER, ROLE_LOGGER, ROLE_NET, ROLE_WEB, ROLE_MAX };
#define ROLE_KEEPER_FD 3 /* every role: its link to keeper */
#define ROLE_CORE_FD   4 /* launcher, logger, net, web: their link to core */

/* Identity of one spawned process, chosen by core before the spawn and recorded first: the
 * activation's invocation id and a number that grows with every process of that unit. */
struct spawn_id {
	uint8_t invocation[16];
	uint32_t seq;
};

/* ---- keeper ------------------------------------------------------------------------------ */

enum kp_kind {
	/* core -> keeper */
	KP_HELLO = 1, /* first frame of a core; keeper answers FD*, LINK*, CHILD*, then WELCOME */
	KP_SIGNAL, /* id, status = signal: kill(2) the id's own pid (child, else tracked main) if not
		    * reaped; with pid that one of them; code: another signal behind it, 0 none.
		    * Refused with -ESRCH also for a main that is not ours */
	KP_FORGET, /* id: the exit was recorded; drop the entry; with pid only that one of the id */
	KP_TRACK,  /* id, pid: also report this pid (MAINPID=, PIDFile=) as id's main. Refused with
		    * -ESRCH when it ended and keeper did not see how */
	KP_PUT,    /* name + 1 fd: hold it; replaces one of the same name */
	KP_DROP,   /* name */
	KP_ROLE,   /* role, status 1 run / 0 stop: keep that role running; + 1 fd: its program, if it is
		    * not ours. KP_SIGNAL reaches it, too: the id is nil but for seq, the role. Of core
		    * itself: it has come up */
	KP_UNUSED, /* was a heartbeat */
	KP_REEXEC, /* + 1 fd: become that program, which core has tried; none: the present one again */
	KP_EXIT,   /* status: everything is stopped, leave with this code; code 1: a host reboots,
		    * else it powers off */
	/* keeper -> core */
	KP_FD = 32, /* name + fd */
	KP_LINK, /* role, pid + fd: core's end of a link to a role (also sent when a role is replaced);
		  * status 1: it runs the program of before a re-exec */
	KP_CHILD,   /* id, pid, code 0 = alive, else as in KP_EXITED: a child known from before */
	KP_WELCOME, /* status = how many cores before this one; end of the list. pid = re-execs so far;
		     * code: the last one led to a program whose core did not come up, and back */
	KP_EXITED, /* id, pid, code CLD_EXITED|CLD_KILLED|CLD_DUMPED, status, time_us; until KP_FORGET */
	KP_GOT,     /* status = signal keeper received (TERM, INT, HUP, USR1, PWR, RTMIN+n); those that
		     * ask for an end are repeated to every later core */
	KP_REFUSED, /* kind of the refused frame in code, -errno in status; the rest as it came; not
		     * told when core's socket is full. KP_BORN -ENOSPC: the table is full */
	/* launcher, shim, new child -> keeper (pid by SCM_CREDENTIALS, never from the frame) */
	KP_BORN = 64, /* id: sent by the new process itself before its exec */
	KP_SHIM_EXIT, /* id, pid, code, status: a process below the shim ended */
	KP_SHIM_MAIN, /* id, pid: the program below the shim; before any KP_SHIM_EXIT */
};

/* Whose exit (KP_EXITED) or life (KP_CHILD) a frame speaks of; in its role field. */
enum kp_row {
	KP_ROW_CHILD = 1,   /* the process that said KP_BORN: the program, or its shim */
	KP_ROW_TRACKED = 2, /* a main process named by KP_TRACK */
	KP_ROW_BELOW = 3,   /* ended below the shim of that id */
};

#define KP_NAME_MAX  96
#define KP_MAGIC     0x53544b50u /* "STKP" */
#define KP_FRAME_MIN 152         /* what the first version sent */
#define KP_FRAME_MAX 512

struct kp_frame {
	uint32_t magic; /* KP_MAGIC, for ever */
	uint16_t kind;
	uint16_t role;
	struct spawn_id id;
	int32_t pid;
	int32_t code;
	int32_t status;
	int32_t program; /* KP_CHILD, KP_EXITED of a shim: the pid below it; 0 = not known, no shim */
	uint64_t time_us; /* CLOCK_MONOTONIC */
	char name[KP_NAME_MAX];
#ifdef STAYD_NEXT
	uint64_t next; /* what a later version may add, so that tests have one */
#endif
};

/* ---- launcher ---------------------------------------------------------------------------- */

/* Core -> launcher: this head, then head.plan_size bytes of plan (see launch/launch.h), or, when
 * plan_in_fd, the plan in a sealed memfd that is the last descriptor. Descriptors, in order:
 * stdin, stdout, stderr, cgroup directory (each only when its bit is set), then those to pass on. */
enum ln_flags {
	LN_HAS_STDIN = 1,
	LN_HAS_STDOUT = 2,
	LN_HAS_STDERR = 4,
	LN_HAS_CGROUP = 8,
	LN_PLAN_IN_FD = 16,
	LN_HOLD = 64, /* no plan, no answer: keep these descriptors open as long as you live */
	/* No plan: answer LN_SYNCED when every earlier request has been answered, or its process is
	 * known to keeper and hangs before its exec. */
	LN_SYNC = 32,
	/* No plan but database NUL name NUL (passwd, group): getent writes to stdout, and the end of
	 * that is the answer: core may not start programs itself. */
	LN_LOOKUP = 128,
	/* No plan but the version of keeper's state as text, and the descriptor of a program: is it a
	 * stayd that can take over? Its wait status (an int) is written to stdout, or nothing. */
	LN_TRIAL = 256,
	LN_PING = 512, /* no plan: answer LN_PONG at once; one that waits for an exec cannot */
	/* No plan but a name, and as stdout the directory it is in: remove it with all below, in a
	 * process of its own. No answer. */
	LN_REMOVE = 1024,
};
#define LN_FRAME_MAX (160 * 1024) /* below the default socket buffer; larger plans go by memfd */
#define LN_PLAN_MAX  (8 * 1024 * 1024)

struct ln_head {
	uint32_t build;
	uint32_t flags;
	struct spawn_id id;
	uint32_t plan_size;
	uint32_t n_pass_fds;
};

enum ln_kind {
	LN_SPAWNED = 1, /* exec succeeded: pid is running the program */
	LN_FAILED,      /* nothing runs: stage (enum exec_exit), error, detail */
	LN_SYNCED,      /* to LN_SYNC */
	LN_PONG,        /* to LN_PING */
};

struct ln_reply {
	uint32_t build;
	uint32_t kind;
	struct spawn_id id;
	int32_t pid;
	int32_t stage;
	int32_t error;    /* errno */
	int32_t shim_pid; /* not 0: the shim above the program */
	char detail[192];
};

/* ---- logger ------------------------------------------------------------------------------ */

enum lg_kind {
	/* core -> logger: sizes, mode, and the directory: 1 fd, or none and number = why (errno);
	 * neither: nothing is stored. */
	LG_CONFIG = 1,
	LG_OPEN,  /* core -> logger: + 1 fd, read end of a pipe; name = unit, stream = 'o' or 'e' */
	LG_CLOSE, /* core -> logger: name, stream: end after what is in the pipe */
	LG_NOTE,  /* core -> logger: name, text: a line of the daemon's own about the unit */
	LG_SYNC,  /* core -> logger: number; answered when all read so far is written */
	LG_SYNCED = 32, /* logger -> core: number */
	LG_TROUBLE, /* logger -> core: name, text: disk full, read-only ...; number 0, then 1 when over */
	LG_DIR, /* logger -> core: its directory is of no use: make it, hand it over, LG_CONFIG */
};

struct lg_frame {
	uint32_t build;
	uint16_t kind;
	uint8_t stream;
	uint8_t to_console; /* LG_CONFIG: also write prefixed lines to our stdout; LG_OPEN: this stream */
	uint64_t number;
	uint64_t file_max, total_max; /* bytes */
	uint32_t file_keep;           /* rotated files kept per unit */
	char name[UNIT_NAME_MAX + 1];
	char text[512];
};

/* ---- stay-net ---------------------------------------------------------------------------- */

enum nt_kind {
	/* core -> net */
	NT_HELLO = 1, /* a new core: forget all probes and load balancers of the old one */
	NT_PROBE, /* number, timeout_us, text = http://, https://, tcp:// target: one probe now */
	NT_LB,    /* lb, text = driver '\n' address '\n' backend: configure (again: replace) */
	NT_LB_REMOVE, /* lb */
	NT_LB_WANT,   /* lb, server, state, weight, addr, port: a row of the desired table */
	NT_LB_FORGET, /* lb, server: no longer ours; left as it is */
	NT_LB_SOCKET, /* lb, number echoed, error: answer to NT_LB_CONNECT, + fd when error is 0 */
	NT_LB_FAST, /* lb: sample every LB_FAST_US until number ms have passed (a drain is going on) */
	/* net -> core */
	NT_PROBED = 32, /* number, ok, latency_us, text = "http 200", "connection refused" ... */
	NT_LB_CONNECT,  /* lb, number, text = path: open this Unix socket for me (non-blocking) */
	NT_LB_STATUS, /* lb, reachable, generation (grows when the LB restarted), text = trouble,
			 also when reachable */
	NT_LB_SAMPLE, /* lb, server, struct lb_sample: what the LB itself says; text = why not in sync */
};

enum lb_state { LB_MAINT, LB_DRAIN, LB_READY, LB_STATE_MAX };
enum lb_check { LB_CHECK_NONE, LB_CHECK_UNKNOWN, LB_CHECK_OK, LB_CHECK_FAILED };

/* One server as one load balancer sees it. Counters are the load balancer's own totals. */
struct lb_sample {
	uint32_t known;    /* 0: the LB has no such server */
	uint32_t in_sync;  /* state, address and weight read back as wanted */
	uint32_t state;    /* enum lb_state, administrative, as read back */
	uint32_t is_up;    /* would get traffic if ready */
	uint32_t check;    /* enum lb_check */
	uint32_t weight;   /* effective, percent of full */
	uint64_t sessions; /* current: scur + qcur */
	uint64_t total;    /* stot */
	uint64_t errors;   /* econ + eresp */
	uint64_t retries;  /* wretr + wredis */
	uint64_t http_5xx;
	uint64_t serial; /* number of the sample of this LB; grows */
};

struct nt_frame {
	uint32_t build;
	uint16_t kind;
	uint16_t lb;
	uint64_t number;
	uint64_t timeout_us;
	uint64_t latency_us;
	int32_t ok;
	int32_t error;
	uint32_t reachable;
	uint32_t generation;
	uint32_t state;  /* enum lb_state */
	uint32_t weight; /* percent of full weight, 0..100 */
	uint16_t port;
	char addr[64];
	char server[128];
	struct lb_sample sample;
	char text[512];
};
