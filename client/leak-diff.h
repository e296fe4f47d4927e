/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * leak-diff.h - what has come and gone between two lists of buffers.
 *
 * A buffer of one list is the same as one of the other if device, type, address and process are, and the sequence number,
 * or, where one of them is of a dump, which has none, the time of its allocation to about two seconds.
 *
 * Pure but for memory.
 */
#ifndef CLIENT_LEAK_DIFF_H
#define CLIENT_LEAK_DIFF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "client/leak-report.h"
#include "client/leak.h"

/* Takes over the buffers of a file of dumps/. Their sizes are rounded, to a tenth of a KB. 0, -ENOMEM, -EPROTO (it is no
 * dump), -ENODATA (it is a part of one: it does not end with the number of its buffers). */
int leak_dump_read(struct leak_list *list, const char *text);

/* What has become of one group. */
struct diff_row {
	char *key;                 /* NULL in a total */
	struct leak_sum before;
	struct leak_sum after;
	struct leak_sum came;
	struct leak_sum went;
	uint64_t resized;          /* are in both, with another size */
	const struct leak *leak;   /* one of them */
};

struct diff {
	struct diff_row *devices;  /* one for each device and type, in their order */
	size_t device_count;
	struct diff_row *groups;   /* by call site or class, as in leak.h: what has grown most first; only what changed */
	size_t group_count;
	struct diff_row total;
};

/* Without `with_sites`, all groups are classes of size. Sorts the lists, and changes sites and tags in them. 0 or -ENOMEM. */
int diff_make(struct diff *d, struct leak_list *before, struct leak_list *after, bool with_sites);
void diff_free(struct diff *d);

#endif
