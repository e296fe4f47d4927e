/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * loop.c - the one event loop; the contract is in loop.h.
 *
 * Three epoll sets: ingest sources, late ingest sources, and the one that is waited on, which holds all the others and
 * the first two themselves. An event carries descriptor and serial number of its source, never a pointer, so one that
 * was reported for a source that has gone meanwhile is recognised and ignored.
 *
 * A turn takes in for about 200 us. When a death is reported, what was pending before it is passed over in as many
 * turns as it takes, and then the death is called. Draining does all of it at once.
 *
 * Why a pass ends: the kernel keeps ready sources in a queue, and one that was reported goes to its end. So as soon
 * as a source is reported twice, everything that was ready at the start has been called.
 */
#include "tracker/loop.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

enum set { SET_ALL, SET_INGEST, SET_LATE, SETS };

#define DRAIN_BATCH 1024  /* reports per epoll_wait() when draining */
#define TURN_BATCH 64     /* reports per turn and set: neither side starves the other */
#define STEP_BATCH 8      /* reports of ingest sources between two looks at the clock */
#define STEP_NS UINT64_C(200000)  /* no further ingest source is called in a turn after this time */

#define NS_PER_S UINT64_C(1000000000)
#define NS_PER_MS UINT64_C(1000000)
#define LEFT_NS (100 * NS_PER_MS)  /* so long deaths wait for what was left; then it is taken in at once */

struct loop {
	int epoll[SETS];
	struct loop_source **by_fd;
	size_t by_fd_size;
	size_t late_count;
	uint64_t serial;       /* of the source that was added last */
	uint64_t pass;         /* number of the current pass over the ingest sources */
	bool late_added;       /* since it was last cleared */
	bool draining;
	bool passing;          /* over several turns, before the deaths in `late` are called */
	struct epoll_event late[TURN_BATCH];
	int lates;             /* in it, and how many of these have been called */
	int lates_called;
	size_t lefts;          /* sources that have left something in this pass */
	uint64_t pass_begun;
	bool taking_in;        /* ingest sources are being called: draining would call them within themselves */
	bool called;           /* something was, in this turn */
	bool stopping;
	int status;
	struct loop_timer *timers;
	struct loop_work *works;
	struct loop_work **works_end;
	struct loop_hook *hooks;
	struct loop_drainer *drainers;
	struct loop_turns turns;
	uint64_t turn_begun;   /* processor time */
};

static uint64_t clock_ns(clockid_t clock)
{
	struct timespec t;

	clock_gettime(clock, &t);
	return (uint64_t)t.tv_sec * NS_PER_S + (uint64_t)t.tv_nsec;
}

uint64_t loop_now(void)
{
	return clock_ns(CLOCK_REALTIME);
}

uint64_t loop_monotonic(void)
{
	return clock_ns(CLOCK_MONOTONIC);
}

/* A system call, other than the clocks above. */
static uint64_t processor_time(void)
{
	return clock_ns(CLOCK_THREAD_CPUTIME_ID);
}

/* ---- life ---- */

/* What a report from the outer set carries for an inner one; no source has serial number 0. */
static uint64_t set_mark(enum set set)
{
	return (uint64_t)set;
}

static int open_sets(struct loop *loop)
{
	for (int set = 0; set < SETS; set++) {
		struct epoll_event e = { .events = EPOLLIN, .data.u64 = set_mark((enum set)set) };

		loop->epoll[set] = epoll_create1(EPOLL_CLOEXEC);
		if (loop->epoll[set] < 0)
			return -errno;
		if (set != SET_ALL && epoll_ctl(loop->epoll[SET_ALL], EPOLL_CTL_ADD, loop->epoll[set], &e) < 0)
			return -errno;
	}
	return 0;
}

int loop_new(struct loop **loopp)
{
	struct loop *loop = calloc(1, sizeof(*loop));
	int r;

	if (!loop)
		return -ENOMEM;
	for (int set = 0; set < SETS; set++)
		loop->epoll[set] = -1;
	loop->works_end = &loop->works;
	r = open_sets(loop);
	if (r < 0) {
		loop_free(loop);
		return r;
	}
	*loopp = loop;
	return 0;
}

void loop_free(struct loop *loop)
{
	if (!loop)
		return;
	for (int set = 0; set < SETS; set++)
		if (loop->epoll[set] >= 0)
			close(loop->epoll[set]);
	free(loop->by_fd);
	free(loop);
}

/* ---- sources ---- */

static enum set set_of(const struct loop_source *s)
{
	if (!s->ingest)
		return SET_ALL;
	return s->late ? SET_LATE : SET_INGEST;
}

