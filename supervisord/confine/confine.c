/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who a role is and what it may: uid, groups, capabilities, no_new_privs.
 *
 *  1. The bounding set goes first, while CAP_SETPCAP is there; the uid next; then what is left of
 *     the capabilities; then no_new_privs, which the filter needs without CAP_SYS_ADMIN.
 *  2. The uid changes only where everything that follows from it works: keeper must be able to
 *     signal the role, core to read what it wrote. In a container without these capabilities,
 *     or with one uid mapped, the role stays who it is and says so.
 *  3. A process that changed is not dumpable: nobody without CAP_SYS_PTRACE looks into it, also no
 *     service of root whose own capabilities are few.
 *
 * Called once by each role after its exec.
 */
#include "confine.h"

#include <grp.h>
#include <linux/capability.h>
#include <pwd.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#define CAPS_MAX 64

/* ---- users --------------------------------------------------------------------------------- */

static const struct {
	enum role role;
	const char *name;
	uint32_t fallback;
} users[] = {
#define USER(role, name, fallback) {role, name, fallback},
#include "users.def"
#undef USER
};

static void caps_get(struct __user_cap_data_struct d[2])
{
	struct __user_cap_header_struct h = {_LINUX_CAPABILITY_VERSION_3, 0};
	if (syscall(SYS_capget, &h, d) < 0)
		memset(d, 0, 2 * sizeof(*d));
}

bool confine_can_change_user(void)
{
	static const uint32_t needed = 1u << CAP_SETUID | 1u << CAP_SETGID | 1u << CAP_KILL |
				       1u << CAP_CHOWN | 1u << CAP_DAC_OVERRIDE;
	struct __user_cap_data_struct d[2];
	caps_get(d);
	return geteuid() == 0 && (d[0].effective & needed) == needed;
}

/* From /etc/passwd alone: no NSS modules, no directory server. */
bool confine_user_of(enum role role, uid_t *ret_uid, gid_t *ret_gid)
{
	for (size_t i = 0; i < ARRAY_SIZE(users); i++) {
		if (users[i].role != role)
			continue;
		*ret_uid = *ret_gid = users[i].fallback;
		FILE *f = fopen("/etc/passwd", "re");
		struct passwd *p;
		while (f && (p = fgetpwent(f)))
			if (streq(p->pw_name, users[i].name) && p->pw_uid != 0) {
				*ret_uid = p->pw_uid;
				*ret_gid = p->pw_gid;
				break;
			}
		if (f)
			fclose(f);
		return true;
	}
	return false;
}

/* ---- capabilities ------------------------------------------------------------------------------ */

static const struct {
	const char *name;
	int cap;
} caps[] = {
#define CAP(name, reason) {#name, CAP_##name},
#include "caps.def"
#undef CAP
};

uint64_t confine_caps_of(enum role role)
{
	uint64_t kept = 0;
	for (size_t i = 0; role == ROLE_CORE && i < ARRAY_SIZE(caps); i++)
		kept |= 1ULL << caps[i].cap;
	return kept;
}

int confine_cap_number(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(caps); i++)
		if (streq(caps[i].name, name))
			return caps[i].cap;
	return -1;
}

static void drop_bounding(uint64_t kept)
{
	for (int cap = 0; cap < CAPS_MAX; cap++)
		if (!(kept & (1ULL << cap)) && prctl(PR_CAPBSET_READ, cap, 0, 0, 0) == 1)
			(void)prctl(PR_CAPBSET_DROP, cap, 0, 0, 0); /* EPERM: not ours to drop */
}

/* ---- giving up ----------------------------------------------------------------------------- */

int confine_user(enum role role, struct err *e)
{
	uid_t uid;
	gid_t gid;
	drop_bounding(confine_caps_of(role)); /* needs CAP_SETPCAP, which goes with the uid */
	if (geteuid() != 0 || !confine_user_of(role, &uid, &gid))
		return 0;
	if (!confine_can_change_user()) {
		log_note(NULL, "stays root: CAP_SETUID, CAP_SETGID, CAP_KILL, CAP_CHOWN or "
			       "CAP_DAC_OVERRIDE is missing here");
		return 0;
	}
	(void)setgroups(0, NULL); /* EPERM in a user namespace that denies it: no groups there */
	if (setresgid(gid, gid, gid) == 0 && setresuid(uid, uid, uid) == 0)
		return 0;
	if (errno == EINVAL || errno == EPERM) { /* a user namespace in which only root is mapped */
		log_note(NULL, "stays root: cannot become uid %u (%s)", uid, errno_name(errno));
		return 0;
	}
	return err_set(e, -errno, "cannot become uid %u: %s", uid, errno_name(errno));
}

int confine_caps(enum role role, struct err *e)
{
	struct __user_cap_header_struct h = {_LINUX_CAPABILITY_VERSION_3, 0};
	struct __user_cap_data_struct d[2];
	uint64_t kept = confine_caps_of(role);
	caps_get(d);
	for (int i = 0; i < 2; i++) {
		d[i].permitted &= (uint32_t)(kept >> 32 * i);
		d[i].effective &= d[i].permitted;
		d[i].inheritable = 0;
	}
	(void)prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
	if (syscall(SYS_capset, &h, d) < 0)
		return err_set(e, -errno, "cannot give up capabilities: %s", errno_name(errno));
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return err_set(e, -errno, "no_new_privs: %s", errno_name(errno));
#ifndef __SANITIZE_ADDRESS__ /* its leak checker attaches to the process */
	(void)prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
#endif
	return 0;
}

int confine(enum role role, struct err *e)
{
	int r = confine_user(role, e);
	if (r == 0)
		r = confine_caps(role, e);
	return r < 0 ? r : confine_calls(role, e);
}
