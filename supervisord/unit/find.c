/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From a unit's name to its files: fragment, aliases, masks, drop-ins (systemd.unit(5)).
 *
 *  1. The first directory of the path that has the name wins; the name itself wins over its
 *     template in any directory.
 *  2. A link to a file of another unit name is an alias: the unit is that other one. At most
 *     ALIAS_DEPTH_MAX steps.
 *  3. A link to /dev/null and an empty file mask the unit.
 *  4. A built-in unit is not overridden by the file of systemd's own package.
 *
 * Called by load.c and install.c, after unit_cache_refresh().
 */
#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>

#include "load.h"
#include "stayd/stayd.h"

void unit_found_done(struct unit_found *f)
{
	free(f->name);
	free(f->file);
	strv_done(&f->links);
	*f = (struct unit_found){0};
}

/* The file of exactly this entry name, in the first directory that counts. */
static char *file_of(const struct unit_path *p, const char *entry)
{
	uint64_t dirs = unit_cache_lookup(p, entry);
	bool is_builtin = builtin_text(entry) != NULL;
	for (size_t i = 0; dirs; i++, dirs >>= 1)
		if ((dirs & 1) && !(is_builtin && unit_dir_is_vendor_systemd(p->dirs.v[i])))
			return xasprintf("%s/%s", p->dirs.v[i], entry);
	return NULL;
}

/* The unit a link leads to when that is another name; NULL otherwise. */
static char *alias_of(const char *name, const char *target)
{
	const char *slash = strrchr(target, '/'), *base = slash ? slash + 1 : target;
	if (!unit_name_is_valid(base) || unit_name_type(base) != unit_name_type(name))
		return NULL;
	CLEANUP_FREE char *instance = unit_name_instance(name);
	char *other = instance && strstr(base, "@.") ? unit_name_with_instance(base, instance)
						     : xstrdup(base);
	if (streq(other, name)) {
		free(other);
		return NULL;
	}
	return other;
}

static int cannot_look(struct unit_found *f)
{
	f->error = is_absence(errno) || errno == ELOOP ? 0 : errno;
	return 0;
}

/* One step: 0 found or nothing there, 1 ret->name is an alias' target now. */
static int find_step(const struct unit_path *p, struct unit_found *f)
{
	char target[PATH_MAX];
	struct stat st;
	CLEANUP_FREE char *template = unit_name_template(f->name);
	free(f->file);
	f->file = file_of(p, f->name);
	if (!f->file && template)
		f->file = file_of(p, template);
	if (!f->file)
		return 0;
	if (lstat(f->file, &st) < 0)
		return cannot_look(f);
	if (S_ISLNK(st.st_mode)) {
		if (!realpath(f->file, target)) {
			f->is_loop = errno == ELOOP;
			return cannot_look(f);
		}
		if (streq(target, "/dev/null")) {
			f->is_masked = true;
			return 0;
		}
		char *other = alias_of(f->name, target);
		if (other) {
			free(f->name);
			f->name = other;
			strv_add_take(&f->links, f->file);
			f->file = xstrdup(target);
			return 1;
		}
		if (stat(f->file, &st) < 0)
			return cannot_look(f);
	}
	f->is_masked = S_ISREG(st.st_mode) && st.st_size == 0;
	return 0;
}

void unit_find(const struct unit_path *p, const char *name, struct unit_found *ret)
{
	*ret = (struct unit_found){.name = xstrdup(name)};
	for (int i = 0; i < ALIAS_DEPTH_MAX; i++) {
		char *last = ret->file;
		ret->file = NULL;
		int more = find_step(p, ret);
		/* A link out of the path (stayctl link): the file it led to is the fragment. */
		if (!ret->file && last && !more && !builtin_text(ret->name)) {
			ret->file = last;
			return;
		}
		free(last);
		if (!more)
			return;
	}
	ret->is_loop = true;
}

/* ---- drop-ins ---- */

struct drop_in {
	char *base, *path;
};

