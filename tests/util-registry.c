/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * util-registry.c - see util-registry.h.
 */
#include "tests/util-registry.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <uthash.h>

struct util *util_new(uint32_t max_buffers, uint32_t history_events, uint32_t history_per_buffer)
{
	struct util *u = calloc(1, sizeof(*u));

	ck_assert_ptr_nonnull(u);
	u->now = UTIL_NOW;
	u->config = (struct registry_config){
		.seed = 42,
		.max_buffers = max_buffers ? max_buffers : 4096,
		.history_events = history_events ? history_events : 4096,
		.history_per_buffer = history_per_buffer ? history_per_buffer : REGISTRY_HISTORY_PER_BUFFER_DEFAULT,
		.max_processes = 1000,
	};
	u->arena = mmap(NULL, registry_arena_size(&u->config), PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	ck_assert_ptr_ne(u->arena, MAP_FAILED);
	ck_assert_int_eq(registry_new(&u->reg, &u->config, u->arena), 0);
	ck_assert_int_eq(trace_init(&u->trace, 1024), 0);
	u->in = (struct ingest){ .registry = u->reg, .trace = &u->trace, .errlog = &u->errlog };
	return u;
}

void util_free(struct util *u)
{
	registry_free(u->reg);
	munmap(u->arena, registry_arena_size(&u->config));
	trace_deinit(&u->trace);
	free(u);
}

uint32_t util_process(struct util *u, int pid, uint32_t uid, const char *comm)
{
	const int32_t ancestors[] = { 9000, 1 };
	struct process_identity id = {
		.pid = pid,
		.uid = uid,
		.gid = uid,
		.start_ticks = (uint64_t)pid * 100,
		.started = UTIL_STARTED,
		.comm = comm,
		.exe = "/usr/bin/python3.11",
		.ancestors = ancestors,
		.ancestor_count = 2,
	};
	uint32_t slot;

	ck_assert_int_eq(registry_process_add(u->reg, &id, u->now, &slot), 0);
	ingest_connect(&u->in, slot, u->now);
	return slot;
}

void util_event(struct util *u, struct event e)
{
	ingest_events(&u->in, &e, 1, u->now);
}

uint32_t util_site(struct util *u, uint64_t offset)
{
	static const uint8_t build_id[] = { 0xab, 0xcd, 0x01 };
	uint32_t module = registry_module(u->reg, build_id, sizeof(build_id), "/usr/lib/liba.so", 16, 0);
	uint32_t site = registry_site(u->reg, TTALLOC_STACK_FRAME_POINTER, false,
				      &(struct site_frame){ .module = module, .offset = offset }, 1, 0);

	if (!site)
		ck_abort_msg("no room for a site");
	return site;
}

void util_alloc(struct util *u, uint32_t process, int device, unsigned type, uint64_t address, uint64_t size)
{
	util_alloc_at(u, process, device, type, address, size, 0, 0);
}

void util_alloc_at(struct util *u, uint32_t process, int device, unsigned type, uint64_t address, uint64_t size,
		   uint32_t site, uint32_t tag)
{
	static const uint8_t message[BUFFER_TYPES] = {
		[BUFFER_CB] = TTALLOC_MSG_CB_ALLOC,
		[BUFFER_KERNEL] = TTALLOC_MSG_KERNEL_LOAD,
	};

	util_event(u, (struct event){
		.type = message[type] ? message[type] : TTALLOC_MSG_ALLOC,
		.wire_type = (uint8_t)(message[type] ? 0 : type),
		.dialect = 144,
		.device = device,
		.process = process,
		.address = address,
		.size = size,
		.time = u->now,
		.site = site,
		.tag = tag,
	});
}

void util_release(struct util *u, uint32_t process, int device, uint64_t address)
{
	util_event(u, (struct event){
		.type = TTALLOC_MSG_FREE,
		.dialect = 144,
		.device = device,
		.process = process,
		.address = address,
	});
}

/* For what is asked a million times: libcheck writes to a file for every assertion that holds. */
#define must(expr) \
	do { \
		if (!(expr)) \
			ck_abort_msg("must be: %s", #expr); \
	} while (0)

struct sum {
	uint64_t count;
	uint64_t bytes;
};

static void check_sum(const struct totals *t, const struct sum *s)
{
	must(t->count == s->count);
	must(t->bytes == s->bytes);
	must(t->peak >= t->bytes);
}

/* What the live buffers of one account hold; of all processes together PROCESS_NONE. */
struct site_sum {
	uint64_t key;
	struct sum sum;
	bool seen;
	UT_hash_handle hh;
};

static uint64_t site_key(uint32_t process, uint32_t site, unsigned device, unsigned type)
{
	return (uint64_t)(uint16_t)process << 48 | (uint64_t)site << 16 | device << 3 | type;
}

static void site_sum_add(struct site_sum **sums, uint32_t process, const struct buffer *b)
{
	uint64_t key = site_key(process, b->site, b->device, b->type);
	struct site_sum *s;

	if (!b->site)
		return;
	HASH_FIND(hh, *sums, &key, sizeof(key), s);
	if (!s) {
		s = calloc(1, sizeof(*s));
		must(s);
		s->key = key;
		HASH_ADD(hh, *sums, key, sizeof(s->key), s);
	}
	s->sum.count++;
	s->sum.bytes += b->size;
}

static void check_accounts(struct util *u, struct site_sum *sums, uint32_t process)
{
	static const struct sum nothing;
	struct account_info a;
	uint32_t pos = 0;

	while (registry_account_next(u->reg, process, &pos, &a)) {
		uint64_t key = site_key(process, a.site, a.device, a.type);
		struct site_sum *s;

		HASH_FIND(hh, sums, &key, sizeof(key), s);
		check_sum(&a.totals, s ? &s->sum : &nothing);
		must(a.totals.allocs >= a.totals.count + a.totals.frees);
		if (s) {
			must(!s->seen);
			s->seen = true;
		}
	}
}

static void site_sums_end(struct site_sum *sums)
{
	struct site_sum *s, *next;

	HASH_ITER(hh, sums, s, next) {
		must(s->seen);
		HASH_DEL(sums, s);
		free(s);
	}
}

void util_check_totals(struct util *u)
{
	struct site_sum *sites = NULL;
	static struct sum device[DEVICE_MAX][BUFFER_TYPES + 1];
	static struct sum process[1000][BUFFER_TYPES + 1];
	struct sum all = { 0 };
	uint64_t pos = 0, suspects = 0;
	unsigned budget = UINT32_MAX;
	struct buffer b;

	memset(device, 0, sizeof(device));
	memset(process, 0, sizeof(process));
	while (registry_next(u->reg, &BUFFER_FILTER_ALL, &pos, &budget, &b) == 1) {
		struct sum *sums[] = { &device[b.device][b.type], &device[b.device][BUFFER_TYPES],
				       &process[b.process][b.type], &process[b.process][BUFFER_TYPES], &all };
		for (int i = 0; i < 5; i++) {
			sums[i]->count++;
			sums[i]->bytes += b.size;
		}
		site_sum_add(&sites, b.process, &b);
		site_sum_add(&sites, PROCESS_NONE, &b);
		suspects += registry_process(u->reg, b.process)->ended &&
			    !registry_process(u->reg, b.process)->dismissed;
	}
	struct totals total = registry_totals(u->reg);
	check_sum(&total, &all);
	ck_assert_uint_eq(registry_suspects(u->reg), suspects);
	for (int d = -1; (d = registry_device_next(u->reg, (unsigned)(d + 1))) >= 0;) {
		for (int type = 0; type < BUFFER_TYPES; type++)
			check_sum(&registry_device(u->reg, (unsigned)d)->type[type], &device[d][type]);
		check_sum(&registry_device(u->reg, (unsigned)d)->total, &device[d][BUFFER_TYPES]);
	}
	for (uint32_t p = 0; (p = registry_process_next(u->reg, p)) != PROCESS_NONE; p++) {
		for (int type = 0; type < BUFFER_TYPES; type++)
			check_sum(&registry_process(u->reg, p)->type[type], &process[p][type]);
		check_sum(&registry_process(u->reg, p)->total, &process[p][BUFFER_TYPES]);
		check_accounts(u, sites, p);
	}
	check_accounts(u, sites, PROCESS_NONE);
	site_sums_end(sites);
}
