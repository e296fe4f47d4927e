/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * test-registry.c - what the booking rules do not show: listings under churn, history and its bounds, processes
 * that come and go, cleaning and resetting in steps, memory per buffer.
 */
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/util-registry.h"

static struct util *u;

static void setup(void)
{
	u = util_new(0, 0, 0);
}

static void teardown(void)
{
	util_check_totals(u);
	util_free(u);
}

static uint64_t listed(const struct buffer_filter *filter)
{
	uint64_t pos = 0, n = 0, last = 0;
	unsigned budget = 3;
	struct buffer b;
	int r;

	while ((r = registry_next(u->reg, filter, &pos, &budget, &b)) != 0) {
		if (r == -EAGAIN) {
			budget = 3;
			continue;
		}
		ck_assert(!n || b.slot > last);
		last = b.slot;
		n++;
	}
	return n;
}

START_TEST(listings_filter)
{
	uint32_t a = util_process(u, 1, 0, "a"), b = util_process(u, 2, 0, "b");

	for (uint64_t i = 0; i < 100; i++) {
		util_alloc(u, a, 0, BUFFER_DRAM, i << 12, 64);
		util_alloc(u, a, 1, BUFFER_L1, i << 12, 64);
		if (i < 40)
			util_alloc(u, b, 1, BUFFER_L1, i << 12, 64);
	}
	ingest_exit(&u->in, b, u->now);
	struct buffer_filter f = BUFFER_FILTER_ALL;
	ck_assert_uint_eq(listed(&f), 240);
	f.device = 1;
	ck_assert_uint_eq(listed(&f), 140);
	f.type = BUFFER_DRAM;
	ck_assert_uint_eq(listed(&f), 0);
	f = BUFFER_FILTER_ALL;
	f.process = a;
	ck_assert_uint_eq(listed(&f), 200);
	f = BUFFER_FILTER_ALL;
	f.suspects = true;
	ck_assert_uint_eq(listed(&f), 40);
	ck_assert_uint_eq(registry_suspects(u->reg), 40);
}
END_TEST

/* Every buffer that lives during the whole listing appears exactly once, none twice. */
START_TEST(a_listing_under_churn)
{
	uint32_t p = util_process(u, 1, 0, "p");
	uint64_t state = 7, pos = 0;
	unsigned budget = 0;
	static unsigned char seen[3000];
	struct buffer b;
	int r;

	memset(seen, 0, sizeof(seen));
	for (uint64_t i = 0; i < 3000; i++)
		util_alloc(u, p, (int)(i % 3), BUFFER_DRAM, i << 12, 64);
	while ((r = registry_next(u->reg, &BUFFER_FILTER_ALL, &pos, &budget, &b)) != 0) {
		if (r == -EAGAIN) {
			budget = 2;
			continue;
		}
		seen[b.address >> 12]++;
		/* Odd ones come and go; even ones stay. */
		for (int i = 0; i < 3; i++) {
			state = state * UINT64_C(6364136223846793005) + 1442695040888963407;
			uint64_t n = ((state >> 33) % 1500) * 2 + 1;
			struct buffer o;
			if (registry_own(u->reg, p, (unsigned)(n % 3), n << 12, 1U << BUFFER_DRAM, &o))
				util_release(u, p, (int)(n % 3), n << 12);
			else
				util_alloc(u, p, (int)(n % 3), BUFFER_DRAM, n << 12, 64);
		}
	}
	for (int i = 0; i < 3000; i += 2)
		ck_assert_uint_eq(seen[i], 1);
}
END_TEST

START_TEST(find_is_newest_first_and_counts_all)
{
	struct buffer out[3];

	for (int i = 0; i < 10; i++)
		util_alloc(u, util_process(u, 10 + i, 0, "p"), 0, BUFFER_DRAM, 0x1000, 64);
	ck_assert_uint_eq(registry_find(u->reg, 0, BUFFER_DRAM, 0x1000, out, 3), 10);
	ck_assert_uint_eq(out[0].seq, 10);
	ck_assert_uint_eq(out[1].seq, 9);
	ck_assert_uint_eq(out[2].seq, 8);
}
END_TEST

