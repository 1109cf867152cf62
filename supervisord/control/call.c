/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The table of methods, the check of parameters, and how a call fails: what the protocol says.
 *
 * Owns nothing. Invariant: a handler runs only with parameters that fit its method's `in` type: none
 * has to ask.
 * Called by server.c before a handler runs, and by the handlers.
 */
#include <ctype.h>

#include "control/call.h"
#include "stayd/stayd.h"

#define GUEST    CONTROL_GUEST
#define VIEWER   CONTROL_VIEWER
#define OPERATOR CONTROL_OPERATOR
#define ADMIN    CONTROL_ADMIN
const struct method methods[METHOD_MAX] = {
#define METHOD(id, name_, role_, is_change_, in_, out_, doc_)                                      \
	[METHOD_##id] = {name_, role_, is_change_, in_, out_, doc_},
#include "stayd/verbs.def"
};

int method_find(const char *name)
{
	for (int i = 0; i < METHOD_MAX; i++)
		if (streq(methods[i].name, name))
			return i;
	return -1;
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

const char *call_error(const struct call *c)
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

void methods_describe(struct buf *out)
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

static const struct {
	const char *word;
	int code;
} results[] = {
#define RESULT(id, word, code) [REPLY_##id] = {word, code},
#include "stayd/outcomes.def"
};

const char *result_word(enum reply_result r)
{
	return (size_t)r < ARRAY_SIZE(results) ? results[r].word : "failed";
}

int result_exit(enum reply_result r)
{
	return (size_t)r < ARRAY_SIZE(results) ? results[r].code : STAY_EXIT_FAILED;
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

const char *call_actor(const struct call *c)
{
	return peer_actor(client_peer(c->client));
}
