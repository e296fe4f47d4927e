/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * complain.h - what a command says on standard error, "WHO: WHAT: WHY". WHAT and words are of others (names of files
 * and commands, arguments), so a terminal is not shown what it would take for a command.
 */
#ifndef CLIENT_COMPLAIN_H
#define CLIENT_COMPLAIN_H

void complain_of(const char *who, const char *what, const char *why);
/* Why is the error, an errno, negative or not. Returns the negative one. */
int complain(const char *who, const char *what, int error);
/* "WHO: PATH:LINE: WHY" */
void complain_line(const char *who, const char *path, unsigned line, const char *why);
/* "WHO: WHAT WORD; see --help". Returns -EINVAL. */
int complain_usage(const char *who, const char *what, const char *word);

#endif
