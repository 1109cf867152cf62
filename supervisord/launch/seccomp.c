/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From the directives that mean seccomp to at most two BPF programs, built once and cached.
 *
 *  1. An allow-list is one program; everything that forbids (deny-list, address families, W^X,
 *     namespaces, set-uid bits ...) is merged into a second. The kernel takes the stricter answer,
 *     which one libseccomp context with two default actions could not express.
 *  2. execve, exit_group and write always pass: with these the child starts the program or says
 *     why it cannot. A deny-list that forbids one of them is refused, never weakened.
 *  3. Equal inputs share one program (key: the inputs as text); an image holds a reference.
 *  4. Names libseccomp does not know: skipped in groups and in allow-lists (the call stays forbidden),
 *     refused when a deny-list writes them out (the call would stay allowed).
 *
 * Semantics and groups are systemd 252's (seccomp-util.c). Called by launch_image_new().
 */
#include "parts.h"

#include <fcntl.h>
#include <linux/sched.h>
#include <sched.h>
#include <seccomp.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>

#define GROUP_DEPTH_MAX  8 /* groups in groups; the table needs 3 */
#define FAMILY_MAX       64
#define BPF_OPTIMIZE     2 /* binary tree: 4 times cheaper to load and to run than a list */
#define SCHED_POLICY_MAX 16

static const struct syscall_group {
	const char *name, *members;
} groups[] = {
#define SYSCALL_GROUP(name, members) {name, members},
#include "syscall_groups.def"
#undef SYSCALL_GROUP
};

static const char *const always[] = {"execve", "exit_group", "exit", "write", "rt_sigreturn"};

bool filter_is_wanted(const struct exec_sandbox *s)
{
	return s->has_syscall_filter || s->syscall_archs.n || s->has_address_families ||
	       s->restrict_namespaces || s->lock_personality || s->memory_deny_write_execute ||
	       s->restrict_realtime || s->restrict_suid_sgid || s->protect_clock ||
	       s->protect_kernel_modules || s->protect_kernel_logs || s->protect_kernel_tunables ||
	       s->protect_hostname || s->private_devices;
}

/* ---- the set of names ---- */

struct call {
	char *name;
	int action; /* -1: the filter's default for listed calls, 0: kill, > 0: errno */
	bool is_explicit;
};

struct call_set {
	struct call *v;
	size_t n, cap;
};

static void calls_done(struct call_set *s)
{
	for (size_t i = 0; i < s->n; i++)
		free(s->v[i].name);
	free(s->v);
}

static struct call *call_find(struct call_set *s, const char *name, size_t size)
{
	for (size_t i = 0; i < s->n; i++)
		if (strncmp(s->v[i].name, name, size) == 0 && s->v[i].name[size] == '\0')
			return &s->v[i];
	return NULL;
}

static void call_remove(struct call_set *s, const char *name, size_t size)
{
	struct call *c = call_find(s, name, size);
	if (!c)
		return;
	free(c->name);
	*c = s->v[--s->n];
}

static const struct syscall_group *group_find(const char *name, size_t size)
{
	for (size_t i = 0; i < ARRAY_SIZE(groups); i++)
		if (strlen(groups[i].name) == size && memcmp(groups[i].name, name, size) == 0)
			return &groups[i];
	return NULL;
}

/* Groups nest; the table's depth is known, the bound guards against a cycle in it. */
static int calls_apply(struct call_set *s, const char *name, size_t size, int action, bool is_added,
	unsigned depth)
{
	if (name[0] != '@') {
		struct call *c = call_find(s, name, size);
		if (!is_added) {
			call_remove(s, name, size);
		} else if (c) {
			c->action = action;
		} else {
			GROW(s->v, s->n, s->cap);
			s->v[s->n++] = (struct call){xstrndup(name, size), action, depth == 0};
		}
		return 0;
	}
	const struct syscall_group *g = group_find(name, size);
	if (!g || depth >= GROUP_DEPTH_MAX)
		return -EINVAL;
	for (const char *m = g->members; *m;) {
		size_t n = strcspn(m, " ");
		if (n)
			(void)calls_apply(s, m, n, action, is_added, depth + 1);
		m += n + (m[n] == ' ');
	}
	return 0;
}

