/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Small values as people write them in unit files: times, sizes, booleans, signals, words.
 *
 *  1. Nothing here keeps state or reads anything but its argument.
 *  2. A value that does not parse leaves the outputs alone and says why in e, in words that name
 *     what would be right.
 *  3. Numbers never wrap: what does not fit is an error.
 *
 * Grammar of times and sizes: systemd.time(7) and systemd.syntax(7). Called by the directive
 * parsers, stayctl and other modules that read the same spellings.
 */
#include <ctype.h>
#include <signal.h>

#include "units.h"

static const char *skip_blanks(const char *s)
{
	return s + strspn(s, " \t\n\r");
}

int parse_boolean(const char *s)
{
	static const char *const yes[] = {"1", "yes", "y", "true", "t", "on"};
	static const char *const no[] = {"0", "no", "n", "false", "f", "off"};
	for (size_t i = 0; i < ARRAY_SIZE(yes); i++)
		if (strcasecmp(s, yes[i]) == 0)
			return 1;
	for (size_t i = 0; i < ARRAY_SIZE(no); i++)
		if (strcasecmp(s, no[i]) == 0)
			return 0;
	return -EINVAL;
}

/* ---- times ---- */

static const struct {
	const char *name;
	uint64_t us;
} time_units[] = {
	{"seconds", USEC_PER_SEC         },
	{"second",  USEC_PER_SEC         },
	{"sec",     USEC_PER_SEC         },
	{"s",       USEC_PER_SEC         },
	{"minutes", 60 * USEC_PER_SEC    },
	{"minute",  60 * USEC_PER_SEC    },
	{"min",     60 * USEC_PER_SEC    },
	{"months",  2629800000000ULL     },
	{"month",   2629800000000ULL     },
	{"M",       2629800000000ULL     },
	{"msec",    1000                 },
	{"ms",      1000                 },
	{"m",       60 * USEC_PER_SEC    },
	{"hours",   3600 * USEC_PER_SEC  },
	{"hour",    3600 * USEC_PER_SEC  },
	{"hr",      3600 * USEC_PER_SEC  },
	{"h",       3600 * USEC_PER_SEC  },
	{"days",    86400 * USEC_PER_SEC },
	{"day",     86400 * USEC_PER_SEC },
	{"d",       86400 * USEC_PER_SEC },
	{"weeks",   604800 * USEC_PER_SEC},
	{"week",    604800 * USEC_PER_SEC},
	{"w",       604800 * USEC_PER_SEC},
	{"years",   31557600000000ULL    },
	{"year",    31557600000000ULL    },
	{"y",       31557600000000ULL    },
	{"usec",    1                    },
	{"us",      1                    },
	{"\xc2\xb5s",      1                    },
};

/* The unit at s, longest first by the order of the table; none: the default. */
static const char *time_unit(const char *s, uint64_t *us)
{
	for (size_t i = 0; i < ARRAY_SIZE(time_units); i++)
		if (startswith(s, time_units[i].name)) {
			*us = time_units[i].us;
			return s + strlen(time_units[i].name);
		}
	return s;
}

/* "12" or "12.5" times unit_us, added to *sum. */
static int add_product(uint64_t *sum, const char *whole, const char *fraction, uint64_t unit_us)
{
	uint64_t n = 0, part = 0, scale = unit_us;
	for (; isdigit((unsigned char)*whole); whole++)
		if (__builtin_mul_overflow(n, 10ULL, &n) ||
			__builtin_add_overflow(n, (uint64_t)(*whole - '0'), &n))
			return -ERANGE;
	for (; fraction && isdigit((unsigned char)*fraction); fraction++) {
		scale /= 10;
		part += (uint64_t)(*fraction - '0') * scale;
	}
	if (__builtin_mul_overflow(n, unit_us, &n) || __builtin_add_overflow(n, part, &n) ||
		__builtin_add_overflow(*sum, n, sum) || *sum == USEC_INFINITY)
		return -ERANGE;
	return 0;
}

