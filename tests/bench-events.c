/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * bench-events.c - what an event costs the program that reports it, in a process of its own.
 *
 *   bench-events SOCKET THREADS FRAMES
 *
 * Prints the median and the mean in ns, how many rings were in use, and how many events were dropped. How much of its
 * call stack a program records is decided once, by its environment, so each way needs a process.
 *
 * Calls are timed in batches. The median batch is what a call costs; the mean has in it also what seldom happens:
 * memory touched for the first time, a full socket, other programs on the processor. Events are allocations and frees,
 * with FRAMES only allocations: those have a call site. From time to time it is waited, outside the measurement, until
 * the server has booked everything: what finds no room is dropped, and dropping is cheaper than reporting.
 */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "tests/bench-load.h"
#include "tests/bench-util.h"

#define BATCH 1000
#define BATCHES 300
#define BATCHES_BOOKED 25

struct timing {
	double median;
	double mean;
};

static struct timing timing_of(double *batch, size_t n)
{
	struct timing t = { 0 };

	for (size_t i = 0; i < n; i++)
		t.mean += batch[i] / (double)n;
	t.median = median(batch, n);
	return t;
}

/* ---- events ---- */

static void allocate(struct ttalloc *t, uint64_t address)
{
	for (int i = 0; i < BATCH; i++)
		ttalloc_alloc(t, 0, TTALLOC_DRAM, address + (uint64_t)i * BUFFER_SIZE, BUFFER_SIZE);
}

static void release(struct ttalloc *t, uint64_t address)
{
	for (int i = 0; i < BATCH; i++)
		ttalloc_free(t, 0, address + (uint64_t)i * BUFFER_SIZE);
}

static struct timing time_events(struct ttalloc *t, uint64_t address, bool frees)
{
	double batch[BATCHES];

	for (int i = 0; i < BATCHES; i++) {
		if (i % BATCHES_BOOKED == 0)
			load_sync(t);
		double begin = seconds();
		allocate(t, address);
		double middle = seconds();
		release(t, address);
		batch[i] = (frees ? (seconds() - begin) / 2 : middle - begin) / BATCH * 1e9;
	}
	return timing_of(batch, BATCHES);
}

/* The same with `frames` frames more on the call stack, none of which the compiler may take away. */
static __attribute__((noinline)) struct timing time_events_below(int frames, bool frees, struct ttalloc *t)
{
	struct timing r = frames > 0 ? time_events_below(frames - 1, frees, t) : time_events(t, BASE_ADDRESS, frees);

	__asm__ volatile("" : : : "memory");
	return r;
}

/* ---- two threads ---- */

struct reporter {
	struct ttalloc *client;
	pthread_barrier_t *together;
	int number;
	struct timing timing;
};

static void *reporter(void *data)
{
	struct reporter *r = data;

	/* The second one goes to a processor of its own where there is one besides the server's. */
	pin_self(r->number && cpu_count() > 2 ? 2 : CPU_CLIENT);
	allocate(r->client, BASE_ADDRESS);
	release(r->client, BASE_ADDRESS);
	pthread_barrier_wait(r->together);
	r->timing = time_events(r->client, BASE_ADDRESS + (uint64_t)r->number * BATCH * BUFFER_SIZE, true);
	/* Nobody is alone before both are done. */
	pthread_barrier_wait(r->together);
	return NULL;
}

static struct timing time_threads(struct ttalloc *t)
{
	pthread_barrier_t together;
	struct reporter r[2];
	pthread_t thread[2];

	pthread_barrier_init(&together, NULL, 2);
	for (int i = 0; i < 2; i++) {
		r[i] = (struct reporter){ .client = t, .together = &together, .number = i };
		errno = pthread_create(&thread[i], NULL, reporter, &r[i]);
		if (errno)
			die("thread");
	}
	for (int i = 0; i < 2; i++)
		pthread_join(thread[i], NULL);
	pthread_barrier_destroy(&together);
	return (struct timing){
		.median = (r[0].timing.median + r[1].timing.median) / 2,
		.mean = (r[0].timing.mean + r[1].timing.mean) / 2,
	};
}

int main(int argc, char **argv)
{
	struct ttalloc_counters counters;
	struct server s = { .pid = 0 };
	struct timing timing;

	if (argc != 4)
		return 2;
	pin_self(CPU_CLIENT);
	snprintf(s.socket, sizeof(s.socket), "%s", argv[1]);
	struct ttalloc *t = load_open(&s);
	/* The first ones touch memory that the later ones find. */
	int frames = atoi(argv[3]);
	time_events_below(frames, !frames, t);
	timing = atoi(argv[2]) > 1 ? time_threads(t) : time_events_below(frames, !frames, t);
	ttalloc_get_counters(t, &counters);
	printf("%.6g %.6g %llu %llu\n", timing.median, timing.mean, (unsigned long long)counters.rings,
	       (unsigned long long)counters.dropped);
	ttalloc_close(t);
	return 0;
}