static uint64_t source_mark(const struct loop_source *s)
{
	return s->serial << 32 | (uint32_t)s->fd;
}

/* NULL: the report is for a source that is not there any more. */
static struct loop_source *source_of_mark(const struct loop *loop, uint64_t mark)
{
	uint32_t fd = (uint32_t)mark;
	struct loop_source *s = fd < loop->by_fd_size ? loop->by_fd[fd] : NULL;

	return s && source_mark(s) == mark ? s : NULL;
}

static int make_room(struct loop *loop, int fd)
{
	size_t size = loop->by_fd_size ? loop->by_fd_size : 64;
	struct loop_source **by_fd;

	if (fd < 0)
		return -EBADF;
	if ((size_t)fd < loop->by_fd_size)
		return 0;
	while (size <= (size_t)fd)
		size *= 2;
	by_fd = realloc(loop->by_fd, size * sizeof(*by_fd));
	if (!by_fd)
		return -ENOMEM;
	for (size_t i = loop->by_fd_size; i < size; i++)
		by_fd[i] = NULL;
	loop->by_fd = by_fd;
	loop->by_fd_size = size;
	return 0;
}

static uint64_t next_serial(struct loop *loop)
{
	/* Its lower half goes into the mark and must not be 0, which marks the inner sets. */
	do
		loop->serial++;
	while (!(uint32_t)loop->serial);
	return loop->serial;
}

int loop_add(struct loop *loop, struct loop_source *s, uint32_t events)
{
	struct epoll_event e = { .events = events };
	int r = make_room(loop, s->fd);

	if (r < 0)
		return r;
	if (s->added || loop->by_fd[s->fd])
		return -EEXIST;
	s->serial = next_serial(loop);
	s->pass = s->left = 0;
	e.data.u64 = source_mark(s);
	if (epoll_ctl(loop->epoll[set_of(s)], EPOLL_CTL_ADD, s->fd, &e) < 0)
		return -errno;
	loop->by_fd[s->fd] = s;
	s->added = true;
	if (set_of(s) == SET_LATE) {
		loop->late_added = true;
		loop->late_count++;
	}
	return 0;
}

int loop_change(struct loop *loop, struct loop_source *s, uint32_t events)
{
	struct epoll_event e = { .events = events, .data.u64 = source_mark(s) };

	if (!s->added)
		return -ENOENT;
	return epoll_ctl(loop->epoll[set_of(s)], EPOLL_CTL_MOD, s->fd, &e) < 0 ? -errno : 0;
}

/* What it has left in this pass is not awaited any more. */
static void take_up(struct loop *loop, struct loop_source *s)
{
	if (s->left && s->left == loop->pass)
		loop->lefts--;
	s->left = 0;
}

void loop_remove(struct loop *loop, struct loop_source *s)
{
	if (!s->added)
		return;
	(void)epoll_ctl(loop->epoll[set_of(s)], EPOLL_CTL_DEL, s->fd, NULL);
	loop->by_fd[s->fd] = NULL;
	s->added = false;
	take_up(loop, s);
	if (set_of(s) == SET_LATE)
		loop->late_count--;
}

/* ---- timers ---- */

void loop_timer_set(struct loop *loop, struct loop_timer *t, unsigned ms)
{
	loop_timer_cancel(loop, t);
	t->deadline = loop_monotonic() + ms * NS_PER_MS;
	t->next = loop->timers;
	loop->timers = t;
}

void loop_timer_cancel(struct loop *loop, struct loop_timer *t)
{
	struct loop_timer **at = &loop->timers;

	if (!t->deadline)
		return;
	while (*at != t)
		at = &(*at)->next;
	*at = t->next;
	t->deadline = 0;
}

static struct loop_timer *first_timer(const struct loop *loop)
{
	struct loop_timer *first = loop->timers;

	for (struct loop_timer *t = first; t; t = t->next)
		if (t->deadline < first->deadline)
			first = t;
	return first;
}

static void run_timers(struct loop *loop)
{
	struct loop_timer *t = first_timer(loop);
	uint64_t now;

	if (!t)
		return;
	/* Read once: a timer that is set anew by its own call waits for the next turn. */
	now = loop_monotonic();
	for (; t && t->deadline <= now; t = first_timer(loop)) {
		loop_timer_cancel(loop, t);
		loop->called = true;
		t->expired(t);
	}
}

/* ---- works and hooks ---- */

void loop_work_add(struct loop *loop, struct loop_work *w)
{
	if (w->queued)
		return;
	w->queued = true;
	w->next = NULL;
	*loop->works_end = w;
	loop->works_end = &w->next;
}

