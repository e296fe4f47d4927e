/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * test-history.c - what is remembered of an address: against a model that forgets nothing, at the limits of the short
 * form, and who goes when there is no room. How lines are put in order is in test-registry.c.
 */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/util-registry.h"
#include "tracker/history.h"
#include "tracker/site.h"

#define MINUTE UINT64_C(60000000000)

static struct util *u;

static void setup(void)
{
	u = util_new(0, 0, 0);
}

static void teardown(void)
{
	util_free(u);
}

/* "allocs/frees kind:size:pid:refs@time#site ...", times in ns after UTIL_NOW; without a site nothing. */
static const char *history(unsigned type, uint64_t address)
{
	static char text[1 << 16];
	struct history_line line[1000];
	struct history_summary s;
	ssize_t n = registry_history(u->reg, 0, type, address, &s, line, 1000);
	int len = snprintf(text, sizeof(text), "%llu/%llu", (unsigned long long)s.allocs, (unsigned long long)s.frees);

	for (ssize_t i = 0; i < n; i++) {
		len += snprintf(text + len, sizeof(text) - (size_t)len, " %s:%llu:%d:%u@%llu",
				trace_kind_name(line[i].kind), (unsigned long long)line[i].size, line[i].pid, line[i].refs,
				(unsigned long long)(line[i].time - UTIL_NOW));
		if (line[i].site)
			len += snprintf(text + len, sizeof(text) - (size_t)len, "#%u", line[i].site);
	}
	return text;
}

/* ---- a model ---- */

#define PROCESSES 3
#define ADDRESSES 8
#define LINES 400

struct model_buffer {
	uint64_t size;
	unsigned refs;
};

struct model {
	struct model_buffer buffer[PROCESSES][ADDRESSES];
	uint64_t allocs[ADDRESSES], frees[ADDRESSES];
	char lines[ADDRESSES][1 << 16];
	unsigned count[ADDRESSES];
};

static void model_line(struct model *m, unsigned a, const char *kind, uint64_t size, unsigned process, unsigned refs,
		       uint32_t site)
{
	size_t len = strlen(m->lines[a]);

	m->count[a]++;
	snprintf(m->lines[a] + len, sizeof(m->lines[a]) - len, " %s:%llu:%u:%u@%llu", kind, (unsigned long long)size,
		 process + 1, refs, (unsigned long long)(u->now - UTIL_NOW));
	len = strlen(m->lines[a]);
	if (site)
		snprintf(m->lines[a] + len, sizeof(m->lines[a]) - len, "#%u", site);
}

static void model_alloc(struct model *m, unsigned process, unsigned a, uint64_t size, uint32_t site)
{
	struct model_buffer *b = &m->buffer[process][a];
	const char *kind = !b->refs ? "alloc" : b->size == size ? "ref" : "resize";

	m->allocs[a] += !b->refs;
	b->size = size;
	b->refs++;
	model_line(m, a, kind, size, process, b->refs, site);
}

static void model_free(struct model *m, unsigned process, unsigned a, uint32_t site)
{
	struct model_buffer *b = &m->buffer[process][a];

	if (!b->refs)
		return;
	b->refs--;
	m->frees[a] += !b->refs;
	model_line(m, a, b->refs ? "unref" : "free", b->size, process, b->refs, site);
}

/* The short form has 48 bits for an address. */
static uint64_t address_of(unsigned a)
{
	return a % 4 == 3 ? a | UINT64_C(1) << (44 + a) : a | (uint64_t)(a % 2) << 47;
}

static void book(uint8_t type, uint32_t process, unsigned a, uint64_t size, uint32_t site)
{
	util_event(u, (struct event){
		.type = type, .dialect = TTALLOC_DIALECT_144, .process = process, .address = address_of(a), .size = size,
		.site = site });
}

static void check_model(const struct model *m)
{
	for (unsigned a = 0; a < ADDRESSES; a++) {
		char want[1 << 16];
		snprintf(want, sizeof(want), "%llu/%llu%s", (unsigned long long)m->allocs[a],
			 (unsigned long long)m->frees[a], m->lines[a]);
		ck_assert_str_eq(history(BUFFER_CB, address_of(a)), want);
	}
}

