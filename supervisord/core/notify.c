/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The notification socket (sd_notify(3)) and the descriptor store.
 *
 *  1. A message counts only for the unit its sender belongs to, by the kernel's credentials and
 *     the unit's cgroup (or shim): never by what the message says.
 *  2. MAINPID= must name a process of the same unit (the class of CVE-2018-16888).
 *  3. A turn gives messages NOTIFY_TURN_US, and one message at least: who floods the socket waits
 *     longer for us, and others' exits and starts are handled in between. Before an exit is
 *     handled as many are read as the kernel can have held then, and not those that a flood puts
 *     into their places meanwhile.
 *     A unit that says more than its share, and who is nobody's, have a share of our time together.
 *     Beyond that the socket rests for some ms: the flood waits in the kernel, and others with it.
 *  4. Stored descriptors are deposited with keeper before they count.
 *  5. A program may speak before the launcher's word of its pid is read. Its message then stays in
 *     the socket, with those behind it, until that word came: otherwise READY=1 would begin
 *     ExecStartPost= without $MAINPID, and a core killed in between would have lost it.
 *  6. A message leaves the socket when what it changed is recorded, not before: a core killed in
 *     between would leave a service that said READY=1 waiting for its start's time limit. So its
 *     successor may hear a message a second time; a descriptor that is stored already is not stored
 *     again.
 *  7. A message stays there, too, while it cannot be seen whose its sender or its MAINPID= is (no
 *     descriptor left): LOOKS_MAX times, and then no other does until that works again.
 */
#include "core/inner.h"

#include <fcntl.h>
#include <linux/kcmp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>

#define NOTIFY_BATCH   64 /* before an exit, however long the queue is made */
#define NOTIFY_TURN_US 150
#define NOTIFY_MAX     4096
/* Thousand messages a second of one unit, about; and of those that say more. */
#define UNIT_SHARE  ((struct share_size){.percent = 3, .max_us = 1000})
#define FLOOD_SHARE ((struct share_size){.percent = 10, .max_us = 500})
#define STATUS_MAX  512
/* Comparisons of one message's descriptors with the stored ones; those beyond count as new. */
#define SAME_FILE_MAX 1024
/* What is refused is said at most so often, of one unit and one kind. */
#define NOTIFY_WARN_US USEC_PER_SEC
#define LOOKS_MAX      50
#define LOOK_US        (20 * USEC_PER_MSEC)

struct message {
	char text[NOTIFY_MAX + 1];
	struct ucred cred;
	int fds[FD_STORE_MAX > 253 ? 253 : FD_STORE_MAX]; /* SCM_MAX_FD */
	size_t n_fds;
	bool has_fds; /* taken out or not */
};

static void message_close(struct message *m)
{
	for (size_t i = 0; i < m->n_fds; i++)
		m->fds[i] = fd_close(m->fds[i]);
	m->n_fds = 0;
}

/* The next message, which stays there; with_fds: and its descriptors, 253 of which cost more than all
 * else, so that a sender has to be worth it. 1: there is one; 0: none. */
static int message_peek(int sock, struct message *m, bool with_fds)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(struct ucred)) + CMSG_SPACE(sizeof(int) * 253)];
	} control;
	struct iovec iov = {m->text, NOTIFY_MAX};
	struct msghdr h = {.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = with_fds ? sizeof(control) : CMSG_SPACE(sizeof(struct ucred))};
	m->n_fds = 0;
	m->cred.pid = 0;
	ssize_t n;
	do
		n = recvmsg(sock, &h, MSG_DONTWAIT | MSG_CMSG_CLOEXEC | MSG_PEEK);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return 0;
	m->has_fds = with_fds || (h.msg_flags & MSG_CTRUNC);
	m->text[n] = '\0';
	for (struct cmsghdr *k = CMSG_FIRSTHDR(&h); k; k = CMSG_NXTHDR(&h, k)) {
		if (k->cmsg_level != SOL_SOCKET)
			continue;
		if (k->cmsg_type == SCM_CREDENTIALS) {
			memcpy(&m->cred, CMSG_DATA(k), sizeof(m->cred));
		} else if (k->cmsg_type == SCM_RIGHTS) {
			m->n_fds = (k->cmsg_len - CMSG_LEN(0)) / sizeof(int);
			memcpy(m->fds, CMSG_DATA(k), m->n_fds * sizeof(int));
		}
	}
	if (h.msg_flags & (with_fds ? MSG_TRUNC | MSG_CTRUNC : MSG_TRUNC)) {
		message_close(m);
		m->text[0] = '\0';
	}
	return 1;
}

