/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * leak-check.c - see leak-check.h.
 */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client/complain.h"
#include "client/escape.h"
#include "client/leak-check.h"
#include "client/output.h"
#include "client/ttalloc-cmd.h"

#define KNOWN_FILE "known.conf"

static const char common_help[] =
	"  --mount DIR            where ttallocd is mounted ($TTALLOC_MOUNT, else " MOUNT_DEFAULT ")\n"
	"  --format FORMAT        of the report: text, json or junit (text)\n"
	"  --report FILE          write the report there; - is standard output\n"
	"  --baseline FILE        leaks that are known: only what is more fails\n"
	"  --write-baseline FILE  make such a file of what leaks now, and fail because of none\n"
	"  --suppressions FILE    lines leak:PATTERN, as for LeakSanitizer: count, but do not report\n"
	"  --known FILE           more rules that say what a leak probably is\n"
	"  --fail-on-leak         exit with 23 when something leaks, with 125 when that cannot be known\n"
	"  --exit-code N          the same with another status, 1 to 255\n";

/* --- options --- */

static int take_exit_code(struct leak_options *o, const char *value)
{
	char *end;
	const long code = strtol(value, &end, 10);

	if (*value < '0' || *value > '9' || *end || code < 1 || code > 255)
		return complain_usage(o->who, "--exit-code is 1 to 255, not", value);
	o->fail = true;
	o->exit_code = (int)code;
	return 0;
}

static int take_format(struct leak_options *o, const char *value)
{
	int i;

	for (i = 0; i < LEAK_FORMATS; i++) {
		o->format = (enum leak_format)i;
		if (strcmp(value, leak_format_names[i]) == 0)
			return 0;
	}
	return complain_usage(o->who, "--format is text, json or junit, not", value);
}

static int take_option(struct leak_options *o, int c, const char *value)
{
	const char **const strings[LEAK_OPTIONS_END] = {
		[LEAK_MOUNT] = &o->mount, [LEAK_REPORT] = &o->report,
		[LEAK_BASELINE] = &o->baseline, [LEAK_WRITE_BASELINE] = &o->write_baseline,
		[LEAK_SUPPRESSIONS] = &o->suppressions, [LEAK_KNOWN] = &o->known,
	};

	if (strings[c])
		*strings[c] = value;
	o->fail |= c == LEAK_FAIL;
	if (c == LEAK_FORMAT)
		return take_format(o, value);
	return c == LEAK_EXIT_CODE ? take_exit_code(o, value) : 0;
}

static int print_help(const struct leak_options *o)
{
	printf("%s%s%s  --help\n", o->help, common_help, o->own_help);
	return 1;
}

/* Of the option that getopt_long() stumbled over: only one that it knows has a number. */
static bool takes_no_value(char *const *argv)
{
	return optopt != 0 && strncmp(argv[optind - 1], "--", 2) == 0;
}

int leak_options_parse(struct leak_options *o, int argc, char **argv, const char *letters,
		       const struct option *options)
{
	int c, r = 0;

	opterr = 0;
	while (r == 0 && (c = getopt_long(argc, argv, letters, options, NULL)) != -1) {
		if (c == LEAK_HELP)
			r = print_help(o);
		else if (c == ':')
			r = complain_usage(o->who, "no value for", cmd_option(argv));
		else if (c == '?')
			r = complain_usage(o->who, takes_no_value(argv) ? "no value goes with" : "unknown option",
					   cmd_option(argv));
		else if (c != 0)
			r = take_option(o, c, optarg);
	}
	return r;
}

int leak_no_mount(const struct leak_options *o, const char *path, int error)
{
	fprintf(stderr, "%s: no ttallocd at ", o->who);
	escape_print(stderr, path);
	fprintf(stderr, ": %s\n", strerror(-error));
	return error;
}

/* --- opening --- */

static bool is_stdout(const char *path)
{
	return strcmp(path, "-") == 0;
}

static bool is_one(const char *a, const char *b)
{
	return is_stdout(a) || is_stdout(b) ? strcmp(a, b) == 0 : output_is_same(a, b);
}

static int read_suppressions(void *arg, const char *text, struct rules_error *error)
{
	struct leak_check *c = arg;

	return suppressions_read(&c->suppressions, text, error);
}

static int read_baseline(void *arg, const char *text, struct rules_error *error)
{
	struct leak_check *c = arg;

	c->has_baseline = true;
	return baseline_read(&c->baseline, text, error);
}

static int read_known(void *arg, const char *text, struct rules_error *error)
{
	struct leak_check *c = arg;

	return known_read(&c->known, text, error);
}

