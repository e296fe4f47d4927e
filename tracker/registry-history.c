/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * registry-history.c - what is remembered of an address: writing it as buffers change, reading it as lines.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tracker/registry-internal.h"

#define SIZE_MASK ((UINT64_C(1) << 59) - 1)

static struct history_id id_of(const struct registry *reg, const struct buffer *b)
{
	return (struct history_id){
		.address = b->address,
		.owner = reg->process[b->process].p.serial,
		.device = b->device,
		.type = b->type,
	};
}

uint32_t registry_history_head(const struct registry *reg, const struct buffer *b)
{
	struct history_id id = id_of(reg, b);

	return history_is(&reg->history, b->history, &id) ? b->history : 0;
}

static bool is_begun(const struct registry *reg, uint32_t head)
{
	const struct history_key *k = &reg->history.head[head].key;

	return head && k->form == HISTORY_KEY && k->pinned;
}

uint32_t registry_history_begun(const struct registry *reg, const struct buffer *b)
{
	uint32_t head = registry_history_head(reg, b);

	return is_begun(reg, head) ? head : 0;
}

static unsigned pid_of(const struct registry *reg, uint32_t process)
{
	return (unsigned)reg->process[process].p.pid;
}

/* Of what is written down: where it began and (of an everyday life) ended. */
static uint16_t sites_of(struct registry *reg, uint32_t process, uint32_t begin, uint32_t end)
{
	return reg->history.per_key ? registry_site_pair(reg, reg->process[process].p.uid, begin, end) : 0;
}

void registry_remember(struct registry *reg, uint32_t head, uint8_t kind, const struct deed *by, uint64_t size,
		       uint64_t refs)
{
	history_append(&reg->history, head, &(struct history_event){
		.time = by->time,
		.size = size & SIZE_MASK,
		.pid = pid_of(reg, by->process) & HISTORY_PID_MASK,
		.sites = sites_of(reg, by->process, by->site, 0),
		.kind = kind & 31U,
		.end = refs,
	});
}

uint32_t registry_history_begin(struct registry *reg, struct buffer *b)
{
	struct history_id id = id_of(reg, b);
	uint32_t head = registry_history_begun(reg, b);

	if (head)
		return head;
	head = history_begin(&reg->history, registry_history_head(reg, b), &id, &(struct history_event){
		.time = b->time,
		.size = b->size & SIZE_MASK,
		.pid = pid_of(reg, b->process) & HISTORY_PID_MASK,
		.sites = sites_of(reg, b->process, b->site, 0),
		.kind = TRACE_ALLOC,
		.end = b->refs,
	});
	if (head)
		b->history = reg->record[b->slot].history = head;
	return head;
}

uint32_t registry_history_end(struct registry *reg, struct buffer *b, uint8_t kind, const struct deed *by)
{
	struct history_id id = id_of(reg, b);
	uint32_t head = history_is(&reg->history, b->history, &id) ? b->history : 0;

	if (kind == TRACE_FREE && by->process == b->process && !is_begun(reg, head))
		return history_live(&reg->history, head, &id, &(struct history_event){
			.time = b->time,
			.size = b->size & SIZE_MASK,
			.pid = pid_of(reg, b->process) & HISTORY_PID_MASK,
			.sites = sites_of(reg, b->process, b->site, by->site),
			.kind = HISTORY_LIFE,
			.end = by->time,
		});
	head = registry_history_begin(reg, b);
	if (!head)
		return registry_history_head(reg, b);
	registry_remember(reg, head, kind, by, b->size, 0);
	history_end(&reg->history, head, true);
	return head;
}

/* Steps through the heads in the index at (device, address) whose type is in `types`. */
static uint32_t head_next(const struct registry *reg, struct walk *w)
{
	uint64_t e;

	while ((e = index_next(&w->cursor)) != 0) {
		uint32_t tag = index_entry_tag(e), head = index_entry_value(e);
		if (!index_tag_is_head(tag) || !(w->types >> index_tag_type(tag) & 1))
			continue;
		const union history_head *h = &reg->history.head[head];
		if (history_address(h) == w->address && h->key.device == w->device)
			return head;
	}
	return 0;
}

static uint32_t owner_of(const struct registry *reg, uint32_t head)
{
	return reg->history.head[head].key.owner;
}

static bool owner_is_of(const struct registry *reg, uint32_t head, uint32_t uid)
{
	struct history_person owner;

	return history_person_get(&reg->history, owner_of(reg, head), &owner) && owner.uid == uid;
}

/* Of a process that was forgotten nobody can tell when it ended. */
static bool owner_was_met(const struct registry *reg, uint32_t head, const struct process *p)
{
	struct history_person owner;

	if (!history_person_get(&reg->history, owner_of(reg, head), &owner) || owner.uid != p->uid)
		return false;
	return reg->process[owner.slot].p.serial == owner.serial &&
	       registry_process_met(p, &reg->process[owner.slot].p);
}

