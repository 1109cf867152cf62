/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The core process: comes up, restores what was, turns (turn.c), leaves.
 *
 * Order of coming up, which is the same after a crash, a re-exec and an upgrade:
 *   options -> keeper (deposits, links, children) -> world -> records -> rollouts -> EV_RESTORED
 *   -> exits that waited -> control socket -> first start (only when there was no core before).
 */
#include "core/core.h"

#include "control/control.h"
#include "core/host.h"
#include "core/inner.h"

#include "confine/confine.h"

#include <jansson.h>
#include <malloc.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#define CONTROL_BACKLOG  128
#define DENIED_AGAIN_MAX 3 /* who may not read now seldom may in a moment; cf. store_look_again() */
#define BOOT_ID_TRIES    3
#ifndef SO_PASSRIGHTS
#	define SO_PASSRIGHTS                                                                      \
		83 /* since Linux 6.16: descriptors are turned away where they are sent */
#endif
/* Blocks from this size on are mappings of their own, gone when they are freed. */
#define ALLOC_MAPPED_MIN (256 * 1024)
#define LEAVE_MS         10000
#define STOP_BUDGET_DEFAULT                                                                        \
	(8 * USEC_PER_SEC) /* as PID 1 of a container: docker stop kills after 10 s */

/* ---- coming up ------------------------------------------------------------------------------------------- */

static int control_listen(struct core *c, int deposited_fd)
{
	c->control_fd = deposited_fd;
	if (c->control_fd < 0) {
		struct sockaddr_un a;
		unsigned len;
		int r = unix_addr(c->control_path, &a, &len);
		if (r < 0)
			return r;
		c->control_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
		if (c->control_fd < 0)
			return -errno;
		int off = 0;
		(void)setsockopt(c->control_fd, SOL_SOCKET, SO_PASSRIGHTS, &off, sizeof(off));
		if (!c->is_in_memory)
			(void)unlink(c->control_path);
		/* Its mode is of its birth: a chmod(2) afterwards could meet another file there. Who may
		 * do what is decided by peer credentials. */
		mode_t mask = umask(0);
		(void)fchmod(c->control_fd, 0666);
		int bound = bind(c->control_fd, (struct sockaddr *)&a, len);
		umask(mask);
		if (bound < 0 || listen(c->control_fd, CONTROL_BACKLOG) < 0)
			return -errno;
		keeper_put(c, "control", c->control_fd);
	}
	return control_new(
		&c->loop, c->control_fd, c->config_path, &daemon_for_control, c, &c->control);
}

static void restore_record(struct core *c, uint32_t slot, uint64_t generation, const char *name,
	const struct unit_rec *r, const struct unit_kept *kept, bool is_sound)
{
	struct unit *u = store_restore_unit(c, name, r);
	if (!streq(u->name, name))
		u = store_restore_former(c, name, u->name, r);
	if (!u)
		return;
	if (uc(u)->slot != UINT32_MAX && uc(u)->record_generation >= generation)
		return;
	uc(u)->slot = slot;
	uc(u)->record_generation = generation;
	uc(u)->kept = *kept;
	uc(u)->is_record_sound = is_sound;
	if (world_restore_unit(c->world, u, r) < 0)
		log_error(u->name, "its record is of another instance: ignored");
	else if (!unit_is_down(u) &&
		 (u->conf->load == LOAD_NOT_FOUND || u->conf->load == LOAD_MASKED))
		log_warn(u->name,
			"%s: it runs on, but what was to be done to stop and restart it is not known "
			"any more; put the file back, then stayctl daemon-reload",
			u->conf->load == LOAD_MASKED ? "it is masked" : "its file is gone");
}

/* Half of the files is another configuration, not a smaller one: members, counts, a rollout under way
 * would be missing. So another core tries, READ_AGAIN_MAX times: keeper remembers how often, and
 * lets some time pass in between. Then what can be read has to do, and the rest is looked for again
 * while we go on: store_look_again(). */
static int see_all_read(struct core *c)
{
	bool is_unit_unread = store_is_unread(c);
	unsigned n = files_unread() + c->n_state_unread + c->n_records_unread;
	if (!n && !is_unit_unread) {
		unread_forget_cores(c);
		return 0;
	}
	bool is_again = core_may_try_again(c, c->n_records_unread ? RECORD_AGAIN_MAX
					      : n                 ? READ_AGAIN_MAX
								  : DENIED_AGAIN_MAX);
	log_error(NULL, "files or directories could not be read: %s",
		is_again ? "trying again" : "going on without them");
	if (is_again)
		return -EAGAIN;
	unread_forget_cores(c);
	c->is_incomplete = is_unit_unread;
	if (c->is_incomplete)
		store_look_later(c);
	return 0;
}

/* From now on all that runs is keeper's, or deposited with it. */
static void keep_taken_over(struct core *c)
{
	if (c->is_first)
		keeper_put(c, "taken-over", c->keeper_fd);
}

