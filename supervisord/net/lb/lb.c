/* SPDX-License-Identifier: Apache-2.0 */
/* The table of drivers, and what all of them have in common. Pure. */
#include "net/lb/lb.h"

#include <arpa/inet.h>

#define LB_DRIVER(name, object, help) extern const struct lb_driver object;
#include "net/lb/drivers.def"
#undef LB_DRIVER

const struct lb_driver *lb_driver_by_name(const char *name)
{
	static const struct lb_driver *const drivers[] = {
#define LB_DRIVER(name, object, help) &object,
#include "net/lb/drivers.def"
#undef LB_DRIVER
	};
	for (size_t i = 0; i < ARRAY_SIZE(drivers); i++)
		if (streq(drivers[i]->name, name))
			return drivers[i];
	return NULL;
}

void lb_report_done(struct lb_report *r)
{
	free(r->seen);
	memset(r, 0, sizeof(*r));
}

uint32_t lb_weight_scaled(uint32_t percent, uint32_t full)
{
	return (uint32_t)(((uint64_t)MIN(percent, 100u) * full + 99) / 100);
}

bool lb_addr_equal(const char *a, const char *b)
{
	unsigned char x[16], y[16];
	for (size_t i = 0; i < 2; i++) {
		int family = i ? AF_INET6 : AF_INET;
		if (inet_pton(family, a, x) == 1)
			return inet_pton(family, b, y) == 1 && memcmp(x, y, i ? 16 : 4) == 0;
	}
	return streq(a, b);
}

bool lb_addr_is_numeric(const char *a)
{
	unsigned char x[16];
	return inet_pton(AF_INET, a, x) == 1 || inet_pton(AF_INET6, a, x) == 1;
}

bool lb_row_is_met(const struct lb_row *want, const struct lb_seen *seen)
{
	if (!seen->sample.known || seen->sample.state != want->state)
		return false;
	if (want->addr[0] && !lb_addr_equal(want->addr, seen->addr))
		return false;
	if (want->port && want->port != seen->port)
		return false;
	return !seen->full_weight ||
	       seen->raw_weight == lb_weight_scaled(want->weight, seen->full_weight);
}
