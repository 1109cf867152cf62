/* SPDX-License-Identifier: Apache-2.0 */
/* Condition*= and Assert*=: systemd.unit(5), "Conditions and Asserts". */
#include "core/condition.h"
#include "unit/units.h"

#include <dirent.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/utsname.h>

static bool dir_is_not_empty(const char *path)
{
	DIR *d = opendir(path);
	struct dirent *e;
	bool found = false;
	if (!d)
		return false;
	while (!found && (e = readdir(d)))
		found = !streq(e->d_name, ".") && !streq(e->d_name, "..");
	closedir(d);
	return found;
}

static bool path_is_mount_point(const char *path)
{
	struct stat a, b;
	CLEANUP_FREE char *parent = xasprintf("%s/..", path);
	if (streq(path, "/"))
		return true;
	return stat(path, &a) == 0 && stat(parent, &b) == 0 && a.st_dev != b.st_dev;
}

static bool glob_exists(const char *pattern)
{
	struct strv paths = {0};
	path_glob(pattern, &paths);
	bool found = paths.n > 0;
	strv_done(&paths);
	return found;
}

static bool virtualization_is(const struct launch_caps *caps, const char *arg)
{
	bool is_vm = false;
	int yes = parse_boolean(arg);
	struct buf b = {0};
	if (read_file(AT_FDCWD, "/sys/class/dmi/id/sys_vendor", 256, &b) == 0)
		is_vm = strstr(b.data, "QEMU") || strstr(b.data, "VMware") ||
			strstr(b.data, "Xen") || strstr(b.data, "innotek") ||
			strstr(b.data, "Amazon EC2") || strstr(b.data, "Google");
	buf_done(&b);
	if (yes >= 0)
		return (is_vm || caps->is_container) == (yes > 0);
	if (streq(arg, "container"))
		return caps->is_container;
	if (streq(arg, "vm"))
		return is_vm && !caps->is_container;
	return streq(caps->container, arg);
}

static bool command_line_has(const char *arg)
{
	struct buf b = {0};
	bool found = false;
	if (read_file(AT_FDCWD, "/proc/cmdline", 8192, &b) == 0) {
		size_t n = strlen(arg);
		for (char *w = b.data, *end; !found && *w; w = end) {
			w += strspn(w, " \n");
			end = w + strcspn(w, " \n");
			size_t m = (size_t)(end - w);
			found = m >= n && memcmp(w, arg, n) == 0 &&
				(m == n || w[n] == '=' || strchr(arg, '='));
		}
	}
	buf_done(&b);
	return found;
}

static bool architecture_is(const char *arg)
{
	struct utsname n;
	uname(&n);
	return streq(arg, n.machine) || (streq(n.machine, "x86_64") && streq(arg, "x86-64")) ||
	       (streq(n.machine, "aarch64") && streq(arg, "arm64")) || streq(arg, "native");
}

/* What a service may have at most, not what is left of it in core. */
static bool has_capability(const struct launch_caps *caps, const char *arg)
{
	bool ok = true; /* unknown names are taken as present: they are reported by check */
	static const char *const names[] = {"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH",
		"CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_SETGID", "CAP_SETUID", "CAP_SETPCAP",
		"CAP_LINUX_IMMUTABLE", "CAP_NET_BIND_SERVICE", "CAP_NET_BROADCAST", "CAP_NET_ADMIN",
		"CAP_NET_RAW", "CAP_IPC_LOCK", "CAP_IPC_OWNER", "CAP_SYS_MODULE", "CAP_SYS_RAWIO",
		"CAP_SYS_CHROOT", "CAP_SYS_PTRACE", "CAP_SYS_PACCT", "CAP_SYS_ADMIN",
		"CAP_SYS_BOOT", "CAP_SYS_NICE", "CAP_SYS_RESOURCE", "CAP_SYS_TIME",
		"CAP_SYS_TTY_CONFIG", "CAP_MKNOD", "CAP_LEASE", "CAP_AUDIT_WRITE",
		"CAP_AUDIT_CONTROL", "CAP_SETFCAP", "CAP_MAC_OVERRIDE", "CAP_MAC_ADMIN",
		"CAP_SYSLOG", "CAP_WAKE_ALARM", "CAP_BLOCK_SUSPEND", "CAP_AUDIT_READ",
		"CAP_PERFMON", "CAP_BPF", "CAP_CHECKPOINT_RESTORE"};
	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (strcasecmp(names[i], arg) == 0)
			ok = caps->bounding & (1ULL << i);
	return ok;
}

