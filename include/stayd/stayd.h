/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Version, limits and exit codes shared by every part of stayd.
 *
 * A limit stands here once, with what happens when it is reached; nothing in the tree is
 * unbounded. Sizes are bytes and times are microseconds unless the name says otherwise.
 */
#pragma once

#ifndef STAYD_NEXT
#define STAYD_VERSION "0.1.0"
#else /* make NEXT=1: a later version as the tests of upgrades need one */
#define STAYD_VERSION "0.1.0+next"
#endif

/* Names. A unit name longer than this is refused by the loader (systemd: UNIT_NAME_MAX). */
#define UNIT_NAME_MAX    255
#define RELEASE_NAME_MAX 63

/* A line of a unit file after joining continuations (systemd: LONG_LINE_MAX). */
#define UNIT_LINE_MAX (1024 * 1024)
/* A whole unit file or drop-in; larger ones are refused with a diagnostic. */
#define UNIT_FILE_MAX (16 * 1024 * 1024)

/* Units in one daemon; the loader refuses further ones. */
#define UNITS_MAX 16384
/* Members of one replica set, surge included. */
#define SET_MEMBERS_MAX 256
/* Load balancers behind one set. */
#define SET_LBS_MAX 8

/* Keeper's table of children; the launcher's request is answered with EAGAIN beyond it. */
#define KEEPER_CHILDREN_MAX 32768
/* Descriptors deposited with the keeper; a deposit beyond it is refused with ENOSPC. */
#define KEEPER_FDS_MAX 8192

/* Control protocol: one message; nesting; open connections in total and per uid. */
#define CONTROL_MESSAGE_MAX     (64 * 1024)
#define CONTROL_REPLY_MAX       (8 * 1024 * 1024)
#define CONTROL_DEPTH_MAX       16
#define CONTROL_CLIENTS_MAX     256
#define CONTROL_CLIENTS_UID_MAX 64
/* Of these the last ones are for admins, so that many users together cannot shut them out, ... */
#define CONTROL_CLIENTS_ADMIN 32
/* ... and guests have at most so many. */
#define CONTROL_CLIENTS_GUEST 128
/* Answers that wait to be read by one user's clients; further large ones are refused. */
#define CONTROL_UNREAD_UID_MAX (16 * 1024 * 1024)
/* A message must be complete that long after its first byte; else the client is closed. */
#define CONTROL_IDLE_US (5 * 1000000ULL)
/* A client that takes nothing of its answer for this long is closed; those who follow are not. */
#define CONTROL_STALL_US (30 * 1000000ULL)

/* The audit log: bytes of one file and how many are kept, the current one included. */
#define AUDIT_FILE_MAX  (8 * 1024 * 1024)
#define AUDIT_FILES_MAX 16

/* What users and groups outside of a user namespace look like from within: they are nobody's. */
#define OVERFLOW_ID 65534

/* Exit codes of stayctl beyond the LSB ones (LSB keeps 150-199 for the application). */
enum stay_exit {
	STAY_EXIT_OK = 0,
	STAY_EXIT_FAILED = 1,
	STAY_EXIT_USAGE = 2,
	STAY_EXIT_NOT_RUNNING = 3,   /* status verbs; for action verbs: unimplemented */
	STAY_EXIT_NOT_PERMITTED = 4, /* action verbs; for status verbs: no such unit */
	STAY_EXIT_NOT_FOUND = 5,
	STAY_EXIT_NOT_CONFIGURED = 6,
	STAY_EXIT_UNIT_NOT_RUNNING = 7,
	STAY_EXIT_ROLLED_BACK = 150,
	STAY_EXIT_HALTED = 151,
	STAY_EXIT_REFUSED = 152,
	STAY_EXIT_TIMED_OUT = 153,
	STAY_EXIT_UNREACHABLE = 154,
	STAY_EXIT_ALREADY_RUNNING = 155, /* stayd itself: another one works in its directories */
};

/* Exit statuses of a child that failed before its exec; systemd's EXIT_* numbers, so that
 * "status=203/EXEC" means the same to everybody (systemd.exec(5), "Process exit codes"). */
enum exec_exit {
	EXIT_CHDIR = 200,
	EXIT_NICE = 201,
	EXIT_FDS = 202,
	EXIT_EXEC = 203,
	EXIT_MEMORY = 204,
	EXIT_LIMITS = 205,
	EXIT_OOM_ADJUST = 206,
	EXIT_SIGNAL_MASK = 207,
	EXIT_STDIN = 208,
	EXIT_STDOUT = 209,
	EXIT_CHROOT = 210,
	EXIT_IOPRIO = 211,
	EXIT_TIMERSLACK = 212,
	EXIT_SECUREBITS = 213,
	EXIT_SETSCHEDULER = 214,
	EXIT_CPUAFFINITY = 215,
	EXIT_GROUP = 216,
	EXIT_USER = 217,
	EXIT_CAPABILITIES = 218,
	EXIT_CGROUP = 219,
	EXIT_SETSID = 220,
	EXIT_CONFIRM = 221,
	EXIT_STDERR = 222,
	EXIT_PAM = 224,
	EXIT_NETWORK = 225,
	EXIT_NAMESPACE = 226,
	EXIT_NO_NEW_PRIVILEGES = 227,
	EXIT_SECCOMP = 228,
	EXIT_SELINUX_CONTEXT = 229,
	EXIT_PERSONALITY = 230,
	EXIT_APPARMOR_PROFILE = 231,
	EXIT_ADDRESS_FAMILIES = 232,
	EXIT_RUNTIME_DIRECTORY = 233,
	EXIT_CHOWN = 235,
	EXIT_KEYRING = 237,
	EXIT_STATE_DIRECTORY = 238,
	EXIT_CACHE_DIRECTORY = 239,
	EXIT_LOGS_DIRECTORY = 240,
	EXIT_CONFIGURATION_DIRECTORY = 241,
	EXIT_CREDENTIALS = 243,
};
