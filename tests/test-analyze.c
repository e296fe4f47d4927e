/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * test-analyze.c - what lines of logs say, and what becomes of the buffers they speak of.
 */
#include <check.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/analyze-book.h"
#include "client/analyze-line.h"

#define EVENT "1732082104.123456 88213 "

/* --- lines --- */

static struct line parse(const char *text)
{
	const size_t length = strlen(text);
	char *exact = malloc(length + 1);
	struct line line;

	/* Without the zero: what is read behind the end is seen by AddressSanitizer. */
	ck_assert_ptr_nonnull(exact);
	memcpy(exact, text, length);
	exact = realloc(exact, length ? length : 1);
	ck_assert_ptr_nonnull(exact);
	line_parse(exact, length, &line);
	/* Only for comparison: the texts are gone. */
	free(exact);
	return line;
}

/* What is read of a line, in one word per field. */
static void describe(char text[256], const struct line *l)
{
	snprintf(text, 256, "%s %d device %" PRId32 " type %s address %s%" PRIx64 "/%d size %" PRIu64 " old %" PRIu64
		 " pid %" PRId32 " refs %" PRIu32,
		 line_kind_name(l->kind), (int)l->source, l->device == LINE_NO_DEVICE ? -9999 : l->device,
		 line_type_name(l->type), l->has_address ? "" : "no ", l->address, (int)l->notation, l->size,
		 l->old_size, l->pid, l->refs);
}