/* Circular buffers: only their owner frees them, so that the model need not know the rules of ingest.c. Lives come and
 * go at the same addresses by several owners, everyday ones and others, so that each way from one form to another is
 * gone. */
START_TEST(nothing_is_forgotten)
{
	static struct model m;
	uint32_t process[PROCESSES];

	ck_assert_int_eq(registry_set_history_per_buffer(u->reg, 1000), 0);
	for (unsigned p = 0; p < PROCESSES; p++)
		process[p] = util_process(u, (int)p + 1, 7, "p");
	srand((unsigned)_i + 1);
	memset(&m, 0, sizeof(m));
	for (unsigned step = 0; step < 1500; step++) {
		unsigned p = (unsigned)rand() % PROCESSES, a = (unsigned)rand() % ADDRESSES;
		uint64_t size = 64 + 64 * ((unsigned)rand() % 2);
		bool alloc = rand() % 8 < 3 || !m.buffer[p][a].refs;
		uint32_t site = (unsigned)rand() % 4 ? util_site(u, (unsigned)rand() % 5) : 0;

		if (m.count[a] >= LINES)
			continue;
		u->now += (unsigned)rand() % 1000 + 1;
		book(alloc ? TTALLOC_MSG_CB_ALLOC : TTALLOC_MSG_CB_FREE, process[p], a, size, site);
		if (alloc)
			model_alloc(&m, p, a, size, site);
		else
			model_free(&m, p, a, site);
		if (step % 100 == 0)
			check_model(&m);
	}
	check_model(&m);
	util_check_totals(u);
}
END_TEST

/* ---- the short form and its limits ---- */

static void live(uint32_t process, uint64_t address, uint64_t size, uint64_t lasts)
{
	util_alloc(u, process, 0, BUFFER_DRAM, address, size);
	u->now += lasts;
	util_release(u, process, 0, address);
}

/* 42 bits of ns, 36 bits of bytes: on this side, and on the other. */
START_TEST(lives_of_any_length_and_size)
{
	static const struct { uint64_t size, lasts; } life[] = {
		{ 1, 0 },
		{ 4096, 1 },
		{ (UINT64_C(1) << 36) - 1, (UINT64_C(1) << 42) - 1 },
		{ UINT64_C(1) << 36, 5 },
		{ 4096, UINT64_C(1) << 42 },
		{ UINT64_C(1) << 56, 1000 * MINUTE },
	};
	uint32_t p = util_process(u, 1, 7, "p");
	uint64_t begin;
	char want[200];

	for (unsigned i = 0; i < sizeof(life) / sizeof(*life); i++) {
		begin = u->now - UTIL_NOW;
		live(p, i, life[i].size, life[i].lasts);
		snprintf(want, sizeof(want), "1/1 alloc:%llu:1:1@%llu free:%llu:1:0@%llu", (unsigned long long)life[i].size,
			 (unsigned long long)begin, (unsigned long long)life[i].size,
			 (unsigned long long)(begin + life[i].lasts));
		ck_assert_str_eq(history(BUFFER_DRAM, i), want);
	}
	ck_assert_uint_eq(registry_history_records(u->reg), 6);
	/* And all of them are known to be gone. */
	for (unsigned i = 0; i < sizeof(life) / sizeof(*life); i++)
		util_release(u, p, 0, i);
	ck_assert_uint_eq(registry_counters(u->reg)->double_frees, 6);
}
END_TEST

/* One life is 32 bytes; of an address that is used again, each life is, and the head once. */
START_TEST(what_a_life_costs)
{
	uint32_t p = util_process(u, 1, 7, "p");
	uint64_t before;

	live(p, 0, 64, 1);
	before = registry_memory(u->reg);
	for (uint64_t a = 1; a <= 100; a++)
		live(p, a, 64, 1);
	ck_assert_uint_eq(registry_memory(u->reg) - before, 100 * 32);
	before = registry_memory(u->reg);
	for (int i = 0; i < 40; i++)
		live(p, 1, 64, 1);
	ck_assert_uint_eq(registry_memory(u->reg) - before, 41 * 32);
}
END_TEST

