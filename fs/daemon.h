/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * daemon.h - going into the background, once the mount answers.
 *
 * The process that was started waits until the server that it forked says that it is ready, looks whether the mount
 * really answers, and ends: 0, or 2 with the reason on standard error. The server's standard input and output are
 * /dev/null from the beginning, and so is standard error unless it is a regular file; other descriptors that were
 * handed down are closed: a pipe that stays open would hold up whoever waits for its end.
 */
#ifndef FS_DAEMON_H
#define FS_DAEMON_H

#include "tracker/textbuf.h"

#define DAEMON_FAILED 2  /* exit status */

/* Returns in the server only: 0 with the descriptor for daemon_ready() or daemon_failed() in *fd, or -errno. */
int daemon_start(int *fd);
/* Each closes the descriptor. */
void daemon_ready(int *fd, const char *mount);
void daemon_failed(int *fd, const struct textbuf *why);

#endif
