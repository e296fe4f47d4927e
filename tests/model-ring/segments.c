/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * segments.c - points 1 and 2: records, segments, and their way back. A lane of two segments of two records each; the
 * producer writes nine records, so both segments are used more than twice.
 *
 * Promises: the server reads of each position what was written for it, once, in order; and no record, no entry of
 * order[] and none of freed[] is written again before the other side has read it.
 *
 * A record is one number, its position + 1. The 0 of memory that was never written is an incomplete record.
 */
#include "tests/model-ring/models.h"

#define SEGMENTS 2
#define PER_SEGMENT 2
#define RECORDS 9
#define NO_SEGMENT 255

enum { PRODUCER, SERVER };
static const char *const thread_names[] = { "producer", "server" };

enum {
	TAIL, FREED_COUNT,
	ORDER,                                     /* 2 */
	FREED = ORDER + SEGMENTS,                  /* 2 */
	RECORD = FREED + SEGMENTS,                 /* 4 */
	READ = RECORD + SEGMENTS * PER_SEGMENT,    /* how often each of those from ORDER on was read */
	LOCATIONS = READ + READ - ORDER,
};
static_assert(LOCATIONS <= MACHINE_LOCATIONS, "too many");
static const char *const location_names[] = {
	"tail", "freed_count", "order[0]", "order[1]", "freed[0]", "freed[1]",
	"record 0.0", "record 0.1", "record 1.0", "record 1.1",
};

struct own {
	/* the producer */
	uint8_t pc;
	uint8_t position;
	uint8_t segment;
	uint8_t spare[SEGMENTS];    /* a stack */
	uint8_t spares;
	uint8_t taken;              /* from freed[] */
	uint8_t freed;              /* freed_count as it was loaded */
	/* the server */
	uint8_t server_pc;
	uint8_t tail;
	uint8_t booked;
	uint8_t reading;            /* the segment */
	uint8_t given;              /* back */
	/* how often each location from ORDER on was written */
	uint8_t written[READ - ORDER];
};
static_assert(sizeof(struct own) <= MACHINE_OWN, "too large");

static struct own *own(struct machine *m)
{
	return (void *)m->own;
}

static bool is(const struct machine *m, enum segments_mutation mutation)
{
	return m->mutation == mutation;
}

static void init(struct machine *m)
{
	unsigned i;

	for (i = 0; i < READ; i++)
		machine_set(m, i, 0);
	own(m)->spares = SEGMENTS;
	for (i = 0; i < SEGMENTS; i++)
		own(m)->spare[i] = (uint8_t)i;
}

/* Writes what the other side has to have read as often as it was written before. */
static void write(struct machine *m, unsigned thread, unsigned location, unsigned value)
{
	uint8_t *written = &own(m)->written[location - ORDER];

	if (machine_known_read(m, thread, location - ORDER + READ) < *written)
		machine_fail("written again before it was read");
	(*written)++;
	machine_store(m, thread, location, (uint8_t)value, RELAXED);
}

static uint8_t read(struct machine *m, unsigned thread, unsigned location)
{
	machine_have_read(m, thread, location - ORDER + READ);
	return machine_load(m, thread, location, RELAXED);
}

/* ---- the producer ---- */

enum { NEED, LOOK, TAKE, NUMBER, WRITE, PUBLISH, LATE_ORDER };

static void publish(struct machine *m)
{
	struct own *o = own(m);

	o->position++;
	machine_store(m, PRODUCER, TAIL, o->position, is(m, SEGMENTS_TAIL_STORE_RELAXED) ? RELAXED : ORDERED);
	o->pc = o->position % PER_SEGMENT == 0 ? NEED : WRITE;
	if (o->position % PER_SEGMENT == 1 && is(m, SEGMENTS_ORDER_AFTER_TAIL))
		o->pc = LATE_ORDER;
}

static void number(struct machine *m, unsigned position)
{
	write(m, PRODUCER, ORDER + position / PER_SEGMENT % SEGMENTS, own(m)->segment);
	own(m)->pc = WRITE;
}