START_TEST(a_forgotten_life_makes_the_next_free_unsure)
{
	uint32_t p = util_process(u, 1, 7, "p");
	uint64_t pos = 0, removed = 0;

	live(p, 1, 64, 1);
	util_alloc(u, p, 0, BUFFER_DRAM, 1, 64);
	while (registry_clean_step(u->reg, p, &pos, 100, &removed))
		;
	ck_assert_uint_eq(removed, 1);
	/* It may be the one that was forgotten. */
	util_release(u, p, 0, 1);
	ck_assert_uint_eq(registry_counters(u->reg)->unknown_frees, 1);
	/* What was freed after that is sure again. */
	live(p, 1, 64, 1);
	util_release(u, p, 0, 1);
	ck_assert_uint_eq(registry_counters(u->reg)->double_frees, 1);
	ck_assert_str_eq(history(BUFFER_DRAM, 1), "2/2 alloc:64:1:1@0 free:64:1:0@1 unknown_free:0:1:0@1 alloc:64:1:1@1 "
			 "free:64:1:0@2 double_free:0:1:0@2");
}
END_TEST

/* ---- where it was ---- */

static void release_at(uint32_t process, uint64_t address, uint32_t site)
{
	util_event(u, (struct event){ .type = TTALLOC_MSG_FREE, .dialect = TTALLOC_DIALECT_144, .process = process,
				      .address = address, .site = site });
}

START_TEST(each_event_says_where_it_was)
{
	uint32_t p = util_process(u, (1 << 22) - 1, 7, "p"), sibling = util_process(u, 2, 7, "p"), a, b, c;
	uint64_t pos = 0, removed = 0;

	a = util_site(u, 0x10);
	b = util_site(u, 0x20);
	c = util_site(u, 0x30);
	ck_assert(a == 1 && b == 2 && c == 3);
	util_alloc_at(u, p, 0, BUFFER_DRAM, 1, 64, a, 0);
	ck_assert_str_eq(history(BUFFER_DRAM, 1), "1/0 alloc:64:4194303:1@0#1");
	release_at(p, 1, b);
	release_at(p, 1, c);
	ck_assert_str_eq(history(BUFFER_DRAM, 1),
			 "1/1 alloc:64:4194303:1@0#1 free:64:4194303:0@0#2 double_free:0:4194303:0@0#3");
	util_alloc_at(u, p, 0, BUFFER_DRAM, 2, 64, a, 0);
	release_at(sibling, 2, c);
	ck_assert_str_eq(history(BUFFER_DRAM, 2), "1/1 alloc:64:4194303:1@0#1 foreign_free:64:2:0@0#3");
	util_alloc_at(u, p, 0, BUFFER_DRAM, 3, 64, a, 0);
	release_at(p, 3, 0);
	util_alloc_at(u, p, 0, BUFFER_DRAM, 3, 64, 0, 0);
	while (registry_clean_step(u->reg, p, &pos, 100, &removed))
		;
	release_at(p, 3, b);
	ck_assert_str_eq(history(BUFFER_DRAM, 3),
			 "1/1 alloc:64:4194303:1@0#1 free:64:4194303:0@0 unknown_free:0:4194303:0@0#2");
	u->now++;
	release_at(p, 3, c);
	ck_assert_str_eq(history(BUFFER_DRAM, 3),
			 "1/1 alloc:64:4194303:1@0#1 free:64:4194303:0@0 unknown_free:0:4194303:0@1#3");
}
END_TEST

/* A double free is told where the sender can have to do with it, not with whoever freed there last. */
START_TEST(a_double_free_is_told_with_who_was_met)
{
	uint32_t parent = util_process(u, 1, 7, "parent"), stranger = util_process(u, 2, 7, "stranger"), child;
	struct process_identity id = { .pid = 3, .uid = 7, .started = UTIL_NOW + 1000, .comm = "child" };

	util_alloc_at(u, parent, 0, BUFFER_DRAM, 4, 64, 0, 0);
	release_at(parent, 4, 0);
	util_alloc_at(u, stranger, 0, BUFFER_L1, 4, 64, 0, 0);
	release_at(stranger, 4, 0);
	registry_process_end(u->reg, stranger, UTIL_NOW);
	ck_assert_int_eq(registry_process_add(u->reg, &id, u->now, &child), 0);
	release_at(child, 4, 0);
	ck_assert_uint_eq(registry_counters(u->reg)->double_frees, 1);
	ck_assert_ptr_nonnull(strstr(history(BUFFER_DRAM, 4), " double_free:"));
	ck_assert_ptr_null(strstr(history(BUFFER_L1, 4), " double_free:"));
}
END_TEST

