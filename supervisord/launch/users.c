/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Names of users and groups to numbers, without NSS in this process.
 *
 *  1. What is neither a valid name nor a valid number is refused before anything is looked up:
 *     "0day" is not user 0 (systemd issue 6237), -1 and 4294967295 are "no user" to the kernel.
 *  2. /etc/passwd and /etc/group are asked first; a name they lack goes to getent, which the launcher
 *     starts and which has GETENT_LIMIT_MS, so that a dead directory server cannot hold up the core.
 *
 * Called by launch_image_new().
 */
#include "parts.h"

#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <poll.h>
#include <pwd.h>
#include <sys/stat.h>
#include <unistd.h>

#define NAME_SIZE_MAX       255
#define GETENT_LIMIT_MS     2000
#define GETENT_SIZE_MAX     (64 * 1024)
#define GROUPS_PER_USER_MAX 65536

static bool is_number(const char *s)
{
	return *s && strspn(s, "0123456789") == strlen(s);
}

/* 65535 and 4294967295 are "unchanged" in the 16 and 32 bit calls: never a user. */
static int parse_id(const char *s, uint32_t *ret)
{
	char *end;
	if (!is_number(s) || (s[0] == '0' && s[1]))
		return -EINVAL;
	errno = 0;
	unsigned long long n = strtoull(s, &end, 10);
	if (errno || n >= UINT32_MAX || n == UINT16_MAX)
		return -EINVAL;
	*ret = (uint32_t)n;
	return 0;
}

static bool name_is_valid(const char *s)
{
	size_t n = strlen(s);
	if (n == 0 || n > NAME_SIZE_MAX || (s[0] >= '0' && s[0] <= '9') || s[0] == '-' ||
		s[0] == '.')
		return false;
	for (size_t i = 0; i < n; i++)
		if ((unsigned char)s[i] <= ' ' || s[i] == 0x7f || strchr(":/,@\"'\\", s[i]))
			return false;
	return utf8_is_valid(s, n);
}

/* ---- getent ---- */

static int read_limited(int fd, struct buf *out)
{
	uint64_t deadline = now_mono_us() + GETENT_LIMIT_MS * USEC_PER_MSEC;
	char chunk[4096];
	for (;;) {
		uint64_t now = now_mono_us();
		struct pollfd p = {.fd = fd, .events = POLLIN};
		int left = now < deadline ? (int)((deadline - now) / 1000) + 1 : 0;
		int r = poll(&p, 1, left);
		if (r < 0 && errno == EINTR)
			continue;
		ssize_t n = r > 0 ? read(fd, chunk, sizeof(chunk)) : -1;
		if (n == 0)
			return 0;
		if (n < 0 || out->size + (size_t)n > GETENT_SIZE_MAX)
			return r == 0 ? -ETIMEDOUT : -EIO;
		buf_add(out, chunk, (size_t)n);
	}
}

static launch_getent_fn *getent_fn;
static void *getent_arg;

void launch_getent_by(launch_getent_fn *fn, void *arg)
{
	getent_fn = fn;
	getent_arg = arg;
}

static int getent(const char *database, const char *name, struct buf *out)
{
	int p[2];
	if (!getent_fn)
		return -ESRCH;
	if (pipe2(p, O_CLOEXEC) < 0)
		return -errno;
	int r = getent_fn(getent_arg, database, name, p[1]);
	fd_close(p[1]);
	if (r == 0)
		r = read_limited(p[0], out);
	fd_close(p[0]);
	return r < 0 ? r : out->size ? 0 : -ESRCH;
}

/* ---- the files ---- */

static const char passwd_file[] = "/etc/passwd", group_file[] = "/etc/group";

uint64_t users_stamp(void)
{
	static const char *const files[] = {passwd_file, group_file};
	struct {
		uint64_t inode, size, seconds, nanoseconds;
	} of[ARRAY_SIZE(files)] = {{0}};
	struct stat st;
	for (size_t i = 0; i < ARRAY_SIZE(files); i++)
		if (stat(files[i], &st) == 0) {
			of[i].inode = st.st_ino;
			of[i].size = (uint64_t)st.st_size;
			of[i].seconds = (uint64_t)st.st_mtim.tv_sec;
			of[i].nanoseconds = (uint64_t)st.st_mtim.tv_nsec;
		}
	return hash_bytes(of, sizeof(of));
}

/* ---- users ---- */