static const char *history(unsigned device, unsigned type, uint64_t address)
{
	static char text[4096];
	struct history_line line[64];
	struct history_summary s;
	ssize_t n = registry_history(u->reg, device, type, address, &s, line, 64);
	ck_assert_int_ge(n, 0);
	int len = snprintf(text, sizeof(text), "%u/%u", (unsigned)s.allocs, (unsigned)s.frees);

	for (ssize_t i = 0; i < n; i++)
		len += snprintf(text + len, sizeof(text) - (size_t)len, " %s:%u:%d:%u", trace_kind_name(line[i].kind),
				(unsigned)line[i].size, line[i].pid, line[i].refs);
	return text;
}

START_TEST(history_tells_lives_in_order)
{
	uint32_t a = util_process(u, 1, 7, "a"), b = util_process(u, 2, 7, "b");

	util_alloc(u, a, 0, BUFFER_DRAM, 0x1000, 64);
	ck_assert_str_eq(history(0, BUFFER_DRAM, 0x1000), "1/0 alloc:64:1:1");
	ck_assert_uint_eq(registry_history_records(u->reg), 0);
	u->now++;
	util_release(u, a, 0, 0x1000);
	ck_assert_str_eq(history(0, BUFFER_DRAM, 0x1000), "1/1 alloc:64:1:1 free:64:1:0");
	ck_assert_uint_eq(registry_history_records(u->reg), 1);
	u->now++;
	util_alloc(u, a, 0, BUFFER_DRAM, 0x1000, 65);
	u->now++;
	util_alloc(u, a, 0, BUFFER_DRAM, 0x1000, 65);
	u->now++;
	util_alloc(u, a, 0, BUFFER_DRAM, 0x1000, 66);
	u->now++;
	util_release(u, a, 0, 0x1000);
	u->now++;
	util_alloc(u, b, 0, BUFFER_DRAM, 0x1000, 90);
	ck_assert_str_eq(history(0, BUFFER_DRAM, 0x1000),
			 "3/1 alloc:64:1:1 free:64:1:0 alloc:65:1:1 ref:65:1:2 resize:66:1:3 unref:66:1:2 alloc:90:2:1");
	u->now++;
	util_release(u, b, 0, 0x1000);
	u->now++;
	util_release(u, b, 0, 0x1000);
	ck_assert_str_eq(history(0, BUFFER_DRAM, 0x1000),
			 "3/2 alloc:64:1:1 free:64:1:0 alloc:65:1:1 ref:65:1:2 resize:66:1:3 unref:66:1:2 alloc:90:2:1 "
			 "free:90:2:0 double_free:0:2:0");
	for (int i = 0; i < 3; i++)
		util_release(u, a, 0, 0x1000);
	ck_assert_str_eq(history(0, BUFFER_L1, 0x1000), "0/0");
	ck_assert_uint_eq(registry_counters(u->reg)->double_frees, 2);
}
END_TEST

/* A sender stamps its ALLOCs, its FREEs are stamped on arrival: of a batch, later ALLOCs are older than earlier
 * FREEs. */
START_TEST(history_keeps_the_order_of_booking)
{
	uint32_t a = util_process(u, 1, 7, "a");

	for (uint64_t i = 1; i <= 3; i++) {
		util_event(u, (struct event){ .type = TTALLOC_MSG_ALLOC, .process = a, .address = 0x1000, .size = i,
					      .time = u->now - 1000 + i });
		if (i < 3)
			util_release(u, a, 0, 0x1000);
	}
	ck_assert_str_eq(history(0, BUFFER_DRAM, 0x1000), "3/2 alloc:1:1:1 free:1:1:0 alloc:2:1:1 free:2:1:0 alloc:3:1:1");
	util_alloc(u, a, 0, BUFFER_DRAM, 0x1000, 3);
	ck_assert_str_eq(history(0, BUFFER_DRAM, 0x1000),
			 "3/2 alloc:1:1:1 free:1:1:0 alloc:2:1:1 free:2:1:0 alloc:3:1:1 ref:3:1:2");
}
END_TEST

