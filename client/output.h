/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * output.h - files that are written whole or not at all: what was in one stays until all of the new content is written.
 *
 * The new content is in a file beside it for a moment. Where that cannot be, as in a directory that one may not write
 * in, or for a file that is a mountpoint, it is written in place; so is what is no regular file.
 */
#ifndef CLIENT_OUTPUT_H
#define CLIENT_OUTPUT_H

#include <stdbool.h>
#include <stddef.h>

/* Whether it could be written now. Changes and leaves nothing. 0 or -errno. */
int output_check(const char *path);
/* 0 or -errno. */
int output_write(const char *path, const char *text, size_t length);
/* Whether two paths are of one regular file, which may not be there yet. */
bool output_is_same(const char *a, const char *b);

#endif
