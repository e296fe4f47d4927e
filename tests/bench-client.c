/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * bench-client.c - what an event costs the program that reports it, in ns on CPU_CLIENT.
 *
 * Calls are timed in batches. The median batch is what a call costs; the mean has in it also what seldom happens:
 * memory touched for the first time, a full socket, other programs on the processor. Events are the allocation and the
 * free of a buffer, in turns. From time to time it is waited, outside the measurement, until the server has booked
 * everything: what finds no room is dropped, and dropping is cheaper than reporting.
 */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client/ttalloc-proto.h"
#include "client/ttalloc-ring.h"
#include "tests/bench-load.h"
#include "tests/bench-parts.h"
#include "tests/bench-util.h"

#define BATCH 1000
#define BATCHES 300
#define BATCHES_BOOKED 50
#define SENDS 250
#define CALLS 20000000
#define SITE_FRAMES 20

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

static void events(struct ttalloc *t, uint64_t address)
{
	for (int i = 0; i < BATCH; i += 2) {
		ttalloc_alloc(t, 0, TTALLOC_DRAM, address + (uint64_t)i * BUFFER_SIZE, BUFFER_SIZE);
		ttalloc_free(t, 0, address + (uint64_t)i * BUFFER_SIZE);
	}
}

static struct timing time_events(struct ttalloc *t, uint64_t address)
{
	double batch[BATCHES];

	for (int i = 0; i < BATCHES; i++) {
		if (i % BATCHES_BOOKED == 0)
			load_sync(t);
		double begin = seconds();
		events(t, address);
		batch[i] = (seconds() - begin) / BATCH * 1e9;
	}
	return timing_of(batch, BATCHES);
}

/* The same with a call stack of at least `frames` frames, none of which the compiler may take away. */
static __attribute__((noinline, noclone)) struct timing time_events_below(int frames, struct ttalloc *t)
{
	struct timing r = frames > 0 ? time_events_below(frames - 1, t) : time_events(t, BASE_ADDRESS);

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
	events(r->client, BASE_ADDRESS);
	pthread_barrier_wait(r->together);
	r->timing = time_events(r->client, BASE_ADDRESS + (uint64_t)r->number * BATCH * BUFFER_SIZE);
	/* Nobody is alone before both are done. */
	pthread_barrier_wait(r->together);
	return NULL;
}

static double time_threads(struct ttalloc *t)
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
	return (r[0].timing.median + r[1].timing.median) / 2;
}

/* ---- the baselines ---- */

static double time_sends(int fd)
{
	uint8_t m[TTALLOC_DIALECT_112];
	double batch[BATCHES];

	message(m, sizeof(m), true, BASE_ADDRESS);
	for (int i = 0; i < BATCHES; i++) {
		double begin = seconds();
		for (int j = 0; j < SENDS; j++)
			send_all(fd, m, sizeof(m));
		batch[i] = (seconds() - begin) / SENDS * 1e9;
	}
	return timing_of(batch, BATCHES).median;
}

static double time_counter(void)
{
	uint64_t sum = 0;
	double begin = seconds_busy();

	for (int i = 0; i < CALLS; i++)
		sum += ttalloc_ticks();
	__asm__ volatile("" : : "r"(sum));
	return (seconds_busy() - begin) / CALLS * 1e9;
}

/* Two loops that differ only in the calls, with an instance that is NULL, which the compiler cannot know. */
static double time_off(void)
{
	struct ttalloc *t = NULL;
	double begin, with, without;

	__asm__ volatile("" : "+r"(t));
	begin = seconds_busy();
	for (uint64_t i = 0; i < CALLS; i++) {
		__asm__ volatile("" : "+r"(i));
		ttalloc_alloc(t, 0, TTALLOC_DRAM, i, BUFFER_SIZE);
		ttalloc_free(t, 0, i);
	}
	with = seconds_busy() - begin;
	begin = seconds_busy();
	for (uint64_t i = 0; i < CALLS; i++)
		__asm__ volatile("" : "+r"(i));
	without = seconds_busy() - begin;
	return (with - without) / CALLS / 2 * 1e9;
}

/* ---- the parts ---- */

static void print_off(void)
{
	double off[REPEATS], counter[REPEATS];

	for (int i = 0; i < REPEATS; i++) {
		off[i] = time_off();
		counter[i] = time_counter();
	}
	figure("client_off_ns", median(off, REPEATS), "ns");
	figure("baseline_rdtsc_ns", median(counter, REPEATS), "ns");
}

static void print_events(const struct server *s, int sink)
{
	double one[REPEATS], mean[REPEATS], site[REPEATS], threads[REPEATS], send[REPEATS], ratio[REPEATS];
	struct ttalloc *t = load_open(s);

	time_events(t, BASE_ADDRESS);
	for (int i = 0; i < REPEATS; i++) {
		struct timing timing = time_events(t, BASE_ADDRESS);
		one[i] = timing.median;
		mean[i] = timing.mean;
		send[i] = time_sends(sink);
		ratio[i] = send[i] / one[i];
		site[i] = time_events_below(SITE_FRAMES, t).median;
	}
	/* Last: a process that had two threads stamps more carefully from then on. */
	for (int i = 0; i < REPEATS; i++)
		threads[i] = time_threads(t);
	figure("client_rings", (double)load_rings(s), "count");
	figure("client_event_ns", median(one, REPEATS), "ns");
	figure("client_event_mean_ns", median(mean, REPEATS), "ns");
	figure("baseline_send_ns", median(send, REPEATS), "ns");
	figure("client_event_send_ratio", median(ratio, REPEATS), "x");
	figure("client_event_site20_ns", median(site, REPEATS), "ns");
	figure("client_event_threads_ns", median(threads, REPEATS), "ns");
	if (load_dropped(t) > 0) {
		errno = ENOBUFS;
		die("events were dropped: the figures of the client mean nothing");
	}
	ttalloc_close(t);
}

void bench_client(void)
{
	struct server s;
	char path[128];
	pid_t child;

	server_start(&s);
	snprintf(path, sizeof(path), "%s/sink", s.dir);
	int sink = sink_start(path, &child);
	print_events(&s, sink);
	close(sink);
	sink_reap(child);
	server_stop(&s);
	print_off();
}
