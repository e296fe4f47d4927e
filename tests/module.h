/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * module.h - what module.c defines.
 */
#ifndef TESTS_MODULE_H
#define TESTS_MODULE_H

extern void (*const module_hidden_address)(void);  /* of a static function, module_hidden() */
extern const int module_line;                      /* of the brace with which module_open() begins */
void module_open(void);

#endif
