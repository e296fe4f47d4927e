/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * history.c - heads, their chains of events, and who goes when there is no room; see history.h.
 */
#include "tracker/history.h"

#include <assert.h>
#include <string.h>

#define SWEEP 1024  /* heads that are looked at for one that may go */
#define SPARED 32   /* of these, for having been touched */
#define AHEAD 32    /* heads in front of the hand for which memory is asked for */

#define LASTED_LOW_BITS 28
#define LASTED_MAX ((UINT64_C(1) << (14 + LASTED_LOW_BITS)) - 1)
#define SOLO_SIZE_MAX ((UINT64_C(1) << 36) - 1)
#define SOLO_ADDRESS_MAX ((UINT64_C(1) << 48) - 1)
#define EVENT_NUMBER_MASK 0xffffffU

static_assert(sizeof(struct history_event) == 32, "an event is 32 bytes");
static_assert(sizeof(struct history_solo) == 32, "an everyday life is 32 bytes");
static_assert(sizeof(union history_head) == 32, "a head is 32 bytes");

size_t history_heads_size(uint32_t max_events)
{
	return ((size_t)max_events + 1) * sizeof(union history_head);
}

size_t history_events_size(uint32_t max_events)
{
	return ((size_t)max_events + 1) * (sizeof(struct history_event) + sizeof(struct history_chain));
}

size_t history_persons_size(void)
{
	return HISTORY_PERSONS * sizeof(struct history_person);
}

void history_init(struct history *h, struct index *index, uint64_t seed, uint32_t max_events, uint32_t per_key,
		  void *heads, void *events, void *persons, uint64_t *dropped)
{
	*h = (struct history){
		.head = heads,
		.event = events,
		.chain = (void *)((struct history_event *)events + max_events + 1),
		.person = persons,
		.index = index,
		.dropped = dropped,
		.seed = seed,
		.max_events = max_events,
		.per_key = per_key,
		.used_heads = 1,
		.used_events = 1,
	};
}

void history_clear(struct history *h)
{
	h->used_heads = h->used_events = 1;
	h->free_heads = h->free_chains = 0;
	h->hand = h->asked = 0;
	h->heads = h->pinned = h->events = 0;
}

uint64_t history_memory(const struct history *h)
{
	return (uint64_t)h->used_heads * sizeof(*h->head) + (uint64_t)h->used_events * sizeof(*h->event) +
	       (uint64_t)h->persons * sizeof(*h->person);
}

void history_person_add(struct history *h, const struct history_person *person)
{
	h->person[person->serial % HISTORY_PERSONS] = *person;
	h->persons += h->persons < HISTORY_PERSONS;
}

bool history_person_get(const struct history *h, uint32_t serial, struct history_person *out)
{
	*out = h->person[serial % HISTORY_PERSONS];
	return out->serial == serial;
}

/* ---- heads ---- */

static uint32_t hash_of(const struct history *h, uint32_t head)
{
	return history_hash(h->seed, h->head[head].key.device, history_address(&h->head[head]));
}

static uint32_t tag_of(const struct history_key *k)
{
	return index_tag_head(k->type, k->owner);
}

/* None of the events is looked at. */
static void free_chain(struct history *h, uint32_t first, uint32_t count)
{
	if (!count)
		return;
	h->chain[h->free_chains++] = (struct history_chain){ first, count };
	h->events -= count;
}

void history_forget(struct history *h, uint32_t head)
{
	struct history_key *k = &h->head[head].key;

	if (k->form == HISTORY_SOLO) {
		h->events--;
	} else {
		free_chain(h, k->first, k->count);
		h->pinned -= k->pinned;
	}
	if (!k->carried)
		index_remove(h->index, hash_of(h, head), tag_of(k), head);
	*k = (struct history_key){ .form = HISTORY_NONE, .owner = h->free_heads };
	h->free_heads = head;
	h->heads--;
}

static void ahead_forget(const struct history *h, uint32_t head, struct ahead *ask)
{
	const struct history_key *k = &h->head[head].key;

	if (k->touched)
		return;
	ahead_add(ask, k->carried ? (const void *)k : index_start(h->index, hash_of(h, head)));
	ahead_add(ask, &h->event[(k->form == HISTORY_KEY) * k->first]);
}

void history_ahead_evict(struct history *h, unsigned n, struct ahead *ask)
{
	if (h->events + n < h->max_events)
		return;
	/* The hand has overtaken, or gone round. */
	if (h->asked - h->hand > 2 * AHEAD)
		h->asked = h->hand;
	for (; h->asked < h->hand + AHEAD + n && h->asked + 1 < h->used_heads; h->asked++)
		ahead_forget(h, h->asked + 1, ask);
}

