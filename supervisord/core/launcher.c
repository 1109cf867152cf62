/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Core's side of the link to the launcher: plans out, outcomes in.
 *
 *  1. A process is entered in the table before the launcher is asked for it.
 *  2. A full socket does not lose a start: it waits in a queue and is built when there is room.
 *  3. When the launcher is replaced, starts it had not answered are looked up with keeper: a
 *     process that was born reports itself there; one that was not is started again by the model
 *     after EV_SPAWN_FAILED.
 *  4. A start may hang in its exec, on a file server that does not answer, and the launcher with it
 *     when it waits for that exec. While it owes answers, gives none for LAUNCHER_HANG_US and then no LN_PONG either, it is
 *     replaced: the start goes on hanging alone, under its unit's own timeouts.
 */
#include "core/inner.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#define PROBES_EXEC_MAX  256
#define RESEND_BATCH     256
#define RELIST_AFTER_US  (50 * USEC_PER_MSEC)
#define LAUNCHER_SYNC_US (5 * USEC_PER_SEC)
#define LAUNCHER_BATCH   64
#define LAUNCHER_HANG_US (2 * USEC_PER_SEC) /* without an answer to a start: is it there? */
#define LAUNCHER_PING_US USEC_PER_SEC       /* without an answer to that: it hangs */
#define LAUNCHER_FDS_MAX 12 /* to pass on, beside stdio and the cgroup; FDS_MAX in one frame */

/* A signal ended the process before its exec: no failure of the exec, but an end by that signal. If
 * keeper has not told which (or never heard of the process), a stop's own is the likely one. */
static void killed_at_birth(struct core *c, struct proc *p)
{
	bool is_stopping = inst_active_state(p->unit->rec.state) == ACTIVE_DEACTIVATING;
	struct event ev = {.kind = EV_EXITED,
		.unit = p->unit,
		.id = p->id,
		.code = CLD_KILLED,
		.status = is_stopping ? p->unit->conf->service.kill_signal : SIGKILL};
	for (unsigned i = 0; i < p->n_early; i++)
		if (p->early[i].row == KP_ROW_CHILD) {
			ev.pid = p->early[i].pid;
			ev.code = p->early[i].code;
			ev.status = p->early[i].status;
		}
	/* By its cgroup, maybe, which somebody has killed: see kill_cgroup(). */
	if (ev.status == SIGKILL)
		uc(ev.unit)->is_cgroup_spent = true;
	proc_drop(&c->procs, p);
	core_step(c, &ev);
	keeper_forget(c, &ev.id, 0);
}

static void spawn_failed(
	struct core *c, const struct spawn_id *id, int stage, int error, const char *text)
{
	struct proc *p = proc_find(&c->procs, id);
	if (!p)
		return;
	if (p->kind == PROC_PROBE) {
		struct event ev = {.kind = EV_PROBED,
			.unit = p->unit,
			.check = p->check,
			.number = p->number,
			.text = text};
		launcher_probe_over(c, p);
		core_step(c, &ev);
		return;
	}
	if (stage == EXIT_EXEC && error == ECANCELED) {
		killed_at_birth(c, p);
		return;
	}
	CLEANUP_FREE char *said = xasprintf("%d/%s: %s", stage, exec_exit_name(stage), text);
	struct event ev = {.kind = EV_SPAWN_FAILED,
		.unit = p->unit,
		.id = *id,
		.stage = stage,
		.error = error,
		.text = said};
	proc_drop(&c->procs, p);
	core_step(c, &ev);
	keeper_forget(
		c, id, 0); /* a child may have been born and have left with the stage's status */
}

static void spawned(struct core *c, const struct ln_reply *r)
{
	struct proc *p = proc_find(&c->procs, &r->id);
	if (!p)
		return; /* it is over already */
	p->is_spawned = true;
	p->pid = r->pid;
	p->shim_pid = r->shim_pid;
	if (p->kind == PROC_UNIT)
		record_window(p);
	uc(p->unit)->is_empty = false; /* it may have been looked at before the clone */
	if (p->kind == PROC_UNIT) {
		struct event ev = {.kind = EV_SPAWNED, .unit = p->unit, .id = p->id, .pid = r->pid};
		core_step(c, &ev);
	}
	p = proc_find(&c->procs, &r->id);
	if (p && p->n_early)
		notify_drain(c);
	proc_early(c, &r->id);
}

