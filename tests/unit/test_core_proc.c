/* SPDX-License-Identifier: Apache-2.0 */
#include "check_main.h"

#include "core/inner.h"

#define UNITS 8
#define MANY  5000

static struct procs table;
static struct unit units[UNITS];
static struct unit_core companions[UNITS];

static void setup(void)
{
	memset(&table, 0, sizeof(table));
	memset(units, 0, sizeof(units));
	memset(companions, 0, sizeof(companions));
	for (int i = 0; i < UNITS; i++)
		units[i].core = &companions[i];
}

static void teardown(void)
{
	procs_done(&table);
}

/* few invocations, so that many identities share a slot and its neighbours */
static struct spawn_id id_of(unsigned n)
{
	struct spawn_id id = {.seq = n};
	id.invocation[0] = (uint8_t)(n % 3);
	return id;
}

static size_t length(const struct proc *p)
{
	size_t n = 0;
	for (; p; p = p->next)
		n++;
	return n;
}

START_TEST(a_process_is_found_by_its_identity_until_it_is_dropped)
{
	static bool is_in[MANY];
	uint64_t rng = 7;
	memset(is_in, 0, sizeof(is_in));
	for (int step = 0; step < 8 * MANY; step++) {
		unsigned n = (unsigned)(rng_next(&rng) % MANY);
		struct spawn_id id = id_of(n);
		struct proc *p = proc_find(&table, &id);
		ck_assert_int_eq(p != NULL, is_in[n]);
		if (p)
			proc_drop(&table, p);
		else
			(void)proc_new(&table, &id, PROC_UNIT, &units[n % UNITS]);
		is_in[n] = !is_in[n];
	}
	size_t n = 0, listed = 0;
	for (unsigned i = 0; i < MANY; i++)
		n += is_in[i];
	for (int i = 0; i < UNITS; i++)
		listed += length(companions[i].procs);
	ck_assert_uint_eq(table.n, n);
	ck_assert_uint_eq(listed, n);
}
END_TEST

START_TEST(the_same_identity_is_one_process)
{
	struct spawn_id id = id_of(1);
	struct proc *p = proc_new(&table, &id, PROC_UNIT, &units[0]);
	ck_assert_ptr_eq(proc_new(&table, &id, PROC_UNIT, &units[0]), p);
	ck_assert_uint_eq(length(companions[0].procs), 1);
	id.invocation[15] ^= 1;
	ck_assert_ptr_null(proc_find(&table, &id));
}
END_TEST

START_TEST(probes_are_listed_apart_from_the_units_processes)
{
	struct spawn_id a = id_of(1), b = id_of(2);
	struct proc *probe = proc_new(&table, &a, PROC_PROBE, &units[0]);
	struct proc *main = proc_new(&table, &b, PROC_UNIT, &units[0]);
	ck_assert_ptr_eq(companions[0].procs, main);
	ck_assert_ptr_null(main->next);
	ck_assert_ptr_eq(table.probes, probe);
	proc_drop(&table, probe);
	ck_assert_ptr_null(table.probes);
	ck_assert_ptr_eq(companions[0].procs, main);
}
END_TEST

START_TEST(a_process_is_found_by_its_pid_and_by_that_of_its_shim)
{
	struct spawn_id a = id_of(1), b = id_of(2);
	struct proc *p = proc_new(&table, &a, PROC_UNIT, &units[0]);
	(void)proc_new(&table, &b, PROC_UNIT, &units[1]);
	p->pid = 100;
	p->shim_pid = 99;
	ck_assert_ptr_eq(proc_find_pid(&table, 100), p);
	ck_assert_ptr_eq(proc_find_pid(&table, 99), p);
	ck_assert_ptr_null(proc_find_pid(&table, 101));
}
END_TEST

Suite *suite(void)
{
	Suite *s = suite_create("proc");
	TCase *t = tcase_create("proc");
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, a_process_is_found_by_its_identity_until_it_is_dropped);
	tcase_add_test(t, the_same_identity_is_one_process);
	tcase_add_test(t, probes_are_listed_apart_from_the_units_processes);
	tcase_add_test(t, a_process_is_found_by_its_pid_and_by_that_of_its_shim);
	suite_add_tcase(s, t);
	return s;
}
