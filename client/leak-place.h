/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * leak-place.h - for people: the groups of one call site and type, which differ in their tags, as one place in a program.
 * A model with a tag for each layer leaks at one place and not at a hundred. A group without a call site is a place by
 * itself.
 *
 * Pure but for memory. Places refer to the groups, and with them to the list.
 */
#ifndef CLIENT_LEAK_PLACE_H
#define CLIENT_LEAK_PLACE_H

#include "client/leak.h"

struct leak_place {
	struct leak_group all;             /* of all groups together; its key ends before the tag */
	const struct leak_group **groups;  /* those that fail first, then the largest */
	size_t count;
};

struct leak_places {
	struct leak_place *places;         /* the largest first */
	size_t count;
	const struct leak_group **groups;  /* owned: all of them */
};

/* 0 or -ENOMEM. */
int leak_places_make(struct leak_places *places, const struct leak_groups *groups);
void leak_places_free(struct leak_places *places);

#endif
