/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * history.c - keys, their chains of events, and who goes when there is no room; see history.h.
 */
#include "tracker/history.h"

#include <assert.h>
#include <string.h>

#define SCOUT 16

static_assert(sizeof(struct history_event) == 32, "an event is 32 bytes");
static_assert(sizeof(struct history_key) == 48, "a key is 48 bytes");

/* Half as many keys as events: a buffer that lives and dies often needs one key and many events, one that does so
 * once needs one of each. */
static uint32_t keys_for(uint32_t max_events)
{
	return max_events / 2 + 2;
}

size_t history_keys_size(uint32_t max_events)
{
	return (size_t)keys_for(max_events) * sizeof(struct history_key);
}

size_t history_events_size(uint32_t max_events)
{
	return ((size_t)max_events + 1) * sizeof(struct history_event);
}

void history_init(struct history *h, struct index *index, uint64_t seed, uint32_t max_events, uint32_t per_key,
		  void *keys, void *events)
{
	*h = (struct history){
		.key = keys,
		.event = events,
		.index = index,
		.seed = seed,
		.max_keys = keys_for(max_events),
		.max_events = max_events,
		.per_key = per_key,
		.used_keys = 1,
		.used_events = 1,
	};
}

void history_clear(struct history *h)
{
	h->key[0] = (struct history_key){ 0 };
	h->used_keys = 1;
	h->used_events = 1;
	h->free_keys = 0;
	h->free_events = 0;
	h->keys = 0;
	h->events = 0;
	h->scout = 0;
}

/* ---- the ring of keys by last touch: key[0].older is the newest, key[0].newer the oldest ---- */

static void ring_remove(struct history *h, uint32_t k)
{
	h->key[h->key[k].newer].older = h->key[k].older;
	h->key[h->key[k].older].newer = h->key[k].newer;
}

static void ring_add_newest(struct history *h, uint32_t k)
{
	uint32_t second = h->key[0].older;

	h->key[k].older = second;
	h->key[k].newer = 0;
	h->key[second].newer = k;
	h->key[0].older = k;
}

/* ---- room ---- */

static void event_free(struct history *h, uint32_t e)
{
	h->event[e].next = h->free_events & 0xffffff;
	h->free_events = e;
	h->events--;
}

static void drop_oldest(struct history *h, struct history_key *k)
{
	uint32_t e = k->first;

	k->first = h->event[e].next;
	k->count--;
	if (!k->count)
		k->last = 0;
	event_free(h, e);
}

void history_forget(struct history *h, uint32_t key)
{
	struct history_key *k = &h->key[key];

	while (k->count)
		drop_oldest(h, k);
	index_remove(h->index, history_hash(h->seed, k->device, k->address), index_tag_key(k->type, k->owner), key);
	if (!k->pinned)
		ring_remove(h, key);
	memset(k, 0, sizeof(*k));
	k->older = h->free_keys;
	h->free_keys = key;
	h->keys--;
}

/* Who goes next is known long before: asks for the memory that forgetting it will look at, SCOUT keys ahead. A scout
 * that lost its way, since its key was touched or has gone, starts again at the oldest. */
static void scout(struct history *h, uint32_t victim)
{
	const struct history_key *k;

	if (h->scout == victim)
		h->scout = 0;
	if (!h->scout) {
		h->scout = victim;
		for (int i = 0; i < SCOUT; i++)
			h->scout = h->key[h->scout].newer;
	}
	h->scout = h->key[h->scout].newer;
	k = &h->key[h->scout];
	__builtin_prefetch(&h->key[k->newer], 1);
	__builtin_prefetch(&h->event[k->first], 1);
	index_prefetch(h->index, history_hash(h->seed, k->device, k->address));
}

/* Makes room by giving up the key that was touched longest ago; `keep` is not given up. */
static bool evict(struct history *h, uint32_t keep)
{
	uint32_t k = h->key[0].newer;

	if (k && k == keep)
		k = h->key[k].newer;
	if (!k)
		return false;
	scout(h, k);
	history_forget(h, k);
	return true;
}

static uint32_t key_alloc(struct history *h)
{
	if (!h->free_keys && h->used_keys == h->max_keys && !evict(h, 0))
		return 0;
	uint32_t k = h->free_keys;
	if (k)
		h->free_keys = h->key[k].older;
	else
		k = h->used_keys++;
	h->keys++;
	return k;
}

