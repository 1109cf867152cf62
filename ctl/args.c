/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Finds the verb, reads its options, runs it.
 *
 * Owns the verb table. A verb takes an option exactly when its grammar in verbs.def says so; the
 * help is that grammar, so the two cannot differ.
 */
#include <getopt.h>

#include "ctl.h"

#define USAGE_DISTANCE 2

#define METHOD(id, name_, role, is_change, in, out, doc) enum { IS_CHANGE_##id = is_change };
enum { IS_CHANGE_NONE = false };
#include "stayd/verbs.def"

const struct verb verbs[] = {
#define VERB(id, name_, group_, method_, grammar_, doc_, examples_)                                \
	{                                                                                          \
		.name = name_,                                                                     \
		.group = GROUP_##group_,                                                           \
		.is_change = IS_CHANGE_##method_,                                                  \
		.grammar = grammar_,                                                               \
		.doc = doc_,                                                                       \
		.examples = examples_,                                                             \
		.run = do_##id,                                                                    \
	},
#include "stayd/verbs.def"
};
const size_t n_verbs = ARRAY_SIZE(verbs);

const struct verb *verb_find(const char *name)
{
	for (size_t i = 0; i < n_verbs; i++)
		if (streq(verbs[i].name, name))
			return &verbs[i];
	return NULL;
}

const char *verb_nearest(const char *name)
{
	const char *best = NULL;
	unsigned best_distance = USAGE_DISTANCE + 1;
	for (size_t i = 0; i < n_verbs; i++) {
		unsigned d = str_distance(name, verbs[i].name, USAGE_DISTANCE);
		if (d < best_distance) {
			best_distance = d;
			best = verbs[i].name;
		}
	}
	return best;
}

/* ---- help --------------------------------------------------------------------------------------------- */

static void print_verb_help(const struct verb *v, FILE *out)
{
	fprintf(out, "stayctl %s %s\n\n  %s.\n\n", v->name, v->grammar, v->doc);
	for (const char *p = v->examples; *p;) {
		size_t n = strcspn(p, "\n");
		fprintf(out, "  $ %.*s\n", (int)n, p);
		p += n + (p[n] == '\n');
	}
	fprintf(out, "\nUNIT is web, web.service, web@1 or a pattern like 'web@*'. ");
	fprintf(out, "All verbs: stayctl --help; exit codes: stayctl(1).\n");
}

void print_help(const struct verb *v, FILE *out)
{
	static const char *const groups[] = {"See", "Do", "Change", "Files", "Administer"};
	if (v) {
		print_verb_help(v, out);
		return;
	}
	fprintf(out, "stayctl [--socket PATH] VERB [OPTION...] [UNIT...]\n");
	for (int g = 0; g < GROUP_MAX; g++) {
		fprintf(out, "\n%s\n", groups[g]);
		for (size_t i = 0; i < n_verbs; i++)
			if ((int)verbs[i].group == g)
				fprintf(out, "  %-14s %s\n", verbs[i].name, verbs[i].doc);
	}
	fprintf(out,
		"\nOptions of all verbs: --json, -q, --socket PATH, --help (stayctl VERB --help).\n");
}

int usage(const struct ctl *c, const char *format, ...)
{
	va_list ap;
	va_start(ap, format);
	fprintf(stderr, "error: ");
	vfprintf(stderr, format, ap);
	va_end(ap);
	fprintf(stderr, "\n  hint: stayctl %s%s--help\n", c->verb ? c->verb->name : "",
		c->verb ? " " : "");
	return STAY_EXIT_USAGE;
}

/* ---- options ---------------------------------------------------------------------------------------------- */

enum {
	OPT_SOCKET = 256,
	OPT_JSON,
	OPT_SINCE,
	OPT_NO_WAIT,
	OPT_TIMEOUT,
	OPT_FOR,
	OPT_NOW,
	OPT_RUNTIME,
	OPT_WHO,
	OPT_TRY,
	OPT_OR_RESTART,
	OPT_PAUSE_AFTER,
	OPT_TO,
	OPT_STAY,
	OPT_DETAILED,
	OPT_CODE,
	OPT_STATE,
	OPT_VERIFY,
	OPT_FILE,
	OPT_HEAD,
};

