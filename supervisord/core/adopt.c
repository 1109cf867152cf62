/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Processes of units that are not keeper's children: a keeper before ours started them and died; or a
 * service named one as its main that has another parent (adopt_track()).
 *
 * The former are found by their records, by their cgroup or below their shim, proved to be who they are,
 * and then stand in core's list of children (keeper_know()) like those that keeper tells of. From
 * there on everything is as after a restart of core alone.
 *
 *  1. A process is taken over only as the same one: its pidfd is opened first, then its start time
 *     must lie in the recorded window, and it must be in the unit's cgroup, below a shim, or
 *     have the recorded INVOCATION_ID in its environment.
 *  2. Its pidfd is watched here and deposited with keeper ("adopted/..."): a core that dies loses
 *     neither the process nor, from Linux 6.15 on, its exit status. Where the kernel does not tell a
 *     status the exit is reported as lost, which Restart= treats as a failure.
 *  3. A process that stayd itself has started (SYSTEMD_EXEC_PID= is its own pid) and that no record
 *     knows is killed, as one of keeper's is; but not when the unit's record is missing or damaged.
 *     Then it is taken for the main process: a damaged file must not end a healthy service.
 *
 * Called by main.c (coming up) and keeper.c (whenever a process may be one of these).
 */
#include "core/inner.h"
#include "core/procfs.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/stat.h>

/* A child that was born in the last moment of its keeper may not have reached its exec yet: only then
 * does it say whose it is. */
#define BORN_LOOKS     5
#define BORN_LOOK_US   (20 * USEC_PER_MSEC)
#define SHIM_NAME      "stayd-shim"         /* of launch/: what the kernel calls it */
#define LAUNCHER_NAME  "stayd-launcher"     /* and its children until their exec */
#define CLOCK_SLACK_US (20 * USEC_PER_MSEC) /* two ticks of the kernel's start time */

struct adopted {
	struct source source; /* fd: the pidfd */
	struct core *c;
	struct unit *unit; /* NULL: taken over by a core before us */
	struct kp_frame f; /* as keeper would tell of it; code 0: alive */
	struct adopted *next;
};
static struct adopted *all;

/* ---- the entries -------------------------------------------------------------------------------- */

static void name_of(const struct kp_frame *f, char out[KP_NAME_MAX])
{
	struct id128 id;
	char hex[ID128_HEX];
	memcpy(id.b, f->id.invocation, sizeof(id.b));
	snprintf(out, KP_NAME_MAX, "adopted/%s/%u/%d/%d/%d", id128_hex(hex, &id), f->id.seq,
		f->role, f->pid, f->program);
}

static void tell(struct adopted *a)
{
	struct kp_frame f = a->f;
	f.kind = KP_EXITED;
	keeper_child_exited(a->c, &f); /* and a is gone, by adopt_forget() */
}

static void entry_free(struct core *c, struct adopted **p)
{
	struct adopted *a = *p;
	char name[KP_NAME_MAX];
	*p = a->next;
	name_of(&a->f, name);
	keeper_drop(c, name);
	loop_remove(&c->loop, &a->source);
	fd_close(a->source.fd);
	free(a);
}

/* It may have become keeper's, when its parent ended: keeper tells, or refuses. */
static void ask(struct adopted *a)
{
	struct core *c = a->c;
	const struct spawn_id id = a->f.id;
	pid_t pid = a->f.pid;
	struct adopted **p = &all;
	while (*p != a)
		p = &(*p)->next;
	entry_free(c, p);
	keeper_track(c, &id, pid);
}

static void look(struct adopted *a)
{
	int code = EXIT_UNKNOWN, status = 0;
	int r = pidfd_status(a->source.fd, a->f.pid, &code, &status);
	if (r < 0)
		log_note(NULL, "pid %d has ended; its status is not known (%s)", a->f.pid,
			errno_name(r));
	a->f.code = code;
	a->f.status = status;
	a->f.time_us = now_mono_us();
}

