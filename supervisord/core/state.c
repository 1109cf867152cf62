/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Small files of the state directory: text for people, checked and versioned for us.
 *
 *   3 v2
 *   # stayd state 1 crc 8d2f01aa
 *
 *  1. The last line names the version of the layout and the CRC of all before it. Without one the file
 *     is of the version before there was one; then at least its last line must be whole.
 *  2. Version N reads N-1 and N+1: words are only added at the end of a line, lines at the end of the
 *     text, and who does not know them ignores them. Whole files are replaced, so what a newer version
 *     had added is gone once an older one writes.
 *  3. Replaced atomically and fsync'ed (write_file_atomic).
 */
#include "core/inner.h"

#include <fcntl.h>

#ifndef STAYD_NEXT
#	define STATE_VERSION 1u
#else
#	define STATE_VERSION 2u
#endif
#define STATE_FILE_MAX 4096
#define STATE_MARK     "# stayd state "

char *state_dir_of(const struct core *c, const char *set, const char *below)
{
	return xasprintf("%s/sets/%s%s%s", c->state_dir, set, *below ? "/" : "", below);
}

/* The beginning of the last line, which is complete. NULL: it is not. */
static char *last_line(struct buf *b)
{
	if (!b->size || b->data[b->size - 1] != '\n')
		return NULL;
	char *p = b->size > 1 ? memrchr(b->data, '\n', b->size - 1) : NULL;
	return p ? p + 1 : b->data;
}

static int check(struct buf *b)
{
	unsigned version, crc;
	char *mark = last_line(b);
	if (!mark || memchr(b->data, '\0', b->size))
		return -EBADMSG;
	if (!startswith(mark, STATE_MARK))
		return 0; /* of the version before this one */
	if (sscanf(mark, STATE_MARK "%u crc %x", &version, &crc) != 2)
		return -EBADMSG;
	if (version > STATE_VERSION + 1)
		return -EPROTONOSUPPORT;
	size_t size = (size_t)(mark - b->data);
	if (crc != crc32_of(b->data, size))
		return -EBADMSG;
	b->size = size;
	b->data[size] = '\0';
	return 0;
}

int state_read(struct core *c, const char *set, const char *file, struct buf *ret)
{
	CLEANUP_FREE char *path = state_dir_of(c, set, file);
	int r = read_file(AT_FDCWD, path, STATE_FILE_MAX, ret);
	c->n_state_unread += r == -EACCES || r == -EPERM; /* the rest: files_unread() */
	if (r == 0)
		r = check(ret);
	if (r == -EPROTONOSUPPORT)
		log_error(set, "%s is of a version too new: ignored", path);
	else if (r < 0 && r != -ENOENT)
		log_error(set, "%s cannot be read (%s): ignored", path,
			r == -EBADMSG ? "damaged" : errno_name(r));
	return r;
}

int state_read_number(struct core *c, const char *set, const char *file, uint32_t *ret)
{
	struct buf b = {0};
	char *end;
	int r = state_read(c, set, file, &b);
	if (r == 0) {
		unsigned long v = strtoul(b.data, &end, 10);
		if (end == b.data || v > UINT32_MAX)
			r = -EBADMSG;
		else
			*ret = (uint32_t)v;
		if (r < 0)
			log_error(set, "sets/%s/%s of %s is no number: ignored", set, file, c->state_dir);
	}
	buf_done(&b);
	return r;
}

int state_write(struct core *c, const char *set, const char *file, const char *text)
{
	CLEANUP_FREE char *dir = state_dir_of(c, set, "");
	CLEANUP_FREE char *path = state_dir_of(c, set, file);
	CLEANUP_FREE char *all = xasprintf(
		"%s" STATE_MARK "%u crc %08x\n", text, STATE_VERSION, crc32_of(text, strlen(text)));
	int r = mkdir_parents(dir, 0755);
	return r < 0 ? r : write_file_atomic(path, all, strlen(all), 0644);
}
