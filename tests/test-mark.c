/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * test-mark.c - marks: what has changed since, peaks that overlap, who may make them and how many; and growth: found as
 * soon as it may be, whatever noise it hides in, and not found in a thousand runs in which nothing leaks.
 */
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/util-registry.h"
#include "tracker/mark.h"

#define MIB (UINT64_C(1) << 20)
#define MS UINT64_C(1000000)
#define ROOT 0
#define ALICE 1000
#define BOB 1001

static struct util *u;

static void setup(void)
{
	u = util_new(16384, 0, 0);
}

static void teardown(void)
{
	util_check_totals(u);
	util_free(u);
}

static int mark(const char *name)
{
	return registry_mark(u->reg, name, strlen(name), u->now);
}

static int mark_by(uint32_t process, const char *name)
{
	return registry_mark_by(u->reg, process, name, strlen(name), u->now);
}

/* "count bytes peak allocs frees +count +bytes" */
static const char *since(const char *name, unsigned device, unsigned type)
{
	static char text[160];
	struct mark_totals t = registry_mark_totals(u->reg, registry_mark_find(u->reg, name), device, type);

	snprintf(text, sizeof(text), "%llu %llu %llu %llu %llu %+lld %+lld", (unsigned long long)t.now.count,
		 (unsigned long long)t.now.bytes, (unsigned long long)t.now.peak, (unsigned long long)t.now.allocs,
		 (unsigned long long)t.now.frees, (long long)(t.now.count - t.count), (long long)(t.now.bytes - t.bytes));
	return text;
}

static uint64_t device_peak(unsigned device, unsigned type)
{
	return registry_device_totals(registry_device(u->reg, device), type).peak;
}

/* ---- marks ---- */

START_TEST(a_mark_tells_what_has_changed)
{
	uint32_t p = util_process(u, 1, ALICE, "p");

	util_alloc(u, p, 0, BUFFER_DRAM, 0x1000, 100);
	util_alloc(u, p, 0, BUFFER_DRAM, 0x2000, 200);
	ck_assert_int_eq(mark("a"), 0);
	ck_assert_str_eq(since("a", 0, BUFFER_DRAM), "2 300 300 0 0 +0 +0");
	util_release(u, p, 0, 0x1000);
	util_alloc(u, p, 0, BUFFER_DRAM, 0x3000, 500);
	util_alloc(u, p, 0, BUFFER_L1, 0x1000, 7);
	util_release(u, p, 0, 0x3000);
	ck_assert_str_eq(since("a", 0, BUFFER_DRAM), "1 200 700 1 2 -1 -100");
	ck_assert_str_eq(since("a", 0, BUFFER_L1), "1 7 7 1 0 +1 +7");
	ck_assert_str_eq(since("a", 0, BUFFER_TYPES), "2 207 707 2 2 +0 -93");
	/* A device that came later was nothing then. */
	util_alloc(u, p, 5, BUFFER_CB, 0x1000, 9);
	ck_assert_str_eq(since("a", 5, BUFFER_CB), "1 9 9 1 0 +1 +9");
	ck_assert_uint_eq(registry_mark_at(u->reg, registry_mark_find(u->reg, "a"))->seq, 2);
}
END_TEST

/* Each mark has the highest value since its own time, whatever marks came and went in between. */
START_TEST(peaks_of_marks_overlap)
{
	uint32_t p = util_process(u, 1, ALICE, "p");

	util_alloc(u, p, 0, BUFFER_DRAM, 0x1000, 900);
	util_release(u, p, 0, 0x1000);
	ck_assert_int_eq(mark("a"), 0);
	util_alloc(u, p, 0, BUFFER_DRAM, 0x1000, 500);
	util_release(u, p, 0, 0x1000);
	ck_assert_int_eq(mark("b"), 0);
	util_alloc(u, p, 0, BUFFER_DRAM, 0x1000, 700);
	util_release(u, p, 0, 0x1000);
	ck_assert_int_eq(mark("c"), 0);
	util_alloc(u, p, 0, BUFFER_DRAM, 0x1000, 100);
	ck_assert_str_eq(since("a", 0, BUFFER_DRAM), "1 100 700 3 2 +1 +100");
	ck_assert_str_eq(since("b", 0, BUFFER_DRAM), "1 100 700 2 1 +1 +100");
	ck_assert_str_eq(since("c", 0, BUFFER_DRAM), "1 100 100 1 0 +1 +100");
	ck_assert_uint_eq(device_peak(0, BUFFER_DRAM), 900);
	ck_assert_uint_eq(device_peak(0, BUFFER_TYPES), 900);
	/* What stands with b goes to a. */
	ck_assert_int_eq(registry_unmark(u->reg, "b"), 0);
	ck_assert_int_eq(registry_unmark(u->reg, "b"), -ENOENT);
	ck_assert_str_eq(since("a", 0, BUFFER_DRAM), "1 100 700 3 2 +1 +100");
	ck_assert_str_eq(since("c", 0, BUFFER_DRAM), "1 100 100 1 0 +1 +100");
	/* And a starts anew, behind c. */
	uint64_t number = registry_mark_at(u->reg, registry_mark_find(u->reg, "a"))->number;
	util_release(u, p, 0, 0x1000);
	util_alloc(u, p, 0, BUFFER_DRAM, 0x1000, 300);
	util_release(u, p, 0, 0x1000);
	ck_assert_int_eq(mark("a"), 0);
	ck_assert_str_eq(since("a", 0, BUFFER_DRAM), "0 0 0 0 0 +0 +0");
	ck_assert_str_eq(since("c", 0, BUFFER_DRAM), "0 0 300 2 2 +0 +0");
	ck_assert_uint_eq(registry_mark_at(u->reg, registry_mark_find(u->reg, "a"))->number, number);
	ck_assert_uint_eq(device_peak(0, BUFFER_DRAM), 900);
}
END_TEST

