/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Words for enum values, both ways. A word stands here once; the directive parsers, messages,
 * status output and completion use these tables. No state.
 */
#include <sched.h>

#include "internal.h"

/* Several words may mean one value; the first of them is the one that is shown. */
static const struct enum_word service_types[] = {
	{"simple",        SERVICE_SIMPLE       },
	{"exec",          SERVICE_EXEC         },
	{"forking",       SERVICE_FORKING      },
	{"oneshot",       SERVICE_ONESHOT      },
	{"notify",        SERVICE_NOTIFY       },
	{"notify-reload", SERVICE_NOTIFY_RELOAD},
	{"dbus",          SERVICE_DBUS         },
	{"idle",          SERVICE_IDLE         },
	{NULL,            0                    },
};
static const struct enum_word restarts[] = {
	{"no",          RESTART_NO         },
	{"on-success",  RESTART_ON_SUCCESS },
	{"on-failure",  RESTART_ON_FAILURE },
	{"on-abnormal", RESTART_ON_ABNORMAL},
	{"on-watchdog", RESTART_ON_WATCHDOG},
	{"on-abort",    RESTART_ON_ABORT   },
	{"always",      RESTART_ALWAYS     },
	{NULL,          0                  },
};
static const struct enum_word notify_accesses[] = {
	{"none", NOTIFY_NONE},
	{"main", NOTIFY_MAIN},
	{"exec", NOTIFY_EXEC},
	{"all",  NOTIFY_ALL },
	{NULL,   0          },
};
static const struct enum_word kill_modes[] = {
	{"control-group", KILL_CONTROL_GROUP},
	{"mixed",         KILL_MIXED        },
	{"process",       KILL_PROCESS      },
	{"none",          KILL_NONE         },
	{NULL,            0                 },
};
static const struct enum_word actions[] = {
	{"none",               ACTION_NONE          },
	{"exit",               ACTION_EXIT          },
	{"exit-force",         ACTION_EXIT_FORCE    },
	{"reboot",             ACTION_REBOOT        },
	{"reboot-force",       ACTION_REBOOT_FORCE  },
	{"reboot-immediate",   ACTION_REBOOT_FORCE  },
	{"poweroff",           ACTION_POWEROFF      },
	{"poweroff-force",     ACTION_POWEROFF_FORCE},
	{"poweroff-immediate", ACTION_POWEROFF_FORCE},
	{NULL,                 0                    },
};
static const struct enum_word preserves[] = {
	{"no",      PRESERVE_NO     },
	{"yes",     PRESERVE_YES    },
	{"restart", PRESERVE_RESTART},
	{NULL,      0               },
};
static const struct enum_word protect_procs[] = {
	{"default",    0},
	{"noaccess",   1},
	{"invisible",  2},
	{"ptraceable", 3},
	{NULL,         0},
};
static const struct enum_word proc_subsets[] = {
	{"all", 0},
	{"pid", 1},
	{NULL,  0},
};
static const struct enum_word oom_policies[] = {
	{"continue", 0},
	{"stop",     1},
	{"kill",     2},
	{NULL,       0},
};
static const struct enum_word on_limits[] = {
	{"fail", ON_LIMIT_FAIL},
	{"slow", ON_LIMIT_SLOW},
	{NULL,   0            },
};
static const struct enum_word drains[] = {
	{"force", DRAIN_FORCE},
	{"wait",  DRAIN_WAIT },
	{"abort", DRAIN_ABORT},
	{NULL,    0          },
};
static const struct enum_word unreachables[] = {
	{"abort", UNREACHABLE_ABORT},
	{"wait",  UNREACHABLE_WAIT },
	{"skip",  UNREACHABLE_SKIP },
	{NULL,    0                },
};
static const struct enum_word strategies[] = {
	{"rolling",    ROLLOUT_ROLLING   },
	{"canary",     ROLLOUT_CANARY    },
	{"blue-green", ROLLOUT_BLUE_GREEN},
	{NULL,         0                 },
};
static const struct enum_word cpu_policies[] = {
	{"other", SCHED_OTHER},
	{"batch", SCHED_BATCH},
	{"idle",  SCHED_IDLE },
	{"fifo",  SCHED_FIFO },
	{"rr",    SCHED_RR   },
	{NULL,    0          },
};
static const struct enum_word io_classes[] = {
	{"none",        0},
	{"realtime",    1},
	{"best-effort", 2},
	{"idle",        3},
	{NULL,          0},
};
static const struct enum_word protect_systems[] = {
	{"no",     PROTECT_SYSTEM_NO    },
	{"yes",    PROTECT_SYSTEM_YES   },
	{"full",   PROTECT_SYSTEM_FULL  },
	{"strict", PROTECT_SYSTEM_STRICT},
	{NULL,     0                    },
};
static const struct enum_word protect_homes[] = {
	{"no",        PROTECT_HOME_NO       },
	{"yes",       PROTECT_HOME_YES      },
	{"read-only", PROTECT_HOME_READ_ONLY},
	{"tmpfs",     PROTECT_HOME_TMPFS    },
	{NULL,        0                     },
};

