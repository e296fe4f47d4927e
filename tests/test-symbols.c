/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * test-symbols.c - tracker/symbols.c: the way of a frame from wanted to its name, the row of modules, and the bounds.
 */
#include "tracker/symbols.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct symbols *s;

static void setup(void)
{
	ck_assert_int_eq(symbols_new(&s, 42), 0);
}

static void teardown(void)
{
	symbols_free(s);
	s = NULL;
}

static void assert_count(uint32_t wanted, uint32_t asked, uint32_t named, uint32_t failed)
{
	struct symbols_count c = symbols_count(s);

	ck_assert_uint_eq(c.wanted, wanted);
	ck_assert_uint_eq(c.asked, asked);
	ck_assert_uint_eq(c.named, named);
	ck_assert_uint_eq(c.failed, failed);
	ck_assert_uint_eq(c.frames, wanted + asked + named + failed);
}

static void ask_one(uint32_t module, uint64_t offset)
{
	uint64_t got[2] = { 0 };

	ck_assert_uint_eq(symbols_ask(s, module, got, 2), 1);
	ck_assert_uint_eq(got[0], offset);
}

START_TEST(a_frame_gets_its_name)
{
	ck_assert_ptr_null(symbols_name(s, 3, 0x1234));
	ck_assert(symbols_want(s, 3, 0x1234, 1));
	assert_count(1, 0, 0, 0);
	ck_assert(!symbols_want(s, 3, 0x1234, 1));
	ck_assert_ptr_null(symbols_name(s, 3, 0x1234));
	ask_one(3, 0x1234);
	assert_count(0, 1, 0, 0);
	ck_assert(!symbols_want(s, 3, 0x1234, 1));
	ck_assert_ptr_null(symbols_name(s, 3, 0x1234));
	symbols_add(s, 3, 0x1234, "main@a.c:7");
	assert_count(0, 0, 1, 0);
	ck_assert_str_eq(symbols_name(s, 3, 0x1234), "main@a.c:7");
	ck_assert(!symbols_want(s, 3, 0x1234, 1));
	ck_assert_ptr_null(symbols_name(s, 4, 0x1234));
	ck_assert_ptr_null(symbols_name(s, 3, 0x1235));
}
END_TEST

START_TEST(an_answer_is_final)
{
	ck_assert(symbols_want(s, 1, 1, 1));
	symbols_add(s, 1, 1, "too early");
	assert_count(1, 0, 0, 0);
	symbols_add(s, 1, 2, "nobody asked");
	assert_count(1, 0, 0, 0);
	ask_one(1, 1);
	symbols_add(s, 1, 1, NULL);
	assert_count(0, 0, 0, 1);
	symbols_add(s, 1, 1, "too late");
	ck_assert_ptr_null(symbols_name(s, 1, 1));
	ck_assert(symbols_want(s, 1, 3, 1));
	ask_one(1, 3);
	symbols_add(s, 1, 3, "");
	assert_count(0, 0, 0, 2);
	ck_assert_ptr_null(symbols_name(s, 1, 3));
	ck_assert_uint_eq(symbols_wanted(s, 0), 0);
}
END_TEST

START_TEST(what_failed_is_looked_for_elsewhere)
{
	ck_assert(symbols_want(s, 1, 1, 1));
	ask_one(1, 1);
	symbols_add(s, 1, 1, NULL);
	ck_assert(!symbols_want(s, 1, 1, 1));
	assert_count(0, 0, 0, 1);
	ck_assert(symbols_want(s, 1, 1, 2));
	ck_assert(!symbols_want(s, 1, 1, 2));
	assert_count(1, 0, 0, 0);
	ck_assert_uint_eq(symbols_wanted_by(s, 1), 2);
	/* While it is looked for there, it is wanted by two others: the later one is next. */
	ask_one(1, 1);
	ck_assert_uint_eq(symbols_wanted_by(s, 1), 0);
	ck_assert(!symbols_want(s, 1, 1, 3));
	ck_assert(!symbols_want(s, 1, 1, SYMBOLS_MODULES));
	symbols_add(s, 1, 1, NULL);
	assert_count(1, 0, 0, 0);
	ck_assert_uint_eq(symbols_wanted(s, 0), 1);
	ck_assert_uint_eq(symbols_wanted_by(s, 1), SYMBOLS_MODULES);
	ask_one(1, 1);
	ck_assert(!symbols_want(s, 1, 1, 3));
	symbols_add(s, 1, 1, "a");
	assert_count(0, 0, 1, 0);
	ck_assert_str_eq(symbols_name(s, 1, 1), "a");
	ck_assert(!symbols_want(s, 1, 1, 2));
	ck_assert(!symbols_want(s, 1, 2, 0));
	ck_assert(!symbols_want(s, 1, 2, SYMBOLS_MODULES + 1));
	ck_assert_uint_eq(symbols_wanted(s, 0), 0);
}
END_TEST

