/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The core process: comes up, restores what was, then turns.
 *
 * Order of coming up, which is the same after a crash, a re-exec and an upgrade:
 *   options -> keeper (deposits, links, children) -> world -> records -> rollouts -> EV_RESTORED
 *   -> exits that waited -> control socket -> first start (only when there was no core before).
 */
#include "core/core.h"

#include "core/inner.h"

#include "confine/confine.h"

#include <fcntl.h>
#include <getopt.h>
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
#define AGAIN_US         (500 * USEC_PER_MSEC)
#ifndef SO_PASSRIGHTS
#	define SO_PASSRIGHTS                                                                      \
		83 /* since Linux 6.16: descriptors are turned away where they are sent */
#endif
/* Blocks from this size on are mappings of their own, gone when they are freed. */
#define ALLOC_MAPPED_MIN (256 * 1024)
#define LEAVE_MS         10000
#define STOP_BUDGET_DEFAULT                                                                        \
	(8 * USEC_PER_SEC) /* as PID 1 of a container: docker stop kills after 10 s */

/* ---- one event ---------------------------------------------------------------------------------- */

/* Events that come up while effects are performed wait until the list is done: effects of one
 * step are never interleaved with those of another. */
struct queued_event {
	struct event ev;
	char *text;
	struct lb_sample sample;
};

static struct queued_event *queued;
static size_t n_queued, cap_queued, head_queued;

static void enqueue(const struct event *ev)
{
	assert(ev->kind != EV_REQUEST);
	GROW(queued, n_queued, cap_queued);
	struct queued_event *q = &queued[n_queued++];
	q->ev = *ev;
	q->text = ev->text ? xstrdup(ev->text) : NULL;
	if (ev->sample)
		q->sample = *ev->sample;
}

static void step_once(struct core *c, struct event *ev)
{
	ev->now_us = now_mono_us();
	ev->wall_us = now_wall_us();
	effects_reset(&c->fx);
	int r = world_step(c->world, ev, &c->fx);
	if (r < 0)
		log_error(ev->unit ? ev->unit->name : NULL, "event %d cannot be: %s", (int)ev->kind,
			errno_name(r));
	core_tell(c, &c->fx);
	bool is_named = ev->kind == EV_MAIN_PID && ev->pid && main_is_named(ev->unit, ev->pid);
	if (core_acts(&c->fx) || is_named)
		record_write_dirty(c);
	if (is_named)
		main_pid_changed(c, ev->unit, ev->pid);
	core_perform(c, &c->fx);
}

void core_step(struct core *c, struct event *ev)
{
	if (c->is_stepping) {
		enqueue(ev);
		return;
	}
	c->is_stepping = true;
	step_once(c, ev);
	while (head_queued < n_queued) {
		struct queued_event q = queued[head_queued++];
		q.ev.text = q.text;
		if (q.ev.sample)
			q.ev.sample = &q.sample;
		step_once(c, &q.ev);
		free(q.text);
	}
	n_queued = head_queued = 0;
	c->is_stepping = false;
	core_arm(c);
}

/* ---- time ------------------------------------------------------------------------------------------- */

void core_arm(struct core *c)
{
	uint64_t due = world_next_deadline(c->world);
	due = MIN(due, launcher_probe_deadline(c));
	due = MIN(due, launcher_watch_deadline(c));
	if (c->relist_at_us)
		due = MIN(due, c->relist_at_us);
	if (c->stop_budget_us)
		due = MIN(due, c->stop_budget_us);
	if (c->again_us)
		due = MIN(due, c->again_us);
	if (c->unread_at_us)
		due = MIN(due, c->unread_at_us);
	if (c->log_sync_until_us)
		due = MIN(due, c->log_sync_until_us);
	if (c->notify_rest_us)
		due = MIN(due, c->notify_rest_us);
	loop_arm(&c->loop, due);
}

