/* SPDX-License-Identifier: Apache-2.0 */
/* What a client waits for: data of waits.c and logs.c. client.c looks at the kind alone, which says how the
 * client is to be sent to. */
#pragma once

#include "model/model.h"

enum wait_kind {
	WAIT_NONE,
	WAIT_OUTCOMES, /* requests of this client are under way */
	WAIT_STATE,    /* the verb wait */
	WAIT_ROLLOUT,
	WAIT_EVENTS,
	WAIT_LOGS,
};

struct outcome {
	uint64_t request;
	char *name;
	struct unit *unit; /* NULL for a set */
	struct set *set;
	bool is_done;
	enum reply_result result;
	char *text;
};

/* What a client waits for; one thing at a time, as varlink answers in order. */
struct waiting {
	enum wait_kind kind;
	bool is_collecting; /* the handler is still adding outcomes */
	bool is_streaming;  /* more: send progress */
	bool has_synced;    /* the logger was asked for the last words of what failed ... */
	bool awaits_logs;   /* ... and has not answered */
	struct outcome *v;
	size_t n, cap, n_done;
	struct set *watch; /* WAIT_OUTCOMES of a deploy, WAIT_ROLLOUT */
	uint64_t request;
	struct strv names; /* filter of events */
	int state_for;     /* enum wait_for */
	struct log_follow *logs;
};
