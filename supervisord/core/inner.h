/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of core/ share: struct core and one section per file. Private to core/.
 *
 * One turn: sources are read in priority order (notify, keeper, launcher, timers, the rest,
 * control); each event goes through core_step(), which steps the model, tells people what happened,
 * writes the records that changed, and only then performs the effects. Words come before records:
 * an exit whose record is written is not told again by keeper, and must not be missing in the log.
 * So whatever a successor of this process finds in the records is what was decided, and
 * what was decided but not done is done again or reported lost.
 * A step without effects outside of this process leaves its record to the next write, at the end
 * of the turn at the latest; frames to keeper that take something back go out behind that.
 *
 * The files between main.c, which comes up and leaves, and those with a header of their own, which need
 * no struct core, know each other in one circle, and that is the turn: the links, sockets and cgroups
 * hand what they hear to core_step() (turn.c), and effect.c hands them what is to be done.
 */
#pragma once

#include "base/base.h"
#include "launch/launch.h"
#include "logd/logd.h"
#include "model/model.h"
#include "unit/units.h"

struct core;
struct unit_core;

/* ---- proc.c: the processes core has asked for ------------------------------------------- */

enum proc_kind { PROC_UNIT, PROC_PROBE };

/* An exit that came before the launcher's word about the start. */
struct early_exit {
	enum kp_row row;
	int32_t pid, code, status;
};
#define EARLY_MAX 8
#define PROBE_SEQ 0x80000000u /* this bit of a spawn_id's seq: an exec: probe */

struct proc {
	struct spawn_id id;
	enum proc_kind kind;
	struct unit *unit;
	int32_t pid;         /* of the program; 0 = not known yet */
	int32_t shim_pid;    /* 0 = none */
	int32_t tracked_pid; /* named by MAINPID= or PIDFile=: it is the main process now */
	bool is_unwatched;   /* that one's end is seen by nobody yet: no descriptor was left */
	bool is_shimmed;     /* keeper's child is a shim, the program is below it */
	bool is_spawned;     /* LN_SPAWNED came */
	bool has_exited;     /* EV_EXITED was said */
	bool child_gone;     /* keeper's child is reaped; a tracked main may live on */
	bool is_timed_out;   /* PROC_PROBE: killed by us */
	uint32_t asked_of; /* the launcher that owes a word about it (its number); 0 = not asked */
	bool is_doubtful;  /* recorded by a core before us; keeper knows nothing of it yet */
	enum exec_kind exec;
	uint32_t index;
	enum check_kind check; /* PROC_PROBE */
	uint64_t number, began_us, timeout_us, deadline_us;
	uint64_t asked_boot_us;    /* PROC_UNIT: it is born after that (boot clock) */
	struct proc *next, **link; /* of its unit, or of the probes */
	struct early_exit *early;  /* EARLY_MAX of them, or NULL */
	/* exits that came before the launcher's word about the start told whose they are */
	unsigned n_early;
};

struct procs {
	struct proc **by_id; /* open addressing */
	size_t n, cap;
	struct proc *probes;
};
struct proc *proc_new(
	struct procs *t, const struct spawn_id *id, enum proc_kind kind, struct unit *u);
struct proc *proc_find(const struct procs *t, const struct spawn_id *id);
struct proc *proc_find_pid(const struct procs *t, int32_t pid); /* program or shim */
struct proc *proc_find_named(const struct procs *t, const struct spawn_id *shim, int32_t pid);
struct spawn_id proc_known_as(const struct unit *u, int32_t pid);
void proc_drop(struct procs *t, struct proc *p);
void procs_done(struct procs *t);

/* ---- store.c: units, sets, revisions ------------------------------------------------------ */

#define FD_STORE_MAX 512

/* Within it a process was started (boot clock). */
struct run_window {
	uint64_t from_us, to_us;
};

/* What core itself keeps of a unit, written behind its struct unit_rec; grows like that only at its end
 * (see record.c). */
struct unit_kept {
	struct run_window main, control;
	uint64_t log_inode; /* of its output pipe; 0 = none */
	uint64_t set_count; /* how many members its set was to have; 0 = none, or not said */
#ifdef STAYD_NEXT
	uint64_t next_field;
#endif
};

