/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How to reach all processes of a unit with a signal.
 *
 *  1. Only keeper signals a pid that keeper reaps. Everything else is signalled through a pidfd
 *     that was opened first and checked for membership afterwards, so a reused pid is never hit.
 *  2. What could not be sent is sent again.
 */
#include "core/cgroup.h"
#include "core/procfs.h"

#include <signal.h>

#define KILL_PIDS_MAX 256 /* of one unit, one by one */
#define KILL_ROUNDS_MAX                                                                            \
	50 /* a fork bomb without cgroup.kill: rounds until the walk finds nobody new */

/* A stopped process does not see a signal other than KILL until it is continued (systemd too). */
static bool wants_cont(int signo)
{
	return signo != SIGKILL && signo != SIGCONT;
}

/* Signals pid if it is (still) in the unit's cgroup. */
static void signal_member(struct core *c, struct unit *u, pid_t pid, int signo)
{
	CLEANUP_CLOSE int fd = pidfd_of(pid);
	if (fd < 0 || cgroup_unit_of(c, pid) != u)
		return;
	(void)pidfd_signal(fd, signo);
	if (wants_cont(signo))
		(void)pidfd_signal(fd, SIGCONT);
}

struct pids {
	pid_t v[KILL_PIDS_MAX];
	size_t n;
};

/* False: no room. *ret_is_new: it was not there before. */
static bool pids_add(struct pids *p, pid_t pid, bool *ret_is_new)
{
	for (size_t i = 0; i < p->n; i++)
		if (p->v[i] == pid)
			return true;
	*ret_is_new = true;
	if (p->n == KILL_PIDS_MAX)
		return false;
	p->v[p->n++] = pid;
	return true;
}

/* The list cannot be read: keeper needs no descriptor for those it knows. */
static int signal_known(struct core *c, const struct unit *u, int signo)
{
	if (u->rec.main_pid)
		keeper_signal(c, &u->rec.main, signo);
	if (u->rec.control_pid)
		keeper_signal(c, &u->rec.control, signo);
	return 0;
}

/* Of the processes that keeper knows, those a walk has met. */
struct known {
	bool main, control;
};

/* One walk. Returns how many were met that are not in seen (NULL: nobody is); -1: seen is full. */
static int signal_members(
	struct core *c, struct unit *u, int fd, int signo, struct pids *seen, struct known *ret_met)
{
	struct buf b = {0};
	char *save = NULL;
	int met = 0;
	if (cgroup_read_procs(fd, &b) < 0 || !b.data) {
		buf_done(&b);
		ret_met->main = ret_met->control = true;
		return signal_known(c, u, signo);
	}
	for (char *line = strtok_r(b.data, "\n", &save); line && met >= 0;
		line = strtok_r(NULL, "\n", &save)) {
		pid_t pid = (pid_t)strtol(line, NULL, 10);
		bool is_new = !seen;
		if (pid <= 1)
			continue;
		if (seen && !pids_add(seen, pid, &is_new)) {
			met = -1;
			break;
		}
		if (!is_new)
			continue; /* it has its signal; it may be dying */
		met++;
		if (pid == u->rec.main_pid) {
			ret_met->main = true;
			keeper_signal(c, &u->rec.main, signo);
		} else if (pid == u->rec.control_pid) {
			ret_met->control = true;
			keeper_signal(c, &u->rec.control, signo);
		} else {
			signal_member(c, u, pid, signo);
		}
	}
	buf_done(&b);
	return met;
}

/* cgroup.kill is for what outruns us only: at least up to Linux 6.18 a cgroup that it was written to
 * kills every process cloned into it from then on (the child's kill_seq is taken from the parent's
 * cgroup), so ExecStopPost= and the next start would die at birth. */
static void kill_cgroup(struct core *c, struct unit *u, int fd, struct known *ret_met)
{
	struct pids seen = {.n = 0};
	int met = 1;
	for (int round = 0; met > 0 && round < KILL_ROUNDS_MAX; round++)
		met = signal_members(c, u, fd, SIGKILL, &seen, ret_met);
	if (met != 0 && cgroup_write(fd, "cgroup.kill", "1") == 0)
		uc(u)->is_cgroup_spent = true;
}

/* Who was moved out of the cgroup by somebody is not among its members, and ours all the same. */
static void signal_strayed(
	struct core *c, const struct unit *u, const struct spawn_id *id, int32_t pid, int signo)
{
	if (id->seq && pid && cgroup_unit_of(c, pid) != u)
		keeper_signal(c, id, signo);
}

