/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A puppet service: does the steps it is told, and tells what happens to it.
 *
 *   svc [--puppet PATH] [STEP...]
 *
 * Steps run in order; after the last one it waits for signals, as a service does. Events go to
 * --puppet or $PUPPET (a bound Unix datagram socket or a FIFO), one line each:
 *
 *   PID MONOTONIC_US EVENT [DETAIL]      first: "start ARG0 ppid=N", at a signal: "signal TERM"
 *
 * A signal of SIGTERM or SIGINT ends it with code 0, unless on-term or ignore said otherwise.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static struct {
	const char *puppet;
	int signal_fd, control_fd;
	uint64_t ignored; /* bit per signal */
	unsigned term_code, term_delay_ms;
	bool answers_reload;
} s = {.signal_fd = -1, .control_fd = -1};

static uint64_t now_us(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

static socklen_t address(const char *path, struct sockaddr_un *a)
{
	memset(a, 0, sizeof(*a));
	a->sun_family = AF_UNIX;
	size_t n = strlen(path);
	if (n >= sizeof(a->sun_path))
		return 0;
	memcpy(a->sun_path, path, n);
	if (path[0] == '@')
		a->sun_path[0] = '\0';
	return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n);
}

static void send_to(const char *path, const char *text)
{
	struct sockaddr_un a;
	socklen_t size = address(path, &a);
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd >= 0 && size)
		(void)!sendto(fd, text, strlen(text), MSG_NOSIGNAL, (struct sockaddr *)&a, size);
	if (fd >= 0)
		close(fd);
}

/* Opened anew each time, so that an event gets through even after close-fds. */
static void event(const char *format, ...)
{
	char line[4096];
	struct stat st;
	int n = snprintf(
		line, sizeof(line), "%d %llu ", (int)getpid(), (unsigned long long)now_us());
	va_list ap;
	va_start(ap, format);
	vsnprintf(line + n, sizeof(line) - 1 - (size_t)n, format, ap);
	va_end(ap);
	if (!s.puppet || stat(s.puppet, &st) < 0)
		return;
	if (S_ISSOCK(st.st_mode)) {
		send_to(s.puppet, line);
		return;
	}
	strcat(line, "\n");
	int fd = open(s.puppet, O_WRONLY | O_NONBLOCK | O_CLOEXEC | O_APPEND);
	if (fd >= 0) {
		(void)!write(fd, line, strlen(line));
		close(fd);
	}
}

static const struct {
	const char *name;
	int number;
} signal_names[] = {
	{"HUP",  SIGHUP },
	{"INT",  SIGINT },
	{"QUIT", SIGQUIT},
	{"ABRT", SIGABRT},
	{"KILL", SIGKILL},
	{"USR1", SIGUSR1},
	{"USR2", SIGUSR2},
	{"PIPE", SIGPIPE},
	{"ALRM", SIGALRM},
	{"TERM", SIGTERM},
	{"CONT", SIGCONT},
	{"STOP", SIGSTOP},
	{"SEGV", SIGSEGV},
};

static int signal_of(const char *name)
{
	for (size_t i = 0; i < sizeof(signal_names) / sizeof(*signal_names); i++)
		if (strcmp(signal_names[i].name, name) == 0)
			return signal_names[i].number;
	return atoi(name);
}

static const char *name_of(int number)
{
	static char text[16];
	for (size_t i = 0; i < sizeof(signal_names) / sizeof(*signal_names); i++)
		if (signal_names[i].number == number)
			return signal_names[i].name;
	snprintf(text, sizeof(text), "%d", number);
	return text;
}

static void do_step(char *step);

static void notify_reload(void)
{
	char text[96];
	const char *path = getenv("NOTIFY_SOCKET");
	snprintf(text, sizeof(text), "RELOADING=1\nMONOTONIC_USEC=%llu",
		(unsigned long long)now_us());
	if (path) {
		send_to(path, text);
		send_to(path, "READY=1");
	}
}

static void wait_for(int64_t ms);

static void on_signal(void)
{
	struct signalfd_siginfo si;
	if (read(s.signal_fd, &si, sizeof(si)) != sizeof(si))
		return;
	int number = (int)si.ssi_signo;
	if (number == SIGCHLD) {
		while (waitpid(-1, NULL, WNOHANG) > 0)
			;
		return;
	}
	event("signal %s from=%d", name_of(number), (int)si.ssi_pid);
	if (s.ignored & (1ULL << number))
		return;
	if (number == SIGHUP && s.answers_reload)
		notify_reload();
	if (number != SIGTERM && number != SIGINT && number != SIGQUIT)
		return;
	if (s.term_delay_ms) {
		s.ignored |= 1ULL << number;
		wait_for(s.term_delay_ms);
	}
	event("exit %u", s.term_code);
	exit((int)s.term_code);
}