/* Who wants a frame first, has it looked for where he has it, whoever comes in between. */
START_TEST(frames_are_asked_for_by_one_at_a_time)
{
	uint64_t got[4];

	ck_assert(symbols_want(s, 1, 1, 7));
	ck_assert(symbols_want(s, 1, 2, 7));
	ck_assert(symbols_want(s, 1, 3, 8));
	ck_assert(!symbols_want(s, 1, 1, 8));
	ck_assert_uint_eq(symbols_wanted_by(s, 1), 7);
	ck_assert_uint_eq(symbols_ask(s, 1, got, 4), 2);
	ck_assert_uint_eq(got[0], 1);
	ck_assert_uint_eq(got[1], 2);
	ck_assert_uint_eq(symbols_wanted_by(s, 1), 8);
	symbols_add(s, 1, 1, NULL);
	symbols_add(s, 1, 2, NULL);
	assert_count(2, 0, 0, 1);
	ck_assert_uint_eq(symbols_ask(s, 1, got, 4), 2);
	ck_assert_uint_eq(got[0], 3);
	ck_assert_uint_eq(got[1], 1);
}
END_TEST

START_TEST(modules_take_turns)
{
	uint64_t got[8];

	for (uint64_t i = 0; i < 5; i++)
		ck_assert(symbols_want(s, 7, i, 1));
	ck_assert(symbols_want(s, 2, 100, 1));
	ck_assert(symbols_want(s, 9, 200, 1));
	ck_assert_uint_eq(symbols_wanted(s, 0), 7);
	ck_assert_uint_eq(symbols_wanted(s, 7), 2);
	ck_assert_uint_eq(symbols_wanted(s, 2), 9);
	ck_assert_uint_eq(symbols_wanted(s, 9), 0);
	ck_assert_uint_eq(symbols_ask(s, 7, got, 2), 2);
	ck_assert_uint_eq(got[0], 0);
	ck_assert_uint_eq(got[1], 1);
	ck_assert_uint_eq(symbols_wanted(s, 0), 2);
	ck_assert_uint_eq(symbols_wanted(s, 9), 7);
	/* one in the middle, then the last */
	ask_one(9, 200);
	ck_assert_uint_eq(symbols_wanted(s, 2), 7);
	ck_assert(symbols_want(s, 7, 5, 1));
	ck_assert_uint_eq(symbols_ask(s, 7, got, 8), 4);
	for (uint64_t i = 0; i < 4; i++)
		ck_assert_uint_eq(got[i], i + 2);
	ck_assert_uint_eq(symbols_wanted(s, 2), 0);
	ck_assert(symbols_want(s, 9, 201, 1));
	ck_assert_uint_eq(symbols_wanted(s, 2), 9);
	ask_one(2, 100);
	ask_one(9, 201);
	ck_assert_uint_eq(symbols_wanted(s, 0), 0);
	ck_assert_uint_eq(symbols_ask(s, 9, got, 8), 0);
	ck_assert_uint_eq(symbols_ask(s, 0, got, 8), 0);
	ck_assert_uint_eq(symbols_ask(s, UINT32_MAX, got, 8), 0);
	assert_count(0, 9, 0, 0);
}
END_TEST

START_TEST(no_module_no_name)
{
	ck_assert(!symbols_want(s, 0, 1, 1));
	ck_assert(!symbols_want(s, SYMBOLS_MODULES + 1, 1, 1));
	ck_assert(symbols_want(s, SYMBOLS_MODULES, UINT64_MAX, 1));
	ask_one(SYMBOLS_MODULES, UINT64_MAX);
	symbols_add(s, SYMBOLS_MODULES, UINT64_MAX, "last");
	ck_assert_str_eq(symbols_name(s, SYMBOLS_MODULES, UINT64_MAX), "last");
}
END_TEST

