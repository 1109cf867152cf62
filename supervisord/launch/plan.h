/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The plan: one exec as a flat message. Private to launch/ (and to its fuzzer and tests).
 *
 * Every reference is an offset from the start of the plan; offset 0 is the header itself and
 * therefore means "none". Strings are NUL-terminated inside the plan, arrays are naturally
 * aligned, the size is a multiple of 8. Slots of argv and envp are 64 bits wide so that the
 * launcher turns them into pointers in place (plan_relocate()) and allocates nothing.
 */
#pragma once

#include "base/base.h" /* before <sys/resource.h>, whose PRIO_MAX would fall into its enum */
#include "stayd/unit.h"

#include <sys/resource.h>

#define PLAN_MAGIC   0x504e414cu
#define PLAN_VERSION 1u

/* Bounds beyond which a plan is refused; far above what a unit says. */
#define PLAN_WORDS_MAX      (512 * 1024) /* argv and envp each */
#define PLAN_GROUPS_MAX     65536        /* kernel's NGROUPS_MAX */
#define PLAN_DIRS_MAX       256
#define PLAN_MOUNTS_MAX     1024
#define PLAN_CANDIDATES_MAX 64
#define PLAN_PID_SLOTS_MAX  4
#define PLAN_PID_DIGITS     10         /* room for a pid in decimal in a slot */
#define PLAN_FILTER_MAX     (4096 * 8) /* BPF_MAXINSNS of struct sock_filter */

struct plan_span {
	uint32_t off, n; /* n elements; off 0 when n is 0 */
};

enum plan_flags {
	/* Needs an address space of its own: mounts, directories, slow opens, another user. */
	PLAN_FORK = 1 << 0,
	PLAN_SHIM = 1 << 1,
	PLAN_SET_UID = 1 << 2,
	PLAN_SET_GID = 1 << 3,
	PLAN_SET_GROUPS = 1 << 4,
	PLAN_NO_NEW_PRIVS = 1 << 5,
	PLAN_SECURE_BITS = 1 << 6,
	PLAN_NICE = 1 << 7,
	PLAN_OOM_SCORE = 1 << 8,
	PLAN_PERSONALITY = 1 << 9,
	PLAN_IGNORE_SIGPIPE = 1 << 10,
	PLAN_CWD_OPTIONAL = 1 << 11,
	PLAN_FDS_NONBLOCK = 1 << 12,
	PLAN_SCHED_RESET = 1 << 13,
	PLAN_MAP_USERS = 1 << 14, /* PrivateUsers=: root and the unit's user, nobody else */
	PLAN_SET_CAPS =
		1
		<< 15, /* ambient capabilities or secure bits: permitted set is kept over setuid */
	PLAN_MDWE = 1 << 16, /* also PR_SET_MDWE where the kernel has it */
	PLAN_FLAGS_ALL = (1 << 17) - 1,
};

/* Where a standard stream comes from when core sends no descriptor for it. */
enum plan_std {
	PLAN_STD_NULL,
	PLAN_STD_OURS,
	PLAN_STD_PREVIOUS,
	PLAN_STD_OPEN,
	PLAN_STD_TTY,
	PLAN_STD_MAX
};

struct plan_stream {
	uint32_t from; /* enum plan_std */
	uint32_t path;
	int32_t open_flags;
};

struct plan_rlimit {
	uint32_t is_set;
	uint32_t is_soft_only;
	uint64_t soft, hard; /* UINT64_MAX: keep what we have */
};

/* One directory of Runtime/State/...Directory=: root/name, link beside it or 0. */
struct plan_dir {
	uint32_t kind; /* enum dir_kind */
	uint32_t root, name, link;
	uint32_t mode;
};