static int restore(struct core *c)
{
	struct event restored = {.kind = EV_RESTORED};
	c->is_restoring = true;
	record_each(c, restore_record);
	store_load_closure(c);
	store_restore_counts(c);
	store_restore_rollouts(c);
	c->is_restoring = false;
	int r = see_all_read(c);
	if (r < 0)
		return r;
	(void)record_settle(c);
	if (c->is_first)
		adopt_find(c);
	keep_taken_over(c);
	keeper_adopt_begin(c);
	adopt_required(c);
	store_recount(c);
	port_owners_begin(c);
	core_step(c, &restored);
	keeper_adopt(c);
	return 0;
}

/* What a core before us began. */
static void shut_down_again(struct core *c, const char *deposit)
{
	char how[16] = "";
	int code = 0;
	(void)sscanf(deposit, SHUTDOWN_DEPOSIT "%d/%15s", &code, how);
	struct event ev = {.kind = EV_SHUTDOWN, .number = (uint64_t)code, .text = how};
	c->is_shutdown_kept = true;
	core_step(c, &ev);
}

/* Not what a daemon before us had: that goes on as it was, also when it was stopped since. */
static void start_unit(struct core *c, struct unit *u)
{
	struct request q = {.verb = REQ_START, .unit = u, .actor = "start-up"};
	if (uc(u)->slot == UINT32_MAX || c->has_begun_partly)
		core_submit(c, &q);
}

static int start_named(struct core *c, const char *name)
{
	struct err e = {0};
	CLEANUP_FREE char *full = unit_name_complete(name);
	struct set *s = core_find_set(c, name, NULL);
	if (s && s->is_template) {
		for (unsigned i = 0; i < s->count; i++)
			start_unit(c, s->members[i]);
		return 0;
	}
	struct unit *u = core_load_unit(c, full, &e);
	if (!u) {
		log_error(NULL, "%s", e.text);
		return e.code;
	}
	start_unit(c, u);
	return 0;
}

static int first_start(struct core *c)
{
	if (c->start_units.n == 0)
		strv_add(&c->start_units, "default.target");
	for (size_t i = 0; i < c->start_units.n; i++) {
		struct err e = {0}, unread = {0};
		CLEANUP_FREE char *full = unit_name_complete(c->start_units.v[i]);
		if (!core_find_set(c, c->start_units.v[i], &unread))
			(void)core_load_unit(c, full, &e);
		if (unread.code || e.code == -EIO) {
			log_error(NULL, "%s", unread.code ? unread.text : e.text);
			strv_add(&c->unread_names, full);
		}
	}
	int r = see_all_read(c);
	if (r < 0)
		return r;
	for (size_t i = 0; i < c->start_units.n; i++)
		start_named(c, c->start_units.v[i]);
	return 0;
}

/* A daemon of this boot was here and did not end by itself: its keeper was killed, or all of it. PID 1
 * takes everything with it, so whatever is recorded of another one is over. A core that did not get as
 * far as to take over has put our names into the lock. */
static bool has_predecessor(const struct core *c)
{
	bool may_have = c->n_slots || c->is_record_lost || c->had_holder || c->restarts_of_core;
	return (!c->is_init || c->is_keeper_anew) && may_have;
}

static int core_init(struct core *c, int argc, char **argv)
{
	c->keeper_fd = ROLE_KEEPER_FD;
	c->launcher_fd = c->launcher_pidfd = c->logger_fd = c->net_fd = c->notify_fd =
		c->control_fd = c->record_fd = -1;
	c->lock_fds[0] = c->lock_fds[1] = -1;
	c->cgroup_base_fd = -1;
	c->is_root = geteuid() == 0;
	c->keeper_pid = getppid();
	c->is_init = c->keeper_pid == 1;
	/* Nobody gave us /proc, or a real host's: the runtime of a container always gives one. */
	if (c->is_init && c->is_root && !getenv("container") &&
		(access("/proc/self", F_OK) < 0 || first_pid_namespace()))
		host_mounts();
	c->started_us = now_mono_us();
	c->started_wall_us = now_wall_us();
	for (int i = 0; i < BOOT_ID_TRIES && id128_is_null(&c->boot); i++)
		boot_id(&c->boot);
	if (files_unread()) /* records of another boot are cleared: this has to be right */
		return -EAGAIN;
	launch_probe(&c->caps);
	c->is_container = c->caps.is_container;
	int r = options_parse(c, argc, argv);
	if (r == 0)
		r = options_make_dirs(c);
	if (r == 0)
		r = loop_init(&c->loop);
	c->loop.on_timer = core_on_timer;
	c->loop.before_wait = core_before_wait;
	if (c->is_init && c->is_container)
		c->logs_to_console = true;
	if (c->is_init && c->is_container)
		c->stop_budget_len_us = STOP_BUDGET_DEFAULT;
	const char *budget = getenv("STAYD_STOP_BUDGET");
	if (budget)
		(void)parse_timespan(budget, USEC_PER_SEC, &c->stop_budget_len_us, NULL);
	return r;
}

