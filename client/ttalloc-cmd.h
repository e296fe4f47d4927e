/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * ttalloc-cmd.h - the subcommands of ttalloc. Each is a function like main(), and a row of the table in ttalloc-cmd.c.
 */
#ifndef CLIENT_TTALLOC_CMD_H
#define CLIENT_TTALLOC_CMD_H

#include <getopt.h>
#include <string.h>

/* What all subcommands end with. */
enum {
	CMD_OK = 0,
	CMD_USAGE = 2,
	CMD_LEAKS = 23,    /* there are leaks, and it was asked to fail then */
	CMD_FAILED = 125,  /* the subcommand itself could not do its work */
};

/* The word that getopt_long() stumbled over: of several letters behind one `-` the letter, before whose word it may still
 * stand. Valid until the next call. */
static inline const char *cmd_option(char *const *argv)
{
	static char letter[3] = "-";

	letter[1] = (char)optopt;
	return optopt && strncmp(argv[optind - 1], "--", 2) != 0 ? letter : argv[optind - 1];
}

/* argv[0] is the name of the subcommand. */
int cmd_analyze(int argc, char **argv);
int cmd_diff(int argc, char **argv);
int cmd_leaks(int argc, char **argv);
int cmd_run(int argc, char **argv);

#endif
