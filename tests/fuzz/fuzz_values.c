/* SPDX-License-Identifier: Apache-2.0 */
/* Any text as a value: the parsers end, agree with themselves and leave outputs alone on error. */
#include "unit/units.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_words(const char *s)
{
	const char *pos = s;
	char *word;
	struct err e;
	for (size_t n = 0; split_word(&pos, &word, n % 2, &e) > 0; n++) {
		assert(strlen(word) <= 4 * strlen(s) && pos <= s + strlen(s));
		free(word);
	}
}

static void check_names(const char *s)
{
	CLEANUP_FREE char *escaped = unit_escape(s, false), *back = unit_unescape(escaped);
	assert(streq(back, s));
	CLEANUP_FREE char *path = unit_escape(s, true), *complete = unit_name_complete(s);
	CLEANUP_FREE char *template = unit_name_template(s), *instance = unit_name_instance(s);
	if (template && instance) {
		CLEANUP_FREE char *again = unit_name_with_instance(template, instance);
		assert(streq(again, s));
	}
	if (unit_name_is_valid(s))
		assert(!strchr(s, '/') && unit_name_type(s) < UNIT_TYPE_MAX);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *s = xstrndup((const char *)data, size);
	struct err e;
	struct amount a;
	uint64_t v = 42;
	if (parse_timespan(s, USEC_PER_SEC, &v, &e) < 0)
		assert(v == 42);
	v = 42;
	if (parse_size(s, 1024, &v, &e) < 0)
		assert(v == 42);
	int signo = parse_signal(s);
	assert(signo < 0 || (signo > 0 && signo <= 64 && parse_signal(signal_name(signo)) == signo));
	if (parse_amount(s, &a, &e) == 0)
		assert(amount_of(&a, 100, true) >= amount_of(&a, 100, false));
	(void)parse_boolean(s);
	check_words(s);
	check_names(s);
	free(s);
	return 0;
}