static bool need(struct machine *m)
{
	struct own *o = own(m);

	if (o->taken < o->freed) {
		o->spare[o->spares++] = read(m, PRODUCER, FREED + o->taken++ % SEGMENTS);
		return true;
	}
	if (o->spares > 0) {
		o->segment = o->spare[--o->spares];
		o->spare[o->spares] = 0;
		o->pc = is(m, SEGMENTS_ORDER_AFTER_TAIL) ? WRITE : NUMBER;
		return true;
	}
	o->freed = machine_load(m, PRODUCER, FREED_COUNT, is(m, SEGMENTS_FREED_LOAD_RELAXED) ? RELAXED : ORDERED);
	return true;
}

static bool producer(struct machine *m)
{
	struct own *o = own(m);

	if (o->position == RECORDS)
		return false;
	switch (o->pc) {
	case NEED:
		return need(m);
	case NUMBER:
		number(m, o->position);
		return true;
	case WRITE:
		write(m, PRODUCER, RECORD + (unsigned)o->segment * PER_SEGMENT + o->position % PER_SEGMENT,
		      o->position + 1U);
		o->pc = PUBLISH;
		return true;
	case PUBLISH:
		publish(m);
		return true;
	default:
		number(m, o->position - 1U);
		return true;
	}
}

/* ---- the server ---- */

enum { POLL, SEGMENT, EARLY_GIVE, EARLY_COUNT, BOOK, GIVE, COUNT };

static void book(struct machine *m)
{
	struct own *o = own(m);
	uint8_t record = read(m, SERVER, RECORD + (unsigned)o->reading * PER_SEGMENT + o->booked % PER_SEGMENT);

	machine_note("books position", o->booked);
	if (record != o->booked + 1)
		machine_fail("not the record of this position");
	o->booked++;
	if (o->booked % PER_SEGMENT == 0 && !is(m, SEGMENTS_FREED_BEFORE_READ))
		o->server_pc = is(m, SEGMENTS_FREED_AFTER_COUNT) ? COUNT : GIVE;
	else if (o->booked == o->tail || o->booked % PER_SEGMENT == 0)
		o->server_pc = POLL;
}

static void give(struct machine *m)
{
	struct own *o = own(m);

	write(m, SERVER, FREED + o->given % SEGMENTS, o->reading);
}

static void count(struct machine *m)
{
	struct own *o = own(m);

	o->given++;
	machine_store(m, SERVER, FREED_COUNT, o->given, is(m, SEGMENTS_FREED_STORE_RELAXED) ? RELAXED : ORDERED);
}

static void poll(struct machine *m)
{
	struct own *o = own(m);

	if (o->tail == o->booked)
		o->tail = machine_load(m, SERVER, TAIL, is(m, SEGMENTS_TAIL_LOAD_RELAXED) ? RELAXED : ORDERED);
	if (o->tail != o->booked)
		o->server_pc = o->booked % PER_SEGMENT == 0 ? SEGMENT : BOOK;
}

static bool server(struct machine *m)
{
	struct own *o = own(m);

	switch (o->server_pc) {
	case POLL:
		if (o->booked == RECORDS)
			return false;
		poll(m);
		return true;
	case SEGMENT:
		o->reading = read(m, SERVER, ORDER + o->booked / PER_SEGMENT % SEGMENTS);
		o->server_pc = is(m, SEGMENTS_FREED_BEFORE_READ) ? EARLY_GIVE : BOOK;
		return true;
	case EARLY_GIVE:
		give(m);
		o->server_pc = EARLY_COUNT;
		return true;
	case EARLY_COUNT:
		count(m);
		o->server_pc = BOOK;
		return true;
	case BOOK:
		book(m);
		return true;
	case GIVE:
		give(m);
		o->server_pc = is(m, SEGMENTS_FREED_AFTER_COUNT) ? POLL : COUNT;
		return true;
	default:
		count(m);
		o->server_pc = is(m, SEGMENTS_FREED_AFTER_COUNT) ? GIVE : POLL;
		return true;
	}
}

static bool step(struct machine *m, unsigned thread)
{
	return thread == PRODUCER ? producer(m) : server(m);
}

static void end(struct machine *m)
{
	if (own(m)->booked != RECORDS)
		machine_fail("not everything was booked");
}

const struct machine_model segments_model = {
	.name = "segments", .threads = 2, .thread_names = thread_names, .location_names = location_names,
	.init = init, .step = step, .end = end,
};
