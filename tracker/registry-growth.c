/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * registry-growth.c - what is held more at each mark; see mark.h.
 *
 * A mark touches no cell. A cell is brought up to date at its next event, and by whoever asks: what it held at the
 * moments that have passed since is what it holds now, since nothing has touched it. Of many buffers that come and go
 * nothing is kept but the numbers of their cell, so a question costs two look-ups.
 *
 * Cells come with new sizes. When there are none left, or a user has half of them, one goes in which nothing grows.
 */
#include <errno.h>
#include <string.h>

#include "tracker/registry-internal.h"

#define SWEEP 64  /* cells that are looked at for one that may go */

unsigned registry_growth_marks(const struct registry *reg)
{
	return reg->growth.marks;
}

void registry_growth_clear(struct registry *reg)
{
	unsigned marks = reg->growth.marks;

	memset(reg->cell, 0, (size_t)reg->growth.used * sizeof(*reg->cell));
	(void)index_clear(&reg->cells);
	registry_share_forget(reg, SHARE_CELLS);
	reg->growth = (struct growth_state){ .marks = marks, .used = 1 };
}

void registry_moment(struct registry *reg, uint32_t process)
{
	struct process_slot *s = &reg->process[process];

	s->moments++;
	s->moment_seq = reg->seq;
	if (s->moments > reg->growth.moments)
		reg->growth.moments = s->moments;
}

/* ---- what a cell tells ---- */

/* A moment has come. */
static void pass_moment(struct cell *c, uint64_t seq)
{
	uint64_t gain = c->held > c->then_held ? c->held - c->then_held : 0;

	c->moment++;
	c->gain[c->moment % GROWTH_GAINS] = gain < UINT32_MAX ? (uint32_t)gain : UINT32_MAX;
	if (!gain || c->spoiled) {
		c->run = 0;
	} else if (c->run++ == 0) {
		c->run_bytes = c->then_bytes;
		c->run_seq = c->then_seq;
	}
	c->spoiled = false;
	c->then_held = c->held;
	c->then_bytes = c->bytes;
	c->then_seq = seq;
}

static void bring_up_to_date(struct cell *c, const struct process_slot *s)
{
	if (c->moment == s->moments)
		return;
	pass_moment(c, s->moment_seq);
	/* In between nothing came. */
	if (c->moment != s->moments) {
		c->run = 0;
		c->moment = s->moments;
	}
}

/* The fewest intervals that it takes. */
static unsigned fewest(const struct registry *reg, const struct cell *c)
{
	return (reg->growth.marks - 1) * (c->any_size ? 2 : 1);
}

/* Whether in each of the last n intervals as many were added as in the others: so leaks what runs once per mark. */
static bool is_steady(const struct cell *c, unsigned n)
{
	for (unsigned i = 1; i < n; i++)
		if (c->gain[(c->moment - i) % GROWTH_GAINS] != c->gain[c->moment % GROWTH_GAINS])
			return false;
	return true;
}

/* Whether the second half of the last n intervals added no less than the first: what fills up slows down. */
static bool does_not_slow(const struct cell *c, unsigned n)
{
	uint64_t first = 0, second = 0;

	for (unsigned i = 0; i < n / 2; i++) {
		second += c->gain[(c->moment - i) % GROWTH_GAINS];
		first += c->gain[(c->moment - (n - 1) + i) % GROWTH_GAINS];
	}
	return second >= first;
}

static bool cell_grows(const struct registry *reg, const struct cell *c)
{
	unsigned n = reg->growth.marks - 1;

	/* What has grown as long before and then went, does so again. */
	if (c->run < n || c->run < 2 * c->went)
		return false;
	if (c->run >= fewest(reg, c) && is_steady(c, fewest(reg, c)))
		return true;
	n = 4 * n < GROWTH_GAINS ? 4 * n : GROWTH_GAINS;
	return c->run >= n && does_not_slow(c, n);
}

static uint64_t bytes_per_mark(const struct cell *c)
{
	return (c->then_bytes - c->run_bytes) / c->run;
}

/* ---- cells ---- */

static bool same_cell(const struct cell *a, const struct cell *b)
{
	return a->serial == b->serial && a->size == b->size && a->site == b->site && a->device == b->device &&
	       a->type == b->type && a->any_size == b->any_size;
}

