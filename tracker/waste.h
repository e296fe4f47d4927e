/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * waste.h - memory shared with a client that is not needed any more, given back piece by piece.
 *
 * munmap() takes about 0.2 us for each page that was touched, so the 4 GiB of a ring that was full are a fifth of a
 * second, in which nobody is answered. Here it is a work of the loop: pieces of 1 MiB for 150 us per turn, one memory
 * after the other, however many wait.
 *
 * Left is the close(): when the client is gone, the kernel frees the pages in that one call, some 45 ms per GiB.
 *
 * What stands in the memory stays as it is. The client may still be reading it, to learn what was not booked, and there
 * is no telling when it stops. Punching holes would be no way even then: it waits for the inode's lock, which whoever
 * has the descriptor can hold for as long as a fallocate() of his takes.
 *
 * Owns mapping and descriptor from waste_add() on. Embedded: struct waste in what owns the memory, which must stay until
 * `gone` is called. How many may wait is the owners' business.
 */
#ifndef TRACKER_WASTE_H
#define TRACKER_WASTE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tracker/loop.h"

#define WASTE_PIECE (UINT64_C(1) << 20)
#define WASTE_STEP_NS UINT64_C(150000)  /* no further piece is begun in a turn after this time */

struct waste {
	void *at;
	size_t size;
	int fd;
	/* The end of a piece that begins at `pos`: no more than WASTE_PIECE bytes of it were ever touched by us. */
	size_t (*piece_end)(struct waste *w, size_t pos);
	/* It is given back; may free the struct. */
	void (*gone)(struct waste *w);
	size_t pos;          /* internal: what is before it is given back */
	struct waste *next;  /* internal */
};

struct waste_heap {
	struct loop *loop;
	struct loop_work work;
	struct waste *first;
	struct waste **last;
};

void waste_init(struct waste_heap *h, struct loop *loop);
/* Gives back all that waits, at once. */
void waste_deinit(struct waste_heap *h);
/* Everything above "internal" is set. */
void waste_add(struct waste_heap *h, struct waste *w);

#endif
