/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The records: one slot per unit in a file of the runtime directory, or, where that cannot be
 * written, in a memfd that keeper holds.
 *
 *  1. A slot has two copies; the one with the lower generation is overwritten, so a torn write
 *     loses the newest state at worst, never the previous one.
 *  2. Records count in the same boot only (the boot id is in the header).
 *  3. Writing is pwrite(2), not a mapping: the pages are the kernel's, not ours.
 *  4. Version N reads what N-1, N and N+1 wrote. The header says how wide a copy is, a copy says how
 *     long its parts are: of a longer part what we do not know is left, of a shorter one the rest is
 *     zero. In return struct unit_rec and struct unit_kept only grow at their end, an array in them
 *     never grows, and no value changes its meaning. A file of another version is written anew as
 *     ours (under another name, then renamed) when everything in it was read: only there the fields
 *     that we do not know are given up, and going back and forth again they begin as zero.
 *  5. Of a step that changes several units the one that it began with is written last: its end, or what is
 *     wanted of it, changed the others (OnFailure=, BindsTo=, PartOf=, a start of what it needs). When
 *     they are in, all is; when it is not, its exit is told again, or who asked has no answer.
 *  6. What cannot be read (another version, damage, a cut file) is said and put aside, and adopt.c
 *     goes by the processes themselves.
 */
#include "core/inner.h"
#include "core/procfs.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#define RECORD_MAGIC      0x44594154u /* "TAYD" */
#define READ_TRIES        3
#define RECORD_HEADER     64
#define RECORD_STRIDE_MAX 16384 /* of one copy, in a file of any version */
#define RECORD_SLOTS_MAX  (4 * UNITS_MAX)
#define PARKED_DEPOSIT    "state-parked"

struct record_header {
	uint32_t magic, version;
	uint32_t stride; /* bytes of a copy */
	uint32_t crc;    /* of the header, with 0 here */
	struct id128 boot;
};

struct copy_head {
	uint64_t generation;
	uint32_t crc; /* of the head, with 0 here, and of both parts */
	uint16_t rec_size, kept_size;
	char name[UNIT_NAME_MAX + 1];
};

/* What we write. struct unit_rec's size is a multiple of 8, as is the head's. */
struct own_copy {
	struct copy_head head;
	struct unit_rec rec;
	struct unit_kept kept;
};
_Static_assert(
	sizeof(struct own_copy) <= RECORD_STRIDE_MAX, "a copy fits into the reader's buffer");
_Static_assert(sizeof(struct own_copy) == sizeof(struct copy_head) + sizeof(struct unit_rec) +
						  sizeof(struct unit_kept),
	"no holes between the parts");

static off_t slot_offset(const struct core *c, uint32_t slot, unsigned copy)
{
	return RECORD_HEADER + (off_t)(slot * 2 + copy) * (off_t)c->record_stride;
}

/* ---- the file ----------------------------------------------------------------------------------- */

static uint32_t header_crc(struct record_header h)
{
	h.crc = 0;
	return crc32_of(&h, sizeof(h));
}

/* All of it, or up to the end of the file. -errno: it cannot be read, which says nothing of what is in
 * it; hence the second and third look, and another core (see_all_read()). */
static ssize_t read_at(int fd, void *data, size_t size, off_t at)
{
	size_t got = 0;
	for (int tries = 0; got < size;) {
		ssize_t n = pread(fd, (char *)data + got, size - got, at + (off_t)got);
		if (n == 0)
			break;
		got += n > 0 ? (size_t)n : 0;
		if (n < 0 && ++tries == READ_TRIES)
			return -errno;
	}
	return (ssize_t)got;
}

static int header_write(struct core *c)
{
	struct record_header h = {
		RECORD_MAGIC, UNIT_REC_VERSION, sizeof(struct own_copy), 0, c->boot};
	char block[RECORD_HEADER] = {0};
	h.crc = header_crc(h);
	memcpy(block, &h, sizeof(h));
	c->record_stride = h.stride;
	c->is_record_foreign = false;
	if (ftruncate(c->record_fd, 0) < 0 ||
		pwrite(c->record_fd, block, sizeof(block), 0) != sizeof(block))
		return -errno;
	return 0;
}

/* The fault is NULL: usable. "": nothing is there, or it is of another boot. Else what is wrong with it. */
static const char *header_fault(struct core *c, const struct record_header *h, ssize_t n)
{
	if (n < 0)
		return "it cannot be read";
	if (n == 0)
		return "";
	if (n != sizeof(*h))
		return "it is cut";
	if (h->magic != RECORD_MAGIC || h->crc != header_crc(*h))
		return "its head is damaged";
	if (id128_is_null(&c->boot) && c->restarts_of_core)
		c->boot = h->boot; /* it cannot be read now, and keeper has seen no boot */
	if (!id128_eq(&h->boot, &c->boot))
		return "";
	if (h->version + 1 < UNIT_REC_VERSION)
		return "it is of a version too old";
	if (h->version > UNIT_REC_VERSION + 1)
		return "it is of a version too new";
	if (h->stride < sizeof(struct copy_head) || h->stride > RECORD_STRIDE_MAX)
		return "its head makes no sense";
	return NULL;
}

