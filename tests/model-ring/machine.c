/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * machine.c - see machine.h.
 *
 * The search is depth first. A step that chooses is run again, from the same state, until it has chosen everything.
 */
#include "tests/model-ring/machine.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHOICES 8
#define DEPTH_MAX 400

/* What happened in one step, for the print. */
struct event {
	const char *what;
	const char *note;
	uint8_t thread;
	uint8_t location;
	uint8_t value;
	unsigned note_value;
};

#define NO_LOCATION 255

struct choices {
	uint8_t taken[CHOICES];
	uint8_t count[CHOICES];
	unsigned used;
	unsigned depth;
};

static struct choices choices;  /* of the step that runs */

static struct {
	const struct machine_model *model;
	struct machine_result *result;
	uint64_t (*set)[2];        /* of the states that were seen; open addressing */
	size_t size;               /* a power of two */
	bool too_far;              /* this step: it has no room for its store */
	unsigned depth;
	struct event run[DEPTH_MAX];
} search;

/* ---- what a step tells ---- */

static void happened(const char *what, unsigned thread, unsigned location, uint8_t value)
{
	struct event *e = &search.run[search.depth];

	e->what = what;
	e->thread = (uint8_t)thread;
	e->location = (uint8_t)location;
	e->value = value;
}

void machine_note(const char *what, unsigned value)
{
	search.run[search.depth].note = what;
	search.run[search.depth].note_value = value;
}

void machine_fail(const char *what)
{
	if (!search.result->failure)
		search.result->failure = what;
}

unsigned machine_choose(unsigned count)
{
	const unsigned i = choices.used++;

	if (i >= CHOICES)
		abort();
	if (i == choices.depth) {
		choices.taken[i] = 0;
		choices.count[i] = (uint8_t)count;
		choices.depth++;
	}
	return choices.taken[i];
}

static bool choose_next(struct choices *c)
{
	while (c->depth > 0 && ++c->taken[c->depth - 1] == c->count[c->depth - 1])
		c->depth--;
	c->used = 0;
	return c->depth > 0;
}

/* ---- memory ---- */

static void join(machine_view a, const machine_view b)
{
	unsigned i;

	for (i = 0; i < MACHINE_LOCATIONS; i++)
		if (a[i] < b[i])
			a[i] = b[i];
}

static void learn(struct machine *m, unsigned thread, const machine_view what)
{
	join(m->known[thread], what);
	join(m->seen[thread], what);
}

void machine_set(struct machine *m, unsigned location, uint8_t value)
{
	m->memory[location] = value;
	m->value[location][0] = value;
	m->stores[location] = 1;
}

static void drain(struct machine *m, unsigned thread)
{
	struct machine_queue *q = &m->queue[thread];

	m->memory[q->location[0]] = q->value[0];
	q->count--;
	memmove(q->location, q->location + 1, q->count);
	memmove(q->value, q->value + 1, q->count);
	q->location[q->count] = 0;
	q->value[q->count] = 0;
}

static uint8_t load_tso(const struct machine *m, unsigned thread, unsigned location)
{
	const struct machine_queue *q = &m->queue[thread];
	unsigned i;

	for (i = q->count; i > 0; i--)
		if (q->location[i - 1] == location)
			return q->value[i - 1];
	return m->memory[location];
}

static uint8_t load_weak(struct machine *m, unsigned thread, unsigned location, enum machine_order order)
{
	const unsigned oldest = m->known[thread][location];
	const unsigned i = oldest + machine_choose(m->stores[location] - oldest);

	if (order == ORDERED)
		learn(m, thread, m->view[location][i]);
	m->known[thread][location] = (uint8_t)i;
	if (m->seen[thread][location] < i)
		m->seen[thread][location] = (uint8_t)i;
	return m->value[location][i];
}

uint8_t machine_load(struct machine *m, unsigned thread, unsigned location, enum machine_order order)
{
	uint8_t v = m->kind == MACHINE_TSO ? load_tso(m, thread, location) : load_weak(m, thread, location, order);

	happened(order == ORDERED ? "load acquire" : "load", thread, location, v);
	return v;
}