static bool on_ac_power(void)
{
	struct strv paths = {0};
	bool any = false, online = false;
	path_glob("/sys/class/power_supply/*/online", &paths);
	for (size_t i = 0; i < paths.n; i++) {
		struct buf b = {0};
		if (read_file(AT_FDCWD, paths.v[i], 16, &b) == 0) {
			any = true;
			online |= b.data[0] == '1';
		}
		buf_done(&b);
	}
	strv_done(&paths);
	return !any || online;
}

static bool host_is(const char *arg)
{
	struct utsname n;
	uname(&n);
	return fnmatch(arg, n.nodename, FNM_CASEFOLD) == 0;
}

static bool path_is_writable(const char *path)
{
	struct statvfs v;
	return statvfs(path, &v) == 0 && !(v.f_flag & ST_RDONLY);
}

static bool evaluate(const struct launch_caps *caps, const struct condition *k)
{
	struct stat st;
	switch (k->kind) {
	case COND_PATH_EXISTS:
		return access(k->arg, F_OK) == 0;
	case COND_PATH_EXISTS_GLOB:
		return glob_exists(k->arg);
	case COND_PATH_IS_DIRECTORY:
		return stat(k->arg, &st) == 0 && S_ISDIR(st.st_mode);
	case COND_PATH_IS_SYMLINK:
		return lstat(k->arg, &st) == 0 && S_ISLNK(st.st_mode);
	case COND_PATH_IS_MOUNT_POINT:
		return path_is_mount_point(k->arg);
	case COND_PATH_IS_READ_WRITE:
		return path_is_writable(k->arg);
	case COND_DIRECTORY_NOT_EMPTY:
		return dir_is_not_empty(k->arg);
	case COND_FILE_NOT_EMPTY:
		return stat(k->arg, &st) == 0 && S_ISREG(st.st_mode) && st.st_size > 0;
	case COND_FILE_IS_EXECUTABLE:
		return stat(k->arg, &st) == 0 && S_ISREG(st.st_mode) && (st.st_mode & 0111);
	case COND_USER: {
		char *end;
		unsigned long uid = strtoul(k->arg, &end, 10);
		if (streq(k->arg, "@system"))
			return getuid() < 1000;
		return *k->arg && !*end ? uid == getuid() : streq(k->arg, "root") && getuid() == 0;
	}
	case COND_HOST:
		return host_is(k->arg);
	case COND_VIRTUALIZATION:
		return virtualization_is(caps, k->arg);
	case COND_ARCHITECTURE:
		return architecture_is(k->arg);
	case COND_KERNEL_COMMAND_LINE:
		return command_line_has(k->arg);
	case COND_CAPABILITY:
		return has_capability(caps, k->arg);
	case COND_AC_POWER:
		return on_ac_power() == (parse_boolean(k->arg) > 0);
	case COND_FIRST_BOOT:
	case COND_NEEDS_UPDATE:
		return false; /* stayd does not boot images: never the first boot, never an offline update */
	case COND_SECURITY:
		return false;
	case COND_GROUP:
	case COND_OTHER:
	case COND_MAX:
		break;
	}
	return true;
}

/* All plain ones must hold, and of those with "|" at least one. */
static bool group_holds(const struct launch_caps *caps, const struct unit_conf *conf,
	bool is_assert, const struct condition **ret_failed)
{
	bool any_trigger = false, trigger_ok = false;
	for (size_t i = 0; i < conf->n_conditions; i++) {
		const struct condition *k = &conf->conditions[i];
		if (k->is_assert != is_assert)
			continue;
		bool ok = evaluate(caps, k) != k->is_negated;
		if (k->is_trigger) {
			any_trigger = true;
			trigger_ok |= ok;
		}
		if (!ok)
			*ret_failed = k;
		if (!ok && !k->is_trigger)
			return false;
	}
	return !any_trigger || trigger_ok;
}

void condition_check(const struct launch_caps *caps, const struct unit_conf *conf, bool *ret_ok,
	struct buf *ret_text, bool *ret_is_assert)
{
	const struct condition *failed = NULL;
	*ret_is_assert = false;
	*ret_ok = group_holds(caps, conf, false, &failed);
	if (*ret_ok && !group_holds(caps, conf, true, &failed)) {
		*ret_ok = false;
		*ret_is_assert = true;
	}
	if (!*ret_ok && failed)
		buf_printf(ret_text, "%s=%s%s is not met", failed->directive,
			failed->is_negated ? "!" : "", failed->arg);
}
