/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * leak-diff.c - see leak-diff.h.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "client/escape.h"
#include "client/leak-diff.h"

#define COMPARE(a, b) (((a) > (b)) - ((a) < (b)))
#define SAME_US 2000000
#define DUMP_ROUNDS 52  /* bytes: half a tenth of a KB */

static const char *const type_names[] = { "dram", "l1", "system_memory", "l1_small", "trace", "cb", "kernel" };

/* --- dumps --- */

struct dump {
	int64_t made;              /* s since the epoch */
	uint32_t device;
	const char *type;          /* NULL: not yet */
};

/* "REMAINING ALLOCATED BUFFERS  2026-11-20 10:15:04  ttalloc 0.1.0" */
static int take_title(struct dump *d, const char *line)
{
	struct tm t = { 0 };

	if (sscanf(line, "REMAINING ALLOCATED BUFFERS %d-%d-%d %d:%d:%d", &t.tm_year, &t.tm_mon, &t.tm_mday, &t.tm_hour,
		   &t.tm_min, &t.tm_sec) != 6)
		return -EPROTO;
	t.tm_year -= 1900;
	t.tm_mon -= 1;
	d->made = timegm(&t);
	return 0;
}

static bool take_heading(struct dump *d, const char *line)
{
	char name[32];
	uint32_t device;
	size_t i;

	if (sscanf(line, "Device %" SCNu32 ":", &device) == 1) {
		d->device = device;
		d->type = NULL;
		return true;
	}
	if (sscanf(line, "  %31[A-Z0-9_]:", name) != 1)
		return false;
	for (i = 0; i < sizeof(type_names) / sizeof(type_names[0]); i++)
		if (strcasecmp(name, type_names[i]) == 0)
			d->type = type_names[i];
	return true;
}

/* "    - Buffer 0x000040000000: 12.0 KB (PID 12345 python3, ref_count=1)  allocated 61.2 s ago" */
static int take_buffer(const struct dump *d, struct leak_list *list, const char *line)
{
	struct leak l = { .device = d->device, .type = d->type, .site = LEAK_NO_SITE, .tag = "-", .comm = "-" };
	char unit[3], pid[16], comm[200];
	double size, age = 0;
	const char *at;
	int r;

	if (sscanf(line, "    - Buffer %" SCNx64 ": %lf %2[KB] (PID %15s %199[^ ,]", &l.address, &size, unit, pid,
		   comm) != 5 || !d->type || size < 0 || size > 1e18)
		return 0;
	at = strstr(line, "  allocated ");
	if (at && sscanf(at, "  allocated %lf s ago", &age) == 1 && age >= 0 && age < (double)d->made)
		l.time_us = (uint64_t)d->made * 1000000 - (uint64_t)(age * 1e6);
	l.size = (uint64_t)(strcmp(unit, "B") == 0 ? size : size * 1024 + 0.5);
	l.pid = (int32_t)strtol(pid, NULL, 10);
	l.row = strdup(comm);
	if (!l.row)
		return -ENOMEM;
	escape_undo(l.row);
	l.comm = l.row;
	r = leak_list_add(list, &l);
	if (r < 0)
		free(l.row);
	return r;
}

int leak_dump_read(struct leak_list *list, const char *text)
{
	const size_t before = list->count;
	struct dump d = { 0 };
	uint64_t total = UINT64_MAX;
	size_t length;
	char *line;
	int r;

	text += strspn(text, "\n");
	r = take_title(&d, text);
	for (; *text && r == 0 && total == UINT64_MAX; text += length + (text[length] == '\n')) {
		length = strcspn(text, "\n");
		line = strndup(text, length);
		if (!line)
			return -ENOMEM;
		if (sscanf(line, "Total remaining buffers: %" SCNu64, &total) != 1 && !take_heading(&d, line))
			r = take_buffer(&d, list, line);
		free(line);
	}
	return r == 0 && total != list->count - before ? -ENODATA : r;
}

/* --- which are the same --- */

static int type_number(const char *type)
{
	int i = 0;

	while (i < (int)(sizeof(type_names) / sizeof(type_names[0])) && strcmp(type, type_names[i]) != 0)
		i++;
	return i;
}

