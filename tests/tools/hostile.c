/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A service that means harm. Each way is bounded by what it is told and by $HOSTILE_SECONDS.
 *
 *   hostile fork-bomb N          N processes at most, each in a session of its own and twice forked, coming and going
 *   hostile notify-flood         sd_notify(3) without a pause
 *   hostile fd-flood             FDSTORE=1 with 253 descriptors a message, of all kinds
 *   hostile log-flood MIB        so much on stdout, binary and without a newline
 *   hostile signal-all NAME      that signal (STOP, KILL, TERM; NONE: no harm) to everybody it may signal,
 *                                without a pause
 *   hostile exits N              N children that end at the same moment, then for ever
 *   hostile escape KEY=VALUE...  tries to get out: pid=, file=, cgroup=, socket= name the targets;
 *                                one line each on stdout: "try WHAT TARGET ok|ERRNO"
 *
 * It says "hostile WAY" on stdout first, where the way has use for stdout.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define SECONDS_MAX   60
#define PROCESSES_MAX 400
#define FDS_A_MESSAGE 253 /* SCM_MAX_FD */
#define LOG_CHUNK     (256 * 1024)

/* ---- too many of something -------------------------------------------------------------------- */

static unsigned seconds = SECONDS_MAX;
static atomic_int *live;

/* One of the bomb: makes two more while there is room, lives a moment, goes; the first one stays. */
static void bomb(int max)
{
	unsigned seed = (unsigned)getpid();
	int is_first = 1;
	for (unsigned life = 0; is_first || life < 8; life++) {
		while (waitpid(-1, NULL, WNOHANG) > 0)
			;
		pid_t pid = -1;
		if (atomic_fetch_add(live, 1) >= max || (pid = fork()) < 0)
			atomic_fetch_sub(live, 1);
		if (pid == 0) {
			setsid();
			if (fork() != 0)
				_exit(0);
			alarm(seconds); /* not inherited */
			seed = (unsigned)getpid();
			is_first = 0;
			life = 0;
		}
		usleep((unsigned)rand_r(&seed) % 20000);
	}
	atomic_fetch_sub(live, 1);
	_exit(0);
}

static void fork_bomb(int max)
{
	live = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (live != MAP_FAILED)
		bomb(max < PROCESSES_MAX ? max : PROCESSES_MAX);
}

static int notify_socket(struct sockaddr_un *a, socklen_t *ret_size)
{
	const char *path = getenv("NOTIFY_SOCKET");
	if (!path || strlen(path) >= sizeof(a->sun_path))
		exit(3);
	*a = (struct sockaddr_un){.sun_family = AF_UNIX};
	memcpy(a->sun_path, path, strlen(path));
	if (path[0] == '@')
		a->sun_path[0] = '\0';
	*ret_size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(path));
	return socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
}

static void notify_flood(void)
{
	static const char *const texts[] = {"STATUS=\x1b]0;owned\x07\x1b[2J flood", "READY=1",
		"WATCHDOG=1", "MAINPID=1", "RELOADING=1",
		"EXTEND_TIMEOUT_USEC=18446744073709551615",
		"READY=1\nSTATUS=again\nMAINPID=4294967297\nERRNO=99999999999999999999",
		"=\n=\n\n=", "WATCHDOG_USEC=0", "FDSTORE=1\nFDNAME=../../x", "BARRIER=1", "X",
		"MAINPID=-1"};
	struct sockaddr_un a;
	socklen_t size;
	int fd = notify_socket(&a, &size);
	char long_text[60000];
	memset(long_text, 'S', sizeof(long_text));
	for (uint64_t i = 0;; i++) {
		const char *t = texts[i % (sizeof(texts) / sizeof(*texts))];
		size_t n = strlen(t);
		if (i % 997 == 0) {
			t = long_text;
			n = sizeof(long_text);
		}
		(void)!sendto(fd, t, n, MSG_NOSIGNAL, (struct sockaddr *)&a, size);
	}
}

/* Kinds of descriptors that a store must bear: closed pipes, /proc files, epoll, the sender itself. */
static int odd_descriptor(unsigned i, int sock)
{
	int p[2];
	switch (i % 7) {
	case 0:
		if (pipe(p) < 0)
			return -1;
		close(p[1]);
		return p[0];
	case 1:
		return open("/proc/self/mem", O_RDONLY);
	case 2:
		return epoll_create1(0);
	case 3:
		return dup(sock);
	case 4:
		return open("/", O_PATH | O_DIRECTORY);
	case 5:
		return open("/proc/self/status", O_RDONLY);
	default:
		return memfd_create("odd", 0);
	}
}

