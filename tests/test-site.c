/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * test-site.c - definitions of modules, sites and tags, and their bounds; the totals of sites against a simple model.
 */
#include <check.h>
#include <inttypes.h>
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

static uint64_t definitions_lost(void)
{
	return registry_counters(u->reg)->definitions_lost;
}

/* ---- definitions ---- */

static const uint8_t build_id[] = { 0xab, 0xcd, 0x01 };

static uint32_t module(size_t build_id_len, const char *path)
{
	return registry_module(u->reg, build_id, build_id_len, path, strlen(path), 0);
}

START_TEST(modules_are_interned_by_content)
{
	struct module_info m;
	uint32_t a = module(3, "/usr/lib/liba.so");

	ck_assert_uint_eq(a, 1);
	ck_assert_uint_eq(module(3, "/usr/lib/liba.so"), a);
	uint32_t elsewhere = module(3, "/opt/liba.so"), other = module(2, "/usr/lib/liba.so"), path = module(0, "/opt/b"),
		 nameless = module(3, "");
	ck_assert_uint_eq(elsewhere, 2);
	ck_assert_uint_eq(other, 3);
	ck_assert_uint_eq(path, 4);
	ck_assert_uint_eq(nameless, 5);
	ck_assert_uint_eq(registry_module(u->reg, NULL, 0, NULL, 0, 0), 0);
	ck_assert_uint_eq(registry_module(u->reg, build_id, 3, "/opt/liba.so\0x", 14, 7), elsewhere);
	ck_assert_uint_eq(registry_modules(u->reg), 5);

	ck_assert(registry_module_get(u->reg, other, &m));
	ck_assert_uint_eq(m.build_id_len, 2);
	ck_assert_int_eq(memcmp(m.build_id, build_id, 2), 0);
	ck_assert_str_eq(m.path, "/usr/lib/liba.so");
	ck_assert(registry_module_get(u->reg, nameless, &m));
	ck_assert_str_eq(m.path, "");
	ck_assert(registry_module_get(u->reg, path, &m));
	ck_assert_uint_eq(m.build_id_len, 0);
	ck_assert(!registry_module_get(u->reg, 0, &m));
	ck_assert(!registry_module_get(u->reg, 6, &m));
	ck_assert(!registry_module_get(u->reg, UINT32_MAX, &m));
	ck_assert_uint_eq(definitions_lost(), 0);
}
END_TEST

