/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The simulator: the model against fake processes, a fake clock, and faults from a seed.
 *
 * A universe is one seed: random units, then steps with faults, then a quiet time in which all
 * that is wanted must come true. sim.c drives, universe.c makes the units, fakehost.c is keeper,
 * launcher and the processes, invariants.c judges, report.c counts. A load balancer and sets come
 * in by the fake_lb_* functions, which are weak here.
 */
#pragma once

#include "model/parts.h"

#define SIM_UNITS_MAX 64
#define SIM_PROCS_MAX 4096

/* One fake process; slots are reused once nothing refers to them. */
struct proc {
	bool is_used, is_alive, is_main, is_born;
	bool ignores_term,
		is_orphan; /* is_orphan: of a keeper that died: nobody can see its status */
	bool is_free;      /* an edit of its unit changed whose business its end is */
	bool has_exit;     /* keeper holds the exit for core */
	struct unit_conf *conf;
	uint32_t unit;
	struct spawn_id id;
	enum exec_kind kind;
	int32_t pid, code, status;
	uint64_t serial;
};

enum pending_kind {
	P_BORN,   /* launcher has started it */
	P_END,    /* it exits by itself */
	P_SIGNAL, /* it obeys a signal */
	P_EXITED, /* keeper tells core */
	P_EVENT,  /* an answer of core's own parts: lost with it */
	P_NOTIFY, /* a datagram: survives core */
	P_REQUEST,
	P_CUSTOM, /* fake_lb_event() */
};

struct pending {
	uint64_t at_us, order;
	enum pending_kind kind;
	uint32_t core; /* generation of core it belongs to; 0 = any */
	uint32_t proc, unit;
	uint64_t serial; /* of the process */
	int code, status;
	struct event ev;
	const char *text;
};

/* What the simulation knows of a unit beside the model. */
struct sim_unit {
	struct unit_conf *conf, *other; /* other: a second revision, or NULL */
	struct unit_rec stored;
	bool has_stored;
	bool wants_empty; /* core asked for EV_EMPTY */
	bool expects_down;
	uint64_t restarts[64]; /* times of automatic ones, ring */
	unsigned n_restarts, since_clear, since_request;
	unsigned n_births; /* of main processes */
	struct spawn_id last_spawn;
	bool is_leaving; /* it said STOPPING=1 in this activation */
};

/* How a core ends, and what is lost with it. */
enum death {
	DEATH_BEFORE_EFFECT, /* the record is written, some effects are performed */
	DEATH_BEFORE_RECORD, /* it decided, and nobody knows */
	DEATH_OF_KEEPER,     /* as BEFORE_EFFECT, and keeper and launcher with it: the table, the
			      * exits not yet told, plans not yet carried out, and every later status */
	DEATH_MAX,
};

struct sim {
	uint64_t seed, rng, now_us, step, order;
	uint64_t woken_us; /* by core's last timer */
	unsigned n_idle;   /* how often in a row that came to nothing */
	bool is_quiet;     /* faults are over */
	bool is_tracing, has_failed;
	char failure[512];
	struct arena arena;
	struct world *w;
	uint32_t core; /* generation */
	struct effects fx;
	struct sim_unit units[SIM_UNITS_MAX];
	struct unit_rec restored[SIM_UNITS_MAX]; /* as the last core found them */
	uint32_t n_units;
	struct proc procs[SIM_PROCS_MAX];
	int32_t next_pid;
	uint64_t next_serial;
	struct pending *heap;
	size_t n_heap, cap_heap;
	uint8_t *requests; /* by id: 0 none, 1 open, 2 answered, 3 lost with core, 4 refused */
	size_t n_requests, cap_requests;
	unsigned p_core_dies, p_keeper_dies, p_fault; /* of 10000 */
	unsigned p_stray, p_edit; /* of 10000: events out of the blue, daemon-reloads */
	bool is_chatty;           /* what is said out of the blue are mostly notifies */
	bool is_tough;            /* births take long, and SIGKILL does */
	bool is_about_sets;       /* a replica set and little beside it */
	uint64_t coverage[INST_STATE_MAX * FSM_MAX];
	uint64_t lb_coverage[LBP_MAX][COVERAGE_EVENTS_MAX];
	uint64_t rollout_coverage[ROLL_STATE_MAX][COVERAGE_EVENTS_MAX];
	uint64_t events[EVENT_ID_MAX], n_core_deaths, n_keeper_deaths, n_spawns, n_kills;
	const struct script *script;   /* NULL: at random */
	uint64_t n_points, kill_at[2]; /* instants to die at; the ones chosen, 0 = none */
	enum death death;              /* how */
	void *ending;                  /* scripts.c's own */
	void *lb;                      /* sets.c's own */
	bool is_of_several;            /* hosts behind the same load balancers */
	unsigned host;                 /* which, from 0 */
	struct sim *shares_with;       /* the host whose load balancers these are, or NULL */
	int64_t ahead_us,
		wall_us; /* its clocks before everybody's, and before its own monotonic clock */
	unsigned min_serving; /* as the load balancers see it; 0 = not judged */
};

