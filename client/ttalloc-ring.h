/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * ttalloc-ring.h - the memory through which a program reports without system calls; the contract of both sides.
 *
 * One ring memory per process: a memfd that the server makes, seals against any change of size, and passes over the
 * socket together with an eventfd. (The server makes them: a descriptor that comes from a client can be one whose
 * close() or fstat() waits for ever, for us even one of a file of our own mount.) It holds
 *
 *   struct ttalloc_ring             page 0: what is said once, and the word by which one side calls the other
 *   64 x struct ttalloc_lane        one single-producer queue per reporting thread, each with
 *        1024 segments of 1024 records of 64 bytes
 *
 * All of it is address space only; memory is used where it was written. A lane is a queue of records at positions
 * 0, 1, 2...: position p is record p % 1024 of segment order[p / 1024 % 1024]. The producer takes the segment that it
 * got back last, so while the server keeps up, a lane lives in two or three segments, in the cache, and only a stall
 * spreads it over its 64 MiB.
 *
 * One lane per thread: see "why" in docs/design.md. The order between lanes, of all processes, is that of the stamps.
 *
 * Memory order, all there is:
 *  1. The producer writes records, then stores `tail` (release); the server loads `tail` (acquire), then reads them.
 *     order[] of a segment is written before the first `tail` that reaches into it.
 *  2. The server has read records, then stores `head`, or freed[] and then `freed_count` (release); the producer loads
 *     `freed_count` (acquire), then reuses the segment. It never looks at `head` but to learn what is not booked.
 *  3. Wake-ups. Producer: store `tail`; load `attention`, if WAKE is set write to the eventfd. Server: set WAKE; load
 *     `tail`. At least one has to see the other's store, for which each needs a full barrier in between. The server's
 *     is membarrier(GLOBAL_EXPEDITED), which acts as one in every thread of the processes that have registered; so the
 *     producer's is only the compiler's. A process that could not register says so (`barrier` 0), and is never armed
 *     but looked at every 100 ms. Only the server clears WAKE, when it reads the ring again: whoever cleared it before
 *     writing would let another thread's call return while the server still sleeps.
 *  4. TTALLOC_ATTENTION_MOVED is the same between threads of one process, when their connection has broken: mover: set
 *     it; membarrier; load all tails. A record that the mover did not see is moved by its own thread.
 *  5. Stamps. If event a happens before event b (C11) and they are in different lanes of one process, then stamp a <=
 *     stamp b, and who reads the counter as c > stamp b and then loads the tails sees a. Needed is that b's stamp is
 *     not taken before what made a visible to its thread: ttalloc_ticks_ordered(). An early stamp does no harm
 *     to events that come later, so a thread that is alone in its process takes the cheaper ttalloc_ticks(): when a
 *     second thread claims a lane it first sets `many`, and b, which happens after an event of that thread, sees it.
 *     (Threads alone in two processes are ordered if what passes between them passes the kernel.)
 *  6. The server books what it found published in a first look at all tails, and of a second look what is stamped
 *     before the counter between both, which is held on both sides: it is read neither before the first look's loads
 *     nor after the second's. By 5 that is closed under "happens before"; by the first look it holds everything that
 *     was reported before the request it is answering, whatever a client writes for stamps. Rings that sleep are asked
 *     for news before each look.
 *
 * Nothing here is believed by the server: it copies a record before it looks at it, and checks positions, segment
 * numbers and `seq`.
 *
 * Included by the client library and by the server. Inline code only where both need the same.
 */
#ifndef TTALLOC_RING_H
#define TTALLOC_RING_H

#include <assert.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#define TTALLOC_RING_VERSION 1
#define TTALLOC_RING_MAGIC UINT64_C(0x31636f6c6c617474)  /* "ttalloc1" */

#define TTALLOC_LANES 64
#define TTALLOC_SEGMENTS 1024         /* per lane */
#define TTALLOC_SEGMENT_RECORDS 1024
#define TTALLOC_LANE_RECORDS ((uint64_t)TTALLOC_SEGMENTS * TTALLOC_SEGMENT_RECORDS)

/* What a stamp counts. */
enum ttalloc_clock {
	TTALLOC_CLOCK_MONOTONIC = 0,  /* ns of CLOCK_MONOTONIC */
	TTALLOC_CLOCK_COUNTER = 1,    /* the processor's counter: TSC, CNTVCT_EL0 */
};