static const struct example {
	const char *text;
	const char *wanted;
} examples[] = {
	/* the existing servers, in each of their ages */
	{ "✓ [PID 12345] Allocated 104857600 bytes of DRAM on device 0 (buffer_id=2560032)",
	  "alloc 0 device 0 type dram address 271020/1 size 104857600 old 0 pid 12345 refs 0" },
	{ "✓ [PID 1] Allocated 4096 bytes of L1_SMALL on device 31 (buffer_id=0x7f8a2c000000)",
	  "alloc 0 device 31 type l1_small address 7f8a2c000000/0 size 4096 old 0 pid 1 refs 0" },
	{ "✓ [PID 1] Allocated 4096 bytes of SYSTEM_MEMORY on device 3 (buffer_id=7f8a2c000000)",
	  "alloc 0 device 3 type system_memory address 7f8a2c000000/2 size 4096 old 0 pid 1 refs 0" },
	{ "✓ [PID 1] Allocated 4096 bytes of TRACE on device 3 (buffer_id=DEAD)",
	  "alloc 0 device 3 type trace address dead/2 size 4096 old 0 pid 1 refs 0" },
	{ "✓ [PID 1] Allocated 8 bytes of UNKNOWN on device 3 (buffer_id=0X40, ref_count=2)",
	  "alloc 0 device 3 type - address 40/0 size 8 old 0 pid 1 refs 2" },
	{ "time=12 host | [PID 1] Allocated 8 bytes of L1 on device 3 (buffer_id=18446744073709551615)\r",
	  "alloc 0 device 3 type l1 address ffffffffffffffff/1 size 8 old 0 pid 1 refs 0" },
	{ "✗ [PID 5] Freed buffer 0x40 on device 0 (4096 bytes, FINAL)",
	  "free 0 device 0 type - address 40/0 size 4096 old 0 pid 5 refs 0" },
	{ "✗ [PID 5] Freed buffer 64 on device 0 (4096 bytes)",
	  "free 0 device 0 type - address 40/1 size 4096 old 0 pid 5 refs 0" },
	{ "✗ [PID 5] Freed buffer 64 on device 0 (4096 bytes, ref_count=3 remaining)",
	  "unref 0 device 0 type - address 40/1 size 4096 old 0 pid 5 refs 3" },
	{ "⚠ [PID 5] Deallocation for unknown buffer 64 on device 2 (allocated before tracking started)",
	  "unknown_free 0 device 2 type - address 40/1 size 0 old 0 pid 5 refs 0" },
	{ "⚠ [PID 5] Deallocation for unknown buffer 0x40 on device 2 (never tracked or allocated before server started)",
	  "unknown_free 0 device 2 type - address 40/0 size 0 old 0 pid 5 refs 0" },
	{ "⚠ Warning: Deallocation for unknown buffer 1073739776",
	  "unknown_free 0 device -9999 type - address 3ffff800/1 size 0 old 0 pid 0 refs 0" },
	{ "⚠ [PID 5] Deallocation for ALREADY FREED buffer 0x40 on device 2 (allocs=1 frees=2)",
	  "double_free 0 device 2 type - address 40/0 size 0 old 0 pid 5 refs 0" },
	{ "⚠ [PID 5] Buffer reused with DIFFERENT size: old=4096 new=8192 (buffer_id=64, device=1)",
	  "resize 0 device 1 type - address 40/0 size 8192 old 4096 pid 5 refs 0" },
	{ "✓ [CB_ALLOC] Device 1: +0.25 MB (Total: 0.5 MB)",
	  "sum 0 device 1 type cb address no 0/0 size 0 old 0 pid 0 refs 0" },
	{ "✗ [CB_FREE] Device 0: -0 MB (Total: 21.7494 MB)",
	  "sum 0 device 0 type cb address no 0/0 size 0 old 0 pid 0 refs 0" },
	{ "✓ [KERNEL_LOAD] Application kernel on Device 2: +2.5 MB (Total: 382.2 MB)",
	  "sum 0 device 2 type kernel address no 0/0 size 0 old 0 pid 0 refs 0" },
	{ "✗ [KERNEL_UNLOAD] Fabric kernel on Device 0: -2.5 MB (Total: 379.7 MB)",
	  "sum 0 device 0 type kernel address no 0/0 size 0 old 0 pid 0 refs 0" },
	{ "   PID 77 is dead, removing its buffers...",
	  "exit 0 device -9999 type - address no 0/0 size 0 old 0 pid 77 refs 0" },
	/* tables */
	{ EVENT "alloc 0 dram 0x000040000000 12288 12345 1",
	  "alloc 1 device 0 type dram address 40000000/0 size 12288 old 0 pid 12345 refs 1" },
	{ EVENT "alloc 0 dram 0x000040000000 12288 12345 1 3f4741b293c957e7",
	  "alloc 1 device 0 type dram address 40000000/0 size 12288 old 0 pid 12345 refs 1" },
	{ EVENT "ref 0 dram 0x000040000000 12288 12345 2 -",
	  "ref 1 device 0 type dram address 40000000/0 size 12288 old 0 pid 12345 refs 2" },
	{ EVENT "resize 0 dram 0x000040000000 1 12345 2",
	  "resize 1 device 0 type dram address 40000000/0 size 1 old 0 pid 12345 refs 2" },
	{ EVENT "free 1023 system_memory 0xffffffffffffffff 1 - -",
	  "free 1 device 1023 type system_memory address ffffffffffffffff/0 size 1 old 0 pid 0 refs 0" },
	{ EVENT "unref 0 trace 0x000000000001 7 3 1",
	  "unref 1 device 0 type trace address 1/0 size 7 old 0 pid 3 refs 1" },
	{ EVENT "double_free 0 - 0x000000000001 - 3 -",
	  "double_free 1 device 0 type - address 1/0 size 0 old 0 pid 3 refs 0" },
	{ EVENT "unknown_free 0 cb 0x000000000001 - 3 -",
	  "unknown_free 1 device 0 type cb address 1/0 size 0 old 0 pid 3 refs 0" },
	{ EVENT "foreign_free 0 kernel 0x000000000001 - 3 -",
	  "foreign_free 1 device 0 type kernel address 1/0 size 0 old 0 pid 3 refs 0" },
	{ EVENT "exit - - - - 12345 -", "exit 1 device -9999 type - address no 0/0 size 0 old 0 pid 12345 refs 0" },
	{ EVENT "connect - - - - 12345 -", "note 1 device -9999 type - address no 0/0 size 0 old 0 pid 12345 refs 0" },
	{ EVENT "lost - - - 17 - -", "lost 1 device -9999 type - address no 0/0 size 17 old 0 pid 0 refs 0" },
	{ EVENT "reset - - - - 1 -", "reset 1 device -9999 type - address no 0/0 size 0 old 0 pid 1 refs 0" },
	/* the detailed log, and columns that a later version appends */
	{ EVENT "alloc -7 255 0x000000000040 - 50 - 51 - prog+0x1 a/b",
	  "alloc 2 device -7 type - address 40/0 size 0 old 0 pid 50 refs 0" },
	{ EVENT "free 0 - 0x000000000040 - 50 - 51 - - - more and more",
	  "free 2 device 0 type - address 40/0 size 0 old 0 pid 50 refs 0" },
	/* nothing, notes of people, headers */
	{ "", "blank 0 device -9999 type - address no 0/0 size 0 old 0 pid 0 refs 0" },
	{ " \t\r", "blank 0 device -9999 type - address no 0/0 size 0 old 0 pid 0 refs 0" },
	{ "# time seq kind", "blank 0 device -9999 type - address no 0/0 size 0 old 0 pid 0 refs 0" },
};

START_TEST(line_is_understood)
{
	const struct example *e = &examples[_i];
	const struct line line = parse(e->text);
	char text[256];

	describe(text, &line);
	ck_assert_msg(strcmp(text, e->wanted) == 0, "%s\n  is: %s\nwant: %s", e->text, text, e->wanted);
}
END_TEST

