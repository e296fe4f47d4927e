/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * test-ctl.c - fs/ctl.c: commands, their errors and reasons, the list of commands, option values.
 */
#include "fs/ctl.h"

#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct parsed {
	struct ctl_command command[CTL_COMMANDS_MAX];
	size_t n;
	int r;
	char why[256];
};

static struct parsed parse_bytes(enum ctl_scope scope, const char *text, size_t len, size_t max)
{
	struct textbuf why = TEXTBUF_INIT;
	struct parsed p;
	char *exact = malloc(len + 1);  /* so that ASan sees a byte read too many */

	ck_assert_ptr_nonnull(exact);
	memcpy(exact + 1, text, len);
	memset(&p, 0x5a, sizeof(p));
	p.r = ctl_parse(scope, exact + 1, len, p.command, max, &p.n, &why);
	ck_assert_int_eq(textbuf_error(&why), 0);
	ck_assert_uint_le(why.len, CTL_REASON_MAX);
	memset(p.why, 0, sizeof(p.why));
	if (why.len)
		memcpy(p.why, why.data, why.len);
	textbuf_deinit(&why);
	free(exact);
	return p;
}

static struct parsed parse(const char *text)
{
	return parse_bytes(CTL_SCOPE_ROOT, text, strlen(text), CTL_COMMANDS_MAX);
}

static void assert_command(const struct ctl_command *c, enum ctl_kind kind, uint32_t number, bool force,
			   const char *name)
{
	ck_assert_int_eq((int)c->kind, (int)kind);
	ck_assert_uint_eq(c->number, number);
	ck_assert_int_eq(c->force, force);
	ck_assert_str_eq(c->name, name);
}

/* --- what is understood --- */

static const struct {
	const char *text;
	enum ctl_kind kind;
	uint32_t number;
	bool force;
	const char *name;
} good[] = {
	{ "dump", CTL_DUMP, 0, false, "" },
	{ "dump before", CTL_DUMP, 0, false, "before" },
	{ "dump A-z_0.9", CTL_DUMP, 0, false, "A-z_0.9" },
	{ "dump 1a", CTL_DUMP, 0, false, "1a" },
	{ "dump 1.5", CTL_DUMP, 0, false, "1.5" },
	{ "dump -", CTL_DUMP, 0, false, "-" },
	{ "dump x23456789012345678901234567890123456789012345678901234567890123", CTL_DUMP, 0, false,
	  "x23456789012345678901234567890123456789012345678901234567890123" },
	{ "dump dead", CTL_DUMP, 0, false, "dead" },
	{ "clear", CTL_CLEAR, 0, false, "" },
	{ "mark a.b", CTL_MARK, 0, false, "a.b" },
	{ "mark 12", CTL_MARK, 0, false, "12" },
	{ "unmark x23456789012345678901234567890123456789012345678901234567890123", CTL_UNMARK, 0, false,
	  "x23456789012345678901234567890123456789012345678901234567890123" },
	{ "scan", CTL_SCAN, 0, false, "" },
	{ "clean dead", CTL_CLEAN_DEAD, 0, false, "" },
	{ "clean 1", CTL_CLEAN, 1, false, "" },
	{ "clean 4711", CTL_CLEAN, 4711, false, "" },
	{ "clean 4711 force", CTL_CLEAN, 4711, true, "" },
	{ "clean 2147483647", CTL_CLEAN, 2147483647, false, "" },
	{ "clean 0000000000000000000000012", CTL_CLEAN, 12, false, "" },
	{ "reset", CTL_RESET, 0, false, "" },
	{ "reset device 0", CTL_RESET_DEVICE, 0, false, "" },
	{ "reset device 1023", CTL_RESET_DEVICE, 1023, false, "" },
	{ "reset peaks", CTL_RESET_PEAKS, 0, false, "" },
	{ "reset history", CTL_RESET_HISTORY, 0, false, "" },
	{ "log error", CTL_LOG, 0, false, "" },
	{ "log warning", CTL_LOG, 1, false, "" },
	{ "log info", CTL_LOG, 2, false, "" },
	{ "log debug", CTL_LOG, 3, false, "" },
};
#define GOOD ((int)(sizeof(good) / sizeof(good[0])))

