/* SPDX-License-Identifier: Apache-2.0 */
#include "check_main.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>

#include "core/inner.h"

#include <sys/resource.h> /* its PRIO_MAX is not ours */

#define UNITS 3

static struct core core;
static struct unit units[UNITS];
static struct unit_core companions[UNITS];
static char dir[64], path[80], names[UNITS][16];
static struct world world;
static struct unit *dirty[1];

static void setup(void)
{
	memset(&core, 0, sizeof(core));
	str_copy(dir, "/tmp/stayd-record-XXXXXX", sizeof(dir));
	ck_assert_ptr_nonnull(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/state", dir);
	core.runtime_dir = dir;
	core.world = &world;
	world.dirty = dirty;
	core.keeper_fd = core.record_fd = -1;
	memset(&core.boot, 7, sizeof(core.boot));
	memset(units, 0, sizeof(units));
	memset(companions, 0, sizeof(companions));
	for (int i = 0; i < UNITS; i++) {
		units[i].core = &companions[i];
		units[i].rec.version = UNIT_REC_VERSION;
		units[i].name = names[i];
		snprintf(names[i], sizeof(names[i]), "u%d.service", i);
		companions[i].slot = UINT32_MAX;
	}
	ck_assert_int_eq(record_open(&core, -1), 0);
}

static void teardown(void)
{
	char aside[96];
	snprintf(aside, sizeof(aside), "%s.damaged", path);
	(void)unlink(aside);
	fd_close(core.record_fd);
	(void)unlink(path);
	(void)rmdir(dir);
}

static void write_port(int unit, uint16_t port)
{
	units[unit].rec.port = port;
	companions[unit].kept.main.from_us = port;
	units[unit].is_dirty = true;
	dirty[0] = &units[unit];
	world.n_dirty = 1;
	record_write_dirty(&core);
}

/* What a successor finds: the port of each unit, 0 for one that is not there. */
static uint16_t found[UNITS];
static unsigned n_found;

static unsigned n_unsound;
static bool is_lost;

static void note(struct core *c, uint32_t slot, uint64_t generation, const char *name,
	const struct unit_rec *r, const struct unit_kept *kept, bool is_sound)
{
	int i = name[1] - '0';
	(void)c;
	ck_assert_uint_eq(kept->main.from_us, is_sound ? r->port : kept->main.from_us);
	n_unsound += !is_sound;
	ck_assert_uint_lt(slot, UNITS);
	ck_assert_uint_gt(generation, 0);
	found[i] = r->port;
	n_found++;
}

static void look(void)
{
	struct core next = {
		.runtime_dir = dir, .keeper_fd = -1, .boot = core.boot, .world = &world};
	memset(found, 0, sizeof(found));
	n_found = n_unsound = 0;
	ck_assert_int_eq(record_open(&next, -1), 0);
	record_each(&next, note);
	is_lost = next.is_record_lost;
	fd_close(next.record_fd);
}

START_TEST(a_successor_finds_the_newest_state_of_each_unit)
{
	for (uint16_t v = 1; v <= 5; v++)
		for (int i = 0; i < UNITS; i++)
			write_port(i, (uint16_t)(v * 10 + i));
	look();
	ck_assert_uint_eq(n_found, UNITS);
	for (int i = 0; i < UNITS; i++)
		ck_assert_uint_eq(found[i], 50 + i);
}
END_TEST

/* The newest copy of unit 1, cut or changed at every byte: its previous state, never rubbish. */
START_TEST(a_torn_write_loses_the_newest_state_and_nothing_else)
{
	struct stat st;
	for (int i = 0; i < UNITS; i++)
		for (uint16_t v = 1; v <= 3; v++)
			write_port(i, v);
	ck_assert_int_eq(stat(path, &st), 0);
	size_t size = (size_t)st.st_size;
	char *before = xcalloc(1, size), *after = xcalloc(1, size);
	ck_assert_int_eq(pread(core.record_fd, before, size, 0), (ssize_t)size);
	write_port(1, 4);
	ck_assert_int_eq(pread(core.record_fd, after, size, 0), (ssize_t)size);
	size_t first = 0, last = size;
	while (before[first] == after[first])
		first++;
	while (before[last - 1] == after[last - 1])
		last--;
	ck_assert_uint_lt(first, last);
	for (size_t cut = first; cut < last; cut++) {
		ck_assert_int_eq(pwrite(core.record_fd, before, size, 0), (ssize_t)size);
		ck_assert_int_eq(pwrite(core.record_fd, after + first, cut - first, (off_t)first),
			(ssize_t)(cut - first));
		look();
		ck_assert_uint_eq(n_found, UNITS);
		ck_assert_msg(found[1] == 3, "cut at %zu: %u", cut, found[1]);
		ck_assert_uint_eq(found[0], 3);
		ck_assert_uint_eq(found[2], 3);
	}
	ck_assert_int_eq(pwrite(core.record_fd, after, size, 0), (ssize_t)size);
	look();
	ck_assert_uint_eq(found[1], 4);
	free(before);
	free(after);
}
END_TEST

START_TEST(a_file_cut_anywhere_is_no_crash_and_the_rest_is_found)
{
	struct stat st;
	for (int i = 0; i < UNITS; i++)
		for (uint16_t v = 1; v <= 2; v++)
			write_port(i, v);
	ck_assert_int_eq(stat(path, &st), 0);
	for (off_t cut = st.st_size; cut >= 64; cut -= 37) {
		ck_assert_int_eq(truncate(path, cut), 0);
		look();
		for (int i = 0; i < UNITS; i++)
			ck_assert_uint_le(found[i], 2);
	}
}
END_TEST

START_TEST(records_of_another_boot_do_not_count)
{
	write_port(0, 1);
	core.boot.b[0] ^= 1;
	look();
	ck_assert_uint_eq(n_found, 0);
}
END_TEST

/* Every byte of the file, damaged: other units' records are as they were, and what is found of the
 * damaged one is one of its states, flagged unless it is the newest by chance. */
START_TEST(a_damaged_byte_costs_one_copy_and_is_noticed)
{
	log_open("test", LOG_ERROR); /* the warning, thousands of times */
	struct stat st;
	for (int i = 0; i < UNITS; i++)
		for (uint16_t v = 1; v <= 2; v++)
			write_port(i, v);
	ck_assert_int_eq(stat(path, &st), 0);
	for (off_t at = 0; at < st.st_size; at += at < 64 || at % 977 < 300 ? 1 : 7) {
		char is, was;
		ck_assert_int_eq(pread(core.record_fd, &was, 1, at), 1);
		is = (char)(was ^ 0x41);
		ck_assert_int_eq(pwrite(core.record_fd, &is, 1, at), 1);
		look();
		if (at <
			64) { /* the head: all is lost and put aside, or of another boot, or a hole */
			ck_assert(n_found == 0 || n_found == UNITS);
			(void)unlink(path);
			fd_close(core.record_fd);
			core.n_slots = 0;
			ck_assert_int_eq(record_open(&core, -1), 0);
			for (int i = 0; i < UNITS; i++) {
				companions[i].slot = UINT32_MAX;
				companions[i].record_generation = 0;
				for (uint16_t v = 1; v <= 2; v++)
					write_port(i, v);
			}
			continue;
		}
		ck_assert_uint_eq(n_found, UNITS);
		ck_assert_uint_le(n_unsound, 1);
		for (int i = 0; i < UNITS; i++)
			ck_assert_uint_eq(found[i], n_unsound && found[i] == 1 ? 1 : 2);
		ck_assert_int_eq(pwrite(core.record_fd, &was, 1, at), 1);
	}
}
END_TEST

START_TEST(both_copies_damaged_is_said)
{
	struct stat st;
	for (int i = 0; i < UNITS; i++)
		for (uint16_t v = 1; v <= 2; v++)
			write_port(i, v);
	ck_assert_int_eq(stat(path, &st), 0);
	off_t stride = (st.st_size - 64) / (2 * UNITS);
	for (int copy = 2; copy < 4; copy++)
		ck_assert_int_eq(pwrite(core.record_fd, "rubbish", 7, 64 + copy * stride + 100), 7);
	look();
	ck_assert_uint_eq(n_found, UNITS - 1);
	ck_assert(is_lost);
}
END_TEST

/* The same records as another version writes them: parts of another length, another stride. */
static void write_as(uint32_t version, int longer)
{
	struct stat st;
	ck_assert_int_eq(stat(path, &st), 0);
	size_t stride = (size_t)(st.st_size - 64) / (2 * UNITS), other = stride + (size_t)longer;
	char *own = xcalloc(1, (size_t)st.st_size), head[64];
	ck_assert_int_eq(pread(core.record_fd, own, (size_t)st.st_size, 0), st.st_size);
	memcpy(head, own, sizeof(head));
	uint32_t words[4];
	memcpy(words, head, sizeof(words));
	words[1] = version;
	words[2] = (uint32_t)other;
	words[3] = 0;
	memcpy(head, words, sizeof(words));
	words[3] = crc32_of(head, 32);
	memcpy(head, words, sizeof(words));
	ck_assert_int_eq(pwrite(core.record_fd, head, sizeof(head), 0), sizeof(head));
	for (size_t i = 0; i < 2 * UNITS; i++) {
		const char *from = own + 64 + i * stride;
		char *to = xcalloc(1, other + stride);
		uint16_t rec = sizeof(struct unit_rec), kept = sizeof(struct unit_kept);
		size_t at = stride - rec - kept;
		memcpy(to, from, at);
		memcpy(to + at, from + at, MIN(rec, (uint16_t)(rec + longer)));
		memcpy(to + at, &version, sizeof(version));
		memcpy(to + at + rec + longer, from + at + rec, kept);
		uint32_t crc = 0;
		rec = (uint16_t)(rec + longer);
		memcpy(to + 8, &crc, sizeof(crc));
		memcpy(to + 12, &rec, sizeof(rec));
		crc = crc32_of(to, at + rec + kept);
		memcpy(to + 8, &crc, sizeof(crc));
		ck_assert_int_eq(
			pwrite(core.record_fd, to, other, (off_t)(64 + i * other)), (ssize_t)other);
		free(to);
	}
	ck_assert_int_eq(ftruncate(core.record_fd, (off_t)(64 + 2 * UNITS * other)), 0);
	free(own);
}

static void three_records(void)
{
	for (int i = 0; i < UNITS; i++)
		for (uint16_t v = 1; v <= 2; v++)
			write_port(i, v);
}

START_TEST(the_version_before_and_the_one_behind_are_read)
{
	static const struct {
		int version, longer;
	} others[] = {
		{-1, -8},
                {-1, 0 },
                {0,  0 },
                {1,  8 },
                {1,  64}
        };
	for (size_t i = 0; i < ARRAY_SIZE(others); i++) {
		teardown();
		setup();
		three_records();
		write_as((uint32_t)(UNIT_REC_VERSION + others[i].version), others[i].longer);
		look();
		ck_assert_uint_eq(n_found, UNITS);
		ck_assert_uint_eq(n_unsound, 0);
		for (int k = 0; k < UNITS; k++)
			ck_assert_uint_eq(found[k], 2);
	}
}
END_TEST

START_TEST(a_version_beyond_is_put_aside_and_said)
{
	char aside[96];
	struct stat st;
	three_records();
	write_as(UNIT_REC_VERSION + 2, 8);
	look();
	ck_assert_uint_eq(n_found, 0);
	ck_assert(is_lost);
	snprintf(aside, sizeof(aside), "%s.damaged", path);
	ck_assert_int_eq(stat(aside, &st), 0);
	ck_assert_int_eq(unlink(aside), 0);
	is_lost = false;
	look(); /* the new file is empty, and sound */
	ck_assert(!is_lost);
}
END_TEST

START_TEST(another_versions_file_is_written_anew_with_all_slots)
{
	struct unit *list[UNITS] = {&units[0], &units[1], &units[2]};
	three_records();
	write_as(UNIT_REC_VERSION + 1, 8);
	fd_close(core.record_fd);
	core.n_slots = 0;
	ck_assert_int_eq(record_open(&core, -1), 0);
	ck_assert_uint_eq(core.n_slots, UNITS);
	write_port(1, 7); /* not yet: it would be in the wrong layout */
	world.units = list;
	world.n_units = UNITS;
	ck_assert_int_eq(record_settle(&core), 0);
	write_port(2, 9);
	look();
	ck_assert_uint_eq(n_found, UNITS);
	ck_assert_uint_eq(found[0], 2);
	ck_assert_uint_eq(found[1], 7);
	ck_assert_uint_eq(found[2], 9);
	world.units = NULL;
	world.n_units = 0;
}
END_TEST

START_TEST(another_versions_file_stays_until_all_of_it_can_be_written_anew)
{
	struct unit *list[UNITS] = {&units[0], &units[1], &units[2]};
	struct rlimit was, small;
	struct stat st;
	char tmp[96];
	three_records();
	write_as(UNIT_REC_VERSION + 1, 8);
	fd_close(core.record_fd);
	core.n_slots = 0;
	ck_assert_int_eq(record_open(&core, -1), 0);
	world.units = list;
	world.n_units = UNITS;
	snprintf(tmp, sizeof(tmp), "%s.new", path);
	ck_assert_int_eq(stat(path, &st), 0);
	const rlim_t room[] = {0, 64 + 8, (rlim_t)st.st_size / 2};
	(void)signal(SIGXFSZ, SIG_IGN);
	ck_assert_int_eq(getrlimit(RLIMIT_FSIZE, &was), 0);
	for (size_t i = 0; i < ARRAY_SIZE(room); i++) {
		small = (struct rlimit){room[i], was.rlim_max};
		int limited = setrlimit(RLIMIT_FSIZE, &small), r = record_settle(&core);
		/* before anything is checked: Check itself writes a file */
		ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &was), 0);
		ck_assert_int_eq(limited, 0);
		ck_assert_int_lt(r, 0);
		ck_assert(core.trouble[TROUBLE_RECORD][0] && core.again_us);
		ck_assert_int_eq(stat(tmp, &st), -1);
		write_port(1, (uint16_t)(7 + i));
		look();
		for (int k = 0; k < UNITS; k++)
			ck_assert_uint_eq(found[k], 2);
	}
	ck_assert_int_eq(record_settle(&core), 0);
	ck_assert(!core.trouble[TROUBLE_RECORD][0]);
	write_port(2, 9);
	look();
	ck_assert_uint_eq(n_found, UNITS);
	ck_assert_uint_eq(found[0], 2);
	ck_assert_uint_eq(found[1], 9);
	ck_assert_uint_eq(found[2], 9);
	world.units = NULL;
	world.n_units = 0;
}
END_TEST

Suite *suite(void)
{
	Suite *s = suite_create("record");
	TCase *t = tcase_create("record");
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, a_successor_finds_the_newest_state_of_each_unit);
	tcase_add_test(t, a_torn_write_loses_the_newest_state_and_nothing_else);
	tcase_add_test(t, a_file_cut_anywhere_is_no_crash_and_the_rest_is_found);
	tcase_add_test(t, records_of_another_boot_do_not_count);
	tcase_add_test(t, a_damaged_byte_costs_one_copy_and_is_noticed);
	tcase_add_test(t, both_copies_damaged_is_said);
	tcase_add_test(t, the_version_before_and_the_one_behind_are_read);
	tcase_add_test(t, a_version_beyond_is_put_aside_and_said);
	tcase_add_test(t, another_versions_file_is_written_anew_with_all_slots);
	tcase_add_test(t, another_versions_file_stays_until_all_of_it_can_be_written_anew);
	tcase_set_timeout(t, 60);
	suite_add_tcase(s, t);
	return s;
}
