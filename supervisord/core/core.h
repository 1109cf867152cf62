/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The face of core/: the process that decides. It turns what keeper, launcher, logger, stay-net,
 * services and people say into events for the model, and performs the model's effects.
 */
#pragma once

/* The core process: link to keeper at ROLE_KEEPER_FD. argv is the daemon's own argument vector. */
int core_main(int argc, char **argv);
