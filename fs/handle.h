/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * handle.h - open files: what a descriptor has been shown, and what it is shown next.
 *
 * A text is written when it is opened and served by offset; a read at offset 0 after something was read writes it anew.
 * A table is written while it is read: what was produced is kept as long as there is room, so that a reader may go
 * back; the oldest text is forgotten first. The stream goes on from where this descriptor was. A dump is held.
 *
 * Nothing here waits: a read that cannot be answered yet says so and is repeated later. One call does one bounded
 * step (aim: 200 us). All handles together keep at most HANDLES_TEXT bytes, and a small rest per open table.
 *
 * Knows no libfuse. The handles own their text; what the caller is given points into it until the next call.
 */
#ifndef FS_HANDLE_H
#define FS_HANDLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "fs/dumps.h"
#include "fs/spool.h"
#include "fs/tree.h"
#include "tracker/errlog.h"
#include "tracker/textbuf.h"
#include "tracker/view.h"

#define HANDLES_MAX 65536                         /* open files and directories */
#define HANDLES_TEXT (UINT64_C(512) << 20)
#define HANDLES_TABLE_TEXT (UINT64_C(64) << 20)   /* of one table */
#define HANDLES_SORTED (UINT64_C(512) << 20)      /* of copies that tables in an order are made from; one always may */

struct fuse_pollhandle;

struct handle {
	uint64_t id;             /* what the kernel calls it */
	const struct node *node;
	uint64_t number;         /* of the inode */
	struct view_key key;     /* valid only after tree_get() has said that the number still is */
	pid_t opener;
	bool begun;              /* something was read */
	bool fresh;              /* table: its beginning was produced at the opening and not read yet */
	bool ended;              /* table: all of it was produced */
	struct stat attr;        /* at the opening; st_size is that of the snapshot */
	uint64_t version;        /* of everything, when the text was written or the table begun */
	struct textbuf text;     /* text: the snapshot; stream: lines not read yet */
	size_t taken;            /* stream: bytes of `text` that were read */
	uint64_t pos;            /* stream: position in the trace */
	uint64_t since;          /* directory: sequence number at which the listing began */
	struct view_cursor cursor;
	uint64_t sorted;         /* bytes the cursor has allocated, as last counted */
	struct spool spool;      /* table: what was produced */
	struct dump *dump;
	struct fuse_pollhandle *poll;  /* whoever waits for a change, or NULL; the caller's */
	struct handle *older, *newer;  /* internal: of the same number */
};

struct handles;

struct handles_config {
	struct tree *tree;
	const struct view *view;
	struct errlog *errlog;
	struct dumps *dumps;
	struct spool_pool *pool;  /* of blocks: where the text of tables comes from and goes */
};

int handles_new(struct handles **hsp, const struct handles_config *config);
void handles_free(struct handles *hs);

/* 0, -ENFILE, -ENOMEM, or -ENOENT when the place has just gone. */
int handle_open(struct handles *hs, const struct place *p, pid_t opener, struct handle **hp);
void handle_close(struct handles *hs, struct handle *h);
/* NULL for a number that is none. */
struct handle *handle_get(const struct handles *hs, uint64_t id);
/* The newest one that `opener` has of that inode (among the newest few), else anybody's newest; NULL: it is closed. */
struct handle *handle_of(const struct handles *hs, uint64_t number, pid_t opener);
/* Each one once: NULL at the end. *at starts at 0. */
struct handle *handle_each(const struct handles *hs, size_t *at);

/* Where the answer to a read lies. `again` = this is the same read as before, which was told to wait.
 *   0        iov[0..*n) is the answer; none = the end
 *   -EAGAIN  call again: in the next turn (table), or when handle_ready() (stream)
 *   -EINVAL  not kept any more (and a line in error_log); -ESTALE what it was about has gone; -ENOMEM */
int handle_read(struct handles *hs, struct handle *h, uint64_t offset, size_t size, bool again,
		struct iovec iov[SPOOL_IOV], int *n);
/* Whether a read would give something at once. */
bool handle_ready(const struct handles *hs, const struct handle *h);
/* Whether a new reading would show something else than this descriptor has been shown. */
bool handle_changed(struct handles *hs, struct handle *h);
/* Changes with everything that can be read. */
uint64_t handles_version(const struct handles *hs);

#endif