static const char *const garbage[] = {
	"garbage", "[PID ", "[PID 12", "[PID 12]", "[PID 12] ", "[PID 99999999999] Allocated 1 bytes of L1",
	"✓ [PID 1] Allocated ",
	"✓ [PID 1] Allocated x bytes of DRAM on device 0 (buffer_id=1)",
	"✓ [PID 1] Allocated 1 bytes of DRAM on device 0 (buffer_id=)",
	"✓ [PID 1] Allocated 1 bytes of DRAM on device 0 (buffer_id=1",
	"✓ [PID 1] Allocated 1 bytes of DRAM on device 0 (buffer_id=0x10000000000000000)",
	"✓ [PID 1] Allocated 18446744073709551616 bytes of DRAM on device 0 (buffer_id=1)",
	"✓ [PID 1] Allocated 1 bytes of DRAM on device 2147483648 (buffer_id=1)",
	"✓ [PID 1] Allocated 1 bytes of DRAM (buffer_id=1)",
	"✗ [PID 1] Freed buffer 1 on device 0 (", "✗ [PID 1] Freed buffer on device 0 (1 bytes, FINAL)",
	"✗ [PID 1] Freed buffer 1 on device 0 (1 bytes, ref_count=",
	"⚠ [PID 5] Buffer reused with DIFFERENT size: old=4096 new=8192",
	"⚠ [PID 5] Deallocation for unknown buffer 1073Freed buffer 4096 on device 0 (9 bytes, FINAL)",
	"   ✓ Removed 2 buffers (0.008 MB) from PID 100", "the server is dead, removing its buffers",
	"✓ [CB_ALLOC] Device : +0.25 MB", "[KERNEL_LOAD] Device 1",
	"    - Buffer 0x1000: 2.0 KB (PID 7, ref_count=1)", "  1732082101.000000 ALLOC size=524288 pid=12345 ref=1",
	EVENT "alloc 0 dram 0x000040000000 12288 12345", EVENT "alloc 0 dram 0x000040000000 12288 12345 1 17",
	EVENT "alloc 0 dram 0x000040000000 12288 12345 1 3f4741b293c957e", EVENT "alloc 0 dram 0x40 1 1 1 3f4741b293c957eg",
	EVENT "alloc 0 dram 0x40 1 1 1 03f4741b293c957e7", EVENT "alloc 0 dram 0x40 1 1 1 3f4741b293c957e7 -",
	EVENT "alloc 0 dram 0x000040000000 12288 50 - 50 - prog+0x1", EVENT "alloc - dram 0x000040000000 1 1 1",
	EVENT "alloc 0 dram - 1 1 1", EVENT "alloc 0 dram 40000000 1 1 1", EVENT "alloc 0 dram 0x4g 1 1 1",
	EVENT "alloc 0 dram 0x40 1x 1 1", EVENT "alloc 0 dram 0x40 1 -1 1", EVENT "allocs 0 dram 0x40 1 1 1",
	EVENT "sum 0 dram 0x40 1 1 1", EVENT "blank - - - - - -", "1732082104 1 alloc 0 dram 0x40 1 1 1",
	"1732082104.12 1 alloc 0 dram 0x40 1 1 1", "173208210400000000.123456 1 alloc 0 dram 0x40 1 1 1",
};

START_TEST(garbage_is_not)
{
	ck_assert_msg(parse(garbage[_i]).kind == LINE_UNKNOWN, "%s", garbage[_i]);
}
END_TEST

START_TEST(origin_points_into_the_line)
{
	const char *text = EVENT "alloc 0 dram 0x40 1 50 - 51 - prog+0x1 a/b";
	struct line line;

	line_parse(text, strlen(text), &line);
	ck_assert_int_eq(line.time, INT64_C(1732082104123456));
	ck_assert_uint_eq(line.seq, 88213);
	ck_assert_uint_eq(line.caller_length, 8);
	ck_assert_mem_eq(line.caller, "prog+0x1", 8);
	ck_assert_uint_eq(line.tag_length, 3);
	ck_assert_mem_eq(line.tag, "a/b", 3);
	text = EVENT "free 0 dram 0x40 1 50 - 3f4741b293c957e7";
	line_parse(text, strlen(text), &line);
	ck_assert_uint_eq(line.caller_length, 16);
	ck_assert_mem_eq(line.caller, "3f4741b293c957e7", 16);
	ck_assert_uint_eq(line.tag_length, 0);
}
END_TEST

START_TEST(digits_as_hex)
{
	uint64_t hex = 77;

	ck_assert(line_as_hex(0, &hex) && hex == 0);
	ck_assert(line_as_hex(1234567890, &hex) && hex == 0x1234567890);
	ck_assert(line_as_hex(UINT64_C(9999999999999999), &hex) && hex == UINT64_C(0x9999999999999999));
	ck_assert(!line_as_hex(UINT64_C(10000000000000000), &hex));
}
END_TEST

