/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a unit is when its file does not say: defaults, implied settings, default dependencies,
 * and the units that exist without a file.
 *
 *  1. Nobody else knows a default; after conf_complete() every field says what holds.
 *  2. The values are systemd 252's; those of the X- sections are in units/stayd.unit.5.
 *  3. Every target that packaged units refer to is built in, so that stayd needs none of
 *     systemd's files.
 *
 * Called by load.c around the parsing.
 */
#include <signal.h>
#include <sys/capability.h>

#include "internal.h"
#include "stayd/stayd.h"

/* ---- before parsing ---- */

struct conf_rlimit no_rlimits[RLIM_NLIMITS]; /* never written to */

static void set_exec_defaults(struct exec_conf *x)
{
	x->limits.rlimit = no_rlimits;
	x->std_in.kind = STD_NULL;
	x->std_out.kind = STD_LOG;
	x->std_err.kind = STD_INHERIT;
	x->ignore_sigpipe = true;
	for (size_t i = 0; i < DIR_KIND_MAX; i++)
		x->dirs[i].mode = 0755;
	x->identity.bounding_set = UINT64_MAX;
	x->identity.no_new_privileges = -1;
	x->limits.umask = 0022;
	x->limits.cpu_policy = x->limits.cpu_priority = -1;
	x->limits.io_class = x->limits.io_priority = -1;
	struct cgroup_limits *g = &x->cgroup;
	g->memory_max = g->memory_high = g->memory_low = g->memory_min = UINT64_MAX;
	g->memory_swap_max = g->tasks_max = g->cpu_quota_us_per_sec = UINT64_MAX;
	g->cpu_weight = g->io_weight = UINT64_MAX;
}

static void set_service_defaults(struct service_conf *s)
{
	s->type = SERVICE_TYPE_MAX; /* decided in complete_service() */
	s->guess_main_pid = s->send_sigkill = true;
	s->timeout_start_us = s->timeout_stop_us = 90 * USEC_PER_SEC;
	s->runtime_max_us = USEC_INFINITY;
	s->kill_signal = SIGTERM;
	s->final_kill_signal = SIGKILL;
	s->watchdog_signal = SIGABRT;
	s->reload_signal = SIGHUP;
	s->restart.sec_us = 100 * USEC_PER_MSEC;
	s->restart.max_delay_us = USEC_INFINITY;
	s->restart.limit_interval_us = 10 * USEC_PER_SEC;
	s->restart.limit_burst = 5;
	s->restart.jitter_percent = 10;
}

static void set_our_defaults(struct unit_conf *c)
{
	c->replicas.count = 1;
	for (size_t i = 0; i < CHECK_KIND_MAX; i++)
		c->health[i] = (struct health_check){.interval_us = 2 * USEC_PER_SEC,
			.timeout_us = USEC_PER_SEC,
			.rise = 1,
			.fall = 3};
	c->lb.drain_timeout_us = 30 * USEC_PER_SEC;
	c->rollout.min_ready_us = 5 * USEC_PER_SEC;
	c->rollout.progress_deadline_us = 600 * USEC_PER_SEC;
	c->rollout.auto_rollback = true;
	c->rollout.revision_history = 10;
}

void conf_set_defaults(struct unit_conf *c)
{
	c->default_dependencies = true;
	c->failure_exit_status = c->success_exit_status = -1;
	c->ignore_on_isolate = c->type == UNIT_SLICE || c->type == UNIT_SCOPE ||
			       c->type == UNIT_DEVICE || c->type == UNIT_MOUNT;
	set_exec_defaults(&c->exec);
	set_service_defaults(&c->service);
	set_our_defaults(c);
}

/* ---- after parsing ---- */

static void complete_restart(struct parser *p)
{
	struct restart_conf *r = &p->conf->service.restart;
	uint64_t longest = r->max_delay_us == USEC_INFINITY ? r->sec_us : r->max_delay_us;
	if (!p->has_reset_after)
		r->reset_after_us =
			longest > USEC_INFINITY / 4 ? longest : MAX(2 * longest, 60 * USEC_PER_SEC);
}

static void complete_service(struct parser *p)
{
	struct service_conf *s = &p->conf->service;
	if (s->type == SERVICE_TYPE_MAX)
		s->type = s->bus_name                 ? SERVICE_DBUS
			  : s->exec[EXEC_START].n > 0 ? SERVICE_SIMPLE
						      : SERVICE_ONESHOT;
	if (s->type == SERVICE_ONESHOT && !p->has_timeout_start)
		s->timeout_start_us = USEC_INFINITY;
	if (!p->has_timeout_abort)
		s->timeout_abort_us = s->timeout_stop_us;
	if (!p->has_restart_kill_signal)
		s->restart_kill_signal = s->kill_signal;
	bool notifies = s->type == SERVICE_NOTIFY || s->type == SERVICE_NOTIFY_RELOAD ||
			s->watchdog_us > 0 || s->fd_store_max > 0;
	if (notifies && s->notify_access == NOTIFY_NONE)
		s->notify_access = NOTIFY_MAIN;
	complete_restart(p);
}