/* Who waits for the word of a launcher that is gone waits no more. What the present one was asked
 * since is not in question: asked again, it would be started twice. */
bool launcher_word_is_lost(const struct core *c, const struct proc *p)
{
	return !p->is_spawned && p->asked_of != c->launchers;
}

void launcher_words_lost(struct core *c)
{
	for (size_t i = 0; i < c->procs.cap; i++) {
		struct proc *p = c->procs.by_id[i];
		if (!p || !p->n_early || !launcher_word_is_lost(c, p))
			continue;
		p->is_spawned = true;
		proc_early(c, &p->id);
		i = SIZE_MAX; /* the table has changed: from its start */
	}
}

static void run_pending(struct core *c);
static void enqueue_probe(struct core *c, const struct spawn_id *id);
static void enqueue(struct core *c, struct unit *u, enum exec_kind exec, uint32_t index,
	const struct spawn_id *id);

/* A core before us recorded it, and its launcher died with it: keeper does not know it even now. */
static void never_born(struct core *c, struct proc *p)
{
	struct event lost = {.kind = EV_EXITED, .unit = p->unit, .id = p->id};
	proc_drop(&c->procs, p);
	core_step(c, &lost);
}

/* The launcher died before it started the probe: that says nothing about the service. */
static void probe_again(struct core *c, struct proc *p)
{
	if (p->deadline_us != USEC_INFINITY)
		c->n_probes_asked--;
	p->deadline_us = USEC_INFINITY;
	enqueue_probe(c, &p->id);
}

void launcher_relist_later(struct core *c)
{
	c->relist_at_us = now_mono_us() + RELIST_AFTER_US;
	core_arm(c);
}

void launcher_listed(struct core *c)
{
	struct spawn_id ids[RESEND_BATCH];
	size_t n = 0;
	launcher_words_lost(c);
	for (size_t i = 0; i < c->procs.cap && n < RESEND_BATCH; i++) {
		struct proc *p = c->procs.by_id[i];
		if (p && (p->asked_of || p->is_doubtful) && launcher_word_is_lost(c, p))
			ids[n++] = p->id;
	}
	for (size_t i = 0; i < n; i++) {
		struct proc *p = proc_find(&c->procs, &ids[i]);
		if (!p)
			continue;
		p->asked_of = 0;
		if (p->is_doubtful)
			never_born(c, p);
		else if (p->kind == PROC_PROBE)
			probe_again(c, p);
		else
			enqueue(c, p->unit, p->exec, p->index, &ids[i]);
	}
	run_pending(c);
	if (n == RESEND_BATCH)
		launcher_listed(c);
}

/* ---- after a restart of core ---------------------------------------------------------------- */

static struct ln_reply *answers; /* to the core before us */
static size_t n_answers, cap_answers;

/* What a launcher of our build may say. Nobody's process is none, 1 or a group. */
static bool reply_is_good(const struct ln_reply *r)
{
	return r->build == WIRE_BUILD && r->kind >= LN_SPAWNED && r->kind <= LN_PONG &&
	       memchr(r->detail, '\0', sizeof(r->detail)) &&
	       (r->kind != LN_SPAWNED || r->pid > 1) && (r->shim_pid == 0 || r->shim_pid > 1);
}

/* 1: the launcher has said LN_SYNCED; 0: not yet. */
static int sync_read(struct core *c)
{
	for (;;) {
		struct ln_reply r;
		size_t n_fds = 0;
		ssize_t n = recv_fds(c->launcher_fd, &r, sizeof(r), NULL, &n_fds, MSG_DONTWAIT);
		if (n == -EAGAIN)
			return 0;
		if (n != sizeof(r) || !reply_is_good(&r))
			return n < 0 ? (int)n : -EPROTO;
		if (r.kind == LN_SYNCED)
			return 1;
		GROW(answers, n_answers, cap_answers);
		answers[n_answers++] = r;
	}
}

/* The launcher is part of what is locked out: see lock.c. */
void launcher_hold_lock(struct core *c)
{
	struct ln_head head = {.build = WIRE_BUILD, .flags = LN_HOLD};
	int fds[ARRAY_SIZE(c->lock_fds)];
	size_t n = 0;
	for (size_t i = 0; i < ARRAY_SIZE(c->lock_fds); i++)
		if (c->lock_fds[i] >= 0)
			fds[n++] = c->lock_fds[i];
	if (n && c->launcher_fd >= 0)
		(void)send_fds(c->launcher_fd, &head, sizeof(head), fds, n, MSG_DONTWAIT);
}