/* More pairs than a user has, who is not root. Returns how many. */
static uint32_t use_up_pairs(uint32_t process)
{
	uint32_t n = 0;

	for (uint32_t i = 1; i <= 182; i++)
		(void)util_site(u, i);
	for (uint32_t a = 1; a <= 182; a++)
		for (uint32_t b = 1; b <= 182; b++, n++) {
			util_alloc_at(u, process, 0, BUFFER_DRAM, 1, 64, a, 0);
			release_at(process, 1, b);
		}
	return n;
}

/* Of pairs a user who is not root has half; root's are told still. */
START_TEST(a_user_has_half_of_the_pairs)
{
	uint32_t p = util_process(u, 1, 7, "p"), root = util_process(u, 2, 0, "r"), n = use_up_pairs(p);

	ck_assert_uint_eq(registry_counters(u->reg)->history_unplaced, n - (REGISTRY_PAIRS - 1) / 2);
	ck_assert_ptr_nonnull(strstr(history(BUFFER_DRAM, 1), " alloc:64:1:1@0 free:64:1:0@0"));
	util_alloc_at(u, root, 0, BUFFER_DRAM, 2, 64, 182, 0);
	release_at(root, 2, 182);
	ck_assert_str_eq(history(BUFFER_DRAM, 2), "1/1 alloc:64:2:1@0#182 free:64:2:0@0#182");
	/* One that is there is anybody's. */
	util_alloc_at(u, p, 0, BUFFER_DRAM, 3, 64, 182, 0);
	release_at(p, 3, 182);
	ck_assert_str_eq(history(BUFFER_DRAM, 3), "1/1 alloc:64:1:1@0#182 free:64:1:0@0#182");
	/* Without history no event is without its sites. */
	ck_assert_int_eq(registry_set_history_per_buffer(u->reg, 0), 0);
	util_alloc_at(u, p, 0, BUFFER_DRAM, 4, 64, 181, 0);
	release_at(p, 4, 181);
	ck_assert_uint_eq(registry_counters(u->reg)->history_unplaced, n - (REGISTRY_PAIRS - 1) / 2);
}
END_TEST

START_TEST(reset_gives_pairs_back)
{
	uint32_t p = util_process(u, 1, 7, "p"), n = use_up_pairs(p);

	registry_reset(u->reg);
	ck_assert_str_eq(history(BUFFER_DRAM, 1), "0/0");
	for (uint32_t a = 181; a <= 182; a++) {
		util_alloc_at(u, p, 0, BUFFER_DRAM, a, 64, a, 0);
		release_at(p, a, 182);
	}
	ck_assert_str_eq(history(BUFFER_DRAM, 181), "1/1 alloc:64:1:1@0#181 free:64:1:0@0#182");
	ck_assert_str_eq(history(BUFFER_DRAM, 182), "1/1 alloc:64:1:1@0#182 free:64:1:0@0#182");
	/* All that a user has, again: what was there is not found, nor counted. */
	registry_reset(u->reg);
	ck_assert_uint_eq(use_up_pairs(p), n);
	ck_assert_uint_eq(registry_counters(u->reg)->history_unplaced, n - (REGISTRY_PAIRS - 1) / 2);
}
END_TEST