/* Errno by name or number; "kill". */
static int parse_action(const char *s)
{
	if (streq(s, "kill"))
		return 0;
	char *end;
	unsigned long n = strtoul(s, &end, 10);
	if (*s && !*end)
		return n > 0 && n < 4096 ? (int)n : -EINVAL;
	for (int i = 1; i < 134; i++)
		if (streq(errno_name(i), s))
			return i;
	return -EINVAL;
}

static int calls_collect(const struct exec_sandbox *s, struct call_set *set, struct err *e)
{
	if (!s->syscall_filter_is_deny)
		(void)calls_apply(set, "@default", strlen("@default"), -1, true, 1);
	for (size_t i = 0; i < s->syscall_filter.n; i++) {
		const char *name = s->syscall_filter.v[i];
		bool is_added = name[0] != '~';
		name += !is_added;
		size_t size = strcspn(name, ":");
		int action = name[size] ? parse_action(name + size + 1) : -1;
		if (name[size] && action < 0)
			return err_set(e, -EINVAL, "SystemCallFilter=%s: no such errno", name);
		int r = calls_apply(set, name, size, action, is_added, 0);
		if (r < 0)
			return err_set(e, -EINVAL, "SystemCallFilter=%s: no such group", name);
	}
	for (size_t i = 0; i < ARRAY_SIZE(always); i++) {
		size_t n = strlen(always[i]);
		if (!s->syscall_filter_is_deny)
			(void)calls_apply(set, always[i], n, -1, true, 1);
		else if (call_find(set, always[i], n))
			return err_set(e, -EINVAL,
				"SystemCallFilter= forbids %s, without which nothing can be started",
				always[i]);
	}
	return 0;
}

/* ---- rules ---- */

struct filter {
	scmp_filter_ctx ctx;
	struct err *e;
	int error;
	size_t n_rules;
};

/* A rule libseccomp sees as covered by an earlier, wider one is no error. */
static void rule(
	struct filter *f, uint32_t action, int nr, unsigned n, const struct scmp_arg_cmp *a)
{
	if (f->error || nr == __NR_SCMP_ERROR)
		return;
	int r = seccomp_rule_add_array(f->ctx, action, nr, n, a);
	if (r < 0 && r != -EEXIST && r != -EDOM && r != -EACCES)
		f->error = err_set(f->e, r, "seccomp rule for call %d: %s", nr, errno_name(-r));
	else
		f->n_rules++;
}

static void deny(struct filter *f, const char *name, int error)
{
	rule(f, SCMP_ACT_ERRNO((uint32_t)error), seccomp_syscall_resolve_name(name), 0, NULL);
}

static void deny_arg(struct filter *f, const char *name, int error, unsigned arg,
	enum scmp_compare op, uint64_t a, uint64_t b)
{
	struct scmp_arg_cmp c = {.arg = arg, .op = op, .datum_a = a, .datum_b = b};
	rule(f, SCMP_ACT_ERRNO((uint32_t)error), seccomp_syscall_resolve_name(name), 1, &c);
}

/* An argument that the kernel takes for an int: a caller may put anything into its upper half. */
static void deny_int(struct filter *f, const char *name, int error, unsigned arg, uint32_t value)
{
	deny_arg(f, name, error, arg, SCMP_CMP_MASKED_EQ, UINT32_MAX, value);
}

static uint32_t action_of(const struct exec_sandbox *s, int action)
{
	if (action < 0)
		action = s->syscall_errno;
	return action ? SCMP_ACT_ERRNO((uint32_t)action) : SCMP_ACT_KILL_PROCESS;
}

static void rules_list(struct filter *f, const struct exec_sandbox *s, struct call_set *set)
{
	for (size_t i = 0; i < set->n && !f->error; i++) {
		const struct call *c = &set->v[i];
		int nr = seccomp_syscall_resolve_name(c->name);
		if (nr == __NR_SCMP_ERROR) {
			if (c->is_explicit && s->syscall_filter_is_deny)
				f->error = err_set(f->e, -EINVAL,
					"SystemCallFilter=%s: no such system call", c->name);
			continue;
		}
		/* "name:errno" in an allow-list is a call that answers so; others are allowed. */
		bool allows = !s->syscall_filter_is_deny && c->action < 0;
		uint32_t action = allows ? SCMP_ACT_ALLOW : action_of(s, c->action);
		if (!s->syscall_filter_is_deny && action == action_of(s, -1))
			continue;
		rule(f, action, nr, 0, NULL);
	}
}

