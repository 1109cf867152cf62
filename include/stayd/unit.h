/* SPDX-License-Identifier: Apache-2.0 */
/*
 * struct unit_conf: one unit as its files say, parsed and checked. Plain data.
 *
 * Made by unit/ (unit_load()), never changed afterwards, reference-counted, all memory in its
 * own arena. Every default is filled in by the loader, so that nobody else knows defaults; the
 * meaning of each field is that of the systemd directive it is named after (systemd 252, and
 * newer where said) or of the X- section key. Times are microseconds, USEC_INFINITY = no limit.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/types.h>

enum unit_type {
	UNIT_SERVICE,
	UNIT_TARGET,
	UNIT_SOCKET,
	UNIT_TIMER,
	UNIT_PATH,
	UNIT_MOUNT,
	UNIT_AUTOMOUNT,
	UNIT_SWAP,
	UNIT_SLICE,
	UNIT_SCOPE,
	UNIT_DEVICE,
	UNIT_TYPE_MAX,
};

enum unit_load {
	LOAD_LOADED,
	LOAD_NOT_FOUND,
	LOAD_BAD, /* loaded, but something in it makes starting it wrong: see the diagnostics */
	LOAD_MASKED,
	LOAD_MAX,
};

enum dep_kind {
	DEP_AFTER,
	DEP_BEFORE,
	DEP_REQUIRES,
	DEP_REQUISITE,
	DEP_WANTS,
	DEP_BINDS_TO,
	DEP_PART_OF,
	DEP_UPHOLDS,
	DEP_CONFLICTS,
	DEP_ON_FAILURE,
	DEP_ON_SUCCESS,
	DEP_PROPAGATES_RELOAD,
	DEP_RELOAD_PROPAGATED_FROM,
	DEP_JOINS_NAMESPACE_OF,
	DEP_MAX,
};

/* A list of strings in the conf's arena; v is NULL when n is 0. */
struct conf_list {
	char **v;
	size_t n;
};

/* ---- [Unit] Condition*= and Assert*= --------------------------------------------------- */

enum condition_kind {
	COND_PATH_EXISTS,
	COND_PATH_EXISTS_GLOB,
	COND_PATH_IS_DIRECTORY,
	COND_PATH_IS_SYMLINK,
	COND_PATH_IS_MOUNT_POINT,
	COND_PATH_IS_READ_WRITE,
	COND_DIRECTORY_NOT_EMPTY,
	COND_FILE_NOT_EMPTY,
	COND_FILE_IS_EXECUTABLE,
	COND_USER,
	COND_GROUP,
	COND_HOST,
	COND_VIRTUALIZATION,
	COND_ARCHITECTURE,
	COND_KERNEL_COMMAND_LINE,
	COND_CAPABILITY,
	COND_AC_POWER,
	COND_FIRST_BOOT,
	COND_NEEDS_UPDATE,
	COND_SECURITY,
	COND_OTHER, /* known to systemd, not evaluated here: taken as true and reported degraded */
	COND_MAX,
};

struct condition {
	enum condition_kind kind;
	bool is_assert;
	bool is_negated; /* "!" */
	bool is_trigger; /* "|" */
	const char *directive;
	const char *arg;
};

/* ---- command lines --------------------------------------------------------------------- */

enum exec_kind {
	EXEC_CONDITION,
	EXEC_START_PRE,
	EXEC_START,
	EXEC_START_POST,
	EXEC_RELOAD,
	EXEC_STOP,
	EXEC_STOP_POST,
	EXEC_KIND_MAX,
};

struct exec_cmd {
	char *path;  /* absolute, or a bare name to be looked up at exec; $VAR not expanded here */
	char **argv; /* argv[0] included, NULL-terminated; systemd's $VAR / ${VAR} still in it */
	size_t argc;
	bool ignore_failure; /* - */
	bool no_expand;      /* : */
	bool full_privilege; /* + : no User=, no sandbox */
	bool no_user;        /* ! and !! : sandbox yes, User=/caps no */
	unsigned line;       /* where it stands, for messages */
};

struct exec_list {
	struct exec_cmd *v;
	size_t n;
};

/* ---- execution context (systemd.exec) --------------------------------------------------- */

enum std_kind {
	STD_NULL,
	STD_LOG, /* journal, syslog, kmsg, inherit where there is nothing to inherit: our logger */
	STD_INHERIT,
	STD_TTY,
	STD_FILE,
	STD_APPEND,
	STD_TRUNCATE,
	STD_SOCKET,
	STD_FD,
	STD_DATA,
};