START_TEST(a_foreign_free_is_in_the_history)
{
	uint32_t a = util_process(u, 1, 7, "a"), b = util_process(u, 2, 7, "b");

	util_alloc(u, a, 0, BUFFER_DRAM, 0x1000, 64);
	u->now++;
	util_release(u, b, 0, 0x1000);
	ck_assert_str_eq(history(0, BUFFER_DRAM, 0x1000), "1/1 alloc:64:1:1 foreign_free:64:2:0");
}
END_TEST

/* Where it is of the same user; over and over, it is still one line. */
START_TEST(an_unknown_free_is_in_the_history)
{
	uint32_t a = util_process(u, 1, 7, "a"), b = util_process(u, 2, 8, "b"), c = util_process(u, 3, 7, "c");

	util_alloc(u, a, 0, BUFFER_CB, 0x1000, 64);
	for (int i = 0; i < 2; i++)
		util_event(u, (struct event){ .type = TTALLOC_MSG_CB_FREE, .dialect = 144, .process = a, .address = 0x1000 });
	ck_assert_str_eq(history(0, BUFFER_CB, 0x1000), "1/1 alloc:64:1:1 free:64:1:0 unknown_free:0:1:0");
	for (int i = 0; i < 100; i++) {
		u->now++;
		util_event(u, (struct event){ .type = TTALLOC_MSG_CB_FREE, .dialect = 144, .process = b, .address = 0x1000 });
		util_event(u, (struct event){ .type = TTALLOC_MSG_CB_FREE, .dialect = 144, .process = c, .address = 0x1000 });
		util_release(u, a, 0, 0x1000);
		util_release(u, a, 0, 0x9000);
	}
	ck_assert_str_eq(history(0, BUFFER_CB, 0x1000),
			 "1/1 alloc:64:1:1 free:64:1:0 unknown_free:0:1:0 unknown_free:0:3:0");
	ck_assert_uint_eq(registry_history_records(u->reg), 3);
	ck_assert_uint_eq(registry_counters(u->reg)->unknown_frees, 401);
	ck_assert_str_eq(history(0, BUFFER_DRAM, 0x9000), "0/0");
}
END_TEST

START_TEST(history_is_bounded_per_buffer)
{
	uint32_t a = util_process(u, 1, 7, "a");

	ck_assert_int_eq(registry_set_history_per_buffer(u->reg, 2), 0);
	ck_assert_int_eq(registry_set_history_per_buffer(u->reg, 1001), -ERANGE);
	for (uint64_t i = 1; i <= 100; i++) {
		util_alloc(u, a, 0, BUFFER_DRAM, 0x1000, i);
		u->now++;
		util_release(u, a, 0, 0x1000);
		u->now++;
	}
	ck_assert_str_eq(history(0, BUFFER_DRAM, 0x1000),
			 "100/100 alloc:99:1:1 free:99:1:0 alloc:100:1:1 free:100:1:0");
	ck_assert_uint_eq(registry_history_records(u->reg), 2);
	/* Nothing is remembered at 0, so nothing can be called a double free. */
	ck_assert_int_eq(registry_set_history_per_buffer(u->reg, 0), 0);
	util_alloc(u, a, 0, BUFFER_DRAM, 0x2000, 1);
	util_release(u, a, 0, 0x2000);
	util_release(u, a, 0, 0x2000);
	ck_assert_uint_eq(registry_counters(u->reg)->unknown_frees, 1);
	ck_assert_str_eq(history(0, BUFFER_DRAM, 0x2000), "0/0");
}
END_TEST

