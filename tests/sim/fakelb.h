/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Load balancers for tests, and the process that talks to them: rows are pushed late, sessions end
 * when they like, samples come late, old ones come twice, and a load balancer may restart.
 *
 * Several hosts may share the load balancers (fakelb_share()): one truth, a reconciler and servers
 * for each host, every server written by the host that owns it.
 *
 * What can be promised of one that lies:
 *   LIE_OLD    late and doubled samples: everything, serials tell them apart
 *   LIE_TOTAL  counters reset: everything; the drain is counted anew
 *   LIE_STUCK  sessions that never end: the drain timeout and its policy
 *   LIE_STATE  a row read back that is not in force, and
 *   LIE_ZERO   no sessions where there are some: that no more members leave than may by what it says,
 *              and that all comes true when it stops lying. Requests are lost: nobody else can count them
 *              (core's own count of the instance's connections is a second opinion, not modelled here).
 */
#pragma once

#include "model/model.h"

#define FAKELB_SESSIONS_MAX 24

struct fakelb_row {
	bool is_wanted; /* the reconciler has a row */
	enum lb_state wanted;
	unsigned weight;
	uint64_t wanted_us;
};

struct fakelb_server {
	enum lb_state state;
	unsigned weight;
	uint64_t apply_us; /* the wanted row arrives; 0 = nothing on its way */
	enum lb_check check;
	uint64_t check_us;
	bool is_up;
	unsigned n_sessions;
	uint64_t ends_us[FAKELB_SESSIONS_MAX];
	unsigned writer;          /* host that changed it last, from 1; 0 = none */
	uint64_t sticky_until_us; /* a kept-alive client: seen only in every other sample */
	uint64_t total;
	struct lb_sample last;
};

/* A load balancer. Times are those of the host in whose samples they show; back_us is everybody's. */
struct fakelb_one {
	bool is_reachable;
	uint32_t generation;
	uint64_t back_us;
	struct fakelb_server server[SET_MEMBERS_MAX];
};

#define FAKELB_LATE_MAX 64
#define FAKELB_STRIDE   16 /* servers of each host that shares */

/* What one host has to do with one load balancer. */
struct fakelb_link {
	bool is_told;
	uint64_t serial, next_us;
	uint64_t hung_until_us; /* nothing is heard until then, and then everything at once */
	unsigned n_late;
	struct {
		unsigned k;
		struct lb_sample sample;
	} late[FAKELB_LATE_MAX]; /* the last ones; more are lost */
};

enum { LIE_OLD = 1, LIE_TOTAL = 2, LIE_STUCK = 4, LIE_STATE = 8, LIE_ZERO = 16 };

struct fakelb {
	struct set *set;
	unsigned n;
	uint64_t rng;
	uint64_t lag_us, session_us; /* the longest of each */
	unsigned load;               /* most sessions of a server at once */
	bool is_checking;            /* has checks of its own */
	bool is_lying;               /* sends old samples again */
	unsigned lies;               /* LIE_..., beside that */
	bool keeps_state;            /* over a restart */
	unsigned host, slot;         /* from 0; its first server of the shared ones */
	int64_t ahead_us;            /* this host's clock before everybody's */
	struct fakelb *next;         /* ring of those that share */
	uint64_t fast_us, slow_us, fast_until_us;
	uint32_t unknown_index;               /* a server it does not know; 0 = knows all */
	bool (*serves)(const struct unit *u); /* its process runs and answers */
	struct fakelb_row row[SET_MEMBERS_MAX];
	struct fakelb_link link[SET_LBS_MAX];
	struct fakelb_one *one; /* own, or another's */
	struct fakelb_one own[SET_LBS_MAX];
};

typedef void fakelb_deliver(void *arg, const struct event *ev);

struct fakelb *fakelb_new(
	struct set *s, unsigned n, uint64_t seed, bool (*serves)(const struct unit *));
/* f is another host of the same load balancers, with servers from slot on. */
void fakelb_share(struct fakelb *f, struct fakelb *with, unsigned host, unsigned slot);
void fakelb_effect(struct fakelb *f, const struct effect *fx, uint64_t now_us);
uint64_t fakelb_next(const struct fakelb *f);
/* Everything due until now_us; events go to deliver(). */
void fakelb_run(struct fakelb *f, uint64_t now_us, fakelb_deliver *deliver, void *arg);
/* The core was killed: the reconciler forgets its rows, the load balancers keep theirs. */
void fakelb_core_restarted(struct fakelb *f, struct set *s);
void fakelb_restart(
	struct fakelb *f, unsigned lb); /* loses its state: all ready, as its file says */
void fakelb_cut(struct fakelb *f, unsigned lb, uint64_t until_us);
void fakelb_hang(struct fakelb *f, unsigned lb, uint64_t until_us); /* for this host */
void fakelb_calm(struct fakelb *f, uint64_t now_us);                /* faults are over */
/* A server of this host that another one wrote to; NULL: none. */
const struct fakelb_server *fakelb_trespassed(const struct fakelb *f, unsigned n);

/* ---- the truth, for invariants ---- */
/* Every reachable load balancer offers it, and it answers. */
bool fakelb_is_available(const struct fakelb *f, const struct unit *u);
/* Sessions a stop of u would cut, on reachable load balancers. */
unsigned fakelb_sessions(const struct fakelb *f, const struct unit *u, uint64_t now_us);
/* Some reachable load balancer still sends it new requests. */
bool fakelb_is_offered(const struct fakelb *f, const struct unit *u);