static void drop_capabilities(struct exec_identity *i, uint64_t mask)
{
	i->bounding_set &= ~mask;
	i->has_bounding_set = true;
}

/* What one setting brings with it (systemd: unit_patch_contexts()). */
static void complete_sandbox(struct exec_conf *x)
{
	struct exec_sandbox *s = &x->sandbox;
	if (x->identity.dynamic_user) {
		s->private_tmp = s->restrict_suid_sgid = true;
		x->identity.no_new_privileges = 1;
		if (s->protect_system == PROTECT_SYSTEM_NO)
			s->protect_system = PROTECT_SYSTEM_STRICT;
		if (s->protect_home == PROTECT_HOME_NO)
			s->protect_home = PROTECT_HOME_READ_ONLY;
	}
	if (s->private_devices)
		drop_capabilities(&x->identity, 1ULL << CAP_MKNOD | 1ULL << CAP_SYS_RAWIO);
	if (s->protect_kernel_modules)
		drop_capabilities(&x->identity, 1ULL << CAP_SYS_MODULE);
	if (s->protect_kernel_logs)
		drop_capabilities(&x->identity, 1ULL << CAP_SYSLOG);
	if (s->protect_clock)
		drop_capabilities(&x->identity, 1ULL << CAP_SYS_TIME | 1ULL << CAP_WAKE_ALARM);
	x->identity.no_new_privileges_implied =
		s->has_syscall_filter || s->syscall_archs.n || s->has_address_families ||
		s->restrict_namespaces || s->lock_personality || s->memory_deny_write_execute ||
		s->restrict_realtime || s->restrict_suid_sgid || s->protect_kernel_tunables ||
		s->protect_kernel_modules || s->protect_kernel_logs || s->private_devices ||
		s->protect_clock || s->protect_hostname;
}

static void complete_ours(struct parser *p)
{
	struct unit_conf *c = p->conf;
	struct rollout_conf *r = &c->rollout;
	if (!p->has_max_unavailable)
		r->max_unavailable = (struct amount){.value = r->max_surge.value == 0};
	if (!c->lb.driver)
		return;
	if (!c->lb.server)
		c->lb.server = specifier_expand(p, "%p%i");
	if (!c->lb.host)
		c->lb.host = arena_strdup(p->arena, "127.0.0.1");
}

/* ---- default dependencies (systemd.service(5) and friends, "Default Dependencies") ---- */

static void add_dep(struct parser *p, enum dep_kind kind, const char *name)
{
	struct conf_list *l = &p->conf->deps[kind];
	if (!streq(name, p->conf->name) && !conf_list_has(l, name))
		conf_list_add(p, l, name);
}

/* A target waits for what it pulls in, unless the file orders them the other way round. */
static void order_target(struct parser *p)
{
	static const enum dep_kind pulls[] = {
		DEP_REQUIRES, DEP_REQUISITE, DEP_WANTS, DEP_BINDS_TO, DEP_UPHOLDS};
	struct unit_conf *c = p->conf;
	struct map before = {0}, after = {0};
	for (size_t i = 0; i < c->deps[DEP_BEFORE].n; i++)
		(void)map_put(&before, c->deps[DEP_BEFORE].v[i], c);
	for (size_t i = 0; i < c->deps[DEP_AFTER].n; i++)
		(void)map_put(&after, c->deps[DEP_AFTER].v[i], c);
	for (size_t k = 0; k < ARRAY_SIZE(pulls); k++)
		for (size_t i = 0; i < c->deps[pulls[k]].n; i++) {
			char *name = c->deps[pulls[k]].v[i];
			if (map_get(&before, name) || map_put(&after, name, c))
				continue;
			conf_list_add(p, &c->deps[DEP_AFTER], name);
		}
	map_done(&before);
	map_done(&after);
}

static void add_shutdown(struct parser *p)
{
	add_dep(p, DEP_CONFLICTS, "shutdown.target");
	add_dep(p, DEP_BEFORE, "shutdown.target");
}

static void add_default_dependencies(struct parser *p)
{
	static const char *const group_of[UNIT_TYPE_MAX] = {
		[UNIT_SOCKET] = "sockets.target",
		[UNIT_TIMER] = "timers.target",
		[UNIT_PATH] = "paths.target",
	};
	enum unit_type t = p->conf->type;
	if (t == UNIT_TARGET)
		order_target(p);
	if (!p->conf->default_dependencies)
		return;
	if (t == UNIT_SERVICE || group_of[t]) {
		add_dep(p, DEP_REQUIRES, "sysinit.target");
		add_dep(p, DEP_AFTER, "sysinit.target");
	}
	if (t == UNIT_SERVICE)
		add_dep(p, DEP_AFTER, "basic.target");
	if (group_of[t])
		add_dep(p, DEP_BEFORE, group_of[t]);
	if (t == UNIT_SERVICE || t == UNIT_TARGET || t == UNIT_SLICE || group_of[t])
		add_shutdown(p);
}

