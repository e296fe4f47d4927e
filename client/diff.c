/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * diff.c - ttalloc diff: what has come and gone between two dumps, tables or marks.
 */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "client/complain.h"
#include "client/escape.h"
#include "client/leak-diff.h"
#include "client/mount.h"
#include "client/ttalloc-cmd.h"

static const char who[] = "ttalloc diff";

struct settings {
	const char *mount;
	bool json;
	const char *name[2];
};

struct side {
	const char *name;
	bool is_dump;
	bool is_mark;              /* what was held then and is not any more is not in the list */
	struct leak_list list;
};

/* --- options --- */

static int print_help(void)
{
	printf("Usage: ttalloc diff [OPTION]... A [B]\n"
	       "Says what has come, gone and grown from A to B. Each is a dump, a table like allocs, or a copy of\n"
	       "one; mark:NAME, what was held at that mark and still is; or now, which B is if it is not given.\n\n"
	       "  --mount DIR   where ttallocd is mounted ($TTALLOC_MOUNT, else " MOUNT_DEFAULT ")\n"
	       "  --format F    text or json (text)\n"
	       "  --help\n");
	return 1;
}

/* 0: go on; 1: done, exit successfully; -EINVAL: said why. */
static int parse_options(int argc, char **argv, struct settings *s)
{
	enum { MOUNT = 1, FORMAT, HELP };
	static const struct option options[] = {
		{ "mount", required_argument, NULL, MOUNT },
		{ "format", required_argument, NULL, FORMAT },
		{ "help", no_argument, NULL, HELP },
		{ 0 },
	};
	int c;

	opterr = 0;
	while ((c = getopt_long(argc, argv, ":", options, NULL)) != -1) {
		if (c == HELP)
			return print_help();
		else if (c == MOUNT)
			s->mount = optarg;
		else if (c == FORMAT && (strcmp(optarg, "json") == 0 || strcmp(optarg, "text") == 0))
			s->json = *optarg == 'j';
		else if (c == FORMAT)
			return complain_usage(who, "--format is text or json, not", optarg);
		else
			return c == ':' ? complain_usage(who, "no value for", cmd_option(argv)) :
					  complain_usage(who, "unknown option", cmd_option(argv));
	}
	if (optind == argc)
		return complain_usage(who, "nothing to compare", "is given");
	if (argc - optind > 2)
		return complain_usage(who, "unexpected", argv[optind + 2]);
	s->name[0] = argv[optind];
	s->name[1] = argc - optind == 2 ? argv[optind + 1] : "now";
	return 0;
}

/* --- reading --- */

static int path_of(const struct settings *s, const char *name, char **pathp)
{
	struct stat st;
	int r;

	if (strcmp(name, "now") == 0)
		r = asprintf(pathp, "%s/allocs", mount_path(s->mount));
	else if (stat(name, &st) == 0 && S_ISDIR(st.st_mode))
		r = asprintf(pathp, "%s/allocs", name);
	else
		r = asprintf(pathp, "%s", name);
	return r < 0 ? -ENOMEM : 0;
}

/* Takes what is in a file into the list. 0, or -errno that was complained of. */
static int read_file(const char *path, bool *is_dump, struct leak_list *list)
{
	size_t length = 0;
	char *text = NULL;
	int r = read_whole(path, &text, &length);

	/* Behind a NUL, nothing would be read. */
	if (r == 0 && strlen(text) != length)
		r = -EPROTO;
	*is_dump = r == 0 && *text != '#';
	if (r == 0 && *is_dump)
		r = leak_dump_read(list, text);
	else if (r == 0)
		r = text[length - 1] == '\n' ? leak_list_read(list, text) : -ENODATA;
	if (r == -ENODATA && *is_dump)
		complain_of(who, path, "not a whole dump: it does not end with the number of its buffers");
	else if (r == -ENODATA)
		complain_of(who, path, "not a whole table: it ends in the middle of a line");
	else if (r == -EPROTO)
		complain_of(who, path, "neither a dump nor a table of buffers");
	else if (r < 0)
		complain(who, path, r);
	free(text);
	return r;
}

