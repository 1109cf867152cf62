/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The keeper: PID 1, or a subreaper. Reaps everything, keeps what must outlive core, runs the roles.
 *
 *  1. After start() it never returns on an error and never allocates; it ends only by stop_begin().
 *  2. It never blocks but in poll(), and wakes up for nothing but news and deadlines.
 *  3. Nothing is signalled but what it has not reaped.
 *
 * Called by main(). Read turn() first, then table/table.h, children.c, links.c, roles.c.
 */
#include "private.h"

#include <poll.h>
#include <sys/signalfd.h>
#include <sys/wait.h>

#define WORDS_BATCH   256
#define REAP_TURN_US  USEC_PER_MSEC /* exits have so much of a turn: core hears of them between */
#define CRASHES_MAX   5             /* of core without a welcome: we answer SIGTERM ourselves then */
#define RETRY_US      (10 * USEC_PER_MSEC) /* when the machine has no memory or descriptor for us */
#define STOP_AGAIN_US USEC_PER_SEC         /* what a second SIGTERM leaves */

struct keeper K;
struct timing timing = {
	.backoff_max_us = USEC_PER_SEC, /* nobody decides meanwhile; a start costs some ms of CPU */
	.settled_us = 10 * USEC_PER_SEC,
	.hang_us = 30 * USEC_PER_SEC,
	.prove_us = 10 * USEC_PER_SEC,
};

/* SIGTERM or, with 0, is there one? */
static bool signal_rows(bool roles, int signal)
{
	bool any = false;
	for (unsigned i = 1; i <= rows_high() && !(any && !signal); i++) {
		struct row *r = &table.row[i];
		if (r->kind && !r->code && (r->kind == ROW_ROLE) == roles && is_ours(r->pid))
			any |= kill(r->pid, signal) == 0;
	}
	return any;
}

/* A phase lasts until nobody it is about is left, or its time is over: without core, those in our table
 * (SIGTERM); roles, as a logger has still to write (SIGTERM); whoever is left, and whom they leave. */
void stop_begin(enum stop_phase phase, int status, int how)
{
	if (phase <= K.stop)
		return;
	K.stop = phase;
	K.stop_by_us = now_mono_us() + (phase == STOP_CHILDREN ? 10 : 5) * USEC_PER_SEC;
	K.exit_status = status;
	K.exit_how = how;
	for (enum role r = ROLE_CORE; r < ROLE_MAX; r++)
		table.role[r].is_wanted = 0;
	if (phase == STOP_ROLES)
		core_gone();
	if (phase < STOP_REST)
		(void)signal_rows(phase == STOP_ROLES, SIGTERM);
}

static void stop_tick(uint64_t now, uint64_t *next)
{
	siginfo_t info;
	bool is_over = K.stop < STOP_REST && !signal_rows(K.stop == STOP_ROLES, 0);
	if (K.stop == STOP_REST) {
		kill_children();
		is_over = waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT | __WALL) < 0 &&
			  errno == ECHILD;
		earliest(next, now + RETRY_US); /* grandchildren become ours one by one */
	}
	earliest(next, K.stop_by_us);
	if (is_over || now >= K.stop_by_us) {
		stop_begin(K.stop + 1, K.exit_status, K.exit_how);
		*next = now;
	}
}

/* TERM, INT, PWR and systemd's SIGRTMIN+3 (halt) to +6 (kexec), which containers are stopped by. */
uint64_t signal_ends(void)
{
	return 1ULL << (SIGTERM - 1) | 1ULL << (SIGINT - 1) | 1ULL << (SIGPWR - 1) |
	       15ULL << (SIGRTMIN + 3 - 1);
}

/* Kept for core, which may be away. When none can start, we do what it would. */
static void on_signal(int signal)
{
	static const uint64_t told = 1ULL << (SIGHUP - 1) | 1ULL << (SIGUSR1 - 1) |
				     1ULL << (SIGUSR2 - 1) | 1ULL << (SIGQUIT - 1) |
				     1ULL << (SIGWINCH - 1);
	uint64_t bit = signal > 0 && signal <= 64 ? 1ULL << (signal - 1) : 0;
	if (signal < SIGRTMIN)
		bit &= told | signal_ends();
	if (K.stop && (bit & signal_ends()))
		K.stop_by_us = MIN(K.stop_by_us, now_mono_us() + STOP_AGAIN_US);
	table.kept.signals |= bit;
}

