/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * test-leak.c - ttalloc run, leaks and diff, as far as they need no server: tables, groups, suppressions, baselines,
 * names, reports, and what has come and gone.
 *
 * TTALLOC_GOLDEN_UPDATE=1 writes the reports anew: look at the difference before it is committed.
 */
#include <check.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/escape.h"
#include "client/leak-diff.h"
#include "client/leak-report.h"
#include "client/leak-rules.h"
#include "client/leak.h"

#define SITE_A "0123456789abcdef"
#define SITE_B "fedcba9876543210"
#define HEADER "# reason device type address size refs pid uid state age_s time seq site tag comm\n"
#define ROW(reason, device, type, size, pid, seq, site, tag) \
	reason " " #device " " type " 0x0000000000" #seq " " #size " 1 " #pid " 1000 dead 1.0 1732082104.000001 " #seq " " \
	site " " tag " my%20prog%251\n"

#define TABLE(tag) \
	HEADER \
	ROW("died", 0, "dram", 4096, 100, 10, SITE_A, tag) \
	ROW("died", 1, "dram", 12288, 101, 11, SITE_A, "layer1") \
	ROW("outlived", 0, "l1", 100, 100, 12, SITE_A, "-") \
	ROW("died", 0, "dram", 14000, 100, 13, "-", "-") \
	ROW("died", 0, "dram", 13000, 100, 14, "-", "-") \
	ROW("died", 0, "dram", 16384, 100, 15, "-", "-") \
	ROW("growing", 3, "cb", 64, -, 16, SITE_B, "%3Ctag%22%26%01%FF%3E") \
	ROW("died", 0, "dram", 0, 100, 17, "-", "-")

static const char table[] = TABLE("layer0/attn");
/* The first two are of one place. */
static const char one_tag[] = TABLE("layer1");

/* A program with many tags at one call site: in the middle of them one that is suppressed. */
static const char tagged[] =
	HEADER
	ROW("died", 0, "dram", 100, 100, 10, SITE_A, "l0") ROW("died", 0, "dram", 900, 100, 11, SITE_A, "l1")
	ROW("died", 1, "dram", 800, 101, 12, SITE_A, "l2") ROW("outlived", 0, "dram", 700, 100, 13, SITE_A, "l3")
	ROW("died", 0, "dram", 600, 100, 14, SITE_A, "l4") ROW("died", 0, "dram", 500, 100, 15, SITE_A, "l5")
	ROW("died", 0, "dram", 400, 100, 16, SITE_A, "l6") ROW("died", 0, "dram", 300, 100, 17, SITE_A, "l7")
	ROW("died", 0, "dram", 200, 100, 18, SITE_A, "l8") ROW("died", 0, "dram", 9999, 100, 19, SITE_A, "layer1")
	ROW("died", 0, "dram", 50, 100, 20, SITE_A, "-") ROW("died", 0, "dram", 12288, 100, 21, SITE_A, "l9")
	ROW("died", 0, "l1", 99, 100, 22, SITE_A, "l0") ROW("died", 0, "dram", 11, 100, 23, SITE_B, "l0")
	ROW("died", 0, "dram", 14000, 100, 24, SITE_B, "l1") ROW("died", 0, "dram", 12, 100, 25, SITE_B, "l0");

static const char frames[] =
	"site " SITE_A "\nmethod frame-pointer\nframes 3\nstack frame-pointer 3\n"
	"  0x0000000000001234 tt::Buffer::create@buffer.cpp:60 /usr/lib/libtt_metal.so\n"
	"  0x0000000000000010 - /opt/my%20app/train\n"
	"  0x00007fff00001234 - -\n";

static void read_list(struct leak_list *list, const char *text)
{
	*list = (struct leak_list){ 0 };
	ck_assert_int_eq(leak_list_read(list, text), 0);
}

/* The name of the rule that fits; "-": none does. */
static const char *name_of(const char *rules, const struct leak_group *g)
{
	static char name[64];
	const struct known_rule *rule;
	struct rules_error error;
	struct known k = { 0 };
	const int r = known_read(&k, rules, &error);

	ck_assert_msg(r == 0, "%s: %s", rules, error.what);
	rule = known_find(&k, g);
	snprintf(name, sizeof(name), "%s", rule ? rule->name : "-");
	known_free(&k);
	return name;
}

/* --- tables --- */

START_TEST(rows_are_read)
{
	struct leak_list list;
	const struct leak *l;

	read_list(&list, table);
	ck_assert_uint_eq(list.count, 8);
	l = &list.leaks[0];
	ck_assert_str_eq(l->reason, "died");
	ck_assert_uint_eq(l->device, 0);
	ck_assert_str_eq(l->type, "dram");
	ck_assert_uint_eq(l->address, 0x10);
	ck_assert_uint_eq(l->size, 4096);
	ck_assert_int_eq(l->pid, 100);
	ck_assert_uint_eq(l->time_us, 1732082104000001);
	ck_assert_uint_eq(l->seq, 10);
	ck_assert_str_eq(l->site, SITE_A);
	ck_assert_str_eq(l->tag, "layer0/attn");
	ck_assert_str_eq(l->comm, "my prog%1");
	ck_assert_int_eq(list.leaks[6].pid, 0);
	ck_assert_str_eq(list.leaks[6].tag, "<tag\"&\x01\xff>");
	leak_list_free(&list);
}
END_TEST

/* Columns are found by their names: more may come, and `allocs` has others. */
START_TEST(columns_are_found_by_name)
{
	struct leak_list list;

	read_list(&list, "# comm new tag site seq time uid pid refs size address type device newer\n"
			 "prog x t " SITE_A " 7 1.000002 0 9 1 55 0x40 l1 3 y\n"
			 "\n"
			 "prog x t " SITE_A " 8 1.000002 0 9 1 55 0x40 l1 3 y more");
	ck_assert_uint_eq(list.count, 2);
	ck_assert_ptr_null(list.leaks[0].reason);
	ck_assert_uint_eq(list.leaks[1].seq, 8);
	ck_assert_uint_eq(list.leaks[0].device, 3);
	ck_assert_uint_eq(list.leaks[0].size, 55);
	leak_list_free(&list);
	read_list(&list, HEADER);
	ck_assert_uint_eq(list.count, 0);
	leak_list_free(&list);
}
END_TEST

