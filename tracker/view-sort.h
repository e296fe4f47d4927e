/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * view-sort.h - buffers in the order of (device, type, address, seq), collected and sorted in bounded steps.
 *
 * The registry has no order by address, and a listing that needs one cannot stop the server while it sorts millions
 * of buffers. So the matching buffers are copied, some per step, then the copies are sorted, some per step, and then
 * they are handed out one by one, giving their memory back on the way.
 *
 * What is handed out is what was copied: sums agree with items although events keep coming meanwhile. A copy names its
 * owner by slot and serial, so that it shows when the slot has been given to another process since.
 *
 * Pure. The caller owns what sorted_new() made and frees it. A copy is 48 bytes; sorting needs 1 MiB more, at most.
 */
#ifndef TRACKER_VIEW_SORT_H
#define TRACKER_VIEW_SORT_H

#include <stddef.h>
#include <stdint.h>

#include "tracker/registry.h"

/* What one step does at most, beside looking at VIEW_STEP chunks: about a tenth of a millisecond. */
#define SORTED_STEP 4096  /* buffers copied or moved */

struct sorted;

struct sorted_item {
	uint64_t address;
	uint64_t size;
	uint64_t seq;
	uint64_t time;
	uint32_t process;       /* slot of the owner, */
	uint32_t serial;        /* whose serial was this */
	uint32_t refs;
	uint16_t device;
	uint8_t type;
	uint8_t kernel_class;
};

struct sorted_sum {
	uint64_t count;
	uint64_t bytes;
};

/* Will collect the buffers that match and whose type is in `types` (bit mask of enum buffer_type). 0 or -ENOMEM. */
int sorted_new(struct sorted **sp, const struct buffer_filter *filter, unsigned types);
/* NULL is allowed. */
void sorted_free(struct sorted *s);

/* One step of collecting or sorting. 1 = call again, 0 = in order, -ENOMEM. */
int sorted_step(struct sorted *s, const struct registry *reg);

/* Once in order: the current item, and the one behind it; NULL when there is none. Valid until sorted_next(). */
const struct sorted_item *sorted_item(const struct sorted *s);
const struct sorted_item *sorted_peek(const struct sorted *s);
void sorted_next(struct sorted *s);

/* Of everything that was collected. */
struct sorted_sum sorted_sum(const struct sorted *s, unsigned device, unsigned type);
struct sorted_sum sorted_sum_device(const struct sorted *s, unsigned device);
uint64_t sorted_count(const struct sorted *s);

/* NULL when the item's owner is not known any more. */
const struct process *sorted_owner(const struct sorted_item *item, const struct registry *reg);

#endif
