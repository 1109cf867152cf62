/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The change of program, as far as it is core's: the trial before, the news of it afterwards.
 *
 *  1. Keeper is asked to become nothing that has not said, in a child of the launcher's, that it runs
 *     here and reads the state keeper would hand over. One trial at a time, killed after 5 s.
 *  2. What came of it is in status until the next one: whoever asked looks there, as the core that
 *     could answer is gone by then.
 *
 * Called by the verb and by keeper.c (what keeper says of it).
 */
#include "control/control.h"
#include "core/inner.h"

#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/wait.h>

#include "keeper/keeper.h"
#include "table/table.h"

static void set_outcome(struct core *c, const char *state, const char *text)
{
	free(c->reexec.text);
	c->reexec.state = state;
	c->reexec.text = xstrdup(text);
}

void reexec_refused(struct core *c, const char *why)
{
	log_error(NULL, "re-exec refused: %s; nothing was replaced", why);
	set_outcome(c, "refused", why);
	if (c->control)
		control_reexec_refused(c->control, why);
	c->reexec.program = fd_close(c->reexec.program);
}

/* Keeper has said how we came to be: the first core of a program finds the roles of the one before. */
void reexec_welcomed(struct core *c)
{
	bool is_first = c->role_is_stale[ROLE_LAUNCHER];
	c->reexec.is_news = is_first;
	c->reexec.program = c->reexec.source.fd = -1;
	if (c->reexec.error) {
		set_outcome(c, "returned",
			"the new program's core did not come up: this is the previous program again");
		if (is_first)
			log_error(NULL, "re-exec: %s", c->reexec.text);
		return;
	}
	set_outcome(c, c->reexec.count ? "done" : "", "");
	if (is_first)
		log_note(NULL, "re-exec: stayd %s took over", STAYD_VERSION);
}

/* Nothing that keeper knew came along, not even how many programs there were. */
void reexec_forgot(struct core *c)
{
	set_outcome(c, "forgotten",
		"the new program could not read what the keeper knew: services were found again");
	log_warn(NULL, "re-exec: %s", c->reexec.text);
}

/* The wait status of the trial, or the end of the pipe. */
static void on_trial(struct source *s, uint32_t events UNUSED)
{
	struct core *c = container_of(s, struct core, reexec.source);
	char why[160];
	int status = 0;
	ssize_t n = read(s->fd, &status, sizeof(status));
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	int fd = s->fd;
	loop_remove(&c->loop, s);
	s->fd = fd_close(fd);
	if (n == sizeof(status) && WIFEXITED(status) && WEXITSTATUS(status) == KEEPER_TRIAL_OK) {
		keeper_reexec(c, TAKE_FD(c->reexec.program));
		return;
	}
	if (n != sizeof(status))
		snprintf(why, sizeof(why), "the program could not be tried; ask again");
	else if (WIFEXITED(status))
		snprintf(why, sizeof(why),
			"the program is no stayd that can take over from this one (its trial ended with %d)",
			WEXITSTATUS(status));
	else
		snprintf(why, sizeof(why), "the trial of the program was ended by %s",
			strna(signal_name(WTERMSIG(status))));
	reexec_refused(c, why);
}

static int trial_begin(struct core *c)
{
	char version[16];
	int p[2];
	(void)put_number(version, STATE_VERSION);
	if (pipe2(p, O_CLOEXEC | O_NONBLOCK) < 0)
		return -errno;
	const int fds[] = {p[1], c->reexec.program};
	int r = launcher_ask(c, LN_TRIAL, version, strlen(version) + 1, fds, ARRAY_SIZE(fds));
	fd_close(p[1]);
	if (r == 0)
		r = loop_add(&c->loop, &c->reexec.source, p[0], EPOLLIN, PRIO_NORMAL, on_trial);
	if (r < 0)
		fd_close(p[0]);
	return r;
}

int core_reexec(struct core *c, const char *path, const char *actor, struct err *e)
{
	if (c->reexec.program >= 0)
		return err_set(e, -EBUSY, "another program is being tried");
	log_note(NULL, "re-exec asked for by %s", actor);
	set_outcome(c, "trying", "");
	if (!path) {
		keeper_reexec(c, -1);
		return 0;
	}
	c->reexec.program = open(path, O_PATH | O_CLOEXEC);
	int r = c->reexec.program < 0 || access(path, X_OK) < 0 ? -errno : trial_begin(c);
	if (r == 0)
		return 0;
	reexec_refused(c, errno_name(r));
	return err_set(e, r, "%s: %s", path, errno_name(r));
}