void loop_work_cancel(struct loop *loop, struct loop_work *w)
{
	struct loop_work **at = &loop->works;

	if (!w->queued)
		return;
	while (*at != w)
		at = &(*at)->next;
	*at = w->next;
	if (!w->next)
		loop->works_end = at;
	w->queued = false;
}

/* One step of each that is queued now; those that want more go to the end of the queue. */
static void run_works(struct loop *loop)
{
	size_t n = 0;

	for (const struct loop_work *w = loop->works; w; w = w->next)
		n++;
	while (n-- && loop->works) {
		struct loop_work *w = loop->works;

		loop_work_cancel(loop, w);
		loop->called = true;
		if (w->step(w))
			loop_work_add(loop, w);
	}
}

void loop_hook_add(struct loop *loop, struct loop_hook *h)
{
	h->next = loop->hooks;
	loop->hooks = h;
}

void loop_drainer_add(struct loop *loop, struct loop_drainer *d)
{
	d->next = loop->drainers;
	loop->drainers = d;
}

void loop_drainer_remove(struct loop *loop, struct loop_drainer *d)
{
	for (struct loop_drainer **at = &loop->drainers; *at; at = &(*at)->next)
		if (*at == d) {
			*at = d->next;
			return;
		}
}

static void run_drainers(const struct loop *loop)
{
	for (struct loop_drainer *d = loop->drainers; d; d = d->next)
		d->drain(d);
}

static void run_hooks(struct loop *loop)
{
	if (!loop->called)
		return;
	loop->called = false;
	for (struct loop_hook *h = loop->hooks; h; h = h->next)
		h->turn(h);
}

/* ---- calling sources ---- */

static void call(struct loop *loop, struct loop_source *s, uint32_t events)
{
	loop->called = true;
	s->ready(s, events);
}

static void call_all(struct loop *loop, const struct epoll_event *ready, int n)
{
	for (int i = 0; i < n; i++) {
		struct loop_source *s = source_of_mark(loop, ready[i].data.u64);

		if (s)
			call(loop, s, ready[i].events);
	}
}

static void begin_pass(struct loop *loop)
{
	loop->pass++;
	loop->lefts = 0;
	loop->pass_begun = loop_monotonic();
}

/* Part of a pass over the ingest sources: `batch` reports. Returns whether there may be more that were ready when the
 * pass began. */
static bool pass_some(struct loop *loop, int batch)
{
	struct epoll_event ready[DRAIN_BATCH];
	bool fresh = false, repeated = false;
	int n = epoll_wait(loop->epoll[SET_INGEST], ready, batch, 0);

	for (int i = 0; i < n; i++) {
		struct loop_source *s = source_of_mark(loop, ready[i].data.u64);

		if (!s)
			continue;
		if (s->pass == loop->pass)
			repeated = true;
		else
			fresh = true;
		s->pass = loop->pass;
		take_up(loop, s);
		call(loop, s, ready[i].events);
	}
	return fresh && !repeated;
}

/* Calls each ingest source that is ready now once at least. */
static void pass_ingest(struct loop *loop)
{
	begin_pass(loop);
	while (pass_some(loop, DRAIN_BATCH))
		;
}

void loop_left(struct loop *loop, struct loop_source *s)
{
	if (!loop->passing || s->left == loop->pass)
		return;
	s->left = loop->pass;
	loop->lefts++;
}

bool loop_draining(const struct loop *loop)
{
	return loop->draining;
}

/* One round: which late sources are ready is asked before the pass over the others, and they are called after it.
 * Returns whether there may be more of them. */
static bool drain_round(struct loop *loop)
{
	struct epoll_event late[DRAIN_BATCH];
	int n = epoll_wait(loop->epoll[SET_LATE], late, DRAIN_BATCH, 0);

	pass_ingest(loop);
	run_drainers(loop);
	call_all(loop, late, n);
	return n == DRAIN_BATCH;
}

void loop_drain(struct loop *loop)
{
	size_t rounds = loop->late_count / DRAIN_BATCH + 2;
	bool more;

	if (loop->taking_in)
		return;
	loop->taking_in = loop->draining = true;
	loop->passing = false;
	loop->lates = loop->lates_called = 0;  /* they are reported again */
	do {
		/* A late source that was added in this round, say for a client that connected and died before the call,
		 * may be ready as well. */
		loop->late_added = false;
		more = drain_round(loop);
	} while ((more || loop->late_added) && --rounds);
	loop->taking_in = loop->draining = false;
}

/* ---- turns ---- */