void core_again(struct core *c)
{
	if (c->again_us)
		return;
	c->again_us = now_mono_us() + AGAIN_US;
	core_arm(c);
}

void core_trouble(struct core *c, enum trouble kind, const char *text)
{
	char *now = c->trouble[kind];
	if (text && !*now)
		log_warn(NULL, "%s", text);
	else if (!text && *now)
		log_note(NULL, "over: %s", now);
	str_copy(now, strna(text), TROUBLE_TEXT_MAX);
}

/* The container's runtime kills everything soon: better we do, and in order. */
static void stop_budget_spent(struct core *c)
{
	c->stop_budget_us = 0;
	log_warn(NULL, "the time to stop is over: killing what is left");
	for (size_t i = 0; i < c->world->n_units; i++)
		if (!unit_is_down(c->world->units[i]))
			cgroup_kill(c, c->world->units[i], KILL_WHO_ALL, SIGKILL);
}

static void on_timer(struct loop *l)
{
	struct core *c = container_of(l, struct core, loop);
	struct event ev = {.kind = EV_TIME};
	uint64_t now = now_mono_us();
	if (c->log_sync_until_us && now >= c->log_sync_until_us)
		logger_sync_over(c);
	if (c->notify_rest_us && now >= c->notify_rest_us)
		notify_rested(c);
	launcher_probe_timeouts(c);
	launcher_watch(c);
	if (c->relist_at_us && now >= c->relist_at_us) {
		c->relist_at_us = 0;
		keeper_relist(c);
	}
	if (c->stop_budget_us && now >= c->stop_budget_us)
		stop_budget_spent(c);
	if (c->again_us && now >= c->again_us) {
		c->again_us = 0;
		(void)record_settle(c);
		record_write_dirty(c);
		keeper_watch_again(c);
		cgroup_kill_again(c);
		cgroup_check_again(c);
		journal_again(c);
	}
	if (c->unread_at_us && now >= c->unread_at_us)
		store_look_again(c);
	core_step(c, &ev);
}

static void before_wait(struct loop *l)
{
	struct core *c = container_of(l, struct core, loop);
	record_write_dirty(c);
	keeper_flush(c);
	log_flush();
}

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

static int parse_options(struct core *c, int argc, char **argv)
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

/* ---- coming up ------------------------------------------------------------------------------------------- */

static int make_dir(const char *dir)
{
	int r = mkdir_parents(dir, 0755);
	return r < 0 ? r : faccessat(AT_FDCWD, dir, W_OK, AT_EACCESS) < 0 ? -errno : 0;
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

static int make_dirs(struct core *c)
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
	c->has_state_dir = make_lasting_dir(c, &c->state_dir, "lib",
				   "what is enabled, deployed or scaled") >= 0;
	c->is_log_volatile = make_lasting_dir(c, &c->log_dir, "log", "output of services") > 0;
	c->notify_path = xasprintf("%s/notify", c->runtime_dir);
	c->control_path = xasprintf("%s/control.sock", c->runtime_dir);
	return 0;
}

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
	return control_new(&c->loop, c->control_fd, c->config_path, c, &c->control);
}

static void restore_record(struct core *c, uint32_t slot, uint64_t generation, const char *name,
	const struct unit_rec *r, const struct unit_kept *kept, bool is_sound)
{
	struct unit *u = store_restore_unit(c, name, r);
	if (uc(u)->slot != UINT32_MAX && uc(u)->record_generation >= generation)
		return;
	uc(u)->slot = slot;
	uc(u)->record_generation = generation;
	uc(u)->kept = *kept;
	uc(u)->is_record_sound = is_sound;
	if (world_restore_unit(c->world, u, r) < 0)
		log_error(u->name, "its record is of another instance: ignored");
}

static void unread_name(char name[KP_NAME_MAX], unsigned n)
{
	snprintf(name, KP_NAME_MAX, "unread/%u", n);
}

