/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * module-through.h - a library for test-client-ring to have in a call stack.
 */
#ifndef TESTS_MODULE_THROUGH_H
#define TESTS_MODULE_THROUGH_H

void module_through(void (*function)(void *), void *data);

#endif
