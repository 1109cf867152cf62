/* SPDX-License-Identifier: Apache-2.0 */
/*
 * HAProxy: its runtime API as text. Measured with 2.6; nothing here depends on what 3.x changed.
 *
 * One line per connection, commands joined by ';'. Each answer ends with an empty line and there
 * are no status codes: an empty answer is success, any other text is judged here. The order of a
 * request is: changes, "show info", "show servers state", "show stat"; the CSV of show stat is last
 * since its quoted fields may hold anything, empty lines included.
 *
 *  1. Columns are found by the header's names, never by position (they move between versions).
 *  2. A server is known only when both tables list it, and a session count that is no number makes
 *     the whole answer bad: a drain must never be believed because a field was missing.
 *  3. Every row that shall get traffic gets address and weight before its state, all of them each
 *     time: a worker restarted since the last look has template addresses again.
 *  4. After maint, show stat goes on showing the check result of whatever had the slot before
 *     (measured: "L4OK" for a closed port until the next check). So a server entering drain is set
 *     "health down" as well, and a check counts as passed only once HAProxy itself has brought the
 *     server up again. The servers' own checks go on in drain; in maint they do not.
 *
 * Called by net/reconcile.c, tests/unit/test_net_haproxy.c and tests/fuzz/fuzz_haproxy.c. Pure.
 */
#include "net/lb/lb.h"

/* srv_admin_state of show servers state (HAProxy's enum srv_admin; 0x04 only says that the file
 * began with "disabled"). */
enum {
	ADMIN_MAINT = 0x01 | 0x02 | 0x20 | 0x40, /* forced, inherited, unresolved, bad host name */
	ADMIN_DRAIN = 0x08 | 0x10,               /* forced, inherited */
};
/* srv_op_state */
enum { OP_STOPPED, OP_STARTING, OP_RUNNING, OP_STOPPING };
/* srv_check_state */
enum { CHECK_CONFIGURED = 0x02, CHECK_ENABLED = 0x04 };

#define FIELDS_MAX 256 /* of one line; further ones are ignored, and columns in them missing */

struct span {
	const char *p;
	size_t size;
};

static bool span_is(struct span s, const char *text)
{
	return s.size == strlen(text) && memcmp(s.p, text, s.size) == 0;
}

static bool span_starts(struct span s, const char *text)
{
	size_t n = strlen(text);
	return s.size >= n && memcmp(s.p, text, n) == 0;
}

static void span_copy(char *dst, size_t dst_size, struct span s)
{
	size_t n = MIN(s.size, dst_size - 1);
	memcpy(dst, s.p, n);
	dst[n] = '\0';
}

/* Decimal digits only. */
static bool span_number(struct span s, uint64_t *ret)
{
	uint64_t v = 0;
	if (!s.size || s.size > 19)
		return false;
	for (size_t i = 0; i < s.size; i++) {
		if (s.p[i] < '0' || s.p[i] > '9')
			return false;
		v = v * 10 + (uint64_t)(s.p[i] - '0');
	}
	*ret = v;
	return true;
}

/* ---- the answer, cut into the answers of its commands -------------------------------------- */

static bool next_answer(struct span *rest, struct span *ret)
{
	if (!rest->size)
		return false;
	const char *end = rest->p[0] == '\n' ? rest->p : memmem(rest->p, rest->size, "\n\n", 2);
	if (!end)
		return false;
	size_t size = (size_t)(end - rest->p), skip = size + (size ? 2 : 1);
	*ret = (struct span){rest->p, size};
	rest->p += skip;
	rest->size -= skip;
	return true;
}

static bool next_line(struct span *rest, struct span *ret)
{
	if (!rest->size)
		return false;
	const char *end = memchr(rest->p, '\n', rest->size);
	size_t size = end ? (size_t)(end - rest->p) : rest->size;
	*ret = (struct span){rest->p, size};
	rest->p += size + (end != NULL);
	rest->size -= size + (end != NULL);
	return true;
}