/* --- the book --- */

static struct book *book;
static uint64_t line_number;

static void setup(void)
{
	const struct wanted wanted = { .any = true, .all_devices = true, .address = 0x40 };

	book = book_new(&wanted);
	ck_assert_ptr_nonnull(book);
	line_number = 0;
}

static void teardown(void)
{
	book_free(book);
}

static void take(const char *text)
{
	const struct place place = { .line = ++line_number };
	struct line line;

	line_parse(text, strlen(text), &line);
	ck_assert_int_eq(book_line(book, &line, &place), 0);
}

struct sought {
	int32_t device;
	uint64_t address;
	int32_t pid;               /* -1: any */
	unsigned n;
	const struct buffer *buffer;
};

static int seek(void *arg, const struct address *a, const struct buffer *buffer)
{
	struct sought *s = arg;

	if (a->device == s->device && a->value == s->address && (s->pid < 0 || buffer->pid == s->pid)) {
		s->n++;
		s->buffer = buffer;
	}
	return 0;
}

static const struct buffer *buffer_of(int32_t device, uint64_t address, int32_t pid)
{
	struct sought s = { .device = device, .address = address, .pid = pid };

	book_each(book, seek, &s);
	ck_assert_uint_eq(s.n, 1);
	return s.buffer;
}

static void expect(uint64_t address, int32_t pid, const char *wanted)
{
	const struct buffer *b = buffer_of(0, address, pid);
	char text[256];

	snprintf(text, sizeof(text),
		 "%s refs %u allocs %u frees %u double %u unknown %u foreign %u resized %u reused %u size %" PRIu64,
		 book_is_left(book, b) ? "left" : book_is_held(book, b) ? "held" : "gone", b->refs, b->allocs,
		 b->frees, book_faults(b, FAULT_DOUBLE_FREE), book_faults(b, FAULT_UNKNOWN_FREE), book_faults(b, FAULT_FOREIGN_FREE),
		 book_faults(b, FAULT_RESIZE), book_faults(b, FAULT_REUSE), b->size);
	ck_assert_str_eq(text, wanted);
}

#define ALLOC(address, rest) "[PID 1] Allocated 100 bytes of L1 on device 0 (buffer_id=" address rest ")"
#define FREE(address, rest) "[PID 1] Freed buffer " address " on device 0 (100 bytes, " rest ")"
#define DETAIL(rest, pid) "1.000001 1 " rest " " pid " - 9 - - -"

START_TEST(server_counts_references)
{
	take(ALLOC("64", ""));
	take(ALLOC("64", ""));
	take(ALLOC("64", ", ref_count=3"));
	expect(64, 1, "held refs 3 allocs 1 frees 0 double 0 unknown 0 foreign 0 resized 0 reused 0 size 100");
	take(FREE("64", "ref_count=2 remaining"));
	take("[PID 2] Freed buffer 64 on device 0 (100 bytes, FINAL)");
	expect(64, 1, "gone refs 0 allocs 1 frees 1 double 0 unknown 0 foreign 0 resized 0 reused 0 size 100");
	take("[PID 1] Deallocation for unknown buffer 64 on device 0 (allocated before tracking started)");
	expect(64, 1, "gone refs 0 allocs 1 frees 1 double 1 unknown 0 foreign 0 resized 0 reused 0 size 100");
	take("[PID 3] Allocated 50 bytes of DRAM on device 0 (buffer_id=64)");
	expect(64, 3, "held refs 1 allocs 2 frees 1 double 1 unknown 0 foreign 0 resized 0 reused 1 size 50");
}
END_TEST

START_TEST(server_drops_what_the_dead_left)
{
	take(ALLOC("0x40", ""));
	take("   PID 1 is dead, removing its buffers...");
	expect(64, 1, "left refs 1 allocs 1 frees 0 double 0 unknown 0 foreign 0 resized 0 reused 0 size 100");
	take("[PID 2] Allocated 200 bytes of DRAM on device 0 (buffer_id=0x40)");
	take("[PID 2] Freed buffer 0x40 on device 0 (200 bytes, FINAL)");
	expect(64, 1, "left refs 1 allocs 1 frees 0 double 0 unknown 0 foreign 0 resized 0 reused 0 size 100");
	expect(64, 2, "gone refs 0 allocs 1 frees 1 double 0 unknown 0 foreign 0 resized 0 reused 0 size 200");
}
END_TEST

