/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The table of methods, the check of parameters, and what names mean.
 *
 * Owns nothing. Invariants:
 *  1. A handler runs only with parameters that fit its method's `in` type: none has to ask.
 *  2. Names are resolved before anything is done: a request with one bad name changes nothing.
 *  3. A read verb loads no unit.
 * Called by control.c; calls the handlers.
 */
#include <ctype.h>
#include <fnmatch.h>

#include "control/call.h"
#include "stayd/stayd.h"

#define HINT_DISTANCE 2

#define GUEST    CONTROL_GUEST
#define VIEWER   CONTROL_VIEWER
#define OPERATOR CONTROL_OPERATOR
#define ADMIN    CONTROL_ADMIN
const struct method methods[METHOD_MAX] = {
#define METHOD(id, name_, role_, is_change_, in_, out_, doc_)                                      \
	[METHOD_##id] = {name_, role_, is_change_, in_, out_, doc_},
#include "stayd/verbs.def"
};

static verb_fn *const handlers[METHOD_MAX] = {
#define METHOD(id, name_, role_, is_change_, in_, out_, doc_) [METHOD_##id] = verb_##id,
#include "stayd/verbs.def"
};

int method_find(const char *name)
{
	for (int i = 0; i < METHOD_MAX; i++)
		if (streq(methods[i].name, name))
			return i;
	return -1;
}

int verbs_dispatch(struct call *c)
{
	return handlers[c->method](c);
}

static const struct {
	int code;
	const char *name;
} error_names[] = {
	{-ENOENT,     "NoSuchUnit"   },
	{-EPERM,      "Refused"      },
	{-EBUSY,      "Refused"      },
	{-EINVAL,     "BadArgument"  },
	{-EBADMSG,    "NotConfigured"},
	{-ESRCH,      "NotRunning"   },
	{-EOPNOTSUPP, "Unsupported"  },
	{-ENOSYS,     "Unsupported"  },
	{-ENOSPC,     "Busy"         },
	{-E2BIG,      "BadArgument"  },
};

const char *verbs_error_name(const struct call *c)
{
	if (c->error)
		return c->error;
	for (size_t i = 0; i < ARRAY_SIZE(error_names); i++)
		if (error_names[i].code == c->e.code)
			return error_names[i].name;
	return "Failed";
}

int error_exit(const char *name)
{
	static const struct {
		const char *name;
		int code;
	} rows[] = {
#define FAULT(name_, code, status_code) {name_, code},
#include "stayd/outcomes.def"
	};
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		if (streq(rows[i].name, name))
			return rows[i].code;
	return STAY_EXIT_FAILED;
}

void verbs_describe(struct buf *out)
{
	static const char *const errors[] = {"NoSuchUnit", "NotConfigured", "NotRunning", "Refused",
		"BadArgument", "Unsupported", "Busy", "TooSlow", "TooLarge", "Malformed", "Failed"};
	buf_add_str(out, "# Control of a stayd daemon\ninterface org.stayd.Control\n\n");
	for (int i = 0; i < METHOD_MAX; i++)
		buf_printf(out, "# %s\nmethod %s%s -> %s\n\n", methods[i].doc, methods[i].name,
			methods[i].in, methods[i].out);
	for (size_t i = 0; i < ARRAY_SIZE(errors); i++)
		buf_printf(out, "error %s (message: string, hint: ?string)\n", errors[i]);
}

/* ---- parameters ----------------------------------------------------------------------------------- */

struct field {
	char name[32];
	bool is_optional, is_list;
	char type[16];
};

static size_t word(const char *s, char *out, size_t size)
{
	size_t n = 0;
	while (isalnum((unsigned char)s[n]) || s[n] == '_')
		n++;
	snprintf(out, size, "%.*s", (int)n, s);
	return n;
}

/* Next "name: ?[]type" of a struct type; false at its end. The text is ours, not a peer's. */
static bool field_next(const char **pos, struct field *f)
{
	const char *p = *pos + strspn(*pos, "(, ");
	if (*p == ')' || *p == '\0')
		return false;
	p += word(p, f->name, sizeof(f->name));
	p += strspn(p, ": ");
	f->is_optional = *p == '?';
	p += f->is_optional;
	f->is_list = startswith(p, "[]");
	p += f->is_list ? 2 : 0;
	p += word(p, f->type, sizeof(f->type));
	*pos = p;
	return true;
}

static bool value_fits(const char *type, const json_t *v)
{
	return (streq(type, "string") && json_is_string(v)) ||
	       (streq(type, "int") && json_is_integer(v)) ||
	       (streq(type, "bool") && json_is_boolean(v)) ||
	       (streq(type, "object") && json_is_object(v));
}

static bool field_fits(const struct field *f, const json_t *v)
{
	if (!v || json_is_null(v))
		return f->is_optional;
	if (!f->is_list)
		return value_fits(f->type, v);
	if (!json_is_array(v) || json_array_size(v) > CALL_NAMES_MAX)
		return false;
	for (size_t i = 0; i < json_array_size(v); i++)
		if (!value_fits(f->type, json_array_get(v, i)))
			return false;
	return true;
}

int params_check(const char *type, const json_t *params, char *ret_bad, size_t bad_size)
{
	struct field f;
	size_t n_known = 0;
	for (const char *p = type; field_next(&p, &f);) {
		const json_t *v = json_object_get(params, f.name);
		n_known += v != NULL;
		if (!field_fits(&f, v)) {
			str_copy(ret_bad, f.name, bad_size);
			return -EINVAL;
		}
	}
	if (!params || n_known == json_object_size(params))
		return 0;
	/* An unknown parameter is refused: a misspelt no_wait must not be taken for its absence. */
	for (void *i = json_object_iter((json_t *)params); i;
		i = json_object_iter_next((json_t *)params, i)) {
		bool is_known = false;
		for (const char *p = type; !is_known && field_next(&p, &f);)
			is_known = streq(f.name, json_object_iter_key(i));
		if (!is_known)
			str_copy(ret_bad, json_object_iter_key(i), bad_size);
	}
	return -EINVAL;
}

const char *call_str(const struct call *c, const char *key)
{
	return json_string_value(json_object_get(c->params, key));
}

bool call_bool(const struct call *c, const char *key)
{
	return json_is_true(json_object_get(c->params, key));
}

int64_t call_int(const struct call *c, const char *key, int64_t absent)
{
	const json_t *v = json_object_get(c->params, key);
	return json_is_integer(v) ? json_integer_value(v) : absent;
}

/* ---- names ------------------------------------------------------------------------------------------ */

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
	struct world *w = core_world(c->core);
	unsigned best = HINT_DISTANCE + 1;
	str_copy(c->hint, "stayctl list-units", sizeof(c->hint));
	for (size_t i = 0; i < w->n_sets; i++)
		consider(name, w->sets[i]->name, &best, c->hint, sizeof(c->hint));
	for (size_t i = 0; i < w->n_units; i++)
		consider(name, w->units[i]->name, &best, c->hint, sizeof(c->hint));
	struct strv files = {0};
	if (best > 1 && core_unit_files(c->core, &files) == 0)
		for (size_t i = 0; i < files.n; i++)
			consider(name, files.v[i], &best, c->hint, sizeof(c->hint));
	strv_done(&files);
	return err_set(&c->e, -ENOENT, "no unit '%.255s'", name);
}

