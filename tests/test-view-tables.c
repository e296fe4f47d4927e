/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * test-view-tables.c - what tables promise when they are read in pieces: every buffer that lives during the whole
 * reading exactly once, none twice, no torn line, bounded steps; order and sums of the sorted ones; the map's holes;
 * and an orderly end when memory runs out at any place.
 *
 * Linked with --wrap=malloc,calloc,realloc, so that the nth allocation can be made to fail.
 */
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/util-registry.h"
#include "tracker/view-sort.h"
#include "tracker/view.h"

/* For what is asked a million times: libcheck writes to a file for every assertion that holds. */
#define must(expr) \
	do { \
		if (!(expr)) \
			ck_abort_msg("must be: %s", #expr); \
	} while (0)

/* ---- memory that runs out ---- */

static long allocations_left = -1;  /* -1 = never fail */

/* Weak, so that a link without the option fails in these tests and not in the build of everything. */
void *__real_malloc(size_t size) __attribute__((weak));
void *__real_calloc(size_t n, size_t size) __attribute__((weak));
void *__real_realloc(void *p, size_t size) __attribute__((weak));
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t size);

static bool allocation_fails(void)
{
	if (allocations_left < 0)
		return false;
	if (!allocations_left)
		return true;
	allocations_left--;
	return false;
}

void *__wrap_malloc(size_t size)
{
	return allocation_fails() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t n, size_t size)
{
	return allocation_fails() ? NULL : __real_calloc(n, size);
}

void *__wrap_realloc(void *p, size_t size)
{
	return allocation_fails() ? NULL : __real_realloc(p, size);
}

/* ---- what was alive, by sequence number ---- */

#define MAX_SEQ (1U << 17)

struct life {
	uint32_t process;
	int device;
	uint64_t address;
	unsigned site;    /* their numbers, 0 = none */
	unsigned tag;
	bool known;
	bool alive;
	bool throughout;  /* since the reading began */
	unsigned seen;
};

static struct life life[MAX_SEQ];

/* ---- a world ---- */

#define PROCESSES 8
#define DEVICES 3
#define PLACES 5

struct world {
	struct util *u;
	struct server_info server;
	struct view view;
	uint32_t process[PROCESSES];
	uint64_t random;
};

static char site_text[PLACES][20];

static void define_places(struct world *w)
{
	memcpy(site_text[0], "-", 2);
	for (unsigned i = 1; i < PLACES; i++) {
		struct site_info site;
		char tag[8];

		must(util_site(w->u, i) == i);
		must(registry_tag(w->u->reg, tag, (size_t)snprintf(tag, sizeof(tag), "t %u", i), 0) == i);
		must(registry_site_get(w->u->reg, i, &site));
		snprintf(site_text[i], sizeof(site_text[i]), "%016llx", (unsigned long long)site.hash);
	}
}

static uint64_t rnd(struct world *w, uint64_t below)
{
	w->random ^= w->random << 13;
	w->random ^= w->random >> 7;
	w->random ^= w->random << 17;
	return w->random % below;
}

static void world_init(struct world *w, uint32_t max_buffers, uint64_t seed)
{
	memset(life, 0, sizeof(life));
	*w = (struct world){ .u = util_new(max_buffers, 0, 0), .random = seed * UINT64_C(0x9e3779b97f4a7c15) + 1 };
	w->server = (struct server_info){ .version = "0.1.0", .mountpoint = "/mnt/ttalloc" };
	w->view = (struct view){ .registry = w->u->reg,
				 .trace = &w->u->trace,
				 .errlog = &w->u->errlog,
				 .server = &w->server,
				 .now = UTIL_NOW };
	for (int i = 0; i < PROCESSES; i++)
		w->process[i] = util_process(w->u, 100 + i, 1000, "churn");
	define_places(w);
}

static void world_free(struct world *w)
{
	util_free(w->u);
}

static void birth(struct world *w)
{
	uint32_t process = w->process[rnd(w, PROCESSES)];
	int device = (int)rnd(w, DEVICES);
	unsigned type = rnd(w, 2) ? BUFFER_DRAM : BUFFER_L1;
	uint64_t address = rnd(w, UINT64_C(1) << 32) << 5;
	uint64_t seq = registry_seq(w->u->reg) + 1;
	unsigned site = (unsigned)rnd(w, PLACES), tag = (unsigned)rnd(w, PLACES);
	struct buffer b;

	/* An address drawn twice would be one more reference and no birth; or a FREE that could mean two types. */
	if (registry_own(w->u->reg, process, (unsigned)device, address, UINT32_MAX, &b))
		return;
	must(seq < MAX_SEQ);
	util_alloc_at(w->u, process, device, type, address, 1 + rnd(w, 1000000), site, tag);
	life[seq] = (struct life){ .process = process, .device = device, .address = address, .site = site,
				   .tag = tag, .known = true, .alive = true };
}

