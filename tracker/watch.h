/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * watch.h - who a process is, and when it ends.
 *
 * One struct watch per process that has shown up, shared by its connections; it lives until the process has ended and
 * its last connection is closed. The kernel says who is at the other end (SO_PEERCRED, SO_PEERPIDFD) and when it ends
 * (a pidfd in the loop, as a late source: what it had sent is booked before). A process of which there is no pidfd,
 * because it is out of our pid namespace or was gone before we looked, ends with its last connection.
 *
 * Internal to the intake. Books ends itself (ingest_exit); does not know what a connection is.
 */
#ifndef TRACKER_WATCH_H
#define TRACKER_WATCH_H

#include <stdbool.h>
#include <stdint.h>

#include "tracker/ingest.h"
#include "tracker/loop.h"

struct watch {
	struct loop_source source;  /* the pidfd; fd -1 when there is none (any more) */
	struct watch_set *set;
	uint32_t slot;              /* of the process in the registry, valid while this struct lives */
	int32_t pid;
	int32_t inner_pid;          /* what it calls itself in its own pid namespace */
	uint32_t uid;
	bool neighbour;             /* it lives in our own pid namespace: its pids mean what ours mean */
	bool ended;
	uint32_t users;             /* connections */
};

/* A process that turned out to be another user's: who names it is not believed for a second, without looking again. */
struct watch_refusal {
	int32_t pid;
	uint32_t uid;    /* of who named it */
	uint64_t until;  /* loop_monotonic() */
};
#define WATCH_REFUSALS 1024

/* Embedded in the intake. */
struct watch_set {
	struct watch_refusal refusal[WATCH_REFUSALS];  /* by pid */
	struct loop *loop;
	struct ingest *ingest;
	struct watch **by_slot;     /* by process slot */
	uint64_t exits;             /* ends booked so far */
};

/* 0 or -ENOMEM. */
int watch_set_init(struct watch_set *set, struct loop *loop, struct ingest *ingest);
/* Forgets all processes without booking their ends. All connections must be closed. */
void watch_set_deinit(struct watch_set *set);

/* The process at the other end of a connected socket, for one more connection: give it back with watch_put().
 * 0, or -errno: -ENOSPC (no process slot), -EMFILE, -ENOMEM. */
int watch_peer(struct watch_set *set, int sock, struct watch **wp);
void watch_put(struct watch *w);

/* The process that the `peer` reports as acting: `pid` (> 0), if that is a live process of the same user and the peer
 * can know its number (docs/protocol.md, "Who the sender is", rule 2); else NULL. watch_known() finds only what is
 * watched already and costs next to nothing, watch_look_up() asks the kernel and reads /proc. */
struct watch *watch_known(const struct watch_set *set, const struct watch *peer, int32_t pid);
struct watch *watch_look_up(struct watch_set *set, const struct watch *peer, int32_t pid);

#endif