static void fd_flood(void)
{
	static const char text[] = "FDSTORE=1\nFDNAME=odd";
	struct sockaddr_un a;
	socklen_t size;
	int sock = notify_socket(&a, &size), fds[FDS_A_MESSAGE];
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(fds))];
	} control = {0};
	int ends[2];
	/* A socket that has itself in its queue: only the kernel's collector can free it. */
	if (socketpair(AF_UNIX, SOCK_DGRAM, 0, ends) < 0)
		exit(3);
	for (unsigned i = 0; i < FDS_A_MESSAGE; i++)
		if ((fds[i] = odd_descriptor(i, i == 3 ? sock : ends[i % 2])) < 0)
			fds[i] = dup(sock);
	struct iovec iov = {(char *)text, sizeof(text) - 1};
	struct msghdr m = {.msg_name = &a,
		.msg_namelen = size,
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control)};
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(fds));
	memcpy(CMSG_DATA(c), fds, sizeof(fds));
	for (;;)
		if (sendmsg(sock, &m, MSG_NOSIGNAL) < 0)
			usleep(100); /* ETOOMANYREFS: too many in flight */
}

static void log_flood(long mib)
{
	char *chunk = malloc(LOG_CHUNK);
	unsigned seed = 1;
	for (size_t i = 0; chunk && i < LOG_CHUNK; i++) {
		chunk[i] = (char)rand_r(&seed);
		if (chunk[i] == '\n')
			chunk[i] = '\x1b';
	}
	for (long left = mib * (1024 * 1024 / LOG_CHUNK); chunk && left > 0; left--)
		for (size_t at = 0; at < LOG_CHUNK;) {
			ssize_t n = write(1, chunk + at, LOG_CHUNK - at);
			if (n < 0)
				exit(4);
			at += (size_t)n;
		}
	dprintf(2, "\nflooded\n");
	for (;;)
		pause();
}

static void signal_all(const char *name)
{
	int number = strcmp(name, "STOP") == 0   ? SIGSTOP
		     : strcmp(name, "KILL") == 0 ? SIGKILL
		     : strcmp(name, "NONE") == 0 ? 0
						 : SIGTERM;
	signal(SIGTERM, SIG_IGN);
	if (getuid() == 0) /* that would be everybody on the machine */
		exit(5);
	for (;;)
		(void)kill(-1, number);
}

static void exits(int n)
{
	int go[2];
	if (n > 5000)
		n = 5000;
	if (pipe(go) < 0)
		exit(3);
	for (int i = 0; i < n; i++)
		if (fork() == 0) {
			char c;
			close(go[1]);
			if (fork() !=
				0) /* an orphan of somebody else's: the reaper's, below keeper */
				_exit(0);
			(void)!read(go[0], &c, 1);
			_exit(i & 127);
		}
	while (wait(NULL) > 0)
		;
	dprintf(1, "ready\n");
	poll(NULL, 0, 200);
	close(go[1]); /* all at once */
	for (;;)
		pause();
}

/* ---- out of its place --------------------------------------------------------------------------- */

static void say(const char *what, const char *target, long r)
{
	printf("try %s %s %s\n", what, target, r >= 0 ? "ok" : strerrorname_np(errno));
	fflush(stdout);
}

static void try_open(const char *what, const char *path, int flags)
{
	int fd = open(path, flags | O_CLOEXEC | O_NONBLOCK);
	say(what, path, fd);
	if (fd >= 0)
		close(fd);
}

static void try_write(const char *what, const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	say(what, path, fd < 0 ? -1 : write(fd, text, strlen(text)));
	if (fd >= 0)
		close(fd);
}

static void try_pid(const char *target)
{
	static const int signals[] = {SIGSTOP, SIGTERM, SIGABRT, SIGUSR1, SIGKILL};
	pid_t pid = (pid_t)atoi(target);
	char path[64], byte;
	for (size_t i = 0; i < sizeof(signals) / sizeof(*signals); i++)
		say("kill", target, kill(pid, signals[i]));
	int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	say("pidfd_send_signal", target, syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, NULL, 0));
	for (int fd = 0; fd < 8; fd++)
		say("pidfd_getfd", target, syscall(SYS_pidfd_getfd, pidfd, fd, 0));
	say("ptrace_seize", target, ptrace(PTRACE_SEIZE, pid, 0, 0));
	say("ptrace_attach", target, ptrace(PTRACE_ATTACH, pid, 0, 0));
	struct iovec here = {&byte, 1}, there = {(void *)0x400000, 1};
	say("process_vm_readv", target, process_vm_readv(pid, &here, 1, &there, 1, 0));
	say("process_vm_writev", target, process_vm_writev(pid, &here, 1, &there, 1, 0));
	static const char *const files[] = {"mem", "fd", "fd/4", "fdinfo", "environ", "root", "cwd",
		"exe", "maps", "ns/mnt", "oom_score_adj", "coredump_filter", "task/1/children"};
	for (size_t i = 0; i < sizeof(files) / sizeof(*files); i++) {
		snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, files[i]);
		if (strcmp(files[i], "oom_score_adj") == 0)
			try_write("proc_write", path, "1000");
		else if (strcmp(files[i], "task/1/children"))
			try_open("proc_open", path, O_RDONLY);
	}
	struct rlimit l = {0, 0};
	say("prlimit", target, prlimit(pid, RLIMIT_NOFILE, &l, NULL));
	say("setpriority", target, setpriority(PRIO_PROCESS, (id_t)pid, 19));
	unsigned long cpus = 1;
	say("sched_setaffinity", target, syscall(SYS_sched_setaffinity, pid, sizeof(cpus), &cpus));
	say("sched_setscheduler", target, syscall(SYS_sched_setscheduler, pid, 5, &(int){0}));
}

