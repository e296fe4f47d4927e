/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * wake.c - point 3: the server goes to sleep while two threads of one process publish. The second one claims its lane
 * while this goes on. Every event that finds WAKE set writes to the eventfd before its call returns; only the server
 * clears WAKE.
 *
 * Promises: when nothing can happen any more, everything is booked. The counterexample is a server that sleeps, a
 * record that it has not seen, and nobody who will write to the eventfd. And: a request that comes after the call of
 * an event has returned is answered with that event booked, also when the server believes the ring to be silent, and
 * also when it is another thread of the process that asks, which has seen that call return.
 *
 * The eventfd is edge-triggered: what was written stands until the server has heard it. It may or may not hear it while
 * the ring is active; then it has no effect.
 */
#include "tests/model-ring/models.h"

#include "client/ttalloc-ring.h"

enum { FIRST, SECOND, SERVER, THREADS };
static const char *const thread_names[] = { "producer 0", "producer 1", "server" };
static const uint8_t records[] = { 2, 1 };  /* of each producer */

/* `returned`: producer 0 tells producer 1 that the first of its calls has returned */
enum { LANES, TAIL, ATTENTION = TAIL + 2, RETURNED, LOCATIONS };
static_assert(LOCATIONS <= MACHINE_LOCATIONS, "too many");
static const char *const location_names[] = { "lanes", "tail 0", "tail 1", "attention", "returned" };

struct own {
	/* the producers */
	uint8_t pc[2];
	uint8_t tail[2];
	uint8_t saw_returned;   /* producer 1 */
	/* the server */
	uint8_t server_pc;
	uint8_t lanes;
	uint8_t lane;       /* to look at next */
	uint8_t found;      /* something in this look */
	uint8_t arming;     /* this is the look before sleeping */
	uint8_t booked[2];
	uint8_t answering;  /* requests that this look is for */
	/* the eventfd, and the requests: a bit for each thread that asks, at its end */
	uint8_t written;
	uint8_t asked;
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
	machine_set(m, RETURNED, 0);
}

static void answer(struct machine *m)
{
	struct own *o = own(m);
	unsigned i;

	machine_note("answers the requests of", o->answering);
	for (i = 0; i < 2; i++)
		if (o->answering >> i & 1 && o->booked[i] != records[i])
			machine_fail("a thread's request is answered without what it has published");
	if (o->answering >> SECOND & 1 && o->booked[FIRST] < o->saw_returned)
		machine_fail("a request is answered without what another thread was seen to have published");
	if (o->answering >> SECOND & 1)
		o->saw_returned = 0;
	o->asked &= (uint8_t)~o->answering;
	o->answering = 0;
}

/* ---- the producers ---- */

enum { CLAIM, PUBLISH, LOOK, LOOK_AGAIN, CLEAR, CALL, CLEAR_AFTER, RETURN, LATE_PUBLISH, SEE, ASK, DONE };

static void publish(struct machine *m, unsigned i)
{
	machine_store(m, i, TAIL + i, ++own(m)->tail[i], ORDERED);
}

/* Where it goes on when its call has returned. */
static uint8_t after_event(struct machine *m, unsigned i)
{
	return i == FIRST && own(m)->tail[FIRST] == 1 ? RETURN : PUBLISH;
}

static void look(struct machine *m, unsigned i)
{
	bool again = own(m)->pc[i] == LOOK_AGAIN;
	bool wake = machine_load(m, i, ATTENTION, again ? ORDERED : RELAXED) & TTALLOC_ATTENTION_WAKE;

	if (!wake)
		own(m)->pc[i] = after_event(m, i);
	else if (!again)
		own(m)->pc[i] = LOOK_AGAIN;
	else
		own(m)->pc[i] = is(m, WAKE_CLEARED_BEFORE_WRITE) ? CLEAR : CALL;
}

static void clear(struct machine *m, unsigned i)
{
	bool mine = machine_modify(m, i, ATTENTION, (uint8_t)~TTALLOC_ATTENTION_WAKE, 0, 0) & TTALLOC_ATTENTION_WAKE;

	own(m)->pc[i] = mine && own(m)->pc[i] == CLEAR ? CALL : after_event(m, i);
}

static void call(struct machine *m, unsigned i)
{
	machine_fence(m, i);  /* a system call */
	machine_note("writes to the eventfd", 1);
	own(m)->written = 1;
	own(m)->pc[i] = is(m, WAKE_CLEARED_AFTER_WRITE) ? CLEAR_AFTER : after_event(m, i);
}

static void ask(struct machine *m, unsigned i)
{
	own(m)->pc[i] = DONE;
	machine_fence(m, i);  /* a system call */
	machine_note("asks", i);
	own(m)->asked |= (uint8_t)(1U << i);
}

/* It asks or does not. */
static void after_last_event(struct machine *m, unsigned i)
{
	if (machine_choose(2))
		own(m)->pc[i] = DONE;
	else
		own(m)->pc[i] = i == SECOND ? SEE : ASK;
}

