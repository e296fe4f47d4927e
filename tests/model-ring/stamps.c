/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * stamps.c - points 5 and 6: events of several lanes, put in order by stamps, and the server's two looks.
 *
 * Each thread follows a script; see `struct scene` below. The server makes one round or two. A round: if there is a
 * request, everything that happened before it has to be booked at the end; look at all lanes; read the counter; look
 * again; book, merged by stamp, what the first look found and what of the second is stamped before the counter. In that
 * merge a stamp that is older than a look that did not find its record is raised to that look's counter, as
 * tracker/lane.c does. A lane whose ring sleeps is left out until the server, asking before each look, hears that its
 * eventfd was written.
 *
 * Promises: when an event is booked, all are booked that happen before it. So what is booked is closed under "happens
 * before" after each round, and the order of booking agrees with it. And requests are answered as said.
 *
 * That a record is complete when its tail is, is segments.c; here what is in it is known with the tail.
 */
#include <string.h>

#include "tests/model-ring/models.h"

#define EVENTS 2        /* of one lane, at most */
#define LANES_MAX 3
#define FLAGS 2

enum { FIRST, SECOND, THIRD, FIRST_OF_SERVER };
static const char *const thread_names[] = { "thread 0", "thread 1", "thread 2", "server" };
static const char *const two_names[] = { "thread 0", "thread 1", "server" };
static const char *const one_names[] = { "thread 0", "server" };

enum { TAIL, LANES = TAIL + LANES_MAX, MANY, REQUEST, FLAG, ATTENTION = FLAG + FLAGS, LOCATIONS };
static_assert(LOCATIONS <= MACHINE_LOCATIONS, "too many");
static const char *const location_names[] = {
	"tail 0", "tail 1", "tail 2", "lanes", "many", "request", "flag 0", "flag 1", "attention",
};

/* A thread's script:
 *  e  reports an event     m  sets `many`     c  claims a lane     x  takes lane 1 for what follows     |  full fence
 *  0 1  sets the flag: what it knows happened before who finds it set
 *  a b  looks at flag 0, 1
 *  r  asks the server      l  lies from here on: any stamp
 */
struct scene {
	const char *script[3];
	const char *many_late[3];    /* for STAMPS_MANY_LATE */
	const char *no_fence[3];     /* for STAMPS_NO_FENCE */
	uint8_t threads;             /* without the server */
	uint8_t lanes;               /* claimed from the beginning: of as many threads */
	uint8_t rounds;              /* of the server */
	bool sleeper;                /* lane 0 is of a ring of its own, which sleeps; `attention` is that ring's */
};

struct own {
	uint8_t pc[3];
	uint8_t phase[3];            /* within an event */
	uint8_t lane[3];
	uint8_t liar[3];
	uint8_t alone[3];            /* saw `many` 0 */
	uint8_t stamp[3];
	uint8_t knows[3];            /* the events that happen before what the thread does next: bit lane * EVENTS + i */
	uint8_t told[FLAGS + 1];     /* with each flag, and with the request */
	uint8_t events[LANES_MAX];   /* of each lane, reported */
	uint8_t stamps[LANES_MAX][EVENTS];
	uint8_t before[LANES_MAX * EVENTS];
	/* the server */
	uint8_t server_pc;
	uint8_t rounds;              /* left */
	uint8_t wanted;              /* by the request that is answered */
	uint8_t lanes;
	uint8_t look;                /* lane to look at next */
	uint8_t found[2][LANES_MAX];
	uint8_t early;               /* tails of the second look that were loaded before the counter */
	uint8_t counter;
	uint8_t booked[LANES_MAX];
	/* as lane_age() keeps them */
	uint8_t floor[LANES_MAX];
	uint8_t mark[LANES_MAX];
	uint8_t mark_floor[LANES_MAX];
	/* the ring that sleeps */
	uint8_t asleep;
	uint8_t written;             /* its eventfd */
};
static_assert(sizeof(struct own) <= MACHINE_OWN, "too large");
static_assert(LANES_MAX * EVENTS <= 8, "a bit each");

static struct own *own(struct machine *m)
{
	return (void *)m->own;
}

static bool is(const struct machine *m, enum stamps_mutation mutation)
{
	return m->mutation == mutation;
}

static void init(struct machine *m, const struct scene *s)
{
	unsigned i;

	for (i = 0; i < LOCATIONS; i++)
		machine_set(m, i, i == LANES ? s->lanes : i == ATTENTION ? s->sleeper : 0);
	own(m)->asleep = s->sleeper;
	own(m)->rounds = s->rounds;
	for (i = 0; i < s->lanes; i++)
		own(m)->lane[i] = (uint8_t)i;
}

