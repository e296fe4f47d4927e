/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * complain.c - see complain.h.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "client/complain.h"
#include "client/escape.h"

void complain_of(const char *who, const char *what, const char *why)
{
	fprintf(stderr, "%s: ", who);
	escape_print(stderr, what);
	fprintf(stderr, ": %s\n", why);
}

int complain(const char *who, const char *what, int error)
{
	complain_of(who, what, strerror(error < 0 ? -error : error));
	return error < 0 ? error : -error;
}

void complain_line(const char *who, const char *path, unsigned line, const char *why)
{
	fprintf(stderr, "%s: ", who);
	escape_print(stderr, path);
	fprintf(stderr, ":%u: %s\n", line, why);
}

int complain_usage(const char *who, const char *what, const char *word)
{
	fprintf(stderr, "%s: %s ", who, what);
	escape_print(stderr, word);
	fputs("; see --help\n", stderr);
	return -EINVAL;
}
