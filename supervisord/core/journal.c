/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What must survive a reboot: the state directory.
 *
 *   sets/<set>/count                 the scaled count, when it is not the unit file's
 *   sets/<set>/current               "<revision> <release>": what is committed
 *   sets/<set>/revisions/<n>/unit    snapshot of the unit with its drop-ins; and release
 *   sets/<set>/rollouts/d-<id>.log   the journal of one rollout
 *
 * A journal is JSON lines, each with the whole rollout record, then a tab and a CRC of the line:
 * readable by people, exact for us. The last line whose CRC holds is the truth.
 *
 *  1. A line is on disk (fdatasync) before the effects that follow it are performed.
 *  2. A line says its version ("v", none before there was one); keys are only added, and one that is
 *     not known is passed by. A line of a version beyond the next, or in a state that we do not know,
 *     does not count: the one before it does, and steps are safe to repeat.
 */
#include "core/inner.h"

#include <dirent.h>
#include <fcntl.h>
#include <jansson.h>
#include <sys/stat.h>

#define JOURNAL_LINE_MAX 16384
#define PRUNED_AT_ONCE   1000 /* journals of a life without a bound */
#define PRUNED_BEFORE    16 /* so many missing in a row: the older ones went long ago */
#define JOURNAL_FILE_MAX (16 * 1024 * 1024)

/* ---- rollout_rec <-> JSON ----------------------------------------------------------------------- */

/* One letter a member keeps a line of 256 members short. */
static void steps_text(const uint8_t *v, unsigned n, char *out)
{
	for (unsigned i = 0; i < n; i++)
		out[i] = (char)('a' + v[i]);
	out[n] = '\0';
}

static void steps_parse(const char *s, uint8_t *v)
{
	for (unsigned i = 0; s && s[i] && i < SET_MEMBERS_MAX; i++)
		v[i] = (uint8_t)(s[i] - 'a'); /* rollout_rec_check() knows the last letter */
}

static char *record_text(const struct rollout_rec *r, uint64_t seq, const char *event)
{
	char steps[SET_MEMBERS_MAX + 1], touched[SET_MEMBERS_MAX + 1], stamp[TIMESTAMP_MAX];
	char reason[sizeof(r->reason)], text[256];
	/* Both may have been cut in the middle of a character, which jansson does not take. */
	str_copy(reason, r->reason, sizeof(reason));
	str_copy(text, strna(event), sizeof(text));
	str_make_printable(reason);
	str_make_printable(text);
	steps_text(r->step, SET_MEMBERS_MAX, steps);
	steps_text(r->touched, SET_MEMBERS_MAX, touched);
	unsigned n = SET_MEMBERS_MAX; /* untouched members at the end need no letters */
	while (n > 0 && steps[n - 1] == 'a' && touched[n - 1] == 'a')
		n--;
	steps[n] = touched[n] = '\0';
	json_t *j = json_pack(
		"{si sI ss ss ss sI ss si si ss ss si si si ss ss sI sI sI si si si si si ss ss ss}",
		"v", ROLLOUT_REC_VERSION, "seq", (json_int_t)seq, "time",
		format_timestamp(stamp, now_wall_us()), "state", rollout_state_name(r->state),
		"resume", rollout_state_name(r->resume_state), "id", (json_int_t)r->id, "set",
		r->set, "from", (int)r->from_revision, "to", (int)r->to_revision, "from_release",
		r->from_release, "to_release", r->to_release, "count", (int)r->count, "surge",
		(int)r->surge, "unavailable", (int)r->unavailable, "steps", steps, "touched",
		touched, "began", (json_int_t)r->began_wall_us, "ended",
		(json_int_t)r->ended_wall_us, "request", (json_int_t)r->request, "undo", r->is_undo,
		"rollback", r->is_rollback_wanted, "restart", r->is_restart, "canary_passed",
		r->is_canary_passed, "pause_after", (int)r->pause_after, "actor", r->actor,
		"reason", reason, "text", text);
	char *out = j ? json_dumps(j, JSON_COMPACT) : NULL;
	json_decref(j);
	return out;
}

static void copy_field(const json_t *j, const char *key, char *out, size_t size)
{
	const char *s = json_string_value(json_object_get(j, key));
	str_copy(out, strna(s), size);
}

static uint64_t number_field(const json_t *j, const char *key)
{
	return (uint64_t)json_integer_value(json_object_get(j, key));
}

/* What does not fit becomes the largest value: for a bounded field one that rollout_rec_check()
 * refuses, never a small one by wrapping. */