static bool is_of_use(const char *path)
{
	return path && path[0] == '/' && path[1];
}

static void user_fill(struct arena *a, const struct passwd *p, struct user_entry *ret)
{
	bool has_shell = is_of_use(p->pw_shell) && !endswith(p->pw_shell, "/nologin") &&
			 !endswith(p->pw_shell, "/false");
	*ret = (struct user_entry){.uid = p->pw_uid,
		.gid = p->pw_gid,
		.name = arena_strdup(a, p->pw_name),
		.home = is_of_use(p->pw_dir) ? arena_strdup(a, p->pw_dir) : NULL,
		.shell = has_shell ? arena_strdup(a, p->pw_shell) : NULL};
}

static bool user_matches(const struct passwd *p, const char *name, bool is_id, uint32_t id)
{
	return is_id ? p->pw_uid == id : streq(p->pw_name, name);
}

static int user_from(
	FILE *f, struct arena *a, const char *name, bool is_id, uint32_t id, struct user_entry *ret)
{
	int r = -ESRCH;
	for (struct passwd *p; r < 0 && f && (p = fgetpwent(f));)
		if (user_matches(p, name, is_id, id)) {
			user_fill(a, p, ret);
			r = 0;
		}
	if (f)
		fclose(f);
	return r;
}

int user_lookup(struct arena *a, const char *name, struct user_entry *ret, struct err *e)
{
	uint32_t id = 0;
	bool is_id = parse_id(name, &id) == 0;
	if (!is_id && !name_is_valid(name))
		return err_set(e, -EINVAL, "User=%.64s is neither a user name nor a uid", name);
	int r = user_from(fopen(passwd_file, "re"), a, name, is_id, id, ret);
	if (r == -ESRCH) {
		struct buf b = {0};
		r = getent("passwd", name, &b);
		if (r == 0)
			r = user_from(fmemopen(b.data, b.size, "r"), a, name, is_id, id, ret);
		buf_done(&b);
	}
	/* A user that cannot be stored is nobody's: root's number must come from root's name. */
	if (r == 0 && (ret->uid == UINT32_MAX || ret->gid == UINT32_MAX))
		r = -EINVAL;
	if (r < 0)
		return err_set(
			e, r, "User=%.64s: %s", name, r == -ESRCH ? "no such user" : strerror(-r));
	return 0;
}

/* ---- groups ---- */

static int group_from(FILE *f, const char *name, uint32_t *ret_gid)
{
	int r = -ESRCH;
	for (struct group *g; r < 0 && f && (g = fgetgrent(f));)
		if (streq(g->gr_name, name)) {
			*ret_gid = g->gr_gid;
			r = 0;
		}
	if (f)
		fclose(f);
	return r;
}

int group_lookup(const char *name, uint32_t *ret_gid, struct err *e)
{
	if (parse_id(name, ret_gid) == 0)
		return 0;
	if (!name_is_valid(name))
		return err_set(e, -EINVAL, "Group=%.64s is neither a group name nor a gid", name);
	int r = group_from(fopen(group_file, "re"), name, ret_gid);
	if (r == -ESRCH) {
		struct buf b = {0};
		r = getent("group", name, &b);
		if (r == 0)
			r = group_from(fmemopen(b.data, b.size, "r"), name, ret_gid);
		buf_done(&b);
	}
	if (r == 0 && *ret_gid == UINT32_MAX)
		r = -EINVAL;
	return r < 0 ? err_set(e, r, "Group=%.64s: %s", name,
			       r == -ESRCH ? "no such group" : strerror(-r))
		     : 0;
}

int user_groups(struct arena *a, const char *user, uint32_t base, uint32_t **ret, size_t *ret_n)
{
	size_t n = 0, cap = 0;
	uint32_t *v = NULL;
	FILE *f = fopen(group_file, "re");
	GROW(v, n, cap);
	v[n++] = base;
	for (struct group *g; f && n < GROUPS_PER_USER_MAX && (g = fgetgrent(f));)
		for (char **m = g->gr_mem; *m; m++)
			if (streq(*m, user) && g->gr_gid != base) {
				GROW(v, n, cap);
				v[n++] = g->gr_gid;
				break;
			}
	if (f)
		fclose(f);
	*ret = arena_alloc(a, n * sizeof(*v));
	memcpy(*ret, v, n * sizeof(*v));
	*ret_n = n;
	free(v);
	return 0;
}
