/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The face of model/: all policy, as one pure function from event to effects.
 *
 * The world knows units, what is wanted of them, what was observed, and decides. It makes no
 * system call, reads no clock, logs nothing and has no globals: time and randomness come in with
 * the event and the seed. core/ performs the effects in their order; tests/sim performs them on
 * fakes. What must survive a crash of core is in struct unit_rec and struct rollout_rec; core
 * writes the dirty ones after a step and before it performs that step's effects.
 */
#pragma once

#include "base/base.h"
#include "stayd/unit.h"
#include "stayd/wire.h"

struct world;
struct unit;
struct set;

/* ---- states ------------------------------------------------------------------------------ */

/* STATE(id, sub_state as systemd spells it, active_state) */
#define INST_STATES(STATE)                                                                         \
	STATE(DEAD, "dead", ACTIVE_INACTIVE)                                                       \
	STATE(CONDITION, "condition", ACTIVE_ACTIVATING) /* conditions, then ExecCondition= */     \
	STATE(START_PRE, "start-pre", ACTIVE_ACTIVATING)                                           \
	STATE(START, "start", ACTIVE_ACTIVATING)                                                   \
	STATE(START_POST, "start-post", ACTIVE_ACTIVATING)                                         \
	STATE(RUNNING, "running", ACTIVE_ACTIVE)                                                   \
	STATE(EXITED, "exited", ACTIVE_ACTIVE) /* RemainAfterExit=, targets */                     \
	STATE(RELOAD, "reload", ACTIVE_RELOADING)                                                  \
	STATE(STOP, "stop", ACTIVE_DEACTIVATING) /* ExecStop= */                                   \
	STATE(STOP_WATCHDOG, "stop-watchdog", ACTIVE_DEACTIVATING)                                 \
	STATE(STOP_SIGTERM, "stop-sigterm", ACTIVE_DEACTIVATING)                                   \
	STATE(STOP_SIGKILL, "stop-sigkill", ACTIVE_DEACTIVATING)                                   \
	STATE(STOP_POST, "stop-post", ACTIVE_DEACTIVATING)                                         \
	STATE(FINAL_SIGTERM, "final-sigterm", ACTIVE_DEACTIVATING)                                 \
	STATE(FINAL_SIGKILL, "final-sigkill", ACTIVE_DEACTIVATING)                                 \
	STATE(FAILED, "failed", ACTIVE_FAILED)                                                     \
	STATE(AUTO_RESTART, "auto-restart", ACTIVE_ACTIVATING)

enum inst_state {
#define STATE(id, text, active) INST_##id,
	INST_STATES(STATE)
#undef STATE
		INST_STATE_MAX,
};
enum active_state {
	ACTIVE_INACTIVE,
	ACTIVE_ACTIVATING,
	ACTIVE_ACTIVE,
	ACTIVE_RELOADING,
	ACTIVE_DEACTIVATING,
	ACTIVE_FAILED,
	ACTIVE_STATE_MAX,
};

/* RESULT(id, systemd's word) */
#define INST_RESULTS(RESULT)                                                                       \
	RESULT(SUCCESS, "success")                                                                 \
	RESULT(RESOURCES, "resources")                                                             \
	RESULT(PROTOCOL, "protocol")                                                               \
	RESULT(TIMEOUT, "timeout")                                                                 \
	RESULT(EXIT_CODE, "exit-code")                                                             \
	RESULT(SIGNAL, "signal")                                                                   \
	RESULT(CORE_DUMP, "core-dump")                                                             \
	RESULT(WATCHDOG, "watchdog")                                                               \
	RESULT(START_LIMIT, "start-limit-hit")                                                     \
	RESULT(OOM_KILL, "oom-kill")                                                               \
	RESULT(EXEC_CONDITION, "exec-condition")                                                   \
	RESULT(CONDITION, "condition")                                                             \
	RESULT(ASSERT, "assert")                                                                   \
	RESULT(DEPENDENCY, "dependency")                                                           \
	RESULT(UNHEALTHY, "unhealthy") /* ours: a liveness check failed */                         \
	RESULT(LOST, "lost")           /* ours: gone while nobody could see the status */

enum inst_result {
#define RESULT(id, text) RES_##id,
	INST_RESULTS(RESULT)
#undef RESULT
		RES_MAX,
};

enum want { WANT_NOTHING, WANT_UP, WANT_DOWN };