static const struct option long_options[] = {
	{"help",              no_argument,       NULL, 'h'            },
	{"quiet",             no_argument,       NULL, 'q'            },
	{"json",              no_argument,       NULL, OPT_JSON       },
	{"socket",            required_argument, NULL, OPT_SOCKET     },
	{"follow",            no_argument,       NULL, 'f'            },
	{"lines",             required_argument, NULL, 'n'            },
	{"property",          required_argument, NULL, 'p'            },
	{"signal",            required_argument, NULL, 's'            },
	{"since",             required_argument, NULL, OPT_SINCE      },
	{"no-wait",           no_argument,       NULL, OPT_NO_WAIT    },
	{"timeout",           required_argument, NULL, OPT_TIMEOUT    },
	{"for",               required_argument, NULL, OPT_FOR        },
	{"now",               no_argument,       NULL, OPT_NOW        },
	{"runtime",           no_argument,       NULL, OPT_RUNTIME    },
	{"who",               required_argument, NULL, OPT_WHO        },
	{"try",               no_argument,       NULL, OPT_TRY        },
	{"or-restart",        no_argument,       NULL, OPT_OR_RESTART },
	{"pause-after",       required_argument, NULL, OPT_PAUSE_AFTER},
	{"to",		required_argument, NULL, OPT_TO         },
	{"stay",              no_argument,       NULL, OPT_STAY       },
	{"detailed-exitcode", no_argument,       NULL, OPT_DETAILED   },
	{"code",              required_argument, NULL, OPT_CODE       },
	{"state",             required_argument, NULL, OPT_STATE      },
	{"verify",            no_argument,       NULL, OPT_VERIFY     },
	{"file",              required_argument, NULL, OPT_FILE       },
	{"head",              required_argument, NULL, OPT_HEAD       },
	{NULL,		0,                 NULL, 0              },
};
static const char short_options[] = "hqfn:p:s:";

int parse_span(const char *s, uint64_t *ret_us)
{
	static const struct {
		const char *name;
		uint64_t us;
	} units[] = {
		{"",    USEC_PER_SEC        },
		{"ms",  USEC_PER_MSEC       },
		{"s",   USEC_PER_SEC        },
		{"sec", USEC_PER_SEC        },
		{"m",   60 * USEC_PER_SEC   },
		{"min", 60 * USEC_PER_SEC   },
		{"h",   3600 * USEC_PER_SEC },
		{"d",   86400 * USEC_PER_SEC},
	};
	char *end;
	errno = 0;
	double v = strtod(s, &end);
	if (end == s || errno || !(v >= 0) || v > 1e9)
		return -EINVAL;
	for (size_t i = 0; i < ARRAY_SIZE(units); i++)
		if (streq(end, units[i].name)) {
			*ret_us = (uint64_t)(v * (double)units[i].us);
			return 0;
		}
	return -EINVAL;
}

static int parse_count(const char *s, long *ret)
{
	char *end;
	errno = 0;
	long v = strtol(s, &end, 10);
	if (end == s || *end || errno || v < 0)
		return -EINVAL;
	*ret = v;
	return 0;
}

/* --since is an instant (RFC 3339) or how long ago. */
static int parse_since(const char *s, uint64_t *ret_us)
{
	uint64_t ago;
	int64_t at = parse_rfc3339(s);
	if (at >= 0) {
		*ret_us = (uint64_t)at;
		return 0;
	}
	int r = parse_span(s, &ago);
	if (r == 0)
		*ret_us = now_wall_us() - MIN(ago, now_wall_us());
	return r;
}

static int property_add(struct ctl *c, const char *name)
{
	if (c->n_properties >= PROPERTIES_MAX)
		return -E2BIG;
	c->properties[c->n_properties++] = name;
	return 0;
}

/* 0, or -EINVAL for a bad argument. */
static int option_set(struct ctl *c, int opt, const char *arg)
{
	switch (opt) {
	case 'q':
		c->quiet = true;
		return 0;
	case 'f':
		c->follow = true;
		return 0;
	case 'n':
		return parse_count(arg, &c->lines);
	case 'p':
		return property_add(c, arg);
	case 's':
		c->signal = arg;
		return 0;
	case OPT_JSON:
		c->json = true;
		return 0;
	case OPT_SOCKET:
		c->socket = arg;
		return 0;
	case OPT_SINCE:
		return parse_since(arg, &c->since_us);
	case OPT_NO_WAIT:
		c->no_wait = true;
		return 0;
	case OPT_TIMEOUT:
		return parse_span(arg, &c->timeout_us);
	case OPT_FOR:
		c->wait_for = arg;
		return 0;
	case OPT_NOW:
		c->now = true;
		return 0;
	case OPT_RUNTIME:
		c->runtime = true;
		return 0;
	case OPT_WHO:
		c->who = arg;
		return 0;
	case OPT_TRY:
		c->try_restart = true;
		return 0;
	case OPT_OR_RESTART:
		c->or_restart = true;
		return 0;
	case OPT_PAUSE_AFTER:
		return parse_count(arg, &c->pause_after);
	case OPT_TO:
		return parse_count(arg, &c->to_revision);
	case OPT_STAY:
		c->stay = true;
		return 0;
	case OPT_DETAILED:
		c->detailed_exitcode = true;
		return 0;
	case OPT_CODE:
		return parse_count(arg, &c->code);
	case OPT_VERIFY:
		c->verify = true;
		return 0;
	case OPT_FILE:
		c->file = arg;
		return 0;
	case OPT_HEAD:
		c->head = arg;
		return 0;
	case OPT_STATE:
		c->state = arg;
		return 0;
	default:
		return -EINVAL;
	}
}

