/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Value parsers of [Service] and of the process settings shared by several sections: command
 * lines, environment, identity, streams, limits.
 *
 *  1. A command line that cannot be understood makes the unit bad: half of it is never run.
 *  2. $VAR and ${VAR} stay in the arguments; they are expanded at exec.
 *  3. Everything stored lives in the unit's arena.
 *
 * Called by parse.c through the rows of directives.def.
 */
#include <ctype.h>
#include <sched.h>

#include "fields.h"
#include "stayd/stayd.h"

#define BLANKS " \t\n\r"

/* ---- command lines (systemd.service(5), "Command lines") ---- */

/* Reads the prefixes of the first word into cmd; returns where the path begins. */
static const char *take_prefixes(const char *s, struct exec_cmd *cmd, bool *ret_has_argv0)
{
	bool bang = false, bangbang = false;
	*ret_has_argv0 = false;
	for (;; s++) {
		if (*s == '-' && !cmd->ignore_failure)
			cmd->ignore_failure = true;
		else if (*s == '@' && !*ret_has_argv0)
			*ret_has_argv0 = true;
		else if (*s == ':' && !cmd->no_expand)
			cmd->no_expand = true;
		else if (*s == '+' && !cmd->full_privilege && !bang)
			cmd->full_privilege = true;
		else if (*s == '!' && !cmd->full_privilege && !bangbang) {
			bangbang = bang;
			bang = true;
		} else
			break;
	}
	/* "!!" asks for ambient capabilities where the kernel has none; every kernel we run on has. */
	cmd->no_user = bang && !bangbang;
	return s;
}

static const char *check_program(const char *path)
{
	if (!*path)
		return "the path of the program is empty";
	for (const char *s = path; *s; s++)
		if ((unsigned char)*s < ' ' || strchr("\"'\\\x7f", *s))
			return "the path of the program has special characters";
	if (path[0] != '/' && strchr(path, '/'))
		return "the path of the program is neither absolute nor a bare name";
	if (endswith(path, "/") || streq(path, ".") || streq(path, ".."))
		return "the path of the program is a directory";
	return NULL;
}

static void add_command(struct parser *p, const struct exec_cmd *cmd)
{
	struct exec_list *l = &p->conf->service.exec[p->d->arg];
	if (l->n >= ITEMS_MAX) {
		complain(p, S0129, NULL, "more than %d commands", ITEMS_MAX);
		return;
	}
	if ((l->n & (l->n - 1)) == 0) {
		struct exec_cmd *v = arena_alloc(p->arena, (l->n ? 2 * l->n : 1) * sizeof(*v));
		if (l->n)
			memcpy(v, l->v, l->n * sizeof(*v));
		l->v = v;
	}
	l->v[l->n++] = *cmd;
}

/* One argument, or 0 at the end of this command; *ret_is_more after an unquoted " ; ". */
static int next_argument(struct parser *p, const char **pos, char **ret, bool *ret_is_more)
{
	const char *s = *pos + strspn(*pos, BLANKS);
	struct err e;
	char *word;
	if (s[0] == ';' && (!s[1] || strchr(BLANKS, s[1]))) {
		*pos = s + 1 + strspn(s + 1, BLANKS);
		*ret_is_more = true;
		return 0;
	}
	if (s[0] == '\\' && s[1] == ';' && (!s[2] || strchr(BLANKS, s[2]))) {
		*pos = s + 2;
		*ret = arena_strdup(p->arena, ";");
		return 1;
	}
	int r = split_word(&s, &word, true, &e);
	if (r < 0)
		complain_fatal(p, S0119, NULL, "%s=: %s", p->d->info.key, e.text);
	*pos = s;
	if (r <= 0)
		return r;
	*ret = specifier_expand(p, word);
	free(word);
	return *ret ? 1 : -EINVAL;
}

