/* SPDX-License-Identifier: Apache-2.0 */
#include "check_main.h"

#include <fcntl.h>
#include <sys/stat.h>

#include "core/inner.h"

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
	fd_close(core.record_fd);
	(void)unlink(path);
	(void)rmdir(dir);
}

static void write_port(int unit, uint16_t port)
{
	units[unit].rec.port = port;
	units[unit].is_dirty = true;
	dirty[0] = &units[unit];
	world.n_dirty = 1;
	record_write_dirty(&core);
}

/* What a successor finds: the port of each unit, 0 for one that is not there. */
static uint16_t found[UNITS];
static unsigned n_found;

static void note(struct core *c, uint32_t slot, uint64_t generation, const char *name,
	const struct unit_rec *r)
{
	int i = name[1] - '0';
	(void)c;
	ck_assert_uint_lt(slot, UNITS);
	ck_assert_uint_gt(generation, 0);
	found[i] = r->port;
	n_found++;
}

static void look(void)
{
	struct core next = {.runtime_dir = dir, .keeper_fd = -1, .boot = core.boot};
	memset(found, 0, sizeof(found));
	n_found = 0;
	ck_assert_int_eq(record_open(&next, -1), 0);
	record_each(&next, note);
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

Suite *suite(void)
{
	Suite *s = suite_create("record");
	TCase *t = tcase_create("record");
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, a_successor_finds_the_newest_state_of_each_unit);
	tcase_add_test(t, a_torn_write_loses_the_newest_state_and_nothing_else);
	tcase_add_test(t, a_file_cut_anywhere_is_no_crash_and_the_rest_is_found);
	tcase_add_test(t, records_of_another_boot_do_not_count);
	suite_add_tcase(s, t);
	return s;
}
