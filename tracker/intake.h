/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * intake.h - the edge where clients come in: listening sockets, one peer per connection, and the watch on processes.
 *
 * listener.c accepts, peer.c receives, decodes and answers, watch.c finds out who a process is and learns of its death
 * from a pidfd. All of them book through ingest.h; none of them knows the mount.
 */
#ifndef TRACKER_INTAKE_H
#define TRACKER_INTAKE_H

#include <stdint.h>

#include "tracker/ingest.h"
#include "tracker/log.h"
#include "tracker/loop.h"
#include "tracker/textbuf.h"
#include "tracker/view.h"

struct intake;

struct intake_config {
	struct loop *loop;
	struct log *log;
	struct ingest *ingest;
	struct server_info *info;   /* clients, malformed_senders, refused_clients are counted there; max_clients read */
	/* A client asked for a dump (DUMP_REMAINING, DUMP_KERNELS): called for each such message, in the midst of taking
	 * in; it must not drain the loop. */
	void (*dump)(void *data);
	/* A client defined a call site (number in the registry): its frames may want names; see ring.h. May be NULL. */
	void (*sited)(void *data, uint32_t site, const struct site_frame *frames, uint32_t process);
	void *data;
};

int intake_new(struct intake **inp, const struct intake_config *config);
/* Closes all connections and unlinks the sockets that are still ours. */
void intake_free(struct intake *in);

/* Listens on a Unix stream socket (mode 0666). A stale socket file is replaced; where a living server listens:
 * -EADDRINUSE with its pid in `why`; anything else that stands there is left alone (-EEXIST). Missing
 * parent directories below /run are made (0755). */
int intake_listen(struct intake *in, const char *path, struct textbuf *why);

/* Looks at every process known as live, now; books those that have ended. Returns how many. For `scan`. */
unsigned intake_scan(struct intake *in);

#define INTAKE_MAX_CLIENTS_DEFAULT 16384

#endif
