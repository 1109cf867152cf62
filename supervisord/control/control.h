/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The face of control/: the control socket, a varlink server for org.stayd.Control (verbs.def).
 *
 * Two halves. What the verbs ask of the daemon: struct control_daemon, which core fills in. And what core
 * calls: control_*(). control/ knows nothing else of core, and core nothing of the verbs; tests put a
 * double in core's place.
 * Never blocks; every client, queue and message is bounded (stayd.h).
 */
#pragma once

#include "model/model.h"
#include "unit/units.h"

struct core;
struct control;

/* ---- what the verbs ask ---- */

#define CORE_TROUBLES_MAX 8
struct core_status {
	const char *version;
	const char *state; /* starting, running, degraded, stopping */
	int32_t keeper_pid, core_pid, launcher_pid, net_pid, logger_pid; /* 0 = not running */
	uint32_t restarts_of_core;
	/* "", trying, refused, done, returned (the new program's core did not come up), forgotten (it is
	 * there, without what the keeper knew); why; how many led to a program, the way back counted too */
	const char *reexec_state, *reexec_text;
	uint32_t reexecs;
	bool is_reexec_news; /* this core is the first one since */
	uint64_t started_wall_us;
	const char *log_dir; /* NULL: logs do not go to files */
	const char *runtime_dir, *state_dir;
	const struct unit_path *unit_path;
	const char *troubles[CORE_TROUBLES_MAX]; /* what the daemon itself lacks now */
	size_t n_troubles;
};

/*
 * What the verbs ask of the daemon.
 *
 * All of these are called from the event loop and return at once. request is an id of next_request();
 * its outcome comes through control_reply_done(), possibly before the call returns. A negative result
 * means that the request was not accepted and no outcome follows; -errno with text in e for the person
 * who asked. actor is "uid 0 (root)" and is copied where kept.
 */
struct control_daemon {
	/* The answer is core's and current until control goes back to the loop. */
	const struct core_status *(*status)(struct core *core);

	struct world *(*world)(struct core *core);
	/* Never 0, never used twice in the life of the daemon (also across cores). */
	uint64_t (*next_request)(struct core *core);
	/* Steps the world with EV_REQUEST and performs the effects. */
	int (*submit)(struct core *core, const struct request *r);

	/* The unit of that full name, loaded with all it pulls in when it is not yet in the world.
	 * NULL with e->code: -ENOENT no such unit, -EBADMSG it has errors, -EPERM masked, -ENOSPC, -EIO its
	 * files cannot be read now. */
	struct unit *(*load_unit)(struct core *core, const char *name, struct err *e);
	bool (*unit_is_outdated)(const struct unit *u); /* loading it again may find another text */
	/* "web", "web.service" or "web@.service"; loads the template when it has [X-Replicas] and is not
	 * loaded yet. NULL: no such set; or, with unread (may be NULL) set, one that cannot be read now. */
	struct set *(*find_set)(struct core *core, const char *name, struct err *unread);
	/* Path below the cgroup root; NULL when there is none. */
	const char *(*unit_cgroup)(struct core *core, const struct unit *u);

	/* What the daemon's own processes could not give up here. */
	void (*each_unconfined)(struct core *core,
		void (*each)(void *arg, const char *process, const char *why), void *arg);

	/* All that is not honoured for this unit: by us, by what this host or container allows (known after
	 * its first start), by its cgroup. */
	void (*each_degraded)(struct core *core, const struct unit *u,
		void (*each)(void *arg, const struct degraded *d), void *arg);
	/* Names of all units that have a file, loaded or not. */
	int (*unit_files)(struct core *core, struct strv *ret_names);
	/* Asks the logger to write what the units have said so far; control_logs_written() follows, after a
	 * second at the latest. False: there is nothing to wait for. */
	bool (*sync_logs)(struct core *core);
	/* ERRNO= of the service (sd_notify), 0 = none. */
	int (*unit_errno)(struct core *core, const struct unit *u);

	/* Makes members as needed, records the count, then asks the world. */
	int (*scale)(struct core *core, struct set *s, unsigned count, uint64_t request,
		const char *actor, struct err *e);
	/* Makes the next revision from the unit files as they are now and release (NULL or "": the
	 * present one) and rolls to it. pause_after: pause when that many members are done; 0 = do not. */
	int (*deploy)(struct core *core, struct set *s, const char *release, unsigned pause_after,
		uint64_t request, const char *actor, struct err *e);
	/* revision 0: the one before the present one. */
	int (*undo)(struct core *core, struct set *s, uint32_t revision, uint64_t request,
		const char *actor, struct err *e);
	/* Calls each() for every earlier rollout in the journal, oldest first; of many for the latest
	 * hundred. */
	int (*history)(struct core *core, struct set *s,
		void (*each)(void *arg, const struct rollout_rec *rec), void *arg);

	/* -ESRCH: nothing to signal. */
	int (*kill)(
		struct core *core, struct unit *u, int signal, enum kill_who who, struct err *e);
	/* changes gets lines for people. */
	int (*enable)(struct core *core, const char *name, bool is_runtime, struct strv *changes,
		struct err *e);
	int (*disable)(struct core *core, const char *name, struct strv *changes, struct err *e);
	/* notes gets diagnostics of the units that changed, one a line. */
	int (*daemon_reload)(
		struct core *core, const char *actor, struct buf *notes, struct err *e);
	/* path NULL: the present program. The new core begins after this one has answered. */
	int (*reexec)(struct core *core, const char *path, const char *actor, struct err *e);
	int (*shutdown)(struct core *core, int exit_code, const char *actor, struct err *e);
};

/* ---- what core calls ---- */

/* Listens on listen_fd (a bound, listening, non-blocking SOCK_STREAM Unix socket). The descriptor
 * stays the caller's: keeper holds it across cores. config: path of stayd.conf, NULL for none. core is
 * what daemon's functions are given. */
int control_new(struct loop *l, int listen_fd, const char *config,
	const struct control_daemon *daemon, struct core *core, struct control **ret);
/* Reads stayd.conf again; notes (may be NULL) gets what is wrong with it. */
void control_reload(struct control *c, struct buf *notes);
/* Flushes what the sockets take at once, closes clients. NULL is fine; returns NULL. */
struct control *control_free(struct control *c);

/* FX_REPLY: the outcome of a request that a handler submitted. Unknown ids are ignored (they may
 * be from before a restart of core). May be called from within submit(). */
void control_reply_done(
	struct control *c, uint64_t request, enum reply_result result, const char *text);

/* FX_EVENT: goes into the ring of the last events, to `events -f`, to those who watch a rollout or
 * wait for a state. Call it after the step is over and the world is consistent. */
void control_event(struct control *c, const struct effect *fx);
/* What sync_logs() asked for is done, or took too long. */
void control_logs_written(struct control *c);

/* The program that reexec() was told is not taken. */
void control_reexec_refused(struct control *c, const char *why);
/* What a signal asks for is in the audit log as what a verb does: before it begins, and when it is done. */
uint64_t control_signal_begin(struct control *c, const char *signal, bool is_reload);
void control_signal_end(struct control *c, uint64_t change);

/* Connections open now, for status and tests. */
size_t control_clients(const struct control *c);
