/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A unit's name -> its struct unit_conf: fragment, drop-ins, links, built-ins, defaults.
 *
 *  1. There is always a conf; ->load and ->diagnostics say how it went.
 *  2. ->name is the name after following aliases; it may differ from the one asked for.
 *  3. Everything of a conf but its text is in its arena; it never changes after it was returned.
 *  4. What cannot be read is not absent: the unit is not started without it, and ->is_unread says
 *     that another look may find more. Links below *.wants/ only leave something out.
 *  5. A file that others than root can change or replace is refused when we are the system's manager.
 *
 * Called by core for each unit it wants to know, and by stayctl check.
 */
#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "load.h"
#include "stayd/stayd.h"

/* ---- life ---- */

struct unit_conf *unit_conf_ref(struct unit_conf *c)
{
	assert(c->refs > 0);
	c->refs++;
	return c;
}

struct unit_conf *unit_conf_unref(struct unit_conf *c)
{
	if (!c)
		return NULL;
	assert(c->refs > 0);
	if (--c->refs == 0) {
		struct arena *a = c->arena;
		free(c->text);
		arena_done(a);
		free(a);
	}
	return NULL;
}

static char *take_into(struct arena *a, char *s)
{
	char *out = s ? arena_strdup(a, s) : NULL;
	free(s);
	return out;
}

static void set_name(struct parser *p, const char *name)
{
	struct unit_conf *c = p->conf;
	c->name = arena_strdup(p->arena, name);
	c->type = unit_name_type(name);
	c->instance = take_into(p->arena, unit_name_instance(name));
	c->template = take_into(p->arena, unit_name_template(name));
	const char *dot = strrchr(name, '.');
	size_t n = strcspn(name, "@");
	c->prefix = arena_strndup(
		p->arena, name, dot && (size_t)(dot - name) < n ? (size_t)(dot - name) : n);
}

static void parser_init(struct parser *p, const struct unit_path *path, const char *name)
{
	struct arena *a = xcalloc(1, sizeof(*a));
	*p = (struct parser){.arena = a, .path = path, .file = name};
	p->conf = arena_alloc(a, sizeof(*p->conf));
	p->conf->refs = 1;
	p->conf->arena = a;
	p->conf->load = LOAD_LOADED;
	p->file = arena_strdup(a, name);
	set_name(p, name);
	conf_set_defaults(p->conf);
}

static struct unit_conf *finish(struct parser *p)
{
	struct unit_conf *c = p->conf;
	conf_complete(p);
	if (c->load == LOAD_LOADED || c->load == LOAD_BAD)
		conf_verify(p);
	c->text = xstrndup(strna(p->text.data), p->text.size);
	c->text_hash = hash_bytes(c->text, p->text.size);
	buf_done(&p->text);
	return c;
}

const char *unit_conf_error(const struct unit_conf *c)
{
	for (size_t i = 0; i < c->n_diagnostics; i++)
		if (c->diagnostics[i].is_error)
			return c->diagnostics[i].text;
	return c->is_unread ? "a directory of units cannot be read now" : unit_load_name(c->load);
}

/* The files have it too. What compares (daemon-reload) needs the hash only. */
void unit_conf_drop_text(struct unit_conf *c)
{
	free(TAKE_PTR(c->text));
}

/* ---- files ---- */

static int check_access_by(struct parser *p, const char *file,
	int (*check)(const char *path, struct err *e, char *hint, size_t hint_size))
{
	struct err e = {0};
	char hint[512];
	if (!p->path->is_system || geteuid() != 0)
		return 0;
	int r = check(file, &e, hint, sizeof(hint));
	if (r < 0 && r != -EPERM && r != -ELOOP)
		p->conf->is_unread = true;
	if (r < 0)
		complain_file(p, S0003, file, hint, "%s", e.text);
	return r;
}

static int check_access(struct parser *p, const char *file)
{
	return check_access_by(p, file, file_check_safe);
}

/* Not what the file is, nor that there is none. */
static bool is_unreadable(int r)
{
	return r < 0 && r != -E2BIG && r != -EISDIR && r != -EINVAL && r != -ELOOP &&
	       !is_absence(-r);
}

/* A line that goes on ends with its file: an empty one keeps the next file's out of it in a snapshot. */
static void add_text(struct parser *p, const char *file, const struct buf *b)
{
	size_t n = b->size;
	buf_printf(&p->text, "# %s\n", file);
	buf_add(&p->text, strna(b->data), n);
	if (n && b->data[n - 1] != '\n')
		buf_add_byte(&p->text, '\n');
	while (n && strchr("\r\n", b->data[n - 1]))
		n--;
	if (n && b->data[n - 1] == '\\')
		buf_add_byte(&p->text, '\n');
}

