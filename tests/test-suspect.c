/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * test-suspect.c - which buffers are suspects and why: clear, scan, ends, suppressions, alone and in any order.
 */
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/util-registry.h"
#include "tracker/mark.h"
#include "tracker/suppress.h"

#define MS UINT64_C(1000000)
#define BUDGET 1  /* of a step: as small as can be */

static struct util *u;

/* Linked instead of registry_growing(): what grows is what the test says, or (NULL) what the marks say. */
static bool (*stand_in)(const struct registry *reg, const struct buffer *b);

bool __real_registry_growing(const struct registry *reg, const struct buffer *b, struct growth *out);
bool __wrap_registry_growing(const struct registry *reg, const struct buffer *b, struct growth *out);

bool __wrap_registry_growing(const struct registry *reg, const struct buffer *b, struct growth *out)
{
	return stand_in ? stand_in(reg, b) : __real_registry_growing(reg, b, out);
}

static const char *no_names(const void *data, uint32_t module, uint64_t offset)
{
	return NULL;
}

/* Who knows the names of functions; in the beginning nobody. */
static registry_namer namer;

static void setup(void)
{
	stand_in = NULL;
	namer = no_names;
	u = util_new(0, 0, 0);
}

static void teardown(void)
{
	util_check_totals(u);
	util_free(u);
}

/* ---- helpers ---- */

static void find_names(void)
{
	uint64_t pos = 0;

	while (registry_suppress_step(u->reg, namer, NULL, &pos, BUDGET))
		;
}

static void scan(void)
{
	uint64_t pos = 0;

	find_names();
	while (registry_judge_step(u->reg, u->now, &pos, BUDGET))
		;
}

static void suppress(const char *text)
{
	struct textbuf why = TEXTBUF_INIT;
	uint64_t pos = 0;

	ck_assert_int_eq(registry_set_suppressions(u->reg, text, strlen(text), &why), 0);
	ck_assert_uint_eq(why.len, 0);
	find_names();
	while (registry_excuse_step(u->reg, &pos, BUDGET))
		;
}

/* "A:reason ..." of all suspects, A their address; also looks that the counts are those of the list. */
static const char *suspects(void)
{
	static const char *const names[SUSPECT_REASONS] = { "none", "died", "growing", "outlived" };
	struct buffer_filter filter = BUFFER_FILTER_ALL;
	uint64_t pos = 0, n[SUSPECT_REASONS] = { 0 };
	static char text[4096];
	unsigned budget = 100000;
	struct buffer b;
	int len = 0;

	*text = '\0';
	filter.suspects = true;
	while (registry_next(u->reg, &filter, &pos, &budget, &b) == 1) {
		enum suspect_reason reason = registry_suspect(u->reg, b.slot);
		len += snprintf(text + len, sizeof(text) - (size_t)len, "%s%x:%s", len ? " " : "", (unsigned)b.address,
				names[reason]);
		n[reason]++;
	}
	ck_assert_uint_eq(n[SUSPECT_NONE], 0);
	for (int reason = 1; reason < SUSPECT_REASONS; reason++)
		ck_assert_uint_eq(registry_suspects_of(u->reg, (enum suspect_reason)reason), n[reason]);
	ck_assert_uint_eq(registry_suspects(u->reg), n[1] + n[2] + n[3]);
	return text;
}

static void alloc(uint32_t process, uint64_t address)
{
	util_alloc(u, process, 0, BUFFER_DRAM, address, 100);
}

/* ---- clear and scan ---- */

START_TEST(outlived_is_after_a_clear_and_before_a_scan)
{
	uint32_t a = util_process(u, 1, 0, "a");

	alloc(a, 1);
	scan();
	ck_assert_str_eq(suspects(), "");
	ck_assert_uint_eq(registry_cleared(u->reg), 0);
	ck_assert_uint_eq(registry_scanned(u->reg), u->now);
	registry_clear(u->reg, u->now);
	ck_assert_uint_eq(registry_cleared(u->reg), u->now);
	alloc(a, 2);
	ck_assert_str_eq(suspects(), "");
	scan();
	ck_assert_str_eq(suspects(), "2:outlived");
	alloc(a, 3);
	ck_assert_str_eq(suspects(), "2:outlived");
	util_release(u, a, 0, 2);
	ck_assert_str_eq(suspects(), "");
	scan();
	ck_assert_str_eq(suspects(), "3:outlived");
	registry_clear(u->reg, u->now);
	ck_assert_str_eq(suspects(), "");
	scan();
	ck_assert_str_eq(suspects(), "");
}
END_TEST