/* What a record is. Events have the numbers of the messages of the same meaning (enum ttalloc_msg_type). */
enum ttalloc_record_kind {
	TTALLOC_RECORD_ALLOC = 1,
	TTALLOC_RECORD_FREE = 2,
	TTALLOC_RECORD_CB_ALLOC = 8,
	TTALLOC_RECORD_CB_FREE = 9,
	TTALLOC_RECORD_KERNEL_LOAD = 10,
	TTALLOC_RECORD_KERNEL_UNLOAD = 11,
	/* Definitions: a number that later records use, and bytes. The first record holds 40 of them, each that follows 48. */
	TTALLOC_RECORD_MODULE = 32,   /* 0..: length n of the build id, n bytes of it, then the file's path */
	TTALLOC_RECORD_SITE = 33,     /* struct ttalloc_site_head, then frames, 8 bytes each, innermost first */
	TTALLOC_RECORD_TAG = 34,      /* the tag: all names on the thread's stack, joined by '/' */
	TTALLOC_RECORD_DEVICE = 35,   /* number = device; struct ttalloc_device_data */
	/* As a definition, but what it tells happens there: a mark of that name, behind all events before it in its lane. */
	TTALLOC_RECORD_MARK = 36,     /* number = 0; the name */
	TTALLOC_RECORD_MORE = 63,     /* further bytes of the definition in front of it in the lane */
};

struct ttalloc_record_event {
	int32_t device;
	uint32_t site;            /* number of a definition of this connection; 0 = not known */
	uint64_t address;
	uint64_t size;
	uint32_t tag;             /* the same */
	uint8_t type;             /* buffer type or kernel class, as on the wire */
	uint8_t zero[19];
};

struct ttalloc_record_definition {
	uint32_t number;          /* 1.. (devices 0..); may be defined again, later events mean the newer definition */
	uint32_t length;          /* of all its bytes */
	uint8_t bytes[40];
};

struct ttalloc_record {
	uint64_t stamp;
	uint8_t kind;             /* enum ttalloc_record_kind */
	uint8_t zero[3];
	uint32_t seq;             /* low half of the record's position */
	union {
		struct ttalloc_record_event event;
		struct ttalloc_record_definition definition;
		uint8_t more[48];
	};
};
static_assert(sizeof(struct ttalloc_record) == 64, "a record is one cache line");
static_assert(sizeof(struct ttalloc_record_event) == 48, "an event fills its record");
static_assert(sizeof(struct ttalloc_record_definition) == 48, "a definition fills its record");

#define TTALLOC_DEFINITION_MAX 4096  /* bytes */
#define TTALLOC_NAME_MAX 255         /* bytes of a tag */
#define TTALLOC_FRAMES_MAX 64
#define TTALLOC_MODULES_MAX 4095     /* numbers are 1..this */
#define TTALLOC_SITES_MAX 16383
#define TTALLOC_TAGS_MAX 4095

/* How the frames of a site were found. */
enum ttalloc_stack_method {
	TTALLOC_STACK_FRAME_POINTER = 1,   /* walked along frame pointers */
	TTALLOC_STACK_RETURN_ADDRESS = 2,  /* the caller only: no frame pointers there */
};

struct ttalloc_site_head {
	uint8_t method;           /* enum ttalloc_stack_method */
	uint8_t frames;           /* how many follow, 1..TTALLOC_FRAMES_MAX */
	uint8_t truncated;        /* 1: there were more */
	uint8_t zero[5];
};
static_assert(sizeof(struct ttalloc_site_head) == 8, "frames are aligned");

/* A frame is where it returns to: module number << 48 | offset from the module's load address (what addr2line takes for
 * a position-independent file); module 0: not in a file, the offset is the address. */
#define TTALLOC_FRAME_MODULE_SHIFT 48

struct ttalloc_device_data {
	uint64_t dram;            /* capacity in bytes; 0 = not known */
	uint64_t l1;
	uint32_t arch;            /* enum ttalloc_wire_arch */
	uint32_t zero;
};
static_assert(sizeof(struct ttalloc_device_data) == 24, "fits one record");