/* The newest store to the location. */
static unsigned append(struct machine *m, unsigned thread, unsigned location, uint8_t value)
{
	unsigned i = m->stores[location];

	if (i == MACHINE_STORES) {
		search.result->cut++;
		search.too_far = true;
		i--;
	} else {
		m->stores[location]++;
	}
	m->value[location][i] = value;
	m->known[thread][location] = (uint8_t)i;
	return i;
}

void machine_store(struct machine *m, unsigned thread, unsigned location, uint8_t value, enum machine_order order)
{
	struct machine_queue *q = &m->queue[thread];
	unsigned i;

	happened(order == ORDERED ? "store release" : "store", thread, location, value);
	if (m->kind == MACHINE_TSO) {
		if (q->count == MACHINE_QUEUE)
			drain(m, thread);
		q->location[q->count] = (uint8_t)location;
		q->value[q->count++] = value;
		return;
	}
	i = append(m, thread, location, value);
	if (order == ORDERED)
		memcpy(m->view[location][i], m->known[thread], sizeof(machine_view));
	m->view[location][i][location] = (uint8_t)i;
}

uint8_t machine_modify(struct machine *m, unsigned thread, unsigned location, uint8_t keep, uint8_t set, uint8_t add)
{
	uint8_t old, value;
	unsigned i;

	if (m->kind == MACHINE_TSO) {
		machine_fence(m, thread);
		old = m->memory[location];
		m->memory[location] = (uint8_t)(((old & keep) | set) + add);
		happened("modify, was", thread, location, old);
		return old;
	}
	i = m->stores[location] - 1U;
	old = m->value[location][i];
	value = (uint8_t)(((old & keep) | set) + add);
	learn(m, thread, m->view[location][i]);
	if (m->seen[thread][location] < i)
		m->seen[thread][location] = (uint8_t)i;
	i = append(m, thread, location, value);
	memcpy(m->view[location][i], m->known[thread], sizeof(machine_view));
	happened("modify, was", thread, location, old);
	return old;
}

void machine_fence(struct machine *m, unsigned thread)
{
	happened("full fence", thread, NO_LOCATION, 0);
	if (m->kind == MACHINE_TSO) {
		while (m->queue[thread].count > 0)
			drain(m, thread);
		return;
	}
	join(m->fenced, m->known[thread]);
	join(m->known[thread], m->fenced);
	memcpy(m->seen[thread], m->known[thread], sizeof(machine_view));
}

void machine_barrier_begin(struct machine *m, unsigned thread, unsigned threads)
{
	machine_fence(m, thread);
	m->pending = (uint8_t)(((1U << threads) - 1) & ~(1U << thread));
	happened("membarrier begins", thread, NO_LOCATION, 0);
}

bool machine_barrier_end(struct machine *m, unsigned thread)
{
	if (m->pending != 0)
		return false;
	machine_fence(m, thread);
	happened("membarrier returns", thread, NO_LOCATION, 0);
	return true;
}

uint8_t machine_ticks(struct machine *m, unsigned thread, enum machine_ticks how)
{
	uint8_t value;

	if (how == TICKS_ANYWHERE) {
		/* odd: between two of those that are held in place */
		const unsigned first = m->early[thread] / 2U;

		value = (uint8_t)(2 * (first + machine_choose(m->clock / 2U - first + 1)) + 1);
	} else {
		m->clock = (uint8_t)(m->clock + 2);
		value = m->clock;
		join(m->visible, m->seen[thread]);
	}
	if (how == TICKS_BETWEEN)
		learn(m, thread, m->visible);
	m->early[thread] = value;
	happened(how == TICKS_ANYWHERE ? "counter, not held" : how == TICKS_AFTER ? "counter, after loads" :
		 "counter, between loads", thread, NO_LOCATION, value);
	return value;
}

/* ---- what is only watched ---- */