static int take_arguments(
	struct parser *p, const char **pos, struct exec_cmd *cmd, bool has_argv0, bool *ret_is_more)
{
	struct strv args = {0}; /* the strings are the arena's; only the array is ours */
	char *word;
	int r;
	if (!has_argv0)
		strv_add_take(&args, cmd->path);
	while ((r = next_argument(p, pos, &word, ret_is_more)) > 0)
		strv_add_take(&args, word);
	if (r == 0 && (args.n == 0 || !args.v[0][0])) {
		complain_fatal(p, S0119, NULL,
			"%s=: '@' needs the name of the program as the next word", p->d->info.key);
		r = -EINVAL;
	}
	if (r == 0) {
		cmd->argc = args.n;
		cmd->argv = arena_alloc(p->arena, (args.n + 1) * sizeof(char *));
		memcpy(cmd->argv, args.v, args.n * sizeof(char *));
	}
	free(args.v);
	return r;
}

void set_exec(struct parser *p, const char *value)
{
	bool is_more = true;
	if (!*value) {
		p->conf->service.exec[p->d->arg] = (struct exec_list){0};
		return;
	}
	for (const char *pos = value; is_more && *pos;) {
		struct exec_cmd cmd = {.line = p->at->at.line};
		bool has_argv0;
		char *first;
		struct err e;
		is_more = false;
		p->value_at = (size_t)(pos - value);
		int r = split_word(&pos, &first, true, &e);
		if (r < 0)
			complain_fatal(p, S0119, NULL, "%s=: %s", p->d->info.key, e.text);
		if (r <= 0)
			return;
		cmd.path = specifier_expand(p, take_prefixes(first, &cmd, &has_argv0));
		free(first);
		if (!cmd.path)
			return;
		const char *trouble = check_program(cmd.path);
		if (trouble) {
			complain_fatal(p, S0119, NULL, "%s=: %s", p->d->info.key, trouble);
			return;
		}
		if (take_arguments(p, &pos, &cmd, has_argv0, &is_more) < 0)
			return;
		add_command(p, &cmd);
	}
}

/* ---- times of [Service]; in the old directives 0 means no limit ---- */

static bool service_time(struct parser *p, const char *value, uint64_t *ret)
{
	struct err e;
	if (parse_timespan(value, USEC_PER_SEC, ret, &e) < 0) {
		complain(p, S0112, NULL, "%s=%s: %s", p->d->info.key, value, e.text);
		return false;
	}
	if (*ret == 0)
		*ret = USEC_INFINITY;
	return true;
}

void set_timeout_start(struct parser *p, const char *value)
{
	if (service_time(p, value, &p->conf->service.timeout_start_us))
		p->has_timeout_start = true;
}

void set_timeout_stop(struct parser *p, const char *value)
{
	(void)service_time(p, value, &p->conf->service.timeout_stop_us);
}

void set_timeout(struct parser *p, const char *value)
{
	uint64_t us;
	if (!service_time(p, value, &us))
		return;
	p->conf->service.timeout_start_us = p->conf->service.timeout_stop_us = us;
	p->has_timeout_start = true;
}

void set_timeout_abort(struct parser *p, const char *value)
{
	p->has_timeout_abort = false;
	if (*value && service_time(p, value, &p->conf->service.timeout_abort_us))
		p->has_timeout_abort = true;
}

void set_restart(struct parser *p, const char *value)
{
	set_enumeration(p, value);
	p->conf->service.restart.has_restart = true;
}

void set_restart_kill_signal(struct parser *p, const char *value)
{
	set_signal(p, value);
	p->has_restart_kill_signal = true;
}

void set_emergency(struct parser *p, const char *value)
{
	set_enumeration(p, value);
}

/* ---- exit statuses; names of sysexits.h and of systemd's own ---- */

static const struct {
	const char *name;
	int status;
} exit_names[] = {
	{"SUCCESS",           0		     },
	{"FAILURE",           1		     },
	{"INVALIDARGUMENT",   2                     },
	{"NOTIMPLEMENTED",    3                     },
	{"NOPERMISSION",      4                     },
	{"NOTINSTALLED",      5                     },
	{"NOTCONFIGURED",     6                     },
	{"NOTRUNNING",        7                     },
	{"USAGE",             64		    },
	{"DATAERR",           65                    },
	{"NOINPUT",           66                    },
	{"NOUSER",            67                    },
	{"NOHOST",            68                    },
	{"UNAVAILABLE",       69                    },
	{"SOFTWARE",          70                    },
	{"OSERR",             71		    },
	{"OSFILE",            72                    },
	{"CANTCREAT",         73                    },
	{"IOERR",             74		    },
	{"TEMPFAIL",          75                    },
	{"PROTOCOL",          76                    },
	{"NOPERM",            77                    },
	{"CONFIG",            78                    },
	{"CHDIR",             EXIT_CHDIR            },
	{"EXEC",              EXIT_EXEC             },
	{"USER",              EXIT_USER             },
	{"GROUP",             EXIT_GROUP            },
	{"NAMESPACE",         EXIT_NAMESPACE        },
	{"SECCOMP",           EXIT_SECCOMP          },
	{"CAPABILITIES",      EXIT_CAPABILITIES     },
	{"RUNTIME_DIRECTORY", EXIT_RUNTIME_DIRECTORY},
	{"STATE_DIRECTORY",   EXIT_STATE_DIRECTORY  },
	{"EXCEPTION",         255                   },
};

