/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files that decide what root does: may they be believed? And settings of stayd.conf.
 *
 *  1. A file is safe when only root (or the user we are) can change it, or put another in its place:
 *     the file, every link on the way to it and every directory above each of them.
 *  2. A file that is not safe is not read at all.
 *
 * Called by load.c for each unit file, and by control/ for stayd.conf.
 */
#include <ctype.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>

#include "internal.h"
#include "stayd/stayd.h"

#define LINKS_MAX     8
#define STAFF_GID     50    /* Debian lets it write below /usr/local; it is as good as root there */
#define CONF_FILE_MAX 65536 /* of stayd.conf */
#define MEMO_US       100000 /* a directory that was safe is not looked at again for that long */

bool principal_is_valid(const char *s, bool may_be_all)
{
	if (streq(s, "*"))
		return may_be_all;
	s += *s == '@';
	size_t n = strlen(s);
	if (n == 0 || n > 255 || !(isalnum((unsigned char)*s) || *s == '_'))
		return false;
	if (isdigit((unsigned char)*s))
		return strspn(s, "0123456789") == n && n <= 10 && (n == 1 || *s != '0') &&
		       strtoull(s, NULL, 10) < UINT32_MAX;
	for (; *s; s++)
		if (!isalnum((unsigned char)*s) && !strchr("_-.$", *s))
			return false;
	return true;
}

/* ---- safe files ---- */

/* In a user namespace files of users outside of it seem to be the overflow user's. */
static bool is_trusted_owner(uid_t uid)
{
	static int is_whole_machine = -1;
	struct buf map = {0};
	if (uid == 0 || uid == geteuid())
		return true;
	if (is_whole_machine < 0) {
		is_whole_machine = read_file(AT_FDCWD, "/proc/self/uid_map", 4096, &map) < 0 ||
				   strstr(map.data, "4294967295");
		buf_done(&map);
	}
	return uid == OVERFLOW_ID && !is_whole_machine;
}

static int refuse(struct err *e, char *hint, size_t hint_size, const char *remedy, const char *path,
	const char *what, const struct stat *st)
{
	snprintf(hint, hint_size, "%s %s", remedy, path);
	return err_set(e, -EPERM, "%s %s (owner %u:%u, mode %04o)", path, what,
		(unsigned)st->st_uid, (unsigned)st->st_gid, (unsigned)(st->st_mode & 07777));
}

/* Where nothing is there is nothing to believe; what cannot be looked at cannot be believed. */
static int cannot_look(const char *path, struct err *e)
{
	if (is_absence(errno))
		return 0;
	return err_set(e, -errno, "%s cannot be looked at: %s", path, errno_name(errno));
}

static int check_one(const char *path, struct err *e, char *hint, size_t hint_size)
{
	struct stat st;
	if (stat(path, &st) < 0)
		return cannot_look(path, e);
	bool is_dir = S_ISDIR(st.st_mode);
	if (S_ISCHR(st.st_mode)) /* /dev/null: masked */
		return 0;
	if (!is_trusted_owner(st.st_uid))
		return refuse(e, hint, hint_size, "chown root", path,
			is_dir ? "is a directory of a user who can replace the file"
			       : "belongs to a user who can change it",
			&st);
	if (is_dir && (st.st_mode & S_ISVTX)) /* entries are their owners', who are looked at */
		return 0;
	if (st.st_mode & S_IWOTH)
		return refuse(e, hint, hint_size, "chmod o-w", path,
			is_dir ? "is a directory where everybody can replace the file"
			       : "can be written by everybody",
			&st);
	bool is_root_group = st.st_gid == 0 || (is_dir && st.st_gid == STAFF_GID) ||
			     (st.st_uid == geteuid() && st.st_uid != 0);
	if ((st.st_mode & S_IWGRP) && !is_root_group)
		return refuse(e, hint, hint_size, "chmod g-w", path,
			is_dir ? "is a directory where a group can replace the file"
			       : "can be written by a group",
			&st);
	return 0;
}

/* Where the directory of that name really is, once it and all above it are found to be safe. */
static int check_dirs(
	const char *name, char dir[PATH_MAX], struct err *e, char *hint, size_t hint_size)
{
	static char last_name[PATH_MAX], last[PATH_MAX];
	static uint64_t last_us;
	char part[PATH_MAX];
	uint64_t now = now_mono_us();
	if (streq(name, last_name) && now - last_us < MEMO_US) {
		str_copy(dir, last, PATH_MAX);
		return 0;
	}
	if (!realpath(name, dir))
		return cannot_look(name, e);
	for (size_t i = 1; i <= strlen(dir); i++) {
		if (dir[i] != '/' && dir[i] != '\0' && i > 1)
			continue;
		str_copy(part, dir, MIN(i + 1, sizeof(part)));
		int r = check_one(part, e, hint, hint_size);
		if (r < 0)
			return r;
	}
	str_copy(last_name, name, sizeof(last_name));
	str_copy(last, dir, sizeof(last));
	last_us = now;
	return 0;
}