/* Reads while it cannot write: the launcher takes no request while an answer has no room. */
int launcher_sync(struct core *c)
{
	struct ln_head head = {.build = WIRE_BUILD, .flags = LN_SYNC};
	uint64_t end = now_mono_us() + LAUNCHER_SYNC_US;
	bool is_sent = false;
	int r = c->launcher_fd < 0 ? -ENOTCONN : 0;
	while (r == 0) {
		uint64_t now = now_mono_us();
		struct pollfd p = {c->launcher_fd, is_sent ? POLLIN : POLLIN | POLLOUT, 0};
		if (now >= end || poll(&p, 1, (int)((end - now) / USEC_PER_MSEC) + 1) == 0)
			return -ETIMEDOUT;
		if (!is_sent && p.revents & POLLOUT) {
			r = (int)send_fds(
				c->launcher_fd, &head, sizeof(head), NULL, 0, MSG_DONTWAIT);
			is_sent = r > 0;
			r = r == -EAGAIN || r > 0 ? 0 : r;
		}
		if (r == 0)
			r = sync_read(c);
	}
	return r < 0 ? r : 0;
}

static void answered(struct core *c, const struct ln_reply *r)
{
	if (r->kind == LN_SPAWNED)
		spawned(c, r);
	else if (r->kind == LN_FAILED)
		spawn_failed(c, &r->id, r->stage, r->error, r->detail);
}

void launcher_replay(struct core *c)
{
	for (size_t i = 0; i < n_answers; i++)
		answered(c, &answers[i]);
	free(TAKE_PTR(answers));
	n_answers = cap_answers = 0;
}

/* ---- the link --------------------------------------------------------------------------------- */

static void on_launcher(struct source *s, uint32_t events)
{
	struct core *c = container_of(s, struct core, launcher_source);
	if (events & EPOLLOUT)
		run_pending(c);
	for (int i = 0; i < LAUNCHER_BATCH; i++) {
		struct ln_reply r;
		size_t n_fds = 0;
		ssize_t n = recv_fds(c->launcher_fd, &r, sizeof(r), NULL, &n_fds, MSG_DONTWAIT);
		if (n == -EAGAIN)
			return;
		if (n != sizeof(r) || !reply_is_good(&r)) {
			/* The launcher died, or does not speak as it should: keeper replaces it and
			 * sends a new link. */
			loop_remove(&c->loop, &c->launcher_source);
			c->launcher_fd = fd_close(c->launcher_fd);
			return;
		}
		c->n_asked -= c->n_asked > 0 && r.kind != LN_PONG;
		c->n_answered++;
		answered(c, &r);
		notify_release(c);
	}
}

void launcher_connected(struct core *c, int fd)
{
	loop_remove(&c->loop, &c->launcher_source);
	fd_close(c->launcher_fd);
	fd_close(c->launcher_pidfd);
	c->launcher_fd = fd;
	c->launcher_pidfd = (int)syscall(SYS_pidfd_open, c->role_pid[ROLE_LAUNCHER], 0);
	c->launchers++;
	c->n_asked = 0;
	c->launcher_look_us = 0;
	c->is_launcher_pinged = false;
	notify_release(c);
	(void)fd_set_nonblock(fd, true);
	launcher_hold_lock(c);
	loop_add(&c->loop, &c->launcher_source, fd, EPOLLIN, PRIO_LAUNCHER, on_launcher);
	loop_urgent(&c->loop, &c->launcher_source);
	launch_remove_left_over(c->runtime_root);
	if (!c->world || c->world->n_units == 0)
		return;
	/* What the old one was asked and had not answered: some of it runs. A child it had just
	 * cloned may not have told keeper yet, hence the pause. */
	launcher_relist_later(c);
}

/* ---- a launcher that hangs -------------------------------------------------------------------- */

static void launcher_asked(struct core *c)
{
	c->n_asked++;
	if (c->launcher_look_us)
		return; /* one look for all: a deadline for each start would cost a system call each */
	c->launcher_look_us = now_mono_us() + LAUNCHER_HANG_US;
	c->n_answered_then = c->n_answered;
	core_arm(c);
}

