/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The reconciler: makes each load balancer agree with the desired table, and tells core what the
 * load balancer itself says. Core edits rows and reads samples; it never waits for this.
 *
 * A round is one exchange: changes for the rows that are not met, then the state of everything. So
 * a change is read back in the round that made it.
 *
 *  1. A row is reported in_sync only when the newest reading meets the newest wish.
 *  2. Nothing is changed before the load balancer was read once since it was (re)started or was
 *     unreachable. Servers that are in no row are never touched.
 *  3. One exchange per load balancer at a time, each with a deadline; a load balancer that hangs costs
 *     one descriptor and delays nobody. No round starts without rows (but one at configuration, to
 *     report reachability).
 *  4. A change that did not help is repeated with growing pauses (LB_FAST_US ... LB_BACKOFF_MAX_US).
 *  5. serial grows with every reading, also from one core to the next, which may find samples for
 *     the one before in its link; generation with every restart or reload that was noticed.
 *     A reading by a stopping process is dropped: the drain of an old worker is not the drain.
 *
 * Called by main.c with the frames of core and the time.
 */
#include "net/lb/lb.h"

#define FRUITLESS_MAX 5 /* pushes that did not help, after which a row is no reason to hurry */

struct row {
	struct lb_row want;
	struct lb_seen seen;
	bool is_seen; /* in the newest reading */
	bool is_met;
	bool was_met; /* since the last wish and generation: unmet now means somebody else did it */
	bool must_report;
	unsigned n_pushes; /* since the wish or the last time it was met */
	uint64_t push_at_us;
	struct lb_sample reported;
	char trouble[192];
};

enum phase { PHASE_IDLE, PHASE_ASKED /* core opens a socket */, PHASE_TALKING };

struct lb {
	uint16_t id;
	const struct lb_driver *driver;
	char address[256], backend[128], label[160];
	struct row *rows;
	size_t n_rows, cap_rows;
	struct exchange x;
	enum phase phase;
	uint64_t asked_number;
	uint64_t due_us, fast_until_us, backoff_us;
	uint64_t serial;
	bool is_read; /* since it was (re)started or unreachable: changes are allowed */
	char identity[64];
	uint64_t uptime_s;
	struct lb_change *changes; /* of the exchange under way; want and seen point into copies */
	struct row *copies;
	size_t n_changes;
	uint32_t reachable, generation;
	bool status_sent;
	char status_text[512];
};

static struct {
	struct loop *loop;
	struct link *link;
	struct lb *v[NET_LBS_MAX];
	size_t n;
	uint64_t last_number, last_serial;
} lbs;

static void lb_finish(struct exchange *x, int error, const char *text);

static struct lb *lb_find(uint16_t id)
{
	for (size_t i = 0; i < lbs.n; i++)
		if (lbs.v[i]->id == id)
			return lbs.v[i];
	return NULL;
}

static struct row *row_find(struct lb *l, const char *server)
{
	for (size_t i = 0; i < l->n_rows; i++)
		if (streq(l->rows[i].want.server, server))
			return &l->rows[i];
	return NULL;
}

/* ---- reports to core ------------------------------------------------------------------------ */

static void send_status(uint16_t id, uint32_t reachable, uint32_t generation, const char *text)
{
	struct nt_frame f = {
		.kind = NT_LB_STATUS, .lb = id, .reachable = reachable, .generation = generation};
	str_copy(f.text, text, sizeof(f.text));
	str_make_printable(f.text);
	link_send(lbs.link, &f);
}

static void report_status(struct lb *l, uint32_t reachable, uint32_t generation, const char *text)
{
	if (l->status_sent && l->reachable == reachable && l->generation == generation &&
		streq(l->status_text, text))
		return;
	if (text[0] && !streq(l->status_text, text))
		log_note(l->label, "%s", text);
	else if (reachable && l->status_sent && !l->reachable)
		log_note(l->label, "reachable again");
	l->status_sent = true;
	l->reachable = reachable;
	l->generation = generation;
	str_copy(l->status_text, text, sizeof(l->status_text));
	send_status(l->id, reachable, generation, text);
}

static bool sample_differs(const struct lb_sample *a, const struct lb_sample *b)
{
	struct lb_sample x = *a, y = *b;
	x.serial = y.serial = 0;
	return memcmp(&x, &y, sizeof(x)) != 0;
}