static const struct option *option_of(int opt)
{
	for (const struct option *o = long_options; o->name; o++)
		if (o->val == opt)
			return o;
	return NULL;
}

static bool grammar_has(const struct verb *v, int opt)
{
	char text[40];
	const struct option *o = option_of(opt);
	if (opt == 'h' || opt == 'q' || opt == OPT_JSON || opt == OPT_SOCKET)
		return true;
	if (opt < 256) {
		snprintf(text, sizeof(text), "-%c", opt);
		const char *at = strstr(v->grammar, text);
		return at && strchr(" ]", at[2]);
	}
	snprintf(text, sizeof(text), "--%s", o->name);
	return strstr(v->grammar, text) != NULL;
}

static const char *option_nearest(const char *typed)
{
	const char *best = NULL;
	unsigned distance = USAGE_DISTANCE + 1;
	for (const struct option *o = long_options; o->name; o++) {
		unsigned d = str_distance(typed, o->name, USAGE_DISTANCE);
		if (d < distance) {
			distance = d;
			best = o->name;
		}
	}
	return best;
}

static int option_unknown(const struct ctl *c, const char *word)
{
	char name[64];
	str_copy(name, word + strspn(word, "-"), sizeof(name));
	name[strcspn(name, "=")] = '\0';
	const char *near = startswith(word, "--") ? option_nearest(name) : NULL;
	if (near)
		return usage(c, "no option %s; did you mean --%s?", word, near);
	return usage(c, "no option %s, or its argument is missing", word);
}

/* -1: go on; else the exit code. *ret_rest: index of the first operand. */
static int options_read(struct ctl *c, int argc, char **argv, const char *shorts, int *ret_rest)
{
	int opt;
	optind = 0; /* glibc: start over */
	opterr = 0;
	while ((opt = getopt_long(argc, argv, shorts, long_options, NULL)) != -1) {
		const char *word = argv[MAX(optind - 1, 0)];
		if (opt == '?')
			return option_unknown(c, word);
		if (opt == 'h') {
			print_help(c->verb, stdout);
			return STAY_EXIT_OK;
		}
		if (c->verb && !grammar_has(c->verb, opt))
			return usage(c, "%s takes no %s%s", c->verb->name, opt < 256 ? "-" : "--",
				opt < 256 ? (char[]){(char)opt, '\0'} : option_of(opt)->name);
		if (option_set(c, opt, optarg) < 0)
			return usage(c, "bad argument '%s' of --%s", strna(optarg),
				option_of(opt)->name);
	}
	*ret_rest = optind;
	return -1;
}

static int verb_unknown(struct ctl *c, const char *name)
{
	const char *near = verb_nearest(name);
	if (near)
		fprintf(stderr, "error: no verb '%s'\n  hint: did you mean '%s'?\n", name, near);
	else
		return usage(c, "no verb '%s'", name);
	return STAY_EXIT_USAGE;
}

int ctl_main(int argc, char **argv)
{
	struct ctl c = {.timeout_us = USEC_INFINITY,
		.lines = -1,
		.pause_after = -1,
		.to_revision = -1,
		.code = -1};
	char shorts[sizeof(short_options) + 1];
	int rest, r;
	snprintf(shorts, sizeof(shorts), "+%s", short_options); /* stop at the verb */
	r = options_read(&c, argc, argv, shorts, &rest);
	if (r >= 0)
		return r;
	if (rest >= argc) {
		print_help(NULL, stderr);
		return STAY_EXIT_USAGE;
	}
	argc -= rest;
	argv += rest;
	if (streq(argv[0], "help")) {
		print_help(argc > 1 ? verb_find(argv[1]) : NULL, stdout);
		return STAY_EXIT_OK;
	}
	c.verb = verb_find(argv[0]);
	c.argc = argc - 1;
	c.argv = argv + 1;
	if (streq(argv[0], "__complete"))
		return do_complete_words(&c);
	if (!c.verb)
		return verb_unknown(&c, argv[0]);
	if (c.verb->group == GROUP_FILES) /* their options are their own */
		return c.verb->run(&c);
	/* JSON cannot say it; left out, "reset-failed X" would be about everything. */
	for (int i = 1; i < argc; i++)
		if (!utf8_is_valid(argv[i], strlen(argv[i])))
			return usage(&c, "argument %d of %s is not UTF-8", i, c.verb->name);
	r = options_read(&c, argc, argv, short_options, &rest);
	if (r >= 0)
		return r;
	c.argc = argc - rest;
	c.argv = argv + rest;
	return c.verb->run(&c);
}
