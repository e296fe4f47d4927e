/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * test-loop.c - tracker/loop.c: who is called when, and that draining takes in everything and comes to an end.
 *
 * Sources are eventfds: ready when written to, until read.
 */
#include "tracker/loop.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

static struct loop *loop;

/* In the order in which sources, timers and works were called: their letters. */
static char calls[64];

static void called(char letter)
{
	size_t len = strlen(calls);

	ck_assert_uint_lt(len, sizeof(calls) - 1);
	calls[len] = letter;
	calls[len + 1] = '\0';
}

struct probe {
	struct loop_source source;
	char letter;          /* 0: not told in `calls` */
	bool keep;            /* stays ready */
	unsigned count;
	uint32_t events;
	void (*then)(struct probe *p);
};

static void probe_ready(struct loop_source *s, uint32_t events)
{
	struct probe *p = loop_owner(s, struct probe, source);
	uint64_t value;

	p->count++;
	p->events = events;
	if (p->letter)
		called(p->letter);
	if (!p->keep)
		ck_assert_int_eq(read(s->fd, &value, sizeof(value)), sizeof(value));
	if (p->then)
		p->then(p);
}

static void probe_open(struct probe *p, char letter, bool ingest, bool late)
{
	*p = (struct probe){
		.source = { .ingest = ingest, .late = late, .ready = probe_ready },
		.letter = letter,
	};
	p->source.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	ck_assert_int_ge(p->source.fd, 0);
	ck_assert_int_eq(loop_add(loop, &p->source, EPOLLIN), 0);
}

static void probe_close(struct probe *p)
{
	loop_remove(loop, &p->source);
	if (p->source.fd >= 0)
		close(p->source.fd);
	p->source.fd = -1;
}

static void probe_raise(struct probe *p)
{
	uint64_t one = 1;

	ck_assert_int_eq(write(p->source.fd, &one, sizeof(one)), sizeof(one));
}

static void setup(void)
{
	ck_assert_int_eq(loop_new(&loop), 0);
	calls[0] = '\0';
}

static void teardown(void)
{
	loop_free(loop);
	loop = NULL;
}

static void stop(struct probe *p)
{
	loop_stop(loop, 7);
}

/* Everything that is pending now is called when this returns. */
static void run_once(void)
{
	struct probe last;

	probe_open(&last, 0, false, false);
	last.then = stop;
	probe_raise(&last);
	ck_assert_int_eq(loop_run(loop), 7);
	probe_close(&last);
}

/* ---- sources ---- */

START_TEST(test_source_is_called_with_its_events)
{
	struct probe p;

	probe_open(&p, 'p', false, false);
	run_once();
	ck_assert_str_eq(calls, "");
	probe_raise(&p);
	run_once();
	ck_assert_str_eq(calls, "p");
	ck_assert_uint_eq(p.events, EPOLLIN);
	ck_assert_int_eq(loop_change(loop, &p.source, EPOLLOUT), 0);
	p.keep = true;
	run_once();
	ck_assert_str_eq(calls, "pp");
	ck_assert_uint_eq(p.events, EPOLLOUT);
	ck_assert_int_eq(loop_change(loop, &p.source, 0), 0);
	probe_raise(&p);
	run_once();
	ck_assert_str_eq(calls, "pp");
	probe_close(&p);
}
END_TEST

START_TEST(test_source_errors)
{
	struct loop_source bad = { .fd = -1, .ready = probe_ready }, closed = { .fd = 999, .ready = probe_ready };
	struct loop_source file = { .fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC), .ready = probe_ready };
	struct loop_source twin;
	struct probe p;

	ck_assert_int_eq(loop_add(loop, &bad, EPOLLIN), -EBADF);
	ck_assert_int_eq(loop_add(loop, &closed, EPOLLIN), -EBADF);
	ck_assert_int_eq(loop_add(loop, &file, EPOLLIN), -EPERM);
	ck_assert_int_eq(loop_change(loop, &file, EPOLLIN), -ENOENT);
	loop_remove(loop, &file);
	close(file.fd);
	probe_open(&p, 'p', false, false);
	ck_assert_int_eq(loop_add(loop, &p.source, EPOLLIN), -EEXIST);
	twin = (struct loop_source){ .fd = p.source.fd, .ingest = true, .ready = probe_ready };
	ck_assert_int_eq(loop_add(loop, &twin, EPOLLIN), -EEXIST);
	probe_close(&p);
	loop_remove(loop, &p.source);
}
END_TEST

