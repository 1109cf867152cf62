/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by the tests of launch/: unit configurations made by hand, and a real launcher whose
 * keeper and core the test is. */
#pragma once

#include "check_main.h"
#include "launch/parts.h"

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define RIG_DEADLINE_MS 60000

/* ---- configurations ---- */

struct unit {
	struct unit_conf conf;
	struct exec_cmd cmd;
	char *argv[64];
	struct launch_vars vars;
};

UNUSED static const char *probe_path(void)
{
	static char path[512];
	const char *build = getenv("STAYD_BUILD"); /* tests/run.py: where other users get in, too */
	if (build) {
		snprintf(path, sizeof(path), "%s/tests/tools/probe", build);
		return path;
	}
	ssize_t n = readlink("/proc/self/exe", path, sizeof(path) - 32);
	ck_assert_int_gt(n, 0);
	path[n] = '\0';
	char *name = strrchr(path, '/') + 1;
	str_copy(name, "tools/probe", sizeof(path) - (size_t)(name - path));
	return path;
}

UNUSED static void unit_arg(struct unit *u, const char *arg)
{
	ck_assert_uint_lt(u->cmd.argc, ARRAY_SIZE(u->argv) - 1);
	u->argv[u->cmd.argc++] = (char *)arg;
}

/* What the loader fills in for a file that says nothing. */
UNUSED static void unit_init(struct unit *u, const char *path)
{
	/* private directories are found by it, and other tests run beside this one */
	static char name[32];
	snprintf(name, sizeof(name), "test-%d.service", (int)getpid());
	memset(u, 0, sizeof(*u));
	u->conf.name = name;
	u->conf.prefix = (char *)"test";
	u->conf.type = UNIT_SERVICE;
	u->conf.exec.limits.umask = 022;
	u->conf.exec.limits.cpu_policy = u->conf.exec.limits.io_class =
		u->conf.exec.limits.io_priority = -1;
	u->conf.exec.identity.bounding_set = ~0ULL;
	u->conf.exec.identity.no_new_privileges = -1;
	u->conf.exec.ignore_sigpipe = true;
	u->conf.exec.std_out.kind = STD_LOG;
	u->conf.exec.std_err.kind = STD_INHERIT;
	for (int k = 0; k < DIR_KIND_MAX; k++)
		u->conf.exec.dirs[k].mode = 0755;
	u->cmd.path = (char *)path;
	u->cmd.argv = u->argv;
	unit_arg(u, path);
	u->vars.cmd = &u->cmd;
	u->vars.kind = EXEC_START;
	u->vars.runtime_root = "/run";
	u->vars.state_root = "/var/lib";
	u->vars.cache_root = "/var/cache";
	u->vars.logs_root = "/var/log";
	u->vars.config_root = "/etc";
	for (size_t i = 0; i < 16; i++)
		u->vars.id.invocation[i] = (uint8_t)(i + 1);
}

/* On the heap, so that a helper can fill in a unit; a test process ends soon. */
#define LIST(...) list_of((char *[]){__VA_ARGS__}, sizeof((char *[]){__VA_ARGS__}) / sizeof(char *))
UNUSED static struct conf_list list_of(char **v, size_t n)
{
	char **copy = xmalloc(n * sizeof(*v));
	memcpy(copy, v, n * sizeof(*v));
	return (struct conf_list){copy, n};
}
/* The strings of a hand-made unit are nobody's to free. */
int __lsan_is_turned_off(void);
int __lsan_is_turned_off(void)
{
	return 1;
}

UNUSED static struct launch_image *image_of(const struct unit_conf *c)
{
	static struct launch_caps caps; /* the image refers to it */
	struct launch_image *i = NULL;
	struct err e = {0};
	launch_probe(&caps);
	int r = launch_image_new(c, &caps, &i, &e);
	ck_assert_msg(r == 0, "image: %s", e.text);
	return i;
}

/* ---- the launcher ---- */

struct rig {
	int keeper, core;
	pid_t launcher;
	unsigned seq;
};

UNUSED static void rig_start(struct rig *rig, void (*prepare)(void))
{
	int k[2], c[2], one = 1;
	memset(rig, 0, sizeof(*rig));
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, k), 0);
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, c), 0);
	ck_assert_int_eq(setsockopt(k[0], SOL_SOCKET, SO_PASSCRED, &one, sizeof(one)), 0);
	fflush(NULL);
	rig->launcher = fork();
	ck_assert_int_ge(rig->launcher, 0);
	if (rig->launcher == 0) {
		int a = fcntl(k[1], F_DUPFD, 500), b = fcntl(c[1], F_DUPFD, 500);
		for (int fd = 3; fd < 500; fd++)
			close(fd);
		dup2(a, ROLE_KEEPER_FD);
		dup2(b, ROLE_CORE_FD);
		close(a);
		close(b);
		if (prepare)
			prepare();
		_exit(launcher_main(0, NULL));
	}
	close(k[1]);
	close(c[1]);
	rig->keeper = k[0];
	rig->core = c[0];
}

