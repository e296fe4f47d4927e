/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * fuzz-ring.c - the server's end of a ring against a client that writes anything into the memory. The input is a script
 * of writes and drains. Checked: nothing crashes, a ring that was broken stays silent, another client's ring is not
 * touched, and totals equal the sum of the live buffers.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tracker/ring.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define SCRIPT_MAX 8192
#define LANES 4         /* that scripts write to */
#define RECORDS 4096    /* positions that scripts use; some segments */
#define REQUIRE(condition) require(condition, #condition, __LINE__)

static void require(bool condition, const char *text, int line)
{
	if (condition)
		return;
	fprintf(stderr, "fuzz-ring.c:%d: not true: %s\n", line, text);
	abort();
}

struct world {
	struct registry_config config;
	void *arena;
	struct registry *registry;
	struct trace trace;
	struct errlog errlog;
	struct ingest ingest;
	struct server_info info;
	struct loop *loop;
	struct ring_set rings;
	struct ring *fuzzed;
	struct ring *honest;
	struct ttalloc_ring *memory;
	struct ttalloc_ring *honest_memory;
	unsigned breaks;
};

struct script {
	const uint8_t *at;
	const uint8_t *end;
};

static uint8_t next(struct script *s)
{
	return s->at < s->end ? *s->at++ : 0;
}

static uint32_t next_position(struct script *s)
{
	uint32_t low = next(s);

	return (low | (uint32_t)next(s) << 8) % RECORDS;
}

static void on_broken(void *data, const char *why)
{
	struct world *w = data;

	w->breaks++;
	REQUIRE(why[0] != '\0');
}

static struct ring *new_ring(struct world *w, int pid, struct ttalloc_ring **memory)
{
	struct process_identity id = { .pid = pid, .uid = (uint32_t)pid, .comm = "fuzz" };
	struct ring_owner owner = { .broken = on_broken, .data = w };
	struct ring *r;

	REQUIRE(registry_process_add(w->registry, &id, 1, &owner.process) == 0);
	REQUIRE(ring_new(&r, &w->rings, &owner) == 0);
	*memory = mmap(NULL, TTALLOC_RING_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, ring_memory_fd(r), 0);
	REQUIRE(*memory != MAP_FAILED);
	return r;
}