START_TEST(what_is_no_table_is_refused)
{
	static const char *const bad[] = {
		"", "\n", "hello\n", "# device type\n0 dram\n", "#device type\n",
		HEADER "died 0 dram 0x1 1\n",
		HEADER "died x dram 0x1 1 1 1 1 dead 1 1.000000 1 - - -\n",
		HEADER "died 0 dram 0x1 -1 1 1 1 dead 1 1.000000 1 - - -\n",
		HEADER "died 0 dram 0x1 99999999999999999999 1 1 1 dead 1 1.000000 1 - - -\n",
		HEADER "died 0 dram 0x1 1 1 1 1 dead 1 1 1 - - -\n",
		HEADER "died 4294967296 dram 0x1 1 1 1 1 dead 1 1.000000 1 - - -\n",
		HEADER "died 0 dram 0x1 1 1 4294967296 1 dead 1 1.000000 1 - - -\n",
	};
	struct leak_list list;
	size_t i;

	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		list = (struct leak_list){ 0 };
		ck_assert_msg(leak_list_read(&list, bad[i]) == -EPROTO, "%s", bad[i]);
		ck_assert_uint_eq(list.count, 0);
		leak_list_free(&list);
	}
}
END_TEST

START_TEST(stacks_are_read)
{
	struct stack s;

	ck_assert_int_eq(stack_read(&s, frames), 0);
	ck_assert_uint_eq(s.count, 3);
	ck_assert_str_eq(s.frames[0].offset, "0x0000000000001234");
	ck_assert_str_eq(s.frames[0].function, "tt::Buffer::create@buffer.cpp:60");
	ck_assert_str_eq(s.frames[0].module, "/usr/lib/libtt_metal.so");
	ck_assert_str_eq(s.frames[1].module, "/opt/my app/train");
	ck_assert_str_eq(s.frames[2].module, "-");
	stack_free(&s);
	ck_assert_int_eq(stack_read(&s, "  a b\n  a b c d\n "), 0);
	ck_assert_uint_eq(s.count, 0);
	stack_free(&s);
}
END_TEST

/* --- groups --- */

START_TEST(groups_are_by_site_or_class_and_tag)
{
	/* Of the same bytes: by key. */
	static const struct {
		const char *key;
		uint64_t count, bytes;
	} expected[] = {
		{ "device0/dram/8192..16383/-", 2, 27000 }, { "device0/dram/16384..32767/-", 1, 16384 },
		{ SITE_A "/dram/layer1", 1, 12288 }, { SITE_A "/dram/layer0/attn", 1, 4096 }, { SITE_A "/l1/-", 1, 100 },
		{ SITE_B "/cb/<tag\"&%01%FF>", 1, 64 }, { "device0/dram/0..0/-", 1, 0 },
	};
	struct leak_groups groups;
	struct leak_list list;
	size_t i;

	read_list(&list, table);
	ck_assert_int_eq(leak_groups_make(&groups, &list), 0);
	ck_assert_uint_eq(groups.count, 7);
	for (i = 0; i < 7; i++) {
		ck_assert_str_eq(groups.groups[i].key, expected[i].key);
		ck_assert_uint_eq(groups.groups[i].count, expected[i].count);
		ck_assert_uint_eq(groups.groups[i].bytes, expected[i].bytes);
		ck_assert(groups.groups[i].fails);
	}
	leak_groups_free(&groups);
	leak_list_free(&list);

	read_list(&list, one_tag);
	ck_assert_int_eq(leak_groups_make(&groups, &list), 0);
	ck_assert_uint_eq(groups.count, 6);
	ck_assert_str_eq(groups.groups[1].key, SITE_A "/dram/layer1");
	ck_assert_uint_eq(groups.groups[1].device_min, 0);
	ck_assert_uint_eq(groups.groups[1].device_max, 1);
	ck_assert_uint_eq(groups.groups[1].pids, 2);
	ck_assert_uint_eq(groups.groups[1].size_min, 4096);
	ck_assert_uint_eq(groups.groups[1].size_max, 12288);
	leak_groups_free(&groups);
	leak_list_free(&list);
}
END_TEST

/* A report shows a few of them; rules are asked about all. */
START_TEST(many_values_are_cut)
{
	static const char row[] = "died 0 dram 0x1 1 1 %d 0 dead 1.0 1.000000 %d " SITE_A " tag prog%d\n";
	char text[4096] = HEADER, line[128];
	struct leak_groups groups;
	struct leak_list list;
	int i;

	for (i = 0; i < 9; i++) {
		snprintf(line, sizeof(line), row, 10 + i / 3, i, i / 2);
		strcat(text, line);
	}
	read_list(&list, text);
	list.leaks[8].suppressed = 1;
	ck_assert_int_eq(leak_groups_make(&groups, &list), 0);
	ck_assert_uint_eq(groups.groups[0].comms.count, LEAK_VALUES);
	ck_assert(!groups.groups[0].comms.more);
	ck_assert_str_eq(name_of("a: comm=^prog4$: x\n", &groups.groups[0]), "-");
	leak_groups_free(&groups);
	list.leaks[8].suppressed = 0;
	ck_assert_int_eq(leak_groups_make(&groups, &list), 0);
	ck_assert_uint_eq(groups.count, 1);
	ck_assert_uint_eq(groups.groups[0].pids, 3);
	ck_assert_uint_eq(groups.groups[0].comms.count, LEAK_VALUES);
	ck_assert_uint_eq(groups.groups[0].comms.times[3], 2);
	ck_assert(groups.groups[0].comms.more);
	ck_assert_str_eq(name_of("a: comm=^prog4$: x\n", &groups.groups[0]), "a");
	ck_assert_str_eq(name_of("a: comm=^prog5$: x\n", &groups.groups[0]), "-");
	leak_groups_free(&groups);
	leak_list_free(&list);
}
END_TEST

START_TEST(no_leaks_no_groups)
{
	struct leak_groups groups;
	struct leak_list list;

	read_list(&list, HEADER);
	ck_assert_int_eq(leak_groups_make(&groups, &list), 0);
	ck_assert_uint_eq(groups.count, 0);
	leak_groups_free(&groups);
	leak_list_free(&list);
}
END_TEST

/* --- patterns, as in LeakSanitizer --- */