static void next_event(struct machine *m, unsigned i)
{
	uint8_t *pc = &own(m)->pc[i];

	*pc = LOOK;
	if (!is(m, WAKE_TAIL_AFTER_LOAD)) {
		publish(m, i);
		return;
	}
	look(m, i);
	if (*pc == LOOK_AGAIN)
		publish(m, i);
	else
		*pc = LATE_PUBLISH;
}

static bool producer(struct machine *m, unsigned i)
{
	struct own *o = own(m);

	switch (o->pc[i]) {
	case CLAIM:
		o->pc[i] = PUBLISH;
		if (i == SECOND)
			machine_store(m, i, LANES, 2, ORDERED);
		return true;
	case PUBLISH:
		if (o->tail[i] == records[i])
			after_last_event(m, i);
		else
			next_event(m, i);
		return true;
	case LATE_PUBLISH:
		publish(m, i);
		o->pc[i] = after_event(m, i);
		return true;
	case LOOK:
	case LOOK_AGAIN:
		look(m, i);
		return true;
	case CLEAR:
	case CLEAR_AFTER:
		clear(m, i);
		return true;
	case CALL:
		call(m, i);
		return true;
	case RETURN:
		machine_store(m, i, RETURNED, 1, ORDERED);
		o->pc[i] = PUBLISH;
		return true;
	case SEE:
		o->saw_returned = machine_load(m, i, RETURNED, ORDERED);
		o->pc[i] = ASK;
		return true;
	case ASK:
		ask(m, i);
		return true;
	default:
		return false;
	}
}

/* ---- the server ---- */

enum { BEGIN, LOOK_LANES, LOOK_TAILS, ARM, BARRIER, BARRIER_END, CLEAR_NEWS, SLEEP, WAKE_UP };

/* Hears the eventfd, if it was written. */
static bool hear(struct machine *m)
{
	const bool written = own(m)->written;

	own(m)->written = 0;
	if (written)
		machine_note("hears the eventfd", 1);
	return written;
}

static void look_begin(struct machine *m, bool arming)
{
	struct own *o = own(m);

	o->arming = arming;
	o->server_pc = arming && is(m, WAKE_LANES_BEFORE_SET) ? LOOK_TAILS : LOOK_LANES;
}

/* A round, while the ring is active. */
static void begin(struct machine *m)
{
	struct own *o = own(m);

	o->answering = o->asked;
	if (o->answering)
		machine_fence(m, SERVER);  /* a system call */
	if (o->written && machine_choose(2)) {
		machine_fence(m, SERVER);
		(void)hear(m);
	}
	look_begin(m, false);
}

static void fall_asleep(struct machine *m)
{
	if (is(m, WAKE_DROPPED_AT_SLEEP))
		(void)hear(m);
	own(m)->server_pc = SLEEP;
}

static void look_end(struct machine *m)
{
	struct own *o = own(m);
	const bool found = o->found, arming = o->arming;

	/* What is not needed any more is put back: fewer states to search. */
	o->lane = o->found = o->arming = 0;
	if (!is(m, WAKE_LANES_BEFORE_SET))
		o->lanes = 0;
	if (arming) {
		if (found)
			o->server_pc = CLEAR_NEWS;
		else
			fall_asleep(m);
		return;
	}
	if (o->answering)
		answer(m);
	o->server_pc = found || o->asked ? BEGIN : ARM;
}

static void look_tail(struct machine *m)
{
	struct own *o = own(m);
	uint8_t tail = machine_load(m, SERVER, TAIL + o->lane, ORDERED);

	if (tail != o->booked[o->lane]) {
		o->found = 1;
		if (!o->arming)
			o->booked[o->lane] = tail;
	}
	if (++o->lane == o->lanes)
		look_end(m);
}

static void clear_wake(struct machine *m)
{
	machine_modify(m, SERVER, ATTENTION, (uint8_t)~TTALLOC_ATTENTION_WAKE, 0, 0);
	own(m)->server_pc = BEGIN;
}

/* The ring is believed to be silent. */
static bool sleeping(struct machine *m)
{
	struct own *o = own(m);

	if (!o->written && !o->asked)
		return false;
	o->answering = o->asked;
	machine_fence(m, SERVER);  /* a system call */
	if (!(o->answering && is(m, WAKE_NOT_ASKED)) && hear(m))
		o->server_pc = WAKE_UP;
	else
		answer(m);
	return true;
}

static bool server(struct machine *m)
{
	struct own *o = own(m);

	switch (o->server_pc) {
	case BEGIN:
		begin(m);
		return true;
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
		if (is(m, WAKE_LOOK_BEFORE_SET))
			fall_asleep(m);
		else
			look_begin(m, true);
		return true;
	case CLEAR_NEWS:
	case WAKE_UP:
		clear_wake(m);
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
	if (own(m)->booked[0] != records[0] || own(m)->booked[1] != records[1])
		machine_fail("the server sleeps, and nobody will wake it");
}

const struct machine_model wake_model = {
	.name = "wake", .threads = THREADS, .thread_names = thread_names, .location_names = location_names,
	.init = init, .step = step, .end = end,
};
