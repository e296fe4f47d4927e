/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * view-sort.c - collecting and sorting buffers in bounded steps; the contract is in view-sort.h.
 *
 * Copies stand in a list of slabs of one page. They are sorted by a radix sort from the least significant byte on:
 * each pass deals the copies out to 256 lists by one byte of the key and then strings the lists together. That
 * can be interrupted after any copy, needs no second array (a slab that was dealt out is used again at once), and
 * has no worst case that somebody could provoke with chosen addresses. Bytes in which all copies agree need no pass;
 * of the 18 of the key usually 6 to 10 are left.
 */
#include "tracker/view-sort.h"

#include <errno.h>
#include <stdlib.h>

#include "tracker/view.h"

#define SLAB_ITEMS 84
#define BUCKETS 256

struct slab {
	struct slab *next;
	uint32_t n;
	struct sorted_item item[SLAB_ITEMS];
};

struct list {
	struct slab *first;
	struct slab *last;
};

/* The key, least significant part first. `place` is the device and the type. */
enum key_part { KEY_SEQ, KEY_ADDRESS, KEY_PLACE, KEY_PARTS };

enum stage { COLLECTING, SORTING, IN_ORDER };

struct sorted {
	struct buffer_filter filter;
	unsigned types;
	enum stage stage;
	uint64_t pos;                      /* collecting: the slot reached */
	uint64_t all_or[KEY_PARTS];        /* bits set in any copy, */
	uint64_t all_and[KEY_PARTS];       /* and in all: equal where all copies agree */
	unsigned byte;                     /* sorting: the byte of the key this pass looks at */
	struct list list;                  /* copies not dealt out yet, or in order */
	uint32_t at;                       /* in list.first: the first copy not dealt out, or the current one */
	struct list bucket[BUCKETS];
	struct slab *spare;
	uint64_t count;
	struct sorted_sum *sum[DEVICE_MAX]; /* BUFFER_TYPES each; NULL where there is nothing */
};

/* ---- slabs ---- */

static void free_slabs(struct slab *slab)
{
	while (slab) {
		struct slab *next = slab->next;

		free(slab);
		slab = next;
	}
}

/* Room for one more item at the end of the list. */
static struct sorted_item *list_room(struct sorted *s, struct list *list)
{
	struct slab *slab = list->last;

	if (slab && slab->n < SLAB_ITEMS)
		return &slab->item[slab->n++];
	slab = s->spare;
	if (slab)
		s->spare = slab->next;
	else
		slab = malloc(sizeof(*slab));
	if (!slab)
		return NULL;
	slab->next = NULL;
	slab->n = 1;
	if (list->last)
		list->last->next = slab;
	else
		list->first = slab;
	list->last = slab;
	return &slab->item[0];
}

/* The first slab was used up. */
static struct slab *list_shift(struct list *list)
{
	struct slab *slab = list->first;

	list->first = slab->next;
	if (!list->first)
		list->last = NULL;
	return slab;
}

static void list_append(struct list *to, struct list *from)
{
	if (!from->first)
		return;
	if (to->last)
		to->last->next = from->first;
	else
		to->first = from->first;
	to->last = from->last;
	*from = (struct list){ 0 };
}

/* ---- the key ---- */

static inline uint64_t key_part(const struct sorted_item *item, unsigned part)
{
	switch (part) {
	case KEY_SEQ:
		return item->seq;
	case KEY_ADDRESS:
		return item->address;
	default:
		return (uint64_t)item->device << 8 | item->type;
	}
}

/* The next byte at or after s->byte in which the copies differ; KEY_PARTS * 8 when there is none left. */
static unsigned next_byte(const struct sorted *s)
{
	unsigned byte = s->byte;

	while (byte < KEY_PARTS * 8 &&
	       !((s->all_or[byte / 8] ^ s->all_and[byte / 8]) >> (byte % 8 * 8) & 0xff))
		byte++;
	return byte;
}

/* ---- collecting ---- */

static int count_item(struct sorted *s, const struct sorted_item *item)
{
	struct sorted_sum **sum = &s->sum[item->device];

	if (!*sum) {
		*sum = calloc(BUFFER_TYPES, sizeof(**sum));
		if (!*sum)
			return -ENOMEM;
	}
	(*sum)[item->type].count++;
	(*sum)[item->type].bytes += item->size;
	s->count++;
	for (unsigned part = 0; part < KEY_PARTS; part++) {
		uint64_t key = key_part(item, part);

		s->all_or[part] |= key;
		s->all_and[part] &= key;
	}
	return 0;
}

static int collect(struct sorted *s, const struct buffer *b, uint32_t serial)
{
	struct sorted_item *item = list_room(s, &s->list);

	if (!item)
		return -ENOMEM;
	*item = (struct sorted_item){
		.address = b->address,
		.size = b->size,
		.seq = b->seq,
		.time = b->time,
		.process = b->process,
		.serial = serial,
		.refs = b->refs,
		.device = b->device,
		.type = b->type,
		.kernel_class = b->kernel_class,
	};
	return count_item(s, item);
}

