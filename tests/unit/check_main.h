/* SPDX-License-Identifier: Apache-2.0 */
/* Each tests/unit/test_X.c defines suite(); names of tests are sentences. */
#pragma once

#include <check.h>
#include <stdio.h>
#include <unistd.h>

/* In a test: it ends here and counts as skipped (tests/run.py), not as passed. */
#define SKIP(reason)                                                                               \
	do {                                                                                       \
		printf("ok - %.*s # SKIP %s\n", (int)sizeof(__func__) - 4, __func__,               \
			reason); /* _fn */                                                         \
		fflush(stdout);                                                                    \
		return;                                                                            \
	} while (0)
#define NEED_ROOT()                                                                                \
	do {                                                                                       \
		if (geteuid() != 0)                                                                \
			SKIP("needs root");                                                        \
	} while (0)

Suite *suite(void);