/* A shim ends right behind its program, whose end is told first. */
static struct adopted *ended_below(const struct adopted *shim)
{
	for (struct adopted *a = all; a; a = a->next)
		if (a->f.role == KP_ROW_BELOW && a != shim && !a->f.code &&
			memcmp(&a->f.id, &shim->f.id, sizeof(a->f.id)) == 0 &&
			pidfd_has_ended(a->source.fd))
			return a;
	return NULL;
}

static void on_adopted(struct source *s, uint32_t events)
{
	struct adopted *a = container_of(s, struct adopted, source), *below;
	(void)events;
	if (a->f.role == KP_ROW_CHILD && (below = ended_below(a))) {
		look(below);
		tell(below); /* we are woken again for a */
		return;
	}
	look(a);
	if (a->f.role == KP_ROW_TRACKED && a->f.code == EXIT_UNKNOWN)
		ask(a);
	else
		tell(a);
}

static struct adopted *entry_new(struct core *c, const struct kp_frame *f, int pidfd)
{
	struct adopted *a = xcalloc(1, sizeof(*a));
	a->c = c;
	a->f = *f;
	a->source.fd = pidfd;
	if (pidfd_has_ended(pidfd))
		look(a);
	else
		(void)loop_add(&c->loop, &a->source, pidfd, EPOLLIN, PRIO_KEEPER, on_adopted);
	a->next = all;
	all = a;
	return a;
}

/* Takes pidfd. */
static void take(struct core *c, struct unit *u, const struct spawn_id *id, enum kp_row row,
	pid_t pid, pid_t program, int pidfd)
{
	struct kp_frame f = {
		.kind = KP_CHILD, .role = row, .id = *id, .pid = pid, .program = program};
	char name[KP_NAME_MAX];
	name_of(&f, name);
	keeper_put(c, name, pidfd);
	struct adopted *a = entry_new(c, &f, pidfd);
	a->unit = u;
	/* What ended below a shim is news of its own; what lives below is told by the shim's row. */
	if (row == KP_ROW_CHILD || a->f.code)
		keeper_know(&a->f);
}

/* A core before us died while it took over, and we have found the process ourselves. */
static bool is_found_again(struct core *c, const struct kp_frame *f, const char *name, int fd)
{
	for (struct adopted *a = all; a; a = a->next) {
		if (a->f.pid != f->pid || a->f.role != f->role || pidfd_has_ended(fd))
			continue;
		if (memcmp(&a->f.id, &f->id, sizeof(f->id)) != 0)
			keeper_drop(c, name);
		return true;
	}
	return false;
}

bool adopt_deposit(struct core *c, const char *name, int fd)
{
	struct kp_frame f = {.kind = KP_CHILD};
	char hex[ID128_HEX];
	unsigned row;
	if (sscanf(name, "adopted/%32[0-9a-f]/%u/%u/%d/%d", hex, &f.id.seq, &row, &f.pid,
		    &f.program) != 5 ||
		strlen(hex) != 32)
		return false;
	for (unsigned i = 0; i < sizeof(f.id.invocation); i++)
		(void)sscanf(hex + 2 * (size_t)i, "%2hhx", &f.id.invocation[i]);
	f.role = (uint16_t)row;
	if (is_found_again(c, &f, name, fd)) {
		fd_close(fd);
		return true;
	}
	struct adopted *a = entry_new(c, &f, fd);
	if (row != KP_ROW_BELOW || a->f.code)
		keeper_know(&a->f);
	return true;
}

bool adopt_forget(struct core *c, const struct spawn_id *id, pid_t pid)
{
	bool is_ours = false;
	for (struct adopted **p = &all, *a; (a = *p);) {
		bool is_it = memcmp(&a->f.id, id, sizeof(*id)) == 0 && (!pid || pid == a->f.pid) &&
			     a->f.code;
		is_ours |= is_it;
		if (is_it) {
			record_write_dirty(c); /* an exit is forgotten once it is written */
			entry_free(c, p);
		} else {
			p = &a->next;
		}
	}
	return is_ours;
}