static int exit_status_of(const char *s)
{
	int n = 0;
	if (isdigit((unsigned char)*s)) {
		for (; isdigit((unsigned char)*s); s++)
			if ((n = n * 10 + (*s - '0')) > 255)
				return -EINVAL;
		return *s ? -EINVAL : n;
	}
	for (size_t i = 0; i < ARRAY_SIZE(exit_names); i++)
		if (streq(exit_names[i].name, s))
			return exit_names[i].status;
	return -EINVAL;
}

void set_exit_set(struct parser *p, const char *value)
{
	struct exit_set *set = FIELD(p, struct exit_set);
	const char *pos = value;
	if (!*value)
		*set = (struct exit_set){0};
	while (*(pos += strspn(pos, BLANKS))) {
		size_t n = strcspn(pos, BLANKS);
		CLEANUP_FREE char *word = xstrndup(pos, n);
		p->value_at = (size_t)(pos - value);
		pos += n;
		int code = exit_status_of(word), signo = code < 0 ? parse_signal(word) : 0;
		if (code >= 0)
			set->codes[code / 8] |= (uint8_t)(1 << code % 8);
		else if (signo > 0)
			set->signals |= signo < 64 ? 1ULL << signo : 1;
		else
			complain(p, S0125, NULL, "%s=: '%s' is no exit status or signal",
				p->d->info.key, word);
	}
}

/* ---- environment ---- */

static bool is_assignment(const char *s)
{
	if (!isalpha((unsigned char)*s) && *s != '_')
		return false;
	while (isalnum((unsigned char)*s) || *s == '_')
		s++;
	return *s == '=';
}

static bool is_variable(const char *s)
{
	const char *t = s;
	while (isalnum((unsigned char)*t) || *t == '_')
		t++;
	return t != s && !isdigit((unsigned char)*s) && (*t == '\0' || *t == '=');
}

void set_environment(struct parser *p, const char *value)
{
	struct conf_list *l = &p->conf->exec.environment;
	const char *pos = value;
	if (!*value)
		*l = (struct conf_list){0};
	for (;;) {
		struct err e;
		CLEANUP_FREE char *word = NULL;
		pos += strspn(pos, BLANKS);
		p->value_at = (size_t)(pos - value);
		int r = split_word(&pos, &word, true, &e);
		if (r < 0)
			complain(p, S0128, NULL, "%s=: %s", p->d->info.key, e.text);
		if (r <= 0)
			return;
		char *s = specifier_expand(p, word);
		if (s && is_assignment(s))
			conf_list_add(p, l, s);
		else if (s)
			complain(p, S0126, NULL, "%s=: '%s' is not NAME=VALUE", p->d->info.key, s);
	}
}

void set_environment_file(struct parser *p, const char *value)
{
	struct exec_conf *x = &p->conf->exec;
	if (!*value) {
		x->n_environment_files = 0;
		return;
	}
	struct env_file f = {.is_optional = value[0] == '-'};
	f.path = specifier_expand(p, value + f.is_optional);
	if (!f.path || f.path[0] != '/') {
		complain(p, S0116, NULL, "%s=%s: not an absolute path", p->d->info.key, value);
		return;
	}
	if (x->n_environment_files >= ITEMS_MAX) {
		complain(p, S0129, NULL, "more than %d files", ITEMS_MAX);
		return;
	}
	if (x->n_environment_files >= p->cap_env_files) {
		size_t cap = p->cap_env_files ? 2 * p->cap_env_files : 1;
		struct env_file *v = arena_alloc(p->arena, cap * sizeof(*v));
		if (x->n_environment_files)
			memcpy(v, x->environment_files, x->n_environment_files * sizeof(*v));
		x->environment_files = v;
		p->cap_env_files = cap;
	}
	x->environment_files[x->n_environment_files++] = f;
}