/* Where an instance stands with its load balancers (lb.def). */
#define LB_PHASES(PHASE)                                                                           \
	PHASE(NONE, "none")         /* no load balancer configured */                              \
	PHASE(OUT, "out")           /* maint wanted; no traffic */                                 \
	PHASE(CHECKING, "checking") /* drain wanted: the LB checks it, sends nothing */            \
	PHASE(RAMPING, "ramping")   /* ready wanted at a rising weight */                          \
	PHASE(IN, "in")             /* ready at full weight */                                     \
	PHASE(DRAINING, "draining") /* drain wanted: waits for zero sessions */                    \
	PHASE(LEAVING, "leaving")   /* drained; maint wanted, not yet read back */                 \
	PHASE(HELD, "held")         /* an operator drained it: stays running, out of the LB */

enum lb_phase {
#define PHASE(id, text) LBP_##id,
	LB_PHASES(PHASE)
#undef PHASE
		LBP_MAX,
};

#define ROLLOUT_STATES(STATE)                                                                      \
	STATE(NONE, "none")                                                                        \
	STATE(PREFLIGHT, "preflight") /* LBs reachable, servers known, enough available */         \
	STATE(SURGE, "surge")         /* extra members on the new revision come up */              \
	STATE(ROLLING, "rolling")     /* members are replaced, batch by batch */                   \
	STATE(UNSURGE, "unsurge")     /* extra members drain and stop */                           \
	STATE(PAUSED, "paused")       /* the state to go back to is in resume_state */             \
	STATE(ROLLING_BACK, "rolling-back")                                                        \
	STATE(DONE, "done")                                                                        \
	STATE(ROLLED_BACK, "rolled-back")                                                          \
	STATE(HALTED, "halted")   /* mixed revisions; holds position, a person is needed */        \
	STATE(ABORTED, "aborted") /* by an operator without rollback */

enum rollout_state {
#define STATE(id, text) ROLL_##id,
	ROLLOUT_STATES(STATE)
#undef STATE
		ROLL_STATE_MAX,
};

/* Steps of one member in a rollout; each is idempotent (rollout.def). */
#define ROLLOUT_STEPS(STEP)                                                                        \
	STEP(PENDING, "pending")                                                                   \
	STEP(DRAIN, "draining")                                                                    \
	STEP(STOP, "stopping")                                                                     \
	STEP(START, "starting")                                                                    \
	STEP(READY, "waiting for ready")                                                           \
	STEP(ENTER, "entering the load balancer")                                                  \
	STEP(SOAK, "soaking")                                                                      \
	STEP(DONE, "done")                                                                         \
	STEP(FAILED, "failed")

enum rollout_step {
#define STEP(id, text) STEP_##id,
	ROLLOUT_STEPS(STEP)
#undef STEP
		STEP_MAX,
};

const char *inst_state_name(enum inst_state s);
enum active_state inst_active_state(enum inst_state s);
const char *active_state_name(enum active_state s);
const char *inst_result_name(enum inst_result r);
const char *lb_phase_name(enum lb_phase p);
const char *rollout_state_name(enum rollout_state s);
const char *rollout_step_name(enum rollout_step s);

enum event_id {
#define EVENT(id, name, level, doc) EVENT_##id,
#include "stayd/events.def"
#undef EVENT
	EVENT_ID_MAX,
};
const char *event_name(enum event_id id);
int event_level(enum event_id id);

/* ---- timers ------------------------------------------------------------------------------ */

enum timer_kind {
	TIMER_STATE,   /* start, stop, reload timeout of the current state */
	TIMER_RESTART, /* back-off; while starting: look for PIDFile= again */
	TIMER_WATCHDOG,
	TIMER_RUNTIME_MAX,
	TIMER_STABLE,  /* running long enough: clear the back-off */
	TIMER_STARTUP, /* next startup, ready, live probe; order of enum check_kind */
	TIMER_READY,
	TIMER_LIVE,
	TIMER_LB, /* drain or entry deadline */
	TIMER_RAMP,
	TIMER_UNIT_MAX,
	TIMER_ROLLOUT = TIMER_UNIT_MAX, /* progress deadline of a set */
	TIMER_SOAK,                     /* next look at soaking members */
	TIMER_SET_MAX,
};

struct timer {
	uint64_t at_us; /* 0 = not armed */
	uint32_t heap_pos;
	uint8_t kind; /* and the place in its owner's array: timer_unit(), timer_set() */
};

