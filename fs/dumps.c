/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * dumps.c - the frozen reports of dumps/; the contract is in dumps.h.
 *
 * A chain from the oldest to the newest is all the structure there is: it has DUMPS_KEPT links at most.
 */
#include "fs/dumps.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CUT_LINE_MAX 128  /* room kept for the line that says that a report was cut */

void dumps_init(struct dumps *d, uint64_t limit, struct spool_pool *pool)
{
	*d = (struct dumps){ .limit = limit, .pool = pool };
}

void dumps_deinit(struct dumps *d)
{
	dumps_clear(d);
}

struct dump *dumps_begin(struct dumps *d, const char *name, uint64_t now)
{
	struct dump *dump = calloc(1, sizeof(*dump));

	if (!dump)
		return NULL;
	dump->number = ++d->last;
	dump->made = now;
	dump->holders = 1;
	if (*name)
		snprintf(dump->name, sizeof(dump->name), "%s", name);
	else
		snprintf(dump->name, sizeof(dump->name), "%" PRIu64, dump->number);
	return dump;
}

static int append(struct dumps *d, struct dump *dump, const char *data, size_t len)
{
	uint64_t before = spool_bytes(&dump->text);
	int r = spool_append(&dump->text, d->pool, data, len);

	d->bytes += spool_bytes(&dump->text) - before;
	return r;
}

/* How many bytes the report may still grow by. */
static uint64_t room(const struct dumps *d, const struct dump *dump)
{
	uint64_t own = spool_bytes(&dump->text) - dump->text.end;
	uint64_t free_bytes = d->limit > d->bytes ? d->limit - d->bytes : 0;

	return own + free_bytes / SPOOL_BLOCK * SPOOL_BLOCK;
}

int dumps_append(struct dumps *d, struct dump *dump, const char *data, size_t len)
{
	size_t fits = len;

	while (d->oldest && room(d, dump) < len + CUT_LINE_MAX)
		dumps_remove(d, d->oldest);
	if (dump->left_out || room(d, dump) < len + CUT_LINE_MAX) {
		uint64_t left = room(d, dump);
		uint64_t most = dump->left_out || left < CUT_LINE_MAX ? 0 : left - CUT_LINE_MAX;
		const char *end = memrchr(data, '\n', most < len ? (size_t)most : len);
		fits = end ? (size_t)(end - data) + 1 : 0;
		dump->left_out += len - fits;
	}
	return append(d, dump, data, fits);
}

void dumps_finish(struct dumps *d, struct dump *dump)
{
	struct dump *same = dumps_find_name(d, dump->name);
	struct dump **link = &d->oldest;
	char line[CUT_LINE_MAX];

	if (dump->left_out) {
		int len = snprintf(line, sizeof(line), "... cut: %" PRIu64 " more bytes, in the server's log\n",
				   dump->left_out);
		append(d, dump, line, (size_t)len);
	}
	if (same)
		dumps_remove(d, same);
	while (*link)
		link = &(*link)->newer;
	*link = dump;
	dumps_hold(dump);
	d->listed++;
	d->version++;
	if (d->listed > DUMPS_KEPT)
		dumps_remove(d, d->oldest);
}

void dumps_hold(struct dump *dump)
{
	dump->holders++;
}

void dumps_release(struct dumps *d, struct dump *dump)
{
	if (!dump || --dump->holders)
		return;
	d->bytes -= spool_bytes(&dump->text);
	spool_discard(&dump->text, d->pool);
	free(dump);
}

struct dump *dumps_next(const struct dumps *d, uint64_t number)
{
	struct dump *dump = d->oldest;

	while (dump && dump->number < number)
		dump = dump->newer;
	return dump;
}

struct dump *dumps_find(const struct dumps *d, uint64_t number)
{
	struct dump *dump = dumps_next(d, number);

	return dump && dump->number == number ? dump : NULL;
}

struct dump *dumps_find_name(const struct dumps *d, const char *name)
{
	struct dump *dump = d->oldest;

	while (dump && strcmp(dump->name, name) != 0)
		dump = dump->newer;
	return dump;
}

void dumps_remove(struct dumps *d, struct dump *dump)
{
	struct dump **link = &d->oldest;

	while (*link && *link != dump)
		link = &(*link)->newer;
	if (!*link)
		return;
	*link = dump->newer;
	dump->newer = NULL;
	d->listed--;
	d->version++;
	dumps_release(d, dump);
}

void dumps_clear(struct dumps *d)
{
	while (d->oldest)
		dumps_remove(d, d->oldest);
}
