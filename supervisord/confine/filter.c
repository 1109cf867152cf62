/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From the rows of calls.def to a filter over system calls.
 *
 *  1. Nothing passes that has no row: what is not listed is answered by ENOSYS and told to the
 *     kernel's audit, what is listed as KILL ends the process.
 *  2. A wrong architecture or the x32 table ends the process: their numbers mean other calls.
 *  3. Row by row, without libseccomp: stay-net does not link it, and it takes milliseconds to sort
 *     what the kernel sorts anyway: since 5.11 calls that are allowed whatever their arguments
 *     are answered from a bitmap, without running the filter at all.
 *
 * Called by confine.c.
 */
#include "confine.h"

#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <linux/sched.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#if defined(__x86_64__)
#	define ARCH_HERE AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#	define ARCH_HERE AUDIT_ARCH_AARCH64
#elif defined(__riscv) && __riscv_xlen == 64
#	define ARCH_HERE AUDIT_ARCH_RISCV64
#else
#	define ARCH_HERE 0
#endif
#define X32_BIT 0x40000000u

/* Calls that younger architectures never had: the row is for nothing there. */
/* clang-format off */
#ifndef SYS_fork
#	define SYS_access      (-1)
#	define SYS_chmod       (-1)
#	define SYS_epoll_wait  (-1)
#	define SYS_fork        (-1)
#	define SYS_getdents    (-1)
#	define SYS_mkdir       (-1)
#	define SYS_mknod       (-1)
#	define SYS_open        (-1)
#	define SYS_poll        (-1)
#	define SYS_readlink    (-1)
#	define SYS_rename      (-1)
#	define SYS_rmdir       (-1)
#	define SYS_symlink     (-1)
#	define SYS_time        (-1)
#	define SYS_unlink      (-1)
#	define SYS_vfork       (-1)
#endif
#ifndef SYS_arch_prctl
#	define SYS_arch_prctl  (-1)
#	define SYS_ioperm      (-1)
#	define SYS_iopl        (-1)
#	define SYS_modify_ldt  (-1)
#endif
#ifndef SYS_renameat
#	define SYS_renameat    (-1)
#endif
/* clang-format on */

#ifdef __SANITIZE_ADDRESS__
#	define IS_SANITIZED true
#else
#	define IS_SANITIZED false
#endif

enum { C = 1, L = 2, N = 4 };

enum test { T_ANY, T_EQ, T_HAS, T_HAS_NOT, T_SELF, T_SANITIZED };

#define ANY                                                                                        \
	{                                                                                          \
		T_ANY, 0, 0                                                                        \
	}
#define EQ(n, v)                                                                                   \
	{                                                                                          \
		T_EQ, n, v                                                                         \
	}
#define HAS(n, m)                                                                                  \
	{                                                                                          \
		T_HAS, n, m                                                                        \
	}
#define HAS_NOT(n, m)                                                                              \
	{                                                                                          \
		T_HAS_NOT, n, m                                                                    \
	}
#define SELF(n)                                                                                    \
	{                                                                                          \
		T_SELF, n, 0                                                                       \
	}
#define SAN                                                                                        \
	{                                                                                          \
		T_SANITIZED, 0, 0                                                                  \
	}

static const struct call {
	const char *name;
	int nr, roles;
	struct {
		enum test test;
		unsigned arg;
		uint32_t value;
	} when;
	const char *reason;
} calls[] = {
#define CALL(name, roles, when, reason) {#name, SYS_##name, roles, when, reason},
#define QUIET(name, roles, reason)
#define KILL(name)
#include "calls.def"
#undef CALL
#undef QUIET
#undef KILL
};

struct refusal {
	const char *name;
	int nr, roles;
};

static const struct refusal quiet[] = {
#define CALL(name, roles, when, reason)
#define QUIET(name, roles, reason) {#name, SYS_##name, roles},
#define KILL(name)
#include "calls.def"
#undef QUIET
#undef KILL
};

static const struct refusal killed[] = {
#define QUIET(name, roles, reason)
#define KILL(name) {#name, SYS_##name, C | L | N},
#include "calls.def"
#undef CALL
#undef QUIET
#undef KILL
};

static int bit_of(enum role role)
{
	return role == ROLE_CORE ? C : role == ROLE_LOGGER ? L : role == ROLE_NET ? N : 0;
}

static bool is_for(const struct call *c, enum role role)
{
	return c->nr >= 0 && (c->roles & bit_of(role)) &&
	       (c->when.test != T_SANITIZED || IS_SANITIZED);
}

/* ---- the program ------------------------------------------------------------------------- */

struct program {
	struct sock_filter *f;
	size_t n;
};

static void put(struct program *p, uint16_t code, uint32_t k, uint8_t jt, uint8_t jf)
{
	assert(p->n < CONFINE_FILTER_MAX);
	p->f[p->n++] = (struct sock_filter)BPF_JUMP(code, k, jt, jf);
}

static void put_load(struct program *p, size_t offset)
{
	put(p, BPF_LD | BPF_W | BPF_ABS, (uint32_t)offset, 0, 0);
}

static void put_answer(struct program *p, uint32_t answer)
{
	put(p, BPF_RET | BPF_K, answer, 0, 0);
}

