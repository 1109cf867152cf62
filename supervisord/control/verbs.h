/* SPDX-License-Identifier: Apache-2.0 */
/* What server.c calls: the handlers, and who may. */
#pragma once

#include "control/call.h"

/* The handlers, one a method. */
#define METHOD(id, name, role, is_change, in, out, doc) verb_fn verb_##id;
#include "stayd/verbs.def"

/* rights.c: may the peer make this call, on all that it names? -EACCES with is_denied, e and hint. */
int verbs_allowed(struct call *c);