/* Random events, marks and resets against a record of everything. */
START_TEST(peaks_are_exact)
{
	enum { NAMES = 5, EVENTS = 20000 };
	uint64_t peak[NAMES] = { 0 }, all = 0, bytes = 0, held[64] = { 0 }, random = 77;
	bool made[NAMES] = { false };
	uint32_t p = util_process(u, 1, ALICE, "p");

	for (int i = 0; i < EVENTS; i++) {
		random = random * UINT64_C(6364136223846793005) + 1442695040888963407;
		unsigned what = random >> 33 & 63, size = 1 + (random >> 40 & 1023);
		if (random >> 56 & 15) {
			if (held[what])
				util_release(u, p, 0, what << 12);
			else
				util_alloc(u, p, 0, BUFFER_DRAM, what << 12, size);
			bytes += held[what] ? -held[what] : size;
			held[what] = held[what] ? 0 : size;
		} else {
			char name[2] = { (char)('a' + what % NAMES), '\0' };
			made[what % NAMES] = size % 3 != 0;
			if (made[what % NAMES])
				ck_assert_int_eq(mark(name), 0);
			else
				(void)registry_unmark(u->reg, name);
			peak[what % NAMES] = bytes;
			if (size == 1) {
				registry_reset_peaks(u->reg);
				for (int n = 0; n < NAMES; n++)
					peak[n] = bytes;
				all = bytes;
			}
		}
		all = bytes > all ? bytes : all;
		if (registry_device(u->reg, 0) && device_peak(0, BUFFER_DRAM) != all)
			ck_abort_msg("event %d: the peak of all is wrong", i);
		for (int n = 0; n < NAMES; n++) {
			char name[2] = { (char)('a' + n), '\0' };
			uint32_t slot = registry_mark_find(u->reg, name);
			peak[n] = bytes > peak[n] ? bytes : peak[n];
			if ((slot != MARKS_MAX) != made[n] ||
			    (made[n] && registry_mark_totals(u->reg, slot, 0, BUFFER_DRAM).now.peak != peak[n]))
				ck_abort_msg("event %d: the peak of mark %d is wrong", i, n);
		}
	}
}
END_TEST

START_TEST(names)
{
	char name[MARK_NAME_MAX + 2];

	memset(name, 'x', sizeof(name));
	ck_assert_int_eq(registry_mark(u->reg, name, MARK_NAME_MAX, u->now), 0);
	ck_assert_int_eq(registry_mark(u->reg, name, MARK_NAME_MAX + 1, u->now), -EINVAL);
	ck_assert_int_eq(registry_mark(u->reg, name, 0, u->now), -EINVAL);
	const char *bad[] = { ".", "..", ".a", "a/b", "a b", "a\n", "%41", "\xc3\xa4", "a\x7f" };
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		ck_assert_int_eq(mark(bad[i]), -EINVAL);
	const char *good[] = { "1", "a.b", "-", "A_z-0.9" };
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
		ck_assert_int_eq(mark(good[i]), 0);
	ck_assert_uint_eq(registry_mark_count(u->reg), 5);
}
END_TEST

