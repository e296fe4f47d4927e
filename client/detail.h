/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * detail.h - the detailed log: with TT_ALLOC_TRACKING_DETAILED=1 each event is one line of a file of the process.
 *
 * It is for the instances of the whole process, and is on or off from the first one on. When it is off, nobody comes
 * here: an event that can go the short way (ttalloc.c) does not ask. When it is on no event goes the short way.
 *
 * Promises:
 *  - The file is always a new one, made at the first event: no link is followed, nothing that exists is written to.
 *    A forked child makes its own at its first event. What fails is tried again when the losses have doubled.
 *  - A line is one write(2) to a file that is open for appending: lines of several threads are not mixed up.
 *  - The process is never killed (SIGXFSZ), and never waits but for the file system itself.
 *  - What could not be written is counted, and a line of kind `lost` says how much it was. Room for such lines is
 *    reserved ahead where the file system can do that, so that it can be said on a full disk.
 *  - A descriptor that the program has closed is not written to, whatever it is by then: the file stays mapped, so no
 *    other one has its number, also after it was removed.
 *  - Async-signal-safe, and so formats its numbers itself.
 *
 * The columns are those of the mount's `trace`, and then some; client/analyze-line.c reads both.
 */
#ifndef CLIENT_DETAIL_H
#define CLIENT_DETAIL_H

#include <stdbool.h>
#include <stdint.h>

struct ring_event;

/* Whether there is a log. Does not change after detail_setup(). */
extern bool detail_on __attribute__((visibility("hidden")));

/* Reads the environment, once. */
void detail_setup(void);
/* `frame` as for call sites: that of the public function, or NULL. Changes errno. */
void detail_event(const struct ring_event *e, const uintptr_t *frame);
/* In a forked child, under the descriptors' lock of uplink.h: lets go of the parent's file. */
void detail_forked(void);
/* Events of this process that are not in its log. */
uint64_t detail_lost(void);

#endif