struct stored_fd {
	int fd;
	uint32_t number;
	char name[64];
};

/* What a service is told off for, each at most once a second. */
enum notify_fault { NOTIFY_FAULT_MAIN, NOTIFY_FAULT_STORE, NOTIFY_FAULT_MAX };

/* Core's companion of a unit. */
struct unit_core {
	struct core *core;
	struct unit *unit;
	struct proc *procs; /* of it, the newest first; without probes */
	uint32_t slot;      /* of its record; UINT32_MAX = none yet */
	uint64_t record_generation;
	struct unit_kept kept;
	bool is_record_sound;       /* it is written, or was read without a fault */
	bool has_main, has_control; /* taken over from a daemon before this one */
	int32_t left_by_main,
		left_by_control; /* not so: a process that shows that there was one; 0 */
	struct launch_image *image;
	struct unit_conf *image_conf; /* a reference: the conf the image was made from */
	int cgroup_fd;                /* -1 = not made */
	int log_fd;                   /* write end of the log pipe; -1 */
	uint64_t oom_kills;           /* memory.events when last read */
	uint16_t limits_refused;      /* by the cgroup: bits of struct knob in cgroup_limits.c */
	bool waits_empty;
	bool is_cgroup_gone;  /* removed; until it is made again */
	bool is_cgroup_spent; /* cgroup.kill was, or may have been, written: nothing starts in it */
	bool is_empty; /* seen so since its last start: nobody to signal, nothing to look up */
	struct source empty_source; /* cgroup.events while waits_empty */
	int empty_fd;
	uint8_t said_in[16]; /* the activation that STATUS= and ERRNO= are of */
	int said_errno;      /* ERRNO=; 0 = none */
	uint64_t notify_warned_us[NOTIFY_FAULT_MAX];
	struct share notify_share;
	struct stored_fd *fds;
	size_t n_fds, cap_fds;
	uint32_t next_fd_number;
	bool is_logged;       /* the logger knows the stream */
	bool is_kill_refused; /* see cgroup_kill_refused() */
	bool is_unread;       /* not all of its files could be read when they were looked at last */
	bool is_stale; /* runs on settings that its file no longer has; look at it when it is down */
	char *alias_of; /* while it is stale: its file is a link to that unit's; NULL = it is not */
};

struct set_core {
	struct unit_conf
		*conf; /* of the committed revision's first member or the template; a reference */
	uint32_t last_revision;
	int journal_fd;
	uint64_t journal_seq, journal_id;
	bool is_commit_due; /* journal_commit() failed: tried again */
	bool is_count_due;  /* journal_count() did */
	bool is_count_lost; /* the file of it is there, and says nothing: store_recount() */
	bool is_scaled;     /* its count was read from the state directory */
	uint16_t lb_base;   /* wire number of its first load balancer */
	bool has_lb_base;
	unsigned n_lbs_said; /* stay-net knows that many, or will when it comes */
	bool is_conf_new;    /* of a member: its load balancers are told */
};

/* ---- net link: probes and load balancers --------------------------------------------------- */

struct lb_row { /* (lb, server) -> unit, for samples; and what was wanted last, to say it again */
	char key[160];
	struct unit *unit;
	unsigned lb_index;
	struct nt_frame want;
};

/* What the daemon itself lacks, for as long as it does. */
enum trouble {
	TROUBLE_RECORD,
	TROUBLE_STATE,
	TROUBLE_LOG,
	TROUBLE_CGROUP,
	TROUBLE_UNITS,
	TROUBLE_MAX
};
#define TROUBLE_TEXT_MAX 256