UNUSED static void rig_stop(struct rig *rig)
{
	int status = 0;
	close(rig->core);
	ck_assert_int_eq(waitpid(rig->launcher, &status, 0), rig->launcher);
	ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 0, "launcher: status %x", status);
	close(rig->keeper);
}

UNUSED static void wait_readable(int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};
	ck_assert_msg(poll(&p, 1, RIG_DEADLINE_MS) == 1, "nothing came in time");
}

/* Sends plan and descriptors; flags and order as wire.h says. */
UNUSED static void rig_send(struct rig *rig, const struct buf *plan, const struct spawn_id *id,
	uint32_t flags, const int *fds, size_t n_fds, size_t n_pass)
{
	struct ln_head h = {.build = WIRE_BUILD,
		.flags = flags,
		.id = *id,
		.plan_size = (uint32_t)plan->size,
		.n_pass_fds = (uint32_t)n_pass};
	struct buf frame = {0};
	buf_add(&frame, &h, sizeof(h));
	if (!(flags & LN_PLAN_IN_FD))
		buf_add(&frame, plan->data, plan->size);
	ck_assert_int_gt(send_fds(rig->core, frame.data, frame.size, fds, n_fds, 0), 0);
	buf_done(&frame);
}

UNUSED static struct ln_reply rig_reply(struct rig *rig)
{
	struct ln_reply r;
	wait_readable(rig->core);
	ck_assert_int_eq(recv(rig->core, &r, sizeof(r), 0), sizeof(r));
	ck_assert_uint_eq(r.build, WIRE_BUILD);
	return r;
}

/* One frame from a child; *ret_pid is the kernel's word, not the frame's. */
UNUSED static struct kp_frame rig_frame(struct rig *rig, pid_t *ret_pid)
{
	struct kp_frame f;
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(struct ucred))];
	} control;
	struct iovec iov = {&f, sizeof(f)};
	struct msghdr m = {.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control)};
	wait_readable(rig->keeper);
	ck_assert_int_eq(recvmsg(rig->keeper, &m, 0), sizeof(f));
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);
	struct ucred u;
	ck_assert_ptr_nonnull(c);
	memcpy(&u, CMSG_DATA(c), sizeof(u));
	*ret_pid = u.pid;
	return f;
}

/* The result of one start whose standard output and error went to a pipe. */
struct result {
	struct ln_reply reply;
	pid_t pid; /* that said KP_BORN */
	int status;
	char *out;
};

UNUSED static void read_all(int fd, struct buf *b)
{
	char chunk[4096];
	for (;;) {
		wait_readable(fd);
		ssize_t n = read(fd, chunk, sizeof(chunk));
		if (n <= 0)
			break;
		buf_add(b, chunk, (size_t)n);
	}
	close(fd);
}

UNUSED static void plan_of(struct unit *u, struct buf *plan)
{
	struct launch_image *image = image_of(&u->conf);
	struct err e = {0};
	int r = plan_build(image, &u->vars, plan, &e);
	ck_assert_msg(r == 0, "plan: %s", e.text);
	launch_image_free(image);
}

UNUSED static struct result rig_run_with(
	struct rig *rig, struct unit *u, const int *pass, size_t n_pass)
{
	struct result r = {0};
	struct buf plan = {0}, out = {0};
	int p[2], fds[FDS_MAX];
	u->vars.id.seq = ++rig->seq;
	u->vars.n_fds = n_pass;
	plan_of(u, &plan);
	ck_assert_int_eq(pipe2(p, O_CLOEXEC), 0);
	fds[0] = fds[1] = p[1];
	for (size_t i = 0; i < n_pass; i++)
		fds[2 + i] = pass[i];
	rig_send(rig, &plan, &u->vars.id, LN_HAS_STDOUT | LN_HAS_STDERR, fds, 2 + n_pass, n_pass);
	close(p[1]);
	r.reply = rig_reply(rig);
	ck_assert_uint_eq(r.reply.id.seq, rig->seq);
	struct kp_frame born = rig_frame(rig, &r.pid);
	ck_assert_uint_eq(born.kind, KP_BORN);
	ck_assert_uint_eq(born.id.seq, rig->seq);
	read_all(p[0], &out);
	buf_add_str(&out, "");
	r.out = buf_steal(&out);
	ck_assert_int_eq(waitpid(r.pid, &r.status, 0), r.pid);
	buf_done(&plan);
	return r;
}

UNUSED static struct result rig_run(struct rig *rig, struct unit *u)
{
	return rig_run_with(rig, u, NULL, 0);
}

UNUSED static bool has_line(const char *out, const char *line)
{
	size_t n = strlen(line);
	for (const char *s = out; (s = strstr(s, line)); s++)
		if ((s == out || s[-1] == '\n') && (s[n] == '\n' || s[n] == '\0'))
			return true;
	return false;
}

#define ASSERT_LINE(result, line)                                                                  \
	ck_assert_msg(has_line((result).out, (line)), "no line \"%s\" in:\n%s(reply %d %d %s)",    \
		(line), (result).out, (result).reply.stage, (result).reply.error,                  \
		(result).reply.detail)