/* Steps of the mount tree, carried out in order; see mounts.c for who emits what. */
enum mount_op {
	MOUNT_BIND,         /* src on dst, recursive */
	MOUNT_BIND_RO,      /* the same, read-only */
	MOUNT_READ_ONLY,    /* dst as it is, read-only with everything below */
	MOUNT_READ_WRITE,   /* dst with the attributes it had before any step */
	MOUNT_INACCESSIBLE, /* dst hidden by an empty object of mode 000 */
	MOUNT_TMPFS,        /* options in src */
	MOUNT_EMPTY_RO,     /* an empty read-only tmpfs (ProtectHome=tmpfs) */
	MOUNT_PRIVATE_TMP,  /* src: directory to create 0700 with tmp/ inside; dst: /tmp */
	MOUNT_PRIVATE_DEV,
	MOUNT_PROC, /* a new procfs; src: options "hidepid=..,subset=.." */
	MOUNT_SYS,  /* bind of the host's /sys below the new root */
	MOUNT_DEV,  /* bind of the host's /dev below the new root */
	MOUNT_EXEC,
	MOUNT_NO_EXEC,
	MOUNT_OP_MAX,
};

enum mount_flags {
	MOUNT_OPTIONAL = 1, /* "-": skip when missing */
	MOUNT_NON_RECURSIVE = 2,
	MOUNT_BELOW_ROOT = 4, /* "+": relative to RootDirectory= */
	MOUNT_LATE = 8,       /* MOUNT_READ_WRITE inside something an earlier step mounts */
	MOUNT_FLAGS_ALL = 15,
};

struct plan_mount {
	uint32_t op, flags;
	uint32_t src, dst;
};

struct plan {
	uint32_t magic, version, size, sum; /* sum: plan_sum() of what follows the field */
	uint32_t flags;
	uint32_t kind;               /* enum exec_kind */
	uint32_t unit;               /* name, for messages and for prctl */
	struct plan_span exec;       /* u32 string offsets: candidates, tried in order */
	struct plan_span argv, envp; /* u64 slots, one more that is 0 behind them */
	struct plan_span pid_slots;  /* u32 offsets of PLAN_PID_DIGITS writable bytes and a NUL */
	uint32_t cwd;
	uint32_t uid, gid;
	uint32_t dir_uid, dir_gid; /* whose the directories are, also for a "+" command */
	struct plan_span groups;   /* u32 */
	uint32_t secure_bits;
	uint32_t umask;
	int32_t nice, oom_score;
	int32_t cpu_policy, cpu_priority; /* policy -1: untouched */
	int32_t io_prio;                  /* class << 13 | level, -1: untouched */
	struct plan_span cpu_mask;        /* bytes */
	uint32_t personality;
	uint64_t timer_slack_ns; /* 0: untouched */
	uint64_t drop_bounding;  /* capabilities to take out of the bounding set */
	uint64_t ambient;
	struct plan_rlimit rlimit[RLIM_NLIMITS];
	struct plan_stream std[3];
	struct plan_span seccomp; /* bytes, struct sock_filter[]; one or two programs */
	uint32_t seccomp_split;   /* bytes of the first of two; 0: one */
	struct plan_span dirs;    /* struct plan_dir */
	struct plan_span mounts;  /* struct plan_mount */
	uint32_t namespaces;      /* CLONE_NEW* */
	uint32_t root;            /* RootDirectory=, 0: none */
	uint32_t netns;           /* NetworkNamespacePath= */
	uint32_t n_pass;          /* descriptors to pass on from 3 */
};

/* 0, or -EBADMSG: nothing in the plan points outside of it. Trusts size and nothing else. */
int plan_check(const struct plan *p, size_t size);
/* Turns argv and envp into pointers; once, after plan_check(). */
void plan_relocate(struct plan *p);
uint32_t plan_sum(const struct plan *p, size_t size);

static inline void *plan_at(struct plan *p, uint32_t off)
{
	return (char *)p + off;
}
static inline const char *plan_str(const struct plan *p, uint32_t off)
{
	return off ? (const char *)p + off : NULL;
}

/* ---- the writer, used by plan.c and mounts.c ---- */
uint32_t plan_put(struct buf *b, const void *data, size_t size, size_t align);
uint32_t plan_put_str(struct buf *b, const char *s);
