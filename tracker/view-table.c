/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * view-table.c - tables in the registry's own order, written in pieces: allocs (of all, of a device, of a process),
 * suspects, processes, trace.
 *
 * The cursor is a slot number, or a trace position, and nothing else is remembered, so a reader that never comes
 * back costs nothing. Rows of buffers are what a listing of millions consists of and do not go through printf; what
 * neighbours share (device and type, owner, site and tag) is written once and copied.
 */
#include <errno.h>

#include "tracker/mark.h"
#include "tracker/view-part.h"
#include "tracker/view-sort.h"
#include "tracker/view.h"

void view_table_end(struct view_cursor *c)
{
	sorted_free(c->sorted);
	*c = (struct view_cursor){ 0 };
}

uint64_t view_table_bytes(const struct view_cursor *c)
{
	return c->sorted ? sorted_count(c->sorted) * sizeof(struct sorted_item) : 0;
}

/* ---- rows of buffers ---- */

/* The texts that the rows of one holding share. Buffers of a holding stand together in chunks. */
struct row_parts {
	bool valid;
	uint16_t device;
	uint8_t type;
	uint32_t process;
	uint32_t site;
	uint32_t tag;
	struct textbuf head;   /* "device type " */
	struct textbuf owner;  /* " pid uid " */
	struct textbuf place;  /* " site tag " */
	struct textbuf tail;   /* "comm\n" */
};

static void row_parts_deinit(struct row_parts *parts)
{
	textbuf_deinit(&parts->head);
	textbuf_deinit(&parts->owner);
	textbuf_deinit(&parts->place);
	textbuf_deinit(&parts->tail);
}

static void row_parts_set_place(struct row_parts *parts, const struct view *v, const struct buffer *b)
{
	if (parts->valid && parts->site == b->site && parts->tag == b->tag)
		return;
	textbuf_clear(&parts->place);
	textbuf_putc(&parts->place, ' ');
	view_put_site(&parts->place, v->registry, b->site);
	textbuf_putc(&parts->place, ' ');
	view_put_tag(&parts->place, v->registry, b->tag);
	textbuf_putc(&parts->place, ' ');
	parts->site = b->site;
	parts->tag = b->tag;
}

static void row_parts_set(struct row_parts *parts, const struct view *v, const struct buffer *b)
{
	const struct process *owner;

	row_parts_set_place(parts, v, b);
	if (parts->valid && parts->device == b->device && parts->type == b->type && parts->process == b->process)
		return;
	owner = registry_process(v->registry, b->process);
	textbuf_clear(&parts->head);
	textbuf_u64(&parts->head, b->device);
	textbuf_putc(&parts->head, ' ');
	textbuf_puts(&parts->head, buffer_type_name(b->type));
	textbuf_putc(&parts->head, ' ');
	textbuf_clear(&parts->owner);
	textbuf_putc(&parts->owner, ' ');
	view_put_pid(&parts->owner, owner ? owner->pid : 0);
	textbuf_putc(&parts->owner, ' ');
	textbuf_u64(&parts->owner, owner ? owner->uid : 0);
	textbuf_putc(&parts->owner, ' ');
	textbuf_clear(&parts->tail);
	view_put_comm(&parts->tail, owner);
	textbuf_putc(&parts->tail, '\n');
	parts->valid = true;
	parts->device = b->device;
	parts->type = b->type;
	parts->process = b->process;
}

static void put_part(struct textbuf *t, const struct textbuf *part)
{
	if (textbuf_error(part))
		t->error = textbuf_error(part);
	textbuf_put(t, part->data, part->len);
}

/* "device type address size refs pid uid " */
static void put_row_begin(struct textbuf *t, const struct row_parts *parts, const struct buffer *b)
{
	put_part(t, &parts->head);
	textbuf_addr(t, b->address);
	textbuf_putc(t, ' ');
	textbuf_u64(t, b->size);
	textbuf_putc(t, ' ');
	textbuf_u64(t, b->refs);
	put_part(t, &parts->owner);
}

/* "time seq site tag comm\n" */
static void put_row_end(struct textbuf *t, const struct row_parts *parts, const struct buffer *b)
{
	textbuf_time(t, b->time);
	textbuf_putc(t, ' ');
	textbuf_u64(t, b->seq);
	put_part(t, &parts->place);
	put_part(t, &parts->tail);
}

static void put_alloc_row(const struct view *v, struct textbuf *t, const struct row_parts *parts,
			  const struct buffer *b)
{
	put_row_begin(t, parts, b);
	put_row_end(t, parts, b);
}

static void put_suspect_row(const struct view *v, struct textbuf *t, const struct row_parts *parts,
			    const struct buffer *b)
{
	const struct process *owner = registry_process(v->registry, b->process);

	textbuf_puts(t, view_reason_name(registry_suspect(v->registry, b->slot)));
	textbuf_putc(t, ' ');
	put_row_begin(t, parts, b);
	textbuf_puts(t, owner && owner->ended ? "dead " : "live ");
	view_put_age(t, v->now, b->time);
	textbuf_putc(t, ' ');
	put_row_end(t, parts, b);
}

typedef void (*put_row)(const struct view *v, struct textbuf *t, const struct row_parts *parts,
			const struct buffer *b);

static int put_rows(const struct view *v, const struct buffer_filter *filter, put_row put, struct view_cursor *c,
		    size_t want, struct textbuf *t)
{
	struct row_parts parts = { 0 };
	unsigned budget = VIEW_STEP;
	size_t start = t->len;
	struct buffer b;
	int r = 1;

	while (r == 1 && t->len - start < want && !textbuf_error(t)) {
		r = registry_next(v->registry, filter, &c->pos, &budget, &b);
		if (r == 1) {
			row_parts_set(&parts, v, &b);
			put(v, t, &parts, &b);
		}
	}
	row_parts_deinit(&parts);
	if (textbuf_error(t))
		return textbuf_error(t);
	return r == 0 ? 0 : 1;
}

