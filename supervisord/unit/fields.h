/* SPDX-License-Identifier: Apache-2.0 */
/* The value parsers named by directives.def. Private to unit/. */
#pragma once

#include "internal.h"

/* fields.c: values of any section. Field and arg of each stand beside it. */
directive_fn set_ignored;     /* nothing is stored */
directive_fn set_boolean;     /* bool */
directive_fn set_tristate;    /* int: -1, 0, 1 */
directive_fn set_string;      /* char *, specifiers expanded */
directive_fn set_plain;       /* char *, as written */
directive_fn set_unsigned;    /* unsigned; arg: largest value */
directive_fn set_exit_code;   /* int */
directive_fn set_time;        /* uint64_t us; arg TIME_* */
directive_fn set_mode;        /* mode_t */
directive_fn set_signal;      /* int */
directive_fn set_enumeration; /* enum; arg: enum_table */
directive_fn set_word;        /* char *, one of enum_table arg */
directive_fn set_path;        /* char *, absolute; arg PATH_* */
directive_fn set_path_list;   /* conf_list of absolute paths, "-" and "+" in front kept */
directive_fn set_words;       /* conf_list, specifiers expanded; empty resets */
directive_fn set_units;       /* deps[arg] */
directive_fn set_sockets;     /* conf_list of unit names */
directive_fn set_install;     /* conf_list of unit names, specifiers left for enable */
directive_fn set_condition;   /* arg: condition_kind, + COND_ASSERT */
directive_fn set_description;
enum { TIME_PLAIN, TIME_ZERO_IS_INFINITY, TIME_NSEC };
enum { PATH_PLAIN, PATH_RUN };
enum { COND_ASSERT = 0x100 };

/* fields_service.c: [Service] and the process settings */
directive_fn set_exec; /* service.exec[arg] */
directive_fn set_timeout, set_timeout_start, set_timeout_stop, set_timeout_abort;
directive_fn set_restart, set_restart_kill_signal, set_exit_set, set_emergency;
directive_fn set_environment, set_environment_file, set_names;
directive_fn set_user, set_groups, set_working_directory, set_std_in, set_std_out, set_exec_dirs;
directive_fn set_nice, set_oom_adjust, set_cpu_priority, set_io_class, set_io_priority;
directive_fn set_cpu_affinity, set_limit;
directive_fn set_protect_home, set_protect_system, set_preserve, set_search_path;

/* fields_sandbox.c: security and cgroup settings */
directive_fn set_bounding_set, set_ambient_set, set_secure_bits;
directive_fn set_syscall_filter, set_syscall_errno, set_address_families, set_namespaces;
directive_fn set_memory, set_tasks, set_cpu_quota, set_weight, set_delegate, set_cgroup_other;
directive_fn set_label;

/* fields_ours.c: the X- sections */
directive_fn set_count, set_ports, set_check_target, set_check_time, set_check_count;
directive_fn set_amount, set_ramp, set_percent, set_address, set_commands, set_reset_after;
directive_fn set_driver, set_principals;
