/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Core's side of the link to keeper: exits, signals to children, deposited descriptors, roles.
 *
 *  1. An exit is forgotten (KP_FORGET) only after the model has seen it and the record was
 *     written: delivered at least once, and a second delivery finds no such process and is dropped.
 *  2. Frames to keeper are never lost: the link is blocking for writing; keeper always reads.
 *  3. At most KEEPER_BATCH frames are handled a turn, so that a crash storm leaves room for
 *     control clients.
 */
#include "control/control.h"
#include "core/inner.h"

#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/wait.h>

#define KEEPER_BATCH      64
#define KEEPER_CONNECT_MS 10000

static void on_keeper(struct source *s, uint32_t events);

static void link_broken(struct core *c, int error)
{
	if (c->is_exiting)
		return;
	/* Without keeper nobody reaps: die; keeper, or its successor, starts another core. */
	log_error(NULL, "link to keeper: %s; leaving", errno_name(error));
	_exit(EXIT_FAILURE);
}

/* Frames that may wait for the end of the turn: signals, what is forgotten, re-exec. In order with all
 * others. A core that dies before they are out has an exit told again and a stop done again. */
static struct kp_frame held[KEEPER_BATCH];
static unsigned n_held;

void keeper_flush(struct core *c)
{
	struct mmsghdr m[KEEPER_BATCH];
	struct iovec v[KEEPER_BATCH];
	if (n_held)
		record_write_dirty(c); /* an exit is forgotten once it is written */
	for (unsigned i = 0; i < n_held; i++) {
		v[i] = (struct iovec){&held[i], sizeof(held[i])};
		m[i] = (struct mmsghdr){
			.msg_hdr = {.msg_iov = &v[i], .msg_iovlen = 1}
                };
	}
	for (unsigned sent = 0; sent < n_held;) {
		int n = sendmmsg(c->keeper_fd, m + sent, n_held - sent, MSG_NOSIGNAL);
		if (n < 0 && errno != EINTR) {
			link_broken(c, -errno);
			break;
		}
		sent += n > 0 ? (unsigned)n : 0;
	}
	n_held = 0;
}

static void hold_frame(struct core *c, const struct kp_frame *f)
{
	if (n_held == KEEPER_BATCH)
		keeper_flush(c);
	held[n_held] = *f;
	held[n_held++].magic = KP_MAGIC;
}

static void send_frame(struct core *c, struct kp_frame *f, int fd)
{
	f->magic = KP_MAGIC;
	keeper_flush(c);
	ssize_t n = send_fds(c->keeper_fd, f, sizeof(*f), &fd, fd >= 0 ? 1 : 0, 0);
	if (n < 0)
		link_broken(c, (int)n);
}

int keeper_put(struct core *c, const char *name, int fd)
{
	struct kp_frame f = {.kind = KP_PUT};
	if (strlen(name) >= sizeof(f.name))
		return -ENAMETOOLONG;
	str_copy(f.name, name, sizeof(f.name));
	send_frame(c, &f, fd);
	return 0;
}

void keeper_drop(struct core *c, const char *name)
{
	struct kp_frame f = {.kind = KP_DROP};
	str_copy(f.name, name, sizeof(f.name));
	send_frame(c, &f, -1);
}

void keeper_signal(struct core *c, const struct spawn_id *id, int signo)
{
	struct kp_frame f = {.kind = KP_SIGNAL, .id = *id, .status = signo};
	if (signo != SIGKILL && signo != SIGCONT)
		f.code = SIGCONT; /* a stopped process does not see it else (systemd too) */
	if (!adopt_signal(id, signo, f.code))
		hold_frame(c, &f);
}

void keeper_track(struct core *c, const struct spawn_id *id, pid_t pid)
{
	struct kp_frame f = {.kind = KP_TRACK, .id = *id, .pid = pid};
	send_frame(c, &f, -1);
}

void keeper_forget(struct core *c, const struct spawn_id *id, pid_t pid)
{
	struct kp_frame f = {.kind = KP_FORGET, .id = *id, .pid = pid};
	if (!adopt_forget(c, id, pid))
		hold_frame(c, &f);
}

