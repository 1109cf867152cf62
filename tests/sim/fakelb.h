/* SPDX-License-Identifier: Apache-2.0 */
/* Load balancers for tests, and the process that talks to them: rows are pushed late, sessions end
 * when they like, samples come late, old ones come twice, and a load balancer may restart. */
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
	uint64_t sticky_until_us; /* a kept-alive client: seen only in every other sample */
	uint64_t total;
	struct lb_sample last;
};

struct fakelb_one {
	bool is_reachable, is_told;
	uint32_t generation;
	uint64_t serial, next_us, back_us;
	struct fakelb_server server[SET_MEMBERS_MAX];
};

struct fakelb {
	struct set *set;
	unsigned n;
	uint64_t rng;
	uint64_t lag_us, session_us; /* the longest of each */
	unsigned load;               /* most sessions of a server at once */
	bool is_checking;            /* has checks of its own */
	bool is_lying;               /* sends old samples again */
	uint64_t fast_us, slow_us, fast_until_us;
	uint32_t unknown_index;               /* a server it does not know; 0 = knows all */
	bool (*serves)(const struct unit *u); /* its process runs and answers */
	struct fakelb_row row[SET_MEMBERS_MAX];
	struct fakelb_one one[SET_LBS_MAX];
};

typedef void fakelb_deliver(void *arg, const struct event *ev);

struct fakelb *fakelb_new(
	struct set *s, unsigned n, uint64_t seed, bool (*serves)(const struct unit *));
void fakelb_effect(struct fakelb *f, const struct effect *fx, uint64_t now_us);
uint64_t fakelb_next(const struct fakelb *f);
/* Everything due until now_us; events go to deliver(). */
void fakelb_run(struct fakelb *f, uint64_t now_us, fakelb_deliver *deliver, void *arg);
/* The core was killed: the reconciler forgets its rows, the load balancers keep theirs. */
void fakelb_core_restarted(struct fakelb *f, struct set *s);
void fakelb_restart(
	struct fakelb *f, unsigned lb); /* loses its state: all ready, as its file says */
void fakelb_cut(struct fakelb *f, unsigned lb, uint64_t until_us);

/* ---- the truth, for invariants ---- */
/* Every reachable load balancer offers it, and it answers. */
bool fakelb_is_available(const struct fakelb *f, const struct unit *u);
/* Sessions a stop of u would cut, on reachable load balancers. */
unsigned fakelb_sessions(const struct fakelb *f, const struct unit *u, uint64_t now_us);
/* Some reachable load balancer still sends it new requests. */
bool fakelb_is_offered(const struct fakelb *f, const struct unit *u);
