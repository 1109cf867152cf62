/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The environment and the command line of one exec, as systemd 252 makes them.
 *
 *  1. A name stands once in the result; a later assignment replaces an earlier one in place.
 *  2. The order is systemd's: defaults, our own (INVOCATION_ID, USER ...), ExecSearchPath=,
 *     PassEnvironment=, Environment=, EnvironmentFile=, then UnsetEnvironment= takes away; what the
 *     caller adds for this very start (PORT, MAINPID ...) comes last and is never unset.
 *  3. An environment file is a regular file of bounded size: a FIFO must not stop the core.
 *  4. It is read by root. Over a link that is not root's it leads to nothing that the service's user may
 *     not read himself: his directory would show him the secrets of other services.
 *
 * Called by plan_build(). Allocates; never runs in the launcher.
 */
#include "parts.h"

#include <fcntl.h>
#include <sys/stat.h>

#define ENV_FILE_MAX (1024 * 1024)
#define ENV_VARS_MAX 65536 /* assignments in one environment; further ones are -E2BIG */

/* What systemd gives services on a system with separate sbin; shells and libc agree on it. */
#define DEFAULT_PATH "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
#define WHITESPACE   " \t\n\r"

bool env_name_is_valid(const char *s, size_t size)
{
	if (size == 0 || (s[0] >= '0' && s[0] <= '9'))
		return false;
	for (size_t i = 0; i < size; i++) {
		char c = s[i];
		if (!(c == '_' || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
			    (c >= '0' && c <= '9')))
			return false;
	}
	return true;
}

static bool is_assignment(const char *s)
{
	const char *eq = strchr(s, '=');
	return eq && env_name_is_valid(s, (size_t)(eq - s));
}

static ssize_t env_find(const struct strv *env, const char *name, size_t size)
{
	for (size_t i = 0; i < env->n; i++)
		if (strncmp(env->v[i], name, size) == 0 && env->v[i][size] == '=')
			return (ssize_t)i;
	return -1;
}

const char *env_get(const struct strv *env, const char *name, size_t size)
{
	ssize_t i = size ? env_find(env, name, size) : -1;
	return i < 0 ? NULL : env->v[i] + size + 1;
}

void env_put(struct strv *env, const char *assignment)
{
	const char *eq = strchr(assignment, '=');
	if (!eq)
		return;
	ssize_t i = env_find(env, assignment, (size_t)(eq - assignment));
	if (i < 0) {
		strv_add(env, assignment);
		return;
	}
	free(env->v[i]);
	env->v[i] = xstrdup(assignment);
}

void env_unset(struct strv *env, const char *what)
{
	size_t kept = 0, size = strlen(what);
	bool has_value = strchr(what, '=') != NULL;
	for (size_t i = 0; i < env->n; i++) {
		bool hit = has_value
				   ? streq(env->v[i], what)
				   : strncmp(env->v[i], what, size) == 0 && env->v[i][size] == '=';
		if (hit)
			free(env->v[i]);
		else
			env->v[kept++] = env->v[i];
	}
	env->n = kept;
	if (env->v)
		env->v[kept] = NULL;
}

struct env_var {
	char *s;
	size_t name_size, at;
};

static int compare_vars(const void *a, const void *b)
{
	const struct env_var *x = a, *y = b;
	int r = memcmp(x->s, y->s, MIN(x->name_size, y->name_size));
	if (r == 0)
		r = (x->name_size > y->name_size) - (x->name_size < y->name_size);
	return r ? r : (x->at > y->at) - (x->at < y->at);
}

/* Many assignments at once: as if each had been put by env_put(), but not quadratic, and no table
 * whose collisions a file could choose: core waits for this. */