static struct probe *victim;

static void remove_victim(struct probe *p)
{
	probe_close(victim);
}

START_TEST(test_source_removed_by_another_is_not_called)
{
	for (int way = 0; way < 3; way++) {
		struct probe a, b;

		calls[0] = '\0';
		probe_open(&a, 'a', way > 0, false);
		probe_open(&b, 'b', way > 0, false);
		probe_raise(&a);
		probe_raise(&b);
		victim = &b;
		a.then = remove_victim;
		if (way < 2)
			run_once();
		else
			loop_drain(loop);
		ck_assert_str_eq(calls, "a");
		probe_close(&a);
	}
}
END_TEST

static struct probe newcomer;

static void replace_victim(struct probe *p)
{
	int fd = victim->source.fd;

	probe_close(victim);
	probe_open(&newcomer, 'n', true, false);
	ck_assert_int_eq(newcomer.source.fd, fd);
	p->then = NULL;
}

START_TEST(test_report_for_a_descriptor_that_is_somebody_elses_now)
{
	struct probe a, b;

	probe_open(&a, 'a', true, false);
	probe_open(&b, 'b', true, false);
	probe_raise(&a);
	probe_raise(&b);
	victim = &b;
	a.then = replace_victim;
	run_once();
	ck_assert_str_eq(calls, "a");
	probe_raise(&newcomer);
	run_once();
	ck_assert_str_eq(calls, "an");
	probe_close(&a);
	probe_close(&newcomer);
}
END_TEST

static void remove_self(struct probe *p)
{
	probe_close(p);
}

START_TEST(test_source_removes_itself)
{
	struct probe a;

	probe_open(&a, 'a', false, false);
	a.then = remove_self;
	a.keep = true;
	probe_raise(&a);
	run_once();
	run_once();
	ck_assert_str_eq(calls, "a");
}
END_TEST

/* ---- draining ---- */

START_TEST(test_drain_takes_ingest_only)
{
	struct probe ingest, other;

	probe_open(&other, 'o', false, false);
	probe_open(&ingest, 'i', true, false);
	probe_raise(&other);
	probe_raise(&ingest);
	loop_drain(loop);
	ck_assert_str_eq(calls, "i");
	run_once();
	ck_assert_str_eq(calls, "io");
	loop_drain(loop);
	ck_assert_str_eq(calls, "io");
	probe_close(&ingest);
	probe_close(&other);
}
END_TEST

START_TEST(test_drain_takes_all_and_ends_although_one_never_rests)
{
	enum { N = 3000 };
	struct probe *p = calloc(N, sizeof(*p));

	ck_assert_ptr_nonnull(p);
	for (int i = 0; i < N; i++)
		probe_open(&p[i], 0, true, false);
	p[1500].keep = true;
	for (int round = 1; round <= 3; round++) {
		for (int i = 0; i < N; i++)
			probe_raise(&p[i]);
		loop_drain(loop);
		for (int i = 0; i < N; i++)
			if (i != 1500)
				ck_assert_uint_eq(p[i].count, (unsigned)round);
		ck_assert_uint_ge(p[1500].count, (unsigned)round);
		ck_assert_uint_le(p[1500].count, 2U * (unsigned)round);
	}
	for (int i = 0; i < N; i++)
		probe_close(&p[i]);
	free(p);
}
END_TEST

START_TEST(test_late_sources_come_after_the_others)
{
	struct probe late, a, b;

	probe_open(&late, 'L', true, true);
	probe_open(&a, 'a', true, false);
	probe_open(&b, 'b', true, false);
	for (int by_drain = 0; by_drain < 2; by_drain++) {
		calls[0] = '\0';
		probe_raise(&late);
		probe_raise(&a);
		probe_raise(&b);
		if (by_drain)
			loop_drain(loop);
		else
			run_once();
		ck_assert_str_eq(calls, "abL");
	}
	probe_close(&late);
	probe_close(&a);
	probe_close(&b);
}
END_TEST

