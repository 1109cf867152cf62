/* SPDX-License-Identifier: Apache-2.0 */
/* Condition*= and Assert*=. */
#pragma once

#include "launch/launch.h"

/* text says which one failed. is_assert: it is one of Assert*=. */
void condition_check(const struct launch_caps *caps, const struct unit_conf *conf, bool *ret_ok,
	struct buf *ret_text, bool *ret_is_assert);
