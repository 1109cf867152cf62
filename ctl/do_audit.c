/* SPDX-License-Identifier: Apache-2.0 */
/*
 * audit: reads the audit log's files and checks their chain.
 *
 *  1. The files are read as they are, without the daemon: the evidence is theirs alone. The daemon is
 *     asked where they are and which line it wrote last; without one the usual place and --head do.
 *  2. Reading always verifies. The first broken line is named; what comes behind it is still shown.
 *  3. What no chain can show is documented in stayd(8): root can write it anew from the beginning.
 *  4. The daemon writes and rotates meanwhile, which breaks no chain: the file that is written to is read first,
 *     and shown last. What is rotated behind that is in it; what was rotated before has its name by then.
 */
#include <fcntl.h>
#include <poll.h>

#include "ctl.h"

#define FILE_MAX    (64 * 1024 * 1024) /* of one file; the daemon rotates at AUDIT_FILE_MAX */
#define DEFAULT_LOG "/var/lib/stayd/audit.log"
#define LOOKS_MAX   20 /* at a line that is being written */
#define LOOK_MS     20 /* between two */

struct audit {
	struct ctl *c;
	char *path;
	struct seal known; /* what the daemon says is its last line; seq 0: nothing */
	char known_head[SEAL_HASH_HEX];
	bool has_head; /* given by --head */
	struct seal at;
	uint64_t first_seq, n_lines, n_gaps, n_lost;
	bool is_known_seen, is_head_seen;
	char *broken; /* the first broken place */
	struct table table;
	json_t *lines; /* with --json; NULL: not wanted */
};

static int broken(struct audit *a, const char *file, unsigned line, const char *why)
{
	if (!a->broken)
		a->broken = line ? xasprintf("%s:%u: %s", file, line, why)
				 : xasprintf("%s: %s", file, why);
	return 0;
}

/* ---- showing ---- */

static void shown_args(const json_t *line, struct buf *out)
{
	const char *key;
	json_t *args = json_object_get(line, "args"), *value, *item;
	size_t i;
	json_object_foreach(args, key, value)
	{
		if (json_is_string(value))
			buf_printf(out, " %s", json_string_value(value));
		else if (json_is_integer(value))
			buf_printf(out, " %s=%lld", key, (long long)json_integer_value(value));
		else if (json_is_true(value))
			buf_printf(out, " %s", key);
		json_array_foreach(value, i, item)
			buf_printf(out, " %s", strna(json_string_value(item)));
	}
	if (js(line, "args_begin")[0])
		buf_printf(out, " %s...", js(line, "args_begin"));
}

static void shown_what(const json_t *line, struct buf *out)
{
	const char *kind = js(line, "kind");
	if (streq(kind, "gap"))
		buf_printf(out, "%lld lines could not be written since %s: %s",
			(long long)ji(line, "lost"), js(line, "since"), js(line, "error"));
	else if (streq(kind, "begin"))
		buf_printf(out, "stayd %s begins (%s)%s%s", js(line, "version"), js(line, "why"),
			js(line, "text")[0] ? ": " : "", js(line, "text"));
	else
		buf_add_str(out, js(line, "verb"));
	if (streq(kind, "outcome"))
		buf_printf(out, " of line %lld: %s%s%s", (long long)ji(line, "of"),
			js(line, "result"), js(line, "text")[0] ? ": " : "", js(line, "text"));
	if (streq(kind, "refused"))
		buf_printf(out, " (is %s, needs %s)", js(line, "role"), js(line, "needs"));
	shown_args(line, out);
}

static void show(struct audit *a, const json_t *line)
{
	struct buf what = {0};
	char number[32], who[96] = "-", code[16] = "-";
	snprintf(number, sizeof(number), "%lld", (long long)ji(line, "seq"));
	if (js(line, "signal")[0])
		str_copy(who, js(line, "signal"), sizeof(who));
	if (json_object_get(line, "uid"))
		snprintf(
			who, sizeof(who), "%s(%lld)", js(line, "user"), (long long)ji(line, "uid"));
	if (json_object_get(line, "exit"))
		snprintf(code, sizeof(code), "%lld", (long long)ji(line, "exit"));
	shown_what(line, &what);
	table_add(&a->table, number);
	table_add(&a->table, js(line, "time"));
	table_add(&a->table, who);
	table_add(&a->table, js(line, "kind"));
	table_add(&a->table, code);
	table_add(&a->table, what.data);
	buf_done(&what);
}

