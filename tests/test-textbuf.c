/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * test-textbuf.c - tracker/textbuf.c: what each append writes, growth, and what happens when memory runs out.
 */
#include "tracker/textbuf.h"

#include <check.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *__asan_default_options(void);

/* AddressSanitizer ends the program at an impossible allocation unless it is told that one is wanted here. */
const char *__asan_default_options(void)
{
	return "allocator_may_return_null=1";
}

/* The text is exactly this; forgets it. */
static void assert_text(struct textbuf *t, const char *want)
{
	ck_assert_int_eq(textbuf_error(t), 0);
	ck_assert_uint_eq(t->len, strlen(want));
	ck_assert_uint_le(t->len, t->size);
	textbuf_putc(t, '\0');
	ck_assert_str_eq(t->data, want);
	textbuf_clear(t);
}

START_TEST(pieces)
{
	struct textbuf t = TEXTBUF_INIT;

	textbuf_put(&t, "abc", 2);
	textbuf_put(&t, NULL, 0);
	textbuf_puts(&t, "");
	textbuf_putc(&t, '-');
	textbuf_puts(&t, "def");
	textbuf_fill(&t, ' ', 3);
	textbuf_fill(&t, 'x', 0);
	textbuf_fill(&t, '#', 1);
	assert_text(&t, "ab-def   #");
	textbuf_put(&t, "a\0b", 3);
	ck_assert_uint_eq(t.len, 3);
	ck_assert_mem_eq(t.data, "a\0b", 3);
	textbuf_deinit(&t);
}
END_TEST

START_TEST(empty)
{
	struct textbuf t = TEXTBUF_INIT;

	ck_assert_int_eq(textbuf_error(&t), 0);
	ck_assert_uint_eq(t.len, 0);
	textbuf_put(&t, "x", 0);
	textbuf_fill(&t, 'x', 0);
	ck_assert_ptr_null(t.data);
	textbuf_clear(&t);
	textbuf_deinit(&t);
	textbuf_deinit(&t);
}
END_TEST

START_TEST(deinit_leaves_an_empty_one)
{
	struct textbuf t = TEXTBUF_INIT;

	textbuf_puts(&t, "text");
	textbuf_deinit(&t);
	ck_assert_ptr_null(t.data);
	ck_assert_uint_eq(t.len, 0);
	ck_assert_uint_eq(t.size, 0);
	textbuf_puts(&t, "again");
	assert_text(&t, "again");
	textbuf_deinit(&t);
}
END_TEST

START_TEST(clear_keeps_the_memory)
{
	struct textbuf t = TEXTBUF_INIT;
	const char *data;
	size_t size;

	textbuf_fill(&t, 'x', 1000);
	data = t.data;
	size = t.size;
	textbuf_clear(&t);
	ck_assert_uint_eq(t.len, 0);
	textbuf_fill(&t, 'y', size);
	ck_assert_ptr_eq(t.data, data);
	ck_assert_uint_eq(t.size, size);
	textbuf_deinit(&t);
}
END_TEST

START_TEST(numbers)
{
	struct textbuf t = TEXTBUF_INIT;
	uint64_t power = 1;
	char want[32];

	textbuf_u64(&t, 0);
	assert_text(&t, "0");
	textbuf_u64(&t, UINT64_MAX);
	assert_text(&t, "18446744073709551615");
	for (int digits = 1; digits <= 20; digits++) {
		uint64_t v[] = { power - 1, power, power + 1, power / 2 * 3, power * 9 };

		for (size_t i = 0; i < sizeof(v) / sizeof(v[0]); i++) {
			snprintf(want, sizeof(want), "%" PRIu64, v[i]);
			textbuf_u64(&t, v[i]);
			assert_text(&t, want);
		}
		power *= 10;
	}
	for (uint64_t v = 0; v < 20000; v += 7) {
		snprintf(want, sizeof(want), "%" PRIu64, v);
		textbuf_u64(&t, v);
		assert_text(&t, want);
	}
	textbuf_deinit(&t);
}
END_TEST

START_TEST(signed_numbers)
{
	struct textbuf t = TEXTBUF_INIT;

	textbuf_i64(&t, 0);
	assert_text(&t, "0");
	textbuf_i64(&t, 42);
	assert_text(&t, "42");
	textbuf_i64(&t, -1);
	assert_text(&t, "-1");
	textbuf_i64(&t, INT64_MAX);
	assert_text(&t, "9223372036854775807");
	textbuf_i64(&t, INT64_MIN);
	assert_text(&t, "-9223372036854775808");
	textbuf_deinit(&t);
}
END_TEST

