/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * bench-parts.h - the parts of the benchmark. Each measures the figures that it is named for in bench.c.
 */
#ifndef TESTS_BENCH_PARTS_H
#define TESTS_BENCH_PARTS_H

/* bench-client.c: what an event costs the program that reports it. */
void bench_client(void);

/* bench-tracer.c: what an event costs with another tracer. */
void bench_lttng(void);

/* bench-tables.c: the registry by itself, without a transport. */
void bench_tables(void);
void bench_history(void);

/* bench-ingest.c: through a socket and through rings, until all is booked. */
void bench_socket(void);
void bench_ring(void);

/* bench-mount.c: what who reads the mount waits for. */
void bench_views(void);
void bench_under_load(void);
void bench_stall(void);
void bench_idle(void);

#endif
