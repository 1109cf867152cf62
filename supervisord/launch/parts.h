/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of launch/ tell each other; launch.h is what others see. */
#pragma once

#include "launch.h"
#include "plan.h"

/* ---- core's side: may allocate, reads files ---- */

/* env.c */
bool env_name_is_valid(const char *s, size_t size);
const char *env_get(const struct strv *env, const char *name, size_t size);
void env_put(struct strv *env, const char *assignment); /* replaces one of the same name */
void env_unset(struct strv *env, const char *what);     /* "NAME" or "NAME=value" */
/* systemd's env-file syntax. -EINVAL with "file:line: ..." in e. */
int env_parse_file(
	const char *file, const char *text, size_t size, struct strv *env, struct err *e);
int env_build(const struct launch_image *image, const struct launch_vars *v, struct strv *env,
	struct err *e);
/* Command line of cmd against env, appended to argv. */
int argv_expand(const struct exec_cmd *cmd, const struct strv *env, struct strv *argv);
/* Replaces the path prefix link by dir wherever a path begins in s; malloc'ed. */
char *release_replace(const char *s, const char *link, const char *dir);

/* users.c: files first, then getent. -ESRCH unknown, -EINVAL not a name, -ETIMEDOUT. */
struct user_entry {
	uint32_t uid, gid;
	char *name, *home, *shell; /* in the arena; home and shell NULL when of no use */
};
int user_lookup(struct arena *a, const char *name, struct user_entry *ret, struct err *e);
/* Changes when one of the files does. */
uint64_t users_stamp(void);
int group_lookup(const char *name, uint32_t *ret_gid, struct err *e);
/* Every group that lists user, and base itself. */
int user_groups(struct arena *a, const char *user, uint32_t base, uint32_t **ret, size_t *ret_n);

/* seccomp.c */
bool filter_is_wanted(const struct exec_sandbox *s);
/* The programs are the cache's; give them back with filter_put(). */
int filter_get(
	const struct exec_sandbox *s, struct bpf_program *ret, size_t *ret_split, struct err *e);
void filter_put(struct bpf_program *p);
size_t filters_cached(void); /* entries; for tests */

/* mounts.c: the list of steps, sorted; and what the Landlock stand-in allows. */
struct mount_list {
	struct mount_step {
		enum mount_op op;
		unsigned flags;
		char *src, *dst; /* malloc'ed */
	} * v;
	size_t n, cap;
};
bool sandbox_needs_mounts(const struct exec_conf *c);
int mounts_build(const struct unit_conf *conf, const struct launch_vars *v, struct mount_list *ret,
	struct err *e);
void mounts_done(struct mount_list *l);

/* ---- the child's side: system calls only ---- */

/* clone.c: pid or -errno; the child calls fn on the stack that *a names, and never comes back. */
struct clone_args;
struct child;
long clone3_raw(struct clone_args *a, void (*fn)(struct child *), struct child *c);

/* What the child leaves for the launcher: by shared memory (vfork) or by the error pipe. */
enum report_kind { REPORT_FAILED = 1, REPORT_PROGRAM, REPORT_AT_EXEC };
struct report {
	int32_t kind;
	int32_t stage, error; /* REPORT_FAILED */
	int32_t pid;          /* REPORT_PROGRAM: the shim's child */
	char detail[192];
};

struct child {
	struct plan *plan;
	const struct spawn_id *id;
	int keeper_fd;
	int null_fd;
	int report_fd;             /* -1: report is in shared memory */
	volatile uint8_t *is_born; /* the launcher's, to be set when the keeper knows us; or NULL */
	int std[3];                /* received, -1: as the plan says */
	int cgroup_procs_fd;       /* -1: already there */
	pid_t shim_pid;            /* 0: none above */
	const int *pass;
	struct report report;
	char *const *argv, *const *envp;
};
/* Everything from the new process' first instruction to its exec. */
_Noreturn void child_main(struct child *c);
/* Fills in c->report and sends it if there is a pipe; returns -error. */
int child_fail(struct child *c, int stage, int error, const char *detail);
int tell_keeper_born(struct child *c);
/* shim.c */
_Noreturn void shim_main(struct child *c);
/* open.c: as launch_open(), or else with the rights of the plan's user */
int child_open(struct plan *p, const char *path, int flags);
/* dirs.c */
int child_make_dirs(struct child *c);
void dir_remove(int at, const char *name); /* also of core's side; allocates */
/* sandbox.c */
int child_enter_namespaces(struct child *c);
int child_enter_userns(struct child *c);
int child_build_mounts(struct child *c);
/* Becomes the program; sets c->report before anything else can go wrong. */
_Noreturn void child_run(struct child *c);
int child_report(struct child *c);
void child_die_with_shim(const struct child *c);

/* base of the capability numbers we know; the kernel's own may be higher */
#define CAP_BIT(c) (1ULL << (c))