/* Only what is older than everything in `newer` stays. */
static void keep_older(struct leak_list *list, const struct leak_list *newer)
{
	uint64_t first = UINT64_MAX;
	size_t i, kept = 0;

	for (i = 0; i < newer->count; i++)
		if (newer->leaks[i].seq < first)
			first = newer->leaks[i].seq;
	for (i = 0; i < list->count; i++) {
		if (list->leaks[i].seq < first)
			list->leaks[kept++] = list->leaks[i];
		else
			free(list->leaks[i].row);
	}
	list->count = kept;
}

/* A mark's own table has what came since. What is held now is read first, so that all in it that came since the mark is in
 * the second one, or was freed in between. */
static int read_mark(const struct settings *s, const char *name, struct side *side)
{
	struct leak_list newer = { 0 };
	char *now = NULL, *since = NULL;
	int r = -ENOMEM;

	side->is_mark = true;
	if (asprintf(&now, "%s/allocs", mount_path(s->mount)) < 0)
		now = NULL;
	if (asprintf(&since, "%s/marks/%s/allocs", mount_path(s->mount), name) < 0)
		since = NULL;
	if (now && since)
		r = read_file(now, &side->is_dump, &side->list);
	else
		fprintf(stderr, "%s: %s\n", who, strerror(ENOMEM));
	if (r == 0)
		r = read_file(since, &side->is_dump, &newer);
	if (r == 0)
		keep_older(&side->list, &newer);
	leak_list_free(&newer);
	free(now);
	free(since);
	return r;
}

/* 0, or -errno that was complained of. */
static int read_side(const struct settings *s, const char *name, struct side *side)
{
	char *path = NULL;
	int r;

	*side = (struct side){ .name = name };
	if (strncmp(name, "mark:", 5) == 0)
		return read_mark(s, name + 5, side);
	r = path_of(s, name, &path);
	if (r == 0)
		r = read_file(path, &side->is_dump, &side->list);
	else
		complain(who, name, r);
	free(path);
	return r;
}

/* --- for people --- */

static void print_change(int width, uint64_t before, uint64_t after)
{
	const bool less = after < before;

	printf(" %*" PRIu64 " %c%-12" PRIu64, width, after, less ? '-' : '+', less ? before - after : after - before);
}

/* Up to where the numbers begin, if it is no longer than that. */
static void print_key(const char *key)
{
	const int room = 44 - (int)strlen(key);

	escape_print(stdout, key);
	printf("%*s", room > 0 ? room : 0, "");
}

static void print_row(const struct diff_row *row)
{
	print_key(row->key);
	print_change(8, row->before.count, row->after.count);
	print_change(16, row->before.bytes, row->after.bytes);
	printf("  came %" PRIu64 ", went %" PRIu64, row->came.count, row->went.count);
	if (row->resized)
		printf(", resized %" PRIu64, row->resized);
	putchar('\n');
}

static void print_where(const struct stacks *stacks, const struct leak *leak)
{
	const struct stack *stack = stacks_find(stacks, leak->site);
	size_t i;

	for (i = 0; stack && i < stack->count && i < 3; i++) {
		if (strcmp(stack->frames[i].function, "-") == 0)
			continue;
		printf("    #%zu ", i);
		escape_print(stdout, stack->frames[i].function);
		putchar('\n');
	}
}

static void print_text(const struct diff *d, const struct side side[2], const struct stacks *stacks)
{
	size_t i;

	fputs("from ", stdout);
	escape_print(stdout, side[0].name);
	fputs(" to ", stdout);
	escape_print(stdout, side[1].name);
	printf("\n\n%-44s %8s %-13s %16s\n", "device/type", "buffers", "", "bytes");
	for (i = 0; i < d->device_count; i++)
		print_row(&d->devices[i]);
	if (d->group_count > 0)
		printf("\n%-44s %8s %-13s %16s\n", "call site or class", "buffers", "", "bytes");
	for (i = 0; i < d->group_count; i++) {
		print_row(&d->groups[i]);
		print_where(stacks, d->groups[i].leak);
	}
	if (side[0].is_dump || side[1].is_dump)
		puts("\nSizes in dumps are rounded, and so are these sums.");
	if (side[0].is_mark || side[1].is_mark)
		puts("\nOf a mark only what is still held is known; marks/NAME/summary counts what was freed since.");
	printf("\n%" PRIu64 " buffer%s came, %" PRIu64 " went; %" PRIu64 " bytes came, %" PRIu64 " went\n", d->total.came.count,
	       d->total.came.count == 1 ? "" : "s", d->total.went.count, d->total.came.bytes, d->total.went.bytes);
}

