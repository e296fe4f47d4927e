/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * ttalloc-cmd.c - ttalloc: main(), which finds the subcommand.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "client/complain.h"
#include "client/ttalloc-cmd.h"

static const struct subcommand {
	const char *name;
	int (*run)(int argc, char **argv);
	const char *help;
} subcommands[] = {
	{ "run", cmd_run, "run a command and say what device memory it leaks" },
	{ "leaks", cmd_leaks, "what a ttallocd suspects to be leaked" },
	{ "diff", cmd_diff, "what has come and gone between two dumps or marks" },
	{ "analyze", cmd_analyze, "what a log says about leaks, double frees and addresses" },
};

static void print_help(FILE *out)
{
	size_t i;

	fputs("Usage: ttalloc COMMAND [ARGUMENT]...\n\n", out);
	for (i = 0; i < sizeof(subcommands) / sizeof(subcommands[0]); i++)
		fprintf(out, "  %-10s %s\n", subcommands[i].name, subcommands[i].help);
	fputs("\n'ttalloc COMMAND --help' says more; so does ttalloc(1).\n", out);
}

static bool output_is_closed;

/* What we open must not get the number of a standard stream that was closed: it would be written into. A socket that is
 * connected to nobody takes the place: it cannot be read or written, nor opened by way of /dev/stdout. */
static void occupy_standard_streams(void)
{
	int fd;

	output_is_closed = fcntl(STDOUT_FILENO, F_GETFD) < 0 && errno == EBADF;
	for (fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
		if (fcntl(fd, F_GETFD) < 0 && errno == EBADF)
			(void)socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
}

static int finish(int status)
{
	if (fflush(stdout) == 0 && !ferror(stdout))
		return status;
	complain("ttalloc", "cannot write", output_is_closed ? EBADF : errno);
	return CMD_FAILED;
}

int main(int argc, char **argv)
{
	size_t i;

	occupy_standard_streams();
	if (argc < 2) {
		print_help(stderr);
		return CMD_USAGE;
	}
	for (i = 0; i < sizeof(subcommands) / sizeof(subcommands[0]); i++)
		if (strcmp(argv[1], subcommands[i].name) == 0)
			return finish(subcommands[i].run(argc - 1, argv + 1));
	if (strcmp(argv[1], "--help") == 0) {
		print_help(stdout);
		return finish(CMD_OK);
	}
	if (strcmp(argv[1], "--version") == 0) {
		puts("ttalloc " TTALLOC_VERSION);
		return finish(CMD_OK);
	}
	complain_usage("ttalloc", "unknown command", argv[1]);
	return CMD_USAGE;
}
