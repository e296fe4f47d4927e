/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * index.c - sorted linear probing with incremental resizing; see index.h for the model.
 *
 * Invariants of a table:
 *   - an entry stands at or behind its home, and there is no empty slot between the two;
 *   - entries are in ascending order of their hash;
 *   - the last slot is empty, so that every scan ends.
 * While resizing, `old` has been emptied in front of old_pos. A hash that is still in `old` may have its home there;
 * its probing then starts at old_pos, which keeps the first invariant for everything that matters (index_start).
 */
#include "tracker/index.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define CAPACITY_MIN 2048U
#define SLACK_MIN 1024U
#define RELEASE_SLOTS (1U << 15)   /* give memory back in pieces of 256 KiB */

static size_t table_bytes(const struct index_table *t)
{
	return ((size_t)t->slots + INDEX_LINE) * sizeof(*t->entry);
}

static int table_new(struct index_table *t, uint64_t capacity, uint32_t slack)
{
	capacity = (capacity + INDEX_LINE - 1) / INDEX_LINE * INDEX_LINE;
	uint64_t slots = capacity + slack;
	if (slots > UINT32_MAX)
		return -ENOMEM;
	t->capacity = (uint32_t)capacity;
	t->slots = (uint32_t)slots;
	t->entry = mmap(NULL, table_bytes(t), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
			-1, 0);
	if (t->entry == MAP_FAILED) {
		t->entry = NULL;
		return -ENOMEM;
	}
	return 0;
}

static void table_free(struct index_table *t)
{
	if (t->entry)
		munmap(t->entry, table_bytes(t));
	*t = (struct index_table){ 0 };
}

/* Whether nothing goes on behind the line of that slot, so that what changes stays in it. */
static bool line_ends(const struct index_table *t, uint32_t pos)
{
	uint32_t last = pos | (INDEX_LINE - 1);

	return !t->entry[last] && last < t->slots - 1;
}

/* Moves what stands in the line from `pos` on by one slot, up or down. All of the line is written: how much there is to
 * move cannot be guessed. */
static void line_shift_up(uint64_t *entry, uint32_t pos)
{
	uint64_t *line = entry + pos / INDEX_LINE * INDEX_LINE;
	unsigned at = pos % INDEX_LINE;

	for (unsigned i = INDEX_LINE - 1; i > 0; i--)
		line[i] = i > at ? line[i - 1] : line[i];
}

static void line_shift_down(uint64_t *entry, uint32_t pos)
{
	uint64_t *line = entry + pos / INDEX_LINE * INDEX_LINE;
	unsigned at = pos % INDEX_LINE;

	for (unsigned i = 0; i < INDEX_LINE - 1; i++)
		line[i] = i >= at ? line[i + 1] : line[i];
	line[INDEX_LINE - 1] = 0;
}

/* Puts `entry` at or behind slot *at, in order; *at is then its slot. -ENOSPC when that would use the last slot. */
static int table_insert(struct index_table *t, uint32_t *at, uint64_t entry)
{
	const uint64_t behind = (index_entry_hash(entry) + UINT64_C(1)) << (INDEX_TAG_BITS + INDEX_VALUE_BITS);
	uint64_t *const e = t->entry;
	uint32_t pos = *at, end;

	/* The hash is the highest part of an entry. (That of the last hash wraps to 0: then there is nothing behind.) */
	while (e[pos] && e[pos] - 1 < behind - 1)
		pos++;
	if (line_ends(t, pos)) {
		line_shift_up(e, pos);
	} else {
		for (end = pos; e[end]; end++)
			;
		if (end == t->slots - 1)
			return -ENOSPC;
		memmove(e + pos + 1, e + pos, (size_t)(end - pos) * sizeof(*e));
	}
	e[pos] = entry;
	*at = pos;
	return 0;
}

/* The next of a series of entries in ascending order: none belongs before *last, the slot of the one before it. Without
 * that a long run of equal hashes would be walked through for each of its entries. */
static int table_append(struct index_table *t, uint32_t *last, uint64_t entry)
{
	uint32_t home = index_home(t, index_entry_hash(entry));

	if (home > *last)
		*last = home;
	return table_insert(t, last, entry);
}

/* Empties slot `pos` and closes the gap with those behind it that may move. Returns the slot up to which they have moved:
 * what is found behind it, is found there still, since no look-up begins before it and goes on behind it. */
static uint32_t table_remove(struct index_table *t, uint32_t pos)
{
	uint32_t end = pos + 1;

	if (line_ends(t, pos)) {
		line_shift_down(t->entry, pos);
		return pos | (INDEX_LINE - 1);
	}
	while (t->entry[end] && index_home(t, index_entry_hash(t->entry[end])) < end)
		end++;
	memmove(t->entry + pos, t->entry + pos + 1, (size_t)(end - pos - 1) * sizeof(*t->entry));
	t->entry[end - 1] = 0;
	return end;
}