START_TEST(names_are_cut_and_shared)
{
	char name[SYMBOLS_NAME_MAX + 2];
	size_t before;

	memset(name, 'x', sizeof(name) - 1);
	name[sizeof(name) - 1] = '\0';
	for (uint64_t i = 0; i < 3; i++)
		symbols_want(s, 1, i, 1);
	ck_assert_uint_eq(symbols_ask(s, 1, (uint64_t[8]){ 0 }, 8), 3);
	symbols_add(s, 1, 0, name);
	name[SYMBOLS_NAME_MAX] = '\0';
	ck_assert_str_eq(symbols_name(s, 1, 0), name);
	before = symbols_memory(s);
	symbols_add(s, 1, 1, name);
	ck_assert_ptr_eq(symbols_name(s, 1, 1), symbols_name(s, 1, 0));
	ck_assert_uint_eq(symbols_memory(s), before);
	name[SYMBOLS_NAME_MAX - 1] = '\0';
	symbols_add(s, 1, 2, name);
	ck_assert_str_eq(symbols_name(s, 1, 2), name);
	ck_assert_uint_eq(symbols_memory(s), before + SYMBOLS_NAME_MAX);
	ck_assert_uint_eq(symbols_count(s).names, 2);
}
END_TEST

static void name_of(char *name, uint32_t i)
{
	snprintf(name, SYMBOLS_NAME_MAX + 1, "%08x%0*d", i, SYMBOLS_NAME_MAX - 8, 0);
}

/* The pool is full long before the frames are; the names in it stay. Counts, since a million checks take their time. */
START_TEST(no_room)
{
	const uint32_t fit = (SYMBOLS_POOL - 3) / (SYMBOLS_NAME_MAX + 1);
	char name[SYMBOLS_NAME_MAX + 1];
	uint32_t wanted = 0, right = 0;

	for (uint32_t i = 0; i < SYMBOLS_FRAMES; i++)
		wanted += symbols_want(s, 1 + i % 1000, i, 1);
	ck_assert_uint_eq(wanted, SYMBOLS_FRAMES);
	ck_assert(!symbols_want(s, 1, SYMBOLS_FRAMES, 1));
	assert_count(SYMBOLS_FRAMES, 0, 0, 0);
	for (uint32_t i = 0; i < fit + 1000; i++) {
		uint32_t module = symbols_wanted(s, 0);
		uint64_t offset = UINT64_MAX;

		right += symbols_ask(s, module, &offset, 1) == 1 && offset == i;
		name_of(name, i);
		symbols_add(s, module, offset, name);
	}
	ck_assert_uint_eq(right, fit + 1000);
	assert_count(SYMBOLS_FRAMES - fit - 1000, 0, fit, 1000);
	for (uint32_t i = 0; i < fit + 1000; i++) {
		const char *got = symbols_name(s, 1 + i % 1000, i);

		name_of(name, i);
		right -= i < fit ? got && strcmp(got, name) == 0 : !got;
	}
	ck_assert_uint_eq(right, 0);
	/* 24 bytes and an entry of the index for a frame, the pool, an entry for a name */
	ck_assert_uint_lt(symbols_memory(s), SYMBOLS_FRAMES * UINT64_C(40) + SYMBOLS_POOL + (UINT64_C(4) << 20));
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("symbols");
	TCase *t = tcase_create("symbols");
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_set_timeout(t, 120);
	tcase_add_test(t, a_frame_gets_its_name);
	tcase_add_test(t, an_answer_is_final);
	tcase_add_test(t, what_failed_is_looked_for_elsewhere);
	tcase_add_test(t, frames_are_asked_for_by_one_at_a_time);
	tcase_add_test(t, modules_take_turns);
	tcase_add_test(t, no_module_no_name);
	tcase_add_test(t, names_are_cut_and_shared);
	tcase_add_test(t, no_room);
	suite_add_tcase(suite, t);
	SRunner *r = srunner_create(suite);
	srunner_run_all(r, CK_NORMAL);
	int failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
