/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * util-frames.c - see util-frames.h; compiled with frame pointers and without tail calls.
 */
#include "client/ttalloc.h"
#include "tests/util-frames.h"

__attribute__((noinline)) void frames_alloc(struct ttalloc *t, uint64_t address, unsigned deep)
{
	if (deep == 0)
		ttalloc_alloc(t, 0, TTALLOC_DRAM, address, 1);
	else
		frames_alloc(t, address, deep - 1);
}

__attribute__((noinline)) void frames_alloc_elsewhere(struct ttalloc *t, uint64_t address)
{
	ttalloc_alloc(t, 0, TTALLOC_DRAM, address, 1);
}