START_TEST(what_was_cleared_is_never_a_suspect)
{
	uint32_t a = util_process(u, 1, 0, "a"), b = util_process(u, 2, 0, "b");

	alloc(a, 1);
	alloc(b, 2);
	ingest_exit(&u->in, b, u->now);
	ck_assert_str_eq(suspects(), "2:died");
	registry_clear(u->reg, u->now);
	ck_assert_str_eq(suspects(), "");
	alloc(a, 1);                                        /* a reference */
	util_alloc(u, a, 0, BUFFER_DRAM, 1, 200);           /* another size */
	alloc(a, 3);
	ingest_exit(&u->in, a, u->now);
	ck_assert_str_eq(suspects(), "3:died");
	alloc(a, 4);                                        /* came late, by another connection */
	scan();
	ck_assert_str_eq(suspects(), "3:died 4:died");
	ck_assert_uint_eq(registry_totals(u->reg).count, 4);
}
END_TEST

START_TEST(an_end_makes_died_of_whatever_it_was)
{
	uint32_t a = util_process(u, 1, 0, "a");

	registry_clear(u->reg, u->now);
	alloc(a, 1);
	scan();
	alloc(a, 2);
	ck_assert_str_eq(suspects(), "1:outlived");
	ingest_exit(&u->in, a, u->now);
	ck_assert_str_eq(suspects(), "1:died 2:died");
	util_release(u, a, 0, 1);
	ck_assert_str_eq(suspects(), "2:died");
	scan();
	ck_assert_str_eq(suspects(), "2:died");
}
END_TEST

START_TEST(age_and_size_are_asked_by_a_scan_only)
{
	uint32_t a = util_process(u, 1, 0, "a"), b = util_process(u, 2, 0, "b");

	ck_assert_int_eq(registry_set_min_age_ms(u->reg, 1000), 0);
	ck_assert_int_eq(registry_set_min_size(u->reg, 100), 0);
	registry_clear(u->reg, u->now);
	util_alloc(u, a, 0, BUFFER_DRAM, 1, 100);
	util_alloc(u, a, 0, BUFFER_DRAM, 2, 99);
	u->now += 1;
	util_alloc(u, a, 0, BUFFER_DRAM, 3, 100);
	u->now += 1000 * MS - 2;
	scan();
	ck_assert_str_eq(suspects(), "");
	u->now += 1;
	scan();
	ck_assert_str_eq(suspects(), "1:outlived");
	u->now += 1;
	scan();
	ck_assert_str_eq(suspects(), "1:outlived 3:outlived");
	ck_assert_int_eq(registry_set_min_size(u->reg, 101), 0);
	ck_assert_str_eq(suspects(), "1:outlived 3:outlived");
	scan();
	ck_assert_str_eq(suspects(), "");
	util_alloc(u, b, 0, BUFFER_DRAM, 4, 1);
	ingest_exit(&u->in, b, u->now);
	ck_assert_str_eq(suspects(), "4:died");
	ck_assert_uint_eq(registry_min_age_ms(u->reg), 1000);
	ck_assert_int_eq(registry_set_min_age_ms(u->reg, REGISTRY_MIN_AGE_MS_LIMIT + 1), -ERANGE);
	ck_assert_int_eq(registry_set_min_size(u->reg, BUFFER_SIZE_MAX + 1), -ERANGE);
}
END_TEST

/* It takes many turns of the loop: what comes meanwhile was not held at the scan. */
START_TEST(a_scan_judges_what_was_there_at_its_first_step)
{
	uint32_t a = util_process(u, 1, 0, "a"), b = util_process(u, 2, 0, "b");
	uint64_t pos = 0;

	registry_clear(u->reg, u->now);
	for (uint64_t i = 1; i <= 64; i++)
		alloc(a, i);
	alloc(b, 100);
	ck_assert_int_eq(registry_judge_step(u->reg, u->now, &pos, 1), 1);
	alloc(b, 101);
	alloc(a, 102);
	util_release(u, a, 0, 64);
	ingest_exit(&u->in, b, u->now);
	while (registry_judge_step(u->reg, u->now, &pos, 1))
		;
	ck_assert_uint_eq(registry_suspects_of(u->reg, SUSPECT_OUTLIVED), 63);
	ck_assert_uint_eq(registry_suspects_of(u->reg, SUSPECT_DIED), 2);
	(void)suspects();
	scan();
	ck_assert_uint_eq(registry_suspects_of(u->reg, SUSPECT_OUTLIVED), 64);
}
END_TEST

static uint64_t never_asked;

static bool even_addresses(const struct registry *reg, const struct buffer *b)
{
	ck_assert_ptr_eq(reg, u->reg);
	ck_assert_uint_ne(b->address, never_asked);
	return b->address % 2 == 0;
}

START_TEST(growing_is_told_by_others)
{
	uint32_t a = util_process(u, 1, 0, "cache"), b = util_process(u, 2, 0, "b");

	alloc(b, 2);
	registry_clear(u->reg, u->now);
	alloc(b, 4);
	alloc(b, 5);
	alloc(a, 6);
	stand_in = even_addresses;
	ck_assert_str_eq(suspects(), "");
	suppress("leak:cache");
	never_asked = 2;
	scan();
	ck_assert_str_eq(suspects(), "4:growing 5:outlived");
	never_asked = 6;
	scan();
	stand_in = NULL;
	scan();
	ck_assert_str_eq(suspects(), "4:outlived 5:outlived");
	stand_in = even_addresses;
	registry_set_min_size(u->reg, 101);
	scan();
	ck_assert_str_eq(suspects(), "");
}
END_TEST