struct std_stream {
	enum std_kind kind;
	bool also_console; /* journal+console */
	char *path;        /* file:, append:, truncate:, tty path, fd: name */
};

enum dir_kind { DIR_RUNTIME, DIR_STATE, DIR_CACHE, DIR_LOGS, DIR_CONFIGURATION, DIR_KIND_MAX };

struct exec_dirs {
	struct conf_list names; /* relative; "name" or "name:link" */
	mode_t mode;
};

enum preserve { PRESERVE_NO, PRESERVE_YES, PRESERVE_RESTART };

enum protect_system {
	PROTECT_SYSTEM_NO,
	PROTECT_SYSTEM_YES,
	PROTECT_SYSTEM_FULL,
	PROTECT_SYSTEM_STRICT
};
enum protect_home { PROTECT_HOME_NO, PROTECT_HOME_YES, PROTECT_HOME_READ_ONLY, PROTECT_HOME_TMPFS };

struct env_file {
	char *path;
	bool is_optional; /* "-" */
};

/* Who it runs as. */
struct exec_identity {
	char *user, *group; /* NULL: ours */
	struct conf_list supplementary_groups;
	bool dynamic_user;
	uint64_t bounding_set; /* capability bit mask; ~0 = untouched */
	bool has_bounding_set;
	uint64_t ambient_set;
	int no_new_privileges;          /* -1 unset, 0, 1 */
	bool no_new_privileges_implied; /* by seccomp-like directives without CAP_SYS_ADMIN */
	unsigned secure_bits;
	char *pam_name;
};

/* What it sees. Paths are absolute; a leading "-" (may be missing) and "+" are kept in the text. */
struct exec_sandbox {
	bool private_tmp, private_network, private_devices, private_users, private_ipc,
		private_mounts;
	bool protect_kernel_tunables, protect_kernel_modules, protect_kernel_logs;
	bool protect_control_groups, protect_clock, protect_hostname;
	enum protect_system protect_system;
	enum protect_home protect_home;
	char *protect_proc; /* default, noaccess, invisible, ptraceable */
	char *proc_subset;  /* all, pid */
	char *root_directory;
	struct conf_list read_write_paths, read_only_paths, inaccessible_paths, exec_paths,
		no_exec_paths;
	struct conf_list bind_paths, bind_read_only_paths, temporary_file_systems;
	bool mount_api_vfs;
	char *network_namespace_path;
	/* seccomp. Names and @groups as written; the allow/deny sense of the first line. */
	struct conf_list syscall_filter;
	bool syscall_filter_is_deny;
	bool has_syscall_filter;
	int syscall_errno; /* 0: kill */
	struct conf_list syscall_archs;
	struct conf_list address_families;
	bool address_families_is_deny, has_address_families;
	uint64_t restrict_namespaces; /* CLONE_NEW* that are forbidden; 0 = none */
	bool lock_personality, memory_deny_write_execute, restrict_realtime, restrict_suid_sgid;
	char *personality;
	char *apparmor_profile;
};

struct conf_rlimit {
	bool is_set;
	rlim_t soft, hard;
};

/* How it is scheduled and limited. */
struct exec_limits {
	struct conf_rlimit *rlimit; /* RLIM_NLIMITS of them; one for all units that set none */
	bool has_nice, has_oom_score_adjust, has_cpu_affinity;
	int nice;
	int oom_score_adjust;
	int cpu_policy, cpu_priority; /* -1 unset; SCHED_* */
	bool cpu_reset_on_fork;
	int io_class, io_priority;     /* -1 unset */
	uint64_t timer_slack_ns;       /* 0 unset */
	struct conf_list cpu_affinity; /* ranges as written */
	char *oom_policy;
	mode_t umask;
};

/* cgroup v2 knobs. UINT64_MAX = unset. */
struct cgroup_limits {
	uint64_t memory_max, memory_high, memory_low, memory_min, memory_swap_max;
	uint32_t memory_max_permille; /* a percentage of physical memory, 0 = unset */
	uint64_t tasks_max;
	uint32_t tasks_max_permille;
	uint64_t cpu_quota_us_per_sec; /* CPUQuota=20% -> 200000 */
	uint64_t cpu_weight, io_weight;
	bool delegate;
	char *slice;
	struct conf_list
		other; /* further cgroup directives as "Key=value": reported, not applied */
};

