/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * backlog.c - see backlog.h.
 */
#include <sys/mman.h>

#include "client/backlog.h"
#include "client/ttalloc.h"

#define BYTES (TTALLOC_QUEUE_EVENTS * sizeof(struct ttalloc_msg_head))
/* A server that is merely busy makes the backlog come and go with few messages: up to this many the memory is kept. */
#define KEEP 1024

static_assert((TTALLOC_QUEUE_EVENTS & (TTALLOC_QUEUE_EVENTS - 1)) == 0, "positions wrap by masking");

void backlog_deinit(struct backlog *b)
{
	void *slots = b->slots;

	/* Forgotten first: a child that is forked in between must not unmap what may be somebody else's by then. */
	*b = (struct backlog){ 0 };
	if (slots)
		munmap(slots, BYTES);
}

static bool backlog_map(struct backlog *b)
{
	void *p;

	p = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p == MAP_FAILED)
		return false;
	b->slots = p;
	return true;
}

bool backlog_push(struct backlog *b, const struct ttalloc_msg_head *m)
{
	if (b->count == TTALLOC_QUEUE_EVENTS || (!b->slots && !backlog_map(b)))
		return false;
	b->slots[(b->first + b->count) & (TTALLOC_QUEUE_EVENTS - 1)] = *m;
	b->count++;
	if (b->count > b->highest)
		b->highest = b->count;
	return true;
}

const struct ttalloc_msg_head *backlog_at(const struct backlog *b, size_t i)
{
	return &b->slots[(b->first + i) & (TTALLOC_QUEUE_EVENTS - 1)];
}

void backlog_pop(struct backlog *b, size_t n)
{
	b->first = (b->first + n) & (TTALLOC_QUEUE_EVENTS - 1);
	b->count -= n;
	if (b->count > 0)
		return;
	if (b->highest > KEEP) {
		backlog_deinit(b);
	} else {
		b->first = 0;
		b->highest = 0;
	}
}
