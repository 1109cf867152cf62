/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fault injection: linked into build/fault/stayd and build/fault/stay-net, nothing else.
 *
 * The linker's --wrap sends every reference to a function of calls.def here, from our objects and
 * from the libraries. A wrapper counts, and when it is the n-th call of that name in that role, it
 * fails instead, or the process gets SIGKILL. Who asks and what happened is in a file that all
 * processes of a daemon map ($STAYD_FAULT): matrix.py arms it at the beginning of an operation.
 *
 *  1. Without $STAYD_FAULT, before the constructor, and while it is not armed, wrappers pass on.
 *  2. A wrapper makes no call of its own, save those that kill and fstat() before a SHORT write: it
 *     also runs in the child of a vfork, below a seccomp filter, and in a process without memory.
 *  3. All wrapped functions take and return integers or pointers in registers, at most seven, so
 *     one signature serves all of them (System V ABI of x86-64, AAPCS64 with unnamed arguments in
 *     registers).
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

enum call {
#define CALL(name, how, errors) CALL_##name,
#include "calls.def"
	CALL_MAX
};

/* Who is in a call. Both children are processes between fork and exec. */
enum who {
	WHO_KEEPER,
	WHO_CORE,
	WHO_LAUNCHER,
	WHO_LOGGER,
	WHO_NET,
	WHO_CHILD,
	WHO_ROLE_CHILD,
	WHO_OTHER,
	WHO_MAX
};
static const char *const who_names[WHO_MAX] = {
	"keeper", "core", "launcher", "logger", "net", "child", "role-child", "other"};

enum action { ACT_COUNT, ACT_FAIL, ACT_KILL };

#define BACKOFF_MAX_US 20000
#define FAULT_MAGIC    0x464c5431u
#define ERROR_SHORT    (-1) /* only half of the bytes are moved */

/* Written and read by matrix.py: keep in step. */
struct fault {
	uint32_t magic, calls_max;
	uint32_t is_armed; /* counting, and the shot below is live */
	uint32_t action;
	uint32_t who, call, first, times; /* calls first ... first + times - 1 */
	int32_t error;
	uint32_t fired, fired_pid;
	uint32_t reserved[5];
	uint32_t count[WHO_MAX][CALL_MAX];
};

static struct fault *fault;
static enum who me = WHO_OTHER, child = WHO_CHILD;
static bool is_in_child; /* of a vfork: in our memory, while we stand still */

#define CALL(name, how, errors) long __real_##name(long a, ...);
#include "calls.def"

static void die(void)
{
	(void)__real_syscall(SYS_kill, __real_syscall(SYS_getpid), (long)SIGKILL);
	(void)__real_syscall(SYS_exit_group, 128L + SIGKILL); /* the first of a namespace */
}

/* 0: make the call. */
static int shot(enum call call)
{
	struct fault *f = fault;
	if (!f || !__atomic_load_n(&f->is_armed, __ATOMIC_ACQUIRE))
		return 0;
	enum who who = is_in_child ? child : me;
	uint32_t n = __atomic_add_fetch(&f->count[who][call], 1, __ATOMIC_RELAXED);
	if (f->action == ACT_COUNT || f->who != who || f->call != (uint32_t)call || n < f->first ||
		n - f->first >= f->times)
		return 0;
	__atomic_add_fetch(&f->fired, 1, __ATOMIC_RELAXED);
	if (f->action == ACT_KILL)
		die();
	return f->error;
}

static bool is_pipe(long fd)
{
	struct stat st;
	return __real_fstat(fd, (long)&st) == 0 && S_ISFIFO(st.st_mode);
}

/* ---- the wrappers ---------------------------------------------------------------------------- */

#define REAL(name) __real_##name(a, b, c, d, e, g, h)
#define SET(value)                                                                                 \
	if (error) {                                                                               \
		errno = error;                                                                     \
		return value;                                                                      \
	}
#define FAIL(name)                                                                                 \
	SET(-1)                                                                                    \
	return REAL(name);
#define NONE(name)                                                                                 \
	SET(0)                                                                                     \
	return REAL(name);
#define AFTER(name)                                                                                \
	long r = REAL(name);                                                                       \
	SET(-1)                                                                                    \
	return r;
#define CODE(name) return error ? error : REAL(name);
#define MOVE(name)                                                                                 \
	if (error == ERROR_SHORT)                                                                  \
		c = c > 1 ? c / 2 : c;                                                             \
	else                                                                                       \
		SET(-1)                                                                            \
	return REAL(name);