START_TEST(letters_make_all_numbers_hex)
{
	take(ALLOC("1000", ""));
	take(ALLOC("40", ""));
	take(ALLOC("99999999999999999999", ""));
	take(ALLOC("12345678901234567890", ""));
	take(ALLOC("0x2000", ""));
	take(ALLOC("2000", ""));
	take(ALLOC("4096", ""));
	take(ALLOC("1a", ""));
	take(FREE("1000", "FINAL"));
	take(FREE("1A", "FINAL"));
	expect(0x1000, -1, "gone refs 0 allocs 1 frees 1 double 0 unknown 0 foreign 0 resized 0 reused 0 size 100");
	expect(0x4096, -1, "held refs 1 allocs 1 frees 0 double 0 unknown 0 foreign 0 resized 0 reused 0 size 100");
	expect(0x1a, -1, "gone refs 0 allocs 1 frees 1 double 0 unknown 0 foreign 0 resized 0 reused 0 size 100");
	/* It cannot be hex: too long. */
	expect(UINT64_C(12345678901234567890), -1,
	       "held refs 1 allocs 1 frees 0 double 0 unknown 0 foreign 0 resized 0 reused 0 size 100");
	ck_assert_uint_eq(book_counts(book)->unknown, 1);
}
END_TEST

START_TEST(detail_is_worked_out)
{
	take(DETAIL("alloc 0 dram 0x40 100", "5"));
	take(DETAIL("alloc 0 dram 0x40 150", "5"));
	expect(64, 5, "held refs 2 allocs 1 frees 0 double 0 unknown 0 foreign 0 resized 1 reused 0 size 150");
	take(DETAIL("free 0 - 0x40 -", "5"));
	take(DETAIL("free 0 - 0x40 -", "5"));
	take(DETAIL("free 0 - 0x40 -", "5"));
	expect(64, 5, "gone refs 0 allocs 1 frees 1 double 1 unknown 0 foreign 0 resized 1 reused 0 size 150");
	take(DETAIL("free 0 - 0x41 -", "5"));
	expect(65, 5, "gone refs 0 allocs 0 frees 0 double 0 unknown 1 foreign 0 resized 0 reused 0 size 0");
}
END_TEST

/* Not that of whatever else went wrong there later. */
START_TEST(each_fault_has_its_own_line)
{
	const struct buffer *b;

	take(DETAIL("alloc 0 dram 0x40 100", "5"));
	take(DETAIL("alloc 0 dram 0x40 150", "5"));
	take(DETAIL("free 0 - 0x40 -", "5"));
	take(DETAIL("free 0 - 0x40 -", "5"));
	take(DETAIL("free 0 - 0x40 -", "5"));
	take(DETAIL("free 0 - 0x40 -", "5"));
	take(DETAIL("alloc 0 dram 0x40 200", "5"));
	take(DETAIL("free 0 - 0x40 -", "6"));
	b = buffer_of(0, 64, 5);
	ck_assert_uint_eq(book_fault_place(b, FAULT_RESIZE).line, 2);
	ck_assert_uint_eq(book_fault_place(b, FAULT_DOUBLE_FREE).line, 6);
	ck_assert_uint_eq(book_fault_place(b, FAULT_REUSE).line, 7);
	ck_assert_uint_eq(book_fault_place(b, FAULT_FOREIGN_FREE).line, 8);
	ck_assert_uint_eq(book_fault_place(b, FAULT_UNKNOWN_FREE).line, 0);
}
END_TEST

START_TEST(detail_of_several_processes)
{
	take(DETAIL("alloc 0 dram 0x40 100", "5"));
	take(DETAIL("alloc 0 dram 0x40 200", "6"));
	take(DETAIL("free 0 - 0x40 -", "6"));
	/* A child frees for its parent. */
	take(DETAIL("free 0 - 0x40 -", "7"));
	expect(64, 5, "gone refs 0 allocs 1 frees 1 double 0 unknown 0 foreign 1 resized 0 reused 0 size 100");
	expect(64, 6, "gone refs 0 allocs 1 frees 1 double 0 unknown 0 foreign 0 resized 0 reused 0 size 200");
	/* Nobody has it any more; the one freed last was 5's. */
	take(DETAIL("free 0 - 0x40 -", "7"));
	expect(64, 5, "gone refs 0 allocs 1 frees 1 double 1 unknown 0 foreign 1 resized 0 reused 0 size 100");
	expect(64, 6, "gone refs 0 allocs 1 frees 1 double 0 unknown 0 foreign 0 resized 0 reused 0 size 200");
}
END_TEST

/* Whose is freed would be a guess. */
START_TEST(detail_of_several_candidates)
{
	take(DETAIL("alloc 0 dram 0x40 100", "5"));
	take(DETAIL("alloc 0 dram 0x40 200", "6"));
	take(DETAIL("free 0 - 0x40 -", "7"));
	expect(64, 5, "held refs 1 allocs 1 frees 0 double 0 unknown 0 foreign 0 resized 0 reused 0 size 100");
	expect(64, 6, "held refs 1 allocs 1 frees 0 double 0 unknown 0 foreign 0 resized 0 reused 0 size 200");
	expect(64, 7, "gone refs 0 allocs 0 frees 0 double 0 unknown 0 foreign 1 resized 0 reused 0 size 0");
	take(DETAIL("alloc 0 cb 0x80 100", "5"));
	take(DETAIL("free 0 cb 0x80 -", "6"));
	expect(128, 5, "held refs 1 allocs 1 frees 0 double 0 unknown 0 foreign 0 resized 0 reused 0 size 100");
	expect(128, 6, "gone refs 0 allocs 0 frees 0 double 0 unknown 1 foreign 0 resized 0 reused 0 size 0");
}
END_TEST