START_TEST(there_are_64)
{
	uint32_t alice = util_process(u, 1, ALICE, "p"), bob = util_process(u, 2, BOB, "p");
	char name[16];

	for (int i = 0; i < MARKS_OF_USERS - MARKS_OF_USER; i++) {
		snprintf(name, sizeof(name), "b%d", i);
		ck_assert_int_eq(mark_by(bob, name), 0);
	}
	for (int i = 0; i < MARKS_OF_USER; i++) {
		snprintf(name, sizeof(name), "a%d", i);
		ck_assert_int_eq(mark_by(alice, name), 0);
	}
	ck_assert_int_eq(mark_by(alice, "more"), -EDQUOT);
	ck_assert_int_eq(mark_by(alice, "a7"), 0);
	ck_assert_int_eq(mark_by(bob, "a7"), -EPERM);
	/* Of no fault of his. */
	ck_assert_int_eq(mark_by(bob, "b"), -ENOSPC);
	for (int i = 0; i < MARKS_MAX - MARKS_OF_USERS; i++) {
		snprintf(name, sizeof(name), "r%d", i);
		ck_assert_int_eq(mark(name), 0);
	}
	ck_assert_int_eq(mark("b"), -ENOSPC);
	/* One that is there starts anew, and stays whose it was. */
	ck_assert_int_eq(mark("a7"), 0);
	ck_assert_int_eq(mark_by(alice, "a7"), 0);
	ck_assert_int_eq(registry_unmark(u->reg, "r0"), 0);
	ck_assert_int_eq(mark_by(bob, "b"), -ENOSPC);
	ck_assert_int_eq(mark("b"), 0);
	ck_assert_int_eq(registry_unmark(u->reg, "a0"), 0);
	ck_assert_int_eq(mark_by(bob, "b48"), 0);
	ck_assert_uint_eq(registry_mark_count(u->reg), MARKS_MAX);
}
END_TEST

START_TEST(a_process_makes_only_so_many)
{
	uint32_t p = util_process(u, 1, ALICE, "p");

	for (int i = 0; i < MARKS_AT_ONCE; i++)
		ck_assert_int_eq(mark_by(p, "x"), 0);
	ck_assert_int_eq(mark_by(p, "x"), -EDQUOT);
	u->now += 2 * MS;
	ck_assert_int_eq(mark_by(p, "x"), 0);
	ck_assert_int_eq(mark_by(p, "x"), 0);
	ck_assert_int_eq(mark_by(p, "x"), -EDQUOT);
	ck_assert_int_eq(mark("x"), 0);
}
END_TEST

START_TEST(ingest_counts_and_tells)
{
	uint32_t p = util_process(u, 1, ALICE, "p\n");

	ingest_mark(&u->in, p, "a", 1, u->now);
	ck_assert_uint_eq(registry_counters(u->reg)->events_total, 1);
	ck_assert_uint_eq(registry_counters(u->reg)->refused_events, 0);
	ck_assert_uint_eq(u->trace.ring[u->trace.next - 1].kind, TRACE_MARK);
	ingest_mark(&u->in, p, "a/b", 3, u->now);
	ck_assert_uint_eq(registry_counters(u->reg)->refused_events, 1);
	struct textbuf t = TEXTBUF_INIT;
	errlog_text(&u->errlog, &t);
	textbuf_putc(&t, '\0');
	ck_assert_str_eq(t.data, "1732082104.123456 mark refused: pid 1 (p?): 'a/b': not a name\n");
	textbuf_deinit(&t);
}
END_TEST

START_TEST(resets)
{
	uint32_t p = util_process(u, 1, ALICE, "p");
	uint64_t pos = 0, removed = 0;

	util_alloc(u, p, 0, BUFFER_DRAM, 0x1000, 100);
	util_alloc(u, p, 1, BUFFER_DRAM, 0x1000, 100);
	mark("a");
	mark("b");
	while (registry_reset_device_step(u->reg, 0, &pos, 16, &removed))
		;
	util_alloc(u, p, 0, BUFFER_DRAM, 0x1000, 30);
	ck_assert_str_eq(since("a", 0, BUFFER_DRAM), "1 30 30 1 0 +1 +30");
	ck_assert_str_eq(since("a", 1, BUFFER_DRAM), "1 100 100 0 0 +0 +0");
	ck_assert_uint_eq(device_peak(0, BUFFER_DRAM), 30);
	registry_reset(u->reg);
	ck_assert_uint_eq(registry_mark_count(u->reg), 0);
	util_alloc(u, p, 0, BUFFER_DRAM, 0x1000, 5);
	ck_assert_uint_eq(device_peak(0, BUFFER_DRAM), 5);
}
END_TEST