START_TEST(sites_are_interned_by_content)
{
	uint32_t a = module(3, "/usr/lib/liba.so"), copy = module(3, "/opt/liba.so"), b = module(0, "/opt/my app");
	struct site_frame frames[] = { { a, 0x1234 }, { b, 0x10 }, { 0, 0x7fff00001234 } };
	struct site_info s;

	uint32_t site = registry_site(u->reg, TTALLOC_STACK_FRAME_POINTER, true, frames, 3, 0);
	ck_assert_uint_eq(site, 1);
	ck_assert(registry_site_get(u->reg, site, &s));
	/* Computed by another program, as the header says it: the same number in every run, on every machine. */
	ck_assert_uint_eq(s.hash, UINT64_C(0x5dca27bd600b0dc9));
	ck_assert_uint_eq(s.n, 3);
	ck_assert_uint_eq(s.method, TTALLOC_STACK_FRAME_POINTER);
	ck_assert(s.truncated);
	ck_assert_uint_eq(s.frames[1].module, b);
	ck_assert_uint_eq(s.frames[1].offset, 0x10);
	ck_assert_uint_eq(s.frames[2].module, 0);
	ck_assert_uint_eq(registry_site_find(u->reg, UINT64_C(0x5dca27bd600b0dc9)), site);
	ck_assert_uint_eq(registry_site_find(u->reg, UINT64_C(0x5dca27bd600b0dca)), 0);

	/* Neither the way it was found nor the place of the same binary is part of it. */
	ck_assert_uint_eq(registry_site(u->reg, TTALLOC_STACK_RETURN_ADDRESS, false, frames, 3, 0), site);
	frames[0].module = copy;
	ck_assert_uint_eq(registry_site(u->reg, TTALLOC_STACK_FRAME_POINTER, true, frames, 3, 0), site);
	ck_assert_uint_eq(registry_site(u->reg, TTALLOC_STACK_FRAME_POINTER, true, frames, 2, 0), 2);
	frames[1].offset++;
	ck_assert_uint_eq(registry_site(u->reg, TTALLOC_STACK_FRAME_POINTER, true, frames, 3, 0), 3);
	/* A module that nobody has defined is none. */
	frames[1].module = 99;
	ck_assert_uint_eq(registry_site(u->reg, TTALLOC_STACK_RETURN_ADDRESS, false, &frames[1], 1, 0), 4);
	ck_assert(registry_site_get(u->reg, 4, &s));
	ck_assert_uint_eq(s.frames[0].module, 0);
	ck_assert(!s.truncated);
	ck_assert_uint_eq(s.method, TTALLOC_STACK_RETURN_ADDRESS);
	ck_assert_uint_eq(registry_sites(u->reg), 4);

	ck_assert_uint_eq(registry_site(u->reg, 1, false, frames, 0, 0), 0);
	ck_assert_uint_eq(registry_site(u->reg, 1, false, frames, TTALLOC_FRAMES_MAX + 1, 0), 0);
	ck_assert(!registry_site_get(u->reg, 0, &s));
	ck_assert(!registry_site_get(u->reg, 5, &s));
	ck_assert_uint_eq(s.n, 0);
	ck_assert_uint_eq(definitions_lost(), 0);
}
END_TEST

START_TEST(tags_are_interned_by_content)
{
	char longest[300];
	uint32_t a = registry_tag(u->reg, "layer0/attn", 11, 0);

	memset(longest, 'x', sizeof(longest));
	ck_assert_uint_eq(a, 1);
	ck_assert_uint_eq(registry_tag(u->reg, "layer0/attn/x", 11, 7), a);
	ck_assert_uint_eq(registry_tag(u->reg, "layer0/att", 10, 0), 2);
	ck_assert_uint_eq(registry_tag(u->reg, "layer0\0/x", 9, 0), 3);
	ck_assert_uint_eq(registry_tag(u->reg, "", 0, 0), 0);
	ck_assert_uint_eq(registry_tag(u->reg, longest, sizeof(longest), 0), 4);
	ck_assert_uint_eq(registry_tag(u->reg, longest, 255, 0), 4);
	ck_assert_str_eq(registry_tag_text(u->reg, 1), "layer0/attn");
	ck_assert_str_eq(registry_tag_text(u->reg, 2), "layer0/att");
	ck_assert_str_eq(registry_tag_text(u->reg, 3), "layer0");
	ck_assert_uint_eq(strlen(registry_tag_text(u->reg, 4)), 255);
	ck_assert_ptr_null(registry_tag_text(u->reg, 0));
	ck_assert_ptr_null(registry_tag_text(u->reg, 5));
	ck_assert_uint_eq(registry_tags(u->reg), 4);
	ck_assert_uint_eq(definitions_lost(), 0);
}
END_TEST

typedef uint32_t (*define_nth)(uint32_t i, uint32_t uid);

static uint32_t nth_module(uint32_t i, uint32_t uid)
{
	char path[32];
	int len = snprintf(path, sizeof(path), "/m/%u", i);

	return registry_module(u->reg, NULL, 0, path, (size_t)len, uid);
}

static uint32_t nth_site(uint32_t i, uint32_t uid)
{
	return registry_site(u->reg, 1, false, &(struct site_frame){ .offset = i }, 1, uid);
}

static uint32_t nth_deep_site(uint32_t i, uint32_t uid)
{
	struct site_frame frames[TTALLOC_FRAMES_MAX] = { { .offset = i } };

	return registry_site(u->reg, 1, false, frames, TTALLOC_FRAMES_MAX, uid);
}

