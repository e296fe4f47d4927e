/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * workload-scenario.h - the faults that people hunt in real programs, one row each, made among the model's events.
 *
 * A scenario makes its fault on each device, with a tag and a function of its own, so that a report can name it; what a
 * report must say is in `expect`. Some are other options of the workload under the name by which people know them.
 */
#ifndef CLIENT_WORKLOAD_SCENARIO_H
#define CLIENT_WORKLOAD_SCENARIO_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "client/workload-model.h"

#define SCENARIO_EXPECTS 4

struct scenario {
	const char *name;
	const char *help;
	/* What it needs of the options; 0: as they are. */
	uint64_t processes;
	uint64_t unknown_free;
	uint64_t die_after;
	enum model_keep keep;
	bool mark;
	/* On one device, after the events of step `step` (from 0 on); and at the end, before the model is unloaded, with
	 * the number of steps that were made. May be NULL. */
	void (*step)(struct model *m, unsigned device, uint64_t step);
	void (*end)(struct model *m, unsigned device, uint64_t steps);
	/* How it shows beside the buffers that are left. Addresses are those of the first process. */
	const char *expect[SCENARIO_EXPECTS];
};

/* NULL: there is none of this name. */
const struct scenario *scenario_find(const char *name);
/* Prints a line for each. */
void scenario_list(FILE *f);
/* Prints its name, and how it shows. */
void scenario_print(FILE *f, const struct scenario *s);

#endif