/* ---- the durable parts -------------------------------------------------------------------- */

#define FAIL_TEXT_MAX 191

#ifndef STAYD_NEXT
#define UNIT_REC_VERSION 3
#else
#define UNIT_REC_VERSION 4
#endif

/* Written as is to the runtime directory, beside the unit's name, in the same boot only. POD, no
 * pointers. A version reads what the one before and the one behind it wrote: fields are added at the
 * end only (zero for who did not know them), arrays do not grow, values keep their meaning and new ones
 * are added behind; one that a reader does not know makes the record unreadable to it (core/record.c). */
struct unit_rec {
	uint32_t version;
	uint32_t revision; /* 0 = straight from the unit files */
	char release[RELEASE_NAME_MAX + 1];
	uint8_t state;  /* enum inst_state */
	uint8_t result; /* enum inst_result */
	uint8_t want;   /* enum want */
	uint8_t lb_phase;
	uint8_t control_kind; /* enum exec_kind of the control process */
	uint8_t is_ready;     /* the type's readiness rule was met in this activation */
	uint8_t is_manual;    /* the want came from a request, not from a dependency */
	uint8_t reload_result;
	uint8_t check_ok[CHECK_KIND_MAX];     /* 0 unknown, 1 passing, 2 failing */
	uint8_t check_streak[CHECK_KIND_MAX]; /* equal results in a row, saturating */
	uint8_t stop_wanted;                  /* a stop waits for the drain, or is under way */
	uint8_t restart_wanted;               /* start again when it is down */
	uint8_t left_over;    /* it went down without being seen empty; cleared by EV_EMPTY */
	uint8_t is_unhealthy; /* a live check failed: to be replaced once it is drained */
	struct spawn_id main, control; /* seq 0 = none */
	int32_t main_pid, control_pid;
	uint32_t control_index; /* of the Exec*= list */
	uint32_t next_seq;
	int32_t main_code, main_status; /* CLD_* and status of the last main process */
	uint32_t n_restarts;            /* automatic ones since the last manual start */
	uint32_t backoff_step;          /* grows with each, cleared by stable running */
	uint32_t limit_count;
	uint16_t port;  /* 0 = none */
	uint16_t index; /* in its set, 0 = not a member */
	uint64_t limit_begin_us;
	uint64_t watchdog_us; /* as set by the unit file or WATCHDOG_USEC= */
	uint64_t state_since_us, active_since_us, inactive_since_us; /* as now_us */
	uint64_t state_since_wall_us;
	uint64_t timer_at_us[TIMER_UNIT_MAX];
#ifdef STAYD_NEXT
	uint64_t next_field;
#endif
};

#ifndef STAYD_NEXT
#define ROLLOUT_REC_VERSION 1
#else
#define ROLLOUT_REC_VERSION 2
#endif
#define REVISION_MAX        1000000000u /* revisions are below it */
#define ROLLOUT_ID_MAX      (1ULL << 53) /* exact in JSON, wherever it is read */

/* One line of the rollout journal holds one of these, fsync'ed before the effects that follow. */
struct rollout_rec {
	uint32_t version;
	uint8_t state, resume_state; /* enum rollout_state */
	uint8_t is_undo, is_rollback_wanted;
	uint8_t is_canary_passed,
		is_restart; /* restart: same revision, members are replaced once */
	uint64_t id;        /* d-118 */
	char set[UNIT_NAME_MAX + 1];
	uint32_t from_revision, to_revision;
	char from_release[RELEASE_NAME_MAX + 1], to_release[RELEASE_NAME_MAX + 1];
	uint32_t count, surge, unavailable; /* resolved numbers */
	uint32_t pause_after;          /* members that go first, then a person resumes; 0 = no */
	uint8_t step[SET_MEMBERS_MAX]; /* enum rollout_step, by index - 1 */
	uint8_t touched[SET_MEMBERS_MAX];
	uint64_t began_wall_us, ended_wall_us;
	uint64_t request; /* who waits for the end */
	char actor[64];   /* "uid 0 (root)" */
	char reason[256]; /* why it failed or waits */
};

/* ---- events -------------------------------------------------------------------------------- */