static int memory_file(struct core *c)
{
	int fd = memfd_create("stayd-state", MFD_CLOEXEC);
	if (fd < 0)
		return -errno;
	keeper_put(c, "state", fd);
	return fd;
}

static int file_open(struct core *c, const char *name, int flags)
{
	CLEANUP_FREE char *path = xasprintf("%s/%s", c->runtime_dir, name);
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | flags, 0600);
	return fd < 0 ? -errno : fd;
}

/* For people to look at; ours is a new one. */
static int put_aside(struct core *c, const char *fault)
{
	CLEANUP_FREE char *path = xasprintf("%s/state", c->runtime_dir);
	CLEANUP_FREE char *aside = xasprintf("%s/state.damaged", c->runtime_dir);
	c->is_record_lost = true;
	log_error(NULL, "records of units: %s; kept as %s; going by the processes that run", fault,
		c->is_record_in_file ? aside : "nothing");
	fd_close(c->record_fd);
	if (c->is_record_in_file)
		(void)rename(path, aside);
	c->record_fd = c->is_record_in_file ? file_open(c, "state", 0) : memory_file(c);
	return c->record_fd < 0 ? c->record_fd : header_write(c);
}

static bool is_passing(int r)
{
	return r == -EMFILE || r == -ENFILE || r == -ENOMEM || r == -EINTR || r == -EIO;
}

int record_open(struct core *c, int deposited_fd)
{
	struct record_header h;
	struct stat st;
	c->record_fd = deposited_fd;
	int parked = deposit_take(PARKED_DEPOSIT);
	c->is_record_in_file = c->is_record_parked = parked >= 0;
	fd_close(parked);
	if (c->record_fd < 0 && !c->is_in_memory) {
		c->record_fd = file_open(c, "state", 0);
		c->is_record_in_file = c->record_fd >= 0;
		/* Another core, in a moment, can open it: memory would forget what is in it. Also when
		 * it is not allowed: the core before us has not deposited a memory of its own. */
		if (is_passing(c->record_fd))
			return c->record_fd;
		if (c->record_fd < 0 && c->restarts_of_core &&
			core_may_try_again(c, READ_AGAIN_MAX)) {
			log_error(NULL, "%s/state: %s; trying again", c->runtime_dir,
				errno_name(c->record_fd));
			return c->record_fd;
		}
		if (c->record_fd < 0)
			log_warn(NULL, "%s/state: %s; keeping state in memory held by the keeper",
				c->runtime_dir, errno_name(c->record_fd));
	}
	if (c->record_fd < 0)
		c->record_fd = memory_file(c);
	if (c->record_fd < 0)
		return c->record_fd;
	ssize_t n = read_at(c->record_fd, &h, sizeof(h), 0);
	if (n < 0 && core_may_try_again(c, RECORD_AGAIN_MAX)) {
		log_error(NULL, "records of units cannot be read: %s; trying again",
			errno_name((int)n));
		return (int)n;
	}
	const char *fault = header_fault(c, &h, n);
	if (fault)
		return *fault ? put_aside(c, fault) : header_write(c);
	c->record_stride = h.stride;
	c->is_record_foreign = h.version != UNIT_REC_VERSION || h.stride != sizeof(struct own_copy);
	if (fstat(c->record_fd, &st) < 0)
		return -errno;
	if (st.st_size <= RECORD_HEADER)
		return 0;
	size_t size = (size_t)st.st_size - RECORD_HEADER, slot = 2 * (size_t)h.stride;
	if (size > (size_t)RECORD_SLOTS_MAX * slot)
		return put_aside(c, "it is longer than it can be");
	c->n_slots = (uint32_t)((size + slot - 1) / slot);
	return 0;
}

/* Nothing in it concerns us. */
int record_clear(struct core *c)
{
	c->n_slots = 0;
	return header_write(c);
}

/* ---- windows: what tells a process from another of the same pid ----------------------------------- */

/* asked_boot_us is 0 when a core before this one asked for it. */
void record_window(const struct proc *p)
{
	struct unit_kept *k = &uc(p->unit)->kept;
	struct run_window w = {p->asked_boot_us, now_boot_us()};
	if (memcmp(&p->id, &p->unit->rec.main, sizeof(p->id)) == 0)
		k->main = w;
	else
		k->control = w;
}

void record_main_named(struct unit *u, pid_t pid)
{
	struct proc_stat s;
	if (procfs_stat(pid, &s) == 0)
		uc(u)->kept.main = (struct run_window){s.start_us, s.start_us};
}