struct core {
	struct loop loop;
	struct world *world;
	struct effects fx;
	bool is_stepping;
	struct procs procs;
	struct unit_path path;
	bool has_aliases;            /* some unit has, or had, an alias_of */
	struct unit_conf *last_read; /* in turn last_read_turn: see read_file_of() */
	uint64_t last_read_turn;
	struct launch_caps caps;
	/* where things are */
	char *runtime_dir, *state_dir, *log_dir, *config_path;
	bool can_give_logs_away; /* the logger has a uid of its own */
	bool is_log_volatile;    /* the log directory is in memory: keep less */
	bool is_in_memory; /* no runtime directory can be written: runtime_dir is an abstract name */
	char *notify_path, *control_path;
	char *runtime_root; /* what %t is */
	struct strv start_units;
	bool is_root, is_container, is_init;
	bool logs_to_console;
	bool is_restoring; /* records and journals of the core before this one are being read */
	/* links */
	int keeper_fd, launcher_fd, logger_fd, net_fd, launcher_pidfd;
	struct source keeper_source, launcher_source, logger_source, net_source, notify_source,
		listen_source;
	struct source log_source; /* of our own lines, while they wait for room */
	int notify_fd, control_fd;
	unsigned notify_queue; /* messages that the kernel holds at most */
	struct share notify_flood;
	uint64_t notify_rest_us; /* until then its socket is not listened to; 0 = it is */
	struct control *control;
	pid_t keeper_pid, role_pid[ROLE_MAX];
	uint32_t restarts_of_core;
	bool role_is_stale[ROLE_MAX]; /* it runs the program of before a re-exec */
	struct {
		struct source source; /* of a trial: its pidfd */
		int program;          /* tried; -1 none */
		const char *state;
		char *text;
		uint32_t count;
		int error;    /* of the last one: it came back */
		bool is_news; /* we are the first core since */
	} reexec;
	uint64_t started_us, started_wall_us;
	uint32_t launchers;  /* connected so far: the number of the newest */
	uint32_t n_asked;    /* starts the launcher has not answered yet */
	uint64_t n_answered; /* starts the launcher has answered in our life */
	/* Does the launcher get on? Looked at when it was asked for something; 0: not. */
	uint64_t launcher_look_us, n_answered_then;
	bool is_launcher_pinged;
	uint64_t
		notify_hold_until; /* of n_answered: see notify.c; 0 = not holding for a stranger */
	bool notify_is_held;       /* until it has: see notify.c */
	unsigned notify_looks;     /* in a row that could not tell whose a process is */
	uint64_t relist_at_us;     /* when to ask keeper for its list: a launcher died; 0 = not */
	bool is_relisting;
	bool is_launcher_synced; /* at our start: all that was asked for before us is born or failed */
	bool net_wanted, logger_wanted;
	uint64_t log_sync, log_sync_until_us; /* the last LG_SYNC; 0 = not waiting for its answer */
	/* records */
	int record_fd;
	uint32_t n_slots, record_stride;
	bool is_record_in_file;  /* not in a memfd */
	bool is_record_parked;   /* in one all the same, until the file can be written anew */
	bool is_record_foreign;  /* another version's: read, not yet written anew */
	bool is_record_lost;     /* some or all of it could not be read */
	unsigned n_unread_cores; /* before us, that could not read everything in the end */
	/* while coming up: copies of records; files of the state directory that we may not read */
	unsigned n_records_unread, n_state_unread;
	bool is_incomplete; /* came up without some of the units' files: another core once they are there */
	bool has_begun_partly;    /* a core before us did, and started what it saw */
	struct strv unread_names; /* to be started, and not known to be there or not */
	uint64_t unread_at_us,
		unread_wait_us; /* when to look at what is unread again; 0 = nothing is */
	uint64_t again_us;      /* when to try again what lacked something; 0 = nothing */
	char trouble[TROUBLE_MAX][TROUBLE_TEXT_MAX]; /* "": none; shown by status */
	int lock_fds[2];     /* of the runtime and the state directory; -1 */
	bool is_dir_unsafe;  /* others can write the runtime or the state directory */
	bool has_state_dir;  /* it can be written */
	bool had_holder;     /* a stayd was here in this boot and did not end in order */
	bool is_keeper_anew; /* it was here as another program, and knows nothing of that */
	bool is_first;       /* no core of our keeper has taken over what there was before it */
	struct id128 boot;
	/* cgroups */
	struct {
		char *file; /* which counts what the kernel kills; NULL: there is none */
		const char *limit;
		struct source source; /* the kernel tells when it grows; not of older hierarchies */
		uint64_t seen, at_us; /* what it said last; when it had grown */
		uint64_t left;        /* of those, who nobody was seen to be */
	} memory;
	char *cgroup_base; /* NULL: no writable cgroup v2: shims */
	char *cgroup_path; /* the same as /proc/PID/cgroup has it, which shows another part of the tree */
	int cgroup_base_fd;
	struct strv cgroup_controllers;
	/* spawns that found the launcher's socket full */
	struct pending_spawn {
		struct unit *unit;
		enum exec_kind exec;
		uint32_t index;
		struct spawn_id id;
	} * pending;
	size_t n_pending, cap_pending, head_pending;
	struct spawn_id *probes; /* exec: probes that wait for a place or for the launcher */
	size_t n_probes, cap_probes, head_probes, n_probes_asked;
	struct map lb_rows;     /* "lb/server" -> struct lb_row */
	struct map port_owners; /* port -> struct owner, who was given it last */
	uint16_t next_lb;
	uint64_t next_request;
	uint64_t heartbeat_us;
	bool is_exiting;
	bool is_shutdown_kept; /* keeper has the deposit that says so */
	bool tracking_is_forced_shim;
	uint64_t stop_budget_len_us; /* 0 = none: units' own timeouts only */
	uint64_t stop_budget_us;     /* when it is spent; 0 = not stopping */
};

