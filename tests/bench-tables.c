/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * bench-tables.c - the registry by itself, in this process: how fast it books, and what its history costs.
 *
 * Both tables get the same events: random churn around a million live buffers. uthash does much less with them: it
 * keeps address, size and time of what is live. What is measured is time on the processor.
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>
#include <uthash.h>

#include "client/ttalloc-proto.h"
#include "tests/bench-parts.h"
#include "tests/bench-util.h"
#include "tracker/ingest.h"

#define INGEST_BATCH 256
#define BLOCK (16 * INGEST_BATCH)
#define BLOCKS 256
#define HISTORY_BUFFERS 400000  /* history has room for so many keys */
#define HISTORY_LIVE 1000
#define HISTORY_REUSED 20000
#define HISTORY_ROUNDS 50
#define TIME UINT64_C(1732082104123456000)

/* ---- a registry as the server has it ---- */

struct table {
	struct registry_config config;
	void *arena;
	struct registry *registry;
	struct trace trace;
	struct errlog errlog;
	struct ingest in;
	uint32_t process;
};

static struct table *table_new(void)
{
	struct process_identity id = { .pid = 1000, .uid = 1000, .gid = 1000, .comm = "bench", .exe = "bench" };
	struct table *t = calloc(1, sizeof(*t));

	if (!t)
		die("registry");
	t->config = (struct registry_config){
		.seed = 42,
		.max_buffers = REGISTRY_MAX_BUFFERS_DEFAULT,
		.history_events = REGISTRY_HISTORY_EVENTS_DEFAULT,
		.history_per_buffer = REGISTRY_HISTORY_PER_BUFFER_DEFAULT,
		.max_processes = REGISTRY_MAX_PROCESSES_DEFAULT,
	};
	t->arena = mmap(NULL, registry_arena_size(&t->config), PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (t->arena == MAP_FAILED || registry_new(&t->registry, &t->config, t->arena) < 0 ||
	    trace_init(&t->trace, TRACE_EVENTS_DEFAULT) < 0 ||
	    registry_process_add(t->registry, &id, TIME, &t->process) < 0)
		die("registry");
	t->in = (struct ingest){ .registry = t->registry, .trace = &t->trace, .errlog = &t->errlog };
	ingest_connect(&t->in, t->process, TIME);
	return t;
}

static void table_free(struct table *t)
{
	registry_free(t->registry);
	munmap(t->arena, registry_arena_size(&t->config));
	trace_deinit(&t->trace);
	free(t);
}

static struct event event(const struct table *t, bool alloc, uint64_t address)
{
	return (struct event){
		.type = alloc ? TTALLOC_MSG_ALLOC : TTALLOC_MSG_FREE,
		.dialect = TTALLOC_DIALECT_144,
		.process = t->process,
		.address = address,
		.size = alloc ? BUFFER_SIZE : 0,
		.time = alloc ? TIME : 0,
	};
}

static void book(struct table *t, const struct event *events, size_t n)
{
	for (size_t i = 0; i < n; i += INGEST_BATCH)
		ingest_events(&t->in, events + i, n - i < INGEST_BATCH ? n - i : INGEST_BATCH, TIME);
}

/* Every event must have been booked as an allocation or a free of its own. */
static void check_booked(const struct table *t)
{
	const struct counters *c = registry_counters(t->registry);

	if (c->allocs_total + c->frees_total != c->events_total) {
		errno = EIO;
		die("not every event was booked");
	}
}

/* ---- uthash ---- */

struct entry {
	uint64_t address;
	uint64_t size;
	uint64_t time;
	UT_hash_handle hh;
};

static void hash_add(struct entry **head, uint64_t address)
{
	struct entry *e = malloc(sizeof(*e));

	if (!e)
		die("uthash");
	*e = (struct entry){ .address = address, .size = BUFFER_SIZE, .time = TIME };
	HASH_ADD(hh, *head, address, sizeof(e->address), e);
}

static void hash_free(struct entry **head, uint64_t address)
{
	struct entry *e;

	HASH_FIND(hh, *head, &address, sizeof(address), e);
	if (!e) {
		errno = ENOENT;
		die("uthash");
	}
	HASH_DEL(*head, e);
	free(e);
}

static void hash_book(struct entry **head, const struct event *events, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (events[i].type == TTALLOC_MSG_ALLOC)
			hash_add(head, events[i].address);
		else
			hash_free(head, events[i].address);
}

static void hash_clear(struct entry **head)
{
	struct entry *e, *next;

	HASH_ITER(hh, *head, e, next) {
		HASH_DEL(*head, e);
		free(e);
	}
}

/* ---- both ---- */

struct pair {
	struct table *table;
	struct entry *hash;
	struct churn churn;
	struct event block[BLOCK];
};

static void pair_fill(struct pair *p)
{
	churn_init(&p->churn, 88172645463325252U);
	for (uint64_t slot = 0; slot < CHURN_SLOTS; slot++) {
		if (!(p->churn.live[slot / 64] >> slot % 64 & 1))
			continue;
		struct event e = event(p->table, true, BASE_ADDRESS + slot * BUFFER_SIZE);
		book(p->table, &e, 1);
		hash_add(&p->hash, e.address);
	}
}

/* Seconds that either took for the next BLOCKS blocks. */
static void pair_time(struct pair *p, double *table, double *hash)
{
	uint64_t address = 0;

	*table = *hash = 0;
	for (int i = 0; i < BLOCKS; i++) {
		for (int j = 0; j < BLOCK; j++) {
			bool alloc = churn_next(&p->churn, &address);
			p->block[j] = event(p->table, alloc, address);
		}
		double begin = seconds_busy();
		book(p->table, p->block, BLOCK);
		double middle = seconds_busy();
		hash_book(&p->hash, p->block, BLOCK);
		*hash += seconds_busy() - middle;
		*table += middle - begin;
	}
}

void bench_tables(void)
{
	struct pair *p = calloc(1, sizeof(*p));
	double table[REPEATS], hash[REPEATS], ratio[REPEATS];
	const double events = (double)BLOCKS * BLOCK;

	if (!p)
		die("tables");
	p->table = table_new();
	pair_fill(p);
	pair_time(p, &table[0], &hash[0]);
	for (int i = 0; i < REPEATS; i++) {
		pair_time(p, &table[i], &hash[i]);
		table[i] = events / table[i];
		hash[i] = events / hash[i];
		ratio[i] = table[i] / hash[i];
	}
	check_booked(p->table);
	figure("ingest_events_per_s", median(table, REPEATS), "1/s");
	figure("baseline_uthash_events_per_s", median(hash, REPEATS), "1/s");
	figure("ingest_uthash_ratio", median(ratio, REPEATS), "x");
	hash_clear(&p->hash);
	table_free(p->table);
	free(p);
}

/* ---- history ---- */

/* `live` buffers come to be and go, then the next ones. */
static void live_and_die(struct table *t, uint64_t first, unsigned live)
{
	struct event *events = calloc(2 * (size_t)live, sizeof(*events));

	if (!events)
		die("events");
	for (unsigned i = 0; i < live; i++) {
		events[i] = event(t, true, BASE_ADDRESS + (first + i) * BUFFER_SIZE);
		events[live + i] = event(t, false, BASE_ADDRESS + (first + i) * BUFFER_SIZE);
	}
	book(t, events, 2 * (size_t)live);
	free(events);
}

/* Growth of the memory per remembered event. Few live at a time, so what their records leave is next to nothing. */
static double history_bytes(uint64_t addresses, unsigned rounds)
{
	struct table *t = table_new();
	double before, bytes;

	live_and_die(t, 0, HISTORY_LIVE);
	before = (double)registry_memory(t->registry);
	uint64_t remembered = registry_history_records(t->registry);
	for (unsigned i = 0; i < rounds; i++)
		for (uint64_t first = 0; first < addresses; first += HISTORY_LIVE)
			live_and_die(t, HISTORY_LIVE + first, HISTORY_LIVE);
	check_booked(t);
	if (registry_history_records(t->registry) - remembered != addresses * rounds) {
		errno = EIO;
		die("not everything was remembered");
	}
	bytes = (double)registry_memory(t->registry) - before;
	table_free(t);
	return bytes / ((double)addresses * rounds);
}

void bench_history(void)
{
	if (want("bytes_per_history_event"))
		figure("bytes_per_history_event", history_bytes(HISTORY_BUFFERS, 1), "B");
	if (want("bytes_per_history_event_reused"))
		figure("bytes_per_history_event_reused", history_bytes(HISTORY_REUSED, HISTORY_ROUNDS), "B");
}