/* ---- writing -------------------------------------------------------------------------------------- */

/* The unit stays dirty, and its other copy, which is the newest whole one, as it is. */
static void write_failed(struct core *c, struct unit *u, int error)
{
	char text[TROUBLE_TEXT_MAX];
	uc(u)->record_generation--;
	snprintf(text, sizeof(text),
		"%s: cannot write the record of %s: %s; make room there: until then a crash of the "
		"daemon would lose its newest state",
		c->is_record_in_file ? c->runtime_dir : "memory", u->name, errno_name(error));
	core_trouble(c, TROUBLE_RECORD, text);
	core_again(c);
}

int record_write(struct core *c, struct unit *u)
{
	struct unit_core *x = uc(u);
	struct own_copy copy;
	if (c->is_record_foreign)
		return -EAGAIN; /* record_settle() writes all of them */
	if (x->slot == UINT32_MAX)
		x->slot = c->n_slots++;
	memset(&copy, 0, sizeof(copy));
	copy.head.generation = ++x->record_generation;
	copy.head.rec_size = sizeof(copy.rec);
	copy.head.kept_size = sizeof(copy.kept);
	str_copy(copy.head.name, u->name, sizeof(copy.head.name));
	copy.rec = u->rec;
	copy.rec.version = UNIT_REC_VERSION;
	x->kept.set_count = u->set ? u->set->count : 0;
	copy.kept = x->kept;
	copy.head.crc = crc32_of(&copy, sizeof(copy));
	errno = ENOSPC; /* of a write that was cut */
	ssize_t n;
	do
		n = pwrite(c->record_fd, &copy, sizeof(copy),
			slot_offset(c, x->slot, copy.head.generation & 1));
	while (n < 0 && errno == EINTR);
	if (n != (ssize_t)sizeof(copy)) {
		int error = errno;
		write_failed(c, u, error);
		return -error;
	}
	x->is_record_sound = true;
	u->is_dirty = false;
	return 0;
}

void record_write_dirty(struct core *c)
{
	struct world *w = c->world;
	if (c->is_record_foreign)
		return;
	if (w->n_dirty)
		log_flush(); /* a word may be said twice by a successor, but is never missing */
	size_t n = w->n_dirty, first = n;
	while (n > 0) {
		struct unit *u = w->dirty[--n];
		if (u->core && u->is_dirty)
			record_write(c, u);
		u->in_dirty_list = u->core && u->is_dirty;
		if (u->in_dirty_list)
			w->dirty[--first] = u;
	}
	if (w->n_dirty && first == w->n_dirty && !c->is_record_parked)
		core_trouble(c, TROUBLE_RECORD, NULL);
	w->n_dirty -= first;
	if (w->n_dirty)
		memmove(w->dirty, w->dirty + first, w->n_dirty * sizeof(*w->dirty));
}

/* A new file in our own layout, with the slots as they were: deposits are named by them. */
static int write_all_anew(struct core *c, bool is_file, const char *path, const char *tmp)
{
	int old = c->record_fd;
	bool was_foreign = c->is_record_foreign;
	int fd = is_file ? file_open(c, "state.new", O_TRUNC) : -1;
	if (is_file && fd < 0)
		return fd;
	if (fd < 0)
		fd = memfd_create("stayd-state", MFD_CLOEXEC);
	if (fd < 0)
		return -errno;
	uint32_t stride = c->record_stride;
	c->record_fd = fd;
	int r = header_write(c);
	for (size_t i = 0; r == 0 && i < c->world->n_units; i++) {
		struct unit *u = c->world->units[i];
		r = uc(u)->slot == UINT32_MAX ? 0 : record_write(c, u);
	}
	if (r == 0 && is_file && rename(tmp, path) < 0)
		r = -errno;
	if (r == 0 && !is_file)
		keeper_put(c, "state", fd);
	if (r == 0 && !is_file && c->is_record_in_file)
		keeper_put(c, PARKED_DEPOSIT, fd);
	if (r == 0 && is_file && c->is_record_parked) {
		keeper_drop(c, "state");
		keeper_drop(c, PARKED_DEPOSIT);
	}
	fd_close(r < 0 ? fd : old);
	if (r < 0) {
		c->record_fd = old;
		c->record_stride = stride;
		c->is_record_foreign = was_foreign;
	}
	return r;
}

/* Until it can be, the file of the other version stays as it is, whole, if old, and ours are in memory that
 * keeper holds. */