enum event_kind {
	EV_TIME,         /* look at the timers */
	EV_CONDITIONS,   /* unit; ok, text: answer to FX_CONDITIONS; number 1: an Assert*= failed */
	EV_SPAWNED,      /* unit; id, pid: the program runs (exec done) */
	EV_SPAWN_FAILED, /* unit; id, stage, error, text */
	EV_EXITED, /* unit; id, pid, code, status; ok: it was an OOM kill. After a restart of core, for a recorded id that
		    * keeper does not know: code 0. It never ran (pid 0), or its status is lost; then pid may be that
		    * of one it left behind */
	EV_EMPTY,  /* unit: no process of it is left, now (answer to FX_CHECK_EMPTY) */
	EV_NOTIFY, /* unit; notify */
	EV_MAIN_PID,  /* unit; pid (0: none found): answer to FX_FIND_MAIN_PID, or MAINPID=;
		    * id: what it was known as before (seq 0: not);
		    * after the step rec.main is the id to have keeper track pid under. Its end
		    * must be told under that id, also when it came before keeper was asked */
	EV_PROBED,    /* unit; check, number, ok, latency_us, text */
	EV_LB_SAMPLE, /* unit; lb, sample */
	EV_LB_STATUS, /* set; lb, ok = reachable, number = generation, text */
	EV_REQUEST,   /* request */
	EV_SHUTDOWN,  /* stop everything in order; number = exit code for FX_EXIT, text = how: "exit" (NULL),
		       * "reboot", "poweroff" */
	EV_RESTORED,  /* all records are in: go on from there */
	EV_KIND_MAX,
};

enum notify_bits {
	NOTIFY_READY = 1,
	NOTIFY_RELOADING = 2,
	NOTIFY_STOPPING = 4,
	NOTIFY_WATCHDOG = 8,
	NOTIFY_WATCHDOG_TRIGGER = 16,
	NOTIFY_EXTEND = 32,        /* value_us */
	NOTIFY_WATCHDOG_USEC = 64, /* value_us */
};

/* VERB(id, in words) */
#define REQUEST_VERBS(VERB)                                                                        \
	VERB(START, "start")                                                                       \
	VERB(STOP, "stop")                                                                         \
	VERB(RESTART, "restart")         /* also starts what is down; drains first */              \
	VERB(TRY_RESTART, "try-restart") /* only what is up */                                     \
	VERB(RELOAD, "reload")                                                                     \
	VERB(RELOAD_OR_RESTART, "reload-or-restart")                                               \
	VERB(RESET_FAILED, "reset-failed")                                                         \
	VERB(SCALE, "scale") /* set; number */                                                     \
	VERB(DEPLOY,                                                                               \
		"deploy") /* set; number = revision (confs by world_set_next_conf), release */     \
	VERB(ROLLING_RESTART, "rolling restart") /* set: like a deploy of the same revision */     \
	VERB(PAUSE, "pause")                                                                       \
	VERB(RESUME, "resume")                                                                     \
	VERB(ABORT, "abort") /* number 1 = also roll back (default), 0 = stay mixed */             \
	VERB(UNDO, "undo")   /* set; number = revision to go to */                                 \
	VERB(DRAIN, "drain") /* unit: out of the load balancer, keeps running */                   \
	VERB(UNDRAIN, "undrain")

enum request_verb {
#define VERB(id, text) REQ_##id,
	REQUEST_VERBS(VERB)
#undef VERB
		REQ_VERB_MAX,
};
const char *request_verb_name(enum request_verb v);

struct request {
	uint64_t id; /* 0 = nobody waits */
	enum request_verb verb;
	struct unit *unit;
	struct set *set;
	uint64_t number;
	unsigned pause_after; /* DEPLOY: pause when that many members are done; 0 = do not */
	const char *release;
	const char *actor;
};

struct event {
	enum event_kind kind;
	uint64_t now_us;  /* CLOCK_MONOTONIC: suspend takes none, never goes back */
	uint64_t wall_us; /* may jump; only for showing */
	struct unit *unit;
	struct set *set;
	struct spawn_id id;
	int32_t pid, code, status, stage, error;
	uint32_t bits; /* enum notify_bits */
	uint64_t value_us;
	uint64_t number;
	uint64_t latency_us;
	enum check_kind check;
	unsigned lb;
	bool ok;
	const char *text; /* may be NULL; copied where kept */
	const struct lb_sample *sample;
	const struct request *request;
};

/* ---- effects ------------------------------------------------------------------------------- */

