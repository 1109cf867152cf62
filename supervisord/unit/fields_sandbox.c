/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Value parsers of security and resource settings: capabilities, system calls, address families,
 * namespaces, cgroup knobs.
 *
 *  1. A restriction that cannot be read makes the unit bad; it is never left out silently.
 *  2. Names of system calls stay as written; launch/ turns them into a filter. An item that a later
 *     line takes back out of the list is kept with "~" in front, in order.
 *
 * Called by parse.c through the rows of directives.def.
 */
#include <ctype.h>
#include <sched.h>
#include <sys/capability.h>

#include "fields.h"

#define BLANKS " \t\n\r"

/* Calls fn for each blank-separated word; false as soon as one is refused. */
static bool each_word(struct parser *p, const char *value, const char *words,
	bool (*fn)(struct parser *p, const char *word, void *arg), void *arg)
{
	for (const char *pos = words; *(pos += strspn(pos, BLANKS));) {
		size_t n = strcspn(pos, BLANKS);
		CLEANUP_FREE char *word = xstrndup(pos, n);
		p->value_at = (size_t)(pos - value);
		if (!fn(p, word, arg))
			return false;
		pos += n;
	}
	return true;
}

/* ---- capabilities ---- */

static bool add_capability(struct parser *p, const char *word, void *arg)
{
	cap_value_t v;
	CLEANUP_FREE char *name = xstrdup(word);
	for (char *s = name; *s; s++)
		*s = (char)tolower((unsigned char)*s);
	if (isdigit((unsigned char)*name) || cap_from_name(name, &v) < 0 || v < 0 || v > 63) {
		complain(p, S0121, NULL, "%s=: '%s' is no capability", p->d->info.key, word);
		return false;
	}
	*(uint64_t *)arg |= 1ULL << v;
	return true;
}

/* systemd's merging: the first list, "" and "~" replace; later ones add or, with "~", remove. */
static void set_capabilities(struct parser *p, const char *value, uint64_t *set, bool is_first)
{
	bool invert = *value == '~';
	uint64_t sum = 0;
	if (!each_word(p, value, value + invert, add_capability, &sum))
		return;
	if (sum == 0 || is_first)
		*set = invert ? ~sum : sum;
	else if (invert)
		*set &= ~sum;
	else
		*set |= sum;
}

void set_bounding_set(struct parser *p, const char *value)
{
	struct exec_identity *i = &p->conf->exec.identity;
	set_capabilities(p, value, &i->bounding_set, i->bounding_set == UINT64_MAX);
	i->has_bounding_set = i->bounding_set != UINT64_MAX;
}

void set_ambient_set(struct parser *p, const char *value)
{
	struct exec_identity *i = &p->conf->exec.identity;
	set_capabilities(p, value, &i->ambient_set, i->ambient_set == 0);
}

static bool add_secure_bit(struct parser *p, const char *word, void *arg)
{
	static const char *const bits[] = {"noroot", "noroot-locked", "no-setuid-fixup",
		"no-setuid-fixup-locked", "keep-caps", "keep-caps-locked"};
	for (size_t i = 0; i < ARRAY_SIZE(bits); i++)
		if (streq(word, bits[i])) {
			*(unsigned *)arg |= 1u << i;
			return true;
		}
	complain(p, S0110, NULL, "%s=: '%s' is no secure bit", p->d->info.key, word);
	return false;
}

void set_secure_bits(struct parser *p, const char *value)
{
	unsigned bits = *value ? p->conf->exec.identity.secure_bits : 0;
	if (each_word(p, value, value, add_secure_bit, &bits))
		p->conf->exec.identity.secure_bits = bits;
}

/* ---- system calls ---- */

static const char *const syscall_groups[] = {"@aio", "@basic-io", "@chown", "@clock",
	"@cpu-emulation", "@debug", "@default", "@file-system", "@io-event", "@ipc", "@keyring",
	"@known", "@memlock", "@module", "@mount", "@network-io", "@obsolete", "@pkey",
	"@privileged", "@process", "@raw-io", "@reboot", "@resources", "@sandbox", "@setuid",
	"@signal", "@swap", "@sync", "@system-service", "@timer"};

/* "kill", a number or a name of errno(3); -EINVAL. 0 means kill. */
static int errno_of(const char *s)
{
	int n = 0;
	if (streq(s, "kill"))
		return 0;
	if (isdigit((unsigned char)*s)) {
		for (; isdigit((unsigned char)*s); s++)
			if ((n = n * 10 + (*s - '0')) > 4095)
				return -EINVAL;
		return *s ? -EINVAL : n;
	}
	for (n = 1; n < 134; n++)
		if (streq(errno_name(n), s))
			return n;
	return -EINVAL;
}

