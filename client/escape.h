/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * escape.h - text of unknown origin, written so that a terminal, a JSON reader or an XML reader is not misled by it.
 *
 * What is not UTF-8 becomes U+FFFD in JSON and XML, and %XX for people.
 */
#ifndef CLIENT_ESCAPE_H
#define CLIENT_ESCAPE_H

#include <stddef.h>
#include <stdio.h>

/* For people: control characters as %XX, the rest as it is. */
void escape_print(FILE *out, const char *text);
/* As one word, like the mount: what escape_print() escapes, and blanks and `%`. */
void escape_word(FILE *out, const char *text);
/* With its quotes. */
void escape_json(FILE *out, const char *text);
/* For content and for attributes in double quotes. Control characters, which XML cannot have, become U+FFFD. */
void escape_xml(FILE *out, const char *text);
/* Undoes the mount's %XX, in place. %00 stays: it would be an end. */
void escape_undo(char *text);

#endif