/* The lower half of an argument; all architectures of the list are little-endian, and what the
 * conditions look at are ints and masks of the low bits. */
static void put_test(struct program *p, const struct call *c)
{
	uint16_t jump = c->when.test == T_EQ || c->when.test == T_SELF ? BPF_JEQ : BPF_JSET;
	uint32_t value = c->when.test == T_SELF ? (uint32_t)getpid() : c->when.value;
	bool on = c->when.test != T_HAS_NOT;
	put(p, BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)c->nr, 0, 4);
	put_load(p, offsetof(struct seccomp_data, args) + c->when.arg * sizeof(uint64_t));
	put(p, BPF_JMP | jump | BPF_K, value, on ? 0 : 1, on ? 1 : 0);
	put_answer(p, SECCOMP_RET_ALLOW);
	put_load(p, offsetof(struct seccomp_data, nr)); /* another row of the call may fit */
}

static void put_call(struct program *p, int nr, uint32_t answer)
{
	put(p, BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)nr, 0, 1);
	put_answer(p, answer);
}

/* Leaves the number of the call in the accumulator. */
static void put_head(struct program *p)
{
	put_load(p, offsetof(struct seccomp_data, arch));
	put(p, BPF_JMP | BPF_JEQ | BPF_K, ARCH_HERE, 1, 0);
	put_answer(p, SECCOMP_RET_KILL_PROCESS);
	put_load(p, offsetof(struct seccomp_data, nr));
	put(p, BPF_JMP | BPF_JGE | BPF_K, X32_BIT, 0, 1);
	put_answer(p, SECCOMP_RET_KILL_PROCESS);
}

size_t confine_filter(enum role role, struct sock_filter *f)
{
	struct program p = {f, 0};
	if (!ARCH_HERE || !bit_of(role))
		return 0;
	put_head(&p);
	for (size_t i = 0; i < ARRAY_SIZE(calls); i++) {
		if (!is_for(&calls[i], role))
			continue;
		if (calls[i].when.test == T_ANY || calls[i].when.test == T_SANITIZED)
			put_call(&p, calls[i].nr, SECCOMP_RET_ALLOW);
		else
			put_test(&p, &calls[i]);
	}
	for (size_t i = 0; i < ARRAY_SIZE(killed); i++)
		if (killed[i].nr >= 0)
			put_call(&p, killed[i].nr, SECCOMP_RET_KILL_PROCESS);
	put_answer(&p, SECCOMP_RET_ERRNO | ENOSYS);
	return p.n;
}

/* Of two filters with the same answer the younger one's counts, and whether that one is told to audit. */
static size_t quiet_filter(enum role role, struct sock_filter *f)
{
	struct program p = {f, 0};
	bool any = false;
	put_head(&p);
	for (size_t i = 0; i < ARRAY_SIZE(quiet); i++)
		if (quiet[i].roles & bit_of(role)) {
			put_call(&p, quiet[i].nr, SECCOMP_RET_ERRNO | ENOSYS);
			any = true;
		}
	put_answer(&p, SECCOMP_RET_ALLOW);
	return any ? p.n : 0;
}

static int load(struct sock_filter *f, size_t n, unsigned flags)
{
	struct sock_fprog program = {(unsigned short)n, f};
	return n && syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program) < 0 ? -errno : 0;
}

int confine_calls(enum role role, struct err *e)
{
	struct sock_filter f[CONFINE_FILTER_MAX];
	size_t n = confine_filter(role, f);
	if (!n) {
		log_note(NULL, "no filter over system calls: this architecture has no list");
		return 0;
	}
	/* Refusals go to audit: a list that has become too short is seen in the kernel's log. */
	int r = load(f, n, SECCOMP_FILTER_FLAG_LOG);
	if (r == 0)
		r = load(f, quiet_filter(role, f), 0);
	if (r == -EINVAL || r == -ENOSYS) {
		log_note(NULL, "no filter over system calls: not in this kernel (%s)",
			errno_name(r));
		return 0;
	}
	return r < 0 ? err_set(e, r, "seccomp: %s", errno_name(r)) : 0;
}

/* ---- for tests ------------------------------------------------------------------------------ */

enum confine_answer confine_answer(enum role role, long nr)
{
	enum confine_answer answer = CONFINE_REFUSED;
	for (size_t i = 0; i < ARRAY_SIZE(killed); i++)
		if (killed[i].nr == nr)
			answer = CONFINE_KILLED;
	for (size_t i = 0; i < ARRAY_SIZE(calls); i++) {
		if (calls[i].nr != nr || !is_for(&calls[i], role))
			continue;
		if (calls[i].when.test == T_ANY || calls[i].when.test == T_SANITIZED)
			return CONFINE_ALLOWED;
		answer = CONFINE_DEPENDS;
	}
	return answer;
}

const char *confine_call_name(long nr)
{
	for (size_t i = 0; i < ARRAY_SIZE(calls); i++)
		if (calls[i].nr == nr)
			return calls[i].name;
	for (size_t i = 0; i < ARRAY_SIZE(killed); i++)
		if (killed[i].nr == nr)
			return killed[i].name;
	for (size_t i = 0; i < ARRAY_SIZE(quiet); i++)
		if (quiet[i].nr == nr)
			return quiet[i].name;
	return NULL;
}