static void spin_1_ms(struct probe *p)
{
	uint64_t until = loop_monotonic() + 1000000;

	while (loop_monotonic() < until)
		;
}

/* Much that is pending is taken in over several turns, and a death waits for all of it. */
START_TEST(test_late_sources_wait_over_turns)
{
	enum { N = 40 };
	struct probe late, p[N];
	unsigned done = 0;

	probe_open(&late, 'L', true, true);
	probe_raise(&late);
	for (int i = 0; i < N; i++) {
		probe_open(&p[i], 0, true, false);
		p[i].then = spin_1_ms;
		probe_raise(&p[i]);
	}
	run_once();
	for (int i = 0; i < N; i++)
		done += p[i].count;
	ck_assert_uint_gt(done, 0);
	ck_assert_uint_lt(done, N);
	ck_assert_uint_eq(late.count, 0);
	while (!late.count)
		run_once();
	for (int i = 0; i < N; i++)
		ck_assert_uint_eq(p[i].count, 1);
	/* The same at once. */
	probe_raise(&late);
	for (int i = 0; i < N; i++)
		probe_raise(&p[i]);
	run_once();
	loop_drain(loop);
	ck_assert_uint_eq(late.count, 2);
	for (int i = 0; i < N; i++) {
		ck_assert_uint_eq(p[i].count, 2);
		probe_close(&p[i]);
	}
	probe_close(&late);
}
END_TEST

/* Has three things to do and does one in each turn. */
static void one_of_three(struct probe *p)
{
	uint64_t value;

	ck_assert(!loop_draining(loop));
	if (p->count < 3)
		loop_left(loop, &p->source);
	else
		ck_assert_int_eq(read(p->source.fd, &value, sizeof(value)), sizeof(value));
}

START_TEST(test_late_sources_wait_for_what_was_left)
{
	struct probe late, a, b;

	probe_open(&late, 'L', true, true);
	probe_open(&a, 'a', true, false);
	probe_open(&b, 'b', true, false);
	a.keep = true;
	a.then = one_of_three;
	b.keep = true;
	probe_raise(&late);
	probe_raise(&a);
	probe_raise(&b);
	while (!late.count)
		run_once();
	ck_assert_uint_eq(a.count, 3);
	ck_assert_int_eq(strchr(calls, 'L') > strrchr(calls, 'a'), 1);
	/* One that goes away is not waited for. */
	probe_raise(&late);
	a.count = 0;
	probe_raise(&a);
	run_once();
	ck_assert_uint_eq(late.count, 1);
	probe_close(&a);
	run_once();
	ck_assert_uint_eq(late.count, 2);
	probe_close(&b);
	probe_close(&late);
}
END_TEST

/* A listener: some clients a turn, all when it is drained; each of them has something pending. */
static struct probe let_in[100];
static unsigned let_in_count, let_in_per_turn, let_in_unheard;

static void let_some_in(struct probe *p)
{
	uint64_t value;

	for (unsigned i = 0; let_in_count < 100; i++) {
		if (i == let_in_per_turn && !loop_draining(loop)) {
			loop_left(loop, &p->source);
			return;
		}
		probe_open(&let_in[let_in_count], '\0', true, false);
		probe_raise(&let_in[let_in_count++]);
	}
	ck_assert_int_eq(read(p->source.fd, &value, sizeof(value)), sizeof(value));
}

static void count_unheard(struct probe *p)
{
	for (unsigned i = 0; i < 100; i++)
		let_in_unheard += !let_in[i].count;
}

START_TEST(test_late_sources_wait_for_those_who_are_let_in)
{
	struct probe late, listener;

	for (let_in_per_turn = 1; let_in_per_turn < 30; let_in_per_turn++) {
		let_in_count = let_in_unheard = 0;
		memset(let_in, 0, sizeof(let_in));
		probe_open(&late, '\0', true, true);
		probe_open(&listener, '\0', true, false);
		listener.keep = true;
		listener.then = let_some_in;
		late.then = count_unheard;
		probe_raise(&late);
		probe_raise(&listener);
		while (!late.count)
			run_once();
		ck_assert_uint_eq(let_in_count, 100);
		ck_assert_uint_eq(let_in_unheard, 0);
		for (unsigned i = 0; i < 100; i++)
			probe_close(&let_in[i]);
		probe_close(&listener);
		probe_close(&late);
	}
}
END_TEST

