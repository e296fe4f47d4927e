/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * ring.h - the producer's side of the memory in ttalloc-ring.h: lanes, the threads that hold them, the hot path.
 *
 * Promises of the hot path (ring_put() on a lane of one's own): no lock, no system call, no allocation, nothing that
 * changes errno, nothing shared with another thread but what is read only. It can be interrupted at every instruction
 * by a signal handler that reports: each level of nesting has a lane of its own (RING_DEPTH of them).
 *
 * Who owns what:
 *  - struct ring: one server's memory in this process, with all private state of its lanes in one mapping of our own.
 *    Counted references: one of its instance, one of each thread that is bound to it. The last one frees it, so an old
 *    ring stays for threads that have not reported since, one per thread at most.
 *  - struct ring_self: of a thread; which rings it is bound to. A ring's number is never used twice, also not by a
 *    forked child, so a binding that is out of date matches nothing.
 *  - struct ring_lane: of the thread that claimed it, until that gives it back; `moved` is the instance's, under its
 *    lock.
 *
 * Only functions marked so need the lock of the instance (client/ttalloc.c). Bindings are changed only by the thread
 * itself and never by a signal handler that has interrupted an event: the event may be using them.
 */
#ifndef CLIENT_RING_H
#define CLIENT_RING_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "client/site.h"
#include "client/ttalloc-ring.h"
#include "client/uplink.h"

#define RING_DEPTH 3     /* an event, a signal handler's within it, another one's within that */
#define RING_LOOK_MAX (UINT64_C(1) << 31)  /* of the clock between two looks whether the server lives */
#define RING_BINDINGS 2  /* rings at a time that a thread is bound to; more instances take turns */

#define ring_likely(x) __builtin_expect(!!(x), 1)
#define ring_unlikely(x) __builtin_expect(!!(x), 0)

struct ring_lane {
	uint64_t pos;                    /* of the next record */
	uint64_t limit;                  /* where `segment` ends */
	struct ttalloc_record *segment;
	uint64_t next_look;              /* stamp at which to look whether the server lives */
	struct ttalloc_lane *shared;
	struct ring *ring;
	uint64_t next_full_look;         /* the same while there is no room */
	uint64_t collected;              /* of shared->freed_count */
	uint32_t fresh;                  /* segments from here on were never used */
	uint32_t stacked;
	uint16_t stack[TTALLOC_SEGMENTS];  /* free ones, the one freed last on top */
	_Atomic uint64_t defined;        /* records of definitions */
	uint64_t moved;                  /* everything before it is booked or was queued again */
	uint64_t requeued;               /* events of these that were queued again, or dropped in trying */
};

struct ring {
	/* What an event reads. */
	uint64_t id;                     /* never 0 */
	_Atomic uint32_t *attention;
	uint32_t clock;                  /* enum ttalloc_clock */
	struct sites sites;              /* and tags */

	struct ttalloc_ring *shared;
	size_t mapped;                   /* bytes at `shared` */
	_Atomic uint32_t refs;
	_Atomic uint32_t used;           /* lanes 0..used-1 may hold records */
	_Atomic uint64_t free_lanes;     /* bit set: lane was not claimed, or given back */
	_Atomic bool ended;              /* its connection has ended: nobody binds to it any more */
	bool final;                      /* and the server books nothing any more (instance's lock) */
	struct ring *next;               /* in the instance's list of ended ones */

	pthread_mutex_t common;          /* of lane 0, which all share who found no free one */
	pthread_mutex_t defining;        /* of `sites`; taken after `common` */

	/* The event descriptor is open while event_refs > 0: one is the instance's, one each of threads that write. */
	_Atomic uint32_t event_refs;
	int event_fd;
	int socket_fd;                   /* of the connection, to tell whether the program has closed our descriptors */
	ino_t socket_inode;

	uint64_t born_stamp;             /* the same moment by three clocks, for calibration */
	int64_t born_monotonic;
	struct ring_lane lanes[TTALLOC_LANES];
};

struct ring_binding {
	uint64_t id;                     /* ring->id; 0: none */
	struct ring *ring;
	struct ring_lane *lane[RING_DEPTH];  /* by depth; NULL: not claimed yet */
	uint32_t tag;
	uint32_t tag_version;            /* of the thread's tag that `tag` is the number of */
};

struct ring_self {
	struct ring_binding bindings[RING_BINDINGS];  /* used last: first */
	unsigned depth;                  /* event calls of this thread that are under way */
	unsigned locks;                  /* of instances that it holds or waits for */
	unsigned descriptors;            /* the same of uplink_descriptors_lock() */
	bool counted;                    /* among the threads that have been bound */
	bool watched;                    /* ring_thread_exit() will come */
	bool leaving;                    /* it came */
	pid_t forking;                   /* who forks, from the library's first handler of fork() to its last; else 0 */
	unsigned fork_depth;             /* `depth` then */
	uint64_t parked[RING_BINDINGS];  /* numbers of the bindings then */
	uint32_t tag_version;
	struct tag *tag;
	uintptr_t stack_low;             /* of the thread's stack; see site.h */
	uintptr_t stack_high;
	unsigned stack_tries;
};

/* A second thread has been bound, or one to two rings: there are lanes whose order is that of the stamps. */
extern _Atomic bool ring_many __attribute__((visibility("hidden")));
extern __thread struct ring_self ring_self __attribute__((tls_model("initial-exec"), visibility("hidden")));

/* What one event says; the rest of its record is put in by ring_put(). Without fillers: it stays in registers. */
struct ring_event {
	uint64_t address;
	uint64_t size;
	int32_t device;
	uint8_t kind;
	uint8_t type;
};

enum ring_result {
	RING_PUT,      /* published */
	RING_ATTEND,   /* published, and ring_attend() is due */
	RING_FULL,     /* dropped and counted */
};

/* --- the program --- */

/* Once, before anything else here; 0 or -errno. */
int ring_setup(void);

/* --- rings, under the instance's lock --- */

/*
 * Maps the memory that the server offers and checks it. After success the ring has one reference, the caller's, and
 * offer[1] is the ring's; offer[0] is not used any more.
 *
 * Return: 0 or -errno.
 */
int ring_new(struct ring **rp, const int offer[2], int socket_fd, ino_t socket_inode);
/*
 * Its connection has ended; called before that is closed. With `final`, what was not booked is queued again in *u, also
 * what threads publish that have not noticed yet, by ring_collect().
 *
 * Return: how many events may have been booked or not (without `final`).
 */
uint64_t ring_end(struct ring *r, bool final, struct uplink *u, pid_t pid);
/* An ended ring: queues again what was published since. True: nobody uses it any more, and its sums will not change. */
bool ring_collect(struct ring *r, struct uplink *u, pid_t pid);
/* Events published and not queued again; events dropped. */
void ring_sums(const struct ring *r, uint64_t *sentp, uint64_t *droppedp);
void ring_unref(struct ring *r);
/* In a forked child: the parent's ring, whose memory is not mapped here; then the thread's bindings. */
void ring_forked(struct ring *r);
void ring_self_forked(void);
/* From here to there the thread's bindings match nothing: no event of its goes the short way. */
void ring_self_park(struct ring_self *self);
void ring_self_unpark(struct ring_self *self);

/* --- threads --- */

/* The thread's binding to the ring of that number, or NULL. */
struct ring_binding *ring_bound(struct ring_self *self, uint64_t id);
/* Binds the thread to r, which the instance's lock keeps alive. Not while another event call of it is under way. */
struct ring_binding *ring_bind(struct ring_self *self, struct ring *r);
/* Makes a binding the first. Not while another event call of the thread is under way. */
struct ring_binding *ring_front(struct ring_self *self, struct ring_binding *b);
/* Lets go of ended rings. Not while another event call of the thread is under way. */
void ring_unbind_ended(struct ring_self *self);
void ring_unbind_all(struct ring_self *self);
/* Claims a lane; NULL: there is none. */
struct ring_lane *ring_claim(struct ring *r);
/* The lane that all share, with its mutex held; `nested`: NULL if it is not free. */
struct ring_lane *ring_common_lock(struct ring *r, bool nested);
void ring_common_unlock(struct ring *r);

/* Writes to the server's event descriptor if it sleeps. */
void ring_wake(struct ring *r);
/* The server was looked after at `stamp`. */
void ring_looked(struct ring_lane *l, uint64_t stamp);
/* Takes the next segment, if there is none counts an event as dropped. */
bool ring_extend(struct ring_lane *l);
/* Whether `records` more fit in. */
bool ring_has_room(struct ring_lane *l, uint64_t records);
/* Publishes a definition as a whole; false: there was no room for it. */
bool ring_define(struct ring_lane *l, uint8_t kind, uint32_t number, const uint8_t *bytes, size_t length);

static inline uint64_t ring_stamp(const struct ring *r)
{
	if (ring_likely(r->clock == TTALLOC_CLOCK_COUNTER))
		return ring_unlikely(atomic_load_explicit(&ring_many, memory_order_relaxed)) ? ttalloc_ticks_ordered()
											    : ttalloc_ticks();
	return ttalloc_clock_monotonic();
}

/* From one look to the next, in units of the clock: about a second. */
static inline uint64_t ring_look_period(uint32_t clock)
{
	if (clock != TTALLOC_CLOCK_COUNTER)
		return UINT64_C(1) << 30;
#if defined(__aarch64__)
	uint64_t rate;

	/* From 1 MHz to 1 GHz, so one period for all would be a minute and a half for some. */
	__asm__("mrs %0, cntfrq_el0" : "=r"(rate));
	return rate > 0 && rate < RING_LOOK_MAX ? rate : RING_LOOK_MAX;
#else
	/* A counter of 1 to 5 GHz is near enough to 2 GHz. */
	return RING_LOOK_MAX;
#endif
}

/*
 * Whether it is time to look. Also when that lies further ahead than it was ever set: the clock was put back, as when a
 * virtual machine moves.
 */
static inline bool ring_is_due(uint64_t next, uint64_t stamp)
{
	return next - 1 - stamp >= RING_LOOK_MAX;
}

/* Publishes one event. The lane is the caller's at this depth of nesting. */
static inline enum ring_result ring_put(struct ring_lane *l, const struct ring_event *e, uint32_t site, uint32_t tag)
{
	const struct ring *ring = l->ring;
	const uint64_t pos = l->pos;
	struct ttalloc_record *r;
	uint64_t stamp;

	if (ring_unlikely(pos == l->limit) && !ring_extend(l))
		return RING_FULL;
	r = &l->segment[pos % TTALLOC_SEGMENT_RECORDS];
	stamp = ring_stamp(ring);
	*r = (struct ttalloc_record){
		.stamp = stamp,
		.kind = e->kind,
		.seq = (uint32_t)pos,
		.event = { .device = e->device, .site = site, .address = e->address, .size = e->size, .tag = tag,
			   .type = e->type },
	};
	l->pos = pos + 1;
	atomic_store_explicit(&l->shared->tail, pos + 1, memory_order_release);
	/* The processor's barrier is the server's, see ttalloc-ring.h; the compiler's is ours. */
	atomic_signal_fence(memory_order_seq_cst);
	if (ring_unlikely(atomic_load_explicit(ring->attention, memory_order_relaxed) != 0) ||
	    ring_unlikely(ring_is_due(l->next_look, stamp)))
		return RING_ATTEND;
	return RING_PUT;
}

#endif
