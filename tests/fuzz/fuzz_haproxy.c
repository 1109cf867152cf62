/* SPDX-License-Identifier: Apache-2.0 */
/* What a load balancer may answer. First byte: how many changes the request made; the rest is the
 * answer. Whatever it is: no server is known without its counters, and a next request made from
 * what was read is one bounded line. */
#include "net/lb/lb.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_report(const struct lb_report *r)
{
	for (size_t i = 0; i < r->n_seen; i++) {
		const struct lb_seen *s = &r->seen[i];
		assert(memchr(s->server, '\0', sizeof(s->server)));
		assert(memchr(s->addr, '\0', sizeof(s->addr)));
		assert(s->full_weight >= 1 && s->full_weight <= 256 && s->raw_weight <= 256);
		assert(s->sample.state < LB_STATE_MAX && s->sample.check <= LB_CHECK_FAILED);
		assert(s->sample.check != LB_CHECK_OK || (s->sample.known && s->sample.is_up));
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct lb_row rows[] = {
		{.server = "web1",
                 .addr = "127.0.0.1",
                 .port = 80,
                 .state = LB_READY,
                 .weight = 100},
		{.server = "web2", .addr = "::1",                   .port = 81, .state = LB_DRAIN, .weight = 50},
		{.server = "web3",  .state = LB_MAINT},
	};
	const struct lb_driver *driver = lb_driver_by_name("haproxy");
	const struct lb_seen fresh = {.full_weight = 100, .sample.check = LB_CHECK_UNKNOWN};
	struct lb_change changes[ARRAY_SIZE(rows)];
	struct lb_report report = {0};
	struct buf request = {0};
	struct err e = {0};
	if (!size)
		return 0;
	size_t n = data[0] % (ARRAY_SIZE(rows) + 1);
	for (size_t i = 0; i < n; i++)
		changes[i] = (struct lb_change){.want = &rows[i], .seen = &fresh};
	n = driver->write_request("web", changes, n, &request);
	/* A copy of exactly this size: a read beyond it is caught. */
	char *answer = xmalloc(size);
	memcpy(answer, data + 1, size - 1);
	int r = driver->read_answer("web", changes, n, answer, size - 1, &report, &e);
	assert(r == 0 || e.text[0]);
	check_report(&report);
	for (size_t i = 0; i < report.n_seen && i < ARRAY_SIZE(rows); i++) {
		changes[i] = (struct lb_change){.want = &rows[i], .seen = &report.seen[i]};
		(void)lb_row_is_met(&rows[i], &report.seen[i]);
	}
	buf_reset(&request);
	(void)driver->write_request("web", changes, MIN(report.n_seen, ARRAY_SIZE(rows)), &request);
	assert(request.size <= LB_REQUEST_MAX);
	assert(memchr(request.data, '\n', request.size) == request.data + request.size - 1);
	free(answer);
	buf_done(&request);
	lb_report_done(&report);
	return 0;
}