static void env_settle(struct strv *env)
{
	struct env_var *v = xcalloc(env->n + 1, sizeof(*v));
	size_t n = env->n, kept = 0;
	for (size_t i = 0; i < n; i++)
		v[i] = (struct env_var){env->v[i], strcspn(env->v[i], "="), i};
	if (n)
		qsort(v, n, sizeof(*v), compare_vars);
	for (size_t i = 0, first = 0; i < n; i++) {
		bool is_last = i + 1 == n || v[i].name_size != v[i + 1].name_size ||
			       memcmp(v[i].s, v[i + 1].s, v[i].name_size) != 0;
		env->v[v[i].at] = NULL;
		if (!is_last) {
			free(v[i].s);
			continue;
		}
		env->v[v[first].at] = v[i].s;
		first = i + 1;
	}
	for (size_t i = 0; i < n; i++)
		if (env->v[i])
			env->v[kept++] = env->v[i];
	env->n = kept;
	if (env->v)
		env->v[kept] = NULL;
	free(v);
}

static void env_printf(struct strv *env, const char *name, const char *value)
{
	CLEANUP_FREE char *s = xasprintf("%s=%s", name, value);
	env_put(env, s);
}

/* ---- environment files --------------------------------------------------------------------
 *
 * systemd's load_env_file() grammar: shell-like assignments without expansion. Blank means space,
 * tab, CR; quotes may open and close within a value; a backslash outside quotes takes the next
 * character, before a newline it continues the line; inside double quotes it is kept unless it
 * precedes one of "\`$. */

enum env_state {
	PRE_KEY,
	KEY,
	PRE_VALUE,
	VALUE,
	VALUE_ESCAPE,
	SINGLE,
	DOUBLE,
	DOUBLE_ESCAPE,
	COMMENT,
	COMMENT_ESCAPE,
};

struct env_reader {
	enum env_state state;
	struct buf key, value;
	size_t value_keep; /* bytes of value that trailing blanks are not trimmed from */
	unsigned line, key_line;
	const char *file;
	struct strv *env;
	struct err *e;
};

static bool is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\r';
}

static void value_add(struct env_reader *r, char c, bool is_kept)
{
	buf_add_byte(&r->value, c);
	if (is_kept)
		r->value_keep = r->value.size;
}

static int env_push(struct env_reader *r)
{
	while (r->key.size && is_blank(r->key.data[r->key.size - 1]))
		r->key.size--;
	if (!utf8_is_valid(strna(r->key.data), r->key.size) ||
		!utf8_is_valid(strna(r->value.data), r->value_keep))
		return err_set(r->e, -EINVAL, "%s:%u: not valid UTF-8", r->file, r->key_line);
	/* An assignment to something that is no name is dropped, as systemd drops it. */
	if (env_name_is_valid(strna(r->key.data), r->key.size)) {
		if (r->env->n >= ENV_VARS_MAX)
			return err_set(
				r->e, -E2BIG, "%s:%u: too many variables", r->file, r->key_line);
		strv_add_take(r->env, xasprintf("%.*s=%.*s", (int)r->key.size, strna(r->key.data),
					      (int)r->value_keep, strna(r->value.data)));
	}
	buf_reset(&r->key);
	buf_reset(&r->value);
	r->value_keep = 0;
	r->state = PRE_KEY;
	return 0;
}

static int env_key_byte(struct env_reader *r, char c)
{
	if (r->state == PRE_KEY) {
		if (c == '#' || c == ';') {
			r->state = COMMENT;
		} else if (!is_blank(c) && c != '\n') {
			r->state = KEY;
			r->key_line = r->line;
			buf_add_byte(&r->key, c);
		}
	} else if (c == '\n') {
		r->state = PRE_KEY; /* a line without "=" says nothing */
		buf_reset(&r->key);
	} else if (c == '=') {
		r->state = PRE_VALUE;
	} else {
		buf_add_byte(&r->key, c);
	}
	return 0;
}

static int env_value_byte(struct env_reader *r, char c)
{
	if (c == '\n')
		return env_push(r);
	if (c == '\\') {
		r->state = VALUE_ESCAPE;
		r->value_keep = r->value.size;
	} else if (r->state == PRE_VALUE && c == '\'') {
		r->state = SINGLE;
	} else if (r->state == PRE_VALUE && c == '"') {
		r->state = DOUBLE;
	} else if (r->state == VALUE || !is_blank(c)) {
		r->state = VALUE;
		value_add(r, c, !is_blank(c));
	}
	return 0;
}