static inline struct unit_core *uc(const struct unit *u)
{
	return u->core;
}
static inline struct set_core *sc(const struct set *s)
{
	return s->core;
}

/* options.c: paths and flags of struct core */
int options_parse(struct core *c, int argc, char **argv);
/* Those that cannot be made or written are done without; is_dir_unsafe is for core_come_up(). */
int options_make_dirs(struct core *c);

/* turn.c */
#define SHUTDOWN_DEPOSIT "shutdown/"              /* and "CODE/HOW" */
void core_step(struct core *c, struct event *ev); /* fills in the time; performs the effects */
void core_arm(struct core *c);
void core_again(struct core *c); /* comes back soon to what could not be done now */
/* text: in words, with what to do; NULL: it is over. Said when it begins and when it ends. */
void core_trouble(struct core *c, enum trouble kind, const char *text);
void core_on_timer(struct loop *l);
void core_before_wait(struct loop *l);

/* effect.c */
void core_tell(struct core *c, const struct effects *fx); /* before the records are written */
void core_perform(struct core *c, const struct effects *fx);
bool core_acts(const struct effects *fx); /* the records are to be written before */

/* actions.c: what the control verbs may ask (control.h); the rest of it stands with its files below */
struct control_daemon;
extern const struct control_daemon daemon_for_control;
int core_submit(struct core *c, const struct request *r);

/* privileges.c */
void core_each_unconfined(
	struct core *c, void (*each)(void *arg, const char *process, const char *why), void *arg);

/* reexec.c */
int core_reexec(struct core *c, const char *path, const char *actor, struct err *e);
void reexec_welcomed(struct core *c);
void reexec_refused(struct core *c, const char *why);
void reexec_forgot(struct core *c);

/* keeper.c */
int keeper_connect(struct core *c); /* HELLO ... WELCOME; fills links, deposited fds, children */
int keeper_put(struct core *c, const char *name, int fd);
void keeper_drop(struct core *c, const char *name);
void keeper_signal(struct core *c, const struct spawn_id *id, int signo);
void keeper_track(struct core *c, const struct spawn_id *id, pid_t pid);
void keeper_forget(struct core *c, const struct spawn_id *id, pid_t pid); /* pid 0: all of the id */
void keeper_role(struct core *c, enum role role, bool is_wanted);
void keeper_exit(struct core *c, int code, const char *how); /* exit, reboot, poweroff */
void keeper_reexec(struct core *c, int program_fd); /* takes it; -1: the present program again */
void keeper_flush(struct core *c);                  /* what was put off to the end of the turn */
void keeper_relist(struct core *c);
void keeper_watch_again(struct core *c); /* main processes that there was no descriptor for */
void proc_ended(struct core *c, struct proc *p, enum kp_row row, pid_t pid, int code, int status);
#define EXIT_UNKNOWN (-1) /* in place of a CLD_*: it has ended, the kernel does not tell how */
void keeper_child_exited(struct core *c, const struct kp_frame *f);
void keeper_signalled(struct core *c, int signo); /* keeper itself was, for the daemon */
/* The pids that keeper knows of a child. False: a shim that has not started its program. */
bool proc_take_pids(struct proc *p, const struct kp_frame *f);
void proc_early(struct core *c, const struct spawn_id *id); /* the launcher has spoken, or died */
bool main_is_named(
	struct unit *u, pid_t pid); /* after EV_MAIN_PID was stepped, before the record */
