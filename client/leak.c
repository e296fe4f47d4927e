/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * leak.c - see leak.h.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/escape.h"
#include "client/leak.h"

#define COMPARE(a, b) (((a) > (b)) - ((a) < (b)))
#define FIELDS_MAX 32

/* --- rows --- */

enum column { REASON, DEVICE, TYPE, ADDRESS, SIZE, PID, TIME, SEQ, SITE, TAG, COMM, COLUMNS };

static const char *const column_names[COLUMNS] = {
	[REASON] = "reason", [DEVICE] = "device", [TYPE] = "type", [ADDRESS] = "address", [SIZE] = "size",
	[PID] = "pid", [TIME] = "time", [SEQ] = "seq", [SITE] = "site", [TAG] = "tag", [COMM] = "comm",
};

/* Where in a row each column is, -1: not there. */
struct header {
	int place[COLUMNS];
};

/* Splits at blanks, in place. */
static int split(char *row, char *field[FIELDS_MAX])
{
	char *rest = NULL, *word;
	int n = 0;

	for (word = strtok_r(row, " ", &rest); word && n < FIELDS_MAX; word = strtok_r(NULL, " ", &rest))
		field[n++] = word;
	return n;
}

static int header_read(struct header *h, const char *line)
{
	char *field[FIELDS_MAX], *copy = strdup(line);
	int i, j, n;

	if (!copy)
		return -ENOMEM;
	n = split(copy, field);
	for (i = 0; i < COLUMNS; i++) {
		h->place[i] = -1;
		for (j = 1; j < n; j++)
			if (strcmp(field[j], column_names[i]) == 0)
				h->place[i] = j - 1;
	}
	n = n > 0 && strcmp(field[0], "#") == 0 ? 0 : -EPROTO;
	free(copy);
	for (i = DEVICE; i < COLUMNS && n == 0; i++)
		if (h->place[i] < 0)
			n = -EPROTO;
	return n;
}

static int number(const char *text, int base, uint64_t *vp)
{
	char *end;

	errno = 0;
	*vp = strtoull(text, &end, base);
	return *text < '0' || *text > '9' || *end || errno ? -EPROTO : 0;
}

/* "seconds.microseconds" */
static int time_of(const char *text, uint64_t *vp)
{
	uint64_t seconds, rest;
	char *end;

	seconds = strtoull(text, &end, 10);
	if (*text < '0' || *text > '9' || *end != '.' || number(end + 1, 10, &rest) < 0)
		return -EPROTO;
	*vp = seconds * 1000000 + rest;
	return 0;
}

static int numbers_read(struct leak *l, char *const field[COLUMNS])
{
	uint64_t device, pid = 0;

	if (number(field[DEVICE], 10, &device) < 0 || number(field[SIZE], 10, &l->size) < 0 ||
	    number(field[SEQ], 10, &l->seq) < 0 || number(field[ADDRESS], 16, &l->address) < 0 ||
	    time_of(field[TIME], &l->time_us) < 0)
		return -EPROTO;
	/* A process that the server does not see has no number. */
	if (strcmp(field[PID], "-") != 0 && number(field[PID], 10, &pid) < 0)
		return -EPROTO;
	if (device > UINT32_MAX || pid > INT32_MAX)
		return -EPROTO;
	l->device = (uint32_t)device;
	l->pid = (int32_t)pid;
	return 0;
}

/* The row is the leak's from then on, also when it is not understood. */
static int row_read(const struct header *h, char *row, struct leak *l)
{
	char *all[FIELDS_MAX], *field[COLUMNS];
	const int n = split(row, all);
	int i;

	*l = (struct leak){ .row = row };
	for (i = 0; i < COLUMNS; i++) {
		if (h->place[i] >= n)
			return -EPROTO;
		field[i] = h->place[i] < 0 ? NULL : all[h->place[i]];
	}
	escape_undo(field[TAG]);
	escape_undo(field[COMM]);
	l->reason = field[REASON];
	l->type = field[TYPE];
	l->site = field[SITE];
	l->tag = field[TAG];
	l->comm = field[COMM];
	return numbers_read(l, field);
}

int leak_list_add(struct leak_list *list, const struct leak *leak)
{
	const size_t room = list->room ? list->room * 2 : 64;
	struct leak *leaks;

	if (list->count == list->room) {
		leaks = realloc(list->leaks, room * sizeof(*leaks));
		if (!leaks)
			return -ENOMEM;
		list->leaks = leaks;
		list->room = room;
	}
	list->leaks[list->count++] = *leak;
	return 0;
}