static void deny_group(struct filter *f, const char *group)
{
	struct call_set set = {0};
	(void)calls_apply(&set, group, strlen(group), -1, true, 0);
	for (size_t i = 0; i < set.n; i++)
		deny(f, set.v[i].name, EPERM);
	calls_done(&set);
}

static const struct {
	const char *name;
	int family;
} families[] = {
	{"AF_UNIX",       AF_UNIX      },
	{"AF_LOCAL",      AF_LOCAL     },
	{"AF_INET",       AF_INET      },
	{"AF_INET6",      AF_INET6     },
	{"AF_NETLINK",    AF_NETLINK   },
	{"AF_PACKET",     AF_PACKET    },
	{"AF_ALG",        AF_ALG       },
	{"AF_VSOCK",      AF_VSOCK     },
	{"AF_BLUETOOTH",  AF_BLUETOOTH },
	{"AF_CAN",        AF_CAN       },
	{"AF_KEY",        AF_KEY       },
	{"AF_TIPC",       AF_TIPC      },
	{"AF_XDP",        AF_XDP       },
	{"AF_QIPCRTR",    AF_QIPCRTR   },
	{"AF_RDS",        AF_RDS       },
	{"AF_X25",        AF_X25       },
	{"AF_AX25",       AF_AX25      },
	{"AF_IPX",        AF_IPX       },
	{"AF_APPLETALK",  AF_APPLETALK },
	{"AF_NFC",        AF_NFC       },
	{"AF_PPPOX",      AF_PPPOX     },
	{"AF_RXRPC",      AF_RXRPC     },
	{"AF_SMC",        AF_SMC       },
	{"AF_KCM",        AF_KCM       },
	{"AF_MPLS",       AF_MPLS      },
	{"AF_IB",         AF_IB        },
	{"AF_PHONET",     AF_PHONET    },
	{"AF_IEEE802154", AF_IEEE802154},
	{"AF_CAIF",       AF_CAIF      },
	{"AF_LLC",        AF_LLC       },
	{"AF_ATMPVC",     AF_ATMPVC    },
	{"AF_ATMSVC",     AF_ATMSVC    },
	{"AF_ISDN",       AF_ISDN      },
	{"AF_NETROM",     AF_NETROM    },
	{"AF_ROSE",       AF_ROSE      },
	{"AF_DECnet",     AF_DECnet    },
	{"AF_SECURITY",   AF_SECURITY  },
	{"AF_ECONET",     AF_ECONET    },
	{"AF_SNA",        AF_SNA       },
	{"AF_WANPIPE",    AF_WANPIPE   },
	{"AF_IUCV",       AF_IUCV      },
	{"AF_ASH",        AF_ASH       },
	{"AF_BRIDGE",     AF_BRIDGE    },
	{"AF_NETBEUI",    AF_NETBEUI   },
};

static int family_of(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(families); i++)
		if (streq(families[i].name, name))
			return families[i].family;
	return -EINVAL;
}

static int rules_families(struct filter *f, const struct exec_sandbox *s)
{
	bool listed[FAMILY_MAX] = {false};
	for (size_t i = 0; i < s->address_families.n; i++) {
		int family = family_of(s->address_families.v[i]);
		if (streq(s->address_families.v[i], "none"))
			continue;
		if (family < 0 || family >= FAMILY_MAX)
			return err_set(f->e, -EINVAL, "RestrictAddressFamilies=%s is unknown",
				s->address_families.v[i]);
		listed[family] = true;
	}
	for (unsigned i = 0; i < FAMILY_MAX; i++)
		if (listed[i] == s->address_families_is_deny)
			deny_int(f, "socket", EAFNOSUPPORT, 0, i);
	if (!s->address_families_is_deny)
		deny_arg(f, "socket", EAFNOSUPPORT, 0, SCMP_CMP_GE, FAMILY_MAX, 0);
	return f->error;
}