/* The pair of the last event is one of those that are forgotten. */
START_TEST(reset_forgets_the_last_pair)
{
	uint32_t p = util_process(u, 1, 7, "p");

	(void)util_site(u, 1);
	(void)util_site(u, 2);
	util_alloc_at(u, p, 0, BUFFER_DRAM, 1, 64, 1, 0);
	release_at(p, 1, 2);
	registry_reset(u->reg);
	for (uint32_t a = 1; a <= 2; a++) {
		util_alloc_at(u, p, 0, BUFFER_DRAM, a, 64, a, 0);
		release_at(p, a, 3 - a);
	}
	ck_assert_str_eq(history(BUFFER_DRAM, 1), "1/1 alloc:64:1:1@0#1 free:64:1:0@0#2");
	ck_assert_str_eq(history(BUFFER_DRAM, 2), "1/1 alloc:64:1:1@0#2 free:64:1:0@0#1");
}
END_TEST

/* ---- who goes ---- */

/* An address with a busy life reuses its own events: the others stay. */
START_TEST(the_busy_do_not_push_out_the_quiet)
{
	uint32_t p = util_process(u, 1, 7, "p");

	util_free(u);
	u = util_new(0, 200, 50);
	p = util_process(u, 1, 7, "p");
	for (uint64_t a = 100; a < 200; a++)
		live(p, a, 64, 1);
	for (int i = 0; i < 10000; i++)
		live(p, 1 + (uint64_t)i % 2, 64, 1);
	ck_assert_uint_eq(registry_history_records(u->reg), 200);
	for (uint64_t a = 100; a < 200; a++)
		ck_assert_int_eq(strncmp(history(BUFFER_DRAM, a), "1/1 alloc:", 10), 0);
}
END_TEST

/* What is used again and again stays when those that are used once come and go. */
START_TEST(the_hand_spares_what_was_touched)
{
	uint32_t p;

	util_free(u);
	u = util_new(0, 100, 2);
	p = util_process(u, 1, 7, "p");
	for (uint64_t a = 1000; a < 20000; a++) {
		live(p, a, 64, 1);
		if (a % 10 == 0)
			live(p, a / 10 % 5 + 1, 64, 1);
	}
	ck_assert_uint_eq(registry_history_records(u->reg), 100);
	ck_assert_uint_eq(registry_counters(u->reg)->history_dropped, 0);
	for (uint64_t a = 1; a <= 5; a++)
		util_release(u, p, 0, a);
	ck_assert_uint_eq(registry_counters(u->reg)->double_frees, 5);
	/* Of the others the last ones are known. */
	util_release(u, p, 0, 19999);
	ck_assert_uint_eq(registry_counters(u->reg)->double_frees, 6);
	util_release(u, p, 0, 1000);
	ck_assert_uint_eq(registry_counters(u->reg)->unknown_frees, 1);
}
END_TEST

/* The head that a live buffer carries may go; the buffer begins anew. */
START_TEST(a_carried_head_may_go)
{
	uint32_t p;

	util_free(u);
	u = util_new(0, 50, 0);
	p = util_process(u, 1, 7, "p");
	live(p, 1, 64, 1);
	util_alloc(u, p, 0, BUFFER_DRAM, 1, 65);
	ck_assert_str_eq(history(BUFFER_DRAM, 1), "2/1 alloc:64:1:1@0 free:64:1:0@1 alloc:65:1:1@1");
	for (uint64_t a = 100; a < 300; a++)
		live(p, a, 64, 0);
	ck_assert_str_eq(history(BUFFER_DRAM, 1), "1/0 alloc:65:1:1@1");
	util_release(u, p, 0, 1);
	ck_assert_str_eq(history(BUFFER_DRAM, 1), "1/1 alloc:65:1:1@1 free:65:1:0@1");
	util_check_totals(u);
}
END_TEST

/* Times of booking may go back: a clock is set, or a ring's stamps are older than a message. What happened first at an
 * address is told first. */
START_TEST(the_order_is_that_of_booking)
{
	uint32_t p = util_process(u, 1, 7, "p");

	u->now = UTIL_NOW + 100;
	live(p, 1, 64, 900);
	u->now = UTIL_NOW + 600;
	live(p, 1, 65, 100);
	u->now = UTIL_NOW + 800;
	util_alloc(u, p, 0, BUFFER_DRAM, 1, 66);
	ck_assert_str_eq(history(BUFFER_DRAM, 1), "3/2 alloc:64:1:1@100 free:64:1:0@1000 alloc:65:1:1@600 "
			 "free:65:1:0@700 alloc:66:1:1@800");
}
END_TEST