START_TEST(patterns)
{
	static const struct {
		const char *pattern, *text;
		bool matches;
	} c[] = {
		{ "foo", "foo", true }, { "foo", "a foo b", true }, { "foo", "fo", false }, { "", "x", false },
		{ "^foo", "foobar", true }, { "^foo", "a foo", false }, { "foo$", "a foo", true },
		{ "foo$", "foobar", false }, { "^foo$", "foo", true }, { "^foo$", "foofoo", false },
		{ "foo$", "foofoo", true }, { "f*o", "a fxxo b", true }, { "^f*o$", "fxxob", false },
		{ "^f*o$", "fxoxo", true }, { "*", "", true }, { "^*$", "any", true }, { "a*b*c", "a-b-b-c", true },
		{ "a*b*c", "acb", false }, { "^", "x", true }, { "^$", "", true }, { "^$", "x", false }, { "$", "x", true },
		{ "tt::*::create", "tt::Buffer::create@b.cpp:1", true },
		{ "a*a*a*a*a*a*a*a*a*b", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", false },
	};
	size_t i;

	for (i = 0; i < sizeof(c) / sizeof(c[0]); i++)
		ck_assert_msg(leak_pattern_matches(c[i].pattern, c[i].text) == c[i].matches, "%s %s", c[i].pattern, c[i].text);
}
END_TEST

/* --- suppressions --- */

START_TEST(suppressions_apply_and_count)
{
	struct rules_error error;
	struct suppressions s;
	struct leak_list list;
	struct leak_groups groups;
	struct stack stack;
	size_t i;

	ck_assert_int_eq(suppressions_read(&s, "# comment\n\n  leak:layer1   # why\nleak:^tt::Buffer\nleak:my app$\n"
					       "leak:nobody\n", &error), 0);
	ck_assert_uint_eq(s.count, 4);
	ck_assert_str_eq(s.list[0].pattern, "layer1");
	ck_assert_int_eq(stack_read(&stack, frames), 0);
	read_list(&list, table);
	for (i = 0; i < list.count; i++)
		suppressions_apply(&s, &list.leaks[i], strcmp(list.leaks[i].site, SITE_A) == 0 ? &stack : NULL);
	ck_assert_uint_eq(s.list[0].count, 1);
	ck_assert_uint_eq(s.list[0].bytes, 12288);
	ck_assert_uint_eq(s.list[1].count, 2);
	ck_assert_uint_eq(s.list[1].bytes, 4196);
	ck_assert_uint_eq(s.list[2].count, 0);
	ck_assert_int_eq(leak_groups_make(&groups, &list), 0);
	ck_assert_uint_eq(groups.count, 4);
	leak_groups_free(&groups);
	leak_list_free(&list);
	suppressions_free(&s);

	/* by the command, and by a binary */
	ck_assert_int_eq(suppressions_read(&s, "leak:/opt/my app/", &error), 0);
	read_list(&list, table);
	suppressions_apply(&s, &list.leaks[0], &stack);
	ck_assert_uint_eq(list.leaks[0].suppressed, 1);
	suppressions_apply(&s, &list.leaks[1], NULL);
	ck_assert_uint_eq(list.leaks[1].suppressed, 0);
	suppressions_free(&s);
	/* What has no name is not called `-`. */
	ck_assert_int_eq(suppressions_read(&s, "leak:-\nleak:^-$", &error), 0);
	suppressions_apply(&s, &list.leaks[2], &stack);
	ck_assert_uint_eq(list.leaks[2].suppressed, 0);
	suppressions_free(&s);
	ck_assert_int_eq(suppressions_read(&s, "leak:^my prog%1$", &error), 0);
	suppressions_apply(&s, &list.leaks[1], NULL);
	ck_assert_uint_eq(list.leaks[1].suppressed, 1);
	suppressions_free(&s);
	leak_list_free(&list);

	/* function and source file have a beginning and an end of their own */
	static const struct { const char *line; bool matches; } named[] = {
		{ "leak:^tt::Buffer::create$", true }, { "leak:^buffer.cpp$", true }, { "leak:create@buffer.cpp:60$", true },
		{ "leak:^create$", false }, { "leak:^60$", false }, { "leak:^buffer$", false },
	};
	for (i = 0; i < sizeof(named) / sizeof(named[0]); i++) {
		ck_assert_int_eq(suppressions_read(&s, named[i].line, &error), 0);
		read_list(&list, table);
		suppressions_apply(&s, &list.leaks[0], &stack);
		ck_assert_msg(list.leaks[0].suppressed == named[i].matches, "%s", named[i].line);
		suppressions_free(&s);
		leak_list_free(&list);
	}
	stack_free(&stack);
}
END_TEST

START_TEST(bad_suppressions_tell_their_line)
{
	static const char *const bad[] = { "leak:a\n\nleek:b", "leak:a\n#\nleak:\n", "\n\nrace:x", "\n\nfoo" };
	struct rules_error error;
	struct suppressions s;
	size_t i;

	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		ck_assert_int_eq(suppressions_read(&s, bad[i], &error), -EINVAL);
		ck_assert_uint_eq(error.line, 3);
		ck_assert_ptr_nonnull(error.what);
		suppressions_free(&s);
	}
}
END_TEST

/* --- baseline --- */

static void apply_baseline(struct baseline *b, const char *text, struct leak_groups *groups)
{
	struct rules_error error;

	ck_assert_int_eq(baseline_read(b, text, &error), 0);
	ck_assert_int_eq(baseline_apply(b, groups), 0);
}

START_TEST(baseline_lets_pass_what_is_known)
{
	struct leak_groups groups;
	struct leak_list list;
	struct baseline b;

	read_list(&list, one_tag);
	ck_assert_int_eq(leak_groups_make(&groups, &list), 0);
	apply_baseline(&b, SITE_A "/dram/layer1 2 16384 tt::Buffer::create # comment\n"
			   "device0/dram/8192..16383/- 3 26999\n"
			   SITE_A "/l1/- 0 1000\n"
			   "device9/l1/0..0 1 1\n", &groups);
	ck_assert_str_eq(groups.groups[0].key, "device0/dram/8192..16383/-");
	ck_assert(groups.groups[0].fails);       /* more bytes */
	ck_assert_str_eq(groups.groups[1].key, SITE_A "/dram/layer1");
	ck_assert(!groups.groups[1].fails);      /* exactly */
	ck_assert(groups.groups[1].in_baseline);
	ck_assert(groups.groups[2].fails);       /* not in it */
	ck_assert(!groups.groups[2].in_baseline);
	ck_assert(groups.groups[3].fails);       /* more buffers */
	ck_assert(!b.list[3].seen);
	ck_assert(b.list[0].seen);
	baseline_free(&b);
	leak_groups_free(&groups);
	leak_list_free(&list);
}
END_TEST