static void count_unread_cores(struct core *c)
{
	for (unsigned i = 1; i <= RECORD_AGAIN_MAX; i++) {
		char name[KP_NAME_MAX];
		unread_name(name, i);
		int fd = deposit_take(name);
		c->n_unread_cores = fd >= 0 ? i : c->n_unread_cores;
		fd_close(fd);
	}
}

static void forget_unread_cores(struct core *c)
{
	char name[KP_NAME_MAX];
	unread_name(name, c->n_unread_cores);
	if (c->n_unread_cores)
		keeper_drop(c, name);
}

bool core_may_try_again(struct core *c, unsigned max)
{
	char name[KP_NAME_MAX];
	if (c->n_unread_cores >= max)
		return false;
	forget_unread_cores(c);
	unread_name(name, c->n_unread_cores + 1);
	keeper_put(c, name, c->keeper_fd);
	return true;
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
		forget_unread_cores(c);
		return 0;
	}
	bool is_again = core_may_try_again(c, c->n_records_unread ? RECORD_AGAIN_MAX
					      : n                 ? READ_AGAIN_MAX
								  : DENIED_AGAIN_MAX);
	log_error(NULL, "files or directories could not be read: %s",
		is_again ? "trying again" : "going on without them");
	if (is_again)
		return -EAGAIN;
	forget_unread_cores(c);
	c->is_incomplete = is_unit_unread;
	if (c->is_incomplete)
		store_look_later(c);
	return 0;
}

static int restore(struct core *c)
{
	struct event restored = {.kind = EV_RESTORED};
	c->is_restoring = true;
	record_each(c, restore_record);
	store_load_closure(c);
	store_restore_rollouts(c);
	c->is_restoring = false;
	int r = see_all_read(c);
	if (r < 0)
		return r;
	(void)record_settle(c);
	if (!c->restarts_of_core)
		adopt_find(c);
	keeper_adopt_begin(c);
	adopt_required(c);
	core_step(c, &restored);
	keeper_adopt(c);
	return 0;
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
 * takes everything with it, so whatever is recorded of one of those is over. */
static bool has_predecessor(const struct core *c)
{
	return !c->is_init && (c->n_slots || c->is_record_lost || c->had_holder);
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
	int r = parse_options(c, argc, argv);
	if (r == 0)
		r = make_dirs(c);
	if (r == 0)
		r = loop_init(&c->loop);
	c->loop.on_timer = on_timer;
	c->loop.before_wait = before_wait;
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
	count_unread_cores(c);
	r = lock_take(c);
	if (r < 0)
		return r;
	r = cgroup_setup(c);
	if (r < 0)
		return r;
	r = record_open(c, deposit_take("state"));
	if (r < 0)
		return r;
	r = notify_open(c, deposit_take("notify"));
	if (r < 0)
		return r;
	int control = deposit_take("control");
	int begun = deposit_take("begun"); /* by a core before us: it lived to start the units */
	int partly = deposit_take("begun-partly");
	c->has_begun_partly = partly >= 0;
	fd_close(partly);
	if (c->restarts_of_core || has_predecessor(c)) {
		r = restore(c);
	} else {
		r = record_clear(c);
		keeper_adopt_begin(c);
		keeper_adopt(c);
	}
	if (r < 0)
		return r;
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
	(void)prctl(PR_SET_NAME, "stayd-core");
	/* Left alone, the allocator raises this to the largest block ever freed, and a unit file of
	 * 10 MB that was looked at once costs 20 MB for good. */
	(void)mallopt(M_MMAP_THRESHOLD, ALLOC_MAPPED_MIN);
	json_set_alloc_funcs(xmalloc, free); /* no memory is one thing everywhere: see oom() */
	signal(SIGPIPE, SIG_IGN);
#ifdef STAYD_NEXT
	if (getenv("STAYD_NEXT_HANGS")) /* a next version that does not come up, for tests */
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
	before_wait(&c->loop);
	return r;
}
