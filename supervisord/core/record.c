/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The records: one slot per unit in a file of the runtime directory, or, where that cannot be
 * written, in a memfd that keeper holds.
 *
 *  1. A slot has two copies; the one with the lower generation is overwritten, so a torn write
 *     loses the newest state at worst, never the previous one.
 *  2. Records count in the same boot only (the boot id is in the header).
 *  3. Writing is pwrite(2), not a mapping: the pages are the kernel's, not ours.
 */
#include "core/inner.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#define RECORD_MAGIC  0x44594154u /* "TAYD" */
#define RECORD_HEADER 64

struct record_header {
	uint32_t magic, version, record_size, reserved;
	struct id128 boot;
};

struct record_copy {
	uint64_t generation;
	uint32_t crc;
	uint32_t size; /* of name and record */
	char name[UNIT_NAME_MAX + 1];
	struct unit_rec rec;
};
#define SUMMED_SIZE (sizeof(struct record_copy) - offsetof(struct record_copy, name))

static off_t slot_offset(uint32_t slot, unsigned copy)
{
	return RECORD_HEADER + (off_t)(slot * 2 + copy) * (off_t)sizeof(struct record_copy);
}

static int header_write(struct core *c)
{
	struct record_header h = {
		RECORD_MAGIC, UNIT_REC_VERSION, sizeof(struct record_copy), 0, c->boot};
	char block[RECORD_HEADER] = {0};
	memcpy(block, &h, sizeof(h));
	if (ftruncate(c->record_fd, 0) < 0 ||
		pwrite(c->record_fd, block, sizeof(block), 0) != sizeof(block))
		return -errno;
	return 0;
}

static bool header_is_ours(struct core *c)
{
	struct record_header h;
	return pread(c->record_fd, &h, sizeof(h), 0) == sizeof(h) && h.magic == RECORD_MAGIC &&
	       h.version == UNIT_REC_VERSION && h.record_size == sizeof(struct record_copy) &&
	       id128_eq(&h.boot, &c->boot);
}

int record_open(struct core *c, int deposited_fd)
{
	CLEANUP_FREE char *path = xasprintf("%s/state", c->runtime_dir);
	c->record_fd = deposited_fd;
	errno = EROFS;
	if (c->record_fd < 0 && !c->is_in_memory)
		c->record_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (c->record_fd < 0) {
		log_warn(NULL, "%s: %s; keeping state in memory held by the keeper", path,
			errno_name(errno));
		c->record_fd = memfd_create("stayd-state", MFD_CLOEXEC);
		if (c->record_fd < 0)
			return -errno;
		keeper_put(c, "state", c->record_fd);
	}
	if (!header_is_ours(c))
		return header_write(c);
	struct stat st;
	if (fstat(c->record_fd, &st) == 0 && st.st_size > RECORD_HEADER)
		c->n_slots = (uint32_t)((size_t)(st.st_size - RECORD_HEADER) /
					(2 * sizeof(struct record_copy))) +
			     1;
	return 0;
}

static void record_write(struct core *c, struct unit *u)
{
	struct unit_core *x = uc(u);
	struct record_copy copy;
	if (x->slot == UINT32_MAX)
		x->slot = c->n_slots++;
	memset(&copy, 0, sizeof(copy));
	copy.generation = ++x->record_generation;
	copy.size = SUMMED_SIZE;
	str_copy(copy.name, u->name, sizeof(copy.name));
	copy.rec = u->rec;
	copy.crc = crc32_of(&copy, sizeof(copy)); /* of all of it, with 0 in its own place */
	ssize_t n = pwrite(
		c->record_fd, &copy, sizeof(copy), slot_offset(x->slot, copy.generation & 1));
	if (n != (ssize_t)sizeof(copy))
		log_error(u->name,
			"cannot write its record: %s; a crash now would lose its newest state",
			errno_name(errno));
	u->is_dirty = false;
}

void record_write_dirty(struct core *c)
{
	struct world *w = c->world;
	if (w->n_dirty)
		log_flush(); /* a word may be said twice by a successor, but is never missing */
	for (size_t i = 0; i < w->n_dirty; i++) {
		struct unit *u = w->dirty[i];
		u->in_dirty_list = false;
		if (u->core && u->is_dirty)
			record_write(c, u);
	}
	w->n_dirty = 0;
}

static bool copy_read(struct core *c, uint32_t slot, unsigned which, struct record_copy *ret)
{
	if (pread(c->record_fd, ret, sizeof(*ret), slot_offset(slot, which)) != sizeof(*ret))
		return false;
	/* The generation too: half of a new one before an old record would be the newest. */
	uint32_t crc = ret->crc;
	ret->crc = 0;
	return ret->size == SUMMED_SIZE && crc == crc32_of(ret, sizeof(*ret)) &&
	       ret->rec.version == UNIT_REC_VERSION &&
	       memchr(ret->name, '\0', sizeof(ret->name));
}

void record_each(struct core *c,
	void (*fn)(struct core *c, uint32_t slot, uint64_t generation, const char *name,
		const struct unit_rec *r))
{
	struct record_copy a, b;
	uint32_t n = c->n_slots;
	for (uint32_t slot = 0; slot < n; slot++) {
		bool has_a = copy_read(c, slot, 0, &a), has_b = copy_read(c, slot, 1, &b);
		if (!has_a && !has_b)
			continue;
		const struct record_copy *newest =
			!has_b || (has_a && a.generation > b.generation) ? &a : &b;
		fn(c, slot, newest->generation, newest->name, &newest->rec);
	}
}