static void death(struct world *w)
{
	uint64_t last = registry_seq(w->u->reg);
	uint64_t seq = 1 + rnd(w, last);

	for (uint64_t tries = 0; tries < last && !life[seq].alive; tries++)
		seq = seq % last + 1;
	if (!life[seq].alive)
		return;
	util_release(w->u, life[seq].process, life[seq].device, life[seq].address);
	life[seq].alive = life[seq].throughout = false;
}

static void churn(struct world *w, unsigned changes)
{
	for (unsigned i = 0; i < changes; i++) {
		if (rnd(w, 2))
			birth(w);
		else
			death(w);
	}
}

/* ---- reading in pieces ---- */

struct reading {
	view_table table;
	struct view_key key;
	int device;         /* what it wants; -1 = any */
	uint32_t process;   /* PROCESS_NONE = any */
	int seq_column;     /* in a line, from 0 */
	const char *skip;   /* a word in lines that are about no buffer */
	bool no_place;      /* it has no columns site and tag */
};

static void begin_watch(uint64_t last)
{
	for (uint64_t seq = 1; seq <= last; seq++) {
		life[seq].throughout = life[seq].alive;
		life[seq].seen = 0;
	}
}

static bool wants(const struct reading *r, const struct life *l)
{
	return (r->device < 0 || l->device == r->device) &&
	       (r->process == PROCESS_NONE || l->process == r->process);
}

/* The columns site and tag, and blanks around them. */
static void see_place(const struct life *l, const char *at)
{
	char expected[40];
	int len = l->tag ? snprintf(expected, sizeof(expected), " %s t%%20%u ", site_text[l->site], l->tag) :
			   snprintf(expected, sizeof(expected), " %s - ", site_text[l->site]);

	must(strncmp(at, expected, (size_t)len) == 0);
}

static void see_line(const struct reading *r, const char *line)
{
	uint64_t seq;

	if (line[0] == '#' || (r->skip && strstr(line, r->skip)))
		return;
	for (int i = 0; i < r->seq_column; i++) {
		line = strchr(line, ' ');
		must(line);
		line++;
	}
	char *end;
	seq = strtoull(line, &end, 10);
	must(seq < MAX_SEQ);
	if (!r->no_place)
		see_place(&life[seq], end);
	must(life[seq].known && wants(r, &life[seq]));
	life[seq].seen++;
}

static void see_piece(const struct reading *r, struct textbuf *t)
{
	char *end;

	if (!t->len)
		return;
	ck_assert_int_eq(t->data[t->len - 1], '\n');
	t->data[t->len - 1] = '\0';
	for (char *line = t->data; line; line = end) {
		end = strchr(line, '\n');
		if (end)
			*end++ = '\0';
		see_line(r, line);
	}
}

#define LONGEST_LINE 180

static void read_under_churn(struct world *w, const struct reading *r, unsigned changes)
{
	struct view_cursor c = { 0 };
	struct textbuf t = TEXTBUF_INIT;
	unsigned calls = 0;
	int more;

	begin_watch(registry_seq(w->u->reg));
	do {
		size_t want = 1 + rnd(w, 4000);

		textbuf_clear(&t);
		more = r->table(&w->view, &r->key, &c, want, &t);
		ck_assert_int_ge(more, 0);
		ck_assert_uint_le(t.len, want + LONGEST_LINE);
		see_piece(r, &t);
		churn(w, changes);
		ck_assert_uint_lt(++calls, 100000);
	} while (more);
	view_table_end(&c);
	textbuf_deinit(&t);
	for (uint64_t seq = 1; seq <= registry_seq(w->u->reg); seq++) {
		must(life[seq].seen <= 1);
		if (life[seq].throughout && wants(r, &life[seq]))
			must(life[seq].seen == 1);
	}
}

START_TEST(pieces_under_churn)
{
	struct reading readings[] = {
		{ .table = view_allocs, .device = -1, .process = PROCESS_NONE, .seq_column = 8 },
		{ .table = view_device_allocs, .key = { .device = 1 }, .device = 1, .process = PROCESS_NONE,
		  .seq_column = 8 },
		{ .table = view_process_allocs, .device = -1, .seq_column = 8 },
		{ .table = view_device_map, .key = { .device = 2 }, .device = 2, .process = PROCESS_NONE,
		  .seq_column = 5, .skip = " free ", .no_place = true },
	};
	struct world w;

	world_init(&w, 65536, (uint64_t)_i + 1);
	readings[2].process = readings[2].key.process = w.process[3];
	/* More than is collected in one step. */
	for (int i = 0; i < 4 * SORTED_STEP; i++)
		birth(&w);
	for (size_t i = 0; i < sizeof(readings) / sizeof(readings[0]); i++) {
		read_under_churn(&w, &readings[i], 3);
		read_under_churn(&w, &readings[i], 0);
	}
	util_check_totals(w.u);
	world_free(&w);
}
END_TEST