static uint32_t u32_field(const json_t *j, const char *key)
{
	return (uint32_t)MIN(number_field(j, key), (uint64_t)UINT32_MAX);
}

static uint8_t u8_field(const json_t *j, const char *key)
{
	return (uint8_t)MIN(number_field(j, key), (uint64_t)UINT8_MAX);
}

static uint8_t state_field(const json_t *j, const char *key)
{
	const char *s = json_string_value(json_object_get(j, key));
	for (int i = 0; s && i < ROLL_STATE_MAX; i++)
		if (streq(s, rollout_state_name((enum rollout_state)i)))
			return (uint8_t)i;
	return s ? ROLL_STATE_MAX : ROLL_NONE; /* a newer version's: nothing we can go on from */
}

static int record_parse(const char *line, size_t size, struct rollout_rec *ret)
{
	const char *tab = memrchr(line, '\t', size);
	struct json_t *j;
	if (!tab || strtoul(tab + 1, NULL, 16) != crc32_of(line, (size_t)(tab - line)))
		return -EBADMSG;
	int r = json_parse_bounded(line, (size_t)(tab - line), 4, &j, NULL);
	if (r < 0)
		return r;
	memset(ret, 0, sizeof(*ret));
	if (number_field(j, "v") > ROLLOUT_REC_VERSION + 1) {
		json_decref(j);
		return -EPROTONOSUPPORT;
	}
	ret->version = ROLLOUT_REC_VERSION;
	ret->state = state_field(j, "state");
	ret->resume_state = state_field(j, "resume");
	ret->id = number_field(j, "id");
	ret->from_revision = u32_field(j, "from");
	ret->to_revision = u32_field(j, "to");
	ret->count = u32_field(j, "count");
	ret->surge = u32_field(j, "surge");
	ret->unavailable = u32_field(j, "unavailable");
	ret->began_wall_us = number_field(j, "began");
	ret->ended_wall_us = number_field(j, "ended");
	ret->request = number_field(j, "request");
	ret->is_undo = u8_field(j, "undo");
	ret->is_rollback_wanted = u8_field(j, "rollback");
	ret->is_restart = u8_field(j, "restart");
	ret->is_canary_passed = u8_field(j, "canary_passed");
	ret->pause_after = u32_field(j, "pause_after");
	copy_field(j, "set", ret->set, sizeof(ret->set));
	copy_field(j, "from_release", ret->from_release, sizeof(ret->from_release));
	copy_field(j, "to_release", ret->to_release, sizeof(ret->to_release));
	copy_field(j, "actor", ret->actor, sizeof(ret->actor));
	copy_field(j, "reason", ret->reason, sizeof(ret->reason));
	steps_parse(json_string_value(json_object_get(j, "steps")), ret->step);
	steps_parse(json_string_value(json_object_get(j, "touched")), ret->touched);
	json_decref(j);
	return rollout_rec_check(ret);
}

/* ---- the journal ----------------------------------------------------------------------------------- */

/* A line that a crash has cut must not swallow the next one. */
static int end_torn_line(int fd)
{
	char end = '\n';
	off_t size = lseek(fd, 0, SEEK_END);
	if (size > 0 && pread(fd, &end, 1, size - 1) < 0)
		return -errno;
	return end == '\n' ? 0 : write_all(fd, "\n", 1);
}

static size_t journal_ids(struct core *c, const char *set, uint64_t **ret);

/* Room for one more: nobody sees those beyond HISTORY_MAX. */
static void prune_journals(struct core *c, const struct set *s)
{
	CLEANUP_FREE uint64_t *ids = NULL;
	CLEANUP_FREE char *dir = state_dir_of(c, s->name, "rollouts");
	size_t n = journal_ids(c, s->name, &ids);
	for (size_t i = 0; i + HISTORY_MAX <= n && i < PRUNED_AT_ONCE; i++) {
		CLEANUP_FREE char *path =
			xasprintf("%s/d-%llu.log", dir, (unsigned long long)ids[i]);
		if (ids[i] != s->rollout.id)
			(void)unlink(path);
	}
}

static int journal_open(struct core *c, struct set *s)
{
	struct set_core *x = sc(s);
	if (x->journal_fd >= 0 && x->journal_id == s->rollout.id)
		return 0;
	x->journal_fd = fd_close(x->journal_fd);
	CLEANUP_FREE char *dir = state_dir_of(c, s->name, "rollouts");
	CLEANUP_FREE char *path =
		xasprintf("%s/d-%llu.log", dir, (unsigned long long)s->rollout.id);
	int r = mkdir_parents(dir, 0755);
	if (r < 0)
		return r;
	prune_journals(c, s);
	x->journal_fd = open(path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0644);
	x->journal_id = s->rollout.id;
	return x->journal_fd < 0 ? -errno : end_torn_line(x->journal_fd);
}