enum effect_kind {
	FX_CONDITIONS, /* unit: evaluate Condition*= and Assert*=; answer EV_CONDITIONS */
	FX_SPAWN,      /* unit; exec, index, id: answer EV_SPAWNED or EV_SPAWN_FAILED */
	FX_KILL, /* unit; who, signal, id (MAIN, CONTROL). A SIGCONT follows any signal but KILL and
		  * CONT, so that a stopped process can obey. Nothing there to kill is fine */
	FX_CHECK_EMPTY, /* unit: say EV_EMPTY as soon as no process of it is left (maybe at once) */
	FX_FIND_MAIN_PID, /* unit: PIDFile= or guess; answer EV_MAIN_PID */
	FX_CLEANUP, /* unit: it is down: cgroup; with number 0 also runtime directories and fd store,
		     * number 1: a restart follows, which shall find them */
	FX_PROBE,   /* unit; check, number, timeout_us: answer EV_PROBED */
	FX_LB_WANT,      /* unit; lb_state, weight: to every load balancer of its set */
	FX_LB_FORGET,    /* unit: no longer a row */
	FX_LB_FAST,      /* set: sample fast for a while */
	FX_JOURNAL,      /* set: rollout_rec changed: make it durable before what follows; text */
	FX_COUNT,        /* set: another number of members is wanted: make it durable before what follows */
	FX_RELEASE_LINK, /* set: rollout complete: switch ReleaseLink= to release; record revision */
	FX_REPLY,        /* request, result, text */
	FX_EVENT,        /* event, unit or set, text: tell people */
	FX_EXIT, /* everything is stopped; number = exit code, text = exit, reboot or poweroff */
	FX_KIND_MAX,
};

enum kill_who { KILL_WHO_MAIN, KILL_WHO_CONTROL, KILL_WHO_ALL };
enum reply_result {
	REPLY_DONE,
	REPLY_SKIPPED, /* condition not met, or nothing to do: success, with the reason */
	REPLY_FAILED,
	REPLY_REFUSED,  /* by a guard; nothing changed */
	REPLY_CANCELED, /* a later request said otherwise */
	REPLY_ROLLED_BACK,
	REPLY_HALTED,
	REPLY_NOT_RUNNING, /* reload, drain */
};

struct effect {
	enum effect_kind kind;
	enum exec_kind exec;
	enum kill_who who;
	enum check_kind check;
	enum lb_state lb_state;
	enum reply_result result;
	enum event_id event;
	struct unit *unit;
	struct set *set;
	uint32_t index;
	int signal;
	unsigned weight; /* percent */
	struct spawn_id id;
	uint64_t number, timeout_us, request;
	char *text; /* in the effects' arena; NULL = none */
};

/* Bounded by what one event can touch: a shutdown of UNITS_MAX units is the largest. */
struct effects {
	struct effect *v;
	size_t n, cap;
	struct arena arena;
};
void effects_reset(struct effects *fx);
void effects_done(struct effects *fx);

/* ---- the objects, readable by core for status and effects ----------------------------------- */

struct health {
	bool is_running; /* probes are being made */
	bool is_waiting; /* for the answer to probe `number` */
	bool last_ok;    /* what check_streak counts */
	uint64_t number;
	uint64_t last_us, latency_us;
	char text[128]; /* the probe's last answer */
};

struct lb_member {
	uint32_t weight; /* wanted, percent */
	enum lb_state wanted;
	uint8_t ramp_step;
	bool is_forced;                       /* left by timeout */
	bool is_drained;                      /* proved since it was last offered anywhere */
	struct lb_sample sample[SET_LBS_MAX]; /* last observed */
	uint64_t zero_total[SET_LBS_MAX];     /* stot when sessions were first zero */
	uint8_t zero_seen[SET_LBS_MAX];     /* closed samples in a row: zero sessions, stot still */
	uint64_t since_us;                  /* this phase */
	uint64_t first_serial[SET_LBS_MAX]; /* the sample that read the change back; 0 = not yet */
	uint64_t request;                   /* DRAIN or UNDRAIN that waits for its outcome */
};

#define DROPPED_MAX 4

/* A resolved dependency. */
struct edge {
	struct unit *to;
	uint8_t kind;    /* enum dep_kind */
	bool is_inverse; /* the other unit wrote it */
};