static const char *check_syscall(const char *word)
{
	size_t n = strcspn(word, ":");
	if (word[n] && errno_of(word + n + 1) < 0)
		return "has an unknown errno behind ':'";
	for (size_t i = 0; word[0] == '@' && i < ARRAY_SIZE(syscall_groups); i++)
		if (strlen(syscall_groups[i]) == n && strncmp(word, syscall_groups[i], n) == 0)
			return NULL;
	if (word[0] == '@')
		return "is no group of system calls";
	for (size_t i = 0; i < n; i++)
		if (!isalnum((unsigned char)word[i]) && word[i] != '_')
			return "is no system call";
	return n ? NULL : "is no system call";
}

static bool add_syscall(struct parser *p, const char *word, void *arg)
{
	const bool *takes_back = arg;
	const char *trouble = check_syscall(word);
	if (trouble) {
		complain(p, S0122, NULL, "%s=: '%s' %s", p->d->info.key, word, trouble);
		return false;
	}
	conf_list_add(p, &p->conf->exec.sandbox.syscall_filter,
		arena_printf(p->arena, "%s%s", *takes_back ? "~" : "", word));
	return true;
}

void set_syscall_filter(struct parser *p, const char *value)
{
	struct exec_sandbox *s = &p->conf->exec.sandbox;
	if (!*value) {
		s->syscall_filter = (struct conf_list){0};
		s->has_syscall_filter = s->syscall_filter_is_deny = false;
		return;
	}
	bool invert = *value == '~';
	if (!s->has_syscall_filter)
		s->syscall_filter_is_deny = invert;
	s->has_syscall_filter = true;
	bool takes_back = invert != s->syscall_filter_is_deny;
	(void)each_word(p, value, value + invert, add_syscall, &takes_back);
}

void set_syscall_errno(struct parser *p, const char *value)
{
	int e = *value ? errno_of(value) : 0;
	if (e < 0)
		complain_fatal(p, S0122, NULL, "%s=%s: no such errno", p->d->info.key, value);
	else
		p->conf->exec.sandbox.syscall_errno = e;
}

/* ---- address families ---- */

static void list_remove(struct conf_list *l, const char *s)
{
	size_t n = 0;
	for (size_t i = 0; i < l->n; i++)
		if (!streq(l->v[i], s))
			l->v[n++] = l->v[i];
	l->n = n;
}

static bool add_family(struct parser *p, const char *word, void *arg)
{
	struct exec_sandbox *s = &p->conf->exec.sandbox;
	const bool *takes_back = arg;
	bool is_bad = !startswith(word, "AF_") || !word[3];
	for (const char *c = word; *c; c++)
		is_bad |= !isupper((unsigned char)*c) && !isdigit((unsigned char)*c) && *c != '_';
	if (is_bad) {
		complain(p, S0123, NULL, "%s=: '%s' is no address family", p->d->info.key, word);
		return false;
	}
	if (*takes_back)
		list_remove(&s->address_families, word);
	else if (!conf_list_has(&s->address_families, word))
		conf_list_add(p, &s->address_families, arena_strdup(p->arena, word));
	return true;
}

void set_address_families(struct parser *p, const char *value)
{
	struct exec_sandbox *s = &p->conf->exec.sandbox;
	if (!*value || streq(value, "none")) {
		s->address_families = (struct conf_list){0};
		s->address_families_is_deny = false;
		s->has_address_families = *value;
		return;
	}
	bool invert = *value == '~';
	if (!s->has_address_families)
		s->address_families_is_deny = invert;
	s->has_address_families = true;
	bool takes_back = invert != s->address_families_is_deny;
	(void)each_word(p, value, value + invert, add_family, &takes_back);
}

/* ---- namespaces ---- */

static const struct {
	const char *name;
	uint64_t flag;
} namespaces[] = {
	{"cgroup", CLONE_NEWCGROUP},
	{"ipc",    CLONE_NEWIPC   },
	{"net",    CLONE_NEWNET   },
	{"mnt",    CLONE_NEWNS    },
	{"pid",    CLONE_NEWPID   },
	{"user",   CLONE_NEWUSER  },
	{"uts",    CLONE_NEWUTS   },
};

static bool add_namespace(struct parser *p, const char *word, void *arg)
{
	for (size_t i = 0; i < ARRAY_SIZE(namespaces); i++)
		if (streq(word, namespaces[i].name)) {
			*(uint64_t *)arg |= namespaces[i].flag;
			return true;
		}
	complain(p, S0124, NULL, "%s=: '%s' is no namespace type", p->d->info.key, word);
	return false;
}

