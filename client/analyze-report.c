/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * analyze-report.c - see analyze-report.h.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "client/analyze-book.h"
#include "client/analyze-report.h"
#include "client/escape.h"

/* --- what there is to say about buffers --- */

static const struct finding {
	const char *title;
	const char *key;           /* in JSON */
	enum fault fault;          /* counted, and the place is that of the last one; unless */
	bool is_leak;              /* measured in bytes, and the place is that of the allocation */
} findings[] = {
	{ .title = "Leaked", .key = "leaked", .is_leak = true },
	{ "Double-freed", "double_freed", FAULT_DOUBLE_FREE, false },
	{ "Freed without a known allocation", "unknown_freed", FAULT_UNKNOWN_FREE, false },
	{ "Freed by another process", "foreign_freed", FAULT_FOREIGN_FREE, false },
	{ "Resized while held", "resized", FAULT_RESIZE, false },
	{ "Address used again for another size", "reused", FAULT_REUSE, false },
};
#define FINDINGS (sizeof(findings) / sizeof(findings[0]))

/* A buffer that a finding lists. */
struct found {
	const struct address *address;
	const struct buffer *buffer;
	uint64_t amount;
	int32_t device;
};

struct list {
	struct found *found;
	size_t count;
	size_t room;
	uint64_t amount;           /* the sum, of a part */
};

/* The lists of all findings, each in the order of devices. */
struct lists {
	const struct book *book;
	const struct report_options *options;
	struct list of[FINDINGS];
};

static int list_add(struct list *l, const struct found *f)
{
	struct found *found;
	size_t room;

	if (l->count == l->room) {
		room = l->room ? l->room * 2 : 64;
		found = realloc(l->found, room * sizeof(*found));
		if (!found)
			return -ENOMEM;
		l->found = found;
		l->room = room;
	}
	l->found[l->count++] = *f;
	return 0;
}

static int collect(void *arg, const struct address *a, const struct buffer *buffer)
{
	struct lists *lists = arg;
	struct found f = { .address = a, .buffer = buffer, .device = a->device };
	const struct finding *finding;
	size_t i;
	int r = 0;

	if (!lists->options->all_devices && a->device != lists->options->device)
		return 0;
	for (i = 0; i < FINDINGS && r == 0; i++) {
		finding = &findings[i];
		if (!(finding->is_leak ? book_is_held(lists->book, buffer) : book_faults(buffer, finding->fault) > 0))
			continue;
		f.amount = finding->is_leak ? buffer->size : book_faults(buffer, finding->fault);
		r = list_add(&lists->of[i], &f);
	}
	return r;
}

/* Where it went wrong, which for a leak is its allocation. */
static struct place place_of(const struct finding *f, const struct found *found)
{
	return f->is_leak ? found->buffer->allocated : book_fault_place(found->buffer, f->fault);
}

#define COMPARE(a, b) (((a) > (b)) - ((a) < (b)))

static int compare_places(const struct place *a, const struct place *b)
{
	const int r = COMPARE(a->log, b->log);

	return r ? r : COMPARE(a->line, b->line);
}

/* What is equal else: for the same order each time. */
static int compare_equals(const struct found *a, const struct found *b, const struct finding *f)
{
	const struct place left = place_of(f, a), right = place_of(f, b);
	int r = COMPARE(a->address->value, b->address->value);

	if (r == 0)
		r = compare_places(&a->buffer->allocated, &b->buffer->allocated);
	if (r == 0)
		r = compare_places(&left, &right);
	if (r == 0)
		r = COMPARE(a->buffer->owner.pid, b->buffer->owner.pid);
	return r ? r : COMPARE(a->buffer->owner.type, b->buffer->owner.type);
}

/* By device, then the largest first. */
static int compare(const void *left, const void *right, void *finding)
{
	const struct found *a = left, *b = right;
	int r = COMPARE(a->device, b->device);

	if (r == 0)
		r = COMPARE(b->amount, a->amount);
	return r ? r : compare_equals(a, b, finding);
}

static void lists_free(struct lists *lists)
{
	size_t i;

	for (i = 0; i < FINDINGS; i++)
		free(lists->of[i].found);
}