/* Without room for its descriptors: the kernel closes them. */
static void message_take(int sock, struct message *m)
{
	ssize_t n;
	if (m->has_fds)
		closing_begin();
	do
		n = recv(sock, NULL, 0, MSG_DONTWAIT | MSG_TRUNC);
	while (n < 0 && errno == EINTR);
	message_close(m);
	if (m->has_fds)
		closing_end();
}

/* By its cgroup or descent while it lives; one that has ended is known by its pid until the exit is
 * handled (notify_drain()). */
static struct unit *unit_of_sender(struct core *c, pid_t pid)
{
	struct unit *u = cgroup_unit_of(c, pid);
	struct proc *p = u ? NULL : proc_find_pid(&c->procs, pid);
	return p ? p->unit : u;
}

static bool is_early(struct core *c, pid_t pid, const struct unit *u)
{
	if (!c->n_asked)
		return false;
	if (u)
		return (u->rec.main.seq && !u->rec.main_pid) ||
		       (u->rec.control.seq && !u->rec.control_pid);
	/* Nobody's: a stranger, or one that came, spoke and ended before the launcher's word about it.
	 * That word is among those owed now; a stranger holds up the others no longer than that. */
	if (pid > 0 && !c->notify_hold_until)
		c->notify_hold_until = c->n_answered + c->n_asked;
	return pid > 0 && c->n_answered < c->notify_hold_until;
}

static void listen_again(struct core *c)
{
	bool is_listening = !c->notify_is_held && !c->notify_rest_us;
	loop_modify(&c->loop, &c->notify_source, is_listening ? EPOLLIN : 0);
}

/* u of a process could not be told, as files were not read since unread: is it looked at again? */
static bool look_again(struct core *c, const struct unit *u, unsigned unread)
{
	if (u || files_unread() == unread || c->notify_looks >= LOOKS_MAX)
		return false;
	c->notify_looks++;
	c->notify_rest_us = now_mono_us() + LOOK_US;
	listen_again(c);
	core_arm(c);
	return true;
}

static void hold(struct core *c, bool is_held)
{
	if (c->notify_is_held == is_held)
		return;
	c->notify_is_held = is_held;
	listen_again(c);
}

void notify_release(struct core *c)
{
	hold(c, false);
}

void notify_rested(struct core *c)
{
	c->notify_rest_us = 0;
	listen_again(c);
}

/* us: what the message of u, or of nobody's, took. */
static void charge(struct core *c, struct unit *u, uint64_t us)
{
	struct share *own = u ? &uc(u)->notify_share : NULL;
	if (own)
		share_charge(own, UNIT_SHARE, us);
	if (own && !share_wait_until(own, UNIT_SHARE))
		return;
	share_charge(&c->notify_flood, FLOOD_SHARE, us);
}

/* The value of KEY= in the message, copied; NULL when absent. */
static char *field(const char *text, const char *key)
{
	size_t n = strlen(key);
	for (const char *p = text; *p;) {
		size_t line = strcspn(p, "\n");
		if (line > n && memcmp(p, key, n) == 0 && p[n] == '=')
			return xstrndup(p + n + 1, line - n - 1);
		p += line + (p[line] == '\n');
	}
	return NULL;
}

static bool field_is(const char *text, const char *key, const char *value)
{
	CLEANUP_FREE char *v = field(text, key);
	return v && streq(v, value);
}

static uint64_t field_number(const char *text, const char *key, bool *ret_has)
{
	CLEANUP_FREE char *v = field(text, key);
	char *end;
	*ret_has = false;
	if (!v || !*v || v[0] == '-')
		return 0;
	errno = 0;
	uint64_t n = strtoull(v, &end, 10);
	*ret_has = !*end && errno == 0;
	return n;
}