/* The first line of an answer, for a person. */
static void first_line(char *out, size_t out_size, struct span answer)
{
	struct span line = {"", 0};
	(void)next_line(&answer, &line);
	span_copy(out, out_size, line);
	str_make_printable(out);
}

/* ---- tables: fields by name ----------------------------------------------------------------- */

struct fields {
	struct span f[FIELDS_MAX];
	size_t n;
};

static void split_words(struct span line, struct fields *out)
{
	out->n = 0;
	for (size_t i = 0; i < line.size && out->n < FIELDS_MAX;) {
		size_t start = i;
		while (i < line.size && line.p[i] != ' ')
			i++;
		if (i > start)
			out->f[out->n++] = (struct span){line.p + start, i - start};
		i++;
	}
}

/* One CSV record; quotes may hold commas, newlines and doubled quotes. */
static bool next_record(struct span *rest, struct fields *out)
{
	size_t i = 0;
	out->n = 0;
	if (!rest->size)
		return false;
	for (;;) {
		size_t start = i, end;
		if (i < rest->size && rest->p[i] == '"') {
			start = ++i;
			while (i < rest->size &&
				(rest->p[i] != '"' ||
					(i + 1 < rest->size && rest->p[i + 1] == '"')))
				i += rest->p[i] == '"' ? 2 : 1;
			end = MIN(i, rest->size);
			while (i < rest->size && rest->p[i] != ',' && rest->p[i] != '\n')
				i++;
		} else {
			while (i < rest->size && rest->p[i] != ',' && rest->p[i] != '\n')
				i++;
			end = i;
		}
		if (out->n < FIELDS_MAX)
			out->f[out->n++] = (struct span){rest->p + start, end - start};
		if (i >= rest->size || rest->p[i] == '\n')
			break;
		i++;
	}
	i = MIN(i + 1, rest->size);
	rest->p += i;
	rest->size -= i;
	return true;
}

/* Index of each wanted column in the header, -1 where it is missing. */
static void find_columns(const struct fields *header, const char *const *names, size_t n, int *ret)
{
	for (size_t i = 0; i < n; i++) {
		ret[i] = -1;
		for (size_t k = 0; k < header->n; k++)
			if (span_is(header->f[k], names[i])) {
				ret[i] = (int)k;
				break;
			}
	}
}

static struct span field(const struct fields *f, int column)
{
	return column >= 0 && (size_t)column < f->n ? f->f[column] : (struct span){"", 0};
}

static uint64_t field_number(const struct fields *f, int column)
{
	uint64_t v = 0;
	(void)span_number(field(f, column), &v);
	return v;
}

/* ---- show info ------------------------------------------------------------------------------ */

static int read_info(struct span answer, struct lb_report *ret, struct err *e)
{
	struct span line, pid = {"", 0}, started = {"", 0};
	struct span rest = answer;
	while (next_line(&rest, &line)) {
		if (span_starts(line, "Pid: "))
			pid = (struct span){line.p + 5, line.size - 5};
		else if (span_starts(line, "Start_time_sec: "))
			started = (struct span){line.p + 16, line.size - 16};
		else if (span_starts(line, "Uptime_sec: "))
			(void)span_number(
				(struct span){line.p + 12, line.size - 12}, &ret->uptime_s);
		else if (span_starts(line, "Stopping: "))
			ret->is_stopping = !span_is(line, "Stopping: 0");
	}
	if (!pid.size) {
		char text[128];
		first_line(text, sizeof(text), answer);
		return err_set(e, -EBADMSG, "show info was answered \"%s\"", text);
	}
	char a[24], b[24];
	span_copy(a, sizeof(a), pid);
	span_copy(b, sizeof(b), started);
	snprintf(ret->identity, sizeof(ret->identity), "%s/%s", a, b);
	return 0;
}

/* ---- show servers state --------------------------------------------------------------------- */

enum { S_BACKEND, S_NAME, S_ADDR, S_PORT, S_OP, S_ADMIN, S_UWEIGHT, S_IWEIGHT, S_CHECK, S_MAX };
static const char *const state_columns[S_MAX] = {"be_name", "srv_name", "srv_addr", "srv_port",
	"srv_op_state", "srv_admin_state", "srv_uweight", "srv_iweight", "srv_check_state"};

