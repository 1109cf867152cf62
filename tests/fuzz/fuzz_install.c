/* SPDX-License-Identifier: Apache-2.0 */
/*
 * [Install] of any unit file, and links that others made: enabling makes links below its directory
 * only, enabling again changes nothing, and disabling takes back all that it made.
 * Options: -max_len=512 -detect_leaks=0
 */
#include "fuzz.h"
#include "unit/units.h"

#include <dirent.h>
#include <sys/stat.h>

static const char *const names[] = {"a.service", "t@.service", "t@x.service"};
static char top[64];
static struct unit_path path;

/* Removes what is below d; counts what it removed. */
static unsigned clear(const char *dir_name, unsigned depth)
{
	unsigned n = 0;
	DIR *d = opendir(dir_name);
	for (struct dirent *e; d && (e = readdir(d));) {
		CLEANUP_FREE char *p = xasprintf("%s/%s", dir_name, e->d_name);
		if (streq(e->d_name, ".") || streq(e->d_name, ".."))
			continue;
		if (unlink(p) < 0 && depth < 4) {
			n += clear(p, depth + 1);
			(void)rmdir(p);
		} else
			n++;
	}
	if (d)
		closedir(d);
	return n;
}

static void clean_up(void)
{
	(void)clear(top, 0);
	(void)rmdir(top);
}

static void start(void)
{
	str_copy(top, "/dev/shm/stayd-fuzz-XXXXXX", sizeof(top));
	if (!mkdtemp(top))
		abort();
	CLEANUP_FREE char *links = xasprintf("%s/links", top), *units = xasprintf("%s/units", top);
	CLEANUP_FREE char *dirs = xasprintf("%s:%s", links, units);
	(void)mkdir(links, 0700);
	(void)mkdir(units, 0700);
	unit_path_default(&path, dirs);
	(void)atexit(clean_up);
}

static void put_unit(const char *name, struct input *in)
{
	CLEANUP_FREE char *file = xasprintf("%s/units/%s", top, name);
	CLEANUP_FREE char *text = in_str(in);
	CLEANUP_FREE char *all = xasprintf("[Service]\nExecStart=/bin/true\n[Install]\n%s\n", text);
	int fd = open(file, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0 || write_all(fd, all, strlen(all)) < 0)
		abort();
	fd_close(fd);
}

static void check_changes(const struct strv *changes, const char *word)
{
	CLEANUP_FREE char *begin = xasprintf("%s %s/", word, top);
	for (size_t i = 0; i < changes->n; i++) {
		assert(startswith(changes->v[i], begin));
		assert(!strstr(changes->v[i], "/../"));
		assert(is_printable(changes->v[i]));
	}
}

static unsigned links_left(void)
{
	CLEANUP_FREE char *links = xasprintf("%s/links", top);
	return clear(links, 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = in_begin(data, size);
	struct strv made = {0}, again = {0}, removed = {0};
	struct err e = {0};
	if (!top[0])
		start();
	const char *name = names[in_u8(&in) % ARRAY_SIZE(names)];
	bool is_known = in_u8(&in) & 1;
	if (is_known) { /* a link of somebody else's, to anywhere */
		CLEANUP_FREE char *to = in_str(&in), *link = xasprintf("%s/links/b.service", top);
		(void)!symlink(to[0] ? to : "x", link);
	}
	put_unit("a.service", &in);
	put_unit("t@.service", &in);
	int r = unit_enable(&path, name, false, &made, &e);
	assert(r == 0 || (e.text[0] && e.code == r));
	check_changes(&made, "created");
	if (r == 0 && made.n)
		assert(streq(unit_file_state(&path, name), "enabled") || !streq(name, "a.service"));
	if (r == 0) {
		assert(unit_enable(&path, name, false, &again, &e) == 0 && again.n == 0);
		assert(unit_disable(&path, name, &removed, &e) == 0);
		check_changes(&removed, "removed");
	}
	unsigned left = links_left();
	if (r == 0 && streq(name, "a.service") && !is_known)
		assert(left == 0 && removed.n == made.n);
	strv_done(&made);
	strv_done(&again);
	strv_done(&removed);
	return 0;
}
