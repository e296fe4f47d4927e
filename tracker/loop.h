/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * loop.h - the one event loop: who is called when.
 *
 * One thread, epoll, level-triggered. Sources come in two classes: *ingest* (listeners, peers, process watches) and
 * *others* (FUSE, signals, log, timers). Ingest sources live in epoll sets of their own that are nested in the main
 * one, so that loop_drain() can take in everything that is pending on them, and nothing else, before a request is
 * answered: that is promise 1 (read your writes).
 *
 * A callback may add and remove any source, itself included. Work that would take long is a struct loop_work: one
 * bounded step per turn of the loop until it says it is done. Nothing here blocks but the wait for events.
 *
 * Sources, timers and works are embedded in their owners (loop_owner() leads back) and must stay where they are while
 * they are added. A source is removed before its descriptor is closed. Not thread-safe: one loop, one thread.
 */
#ifndef TRACKER_LOOP_H
#define TRACKER_LOOP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct loop;

struct loop_source {
	int fd;
	bool ingest;
	/* Of an ingest source: called only after everything that was pending on the other ingest sources when this one
	 * became ready. Deaths are: what a process had sent is booked before its end. */
	bool late;
	/* `events` as epoll reports them (EPOLLIN, EPOLLOUT, EPOLLHUP, ...). */
	void (*ready)(struct loop_source *s, uint32_t events);
	bool added;       /* internal */
	uint64_t serial;  /* internal */
	uint64_t pass;    /* internal */
	uint64_t left;    /* internal */
};

/* The struct in which a source, timer, work or hook is embedded. */
#define loop_owner(part, type, member) ((type *)(void *)((char *)(part) - offsetof(type, member)))

struct loop_timer {
	void (*expired)(struct loop_timer *t);
	uint64_t deadline;  /* internal, CLOCK_MONOTONIC ns; 0 = not armed */
	struct loop_timer *next;
};

struct loop_work {
	/* One bounded step (aim: 200 us). true = again in the next turn. */
	bool (*step)(struct loop_work *w);
	bool queued;        /* internal */
	struct loop_work *next;
};

/* A way in that epoll does not know of, like memory that clients write to: called whenever ingest sources are drained,
 * after them and before the late ones. */
struct loop_drainer {
	void (*drain)(struct loop_drainer *d);
	struct loop_drainer *next;
};

/* Called once at the end of every turn in which anything was called: wakes parked readers and pollers. */
struct loop_hook {
	void (*turn)(struct loop_hook *h);
	struct loop_hook *next;
};

/* How long turns are: what other sources and requests wait for one that is under way. By the processor time of the
 * loop's thread, so what other programs take of the processor is not in it, nor is the wait for events. Of turns that
 * are over. */
struct loop_turns {
	uint64_t count;
	uint64_t slow;    /* of them longer than LOOP_SLOW_NS */
	uint64_t max_ns;  /* the longest */
};
#define LOOP_SLOW_NS UINT64_C(1000000)  /* no handler is meant to take longer */

int loop_new(struct loop **loopp);     /* 0 or -errno */
void loop_free(struct loop *loop);     /* NULL is allowed; sources are not closed */

/* `events`: EPOLLIN and/or EPOLLOUT, or 0 for EPOLLHUP and EPOLLERR alone. 0 or -errno (-EPERM: a file that is always
 * ready, like a regular one). */
int loop_add(struct loop *loop, struct loop_source *s, uint32_t events);
int loop_change(struct loop *loop, struct loop_source *s, uint32_t events);
void loop_remove(struct loop *loop, struct loop_source *s);  /* nothing if it was not added */

void loop_timer_set(struct loop *loop, struct loop_timer *t, unsigned ms);
void loop_timer_cancel(struct loop *loop, struct loop_timer *t);
void loop_work_add(struct loop *loop, struct loop_work *w);      /* nothing if it is queued already */
void loop_work_cancel(struct loop *loop, struct loop_work *w);
void loop_hook_add(struct loop *loop, struct loop_hook *h);
void loop_drainer_add(struct loop *loop, struct loop_drainer *d);
void loop_drainer_remove(struct loop *loop, struct loop_drainer *d);  /* nothing if it was not added */

/* Whether all that is pending has to be taken in now. If not, an ingest source that has been at it for long leaves the
 * rest for the next turn and says so (loop_left): deaths wait for that, though not for ever. */
bool loop_draining(const struct loop *loop);
void loop_left(struct loop *loop, struct loop_source *s);

/* Calls every ingest source that has something pending now, and every drainer, until all that was pending when it was
 * called has been taken in. Bounded: what arrives meanwhile may wait for the next call. Not to be called from an ingest
 * callback. */
void loop_drain(struct loop *loop);

/* Runs until loop_stop(); returns its status, or -errno when waiting failed. */
int loop_run(struct loop *loop);
void loop_stop(struct loop *loop, int status);

struct loop_turns loop_turns(const struct loop *loop);
/* The longest is 0 again, or all of it; of the turn that is under way only what is still to come counts. */
void loop_turns_reset_max(struct loop *loop);
void loop_turns_reset(struct loop *loop);

/* Clocks for the edges: CLOCK_REALTIME and CLOCK_MONOTONIC in ns. */
uint64_t loop_now(void);
uint64_t loop_monotonic(void);

#endif
