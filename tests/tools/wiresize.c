/* SPDX-License-Identifier: Apache-2.0 */
/* Prints the layout of internal frames, "struct.field offset size" a line, so that the tests that
 * speak them from Python (tests/e2e/wire.py) fail loudly when a struct changes. */
#include <stddef.h>
#include <stdio.h>

#include "stayd/wire.h"

#define STRUCT(s) printf("%s 0 %zu\n", #s, sizeof(struct s))
#define FIELD(s, f)                                                                                \
	printf("%s.%s %zu %zu\n", #s, #f, offsetof(struct s, f), sizeof(((struct s *)0)->f))

int main(void)
{
	printf("build 0 %u\n", WIRE_BUILD);
	STRUCT(lb_sample);
	FIELD(lb_sample, known);
	FIELD(lb_sample, in_sync);
	FIELD(lb_sample, state);
	FIELD(lb_sample, is_up);
	FIELD(lb_sample, check);
	FIELD(lb_sample, weight);
	FIELD(lb_sample, sessions);
	FIELD(lb_sample, total);
	FIELD(lb_sample, errors);
	FIELD(lb_sample, retries);
	FIELD(lb_sample, http_5xx);
	FIELD(lb_sample, serial);
	STRUCT(nt_frame);
	FIELD(nt_frame, build);
	FIELD(nt_frame, kind);
	FIELD(nt_frame, lb);
	FIELD(nt_frame, number);
	FIELD(nt_frame, timeout_us);
	FIELD(nt_frame, latency_us);
	FIELD(nt_frame, ok);
	FIELD(nt_frame, error);
	FIELD(nt_frame, reachable);
	FIELD(nt_frame, generation);
	FIELD(nt_frame, state);
	FIELD(nt_frame, weight);
	FIELD(nt_frame, port);
	FIELD(nt_frame, addr);
	FIELD(nt_frame, server);
	FIELD(nt_frame, sample);
	FIELD(nt_frame, text);
	return 0;
}