static void replace_hung(struct core *c)
{
	log_warn(NULL,
		"the launcher has not answered %u start%s for %llus (a program's file may be on a file "
		"system that hangs): replacing it",
		(unsigned)c->n_asked, c->n_asked == 1 ? "" : "s",
		(LAUNCHER_HANG_US + LAUNCHER_PING_US) / USEC_PER_SEC);
	/* It waits where only SIGKILL gets through; keeper does the rest. */
	if (c->launcher_pidfd >= 0)
		(void)syscall(SYS_pidfd_send_signal, c->launcher_pidfd, SIGKILL, NULL, 0);
}

/* A start that takes long in a child of its own leaves the launcher free to say so. */
static void ping(const struct core *c)
{
	struct ln_head head = {.build = WIRE_BUILD, .flags = LN_PING};
	if (c->launcher_fd >= 0)
		(void)send_fds(c->launcher_fd, &head, sizeof(head), NULL, 0, MSG_DONTWAIT);
}

void launcher_watch(struct core *c)
{
	uint64_t now = now_mono_us();
	if (!c->launcher_look_us || now < c->launcher_look_us)
		return;
	c->launcher_look_us = 0;
	if (!c->n_asked)
		return;
	bool is_silent = c->n_answered == c->n_answered_then;
	c->n_answered_then = c->n_answered;
	if (is_silent && c->is_launcher_pinged) {
		replace_hung(c);
		return;
	}
	c->is_launcher_pinged = is_silent;
	c->launcher_look_us = now + (is_silent ? LAUNCHER_PING_US : LAUNCHER_HANG_US);
	if (is_silent)
		ping(c);
}

uint64_t launcher_watch_deadline(const struct core *c)
{
	return c->launcher_look_us ? c->launcher_look_us : USEC_INFINITY;
}

/* ---- one start ------------------------------------------------------------------------------ */

struct start {
	struct ln_head head;
	int fds[FDS_MAX];
	size_t n_fds;
	bool owned[FDS_MAX];
	struct buf message;
};

static void start_done(struct start *s)
{
	for (size_t i = 0; i < s->n_fds; i++)
		if (s->owned[i])
			fd_close(s->fds[i]);
	buf_done(&s->message);
}

static void start_fd(struct start *s, int fd, bool is_owned, uint32_t flag)
{
	s->fds[s->n_fds] = fd;
	s->owned[s->n_fds++] = is_owned;
	s->head.flags |= flag;
}

static int open_stream(const struct std_stream *st, bool is_input)
{
	int flags = is_input ? O_RDONLY : O_WRONLY | O_CREAT;
	if (st->kind == STD_APPEND)
		flags |= O_APPEND;
	else if (st->kind == STD_TRUNCATE)
		flags |= O_TRUNC;
	/* A FIFO without a reader would block us: it fails instead. */
	int fd = launch_open(st->path, flags | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0644, UINT32_MAX);
	if (fd >= 0)
		(void)fd_set_nonblock(fd, false);
	return fd;
}

/* Standard streams: a descriptor where there is something to open; none means /dev/null. */
static int start_streams(
	struct core *c, struct unit *u, struct start *s, int *ret_stage, struct err *e)
{
	static const int stages[] = {EXIT_STDIN, EXIT_STDOUT, EXIT_STDERR};
	const struct exec_conf *x = &u->conf->exec;
	const struct std_stream *streams[] = {&x->std_in, &x->std_out, &x->std_err};
	static const uint32_t flags[] = {LN_HAS_STDIN, LN_HAS_STDOUT, LN_HAS_STDERR};
	int last = -1;
	bool is_out_by_child = false;
	for (int i = 0; i < 3; i++) {
		const struct std_stream *st = streams[i];
		int fd = -1;
		bool is_owned = true;
		if (st->kind == STD_FILE || st->kind == STD_APPEND || st->kind == STD_TRUNCATE) {
			fd = open_stream(st, i == 0);
			is_out_by_child |= i == 1 && fd == -EPERM;
			if (fd < 0 && fd != -EPERM) {
				*ret_stage = stages[i];
				return err_set(e, fd, "%s", st->path);
			}
		} else if (st->kind == STD_LOG && i > 0) {
			fd = logger_stream(c, u);
			is_owned = false;
		} else if (st->kind == STD_INHERIT && i > 0) {
			bool is_as_stdout = i == 2 && (last >= 0 || is_out_by_child ||
							      x->std_out.kind == STD_NULL);
			fd = is_as_stdout ? last : logger_stream(c, u);
			is_owned = false;
		}
		if (fd >= 0)
			start_fd(s, fd, is_owned, flags[i]);
		last = fd;
	}
	return 0;
}