void registry_history_doubt(struct registry *reg, uint32_t process, unsigned device, uint64_t address)
{
	struct walk w = registry_walk(reg, device, address, UINT32_MAX);
	uint32_t head;

	while ((head = head_next(reg, &w)) != 0)
		if (owner_of(reg, head) == reg->process[process].p.serial)
			reg->history.head[head].key.unsure = 1;
}

/* A head that a live buffer carries needs no look: its owner has something to free there, and so has whoever of its user
 * has met it. */
enum freed_before registry_freed_before(const struct registry *reg, uint32_t process, unsigned device,
					uint64_t address, unsigned types)
{
	const struct process *p = &reg->process[process].p;
	struct walk w = registry_walk(reg, device, address, types);
	enum freed_before found = FREED_NEVER;
	uint32_t head;

	while ((head = head_next(reg, &w)) != 0) {
		if (!history_frees(&reg->history, head) || reg->history.head[head].key.unsure)
			continue;
		if (owner_of(reg, head) == p->serial)
			return FREED_OWN;
		if (found == FREED_NEVER && owner_was_met(reg, head, p))
			found = FREED_FAMILY;
	}
	return found;
}

/* The head of `types` at the address that a free of the process is told with: its own before another one's of its user,
 * then the one with the newest event. `freed`: only of what was freed there. 0 = there is none. */
static uint32_t head_of_free(const struct registry *reg, uint32_t process, unsigned device, uint64_t address,
			     unsigned types, bool freed)
{
	const struct process *p = &reg->process[process].p;
	const struct history *h = &reg->history;
	struct walk w = registry_walk(reg, device, address, types);
	uint32_t head, best = 0;
	bool best_own = false;

	while ((head = head_next(reg, &w)) != 0) {
		bool own = owner_of(reg, head) == p->serial;
		if (freed && (!history_frees(h, head) || (!own && !owner_was_met(reg, head, p))))
			continue;
		if (!own && (best_own || !owner_is_of(reg, head, p->uid)))
			continue;
		if (!best || (own && !best_own) || history_time(h, head) >= history_time(h, best))
			best = head;
		best_own |= own;
	}
	return best;
}

void registry_double_free(struct registry *reg, const struct deed *by, unsigned device, uint64_t address,
			  unsigned types)
{
	uint32_t head = head_of_free(reg, by->process, device, address, types, true);

	if (head)
		registry_remember(reg, head, TRACE_DOUBLE_FREE, by, 0, 0);
}

void registry_unknown_free(struct registry *reg, const struct deed *by, unsigned device, uint64_t address,
			   unsigned types)
{
	uint32_t head = head_of_free(reg, by->process, device, address, types, false);

	if (head)
		history_append_once(&reg->history, head, &(struct history_event){
			.time = by->time,
			.pid = pid_of(reg, by->process) & HISTORY_PID_MASK,
			.sites = sites_of(reg, by->process, by->site, 0),
			.kind = TRACE_UNKNOWN_FREE,
		});
}

/* The newest lines so far. There is room for twice as many as are wanted, and order is made when it is full: an address
 * that hundreds of processes have used one after the other has tens of thousands of lines. */
struct lines {
	struct history_line *line;
	size_t n, want;
	uint32_t nth;
};

static int compare_lines(const void *a, const void *b)
{
	const struct history_line *x = a, *y = b;

	if (x->order != y->order)
		return x->order < y->order ? -1 : 1;
	return x->nth < y->nth ? -1 : 1;
}

static void lines_order(struct lines *l)
{
	qsort(l->line, l->n, sizeof(*l->line), compare_lines);
	if (l->n > l->want) {
		memmove(l->line, l->line + l->n - l->want, l->want * sizeof(*l->line));
		l->n = l->want;
	}
}

static void line_add(struct lines *l, struct history_line line)
{
	line.nth = l->nth++;
	l->line[l->n++] = line;
	if (l->n == 2 * l->want)
		lines_order(l);
}

