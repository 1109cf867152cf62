/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The face of keeper/: PID 1, or a subreaper. See include/stayd/wire.h for what it may be asked.
 */
#pragma once

/* The daemon: starts ROLE_CORE and ROLE_LAUNCHER from self (an fd of our own executable) with the
 * given arguments, and never returns before everything is stopped.
 *
 * Self is whatever program runs keeper_main(): it is executed again as
 *   PROGRAM --role=core|launcher|logger [ORIGINAL ARGUMENTS]   a role
 *   PROGRAM --role=trial                                       is this a stayd? KEEPER_TRIAL_OK
 *   PROGRAM --keeper-state=FD [ORIGINAL ARGUMENTS]             keeper itself, after KP_REEXEC
 * so a test that links keeper.a and answers these is a whole daemon with a core of its own. */
int keeper_main(int argc, char **argv);

/* Exit status of `--role=trial`: anything else is not a program keeper would become. */
#define KEEPER_TRIAL_OK 88

/* Arguments passed on to the roles; main() refuses more. */
#define KEEPER_ARGS_MAX 1024

/* Init mode: `stayd -- CMD [ARG...]`, like tini. Exit code of CMD, or 128 + signal. */
int init_main(char **cmd);
