/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * test-index.c - the index against a plain list: growing, shrinking, long runs of one hash, the end of the table.
 */
#include <check.h>
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "tracker/index.h"

#define HASH_MAX ((1U << INDEX_HASH_BITS) - 1)

static uint64_t random_state;

static uint32_t random_u32(void)
{
	random_state = random_state * UINT64_C(6364136223846793005) + 1442695040888963407;
	return (uint32_t)(random_state >> 32);
}

/* As ck_assert(), which writes to a file each time; here that is millions of times. */
#define EXPECT(condition)                          \
	do {                                       \
		if (!(condition))                  \
			ck_abort_msg("%s", #condition); \
	} while (0)

/* How many entries of the hash carry this value; all of the hash are counted in *all. */
static unsigned occurs(const struct index *ix, uint32_t hash, uint32_t value, unsigned *all)
{
	struct index_cursor c = index_find(ix, hash);
	unsigned n = 0;
	uint64_t e;

	*all = 0;
	while ((e = index_next(&c)) != 0) {
		EXPECT(index_entry_hash(e) == hash);
		n += index_entry_value(e) == value;
		++*all;
	}
	return n;
}

/* Sorted, at or behind home, no hole between home and entry, last slot empty: see index.c. */
static unsigned check_table(const struct index_table *t, uint32_t from)
{
	unsigned n = 0;
	uint32_t last = 0;

	if (!t->entry)
		return 0;
	for (uint32_t i = 0; i < t->slots; i++) {
		uint64_t e = t->entry[i];
		if (!e)
			continue;
		uint32_t home = index_home(t, index_entry_hash(e));
		EXPECT(i >= from);
		EXPECT(home <= i);
		EXPECT(index_entry_hash(e) >= last);
		for (uint32_t j = home > from ? home : from; j < i; j++)
			EXPECT(t->entry[j]);
		last = index_entry_hash(e);
		n++;
	}
	EXPECT(!t->entry[t->slots - 1]);
	return n;
}

static void check_index(const struct index *ix)
{
	unsigned n = check_table(&ix->now, 0) + check_table(&ix->old, ix->old.entry ? ix->old_pos : 0);

	EXPECT(n == ix->count);
}

/* What is remembered of the last look-up is what a new one would find. */
static void check_memo(const struct index *ix)
{
	const struct index_memo *m = ix->memo;

	EXPECT(m->changes != ix->changes || m->entry == index_seek(index_start(ix, m->hash), m->hash));
}

START_TEST(values_and_tags_come_back)
{
	struct index ix;
	ck_assert_int_eq(index_init(&ix), 0);
	ck_assert_int_eq(index_insert(&ix, 0, 0, 0), 0);
	ck_assert_int_eq(index_insert(&ix, HASH_MAX, 511, INDEX_VALUE_MAX), 0);
	ck_assert_int_eq(index_insert(&ix, 7, 1, INDEX_VALUE_MAX + 1), -EINVAL);
	struct index_cursor c = index_find(&ix, HASH_MAX);
	uint64_t e = index_next(&c);
	ck_assert_uint_eq(index_entry_hash(e), HASH_MAX);
	ck_assert_uint_eq(index_entry_tag(e), 511);
	ck_assert_uint_eq(index_entry_value(e), INDEX_VALUE_MAX);
	ck_assert_uint_eq(index_next(&c), 0);
	c = index_find(&ix, 0);
	ck_assert_uint_eq(index_entry_value(index_next(&c)), 0);
	ck_assert(!index_remove(&ix, 0, 1, 0));
	ck_assert(index_remove(&ix, 0, 0, 0));
	ck_assert(!index_remove(&ix, 0, 0, 0));
	index_deinit(&ix);
}
END_TEST

START_TEST(equal_hashes_keep_their_order)
{
	struct index ix;
	ck_assert_int_eq(index_init(&ix), 0);
	for (uint32_t v = 0; v < 100; v++) {
		ck_assert_int_eq(index_insert(&ix, 1000, 0, v), 0);
		ck_assert_int_eq(index_insert(&ix, 999, 0, v), 0);
	}
	struct index_cursor c = index_find(&ix, 1000);
	for (uint32_t v = 0; v < 100; v++)
		ck_assert_uint_eq(index_entry_value(index_next(&c)), v);
	ck_assert_uint_eq(index_next(&c), 0);
	check_index(&ix);
	index_deinit(&ix);
}
END_TEST

START_TEST(an_entry_is_replaced_if_it_is_alone)
{
	struct index ix;
	struct index_cursor c;
	uint64_t e;

	ck_assert_int_eq(index_init(&ix), 0);
	ck_assert_int_eq(index_insert(&ix, 999, 1, 5), 0);
	ck_assert_int_eq(index_insert(&ix, 1000, 1, 6), 0);
	ck_assert_int_eq(index_insert(&ix, 1001, 1, 7), 0);
	ck_assert(!index_replace_only(&ix, 1000, 2, 6, 3, 8));
	ck_assert(!index_replace_only(&ix, 1000, 1, 7, 3, 8));
	ck_assert(!index_replace_only(&ix, 1002, 1, 6, 3, 8));
	ck_assert(!index_replace_only(&ix, 1000, 1, 6, 3, INDEX_VALUE_MAX + 1));
	ck_assert(index_replace_only(&ix, 1000, 1, 6, 3, 8));
	c = index_find(&ix, 1000);
	e = index_next(&c);
	ck_assert_uint_eq(index_entry_tag(e), 3);
	ck_assert_uint_eq(index_entry_value(e), 8);
	ck_assert_uint_eq(index_next(&c), 0);
	ck_assert_int_eq(index_insert(&ix, 1000, 1, 9), 0);
	ck_assert(!index_replace_only(&ix, 1000, 3, 8, 1, 6));
	ck_assert_uint_eq(ix.count, 4);
	check_index(&ix);
	index_deinit(&ix);
}
END_TEST

/* A lookup right after a change must not find what was there before. */
START_TEST(a_lookup_follows_every_change)
{
	struct index ix;
	struct index_cursor c;

	ck_assert_int_eq(index_init(&ix), 0);
	c = index_find(&ix, 0);
	ck_assert_uint_eq(index_next(&c), 0);
	for (uint32_t hash = 500; hash > 0; hash--) {
		ck_assert_int_eq(index_insert(&ix, hash, 1, hash), 0);
		c = index_find(&ix, 500);
		ck_assert_uint_eq(index_entry_value(index_next(&c)), 500);
	}
	for (uint32_t hash = 1; hash < 500; hash++) {
		ck_assert(index_remove(&ix, hash, 1, hash));
		c = index_find(&ix, 500);
		ck_assert_uint_eq(index_entry_value(index_next(&c)), 500);
	}
	ck_assert_int_eq(index_clear(&ix), 0);
	c = index_find(&ix, 500);
	ck_assert_uint_eq(index_next(&c), 0);
	index_deinit(&ix);
}
END_TEST

/* Random inserts and removes through several growths and shrinkings, beside an array that knows what must be there. */
#define MODEL 60000
static struct { uint32_t hash; bool in; } model[MODEL];

static void churn(struct index *ix, unsigned steps, unsigned insert_percent, uint32_t hash_mask)
{
	for (unsigned s = 0; s < steps; s++) {
		uint32_t v = random_u32() % MODEL;
		bool want = random_u32() % 100 < insert_percent;
		unsigned all;
		if (want == model[v].in) {
			if (want)
				EXPECT(occurs(ix, model[v].hash, v, &all) == 1);
			continue;
		}
		if (want) {
			model[v].hash = random_u32() & HASH_MAX & hash_mask;
			EXPECT(index_insert(ix, model[v].hash, v & 511, v) == 0);
		} else {
			/* What was looked up before it is near it, and may move with it. */
			(void)index_find(ix, (model[v].hash + random_u32() % 65536 - 32768) & HASH_MAX);
			EXPECT(index_remove(ix, model[v].hash, v & 511, v));
		}
		check_memo(ix);
		model[v].in = want;
		EXPECT(occurs(ix, model[v].hash, v, &all) == want);
	}
	unsigned count = 0, all;
	for (uint32_t v = 0; v < MODEL; v++) {
		count += model[v].in;
		EXPECT(occurs(ix, model[v].hash, v, &all) == model[v].in);
	}
	EXPECT(ix->count == count);
	check_index(ix);
}

static void churn_all(uint32_t hash_mask)
{
	struct index ix;
	ck_assert_int_eq(index_init(&ix), 0);
	random_state = hash_mask;
	memset(model, 0, sizeof(model));
	for (int round = 0; round < 3; round++) {
		churn(&ix, 20000, 95, hash_mask);
		churn(&ix, 100000, 80, hash_mask);
		churn(&ix, 100000, 50, hash_mask);
		churn(&ix, 200000, 2, hash_mask);
	}
	ck_assert_int_eq(index_clear(&ix), 0);
	ck_assert_uint_eq(ix.count, 0);
	check_index(&ix);
	index_deinit(&ix);
}

START_TEST(random_churn)
{
	churn_all(HASH_MAX);
}
END_TEST

START_TEST(random_churn_with_few_hashes)
{
	churn_all(HASH_MAX & ~0xfffU);
}
END_TEST

/* More equal hashes at the very end than there is slack behind it. */
START_TEST(a_long_run_at_the_end)
{
	struct index ix;
	ck_assert_int_eq(index_init(&ix), 0);
	for (uint32_t v = 0; v < 5000; v++)
		ck_assert_int_eq(index_insert(&ix, HASH_MAX, 0, v), 0);
	check_index(&ix);
	unsigned all;
	ck_assert_uint_eq(occurs(&ix, HASH_MAX, 4999, &all), 1);
	ck_assert_uint_eq(all, 5000);
	for (uint32_t v = 0; v < 5000; v++)
		ck_assert(index_remove(&ix, HASH_MAX, 0, v));
	ck_assert_uint_eq(ix.count, 0);
	index_deinit(&ix);
}
END_TEST

/* The promise of index.h: at most 14.2 bytes an entry while growing (counting the slack of small tables out). */
START_TEST(bytes_per_entry)
{
	struct index ix;
	EXPECT(index_init(&ix) == 0);
	random_state = 1;
	for (uint32_t v = 0; v < 1000000; v++) {
		EXPECT(index_insert(&ix, random_u32() & HASH_MAX, 0, v) == 0);
		if (v > 200000 && !ix.old.entry)
			EXPECT(index_bytes(&ix) <= (size_t)v * 145 / 10);
	}
	index_deinit(&ix);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("index");
	TCase *t = tcase_create("index");
	tcase_set_timeout(t, 120);
	tcase_add_test(t, values_and_tags_come_back);
	tcase_add_test(t, equal_hashes_keep_their_order);
	tcase_add_test(t, an_entry_is_replaced_if_it_is_alone);
	tcase_add_test(t, a_lookup_follows_every_change);
	tcase_add_test(t, random_churn);
	tcase_add_test(t, random_churn_with_few_hashes);
	tcase_add_test(t, a_long_run_at_the_end);
	tcase_add_test(t, bytes_per_entry);
	suite_add_tcase(s, t);
	SRunner *r = srunner_create(s);
	srunner_run_all(r, CK_NORMAL);
	int failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
