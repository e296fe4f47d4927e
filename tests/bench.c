/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * bench.c - what ttalloc costs, as `name value unit` lines, each beside a baseline of the same run.
 *
 *   bench [--server PATH] [--repeat N] [NAME]...
 *
 * Without names all lines are printed; with --repeat everything is measured N times and the lines are
 * `name median unit min max`. What is measured how is told in docs/benchmarks.md. Every part starts a server of its own
 * on a mount of its own and ends it: root and /dev/fuse are needed.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/bench-parts.h"
#include "tests/bench-util.h"

#define NAMES_MAX 16
#define REPEAT_MAX 100

struct part {
	void (*run)(void);
	const char *name[NAMES_MAX];  /* of its figures */
};

static const struct part parts[] = {
	{ bench_client, {
		"client_event_ns", "client_event_mean_ns", "client_event_site20_ns", "client_event_threads_ns",
		"client_off_ns", "client_rings", "baseline_send_ns", "client_event_send_ratio", "baseline_rdtsc_ns",
	} },
	{ bench_lttng, { "lttng_tracepoint_ns", "lttng_tracepoint_off_ns" } },
	{ bench_tables, { "ingest_events_per_s", "baseline_uthash_events_per_s", "ingest_uthash_ratio" } },
	{ bench_history, { "bytes_per_history_event", "bytes_per_history_event_reused" } },
	{ bench_socket, { "ingest_socket_events_per_s", "baseline_sink_events_per_s", "ingest_socket_ratio" } },
	{ bench_ring, { "ingest_ring_events_per_s", "ingest_ring_events_per_cpu_s" } },
	{ bench_under_load, {
		"summary_p99_us_under_1m_load", "summary_p50_us_under_load", "summary_p99_us_under_load",
		"summary_own_p99_us_under_load", "load_events_per_s", "load_dropped_events",
	} },
	{ bench_views, {
		"bytes_per_live_buffer", "summary_10_us", "summary_1m_us", "summary_1m_ratio", "record_orc_us",
		"baseline_empty_fuse_orc_us", "record_orc_ratio", "cat_allocs_1m_s", "ls_1m_s",
	} },
	{ bench_stall, {
		"loop_stall_max_us", "loop_stall_p99_us", "loop_stall_own_max_us",
		"loop_stall_steady_max_us", "loop_stall_steady_p99_us", "loop_stall_steady_own_max_us",
		"baseline_probe_max_us", "baseline_probe_p99_us", "baseline_probe_own_max_us",
		"turn_max_us", "turns_over_1ms", "turn_steady_max_us", "turns_steady_over_1ms", "baseline_spin_gap_max_us",
	} },
	{ bench_idle, { "idle_wakeups_per_s", "idle_wakeups_one_client_per_s" } },
};
#define PARTS (sizeof(parts) / sizeof(*parts))

static bool named(const struct part *p, const char *name)
{
	for (size_t i = 0; i < NAMES_MAX && p->name[i]; i++)
		if (strcmp(p->name[i], name) == 0)
			return true;
	return false;
}

static bool part_wanted(const struct part *p)
{
	for (size_t i = 0; i < NAMES_MAX && p->name[i]; i++)
		if (want(p->name[i]))
			return true;
	return false;
}

static bool known(const char *name)
{
	for (size_t i = 0; i < PARTS; i++)
		if (named(&parts[i], name))
			return true;
	return strcmp(name, "cpu_count") == 0;
}

static void pass(void)
{
	figure("cpu_count", cpu_count(), "count");
	for (size_t i = 0; i < PARTS; i++)
		if (part_wanted(&parts[i]))
			parts[i].run();
}

static void interrupted(int signal)
{
	end_ours();
	_Exit(128 + signal);
}

static _Noreturn void usage(void)
{
	fprintf(stderr, "usage: bench [--server PATH] [--repeat N] [NAME]...\n");
	exit(2);
}

static int options(int argc, char **argv, int *repeat)
{
	int i = 1;

	server_path = strdup(beside("../fs/ttallocd"));
	*repeat = 1;
	for (; i + 1 < argc && strncmp(argv[i], "--", 2) == 0; i += 2) {
		if (strcmp(argv[i], "--server") == 0)
			server_path = argv[i + 1];
		else if (strcmp(argv[i], "--repeat") == 0)
			*repeat = atoi(argv[i + 1]);
		else
			usage();
	}
	if (*repeat < 1 || *repeat > REPEAT_MAX)
		usage();
	return i;
}

int main(int argc, char **argv)
{
	int repeat;
	int names = options(argc, argv, &repeat);

	for (int i = names; i < argc; i++) {
		if (known(argv[i]))
			continue;
		fprintf(stderr, "bench: there is no line %s\n", argv[i]);
		return 2;
	}
	signal(SIGINT, interrupted);
	signal(SIGTERM, interrupted);
	pin_self(CPU_CLIENT);
	share_like_us(getpid());
	figures_init(argv + names, argc - names, repeat > 1);
	for (int i = 0; i < repeat; i++)
		pass();
	figures_print();
	return 0;
}