static struct probe late_newcomer;

static void add_late(struct probe *p)
{
	probe_open(&late_newcomer, 'L', true, true);
	probe_raise(&late_newcomer);
}

START_TEST(test_late_source_that_was_added_meanwhile_is_called)
{
	struct probe a;

	probe_open(&a, 'a', true, false);
	a.then = add_late;
	probe_raise(&a);
	loop_drain(loop);
	ck_assert_str_eq(calls, "aL");
	probe_close(&a);
	probe_close(&late_newcomer);
}
END_TEST

START_TEST(test_all_late_sources_in_one_drain)
{
	enum { N = 3000 };
	struct probe *p = calloc(N, sizeof(*p));

	ck_assert_ptr_nonnull(p);
	for (int i = 0; i < N; i++) {
		probe_open(&p[i], 0, true, true);
		p[i].then = remove_self;
		probe_raise(&p[i]);
	}
	loop_drain(loop);
	for (int i = 0; i < N; i++) {
		ck_assert_uint_eq(p[i].count, 1);
		ck_assert_int_eq(p[i].source.fd, -1);
	}
	free(p);
}
END_TEST

static void drain_within(struct probe *p)
{
	loop_drain(loop);
}

START_TEST(test_drain_within_ingest_does_nothing)
{
	struct probe a, b;

	probe_open(&a, 'a', true, false);
	probe_open(&b, 'b', true, false);
	a.then = drain_within;
	a.keep = true;
	probe_raise(&a);
	loop_drain(loop);
	ck_assert_uint_ge(a.count, 1);
	ck_assert_uint_le(a.count, 2);
	a.count = 0;
	run_once();
	ck_assert_uint_eq(a.count, 1);
	probe_close(&a);
	probe_close(&b);
}
END_TEST

/* ---- timers ---- */

struct alarm {
	struct loop_timer timer;
	char letter;
	unsigned again;   /* set itself anew that often */
	bool stop;
};

static void alarm_expired(struct loop_timer *t)
{
	struct alarm *a = loop_owner(t, struct alarm, timer);

	called(a->letter);
	if (a->again && a->again--)
		loop_timer_set(loop, t, 0);
	else if (a->stop)
		loop_stop(loop, 3);
}

START_TEST(test_timers_expire_in_their_order)
{
	struct alarm a = { .timer = { .expired = alarm_expired }, .letter = 'a' };
	struct alarm b = { .timer = { .expired = alarm_expired }, .letter = 'b' };
	struct alarm c = { .timer = { .expired = alarm_expired }, .letter = 'c', .stop = true };
	struct alarm never = { .timer = { .expired = alarm_expired }, .letter = 'x' };
	uint64_t before = loop_monotonic();

	loop_timer_set(loop, &c.timer, 40);
	loop_timer_set(loop, &never.timer, 3600 * 1000);
	loop_timer_set(loop, &a.timer, 10);
	loop_timer_set(loop, &b.timer, 20);
	loop_timer_set(loop, &a.timer, 30);
	loop_timer_cancel(loop, &never.timer);
	loop_timer_cancel(loop, &never.timer);
	ck_assert_int_eq(loop_run(loop), 3);
	ck_assert_str_eq(calls, "bac");
	ck_assert_uint_ge(loop_monotonic() - before, 40 * UINT64_C(1000000));
}
END_TEST

/* One that sets itself anew does not keep the loop from everything else. */
START_TEST(test_timer_sets_itself_anew)
{
	struct alarm a = { .timer = { .expired = alarm_expired }, .letter = 'a', .again = 3, .stop = true };
	struct probe p;

	probe_open(&p, 'p', false, false);
	p.keep = true;
	probe_raise(&p);
	loop_timer_set(loop, &a.timer, 0);
	ck_assert_int_eq(loop_run(loop), 3);
	ck_assert_str_eq(calls, "papapapa");
	probe_close(&p);
}
END_TEST