bool adopt_signal(const struct spawn_id *id, int signo, int then)
{
	struct adopted *to = NULL;
	for (struct adopted *a = all; a; a = a->next)
		if (!a->f.code && a->f.role != KP_ROW_BELOW &&
			memcmp(&a->f.id, id, sizeof(*id)) == 0 &&
			(!to || a->f.role == KP_ROW_CHILD))
			to = a;
	if (!to)
		return false;
	(void)pidfd_signal(to->source.fd, signo);
	if (then)
		(void)pidfd_signal(to->source.fd, then);
	return true;
}

/* By keeper, or by a shim of its own? Both tell. If that cannot be seen, no: a pidfd tells of anybody. */
static bool is_reaped_by_us(struct core *c, pid_t pid)
{
	struct proc_stat s;
	int r = procfs_stat(pid, &s);
	if (r < 0)
		return r == -ENOENT || r == -ESRCH; /* who is gone keeper may have met */
	if (s.parent == c->keeper_pid)
		return true;
	const struct proc *p = proc_find_pid(&c->procs, s.parent);
	return p && p->shim_pid == s.parent && proc_is_below(s.parent, c->keeper_pid);
}

int adopt_track(struct core *c, const struct spawn_id *id, pid_t pid)
{
	if (is_reaped_by_us(c, pid))
		return 0;
	int fd = pidfd_of(pid);
	if (fd < 0)
		return fd == -ESRCH ? 0 : fd;
	struct kp_frame f = {.kind = KP_CHILD, .role = KP_ROW_TRACKED, .id = *id, .pid = pid};
	char name[KP_NAME_MAX];
	name_of(&f, name);
	keeper_put(c, name, fd);
	struct adopted *a = entry_new(c, &f, fd);
	if (a->f.code) /* faster than we: the loop tells of it, not this step */
		(void)loop_add(&c->loop, &a->source, fd, EPOLLIN, PRIO_KEEPER, on_adopted);
	return 1;
}

/* ---- who is it? ----------------------------------------------------------------------------------- */

/* One process that may be a unit's. */
struct candidate {
	pid_t pid, shim;    /* shim 0: tracked by cgroup */
	int pidfd, shim_fd; /* -1: taken */
	struct proc_stat stat;
	struct id128 invocation; /* of its environment; null = none there */
	bool is_ours; /* started by stayd itself, not by another process of the service */
	char unit[UNIT_NAME_MAX + 1];
	uint16_t port;
	char release[RELEASE_NAME_MAX + 1];
};
static struct candidate *found;
static size_t n_found, cap_found;

static void id_parse(const char *hex, struct id128 *ret)
{
	for (size_t i = 0; hex && strlen(hex) == 32 && i < sizeof(ret->b); i++)
		(void)sscanf(hex + 2 * i, "%2hhx", &ret->b[i]);
}

/* STAYD_UNIT=RUNTIME-DIR/UNIT of our runtime directory. */
static const char *unit_of_environ(const struct core *c, const struct buf *env)
{
	const char *v = environ_get(env, "STAYD_UNIT");
	size_t n = strlen(c->runtime_dir);
	return v && strncmp(v, c->runtime_dir, n) == 0 && v[n] == '/' ? v + n + 1 : NULL;
}

static bool read_environ(const struct core *c, struct candidate *k)
{
	struct buf env = {0};
	bool is_here = procfs_environ(k->pid, &env) == 0 && env.size;
	const char *unit = is_here ? unit_of_environ(c, &env) : NULL;
	if (is_here) {
		const char *pid = environ_get(&env, "SYSTEMD_EXEC_PID");
		id_parse(environ_get(&env, "INVOCATION_ID"), &k->invocation);
		k->is_ours = pid && strtol(pid, NULL, 10) == k->pid;
		k->port = (uint16_t)strtoul(strna(environ_get(&env, "PORT")), NULL, 10);
		str_copy(k->release, strna(environ_get(&env, "RELEASE")), sizeof(k->release));
	}
	if (unit && !k->unit[0])
		str_copy(k->unit, unit, sizeof(k->unit));
	buf_done(&env);
	return unit != NULL;
}

