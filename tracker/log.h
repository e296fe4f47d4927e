/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * log.h - the server's log on standard error, readable by journald; never blocks the loop.
 *
 * Lines go out at once when the other side takes them. When it does not (a full pipe, a stopped terminal), they wait
 * in a queue of at most LOG_QUEUE_MAX bytes that the loop empties; what does not fit is dropped, counted, and said so
 * in a line when there is room again.
 * The file status flags of standard error are never changed: they belong to whoever started us, too.
 */
#ifndef TRACKER_LOG_H
#define TRACKER_LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tracker/loop.h"

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARNING, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };

struct log;

#define LOG_QUEUE_MAX (UINT64_C(64) << 20)

/* `fd` stays the caller's. Prefixes lines with <N> where standard error is journald's stream. 0 or -errno. */
int log_new(struct log **logp, struct loop *loop, int fd, enum log_level level);
void log_free(struct log *log);          /* writes what still goes out without waiting */
void log_set_level(struct log *log, enum log_level level);
enum log_level log_level(const struct log *log);
/* -1 for an unknown name. */
int log_level_parse(const char *name);
/* One line, whatever is in it: control characters become '?', and what is longer than 1 KiB is cut. */
void log_line(struct log *log, enum log_level level, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* Text of any length as it is, not filtered by level: the dumps. */
void log_text(struct log *log, const char *text, size_t len);
/* true: nothing waits in the queue. */
bool log_flushed(const struct log *log);
/* Calls `done` (once, possibly at once) when everything queued so far is out, or the reader has not taken anything for
 * one second. */
struct log_wait {
	void (*done)(struct log_wait *w);
	uint64_t upto;          /* internal; 0 = not waiting */
	struct log_wait *next;
};
void log_when_flushed(struct log *log, struct log_wait *w);
void log_wait_cancel(struct log *log, struct log_wait *w);

#endif
