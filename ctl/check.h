/* SPDX-License-Identifier: Apache-2.0 */
/* stayctl check and stayctl explain: verbs that need no daemon. */
#pragma once

/* argv[0] is the verb. Results are exit codes: 0 clean or warnings only, 1 errors, 2 usage. */
int ctl_check(int argc, char **argv);
int ctl_explain(int argc, char **argv);
