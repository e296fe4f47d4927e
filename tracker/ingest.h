/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * ingest.h - the booking rules: what one event does to the registry (docs/protocol.md, "Booking").
 *
 * Pure: no I/O, no clock. Everything that could not be booked is counted, traced and, where somebody has to know,
 * told in error_log; nothing is guessed away.
 */
#ifndef TRACKER_INGEST_H
#define TRACKER_INGEST_H

#include <stddef.h>
#include <stdint.h>

#include "tracker/errlog.h"
#include "tracker/event.h"
#include "tracker/registry.h"
#include "tracker/trace.h"

/* The state one server books into; owned by main, shared with the views. */
struct ingest {
	struct registry *registry;
	struct trace *trace;
	struct errlog *errlog;
};

/* Books `n` events in order; `now` is the time of arrival. Each event's `process` must be a used slot. DUMP and
 * QUERY only count here: answering them is the edge's business (ingest_reply). */
void ingest_events(struct ingest *in, const struct event *events, size_t n, uint64_t now);

/* The reply to a QUERY or DEVICE_INFO_QUERY in the size of event->dialect. Returns its size; 0 for other events or
 * when the dialect is not known. `reply` has room for TTALLOC_MSG_MAX bytes. */
size_t ingest_reply(const struct ingest *in, const struct event *event, uint8_t *reply);

/* A ring's client dropped events of its own accord, for want of room. */
void ingest_lost(struct ingest *in, uint32_t process, uint64_t events, uint64_t now);
/* A process told what a device has; 0 = not known. */
void ingest_device(struct ingest *in, uint32_t process, uint32_t device, uint64_t dram, uint64_t l1, uint32_t arch,
		   uint64_t now);

/* A process makes a mark (mark.h); the name is what it sent, unchecked. An event as others: counted, and refused where the
 * registry does. `now` as in ingest_events(). */
void ingest_mark(struct ingest *in, uint32_t process, const char *name, size_t len, uint64_t now);

/* A process connected, ended: counted and traced. */
void ingest_connect(struct ingest *in, uint32_t process, uint64_t now);
void ingest_exit(struct ingest *in, uint32_t process, uint64_t now);
/* A line of `trace`/`events` that is not about a buffer; device TRACE_NO_DEVICE, pid 0, size 0 = does not apply. */
void ingest_note(struct ingest *in, enum trace_kind kind, uint16_t device, int32_t pid, uint64_t size, uint64_t now);

#endif
