/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * workload-model.c - see workload-model.h.
 *
 * Addresses. A process has 4 GiB of each device's DRAM and 2 MiB of L1 for itself. Within them every kind of buffer
 * has an area of its own, because a FREE does not say which type it means:
 *
 *	DRAM  + 0x00000000  weights and KV cache      L1  + 0x000000  activations, from the start again in each layer
 *	      + 0xc0000000  leaked buffers                + 0x0f0000  a scenario
 *	      + 0xd0000000  buffers freed twice           + 0x100000  l1_small
 *	      + 0xe0000000  traces                        + 0x180000  circular buffers
 *	      + 0xf0000000  never allocated, but freed
 *	      + 0xf8000000  scenarios
 *
 * Tags say what an event is for: `layers.2/attention`. The program is compiled without inlining, so that the stacks of
 * its call sites have all of its functions.
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "client/workload-model.h"
#include "client/workload-scenario.h"

#define DRAM_BASE UINT64_C(0x40000000)
#define DRAM_WINDOW UINT64_C(0x100000000)
#define DRAM_LEAKED UINT64_C(0xc0000000)
#define DRAM_FREED_TWICE UINT64_C(0xd0000000)
#define DRAM_TRACE UINT64_C(0xe0000000)
#define DRAM_UNKNOWN UINT64_C(0xf0000000)
#define DRAM_SCENARIO UINT64_C(0xf8000000)
#define L1_BASE UINT64_C(0x16e000)
#define L1_WINDOW UINT64_C(0x200000)
#define L1_SMALL UINT64_C(0x100000)
#define L1_CB UINT64_C(0x180000)
#define L1_SCENARIO UINT64_C(0xf0000)

/* A board's: 12 GiB of DRAM, 80 cores. */
#define DRAM_CAPACITY UINT64_C(0x300000000)
#define L1_CAPACITY (UINT64_C(80) * 1499136)

#define ALIGNMENT 32
#define FAULT_SIZE 4096
#define NS_PER_S INT64_C(1000000000)

#define CIRCULAR_BUFFERS 3
#define PROGRAM_CACHE 8       /* programs that steps add per device before the oldest is evicted */

static const char *const weights[] = { "wq", "wk", "wv", "wo", "gate", "up", "down" };
static const char *const caches[] = { "keys", "values" };
static const char *const activations[] = { "norm", "qkv", "attention", "mlp" };

#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))
#define ACTIVATIONS COUNT_OF(activations)

enum role {
	OTHER,
	WEIGHT,
	SHARED_WEIGHT,        /* reported twice: two references */
	CACHE,
};

/* A buffer that outlives a step. */
struct held {
	unsigned device;
	unsigned type;
	uint64_t address;
	uint64_t size;
	enum role role;
};

struct program {
	uint64_t id;
	uint64_t size;
};

struct device {
	uint64_t next_dram;   /* offset in the window */
	struct program programs[PROGRAM_CACHE];
	uint64_t programs_made;
};

struct model {
	struct ttalloc *t;
	struct ledger *ledger;
	unsigned process;
	const struct model_options *options;
	const volatile sig_atomic_t *stop;
	uint64_t dram;        /* start of this process's windows */
	uint64_t l1;
	uint64_t random;
	uint64_t next_kernel;
	uint64_t leaked;      /* faults made so far */
	uint64_t freed_twice;
	uint64_t freed_unknown;
	uint64_t steps;       /* made so far */
	int64_t started;      /* CLOCK_MONOTONIC, ns */
	struct held *held;
	size_t held_count;
	size_t held_size;
	struct device devices[];
};

/* --- chance --- */

/* splitmix64: small, and the same everywhere. */
static uint64_t random_u64(struct model *m)
{
	uint64_t z = (m->random += UINT64_C(0x9e3779b97f4a7c15));

	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

uint64_t model_random_size(struct model *m, uint64_t low, uint64_t high)
{
	return low + random_u64(m) % ((high - low) / ALIGNMENT + 1) * ALIGNMENT;
}

/* --- time --- */

static int64_t clock_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * NS_PER_S + ts.tv_nsec;
}

