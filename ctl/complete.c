/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Completion: three small scripts that ask `stayctl __complete WORD...` for the words; so what can
 * be typed is known in one place, and units are the daemon's at that moment.
 */
#include "ctl.h"

#define COMPLETE_US (100 * USEC_PER_MSEC) /* a key was pressed: better none than late */

static const char bash[] =
	"# bash completion for stayctl\n"
	"_stayctl() {\n"
	"\tlocal IFS=$'\\n'\n"
	"\tCOMPREPLY=($(stayctl __complete \"${COMP_WORDS[@]:1:COMP_CWORD}\" 2>/dev/null))\n"
	"}\n"
	"complete -o default -F _stayctl stayctl\n";

static const char zsh[] =
	"#compdef stayctl\n"
	"_stayctl() {\n"
	"\tlocal -a found\n"
	"\tfound=(${(f)\"$(stayctl __complete \"${words[@]:1:$((CURRENT-1))}\" 2>/dev/null)\"})\n"
	"\t(( $#found )) && compadd -- $found || _files\n"
	"}\n"
	"if [ \"$funcstack[1]\" = _stayctl ]; then _stayctl \"$@\"; else compdef _stayctl stayctl; fi\n";

static const char fish[] =
	"# fish completion for stayctl\n"
	"complete -c stayctl -f -a '(stayctl __complete (commandline -opc)[2..-1] "
	"(commandline -ct) 2>/dev/null)'\n";

static const struct {
	const char *shell, *script;
} scripts[] = {
	{"bash", bash},
	{"zsh",  zsh },
	{"fish", fish},
};

int do_COMPLETION(struct ctl *c)
{
	for (size_t i = 0; c->argc == 1 && i < ARRAY_SIZE(scripts); i++)
		if (streq(scripts[i].shell, c->argv[0])) {
			fputs(scripts[i].script, stdout);
			return 0;
		}
	return usage(c, "completion takes bash, zsh or fish");
}

static void offer(const char *word, size_t size, const char *typed)
{
	if (size >= strlen(typed) && strncmp(word, typed, strlen(typed)) == 0)
		printf("%.*s\n", (int)size, word);
}

/* The options of a verb, and the words of "a|b|c", as its grammar has them. */
static bool offer_grammar(const struct verb *v, const char *typed, bool is_first)
{
	bool takes_unit = strstr(v->grammar, "UNIT") != NULL;
	for (const char *p = v->grammar; *p;) {
		size_t n = strspn(p, "abcdefghijklmnopqrstuvwxyz-");
		if (n > 1 && p[0] == '-' && p[1] == '-' && typed[0] == '-')
			offer(p, n, typed);
		else if (n && p[0] != '-' && is_first &&
			 (p[n] == '|' || (p > v->grammar && p[-1] == '|')) &&
			 !strchr("[", v->grammar[0]))
			offer(p, n, typed);
		p += n ? n : 1;
	}
	return takes_unit;
}

static void offer_units(struct ctl *c, const char *typed)
{
	struct client cl;
	struct reply rep = {0};
	size_t i;
	json_t *name;
	char *path = socket_path(c->socket);
	if (client_open(&cl, path) == 0) {
		cl.deadline_us = now_mono_us() + COMPLETE_US;
		if (client_call(&cl, "Names", json_pack("{s:s}", "prefix", typed), false) == 0 &&
			client_reply(&cl, &rep) == 0)
			json_array_foreach(json_object_get(rep.params, "names"), i, name)
				print_line(stdout, "", json_string_value(name),
					json_string_length(name));
		reply_done(&rep);
	}
	client_close(&cl);
	free(path);
}

/* argv: the words typed so far; the last one is being typed and may be empty. */
int do_complete_words(struct ctl *c)
{
	const char *typed = c->argc ? c->argv[c->argc - 1] : "";
	const struct verb *v = NULL;
	int at = 0;
	for (; at < c->argc - 1 && !v; at++)
		v = verb_find(c->argv[at]);
	if (!v) {
		for (size_t i = 0; i < n_verbs; i++)
			offer(verbs[i].name, strlen(verbs[i].name), typed);
		return 0;
	}
	bool is_first = at == c->argc - 1;
	if (offer_grammar(v, typed, is_first) && typed[0] != '-' &&
		!(is_first && streq(v->name, "rollout")))
		offer_units(c, typed);
	return 0;
}
