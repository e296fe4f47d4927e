/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * leak-place.c - see leak-place.h. In the list the groups of a place are neighbours: its order is by site and type first.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "client/leak-place.h"

#define COMPARE(a, b) ((a) < (b) ? -1 : (a) > (b))

static int compare_in_list(const void *left, const void *right)
{
	const struct leak_group *const *a = left, *const *b = right;

	return COMPARE((*a)->first, (*b)->first);
}

static int compare_in_place(const void *left, const void *right)
{
	const struct leak_group *const *a = left, *const *b = right;
	int r = COMPARE((*b)->fails, (*a)->fails);

	if (r == 0)
		r = COMPARE((*b)->bytes, (*a)->bytes);
	return r ? r : strcmp((*a)->key, (*b)->key);
}

static int compare_places(const void *left, const void *right)
{
	const struct leak_place *a = left, *b = right;
	int r = COMPARE(b->all.bytes, a->all.bytes);

	return r ? r : strcmp(a->all.key, b->all.key);
}

static bool same_place(const struct leak *a, const struct leak *b)
{
	return strcmp(a->site, LEAK_NO_SITE) != 0 && strcmp(a->site, b->site) == 0 && strcmp(a->type, b->type) == 0;
}

/* The sums over its groups, and what these have in common: a rule that names only some of them does not name the place. */
static int fill(struct leak_place *p)
{
	const struct leak_group *first = p->groups[0], *last = p->groups[p->count - 1];
	const size_t n = (size_t)(last->first + last->list_count - first->first);
	size_t i;
	int r = leak_group_make(&p->all, first->first, n, p->count == 1);

	if (r < 0)
		return r;
	p->all.stack = first->stack;
	p->all.known = first->known;
	p->all.fails = false;
	for (i = 0; i < p->count; i++) {
		p->all.fails |= p->groups[i]->fails;
		if (p->groups[i]->known != first->known)
			p->all.known = NULL;
	}
	qsort(p->groups, p->count, sizeof(struct leak_group *), compare_in_place);
	return 0;
}

static int make(struct leak_places *places, size_t n)
{
	struct leak_place *p;
	size_t i, end;
	int r;

	qsort(places->groups, n, sizeof(struct leak_group *), compare_in_list);
	for (i = 0; i < n; i = end) {
		for (end = i + 1; end < n && same_place(places->groups[i]->first, places->groups[end]->first); end++)
			;
		p = &places->places[places->count++];
		*p = (struct leak_place){ .groups = places->groups + i, .count = end - i };
		r = fill(p);
		if (r < 0)
			return r;
	}
	qsort(places->places, places->count, sizeof(struct leak_place), compare_places);
	return 0;
}

int leak_places_make(struct leak_places *places, const struct leak_groups *groups)
{
	size_t i;
	int r;

	*places = (struct leak_places){
		.places = calloc(groups->count + 1, sizeof(struct leak_place)),
		.groups = calloc(groups->count + 1, sizeof(struct leak_group *)),
	};
	for (i = 0; places->groups && i < groups->count; i++)
		places->groups[i] = &groups->groups[i];
	r = places->places && places->groups ? make(places, groups->count) : -ENOMEM;
	if (r < 0)
		leak_places_free(places);
	return r;
}

void leak_places_free(struct leak_places *places)
{
	size_t i;

	for (i = 0; i < places->count; i++)
		free(places->places[i].all.key);
	free(places->places);
	free(places->groups);
	*places = (struct leak_places){ 0 };
}
