/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * event.h - the values that flow through the server: what one message means, and what booking it did.
 *
 * Plain data, no ownership. decode.c makes a struct event from bytes, peer.c adds who sent it, ingest.c books it.
 */
#ifndef TRACKER_EVENT_H
#define TRACKER_EVENT_H

#include <stdbool.h>
#include <stdint.h>

/* What a buffer is made of. The first five are also the wire's numbers (enum ttalloc_wire_type). */
enum buffer_type {
	BUFFER_DRAM,
	BUFFER_L1,
	BUFFER_SYSTEM_MEMORY,
	BUFFER_L1_SMALL,
	BUFFER_TRACE,
	BUFFER_CB,      /* circular buffer */
	BUFFER_KERNEL,  /* kernel binary */
	BUFFER_TYPES,
};
#define BUFFER_TYPES_OF_FREE 5  /* FREE, which carries no type, can mean the types below this number */

#define DEVICE_MAX 1024                        /* device ids are 0..1023 */
#define BUFFER_SIZE_MAX (UINT64_C(1) << 56)    /* sizes are 1..2^56 bytes */
#define PROCESS_NONE UINT32_MAX                /* no process slot */

#define EVENT_RING 1  /* in the place of a dialect: it came through a ring */

/* One decoded message. Addresses and sizes are those of the wire; time is ns since the epoch, 0 = not told. */
struct event {
	uint8_t type;          /* enum ttalloc_msg_type */
	uint8_t wire_type;     /* byte 16: buffer type or kernel class, unchecked */
	uint16_t dialect;      /* 72, 112, 128, 144, or EVENT_RING; 0 = not proved yet */
	uint16_t reply_from;   /* bytes of the reply that an earlier event already had sent; see decode.h */
	int32_t device;        /* unchecked */
	int32_t reported_pid;  /* what the sender calls itself */
	uint32_t process;      /* slot of the owner, filled in by peer.c; see protocol.md on identity */
	uint64_t address;
	uint64_t size;         /* unchecked */
	uint64_t time;
	uint32_t site;         /* where it happened: number in the registry's table of call sites; 0 = not known */
	uint32_t tag;          /* the same, of tags */
};

/* What happened, as `events` and `trace` name it (trace_kind_name). */
enum trace_kind {
	TRACE_ALLOC,
	TRACE_REF,
	TRACE_RESIZE,
	TRACE_FREE,
	TRACE_UNREF,
	TRACE_DOUBLE_FREE,
	TRACE_UNKNOWN_FREE,
	TRACE_FOREIGN_FREE,
	TRACE_CONNECT,
	TRACE_EXIT,
	TRACE_CLEAR,
	TRACE_SCAN,
	TRACE_RESET,
	TRACE_CLEAN,
	TRACE_DUMP,
	TRACE_MARK,
	TRACE_LOST,
	TRACE_KINDS,
};

/* "dram", "l1", ... as the mount spells them; NULL outside the range. */
const char *buffer_type_name(unsigned type);
/* The number of such a name, or -1. */
int buffer_type_parse(const char *name);
/* "alloc", "ref", ...; NULL outside the range. */
const char *trace_kind_name(unsigned kind);

#endif