START_TEST(each_command)
{
	/* However it is dressed: `%s` is the command, in line `line`. */
	static const struct {
		const char *before, *after;
		unsigned line;
	} dress[] = {
		{ "", "", 1 }, { "", "\n", 1 }, { "  \t", " \t \n", 1 }, { "", "\r\n", 1 }, { "", "\r", 1 },
		{ "", " # why\n", 1 }, { "", "\t#", 1 }, { "\n\n", "\n\n", 3 }, { "# a comment\n \t\n", "", 3 },
		{ "\r\n#\r\n", " \r\n", 3 }, { "#\n", "\n# dump\n", 2 },
	};

	for (size_t i = 0; i < sizeof(dress) / sizeof(dress[0]); i++) {
		char text[200];
		struct parsed p;
		size_t start, end;

		snprintf(text, sizeof(text), "%s%s%s", dress[i].before, good[_i].text, dress[i].after);
		p = parse(text);
		ck_assert_str_eq(p.why, "");
		ck_assert_int_eq(p.r, 0);
		ck_assert_uint_eq(p.n, 1);
		assert_command(&p.command[0], good[_i].kind, good[_i].number, good[_i].force, good[_i].name);
		ck_assert_uint_eq(p.command[0].line, dress[i].line);
		start = dress[i].line == 1 ? 0 : (size_t)(strrchr(dress[i].before, '\n') - dress[i].before + 1);
		end = start + strcspn(text + start, "\n");
		ck_assert_uint_eq(p.command[0].start, start);
		ck_assert_uint_eq(p.command[0].end, text[end] ? end + 1 : end);
	}
}
END_TEST

START_TEST(several_lines)
{
	struct parsed p = parse("dump a\n\n# then\nclean\t12  force\nreset device 7");

	ck_assert_int_eq(p.r, 0);
	ck_assert_uint_eq(p.n, 3);
	assert_command(&p.command[0], CTL_DUMP, 0, false, "a");
	assert_command(&p.command[1], CTL_CLEAN, 12, true, "");
	assert_command(&p.command[2], CTL_RESET_DEVICE, 7, false, "");
	ck_assert_uint_eq(p.command[0].line, 1);
	ck_assert_uint_eq(p.command[0].start, 0);
	ck_assert_uint_eq(p.command[0].end, 7);
	ck_assert_uint_eq(p.command[1].line, 4);
	ck_assert_uint_eq(p.command[1].start, 15);
	ck_assert_uint_eq(p.command[1].end, 31);
	ck_assert_uint_eq(p.command[2].line, 5);
	ck_assert_uint_eq(p.command[2].start, 31);
	ck_assert_uint_eq(p.command[2].end, 45);
}
END_TEST

START_TEST(nothing_to_do)
{
	static const char *const texts[] = { "", "\n", "\r\n", " \t \n\n", "#", "# dump", "  # dump\n\t#reset\n" };

	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		struct parsed p = parse(texts[i]);

		ck_assert_int_eq(p.r, 0);
		ck_assert_uint_eq(p.n, 0);
		ck_assert_str_eq(p.why, "");
	}
}
END_TEST

START_TEST(process_scope)
{
	struct parsed p = parse_bytes(CTL_SCOPE_PID, "clean\nclean force\n", 18, 10);

	ck_assert_int_eq(p.r, 0);
	ck_assert_uint_eq(p.n, 2);
	assert_command(&p.command[0], CTL_CLEAN, 0, false, "");
	assert_command(&p.command[1], CTL_CLEAN, 0, true, "");
	p = parse_bytes(CTL_SCOPE_PID, "clean 12", 8, 10);
	ck_assert_int_eq(p.r, -EINVAL);
	ck_assert_str_eq(p.why, "line 1: clean: '12' is not understood here");
	p = parse_bytes(CTL_SCOPE_PID, "clean force force", 17, 10);
	ck_assert_int_eq(p.r, -EINVAL);
	ck_assert_str_eq(p.why, "line 1: clean [force]: 'force' is not understood here");
	p = parse_bytes(CTL_SCOPE_PID, "dump", 4, 10);
	ck_assert_int_eq(p.r, -EINVAL);
	ck_assert_str_eq(p.why, "line 1: unknown command 'dump'");
}
END_TEST