static int image_of(struct core *c, struct unit *u, struct err *e)
{
	struct unit_core *x = uc(u);
	if (x->image && x->image_conf == u->conf && launch_image_is_current(x->image))
		return 0;
	bool is_other = x->image_conf != u->conf;
	x->image = launch_image_free(x->image);
	int r = launch_image_new(u->conf, &c->caps, &x->image, e);
	if (r < 0 || !is_other)
		return r;
	unit_conf_unref(x->image_conf);
	x->image_conf = unit_conf_ref(u->conf);
	x->cgroup_fd =
		fd_close(x->cgroup_fd); /* its limits may be others now: they are set again */
	return 0;
}

/* Settings or the meaning of names may have changed: the next start makes it anew. */
void launcher_image_forget(struct unit *u)
{
	struct unit_core *x = uc(u);
	x->image = launch_image_free(x->image);
	x->image_conf = unit_conf_unref(x->image_conf);
}

/* Nothing was looked up or compiled for it: it is made again in no time, and thousands idle. */
static void image_drop_if_plain(struct unit_core *x)
{
	const struct launch_image *i = x->image;
	if (i->user_name || i->n_groups || i->seccomp.size || i->n_degraded || i->gid != UINT32_MAX)
		return;
	x->image = launch_image_free(x->image);
}

const struct launch_image *launcher_image(struct core *c, struct unit *u)
{
	struct err e = {0};
	return image_of(c, u, &e) == 0 ? uc(u)->image : NULL;
}

static int start_build(struct core *c, struct unit *u, const struct exec_cmd *cmd,
	enum exec_kind exec, const struct spawn_id *id, struct start *s, int *ret_stage,
	struct err *e)
{
	struct unit_core *x = uc(u);
	*ret_stage = EXIT_FDS;
	if (x->log_fd < 0 && x->cgroup_fd < 0 && fds_are_short(c->keeper_fd, FDS_LEFT_BY_UNITS))
		return err_set(e, -EMFILE,
			"the daemon has no descriptor left for another unit; raise its LimitNOFILE=");
	int r = image_of(c, u, e);
	*ret_stage = r == -ESRCH || r == -EPERM ? EXIT_USER
		     : r == -EOPNOTSUPP         ? EXIT_NAMESPACE
						: EXIT_EXEC;
	if (r < 0)
		return r;
	r = start_streams(c, u, s, ret_stage, e);
	if (r < 0)
		return r;
	if (c->cgroup_base) {
		r = cgroup_open_unit(c, u, e);
		if (r < 0)
			return r;
		start_fd(s, x->cgroup_fd, false, LN_HAS_CGROUP);
		x->is_empty = false;
	}
	const char *names[LAUNCHER_FDS_MAX];
	size_t n_pass = 0;
	for (size_t i = 0; exec == EXEC_START && i < x->n_fds && n_pass < LAUNCHER_FDS_MAX &&
			   s->n_fds < FDS_MAX - 1;
		i++) {
		names[n_pass++] = x->fds[i].name;
		start_fd(s, x->fds[i].fd, false, 0);
	}
	struct start_vars vars;
	start_vars_make(c, u, exec, id, &vars);
	struct launch_vars v = {
		.id = *id,
		.cmd = cmd,
		.kind = exec,
		.env = (const char *const *)vars.env.v,
		.n_env = vars.env.n,
		.fd_names = names,
		.n_fds = n_pass,
		.release_link = vars.release_dir ? u->conf->rollout.release_link : NULL,
		.release_dir = vars.release_dir,
		.runtime_root = c->runtime_root,
		.state_root = c->path.state_dir,
		.cache_root = c->path.cache_dir,
		.logs_root = c->path.logs_dir,
		.config_root = c->path.config_dir,
		.use_shim = !c->cgroup_base,
		.dirs_wanted = true,
	};
	buf_add(&s->message, &s->head, sizeof(s->head));
	r = plan_build(x->image, &v, &s->message, e);
	image_drop_if_plain(x);
	start_vars_done(&vars);
	if (r < 0)
		return r;
	s->head.build = WIRE_BUILD;
	s->head.id = *id;
	s->head.plan_size = (uint32_t)(s->message.size - sizeof(s->head));
	s->head.n_pass_fds = (uint32_t)n_pass;
	if (s->message.size > LN_FRAME_MAX) {
		int fd = memfd_create("plan", MFD_CLOEXEC | MFD_ALLOW_SEALING);
		if (fd < 0)
			return err_set(e, -errno, "memfd_create: %s", errno_name(errno));
		start_fd(s, fd, true, LN_PLAN_IN_FD);
		r = write_all(fd, s->message.data + sizeof(s->head), s->head.plan_size);
		if (r < 0)
			return err_set(e, r, "plan: %s", errno_name(r));
		(void)fcntl(
			fd, F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE);
		s->message.size = sizeof(s->head);
	}
	memcpy(s->message.data, &s->head, sizeof(s->head));
	return 0;
}