START_TEST(history_is_bounded_in_all)
{
	util_free(u);
	u = util_new(4096, 100, 0);
	uint32_t a = util_process(u, 1, 7, "a");

	/* A live buffer with a past of its own: pinned, whatever the others do. */
	util_alloc(u, a, 0, BUFFER_DRAM, 0x1, 64);
	util_alloc(u, a, 0, BUFFER_DRAM, 0x1, 64);
	for (uint64_t i = 2; i <= 1000; i++) {
		util_alloc(u, a, 0, BUFFER_DRAM, i, 64);
		util_release(u, a, 0, i);
	}
	ck_assert_uint_le(registry_history_records(u->reg), 100);
	ck_assert_str_eq(history(0, BUFFER_DRAM, 0x1), "1/0 alloc:64:1:1 ref:64:1:2");
	ck_assert_str_eq(history(0, BUFFER_DRAM, 1000), "1/1 alloc:64:1:1 free:64:1:0");
	ck_assert_str_eq(history(0, BUFFER_DRAM, 2), "0/0");
	ck_assert_uint_eq(registry_counters(u->reg)->history_dropped, 0);
	/* More pinned ones than there is room for: dropped and counted, totals stay exact. */
	for (uint64_t i = 2000; i < 2200; i++) {
		util_alloc(u, a, 0, BUFFER_DRAM, i, 64);
		util_alloc(u, a, 0, BUFFER_DRAM, i, 65);
	}
	ck_assert_uint_gt(registry_counters(u->reg)->history_dropped, 0);
	for (uint64_t i = 2000; i < 2200; i++) {
		util_release(u, a, 0, i);
		util_release(u, a, 0, i);
	}
	ck_assert_uint_eq(registry_totals(u->reg).count, 1);
}
END_TEST

/* Few live buffers with a long past use up all events; who comes then has a key and no event, and when it goes first,
 * there is none to be had from it. */
START_TEST(history_is_bounded_when_keys_are_empty)
{
	util_free(u);
	u = util_new(4096, 100, 0);
	uint32_t a = util_process(u, 1, 7, "a");

	for (uint64_t n = 0; n < 40 * 30; n++) {
		util_alloc(u, a, 0, BUFFER_DRAM, 1 + n / 30, 64);
		ck_assert_uint_le(registry_history_records(u->reg), 100);
	}
	for (uint64_t n = 40 * 30; n-- > 0;) {
		util_release(u, a, 0, 1 + n / 30);
		ck_assert_uint_le(registry_history_records(u->reg), 100);
	}
	ck_assert_uint_gt(registry_counters(u->reg)->history_dropped, 0);
	ck_assert_uint_eq(registry_totals(u->reg).count, 0);
}
END_TEST

/* One process after the other at one address, as in CI: only the newest are remembered there. */
START_TEST(history_is_bounded_per_address)
{
	for (int i = 0; i < 900; i++) {
		uint32_t p = util_process(u, 100 + i, 7, "ci");
		util_alloc(u, p, 0, BUFFER_DRAM, 0x1000, 64);
		util_release(u, p, 0, 0x1000);
	}
	ck_assert_uint_eq(registry_history_records(u->reg), 256);
}
END_TEST

START_TEST(a_process_that_changes_its_user_and_back)
{
	struct process_identity id = { .pid = 77, .uid = 0, .start_ticks = 1 };
	uint32_t root, user, again;

	ck_assert_int_eq(registry_process_add(u->reg, &id, 1, &root), 0);
	id.uid = 1000;
	ck_assert_int_eq(registry_process_add(u->reg, &id, 1, &user), 0);
	id.uid = 0;
	ck_assert_int_eq(registry_process_add(u->reg, &id, 1, &again), 0);
	ck_assert_uint_ne(root, user);
	ck_assert_uint_eq(root, again);
}
END_TEST

/* A step over what is not to be cleaned is a bounded step, too. */
START_TEST(clean_dead_steps_over_the_living)
{
	uint32_t p = util_process(u, 1, 0, "p");
	uint64_t pos = 0, removed = 0;
	int steps = 1;

	for (uint64_t a = 0; a < 4000; a++)
		util_alloc(u, p, 0, BUFFER_DRAM, a << 12, 64);
	while (registry_clean_step(u->reg, PROCESS_NONE, &pos, 10, &removed))
		steps++;
	ck_assert_uint_eq(removed, 0);
	ck_assert_int_ge(steps, 4000 / 16 / 11);
}
END_TEST

