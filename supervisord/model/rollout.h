/* SPDX-License-Identifier: Apache-2.0 */
/* What rollout.c, rollout_begin.c and rollout_look.c share; nobody else includes it. */
#pragma once

#include "model/parts.h"
#include "unit/units.h"

#define ROLLOUT_EVENTS(EVENT)                                                                      \
	EVENT(WORKED)                                                                              \
	EVENT(FAILED)                                                                              \
	EVENT(DEADLINE)                                                                            \
	EVENT(CANARY)                                                                              \
	EVENT(PAUSE)                                                                               \
	EVENT(RESUME)                                                                              \
	EVENT(ABORT)                                                                               \
	EVENT(ABORT_STAY)                                                                          \
	EVENT(SET_STOP)

enum rollout_event {
#define EVENT(id) RE_##id,
	ROLLOUT_EVENTS(EVENT)
#undef EVENT
		RE_MAX,
};

/* rollout_rec.touched */
enum { UNTOUCHED, TOUCHED, TOUCHED_FAILED };

/* ---- rollout_look.c ---- */
struct timer *rollout_timer(struct set *s, enum timer_kind kind);
bool rollout_state_is_active(enum rollout_state state);
enum rollout_state rollout_phase(const struct set *s); /* what it does, also while paused */
unsigned rollout_total(const struct set *s);           /* members, extra ones included */
bool rollout_is_extra(const struct set *s, unsigned i);
uint32_t rollout_target(const struct set *s);
bool rollout_is_on_target(const struct set *s, const struct unit *u);
const struct rollout_conf *rollout_policy(const struct set *s); /* NULL: a set without members */
uint64_t rollout_deadline_us(const struct set *s);
/* How many go first, 0 = no canary; USEC_INFINITY = until a person resumes. */
unsigned rollout_canary(const struct set *s, uint64_t *ret_soak_us);
uint64_t rollout_soak_us(const struct set *s, unsigned i);
unsigned rollout_serving(const struct set *s);
unsigned rollout_needed(const struct set *s);
bool rollout_all_done(const struct set *s, unsigned from, unsigned to);
bool rollout_is_blocked(const struct set *s, struct buf *why); /* by a load balancer */
void rollout_say_wait(struct world *w, struct set *s);
bool unit_is_told_down(const struct unit *u);
bool rollout_is_told_down(const struct set *s, unsigned i);
bool unit_is_held(const struct unit *u);
bool unit_is_good(const struct unit *u);
bool unit_is_worthless(const struct unit *u);
const char *unit_short_name(const struct unit *u, char *out, size_t size);
#define SHORT(u) unit_short_name((u), (char[128]){0}, 128)

/* ---- rollout.c ---- */
void rollout_journal(struct world *w, struct set *s, const char *format, ...) PRINTF_LIKE(3, 4);
void rollout_arm_deadline(struct world *w, struct set *s, uint64_t extra_us);
void rollout_set_step(struct world *w, struct set *s, unsigned i, enum rollout_step step);
/* True: the state changed. u: the member it is about, or NULL. */
bool rollout_feed(struct world *w, struct set *s, enum rollout_event event, struct unit *u,
	bool *ret_is_refused);
void rollout_commit(struct world *w, struct set *s);
void rollout_enter(struct world *w, struct set *s, enum rollout_state next);
