/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * util-noframes.c - see util-frames.h; compiled without frame pointers.
 */
#include "client/ttalloc.h"
#include "tests/util-frames.h"

#if defined(__x86_64__)
/* ttalloc_alloc(t, 0, 0, address, 1) */
__attribute__((naked, noinline)) void noframes_alloc(struct ttalloc *t, uint64_t address, uintptr_t garbage)
{
	__asm__("push %rbp\n\tmov %rdx, %rbp\n\tmov %rsi, %rcx\n\txor %esi, %esi\n\txor %edx, %edx\n\t"
		"mov $1, %r8d\n\tcall ttalloc_alloc@PLT\n\tpop %rbp\n\tret");
}

/* ttalloc_free(t, 0, address) */
__attribute__((naked, noinline)) void noframes_free(struct ttalloc *t, uint64_t address, uintptr_t garbage)
{
	__asm__("push %rbp\n\tmov %rdx, %rbp\n\tmov %rsi, %rdx\n\txor %esi, %esi\n\tcall ttalloc_free@PLT\n\t"
		"pop %rbp\n\tret");
}
#else
void noframes_alloc(struct ttalloc *t, uint64_t address, uintptr_t garbage)
{
	ttalloc_alloc(t, 0, TTALLOC_DRAM, address, 1);
}

void noframes_free(struct ttalloc *t, uint64_t address, uintptr_t garbage)
{
	ttalloc_free(t, 0, address);
}
#endif
