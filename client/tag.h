/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * tag.h - the tag of a thread: the names that ttalloc_tag_push() put on its stack, joined by '/'.
 *
 * A thread that never pushes has none of this. What is pushed is only noted (the thread's `tag_version` changes); the
 * next event finds its number, and defines it if the ring does not know it yet.
 */
#ifndef CLIENT_TAG_H
#define CLIENT_TAG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct ring_binding;
struct ring_lane;
struct ring_self;

/* Brings the binding's `tag` up to date; it stays as it is if the definition has to wait for another thread. */
void tag_resolve(struct ring_binding *b, struct ring_lane *l, struct ring_self *self, bool nested);
/* The tag that an event has now; its length, 0: none. Not terminated. */
size_t tag_text(const struct ring_self *self, const char **textp);
/* The thread ends. */
void tag_free(struct ring_self *self);

#endif