void machine_have_read(struct machine *m, unsigned thread, unsigned location)
{
	m->memory[location]++;
	m->known[thread][location]++;
}

uint8_t machine_known_read(const struct machine *m, unsigned thread, unsigned location)
{
	return m->kind == MACHINE_TSO ? m->memory[location] : m->known[thread][location];
}

/* ---- stores that no thread can load any more ---- */

static void number_down(machine_view v, unsigned location, unsigned by)
{
	v[location] = v[location] < by ? 0 : (uint8_t)(v[location] - by);
}

static void forget_oldest(struct machine *m, unsigned location, unsigned count)
{
	const unsigned left = m->stores[location] - count;
	unsigned i, k;

	memmove(m->value[location], m->value[location] + count, left);
	memset(m->value[location] + left, 0, count);
	memmove(m->view[location], m->view[location] + count, left * sizeof(machine_view));
	memset(m->view[location] + left, 0, count * sizeof(machine_view));
	m->stores[location] = (uint8_t)left;
	for (i = 0; i < MACHINE_LOCATIONS; i++)
		for (k = 0; k < m->stores[i]; k++)
			number_down(m->view[i][k], location, count);
	for (i = 0; i < search.model->threads; i++) {
		number_down(m->known[i], location, count);
		number_down(m->seen[i], location, count);
	}
	number_down(m->fenced, location, count);
	number_down(m->visible, location, count);
}

static void forget(struct machine *m)
{
	unsigned location, oldest, i;

	for (location = 0; location < MACHINE_LOCATIONS; location++) {
		oldest = m->stores[location];
		for (i = 0; i < search.model->threads; i++)
			if (oldest > m->known[i][location])
				oldest = m->known[i][location];
		if (m->kind == MACHINE_WEAK && oldest > 0 && m->stores[location] > 0)
			forget_oldest(m, location, oldest);
	}
}

/* ---- the states that were seen ---- */

static uint64_t mix(uint64_t x)
{
	x ^= x >> 32;
	x *= UINT64_C(0xd6e8feb86659fd93);
	x ^= x >> 29;
	return x;
}

static void fold(uint64_t f[2], const void *from, size_t size)
{
	const unsigned char *p = from;
	uint64_t w;
	size_t i, n;

	for (i = 0; i < size; i += n) {
		n = size - i < sizeof(w) ? size - i : sizeof(w);
		w = 0;
		memcpy(&w, p + i, n);
		f[0] = (f[0] ^ w) * UINT64_C(0x9e3779b97f4a7c15);
		f[0] ^= f[0] >> 31;
		f[1] = (f[1] + w) * UINT64_C(0xc2b2ae3d27d4eb4f);
		f[1] ^= f[1] >> 29;
	}
}

/* Most of a machine are places for stores that nobody has made; those are zero. */
static void fingerprint(const struct machine *m, uint64_t f[2])
{
	unsigned i;

	f[0] = 1;
	f[1] = 2;
	fold(f, m, offsetof(struct machine, stores));
	if (m->kind == MACHINE_WEAK) {
		fold(f, m->stores, offsetof(struct machine, view) - offsetof(struct machine, stores));
		for (i = 0; i < MACHINE_LOCATIONS; i++)
			fold(f, m->view[i], m->stores[i] * sizeof(machine_view));
		fold(f, m->known, sizeof(*m) - offsetof(struct machine, known));
	}
	f[0] = mix(f[0]) | 1;  /* 0 is an empty place */
	f[1] = mix(f[1]);
}

static bool set_add(uint64_t (*set)[2], size_t size, const uint64_t f[2])
{
	size_t i;

	for (i = f[1] & (size - 1); set[i][0] != 0; i = (i + 1) & (size - 1))
		if (set[i][0] == f[0] && set[i][1] == f[1])
			return false;
	set[i][0] = f[0];
	set[i][1] = f[1];
	return true;
}

