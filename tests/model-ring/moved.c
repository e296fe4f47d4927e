/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * moved.c - point 4: the connection breaks while two threads publish. The server books until it ends; then one thread
 * moves what is in the lanes and not booked. A producer that finds the memory moved moves what it has just published
 * itself, unless the mover has seen it or will: a number per lane, under a lock, says how far the mover saw.
 *
 * The mover may begin when the server does not book any more: here, when it sees that the server has closed.
 *
 * Promises: each record that was published is booked or moved, and only once.
 */
#include "tests/model-ring/models.h"

#include "client/ttalloc-ring.h"

#define RECORDS 2
#define NOT_LOOKED 9

enum { FIRST, SECOND, MOVER, SERVER, THREADS };
static const char *const thread_names[] = { "producer 0", "producer 1", "mover", "server" };

enum { TAIL, HEAD = TAIL + 2, ATTENTION = HEAD + 2, LOCK, DONE, CLOSED = DONE + 2, LOCATIONS };
static_assert(LOCATIONS <= MACHINE_LOCATIONS, "too many");
static const char *const location_names[] = {
	"tail 0", "tail 1", "head 0", "head 1", "attention", "lock", "moved to 0", "moved to 1", "closed",
};

struct own {
	uint8_t pc[THREADS];
	uint8_t tail[2];
	uint8_t head[2];             /* as the mover loaded it */
	uint8_t lane;                /* the mover's */
	uint8_t booking;             /* the server's */
	uint8_t booked[2];
	uint8_t kept[2][RECORDS];    /* how often each record was booked or moved */
};
static_assert(sizeof(struct own) <= MACHINE_OWN, "too large");

static struct own *own(struct machine *m)
{
	return (void *)m->own;
}

static bool is(const struct machine *m, enum moved_mutation mutation)
{
	return m->mutation == mutation;
}

static void init(struct machine *m)
{
	unsigned i;

	for (i = 0; i < LOCATIONS; i++)
		machine_set(m, i, i == DONE || i == DONE + 1 ? NOT_LOOKED : 0);
}

static void keep(struct machine *m, unsigned lane, unsigned from, unsigned to)
{
	for (; from < to; from++)
		if (++own(m)->kept[lane][from] > 1)
			machine_fail("a record is booked or moved twice");
}

static bool lock(struct machine *m, unsigned thread)
{
	return machine_modify(m, thread, LOCK, 0, 1, 0) == 0;
}

/* ---- the producers ---- */

enum { PUBLISH, LOOK, TAKE, LOOK_DONE, UNLOCK };

static bool producer(struct machine *m, unsigned i)
{
	struct own *o = own(m);

	switch (o->pc[i]++) {
	case PUBLISH:
		if (o->tail[i] == RECORDS)
			return false;
		machine_store(m, i, TAIL + i, ++o->tail[i], ORDERED);
		return true;
	case LOOK:
		if (!(machine_load(m, i, ATTENTION, RELAXED) & TTALLOC_ATTENTION_MOVED))
			o->pc[i] = PUBLISH;
		return true;
	case TAKE:
		return lock(m, i);
	case LOOK_DONE:
		/* What it published before this one was booked, or the mover sees it. */
		if (machine_load(m, i, DONE + i, RELAXED) < o->tail[i] || is(m, MOVED_NOT_REMEMBERED)) {
			machine_note("moves its position", o->tail[i] - 1U);
			keep(m, i, o->tail[i] - 1U, o->tail[i]);
		}
		return true;
	case UNLOCK:
		machine_store(m, i, LOCK, 0, ORDERED);
		return true;
	default:
		return false;
	}
}

/* ---- the mover ---- */

enum { WAIT, SET, BARRIER, BARRIER_END, MOVER_TAKE, MOVER_HEAD, MOVER_TAIL, MOVER_STORE, MOVER_UNLOCK };

