/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * stamp.h - from the stamps of ring records to time.
 *
 * All rings of a server count the same thing (enum ttalloc_clock), and so does the server: it relates the counter to
 * the time itself instead of believing each client's calibration. The rate is that between the first anchor and the
 * newest; the time of day is that of the newest, so that a stamp of some milliseconds ago is off by nanoseconds
 * however young the server is, and a clock that was set is followed.
 *
 * Pure: the caller reads the clocks. One plain value.
 */
#ifndef TRACKER_STAMP_H
#define TRACKER_STAMP_H

#include <stdint.h>

/* One moment, read off three clocks. */
struct stamp_anchor {
	uint64_t ticks;      /* the counter */
	uint64_t monotonic;  /* ns */
	uint64_t real;       /* ns since the epoch */
};

struct stamp_scale {
	struct stamp_anchor first;
	struct stamp_anchor last;
	double ns_per_tick;
};

void stamp_init(struct stamp_scale *s, const struct stamp_anchor *now);
void stamp_anchor(struct stamp_scale *s, const struct stamp_anchor *now);
/* Time of a stamp in ns since the epoch; never later than the last anchor. */
uint64_t stamp_time(const struct stamp_scale *s, uint64_t ticks);

#endif