static bool sender_is_allowed(const struct unit *u, pid_t pid)
{
	switch (u->conf->service.notify_access) {
	case NOTIFY_NONE:
		return false;
	case NOTIFY_MAIN:
		/* Before LN_SPAWNED told the pid, the only process there is is the main one. */
		return pid == u->rec.main_pid || (!u->rec.main_pid && u->rec.main.seq);
	case NOTIFY_EXEC:
		return pid == u->rec.main_pid || pid == u->rec.control_pid || !u->rec.main_pid;
	case NOTIFY_ALL:
		return true;
	}
	return false;
}

/* ---- the store --------------------------------------------------------------------------------- */

static void stored_name(const struct unit *u, const struct stored_fd *s, char out[KP_NAME_MAX])
{
	snprintf(out, KP_NAME_MAX, "fds/%u/%u/%s", s->number, uc(u)->slot, s->name);
}

static void store_remove_at(struct core *c, struct unit *u, size_t i)
{
	struct unit_core *x = uc(u);
	char name[KP_NAME_MAX];
	stored_name(u, &x->fds[i], name);
	keeper_drop(c, name);
	closing_begin();
	fd_close(x->fds[i].fd);
	closing_end();
	memmove(&x->fds[i], &x->fds[i + 1], (x->n_fds - i - 1) * sizeof(*x->fds));
	x->n_fds--;
}

static void store_remove(struct core *c, struct unit *u, const char *name)
{
	for (size_t i = uc(u)->n_fds; i-- > 0;)
		if (streq(uc(u)->fds[i].name, name))
			store_remove_at(c, u, i);
}

static bool fd_name_is_valid(const char *s)
{
	size_t n = strlen(s);
	for (const char *p = s; *p; p++)
		if (*p <= ' ' || *p >= 127 || *p == ':' || *p == '/')
			return false;
	return n > 0 && n < sizeof(((struct stored_fd *)0)->name);
}

static void store_add(struct core *c, struct unit *u, const char *name, int fd)
{
	struct unit_core *x = uc(u);
	char deposit[KP_NAME_MAX];
	GROW(x->fds, x->n_fds, x->cap_fds);
	struct stored_fd *s = &x->fds[x->n_fds++];
	s->fd = fd;
	s->number = x->next_fd_number++;
	str_copy(s->name, name, sizeof(s->name));
	stored_name(u, s, deposit);
	keeper_put(c, deposit, fd);
}

/* The very same open file, as after a message that was heard twice. */
static bool is_stored(const struct unit *u, int fd, unsigned *budget)
{
	pid_t self = getpid();
	for (size_t i = 0; i < uc(u)->n_fds && *budget; i++, (*budget)--)
		if (syscall(SYS_kcmp, self, self, KCMP_FILE, uc(u)->fds[i].fd, fd) == 0)
			return true;
	return false;
}

static bool may_warn(struct unit *u, enum notify_fault kind)
{
	uint64_t now = now_mono_us(), *last = &uc(u)->notify_warned_us[kind];
	bool may = !*last || now - *last >= NOTIFY_WARN_US;
	*last = may ? now : *last;
	return may;
}

static void store_is_full(struct unit *u, unsigned max)
{
	if (may_warn(u, NOTIFY_FAULT_STORE))
		log_warn(u->name,
			"FDSTORE: more than FileDescriptorStoreMax=%u descriptors, closed", max);
}

static void store_message(struct core *c, struct unit *u, struct message *m)
{
	CLEANUP_FREE char *name = field(m->text, "FDNAME");
	if (name && !fd_name_is_valid(name))
		free(TAKE_PTR(name));
	if (field_is(m->text, "FDSTOREREMOVE", "1")) {
		if (name)
			store_remove(c, u, name);
		return;
	}
	unsigned max = MIN(u->conf->service.fd_store_max, (unsigned)FD_STORE_MAX),
		 budget = SAME_FILE_MAX;
	if (uc(u)->n_fds >= max) { /* they are not even received */
		store_is_full(u, max);
		return;
	}
	if (!message_peek(c->notify_fd, m, true))
		return;
	for (size_t i = 0; i < m->n_fds; i++) {
		if (is_stored(u, m->fds[i], &budget))
			continue;
		if (uc(u)->n_fds >= max) {
			store_is_full(u, max);
			return;
		}
		store_add(c, u, name ? name : "stored", TAKE_FD(m->fds[i]));
	}
}

