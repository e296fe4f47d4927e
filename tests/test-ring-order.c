/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * test-ring-order.c - the memory order of client/ttalloc-ring.h: tests/model-ring/ run in every order that x86 and a
 * weaker machine allow. And with one mistake at a time, for which a run has to be found in which the promise is broken:
 * so the search is known to be able to find one.
 *
 * `test-ring-order MODEL MUTATION tso|weak` prints that run.
 */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/model-ring/models.h"

enum { ON_TSO = 1 << MACHINE_TSO, ON_WEAK = 1 << MACHINE_WEAK, ON_BOTH = ON_TSO | ON_WEAK };

static const struct machine_model *const models[] = {
	&segments_model, &wake_model, &moved_model,
	&stamps_pair_model, &stamps_chain_model, &stamps_lanes_model, &stamps_liar_model,
	&stamps_sleeper_model, &stamps_sleeping_liar_model,
};

/* On which machines each mistake breaks a promise. (x86 does not need acquire and release; its compiler does.) */
static const struct mistake {
	const struct machine_model *model;
	uint8_t mutation;
	uint8_t broken;
} mistakes[] = {
	{ &segments_model, SEGMENTS_TAIL_STORE_RELAXED, ON_WEAK },
	{ &segments_model, SEGMENTS_TAIL_LOAD_RELAXED, ON_WEAK },
	{ &segments_model, SEGMENTS_FREED_STORE_RELAXED, ON_WEAK },
	{ &segments_model, SEGMENTS_FREED_LOAD_RELAXED, ON_WEAK },
	{ &segments_model, SEGMENTS_FREED_BEFORE_READ, ON_BOTH },
	{ &segments_model, SEGMENTS_ORDER_AFTER_TAIL, ON_BOTH },
	{ &segments_model, SEGMENTS_FREED_AFTER_COUNT, ON_BOTH },
	{ &wake_model, WAKE_NO_MEMBARRIER, ON_BOTH },
	{ &wake_model, WAKE_LOOK_BEFORE_SET, ON_BOTH },
	{ &wake_model, WAKE_LANES_BEFORE_SET, ON_BOTH },
	{ &wake_model, WAKE_TAIL_AFTER_LOAD, ON_BOTH },
	{ &wake_model, WAKE_CLEARED_BEFORE_WRITE, ON_BOTH },
	{ &wake_model, WAKE_CLEARED_AFTER_WRITE, ON_BOTH },
	{ &wake_model, WAKE_DROPPED_AT_SLEEP, ON_BOTH },
	{ &wake_model, WAKE_NOT_ASKED, ON_BOTH },
	{ &moved_model, MOVED_NO_MEMBARRIER, ON_BOTH },
	{ &moved_model, MOVED_NOT_REMEMBERED, ON_BOTH },
	{ &moved_model, MOVED_SERVER_READS_ON, ON_BOTH },
	{ &moved_model, MOVED_HEAD_AFTER_CLOSE, ON_BOTH },
	{ &stamps_pair_model, STAMPS_NOT_HELD, ON_BOTH },
	{ &stamps_pair_model, STAMPS_MANY_LATE, ON_BOTH },
	{ &stamps_pair_model, STAMPS_ONE_LOOK, ON_BOTH },
	{ &stamps_pair_model, STAMPS_COUNTER_FIRST, ON_BOTH },
	{ &stamps_pair_model, STAMPS_COUNTER_LAST, ON_BOTH },
	{ &stamps_pair_model, STAMPS_NO_BOUND, ON_BOTH },
	{ &stamps_pair_model, STAMPS_LOOK_NOT_HELD, ON_BOTH },
	{ &stamps_pair_model, STAMPS_LANES_ONCE, ON_BOTH },
	{ &stamps_pair_model, STAMPS_CLOCK_STANDS, ON_BOTH },
	{ &stamps_pair_model, STAMPS_RAISED_EARLY, ON_BOTH },
	{ &stamps_lanes_model, STAMPS_NO_FENCE, ON_BOTH },
	{ &stamps_liar_model, STAMPS_FIRST_BOUND, ON_BOTH },
	{ &stamps_sleeper_model, STAMPS_SLEEPERS_ONCE, ON_BOTH },
	{ &stamps_sleeping_liar_model, STAMPS_SLEEPERS_LATE, ON_BOTH },
};

#define COUNT(a) ((int)(sizeof(a) / sizeof((a)[0])))

START_TEST(test_promise)
{
	const struct machine_model *model = models[_i];
	struct machine_result result;
	int kind;

	for (kind = MACHINE_TSO; kind <= MACHINE_WEAK; kind++) {
		machine_explore(model, (enum machine_kind)kind, 0, &result);
		if (result.failure)
			machine_print_failure(model);
		ck_assert_msg(!result.failure, "%s, machine %d: %s", model->name, kind, result.failure);
		ck_assert_uint_ge(result.ends, 1);
		ck_assert_uint_eq(result.cut, 0);
	}
}
END_TEST

START_TEST(test_mistake)
{
	const struct mistake *wrong = &mistakes[_i];
	struct machine_result result;
	int kind;

	for (kind = MACHINE_TSO; kind <= MACHINE_WEAK; kind++) {
		machine_explore(wrong->model, (enum machine_kind)kind, wrong->mutation, &result);
		ck_assert_msg((result.failure != NULL) == (wrong->broken >> kind & 1), "%s, mutation %d, machine %d: %s",
			      wrong->model->name, wrong->mutation, kind, result.failure ? result.failure : "no failure");
	}
}
END_TEST

static int print(const char *name, const char *mutation, const char *kind)
{
	struct machine_result result;
	int i;

	for (i = 0; i < COUNT(models) && strcmp(models[i]->name, name) != 0; i++)
		;
	if (i == COUNT(models))
		return EXIT_FAILURE;
	machine_explore(models[i], strcmp(kind, "weak") == 0 ? MACHINE_WEAK : MACHINE_TSO, (uint8_t)atoi(mutation),
			&result);
	if (result.failure)
		machine_print_failure(models[i]);
	printf("%lu states, %lu ends: %s\n", result.states, result.ends, result.failure ? result.failure : "ok");
	return EXIT_SUCCESS;
}

int main(int argc, char **argv)
{
	Suite *suite = suite_create("ring-order");
	TCase *promises = tcase_create("promises");
	TCase *wrong = tcase_create("mistakes");
	SRunner *runner;
	int failed;

	if (argc == 4)
		return print(argv[1], argv[2], argv[3]);
	tcase_set_timeout(promises, 170);
	tcase_add_loop_test(promises, test_promise, 0, COUNT(models));
	tcase_set_timeout(wrong, 170);
	tcase_add_loop_test(wrong, test_mistake, 0, COUNT(mistakes));
	suite_add_tcase(suite, promises);
	suite_add_tcase(suite, wrong);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
