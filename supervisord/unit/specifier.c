/* SPDX-License-Identifier: Apache-2.0 */
/*
 * systemd's % specifiers (systemd.unit(5), "Specifiers").
 *
 *  1. The table names every specifier; an unknown letter is kept as written, as systemd does.
 *  2. What comes from the host (machine id, os-release, passwd) is read when first used.
 *  3. The result lives in the unit's arena.
 *
 * Called by the directive parsers.
 */
#include <fcntl.h>
#include <pwd.h>
#include <sys/utsname.h>

#include "internal.h"

typedef void specifier_fn(struct parser *p, struct buf *b);

static void add(struct buf *b, const char *s)
{
	buf_add_str(b, strna(s));
}

static void add_unescaped(struct buf *b, const char *s)
{
	CLEANUP_FREE char *u = unit_unescape(strna(s));
	buf_add_str(b, u);
}

static void s_full_name(struct parser *p, struct buf *b)
{
	add(b, p->conf->name);
}

static void s_name(struct parser *p, struct buf *b)
{
	const char *dot = strrchr(p->conf->name, '.');
	buf_add(b, p->conf->name, dot ? (size_t)(dot - p->conf->name) : strlen(p->conf->name));
}

static void s_prefix(struct parser *p, struct buf *b)
{
	add(b, p->conf->prefix);
}

static void s_prefix_plain(struct parser *p, struct buf *b)
{
	add_unescaped(b, p->conf->prefix);
}

static void s_instance(struct parser *p, struct buf *b)
{
	add(b, p->conf->instance);
}

static void s_instance_plain(struct parser *p, struct buf *b)
{
	add_unescaped(b, p->conf->instance);
}

static const char *last_part(const struct parser *p)
{
	const char *dash = strrchr(p->conf->prefix, '-');
	return dash ? dash + 1 : p->conf->prefix;
}

static void s_last(struct parser *p, struct buf *b)
{
	add(b, last_part(p));
}

static void s_last_plain(struct parser *p, struct buf *b)
{
	add_unescaped(b, last_part(p));
}

/* "/" and the instance as a path, or the prefix when there is no instance. */
static void s_file_name(struct parser *p, struct buf *b)
{
	CLEANUP_FREE char *u =
		unit_unescape(p->conf->instance ? p->conf->instance : p->conf->prefix);
	if (u[0] != '/')
		buf_add_byte(b, '/');
	buf_add_str(b, u);
}

static void s_fragment(struct parser *p, struct buf *b)
{
	add(b, p->conf->fragment_path);
}

static void s_fragment_dir(struct parser *p, struct buf *b)
{
	const char *f = strna(p->conf->fragment_path), *slash = strrchr(f, '/');
	if (slash)
		buf_add(b, f, (size_t)(slash - f));
}

static void s_runtime(struct parser *p, struct buf *b)
{
	add(b, p->path->runtime_dir);
}

static void s_state(struct parser *p, struct buf *b)
{
	add(b, p->path->state_dir);
}

static void s_cache(struct parser *p, struct buf *b)
{
	add(b, p->path->cache_dir);
}

static void s_logs(struct parser *p, struct buf *b)
{
	add(b, p->path->logs_dir);
}

static void s_config(struct parser *p, struct buf *b)
{
	add(b, p->path->config_dir);
}

static void s_credentials(struct parser *p, struct buf *b)
{
	buf_printf(b, "%s/credentials/%s", strna(p->path->runtime_dir), p->conf->name);
}

static void s_tmp(struct parser *p, struct buf *b)
{
	(void)p;
	const char *t = getenv("TMPDIR");
	add(b, t && t[0] == '/' ? t : "/tmp");
}

static void s_var_tmp(struct parser *p, struct buf *b)
{
	(void)p;
	const char *t = getenv("TMPDIR");
	add(b, t && t[0] == '/' ? t : "/var/tmp");
}

/* ---- the host ---- */