static uint64_t later(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

/* The events of a head are in the order of booking, whatever the times say. */
static void lines_of_head(const struct registry *reg, uint32_t head, struct lines *lines)
{
	struct history_event v;
	uint64_t order = 0;
	uint32_t pos = 0;

	while (history_each(&reg->history, head, &pos, &v)) {
		const struct site_pair *sites = &reg->pair[v.sites];
		bool life = v.kind == HISTORY_LIFE;
		order = later(order, v.time);
		line_add(lines, (struct history_line){
			.time = v.time, .order = order, .size = v.size, .pid = (int32_t)v.pid, .site = sites->begin,
			.refs = life ? 1 : (uint32_t)v.end, .kind = life ? TRACE_ALLOC : (uint8_t)v.kind });
		if (!life)
			continue;
		order = later(order, v.end);
		line_add(lines, (struct history_line){
			.time = v.end, .order = order, .size = v.size, .pid = (int32_t)v.pid, .site = sites->end,
			.kind = TRACE_FREE });
	}
}

static void tell_head(const struct registry *reg, uint32_t head, struct history_summary *summary, struct lines *lines)
{
	summary->allocs += history_allocs(&reg->history, head);
	summary->frees += history_frees(&reg->history, head);
	if (lines->line)
		lines_of_head(reg, head, lines);
}

/* The ALLOC of a live buffer that is not written down: after all that its owner did there before. */
static struct history_line line_of_buffer(const struct registry *reg, const struct buffer *b)
{
	uint32_t head = registry_history_head(reg, b), pos = 0;
	struct history_event v;
	uint64_t order = b->time;

	while (head && history_each(&reg->history, head, &pos, &v))
		order = later(order, v.kind == HISTORY_LIFE ? later(v.time, v.end) : v.time);
	return (struct history_line){
		.time = b->time,
		.order = order,
		.size = b->size,
		.pid = reg->process[b->process].p.pid,
		.site = b->site,
		.refs = b->refs,
		.kind = TRACE_ALLOC,
	};
}

ssize_t registry_history(const struct registry *reg, unsigned device, unsigned type, uint64_t address,
			struct history_summary *summary, struct history_line *out, size_t max)
{
	struct lines lines = { .line = max ? malloc(2 * max * sizeof(*out)) : NULL, .want = max };
	struct walk heads = registry_walk(reg, device, address, 1U << type);
	struct walk carried = heads, live = heads;
	struct buffer b;
	uint32_t head;

	*summary = (struct history_summary){ 0 };
	if (max && !lines.line)
		return -ENOMEM;
	while ((head = head_next(reg, &heads)) != 0)
		tell_head(reg, head, summary, &lines);
	while (registry_walk_next(reg, &carried, &b))
		if ((head = registry_history_head(reg, &b)) != 0)
			tell_head(reg, head, summary, &lines);
	while (registry_walk_next(reg, &live, &b)) {
		if (registry_history_begun(reg, &b))
			continue;
		summary->allocs++;
		if (lines.line)
			line_add(&lines, line_of_buffer(reg, &b));
	}
	if (lines.line) {
		lines_order(&lines);
		memcpy(out, lines.line, lines.n * sizeof(*out));
	}
	free(lines.line);
	return (ssize_t)lines.n;
}

/* ---- addresses of which something is remembered ---- */

static struct past past_of(const struct registry *reg, uint32_t head)
{
	const union history_head *h = &reg->history.head[head];
	uint64_t address = history_address(h), device = h->key.device;
	uint64_t mixed = (address + device * UINT64_C(0x9e3779b97f4a7c15)) * UINT64_C(0xd6e8feb86659fd93);

	return (struct past){
		.head = head, .place = (uint32_t)(mixed >> 32), .device = device & 1023U, .address = address };
}

static bool comes_before(const struct history_key *a, const struct history_key *b)
{
	return a->owner != b->owner ? a->owner < b->owner : a->type < b->type;
}

/* The head that stands for an address; 0 = nothing is remembered. *looked counts what was looked at. */
static uint32_t standing_for(const struct registry *reg, unsigned device, uint64_t address, unsigned *looked)
{
	struct walk heads = registry_walk(reg, device, address, UINT32_MAX), live = heads;
	const union history_head *all = reg->history.head;
	uint32_t best = 0, head;
	struct buffer b;

	for (; (head = head_next(reg, &heads)) != 0; ++*looked)
		if (!best || comes_before(&all[head].key, &all[best].key))
			best = head;
	for (; registry_walk_next(reg, &live, &b); ++*looked) {
		head = registry_history_head(reg, &b);
		if (head && (!best || comes_before(&all[head].key, &all[best].key)))
			best = head;
	}
	return best;
}

int registry_past_next(const struct registry *reg, unsigned device, uint64_t *pos, unsigned *budget, struct past *out)
{
	const struct history *h = &reg->history;

	if (!*pos)
		*pos = 1;
	while (*pos < h->used_heads) {
		uint32_t head = (uint32_t)*pos;
		const struct history_key *k = &h->head[head].key;
		unsigned looked = 1;
		if (!*budget)
			return -EAGAIN;
		++*pos;
		bool stands = k->form != HISTORY_NONE && k->device == device &&
			      standing_for(reg, device, history_address(&h->head[head]), &looked) == head;
		*budget -= looked < *budget ? looked : *budget;
		if (!stands)
			continue;
		*out = past_of(reg, head);
		return 1;
	}
	return 0;
}

bool registry_past_find(const struct registry *reg, unsigned device, uint64_t address, struct past *out)
{
	unsigned looked = 0;
	uint32_t head = standing_for(reg, device, address, &looked);

	if (head)
		*out = past_of(reg, head);
	return head;
}

bool registry_past_get(const struct registry *reg, struct past *p)
{
	uint32_t place = p->place;

	if (!p->head || p->head >= reg->history.used_heads || reg->history.head[p->head].key.form == HISTORY_NONE)
		return false;
	*p = past_of(reg, p->head);
	return p->place == place;
}