/* PassEnvironment=, UnsetEnvironment=: names, the latter also NAME=VALUE. */
void set_names(struct parser *p, const char *value)
{
	struct conf_list *l = FIELD(p, struct conf_list);
	size_t from = *value ? l->n : 0;
	set_words(p, value);
	for (size_t i = from; i < l->n; i++)
		if (!is_variable(l->v[i])) {
			complain(p, S0126, NULL, "%s=: '%s' is no name of a variable",
				p->d->info.key, l->v[i]);
			memmove(&l->v[i], &l->v[i + 1], (l->n - i - 1) * sizeof(*l->v));
			l->n--;
			i--;
		}
}

/* ---- identity and place ---- */

/* What useradd takes and what is in use (dots, trailing $), or a number. */
static bool is_user_name(const char *s)
{
	size_t n = strlen(s);
	if (n == 0 || n > 255 || *s == '-' || streq(s, ".") || streq(s, ".."))
		return false;
	for (; *s; s++)
		if (!isalnum((unsigned char)*s) && !strchr("_-.$@", *s) && (unsigned char)*s < 128)
			return false;
	return true;
}

void set_user(struct parser *p, const char *value)
{
	char **field = FIELD(p, char *);
	if (!*value) {
		*field = NULL;
		return;
	}
	char *s = specifier_expand(p, value);
	if (s && is_user_name(s))
		*field = s;
	else if (s)
		complain_fatal(
			p, S0127, NULL, "%s=%s: not a user or group name", p->d->info.key, s);
}

void set_groups(struct parser *p, const char *value)
{
	struct conf_list *l = FIELD(p, struct conf_list);
	set_words(p, value);
	for (size_t i = 0; i < l->n; i++)
		if (!is_user_name(l->v[i]))
			complain_fatal(
				p, S0127, NULL, "%s=%s: not a group name", p->d->info.key, l->v[i]);
}

void set_working_directory(struct parser *p, const char *value)
{
	struct exec_conf *x = &p->conf->exec;
	bool optional = value[0] == '-';
	char *s = specifier_expand(p, value + optional);
	if (!s)
		return;
	if (*s && *s != '/' && !streq(s, "~")) {
		complain(p, S0116, NULL, "%s=%s: neither an absolute path nor ~", p->d->info.key,
			value);
		return;
	}
	x->working_directory = *s ? s : NULL;
	x->working_directory_is_optional = optional;
}

/* ---- streams ---- */

static const struct {
	const char *word;
	enum std_kind kind;
	bool console, in, out;
} std_words[] = {
	{"null",            STD_NULL,    false, true,  true },
	{"tty",             STD_TTY,     false, true,  true },
	{"tty-force",       STD_TTY,     false, true,  false},
	{"tty-fail",        STD_TTY,     false, true,  false},
	{"socket",          STD_SOCKET,  false, true,  true },
	{"data",            STD_DATA,    false, true,  false},
	{"inherit",         STD_INHERIT, false, false, true },
	{"journal",         STD_LOG,     false, false, true },
	{"syslog",          STD_LOG,     false, false, true },
	{"kmsg",            STD_LOG,     false, false, true },
	{"journal+console", STD_LOG,     true,  false, true },
	{"syslog+console",  STD_LOG,     true,  false, true },
	{"kmsg+console",    STD_LOG,     true,  false, true },
};

static const struct {
	const char *prefix;
	enum std_kind kind;
} std_prefixes[] = {
	{"file:",     STD_FILE    },
	{"append:",   STD_APPEND  },
	{"truncate:", STD_TRUNCATE},
	{"fd:",       STD_FD      },
};