/* Types and kernels share numbers; a free without a type means what was allocated last. */
START_TEST(types_at_one_address)
{
	struct sought s = { .device = 0, .address = 0x40, .pid = 5 };
	const struct device_counts *const *devices;
	size_t n;

	take(DETAIL("alloc 0 dram 0x40 1", "5"));
	take(DETAIL("alloc 0 l1 0x40 2", "5"));
	take(DETAIL("alloc 0 cb 0x40 3", "5"));
	take(DETAIL("alloc 0 kernel 0x40 4", "5"));
	take(DETAIL("free 0 - 0x40 -", "5"));
	take(DETAIL("free 0 kernel 0x40 -", "5"));
	book_each(book, seek, &s);
	ck_assert_uint_eq(s.n, 4);
	devices = book_devices(book, &n);
	ck_assert_uint_eq(n, 1);
	ck_assert_uint_eq(devices[0]->events, 6);
	ck_assert_uint_eq(devices[0]->allocs, 4);
	ck_assert_uint_eq(devices[0]->frees, 2);
}
END_TEST

START_TEST(table_is_believed)
{
	take(EVENT "alloc 0 dram 0x000000000040 100 5 1");
	take(EVENT "ref 0 dram 0x000000000040 100 5 2");
	take(EVENT "resize 0 dram 0x000000000040 120 5 3");
	take(EVENT "unref 0 dram 0x000000000040 120 5 2");
	expect(64, 5, "held refs 2 allocs 1 frees 0 double 0 unknown 0 foreign 0 resized 1 reused 0 size 120");
	take(EVENT "foreign_free 0 dram 0x000000000040 120 6 1");
	take(EVENT "foreign_free 0 - 0x000000000040 - 7 -");
	expect(64, 5, "held refs 1 allocs 1 frees 0 double 0 unknown 0 foreign 1 resized 1 reused 0 size 120");
	take(EVENT "free 0 dram 0x000000000040 120 5 -");
	take(EVENT "double_free 0 - 0x000000000040 - 5 -");
	expect(64, 5, "gone refs 0 allocs 1 frees 1 double 1 unknown 0 foreign 1 resized 1 reused 0 size 120");
	/* The log began in the middle. */
	take(EVENT "free 0 dram 0x000000000050 9 5 -");
	expect(80, 5, "gone refs 0 allocs 0 frees 1 double 0 unknown 0 foreign 0 resized 0 reused 0 size 9");
	take(EVENT "unref 0 dram 0x000000000060 9 5 4");
	expect(96, 5, "held refs 4 allocs 0 frees 0 double 0 unknown 0 foreign 0 resized 0 reused 0 size 9");
	/* So what a process frees is its own, though only another one's is known; and of the type that is said. */
	take(EVENT "alloc 0 dram 0x000000000070 8 5 1");
	take(EVENT "free 0 dram 0x000000000070 9 6 0");
	expect(112, 5, "held refs 1 allocs 1 frees 0 double 0 unknown 0 foreign 0 resized 0 reused 0 size 8");
	expect(112, 6, "gone refs 0 allocs 0 frees 1 double 0 unknown 0 foreign 0 resized 0 reused 0 size 9");
	take(EVENT "foreign_free 0 l1 0x000000000070 9 7 0");
	expect(112, 5, "held refs 1 allocs 1 frees 0 double 0 unknown 0 foreign 0 resized 0 reused 0 size 8");
}
END_TEST

START_TEST(reset_and_exit)
{
	take(EVENT "alloc 0 dram 0x000000000040 100 5 1");
	take(EVENT "reset - - - - 1 -");
	expect(64, 5, "gone refs 1 allocs 1 frees 0 double 0 unknown 0 foreign 0 resized 0 reused 0 size 100");
	take(EVENT "alloc 0 dram 0x000000000040 100 5 1");
	take(EVENT "exit - - - - 5 -");
	take(EVENT "lost - - - 12 - -");
	expect(64, 5, "left refs 1 allocs 2 frees 0 double 0 unknown 0 foreign 0 resized 0 reused 0 size 100");
	/* Another process with its number. */
	take(EVENT "alloc 0 dram 0x000000000050 100 5 1");
	expect(80, 5, "held refs 1 allocs 1 frees 0 double 0 unknown 0 foreign 0 resized 0 reused 0 size 100");
	ck_assert_uint_eq(book_counts(book)->lost, 12);
}
END_TEST

