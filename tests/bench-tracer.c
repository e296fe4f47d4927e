/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * bench-tracer.c - runs bench-lttng with a session that takes its events, and without one.
 *
 * The session daemon is our own, unless there is one already. The session is in snapshot mode: nothing is written to
 * disk, and when the buffers are full the oldest events are overwritten. So none is dropped, which would be cheaper.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "tests/bench-parts.h"
#include "tests/bench-util.h"

#define ATTEMPTS 150  /* of 20 ms, until the daemon answers */
#define SESSION "ttalloc-bench"

static char tracer[4096];
static char folder[] = "/tmp/ttalloc-bench-lttng-XXXXXX";

static void pause_20ms(void)
{
	nanosleep(&(struct timespec){ .tv_nsec = 20000000 }, NULL);
}

/* The lttng command; never with a daemon that it starts itself and that stays. */
#define LTTNG(...) run((const char *const[]){ "lttng", "--no-sessiond", __VA_ARGS__, NULL })

static bool session_made(void)
{
	char output[80];

	snprintf(output, sizeof(output), "--output=%s", folder);
	for (int i = 0; i < ATTEMPTS; i++) {
		if (LTTNG("create", SESSION, "--snapshot", output) == 0)
			return true;
		pause_20ms();
	}
	return false;
}

static bool session_start(void)
{
	return session_made() && LTTNG("enable-event", "-u", "-s", SESSION, "ttalloc_bench:event") == 0 &&
	       LTTNG("start", SESSION) == 0;
}

static void print_number(const char *name, const char *argument)
{
	char text[64];

	if (run_output((const char *const[]){ tracer, argument, NULL }, text, sizeof(text)) == 0)
		figure(name, atof(text), "ns");
	else
		figure_missing(name, "failed");
}

static void print_on(void)
{
	if (!mkdtemp(folder) || setenv("LTTNG_HOME", folder, 1) < 0)
		die("lttng");
	pid_t daemon = start((const char *const[]){ "lttng-sessiond", "--no-kernel", "--quiet", NULL }, NULL);
	if (session_start())
		print_number("lttng_tracepoint_ns", "on");
	else
		figure_missing("lttng_tracepoint_ns", "no-session");
	LTTNG("destroy", SESSION);
	stop(daemon);
	run((const char *const[]){ "rm", "-rf", folder, NULL });
	memcpy(folder + strlen(folder) - 6, "XXXXXX", 6);
}

void bench_lttng(void)
{
	strcpy(tracer, beside("bench-lttng"));
	if (access(tracer, X_OK) < 0) {
		figure_missing("lttng_tracepoint_ns", "not-installed");
		figure_missing("lttng_tracepoint_off_ns", "not-installed");
		return;
	}
	print_number("lttng_tracepoint_off_ns", "off");
	if (want("lttng_tracepoint_ns"))
		print_on();
}