int parse_timespan(const char *s, uint64_t default_unit_us, uint64_t *ret_us, struct err *e)
{
	const char *p = skip_blanks(s), *end;
	uint64_t sum = 0;
	bool has_something = false;
	if (startswith(p, "infinity")) {
		if (*skip_blanks(p + 8))
			return err_set(e, -EINVAL, "nothing may follow 'infinity'");
		*ret_us = USEC_INFINITY;
		return 0;
	}
	for (p = skip_blanks(p); *p; p = skip_blanks(end)) {
		const char *whole = p, *fraction = NULL;
		end = p + strspn(p, "0123456789");
		if (*end == '.') {
			fraction = end + 1;
			end = fraction + strspn(fraction, "0123456789");
		}
		size_t n_digits = (size_t)(end - p) - (fraction != NULL);
		if (n_digits == 0)
			return err_set(e, -EINVAL,
				"not a time span; write for example 90, 1min 30s, 500ms or infinity");
		uint64_t unit = default_unit_us;
		end = time_unit(skip_blanks(end), &unit);
		if (*end && !strchr(" \t\n\r0123456789.", *end))
			return err_set(e, -EINVAL, "unknown unit of time at '%.20s'; known are "
				"us ms s min h d w month y", end);
		if (add_product(&sum, whole, fraction, unit) < 0)
			return err_set(e, -EINVAL, "the time span is too long");
		has_something = true;
	}
	if (!has_something)
		return err_set(e, -EINVAL, "a time span is missing");
	*ret_us = sum;
	return 0;
}

/* ---- sizes ---- */

int parse_size(const char *s, uint64_t base, uint64_t *ret_bytes, struct err *e)
{
	static const char suffixes[] = "BKMGTPE";
	const char *p = skip_blanks(s);
	uint64_t sum = 0;
	bool has_something = false;
	while (*p) {
		const char *digits = p;
		p += strspn(p, "0123456789");
		const char *fraction = *p == '.' ? p + 1 : NULL;
		if (fraction)
			p = fraction + strspn(fraction, "0123456789");
		if (p == digits || (fraction && p == digits + 1))
			return err_set(e, -EINVAL, "not a size; write for example 512M or 1.5G");
		p = skip_blanks(p);
		uint64_t unit = 1;
		const char *at = *p ? strchr(suffixes, *p) : NULL;
		if (*p && !at)
			return err_set(e, -EINVAL, "bad size suffix '%c'; known are K M G T P E", *p);
		for (ptrdiff_t i = 0; at && i < at - suffixes; i++)
			unit *= base;
		if (at)
			p++;
		if (*p && !strchr(" \t\n\r0123456789", *p))
			return err_set(e, -EINVAL, "bad size; systemd writes 1G, not 1GB or 1GiB");
		p = skip_blanks(p);
		if (add_product(&sum, digits, fraction, unit) < 0)
			return err_set(e, -EINVAL, "the size is too large");
		has_something = true;
	}
	if (!has_something)
		return err_set(e, -EINVAL, "a size is missing");
	*ret_bytes = sum;
	return 0;
}

/* ---- signals ---- */

