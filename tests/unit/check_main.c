/* SPDX-License-Identifier: Apache-2.0 */
/* main() of every unit test program: runs suite() and prints TAP on standard output. */
#include "check_main.h"

#include <stdlib.h>
#include <sys/stat.h>

/* A test that hangs has to end, and no more: a loaded machine, and a sanitizer, take many times as long. */
static void be_patient(void)
{
#ifdef __SANITIZE_ADDRESS__
	(void)setenv("CK_TIMEOUT_MULTIPLIER", "6", 0);
#else
	(void)setenv("CK_TIMEOUT_MULTIPLIER", "2", 0);
#endif
	(void)setenv("CK_DEFAULT_TIMEOUT", "60", 0);
}

int main(void)
{
	be_patient();
	(void)umask(022); /* other users get into what a test makes, whoever's shell this is */
	SRunner *runner = srunner_create(suite());
	srunner_set_tap(runner, "-");
	srunner_run_all(runner, CK_SILENT);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
