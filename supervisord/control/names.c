/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the names in a call stand for.
 *
 * Owns nothing. Invariants:
 *  1. Names are resolved before anything is done: a request with one bad name changes nothing.
 *  2. A read verb loads no unit.
 *  3. However often a unit is named, by itself or by patterns, it stands among the targets once: what an
 *     answer takes goes by what there is, not by what was asked. Below the operators what is looked for in
 *     files, and how many patterns are tried, has a bound too.
 * Called by rights.c and the handlers.
 */
#include <fnmatch.h>

#include "control/names.h"
#include "stayd/stayd.h"

#define HINT_DISTANCE 2
#define FEW_TARGETS   64
#define LOOK_UPS_MAX  64 /* of one call of who may not operate */

char *complete_name(const char *name)
{
	size_t size = strlen(name);
	if (size == 0 || size > UNIT_NAME_MAX)
		return NULL;
	char *plain = xstrdup(name);
	char *hash = strchr(plain, '#');
	if (hash)
		*hash = '@';
	char *full = unit_name_complete(plain);
	free(plain);
	if (full && !unit_name_is_valid(full)) {
		free(full);
		full = NULL;
	}
	return full;
}

static void strip(char *s, const char *suffix)
{
	if (endswith(s, suffix))
		s[strlen(s) - strlen(suffix)] = '\0';
}

struct set *find_set(struct world *w, const char *name)
{
	char key[UNIT_NAME_MAX + 1];
	if (str_copy(key, name, sizeof(key)) >= sizeof(key))
		return NULL;
	strip(key, ".service");
	strip(key, "@");
	struct set *s = key[0] ? world_set(w, key) : NULL;
	/* The full name of a service beside the set of web@.service is that service's. */
	bool is_unit = s && s->is_template && !strchr(name, '@') && endswith(name, ".service") &&
		       world_unit(w, name);
	return is_unit ? NULL : s;
}

static void consider(const char *typed, const char *name, unsigned *best, char *hint, size_t size)
{
	char key[UNIT_NAME_MAX + 1];
	str_copy(key, name, sizeof(key));
	if (!endswith(typed, ".service"))
		strip(key, ".service");
	unsigned d = str_distance(typed, key, HINT_DISTANCE);
	if (d < *best) {
		*best = d;
		snprintf(hint, size, "did you mean '%.200s'?", key);
	}
}

int fail_no_unit(struct call *c, const char *name)
{
	struct world *w = c->daemon->world(c->core);
	unsigned best = HINT_DISTANCE + 1;
	str_copy(c->hint, "stayctl list-units", sizeof(c->hint));
	for (size_t i = 0; i < w->n_sets; i++)
		consider(name, w->sets[i]->name, &best, c->hint, sizeof(c->hint));
	for (size_t i = 0; i < w->n_units; i++)
		consider(name, w->units[i]->name, &best, c->hint, sizeof(c->hint));
	struct strv files = {0};
	if (best > 1 && c->daemon->unit_files(c->core, &files) == 0)
		for (size_t i = 0; i < files.n; i++)
			consider(name, files.v[i], &best, c->hint, sizeof(c->hint));
	strv_done(&files);
	return err_set(&c->e, -ENOENT, "no unit '%.255s'", name);
}

int call_looks_up(struct call *c)
{
	if (c->role >= CONTROL_OPERATOR || ++c->n_looked_up <= LOOK_UPS_MAX)
		return 0;
	return err_set(&c->e, -E2BIG,
		"more than %d patterns and units to be read from files in a call of %s",
		LOOK_UPS_MAX, call_actor(c));
}

static bool is_named(const struct targets *t, const struct unit *u)
{
	if (t->n > FEW_TARGETS)
		return map_get(&t->known, u->name);
	for (size_t i = 0; i < t->n; i++)
		if (t->units[i] == u)
			return true;
	return false;
}

void targets_add(struct targets *t, struct unit *u)
{
	if (is_named(t, u))
		return;
	GROW(t->units, t->n, t->cap);
	t->units[t->n++] = u;
	for (size_t i = t->n == FEW_TARGETS + 1 ? 0 : t->n - 1; t->n > FEW_TARGETS && i < t->n; i++)
		(void)map_put(&t->known, t->units[i]->name, t->units[i]);
}

static void add_set(struct targets *t, struct set *s)
{
	for (size_t i = 0; i < t->n_sets; i++)
		if (t->sets[i] == s)
			return;
	GROW(t->sets, t->n_sets, t->cap_sets);
	t->sets[t->n_sets++] = s;
}

static void add_members(struct targets *t, struct set *s)
{
	for (unsigned i = 0; i < SET_MEMBERS_MAX; i++)
		if (s->members[i] && (i < s->count || !unit_is_down(s->members[i])))
			targets_add(t, s->members[i]);
}