static void report_row(struct lb *l, struct row *r, bool is_fast)
{
	struct lb_sample s = {0};
	if (r->is_seen)
		s = r->seen.sample;
	s.in_sync = r->is_met;
	s.serial = l->serial;
	if (!is_fast && !r->must_report && !sample_differs(&s, &r->reported))
		return;
	r->must_report = link_is_busy(lbs.link);
	if (r->must_report)
		return; /* core is slow: the newest reading goes out later, older ones never */
	r->reported = s;
	struct nt_frame f = {.kind = NT_LB_SAMPLE, .lb = l->id, .sample = s};
	str_copy(f.server, r->want.server, sizeof(f.server));
	str_copy(f.text, r->trouble, sizeof(f.text));
	link_send(lbs.link, &f);
}

/* ---- when the next round is due --------------------------------------------------------------- */

static bool is_fast(const struct lb *l, uint64_t now)
{
	if (now < l->fast_until_us)
		return true;
	for (size_t i = 0; i < l->n_rows; i++) {
		const struct row *r = &l->rows[i];
		if (r->must_report || (r->want.state == LB_DRAIN && r->is_seen))
			return true;
		if (r->is_seen && !r->is_met && r->n_pushes < FRUITLESS_MAX)
			return true;
	}
	return false;
}

static bool has_work(const struct lb *l, uint64_t now)
{
	for (size_t i = 0; i < l->n_rows; i++)
		if (l->rows[i].is_seen && !l->rows[i].is_met && l->rows[i].push_at_us <= now)
			return true;
	return false;
}

static void schedule(struct lb *l, uint64_t now)
{
	if (!l->n_rows)
		l->due_us = USEC_INFINITY;
	else if (has_work(l, now))
		l->due_us = now;
	else
		l->due_us = now + (is_fast(l, now) ? LB_FAST_US : LB_STEADY_US);
}

/* ---- a round ---------------------------------------------------------------------------------- */

static void drop_changes(struct lb *l)
{
	free(l->changes);
	free(l->copies);
	l->changes = NULL;
	l->copies = NULL;
	l->n_changes = 0;
}

static void round_failed(struct lb *l, const char *text)
{
	uint64_t now = now_mono_us();
	exchange_cancel(&l->x);
	drop_changes(l);
	l->phase = PHASE_IDLE;
	l->is_read = false;
	for (size_t i = 0; i < l->n_rows; i++)
		l->rows[i].is_seen = l->rows[i].is_met = l->rows[i].was_met = false;
	l->backoff_us = MIN(MAX(l->backoff_us * 2, LB_BACKOFF_US), LB_BACKOFF_MAX_US);
	l->due_us = l->n_rows ? now + l->backoff_us : USEC_INFINITY;
	report_status(l, 0, l->generation, text);
}

static void collect_changes(struct lb *l, uint64_t now)
{
	drop_changes(l);
	if (!l->is_read || !has_work(l, now))
		return;
	l->changes = xcalloc(l->n_rows, sizeof(*l->changes));
	l->copies = xcalloc(l->n_rows, sizeof(*l->copies));
	for (size_t i = 0; i < l->n_rows; i++) {
		const struct row *r = &l->rows[i];
		if (!r->is_seen || r->is_met || r->push_at_us > now)
			continue;
		struct row *copy = &l->copies[l->n_changes];
		*copy = *r;
		l->changes[l->n_changes++] =
			(struct lb_change){.want = &copy->want, .seen = &copy->seen};
	}
}

/* Takes note of what is being pushed, so that what does not help is repeated less and less often. */
static void note_pushes(struct lb *l, uint64_t now)
{
	for (size_t i = 0; i < l->n_changes; i++) {
		struct row *r = row_find(l, l->changes[i].want->server);
		r->n_pushes++;
		r->push_at_us = now + MIN(LB_FAST_US << MIN(r->n_pushes, 8u), LB_BACKOFF_MAX_US);
		l->fast_until_us = MAX(l->fast_until_us, now + LB_SETTLE_US);
	}
}

static void round_start(struct lb *l, uint64_t now)
{
	collect_changes(l, now);
	buf_reset(&l->x.request);
	l->n_changes =
		l->driver->write_request(l->backend, l->changes, l->n_changes, &l->x.request);
	note_pushes(l, now);
	l->x.deadline_us = now + LB_EXCHANGE_US;
	if (l->address[0] == '/' || l->address[0] == '@') {
		struct nt_frame f = {.kind = NT_LB_CONNECT, .lb = l->id};
		l->asked_number = f.number = ++lbs.last_number;
		l->phase = PHASE_ASKED;
		str_copy(f.text, l->address, sizeof(f.text));
		link_send(lbs.link, &f);
		return;
	}
	int fd = connect_numeric(l->address);
	if (fd < 0) {
		char text[400];
		snprintf(text, sizeof(text), "%s: %s", l->address,
			fd == -EINVAL ? "neither a path nor a numeric HOST:PORT" : strerror(-fd));
		round_failed(l, text);
		return;
	}
	l->phase = PHASE_TALKING;
	exchange_start(&l->x, lbs.loop, fd, lb_finish);
}

