/* SPDX-License-Identifier: Apache-2.0 */
/* Bounds in front of jansson: its own depth limit (2048) is a compile-time constant. */
#include "base.h"

#include <jansson.h>

static bool depth_is_bounded(const char *text, size_t size, unsigned depth_max)
{
	unsigned depth = 0;
	bool in_string = false;
	for (size_t i = 0; i < size; i++) {
		char c = text[i];
		if (in_string) {
			if (c == '\\')
				i++;
			else if (c == '"')
				in_string = false;
		} else if (c == '"') {
			in_string = true;
		} else if (c == '{' || c == '[') {
			if (++depth > depth_max)
				return false;
		} else if ((c == '}' || c == ']') && depth > 0) {
			depth--;
		}
	}
	return true;
}

int json_parse_bounded(
	const char *text, size_t size, unsigned depth_max, struct json_t **ret_json, struct err *e)
{
	json_error_t je;
	if (!depth_is_bounded(text, size, depth_max))
		return err_set(e, -EBADMSG, "JSON nested deeper than %u", depth_max);
	json_t *j = json_loadb(text, size, JSON_REJECT_DUPLICATES, &je);
	if (!j)
		return err_set(
			e, -EBADMSG, "JSON: %s at line %d, column %d", je.text, je.line, je.column);
	*ret_json = j;
	return 0;
}
