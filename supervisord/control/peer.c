/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who is at the other end of a connection: what the kernel wrote down when it was made.
 *
 * Owns nothing. Invariants:
 *  1. uid, gid and groups are those of connect(2); what the peer became since does not matter.
 *  2. pid, login user and program name are for the audit log alone. The latter two are read from
 *     /proc and count only if the very process that connected still lived when they had been read.
 * Called by client.c at accept(2), and when a line about the peer is written.
 */
#include <fcntl.h>
#include <poll.h>
#include <pwd.h>
#include <sys/socket.h>

#include "control/peer.h"

#ifndef SO_PEERPIDFD
#	define SO_PEERPIDFD 77 /* since Linux 6.5 */
#endif

#define GROUPS_FEW 64    /* at the first try */
#define GROUPS_MAX 65536 /* the kernel's own NGROUPS_MAX */

static int take_groups(int fd, struct peer *p)
{
	gid_t few[GROUPS_FEW];
	gid_t *groups = few;
	socklen_t size = sizeof(few);
	int r = getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, few, &size);
	if (r < 0 && errno == ERANGE && size <= GROUPS_MAX * sizeof(gid_t)) {
		groups = xmalloc(size);
		r = getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups, &size);
	}
	int error = r < 0 ? -errno : 0;
	if (error == 0 && size) {
		p->n_groups = size / sizeof(gid_t);
		p->groups = groups == few ? memcpy(xmalloc(size), few, size) : groups;
	} else if (groups != few) {
		free(groups);
	}
	return error;
}

int peer_identify(int fd, struct peer *ret)
{
	struct ucred u;
	socklen_t size = sizeof(u);
	struct peer p = {.login_uid = UID_NONE};
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &u, &size) < 0)
		return -errno;
	p.uid = u.uid;
	p.gid = u.gid;
	p.pid = u.pid;
	int r = take_groups(fd, &p);
	if (r < 0)
		return r;
	*ret = p;
	return 0;
}

void peer_done(struct peer *p)
{
	free(p->groups);
	*p = (struct peer){0};
}

/* "?" when there is none. */
static void user_name(uid_t uid, char *out, size_t size)
{
	FILE *f = fopen("/etc/passwd", "re");
	str_copy(out, "?", size);
	for (struct passwd *p; f && (p = fgetpwent(f));)
		if (p->pw_uid == uid) {
			str_copy(out, p->pw_name, size);
			break;
		}
	if (f)
		fclose(f);
}

const char *peer_name(struct peer *p)
{
	if (!p->name[0])
		user_name(p->uid, p->name, sizeof(p->name));
	return p->name;
}

const char *peer_actor(struct peer *p)
{
	if (!p->actor[0])
		snprintf(p->actor, sizeof(p->actor), "uid %u (%s)", (unsigned)p->uid, peer_name(p));
	return p->actor;
}

static void read_word(pid_t pid, const char *file, char *out, size_t size)
{
	char path[64];
	struct buf b = {0};
	out[0] = '\0';
	snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, file);
	if (read_file(AT_FDCWD, path, 256, &b) == 0 && b.size) {
		b.data[strcspn(b.data, "\n")] = '\0';
		str_copy(out, b.data, size);
		str_make_printable(out);
	}
	buf_done(&b);
}

void peer_describe(int fd, struct peer *p)
{
	int pidfd = -1;
	socklen_t size = sizeof(pidfd);
	char login[16], program[sizeof(p->program)];
	(void)peer_actor(p);
	if (p->is_described)
		return;
	p->is_described = true;
	if (p->pid <= 0 || getsockopt(fd, SOL_SOCKET, SO_PEERPIDFD, &pidfd, &size) < 0)
		return;
	read_word(p->pid, "loginuid", login, sizeof(login));
	read_word(p->pid, "comm", program, sizeof(program));
	struct pollfd gone = {.fd = pidfd, .events = POLLIN};
	if (poll(&gone, 1, 0) == 0) { /* it lives: the pid was its own all the time */
		p->login_uid = login[0] ? (uid_t)strtoul(login, NULL, 10) : UID_NONE;
		str_copy(p->program, program, sizeof(p->program));
	}
	fd_close(pidfd);
}
