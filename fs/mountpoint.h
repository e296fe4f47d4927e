/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * mountpoint.h - the directory to mount on: what is there already, and making it ready.
 *
 * A mount of our own type whose server has died is detached; one that is served is left alone. Whoever looks into a
 * mount may be held up for ever by a server that hangs, so only child processes do, and for a bounded time. Everything
 * else here asks the kernel without asking any server. Knows no libfuse.
 */
#ifndef FS_MOUNTPOINT_H
#define FS_MOUNTPOINT_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "tracker/textbuf.h"

#define MOUNT_TYPE "fuse.ttalloc"
#define MOUNT_SUBTYPE "ttalloc"

struct mountpoint {
	char *path;  /* absolute, without symbolic links */
	bool made;   /* the directory was not there before */
};

/* Makes `path` an empty directory to mount on: heals a dead mount of ours, makes a missing directory (not its parents).
 * 0, or -errno with the reason in `why`: -EBUSY where a living ttalloc is mounted, -ENOTDIR, -ENOTEMPTY, ... */
int mountpoint_prepare(struct mountpoint *m, const char *path, struct textbuf *why);
/* Removes the directory if it was made for us. */
void mountpoint_release(struct mountpoint *m);

/* Whether the mount at `path` answers within `ms`: reads the file `version` there and puts its text into `version`.
 * 0, -ENOTCONN = its server is dead, -ETIMEDOUT, or what else the reading said. */
int mountpoint_ask(const char *path, unsigned ms, struct textbuf *version);

/* Takes away what is mounted on top at `path`, at once, whoever is still inside. 0 or -errno. */
int mountpoint_detach(const char *path);

/* The device number ("0:51") of what is mounted on top at `path`; false = nothing is. */
bool mountpoint_device(const char *path, char *device, size_t size);

#endif
