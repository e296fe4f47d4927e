/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * witness.h - tells whether a signal was sent to the whole process group, which the signal itself does not.
 *
 * It is a process of the same group that blocks all signals: what was sent to the group is pending there, too. It does
 * nothing else, holds no file open, and ends with its parent.
 */
#ifndef CLIENT_WITNESS_H
#define CLIENT_WITNESS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct witness {
	pid_t pid;             /* 0: none */
	uint64_t noted;        /* signals that an earlier one has got */
};

/* 0 or -errno. */
int witness_start(struct witness *w);
/* Whether it has got this signal since it was asked last. Without a witness: no. */
bool witness_saw(struct witness *w, int signal);
void witness_end(struct witness *w);

#endif