static void world_open(struct world *w)
{
	*w = (struct world){ .config = {
		.seed = 1, .max_buffers = 4096, .history_events = 4096, .history_per_buffer = 8, .max_processes = 8,
	} };
	w->arena = mmap(NULL, registry_arena_size(&w->config), PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	REQUIRE(w->arena != MAP_FAILED);
	REQUIRE(registry_new(&w->registry, &w->config, w->arena) == 0);
	REQUIRE(trace_init(&w->trace, 1024) == 0);
	w->ingest = (struct ingest){ .registry = w->registry, .trace = &w->trace, .errlog = &w->errlog };
	REQUIRE(loop_new(&w->loop) == 0);
	w->rings = (struct ring_set){ .loop = w->loop, .ingest = &w->ingest, .info = &w->info };
	REQUIRE(ring_set_init(&w->rings) == 0);
	w->fuzzed = new_ring(w, 10, &w->memory);
	w->honest = new_ring(w, 20, &w->honest_memory);
}

static void world_close(struct world *w)
{
	ring_free(w->fuzzed);
	ring_free(w->honest);
	munmap(w->memory, TTALLOC_RING_SIZE);
	munmap(w->honest_memory, TTALLOC_RING_SIZE);
	ring_set_deinit(&w->rings);
	loop_free(w->loop);
	registry_free(w->registry);
	munmap(w->arena, registry_arena_size(&w->config));
	trace_deinit(&w->trace);
}

static struct ttalloc_lane *lane_of(struct ttalloc_ring *ring, unsigned i)
{
	return (struct ttalloc_lane *)(void *)((char *)ring + TTALLOC_LANE_OFFSET(i));
}

/* The record at a position, in the segment that order[] names, as far as that is one. */
static struct ttalloc_record *record_at(struct ttalloc_lane *l, uint32_t position)
{
	uint16_t segment = l->order[position / TTALLOC_SEGMENT_RECORDS % TTALLOC_SEGMENTS];

	return &l->segment[segment % TTALLOC_SEGMENTS][position % TTALLOC_SEGMENT_RECORDS];
}

/* A record whose first bytes are the script's; `good`: with what every record needs, so that the rest is reached. */
static void write_record(struct ttalloc_lane *l, uint32_t position, bool good, struct script *s)
{
	struct ttalloc_record r = { .kind = next(s), .seq = position };
	uint8_t bytes[sizeof(r.more)] = { 0 };
	unsigned n = next(s) % sizeof(bytes);

	for (unsigned i = 0; i < n; i++)
		bytes[i] = next(s);
	memcpy(r.more, bytes, sizeof(bytes));
	r.stamp = next(s);
	if (!good)
		r.seq = next(s);
	*record_at(l, position) = r;
}

enum step {
	STEP_RECORD,
	STEP_BAD_RECORD,
	STEP_APPEND,
	STEP_TAIL,
	STEP_ORDER,
	STEP_LANES,
	STEP_DRAIN,
	STEP_OTHER,
};

static void do_step(struct world *w, struct script *s)
{
	uint8_t byte = next(s);
	struct ttalloc_lane *l = lane_of(w->memory, byte & (LANES - 1));

	switch ((enum step)(byte >> 2 & 7)) {
	case STEP_RECORD:
		write_record(l, next_position(s), true, s);
		break;
	case STEP_BAD_RECORD:
		write_record(l, next_position(s), false, s);
		break;
	case STEP_APPEND:
		write_record(l, (uint32_t)l->tail % RECORDS, true, s);
		l->tail++;
		break;
	case STEP_TAIL:
		l->tail = byte & 0x80 ? UINT64_MAX - next(s) : next_position(s);
		break;
	case STEP_ORDER:
		l->order[next(s)] = (uint16_t)(byte & 0x80 ? next(s) << 8 : next(s) % 4);
		break;
	case STEP_LANES:
		w->memory->lanes = byte & 0x80 ? next(s) : LANES;
		break;
	case STEP_DRAIN:
		ring_set_drain(&w->rings);
		break;
	case STEP_OTHER:
		l->dropped = next(s);
		l->head = next(s);
		l->freed_count = next(s);
		l->freed[next(s)] = next(s);
		w->memory->attention = next(s);
		break;
	}
}

static void check_totals(const struct world *w)
{
	struct totals t = registry_totals(w->registry);
	uint64_t pos = 0, bytes = 0, count = 0;
	unsigned budget = UINT32_MAX;
	struct buffer_filter all = BUFFER_FILTER_ALL;
	struct buffer b;

	while (registry_next(w->registry, &all, &pos, &budget, &b) == 1) {
		bytes += b.size;
		count++;
	}
	REQUIRE(t.bytes == bytes);
	REQUIRE(t.count == count);
}

/* What the other client reports is booked, whatever this one does. */
static void check_honest(struct world *w)
{
	struct ttalloc_lane *l = lane_of(w->honest_memory, 0);
	uint64_t before = registry_counters(w->registry)->events_total, after;

	w->honest_memory->lanes = 1;
	l->segment[0][0] = (struct ttalloc_record){ .kind = TTALLOC_RECORD_ALLOC, .event = { .address = 1, .size = 1 } };
	atomic_store_explicit(&l->tail, 1, memory_order_release);
	ring_set_drain(&w->rings);
	after = registry_counters(w->registry)->events_total;
	REQUIRE(after > before);
	REQUIRE(l->head == 1);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct script s = { data, data + size };
	static struct world w;

	if (size > SCRIPT_MAX)
		return 0;
	world_open(&w);
	while (s.at < s.end)
		do_step(&w, &s);
	ring_set_drain(&w.rings);
	check_honest(&w);
	check_totals(&w);
	REQUIRE(w.breaks <= 1);
	world_close(&w);
	return 0;
}