static void take(struct audit *a, const char *text, size_t size)
{
	json_t *line = json_loadb(text, size, 0, NULL);
	int64_t at = line ? parse_rfc3339(js(line, "time")) : -1;
	if (line && streq(js(line, "kind"), "gap")) {
		a->n_gaps++;
		a->n_lost += (uint64_t)ji(line, "lost");
	}
	bool is_wanted = line && !a->c->verify && (at < 0 || (uint64_t)at >= a->c->since_us);
	if (is_wanted && a->lines)
		json_array_append(a->lines, line);
	else if (is_wanted)
		show(a, line);
	json_decref(line);
}

/* ---- reading ---- */

static void one_line(struct audit *a, const char *file, unsigned n, const char *text, size_t size)
{
	const char *why = seal_check(&a->at, text, size, a->n_lines == 0);
	char prev[SEAL_HASH_HEX];
	if (why) {
		broken(a, file, n, why);
		(void)seal_read(text, size, &a->at, prev); /* go on from here */
	}
	if (a->n_lines++ == 0)
		a->first_seq = a->at.seq;
	if (a->known.seq == a->at.seq)
		a->is_known_seen = streq(a->known.hash, a->at.hash);
	if (a->has_head && streq(a->known_head, a->at.hash))
		a->is_head_seen = true;
	take(a, text, size);
}

static void one_text(struct audit *a, const char *file, const struct buf *b)
{
	unsigned n = 0;
	for (size_t at = 0, size; at < b->size; at += size + 1) {
		const char *end = memchr(b->data + at, '\n', b->size - at);
		size = end ? (size_t)(end - b->data) - at : b->size - at;
		if (end)
			one_line(a, file, ++n, b->data + at, size);
		else
			broken(a, file, ++n, "the line is not finished");
	}
}

static int one_file(struct audit *a, const char *file)
{
	struct buf b = {0};
	int r = read_file(AT_FDCWD, file, FILE_MAX, &b);
	if (r == 0)
		one_text(a, file, &b);
	buf_done(&b);
	return r == -ENOENT && !a->n_lines ? 0 : r; /* too old by now */
}

/* Half of a line may be there yet, and where there are no hard links the file may be missing for a moment. */
static int read_current(const char *path, struct buf *b)
{
	for (int n = 1;; n++) {
		b->size = 0;
		int r = read_file(AT_FDCWD, path, FILE_MAX, b);
		bool is_whole = r == 0 && (!b->size || b->data[b->size - 1] == '\n');
		if (is_whole || n == LOOKS_MAX || (r < 0 && r != -ENOENT))
			return r;
		(void)poll(NULL, 0, LOOK_MS);
	}
}

