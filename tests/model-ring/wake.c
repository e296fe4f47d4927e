/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * wake.c - point 3: the server goes to sleep while two threads of one process publish. The second one claims its lane
 * while this goes on.
 *
 * Promises: when nothing can happen any more, everything is booked. The counterexample is a server that sleeps, a
 * record that it has not seen, and nobody who will write to the eventfd. And: a request of a thread is answered with
 * all booked that the thread has published, also when the server believes the ring to be silent. For that it is not
 * enough to look whether the eventfd was written: the thread that has cleared WAKE may be on its way to do so, and
 * another one, which found WAKE cleared, asks first. The bit itself tells.
 */
#include "tests/model-ring/models.h"

#include "client/ttalloc-ring.h"

#define RECORDS 2

enum { FIRST, SECOND, SERVER, THREADS };
static const char *const thread_names[] = { "producer 0", "producer 1", "server" };

enum { LANES, TAIL, ATTENTION = TAIL + 2, LOCATIONS };
static_assert(LOCATIONS <= MACHINE_LOCATIONS, "too many");
static const char *const location_names[] = { "lanes", "tail 0", "tail 1", "attention" };

struct own {
	/* the producers */
	uint8_t pc[2];
	uint8_t tail[2];
	/* the server */
	uint8_t server_pc;
	uint8_t lanes;
	uint8_t lane;       /* to look at next */
	uint8_t found;      /* something in this look */
	uint8_t armed;      /* this is the look before sleeping */
	uint8_t booked[2];
	uint8_t answering;  /* requests that this look is for */
	/* the eventfd, and the requests: a bit for each thread that asks, at its end */
	uint8_t written;
	uint8_t asked;
	uint8_t has_asked;
};
static_assert(sizeof(struct own) <= MACHINE_OWN, "too large");

static struct own *own(struct machine *m)
{
	return (void *)m->own;
}

static bool is(const struct machine *m, enum wake_mutation mutation)
{
	return m->mutation == mutation;
}

static void init(struct machine *m)
{
	machine_set(m, LANES, 1);
	machine_set(m, TAIL, 0);
	machine_set(m, TAIL + 1, 0);
	machine_set(m, ATTENTION, 0);
}

static void answer(struct machine *m)
{
	struct own *o = own(m);
	unsigned i;

	machine_note("answers the requests of", o->answering);
	for (i = 0; i < 2; i++)
		if (o->answering >> i & 1 && o->booked[i] != RECORDS)
			machine_fail("a thread's request is answered without what it has published");
	o->asked &= (uint8_t)~o->answering;
	o->answering = 0;
}

/* ---- the producers ---- */

/* Or does not. */
static bool ask(struct machine *m, unsigned i)
{
	struct own *o = own(m);

	if (o->has_asked >> i & 1)
		return false;
	if (machine_choose(2)) {
		o->has_asked |= (uint8_t)(1U << i);
		return true;
	}
	machine_fence(m, i);  /* a system call */
	machine_note("asks", i);
	o->asked |= (uint8_t)(1U << i);
	o->has_asked |= (uint8_t)(1U << i);
	return true;
}

enum { CLAIM, PUBLISH, LOOK, CLEAR, CALL, CALL_FIRST, CLEAR_AFTER, LATE_PUBLISH };

static void publish(struct machine *m, unsigned i)
{
	machine_store(m, i, TAIL + i, ++own(m)->tail[i], ORDERED);
}

static void look(struct machine *m, unsigned i)
{
	bool wake = machine_load(m, i, ATTENTION, RELAXED) & TTALLOC_ATTENTION_WAKE;

	if (!wake)
		own(m)->pc[i] = PUBLISH;
	else
		own(m)->pc[i] = is(m, WAKE_WRITE_BEFORE_CLEAR) ? CALL_FIRST : CLEAR;
}

static void clear(struct machine *m, unsigned i)
{
	bool mine = machine_modify(m, i, ATTENTION, (uint8_t)~TTALLOC_ATTENTION_WAKE, 0, 0) & TTALLOC_ATTENTION_WAKE;

	own(m)->pc[i] = mine && own(m)->pc[i] == CLEAR ? CALL : PUBLISH;
}

static void call(struct machine *m, unsigned i)
{
	machine_fence(m, i);  /* a system call */
	machine_note("writes to the eventfd", 1);
	own(m)->written = 1;
	own(m)->pc[i] = own(m)->pc[i] == CALL ? PUBLISH : CLEAR_AFTER;
}