static int compare_place(const struct leak *a, const struct leak *b)
{
	int r = COMPARE(a->device, b->device);

	if (r == 0)
		r = COMPARE(type_number(a->type), type_number(b->type));
	if (r == 0)
		r = COMPARE(a->address, b->address);
	return r ? r : COMPARE(a->pid, b->pid);
}

static int compare_buffers(const void *left, const void *right)
{
	const struct leak *a = left, *b = right;
	int r = compare_place(a, b);

	if (r == 0)
		r = COMPARE(a->time_us, b->time_us);
	return r ? r : COMPARE(a->seq, b->seq);
}

/* As compare_buffers(), but 0 for the same buffer of two lists. */
static int compare_sides(const struct leak *a, const struct leak *b)
{
	const uint64_t apart = a->time_us > b->time_us ? a->time_us - b->time_us : b->time_us - a->time_us;
	int r = compare_place(a, b);

	if (r)
		return r;
	if (a->seq && b->seq)
		return a->seq == b->seq ? 0 : compare_buffers(a, b);
	return apart <= SAME_US ? 0 : compare_buffers(a, b);
}

/* --- rows --- */

struct rows {
	struct diff_row *list;
	size_t count;
};

/* What a row is of: an order of leaks, and the name of those that are equal in it. */
struct kind {
	int (*compare)(const void *left, const void *right);  /* of rows */
	char *(*key)(const struct leak *leak);
};

static int compare_devices(const void *left, const void *right)
{
	const struct diff_row *a = left, *b = right;
	int r = COMPARE(a->leak->device, b->leak->device);

	return r ? r : COMPARE(type_number(a->leak->type), type_number(b->leak->type));
}

static char *device_key(const struct leak *leak)
{
	char *key;

	return asprintf(&key, "device%" PRIu32 "/%s", leak->device, leak->type) < 0 ? NULL : key;
}

static int compare_groups(const void *left, const void *right)
{
	const struct diff_row *a = left, *b = right;

	return leak_compare_groups(a->leak, b->leak);
}

static const struct kind device_kind = { compare_devices, device_key };
static const struct kind group_kind = { compare_groups, leak_key };

static void sum_add(struct leak_sum *sum, const struct leak_sum *more)
{
	sum->count += more->count;
	if (__builtin_add_overflow(sum->bytes, more->bytes, &sum->bytes))
		sum->bytes = UINT64_MAX;
}

static void row_add(struct diff_row *row, const struct diff_row *more)
{
	sum_add(&row->before, &more->before);
	sum_add(&row->after, &more->after);
	sum_add(&row->came, &more->came);
	sum_add(&row->went, &more->went);
	row->resized += more->resized;
}

/* Whether the sizes differ by more than what a dump leaves out. */
static bool is_resized(const struct leak *a, const struct leak *b)
{
	const uint64_t apart = a->size > b->size ? a->size - b->size : b->size - a->size;

	return apart > (a->seq && b->seq ? 0 : DUMP_ROUNDS);
}

/* One row of each leak that is in one list only, or moved to another group, and one for each pair. */
static void rows_add(struct rows *rows, const struct kind *kind, const struct leak *before, const struct leak *after)
{
	const struct diff_row other = { .leak = before };
	struct diff_row row = { .leak = after ? after : before };

	if (before && after && kind->compare(&row, &other) != 0) {
		rows_add(rows, kind, before, NULL);
		before = NULL;
	}
	if (before)
		row.before = (struct leak_sum){ 1, before->size };
	if (after)
		row.after = (struct leak_sum){ 1, after->size };
	if (!before)
		row.came = row.after;
	if (!after)
		row.went = row.before;
	row.resized = before && after && is_resized(before, after);
	rows->list[rows->count++] = row;
}

static int compare_growth(const void *left, const void *right)
{
	const struct diff_row *a = left, *b = right;
	/* Sizes are far below 2^63 each; a sum that is not has been cut. */
	const double grown_a = (double)a->after.bytes - (double)a->before.bytes;
	const double grown_b = (double)b->after.bytes - (double)b->before.bytes;
	int r = COMPARE(grown_b, grown_a);

	if (r == 0)
		r = COMPARE(b->after.count + a->before.count, a->after.count + b->before.count);
	return r ? r : strcmp(a->key, b->key);
}