static int name_order(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* PATH.FIRSTSEQ in their order, up to the number that the current file begins with: that one is it, again. */
static void rotated_before(const char *path, const struct buf *current, struct strv *out)
{
	static const char key[] = "{\"seq\":";
	CLEANUP_FREE char *pattern = xasprintf("%s.*", path);
	CLEANUP_FREE char *self = NULL;
	struct strv all = {0};
	if (current->size && startswith(current->data, key))
		self = xasprintf(
			"%s.%020llu", path, strtoull(current->data + sizeof(key) - 1, NULL, 10));
	path_glob(pattern, &all);
	if (all.n)
		qsort(all.v, all.n, sizeof(*all.v), name_order);
	for (size_t i = 0; i < all.n && !(self && streq(all.v[i], self)); i++)
		strv_add(out, all.v[i]);
	strv_done(&all);
}

/* ---- what the daemon knows ---- */

static void ask_daemon(struct audit *a)
{
	struct client cl;
	struct reply rep = {0};
	char *path = socket_path(a->c->socket);
	int r = client_open(&cl, path);
	free(path);
	if (r < 0)
		return;
	json_t *params = json_pack("{s:[s],s:b}", "names", "default.target", "brief", 1);
	r = client_call(&cl, "Status", params, false);
	if (r == 0)
		r = client_reply(&cl, &rep);
	client_close(&cl);
	const json_t *audit =
		r == 0 ? json_object_get(json_object_get(rep.params, "daemon"), "audit") : NULL;
	if (js(audit, "path")[0]) {
		a->path = xstrdup(jp(audit, "path"));
		a->known.seq = (uint64_t)ji(audit, "seq");
		str_copy(a->known.hash, jp(audit, "head"), sizeof(a->known.hash));
	}
	if (r == 0)
		reply_done(&rep);
}

static void check_end(struct audit *a)
{
	if (a->known.seq && !a->is_known_seen)
		broken(a, a->path, 0,
			a->known.seq > a->at.seq
				? "lines at the end are missing: the daemon has written more"
				: "the daemon wrote another last line than there is");
	if (a->has_head && !a->is_head_seen)
		broken(a, a->path, 0, "no line has the hash of --head");
}

/* ---- the verb ---- */

static int verdict(struct audit *a)
{
	FILE *out = a->c->verify && !a->c->json ? stdout : stderr;
	if (a->broken) {
		print_line(
			stderr, "error: the audit log is broken: ", a->broken, strlen(a->broken));
		fprintf(stderr,
			"  hint: compare with a copy; lines before that place are as written\n");
		return STAY_EXIT_FAILED;
	}
	if (!a->c->verify || a->c->quiet || a->c->json)
		return STAY_EXIT_OK;
	fprintf(out, "%s: intact, lines %llu to %llu, head %s\n", a->path,
		(unsigned long long)a->first_seq, (unsigned long long)a->at.seq, a->at.hash);
	if (a->n_lost)
		fprintf(out, "note: %llu lines were never written, in %llu gaps that are shown\n",
			(unsigned long long)a->n_lost, (unsigned long long)a->n_gaps);
	if (!a->known.seq && !a->has_head)
		fprintf(out, "note: without a daemon or --head a cut at the end cannot be seen\n");
	return STAY_EXIT_OK;
}

static void print_document(struct audit *a)
{
	json_t *doc = json_pack("{s:s,s:b,s:s,s:I,s:I,s:s,s:I,s:o}", "path", a->path, "intact",
		!a->broken, "broken", strna(a->broken), "first_seq", (json_int_t)a->first_seq,
		"seq", (json_int_t)a->at.seq, "head", a->at.hash, "lost", (json_int_t)a->n_lost,
		"lines", a->lines);
	print_json("audit", doc);
	json_decref(doc);
}

static int read_all(struct audit *a)
{
	struct strv files = {0};
	struct buf current = {0};
	int last = read_current(a->path, &current), r = last == -ENOENT ? 0 : last;
	rotated_before(a->path, &current, &files);
	for (size_t i = 0; r == 0 && i < files.n; i++)
		r = one_file(a, files.v[i]);
	if (r == 0 && last == 0)
		one_text(a, a->path, &current);
	else if (r == 0 && !files.n)
		r = last;
	strv_done(&files);
	buf_done(&current);
	return r;
}

int do_AUDIT(struct ctl *c)
{
	static const char *const heads[] = {"LINE", "TIME", "WHO", "KIND", "EXIT", "WHAT"};
	struct audit a = {.c = c, .has_head = c->head != NULL};
	if (c->argc)
		return usage(c, "audit takes no units");
	if (c->head && strlen(c->head) != SEAL_HASH_HEX - 1)
		return usage(c, "--head: a hash has %d hexadecimal digits", SEAL_HASH_HEX - 1);
	str_copy(a.known_head, strna(c->head), sizeof(a.known_head));
	seal_init(&a.at);
	if (c->file)
		a.path = xstrdup(c->file);
	else
		ask_daemon(&a);
	if (!a.path)
		a.path = xstrdup(DEFAULT_LOG);
	a.lines = c->json ? json_array() : NULL;
	table_begin(&a.table, ARRAY_SIZE(heads), heads);
	int r = read_all(&a);
	if (r < 0) {
		json_decref(a.lines);
		fprintf(stderr, "error: %s: %s\n", a.path, errno_name(r));
		fprintf(stderr, "  hint: %s\n",
			r == -EACCES ? "only root and the daemon's own user may read it"
				     : "--file PATH names another");
		r = r == -EACCES ? STAY_EXIT_NOT_PERMITTED : STAY_EXIT_NOT_FOUND;
	} else {
		check_end(&a);
		if (c->json)
			print_document(&a);
		else if (!c->verify)
			table_print(&a.table, stdout);
		r = verdict(&a);
	}
	table_done(&a.table);
	free(a.path);
	free(a.broken);
	return r;
}