static uint32_t nth_tag(uint32_t i, uint32_t uid)
{
	char text[32];

	return registry_tag(u->reg, text, (size_t)snprintf(text, sizeof(text), "t%u", i), uid);
}

static uint32_t nth_long_tag(uint32_t i, uint32_t uid)
{
	char text[256];

	return registry_tag(u->reg, text, (size_t)snprintf(text, sizeof(text), "%0255u", i), uid);
}

static uint32_t nth_long_module(uint32_t i, uint32_t uid)
{
	char path[4001];

	return registry_module(u->reg, NULL, 0, path, (size_t)snprintf(path, sizeof(path), "%04000u", i), uid);
}

/* Each table, and each pool behind one; the numbers are how many fit. */
static const struct {
	define_nth define;
	uint32_t all;
} tables[] = {
	{ nth_module, 16383 },
	{ nth_long_module, (8 << 20) / 4001 },
	{ nth_site, 262143 },
	{ nth_deep_site, (1 << 22) / 64 },
	{ nth_tag, 65535 },
	{ nth_long_tag, (8 << 20) / 256 },
};
#define TABLES (int)(sizeof(tables) / sizeof(tables[0]))

/* Defines what nobody has defined yet until there is no room. */
static uint32_t define_all(define_nth define, uint32_t uid)
{
	uint32_t n = 0;

	while (define(uid + n + 1, uid))
		n++;
	return n;
}

START_TEST(a_user_gets_half_of_each_table)
{
	define_nth define = tables[_i].define;
	uint32_t all = tables[_i].all;

	ck_assert_uint_eq(define_all(define, 1000000), all / 2);
	ck_assert_uint_eq(definitions_lost(), 1);
	ck_assert_uint_ne(define(1000000 + all / 2, 1000000), 0);  /* what is there can be defined again */
	ck_assert_uint_ne(define(1000000 + 1, 2000000), 0);  /* by anybody, and it is not the other's share */
	ck_assert_uint_eq(define_all(define, 2000000), all / 2);
	ck_assert_uint_eq(definitions_lost(), 2);
}
END_TEST

START_TEST(root_gets_all_of_each_table)
{
	ck_assert_uint_eq(define_all(tables[_i].define, 0), tables[_i].all);
	ck_assert_uint_eq(definitions_lost(), 1);
	ck_assert_uint_eq(tables[_i].define(3000000, 1000), 0);
	ck_assert_uint_eq(definitions_lost(), 2);
}
END_TEST

/* ---- buffers ---- */

static struct buffer buffer_of(uint32_t process, uint64_t address)
{
	struct buffer b;

	ck_assert_uint_eq(registry_own(u->reg, process, 0, address, 1U << BUFFER_DRAM, &b), 1);
	return b;
}

START_TEST(a_buffer_keeps_its_first_site_and_tag)
{
	uint32_t p = util_process(u, 1, 0, "p"), first = util_site(u, 1), second = util_site(u, 2);
	uint32_t tag = registry_tag(u->reg, "t", 1, 0), other = registry_tag(u->reg, "o", 1, 0);

	util_alloc_at(u, p, 0, BUFFER_DRAM, 0x1000, 64, first, tag);
	util_alloc_at(u, p, 0, BUFFER_DRAM, 0x1000, 64, second, other);
	util_alloc_at(u, p, 0, BUFFER_DRAM, 0x1000, 100, second, other);
	util_alloc_at(u, p, 0, BUFFER_DRAM, 0x2000, 7, 0, other);
	ck_assert_uint_eq(buffer_of(p, 0x1000).site, first);
	ck_assert_uint_eq(buffer_of(p, 0x1000).tag, tag);
	ck_assert_uint_eq(buffer_of(p, 0x1000).size, 100);
	ck_assert_uint_eq(buffer_of(p, 0x2000).site, 0);
	ck_assert_uint_eq(buffer_of(p, 0x2000).tag, other);

	struct account_info a;
	uint32_t pos = 0;
	ck_assert(registry_account_next(u->reg, p, &pos, &a));
	ck_assert_uint_eq(a.site, first);
	ck_assert_uint_eq(a.totals.bytes, 100);
	ck_assert(!registry_account_next(u->reg, p, &pos, &a));
}
END_TEST

