/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * leak-check.h - what `ttalloc run` and `ttalloc leaks` have in common: the options about leaks, the files that they
 * name, the report, and the exit status.
 *
 * Files are read, and looked at whether they can be written, before anything else happens, so that a run is not lost
 * because of a name. They are written at the end, whole or not at all. All complaints go to standard error.
 */
#ifndef CLIENT_LEAK_CHECK_H
#define CLIENT_LEAK_CHECK_H

#include <getopt.h>
#include <stdbool.h>

#include "client/leak-report.h"
#include "client/leak-rules.h"
#include "client/leak.h"
#include "client/mount.h"

struct leak_options {
	const char *who;            /* "ttalloc run" */
	const char *help;           /* what --help prints in front of the common options, and behind them */
	const char *own_help;
	const char *mount;
	enum leak_format format;
	const char *report;
	const char *baseline;
	const char *write_baseline;
	const char *suppressions;
	const char *known;
	bool fail;
	int exit_code;
};

/* Numbers of the options for getopt_long(). A command's own are flags of it, which it sets by itself. */
enum {
	LEAK_MOUNT = 1, LEAK_FORMAT, LEAK_REPORT, LEAK_BASELINE, LEAK_WRITE_BASELINE, LEAK_SUPPRESSIONS, LEAK_KNOWN,
	LEAK_FAIL, LEAK_EXIT_CODE, LEAK_HELP, LEAK_OPTIONS_END,
};
#define LEAK_LONG_OPTIONS \
	{ "mount", required_argument, NULL, LEAK_MOUNT }, \
	{ "format", required_argument, NULL, LEAK_FORMAT }, \
	{ "report", required_argument, NULL, LEAK_REPORT }, \
	{ "baseline", required_argument, NULL, LEAK_BASELINE }, \
	{ "write-baseline", required_argument, NULL, LEAK_WRITE_BASELINE }, \
	{ "suppressions", required_argument, NULL, LEAK_SUPPRESSIONS }, \
	{ "known", required_argument, NULL, LEAK_KNOWN }, \
	{ "fail-on-leak", no_argument, NULL, LEAK_FAIL }, \
	{ "exit-code", required_argument, NULL, LEAK_EXIT_CODE }, \
	{ "help", no_argument, NULL, LEAK_HELP }

/* `letters` and `options` as for getopt_long(); the latter has LEAK_LONG_OPTIONS in it. 0: go on at argv[optind]; 1:
 * done, exit successfully; -EINVAL: said why. */
int leak_options_parse(struct leak_options *o, int argc, char **argv, const char *letters,
		       const struct option *options);
/* Says that there is no ttallocd at a path. Returns the error. */
int leak_no_mount(const struct leak_options *o, const char *path, int error);

struct leak_check {
	const struct leak_options *options;
	bool has_baseline;
	struct baseline baseline;
	struct suppressions suppressions;
	struct known known;
};

/* 0, or -errno that was complained of; leak_check_close() in any case. */
int leak_check_open(struct leak_check *c, const struct leak_options *options);
/* Applies everything to the list, and writes the report; `usual` is where it goes without --report. Of `r` the sums and
 * pointers are filled in. 0: nothing fails; 1: leaks fail; -errno that was complained of. */
int leak_check_report(struct leak_check *c, const struct mount *m, struct leak_list *list, struct leak_report *r,
		      FILE *usual);
void leak_check_close(struct leak_check *c);

#endif
