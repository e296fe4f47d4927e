/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * history.h - what is remembered of an address, also after its buffer was freed.
 *
 * A key stands for (device, type, address, owner) and has a chain of 32-byte events in order of time. The everyday
 * life of a buffer, allocated and freed by its owner with one reference, is one event (HISTORY_LIFE); it is
 * written when the buffer goes, since until then the live record itself tells it. Only what does not fit that
 * (references, resizes, foreign and double frees) is written as it happens.
 *
 * Bounded three times. A key keeps at most `per_key` events and reuses its own oldest, so that an address with a
 * busy life costs the others nothing. An address keeps at most HISTORY_KEYS_AT_ADDRESS keys, the newest: one
 * process after the other allocates at the same place, for ever. When all events or keys are in use, the key that
 * was touched longest ago goes; keys with a live buffer's events are pinned and do not go.
 *
 * Keys and events sit in memory that the caller provides and refer to each other by number (0 = none). Keys are found
 * through the registry's index: a key's entry stands beside those of the live buffers of its address.
 */
#ifndef TRACKER_HISTORY_H
#define TRACKER_HISTORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tracker/index.h"

#define HISTORY_KEYS_AT_ADDRESS 256
#define HISTORY_LIFE 0xff  /* kind of an event that is an ALLOC at `time` and a FREE at `end` */

struct history_event {
	uint64_t time;
	uint64_t size : 58;
	uint64_t spare : 6;
	int32_t pid;
	uint32_t next : 24;  /* the following event of the key, or of the free list */
	uint32_t kind : 8;   /* enum trace_kind or HISTORY_LIFE */
	uint64_t end;        /* HISTORY_LIFE: time of the free; else the references left */
};
#define HISTORY_EVENTS_MAX ((UINT32_C(1) << 24) - 2)

struct history_key {
	uint64_t address;
	uint32_t owner;    /* serial of the process; 0 = this key is free */
	uint32_t uid;      /* of the owner */
	uint16_t device;
	uint8_t type;
	uint8_t pinned;    /* a live buffer has events here */
	uint16_t count;    /* events in the chain */
	uint8_t unsure;    /* a buffer of the owner was lost or forgotten here: the next free may be its, and no double one */
	uint8_t spare;
	uint32_t first;    /* oldest event */
	uint32_t last;     /* newest event */
	uint32_t allocs;   /* buffers that began here and are over, or pinned */
	uint32_t frees;    /* buffers that ended here by a free */
	uint32_t newer;    /* ring of keys by last touch; free list through `older` */
	uint32_t older;
};

struct history {
	struct history_key *key;      /* [0] is the list head: .older = newest key, .newer = oldest key */
	struct history_event *event;  /* [0] is unused */
	struct index *index;          /* not owned */
	uint64_t seed;
	uint32_t max_keys;
	uint32_t max_events;
	uint32_t per_key;
	uint32_t used_keys;           /* high-water mark of key[] */
	uint32_t used_events;
	uint32_t free_keys;           /* lists of returned ones */
	uint32_t free_events;
	uint32_t scout;               /* key whose memory was asked for last; 0 = start at the oldest */
	uint32_t keys;                /* in use now */
	uint32_t events;
	uint64_t dropped;             /* events there was no room for */
};

/* The hash of everything at one address of one device, 28 bits.
 * One multiplication by what nobody knows, folded: without the seed nobody can aim at a place. */
static inline uint32_t history_hash(uint64_t seed, unsigned device, uint64_t address)
{
	uint64_t a = (address ^ seed) + device * UINT64_C(0x9e3779b97f4a7c15);
	unsigned __int128 m = (unsigned __int128)a * ((seed >> 32 | seed << 32) | 1);

	return (uint32_t)(((uint64_t)m ^ (uint64_t)(m >> 64)) >> (64 - INDEX_HASH_BITS));
}

/* The index tags of live buffers and of history keys; the low bits of the owner's serial spare most wrong looks. */
static inline uint32_t index_tag_live(unsigned type, uint32_t serial)
{
	return type << 5 | (serial & 31);
}
static inline uint32_t index_tag_key(unsigned type, uint32_t serial)
{
	return 1U << 8 | type << 5 | (serial & 31);
}
static inline bool index_tag_is_key(uint32_t tag)
{
	return tag >> 8;
}
static inline unsigned index_tag_type(uint32_t tag)
{
	return tag >> 5 & 7;
}
static inline uint32_t index_tag_owner(uint32_t tag)
{
	return tag & 31;
}

size_t history_keys_size(uint32_t max_events);    /* bytes of the two areas */
size_t history_events_size(uint32_t max_events);
/* `keys` and `events` are zeroed areas of those sizes. */
void history_init(struct history *h, struct index *index, uint64_t seed, uint32_t max_events, uint32_t per_key,
		  void *keys, void *events);
/* Forgets everything; the caller has cleared (or clears) the index entries of all keys. */
void history_clear(struct history *h);

/* The key, or 0. */
uint32_t history_find(const struct history *h, uint32_t hash, unsigned device, unsigned type, uint64_t address,
		      uint32_t serial);
/* The same, made when it is not there; 0 when there is no room (counted in `dropped`). */
uint32_t history_get(struct history *h, uint32_t hash, unsigned device, unsigned type, uint64_t address,
		     uint32_t serial, uint32_t uid);
/* The same for a buffer that ends: when nothing else is at its address, its index entry (tag, value) becomes that of
 * the key, and *replaced is true. */
uint32_t history_get_for_end(struct history *h, uint32_t hash, unsigned device, unsigned type, uint64_t address,
			     uint32_t serial, uint32_t uid, uint32_t tag, uint32_t value, bool *replaced);
/* Adds to the chain of `key`, dropping the oldest event beyond the bounds; `e->next` is set here. */
void history_append(struct history *h, uint32_t key, const struct history_event *e);
void history_pin(struct history *h, uint32_t key);
void history_unpin(struct history *h, uint32_t key);
/* Removes a key, its events and its index entry. */
void history_forget(struct history *h, uint32_t key);

#endif
