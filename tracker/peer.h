/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * peer.h - one connection of a client: receives, has decoded, finds the owner, books, answers.
 *
 * A connection owns its descriptor, its decoder, its ring if it asked for one, and the replies its client did not read
 * yet (at most PEER_OUT_MAX bytes; who asks on without reading is disconnected). It is freed when the client closes it
 * or breaks the protocol.
 *
 * Internal to the intake; tests make peers from socketpairs.
 */
#ifndef TRACKER_PEER_H
#define TRACKER_PEER_H

#include <stdbool.h>
#include <stdint.h>

#include "tracker/event.h"
#include "tracker/ingest.h"
#include "tracker/loop.h"
#include "tracker/ring.h"
#include "tracker/view.h"
#include "tracker/watch.h"

#define PEER_BUFFER (256 << 10)    /* bytes received at once */
#define PEER_BATCH 256             /* events booked at once */
#define PEER_OUT_MAX (64 << 10)    /* bytes of replies that may wait for a client */

struct peer;

/* What all connections share; embedded in the intake. */
struct peer_set {
	struct loop *loop;
	struct ingest *ingest;
	struct server_info *info;
	struct watch_set *watches;
	struct ring_set *rings;
	void (*dump)(void *data);
	void *data;
	uint8_t *buffer;
	struct event events[PEER_BATCH];
	uint64_t now;               /* when the bytes in the buffer were received */
	bool drained;               /* the rings, since then */
	struct peer *peers;
};

/* Fills the rest; loop, ingest, info, watches, rings, dump and data are set by the caller. 0 or -ENOMEM. */
int peer_set_init(struct peer_set *set);
/* Closes all connections. */
void peer_set_deinit(struct peer_set *set);

/* Takes a connected, non-blocking socket and what is pending on it. 0, or -errno: the socket is still the caller's
 * then. -ENOSPC: no slot for another process. */
int peer_new(struct peer_set *set, int fd);

#endif
