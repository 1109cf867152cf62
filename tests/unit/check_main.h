/* SPDX-License-Identifier: Apache-2.0 */
/* Each tests/unit/test_X.c defines suite(); names of tests are sentences. */
#pragma once

#include <check.h>

Suite *suite(void);