static uint64_t listed_since(uint64_t seq)
{
	struct buffer_filter filter = BUFFER_FILTER_ALL;
	unsigned budget = UINT32_MAX;
	uint64_t pos = 0, n = 0;
	struct buffer b;

	filter.since = seq;
	while (registry_next(u->reg, &filter, &pos, &budget, &b) == 1) {
		ck_assert_uint_gt(b.seq, seq);
		n++;
	}
	return n;
}

START_TEST(buffers_since)
{
	uint32_t p = util_process(u, 1, ALICE, "p");

	for (uint64_t i = 1; i <= 100; i++)
		util_alloc(u, p, 0, BUFFER_DRAM, i << 12, 1);
	for (uint64_t i = 2; i <= 100; i += 2)
		util_release(u, p, 0, i << 12);
	/* Buffers at the places of those that have gone. */
	for (uint64_t i = 200; i <= 220; i++)
		util_alloc(u, p, 0, BUFFER_DRAM, i << 12, 1);
	ck_assert_uint_eq(listed_since(0), 71);
	ck_assert_uint_eq(listed_since(50), 46);
	ck_assert_uint_eq(listed_since(150), 21);
	ck_assert_uint_eq(listed_since(171), 0);
}
END_TEST

/* ---- growth: by hand ---- */

static uint32_t site;

static void put(uint32_t p, uint64_t address, uint64_t size)
{
	util_alloc_at(u, p, 0, BUFFER_DRAM, address, size, site, 0);
}

/* How many live buffers are part of what grows. */
static unsigned suspected(struct growth *last)
{
	unsigned budget = UINT32_MAX, n = 0;
	struct growth growth = { 0 };
	uint64_t pos = 0;
	struct buffer b;

	while (registry_next(u->reg, &BUFFER_FILTER_ALL, &pos, &budget, &b) == 1) {
		if (!registry_growing(u->reg, &b, &growth))
			continue;
		n++;
		if (last)
			*last = growth;
	}
	return n;
}

/* What a process that died had grown by is still told, but keeps nobody else's growth from being told. */
START_TEST(the_dead_make_room)
{
	uint32_t p = util_process(u, 1, ALICE, "p"), other = util_process(u, 2, BOB, "q");
	uint64_t address = 0;

	site = util_site(u, 1);
	for (unsigned i = 0; i < 7; i++) {
		for (uint64_t size = 1; size <= 300; size++)
			put(p, ++address, size);
		ck_assert_int_eq(mark_by(p, "step"), 0);
	}
	ck_assert_int_gt(registry_site_growth(u->reg, PROCESS_NONE, site, 0, BUFFER_DRAM), 0);
	ingest_exit(&u->in, p, u->now);
	ck_assert_int_gt(registry_site_growth(u->reg, PROCESS_NONE, site, 0, BUFFER_DRAM), 0);
	site = util_site(u, 2);
	for (unsigned i = 0; i < 6; i++) {
		put(other, ++address, 64);
		ck_assert_int_eq(mark_by(other, "other"), 0);
	}
	ck_assert_int_eq(registry_site_growth(u->reg, other, site, 0, BUFFER_DRAM), 64);
}
END_TEST

/* What a control command forgets was not given back: the leak that goes on is found as soon as the first one. */
START_TEST(forgetting_is_no_free)
{
	uint32_t p = util_process(u, 1, ALICE, "p");
	uint64_t address = 0, removed = 0;

	site = 0;
	for (unsigned round = 0; round < 2; round++) {
		uint64_t pos = 0;
		for (unsigned i = 0; i < 5; i++) {
			put(p, ++address, 64);
			ck_assert_int_eq(mark_by(p, "step"), 0);
		}
		put(p, ++address, 64);
		ck_assert_uint_gt(suspected(NULL), 0);
		while (registry_clean_step(u->reg, p, &pos, 100, &removed))
			;
	}
	ck_assert_uint_eq(removed, 12);
}
END_TEST

