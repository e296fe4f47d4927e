/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * workload-model.h - one process that behaves like the inference of a language model on several devices.
 *
 * Loading reports weights, KV cache, programs, trace and l1_small buffers that stay; each step reports activations
 * and circular buffers that come and go, at addresses that are used again for other sizes. The same seed makes the
 * same events. Every event is in the ledger when the next one begins.
 */
#ifndef CLIENT_WORKLOAD_MODEL_H
#define CLIENT_WORKLOAD_MODEL_H

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "client/ttalloc.h"
#include "client/workload-ledger.h"

#define MODEL_DEVICES_MAX 1024
#define MODEL_PROCESSES_MAX 256
#define MODEL_LAYERS_MAX 128
#define MODEL_FAULTS_MAX 65536

/* What is not freed at the end; each includes those before it. */
enum model_keep {
	MODEL_KEEP_NOTHING,
	MODEL_KEEP_CACHE,           /* the KV cache */
	MODEL_KEEP_WEIGHTS,
	MODEL_KEEP_EVERYTHING,      /* what a program leaves that just ends */
};

struct scenario;

struct model_options {
	unsigned devices;
	unsigned layers;
	uint64_t steps;             /* 0: until stopped */
	uint64_t rate;              /* events per second; 0: as fast as it goes */
	uint64_t seed;
	uint64_t leak;              /* buffers never freed */
	uint64_t double_free;
	uint64_t unknown_free;
	uint64_t die_after;         /* SIGKILL to itself after so many events; 0: never */
	bool mark;                  /* makes the mark `step` after each step */
	enum model_keep keep;
	const struct scenario *scenario;   /* NULL: none */
};

struct model;

/*
 * `process` tells processes apart that share devices: each has addresses of its own. `stop` is set by a signal handler
 * to end model_run() early; SIGTERM and SIGINT set it, and end any waiting. The instance, ledger and options must
 * outlive the model.
 *
 * Return: NULL without memory.
 */
struct model *model_new(struct ttalloc *t, struct ledger *ledger, const struct model_options *options,
			unsigned process, const volatile sig_atomic_t *stop);
void model_free(struct model *m);

/* Loads the model and makes the steps and faults. Return: 0 or -ENOMEM. */
int model_run(struct model *m);
/* Frees everything that is to be freed. */
void model_unload(struct model *m);
/* Delivers what is queued and brings the last lines of the ledger up to date. Return: that of ttalloc_sync(). */
int model_sync(struct model *m);
/* Waits until `stop` is set. */
void model_wait(struct model *m);

/* --- for scenarios: events, each in the ledger as the server books it --- */

/* MODEL_AREA bytes of DRAM addresses, and 64 KiB of L1, which the model itself does not use. */
#define MODEL_AREA UINT64_C(0x8000000)
uint64_t model_area(const struct model *m);
uint64_t model_l1_area(const struct model *m);
unsigned model_process(const struct model *m);
/* A multiple of the alignment in low..high. */
uint64_t model_random_size(struct model *m, uint64_t low, uint64_t high);

/* A buffer comes, or goes. */
void model_make(struct model *m, unsigned device, unsigned type, uint64_t address, uint64_t size);
void model_drop(struct model *m, unsigned device, unsigned type, uint64_t address, uint64_t size);
/* One more reference to a live buffer, or one less: nothing but `refs` counts it. */
void model_share(struct model *m, unsigned device, unsigned type, uint64_t address, uint64_t size);
void model_unshare(struct model *m, unsigned device, uint64_t address);
/* A free of what this process has freed already. */
void model_drop_again(struct model *m, unsigned device, uint64_t address);

#endif
