/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * bench-load.c - see bench-load.h.
 */
#include "tests/bench-load.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <time.h>

#define TICK_S 200e-6
#define BEHIND_S 10e-3  /* what could not be reported in time is not made up for beyond this */

struct ttalloc *load_open(const struct server *s)
{
	struct ttalloc *t;

	errno = -ttalloc_open(&t, s->socket);
	if (errno)
		die("ttalloc_open");
	return t;
}

void load_sync(struct ttalloc *t)
{
	int r = ttalloc_sync(t);

	/* What was dropped is counted where it matters. */
	if (r < 0 && r != -EIO) {
		errno = -r;
		die("ttalloc_sync");
	}
}

long load_rings(const struct server *s)
{
	return stat_value(s, "rings", 0);
}

double load_dropped(struct ttalloc *t)
{
	struct ttalloc_counters c;

	ttalloc_get_counters(t, &c);
	return (double)c.dropped;
}

static void report(struct load *l)
{
	uint64_t address;

	if (churn_next(l->churn, &address))
		ttalloc_alloc(l->client, 0, TTALLOC_DRAM, address, BUFFER_SIZE);
	else
		ttalloc_free(l->client, 0, address);
}

void load_churn(struct load *l, unsigned events)
{
	for (unsigned i = 0; i < events; i++)
		report(l);
}

void load_fill(struct load *l, const struct server *s)
{
	l->client = load_open(s);
	l->churn = malloc(sizeof(*l->churn));
	if (!l->churn)
		die("churn");
	churn_init(l->churn, 88172645463325252U);
	for (uint64_t slot = 0; slot < CHURN_SLOTS; slot++) {
		if (l->churn->live[slot / 64] >> slot % 64 & 1)
			ttalloc_alloc(l->client, 0, TTALLOC_DRAM, BASE_ADDRESS + slot * BUFFER_SIZE, BUFFER_SIZE);
		if (slot % BURST == 0)
			load_sync(l->client);
	}
	load_sync(l->client);
	if (load_dropped(l->client) > 0 || stat_value(s, "live_buffers", 0) != (long)CHURN_SLOTS / 2) {
		errno = EIO;
		die("not every buffer was booked");
	}
}

static void sleep_until(double t)
{
	struct timespec at = { .tv_sec = (time_t)t };

	at.tv_nsec = (long)((t - (double)at.tv_sec) * 1e9);
	clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL);
}

static void *keep_rate(void *data)
{
	struct load *l = data;
	double begin = seconds(), then = begin, owed = 0, done = 0;

	pin_self(CPU_CLIENT);
	prctl(PR_SET_TIMERSLACK, 1);
	while (!l->stop) {
		sleep_until(then + TICK_S);
		double now = seconds();
		owed += (now - then) * l->rate;
		if (owed > BEHIND_S * l->rate)
			owed = BEHIND_S * l->rate;
		then = now;
		load_churn(l, (unsigned)owed);
		done += (unsigned)owed;
		owed -= (unsigned)owed;
	}
	l->achieved = done / (seconds() - begin);
	return NULL;
}

void load_start(struct load *l, double rate)
{
	l->rate = rate;
	l->stop = false;
	errno = pthread_create(&l->thread, NULL, keep_rate, l);
	if (errno)
		die("thread");
}

void load_stop(struct load *l)
{
	l->stop = true;
	pthread_join(l->thread, NULL);
	load_sync(l->client);
}

void load_free(struct load *l)
{
	ttalloc_close(l->client);
	free(l->churn);
}