START_TEST(processes_are_told_apart_by_their_start)
{
	struct process_identity id = { .pid = 77, .uid = 5, .start_ticks = 1, .comm = "old" };
	uint32_t old, again, new;

	ck_assert_int_eq(registry_process_add(u->reg, &id, 1, &old), 0);
	ck_assert_int_eq(registry_process_add(u->reg, &id, 2, &again), 0);
	ck_assert_uint_eq(old, again);
	util_alloc(u, old, 0, BUFFER_DRAM, 0x1000, 64);
	ck_assert(registry_process_end(u->reg, old, 3));
	ck_assert(!registry_process_end(u->reg, old, 4));
	id.start_ticks = 9;
	id.comm = "new";
	ck_assert_int_eq(registry_process_add(u->reg, &id, 5, &new), 0);
	ck_assert_uint_ne(old, new);
	ck_assert_uint_eq(registry_process_find(u->reg, 77), new);
	ck_assert_uint_eq(registry_process(u->reg, new)->older, old + 1);
	ck_assert_uint_eq(registry_process_count(u->reg), 2);
	ck_assert_uint_eq(registry_process_find(u->reg, 78), PROCESS_NONE);
}
END_TEST

START_TEST(ended_processes_without_buffers_are_forgotten_first)
{
	uint32_t keeps = util_process(u, 1, 0, "keeps");

	util_alloc(u, keeps, 0, BUFFER_DRAM, 0x1000, 64);
	registry_process_disconnect(u->reg, keeps);
	ingest_exit(&u->in, keeps, u->now);
	for (int i = 0; i < 5000; i++) {
		uint32_t p = util_process(u, 100 + i, 0, "short");
		util_alloc(u, p, i % 5, BUFFER_DRAM, 0x2000, 64);
		util_release(u, p, i % 5, 0x2000);
		registry_process_disconnect(u->reg, p);
		ingest_exit(&u->in, p, u->now);
	}
	ck_assert_uint_eq(registry_process_count(u->reg), 1000);
	ck_assert_uint_ne(registry_process_find(u->reg, 1), PROCESS_NONE);
	ck_assert_uint_eq(registry_process_find(u->reg, 100), PROCESS_NONE);
	ck_assert_uint_ne(registry_process_find(u->reg, 5099), PROCESS_NONE);
	/* Slots full of processes that may not be forgotten: refused. */
	struct process_identity id = { .pid = 9999, .start_ticks = 1 };
	uint32_t slot;
	for (int i = 0; i < 999; i++)
		util_process(u, 10000 + i, 0, "lives");
	ck_assert_int_eq(registry_process_add(u->reg, &id, 1, &slot), -ENOSPC);
}
END_TEST

static uint64_t clean(uint32_t process)
{
	uint64_t pos = 0, removed = 0;

	while (registry_clean_step(u->reg, process, &pos, 1, &removed))
		;
	return removed;
}

START_TEST(clean_forgets_one_or_all_ended)
{
	uint32_t p[4];

	for (int i = 0; i < 4; i++) {
		p[i] = util_process(u, 1 + i, 0, "p");
		for (uint64_t a = 0; a < 50; a++)
			util_alloc(u, p[i], 0, BUFFER_DRAM, a << 12, 64);
	}
	ingest_exit(&u->in, p[1], u->now);
	ingest_exit(&u->in, p[3], u->now);
	ck_assert_uint_eq(clean(p[0]), 50);
	ck_assert_uint_eq(registry_totals(u->reg).count, 150);
	ck_assert_uint_eq(clean(PROCESS_NONE), 100);
	ck_assert_uint_eq(registry_totals(u->reg).count, 50);
	ck_assert_uint_eq(registry_suspects(u->reg), 0);
	ck_assert_uint_eq(registry_counters(u->reg)->frees_total, 0);
	ck_assert_uint_eq(registry_process(u->reg, p[2])->total.count, 50);
}
END_TEST