static void add_server(const struct fields *f, const int *at, struct lb_report *ret)
{
	GROW(ret->seen, ret->n_seen, ret->cap_seen);
	struct lb_seen *s = &ret->seen[ret->n_seen++];
	memset(s, 0, sizeof(*s));
	span_copy(s->server, sizeof(s->server), field(f, at[S_NAME]));
	span_copy(s->addr, sizeof(s->addr), field(f, at[S_ADDR]));
	s->port = (uint16_t)MIN(field_number(f, at[S_PORT]), UINT16_MAX);
	uint64_t admin = field_number(f, at[S_ADMIN]), op = field_number(f, at[S_OP]);
	uint64_t check = field_number(f, at[S_CHECK]);
	s->sample.state = admin & ADMIN_MAINT   ? LB_MAINT
			  : admin & ADMIN_DRAIN ? LB_DRAIN
						: LB_READY;
	s->sample.is_up = op == OP_RUNNING || op == OP_STARTING;
	s->sample.check =
		(check & (CHECK_CONFIGURED | CHECK_ENABLED)) == (CHECK_CONFIGURED | CHECK_ENABLED)
			? LB_CHECK_UNKNOWN
			: LB_CHECK_NONE;
	s->full_weight = (uint32_t)MIN(MAX(field_number(f, at[S_IWEIGHT]), 1u), 256u);
	s->raw_weight = (uint32_t)MIN(field_number(f, at[S_UWEIGHT]), 256u);
	s->sample.weight = (s->raw_weight * 100 + s->full_weight / 2) / s->full_weight;
}

static int read_state(const char *backend, struct span answer, struct lb_report *ret, struct err *e)
{
	struct fields f;
	struct span rest = answer, line = {"", 0};
	int at[S_MAX];
	char text[128];
	first_line(text, sizeof(text), answer);
	if (span_starts(answer, "Can't find backend") || span_starts(answer, "No such backend"))
		return err_set(e, -ENOENT, "the load balancer has no backend \"%s\"", backend);
	if (!next_line(&rest, &line) || !span_is(line, "1") || !next_line(&rest, &line) ||
		!span_starts(line, "# "))
		return err_set(e, -EBADMSG, "show servers state was answered \"%s\"", text);
	split_words((struct span){line.p + 2, line.size - 2}, &f);
	find_columns(&f, state_columns, S_MAX, at);
	for (size_t i = 0; i < S_MAX; i++)
		if (at[i] < 0)
			return err_set(e, -EBADMSG, "show servers state has no column %s",
				state_columns[i]);
	size_t n_columns = f.n;
	while (next_line(&rest, &line)) {
		uint64_t number;
		split_words(line, &f);
		if (f.n != n_columns || !span_number(field(&f, at[S_ADMIN]), &number) ||
			!span_number(field(&f, at[S_OP]), &number))
			return err_set(e, -EBADMSG, "show servers state has a line it cannot have");
		if (span_is(field(&f, at[S_BACKEND]), backend))
			add_server(&f, at, ret);
	}
	return 0;
}

/* ---- show stat ------------------------------------------------------------------------------ */

enum {
	C_PROXY,
	C_NAME,
	C_QCUR,
	C_SCUR,
	C_STOT,
	C_CHECK,
	C_ECON,
	C_ERESP,
	C_WRETR,
	C_WREDIS,
	C_5XX,
	C_MAX
};
#define C_REQUIRED C_ECON
static const char *const stat_columns[C_MAX] = {"pxname", "svname", "qcur", "scur", "stot",
	"check_status", "econ", "eresp", "wretr", "wredis", "hrsp_5xx"};