START_TEST(suspects_under_churn)
{
	struct reading r = { .table = view_suspects, .device = -1, .seq_column = 11 };
	struct world w;

	world_init(&w, 65536, 77);
	for (int i = 0; i < 5000; i++)
		birth(&w);
	r.process = w.process[5];
	ingest_exit(&w.u->in, r.process, w.u->now);
	/* The dead do not allocate. */
	w.process[5] = w.process[4];
	read_under_churn(&w, &r, 0);
	read_under_churn(&w, &r, 2);
	world_free(&w);
}
END_TEST

/* The process ends with nothing left, and is forgotten in favour of new ones until one of them has its slot. */
static uint32_t replace_process(struct world *w, uint32_t slot)
{
	uint32_t heir = PROCESS_NONE;

	registry_process_disconnect(w->u->reg, slot);
	ingest_exit(&w->u->in, slot, w->u->now);
	for (int pid = 1000; heir != slot; pid++)
		heir = util_process(w->u, pid, 1000, "heir");
	return heir;
}

/* The next owner of a slot does not show in the table of the process that was forgotten in mid-reading. */
START_TEST(process_slot_reused)
{
	struct view_cursor c = { 0 };
	struct textbuf t = TEXTBUF_INIT;
	struct view_key key;
	struct world w;
	uint32_t heir;

	world_init(&w, 0, 5);
	key = (struct view_key){ .process = w.process[0] };
	for (uint64_t i = 0; i < 100; i++)
		util_alloc(w.u, w.process[0], 0, BUFFER_DRAM, i << 12, 4096);
	ck_assert_int_eq(view_process_allocs(&w.view, &key, &c, 200, &t), 1);
	for (uint64_t i = 0; i < 100; i++)
		util_release(w.u, w.process[0], 0, i << 12);
	heir = replace_process(&w, w.process[0]);
	for (uint64_t i = 0; i < 100; i++)
		util_alloc(w.u, heir, 0, BUFFER_DRAM, i << 12, 4096);
	textbuf_clear(&t);
	ck_assert_int_eq(view_process_allocs(&w.view, &key, &c, 1 << 20, &t), 0);
	ck_assert_uint_eq(t.len, 0);
	view_table_end(&c);
	textbuf_deinit(&t);
	world_free(&w);
}
END_TEST

/* Many slots that do not match: a call gives up after VIEW_STEP chunks and says so. */
START_TEST(scanning_is_bounded)
{
	struct view_cursor c = { 0 };
	struct textbuf t = TEXTBUF_INIT;
	struct view_key key;
	struct world w;
	unsigned calls = 0;

	world_init(&w, 3 * VIEW_STEP * 16, 5);
	key = (struct view_key){ .process = w.process[1] };
	for (uint64_t i = 0; i < 2 * VIEW_STEP * 16; i++)
		util_alloc(w.u, w.process[0], 0, BUFFER_DRAM, i << 12, 4096);
	util_alloc(w.u, w.process[1], 0, BUFFER_DRAM, 0, 4096);
	while (view_process_allocs(&w.view, &key, &c, 1000, &t) == 1)
		calls++;
	view_table_end(&c);
	ck_assert_uint_ge(calls, 2);
	ck_assert_uint_le(calls, 4);
	textbuf_putc(&t, '\0');
	ck_assert_ptr_nonnull(strstr(t.data, "\n0 dram 0x000000000000 4096 1 101 "));
	textbuf_deinit(&t);
	world_free(&w);
}
END_TEST

START_TEST(trace_ends_while_events_come)
{
	struct view_cursor c = { 0 };
	struct textbuf t = TEXTBUF_INIT;
	struct world w;
	unsigned calls = 0;
	int more;

	world_init(&w, 65536, 9);
	for (int i = 0; i < 200; i++)
		birth(&w);
	do {
		more = view_trace(&w.view, NULL, &c, 100, &t);
		for (int i = 0; i < 5; i++)
			birth(&w);
		ck_assert_uint_lt(++calls, 500);
	} while (more == 1);
	ck_assert_int_eq(more, 0);
	view_table_end(&c);
	textbuf_deinit(&t);
	world_free(&w);
}
END_TEST

/* Accounts that are there during the whole reading are rows once, whatever is made meanwhile; the process's table ends
 * with the process. */
