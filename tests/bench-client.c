/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * bench-client.c - what an event costs the program that reports it, in ns on CPU_CLIENT. The events themselves are
 * reported by bench-events.c; here are the baselines, and what a call costs when tracking is off.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client/ttalloc-proto.h"
#include "client/ttalloc-ring.h"
#include "tests/bench-load.h"
#include "tests/bench-parts.h"
#include "tests/bench-util.h"

#define BATCHES 300
#define SENDS 250
#define CALLS 20000000
#define NO_FRAMES "0"
#define SITE_FRAMES "20"  /* recorded, of a stack that has more */

/* Of the last process that reported. */
static unsigned long rings;

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
	return median(batch, BATCHES);
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

	begin = seconds_busy();
	for (uint64_t i = 0; i < CALLS; i++) {
		/* What the instance is must not be known once for the whole loop. */
		__asm__ volatile("" : "+r"(t), "+r"(i));
		ttalloc_alloc(t, 0, TTALLOC_DRAM, i, BUFFER_SIZE);
		__asm__ volatile("" : "+r"(t), "+r"(i));
		ttalloc_free(t, 0, i);
	}
	with = seconds_busy() - begin;
	begin = seconds_busy();
	for (uint64_t i = 0; i < CALLS; i++)
		__asm__ volatile("" : "+r"(t), "+r"(i));
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

/* One run of bench-events: medians of its batches, and their mean. */
static double time_events(const struct server *s, const char *threads, const char *frames, double *mean)
{
	unsigned long long dropped = 0;
	char text[128];

	setenv("TTALLOC_STACK_DEPTH", frames, 1);
	char *program = strdup(beside("bench-events"));
	int status = run_output((const char *const[]){ program, s->socket, threads, frames, NULL }, text, sizeof(text));
	free(program);
	unsetenv("TTALLOC_STACK_DEPTH");
	double event;
	if (status != 0 || sscanf(text, "%lg %lg %lu %llu", &event, mean, &rings, &dropped) != 4 || dropped) {
		errno = EIO;
		die("events failed, or were dropped");
	}
	return event;
}

static void print_events(const struct server *s, int sink)
{
	double one[REPEATS], mean[REPEATS], site[REPEATS], threads[REPEATS], send[REPEATS], ratio[REPEATS], ignored;

	for (int i = 0; i < REPEATS; i++) {
		one[i] = time_events(s, "1", NO_FRAMES, &mean[i]);
		send[i] = time_sends(sink);
		ratio[i] = send[i] / one[i];
		site[i] = time_events(s, "1", SITE_FRAMES, &ignored);
		threads[i] = time_events(s, "2", NO_FRAMES, &ignored);
	}
	figure("client_rings", (double)rings, "count");
	figure("client_event_ns", median(one, REPEATS), "ns");
	figure("client_event_mean_ns", median(mean, REPEATS), "ns");
	figure("baseline_send_ns", median(send, REPEATS), "ns");
	figure("client_event_send_ratio", median(ratio, REPEATS), "x");
	figure("client_event_site20_ns", median(site, REPEATS), "ns");
	figure("client_event_threads_ns", median(threads, REPEATS), "ns");
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
