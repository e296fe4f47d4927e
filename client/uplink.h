/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * uplink.h - one connection to the server: connect with backoff, send whole messages in order, match answers.
 *
 * Rules that everything here keeps:
 *  - Messages leave in the order in which they were given. While the backlog holds any, a new one goes behind it.
 *  - A message of which only a part was accepted stays at the front of the backlog (`torn` tells how much is gone):
 *    its rest is the next thing on this connection, and on another connection it starts again from its first byte.
 *  - Nothing blocks except uplink_settle() and the event that calls it, by poll(2), at most TTALLOC_EVENT_BOUND_MS.
 *    When that much was in vain the uplink is `slow`: nobody waits any more until the backlog is empty again.
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

	ino_t inode;                  /* of our socket, to recognise a descriptor that somebody else closed */
	int error;                    /* -errno of the last failed attempt to connect */
	int64_t backoff;              /* ns */
	int64_t next_attempt;         /* CLOCK_MONOTONIC, ns */
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
void uplink_init(struct uplink *u, const char *path);
/* Closes the connection, drops the backlog. */
void uplink_deinit(struct uplink *u);
/* In a forked child, between the two calls below: forgets the parent's connection, backlog and counters. */
void uplink_forked(struct uplink *u);

/* While held, no uplink opens or closes a descriptor. Held for microseconds: nothing under it waits. */
void uplink_descriptors_lock(void);
void uplink_descriptors_unlock(void);

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

#endif