/* ---- totals of sites against a model ---- */

#define PROCESSES 4
#define DEVICES 3
#define SITES 5  /* 0 = none */
#define TYPES 2
#define PLACES 6
#define ACCOUNTS (DEVICES * TYPES * SITES)

static const uint8_t types[TYPES] = { BUFFER_DRAM, BUFFER_CB };

struct model_buffer {
	uint64_t size;
	uint32_t refs;
	uint32_t site;
};

struct model {
	uint32_t slot[PROCESSES];
	int32_t pid[PROCESSES];
	struct model_buffer buffer[PROCESSES][DEVICES][TYPES][PLACES];
	struct totals totals[PROCESSES + 1][ACCOUNTS];  /* the last: over all processes */
};

static unsigned account(int device, int type, uint32_t site)
{
	return (unsigned)(device * TYPES + type) * SITES + site;
}

static uint64_t state;

static unsigned random_below(unsigned n)
{
	state = state * UINT64_C(6364136223846793005) + 1442695040888963407;
	return (unsigned)((state >> 33) % n);
}

static void model_book(struct model *m, int p, int d, int t, const struct model_buffer *b, int count, uint64_t size,
		       bool freed)
{
	for (int who = p; b->site; who = PROCESSES) {
		struct totals *totals = &m->totals[who][account(d, t, b->site)];
		totals->count += (uint64_t)(int64_t)count;
		totals->bytes += size;
		totals->peak = totals->peak > totals->bytes ? totals->peak : totals->bytes;
		totals->allocs += count > 0;
		totals->frees += freed;
		if (who == PROCESSES)
			return;
	}
}

static void random_alloc(struct model *m, int p, int d, int t, unsigned place)
{
	struct model_buffer *b = &m->buffer[p][d][t][place];
	uint32_t site = random_below(SITES);
	uint64_t size = 1 + random_below(3);

	util_alloc_at(u, m->slot[p], d, types[t], place << 12, size, site, site);
	if (b->refs) {
		model_book(m, p, d, t, b, 0, size - b->size, false);
	} else {
		b->site = site;
		model_book(m, p, d, t, b, 1, size, false);
	}
	b->size = size;
	b->refs++;
}

static void random_free(struct model *m, int p, int d, int t, unsigned place)
{
	struct model_buffer *b = &m->buffer[p][d][t][place];

	if (!b->refs)
		return;
	util_event(u, (struct event){ .type = types[t] == BUFFER_CB ? TTALLOC_MSG_CB_FREE : TTALLOC_MSG_FREE,
				      .dialect = 144, .device = d, .process = m->slot[p], .address = place << 12 });
	if (--b->refs)
		return;
	model_book(m, p, d, t, b, -1, -b->size, true);
}

/* Forgets the buffers of a process, of a device (-1 = any). */
static void model_forget(struct model *m, int process, int device)
{
	for (int p = 0; p < PROCESSES; p++)
		for (int d = 0; d < DEVICES; d++)
			for (int t = 0; t < TYPES; t++)
				for (int i = 0; i < PLACES; i++) {
					struct model_buffer *b = &m->buffer[p][d][t][i];
					if ((process >= 0 && p != process) || (device >= 0 && d != device) || !b->refs)
						continue;
					model_book(m, p, d, t, b, -1, -b->size, false);
					b->refs = 0;
				}
}

static void clean(struct model *m, int p)
{
	uint64_t pos = 0, removed = 0;

	while (registry_clean_step(u->reg, m->slot[p], &pos, 1, &removed))
		;
	model_forget(m, p, -1);
}

/* The process ends, and another one begins in its place. */
static void replace(struct model *m, int p)
{
	clean(m, p);
	registry_process_disconnect(u->reg, m->slot[p]);
	ingest_exit(&u->in, m->slot[p], u->now);
	m->pid[p] += PROCESSES;
	m->slot[p] = util_process(u, m->pid[p], 0, "p");
	memset(m->totals[p], 0, sizeof(m->totals[p]));
}

