/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * registry-history.c - what is remembered of an address: writing it as buffers change, reading it as lines.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tracker/registry-internal.h"

uint32_t registry_history_of(const struct registry *reg, const struct buffer *b)
{
	const struct history_key *k = &reg->history.key[b->history];

	if (!b->history || b->history >= reg->history.used_keys)
		return 0;
	return k->pinned && k->address == b->address && k->device == b->device && k->type == b->type &&
			       k->owner == reg->process[b->process].p.serial
		       ? b->history
		       : 0;
}

static uint32_t history_key_of(struct registry *reg, const struct buffer *b)
{
	const struct process *p = &reg->process[b->process].p;
	uint32_t key = history_get(&reg->history, registry_hash(reg, b->device, b->address), b->device, b->type, b->address,
				   p->serial, p->uid);

	reg->counters.history_dropped = reg->history.dropped;
	return key;
}

void registry_remember(struct registry *reg, uint32_t key, uint8_t kind, uint64_t time, uint64_t size, int32_t pid,
		       uint64_t end)
{
	history_append(&reg->history, key, &(struct history_event){
		.time = time, .size = size & ((UINT64_C(1) << 58) - 1), .pid = pid, .kind = kind, .end = end });
	reg->counters.history_dropped = reg->history.dropped;
}

uint32_t registry_history_begin(struct registry *reg, struct buffer *b)
{
	uint32_t key = registry_history_of(reg, b);

	if (key)
		return key;
	key = history_key_of(reg, b);
	if (!key)
		return 0;
	history_pin(&reg->history, key);
	reg->history.key[key].allocs++;
	registry_remember(reg, key, TRACE_ALLOC, b->time, b->size, reg->process[b->process].p.pid, b->refs);
	b->history = key;
	reg->record[b->slot].history = key;
	return key;
}

bool registry_history_end(struct registry *reg, struct buffer *b, uint32_t by, uint8_t kind, uint64_t now)
{
	const struct process *p = &reg->process[b->process].p;
	int32_t pid = reg->process[by].p.pid;
	bool replaced = false;
	uint32_t key;

	if (kind == TRACE_FREE && by == b->process && !registry_history_of(reg, b)) {
		key = history_get_for_end(&reg->history, registry_hash(reg, b->device, b->address), b->device, b->type,
					  b->address, p->serial, p->uid, index_tag_live(b->type, p->serial), b->slot,
					  &replaced);
		reg->counters.history_dropped = reg->history.dropped;
		if (!key)
			return false;
		registry_remember(reg, key, HISTORY_LIFE, b->time, b->size, pid, now);
		reg->history.key[key].allocs++;
	} else {
		key = registry_history_begin(reg, b);
		if (!key)
			return false;
		registry_remember(reg, key, kind, now, b->size, pid, 0);
		history_unpin(&reg->history, key);
	}
	reg->history.key[key].frees++;
	reg->history.key[key].unsure = 0;
	return replaced;
}

/* Steps through the history keys at (device, address) whose type is in `types`. */
static const struct history_key *key_next(const struct registry *reg, struct walk *w, uint32_t *number)
{
	uint64_t e;

	while ((e = index_next(&w->cursor)) != 0) {
		uint32_t tag = index_entry_tag(e);
		if (!index_tag_is_key(tag) || !(w->types >> index_tag_type(tag) & 1))
			continue;
		const struct history_key *k = &reg->history.key[index_entry_value(e)];
		if (k->address != w->address || k->device != w->device)
			continue;
		*number = index_entry_value(e);
		return k;
	}
	return NULL;
}

void registry_history_doubt(struct registry *reg, uint32_t process, unsigned device, uint64_t address)
{
	struct walk w = registry_walk(reg, device, address, UINT32_MAX);
	const struct history_key *k;
	uint32_t number;

	while ((k = key_next(reg, &w, &number)) != NULL)
		if (k->owner == reg->process[process].p.serial)
			reg->history.key[number].unsure = 1;
}