static uint32_t check_of(struct span status, const struct lb_seen *s)
{
	static const char *const good[] = {"L4OK", "L6OK", "L7OK", "PROCOK"};
	if (s->sample.check == LB_CHECK_NONE)
		return LB_CHECK_NONE;
	if (span_starts(status, "* ")) /* one is under way; the rest is the one before */
		status = (struct span){status.p + 2, status.size - 2};
	if (!status.size || span_is(status, "INI") || span_is(status, "UNK"))
		return LB_CHECK_UNKNOWN;
	for (size_t i = 0; i < ARRAY_SIZE(good); i++)
		if (span_is(status, good[i]))
			return s->sample.is_up ? LB_CHECK_OK : LB_CHECK_UNKNOWN; /* invariant 4 */
	return LB_CHECK_FAILED;
}

static int read_counters(const struct fields *f, const int *at, struct lb_seen *s, struct err *e)
{
	uint64_t queued, current;
	if (!span_number(field(f, at[C_QCUR]), &queued) ||
		!span_number(field(f, at[C_SCUR]), &current) ||
		!span_number(field(f, at[C_STOT]), &s->sample.total))
		return err_set(e, -EBADMSG, "show stat has no session count for %s", s->server);
	s->sample.sessions = queued + current;
	s->sample.errors = field_number(f, at[C_ECON]) + field_number(f, at[C_ERESP]);
	s->sample.retries = field_number(f, at[C_WRETR]) + field_number(f, at[C_WREDIS]);
	s->sample.http_5xx = field_number(f, at[C_5XX]);
	s->sample.check = check_of(field(f, at[C_CHECK]), s);
	s->sample.known = 1;
	return 0;
}

static int read_stat(const char *backend, struct span answer, struct map *servers, struct err *e)
{
	struct fields f;
	int at[C_MAX];
	if (!span_starts(answer, "# ")) {
		char text[128];
		first_line(text, sizeof(text), answer);
		return err_set(e, -EBADMSG, "show stat was answered \"%s\"", text);
	}
	if (answer.size < 4 || memcmp(answer.p + answer.size - 2, "\n\n", 2) != 0)
		return err_set(e, -EBADMSG, "the answer ends too early");
	struct span rest = {answer.p + 2, answer.size - 2};
	(void)next_record(&rest, &f);
	find_columns(&f, stat_columns, C_MAX, at);
	for (size_t i = 0; i < C_REQUIRED; i++)
		if (at[i] < 0)
			return err_set(e, -EBADMSG, "show stat has no column %s", stat_columns[i]);
	while (next_record(&rest, &f)) {
		char name[sizeof(((struct lb_seen *)0)->server)];
		if (f.n == 1 && !f.f[0].size)
			continue; /* the empty line at the end */
		if (!span_is(field(&f, at[C_PROXY]), backend))
			continue;
		span_copy(name, sizeof(name), field(&f, at[C_NAME]));
		struct lb_seen *s = map_get(servers, name);
		int r = s ? read_counters(&f, at, s, e) : 0;
		if (r < 0)
			return r;
	}
	return 0;
}

/* ---- the driver ----------------------------------------------------------------------------- */

