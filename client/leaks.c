/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * leaks.c - ttalloc leaks: what a server suspects, for people.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "client/leak-check.h"
#include "client/ttalloc-cmd.h"

static const char who[] = "ttalloc leaks";

struct settings {
	struct leak_options leak;
	bool no_scan;
};

static int bad_usage(const char *what, const char *word)
{
	fprintf(stderr, "%s: %s %s; see --help\n", who, what, word);
	return -EINVAL;
}

static int print_help(void)
{
	printf("Usage: ttalloc leaks [OPTION]...\n"
	       "Says what a ttallocd suspects to be leaked, grouped by call site, and what it probably is.\n\n"
	       "%s"
	       "  --no-scan              do not ask the server to look anew\n"
	       "  --help\n", leak_options_help);
	return 1;
}

/* 0: go on; 1: done, exit successfully; -EINVAL: said why. */
static int parse_options(int argc, char **argv, struct settings *s)
{
	enum { NO_SCAN = LEAK_OPTIONS_END, HELP };
	static const struct option options[] = {
		LEAK_LONG_OPTIONS,
		{ "no-scan", no_argument, NULL, NO_SCAN },
		{ "help", no_argument, NULL, HELP },
		{ 0 },
	};
	int c, r;

	opterr = 0;
	while ((c = getopt_long(argc, argv, ":", options, NULL)) != -1) {
		r = leak_option(&s->leak, c, optarg);
		if (r < 0)
			return r;
		if (r == 0)
			continue;
		if (c == HELP)
			return print_help();
		if (c != NO_SCAN)
			return c == ':' ? bad_usage("no value for", cmd_option(argv)) :
					  bad_usage("unknown option", cmd_option(argv));
		s->no_scan = true;
	}
	return optind < argc ? bad_usage("unexpected", argv[optind]) : 0;
}

/* What died is known without it. */
static int scan(const struct settings *s, const struct mount *m, struct leak_report *report)
{
	int r = s->no_scan ? 0 : mount_command(m, "scan\n");

	if (r != -EACCES && r != -EPERM)
		return r;
	leak_report_note(report, "not scanned, for which the server's user has to ask: what has outlived or grows is as "
				 "it was at the last scan");
	return 0;
}

static int read_suspects(const struct mount *m, struct leak_list *list)
{
	char *table;
	int r = mount_text(m, "suspects", &table);

	if (r < 0)
		return r;
	r = leak_list_read(list, table);
	free(table);
	return r;
}

/* As leak_check_report(). */
static int report(const struct settings *s, struct leak_check *c)
{
	struct leak_report r = { 0 };
	struct leak_list list = { 0 };
	struct mount m;
	int result = mount_open(&m, mount_path(s->leak.mount));

	if (result < 0) {
		fprintf(stderr, "%s: no ttallocd at %s: %s\n", who, mount_path(s->leak.mount), strerror(-result));
		return result;
	}
	r.mount = m.path;
	result = scan(s, &m, &r);
	if (result == 0)
		result = read_suspects(&m, &list);
	if (result == 0)
		result = leak_check_report(c, &m, &list, &r, stdout);
	else
		fprintf(stderr, "%s: cannot read %s: %s\n", who, m.path, strerror(-result));
	leak_list_free(&list);
	mount_close(&m);
	return result;
}

int cmd_leaks(int argc, char **argv)
{
	struct settings s = { .leak = { .who = who, .exit_code = CMD_LEAKS } };
	struct leak_check c;
	int r = parse_options(argc, argv, &s);

	if (r != 0)
		return r == 1 ? CMD_OK : CMD_USAGE;
	r = leak_check_open(&c, &s.leak);
	if (r == 0)
		r = report(&s, &c);
	leak_check_close(&c);
	return r < 0 ? CMD_FAILED : r ? s.leak.exit_code : CMD_OK;
}