START_TEST(addresses)
{
	static const struct {
		uint64_t v;
		const char *want;
	} rows[] = {
		{ 0, "0x000000000000" },
		{ 1, "0x000000000001" },
		{ 0x40000000, "0x000040000000" },
		{ 0x123456789abc, "0x123456789abc" },
		{ 0xffffffffffff, "0xffffffffffff" },
		{ 0x1000000000000, "0x1000000000000" },
		{ 0xdef0123456789a, "0xdef0123456789a" },
		{ 0x100000000000000, "0x100000000000000" },
		{ UINT64_MAX, "0xffffffffffffffff" },
		{ UINT64_C(1) << 63, "0x8000000000000000" },
	};
	struct textbuf t = TEXTBUF_INIT;

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		textbuf_addr(&t, rows[i].v);
		assert_text(&t, rows[i].want);
	}
	textbuf_deinit(&t);
}
END_TEST

START_TEST(times)
{
	static const struct {
		uint64_t ns;
		const char *want;
	} rows[] = {
		{ 0, "-" },
		{ 1, "0.000000" },
		{ 999, "0.000000" },
		{ 1000, "0.000001" },
		{ 999999999, "0.999999" },
		{ 1000000000, "1.000000" },
		{ 9999999999, "9.999999" },
		{ 10000000000, "10.000000" },
		{ 1732082104123456789, "1732082104.123456" },
		{ 1732082104000001000, "1732082104.000001" },
		{ UINT64_MAX, "18446744073.709551" },
	};
	struct textbuf t = TEXTBUF_INIT;

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		textbuf_time(&t, rows[i].ns);
		assert_text(&t, rows[i].want);
	}
	textbuf_deinit(&t);
}
END_TEST

START_TEST(escapes)
{
	static const struct {
		const char *s, *want;
	} rows[] = {
		{ NULL, "-" },
		{ "", "-" },
		{ "-", "-" },
		{ "python3", "python3" },
		{ "model.layers.3.w1", "model.layers.3.w1" },
		{ " ", "%20" },
		{ "a b", "a%20b" },
		{ "100%", "100%25" },
		{ "\t\n\033[2J", "%09%0A%1B[2J" },
		{ "\001\037\177", "%01%1F%7F" },
		{ "!~", "!~" },
		{ "gr\303\274n", "gr\303\274n" },
		{ "\200\377", "%80%FF" },
		{ "\342\202\254", "\342\202\254" },
		{ "\360\237\230\200", "\360\237\230\200" },
		{ "cut \342\202", "cut%20%E2%82" },
		{ "\302\2331m", "%C2%9B1m" },
		{ "\300\257", "%C0%AF" },
		{ "\340\237\277", "%E0%9F%BF" },
		{ "\355\240\200", "%ED%A0%80" },
		{ "\364\220\200\200", "%F4%90%80%80" },
		{ "\360\217\277\277", "%F0%8F%BF%BF" },
		{ "  x", "%20%20x" },
		{ "x%", "x%25" },
	};
	struct textbuf t = TEXTBUF_INIT;

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		textbuf_escaped(&t, rows[i].s);
		assert_text(&t, rows[i].want);
	}
	textbuf_deinit(&t);
}
END_TEST

START_TEST(formats)
{
	struct textbuf t = TEXTBUF_INIT;

	textbuf_printf(&t, "%s", "");
	ck_assert_uint_eq(t.len, 0);
	textbuf_printf(&t, "%d %s %.2f", -3, "MB", 1.005);
	assert_text(&t, "-3 MB 1.00");

	/* A piece that fits exactly, by one too few, and by far not. */
	for (size_t len = 0; len < 1200; len++) {
		struct textbuf u = TEXTBUF_INIT;
		char want[1400];

		memset(want, '.', 100);
		memset(want + 100, ' ', len);
		memcpy(want + 100 + len, "x", 2);
		textbuf_fill(&u, '.', 100);
		textbuf_printf(&u, "%*s", (int)len + 1, "x");
		textbuf_putc(&u, '\0');
		ck_assert_uint_eq(u.len, 100 + len + 2);
		ck_assert_str_eq(u.data, want);
		textbuf_deinit(&u);
	}
	textbuf_deinit(&t);
}
END_TEST