START_TEST(sites_in_pieces)
{
	static const view_table tables[] = { view_sites, view_process_sites };
	struct view_cursor c = { 0 };
	struct textbuf t = TEXTBUF_INIT;
	struct view_key key;
	struct world w;

	world_init(&w, 0, 9);
	key = (struct view_key){ .process = w.process[0] };
	for (unsigned i = 0; i < 2; i++) {
		unsigned n = 0;

		for (unsigned k = 0; k < 300; k++)
			util_alloc_at(w.u, w.process[0], (int)k, BUFFER_DRAM, 0x1000, 1, 1 + k % 4, 0);
		textbuf_clear(&t);
		while (tables[i](&w.view, &key, &c, 1, &t) == 1) {
			util_alloc_at(w.u, w.process[1], (int)(n % 1000), BUFFER_L1, n << 12, 1, 1 + n % 4, 0);
			ck_assert_uint_lt(++n, 10000);
		}
		view_table_end(&c);
		textbuf_putc(&t, '\0');
		for (unsigned k = 0; k < 300; k++) {
			char column[32];
			snprintf(column, sizeof(column), " - %u dram ", k);
			const char *found = strstr(t.data, column);
			ck_assert_ptr_nonnull(found);
			ck_assert_ptr_null(strstr(found + 1, column));
		}
		ck_assert_int_eq(!strstr(t.data, " l1 "), tables[i] == view_process_sites);
	}
	textbuf_clear(&t);
	/* The header only: where it stands does not tell that the process has gone. */
	ck_assert_int_eq(view_process_sites(&w.view, &key, &c, 0, &t), 1);
	registry_reset(w.u->reg);
	w.process[0] = replace_process(&w, w.process[0]);
	util_alloc_at(w.u, w.process[0], 0, BUFFER_DRAM, 0x1000, 1, 1, 0);
	textbuf_clear(&t);
	ck_assert_int_eq(view_process_sites(&w.view, &key, &c, 200, &t), 0);
	ck_assert_uint_eq(t.len, 0);
	view_table_end(&c);
	textbuf_deinit(&t);
	world_free(&w);
}
END_TEST

/* Rows that are not shown are steps, too. */
START_TEST(skipped_sites_are_steps)
{
	struct view_cursor c = { 0 };
	struct textbuf t = TEXTBUF_INIT;
	uint64_t pos = 0, removed = 0;
	unsigned calls = 0;
	struct world w;

	world_init(&w, 0, 9);
	for (unsigned i = 1; i <= 3 * VIEW_STEP; i++) {
		util_alloc_at(w.u, w.process[0], 0, BUFFER_DRAM, 0x1000, 1, util_site(w.u, i), 0);
		util_release(w.u, w.process[0], 0, 0x1000);
	}
	while (registry_reset_device_step(w.u->reg, 0, &pos, 1000, &removed))
		;
	while (view_sites(&w.view, NULL, &c, 1000, &t) == 1)
		calls++;
	ck_assert_uint_ge(calls, 3);
	textbuf_putc(&t, '\0');
	ck_assert_str_eq(t.data, "# site live bytes peak allocs frees growth device type top_frame\n");
	view_table_end(&c);
	textbuf_deinit(&t);
	world_free(&w);
}
END_TEST

START_TEST(processes_in_pieces)
{
	struct view_cursor c = { 0 };
	struct textbuf t = TEXTBUF_INIT;
	unsigned lines = 0;
	struct world w;

	world_init(&w, 0, 9);
	while (view_processes(&w.view, NULL, &c, 1, &t) == 1)
		;
	view_table_end(&c);
	for (size_t i = 0; i < t.len; i++)
		lines += t.data[i] == '\n';
	ck_assert_uint_eq(lines, 1 + PROCESSES);
	textbuf_deinit(&t);
	world_free(&w);
}
END_TEST

/* ---- sorting ---- */

static int item_order(const struct sorted_item *a, const struct sorted_item *b)
{
	if (a->device != b->device)
		return a->device < b->device ? -1 : 1;
	if (a->type != b->type)
		return a->type < b->type ? -1 : 1;
	if (a->address != b->address)
		return a->address < b->address ? -1 : 1;
	return a->seq < b->seq ? -1 : a->seq > b->seq;
}

/* Everything the registry holds, in order, each once; what is peeked at is what comes. */
static void check_sorted(struct world *w, struct sorted *s)
{
	static struct sorted_sum sum[DEVICE_MAX][BUFFER_TYPES];
	struct sorted_item last = { 0 };
	uint64_t n = 0;

	memset(sum, 0, sizeof(sum));
	for (const struct sorted_item *item; (item = sorted_item(s)) != NULL; n++) {
		const struct sorted_item *peeked = sorted_peek(s);
		struct buffer b;

		if (n)
			must(item_order(&last, item) < 0);
		must(registry_own(w->u->reg, item->process, item->device, item->address, 1U << item->type, &b) == 1);
		must(b.seq == item->seq && b.size == item->size && b.refs == item->refs && b.time == item->time);
		must(sorted_owner(item, w->u->reg) == registry_process(w->u->reg, item->process));
		sum[item->device][item->type].count++;
		sum[item->device][item->type].bytes += item->size;
		last = *item;
		if (peeked) {
			struct sorted_item next = *peeked;

			sorted_next(s);
			must(item_order(sorted_item(s), &next) == 0);
		} else {
			sorted_next(s);
			ck_assert_ptr_null(sorted_item(s));
		}
	}
	ck_assert_uint_eq(n, registry_totals(w->u->reg).count);
	ck_assert_uint_eq(n, sorted_count(s));
	for (unsigned device = 0; device < DEVICE_MAX; device++) {
		struct sorted_sum of_device = sorted_sum_device(s, device);

		for (unsigned type = 0; type < BUFFER_TYPES; type++) {
			struct sorted_sum found = sorted_sum(s, device, type);

			must(found.count == sum[device][type].count);
			must(found.bytes == sum[device][type].bytes);
			of_device.count -= found.count;
			of_device.bytes -= found.bytes;
		}
		must(!of_device.count && !of_device.bytes);
	}
}