/* The number of a process is used again: what the first left is not the second's to free. */
START_TEST(left_buffer_is_not_the_next_process_s)
{
	struct sought s = { .device = 0, .address = 0x40, .pid = 5 };

	take(DETAIL("alloc 0 dram 0x40 100", "5"));
	take(EVENT "exit - - - - 5 -");
	take(DETAIL("alloc 0 dram 0x40 200", "5"));
	take(DETAIL("free 0 - 0x40 -", "5"));
	take(DETAIL("free 0 - 0x40 -", "5"));
	book_each(book, seek, &s);
	ck_assert_uint_eq(s.n, 2);
	/* The one seen last is the older. */
	ck_assert(book_is_left(book, s.buffer));
	ck_assert_uint_eq(s.buffer->size, 100);
}
END_TEST

#define CROWD 50000

/* The event of as many processes, one after the other. */
static void crowd(const char *event, int32_t first)
{
	char text[128];
	int32_t i;

	for (i = 0; i < CROWD; i++) {
		snprintf(text, sizeof(text), "1.000001 1 %s %d - 9 - - -", event, first + i);
		take(text);
	}
}

struct crowd_counts {
	uint64_t held;
	uint64_t double_frees;
	uint64_t foreign_frees;
};

static int count_buffer(void *arg, const struct address *a, const struct buffer *buffer)
{
	struct crowd_counts *c = arg;

	ck_assert(a->value == 0x40 || a->value == 0x80);
	c->held += book_is_held(book, buffer);
	c->double_frees += book_faults(buffer, FAULT_DOUBLE_FREE);
	c->foreign_frees += book_faults(buffer, FAULT_FOREIGN_FREE);
	return 0;
}

static void expect_crowd(uint64_t held, uint64_t double_frees, uint64_t foreign_frees)
{
	struct crowd_counts c = { 0 };

	book_each(book, count_buffer, &c);
	ck_assert_uint_eq(c.held, held);
	ck_assert_uint_eq(c.double_frees, double_frees);
	ck_assert_uint_eq(c.foreign_frees, foreign_frees);
}

/* All at the same time, and those who free what they never had. Were it quadratic, it would take minutes. */
START_TEST(many_processes_at_one_address)
{
	int32_t i;

	crowd("alloc 0 dram 0x40 100", 1);
	crowd("free 0 - 0x40 -", 1000000);
	expect_crowd(CROWD, 0, CROWD);
	crowd("free 0 - 0x40 -", 1);
	crowd("free 0 - 0x40 -", 2000000);
	expect_crowd(0, CROWD, CROWD);
	crowd("alloc 0 dram 0x40 100", 1);
	take(EVENT "reset - - - - 1 -");
	crowd("free 0 - 0x40 -", 3000000);
	expect_crowd(0, CROWD, CROWD);
	/* What dead processes have left. */
	for (i = 0; i < CROWD; i++) {
		take("[PID 1] Allocated 100 bytes of L1 on device 0 (buffer_id=0x80)");
		take("   PID 1 is dead, removing its buffers...");
	}
	expect_crowd(CROWD, CROWD, CROWD);
}
END_TEST

/* However many there are, one is found among few. */
START_TEST(processes_are_spread)
{
	struct shelf s = { .count = 0 };
	struct buffer_owner owner = { .type = LINE_DRAM };
	struct address *a = shelf_get(&s, 0, SPACE_BUFFER, 0x40);
	const struct buffer *b;
	unsigned n, longest = 0;
	size_t i;

	ck_assert_ptr_nonnull(a);
	for (owner.pid = 1; owner.pid <= CROWD; owner.pid++)
		ck_assert_ptr_nonnull(address_make(&s, a, &owner));
	ck_assert_uint_eq(a->count, CROWD);
	ck_assert_uint_eq(a->bits, 15);
	for (i = 0; i < (size_t)1 << a->bits; i++) {
		for (n = 0, b = a->buffers.many[i]; b; b = b->next)
			n++;
		longest = n > longest ? n : longest;
	}
	ck_assert_uint_le(longest, 20);
	b = address_first_of(a, 777);
	ck_assert(b && b->owner.pid == 777 && !address_next_of(b));
	ck_assert_ptr_null(address_first_of(a, CROWD + 1));
	shelf_deinit(&s);
}
END_TEST

static int add_kind(void *arg, const struct moment *m)
{
	char *text = arg;

	sprintf(text + strlen(text), "%s %u %" PRIu64 ", ", line_kind_name(m->kind), m->refs, m->place.line);
	return 0;
}