START_TEST(growth_is_found_at_the_fifth_mark)
{
	uint32_t p = util_process(u, 1, ALICE, "p"), other = util_process(u, 2, ALICE, "p");
	struct growth growth = { 0 };

	site = _i ? util_site(u, 1) : 0;
	put(p, 0x100, 64);
	put(p, 0x200, 64);
	for (uint64_t i = 0; i < 5; i++) {
		ck_assert_uint_eq(suspected(NULL), 0);
		ck_assert_int_eq(registry_site_growth(u->reg, p, site, 0, BUFFER_DRAM), -1);
		/* What comes and goes, and what somebody else does, is of no interest. */
		put(p, 0x9000, 64);
		put(other, 0x9000, 64);
		put(p, 0x1000 + i, 64);
		put(p, 0x2000 + i, 64);
		util_release(u, p, 0, 0x9000);
		util_release(u, other, 0, 0x9000);
		mark("step");
	}
	/* Those before the first mark are no part of it. */
	ck_assert_uint_eq(suspected(&growth), 8);
	ck_assert_uint_eq(growth.bytes, 128);
	ck_assert_uint_eq(growth.marks, 5);
	ck_assert(!growth.any_size);
	ck_assert_int_eq(registry_site_growth(u->reg, p, site, 0, BUFFER_DRAM), 128);
	ck_assert_int_eq(registry_site_growth(u->reg, PROCESS_NONE, site, 0, BUFFER_DRAM), 128);
	ck_assert_int_eq(registry_site_growth(u->reg, other, site, 0, BUFFER_DRAM), 0);
	ck_assert_int_eq(registry_site_growth(u->reg, p, site, 0, BUFFER_L1), 0);
	ck_assert_int_eq(registry_site_growth(u->reg, p, site + 1, 0, BUFFER_DRAM), 0);
	/* Still, before the next mark; and not any more when that comes and nothing was added. */
	put(p, 0x5000, 64);
	ck_assert_uint_eq(suspected(NULL), 9);
	util_release(u, p, 0, 0x5000);
	ck_assert_uint_eq(suspected(NULL), 8);
	mark("step");
	ck_assert_uint_eq(suspected(NULL), 0);
	ck_assert_int_eq(registry_site_growth(u->reg, PROCESS_NONE, site, 0, BUFFER_DRAM), 0);
}
END_TEST

/* One that was held at a mark goes: whatever it was, what is left may go as well. */
START_TEST(growth_ends_with_a_free)
{
	uint32_t p = util_process(u, 1, ALICE, "p");

	site = 0;
	for (uint64_t i = 0; i < 5; i++) {
		put(p, 0x1000 + i, 64);
		mark("step");
	}
	ck_assert_uint_eq(suspected(NULL), 4);
	util_release(u, p, 0, 0x1002);
	ck_assert_uint_eq(suspected(NULL), 0);
	/* It has shown that it goes after a run of 4, so it takes 8 the next time; and this interval is none of them, also
	 * when more comes in it than went. */
	put(p, 0x3000, 64);
	for (uint64_t i = 0; i < 9; i++) {
		ck_assert_uint_eq(suspected(NULL), 0);
		put(p, 0x2000 + i, 64);
		mark("step");
	}
	ck_assert_uint_eq(suspected(NULL), 8);
}
END_TEST

/* What is older than all that is known of its size counts for nothing when it goes. */
START_TEST(what_was_there_before_does_not_count)
{
	uint32_t p = util_process(u, 1, ALICE, "p");

	site = 0;
	put(p, 0x100, 64);
	put(p, 0x200, 64);
	mark("step");
	put(p, 0x300, 64);
	util_release(u, p, 0, 0x300);
	util_release(u, p, 0, 0x100);
	util_release(u, p, 0, 0x200);
	mark("step");
	for (uint64_t i = 0; i < 4; i++) {
		ck_assert_uint_eq(suspected(NULL), 0);
		put(p, 0x1000 + i, 64);
		mark("step");
	}
	ck_assert_uint_eq(suspected(NULL), 4);
}
END_TEST

START_TEST(a_resize_is_a_free_and_an_allocation)
{
	uint32_t p = util_process(u, 1, ALICE, "p");

	site = 0;
	for (uint64_t i = 0; i < 5; i++) {
		put(p, 0x1000 + i, 64);
		mark("step");
	}
	put(p, 0x1001, 128);
	ck_assert_uint_eq(suspected(NULL), 0);
	for (uint64_t i = 0; i < 5; i++)
		while (registry_own(u->reg, p, 0, 0x1000 + i, 1U << BUFFER_DRAM, &(struct buffer){ 0 }))
			util_release(u, p, 0, 0x1000 + i);
	ck_assert_uint_eq(registry_totals(u->reg).count, 0);
}
END_TEST

/* All sizes together take twice as many intervals. */
START_TEST(growth_in_all_sizes)
{
	uint32_t p = util_process(u, 1, ALICE, "p");
	struct growth growth = { 0 };

	site = util_site(u, 1);
	for (uint64_t i = 0; i < 9; i++) {
		ck_assert_uint_eq(suspected(NULL), 0);
		put(p, 0x1000 + i, 1000 * i + 10);
		mark("step");
	}
	ck_assert_uint_eq(suspected(&growth), 8);
	ck_assert(growth.any_size);
	ck_assert_uint_eq(growth.bytes, (8 * 10 + 1000 * 36) / 8);
	ck_assert_int_eq(registry_site_growth(u->reg, p, site, 0, BUFFER_DRAM), (8 * 10 + 1000 * 36) / 8);
}
END_TEST

