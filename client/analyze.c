/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * analyze.c - ttalloc analyze: reads logs (analyze-log.c), of which the one whose current line is the oldest is next,
 * into a book (analyze-book.c), and prints what it says (analyze-report.c).
 */
#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "client/analyze-book.h"
#include "client/analyze-log.h"
#include "client/analyze-report.h"
#include "client/escape.h"
#include "client/ttalloc-cmd.h"

#define TOP_DEFAULT 20

struct settings {
	struct report_options report;
	bool json;
	bool fail_on_leak;
};

/* The logs that are not at their end, as a heap: the one to go on with is the first. */
struct merge {
	struct book *book;
	struct log **logs;
	uint32_t count;
	int failed;                /* -errno of the last one that was complained of */
};

/* --- options --- */

static void print_help(void)
{
	printf("Usage: ttalloc analyze [OPTION]... LOG...\n"
	       "Says which buffers of a log were leaked, freed twice, or resized. LOG is a detailed log of\n"
	       "libttalloc, the mount's trace or events file, or what an existing allocation server printed;\n"
	       "- is standard input.\n\n"
	       "  --address ADDR   the events at this address instead\n"
	       "  --device N       only this device\n"
	       "  --top N          list at most N buffers of each kind and device (%d)\n"
	       "  --all            list all\n"
	       "  --json           as JSON\n"
	       "  --fail-on-leak   exit with %d when something is leaked\n"
	       "  --help\n",
	       TOP_DEFAULT, CMD_LEAKS);
}

static int bad_usage(const char *format, ...) __attribute__((format(printf, 1, 2)));

static int bad_usage(const char *format, ...)
{
	va_list args;

	fputs("ttalloc analyze: ", stderr);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputs("; see --help\n", stderr);
	return -EINVAL;
}

/* What getopt_long() did not take; `last` is where it stands. */
static int bad_option(int c, const char *last)
{
	if (c == ':')
		return bad_usage("%s needs a value", last);
	if (optopt >= 256)
		return bad_usage("%.*s takes no value", (int)strcspn(last, "="), last);
	/* Several letters behind one - : getopt_long() may still stand before them. */
	return optopt ? bad_usage("unknown option -%c", optopt) : bad_usage("unknown option %s", last);
}

static int parse_number(const char *option, const char *text, int base, uint64_t max, uint64_t *vp)
{
	char *end;

	errno = 0;
	*vp = strtoull(text, &end, base);
	if (!strchr("0123456789abcdefABCDEF", text[0]) || !text[0] || *end)
		return bad_usage("--%s: '%s' is not a number", option, text);
	if (errno == ERANGE || *vp > max)
		return bad_usage("--%s: %s is out of range", option, text);
	return 0;
}

/* As in the logs: with 0x or letters it is hex, else decimal. */
static int parse_address(const char *text, uint64_t *addressp)
{
	const bool hex = strncasecmp(text, "0x", 2) == 0 || text[strspn(text, "0123456789")];

	return parse_number("address", text, hex ? 16 : 10, UINT64_MAX, addressp);
}

static int parse_device(const char *text, int32_t *devicep)
{
	uint64_t v;
	int r;

	r = parse_number("device", text, 10, INT32_MAX, &v);
	*devicep = (int32_t)v;
	return r;
}

/* Two who read from it would each get a part. */
static int check_names(int count, char **names)
{
	int i, inputs = 0;

	for (i = 0; i < count; i++)
		inputs += strcmp(names[i], "-") == 0;
	return inputs > 1 ? bad_usage("standard input is given twice") : 0;
}

/* 0: go on; 1: done, exit successfully; -EINVAL: said why. */
static int parse_options(int argc, char **argv, struct settings *s)
{
	/* Beyond characters: what is not is a short option, and there are none. */
	enum { ADDRESS = 256, DEVICE, TOP, ALL, JSON, FAIL, HELP };
	static const struct option options[] = {
		{ "address", required_argument, NULL, ADDRESS },
		{ "device", required_argument, NULL, DEVICE },
		{ "top", required_argument, NULL, TOP },
		{ "all", no_argument, NULL, ALL },
		{ "json", no_argument, NULL, JSON },
		{ "fail-on-leak", no_argument, NULL, FAIL },
		{ "help", no_argument, NULL, HELP },
		{ 0 },
	};
	struct report_options *report = &s->report;
	int c, r = 0;

	opterr = 0;
	while (r == 0 && (c = getopt_long(argc, argv, ":", options, NULL)) != -1) {
		if (c == ADDRESS) {
			report->timeline = true;
			r = parse_address(optarg, &report->address);
		} else if (c == DEVICE) {
			report->all_devices = false;
			r = parse_device(optarg, &report->device);
		} else if (c == TOP) {
			r = parse_number("top", optarg, 10, UINT64_MAX, &report->top);
		} else if (c == ALL) {
			report->top = UINT64_MAX;
		} else if (c == JSON) {
			s->json = true;
		} else if (c == FAIL) {
			s->fail_on_leak = true;
		} else if (c == HELP) {
			print_help();
			return 1;
		} else {
			return bad_option(c, argv[optind - 1]);
		}
	}
	if (r == 0 && optind == argc)
		return bad_usage("no log is given");
	return r ? r : check_names(argc - optind, argv + optind);
}

/* --- reading --- */

static int complain(const char *what, int error)
{
	fputs("ttalloc analyze: ", stderr);
	escape_print(stderr, what);
	fprintf(stderr, ": %s\n", strerror(-error));
	return error;
}