static void reset_device(struct model *m, int d)
{
	uint64_t pos = 0, removed = 0;

	while (registry_reset_device_step(u->reg, (unsigned)d, &pos, 1, &removed))
		;
	model_forget(m, -1, d);
	for (int p = 0; p <= PROCESSES; p++)
		memset(&m->totals[p][account(d, 0, 0)], 0, TYPES * SITES * sizeof(m->totals[p][0]));
}

static void reset_peaks(struct model *m)
{
	registry_reset_peaks(u->reg);
	for (int p = 0; p <= PROCESSES; p++)
		for (unsigned i = 0; i < ACCOUNTS; i++)
			m->totals[p][i].peak = m->totals[p][i].bytes;
}

static void reset(struct model *m)
{
	registry_reset(u->reg);
	memset(m->buffer, 0, sizeof(m->buffer));
	memset(m->totals, 0, sizeof(m->totals));
}

static void compare_accounts(const struct model *m, int p)
{
	struct totals left[ACCOUNTS];
	struct account_info a;
	uint32_t pos = 0;

	memcpy(left, m->totals[p], sizeof(left));
	while (registry_account_next(u->reg, p == PROCESSES ? PROCESS_NONE : m->slot[p], &pos, &a)) {
		struct totals *want = &left[account(a.device, a.type == BUFFER_CB, a.site)];
		if (memcmp(&a.totals, want, sizeof(*want)) != 0)
			ck_abort_msg("site %u device %u type %u: count %d bytes %d peak %d allocs %d frees %d", a.site,
				     a.device, a.type, (int)a.totals.count, (int)a.totals.bytes, (int)a.totals.peak,
				     (int)a.totals.allocs, (int)a.totals.frees);
		*want = (struct totals){ 0 };
	}
	/* What is not listed has never had a buffer. */
	for (unsigned i = 0; i < ACCOUNTS; i++)
		if (left[i].count || left[i].allocs || left[i].peak)
			ck_abort_msg("account %u is missing", i);
}

START_TEST(totals_of_sites_are_exact)
{
	static struct model m;

	memset(&m, 0, sizeof(m));
	state = 20 + (uint64_t)_i;
	for (uint32_t i = 1; i < SITES; i++) {
		ck_assert_uint_eq(util_site(u, i), i);
		ck_assert_uint_eq(nth_tag(i, 0), i);
	}
	for (int p = 0; p < PROCESSES; p++) {
		m.pid[p] = 1 + p;
		m.slot[p] = util_process(u, m.pid[p], 0, "p");
	}
	for (int i = 0; i < 30000; i++) {
		int p = (int)random_below(PROCESSES), d = (int)random_below(DEVICES), t = (int)random_below(TYPES);
		unsigned what = random_below(1000), place = random_below(PLACES);

		if (what < 500)
			random_alloc(&m, p, d, t, place);
		else if (what < 990)
			random_free(&m, p, d, t, place);
		else if (what < 993)
			clean(&m, p);
		else if (what < 995)
			replace(&m, p);
		else if (what < 997)
			reset_device(&m, d);
		else if (what < 999)
			reset_peaks(&m);
		else if (random_below(4) == 0)
			reset(&m);
		if (i % 50 == 0 || what >= 990)
			for (int q = 0; q <= PROCESSES; q++)
				compare_accounts(&m, q);
		if (what >= 990)
			util_check_totals(u);
	}
	ck_assert_uint_eq(registry_sites(u->reg), SITES - 1);
	ck_assert_uint_eq(registry_tags(u->reg), SITES - 1);
}
END_TEST