/* Tags have lines of their own; what has none, as in files from before keys had tags, is for all the others. */
START_TEST(baseline_without_tags_is_for_all)
{
	static const struct {
		const char *text;
		bool passes[4];            /* layer0, layer1, no tag, another type */
	} c[] = {
		{ SITE_A "/dram 3 30\n", { true, true, true, false } },
		{ SITE_A "/dram 2 30\n", { false, false, false, false } },
		{ SITE_A "/dram 3 29\n", { false, false, false, false } },
		{ SITE_A "/dram/layer0 1 10\n" SITE_A "/dram 2 20\n", { true, true, true, false } },
		{ SITE_A "/dram/layer0 1 9\n" SITE_A "/dram 2 20\n", { false, true, true, false } },
		{ SITE_A "/dram/layer0 1 10\n" SITE_A "/dram 1 20\n", { true, false, false, false } },
		{ SITE_A "/dram/- 1 10\n", { false, false, true, false } },
		{ SITE_A "/dram/layer 3 30\n", { false, false, false, false } },
		{ SITE_A "/l1 1 10\n", { false, false, false, true } },
		/* by names */
		{ SITE_B "/dram 3 30 create\n", { true, true, true, false } },
		{ SITE_B "/dram 2 30 create\n", { false, false, false, false } },
		{ SITE_B "/dram/layer0 1 10 create\n", { true, false, false, false } },
		{ SITE_B "/dram/layer0 1 10 create\n" SITE_B "/dram 2 20 create\n", { true, true, true, false } },
		{ SITE_B "/dram/layer0 1 10 create\n" SITE_A "/dram 2 20 create\n", { false, false, false, false } },
		{ SITE_B "/dram/- 1 10 create\n", { false, false, true, false } },
	};
	static const char rows[] =
		HEADER
		ROW("died", 0, "dram", 10, 100, 10, SITE_A, "layer0")
		ROW("died", 0, "dram", 10, 100, 11, SITE_A, "layer1")
		ROW("died", 0, "dram", 10, 100, 12, SITE_A, "-")
		ROW("died", 0, "l1", 10, 100, 13, SITE_A, "layer0");
	static const char *const keys[] = { SITE_A "/dram/layer0", SITE_A "/dram/layer1", SITE_A "/dram/-", SITE_A "/l1/layer0" };
	struct leak_groups groups;
	struct leak_list list;
	struct stack stack;
	struct baseline b;
	size_t i, j, k;

	read_list(&list, rows);
	ck_assert_int_eq(stack_read(&stack, "  0x1 create@a.c:7 /x\n"), 0);
	for (i = 0; i < sizeof(c) / sizeof(c[0]); i++) {
		ck_assert_int_eq(leak_groups_make(&groups, &list), 0);
		ck_assert_uint_eq(groups.count, 4);
		for (j = 0; j < 4; j++)
			groups.groups[j].stack = &stack;
		ck_assert_int_eq(baseline_name(&groups), 0);
		apply_baseline(&b, c[i].text, &groups);
		for (j = 0; j < 4; j++) {
			for (k = 0; strcmp(keys[k], groups.groups[j].key) != 0; k++)
				;
			ck_assert_msg(groups.groups[j].fails != c[i].passes[k], "%s: %s", c[i].text, keys[k]);
		}
		baseline_free(&b);
		leak_groups_free(&groups);
	}
	leak_list_free(&list);
	stack_free(&stack);
}
END_TEST

/* What is written is what passes; a comment with anything in it does no harm. */
START_TEST(baseline_written_is_baseline_read)
{
	struct leak_groups groups;
	struct leak_list list;
	struct stack stack;
	struct baseline b;
	char *text = NULL;
	size_t size, i;
	FILE *file = open_memstream(&text, &size);

	ck_assert_int_eq(stack_read(&stack, "  0x1 evil%0A%23func,tion@a.c:1 /x\n  0x2 - /x\n"), 0);
	read_list(&list, one_tag);
	ck_assert_int_eq(leak_groups_make(&groups, &list), 0);
	groups.groups[1].stack = &stack;
	ck_assert_int_eq(baseline_name(&groups), 0);
	baseline_write(file, &groups);
	fclose(file);
	ck_assert_ptr_nonnull(strstr(text, "\n" SITE_A "/dram/layer1 2 16384 evil%0A%23func%2Ction\n"));
	apply_baseline(&b, text, &groups);
	ck_assert_uint_eq(b.count, groups.count);
	for (i = 0; i < groups.count; i++) {
		ck_assert(!groups.groups[i].fails);
		ck_assert(b.list[i].seen);
	}
	baseline_free(&b);
	free(text);
	leak_groups_free(&groups);
	leak_list_free(&list);
	stack_free(&stack);
}
END_TEST

/* Another build: other numbers, the same functions. */
START_TEST(baseline_goes_by_names_when_numbers_changed)
{
	static const struct {
		const char *text;
		bool passes;
	} c[] = {
		{ "0000000000000001/dram 2 16384 create,main\n", true },
		{ "0000000000000001/dram 2 16383 create,main\n", false },
		{ "0000000000000001/dram 1 16384 create,main\n", false },
		{ "0000000000000001/dram 1 12288 create,main\n0000000000000002/dram 1 4096 create,main\n", true },
		{ "0000000000000001/l1 2 16384 create,main\n", false },
		{ "0000000000000001/dram 2 16384 create\n", false },
		{ "0000000000000001/dram 2 16384\n", false },
		{ "device0/dram 2 16384 create,main\n", false },
		/* its own number counts, and what another one's number has is not for it */
		{ SITE_A "/dram 2 16384 other\n", true },
		{ SITE_A "/dram 1 16384\n0000000000000001/dram 2 16384 create,main\n", false },
		{ SITE_B "/dram 2 16384 create,main\n", false },
	};
	static const char rows[] =
		HEADER
		ROW("died", 0, "dram", 4096, 100, 10, SITE_A, "-")
		ROW("died", 1, "dram", 12288, 101, 11, SITE_A, "-")
		ROW("died", 1, "dram", 1, 101, 12, SITE_B, "-");
	struct leak_groups groups;
	struct leak_list list;
	struct stack stack;
	struct baseline b;
	size_t i;

	ck_assert_int_eq(stack_read(&stack, "  0x1 create@a.c:7 /x\n  0x2 - /y\n  0x3 main@b.c:9 /x\n"), 0);
	read_list(&list, rows);
	for (i = 0; i < sizeof(c) / sizeof(c[0]); i++) {
		ck_assert_int_eq(leak_groups_make(&groups, &list), 0);
		ck_assert_uint_eq(groups.count, 2);
		groups.groups[0].stack = &stack;
		ck_assert_int_eq(baseline_name(&groups), 0);
		apply_baseline(&b, c[i].text, &groups);
		ck_assert_msg(groups.groups[0].fails != c[i].passes, "%s", c[i].text);
		baseline_free(&b);
		leak_groups_free(&groups);
	}
	/* Two call sites of the same functions share what is known of them. */
	for (i = 0; i < 2; i++) {
		ck_assert_int_eq(leak_groups_make(&groups, &list), 0);
		groups.groups[0].stack = groups.groups[1].stack = &stack;
		ck_assert_int_eq(baseline_name(&groups), 0);
		apply_baseline(&b, i ? "0000000000000001/dram 3 16385 create,main\n" :
				       "0000000000000001/dram 2 16384 create,main\n", &groups);
		ck_assert(groups.groups[0].fails != (i == 1));
		ck_assert(groups.groups[1].fails != (i == 1));
		ck_assert(b.list[0].seen);
		baseline_free(&b);
		leak_groups_free(&groups);
	}
	leak_list_free(&list);
	stack_free(&stack);
}
END_TEST