void fdstore_restore(struct core *c, struct unit *u, uint32_t number, const char *name, int fd)
{
	struct unit_core *x = uc(u);
	(void)c;
	GROW(x->fds, x->n_fds, x->cap_fds);
	struct stored_fd *s = &x->fds[x->n_fds++];
	s->fd = fd;
	s->number = number;
	str_copy(s->name, name, sizeof(s->name));
	x->next_fd_number = MAX(x->next_fd_number, number + 1);
}

void fdstore_clear(struct core *c, struct unit *u)
{
	while (uc(u)->n_fds)
		store_remove_at(c, u, uc(u)->n_fds - 1);
}

/* ---- one message --------------------------------------------------------------------------------- */

/* False: not now. */
static bool main_pid_message(struct core *c, struct unit *u, const char *text)
{
	bool has;
	uint64_t pid = field_number(text, "MAINPID", &has);
	if (!has || pid == (uint64_t)u->rec.main_pid)
		return true;
	bool is_control = pid == (uint64_t)u->rec.control_pid; /* refused as under systemd */
	bool is_good = pid > 1 && pid <= INT32_MAX && !is_control;
	unsigned unread = files_unread();
	const struct unit *of = is_good ? cgroup_unit_of(c, (pid_t)pid) : NULL;
	if (look_again(c, of, unread))
		return false;
	if (of != u) {
		if (may_warn(u, NOTIFY_FAULT_MAIN))
			log_warn(u->name, "MAINPID=%llu is %s: ignored", (unsigned long long)pid,
				is_control ? "the control process" : "not a process of this unit");
		return true;
	}
	struct event ev = {.kind = EV_MAIN_PID,
		.unit = u,
		.pid = (int32_t)pid,
		.id = proc_known_as(u, (pid_t)pid)};
	core_step(c, &ev);
	return true;
}

void notify_forget(struct unit *u, const struct spawn_id *id)
{
	struct unit_core *x = uc(u);
	if (memcmp(x->said_in, id->invocation, sizeof(x->said_in)) == 0)
		return;
	memcpy(x->said_in, id->invocation, sizeof(x->said_in));
	x->said_errno = 0;
	free(TAKE_PTR(u->status_text));
}

static void status_message(struct unit *u, const char *text)
{
	char *status = field(text, "STATUS");
	if (!status)
		return;
	if (strlen(status) > STATUS_MAX)
		status[STATUS_MAX] = '\0';
	str_make_printable(status);
	free(u->status_text);
	u->status_text = status;
}

/* False: not now. */
static bool handle(struct core *c, struct unit *u, struct message *m)
{
	static const struct {
		const char *key, *value;
		uint32_t bit;
	} words[] = {
		{"READY",     "1",       NOTIFY_READY           },
		{"RELOADING", "1",       NOTIFY_RELOADING       },
		{"STOPPING",  "1",       NOTIFY_STOPPING        },
		{"WATCHDOG",  "1",       NOTIFY_WATCHDOG        },
		{"WATCHDOG",  "trigger", NOTIFY_WATCHDOG_TRIGGER},
	};
	if (!u || u->conf->type != UNIT_SERVICE || !sender_is_allowed(u, m->cred.pid)) {
		log_trace(u ? u->name : NULL, "notification from pid %d not accepted",
			(int)m->cred.pid);
		return true;
	}
	struct event ev = {.kind = EV_NOTIFY, .unit = u, .pid = m->cred.pid};
	if (!main_pid_message(c, u, m->text))
		return false;
	for (size_t i = 0; i < ARRAY_SIZE(words); i++)
		if (field_is(m->text, words[i].key, words[i].value))
			ev.bits |= words[i].bit;
	bool has;
	uint64_t extend = field_number(m->text, "EXTEND_TIMEOUT_USEC", &has);
	if (has) {
		struct event x = {.kind = EV_NOTIFY,
			.unit = u,
			.pid = m->cred.pid,
			.bits = NOTIFY_EXTEND,
			.value_us = extend};
		core_step(c, &x);
	}
	uint64_t watchdog = field_number(m->text, "WATCHDOG_USEC", &has);
	if (has) {
		struct event x = {.kind = EV_NOTIFY,
			.unit = u,
			.pid = m->cred.pid,
			.bits = NOTIFY_WATCHDOG_USEC,
			.value_us = watchdog};
		core_step(c, &x);
	}
	status_message(u, m->text);
	uint64_t error = field_number(m->text, "ERRNO", &has);
	if (has && error < 4096)
		uc(u)->said_errno = (int)error;
	if (field_is(m->text, "FDSTORE", "1") || field_is(m->text, "FDSTOREREMOVE", "1"))
		store_message(c, u, m);
	if (ev.bits)
		core_step(c, &ev);
	/* BARRIER=1: the sender waits for its descriptor to be closed, which message_close() does now
	 * that everything before it has been handled. */
	return true;
}

