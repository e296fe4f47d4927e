/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * bench-lttng-provider.h - the tracepoint of bench-lttng.c, in the form that LTTng's headers ask for.
 */
#undef LTTNG_UST_TRACEPOINT_PROVIDER
#define LTTNG_UST_TRACEPOINT_PROVIDER ttalloc_bench

#undef LTTNG_UST_TRACEPOINT_INCLUDE
#define LTTNG_UST_TRACEPOINT_INCLUDE "tests/bench-lttng-provider.h"

#if !defined(TESTS_BENCH_LTTNG_PROVIDER_H) || defined(LTTNG_UST_TRACEPOINT_HEADER_MULTI_READ)
#define TESTS_BENCH_LTTNG_PROVIDER_H

#include <lttng/tracepoint.h>
#include <stdint.h>

/* What ttalloc_alloc() is told. */
LTTNG_UST_TRACEPOINT_EVENT(ttalloc_bench, event,
	LTTNG_UST_TP_ARGS(int, device, uint8_t, type, uint64_t, address, uint64_t, size),
	LTTNG_UST_TP_FIELDS(
		lttng_ust_field_integer(int, device, device)
		lttng_ust_field_integer(uint8_t, type, type)
		lttng_ust_field_integer_hex(uint64_t, address, address)
		lttng_ust_field_integer(uint64_t, size, size)
	)
)

#endif

#include <lttng/tracepoint-event.h>
