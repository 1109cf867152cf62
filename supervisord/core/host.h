/* SPDX-License-Identifier: Apache-2.0 */
/* What the first process of a machine finds missing. */
#pragma once

#include "base/base.h"

/* Mounts /proc, /sys, /dev, /run and cgroups. */
void host_mounts(void);