static uint32_t entries_at_most(const struct index_table *t)
{
	return (uint32_t)(((uint64_t)t->capacity * 7 + 9) / 10);
}

/* To be called whenever a table was taken or given up. While resizing, each change visits so many slots of the old
 * table that it is empty when half of the room in the new one is used: no more at once than it takes, since the new
 * table is memory that is touched for the first time. */
static void set_limits(struct index *ix)
{
	uint64_t capacity = ix->now.capacity;
	uint32_t room = entries_at_most(&ix->now) > ix->count ? entries_at_most(&ix->now) - ix->count : 0;

	ix->pace = ix->old.slots / (room / 2 + 1) + 1;
	ix->grow_at = ix->old.entry ? UINT32_MAX : entries_at_most(&ix->now);
	ix->shrink_at = ix->old.entry || capacity <= CAPACITY_MIN ? 0 : (uint32_t)(capacity / 5);
}

int index_init(struct index *ix)
{
	int r;

	*ix = (struct index){ .changes = 1 };  /* the memo is of none */
	ix->memo = calloc(1, sizeof(*ix->memo));
	if (!ix->memo)
		return -ENOMEM;
	r = table_new(&ix->now, CAPACITY_MIN, SLACK_MIN);
	set_limits(ix);
	return r;
}

void index_deinit(struct index *ix)
{
	table_free(&ix->now);
	table_free(&ix->old);
	free(ix->memo);
	ix->memo = NULL;
	ix->count = 0;
}

int index_clear(struct index *ix)
{
	struct index_table fresh;
	int r = table_new(&fresh, CAPACITY_MIN, SLACK_MIN);

	ix->changes++;
	if (r < 0) {
		memset(ix->now.entry, 0, table_bytes(&ix->now));
		table_free(&ix->old);
		ix->count = 0;
		set_limits(ix);
		return r;
	}
	table_free(&ix->now);
	table_free(&ix->old);
	ix->count = 0;
	ix->now = fresh;
	set_limits(ix);
	return 0;
}

size_t index_bytes(const struct index *ix)
{
	/* While resizing, the new table has been touched up to the frontier, and the old one given back up to it. */
	if (ix->old.entry)
		return ((size_t)index_home(&ix->now, ix->frontier) + ix->old.slots - ix->old_pos) * sizeof(uint64_t);
	return table_bytes(&ix->now);
}

/* The pages of `old` that migration has left behind for good. */
static void release_behind(struct index_table *t, uint32_t from, uint32_t to)
{
	if (from / RELEASE_SLOTS == to / RELEASE_SLOTS)
		return;
	uint32_t first = from / RELEASE_SLOTS * RELEASE_SLOTS;
	uint32_t last = to / RELEASE_SLOTS * RELEASE_SLOTS;
	madvise(t->entry + first, (size_t)(last - first) * sizeof(*t->entry), MADV_DONTNEED);
}

/* Moves on by about `slots` slots of the old table, and always to a boundary between two hashes: the frontier must
 * not divide neighbours. -ENOSPC when the new table's tail is full (see index_rebuild). */
static int migrate(struct index *ix, uint32_t slots)
{
	ix->changes++;
	uint32_t from = ix->old_pos;
	uint32_t pos = from;
	uint32_t end = ix->old.slots;
	uint32_t last = 0;

	while (pos < end) {
		uint64_t entry = ix->old.entry[pos];
		bool divides = entry && ix->frontier == index_entry_hash(entry) + 1;
		if (pos - from >= slots && !divides)
			break;
		if (entry) {
			int r = table_append(&ix->now, &last, entry);
			if (r < 0) {
				ix->old_pos = pos;
				return r;
			}
			ix->old.entry[pos] = 0;
			ix->frontier = index_entry_hash(entry) + 1;
		}
		pos++;
	}
	ix->old_pos = pos;
	if (pos == end) {
		table_free(&ix->old);
		set_limits(ix);
	} else {
		release_behind(&ix->old, from, pos);
	}
	return 0;
}

static int resize_begin(struct index *ix, uint64_t capacity, uint32_t slack)
{
	struct index_table t;
	int r = table_new(&t, capacity, slack);

	if (r < 0)
		return r;
	ix->changes++;
	ix->old = ix->now;
	ix->now = t;
	ix->old_pos = 0;
	ix->frontier = 0;
	set_limits(ix);
	return 0;
}