struct exec_conf {
	struct conf_list environment; /* "A=b", specifiers done, later ones win */
	struct env_file *environment_files;
	size_t n_environment_files;
	struct conf_list pass_environment, unset_environment;
	char *working_directory; /* NULL: / ; "~": home */
	bool working_directory_is_optional;
	struct std_stream std_in, std_out, std_err;
	char *syslog_identifier;
	struct exec_dirs dirs[DIR_KIND_MAX];
	enum preserve runtime_directory_preserve;
	struct exec_identity identity;
	struct exec_sandbox sandbox;
	struct exec_limits limits;
	struct cgroup_limits cgroup;
	bool ignore_sigpipe;
	bool tty_reset, tty_vhangup;
	char *tty_path;
	struct conf_list exec_search_path;
};

/* ---- [Service] --------------------------------------------------------------------------- */

enum service_type {
	SERVICE_SIMPLE,
	SERVICE_EXEC,
	SERVICE_FORKING,
	SERVICE_ONESHOT,
	SERVICE_NOTIFY,
	SERVICE_NOTIFY_RELOAD, /* systemd 253 */
	SERVICE_DBUS,
	SERVICE_IDLE,
	SERVICE_TYPE_MAX,
};

enum restart_mode {
	RESTART_NO,
	RESTART_ON_SUCCESS,
	RESTART_ON_FAILURE,
	RESTART_ON_ABNORMAL,
	RESTART_ON_WATCHDOG,
	RESTART_ON_ABORT,
	RESTART_ALWAYS,
	RESTART_MODE_MAX,
};

enum notify_access { NOTIFY_NONE, NOTIFY_MAIN, NOTIFY_EXEC, NOTIFY_ALL };
enum kill_mode { KILL_CONTROL_GROUP, KILL_MIXED, KILL_PROCESS, KILL_NONE };
enum on_limit { ON_LIMIT_FAIL, ON_LIMIT_SLOW };
enum emergency_action {
	ACTION_NONE,
	ACTION_EXIT,
	ACTION_EXIT_FORCE,
	ACTION_REBOOT,
	ACTION_REBOOT_FORCE,
	ACTION_POWEROFF,
	ACTION_POWEROFF_FORCE
};

/* Exit codes and signals, as in SuccessExitStatus=. */
struct exit_set {
	uint8_t codes[32]; /* bit per exit code 0..255 */
	uint64_t signals;  /* bit per signal 1..63 */
};

struct restart_conf {
	enum restart_mode mode;
	uint64_t sec_us;       /* RestartSec=, 100 ms */
	unsigned steps;        /* RestartSteps= (254) */
	uint64_t max_delay_us; /* RestartMaxDelaySec= (254), USEC_INFINITY unset */
	struct exit_set success, prevent, force;
	uint64_t limit_interval_us; /* StartLimitIntervalSec=, 10 s; 0 = no limit */
	unsigned limit_burst;       /* StartLimitBurst=, 5 */
	enum emergency_action limit_action;
	/* [X-Restart] */
	unsigned jitter_percent; /* of the delay, both ways; 10 */
	uint64_t
		reset_after_us; /* running that long clears the back-off; default 2 x max delay, >= 60 s */
	enum on_limit
		on_limit; /* beyond the limit: fail (systemd) or slow (keep trying at max delay) */
	bool has_restart; /* Restart= was written */
};

struct service_conf {
	enum service_type type;
	struct exec_list exec[EXEC_KIND_MAX];
	bool remain_after_exit, guess_main_pid;
	char *pid_file;
	char *bus_name;
	enum notify_access notify_access;
	uint64_t timeout_start_us, timeout_stop_us, timeout_abort_us, runtime_max_us;
	uint64_t watchdog_us; /* 0 = none */
	int watchdog_signal, kill_signal, restart_kill_signal, final_kill_signal, reload_signal;
	enum kill_mode kill_mode;
	bool send_sigkill, send_sighup;
	unsigned fd_store_max;
	struct conf_list sockets;
	bool root_directory_start_only, permissions_start_only, non_blocking;
	struct restart_conf restart;
};

/* ---- our sections ------------------------------------------------------------------------ */

struct replicas_conf {
	bool is_set;
	unsigned count;                 /* default 1 */
	uint16_t port_first, port_last; /* 0 = none */
};

enum check_kind { CHECK_STARTUP, CHECK_READY, CHECK_LIVE, CHECK_KIND_MAX };

/* One health check; target NULL = not configured. */
struct health_check {
	char *target; /* http://127.0.0.1:${PORT}/healthz, tcp://host:port, exec:CMD ... */
	uint64_t interval_us, timeout_us;
	unsigned rise, fall;
};