START_TEST(growing_needs_no_clear)
{
	uint32_t a = util_process(u, 1, 0, "a");

	alloc(a, 2);
	alloc(a, 3);
	stand_in = even_addresses;
	scan();
	ck_assert_str_eq(suspects(), "2:growing");
	ingest_exit(&u->in, a, u->now);
	ck_assert_str_eq(suspects(), "2:died 3:died");
}
END_TEST

START_TEST(reset_history_forgets_suspects)
{
	uint32_t a = util_process(u, 1, 0, "a"), b = util_process(u, 2, 0, "b");
	uint64_t pos = 0;

	registry_clear(u->reg, u->now);
	for (uint64_t i = 1; i <= 40; i++)
		alloc(a, i);
	alloc(b, 100);
	ingest_exit(&u->in, b, u->now);
	scan();
	ck_assert_uint_eq(registry_suspects(u->reg), 41);
	while (registry_reset_history_step(u->reg, &pos, 1))
		(void)suspects();
	ck_assert_str_eq(suspects(), "");
	alloc(b, 101);
	ck_assert_str_eq(suspects(), "65:died");
	scan();
	ck_assert_uint_eq(registry_suspects_of(u->reg, SUSPECT_OUTLIVED), 40);
	ingest_exit(&u->in, a, u->now);
	ck_assert_uint_eq(registry_suspects_of(u->reg, SUSPECT_DIED), 41);
}
END_TEST

START_TEST(reset_forgets_the_baseline)
{
	uint32_t a = util_process(u, 1, 0, "a");

	alloc(a, 1);
	registry_clear(u->reg, u->now);
	alloc(a, 2);
	scan();
	registry_reset(u->reg);
	ck_assert_str_eq(suspects(), "");
	ck_assert_uint_eq(registry_cleared(u->reg), 0);
	ck_assert_uint_eq(registry_scanned(u->reg), 0);
	alloc(a, 3);
	scan();
	ck_assert_str_eq(suspects(), "");
	ingest_exit(&u->in, a, u->now);
	ck_assert_str_eq(suspects(), "3:died");
}
END_TEST

/* ---- suppressions ---- */

static uint32_t site_in(const char *path, uint64_t offset)
{
	uint32_t module = registry_module(u->reg, NULL, 0, path, strlen(path), 0);

	return registry_site(u->reg, TTALLOC_STACK_FRAME_POINTER, false,
			     (struct site_frame[]){ { 0, 0x7777 }, { module, offset } }, 2, 0);
}

static uint32_t tag(const char *text)
{
	return registry_tag(u->reg, text, strlen(text), 0);
}

static const char *some_names(const void *data, uint32_t module, uint64_t offset)
{
	return offset == 0x10 ? "tt::Program::compile@program.cpp:60" : offset == 0x20 ? "operator@" : NULL;
}

static const struct {
	const char *rule;
	const char *left;
} meant[] = {
	{ "", "1:died 2:died 3:died 4:died" },
	{ "# leak:a\n\n", "1:died 2:died 3:died 4:died" },
	{ "leak:nothing", "1:died 2:died 3:died 4:died" },
	{ "leak:^trainer$", "" },
	{ "leak:^python3.11$", "" },              /* the base name of its executable */
	{ "leak:/usr/bin", "1:died 2:died 3:died 4:died" },
	{ "leak:cache", "1:died 3:died 4:died" },
	{ "leak:^layer/cache$", "1:died 3:died 4:died" },
	{ "leak:libmetal", "1:died 2:died 4:died" },
	{ "leak:^/usr/lib/lib*.so$", "1:died 2:died 4:died" },
	{ "leak:Program::compile", "1:died 2:died 4:died" },
	{ "leak:compile$", "1:died 2:died 4:died" },
	{ "leak:^program.cpp$", "1:died 2:died 4:died" },
	{ "leak:compile@program", "1:died 2:died 3:died 4:died" },
	{ "leak:^operator@$", "1:died 2:died 3:died" },
	{ "leak:cache\nleak:operator", "1:died 3:died" },
};
#define MEANT ((int)(sizeof(meant) / sizeof(meant[0])))

static void some_leaks(void)
{
	uint32_t a = util_process(u, 1, 0, "trainer");

	alloc(a, 1);
	util_alloc_at(u, a, 0, BUFFER_DRAM, 2, 100, 0, tag("layer/cache"));
	util_alloc_at(u, a, 0, BUFFER_DRAM, 3, 100, site_in("/usr/lib/libmetal.so", 0x10), tag("layer"));
	util_alloc_at(u, a, 0, BUFFER_DRAM, 4, 100, site_in("/opt/app", 0x20), 0);
	ingest_exit(&u->in, a, u->now);
}

