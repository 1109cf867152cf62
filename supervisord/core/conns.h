/* SPDX-License-Identifier: Apache-2.0 */
/* What an instance still has to answer, by the kernel's word on its connections. */
#pragma once

#include "base/base.h"

unsigned conns_owing(uint16_t port); /* connections of it that owe an answer */