/* Not every line is compared with all others. */
START_TEST(a_large_baseline_is_read)
{
	const unsigned lines = 20000;
	struct rules_error error;
	struct baseline b;
	char *text = NULL;
	size_t size;
	FILE *file = open_memstream(&text, &size);
	unsigned i;

	for (i = 0; i < lines; i++)
		fprintf(file, "device0/dram/%u..%u/a%%20tag%u 1 2 f%u\n", i, i, i, i);
	fclose(file);
	ck_assert_int_eq(baseline_read(&b, text, &error), 0);
	ck_assert_uint_eq(b.count, lines);
	ck_assert_str_eq(b.list[lines - 1].key, "device0/dram/19999..19999/a%20tag19999");
	ck_assert_str_eq(b.list[lines - 1].names, "f19999");
	baseline_free(&b);
	free(text);
}
END_TEST

START_TEST(bad_baselines_tell_their_line)
{
	static const char *const bad[] = { "a 1 2\nb 1", "a 1 2\nb 1 x", "a 1 2\nb 1 2 3 4", "a 1 2\na 1 2",
		"a 1 2\nb -1 -1", "a 1 2\nb +1 2", "a 1 2\nb 1 18446744073709551616" };
	struct rules_error error;
	struct baseline b;
	size_t i;

	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		ck_assert_int_eq(baseline_read(&b, bad[i], &error), -EINVAL);
		ck_assert_uint_eq(error.line, 2);
		baseline_free(&b);
	}
}
END_TEST

/* --- names --- */

START_TEST(names_are_found_by_conditions)
{
	static const struct {
		const char *conditions;
		bool matches;
	} c[] = {
		{ "type=dram", true }, { "type=l1,dram", true }, { "type=l1", false }, { "type=l1_small,l1", false },
		{ "size=4K..12K", true }, { "size=4097..12K", false }, { "size=4K..12287", false }, { "size=4096", false },
		{ "size=..12K", true }, { "size=1..", true }, { "count=2", true }, { "count=3..", false },
		{ "bytes=16K", true }, { "bytes=1M..", false }, { "device=0..1", true }, { "device=0", false },
		{ "tag=^layer1$", true }, { "tag=layer2", false }, { "comm=my", true }, { "comm=^prog", false },
		{ "frame=tt::Buffer::create", true }, { "frame=libtt_metal", true }, { "frame=other", false },
		{ "reason=died", true }, { "reason=growing,died", true }, { "reason=outlived", false },
		{ "type=dram size=4K..12K tag=layer frame=tt::*", true }, { "type=dram size=4K..12K tag=x", false },
		{ "per=device", false },
	};
	struct leak_groups groups;
	struct leak_list list;
	struct stack stack;
	char rule[128];
	size_t i;

	read_list(&list, one_tag);
	ck_assert_int_eq(stack_read(&stack, frames), 0);
	ck_assert_int_eq(leak_groups_make(&groups, &list), 0);
	groups.groups[1].stack = &stack;
	for (i = 0; i < sizeof(c) / sizeof(c[0]); i++) {
		snprintf(rule, sizeof(rule), "rule: %s: text: of it\n", c[i].conditions);
		ck_assert_msg(strcmp(name_of(rule, &groups.groups[1]), c[i].matches ? "rule" : "-") == 0, "%s", rule);
	}
	ck_assert_str_eq(name_of("a: type=l1: x\nb: type=dram: y\nc: type=dram: z\n", &groups.groups[1]), "b");
	leak_groups_free(&groups);
	leak_list_free(&list);
	stack_free(&stack);
}
END_TEST

START_TEST(names_of_devices)
{
	struct rules_error error;
	struct known k = { 0 };

	ck_assert_int_eq(known_read(&k, "s: per=device bytes=13M..16M device=0..3: system buffers\n", &error), 0);
	ck_assert_int_eq(known_read(&k, "t: per=device count=7: others\n", &error), 0);
	ck_assert_uint_eq(k.count, 2);
	ck_assert_str_eq(known_find_device(&k, 1, 12, 14 << 20)->text, "system buffers");
	ck_assert_ptr_null(known_find_device(&k, 4, 12, 14 << 20));
	ck_assert_ptr_null(known_find_device(&k, 1, 12, 17 << 20));
	ck_assert_str_eq(known_find_device(&k, 4, 7, 1)->name, "t");
	known_free(&k);
}
END_TEST

START_TEST(bad_names_tell_their_line)
{
	static const char *const bad[] = {
		"name", "name: type=dram", "name: type=dram text", "a name: type=dram: text", "name: type: text",
		"name: type=: text", "name: colour=red: text", "name: size=x: text", "name: size=2..1: text",
		"name: size=1K..2Q: text", "name: size=1...2: text", "name: size=99999999999999999999: text",
		"name: size=99999999999T: text", "name: per=host: text", "name: per=device tag=x: text",
		"name: per=device type=dram: text", "name: per=device size=1K: text", "name: type=dram,l2: text",
		"name: type=DRAM: text", "name: type=dram,: text", "name: type=,dram: text", "name: reason=dead: text",
		"name: reason=died,dead: text", "name: reason=^died$: text", "name: size=1 size=2: text",
		"name: tag=a tag=b: text",
	};
	struct rules_error error;
	struct known k;
	char text[128];
	size_t i;

	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		k = (struct known){ 0 };
		snprintf(text, sizeof(text), "# x\nok: type=dram: text\n%s\n", bad[i]);
		ck_assert_msg(known_read(&k, text, &error) == -EINVAL, "%s", bad[i]);
		ck_assert_uint_eq(error.line, 3);
		known_free(&k);
	}
}
END_TEST

