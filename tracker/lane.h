/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * lane.h - the consumer's end of one lane of a ring (client/ttalloc-ring.h).
 *
 * What stands in the lane is another process's word: nothing of it is believed, and a record is copied before it is
 * looked at. Positions that are kept here are never read back from there.
 *
 * Pure: works on memory that it is given. Embedded by its owner; an all-zero struct with `memory` set is a new lane.
 */
#ifndef TRACKER_LANE_H
#define TRACKER_LANE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "client/ttalloc-ring.h"

struct lane {
	struct ttalloc_lane *memory;
	const struct ttalloc_record *segment;  /* of `pos`; NULL: not looked up yet */
	uint64_t pos;       /* of the next record to take */
	uint64_t first;     /* end of what the first look found published */
	uint64_t second;    /* end of what the second look found; >= first */
	uint64_t head;      /* as published */
	uint64_t freed;     /* segments given back */
	uint64_t dropped;   /* as told so far */
	uint64_t floor;     /* no record from here on was published before the counter was this; see lane_age() */
	uint64_t mark;      /* nor one from this position on before it was mark_floor */
	uint64_t mark_floor;
	uint16_t number;    /* of the segment */
	uint16_t touched;   /* segments from this one on were never looked at */
};

/* The two looks of client/ttalloc-ring.h, point 6. 0, or -EBADMSG: the producer lies about its position. */
int lane_look_first(struct lane *l);
int lane_look_second(struct lane *l);

/* After both looks, between which the counter was `bound`: remembers from where on records are newer than that. */
void lane_age(struct lane *l, uint64_t bound);

/* Whether a record is there that may be booked when the counter between the looks was `bound`, and its stamp. One with
 * that very stamp may have been made after the reading. A stamp that cannot be true is raised: nobody gets in front of
 * the others for ever by telling old ones. What happened before the record was there in the look that did not find
 * it, or has a stamp that is no later than that of the record, so raising leaves their order as it is. */
static inline bool lane_peek(const struct lane *l, uint64_t bound, uint64_t *stamp)
{
	if (l->pos == l->second)
		return false;
	/* The segment is known: lane_look_second() and lane_take() see to that. */
	*stamp = l->segment[l->pos % TTALLOC_SEGMENT_RECORDS].stamp;
	if (*stamp < l->floor)
		*stamp = l->floor;
	return l->pos < l->first || *stamp < bound;
}

/* Takes the next record; there is one (pos < second). A segment that was read to its end is given back. 0, or -EBADMSG:
 * it is not what should stand there. */
int lane_take(struct lane *l, struct ttalloc_record *out);

/* Tells the producer how far its records are booked. */
void lane_publish(struct lane *l);

/* Events that the producer dropped since this was last asked. */
uint64_t lane_newly_dropped(struct lane *l);

#endif