/* Numbers of sites have more than 16 bits, wherever they are kept. */
START_TEST(the_last_site_is_told_everywhere)
{
	uint32_t p = util_process(u, 1, 0, "p"), site = util_site(u, 1), found, pos = 0;
	struct textbuf text = { 0 };
	struct site_info info;
	struct account_info a;
	uint64_t at = 0;
	char hash[32];

	while ((found = registry_site(u->reg, 1, false, &(struct site_frame){ .offset = site }, 1, 0)) != 0)
		site = found;
	ck_assert_uint_eq(site, 262143);
	ck_assert(registry_site_get(u->reg, site, &info));
	snprintf(hash, sizeof(hash), " %016" PRIx64 "\n", info.hash);
	util_alloc_at(u, p, 0, BUFFER_DRAM, 0x1000, 64, site, 0);
	ck_assert_uint_eq(buffer_of(p, 0x1000).site, site);
	ck_assert(registry_account_next(u->reg, p, &pos, &a));
	ck_assert_uint_eq(a.site, site);
	trace_read(&u->trace, u->reg, &at, u->now, 1 << 16, &text);
	textbuf_putc(&text, '\0');
	ck_assert_ptr_nonnull(strstr(text.data, "alloc "));
	ck_assert_ptr_nonnull(strstr(text.data, hash));
	textbuf_deinit(&text);
}
END_TEST

START_TEST(a_foreign_free_is_the_owners)
{
	uint32_t a = util_process(u, 1, 7, "a"), b = util_process(u, 2, 7, "b"), site = util_site(u, 1);
	struct account_info info;
	uint32_t pos = 0;

	util_alloc_at(u, a, 0, BUFFER_DRAM, 0x1000, 64, site, 0);
	util_release(u, b, 0, 0x1000);
	ck_assert(registry_account_next(u->reg, a, &pos, &info));
	ck_assert_uint_eq(info.totals.frees, 1);
	ck_assert_uint_eq(info.totals.bytes, 0);
	pos = 0;
	ck_assert(!registry_account_next(u->reg, b, &pos, &info));
	ck_assert(registry_account_next(u->reg, PROCESS_NONE, &pos, &info));
	ck_assert_uint_eq(info.totals.frees, 1);
	ck_assert_uint_eq(info.totals.peak, 64);
}
END_TEST

/* Holds one buffer from each of `n` sites on each of 1024 devices, and of each type that one wants. */
static void fill(uint32_t process, unsigned n, unsigned types_of_it)
{
	for (unsigned type = 0; type < types_of_it; type++)
		for (unsigned d = 0; d < DEVICE_MAX; d++)
			for (unsigned i = 0; i < n; i++)
				util_alloc_at(u, process, (int)d, type, i << 12, 1, util_site(u, i), 0);
}

static uint32_t accounts_of(uint32_t process)
{
	struct account_info a;
	uint32_t pos = 0, n = 0;

	while (registry_account_next(u->reg, process, &pos, &a))
		n++;
	return n;
}

START_TEST(accounts_are_bounded)
{
	util_free(u);
	u = util_new(1 << 19, 0, 0);
	uint32_t user = util_process(u, 1, 1000, "user"), root = util_process(u, 2, 0, "root");

	fill(user, 65, 2);
	ck_assert_uint_eq(accounts_of(user), 131071);
	ck_assert_uint_eq(definitions_lost(), 65 * 1024 * 2 - 131071);
	ck_assert_uint_eq(registry_totals(u->reg).count, 65 * 1024 * 2);
	fill(root, 65, 3);
	ck_assert_uint_eq(accounts_of(root), 131072);
	ck_assert_uint_eq(definitions_lost(), 65 * 1024 * 5 - 262143);
	/* A buffer without a site is as good as any other. */
	struct buffer b;
	ck_assert_uint_eq(registry_own(u->reg, root, 1023, 64 << 12, 1U << 2, &b), 1);
	ck_assert_uint_eq(b.site, 0);
	util_check_totals(u);
	/* What ended and holds nothing gives way when accounts are scarce, though it is still listed. */
	uint64_t pos = 0, removed = 0;
	uint32_t at = 0;
	struct account_info a;
	ck_assert(registry_account_next(u->reg, user, &at, &a));
	ck_assert(registry_account_next(u->reg, user, &at, &a));
	registry_process_disconnect(u->reg, user);
	ingest_exit(&u->in, user, u->now);
	ck_assert_uint_eq(accounts_of(user), 131071);
	while (registry_clean_step(u->reg, user, &pos, 1000, &removed))
		;
	ck_assert_uint_eq(accounts_of(user), 0);
	ck_assert(!registry_account_next(u->reg, user, &at, &a));
	ck_assert_ptr_nonnull(registry_process(u->reg, user));
	uint64_t lost = definitions_lost();
	util_alloc_at(u, util_process(u, 3, 1000, "next"), 0, BUFFER_DRAM, 1 << 12, 1, util_site(u, 1), 0);
	ck_assert_uint_eq(definitions_lost(), lost);
}
END_TEST