int leak_list_read(struct leak_list *list, const char *text)
{
	struct header h;
	struct leak leak;
	size_t length = strcspn(text, "\n");
	char *line = strndup(text, length);
	int r = line ? header_read(&h, line) : -ENOMEM;

	free(line);
	for (text += length; r == 0 && *text; text += length) {
		length = strcspn(++text, "\n");
		if (length == 0)
			continue;
		line = strndup(text, length);
		r = line ? row_read(&h, line, &leak) : -ENOMEM;
		if (r == 0)
			r = leak_list_add(list, &leak);
		if (r < 0)
			free(line);
	}
	return r;
}

void leak_list_free(struct leak_list *list)
{
	size_t i;

	for (i = 0; i < list->count; i++)
		free(list->leaks[i].row);
	free(list->leaks);
	*list = (struct leak_list){ 0 };
}

/* --- stacks --- */

static int frame_read(struct stack *stack, const char *line, size_t length)
{
	struct frame *frames, *f;
	char *copy = strndup(line, length), *field[FIELDS_MAX];

	frames = copy ? realloc(stack->frames, (stack->count + 1) * sizeof(*frames)) : NULL;
	if (frames)
		stack->frames = frames;
	if (frames && split(copy, field) == 3) {
		f = &frames[stack->count++];
		/* The first field is where the copy begins, so that this is what is freed. */
		memmove(copy, field[0], length + 1 - (size_t)(field[0] - copy));
		f->offset = copy;
		f->function = field[1] - (field[0] - copy);
		f->module = field[2] - (field[0] - copy);
		escape_undo(f->function);
		escape_undo(f->module);
		return 0;
	}
	free(copy);
	return frames ? 0 : -ENOMEM;
}

int stack_read(struct stack *stack, const char *text)
{
	size_t length;
	int r = 0;

	*stack = (struct stack){ 0 };
	for (; *text && r == 0; text += length + (text[length] == '\n')) {
		length = strcspn(text, "\n");
		if (text[0] == ' ')
			r = frame_read(stack, text, length);
	}
	return r;
}

void stack_free(struct stack *stack)
{
	size_t i;

	for (i = 0; i < stack->count; i++)
		free(stack->frames[i].offset);
	free(stack->frames);
	*stack = (struct stack){ 0 };
}

/* --- groups --- */

/* The power of two at or below. */
static uint64_t class_of(uint64_t size)
{
	return size ? UINT64_C(1) << (63 - __builtin_clzll(size)) : 0;
}

static bool has_site(const struct leak *l)
{
	return strcmp(l->site, LEAK_NO_SITE) != 0;
}

static char *make_key(const struct leak *leak, bool with_tag)
{
	const uint64_t class = class_of(leak->size);
	char *key = NULL;
	size_t size;
	FILE *out = open_memstream(&key, &size);

	if (!out)
		return NULL;
	if (has_site(leak))
		fprintf(out, "%s/%s", leak->site, leak->type);
	else
		fprintf(out, "device%" PRIu32 "/%s/%" PRIu64 "..%" PRIu64, leak->device, leak->type, class,
			class ? class - 1 + class : 0);
	if (with_tag) {
		fputc('/', out);
		escape_word(out, leak->tag);
	}
	if (fclose(out) == 0)
		return key;
	free(key);
	return NULL;
}

char *leak_key(const struct leak *leak)
{
	return make_key(leak, true);
}

static int compare_class(const struct leak *a, const struct leak *b)
{
	if (a->device != b->device)
		return COMPARE(a->device, b->device);
	return COMPARE(class_of(b->size), class_of(a->size));
}

int leak_compare_groups(const struct leak *a, const struct leak *b)
{
	int r = strcmp(a->site, b->site);

	if (r == 0)
		r = strcmp(a->type, b->type);
	if (r == 0)
		r = strcmp(a->tag, b->tag);
	return r == 0 && !has_site(a) ? compare_class(a, b) : r;
}

static int compare_leaks(const void *left, const void *right)
{
	const struct leak *a = left, *b = right;
	int r = leak_compare_groups(a, b);

	if (r == 0)
		r = COMPARE(b->size, a->size);
	return r ? r : COMPARE(a->seq, b->seq);
}

static int compare_groups(const void *left, const void *right)
{
	const struct leak_group *a = left, *b = right;
	int r = COMPARE(b->bytes, a->bytes);

	return r ? r : strcmp(a->key, b->key);
}

static void values_add(struct leak_values *v, const char *value)
{
	unsigned i = 0;

	while (i < v->count && strcmp(v->value[i], value) != 0)
		i++;
	if (i == LEAK_VALUES) {
		v->more = true;
		return;
	}
	if (i == v->count)
		v->value[v->count++] = value;
	v->times[i]++;
}

