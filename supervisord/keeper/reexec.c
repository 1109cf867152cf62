/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Owns the change of program: a trial, the state in a memfd, the exec, the way back.
 *
 *  1. Nothing is given up before the new program has shown, in a child of its own, that it runs
 *     here and is a stayd.
 *  2. Children, deposits and links go over as they are; core is replaced at once, the other roles
 *     one by one when the new core lives. Bad state is an empty table, never an end.
 *  3. The previous program stays open until the new core has said hello and lived ten seconds; else
 *     it comes back, with everything.
 *
 * Called by links.c (KP_REEXEC, KP_HELLO), roles.c (core ended) and keeper.c (start, ticks).
 * The saved layout is STATE_VERSION; a program that changes it must still read the one before.
 */
#include "private.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>

#define STATE_VERSION 1u
#define TRIAL_US      (5 * USEC_PER_SEC)
#define PROVE_CRASHES 3

extern char **environ;

struct state_head {
	char magic[8];
	uint32_t version, build, row_size, deposit_size, kept_size;
	uint32_t crc; /* of what follows the head */
};

static struct state_head head_of(const void *body, size_t size)
{
	struct state_head h = {"staydkp", STATE_VERSION, WIRE_BUILD, sizeof(struct row),
		sizeof(struct deposit), sizeof(struct kept), crc32_of(body, size)};
	return h;
}

static int state_save(void)
{
	struct state_head h = {0};
	int fd = memfd_create("stayd-keeper", MFD_CLOEXEC);
	if (fd < 0)
		return -errno;
	size_t size = 0;
	if (write_all(fd, &h, sizeof(h)) == 0 && write_all(fd, &K.kept, sizeof(K.kept)) == 0)
		size = table_save(fd);
	size += sizeof(h) + sizeof(K.kept);
	char *all = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (size == sizeof(h) + sizeof(K.kept) || all == MAP_FAILED) {
		fd_close(fd);
		return -ENOMEM;
	}
	h = head_of(all + sizeof(h), size - sizeof(h));
	memcpy(all, &h, sizeof(h));
	(void)munmap(all, size);
	return fd;
}

int state_load(int fd)
{
	struct stat st;
	struct state_head h;
	if (fstat(fd, &st) < 0 || (size_t)st.st_size < sizeof(h) + sizeof(K.kept))
		return -EBADMSG;
	size_t size = (size_t)st.st_size;
	char *all = mmap(NULL, size, PROT_READ, MAP_PRIVATE, fd, 0);
	fd_close(fd);
	if (all == MAP_FAILED)
		return -errno;
	h = head_of(all + sizeof(h), size - sizeof(h));
	int r = memcmp(all, &h, sizeof(h)) ? -EBADMSG : 0;
	if (r == 0)
		r = table_load(all + sizeof(h) + sizeof(K.kept), size - sizeof(h) - sizeof(K.kept));
	if (r == 0)
		memcpy(&K.kept, all + sizeof(h), sizeof(K.kept));
	(void)munmap(all, size);
	if (r < 0)
		say("the saved state is not ours or damaged: starting with an empty table");
	return r;
}

/* What has to stay open over the exec. */
static void hold_open(bool on)
{
	for (enum role i = ROLE_CORE; i < ROLE_MAX; i++) {
		(void)fd_set_cloexec(K.kept.role[i].link_fd, !on);
		(void)fd_set_cloexec(K.kept.role[i].core_fd, !on);
	}
	for (unsigned i = 0; i < RETIRED_MAX; i++)
		if (K.kept.retired[i])
			(void)fd_set_cloexec(K.kept.retired[i], !on);
	for (unsigned i = 1; i <= deposits_high(); i++)
		if (deposit_at(i)->fd)
			(void)fd_set_cloexec(deposit_at(i)->fd, !on);
	(void)fd_set_cloexec(K.kept.previous_fd, !on);
}

/* Becomes the program; returns -errno when that fails, with everything as before. Signals stay
 * blocked over the exec and wait for the successor. */
static int become(int program, int previous)
{
	static char option[40] = "--keeper-state=";
	int old = K.kept.previous_fd;
	K.kept.previous_fd = previous;
	int state = state_save(), r = state;
	if (state >= 0) {
		int n = 15, div = 1;
		while (state / div >= 10)
			div *= 10;
		for (; div; div /= 10)
			option[n++] = (char)('0' + state / div % 10);
		option[n] = '\0';
		K.args[1] = option;
		hold_open(true);
		(void)fd_set_cloexec(state, false);
		(void)execveat(program, "", K.args, environ, AT_EMPTY_PATH);
		r = -errno;
		hold_open(false);
		fd_close(state);
	}
	K.kept.previous_fd = old;
	return r;
}