static void add_id_file(struct buf *b, const char *path)
{
	struct buf f = {0};
	if (read_file(AT_FDCWD, path, 4096, &f) == 0)
		for (size_t i = 0; i < f.size && f.data[i] != '\n'; i++)
			if (f.data[i] != '-')
				buf_add_byte(b, f.data[i]);
	buf_done(&f);
}

static void s_boot(struct parser *p, struct buf *b)
{
	(void)p;
	add_id_file(b, "/proc/sys/kernel/random/boot_id");
}

static void s_machine(struct parser *p, struct buf *b)
{
	(void)p;
	add_id_file(b, "/etc/machine-id");
}

static void s_host(struct parser *p, struct buf *b)
{
	(void)p;
	struct utsname u;
	if (uname(&u) == 0)
		add(b, u.nodename);
}

static void s_host_short(struct parser *p, struct buf *b)
{
	(void)p;
	struct utsname u;
	if (uname(&u) == 0)
		buf_add(b, u.nodename, strcspn(u.nodename, "."));
}

static void s_kernel(struct parser *p, struct buf *b)
{
	(void)p;
	struct utsname u;
	if (uname(&u) == 0)
		add(b, u.release);
}

static void s_architecture(struct parser *p, struct buf *b)
{
	static const char *const names[][2] = {{"x86_64", "x86-64"}, {"aarch64", "arm64"},
		{"i686", "x86"}, {"armv7l", "arm"}, {"ppc64le", "ppc64-le"}};
	(void)p;
	struct utsname u;
	if (uname(&u) < 0)
		return;
	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (streq(u.machine, names[i][0])) {
			add(b, names[i][1]);
			return;
		}
	add(b, u.machine);
}

/* The value of KEY= in a file of shell assignments (os-release, machine-info). */
static void add_assignment(struct buf *b, const char *path, const char *key)
{
	struct buf f = {0};
	size_t n = strlen(key);
	if (read_file(AT_FDCWD, path, 64 * 1024, &f) == 0)
		for (const char *s = f.data; s && *s; s = strchr(s, '\n') ? strchr(s, '\n') + 1 : NULL)
			if (strncmp(s, key, n) == 0 && s[n] == '=') {
				CLEANUP_FREE char *word = NULL;
				CLEANUP_FREE char *line = xstrndup(s + n + 1, strcspn(s + n + 1, "\n"));
				const char *pos = line;
				if (split_word(&pos, &word, true, NULL) > 0)
					buf_add_str(b, word);
				break;
			}
	buf_done(&f);
}

static void add_os_release(struct buf *b, const char *key)
{
	bool has_etc = access("/etc/os-release", R_OK) == 0;
	add_assignment(b, has_etc ? "/etc/os-release" : "/usr/lib/os-release", key);
}

static void s_os_id(struct parser *p, struct buf *b)
{
	(void)p;
	add_os_release(b, "ID");
}

static void s_os_version(struct parser *p, struct buf *b)
{
	(void)p;
	add_os_release(b, "VERSION_ID");
}

static void s_os_build(struct parser *p, struct buf *b)
{
	(void)p;
	add_os_release(b, "BUILD_ID");
}

static void s_os_variant(struct parser *p, struct buf *b)
{
	(void)p;
	add_os_release(b, "VARIANT_ID");
}

static void s_image_id(struct parser *p, struct buf *b)
{
	(void)p;
	add_os_release(b, "IMAGE_ID");
}

static void s_image_version(struct parser *p, struct buf *b)
{
	(void)p;
	add_os_release(b, "IMAGE_VERSION");
}

static void s_pretty_host(struct parser *p, struct buf *b)
{
	size_t before = b->size;
	add_assignment(b, "/etc/machine-info", "PRETTY_HOSTNAME");
	if (b->size == before)
		s_host_short(p, b);
}

/* ---- who runs us: systemd's %u %h %s are the manager's, whatever User= says ---- */

enum who { WHO_NAME, WHO_HOME, WHO_SHELL };