/* Written afterwards: what is there is looked at again. */
START_TEST(a_rule_means_what_is_there)
{
	namer = some_names;
	some_leaks();
	suppress(meant[_i].rule);
	ck_assert_str_eq(suspects(), meant[_i].left);
	suppress("leak:*");
	ck_assert_str_eq(suspects(), "");
	suppress("");
	ck_assert_str_eq(suspects(), meant[0].left);
}
END_TEST

/* Written before: what comes is suppressed from the start, but for names of functions, which are not known yet. */
START_TEST(a_rule_means_what_comes)
{
	namer = some_names;
	suppress(meant[_i].rule);
	some_leaks();
	if (strstr(meant[_i].rule, "compile$") || strstr(meant[_i].rule, "::") || strstr(meant[_i].rule, ".cpp") ||
	    strstr(meant[_i].rule, "operator"))
		scan();
	ck_assert_str_eq(suspects(), meant[_i].left);
}
END_TEST

START_TEST(a_function_s_name_counts_from_the_next_scan_on)
{
	uint32_t a = util_process(u, 1, 0, "a"), site;

	suppress("leak:compile");
	site = site_in("/usr/lib/libmetal.so", 0x10);
	registry_clear(u->reg, u->now);
	util_alloc_at(u, a, 0, BUFFER_DRAM, 1, 100, site, 0);
	scan();
	ck_assert_str_eq(suspects(), "1:outlived");
	namer = some_names;
	scan();
	ck_assert_str_eq(suspects(), "");
	util_alloc_at(u, a, 0, BUFFER_DRAM, 2, 100, site, 0);
	ingest_exit(&u->in, a, u->now);
	ck_assert_str_eq(suspects(), "");
}
END_TEST

/* A process that takes another name: its next buffers are other ones, the others from the next scan on. */
START_TEST(a_process_takes_another_name)
{
	struct process_identity id = { .pid = 1, .start_ticks = 100, .comm = "cache", .exe = "/bin/x" };
	uint32_t a = util_process(u, 1, 0, "a");

	suppress("leak:cache");
	alloc(a, 1);
	ck_assert_int_eq(registry_process_add(u->reg, &id, u->now, &a), 0);
	alloc(a, 2);
	registry_clear(u->reg, u->now);
	alloc(a, 3);
	ingest_exit(&u->in, a, u->now);
	ck_assert_str_eq(suspects(), "");
	suppress("");
	ck_assert_str_eq(suspects(), "3:died");
}
END_TEST

START_TEST(suppressed_and_back_is_judged_anew)
{
	uint32_t a = util_process(u, 1, 0, "a");

	registry_clear(u->reg, u->now);
	alloc(a, 1);
	scan();
	suppress("leak:b");
	ck_assert_str_eq(suspects(), "1:outlived");
	suppress("leak:a");
	ck_assert_str_eq(suspects(), "");
	suppress("");
	ck_assert_str_eq(suspects(), "");
	scan();
	ck_assert_str_eq(suspects(), "1:outlived");
}
END_TEST

/* However much there is to look at, a step looks at no more than it may. */
START_TEST(finding_out_is_bounded)
{
	char rules[SUPPRESS_TEXT_MAX], text[32];
	struct textbuf why = TEXTBUF_INIT;
	uint64_t pos = 0;
	int len = 0, steps = 1;

	for (int i = 0; i < SUPPRESS_RULES_MAX; i++)
		len += snprintf(rules + len, sizeof(rules) - (size_t)len, "leak:pattern%d\n", i);
	ck_assert_int_eq(registry_set_suppressions(u->reg, rules, (size_t)len, &why), 0);
	for (int i = 0; i < 1000; i++) {
		snprintf(text, sizeof(text), "tag%d", i);
		ck_assert(tag(text));
	}
	while (registry_suppress_step(u->reg, no_names, NULL, &pos, 2560))
		steps++;
	ck_assert_int_eq(steps, 101);
}
END_TEST

/* One suspect behind many buffers that are none: each chunk is looked into, which counts as eight;
 * the last one of a round is looked into before its budget is. */
START_TEST(listing_is_bounded)
{
	uint32_t a = util_process(u, 1, 0, "a");
	struct buffer_filter filter = BUFFER_FILTER_ALL;
	uint64_t pos = 0;
	unsigned budget = 8;
	struct buffer b;
	int rounds = 0;

	for (uint64_t i = 1; i <= 160; i++)
		alloc(a, i);
	registry_clear(u->reg, u->now);
	alloc(a, 1000);
	scan();
	filter.suspects = true;
	while (registry_next(u->reg, &filter, &pos, &budget, &b) == -EAGAIN) {
		ck_assert_uint_eq(budget, 0);
		budget = 8;
		rounds++;
	}
	ck_assert_uint_eq(b.address, 1000);
	ck_assert_int_eq(rounds, 5);
}
END_TEST