static void state_failed(struct core *c, const struct set *s, const char *what, int error)
{
	char text[TROUBLE_TEXT_MAX];
	snprintf(text, sizeof(text),
		"%s: cannot write %s of %s: %s; make room there, or make it writable: until then a crash "
		"of the daemon would lose it",
		c->state_dir, what, s->name, errno_name(error));
	core_trouble(c, TROUBLE_STATE, text);
}

static void state_is_well(struct core *c)
{
	for (size_t i = 0; c->world && i < c->world->n_sets; i++) {
		const struct set_core *x = sc(c->world->sets[i]);
		if (x->is_commit_due || x->is_count_due)
			return;
	}
	core_trouble(c, TROUBLE_STATE, NULL);
}

void journal_again(struct core *c)
{
	for (size_t i = 0; i < c->world->n_sets; i++) {
		struct set *s = c->world->sets[i];
		if (sc(s)->is_commit_due)
			journal_commit(c, s);
		if (sc(s)->is_count_due)
			journal_count(c, s);
	}
}

void journal_write(struct core *c, struct set *s, const char *text)
{
	int r = journal_open(c, s);
	if (r == 0) {
		CLEANUP_FREE char *line = record_text(&s->rollout, ++sc(s)->journal_seq, text);
		CLEANUP_FREE char *full =
			line ? xasprintf("%s\t%08x\n", line, crc32_of(line, strlen(line))) : NULL;
		r = full ? write_all(sc(s)->journal_fd, full, strlen(full)) : -EINVAL;
		if (r == 0 && fdatasync(sc(s)->journal_fd) < 0)
			r = -errno;
	}
	if (r < 0)
		state_failed(c, s, "rollout journal", r);
	else
		state_is_well(c);
}

static int last_line(struct core *c, const char *path, struct rollout_rec *ret)
{
	struct buf b = {0};
	int r = read_file(AT_FDCWD, path, JOURNAL_FILE_MAX, &b), bad = 0;
	c->n_state_unread += r == -EACCES || r == -EPERM;
	if (r == 0) {
		r = -ENODATA;
		for (char *line = b.data; line && *line;) {
			char *end = strchr(line, '\n');
			struct rollout_rec rec;
			if (!end)
				break; /* torn by a crash: the one before counts */
			int e = *line == '\n' ? 0 : record_parse(line, (size_t)(end - line), &rec);
			if (e == 0 && *line != '\n') {
				*ret = rec;
				r = 0;
			}
			bad = e; /* of the last line */
			line = end + 1;
		}
	}
	if (bad < 0)
		log_warn(NULL, "%s: its last line is %s: going by the one before", path,
			bad == -EPROTONOSUPPORT ? "of a version too new" : "damaged");
	buf_done(&b);
	return r;
}

static int by_number(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
	return x < y ? -1 : x > y;
}

static size_t journal_ids(struct core *c, const char *set, uint64_t **ret)
{
	CLEANUP_FREE char *dir = state_dir_of(c, set, "rollouts");
	DIR *d = dir_open(dir);
	c->n_state_unread += !d && (errno == EACCES || errno == EPERM);
	uint64_t *v = NULL;
	size_t n = 0, cap = 0;
	for (struct dirent *e; d && (e = dir_next(d));) {
		if (!startswith(e->d_name, "d-"))
			continue;
		GROW(v, n, cap);
		v[n++] = strtoull(e->d_name + 2, NULL, 10);
	}
	if (d)
		closedir(d);
	if (n)
		qsort(v, n, sizeof(*v), by_number);
	*ret = v;
	return n;
}

static int journal_read(struct core *c, const char *set, uint64_t id, struct rollout_rec *ret)
{
	CLEANUP_FREE char *dir = state_dir_of(c, set, "rollouts");
	CLEANUP_FREE char *path = xasprintf("%s/d-%llu.log", dir, (unsigned long long)id);
	return last_line(c, path, ret);
}

int journal_last(struct core *c, struct set *s, struct rollout_rec *ret)
{
	CLEANUP_FREE uint64_t *ids = NULL;
	size_t n = journal_ids(c, s->name, &ids);
	int r = -ENODATA;
	while (n > 0 && r < 0)
		r = journal_read(c, s->name, ids[--n], ret);
	return r;
}

