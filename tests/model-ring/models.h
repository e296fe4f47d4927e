/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * models.h - the protocols of client/ttalloc-ring.h as models for machine.h, one per point of its comment, and for each
 * the mistakes that the search has to find. What each model promises is said in its file.
 */
#ifndef TESTS_MODEL_RING_MODELS_H
#define TESTS_MODEL_RING_MODELS_H

#include "tests/model-ring/machine.h"

/* Mutation 0 of each model is the protocol as it is. */

extern const struct machine_model segments_model;  /* points 1 and 2 */
enum segments_mutation {
	SEGMENTS_TAIL_STORE_RELAXED = 1,
	SEGMENTS_TAIL_LOAD_RELAXED,
	SEGMENTS_FREED_STORE_RELAXED,
	SEGMENTS_FREED_LOAD_RELAXED,
	SEGMENTS_FREED_BEFORE_READ,
	SEGMENTS_ORDER_AFTER_TAIL,
	SEGMENTS_FREED_AFTER_COUNT,
};

extern const struct machine_model wake_model;      /* point 3 */
enum wake_mutation {
	WAKE_NO_MEMBARRIER = 1,
	WAKE_LOOK_BEFORE_SET,
	WAKE_LANES_BEFORE_SET,
	WAKE_TAIL_AFTER_LOAD,
	WAKE_CLEARED_BEFORE_WRITE,
	WAKE_CLEARED_AFTER_WRITE,
	WAKE_DROPPED_AT_SLEEP,
	WAKE_NOT_ASKED,
};

extern const struct machine_model moved_model;     /* point 4 */
enum moved_mutation {
	MOVED_NO_MEMBARRIER = 1,
	MOVED_NOT_REMEMBERED,
	MOVED_SERVER_READS_ON,
	MOVED_HEAD_AFTER_CLOSE,
};

/* Points 5 and 6. */
extern const struct machine_model stamps_pair_model;      /* a thread alone, then a second one */
extern const struct machine_model stamps_chain_model;     /* through a third thread */
extern const struct machine_model stamps_lanes_model;     /* one thread, two lanes */
extern const struct machine_model stamps_liar_model;      /* a client that writes any stamp */
extern const struct machine_model stamps_sleeper_model;   /* from a ring that sleeps to one that does not */
extern const struct machine_model stamps_sleeping_liar_model;
enum stamps_mutation {
	STAMPS_NOT_HELD = 1,
	STAMPS_MANY_LATE,
	STAMPS_ONE_LOOK,
	STAMPS_COUNTER_FIRST,
	STAMPS_COUNTER_LAST,
	STAMPS_NO_BOUND,
	STAMPS_FIRST_BOUND,
	STAMPS_LOOK_NOT_HELD,
	STAMPS_LANES_ONCE,
	STAMPS_NO_FENCE,
	STAMPS_CLOCK_STANDS,
	STAMPS_RAISED_EARLY,
	STAMPS_SLEEPERS_ONCE,
	STAMPS_SLEEPERS_LATE,
};

#endif
