/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * ttalloc.h - tell the ttalloc server which device memory this program holds.
 *
 *	struct ttalloc *t = ttalloc_default();                  // NULL unless TT_ALLOC_TRACKING_ENABLED=1
 *
 *	ttalloc_alloc(t, 0, TTALLOC_DRAM, address, size);       // after the device allocator gave it out
 *	ttalloc_free(t, 0, address);                            // before the device allocator takes it back
 *
 * Report an allocation after it was made and a free before the address can be given out again; then reports of
 * several threads cannot overtake each other in a way that matters.
 *
 * What an event call (everything in "events" below) promises:
 *  - An instance that is NULL makes it do nothing, at the price of one compare in the caller.
 *  - It never fails visibly, never raises SIGPIPE, never changes errno, and is no cancellation point.
 *  - The event is written into memory that the server shares with this process: no system call, no lock, about 10 ns,
 *    20 in a program of several threads, 10 more with a call stack. The first event of a thread, and of a call site
 *    or a tag, costs some us; about once a second one looks whether the server lives; and the one that finds the
 *    server asleep wakes it.
 *  - When it returns and ttalloc_get_counters() shows nothing queued, the server has the event before it answers
 *    whoever opens a file of the mount next.
 *  - It does not wait for a busy server. Each thread has room for a million events that the server has not read; what
 *    finds no room is dropped and counted. (63 threads of a process have room of their own, further ones share one.)
 *  - A server that gives no shared memory, an older one for example, gets each event as a message. Only then an event
 *    call waits for a busy server, at most TTALLOC_EVENT_BOUND_MS, once: from then until the server has caught up no
 *    event call waits at all. The first event of a connection waits as long for the answer about the memory.
 *  - Without a server events are queued, up to TTALLOC_QUEUE_EVENTS, and delivered in order by a later call; what finds
 *    the queue full is dropped and counted. It connects again by itself, after 10 ms at first, then twice as long each
 *    time up to 5 s. The library has no thread of its own, so what is queued waits for the next call of any kind.
 *  - When a server dies, what it had not read is queued for the next one. It is noticed after about a second, or by
 *    the first question. What was on its way as a message may be lost: `uncertain` counts it. A server that was
 *    started anew knows only what is reported from then on.
 *  - Nothing is lost without a number that says so.
 *
 * Every function is thread-safe. Event calls are async-signal-safe too, up to three within each other (an event, a
 * handler that reports in it, another one in that); deeper ones are dropped and counted, and so is one that comes in
 * the middle of the library's own slow work (a thread's first event, a connection being made). One exception: in a
 * program with more than 31 pthread keys a thread's first event of all must not come from a handler that has
 * interrupted malloc(). No other function may be called in a signal handler. A handler must not leave an event by
 * longjmp().
 *
 * After fork() the child reports over a connection of its own from its first event on, the parent's connection is not
 * touched, and what the parent had queued stays the parent's. Handlers of pthread_atfork() may call everything. (A
 * child made by vfork(), _Fork() or clone() must not report before it has executed another program.) What was reported
 * before exec() or an exit of any kind is not lost.
 *
 * The library's two descriptors are close-on-exec and never 0, 1 or 2; they belong to the library: a program that
 * closes every descriptor should do so before its first event. The shared memory is 4 GiB of address space, of which
 * a few hundred KiB are used, more only while the server is behind; where a limit forbids that much, a part of it
 * serves.
 *
 * Allocations and frees carry their call site: up to 20 return addresses, along frame pointers (-fno-omit-frame-pointer; code
 * without them gives its direct caller only). $TTALLOC_STACK_DEPTH, 0 to 64, is another number; 0 turns it off.
 *
 * With TT_ALLOC_TRACKING_DETAILED=1 in the environment when the process makes its first instance, every event of every
 * instance is also a line of a file, the detailed log, with or without a server; libttalloc(3) has the columns,
 * `ttalloc analyze` reads it. The file is $TTALLOC_LOG, in which %p stands for the number of the process and %% for %;
 * without it, ttalloc-%p.log in $TMPDIR or /tmp. It is made at the first event, with mode 0600; it is always a new one:
 * nothing that exists is written to, no link is followed, and where the name is taken .1, .2 ... up to .99 is appended.
 * If it cannot be made that is tried again, each time after twice as many events.
 * A forked child, or another program after exec(), makes one of its own. Each line is one write(2) and costs some us:
 * the 10 ns above, and "no system call", are not for a process with a detailed log. Nothing else changes: an event call
 * does not fail visibly, does not raise SIGXFSZ, may be in a signal handler, and waits for nothing but the file system.
 * What could not be written, on a full disk for example, is counted (`unlogged`), and a line of kind `lost` says how
 * much it was as soon as there is room, for which some is reserved ahead (up to 64 KiB, which du shows). The log has
 * one descriptor, which is as the library's other ones; when a program has closed it, the log has ended. All this is
 * ignored in set-user-ID programs.
 *
 * Units: sizes are bytes, addresses are those of the device, devices are 0..1023, sizes 1..2^56. An event outside
 * these ranges is sent as it is and counted as refused by the server, where it can be seen.
 */
