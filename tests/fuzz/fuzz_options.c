/* SPDX-License-Identifier: Apache-2.0 */
/* The command line of stayd: checked whole before anything is started. Arguments are separated by
 * zero bytes. What is accepted core understands: each option is known and has its value, and the rest
 * are operands.
 * Options: -max_len=512 */
#define main stayd_main
int stayd_main(int argc, char **argv);
#include "main.c"
#undef main
#include "fuzz.h"

#define ARGS_MAX 24

static FILE *nowhere;

static void check_accepted(int argc, char **argv)
{
	for (int i = 1; i < argc; i++) {
		const char *value = NULL;
		if (argv[i][0] != '-')
			continue;
		int o = startswith(argv[i], "--") ? option_find(argv[i], &value) : -1;
		assert(o >= 0 && o < OPTION_MAX && o != OPTION_HELP && o != OPTION_VERSION);
		if (options[o].argument && !value)
			assert(++i < argc);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = in_begin(data, size);
	char *argv[ARGS_MAX + 1] = {xstrdup("stayd")};
	int argc = 1;
	if (!nowhere)
		nowhere = fopen("/dev/null", "w");
	while (in_left(&in) && argc < ARGS_MAX)
		argv[argc++] = in_str(&in);
	FILE *out = stdout, *err = stderr;
	stdout = stderr = nowhere;
	int r = check_options(argc, argv);
	stdout = out;
	stderr = err;
	assert(r >= -1 && r <= 255);
	if (r == -1)
		check_accepted(argc, argv);
	for (int i = 0; i < argc; i++)
		free(argv[i]);
	return 0;
}
