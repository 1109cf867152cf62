/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The log directory: made by core, owned by the logger's user, readable by root and the group adm.
 *
 *  1. The logger gets a descriptor and never walks a path, so it needs no rights above the directory,
 *     and cannot be sent elsewhere by a link.
 *  2. What changes hands is a directory that holds units' logs and nothing else: --log-dir=/var/log
 *     is refused, not given away.
 *  3. Files are handed over before the directory, so while they change nobody but root can be at work
 *     in it; and only ordinary files with one name: a hard link to somebody else's file stays his.
 *
 * Called by loglink.c for every new logger, and whenever a logger cannot write.
 */
#include "core/inner.h"

#include "confine/confine.h"

#include <dirent.h>
#include <fcntl.h>
#include <grp.h>
#include <sys/stat.h>

#define READERS      "adm" /* Debian's group of those who may read logs */
#define LOG_DIR_MODE 0755  /* names of units are no secret; their directories are 0750 */
/* Entries changed in one go; what is beyond is the next one's, or the administrator's. */
#define HANDED_MAX (64 * 1024)

struct owner {
	uid_t uid;
	gid_t gid;
	size_t n;
};

static void find_readers(gid_t *gid)
{
	FILE *f = fopen("/etc/group", "re");
	struct group *g;
	while (f && (g = fgetgrent(f)))
		if (streq(g->gr_name, READERS))
			*gid = g->gr_gid;
	if (f)
		fclose(f);
}

/* Calls fn for each entry of the directory; false when fn said so. */
static bool each_entry(
	int fd, struct owner *to, bool (*fn)(struct owner *to, int at, const char *name))
{
	int own = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = own < 0 ? NULL : fdopendir(own);
	bool ok = true;
	if (!d)
		fd_close(own);
	for (struct dirent *e; ok && d && (e = readdir(d));)
		if (e->d_name[0] != '.' && !streq(e->d_name, "lost+found"))
			ok = fn(to, fd, e->d_name);
	if (d)
		closedir(d);
	return ok;
}

static bool is_unit_log(struct owner *to UNUSED, int at, const char *name)
{
	struct stat st;
	if (unit_name_type(name) != UNIT_TYPE_MAX &&
		fstatat(at, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(st.st_mode))
		return true;
	log_error(NULL,
		"--log-dir holds something that is no unit's log (%s), so it is not handed over to "
		"the logger and logs are not written: give them a directory of their own",
		name);
	return false;
}

static bool hand_file(struct owner *to, int at, const char *name)
{
	struct stat st;
	CLEANUP_CLOSE int fd = openat(at, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	if (fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_nlink == 1 &&
		fchownat(fd, "", to->uid, to->gid, AT_EMPTY_PATH) == 0)
		to->n++;
	return to->n < HANDED_MAX;
}

static int hand_dir(const struct owner *to, int fd, const struct stat *st)
{
	if (fchown(fd, to->uid, to->gid) < 0)
		return -errno;
	/* What is made below has the group too. */
	return fchmod(fd, (st->st_mode & 0777) | S_ISGID) < 0 ? -errno : 0;
}

static bool hand_unit(struct owner *to, int at, const char *name)
{
	struct stat st;
	CLEANUP_CLOSE int fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) < 0)
		return true;
	bool goes_on = each_entry(fd, to, hand_file);
	(void)hand_dir(to, fd, &st);
	return goes_on;
}

static int hand_over(struct core *c, int fd)
{
	struct owner to = {0};
	struct stat st;
	if (!c->is_root || fstat(fd, &st) < 0)
		return 0;
	if (c->can_give_logs_away && confine_user_of(ROLE_LOGGER, &to.uid, &to.gid))
		find_readers(&to.gid);
	if (st.st_uid == to.uid)
		return 0;
	if (!each_entry(fd, &to, is_unit_log))
		return -ENOTEMPTY;
	(void)each_entry(fd, &to, hand_unit);
	(void)hand_file(&to, fd, LOG_LOCK_NAME);
	int r = hand_dir(&to, fd, &st);
	/* Where that uid is not mapped the logger could not become it either, and is root. */
	return r == -EINVAL ? 0 : r;
}

int logdir_open(struct core *c)
{
	static int told;
	int r = mkdir_parents(c->log_dir, LOG_DIR_MODE);
	CLEANUP_CLOSE int fd = open(c->log_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd >= 0)
		r = hand_over(c, fd);
	else if (r == 0)
		r = -errno;
	if (r < 0 && r != told)
		log_error(NULL, "%s: %s; output of services is not kept until that is repaired",
			c->log_dir, errno_name(r));
	told = r;
	return r < 0 ? r : TAKE_FD(fd);
}