/* ---- the threads ---- */

enum { LOOK_MANY, STAMP, PUBLISH, LOOK_ATTENTION, WRITE };

static uint8_t take_stamp(struct machine *m, unsigned t)
{
	const struct own *o = own(m);
	uint8_t v;

	if (o->liar[t])
		return machine_choose(2) ? 255 : 0;
	if (is(m, STAMPS_NOT_HELD) || o->alone[t])
		return machine_ticks(m, t, TICKS_ANYWHERE);
	v = machine_ticks(m, t, TICKS_AFTER);
	if (is(m, STAMPS_CLOCK_STANDS) && v > 2 && machine_choose(2)) {
		m->clock = v = (uint8_t)(v - 2);
		m->early[t] = v;
	}
	return v;
}

static void publish(struct machine *m, unsigned t)
{
	struct own *o = own(m);
	const uint8_t lane = o->lane[t];
	const unsigned event = (unsigned)lane * EVENTS + o->events[lane];

	o->before[event] = o->knows[t];
	o->stamps[lane][o->events[lane]++] = o->stamp[t];
	o->knows[t] |= (uint8_t)(1U << event);
	machine_note("with stamp", o->stamp[t]);
	machine_store(m, t, TAIL + lane, o->events[lane], ORDERED);
}

static bool report_end(struct own *o, unsigned t)
{
	o->phase[t] = LOOK_MANY;
	o->stamp[t] = 0;
	o->alone[t] = 0;
	return true;
}

static void write_eventfd(struct machine *m, unsigned t)
{
	machine_fence(m, t);  /* a system call */
	machine_note("writes to the eventfd", 1);
	own(m)->written = 1;
}

/* Whether the event is reported. */
static bool report(struct machine *m, unsigned t, const struct scene *s)
{
	struct own *o = own(m);

	switch (o->phase[t]++) {
	case LOOK_MANY:
		o->alone[t] = !machine_load(m, t, MANY, RELAXED);
		return false;
	case STAMP:
		o->stamp[t] = take_stamp(m, t);
		return false;
	case PUBLISH:
		publish(m, t);
		return s->sleeper && o->lane[t] == 0 ? false : report_end(o, t);
	case LOOK_ATTENTION:
		return machine_load(m, t, ATTENTION, RELAXED) ? false : report_end(o, t);
	default:
		write_eventfd(m, t);
		return report_end(o, t);
	}
}

static void tell(struct machine *m, unsigned t, unsigned flag)
{
	own(m)->told[flag] = own(m)->knows[t];
	if (flag == FLAGS)
		machine_fence(m, t);  /* a system call */
	machine_store(m, t, flag == FLAGS ? REQUEST : FLAG + flag, 1, ORDERED);
}

static void listen(struct machine *m, unsigned t, unsigned flag)
{
	if (machine_load(m, t, FLAG + flag, ORDERED))
		own(m)->knows[t] |= own(m)->told[flag];
}

static void act(struct machine *m, unsigned t, char what)
{
	struct own *o = own(m);

	if (what == 'm')
		machine_store(m, t, MANY, 1, RELAXED);
	else if (what == 'c')
		o->lane[t] = machine_modify(m, t, LANES, 0xff, 0, 1);
	else if (what == 'x')
		o->lane[t] = 1;
	else if (what == 'l')
		o->liar[t] = 1;
	else if (what == '|')
		machine_fence(m, t);
	else if (what == 'r')
		tell(m, t, FLAGS);
	else if (what == '0' || what == '1')
		tell(m, t, (unsigned)(what - '0'));
	else
		listen(m, t, (unsigned)(what - 'a'));
}

static bool thread(struct machine *m, unsigned t, const char *script, const struct scene *s)
{
	const char what = script[own(m)->pc[t]];

	if (!what)
		return false;
	if (what != 'e')
		act(m, t, what);
	if (what != 'e' || report(m, t, s))
		own(m)->pc[t]++;
	return true;
}

/* ---- the server ---- */

enum { ASK, HEAR, WAKE, LOOK_LANES, LOOK, COUNTER, HEAR_AGAIN, WAKE_AGAIN, LOOK_LANES_AGAIN, LOOK_AGAIN };

