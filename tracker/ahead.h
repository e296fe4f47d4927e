/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * ahead.h - asking the processor for memory before it is needed.
 *
 * A hint without any effect on what is computed. gcc takes that literally: it drops calls of a function in which there
 * is nothing but __builtin_prefetch(). The empty asm keeps it.
 */
#ifndef TRACKER_AHEAD_H
#define TRACKER_AHEAD_H

/* A cache line that will be read. */
static inline void ahead_read(const void *p)
{
	__builtin_prefetch(p);
	__asm__ volatile("");
}

/* One that will be written: stores wait for each other, so one that misses the cache holds up all behind it. */
static inline void ahead_write(const void *p)
{
	__builtin_prefetch(p, 1);
	__asm__ volatile("");
}

#endif