struct drop_ins {
	struct drop_in *v;
	size_t n, cap;
	char *unread; /* a directory */
	int error;
};

static int add_dir(const struct unit_path *p, const char *entry, size_t i, struct drop_ins *l)
{
	int r = 0;
	CLEANUP_FREE char *dir = xasprintf("%s/%s", p->dirs.v[i], entry);
	DIR *d = dir_open(dir);
	struct dirent *e = NULL;
	while (d && r == 0 && (e = dir_next(d))) {
		if (e->d_name[0] == '.' || !endswith(e->d_name, ".conf"))
			continue;
		bool is_known = false;
		for (size_t k = 0; k < l->n; k++)
			is_known |= streq(l->v[k].base, e->d_name);
		if (is_known)
			continue;
		if (l->n == DROP_INS_MAX) {
			r = -E2BIG; /* readdir() has no order: some of them would be any of them */
			break;
		}
		GROW(l->v, l->n, l->cap);
		l->v[l->n++] =
			(struct drop_in){xstrdup(e->d_name), xasprintf("%s/%s", dir, e->d_name)};
	}
	if (!e && errno && !is_absence(errno) && !l->unread) { /* of dir_open() or dir_next() */
		l->error = errno;
		l->unread = TAKE_PTR(dir);
	}
	if (d)
		closedir(d);
	return r;
}

/* Directory names for one unit name, most specific first: web-api@1.service.d,
 * web-api@.service.d, web-.service.d, service.d. */
static void drop_in_names(const char *name, struct strv *l)
{
	const char *dot = strrchr(name, '.');
	CLEANUP_FREE char *template = unit_name_template(name);
	strv_add_take(l, xasprintf("%s.d", name));
	if (template)
		strv_add_take(l, xasprintf("%s.d", template));
	size_t n = strcspn(name, "@");
	for (n = MIN(n, (size_t)(dot - name)); n > 1; n--)
		if (name[n - 1] == '-' && n < (size_t)(dot - name))
			strv_add_take(l, xasprintf("%.*s%s.d", (int)n, name, dot));
}

static int compare_drop_ins(const void *a, const void *b)
{
	return strcmp(((const struct drop_in *)a)->base, ((const struct drop_in *)b)->base);
}

int unit_find_drop_ins(const struct unit_path *p, const char *asked, const char *name,
	struct strv *ret_files, char **ret_unread, int *ret_error)
{
	struct strv names = {0};
	struct drop_ins l = {0};
	drop_in_names(name, &names);
	if (!streq(asked, name))
		drop_in_names(asked, &names);
	const struct strv *aliases = unit_cache_aliases(p, name);
	for (size_t i = 0; aliases && i < aliases->n; i++)
		if (!streq(aliases->v[i], asked))
			drop_in_names(aliases->v[i], &names);
	uint64_t any = 0;
	int r = 0;
	size_t n_own = names.n;
	strv_add_take(&names, xasprintf("%s.d", unit_type_name(unit_name_type(name))));
	for (size_t k = 0; k < names.n; k++)
		any |= unit_cache_lookup(p, names.v[k]);
	/* By directory of the path first, then by how specific the name is; the type's own last. */
	for (size_t pass = 0; any && pass < 2; pass++)
		for (size_t i = 0; i < p->dirs.n && i < 64; i++)
			for (size_t k = pass ? n_own : 0; k < (pass ? names.n : n_own); k++)
				if (r == 0 && unit_cache_lookup(p, names.v[k]) & 1ULL << i)
					r = add_dir(p, names.v[k], i, &l);
	if (l.n)
		qsort(l.v, l.n, sizeof(*l.v), compare_drop_ins);
	for (size_t i = 0; i < l.n; i++) {
		free(l.v[i].base);
		if (r == 0)
			strv_add_take(ret_files, l.v[i].path);
		else
			free(l.v[i].path);
	}
	free(l.v);
	strv_done(&names);
	*ret_unread = l.unread;
	*ret_error = l.error;
	return r;
}
