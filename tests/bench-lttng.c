/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * bench-lttng.c - what an LTTng tracepoint with the same four values costs, for comparison.
 *
 *   bench-lttng on|off
 *
 * Prints ns per event and whether the tracepoint was enabled: `on` waits for a session that enables it, and with `off`
 * nobody does. Median of batches, as for our own events.
 */
#define LTTNG_UST_TRACEPOINT_CREATE_PROBES
#define LTTNG_UST_TRACEPOINT_DEFINE

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "tests/bench-lttng-provider.h"
#include "tests/bench-util.h"

#define BATCH 1000
#define BATCHES 300
#define CALLS 20000000
#define WAIT_S 3.0

static bool wait_enabled(void)
{
	for (double begin = seconds(); seconds() - begin < WAIT_S;)
		if (lttng_ust_tracepoint_enabled(ttalloc_bench, event))
			return true;
	return false;
}

static double time_on(void)
{
	double batch[BATCHES];

	for (int i = 0; i < BATCHES; i++) {
		double begin = seconds();
		for (uint64_t j = 0; j < BATCH; j++)
			lttng_ust_tracepoint(ttalloc_bench, event, 0, 0, BASE_ADDRESS + j * BUFFER_SIZE, BUFFER_SIZE);
		batch[i] = (seconds() - begin) / BATCH * 1e9;
	}
	return median(batch, BATCHES);
}

/* Two loops that differ only in the tracepoint, as for our own calls. */
static double time_off(void)
{
	double begin = seconds_busy(), with, without;

	for (uint64_t i = 0; i < CALLS; i++) {
		__asm__ volatile("" : "+r"(i));
		lttng_ust_tracepoint(ttalloc_bench, event, 0, 0, i, BUFFER_SIZE);
	}
	with = seconds_busy() - begin;
	begin = seconds_busy();
	for (uint64_t i = 0; i < CALLS; i++)
		__asm__ volatile("" : "+r"(i));
	without = seconds_busy() - begin;
	return (with - without) / CALLS * 1e9;
}

int main(int argc, char **argv)
{
	bool on = argc == 2 && strcmp(argv[1], "on") == 0;
	double v[REPEATS];

	pin_self(CPU_CLIENT);
	if (on && !wait_enabled())
		return 1;
	for (int i = 0; i < REPEATS; i++)
		v[i] = on ? time_on() : time_off();
	printf("%.6g\n", median(v, REPEATS));
	return 0;
}