/* 1 = more to do, 0 = all collected, -ENOMEM. */
static int collect_step(struct sorted *s, const struct registry *reg, unsigned *budget)
{
	unsigned chunks = VIEW_STEP;
	struct buffer b;

	while (*budget) {
		const struct process *owner;
		int r = registry_next(reg, &s->filter, &s->pos, &chunks, &b);

		if (r == 0)
			return 0;
		if (r < 0)
			return 1;
		(*budget)--;
		if (!(s->types >> b.type & 1))
			continue;
		owner = registry_process(reg, b.process);
		r = collect(s, &b, owner ? owner->serial : 0);
		if (r < 0)
			return r;
	}
	return 1;
}

/* ---- sorting ---- */

static void begin_pass(struct sorted *s)
{
	s->byte = next_byte(s);
	s->at = 0;
	if (s->byte < KEY_PARTS * 8)
		return;
	s->stage = IN_ORDER;
	free_slabs(s->spare);
	s->spare = NULL;
}

/* 1 = budget used up, 0 = this pass is through, -ENOMEM. */
static int deal_out(struct sorted *s, unsigned *budget)
{
	unsigned part = s->byte / 8;
	unsigned shift = s->byte % 8 * 8;

	while (s->list.first) {
		struct slab *slab = s->list.first;

		for (; s->at < slab->n; s->at++, (*budget)--) {
			const struct sorted_item *item = &slab->item[s->at];
			struct sorted_item *room;

			if (!*budget)
				return 1;
			room = list_room(s, &s->bucket[key_part(item, part) >> shift & 0xff]);
			if (!room)
				return -ENOMEM;
			*room = *item;
		}
		list_shift(&s->list);
		slab->next = s->spare;
		s->spare = slab;
		s->at = 0;
	}
	return 0;
}

static int sort_step(struct sorted *s, unsigned *budget)
{
	while (s->stage == SORTING) {
		int r = deal_out(s, budget);

		if (r)
			return r;
		for (unsigned i = 0; i < BUCKETS; i++)
			list_append(&s->list, &s->bucket[i]);
		s->byte++;
		begin_pass(s);
	}
	return 0;
}

/* ---- the outside ---- */

int sorted_new(struct sorted **sp, const struct buffer_filter *filter, unsigned types)
{
	struct sorted *s = calloc(1, sizeof(*s));

	if (!s)
		return -ENOMEM;
	s->filter = *filter;
	s->types = types;
	for (unsigned part = 0; part < KEY_PARTS; part++)
		s->all_and[part] = UINT64_MAX;
	*sp = s;
	return 0;
}

void sorted_free(struct sorted *s)
{
	if (!s)
		return;
	free_slabs(s->list.first);
	free_slabs(s->spare);
	for (unsigned i = 0; i < BUCKETS; i++)
		free_slabs(s->bucket[i].first);
	for (unsigned i = 0; i < DEVICE_MAX; i++)
		free(s->sum[i]);
	free(s);
}

int sorted_step(struct sorted *s, const struct registry *reg)
{
	unsigned budget = SORTED_STEP;
	int r;

	if (s->stage == COLLECTING) {
		r = collect_step(s, reg, &budget);
		if (r)
			return r;
		s->stage = SORTING;
		if (s->count)
			begin_pass(s);
		else
			s->stage = IN_ORDER;
	}
	if (s->stage == SORTING) {
		r = sort_step(s, &budget);
		if (r)
			return r;
	}
	return 0;
}

const struct sorted_item *sorted_item(const struct sorted *s)
{
	return s->list.first ? &s->list.first->item[s->at] : NULL;
}

const struct sorted_item *sorted_peek(const struct sorted *s)
{
	const struct slab *slab = s->list.first;

	if (!slab)
		return NULL;
	if (s->at + 1 < slab->n)
		return &slab->item[s->at + 1];
	return slab->next ? &slab->next->item[0] : NULL;
}

void sorted_next(struct sorted *s)
{
	if (!s->list.first || ++s->at < s->list.first->n)
		return;
	free(list_shift(&s->list));
	s->at = 0;
}

struct sorted_sum sorted_sum(const struct sorted *s, unsigned device, unsigned type)
{
	return s->sum[device] ? s->sum[device][type] : (struct sorted_sum){ 0 };
}

struct sorted_sum sorted_sum_device(const struct sorted *s, unsigned device)
{
	struct sorted_sum all = { 0 };

	for (unsigned type = 0; type < BUFFER_TYPES; type++) {
		struct sorted_sum sum = sorted_sum(s, device, type);

		all.count += sum.count;
		all.bytes += sum.bytes;
	}
	return all;
}

uint64_t sorted_count(const struct sorted *s)
{
	return s->count;
}

const struct process *sorted_owner(const struct sorted_item *item, const struct registry *reg)
{
	const struct process *owner = registry_process(reg, item->process);

	return owner && owner->serial == item->serial ? owner : NULL;
}
