/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The kernel's word on what an instance still has to answer: a second opinion on a drain.
 *
 * A load balancer that was reloaded counts the sessions of its new process only; requests that its
 * old process is still waiting for are to be seen nowhere but on the instance's own connections.
 *
 *  1. A connection owes an answer when bytes came in and none went out since (tcp_info). An idle one
 *     of a pool does not. In and out in the same clock tick says neither: it owes until a second old.
 *  2. The dump is the kernel's, synchronous, filtered by port; on any error the answer is 0, as
 *     without this file.
 *
 * Called by netlink.c.
 */
#include "core/conns.h"

#include <arpa/inet.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/sock_diag.h>
#include <linux/tcp.h>
#include <sys/socket.h>

#define STATE_ESTABLISHED 1
#define TIE_MS            1000
#define ROUNDS_MAX        4096 /* of recv(2), 32 KiB each */

static bool owes(const struct inet_diag_msg *m, size_t size)
{
	struct tcp_info info = {0};
	int left = (int)(size - NLMSG_ALIGN(sizeof(*m)));

	if (m->idiag_rqueue)
		return true; /* not even read yet */
	for (struct rtattr *a = (struct rtattr *)(void *)(m + 1); RTA_OK(a, left);
		a = RTA_NEXT(a, left))
		if (a->rta_type == INET_DIAG_INFO)
			memcpy(&info, RTA_DATA(a), MIN(sizeof(info), (size_t)RTA_PAYLOAD(a)));
	if (!info.tcpi_bytes_received || info.tcpi_last_data_sent < info.tcpi_last_data_recv)
		return false;
	return info.tcpi_last_data_sent > info.tcpi_last_data_recv ||
	       info.tcpi_last_data_recv < TIE_MS;
}

/* True: the dump is over. */
static bool count_in(const char *data, size_t size, uint16_t port, unsigned *count)
{
	int left = (int)size;

	for (const struct nlmsghdr *h = (const struct nlmsghdr *)(const void *)data;
		NLMSG_OK(h, (unsigned)left); h = NLMSG_NEXT(h, left)) {
		const struct inet_diag_msg *m = NLMSG_DATA(h);
		if (h->nlmsg_type == NLMSG_DONE || h->nlmsg_type == NLMSG_ERROR)
			return true;
		if (h->nlmsg_type != SOCK_DIAG_BY_FAMILY ||
			h->nlmsg_len < NLMSG_LENGTH(sizeof(*m)) || m->id.idiag_sport != htons(port))
			continue;
		*count += owes(m, h->nlmsg_len - NLMSG_LENGTH(0));
	}
	return false;
}

static void dump(int fd, uint8_t family, uint16_t port, unsigned *count)
{
	struct {
		struct nlmsghdr head;
		struct inet_diag_req_v2 req;
	} q = {
		.head = {.nlmsg_len = sizeof(q),
			 .nlmsg_type = SOCK_DIAG_BY_FAMILY,
			 .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP},
		.req = { .sdiag_family = family,
			 .sdiag_protocol = IPPROTO_TCP,
			 .idiag_ext = 1 << (INET_DIAG_INFO - 1),
			 .idiag_states = 1 << STATE_ESTABLISHED,
			 .id = {.idiag_sport = htons(port)}}
        };
	static char data[32 * 1024] __attribute__((aligned(NLMSG_ALIGNTO)));

	if (send(fd, &q, sizeof(q), 0) < 0)
		return;
	for (unsigned i = 0; i < ROUNDS_MAX; i++) {
		ssize_t n = recv(fd, data, sizeof(data), 0);
		if (n <= 0 || count_in(data, (size_t)n, port, count))
			return;
	}
}

/* Established connections of that local port that owe an answer. */
unsigned conns_owing(uint16_t port)
{
	struct timeval limit = {.tv_usec = 200 * 1000};
	CLEANUP_CLOSE int fd = socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);
	unsigned count = 0;

	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)) < 0)
		return 0;
	dump(fd, AF_INET, port, &count);
	dump(fd, AF_INET6, port, &count);
	return count;
}