/* Addresses that meet all devices, types, owners, and both ends of the number range. */
static void random_alloc(struct world *w)
{
	static const uint64_t places[] = { 0, 1, UINT64_MAX, UINT64_MAX - 1, 0x8000000000000000, 0xff00ff00ff00ff };
	static const int devices[] = { 0, 1, 255, 256, 1023 };
	uint64_t address = rnd(w, 3) ? rnd(w, 1 << 20) << rnd(w, 44) : places[rnd(w, 6)];

	util_alloc(w->u, w->process[rnd(w, PROCESSES)], devices[rnd(w, 5)], (unsigned)rnd(w, BUFFER_TYPES), address,
		   1 + rnd(w, BUFFER_SIZE_MAX));
}

START_TEST(sorted_order)
{
	static const int sizes[] = { 0, 1, 2, 83, 84, 85, 1000, 20000 };
	struct sorted *s;
	struct world w;

	world_init(&w, 65536, (uint64_t)_i + 1);
	for (int i = 0; i < sizes[_i]; i++)
		random_alloc(&w);
	ck_assert_int_eq(sorted_new(&s, &BUFFER_FILTER_ALL, UINT32_MAX), 0);
	while (sorted_step(s, w.u->reg) == 1)
		;
	check_sorted(&w, s);
	sorted_free(s);
	world_free(&w);
}
END_TEST

START_TEST(sorted_filters)
{
	struct buffer_filter filter = BUFFER_FILTER_ALL;
	struct sorted *s;
	struct world w;
	uint64_t n = 0;

	world_init(&w, 65536, 3);
	for (int i = 0; i < 3000; i++)
		random_alloc(&w);
	filter.device = 256;
	ck_assert_int_eq(sorted_new(&s, &filter, 1U << BUFFER_L1 | 1U << BUFFER_CB), 0);
	while (sorted_step(s, w.u->reg) == 1)
		;
	for (const struct sorted_item *item; (item = sorted_item(s)) != NULL; sorted_next(s), n++) {
		ck_assert_int_eq(item->device, 256);
		ck_assert(item->type == BUFFER_L1 || item->type == BUFFER_CB);
	}
	ck_assert_uint_gt(n, 0);
	ck_assert_uint_eq(n, registry_device(w.u->reg, 256)->type[BUFFER_L1].count +
				     registry_device(w.u->reg, 256)->type[BUFFER_CB].count);
	sorted_free(s);
	world_free(&w);
}
END_TEST

/* A step copies or moves at most SORTED_STEP buffers, so n buffers and p passes take n * (1 + p) / SORTED_STEP steps
 * at least; p is known here: addresses differ in two bytes, sequence numbers in three. */
START_TEST(sorting_is_bounded)
{
	const uint64_t n = 65536 + 256;
	unsigned steps = 0;
	struct sorted *s;
	struct world w;

	world_init(&w, 1 << 17, 1);
	for (uint64_t i = 0; i < n; i++)
		util_alloc(w.u, w.process[i >> 16], 0, BUFFER_DRAM, (n - i) & 0xffff, 4096);
	ck_assert_uint_eq(registry_totals(w.u->reg).count, n);
	ck_assert_int_eq(sorted_new(&s, &BUFFER_FILTER_ALL, UINT32_MAX), 0);
	do
		steps++;
	while (sorted_step(s, w.u->reg) == 1);
	ck_assert_uint_ge(steps, n * 6 / SORTED_STEP);
	ck_assert_uint_le(steps, n * 6 / SORTED_STEP + 8);
	check_sorted(&w, s);
	sorted_free(s);
	world_free(&w);
}
END_TEST

/* An item shows that its owner was forgotten and the slot given to another. */
START_TEST(sorted_owner_gone)
{
	struct sorted *s;
	struct world w;

	world_init(&w, 0, 5);
	util_alloc(w.u, w.process[0], 0, BUFFER_DRAM, 0x1000, 4096);
	ck_assert_int_eq(sorted_new(&s, &BUFFER_FILTER_ALL, UINT32_MAX), 0);
	ck_assert_int_eq(sorted_step(s, w.u->reg), 0);
	ck_assert_ptr_nonnull(sorted_owner(sorted_item(s), w.u->reg));
	util_release(w.u, w.process[0], 0, 0x1000);
	replace_process(&w, w.process[0]);
	ck_assert_ptr_null(sorted_owner(sorted_item(s), w.u->reg));
	sorted_free(s);
	world_free(&w);
}
END_TEST