static int core_come_up(struct core *c)
{
	uint64_t seed;
	random_bytes(&seed, sizeof(seed));
	c->world = world_new(seed | 1);
	c->world->now_us = now_mono_us();
	c->world->wall_us = now_wall_us();
	int r = keeper_connect(c);
	if (r < 0)
		return r;
	if (c->is_dir_unsafe)
		return -EPERM;
#ifdef STAYD_NEXT
	const char *hangs = getenv("STAYD_NEXT_HANGS");
	while (hangs && streq(hangs, "late"))
		(void)poll(NULL, 0, -1);
#endif
	unread_count_cores(c);
	r = lock_take(c);
	if (r < 0)
		return r;
	r = cgroup_setup(c);
	if (r < 0)
		return r;
	memory_begin(c);
	r = record_open(c, deposit_take("state"));
	if (r < 0)
		return r;
	r = notify_open(c, deposit_take("notify"));
	if (r < 0)
		return r;
	int control = deposit_take("control");
	int begun = deposit_take("begun"); /* by a core before us: it lived to start the units */
	int partly = deposit_take("begun-partly");
	int taken = deposit_take("taken-over");
	c->has_begun_partly = partly >= 0;
	/* A keeper of the version before this one has been told of no more than the start. */
	c->is_first = taken < 0 && begun < 0 && partly < 0;
	fd_close(partly);
	fd_close(taken);
	if (c->is_keeper_anew)
		reexec_forgot(c);
	char shutdown[KP_NAME_MAX] = "";
	fd_close(deposit_take_like(SHUTDOWN_DEPOSIT, shutdown));
	if (!c->is_first || has_predecessor(c)) {
		r = restore(c);
	} else {
		r = record_clear(c);
		keep_taken_over(c);
		keeper_adopt_begin(c);
		keeper_adopt(c);
	}
	if (r < 0)
		return r;
	if (shutdown[0])
		shut_down_again(c, shutdown);
	r = control_listen(c, control);
	if (r < 0)
		return r;
	if (!c->restarts_of_core || begun < 0) {
		r = first_start(c);
		if (r < 0)
			return r;
		record_write_dirty(c);
		/* any descriptor: the name is what counts */
		keeper_put(c, c->is_incomplete ? "begun-partly" : "begun", c->notify_fd);
		if (c->has_begun_partly && !c->is_incomplete)
			keeper_drop(c, "begun-partly");
	}
	fd_close(begun);
	keeper_role(c, ROLE_CORE, true); /* from here on a new program is one to stay with */
	core_arm(c);
	return 0;
}

/* From here on: no programs, no mounts, no other identities, and few capabilities (confine/). What
 * needs more is behind us (mounting a bare machine, trying what this host allows) or the launcher's. */
static int core_confine(struct core *c)
{
	struct err e = {0};
	launch_getent_by(core_getent, c);
	launch_remove_by(core_remove, c);
	c->can_give_logs_away = confine_can_change_user();
	int r = confine(ROLE_CORE, &e);
	if (r < 0)
		log_error(NULL, "%s", e.text);
	return r;
}

/* Trying again is of no use: keeper is to end too, not to start us again. It ends us. */
static void leave_for_good(struct core *c, int status)
{
	struct pollfd p = {.fd = c->keeper_fd, .events = 0};
	keeper_exit(c, status, NULL);
	(void)poll(&p, 1, LEAVE_MS);
}

/* Has nothing begun, and will nothing change? A host's PID 1 stays: a person may still repair it. */
static bool is_settled(const struct core *c)
{
	return c->is_dir_unsafe && !c->restarts_of_core && (!c->is_init || c->is_container);
}

int core_main(int argc, char **argv)
{
	static struct core core;
	struct core *c = &core;
	log_open("stayd", getenv("STAYD_DEBUG") ? LOG_TRACE : LOG_INFORM);
	log_keep();
	(void)prctl(PR_SET_NAME, "stayd-core");
	/* Left alone, the allocator raises this to the largest block ever freed, and a unit file of
	 * 10 MB that was looked at once costs 20 MB for good. */
	(void)mallopt(M_MMAP_THRESHOLD, ALLOC_MAPPED_MIN);
	json_set_alloc_funcs(xmalloc, free); /* no memory is one thing everywhere: see oom() */
	signal(SIGPIPE, SIG_IGN);
#ifdef STAYD_NEXT
	const char *hangs =
		getenv("STAYD_NEXT_HANGS"); /* a version that does not come up, for tests */
	if (hangs && !streq(hangs, "late"))
		pause();
#endif
	int r = core_init(c, argc, argv);
	if (r == 0)
		r = core_confine(c);
	if (r == 0)
		r = core_come_up(c);
	if (r == -EBUSY) /* another daemon works here */
		leave_for_good(c, STAY_EXIT_ALREADY_RUNNING);
	if (r == -EPERM && is_settled(c))
		leave_for_good(c, STAY_EXIT_NOT_CONFIGURED);
	if (r < 0) {
		log_error(NULL, "cannot start: %s", errno_name(r));
		return EXIT_FAILURE;
	}
	log_hold();
	r = loop_run(&c->loop);
	core_before_wait(&c->loop);
	return r;
}