/* Has this turn time for one message more? */
static bool turn_has_time(const struct core *c, uint64_t until_us)
{
	return now_mono_us() < until_us && !loop_is_urgent(&c->loop);
}

static void read_messages(struct core *c, unsigned n, uint64_t until_us)
{
	int sock = c->notify_source.fd;
	pid_t stranger = 0; /* who floods us is looked up once */
	static struct message m;
	for (unsigned i = 0; i < n && (!i || !until_us || turn_has_time(c, until_us)); i++) {
		if (message_peek(sock, &m, false) <= 0)
			return;
		uint64_t began_us = now_mono_us();
		pid_t pid = m.cred.pid;
		unsigned unread = files_unread();
		struct unit *u = pid > 0 && pid != stranger ? unit_of_sender(c, pid) : NULL;
		if (is_early(c, pid, u)) {
			message_close(&m);
			hold(c, true);
			return;
		}
		if (look_again(c, u, unread)) {
			message_close(&m);
			return;
		}
		c->notify_hold_until = 0;
		stranger = u ? 0 : pid;
		if (m.text[0] && !handle(c, u, &m)) {
			message_close(&m);
			return;
		}
		if (files_unread() == unread)
			c->notify_looks = 0;
		record_write_dirty(c);
		message_take(sock, &m);
		charge(c, u, now_mono_us() - began_us);
	}
}

static void on_notify(struct source *s, uint32_t events)
{
	(void)events;
	struct core *c = container_of(s, struct core, notify_source);
	read_messages(c, NOTIFY_BATCH, now_mono_us() + NOTIFY_TURN_US);
	if (!c->notify_rest_us)
		c->notify_rest_us = share_wait_until(&c->notify_flood, FLOOD_SHARE);
	if (c->notify_rest_us) {
		listen_again(c);
		core_arm(c);
	}
}

/* What a process said is heard before its end: both may be there when one of them is looked at. */
void notify_drain(struct core *c)
{
	if (c->notify_source.is_added && !c->is_stepping)
		read_messages(c, c->notify_queue, 0);
}

/* unix(7): a sender waits while more than so many are queued. */
static unsigned queue_length(void)
{
	struct buf b = {0};
	unsigned long n = NOTIFY_BATCH;
	if (read_file(AT_FDCWD, "/proc/sys/net/unix/max_dgram_qlen", 32, &b) == 0 && b.size)
		n = strtoul(b.data, NULL, 10) + 1;
	buf_done(&b);
	return (unsigned)MIN(n, (unsigned long)NOTIFY_BATCH);
}

int notify_open(struct core *c, int deposited_fd)
{
	c->notify_queue = queue_length();
	c->notify_fd = deposited_fd;
	if (c->notify_fd < 0) {
		struct sockaddr_un a;
		unsigned len;
		int one = 1, r = unix_addr(c->notify_path, &a, &len);
		if (r < 0)
			return r;
		c->notify_fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
		if (c->notify_fd < 0)
			return -errno;
		if (!c->is_in_memory)
			(void)unlink(c->notify_path);
		(void)setsockopt(c->notify_fd, SOL_SOCKET, SO_PASSCRED, &one, sizeof(one));
		/* Services of any user may write; what counts is decided by credentials. As with the
		 * control socket its mode is of its birth. */
		mode_t mask = umask(0);
		(void)fchmod(c->notify_fd, 0666);
		int bound = bind(c->notify_fd, (struct sockaddr *)&a, len);
		umask(mask);
		if (bound < 0)
			return -errno;
		keeper_put(c, "notify", c->notify_fd);
	}
	return loop_add(&c->loop, &c->notify_source, c->notify_fd, EPOLLIN, PRIO_NOTIFY, on_notify);
}