/* ---- the map ---- */

#define SPACE 300

struct map_line {
	uint64_t start;
	uint64_t end;
	uint64_t bytes;
	bool used;
	char type[16];
};

static size_t read_map(struct world *w, struct map_line *lines, size_t max)
{
	struct view_cursor c = { 0 };
	struct textbuf t = TEXTBUF_INIT;
	size_t n = 0;

	while (view_device_map(&w->view, &(struct view_key){ .device = 0 }, &c, 1 + rnd(w, 300), &t) == 1)
		;
	view_table_end(&c);
	textbuf_putc(&t, '\0');
	for (char *line = strchr(t.data, '\n') + 1; *line; line = strchr(line, '\n') + 1) {
		unsigned long long start, end, bytes;
		char state[8];

		ck_assert_uint_lt(n, max);
		ck_assert_int_eq(sscanf(line, "%llx %llx %llu %7s %15s", &start, &end, &bytes, state, lines[n].type),
				 5);
		lines[n].start = start;
		lines[n].end = end;
		lines[n].bytes = bytes;
		lines[n].used = !strcmp(state, "used");
		ck_assert(lines[n].used || !strcmp(state, "free"));
		n++;
	}
	textbuf_deinit(&t);
	return n;
}

/* Against a byte-wise picture of a small memory: free lines are exactly the maximal holes. */
START_TEST(map_holes)
{
	static struct map_line lines[200];
	bool covered[SPACE + 50] = { false };
	struct world w;
	uint64_t first = UINT64_MAX, last = 0, capacity, reached = 0;
	size_t n;

	world_init(&w, 0, (uint64_t)_i + 1);
	capacity = rnd(&w, 2) ? rnd(&w, SPACE + 50) : 0;
	registry_device_declare(w.u->reg, 0, capacity, 0, 0);
	for (uint64_t i = rnd(&w, 40) + 1; i > 0; i--) {
		uint64_t address = rnd(&w, SPACE - 20), size = 1 + rnd(&w, 20);
		struct buffer b;
		uint32_t process = w.process[rnd(&w, PROCESSES)];

		if (registry_own(w.u->reg, process, 0, address, 1U << BUFFER_DRAM, &b))
			continue;
		util_alloc(w.u, process, 0, BUFFER_DRAM, address, size);
		memset(covered + address, true, size);
		first = address < first ? address : first;
		last = address + size > last ? address + size : last;
	}
	n = read_map(&w, lines, 200);
	for (size_t i = 0; i < n; i++) {
		ck_assert_str_eq(lines[i].type, "dram");
		ck_assert_uint_eq(lines[i].bytes, lines[i].end - lines[i].start);
		ck_assert_uint_gt(lines[i].bytes, 0);
		if (i)
			ck_assert_uint_ge(lines[i].start, lines[i - 1].start);
		/* Lines leave no gap: what is not used is said to be free. */
		ck_assert(!i || lines[i].start <= reached);
		if (!lines[i].used) {
			ck_assert_uint_eq(lines[i].start, reached);
			for (uint64_t at = lines[i].start; at < lines[i].end; at++)
				must(!covered[at]);
		}
		reached = lines[i].end > reached ? lines[i].end : reached;
	}
	ck_assert_uint_eq(lines[0].start, first);
	ck_assert_uint_eq(reached, last > capacity ? last : capacity);
	world_free(&w);
}
END_TEST

START_TEST(map_at_the_end_of_numbers)
{
	struct map_line lines[10];
	struct world w;

	world_init(&w, 0, 1);
	util_alloc(w.u, w.process[0], 0, BUFFER_DRAM, UINT64_MAX - 10, 4096);
	util_alloc(w.u, w.process[0], 0, BUFFER_DRAM, 0, 16);
	util_alloc(w.u, w.process[0], 0, BUFFER_KERNEL, 5, 16);
	ck_assert_uint_eq(read_map(&w, lines, 10), 3);
	ck_assert_uint_eq(lines[2].end, UINT64_MAX);
	ck_assert_uint_eq(lines[2].bytes, 4096);
	ck_assert_uint_eq(lines[1].start, 16);
	ck_assert_uint_eq(lines[1].end, UINT64_MAX - 10);
	ck_assert(!lines[1].used);
	world_free(&w);
}
END_TEST