static void rules_namespaces(struct filter *f, uint64_t forbidden)
{
	for (unsigned bit = 0; bit < 64; bit++) {
		uint64_t flag = forbidden & (1ULL << bit);
		if (!flag)
			continue;
		deny_arg(f, "clone", EPERM, 0, SCMP_CMP_MASKED_EQ, flag, flag);
		deny_arg(f, "unshare", EPERM, 0, SCMP_CMP_MASKED_EQ, flag, flag);
		deny_arg(f, "setns", EPERM, 1, SCMP_CMP_MASKED_EQ, flag, flag);
	}
	if (!forbidden)
		return;
	/* Type 0 means "whatever it is"; clone3's flags are behind a pointer: libc falls back. */
	deny_int(f, "setns", EPERM, 1, 0);
	deny(f, "clone3", ENOSYS);
}

static void rules_write_execute(struct filter *f)
{
	deny_arg(f, "mmap", EPERM, 2, SCMP_CMP_MASKED_EQ, PROT_EXEC | PROT_WRITE,
		PROT_EXEC | PROT_WRITE);
	deny_arg(f, "mprotect", EPERM, 2, SCMP_CMP_MASKED_EQ, PROT_EXEC, PROT_EXEC);
	deny_arg(f, "pkey_mprotect", EPERM, 2, SCMP_CMP_MASKED_EQ, PROT_EXEC, PROT_EXEC);
	deny_arg(f, "shmat", EPERM, 2, SCMP_CMP_MASKED_EQ, SHM_EXEC, SHM_EXEC);
}

static void rules_set_ids(struct filter *f)
{
	static const struct {
		const char *name;
		unsigned mode_arg, flags_arg; /* flags_arg 9: no O_CREAT to look at */
	} calls[] = {
		{"chmod",     1, 9},
		{"fchmod",    1, 9},
		{"fchmodat",  2, 9},
		{"fchmodat2", 2, 9},
		{"mkdir",     1, 9},
		{"mkdirat",   2, 9},
		{"mknod",     1, 9},
		{"mknodat",   2, 9},
		{"creat",     1, 9},
		{"open",      2, 1},
		{"openat",    3, 2},
	};
	static const uint64_t bits[] = {S_ISUID, S_ISGID};
	/* Either makes open() look at its mode. */
	static const uint64_t creates[] = {O_CREAT, O_TMPFILE & ~O_DIRECTORY};
	for (size_t i = 0; i < ARRAY_SIZE(calls); i++) {
		bool has_flags = calls[i].flags_arg != 9;
		for (size_t k = 0; k < ARRAY_SIZE(bits) * (has_flags ? 2 : 1); k++) {
			uint64_t bit = bits[k % 2], create = creates[k / 2];
			struct scmp_arg_cmp c[2] = {
				{calls[i].mode_arg,  SCMP_CMP_MASKED_EQ, bit,    bit   },
				{calls[i].flags_arg, SCMP_CMP_MASKED_EQ, create, create},
			};
			rule(f, SCMP_ACT_ERRNO(EPERM), seccomp_syscall_resolve_name(calls[i].name),
				has_flags ? 2 : 1, c);
		}
	}
	deny(f, "openat2", ENOSYS); /* its mode is behind a pointer: libc falls back to openat */
}

static void rules_realtime(struct filter *f)
{
	static const int harmless[] = {SCHED_OTHER, SCHED_BATCH, SCHED_IDLE};
	for (int policy = 0; policy < SCHED_POLICY_MAX; policy++) {
		bool is_harmless = false;
		for (size_t i = 0; i < ARRAY_SIZE(harmless); i++)
			is_harmless |= policy == harmless[i];
		if (!is_harmless)
			deny_arg(f, "sched_setscheduler", EPERM, 1, SCMP_CMP_EQ, (uint64_t)policy,
				0);
	}
	deny_arg(f, "sched_setscheduler", EPERM, 1, SCMP_CMP_GE, SCHED_POLICY_MAX, 0);
	deny(f, "sched_setattr", EPERM);
}