/* Handles signals and commands for that long; -1: for ever. */
static void wait_for(int64_t ms)
{
	uint64_t end = now_us() + (uint64_t)ms * 1000;
	for (;;) {
		struct pollfd p[] = {
			{s.signal_fd,  POLLIN, 0},
                        {s.control_fd, POLLIN, 0}
                };
		uint64_t now = now_us();
		if (ms >= 0 && now >= end)
			return;
		if (poll(p, 2, ms < 0 ? -1 : (int)((end - now + 999) / 1000)) < 0 && errno != EINTR)
			return;
		if (p[0].revents)
			on_signal();
		char line[4096]; /* one datagram */
		ssize_t n =
			p[1].revents ? recv(s.control_fd, line, sizeof(line) - 1, MSG_DONTWAIT) : 0;
		if (n > 0) {
			line[n] = '\0';
			line[strcspn(line, "\n")] = '\0';
			do_step(line);
		}
	}
}

/* ---- the steps ------------------------------------------------------------------------------ */

static void stay(const char *what)
{
	event("child %s ppid=%d pgid=%d sid=%d", what, (int)getppid(), (int)getpgrp(),
		(int)getsid(0));
	wait_for(-1);
	_exit(0);
}

static void do_fork(char *arg)
{
	(void)arg;
	if (fork() == 0)
		stay("fork");
}

static void do_double_fork(char *arg)
{
	pid_t pid = fork();
	(void)arg;
	if (pid == 0) {
		if (fork() == 0)
			stay("double-fork");
		_exit(0);
	}
	waitpid(pid, NULL, 0);
}

static void do_setsid_fork(char *arg)
{
	pid_t pid = fork();
	(void)arg;
	if (pid == 0) {
		setsid();
		if (fork() == 0)
			stay("setsid-fork");
		_exit(0);
	}
	waitpid(pid, NULL, 0);
}

/* Type=forking: the parent leaves, the child goes on with the remaining steps. */
static void do_daemonize(char *arg)
{
	(void)arg;
	if (fork() != 0)
		_exit(0);
	setsid();
	event("daemonized ppid=%d", (int)getppid());
}

/* The child goes on with the remaining steps; its parent waits for it, and leaves with its code. */
static void do_under_parent(char *arg)
{
	int status = 0;
	pid_t pid = fork();
	(void)arg;
	if (pid == 0)
		return;
	waitpid(pid, &status, 0);
	_exit(WIFEXITED(status) ? WEXITSTATUS(status) : 1);
}

static void do_exit(char *arg)
{
	event("exit %s", arg);
	exit(atoi(arg));
}

static void do_kill(char *arg)
{
	sigset_t all;
	int number = signal_of(arg);
	event("kill %s", arg);
	signal(number, SIG_DFL);
	sigemptyset(&all);
	sigaddset(&all, number);
	raise(number);
	sigprocmask(SIG_UNBLOCK, &all, NULL);
}

static void do_sleep(char *arg)
{
	wait_for(atoll(arg));
}

static void do_ignore(char *arg)
{
	s.ignored |= 1ULL << signal_of(arg);
}

/* on-term:CODE[:DELAY_MS] */
static void do_on_term(char *arg)
{
	char *delay = strchr(arg, ':');
	s.term_code = (unsigned)atoi(arg);
	s.term_delay_ms = delay ? (unsigned)atoi(delay + 1) : 0;
}

/* \n in the text is a newline. */
static void unescape(char *text)
{
	char *to = text;
	for (char *p = text; *p; p++) {
		if (p[0] == '\\' && p[1] == 'n') {
			*to++ = '\n';
			p++;
		} else {
			*to++ = *p;
		}
	}
	*to = '\0';
}

static void do_notify(char *arg)
{
	const char *path = getenv("NOTIFY_SOCKET");
	unescape(arg);
	if (path)
		send_to(path, arg);
	event(path ? "notified" : "no-notify-socket");
}

/* Again and again: what it says while no keeper lives nobody hears. */
static void do_notify_me(char *arg)
{
	const char *path = getenv("NOTIFY_SOCKET");
	char text[64];
	(void)arg;
	snprintf(text, sizeof(text), "READY=1\nMAINPID=%d", (int)getpid());
	for (; path; wait_for(200))
		send_to(path, text);
}

static void do_notify_child(char *arg)
{
	pid_t pid = fork();
	if (pid == 0) {
		do_notify(arg);
		wait_for(500); /* long enough for the receiver to look up who it was */
		_exit(0);
	}
	waitpid(pid, NULL, 0);
}