static uint32_t cell_hash(const struct registry *reg, const struct cell *c)
{
	uint64_t who = (uint64_t)c->serial << 32 | c->site;

	return history_hash(reg->config.seed, (unsigned)c->device * 16 + c->type * 2 + c->any_size,
			    who ^ (c->size + 1) * UINT64_C(0x9e3779b97f4a7c15));
}

/* Which cell a buffer belongs to. */
static struct cell cell_of(const struct registry *reg, const struct buffer *b, bool any_size)
{
	return (struct cell){
		.size = !any_size ? b->size : b->site ? 0 : 63 - (unsigned)__builtin_clzll(b->size),
		.process = b->process,
		.serial = reg->process[b->process].p.serial,
		.site = b->site,
		.device = b->device,
		.type = b->type,
		.any_size = any_size,
	};
}

static uint32_t cell_find(const struct registry *reg, const struct cell *wanted)
{
	struct index_cursor cursor = index_find(&reg->cells, cell_hash(reg, wanted));
	uint64_t e;

	while ((e = index_next(&cursor)) != 0)
		if (same_cell(&reg->cell[index_entry_value(e)], wanted))
			return index_entry_value(e);
	return 0;
}

static const struct process_slot *owner_of(const struct registry *reg, const struct cell *c)
{
	const struct process_slot *s = &reg->process[c->process];

	return s->p.serial == c->serial ? s : NULL;
}

static void unlist(struct registry *reg, uint32_t number)
{
	struct growth_state *g = &reg->growth;

	for (unsigned i = 0; i < g->near_n; i++)
		if (g->near[i] == number)
			g->near[i--] = g->near[--g->near_n];
	reg->cell[number].listed = false;
}

static void cell_forget(struct registry *reg, uint32_t number)
{
	struct cell *c = &reg->cell[number];

	if (c->listed)
		unlist(reg, number);
	index_remove(&reg->cells, cell_hash(reg, c), 0, number);
	registry_share_return(reg, c->uid, SHARE_CELLS);
	*c = (struct cell){ .moment = reg->growth.free };
	reg->growth.free = number;
}

/* Nothing grows in it, and it is empty or has been silent, or its process is gone. */
static bool may_go(const struct registry *reg, const struct cell *c)
{
	const struct process_slot *s = owner_of(reg, c);

	if (!s || s->p.ended)
		return true;
	return (!c->held && !c->run) || s->moments - c->moment > 1;
}

/* Room for one more cell of that user. */
static bool make_room(struct registry *reg, uint32_t uid)
{
	struct growth_state *g = &reg->growth;

	if (registry_share_take(reg, uid, SHARE_CELLS))
		return true;
	for (unsigned i = 0; i < SWEEP; i++) {
		g->hand = g->hand + 1 < g->used ? g->hand + 1 : 1;
		if (!reg->cell[g->hand].serial || !may_go(reg, &reg->cell[g->hand]))
			continue;
		/* He has his share: nobody else gives way. */
		if (reg->used[SHARE_CELLS] < GROWTH_CELLS && reg->cell[g->hand].uid != uid)
			continue;
		cell_forget(reg, g->hand);
		if (registry_share_take(reg, uid, SHARE_CELLS))
			return true;
	}
	return false;
}

/* 0 = no room: what belongs there is not looked at. */
static uint32_t cell_new(struct registry *reg, const struct cell *wanted)
{
	const struct process_slot *s = &reg->process[wanted->process];
	uint32_t number;

	if (!make_room(reg, s->p.uid))
		return 0;
	number = reg->growth.free ? reg->growth.free : reg->growth.used;
	if (index_insert(&reg->cells, cell_hash(reg, wanted), 0, number) < 0) {
		registry_share_return(reg, s->p.uid, SHARE_CELLS);
		return 0;
	}
	if (reg->growth.free)
		reg->growth.free = reg->cell[number].moment;
	else
		reg->growth.used++;
	struct cell *c = &reg->cell[number];
	*c = *wanted;
	c->uid = s->p.uid;
	c->since = reg->seq;
	c->moment = s->moments;
	c->then_seq = s->moment_seq;
	return number;
}

/* ---- those that grow, or lack one interval of it ---- */

