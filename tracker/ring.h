/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * ring.h - the rings of native clients: makes their memory, reads it, books what stands there.
 *
 * A ring belongs to one connection (peer.c), which passes its memory on to the client. Rings that have had events
 * lately are *active*: all of them are read every 200 us, and before any request is answered (a drainer of the loop).
 * A ring that was silent for 100 ms is *armed*: its client wakes us with the next event, and until then it costs
 * nothing. Rings of clients that cannot be armed (no membarrier) are read every 100 ms.
 *
 * What several lanes hold is booked in the order of the stamps, over all rings; why that is the order in which it
 * happened is argued in client/ttalloc-ring.h.
 *
 * Owns the memory, its descriptor and the eventfd. The memory of a ring that has ended is given back in the course of
 * time (waste.h), and until then the ring counts as one of its user's: so those who make rings, fill and leave them
 * faster than we give back get no more, and have no more memory through us than with as many rings open.
 *
 * A client that writes nonsense ends its ring: what was booked stays. Internal to the intake.
 */
#ifndef TRACKER_RING_H
#define TRACKER_RING_H

#include <stdbool.h>
#include <stdint.h>

#include "tracker/event.h"
#include "tracker/ingest.h"
#include "tracker/lane.h"
#include "tracker/loop.h"
#include "tracker/stamp.h"
#include "tracker/view.h"
#include "tracker/waste.h"

#define RING_BATCH 256            /* events booked at once */
#define RING_TURN 4096            /* events, or what costs as much, in one turn; draining takes all */
#define RING_TURN_NS UINT64_C(400000)  /* nor is a further batch begun after this time */
#define RING_POLL_US 200
#define RING_QUIET_MS 100
#define RING_USER_MAX 1024        /* rings of one user, if that is not root; more clients go on with messages. Those
				   * that have ended, too, until their memory is given back */

struct ring;

/* A lane and the stamp of its next record: what is merged. */
struct ring_source {
	uint64_t stamp;
	struct ring *ring;
	struct lane *lane;
};

/* Embedded in what all connections share (struct peer_set). */
struct ring_set {
	struct loop *loop;
	struct ingest *ingest;
	struct server_info *info;
	/* A call site was defined by a ring of that process: its frames may want names. `frames` are those of the site, with
	 * the modules by which this process knows them: of the same build id, but perhaps at another path. May be NULL. */
	void (*sited)(void *data, uint32_t site, const struct site_frame *frames, uint32_t process);
	void *data;
	struct loop_drainer drainer;
	struct loop_source timer;
	struct loop_source wakes;     /* an epoll set of the eventfds */
	size_t armed;                 /* rings that sleep */
	uint64_t period;              /* ns, of the timer; 0 = it is off */
	enum ttalloc_clock clock;
	bool can_arm;                 /* this kernel has the barrier that it takes */
	struct stamp_scale scale;
	uint64_t now;                 /* of the current round, ns since the epoch */
	struct ring *active;
	struct ring_user *users;
	struct waste_heap waste;
	struct ring_source *source;   /* heap of lanes, the oldest record first */
	size_t sources;
	size_t sources_max;
	struct event batch[RING_BATCH];
	size_t batched;
};

/* loop, ingest, info, sited and data are set by the caller. 0 or -errno. */
int ring_set_init(struct ring_set *set);
/* All rings are gone; what memory of theirs still waits is given back at once. */
void ring_set_deinit(struct ring_set *set);
/* Books everything that is published. */
void ring_set_drain(struct ring_set *set);

/* The memory of a new ring whose events are those of process slot `process`; *broken is called when the client breaks
 * the contract (from within a drain: it must not free the ring). 0 or -errno. */
struct ring_owner {
	uint32_t process;
	void (*broken)(void *data, const char *why);
	void *data;
};
int ring_new(struct ring **ringp, struct ring_set *set, const struct ring_owner *owner);
/* Books what is still there; its memory is given back step by step. NULL is allowed. */
void ring_free(struct ring *r);
/* For SCM_RIGHTS; they stay the ring's. */
int ring_memory_fd(const struct ring *r);
int ring_wake_fd(const struct ring *r);

#endif
