/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One daemon to a runtime directory and to a state directory.
 *
 *  1. The lock is flock(2) on DIRECTORY/lock. The kernel drops it with the last descriptor of the
 *     one open file: core's, keeper's deposit (so that it outlives a core) and the launcher's (so
 *     that whoever gets it knows that nobody starts processes any more). No file needs removing.
 *  2. What the file says is for people, and to tell at once whether waiting can help: a holder whose
 *     keeper lives is refused to immediately, the rest of a daemon whose keeper died is waited for.
 *  3. A holder that is our own keeper has become another program and could not read its own state: what is
 *     left of the one before is waited for, and its services are taken over.
 *
 * Called once by core_come_up(), before anything in the directories is touched.
 */
#include "core/inner.h"
#include "core/procfs.h"

#include <fcntl.h>
#include <sys/file.h>

#define LOCK_WAIT_US  (10 * USEC_PER_SEC) /* core and launcher end at once when keeper does */
#define LOCK_POLL_US  (10 * USEC_PER_MSEC)
#define LOCK_TEXT_MAX 4096

struct holder {
	int pid; /* of its keeper; 0: the file says nothing */
	unsigned long long start_us;
	char boot[ID128_HEX];
	char since[TIMESTAMP_MAX];
	char command[512];
};

static void holder_read(int fd, struct holder *ret)
{
	char text[LOCK_TEXT_MAX];
	ssize_t n = pread(fd, text, sizeof(text) - 1, 0);
	text[MAX(n, 0)] = '\0';
	memset(ret, 0, sizeof(*ret));
	if (sscanf(text, "pid %d start %llu boot %32s since %31s", &ret->pid, &ret->start_us,
		    ret->boot, ret->since) < 4)
		ret->pid = 0;
	const char *line = strchr(text, '\n');
	str_copy(ret->command, line ? line + 1 : "", sizeof(ret->command));
	ret->command[strcspn(ret->command, "\n")] = '\0';
	str_make_printable(ret->command);
}

static bool holder_lives(const struct holder *h)
{
	struct proc_stat s;
	return h->pid > 0 && procfs_stat(h->pid, &s) == 0 && s.state != 'Z' &&
	       s.start_us == h->start_us;
}

static bool is_our_keeper(const struct core *c, const struct holder *h)
{
	return h->pid == c->keeper_pid && holder_lives(h);
}

static void command_of(pid_t pid, char *out, size_t size)
{
	char path[64];
	struct buf b = {0};
	snprintf(path, sizeof(path), "/proc/%d/cmdline", (int)pid);
	out[0] = '\0';
	if (read_file(AT_FDCWD, path, LOCK_TEXT_MAX, &b) == 0 && b.size) {
		for (size_t i = 0; i + 1 < b.size; i++)
			b.data[i] = b.data[i] ? b.data[i] : ' ';
		str_copy(out, b.data, size);
	}
	buf_done(&b);
}

static void holder_write(const struct core *c, int fd)
{
	char stamp[TIMESTAMP_MAX], command[512], boot[ID128_HEX];
	struct proc_stat s = {.start_us = 0};
	(void)procfs_stat(c->keeper_pid, &s);
	command_of(c->keeper_pid, command, sizeof(command));
	CLEANUP_FREE char *text = xasprintf("pid %d start %llu boot %s since %s\n%s\n",
		(int)c->keeper_pid, (unsigned long long)s.start_us, id128_hex(boot, &c->boot),
		format_timestamp(stamp, now_wall_us()), command);
	if (pwrite(fd, text, strlen(text), 0) < 0 || ftruncate(fd, (off_t)strlen(text)) < 0)
		log_warn(NULL, "lock: %s; another stayd could not name us", errno_name(errno));
}

static int refuse(const struct holder *h, const char *dir)
{
	if (holder_lives(h))
		log_error(NULL,
			"another stayd works in %s: pid %d since %s (%s); stop it, or give this one other"
			" directories",
			dir, h->pid, h->since, h->command);
	else
		log_error(NULL,
			"%s is still locked by what is left of another stayd (keeper was pid %d, since"
			" %s: %s); see `fuser -v %s/lock`",
			dir, h->pid, h->since, h->command, dir);
	return -EBUSY;
}

static int lock_dir(struct core *c, const char *dir, const char *name, int *fd)
{
	uint64_t end = now_mono_us() + LOCK_WAIT_US;
	struct holder h;
	*fd = deposit_take(name);
	if (*fd >= 0)
		return 0; /* it was never let go of */
	CLEANUP_FREE char *path = xasprintf("%s/lock", dir);
	*fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600);
	if (*fd < 0) {
		log_warn(
			NULL, "%s: %s; nothing keeps a second stayd away", path, errno_name(errno));
		return 0;
	}
	for (;;) {
		bool is_ours = flock(*fd, LOCK_EX | LOCK_NB) == 0;
		holder_read(*fd, &h);
		if (is_ours)
			break;
		bool may_wait = !holder_lives(&h) || is_our_keeper(c, &h);
		if (!may_wait || now_mono_us() >= end)
			return refuse(&h, dir);
		usleep(LOCK_POLL_US);
	}
	char boot[ID128_HEX];
	if (h.pid && streq(h.boot, id128_hex(boot, &c->boot)))
		c->had_holder = true;
	c->is_keeper_anew |= is_our_keeper(c, &h);
	holder_write(c, *fd);
	return keeper_put(c, name, *fd);
}

/* Who finds nothing in the file comes after an orderly end. */
void lock_leave(struct core *c)
{
	for (size_t i = 0; i < ARRAY_SIZE(c->lock_fds); i++)
		if (c->lock_fds[i] >= 0)
			(void)!ftruncate(c->lock_fds[i], 0);
}

int lock_take(struct core *c)
{
	int r = c->is_in_memory ? 0 : lock_dir(c, c->runtime_dir, "lock/runtime", &c->lock_fds[0]);
	if (r == 0 && c->has_state_dir)
		r = lock_dir(c, c->state_dir, "lock/state", &c->lock_fds[1]);
	if (r == 0)
		launcher_hold_lock(c);
	return r;
}