/* 1: the launcher cannot take it now. */
static int start_send(struct core *c, struct start *s)
{
	if (c->launcher_fd < 0)
		return 1;
	ssize_t n = send_fds(
		c->launcher_fd, s->message.data, s->message.size, s->fds, s->n_fds, MSG_DONTWAIT);
	if (n == -EAGAIN || n == -ENOBUFS || n == -EPIPE || n == -ECONNRESET)
		return 1;
	struct proc *p = proc_find(&c->procs, &s->head.id);
	if (n >= 0 && p) {
		p->asked_of = c->launchers;
		launcher_asked(c);
	}
	return n < 0 ? (int)n : 0;
}

/* 1: queue it. */
static int try_spawn(struct core *c, struct unit *u, enum exec_kind exec, uint32_t index,
	const struct spawn_id *id)
{
	struct err e = {0};
	struct start s = {0};
	int stage = EXIT_EXEC;
	int r = port_allocate(c, u);
	if (r < 0)
		err_set(&e, r, "no free port in %u-%u", u->conf->replicas.port_first,
			u->conf->replicas.port_last);
	if (r == 0 && index >= u->conf->service.exec[exec].n)
		r = err_set(&e, -EINVAL, "no command %u", index);
	if (r == 0)
		r = start_build(
			c, u, &u->conf->service.exec[exec].v[index], exec, id, &s, &stage, &e);
	if (r == 0)
		r = start_send(c, &s);
	start_done(&s);
	if (r < 0)
		spawn_failed(c, id, stage, -r, e.text[0] ? e.text : errno_name(r));
	return r;
}

static void enqueue(struct core *c, struct unit *u, enum exec_kind exec, uint32_t index,
	const struct spawn_id *id)
{
	GROW(c->pending, c->n_pending, c->cap_pending);
	c->pending[c->n_pending++] = (struct pending_spawn){u, exec, index, *id};
	if (c->launcher_source.is_added)
		loop_modify(&c->loop, &c->launcher_source, EPOLLIN | EPOLLOUT);
}

static void run_probes(struct core *c);

static void run_pending(struct core *c)
{
	while (c->head_pending < c->n_pending && c->launcher_fd >= 0 && !c->relist_at_us) {
		struct pending_spawn p = c->pending[c->head_pending];
		if (proc_find(&c->procs, &p.id) && try_spawn(c, p.unit, p.exec, p.index, &p.id) > 0)
			return;
		c->head_pending++;
	}
	if (c->head_pending < c->n_pending)
		return;
	c->head_pending = c->n_pending = c->cap_pending = 0;
	free(TAKE_PTR(c->pending));
	if (c->launcher_source.is_added)
		loop_modify(&c->loop, &c->launcher_source, EPOLLIN);
	run_probes(c);
}

void launcher_spawn(struct core *c, struct unit *u, enum exec_kind exec, uint32_t index,
	const struct spawn_id *id)
{
	struct proc *p = proc_new(&c->procs, id, PROC_UNIT, u);
	notify_forget(u, id);
	p->is_shimmed = !c->cgroup_base;
	p->exec = exec;
	p->index = index;
	p->asked_boot_us = now_boot_us();
	/* Without a launcher not even a name can be looked up. */
	if (c->launcher_fd < 0 || c->head_pending < c->n_pending ||
		try_spawn(c, u, exec, index, id) > 0)
		enqueue(c, u, exec, index, id);
}

/* ---- exec: probes ---------------------------------------------------------------------------- */