/* Every append, from every amount of room left, so that each one's idea of what it needs is tried (with ASan). */
START_TEST(growth_at_every_length)
{
	static const char want[] =
		"abc!##18446744073709551615-9223372036854775808"
		"0xffffffffffffffff18446744073.709551a%20%25b7 seven";

	for (size_t before = 0; before < 600; before++) {
		struct textbuf t = TEXTBUF_INIT;

		textbuf_fill(&t, ' ', before);
		textbuf_puts(&t, "abc");
		textbuf_putc(&t, '!');
		textbuf_fill(&t, '#', 2);
		textbuf_u64(&t, UINT64_MAX);
		textbuf_i64(&t, INT64_MIN);
		textbuf_addr(&t, UINT64_MAX);
		textbuf_time(&t, UINT64_MAX);
		textbuf_escaped(&t, "a %b");
		textbuf_printf(&t, "%d %s", 7, "seven");
		ck_assert_int_eq(textbuf_error(&t), 0);
		ck_assert_uint_eq(t.len, before + sizeof(want) - 1);
		ck_assert_mem_eq(t.data + before, want, sizeof(want) - 1);
		textbuf_deinit(&t);
	}
}
END_TEST

START_TEST(growth_doubles)
{
	struct textbuf t = TEXTBUF_INIT;
	unsigned grown = 0;

	for (size_t i = 0, size = 0; i < 1000000; i++) {
		textbuf_putc(&t, 'x');
		grown += t.size != size;
		size = t.size;
	}
	ck_assert_uint_eq(t.len, 1000000);
	ck_assert_uint_le(grown, 16);
	textbuf_deinit(&t);
}
END_TEST

static void assert_stuck(struct textbuf *t, const char *want)
{
	ck_assert_int_eq(textbuf_error(t), -ENOMEM);
	textbuf_put(t, "x", 1);
	textbuf_put(t, "x", 0);
	textbuf_puts(t, "x");
	textbuf_putc(t, 'x');
	textbuf_fill(t, 'x', 1);
	textbuf_u64(t, 1);
	textbuf_i64(t, -1);
	textbuf_addr(t, 1);
	textbuf_time(t, 1);
	textbuf_time(t, 0);
	textbuf_escaped(t, "x y");
	textbuf_escaped(t, NULL);
	textbuf_printf(t, "%d", 1);
	ck_assert_int_eq(textbuf_error(t), -ENOMEM);
	ck_assert_uint_eq(t->len, strlen(want));
	ck_assert_mem_eq(t->data, want, t->len);
	textbuf_clear(t);
	ck_assert_int_eq(textbuf_error(t), 0);
	textbuf_puts(t, "usable again");
	assert_text(t, "usable again");
}

START_TEST(no_memory)
{
	/* Impossible for the allocator; impossible to compute with. */
	static const size_t lengths[] = { SIZE_MAX / 8, SIZE_MAX / 4, SIZE_MAX / 2, SIZE_MAX - 4, SIZE_MAX };

	for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
		struct textbuf t = TEXTBUF_INIT;

		textbuf_puts(&t, "kept");
		textbuf_fill(&t, 'x', lengths[i]);
		assert_stuck(&t, "kept");
		textbuf_deinit(&t);
	}
}
END_TEST

START_TEST(no_memory_for_the_first_byte)
{
	struct textbuf t = TEXTBUF_INIT;

	textbuf_fill(&t, 'x', SIZE_MAX / 8);
	ck_assert_int_eq(textbuf_error(&t), -ENOMEM);
	textbuf_puts(&t, "x");
	textbuf_printf(&t, "x");
	ck_assert_uint_eq(t.len, 0);
	ck_assert_ptr_null(t.data);
	textbuf_deinit(&t);
}
END_TEST

START_TEST(piece_that_cannot_be_formatted)
{
	struct textbuf t = TEXTBUF_INIT;

	textbuf_puts(&t, "kept");
	textbuf_printf(&t, "%ls", L"\x80");  /* not a character of the C locale */
	assert_stuck(&t, "kept");
	textbuf_deinit(&t);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("textbuf");
	TCase *tcase = tcase_create("textbuf");
	SRunner *runner = srunner_create(suite);
	int failed;

	tcase_add_test(tcase, pieces);
	tcase_add_test(tcase, empty);
	tcase_add_test(tcase, deinit_leaves_an_empty_one);
	tcase_add_test(tcase, clear_keeps_the_memory);
	tcase_add_test(tcase, numbers);
	tcase_add_test(tcase, signed_numbers);
	tcase_add_test(tcase, addresses);
	tcase_add_test(tcase, times);
	tcase_add_test(tcase, escapes);
	tcase_add_test(tcase, formats);
	tcase_add_test(tcase, growth_at_every_length);
	tcase_add_test(tcase, growth_doubles);
	tcase_add_test(tcase, no_memory);
	tcase_add_test(tcase, no_memory_for_the_first_byte);
	tcase_add_test(tcase, piece_that_cannot_be_formatted);
	tcase_set_timeout(tcase, 60);
	suite_add_tcase(suite, tcase);

	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
