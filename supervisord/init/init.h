/* SPDX-License-Identifier: Apache-2.0 */
/* The face of init/: a PID 1 for one command, without units. */
#pragma once

/* Init mode: `stayd -- CMD [ARG...]`, like tini. Exit code of CMD, or 128 + signal. */
int init_main(char **cmd);
