/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The face of unit/: text of unit files -> struct unit_conf, with diagnostics a person can act on.
 *
 * Reads the files it is given and nothing else; no process, no socket, no clock. Used by core and
 * by `stayctl check` alike, so both say the same.
 */
#pragma once

#include "base/base.h"
#include "stayd/unit.h"

/* Where units are looked for, first hit wins; drop-ins of all of them apply (systemd.unit(5)). */
struct unit_path {
	struct strv dirs;
	/* For specifiers (%t %S %C %L %E %H %m %b %v ...); filled by unit_path_default(). */
	char *runtime_dir, *state_dir, *cache_dir, *logs_dir, *config_dir;
	bool is_system;           /* running as root for the whole host or container */
	struct unit_cache *cache; /* listings of dirs; made and revalidated by the loader */
};

/* path_arg: "DIR[:DIR]" from --unit-path, or NULL for the defaults of root or of the user (XDG). */
void unit_path_default(struct unit_path *p, const char *path_arg);
void unit_path_done(struct unit_path *p);

/* Loads one unit by its full name ("web@1.service"), fragment and drop-ins, links and built-ins.
 * Always gives a conf, whose ->load says how it went and whose ->diagnostics say why; the caller
 * unrefs it. snapshot: NULL, or a directory to take the unit's text from instead of the search
 * path (a stored revision: <snapshot>/unit, written by unit_snapshot_write()). */
struct unit_conf *unit_load(const struct unit_path *p, const char *name, const char *snapshot);
/* The same, but an alias keeps its own name: for one that was no alias when it was started. */
struct unit_conf *unit_load_as(const struct unit_path *p, const char *name);
struct unit_conf *unit_conf_ref(struct unit_conf *c);
struct unit_conf *unit_conf_unref(struct unit_conf *c); /* NULL */
void unit_conf_drop_text(struct unit_conf *c);
const char *unit_conf_error(const struct unit_conf *c); /* in words: what is wrong with it first */
/* A directory of the path that could not be looked into when a unit was loaded last, and the errno;
 * 0: all of them could. */
int unit_path_error(const struct unit_path *p, const char **ret_dir);

/* Parses one file of text as if it were the fragment of `name`: for check, tests and fuzzers. */
struct unit_conf *unit_load_text(const struct unit_path *p, const char *name, const char *file,
	const char *text, size_t size);

/* Every unit name that has a file in the search path; for listing and for set discovery. */
int unit_list_files(const struct unit_path *p, struct strv *ret_names);

/* ---- names ---- */
bool unit_name_is_valid(const char *name); /* prefix@instance.type, systemd's character set */
bool release_name_is_valid(const char *s);
enum unit_type unit_name_type(const char *name); /* UNIT_TYPE_MAX when none */
/* "web" -> "web.service", "/mnt/x" -> "mnt-x.mount", "web@1" -> "web@1.service" */
char *unit_name_complete(const char *s);
char *unit_name_template(const char *name); /* web@1.service -> web@.service; NULL if no instance */
char *unit_name_instance(const char *name); /* "1"; NULL */
char *unit_name_with_instance(const char *template, const char *instance);
const char *unit_type_name(enum unit_type t);
char *unit_escape(const char *s, bool is_path);
char *unit_unescape(const char *s);

/* ---- values, for other parsers and for stayctl; all -EINVAL with text in e ---- */
int parse_timespan(const char *s, uint64_t default_unit_us, uint64_t *ret_us, struct err *e);
int parse_size(const char *s, uint64_t base, uint64_t *ret_bytes, struct err *e);
int parse_boolean(const char *s);   /* 0, 1, -EINVAL */
int parse_signal(const char *s);    /* "TERM", "SIGTERM", "15", "RTMIN+3" -> number, -EINVAL */
const char *signal_name(int signo); /* "SIGTERM" */
int parse_amount(const char *s, struct amount *ret, struct err *e);
unsigned amount_of(const struct amount *a, unsigned total, bool round_up);
/* systemd's word splitting with quotes and escapes. *pos moves on. 1 = a word, 0 = end, -EINVAL. */
int split_word(const char **pos, char **ret_word, bool unquote_escapes, struct err *e);

/* "alice", "@deploy", "1000", "@1000"; "*" where everybody may be meant. Says nothing of whether
 * there is such a user. */
bool principal_is_valid(const char *s, bool may_be_all);

/* ---- other files in the same syntax: stayd.conf ---- */
/* Calls each() for every assignment, in order; a wrong line ends it. -ENOENT: there is no file.
 * Other failures say in e where and what. The file must be safe, see file_check_safe(). */
int conf_read(const char *path,
	int (*each)(
		void *arg, const char *section, const char *key, const char *value, struct err *e),
	void *arg, struct err *e);
/* Can nobody but root (or we ourselves) change this file, or put another in its place? -EPERM
 * with the cause in e and the remedy in hint. Follows links and looks at every directory above. */
int file_check_safe(const char *path, struct err *e, char *hint, size_t hint_size);
/* The same of the entry of a directory alone, wherever it leads. */
int link_check_safe(const char *path, struct err *e, char *hint, size_t hint_size);

/* ---- install ---- */
/* Makes or removes the links [Install] asks for below config_dir (the first writable unit dir).
 * ret_changes gets lines "created PATH -> TARGET" / "removed PATH". */
int unit_enable(const struct unit_path *p, const char *name, bool is_runtime,
	struct strv *ret_changes, struct err *e);
int unit_disable(
	const struct unit_path *p, const char *name, struct strv *ret_changes, struct err *e);
/* "enabled", "disabled", "static", "masked", "linked", "indirect", "not-found", "bad" (it cannot be told now) ... */
const char *unit_file_state(const struct unit_path *p, const char *name);

/* ---- revisions ---- */
/* Writes the text of the unit with its drop-ins as a snapshot below dir (created). */
int unit_snapshot_write(
	const struct unit_path *p, const char *name, const char *dir, struct err *e);

/* ---- enum <-> text, systemd's words ---- */
const char *unit_load_name(enum unit_load l);
const char *dep_kind_name(enum dep_kind k);
const char *service_type_name(enum service_type t);
const char *restart_mode_name(enum restart_mode m);
const char *exec_kind_name(enum exec_kind k);
const char *condition_kind_name(enum condition_kind k);
const char *directive_class_name(enum directive_class c);

/* ---- the directive table (include/stayd/directives.def), for check, explain, completion ---- */
struct directive_info {
	const char *section, *key, *doc;
	enum directive_class class;
	const char *reason; /* for every class but FULL: what is not done */
};
size_t directive_count(void);
const struct directive_info *directive_at(size_t i);
/* section NULL: the first section that has it, in any case of letters. */
const struct directive_info *directive_find(const char *section, const char *key);
/* The long text and title of a diagnostic code ("S0101"), NULL when there is none. */
const char *diagnostic_explain(const char *code, const char **ret_title);
