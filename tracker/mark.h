/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * mark.h - marks: what has changed since a moment that somebody named; and growth: what is held more at each mark.
 *
 * Part of the registry (registry-mark.c, registry-growth.c).
 *
 * A mark remembers the totals of each device and type at its time, the sequence number of its time, and the peaks
 * since. Peaks cost events nothing: the one maximum that an event keeps up is that since the newest mark; each mark
 * keeps the peaks of the time between it and the next one, and whoever asks takes the highest of those.
 *
 * Growth goes by *moments*: the marks of a process are moments of that process, those of `ctl` are moments of every
 * process that lives; names play no part. So nobody can dilute or hide what another one's marks show. What is judged
 * is a *cell*: what a process allocated from one call site (or without one) on one device of one type with one size;
 * and, for what leaks in all sizes, the same with any size (without a site: any size between two powers of two). A
 * cell grows when between each two of the last moments something was added that is held still, nothing that was held at
 * one of them has been freed since, and each time the same number was added. A size needs `growth_marks` moments for
 * that, any size twice as many intervals, and different numbers, which must not get fewer, four times as many.
 * docs/design.md says why, and how often this errs.
 */
#ifndef TRACKER_MARK_H
#define TRACKER_MARK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tracker/registry.h"

#define MARKS_MAX 64
#define MARKS_OF_USER 32          /* of a user who is not root; marks that ctl makes are root's */
#define MARKS_OF_USERS 48         /* of all of these */
#define MARK_NAME_MAX 63
#define MARKS_AT_ONCE 1024        /* of one process, and one more with each millisecond since it connected */
#define GROWTH_MARKS_DEFAULT 5
#define GROWTH_MARKS_MIN 3
#define GROWTH_MARKS_MAX 16
#define GROWTH_CELLS 65535

struct mark {
	uint64_t number;     /* never reused: of the name, also when it starts anew; 0 = this slot is free */
	uint64_t order;      /* of its time among all marks */
	uint64_t seq;        /* what was allocated since has a higher one */
	uint64_t time;
	uint32_t uid;        /* whose it is */
	char name[MARK_NAME_MAX + 1];
	uint32_t devices[DEVICE_MAX / 32];  /* of which it remembers anything; what it does not was nothing then */
};

/* What is asked of a mark about one device and type (BUFFER_TYPES: all types together). */
struct mark_totals {
	struct totals now;   /* count and bytes now; peak, allocs and frees since the mark */
	uint64_t count;      /* at the mark */
	uint64_t bytes;
};

/* Whether those bytes are a name: 1 to MARK_NAME_MAX of A-Z a-z 0-9 . _ -, no leading dot. */
bool mark_name_ok(const char *name, size_t len);

/* ---- making; `now` is the time, `seq` that of the last event before ---- */

/* Through ctl: everything there is may be marked, and it is a moment of each process that lives. 0; -EINVAL: no name;
 * -ENOSPC: there are MARKS_MAX others. */
int registry_mark(struct registry *reg, const char *name, size_t len, uint64_t now);
/* By a process. 0; -EINVAL; -EPERM: a mark of that name is another user's; -ENOSPC, also when all users but root have
 * MARKS_OF_USERS others; -EDQUOT: the process makes too many, or its user has MARKS_OF_USER others. Only what returns 0
 * is a moment of the process. */
int registry_mark_by(struct registry *reg, uint32_t process, const char *name, size_t len, uint64_t now);
/* 0 or -ENOENT. */
int registry_unmark(struct registry *reg, const char *name);

/* ---- reading ---- */

/* NULL: that slot is free. */
const struct mark *registry_mark_at(const struct registry *reg, uint32_t slot);
/* The slot of that name; MARKS_MAX: there is none. */
uint32_t registry_mark_find(const struct registry *reg, const char *name);
unsigned registry_mark_count(const struct registry *reg);
struct mark_totals registry_mark_totals(const struct registry *reg, uint32_t slot, unsigned device, unsigned type);

/* ---- growth ---- */

unsigned registry_growth_marks(const struct registry *reg);
/* 0 or -ERANGE. Looks at each cell once. */
int registry_set_growth_marks(struct registry *reg, uint64_t n);

struct growth {
	uint64_t bytes;   /* per mark */
	uint64_t marks;   /* over so many intervals now */
	bool any_size;    /* found in all sizes together */
};

/* Whether a live buffer is part of what grows: its cell does, and it was allocated since that began. Two look-ups. */
bool registry_growing(const struct registry *reg, const struct buffer *b, struct growth *out);
/* The bytes per mark by which a call site grows on a device with a type, in one process or (PROCESS_NONE) in all: 0 =
 * it does not; -1 = there were too few marks to tell. Looks at what grows, or nearly does: at most 256 cells, of which
 * there are few; what finds no place among them is not in the sum, but registry_growing() knows it. */
int64_t registry_site_growth(const struct registry *reg, uint32_t process, uint32_t site, unsigned device, unsigned type);

#endif