static int rules_restrictions(struct filter *f, const struct exec_sandbox *s)
{
	static const char *const hostname[] = {"sethostname", "setdomainname"};
	if (s->protect_clock)
		deny_group(f, "@clock");
	if (s->protect_kernel_modules)
		deny_group(f, "@module");
	if (s->private_devices)
		deny_group(f, "@raw-io");
	if (s->protect_kernel_logs)
		deny(f, "syslog", EPERM);
	if (s->protect_kernel_tunables)
		deny(f, "_sysctl", EPERM);
	for (size_t i = 0; s->protect_hostname && i < ARRAY_SIZE(hostname); i++)
		deny(f, hostname[i], EPERM);
	if (s->lock_personality)
		deny_arg(f, "personality", EPERM, 0, SCMP_CMP_NE,
			s->personality && streq(s->personality, "x86") ? 8 : 0, 0);
	if (s->memory_deny_write_execute)
		rules_write_execute(f);
	if (s->restrict_realtime)
		rules_realtime(f);
	if (s->restrict_suid_sgid)
		rules_set_ids(f);
	rules_namespaces(f, s->restrict_namespaces);
	return s->has_address_families ? rules_families(f, s) : f->error;
}

/* ---- contexts ---- */

static int add_archs(scmp_filter_ctx ctx, const struct exec_sandbox *s, struct err *e)
{
	static const char *const local[] = {"x86", "x32"}; /* what an x86-64 kernel also runs */
	bool is_listed = s->syscall_archs.n > 0;
	if (!is_listed && seccomp_arch_native() == SCMP_ARCH_X86_64)
		for (size_t i = 0; i < ARRAY_SIZE(local); i++)
			(void)seccomp_arch_add(ctx, seccomp_arch_resolve_name(local[i]));
	for (size_t i = 0; i < s->syscall_archs.n; i++) {
		const char *name = s->syscall_archs.v[i];
		if (streq(name, "native"))
			continue;
		uint32_t arch = seccomp_arch_resolve_name(streq(name, "x86-64")  ? "x86_64"
							  : streq(name, "arm64") ? "aarch64"
										 : name);
		if (arch == 0)
			return err_set(e, -EINVAL, "SystemCallArchitectures=%s is unknown", name);
		int r = seccomp_arch_add(ctx, arch);
		if (r < 0 && r != -EEXIST)
			return err_set(e, r, "SystemCallArchitectures=%s", name);
	}
	return 0;
}

static int filter_export(struct filter *f, struct buf *out)
{
	char chunk[4096];
	CLEANUP_CLOSE int fd = memfd_create("seccomp", MFD_CLOEXEC);
	if (fd < 0)
		return -errno;
	int r = seccomp_export_bpf(f->ctx, fd);
	if (r < 0)
		return r;
	if (lseek(fd, 0, SEEK_SET) < 0)
		return -errno;
	for (;;) {
		ssize_t n = read(fd, chunk, sizeof(chunk));
		if (n < 0)
			return -errno;
		if (n == 0)
			return 0;
		buf_add(out, chunk, (size_t)n);
	}
}

static int filter_new(struct filter *f, uint32_t default_action, const struct exec_sandbox *s)
{
	f->ctx = seccomp_init(default_action);
	if (!f->ctx)
		return err_set(f->e, -ENOMEM, "seccomp_init");
	(void)seccomp_attr_set(f->ctx, SCMP_FLTATR_CTL_NNP, 0);
	(void)seccomp_attr_set(f->ctx, SCMP_FLTATR_CTL_OPTIMIZE, BPF_OPTIMIZE);
	(void)seccomp_attr_set(f->ctx, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);
	return add_archs(f->ctx, s, f->e);
}

static int build_list(
	const struct exec_sandbox *s, struct call_set *set, struct buf *out, struct err *e)
{
	struct filter f = {.e = e};
	uint32_t otherwise = s->syscall_filter_is_deny ? SCMP_ACT_ALLOW : action_of(s, -1);
	int r = filter_new(&f, otherwise, s);
	if (r == 0) {
		rules_list(&f, s, set);
		r = f.error ? f.error : filter_export(&f, out);
	}
	if (f.ctx)
		seccomp_release(f.ctx);
	return r;
}