static void put_header(struct view_cursor *c, struct textbuf *t, const char *header)
{
	if (c->begun)
		return;
	c->begun = true;
	textbuf_puts(t, header);
}

#define ALLOCS_HEADER "# device type address size refs pid uid time seq site tag comm\n"

int view_allocs(const struct view *v, const struct view_key *k, struct view_cursor *c, size_t want, struct textbuf *t)
{
	put_header(c, t, ALLOCS_HEADER);
	return put_rows(v, &BUFFER_FILTER_ALL, put_alloc_row, c, want, t);
}

int view_device_allocs(const struct view *v, const struct view_key *k, struct view_cursor *c, size_t want,
		       struct textbuf *t)
{
	struct buffer_filter filter = BUFFER_FILTER_ALL;

	if (!c->begun && !registry_device(v->registry, k->device))
		return -ENOENT;
	put_header(c, t, ALLOCS_HEADER);
	filter.device = (int)k->device;
	return put_rows(v, &filter, put_alloc_row, c, want, t);
}

/* The mark is the serial of the process: once its slot is another's, it has no buffers left to show. */
int view_process_allocs(const struct view *v, const struct view_key *k, struct view_cursor *c, size_t want,
			struct textbuf *t)
{
	const struct process *p = registry_process(v->registry, k->process);
	struct buffer_filter filter = BUFFER_FILTER_ALL;

	if (!c->begun) {
		if (!p)
			return -ENOENT;
		c->mark = p->serial;
	}
	put_header(c, t, ALLOCS_HEADER);
	if (!p || p->serial != c->mark)
		return 0;
	filter.process = k->process;
	return put_rows(v, &filter, put_alloc_row, c, want, t);
}

/* `mark` is that of the beginning, whatever becomes of it meanwhile. */
int view_mark_allocs(const struct view *v, const struct view_key *k, struct view_cursor *c, size_t want,
		     struct textbuf *t)
{
	const struct mark *m = registry_mark_at(v->registry, k->mark);
	struct buffer_filter filter = BUFFER_FILTER_ALL;

	if (!c->begun) {
		if (!m)
			return -ENOENT;
		c->mark = m->seq;
	}
	put_header(c, t, ALLOCS_HEADER);
	filter.since = c->mark;
	return put_rows(v, &filter, put_alloc_row, c, want, t);
}

int view_suspects(const struct view *v, const struct view_key *k, struct view_cursor *c, size_t want,
		  struct textbuf *t)
{
	struct buffer_filter filter = BUFFER_FILTER_ALL;

	put_header(c, t, "# reason device type address size refs pid uid state age_s time seq site tag comm\n");
	/* The usual answer is "none" and must not cost a look at every buffer. */
	if (!registry_suspects(v->registry))
		return textbuf_error(t);
	filter.suspects = true;
	return put_rows(v, &filter, put_suspect_row, c, want, t);
}

/* ---- processes ---- */

static void put_process_row(struct textbuf *t, const struct process *p)
{
	view_put_pid(t, p->pid);
	textbuf_putc(t, ' ');
	textbuf_u64(t, p->uid);
	textbuf_puts(t, p->ended ? " dead " : " live ");
	view_put_transport(t, p);
	textbuf_putc(t, ' ');
	textbuf_u64(t, p->events);
	textbuf_putc(t, ' ');
	textbuf_u64(t, p->lost);
	textbuf_putc(t, ' ');
	textbuf_u64(t, p->total.count);
	textbuf_putc(t, ' ');
	textbuf_u64(t, p->total.bytes);
	textbuf_putc(t, ' ');
	for (unsigned type = 0; type < BUFFER_TYPES; type++) {
		textbuf_u64(t, p->type[type].bytes);
		textbuf_putc(t, ' ');
	}
	textbuf_escaped(t, p->comm);
	textbuf_putc(t, '\n');
}

int view_processes(const struct view *v, const struct view_key *k, struct view_cursor *c, size_t want,
		   struct textbuf *t)
{
	size_t start = t->len;

	put_header(c, t, "# pid uid state transport events lost live bytes "
			 "dram l1 system_memory l1_small trace cb kernel comm\n");
	while (t->len - start < want && !textbuf_error(t)) {
		uint32_t slot = c->pos < PROCESS_NONE ? registry_process_next(v->registry, (uint32_t)c->pos) :
							PROCESS_NONE;

		if (slot == PROCESS_NONE)
			return 0;
		put_process_row(t, registry_process(v->registry, slot));
		c->pos = (uint64_t)slot + 1;
	}
	return textbuf_error(t) ? textbuf_error(t) : 1;
}

/* ---- trace ---- */

/* The mark is where the trace ended at the first call: a reader that is slower than the events must end, too. */
int view_trace(const struct view *v, const struct view_key *k, struct view_cursor *c, size_t want, struct textbuf *t)
{
	size_t start = t->len;

	if (!c->begun) {
		c->pos = v->trace->first;
		c->mark = v->trace->next;
	}
	put_header(c, t, "# time seq kind device type address size pid refs site\n");
	if (c->pos < c->mark && t->len - start < want)
		trace_read(v->trace, v->registry, &c->pos, v->now, want, t);
	if (textbuf_error(t))
		return textbuf_error(t);
	return c->pos < c->mark ? 1 : 0;
}