/* --- what is not --- */

#define NOT_A_NAME "is not a name (1 to 63 of A-Z a-z 0-9 . _ -, no leading dot, not a number)"

static const struct {
	const char *text;
	int r;
	const char *why;
} bad[] = {
	{ "foo", -EINVAL, "line 1: unknown command 'foo'" },
	{ "dum", -EINVAL, "line 1: unknown command 'dum'" },
	{ "dumpp", -EINVAL, "line 1: unknown command 'dumpp'" },
	{ "Dump", -EINVAL, "line 1: unknown command 'Dump'" },
	{ "dump\\n", -EINVAL, "line 1: unknown command 'dump\\n'" },
	{ "clear all", -EINVAL, "line 1: clear: 'all' is not understood here" },
	{ "force", -EINVAL, "line 1: unknown command 'force'" },
	{ "1", -EINVAL, "line 1: unknown command '1'" },
	{ "dump;reset", -EINVAL, "line 1: unknown command 'dump;reset'" },
	{ "dump#", -EINVAL, "line 1: unknown command 'dump#'" },
	{ "scan\vscan", -EINVAL, "line 1: unknown command 'scan%0Bscan'" },
	{ "scan\rscan", -EINVAL, "line 1: unknown command 'scan%0Dscan'" },
	{ "scan\r\r", -EINVAL, "line 1: unknown command 'scan%0D'" },
	{ "\033[2Jx", -EINVAL, "line 1: unknown command '%1B[2Jx'" },
	{ "100%\177\303\244", -EINVAL, "line 1: unknown command '100%25%7F%C3%A4'" },
	{ "abcdefghijabcdefghijabcdefghijabcdefghij", -EINVAL,
	  "line 1: unknown command 'abcdefghijabcdefghijabcdefghijabcdefghij'" },
	{ "abcdefghijabcdefghijabcdefghijabcdefghijk", -EINVAL,
	  "line 1: unknown command 'abcdefghijabcdefghijabcdefghijabcdefghij...'" },
	{ "abcdefghijabcdefghijabcdefghijabcdefg\177", -EINVAL,
	  "line 1: unknown command 'abcdefghijabcdefghijabcdefghijabcdefg%7F'" },
	{ "abcdefghijabcdefghijabcdefghijabcdefgh\177", -EINVAL,
	  "line 1: unknown command 'abcdefghijabcdefghijabcdefghijabcdefgh...'" },
	{ "dump 12", -EINVAL, "line 1: dump: '12' " NOT_A_NAME },
	{ "dump .a", -EINVAL, "line 1: dump: '.a' " NOT_A_NAME },
	{ "dump ..", -EINVAL, "line 1: dump: '..' " NOT_A_NAME },
	{ "dump a/b", -EINVAL, "line 1: dump: 'a/b' " NOT_A_NAME },
	{ "dump a\\", -EINVAL, "line 1: dump: 'a\\' " NOT_A_NAME },
	{ "dump x234567890123456789012345678901234567890123456789012345678901234", -EINVAL,
	  "line 1: dump: 'x234567890123456789012345678901234567890...' " NOT_A_NAME },
	{ "mark", -EINVAL, "line 1: mark: a word is missing" },
	{ "mark a b", -EINVAL, "line 1: mark <name>: 'b' is not understood here" },
	{ "mark .a", -EINVAL, "line 1: mark: '.a' is not a name (1 to 63 of A-Z a-z 0-9 . _ -, no leading dot)" },
	{ "mark a/b", -EINVAL, "line 1: mark: 'a/b' is not a name (1 to 63 of A-Z a-z 0-9 . _ -, no leading dot)" },
	{ "unmark x234567890123456789012345678901234567890123456789012345678901234", -EINVAL,
	  "line 1: unmark: 'x234567890123456789012345678901234567890...' is not a name "
	  "(1 to 63 of A-Z a-z 0-9 . _ -, no leading dot)" },
	{ "dump a b", -EINVAL, "line 1: dump [name]: 'b' is not understood here" },
	{ "scan now", -EINVAL, "line 1: scan: 'now' is not understood here" },
	{ "clean", -EINVAL, "line 1: clean: a word is missing" },
	{ "clean # dead", -EINVAL, "line 1: clean: a word is missing" },
	{ "clean foo", -EINVAL, "line 1: clean: 'foo' is not a number" },
	{ "clean Dead", -EINVAL, "line 1: clean: 'Dead' is not a number" },
	{ "clean force", -EINVAL, "line 1: clean: 'force' is not a number" },
	{ "clean 12x", -EINVAL, "line 1: clean: '12x' is not a number" },
	{ "clean 0x12", -EINVAL, "line 1: clean: '0x12' is not a number" },
	{ "clean +12", -EINVAL, "line 1: clean: '+12' is not a number" },
	{ "clean -", -EINVAL, "line 1: clean: '-' is not a number" },
	{ "clean --1", -EINVAL, "line 1: clean: '--1' is not a number" },
	{ "clean 1.0", -EINVAL, "line 1: clean: '1.0' is not a number" },
	{ "clean 99999999999999999999x", -EINVAL, "line 1: clean: '99999999999999999999x' is not a number" },
	{ "clean 0", -ERANGE, "line 1: clean: '0' is not in 1..2147483647" },
	{ "clean -1", -ERANGE, "line 1: clean: '-1' is not in 1..2147483647" },
	{ "clean 2147483648", -ERANGE, "line 1: clean: '2147483648' is not in 1..2147483647" },
	{ "clean 4294967297", -ERANGE, "line 1: clean: '4294967297' is not in 1..2147483647" },
	{ "clean 18446744073709551617", -ERANGE, "line 1: clean: '18446744073709551617' is not in 1..2147483647" },
	{ "clean 12 forc", -EINVAL, "line 1: clean <pid>: 'forc' is not understood here" },
	{ "clean 12 force force", -EINVAL, "line 1: clean <pid> [force]: 'force' is not understood here" },
	{ "clean dead force", -EINVAL, "line 1: clean dead: 'force' is not understood here" },
	{ "clean 12 13", -EINVAL, "line 1: clean <pid>: '13' is not understood here" },
	{ "reset foo", -EINVAL, "line 1: reset: 'foo' is not understood here" },
	{ "reset device", -EINVAL, "line 1: reset device: a word is missing" },
	{ "reset device x", -EINVAL, "line 1: reset device: 'x' is not a number" },
	{ "reset device 1024", -ERANGE, "line 1: reset device: '1024' is not in 0..1023" },
	{ "reset device -1", -ERANGE, "line 1: reset device: '-1' is not in 0..1023" },
	{ "reset device -0", -ERANGE, "line 1: reset device: '-0' is not in 0..1023" },
	{ "reset device 1 2", -EINVAL, "line 1: reset device <n>: '2' is not understood here" },
	{ "reset peaks now", -EINVAL, "line 1: reset peaks: 'now' is not understood here" },
	{ "reset history peaks", -EINVAL, "line 1: reset history: 'peaks' is not understood here" },
	{ "log", -EINVAL, "line 1: log: a word is missing" },
	{ "log 3", -EINVAL, "line 1: log: '3' is not one of error|warning|info|debug" },
	{ "log warn", -EINVAL, "line 1: log: 'warn' is not one of error|warning|info|debug" },
	{ "log error|warning|info|debug", -EINVAL,
	  "line 1: log: 'error|warning|info|debug' is not one of error|warning|info|debug" },
	{ "log info debug", -EINVAL, "line 1: log error|warning|info|debug: 'debug' is not understood here" },
};
#define BAD ((int)(sizeof(bad) / sizeof(bad[0])))