int journal_last_done(struct core *c, const char *set, struct rollout_rec *ret)
{
	CLEANUP_FREE uint64_t *ids = NULL;
	for (size_t n = journal_ids(c, set, &ids); n > 0; n--)
		if (journal_read(c, set, ids[n - 1], ret) == 0 && ret->state == ROLL_DONE)
			return 0;
	return -ENODATA;
}

int core_history(struct core *c, struct set *s,
	void (*each)(void *arg, const struct rollout_rec *rec), void *arg)
{
	CLEANUP_FREE uint64_t *ids = NULL;
	size_t n = journal_ids(c, s->name, &ids);
	for (size_t i = n > HISTORY_MAX ? n - HISTORY_MAX : 0; i < n; i++) {
		struct rollout_rec r;
		if (journal_read(c, s->name, ids[i], &r) == 0)
			each(arg, &r);
	}
	return 0;
}

/* ---- commit -------------------------------------------------------------------------------------------- */

/* Atomically, for people and for systemd: a new link renamed over the old one. */
static int switch_link(const char *link, const char *target)
{
	CLEANUP_FREE char *tmp = xasprintf("%s.new.%d", link, (int)getpid());
	struct stat st;
	if (lstat(link, &st) == 0 && !S_ISLNK(st.st_mode))
		return -EEXIST; /* a real file or directory stands there: not ours to replace */
	(void)unlink(tmp);
	if (symlink(target, tmp) < 0)
		return -errno;
	if (rename(tmp, link) < 0) {
		int r = -errno;
		(void)unlink(tmp);
		return r;
	}
	return 0;
}

static bool is_in_use(const struct set *s, uint32_t revision)
{
	bool is = revision == s->revision || revision == s->rollout.from_revision ||
		  revision == s->rollout.to_revision;
	for (unsigned i = 0; !is && i < SET_MEMBERS_MAX; i++)
		is = s->members[i] && (s->members[i]->rec.revision == revision ||
					      s->members[i]->next_revision == revision);
	return is;
}

/* Snapshots from one downwards to another, never one in use. What was pruned before is not looked for at
 * every commit of a long life. */
static void prune_revisions(struct core *c, const struct set *s, uint32_t from, uint32_t to)
{
	unsigned missing = 0;
	for (uint32_t n = from; n > to && missing < PRUNED_BEFORE; n--) {
		static const char *const files[] = {"unit", "release"};
		if (is_in_use(s, n))
			continue;
		CLEANUP_FREE char *sub = xasprintf("revisions/%u", n);
		CLEANUP_FREE char *dir = state_dir_of(c, s->name, sub);
		for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
			CLEANUP_FREE char *path = xasprintf("%s/%s", dir, files[i]);
			(void)unlink(path);
		}
		missing = rmdir(dir) < 0 && errno == ENOENT ? missing + 1 : 0;
	}
}

static unsigned revisions_kept(const struct set *s)
{
	unsigned n = sc(s)->conf->rollout.revision_history;
	return n ? n : 10;
}

void journal_prune_failed(struct core *c, const struct set *s)
{
	uint32_t last = sc(s)->last_revision, keep = revisions_kept(s);
	if (last > keep)
		prune_revisions(c, s, last - keep, s->revision);
}

void journal_count(struct core *c, struct set *s)
{
	char text[16];
	snprintf(text, sizeof(text), "%u\n", s->count);
	int r = state_write(c, s->name, "count", text);
	sc(s)->is_count_due = r < 0;
	if (r == 0) {
		state_is_well(c);
		return;
	}
	state_failed(c, s, "the number of members", r);
	core_again(c);
}

void journal_commit(struct core *c, struct set *s)
{
	store_committed(c, s);
	const struct rollout_conf *conf = &sc(s)->conf->rollout;
	CLEANUP_FREE char *text = xasprintf("%u %s\n", s->revision, s->release);
	int r = state_write(c, s->name, "current", text);
	sc(s)->is_commit_due = r < 0;
	if (r < 0) {
		state_failed(c, s, "its revision", r);
		core_again(c);
		return;
	}
	state_is_well(c);
	if (conf->release_link && conf->release_root && s->release[0]) {
		CLEANUP_FREE char *target = xasprintf("%s/%s", conf->release_root, s->release);
		r = switch_link(conf->release_link, target);
		if (r < 0)
			log_warn(s->name, "ReleaseLink=%s: %s", conf->release_link, errno_name(r));
	}
	uint32_t keep = revisions_kept(s);
	if (s->revision > keep)
		prune_revisions(c, s, s->revision - keep - 1, 0);
}