/* Reads and parses one file, and adds it to the effective text. */
static int take_file(struct parser *p, const char *file)
{
	struct buf b = {0};
	int r = check_access(p, file);
	if (r == 0) {
		r = read_file(AT_FDCWD, file, UNIT_FILE_MAX, &b);
		if (r == -E2BIG)
			complain_file(p, S0002, file, NULL, "the file is larger than 16 MiB");
		else if (is_unreadable(r))
			complain_unread(p, S0001, file, -r, true);
		else if (r < 0)
			complain_file(
				p, S0001, file, NULL, "cannot read the file: %s", errno_name(-r));
	}
	if (r == 0) {
		(void)parse_text(p, file, strna(b.data), b.size);
		add_text(p, file, &b);
	}
	buf_done(&b);
	return r;
}

/* Whoever can turn an alias chooses the unit. */
static bool links_are_safe(struct parser *p, const struct unit_found *f)
{
	for (size_t i = 0; i < f->links.n; i++)
		if (check_access(p, f->links.v[i]) < 0)
			return false;
	return true;
}

static bool is_masked_file(struct parser *p, const char *file)
{
	struct stat st;
	if (stat(file, &st) == 0)
		return S_ISCHR(st.st_mode) || (S_ISREG(st.st_mode) && st.st_size == 0);
	if (!is_absence(errno) && errno != ELOOP)
		complain_unread(p, S0001, file, errno, true);
	return false;
}

static void take_drop_ins(struct parser *p, const char *asked)
{
	struct strv files = {0};
	CLEANUP_FREE char *unread = NULL;
	int error;
	if (unit_find_drop_ins(p->path, asked, p->conf->name, &files, &unread, &error) < 0)
		complain_file(p, S0002, NULL, "merge them into fewer files",
			"more than %d drop-ins", DROP_INS_MAX);
	if (unread)
		complain_unread(p, S0006, unread, error, true);
	for (size_t i = 0; i < files.n; i++) {
		if (is_masked_file(p, files.v[i]))
			continue;
		conf_list_add(p, &p->conf->drop_ins, arena_strdup(p->arena, files.v[i]));
		(void)take_file(p, files.v[i]);
	}
	strv_done(&files);
}

/* Entries of NAME.wants/ and NAME.requires/ in every directory of the path. Of an entry the name counts, not
 * where it leads: whoever can make one there chooses what is started. */
static void take_links_of(
	struct parser *p, const char *owner, const char *suffix, enum dep_kind kind)
{
	CLEANUP_FREE char *entry = xasprintf("%s.%s", owner, suffix);
	uint64_t dirs = unit_cache_lookup(p->path, entry);
	bool is_builtin = builtin_text(owner) && !p->conf->fragment_path;
	struct map seen = {0};
	for (size_t i = 0; i < p->conf->deps[kind].n && dirs; i++)
		(void)map_put(&seen, p->conf->deps[kind].v[i], p);
	for (size_t i = 0; dirs; i++, dirs >>= 1) {
		if (!(dirs & 1) || (is_builtin && unit_dir_is_vendor_systemd(p->path->dirs.v[i])))
			continue;
		CLEANUP_FREE char *path = xasprintf("%s/%s", p->path->dirs.v[i], entry);
		DIR *d = dir_open(path);
		struct dirent *e;
		while (d && (e = dir_next(d))) {
			if (!unit_name_is_valid(e->d_name) || map_get(&seen, e->d_name) ||
				streq(e->d_name, p->conf->name))
				continue;
			CLEANUP_FREE char *link = xasprintf("%s/%s", path, e->d_name);
			if (check_access_by(p, link, link_check_safe) < 0) {
				errno = 0; /* it is said */
				break;
			}
			char *name = arena_strdup(p->arena, e->d_name);
			conf_list_add(p, &p->conf->deps[kind], name);
			(void)map_put(&seen, name, p);
		}
		if (errno && !is_absence(errno)) /* of dir_open() or dir_next() */
			complain_unread(p, S0006, path, errno, false);
		if (d)
			closedir(d);
	}
	map_done(&seen);
}

static void take_links(struct parser *p)
{
	const struct unit_conf *c = p->conf;
	take_links_of(p, c->name, "wants", DEP_WANTS);
	take_links_of(p, c->name, "requires", DEP_REQUIRES);
	if (c->template) {
		take_links_of(p, c->template, "wants", DEP_WANTS);
		take_links_of(p, c->template, "requires", DEP_REQUIRES);
	}
}

/* ---- loading ---- */

