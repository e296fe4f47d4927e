/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * listener.h - a listening Unix socket: how it takes its path, accepts, and leaves.
 *
 * Owns the descriptor, the file at its path while that is still the one it made, and those directories below /run that
 * it had to make. Never takes the path from a server that is alive.
 *
 * Internal to the intake.
 */
#ifndef TRACKER_LISTENER_H
#define TRACKER_LISTENER_H

#include <stdbool.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "tracker/loop.h"
#include "tracker/peer.h"
#include "tracker/textbuf.h"

#define LISTENER_BACKLOG 4096

struct listener {
	struct loop_source source;
	struct loop_timer pause;   /* set while it does not accept, for want of descriptors or memory */
	struct peer_set *peers;
	int *reserve;              /* a descriptor kept for turning clients away when there is no other */
	struct listener *next;     /* of the intake */
	struct sockaddr_un address;
	struct stat file;          /* the one at the path that we made */
	bool bound;
	size_t made_from;          /* the part of the path from here on names directories that we made; 0 = none */
};

/* Listens; 0 or -errno with the reason in words in `why`. *l is to be deinitialised in either case. */
int listener_init(struct listener *l, struct peer_set *peers, int *reserve, const char *path, struct textbuf *why);
void listener_deinit(struct listener *l);

#endif
