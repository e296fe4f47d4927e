/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * machine.h - a small machine whose memory is out of order, and a search through everything that can happen on it.
 *
 * A model is a handful of threads, each a function that does one step: at most one access to memory, and what the
 * thread does with it. machine_explore() runs all steps in all orders, and tells whether one of them reached
 * machine_fail(). Two kinds of memory:
 *
 *  TSO    x86: a store waits in its thread's queue, in order, and the thread itself sees it; it gets into memory at any
 *         later time. Loads are in order.
 *  WEAK   acquire and release as C11 has them, and nothing else (no load sees a store of the future): a load may see
 *         any store not older than those that happened before it. A release store takes along all that its thread
 *         knew; a relaxed one only itself. This allows more than ARM does, apart from a store that overtakes an
 *         earlier load; machine_have_read() and machine_overwrite() watch over those.
 *
 * The processor's counter is one for all threads, as machine_ticks() says.
 *
 * A machine is plain bytes without padding; equal states are equal bytes. The search remembers only 128 bits of each.
 */
#ifndef TESTS_MODEL_RING_MACHINE_H
#define TESTS_MODEL_RING_MACHINE_H

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MACHINE_THREADS 4
#define MACHINE_LOCATIONS 20
#define MACHINE_STORES 12   /* to one location, the initial one included */
#define MACHINE_QUEUE 12    /* stores of one thread that wait */
#define MACHINE_OWN 160     /* bytes of the model's own */

enum machine_kind { MACHINE_TSO, MACHINE_WEAK };

/* relaxed; a load with acquire, or a store with release */
enum machine_order { RELAXED, ORDERED };

/* How a read of the counter is held among its neighbours. */
enum machine_ticks {
	TICKS_ANYWHERE,  /* not: it may be as early as the one before it of the same thread */
	TICKS_AFTER,     /* after the loads before it */
	TICKS_BETWEEN,   /* and before the loads after it */
};

typedef uint8_t machine_view[MACHINE_LOCATIONS];  /* the newest store known, of each location */

struct machine_queue {
	uint8_t count;
	uint8_t location[MACHINE_QUEUE];
	uint8_t value[MACHINE_QUEUE];
};

struct machine {
	uint8_t kind;
	uint8_t mutation;          /* what is wrong in this model; 0 = nothing */
	uint8_t pending;           /* threads in which a membarrier() has yet to act */
	uint8_t clock;             /* even; by 2 with each read of the counter */
	uint8_t early[MACHINE_THREADS];          /* the newest reading of each thread */
	uint8_t own[MACHINE_OWN];                /* of the model: the threads' registers, and what it watches */
	/* TSO */
	uint8_t memory[MACHINE_LOCATIONS];
	struct machine_queue queue[MACHINE_THREADS];
	/* WEAK */
	uint8_t stores[MACHINE_LOCATIONS];
	uint8_t value[MACHINE_LOCATIONS][MACHINE_STORES];
	machine_view view[MACHINE_LOCATIONS][MACHINE_STORES];  /* what each store takes along */
	machine_view known[MACHINE_THREADS];
	machine_view seen[MACHINE_THREADS];      /* known without its own stores that may not be visible to others yet */
	machine_view fenced;                     /* what was known at the newest full fence */
	machine_view visible;                    /* what had been seen by anyone when he read the counter */
};

struct machine_model {
	const char *name;
	unsigned threads;
	const char *const *thread_names;
	const char *const *location_names;
	void (*init)(struct machine *m);
	/* false: the thread has ended or has to wait; what was done is void */
	bool (*step)(struct machine *m, unsigned thread);
	/* in a state in which nothing can happen any more */
	void (*end)(struct machine *m);
};

struct machine_result {
	const char *failure;       /* NULL: none found */
	unsigned long states;
	unsigned long ends;        /* of them, where nothing can happen any more */
	unsigned long cut;         /* steps not followed: MACHINE_STORES were not enough */
	unsigned steps;            /* of the run that failed */
};

void machine_explore(const struct machine_model *model, enum machine_kind kind, uint8_t mutation,
		     struct machine_result *result);
/* Prints the run in which the newest machine_explore() failed. */
void machine_print_failure(const struct machine_model *model);

/* ---- for steps ---- */

void machine_set(struct machine *m, unsigned location, uint8_t value);  /* before anything runs */
uint8_t machine_load(struct machine *m, unsigned thread, unsigned location, enum machine_order order);
void machine_store(struct machine *m, unsigned thread, unsigned location, uint8_t value, enum machine_order order);
/* value = (value & keep | set) + add, at once, with acquire and release; returns the old value */
uint8_t machine_modify(struct machine *m, unsigned thread, unsigned location, uint8_t keep, uint8_t set, uint8_t add);
void machine_fence(struct machine *m, unsigned thread);
/* membarrier(): between begin and end a full fence is executed in all threads. A step each; end may have to wait. */
void machine_barrier_begin(struct machine *m, unsigned thread, unsigned threads);
bool machine_barrier_end(struct machine *m, unsigned thread);
uint8_t machine_ticks(struct machine *m, unsigned thread, enum machine_ticks how);

/* A location that is only watched: the thread has read something (again); how often that is known to a thread to have
 * been done before its next access. */
void machine_have_read(struct machine *m, unsigned thread, unsigned location);
uint8_t machine_known_read(const struct machine *m, unsigned thread, unsigned location);

/* 0..count-1: the search takes all. */
unsigned machine_choose(unsigned count);
void machine_note(const char *what, unsigned value);  /* for the print */
void machine_fail(const char *what);

#endif
