/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * fuzz-analyze.c - the reader of logs against any bytes. The input is a log. Checked:
 *
 *   - what is read of a line is within its ranges, and what points into it lies in it;
 *   - the line alone, without what stands behind it in memory, reads the same;
 *   - the sums of the book are those of its buffers, and the same log twice has as many lines and events twice;
 *   - both reports are written, and JSON has no byte that it must not have.
 */
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/analyze-book.h"
#include "client/analyze-report.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define REQUIRE(condition) require(condition, #condition, __LINE__)

static void require(bool condition, const char *text, int line)
{
	if (condition)
		return;
	fprintf(stderr, "fuzz-analyze.c:%d: not true: %s\n", line, text);
	abort();
}

static bool is_inside(const char *part, size_t part_length, const char *text, size_t length)
{
	return part_length == 0 || (part >= text && part + part_length <= text + length);
}

static void check_line(const char *text, size_t length)
{
	char *exact = malloc(length ? length : 1);
	struct line line, again;

	REQUIRE(exact);
	if (length > 0)
		memcpy(exact, text, length);
	line_parse(text, length, &line);
	line_parse(exact, length, &again);
	REQUIRE(line.kind < LINE_KINDS && line.type < LINE_TYPES && line.notation <= LINE_LETTERS);
	REQUIRE(line.pid >= 0);
	REQUIRE(is_inside(line.caller, line.caller_length, text, length));
	REQUIRE(is_inside(line.tag, line.tag_length, text, length));
	REQUIRE(line.kind != LINE_UNKNOWN || (!line.has_address && line.pid == 0));
	REQUIRE((line.kind < LINE_ALLOC || line.kind > LINE_FOREIGN_FREE) || line.has_address);
	REQUIRE(line.kind == again.kind && line.address == again.address && line.size == again.size &&
		line.pid == again.pid && line.refs == again.refs && line.device == again.device &&
		line.tag_length == again.tag_length);
	free(exact);
}

struct sums {
	const struct book *book;
	uint64_t buffers;
	uint64_t allocs;
	uint64_t frees;
	uint64_t held;
};

static int add(void *arg, const struct address *a, const struct buffer *b)
{
	struct sums *s = arg;

	s->buffers++;
	s->allocs += b->allocs;
	s->frees += b->frees;
	s->held += book_is_held(s->book, b);
	REQUIRE(b->size_min <= b->size_max);
	REQUIRE(!book_is_left(s->book, b) || book_is_held(s->book, b));
	return 0;
}

static void check_sums(struct book *b)
{
	struct sums s = { .book = b };
	const struct device_counts *const *devices;
	uint64_t events = 0, allocs = 0, frees = 0;
	size_t i, n;

	book_each(b, add, &s);
	devices = book_devices(b, &n);
	REQUIRE(devices);
	for (i = 0; i < n; i++) {
		REQUIRE(i == 0 || devices[i - 1]->number < devices[i]->number);
		events += devices[i]->events;
		allocs += devices[i]->allocs;
		frees += devices[i]->frees;
	}
	REQUIRE(events + book_counts(b)->refused == book_counts(b)->events);
	REQUIRE(allocs == s.allocs && frees == s.frees);
	REQUIRE(book_counts(b)->events + book_counts(b)->unknown <= book_counts(b)->lines);
}

static void take_lines(struct book *b, const char *text, size_t size)
{
	struct place place = { .line = 0 };
	struct line line;
	const char *end;

	for (; size > 0; size -= (size_t)(end + 1 - text), text = end + 1) {
		end = memchr(text, '\n', size);
		place.line++;
		check_line(text, end ? (size_t)(end - text) : size);
		line_parse(text, end ? (size_t)(end - text) : size, &line);
		REQUIRE(book_line(b, &line, &place) == 0);
		if (!end)
			return;
	}
}

static void check_reports(struct book *b, bool timeline)
{
	static const char *const logs[] = { "a\"\\\n\xff" };
	const struct report_options options = { .top = UINT64_MAX, .all_devices = true, .timeline = timeline,
						.address = 0x40, .logs = logs, .log_count = 1 };
	char *text = NULL;
	size_t i, size = 0;
	uint64_t leaks, json_leaks;
	FILE *out = open_memstream(&text, &size);

	REQUIRE(out);
	REQUIRE(report_text(out, b, &options, &leaks) == 0);
	fclose(out);
	free(text);
	out = open_memstream(&text, &size);
	REQUIRE(out);
	REQUIRE(report_json(out, b, &options, &json_leaks) == 0);
	fclose(out);
	REQUIRE(leaks == json_leaks && size > 0);
	for (i = 0; i < size; i++)
		REQUIRE((unsigned char)text[i] >= ' ' || text[i] == '\n');
	free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const struct wanted wanted = { .any = true, .all_devices = true, .address = 0x40 };
	struct book *b = book_new(&wanted);
	struct book_counts once;

	REQUIRE(b);
	take_lines(b, (const char *)data, size);
	check_sums(b);
	check_reports(b, false);
	check_reports(b, true);
	once = *book_counts(b);
	take_lines(b, (const char *)data, size);
	check_sums(b);
	REQUIRE(book_counts(b)->lines == 2 * once.lines && book_counts(b)->events == 2 * once.events);
	book_free(b);
	return 0;
}
