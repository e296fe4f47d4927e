/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * index.h - from (device, address) to slots: the one table every event goes through.
 *
 * 8-byte entries, sorted by hash, open addressing with linear probing from the beginning of a cache line. All entries of
 * one hash are neighbours, so every type and every owner at one address, and what is remembered of it, is found in one
 * cache line, seldom two. (If probing began at any slot, 4 of 10 look-ups would go on into a line nobody asked for.)
 *
 *   entry = hash 28 bits | tag 9 bits | value 27 bits (stored + 1; an empty slot is 0)
 *
 * An entry does not hold the key: whoever asks compares the record behind `value`. The tag is 9 bits of the
 * caller's choice that spare most of those looks.
 *
 * Sizes: load is kept between 0.56 and 0.70 while growing (11.4 to 14.3 bytes per entry); growing by 1.25 (and
 * shrinking) happens a few entries per insert or remove, never in one go: both tables are sorted the same way, so
 * a single frontier tells in which of them a hash lives, and the pages behind it are given back at once.
 *
 * The index is derived state: it can be rebuilt from the records. It owns its tables (anonymous mappings).
 */
#ifndef TRACKER_INDEX_H
#define TRACKER_INDEX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define INDEX_HASH_BITS 28
#define INDEX_TAG_BITS 9
#define INDEX_VALUE_BITS 27
#define INDEX_VALUE_MAX ((UINT32_C(1) << INDEX_VALUE_BITS) - 2)
#define INDEX_LINE 8U  /* entries per cache line */

struct index_table {
	uint64_t *entry;    /* NULL: no such table */
	uint32_t capacity;  /* a multiple of INDEX_LINE; homes are 0, INDEX_LINE, ... below it */
	uint32_t slots;     /* capacity + slack; the last one is always empty, and INDEX_LINE more can be read */
};

/* Where the last lookup ended: one event looks for the same hash several times. */
struct index_memo {
	const uint64_t *entry;
	uint64_t changes;  /* of the index then */
	uint32_t hash;
};

struct index {
	struct index_table now;  /* holds hashes below the frontier, or all */
	struct index_table old;  /* being emptied into `now`, from the front; entry NULL when not resizing */
	uint32_t frontier;       /* first hash that is still in `old` */
	uint32_t old_pos;        /* first slot of `old` that was not moved yet */
	struct index_memo *memo; /* owned; the one thing that a lookup changes */
	uint64_t changes;        /* so far, of entries or their places */
	uint32_t count;
	uint32_t grow_at;        /* count at which to begin to grow, and below which to shrink; while resizing, never */
	uint32_t shrink_at;
	uint32_t pace;           /* slots of `old` that each change visits */
};

/* Where a lookup stands; valid until the index is changed. */
struct index_cursor {
	const uint64_t *entry;
	uint32_t hash;
};

/* 0 or -ENOMEM. */
int index_init(struct index *ix);
void index_deinit(struct index *ix);
/* Forgets all entries and returns to the smallest table. 0 or -ENOMEM (the index is empty, but as large as before). */
int index_clear(struct index *ix);

/* Bytes of table in use by this index (mapped and not given back). */
size_t index_bytes(const struct index *ix);

/* 0, -ENOMEM, or -EINVAL for a value above INDEX_VALUE_MAX. Equal hashes keep the order of insertion. */
int index_insert(struct index *ix, uint32_t hash, uint32_t tag, uint32_t value);
/* Gives the entry (tag, value) another tag and value, where it is; false, and nothing happens, unless it is the only
 * one of its hash. */
bool index_replace_only(struct index *ix, uint32_t hash, uint32_t tag, uint32_t value, uint32_t new_tag,
			uint32_t new_value);
/* Removes the entry of that hash and value; false if there is none. */
bool index_remove(struct index *ix, uint32_t hash, uint32_t tag, uint32_t value);

static inline uint32_t index_entry_hash(uint64_t e)
{
	return (uint32_t)(e >> (INDEX_TAG_BITS + INDEX_VALUE_BITS));
}

static inline uint32_t index_entry_tag(uint64_t e)
{
	return (uint32_t)(e >> INDEX_VALUE_BITS) & ((1U << INDEX_TAG_BITS) - 1);
}

static inline uint32_t index_entry_value(uint64_t e)
{
	return ((uint32_t)e & ((UINT32_C(1) << INDEX_VALUE_BITS) - 1)) - 1;
}

/* The slot of `t` at which entries of `hash` would stand at the earliest. */
static inline uint32_t index_home(const struct index_table *t, uint32_t hash)
{
	return (uint32_t)(((uint64_t)hash * (t->capacity / INDEX_LINE)) >> INDEX_HASH_BITS) * INDEX_LINE;
}

/* Where a look-up of `hash` starts. */
static inline const uint64_t *index_start(const struct index *ix, uint32_t hash)
{
	if (ix->old.entry && hash >= ix->frontier) {
		uint32_t home = index_home(&ix->old, hash);
		return ix->old.entry + (home > ix->old_pos ? home : ix->old_pos);
	}
	return ix->now.entry + index_home(&ix->now, hash);
}

/* How many of the next INDEX_LINE entries have a smaller hash; they come first, and an empty slot has none. Counted
 * without a branch: where to stop cannot be guessed, and a wrong guess costs more than the comparisons. */
static inline unsigned index_smaller(const uint64_t *e, uint32_t hash)
{
	const uint64_t bound = (uint64_t)hash << (INDEX_TAG_BITS + INDEX_VALUE_BITS);
	unsigned n = 0;

	for (unsigned i = 0; i < INDEX_LINE; i++)
		n += e[i] - 1 < bound;
	return n;
}

/* The first entry of that hash, or what stands where it would be. `e` is index_start(). */
static inline const uint64_t *index_seek(const uint64_t *e, uint32_t hash)
{
	unsigned n;

	do {
		n = index_smaller(e, hash);
		e += n;
	} while (n == INDEX_LINE);
	return e;
}

static inline const uint64_t *index_place(const struct index *ix, uint32_t hash)
{
	const struct index_memo *m = ix->memo;

	return m->hash == hash && m->changes == ix->changes ? m->entry : index_seek(index_start(ix, hash), hash);
}

static inline struct index_cursor index_find(const struct index *ix, uint32_t hash)
{
	const uint64_t *e = index_place(ix, hash);

	*ix->memo = (struct index_memo){ .entry = e, .changes = ix->changes, .hash = hash };
	return (struct index_cursor){ .entry = e, .hash = hash };
}

/* The next entry of the hash, or 0 when there is none left. */
static inline uint64_t index_next(struct index_cursor *c)
{
	uint64_t e = *c->entry;
	if (!e || index_entry_hash(e) != c->hash)
		return 0;
	c->entry++;
	return e;
}

#endif