static void add_passwd(struct buf *b, uid_t uid, enum who what)
{
	FILE *f = fopen("/etc/passwd", "re");
	struct passwd *w = NULL;
	while (f && (w = fgetpwent(f)) && w->pw_uid != uid)
		;
	if (w)
		add(b, what == WHO_NAME ? w->pw_name : what == WHO_HOME ? w->pw_dir : w->pw_shell);
	else if (what == WHO_NAME)
		buf_printf(b, "%u", uid);
	else
		add(b, what == WHO_HOME ? "/" : "/bin/sh");
	if (f)
		fclose(f);
}

static void s_user(struct parser *p, struct buf *b)
{
	(void)p;
	if (geteuid() == 0)
		add(b, "root");
	else
		add_passwd(b, geteuid(), WHO_NAME);
}

static void s_home(struct parser *p, struct buf *b)
{
	(void)p;
	if (geteuid() == 0)
		add(b, "/root");
	else
		add_passwd(b, geteuid(), WHO_HOME);
}

static void s_shell(struct parser *p, struct buf *b)
{
	(void)p;
	add_passwd(b, geteuid(), WHO_SHELL);
}

static void s_uid(struct parser *p, struct buf *b)
{
	(void)p;
	buf_printf(b, "%u", geteuid());
}

static void s_gid(struct parser *p, struct buf *b)
{
	(void)p;
	buf_printf(b, "%u", getegid());
}

static void s_group(struct parser *p, struct buf *b)
{
	if (getegid() == 0)
		add(b, "root");
	else
		s_gid(p, b);
}

static void s_percent(struct parser *p, struct buf *b)
{
	(void)p;
	buf_add_byte(b, '%');
}

static specifier_fn *const specifiers[128] = {
	['%'] = s_percent,
	['A'] = s_image_version,
	['B'] = s_os_build,
	['C'] = s_cache,
	['E'] = s_config,
	['G'] = s_gid,
	['H'] = s_host,
	['I'] = s_instance_plain,
	['J'] = s_last_plain,
	['L'] = s_logs,
	['M'] = s_image_id,
	['N'] = s_name,
	['P'] = s_prefix_plain,
	['S'] = s_state,
	['T'] = s_tmp,
	['U'] = s_uid,
	['V'] = s_var_tmp,
	['W'] = s_os_variant,
	['Y'] = s_fragment_dir,
	['a'] = s_architecture,
	['b'] = s_boot,
	['d'] = s_credentials,
	['f'] = s_file_name,
	['g'] = s_group,
	['h'] = s_home,
	['i'] = s_instance,
	['j'] = s_last,
	['l'] = s_host_short,
	['m'] = s_machine,
	['n'] = s_full_name,
	['o'] = s_os_id,
	['p'] = s_prefix,
	['q'] = s_pretty_host,
	['s'] = s_shell,
	['t'] = s_runtime,
	['u'] = s_user,
	['v'] = s_kernel,
	['w'] = s_os_version,
	['y'] = s_fragment,
};

/* An expansion may not blow up: each specifier adds at most a path, the whole at most this. */
#define EXPANDED_MAX (2 * 1024 * 1024)

char *specifier_expand(struct parser *p, const char *s)
{
	if (!strchr(s, '%'))
		return arena_strdup(p->arena, s);
	struct buf b = {0};
	buf_reserve(&b, strlen(s) + 32);
	for (; *s && b.size <= EXPANDED_MAX; s++) {
		unsigned char c = (unsigned char)s[1];
		if (*s == '%' && c < 128 && c && specifiers[c]) {
			specifiers[c](p, &b);
			s++;
		} else
			buf_add_byte(&b, *s);
	}
	char *out = NULL;
	if (b.size > EXPANDED_MAX || (b.size && !utf8_is_valid(b.data, b.size)))
		complain(p, S0118, NULL, "the expanded value is %s",
			b.size > EXPANDED_MAX ? "too long" : "not UTF-8");
	else
		out = arena_strndup(p->arena, b.size ? b.data : "", b.size);
	buf_done(&b);
	return out;
}