static const char *const signal_names[] = {
	[SIGHUP] = "SIGHUP",
	[SIGINT] = "SIGINT",
	[SIGQUIT] = "SIGQUIT",
	[SIGILL] = "SIGILL",
	[SIGTRAP] = "SIGTRAP",
	[SIGABRT] = "SIGABRT",
	[SIGBUS] = "SIGBUS",
	[SIGFPE] = "SIGFPE",
	[SIGKILL] = "SIGKILL",
	[SIGUSR1] = "SIGUSR1",
	[SIGSEGV] = "SIGSEGV",
	[SIGUSR2] = "SIGUSR2",
	[SIGPIPE] = "SIGPIPE",
	[SIGALRM] = "SIGALRM",
	[SIGTERM] = "SIGTERM",
	[SIGSTKFLT] = "SIGSTKFLT",
	[SIGCHLD] = "SIGCHLD",
	[SIGCONT] = "SIGCONT",
	[SIGSTOP] = "SIGSTOP",
	[SIGTSTP] = "SIGTSTP",
	[SIGTTIN] = "SIGTTIN",
	[SIGTTOU] = "SIGTTOU",
	[SIGURG] = "SIGURG",
	[SIGXCPU] = "SIGXCPU",
	[SIGXFSZ] = "SIGXFSZ",
	[SIGVTALRM] = "SIGVTALRM",
	[SIGPROF] = "SIGPROF",
	[SIGWINCH] = "SIGWINCH",
	[SIGIO] = "SIGIO",
	[SIGPWR] = "SIGPWR",
	[SIGSYS] = "SIGSYS",
};
/* The kernel's numbers; glibc keeps the first two of the real-time range for itself. */
enum { RT_FIRST = 34, RT_LAST = 64 };

const char *signal_name(int signo)
{
	static char names[RT_LAST - RT_FIRST + 1][sizeof("SIGRTMIN+30")];
	if (signo > 0 && signo < (int)ARRAY_SIZE(signal_names) && signal_names[signo])
		return signal_names[signo];
	if (signo < RT_FIRST || signo > RT_LAST)
		return "SIG?";
	char *name = names[signo - RT_FIRST];
	if (!name[0])
		snprintf(name, sizeof(names[0]), "SIGRTMIN+%d", signo - RT_FIRST);
	return name;
}

/* Digits only, at most max; -1 otherwise. */
static int small_number(const char *s, int max)
{
	int n = 0;
	if (!*s)
		return -1;
	for (; *s; s++) {
		if (*s < '0' || *s > '9')
			return -1;
		n = n * 10 + (*s - '0');
		if (n > max)
			return -1;
	}
	return n;
}

int parse_signal(const char *s)
{
	int n = small_number(s, RT_LAST);
	if (n >= 0)
		return n > 0 ? n : -EINVAL;
	if (startswith(s, "SIG"))
		s += 3;
	if (startswith(s, "RTMIN")) {
		n = s[5] == '\0' ? 0 : s[5] == '+' ? small_number(s + 6, RT_LAST - RT_FIRST) : -1;
		return n >= 0 ? RT_FIRST + n : -EINVAL;
	}
	if (startswith(s, "RTMAX")) {
		n = s[5] == '\0' ? 0 : s[5] == '-' ? small_number(s + 6, RT_LAST - RT_FIRST) : -1;
		return n >= 0 ? RT_LAST - n : -EINVAL;
	}
	if (streq(s, "POLL"))
		return SIGIO;
	for (size_t i = 1; i < ARRAY_SIZE(signal_names); i++)
		if (signal_names[i] && streq(s, signal_names[i] + 3))
			return (int)i;
	return -EINVAL;
}

/* ---- amounts ---- */

int parse_amount(const char *s, struct amount *ret, struct err *e)
{
	char digits[16];
	size_t n = strlen(s);
	bool is_percent = n > 0 && s[n - 1] == '%';
	str_copy(digits, s, sizeof(digits));
	if (is_percent && n < sizeof(digits))
		digits[n - 1] = '\0';
	int v = n < sizeof(digits) ? small_number(digits, is_percent ? 100 : 100000) : -1;
	if (v < 0)
		return err_set(e, -EINVAL, "not a number or a percentage (at most 100%%)");
	*ret = (struct amount){.value = (unsigned)v, .is_percent = is_percent};
	return 0;
}

unsigned amount_of(const struct amount *a, unsigned total, bool round_up)
{
	if (!a->is_percent)
		return a->value;
	uint64_t n = (uint64_t)a->value * total;
	return (unsigned)((n + (round_up ? 99 : 0)) / 100);
}

/* ---- words ---- */

