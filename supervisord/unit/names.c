/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Unit names: prefix[@[instance]].type, their parts, and systemd's escaping of arbitrary text.
 *
 *  1. A valid name has at most UNIT_NAME_MAX bytes of [A-Za-z0-9:_.\-@] and a known type; so it
 *     contains no '/' and can never leave a directory it is joined to.
 *  2. Results that are char * belong to the caller.
 *
 * Called by everybody who handles a name: loader, model, control, stayctl.
 */
#include "units.h"
#include "stayd/stayd.h"

static const char *const type_names[UNIT_TYPE_MAX] = {
	[UNIT_SERVICE] = "service",
	[UNIT_TARGET] = "target",
	[UNIT_SOCKET] = "socket",
	[UNIT_TIMER] = "timer",
	[UNIT_PATH] = "path",
	[UNIT_MOUNT] = "mount",
	[UNIT_AUTOMOUNT] = "automount",
	[UNIT_SWAP] = "swap",
	[UNIT_SLICE] = "slice",
	[UNIT_SCOPE] = "scope",
	[UNIT_DEVICE] = "device",
};

const char *unit_type_name(enum unit_type t)
{
	return t < UNIT_TYPE_MAX ? type_names[t] : "unknown";
}

enum unit_type unit_name_type(const char *name)
{
	const char *dot = strrchr(name, '.');
	if (dot)
		for (enum unit_type t = 0; t < UNIT_TYPE_MAX; t++)
			if (streq(dot + 1, type_names[t]))
				return t;
	return UNIT_TYPE_MAX;
}

static bool is_name_char(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
	       (c && strchr(":_.\\-", c));
}

bool unit_name_is_valid(const char *name)
{
	size_t n = strlen(name);
	if (n == 0 || n > UNIT_NAME_MAX || unit_name_type(name) == UNIT_TYPE_MAX)
		return false;
	if (name[0] == '@' || name[0] == '.')
		return false; /* no prefix; "." also keeps "." and ".." out */
	for (size_t i = 0; i < n; i++)
		if (!is_name_char(name[i]) && name[i] != '@')
			return false;
	return true;
}

/* It is a directory's name, a word in files and shown to people. */
bool release_name_is_valid(const char *s)
{
	size_t n = strlen(s);
	return n <= RELEASE_NAME_MAX && s[0] != '.' &&
	       strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-+:@~") ==
		       n;
}

/* Where the instance part starts and ends: '@' and the dot of the type. */
static bool find_instance(const char *name, const char **ret_at, const char **ret_dot)
{
	const char *at = strchr(name, '@'), *dot = strrchr(name, '.');
	if (!at || !dot || dot < at)
		return false;
	*ret_at = at;
	*ret_dot = dot;
	return true;
}

char *unit_name_template(const char *name)
{
	const char *at, *dot;
	if (!find_instance(name, &at, &dot) || dot == at + 1)
		return NULL;
	return xasprintf("%.*s@%s", (int)(at - name), name, dot);
}

char *unit_name_instance(const char *name)
{
	const char *at, *dot;
	if (!find_instance(name, &at, &dot) || dot == at + 1)
		return NULL;
	return xstrndup(at + 1, (size_t)(dot - at - 1));
}

char *unit_name_with_instance(const char *template, const char *instance)
{
	const char *at, *dot;
	if (!find_instance(template, &at, &dot))
		return NULL;
	return xasprintf("%.*s@%s%s", (int)(at - template), template, instance, dot);
}

char *unit_name_complete(const char *s)
{
	if (s[0] == '/') {
		CLEANUP_FREE char *e = unit_escape(s, true);
		const char *type = startswith(s, "/dev/") ? "device" : "mount";
		return xasprintf("%s.%s", e, type);
	}
	if (unit_name_type(s) != UNIT_TYPE_MAX)
		return xstrdup(s);
	return xasprintf("%s.service", s);
}

/* ---- escaping ---- */

static void escape_byte(struct buf *b, char c, bool is_first)
{
	bool is_plain = is_name_char(c) && c != '-' && c != '\\' && !(is_first && c == '.');
	if (c == '/')
		buf_add_byte(b, '-');
	else if (is_plain)
		buf_add_byte(b, c);
	else
		buf_printf(b, "\\x%02x", (unsigned char)c);
}

/* is_path: as systemd-escape --path does it: no slash at either end, none doubled, "/" -> "-". */
char *unit_escape(const char *s, bool is_path)
{
	struct buf b = {0};
	if (is_path)
		while (*s == '/')
			s++;
	if (is_path && !*s) {
		buf_add_byte(&b, '-');
		return buf_steal(&b);
	}
	bool is_first = true;
	for (; *s; s++) {
		if (is_path && *s == '/' && (s[1] == '/' || s[1] == '\0'))
			continue;
		escape_byte(&b, *s, is_first);
		is_first = false;
	}
	return buf_steal(&b);
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

/* A backslash that starts no valid \xNN is kept as it is; "\x00" too, a C string cannot hold it. */
char *unit_unescape(const char *s)
{
	struct buf b = {0};
	for (; *s; s++) {
		int hi = -1, lo = -1;
		if (s[0] == '\\' && s[1] == 'x') {
			hi = hex_digit(s[2]);
			lo = hi < 0 ? -1 : hex_digit(s[3]);
		}
		if (lo >= 0 && hi * 16 + lo != 0) {
			buf_add_byte(&b, (char)(hi * 16 + lo));
			s += 3;
		} else
			buf_add_byte(&b, *s == '-' ? '/' : *s);
	}
	return buf_steal(&b);
}