/* ---- sim.c ---- */
uint64_t sim_random(struct sim *s, uint64_t below);
bool sim_chance(struct sim *s, unsigned of_10000);
bool sim_fault(struct sim *s, unsigned weight); /* false when quiet */
void sim_fail(struct sim *s, const char *format, ...) PRINTF_LIKE(2, 3);
void sim_trace(struct sim *s, const char *format, ...) PRINTF_LIKE(2, 3);
struct pending *sim_later(struct sim *s, uint64_t in_us, enum pending_kind kind);
/* Gives core an event; it may die of it. */
void sim_step(struct sim *s, struct event *ev);
uint64_t sim_request(struct sim *s, enum request_verb verb, struct unit *u, struct set *set);

void sim_death(struct sim *s, enum death how);
/* One thing happens: what was to come, a deadline of core. False: nothing will until then. */
bool sim_advance(struct sim *s, uint64_t until_us);
struct sim *sim_new(uint64_t seed);
void sim_free(struct sim *s);
/* From the first core to the last word. */
void sim_run(struct sim *s);

/* ---- universe.c ---- */
void universe_make(struct sim *s);
void universe_gone(struct sim *s); /* the unit that has no file */
void universe_build_world(struct sim *s);
/* A unit file is written anew, or loses a dependency, and all are loaded again. */
void universe_edit(struct sim *s);

/* ---- fakehost.c ---- */
void host_effect(struct sim *s, const struct effect *e);
void host_pending(struct sim *s, const struct pending *p);
void host_core_died(struct sim *s); /* what core had asked for and not heard is forgotten */
void host_keeper_died(struct sim *s);
void host_core_back(struct sim *s); /* keeper tells what it knows */
bool host_unit_is_empty(const struct sim *s, uint32_t unit);
int32_t host_some_pid(struct sim *s, uint32_t unit); /* that may be named the main one, or 0 */
void host_named_main(struct sim *s, uint32_t unit, int32_t pid);
void host_flush_births(struct sim *s);
void host_release(struct sim *s);

/* ---- scripts.c: the same few stories, with a death at every instant of them ---- */
void script_make(struct sim *s);
void script_run(struct sim *s);
void script_end(struct sim *s);
/* Every script, every kind of death, every instant (or every fifth), and pairs of them. */
enum effort { EFFORT_SOME, EFFORT_ALL, EFFORT_PAIRS };
unsigned scripts_run(uint64_t seed, enum effort effort, double until_s);
int script_trace(const char *story, uint64_t seed); /* SCRIPT:DEATH:AT:AT */

/* ---- worlds.c: some hosts behind the same load balancers ---- */
bool worlds_run(uint64_t seed, bool is_traced);
void sim_begin(struct sim *s);                    /* the first core */
void sim_turn(struct sim *s);                     /* one thing happens, faults included */
void sim_end(struct sim *s);                      /* quiet, judged, shut down */
uint64_t sim_next(struct sim *s);                 /* when, by its own clock */
void sim_suspend(struct sim *s, uint64_t for_us); /* the machine sleeps: nobody runs, time passes */

/* ---- sets.c ---- */
typedef void set_policy(struct sim *s, struct unit_conf *first);
void sets_make(struct sim *s, const char *kind, set_policy *policy);
uint64_t sets_ask(struct sim *s, enum request_verb verb, uint64_t number);
void sets_lb_fault(struct sim *s, bool is_restart);

/* ---- report.c ---- */
double seconds_now(void);
extern unsigned failures_max; /* universes that may fail before it ends */
void report_points(uint64_t n);
void report_add(const struct sim *s);
uint64_t report_steps(void);
void report_print(double seconds);
unsigned report_unreached(void);  /* rows of the three tables, as printed */
unsigned report_unreasoned(void); /* rows that cannot be, without a reason why */

/* ---- invariants.c ---- */
void check_spawn(struct sim *s, const struct effect *e); /* about to be performed */
void check_birth(struct sim *s, const struct proc *p);
void check_effect(struct sim *s, const struct effect *e);
void check_step(struct sim *s, int r);
void check_idle(struct sim *s); /* a timer of core was due */
void check_end(struct sim *s);

/* ---- fakelb.c; weak defaults in sim.c do nothing ---- */
void fake_lb_universe(struct sim *s); /* may give confs a load balancer and make sets */
void fake_lb_world(struct sim *s);    /* a new world was built: sets, members, journal */
bool fake_lb_effect(struct sim *s, const struct effect *e); /* true: it was for the LB or a set */
void fake_lb_event(struct sim *s, const struct pending *p);
void fake_lb_core_back(struct sim *s); /* after EV_RESTORED */
void fake_lb_request(struct sim *s);   /* now and then: ask something of a set */
void fake_lb_quiet(struct sim *s);     /* faults are over: now and then */
void fake_lb_before(struct sim *s, const struct event *ev); /* before every step */
void fake_lb_check(struct sim *s);                          /* after every step */
void fake_lb_end(struct sim *s);
void fake_lb_done(struct sim *s);
