/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * leak-report.h - what was found, as text for people, as JSON, and as JUnit XML. The numbers are the same in all.
 */
#ifndef CLIENT_LEAK_REPORT_H
#define CLIENT_LEAK_REPORT_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "client/leak-place.h"
#include "client/leak-rules.h"
#include "client/leak.h"
#include "client/odd-frees.h"

enum leak_format { LEAK_TEXT, LEAK_JSON, LEAK_JUNIT, LEAK_FORMATS };
extern const char *const leak_format_names[LEAK_FORMATS];

/* What is left on one device. */
struct leak_device {
	uint32_t device;
	struct leak_sum sum;
	struct leak_sum rest;            /* of this what has no tag and no name by a rule of its own: it is what `known` names */
	const struct known_rule *known;
};

#define LEAK_NOTES 8

struct leak_report {
	const char *who;                 /* "ttalloc run" */
	const char *mount;
	char *const *command;            /* NULL: none was run. As are the next seven */
	int status;                      /* of the command, as a shell has it */
	bool is_private;                 /* on a server of its own */
	uint64_t processes;              /* of the command that have reported */
	uint64_t lost;                   /* events of them that did not get to the server */
	struct odd_frees odd;            /* of them */
	struct leak_sum strangers;       /* of processes of which it is not known whose they are: not in the groups */
	struct leak_sum others;          /* of processes that the command did not start, on a server of its own */
	const struct leak_groups *groups;
	const struct leak_places *places; /* the same groups, for people */
	const struct suppressions *suppressions;
	const struct baseline *baseline; /* NULL: none is given */
	struct leak_device *devices;     /* see leak_report_sums() */
	size_t device_count;
	struct leak_sum all;
	struct leak_sum failing;         /* buffers of groups that fail */
	struct leak_sum suppressed;
	const char *error;               /* why this says less than it should, in words; NULL: it does not */
	const char *notes[LEAK_NOTES];   /* what else the reader should know, in words */
	unsigned note_count;
};

/* Fills in devices and sums from the groups and the list that they are of. 0 or -ENOMEM; leak_report_deinit() frees. */
int leak_report_sums(struct leak_report *r, const struct leak_list *list, const struct known *known);
void leak_report_deinit(struct leak_report *r);
void leak_report_note(struct leak_report *r, const char *note);

void leak_report_write(FILE *out, const struct leak_report *r, enum leak_format format);
/* The one line that says it all. */
void leak_report_line(FILE *out, const struct leak_report *r);

#endif
