/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * history.h - what is remembered of an address, also after its buffer was freed.
 *
 * A *head* stands for (device, type, address, owner). Of most addresses nothing is to be told but that a buffer was
 * allocated and freed by its owner with one reference: an everyday life. One such life is 32 bytes, head and event in
 * one (HISTORY_SOLO). From the second event on, or when the life was not an everyday one, the head counts what there
 * was (HISTORY_KEY) and has a chain of 32-byte events, the oldest first; there an everyday life is one event, too
 * (HISTORY_LIFE). A life is written down when the buffer goes, since until then the live record itself tells it; only
 * what does not fit that (references, resizes, foreign and double frees) is written as it happens.
 *
 * Where heads are found. While its owner has a live buffer at that place, a head is *carried* by the buffer's record,
 * which has its number, and stands nowhere else. Otherwise it has an entry in the registry's index, beside those of
 * the live buffers of its address. Mostly nothing else is there: then the one entry is the buffer's and the head's by
 * turns and never moves. Heads are made for live buffers only, so a new one is carried.
 *
 * Bounded three times. A head keeps at most `per_key` events and reuses its own oldest, so that an address with a busy
 * life costs the others nothing. An address keeps at most HISTORY_HEADS_AT_ADDRESS heads in the index, those whose
 * buffers went last; carried ones are as many as there are live buffers. When all events or heads are in use, a hand
 * goes round the heads and takes the first that was not touched since it came by last, but not one that is *pinned*, in
 * which a live buffer's events stand. It looks at a bounded number of heads; when none of these may go, the new event is
 * dropped. (A list in order of use would be exact, and cost three cache misses per event.)
 *
 * Heads and events sit in memory that the caller provides and refer to each other by number (0 = none).
 */
#ifndef TRACKER_HISTORY_H
#define TRACKER_HISTORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tracker/ahead.h"
#include "tracker/index.h"

#define HISTORY_HEADS_AT_ADDRESS 256
#define HISTORY_LIFE 31               /* kind of an event that is an ALLOC at `time` and a FREE at `end` */
#define HISTORY_PERSONS (UINT32_C(1) << 20)

/* Who an owner was. Remembered for the last HISTORY_PERSONS processes, much longer than their slots. */
struct history_person {
	uint32_t serial;
	int32_t pid;
	uint32_t uid;
	uint32_t slot;  /* where it was; another one may be there by now */
};

struct history_event {
	uint64_t time;
	uint64_t next : 24;   /* the following event of the chain */
	uint64_t pid : 24;    /* who did it */
	uint64_t sites : 16;  /* where: number of a pair (registry-site.c), 0 = not known */
	uint64_t size : 59;
	uint64_t kind : 5;    /* enum trace_kind or HISTORY_LIFE */
	uint64_t end;         /* HISTORY_LIFE: time of the free; else the references left */
};
#define HISTORY_PID_MASK 0xffffffU  /* Linux has no pid above 2^22 */
#define HISTORY_EVENTS_MAX ((UINT32_C(1) << 24) - 2)

enum history_form {
	HISTORY_NONE,         /* a free head; `owner` is the next one in their list */
	HISTORY_SOLO,
	HISTORY_KEY,
};

/* What is in each head: (address, owner, form, type, device, carried, touched, unsure). */
struct history_solo {
	uint64_t address : 48;  /* what needs more bits becomes a key */
	uint64_t sites : 16;    /* as in an event */
	uint32_t owner;       /* serial of the process */
	uint32_t form : 2;
	uint32_t type : 3;
	uint32_t device : 10;
	uint32_t carried : 1; /* by the record of a live buffer: it is not in the index */
	uint32_t touched : 1; /* since the hand came by */
	uint32_t unsure : 1;  /* a buffer of the owner was lost or forgotten here: the next free may be of that one */
	uint32_t lasted_high : 14;
	uint64_t end;
	uint64_t size : 36;
	uint64_t lasted_low : 28;  /* end minus time: 42 bits of ns are 73 minutes; longer lives become a key */
};

struct history_key {
	uint64_t address;
	uint32_t owner;
	uint32_t form : 2;
	uint32_t type : 3;
	uint32_t device : 10;
	uint32_t carried : 1;
	uint32_t touched : 1;
	uint32_t unsure : 1;
	uint32_t pinned : 1;  /* the ALLOC of the live buffer that carries it stands in the chain */
	uint32_t count : 10;  /* events in the chain */
	uint32_t spare : 3;
	uint32_t first;       /* oldest event */
	uint32_t last;        /* newest event */
	uint32_t allocs;      /* buffers that began here and are over, or pinned */
	uint32_t frees;       /* buffers that ended here by a free */
};

/* C allows reading the common members behind the address through either. */
union history_head {
	struct history_solo solo;
	struct history_key key;
};

static inline uint64_t history_address(const union history_head *head)
{
	return head->key.form == HISTORY_SOLO ? head->solo.address : head->key.address;
}

/* Events that were given back together. */
struct history_chain {
	uint32_t first;
	uint32_t count;
};

struct history {
	union history_head *head;     /* [0] is unused, as is event[0] */
	struct history_event *event;
	struct history_chain *chain;  /* stack of the free events; it lies behind those */
	struct history_person *person;
	struct index *index;          /* not owned */
	uint64_t seed;
	uint32_t max_events;          /* and as many heads */
	uint32_t per_key;
	uint32_t used_heads;          /* high-water marks */
	uint32_t used_events;
	uint32_t free_heads;          /* list of returned ones */
	uint32_t free_chains;         /* height of the stack */
	uint32_t hand;
	uint32_t asked;               /* the head up to which memory was asked for, see history_ahead() */
	uint32_t heads;               /* in use now */
	uint32_t pinned;              /* of these */
	uint32_t persons;
	uint32_t events;              /* remembered now; a solo head is one */
	uint64_t *dropped;            /* not owned: counts events there was no room for */
};

