/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who was killed for the memory of all of us together: the limit of a container, or of the unit that stayd
 * is for another init.
 *
 *  1. A service's own limit is its cgroup's (cgroup_oom_killed()). Where cgroups cannot be made, in most
 *     containers, the kernel's count for the group we are in is all there is, and it can be read there.
 *  2. The count says how many, not who. A kill is taken for a unit's when the unit was up, its process
 *     ended by SIGKILL, and the count had grown since the last look, or within KILLED_US before: of several
 *     that end together each has its own. Who is killed besides (a worker, core itself) belongs to nobody.
 *  3. The last look is when the kernel said that something changed. The older hierarchy does not say: there
 *     a SIGKILL by hand may be taken for a kill of a worker long before.
 *
 * memory_killed() is called by keeper.c for every exit by SIGKILL; these are rare.
 */
#include "core/inner.h"

#include <fcntl.h>
#include <inttypes.h>
#include <sys/epoll.h>

#define KILLED_US USEC_PER_SEC

static uint64_t killed_so_far(const struct core *c)
{
	struct buf b = {0};
	uint64_t n = 0;
	if (c->memory.file && read_file(AT_FDCWD, c->memory.file, 4096, &b) == 0) {
		const char *p = strstr(b.data, "oom_kill ");
		n = p ? strtoull(p + strlen("oom_kill "), NULL, 10) : 0;
	}
	buf_done(&b);
	return n;
}

static void look(struct core *c)
{
	uint64_t n = killed_so_far(c), now = now_mono_us();
	if (n > c->memory.seen) {
		c->memory.left += n - c->memory.seen;
		c->memory.at_us = now;
		c->memory.seen = n;
	}
	if (now - c->memory.at_us > KILLED_US)
		c->memory.left = 0;
}

static void on_change(struct source *s, uint32_t events UNUSED)
{
	struct core *c = container_of(s, struct core, memory.source);
	char text[64];
	if (pread(s->fd, text, sizeof(text), 0) <= 0) { /* says it again for the next one */
		int fd = s->fd;
		loop_remove(&c->loop, s);
		s->fd = fd_close(fd);
	}
	look(c);
}

static void watch(struct core *c)
{
	char text[64];
	int fd = open(c->memory.file, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return;
	if (pread(fd, text, sizeof(text), 0) <= 0 ||
		loop_add(&c->loop, &c->memory.source, fd, EPOLLPRI, PRIO_NORMAL, on_change) < 0)
		fd_close(fd);
}

void memory_begin(struct core *c)
{
	static const struct {
		const char *controller, *file, *limit;
	} kinds[] = {
		{NULL,     "memory.events",      "memory.max"           },
		{"memory", "memory.oom_control", "memory.limit_in_bytes"},
	};
	for (size_t i = 0; !c->memory.file && i < ARRAY_SIZE(kinds); i++) {
		CLEANUP_FREE char *dir = cgroup_own_dir(kinds[i].controller);
		/* As the first process we moved into one of our own: the services are beside it. */
		if (dir && c->is_init && endswith(dir, "/init.scope"))
			dir[strlen(dir) - strlen("/init.scope")] = '\0';
		CLEANUP_FREE char *file = xasprintf("%s/%s", strna(dir), kinds[i].file);
		if (!dir || access(file, R_OK) < 0)
			continue;
		c->memory.file = TAKE_PTR(file);
		c->memory.limit = kinds[i].limit;
		if (!kinds[i].controller)
			watch(c);
	}
	c->memory.seen = killed_so_far(c);
}

static void say(const struct core *c, const struct unit *u)
{
	CLEANUP_FREE char *dir = xstrndup(
		c->memory.file, (size_t)(strrchr(c->memory.file, '/') - c->memory.file));
	CLEANUP_FREE char *path = xasprintf("%s/%s", dir, c->memory.limit);
	struct buf b = {0};
	uint64_t limit = read_file(AT_FDCWD, path, 64, &b) == 0 ? strtoull(strna(b.data), NULL, 10) : 0;
	buf_done(&b);
	if (limit && limit < 1ULL << 50)
		log_warn(u->name,
			"killed by the kernel: all processes here together reached %s, %" PRIu64
			" MiB; raise it, or give units a MemoryMax= of their own",
			path, limit >> 20);
	else
		log_warn(u->name, "killed by the kernel: the machine has no memory left");
}

bool memory_killed(struct core *c, const struct unit *u, bool is_own)
{
	enum active_state state = inst_active_state(u->rec.state);
	look(c);
	if (!c->memory.left || (state == ACTIVE_DEACTIVATING && !is_own))
		return false;
	c->memory.left--;
	if (!is_own)
		say(c, u);
	return !is_own;
}