static void list_if_near(struct registry *reg, uint32_t number)
{
	struct growth_state *g = &reg->growth;
	struct cell *c = &reg->cell[number];

	if (c->listed || c->run + 1 < fewest(reg, c) || reg->process[c->process].p.ended)
		return;
	for (unsigned i = 0; i < g->near_n && g->near_n == GROWTH_NEAR; i++) {
		struct cell *old = &reg->cell[g->near[i]];
		const struct process_slot *s = owner_of(reg, old);
		if (s)
			bring_up_to_date(old, s);
		/* What a process that has ended holds grows no more: it is told until somebody needs the place. */
		if (!s || s->p.ended || !old->run)
			unlist(reg, g->near[i]);
	}
	if (g->near_n == GROWTH_NEAR)
		return;
	g->near[g->near_n++] = number;
	c->listed = true;
}

/* With fewer marks more of them are near. */
int registry_set_growth_marks(struct registry *reg, uint64_t n)
{
	if (n < GROWTH_MARKS_MIN || n > GROWTH_MARKS_MAX)
		return -ERANGE;
	reg->growth.marks = (unsigned)n;
	for (uint32_t i = 1; i < reg->growth.used && reg->growth.near_n < GROWTH_NEAR; i++)
		if (reg->cell[i].serial)
			list_if_near(reg, i);
	return 0;
}

/* ---- events ---- */

static void add_to(struct registry *reg, const struct buffer *b, bool any_size)
{
	struct cell wanted = cell_of(reg, b, any_size);
	uint32_t number = cell_find(reg, &wanted);

	if (!number)
		number = cell_new(reg, &wanted);
	struct cell *c = &reg->cell[number];
	if (!number || b->seq < c->since)
		return;
	bring_up_to_date(c, &reg->process[b->process]);
	c->held++;
	c->bytes += b->size;
	list_if_near(reg, number);
}

static void remove_from(struct registry *reg, const struct buffer *b, bool any_size, bool freed)
{
	const struct process_slot *s = &reg->process[b->process];
	struct cell wanted = cell_of(reg, b, any_size);
	uint32_t number = cell_find(reg, &wanted);
	struct cell *c = &reg->cell[number];

	if (!number)
		return;
	bring_up_to_date(c, s);
	if (b->seq >= c->since) {
		c->held--;
		c->bytes -= b->size;
	}
	/* It was held at the last moment. What a control command forgets was not given back. */
	if (freed && b->seq <= s->moment_seq) {
		c->spoiled = true;
		c->went = c->run > c->went ? c->run : c->went;
		c->run = 0;
	}
}

void registry_growth_add(struct registry *reg, const struct buffer *b)
{
	add_to(reg, b, false);
	add_to(reg, b, true);
}

void registry_growth_remove(struct registry *reg, const struct buffer *b, bool freed)
{
	remove_from(reg, b, false, freed);
	remove_from(reg, b, true, freed);
}

/* ---- questions ---- */

static bool growing_in(const struct registry *reg, const struct buffer *b, bool any_size, struct growth *out)
{
	struct cell c = cell_of(reg, b, any_size);
	uint32_t number = cell_find(reg, &c);

	if (!number || b->seq < reg->cell[number].since)
		return false;
	c = reg->cell[number];
	bring_up_to_date(&c, &reg->process[b->process]);
	if (!cell_grows(reg, &c) || b->seq <= c.run_seq)
		return false;
	*out = (struct growth){ .bytes = bytes_per_mark(&c), .marks = c.run + 1, .any_size = any_size };
	return true;
}

bool registry_growing(const struct registry *reg, const struct buffer *b, struct growth *out)
{
	if (!reg->process[b->process].moments)
		return false;
	return growing_in(reg, b, false, out) || growing_in(reg, b, true, out);
}

/* What grows in all sizes together counts only where no size by itself does. */
int64_t registry_site_growth(const struct registry *reg, uint32_t process, uint32_t site, unsigned device, unsigned type)
{
	const struct growth_state *g = &reg->growth;
	uint32_t moments = process == PROCESS_NONE ? g->moments : reg->process[process].moments;
	uint64_t sizes = 0, any = 0;

	if (moments < g->marks)
		return -1;
	for (unsigned i = 0; i < g->near_n; i++) {
		struct cell c = reg->cell[g->near[i]];
		const struct process_slot *s = owner_of(reg, &c);
		if (!s || c.site != site || c.device != device || c.type != type ||
		    (process != PROCESS_NONE && c.process != process))
			continue;
		bring_up_to_date(&c, s);
		if (cell_grows(reg, &c))
			*(c.any_size ? &any : &sizes) += bytes_per_mark(&c);
	}
	return (int64_t)(sizes ? sizes : any);
}
