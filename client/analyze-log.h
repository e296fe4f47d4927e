/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * analyze-log.h - one log that is being read, line by line, of which only the current one is kept.
 *
 * Logs may be of any length and have lines of any length: of a line only so much is kept as an event can have.
 */
#ifndef CLIENT_ANALYZE_LOG_H
#define CLIENT_ANALYZE_LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "client/analyze-line.h"
#include "client/analyze-shelf.h"

#define LOG_CHUNK (16 * 1024)
/* Longer lines are no events: the library's own are at most 1.5 KiB. */
#define LOG_LINE_MAX 8192

struct log {
	const char *name;
	int fd;
	struct place place;        /* of the current line */
	struct line line;          /* LINE_UNKNOWN also if it is too long, or cut off by the end of the log */
	int64_t time;              /* the latest of this and the lines before; LINE_NO_TIME, which is before all others */
	uint64_t understood;       /* lines so far that say something */
	uint64_t unknown;          /* and that are not understood */
	const char *packed;        /* what it is packed with, as its first bytes tell; NULL: it is not */
	size_t at;                 /* where the text that is not read yet begins in `text` */
	size_t have;               /* and ends */
	char *text;
};

/* - is standard input. Return: 0 or -errno; log_close() also then. */
int log_open(struct log *l, const char *name, uint32_t number);
void log_close(struct log *l);
/* The next line is the current one. Return: 1; 0: there is no more; -errno. */
int log_next(struct log *l);

#endif