static bool producer(struct machine *m, unsigned i)
{
	uint8_t *pc = &own(m)->pc[i];

	switch (*pc) {
	case CLAIM:
		*pc = PUBLISH;
		if (i == SECOND)
			machine_store(m, i, LANES, 2, ORDERED);
		return true;
	case PUBLISH:
		if (own(m)->tail[i] == RECORDS)
			return ask(m, i);
		*pc = LOOK;
		if (is(m, WAKE_TAIL_AFTER_LOAD)) {
			look(m, i);
			if (*pc == PUBLISH)
				*pc = LATE_PUBLISH;
			else
				publish(m, i);
		} else {
			publish(m, i);
		}
		return true;
	case LATE_PUBLISH:
		publish(m, i);
		*pc = PUBLISH;
		return true;
	case LOOK:
		look(m, i);
		return true;
	case CLEAR:
	case CLEAR_AFTER:
		clear(m, i);
		return true;
	default:
		call(m, i);
		return true;
	}
}

/* ---- the server ---- */

enum { LOOK_LANES, LOOK_TAILS, ARM, BARRIER, BARRIER_END, SLEEP };

static void look_begin(struct machine *m, bool armed)
{
	struct own *o = own(m);

	o->armed = armed;
	o->answering = armed ? 0 : o->asked;
	if (o->answering)
		machine_fence(m, SERVER);  /* a system call */
	o->lane = 0;
	o->found = 0;
	o->server_pc = LOOK_LANES;
	if (armed && is(m, WAKE_LANES_BEFORE_SET))
		o->server_pc = LOOK_TAILS;
}

static void look_end(struct machine *m)
{
	struct own *o = own(m);

	answer(m);
	if (o->found || o->asked)
		look_begin(m, false);
	else if (o->armed && !is(m, WAKE_LOOK_BEFORE_SET))
		o->server_pc = SLEEP;
	else
		o->server_pc = ARM;
}

static void look_tail(struct machine *m)
{
	struct own *o = own(m);
	uint8_t tail = machine_load(m, SERVER, TAIL + o->lane, ORDERED);

	if (tail != o->booked[o->lane]) {
		o->booked[o->lane] = tail;
		o->found = 1;
	}
	if (++o->lane == o->lanes)
		look_end(m);
}

/* A request comes while the ring is believed to be silent. */
static bool asked(struct machine *m)
{
	if (!own(m)->asked)
		return false;
	machine_fence(m, SERVER);  /* a system call */
	if (!is(m, WAKE_TRUST_EVENTFD) && !(machine_load(m, SERVER, ATTENTION, RELAXED) & TTALLOC_ATTENTION_WAKE)) {
		look_begin(m, false);
		return true;
	}
	own(m)->answering = own(m)->asked;
	answer(m);
	return true;
}

static bool sleeping(struct machine *m)
{
	if (!own(m)->written)
		return asked(m);
	own(m)->written = 0;
	machine_fence(m, SERVER);  /* a system call */
	machine_note("reads the eventfd", 1);
	look_begin(m, false);
	return true;
}

static bool server(struct machine *m)
{
	struct own *o = own(m);

	switch (o->server_pc) {
	case LOOK_LANES:
		o->lanes = machine_load(m, SERVER, LANES, ORDERED);
		o->server_pc = LOOK_TAILS;
		return true;
	case LOOK_TAILS:
		look_tail(m);
		return true;
	case ARM:
		machine_modify(m, SERVER, ATTENTION, 0xff, TTALLOC_ATTENTION_WAKE, 0);
		o->server_pc = BARRIER;
		if (is(m, WAKE_NO_MEMBARRIER))
			look_begin(m, true);
		return true;
	case BARRIER:
		machine_barrier_begin(m, SERVER, THREADS);
		o->server_pc = BARRIER_END;
		return true;
	case BARRIER_END:
		if (!machine_barrier_end(m, SERVER))
			return false;
		look_begin(m, true);
		if (is(m, WAKE_LOOK_BEFORE_SET))
			o->server_pc = SLEEP;
		return true;
	default:
		return sleeping(m);
	}
}

static bool step(struct machine *m, unsigned thread)
{
	return thread == SERVER ? server(m) : producer(m, thread);
}

static void end(struct machine *m)
{
	if (own(m)->booked[0] != RECORDS || own(m)->booked[1] != RECORDS)
		machine_fail("the server sleeps, and nobody will wake it");
}

const struct machine_model wake_model = {
	.name = "wake", .threads = THREADS, .thread_names = thread_names, .location_names = location_names,
	.init = init, .step = step, .end = end,
};
