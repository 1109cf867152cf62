/* SPDX-License-Identifier: Apache-2.0 */
/*
 * System calls that a fuzzer must not do, in place of the C library's: nobody is signalled, no
 * process is made, nothing is executed. Whom one would have signalled is checked: everybody (-1),
 * a process group or process 1 are never meant. Both clocks that never
 * jump say what the target says.
 */
#pragma once

#include "fuzz.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/syscall.h>
#include <time.h>

static uint64_t fake_now_us = 1000 * USEC_PER_SEC;
static unsigned n_kills;

long syscall(long nr, ...);
pid_t fork(void);
int kill(pid_t pid, int signo);
int execveat(int fd, const char *path, char *const argv[], char *const envp[], int flags);
int clock_gettime(clockid_t clock, struct timespec *ts);

static long raw_syscall(long nr, long a, long b, long c, long d, long e, long f)
{
	long r;
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;
	register long r9 __asm__("r9") = f;
	__asm__ volatile("syscall"
			 : "=a"(r)
			 : "0"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
			 : "rcx", "r11", "memory");
	return r;
}

static long with_errno(long r)
{
	if (r >= 0)
		return r;
	errno = (int)-r;
	return -1;
}

/* It takes six arguments, however many there are. */
__attribute__((no_sanitize("address"))) long syscall(long nr, ...)
{
	long v[6];
	va_list ap;
	va_start(ap, nr);
	for (int i = 0; i < 6; i++)
		v[i] = va_arg(ap, long);
	va_end(ap);
	if (nr == SYS_clone || nr == SYS_clone3 || nr == SYS_kill || nr == SYS_reboot)
		return with_errno(-EPERM);
	if (nr == SYS_pidfd_open) {
		assert((pid_t)v[0] > 1);
		return with_errno(-ESRCH);
	}
	if (nr == SYS_pidfd_send_signal) {
		n_kills++;
		return 0;
	}
	return with_errno(raw_syscall(nr, v[0], v[1], v[2], v[3], v[4], v[5]));
}

pid_t fork(void)
{
	errno = EAGAIN;
	return -1;
}

#ifndef OWN_KILL /* a target that knows whose pid it is has its own */
int kill(pid_t pid, int signo)
{
	assert(pid > 1 || !signo);
	n_kills++;
	errno = EINVAL;
	return signo >= 0 && signo <= 64 ? 0 : -1;
}
#endif

int execveat(int fd, const char *path, char *const argv[], char *const envp[], int flags)
{
	(void)fd, (void)path, (void)argv, (void)envp, (void)flags;
	errno = ENOEXEC;
	return -1;
}

int clock_gettime(clockid_t clock, struct timespec *ts)
{
	if (clock != CLOCK_BOOTTIME && clock != CLOCK_MONOTONIC)
		return (int)with_errno(raw_syscall(SYS_clock_gettime, clock, (long)ts, 0, 0, 0, 0));
	ts->tv_sec = (time_t)(fake_now_us / USEC_PER_SEC);
	ts->tv_nsec = (long)(fake_now_us % USEC_PER_SEC * 1000);
	return 0;
}