/* A deny-list goes first, so that a narrower restriction on the same call is the one left out. */
static int build_restrictions(
	const struct exec_sandbox *s, struct call_set *denied, struct buf *out, struct err *e)
{
	struct filter f = {.e = e};
	int r = filter_new(&f, SCMP_ACT_ALLOW, s);
	if (r == 0 && denied)
		rules_list(&f, s, denied);
	if (r == 0 && f.error == 0)
		r = rules_restrictions(&f, s);
	if (r == 0)
		r = f.error;
	if (r == 0 && (f.n_rules || s->syscall_archs.n))
		r = filter_export(&f, out);
	if (f.ctx)
		seccomp_release(f.ctx);
	return r;
}

static int build(const struct exec_sandbox *s, struct buf *out, size_t *ret_split, struct err *e)
{
	struct call_set set = {0};
	bool is_allow_list = s->has_syscall_filter && !s->syscall_filter_is_deny;
	int r = s->has_syscall_filter ? calls_collect(s, &set, e) : 0;
	if (r == 0 && is_allow_list)
		r = build_list(s, &set, out, e);
	size_t first = out->size;
	if (r == 0)
		r = build_restrictions(
			s, s->has_syscall_filter && !is_allow_list ? &set : NULL, out, e);
	*ret_split = first && out->size > first ? first : 0;
	calls_done(&set);
	if (r == 0 && out->size > PLAN_FILTER_MAX)
		r = err_set(e, -E2BIG, "seccomp filter larger than the kernel takes");
	return r;
}

/* ---- the cache ---- */

struct cached_filter {
	char *key;
	void *data;
	size_t size, split;
	unsigned refs;
	struct cached_filter *next;
};
static struct cached_filter *cache; /* one per distinct filter in use: bounded by UNITS_MAX */

static void key_list(struct buf *b, const char *name, const struct conf_list *l)
{
	buf_printf(b, "|%s", name);
	for (size_t i = 0; i < l->n; i++)
		buf_printf(b, " %s", l->v[i]);
}

static char *filter_key(const struct exec_sandbox *s)
{
	struct buf b = {0};
	buf_printf(&b, "%d%d%d%d%d%d%d%d%d%d%d%d%d:%d:%llx:%s", s->has_syscall_filter,
		s->syscall_filter_is_deny, s->has_address_families, s->address_families_is_deny,
		s->lock_personality, s->memory_deny_write_execute, s->restrict_realtime,
		s->restrict_suid_sgid, s->protect_clock, s->protect_kernel_modules,
		s->protect_kernel_logs, s->protect_kernel_tunables,
		s->protect_hostname + 2 * s->private_devices, s->syscall_errno,
		(unsigned long long)s->restrict_namespaces, strna(s->personality));
	key_list(&b, "filter", &s->syscall_filter);
	key_list(&b, "archs", &s->syscall_archs);
	key_list(&b, "families", &s->address_families);
	return buf_steal(&b);
}

int filter_get(
	const struct exec_sandbox *s, struct bpf_program *ret, size_t *ret_split, struct err *e)
{
	CLEANUP_FREE char *key = filter_key(s);
	struct cached_filter *c;
	for (c = cache; c; c = c->next)
		if (streq(c->key, key))
			break;
	if (!c) {
		struct buf b = {0};
		size_t split = 0;
		int r = build(s, &b, &split, e);
		if (r < 0) {
			buf_done(&b);
			return r;
		}
		c = xcalloc(1, sizeof(*c));
		*c = (struct cached_filter){TAKE_PTR(key), b.data, b.size, split, 0, cache};
		cache = c;
	}
	c->refs++;
	*ret = (struct bpf_program){c->data, c->size};
	*ret_split = c->split;
	return 0;
}

void filter_put(struct bpf_program *p)
{
	for (struct cached_filter **at = &cache; p->data && *at; at = &(*at)->next) {
		struct cached_filter *c = *at;
		if (c->data != p->data)
			continue;
		if (--c->refs == 0) {
			*at = c->next;
			free(c->key);
			free(c->data);
			free(c);
		}
		break;
	}
	*p = (struct bpf_program){0};
}

size_t filters_cached(void)
{
	size_t n = 0;
	for (const struct cached_filter *c = cache; c; c = c->next)
		n++;
	return n;
}
