/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who is who, and who may do what.
 *
 * Owns the rules of stayd.conf and what names of users and groups stand for. Invariants:
 *  1. A peer is known by what the kernel says of it at connect(2): uid, gid, supplementary groups.
 *     Neither its pid nor anything in /proc is ever asked to decide.
 *  2. Names are looked up in /etc/passwd and /etc/group when they are first needed and again when one of
 *     these has changed; memberships never: they are the peer's own. No NSS, no directory server.
 *  3. A stayd.conf that cannot be read or believed gives nobody anything: root and our own user are
 *     left. A name that is unknown gives nobody anything.
 *  4. The overflow user and group (somebody of another user namespace) are nobody.
 *  5. A unit's Owner= is what its file said when it was last loaded.
 * Called by server.c, client.c and rights.c.
 */
#include <grp.h>
#include <pwd.h>
#include <sys/stat.h>

#include "control/access.h"
#include "stayd/stayd.h"

#define RULE_MEMBERS_MAX 256  /* of one role; further ones are refused */
#define NAMES_MAX        8192 /* kept; then all are looked up anew */

static const struct {
	const char *word, *key, *members, *doc;
} roles[] = {
#define ROLE(id, word, key, members, doc) [CONTROL_##id] = {word, key, members, doc},
#include "stayd/roles.def"
};

struct name {
	bool is_known;
	uint32_t id;
	char *text; /* "alice", "@deploy" */
};

struct access {
	char *path;
	uid_t own_uid;
	struct strv members[CONTROL_ADMIN + 1];
	bool is_written[CONTROL_ADMIN + 1]; /* by the file being read */
	struct map names;                   /* text -> struct name */
	struct stat passwd, group;          /* as they were when the names were looked up */
};

const char *access_role_name(enum control_role r)
{
	return r < ARRAY_SIZE(roles) && roles[r].word ? roles[r].word : "nobody";
}

const char *access_role_key(enum control_role r)
{
	return r < ARRAY_SIZE(roles) && roles[r].key ? roles[r].key : "";
}

/* ---- names ---- */

static void names_forget(struct access *a)
{
	size_t pos = 0;
	const char *key;
	void *value;
	while (map_next(&a->names, &pos, &key, &value)) {
		struct name *n = value;
		free(n->text);
		free(n);
	}
	map_done(&a->names);
	a->names = (struct map){0};
}

static bool has_changed(const char *path, struct stat *known)
{
	struct stat st = {0};
	(void)stat(path, &st);
	bool is_same = st.st_ino == known->st_ino && st.st_size == known->st_size &&
		       st.st_mtim.tv_sec == known->st_mtim.tv_sec &&
		       st.st_mtim.tv_nsec == known->st_mtim.tv_nsec;
	*known = st;
	return !is_same;
}

static bool find_user(const char *name, uint32_t *ret)
{
	FILE *f = fopen("/etc/passwd", "re");
	bool is_found = false;
	for (struct passwd *p; f && !is_found && (p = fgetpwent(f));)
		if (streq(p->pw_name, name)) {
			*ret = p->pw_uid;
			is_found = true;
		}
	if (f)
		fclose(f);
	return is_found;
}

static bool find_group(const char *name, uint32_t *ret)
{
	FILE *f = fopen("/etc/group", "re");
	bool is_found = false;
	for (struct group *g; f && !is_found && (g = fgetgrent(f));)
		if (streq(g->gr_name, name)) {
			*ret = g->gr_gid;
			is_found = true;
		}
	if (f)
		fclose(f);
	return is_found;
}

static const struct name *name_lookup(struct access *a, const char *text)
{
	struct name *n = map_get(&a->names, text);
	if (n)
		return n;
	if (a->names.n >= NAMES_MAX)
		names_forget(a);
	n = xcalloc(1, sizeof(*n));
	n->text = xstrdup(text);
	const char *name = text + (text[0] == '@');
	if (name[0] >= '0' && name[0] <= '9') {
		n->id = (uint32_t)strtoul(name, NULL, 10);
		n->is_known = true;
	} else {
		n->is_known = text[0] == '@' ? find_group(name, &n->id) : find_user(name, &n->id);
	}
	(void)map_put(&a->names, n->text, n);
	return n;
}

/* ---- rules ---- */