/* The rare case that one long run of equal hashes has hit the end of a table: everything into a table with more room
 * behind its last home, in one go. */
static int index_rebuild(struct index *ix)
{
	struct index_table parts[2] = { ix->now, ix->old };
	uint32_t slack = ix->now.slots - ix->now.capacity;
	struct index_table t;

	for (;;) {
		uint32_t last = 0;
		if (slack > UINT32_MAX / 2)
			return -ENOMEM;
		slack *= 2;
		int r = table_new(&t, ix->now.capacity, slack);
		if (r < 0)
			return r;
		for (int p = 0; p < 2 && r == 0; p++)
			for (uint32_t i = 0; parts[p].entry && i < parts[p].slots && r == 0; i++)
				if (parts[p].entry[i])
					r = table_append(&t, &last, parts[p].entry[i]);
		if (r == 0)
			break;
		table_free(&t);
	}
	ix->changes++;
	table_free(&ix->old);
	table_free(&ix->now);
	ix->now = t;
	set_limits(ix);
	return 0;
}

static int grow(struct index *ix)
{
	uint64_t capacity = ix->now.capacity;
	uint32_t slack = capacity / 64 > SLACK_MIN ? (uint32_t)(capacity / 64) : SLACK_MIN;

	return resize_begin(ix, capacity * 5 / 4, slack);
}

/* Failing to shrink is no failure. */
static void shrink(struct index *ix)
{
	uint64_t capacity = (uint64_t)ix->count * 8 / 5;

	(void)resize_begin(ix, capacity > CAPACITY_MIN ? capacity : CAPACITY_MIN, SLACK_MIN);
}

static struct index_table *table_of(struct index *ix, uint32_t hash)
{
	return ix->old.entry && hash >= ix->frontier ? &ix->old : &ix->now;
}

static uint64_t make_entry(uint32_t hash, uint32_t tag, uint32_t value)
{
	return (uint64_t)hash << (INDEX_TAG_BITS + INDEX_VALUE_BITS) | (uint64_t)tag << INDEX_VALUE_BITS | (value + 1);
}

bool index_replace_only(struct index *ix, uint32_t hash, uint32_t tag, uint32_t value, uint32_t new_tag,
			uint32_t new_value)
{
	struct index_cursor c = index_find(ix, hash);
	struct index_table *t = table_of(ix, hash);
	uint32_t at = (uint32_t)(c.entry - t->entry);

	if (new_value > INDEX_VALUE_MAX || index_next(&c) != make_entry(hash, tag, value) || index_next(&c) != 0)
		return false;
	t->entry[at] = make_entry(hash, new_tag, new_value);
	return true;
}

int index_insert(struct index *ix, uint32_t hash, uint32_t tag, uint32_t value)
{
	if (value > INDEX_VALUE_MAX)
		return -EINVAL;
	uint64_t entry = make_entry(hash, tag, value);

	/* A failure to grow matters only when there is no room left: then the insertion itself fails. */
	int r = ix->count >= ix->grow_at ? grow(ix) : 0;
	if (r < 0 && ix->count >= ix->now.capacity)
		return r;
	r = ix->old.entry ? migrate(ix, ix->pace) : 0;
	if (r == 0) {
		struct index_table *t = table_of(ix, hash);
		uint32_t at = (uint32_t)(index_find(ix, hash).entry - t->entry);
		r = table_insert(t, &at, entry);
	}
	if (r == -ENOSPC) {
		uint32_t at = index_home(&ix->now, hash);
		r = index_rebuild(ix);
		if (r == 0)
			r = table_insert(&ix->now, &at, entry);
	}
	ix->changes++;
	if (r == 0)
		ix->count++;
	return r == -ENOSPC ? -ENOMEM : r;
}

/* What is removed is often something else than what was looked up last, and that is asked for once more: the memo stays
 * as it is where it stays true. */
bool index_remove(struct index *ix, uint32_t hash, uint32_t tag, uint32_t value)
{
	struct index_cursor c = { .entry = index_place(ix, hash), .hash = hash };
	uint64_t e;

	while ((e = index_next(&c)) != 0) {
		if (index_entry_tag(e) != tag || index_entry_value(e) != value)
			continue;
		struct index_table *t = table_of(ix, hash);
		uint32_t moved = table_remove(t, (uint32_t)(c.entry - 1 - t->entry));
		if (ix->memo->entry >= c.entry - 1 && ix->memo->entry <= t->entry + moved)
			ix->changes++;
		ix->count--;
		if (ix->count < ix->shrink_at)
			shrink(ix);
		if (ix->old.entry && migrate(ix, ix->pace) < 0)
			(void)index_rebuild(ix);
		return true;
	}
	return false;
}