static void book(struct machine *m, unsigned lane)
{
	struct own *o = own(m);
	const unsigned event = lane * EVENTS + o->booked[lane];
	unsigned booked = 0, i, k;
	bool honest = true;

	for (i = 0; i < 3; i++)
		honest &= !o->liar[i];
	for (i = 0; i < LANES_MAX; i++)
		for (k = 0; k < o->booked[i]; k++)
			booked |= 1U << (i * EVENTS + k);
	if (honest && o->before[event] & ~booked)
		machine_fail("an event is booked, and one that happens before it is not");
	o->booked[lane]++;
}

/* Of the lane's next event, as it counts in the merge. */
static uint8_t stamp_of(const struct machine *m, const struct own *o, unsigned lane)
{
	const uint8_t next = o->booked[lane], stamp = o->stamps[lane][next];
	uint8_t floor = o->floor[lane];

	if (is(m, STAMPS_RAISED_EARLY) && next >= o->found[0][lane])
		floor = o->counter;
	return stamp < floor ? floor : stamp;
}

/* After both looks, as lane_age(). */
static void age(struct own *o, unsigned lane)
{
	if (o->booked[lane] < o->mark[lane])
		return;
	o->floor[lane] = o->mark_floor[lane];
	o->mark[lane] = o->found[1][lane];
	o->mark_floor[lane] = o->counter;
}

/* Whether the next event of the lane belongs to this round. */
static bool takes(const struct machine *m, const struct own *o, unsigned lane)
{
	const uint8_t next = o->booked[lane];

	if (next < o->found[0][lane] && !is(m, STAMPS_FIRST_BOUND))
		return true;
	return next < o->found[1][lane] && (is(m, STAMPS_NO_BOUND) || stamp_of(m, o, lane) < o->counter);
}

static void merge(struct machine *m)
{
	struct own *o = own(m);
	unsigned i, best;

	do {
		best = LANES_MAX;
		for (i = 0; i < LANES_MAX; i++)
			if (takes(m, o, i) && (best == LANES_MAX ||
			    stamp_of(m, o, i) < stamp_of(m, o, best)))
				best = i;
		if (best < LANES_MAX)
			book(m, best);
	} while (best < LANES_MAX);
}

static void round_end(struct machine *m)
{
	struct own *o = own(m);
	unsigned i, k;

	for (i = o->asleep ? 1 : 0; i < o->lanes; i++)
		age(o, i);
	merge(m);
	for (i = 0; i < LANES_MAX; i++)
		for (k = o->booked[i]; k < EVENTS; k++)
			if (o->wanted >> (i * EVENTS + k) & 1)
				machine_fail("not booked, though reported before the request");
	o->rounds--;
	o->wanted = 0;
	o->lanes = 0;
	o->counter = 0;
	memset(o->found, 0, sizeof(o->found));
	o->server_pc = ASK;
}

static bool look(struct machine *m, unsigned t, unsigned which)
{
	struct own *o = own(m);

	if (o->look == 0 && o->asleep)
		o->look++;
	o->found[which][o->look] = machine_load(m, t, TAIL + o->look, ORDERED);
	if (++o->look < o->lanes)
		return false;
	o->look = 0;
	return true;
}

static void ask(struct machine *m, unsigned t)
{
	if (machine_load(m, t, REQUEST, ORDERED))
		own(m)->wanted = own(m)->told[FLAGS];
	if (is(m, STAMPS_COUNTER_FIRST))
		own(m)->server_pc = COUNTER;
	else
		own(m)->server_pc = own(m)->asleep && !is(m, STAMPS_SLEEPERS_LATE) ? HEAR : LOOK_LANES;
}

/* Asks the ring that sleeps. */
static void hear(struct machine *m, unsigned t)
{
	struct own *o = own(m);
	const uint8_t look = o->server_pc == HEAR ? LOOK_LANES : LOOK_LANES_AGAIN;

	machine_fence(m, t);  /* a system call */
	o->server_pc = o->written ? o->server_pc + 1 : look;
	o->written = 0;
}

static void wake(struct machine *m, unsigned t)
{
	machine_modify(m, t, ATTENTION, 0, 0, 0);
	own(m)->asleep = 0;
	own(m)->server_pc++;
}

static void looked(struct machine *m)
{
	if (is(m, STAMPS_ONE_LOOK))
		round_end(m);
	else
		own(m)->server_pc = is(m, STAMPS_COUNTER_FIRST) || is(m, STAMPS_COUNTER_LAST) ?
				    LOOK_LANES_AGAIN : COUNTER;
}