static void group_add(struct leak_group *g, const struct leak *l)
{
	if (g->count == 0) {
		*g = (struct leak_group){ .first = l, .size_min = l->size, .device_min = l->device, .fails = true };
		g->device_max = l->device;
	}
	g->count++;
	if (__builtin_add_overflow(g->bytes, l->size, &g->bytes))
		g->bytes = UINT64_MAX;
	g->size_min = l->size < g->size_min ? l->size : g->size_min;
	g->size_max = l->size > g->size_max ? l->size : g->size_max;
	g->device_min = l->device < g->device_min ? l->device : g->device_min;
	g->device_max = l->device > g->device_max ? l->device : g->device_max;
	if (l->reason)
		values_add(&g->reasons, l->reason);
	values_add(&g->comms, l->comm);
}

static int compare_pids(const void *left, const void *right)
{
	const int32_t *a = left, *b = right;

	return COMPARE(*a, *b);
}

/* How many processes the leaks of a group are from. -ENOMEM. */
static int count_pids(const struct leak *leaks, size_t n, uint32_t *distinctp)
{
	int32_t *pids = malloc((n + 1) * sizeof(*pids));
	uint32_t distinct = 0;
	size_t i, count = 0;

	for (i = 0; pids && i < n; i++)
		if (!leaks[i].suppressed)
			pids[count++] = leaks[i].pid;
	if (!pids)
		return -ENOMEM;
	if (count > 0)
		qsort(pids, count, sizeof(*pids), compare_pids);
	for (i = 0; i < count; i++)
		distinct += i == 0 || pids[i] != pids[i - 1];
	free(pids);
	*distinctp = distinct;
	return 0;
}

int leak_group_make(struct leak_group *g, const struct leak *leaks, size_t n, bool with_tag)
{
	size_t i;

	*g = (struct leak_group){ 0 };
	for (i = 0; i < n; i++)
		if (!leaks[i].suppressed)
			group_add(g, &leaks[i]);
	if (g->count == 0)
		return 0;
	g->list_count = (size_t)(leaks + n - g->first);
	g->key = make_key(g->first, with_tag);
	return g->key ? count_pids(leaks, n, &g->pids) : -ENOMEM;
}

/* 0 or -ENOMEM. */
static int groups_fill(struct leak_groups *groups, const struct leak_list *list)
{
	struct leak_group *g;
	size_t i, end;
	int r;

	for (i = 0; i < list->count; i = end) {
		g = &groups->groups[groups->count];
		for (end = i; end < list->count && leak_compare_groups(&list->leaks[i], &list->leaks[end]) == 0; end++)
			;
		r = leak_group_make(g, list->leaks + i, end - i, true);
		groups->count += g->count > 0;
		if (r < 0)
			return r;
	}
	return 0;
}

/* Of a list in order. */
static size_t count_groups(const struct leak_list *list)
{
	size_t i, n = 0;

	for (i = 0; i < list->count; i++)
		n += i == 0 || leak_compare_groups(&list->leaks[i - 1], &list->leaks[i]) != 0;
	return n;
}

int leak_groups_make(struct leak_groups *groups, struct leak_list *list)
{
	int r;

	if (list->count > 0)
		qsort(list->leaks, list->count, sizeof(struct leak), compare_leaks);
	*groups = (struct leak_groups){ .groups = calloc(count_groups(list) + 1, sizeof(struct leak_group)) };
	r = groups->groups ? groups_fill(groups, list) : -ENOMEM;
	if (r < 0)
		leak_groups_free(groups);
	else if (groups->count > 0)
		qsort(groups->groups, groups->count, sizeof(struct leak_group), compare_groups);
	return r;
}

void leak_groups_free(struct leak_groups *groups)
{
	size_t i;

	for (i = 0; i < groups->count; i++) {
		free(groups->groups[i].key);
		free(groups->groups[i].names);
	}
	free(groups->groups);
	*groups = (struct leak_groups){ 0 };
}

/* --- patterns --- */

/* Whether the text begins with the pattern, `*` included, and, if `to_end`, is no longer than that. One place to go back
 * to is enough, and keeps it from taking exponential time. */
static bool matches_here(const char *p, size_t length, const char *text, bool to_end)
{
	const char *end = p + length, *star = NULL, *again = NULL;

	for (;;) {
		if (p == end && (!to_end || !*text))
			return true;
		if (p < end && *p == '*') {
			star = ++p;
			again = text;
		} else if (p < end && *text && *p == *text) {
			p++;
			text++;
		} else if (star && *again) {
			p = star;
			text = ++again;
		} else {
			return false;
		}
	}
}

bool leak_pattern_matches(const char *pattern, const char *text)
{
	size_t length = strlen(pattern);
	const bool to_end = length > 0 && pattern[length - 1] == '$';
	const bool from_front = *pattern == '^';

	if (length == 0)
		return false;
	pattern += from_front;
	length -= (size_t)from_front + (to_end && length > (size_t)from_front);
	if (from_front)
		return matches_here(pattern, length, text, to_end);
	for (; !matches_here(pattern, length, text, to_end); text++)
		if (!*text)
			return false;
	return true;
}
