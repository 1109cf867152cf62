/* SPDX-License-Identifier: Apache-2.0 */
/* The face of net/: probes and load balancers, in a process of their own (stay-net). */
#pragma once
/* stay-net talks to core by struct nt_frame (include/stayd/wire.h) only; see net/main.c and, for
 * load-balancer drivers, net/lb/lb.h. */
