/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What /proc says of a process: its name and environment are the process's own word. The first line of
 * the input stands for every /proc/PID/stat, the rest for its environ.
 * Options: -max_len=1024
 */
#include "fuzz.h"

static int fuzz_read_file(int dirfd, const char *path, size_t max, struct buf *b);
#define read_file fuzz_read_file
#include "core/procfs.c"
#undef read_file

static struct input stat_text, environ_text;

static int fuzz_read_file(int dirfd, const char *path, size_t max, struct buf *b)
{
	const struct input *in = endswith(path, "/stat") ? &stat_text : &environ_text;
	(void)dirfd;
	if (in_left(in) > max)
		return -E2BIG;
	buf_add(b, in->p, in_left(in));
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char *const keys[] = {"INVOCATION_ID", "NOTIFY_SOCKET", "A", ""};
	const uint8_t *newline = size ? memchr(data, '\n', size) : NULL;
	size_t first = newline ? (size_t)(newline - data) : size;
	struct proc_stat s;
	struct buf env = {0};
	stat_text = in_begin(data, first);
	environ_text = in_begin(data + first + (newline != NULL), size - first - (newline != NULL));
	memset(&s, 0xee, sizeof(s));
	if (procfs_stat(7, &s) == 0)
		assert(memchr(s.name, '\0', sizeof(s.name)) && s.state);
	assert(procfs_environ(7, &env) == 0);
	for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
		const char *v = environ_get(&env, keys[i]);
		assert(!v || (v > env.data && v + strlen(v) <= env.data + env.size));
		assert(!v || v[-1] == '=');
	}
	buf_done(&env);
	return 0;
}
