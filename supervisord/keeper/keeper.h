/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The face of keeper/: PID 1, or a subreaper. See include/stayd/wire.h for what it may be asked.
 */
#pragma once

/* The daemon: starts ROLE_CORE and ROLE_LAUNCHER from self (an fd of our own executable) with the
 * given arguments, and never returns before everything is stopped. */
int keeper_main(int argc, char **argv);

/* Init mode: `stayd -- CMD [ARG...]`, like tini. Exit code of CMD, or 128 + signal. */
int init_main(char **cmd);