/* True when the one who answered is not the one who answered before. */
static bool note_identity(struct lb *l, const struct lb_report *report)
{
	bool is_new = !streq(l->identity, report->identity) || report->uptime_s < l->uptime_s;
	l->uptime_s = report->uptime_s;
	str_copy(l->identity, report->identity, sizeof(l->identity));
	if (!is_new)
		return false;
	for (size_t i = 0; i < l->n_rows; i++) {
		l->rows[i].was_met = false;
		l->rows[i].n_pushes = 0;
		l->rows[i].push_at_us = 0;
	}
	if (l->generation)
		log_note(l->label, "the load balancer was restarted or reloaded; telling it again");
	return true;
}

static void read_row(struct lb *l, struct row *r, struct map *seen, char *note, size_t note_size)
{
	static const char *const state_names[LB_STATE_MAX] = {"maint", "drain", "ready"};
	const struct lb_seen *s = map_get(seen, r->want.server);
	r->is_seen = s && s->sample.known;
	r->trouble[0] = '\0';
	if (!r->is_seen) {
		r->is_met = r->was_met = false;
		snprintf(r->trouble, sizeof(r->trouble),
			"no server \"%.60s\" in backend \"%.60s\": add it or a server-template",
			r->want.server, l->backend);
		return;
	}
	r->seen = *s;
	r->is_met = lb_row_is_met(&r->want, s);
	if (r->is_met) {
		r->n_pushes = 0;
		r->push_at_us = 0;
	} else if (r->was_met) {
		snprintf(note, note_size,
			"%s was changed from outside (now %s, %s:%u, weight %u%%); putting it back",
			r->want.server, state_names[s->sample.state], s->addr, s->port,
			s->sample.weight);
	}
	r->was_met = r->is_met;
}

/* What it said to a change is worth telling only when the change is not there. */
static void read_troubles(struct lb *l, char *note, size_t note_size)
{
	for (size_t i = 0; i < l->n_changes; i++) {
		struct row *r = row_find(l, l->changes[i].want->server);
		if (r && !r->is_met && l->changes[i].trouble[0])
			str_copy(r->trouble, l->changes[i].trouble, sizeof(r->trouble));
	}
	for (size_t i = 0; i < l->n_rows && !note[0]; i++)
		if (l->rows[i].trouble[0])
			snprintf(note, note_size, "%s: %s", l->rows[i].want.server,
				l->rows[i].trouble);
}

static void round_read(struct lb *l, const struct lb_report *report, const char *trouble)
{
	uint64_t now = now_mono_us();
	char note[400] = "";
	struct map seen = {0};
	bool is_new = note_identity(l, report);
	for (size_t i = 0; i < report->n_seen; i++)
		(void)map_put(&seen, report->seen[i].server, &report->seen[i]);
	l->serial = ++lbs.last_serial;
	l->is_read = true;
	l->backoff_us = 0;
	for (size_t i = 0; i < l->n_rows; i++)
		read_row(l, &l->rows[i], &seen, note, sizeof(note));
	map_done(&seen);
	if (trouble[0])
		str_copy(note, trouble, sizeof(note));
	read_troubles(l, note, sizeof(note));
	drop_changes(l);
	/* Core believes nothing from before: told again, although it may be the same. */
	for (size_t i = 0; i < l->n_rows; i++)
		l->rows[i].must_report |= is_new || !l->reachable;
	report_status(l, 1, l->generation + is_new, note);
	bool fast = is_fast(l, now);
	for (size_t i = 0; i < l->n_rows; i++)
		report_row(l, &l->rows[i], fast);
	schedule(l, now);
}

