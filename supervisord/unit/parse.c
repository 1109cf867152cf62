/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One file's text -> fields of a unit_conf: looks each assignment up in the directive table and
 * calls the row's parser.
 *
 *  1. Sections and keys exist only as rows of directives.def.
 *  2. What is unknown and begins with "X-" belongs to other programs and is passed over silently.
 *  3. A used row whose class is partial, ignored-warn or refused gives one entry in degraded[].
 *
 * Called by load.c for the fragment, then for each drop-in in order.
 */

#include "fields.h"

const char *const section_names[SECTION_MAX] = {
	[SECTION_UNIT] = "Unit",
	[SECTION_SERVICE] = "Service",
	[SECTION_SOCKET] = "Socket",
	[SECTION_TIMER] = "Timer",
	[SECTION_PATH] = "Path",
	[SECTION_MOUNT] = "Mount",
	[SECTION_AUTOMOUNT] = "Automount",
	[SECTION_SWAP] = "Swap",
	[SECTION_SLICE] = "Slice",
	[SECTION_SCOPE] = "Scope",
	[SECTION_INSTALL] = "Install",
	[SECTION_REPLICAS] = "X-Replicas",
	[SECTION_HEALTH] = "X-Health",
	[SECTION_RESTART] = "X-Restart",
	[SECTION_LOADBALANCER] = "X-LoadBalancer",
	[SECTION_ROLLOUT] = "X-Rollout",
	[SECTION_FAILOVER] = "X-Failover",
	[SECTION_ACCESS] = "X-Access",
};

/* Units of these types load with their names, links and [Install]; what they would do is not
 * done yet, and that is said once for each directive that is used. */
#define NOT_SOCKET  "socket activation is not done yet"
#define NOT_MOUNT   "mounts are left to the system"
#define NOT_SWAP    "swap is left to the system"
#define NOT_SLICE   "slices carry no limits of their own yet"
#define NOT_SCOPE   "scopes are not made by stayd"
#define FIELD_OF(f) offsetof(struct unit_conf, f)
/* clang-format off */
#define WARN_ROW(s, key, doc, why)                                                                 \
	{{s, key, doc, CLASS_IGNORED_WARN, why}, set_ignored, 0, 0},