/* ... and what the kernel never parts is not parted: at most PIPE_BUF to a pipe (pipe(7)). */
#define WRITE(name)                                                                                \
	if (error == ERROR_SHORT && is_pipe(a) && c <= PIPE_BUF) {                                 \
		error = 0;                                                                         \
		__atomic_sub_fetch(&fault->fired, 1, __ATOMIC_RELAXED);                            \
	}                                                                                          \
	MOVE(name)
/* The child of fork() has memory of its own ... */
#define FORK(name)                                                                                 \
	SET(-1)                                                                                    \
	long r = REAL(name);                                                                       \
	if (r == 0)                                                                                \
		me = child;                                                                        \
	return r;
#define SYSC(name)                                                                                 \
	SET(-1)                                                                                    \
	long r = REAL(name);                                                                       \
	if (r == 0 && (a == SYS_clone3 || a == SYS_clone))                                         \
		me = child;                                                                        \
	return r;
/* ... and the others run in ours while we stand still. */
#define BESIDE(name)                                                                               \
	is_in_child = true;                                                                        \
	long r = REAL(name);                                                                       \
	is_in_child = false;                                                                       \
	return r;
#define VFORK(name)                                                                                \
	SET(-1)                                                                                    \
	BESIDE(name)
#define RAW(name)                                                                                  \
	if (error)                                                                                 \
		return -error;                                                                     \
	BESIDE(name)

/* Which calls count. */
#define IS_FAIL   true
#define IS_NONE   true
#define IS_AFTER  true
#define IS_CODE   true
#define IS_MOVE   true
#define IS_WRITE  true
#define IS_FORK   true
/* What the kernel never refuses is not refused here: -1 for a pid is everybody. */
#define IS_SYSC   (a != SYS_getpid && a != SYS_getppid && a != SYS_gettid)
#define IS_VFORK  true
#define IS_RAW    true
#define IS_DUPS   (b == F_DUPFD || b == F_DUPFD_CLOEXEC)
#define IS_ADDS   (b == EPOLL_CTL_ADD)
#define IS_OPEN   true
#define IS_OPENAT true
#define OPEN(name)                                                                                 \
	if (error == ENOSPC && !(b & O_CREAT))                                                     \
		error = 0;                                                                         \
	FAIL(name)
#define OPENAT(name)                                                                               \
	if (error == ENOSPC && !(c & O_CREAT))                                                     \
		error = 0;                                                                         \
	FAIL(name)
#define DUPS FAIL
#define ADDS FAIL

#define CALL(name, how, errors)                                                                    \
	long __wrap_##name(long a, long b, long c, long d, long e, long g, long h);                \
	long __wrap_##name(long a, long b, long c, long d, long e, long g, long h)                 \
	{                                                                                          \
		int error = IS_##how ? shot(CALL_##name) : 0;                                      \
		how(name)                                                                          \
	}
#include "calls.def"

/* Roles that die by the thousand: no waiting for them. Weak: stay-net has no keeper. */
struct timing {
	uint64_t backoff_max_us, settled_us;
};
extern struct timing timing __attribute__((weak));

/* ---- start ------------------------------------------------------------------------------------- */

static enum who who_of(const char *argument)
{
	if (!argument || strncmp(argument, "--role=", 7) != 0)
		return WHO_KEEPER;
	for (int i = 0; i < WHO_MAX; i++)
		if (strcmp(argument + 7, who_names[i]) == 0)
			return (enum who)i;
	return WHO_OTHER;
}

__attribute__((constructor)) static void fault_begin(int argc, char **argv)
{
	const char *path = getenv("STAYD_FAULT");
	int fd = path ? (int)__real_open((long)path, (long)(O_RDWR | O_CLOEXEC)) : -1;
	if (fd < 0)
		return;
	void *p = (void *)__real_mmap(0, (long)sizeof(struct fault), (long)(PROT_READ | PROT_WRITE),
		(long)MAP_SHARED, (long)fd, 0L);
	(void)__real_close((long)fd);
	if (p == MAP_FAILED)
		return;
	if (&timing) {
		timing.backoff_max_us = BACKOFF_MAX_US;
		timing.settled_us = BACKOFF_MAX_US;
	}
	me = who_of(argc > 1 ? argv[1] : NULL);
	child = me == WHO_KEEPER ? WHO_ROLE_CHILD : WHO_CHILD;
	fault = p;
	if (fault->magic != FAULT_MAGIC || fault->calls_max != CALL_MAX)
		fault = NULL; /* of another build */
}
