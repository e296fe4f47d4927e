/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * tree.h - the table of nodes made into a tree: names, inode numbers, attributes and listings.
 *
 * A struct place says what an inode number stands for right now. It is found anew for each request and never kept: its
 * key names slots of the registry. A number whose thing is gone gives -ESTALE, at which the kernel looks the path up
 * again.
 *
 * Listings go by offsets that are positions, not counts (the child's place in the table and the registry's slot), so
 * that what lives during the whole listing appears exactly once whatever comes and goes meanwhile.
 *
 * Pure: reads what the view shows and the dumps, changes nothing, does no I/O.
 */
#ifndef FS_TREE_H
#define FS_TREE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

#include "fs/dumps.h"
#include "fs/inode.h"
#include "fs/nodes.h"
#include "tracker/view.h"

struct tree;

struct tree_config {
	const struct view *view;  /* `now` is the caller's to keep */
	const struct dumps *dumps;
	uid_t uid;                /* owner of what belongs to no process */
	gid_t gid;
};

struct place {
	const struct node *node;
	uint64_t number;
	struct inode inode;
	struct view_key key;
	struct dump *dump;
};

/* 0, -ENOMEM, or -EINVAL for a table that makes no tree. */
int tree_new(struct tree **tp, const struct node *table, unsigned count, const struct tree_config *config);
void tree_free(struct tree *t);

/* 0 or -ESTALE. */
int tree_get(const struct tree *t, uint64_t number, struct place *p);
/* 0, -ENOENT or -ENOTDIR. */
int tree_lookup(const struct tree *t, const struct place *dir, const char *name, struct place *p);

/* Whether the name, once found, stays: a fixed one, a site, or a device (its number says when it was forgotten). All
 * others have to be looked up at every access. */
bool tree_name_lasts(const struct tree *t, const struct place *p);
/* The same of the name that once led to a number, also when the thing has gone. */
bool tree_number_lasts(const struct tree *t, uint64_t number);
/* The same of the attributes: of texts that never change, and of directories, see tree_subdirs(). */
bool tree_attr_lasts(const struct tree *t, const struct place *p);

/* The attributes; for a text they tell its exact length, so it is written into `text` (NULL: nobody wants it).
 * 0, -ENOENT when what the place stands for has gone, -ENOMEM. */
int tree_attr(struct tree *t, const struct place *p, struct textbuf *text, struct stat *st);
/* Directories in that directory. */
unsigned tree_subdirs(const struct tree *t, const struct place *dir);

struct tree_entry {
	char name[128];
	uint64_t number;
	mode_t mode;
	uint64_t next;  /* the offset behind this entry */
};
/* The next entry at or behind *offset (0 = the first), which is moved. `since`: the registry's sequence number when the
 * listing began. 1 = an entry, 0 = the end, -EAGAIN = the budget (chunks of the registry to look at) was used up: call
 * again, -ENOMEM. */
int tree_list(struct tree *t, const struct place *dir, uint64_t *offset, uint64_t since, unsigned *budget,
	      struct tree_entry *e);

/* The numbers of the directories that are always there: fills at most max, returns how many. */
unsigned tree_fixed_dirs(const struct tree *t, uint64_t *numbers, unsigned max);
/* The numbers of a device's directories, which die with it: fills at most max, returns how many. */
unsigned tree_device_dirs(const struct tree *t, unsigned device, uint64_t *numbers, unsigned max);

#endif