void main_pid_changed(struct core *c, struct unit *u, pid_t pid); /* behind the record */

/* keeper_adopt.c: what keeper held for us */
void keeper_know(const struct kp_frame *f); /* as if keeper had listed it; before adoption begins */
void deposit_keep(const char *name, int fd);
void keeper_unlearn(void);          /* all of it will be told again */
int deposit_take(const char *name); /* before the records are restored; -1 = none */
/* The first whose name begins so, and its name. */
int deposit_take_like(const char *prefix, char ret_name[KP_NAME_MAX]);
/* Deposits, and what the records say; before EV_RESTORED. */
void keeper_adopt_begin(struct core *c);
void keeper_adopt(struct core *c); /* children of before, after the records are restored */
void keeper_keep_shim(struct core *c, struct unit *u, const struct spawn_id *id, pid_t shim);
void keeper_keep_former(struct core *c, struct unit *u, const struct kp_frame *f);

/* unread.c */
/* Leaves coming up to another core, unless max of them in a row did that already: true = leave. Then what
 * can be had has to do. */
#define READ_AGAIN_MAX   10
#define RECORD_AGAIN_MAX 30 /* without records services are taken over by guess */
bool core_may_try_again(struct core *c, unsigned max);
void unread_count_cores(struct core *c);
void unread_forget_cores(struct core *c); /* everything is read */

/* lookup.c: fds[0] is what the launcher's child writes its answer to */
int launcher_ask(struct core *c, uint32_t flags, const void *text, size_t size, const int *fds,
	size_t n_fds);
int core_getent(void *arg, const char *database, const char *name, int fd);
int core_remove(void *arg, int dir, const char *name);

/* launcher.c */
void launcher_connected(struct core *c, int fd);
void launcher_hold_lock(struct core *c);  /* as long as it can start processes: lock.c */
int launcher_sync(struct core *c);        /* blocks, bounded: see keeper_connect() */
void launcher_words_lost(struct core *c); /* of launchers before the present one */
bool launcher_word_is_lost(const struct core *c, const struct proc *p);
void launcher_relist_later(struct core *c);
void launcher_watch(struct core *c);
uint64_t launcher_watch_deadline(const struct core *c);
void launcher_listed(struct core *c); /* keeper has told again who lives: ask again for the rest */
void launcher_replay(struct core *c); /* what it answered meanwhile */
void launcher_spawn(struct core *c, struct unit *u, enum exec_kind exec, uint32_t index,
	const struct spawn_id *id);
/* Made when there is none yet; NULL: impossible. */
const struct launch_image *launcher_image(struct core *c, struct unit *u);
void launcher_image_forget(struct unit *u);
void launcher_probe(struct core *c, struct unit *u, enum check_kind check, uint64_t number,
	uint64_t timeout_us);
void launcher_probe_over(struct core *c, struct proc *p);
void launcher_probe_timeouts(struct core *c);
uint64_t launcher_probe_deadline(const struct core *c);

/* record.c */
int record_open(struct core *c, int deposited_fd);
int record_clear(struct core *c);
int record_write(struct core *c, struct unit *u); /* -errno: said, and tried again */
void record_write_dirty(struct core *c);          /* all that changed */
/* is_sound: the other copy was not damaged, so this is the newest. */
typedef void record_fn(struct core *c, uint32_t slot, uint64_t generation, const char *name,
	const struct unit_rec *r, const struct unit_kept *kept, bool is_sound);
void record_each(struct core *c, record_fn *fn); /* for each valid record of this boot */
void record_window(const struct proc *p); /* it was asked for at asked_boot_us and is born by now */
void record_main_named(struct unit *u, pid_t pid); /* MAINPID= and the like */
int record_settle(struct core *c);                 /* all are in: from now on in our own layout */