static void add_unit(struct targets *t, struct unit *u)
{
	for (size_t i = 0; t->n <= 64 && i < t->n; i++)
		if (t->units[i] == u)
			return; /* named twice; long lists come from one pattern */
	GROW(t->units, t->n, t->cap);
	t->units[t->n++] = u;
}

static void add_set(struct targets *t, struct set *s)
{
	GROW(t->sets, t->n_sets, t->cap_sets);
	t->sets[t->n_sets++] = s;
}

static void add_members(struct targets *t, struct set *s)
{
	for (unsigned i = 0; i < SET_MEMBERS_MAX; i++)
		if (s->members[i] && (i < s->count || !unit_is_down(s->members[i])))
			add_unit(t, s->members[i]);
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
	struct world *w = core_world(c->core);
	size_t before = t->n;
	for (size_t i = 0; i < w->n_units; i++)
		if (name_fits(pattern, w->units[i]->name))
			add_unit(t, w->units[i]);
	if (t->n == before)
		return err_set(&c->e, -ENOENT, "no unit fits '%.255s'", pattern);
	return 0;
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
	struct world *w = core_world(c->core);
	if (strlen(name) > UNIT_NAME_MAX)
		return err_set(&c->e, -EINVAL, "a name is longer than %d bytes", UNIT_NAME_MAX);
	if (strpbrk(name, "*?["))
		return resolve_pattern(c, name, t);
	struct set *s = NULL;
	struct err unread = {0};
	if (name_may_be_set(name))
		s = flags & TARGETS_LOAD ? core_find_set(c->core, name, &unread)
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
	if (flags & TARGETS_LOAD && (!u || core_unit_is_unread(u)))
		u = core_load_unit(c->core, full, &c->e);
	int r = 0;
	if (u)
		add_unit(t, u);
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
		struct world *w = core_world(c->core);
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
	struct set *s = core_find_set(c->core, name, &unread);
	if (!s && unread.code)
		err_set(&c->e, unread.code, "%s", unread.text);
	else if (!s && fail_no_unit(c, name) < 0 && !startswith(c->hint, "did you"))
		snprintf(c->hint, sizeof(c->hint),
			"a set is a template with [X-Replicas]: stayctl check %.200s", name);
	return s;
}
