/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * lane.c - see lane.h.
 */
#include "tracker/lane.h"

#include <errno.h>
#include <string.h>

#define AHEAD 8  /* records that are asked for before they are needed; more than that the processor sees by itself */

/* The segment in which the next record is. */
static int find_segment(struct lane *l)
{
	/* Once: it may change between the check and the use. */
	uint16_t n = __atomic_load_n(&l->memory->order[l->pos / TTALLOC_SEGMENT_RECORDS % TTALLOC_SEGMENTS],
				     __ATOMIC_RELAXED);

	if (n >= TTALLOC_SEGMENTS)
		return -EBADMSG;
	l->number = n;
	if (n >= l->touched)
		l->touched = n + 1;
	l->segment = l->memory->segment[n];
	return 0;
}

static int look(struct lane *l, uint64_t *end)
{
	uint64_t tail = atomic_load_explicit(&l->memory->tail, memory_order_acquire);

	if (tail - *end > TTALLOC_LANE_RECORDS || tail - l->pos > TTALLOC_LANE_RECORDS)
		return -EBADMSG;
	*end = tail;
	return l->segment || l->pos == tail ? 0 : find_segment(l);
}

int lane_look_first(struct lane *l)
{
	return look(l, &l->first);
}

int lane_look_second(struct lane *l)
{
	if (l->second < l->first)
		l->second = l->first;
	return look(l, &l->second);
}

void lane_age(struct lane *l, uint64_t bound)
{
	if (l->pos < l->mark)
		return;
	l->floor = l->mark_floor;
	l->mark = l->second;
	l->mark_floor = bound;
}

/* Its last record has been read. */
static void give_back(struct lane *l)
{
	l->memory->freed[l->freed % TTALLOC_SEGMENTS] = l->number;
	l->freed++;
	atomic_store_explicit(&l->memory->freed_count, l->freed, memory_order_release);
	l->segment = NULL;
}

int lane_take(struct lane *l, struct ttalloc_record *out)
{
	size_t at = l->pos % TTALLOC_SEGMENT_RECORDS;

	if (at + AHEAD < TTALLOC_SEGMENT_RECORDS)
		__builtin_prefetch(&l->segment[at + AHEAD]);
	memcpy(out, &l->segment[at], sizeof(*out));
	if (out->seq != (uint32_t)l->pos)
		return -EBADMSG;
	l->pos++;
	if (at == TTALLOC_SEGMENT_RECORDS - 1)
		give_back(l);
	return l->segment || l->pos == l->second ? 0 : find_segment(l);
}

void lane_publish(struct lane *l)
{
	if (l->head == l->pos)
		return;
	l->head = l->pos;
	atomic_store_explicit(&l->memory->head, l->head, memory_order_release);
}

uint64_t lane_newly_dropped(struct lane *l)
{
	uint64_t dropped = atomic_load_explicit(&l->memory->dropped, memory_order_relaxed);
	uint64_t more = dropped > l->dropped ? dropped - l->dropped : 0;

	/* Told little by little, so that no lie takes the sum of all over its end at once. */
	if (more > UINT32_MAX)
		more = UINT32_MAX;
	l->dropped += more;
	return more;
}
