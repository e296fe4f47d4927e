/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * stamp.c - see stamp.h.
 */
#include "tracker/stamp.h"

/* Below this the reading of the clocks, not the time between two readings, would decide the rate. */
#define BASE_MIN_NS 1000000

void stamp_init(struct stamp_scale *s, const struct stamp_anchor *now)
{
	*s = (struct stamp_scale){ .first = *now, .last = *now, .ns_per_tick = 1 };
}

void stamp_anchor(struct stamp_scale *s, const struct stamp_anchor *now)
{
	uint64_t ns = now->monotonic - s->first.monotonic;
	uint64_t ticks = now->ticks - s->first.ticks;

	if (ns >= BASE_MIN_NS && ticks)
		s->ns_per_tick = (double)ns / (double)ticks;
	s->last = *now;
}

uint64_t stamp_time(const struct stamp_scale *s, uint64_t ticks)
{
	double age;

	if (ticks >= s->last.ticks)
		return s->last.real;
	age = (double)(s->last.ticks - ticks) * s->ns_per_tick;
	return age < (double)s->last.real ? s->last.real - (uint64_t)age : 0;
}
