/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Packs: arrays of plain items in a memfd, read by another version of the program that wrote them.
 *
 *  1. Nothing is taken from a pack before all of it was found whole: head, sizes, checksum.
 *  2. Item sizes may differ: what the reader does not know is skipped, what it misses is 0.
 *  3. No allocator, as in bare.c.
 *
 * Called by keeper/.
 */
#include "base.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

struct pack_head {
	char magic[8];
	uint32_t version, oldest;
	uint32_t sum, n_sections; /* crc32 of all behind the head */
	struct {
		uint32_t count, size;
	} section[PACK_SECTIONS_MAX];
};

static const char magic_of_packs[8] = "staydpk";

/* Pages first: a write into a mapping that the machine cannot back would be a SIGBUS. */
int pack_save(const struct pack_section *s, unsigned n, uint32_t version, uint32_t oldest)
{
	struct pack_head h = {.version = version, .oldest = oldest, .n_sections = n};
	size_t size = sizeof(h);
	memcpy(h.magic, magic_of_packs, sizeof(h.magic));
	for (unsigned i = 0; i < n; i++) {
		h.section[i].count = s[i].count;
		h.section[i].size = s[i].size;
		size += (size_t)s[i].count * s[i].size;
	}
	int fd = memfd_create("pack", 0), e = -errno;
	if (fd < 0)
		return e;
	char *all = fallocate(fd, 0, 0, (off_t)size) < 0
			    ? MAP_FAILED
			    : mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (all == MAP_FAILED) {
		e = -errno;
		fd_close(fd);
		return e;
	}
	char *p = all + sizeof(h);
	for (unsigned i = 0; i < n; i++) {
		memcpy(p, s[i].items, (size_t)s[i].count * s[i].size);
		p += (size_t)s[i].count * s[i].size;
	}
	h.sum = crc32_of(all + sizeof(h), size - sizeof(h));
	memcpy(all, &h, sizeof(h));
	(void)munmap(all, size);
	return fd;
}

static bool pack_is_good(const char *all, size_t size, uint32_t version, uint32_t oldest)
{
	struct pack_head h;
	uint64_t end = sizeof(h);
	if (size < sizeof(h))
		return false;
	memcpy(&h, all, sizeof(h));
	if (memcmp(h.magic, magic_of_packs, sizeof(h.magic)) != 0 || h.oldest > version ||
		h.version < oldest || h.n_sections > PACK_SECTIONS_MAX)
		return false;
	for (unsigned i = 0; i < h.n_sections; i++) /* items of no size could be any number */
		if (h.section[i].count && !h.section[i].size)
			return false;
	for (unsigned i = 0; i < h.n_sections; i++)
		end += (uint64_t)h.section[i].count * h.section[i].size;
	return end == size && h.sum == crc32_of(all + sizeof(h), size - sizeof(h));
}

static void pack_give(const char *all, const struct pack_section *s, unsigned n)
{
	struct pack_head h;
	memcpy(&h, all, sizeof(h));
	const char *p = all + sizeof(h);
	for (unsigned i = 0; i < h.n_sections && i < n; i++) {
		uint32_t size = h.section[i].size;
		for (uint32_t j = 0; j < h.section[i].count; j++, p += size) {
			uint64_t item[PACK_ITEM_MAX / sizeof(uint64_t)] = {0};
			memcpy(item, p, MIN(size, s[i].size));
			if (!s[i].take(j, item))
				say_line("item %d.%d of the state is not usable", (int)i, (int)j);
		}
	}
}

int pack_load(int fd, const struct pack_section *s, unsigned n, uint32_t version, uint32_t oldest)
{
	struct stat st;
	if (fstat(fd, &st) < 0)
		return -errno;
	size_t size = (size_t)st.st_size;
	char *all = mmap(NULL, size, PROT_READ, MAP_PRIVATE, fd, 0);
	if (all == MAP_FAILED)
		return -errno;
	int r = pack_is_good(all, size, version, oldest) ? 0 : -EBADMSG;
	if (r == 0)
		pack_give(all, s, n);
	(void)munmap(all, size);
	return r;
}