static void lb_finish(struct exchange *x, int error, const char *text)
{
	struct lb *l = container_of(x, struct lb, x);
	struct lb_report report = {0};
	struct err e = {0};
	l->phase = PHASE_IDLE;
	if (error) {
		char line[400];
		snprintf(line, sizeof(line), "%s: %s", l->address, text);
		round_failed(l, line);
		return;
	}
	int r = l->driver->read_answer(
		l->backend, l->changes, l->n_changes, x->answer.data, x->answer.size, &report, &e);
	if (r == 0 && report.is_stopping) {
		drop_changes(l);
		l->is_read = false;
		l->due_us = now_mono_us() + LB_FAST_US;
	} else if (r == 0 || r == -ENOENT) {
		round_read(l, &report, r ? e.text : "");
	} else {
		round_failed(l, e.text);
	}
	lb_report_done(&report);
	if (x->answer.cap > 64 * 1024)
		buf_done(&x->answer);
}

/* ---- frames of core --------------------------------------------------------------------------- */

void lbs_init(struct loop *loop, struct link *link)
{
	lbs.loop = loop;
	lbs.link = link;
}

static void lb_free(struct lb *l)
{
	exchange_done(&l->x);
	drop_changes(l);
	free(l->rows);
	free(l);
}

void lbs_reset(void)
{
	for (size_t i = 0; i < lbs.n; i++)
		lb_free(lbs.v[i]);
	lbs.n = 0;
}

static bool parse_config(const char *text, struct lb *ret, char *trouble, size_t trouble_size)
{
	char copy[512];
	str_copy(copy, text, sizeof(copy));
	char *address = strchr(copy, '\n');
	char *backend = address ? strchr(address + 1, '\n') : NULL;
	if (!backend) {
		snprintf(trouble, trouble_size, "driver, address and backend are expected");
		return false;
	}
	*address++ = '\0';
	*backend++ = '\0';
	if (startswith(address, "unix:"))
		address += 5;
	else if (startswith(address, "tcp ") || startswith(address, "tcp:"))
		address += 4;
	ret->driver = lb_driver_by_name(copy);
	if (!ret->driver)
		snprintf(trouble, trouble_size, "no load-balancer driver \"%.60s\"", copy);
	else if (!ret->driver->name_is_valid(backend) ||
		 str_copy(ret->backend, backend, sizeof(ret->backend)) >= sizeof(ret->backend))
		snprintf(trouble, trouble_size, "\"%.60s\" is no name of a backend", backend);
	else if (!address[0] ||
		 str_copy(ret->address, address, sizeof(ret->address)) >= sizeof(ret->address))
		snprintf(trouble, trouble_size, "\"%.60s\" is no address", address);
	else
		return true;
	return false;
}

static struct lb *lb_add(uint16_t id)
{
	if (lbs.n == NET_LBS_MAX)
		return NULL;
	struct lb *l = xcalloc(1, sizeof(*l));
	l->id = id;
	l->x.fd = -1;
	lbs.v[lbs.n++] = l;
	return l;
}

/* The same configuration again only has the status told again; another one keeps the rows and
 * starts over. */
void lb_configure(uint16_t id, const char *text)
{
	struct lb conf = {0}, *l = lb_find(id);
	char trouble[160];
	if (!parse_config(text, &conf, trouble, sizeof(trouble))) {
		log_error(NULL, "load balancer %u: %s", id, trouble);
		lb_remove(id);
		send_status(id, 0, 0, trouble);
		return;
	}
	if (!l)
		l = lb_add(id);
	if (!l) {
		send_status(id, 0, 0, "too many load balancers");
		return;
	}
	l->status_sent = false;
	l->due_us = 0;
	if (l->driver == conf.driver && streq(l->address, conf.address) &&
		streq(l->backend, conf.backend))
		return;
	exchange_cancel(&l->x);
	drop_changes(l);
	l->driver = conf.driver;
	str_copy(l->address, conf.address, sizeof(l->address));
	str_copy(l->backend, conf.backend, sizeof(l->backend));
	snprintf(l->label, sizeof(l->label), "%s %s", l->driver->name, l->backend);
	l->phase = PHASE_IDLE;
	l->is_read = false;
	l->identity[0] = '\0';
	l->uptime_s = l->backoff_us = 0;
	for (size_t i = 0; i < l->n_rows; i++)
		l->rows[i].is_seen = l->rows[i].is_met = l->rows[i].was_met = false;
}

void lb_remove(uint16_t id)
{
	for (size_t i = 0; i < lbs.n; i++)
		if (lbs.v[i]->id == id) {
			lb_free(lbs.v[i]);
			lbs.v[i] = lbs.v[--lbs.n];
			return;
		}
}

