/* SPDX-License-Identifier: Apache-2.0 */
/* String -> pointer hash map, open addressing with linear probing and tombstones. */
#include "base.h"

struct map_entry {
	const char *key; /* NULL: free; TOMB: deleted */
	uint64_t hash;
	void *value;
};

static const char TOMB[] = "";

/* FNV-1a with a final mix; keys are names from configuration, not from an adversary's network. */
uint64_t hash_bytes(const void *data, size_t size)
{
	const unsigned char *p = data;
	uint64_t h = 14695981039346656037ULL;
	for (size_t i = 0; i < size; i++)
		h = (h ^ p[i]) * 1099511628211ULL;
	h ^= h >> 32;
	return h;
}

/* Four bytes a round: a record is summed at every change of state. Made at first use, so that a
 * role that never sums has no page of it. */
static uint32_t crc_table[4][256];

static void crc_table_fill(void)
{
	for (uint32_t i = 0; i < 256; i++) {
		uint32_t c = i;
		for (int k = 0; k < 8; k++)
			c = (c >> 1) ^ (0xedb88320u & (0u - (c & 1u)));
		crc_table[0][i] = c;
	}
	for (int t = 1; t < 4; t++)
		for (uint32_t i = 0; i < 256; i++)
			crc_table[t][i] = (crc_table[t - 1][i] >> 8) ^
					  crc_table[0][crc_table[t - 1][i] & 0xff];
}

uint32_t crc32_of(const void *data, size_t size)
{
	const unsigned char *p = data;
	uint32_t c = 0xffffffffu;
	if (!crc_table[0][1])
		crc_table_fill();
	for (; size >= 4; p += 4, size -= 4) {
		c ^= (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 |
		     (uint32_t)p[3] << 24;
		c = crc_table[3][c & 0xff] ^ crc_table[2][c >> 8 & 0xff] ^
		    crc_table[1][c >> 16 & 0xff] ^ crc_table[0][c >> 24];
	}
	for (; size; p++, size--)
		c = (c >> 8) ^ crc_table[0][(c ^ *p) & 0xff];
	return ~c;
}

static struct map_entry *map_find(const struct map *m, const char *key, uint64_t hash)
{
	if (!m->cap)
		return NULL;
	for (size_t i = hash & (m->cap - 1);; i = (i + 1) & (m->cap - 1)) {
		struct map_entry *e = &m->entries[i];
		if (!e->key)
			return NULL;
		if (e->key != TOMB && e->hash == hash && streq(e->key, key))
			return e;
	}
}

static void map_insert(struct map *m, const char *key, uint64_t hash, void *value)
{
	size_t i = hash & (m->cap - 1);
	while (m->entries[i].key && m->entries[i].key != TOMB)
		i = (i + 1) & (m->cap - 1);
	if (m->entries[i].key == TOMB)
		m->tombs--;
	m->entries[i] = (struct map_entry){key, hash, value};
	m->n++;
}

static void map_resize(struct map *m)
{
	struct map old = *m;
	m->cap = 16;
	while (m->cap < old.n * 2 + 2)
		m->cap *= 2;
	m->entries = xcalloc(m->cap, sizeof(*m->entries));
	m->n = m->tombs = 0;
	for (size_t i = 0; i < old.cap; i++)
		if (old.entries[i].key && old.entries[i].key != TOMB)
			map_insert(
				m, old.entries[i].key, old.entries[i].hash, old.entries[i].value);
	free(old.entries);
}

void *map_get(const struct map *m, const char *key)
{
	struct map_entry *e = map_find(m, key, hash_bytes(key, strlen(key)));
	return e ? e->value : NULL;
}

void *map_put(struct map *m, const char *key, void *value)
{
	uint64_t hash = hash_bytes(key, strlen(key));
	struct map_entry *e = map_find(m, key, hash);
	if (e) {
		void *old = e->value;
		e->key = key;
		e->value = value;
		return old;
	}
	if ((m->n + m->tombs + 1) * 4 > m->cap * 3)
		map_resize(m);
	map_insert(m, key, hash, value);
	return NULL;
}

void *map_del(struct map *m, const char *key)
{
	struct map_entry *e = map_find(m, key, hash_bytes(key, strlen(key)));
	if (!e)
		return NULL;
	e->key = TOMB;
	m->n--;
	m->tombs++;
	return e->value;
}

bool map_next(const struct map *m, size_t *pos, const char **ret_key, void **ret_value)
{
	for (; *pos < m->cap; (*pos)++) {
		struct map_entry *e = &m->entries[*pos];
		if (!e->key || e->key == TOMB)
			continue;
		if (ret_key)
			*ret_key = e->key;
		if (ret_value)
			*ret_value = e->value;
		(*pos)++;
		return true;
	}
	return false;
}

void map_done(struct map *m)
{
	free(m->entries);
	memset(m, 0, sizeof(*m));
}