static int octal_or_hex(const char *p, int base, int n_digits, unsigned *ret)
{
	unsigned v = 0;
	for (int i = 0; i < n_digits; i++) {
		int d = p[i] >= '0' && p[i] <= '9'   ? p[i] - '0'
			: p[i] >= 'a' && p[i] <= 'f' ? p[i] - 'a' + 10
			: p[i] >= 'A' && p[i] <= 'F' ? p[i] - 'A' + 10
						     : 99;
		if (d >= base)
			return -EINVAL;
		v = v * (unsigned)base + (unsigned)d;
	}
	*ret = v;
	return 0;
}

static void add_utf8(struct buf *b, unsigned c)
{
	if (c < 0x80)
		buf_add_byte(b, (char)c);
	else if (c < 0x800) {
		buf_add_byte(b, (char)(0xc0 | c >> 6));
		buf_add_byte(b, (char)(0x80 | (c & 0x3f)));
	} else if (c < 0x10000) {
		buf_add_byte(b, (char)(0xe0 | c >> 12));
		buf_add_byte(b, (char)(0x80 | (c >> 6 & 0x3f)));
		buf_add_byte(b, (char)(0x80 | (c & 0x3f)));
	} else {
		buf_add_byte(b, (char)(0xf0 | c >> 18));
		buf_add_byte(b, (char)(0x80 | (c >> 12 & 0x3f)));
		buf_add_byte(b, (char)(0x80 | (c >> 6 & 0x3f)));
		buf_add_byte(b, (char)(0x80 | (c & 0x3f)));
	}
}

/* The C escape after a backslash at p. An unknown one is kept as written, backslash and all:
 * systemd warns and does the same, so that sed and regex arguments survive. Returns bytes read. */
static size_t unescape_one(const char *p, struct buf *b)
{
	static const char from[] = "abfnrtv\\\"'s", to[] = "\a\b\f\n\r\t\v\\\"' ";
	unsigned v;
	const char *at = strchr(from, *p);
	if (at && *p) {
		buf_add_byte(b, to[at - from]);
		return 1;
	}
	if (*p == 'x' && octal_or_hex(p + 1, 16, 2, &v) == 0 && v != 0) {
		buf_add_byte(b, (char)v);
		return 3;
	}
	if (*p == 'u' && octal_or_hex(p + 1, 16, 4, &v) == 0 && v != 0 && (v & 0xf800) != 0xd800) {
		add_utf8(b, v);
		return 5;
	}
	if (*p == 'U' && octal_or_hex(p + 1, 16, 8, &v) == 0 && v != 0 && v <= 0x10ffff &&
		(v & 0xfffff800) != 0xd800) {
		add_utf8(b, v);
		return 9;
	}
	if (octal_or_hex(p, 8, 3, &v) == 0 && v != 0 && v < 256) {
		buf_add_byte(b, (char)v);
		return 3;
	}
	buf_add_byte(b, '\\');
	buf_add_byte(b, *p);
	return 1;
}

int split_word(const char **pos, char **ret_word, bool unquote_escapes, struct err *e)
{
	const char *p = skip_blanks(*pos);
	struct buf b = {0};
	char quote = 0;
	if (!*p) {
		*pos = p;
		return 0;
	}
	buf_reserve(&b, 32);
	while (*p && (quote || !strchr(" \t\n\r", *p))) {
		if (*p == '\\' && unquote_escapes) {
			if (!p[1]) {
				buf_done(&b);
				return err_set(e, -EINVAL, "a lone backslash at the end");
			}
			p += 1 + unescape_one(p + 1, &b);
		} else if (quote && *p == quote) {
			quote = 0;
			p++;
		} else if (!quote && (*p == '"' || *p == '\'')) {
			quote = *p++;
		} else
			buf_add_byte(&b, *p++);
	}
	if (quote) {
		buf_done(&b);
		return err_set(e, -EINVAL, "no closing %s quote", quote == '"' ? "double" : "single");
	}
	*pos = skip_blanks(p);
	*ret_word = buf_steal(&b);
	return 1;
}