enum freed_before registry_freed_before(const struct registry *reg, uint32_t process, unsigned device,
					uint64_t address, unsigned types)
{
	const struct process *p = &reg->process[process].p;
	struct walk w = registry_walk(reg, device, address, types);
	enum freed_before found = FREED_NEVER;
	const struct history_key *k;
	uint32_t number;

	while ((k = key_next(reg, &w, &number)) != NULL) {
		if (!k->frees || k->unsure)
			continue;
		if (k->owner == p->serial)
			return FREED_OWN;
		if (k->uid == p->uid)
			found = FREED_FAMILY;
	}
	return found;
}

static uint64_t key_time(const struct registry *reg, const struct history_key *k)
{
	const struct history_event *e = &reg->history.event[k->last];

	if (!k->count)
		return 0;
	return e->kind == HISTORY_LIFE ? e->end : e->time;
}

void registry_double_free(struct registry *reg, uint32_t process, unsigned device, uint64_t address, unsigned types,
			  uint64_t now)
{
	const struct process *p = &reg->process[process].p;
	struct walk w = registry_walk(reg, device, address, types);
	uint32_t number, best = 0;
	bool best_own = false;
	const struct history_key *k;

	while ((k = key_next(reg, &w, &number)) != NULL) {
		bool own = k->owner == p->serial;
		if (!k->frees || (!own && (best_own || k->uid != p->uid)))
			continue;
		if (!best || (own && !best_own) || key_time(reg, k) >= key_time(reg, &reg->history.key[best]))
			best = number;
		best_own |= own;
	}
	if (best)
		registry_remember(reg, best, TRACE_DOUBLE_FREE, now, 0, p->pid, 0);
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

/* The chain of a key is in the order of booking, whatever the times say. */
static void lines_of_key(const struct registry *reg, const struct history_key *k, struct lines *lines)
{
	uint32_t e = k->first;
	uint64_t order = 0;

	for (unsigned i = 0; i < k->count; i++, e = reg->history.event[e].next) {
		const struct history_event *v = &reg->history.event[e];
		bool life = v->kind == HISTORY_LIFE;
		order = later(order, v->time);
		line_add(lines, (struct history_line){
			.time = v->time, .order = order, .size = v->size, .pid = v->pid,
			.refs = life ? 1 : (uint32_t)v->end, .kind = life ? TRACE_ALLOC : (uint8_t)v->kind });
		if (!life)
			continue;
		order = later(order, v->end);
		line_add(lines, (struct history_line){
			.time = v->end, .order = order, .size = v->size, .pid = v->pid, .kind = TRACE_FREE });
	}
}

/* The ALLOC of a live buffer that is not written down: after all that its owner did there before. */
static struct history_line line_of_buffer(const struct registry *reg, const struct buffer *b)
{
	const struct process *p = &reg->process[b->process].p;
	uint32_t key = history_find(&reg->history, registry_hash(reg, b->device, b->address), b->device, b->type,
				    b->address, p->serial);

	return (struct history_line){
		.time = b->time,
		.order = later(b->time, key ? key_time(reg, &reg->history.key[key]) : 0),
		.size = b->size,
		.pid = p->pid,
		.refs = b->refs,
		.kind = TRACE_ALLOC,
	};
}

ssize_t registry_history(const struct registry *reg, unsigned device, unsigned type, uint64_t address,
			struct history_summary *summary, struct history_line *out, size_t max)
{
	struct lines lines = { .line = max ? malloc(2 * max * sizeof(*out)) : NULL, .want = max };
	struct walk keys = registry_walk(reg, device, address, 1U << type);
	struct walk live = keys;
	const struct history_key *k;
	struct buffer b;
	uint32_t number;

	*summary = (struct history_summary){ 0 };
	if (max && !lines.line)
		return -ENOMEM;
	while ((k = key_next(reg, &keys, &number)) != NULL) {
		summary->allocs += k->allocs;
		summary->frees += k->frees;
		if (lines.line)
			lines_of_key(reg, k, &lines);
	}
	while (registry_walk_next(reg, &live, &b)) {
		if (registry_history_of(reg, &b))
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
