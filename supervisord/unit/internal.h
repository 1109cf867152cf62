/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of unit/ share: the parser's state, the directive table's rows, enum tables.
 * Private to the folder; others include units.h.
 */
#pragma once

#include "reader.h"
#include "units.h"

/* More diagnostics than this are counted, not kept. */
#define DIAGNOSTICS_MAX 100
/* Items of one list (words, conditions, commands ...); further ones are refused with S0129. */
#define ITEMS_MAX 4096
/* Drop-ins of one unit; with more of them the unit is not loaded. */
#define DROP_INS_MAX 4096
/* Links followed from an alias to its unit. */
#define ALIAS_DEPTH_MAX 8

/* How bad a finding is. What systemd only warns about stays loadable here as well. */
enum severity {
	SEVERITY_NOTE,  /* a warning in check */
	SEVERITY_ERROR, /* an error in check; the assignment is left out, the unit loads */
	SEVERITY_FATAL, /* the unit is LOAD_BAD: running it without this would be wrong */
};

/* One row of diagnostics that people can look up (codes.def). */
enum code {
#define CODE(id, severity, title, text) S##id,
#include "codes.def"
#undef CODE
	CODE_MAX,
};

struct directive;
struct parser {
	struct unit_conf *conf;
	struct arena *arena;
	const struct unit_path *path;
	const char *file; /* as it is shown; in the arena */
	const struct assignment *at;
	const struct directive *d;
	size_t value_at; /* offset in the value that complaints point at */
	const char *section;
	bool section_known;
	bool has_timeout_start, has_restart_kill_signal, has_timeout_abort, has_reset_after,
		has_max_unavailable;
	size_t cap_degraded, cap_diagnostics, cap_conditions, cap_env_files, n_dropped;
	struct buf text;
};

typedef void directive_fn(struct parser *p, const char *value);

/* The sections a row can stand in. */
enum section_id {
	SECTION_UNIT,
	SECTION_SERVICE,
	SECTION_SOCKET,
	SECTION_TIMER,
	SECTION_PATH,
	SECTION_MOUNT,
	SECTION_AUTOMOUNT,
	SECTION_SWAP,
	SECTION_SLICE,
	SECTION_SCOPE,
	SECTION_INSTALL,
	SECTION_REPLICAS,
	SECTION_HEALTH,
	SECTION_RESTART,
	SECTION_LOADBALANCER,
	SECTION_ROLLOUT,
	SECTION_FAILOVER,
	SECTION_ACCESS,
	SECTION_MAX,
};
extern const char *const section_names[SECTION_MAX];

struct directive {
	struct directive_info info;
	directive_fn *parse;
	unsigned offset; /* of the field in struct unit_conf */
	int arg;         /* of the parser: an enum value, a table, a unit */
};
const struct directive *directive_row(const char *section, const char *key);

/* ---- words for enum values (enums.c); arg of parse_enumeration ---- */
enum enum_table {
	ENUM_SERVICE_TYPE,
	ENUM_RESTART,
	ENUM_NOTIFY_ACCESS,
	ENUM_KILL_MODE,
	ENUM_ACTION,
	ENUM_PRESERVE,
	ENUM_PROTECT_PROC,
	ENUM_PROC_SUBSET,
	ENUM_OOM_POLICY,
	ENUM_ON_LIMIT,
	ENUM_DRAIN,
	ENUM_UNREACHABLE,
	ENUM_STRATEGY,
	ENUM_CPU_POLICY,
	ENUM_IO_CLASS,
	ENUM_PROTECT_SYSTEM,
	ENUM_PROTECT_HOME,
	ENUM_TABLE_MAX,
};
struct enum_word {
	const char *word;
	int value;
};
int enum_parse(enum enum_table t, const char *word); /* -EINVAL */
/* "one of a, b, c" into e->text, and the nearest word or NULL. */
const char *enum_explain(enum enum_table t, const char *word, struct err *e);

/* ---- diagnostics (diag.c) ---- */
/* The name of a file for people; arena memory. */
char *shown_file(struct parser *p, const char *file);
void diag_at(struct parser *p, enum code code, const struct text_pos *at, const char *hint,
	const char *format, ...) PRINTF_LIKE(5, 6);
/* About the current assignment's value, at p->value_at. */
void complain(struct parser *p, enum code code, const char *hint, const char *format, ...)
	PRINTF_LIKE(4, 5);
/* A value of the current directive that may not be left out silently: LOAD_BAD. */
void complain_fatal(struct parser *p, enum code code, const char *hint, const char *format, ...)
	PRINTF_LIKE(4, 5);
/* About the whole file or unit. */
void complain_file(struct parser *p, enum code code, const char *file, const char *hint,
	const char *format, ...) PRINTF_LIKE(5, 6);
/* A file or directory that may be there cannot be looked at: the unit is not started without it (or is,
 * when its absence would only leave something out), and is to be loaded again. error: an errno. */
void complain_unread(struct parser *p, enum code code, const char *path, int error, bool is_fatal);
void degrade(struct parser *p, enum directive_class class, const char *reason);

/* ---- parse.c ---- */
/* Parses one file's text into p->conf. 0, or -EBADMSG when its rest was given up. */
int parse_text(struct parser *p, const char *file, const char *text, size_t size);
const char *nearest_section(const char *name);
const char *nearest_key(const char *section, const char *key);

/* ---- specifier.c ---- */
/* Expands % specifiers; arena memory. NULL: complained. */
char *specifier_expand(struct parser *p, const char *s);

/* ---- lists in the arena ---- */
void conf_list_add(struct parser *p, struct conf_list *l, const char *s);
bool conf_list_has(const struct conf_list *l, const char *s);
#define FIELD(p, type) ((type *)(void *)((char *)(p)->conf + (p)->d->offset))

/* ---- defaults.c ---- */
extern struct conf_rlimit no_rlimits[];
void conf_set_defaults(struct unit_conf *c); /* before parsing */
void conf_complete(struct parser *p);        /* after: implied values, default dependencies */
void conf_verify(struct parser *p);          /* what cannot work together */
const char *builtin_text(const char *name);  /* of a built-in unit; NULL */
const char *builtin_name(size_t i);          /* NULL at the end */

/* ---- paths.c: listings of the unit directories, kept and revalidated ---- */
struct unit_cache;
struct unit_cache *unit_cache_new(void);
struct unit_cache *unit_cache_free(struct unit_cache *c);
void unit_cache_refresh(const struct unit_path *p);
/* Bit i set: directory i of the path has an entry of this name. */
uint64_t unit_cache_lookup(const struct unit_path *p, const char *entry);
/* Does this errno say that nothing is there? */
static inline bool is_absence(int error)
{
	return error == ENOENT || error == ENOTDIR;
}
bool unit_cache_next(const struct unit_path *p, size_t *pos, const char **ret_name);
/* Other names that are links to this unit, from the listings. */
const struct strv *unit_cache_aliases(const struct unit_path *p, const char *name);
/* True for systemd's own vendor directory, whose links below built-in targets do not apply. */
bool unit_dir_is_vendor_systemd(const char *dir);