/* lock.c */
int lock_take(struct core *c);   /* -EBUSY: another daemon has it, and that was said */
void lock_leave(struct core *c); /* everything is stopped; the lock goes with our last process */

/* adopt.c: processes that a keeper before ours has started */
void adopt_find(struct core *c);     /* once, between the records and keeper_adopt_begin() */
void adopt_required(struct core *c); /* behind that: what units without a record depend on */
bool adopt_deposit(struct core *c, const char *name, int fd); /* false: not one of these */
bool adopt_forget(struct core *c, const struct spawn_id *id, pid_t pid);
bool adopt_signal(const struct spawn_id *id, int signo, int then); /* then: 0 = no second one */
/* 1: its end is told by here; 0: keeper tells, or a shim; -errno: not now. */
int adopt_track(struct core *c, const struct spawn_id *id, pid_t pid);
bool adopt_is_main(struct core *c, const struct unit *u);
bool adopt_stray(struct core *c, const struct kp_frame *f);

/* store.c; core_*() as in struct control_daemon */
struct unit *core_load_unit(struct core *c, const char *name, struct err *e);
bool core_unit_is_unread(const struct unit *u);
bool core_unit_is_outdated(const struct unit *u);
struct set *core_find_set(struct core *c, const char *name, struct err *unread);
int store_load_closure(struct core *c);
void store_attach(struct core *c, struct unit *u);
void store_load_sets(struct core *c);
void store_look_later(struct core *c);

/* store_restore.c */
struct unit *store_restore_unit(struct core *c, const char *name, const struct unit_rec *r);
struct unit *store_restore_former(
	struct core *c, const char *name, const char *of, const struct unit_rec *r);
void store_restore_counts(struct core *c);
void store_restore_rollouts(struct core *c);
void store_recount(struct core *c); /* sets whose number of members is lost: by who is there */
void store_committed(struct core *c, struct set *s);

/* store_reload.c */
int core_daemon_reload(struct core *c, const char *actor, struct buf *notes, struct err *e);
int store_reload(struct core *c, struct buf *notes);
bool store_is_unread(struct core *c); /* is something not known that may be there? */
void store_look_again(struct core *c);

/* deploy.c */
int core_scale(struct core *c, struct set *s, unsigned count, uint64_t request, const char *actor,
	struct err *e);
int core_deploy(struct core *c, struct set *s, const char *release, unsigned pause_after,
	uint64_t request, const char *actor, struct err *e);
int core_undo(struct core *c, struct set *s, uint32_t revision, uint64_t request, const char *actor,
	struct err *e);

/* journal.c */
void journal_write(struct core *c, struct set *s, const char *text);
void journal_count(struct core *c, struct set *s);  /* how many members are wanted */
void journal_commit(struct core *c, struct set *s); /* current revision + release, ReleaseLink */
/* Snapshots of revisions that came to nothing: only the newest stay, as of those that were committed. */
void journal_prune_failed(struct core *c, const struct set *s);
void journal_again(struct core *c); /* commits that could not be written */
int journal_last(struct core *c, struct set *s, struct rollout_rec *ret);
int journal_last_done(struct core *c, const char *set, struct rollout_rec *ret);
#define HISTORY_MAX 100
int core_history(struct core *c, struct set *s,
	void (*each)(void *arg, const struct rollout_rec *rec), void *arg);

/* state.c: small files of the state directory */
char *state_dir_of(const struct core *c, const char *set, const char *below);
int state_read(
	struct core *c, const char *set, const char *file, struct buf *ret); /* said if < 0 */
int state_read_number(struct core *c, const char *set, const char *file, uint32_t *ret);
int state_write(struct core *c, const char *set, const char *file, const char *text);

/* memory.c */
void memory_begin(struct core *c);
/* One of u's processes was ended by SIGKILL, is_own: by the limit of its unit. Was that the kernel, for the
 * memory of all of us together? Then it is said. */
bool memory_killed(struct core *c, const struct unit *u, bool is_own);

/* cgroup_place.c: where our cgroups are */
/* The daemon's own, of cgroup2 or of a controller's older hierarchy; NULL: none is to be seen here. */
char *cgroup_own_dir(const char *controller);
int cgroup_setup(struct core *c); /* -errno: another core should try */
void cgroup_done(struct core *c);

