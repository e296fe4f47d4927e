/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * leaks.c - ttalloc leaks: what a server suspects, for people.
 */
#include <errno.h>
#include <stdlib.h>

#include "client/complain.h"
#include "client/leak-check.h"
#include "client/ttalloc-cmd.h"

static const char who[] = "ttalloc leaks";
static const char help[] =
	"Usage: ttalloc leaks [OPTION]...\n"
	"Says what a ttallocd suspects to be leaked, grouped by call site, and what it probably is.\n\n";
static const char own_help[] =
	"  --no-scan              do not ask the server to look anew\n";

struct settings {
	struct leak_options leak;
	int no_scan;               /* for getopt_long() */
};

/* 0: go on; 1: done, exit successfully; -EINVAL: said why. */
static int parse_options(int argc, char **argv, struct settings *s)
{
	const struct option options[] = {
		LEAK_LONG_OPTIONS,
		{ "no-scan", no_argument, &s->no_scan, true },
		{ 0 },
	};
	const int r = leak_options_parse(&s->leak, argc, argv, ":", options);

	return r == 0 && optind < argc ? complain_usage(who, "unexpected", argv[optind]) : r;
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

	if (result < 0)
		return leak_no_mount(&s->leak, mount_path(s->leak.mount), result);
	r.mount = m.path;
	result = scan(s, &m, &r);
	if (result == 0)
		result = read_suspects(&m, &list);
	if (result == 0)
		result = leak_check_report(c, &m, &list, &r, stdout);
	else
		complain(who, m.path, result);
	leak_list_free(&list);
	mount_close(&m);
	return result;
}

int cmd_leaks(int argc, char **argv)
{
	struct settings s = { .leak = { .who = who, .help = help, .own_help = own_help, .exit_code = CMD_LEAKS } };
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
