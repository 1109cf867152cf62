/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a load-balancer driver is: pure text in, pure text out.
 *
 * The reconciler (net/reconcile.c) owns the desired table, time, connections and reports. A driver
 * turns changes into one request, and one answer into what the load balancer says of its servers:
 * it makes no system call, so it is tested and fuzzed without a load balancer. A round is one
 * connection: request written, answer read to its end. Each request ends by asking for the state
 * of everything, so that a change is read back in the same round.
 *
 * To add one: a file here with its struct lb_driver, and a row in drivers.def.
 */
#pragma once

#include "net/net.h"

/* A row of the desired table. */
struct lb_row {
	char server[128];
	char addr[64];   /* numeric; "": leave it as it is */
	uint16_t port;   /* 0: leave it */
	uint32_t state;  /* enum lb_state */
	uint32_t weight; /* percent of full */
};

/* One server as the answer shows it. */
struct lb_seen {
	char server[128];
	char addr[64];
	uint16_t port;
	uint32_t full_weight; /* what 100 percent is; 0: this load balancer has no weights */
	uint32_t raw_weight;
	struct lb_sample sample; /* known, state, is_up, check, weight and the counters */
};

/* A change to make, and what the load balancer answered to it. */
struct lb_change {
	const struct lb_row *want;
	const struct lb_seen *seen; /* before the change */
	unsigned n_commands;        /* written for this change: as many answers follow */
	char trouble[160];          /* "" when the answers were good */
};

/* A whole answer. */
struct lb_report {
	char identity[64]; /* changes when the load balancer restarted */
	uint64_t uptime_s; /* falls when it restarted; 0: not told */
	bool is_stopping;  /* an old process answered: its word does not count */
	struct lb_seen *seen;
	size_t n_seen, cap_seen;
};

struct lb_driver {
	const char *name;
	/* May this name stand in a request? Names come from unit files: no ';' or newline may pass. */
	bool (*name_is_valid)(const char *name);
	/* Appends the request; applies the first changes that fit, in an order in which no server
	 * gets traffic it should not get. Returns how many those are. */
	size_t (*write_request)(
		const char *backend, struct lb_change *changes, size_t n, struct buf *out);
	/* The answer to exactly that request. -EBADMSG with text when it is not understood,
	 * -ENOENT when there is no such backend. */
	int (*read_answer)(const char *backend, struct lb_change *changes, size_t n,
		const char *data, size_t size, struct lb_report *ret, struct err *e);
};

const struct lb_driver *lb_driver_by_name(const char *name);
void lb_report_done(struct lb_report *r);
/* percent of full, rounded up: a ramp on a small weight must not become zero by rounding. */
uint32_t lb_weight_scaled(uint32_t percent, uint32_t full);
/* Does what was seen fulfil the row? */
bool lb_row_is_met(const struct lb_row *want, const struct lb_seen *seen);
bool lb_addr_equal(const char *a, const char *b);
bool lb_addr_is_numeric(const char *a);
