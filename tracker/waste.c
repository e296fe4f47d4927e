/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * waste.c - see waste.h.
 */
#include "tracker/waste.h"

#include <sys/mman.h>
#include <unistd.h>

/* From the front, so that there is one mapping at any time: their number is limited, too. */
static void give_back(struct waste *w, size_t end)
{
	munmap((char *)w->at + w->pos, end - w->pos);
	w->pos = end;
}

static void finish_first(struct waste_heap *h)
{
	struct waste *w = h->first;

	h->first = w->next;
	if (!h->first)
		h->last = &h->first;
	close(w->fd);
	w->gone(w);
}

static bool step(struct loop_work *work)
{
	struct waste_heap *h = loop_owner(work, struct waste_heap, work);
	uint64_t until = loop_monotonic() + WASTE_STEP_NS;

	do {
		struct waste *w = h->first;

		give_back(w, w->piece_end(w, w->pos));
		if (w->pos == w->size)
			finish_first(h);
	} while (h->first && loop_monotonic() < until);
	return h->first;
}

void waste_init(struct waste_heap *h, struct loop *loop)
{
	*h = (struct waste_heap){ .loop = loop, .work.step = step };
	h->last = &h->first;
}

void waste_add(struct waste_heap *h, struct waste *w)
{
	w->pos = 0;
	w->next = NULL;
	*h->last = w;
	h->last = &w->next;
	loop_work_add(h->loop, &h->work);
}

void waste_deinit(struct waste_heap *h)
{
	if (!h->loop)
		return;
	loop_work_cancel(h->loop, &h->work);
	while (h->first) {
		give_back(h->first, h->first->size);
		finish_first(h);
	}
}