/* Sleeps so long, or for ever if negative, unless stopped. The signals are let in only while asleep: one that comes
 * between the look at `stop` and the sleep is not missed. */
static void doze(struct model *m, int64_t ns)
{
	const struct timespec ts = { .tv_sec = (time_t)(ns / NS_PER_S), .tv_nsec = (long)(ns % NS_PER_S) };
	sigset_t stopping, before;

	sigemptyset(&stopping);
	sigaddset(&stopping, SIGTERM);
	sigaddset(&stopping, SIGINT);
	sigprocmask(SIG_BLOCK, &stopping, &before);
	if (!*m->stop)
		ppoll(NULL, 0, ns < 0 ? NULL : &ts, &before);
	sigprocmask(SIG_SETMASK, &before, NULL);
}

void model_wait(struct model *m)
{
	while (!*m->stop)
		doze(m, -1);
}

/* Keeps the average rate. A stopped process hurries. */
static void pace(struct model *m)
{
	int64_t due, left;

	if (m->options->rate == 0)
		return;
	due = m->started + (int64_t)((double)m->ledger->events * (double)NS_PER_S / (double)m->options->rate);
	while (!*m->stop && (left = due - clock_ns()) > 0)
		doze(m, left);
}

/* --- events --- */

static void note_counters(struct model *m)
{
	struct ttalloc_counters c;

	ttalloc_get_counters(m->t, &c);
	m->ledger->sent = c.sent;
	m->ledger->queued = c.queued;
	m->ledger->dropped = c.dropped;
	m->ledger->uncertain = c.uncertain;
}

int model_sync(struct model *m)
{
	int r = ttalloc_sync(m->t);

	note_counters(m);
	return r;
}

/* What follows every report: the ledger holds it by now, so that a death here is a death between two events. */
static void reported(struct model *m)
{
	m->ledger->events++;
	if (m->ledger->events == m->options->die_after) {
		note_counters(m);
		raise(SIGKILL);
	}
	pace(m);
}

void model_make(struct model *m, unsigned device, unsigned type, uint64_t address, uint64_t size)
{
	if (type == LEDGER_CB)
		ttalloc_cb_alloc(m->t, (int)device, address, size);
	else
		ttalloc_alloc(m->t, (int)device, (uint8_t)type, address, size);
	ledger_alloc(m->ledger, device, type, size);
	reported(m);
}

void model_drop(struct model *m, unsigned device, unsigned type, uint64_t address, uint64_t size)
{
	if (type == LEDGER_CB)
		ttalloc_cb_free(m->t, (int)device, address, size);
	else
		ttalloc_free(m->t, (int)device, address);
	ledger_free(m->ledger, device, type, size);
	reported(m);
}

static uint64_t load_kernel(struct model *m, unsigned device, enum ttalloc_kernel_class kernel_class, uint64_t size)
{
	uint64_t id = m->next_kernel++;

	ttalloc_kernel_load(m->t, (int)device, (uint8_t)kernel_class, id, size);
	ledger_alloc(m->ledger, device, LEDGER_KERNEL, size);
	reported(m);
	return id;
}

static void unload_kernel(struct model *m, unsigned device, uint64_t id, uint64_t size)
{
	ttalloc_kernel_unload(m->t, (int)device, id, size);
	ledger_free(m->ledger, device, LEDGER_KERNEL, size);
	reported(m);
}

void model_share(struct model *m, unsigned device, unsigned type, uint64_t address, uint64_t size)
{
	ttalloc_alloc(m->t, (int)device, (uint8_t)type, address, size);
	m->ledger->refs++;
	reported(m);
}

void model_unshare(struct model *m, unsigned device, uint64_t address)
{
	ttalloc_free(m->t, (int)device, address);
	reported(m);
}

void model_drop_again(struct model *m, unsigned device, uint64_t address)
{
	ttalloc_free(m->t, (int)device, address);
	m->ledger->double_frees++;
	reported(m);
}

/* --- for scenarios --- */

uint64_t model_area(const struct model *m)
{
	return m->dram + DRAM_SCENARIO;
}

uint64_t model_l1_area(const struct model *m)
{
	return m->l1 + L1_SCENARIO;
}