/* Types are separate memories: no hole reaches from one to the next, and an idle type has no line. */
START_TEST(map_of_types)
{
	struct map_line lines[10];
	struct world w;

	world_init(&w, 0, 1);
	registry_device_declare(w.u->reg, 0, 1000, 1000, 0);
	ck_assert_uint_eq(read_map(&w, lines, 10), 0);
	util_alloc(w.u, w.process[0], 0, BUFFER_L1, 100, 50);
	util_alloc(w.u, w.process[0], 0, BUFFER_CB, 200, 50);
	util_alloc(w.u, w.process[0], 0, BUFFER_SYSTEM_MEMORY, 900, 50);
	ck_assert_uint_eq(read_map(&w, lines, 10), 4);
	ck_assert_str_eq(lines[0].type, "l1");
	ck_assert(!lines[1].used);
	ck_assert_uint_eq(lines[1].end, 1000);
	ck_assert_str_eq(lines[2].type, "system_memory");
	ck_assert_str_eq(lines[3].type, "cb");
	world_free(&w);
}
END_TEST

/* ---- the dump ---- */

/* Sums in the report are those of its items, though buffers come and go while it is written. */
START_TEST(dump_under_churn)
{
	struct view_cursor c = { 0 };
	struct textbuf t = TEXTBUF_INIT;
	unsigned long long group = 0, all = 0, items = 0, in_device = 0, value;
	bool ended = false;
	struct world w;
	int more;

	world_init(&w, 65536, 13);
	for (int i = 0; i < 2 * SORTED_STEP; i++)
		birth(&w);
	do {
		more = view_dump(&w.view, NULL, &c, 3000, &t);
		churn(&w, 5);
	} while (more == 1);
	ck_assert_int_eq(more, 0);
	view_table_end(&c);
	textbuf_putc(&t, '\0');
	for (char *line = strtok(t.data, "\n"); line; line = strtok(NULL, "\n")) {
		if (!strncmp(line, "    - Buffer ", 13)) {
			items++;
			in_device++;
			all++;
		} else if (!strncmp(line, "        History ", 16)) {
			continue;
		} else if (sscanf(line, "  Total: %llu buffer", &value) == 1) {
			ck_assert_uint_eq(items, group);
			ck_assert_uint_eq(value, in_device);
			in_device = group = items = 0;
		} else if (sscanf(line, "  %*[A-Z0-9_]: %llu buffer", &value) == 1) {
			ck_assert_uint_eq(items, group);
			group = value;
			items = 0;
		} else if (sscanf(line, "Total remaining buffers: %llu", &value) == 1) {
			ck_assert_uint_eq(value, all);
			ended = true;
		}
	}
	ck_assert_uint_gt(all, SORTED_STEP);
	ck_assert(ended);
	textbuf_deinit(&t);
	world_free(&w);
}
END_TEST

/* ---- out of memory ---- */

static void few_buffers(struct world *w)
{
	for (uint64_t i = 0; i < 300; i++)
		util_alloc_at(w->u, w->process[i % PROCESSES], (int)(i % DEVICES), BUFFER_DRAM, (i % 50) << 12, 4096,
			      (uint32_t)(i % PLACES), (uint32_t)(i / 3 % PLACES));
	ingest_exit(&w->u->in, w->process[7], w->u->now);
	errlog_add(&w->u->errlog, w->u->now, "something");
}

static int read_with(struct world *w, view_table table, long n, struct textbuf *t)
{
	struct view_cursor c = { 0 };
	int r;

	/* No assertion in between: libcheck needs memory, too. */
	allocations_left = n;
	while ((r = table(&w->view, &(struct view_key){ .process = w->process[1] }, &c, 500, t)) == 1)
		;
	view_table_end(&c);
	allocations_left = -1;
	return r;
}

/* With n allocations allowed the whole text or -ENOMEM; true when it is the text. */
static bool table_with(struct world *w, view_table table, long n, const struct textbuf *whole)
{
	struct textbuf t = TEXTBUF_INIT;
	int r = read_with(w, table, n, &t);

	if (!r)
		ck_assert(t.len == whole->len && !memcmp(t.data, whole->data, t.len));
	else
		ck_assert_int_eq(r, -ENOMEM);
	textbuf_deinit(&t);
	return !r;
}

static void check_table(struct world *w, view_table table)
{
	struct textbuf whole = TEXTBUF_INIT;
	long n = 0;

	ck_assert_int_eq(read_with(w, table, -1, &whole), 0);
	while (!table_with(w, table, n, &whole))
		ck_assert_int_lt(++n, 10000);
	ck_assert_int_gt(n, 0);
	textbuf_deinit(&whole);
}

START_TEST(tables_out_of_memory)
{
	static const view_table tables[] = { view_allocs,    view_device_allocs, view_process_allocs, view_suspects,
					     view_processes, view_trace,	 view_device_map,     view_dump,
					     view_sites,     view_process_sites };
	struct world w;

	world_init(&w, 0, 1);
	few_buffers(&w);
	for (size_t i = 0; i < sizeof(tables) / sizeof(tables[0]); i++)
		check_table(&w, tables[i]);
	world_free(&w);
}
END_TEST