static int env_byte(struct env_reader *r, char c)
{
	switch (r->state) {
	case PRE_KEY:
	case KEY:
		return env_key_byte(r, c);
	case PRE_VALUE:
	case VALUE:
		return env_value_byte(r, c);
	case VALUE_ESCAPE:
		r->state = VALUE;
		if (c != '\n')
			value_add(r, c, true);
		break;
	case SINGLE:
		if (c == '\'')
			r->state = PRE_VALUE;
		else
			value_add(r, c, true);
		break;
	case DOUBLE:
		if (c == '"')
			r->state = PRE_VALUE;
		else if (c == '\\')
			r->state = DOUBLE_ESCAPE;
		else
			value_add(r, c, true);
		break;
	case DOUBLE_ESCAPE:
		r->state = DOUBLE;
		if (c == '\n')
			break;
		if (!strchr("\"\\`$", c))
			value_add(r, '\\', true);
		value_add(r, c, true);
		break;
	case COMMENT:
		if (c == '\\')
			r->state = COMMENT_ESCAPE;
		else if (c == '\n')
			r->state = PRE_KEY;
		break;
	case COMMENT_ESCAPE:
		r->state = COMMENT;
		break;
	}
	return 0;
}

int env_parse_file(const char *file, const char *text, size_t size, struct strv *env, struct err *e)
{
	struct env_reader r = {.line = 1, .file = file, .env = env, .e = e};
	int result = 0;
	for (size_t i = 0; i < size && result == 0; i++) {
		if (text[i] == '\0')
			result = err_set(e, -EINVAL, "%s:%u: NUL byte", file, r.line);
		else
			result = env_byte(&r, text[i]);
		if (text[i] == '\n')
			r.line++;
	}
	bool has_value = r.state == PRE_VALUE || r.state == VALUE || r.state == VALUE_ESCAPE ||
			 r.state == SINGLE || r.state == DOUBLE || r.state == DOUBLE_ESCAPE;
	if (result == 0 && has_value)
		result = env_push(&r);
	env_settle(env);
	buf_done(&r.key);
	buf_done(&r.value);
	return result;
}

static bool may_read(const struct launch_image *i, const struct stat *st)
{
	bool is_of_group = st->st_gid == i->gid;
	for (size_t k = 0; k < i->n_groups; k++)
		is_of_group |= st->st_gid == i->groups[k];
	bool is_root = i->uid == 0 || (i->uid == UINT32_MAX && geteuid() == 0);
	return is_root || (st->st_mode & (st->st_uid == i->uid ? S_IRUSR
					  : is_of_group        ? S_IRGRP
							       : S_IROTH));
}

static int env_open(const struct launch_image *image, const char *file)
{
	const int flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY;
	char path[32];
	struct stat st;
	int r = launch_open(file, flags, 0, image->uid);
	if (r != -EPERM)
		return r;
	CLEANUP_CLOSE int fd = open(file, O_PATH | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode) || !may_read(image, &st))
		return -EPERM;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	r = open(path, flags);
	return r < 0 ? -errno : r;
}

static int env_read_file(
	const struct launch_image *image, const char *file, struct strv *env, struct err *e)
{
	struct stat st;
	CLEANUP_CLOSE int fd = env_open(image, file);
	if (fd == -EPERM)
		return err_set(e, fd,
			"EnvironmentFile %s: a link on the way to it is not root's, and the service's user "
			"may not read what it leads to",
			file);
	if (fd < 0)
		return err_set(e, fd, "EnvironmentFile %s: %s", file, strerror(-fd));
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
		return err_set(e, -EINVAL, "EnvironmentFile %s: not a regular file", file);
	if (st.st_size > ENV_FILE_MAX)
		return err_set(e, -E2BIG, "EnvironmentFile %s: larger than 1 MiB", file);
	CLEANUP_FREE char *text = xmalloc(ENV_FILE_MAX + 1);
	size_t size = 0;
	for (;;) {
		ssize_t n = read(fd, text + size, ENV_FILE_MAX + 1 - size);
		if (n < 0)
			return err_set(e, -errno, "EnvironmentFile %s: %s", file, strerror(errno));
		size += (size_t)n;
		if (n == 0)
			break;
		if (size > ENV_FILE_MAX)
			return err_set(e, -E2BIG, "EnvironmentFile %s: larger than 1 MiB", file);
	}
	return env_parse_file(file, text, size, env, e);
}

