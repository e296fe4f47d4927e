/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * view-part.h - pieces that several views are made of. Private to tracker/view-*.c.
 *
 * Pure, as all views: values in, text out. What comes from outside (comm) is always written escaped, also in the
 * files that are for human eyes: a process must not be able to write control bytes on somebody's terminal. So are tags,
 * paths and the names of functions.
 */
#ifndef TRACKER_VIEW_PART_H
#define TRACKER_VIEW_PART_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tracker/site.h"
#include "tracker/textbuf.h"
#include "tracker/view.h"

#define VIEW_NS_PER_S UINT64_C(1000000000)

/* "unknown" for anything not known. */
const char *view_arch_name(uint32_t arch);
const char *view_class_name(unsigned kernel_class);

/* "died", "outlived", "growing". */
const char *view_reason_name(enum suspect_reason reason);

/* "-" for 0: a process the server cannot see. */
void view_put_pid(struct textbuf *t, int32_t pid);
void view_put_comm(struct textbuf *t, const struct process *owner);
/* How its events come in: "ring", "socket144"; "socket?" while the dialect is not known. */
void view_put_transport(struct textbuf *t, const struct process *p);
/* "-" for 0. */
void view_put_known(struct textbuf *t, uint64_t v);
/* Seconds from `then` to `now` with one decimal; "-" when `then` is not known, 0.0 when it is later. */
void view_put_age(struct textbuf *t, uint64_t now, uint64_t then);
/* "YYYY-MM-DD hh:mm:ss" in UTC. */
void view_put_utc(struct textbuf *t, uint64_t ns);
/* "KIND size=N pid=N ref=N"; a free of nothing has no size. */
void view_put_history(struct textbuf *t, const struct history_line *line);

/* 16 hex digits: so the hash of a site is written. */
void view_put_hex16(struct textbuf *t, uint64_t v);
/* The hash of the site, the text of the tag of that number; "-" for 0. */
void view_put_site(struct textbuf *t, const struct registry *reg, uint32_t site);
void view_put_tag(struct textbuf *t, const struct registry *reg, uint32_t tag);
/* "frame-pointer", "return-address"; "unknown" for anything else. */
const char *view_method_name(unsigned method);
/* NULL when it is not known (yet). */
const char *view_frame_name(const struct view *v, const struct site_frame *frame);
/* "stack METHOD FRAMES[ truncated]", and a line "  OFFSET FUNCTION MODULE" for each frame. */
void view_put_stack(const struct view *v, const struct site_info *site, struct textbuf *t);

/* Room for the answer of registry_history(), as large as the answer was; free() the array. */
struct view_history {
	struct history_summary summary;
	struct history_line *line;
	size_t n;
};
#define VIEW_HISTORY_MAX 4096  /* lines of history a record shows: several full buffer keys, yet a bounded text */
/* 0 or -ENOMEM, and then nothing is to be freed. */
int view_find_history(const struct registry *reg, unsigned device, unsigned type, uint64_t address,
		      struct view_history *out);

#endif