static void counter(struct machine *m, unsigned t)
{
	struct own *o = own(m);

	/* A processor that is not told otherwise may do loads that come later now. */
	if (is(m, STAMPS_LOOK_NOT_HELD) && !o->early && machine_choose(2)) {
		o->found[1][0] = machine_load(m, t, TAIL, ORDERED);
		o->early = 1;
		return;
	}
	o->counter = machine_ticks(m, t, is(m, STAMPS_LOOK_NOT_HELD) ? TICKS_AFTER : TICKS_BETWEEN);
	if (is(m, STAMPS_COUNTER_LAST))
		round_end(m);
	else if (is(m, STAMPS_COUNTER_FIRST))
		o->server_pc = LOOK_LANES;
	else
		o->server_pc = o->asleep && !is(m, STAMPS_SLEEPERS_ONCE) ? HEAR_AGAIN : LOOK_LANES_AGAIN;
}

static void look_again(struct machine *m, unsigned t)
{
	struct own *o = own(m);

	if (o->early) {
		o->look = 1;
		o->early = 0;
		if (o->lanes > 1)
			return;
		o->look = 0;
	} else if (!look(m, t, 1)) {
		return;
	}
	if (is(m, STAMPS_COUNTER_LAST))
		o->server_pc = COUNTER;
	else
		round_end(m);
}

static bool server(struct machine *m, unsigned t)
{
	struct own *o = own(m);

	switch (o->server_pc) {
	case ASK:
		if (o->rounds == 0)
			return false;
		ask(m, t);
		return true;
	case HEAR:
	case HEAR_AGAIN:
		hear(m, t);
		return true;
	case WAKE:
	case WAKE_AGAIN:
		wake(m, t);
		return true;
	case LOOK_LANES:
	case LOOK_LANES_AGAIN:
		if (o->server_pc == LOOK_LANES || !is(m, STAMPS_LANES_ONCE))
			o->lanes = machine_load(m, t, LANES, ORDERED);
		o->server_pc++;
		return true;
	case LOOK:
		if (look(m, t, 0))
			looked(m);
		return true;
	case COUNTER:
		counter(m, t);
		return true;
	default:
		look_again(m, t);
		return true;
	}
}

static const char *script(const struct machine *m, const struct scene *s, unsigned t)
{
	if (is(m, STAMPS_MANY_LATE) && s->many_late[t])
		return s->many_late[t];
	return is(m, STAMPS_NO_FENCE) && s->no_fence[t] ? s->no_fence[t] : s->script[t];
}

static bool step(struct machine *m, unsigned t, const struct scene *s)
{
	return t == s->threads ? server(m, t) : thread(m, t, script(m, s, t), s);
}

static void end(struct machine *m)
{
}

/* ---- the scenes ---- */

/* Thread 0 is alone until thread 1 comes. Each reports, hands over, and reports again if it was handed to. */
static const struct scene pair = {
	.script = { "e0be", "mcae1r" }, .many_late = { NULL, "cae1mr" }, .threads = 2, .lanes = 1, .rounds = 2,
};
/* From thread 0 through thread 1 to thread 2. */
static const struct scene chain = {
	.script = { "e0", "mca1", "mcber" }, .threads = 3, .lanes = 1, .rounds = 1,
};
/* One thread, which goes over from its lane to another. */
static const struct scene lanes = { .script = { "em|xer" }, .no_fence = { "emxer" }, .threads = 1,
	.lanes = 2, .rounds = 2 };
/* One client lies, which harms no promise to others: all that was reported before a request is booked. */
static const struct scene liar = { .script = { "le0", "mcaer" }, .threads = 2,
	.lanes = 1, .rounds = 2 };
/* Two processes of several threads each; the first one's ring sleeps. */
static const struct scene sleeper = { .script = { "me0", "mae1r" }, .threads = 2, .lanes = 2, .rounds = 2,
	.sleeper = true };
/* Who sleeps may lie as well. */
static const struct scene sleeping_liar = { .script = { "le0", "maer" }, .threads = 2, .lanes = 2, .rounds = 2,
	.sleeper = true };

#define SCENE(scene, thread_names_of_it, count) \
static void scene##_init(struct machine *m) \
{ \
	init(m, &scene); \
} \
static bool scene##_step(struct machine *m, unsigned t) \
{ \
	return step(m, t, &scene); \
} \
const struct machine_model stamps_##scene##_model = { \
	.name = "stamps_" #scene, .threads = (count) + 1, .thread_names = thread_names_of_it, \
	.location_names = location_names, .init = scene##_init, .step = scene##_step, .end = end, \
}

SCENE(pair, two_names, 2);
SCENE(chain, thread_names, 3);
SCENE(lanes, one_names, 1);
SCENE(liar, two_names, 2);
SCENE(sleeper, two_names, 2);
SCENE(sleeping_liar, two_names, 2);
