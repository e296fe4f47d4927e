/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * odd-frees.h - frees of what was no live buffer of its process: how many a run has made, and where the double ones were.
 *
 * Each process's numbers are exact (pids/<pid>/status). Places are from the mount's trace, which has the newest events
 * only, so there can be fewer of them. What nobody has freed before and ttallocd never heard of (unknown) is normal for
 * buffers that are older than it.
 *
 * Pure but for memory.
 */
#ifndef CLIENT_ODD_FREES_H
#define CLIENT_ODD_FREES_H

#include <stdint.h>

#include "client/leak.h"

struct odd_frees {
	uint64_t twice;
	uint64_t unknown;
	uint64_t foreign;          /* of another process's buffer */
	struct leak_list list;     /* double ones: site, device, address, pid; what else is in a leak says nothing */
	struct leak_groups places; /* of these, see odd_frees_group() */
};

/* Adds the numbers of a process, from the text of its status. */
void odd_frees_count(struct odd_frees *o, const char *status);
/* Takes the double frees out of the text of a trace; `is_meant` is asked about the pid of each, as it stands there. 0,
 * -ENOMEM, or -EPROTO: it is no trace. */
int odd_frees_take(struct odd_frees *o, const char *trace, bool (*is_meant)(void *data, const char *pid), void *data);
/* Puts them in groups, the most frequent first. 0 or -ENOMEM. */
int odd_frees_group(struct odd_frees *o);
void odd_frees_free(struct odd_frees *o);

#endif
