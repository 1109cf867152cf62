/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The bare clone3(), which no libc has: a vfork-style child needs it without a return through our
 * frames.
 *
 * A file of its own so that a fault can be injected between the launcher and this call. Called by
 * launcher.c.
 */
#include "parts.h"

#include <linux/sched.h>
#include <sys/syscall.h>

/* clone3 with a stack of the child's own: the child calls fn and never comes back through here. */
long clone3_raw(struct clone_args *a, void (*fn)(struct child *), struct child *c)
{
	long r;
#if defined(__x86_64__)
	register void (*fn_reg)(struct child *) __asm__("r12") = fn;
	register struct child *arg_reg __asm__("r13") = c;
	__asm__ volatile("syscall\n\t"
			 "test %%rax, %%rax\n\t"
			 "jnz 1f\n\t"
			 "xor %%ebp, %%ebp\n\t"
			 "mov %%r13, %%rdi\n\t"
			 "call *%%r12\n\t"
			 "hlt\n"
			 "1:"
			 : "=a"(r)
			 : "0"((long)SYS_clone3), "D"(a), "S"(sizeof(*a)), "r"(fn_reg), "r"(arg_reg)
			 : "rcx", "r11", "memory", "cc");
#elif defined(__aarch64__)
	register long nr __asm__("x8") = SYS_clone3;
	register long x0 __asm__("x0") = (long)a;
	register long x1 __asm__("x1") = (long)sizeof(*a);
	register void (*fn_reg)(struct child *) __asm__("x19") = fn;
	register struct child *arg_reg __asm__("x20") = c;
	__asm__ volatile("svc #0\n\t"
			 "cbnz x0, 1f\n\t"
			 "mov x29, #0\n\t"
			 "mov x0, x20\n\t"
			 "blr x19\n\t"
			 "brk #0\n"
			 "1:"
			 : "+r"(x0)
			 : "r"(nr), "r"(x1), "r"(fn_reg), "r"(arg_reg)
			 : "memory", "cc");
	r = x0;
#else
	(void)a;
	(void)fn;
	(void)c;
	r = -ENOSYS;
#endif
	return r;
}
