/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * session.h - the mount itself: making it, taking requests from the kernel in the loop, and ending it.
 *
 * What clients have sent is drained before each request is answered. The server never touches its own mount in a way
 * that would need an answer from itself, and ends it without waiting for anybody: what is still open inside is cut off.
 */
#ifndef FS_SESSION_H
#define FS_SESSION_H

#include <stdbool.h>

#include "fs/mountpoint.h"
#include "fs/ops.h"
#include "tracker/loop.h"
#include "tracker/textbuf.h"

struct session;

struct session_config {
	struct loop *loop;
	struct ops *ops;
	const char *path;  /* of a prepared mountpoint */
	/* The kernel's first request is answered: the mount is usable. */
	void (*ready)(void *data);
	/* Somebody else has unmounted it. */
	void (*gone)(void *data);
	void *data;
};

/* Mounts. 0, or -errno with the reason in `why`. */
int session_new(struct session **sp, const struct session_config *config, struct textbuf *why);
/* Unmounts. NULL is allowed. */
void session_free(struct session *s);

#endif