/* ---- works and hooks ---- */

struct job {
	struct loop_work work;
	char letter;
	unsigned steps;
	struct job *cancels;
};

static bool job_step(struct loop_work *w)
{
	struct job *j = loop_owner(w, struct job, work);

	called(j->letter);
	if (j->cancels)
		loop_work_cancel(loop, &j->cancels->work);
	return --j->steps > 0;
}

START_TEST(test_works_and_sources_take_turns)
{
	struct job one = { .work = { .step = job_step }, .letter = '1', .steps = 3 };
	struct job two = { .work = { .step = job_step }, .letter = '2', .steps = 2 };
	struct probe p;

	probe_open(&p, 'p', false, false);
	p.keep = true;
	probe_raise(&p);
	loop_work_add(loop, &one.work);
	loop_work_add(loop, &two.work);
	loop_work_add(loop, &one.work);
	run_once();
	ck_assert_str_eq(calls, "p12");
	run_once();
	ck_assert_str_eq(calls, "p12p12");
	run_once();
	ck_assert_str_eq(calls, "p12p12p1");
	probe_close(&p);
	run_once();
	ck_assert_str_eq(calls, "p12p12p1");
}
END_TEST

START_TEST(test_works_cancelled)
{
	struct job three = { .work = { .step = job_step }, .letter = '3', .steps = 9 };
	struct job two = { .work = { .step = job_step }, .letter = '2', .steps = 1 };
	struct job one = { .work = { .step = job_step }, .letter = '1', .steps = 1, .cancels = &three };

	loop_work_add(loop, &one.work);
	loop_work_add(loop, &two.work);
	loop_work_add(loop, &three.work);
	run_once();
	ck_assert_str_eq(calls, "12");
	loop_work_cancel(loop, &three.work);
	three.steps = 1;
	loop_work_add(loop, &three.work);
	run_once();
	ck_assert_str_eq(calls, "123");
	run_once();
	ck_assert_str_eq(calls, "123");
}
END_TEST

static void hook_turn(struct loop_hook *h)
{
	called('|');
}

START_TEST(test_hooks_end_each_turn)
{
	struct loop_hook hook = { .turn = hook_turn };
	struct probe p, q;

	probe_open(&p, 'p', true, false);
	probe_open(&q, 'q', true, false);
	loop_hook_add(loop, &hook);
	probe_raise(&p);
	probe_raise(&q);
	run_once();
	ck_assert_str_eq(calls, "pq|");
	probe_close(&p);
	probe_close(&q);
}
END_TEST

/* While nothing happens the loop sleeps: in the 30 ms until the end it is not scheduled again and again. */
START_TEST(test_idle_does_not_wake_up)
{
	struct itimerspec in_30_ms = { .it_value = { .tv_nsec = 30000000 } };
	struct rusage before, after;
	struct probe end, quiet;

	probe_open(&quiet, 'q', true, false);
	end = (struct probe){ .source = { .ready = probe_ready }, .then = stop };
	end.source.fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	ck_assert_int_eq(loop_add(loop, &end.source, EPOLLIN), 0);
	ck_assert_int_eq(getrusage(RUSAGE_SELF, &before), 0);
	ck_assert_int_eq(timerfd_settime(end.source.fd, 0, &in_30_ms, NULL), 0);
	ck_assert_int_eq(loop_run(loop), 7);
	ck_assert_int_eq(getrusage(RUSAGE_SELF, &after), 0);
	ck_assert_int_le(after.ru_nvcsw - before.ru_nvcsw, 3);
	probe_close(&end);
	probe_close(&quiet);
}
END_TEST

/* ---- how long turns take ---- */

static void spin_10_ms(struct probe *p)
{
	struct timespec t, until;

	ck_assert_int_eq(clock_gettime(CLOCK_THREAD_CPUTIME_ID, &until), 0);
	until.tv_nsec += 10000000;
	do
		ck_assert_int_eq(clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t), 0);
	while ((t.tv_sec - until.tv_sec) * 1000000000 + t.tv_nsec - until.tv_nsec < 0);
}

