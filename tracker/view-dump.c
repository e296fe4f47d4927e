/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * view-dump.c - the report that `dump` freezes: every buffer, sorted by device, type and address.
 *
 * For human eyes first, in the shape of the reports that people know from the existing servers, but complete: they
 * leave out the buffers of any type that has more than ten. The sums are those of the buffers listed.
 *
 * MB is 1 000 000 bytes, written with as many of six decimals as it takes to be exact, two at least; KB is 1024,
 * with one decimal, and less than one KB is written in bytes. Ages count from the report's own time, the title's.
 */
#include <errno.h>

#include "tracker/view-part.h"
#include "tracker/view-sort.h"
#include "tracker/view.h"

/* A line of history costs a look into the registry, so a call writes a limited number of buffers. */
#define DUMP_STEP 1024
#define DUMP_HISTORY 5

static const char *const type_titles[BUFFER_TYPES] = {
	[BUFFER_DRAM] = "DRAM",
	[BUFFER_L1] = "L1",
	[BUFFER_SYSTEM_MEMORY] = "SYSTEM_MEMORY",
	[BUFFER_L1_SMALL] = "L1_SMALL",
	[BUFFER_TRACE] = "TRACE",
	[BUFFER_CB] = "CB",
	[BUFFER_KERNEL] = "KERNEL",
};

/* "2 buffers, 0.036864 MB" */
static void put_sum(struct textbuf *t, struct sorted_sum sum)
{
	uint64_t micros = sum.bytes % 1000000;
	unsigned decimals = 6;

	for (; decimals > 2 && micros % 10 == 0; decimals--)
		micros /= 10;
	textbuf_u64(t, sum.count);
	textbuf_puts(t, sum.count == 1 ? " buffer, " : " buffers, ");
	textbuf_u64(t, sum.bytes / 1000000);
	textbuf_printf(t, ".%0*llu MB", (int)decimals, (unsigned long long)micros);
}

static void put_size(struct textbuf *t, uint64_t bytes)
{
	uint64_t tenths = (bytes * 10 + 512) / 1024;

	if (bytes < 1024) {
		textbuf_u64(t, bytes);
		textbuf_puts(t, " B");
		return;
	}
	textbuf_u64(t, tenths / 10);
	textbuf_putc(t, '.');
	textbuf_putc(t, (char)('0' + tenths % 10));
	textbuf_puts(t, " KB");
}

static void put_buffer(const struct view *v, const struct sorted_item *item, uint64_t now, struct textbuf *t)
{
	const struct process *owner = sorted_owner(item, v->registry);

	textbuf_puts(t, "    - Buffer ");
	textbuf_addr(t, item->address);
	textbuf_puts(t, ": ");
	put_size(t, item->size);
	textbuf_puts(t, " (PID ");
	view_put_pid(t, owner ? owner->pid : 0);
	textbuf_putc(t, ' ');
	view_put_comm(t, owner);
	textbuf_puts(t, ", ref_count=");
	textbuf_u64(t, item->refs);
	if (item->type == BUFFER_KERNEL) {
		textbuf_puts(t, ", ");
		textbuf_puts(t, view_class_name(item->kernel_class));
	}
	textbuf_putc(t, ')');
	if (item->time) {
		textbuf_puts(t, "  allocated ");
		view_put_age(t, now, item->time);
		textbuf_puts(t, " s ago");
	}
	if (!owner || owner->ended)
		textbuf_puts(t, "  owner ended");
	textbuf_putc(t, '\n');
}