/* ---- the list itself ---- */

static const struct {
	const char *text;
	int r;
	unsigned n;
	const char *why;
} lists[] = {
	{ "", 0, 0, "" },
	{ "\n\n# x\n  \t\n", 0, 0, "" },
	{ "leak:a", 0, 1, "" },
	{ " leak: a b \r\nleak:\xc3\xa4%20", 0, 2, "" },
	{ "leak:a\nleak:b\n", 0, 2, "" },
	{ "leak", -EINVAL, 0, "line 1: does not begin with leak:" },
	{ "leak:a\n\nrace:b\n", -EINVAL, 0, "line 3: does not begin with leak:" },
	{ "LEAK:a", -EINVAL, 0, "line 1: does not begin with leak:" },
	{ "leak :a", -EINVAL, 0, "line 1: does not begin with leak:" },
	{ "# x\nleak: \n", -EINVAL, 0, "line 2: leak: without a pattern" },
	{ "leak:\x01", -EINVAL, 0, "line 1: byte 0x01 is not plain text" },
	{ "#\x1b[0m", -EINVAL, 0, "line 1: byte 0x1b is not plain text" },
	{ "leak:\xff", -EINVAL, 0, "line 1: byte 0xff is not plain text" },
	{ "leak:a\nleak:b\xc3", -EINVAL, 0, "line 2: byte 0xc3 is not plain text" },
};
#define LISTS ((int)(sizeof(lists) / sizeof(lists[0])))

static int parse(const char *text, size_t len, unsigned *n, const char *why)
{
	struct textbuf reason = TEXTBUF_INIT;
	struct suppressions s = { 0 };
	int r = suppressions_parse(&s, text, len, &reason);

	*n = s.n;
	textbuf_putc(&reason, '\0');
	ck_assert_str_eq(reason.data, why);
	ck_assert_uint_le(reason.len, 160);
	textbuf_deinit(&reason);
	suppressions_free(&s);
	return r;
}

START_TEST(each_list)
{
	unsigned n;

	ck_assert_int_eq(parse(lists[_i].text, strlen(lists[_i].text), &n, lists[_i].why), lists[_i].r);
	ck_assert_uint_eq(n, lists[_i].n);
}
END_TEST

START_TEST(a_list_is_bounded)
{
	static char text[SUPPRESS_TEXT_MAX + 1];
	unsigned n;

	memset(text, '#', sizeof(text));
	ck_assert_int_eq(parse(text, SUPPRESS_TEXT_MAX, &n, ""), 0);
	ck_assert_int_eq(parse(text, SUPPRESS_TEXT_MAX + 1, &n, "the list would be longer than 16384 bytes"), -E2BIG);
	memset(text, 'x', sizeof(text));
	memcpy(text, "leak:", 5);
	ck_assert_int_eq(parse(text, 5 + SUPPRESS_PATTERN_MAX, &n, ""), 0);
	ck_assert_int_eq(parse(text, 6 + SUPPRESS_PATTERN_MAX, &n, "line 1: a pattern of more than 255 bytes"), -EINVAL);
	for (int i = 0; i < 257; i++)
		memcpy(text + (size_t)i * 7, "leak:a\n", 7);
	ck_assert_int_eq(parse(text, 256 * 7, &n, ""), 0);
	ck_assert_uint_eq(n, 256);
	ck_assert_int_eq(parse(text, 257 * 7, &n, "line 257: more than 256 patterns"), -ENOSPC);
	ck_assert_int_eq(parse("leak:a\0b", 8, &n, "line 1: byte 0x00 is not plain text"), -EINVAL);
}
END_TEST

START_TEST(what_is_refused_changes_nothing)
{
	struct textbuf why = TEXTBUF_INIT;
	size_t len;

	suppress("leak:a\n");
	ck_assert_int_eq(registry_set_suppressions(u->reg, "leak:b\nx", 8, &why), -EINVAL);
	ck_assert_str_eq(registry_suppressions(u->reg, &len), "leak:a\n");
	ck_assert_uint_eq(len, 7);
	textbuf_deinit(&why);
}
END_TEST