static int wait_ms(const struct loop *loop)
{
	const struct loop_timer *t = first_timer(loop);
	uint64_t now, ms;

	if (loop->works || loop->stopping)
		return 0;
	if (!t)
		return -1;
	now = loop_monotonic();
	if (t->deadline <= now)
		return 0;
	ms = (t->deadline - now + NS_PER_MS - 1) / NS_PER_MS;
	return ms < INT_MAX ? (int)ms : INT_MAX;
}

static void turn_ingest(struct loop *loop)
{
	uint64_t until = loop_monotonic() + STEP_NS;
	struct epoll_event ready[STEP_BATCH];
	int n, calls = 0;

	loop->taking_in = true;
	do {
		n = epoll_wait(loop->epoll[SET_INGEST], ready, STEP_BATCH, 0);
		call_all(loop, ready, n);
		calls += n;
	} while (n == STEP_BATCH && calls < TURN_BATCH && loop_monotonic() < until);
	loop->taking_in = false;
}

/* The rest in the next turn: what was pending before them has been taken in. */
static void call_lates(struct loop *loop)
{
	uint64_t until = loop_monotonic() + STEP_NS;

	do
		call_all(loop, loop->late + loop->lates_called++, 1);
	while (loop->lates_called < loop->lates && loop_monotonic() < until);
}

/* The first part of a pass, over as many turns as it takes. Returns whether there is more of it. A listener that always
 * leaves something does not keep the deaths for long. */
static bool pass_step(struct loop *loop)
{
	uint64_t until = loop_monotonic() + STEP_NS;
	unsigned batches = 0;
	bool more;

	/* Two at least: when few are ready, the second one finds that there are no more. */
	do
		more = pass_some(loop, STEP_BATCH);
	while (more && (++batches < 2 || loop_monotonic() < until));
	return more || (loop->lefts && loop_monotonic() - loop->pass_begun < LEFT_NS);
}

/* As a round of draining, but most of it was done in turns of its own before: what is still pending then, whoever a
 * listener has just let in included, is all taken in at once. */
static void turn_late(struct loop *loop)
{
	if (!loop->passing && loop->lates_called == loop->lates) {
		loop->lates = epoll_wait(loop->epoll[SET_LATE], loop->late, TURN_BATCH, 0);
		loop->lates_called = 0;
		begin_pass(loop);
		loop->passing = true;
	}
	loop->taking_in = true;
	if (loop->passing && !pass_step(loop)) {
		loop->passing = false;
		loop->draining = true;
		pass_ingest(loop);
		loop->draining = false;
		run_drainers(loop);
	}
	if (!loop->passing && loop->lates_called < loop->lates)
		call_lates(loop);
	loop->taking_in = false;
}

static bool is_reported(const struct epoll_event *ready, int n, enum set set)
{
	for (int i = 0; i < n; i++)
		if (ready[i].data.u64 == set_mark(set))
			return true;
	return false;
}

static int turn(struct loop *loop)
{
	struct epoll_event ready[TURN_BATCH];
	int n = epoll_wait(loop->epoll[SET_ALL], ready, TURN_BATCH, wait_ms(loop));

	if (n < 0)
		return errno == EINTR ? 0 : -errno;
	if (loop->passing || loop->lates_called < loop->lates || is_reported(ready, n, SET_LATE))
		turn_late(loop);
	else if (is_reported(ready, n, SET_INGEST))
		turn_ingest(loop);
	call_all(loop, ready, n);
	run_timers(loop);
	run_works(loop);
	run_hooks(loop);
	return 0;
}

/* Read once per turn: the end of one is the beginning of the next, since waiting takes no processor time. */
static void measure(struct loop *loop)
{
	uint64_t now = processor_time(), took = now - loop->turn_begun;

	loop->turn_begun = now;
	loop->turns.count++;
	loop->turns.slow += took > LOOP_SLOW_NS;
	if (took > loop->turns.max_ns)
		loop->turns.max_ns = took;
}

struct loop_turns loop_turns(const struct loop *loop)
{
	return loop->turns;
}

void loop_turns_reset_max(struct loop *loop)
{
	loop->turns.max_ns = 0;
	loop->turn_begun = processor_time();
}

void loop_turns_reset(struct loop *loop)
{
	loop->turns = (struct loop_turns){ 0 };
	loop->turn_begun = processor_time();
}

int loop_run(struct loop *loop)
{
	int r = 0;

	loop->turn_begun = processor_time();
	while (!r && !loop->stopping) {
		r = turn(loop);
		measure(loop);
	}
	loop->stopping = false;
	return r < 0 ? r : loop->status;
}

void loop_stop(struct loop *loop, int status)
{
	loop->status = status;
	loop->stopping = true;
}
