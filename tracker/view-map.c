/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * view-map.c - a device's `map`: address ranges in use in order, and the holes between them.
 *
 * One section per type, in the order of the types, for an address means something only within one: DRAM and L1 are
 * separate memories, and circular buffers lie over L1 at addresses that other programs' circular buffers and L1
 * buffers legitimately use as well. Kernels are left out: the number they come with is an id, not an address.
 *
 * Every buffer has its `used` line, so ranges can overlap (several owners, records of ended processes). A `free` line
 * stands only where nothing of the type lies: between two ranges, and from the last one up to the capacity where that
 * is known. Nothing is said about the space before the first range, nor about a type without buffers: how much of it
 * is reserved is not known here, and calling it free would be a guess.
 */
#include <errno.h>

#include "tracker/view-part.h"
#include "tracker/view-sort.h"
#include "tracker/view.h"

#define MAPPED_TYPES (((1U << BUFFER_TYPES) - 1) & ~(1U << BUFFER_KERNEL))

static void put_line(struct textbuf *t, uint64_t start, uint64_t end, uint64_t bytes, const char *state, unsigned type)
{
	textbuf_addr(t, start);
	textbuf_putc(t, ' ');
	textbuf_addr(t, end);
	textbuf_putc(t, ' ');
	textbuf_u64(t, bytes);
	textbuf_puts(t, state);
	textbuf_puts(t, buffer_type_name(type));
	textbuf_putc(t, ' ');
}

static void put_hole(struct textbuf *t, uint64_t start, uint64_t end, unsigned type)
{
	if (start >= end)
		return;
	put_line(t, start, end, end - start, " free ", type);
	textbuf_puts(t, "-\n");
}

static void put_used(struct textbuf *t, const struct sorted_item *item, uint64_t end)
{
	put_line(t, item->address, end, item->size, " used ", item->type);
	textbuf_u64(t, item->seq);
	textbuf_putc(t, '\n');
}

static uint64_t item_end(const struct sorted_item *item)
{
	uint64_t end;

	/* An address is whatever the sender says: a range that runs past the last one ends there. */
	return __builtin_add_overflow(item->address, item->size, &end) ? UINT64_MAX : end;
}

/* The mark is the type of the section + 1 (0 = none), pos the highest end of a range in it. */
static void put_item(struct textbuf *t, struct view_cursor *c, const struct sorted_item *item)
{
	uint64_t end = item_end(item);

	if (c->mark)
		put_hole(t, c->pos, item->address, item->type);
	else
		c->pos = 0;
	c->mark = item->type + UINT64_C(1);
	put_used(t, item, end);
	if (c->pos < end)
		c->pos = end;
}

static void end_section(struct textbuf *t, struct view_cursor *c, const struct device *device)
{
	unsigned type = (unsigned)c->mark - 1;

	if (device)
		put_hole(t, c->pos, device->capacity[type], type);
	c->mark = 0;
}

int view_device_map(const struct view *v, const struct view_key *k, struct view_cursor *c, size_t want,
		    struct textbuf *t)
{
	const struct device *device = registry_device(v->registry, k->device);
	size_t start = t->len;
	int r;

	if (!c->sorted) {
		struct buffer_filter filter = BUFFER_FILTER_ALL;

		if (!device)
			return -ENOENT;
		filter.device = (int)k->device;
		r = sorted_new(&c->sorted, &filter, MAPPED_TYPES);
		if (r < 0)
			return r;
	}
	if (!c->begun) {
		r = sorted_step(c->sorted, v->registry);
		if (r)
			return r;
		c->begun = true;
		textbuf_puts(t, "# start end bytes state type seq\n");
	}
	while (t->len - start < want && !textbuf_error(t)) {
		const struct sorted_item *item = sorted_item(c->sorted);

		if (c->mark && (!item || item->type + UINT64_C(1) != c->mark))
			end_section(t, c, device);
		if (!item)
			return textbuf_error(t);
		put_item(t, c, item);
		sorted_next(c->sorted);
	}
	return textbuf_error(t) ? textbuf_error(t) : 1;
}
