/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * private-server.h - a ttallocd of one's own, with its mount in a new directory below $TMPDIR that only its user can
 * look into.
 *
 * It ends, and the directory goes, when private_server_end() is called, and also when the caller is killed: a guardian
 * process in between holds the other end of a pipe. It has a session of its own, so the terminal's signals do not
 * reach it. When that is killed the server ends, too, and the caller does the rest; when both are, the next one who
 * starts a server finds the directory without a lock, and takes it away.
 */
#ifndef CLIENT_PRIVATE_SERVER_H
#define CLIENT_PRIVATE_SERVER_H

#include <stdbool.h>
#include <sys/types.h>

struct private_server {
	pid_t guardian;        /* 0: none, or it has been reaped */
	int leash;             /* the guardian ends when this is closed */
	int lock;              /* of the directory, held by the guardian, too */
	int log;               /* what the server writes to standard error */
	bool ended;            /* by itself, see private_server_ended() */
	int status;
	bool compat;           /* it also serves the socket that existing clients have compiled in */
	char *directory;
	char *mount;
	char *socket;
};

#define PRIVATE_SERVER_INIT ((struct private_server){ .leash = -1, .lock = -1, .log = -1 })

/* Returns when the mount answers. 0 or -errno; the reason was said on standard error, beginning with `who`, and nothing
 * is left. */
int private_server_start(struct private_server *s, const char *who);
/* Waits until nothing is left. 0, or -EIO if the server did not end well: what it wrote was copied to standard error.
 * Repeating it does nothing. */
int private_server_end(struct private_server *s, const char *who);
/* For a caller that reaps any child: the guardian has ended already, with this status. */
void private_server_ended(struct private_server *s, int status);

#endif