/* --- JSON --- */

static void json_sum(const char *key, const struct leak_sum *sum)
{
	printf(", \"%s\": {\"count\": %" PRIu64 ", \"bytes\": %" PRIu64 "}", key, sum->count, sum->bytes);
}

static void json_row(const struct diff_row *row)
{
	fputs("{\"key\": ", stdout);
	escape_json(stdout, row->key ? row->key : "");
	json_sum("before", &row->before);
	json_sum("after", &row->after);
	json_sum("came", &row->came);
	json_sum("went", &row->went);
	printf(", \"resized\": %" PRIu64 "}", row->resized);
}

static void json_rows(const char *key, const struct diff_row *rows, size_t count)
{
	size_t i;

	printf(",\n  \"%s\": [", key);
	for (i = 0; i < count; i++) {
		fputs(i ? ",\n    " : "\n    ", stdout);
		json_row(&rows[i]);
	}
	putchar(']');
}

static void print_json(const struct diff *d, const struct side side[2])
{
	fputs("{\n  \"from\": ", stdout);
	escape_json(stdout, side[0].name);
	fputs(",\n  \"to\": ", stdout);
	escape_json(stdout, side[1].name);
	printf(",\n  \"exact\": %s", side[0].is_dump || side[1].is_dump ? "false" : "true");
	printf(",\n  \"frees_known\": %s", side[0].is_mark || side[1].is_mark ? "false" : "true");
	json_rows("devices", d->devices, d->device_count);
	json_rows("groups", d->groups, d->group_count);
	fputs(",\n  \"total\": ", stdout);
	json_row(&d->total);
	puts("\n}");
}

/* --- the whole --- */

/* Names of call sites, if the mount that has them is there. */
static void read_stacks(const struct settings *s, struct leak_list *list, struct stacks *stacks)
{
	struct leak_groups groups;
	struct mount m;

	*stacks = (struct stacks){ 0 };
	if (mount_open(&m, mount_path(s->mount)) < 0)
		return;
	/* Which puts the list in the order that stacks want. */
	if (leak_groups_make(&groups, list) == 0) {
		leak_groups_free(&groups);
		mount_stacks(&m, list, stacks);
	}
	mount_close(&m);
}

static int compare(const struct settings *s, struct side side[2])
{
	const bool with_sites = !side[0].is_dump && !side[1].is_dump;
	struct stacks stacks = { 0 };
	struct diff d;

	if (with_sites && !s->json)
		read_stacks(s, &side[1].list, &stacks);
	if (diff_make(&d, &side[0].list, &side[1].list, with_sites) < 0) {
		fprintf(stderr, "%s: %s\n", who, strerror(ENOMEM));
		stacks_free(&stacks);
		return CMD_FAILED;
	}
	if (s->json)
		print_json(&d, side);
	else
		print_text(&d, side, &stacks);
	diff_free(&d);
	stacks_free(&stacks);
	return CMD_OK;
}

int cmd_diff(int argc, char **argv)
{
	struct settings s = { 0 };
	struct side side[2] = { 0 };
	int r = parse_options(argc, argv, &s);

	if (r != 0)
		return r == 1 ? CMD_OK : CMD_USAGE;
	if (read_side(&s, s.name[0], &side[0]) == 0 && read_side(&s, s.name[1], &side[1]) == 0)
		r = compare(&s, side);
	else
		r = CMD_FAILED;
	leak_list_free(&side[0].list);
	leak_list_free(&side[1].list);
	return r;
}