/* In a directory like /tmp, where everybody makes entries, who made a link chooses what is there. */
static int check_entry(
	const char *path, const char *dir, struct err *e, char *hint, size_t hint_size)
{
	struct stat st;
	if (stat(dir, &st) < 0)
		return cannot_look(dir, e);
	if (!(st.st_mode & (S_IWOTH | S_IWGRP)))
		return 0;
	if (lstat(path, &st) < 0)
		return cannot_look(path, e);
	if (!S_ISLNK(st.st_mode) || is_trusted_owner(st.st_uid))
		return 0;
	return refuse(e, hint, hint_size, "chown -h root", path,
		"is a link of a user who can turn it", &st);
}

int link_check_safe(const char *path, struct err *e, char *hint, size_t hint_size)
{
	char dir[PATH_MAX];
	const char *slash = strrchr(path, '/');
	assert(slash && slash > path);
	CLEANUP_FREE char *above = xstrndup(path, (size_t)(slash - path));
	hint[0] = '\0';
	int r = check_dirs(above, dir, e, hint, hint_size);
	return r < 0 ? r : check_entry(path, dir, e, hint, hint_size);
}

int file_check_safe(const char *path, struct err *e, char *hint, size_t hint_size)
{
	char dir[PATH_MAX], target[PATH_MAX];
	CLEANUP_FREE char *at = xstrdup(path);
	hint[0] = '\0';
	for (int i = 0; i < LINKS_MAX; i++) {
		const char *slash = strrchr(at, '/');
		CLEANUP_FREE char *above = slash == at ? xstrdup("/")
					   : slash     ? xstrndup(at, (size_t)(slash - at))
						       : xstrdup(".");
		int r = check_dirs(above, dir, e, hint, hint_size);
		r = r < 0 ? r : check_entry(at, dir, e, hint, hint_size);
		ssize_t n = r < 0 ? -1 : readlink(at, target, sizeof(target) - 1);
		if (r < 0)
			return r;
		if (n < 0)
			return errno == EINVAL || is_absence(errno)
				       ? check_one(at, e, hint, hint_size)
				       : cannot_look(at, e);
		target[n] = '\0';
		free(at);
		at = target[0] == '/' ? xstrdup(target) : xasprintf("%s/%s", dir, target);
	}
	return err_set(e, -ELOOP, "%s: links go in a circle", path);
}

/* ---- settings ---- */

struct conf_reader {
	int (*each)(
		void *arg, const char *section, const char *key, const char *value, struct err *e);
	void *arg;
	const char *path;
	struct err *e;
	int result;
};

static void wrong(struct conf_reader *c, const struct text_pos *at, const char *text)
{
	if (c->result == 0)
		c->result = err_set(c->e, -EBADMSG, "%s:%u: %s", c->path, at->line, text);
}

static void on_section(void *ctx UNUSED, const char *name UNUSED, const struct text_pos *at UNUSED)
{
}

static void on_assign(void *ctx, const struct assignment *a)
{
	struct conf_reader *c = ctx;
	struct err e = {0};
	if (c->result == 0 && c->each(c->arg, a->section, a->key, a->value, &e) < 0)
		wrong(c, &a->at, e.text);
}

static void on_trouble(void *ctx, enum reader_trouble t, const struct text_pos *at)
{
	wrong(ctx, at,
		t == READER_BAD_HEADER  ? "a section header is [Name] alone on its line"
		: t == READER_NO_EQUALS ? "neither a comment nor KEY=VALUE"
					: "cannot be read as a setting");
}

int conf_read(const char *path,
	int (*each)(
		void *arg, const char *section, const char *key, const char *value, struct err *e),
	void *arg, struct err *e)
{
	static const struct reader_ops ops = {on_section, on_assign, on_trouble};
	struct conf_reader c = {.each = each, .arg = arg, .path = path, .e = e};
	struct buf b = {0};
	struct err why = {0};
	char hint[PATH_MAX + 32];
	if (access(path, F_OK) < 0 && errno == ENOENT)
		return err_set(e, -ENOENT, "%s does not exist", path);
	int r = file_check_safe(path, &why, hint, sizeof(hint));
	if (r < 0)
		return err_set(e, r, "%.350s; %.150s", why.text, hint);
	r = read_file(AT_FDCWD, path, CONF_FILE_MAX, &b);
	if (r < 0)
		err_set(e, r, "%s: %s", path, errno_name(r));
	else
		(void)reader_run(strna(b.data), b.size, &ops, &c);
	buf_done(&b);
	return r < 0 ? r : c.result;
}