/* Texts of many lengths, so that memory also runs out in their last lines. */
START_TEST(last_lines_out_of_memory)
{
	struct world w;

	world_init(&w, 0, 1);
	registry_device_declare(w.u->reg, 0, 1 << 30, 0, 0);
	for (uint64_t i = 0; i < 100; i++) {
		util_alloc(w.u, w.process[0], 0, BUFFER_DRAM, i << (12 + i % 3), 1);
		check_table(&w, view_device_map);
		check_table(&w, view_dump);
	}
	world_free(&w);
}
END_TEST

static bool text_with(struct world *w, view_text text, const struct view_key *key, long n)
{
	struct textbuf whole = TEXTBUF_INIT, t = TEXTBUF_INIT;
	bool good;
	int r;

	allocations_left = n;
	r = text(&w->view, key, &t);
	allocations_left = -1;
	ck_assert_int_eq(r, 0);
	good = !textbuf_error(&t);
	if (good) {
		ck_assert_int_eq(text(&w->view, key, &whole), 0);
		ck_assert(t.len == whole.len && !memcmp(t.data, whole.data, t.len));
	}
	textbuf_deinit(&whole);
	textbuf_deinit(&t);
	return good;
}

START_TEST(texts_out_of_memory)
{
	static const view_text texts[] = { view_readme,         view_version,     view_error_log,
					   view_summary,        view_stats,       view_device_summary,
					   view_device_info,    view_buffer,      view_leak,
					   view_process_status, view_site };
	struct view_key key = { .device = 0, .site = 1 };
	struct buffer b;
	struct world w;

	world_init(&w, 0, 1);
	few_buffers(&w);
	ck_assert_uint_eq(registry_own(w.u->reg, w.process[7], 1, 7 << 12, 1U << BUFFER_DRAM, &b), 1);
	key.slot = b.slot;
	key.process = w.process[7];
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		long n = 0;

		while (!text_with(&w, texts[i], &key, n))
			ck_assert_int_lt(++n, 1000);
		ck_assert_int_gt(n, 0);
	}
	world_free(&w);
}
END_TEST

/* Finding what a name stands for needs no memory. */
START_TEST(names_out_of_memory)
{
	struct textbuf name = TEXTBUF_INIT;
	struct buffer b;
	struct world w;
	uint32_t slot;
	int r;

	world_init(&w, 0, 1);
	few_buffers(&w);
	ck_assert_uint_eq(registry_own(w.u->reg, w.process[7], 1, 7 << 12, 1U << BUFFER_DRAM, &b), 1);
	view_leak_name(&w.view, &b, &name);
	textbuf_putc(&name, '\0');
	allocations_left = 0;
	r = view_leak_find(&w.view, name.data, &slot);
	allocations_left = -1;
	ck_assert_int_eq(r, 0);
	ck_assert_uint_eq(slot, b.slot);
	textbuf_deinit(&name);
	world_free(&w);
}
END_TEST

static Suite *view_tables_suite(void)
{
	Suite *s = suite_create("view-tables");
	TCase *tc;

	tc = tcase_create("pieces");
	tcase_set_timeout(tc, 240);
	tcase_add_loop_test(tc, pieces_under_churn, 0, 4);
	tcase_add_test(tc, suspects_under_churn);
	tcase_add_test(tc, process_slot_reused);
	tcase_add_test(tc, scanning_is_bounded);
	tcase_add_test(tc, trace_ends_while_events_come);
	tcase_add_test(tc, processes_in_pieces);
	tcase_add_test(tc, sites_in_pieces);
	tcase_add_test(tc, skipped_sites_are_steps);
	suite_add_tcase(s, tc);
	tc = tcase_create("sorted");
	tcase_set_timeout(tc, 240);
	tcase_add_loop_test(tc, sorted_order, 0, 8);
	tcase_add_test(tc, sorted_filters);
	tcase_add_test(tc, sorting_is_bounded);
	tcase_add_test(tc, sorted_owner_gone);
	suite_add_tcase(s, tc);
	tc = tcase_create("map");
	tcase_add_loop_test(tc, map_holes, 0, 100);
	tcase_add_test(tc, map_at_the_end_of_numbers);
	tcase_add_test(tc, map_of_types);
	suite_add_tcase(s, tc);
	tc = tcase_create("dump");
	tcase_set_timeout(tc, 240);
	tcase_add_test(tc, dump_under_churn);
	suite_add_tcase(s, tc);
	tc = tcase_create("memory");
	tcase_set_timeout(tc, 240);
	tcase_add_test(tc, tables_out_of_memory);
	tcase_add_test(tc, last_lines_out_of_memory);
	tcase_add_test(tc, texts_out_of_memory);
	tcase_add_test(tc, names_out_of_memory);
	suite_add_tcase(s, tc);
	return s;
}

int main(void)
{
	SRunner *runner = srunner_create(view_tables_suite());
	int failed;

	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
