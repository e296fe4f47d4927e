/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * nodes.h - the one table of nodes: every file and directory of the mount is one row of it.
 *
 * Lookup, attributes, listings, opening, reading and writing are all driven by the rows (tree.c, handle.c, control.c),
 * and no path is compared anywhere else. A new file is one row, one view function, one golden file and its entry in
 * docs/filesystem.md.
 *
 * A path is a pattern whose parts are names or stand for something that comes and goes: device{device}, {type},
 * {address}, {past}, {leak}, {site}, {pid}, {mark}, {dump}. A row's directory stands in the table before it.
 */
#ifndef FS_NODES_H
#define FS_NODES_H

#include <stdbool.h>
#include <stdint.h>

#include "fs/ctl.h"
#include "tracker/ingest.h"
#include "tracker/view.h"

enum node_kind {
	NODE_DIR,
	NODE_TEXT,    /* show: written whole when it is opened */
	NODE_TABLE,   /* table: written while it is read */
	NODE_CTL,     /* show lists the commands; a write is commands of `scope` */
	NODE_OPTION,  /* show is the value; a write is a new one */
	NODE_LIST,    /* show is the list; a write replaces it, or adds to it */
	NODE_STREAM,  /* what happens from the opening on */
	NODE_DUMP,    /* a frozen report */
};

/* A number in options/: min to limit(). */
struct node_option {
	uint64_t min;
	uint64_t (*limit)(const struct view *v);
	/* 0, -ENOMEM or -ERANGE. */
	int (*set)(struct ingest *state, struct server_info *server, uint64_t value);
};

struct node {
	const char *path;  /* "" is the root */
	enum node_kind kind;
	uint16_t mode;     /* permission bits */
	bool constant;     /* the text never changes: nothing to poll for, as old as the server */
	enum ctl_scope scope;
	view_text show;
	view_table table;
	const struct node_option *option;
	/* Of a list, takes over a new text. 0, or -errno with the reason in `why` (nothing there: out of memory). */
	int (*set)(struct ingest *state, const char *text, size_t len, struct textbuf *why);
};

extern const struct node nodes[];
extern const unsigned nodes_count;

#endif
