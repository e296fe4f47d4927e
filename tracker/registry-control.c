/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * registry-control.c - clean and reset: forgetting on request, in bounded steps.
 */
#include <errno.h>
#include <string.h>

#include "tracker/registry-internal.h"

/* A buffer that is forgotten was not freed: its past up to here stays, without an end. */
static void buffer_forget(struct registry *reg, const struct buffer *b)
{
	uint32_t head = registry_history_begun(reg, b);

	if (head)
		history_end(&reg->history, head, false);
	registry_history_doubt(reg, b->process, b->device, b->address);
	head = registry_history_head(reg, b);
	if (head)
		reg->history.head[head].key.unsure = 1;
	registry_remove(reg, b, false);
}

/* Forgets the buffers that `filter` wants, but only of ended processes when `ended` is set. */
static int forget_step(struct registry *reg, const struct buffer_filter *filter, bool ended, uint64_t *pos,
		       unsigned budget, uint64_t *removed)
{
	unsigned chunks = budget;
	uint64_t most = (uint64_t)budget * CHUNK;
	struct buffer b;
	int r;

	while ((r = registry_next(reg, filter, pos, &chunks, &b)) == 1) {
		if (ended && !reg->process[b.process].p.ended) {
			*pos = (*pos + CHUNK - 1) / CHUNK * CHUNK;  /* all of the chunk is that process's */
			if (!chunks--)
				return 1;
			continue;
		}
		buffer_forget(reg, &b);
		++*removed;
		if (!--most)
			return 1;
	}
	return r == -EAGAIN;
}

int registry_clean_step(struct registry *reg, uint32_t process, uint64_t *pos, unsigned budget, uint64_t *removed)
{
	struct buffer_filter filter = BUFFER_FILTER_ALL;

	filter.process = process;
	return forget_step(reg, &filter, process == PROCESS_NONE, pos, budget, removed);
}

/* Forgets history from head *pos on: of one device, or all (-1). */
static int forget_heads_step(struct registry *reg, int device, uint64_t *pos, unsigned budget)
{
	struct history *h = &reg->history;

	if (!*pos)
		*pos = 1;
	for (; *pos < h->used_heads && budget; ++*pos, budget--) {
		const struct history_key *k = &h->head[*pos].key;
		if (k->form != HISTORY_NONE && (device < 0 || k->device == (unsigned)device))
			history_forget(h, (uint32_t)*pos);
	}
	reg->version++;
	return *pos < h->used_heads;
}

/* Positions of the second half of a reset: history. */
#define POS_HEADS (UINT64_C(1) << 40)

static int second_half_step(struct registry *reg, int device, uint64_t *pos, unsigned budget)
{
	uint64_t head = *pos - POS_HEADS;
	int more = forget_heads_step(reg, device, &head, budget * CHUNK);

	*pos = POS_HEADS + head;
	return more;
}

static void totals_forget(struct totals *t)
{
	t->peak = t->bytes;
	t->allocs = t->count;
	t->frees = 0;
}

static void device_forget(struct device *d)
{
	d->known = d->declared || d->total.count;
	d->epoch += !d->known;
	for (int type = 0; type < BUFFER_TYPES; type++)
		totals_forget(&d->type[type]);
	totals_forget(&d->total);
	memset(d->past_peak, 0, sizeof(d->past_peak));
}

int registry_reset_device_step(struct registry *reg, unsigned device, uint64_t *pos, unsigned budget,
			       uint64_t *removed)
{
	struct buffer_filter filter = BUFFER_FILTER_ALL;

	filter.device = (int)device;
	if (*pos < POS_HEADS) {
		if (!forget_step(reg, &filter, false, pos, budget, removed))
			*pos = POS_HEADS;
		return 1;
	}
	if (second_half_step(reg, (int)device, pos, budget))
		return 1;
	device_forget(&reg->device[device]);
	registry_marks_forget_device(reg, device);
	registry_accounts_each(reg, (int)device, totals_forget);
	return 0;
}

int registry_reset_history_step(struct registry *reg, uint64_t *pos, unsigned budget)
{
	if (!*pos) {
		for (uint32_t s = 0; s < reg->used_processes; s++)
			if (reg->process[s].p.ended)
				registry_excuse(reg, &reg->process[s].p);
	}
	if (*pos < POS_HEADS) {
		if (registry_unjudge_step(reg, pos, budget))
			return 1;
		*pos = POS_HEADS;
	}
	return second_half_step(reg, -1, pos, budget);
}

static void totals_reset_peak(struct totals *t)
{
	t->peak = t->bytes;
}

void registry_reset_peaks(struct registry *reg)
{
	for (int id = -1; (id = registry_device_next(reg, (unsigned)(id + 1))) >= 0;) {
		for (int type = 0; type < BUFFER_TYPES; type++)
			totals_reset_peak(&reg->device[id].type[type]);
		totals_reset_peak(&reg->device[id].total);
		memset(reg->device[id].past_peak, 0, sizeof(reg->device[id].past_peak));
	}
	registry_marks_reset_peaks(reg);
	for (uint32_t s = 0; s < reg->used_processes; s++) {
		for (int type = 0; type < BUFFER_TYPES; type++)
			totals_reset_peak(&reg->process[s].p.type[type]);
		totals_reset_peak(&reg->process[s].p.total);
	}
	totals_reset_peak(&reg->total);
	registry_accounts_each(reg, -1, totals_reset_peak);
	reg->version++;
}

static void process_reset(struct registry *reg, uint32_t slot)
{
	struct process_slot *s = &reg->process[slot];

	s->holdings = s->first_account = s->last_account = 0;
	memset(s->p.device_mask, 0, sizeof(s->p.device_mask));
	memset(s->p.type, 0, sizeof(s->p.type));
	s->p.total = (struct totals){ 0 };
	s->p.excused = 0;
	memset(s->p.judged, 0, sizeof(s->p.judged));
	s->p.events = 0;
	s->p.lost = 0;
	s->p.faults = (struct process_faults){ 0 };
	s->moments = 0;
	if (s->p.ended && !s->p.connections)
		registry_process_forget(reg, slot);
}

static void device_reset(struct device *d)
{
	struct device fresh = { .epoch = d->epoch };

	if (d->declared) {
		fresh.known = fresh.declared = true;
		fresh.arch = d->arch;
		memcpy(fresh.capacity, d->capacity, sizeof(fresh.capacity));
	} else if (d->known) {
		fresh.epoch++;
	}
	*d = fresh;
}

void registry_reset(struct registry *reg)
{
	memset(reg->chunk, 0, (size_t)reg->used_chunks * sizeof(*reg->chunk));
	(void)index_clear(&reg->index);
	(void)index_clear(&reg->holdings);
	registry_accounts_clear(reg);
	registry_marks_clear(reg);
	registry_growth_clear(reg);
	history_clear(&reg->history);
	registry_pairs_clear(reg);
	reg->used_chunks = reg->used_holdings = 1;
	reg->last_holding = 0;
	reg->free_chunks = reg->free_holdings = 0;
	for (uint32_t s = 0; s < reg->used_processes; s++)
		if (reg->process[s].p.serial)
			process_reset(reg, s);
	for (unsigned id = 0; id < DEVICE_MAX; id++)
		device_reset(&reg->device[id]);
	reg->counters = (struct counters){ 0 };
	reg->total = (struct totals){ 0 };
	memset(reg->suspects, 0, sizeof(reg->suspects));
	reg->cleared = reg->scanned = 0;
	reg->version++;
}