/* What HAProxy itself allows in the name of a proxy or server. */
static bool haproxy_name_is_valid(const char *name)
{
	for (const char *p = name; *p; p++)
		if (!((*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z') ||
			    (*p >= '0' && *p <= '9') || strchr("-_.:", *p)))
			return false;
	return *name != '\0';
}

static PRINTF_LIKE(4, 5) void command(
	struct buf *out, const char *backend, struct lb_change *c, const char *format, ...)
{
	char text[160];
	va_list ap;
	va_start(ap, format);
	vsnprintf(text, sizeof(text), format, ap);
	va_end(ap);
	buf_printf(out, "set server %s/%s %s;", backend, c->want->server, text);
	c->n_commands++;
}

static void write_place(struct buf *out, const char *backend, struct lb_change *c)
{
	const struct lb_row *w = c->want;
	if (w->addr[0] && w->port)
		command(out, backend, c, "addr %s port %u", w->addr, w->port);
	else if (w->addr[0])
		command(out, backend, c, "addr %s", w->addr);
	command(out, backend, c, "weight %u", lb_weight_scaled(w->weight, c->seen->full_weight));
}

static void write_change(struct buf *out, const char *backend, struct lb_change *c)
{
	const struct lb_row *w = c->want;
	const struct lb_seen *s = c->seen;
	bool is_moved =
		(w->addr[0] && !lb_addr_equal(w->addr, s->addr)) || (w->port && w->port != s->port);
	c->n_commands = 0;
	switch (w->state) {
	case LB_MAINT:
		command(out, backend, c, "state maint");
		write_place(out, backend, c);
		break;
	case LB_DRAIN:
		if (s->sample.state == LB_READY)
			command(out, backend, c, "state drain");
		write_place(out, backend, c);
		if (s->sample.state == LB_MAINT)
			command(out, backend, c, "state drain");
		if (s->sample.check != LB_CHECK_NONE && (is_moved || s->sample.state == LB_MAINT))
			command(out, backend, c, "health down"); /* invariant 4 */
		break;
	default:
		write_place(out, backend, c);
		command(out, backend, c, "state ready");
	}
}

/* Servers leave the traffic before others enter it. */
static int compare_changes(const void *a, const void *b)
{
	const struct lb_change *x = a, *y = b;
	int by_state = (int)x->want->state - (int)y->want->state;
	return by_state ? by_state : strcmp(x->want->server, y->want->server);
}

static size_t haproxy_write_request(
	const char *backend, struct lb_change *changes, size_t n, struct buf *out)
{
	struct buf tail = {0};
	buf_printf(&tail, "show info;show servers state %s;show stat %s 4 -1\n", backend, backend);
	if (n)
		qsort(changes, n, sizeof(*changes), compare_changes);
	size_t i = 0;
	for (; i < n; i++) {
		size_t before = out->size;
		write_change(out, backend, &changes[i]);
		if (out->size + tail.size > LB_REQUEST_MAX) {
			out->size = before;
			break;
		}
	}
	buf_add(out, tail.data, tail.size);
	buf_done(&tail);
	return i;
}

static bool answer_is_good(struct span answer)
{
	return !answer.size || span_starts(answer, "no need to change") ||
	       span_starts(answer, "nothing changed") ||
	       memmem(answer.p, answer.size, " changed from ", 14);
}

static int read_changes(struct span *rest, struct lb_change *changes, size_t n, struct err *e)
{
	for (size_t i = 0; i < n; i++) {
		changes[i].trouble[0] = '\0';
		for (unsigned k = 0; k < changes[i].n_commands; k++) {
			struct span answer;
			if (!next_answer(rest, &answer))
				return err_set(e, -EBADMSG, "the answer ends too early");
			if (!answer_is_good(answer) && !changes[i].trouble[0])
				first_line(changes[i].trouble, sizeof(changes[i].trouble), answer);
		}
	}
	return 0;
}

static int haproxy_read_answer(const char *backend, struct lb_change *changes, size_t n,
	const char *data, size_t size, struct lb_report *ret, struct err *e)
{
	struct span rest = {data, size}, info, state;
	if (memchr(data, '\0', size))
		return err_set(e, -EBADMSG, "the answer is not text");
	int r = read_changes(&rest, changes, n, e);
	if (r < 0)
		return r;
	if (!next_answer(&rest, &info))
		return err_set(e, -EBADMSG, "the answer ends too early");
	r = read_info(info, ret, e);
	if (r < 0)
		return r;
	if (!next_answer(&rest, &state))
		return err_set(e, -EBADMSG, "the answer ends too early");
	r = read_state(backend, state, ret, e);
	if (r < 0)
		return r;
	struct map servers = {0};
	for (size_t i = 0; i < ret->n_seen; i++)
		(void)map_put(&servers, ret->seen[i].server, &ret->seen[i]);
	r = read_stat(backend, rest, &servers, e);
	map_done(&servers);
	return r;
}

const struct lb_driver lb_haproxy = {
	.name = "haproxy",
	.name_is_valid = haproxy_name_is_valid,
	.write_request = haproxy_write_request,
	.read_answer = haproxy_read_answer,
};