static const struct directive rows[] = {
#define ROW(section, key, parser, field, arg, class, reason, doc)                                  \
	{{section, #key, doc, CLASS_##class, reason}, set_##parser, FIELD_OF(field), arg},
#define PLAIN_ROW(section, key, class, reason, doc)                                                \
	{{section, #key, doc, CLASS_##class, reason}, set_ignored, 0, 0},
#define EXEC_ROW(key, parser, field, arg, class, reason, doc)                                      \
	ROW("Service", key, parser, field, arg, class, reason, doc)                                \
	WARN_ROW("Socket", #key, doc, NOT_SOCKET)                                                  \
	WARN_ROW("Mount", #key, doc, NOT_MOUNT)                                                    \
	WARN_ROW("Swap", #key, doc, NOT_SWAP)
#define EXEC_PLAIN_ROW(key, class, reason, doc) EXEC_ROW(key, ignored, refs, 0, class, reason, doc)
#define CGROUP_ROW(key, parser, field, arg, class, reason, doc)                                    \
	EXEC_ROW(key, parser, field, arg, class, reason, doc)                                      \
	WARN_ROW("Slice", #key, doc, NOT_SLICE)                                                    \
	WARN_ROW("Scope", #key, doc, NOT_SCOPE)
#define CGROUP_PLAIN_ROW(key, class, reason, doc)                                                  \
	CGROUP_ROW(key, ignored, refs, 0, class, reason, doc)
#define KILL_ROW(key, parser, field, arg, class, reason, doc)                                      \
	EXEC_ROW(key, parser, field, arg, class, reason, doc)                                      \
	WARN_ROW("Scope", #key, doc, NOT_SCOPE)
#include "stayd/directives.def"
};
/* clang-format on */

/* ---- finding rows: an open hash, filled on first use; there are no threads ---- */

#define SLOTS 4096 /* a power of two, at least twice the rows */
_Static_assert(ARRAY_SIZE(rows) * 2 < SLOTS, "the hash of directives is too full");
static uint16_t slots[SLOTS];
static bool slots_are_filled;

static size_t slot_of(const char *section, const char *key)
{
	uint64_t h = hash_bytes(key, strlen(key)) * 31 + hash_bytes(section, strlen(section));
	return (size_t)(h ^ h >> 32) & (SLOTS - 1);
}

static void fill_slots(void)
{
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		size_t s = slot_of(rows[i].info.section, rows[i].info.key);
		while (slots[s])
			s = (s + 1) & (SLOTS - 1);
		slots[s] = (uint16_t)(i + 1);
	}
	slots_are_filled = true;
}

const struct directive *directive_row(const char *section, const char *key)
{
	if (!slots_are_filled)
		fill_slots();
	for (size_t s = slot_of(section, key); slots[s]; s = (s + 1) & (SLOTS - 1)) {
		const struct directive *d = &rows[slots[s] - 1];
		if (streq(d->info.key, key) && streq(d->info.section, section))
			return d;
	}
	return NULL;
}

size_t directive_count(void)
{
	return ARRAY_SIZE(rows);
}

const struct directive_info *directive_at(size_t i)
{
	return i < ARRAY_SIZE(rows) ? &rows[i].info : NULL;
}

const struct directive_info *directive_find(const char *section, const char *key)
{
	const struct directive *d = section ? directive_row(section, key) : NULL;
	for (size_t i = 0; !section && !d && i < ARRAY_SIZE(rows); i++)
		if (strcasecmp(rows[i].info.key, key) == 0)
			d = &rows[i];
	return d ? &d->info : NULL;
}

/* ---- "did you mean" ---- */

const char *nearest_section(const char *name)
{
	const char *best = NULL;
	unsigned best_distance = 3;
	for (size_t i = 0; i < SECTION_MAX; i++) {
		unsigned d = str_distance(name, section_names[i], 2);
		if (d < best_distance) {
			best_distance = d;
			best = section_names[i];
		}
	}
	return best;
}

const char *nearest_key(const char *section, const char *key)
{
	const char *best = NULL;
	unsigned best_distance = strlen(key) < 4 ? 2 : 3;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		if (!streq(rows[i].info.section, section))
			continue;
		unsigned d = str_distance(key, rows[i].info.key, 2);
		if (strcasecmp(key, rows[i].info.key) == 0)
			d = 0;
		if (d < best_distance) {
			best_distance = d;
			best = rows[i].info.key;
		}
	}
	return best;
}

/* ---- the reader's callbacks ---- */

static bool is_foreign(const char *name)
{
	return startswith(name, "X-") || startswith(name, "x-");
}

static void on_section(void *ctx, const char *name, const struct text_pos *at)
{
	struct parser *p = ctx;
	p->section = NULL;
	for (size_t i = 0; i < SECTION_MAX; i++)
		if (streq(name, section_names[i]))
			p->section = section_names[i];
	p->section_known = p->section != NULL;
	if (streq(name, "X-Replicas"))
		p->conf->replicas.is_set = true;
	else if (streq(name, "X-Rollout"))
		p->conf->rollout.is_set = true;
	if (p->section_known)
		return;
	const char *near = nearest_section(name);
	char hint[64];
	snprintf(hint, sizeof(hint), "did you mean '[%s]'?", strna(near));
	if (!is_foreign(name))
		diag_at(p, S0102, at, near ? hint : NULL, "unknown section [%s]", name);
	else if (near) /* [X-Rolout] would be silent otherwise */
		diag_at(p, S0204, at, hint, "section [%s] is not stayd's", name);
}

static void on_unknown_key(struct parser *p, const struct assignment *a)
{
	char hint[160] = "";
	bool is_full = p->conf->n_diagnostics >= DIAGNOSTICS_MAX;
	const char *near = is_full ? NULL : nearest_key(p->section, a->key);
	if (near)
		snprintf(hint, sizeof(hint), "did you mean '%s'?", near);
	else
		for (size_t i = 0; i < ARRAY_SIZE(rows) && !hint[0] && !is_full; i++)
			if (streq(rows[i].info.key, a->key))
				snprintf(hint, sizeof(hint), "it belongs in [%s]",
					rows[i].info.section);
	diag_at(p, S0101, &a->at, hint[0] ? hint : NULL, "unknown key '%s' in [%s]", a->key,
		p->section);
}

/* An assignment that asks for nothing (reset, "no") degrades nothing. */
static bool asks_for_nothing(const char *value)
{
	return !*value || parse_boolean(value) == 0 || streq(value, "infinity");
}

static void on_assign(void *ctx, const struct assignment *a)
{
	struct parser *p = ctx;
	if (!p->section_known) {
		if (!a->section[0])
			diag_at(p, S0105, &a->at, "begin with [Unit] or [Service]",
				"assignment outside of a section");
		return;
	}
	p->d = directive_row(p->section, a->key);
	if (!p->d) {
		if (!is_foreign(a->key))
			on_unknown_key(p, a);
		return;
	}
	p->at = a;
	p->value_at = 0;
	enum directive_class class = p->d->info.class;
	p->d->parse(p, a->value);
	if (class != CLASS_FULL && class != CLASS_IGNORED_SAFE && !asks_for_nothing(a->value))
		degrade(p, class, p->d->info.reason);
	p->at = NULL;
	p->d = NULL;
}

static void on_trouble(void *ctx, enum reader_trouble t, const struct text_pos *at)
{
	static const struct {
		enum code code;
		const char *text;
	} table[] = {
		[READER_BAD_HEADER] = {S0100,
				       "bad section header; the rest of the file is not read"              },
		[READER_NO_EQUALS] = {S0103, "missing '='; the line is left out"                          },
		[READER_NO_KEY] = {S0104, "missing key before '='; the line is left out"               },
		[READER_BAD_UTF8] = {S0106, "not UTF-8; the line is left out"                            },
		[READER_LINE_TOO_LONG] = {S0107, "line is longer than 1 MiB; the rest of the file "
						 "is not read"},
		[READER_KEY_TOO_LONG] = {S0108, "key is too long; the line is left out"                      },
		[READER_NUL] = {S0109, "NUL byte; taken as the end of the line"                     },
	};
	diag_at(ctx, table[t].code, at, NULL, "%s", table[t].text);
}

int parse_text(struct parser *p, const char *file, const char *text, size_t size)
{
	static const struct reader_ops ops = {on_section, on_assign, on_trouble};
	p->file = shown_file(p, file);
	p->section = NULL;
	p->section_known = false;
	return reader_run(text, size, &ops, p);
}