static const struct enum_word *const tables[ENUM_TABLE_MAX] = {
	[ENUM_SERVICE_TYPE] = service_types,
	[ENUM_RESTART] = restarts,
	[ENUM_NOTIFY_ACCESS] = notify_accesses,
	[ENUM_KILL_MODE] = kill_modes,
	[ENUM_ACTION] = actions,
	[ENUM_PRESERVE] = preserves,
	[ENUM_PROTECT_PROC] = protect_procs,
	[ENUM_PROC_SUBSET] = proc_subsets,
	[ENUM_OOM_POLICY] = oom_policies,
	[ENUM_ON_LIMIT] = on_limits,
	[ENUM_DRAIN] = drains,
	[ENUM_UNREACHABLE] = unreachables,
	[ENUM_STRATEGY] = strategies,
	[ENUM_CPU_POLICY] = cpu_policies,
	[ENUM_IO_CLASS] = io_classes,
	[ENUM_PROTECT_SYSTEM] = protect_systems,
	[ENUM_PROTECT_HOME] = protect_homes,
};

int enum_parse(enum enum_table t, const char *word)
{
	for (const struct enum_word *w = tables[t]; w->word; w++)
		if (streq(w->word, word))
			return w->value;
	return -EINVAL;
}

const char *enum_explain(enum enum_table t, const char *word, struct err *e)
{
	const char *best = NULL;
	unsigned best_distance = 3;
	size_t n = (size_t)snprintf(e->text, sizeof(e->text), "not one of");
	for (const struct enum_word *w = tables[t]; w->word; w++) {
		if (n < sizeof(e->text))
			n += (size_t)snprintf(e->text + n, sizeof(e->text) - n, "%s %s",
				w == tables[t] ? "" : ",", w->word);
		unsigned d = str_distance(word, w->word, 2);
		if (d < best_distance) {
			best_distance = d;
			best = w->word;
		}
	}
	return best;
}

static const char *word_of(enum enum_table t, int value)
{
	for (const struct enum_word *w = tables[t]; w->word; w++)
		if (w->value == value)
			return w->word;
	return "unknown";
}

const char *service_type_name(enum service_type t)
{
	return word_of(ENUM_SERVICE_TYPE, (int)t);
}

const char *restart_mode_name(enum restart_mode m)
{
	return word_of(ENUM_RESTART, (int)m);
}

const char *unit_load_name(enum unit_load l)
{
	static const char *const names[LOAD_MAX] = {
		[LOAD_LOADED] = "loaded",
		[LOAD_NOT_FOUND] = "not-found",
		[LOAD_BAD] = "bad-setting",
		[LOAD_MASKED] = "masked",
	};
	return l < LOAD_MAX ? names[l] : "unknown";
}