/* Gives up the next head that may go, but not `keep`. False: there is none near the hand. */
static bool evict(struct history *h, uint32_t keep)
{
	unsigned spared = 0;

	if (h->heads == h->pinned)
		return false;
	for (unsigned i = 0; i < SWEEP; i++) {
		h->hand = h->hand + 1 < h->used_heads ? h->hand + 1 : 1;
		struct history_key *k = &h->head[h->hand].key;
		if (k->form == HISTORY_NONE || h->hand == keep || (k->form == HISTORY_KEY && k->pinned))
			continue;
		if (!k->touched || spared == SPARED) {
			history_forget(h, h->hand);
			return true;
		}
		k->touched = 0;
		spared++;
	}
	return false;
}

/* Room for one more event. */
static bool make_room(struct history *h, uint32_t keep)
{
	while (h->events >= h->max_events)
		if (!evict(h, keep))
			return false;
	return true;
}

/* A new head that a live buffer carries; 0 = no room. */
static uint32_t head_new(struct history *h, const struct history_id *id, enum history_form form)
{
	if (!h->free_heads && h->used_heads > h->max_events && !evict(h, 0))
		return 0;
	uint32_t head = h->free_heads;
	if (head)
		h->free_heads = h->head[head].key.owner;
	else
		head = h->used_heads++;
	h->heads++;
	h->head[head].key = (struct history_key){
		.address = id->address,
		.owner = id->owner,
		.form = (unsigned)form & 3,
		.type = id->type & 7U,
		.device = id->device & 1023U,
		.carried = 1,
	};
	return head;
}

/* ---- events ---- */

/* What is remembered is less than max_events, so there is a free one. */
static uint32_t event_take(struct history *h)
{
	if (!h->free_chains)
		return h->used_events++;
	struct history_chain *c = &h->chain[h->free_chains - 1];
	uint32_t e = c->first;

	if (--c->count) {
		c->first = h->event[e].next;
	} else {
		h->free_chains--;
	}
	return e;
}

static void chain_add(struct history *h, struct history_key *k, uint32_t e, const struct history_event *event)
{
	h->event[e] = *event;
	h->event[e].next = 0;
	if (k->count)
		h->event[k->last].next = e & EVENT_NUMBER_MASK;
	else
		k->first = e;
	k->last = e;
	k->count = (k->count + 1U) & 1023U;
}

static uint32_t chain_take_oldest(struct history *h, struct history_key *k)
{
	uint32_t e = k->first;

	k->first = h->event[e].next;
	k->count = (k->count - 1U) & 1023U;
	return e;
}

static void drop_oldest(struct history *h, struct history_key *k)
{
	free_chain(h, chain_take_oldest(h, k), 1);
}

static struct history_event solo_event(const struct history *h, const struct history_solo *s)
{
	uint64_t lasted = (uint64_t)s->lasted_high << LASTED_LOW_BITS | s->lasted_low;
	struct history_person owner;

	return (struct history_event){
		.time = s->end - lasted,
		.kind = HISTORY_LIFE,
		.pid = history_person_get(h, s->owner, &owner) ? (uint32_t)owner.pid & HISTORY_PID_MASK : 0,
		.sites = s->sites,
		.size = s->size,
		.end = s->end,
	};
}

/* From now on the head counts, and its life stands in a chain. */
static struct history_key *make_key(struct history *h, uint32_t head)
{
	struct history_solo solo = h->head[head].solo;
	struct history_key *k = &h->head[head].key;

	if (solo.form == HISTORY_KEY)
		return k;
	struct history_event life = solo_event(h, &solo);
	*k = (struct history_key){
		.address = solo.address,
		.owner = solo.owner,
		.form = HISTORY_KEY,
		.type = solo.type,
		.device = solo.device,
		.carried = solo.carried,
		.unsure = solo.unsure,
		.touched = 1,
		.allocs = 1,
		.frees = 1,
	};
	chain_add(h, k, event_take(h), &life);
	return k;
}

void history_append(struct history *h, uint32_t head, const struct history_event *event)
{
	if (!h->per_key)
		return;
	struct history_key *k = make_key(h, head);

	k->touched = 1;
	while (k->count > h->per_key)
		drop_oldest(h, k);
	if (k->count < h->per_key && make_room(h, head)) {
		h->events++;
		chain_add(h, k, event_take(h), event);
	} else if (k->count) {
		chain_add(h, k, chain_take_oldest(h, k), event);
	} else {
		++*h->dropped;
	}
}

void history_append_once(struct history *h, uint32_t head, const struct history_event *event)
{
	const struct history_key *k = &h->head[head].key;
	struct history_event *last = &h->event[k->form == HISTORY_KEY && k->count ? k->last : 0];

	if (k->form != HISTORY_KEY || !k->count || last->kind != event->kind || last->pid != event->pid) {
		history_append(h, head, event);
		return;
	}
	last->time = event->time;
	last->sites = event->sites;
}

/* ---- heads of live buffers ---- */

/* Nothing else is at the address, for nearly all. */
bool history_carry(struct history *h, uint32_t head, uint32_t hash, uint32_t tag, uint32_t value)
{
	struct history_key *k = &h->head[head].key;

	k->touched = 1;
	k->carried = 1;
	if (index_replace_only(h->index, hash, tag_of(k), head, tag, value))
		return true;
	index_remove(h->index, hash, tag_of(k), head);
	return false;
}

