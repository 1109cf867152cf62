/* SPDX-License-Identifier: Apache-2.0 */
/* Error text and the daemon's own log lines. */
#include "base.h"

#include <poll.h>
#include <sys/stat.h>

static const char *log_role = "stayd";
static int log_level_max = LOG_INFORM;
static int log_fd = STDERR_FILENO;
static enum { SINK_UNKNOWN, SINK_FILE, SINK_STREAM } log_sink;
static unsigned n_dropped;
/* Lines of a turn that go out in one write; used once log_hold() was called. */
static char held[4096];
static size_t n_held;
static bool is_holding;

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
 * who decides: a line that would block is dropped, and how many is said when there is room again. */
static bool has_room(void)
{
	struct stat st;
	struct pollfd p = {log_fd, POLLOUT, 0};
	if (log_sink == SINK_UNKNOWN)
		log_sink = fstat(log_fd, &st) == 0 && S_ISREG(st.st_mode) ? SINK_FILE : SINK_STREAM;
	return log_sink == SINK_FILE || (poll(&p, 1, 0) == 1 && p.revents & POLLOUT);
}

static unsigned lines_of(const char *text, size_t size)
{
	unsigned n = 0;
	for (size_t i = 0; i < size; i++)
		n += text[i] == '\n';
	return n;
}

/* One write: lines of several roles do not mix. At most PIPE_BUF, which is what "room" means. */
static void log_write(const char *lines, size_t size)
{
	char text[96];
	if (n_dropped && has_room()) {
		int n = snprintf(text, sizeof(text), "%s: %u lines dropped, nobody read them\n",
			log_role, n_dropped);
		n_dropped = 0;
		(void)!write(log_fd, text, (size_t)n);
	}
	if (has_room())
		(void)!write(log_fd, lines, size);
	else
		n_dropped += lines_of(lines, size);
}

void log_flush(void)
{
	int saved = errno;
	if (n_held)
		log_write(held, n_held);
	n_held = 0;
	errno = saved;
}

void log_hold(void)
{
	is_holding = true;
}

static void log_line(int level, const char *line, size_t size)
{
	if (n_held + size > sizeof(held))
		log_flush();
	memcpy(held + n_held, line, size);
	n_held += size;
	/* What may be the last word of this process is said at once. */
	if (!is_holding || level <= LOG_ERROR)
		log_flush();
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