START_TEST(each_error)
{
	struct parsed p = parse(bad[_i].text);
	char text[200], want[200];

	ck_assert_str_eq(p.why, bad[_i].why);
	ck_assert_int_eq(p.r, bad[_i].r);
	ck_assert_uint_eq(p.n, 0);

	/* Between good lines it spoils all of them, and is found in its line. */
	snprintf(text, sizeof(text), "scan\n# x\n%s\nreset\n", bad[_i].text);
	snprintf(want, sizeof(want), "line 3%s", bad[_i].why + strlen("line 1"));
	p = parse(text);
	ck_assert_str_eq(p.why, want);
	ck_assert_int_eq(p.r, bad[_i].r);
	ck_assert_uint_eq(p.n, 0);
}
END_TEST

START_TEST(first_error_wins)
{
	struct parsed p = parse("scan\nclean 0\nfoo\n");

	ck_assert_int_eq(p.r, -ERANGE);
	ck_assert_str_eq(p.why, "line 2: clean: '0' is not in 1..2147483647");
}
END_TEST

START_TEST(nul_bytes)
{
	static const struct {
		const char *text;
		size_t len;
		const char *why;
	} rows[] = {
		{ "\0", 1, "line 1: a NUL byte" },
		{ "dump\0", 5, "line 1: a NUL byte" },
		{ "dump\n\0", 6, "line 2: a NUL byte" },
		{ "# \0\n", 4, "line 1: a NUL byte" },
		{ "scan\nsc\0an\n", 11, "line 2: a NUL byte" },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct parsed p = parse_bytes(CTL_SCOPE_ROOT, rows[i].text, rows[i].len, 10);

		ck_assert_int_eq(p.r, -EINVAL);
		ck_assert_str_eq(p.why, rows[i].why);
		ck_assert_uint_eq(p.n, 0);
	}
}
END_TEST