/* A D-Bus service starts after the bus. systemd also requires its socket; here the bus is not
 * watched (BusName= is partial), and a host without one must not fail for it. */
static void add_implied_dependencies(struct parser *p)
{
	if (p->conf->type == UNIT_SERVICE && p->conf->service.type == SERVICE_DBUS) {
		add_dep(p, DEP_AFTER, "dbus.socket");
		add_dep(p, DEP_AFTER, "dbus.service");
	}
	for (size_t i = 0; i < p->conf->service.sockets.n; i++)
		add_dep(p, DEP_AFTER, p->conf->service.sockets.v[i]);
}

void conf_complete(struct parser *p)
{
	struct unit_conf *c = p->conf;
	if (!c->description)
		c->description = c->name;
	complete_service(p);
	complete_sandbox(&c->exec);
	complete_ours(p);
	add_implied_dependencies(p);
	add_default_dependencies(p);
}

/* ---- what cannot work ---- */

static void verify_service(struct parser *p)
{
	const struct service_conf *s = &p->conf->service;
	size_t n = s->exec[EXEC_START].n;
	if (n == 0 &&
		(s->type != SERVICE_ONESHOT ||
			(s->exec[EXEC_STOP].n == 0 && p->conf->success_action == ACTION_NONE)))
		complain_file(p, S0201, NULL, "add ExecStart=/path/to/program to [Service]",
			"the service has no ExecStart=");
	else if (n == 0 && !s->remain_after_exit && p->conf->success_action == ACTION_NONE)
		complain_file(p, S0201, NULL, "add RemainAfterExit=yes",
			"without ExecStart= the service needs RemainAfterExit=yes");
	if (n > 1 && s->type != SERVICE_ONESHOT)
		complain_file(p, S0202, NULL,
			"use Type=oneshot, or ExecStartPre= for the first ones",
			"more than one ExecStart= with Type=%s", service_type_name(s->type));
	if (s->type == SERVICE_ONESHOT &&
		(s->restart.mode == RESTART_ALWAYS || s->restart.mode == RESTART_ON_SUCCESS))
		complain_file(p, S0203, NULL, "Restart=on-failure is allowed",
			"Restart=%s is not allowed with Type=oneshot",
			restart_mode_name(s->restart.mode));
	if (s->type == SERVICE_DBUS && !s->bus_name)
		complain_file(p, S0207, NULL, NULL, "Type=dbus without BusName=");
}

static void verify_ours(struct parser *p)
{
	const struct unit_conf *c = p->conf;
	const struct rollout_conf *r = &c->rollout;
	if (r->is_set && r->max_surge.value == 0 && r->max_unavailable.value == 0)
		complain_file(p, S0205, NULL, "allow one of them",
			"[X-Rollout] MaxSurge=0 and MaxUnavailable=0: no step is possible");
	if (!r->release_root != !r->release_link)
		complain_file(p, S0205, NULL, NULL,
			"[X-Rollout] ReleaseRoot= and ReleaseLink= belong together");
	if (c->lb.driver && (!c->lb.address.n || !c->lb.backend))
		complain_file(p, S0205, NULL, NULL,
			"[X-LoadBalancer] Driver= needs Address= and Backend=");
	if (!c->lb.driver && (c->lb.address.n || c->lb.backend))
		complain_file(p, S0205, NULL, "for example Driver=haproxy",
			"[X-LoadBalancer] has no Driver=");
	unsigned n_ports = c->replicas.port_first
				   ? 1u + c->replicas.port_last - c->replicas.port_first
				   : c->replicas.count;
	if (n_ports < c->replicas.count)
		complain_file(p, S0205, NULL, NULL, "[X-Replicas] Ports= has %u ports for Count=%u",
			n_ports, c->replicas.count);
}

void conf_verify(struct parser *p)
{
	if (p->conf->type == UNIT_SERVICE)
		verify_service(p);
	verify_ours(p);
}

/* ---- built-in units ---- */

static const struct {
	const char *name, *text;
} builtins[] = {
#define BUILTIN(name, text) {name, "[Unit]\n" text},
#include "builtin.def"
#undef BUILTIN
};

const char *builtin_text(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(builtins); i++)
		if (streq(builtins[i].name, name))
			return builtins[i].text;
	return NULL;
}

const char *builtin_name(size_t i)
{
	return i < ARRAY_SIZE(builtins) ? builtins[i].name : NULL;
}