static void signal_cgroup(struct core *c, struct unit *u, int signo)
{
	struct known met = {0};
	int fd = uc(u)->is_empty ? -1 : cgroup_fd_of(c, u);
	if (fd < 0 && !uc(u)->is_empty && !uc(u)->is_cgroup_gone)
		(void)signal_known(c, u, signo);
	else if (fd >= 0 && signo == SIGKILL)
		kill_cgroup(c, u, fd, &met);
	else if (fd >= 0)
		(void)signal_members(c, u, fd, signo, NULL, &met);
	if (!met.main)
		signal_strayed(c, u, &u->rec.main, u->rec.main_pid, signo);
	if (!met.control)
		signal_strayed(c, u, &u->rec.control, u->rec.control_pid, signo);
}

/* True when somebody got it who may have forked meanwhile. */
static bool signal_below(pid_t shim, int signo)
{
	pid_t *v;
	size_t n = tree_pids(shim, &v), hit = 0;
	for (size_t i = 1; i < n; i++) {
		CLEANUP_CLOSE int fd = pidfd_of(v[i]);
		if (fd >= 0 && proc_is_below(v[i], shim))
			hit += pidfd_signal(fd, signo) == 0;
	}
	free(v);
	return hit > 0;
}

static void signal_trees(struct unit *u, int signo)
{
	FOR_EACH_SHIM(p, u)
	{
		/* SIGKILL: again until nobody new appears, or a forking process could outrun the walk. */
		int rounds = signo == SIGKILL ? KILL_ROUNDS_MAX : 1;
		while (signal_below(p->shim_pid, signo) && --rounds)
			;
	}
}

static void signal_one(
	struct core *c, const struct unit *u, const struct spawn_id *id, pid_t pid, int signo)
{
	if (!id->seq)
		return;
	if (c->cgroup_base || !pid) {
		keeper_signal(c, id, signo);
		return;
	}
	CLEANUP_CLOSE int fd = pidfd_of(pid);
	if (fd < 0 || !cgroup_is_in_trees(u, pid))
		return;
	(void)pidfd_signal(fd, signo);
	if (wants_cont(signo))
		(void)pidfd_signal(fd, SIGCONT);
}

void cgroup_kill(struct core *c, struct unit *u, enum kill_who who, int signo)
{
	if (who == KILL_WHO_MAIN)
		signal_one(c, u, &u->rec.main, u->rec.main_pid, signo);
	else if (who == KILL_WHO_CONTROL)
		signal_one(c, u, &u->rec.control, u->rec.control_pid, signo);
	else if (c->cgroup_base)
		signal_cgroup(c, u, signo);
	else
		signal_trees(u, signo);
	if (who == KILL_WHO_ALL && !c->cgroup_base && wants_cont(signo))
		signal_trees(u, SIGCONT);
}

void cgroup_kill_refused(struct core *c, const struct spawn_id *id, int error)
{
	struct proc *p = proc_find(&c->procs, id);
	struct unit *u = p && p->kind == PROC_UNIT ? p->unit : NULL;
	log_warn(u ? u->name : NULL, "cannot signal its process: %s", errno_name(error));
	if (!u)
		return;
	uc(u)->is_kill_refused = true;
	core_again(c);
}

/* Whoever outlives the last signal of a stop is in the way of its successor, for good when nobody sends
 * it again. */
static void kill_again(struct core *c, struct unit *u)
{
	const struct service_conf *s = &u->conf->service;
	const struct unit_rec *r = &u->rec;
	bool is_over = unit_is_down(u) && !r->left_over && !r->main.seq && !r->control.seq;
	bool is_last =
		r->state == INST_STOP_SIGKILL || r->state == INST_FINAL_SIGKILL || unit_is_down(u);
	if (is_over || r->state == INST_RUNNING || !s->send_sigkill || s->kill_mode == KILL_NONE) {
		uc(u)->is_kill_refused = false;
	} else if (is_last) {
		uc(u)->is_kill_refused = false; /* unless it is again */
		cgroup_kill(c, u, s->kill_mode == KILL_PROCESS ? KILL_WHO_MAIN : KILL_WHO_ALL,
			s->final_kill_signal);
	} else {
		core_again(c);
	}
}

void cgroup_kill_again(struct core *c)
{
	for (size_t i = 0; i < c->world->n_units; i++) {
		struct unit *u = c->world->units[i];
		if (u->core && uc(u)->is_kill_refused && u->conf->type == UNIT_SERVICE)
			kill_again(c, u);
	}
}
