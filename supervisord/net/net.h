/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The face of net/: health probes and load balancers, in a process of their own (stay-net).
 *
 * stay-net talks to core by struct nt_frame (include/stayd/wire.h) only, so nothing outside this
 * folder includes this file; it is where the modules of the program meet:
 *
 *   main.c       start, the loop, frames of core -> the modules below
 *   link.c       the SEQPACKET link: checked frames in, a queue out
 *   confine.c    gives up uid, capabilities, files and system calls
 *   probe.c      table of running probes, targets, texts      http.c   libcurl in our loop
 *   reconcile.c  desired table of each load balancer, rounds, reports
 *   exchange.c   one request and one answer over one connection, with a deadline
 *   lb/          what differs between load balancers (lb/lb.h, drivers.def)
 */
#pragma once

#include "base/base.h"
#include "stayd/wire.h"

/* Probes under way at once; a further one is answered "too many probes". */
#define PROBES_MAX 2048
/* Of these, probes whose target has to be resolved: each costs a resolver thread in libcurl. */
#define PROBES_BY_NAME_MAX 64
/* Headers and body together; a body is decided by its status line when it is longer. */
#define PROBE_ANSWER_MAX     (64 * 1024)
#define PROBE_TIMEOUT_US     (1 * USEC_PER_SEC) /* when core names none */
#define PROBE_TIMEOUT_MAX_US (600 * USEC_PER_SEC)
#define PROBE_BODY_TEXT_MAX  120

/* Load balancers, and rows of one; further ones are refused with a log line and a status. */
#define NET_LBS_MAX  256
#define NET_ROWS_MAX 512
/* One request must fit HAProxy's default buffer (16 KiB) with room to spare. */
#define LB_REQUEST_MAX    (8 * 1024)
#define LB_ANSWER_MAX     (1024 * 1024)
#define LB_EXCHANGE_US    (1 * USEC_PER_SEC) /* connect, write, answer: together */
#define LB_STEADY_US      (1 * USEC_PER_SEC)
#define LB_FAST_US        (50 * USEC_PER_MSEC)
#define LB_SETTLE_US      (1 * USEC_PER_SEC)    /* sampled fast for this long after a change */
#define LB_BACKOFF_US     (100 * USEC_PER_MSEC) /* after a failed exchange; doubles up to ... */
#define LB_BACKOFF_MAX_US (1 * USEC_PER_SEC)

/* Frames waiting for core. At LINK_BUSY nothing more is read from core and samples wait. */
#define LINK_BUSY 256

/* ---- link ------------------------------------------------------------------------------- */

struct link;
typedef void link_frame_fn(struct link *l, const struct nt_frame *f, int fd); /* owns fd */

struct link {
	struct loop *loop;
	struct source source;
	link_frame_fn *on_frame;
	struct link_item *head, *tail;
	size_t n_queued;
};

int link_init(struct link *l, struct loop *loop, int fd, link_frame_fn *fn);
void link_done(struct link *l);
/* Queues when core is slow to read; never fails (a broken link ends the loop). */
void link_send(struct link *l, struct nt_frame *f);
bool link_is_busy(const struct link *l);
/* 0, or why this is not a frame a core of our build may send. */
int frame_check(const void *data, size_t size);

/* ---- probes ----------------------------------------------------------------------------- */

struct probe_target {
	bool is_http;   /* else: a connection accepted is success */
	bool by_name;   /* the host is no address: somebody has to resolve it */
	char url[512];  /* for libcurl; tcp:// and unix: become a URL it only connects to */
	char path[108]; /* unix: */
};
/* http:// https:// tcp://host:port unix:/path -> ret; -EINVAL with text. Pure. */
int probe_target_parse(const char *text, struct probe_target *ret, struct err *e);
/* First line of a body, printable, shortened, into out. Pure. */
void probe_body_line(char out[PROBE_BODY_TEXT_MAX + 1], const char *body, size_t size);

int probes_init(struct loop *loop, struct link *link);
void probes_reset(void);
void probe_start(uint64_t number, uint64_t timeout_us, const char *target);
uint64_t probes_next_us(void); /* when probes_on_time() has work; USEC_INFINITY: never */
void probes_on_time(uint64_t now_us);

/* What http.c tells probe.c about one finished transfer. */
struct http_result {
	bool is_ok; /* the transfer; with is_http also the status */
	long status;
	uint64_t latency_us;
	char text[512];
};
typedef void http_done_fn(void *context, const struct http_result *r);
struct http_request;

int http_init(struct loop *loop, http_done_fn *fn);
void http_done(void);
/* NULL with r->text when it could not even start. */
struct http_request *http_start(
	const struct probe_target *t, uint64_t timeout_us, void *context, struct http_result *r);
void http_cancel(struct http_request *q);
uint64_t http_next_us(void);
void http_on_time(uint64_t now_us);

/* ---- load balancers --------------------------------------------------------------------- */

void lbs_init(struct loop *loop, struct link *link);
void lbs_reset(void);
void lb_configure(uint16_t lb, const char *text); /* driver '\n' address '\n' backend */
void lb_remove(uint16_t lb);
void lb_want(const struct nt_frame *f);
void lb_forget(uint16_t lb, const char *server);
void lb_socket(uint16_t lb, uint64_t number, int error, int fd); /* owns fd */
void lb_fast(uint16_t lb, uint64_t for_ms);
uint64_t lbs_next_us(void);
void lbs_on_time(uint64_t now_us);

/* ---- exchange: one request, one answer, one connection ------------------------------------ */

struct exchange;
/* error 0: the answer is x->answer. Called once per start, never from within it. */
typedef void exchange_fn(struct exchange *x, int error, const char *text);

struct exchange {
	struct loop *loop;
	struct source source;
	exchange_fn *fn;
	int fd; /* owned; -1 when idle */
	uint64_t deadline_us;
	struct buf request, answer;
	size_t sent;
	bool is_active;
};

/* Takes fd (connected or connecting); x->request was filled before. deadline_us is x's. */
void exchange_start(struct exchange *x, struct loop *loop, int fd, exchange_fn *fn);
void exchange_cancel(struct exchange *x);
void exchange_done(struct exchange *x);
/* Non-blocking connect to "HOST:PORT" with a numeric HOST: a descriptor or -errno. */
int connect_numeric(const char *host_port);

/* ---- confinement ------------------------------------------------------------------------ */

/* Gives up root, capabilities, new privileges, files, most system calls. */
int net_confine(struct err *e);