void set_namespaces(struct parser *p, const char *value)
{
	uint64_t *forbidden = &p->conf->exec.sandbox.restrict_namespaces, all = 0, set = 0;
	for (size_t i = 0; i < ARRAY_SIZE(namespaces); i++)
		all |= namespaces[i].flag;
	int b = *value ? parse_boolean(value) : 0;
	bool invert = *value == '~';
	if (b >= 0)
		*forbidden = b ? all : 0;
	else if (each_word(p, value, value + invert, add_namespace, &set)) {
		if (invert)
			*forbidden |= set;
		else if (*forbidden)
			*forbidden &= ~set; /* a further line allows more */
		else
			*forbidden = all & ~set;
	}
}

/* ---- cgroup knobs ---- */

/* "30%", "12.5%" -> 300, 125; false when it is no percentage. */
static bool permille_of(const char *s, uint32_t max, uint32_t *ret)
{
	uint64_t n = 0;
	const char *p = s;
	for (; isdigit((unsigned char)*p) && n <= max; p++)
		n = n * 10 + (uint64_t)(*p - '0');
	n *= 10;
	if (*p == '.' && isdigit((unsigned char)p[1])) {
		n += (uint64_t)(p[1] - '0');
		for (p += 2; isdigit((unsigned char)*p); p++)
			;
	}
	if (p == s || !streq(p, "%") || n > max)
		return false;
	*ret = (uint32_t)n;
	return true;
}

static uint64_t physical_memory(void)
{
	long pages = sysconf(_SC_PHYS_PAGES), size = sysconf(_SC_PAGESIZE);
	return pages > 0 && size > 0 ? (uint64_t)pages * (uint64_t)size : 0;
}

void set_memory(struct parser *p, const char *value)
{
	struct cgroup_limits *g = &p->conf->exec.cgroup;
	uint64_t *field = FIELD(p, uint64_t), bytes = UINT64_MAX;
	uint32_t permille = 0;
	struct err e;
	if (permille_of(value, 1000, &permille)) {
		if (field != &g->memory_max)
			bytes = physical_memory() / 1000 * permille;
	} else if (*value && !streq(value, "infinity") && parse_size(value, 1024, &bytes, &e) < 0) {
		complain(p, S0120, NULL, "%s=%s: %s", p->d->info.key, value, e.text);
		return;
	}
	*field = bytes;
	if (field == &g->memory_max)
		g->memory_max_permille = permille;
}

void set_tasks(struct parser *p, const char *value)
{
	struct cgroup_limits *g = &p->conf->exec.cgroup;
	uint64_t n = UINT64_MAX;
	uint32_t permille = 0;
	struct err e;
	if (!permille_of(value, 1000, &permille) && *value && !streq(value, "infinity") &&
		(parse_size(value, 1000, &n, &e) < 0 || n == 0)) {
		complain(p, S0113, NULL, "%s=%s: not a number, a percentage or infinity",
			p->d->info.key, value);
		return;
	}
	g->tasks_max = n;
	g->tasks_max_permille = permille;
}

void set_cpu_quota(struct parser *p, const char *value)
{
	uint32_t permille;
	if (!*value)
		p->conf->exec.cgroup.cpu_quota_us_per_sec = UINT64_MAX;
	else if (permille_of(value, 100000000, &permille) && permille > 0)
		p->conf->exec.cgroup.cpu_quota_us_per_sec = (uint64_t)permille * 1000;
	else
		complain(p, S0113, NULL, "%s=%s: not a percentage such as 20%% or 150%%",
			p->d->info.key, value);
}

void set_weight(struct parser *p, const char *value)
{
	uint64_t n = UINT64_MAX;
	struct err e;
	if (streq(value, "idle"))
		n = 1;
	else if (*value && (parse_size(value, 1000, &n, &e) < 0 || n < 1 || n > 10000)) {
		complain(p, S0113, NULL, "%s=%s: not a weight from 1 to 10000", p->d->info.key,
			value);
		return;
	}
	*FIELD(p, uint64_t) = n;
}

/* A boolean, or the controllers that are delegated; all of those there are, here. */
void set_delegate(struct parser *p, const char *value)
{
	int b = parse_boolean(value);
	p->conf->exec.cgroup.delegate = b != 0;
}

void set_cgroup_other(struct parser *p, const char *value)
{
	if (*value)
		conf_list_add(p, &p->conf->exec.cgroup.other,
			arena_printf(p->arena, "%s=%s", p->d->info.key, value));
}

void set_label(struct parser *p, const char *value)
{
	set_string(p, value);
}