/* Of what is equal, and of all without a time, the log that was given first goes first. */
static bool is_before(const struct log *a, const struct log *b)
{
	return a->time != b->time ? a->time < b->time : a->place.log < b->place.log;
}

static void swap(struct log **a, struct log **b)
{
	struct log *l = *a;

	*a = *b;
	*b = l;
}

static void sift_down(struct merge *m, uint32_t i)
{
	uint32_t child;

	for (; (child = 2 * i + 1) < m->count; i = child) {
		if (child + 1 < m->count && is_before(m->logs[child + 1], m->logs[child]))
			child++;
		if (!is_before(m->logs[child], m->logs[i]))
			return;
		swap(&m->logs[i], &m->logs[child]);
	}
}

static void fail(struct merge *m, const struct log *l, int error)
{
	m->failed = complain(l->name, error);
}

/* A file of something else, and a server's output in which nothing was ever allocated, would pass for no leaks. */
static void check_understood(struct merge *m, const struct log *l)
{
	if (l->understood > 0 || l->unknown == 0)
		return;
	fputs("ttalloc analyze: ", stderr);
	escape_print(stderr, l->name);
	fprintf(stderr, ": nothing in it is understood; is it a log?\n");
	m->failed = -EINVAL;
}

/* Its next line; false: there is none, and it is over. */
static bool advance(struct merge *m, struct log *l)
{
	const int r = log_next(l);

	if (r > 0)
		return true;
	if (r < 0)
		fail(m, l, r);
	else
		check_understood(m, l);
	log_close(l);
	return false;
}

static void start(struct merge *m, struct log *l, const char *name, uint32_t number)
{
	const int r = log_open(l, name, number);

	if (r == 0 && !l->packed) {
		if (advance(m, l))
			m->logs[m->count++] = l;
		return;
	}
	if (r < 0) {
		fail(m, l, r);
	} else {
		fputs("ttalloc analyze: ", stderr);
		escape_print(stderr, name);
		fprintf(stderr, ": is packed with %s; unpack it, and give - to read that from a pipe\n", l->packed);
		m->failed = -EINVAL;
	}
	log_close(l);
}

/* Return: 0, or -ENOMEM. */
static int read_lines(struct merge *m)
{
	struct log *l;
	uint32_t i;

	for (i = m->count / 2; i-- > 0;)
		sift_down(m, i);
	while (m->count > 0) {
		l = m->logs[0];
		if (book_line(m->book, &l->line, &l->place) < 0)
			return complain("cannot go on", -ENOMEM);
		if (!advance(m, l))
			m->logs[0] = m->logs[--m->count];
		sift_down(m, 0);
	}
	return 0;
}

/* All are open at the same time. */
static void allow_descriptors(uint32_t logs)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < (rlim_t)logs + 16) {
		limit.rlim_cur = limit.rlim_max;
		setrlimit(RLIMIT_NOFILE, &limit);
	}
}

/* 0, or -errno that was complained of; -ENOMEM: the book must not be used. */
static int read_logs(struct book *b, const struct report_options *report)
{
	const uint32_t count = report->log_count;
	struct log *logs = calloc(count, sizeof(*logs));
	struct merge m = { .book = b, .logs = calloc(count, sizeof(*m.logs)) };
	uint32_t i;
	int r = -ENOMEM;

	if (logs && m.logs) {
		allow_descriptors(count);
		for (i = 0; i < count; i++)
			start(&m, &logs[i], report->logs[i], i);
		r = read_lines(&m);
		for (i = 0; i < m.count; i++)
			log_close(m.logs[i]);
	}
	free(m.logs);
	free(logs);
	return r < 0 ? r : m.failed;
}

/* That nothing leaks is no news from a log that does not have everything, or nothing at all. */
static int check_gaps(const struct book_counts *c)
{
	if (c->lost > 0)
		fputs("ttalloc analyze: the log says that events are missing: there may be leaks\n", stderr);
	else if (c->events == 0)
		fputs("ttalloc analyze: there are no events in the log\n", stderr);
	return c->lost > 0 || c->events == 0 ? CMD_FAILED : CMD_OK;
}

static int analyze(struct book *b, struct settings *s)
{
	struct report_options *report = &s->report;
	uint64_t leaks = 0;
	int r, failed;

	failed = read_logs(b, report);
	if (failed == -ENOMEM)
		return CMD_FAILED;
	r = s->json ? report_json(stdout, b, report, &leaks) : report_text(stdout, b, report, &leaks);
	if (r < 0)
		complain("cannot report", r);
	if (r < 0 || failed < 0)
		return CMD_FAILED;
	if (!s->fail_on_leak)
		return CMD_OK;
	return leaks > 0 ? CMD_LEAKS : check_gaps(book_counts(b));
}

int cmd_analyze(int argc, char **argv)
{
	struct settings s = { .report = { .top = TOP_DEFAULT, .all_devices = true } };
	struct wanted wanted;
	struct book *b;
	int r;

	r = parse_options(argc, argv, &s);
	if (r != 0)
		return r == 1 ? CMD_OK : CMD_USAGE;
	s.report.logs = (const char *const *)(argv + optind);
	s.report.log_count = (uint32_t)(argc - optind);
	wanted = (struct wanted){
		.any = s.report.timeline,
		.all_devices = s.report.all_devices,
		.device = s.report.device,
		.address = s.report.address,
	};
	b = book_new(&wanted);
	r = b ? analyze(b, &s) : CMD_FAILED;
	if (!b)
		complain("cannot start", -ENOMEM);
	book_free(b);
	return r;
}
