/* SPDX-License-Identifier: Apache-2.0 */
/* Runs each file named as argument through a fuzzer's function: the corpus as a regression test. */
#include "base/base.h"

#include <fcntl.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int main(int argc, char **argv)
{
	for (int i = 1; i < argc; i++) {
		struct buf b = {0};
		int r = read_file(AT_FDCWD, argv[i], 64 * 1024 * 1024, &b);
		if (r < 0) {
			printf("not ok - %s: %s\n", argv[i], errno_name(-r));
			return 1;
		}
		/* A copy of the exact size, so that a sanitizer sees a read past the end. */
		uint8_t *copy = xmalloc(b.size);
		if (b.size)
			memcpy(copy, b.data, b.size);
		(void)LLVMFuzzerTestOneInput(copy, b.size);
		free(copy);
		buf_done(&b);
	}
	if (argc < 2) {
		printf("not ok - no corpus\n");
		return 1;
	}
	printf("ok - %d inputs\n", argc - 1);
	return 0;
}