static void try_file(const char *path)
{
	char other[600];
	struct stat st;
	try_open("write", path, O_WRONLY);
	try_open("append", path, O_WRONLY | O_APPEND);
	say("truncate", path, truncate(path, 0));
	say("chmod", path, chmod(path, 0777));
	say("chown", path, chown(path, getuid(), getgid()));
	snprintf(other, sizeof(other), "%s.hostile", path);
	say("rename", path, rename(path, other));
	say("link", path, link(path, other));
	if (stat(path, &st) == 0 && S_ISDIR(st.st_mode)) {
		snprintf(other, sizeof(other), "%s/hostile", path);
		int fd = open(other, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
		say("create", path, fd);
		if (fd >= 0)
			close(fd);
		say("symlink", path, symlink("/etc/passwd", other));
		say("rmdir", path, rmdir(path));
	} else {
		say("unlink", path, unlink(path));
	}
}

static void try_cgroup(const char *dir)
{
	static const char *const files[] = {"cgroup.procs", "cgroup.threads", "cgroup.kill",
		"cgroup.freeze", "cgroup.type", "cgroup.subtree_control", "cgroup.max.descendants",
		"memory.max", "pids.max"};
	char path[600], self[32];
	snprintf(self, sizeof(self), "%d", (int)getpid());
	for (size_t i = 0; i < sizeof(files) / sizeof(*files); i++) {
		snprintf(path, sizeof(path), "%s/%s", dir, files[i]);
		if (access(path, F_OK) < 0)
			continue;
		try_write("cgroup", path, i < 2 ? self : i == 4 ? "threaded" : "1");
	}
	snprintf(path, sizeof(path), "%s/hostile", dir);
	say("cgroup_mkdir", dir, mkdir(path, 0755));
	say("cgroup_rmdir", dir, rmdir(dir));
}

/* What is written to the daemon's own sockets as they stand. */
static void try_socket(const char *path)
{
	static const char *const calls[] = {
		"{\"method\":\"io.stayd.Stop\",\"parameters\":{\"units\":[\"by-plain.service\"]}}",
		"{\"method\":\"", "\0\0\0\0",
		"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[["};
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	snprintf(a.sun_path, sizeof(a.sun_path), "%s", path);
	for (size_t i = 0; i < sizeof(calls) / sizeof(*calls); i++) {
		int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
		if (connect(fd, (struct sockaddr *)&a, sizeof(a)) == 0)
			(void)!send(fd, calls[i], strlen(calls[i]) + 1, MSG_NOSIGNAL);
		close(fd);
	}
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	say("bind", path, bind(fd, (struct sockaddr *)&a, sizeof(a)));
	close(fd);
}

static void escape(char **args)
{
	for (; *args; args++) {
		if (strncmp(*args, "pid=", 4) == 0)
			try_pid(*args + 4);
		else if (strncmp(*args, "file=", 5) == 0)
			try_file(*args + 5);
		else if (strncmp(*args, "cgroup=", 7) == 0)
			try_cgroup(*args + 7);
		else if (strncmp(*args, "socket=", 7) == 0)
			try_socket(*args + 7);
	}
	printf("over\n");
	fflush(stdout);
	for (;;)
		pause();
}

int main(int argc, char **argv)
{
	const char *way = argc > 1 ? argv[1] : "", *arg = argc > 2 ? argv[2] : "0";
	if (getenv("HOSTILE_SECONDS"))
		seconds = (unsigned)atoi(getenv("HOSTILE_SECONDS"));
	alarm(seconds);
	if (strcmp(way, "log-flood"))
		dprintf(1, "hostile %s\n", way);
	if (strcmp(way, "fork-bomb") == 0)
		fork_bomb(atoi(arg));
	else if (strcmp(way, "notify-flood") == 0)
		notify_flood();
	else if (strcmp(way, "fd-flood") == 0)
		fd_flood();
	else if (strcmp(way, "log-flood") == 0)
		log_flood(atol(arg));
	else if (strcmp(way, "signal-all") == 0)
		signal_all(arg);
	else if (strcmp(way, "exits") == 0)
		exits(atoi(arg));
	else if (strcmp(way, "escape") == 0)
		escape(argv + 2);
	return 2;
}