unsigned model_process(const struct model *m)
{
	return m->process;
}

/* --- tags --- */

static void enter_layer(unsigned layer)
{
	char name[32];

	snprintf(name, sizeof(name), "layers.%u", layer);
	ttalloc_tag_push(name);
}

/* --- buffers that stay --- */

/* Room is made before the event, so that whatever is in the ledger is also on the list. */
static struct held *hold(struct model *m, const struct held *h)
{
	struct held *grown;

	if (m->held_count == m->held_size) {
		m->held_size = m->held_size ? 2 * m->held_size : 256;
		grown = realloc(m->held, m->held_size * sizeof(*grown));
		if (!grown)
			return NULL;
		m->held = grown;
	}
	m->held[m->held_count] = *h;
	return &m->held[m->held_count++];
}

static int make_held(struct model *m, const struct held *h)
{
	if (!hold(m, h))
		return -ENOMEM;
	model_make(m, h->device, h->type, h->address, h->size);
	return 0;
}

static int load_weight(struct model *m, unsigned device, const char *name, uint64_t size, enum role role)
{
	struct held h = { .device = device, .type = TTALLOC_DRAM, .size = size, .role = role };
	int r;


	h.address = m->dram + m->devices[device].next_dram;
	m->devices[device].next_dram += size;
	ttalloc_tag_push(name);
	r = make_held(m, &h);
	if (r == 0 && role == SHARED_WEIGHT)
		model_share(m, device, h.type, h.address, h.size);
	ttalloc_tag_pop();
	return r;
}

static int load_kernel_held(struct model *m, unsigned device, enum ttalloc_kernel_class kernel_class)
{
	struct held h = { .device = device, .type = LEDGER_KERNEL, .size = model_random_size(m, 12 * 1024, 24 * 1024) };
	struct held *kept = hold(m, &h);

	if (!kept)
		return -ENOMEM;
	kept->address = load_kernel(m, device, kernel_class, h.size);
	return 0;
}

/* Sizes keep MODEL_LAYERS_MAX layers within 0xc0000000 and 0x80000. */
static int load_weights(struct model *m, unsigned device)
{
	unsigned i;
	int r = 0;

	for (i = 0; i < COUNT_OF(weights) && r == 0; i++)
		r = load_weight(m, device, weights[i], model_random_size(m, 512 * 1024, 2 * 1024 * 1024), WEIGHT);
	return r;
}

static int load_kv_cache(struct model *m, unsigned device)
{
	unsigned i;
	int r = 0;

	ttalloc_tag_push("kv_cache");
	for (i = 0; i < COUNT_OF(caches) && r == 0; i++)
		r = load_weight(m, device, caches[i], model_random_size(m, 1024 * 1024, 4 * 1024 * 1024), CACHE);
	ttalloc_tag_pop();
	return r;
}

static int load_layer(struct model *m, unsigned device, unsigned layer)
{
	struct held small = {
		.device = device, .type = TTALLOC_L1_SMALL, .address = m->l1 + L1_SMALL + layer * UINT64_C(4096),
		.size = model_random_size(m, 1024, 4096),
	};
	int r;

	enter_layer(layer);
	r = load_weights(m, device);
	if (r == 0)
		r = load_kv_cache(m, device);
	if (r == 0)
		r = make_held(m, &small);
	if (r == 0)
		r = load_kernel_held(m, device, TTALLOC_KERNEL_APPLICATION);
	ttalloc_tag_pop();
	return r;
}

static int load_trace(struct model *m, unsigned device, uint64_t size)
{
	struct held trace = {
		.device = device, .type = TTALLOC_TRACE, .address = m->dram + DRAM_TRACE, .size = size,
	};
	int r;

	ttalloc_tag_push("trace");
	r = make_held(m, &trace);
	ttalloc_tag_pop();
	return r;
}

static int load_firmware(struct model *m, unsigned device)
{
	int r;

	ttalloc_tag_push("firmware");
	r = load_kernel_held(m, device, TTALLOC_KERNEL_DISPATCH);
	if (r == 0)
		r = load_kernel_held(m, device, TTALLOC_KERNEL_DISPATCH);
	ttalloc_tag_pop();
	return r;
}