/* Not so many each time: found, but later. What slows down is not. */
START_TEST(irregular_growth)
{
	static const unsigned leaks[16] = { 1, 2, 1, 3, 2, 1, 1, 2, 3, 1, 2, 2, 1, 3, 1, 2 };
	uint32_t p = util_process(u, 1, ALICE, "p"), q = util_process(u, 2, ALICE, "q");
	uint64_t next = 0x1000;

	site = 0;
	mark("step");
	for (unsigned i = 0; i < 16; i++) {
		ck_assert_uint_eq(suspected(NULL), 0);
		for (unsigned n = 0; n < leaks[i]; n++)
			put(p, next++, 64);
		for (unsigned n = 0; n < 20 - i; n++)
			put(q, next++, 64);
		mark("step");
	}
	ck_assert_uint_eq(suspected(NULL), 28);
}
END_TEST

/* Marks of a process are its own moments, and those of ctl everybody's. */
START_TEST(moments_are_of_their_process)
{
	uint32_t a = util_process(u, 1, ALICE, "a"), b = util_process(u, 2, BOB, "b");

	site = 0;
	for (uint64_t i = 0; i < 5; i++) {
		put(a, 0x1000 + i, 64);
		/* Bob marks all the time; what he does to others' marks, nothing. */
		for (int n = 0; n < 10; n++)
			ck_assert_int_eq(mark_by(b, "b"), 0);
		put(b, 0x1000 + i, 64);
		ck_assert_int_eq(mark_by(a, "a"), 0);
	}
	ck_assert_uint_eq(suspected(NULL), 4);
	ck_assert_int_gt(registry_site_growth(u->reg, a, 0, 0, BUFFER_DRAM), 0);
	ck_assert_int_eq(registry_site_growth(u->reg, b, 0, 0, BUFFER_DRAM), 0);
}
END_TEST

START_TEST(growth_marks_is_a_setting)
{
	uint32_t p = util_process(u, 1, ALICE, "p");

	site = 0;
	ck_assert_uint_eq(registry_growth_marks(u->reg), 5);
	ck_assert_int_eq(registry_set_growth_marks(u->reg, 2), -ERANGE);
	ck_assert_int_eq(registry_set_growth_marks(u->reg, 17), -ERANGE);
	ck_assert_int_eq(registry_set_growth_marks(u->reg, 3), 0);
	for (uint64_t i = 0; i < 16; i++) {
		ck_assert_int_eq(suspected(NULL) != 0, i >= 3);
		put(p, 0x1000 + i, 64);
		mark("step");
	}
	ck_assert_int_eq(registry_set_growth_marks(u->reg, 16), 0);
	ck_assert_uint_eq(suspected(NULL), 15);
	ck_assert_int_eq(registry_set_growth_marks(u->reg, 4), 0);
	registry_reset(u->reg);
	ck_assert_uint_eq(registry_growth_marks(u->reg), 4);
	ck_assert_uint_eq(suspected(NULL), 0);
}
END_TEST

/* What has grown for three marks is told at once when three are enough, by the sites, too. */
START_TEST(fewer_marks_find_what_is_there)
{
	uint32_t p = util_process(u, 1, ALICE, "p");

	site = util_site(u, 1);
	ck_assert_int_eq(registry_set_growth_marks(u->reg, 8), 0);
	for (uint64_t i = 0; i < 4; i++) {
		put(p, 0x1000 + i, 64);
		mark("step");
	}
	ck_assert_uint_eq(suspected(NULL), 0);
	ck_assert_int_eq(registry_site_growth(u->reg, p, site, 0, BUFFER_DRAM), -1);
	ck_assert_int_eq(registry_set_growth_marks(u->reg, 3), 0);
	ck_assert_uint_eq(suspected(NULL), 3);
	ck_assert_int_eq(registry_site_growth(u->reg, p, site, 0, BUFFER_DRAM), 64);
}
END_TEST

/* More sizes than there are cells: the newest find room, and what grows keeps its. */
START_TEST(cells_are_bounded)
{
	uint32_t p = util_process(u, 1, ALICE, "p");
	uint64_t memory;

	site = 0;
	mark("step");
	memory = registry_memory(u->reg);
	for (uint64_t i = 1; i <= 6; i++) {
		/* At first more than there are, later what adds up to more. */
		for (uint64_t n = 0; n < (i == 1 ? GROWTH_CELLS * 9 / 16 : 3000); n++) {
			put(p, 0x100000, 4096 + 100000 * i + n);
			util_release(u, p, 0, 0x100000);
		}
		put(p, 0x1000 + i, 64);
		mark("step");
	}
	ck_assert_uint_eq(suspected(NULL), 6);
	/* No more than half of the cells, which take no more than 256 bytes each, with the index. */
	ck_assert_uint_lt(registry_memory(u->reg) - memory, 300 * GROWTH_CELLS / 2);
}
END_TEST

