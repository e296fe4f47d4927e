/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * dumps.h - the frozen reports of dumps/.
 *
 * A report is written piece by piece by control.c and appears in the directory when it is finished. The newest
 * DUMPS_KEPT are kept, and all of them together, those that were removed while somebody still reads them included,
 * take at most `limit` bytes: older ones are removed to make room, and a report that is too long even so is cut at
 * the end of a line, with a last line that says so. A removed report stays readable for whoever holds it.
 *
 * Pure; owns its reports, each for as long as it is listed or held.
 */
#ifndef FS_DUMPS_H
#define FS_DUMPS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fs/ctl.h"
#include "fs/spool.h"

#define DUMPS_KEPT 16
#define DUMPS_LIMIT_DEFAULT (UINT64_C(256) << 20)

struct dump {
	uint64_t number;              /* rising from 1, never reused */
	char name[CTL_NAME_MAX + 1];  /* in the directory: the number, or what it was called */
	uint64_t made;
	struct spool text;
	uint64_t left_out;            /* bytes that did not fit */
	unsigned holders;             /* internal */
	struct dump *newer;           /* internal */
};

struct dumps {
	uint64_t limit;
	struct spool_pool *pool;
	uint64_t bytes;
	uint64_t version;      /* changes with the directory */
	uint64_t last;         /* number of the newest */
	unsigned listed;
	struct dump *oldest;
};

/* What is removed goes to `pool`. */
void dumps_init(struct dumps *d, uint64_t limit, struct spool_pool *pool);
void dumps_deinit(struct dumps *d);  /* nobody may hold one any more */

/* A new report, held by the caller and not listed yet; name "" = its number. NULL when out of memory. */
struct dump *dumps_begin(struct dumps *d, const char *name, uint64_t now);
/* 0 or -ENOMEM. */
int dumps_append(struct dumps *d, struct dump *dump, const char *data, size_t len);
/* Lists it, in the place of one with the same name. Does not let go of it. */
void dumps_finish(struct dumps *d, struct dump *dump);

void dumps_hold(struct dump *dump);
void dumps_release(struct dumps *d, struct dump *dump);  /* NULL is allowed */

/* The listed one with that number, with that name; the first one with that number or a higher one. NULL = none. */
struct dump *dumps_find(const struct dumps *d, uint64_t number);
struct dump *dumps_find_name(const struct dumps *d, const char *name);
struct dump *dumps_next(const struct dumps *d, uint64_t number);

void dumps_remove(struct dumps *d, struct dump *dump);
void dumps_clear(struct dumps *d);

#endif