static uint32_t event_alloc(struct history *h, uint32_t key)
{
	/* A key that got no event when there was no room has none to give. */
	while (!h->free_events && h->used_events > h->max_events)
		if (!evict(h, key))
			return 0;
	uint32_t e = h->free_events;
	if (e)
		h->free_events = h->event[e].next;
	else
		e = h->used_events++;
	h->events++;
	return e;
}

/* ---- keys ---- */

uint32_t history_find(const struct history *h, uint32_t hash, unsigned device, unsigned type, uint64_t address,
		      uint32_t serial)
{
	struct index_cursor c = index_find(h->index, hash);
	uint32_t tag = index_tag_key(type, serial);
	uint64_t e;

	while ((e = index_next(&c)) != 0) {
		if (index_entry_tag(e) != tag)
			continue;
		const struct history_key *k = &h->key[index_entry_value(e)];
		if (k->address == address && k->owner == serial && k->device == device)
			return index_entry_value(e);
	}
	return 0;
}

/* Makes room for one more key at the address: the oldest that is not pinned goes. Keys stand in order of their
 * making. */
static void make_room_at(struct history *h, uint32_t hash)
{
	struct index_cursor c = index_find(h->index, hash);
	uint32_t oldest = 0, keys = 0;
	uint64_t e;

	while ((e = index_next(&c)) != 0) {
		if (!index_tag_is_key(index_entry_tag(e)))
			continue;
		keys++;
		if (!oldest && !h->key[index_entry_value(e)].pinned)
			oldest = index_entry_value(e);
	}
	if (keys >= HISTORY_KEYS_AT_ADDRESS && oldest)
		history_forget(h, oldest);
}

/* A key that is in no index yet; 0 = no room. */
static uint32_t key_new(struct history *h, unsigned device, unsigned type, uint64_t address, uint32_t serial,
			uint32_t uid)
{
	uint32_t key = key_alloc(h);

	if (!key) {
		h->dropped++;
		return 0;
	}
	h->key[key] = (struct history_key){
		.address = address,
		.owner = serial,
		.uid = uid,
		.device = (uint16_t)device,
		.type = (uint8_t)type,
	};
	ring_add_newest(h, key);
	return key;
}

uint32_t history_get(struct history *h, uint32_t hash, unsigned device, unsigned type, uint64_t address,
		     uint32_t serial, uint32_t uid)
{
	if (!h->per_key)
		return 0;
	uint32_t key = history_find(h, hash, device, type, address, serial);
	if (key) {
		if (!h->key[key].pinned) {
			ring_remove(h, key);
			ring_add_newest(h, key);
		}
		return key;
	}
	make_room_at(h, hash);
	key = key_new(h, device, type, address, serial, uid);
	if (key && index_insert(h->index, hash, index_tag_key(type, serial), key) < 0) {
		history_forget(h, key);
		h->dropped++;
		return 0;
	}
	return key;
}

/* Whether there is one entry of that hash. */
static bool is_alone(const struct index *ix, uint32_t hash)
{
	struct index_cursor c = index_find(ix, hash);

	return index_next(&c) && !index_next(&c);
}

uint32_t history_get_for_end(struct history *h, uint32_t hash, unsigned device, unsigned type, uint64_t address,
			     uint32_t serial, uint32_t uid, uint32_t tag, uint32_t value, bool *replaced)
{
	uint32_t key;

	*replaced = false;
	if (!h->per_key || !is_alone(h->index, hash))
		return history_get(h, hash, device, type, address, serial, uid);
	/* Making room may move entries, but adds none. */
	key = key_new(h, device, type, address, serial, uid);
	if (key)
		*replaced = index_replace_only(h->index, hash, tag, value, index_tag_key(type, serial), key);
	return key;
}

void history_append(struct history *h, uint32_t key, const struct history_event *event)
{
	struct history_key *k = &h->key[key];

	while (k->count && k->count >= h->per_key)
		drop_oldest(h, k);
	if (!h->per_key)
		return;
	uint32_t e = event_alloc(h, key);
	if (!e && k->count) {
		drop_oldest(h, k);
		e = event_alloc(h, key);
	}
	if (!e) {
		h->dropped++;
		return;
	}
	h->event[e] = *event;
	h->event[e].next = 0;
	if (k->count)
		h->event[k->last].next = e & 0xffffff;
	else
		k->first = e;
	k->last = e;
	k->count++;
}

void history_pin(struct history *h, uint32_t key)
{
	if (!h->key[key].pinned)
		ring_remove(h, key);
	h->key[key].pinned = 1;
}

void history_unpin(struct history *h, uint32_t key)
{
	if (h->key[key].pinned)
		ring_add_newest(h, key);
	h->key[key].pinned = 0;
}
