/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * leak-check.c - see leak-check.h.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client/complain.h"
#include "client/escape.h"
#include "client/leak-check.h"
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
	"  --fail-on-leak         exit with 23 when something leaks\n"
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

int leak_options_parse(struct leak_options *o, int argc, char **argv, const char *letters, const struct option *options)
{
	int c, r = 0;

	opterr = 0;
	while (r == 0 && (c = getopt_long(argc, argv, letters, options, NULL)) != -1) {
		if (c == LEAK_HELP)
			r = print_help(o);
		else if (c == ':')
			r = complain_usage(o->who, "no value for", cmd_option(argv));
		else if (c == '?')
			r = complain_usage(o->who, "unknown option", cmd_option(argv));
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

static int open_output(struct leak_check *c, const char *path, int flags, FILE **filep)
{
	int fd;

	if (!path)
		return 0;
	fd = strcmp(path, "-") == 0 ? fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3) :
				      open(path, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOCTTY | flags, 0666);
	*filep = fd < 0 ? NULL : fdopen(fd, "w");
	if (*filep)
		return 0;
	complain(c->options->who, path, -errno);
	if (fd >= 0)
		close(fd);
	return -EIO;
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
	r = read_rules(c, path, read_known);
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

int leak_check_open(struct leak_check *c, const struct leak_options *options)
{
	int r;

	*c = (struct leak_check){ .options = options };
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
		r = open_output(c, options->report, O_TRUNC, &c->report);
	/* What is in it counts until there is something new. */
	return r == 0 ? open_output(c, options->write_baseline, 0, &c->new_baseline) : r;
}

/* 0 or -errno. */
static int close_output(FILE **filep)
{
	FILE *file = *filep;
	int r;

	*filep = NULL;
	if (!file)
		return 0;
	r = ferror(file) ? -EIO : 0;
	return fclose(file) != 0 ? -errno : r;
}

void leak_check_close(struct leak_check *c)
{
	close_output(&c->report);
	close_output(&c->new_baseline);
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

static int write_new_baseline(struct leak_check *c, const struct leak_groups *groups)
{
	int r;

	if (!c->new_baseline)
		return 0;
	/* What is no file has no length to take away. */
	r = ftruncate(fileno(c->new_baseline), 0) < 0 && errno != EINVAL ? -errno : 0;
	baseline_write(c->new_baseline, groups);
	if (close_output(&c->new_baseline) < 0 || r < 0)
		return complain(c->options->who, c->options->write_baseline, r < 0 ? r : -EIO);
	return 0;
}

static int write_report(struct leak_check *c, const struct leak_report *r, FILE *usual)
{
	int result;

	if (!c->report) {
		leak_report_write(usual, r, c->options->format);
		return fflush(usual) == 0 ? 0 : complain(c->options->who, "cannot report", -errno);
	}
	leak_report_write(c->report, r, c->options->format);
	result = close_output(&c->report);
	if (strcmp(c->options->report, "-") != 0)
		leak_report_line(stderr, r);
	return result < 0 ? complain(c->options->who, c->options->report, result) : 0;
}

static int report_groups(struct leak_check *c, struct leak_list *list, struct leak_groups *groups, struct leak_report *r,
			 FILE *usual)
{
	int result;

	r->who = c->options->who;
	r->groups = groups;
	r->suppressions = &c->suppressions;
	r->baseline = c->has_baseline ? &c->baseline : NULL;
	result = leak_report_sums(r, list, &c->known);
	if (result < 0)
		complain(c->options->who, "cannot report", result);
	if (result == 0)
		result = write_new_baseline(c, groups);
	if (result == 0)
		result = write_report(c, r, usual);
	leak_report_deinit(r);
	return result < 0 ? result : c->options->fail && !c->options->write_baseline && r->failing.count > 0;
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
