/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * backlog.h - a bounded queue of messages that could not be sent yet, in order.
 *
 * Holds heads only (40 bytes): the rest of what a client sends is zeros. The memory is mapped at the first push, so
 * a program whose server is there pays nothing, and is given back when a large backlog has been delivered.
 *
 * Embedded by its owner (struct uplink), who locks. An all-zero struct is an empty backlog.
 */
#ifndef CLIENT_BACKLOG_H
#define CLIENT_BACKLOG_H

#include <stdbool.h>
#include <stddef.h>

#include "client/ttalloc-proto.h"

struct backlog {
	struct ttalloc_msg_head *slots;  /* NULL until needed */
	size_t first;
	size_t count;
	size_t highest;                  /* largest count since it was last empty */
};

/* Forgets everything and gives the memory back; the backlog can be used again. */
void backlog_deinit(struct backlog *b);
/* Adds a copy of *m at the end. False: full, or no memory. */
bool backlog_push(struct backlog *b, const struct ttalloc_msg_head *m);
/* The i-th message from the front; i < count. */
const struct ttalloc_msg_head *backlog_at(const struct backlog *b, size_t i);
/* Removes n <= count messages from the front. */
void backlog_pop(struct backlog *b, size_t n);

#endif