static void set_std(struct parser *p, const char *value, bool is_in)
{
	struct std_stream *s = FIELD(p, struct std_stream);
	for (size_t i = 0; i < ARRAY_SIZE(std_words); i++)
		if (streq(value, std_words[i].word) &&
			(is_in ? std_words[i].in : std_words[i].out)) {
			*s = (struct std_stream){
				.kind = std_words[i].kind, .also_console = std_words[i].console};
			if (s->kind == STD_SOCKET || s->kind == STD_DATA)
				degrade(p, CLASS_PARTIAL,
					"socket and data streams are not done "
					"yet; /dev/null is used");
			return;
		}
	for (size_t i = 0; i < ARRAY_SIZE(std_prefixes); i++)
		if (startswith(value, std_prefixes[i].prefix)) {
			char *rest = specifier_expand(p, value + strlen(std_prefixes[i].prefix));
			if (rest && (std_prefixes[i].kind == STD_FD || rest[0] == '/')) {
				*s = (struct std_stream){
					.kind = std_prefixes[i].kind, .path = rest};
				if (s->kind == STD_FD)
					degrade(p, CLASS_PARTIAL,
						"fd: needs socket activation, which is not done "
						"yet");
				return;
			}
			complain(p, S0116, NULL, "%s=%s: not an absolute path", p->d->info.key,
				value);
			return;
		}
	complain(p, S0110, NULL,
		"%s=%s: not one of %s, file:PATH, append:PATH, truncate:PATH, fd:NAME",
		p->d->info.key, value,
		is_in ? "null, tty, socket, data"
		      : "inherit, null, tty, journal, kmsg, journal+console, socket");
}

void set_std_in(struct parser *p, const char *value)
{
	set_std(p, value, true);
}

void set_std_out(struct parser *p, const char *value)
{
	set_std(p, value, false);
}

/* RuntimeDirectory= and its like: relative paths, no way out of the directory they are below. */
void set_exec_dirs(struct parser *p, const char *value)
{
	struct conf_list *l = FIELD(p, struct conf_list);
	size_t from = *value ? l->n : 0, kept = from;
	set_words(p, value);
	for (size_t i = from; i < l->n; i++) {
		const char *s = l->v[i];
		bool is_bad = *s == '/' || !*s || strstr(s, "..") || startswith(s, "./");
		if (is_bad)
			complain(p, S0116, NULL, "%s=: '%s' must be relative, without '..'",
				p->d->info.key, s);
		else
			l->v[kept++] = l->v[i];
	}
	l->n = kept;
}

/* ---- scheduling and limits ---- */

static bool int_between(const char *s, int min, int max, int *ret)
{
	bool negative = *s == '-';
	long n = 0;
	s += negative || *s == '+';
	if (!*s)
		return false;
	for (; *s; s++) {
		if (!isdigit((unsigned char)*s) || n > 100000)
			return false;
		n = n * 10 + (*s - '0');
	}
	n = negative ? -n : n;
	if (n < min || n > max)
		return false;
	*ret = (int)n;
	return true;
}

static void set_int(struct parser *p, const char *value, int min, int max, int *field, bool *has)
{
	if (int_between(value, min, max, field)) {
		if (has)
			*has = true;
	} else
		complain(p, S0113, NULL, "%s=%s: not a number from %d to %d", p->d->info.key, value,
			min, max);
}

void set_nice(struct parser *p, const char *value)
{
	struct exec_limits *l = &p->conf->exec.limits;
	set_int(p, value, -20, 19, &l->nice, &l->has_nice);
}

void set_oom_adjust(struct parser *p, const char *value)
{
	struct exec_limits *l = &p->conf->exec.limits;
	l->has_oom_score_adjust = false;
	if (*value)
		set_int(p, value, -1000, 1000, &l->oom_score_adjust, &l->has_oom_score_adjust);
}

void set_cpu_priority(struct parser *p, const char *value)
{
	set_int(p, value, 0, 99, &p->conf->exec.limits.cpu_priority, NULL);
}

void set_io_class(struct parser *p, const char *value)
{
	struct exec_limits *l = &p->conf->exec.limits;
	if (!int_between(value, 0, 3, &l->io_class))
		set_enumeration(p, value);
}

void set_io_priority(struct parser *p, const char *value)
{
	set_int(p, value, 0, 7, &p->conf->exec.limits.io_priority, NULL);
}