/* Rows of the same become one. */
static void rows_fold(struct rows *rows, const struct kind *kind)
{
	size_t i, n = 0;

	if (rows->count > 0)
		qsort(rows->list, rows->count, sizeof(struct diff_row), kind->compare);
	for (i = 0; i < rows->count; i++) {
		if (n > 0 && kind->compare(&rows->list[n - 1], &rows->list[i]) == 0)
			row_add(&rows->list[n - 1], &rows->list[i]);
		else
			rows->list[n++] = rows->list[i];
	}
	rows->count = n;
}

static int rows_make(struct rows *rows, const struct kind *kind, const struct leak_list *before,
		     const struct leak_list *after)
{
	const struct leak *a = before->leaks, *b = after->leaks, *a_end, *b_end;
	int r;

	*rows = (struct rows){ .list = calloc(before->count + after->count + 1, sizeof(struct diff_row)) };
	if (!rows->list)
		return -ENOMEM;
	a_end = before->count ? a + before->count : a;
	b_end = after->count ? b + after->count : b;
	while (a < a_end || b < b_end) {
		r = a == a_end ? 1 : b == b_end ? -1 : compare_sides(a, b);
		rows_add(rows, kind, r <= 0 ? a : NULL, r >= 0 ? b : NULL);
		a += r <= 0;
		b += r >= 0;
	}
	rows_fold(rows, kind);
	return 0;
}

/* 0 or -ENOMEM. */
static int rows_name(struct rows *rows, const struct kind *kind)
{
	size_t i;

	for (i = 0; i < rows->count; i++) {
		rows->list[i].key = kind->key(rows->list[i].leak);
		if (!rows->list[i].key)
			return -ENOMEM;
	}
	return 0;
}

static bool is_unchanged(const struct diff_row *row)
{
	return row->came.count == 0 && row->went.count == 0 && row->resized == 0;
}

static void drop_unchanged(struct rows *rows)
{
	size_t i, n = 0;

	for (i = 0; i < rows->count; i++)
		if (!is_unchanged(&rows->list[i]))
			rows->list[n++] = rows->list[i];
	rows->count = n;
}

static void rows_free(struct diff_row *rows, size_t count)
{
	size_t i;

	for (i = 0; i < count; i++)
		free(rows[i].key);
	free(rows);
}

static void put_in_order(struct leak_list *list, bool with_sites)
{
	size_t i;

	for (i = 0; i < list->count && !with_sites; i++) {
		list->leaks[i].site = LEAK_NO_SITE;
		list->leaks[i].tag = "-";
	}
	if (list->count > 0)
		qsort(list->leaks, list->count, sizeof(struct leak), compare_buffers);
}

int diff_make(struct diff *d, struct leak_list *before, struct leak_list *after, bool with_sites)
{
	struct rows devices = { 0 }, groups = { 0 };
	size_t i;
	int r;

	*d = (struct diff){ 0 };
	put_in_order(before, with_sites);
	put_in_order(after, with_sites);
	r = rows_make(&devices, &device_kind, before, after);
	if (r == 0)
		r = rows_make(&groups, &group_kind, before, after);
	drop_unchanged(&groups);
	if (r == 0)
		r = rows_name(&devices, &device_kind);
	if (r == 0)
		r = rows_name(&groups, &group_kind);
	if (r == 0 && groups.count > 0)
		qsort(groups.list, groups.count, sizeof(struct diff_row), compare_growth);
	for (i = 0; i < devices.count; i++)
		row_add(&d->total, &devices.list[i]);
	d->devices = devices.list;
	d->device_count = devices.count;
	d->groups = groups.list;
	d->group_count = groups.count;
	if (r < 0)
		diff_free(d);
	return r;
}

void diff_free(struct diff *d)
{
	rows_free(d->devices, d->device_count);
	rows_free(d->groups, d->group_count);
	*d = (struct diff){ 0 };
}