/* ---- growth: by chance ---- */

/* A program that allocates at one place for 24 iterations and marks each. */
enum kind {
	CHURN,        /* a pool in which buffers of random sizes replace others after random times */
	POOL,         /* the same with few sizes */
	CACHE,        /* fills in the first iterations and then stays, beside what comes and goes */
	LRU,          /* a full cache: what is new replaces the oldest */
	SAWTOOTH,     /* piles up for some iterations, then all goes */
	WALK,         /* what is held goes up and down at random */
	WARM_UP,      /* the first iterations leave something behind */
	JUMP,         /* one iteration does */
	TRANSIENT,    /* each iteration frees what the one before has left */
	KINDS,
};
#define ITERATIONS 24
#define LEAK_FROM 6

struct run {
	enum kind kind;
	uint32_t process;
	uint64_t random;
	uint64_t next;            /* address */
	uint64_t size[4];
	unsigned n, period;
	double share;
	unsigned live;
	uint64_t held[4096];      /* the oldest first */
};

static uint64_t chance(struct run *r, uint64_t low, uint64_t high)
{
	uint64_t z = (r->random += UINT64_C(0x9e3779b97f4a7c15));

	z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
	return low + (z ^ z >> 31) % (high - low + 1);
}

static uint64_t any_size(struct run *r)
{
	return 32 * chance(r, 32, 131072);
}

static uint64_t one_of_few(struct run *r)
{
	return r->size[chance(r, 0, 3)];
}

static void take(struct run *r, uint64_t size)
{
	r->next += 4096;
	put(r->process, r->next, size);
	r->held[r->live++] = r->next;
}

static void give_back(struct run *r, unsigned i)
{
	util_release(u, r->process, 0, r->held[i]);
	memmove(&r->held[i], &r->held[i + 1], (--r->live - i) * sizeof(r->held[0]));
}

static void churn(struct run *r, uint64_t (*size)(struct run *r))
{
	for (unsigned i = r->live; i-- > 0;)
		if ((double)chance(r, 0, 999) < r->share * 1000)
			give_back(r, i);
	for (unsigned n = (unsigned)((double)r->n * r->share) + (unsigned)chance(r, 0, r->n / 10); n > 0; n--)
		take(r, size(r));
}

static void come_and_go(struct run *r)
{
	unsigned before = r->live;

	for (unsigned n = 0; n < r->n; n++)
		take(r, any_size(r));
	while (r->live > before)
		give_back(r, r->live - 1);
}

static void iterate(struct run *r, unsigned iteration)
{
	switch (r->kind) {
	case CHURN:
		churn(r, any_size);
		return;
	case POOL:
		churn(r, one_of_few);
		return;
	case LRU:
		for (uint64_t n = chance(r, 1, 20); n > 0; n--) {
			give_back(r, 0);
			take(r, r->size[0]);
		}
		return;
	case SAWTOOTH:
		while (iteration % r->period == 0 && r->live)
			give_back(r, r->live - 1);
		for (uint64_t n = chance(r, 8, 24); n > 0; n--)
			take(r, one_of_few(r));
		return;
	case WALK:
		for (uint64_t n = chance(r, 20, 60); n > 0; n--) {
			if (chance(r, 0, 1) || !r->live)
				take(r, one_of_few(r));
			else
				give_back(r, (unsigned)chance(r, 0, r->live - 1));
		}
		return;
	case TRANSIENT:
		while (r->live)
			give_back(r, r->live - 1);
		for (uint64_t n = chance(r, 1, r->n); n > 0; n--)
			take(r, chance(r, 0, 1) ? any_size(r) : one_of_few(r));
		return;
	case CACHE:
	case WARM_UP:
	case JUMP:
	case KINDS:
		break;
	}
	if (r->kind == JUMP ? iteration == 2 * r->period : iteration < r->period)
		for (uint64_t n = chance(r, 1, 30); n > 0; n--)
			take(r, r->kind == CACHE ? r->size[0] : any_size(r));
	come_and_go(r);
}