/* The rules that are installed, and what they are for. */
START_TEST(our_names)
{
	static const struct {
		const char *row, *name;
	} c[] = {
		{ ROW("died", 0, "dram", 12288, 100, 10, "-", "-"), "program-cache-size" },
		{ ROW("died", 0, "dram", 24576, 100, 10, "-", "-"), "program-cache-size" },
		{ ROW("died", 0, "dram", 25000, 100, 10, "-", "-"), "-" },
		{ ROW("died", 0, "l1", 12288, 100, 10, "-", "-"), "-" },
		{ ROW("died", 0, "cb", 12288, 100, 10, "-", "-"), "circular-buffers" },
		{ ROW("died", 0, "kernel", 12288, 100, 10, "-", "-"), "kernels" },
		{ ROW("died", 0, "trace", 12288, 100, 10, "-", "-"), "trace" },
	};
	char path[512], text[8192], one[512];
	struct leak_groups groups;
	struct leak_list list;
	struct rules_error error;
	struct known k = { 0 };
	FILE *file;
	size_t i;

	snprintf(path, sizeof(path), "%s/contrib/known.conf", getenv("TTALLOC_SOURCE"));
	file = fopen(path, "r");
	ck_assert_ptr_nonnull(file);
	text[fread(text, 1, sizeof(text) - 1, file)] = '\0';
	fclose(file);
	for (i = 0; i < sizeof(c) / sizeof(c[0]); i++) {
		snprintf(one, sizeof(one), HEADER "%s", c[i].row);
		read_list(&list, one);
		ck_assert_int_eq(leak_groups_make(&groups, &list), 0);
		ck_assert_str_eq(name_of(text, &groups.groups[0]), c[i].name);
		leak_groups_free(&groups);
		leak_list_free(&list);
	}
	ck_assert_int_eq(known_read(&k, text, &error), 0);
	ck_assert_str_eq(known_find_device(&k, 5, 20, 14500000)->name, "system-buffers");
	ck_assert_ptr_null(known_find_device(&k, 5, 20, 500000));
	known_free(&k);
}
END_TEST

/* --- reports --- */

struct world {
	struct leak_list list;
	struct leak_groups groups;
	struct leak_places places;
	struct stack stack;
	struct suppressions suppressions;
	struct baseline baseline;
	struct known known;
	struct leak_report report;
};

static char *command[] = { (char[]){ "./pro\"g" }, (char[]){ "<a&b>" }, NULL };

static void world_make(struct world *w, const char *text, bool with_run)
{
	struct rules_error error;
	size_t i;

	*w = (struct world){ 0 };
	read_list(&w->list, text);
	ck_assert_int_eq(stack_read(&w->stack, frames), 0);
	ck_assert_int_eq(suppressions_read(&w->suppressions, "leak:layer1\nleak:none\n", &error), 0);
	ck_assert_int_eq(known_read(&w->known, "cache: type=dram size=12K..24K: the program cache\n"
					       "system: per=device bytes=50..150: system <buffers>\n", &error), 0);
	for (i = 0; i < w->list.count; i++)
		suppressions_apply(&w->suppressions, &w->list.leaks[i], NULL);
	ck_assert_int_eq(leak_groups_make(&w->groups, &w->list), 0);
	for (i = 0; i < w->groups.count; i++) {
		w->groups.groups[i].stack = strcmp(w->groups.groups[i].first->site, SITE_A) == 0 ? &w->stack : NULL;
		w->groups.groups[i].known = known_find(&w->known, &w->groups.groups[i]);
	}
	apply_baseline(&w->baseline, "device0/dram/8192..16383/- 2 27000\n" SITE_A "/dram 1 100\nold 1 1\n", &w->groups);
	ck_assert_int_eq(leak_places_make(&w->places, &w->groups), 0);
	w->report = (struct leak_report){
		.who = with_run ? "ttalloc run" : "ttalloc leaks", .mount = "/mnt/tt \"1\"",
		.command = with_run ? command : NULL, .status = with_run ? 3 : 0,
		.processes = 2, .groups = &w->groups, .places = &w->places, .suppressions = &w->suppressions,
		.baseline = with_run ? &w->baseline : NULL,
	};
	if (with_run)
		w->report.strangers = (struct leak_sum){ 1, 5 }, w->report.others = (struct leak_sum){ 2, 6 };
	leak_report_note(&w->report, "a note with <\"&>");
	ck_assert_int_eq(leak_report_sums(&w->report, &w->list, &w->known), 0);
}

static void world_free(struct world *w)
{
	leak_report_deinit(&w->report);
	leak_places_free(&w->places);
	leak_groups_free(&w->groups);
	leak_list_free(&w->list);
	stack_free(&w->stack);
	suppressions_free(&w->suppressions);
	baseline_free(&w->baseline);
	known_free(&w->known);
}

static void golden(const char *name, const struct leak_report *r, enum leak_format format)
{
	char path[512], *wanted = NULL, *got = NULL;
	size_t size, room = 0;
	FILE *file = open_memstream(&got, &size);

	leak_report_write(file, r, format);
	fclose(file);
	snprintf(path, sizeof(path), "%s/leak-%s", getenv("TTALLOC_GOLDEN"), name);
	file = fopen(path, getenv("TTALLOC_GOLDEN_UPDATE") ? "w" : "r");
	ck_assert_msg(file != NULL, "%s", path);
	if (getenv("TTALLOC_GOLDEN_UPDATE"))
		fwrite(got, 1, size, file);
	else if (getdelim(&wanted, &room, 0, file) < 0)
		wanted = NULL;
	fclose(file);
	if (!getenv("TTALLOC_GOLDEN_UPDATE"))
		ck_assert_msg(wanted && strcmp(wanted, got) == 0, "%s differs; found:\n%s", path, got);
	free(wanted);
	free(got);
}

START_TEST(reports)
{
	struct world w;

	world_make(&w, table, true);
	ck_assert_uint_eq(w.report.all.count, 7);
	ck_assert_uint_eq(w.report.all.bytes, 47644);
	ck_assert_uint_eq(w.report.suppressed.count, 1);
	ck_assert_uint_eq(w.report.failing.bytes, 47644 - 27000);
	ck_assert_uint_eq(w.report.device_count, 2);
	golden("run.txt", &w.report, LEAK_TEXT);
	golden("run.json", &w.report, LEAK_JSON);
	golden("run.xml", &w.report, LEAK_JUNIT);
	world_free(&w);
	world_make(&w, table, false);
	golden("leaks.txt", &w.report, LEAK_TEXT);
	golden("leaks.json", &w.report, LEAK_JSON);
	golden("leaks.xml", &w.report, LEAK_JUNIT);
	world_free(&w);
	world_make(&w, tagged, true);
	ck_assert_uint_eq(w.groups.count, 14);
	ck_assert_uint_eq(w.places.count, 3);
	golden("places.txt", &w.report, LEAK_TEXT);
	golden("places.xml", &w.report, LEAK_JUNIT);
	world_free(&w);
	world_make(&w, HEADER, true);
	w.report.status = 0;
	w.report.error = "nothing has <reported>";
	golden("error.txt", &w.report, LEAK_TEXT);
	golden("error.json", &w.report, LEAK_JSON);
	golden("error.xml", &w.report, LEAK_JUNIT);
	w.report.status = 3;
	golden("error-status.xml", &w.report, LEAK_JUNIT);
	world_free(&w);
	world_make(&w, HEADER, false);
	golden("none.txt", &w.report, LEAK_TEXT);
	golden("none.json", &w.report, LEAK_JSON);
	golden("none.xml", &w.report, LEAK_JUNIT);
	world_free(&w);
}
END_TEST