/* Nothing for an address that has seen one ALLOC and nothing else. */
static void put_past(const struct view *v, const struct sorted_item *item, struct textbuf *t)
{
	struct history_line line[DUMP_HISTORY + 1];
	struct history_summary summary = { 0 };
	ssize_t lines = registry_history(v->registry, item->device, item->type, item->address, &summary, line,
					 DUMP_HISTORY + 1);
	size_t n = lines < 0 ? 0 : (size_t)lines;
	bool more = n > DUMP_HISTORY;

	if (lines < 0)
		t->error = (int)lines;
	if (n < 2 && summary.allocs < 2 && !summary.frees)
		return;
	textbuf_printf(t, "        History (allocs=%llu frees=%llu): ", (unsigned long long)summary.allocs,
		       (unsigned long long)summary.frees);
	if (more)
		textbuf_puts(t, "..., ");
	for (size_t i = more; i < n; i++) {
		if (i > more)
			textbuf_puts(t, ", ");
		view_put_history(t, &line[i]);
	}
	textbuf_putc(t, '\n');
}

static void put_title(const struct view *v, const struct view_cursor *c, struct textbuf *t)
{
	textbuf_puts(t, "REMAINING ALLOCATED BUFFERS  ");
	view_put_utc(t, c->pos);
	textbuf_puts(t, "  ttalloc ");
	textbuf_puts(t, v->server->version);
	textbuf_puts(t, "\n\n");
	if (!sorted_count(c->sorted))
		textbuf_puts(t, "No buffers remaining: nothing is held on any device.\n\n");
}

/* The mark is the place of the group being written: (device * 8 + type) + 1, 0 = none. */
static uint64_t place_mark(unsigned device, unsigned type)
{
	return ((uint64_t)device << 3 | type) + 1;
}

static void end_device(struct view_cursor *c, struct textbuf *t)
{
	textbuf_puts(t, "  Total: ");
	put_sum(t, sorted_sum_device(c->sorted, (unsigned)(c->mark - 1) >> 3));
	textbuf_puts(t, "\n\n");
}

static void begin_group(struct view_cursor *c, const struct sorted_item *item, struct textbuf *t)
{
	uint64_t mark = place_mark(item->device, item->type);

	if (c->mark == mark)
		return;
	if (!c->mark || (c->mark - 1) >> 3 != item->device) {
		if (c->mark)
			end_device(c, t);
		textbuf_puts(t, "Device ");
		textbuf_u64(t, item->device);
		textbuf_puts(t, ":\n");
	}
	textbuf_puts(t, "  ");
	textbuf_puts(t, type_titles[item->type]);
	textbuf_puts(t, ": ");
	put_sum(t, sorted_sum(c->sorted, item->device, item->type));
	textbuf_puts(t, " total\n");
	c->mark = mark;
}

static void put_end(struct view_cursor *c, struct textbuf *t)
{
	if (c->mark)
		end_device(c, t);
	textbuf_puts(t, "Total remaining buffers: ");
	textbuf_u64(t, sorted_count(c->sorted));
	textbuf_putc(t, '\n');
}

static bool same_address(const struct sorted_item *a, const struct sorted_item *b)
{
	return b && a->device == b->device && a->type == b->type && a->address == b->address;
}

int view_dump(const struct view *v, const struct view_key *k, struct view_cursor *c, size_t want, struct textbuf *t)
{
	size_t start = t->len;
	int r;

	/* pos is the time of the report. */
	if (!c->sorted) {
		r = sorted_new(&c->sorted, &BUFFER_FILTER_ALL, UINT32_MAX);
		if (r < 0)
			return r;
		c->pos = v->now;
	}
	if (!c->begun) {
		r = sorted_step(c->sorted, v->registry);
		if (r)
			return r;
		c->begun = true;
		put_title(v, c, t);
	}
	for (unsigned n = 0; n < DUMP_STEP && t->len - start < want && !textbuf_error(t); n++) {
		const struct sorted_item *item = sorted_item(c->sorted);

		if (!item) {
			put_end(c, t);
			return textbuf_error(t);
		}
		begin_group(c, item, t);
		put_buffer(v, item, c->pos, t);
		/* The past is the address's: it stands under the last of the buffers there. */
		if (!same_address(item, sorted_peek(c->sorted)))
			put_past(v, item, t);
		sorted_next(c->sorted);
	}
	return textbuf_error(t) ? textbuf_error(t) : 1;
}
