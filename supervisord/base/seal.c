/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Lines that are chained by SHA-256: whoever changes, inserts or removes one breaks the next.
 *
 *   {"seq":7,"prev":"<64 hex digits>",BODY,"hash":"<64 hex digits>"}
 *
 *  1. hash is over all bytes of the line before ,"hash"; prev is the hash of the line before, zeros
 *     for the first.
 *  2. What is cut off at the end breaks nothing: only somebody who knows the last hash can tell.
 *
 * SHA-256 is libmd's (BSD's own, 10 KiB of static code): libcrypto would be larger than stayd itself, and
 * the kernel's AF_ALG is forbidden by the system call filters of containers.
 * Used by the audit log's writer in core and by stayctl audit.
 */
#include <ctype.h>
#include <sha2.h>

#include "base.h"

#define HASH_SIZE (SEAL_HASH_HEX - 1)
static const char hash_key[] = ",\"hash\":\"";

static void hash_of(const void *data, size_t size, char out[SEAL_HASH_HEX])
{
	SHA2_CTX c;
	uint8_t digest[SHA256_DIGEST_LENGTH];
	SHA256Init(&c);
	SHA256Update(&c, data, size);
	SHA256Final(digest, &c);
	for (size_t i = 0; i < sizeof(digest); i++)
		snprintf(out + 2 * i, 3, "%02x", digest[i]);
}

void seal_init(struct seal *c)
{
	c->seq = 0;
	memset(c->hash, '0', HASH_SIZE);
	c->hash[HASH_SIZE] = '\0';
}

void seal_add(struct seal *c, struct buf *out, const char *body)
{
	size_t from = out->size;
	buf_printf(out, "{\"seq\":%llu,\"prev\":\"%s\",", (unsigned long long)++c->seq, c->hash);
	buf_add_str(out, body);
	hash_of(out->data + from, out->size - from, c->hash);
	buf_printf(out, "%s%s\"}\n", hash_key, c->hash);
}

static bool is_hash(const char *s)
{
	for (size_t i = 0; i < HASH_SIZE; i++)
		if (!isdigit((unsigned char)s[i]) && !(s[i] >= 'a' && s[i] <= 'f'))
			return false;
	return true;
}

bool seal_read(const char *line, size_t size, struct seal *ret, char ret_prev[SEAL_HASH_HEX])
{
	static const char seq_key[] = "{\"seq\":", prev_key[] = ",\"prev\":\"";
	size_t tail = sizeof(hash_key) - 1 + HASH_SIZE + 2, at = sizeof(seq_key) - 1;
	struct seal c = {0};
	char hash[SEAL_HASH_HEX];
	if (size < at + tail + sizeof(prev_key) + HASH_SIZE || memcmp(line, seq_key, at) != 0 ||
		memcmp(line + size - 2, "\"}", 2) != 0 ||
		memcmp(line + size - tail, hash_key, sizeof(hash_key) - 1) != 0)
		return false;
	for (; isdigit((unsigned char)line[at]); at++)
		c.seq = c.seq * 10 + (unsigned)(line[at] - '0');
	if (memcmp(line + at, prev_key, sizeof(prev_key) - 1) != 0)
		return false;
	at += sizeof(prev_key) - 1;
	if (!is_hash(line + at) || !is_hash(line + size - 2 - HASH_SIZE))
		return false;
	hash_of(line, size - tail, hash);
	if (memcmp(hash, line + size - 2 - HASH_SIZE, HASH_SIZE) != 0)
		return false;
	str_copy(c.hash, hash, sizeof(c.hash));
	str_copy(ret_prev, line + at, SEAL_HASH_HEX);
	*ret = c;
	return true;
}

const char *seal_check(struct seal *c, const char *line, size_t size, bool is_first)
{
	struct seal next;
	char prev[SEAL_HASH_HEX];
	if (!seal_read(line, size, &next, prev))
		return "the line was changed: its hash is not that of its text";
	if (!is_first && next.seq != c->seq + 1)
		return next.seq > c->seq ? "lines before this one are missing"
					 : "the line is out of order";
	if (!is_first && !streq(prev, c->hash))
		return "the line before was changed or replaced: this one was written after another";
	*c = next;
	return NULL;
}