static const struct {
	const char *pattern;
	const char *text;
	bool yes;
} matches[] = {
	{ "b", "abc", true },       { "^b", "abc", false },    { "^a", "abc", true },     { "c$", "abc", true },
	{ "b$", "abc", false },     { "^abc$", "abc", true },  { "^abc$", "abcd", false }, { "^abc$", "xabc", false },
	{ "a*c", "abc", true },     { "a*c", "ac", true },     { "c*a", "abc", false },   { "*", "x", true },
	{ "*b*", "abc", true },     { "**", "x", true },       { "^*c$", "abc", true },   { "^a*b$", "aabab", true },
	{ "a*a$", "a", false },     { "a*a$", "aa", true },    { "foo$", "foofoo", true }, { "^", "x", true },
	{ "$", "x", true },         { "^$", "x", false },      { "a$b", "a$b", true },    { "a^b", "a^b", true },
	{ "a$*", "a$x", true },     { "^a*", "ba", false },    { "abcd", "abc", false },  { "A", "a", false },
	{ "*$", "x", true },        { "^a*a$", "a", false },   { "b*", "ab", true },      { "ab*bc", "abc", false },
	{ "?", "x", false },        { "[x]", "x", false },     { "a b", "a b", true },    { "x", "", false },
	{ "*", "", false },
};
#define MATCHES ((int)(sizeof(matches) / sizeof(matches[0])))

START_TEST(each_match)
{
	struct textbuf why = TEXTBUF_INIT;
	struct suppressions s;
	char rule[64];
	int len = snprintf(rule, sizeof(rule), "leak:%s\n", matches[_i].pattern);

	ck_assert_int_eq(suppressions_parse(&s, rule, (size_t)len, &why), 0);
	ck_assert_msg(suppressions_match(&s, matches[_i].text, strlen(matches[_i].text)) == matches[_i].yes, "'%s' '%s'",
		      matches[_i].pattern, matches[_i].text);
	suppressions_free(&s);
}
END_TEST

/* ---- anything in any order, against a model that keeps everything with each buffer ---- */

#define PEOPLE 6
#define PLACES 40

struct model_buffer {
	bool live, cleared, suppressed, new;  /* new: came while a scan was under way */
	int tag, site;                        /* 0..2 */
	uint64_t size, time;
	unsigned refs;
	enum suspect_reason judged;
};
struct model_process {
	uint32_t slot;
	bool ended;
	int name;                             /* 0..1 */
	struct model_buffer at[PLACES];
};
static struct {
	struct model_process who[PEOPLE];
	bool baseline;
	bool since[PEOPLE][PLACES];           /* came after the last clear */
	int rules;                            /* which list */
	bool names_known, site_meant;
	bool scanning;
	int pid;
} m;

static const char *const model_rules[] = { "", "leak:cache", "leak:^name0$", "leak:compile", "leak:cache\nleak:compile\n" };
#define MODEL_RULES 5
static uint32_t model_tag[3], model_site[3];
static uint64_t state;

static unsigned rnd(unsigned n)
{
	state = state * UINT64_C(6364136223846793005) + 1442695040888963407;
	return (unsigned)(state >> 33) % n;
}

static const char *model_names(const void *data, uint32_t module, uint64_t offset)
{
	return m.names_known && offset == 0x10 ? "compile" : NULL;
}

static bool model_suppressed(const struct model_process *p, const struct model_buffer *b)
{
	bool cache = m.rules == 1 || m.rules == 4, compile = m.rules == 3 || m.rules == 4;

	return (cache && b->tag == 1) || (m.rules == 2 && p->name == 0) || (compile && m.site_meant && b->site == 1);
}

static enum suspect_reason model_reason(const struct model_process *p, const struct model_buffer *b)
{
	return b->cleared || b->suppressed ? SUSPECT_NONE : p->ended ? SUSPECT_DIED : b->judged;
}