START_TEST(as_much_as_fits)
{
	char text[CTL_TEXT_MAX + 1];
	struct parsed p;

	memset(text, ' ', sizeof(text));
	memcpy(text, "scan", 4);
	p = parse_bytes(CTL_SCOPE_ROOT, text, CTL_TEXT_MAX, 1);
	ck_assert_int_eq(p.r, 0);
	ck_assert_uint_eq(p.n, 1);
	ck_assert_uint_eq(p.command[0].end, CTL_TEXT_MAX);
	p = parse_bytes(CTL_SCOPE_ROOT, text, CTL_TEXT_MAX + 1, 1);
	ck_assert_int_eq(p.r, -E2BIG);
	ck_assert_str_eq(p.why, "more than 4096 bytes in one write");
	ck_assert_uint_eq(p.n, 0);

	/* Too long counts before anything that is wrong in it. */
	memset(text, 'x', sizeof(text));
	p = parse_bytes(CTL_SCOPE_ROOT, text, CTL_TEXT_MAX + 1, 1);
	ck_assert_int_eq(p.r, -E2BIG);
	p = parse_bytes(CTL_SCOPE_ROOT, text, CTL_TEXT_MAX, 1);
	ck_assert_int_eq(p.r, -EINVAL);
	ck_assert_str_eq(p.why, "line 1: unknown command 'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx...'");
}
END_TEST

START_TEST(most_commands)
{
	char text[CTL_TEXT_MAX];
	struct parsed p;

	ck_assert_uint_eq(CTL_COMMANDS_MAX, 819);
	for (size_t i = 0; i < sizeof(text); i++)
		text[i] = "scan\n"[i % 5];
	text[sizeof(text) - 1] = '\n';
	p = parse_bytes(CTL_SCOPE_ROOT, text, sizeof(text), CTL_COMMANDS_MAX);
	ck_assert_int_eq(p.r, 0);
	ck_assert_uint_eq(p.n, 819);
	ck_assert_uint_eq(p.command[818].line, 819);
	ck_assert_uint_eq(p.command[818].start, 4090);
	ck_assert_uint_eq(p.command[818].end, 4095);
	p = parse_bytes(CTL_SCOPE_ROOT, text, sizeof(text), 818);
	ck_assert_int_eq(p.r, -E2BIG);
	ck_assert_str_eq(p.why, "line 819: more than 818 commands");
	ck_assert_uint_eq(p.n, 0);
}
END_TEST

