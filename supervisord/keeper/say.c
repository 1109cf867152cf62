/* SPDX-License-Identifier: Apache-2.0 */
/* Owns keeper's voice: lines on stderr without stdio, and its clock. Called by all of keeper/. */
#include "private.h"

#include <poll.h>
#include <time.h>

uint64_t now_us(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * USEC_PER_SEC + (uint64_t)t.tv_nsec / 1000;
}

uint64_t reap_pause_us(uint64_t cost_us)
{
	return cost_us < 20 ? 0 : MIN(16 * cost_us, 10 * USEC_PER_MSEC);
}

static size_t put_number(char *out, int value)
{
	char digits[16];
	size_t n = 0, size = 0;
	unsigned u = value < 0 ? 0u - (unsigned)value : (unsigned)value;
	do
		digits[n++] = (char)('0' + u % 10);
	while (u /= 10);
	if (value < 0)
		out[size++] = '-';
	while (n)
		out[size++] = digits[--n];
	return size;
}

void say(const char *format, ...)
{
	char line[512];
	size_t n = str_copy(line, "stayd: ", sizeof(line));
	va_list ap;
	va_start(ap, format);
	for (const char *p = format; *p && n < sizeof(line) - 24; p++) {
		if (*p != '%') {
			line[n++] = *p;
		} else if (*++p == 'd') {
			n += put_number(line + n, va_arg(ap, int));
		} else {
			size_t room = sizeof(line) - 16 - n;
			size_t size = str_copy(line + n, va_arg(ap, const char *), room);
			n += MIN(size, room - 1);
		}
	}
	va_end(ap);
	line[n++] = '\n';
	struct pollfd out = {STDERR_FILENO, POLLOUT, 0};
	if (poll(&out, 1, 0) == 1 && (out.revents & POLLOUT))
		(void)!write(STDERR_FILENO, line, n); /* nobody to tell when even this fails */
}