/* For what is asked a million times: libcheck writes to a file for every assertion that holds. */
#define must(expr) \
	do { \
		if (!(expr)) \
			ck_abort_msg("must be: %s", #expr); \
	} while (0)

/* Whether the registry lists and counts what the model has. `exactly`: not in the middle of a pass over everything. */
static void compare(bool exactly)
{
	struct buffer_filter filter = BUFFER_FILTER_ALL;
	uint64_t n[SUSPECT_REASONS] = { 0 }, pos = 0, listed = 0, last = 0;
	unsigned budget = 100000;
	struct buffer b;

	for (int i = 0; i < PEOPLE; i++)
		for (int a = 0; a < PLACES; a++) {
			const struct model_buffer *mb = &m.who[i].at[a];
			bool found = mb->live && registry_own(u->reg, m.who[i].slot, 0, (uint64_t)a, 1U << BUFFER_DRAM, &b);
			must(!mb->live || found);
			if (!found)
				continue;
			enum suspect_reason reason = registry_suspect(u->reg, b.slot);
			if (exactly && reason != model_reason(&m.who[i], mb))
				ck_abort_msg("process %d place %d: %d instead of %d", i, a, reason,
					     model_reason(&m.who[i], mb));
			n[reason]++;
		}
	filter.suspects = true;
	while (registry_next(u->reg, &filter, &pos, &budget, &b) == 1) {
		must(!listed || b.slot > last);
		must(registry_suspect(u->reg, b.slot) != SUSPECT_NONE);
		last = b.slot;
		listed++;
	}
	for (int reason = 1; reason < SUSPECT_REASONS; reason++)
		must(registry_suspects_of(u->reg, (enum suspect_reason)reason) == n[reason]);
	must(listed == registry_suspects(u->reg));
}

static void model_alloc(int i, int a)
{
	struct model_process *p = &m.who[i];
	struct model_buffer *b = &p->at[a];

	if (b->live) {
		b->refs++;
		util_alloc(u, p->slot, 0, BUFFER_DRAM, (uint64_t)a, b->size);
		return;
	}
	*b = (struct model_buffer){ .live = true, .refs = 1, .tag = (int)rnd(3), .site = (int)rnd(3), .size = 1 + rnd(200),
				    .time = u->now, .new = m.scanning };
	b->suppressed = model_suppressed(p, b);
	m.since[i][a] = true;
	util_alloc_at(u, p->slot, 0, BUFFER_DRAM, (uint64_t)a, b->size, model_site[b->site], model_tag[b->tag]);
}

static void model_free(int i, int a)
{
	struct model_buffer *b = &m.who[i].at[a];

	if (!b->live)
		return;
	util_release(u, m.who[i].slot, 0, (uint64_t)a);
	b->live = --b->refs > 0;
}

/* A new process in the place of one that has ended and holds nothing. */
static void model_person(int i)
{
	struct model_process *p = &m.who[i];
	char name[16];

	*p = (struct model_process){ .name = (int)rnd(2) };
	snprintf(name, sizeof(name), "name%d", p->name);
	p->slot = util_process(u, ++m.pid, 0, name);
}

static void model_exit(int i)
{
	m.who[i].ended = true;
	ingest_exit(&u->in, m.who[i].slot, u->now);
}

/* Something that events do, also between two steps of a pass. */
static void model_event(void)
{
	int i = (int)rnd(PEOPLE), a = (int)rnd(PLACES);

	switch (rnd(24)) {
	case 0:
		model_exit(i);
		return;
	case 1 ... 11:
		model_free(i, a);
		return;
	default:
		if (!m.who[i].ended || !rnd(8))
			model_alloc(i, a);
	}
}

static void model_pass(registry_namer names, int (*step)(uint64_t *pos))
{
	uint64_t pos = 0;

	m.scanning = true;
	m.site_meant = m.names_known && m.rules >= 3;
	while (registry_suppress_step(u->reg, names, NULL, &pos, 40))
		;
	pos = 0;
	while (step(&pos)) {
		compare(false);
		if (rnd(2))
			model_event();
	}
	m.scanning = false;
}

static int excuse_step(uint64_t *pos)
{
	return registry_excuse_step(u->reg, pos, 1);
}

static int judge_step(uint64_t *pos)
{
	return registry_judge_step(u->reg, u->now, pos, 1);
}

static int history_step(uint64_t *pos)
{
	return registry_reset_history_step(u->reg, pos, 1);
}

static void model_suppress(void)
{
	struct textbuf why = TEXTBUF_INIT;

	m.rules = (int)rnd(MODEL_RULES);
	must(registry_set_suppressions(u->reg, model_rules[m.rules], strlen(model_rules[m.rules]), &why) == 0);
	model_pass(model_names, excuse_step);
	for (int i = 0; i < PEOPLE; i++)
		for (int a = 0; a < PLACES; a++) {
			struct model_buffer *b = &m.who[i].at[a];
			b->suppressed = model_suppressed(&m.who[i], b);
			if (b->suppressed)
				b->judged = SUSPECT_NONE;
			b->new = false;
		}
}

static bool model_grows(const struct registry *reg, const struct buffer *b)
{
	return b->address % 5 == 0;
}

static void model_scan(void)
{
	uint64_t age = rnd(3), size = rnd(2) * 50;
	bool grows = rnd(3) == 0;

	registry_set_min_age_ms(u->reg, age);
	registry_set_min_size(u->reg, size);
	stand_in = grows ? model_grows : NULL;
	model_pass(model_names, judge_step);
	for (int i = 0; i < PEOPLE; i++)
		for (int a = 0; a < PLACES; a++) {
			struct model_buffer *b = &m.who[i].at[a];
			b->suppressed = model_suppressed(&m.who[i], b);
			b->judged = SUSPECT_NONE;
			if (!b->new && !b->suppressed && b->size >= size && u->now - b->time >= age * MS)
				b->judged = grows && a % 5 == 0 ? SUSPECT_GROWING :
					    m.baseline && m.since[i][a] ? SUSPECT_OUTLIVED : SUSPECT_NONE;
			b->new = false;
		}
}

static void model_clear(void)
{
	registry_clear(u->reg, u->now);
	m.baseline = true;
	memset(m.since, 0, sizeof(m.since));
	for (int i = 0; i < PEOPLE; i++)
		for (int a = 0; a < PLACES; a++)
			m.who[i].at[a].cleared = true;
}

static void model_reset_history(void)
{
	uint64_t pos = 0;

	for (int i = 0; i < PEOPLE; i++)
		for (int a = 0; a < PLACES; a++) {
			m.who[i].at[a].cleared |= m.who[i].ended;
			m.who[i].at[a].judged = SUSPECT_NONE;
		}
	while (history_step(&pos))
		compare(false);
}

/* Of everybody who has ended, or of one. */
static void model_clean(bool dead)
{
	int one = (int)rnd(PEOPLE);
	uint64_t pos = 0, removed = 0;

	while (registry_clean_step(u->reg, dead ? PROCESS_NONE : m.who[one].slot, &pos, 1, &removed))
		must(registry_suspects(u->reg) <= registry_totals(u->reg).count);
	for (int i = 0; i < PEOPLE; i++)
		if (dead ? m.who[i].ended : i == one)
			for (int a = 0; a < PLACES; a++)
				m.who[i].at[a].live = false;
}

static void model_reset(void)
{
	if (rnd(2)) {
		uint64_t pos = 0, removed = 0;
		while (registry_reset_device_step(u->reg, 0, &pos, 1, &removed))
			;
	} else {
		for (int i = 0; i < PEOPLE; i++)
			if (m.who[i].ended)
				registry_process_disconnect(u->reg, m.who[i].slot);
		registry_reset(u->reg);
		m.baseline = false;
		for (int i = 0; i < PEOPLE; i++)
			if (m.who[i].ended)
				model_person(i);
	}
	for (int i = 0; i < PEOPLE; i++)
		for (int a = 0; a < PLACES; a++)
			m.who[i].at[a].live = false;
}

static void model_replace_the_dead(void)
{
	for (int i = 0; i < PEOPLE; i++) {
		bool holds = false;
		for (int a = 0; a < PLACES; a++)
			holds |= m.who[i].at[a].live;
		if (m.who[i].ended && !holds) {
			registry_process_disconnect(u->reg, m.who[i].slot);
			model_person(i);
		}
	}
}

static void model_command(void)
{
	switch (rnd(12)) {
	case 0:
	case 1:
		model_clear();
		return;
	case 2 ... 4:
		model_scan();
		return;
	case 5:
	case 6:
		model_suppress();
		return;
	case 7:
		model_reset_history();
		return;
	case 8:
		model_clean(true);
		return;
	case 9:
		model_clean(false);
		return;
	case 10:
		m.names_known = rnd(4) > 0;
		return;
	default:
		if (!rnd(4))
			model_reset();
	}
}

START_TEST(anything_in_any_order)
{
	memset(&m, 0, sizeof(m));
	state = (uint64_t)_i;
	model_tag[1] = tag("layer/cache");
	model_tag[2] = tag("layer");
	model_site[1] = site_in("/lib/a", 0x10);
	model_site[2] = site_in("/lib/b", 0x20);
	for (int i = 0; i < PEOPLE; i++)
		model_person(i);
	for (int n = 0; n < 6000; n++) {
		u->now += rnd(2) * MS / 2;
		if (rnd(12))
			model_event();
		else
			model_command();
		compare(true);
		model_replace_the_dead();
	}
}
END_TEST

int main(void)
{
	Suite *s = suite_create("suspect");
	TCase *t = tcase_create("judging");

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, outlived_is_after_a_clear_and_before_a_scan);
	tcase_add_test(t, what_was_cleared_is_never_a_suspect);
	tcase_add_test(t, an_end_makes_died_of_whatever_it_was);
	tcase_add_test(t, age_and_size_are_asked_by_a_scan_only);
	tcase_add_test(t, a_scan_judges_what_was_there_at_its_first_step);
	tcase_add_test(t, growing_is_told_by_others);
	tcase_add_test(t, growing_needs_no_clear);
	tcase_add_test(t, reset_history_forgets_suspects);
	tcase_add_test(t, reset_forgets_the_baseline);
	suite_add_tcase(s, t);

	t = tcase_create("suppressions");
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_loop_test(t, a_rule_means_what_is_there, 0, MEANT);
	tcase_add_loop_test(t, a_rule_means_what_comes, 0, MEANT);
	tcase_add_test(t, a_function_s_name_counts_from_the_next_scan_on);
	tcase_add_test(t, a_process_takes_another_name);
	tcase_add_test(t, suppressed_and_back_is_judged_anew);
	tcase_add_test(t, finding_out_is_bounded);
	tcase_add_test(t, listing_is_bounded);
	tcase_add_loop_test(t, each_list, 0, LISTS);
	tcase_add_test(t, a_list_is_bounded);
	tcase_add_test(t, what_is_refused_changes_nothing);
	tcase_add_loop_test(t, each_match, 0, MATCHES);
	suite_add_tcase(s, t);

	t = tcase_create("model");
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_set_timeout(t, 60);
	tcase_add_loop_test(t, anything_in_any_order, 0, 8);
	suite_add_tcase(s, t);

	SRunner *runner = srunner_create(s);
	srunner_run_all(runner, CK_ENV);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
