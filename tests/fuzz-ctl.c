/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * fuzz-ctl.c - the parser of control writes and option values against any bytes. The input is the text. Checked:
 *
 *   - places and lines of the commands are in order, inside the text, and whole lines;
 *   - commands that are printed in their plain form parse to the same commands;
 *   - every command's own line alone parses to it, and what is refused has a bounded reason of one plain line;
 *   - an option value that is accepted is in its range and parses to itself when printed;
 *   - a list of suppressions that is accepted is kept as it is, and any pattern without special characters means itself.
 */
#include "fs/ctl.h"

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tracker/suppress.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define REQUIRE(condition) require(condition, #condition, __LINE__)

static void require(bool condition, const char *text, int line)
{
	if (condition)
		return;
	fprintf(stderr, "fuzz-ctl.c:%d: not true: %s\n", line, text);
	abort();
}

static bool is_name_char(char c)
{
	return c && strchr("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-", c);
}

static void check_name(const char *name)
{
	size_t len = strlen(name);

	REQUIRE(len <= CTL_NAME_MAX);
	REQUIRE(name[0] != '.');
	for (size_t i = 0; i < len; i++)
		REQUIRE(is_name_char(name[i]));
}

static void print_command(struct textbuf *out, enum ctl_scope scope, const struct ctl_command *c)
{
	static const char *const levels[] = { "error", "warning", "info", "debug" };

	switch (c->kind) {
	case CTL_DUMP:
		check_name(c->name);
		REQUIRE(!c->name[0] || strspn(c->name, "0123456789") < strlen(c->name));
		textbuf_printf(out, "dump %s\n", c->name);
		return;
	case CTL_CLEAR:
		textbuf_puts(out, "clear\n");
		return;
	case CTL_MARK:
	case CTL_UNMARK:
		check_name(c->name);
		REQUIRE(c->name[0]);
		textbuf_printf(out, "%s %s\n", c->kind == CTL_MARK ? "mark" : "unmark", c->name);
		return;
	case CTL_SCAN:
		textbuf_puts(out, "scan\n");
		return;
	case CTL_CLEAN_DEAD:
		textbuf_puts(out, "clean dead\n");
		return;
	case CTL_CLEAN:
		textbuf_puts(out, "clean");
		REQUIRE((scope == CTL_SCOPE_PID) == (c->number == 0));
		REQUIRE(c->number <= CTL_PID_MAX);
		if (scope == CTL_SCOPE_ROOT)
			textbuf_printf(out, " %u", c->number);
		textbuf_puts(out, c->force ? " force\n" : "\n");
		return;
	case CTL_RESET:
		textbuf_puts(out, "reset\n");
		return;
	case CTL_RESET_DEVICE:
		REQUIRE(c->number < 1024);
		textbuf_printf(out, "reset device %u\n", c->number);
		return;
	case CTL_RESET_PEAKS:
		textbuf_puts(out, "reset peaks\n");
		return;
	case CTL_RESET_HISTORY:
		textbuf_puts(out, "reset history\n");
		return;
	case CTL_LOG:
		REQUIRE(c->number < 4);
		textbuf_printf(out, "log %s\n", levels[c->number]);
		return;
	case CTL_SUPPRESS:
		break;
	}
	require(false, "a kind of command", __LINE__);
}

static void require_same(const struct ctl_command *a, const struct ctl_command *b)
{
	REQUIRE(a->kind == b->kind);
	REQUIRE(a->number == b->number);
	REQUIRE(a->force == b->force);
	REQUIRE(!strcmp(a->name, b->name));
}

static void check_reason(const struct textbuf *why)
{
	REQUIRE(why->len > 0);
	REQUIRE(why->len <= CTL_REASON_MAX);
	for (size_t i = 0; i < why->len; i++)
		REQUIRE(why->data[i] >= ' ' && why->data[i] <= '~');
}

static void check_places(const char *text, size_t size, const struct ctl_command *command, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		const struct ctl_command *c = &command[i];

		REQUIRE(c->start < c->end && c->end <= size);
		REQUIRE(c->start == 0 || text[c->start - 1] == '\n');
		REQUIRE(c->end == size || text[c->end - 1] == '\n');
		REQUIRE(!i || (command[i - 1].end <= c->start && command[i - 1].line < c->line));
	}
}

