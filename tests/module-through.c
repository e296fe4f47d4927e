/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * module-through.c - a library for test-client-ring to have in a call stack.
 */
#include "tests/module-through.h"

static volatile int calls;

void module_through(void (*function)(void *), void *data)
{
	function(data);
	calls++;  /* its frame stays until then */
}