/* Words are split as in an Exec line; ${PORT} and the like are expanded by the plan. */
static int probe_build(struct core *c, struct proc *p, struct start *s, struct err *e)
{
	const char *target = p->unit->conf->health[p->check].target;
	const char *pos = target && startswith(target, "exec:") ? target + 5 : NULL;
	struct strv words = {0};
	char *word;
	int stage, r = -EINVAL;
	while (pos && (r = split_word(&pos, &word, true, e)) > 0)
		strv_add_take(&words, word);
	if (r == 0 && words.n == 0)
		r = -EINVAL;
	if (r == 0 && cgroup_is_frozen(c, p->unit)) /* paused by somebody: not ours to undo */
		r = err_set(e, -EBUSY, "its cgroup is frozen (cgroup.freeze)");
	if (r == 0) {
		struct exec_cmd x = {.path = words.v[0], .argv = words.v, .argc = words.n};
		r = start_build(c, p->unit, &x, EXEC_CONDITION, &p->id, s, &stage, e);
	}
	strv_done(&words);
	return r;
}

/* 1: not now. Its time runs from here: what it waited for us is not the service's fault. */
static int try_probe(struct core *c, struct proc *p)
{
	struct err e = {0};
	struct start s = {0};
	struct spawn_id id = p->id;
	int r = probe_build(c, p, &s, &e);
	if (r == 0)
		r = start_send(c, &s);
	start_done(&s);
	if (r == 0) {
		p->began_us = now_mono_us();
		p->deadline_us = p->began_us + p->timeout_us;
		c->n_probes_asked++;
	} else if (r < 0) {
		spawn_failed(c, &id, EXIT_EXEC, -r, e.text[0] ? e.text : errno_name(r));
	}
	return r;
}

/* Entered from wherever a place or the launcher becomes free, also from its own steps: hence the
 * flag. What is over meanwhile is passed by. */
static void run_probes(struct core *c)
{
	static bool is_running;
	if (is_running)
		return;
	is_running = true;
	while (c->head_probes < c->n_probes && c->n_probes_asked < PROBES_EXEC_MAX &&
		c->launcher_fd >= 0 && !c->relist_at_us) {
		struct proc *p = proc_find(&c->procs, &c->probes[c->head_probes]);
		if (p && try_probe(c, p) > 0)
			break;
		c->head_probes++;
	}
	if (c->head_probes == c->n_probes)
		c->head_probes = c->n_probes = 0;
	else if (c->launcher_source.is_added && c->n_probes_asked < PROBES_EXEC_MAX)
		loop_modify(&c->loop, &c->launcher_source, EPOLLIN | EPOLLOUT);
	is_running = false;
}

static void enqueue_probe(struct core *c, const struct spawn_id *id)
{
	GROW(c->probes, c->n_probes, c->cap_probes);
	c->probes[c->n_probes++] = *id;
}

void launcher_probe(
	struct core *c, struct unit *u, enum check_kind check, uint64_t number, uint64_t timeout_us)
{
	struct spawn_id id = {.seq = (uint32_t)number | PROBE_SEQ};
	random_bytes(id.invocation, sizeof(id.invocation));
	struct proc *p = proc_new(&c->procs, &id, PROC_PROBE, u);
	p->is_shimmed = !c->cgroup_base;
	p->check = check;
	p->number = number;
	p->timeout_us = timeout_us;
	p->deadline_us = USEC_INFINITY;
	enqueue_probe(c, &id);
	run_probes(c);
}

/* Forgets a probe that is over, and lets the next one begin. */
void launcher_probe_over(struct core *c, struct proc *p)
{
	if (p->deadline_us != USEC_INFINITY || p->is_timed_out)
		c->n_probes_asked--;
	proc_drop(&c->procs, p);
	run_probes(c);
}

uint64_t launcher_probe_deadline(const struct core *c)
{
	uint64_t due = USEC_INFINITY;
	for (const struct proc *p = c->procs.probes; p; p = p->next)
		due = MIN(due, p->deadline_us);
	return due;
}

void launcher_probe_timeouts(struct core *c)
{
	uint64_t now = now_mono_us();
	for (struct proc *p = c->procs.probes; p; p = p->next) {
		if (p->deadline_us > now)
			continue;
		keeper_signal(c, &p->id, SIGKILL);
		p->is_timed_out = true;
		p->deadline_us = USEC_INFINITY; /* once; its exit comes */
	}
}
