/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * analyze-report.h - what a book says, for people and as JSON.
 */
#ifndef CLIENT_ANALYZE_REPORT_H
#define CLIENT_ANALYZE_REPORT_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

struct book;

struct report_options {
	uint64_t top;              /* buffers that are listed of each kind and device; UINT64_MAX: all */
	bool all_devices;
	int32_t device;            /* else only this one */
	bool timeline;             /* of the book's wanted address: instead of the rest, in JSON too */
	uint64_t address;
	const char *const *logs;   /* names of the files, by their number */
	uint32_t log_count;
};

/* Return: 0 or -ENOMEM. *leaksp: buffers that are held at the end, on the devices that are reported. */
int report_text(FILE *out, struct book *b, const struct report_options *options, uint64_t *leaksp);
int report_json(FILE *out, struct book *b, const struct report_options *options, uint64_t *leaksp);

#endif