START_TEST(reset_device_forgets_just_that)
{
	uint32_t p = util_process(u, 1, 0, "p");
	uint64_t pos = 0, removed = 0;

	for (uint64_t a = 0; a < 50; a++)
		for (int d = 0; d < 3; d++)
			util_alloc(u, p, d, BUFFER_DRAM, a << 12, 64);
	util_release(u, p, 1, 0);
	util_release(u, p, 2, 0);
	uint32_t epoch = registry_device(u->reg, 1)->epoch;
	while (registry_reset_device_step(u->reg, 1, &pos, 1, &removed))
		;
	ck_assert_uint_eq(removed, 49);
	ck_assert_ptr_null(registry_device(u->reg, 1));
	ck_assert_uint_eq(registry_device(u->reg, 0)->total.count, 50);
	ck_assert_str_eq(history(1, BUFFER_DRAM, 0), "0/0");
	ck_assert_str_eq(history(2, BUFFER_DRAM, 0), "1/1 alloc:64:1:1 free:64:1:0");
	util_alloc(u, p, 1, BUFFER_DRAM, 0, 64);
	ck_assert_uint_ne(registry_device(u->reg, 1)->epoch, epoch);
	ck_assert_uint_eq(registry_device(u->reg, 1)->total.peak, 64);
	ck_assert_uint_eq(registry_device(u->reg, 1)->total.frees, 0);
}
END_TEST

START_TEST(reset_is_as_if_just_started)
{
	uint32_t live = util_process(u, 1, 0, "live"), dead = util_process(u, 2, 0, "dead");

	registry_device_declare(u->reg, 0, 1000, 0, 0);
	for (uint64_t a = 0; a < 50; a++) {
		util_alloc(u, live, 0, BUFFER_DRAM, a << 12, 64);
		util_alloc(u, dead, 7, BUFFER_DRAM, a << 12, 64);
	}
	registry_process_disconnect(u->reg, dead);
	ingest_exit(&u->in, dead, u->now);
	uint64_t seq = registry_seq(u->reg);
	registry_reset(u->reg);
	ck_assert_uint_eq(registry_totals(u->reg).count, 0);
	ck_assert_uint_eq(registry_totals(u->reg).peak, 0);
	ck_assert_uint_eq(registry_counters(u->reg)->allocs_total, 0);
	ck_assert_uint_eq(registry_suspects(u->reg), 0);
	ck_assert_uint_eq(registry_process_count(u->reg), 1);
	ck_assert_uint_eq(registry_device_count(u->reg), 1);
	ck_assert_uint_eq(registry_device(u->reg, 0)->capacity[BUFFER_DRAM], 1000);
	util_release(u, live, 0, 0);
	ck_assert_uint_eq(registry_counters(u->reg)->unknown_frees, 1);
	util_alloc(u, live, 0, BUFFER_DRAM, 0x1000, 64);
	ck_assert_uint_gt(registry_seq(u->reg), seq);
	ck_assert_uint_eq(registry_totals(u->reg).count, 1);
}
END_TEST

START_TEST(reset_history_dismisses_suspects)
{
	uint32_t a = util_process(u, 1, 0, "a"), b = util_process(u, 2, 0, "b");
	uint64_t pos = 0;

	util_alloc(u, a, 0, BUFFER_DRAM, 0x1000, 64);
	util_alloc(u, b, 0, BUFFER_DRAM, 0x2000, 64);
	util_alloc(u, b, 0, BUFFER_DRAM, 0x2000, 64);
	util_alloc(u, b, 0, BUFFER_DRAM, 0x3000, 64);
	util_release(u, b, 0, 0x3000);
	ingest_exit(&u->in, a, u->now);
	while (registry_reset_history_step(u->reg, &pos, 1))
		;
	ck_assert_uint_eq(registry_suspects(u->reg), 0);
	ck_assert_uint_eq(registry_history_records(u->reg), 0);
	ck_assert_str_eq(history(0, BUFFER_DRAM, 0x3000), "0/0");
	ck_assert_str_eq(history(0, BUFFER_DRAM, 0x2000), "1/0 alloc:64:2:2");
	util_release(u, b, 0, 0x2000);
	ck_assert_str_eq(history(0, BUFFER_DRAM, 0x2000), "1/0 alloc:64:2:2 unref:64:2:1");
	ingest_exit(&u->in, b, u->now);
	ck_assert_uint_eq(registry_suspects(u->reg), 1);
}
END_TEST