static void set_grow(void)
{
	const size_t size = search.size ? 2 * search.size : 1 << 12;
	uint64_t (*set)[2] = calloc(size, sizeof(*set));
	size_t i;

	if (!set)
		abort();
	for (i = 0; i < search.size; i++)
		if (search.set[i][0] != 0)
			set_add(set, size, search.set[i]);
	free(search.set);
	search.set = set;
	search.size = size;
}

/* Whether the state is new. */
static bool remember(const struct machine *m)
{
	uint64_t f[2];

	if (2 * search.result->states >= search.size)
		set_grow();
	fingerprint(m, f);
	if (!set_add(search.set, search.size, f))
		return false;
	search.result->states++;
	return true;
}

/* ---- the search ---- */

static void visit(const struct machine *m);

static void go_on(struct machine *next)
{
	if (search.result->failure) {
		search.result->steps = search.depth + 1;
		return;
	}
	if (search.too_far) {
		search.too_far = false;
		return;
	}
	if (++search.depth == DEPTH_MAX)
		abort();
	forget(next);
	visit(next);
	search.depth--;
}

/* All that the thread can do in its next step; whether that is anything. */
static bool visit_steps(const struct machine *m, unsigned thread)
{
	struct choices c = { .depth = 0 };
	struct machine next;
	bool any = false;

	do {
		choices = c;
		next = *m;
		search.run[search.depth] = (struct event){ .note = NULL };
		happened("goes on", thread, NO_LOCATION, 0);
		if (search.model->step(&next, thread)) {
			any = true;
			c = choices;  /* the steps after it choose, too */
			go_on(&next);
		} else {
			c = choices;
		}
	} while (!search.result->failure && choose_next(&c));
	return any;
}

/* What happens to a thread's stores without it. */
static bool visit_memory(const struct machine *m, unsigned thread)
{
	struct machine next;
	bool any = false;

	if (m->pending >> thread & 1) {
		next = *m;
		search.run[search.depth].note = NULL;
		machine_fence(&next, thread);
		next.pending &= (uint8_t)~(1U << thread);
		go_on(&next);
		any = true;
	}
	if (m->queue[thread].count > 0 && !search.result->failure) {
		next = *m;
		search.run[search.depth].note = NULL;
		happened("oldest store gets into memory", thread, m->queue[thread].location[0],
			 m->queue[thread].value[0]);
		drain(&next, thread);
		go_on(&next);
		any = true;
	}
	return any;
}

static void visit(const struct machine *m)
{
	bool any = false;
	unsigned i;

	if (!remember(m))
		return;
	for (i = 0; i < search.model->threads && !search.result->failure; i++) {
		any |= visit_steps(m, i);
		if (!search.result->failure)
			any |= visit_memory(m, i);
	}
	if (any)
		return;
	search.result->ends++;
	search.model->end((struct machine[]){ *m });
	if (search.result->failure)
		search.result->steps = search.depth;
}

void machine_explore(const struct machine_model *model, enum machine_kind kind, uint8_t mutation,
		     struct machine_result *result)
{
	static struct machine start;

	*result = (struct machine_result){ .failure = NULL };
	memset(&start, 0, sizeof(start));
	start.kind = (uint8_t)kind;
	start.mutation = mutation;
	memset(&search, 0, sizeof(search));
	search.model = model;
	search.result = result;
	model->init(&start);
	visit(&start);
	free(search.set);
	search.set = NULL;
}

void machine_print_failure(const struct machine_model *model)
{
	unsigned i;

	for (i = 0; i < search.result->steps; i++) {
		const struct event *e = &search.run[i];

		printf("%4u  %-10s %s", i, model->thread_names[e->thread], e->what);
		if (e->location != NO_LOCATION)
			printf(" %s", model->location_names[e->location]);
		if (e->location != NO_LOCATION || strncmp(e->what, "counter", 7) == 0)
			printf(" = %u", e->value);
		if (e->note)
			printf("   (%s %u)", e->note, e->note_value);
		printf("\n");
	}
	printf("      %s\n", search.result->failure);
}
