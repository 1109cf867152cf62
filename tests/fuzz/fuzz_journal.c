/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A line of a rollout journal, as it is after a crash, from another version, or edited by hand. First
 * byte: whether its CRC is put right (or the fuzzer would only learn to miss it).
 *
 * What is read can be: it says nothing outside of the model's states and bounds, and written and read
 * again it is the same; a whole file gives its last good line.
 * Options: -max_len=3072
 */
#include "core/journal.c"
#include "world_rig.h"

#define INPUT_MAX (1 << 20)

static int parse(const char *line, size_t size, struct rollout_rec *ret)
{
	char *exact = exact_copy(line, size + 1); /* with its line feed: last_line() cuts there */
	int r = record_parse(exact, size, ret);
	free(exact);
	return r;
}

static void check_again(const struct rollout_rec *r)
{
	struct rollout_rec again;
	struct buf b = {0};
	CLEANUP_FREE char *line = record_text(r, 1, "fuzz");
	if (!line) { /* bytes that are no text: only what stands in the record can be written */
		assert(!utf8_is_valid(r->set, strlen(r->set)) ||
			!utf8_is_valid(r->actor, strlen(r->actor)) ||
			!utf8_is_valid(r->from_release, strlen(r->from_release)) ||
			!utf8_is_valid(r->to_release, strlen(r->to_release)));
		return;
	}
	assert(!strchr(line, '\n') && strlen(line) < JOURNAL_LINE_MAX);
	buf_printf(&b, "%s\t%08x\n", line, crc32_of(line, strlen(line)));
	assert(parse(b.data, b.size - 1, &again) == 0);
	buf_done(&b);
	struct rollout_rec expected = *r;
	str_make_printable(expected.reason);
	str_copy(again.reason, again.reason, sizeof(again.reason));
	assert(again.state == r->state && again.resume_state == r->resume_state);
	assert(again.id == r->id && again.count == r->count && again.surge == r->surge);
	assert(again.from_revision == r->from_revision && again.to_revision == r->to_revision);
	assert(again.unavailable == r->unavailable && again.pause_after == r->pause_after);
	assert(again.is_undo == r->is_undo && again.is_restart == r->is_restart);
	assert(again.is_rollback_wanted == r->is_rollback_wanted);
	assert(again.is_canary_passed == r->is_canary_passed);
	assert(memcmp(again.step, r->step, sizeof(r->step)) == 0);
	assert(memcmp(again.touched, r->touched, sizeof(r->touched)) == 0);
	assert(streq(again.set, r->set) && streq(again.actor, r->actor));
	assert(streq(again.from_release, r->from_release));
	assert(streq(again.to_release, r->to_release) && streq(again.reason, expected.reason));
}

/* A line with its sum, in front of whatever else the file has. */
static void put_right(struct buf *b)
{
	const char *tab = b->size ? memrchr(b->data, '\t', b->size) : NULL;
	size_t n = tab ? (size_t)(tab - b->data) : b->size;
	b->size = n;
	buf_printf(b, "\t%08x", crc32_of(strna(b->data), n));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = in_begin(data, size);
	struct rollout_rec rec;
	struct buf b = {0};
	uint8_t what = in_u8(&in);
	size_t n = in_left(&in);
	const uint8_t *end = n ? memchr(in.p, '\n', MIN(n, (size_t)INPUT_MAX)) : NULL;
	buf_add(&b, in.p, end ? (size_t)(end - in.p) : n);
	if (what & 1)
		put_right(&b);
	n = b.size;
	buf_add_byte(&b, '\n');
	if (parse(b.data, n, &rec) == 0) {
		check_rollout(&rec);
		check_again(&rec);
	}
	buf_done(&b);
	return 0;
}