static bool is_not_seven(void *data, const char *pid)
{
	++*(unsigned *)data;
	return strcmp(pid, "7") != 0;
}

#define TRACE "# time seq kind device type address size pid refs site\n"

START_TEST(double_frees)
{
	static const char trace[] = TRACE
		"1.000000 1 alloc 0 dram 0x000000001000 64 5 1 " SITE_A "\n"
		"1.000000 2 double_free 0 - 0x000000001000 - 5 - " SITE_A "\n"
		"1.000000 3 double_free 1 - 0x000000002000 - 6 - -\n"
		"1.000000 4 double_free 0 - 0x000000003000 - 7 - " SITE_B "\n"
		"1.000000 5 unknown_free 0 - 0x000000001000 - 5 - " SITE_A "\n"
		"1.000000 6 double_free 0 - 0x000000004000 - 5 - " SITE_A "\n"
		"1.000000 7 mark - - - - 5 - -\n";
	unsigned asked = 0;
	struct world w;

	world_make(&w, HEADER, true);
	odd_frees_count(&w.report.odd, "pid 5\nlost 0\ndouble_frees 3\nunknown_frees 1\nforeign_frees 0\n");
	odd_frees_count(&w.report.odd, "pid 6\nlost 0\ndouble_frees 1\nunknown_frees 0\nforeign_frees 2\n");
	ck_assert_int_eq(odd_frees_take(&w.report.odd, trace, is_not_seven, &asked), 0);
	ck_assert_uint_eq(asked, 4);
	ck_assert_int_eq(odd_frees_group(&w.report.odd), 0);
	ck_assert_uint_eq(w.report.odd.places.count, 2);
	w.report.odd.places.groups[0].stack = &w.stack;
	golden("odd.txt", &w.report, LEAK_TEXT);
	golden("odd.json", &w.report, LEAK_JSON);
	golden("odd.xml", &w.report, LEAK_JUNIT);
	odd_frees_free(&w.report.odd);
	world_free(&w);
}
END_TEST

START_TEST(escapes)
{
	char text[] = "a%20b%25%zz%0%00%c3%A9%";

	escape_undo(text);
	ck_assert_str_eq(text, "a b%%zz%0%00\xc3\xa9%");
}
END_TEST

/* --- what has come and gone --- */

#define ALLOCS "# device type address size refs pid uid time seq site tag comm\n"

static void make_diff(struct diff *d, const char *a, const char *b, struct leak_list lists[2])
{
	size_t i;
	const char *text[2] = { a, b };
	bool with_sites = true;

	for (i = 0; i < 2; i++) {
		lists[i] = (struct leak_list){ 0 };
		with_sites &= text[i][0] == '#';
		ck_assert_int_eq(text[i][0] == '#' ? leak_list_read(&lists[i], text[i]) :
						     leak_dump_read(&lists[i], text[i]), 0);
	}
	ck_assert_int_eq(diff_make(d, &lists[0], &lists[1], with_sites), 0);
}

static void free_diff(struct diff *d, struct leak_list lists[2])
{
	diff_free(d);
	leak_list_free(&lists[0]);
	leak_list_free(&lists[1]);
}

START_TEST(diff_of_tables)
{
	struct leak_list lists[2];
	struct diff d;

	make_diff(&d, ALLOCS "0 dram 0x40 100 1 5 0 10.000000 1 " SITE_A " - p\n"      /* goes */
			     "0 dram 0x80 200 1 5 0 10.000000 2 " SITE_A " - p\n"      /* stays */
			     "0 l1 0x40 300 1 5 0 10.000000 3 " SITE_B " - p\n"        /* grows */
			     "1 dram 0x40 400 1 5 0 10.000000 4 - - p\n",              /* becomes another one */
		  ALLOCS "1 dram 0x40 400 1 5 0 11.000000 9 - - p\n"
			 "0 l1 0x40 350 1 5 0 10.000000 3 " SITE_B " - p\n"
			 "0 dram 0x80 200 1 5 0 10.000000 2 " SITE_A " - p\n"
			 "0 dram 0xc0 1000 1 5 0 12.000000 10 - - p\n", lists);         /* comes */
	ck_assert_uint_eq(d.device_count, 3);
	ck_assert_str_eq(d.devices[0].key, "device0/dram");
	ck_assert_uint_eq(d.devices[0].before.bytes, 300);
	ck_assert_uint_eq(d.devices[0].after.bytes, 1200);
	ck_assert_uint_eq(d.devices[0].came.bytes, 1000);
	ck_assert_uint_eq(d.devices[0].went.bytes, 100);
	ck_assert_str_eq(d.devices[1].key, "device0/l1");
	ck_assert_uint_eq(d.devices[1].resized, 1);
	ck_assert_uint_eq(d.devices[1].came.count, 0);
	ck_assert_str_eq(d.devices[2].key, "device1/dram");
	ck_assert_uint_eq(d.devices[2].came.count, 1);
	ck_assert_uint_eq(d.devices[2].went.count, 1);
	ck_assert_uint_eq(d.group_count, 4);
	ck_assert_str_eq(d.groups[0].key, "device0/dram/512..1023/-");
	ck_assert_str_eq(d.groups[1].key, SITE_B "/l1/-");
	ck_assert_str_eq(d.groups[2].key, "device1/dram/256..511/-");
	ck_assert_str_eq(d.groups[3].key, SITE_A "/dram/-");
	ck_assert_uint_eq(d.groups[3].went.count, 1);
	ck_assert_uint_eq(d.total.came.count, 2);
	ck_assert_uint_eq(d.total.went.bytes, 500);
	free_diff(&d, lists);
}
END_TEST

#define DUMP(time) "\nREMAINING ALLOCATED BUFFERS  2024-11-20 05:55:" time "  ttalloc 0.1.0\n\nDevice 0:\n"