static void fuzz_commands(enum ctl_scope scope, const char *text, size_t size)
{
	static struct ctl_command command[CTL_COMMANDS_MAX], again[CTL_COMMANDS_MAX];
	struct textbuf why = TEXTBUF_INIT, printed = TEXTBUF_INIT;
	size_t n, m;
	int r = ctl_parse(scope, text, size, command, CTL_COMMANDS_MAX, &n, &why);

	if (r) {
		REQUIRE(r == -EINVAL || r == -ERANGE || (r == -E2BIG && size > CTL_TEXT_MAX));
		REQUIRE(n == 0);
		check_reason(&why);
		textbuf_deinit(&why);
		return;
	}
	REQUIRE(size <= CTL_TEXT_MAX && why.len == 0);
	REQUIRE(!size || !memchr(text, '\0', size));
	check_places(text, size, command, n);
	for (size_t i = 0; i < n; i++) {
		print_command(&printed, scope, &command[i]);
		r = ctl_parse(scope, text + command[i].start, command[i].end - command[i].start, again, 1, &m, &why);
		REQUIRE(r == 0 && m == 1);
		require_same(&command[i], &again[0]);
	}
	if (printed.len <= CTL_TEXT_MAX) {
		r = ctl_parse(scope, printed.data, printed.len, again, CTL_COMMANDS_MAX, &m, &why);
		REQUIRE(r == 0 && m == n);
		for (size_t i = 0; i < n; i++) {
			require_same(&command[i], &again[i]);
			REQUIRE(again[i].line == i + 1);
		}
	}
	textbuf_deinit(&why);
	textbuf_deinit(&printed);
}

static void fuzz_option(const char *text, size_t size, uint64_t min, uint64_t max)
{
	struct textbuf why = TEXTBUF_INIT, printed = TEXTBUF_INIT;
	uint64_t value = 77, again;
	int r = option_parse(text, size, min, max, &value, &why);

	if (r) {
		REQUIRE(r == -EINVAL || r == -ERANGE || (r == -E2BIG && size > CTL_TEXT_MAX));
		REQUIRE(value == 77);
		check_reason(&why);
	} else {
		REQUIRE(value >= min && value <= max && why.len == 0);
		textbuf_u64(&printed, value);
		r = option_parse(printed.data, printed.len, value, value, &again, &why);
		REQUIRE(r == 0 && again == value);
	}
	textbuf_deinit(&why);
	textbuf_deinit(&printed);
}

static void fuzz_list(const char *text, size_t size)
{
	struct textbuf why = TEXTBUF_INIT;
	struct suppressions s = { 0 };
	int r = suppressions_parse(&s, text, size, &why);

	if (r) {
		REQUIRE(r == -EINVAL || r == -ENOSPC || (r == -E2BIG && size > SUPPRESS_TEXT_MAX));
		REQUIRE(!s.text && !s.n);
		check_reason(&why);
	} else {
		REQUIRE(why.len == 0 && s.len == size && s.n <= SUPPRESS_RULES_MAX);
		REQUIRE(!size || !memcmp(s.text, text, size));
		(void)suppressions_match(&s, text, size);
	}
	for (unsigned i = 0; i < s.n; i++) {
		const char *pattern = s.text + s.rule[i].start;
		REQUIRE(s.rule[i].len > 0 && s.rule[i].start + s.rule[i].len <= size);
		if (!memchr(pattern, '^', s.rule[i].len) && !memchr(pattern, '$', s.rule[i].len))
			REQUIRE(suppressions_match(&s, pattern, s.rule[i].len));
	}
	suppressions_free(&s);
	textbuf_deinit(&why);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *text = (const char *)data;

	fuzz_list(text, size);
	fuzz_commands(CTL_SCOPE_ROOT, text, size);
	fuzz_commands(CTL_SCOPE_PID, text, size);
	fuzz_option(text, size, 0, UINT64_MAX);
	fuzz_option(text, size, 1, 1000);
	return 0;
}