static void mover_tail(struct machine *m)
{
	struct own *o = own(m);
	uint8_t tail = machine_load(m, MOVER, TAIL + o->lane, ORDERED);

	machine_note("moves positions below", tail);
	keep(m, o->lane, o->head[o->lane], tail);
	o->head[o->lane] = tail;
}

static bool mover(struct machine *m)
{
	struct own *o = own(m);

	switch (o->pc[MOVER]++) {
	case WAIT:
		return is(m, MOVED_SERVER_READS_ON) || machine_load(m, MOVER, CLOSED, ORDERED);
	case SET:
		machine_modify(m, MOVER, ATTENTION, 0xff, TTALLOC_ATTENTION_MOVED, 0);
		if (is(m, MOVED_NO_MEMBARRIER))
			o->pc[MOVER] = MOVER_TAKE;
		return true;
	case BARRIER:
		machine_barrier_begin(m, MOVER, SERVER);
		return true;
	case BARRIER_END:
		return machine_barrier_end(m, MOVER);
	case MOVER_TAKE:
		return lock(m, MOVER);
	case MOVER_HEAD:
		o->head[o->lane] = machine_load(m, MOVER, HEAD + o->lane, RELAXED);
		return true;
	case MOVER_TAIL:
		mover_tail(m);
		return true;
	case MOVER_STORE:
		machine_store(m, MOVER, DONE + o->lane, o->head[o->lane], RELAXED);
		if (++o->lane < 2)
			o->pc[MOVER] = MOVER_HEAD;
		return true;
	case MOVER_UNLOCK:
		machine_store(m, MOVER, LOCK, 0, ORDERED);
		return true;
	default:
		return false;
	}
}

/* ---- the server: books, and ends at any time ---- */

enum { CHOOSE, BOOK, STORE_HEAD, CLOSE, CLOSE_HEAD };

static void book(struct machine *m, unsigned lane)
{
	struct own *o = own(m);
	uint8_t tail = machine_load(m, SERVER, TAIL + lane, ORDERED);

	machine_note("books positions below", tail);
	keep(m, lane, o->booked[lane], tail);
	o->pc[SERVER] = tail == o->booked[lane] ? CHOOSE : STORE_HEAD;
	o->booked[lane] = tail;
	o->booking = (uint8_t)lane;
}

static bool server(struct machine *m)
{
	struct own *o = own(m);

	switch (o->pc[SERVER]) {
	case CHOOSE:
		o->pc[SERVER] = machine_choose(2) ? CLOSE : BOOK;
		return true;
	case BOOK:
		book(m, machine_choose(2));
		return true;
	case STORE_HEAD:
		o->pc[SERVER] = CHOOSE;
		if (is(m, MOVED_HEAD_AFTER_CLOSE) && machine_choose(2))
			o->pc[SERVER] = CLOSE_HEAD;  /* and stores the head only then */
		else
			machine_store(m, SERVER, HEAD + o->booking, o->booked[o->booking], ORDERED);
		return true;
	case CLOSE:
		machine_fence(m, SERVER);  /* a system call */
		machine_store(m, SERVER, CLOSED, 1, ORDERED);
		o->pc[SERVER] = CLOSE_HEAD + 1;
		return true;
	case CLOSE_HEAD:
		machine_store(m, SERVER, CLOSED, 1, ORDERED);
		o->pc[SERVER] = CLOSE_HEAD + 1;
		return true;
	default:
		return false;
	}
}

static bool step(struct machine *m, unsigned thread)
{
	if (thread == SERVER)
		return server(m);
	return thread == MOVER ? mover(m) : producer(m, thread);
}

static void end(struct machine *m)
{
	const struct own *o = own(m);
	unsigned lane, i;

	for (lane = 0; lane < 2; lane++)
		for (i = 0; i < o->tail[lane]; i++)
			if (o->kept[lane][i] == 0)
				machine_fail("a record is neither booked nor moved");
}

const struct machine_model moved_model = {
	.name = "moved", .threads = THREADS, .thread_names = thread_names, .location_names = location_names,
	.init = init, .step = step, .end = end,
};
