/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * bench-ingest.c - how much the server takes in, from the first event until all is booked.
 */
#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#include "client/ttalloc-proto.h"
#include "tests/bench-load.h"
#include "tests/bench-parts.h"
#include "tests/bench-util.h"

#define SOCKET_EVENTS 400000
#define RING_BURSTS 16

/* ---- through a socket, as the existing clients do it: one blocking send per event ---- */

/* Half of the events allocate, the other half free the same addresses. */
static void send_events(int fd)
{
	uint8_t m[TTALLOC_DIALECT_72];

	for (uint64_t i = 0; i < SOCKET_EVENTS; i++) {
		uint64_t address = BASE_ADDRESS + i % (SOCKET_EVENTS / 2) * BUFFER_SIZE;
		message(m, sizeof(m), i < SOCKET_EVENTS / 2, address);
		send_all(fd, m, sizeof(m));
	}
}

static double sink_rate(const char *path)
{
	pid_t child;
	int fd = sink_start(path, &child);
	double t = seconds();

	send_events(fd);
	close(fd);
	sink_reap(child);
	return SOCKET_EVENTS / (seconds() - t);
}

static double server_rate(const struct server *s)
{
	int fd = connect_to(s->socket);
	long before = stat_value(s, "frees_total", 0);
	double t = seconds();

	send_events(fd);
	/* Reading shows everything sent before: when it answers, all is booked. */
	if (stat_value(s, "frees_total", 0) - before != SOCKET_EVENTS / 2) {
		errno = EIO;
		die("not everything was booked");
	}
	t = seconds() - t;
	close(fd);
	return SOCKET_EVENTS / t;
}

void bench_socket(void)
{
	double server[REPEATS], sink[REPEATS], ratio[REPEATS];
	struct server s;
	char path[128];

	server_start(&s);
	snprintf(path, sizeof(path), "%s/sink", s.dir);
	for (int i = 0; i < REPEATS; i++) {
		server[i] = server_rate(&s);
		sink[i] = sink_rate(path);
		ratio[i] = server[i] / sink[i];
	}
	figure("ingest_socket_events_per_s", median(server, REPEATS), "1/s");
	figure("baseline_sink_events_per_s", median(sink, REPEATS), "1/s");
	figure("ingest_socket_ratio", median(ratio, REPEATS), "x");
	server_stop(&s);
}

/* ---- through a ring ---- */

/* Events per second of time, and of the server's time on its processor. The producer is several times as fast as the
 * server, so that this has always something to do but between two bursts. */
static void ring_rates(struct load *l, const struct server *s, double *rate, double *cpu_rate)
{
	const double events = (double)RING_BURSTS * BURST;
	double busy = seconds_of(s->pid), t = seconds();

	for (int i = 0; i < RING_BURSTS; i++) {
		load_churn(l, BURST);
		load_sync(l->client);
	}
	*rate = events / (seconds() - t);
	*cpu_rate = events / (seconds_of(s->pid) - busy);
}

static void ring_measure(struct load *l, const struct server *s)
{
	double rate[REPEATS], cpu_rate[REPEATS];

	ring_rates(l, s, &rate[0], &cpu_rate[0]);
	for (int i = 0; i < REPEATS; i++)
		ring_rates(l, s, &rate[i], &cpu_rate[i]);
	if (load_dropped(l->client) > 0 || stat_value(s, "unknown_frees", 0) || stat_value(s, "refs_total", 0)) {
		errno = EIO;
		die("not everything was booked");
	}
	figure("ingest_ring_events_per_s", median(rate, REPEATS), "1/s");
	figure("ingest_ring_events_per_cpu_s", median(cpu_rate, REPEATS), "1/s");
}

void bench_ring(void)
{
	struct server s;
	struct load l;

	server_start(&s);
	load_fill(&l, &s);
	if (load_rings(&s) > 0) {
		ring_measure(&l, &s);
	} else {
		figure_missing("ingest_ring_events_per_s", "no-ring");
		figure_missing("ingest_ring_events_per_cpu_s", "no-ring");
	}
	load_free(&l);
	server_stop(&s);
}