static const char *row_refusal(const struct lb *l, const struct nt_frame *f)
{
	if (f->state >= LB_STATE_MAX || f->weight > 100)
		return "no such state or weight";
	if (!l->driver->name_is_valid(f->server))
		return "no name of a server";
	if (f->addr[0] && !lb_addr_is_numeric(f->addr))
		return "the address is not numeric";
	return NULL;
}

void lb_want(const struct nt_frame *f)
{
	struct lb *l = lb_find(f->lb);
	if (!l) {
		log_warn(NULL, "a row for load balancer %u, which is not configured", f->lb);
		return;
	}
	struct row *r = row_find(l, f->server);
	const char *refusal = row_refusal(l, f);
	if (!refusal && !r && l->n_rows == NET_ROWS_MAX)
		refusal = "too many servers";
	if (refusal) {
		struct nt_frame no = {.kind = NT_LB_SAMPLE, .lb = f->lb};
		str_copy(no.server, f->server, sizeof(no.server));
		str_copy(no.text, refusal, sizeof(no.text));
		log_error(l->label, "%s is refused: %s", f->server, refusal);
		link_send(lbs.link, &no);
		return;
	}
	if (!r) {
		GROW(l->rows, l->n_rows, l->cap_rows);
		r = &l->rows[l->n_rows++];
		memset(r, 0, sizeof(*r));
	}
	str_copy(r->want.server, f->server, sizeof(r->want.server));
	str_copy(r->want.addr, f->addr, sizeof(r->want.addr));
	r->want.port = f->port;
	r->want.state = f->state;
	r->want.weight = f->weight;
	r->is_met = r->is_seen && lb_row_is_met(&r->want, &r->seen);
	r->was_met = false;
	r->must_report = true;
	r->n_pushes = 0;
	r->push_at_us = 0;
	uint64_t now = now_mono_us();
	l->fast_until_us = MAX(l->fast_until_us, now + LB_SETTLE_US);
	if (l->backoff_us == 0 || l->due_us == USEC_INFINITY)
		l->due_us = now; /* after a failure the pause is kept */
}

void lb_forget(uint16_t id, const char *server)
{
	struct lb *l = lb_find(id);
	struct row *r = l ? row_find(l, server) : NULL;
	if (r)
		*r = l->rows[--l->n_rows];
}

void lb_fast(uint16_t id, uint64_t for_ms)
{
	struct lb *l = lb_find(id);
	uint64_t now = now_mono_us();
	if (!l)
		return;
	/* A drain within a rollout asks for less than the rollout did; 0 takes it back. */
	l->fast_until_us =
		for_ms ? MAX(l->fast_until_us, now + MIN(for_ms, 86400000u) * USEC_PER_MSEC) : now;
	if (for_ms && l->n_rows && l->backoff_us == 0)
		l->due_us = MIN(l->due_us, now);
}

void lb_socket(uint16_t id, uint64_t number, int error, int fd)
{
	struct lb *l = lb_find(id);
	if (!l || l->phase != PHASE_ASKED || number != l->asked_number) {
		fd_close(fd); /* too late: the round was given up */
		return;
	}
	if (error == 0 && fd >= 0) {
		l->phase = PHASE_TALKING;
		exchange_start(&l->x, lbs.loop, fd, lb_finish);
		return;
	}
	fd_close(fd);
	int code = error < 0 ? -error : error ? error : EBADF;
	char text[400];
	snprintf(text, sizeof(text), "%s: %s", l->address,
		code == ENOENT ? "no such socket: not running, or not the path of its admin socket"
		: code == ECONNREFUSED ? "connection refused: not running any more"
				       : strerror(code));
	round_failed(l, text);
}

/* ---- time --------------------------------------------------------------------------------------- */

static uint64_t lb_next_us(const struct lb *l)
{
	return l->phase == PHASE_IDLE ? l->due_us : l->x.deadline_us;
}

uint64_t lbs_next_us(void)
{
	uint64_t next = USEC_INFINITY;
	for (size_t i = 0; i < lbs.n; i++)
		next = MIN(next, lb_next_us(lbs.v[i]));
	return next;
}

void lbs_on_time(uint64_t now)
{
	for (size_t i = 0; i < lbs.n; i++) {
		struct lb *l = lbs.v[i];
		if (lb_next_us(l) > now)
			continue;
		if (l->phase == PHASE_IDLE) {
			round_start(l, now);
			continue;
		}
		char text[400];
		snprintf(text, sizeof(text), "%s: no answer within 1s%s", l->address,
			l->phase == PHASE_ASKED ? " (not connected)" : "");
		round_failed(l, text);
	}
}
