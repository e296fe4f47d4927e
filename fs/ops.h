/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * ops.h - what the kernel asks, answered: the FUSE operations over the tree, the handles and the control queue.
 *
 * A request is answered at once, or it is parked: a reader of the stream until something happens, a reader of a long
 * table until the step-by-step work has come to its place, a writer of a command until the effect is complete. A
 * parked request costs no thread and holds up nobody else. The session has to drain what clients have sent before it
 * hands a request in (promise 1).
 *
 * Names that come and go are looked up at every access, so a stale one is never seen. Attributes of files are asked
 * for every time; those of directories are remembered by the kernel, and it is told when they have changed.
 */
#ifndef FS_OPS_H
#define FS_OPS_H

#include <stdbool.h>
#include <stddef.h>

#include "fs/control.h"
#include "fs/dumps.h"
#include "fs/handle.h"
#include "fs/tree.h"
#include "tracker/loop.h"
#include "tracker/view.h"

struct fuse_lowlevel_ops;
struct fuse_session;
struct ops;

struct ops_config {
	struct loop *loop;
	struct server_info *server;
	struct view *view;       /* `now` is kept by ops */
	struct dumps *dumps;
	struct tree *tree;
	struct handles *handles;
	struct control *control;
	struct spool_pool *pool;  /* given back by ops in the course of time */
};

int ops_new(struct ops **op, const struct ops_config *config);
void ops_free(struct ops *o);

/* For fuse_session_new(), with the struct ops as its userdata. */
extern const struct fuse_lowlevel_ops ops_table;
extern const size_t ops_table_size;

/* The session that notifications go to; NULL = none (any more). */
void ops_set_session(struct ops *o, struct fuse_session *session);
/* The kernel has introduced itself. */
bool ops_connected(const struct ops *o);
/* To be called before each request is handed in. */
void ops_request(struct ops *o);
/* Answers everything that is parked: readers of the stream get the end of the file, everybody else EINTR. */
void ops_stop(struct ops *o);

#endif