/* As docs/protocol.md says of the server; what a server says itself was booked. */
START_TEST(what_a_server_refuses)
{
	static const char *const bad[] = {
		DETAIL("alloc -1 dram 0x40 100", "5"), DETAIL("alloc 1024 dram 0x40 100", "5"),
		DETAIL("free -1 - 0x40 -", "5"), DETAIL("free 1024 cb 0x40 -", "5"),
		DETAIL("alloc 0 dram 0x40 -", "5"), DETAIL("alloc 0 l1 0x40 0", "5"),
		DETAIL("alloc 0 cb 0x40 72057594037927937", "5"), DETAIL("alloc 0 5 0x40 100", "5"),
		"1.000001 1 alloc 0 kernel 0x40 100 5 - 9 3 - -",
	};
	const struct device_counts *const *devices;
	char text[256] = "";
	size_t i, n;

	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		take(bad[i]);
	ck_assert_uint_eq(book_counts(book)->refused, i);
	ck_assert_uint_eq(book_counts(book)->events, i);
	ck_assert_uint_eq(book_counts(book)->refused_at.line, 1);
	devices = book_devices(book, &n);
	ck_assert(devices && n == 0);
	book_each_moment(book, add_kind, text);
	ck_assert_str_eq(text, "refused 0 1, refused 0 2, refused 0 3, refused 0 4, refused 0 5, refused 0 6, "
			       "refused 0 7, refused 0 8, refused 0 9, ");
	take("1.000001 1 alloc 1023 kernel 0x40 72057594037927936 5 - 9 dispatch - -");
	take("[PID 1] Allocated 8 bytes of UNKNOWN on device 3000 (buffer_id=0X40)");
	ck_assert_uint_eq(book_counts(book)->refused, i);
	ck_assert_uint_eq(buffer_of(1023, 0x40, 5)->refs, 1);
	ck_assert_uint_eq(buffer_of(3000, 0x40, 1)->refs, 1);
}
END_TEST

START_TEST(timeline_of_the_wanted_address)
{
	char text[256] = "";

	take(ALLOC("64", ""));
	take(ALLOC("40", ""));
	take(ALLOC("64", ""));
	take(FREE("64", "ref_count=1 remaining"));
	book_each_moment(book, add_kind, text);
	ck_assert_str_eq(text, "alloc 1 1, ref 2 3, unref 1 4, ");
	/* Now it is 40 that was meant. */
	take(ALLOC("ff", ""));
	take(FREE("40", "FINAL"));
	text[0] = 0;
	book_each_moment(book, add_kind, text);
	ck_assert_str_eq(text, "alloc 1 2, free 0 6, ");
}
END_TEST

/* As many as *arg in a row, from line 11 on. */
static int count(void *arg, const struct moment *m)
{
	uint64_t *n = arg;

	ck_assert_uint_eq(m->place.line, 11 + (*n)++);
	return 0;
}

START_TEST(timeline_is_bounded)
{
	uint64_t i, n = 0;

	for (i = 0; i < BOOK_TIMELINE_MAX + 10; i++)
		take("1.000001 1 alloc 0 dram 0x40 1 5 - 9 - caller tag");
	book_each_moment(book, count, &n);
	ck_assert_uint_eq(n, BOOK_TIMELINE_MAX);
	ck_assert_uint_eq(book_moments_dropped(book), 10);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("analyze");
	TCase *lines = tcase_create("lines"), *books = tcase_create("book");
	SRunner *runner;
	int failed;

	tcase_add_loop_test(lines, line_is_understood, 0, sizeof(examples) / sizeof(examples[0]));
	tcase_add_loop_test(lines, garbage_is_not, 0, sizeof(garbage) / sizeof(garbage[0]));
	tcase_add_test(lines, origin_points_into_the_line);
	tcase_add_test(lines, digits_as_hex);
	suite_add_tcase(s, lines);
	tcase_add_checked_fixture(books, setup, teardown);
	tcase_set_timeout(books, 60);
	tcase_add_test(books, server_counts_references);
	tcase_add_test(books, server_drops_what_the_dead_left);
	tcase_add_test(books, letters_make_all_numbers_hex);
	tcase_add_test(books, detail_is_worked_out);
	tcase_add_test(books, each_fault_has_its_own_line);
	tcase_add_test(books, detail_of_several_processes);
	tcase_add_test(books, detail_of_several_candidates);
	tcase_add_test(books, types_at_one_address);
	tcase_add_test(books, table_is_believed);
	tcase_add_test(books, reset_and_exit);
	tcase_add_test(books, left_buffer_is_not_the_next_process_s);
	tcase_add_test(books, what_a_server_refuses);
	tcase_add_test(books, many_processes_at_one_address);
	tcase_add_test(books, processes_are_spread);
	tcase_add_test(books, timeline_of_the_wanted_address);
	tcase_add_test(books, timeline_is_bounded);
	suite_add_tcase(s, books);
	runner = srunner_create(s);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