/* When nothing may go, no head is made that has nothing to tell: there would be no end of them to look at. */
START_TEST(no_head_without_an_event)
{
	uint64_t before;
	uint32_t p;

	util_free(u);
	u = util_new(0, 100, 0);
	p = util_process(u, 1, 7, "p");
	for (uint64_t a = 1; a <= 50; a++)
		for (int i = 0; i < 2; i++)
			util_alloc(u, p, 0, BUFFER_DRAM, a, 64);
	before = registry_memory(u->reg);
	for (uint64_t a = 1; a <= 50; a++)
		for (int i = 0; i < 2; i++)
			util_alloc(u, p, 1, BUFFER_DRAM, a, 64);
	ck_assert_uint_eq(registry_counters(u->reg)->history_dropped, 50);
	util_alloc(u, p, 0, BUFFER_DRAM, 1, 64);
	ck_assert_uint_eq(registry_history_records(u->reg), 100);
	/* Records and their holding, nothing else. */
	ck_assert_uint_eq(registry_memory(u->reg) - before, 4 * (16 * 48 + 16) + 24);
}
END_TEST

/* What has gone is gone from the index, too. */
START_TEST(memory_stays_when_history_is_full)
{
	uint64_t before = 0;
	uint32_t p;

	util_free(u);
	u = util_new(0, 100, 0);
	p = util_process(u, 1, 7, "p");
	for (uint64_t a = 1; a <= 20000; a++) {
		live(p, a, 64, 1);
		if (a == 200)
			before = registry_memory(u->reg);
	}
	ck_assert_uint_eq(registry_memory(u->reg), before);
}
END_TEST

/* Heads that were pinned when history was reset keep nobody from making room. */
START_TEST(reset_forgets_what_was_pinned)
{
	uint64_t pos = 0;
	uint32_t p;

	util_free(u);
	u = util_new(0, 100, 0);
	p = util_process(u, 1, 7, "p");
	for (uint64_t a = 1; a <= 40; a++) {
		util_alloc(u, p, 0, BUFFER_DRAM, a, 64);
		util_alloc(u, p, 0, BUFFER_DRAM, a, 64);
	}
	ck_assert_uint_eq(registry_history_records(u->reg), 80);
	while (registry_reset_history_step(u->reg, &pos, 1))
		;
	ck_assert_uint_eq(registry_history_records(u->reg), 0);
	for (uint64_t a = 1000; a < 1040; a++)
		live(p, a, 64, 1);
	/* As many heads are in use as were pinned. */
	for (uint64_t a = 1; a <= 30; a++) {
		util_alloc(u, p, 0, BUFFER_DRAM, a, 64);
		util_alloc(u, p, 0, BUFFER_DRAM, a, 64);
	}
	ck_assert_uint_eq(registry_counters(u->reg)->history_dropped, 0);
	ck_assert_uint_eq(registry_history_records(u->reg), 100);
}
END_TEST

/* ---- persons: by themselves, since it takes a million processes ---- */

