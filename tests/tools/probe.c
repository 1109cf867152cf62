/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a program finds when it starts: prints its own state as "key value" lines, then does what its
 * arguments say. Static and without libc state, so that what it prints is what exec left.
 *
 *   probe [show] [exit N] [kill N] [write PATH] [read PATH] [list PATH] [daemonize] [call NAME]
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define HIGH_BIT (1L << 32)

extern char **environ;

static void show_status(void)
{
	static const char *const keys[] = {
		"Groups:", "CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:", "NoNewPrivs:",
		"Seccomp:", "Seccomp_filters:", "SigBlk:", "SigIgn:", "SigCgt:", "Uid:", "Gid:"};
	char line[1024];
	FILE *f = fopen("/proc/self/status", "re");
	while (f && fgets(line, sizeof(line), f))
		for (size_t i = 0; i < sizeof(keys) / sizeof(*keys); i++)
			if (strncmp(line, keys[i], strlen(keys[i])) == 0)
				printf("%s", line);
	if (f)
		fclose(f);
}

static void show_link(const char *key, const char *path)
{
	char target[256];
	ssize_t n = readlink(path, target, sizeof(target) - 1);
	printf("%s %.*s\n", key, n > 0 ? (int)n : 0, target);
}

static void show_fds(void)
{
	DIR *d = opendir("/proc/self/fd");
	printf("fds");
	for (struct dirent *e; d && (e = readdir(d));)
		if (e->d_name[0] != '.' && strtol(e->d_name, NULL, 10) != dirfd(d))
			printf(" %s", e->d_name);
	printf("\n");
	if (d)
		closedir(d);
}

static void show_limits(void)
{
	static const int which[] = {RLIMIT_NOFILE, RLIMIT_CORE, RLIMIT_NPROC, RLIMIT_MEMLOCK};
	for (size_t i = 0; i < sizeof(which) / sizeof(*which); i++) {
		struct rlimit l;
		getrlimit(which[i], &l);
		printf("rlimit%d %llu %llu\n", which[i], (unsigned long long)l.rlim_cur,
			(unsigned long long)l.rlim_max);
	}
}

static void show_file(const char *key, const char *path)
{
	char text[512];
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? 0 : read(fd, text, sizeof(text) - 1);
	while (n > 0 && text[n - 1] == '\n')
		n--;
	for (ssize_t i = 0; i < n; i++)
		if (text[i] == '\n')
			text[i] = ' ';
	printf("%s %.*s\n", key, (int)n, text);
	if (fd >= 0)
		close(fd);
}

static void show(int argc, char **argv)
{
	char cwd[1024];
	mode_t mask = umask(0);
	umask(mask);
	printf("pid %d\nppid %d\nsid %d\n", (int)getpid(), (int)getppid(), (int)getsid(0));
	printf("umask %04o\ncwd %s\nnice %d\n", (unsigned)mask,
		getcwd(cwd, sizeof(cwd)) ? cwd : "?", getpriority(PRIO_PROCESS, 0));
	printf("timerslack %d\npersonality %x\nsecurebits %d\ndumpable %d\n",
		prctl(PR_GET_TIMERSLACK, 0, 0, 0, 0), (unsigned)personality(0xffffffff),
		prctl(PR_GET_SECUREBITS, 0, 0, 0, 0), prctl(PR_GET_DUMPABLE, 0, 0, 0, 0));
	printf("ioprio %ld\npolicy %d\n", syscall(SYS_ioprio_get, 1, 0), sched_getscheduler(0));
	cpu_set_t set;
	if (sched_getaffinity(0, sizeof(set), &set) == 0)
		printf("cpus %d\n", CPU_COUNT(&set));
	show_status();
	show_limits();
	show_fds();
	show_file("oom", "/proc/self/oom_score_adj");
	show_file("cgroup", "/proc/self/cgroup");
	show_link("mntns", "/proc/self/ns/mnt");
	show_link("netns", "/proc/self/ns/net");
	show_link("ipcns", "/proc/self/ns/ipc");
	show_link("utsns", "/proc/self/ns/uts");
	show_link("userns", "/proc/self/ns/user");
	for (int i = 0; i < argc; i++)
		printf("arg%d %s\n", i, argv[i]);
	for (char **e = environ; *e; e++)
		printf("env %s\n", *e);
}

