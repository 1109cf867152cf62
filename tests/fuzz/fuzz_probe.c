/* SPDX-License-Identifier: Apache-2.0 */
/* Probe targets (from unit files) and first lines of bodies (from services). */
#include "net/net.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct probe_target t;
	struct err e = {0};
	char line[PROBE_BODY_TEXT_MAX + 1];
	char *text = xstrndup((const char *)data, size);
	int r = probe_target_parse(text, &t, &e);
	assert(r == 0 ? t.url[0] != '\0' : e.text[0] != '\0');
	if (r == 0) {
		assert(startswith(t.url, "http://") || startswith(t.url, "https://"));
		assert(!strpbrk(t.url, " \t\r\n"));
	}
	free(text);
	char *body = xmalloc(size + 1);
	memcpy(body, data, size);
	probe_body_line(line, body, size);
	assert(strlen(line) <= PROBE_BODY_TEXT_MAX && !strpbrk(line, "\r\n\033\""));
	free(body);
	return 0;
}
