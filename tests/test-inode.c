/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * test-inode.c - fs/inode.c: what goes into a number comes out again, and no two things have the same one.
 */
#include "fs/inode.h"

#include <check.h>
#include <stdlib.h>

static const enum inode_shape shapes[] = {
	INODE_FIXED, INODE_DEVICE, INODE_TYPE, INODE_BUFFER, INODE_PROCESS, INODE_SITE, INODE_PAST, INODE_MARK, INODE_DUMP,
};
#define SHAPES (int)(sizeof(shapes) / sizeof(shapes[0]))

/* The largest value of each field that the shape has room for; `low` = the smallest ones. */
static struct inode extreme(enum inode_shape shape, unsigned row, int low)
{
	struct inode i = { .row = row };

	switch (shape) {
	case INODE_TYPE:
		i.type = low ? 0 : 6;
		i.device = low ? 0 : 1023;
		i.epoch = low ? 0 : UINT32_MAX;
		break;
	case INODE_DEVICE:
		i.device = low ? 0 : 1023;
		i.epoch = low ? 0 : UINT32_MAX;
		break;
	case INODE_BUFFER:
		i.slot = low ? 0 : INODE_SLOT_MAX;
		i.seq = low ? 0 : INODE_SEQ_MASK;
		break;
	case INODE_PROCESS:
		i.process = low ? 0 : UINT16_MAX;
		i.serial = low ? 0 : UINT32_MAX;
		break;
	case INODE_SITE:
		i.site = low ? 0 : UINT32_MAX;
		break;
	case INODE_PAST:
		i.head = low ? 0 : (1U << 24) - 1;
		i.place = low ? 0 : UINT32_MAX;
		break;
	case INODE_MARK:
		i.mark = low ? 0 : (UINT64_C(1) << 56) - 1;
		break;
	case INODE_DUMP:
		i.dump = low ? 0 : (UINT64_C(1) << 56) - 1;
		break;
	case INODE_FIXED:
		break;
	}
	return i;
}

static void assert_same(struct inode a, struct inode b)
{
	ck_assert_uint_eq(a.row, b.row);
	ck_assert_uint_eq(a.device, b.device);
	ck_assert_uint_eq(a.type, b.type);
	ck_assert_uint_eq(a.epoch, b.epoch);
	ck_assert_uint_eq(a.slot, b.slot);
	ck_assert_uint_eq(a.seq, b.seq);
	ck_assert_uint_eq(a.process, b.process);
	ck_assert_uint_eq(a.serial, b.serial);
	ck_assert_uint_eq(a.site, b.site);
	ck_assert_uint_eq(a.head, b.head);
	ck_assert_uint_eq(a.place, b.place);
	ck_assert_uint_eq(a.mark, b.mark);
	ck_assert_uint_eq(a.dump, b.dump);
}

START_TEST(there_and_back)
{
	enum inode_shape shape = shapes[_i];

	for (unsigned row = 0; row < INODE_ROWS; row++)
		for (int low = 0; low < 2; low++) {
			struct inode i = extreme(shape, row, low);
			uint64_t number = inode_pack(shape, &i);
			ck_assert_uint_eq(inode_row(number), row);
			assert_same(inode_unpack(shape, number), i);
		}
}
END_TEST

/* Changing one field, by one or by its highest bit, gives another number. */
START_TEST(every_field_counts)
{
	const struct {
		enum inode_shape shape;
		struct inode i;
	} changed[] = {
		{ INODE_FIXED, { .row = 1 } },
		{ INODE_DEVICE, { .device = 1 } }, { INODE_DEVICE, { .device = 512 } },
		{ INODE_DEVICE, { .epoch = 1 } }, { INODE_DEVICE, { .epoch = UINT32_C(1) << 31 } },
		{ INODE_TYPE, { .type = 1 } }, { INODE_TYPE, { .type = 4 } }, { INODE_TYPE, { .device = 512 } },
		{ INODE_TYPE, { .epoch = UINT32_C(1) << 31 } },
		{ INODE_BUFFER, { .slot = 1 } }, { INODE_BUFFER, { .slot = UINT32_C(1) << 26 } },
		{ INODE_BUFFER, { .seq = 1 } }, { INODE_BUFFER, { .seq = UINT32_C(1) << 28 } },
		{ INODE_PROCESS, { .process = 1 } }, { INODE_PROCESS, { .process = UINT32_C(1) << 15 } },
		{ INODE_PROCESS, { .serial = 1 } }, { INODE_PROCESS, { .serial = UINT32_C(1) << 31 } },
		{ INODE_SITE, { .site = 1 } }, { INODE_SITE, { .site = UINT32_C(1) << 31 } },
		{ INODE_DUMP, { .dump = 1 } }, { INODE_DUMP, { .dump = UINT64_C(1) << 55 } },
	};
	const struct inode nothing = { 0 };

	for (size_t k = 0; k < sizeof(changed) / sizeof(changed[0]); k++)
		ck_assert_uint_ne(inode_pack(changed[k].shape, &changed[k].i), inode_pack(changed[k].shape, &nothing));
}
END_TEST

START_TEST(the_root_is_the_kernels)
{
	const struct inode root = { 0 };

	ck_assert_uint_eq(inode_pack(INODE_FIXED, &root), INODE_ROOT);
	assert_same(inode_unpack(INODE_FIXED, INODE_ROOT), root);
}
END_TEST

/* 0 means "no such file" to the kernel, and tools print numbers as signed ones. */
START_TEST(never_zero_never_negative)
{
	for (int k = 0; k < SHAPES; k++)
		for (unsigned row = 1; row < INODE_ROWS; row++)
			for (int low = 0; low < 2; low++) {
				struct inode i = extreme(shapes[k], row, low);
				ck_assert_int_gt((int64_t)inode_pack(shapes[k], &i), 0);
			}
}
END_TEST

/* More of the sequence number than fits does not spill into the slot. */
START_TEST(seq_is_cut)
{
	const struct inode i = { .slot = 5, .seq = UINT32_MAX };
	struct inode out = inode_unpack(INODE_BUFFER, inode_pack(INODE_BUFFER, &i));

	ck_assert_uint_eq(out.slot, 5);
	ck_assert_uint_eq(out.seq, INODE_SEQ_MASK);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("inode");
	TCase *tcase = tcase_create("inode");
	SRunner *runner = srunner_create(suite);
	int failed;

	tcase_add_loop_test(tcase, there_and_back, 0, SHAPES);
	tcase_add_test(tcase, every_field_counts);
	tcase_add_test(tcase, the_root_is_the_kernels);
	tcase_add_test(tcase, never_zero_never_negative);
	tcase_add_test(tcase, seq_is_cut);
	suite_add_tcase(suite, tcase);

	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
