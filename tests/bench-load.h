/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * bench-load.h - events reported through libttalloc: as many as there is room for, or so many per second.
 *
 * The way they take is the library's choice: its ring, or the socket with a server or library that has none. Nothing
 * here depends on which; load_rings() tells.
 */
#ifndef TESTS_BENCH_LOAD_H
#define TESTS_BENCH_LOAD_H

#include <pthread.h>
#include <stdatomic.h>

#include "client/ttalloc.h"
#include "tests/bench-util.h"

/* Events that are reported before it is waited until all are booked. A ring's lane has room for eight times as many. */
#define BURST 131072

struct load {
	struct ttalloc *client;
	struct churn *churn;
	double rate;            /* events per second that are aimed at */
	double achieved;
	pthread_t thread;
	atomic_bool stop;
};

struct ttalloc *load_open(const struct server *s);
/* Waits until all is booked; dies when the server has not taken it. */
void load_sync(struct ttalloc *t);
/* Rings in use at the server. */
long load_rings(const struct server *s);
/* Events that the library gave up so far. */
double load_dropped(struct ttalloc *t);

/* An instance with MANY live buffers and more, as churn_init() has them, all booked. */
void load_fill(struct load *l, const struct server *s);
void load_churn(struct load *l, unsigned events);
/* From a thread of its own on CPU_CLIENT, until load_stop(). */
void load_start(struct load *l, double rate);
void load_stop(struct load *l);
void load_free(struct load *l);

#endif