/* notify-fd:NAME stores a descriptor with the supervisor (FDSTORE=1). */
static void do_notify_fd(char *arg)
{
	const char *path = getenv("NOTIFY_SOCKET");
	struct sockaddr_un a;
	char text[256];
	int file = memfd_create(arg, MFD_CLOEXEC),
	    fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control = {0};
	if (!path || file < 0 || fd < 0)
		return;
	snprintf(text, sizeof(text), "FDSTORE=1\nFDNAME=%s", arg);
	(void)!write(file, arg, strlen(arg));
	struct iovec iov = {text, strlen(text)};
	struct msghdr m = {.msg_name = &a,
		.msg_namelen = address(path, &a),
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control)};
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(c), &file, sizeof(int));
	(void)!sendmsg(fd, &m, MSG_NOSIGNAL);
	close(fd);
	close(file);
}

static void do_watchdog(char *arg)
{
	for (int n = atoi(arg), i = 0; i < n; i++) {
		const char *path = getenv("NOTIFY_SOCKET"), *us = getenv("WATCHDOG_USEC");
		if (path)
			send_to(path, "WATCHDOG=1");
		wait_for(us ? (int64_t)(strtoull(us, NULL, 10) / 2000) : 100);
	}
}

static void do_close_fds(char *arg)
{
	(void)arg;
	for (int fd = 0; fd < 1024; fd++)
		if (fd != s.signal_fd && fd != s.control_fd)
			close(fd);
	event("closed");
}

/* spam:LINES[:SIZE] lines of SIZE bytes on stdout, numbered, as fast as they are taken. */
static void do_spam(char *arg)
{
	char line[65536];
	long n = atol(arg), size = 100;
	char *p = strchr(arg, ':');
	if (p)
		size = atol(p + 1);
	if (size < 16 || size > (long)sizeof(line))
		size = 100;
	for (long i = 0; i < n; i++) {
		memset(line, 'a' + (int)(i % 26), (size_t)size);
		line[snprintf(line, sizeof(line), "%010ld", i)] = ' ';
		line[size - 1] = '\n';
		for (long at = 0, w; at < size; at += w)
			if ((w = write(1, line + at, (size_t)(size - at))) < 0)
				return;
	}
	event("spammed %ld", n);
}

static void do_print(char *arg)
{
	unescape(arg);
	dprintf(1, "%s\n", arg);
}

static void do_eprint(char *arg)
{
	unescape(arg);
	dprintf(2, "%s\n", arg);
}

static void do_printraw(char *arg) /* no newline at the end */
{
	unescape(arg);
	dprintf(1, "%s", arg);
}

static void do_event(char *arg)
{
	event("%s", arg);
}

static void do_env(char *arg)
{
	const char *value = getenv(arg);
	event("env %s=%s", arg, value ? value : "(unset)");
}

/* What it was given: identity, directory, limits, descriptors. */
static void do_report(char *arg)
{
	char cwd[1024] = "?", status[8192] = "";
	unsigned fds = 0;
	(void)arg;
	if (!getcwd(cwd, sizeof(cwd)))
		cwd[0] = '\0';
	for (int fd = 0; fd < 1024; fd++)
		fds += fcntl(fd, F_GETFD) >= 0 && fd != s.signal_fd && fd != s.control_fd;
	event("report uid=%d gid=%d cwd=%s fds=%u nice=%d", (int)geteuid(), (int)getegid(), cwd,
		fds, nice(0));
	FILE *f = fopen("/proc/self/status", "re");
	while (f && fgets(status, sizeof(status), f)) {
		status[strcspn(status, "\n")] = '\0';
		if (strncmp(status, "Cap", 3) == 0 || strncmp(status, "NoNew", 5) == 0 ||
			strncmp(status, "Seccomp:", 8) == 0 || strncmp(status, "Groups", 6) == 0)
			event("status %s", status);
	}
	if (f)
		fclose(f);
}

static void do_pidfile(char *arg)
{
	FILE *f = fopen(arg, "we");
	if (!f)
		return;
	fprintf(f, "%d\n", (int)getpid());
	fclose(f);
}

/* once:PATH:STEP does STEP only when PATH does not exist yet, and makes it. */
static void do_once(char *arg)
{
	char *step = strchr(arg, ':');
	if (!step)
		return;
	*step++ = '\0';
	int fd = open(arg, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
	if (fd < 0)
		return;
	close(fd);
	do_step(step);
}

/* if-file:PATH:STEP does STEP only when PATH exists. */
static void do_if_file(char *arg)
{
	char *step = strchr(arg, ':');
	if (!step)
		return;
	*step++ = '\0';
	if (access(arg, F_OK) == 0)
		do_step(step);
}

/* alloc:MIB touches that much memory and keeps it. */
static void do_alloc(char *arg)
{
	size_t size = (size_t)atol(arg) << 20;
	char *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p == MAP_FAILED) {
		event("alloc-failed");
		return;
	}
	for (size_t i = 0; i < size; i += 4096)
		p[i] = 1;
	event("allocated %s", arg);
}

