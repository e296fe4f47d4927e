/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * uplink.h - one connection to the server: connect with backoff, send whole messages in order, match answers, and ask
 * for a ring (ttalloc-ring.h).
 *
 * Rules that everything here keeps:
 *  - Messages leave in the order in which they were given. While the backlog holds any, a new one goes behind it.
 *  - A message of which only a part was accepted stays at the front of the backlog (`torn` tells how much is gone):
 *    its rest is the next thing on this connection, and on another connection it starts again from its first byte.
 *  - Nothing blocks except uplink_settle() and the event that calls it, by poll(2), at most TTALLOC_EVENT_BOUND_MS.
 *    When that much was in vain the uplink is `slow`: nobody waits any more until the backlog is empty again.
 *  - uplink_offer() waits for as long, once per connection, for the answer to its request, and once more if that came
 *    so late that events were sent by message meanwhile; uplink_catch_up() as long for its answer.
 *
 * No locking: the owner (struct ttalloc) has a mutex around every call. Only the set of open descriptors has a lock
 * here, because a forked child must find it consistent; see uplink_descriptors_lock().
 */
#ifndef CLIENT_UPLINK_H
#define CLIENT_UPLINK_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/un.h>

#include "client/backlog.h"
#include "client/ttalloc.h"

#define UPLINK_BATCH 64  /* messages of the backlog per send */

/* What became of the ring on this connection. */
enum uplink_ring {
	UPLINK_RING_NONE = 0,         /* not asked for */
	UPLINK_RING_ASKED,
	UPLINK_RING_OFFERED,          /* its descriptors are in `offer` */
	UPLINK_RING_REFUSED,          /* by one side or the other: messages as long as this connection lasts */
	UPLINK_RING_TAKEN,            /* no event goes by message any more */
};

struct uplink {
	int fd;                       /* -1: not connected */
	bool slow;
	size_t torn;                  /* bytes of the backlog's first message that this connection already has */
	struct backlog backlog;
	struct ttalloc_counters counters;  /* `queued` is not kept up, see backlog.count */

	uint64_t asked;               /* questions sent, over all connections */
	uint64_t answered;            /* questions answered or given up with their connection */
	uint64_t sent_when_asked;     /* counters.sent when the last question went out */
	uint64_t confirmed;           /* counters.sent up to which the server has answered, or nobody ever will */
	uint64_t kept_ticket;         /* whose answer was met by uplink_offer(), which was not for it */
	uint8_t kept[TTALLOC_DIALECT_144];

	enum uplink_ring ring;
	int offer[2];                 /* memory, event; -1 */
	uint64_t sent_when_offered;   /* counters.sent when the ring was asked for */

	ino_t inode;                  /* of our socket, to recognise a descriptor that somebody else closed */
	int error;                    /* -errno of the last failed attempt to connect */
	int64_t backoff;              /* ns */
	int64_t next_attempt;         /* CLOCK_MONOTONIC, ns */
	/* Called when a connection ends on which a ring was taken, before its descriptor is closed. `theirs`: the
	 * server has ended it, and books nothing any more. */
	void (*on_end)(struct uplink *u, bool theirs);
	char path[sizeof(((struct sockaddr_un *)0)->sun_path)];  /* "": the default paths */

	size_t in_len;
	uint8_t in[TTALLOC_DIALECT_144];
	/* Only heads are ever written here, always at multiples of 144: the tails stay zero. */
	uint8_t out[UPLINK_BATCH * TTALLOC_DIALECT_144];
};

/* CLOCK_MONOTONIC in ns. */
int64_t uplink_clock(void);
/* Waits until `fd` is ready for `events`, `deadline` (uplink_clock) is past or a signal came. */
void uplink_wait(int fd, short events, int64_t deadline);

/* `path` fits the struct; "" for the default paths. */
void uplink_init(struct uplink *u, const char *path, void (*on_end)(struct uplink *u, bool theirs));
/* Closes the connection, drops the backlog. */
void uplink_deinit(struct uplink *u);
/* In a forked child, between the two calls below: forgets the parent's connection, backlog and counters. */
void uplink_forked(struct uplink *u);

/* While held, no uplink opens or closes a descriptor. Held for microseconds: nothing under it waits. Whether this
 * thread holds it, which a signal handler asks, is in ring_self.descriptors. */
void uplink_descriptors_lock(void);
void uplink_descriptors_unlock(void);

/* The same open file, never as 0, 1 or 2: a program that runs with those closed would print into what is ours. -1 stays
 * -1. */
int uplink_above_standard(int fd);

/* Sends *m, or queues it, or counts it as dropped. */
void uplink_event(struct uplink *u, const struct ttalloc_msg_head *m);
/* Sends what is queued as far as the server takes it within the bound. */
void uplink_settle(struct uplink *u);

/*
 * Sends everything queued and then *m, without waiting. *ticketp is for uplink_receive().
 *
 * Return: 0; -EAGAIN: the server does not take it now, wait for POLLOUT on `fd` and call again; else -errno of why
 * there is no server.
 */
int uplink_submit(struct uplink *u, const struct ttalloc_msg_head *m, uint64_t *ticketp);
/*
 * The answer to the question of that ticket; answers to earlier questions, whose askers gave up, are thrown away.
 *
 * Return: 0; -EAGAIN: wait for POLLIN on `fd`, with a backlog also for POLLOUT, and call again; -ECONNRESET: it will
 * not come.
 */
int uplink_receive(struct uplink *u, uint64_t ticket, uint8_t answer[TTALLOC_DIALECT_144]);
/* Closes the connection: the server does not keep to the protocol. */
void uplink_disconnect(struct uplink *u);

/*
 * Whether the server offers a ring for the process `pid` on this connection, and everything that was sent before is
 * booked or will be before it. Then `offer` holds its descriptors until the caller says what it does, by
 * uplink_take(). Connects if it is time to; false as long as anything is queued.
 */
bool uplink_offer(struct uplink *u, pid_t pid);
/* The memory is mapped and the event descriptor the caller's, or both are closed and it goes on by message. */
void uplink_take(struct uplink *u, bool taken);
/*
 * What was queued after a ring was taken goes by message, and is booked when this returns: the threads whose events
 * these are go on in the ring. In vain after the bound.
 */
void uplink_catch_up(struct uplink *u, pid_t pid);
/* Notices that the server has hung up. `gone`: the caller knows that it has. */
void uplink_look(struct uplink *u, bool gone);
/* Queues again what a ring held that nobody books any more. False: it was dropped and counted. */
bool uplink_requeue(struct uplink *u, const struct ttalloc_msg_head *m);
/* Whether `fd` is still the socket of that inode number, and not something that the program opened in its place. */
bool uplink_is_socket(int fd, ino_t inode);

#endif