static struct candidate *candidate_add(pid_t pid, const char *unit)
{
	int fd = pidfd_of(pid);
	struct candidate k = {.pid = pid, .pidfd = fd, .shim_fd = -1};
	if (fd < 0)
		return NULL;
	if (procfs_stat(pid, &k.stat) < 0) {
		fd_close(fd);
		return NULL;
	}
	str_copy(k.unit, unit, sizeof(k.unit));
	GROW(found, n_found, cap_found);
	found[n_found] = k;
	return &found[n_found++];
}

static void candidate_drop(void)
{
	n_found--;
	fd_close(found[n_found].pidfd);
	fd_close(found[n_found].shim_fd);
}

/* Everybody in the cgroups below ours. A pid read there counts if it is there still, now that its
 * pidfd is open. */
static void find_in_cgroups(struct core *c)
{
	DIR *d = fdopendir(openat(c->cgroup_base_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
	for (struct dirent *e; d && (e = readdir(d));) {
		struct buf b = {0};
		char *save = NULL;
		if (e->d_type != DT_DIR || e->d_name[0] == '.' || !unit_name_is_valid(e->d_name))
			continue;
		CLEANUP_FREE char *path = xasprintf("%s/cgroup.procs", e->d_name);
		(void)read_file(c->cgroup_base_fd, path, CGROUP_PROCS_MAX, &b);
		for (char *line = b.data ? strtok_r(b.data, "\n", &save) : NULL; line;
			line = strtok_r(NULL, "\n", &save)) {
			struct candidate *k =
				candidate_add((pid_t)strtol(line, NULL, 10), e->d_name);
			CLEANUP_FREE char *now = k ? cgroup_unit_name(c, k->pid) : NULL;
			if (k && !(now && streq(now, e->d_name)))
				candidate_drop();
			else if (k)
				(void)read_environ(c, k);
		}
		buf_done(&b);
	}
	if (d)
		closedir(d);
}

static bool is_in_window(const struct candidate *k, const struct run_window *w)
{
	return k->stat.start_us + CLOCK_SLACK_US >= w->from_us &&
	       (!w->to_us || k->stat.start_us <= w->to_us + CLOCK_SLACK_US);
}

/* Without CAP_SYS_PTRACE, as in containers, the environment of a process with more capabilities than ours
 * is closed to us: then it is the one with the recorded pid that began at the recorded time. */
static bool is_recorded(const struct core *c, struct candidate *k)
{
	for (size_t i = 0; i < c->world->n_units; i++) {
		const struct unit *u = c->world->units[i];
		const struct unit_rec *r = &u->rec;
		if ((r->main_pid == k->pid && is_in_window(k, &uc(u)->kept.main)) ||
			(r->control_pid == k->pid && is_in_window(k, &uc(u)->kept.control))) {
			str_copy(k->unit, u->name, sizeof(k->unit));
			return true;
		}
	}
	return false;
}

/* Whose shim? The first below it that says so; it may be the program or what it left behind. */
static void find_below_shim(struct core *c, pid_t shim)
{
	CLEANUP_CLOSE int shim_fd = pidfd_of(shim);
	pid_t *v;
	size_t n = shim_fd < 0 ? 0 : tree_pids(shim, &v);
	for (size_t i = 1; i < n; i++) {
		struct candidate *k = candidate_add(v[i], "");
		if (!k)
			continue;
		k->shim = shim;
		k->shim_fd = fcntl(shim_fd, F_DUPFD_CLOEXEC, 0);
		if (!proc_is_below(v[i], shim) || !(read_environ(c, k) || is_recorded(c, k)))
			candidate_drop();
	}
	if (n)
		free(v);
}

static void find_below_shims(struct core *c)
{
	DIR *d = opendir("/proc");
	for (struct dirent *e; d && (e = readdir(d));) {
		pid_t pid = (pid_t)strtol(e->d_name, NULL, 10);
		struct proc_stat s;
		if (pid > 1 && procfs_stat(pid, &s) == 0 && streq(s.name, SHIM_NAME))
			find_below_shim(c, pid);
	}
	if (d)
		closedir(d);
}

static void forget_found(void)
{
	while (n_found)
		candidate_drop();
	free(TAKE_PTR(found));
	cap_found = 0;
}

/* ---- taking over ---------------------------------------------------------------------------------- */

/* By unit, then by age: a main process is older than its children. */
static int by_unit(const void *a, const void *b)
{
	const struct candidate *x = a, *y = b;
	int r = strcmp(x->unit, y->unit);
	if (r == 0)
		r = (x->stat.start_us > y->stat.start_us) - (x->stat.start_us < y->stat.start_us);
	return r ? r : (x->pid > y->pid) - (x->pid < y->pid);
}

static void find_all(struct core *c)
{
	forget_found();
	if (c->cgroup_base)
		find_in_cgroups(c);
	else
		find_below_shims(c);
	if (n_found)
		qsort(found, n_found, sizeof(*found), by_unit);
}

/* The first candidate of the unit; *ret_n of them stand together. */
static struct candidate *candidates_of(const struct unit *u, size_t *ret_n)
{
	size_t low = 0, high = n_found;
	while (low < high) {
		size_t mid = (low + high) / 2;
		if (strcmp(found[mid].unit, u->name) < 0)
			low = mid + 1;
		else
			high = mid;
	}
	for (*ret_n = 0; low + *ret_n < n_found && streq(found[low + *ret_n].unit, u->name);)
		++*ret_n;
	return &found[low];
}

static bool is_same_invocation(const struct spawn_id *id, const struct candidate *k)
{
	return memcmp(k->invocation.b, id->invocation, sizeof(id->invocation)) == 0;
}

static void take_candidate(
	struct core *c, struct unit *u, struct candidate *k, const struct spawn_id *id)
{
	if (!k->shim) {
		take(c, u, id, KP_ROW_CHILD, k->pid, 0, TAKE_FD(k->pidfd));
		return;
	}
	take(c, u, id, KP_ROW_BELOW, k->pid, 0, TAKE_FD(k->pidfd));
	take(c, u, id, KP_ROW_CHILD, k->shim, k->pid, TAKE_FD(k->shim_fd));
}

/* The recorded process has left its cgroup: it may still have its environment. */
static bool take_by_pid(struct core *c, struct unit *u, const struct spawn_id *id, pid_t pid,
	const struct run_window *w)
{
	struct candidate *k = c->cgroup_base ? candidate_add(pid, u->name) : NULL;
	if (!k)
		return false;
	(void)read_environ(c, k);
	bool is_it = is_in_window(k, w) && is_same_invocation(id, k);
	if (is_it)
		take_candidate(c, u, k, id);
	candidate_drop();
	return is_it;
}

static bool take_recorded(struct core *c, struct unit *u, const struct spawn_id *id, pid_t pid,
	const struct run_window *w)
{
	size_t n;
	struct candidate *k = candidates_of(u, &n);
	for (size_t i = 0; i < n; i++, k++) {
		bool is_it = pid ? k->pid == pid && is_in_window(k, w)
				 : k->is_ours && is_same_invocation(id, k) &&
					     k->pid != u->rec.main_pid &&
					     k->pid != u->rec.control_pid;
		if (k->pidfd >= 0 && is_it) {
			take_candidate(c, u, k, id);
			return true;
		}
	}
	return pid && take_by_pid(c, u, id, pid, w);
}

/* False: one of it was asked for, and its launcher never said what became of it; look again. */
static bool take_recorded_of(struct core *c, struct unit *u)
{
	struct unit_core *x = uc(u);
	const struct unit_rec *r = &u->rec;
	if (r->main.seq && !x->has_main)
		x->has_main = take_recorded(c, u, &r->main, r->main_pid, &x->kept.main);
	if (r->control.seq && !x->has_control)
		x->has_control = take_recorded(c, u, &r->control, r->control_pid, &x->kept.control);
	return !(r->main.seq && !r->main_pid && !x->has_main) &&
	       !(r->control.seq && !r->control_pid && !x->has_control);
}

/* Asked for, told by nobody, and not there. But who has left somebody behind was there: it is not to be done
 * once more. What a main process that runs has started has the same invocation, and shows nothing. */
static int32_t left_by(const struct unit *u, const struct spawn_id *id, int32_t pid)
{
	size_t n;
	const struct candidate *k = candidates_of(u, &n);
	if (!id->seq || pid)
		return 0;
	for (size_t i = 0; i < n; i++)
		if (k[i].pidfd >= 0 && is_same_invocation(id, &k[i]) &&
			!pidfd_has_ended(k[i].pidfd))
			return k[i].pid;
	return 0;
}

static void look_what_is_left(const struct unit *u)
{
	struct unit_core *x = uc(u);
	if (x->has_main)
		return;
	x->left_by_main = left_by(u, &u->rec.main, u->rec.main_pid);
	if (!x->has_control)
		x->left_by_control = left_by(u, &u->rec.control, u->rec.control_pid);
}

/* ---- without a record ------------------------------------------------------------------------------ */

static unsigned n_invented;

/* What is known of a unit whose record is not: that its main process runs. It counts as ready,
 * healthy and offered to its load balancers, because that is what changes nothing. */
static void invent_record(
	struct core *c, struct unit *u, const struct spawn_id *id, const struct candidate *k)
{
	struct unit_rec r = u->rec; /* with its revision, release and place in its set */
	struct unit_core *x = uc(u);
	r.version = UNIT_REC_VERSION;
	r.state = u->conf->service.type == SERVICE_ONESHOT ? INST_START : INST_RUNNING;
	r.result = RES_SUCCESS;
	r.want = WANT_UP;
	r.is_ready = r.is_manual = 1;
	r.main = *id;
	r.main_pid = k->pid;
	r.next_seq = MAX(r.next_seq, id->seq);
	r.control = (struct spawn_id){.seq = 0};
	r.control_pid = 0;
	r.stop_wanted = r.restart_wanted = r.left_over = r.is_unhealthy = 0;
	r.lb_phase = u->conf->lb.is_set ? LBP_IN : LBP_NONE;
	for (int i = 0; i < CHECK_KIND_MAX; i++)
		r.check_ok[i] = r.check_streak[i] = u->conf->health[i].target ? 1 : 0;
	uint64_t age_us = now_boot_us() - k->stat.start_us;
	r.state_since_us = r.active_since_us = now_mono_us() - MIN(age_us, now_mono_us());
	r.state_since_wall_us = now_wall_us() - age_us;
	r.watchdog_us = u->conf->service.watchdog_us;
	r.port = k->port ? k->port : r.port;
	if (k->release[0])
		str_copy(r.release, k->release, sizeof(r.release));
	memset(r.timer_at_us, 0, sizeof(r.timer_at_us));
	world_restore_unit(c->world, u, &r);
	log_warn(u->name, "its record is %s: taking pid %d, which runs, for its main process",
		x->slot == UINT32_MAX ? "missing" : "damaged", k->pid);
	x->kept.main = (struct run_window){k->stat.start_us, k->stat.start_us};
	x->has_main = x->is_record_sound = true;
	record_write(c, u);
	n_invented++;
}

/* Up without a process: a target, or a service that remains so after it ended. */
static bool can_be_up_alone(const struct unit *u)
{
	const struct unit_conf *conf = u->conf;
	return conf->load == LOAD_LOADED &&
	       (conf->type != UNIT_SERVICE ||
		       (conf->service.type == SERVICE_ONESHOT && conf->service.remain_after_exit));
}

static bool is_requirement(const struct edge *e)
{
	return !e->is_inverse &&
	       (e->kind == DEP_REQUIRES || e->kind == DEP_REQUISITE || e->kind == DEP_BINDS_TO);
}

static bool count_as_up(struct core *c, struct unit *u)
{
	struct unit_rec r = u->rec;
	if (uc(u)->slot != UINT32_MAX || !can_be_up_alone(u) || unit_is_up(u))
		return false;
	r.version = UNIT_REC_VERSION;
	r.state = INST_EXITED;
	r.want = WANT_UP;
	r.is_ready = 1;
	r.state_since_us = r.active_since_us = now_mono_us();
	r.state_since_wall_us = now_wall_us();
	if (world_restore_unit(c->world, u, &r) < 0)
		return false;
	uc(u)->is_record_sound = true;
	record_write(c, u);
	return true;
}

/* What a unit that runs requires was up when it was started. Taken for down, nobody would want it up,
 * and a restart would wait for it for ever; started again, it would pull in what was stopped. */
void adopt_required(struct core *c)
{
	struct world *w = c->world;
	for (bool is_more = n_invented > 0; is_more;) {
		is_more = false;
		for (size_t i = 0; i < w->n_units; i++) {
			const struct unit *u = w->units[i];
			for (uint32_t k = 0; u->rec.want == WANT_UP && k < u->n_edges; k++)
				if (is_requirement(&u->edges[k]))
					is_more |= count_as_up(c, u->edges[k].to);
		}
	}
}

static struct unit *unit_named(struct core *c, const char *name)
{
	static const struct unit_rec none;
	struct unit *u = world_unit(c->world, name);
	if (u || !unit_name_is_valid(name))
		return u;
	u = store_restore_unit(c, name, &none);
	store_load_closure(c);
	return u;
}

/* May what runs be its main process, for all that is known? */
static bool lacks_record(const struct unit *u)
{
	return !uc(u)->is_record_sound && !uc(u)->has_main && u->conf->type == UNIT_SERVICE &&
	       u->conf->load == LOAD_LOADED;
}

static void kill_candidate(const struct candidate *k, const char *why)
{
	log_warn(k->unit, "pid %d %s: killing it", k->pid, why);
	(void)pidfd_signal(k->pidfd, SIGKILL);
}

static bool is_adopted_pid(pid_t pid)
{
	for (struct adopted *a = all; a; a = a->next)
		if (a->f.pid == pid)
			return true;
	return false;
}

/* Once a service has named another main (MAINPID=), no record names the process it was started with,
 * which may well live on. The window of a named one is a moment: record_main_named(). */
static bool is_former_main(const struct unit *u, const void *invocation)
{
	const struct run_window *w = &uc(u)->kept.main;
	return w->from_us && w->from_us == w->to_us && (!unit_is_down(u) || u->rec.left_over) &&
	       memcmp(u->rec.main.invocation, invocation, sizeof(u->rec.main.invocation)) == 0;
}

/* A process of a unit that no record names. */
static void settle_stray(struct core *c, struct candidate *k)
{
	struct unit *u = unit_named(c, k->unit);
	struct spawn_id id = {.seq = 1};
	if (!u)
		return;
	memcpy(id.invocation, k->invocation.b, sizeof(id.invocation));
	if (pidfd_has_ended(k->pidfd)) {
		return;
	} else if (k->is_ours && lacks_record(u)) {
		take_candidate(c, u, k, &id);
		invent_record(c, u, &id, k);
	} else if (unit_is_down(u) && !u->rec.left_over) {
		kill_candidate(k, "runs, but its unit is down");
	} else if (k->is_ours && is_former_main(u, k->invocation.b)) {
		return; /* in the unit's cgroup or tree, which is all that its end matters for */
	} else if (k->is_ours) {
		kill_candidate(k, "has no record");
	} else if (streq(k->stat.name, LAUNCHER_NAME)) {
		kill_candidate(k, "was never started to its end");
	} else if (k->shim && !is_adopted_pid(k->shim)) {
		/* Left behind by a program that has ended: the unit is not empty while it runs. */
		id.seq = ++u->rec.next_seq;
		record_write(c, u);
		take_candidate(c, u, k, &id);
		keeper_keep_shim(c, u, &id, k->shim);
	}
}

static int by_pid(const void *a, const void *b)
{
	return *(const pid_t *)a - *(const pid_t *)b;
}

static void settle_strays(struct core *c)
{
	size_t n = 0, i = 0;
	for (struct adopted *a = all; a; a = a->next)
		n++;
	CLEANUP_FREE pid_t *pids = xcalloc(n + 1, sizeof(*pids));
	for (struct adopted *a = all; a; a = a->next)
		pids[i++] = a->f.pid;
	qsort(pids, n, sizeof(*pids), by_pid);
	for (i = 0; i < n_found; i++)
		if (found[i].pidfd >= 0 && !bsearch(&found[i].pid, pids, n, sizeof(*pids), by_pid))
			settle_stray(c, &found[i]);
}

/* The pipes that units' processes write to, and the word about what cannot be had back. */
static size_t regain_all(struct core *c)
{
	size_t n = 0;
	for (struct adopted *a = all; a; a = a->next) {
		struct unit *u = a->unit;
		bool is_program = !a->f.program && a->f.role != KP_ROW_TRACKED;
		if (!u || a->f.code || !is_program)
			continue;
		n++;
		logger_regain(c, u, a->f.pid);
		if (u->conf->service.fd_store_max)
			log_warn(u->name,
				"descriptors it had stored (FDSTORE=1) went with the keeper:"
				" its next start gets none");
	}
	return n;
}

void adopt_find(struct core *c)
{
	struct world *w = c->world;
	bool is_complete = false;
	for (int looks = 0; looks < BORN_LOOKS && !is_complete; looks++) {
		if (looks)
			usleep(BORN_LOOK_US);
		find_all(c);
		is_complete = true;
		for (size_t i = 0; i < w->n_units; i++)
			is_complete &= take_recorded_of(c, w->units[i]);
	}
	for (size_t i = 0; !is_complete && i < w->n_units; i++)
		look_what_is_left(w->units[i]);
	settle_strays(c);
	forget_found();
	c->is_launcher_synced = true; /* who could start more is gone: see lock.c */
	size_t n = regain_all(c);
	log_note(NULL, "took over what a stayd before this one left: %zu of its processes run on",
		n);
}

/* Does the recorded main process live, in its unit? */
bool adopt_is_main(struct core *c, const struct unit *u)
{
	struct candidate k = {.pid = u->rec.main_pid};
	CLEANUP_CLOSE int fd = pidfd_of(k.pid);
	return fd >= 0 && !pidfd_has_ended(fd) && procfs_stat(k.pid, &k.stat) == 0 &&
	       is_in_window(&k, &uc(u)->kept.main) && cgroup_unit_of(c, k.pid) == u;
}

/* ---- a child of keeper that no record names ---------------------------------------------------------- */

static bool keep_stray(struct core *c, const struct kp_frame *f)
{
	struct unit *u;
	bool is_named = f->role == KP_ROW_TRACKED && c->cgroup_base; /* below a shim: by its shim */
	if ((f->role != KP_ROW_CHILD && !is_named) || f->id.seq & PROBE_SEQ)
		return false;
	if (c->cgroup_base) {
		CLEANUP_FREE char *name = cgroup_unit_name(c, f->pid);
		struct candidate *k = name ? candidate_add(f->pid, name) : NULL;
		if (k)
			(void)read_environ(c, k);
	} else {
		find_below_shim(c, f->pid);
	}
	u = n_found ? unit_named(c, found[0].unit) : NULL;
	if (!u)
		return false;
	if (lacks_record(u)) {
		/* The program, unless it daemonized and left: then what it left below its shim. */
		if (f->program && proc_is_below(f->program, f->pid))
			found[0].pid = f->program;
		invent_record(c, u, &f->id, &found[0]);
		return true;
	}
	if (is_named)
		return false;
	if (c->cgroup_base && is_former_main(u, f->id.invocation)) {
		keeper_keep_former(c, u, f);
		return true;
	}
	if (c->cgroup_base || (unit_is_down(u) && !u->rec.left_over))
		return false;
	keeper_keep_shim(c, u, &f->id, f->pid);
	return true;
}

/* Core alone was away. True: it is kept; false: it is to be killed. */
bool adopt_stray(struct core *c, const struct kp_frame *f)
{
	bool is_kept = keep_stray(c, f);
	forget_found(); /* each with a pidfd or two */
	return is_kept;
}