/* cgroup_limits.c */
/* Limits that are asked for and not set here. */
void cgroup_each_degraded(struct core *c, const struct unit *u,
	void (*each)(void *arg, const struct degraded *d), void *arg);
/* Has the kernel killed a process of the unit for lack of memory since this was last asked? */
bool cgroup_oom_killed(struct core *c, struct unit *u);

/* cgroup.c: the processes of a unit */
int cgroup_open_unit(struct core *c, struct unit *u, struct err *e); /* fd; made when missing */
int cgroup_fd_of(struct core *c, struct unit *u);
void cgroup_remove_unit(struct core *c, struct unit *u);
bool cgroup_is_frozen(struct core *c, struct unit *u);
void cgroup_check_empty(struct core *c, struct unit *u);
void cgroup_check_again(struct core *c); /* what could not be watched before */
/* The only process of the unit, as GuessMainPID= wants it; 0 = none or several. */
int32_t cgroup_only_process(struct core *c, struct unit *u);
struct unit *cgroup_unit_of(struct core *c, pid_t pid); /* by cgroup, else by descent */
void cgroup_path_of(const struct core *c, const struct unit *u, struct buf *out);
#define CGROUP_PROCS_MAX (1024 * 1024)
char *cgroup_unit_name(struct core *c, pid_t pid); /* of its cgroup below ours; NULL: elsewhere */
size_t tree_pids(pid_t root, pid_t **ret);         /* root and what is below it, breadth first */

/* cgroup_kill.c */
void cgroup_kill(struct core *c, struct unit *u, enum kill_who who, int signo);
/* Keeper was not let send it a signal; the last one of a stop is sent again until it is. */
void cgroup_kill_refused(struct core *c, const struct spawn_id *id, int error);
void cgroup_kill_again(struct core *c);

/* notify.c */
int notify_open(struct core *c, int deposited_fd);
void notify_drain(struct core *c);                             /* before an exit is handled */
void notify_release(struct core *c);                           /* the launcher has answered */
void notify_rested(struct core *c);                            /* at notify_rest_us */
void notify_forget(struct unit *u, const struct spawn_id *id); /* what another activation said */
void fdstore_restore(struct core *c, struct unit *u, uint32_t number, const char *name, int fd);
void fdstore_clear(struct core *c, struct unit *u);

/* port.c */
void port_owners_begin(struct core *c); /* once the records are restored */
int port_allocate(struct core *c, struct unit *u);

/* netlink.c: the link to stay-net */
void net_connected(struct core *c, int fd);
void net_probe(struct core *c, struct unit *u, enum check_kind check, uint64_t number,
	uint64_t timeout_us, const char *target);
void net_lb_want(struct core *c, struct unit *u, enum lb_state state, unsigned weight);
void net_lb_forget(struct core *c, struct unit *u);
void net_lb_fast(struct core *c, struct set *s, uint64_t for_ms);
void net_set_configure(struct core *c, struct set *s);

/* logdir.c: the log directory, made and handed over to the logger; a descriptor or -errno */
int logdir_open(struct core *c);

/* loglink.c: the link to the logger */
void logger_connected(struct core *c, int fd);
int logger_stream(struct core *c, struct unit *u); /* write end for the unit's output; -1: none */
void logger_adopt(struct core *c, struct unit *u, int read_fd);
void logger_regain(
	struct core *c, struct unit *u, pid_t pid); /* from a process that writes to it */
bool logger_sync(struct core *c);                   /* see struct control_daemon */
void logger_sync_over(struct core *c);
void logger_note(struct core *c, struct unit *u, const char *text);

/* release.c: variables and paths of a start */
struct start_vars {
	struct strv env;
	char *release_dir;
};
void start_vars_make(struct core *c, struct unit *u, enum exec_kind exec, const struct spawn_id *id,
	struct start_vars *ret);
void start_vars_done(struct start_vars *v);
char *expand_variables(
	struct core *c, struct unit *u, const char *text); /* ${PORT} ${INSTANCE} ${RELEASE} ... */
