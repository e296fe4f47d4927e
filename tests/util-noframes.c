/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * util-noframes.c - see util-frames.h; compiled without frame pointers.
 */
#include "client/ttalloc.h"
#include "tests/util-frames.h"

__attribute__((used)) static void alloc_here(struct ttalloc *t, uint64_t address)
{
	ttalloc_alloc(t, 0, TTALLOC_DRAM, address, 1);
}

#if defined(__x86_64__)
__attribute__((naked, noinline)) void noframes_alloc(struct ttalloc *t, uint64_t address, uintptr_t garbage)
{
	__asm__("push %rbp\n\tmov %rdx, %rbp\n\tcall alloc_here\n\tpop %rbp\n\tret");
}
#else
void noframes_alloc(struct ttalloc *t, uint64_t address, uintptr_t garbage)
{
	alloc_here(t, address);
}
#endif
