/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One program, several processes: finds out which one this is and goes there.
 *
 *   stayd [OPTIONS] [UNIT...]        keeper, which starts all the others
 *   stayd -- CMD [ARG...]            init mode
 *   stayd --role=ROLE [OPTIONS ...]  a role; only keeper says so, with its own arguments behind
 *   stayd --keeper-state=FD ...      keeper after a re-exec
 *
 * Options are checked here, before anything is started; core gives them their meaning.
 */
#include <sys/prctl.h>
#include <sys/reboot.h>
#include <sys/stat.h>

#include "base/base.h"
#include "core/core.h"
#include "init/init.h"
#include "keeper/keeper.h"
#include "launch/launch.h"
#include "logd/logd.h"
#include "stayd/stayd.h"
#include "table/table.h"

struct option_row {
	const char *name, *argument, *documentation;
};

enum option_index {
#define OPTION(field, name, argument, documentation) OPTION_##field,
#include "stayd/options.def"
#undef OPTION
	OPTION_MAX
};

static const struct option_row options[OPTION_MAX] = {
#define OPTION(field, name, argument, documentation) {name, argument, documentation},
#include "stayd/options.def"
#undef OPTION
};

/* Can we take over from a keeper whose state has that version? */
static int trial_main(int argc, char **argv)
{
	long version = argc > 1 ? strtol(argv[1], NULL, 10) : 0;
	return version >= STATE_OLDEST ? KEEPER_TRIAL_OK : STAY_EXIT_FAILED;
}

static const struct {
	const char *option, *process_name;
	int (*main)(int argc, char **argv);
} roles[] = {
	{"--role=core",     "stayd-core",     core_main    },
	{"--role=launcher", "stayd-launcher", launcher_main},
	{"--role=logger",   "stayd-logger",   logger_main  },
	{"--role=trial",    "stayd-trial",    trial_main   },
};

/* The roles are executed from a descriptor, which the kernel would show as their name. */
static int role_main(int argc, char **argv)
{
	for (size_t i = 0; i < ARRAY_SIZE(roles); i++) {
		if (!streq(argv[1], roles[i].option))
			continue;
		(void)prctl(PR_SET_NAME, roles[i].process_name);
		if (roles[i].main != launcher_main) /* its children write their own uid_map first */
			(void)prctl(PR_SET_DUMPABLE, 0, 0, 0,
				0); /* no memory for others, nor in a core file */
		argv[1] = argv[0];
		return roles[i].main(argc - 1, argv + 1);
	}
	fprintf(stderr, "stayd: no such role: %s\n", argv[1]);
	return STAY_EXIT_USAGE;
}

static int usage_error(const char *what, const char *arg)
{
	fprintf(stderr, "stayd: %s: %s\nstayd: try --help\n", what, arg);
	return STAY_EXIT_USAGE;
}

static int print_help(void)
{
	printf("stayd [OPTIONS] [UNIT...]     supervise units (default.target)\n"
	       "stayd -- CMD [ARG...]         run one command and reap orphans, like tini\n\n");
	for (size_t i = 0; i < ARRAY_SIZE(options); i++) {
		const struct option_row *o = &options[i];
		char left[64];
		snprintf(left, sizeof(left), "--%s %s", o->name, strna(o->argument));
		printf("  %-28s %s\n", left, o->documentation);
	}
	return STAY_EXIT_OK;
}

/* The row of "--name", "--name=value"; -1 when there is none. *ret_value is NULL without '='. */
static int option_find(const char *arg, const char **ret_value)
{
	const char *value = strchr(arg, '=');
	size_t size = (value ? (size_t)(value - arg) : strlen(arg)) - 2;
	for (int i = 0; i < OPTION_MAX; i++)
		if (strlen(options[i].name) == size &&
			strncmp(arg + 2, options[i].name, size) == 0) {
			*ret_value = value ? value + 1 : NULL;
			return i;
		}
	return -1;
}

/* >= 0: an exit status; -1: go on. */
static int check_options(int argc, char **argv)
{
	for (int i = 1; i < argc; i++) {
		const char *value = NULL;
		if (argv[i][0] != '-')
			continue;
		int o = startswith(argv[i], "--") ? option_find(argv[i], &value) : -1;
		if (o < 0)
			return usage_error("unknown option", argv[i]);
		if (options[o].argument ? !value && ++i == argc : value != NULL)
			return usage_error(value ? "this takes no value" : "this needs a value",
				argv[i - !value]);
		if (o == OPTION_HELP)
			return print_help();
		if (o == OPTION_VERSION) {
			printf("stayd %s\n", STAYD_VERSION);
			return STAY_EXIT_OK;
		}
	}
	return argc > KEEPER_ARGS_MAX ? usage_error("too many arguments", argv[argc - 1]) : -1;
}

/* PID 1 of a host, not of a container, may not merely exit: the kernel would panic. */
static int keep(int argc, char **argv)
{
	bool has_proc = access("/proc/self", F_OK) == 0; /* else ask the runtime's variable */
	bool is_host = getpid() == 1 && (has_proc ? first_pid_namespace() : !getenv("container"));
	int how = 0;
	if (is_host)
		(void)reboot(RB_DISABLE_CAD); /* Ctrl-Alt-Del becomes SIGINT */
	int status = keeper_main(argc, argv, &how);
	if (is_host) {
		sync();
		(void)reboot(how == 1 ? RB_AUTOBOOT : RB_POWER_OFF);
	}
	return status;
}

/* What nothing works without; as PID 1 core mounts it. -1: it is there. */
static int check_files(void)
{
	struct stat st;
	if (getpid() == 1)
		return -1;
	if (access("/proc/self/stat", R_OK) < 0) {
		fprintf(stderr,
			"stayd: /proc is not there, and without it no process can be followed "
			"(mount -t proc proc /proc)\n");
		return STAY_EXIT_FAILED;
	}
	if (stat("/dev/null", &st) < 0 || !S_ISCHR(st.st_mode)) {
		fprintf(stderr, "stayd: /dev/null is no device, and services read and write it "
				"(mknod -m 666 /dev/null c 1 3)\n");
		return STAY_EXIT_FAILED;
	}
	return -1;
}

int main(int argc, char **argv)
{
	if (argc > 1 && startswith(argv[1], "--role="))
		return role_main(argc, argv);
	(void)prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
	if (argc > 1 && startswith(argv[1], "--keeper-state="))
		return keep(argc, argv);
	if (argc > 1 && streq(argv[1], "--"))
		return argc > 2 ? init_main(argv + 2) : usage_error("no command behind", "--");
	int r = check_options(argc, argv);
	if (r < 0)
		r = check_files();
	return r >= 0 ? r : keep(argc, argv);
}