static void rules_forget(struct access *a)
{
	for (size_t i = 0; i < ARRAY_SIZE(a->members); i++) {
		strv_done(&a->members[i]);
		a->is_written[i] = false;
	}
	names_forget(a);
}

static int add_members(struct strv *l, const char *words, struct err *e)
{
	char *word;
	for (const char *pos = words; split_word(&pos, &word, false, e) > 0;) {
		int r = l->n >= RULE_MEMBERS_MAX
				? err_set(e, -E2BIG, "more than %d members", RULE_MEMBERS_MAX)
			: !principal_is_valid(word, true)
				? err_set(e, -EINVAL, "'%.80s' is not a user or an @group", word)
				: 0;
		if (r == 0)
			strv_add_take(l, word);
		else
			free(word);
		if (r < 0)
			return r;
	}
	return 0;
}

static int on_setting(
	void *arg, const char *section, const char *key, const char *value, struct err *e)
{
	struct access *a = arg;
	if (!streq(section, "Access"))
		return err_set(e, -EINVAL, "[%.60s]: the only section is [Access]", section);
	for (size_t i = CONTROL_GUEST; i < ARRAY_SIZE(roles); i++) {
		if (!streq(roles[i].key, key))
			continue;
		if (!a->is_written[i] || !*value)
			strv_done(&a->members[i]); /* the default; or all before an empty one */
		a->is_written[i] = true;
		return add_members(&a->members[i], value, e);
	}
	return err_set(e, -EINVAL, "%.60s=: not Guest=, Viewer=, Operator= or Admin=", key);
}

int access_reload(struct access *a, struct err *e)
{
	int r = -ENOENT;
	rules_forget(a);
	for (size_t i = CONTROL_GUEST; i < ARRAY_SIZE(roles); i++)
		(void)add_members(&a->members[i], roles[i].members, e);
	if (a->path)
		r = conf_read(a->path, on_setting, a, e);
	if (r == -ENOENT)
		return 0;
	if (r < 0)
		rules_forget(a);
	return r;
}

struct access *access_new(const char *path, uid_t own_uid)
{
	struct access *a = xcalloc(1, sizeof(*a));
	a->path = path ? xstrdup(path) : NULL;
	a->own_uid = own_uid;
	return a;
}

const char *access_path(const struct access *a)
{
	return strna(a->path);
}

struct access *access_free(struct access *a)
{
	if (!a)
		return NULL;
	rules_forget(a);
	free(a->path);
	free(a);
	return NULL;
}

/* ---- deciding ---- */

static bool has_group(const struct peer *p, gid_t gid)
{
	for (size_t i = 0; i < p->n_groups; i++)
		if (p->groups[i] == gid)
			return true;
	return p->gid == gid;
}

static bool is_member(struct access *a, const char *text, const struct peer *p)
{
	if (streq(text, "*"))
		return true;
	const struct name *n = name_lookup(a, text);
	if (!n->is_known || n->id == OVERFLOW_ID)
		return false;
	return text[0] == '@' ? has_group(p, n->id) : p->uid == n->id;
}

static bool is_listed(struct access *a, const struct conf_list *l, const struct peer *p)
{
	for (size_t i = 0; i < l->n; i++)
		if (is_member(a, l->v[i], p))
			return true;
	return false;
}

static void names_refresh(struct access *a)
{
	bool has_users_changed = has_changed("/etc/passwd", &a->passwd);
	if (has_changed("/etc/group", &a->group) || has_users_changed)
		names_forget(a);
}

enum control_role access_role(struct access *a, const struct peer *p)
{
	if (p->uid == 0 || p->uid == a->own_uid)
		return CONTROL_ADMIN;
	names_refresh(a);
	for (int r = CONTROL_ADMIN; r > CONTROL_NOBODY; r--)
		for (size_t i = 0; i < a->members[r].n; i++)
			if (is_member(a, a->members[r].v[i], p))
				return (enum control_role)r;
	return CONTROL_NOBODY;
}

enum control_role access_unit_role(
	struct access *a, const struct unit_conf *conf, const struct peer *p)
{
	if (!conf || (!conf->access.owner.n && !conf->access.viewer.n))
		return CONTROL_NOBODY;
	names_refresh(a);
	return is_listed(a, &conf->access.owner, p)    ? CONTROL_OPERATOR
	       : is_listed(a, &conf->access.viewer, p) ? CONTROL_VIEWER
						       : CONTROL_NOBODY;
}