bool name_fits(const char *pattern, const char *name)
{
	char key[UNIT_NAME_MAX + 1];
	str_copy(key, name, sizeof(key));
	if (fnmatch(pattern, key, 0) == 0)
		return true;
	strip(key, ".service");
	return fnmatch(pattern, key, 0) == 0;
}

static int resolve_pattern(struct call *c, const char *pattern, struct targets *t)
{
	struct world *w = c->daemon->world(c->core);
	bool is_any = false;
	int r = call_looks_up(c);
	for (size_t i = 0; r == 0 && i < w->n_units; i++)
		if (name_fits(pattern, w->units[i]->name)) {
			targets_add(t, w->units[i]);
			is_any = true;
		}
	if (r == 0 && !is_any)
		return err_set(&c->e, -ENOENT, "no unit fits '%.255s'", pattern);
	return r;
}

static int load_failed(struct call *c, const char *name, const char *full, const struct err *unread)
{
	if (c->e.code == -ENOENT && unread->code)
		return err_set(&c->e, unread->code, "%s", unread->text);
	if (c->e.code == -ENOENT)
		return fail_no_unit(c, name);
	if (c->e.code == -EBADMSG)
		snprintf(c->hint, sizeof(c->hint), "stayctl check %s", full);
	return c->e.code < 0 ? c->e.code : err_set(&c->e, -EIO, "%s could not be loaded", full);
}

/* "web", "web@", "web@.service"; not "web@1", whatever core would make of it: acting on a set where
 * one instance was named is the worst mistake these verbs could make. */
bool name_may_be_set(const char *name)
{
	const char *at = strchr(name, '@');
	if (strchr(name, '#'))
		return false;
	return !at || at[1] == '\0' || streq(at, "@.service");
}

static int resolve_name(struct call *c, const char *name, int flags, struct targets *t)
{
	struct world *w = c->daemon->world(c->core);
	if (strlen(name) > UNIT_NAME_MAX)
		return err_set(&c->e, -EINVAL, "a name is longer than %d bytes", UNIT_NAME_MAX);
	if (strpbrk(name, "*?["))
		return resolve_pattern(c, name, t);
	struct set *s = NULL;
	struct err unread = {0};
	if (name_may_be_set(name))
		s = flags & TARGETS_LOAD ? c->daemon->find_set(c->core, name, &unread)
					 : find_set(w, name);
	if (s && s->is_template) {
		if (flags & TARGETS_SETS)
			add_set(t, s);
		else
			add_members(t, s);
		return 0;
	}
	char *full = complete_name(name);
	if (!full)
		return err_set(&c->e, -EINVAL, "'%.255s' is not a unit name", name);
	struct unit *u = world_unit(w, full);
	bool was_there = u != NULL;
	if (flags & TARGETS_LOAD && (!u || c->daemon->unit_is_outdated(u)))
		u = c->daemon->load_unit(c->core, full, &c->e);
	if (!u && was_there && c->e.code == -ENOENT) { /* it can still be reset, but not started */
		c->e = (struct err){0};
		u = world_unit(w, full);
	}
	int r = 0;
	if (u)
		targets_add(t, u);
	else if (flags & TARGETS_LOAD)
		r = load_failed(c, name, full, &unread);
	else
		r = fail_no_unit(c, name);
	free(full);
	return r;
}

int targets_resolve(struct call *c, int flags, struct targets *t)
{
	const json_t *names = json_object_get(c->params, "names");
	size_t n = json_array_size(names);
	if (n == 0 && !(flags & TARGETS_ALL))
		return err_set(&c->e, -EINVAL, "which unit?");
	if (n == 0) {
		struct world *w = c->daemon->world(c->core);
		for (size_t i = 0; i < w->n_units; i++) {
			GROW(t->units, t->n, t->cap);
			t->units[t->n++] = w->units[i];
		}
	}
	for (size_t i = 0; i < n; i++) {
		int r = resolve_name(c, json_string_value(json_array_get(names, i)), flags, t);
		if (r < 0)
			return r;
	}
	return 0;
}

void targets_done(struct targets *t)
{
	free(t->units);
	free(t->sets);
	map_done(&t->known);
	*t = (struct targets){0};
}

struct set *call_set(struct call *c)
{
	const char *name = call_str(c, "name");
	if (strlen(name) > UNIT_NAME_MAX) {
		err_set(&c->e, -EINVAL, "a name is longer than %d bytes", UNIT_NAME_MAX);
		return NULL;
	}
	if (!name_may_be_set(name)) {
		err_set(&c->e, -EINVAL, "'%.255s' is one instance; this is for sets", name);
		return NULL;
	}
	struct err unread = {0};
	struct set *s = c->daemon->find_set(c->core, name, &unread);
	if (!s && unread.code)
		err_set(&c->e, unread.code, "%s", unread.text);
	else if (!s && fail_no_unit(c, name) < 0 && !startswith(c->hint, "did you"))
		snprintf(c->hint, sizeof(c->hint),
			"a set is a template with [X-Replicas]: stayctl check %.200s", name);
	return s;
}