START_TEST(reason_is_appended)
{
	struct textbuf why = TEXTBUF_INIT;
	struct ctl_command command;
	size_t n;

	textbuf_puts(&why, "ctl: ");
	ck_assert_int_eq(ctl_parse(CTL_SCOPE_ROOT, "scan", 4, &command, 1, &n, &why), 0);
	ck_assert_uint_eq(why.len, 5);
	ck_assert_int_eq(ctl_parse(CTL_SCOPE_ROOT, "", 0, NULL, 0, &n, &why), 0);
	ck_assert_int_eq(ctl_parse(CTL_SCOPE_ROOT, NULL, 0, NULL, 0, &n, &why), 0);
	ck_assert_int_eq(ctl_parse(CTL_SCOPE_ROOT, "x", 1, &command, 1, &n, &why), -EINVAL);
	textbuf_putc(&why, '\0');
	ck_assert_str_eq(why.data, "ctl: line 1: unknown command 'x'");
	textbuf_deinit(&why);
}
END_TEST

/* --- the list --- */

static void assert_help(enum ctl_scope scope, const char *want)
{
	struct textbuf out = TEXTBUF_INIT;

	ctl_help(&out, scope);
	textbuf_putc(&out, '\0');
	ck_assert_int_eq(textbuf_error(&out), 0);
	ck_assert_str_eq(out.data, want);
	textbuf_deinit(&out);
}

START_TEST(help)
{
	assert_help(CTL_SCOPE_ROOT,
		"dump [name]                     freeze a report in dumps/ and in the server's log\n"
		"mark <name>                     marks/<name>/ reports everything since now\n"
		"unmark <name>                   remove a mark\n"
		"clear                           baseline: what is held now is no suspect; empties leaks/\n"
		"scan                            check which processes live, judge what is held, bring leaks/ up to date\n"
		"clean dead                      forget the buffers of all ended processes\n"
		"clean <pid> [force]             forget the buffers of one process, of a live one only with force\n"
		"reset                           forget everything, as if just started\n"
		"reset device <n>                forget one device\n"
		"reset peaks                     let all peaks start again from what is held now\n"
		"reset history                   forget histories, dumps and suspects\n"
		"log error|warning|info|debug    how much the server writes to its log\n");
	assert_help(CTL_SCOPE_PID,
		"clean [force]                   forget the buffers of this process, of a live one only with force\n");
}
END_TEST

/* --- options --- */

