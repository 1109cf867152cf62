/* SPDX-License-Identifier: Apache-2.0 */
/* stayctl. Everything is in the other files, so that tests can link them. */
#include <signal.h>

#include "ctl.h"

int main(int argc, char **argv)
{
	signal(SIGPIPE, SIG_DFL); /* stayctl logs | head */
	return ctl_main(argc, argv);
}