enum drain_policy { DRAIN_FORCE, DRAIN_WAIT, DRAIN_ABORT };
enum unreachable_policy { UNREACHABLE_ABORT, UNREACHABLE_WAIT, UNREACHABLE_SKIP };

struct lb_conf {
	bool is_set;
	char *driver; /* row of net/lb/drivers.def */
	struct conf_list
		address; /* one per load balancer: /run/haproxy/admin.sock, tcp 127.0.0.1:9999 */
	char *backend;
	char *server; /* default "%p%i"; specifiers resolved per instance */
	char *host;   /* address the LB reaches the instance at; default 127.0.0.1 */
	uint64_t drain_timeout_us;
	enum drain_policy on_drain_timeout;
	struct {
		uint8_t percent[8];
		size_t n;
		uint64_t step_us;
	} ramp; /* Ramp=25%,50%,100%:2s ; n = 0: at once */
	enum unreachable_policy unreachable;
};

enum rollout_strategy { ROLLOUT_ROLLING, ROLLOUT_CANARY, ROLLOUT_BLUE_GREEN };

/* A number or a percentage of the set, as in Kubernetes. */
struct amount {
	unsigned value;
	bool is_percent;
};

struct rollout_conf {
	bool is_set;
	enum rollout_strategy strategy;
	struct amount max_surge;       /* default 0 */
	struct amount max_unavailable; /* default 1 when surge is 0, else 0 */
	uint64_t min_ready_us, progress_deadline_us, rollback_window_us;
	bool auto_rollback; /* default yes */
	unsigned revision_history;
	char *release_root, *release_link;
	struct conf_list exec_pre, exec_post;
	char *canary, *gate;
};

/* ---- what is not honoured ---------------------------------------------------------------- */

enum directive_class {
	CLASS_FULL,
	CLASS_PARTIAL, /* part of the values or effects; the text says which */
	CLASS_IGNORED_SAFE, /* leaving it out changes nothing that matters here (RequiresMountsFor ...) */
	CLASS_IGNORED_WARN, /* leaving it out weakens something: shown in check and in status */
	CLASS_REFUSED,      /* the unit is not started with it */
	CLASS_MAX,
};

struct degraded {
	const char *directive;
	const char *reason;
	enum directive_class class;
	const char *file;
	unsigned line;
};

struct diagnostic {
	const char *file;
	unsigned line, column; /* from 1; 0 = whole file */
	bool is_error;
	const char *code; /* "S0101" */
	const char *text;
	const char *hint;   /* may be NULL */
	const char *source; /* the source line, may be NULL */
};

/* ---- the whole -------------------------------------------------------------------------- */

struct install_conf {
	struct conf_list wanted_by, required_by, alias, also;
	char *default_instance;
};

/* Who may do what with this unit beside those whom stayd.conf names: "user", "@group", numbers. */
struct access_conf {
	struct conf_list owner, viewer;
};

struct unit_conf {
	unsigned refs;
	char *name;     /* web@1.service */
	char *prefix;   /* web: %p */
	char *instance; /* "1": %i; NULL when not a template instance */
	char *template; /* web@.service; NULL */
	enum unit_type type;
	enum unit_load load;
	bool is_unread; /* some of its files, or a directory of the path, could not be read now */
	char *description;
	char *fragment_path; /* NULL: built in or not found */
	struct conf_list drop_ins, documentation;
	char *text; /* the effective text: fragment and drop-ins, each under a "# path" line; NULL
		     * after unit_conf_drop_text() */
	uint64_t text_hash;

	struct conf_list
		deps[DEP_MAX]; /* names, default dependencies and .wants/.requires links included */
	struct condition *conditions;
	size_t n_conditions;
	bool default_dependencies, refuse_manual_start, refuse_manual_stop, stop_when_unneeded;
	bool allow_isolate, ignore_on_isolate;
	enum emergency_action failure_action, success_action;
	int failure_exit_status, success_exit_status; /* -1: the service's own */
	struct install_conf install;

	struct exec_conf exec;
	struct service_conf service; /* type == UNIT_SERVICE */
	struct replicas_conf replicas;
	struct health_check health[CHECK_KIND_MAX];
	struct lb_conf lb;
	struct rollout_conf rollout;
	struct access_conf access;

	struct degraded *degraded;
	size_t n_degraded;
	struct diagnostic *diagnostics;
	size_t n_diagnostics;
	void *arena; /* unit/'s own */
};
