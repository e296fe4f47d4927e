/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * workload-ledger.h - what ttalloc-workload believes the server must show: counts by the server's booking rules.
 *
 * One ledger per reporting process, all in memory shared with the parent, so that what a process had published is
 * known after it was killed. A process writes only its own; the parent reads when that process is waiting or gone.
 */
#ifndef CLIENT_WORKLOAD_LEDGER_H
#define CLIENT_WORKLOAD_LEDGER_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

/* The five types of enum ttalloc_type, then these two. */
enum {
	LEDGER_CB = 5,
	LEDGER_KERNEL,
	LEDGER_TYPES,
};

struct ledger_row {
	uint64_t count;
	uint64_t bytes;
	uint64_t peak;
	uint64_t allocs;
	uint64_t frees;
};

struct ledger_device {
	struct ledger_row types[LEDGER_TYPES];
	struct ledger_row total;
};

struct ledger {
	uint64_t refs;
	uint64_t double_frees;
	uint64_t unknown_frees;
	uint64_t events;               /* reported; the four below are what the library says became of them */
	uint64_t sent;
	uint64_t queued;
	uint64_t dropped;
	uint64_t uncertain;
	struct ledger_device devices[];
};

/* `processes` ledgers of `devices` devices each, all zero; NULL if there is no memory for them. Never freed. */
struct ledger *ledger_new(unsigned processes, unsigned devices);
/* The i-th of them. */
struct ledger *ledger_at(struct ledger *all, unsigned i, unsigned devices);

/* A buffer came to be, or went. */
void ledger_alloc(struct ledger *l, unsigned device, unsigned type, uint64_t size);
void ledger_free(struct ledger *l, unsigned device, unsigned type, uint64_t size);

/* Prints what the processes have left, now that they have ended: the leaks that the server must show. */
void ledger_print_left(FILE *f, struct ledger *all, unsigned processes, unsigned devices);

/* Prints the sum of all ledgers. With several processes a peak depends on how they ran: `-`. */
void ledger_print(FILE *f, struct ledger *all, unsigned processes, unsigned devices);

#endif