struct unit {
	uint32_t id; /* index in the world, stable */
	char *name;
	struct unit_conf *conf;      /* in force; a reference */
	struct unit_conf *next_conf; /* of a revision being rolled out, or NULL */
	uint32_t next_revision;
	char *next_release; /* NULL as long as there never was one */
	struct set *set;
	struct unit_rec rec;
	bool is_dirty; /* rec changed since core wrote it; core clears it */
	bool in_dirty_list, in_queue;
	struct edge *edges;
	uint32_t n_edges, cap_edges;
	uint32_t wait_edge; /* where job.c found what held the start last */
	struct timer timers[TIMER_UNIT_MAX];
	struct health *health; /* CHECK_KIND_MAX of them; those of nobody without checks */
	struct lb_member *lb;  /* NULL without load balancer */
	uint64_t requests[4];  /* ids waiting for an outcome; further ones get REFUSED */
	uint8_t n_requests, request_verb;
	uint64_t probe_number;
	struct unit *waits_for; /* why a wanted start or stop does not happen yet */
	bool is_stuck;          /* wanted, but waits_for is down and not coming: see job.c */
	bool is_empty;          /* EV_EMPTY came since the last spawn */
	bool has_spread;        /* what follows its restart was told so; until its state changes */
	uint8_t n_dropped;      /* spawns given up before the launcher answered */
	uint32_t dropped[DROPPED_MAX]; /* their seqs; beyond that the oldest is forgotten */
	uint32_t mark;          /* of the last graph walk that came by */
	uint64_t started_us;    /* when this activation began; not kept across a restart of core */
	char *status_text;      /* STATUS=, core's */
	const char *fail_text;  /* what went wrong last, for people; never NULL */
	void *core;             /* core's own companion */
};

/* Up as systemd has it for Type=simple, but whether the program exists is not known yet. Dependents do
 * not wait for that; people, sets and rollouts do. */
bool unit_is_being_executed(const struct unit *u);
/* As people are told: not active before there is a main pid to look at. */
enum active_state unit_active_state(const struct unit *u);

struct set {
	uint32_t id;
	char *name;     /* web */
	char *template; /* web@.service, or api.service for a set of one */
	bool is_template;
	struct unit *members[SET_MEMBERS_MAX]; /* by index - 1; NULL = never existed */
	unsigned count;                        /* wanted */
	uint32_t revision;                     /* committed */
	char release[RELEASE_NAME_MAX + 1];
	struct rollout_rec rollout; /* state NONE when there never was one */
	bool is_dirty, in_queue;
	struct {
		bool is_reachable, is_known; /* is_known: something was heard of it at all */
		uint32_t generation;
		char text[160];
	} lb[SET_LBS_MAX];
	unsigned n_lbs;
	struct timer timers[TIMER_SET_MAX - TIMER_UNIT_MAX];
	char wait_text[192]; /* what the rollout waits for */
	uint64_t wait_since_us;
	uint32_t wait_key;   /* of what it is, so that a changed number is no new wait */
	uint64_t op_request; /* START, STOP, SCALE or ABORT of the set that waits for its end */
	uint8_t op_verb;
	/* Of the rollout under way, by index - 1; a restarted core starts them anew. */
	uint64_t soak_since_us[SET_MEMBERS_MAX];
	uint8_t best_step[SET_MEMBERS_MAX];   /* only what goes beyond it is progress */
	uint8_t has_started[SET_MEMBERS_MAX]; /* the instance's start was seen */
	struct {                              /* what the rollout failed on; only for telling */
		uint16_t index;               /* of the member, 0 = none */
		uint8_t check;                /* that did not pass; CHECK_KIND_MAX = none */
		char answer[160];
	} failure;
	void *core;
};

#define COVERAGE_EVENTS_MAX 16 /* of lb.def and rollout.def */
/* The owner of a timer, by its place. */
static inline struct unit *timer_unit(struct timer *t)
{
	return container_of(t - t->kind, struct unit, timers);
}
static inline struct set *timer_set(struct timer *t)
{
	return container_of(t - (t->kind - TIMER_UNIT_MAX), struct set, timers);
}
/* Replaces the fail text; a long one is cut, an empty one costs nothing. */
void unit_fail_text(struct unit *u, const char *format, ...) PRINTF_LIKE(2, 3);