static struct unit_conf *load_bad_name(const struct unit_path *path, const char *name)
{
	struct parser p;
	char shown[UNIT_NAME_MAX + 1];
	str_copy(shown, name, sizeof(shown));
	str_make_printable(shown);
	parser_init(&p, path, shown);
	if (p.conf->type == UNIT_TYPE_MAX)
		p.conf->type = UNIT_SERVICE;
	complain_file(&p, S0004, NULL, NULL, "'%s' is not a unit name", shown);
	p.conf->load = LOAD_NOT_FOUND;
	return finish(&p);
}

static void take_builtin(struct parser *p, const char *text)
{
	static const char file[] = "(built in)";
	(void)parse_text(p, file, text, strlen(text));
	buf_printf(&p->text, "# %s\n%s", file, text);
}

/* A target or slice that nobody describes may still be referred to; a slice always exists. */
static void take_nothing(struct parser *p)
{
	if (p->conf->type != UNIT_SLICE && p->conf->load == LOAD_LOADED)
		p->conf->load = LOAD_NOT_FOUND;
}

static void load_from_path(struct parser *p, const char *asked, const struct unit_found *f)
{
	const char *text = builtin_text(p->conf->name), *dir;
	int error = unit_path_error(p->path, &dir);
	p->conf->is_unread = error != 0; /* a file there may come before those we see */
	if (f->is_loop)
		complain_file(p, S0005, f->file, NULL, "links go in a circle");
	else if (f->is_masked) {
		p->conf->load = LOAD_MASKED;
		p->conf->fragment_path = arena_strdup(p->arena, f->file);
		return;
	} else if (!links_are_safe(p, f)) {
		p->conf->fragment_path = arena_strdup(p->arena, f->links.v[0]);
	} else if (f->file) {
		p->conf->fragment_path = arena_strdup(p->arena, f->file);
		if (f->error)
			complain_unread(p, S0001, f->file, f->error, true);
		else
			(void)take_file(p, f->file);
	} else if (text)
		take_builtin(p, text);
	else if (error && p->conf->type != UNIT_SLICE)
		complain_unread(p, S0006, dir, error, true);
	else
		take_nothing(p);
	if (p->conf->load == LOAD_NOT_FOUND)
		return;
	take_drop_ins(p, asked);
	take_links(p);
}

static void load_from_snapshot(struct parser *p, const char *snapshot)
{
	CLEANUP_FREE char *file = xasprintf("%s/unit", snapshot);
	p->conf->fragment_path = arena_strdup(p->arena, file);
	if (take_file(p, file) < 0)
		p->conf->load = LOAD_BAD;
	take_links(p);
}

static struct unit_conf *load(
	const struct unit_path *path, const char *name, const char *snapshot, bool is_own_name)
{
	struct parser p;
	struct unit_found f;
	if (!unit_name_is_valid(name))
		return load_bad_name(path, name);
	unit_cache_refresh(path);
	unit_find(path, name, &f);
	parser_init(&p, path, is_own_name ? name : f.name);
	if (snapshot)
		load_from_snapshot(&p, snapshot);
	else
		load_from_path(&p, name, &f);
	unit_found_done(&f);
	return finish(&p);
}

struct unit_conf *unit_load(const struct unit_path *path, const char *name, const char *snapshot)
{
	return load(path, name, snapshot, false);
}

struct unit_conf *unit_load_as(const struct unit_path *path, const char *name)
{
	return load(path, name, NULL, true);
}

struct unit_conf *unit_load_text(const struct unit_path *path, const char *name, const char *file,
	const char *text, size_t size)
{
	struct parser p;
	if (!unit_name_is_valid(name))
		return load_bad_name(path, name);
	parser_init(&p, path, name);
	p.conf->fragment_path = arena_strdup(p.arena, file);
	if (size > UNIT_FILE_MAX)
		complain_file(&p, S0002, file, NULL, "the file is larger than 16 MiB");
	else {
		(void)parse_text(&p, file, text, size);
		buf_add(&p.text, text, size);
	}
	return finish(&p);
}

/* ---- revisions ---- */

int unit_snapshot_write(
	const struct unit_path *path, const char *name, const char *dir, struct err *e)
{
	struct unit_conf *c = unit_load(path, name, NULL);
	CLEANUP_FREE char *file = xasprintf("%s/unit", dir);
	int r = 0;
	if (c->load != LOAD_LOADED && c->load != LOAD_BAD)
		r = err_set(e, -ENOENT, "%s is %s", name, unit_load_name(c->load));
	else if (c->is_unread)
		r = err_set(e, -EIO, "%s", unit_conf_error(c));
	if (r == 0 && (r = mkdir_parents(dir, 0755)) < 0)
		err_set(e, r, "cannot make %s: %s", dir, errno_name(-r));
	if (r == 0 && (r = write_file_atomic(file, c->text, strlen(c->text), 0644)) < 0)
		err_set(e, r, "cannot write %s: %s", file, errno_name(-r));
	unit_conf_unref(c);
	return r;
}
