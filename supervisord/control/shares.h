/* SPDX-License-Identifier: Apache-2.0 */
/* What time core has for users who may not operate. */
#pragma once

#include "base/base.h"

struct shares; /* free() */
struct shares *shares_new(void);
void shares_charge(struct shares *s, uid_t uid, uint64_t us);
uint64_t shares_wait_until(struct shares *s, uid_t uid); /* CLOCK_MONOTONIC, us; 0: has time now */
