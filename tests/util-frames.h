/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * util-frames.h - callers of libttalloc with stacks that are known: with frame pointers, and with none.
 *
 * Compiled apart from the tests, each file with its own flags (tests/meson.build).
 */
#ifndef TESTS_UTIL_FRAMES_H
#define TESTS_UTIL_FRAMES_H

#include <stdint.h>

struct ttalloc;

/* ttalloc_alloc() of size 1 at the address, `deep` calls of frames_alloc() below the caller; with frame pointers. */
void frames_alloc(struct ttalloc *t, uint64_t address, unsigned deep);
/* The same from another call site. */
void frames_alloc_elsewhere(struct ttalloc *t, uint64_t address);
/* ttalloc_alloc(), ttalloc_free() from a function without a frame pointer, in which the register for it holds
 * `garbage`. */
void noframes_alloc(struct ttalloc *t, uint64_t address, uintptr_t garbage);
void noframes_free(struct ttalloc *t, uint64_t address, uintptr_t garbage);

#endif