static void run_begin(struct run *r, enum kind kind, uint64_t seed)
{
	*r = (struct run){ .kind = kind, .random = seed, .next = MIB };
	u = util_new(16384, 4096, 1);
	r->process = util_process(u, 1, ALICE, "p");
	site = seed & 1 ? util_site(u, 1) : 0;
	for (int i = 0; i < 4; i++)
		r->size[i] = any_size(r);
	r->n = (unsigned)chance(r, 40, 120);
	r->share = (double)chance(r, 15, 95) / 100;
	r->period = (unsigned)chance(r, 2, 4);
	for (unsigned i = 0; i < r->n && (kind == CHURN || kind == POOL || kind == LRU || kind == WALK); i++)
		take(r, kind == CHURN ? any_size(r) : kind == LRU ? r->size[0] : one_of_few(r));
}

/* The mark at which growth was seen first, counted from the one at which it began; 0 = never. */
static unsigned run(enum kind kind, uint64_t seed, bool leaks)
{
	unsigned found = 0;
	struct run r;

	run_begin(&r, kind, seed);
	for (unsigned i = 0; i < ITERATIONS && !found; i++) {
		iterate(&r, i);
		if (leaks && i >= LEAK_FROM)
			put(r.process, i, 64);
		ck_assert_int_eq(mark("step"), 0);
		if (suspected(NULL))
			found = i - LEAK_FROM + 2;
	}
	util_check_totals(u);
	util_free(u);
	return found;
}

START_TEST(silent_in_a_thousand_clean_runs)
{
	for (uint64_t i = 0; i < 1000; i++)
		if (run((enum kind)(i % KINDS), i + 1, false))
			ck_abort_msg("run %d: growth where there is none", (int)i);
}
END_TEST

/* In the noise of up to some hundred MiB at the same place. It begins between two marks: the fifth after that. */
START_TEST(found_in_any_noise)
{
	for (uint64_t i = 0; i < 100; i++) {
		unsigned found = run((enum kind)(i % KINDS), i + 5000, true);
		if (found != 5)
			ck_abort_msg("run %d: found at mark %u", (int)i, found);
	}
}
END_TEST

/* What no test of so few marks can tell from a leak: now and then one buffer, always of one size, that is held for a
 * time at random. docs/design.md has the bound for this; here it is kept. */
START_TEST(rare_buffers_are_within_the_bound)
{
	unsigned wrong = 0, asked = 0;
	struct run r = { .random = 1 };

	u = util_new(16384, 4096, 1);
	r.process = util_process(u, 1, ALICE, "p");
	site = 0;
	for (unsigned i = 0; i < 20000; i++, asked++) {
		for (unsigned n = r.live; n-- > 0;)
			if (chance(&r, 0, 9) == 0)
				give_back(&r, n);
		for (uint64_t n = chance(&r, 0, 3); n >= 3; n--)
			take(&r, 4096);
		mark("step");
		wrong += suspected(NULL) > 0;
	}
	ck_assert_msg(wrong <= asked / 256, "%u of %u", wrong, asked);
	util_free(u);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("mark");
	TCase *t = tcase_create("marks");

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, a_mark_tells_what_has_changed);
	tcase_add_test(t, peaks_of_marks_overlap);
	tcase_add_test(t, peaks_are_exact);
	tcase_add_test(t, names);
	tcase_add_test(t, there_are_64);
	tcase_add_test(t, a_process_makes_only_so_many);
	tcase_add_test(t, ingest_counts_and_tells);
	tcase_add_test(t, resets);
	tcase_add_test(t, buffers_since);
	suite_add_tcase(s, t);

	t = tcase_create("growth");
	tcase_set_timeout(t, 60);
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_loop_test(t, growth_is_found_at_the_fifth_mark, 0, 2);
	tcase_add_test(t, growth_ends_with_a_free);
	tcase_add_test(t, what_was_there_before_does_not_count);
	tcase_add_test(t, a_resize_is_a_free_and_an_allocation);
	tcase_add_test(t, growth_in_all_sizes);
	tcase_add_test(t, irregular_growth);
	tcase_add_test(t, moments_are_of_their_process);
	tcase_add_test(t, growth_marks_is_a_setting);
	tcase_add_test(t, fewer_marks_find_what_is_there);
	tcase_add_test(t, cells_are_bounded);
	tcase_add_test(t, the_dead_make_room);
	tcase_add_test(t, forgetting_is_no_free);
	suite_add_tcase(s, t);

	t = tcase_create("chance");
	tcase_set_timeout(t, 120);
	tcase_add_test(t, silent_in_a_thousand_clean_runs);
	tcase_add_test(t, found_in_any_noise);
	tcase_add_test(t, rare_buffers_are_within_the_bound);
	suite_add_tcase(s, t);

	SRunner *runner = srunner_create(s);
	srunner_run_all(runner, CK_ENV);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
