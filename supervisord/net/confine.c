/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Gives up everything stay-net does not need. It parses what strangers send, so it must not be worth
 * taking over: another uid, no capabilities, no new privileges, and a filter over system calls.
 *
 * The filter denies (EPERM) rather than allows: libcurl, its TLS library and the resolver's modules
 * are not ours and differ between distributions, and an allow-list that is wrong there would look
 * like a failed health check. What it takes away is what turns a bug into a foothold: new programs,
 * other processes, mounts, kernel modules, keys, BPF.
 *
 * Called by main.c, once, before anything is read from the outside.
 */
#include "net/net.h"

#include <grp.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pwd.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#define NOBODY        65534
#define NET_USER      "stay-net"
#define NET_FILES_MAX 8192

/* From /etc/passwd alone: no NSS modules, no directory server. */
static void find_user(uid_t *ret_uid, gid_t *ret_gid)
{
	*ret_uid = *ret_gid = NOBODY;
	FILE *f = fopen("/etc/passwd", "re");
	struct passwd *p;
	while (f && (p = fgetpwent(f)))
		if (streq(p->pw_name, NET_USER) && p->pw_uid != 0) {
			*ret_uid = p->pw_uid;
			*ret_gid = p->pw_gid;
			break;
		}
	if (f)
		fclose(f);
}

static int change_user(struct err *e)
{
	uid_t uid;
	gid_t gid;
	if (geteuid() != 0)
		return 0;
	find_user(&uid, &gid);
	(void)setgroups(0, NULL); /* EPERM in a user namespace that denies it: no groups there */
	if (setresgid(gid, gid, gid) == 0 && setresuid(uid, uid, uid) == 0)
		return 0;
	if (errno == EINVAL || errno == EPERM) { /* a user namespace in which only root is mapped */
		log_warn(NULL, "cannot become uid %u (%s): staying root of this namespace", uid,
			errno_name(errno));
		return 0;
	}
	return err_set(e, -errno, "cannot become uid %u: %s", uid, errno_name(errno));
}

static int drop_capabilities(struct err *e)
{
	struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct none[2] = {0};
	(void)prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
	if (syscall(SYS_capset, &head, none) < 0)
		return err_set(e, -errno, "cannot give up capabilities: %s", errno_name(errno));
	return 0;
}

int confine(struct err *e)
{
	struct rlimit r;
	if (getrlimit(RLIMIT_NOFILE, &r) == 0) {
		r.rlim_cur = r.rlim_max = MIN(r.rlim_max, (rlim_t)NET_FILES_MAX);
		(void)setrlimit(RLIMIT_NOFILE, &r);
	}
	for (int cap = 0; cap <= 63; cap++) /* needs CAP_SETPCAP, so before the uid changes */
		(void)prctl(PR_CAPBSET_DROP, cap, 0, 0, 0);
	int x = change_user(e);
	if (x == 0)
		x = drop_capabilities(e);
	if (x == 0 && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		x = err_set(e, -errno, "no_new_privs: %s", errno_name(errno));
#ifndef __SANITIZE_ADDRESS__
	(void)prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
#endif
	return x < 0 ? x : confine_filter(e);
}

/* ---- the filter --------------------------------------------------------------------------------- */

#if defined(__SANITIZE_ADDRESS__)
/* none: at the end the leak checker attaches to the process with ptrace */
#elif defined(__x86_64__)
#	define ARCH_HERE AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#	define ARCH_HERE AUDIT_ARCH_AARCH64
#elif defined(__riscv) && __riscv_xlen == 64
#	define ARCH_HERE AUDIT_ARCH_RISCV64
#endif

static const uint32_t denied[] = {SYS_execve, SYS_execveat, SYS_ptrace, SYS_process_vm_readv,
	SYS_process_vm_writev, SYS_kill, SYS_tkill, SYS_pidfd_open, SYS_pidfd_getfd,
	SYS_pidfd_send_signal, SYS_mount, SYS_umount2, SYS_pivot_root, SYS_chroot, SYS_move_mount,
	SYS_open_tree, SYS_fsopen, SYS_fsmount, SYS_unshare, SYS_setns, SYS_bpf,
	SYS_perf_event_open, SYS_init_module, SYS_finit_module, SYS_delete_module, SYS_kexec_load,
	SYS_reboot, SYS_swapon, SYS_swapoff, SYS_add_key, SYS_request_key, SYS_keyctl,
	SYS_userfaultfd, SYS_io_uring_setup, SYS_personality, SYS_quotactl, SYS_acct,
	SYS_settimeofday, SYS_clock_settime, SYS_adjtimex, SYS_sethostname, SYS_setdomainname,
	SYS_name_to_handle_at, SYS_open_by_handle_at, SYS_mknodat, SYS_syslog};

int confine_filter(struct err *e)
{
#ifdef ARCH_HERE
	struct sock_filter f[ARRAY_SIZE(denied) + 8];
	size_t n = 0, deny_at = ARRAY_SIZE(denied) + 5;
	const uint32_t deny = SECCOMP_RET_ERRNO | EPERM;
	/* Where a jump counts from n, n++ stands apart: in one expression the order is open. */
	f[n++] = (struct sock_filter)BPF_STMT(
		BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch));
	f[n] = (struct sock_filter)BPF_JUMP(
		BPF_JMP | BPF_JEQ | BPF_K, ARCH_HERE, 0, (uint8_t)(deny_at - n - 1));
	n++;
	f[n++] = (struct sock_filter)BPF_STMT(
		BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
	/* x32 calls carry this bit and would pass by all comparisons. */
	f[n] = (struct sock_filter)BPF_JUMP(
		BPF_JMP | BPF_JGE | BPF_K, 0x40000000, (uint8_t)(deny_at - n - 1), 0);
	n++;
	for (size_t i = 0; i < ARRAY_SIZE(denied); i++, n++)
		f[n] = (struct sock_filter)BPF_JUMP(
			BPF_JMP | BPF_JEQ | BPF_K, denied[i], (uint8_t)(deny_at - n - 1), 0);
	f[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	assert(n == deny_at);
	f[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, deny);
	struct sock_fprog program = {(unsigned short)n, f};
	if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) < 0 && errno != ENOSYS)
		return err_set(e, -errno, "seccomp: %s", errno_name(errno));
#else
	(void)e;
	(void)denied;
#endif
	return 0;
}