const char *dep_kind_name(enum dep_kind k)
{
	static const char *const names[DEP_MAX] = {
		[DEP_AFTER] = "After",
		[DEP_BEFORE] = "Before",
		[DEP_REQUIRES] = "Requires",
		[DEP_REQUISITE] = "Requisite",
		[DEP_WANTS] = "Wants",
		[DEP_BINDS_TO] = "BindsTo",
		[DEP_PART_OF] = "PartOf",
		[DEP_UPHOLDS] = "Upholds",
		[DEP_CONFLICTS] = "Conflicts",
		[DEP_ON_FAILURE] = "OnFailure",
		[DEP_ON_SUCCESS] = "OnSuccess",
		[DEP_PROPAGATES_RELOAD] = "PropagatesReloadTo",
		[DEP_RELOAD_PROPAGATED_FROM] = "ReloadPropagatedFrom",
		[DEP_JOINS_NAMESPACE_OF] = "JoinsNamespaceOf",
	};
	return k < DEP_MAX ? names[k] : "unknown";
}

const char *exec_kind_name(enum exec_kind k)
{
	static const char *const names[EXEC_KIND_MAX] = {
		[EXEC_CONDITION] = "ExecCondition",
		[EXEC_START_PRE] = "ExecStartPre",
		[EXEC_START] = "ExecStart",
		[EXEC_START_POST] = "ExecStartPost",
		[EXEC_RELOAD] = "ExecReload",
		[EXEC_STOP] = "ExecStop",
		[EXEC_STOP_POST] = "ExecStopPost",
	};
	return k < EXEC_KIND_MAX ? names[k] : "unknown";
}

const char *condition_kind_name(enum condition_kind k)
{
	static const char *const names[COND_MAX] = {
		[COND_PATH_EXISTS] = "ConditionPathExists",
		[COND_PATH_EXISTS_GLOB] = "ConditionPathExistsGlob",
		[COND_PATH_IS_DIRECTORY] = "ConditionPathIsDirectory",
		[COND_PATH_IS_SYMLINK] = "ConditionPathIsSymbolicLink",
		[COND_PATH_IS_MOUNT_POINT] = "ConditionPathIsMountPoint",
		[COND_PATH_IS_READ_WRITE] = "ConditionPathIsReadWrite",
		[COND_DIRECTORY_NOT_EMPTY] = "ConditionDirectoryNotEmpty",
		[COND_FILE_NOT_EMPTY] = "ConditionFileNotEmpty",
		[COND_FILE_IS_EXECUTABLE] = "ConditionFileIsExecutable",
		[COND_USER] = "ConditionUser",
		[COND_GROUP] = "ConditionGroup",
		[COND_HOST] = "ConditionHost",
		[COND_VIRTUALIZATION] = "ConditionVirtualization",
		[COND_ARCHITECTURE] = "ConditionArchitecture",
		[COND_KERNEL_COMMAND_LINE] = "ConditionKernelCommandLine",
		[COND_CAPABILITY] = "ConditionCapability",
		[COND_AC_POWER] = "ConditionACPower",
		[COND_FIRST_BOOT] = "ConditionFirstBoot",
		[COND_NEEDS_UPDATE] = "ConditionNeedsUpdate",
		[COND_SECURITY] = "ConditionSecurity",
		[COND_OTHER] = "Condition",
	};
	return k < COND_MAX ? names[k] : "unknown";
}

const char *directive_class_name(enum directive_class c)
{
	static const char *const names[CLASS_MAX] = {
		[CLASS_FULL] = "full",
		[CLASS_PARTIAL] = "partial",
		[CLASS_IGNORED_SAFE] = "ignored-safe",
		[CLASS_IGNORED_WARN] = "ignored-warn",
		[CLASS_REFUSED] = "refused",
	};
	return c < CLASS_MAX ? names[c] : "unknown";
}
