/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The limits of a unit's cgroup: set when it is made, looked at after a restart of core, and told where
 * they could not be had. And what the kernel did about the one on memory.
 */
#include "core/cgroup.h"

#include <fcntl.h>

static uint64_t physical_memory(void)
{
	return (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);
}

uint64_t cgroup_oom_kills(int fd)
{
	struct buf b = {0};
	uint64_t n = 0;
	if (fd >= 0 && read_file(fd, "memory.events", 4096, &b) == 0) {
		const char *p = strstr(b.data, "oom_kill ");
		n = p ? strtoull(p + strlen("oom_kill "), NULL, 10) : 0;
	}
	buf_done(&b);
	return n;
}

bool cgroup_oom_killed(struct core *c, struct unit *u)
{
	struct unit_core *x = uc(u);
	uint64_t n = cgroup_oom_kills(cgroup_fd_of(c, u)), before = x->oom_kills;
	x->oom_kills = n;
	return n > before;
}

/* What 100% of TasksMax= is. */
static uint64_t system_tasks(void)
{
	static const char *const files[] = {
		"/proc/sys/kernel/pid_max", "/proc/sys/kernel/threads-max"};
	uint64_t max = UINT64_MAX;
	for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
		struct buf b = {0};
		uint64_t n =
			read_file(AT_FDCWD, files[i], 64, &b) == 0 ? strtoull(b.data, NULL, 10) : 0;
		max = n ? MIN(max, n) : max;
		buf_done(&b);
	}
	return max;
}

/* One row a directive that is a file of the cgroup. */
struct knob {
	const char *directive, *controller, *file;
	uint64_t value; /* UINT64_MAX = not asked for */
};
#define KNOBS 9

static void knobs_of(const struct unit *u, struct knob ret[KNOBS])
{
	const struct cgroup_limits *l = &u->conf->exec.cgroup;
	uint64_t memory = l->memory_max_permille ? physical_memory() / 1000 * l->memory_max_permille
						 : l->memory_max;
	uint64_t tasks = l->tasks_max_permille ? system_tasks() * l->tasks_max_permille / 1000
					       : l->tasks_max;
	const struct knob knobs[KNOBS] = {
		{"MemoryMax",     "memory", "memory.max",      memory                 },
		{"MemoryHigh",    "memory", "memory.high",     l->memory_high         },
		{"MemoryLow",     "memory", "memory.low",      l->memory_low          },
		{"MemoryMin",     "memory", "memory.min",      l->memory_min          },
		{"MemorySwapMax", "memory", "memory.swap.max", l->memory_swap_max     },
		{"TasksMax",      "pids",   "pids.max",        tasks                  },
		{"CPUWeight",     "cpu",    "cpu.weight",      l->cpu_weight          },
		{"IOWeight",      "io",     "io.weight",       l->io_weight           },
		{"CPUQuota",      "cpu",    "cpu.max",         l->cpu_quota_us_per_sec},
	};
	memcpy(ret, knobs, sizeof(knobs));
}

void cgroup_set_limits(struct core *c, struct unit *u, int fd)
{
	struct knob knobs[KNOBS];
	knobs_of(u, knobs);
	uc(u)->limits_refused = 0;
	for (size_t i = 0; i < KNOBS; i++) {
		const struct knob *k = &knobs[i];
		char text[64];
		if (k->value == UINT64_MAX || !strv_has(&c->cgroup_controllers, k->controller))
			continue;
		if (streq(k->file, "cpu.max"))
			snprintf(text, sizeof(text), "%llu 100000",
				(unsigned long long)(k->value / 10));
		else
			snprintf(text, sizeof(text), "%llu", (unsigned long long)k->value);
		int r = cgroup_write(fd, k->file, text);
		if (r == 0)
			continue;
		log_warn(u->name, "cannot set %s to %s: %s", k->file, text, errno_name(r));
		uc(u)->limits_refused |= (uint16_t)(1u << i);
	}
}

/* Is this limit not what was set? A controller takes its files with it, and comes back without limits. */
static bool is_limit_gone(int fd, const char *file)
{
	struct buf b = {0};
	int r = read_file(fd, file, 64, &b);
	bool is_gone = r == -ENOENT || (r == 0 && startswith(b.data, "max"));
	buf_done(&b);
	return is_gone;
}

/* After a restart of core, which set none of them. */
void cgroup_check_limits(struct unit *u, int fd)
{
	struct knob knobs[KNOBS];
	if (!u->conf)
		return;
	knobs_of(u, knobs);
	for (size_t i = 0; i < KNOBS; i++)
		if (knobs[i].value != UINT64_MAX && is_limit_gone(fd, knobs[i].file))
			uc(u)->limits_refused |= (uint16_t)(1u << i);
}

void cgroup_each_degraded(struct core *c, const struct unit *u,
	void (*each)(void *arg, const struct degraded *d), void *arg)
{
	struct knob knobs[KNOBS];
	knobs_of(u, knobs);
	for (size_t i = 0; i < KNOBS; i++) {
		char why[96];
		struct degraded d = {.directive = knobs[i].directive,
			.reason = why,
			.class = CLASS_IGNORED_WARN};
		if (knobs[i].value == UINT64_MAX)
			continue;
		if (u->core && !unit_is_down(u))
			(void)cgroup_fd_of(
				c, uc(u)->unit); /* looks at it after a restart of core */
		bool has_controller = strv_has(&c->cgroup_controllers, knobs[i].controller);
		if (has_controller && !(u->core && uc(u)->limits_refused & 1u << i))
			continue;
		if (has_controller)
			snprintf(why, sizeof(why), "not enforced: it is not in %s of its cgroup",
				knobs[i].file);
		else if (c->cgroup_base)
			snprintf(why, sizeof(why), "not enforced: no %s controller in our cgroup",
				knobs[i].controller);
		else
			str_copy(why, "not enforced: no cgroup of our own here", sizeof(why));
		each(arg, &d);
	}
}