/* SIGCHLD names one exit, which is told first. Others may hide behind it, as the kernel merges them. */
static void read_signals(void)
{
	struct signalfd_siginfo info[16];
	int status;
	ssize_t n = read(K.signal_fd, info, sizeof(info)); /* more of them: poll says so again */
	for (ssize_t i = 0; i < n / (ssize_t)sizeof(info[0]); i++) {
		pid_t pid = (pid_t)info[i].ssi_pid;
		if (info[i].ssi_signo != SIGCHLD) {
			on_signal((int)info[i].ssi_signo);
			continue;
		}
		K.has_more_dead = true;
		if (pid > 0 && waitpid(pid, &status, WNOHANG | __WALL) == pid)
			child_ended(pid, status);
	}
}

static void reap(void)
{
	int status;
	pid_t pid;
	uint64_t before, until = now_mono_us() + REAP_TURN_US;
	do {
		before = now_mono_us();
		pid = waitpid(-1, &status, WNOHANG | __WALL);
		if (pid > 0)
			child_ended(pid, status);
	} while (pid > 0 && before < until);
	K.has_more_dead = pid > 0;
	K.reap_at_us = pid > 0 ? 0 : now_mono_us() + reap_pause_us(now_mono_us() - before);
}

static void tick(uint64_t now, uint64_t *next)
{
	if (!K.stop && K.crashes >= CRASHES_MAX && (table.kept.signals & signal_ends())) {
		say_line("core cannot start: stopping its children without it");
		stop_begin(STOP_CHILDREN, 1, 0);
	}
	reexec_tick(now, next);
	roles_tick(now, next);
	hang_tick(now, next);
	if (K.stop)
		stop_tick(now, next);
	if (K.signal_fd < 0) {
		sigset_t all;
		sigfillset(&all);
		K.signal_fd = signalfd(-1, &all, SFD_CLOEXEC | SFD_NONBLOCK);
		K.has_more_dead = true; /* of a previous life, or until this works */
	}
	if (K.has_more_dead)
		earliest(next, MAX(K.reap_at_us, 1u));
}

static void turn(void)
{
	uint64_t now = now_mono_us(), next = USEC_INFINITY;
	int wait_ms = -1;
	tick(now, &next);
	core_flush(); /* behind the tick, which makes news too */
	if (K.is_stuck || K.signal_fd < 0)
		earliest(&next, now + RETRY_US);
	if (next != USEC_INFINITY)
		wait_ms = next <= now ? 0 : (int)MIN((next - now + 999) / 1000, 3600000u);
	struct pollfd p[] = {
		{K.signal_fd,                POLLIN,					 0},
		{table.kept.core_link ?: -1, (short)(K.is_full ? POLLIN | POLLOUT : POLLIN), 0},
		{table.kept.words[0] ?: -1,  POLLIN,                                         0},
	};
	if (K.stop == STOP_DONE || poll(p, ARRAY_SIZE(p), wait_ms) < 0)
		return;
	if (p[1].revents)
		core_read(); /* before its exit is seen: what it asked for in time is done */
	if (p[0].revents)
		read_signals();
	for (int i = 0; p[2].revents && i < WORDS_BATCH && words_read_one(); i++)
		;
	if (K.has_more_dead && K.reap_at_us <= now_mono_us()) {
		core_flush(); /* who was named by its signal is told before the search for more */
		reap();
	}
}

static void start(int argc, char **argv)
{
	reaper_begin(NULL);
	fds_begin();
	int skip = argc > 1 && startswith(argv[1], STATE_OPTION), n = 2;
	K.args[0] = argv[0];
	for (int i = 1 + skip; i < argc && n < KEEPER_ARGS_MAX + 2; i++)
		K.args[n++] = argv[i];
	const char *hang_ms = getenv("STAYD_TEST_HANG_MS"); /* for tests: a minute in a second */
	timing.hang_us = hang_ms ? strtoul(hang_ms, NULL, 10) * USEC_PER_MSEC : timing.hang_us;
	rows_init();
	if (skip)
		reexec_begin((int)strtol(argv[1] + strlen(STATE_OPTION), NULL, 10));
	if (!table.kept.self_fd)
		state_begin();
	table.role[ROLE_CORE].is_wanted = table.role[ROLE_LAUNCHER].is_wanted = 1;
	K.signal_fd = -1;
}

int keeper_main(int argc, char **argv, int *ret_how)
{
	start(argc, argv);
	while (K.stop != STOP_DONE)
		turn();
	*ret_how = K.exit_how;
	return K.exit_status;
}