static int env_read_matching(
	const struct launch_image *image, const char *pattern, struct strv *env, struct err *e)
{
	struct strv files = {0};
	if (!strpbrk(pattern, "*?["))
		return env_read_file(image, pattern, env, e);
	path_glob(pattern, &files);
	int r = files.n ? 0 : err_set(e, -ENOENT, "EnvironmentFile %s: no such file", pattern);
	for (size_t i = 0; i < files.n && r == 0; i++)
		r = env_read_file(image, files.v[i], env, e);
	strv_done(&files);
	return r;
}

/* "-": whatever is wrong with the file, the start goes on without it. */
static int env_add_files(const struct launch_image *image, struct strv *env, struct err *e)
{
	const struct unit_conf *conf = image->conf;
	for (size_t i = 0; i < conf->exec.n_environment_files; i++) {
		const struct env_file *f = &conf->exec.environment_files[i];
		int r = env_read_matching(image, f->path, env, e);
		if (r < 0 && !f->is_optional)
			return r;
	}
	return 0;
}

/* ---- the whole --------------------------------------------------------------------------- */

static void env_add_directories(
	const struct exec_conf *x, const struct launch_vars *v, struct strv *env)
{
	static const char *const names[DIR_KIND_MAX] = {
		[DIR_RUNTIME] = "RUNTIME_DIRECTORY",
		[DIR_STATE] = "STATE_DIRECTORY",
		[DIR_CACHE] = "CACHE_DIRECTORY",
		[DIR_LOGS] = "LOGS_DIRECTORY",
		[DIR_CONFIGURATION] = "CONFIGURATION_DIRECTORY",
	};
	const char *roots[DIR_KIND_MAX] = {
		v->runtime_root, v->state_root, v->cache_root, v->logs_root, v->config_root};
	for (int k = 0; k < DIR_KIND_MAX; k++) {
		struct buf b = {0};
		for (size_t i = 0; i < x->dirs[k].names.n; i++) {
			const char *name = x->dirs[k].names.v[i];
			buf_printf(&b, "%s%s/%.*s", b.size ? ":" : "", strna(roots[k]),
				(int)strcspn(name, ":"), name);
		}
		if (b.size)
			env_printf(env, names[k], b.data);
		buf_done(&b);
	}
}

static void env_add_ours(
	const struct launch_image *image, const struct launch_vars *v, struct strv *env)
{
	char hex[ID128_HEX];
	struct id128 id;
	memcpy(id.b, v->id.invocation, sizeof(id.b));
	if (!id128_is_null(&id))
		env_printf(env, "INVOCATION_ID", id128_hex(hex, &id));
	if (image->user_name) {
		env_printf(env, "LOGNAME", image->user_name);
		env_printf(env, "USER", image->user_name);
		if (image->home)
			env_printf(env, "HOME", image->home);
		if (image->shell)
			env_printf(env, "SHELL", image->shell);
	}
	env_add_directories(&image->conf->exec, v, env);
}

static void env_add_search_path(const struct exec_conf *x, struct strv *env)
{
	struct buf b = {0};
	for (size_t i = 0; i < x->exec_search_path.n; i++)
		buf_printf(&b, "%s%s", i ? ":" : "", x->exec_search_path.v[i]);
	if (b.size)
		env_printf(env, "PATH", b.data);
	buf_done(&b);
}

static void env_add_passed_fds(const struct launch_vars *v, struct strv *env)
{
	struct buf b = {0};
	if (v->n_fds == 0)
		return;
	for (size_t i = 0; i < v->n_fds; i++)
		buf_printf(&b, "%s%s", i ? ":" : "", v->fd_names ? v->fd_names[i] : "unknown");
	CLEANUP_FREE char *count = xasprintf("LISTEN_FDS=%zu", v->n_fds);
	env_put(env, count);
	env_printf(env, "LISTEN_FDNAMES", b.data);
	buf_done(&b);
}

