/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * errlog.h - the text of `error_log`: the last 64 things that were refused, with the reason.
 *
 * Pure; owns its lines. A line is at most ERRLOG_LINE bytes, anything longer is cut and marked with "...".
 * The same words again directly after themselves only count up (`(x17)`), so that one faulty sender cannot push
 * everything else out.
 */
#ifndef TRACKER_ERRLOG_H
#define TRACKER_ERRLOG_H

#include <stdint.h>

#include "tracker/textbuf.h"

#define ERRLOG_LINES 64
#define ERRLOG_LINE 240

struct errlog_entry {
	uint64_t time;
	uint64_t repeats;
	char text[ERRLOG_LINE];
};

struct errlog {
	struct errlog_entry line[ERRLOG_LINES];
	uint64_t total;  /* lines ever written, repeats not counted */
	uint64_t version;
};

void errlog_add(struct errlog *e, uint64_t now, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* Oldest first: `time text` or `time text (xN)`. */
void errlog_text(const struct errlog *e, struct textbuf *out);

#endif