/* Behind a NUL, nothing would be read. */
static bool is_text(const char *text, size_t length, struct rules_error *error)
{
	const char *nul = memchr(text, '\0', length), *at = text;

	*error = (struct rules_error){ 1, "a NUL byte: this is no text" };
	while (nul && (at = memchr(at, '\n', (size_t)(nul - at)))) {
		at++;
		error->line++;
	}
	return !nul;
}

/* -ENOENT is not complained of. */
static int read_rules(struct leak_check *c, const char *path,
		      int (*take)(void *arg, const char *text, struct rules_error *error))
{
	struct rules_error error = { 0 };
	char *text;
	size_t length;
	int r = read_whole(path, &text, &length);

	if (r < 0)
		return r == -ENOENT ? r : complain(c->options->who, path, r);
	r = is_text(text, length, &error) ? take(c, text, &error) : -EINVAL;
	free(text);
	if (r == -EINVAL)
		complain_line(c->options->who, path, error.line, error.what);
	else if (r < 0)
		complain(c->options->who, path, r);
	return r;
}

static int read_given(struct leak_check *c, const char *path,
		      int (*take)(void *arg, const char *text, struct rules_error *error))
{
	int r = path ? read_rules(c, path, take) : 0;

	return r == -ENOENT ? complain(c->options->who, path, r) : r;
}

/* The user's own, if there is one. */
static int read_own_known(struct leak_check *c)
{
	const char *config = getenv("XDG_CONFIG_HOME"), *home = getenv("HOME");
	char *path;
	int r;

	if (config && *config == '/')
		r = asprintf(&path, "%s/ttalloc/" KNOWN_FILE, config);
	else if (home && *home == '/')
		r = asprintf(&path, "%s/.config/ttalloc/" KNOWN_FILE, home);
	else
		return 0;
	if (r < 0)
		return -ENOMEM;
	/* Whoever runs as somebody else has often still the other one's HOME. */
	r = access(path, R_OK) == 0 ? read_rules(c, path, read_known) : 0;
	free(path);
	return r == -ENOENT ? 0 : r;
}

/* Ours: beside the program in a build, else where it was installed. Without it leaks have no names, which is no reason
 * to fail. */
static int read_our_known(struct leak_check *c)
{
	char path[PATH_MAX + sizeof(KNOWN_FILE)];
	const ssize_t n = readlink("/proc/self/exe", path, PATH_MAX - 1);
	char *slash;
	int r = -ENOENT;

	path[n > 0 ? n : 0] = '\0';
	slash = strrchr(path, '/');
	if (slash) {
		strcpy(slash + 1, KNOWN_FILE);
		r = read_rules(c, path, read_known);
	}
	if (r == -ENOENT)
		r = read_rules(c, TTALLOC_DATADIR "/" KNOWN_FILE, read_known);
	return r == -ENOENT ? 0 : r;
}

/* Of two names of one file, what is written last would be all that is in it. A baseline may be written anew. */
static int check_names(const struct leak_options *o)
{
	const struct {
		const char *option, *path;
	} files[] = {
		{ "--report", o->report }, { "--write-baseline", o->write_baseline }, { "--baseline", o->baseline },
		{ "--suppressions", o->suppressions }, { "--known", o->known },
	};
	const size_t count = sizeof(files) / sizeof(files[0]);
	size_t i, j;

	for (i = 0; i < 2; i++)
		for (j = i + 1; j < count; j++) {
			if (!files[i].path || !files[j].path || (i == 1 && j == 2) ||
			    !is_one(files[i].path, files[j].path))
				continue;
			fprintf(stderr, "%s: %s and %s are the same file: ", o->who, files[i].option, files[j].option);
			escape_print(stderr, files[j].path);
			fputc('\n', stderr);
			return -EINVAL;
		}
	return 0;
}

/* Before the command is run, which takes its time. */
static int check_output(const struct leak_options *o, const char *path)
{
	const int r = path && !is_stdout(path) ? output_check(path) : 0;

	return r < 0 ? complain(o->who, path, r) : 0;
}

int leak_check_open(struct leak_check *c, const struct leak_options *options)
{
	int r;

	*c = (struct leak_check){ .options = options };
	r = check_names(options);
	if (r == 0)
		r = read_given(c, options->suppressions, read_suppressions);
	if (r == 0)
		r = read_given(c, options->baseline, read_baseline);
	if (r == 0)
		r = read_given(c, options->known, read_known);
	if (r == 0)
		r = read_own_known(c);
	if (r == 0)
		r = read_our_known(c);
	if (r == 0)
		r = check_output(options, options->report);
	return r == 0 ? check_output(options, options->write_baseline) : r;
}