static void refuse(int error)
{
	K.trial_fd = fd_close(K.trial_fd);
	core_refused(KP_REEXEC, error, NULL);
}

void reexec_ask(const struct kp_frame *f)
{
	if (K.trial_pid || K.stop) {
		core_refused(KP_REEXEC, -EBUSY, f);
		return;
	}
	int fd = f->name[0] ? open(f->name, O_PATH | O_CLOEXEC) : K.self_fd;
	if (fd < 0) {
		core_refused(KP_REEXEC, -errno, f);
		return;
	}
	K.trial_fd = fcntl(fd, F_DUPFD_CLOEXEC, 10);
	if (f->name[0])
		fd_close(fd);
	pid_t pid = K.trial_fd >= 0 ? fork() : -1;
	if (pid < 0) {
		refuse(-errno);
	} else if (pid == 0) {
		char *argv[] = {K.args[0], (char[]){"--role=trial"}, NULL};
		exec_self(K.trial_fd, argv);
		_exit(EXIT_EXEC);
	} else {
		K.trial_pid = pid;
		K.trial_by_us = now_us() + TRIAL_US;
	}
}

void reexec_trial_ended(int wait_status)
{
	struct stat a, b;
	K.trial_pid = 0;
	K.trial_by_us = 0;
	if (!WIFEXITED(wait_status) || WEXITSTATUS(wait_status) != KEEPER_TRIAL_OK) {
		refuse(-ENOEXEC);
		return;
	}
	bool is_same = fstat(K.trial_fd, &a) == 0 && fstat(K.self_fd, &b) == 0 &&
		       a.st_dev == b.st_dev && a.st_ino == b.st_ino;
	refuse(become(K.trial_fd, is_same ? -1 : K.self_fd)); /* here only when it failed */
}

static void come_back(void)
{
	say("the new program's core does not come up: going back to the previous one");
	K.prove_by_us = 0;
	K.kept.came_back = 1;
	int r = become(K.kept.previous_fd, -1);
	K.kept.came_back = 0;
	say("cannot go back: %s", errno_name(r));
}

void reexec_core_ended(void)
{
	if (K.prove_by_us && ++K.prove_crashes >= PROVE_CRASHES)
		K.prove_by_us = 1; /* at the next tick: not from within a reap */
}

void reexec_core_hello(void)
{
	if (K.prove_by_us)
		K.prove_by_us = now_us() + timing.prove_us;
}

void reexec_tick(uint64_t now, uint64_t *next)
{
	if (K.trial_by_us && K.trial_by_us <= now) {
		(void)kill(K.trial_pid, SIGKILL);
		K.trial_by_us = 0;
	}
	if (K.prove_by_us && K.prove_by_us <= now) {
		if (K.phase == CORE_SILENT) {
			come_back();
		} else {
			K.kept.previous_fd = fd_close(K.kept.previous_fd);
			K.prove_by_us = 0;
		}
	}
	if (K.to_replace && K.phase == CORE_LIVE) {
		enum role r = (enum role)__builtin_ctz(K.to_replace);
		if (!K.kept.role[r].kill_at_us)
			role_ask_to_end(r, 5 * USEC_PER_SEC);
	}
	earliest(next, K.trial_by_us);
	earliest(next, K.prove_by_us);
}

/* First start, or the first moments after an exec. */
void reexec_start(bool is_restored)
{
	struct role_state *core = &K.kept.role[ROLE_CORE];
	for (enum role i = ROLE_CORE; i < ROLE_MAX && !is_restored; i++)
		K.kept.role[i] = (struct role_state){.link_fd = -1, .core_fd = -1};
	core->is_wanted = K.kept.role[ROLE_LAUNCHER].is_wanted = 1;
	if (!is_restored) {
		K.kept.previous_fd = -1;
		role_start(ROLE_CORE);
		role_start(ROLE_LAUNCHER);
		return;
	}
	for (enum role i = ROLE_CORE; i < ROLE_MAX; i++)
		if (K.kept.role[i].pid) {
			link_watch(K.kept.role[i].link_fd, i);
			K.to_replace |= i == ROLE_CORE ? 0 : 1u << i;
		}
	for (unsigned i = 0; i < RETIRED_MAX; i++)
		if (K.kept.retired[i])
			link_watch(K.kept.retired[i], TAG_RETIRED + i);
	if (K.kept.previous_fd >= 0) {
		K.prove_by_us = now_us() + timing.prove_us;
		K.prove_crashes = -1; /* the end of the old core, now, does not count */
	}
	if (core->pid)
		role_ask_to_end(ROLE_CORE, 0);
	else
		role_start(ROLE_CORE);
}