int env_build(const struct launch_image *image, const struct launch_vars *v, struct strv *env,
	struct err *e)
{
	const struct exec_conf *x = &image->conf->exec;
	env_put(env, DEFAULT_PATH);
	env_add_ours(image, v, env);
	env_add_search_path(x, env);
	for (size_t i = 0; i < x->pass_environment.n; i++) {
		const char *name = x->pass_environment.v[i], *value = getenv(name);
		if (value && env_name_is_valid(name, strlen(name)))
			env_printf(env, name, value);
	}
	for (size_t i = 0; i < x->environment.n; i++)
		if (is_assignment(x->environment.v[i]))
			env_put(env, x->environment.v[i]);
	int r = env_add_files(image, env, e);
	if (r < 0)
		return r;
	for (size_t i = 0; i < x->unset_environment.n; i++)
		env_unset(env, x->unset_environment.v[i]);
	for (size_t i = 0; i < v->n_env; i++)
		env_put(env, v->env[i]);
	env_add_passed_fds(v, env);
	if (v->release_link)
		for (size_t i = 0; i < env->n; i++) {
			char *s = release_replace(env->v[i], v->release_link, v->release_dir);
			free(env->v[i]);
			env->v[i] = s;
		}
	return env->n > ENV_VARS_MAX ? err_set(e, -E2BIG, "environment too large") : 0;
}

/* ---- command line -------------------------------------------------------------------------- */

/* "${NAME}" anywhere in the word becomes the value, or nothing; "$$" becomes "$"; everything else
 * stays, "$NAME" inside a word too: only a word of its own is split (systemd.service(5)). */
static char *expand_braced(const char *s, const struct strv *env)
{
	struct buf b = {0};
	buf_add_str(&b, "");
	while (*s) {
		if (s[0] == '$' && s[1] == '$') {
			buf_add_byte(&b, '$');
			s += 2;
			continue;
		}
		const char *end = s[0] == '$' && s[1] == '{' ? strchr(s, '}') : NULL;
		if (!end) {
			buf_add_byte(&b, *s++);
			continue;
		}
		buf_add_str(&b, strna(env_get(env, s + 2, (size_t)(end - s) - 2)));
		s = end + 1;
	}
	return buf_steal(&b);
}

/* Splits a value as systemd does for $NAME: at blanks, with quotes taken away, never failing. */
static void split_value(const char *s, struct strv *argv)
{
	for (;;) {
		struct buf w = {0};
		char quote = '\0';
		s += strspn(s, WHITESPACE);
		if (!*s)
			return;
		buf_add_str(&w, "");
		for (; *s && (quote || !strchr(WHITESPACE, *s)); s++) {
			if (*s == '\\' && s[1] && quote != '\'')
				buf_add_byte(&w, *++s);
			else if (quote ? *s == quote : (*s == '"' || *s == '\''))
				quote = quote ? '\0' : *s;
			else
				buf_add_byte(&w, *s);
		}
		strv_add_take(argv, buf_steal(&w));
	}
}

int argv_expand(const struct exec_cmd *cmd, const struct strv *env, struct strv *argv)
{
	for (size_t i = 0; i < cmd->argc; i++) {
		const char *w = cmd->argv[i];
		bool is_split = w[0] == '$' && w[1] != '{' && w[1] != '$' && i > 0;
		if (cmd->no_expand) {
			strv_add(argv, w);
		} else if (is_split) {
			const char *value = env_get(env, w + 1, strlen(w + 1));
			if (value)
				split_value(value, argv);
		} else {
			strv_add_take(argv, expand_braced(w, env));
		}
		if (argv->n > PLAN_WORDS_MAX)
			return -E2BIG;
	}
	if (argv->n == 0)
		strv_add(argv, cmd->path);
	return 0;
}

char *release_replace(const char *s, const char *link, const char *dir)
{
	struct buf b = {0};
	size_t n = strlen(link);
	char before = '\0';
	buf_add_str(&b, "");
	while (*s) {
		bool begins = before == '\0' || strchr("=:, \"'", before);
		bool hits = begins && strncmp(s, link, n) == 0 &&
			    (s[n] == '\0' || strchr("/:, \"'", s[n]));
		if (hits) {
			buf_add_str(&b, dir);
			s += n;
			before = 'x';
			continue;
		}
		before = *s;
		buf_add_byte(&b, *s++);
	}
	return buf_steal(&b);
}