/* stay-net and stay-web are programs of their own: $STAYD_LIBEXEC, beside ourselves, /usr/lib/stayd. */
static int role_program(const char *name)
{
	char self[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	self[n > 0 ? n : 0] = '\0';
	char *slash = strrchr(self, '/');
	if (slash)
		*slash = '\0';
	const char *dirs[] = {getenv("STAYD_LIBEXEC"), slash ? self : NULL, "/usr/lib/stayd"};
	for (size_t i = 0; i < ARRAY_SIZE(dirs); i++) {
		CLEANUP_FREE char *path = xasprintf("%s/%s", strna(dirs[i]), name);
		int fd = dirs[i] && dirs[i][0] ? open(path, O_PATH | O_CLOEXEC) : -1;
		if (fd >= 0)
			return fd;
	}
	log_error(NULL, "%s is neither in $STAYD_LIBEXEC nor beside stayd nor in /usr/lib/stayd",
		name);
	return -1;
}

void keeper_role(struct core *c, enum role role, bool is_wanted)
{
	struct kp_frame f = {.kind = KP_ROLE, .role = (uint16_t)role, .status = is_wanted};
	bool is_other = role == ROLE_NET || role == ROLE_WEB;
	CLEANUP_CLOSE int program = -1;
	if (is_wanted && is_other) {
		program = role_program(role == ROLE_NET ? "stay-net" : "stay-web");
		if (program < 0)
			return;
	}
	send_frame(c, &f, program);
}

/* What runs the program of before a re-exec ends, and keeper starts the present one. */
static void renew_roles(struct core *c)
{
	for (enum role r = ROLE_LAUNCHER; r < ROLE_MAX; r++) {
		struct spawn_id id = {.seq = r}; /* keeper knows roles so */
		if (!c->role_is_stale[r])
			continue;
		c->role_is_stale[r] = false;
		keeper_role(c, r, true);
		keeper_signal(c, &id, SIGTERM);
	}
}

void keeper_exit(struct core *c, int code, const char *how)
{
	struct kp_frame f = {.kind = KP_EXIT, .status = code};
	f.code = how && streq(how, "reboot") ? 1 : how && streq(how, "poweroff") ? 2 : 0;
	send_frame(c, &f, -1); /* if that fails another core has to say it: not exiting yet */
	c->is_exiting = true;
}

void keeper_reexec(struct core *c, int program_fd)
{
	struct kp_frame f = {.kind = KP_REEXEC};
	log_flush();
	if (program_fd < 0)
		hold_frame(c, &f); /* behind the answer to who asked: keeper ends us soon */
	else
		send_frame(c, &f, program_fd);
	fd_close(program_fd);
}

/* ---- exits ---------------------------------------------------------------------------------- */

static void probe_exited(struct core *c, struct proc *p, int code, int status)
{
	char text[96];
	if (p->is_timed_out)
		snprintf(text, sizeof(text), "timed out");
	else if (code == CLD_EXITED)
		snprintf(text, sizeof(text), "exit status %d", status);
	else
		snprintf(text, sizeof(text), "killed by %s", strna(signal_name(status)));
	struct event ev = {.kind = EV_PROBED,
		.unit = p->unit,
		.check = p->check,
		.number = p->number,
		.ok = code == CLD_EXITED && status == 0 && !p->is_timed_out,
		.latency_us = now_mono_us() - p->began_us,
		.text = text};
	core_step(c, &ev);
}

static void say_exited(struct core *c, struct proc *p, pid_t pid, int code, int status)
{
	struct event ev = {.kind = EV_EXITED,
		.unit = p->unit,
		.id = p->id,
		.pid = pid,
		.code = code == EXIT_UNKNOWN ? 0 : code,
		.status = status};
	if (p->has_exited)
		return;
	p->has_exited = true;
	if (p->kind == PROC_UNIT && code == CLD_KILLED && status == SIGKILL) {
		bool is_own = cgroup_oom_killed(c, p->unit);
		ev.ok = memory_killed(c, p->unit, is_own) || is_own;
	}
	if (p->kind == PROC_PROBE)
		probe_exited(c, p, code, status);
	else
		core_step(c, &ev);
}

/* The process whose main was named to be pid, when the exit comes under its shim's identity. */
static struct proc *tracked_proc(const struct unit *u, pid_t pid)
{
	for (struct proc *p = u ? uc(u)->procs : NULL; p; p = p->next)
		if (p->tracked_pid == pid)
			return p;
	return NULL;
}

/* Nothing more is to come under p's identity; it may have been the last of its unit. */
static void proc_over(struct core *c, struct proc *p)
{
	struct unit *u = p->unit;
	proc_drop(&c->procs, p);
	if (u && uc(u)->waits_empty)
		cgroup_check_empty(c, u);
}

/* Something ended under p's identity. The model hears of the exit of the program, or of the main
 * process that was named since; the entry goes when nothing can come under it any more. */
void proc_ended(struct core *c, struct proc *p, enum kp_row row, pid_t pid, int code, int status)
{
	struct unit *u = p->unit;
	if (row == KP_ROW_BELOW) {
		struct proc *t = pid == p->pid && !p->tracked_pid ? p : tracked_proc(u, pid);
		if (!t)
			return; /* a helper of the service */
		say_exited(c, t, pid, code, status);
		if (t != p || t->child_gone) {
			keeper_forget(c, &t->id, pid); /* its KP_TRACK: keeper never reaps it */
			proc_over(c, t);
		}
		return;
	}
	if (row == KP_ROW_TRACKED)
		p->tracked_pid = 0;
	else
		p->child_gone = true;
	if (row == KP_ROW_CHILD && p->is_shimmed)
		pid = p->pid; /* the shim left as its program did */
	/* The first process of a service that named another main: not news. */
	if (!(row == KP_ROW_CHILD && p->tracked_pid))
		say_exited(c, p, pid, code, status);
	if (p->tracked_pid ||
		(row == KP_ROW_TRACKED && p->is_spawned && !p->child_gone && p->is_shimmed))
		return;
	if (p->kind == PROC_PROBE)
		launcher_probe_over(c, p);
	else
		proc_over(c, p);
}

/* Exits wait for the launcher's word: only it knows why a start failed, and whose a process below a
 * shim was. It always comes, or a new launcher does. */
static bool keep_early(struct proc *p, const struct kp_frame *f)
{
	if (p->is_spawned || p->n_early >= EARLY_MAX)
		return false;
	if (!p->early)
		p->early = xcalloc(EARLY_MAX, sizeof(*p->early));
	if (f->role == KP_ROW_CHILD && p->is_shimmed && f->program)
		p->pid = f->program;
	p->early[p->n_early].row = f->role;
	p->early[p->n_early].pid = f->pid;
	p->early[p->n_early].code = f->code;
	p->early[p->n_early++].status = f->status;
	return true;
}

void proc_early(struct core *c, const struct spawn_id *id)
{
	struct proc *p = proc_find(&c->procs, id);
	if (!p || !p->n_early)
		return;
	struct spawn_id own = *id; /* id may be p's */
	CLEANUP_FREE struct early_exit *early = TAKE_PTR(p->early);
	unsigned n = p->n_early;
	p->n_early = 0;
	for (unsigned i = 0; i < n; i++) {
		p = proc_find(&c->procs, &own);
		if (p)
			proc_ended(
				c, p, early[i].row, early[i].pid, early[i].code, early[i].status);
		keeper_forget(c, &own, early[i].pid);
	}
}

/* A shim that ended with its main process while core was away is in no record, but the main is. */
static struct proc *proc_of_row(struct core *c, const struct kp_frame *f)
{
	struct proc *p = proc_find(&c->procs, &f->id);
	return p || f->role != KP_ROW_BELOW ? p : proc_find_named(&c->procs, &f->id, f->pid);
}

void keeper_child_exited(struct core *c, const struct kp_frame *f)
{
	struct proc *p = proc_of_row(c, f);
	if (p && keep_early(p, f))
		return;
	if (p && p->kind == PROC_UNIT && p->unit->conf->service.notify_access != NOTIFY_NONE) {
		notify_drain(c);
		p = proc_of_row(c, f);
	}
	if (p)
		proc_ended(c, p, f->role, f->pid, f->code, f->status);
	/* Without p: a second delivery, or one nobody waits for. */
	keeper_forget(c, &f->id, f->pid);
}

/* Did the model take pid as the main process? What tells it from others of that pid goes with the
 * record, and the record before the word to keeper: a process that keeper knows and no record names is
 * killed by the next core. */
bool main_is_named(struct unit *u, pid_t pid)
{
	if (!u->rec.main.seq || u->rec.main_pid != pid)
		return false;
	record_main_named(u, pid);
	return true;
}

/* Without a descriptor for it, it is tried again. */
static void main_watch(struct core *c, struct proc *p)
{
	int r = adopt_track(c, &p->id, p->tracked_pid);
	p->is_unwatched = r < 0;
	if (r == 0)
		keeper_track(c, &p->id, p->tracked_pid);
	else if (r < 0)
		core_again(c);
}

/* Under the identity that it has now. */
void main_pid_changed(struct core *c, struct unit *u, pid_t pid)
{
	if (proc_find(&c->procs, &u->rec.main))
		return; /* it was before */
	struct proc *p = proc_new(&c->procs, &u->rec.main, PROC_UNIT, u);
	p->child_gone = p->is_spawned = true;
	p->pid = p->tracked_pid = pid;
	main_watch(c, p);
}

/* ---- links to the other roles ---------------------------------------------------------------- */

static bool link_is_known(const struct core *c, const struct kp_frame *f)
{
	int fd = f->role == ROLE_LAUNCHER ? c->launcher_fd
		 : f->role == ROLE_LOGGER ? c->logger_fd
		 : f->role == ROLE_NET    ? c->net_fd
					  : -1;
	return f->role < ROLE_MAX && c->role_pid[f->role] == f->pid && fd >= 0;
}

static void link_received(struct core *c, const struct kp_frame *f, int fd)
{
	if (c->is_relisting && link_is_known(c, f)) {
		fd_close(fd);
		return;
	}
	if (f->role < ROLE_MAX) {
		c->role_pid[f->role] = f->pid;
		c->role_is_stale[f->role] = f->status;
	}
	switch (f->role) {
	case ROLE_LAUNCHER:
		launcher_connected(c, fd);
		break;
	case ROLE_LOGGER:
		logger_connected(c, fd);
		break;
	case ROLE_NET:
		net_connected(c, fd);
		break;
	default:
		fd_close(fd);
	}
}

void keeper_signalled(struct core *c, int signo)
{
	struct event ev = {.kind = EV_SHUTDOWN};
	if (signo == SIGHUP) {
		struct buf notes = {0}; /* they are in the log */
		uint64_t change = c->control ? control_signal_begin(c->control, "SIGHUP", true) : 0;
		struct err e = {0};
		(void)core_daemon_reload(c, "SIGHUP", &notes, &e);
		if (c->control)
			control_signal_end(c->control, change);
		buf_done(&notes);
		return;
	}
	if (signo == SIGTERM || signo == SIGINT || signo == SIGQUIT || signo == SIGPWR ||
		signo == SIGRTMIN + 3 || signo == SIGRTMIN + 4 || signo == 37) {
		log_note(NULL, "got %s: stopping everything", strna(signal_name(signo)));
		if (c->stop_budget_len_us && !c->stop_budget_us)
			c->stop_budget_us = now_mono_us() + c->stop_budget_len_us;
		const char *name = strna(signal_name(signo));
		if (c->control) /* what follows may end us before it returns */
			control_signal_end(c->control, control_signal_begin(c->control, name, false));
		core_step(c, &ev);
	}
}

/* A launcher died: keeper tells again whom it knows, and so who of those asked for was born. */
void keeper_relist(struct core *c)
{
	struct kp_frame f = {.kind = KP_HELLO};
	c->is_relisting = true;
	send_frame(c, &f, -1);
}

/* What keeper knows of a child whose launcher cannot tell. False: a shim that has not started its
 * program yet, or died before it could. */
bool proc_take_pids(struct proc *p, const struct kp_frame *f)
{
	p->shim_pid = p->is_shimmed ? f->pid : 0;
	p->pid = p->is_shimmed ? f->program : f->pid;
	return p->pid != 0;
}

static void child_found(struct core *c, struct proc *p, const struct kp_frame *f)
{
	struct event ev = {.kind = EV_SPAWNED, .unit = p->unit, .id = p->id};
	struct spawn_id id = p->id;
	p->asked_of = 0; /* born: not to be asked for again */
	p->is_doubtful = false;
	uc(p->unit)->is_empty = false;
	p->is_spawned = proc_take_pids(p, f);
	if (!p->is_spawned) {
		launcher_relist_later(c);
		return;
	}
	ev.pid = p->pid;
	if (p->kind == PROC_UNIT) {
		record_window(p);
		core_step(c, &ev);
	}
	proc_early(c, &id);
}

static void child_listed(struct core *c, const struct kp_frame *f)
{
	struct proc *p = proc_find(&c->procs, &f->id);
	if (f->code) {
		keeper_child_exited(c, f);
	} else if (!p && f->role == KP_ROW_TRACKED) {
		keeper_forget(c, &f->id, f->pid);
	} else if (!p) {
		log_warn(NULL, "pid %d is nobody's: killing it", f->pid);
		keeper_signal(c, &f->id, SIGKILL);
	} else if (f->role == KP_ROW_CHILD && launcher_word_is_lost(c, p)) {
		child_found(c, p, f);
	}
}

/* What a keeper may say of a process: an impossible pid or end is nobody's and nothing. */
static bool frame_is_good(const struct kp_frame *f)
{
	bool is_row = f->kind == KP_CHILD || f->kind == KP_EXITED;
	if (!is_row)
		return f->kind != KP_LINK || (f->role < ROLE_MAX && f->pid > 1);
	return f->pid > 1 && f->program >= 0 && f->program != 1 && f->role >= KP_ROW_CHILD &&
	       f->role <= KP_ROW_BELOW && f->code >= (f->kind == KP_EXITED ? CLD_EXITED : 0) &&
	       f->code <= CLD_DUMPED;
}

/* The main process that was named has ended, and keeper has not seen it. */
static void main_lost(struct core *c, const struct kp_frame *f)
{
	struct kp_frame end = {
		.role = KP_ROW_TRACKED, .id = f->id, .pid = f->pid, .code = EXIT_UNKNOWN};
	keeper_child_exited(c, &end);
}

/* Its pid may be another's by now. */
static void main_watch_again(struct core *c, struct proc *p)
{
	const struct kp_frame f = {.id = p->id, .pid = p->tracked_pid};
	unsigned unread = files_unread();
	bool is_it = cgroup_unit_of(c, p->tracked_pid) == p->unit;
	if (is_it)
		main_watch(c, p);
	else if (files_unread() != unread)
		core_again(c);
	else
		main_lost(c, &f);
}

void keeper_watch_again(struct core *c)
{
	for (size_t i = 0; i < c->world->n_units; i++) {
		struct unit *u = c->world->units[i];
		struct proc *p = u->rec.main.seq ? proc_find(&c->procs, &u->rec.main) : NULL;
		if (p && p->is_unwatched)
			main_watch_again(c, p);
	}
}

static void frame_received(struct core *c, const struct kp_frame *f, int fd)
{
	switch (f->kind) {
	case KP_EXITED:
		keeper_child_exited(c, f);
		break;
	case KP_LINK:
		link_received(c, f, TAKE_FD(fd));
		break;
	case KP_GOT:
		keeper_signalled(c, f->status);
		break;
	case KP_CHILD:
		child_listed(c, f);
		break;
	case KP_WELCOME:
		c->is_relisting = false;
		launcher_listed(c);
		break;
	case KP_REFUSED:
		if (f->code == KP_REEXEC)
			reexec_refused(c, errno_name(f->status));
		else if (f->code == KP_SIGNAL && f->status != -ESRCH)
			cgroup_kill_refused(c, &f->id, f->status);
		else if (f->code == KP_TRACK && f->status == -ESRCH)
			main_lost(c, f);
		else
			log_warn(NULL, "keeper refused frame %d: %s", f->code,
				errno_name(f->status));
		break;
	default:
		break;
	}
	fd_close(fd);
}

static ssize_t receive(struct core *c, struct kp_frame *f, int *ret_fd, int flags)
{
	union {
		struct kp_frame f;
		char room[KP_FRAME_MAX];
	} in = {0};
	size_t n_fds = 1;
	*ret_fd = -1;
	ssize_t n = recv_fds(c->keeper_fd, &in, sizeof(in), ret_fd, &n_fds, flags);
	if (n == 0)
		return -EPIPE;
	*f = in.f;
	if (n > 0 && (n < KP_FRAME_MIN || f->magic != KP_MAGIC)) {
		*ret_fd = fd_close(*ret_fd);
		return -EPROTO;
	}
	f->name[sizeof(f->name) - 1] = '\0';
	if (n > 0 && !frame_is_good(f)) {
		log_error(NULL, "keeper says what cannot be (frame %u, pid %d): ignored", f->kind,
			f->pid);
		f->kind = 0;
	}
	return n;
}

static void on_keeper(struct source *s, uint32_t events)
{
	struct core *c = container_of(s, struct core, keeper_source);
	(void)events;
	for (int i = 0; i < KEEPER_BATCH; i++) {
		struct kp_frame f;
		int fd;
		ssize_t n = receive(c, &f, &fd, MSG_DONTWAIT);
		if (n == -EAGAIN)
			return;
		if (n < 0) {
			if (!c->is_exiting)
				log_error(NULL, "link to keeper: %s; leaving", errno_name((int)n));
			c->loop.is_done = true;
			c->loop.exit_code = c->is_exiting ? 0 : EXIT_FAILURE;
			return;
		}
		frame_received(c, &f, fd);
	}
}

/* ---- the first conversation -------------------------------------------------------------------- */

static int hello(struct core *c)
{
	struct kp_frame h = {.kind = KP_HELLO};
	send_frame(c, &h, -1);
	for (;;) {
		struct kp_frame f;
		int fd;
		struct pollfd p = {.fd = c->keeper_fd, .events = POLLIN};
		if (poll(&p, 1, KEEPER_CONNECT_MS) == 0)
			return -ETIMEDOUT;
		ssize_t n = receive(c, &f, &fd, 0);
		if (n < 0)
			return (int)n;
		if (f.kind == KP_WELCOME) {
			c->restarts_of_core = (uint32_t)f.status;
			c->reexec.count = (uint32_t)f.pid;
			c->reexec.error = f.code;
			return 0;
		}
		if (f.kind == KP_CHILD || f.kind == KP_EXITED || f.kind == KP_GOT) {
			keeper_know(&f);
		} else if (f.kind == KP_FD) {
			deposit_keep(f.name, TAKE_FD(fd));
		} else if (f.kind == KP_LINK) {
			link_received(c, &f, TAKE_FD(fd));
		}
		fd_close(fd);
	}
}

/* A core before us may have asked the launcher for processes that it has not started yet. They
 * would be missing from keeper's list now and run later, beside their successors: so the launcher
 * answers everything it was asked first, and then keeper tells its list (again). */
int keeper_connect(struct core *c)
{
	int r = hello(c);
	if (r == 0 && c->restarts_of_core) {
		c->is_launcher_synced = launcher_sync(c) == 0;
		keeper_unlearn();
		r = hello(c);
	}
	if (r < 0)
		return r;
	reexec_welcomed(c);
	renew_roles(c);
	r = loop_add(&c->loop, &c->keeper_source, c->keeper_fd, EPOLLIN, PRIO_KEEPER, on_keeper);
	loop_urgent(&c->loop, &c->keeper_source);
	return r;
}
