/* SPDX-License-Identifier: Apache-2.0 */
/* Clocks, identities, randomness. */
#include "base.h"

#include <fcntl.h>
#include <sys/random.h>
#include <time.h>

static uint64_t clock_us(clockid_t id)
{
	struct timespec t;
	clock_gettime(id, &t);
	return (uint64_t)t.tv_sec * USEC_PER_SEC + (uint64_t)t.tv_nsec / 1000;
}

uint64_t now_boot_us(void)
{
	return clock_us(CLOCK_BOOTTIME);
}

uint64_t now_wall_us(void)
{
	return clock_us(CLOCK_REALTIME);
}

char *format_timestamp(char out[TIMESTAMP_MAX], uint64_t wall_us)
{
	time_t sec = (time_t)(wall_us / USEC_PER_SEC);
	struct tm tm;
	char date[TIMESTAMP_MAX];
	gmtime_r(&sec, &tm);
	strftime(date, sizeof(date), "%Y-%m-%dT%H:%M:%S", &tm);
	snprintf(
		out, TIMESTAMP_MAX, "%.19s.%03uZ", date, (unsigned)(wall_us % USEC_PER_SEC / 1000));
	return out;
}

char *format_timespan(char out[TIMESPAN_MAX], uint64_t us)
{
	static const struct {
		const char *name;
		uint64_t us;
	} units[] = {
		{"d",   86400 * USEC_PER_SEC},
		{"h",   3600 * USEC_PER_SEC },
		{"min", 60 * USEC_PER_SEC   },
		{"s",   USEC_PER_SEC        },
		{"ms",  1000                },
		{"us",  1                   },
	};
	if (us == USEC_INFINITY) {
		str_copy(out, "infinity", TIMESPAN_MAX);
		return out;
	}
	if (us == 0) {
		str_copy(out, "0", TIMESPAN_MAX);
		return out;
	}
	size_t n = 0;
	int shown = 0;
	for (size_t i = 0; i < ARRAY_SIZE(units) && shown < 2; i++) {
		if (us < units[i].us)
			continue;
		n += (size_t)snprintf(out + n, TIMESPAN_MAX - n, "%s%llu%s", n ? " " : "",
			(unsigned long long)(us / units[i].us), units[i].name);
		us %= units[i].us;
		shown++;
	}
	return out;
}

char *id128_hex(char out[ID128_HEX], const struct id128 *id)
{
	for (int i = 0; i < 16; i++)
		snprintf(out + 2 * i, 3, "%02x", id->b[i]);
	return out;
}

bool id128_is_null(const struct id128 *id)
{
	static const struct id128 zero;
	return id128_eq(id, &zero);
}

uint64_t rng_next(uint64_t *state)
{
	uint64_t x = *state;
	x ^= x >> 12;
	x ^= x << 25;
	x ^= x >> 27;
	*state = x;
	return x * 0x2545F4914F6CDD1DULL;
}

/* ---- shares ------------------------------------------------------------------------------------ */

static uint64_t share_leak(struct share *s, struct share_size size)
{
	uint64_t now = now_mono_us();
	s->had_us -= MIN(s->had_us, (now - s->at_us) * size.percent / 100);
	s->at_us = now;
	return now;
}

void share_charge(struct share *s, struct share_size size, uint64_t us)
{
	(void)share_leak(s, size);
	s->had_us += us;
}

uint64_t share_wait_until(struct share *s, struct share_size size)
{
	uint64_t now = share_leak(s, size);
	if (s->had_us <= size.max_us)
		return 0;
	return now + (s->had_us - size.max_us / 2) * 100 / size.percent;
}

/* ---- randomness -------------------------------------------------------------------------------- */

void random_bytes(void *out, size_t size)
{
	char *p = out;
	while (size) {
		ssize_t n = getrandom(p, size, 0);
		if (n < 0) {
			assert(errno == EINTR);
			continue;
		}
		p += n;
		size -= (size_t)n;
	}
}

void boot_id(struct id128 *ret_id)
{
	struct buf b = {0};
	memset(ret_id, 0, sizeof(*ret_id));
	if (read_file(AT_FDCWD, "/proc/sys/kernel/random/boot_id", 64, &b) == 0) {
		size_t n = 0;
		for (size_t i = 0; i + 1 < b.size && n < 16; i++) {
			if (b.data[i] == '-')
				continue;
			char hex[3] = {b.data[i], b.data[i + 1], 0};
			ret_id->b[n++] = (uint8_t)strtoul(hex, NULL, 16);
			i++;
		}
	}
	buf_done(&b);
}