START_TEST(who_an_owner_was_is_unknown_after_a_million)
{
	struct index index;
	uint64_t dropped = 0;
	union history_head heads[9] = { 0 };
	char events[9 * 64] __attribute__((aligned(32))) = { 0 };
	struct history_person *persons = calloc(1, history_persons_size());
	struct history_event life = { .time = 10, .end = 20, .size = 64, .pid = 77, .kind = HISTORY_LIFE }, got;
	struct history_id id = { 1, 5, 0, BUFFER_DRAM };
	struct history_person person;
	struct history h;
	uint32_t pos = 0, head;

	ck_assert_uint_eq(history_heads_size(8), sizeof(heads));
	ck_assert_uint_le(history_events_size(8), sizeof(events));
	ck_assert_int_eq(index_init(&index), 0);
	history_init(&h, &index, 1, 8, 10, heads, events, persons, &dropped);
	history_person_add(&h, &(struct history_person){ 5, 77, 1000, 0 });
	head = history_live(&h, 0, &id, &life);
	ck_assert_uint_ne(head, 0);
	ck_assert(history_each(&h, head, &pos, &got));
	ck_assert_int_eq(got.pid, 77);
	ck_assert_uint_eq(got.time, 10);
	ck_assert(!history_each(&h, head, &pos, &got));
	ck_assert(history_person_get(&h, 5, &person) && person.uid == 1000);
	history_person_add(&h, &(struct history_person){ 5 + HISTORY_PERSONS, 99, 2000, 0 });
	ck_assert(!history_person_get(&h, 5, &person));
	pos = 0;
	ck_assert(history_each(&h, head, &pos, &got));
	ck_assert_int_eq(got.pid, 0);
	/* One that another pid had would be told with the wrong one in the short form. */
	id.address = 2;
	history_person_add(&h, &(struct history_person){ 5, 78, 1000, 0 });
	head = history_live(&h, 0, &id, &life);
	pos = 0;
	ck_assert(history_each(&h, head, &pos, &got));
	ck_assert_int_eq(got.pid, 77);
	history_person_add(&h, &(struct history_person){ 5 + HISTORY_PERSONS, 99, 2000, 0 });
	id.address = 1;
	head = 1;
	/* Another life of that owner says its pid itself. */
	ck_assert_uint_eq(history_live(&h, head, &id, &life), head);
	pos = 0;
	ck_assert(history_each(&h, head, &pos, &got));
	ck_assert(history_each(&h, head, &pos, &got));
	ck_assert_int_eq(got.pid, 77);
	ck_assert_uint_eq(dropped, 0);
	index_deinit(&index);
	free(persons);
}
END_TEST

/* ---- the index under a batch ---- */

/* Tables are exchanged while events are on their way through the stages of ingest_events(). */
START_TEST(batches_over_a_growing_and_shrinking_index)
{
	enum { N = 40000 };
	struct event *events = calloc(N, sizeof(*events));
	uint32_t p;

	util_free(u);
	u = util_new(N, 1000, 1);
	p = util_process(u, 1, 7, "p");
	for (int frees = 0; frees < 2; frees++) {
		for (uint64_t i = 0; i < N; i++)
			events[i] = (struct event){
				.type = frees ? TTALLOC_MSG_FREE : TTALLOC_MSG_ALLOC, .dialect = TTALLOC_DIALECT_144,
				.process = p, .address = i, .size = frees ? 0 : 64 };
		ingest_events(&u->in, events, N, u->now);
		ck_assert_uint_eq(registry_totals(u->reg).count, frees ? 0 : N);
	}
	ck_assert_uint_eq(registry_counters(u->reg)->frees_total, N);
	ck_assert_uint_eq(registry_history_records(u->reg), 1000);
	free(events);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("history");
	TCase *t = tcase_create("history");
	SRunner *r = srunner_create(s);

	tcase_set_timeout(t, 60);
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_loop_test(t, nothing_is_forgotten, 0, 10);
	tcase_add_test(t, lives_of_any_length_and_size);
	tcase_add_test(t, what_a_life_costs);
	tcase_add_test(t, a_forgotten_life_makes_the_next_free_unsure);
	tcase_add_test(t, each_event_says_where_it_was);
	tcase_add_test(t, a_double_free_is_told_with_who_was_met);
	tcase_add_test(t, a_user_has_half_of_the_pairs);
	tcase_add_test(t, reset_gives_pairs_back);
	tcase_add_test(t, reset_forgets_the_last_pair);
	tcase_add_test(t, the_busy_do_not_push_out_the_quiet);
	tcase_add_test(t, the_hand_spares_what_was_touched);
	tcase_add_test(t, a_carried_head_may_go);
	tcase_add_test(t, the_order_is_that_of_booking);
	tcase_add_test(t, no_head_without_an_event);
	tcase_add_test(t, memory_stays_when_history_is_full);
	tcase_add_test(t, reset_forgets_what_was_pinned);
	tcase_add_test(t, who_an_owner_was_is_unknown_after_a_million);
	tcase_add_test(t, batches_over_a_growing_and_shrinking_index);
	suite_add_tcase(s, t);
	srunner_run_all(r, CK_ENV);
	int failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed != 0;
}