void set_cpu_affinity(struct parser *p, const char *value)
{
	struct exec_limits *l = &p->conf->exec.limits;
	if (!*value) {
		l->cpu_affinity = (struct conf_list){0};
		l->has_cpu_affinity = false;
		return;
	}
	if (strspn(value, "0123456789-, \t") != strlen(value)) {
		complain(p, S0113, NULL, "%s=%s: not a list of CPUs such as 0-3 5", p->d->info.key,
			value);
		return;
	}
	for (const char *pos = value; *(pos += strspn(pos, ", \t"));) {
		size_t n = strcspn(pos, ", \t");
		conf_list_add(p, &l->cpu_affinity, arena_strndup(p->arena, pos, n));
		pos += n;
	}
	l->has_cpu_affinity = true;
}

/* One side of a limit in the unit of its resource. */
static int limit_value(int resource, const char *s, rlim_t *ret, struct err *e)
{
	uint64_t v;
	int n;
	if (streq(s, "infinity")) {
		*ret = RLIM_INFINITY;
		return 0;
	}
	if (resource == RLIMIT_NICE && (*s == '+' || *s == '-')) {
		if (!int_between(s, -20, 19, &n))
			return err_set(e, -EINVAL, "nice levels go from -20 to +19");
		*ret = (rlim_t)(20 - n);
		return 0;
	}
	int r = resource == RLIMIT_CPU      ? parse_timespan(s, USEC_PER_SEC, &v, e)
		: resource == RLIMIT_RTTIME ? parse_timespan(s, 1, &v, e)
					    : parse_size(s, 1024, &v, e);
	if (r < 0)
		return r;
	if (resource == RLIMIT_CPU)
		v = v / USEC_PER_SEC + (v % USEC_PER_SEC != 0);
	*ret = (rlim_t)v;
	return 0;
}

void set_limit(struct parser *p, const char *value)
{
	struct err e;
	rlim_t soft, hard;
	size_t n = strcspn(value, ":");
	CLEANUP_FREE char *first = xstrndup(value, n);
	int r = limit_value(p->d->arg, first, &soft, &e);
	hard = soft;
	if (r == 0 && value[n])
		r = limit_value(p->d->arg, value + n + 1, &hard, &e);
	if (r == 0 && soft > hard)
		r = err_set(&e, -EINVAL, "the soft limit is above the hard one");
	if (r < 0) {
		complain(p, S0120, NULL, "%s=%s: %s", p->d->info.key, value, e.text);
		return;
	}
	struct exec_limits *l = &p->conf->exec.limits;
	if (l->rlimit == no_rlimits)
		l->rlimit = arena_alloc(p->arena, RLIM_NLIMITS * sizeof(*l->rlimit));
	l->rlimit[p->d->arg] = (struct conf_rlimit){true, soft, hard};
}

/* ---- yes, no, or one word more ---- */

static void set_boolean_or_word(struct parser *p, const char *value)
{
	int b = parse_boolean(value);
	if (b >= 0)
		*FIELD(p, int) = b; /* "no" and "yes" are 0 and 1 in both enums */
	else
		set_enumeration(p, value);
}

void set_protect_system(struct parser *p, const char *value)
{
	set_boolean_or_word(p, value);
}

void set_protect_home(struct parser *p, const char *value)
{
	set_boolean_or_word(p, value);
}

/* RuntimeDirectoryPreserve= */
void set_preserve(struct parser *p, const char *value)
{
	set_boolean_or_word(p, value);
}

/* ExecSearchPath=: directories between colons; further lines add, an empty one resets. */
void set_search_path(struct parser *p, const char *value)
{
	struct conf_list *l = FIELD(p, struct conf_list);
	if (!*value)
		*l = (struct conf_list){0};
	for (const char *pos = value; *(pos += strspn(pos, ": \t"));) {
		size_t n = strcspn(pos, ":");
		CLEANUP_FREE char *word = xstrndup(pos, n);
		char *s = specifier_expand(p, word);
		p->value_at = (size_t)(pos - value);
		if (s && *s != '/')
			complain(p, S0116, NULL, "%s=: '%s' is not an absolute path",
				p->d->info.key, s);
		else if (s)
			conf_list_add(p, l, s);
		pos += n;
	}
}