/* Makes room for one more head at the address: the one that went there first goes. Entries stand in the order in which
 * they came. */
static void make_room_at(struct history *h, uint32_t hash)
{
	struct index_cursor c = index_find(h->index, hash);
	uint32_t oldest = 0, heads = 0;
	uint64_t e;

	while ((e = index_next(&c)) != 0) {
		if (!index_tag_is_head(index_entry_tag(e)))
			continue;
		heads++;
		if (!oldest)
			oldest = index_entry_value(e);
	}
	if (heads >= HISTORY_HEADS_AT_ADDRESS)
		history_forget(h, oldest);
}

void history_release(struct history *h, uint32_t head, uint32_t hash, uint32_t tag, uint32_t value)
{
	struct history_key *k = &h->head[head].key;

	if (!index_replace_only(h->index, hash, tag, value, tag_of(k), head)) {
		index_remove(h->index, hash, tag, value);
		make_room_at(h, hash);
		if (index_insert(h->index, hash, tag_of(k), head) < 0) {
			history_forget(h, head);
			++*h->dropped;
			return;
		}
	}
	k->carried = 0;
}

/* False: it takes a key and an event. */
static bool life_is_solo(const struct history *h, const struct history_id *id, const struct history_event *life)
{
	struct history_person owner;

	return id->address <= SOLO_ADDRESS_MAX && life->size <= SOLO_SIZE_MAX && life->end >= life->time &&
	       life->end - life->time <= LASTED_MAX && history_person_get(h, id->owner, &owner) &&
	       (uint32_t)owner.pid == life->pid;
}

static uint32_t first_life(struct history *h, const struct history_id *id, const struct history_event *life)
{
	bool solo = life_is_solo(h, id, life);
	uint32_t head = make_room(h, 0) ? head_new(h, id, solo ? HISTORY_SOLO : HISTORY_KEY) : 0;

	if (!head) {
		++*h->dropped;
		return 0;
	}
	if (solo) {
		struct history_solo *s = &h->head[head].solo;
		uint64_t lasted = life->end - life->time;
		s->end = life->end;
		s->size = life->size & SOLO_SIZE_MAX;
		s->sites = life->sites;
		s->lasted_low = (uint32_t)lasted & ((1U << LASTED_LOW_BITS) - 1);
		s->lasted_high = (uint32_t)(lasted >> LASTED_LOW_BITS) & 0x3fffU;
		h->events++;
	} else {
		h->head[head].key.allocs = h->head[head].key.frees = 1;
		history_append(h, head, life);
	}
	return head;
}

uint32_t history_live(struct history *h, uint32_t head, const struct history_id *id, const struct history_event *life)
{
	if (!h->per_key)
		return head;
	if (!head)
		return first_life(h, id, life);
	struct history_key *k = make_key(h, head);
	k->allocs++;
	k->frees++;
	k->unsure = 0;
	history_append(h, head, life);
	return head;
}

uint32_t history_begin(struct history *h, uint32_t head, const struct history_id *id, const struct history_event *alloc)
{
	if (!h->per_key)
		return 0;
	/* No head without an event: when there is no room for one, many of them would have to go. */
	if (!head && make_room(h, 0))
		head = head_new(h, id, HISTORY_KEY);
	if (!head) {
		++*h->dropped;
		return 0;
	}
	struct history_key *k = make_key(h, head);
	k->pinned = 1;
	k->allocs++;
	h->pinned++;
	history_append(h, head, alloc);
	return head;
}

void history_end(struct history *h, uint32_t head, bool freed)
{
	struct history_key *k = &h->head[head].key;

	k->pinned = 0;
	h->pinned--;
	if (freed) {
		k->frees++;
		k->unsure = 0;
	}
}

/* ---- reading ---- */

uint64_t history_allocs(const struct history *h, uint32_t head)
{
	return h->head[head].key.form == HISTORY_SOLO ? 1 : h->head[head].key.allocs;
}

uint64_t history_frees(const struct history *h, uint32_t head)
{
	return h->head[head].key.form == HISTORY_SOLO ? 1 : h->head[head].key.frees;
}

uint64_t history_time(const struct history *h, uint32_t head)
{
	const struct history_key *k = &h->head[head].key;

	if (k->form == HISTORY_SOLO)
		return h->head[head].solo.end;
	if (!k->count)
		return 0;
	const struct history_event *e = &h->event[k->last];
	return e->kind == HISTORY_LIFE ? e->end : e->time;
}

bool history_each(const struct history *h, uint32_t head, uint32_t *pos, struct history_event *out)
{
	const struct history_key *k = &h->head[head].key;
	uint32_t e;

	if (k->form == HISTORY_SOLO) {
		if (!*pos)
			*out = solo_event(h, &h->head[head].solo);
		return !(*pos)++;
	}
	if (*pos)
		e = h->event[*pos].next;
	else
		e = k->count ? k->first : 0;
	if (!e)
		return false;
	*out = h->event[e];
	*pos = e;
	return true;
}