static void spin_and_reset_max(struct probe *p)
{
	spin_10_ms(p);
	loop_turns_reset_max(loop);
}

static void spin_and_reset(struct probe *p)
{
	spin_10_ms(p);
	loop_turns_reset(loop);
}

/* A turn in which the callback is called. */
static struct loop_turns after_turn_with(void (*then)(struct probe *p))
{
	struct probe p;

	probe_open(&p, 0, true, false);
	p.then = then;
	probe_raise(&p);
	run_once();
	probe_close(&p);
	return loop_turns(loop);
}

/* A short turn is only expected to take less than the long one. */
START_TEST(test_turns_are_measured)
{
	struct loop_turns t = loop_turns(loop);

	ck_assert_uint_eq(t.count + t.slow + t.max_ns, 0);
	t = after_turn_with(spin_10_ms);
	ck_assert_uint_eq(t.count, 1);
	ck_assert_uint_eq(t.slow, 1);
	ck_assert_uint_ge(t.max_ns, 10000000);
	/* A short one leaves the longest. */
	ck_assert_uint_ge(after_turn_with(NULL).max_ns, t.max_ns);
	t = after_turn_with(spin_and_reset_max);
	ck_assert_uint_eq(t.count, 3);
	ck_assert_uint_gt(t.max_ns, 0);
	ck_assert_uint_lt(t.max_ns, 10000000);
	t = after_turn_with(spin_and_reset);
	ck_assert_uint_eq(t.count, 1);
	ck_assert_uint_lt(t.max_ns, 10000000);
}
END_TEST

/* Waiting is not part of a turn. */
START_TEST(test_waiting_is_no_turn)
{
	struct itimerspec in_50_ms = { .it_value = { .tv_nsec = 50000000 } };
	struct probe end = { .source = { .ready = probe_ready }, .then = stop };

	end.source.fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	ck_assert_int_eq(loop_add(loop, &end.source, EPOLLIN), 0);
	ck_assert_int_eq(timerfd_settime(end.source.fd, 0, &in_50_ms, NULL), 0);
	ck_assert_int_eq(loop_run(loop), 7);
	ck_assert_uint_lt(loop_turns(loop).max_ns, 50000000);
	probe_close(&end);
}
END_TEST

START_TEST(test_free_nothing)
{
	loop_free(NULL);
}
END_TEST

static Suite *loop_suite(void)
{
	Suite *s = suite_create("loop");
	TCase *t = tcase_create("loop");

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_set_timeout(t, 60);
	tcase_add_test(t, test_source_is_called_with_its_events);
	tcase_add_test(t, test_source_errors);
	tcase_add_test(t, test_source_removed_by_another_is_not_called);
	tcase_add_test(t, test_report_for_a_descriptor_that_is_somebody_elses_now);
	tcase_add_test(t, test_source_removes_itself);
	tcase_add_test(t, test_drain_takes_ingest_only);
	tcase_add_test(t, test_drain_takes_all_and_ends_although_one_never_rests);
	tcase_add_test(t, test_late_sources_come_after_the_others);
	tcase_add_test(t, test_late_sources_wait_over_turns);
	tcase_add_test(t, test_late_sources_wait_for_what_was_left);
	tcase_add_test(t, test_late_sources_wait_for_those_who_are_let_in);
	tcase_add_test(t, test_late_source_that_was_added_meanwhile_is_called);
	tcase_add_test(t, test_all_late_sources_in_one_drain);
	tcase_add_test(t, test_drain_within_ingest_does_nothing);
	tcase_add_test(t, test_timers_expire_in_their_order);
	tcase_add_test(t, test_timer_sets_itself_anew);
	tcase_add_test(t, test_works_and_sources_take_turns);
	tcase_add_test(t, test_works_cancelled);
	tcase_add_test(t, test_hooks_end_each_turn);
	tcase_add_test(t, test_idle_does_not_wake_up);
	tcase_add_test(t, test_turns_are_measured);
	tcase_add_test(t, test_waiting_is_no_turn);
	tcase_add_test(t, test_free_nothing);
	suite_add_tcase(s, t);
	return s;
}

int main(void)
{
	SRunner *runner = srunner_create(loop_suite());
	int failed;

	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
