/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The face of keeper/: PID 1, or a subreaper. See include/stayd/wire.h for what it may be asked.
 *
 * Keeper runs whatever program calls keeper_main() again, from a descriptor, as
 *   PROGRAM --role=core|launcher|logger [ORIGINAL ARGUMENTS]   a role
 *   PROGRAM --role=trial STATE_VERSION                         see below; for core, by the launcher
 *   PROGRAM --keeper-state=FD [ORIGINAL ARGUMENTS]             keeper itself, after KP_REEXEC
 * so a test that links keeper.a and answers these is a whole daemon with a core of its own.
 */
#pragma once

/* The daemon: starts ROLE_CORE and ROLE_LAUNCHER and never returns before everything is stopped.
 * ret_how: what core said of a host, see KP_EXIT. */
int keeper_main(int argc, char **argv, int *ret_how);

/* `--role=trial` ends with this when the program can take over a state of that version: anything
 * else is not a program keeper should become. */
#define KEEPER_TRIAL_OK 88

/* Arguments passed on to the roles; main() refuses more. */
#define KEEPER_ARGS_MAX 1024
