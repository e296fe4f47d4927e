/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * util-registry.h - a registry with its companions for unit tests: made, used and freed without any I/O.
 */
#ifndef TESTS_UTIL_REGISTRY_H
#define TESTS_UTIL_REGISTRY_H

#include "client/ttalloc-proto.h"
#include "client/ttalloc-ring.h"
#include "tracker/ingest.h"
#include "tracker/site.h"

#define UTIL_NOW UINT64_C(1732082104123456000)  /* the tests' "now" unless they say otherwise */
#define UTIL_STARTED UINT64_C(1732000000000000000)

struct util {
	struct registry_config config;
	void *arena;
	struct registry *reg;
	struct trace trace;
	struct errlog errlog;
	struct ingest in;
	uint64_t now;
};

/* max_buffers 0: 4096; history_events 0: 4096; history_per_buffer 0: the default. */
struct util *util_new(uint32_t max_buffers, uint32_t history_events, uint32_t history_per_buffer);
void util_free(struct util *u);
/* A process that has connected once; returns its slot. */
uint32_t util_process(struct util *u, int pid, uint32_t uid, const char *comm);

/* Book one event at u->now. */
void util_event(struct util *u, struct event e);
void util_alloc(struct util *u, uint32_t process, int device, unsigned type, uint64_t address, uint64_t size);
/* The same, from a call site, with a tag. */
void util_alloc_at(struct util *u, uint32_t process, int device, unsigned type, uint64_t address, uint64_t size,
		   uint32_t site, uint32_t tag);
/* A call site of one frame, which differs by its offset. */
uint32_t util_site(struct util *u, uint64_t offset);
void util_release(struct util *u, uint32_t process, int device, uint64_t address);

/* Fails the test unless every total, those of call sites included, equals what the list of live buffers says. */
void util_check_totals(struct util *u);

#endif
