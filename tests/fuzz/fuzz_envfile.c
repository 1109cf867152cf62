/* SPDX-License-Identifier: Apache-2.0 */
/* EnvironmentFile=: what was understood is a list of good, distinct names, and written again with
 * every value quoted is understood the same way.
 * Options: -max_len=2048 */
#include "fuzz.h"
#include "launch/parts.h"

static int parse(const char *text, size_t size, struct strv *env)
{
	char *exact = exact_copy(text, size);
	struct err e = {0};
	int r = env_parse_file("fuzz", exact, size, env, &e);
	assert(r == 0 || (r < 0 && e.code == r && is_printable(e.text)));
	free(exact);
	return r;
}

static void print(const struct strv *env, struct buf *b)
{
	for (size_t i = 0; i < env->n; i++) {
		const char *value = strchr(env->v[i], '=') + 1;
		buf_add(b, env->v[i], (size_t)(value - env->v[i]));
		buf_add_byte(b, '"');
		for (; *value; value++) {
			if (strchr("\"\\`$", *value))
				buf_add_byte(b, '\\');
			buf_add_byte(b, *value);
		}
		buf_add_str(b, "\"\n");
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct strv env = {0}, again = {0};
	struct buf b = {0};
	if (parse((const char *)data, size, &env) == 0) {
		for (size_t i = 0; i < env.n; i++) {
			const char *equal = strchr(env.v[i], '=');
			assert(equal && env_name_is_valid(env.v[i], (size_t)(equal - env.v[i])));
			assert(utf8_is_valid(env.v[i], strlen(env.v[i])));
			const char *v = env_get(&env, env.v[i], (size_t)(equal - env.v[i]));
			assert(v == equal + 1); /* each name once */
		}
		print(&env, &b);
		assert(parse(strna(b.data), b.size, &again) == 0 && again.n == env.n);
		for (size_t i = 0; i < env.n; i++)
			assert(streq(env.v[i], again.v[i]));
	}
	buf_done(&b);
	strv_done(&env);
	strv_done(&again);
	return 0;
}