static const struct {
	const char *text;
	uint64_t min, max;
	int r;
	uint64_t value;
	const char *why;
} options[] = {
	{ "16", 1, 1000, 0, 16, "" },
	{ "16\n", 1, 1000, 0, 16, "" },
	{ " \t16 \r\n\n", 1, 1000, 0, 16, "" },
	{ "\n16", 1, 1000, 0, 16, "" },
	{ "1", 1, 1000, 0, 1, "" },
	{ "1000", 1, 1000, 0, 1000, "" },
	{ "0", 0, 0, 0, 0, "" },
	{ "007", 0, 10, 0, 7, "" },
	{ "18446744073709551615", 0, UINT64_MAX, 0, UINT64_MAX, "" },
	{ "18446744073709551616", 0, UINT64_MAX, -ERANGE, 0,
	  "'18446744073709551616' is not in 0..18446744073709551615" },
	{ "18446744073709551620", 0, UINT64_MAX, -ERANGE, 0,
	  "'18446744073709551620' is not in 0..18446744073709551615" },
	{ "99999999999999999999999999", 0, UINT64_MAX, -ERANGE, 0,
	  "'99999999999999999999999999' is not in 0..18446744073709551615" },
	{ "0", 1, 1000, -ERANGE, 0, "'0' is not in 1..1000" },
	{ "1001", 1, 1000, -ERANGE, 0, "'1001' is not in 1..1000" },
	{ "-5", 1, 1000, -ERANGE, 0, "'-5' is not in 1..1000" },
	{ "", 1, 1000, -EINVAL, 0, "a number is missing" },
	{ " \n", 1, 1000, -EINVAL, 0, "a number is missing" },
	{ "1 2", 1, 1000, -EINVAL, 0, "'1%202' is not a number" },
	{ "1\n2\n", 1, 1000, -EINVAL, 0, "'1%0A2' is not a number" },
	{ "16k", 1, 1000, -EINVAL, 0, "'16k' is not a number" },
	{ "0x10", 1, 1000, -EINVAL, 0, "'0x10' is not a number" },
	{ "1e3", 1, 1000, -EINVAL, 0, "'1e3' is not a number" },
	{ "+1", 1, 1000, -EINVAL, 0, "'+1' is not a number" },
	{ "- 1", 1, 1000, -EINVAL, 0, "'-%201' is not a number" },
	{ "# 1", 1, 1000, -EINVAL, 0, "'#%201' is not a number" },
};
#define OPTIONS ((int)(sizeof(options) / sizeof(options[0])))

static int parse_option(const char *text, size_t len, uint64_t min, uint64_t max, uint64_t *value, const char *want)
{
	struct textbuf why = TEXTBUF_INIT;
	char *exact = malloc(len + 1);
	int r;

	ck_assert_ptr_nonnull(exact);
	memcpy(exact + 1, text, len);
	r = option_parse(exact + 1, len, min, max, value, &why);
	textbuf_putc(&why, '\0');
	ck_assert_str_eq(why.data, want);
	textbuf_deinit(&why);
	free(exact);
	return r;
}

START_TEST(each_option_value)
{
	uint64_t value = 77;
	int r = parse_option(options[_i].text, strlen(options[_i].text), options[_i].min, options[_i].max, &value,
			     options[_i].why);

	ck_assert_int_eq(r, options[_i].r);
	ck_assert_uint_eq(value, r ? 77 : options[_i].value);
}
END_TEST

START_TEST(option_bytes)
{
	char text[CTL_TEXT_MAX + 1];
	uint64_t value = 77;

	ck_assert_int_eq(parse_option("1\0", 2, 0, 9, &value, "'1%00' is not a number"), -EINVAL);
	memset(text, ' ', sizeof(text));
	text[CTL_TEXT_MAX - 1] = '5';
	ck_assert_int_eq(parse_option(text, sizeof(text), 0, 9, &value, "more than 4096 bytes in one write"), -E2BIG);
	ck_assert_uint_eq(value, 77);
	ck_assert_int_eq(parse_option(text, CTL_TEXT_MAX, 0, 9, &value, ""), 0);
	ck_assert_uint_eq(value, 5);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("ctl");
	TCase *tcase = tcase_create("ctl");
	SRunner *runner = srunner_create(suite);
	int failed;

	tcase_add_loop_test(tcase, each_command, 0, GOOD);
	tcase_add_test(tcase, several_lines);
	tcase_add_test(tcase, nothing_to_do);
	tcase_add_test(tcase, process_scope);
	tcase_add_loop_test(tcase, each_error, 0, BAD);
	tcase_add_test(tcase, first_error_wins);
	tcase_add_test(tcase, nul_bytes);
	tcase_add_test(tcase, as_much_as_fits);
	tcase_add_test(tcase, most_commands);
	tcase_add_test(tcase, reason_is_appended);
	tcase_add_test(tcase, help);
	tcase_add_loop_test(tcase, each_option_value, 0, OPTIONS);
	tcase_add_test(tcase, option_bytes);
	suite_add_tcase(suite, tcase);

	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
