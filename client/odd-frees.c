/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * odd-frees.c - see odd-frees.h.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/odd-frees.h"

static uint64_t number_of(const char *status, const char *key)
{
	const char *at = strstr(status, key);

	return at ? strtoull(at + strlen(key), NULL, 10) : 0;
}

void odd_frees_count(struct odd_frees *o, const char *status)
{
	o->twice += number_of(status, "\ndouble_frees ");
	o->unknown += number_of(status, "\nunknown_frees ");
	o->foreign += number_of(status, "\nforeign_frees ");
}

/* The columns of a trace; more may follow. */
#define WORD 39
#define ROW "%*s %39s %39s %39s %*s %39s %*s %39s %*s %39s"

struct row {
	char seq[WORD + 1];
	char kind[WORD + 1];
	char device[WORD + 1];
	char address[WORD + 1];
	char pid[WORD + 1];
	char site[WORD + 1];
};

static bool is_double_free(const char *line, struct row *row)
{
	return sscanf(line, ROW, row->seq, row->kind, row->device, row->address, row->pid, row->site) == 6 &&
	       strcmp(row->kind, "double_free") == 0;
}

int odd_frees_take(struct odd_frees *o, const char *trace, bool (*is_meant)(void *data, const char *pid), void *data)
{
	static const char header[] = "# device type address size refs pid uid time seq site tag comm\n";
	char *table = NULL;
	size_t size;
	FILE *out = open_memstream(&table, &size);
	struct row row;
	int r = -ENOMEM;

	if (!out)
		return -ENOMEM;
	fputs(header, out);
	/* A line at a time, so that sscanf() reads no further: it looks for the end of what it is given. */
	while (*trace) {
		const size_t length = strcspn(trace, "\n");
		char line[256];

		snprintf(line, sizeof(line), "%.*s", length < sizeof(line) ? (int)length : (int)sizeof(line) - 1, trace);
		if (is_double_free(line, &row) && is_meant(data, row.pid))
			fprintf(out, "%s - %s 0 0 %s 0 0.0 %s %s - -\n", row.device, row.address, row.pid, row.seq,
				row.site);
		trace += length + (trace[length] == '\n');
	}
	if (fclose(out) == 0)
		r = leak_list_read(&o->list, table);
	free(table);
	return r;
}

static int compare_places(const void *left, const void *right)
{
	const struct leak_group *a = left, *b = right;

	if (a->count != b->count)
		return a->count < b->count ? 1 : -1;
	return strcmp(a->key, b->key);
}

int odd_frees_group(struct odd_frees *o)
{
	int r = leak_groups_make(&o->places, &o->list);

	if (r == 0 && o->places.count > 0)
		qsort(o->places.groups, o->places.count, sizeof(struct leak_group), compare_places);
	return r;
}

void odd_frees_free(struct odd_frees *o)
{
	leak_groups_free(&o->places);
	leak_list_free(&o->list);
}
