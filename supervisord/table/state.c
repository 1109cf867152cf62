/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Owns the way of the table over a re-exec, see the rule of versions in table.h.
 *
 *  1. A pack that is damaged, cut off or too new changes nothing: the table stays empty.
 *  2. Each item is looked at before it is used: one that no keeper wrote is left out, and said.
 *  3. A descriptor that is not open, and a pid that is not our child, is never taken for one.
 *
 * Called by keeper/.
 */
#include "table/table.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/auxv.h>
#include <sys/wait.h>

#define LOAD_TRIES    1000
#define LOAD_PAUSE_MS 10

bool is_ours(pid_t pid)
{
	siginfo_t info;
	int r;
	do
		r = waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT | __WALL);
	while (r < 0 && errno == EINTR);
	return r == 0;
}

static bool is_fd(int32_t fd)
{
	return !fd || (fd > STDERR_FILENO && fcntl(fd, F_GETFD) >= 0);
}

static bool take_kept(uint32_t i UNUSED, const void *item)
{
	const struct kept *k = item;
	const int32_t fds[] = {
		k->previous_fd, k->core_link, k->words[0], k->words[1], k->leash[0], k->leash[1]};
	for (size_t n = 0; n < ARRAY_SIZE(fds); n++)
		if (!is_fd(fds[n]))
			return false;
	table.kept = *k;
	return k->self_fd && is_fd(k->self_fd);
}

static bool take_role(uint32_t r, const void *item)
{
	const struct role_state *s = item;
	if (r < ROLE_MAX && is_fd(s->program_fd))
		table.role[r] = *s;
	return is_fd(s->program_fd); /* one of a later version leaves when nobody speaks to it */
}

static bool take_row(uint32_t i UNUSED, const void *item)
{
	const struct row *r = item;
	bool is_role = r->kind == ROW_ROLE;
	if (!r->kind || r->kind > ROW_ROLE)
		return !r->kind;
	/* One of a later version leaves when nobody speaks to it; each is alive once. */
	if (is_role &&
		(r->id.seq < ROLE_CORE || r->id.seq >= ROLE_MAX || !table.row[r->id.seq].code))
		return false;
	if (!is_fd(r->fd) ||
		(r->code ? r->code > CLD_DUMPED : row_of_pid(r->pid) || r->kind == ROW_BELOW))
		return false;
	if (!r->code && r->kind != ROW_TRACKED && !is_ours(r->pid))
		return false;
	struct row *n = is_role ? &table.row[r->id.seq] : row_new(r->kind, &r->id, r->pid, r->code);
	if (!n)
		return false;
	if (is_role && !r->code)
		row_begin(n, r->pid, r->fd);
	n->time_us = r->time_us;
	n->status = r->status;
	n->program = r->program;
	n->fd = r->fd;
	n->is_stale = is_role;
	return true;
}

static bool take_deposit(uint32_t i UNUSED, const void *item)
{
	struct deposit d = *(const struct deposit *)item;
	d.name[KP_NAME_MAX - 1] = '\0';
	return is_fd(d.fd) && (!d.fd || deposit_put(d.name, d.fd) == 0);
}

#define SECTIONS                                                                                   \
	{                                                                                          \
		{&table.kept, 1, sizeof(table.kept), take_kept},                                   \
			{table.role, ROLE_MAX, sizeof(table.role[0]), take_role},                  \
			{table.row + 1, rows_high(), sizeof(table.row[0]), take_row},              \
			{table.deposit, table.n_deposits, sizeof(table.deposit[0]), take_deposit}, \
	}

void state_begin(void)
{
	(void)close_range(STDERR_FILENO + 1, ~0u, 0);
}

int program_open(const char *name)
{
	const char *started = (const char *)getauxval(AT_EXECFN);
	int fd = open("/proc/self/exe", O_PATH);
	if (fd < 0)
		fd = open(started ? started : name, O_PATH);
	if (fd < 0)
		return -errno;
	table.kept.self_fd = fd;
	return 0;
}

int state_save(void)
{
	const struct pack_section s[] = SECTIONS;
	return pack_save(s, ARRAY_SIZE(s), STATE_VERSION, STATE_OLDEST);
}

/* Without it everything that runs would be forgotten, so a machine that has no memory for it now is
 * waited for. */
int state_load(int fd)
{
	const struct pack_section s[] = SECTIONS;
	int r;
	for (int i = 0; i < LOAD_TRIES; i++) {
		r = pack_load(fd, s, ARRAY_SIZE(s), STATE_VERSION, STATE_OLDEST);
		if (r != -ENOMEM && r != -EIO && r != -EAGAIN)
			break;
		(void)poll(NULL, 0, LOAD_PAUSE_MS);
	}
	return r;
}