static int lists_make(struct lists *lists, const struct book *b, const struct report_options *options)
{
	size_t i;
	int r;

	*lists = (struct lists){ .book = b, .options = options };
	r = book_each(b, collect, lists);
	for (i = 0; i < FINDINGS && r == 0; i++)
		if (lists->of[i].count > 0)
			qsort_r(lists->of[i].found, lists->of[i].count, sizeof(struct found), compare,
				(void *)(uintptr_t)&findings[i]);
	return r;
}

/* The first that is of this or a later device. */
static size_t first_of(const struct list *l, int32_t device)
{
	size_t low = 0, high = l->count, middle;

	while (low < high) {
		middle = low + (high - low) / 2;
		if (l->found[middle].device < device)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

/* The part of a list that is of one device. */
static struct list part_of(const struct list *l, int32_t device)
{
	size_t i = first_of(l, device);
	struct list part = { .found = l->found + i };

	for (; i < l->count && l->found[i].device == device; i++) {
		part.count++;
		if (__builtin_add_overflow(part.amount, l->found[i].amount, &part.amount))
			part.amount = UINT64_MAX;
	}
	return part;
}

static const char *caller_of(const char *origin)
{
	return origin && origin[0] ? origin : "-";
}

static const char *tag_of(const char *origin)
{
	if (origin)
		origin += strlen(origin) + 1;
	return origin && origin[0] ? origin : "-";
}

/* --- for people --- */

static void print_origin(FILE *out, const char *origin)
{
	fputc(' ', out);
	escape_print(out, caller_of(origin));
	fputc(' ', out);
	escape_print(out, tag_of(origin));
	fputc('\n', out);
}

static void print_place(FILE *out, const struct report_options *options, const struct place *place)
{
	char text[32];

	if (place->line == 0)
		strcpy(text, "-");
	else
		snprintf(text, sizeof(text), "%" PRIu64, place->line);
	if (options->log_count > 1 && place->line > 0) {
		escape_print(out, options->logs[place->log]);
		fprintf(out, ":%-6s", text);
	} else {
		fprintf(out, "%-8s", text);
	}
}

static void print_sizes(FILE *out, const struct buffer *buffer)
{
	char text[48];

	if (buffer->size_max == 0)
		strcpy(text, "-");
	else if (buffer->size_min == buffer->size_max)
		snprintf(text, sizeof(text), "%" PRIu64, buffer->size);
	else
		snprintf(text, sizeof(text), "%" PRIu64 "..%" PRIu64, buffer->size_min, buffer->size_max);
	fprintf(out, "%-22s", text);
}

static void print_pid(FILE *out, const struct book *b, const struct buffer *buffer)
{
	char text[32];

	snprintf(text, sizeof(text), "%" PRId32 "%s", buffer->pid, book_is_left(b, buffer) ? " (ended)" : "");
	fprintf(out, "%-16s", buffer->pid > 0 ? text : "-");
}

static void print_found(FILE *out, const struct lists *lists, const struct finding *f, const struct found *found)
{
	const struct buffer *buffer = found->buffer;
	const struct place place = place_of(f, found);

	if (f->is_leak)
		fprintf(out, "  %14" PRIu64 "  ", buffer->size);
	else
		fprintf(out, "  %5" PRIu64 "  ", found->amount);
	fprintf(out, "%-13s 0x%012" PRIx64 "  ", line_type_name(buffer->type), found->address->value);
	if (!f->is_leak)
		print_sizes(out, buffer);
	print_pid(out, lists->book, buffer);
	fprintf(out, "%5" PRIu32 " %6" PRIu32 " %6" PRIu32 "  ", buffer->refs, buffer->allocs, buffer->frees);
	print_place(out, lists->options, &place);
	print_origin(out, buffer->origin);
}

static void print_finding(FILE *out, const struct lists *lists, const struct finding *f, const struct list *l)
{
	size_t i;

	if (l->count == 0)
		return;
	fprintf(out, "\n%s: %zu buffer%s, %" PRIu64 " %s%s\n", f->title, l->count, l->count == 1 ? "" : "s", l->amount,
		f->is_leak ? "byte" : "time", l->amount == 1 ? "" : "s");
	fprintf(out, f->is_leak ? "  %14s  " : "  %5s  ", f->is_leak ? "bytes" : "times");
	fprintf(out, "%-13s %-14s  ", "type", "address");
	if (!f->is_leak)
		fprintf(out, "%-22s", "size");
	fprintf(out, "%-16s%5s %6s %6s  %-8s caller tag\n", "pid", "refs", "allocs", "frees", "line");
	for (i = 0; i < l->count && i < lists->options->top; i++)
		print_found(out, lists, f, &l->found[i]);
	if (i < l->count)
		fprintf(out, "  ... %zu more; --all lists them\n", l->count - i);
}

static void print_device(FILE *out, const struct lists *lists, const struct device_counts *d)
{
	struct list part;
	size_t i;

	if (d->number == LINE_NO_DEVICE)
		fputs("\nNo device said: ", out);
	else
		fprintf(out, "\nDevice %" PRId32 ": ", d->number);
	fprintf(out, "%" PRIu64 " events, %" PRIu64 " allocated, %" PRIu64 " freed, %" PRIu64 " more references\n",
		d->events, d->allocs, d->frees, d->refs);
	if (d->sum_allocs + d->sum_frees > 0)
		fprintf(out,
			"Circular buffers and kernels without an address: %" PRIu64 " allocated, %" PRIu64 " freed\n",
			d->sum_allocs, d->sum_frees);
	for (i = 0; i < FINDINGS; i++) {
		part = part_of(&lists->of[i], d->number);
		if (findings[i].is_leak && part.count == 0)
			fputs("\nLeaked: nothing\n", out);
		print_finding(out, lists, &findings[i], &part);
	}
}

static void print_counts(FILE *out, const struct report_options *options, const struct book_counts *c)
{
	fprintf(out, "%" PRIu64 " events in %" PRIu64 " lines; %" PRIu64 " lines are no events or not understood\n",
		c->events, c->lines, c->unknown);
	if (c->refused > 0) {
		fprintf(out, "Refused: %" PRIu64 " event%s with a device, size, type or class that is none; first in line ",
			c->refused, c->refused == 1 ? "" : "s");
		fprintf(out, "%" PRIu64, c->refused_at.line);
		if (options->log_count > 1) {
			fputs(" of ", out);
			escape_print(out, options->logs[c->refused_at.log]);
		}
		fputc('\n', out);
	}
	if (c->lost > 0)
		fprintf(out, "The log says that %" PRIu64 " more are missing: what follows may be wrong\n", c->lost);
}

struct timeline {
	FILE *out;
	const struct report_options *options;
	bool any;
};

static void print_time(FILE *out, int64_t time)
{
	if (time == LINE_NO_TIME)
		fprintf(out, "%-17s", "-");
	else
		fprintf(out, "%" PRId64 ".%06d", time / 1000000, (int)(time % 1000000));
}

static int print_moment(void *arg, const struct moment *m)
{
	struct timeline *t = arg;

	t->any = true;
	fputs("  ", t->out);
	print_place(t->out, t->options, &m->place);
	fputc(' ', t->out);
	print_time(t->out, m->time);
	if (m->device == LINE_NO_DEVICE)
		fprintf(t->out, " %6s", "-");
	else
		fprintf(t->out, " %6" PRId32, m->device);
	fprintf(t->out, " %-12s %-13s %14" PRIu64 " %7" PRId32 " %4" PRIu32, line_kind_name(m->kind),
		line_type_name(m->type), m->size, m->pid, m->refs);
	print_origin(t->out, m->origin);
	return 0;
}

static void print_timeline(FILE *out, const struct book *b, const struct report_options *options)
{
	struct timeline t = { .out = out, .options = options };

	fprintf(out, "\nTimeline of 0x%012" PRIx64 "\n", options->address);
	if (book_moments_dropped(b) > 0)
		fprintf(out, "  ... %" PRIu64 " older events\n", book_moments_dropped(b));
	fprintf(out, "  %-8s %-17s %6s %-12s %-13s %14s %7s %4s caller tag\n", "line", "time", "device", "kind", "type",
		"size", "pid", "refs");
	book_each_moment(b, print_moment, &t);
	if (!t.any)
		fputs("  nothing: no event has this address\n", out);
}

static bool is_reported(const struct report_options *options, const struct device_counts *d)
{
	return options->all_devices || options->device == d->number;
}

/* The devices of a book, and what is found on them. */
struct contents {
	struct lists lists;
	const struct device_counts *const *devices;
	size_t device_count;
};

static int contents_make(struct contents *c, struct book *b, const struct report_options *options, uint64_t *leaksp)
{
	int r = lists_make(&c->lists, b, options);

	c->devices = book_devices(b, &c->device_count);
	if (r == 0 && c->devices) {
		*leaksp = c->lists.of[0].count;
		return 0;
	}
	lists_free(&c->lists);
	return -ENOMEM;
}

int report_text(FILE *out, struct book *b, const struct report_options *options, uint64_t *leaksp)
{
	struct contents c;
	size_t i;

	if (contents_make(&c, b, options, leaksp) < 0)
		return -ENOMEM;
	print_counts(out, options, book_counts(b));
	for (i = 0; i < c.device_count && !options->timeline; i++)
		if (is_reported(options, c.devices[i]))
			print_device(out, &c.lists, c.devices[i]);
	if (options->timeline)
		print_timeline(out, b, options);
	lists_free(&c.lists);
	return 0;
}

/* --- JSON --- */

static void json_string_or_null(FILE *out, const char *key, const char *text)
{
	fprintf(out, ", \"%s\": ", key);
	if (strcmp(text, "-") == 0)
		fputs("null", out);
	else
		escape_json(out, text);
}

/* No buffer has size 0. */
static void json_size(FILE *out, const char *key, uint64_t size)
{
	if (size > 0)
		fprintf(out, ", \"%s\": %" PRIu64, key, size);
	else
		fprintf(out, ", \"%s\": null", key);
}

static void json_device(FILE *out, int32_t device)
{
	if (device == LINE_NO_DEVICE)
		fputs("\"device\": null", out);
	else
		fprintf(out, "\"device\": %" PRId32, device);
}

static void json_time(FILE *out, int64_t time)
{
	if (time == LINE_NO_TIME)
		fputs(", \"time\": null", out);
	else
		fprintf(out, ", \"time\": %" PRId64 ".%06d", time / 1000000, (int)(time % 1000000));
}

static void json_pid(FILE *out, int32_t pid)
{
	if (pid > 0)
		fprintf(out, ", \"pid\": %" PRId32, pid);
	else
		fputs(", \"pid\": null", out);
}

static void json_place(FILE *out, const struct report_options *options, const struct place *place)
{
	if (place->line == 0) {
		fputs(", \"log\": null, \"line\": null", out);
		return;
	}
	fputs(", \"log\": ", out);
	escape_json(out, options->logs[place->log]);
	fprintf(out, ", \"line\": %" PRIu64, place->line);
}

static void json_origin(FILE *out, const char *origin)
{
	json_string_or_null(out, "caller", caller_of(origin));
	json_string_or_null(out, "tag", tag_of(origin));
}

static void json_found(FILE *out, const struct lists *lists, const struct finding *f, const struct found *found)
{
	const struct buffer *buffer = found->buffer;
	const struct place place = place_of(f, found);

	fprintf(out, "\n        {\"address\": \"0x%012" PRIx64 "\"", found->address->value);
	json_string_or_null(out, "type", line_type_name(buffer->type));
	json_size(out, "size", buffer->size);
	json_size(out, "size_min", buffer->size_min);
	json_size(out, "size_max", buffer->size_max);
	json_pid(out, buffer->pid);
	fprintf(out, ", \"ended\": %s, \"refs\": %" PRIu32 ", \"allocs\": %" PRIu32 ", \"frees\": %" PRIu32,
		book_is_left(lists->book, buffer) ? "true" : "false", buffer->refs, buffer->allocs, buffer->frees);
	if (!f->is_leak)
		fprintf(out, ", \"times\": %" PRIu64, found->amount);
	json_time(out, buffer->time);
	json_place(out, lists->options, &place);
	json_origin(out, buffer->origin);
	fputc('}', out);
}

static void json_finding(FILE *out, const struct lists *lists, const struct finding *f, const struct list *l)
{
	size_t i;

	fprintf(out, ",\n      \"%s\": {\"count\": %zu, \"%s\": %" PRIu64 ", \"buffers\": [", f->key, l->count,
		f->is_leak ? "bytes" : "times", l->amount);
	for (i = 0; i < l->count && i < lists->options->top; i++) {
		if (i > 0)
			fputc(',', out);
		json_found(out, lists, f, &l->found[i]);
	}
	fputs("]}", out);
}

static void json_one_device(FILE *out, const struct lists *lists, const struct device_counts *d)
{
	struct list part;
	size_t i;

	fputs("\n    {", out);
	json_device(out, d->number);
	fprintf(out, ", \"events\": %" PRIu64 ", \"allocs\": %" PRIu64 ", \"frees\": %" PRIu64 ", \"refs\": %" PRIu64
		     ", \"unaddressed_allocs\": %" PRIu64 ", \"unaddressed_frees\": %" PRIu64,
		d->events, d->allocs, d->frees, d->refs, d->sum_allocs, d->sum_frees);
	for (i = 0; i < FINDINGS; i++) {
		part = part_of(&lists->of[i], d->number);
		json_finding(out, lists, &findings[i], &part);
	}
	fputs("\n    }", out);
}

static void json_devices(FILE *out, const struct contents *c)
{
	bool any = false;
	size_t i;

	fputs(",\n  \"devices\": [", out);
	for (i = 0; i < c->device_count; i++) {
		if (!is_reported(c->lists.options, c->devices[i]))
			continue;
		if (any)
			fputc(',', out);
		any = true;
		json_one_device(out, &c->lists, c->devices[i]);
	}
	fputc(']', out);
}

static int json_moment(void *arg, const struct moment *m)
{
	struct timeline *t = arg;

	fputs(t->any ? ",\n    {" : "\n    {", t->out);
	t->any = true;
	json_device(t->out, m->device);
	json_time(t->out, m->time);
	json_place(t->out, t->options, &m->place);
	json_string_or_null(t->out, "kind", line_kind_name(m->kind));
	json_string_or_null(t->out, "type", line_type_name(m->type));
	json_size(t->out, "size", m->size);
	fprintf(t->out, ", \"refs\": %" PRIu32, m->refs);
	json_pid(t->out, m->pid);
	json_origin(t->out, m->origin);
	fputc('}', t->out);
	return 0;
}

static void json_timeline(FILE *out, const struct book *b, const struct report_options *options)
{
	struct timeline t = { .out = out, .options = options };

	fprintf(out, ",\n  \"address\": \"0x%012" PRIx64 "\",\n  \"timeline_dropped\": %" PRIu64 ",\n  \"timeline\": [",
		options->address, book_moments_dropped(b));
	book_each_moment(b, json_moment, &t);
	fputc(']', out);
}

int report_json(FILE *out, struct book *b, const struct report_options *options, uint64_t *leaksp)
{
	const struct book_counts *counts = book_counts(b);
	struct contents c;
	uint32_t i;

	if (contents_make(&c, b, options, leaksp) < 0)
		return -ENOMEM;
	fputs("{\n  \"logs\": [", out);
	for (i = 0; i < options->log_count; i++) {
		if (i > 0)
			fputs(", ", out);
		escape_json(out, options->logs[i]);
	}
	fprintf(out, "],\n  \"lines\": %" PRIu64 ",\n  \"events\": %" PRIu64 ",\n  \"not_understood\": %" PRIu64
		     ",\n  \"lost\": %" PRIu64 ",\n  \"refused\": %" PRIu64,
		counts->lines, counts->events, counts->unknown, counts->lost, counts->refused);
	if (options->timeline)
		json_timeline(out, b, options);
	else
		json_devices(out, &c);
	fputs("\n}\n", out);
	lists_free(&c.lists);
	return 0;
}