#ifndef TTALLOC_H
#define TTALLOC_H

#include <stdint.h>

#ifdef __cplusplus
#define TTALLOC_NOEXCEPT noexcept
extern "C" {
#else
#define TTALLOC_NOEXCEPT
#endif

/* Longest time an event call, or ttalloc_close(), waits for a server that does not read or answer. */
#define TTALLOC_EVENT_BOUND_MS 100
/* Longest time a question (ttalloc_sync() and the functions below it) waits for its answer. */
#define TTALLOC_QUESTION_BOUND_MS 5000
/* Events kept while they cannot be sent; 40 bytes each, allocated when first needed. */
#define TTALLOC_QUEUE_EVENTS 65536

/* Memory a buffer can be in. */
enum ttalloc_type {
	TTALLOC_DRAM = 0,
	TTALLOC_L1 = 1,
	TTALLOC_SYSTEM_MEMORY = 2,
	TTALLOC_L1_SMALL = 3,
	TTALLOC_TRACE = 4,
};

/* What a kernel is for. */
enum ttalloc_kernel_class {
	TTALLOC_KERNEL_APPLICATION = 0,
	TTALLOC_KERNEL_FABRIC = 1,
	TTALLOC_KERNEL_DISPATCH = 2,
};

/* Kind of device. */
enum ttalloc_arch {
	TTALLOC_ARCH_UNKNOWN = 0,
	TTALLOC_ARCH_GRAYSKULL = 1,
	TTALLOC_ARCH_WORMHOLE_B0 = 2,
	TTALLOC_ARCH_BLACKHOLE = 3,
	TTALLOC_ARCH_QUASAR = 4,
};

struct ttalloc;

/* Bytes in use on one device, of all processes together. System memory is not part of the answer. */
struct ttalloc_totals {
	uint64_t dram;
	uint64_t l1;
	uint64_t l1_small;
	uint64_t trace;
	uint64_t cb;
	uint64_t kernel;
};

/* Capacity of one device, in bytes. */
struct ttalloc_capacity {
	uint64_t dram;
	uint64_t l1;
	uint32_t dram_channels;
	uint32_t dram_per_channel;
	uint32_t l1_per_core;
	uint32_t arch;              /* enum ttalloc_arch */
};

/* What became of the events reported by this process through one instance. The sum of sent, queued and dropped is
 * the number of event calls. Counters start at zero in a forked child. */
struct ttalloc_counters {
	uint64_t sent;              /* handed to a connection, or written into its memory and not queued again since */
	uint64_t queued;            /* waiting for the server right now */
	uint64_t dropped;           /* lost: the memory or the queue was full, or a handler could not wait */
	uint64_t uncertain;         /* of those sent: on a connection that broke before a question confirmed them */
	uint64_t connections;       /* times a server was reached */
	uint64_t failed_attempts;   /* times no server was reached */
	uint64_t stalls;            /* times an event call waited its full bound in vain */
	uint64_t rings;             /* 1: events go through shared memory now, 0: as messages */
	uint64_t unlogged;          /* events of the process, by any instance, that are not in its detailed log */
	uint64_t reserved[7];       /* zero */
};

/* --- instances --- */

/*
 * Makes an instance that reports to the socket at `socket_path`. NULL means $TTALLOC_SOCKET; if that is unset or
 * empty, /run/ttalloc/ttalloc.sock, and as long as that does not exist, /tmp/tt_allocation_server.sock. Connects at
 * the first event, so that no server need be there. The path is copied. End it with ttalloc_close().
 *
 * Return: 0; -ENAMETOOLONG if the path does not fit a socket address, -ENOMEM. *tp is NULL after an error.
 */
int ttalloc_open(struct ttalloc **tp, const char *socket_path) TTALLOC_NOEXCEPT;

/*
 * Ends an instance: offers what is queued to the server for at most TTALLOC_EVENT_BOUND_MS and closes the connection.
 * No other thread may be using the instance. Buffers that were not freed stay in the server's tables. NULL is
 * allowed; the instance of ttalloc_default() stays open, only its queue is offered.
 */
void ttalloc_close(struct ttalloc *t) TTALLOC_NOEXCEPT;

/*
 * The instance of this process: made at the first call if the environment then has TT_ALLOC_TRACKING_ENABLED with
 * the value "1"; with any other value, or without it, or in a set-user-ID program, NULL for good. Never closed. A
 * caller may keep the pointer; a forked child uses the same one.
 */
struct ttalloc *ttalloc_default(void) TTALLOC_NOEXCEPT;

/* --- events --- */

/* A buffer came to be at `address`, of `type` (enum ttalloc_type). Once more at a live address: one more reference. */
void ttalloc_alloc(struct ttalloc *t, int device, uint8_t type, uint64_t address, uint64_t size) TTALLOC_NOEXCEPT;

/* The buffer at `address` has one reference less; without any left, it is gone. */
void ttalloc_free(struct ttalloc *t, int device, uint64_t address) TTALLOC_NOEXCEPT;

/* A circular buffer came to be, or goes. `size` of the free is for the server's log only and may be 0. */
void ttalloc_cb_alloc(struct ttalloc *t, int device, uint64_t address, uint64_t size) TTALLOC_NOEXCEPT;
void ttalloc_cb_free(struct ttalloc *t, int device, uint64_t address, uint64_t size) TTALLOC_NOEXCEPT;

/* A kernel binary of `kernel_class` (enum ttalloc_kernel_class) was loaded, or goes. `kernel_id` is unique among the
 * kernels that this process has on the device. `size` of the unload is for the server's log only and may be 0. */
void ttalloc_kernel_load(struct ttalloc *t, int device, uint8_t kernel_class, uint64_t kernel_id, uint64_t size)
	TTALLOC_NOEXCEPT;
void ttalloc_kernel_unload(struct ttalloc *t, int device, uint64_t kernel_id, uint64_t size) TTALLOC_NOEXCEPT;

/* With a NULL instance these cost a compare in the caller; the call is not made. (With TTALLOC_NO_INLINE it is, and
 * through a pointer to them.) Macros, so that the line of a call site is the caller's and not one of this file. Each
 * argument is evaluated once. */
#if defined(__GNUC__) && !defined(TTALLOC_NO_INLINE)
/* A report that is the last act of its caller would become a jump, and the call site that of the caller's caller. */
#define TTALLOC_NO_TAIL_CALL() __asm__ volatile("")
#define TTALLOC_IF_A(call, t, device, a)					\
	__extension__({								\
		struct ttalloc *ttalloc_t_ = (t);				\
		int ttalloc_device_ = (device);					\
		uint64_t ttalloc_a_ = (a);					\
										\
		if (ttalloc_t_) {						\
			(call)(ttalloc_t_, ttalloc_device_, ttalloc_a_);	\
			TTALLOC_NO_TAIL_CALL();					\
		}								\
	})
#define TTALLOC_IF_AB(call, t, device, a, b)						\
	__extension__({									\
		struct ttalloc *ttalloc_t_ = (t);					\
		int ttalloc_device_ = (device);						\
		uint64_t ttalloc_a_ = (a);						\
		uint64_t ttalloc_b_ = (b);						\
											\
		if (ttalloc_t_) {							\
			(call)(ttalloc_t_, ttalloc_device_, ttalloc_a_, ttalloc_b_);	\
			TTALLOC_NO_TAIL_CALL();						\
		}									\
	})
#define TTALLOC_IF_KIND_AB(call, t, device, kind, a, b)							\
	__extension__({											\
		struct ttalloc *ttalloc_t_ = (t);							\
		int ttalloc_device_ = (device);								\
		uint8_t ttalloc_kind_ = (kind);								\
		uint64_t ttalloc_a_ = (a);								\
		uint64_t ttalloc_b_ = (b);								\
													\
		if (ttalloc_t_) {									\
			(call)(ttalloc_t_, ttalloc_device_, ttalloc_kind_, ttalloc_a_, ttalloc_b_);	\
			TTALLOC_NO_TAIL_CALL();								\
		}											\
	})

#define ttalloc_alloc(t, device, type, address, size) TTALLOC_IF_KIND_AB(ttalloc_alloc, t, device, type, address, size)
#define ttalloc_free(t, device, address) TTALLOC_IF_A(ttalloc_free, t, device, address)
#define ttalloc_cb_alloc(t, device, address, size) TTALLOC_IF_AB(ttalloc_cb_alloc, t, device, address, size)
#define ttalloc_cb_free(t, device, address, size) TTALLOC_IF_AB(ttalloc_cb_free, t, device, address, size)
#define ttalloc_kernel_load(t, device, kernel_class, kernel_id, size) \
	TTALLOC_IF_KIND_AB(ttalloc_kernel_load, t, device, kernel_class, kernel_id, size)
#define ttalloc_kernel_unload(t, device, kernel_id, size) \
	TTALLOC_IF_AB(ttalloc_kernel_unload, t, device, kernel_id, size)
#endif

/* Declares what `device` has: dram, l1 and arch of *capacity, 0 where not known. Remembered for every server that
 * comes; up to 64 devices, further ones are ignored. A server that gives no shared memory is not told. */
void ttalloc_device(struct ttalloc *t, int device, const struct ttalloc_capacity *capacity) TTALLOC_NOEXCEPT;

/* --- tags --- */

/*
 * Gives the calling thread's events, through any instance, a name for what it is doing: all names on its stack,
 * joined by '/', cut after 255 bytes. NULL or "" adds nothing, and is popped like any other. A pop without a push
 * does nothing. 64 names count; deeper ones only for their pops. A server that gives no shared memory is not told.
 */
void ttalloc_tag_push(const char *name) TTALLOC_NOEXCEPT;
void ttalloc_tag_pop(void) TTALLOC_NOEXCEPT;

/* --- marks --- */

/*
 * Makes a mark: from when this returns, marks/<name>/ in the mount reports what has changed since. In order with the
 * events of the calling thread, and with those of others that have returned. Another mark of that name starts anew. For
 * the growth of this process (`sites`, `suspects`) each is a moment, whatever its name: make one per iteration.
 *
 * A mark counts as no event, but as `dropped` when there was no room for it. Marks that a server has not read before it
 * ended are lost. The server refuses more than it keeps, and another user's: its error_log tells. Not for signal handlers.
 *
 * Return: 0; -EINVAL: not a name: 1 to 63 of A-Z a-z 0-9 . _ - without a leading dot (or NULL).
 */
int ttalloc_mark(struct ttalloc *t, const char *name) TTALLOC_NOEXCEPT;

/* --- questions ---
 *
 * Each first delivers everything that is queued. They connect at once if there is no connection, whatever the time
 * since the last attempt. They do not hold up event calls of other threads. Several threads' questions are asked
 * one after the other, each with its own bound. errno is not changed.
 *
 * Return: 0, or
 *   -ENOTCONN      the instance is NULL (ttalloc_sync() returns 0: there was nothing to deliver)
 *   -ENOENT, -ECONNREFUSED, -EACCES and others of connect(2): there is no server to ask
 *   -ECONNRESET    the connection broke while waiting
 *   -ETIMEDOUT     no answer within TTALLOC_QUESTION_BOUND_MS of its turn
 *   -EPROTO        the server answered something else; the connection was closed
 */

/*
 * Waits until the server has booked everything this instance reported before.
 *
 * Return: as above; also -EIO, once, if it could not have: the server answered, but since the last call events were
 * dropped, or became uncertain with a broken connection (ttalloc_get_counters()).
 */
int ttalloc_sync(struct ttalloc *t) TTALLOC_NOEXCEPT;

/* Asks the server to freeze a report of everything that is live, and waits until the server has heard that. A report
 * that takes less than 2 ms is in dumps/ by then, a longer one, or one of many in a row, a little later. Return: as
 * above. */
int ttalloc_dump(struct ttalloc *t) TTALLOC_NOEXCEPT;

/* Bytes in use on `device`. Return: as above; *totals is written on success only. */
int ttalloc_query(struct ttalloc *t, int device, struct ttalloc_totals *totals) TTALLOC_NOEXCEPT;

/* Capacity of `device`. Return: as above, or -ENODEV if the server does not know it; *capacity is written on success
 * only. */
int ttalloc_device_info(struct ttalloc *t, int device, struct ttalloc_capacity *capacity) TTALLOC_NOEXCEPT;

/* Number of devices whose capacity the server knows. Return: as above; *count is written on success only. */
int ttalloc_device_count(struct ttalloc *t, uint32_t *count) TTALLOC_NOEXCEPT;

/* --- the library about itself --- */

/* Asks nobody; all zero for a NULL instance. */
void ttalloc_get_counters(struct ttalloc *t, struct ttalloc_counters *counters) TTALLOC_NOEXCEPT;

#ifdef __cplusplus
}
#endif

#endif
