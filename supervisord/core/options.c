/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the command line says, and where things are: the runtime, state and log directories.
 *
 * Called once, by core_init(), before keeper is spoken to.
 */
#include "core/inner.h"

#include <fcntl.h>
#include <getopt.h>
#include <sys/stat.h>

/* ---- options ------------------------------------------------------------------------------------------ */

/* Rows of options.def; main() has refused everything else before keeper was started. */
enum option_id {
	OPT_OPERAND = 1, /* getopt's word for one */
#define OPTION(field, name, argument, documentation) OPT_##field,
#include "stayd/options.def"
#undef OPTION
	OPT_MAX,
};

/* clang-format off */
static const struct option options[] = {
#define OPTION(field, name, argument, documentation)                                               \
	{name, argument ? required_argument : no_argument, NULL, OPT_##field},
#include "stayd/options.def"
#undef OPTION
	{NULL, 0, NULL, 0},
};
/* clang-format on */

static char *xdg_dir(const char *variable, const char *fallback_below_home)
{
	const char *v = getenv(variable);
	if (v && v[0] == '/')
		return xstrdup(v);
	const char *home = getenv("HOME");
	if (!home || home[0] != '/')
		home = "/tmp";
	return xasprintf("%s%s", streq(home, "/") ? "" : home, fallback_below_home);
}

/* Ours and writable? The place may be a world-writable one: nobody else's directory will do. */
static int try_runtime_dir(const char *dir)
{
	struct stat st;
	int r = mkdir_parents(dir, 0755);
	if (r < 0)
		return r;
	if (lstat(dir, &st) < 0)
		return -errno;
	if (!S_ISDIR(st.st_mode) || st.st_uid != geteuid() || (st.st_mode & 022))
		return -EPERM;
	return faccessat(AT_FDCWD, dir, W_OK, AT_EACCESS) < 0 ? -errno : 0;
}

/* Containers with a read-only root often have nothing but /dev/shm, or not even that. */
static void choose_runtime_dir(struct core *c)
{
	struct buf why = {0};
	char *dir;
	for (unsigned i = 0; (dir = runtime_dir_choice(i)); i++) {
		c->is_in_memory = dir[0] == '@';
		int r = c->is_in_memory ? 0 : try_runtime_dir(dir);
		if (r == 0)
			break;
		buf_printf(&why, "%s%s: %s", i ? ", " : "", dir, errno_name(r));
		free(dir);
	}
	c->runtime_dir = dir;
	if (c->is_in_memory)
		log_warn(NULL,
			"no runtime directory (%s): state is in memory, sockets are abstract (%s)",
			why.data, dir);
	else if (why.size)
		log_note(NULL, "runtime directory is %s (%s)", dir, why.data);
	buf_done(&why);
}

/* RuntimeDirectory= and %t: beside our own directory where that is not below /run. */
static char *runtime_root_of(const struct core *c)
{
	const char *run = getenv("XDG_RUNTIME_DIR");
	if (c->is_root)
		return xstrdup("/run");
	if (run && run[0] == '/')
		return xstrdup(run);
	return c->is_in_memory ? xstrdup("/tmp") : xstrdup(c->runtime_dir);
}

static void default_dirs(struct core *c)
{
	if (!c->runtime_dir)
		choose_runtime_dir(c);
	c->runtime_root = runtime_root_of(c);
	CLEANUP_FREE char *state =
		c->is_root ? xstrdup("/var/lib") : xdg_dir("XDG_STATE_HOME", "/.local/state");
	if (!c->config_path) {
		CLEANUP_FREE char *config =
			c->is_root ? xstrdup("/etc") : xdg_dir("XDG_CONFIG_HOME", "/.config");
		c->config_path = xasprintf("%s/stayd/stayd.conf", config);
	}
	if (!c->state_dir)
		c->state_dir = xasprintf("%s/stayd", state);
	if (!c->log_dir)
		c->log_dir =
			c->is_root ? xstrdup("/var/log/stayd") : xasprintf("%s/stayd/log", state);
}

static const char *const image_dirs[] = {
	"/etc/stayd/units", "/usr/local/lib/stayd/units", "/usr/lib/stayd/units"};

int options_parse(struct core *c, int argc, char **argv)
{
	const char *unit_path = NULL;
	int o;
	optind = 1;
	/* In any order, as main() has taken them; '-': $POSIXLY_CORRECT is none of our business. */
	while ((o = getopt_long(argc, argv, "-", options, NULL)) != -1) {
		switch (o) {
		case OPT_OPERAND:
			strv_add(&c->start_units, optarg);
			break;
		case OPT_UNIT_PATH:
			unit_path = optarg;
			break;
		case OPT_RUNTIME_DIR:
			c->runtime_dir = xstrdup(optarg);
			break;
		case OPT_STATE_DIR:
			c->state_dir = xstrdup(optarg);
			break;
		case OPT_LOG_DIR:
			c->log_dir = xstrdup(optarg);
			break;
		case OPT_CONFIG:
			c->config_path = xstrdup(optarg);
			break;
		case OPT_TRACKING:
			c->tracking_is_forced_shim = streq(optarg, "shim");
			break;
		case OPT_LOG_CONSOLE:
			c->logs_to_console = true;
			break;
		case OPT_HELP:
		case OPT_VERSION:
			break; /* main()'s */
		default:
			return -EINVAL;
		}
	}
	default_dirs(c);
	unit_path_default(&c->path, unit_path);
	free(c->path.runtime_dir);
	c->path.runtime_dir = xstrdup(c->runtime_root);
	/* PID 1 of a container that runs as somebody else: the image's units are meant for it. */
	if (!c->is_root && c->is_init && !unit_path)
		for (size_t i = 0; i < ARRAY_SIZE(image_dirs); i++)
			strv_add(&c->path.dirs, image_dirs[i]);
	return 0;
}

/* ---- directories -------------------------------------------------------------------------------------- */

/* Of one that is there only a word of the kernel says that it is not ours to write: a core that took
 * another because it lacked memory for the question would know nothing of what was deployed. */
static int make_dir(const char *dir)
{
	int r = mkdir_parents(dir, 0755);
	if (r < 0 || faccessat(AT_FDCWD, dir, W_OK, AT_EACCESS) == 0)
		return r;
	return errno == EACCES || errno == EPERM || errno == EROFS ? -errno : 0;
}

/* A directory that should outlive us; with a read-only root one that does not has to do. 1: it does
 * not. */
static int make_lasting_dir(struct core *c, char **dir, const char *stand_in, const char *what)
{
	int r = make_dir(*dir);
	if (r == 0)
		return 0;
	CLEANUP_FREE char *other =
		c->is_in_memory ? NULL : xasprintf("%s/%s", c->runtime_dir, stand_in);
	if (!other || make_dir(other) < 0) {
		log_warn(NULL, "%s: %s; %s is not kept", *dir, errno_name(r), what);
		return r;
	}
	log_warn(NULL, "%s: %s; %s is in %s and forgotten at the end", *dir, errno_name(r), what,
		other);
	free(*dir);
	*dir = TAKE_PTR(other);
	return 1;
}

/* What it holds counts also on a disk that has become read-only; writing says so each time. */
static bool is_state_kept(const char *dir)
{
	CLEANUP_FREE char *sets = xasprintf("%s/sets", dir);
	int r = access(sets, R_OK | X_OK) == 0 ? make_dir(dir) : -ENOENT;
	if (r < 0 && r != -ENOENT)
		log_warn(NULL, "%s: %s; going by what it holds", dir, errno_name(r));
	return r != -ENOENT;
}

/* Whoever can write there could put a socket or a record of his own in place of ours. */
static int check_own_dir(const char *dir)
{
	struct stat st;
	if (stat(dir, &st) < 0)
		return 0; /* it could not be made: said where that matters */
	bool is_own = st.st_uid == geteuid() || st.st_uid == 0;
	if (is_own && !(st.st_mode & S_IWOTH) &&
		(!(st.st_mode & S_IWGRP) || st.st_gid == getegid()))
		return 0;
	log_error(NULL,
		"%s: others can write it (owner %u:%u, mode %04o); chmod go-w %s, or name another",
		dir, (unsigned)st.st_uid, (unsigned)st.st_gid, (unsigned)(st.st_mode & 07777), dir);
	return -EPERM;
}

int options_make_dirs(struct core *c)
{
	int r = c->is_in_memory ? 0 : make_dir(c->runtime_dir);
	if (r < 0) {
		log_error(NULL, "%s: %s", c->runtime_dir, errno_name(r));
		return r;
	}
	c->is_dir_unsafe = (!c->is_in_memory && check_own_dir(c->runtime_dir) < 0) ||
			   check_own_dir(c->state_dir) < 0;
	if (c->is_dir_unsafe)
		return 0; /* what becomes of that keeper has to be told: core_come_up() */
	c->has_state_dir =
		is_state_kept(c->state_dir) || make_lasting_dir(c, &c->state_dir, "lib",
						       "what is enabled, deployed or scaled") >= 0;
	c->is_log_volatile = make_lasting_dir(c, &c->log_dir, "log", "output of services") > 0;
	c->notify_path = xasprintf("%s/notify", c->runtime_dir);
	c->control_path = xasprintf("%s/control.sock", c->runtime_dir);
	return 0;
}