void leak_check_close(struct leak_check *c)
{
	suppressions_free(&c->suppressions);
	baseline_free(&c->baseline);
	known_free(&c->known);
}

/* --- reporting --- */

/* 0 or -ENOMEM. */
static int apply(struct leak_check *c, struct leak_groups *groups, const struct stacks *stacks)
{
	size_t i;
	int r;

	for (i = 0; i < groups->count; i++) {
		groups->groups[i].stack = stacks_find(stacks, groups->groups[i].first->site);
		groups->groups[i].known = known_find(&c->known, &groups->groups[i]);
	}
	r = baseline_name(groups);
	return r == 0 && c->has_baseline ? baseline_apply(&c->baseline, groups) : r;
}

/* Writes a whole file, or to standard output. 0, or -errno that was complained of. */
static int write_output(const struct leak_check *c, const char *path, void (*print)(FILE *out, const void *what),
			const void *what)
{
	char *text = NULL;
	size_t length;
	FILE *memory = open_memstream(&text, &length);
	int r = -ENOMEM;

	if (memory) {
		print(memory, what);
		r = fclose(memory) == 0 ? 0 : -ENOMEM;
	}
	if (r == 0 && !is_stdout(path))
		r = output_write(path, text, length);
	else if (r == 0 && (fwrite(text, 1, length, stdout) != length || fflush(stdout) != 0))
		r = -errno;
	free(text);
	return r < 0 ? complain(c->options->who, path, r) : 0;
}

static void print_baseline(FILE *out, const void *groups)
{
	baseline_write(out, groups);
}

/* What is in it is known from now on. */
static int write_new_baseline(struct leak_check *c, struct leak_groups *groups)
{
	struct leak_group *g;
	size_t i;

	for (i = 0; i < groups->count; i++) {
		g = &groups->groups[i];
		g->in_baseline = true;
		g->baseline = g->judged = (struct leak_sum){ g->count, g->bytes };
		g->fails = false;
	}
	return write_output(c, c->options->write_baseline, print_baseline, groups);
}

struct formatted {
	const struct leak_report *report;
	enum leak_format format;
};

static void print_report(FILE *out, const void *what)
{
	const struct formatted *f = what;

	leak_report_write(out, f->report, f->format);
}

static int write_report(struct leak_check *c, const struct leak_report *r, FILE *usual)
{
	const struct formatted f = { r, c->options->format };
	int result;

	if (!c->options->report) {
		leak_report_write(usual, r, f.format);
		return fflush(usual) == 0 ? 0 : complain(c->options->who, "cannot report", errno);
	}
	result = write_output(c, c->options->report, print_report, &f);
	if (!is_stdout(c->options->report))
		leak_report_line(stderr, r);
	return result;
}

static int report_groups(struct leak_check *c, struct leak_list *list, struct leak_groups *groups, struct leak_report *r,
			 FILE *usual)
{
	struct leak_places places = { 0 };
	int result;

	r->who = c->options->who;
	r->groups = groups;
	r->suppressions = &c->suppressions;
	r->baseline = c->has_baseline ? &c->baseline : NULL;
	result = c->options->write_baseline && !r->error ? write_new_baseline(c, groups) : 0;
	if (result < 0)
		return result;
	result = leak_report_sums(r, list, &c->known);
	if (result == 0)
		result = leak_places_make(&places, groups);
	r->places = &places;
	if (result < 0)
		complain(c->options->who, "cannot report", result);
	if (result == 0)
		result = write_report(c, r, usual);
	leak_places_free(&places);
	r->places = NULL;
	leak_report_deinit(r);
	return result < 0 ? result : c->options->fail && r->failing.count > 0;
}

int leak_check_report(struct leak_check *c, const struct mount *m, struct leak_list *list, struct leak_report *r,
		      FILE *usual)
{
	struct leak_groups groups = { 0 };
	struct stacks stacks = { 0 };
	size_t i;
	int result;

	/* Twice: what is suppressed depends on the stacks, which are found group by group. */
	result = leak_groups_make(&groups, list);
	if (result == 0)
		result = mount_stacks(m, list, &stacks);
	for (i = 0; i < list->count && result == 0; i++)
		suppressions_apply(&c->suppressions, &list->leaks[i], stacks_find(&stacks, list->leaks[i].site));
	leak_groups_free(&groups);
	if (result == 0)
		result = leak_groups_make(&groups, list);
	if (result == 0)
		result = apply(c, &groups, &stacks);
	if (result == 0)
		result = report_groups(c, list, &groups, r, usual);
	else
		complain(c->options->who, "cannot report", result);
	leak_groups_free(&groups);
	stacks_free(&stacks);
	return result;
}
