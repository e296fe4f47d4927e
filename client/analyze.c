/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * analyze.c - ttalloc analyze: reads logs line by line (analyze-line.c) into a book (analyze-book.c) and prints what it
 * says (analyze-report.c).
 *
 * Logs may be of any length and have lines of any length: of a line only so much is kept as an event can have.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client/analyze-book.h"
#include "client/analyze-report.h"
#include "client/escape.h"
#include "client/ttalloc-cmd.h"

#define TOP_DEFAULT 20
#define CHUNK (64 * 1024)
/* Longer lines are no events: the library's own are at most 1.5 KiB. */
#define LINE_MAX_BYTES 8192

struct settings {
	struct report_options report;
	bool json;
	bool fail_on_leak;
};

/* A line that is being put together from chunks. */
struct assembly {
	struct book *book;
	struct place place;        /* of the line before */
	size_t length;             /* LINE_MAX_BYTES + 1: it is too long, the rest is not kept */
	char line[LINE_MAX_BYTES + 1];
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
	return r;
}

/* --- reading --- */

static int complain(const char *what, int error)
{
	fputs("ttalloc analyze: ", stderr);
	escape_print(stderr, what);
	fprintf(stderr, ": %s\n", strerror(-error));
	return error;
}

static void keep(struct assembly *a, const char *text, size_t length)
{
	const size_t room = sizeof(a->line) - a->length;

	length = length < room ? length : room;
	memcpy(a->line + a->length, text, length);
	a->length += length;
}

static int end_line(struct assembly *a)
{
	int r;

	a->place.line++;
	r = book_line(a->book, a->length <= LINE_MAX_BYTES ? a->line : NULL, a->length, &a->place);
	a->length = 0;
	return r;
}

static int take_chunk(struct assembly *a, const char *text, size_t length)
{
	const char *end;
	int r = 0;

	while (r == 0 && (end = memchr(text, '\n', length))) {
		keep(a, text, (size_t)(end - text));
		length -= (size_t)(end + 1 - text);
		text = end + 1;
		r = end_line(a);
	}
	if (r == 0)
		keep(a, text, length);
	return r;
}

static int read_log(struct assembly *a, int fd)
{
	static char chunk[CHUNK];
	ssize_t n;
	int r = 0;

	while (r == 0) {
		n = read(fd, chunk, sizeof(chunk));
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		r = take_chunk(a, chunk, (size_t)n);
	}
	/* The last line may have no end. */
	return r == 0 && a->length > 0 ? end_line(a) : r;
}

/* 0, or -errno that was complained of. */
static int read_named(struct book *b, const char *name, uint32_t number)
{
	struct assembly a = { .book = b, .place.log = number };
	const bool is_input = strcmp(name, "-") == 0;
	int fd, r;

	fd = is_input ? STDIN_FILENO : open(name, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	if (fd < 0)
		return complain(name, -errno);
	r = read_log(&a, fd);
	if (!is_input)
		close(fd);
	return r < 0 ? complain(name, r) : 0;
}

static int analyze(struct book *b, struct settings *s)
{
	struct report_options *report = &s->report;
	uint64_t leaks = 0;
	uint32_t i;
	int r, failed = 0;

	for (i = 0; i < report->log_count; i++) {
		r = read_named(b, report->logs[i], i);
		if (r == -ENOMEM)
			return CMD_FAILED;
		if (r < 0)
			failed = r;
	}
	r = s->json ? report_json(stdout, b, report, &leaks) : report_text(stdout, b, report, &leaks);
	if (r < 0)
		complain("cannot report", r);
	if (r < 0 || failed < 0)
		return CMD_FAILED;
	return s->fail_on_leak && leaks > 0 ? CMD_LEAKS : CMD_OK;
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
