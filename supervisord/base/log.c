/* SPDX-License-Identifier: Apache-2.0 */
/* Error text and the daemon's own log lines. */
#include "base.h"

#include <sys/uio.h>

static const char *log_role = "stayd";
static int log_level_max = LOG_INFORM;
static int log_fd = STDERR_FILENO;
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
}

void log_flush(void)
{
	int saved = errno;
	ssize_t r = n_held ? write(log_fd, held, n_held) : 0;
	(void)r;
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
	log_line(level, line, size); /* one write: lines of several roles do not mix */
	errno = saved;
}