/* Processes that are forgotten give their accounts back: of 6000, the 999 that are still known keep theirs. */
START_TEST(accounts_go_with_their_process)
{
	util_free(u);
	u = util_new(1 << 18, 0, 0);
	for (int i = 0; i < 6000; i++) {
		uint32_t p = util_process(u, 100 + i, 1000, "short");
		for (uint64_t k = 0; k < 10; k++) {
			util_alloc_at(u, p, 0, BUFFER_DRAM, k << 12, 1, util_site(u, k), 0);
			util_release(u, p, 0, k << 12);
		}
		ck_assert_uint_eq(accounts_of(p), 10);
		registry_process_disconnect(u->reg, p);
		ingest_exit(&u->in, p, u->now);
	}
	uint32_t user = util_process(u, 1, 1000, "user");
	fill(user, 65, 2);
	ck_assert_uint_eq(accounts_of(user), 131071 - 999 * 10);
	struct account_info a;
	ck_assert(registry_account_next(u->reg, PROCESS_NONE, &(uint32_t){ 0 }, &a));
	ck_assert_uint_eq(a.totals.allocs, 6001);
	ck_assert_uint_eq(a.totals.frees, 6000);
}
END_TEST

START_TEST(a_listing_ends_with_its_process)
{
	uint32_t p = util_process(u, 1, 0, "p"), pos = 0, sums = 0;
	struct account_info a;

	for (uint64_t i = 1; i <= 3; i++)
		util_alloc_at(u, p, 0, BUFFER_DRAM, i << 12, i, util_site(u, i), 0);
	ck_assert(registry_account_next(u->reg, p, &pos, &a));
	ck_assert_uint_eq(a.totals.bytes, 1);
	ck_assert(registry_account_next(u->reg, PROCESS_NONE, &sums, &a));
	registry_reset(u->reg);
	ck_assert(!registry_account_next(u->reg, p, &pos, &a));
	ck_assert(!registry_account_next(u->reg, PROCESS_NONE, &sums, &a));
	ck_assert_uint_eq(registry_sites(u->reg), 3);
	ck_assert_uint_eq(definitions_lost(), 0);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("site");
	TCase *t = tcase_create("site");
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_set_timeout(t, 120);
	tcase_add_test(t, modules_are_interned_by_content);
	tcase_add_test(t, sites_are_interned_by_content);
	tcase_add_test(t, tags_are_interned_by_content);
	tcase_add_loop_test(t, a_user_gets_half_of_each_table, 0, TABLES);
	tcase_add_loop_test(t, root_gets_all_of_each_table, 0, TABLES);
	tcase_add_test(t, a_buffer_keeps_its_first_site_and_tag);
	tcase_add_loop_test(t, totals_of_sites_are_exact, 0, 3);
	tcase_add_test(t, the_last_site_is_told_everywhere);
	tcase_add_test(t, a_foreign_free_is_the_owners);
	tcase_add_test(t, accounts_are_bounded);
	tcase_add_test(t, accounts_go_with_their_process);
	tcase_add_test(t, a_listing_ends_with_its_process);
	suite_add_tcase(s, t);
	SRunner *r = srunner_create(s);
	srunner_run_all(r, CK_NORMAL);
	int failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
