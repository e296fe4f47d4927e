/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * trace.h - the last N things that happened, as lines of `trace` and `events`.
 *
 * A ring of fixed-size entries, numbered from 0 for ever; a reader's position is such a number, so any number of
 * readers costs the writer nothing, and one that fell behind knows exactly how many entries it missed. Pure; owns
 * its ring.
 */
#ifndef TRACKER_TRACE_H
#define TRACKER_TRACE_H

#include <assert.h>
#include <stdint.h>

#include "tracker/event.h"
#include "tracker/site.h"
#include "tracker/textbuf.h"

#define TRACE_NO_DEVICE UINT16_MAX
#define TRACE_NO_TYPE UINT8_MAX

/* Fields that do not apply: device TRACE_NO_DEVICE, type TRACE_NO_TYPE, has_address false, size 0, pid 0, refs 0,
 * site 0. */
struct trace_entry {
	uint64_t time;
	uint64_t seq;
	uint64_t address;
	uint64_t size;
	int32_t pid;
	uint32_t refs;
	uint16_t device;
	uint8_t type;
	uint8_t has_address : 1;
	uint8_t kind : 7;   /* enum trace_kind */
	uint32_t site;
};
static_assert(sizeof(struct trace_entry) == 48, "an entry is 48 bytes");

#define TRACE_EVENTS_DEFAULT 16384
#define TRACE_EVENTS_MIN 16
#define TRACE_EVENTS_MAX (1U << 20)

struct trace {
	struct trace_entry *ring;
	uint32_t size;
	uint32_t at;     /* next % size */
	uint64_t next;   /* number of the entry that will be written next */
	uint64_t first;  /* number of the oldest entry still there */
};

int trace_init(struct trace *t, uint32_t size);   /* 0 or -ENOMEM */
void trace_deinit(struct trace *t);
/* Keeps the newest entries. 0, -ENOMEM, or -ERANGE outside TRACE_EVENTS_MIN..MAX. */
int trace_resize(struct trace *t, uint64_t size);
/* Forgets the entries; numbers go on. */
void trace_clear(struct trace *t);
void trace_add(struct trace *t, const struct trace_entry *e);
/* The same, to be filled in at once. */
struct trace_entry *trace_next(struct trace *t);

/* Writes lines (sites are those of `reg`) from *pos on until the text is at least `want` bytes longer or nothing is left,
 * and moves *pos. When *pos is older than the ring, one `lost` line tells how many were missed (stamped `now`). */
void trace_read(const struct trace *t, const struct registry *reg, uint64_t *pos, uint64_t now, size_t want,
		struct textbuf *out);

#endif