/* Which head. */
struct history_id {
	uint64_t address;
	uint32_t owner;
	uint16_t device;
	uint8_t type;
};

/* The hash of everything at one address of one device, 28 bits.
 * One multiplication by what nobody knows, folded: without the seed nobody can aim at a place. */
static inline uint32_t history_hash(uint64_t seed, unsigned device, uint64_t address)
{
	uint64_t a = (address ^ seed) + device * UINT64_C(0x9e3779b97f4a7c15);
	unsigned __int128 m = (unsigned __int128)a * ((seed >> 32 | seed << 32) | 1);

	return (uint32_t)(((uint64_t)m ^ (uint64_t)(m >> 64)) >> (64 - INDEX_HASH_BITS));
}

/* The index tags of live buffers and of heads; the low bits of the owner's serial spare most wrong looks. */
static inline uint32_t index_tag_live(unsigned type, uint32_t serial)
{
	return type << 5 | (serial & 31);
}
static inline uint32_t index_tag_head(unsigned type, uint32_t serial)
{
	return 1U << 8 | type << 5 | (serial & 31);
}
static inline bool index_tag_is_head(uint32_t tag)
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

size_t history_heads_size(uint32_t max_events);    /* bytes of the three areas */
size_t history_events_size(uint32_t max_events);
size_t history_persons_size(void);
/* `heads`, `events` and `persons` are zeroed areas of those sizes. */
void history_init(struct history *h, struct index *index, uint64_t seed, uint32_t max_events, uint32_t per_key,
		  void *heads, void *events, void *persons, uint64_t *dropped);
/* Forgets everything but the persons; the caller has cleared (or clears) the index entries of all heads. */
void history_clear(struct history *h);
/* Bytes in use, without the index. */
uint64_t history_memory(const struct history *h);

void history_person_add(struct history *h, const struct history_person *person);
/* pid and uid of an owner; false when too many came after it. */
bool history_person_get(const struct history *h, uint32_t serial, struct history_person *out);

/* ---- reading ---- */

/* Whether that number, which may be an old one, is the head of `id`. */
static inline bool history_is(const struct history *h, uint32_t number, const struct history_id *id)
{
	const struct history_key *k = &h->head[number].key;

	return number && number < h->used_heads && k->form != HISTORY_NONE &&
	       history_address(&h->head[number]) == id->address && k->owner == id->owner &&
	       k->device == id->device && k->type == id->type;
}
/* Asks for the event that the next one of a head will be linked to, and what it will take the place of; the head itself
 * has been asked for before. */
static inline void history_ahead_append(const struct history *h, uint32_t head, struct ahead *ask)
{
	const struct history_key *k = &h->head[head].key;
	uint32_t key = k->form == HISTORY_KEY;

	ahead_add(ask, &h->event[key * k->last]);
	ahead_add(ask, &h->event[key * (k->count >= h->per_key ? k->first : k->last)]);
}
/* Asks for the memory that forgetting the next heads in front of the hand will look at, for about n events. */
void history_ahead_evict(struct history *h, unsigned n, struct ahead *ask);
uint64_t history_allocs(const struct history *h, uint32_t head);
uint64_t history_frees(const struct history *h, uint32_t head);
/* When the newest event was; 0 = there is none. */
uint64_t history_time(const struct history *h, uint32_t head);
/* The events of a head in order of booking: *pos is 0 at the beginning; false = that was all. Of what is put out, `next`
 * means nothing. */
bool history_each(const struct history *h, uint32_t head, uint32_t *pos, struct history_event *out);

/* ---- writing: heads of live buffers ---- */

/* A buffer that is new at its address carries the head, whose index entry becomes that of the buffer (tag, value). False:
 * it has none of its own there yet, since other entries came later. */
bool history_carry(struct history *h, uint32_t head, uint32_t hash, uint32_t tag, uint32_t value);
/* The buffer goes; its index entry (tag, value) becomes that of the head. */
void history_release(struct history *h, uint32_t head, uint32_t hash, uint32_t tag, uint32_t value);
/* An everyday life is over: `life` has time, end, size and pid. `head` is what carries the buffer, 0 for none; returns
 * what does now, 0 when there was no room (counted in `dropped`). */
uint32_t history_live(struct history *h, uint32_t head, const struct history_id *id, const struct history_event *life);
/* More is to be told of the live buffer than an everyday life: its ALLOC is written down, and its head pinned. Returns
 * as history_live(). */
uint32_t history_begin(struct history *h, uint32_t head, const struct history_id *id, const struct history_event *alloc);
/* The end of what was begun; `freed`: by the event that was written last, not forgotten by a control command. */
void history_end(struct history *h, uint32_t head, bool freed);

/* Adds to a head, giving up its oldest event beyond the bounds. */
void history_append(struct history *h, uint32_t head, const struct history_event *e);
/* The same; but where the newest event is of the same kind and pid already, that one gets the time and sites of the newer
 * one, so that what somebody repeats pushes out no more than one event. */
void history_append_once(struct history *h, uint32_t head, const struct history_event *e);
/* Removes a head, its events and its index entry. */
void history_forget(struct history *h, uint32_t head);

#endif