int record_settle(struct core *c)
{
	char text[TROUBLE_TEXT_MAX];
	if (!c->is_record_foreign && !c->is_record_parked)
		return 0;
	CLEANUP_FREE char *path = xasprintf("%s/state", c->runtime_dir);
	CLEANUP_FREE char *tmp = xasprintf("%s/state.new", c->runtime_dir);
	int r = write_all_anew(c, c->is_record_in_file, path, tmp);
	if (r == 0) {
		c->is_record_parked = false;
		log_note(NULL, "records of units: of another version; written anew as version %d",
			UNIT_REC_VERSION);
		core_trouble(c, TROUBLE_RECORD, NULL);
		return 0;
	}
	if (c->is_record_in_file)
		(void)unlink(tmp);
	if (c->is_record_in_file && !c->is_record_parked)
		c->is_record_parked = write_all_anew(c, false, path, tmp) == 0;
	snprintf(text, sizeof(text),
		"%s: cannot write the records of another version anew: %s; make room there: until "
		"then a crash of the %s would lose what has changed",
		c->is_record_in_file ? c->runtime_dir : "memory", errno_name(r),
		c->is_record_parked ? "keeper" : "daemon");
	core_trouble(c, TROUBLE_RECORD, text);
	core_again(c);
	return r;
}

/* ---- reading -------------------------------------------------------------------------------------- */

enum copy_state { COPY_EMPTY, COPY_DAMAGED, COPY_SOUND };

static uint32_t copy_crc(char *raw, size_t size)
{
	struct copy_head h;
	memcpy(&h, raw, sizeof(h));
	uint32_t crc = h.crc;
	h.crc = 0;
	memcpy(raw, &h, sizeof(h));
	uint32_t is = crc32_of(raw, size);
	h.crc = crc;
	memcpy(raw, &h, sizeof(h));
	return is;
}

/* Of our version or one beside it, and saying what can be: names of a newer version's states are beyond
 * us. From here on it is one of ours. */
static bool rec_is_known(struct unit_rec *r)
{
	bool is_near = r->version + 1 >= UNIT_REC_VERSION && r->version <= UNIT_REC_VERSION + 1;
	r->version = UNIT_REC_VERSION;
	return is_near && unit_rec_check(r) == 0;
}

static enum copy_state copy_read(
	struct core *c, uint32_t slot, unsigned which, struct own_copy *ret)
{
	static const char zero[RECORD_STRIDE_MAX];
	char raw[RECORD_STRIDE_MAX];
	ssize_t n = read_at(c->record_fd, raw, c->record_stride, slot_offset(c, slot, which));
	c->n_records_unread += n < 0;
	if (n < 0)
		return COPY_DAMAGED;
	if (n == 0 || memcmp(raw, zero, (size_t)n) == 0)
		return COPY_EMPTY;
	memset(ret, 0, sizeof(*ret));
	if ((size_t)n < sizeof(ret->head))
		return COPY_DAMAGED;
	memcpy(&ret->head, raw, sizeof(ret->head));
	size_t rec = ret->head.rec_size, kept = ret->head.kept_size;
	size_t size = sizeof(ret->head) + rec + kept;
	/* The generation too: half of a new one before an old record would be the newest. */
	if (size > (size_t)n || ret->head.crc != copy_crc(raw, size) ||
		!memchr(ret->head.name, '\0', sizeof(ret->head.name)) ||
		!unit_name_is_valid(ret->head.name))
		return COPY_DAMAGED;
	memcpy(&ret->rec, raw + sizeof(ret->head), MIN(rec, sizeof(ret->rec)));
	memcpy(&ret->kept, raw + sizeof(ret->head) + rec, MIN(kept, sizeof(ret->kept)));
	return rec_is_known(&ret->rec) ? COPY_SOUND : COPY_DAMAGED;
}

void record_each(struct core *c, record_fn *fn)
{
	static struct own_copy copy[2]; /* fn may go on for long: not on its stack */
	uint32_t n = c->n_slots, n_lost = 0;
	for (uint32_t slot = 0; slot < n; slot++) {
		enum copy_state s[2] = {
			copy_read(c, slot, 0, &copy[0]), copy_read(c, slot, 1, &copy[1])};
		bool is_damaged = s[0] == COPY_DAMAGED || s[1] == COPY_DAMAGED;
		if (s[0] != COPY_SOUND && s[1] != COPY_SOUND) {
			n_lost += is_damaged || s[0] == s[1];
			continue;
		}
		int newest = s[1] != COPY_SOUND
				     ? 0
				     : s[0] != COPY_SOUND ||
					       copy[1].head.generation > copy[0].head.generation;
		struct own_copy found = copy[newest];
		if (is_damaged)
			log_warn(found.head.name,
				"one copy of its record is damaged: going by the other, which may be older");
		fn(c, slot, found.head.generation, found.head.name, &found.rec, &found.kept,
			!is_damaged);
	}
	if (n_lost) {
		c->is_record_lost = true;
		log_error(NULL,
			"%u of %u records of units cannot be read; going by the processes that run",
			n_lost, n);
	}
}