static void open_device(struct model *m, unsigned device)
{
	const struct ttalloc_capacity capacity = {
		.dram = DRAM_CAPACITY, .l1 = L1_CAPACITY, .arch = TTALLOC_ARCH_WORMHOLE_B0,
	};

	ttalloc_device(m->t, (int)device, &capacity);
}

static int load_device(struct model *m, unsigned device)
{
	const uint64_t trace_size = model_random_size(m, 1024 * 1024, 32 * 1024 * 1024);
	unsigned i;
	int r;

	open_device(m, device);
	r = load_firmware(m, device);
	/* The embedding is the output projection, too. */
	if (r == 0)
		r = load_weight(m, device, "embedding", model_random_size(m, 8 * 1024 * 1024, 32 * 1024 * 1024),
				SHARED_WEIGHT);
	for (i = 0; i < m->options->layers && r == 0; i++)
		r = load_layer(m, device, i);
	return r == 0 ? load_trace(m, device, trace_size) : r;
}

/* --- steps --- */

static void evict_program(struct model *m, unsigned device, struct program *p)
{
	if (p->size > 0)
		unload_kernel(m, device, p->id, p->size);
	p->size = 0;
}

/* Now and then an operation is met in a new shape and compiled. */
static void compile_program(struct model *m, unsigned device)
{
	struct device *d = &m->devices[device];
	struct program *p = &d->programs[d->programs_made++ % PROGRAM_CACHE];
	uint64_t size = model_random_size(m, 12 * 1024, 24 * 1024);

	evict_program(m, device, p);
	ttalloc_tag_push("program");
	p->id = load_kernel(m, device, TTALLOC_KERNEL_APPLICATION, size);
	ttalloc_tag_pop();
	p->size = size;
}

static void run_circular_buffers(struct model *m, unsigned device)
{
	uint64_t sizes[CIRCULAR_BUFFERS], at = m->l1 + L1_CB;
	unsigned i;

	ttalloc_tag_push("matmul");
	for (i = 0; i < CIRCULAR_BUFFERS; i++) {
		sizes[i] = model_random_size(m, 2048, 16 * 1024);
		model_make(m, device, LEDGER_CB, at, sizes[i]);
		at += sizes[i];
	}
	while (i-- > 0) {
		at -= sizes[i];
		model_drop(m, device, LEDGER_CB, at, sizes[i]);
	}
	ttalloc_tag_pop();
}

static void run_layer(struct model *m, unsigned device)
{
	uint64_t sizes[ACTIVATIONS], at = m->l1;
	unsigned i;

	for (i = 0; i < ACTIVATIONS; i++) {
		sizes[i] = model_random_size(m, 4096, 128 * 1024);
		ttalloc_tag_push(activations[i]);
		model_make(m, device, TTALLOC_L1, at, sizes[i]);
		ttalloc_tag_pop();
		at += sizes[i];
	}
	run_circular_buffers(m, device);
	while (i-- > 0) {
		at -= sizes[i];
		model_drop(m, device, TTALLOC_L1, at, sizes[i]);
	}
}

/* --- faults --- */

static unsigned device_of_fault(const struct model *m, uint64_t n)
{
	return (unsigned)(n % m->options->devices);
}

static void leak(struct model *m)
{
	uint64_t n = m->leaked++;

	ttalloc_tag_push("scratch");
	model_make(m, device_of_fault(m, n), TTALLOC_DRAM, m->dram + DRAM_LEAKED + n * FAULT_SIZE, FAULT_SIZE);
	ttalloc_tag_pop();
}

static void free_twice(struct model *m)
{
	uint64_t n = m->freed_twice++, address = m->dram + DRAM_FREED_TWICE + n * FAULT_SIZE;
	unsigned device = device_of_fault(m, n);

	model_make(m, device, TTALLOC_DRAM, address, FAULT_SIZE);
	model_drop(m, device, TTALLOC_DRAM, address, FAULT_SIZE);
	model_drop_again(m, device, address);
}

