/* SPDX-License-Identifier: Apache-2.0 */
/* Error text and the daemon's own log lines. */
#include "base.h"

#include <limits.h>
#include <poll.h>
#include <sys/stat.h>

static const char *log_role = "stayd";
static int log_level_max = LOG_INFORM;
static int log_fd = STDERR_FILENO;
static enum { SINK_UNKNOWN, SINK_FILE, SINK_STREAM } log_sink;
static unsigned n_dropped;
/* Lines that wait: for the end of a turn (log_hold()), and for room (log_keep()). */
static char held[16 << 10];
static size_t n_held;
static bool is_keeping, is_holding;

int err_set(struct err *e, int code, const char *format, ...)
{
	if (e) {
		va_list ap;
		va_start(ap, format);
		e->code = code;
		vsnprintf(e->text, sizeof(e->text), format, ap);
		va_end(ap);
	}
	return code;
}

const char *errno_name(int error)
{
	const char *name = strerrorname_np(error < 0 ? -error : error);
	return name ? name : "E?";
}

void log_open(const char *role, int max_level)
{
	log_role = role;
	log_level_max = max_level;
}

void log_to_fd(int fd)
{
	log_fd = fd;
	log_sink = SINK_UNKNOWN;
}

/* A reader of our log that has stopped (a container runtime, a terminal after ^S) must not stop
 * who decides: a write that would block waits, or is dropped. Who is gone takes all of it. */
static bool has_room(void)
{
	struct stat st;
	struct pollfd p = {log_fd, POLLOUT, 0};
	if (log_sink == SINK_UNKNOWN)
		log_sink = fstat(log_fd, &st) == 0 && S_ISREG(st.st_mode) ? SINK_FILE : SINK_STREAM;
	return log_sink == SINK_FILE || (poll(&p, 1, 0) == 1 && p.revents);
}

/* Whole lines, at most PIPE_BUF, which is what "room" means; lines of several roles do not mix. */
static size_t write_size(void)
{
	if (n_held <= PIPE_BUF)
		return n_held;
	const char *end = memrchr(held, '\n', PIPE_BUF);
	return end ? (size_t)(end + 1 - held) : PIPE_BUF;
}

static void write_held(void)
{
	while (n_held && has_room()) {
		size_t size = write_size();
		ssize_t n = write(log_fd, held, size);
		if (n == 0 || (n < 0 && (errno == EAGAIN || errno == EINTR)))
			return;
		size_t gone = n < 0 ? size : (size_t)n; /* an error: nobody will ever read it */
		memmove(held, held + gone, n_held - gone);
		n_held -= gone;
	}
}

static bool hold_line(const char *line, size_t size)
{
	if (size > sizeof(held) - n_held)
		return false;
	memcpy(held + n_held, line, size);
	n_held += size;
	return true;
}

/* How many lines are missing is said where they are missing. */
static void say_dropped(void)
{
	char text[96];
	int n = snprintf(text, sizeof(text), "%s: %u lines dropped, nobody read them\n", log_role,
		n_dropped);
	if (n_dropped && hold_line(text, (size_t)n))
		n_dropped = 0;
}

bool log_flush(void)
{
	int saved = errno;
	write_held();
	if (n_dropped && !n_held) {
		say_dropped();
		write_held();
	}
	errno = saved;
	return n_held == 0;
}

void log_keep(void)
{
	is_keeping = true;
}

void log_hold(void)
{
	is_keeping = is_holding = true;
}

int log_descriptor(void)
{
	return log_fd;
}

static void log_line(int level, const char *line, size_t size)
{
	unsigned before = n_dropped;
	if (size > sizeof(held) - n_held)
		(void)log_flush();
	say_dropped();
	if (n_dropped || !hold_line(line, size))
		n_dropped++;
	if (is_holding && level > LOG_ERROR)
		return;
	/* What may be the last word of this process is said at once. */
	if (!log_flush() && !is_keeping) { /* there is no later for who never flushes */
		n_dropped = before + 1;
		n_held = 0;
	}
}

void log_at(int level, const char *unit, const char *format, ...)
{
	if (level > log_level_max)
		return;
	int saved = errno;
	char line[1024];
	int n = snprintf(
		line, sizeof(line) - 1, "%s: %s%s", log_role, strna(unit), unit ? ": " : "");
	va_list ap;
	va_start(ap, format);
	if (n >= 0 && (size_t)n < sizeof(line) - 1)
		vsnprintf(line + n, sizeof(line) - 1 - (size_t)n, format, ap);
	va_end(ap);
	str_make_printable(line);
	size_t size = strlen(line);
	line[size++] = '\n';
	log_line(level, line, size);
	errno = saved;
}