#define DUMP_END(count) "\nTotal remaining buffers: " count "\n"

START_TEST(diff_of_dumps)
{
	struct leak_list lists[2];
	struct diff d;

	make_diff(&d, DUMP("04") "  DRAM: 3 buffers, 0.1 MB total\n"
		  "    - Buffer 0x000040000000: 12.0 KB (PID 5 my%20p, ref_count=1)  allocated 4.0 s ago\n"
		  "        History (allocs=3 frees=2): ALLOC size=12288 pid=5 ref=1\n"
		  "    - Buffer 0x000040003000: 1023 B (PID 5 p, ref_count=1)  allocated 4.0 s ago  owner ended\n"
		  "    - Buffer 0x000040005000: 100 B (PID - -, ref_count=1)  allocated 4.0 s ago\n"
		  "  Total: 3 buffers, 0.1 MB\n\nTotal remaining buffers: 3\n",
		  DUMP("14") "  DRAM: 2 buffers, 0.1 MB total\n"
		  "    - Buffer 0x000040000000: 12.0 KB (PID 5 my%20p, ref_count=1)  allocated 14.3 s ago\n"
		  "    - Buffer 0x000040003000: 1023 B (PID 5 p, ref_count=1)  allocated 1.0 s ago\n"
		  "\nDevice 12:\n  L1_SMALL: 1 buffer, 1 MB total\n"
		  "    - Buffer 0x000040000000: 1.5 KB (PID 5 my%20p, ref_count=1, application)  allocated 1.3 s ago\n"
		  DUMP_END("3"),
		  lists);
	ck_assert_str_eq(lists[0].leaks[0].comm, "my p");
	ck_assert_uint_eq(d.device_count, 2);
	ck_assert_uint_eq(d.devices[0].before.bytes, 12288 + 1023 + 100);
	ck_assert_uint_eq(d.devices[0].came.count, 1);
	ck_assert_uint_eq(d.devices[0].went.count, 2);
	ck_assert_str_eq(d.devices[1].key, "device12/l1_small");
	ck_assert_uint_eq(d.devices[1].after.bytes, 1536);
	free_diff(&d, lists);
}
END_TEST

/* Rounded sizes are no growth. */
START_TEST(diff_of_a_dump_and_a_table)
{
	struct leak_list lists[2];
	struct diff d;

	make_diff(&d, DUMP("04") "  DRAM: 3 buffers, 0.1 MB total\n"
		  "    - Buffer 0x40: 29.3 KB (PID 5 p, ref_count=1)  allocated 4.0 s ago\n"
		  "    - Buffer 0x80: 29.3 KB (PID 5 p, ref_count=1)  allocated 4.0 s ago\n" DUMP_END("2"),
		  ALLOCS "0 dram 0x40 30000 1 5 0 1732082100.500000 1 " SITE_A " - p\n"
		  "0 dram 0x80 31000 1 5 0 1732082100.500000 2 " SITE_A " - p\n", lists);
	ck_assert_uint_eq(d.total.came.count, 0);
	ck_assert_uint_eq(d.total.resized, 1);
	ck_assert_uint_eq(d.group_count, 1);
	ck_assert_str_eq(d.groups[0].key, "device0/dram/16384..32767/-");
	free_diff(&d, lists);
}
END_TEST

START_TEST(what_is_no_dump_is_refused)
{
	struct leak_list list = { 0 };

	ck_assert_int_eq(leak_dump_read(&list, ""), -EPROTO);
	ck_assert_int_eq(leak_dump_read(&list, "\n\nhello"), -EPROTO);
	ck_assert_int_eq(leak_dump_read(&list, "REMAINING ALLOCATED BUFFERS  yesterday\n"), -EPROTO);
	/* nothing that could be taken for a buffer */
	ck_assert_int_eq(leak_dump_read(&list, DUMP("04") "    - Buffer 0x40: 1 B (PID 5 p, ref_count=1)\n"
					       "  DRAM:\n    - Buffer 0x40: -1 B (PID 5 p, ref_count=1)\n"
					       "    - Buffer 0x40: x\n    - Buffer\n" DUMP_END("0")), 0);
	ck_assert_uint_eq(list.count, 0);
	leak_list_free(&list);
}
END_TEST

START_TEST(a_part_of_a_dump_is_refused)
{
	static const char *const parts[] = {
		DUMP("04"),
		DUMP("04") "  DRAM:\n    - Buffer 0x40: 1 B (PID 5 p, ref_count=1)\n",
		DUMP("04") "  DRAM:\n    - Buffer 0x40: 1 B (PID 5 p, ref_count=1)\n" DUMP_END("2"),
		DUMP("04") "  DRAM:\n    - Buffer 0x40: 1 B (PID 5 p, ref_count=1)\n" DUMP_END("0"),
		DUMP("04") "  DRAM:\n    - Buffer 0x40: 1 B (PID 5 p, ref_count=1)\n\nTotal remaining buffers: ",
		DUMP("04") "  DRAM:\n    - Buffer 0x40: 1 B (PID 5 p, ref_count=1)\n"
			   "... cut: 100 more bytes, in the server's log\n",
	};
	struct leak_list list;
	size_t i;

	for (i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
		list = (struct leak_list){ 0 };
		ck_assert_msg(leak_dump_read(&list, parts[i]) == -ENODATA, "%s", parts[i]);
		leak_list_free(&list);
	}
}
END_TEST

int main(void)
{
	Suite *s = suite_create("leak");
	TCase *t = tcase_create("leak");
	SRunner *runner = srunner_create(s);
	const TTest *const tests[] = {
		rows_are_read, columns_are_found_by_name, what_is_no_table_is_refused, stacks_are_read,
		groups_are_by_site_or_class_and_tag, many_values_are_cut, no_leaks_no_groups, patterns,
		suppressions_apply_and_count, bad_suppressions_tell_their_line, baseline_lets_pass_what_is_known,
		baseline_without_tags_is_for_all, baseline_written_is_baseline_read,
		baseline_goes_by_names_when_numbers_changed, a_large_baseline_is_read, bad_baselines_tell_their_line,
		names_are_found_by_conditions,
		names_of_devices, bad_names_tell_their_line, our_names, reports, double_frees, escapes, diff_of_tables, diff_of_dumps,
		diff_of_a_dump_and_a_table, what_is_no_dump_is_refused, a_part_of_a_dump_is_refused,
	};
	size_t i;
	int failed;

	for (i = 0; i < sizeof(tests) / sizeof(tests[0]); i++)
		tcase_add_test(t, tests[i]);
	suite_add_tcase(s, t);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
