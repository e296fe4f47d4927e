/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * module.c - a small library, and a small program, whose functions test-resolver looks up.
 */
#include "tests/module.h"

static volatile int calls;

static __attribute__((noinline)) void module_hidden(void)
{
	calls++;
}

const int module_line = __LINE__ + 2;
void module_open(void)
{
	module_hidden();
}

void (*const module_hidden_address)(void) = module_hidden;

/* Does not say where it ends, so what comes behind it may be somebody else's. */
__asm__(".text\n"
	".globl module_endless\n"
	".type module_endless, %function\n"
	"module_endless:\n"
	"	nop\n"
	"	nop\n");