static void try_path(const char *what, const char *path)
{
	int r = -1;
	if (strcmp(what, "write") == 0) {
		char name[1024];
		struct stat st;
		int is_dir = stat(path, &st) == 0 && S_ISDIR(st.st_mode);
		snprintf(name, sizeof(name), is_dir ? "%s/probe.%d" : "%s", path, (int)getpid());
		r = open(name,
			is_dir ? O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC : O_WRONLY | O_CLOEXEC,
			0600);
		if (r >= 0 && is_dir)
			unlink(name);
	} else if (strcmp(what, "read") == 0) {
		r = open(path, O_RDONLY | O_CLOEXEC);
	} else {
		DIR *d = opendir(path);
		int n = 0;
		for (struct dirent *e; d && (e = readdir(d));)
			n += e->d_name[0] != '.';
		printf("%s %s %d\n", what, path, d ? n : -errno);
		if (d)
			closedir(d);
		return;
	}
	printf("%s %s %s\n", what, path, r >= 0 ? "ok" : strerrorname_np(errno));
	if (r >= 0)
		close(r);
}

static void try_call(const char *name)
{
	long r = -1;
	errno = 0;
	if (strcmp(name, "inet") == 0)
		r = socket(AF_INET, SOCK_DGRAM, 0);
	else if (strcmp(name, "unix") == 0)
		r = socket(AF_UNIX, SOCK_DGRAM, 0);
	else if (strcmp(name, "unix-high") == 0) /* the kernel looks at 32 bits of it */
		r = syscall(SYS_socket, HIGH_BIT | AF_UNIX, SOCK_DGRAM, 0);
	else if (strcmp(name, "netlink") == 0)
		r = socket(AF_NETLINK, SOCK_RAW, 0);
	else if (strcmp(name, "wx") == 0)
		r = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC,
			    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED
			    ? -1
			    : 0;
	else if (strcmp(name, "personality") == 0)
		r = personality(PER_BSD);
	else if (strcmp(name, "userns") == 0)
		r = unshare(CLONE_NEWUSER);
	else if (strcmp(name, "utsns") == 0)
		r = unshare(CLONE_NEWUTS);
	else if (strcmp(name, "setns-high") == 0) /* type 0: whatever the descriptor is */
		r = syscall(SYS_setns, open("/proc/self/ns/uts", O_RDONLY | O_CLOEXEC), HIGH_BIT);
	else if (strcmp(name, "rt") == 0) {
		struct sched_param p = {1};
		r = sched_setscheduler(0, SCHED_FIFO, &p);
	} else if (strcmp(name, "suid") == 0)
		r = mkdir("/tmp", 04755); /* EEXIST when it is let through */
	else if (strcmp(name, "suid-tmpfile") == 0)
		r = open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 04755);
	else if (strcmp(name, "hostname") == 0)
		r = sethostname("probe", 5);
	else if (strcmp(name, "module") == 0)
		r = syscall(SYS_delete_module, "none", 0);
	else if (strcmp(name, "syslog") == 0)
		r = syscall(SYS_syslog, 10, NULL, 0);
	else if (strcmp(name, "mount") == 0)
		r = syscall(SYS_mount, "none", "/nonexistent", "tmpfs", 0, NULL);
	else if (strcmp(name, "clone3") == 0)
		r = syscall(SYS_clone3, NULL, 0);
	printf("call %s %s\n", name, r >= 0 ? "ok" : strerrorname_np(errno));
}

/* Double fork: the grandchild outlives its parents and is nobody's child here. */
static void daemonize(void)
{
	if (fork() != 0)
		return;
	if (fork() == 0) {
		setsid();
		usleep(50 * 1000);
		_exit(7);
	}
	_exit(3);
}

int main(int argc, char **argv)
{
	setvbuf(stdout, NULL, _IOFBF, 65536);
	for (int i = 1; i < argc; i++) {
		const char *next = i + 1 < argc ? argv[i + 1] : "";
		if (strcmp(argv[i], "show") == 0) {
			show(argc, argv);
		} else if (strcmp(argv[i], "daemonize") == 0) {
			daemonize();
		} else if (strcmp(argv[i], "exit") == 0) {
			fflush(stdout);
			_exit((int)strtol(next, NULL, 10));
		} else if (strcmp(argv[i], "kill") == 0) {
			fflush(stdout);
			kill(getpid(), (int)strtol(next, NULL, 10));
		} else if (strcmp(argv[i], "write") == 0 || strcmp(argv[i], "read") == 0 ||
			   strcmp(argv[i], "list") == 0) {
			try_path(argv[i++], next);
		} else if (strcmp(argv[i], "call") == 0) {
			try_call(next);
			i++;
		}
	}
	fflush(stdout);
	return 0;
}