struct ttalloc_lane {
	/* written by the producer */
	_Alignas(64) _Atomic uint64_t tail;      /* position behind the newest published record */
	_Atomic uint64_t dropped;                /* events for which there was no room */
	/* written by the server */
	_Alignas(64) _Atomic uint64_t head;      /* everything before this position is booked */
	_Atomic uint64_t freed_count;            /* segments given back so far */
	_Alignas(64) uint16_t order[TTALLOC_SEGMENTS];  /* the producer's: by position / 1024 % 1024 */
	_Alignas(64) uint16_t freed[TTALLOC_SEGMENTS];  /* the server's: by freed_count % 1024 */
	_Alignas(4096) struct ttalloc_record segment[TTALLOC_SEGMENTS][TTALLOC_SEGMENT_RECORDS];
};
#define TTALLOC_LANE_HEAD offsetof(struct ttalloc_lane, segment)
static_assert(TTALLOC_LANE_HEAD == 8192, "two pages before the segments");
static_assert(sizeof(struct ttalloc_lane) == 8192 + TTALLOC_LANE_RECORDS * 64, "no holes");

enum ttalloc_attention {
	TTALLOC_ATTENTION_WAKE = 1,   /* the server sleeps: write to the eventfd. Only the server clears it */
	TTALLOC_ATTENTION_MOVED = 2,  /* set by the client only: this memory is not used any more */
	TTALLOC_ATTENTION_GONE = 4,   /* set by the server, last of all: it books nothing of this memory any more */
};

struct ttalloc_ring {
	/* written by the server before it passes the memory on */
	uint64_t magic;
	uint32_t version;
	uint32_t clock;                          /* enum ttalloc_clock */
	/* written by the client */
	_Alignas(64) _Atomic uint32_t lanes;     /* lanes 0..lanes-1 have been used */
	_Atomic uint32_t barrier;                /* 1: registered with membarrier(GLOBAL_EXPEDITED) */
	/* both; enum ttalloc_attention bits */
	_Alignas(64) _Atomic uint32_t attention;
};

#define TTALLOC_RING_HEAD 4096
static_assert(sizeof(struct ttalloc_ring) <= TTALLOC_RING_HEAD, "one page");
/* Bytes of the memory, and where a lane begins in it. */
#define TTALLOC_RING_SIZE (TTALLOC_RING_HEAD + TTALLOC_LANES * (uint64_t)sizeof(struct ttalloc_lane))
#define TTALLOC_LANE_OFFSET(i) (TTALLOC_RING_HEAD + (uint64_t)(i) * sizeof(struct ttalloc_lane))

/* ---- the counter ---- */

/* Keeps what was read before it, counter or memory, before the loads behind it. */
static inline void ttalloc_hold_loads(void)
{
#if defined(__x86_64__)
	__asm__ volatile("lfence" : : : "memory");
#elif defined(__aarch64__)
	__asm__ volatile("isb" : : : "memory");
#else
	atomic_thread_fence(memory_order_seq_cst);
#endif
}

static inline uint64_t ttalloc_clock_monotonic(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * UINT64_C(1000000000) + (uint64_t)t.tv_nsec;
}

/* The processor's counter, wherever the processor likes to read it among its neighbours; ttalloc_ticks_ordered():
 * after all loads before it in the program. Later stores are after both. TTALLOC_HAS_COUNTER 0: there is none. */
#if defined(__x86_64__)
#define TTALLOC_HAS_COUNTER 1
static inline uint64_t ttalloc_ticks(void)
{
	uint32_t low, high;

	__asm__ volatile("rdtsc" : "=a"(low), "=d"(high));
	return (uint64_t)high << 32 | low;
}
static inline uint64_t ttalloc_ticks_ordered(void)
{
	uint32_t low, high;

	__asm__ volatile("lfence\n\trdtsc" : "=a"(low), "=d"(high) : : "memory");
	return (uint64_t)high << 32 | low;
}
#elif defined(__aarch64__)
#define TTALLOC_HAS_COUNTER 1
static inline uint64_t ttalloc_ticks(void)
{
	uint64_t v;

	__asm__ volatile("mrs %0, cntvct_el0" : "=r"(v));
	return v;
}
static inline uint64_t ttalloc_ticks_ordered(void)
{
	uint64_t v;

	__asm__ volatile("dsb ishld\n\tisb\n\tmrs %0, cntvct_el0" : "=r"(v) : : "memory");
	return v;
}
#else
#define TTALLOC_HAS_COUNTER 0
static inline uint64_t ttalloc_ticks(void)
{
	return ttalloc_clock_monotonic();
}
static inline uint64_t ttalloc_ticks_ordered(void)
{
	return ttalloc_clock_monotonic();
}
#endif

#endif