START_TEST(reset_peaks_starts_from_now)
{
	uint32_t a = util_process(u, 1, 0, "a");

	util_alloc(u, a, 0, BUFFER_DRAM, 0x1000, 64);
	util_alloc(u, a, 0, BUFFER_DRAM, 0x2000, 100);
	util_release(u, a, 0, 0x2000);
	registry_reset_peaks(u->reg);
	ck_assert_uint_eq(registry_device(u->reg, 0)->total.peak, 64);
	ck_assert_uint_eq(registry_device(u->reg, 0)->type[BUFFER_DRAM].peak, 64);
	ck_assert_uint_eq(registry_process(u->reg, a)->total.peak, 64);
	ck_assert_uint_eq(registry_totals(u->reg).peak, 64);
}
END_TEST

/* The figure: at most 64 bytes per live buffer for index and record together, at every size. */
START_TEST(memory_per_live_buffer)
{
	util_free(u);
	u = util_new(1 << 20, 0, 0);
	uint32_t a = util_process(u, 1, 0, "a");
	uint64_t empty = registry_memory(u->reg);

	for (uint64_t i = 1; i <= 1 << 20; i++) {
		util_alloc(u, a, (int)(i % 8), BUFFER_DRAM, i << 12, 64);
		if (i >= 20000 && i % 1000 == 0)
			ck_assert_uint_le(registry_memory(u->reg) - empty, i * 64);
	}
	ck_assert_uint_eq(registry_totals(u->reg).count, 1 << 20);
	util_alloc(u, a, 0, BUFFER_DRAM, 1, 64);
	ck_assert_uint_eq(registry_counters(u->reg)->events_lost, 1);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("registry");
	TCase *t = tcase_create("registry");
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_set_timeout(t, 120);
	tcase_add_test(t, listings_filter);
	tcase_add_test(t, a_listing_under_churn);
	tcase_add_test(t, find_is_newest_first_and_counts_all);
	tcase_add_test(t, history_tells_lives_in_order);
	tcase_add_test(t, history_keeps_the_order_of_booking);
	tcase_add_test(t, a_foreign_free_is_in_the_history);
	tcase_add_test(t, an_unknown_free_is_in_the_history);
	tcase_add_test(t, history_is_bounded_per_buffer);
	tcase_add_test(t, history_is_bounded_in_all);
	tcase_add_test(t, history_is_bounded_when_keys_are_empty);
	tcase_add_test(t, history_is_bounded_per_address);
	tcase_add_test(t, a_process_that_changes_its_user_and_back);
	tcase_add_test(t, clean_dead_steps_over_the_living);
	tcase_add_test(t, processes_are_told_apart_by_their_start);
	tcase_add_test(t, ended_processes_without_buffers_are_forgotten_first);
	tcase_add_test(t, clean_forgets_one_or_all_ended);
	tcase_add_test(t, reset_device_forgets_just_that);
	tcase_add_test(t, reset_is_as_if_just_started);
	tcase_add_test(t, reset_history_dismisses_suspects);
	tcase_add_test(t, reset_peaks_starts_from_now);
	tcase_add_test(t, memory_per_live_buffer);
	suite_add_tcase(s, t);
	SRunner *r = srunner_create(s);
	srunner_run_all(r, CK_NORMAL);
	int failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
