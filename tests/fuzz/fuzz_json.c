/* SPDX-License-Identifier: Apache-2.0 */
/* A bounded JSON document: what is taken nests no deeper than allowed, and printed and read again is
 * the same; what is refused says why in printable words. First byte: the depth.
 * Options: -max_len=1024 */
#include "fuzz.h"

#include <jansson.h>

static unsigned depth_of(const json_t *j)
{
	unsigned deepest = 0;
	const char *key;
	json_t *v;
	size_t i;
	if (json_is_object(j))
		json_object_foreach((json_t *)(uintptr_t)j, key, v) deepest =
			MAX(deepest, depth_of(v));
	else if (json_is_array(j))
		json_array_foreach(j, i, v) deepest = MAX(deepest, depth_of(v));
	else
		return 0;
	return deepest + 1;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = in_begin(data, size);
	unsigned max = in_u8(&in) % 20;
	size_t n = in_left(&in);
	char *exact = exact_copy(in.p, n);
	struct err e = {0};
	json_t *j = NULL, *again = NULL;
	int r = json_parse_bounded(exact, n, max, &j, &e);
	assert(r == 0 ? j != NULL : !j && e.text[0]);
	if (r == 0) {
		assert(depth_of(j) <= max);
		char *text = json_dumps(j, JSON_COMPACT | JSON_ENCODE_ANY);
		assert(text && json_parse_bounded(text, strlen(text), max, &again, &e) == 0);
		assert(json_equal(j, again));
		free(text);
	}
	json_decref(j);
	json_decref(again);
	free(exact);
	return 0;
}