struct world {
	uint64_t now_us, wall_us;
	uint64_t rng;
	struct unit **units;
	size_t n_units, cap_units;
	struct map unit_by_name; /* aliases too */
	struct strv aliases;     /* keys of unit_by_name that are nobody's own name */
	struct set **sets;
	size_t n_sets, cap_sets;
	struct map set_by_name;
	struct timer **heap;
	size_t n_heap, cap_heap;
	struct unit **dirty; /* for core: records to write */
	size_t n_dirty, cap_dirty;
	struct unit **queue; /* units whose want or surroundings changed, first in first out */
	size_t n_queue, cap_queue, head_queue;
	struct set **set_queue;
	size_t n_set_queue, cap_set_queue;
	struct effects *fx; /* of the step under way */
	bool is_shutting_down, is_restoring, has_exited; /* the first outlives core by turn.c */
	int exit_code;
	const char *exit_text;
	uint64_t next_rollout_id;
	uint32_t mark;       /* of the graph walk under way */
	size_t missing_from; /* units before this one miss nothing */
	size_t down_from;    /* of a shutdown: units before this one are down */
	int step_error;      /* of the step under way */
	/* NULL, or counts of state x event rows: for tests */
	uint64_t *coverage, (*lb_coverage)[COVERAGE_EVENTS_MAX],
		(*rollout_coverage)[COVERAGE_EVENTS_MAX];
};

/* ---- the functions --------------------------------------------------------------------------- */

struct world *world_new(uint64_t seed);
struct world *world_free(struct world *w); /* NULL */

/* Adds a unit, or gives a known one a new conf (daemon-reload). Takes its own reference. */
struct unit *world_put_unit(struct world *w, struct unit_conf *conf);
/* Another name of u: a link to its file, Alias=. Does nothing when the name is taken. */
void world_put_alias(struct world *w, const char *alias, struct unit *u);
/* From now on the name of `named` means u: another unit, or itself again. */
void world_pass_name(struct world *w, const struct unit *named, struct unit *u);
struct unit *world_unit(const struct world *w, const char *name);
/* Names that loaded units pull in or order against but that are not in the world yet. Core loads
 * them and asks again until there are none. Result: false at the end. */
bool world_missing(const struct world *w, const char **ret_name);
/* Resolves names to edges and finds cycles; call after adding units. Cycles of ordering are
 * broken as systemd breaks them (a Wants= job is dropped first); text per cycle goes to events. */
void world_link(struct world *w, struct effects *out);
/* A replica set; its members are units that core added before with their index. */
struct set *world_put_set(struct world *w, const char *name, const char *template, unsigned count);
struct set *world_set(const struct world *w, const char *name);
void world_set_member(struct world *w, struct set *s, unsigned index, struct unit *u);
/* The load balancers from n on are configured no more: nothing counts that was seen of them. */
void world_drop_lbs(struct set *s, unsigned n);
/* The conf that u's next start uses when its set rolls to revision. */
void world_set_next_conf(struct world *w, struct unit *u, struct unit_conf *conf, uint32_t revision,
	const char *release);
/* The port core allocated at spawn (kept in the record). */
void world_set_port(struct world *w, struct unit *u, uint16_t port);

/* 0, or -EBADMSG: the record says what cannot be (record.c), or is another's; nothing changed. */
int world_restore_unit(struct world *w, struct unit *u, const struct unit_rec *rec);
int world_restore_rollout(struct world *w, struct set *s, const struct rollout_rec *rec);
int unit_rec_check(const struct unit_rec *r);
int rollout_rec_check(const struct rollout_rec *r);

/* The whole supervisor. Appends to out; 0, or -EINVAL for an event that cannot be (a bug). */
int world_step(struct world *w, const struct event *ev, struct effects *out);
/* When EV_TIME is due next; USEC_INFINITY = never. */
uint64_t world_next_deadline(const struct world *w);

/* ---- questions, for status --------------------------------------------------------------------- */

bool unit_is_up(const struct unit *u); /* active, readiness rule met */
bool unit_is_available(
	const struct unit *u);           /* up, ready check passing, offered by every LB it has */
bool unit_is_down(const struct unit *u); /* no process, nothing under way */
/* "waiting for db.service", "restart in 3s", "draining, 14 sessions" ... "" when nothing. */
void unit_waiting_text(const struct world *w, const struct unit *u, struct buf *out);
/* Delay before automatic restart number step (0 = first), without jitter. */
uint64_t backoff_delay_us(const struct restart_conf *c, unsigned step);
unsigned set_available(const struct set *s);
/* Also while paused. HALTED is over: it holds still until a person says how it goes on. */
bool rollout_is_active(const struct set *s);
/* What a deploy would do, as text lines: for `stayctl plan`. */
void set_plan(const struct world *w, const struct set *s, struct buf *out);