static void do_burn(char *arg)
{
	uint64_t end = now_us() + strtoull(arg, NULL, 10) * 1000;
	while (now_us() < end)
		;
}

/* control:PATH binds a datagram socket there: each datagram is a step. */
static void do_control(char *arg)
{
	struct sockaddr_un a;
	socklen_t size = address(arg, &a);
	unlink(arg);
	s.control_fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (!size || bind(s.control_fd, (struct sockaddr *)&a, size) < 0)
		event("control-failed %s", strerrorname_np(errno));
	else
		event("control");
}

static void do_reload_answers(char *arg)
{
	(void)arg;
	s.answers_reload = true;
}

static void do_forever(char *arg)
{
	(void)arg;
	wait_for(-1);
}

static const struct step {
	const char *name;
	void (*fn)(char *arg);
	const char *help;
} steps[] = {
	{"sleep",         do_sleep,          "MS: handle signals meanwhile"                },
	{"wait",          do_forever,        "for ever"                                    },
	{"exit",          do_exit,           "CODE"					},
	{"kill",          do_kill,           "SIGNAL: itself"                              },
	{"ignore",        do_ignore,         "SIGNAL: report it only"                      },
	{"on-term",       do_on_term,        "CODE[:DELAY_MS]: how SIGTERM ends it"        },
	{"fork",          do_fork,           "a child that stays"                          },
	{"double-fork",   do_double_fork,    "an orphan that stays"                        },
	{"setsid-fork",   do_setsid_fork,    "an orphan in a session of its own"           },
	{"daemonize",     do_daemonize,      "the parent leaves, the child does the rest"  },
	{"under-parent",  do_under_parent,   "the parent waits, the child does the rest"   },
	{"pidfile",       do_pidfile,        "PATH"					},
	{"notify",        do_notify,         "TEXT, \\n allowed"                           },
	{"notify-me",     do_notify_me,      "READY=1 and its MAINPID, for ever"             },
	{"notify-child",  do_notify_child,   "TEXT, from a child process"                  },
	{"notify-fd",     do_notify_fd,      "NAME: FDSTORE=1 with a memfd"                },
	{"watchdog",      do_watchdog,       "N: WATCHDOG=1 so many times, on time"        },
	{"answer-reload", do_reload_answers, "SIGHUP: RELOADING=1, then READY=1"           },
	{"close-fds",     do_close_fds,      "all of them"                                 },
	{"spam",          do_spam,           "LINES[:SIZE] on stdout"                      },
	{"print",         do_print,          "TEXT on stdout"                              },
	{"eprint",        do_eprint,         "TEXT on stderr"                              },
	{"print-raw",     do_printraw,       "TEXT without a newline"                      },
	{"event",         do_event,          "TEXT"					},
	{"env",           do_env,            "NAME: its value as an event"                 },
	{"report",        do_report,         "uid, gid, directory, capabilities as events" },
	{"once",          do_once,           "PATH:STEP: only the first time"              },
	{"if-file",       do_if_file,        "PATH:STEP: only if it exists"                },
	{"alloc",         do_alloc,          "MIB"					 },
	{"burn",          do_burn,           "MS of CPU"                                   },
	{"control",       do_control,        "PATH: takes further steps as datagrams there"},
};

static void do_step(char *step)
{
	char *arg = strchr(step, ':');
	size_t n = arg ? (size_t)(arg - step) : strlen(step);
	char none[1] = "";
	for (size_t i = 0; i < sizeof(steps) / sizeof(*steps); i++) {
		if (strlen(steps[i].name) == n && strncmp(step, steps[i].name, n) == 0) {
			steps[i].fn(arg ? arg + 1 : none);
			return;
		}
	}
	event("unknown-step %s", step);
	dprintf(2, "svc: unknown step %s\n", step);
	for (size_t i = 0; i < sizeof(steps) / sizeof(*steps); i++)
		dprintf(2, "  %s:%s\n", steps[i].name, steps[i].help);
	exit(2);
}

int main(int argc, char **argv)
{
	int first = 1;
	sigset_t signals;
	s.puppet = getenv("PUPPET");
	if (argc > 2 && strcmp(argv[1], "--puppet") == 0) {
		s.puppet = argv[2];
		first = 3;
	}
	sigemptyset(&signals);
	for (int number = 1; number < 32; number++)
		if (number != SIGSEGV && number != SIGBUS && number != SIGILL && number != SIGFPE &&
			number != SIGABRT && number != SIGTSTP)
			sigaddset(&signals, number);
	sigprocmask(SIG_BLOCK, &signals, NULL);
	s.signal_fd = signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK);
	event("start %s ppid=%d", argv[0], (int)getppid());
	for (int i = first; i < argc; i++) {
		char *step = strdup(argv[i]); /* steps cut their text up; ps shall show it whole */
		do_step(step);
		free(step);
	}
	wait_for(-1);
}