static void free_unknown(struct model *m)
{
	uint64_t n = m->freed_unknown++;

	ttalloc_free(m->t, (int)device_of_fault(m, n), m->dram + DRAM_UNKNOWN + n * ALIGNMENT);
	m->ledger->unknown_frees++;
	reported(m);
}

/* One of each that is still to be made; false when there is none. */
static bool make_faults(struct model *m)
{
	const struct model_options *o = m->options;
	const bool any = m->leaked < o->leak || m->freed_twice < o->double_free || m->freed_unknown < o->unknown_free;

	if (m->leaked < o->leak)
		leak(m);
	if (m->freed_twice < o->double_free)
		free_twice(m);
	if (m->freed_unknown < o->unknown_free)
		free_unknown(m);
	return any;
}

/* --- the whole --- */

struct model *model_new(struct ttalloc *t, struct ledger *ledger, const struct model_options *options,
			unsigned process, const volatile sig_atomic_t *stop)
{
	struct model *m;

	m = calloc(1, sizeof(*m) + options->devices * sizeof(m->devices[0]));
	if (!m)
		return NULL;
	m->t = t;
	m->ledger = ledger;
	m->process = process;
	m->options = options;
	m->stop = stop;
	m->dram = DRAM_BASE + process * DRAM_WINDOW;
	m->l1 = L1_BASE + process * L1_WINDOW;
	m->random = options->seed + process * UINT64_C(0x2545f4914f6cdd1d);
	m->next_kernel = UINT64_C(0x1000) + process * UINT64_C(0x100000000);
	return m;
}

void model_free(struct model *m)
{
	if (!m)
		return;
	free(m->held);
	free(m);
}

static void step_scenario(struct model *m)
{
	const struct scenario *s = m->options->scenario;
	unsigned device;

	for (device = 0; s && s->step && device < m->options->devices; device++)
		s->step(m, device, m->steps);
	m->steps++;
}

static void run_step(struct model *m)
{
	unsigned device, layer;

	for (device = 0; device < m->options->devices; device++)
		for (layer = 0; layer < m->options->layers && !*m->stop; layer++) {
			enter_layer(layer);
			if (random_u64(m) % 8 == 0)
				compile_program(m, device);
			run_layer(m, device);
			ttalloc_tag_pop();
		}
	make_faults(m);
	step_scenario(m);
	if (m->options->mark)
		ttalloc_mark(m->t, "step");
}

int model_run(struct model *m)
{
	uint64_t step;
	unsigned device;
	int r = 0;

	m->started = clock_ns();
	for (device = 0; device < m->options->devices && r == 0 && !*m->stop; device++)
		r = load_device(m, device);
	for (step = 0; (m->options->steps == 0 || step < m->options->steps) && r == 0 && !*m->stop; step++)
		run_step(m);
	while (r == 0 && !*m->stop && make_faults(m))
		;
	return r;
}

static void drop_held(struct model *m, const struct held *h)
{
	if (h->type == LEDGER_KERNEL) {
		unload_kernel(m, h->device, h->address, h->size);
		return;
	}
	if (h->role == SHARED_WEIGHT)
		model_unshare(m, h->device, h->address);
	model_drop(m, h->device, h->type, h->address, h->size);
}

static bool is_kept(const struct model *m, enum role role)
{
	if (role == OTHER)
		return false;
	return m->options->keep >= (role == CACHE ? MODEL_KEEP_CACHE : MODEL_KEEP_WEIGHTS);
}

static void end_scenario(struct model *m)
{
	const struct scenario *s = m->options->scenario;
	unsigned device;

	for (device = 0; s && s->end && device < m->options->devices; device++)
		s->end(m, device, m->steps);
}

void model_unload(struct model *m)
{
	unsigned device, i;

	if (m->options->keep == MODEL_KEEP_EVERYTHING)
		return;
	end_scenario(m);
	for (device = 0; device < m->options->devices; device++)
		for (i = 0; i < PROGRAM_CACHE; i++)
			evict_program(m, device, &m->devices[device].programs[i]);
	while (m->held_count > 0) {
		const struct held *h = &m->held[--m->held_count];

		if (!is_kept(m, h->role))
			drop_held(m, h);
	}
}
