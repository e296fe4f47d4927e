/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * test-ring.c - the server's end of the rings: tracker/stamp.c, lane.c and ring.c.
 *
 * The producer is this test itself, which writes to the memory as client/ttalloc-ring.h says, or as it must not.
 */
#include "tracker/ring.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/util-registry.h"
#include "tracker/site.h"

static struct util *util;
static struct loop *loop;
static struct server_info info;
static struct ring_set set;
static uint32_t process;
static char broken[80];

static void on_broken(void *data, const char *why)
{
	ck_assert_ptr_eq(data, &set);
	snprintf(broken, sizeof(broken), "%s", why);
}

static uint32_t sited[16], sited_by;
static unsigned sitings;

static void on_site(void *data, uint32_t site, const struct site_frame *frames, uint32_t who)
{
	ck_assert_ptr_eq(data, &info);
	ck_assert_uint_eq(who, process);
	sited_by = frames[0].module;
	sited[sitings++ % 16] = site;
}

static void setup(void)
{
	util = util_new(1 << 16, 0, 0);
	info = (struct server_info){ 0 };
	broken[0] = '\0';
	sitings = 0;
	ck_assert_int_eq(loop_new(&loop), 0);
	set = (struct ring_set){ .loop = loop, .ingest = &util->in, .info = &info, .sited = on_site, .data = &info };
	ck_assert_int_eq(ring_set_init(&set), 0);
	process = util_process(util, 77, 1000, "model");
}

static void teardown(void)
{
	ring_set_deinit(&set);
	loop_free(loop);
	util_free(util);
}

static bool is_emulated(void)
{
	int fd = pidfd_open(getpid(), 0);

	if (fd < 0)
		return true;
	close(fd);
	return false;
}

/* ---- a producer ---- */

struct producer {
	struct ttalloc_ring *ring;
	struct ttalloc_lane *lane;
	uint64_t pos;
	uint64_t collected;
	uint64_t stamp;
	unsigned fresh;  /* segments that were never used */
};

static struct ring *new_ring(void)
{
	struct ring_owner owner = { .process = process, .broken = on_broken, .data = &set };
	struct ring *r;

	ck_assert_int_eq(ring_new(&r, &set, &owner), 0);
	return r;
}

static struct ttalloc_ring *map(const struct ring *r)
{
	void *at = mmap(NULL, TTALLOC_RING_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, ring_memory_fd(r), 0);

	ck_assert_ptr_ne(at, MAP_FAILED);
	return at;
}

static struct producer use_lane(struct ttalloc_ring *ring, unsigned i)
{
	if (ring->lanes < i + 1)
		ring->lanes = i + 1;
	return (struct producer){
		.ring = ring,
		.lane = (struct ttalloc_lane *)(void *)((char *)ring + TTALLOC_LANE_OFFSET(i)),
	};
}

/* By the clock that the memory names: the counter is not every kernel's. */
static uint64_t now_stamp(void)
{
	return set.clock == TTALLOC_CLOCK_COUNTER ? ttalloc_ticks_ordered() : ttalloc_clock_monotonic();
}

static void write_record(struct producer *p, struct ttalloc_record record)
{
	unsigned at = p->pos % TTALLOC_SEGMENT_RECORDS;
	unsigned turn = (unsigned)(p->pos / TTALLOC_SEGMENT_RECORDS % TTALLOC_SEGMENTS);

	if (at == 0) {
		if (p->collected < p->lane->freed_count)
			p->lane->order[turn] = p->lane->freed[p->collected++ % TTALLOC_SEGMENTS];
		else
			p->lane->order[turn] = (uint16_t)p->fresh++;
	}
	record.stamp = p->stamp ? p->stamp++ : now_stamp();
	record.seq = (uint32_t)p->pos;
	p->lane->segment[p->lane->order[turn]][at] = record;
	p->pos++;
}

static void publish(struct producer *p)
{
	atomic_store_explicit(&p->lane->tail, p->pos, memory_order_release);
}

static struct ttalloc_record event(uint8_t kind, uint64_t address, uint64_t size)
{
	return (struct ttalloc_record){ .kind = kind, .event = { .address = address, .size = size } };
}

static void report(struct producer *p, uint8_t kind, uint64_t address, uint64_t size)
{
	write_record(p, event(kind, address, size));
	publish(p);
}

static void define(struct producer *p, uint8_t kind, uint32_t number, const void *bytes, size_t len)
{
	struct ttalloc_record r = { .kind = kind, .definition = { .number = number, .length = (uint32_t)len } };
	size_t have = len < 40 ? len : 40;

	memcpy(r.definition.bytes, bytes, have);
	write_record(p, r);
	for (; have < len; have += 48) {
		r = (struct ttalloc_record){ .kind = TTALLOC_RECORD_MORE };
		memcpy(r.more, (const char *)bytes + have, len - have < 48 ? len - have : 48);
		write_record(p, r);
	}
	publish(p);
}

/* ---- stamps ---- */

START_TEST(stamps)
{
	struct stamp_scale s;

	stamp_init(&s, &(struct stamp_anchor){ 1000, 5000, 7000000000000 });
	stamp_anchor(&s, &(struct stamp_anchor){ 1000 + 3000000, 5000 + 1000000, 7000001000000 });
	ck_assert_uint_eq(stamp_time(&s, 3001000), 7000001000000);
	ck_assert_uint_eq(stamp_time(&s, 3001000 - 3000), 7000001000000 - 1000);
	ck_assert_uint_eq(stamp_time(&s, 1000), 7000000000000);
	/* A stamp from the future is now; one from before everything is not negative. */
	ck_assert_uint_eq(stamp_time(&s, UINT64_MAX), 7000001000000);
	stamp_anchor(&s, &(struct stamp_anchor){ UINT64_MAX / 2, 5000 + 1000000, 5 });
	ck_assert_uint_eq(stamp_time(&s, 0), 0);
}
END_TEST

START_TEST(stamps_follow_a_clock_that_was_set)
{
	struct stamp_scale s;

	stamp_init(&s, &(struct stamp_anchor){ 0, 0, 9000000000000 });
	stamp_anchor(&s, &(struct stamp_anchor){ 2000000, 2000000, 1000000000000 });
	ck_assert_uint_eq(stamp_time(&s, 1999000), 1000000000000 - 1000);
}
END_TEST

/* ---- one lane ---- */

START_TEST(a_lane_gives_what_was_written_and_gives_segments_back)
{
	struct ring *r = new_ring();
	struct ttalloc_ring *memory = map(r);
	struct producer p = use_lane(memory, 0);
	struct lane l = { .memory = p.lane };
	struct ttalloc_record record;

	p.stamp = 1;
	for (uint64_t n = 0; n < 5 * TTALLOC_SEGMENT_RECORDS; n++) {
		uint64_t stamp;

		report(&p, TTALLOC_RECORD_ALLOC, n, n + 1);
		ck_assert_int_eq(lane_look_first(&l), 0);
		ck_assert_int_eq(lane_look_second(&l), 0);
		ck_assert(lane_peek(&l, 0, &stamp));
		ck_assert_uint_eq(stamp, n + 1);
		ck_assert_int_eq(lane_take(&l, &record), 0);
		ck_assert_uint_eq(record.event.address, n);
		ck_assert(!lane_peek(&l, UINT64_MAX, &stamp));
	}
	/* One after the other the same segment, which had come back each time. */
	ck_assert_uint_eq(p.lane->freed_count, 5);
	ck_assert_uint_eq(p.fresh, 1);
	ck_assert_uint_eq(p.lane->head, 0);
	lane_publish(&l);
	ck_assert_uint_eq(p.lane->head, 5 * TTALLOC_SEGMENT_RECORDS);
	munmap(memory, TTALLOC_RING_SIZE);
	ring_free(r);
}
END_TEST

START_TEST(the_second_look_is_bounded_by_stamps)
{
	struct ring *r = new_ring();
	struct ttalloc_ring *memory = map(r);
	struct producer p = use_lane(memory, 0);
	struct lane l = { .memory = p.lane };
	struct ttalloc_record record;
	uint64_t stamp;

	p.stamp = 100;
	report(&p, TTALLOC_RECORD_ALLOC, 1, 1);  /* 100 */
	ck_assert_int_eq(lane_look_first(&l), 0);
	report(&p, TTALLOC_RECORD_ALLOC, 2, 1);  /* 101 */
	report(&p, TTALLOC_RECORD_ALLOC, 3, 1);  /* 102 */
	ck_assert_int_eq(lane_look_second(&l), 0);
	/* What the first look saw counts whatever its stamp says. */
	ck_assert(lane_peek(&l, 50, &stamp));
	ck_assert_int_eq(lane_take(&l, &record), 0);
	ck_assert(!lane_peek(&l, 101, &stamp));
	ck_assert(lane_peek(&l, 102, &stamp));
	ck_assert_int_eq(lane_take(&l, &record), 0);
	ck_assert(!lane_peek(&l, 102, &stamp));
	munmap(memory, TTALLOC_RING_SIZE);
	ring_free(r);
}
END_TEST

START_TEST(stamps_that_cannot_be_true_are_raised)
{
	struct ring *r = new_ring();
	struct ttalloc_ring *memory = map(r);
	struct producer p = use_lane(memory, 0);
	struct lane l = { .memory = p.lane };
	static const struct { uint64_t stamp, bound, raised; } rounds[] = {
		{ 5, 100, 5 }, { 6, 200, 100 }, { 250, 300, 250 }, { 8, 400, 300 },
	};

	for (unsigned i = 0; i < 4; i++) {
		struct ttalloc_record record;
		uint64_t stamp;

		p.stamp = rounds[i].stamp;
		report(&p, TTALLOC_RECORD_ALLOC, i, 1);
		ck_assert_int_eq(lane_look_first(&l), 0);
		ck_assert_int_eq(lane_look_second(&l), 0);
		lane_age(&l, rounds[i].bound);
		ck_assert(lane_peek(&l, rounds[i].bound, &stamp));
		ck_assert_uint_eq(stamp, rounds[i].raised);
		ck_assert_int_eq(lane_take(&l, &record), 0);
		ck_assert_uint_eq(record.stamp, rounds[i].stamp);
	}
	munmap(memory, TTALLOC_RING_SIZE);
	ring_free(r);
}
END_TEST

START_TEST(a_lane_that_lies)
{
	struct ring *r = new_ring();
	struct ttalloc_ring *memory = map(r);
	struct producer p = use_lane(memory, 0);
	struct lane l = { .memory = p.lane };
	struct ttalloc_record record;

	report(&p, TTALLOC_RECORD_ALLOC, 1, 1);
	p.lane->tail = TTALLOC_LANE_RECORDS + 1;
	ck_assert_int_eq(lane_look_first(&l), -EBADMSG);
	p.lane->tail = 1;
	ck_assert_int_eq(lane_look_first(&l), 0);
	ck_assert_int_eq(lane_look_second(&l), 0);
	p.lane->tail = 0;  /* backwards */
	ck_assert_int_eq(lane_look_first(&l), -EBADMSG);
	p.lane->segment[0][0].seq = 1;
	ck_assert_int_eq(lane_take(&l, &record), -EBADMSG);
	p.lane->segment[0][0].seq = 0;
	ck_assert_int_eq(lane_take(&l, &record), 0);

	l = (struct lane){ .memory = p.lane };
	p.lane->tail = 1;
	p.lane->order[0] = TTALLOC_SEGMENTS;
	ck_assert_int_eq(lane_look_first(&l), -EBADMSG);
	munmap(memory, TTALLOC_RING_SIZE);
	ring_free(r);
}
END_TEST

/* ---- the set ---- */

static uint64_t live(void)
{
	return registry_totals(util->reg).count;
}

START_TEST(the_memory_is_sealed)
{
	struct ring *r = new_ring();
	struct stat st;

	ck_assert_int_eq(fcntl(ring_memory_fd(r), F_GET_SEALS), F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
	ck_assert_int_eq(ftruncate(ring_memory_fd(r), 4096), -1);
	ck_assert_int_eq(errno, EPERM);
	ck_assert_int_eq(fstat(ring_memory_fd(r), &st), 0);
	ck_assert_uint_eq((uint64_t)st.st_size, TTALLOC_RING_SIZE);
	/* Address space only: the first page, and nothing of 4 GiB else. */
	ck_assert_int_le(st.st_blocks, 8);
	ck_assert_uint_eq(info.rings, 1);
	ring_free(r);
	ck_assert_uint_eq(info.rings, 0);
}
END_TEST

START_TEST(events_of_all_kinds_are_booked)
{
	struct ring *r = new_ring();
	struct ttalloc_ring *memory = map(r);
	struct producer p = use_lane(memory, 0);
	struct ttalloc_record record;
	struct buffer b;

	record = event(TTALLOC_RECORD_ALLOC, 0x1000, 64);
	record.event.device = 3;
	record.event.type = BUFFER_L1;
	write_record(&p, record);
	publish(&p);
	report(&p, TTALLOC_RECORD_CB_ALLOC, 0x2000, 32);
	report(&p, TTALLOC_RECORD_KERNEL_LOAD, 7, 5);
	report(&p, TTALLOC_RECORD_ALLOC, 0x3000, 5);
	report(&p, TTALLOC_RECORD_FREE, 0x3000, 0);
	loop_drain(loop);
	ck_assert_uint_eq(live(), 3);
	ck_assert_uint_eq(registry_find(util->reg, 3, BUFFER_L1, 0x1000, &b, 1), 1);
	ck_assert_uint_eq(b.size, 64);
	ck_assert_uint_eq(b.process, process);
	ck_assert_uint_eq(registry_find(util->reg, 0, BUFFER_CB, 0x2000, &b, 1), 1);
	ck_assert_uint_eq(registry_find(util->reg, 0, BUFFER_KERNEL, 7, &b, 1), 1);
	ck_assert_uint_eq(registry_counters(util->reg)->events_total, 5);
	ck_assert_uint_eq(p.lane->head, 5);
	report(&p, TTALLOC_RECORD_CB_FREE, 0x2000, 0);
	report(&p, TTALLOC_RECORD_KERNEL_UNLOAD, 7, 0);
	loop_drain(loop);
	ck_assert_uint_eq(live(), 1);
	munmap(memory, TTALLOC_RING_SIZE);
	ring_free(r);
}
END_TEST

START_TEST(lanes_and_rings_are_merged_by_stamp)
{
	struct ring *rings[2] = { new_ring(), new_ring() };
	struct ttalloc_ring *memory[2] = { map(rings[0]), map(rings[1]) };
	struct producer p[4];
	uint64_t rounds = 3 * TTALLOC_SEGMENT_RECORDS;

	for (unsigned i = 0; i < 4; i++)
		p[i] = use_lane(memory[i / 2], i % 2);
	/* One buffer goes from lane to lane: allocated in one, freed in the next. Any other order has double frees. */
	for (uint64_t n = 0; n < rounds; n++) {
		for (unsigned i = 0; i < 4; i++)
			p[i].stamp = 1 + n * 4 + i;
		write_record(&p[n % 4], event(TTALLOC_RECORD_FREE, 1, 0));
		p[(n + 1) % 4].stamp = 1 + n * 4 + 3;
		write_record(&p[(n + 1) % 4], event(TTALLOC_RECORD_ALLOC, 1, 8));
	}
	for (unsigned i = 0; i < 4; i++)
		publish(&p[i]);
	loop_drain(loop);
	const struct counters *c = registry_counters(util->reg);
	ck_assert_uint_eq(c->allocs_total, rounds);
	ck_assert_uint_eq(c->frees_total, rounds - 1);
	ck_assert_uint_eq(c->unknown_frees, 1);  /* the very first */
	ck_assert_uint_eq(c->double_frees + c->refs_total + c->foreign_frees, 0);
	ck_assert_uint_eq(live(), 1);
	for (unsigned i = 0; i < 2; i++) {
		munmap(memory[i], TTALLOC_RING_SIZE);
		ring_free(rings[i]);
	}
}
END_TEST

static void one_turn(void)
{
	ck_assert_int_eq(poll(&(struct pollfd){ .fd = set.timer.fd, .events = POLLIN }, 1, -1), 1);
	set.timer.ready(&set.timer, EPOLLIN);
}

START_TEST(nobody_gets_in_front_of_the_others_for_ever)
{
	struct ring *rings[2] = { new_ring(), new_ring() };
	struct ttalloc_ring *memory[2] = { map(rings[0]), map(rings[1]) };
	struct producer liar = use_lane(memory[0], 0), honest = use_lane(memory[1], 0);

	report(&honest, TTALLOC_RECORD_ALLOC, 1, 1);
	for (unsigned turn = 0; turn < 8; turn++) {
		for (unsigned i = 0; i < RING_TURN; i++) {
			liar.stamp = 1;
			write_record(&liar, event(TTALLOC_RECORD_FREE, 2, 0));
		}
		publish(&liar);
		one_turn();
	}
	/* A turn is bounded by time, too, so a slow machine needs more of them; the liar goes on all the while. */
	for (unsigned turn = 0; honest.lane->head != 1 && turn < 10000; turn++) {
		liar.stamp = 1;
		write_record(&liar, event(TTALLOC_RECORD_FREE, 2, 0));
		publish(&liar);
		one_turn();
	}
	ck_assert_uint_eq(honest.lane->head, 1);
	ck_assert_uint_lt(liar.lane->head, liar.pos);
	for (unsigned i = 0; i < 2; i++) {
		munmap(memory[i], TTALLOC_RING_SIZE);
		ring_free(rings[i]);
	}
}
END_TEST

START_TEST(what_the_client_dropped_is_counted)
{
	struct ring *r = new_ring();
	struct ttalloc_ring *memory = map(r);
	struct producer p = use_lane(memory, 0);

	p.lane->dropped = 3;
	loop_drain(loop);
	ck_assert_uint_eq(registry_counters(util->reg)->events_lost, 3);
	p.lane->dropped = 5;
	loop_drain(loop);
	loop_drain(loop);
	ck_assert_uint_eq(registry_counters(util->reg)->events_lost, 5);
	ck_assert_uint_eq(registry_process(util->reg, process)->lost, 5);
	p.lane->dropped = 4;  /* a lie */
	loop_drain(loop);
	ck_assert_uint_eq(registry_counters(util->reg)->events_lost, 5);
	p.lane->dropped = UINT64_MAX;
	ring_set_drain(&set);  /* once, whether it is time for the timer or not */
	ck_assert_uint_eq(registry_counters(util->reg)->events_lost, 5 + UINT64_C(0xffffffff));
	munmap(memory, TTALLOC_RING_SIZE);
	ring_free(r);
}
END_TEST

START_TEST(a_full_lane_and_the_rest_at_the_end)
{
	struct ring *r = new_ring();
	struct ttalloc_ring *memory = map(r);
	struct producer p = use_lane(memory, TTALLOC_LANES - 1);

	for (uint64_t n = 0; n < TTALLOC_LANE_RECORDS; n++)
		write_record(&p, event(n % 2 ? TTALLOC_RECORD_FREE : TTALLOC_RECORD_ALLOC, n / 2, 1));
	publish(&p);
	loop_drain(loop);
	ck_assert_uint_eq(p.lane->head, TTALLOC_LANE_RECORDS);
	ck_assert_uint_eq(p.lane->freed_count, TTALLOC_SEGMENTS);
	ck_assert_uint_eq(registry_counters(util->reg)->frees_total, TTALLOC_LANE_RECORDS / 2);
	report(&p, TTALLOC_RECORD_ALLOC, 5, 1);
	/* Nobody drains: the ring's end does, and says where it stopped. */
	ring_free(r);
	ck_assert_uint_eq(live(), 1);
	ck_assert_uint_eq(p.lane->head, TTALLOC_LANE_RECORDS + 1);
	ck_assert_uint_eq(memory->attention, TTALLOC_ATTENTION_GONE);
	munmap(memory, TTALLOC_RING_SIZE);
}
END_TEST

/* ---- giving memory back ---- */

/* The loop is not run: its turns would hold other things. */
static unsigned turns_until_given_back(void)
{
	unsigned turns = 0;

	for (; set.waste.first; turns++)
		ck_assert_int_eq(set.waste.work.step(&set.waste.work), set.waste.first != NULL);
	loop_work_cancel(loop, &set.waste.work);
	return turns;
}

static bool is_mapped(void *at)
{
	unsigned char in_memory;

	return mincore(at, 1, &in_memory) == 0;
}

/* The records of a lane stay for its client, which is told at once; our mapping goes piece by piece. */
START_TEST(memory_is_given_back_in_pieces)
{
	struct ring *r = new_ring();
	struct ttalloc_ring *memory = map(r);
	struct producer p = use_lane(memory, 1);
	unsigned segments = 3 * WASTE_PIECE / sizeof(p.lane->segment[0]);
	const size_t lane = TTALLOC_LANE_OFFSET(1), ends[] = {
		TTALLOC_LANE_OFFSET(0) + TTALLOC_LANE_HEAD, lane + WASTE_PIECE, lane + 2 * WASTE_PIECE,
		lane + 3 * WASTE_PIECE, lane + TTALLOC_LANE_HEAD + 3 * WASTE_PIECE, TTALLOC_RING_SIZE,
	};
	void *at;

	for (uint64_t n = 0; n < segments * TTALLOC_SEGMENT_RECORDS; n++)
		write_record(&p, event(n % 2 ? TTALLOC_RECORD_FREE : TTALLOC_RECORD_ALLOC, 0x1000 + n / 2, 1));
	publish(&p);
	loop_drain(loop);
	ring_free(r);
	ck_assert_uint_eq(memory->attention, TTALLOC_ATTENTION_GONE);
	ck_assert_uint_eq(info.rings, 0);
	at = set.waste.first->at;
	ck_assert(is_mapped(at));
	/* Of lane 0 the head was touched. The last piece is all that was not. */
	for (unsigned i = 0; i < sizeof(ends) / sizeof(ends[0]); i++)
		ck_assert_uint_eq(set.waste.first->piece_end(set.waste.first, i ? ends[i - 1] : 0), ends[i]);
	ck_assert_uint_gt(turns_until_given_back(), 0);
	for (size_t pos = 0; pos < TTALLOC_RING_SIZE; pos += TTALLOC_RING_SIZE / 4)
		ck_assert(!is_mapped((char *)at + pos));
	for (unsigned s = 0; s < segments; s++)
		ck_assert_uint_eq(p.lane->segment[p.lane->order[s]][5].event.address, 0x1000 + (s * 1024 + 5) / 2);
	munmap(memory, TTALLOC_RING_SIZE);
}
END_TEST

/* Many at once: one step gives back what one step may, and the end of the set the rest. */
START_TEST(many_wait_to_be_given_back)
{
	struct ring *r[20];

	for (unsigned i = 0; i < 20; i++)
		r[i] = new_ring();
	for (unsigned i = 0; i < 20; i++)
		ring_free(r[i]);
	ck_assert_uint_eq(info.rings, 0);
	ck_assert_ptr_nonnull(set.users);
	(void)set.waste.work.step(&set.waste.work);
	ring_set_deinit(&set);
	ck_assert_ptr_null(set.users);
	ck_assert_int_eq(ring_set_init(&set), 0);
}
END_TEST

START_TEST(a_user_has_so_many_rings_and_root_more)
{
	struct ring_owner owner = { .process = process, .broken = on_broken, .data = &set };
	static struct ring *r[RING_USER_MAX + 1];
	struct rlimit limit;

	ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
	limit.rlim_cur = limit.rlim_max;
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
	/* Nor under a valgrind that has not as many terabytes to give out; it is known by what else it lacks. */
	if (limit.rlim_cur < 3 * RING_USER_MAX || is_emulated())
		return;
	for (unsigned i = 0; i < RING_USER_MAX; i++)
		ck_assert_int_eq(ring_new(&r[i], &set, &owner), 0);
	ck_assert_int_eq(ring_new(&r[RING_USER_MAX], &set, &owner), -EDQUOT);
	ck_assert_uint_eq(info.rings, RING_USER_MAX);
	owner.process = util_process(util, 78, 0, "root");
	ck_assert_int_eq(ring_new(&r[RING_USER_MAX], &set, &owner), 0);
	/* It counts until its memory is given back. */
	ring_free(r[0]);
	owner.process = process;
	ck_assert_int_eq(ring_new(&r[0], &set, &owner), -EDQUOT);
	ck_assert_uint_gt(turns_until_given_back(), 0);
	ck_assert_int_eq(ring_new(&r[0], &set, &owner), 0);
	for (unsigned i = 0; i <= RING_USER_MAX; i++)
		ring_free(r[i]);
	ck_assert_uint_eq(info.rings, 0);
	turns_until_given_back();
	ck_assert_ptr_null(set.users);
}
END_TEST

/* ---- definitions ---- */

static void site_bytes(uint64_t *bytes, unsigned frames, uint64_t module)
{
	struct ttalloc_site_head head = { .method = TTALLOC_STACK_FRAME_POINTER, .frames = (uint8_t)frames };

	memcpy(bytes, &head, sizeof(head));
	for (unsigned i = 0; i < frames; i++)
		bytes[1 + i] = module << TTALLOC_FRAME_MODULE_SHIFT | (0x1000 + i);
}

START_TEST(an_end_without_news_reads_nobody_else)
{
	struct ring *rings[2] = { new_ring(), new_ring() };
	struct ttalloc_ring *memory[2] = { map(rings[0]), map(rings[1]) };
	struct producer p[2] = { use_lane(memory[0], 0), use_lane(memory[1], 0) };

	report(&p[0], TTALLOC_RECORD_ALLOC, 1, 1);
	ring_set_drain(&set);
	report(&p[1], TTALLOC_RECORD_ALLOC, 2, 1);
	p[0].lane->dropped = 3;
	ring_free(rings[0]);
	ck_assert_uint_eq(live(), 1);
	ck_assert_uint_eq(registry_counters(util->reg)->events_lost, 3);
	ck_assert_uint_eq(memory[0]->attention, TTALLOC_ATTENTION_GONE);
	/* With news they are all read, in their order. */
	report(&p[1], TTALLOC_RECORD_ALLOC, 3, 1);
	ring_free(rings[1]);
	ck_assert_uint_eq(live(), 3);
	munmap(memory[0], TTALLOC_RING_SIZE);
	munmap(memory[1], TTALLOC_RING_SIZE);
}
END_TEST

START_TEST(sites_and_tags)
{
	struct ring *r = new_ring();
	struct ttalloc_ring *memory = map(r);
	struct producer p = use_lane(memory, 0);
	struct ttalloc_record record = event(TTALLOC_RECORD_ALLOC, 0x1000, 64);
	struct module_info module;
	struct site_info site;
	struct buffer b;
	uint64_t bytes[64];

	define(&p, TTALLOC_RECORD_MODULE, 9, "\2\xab\xcd/usr/lib/a-library-with-a-name-that-takes-two-records.so", 59);
	site_bytes(bytes, 20, 9);
	define(&p, TTALLOC_RECORD_SITE, 4, bytes, 8 + 20 * 8);
	define(&p, TTALLOC_RECORD_TAG, 2, "model.layers.3/matmul", 21);
	record.event.site = 4;
	record.event.tag = 2;
	write_record(&p, record);
	publish(&p);
	loop_drain(loop);
	ck_assert_uint_eq(registry_find(util->reg, 0, BUFFER_DRAM, 0x1000, &b, 1), 1);
	ck_assert_str_eq(registry_tag_text(util->reg, b.tag), "model.layers.3/matmul");
	ck_assert(registry_site_get(util->reg, b.site, &site));
	ck_assert_uint_eq(site.n, 20);
	ck_assert_uint_eq(site.method, TTALLOC_STACK_FRAME_POINTER);
	ck_assert_uint_eq(site.frames[19].offset, 0x1013);
	ck_assert(registry_module_get(util->reg, site.frames[19].module, &module));
	ck_assert_str_eq(module.path, "/usr/lib/a-library-with-a-name-that-takes-two-records.so");
	ck_assert_uint_eq(module.build_id_len, 2);
	ck_assert_uint_eq(sitings, 1);
	ck_assert_uint_eq(sited[0], b.site);
	ck_assert_uint_eq(sited_by, site.frames[0].module);

	/* The same file at another path: the same site, told with where this one has it. */
	define(&p, TTALLOC_RECORD_MODULE, 10, "\2\xab\xcd/opt/elsewhere.so", 20);
	site_bytes(bytes, 20, 10);
	define(&p, TTALLOC_RECORD_SITE, 6, bytes, 8 + 20 * 8);
	publish(&p);
	loop_drain(loop);
	ck_assert_uint_eq(sitings, 2);
	ck_assert_uint_eq(sited[1], b.site);
	ck_assert(registry_module_get(util->reg, sited_by, &module));
	ck_assert_str_eq(module.path, "/opt/elsewhere.so");

	/* Numbers that nothing was defined for mean nothing. */
	record.event.address = 0x2000;
	record.event.site = 5;
	record.event.tag = 70000;
	write_record(&p, record);
	publish(&p);
	loop_drain(loop);
	ck_assert_uint_eq(registry_find(util->reg, 0, BUFFER_DRAM, 0x2000, &b, 1), 1);
	ck_assert_uint_eq(b.site, 0);
	ck_assert_uint_eq(b.tag, 0);
	ck_assert_str_eq(broken, "");
	munmap(memory, TTALLOC_RING_SIZE);
	ring_free(r);
}
END_TEST

START_TEST(a_turn_takes_fewer_definitions_than_events)
{
	struct ring *r = new_ring();
	struct ttalloc_ring *memory = map(r);
	struct producer p = use_lane(memory, 0);
	struct ttalloc_site_head head = { .method = TTALLOC_STACK_FRAME_POINTER, .frames = TTALLOC_FRAMES_MAX };
	uint64_t site[1 + TTALLOC_FRAMES_MAX] = { 0 };

	memcpy(site, &head, sizeof(head));
	for (site[1] = 0; site[1] < 1000; site[1]++)
		define(&p, TTALLOC_RECORD_SITE, 1, site, sizeof(site));
	one_turn();
	ck_assert_uint_gt(registry_sites(util->reg), 0);
	ck_assert_uint_le(registry_sites(util->reg), 40);
	ring_set_drain(&set);
	ck_assert_uint_eq(registry_sites(util->reg), 1000);
	munmap(memory, TTALLOC_RING_SIZE);
	ring_free(r);
}
END_TEST

START_TEST(capacities)
{
	struct ring *r = new_ring();
	struct ttalloc_ring *memory = map(r);
	struct producer p = use_lane(memory, 0);
	struct ttalloc_device_data d = { .dram = 1000, .l1 = 50, .arch = 2 };

	define(&p, TTALLOC_RECORD_DEVICE, 5, &d, sizeof(d));
	loop_drain(loop);
	ck_assert_uint_eq(registry_device(util->reg, 5)->capacity[BUFFER_DRAM], 1000);
	ck_assert_uint_eq(registry_device(util->reg, 5)->arch, 2);
	define(&p, TTALLOC_RECORD_DEVICE, 5000, &d, sizeof(d));
	registry_device_declare(util->reg, 6, 7, 7, 1);
	define(&p, TTALLOC_RECORD_DEVICE, 6, &d, sizeof(d));
	loop_drain(loop);
	ck_assert_uint_eq(registry_device(util->reg, 6)->capacity[BUFFER_DRAM], 7);
	ck_assert_uint_eq(registry_counters(util->reg)->refused_events, 2);
	ck_assert_int_eq(registry_device_report(util->reg, 5, 1001, 1, 1, 1), -EPERM);
	ck_assert_int_eq(registry_device_report(util->reg, 5, 1001, 1000, 50, 2), 0);
	ck_assert_int_eq(registry_device_report(util->reg, 5, 0, 1, 1, 1), 0);
	munmap(memory, TTALLOC_RING_SIZE);
	ring_free(r);
}
END_TEST

/* ---- clients that write nonsense ---- */

struct nonsense {
	const char *why;
	void (*write)(struct producer *p);
};

static void bad_kind(struct producer *p)
{
	report(p, 200, 1, 1);
}

static void bad_lanes(struct producer *p)
{
	p->ring->lanes = TTALLOC_LANES + 1;
}

static void fewer_lanes(struct producer *p)
{
	loop_drain(loop);
	p->ring->lanes = 0;
}

static void bad_tail(struct producer *p)
{
	p->lane->tail = UINT64_MAX;
}

static void bad_seq(struct producer *p)
{
	p->pos++;
	publish(p);
}

static void bad_order(struct producer *p)
{
	p->lane->order[0] = UINT16_MAX;
	p->pos = 1;
	publish(p);
}

static void bad_length(struct producer *p)
{
	write_record(p, (struct ttalloc_record){ .kind = TTALLOC_RECORD_TAG,
						 .definition = { .number = 1, .length = UINT32_MAX } });
	publish(p);
}

static void cut_definition(struct producer *p)
{
	write_record(p, (struct ttalloc_record){ .kind = TTALLOC_RECORD_TAG,
						 .definition = { .number = 1, .length = 41 } });
	publish(p);
}

static void event_in_definition(struct producer *p)
{
	cut_definition(p);
	report(p, TTALLOC_RECORD_ALLOC, 1, 1);
}

static void lone_more(struct producer *p)
{
	report(p, TTALLOC_RECORD_MORE, 0, 0);
}

static void number_zero(struct producer *p)
{
	define(p, TTALLOC_RECORD_TAG, 0, "x", 1);
}

static void number_large(struct producer *p)
{
	define(p, TTALLOC_RECORD_MODULE, TTALLOC_MODULES_MAX + 1, "\0x", 2);
}

static void site_of_other_length(struct producer *p)
{
	uint64_t bytes[64];

	site_bytes(bytes, 3, 0);
	define(p, TTALLOC_RECORD_SITE, 1, bytes, 8 + 2 * 8);
}

static void site_too_deep(struct producer *p)
{
	uint64_t bytes[80];

	site_bytes(bytes, TTALLOC_FRAMES_MAX + 1, 0);
	define(p, TTALLOC_RECORD_SITE, 1, bytes, 8 + (TTALLOC_FRAMES_MAX + 1) * 8);
}

static void module_id_too_long(struct producer *p)
{
	define(p, TTALLOC_RECORD_MODULE, 1, "\377x", 2);
}

static const struct nonsense nonsenses[] = {
	{ "a record that makes no sense", bad_kind },
	{ "a number of lanes that makes no sense", bad_lanes },
	{ "a number of lanes that makes no sense", fewer_lanes },
	{ "a position that makes no sense", bad_tail },
	{ "a record that makes no sense", bad_seq },
	{ "a position that makes no sense", bad_order },
	{ "a record that makes no sense", bad_length },
	{ "a record that makes no sense", cut_definition },
	{ "a record that makes no sense", event_in_definition },
	{ "a record that makes no sense", lone_more },
	{ "a record that makes no sense", number_zero },
	{ "a record that makes no sense", number_large },
	{ "a record that makes no sense", site_of_other_length },
	{ "a record that makes no sense", site_too_deep },
	{ "a record that makes no sense", module_id_too_long },
};

START_TEST(nonsense_ends_the_ring_and_no_other)
{
	struct ring *bad = new_ring(), *good = new_ring();
	struct ttalloc_ring *memory[2] = { map(bad), map(good) };
	struct producer p[2] = { use_lane(memory[0], 0), use_lane(memory[1], 0) };

	report(&p[1], TTALLOC_RECORD_ALLOC, 0x100, 1);
	nonsenses[_i].write(&p[0]);
	loop_drain(loop);
	ck_assert_str_eq(broken, nonsenses[_i].why);
	ck_assert_uint_eq(live(), 1);
	ck_assert_uint_eq(p[1].lane->head, 1);
	report(&p[1], TTALLOC_RECORD_ALLOC, 0x200, 1);
	report(&p[0], TTALLOC_RECORD_ALLOC, 0x300, 1);
	loop_drain(loop);
	ck_assert_uint_eq(live(), 2);
	munmap(memory[0], TTALLOC_RING_SIZE);
	munmap(memory[1], TTALLOC_RING_SIZE);
	ring_free(bad);
	ck_assert_uint_eq(live(), 2);
	ring_free(good);
}
END_TEST

/* Who delivers the rest to another server must not deliver what was booked. */
START_TEST(a_broken_ring_says_how_far_it_was_booked)
{
	struct ring *r = new_ring();
	struct ttalloc_ring *memory = map(r);
	struct producer p = use_lane(memory, 0);

	report(&p, TTALLOC_RECORD_ALLOC, 1, 1);
	bad_kind(&p);
	report(&p, TTALLOC_RECORD_ALLOC, 2, 1);
	loop_drain(loop);
	ck_assert_uint_eq(live(), 1);
	ck_assert_uint_eq(p.lane->head, 2);
	munmap(memory, TTALLOC_RING_SIZE);
	ring_free(r);
}
END_TEST

/* ---- silence ---- */

static struct ttalloc_ring *watched;
static struct loop_hook until;

static void stop_when_armed(struct loop_hook *h)
{
	if (atomic_load(&watched->attention) && !set.active)
		loop_stop(loop, 0);
}

START_TEST(a_silent_ring_is_armed_and_wakes)
{
	struct ring *r = new_ring();
	struct producer p;
	uint64_t one = 1;

	watched = map(r);
	p = use_lane(watched, 0);
	watched->barrier = 1;
	until.turn = stop_when_armed;
	loop_hook_add(loop, &until);
	ck_assert_int_eq(loop_run(loop), 0);
	ck_assert_uint_eq(watched->attention, TTALLOC_ATTENTION_WAKE);
	ck_assert_uint_eq(set.period, 0);  /* no timer: nobody wakes us */

	report(&p, TTALLOC_RECORD_ALLOC, 1, 1);
	ck_assert_int_eq(write(ring_wake_fd(r), &one, sizeof(one)), sizeof(one));
	/* As before an answer to a question, when the loop has not called anybody for the eventfd yet. */
	ring_set_drain(&set);
	ck_assert_uint_eq(live(), 1);
	ck_assert_uint_eq(watched->attention, 0);
	/* A client that writes without being asked to is heard, too, and the loop is not kept busy by it. */
	ck_assert_int_eq(write(ring_wake_fd(r), &one, sizeof(one)), sizeof(one));
	loop_drain(loop);
	ck_assert_int_eq(poll(&(struct pollfd){ .fd = set.wakes.fd, .events = POLLIN }, 1, 0), 0);
	ck_assert_uint_eq(set.period, RING_POLL_US * 1000);
	/* And again. */
	ck_assert_int_eq(loop_run(loop), 0);
	ck_assert_int_eq(write(ring_wake_fd(r), &one, sizeof(one)), sizeof(one));
	ring_set_drain(&set);
	ck_assert_uint_eq(watched->attention, 0);
	munmap(watched, TTALLOC_RING_SIZE);
	ring_free(r);
}
END_TEST

/* The open file is the client's, too: whatever it does to it, we never wait for it. */
START_TEST(an_eventfd_that_blocks)
{
	struct ring *r = new_ring();
	uint64_t one = 1;

	watched = map(r);
	watched->barrier = 1;
	ck_assert_int_eq(fcntl(ring_wake_fd(r), F_SETFL, 0), 0);
	until.turn = stop_when_armed;
	loop_hook_add(loop, &until);
	ck_assert_int_eq(loop_run(loop), 0);
	ck_assert_int_eq(write(ring_wake_fd(r), &one, sizeof(one)), sizeof(one));
	ck_assert_int_eq(read(ring_wake_fd(r), &one, sizeof(one)), sizeof(one));
	ring_set_drain(&set);
	ring_free(r);  /* asleep */
	ck_assert_uint_eq(watched->attention, TTALLOC_ATTENTION_GONE);
	munmap(watched, TTALLOC_RING_SIZE);
}
END_TEST

static void stop_when_slow(struct loop_hook *h)
{
	if (set.period == RING_QUIET_MS * UINT64_C(1000000))
		loop_stop(loop, 0);
}

START_TEST(a_ring_without_barrier_is_never_armed)
{
	struct ring *r = new_ring();

	watched = map(r);
	until.turn = stop_when_slow;
	loop_hook_add(loop, &until);
	ck_assert_int_eq(loop_run(loop), 0);
	ck_assert_uint_eq(watched->attention, 0);
	ck_assert_ptr_nonnull(set.active);
	munmap(watched, TTALLOC_RING_SIZE);
	ring_free(r);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("ring");
	TCase *pure = tcase_create("stamp");
	TCase *rings = tcase_create("ring");

	tcase_add_test(pure, stamps);
	tcase_add_test(pure, stamps_follow_a_clock_that_was_set);
	suite_add_tcase(s, pure);
	tcase_add_checked_fixture(rings, setup, teardown);
	tcase_set_timeout(rings, 120);
	tcase_add_test(rings, a_lane_gives_what_was_written_and_gives_segments_back);
	tcase_add_test(rings, the_second_look_is_bounded_by_stamps);
	tcase_add_test(rings, stamps_that_cannot_be_true_are_raised);
	tcase_add_test(rings, a_lane_that_lies);
	tcase_add_test(rings, the_memory_is_sealed);
	tcase_add_test(rings, events_of_all_kinds_are_booked);
	tcase_add_test(rings, lanes_and_rings_are_merged_by_stamp);
	tcase_add_test(rings, nobody_gets_in_front_of_the_others_for_ever);
	tcase_add_test(rings, what_the_client_dropped_is_counted);
	tcase_add_test(rings, a_full_lane_and_the_rest_at_the_end);
	tcase_add_test(rings, an_end_without_news_reads_nobody_else);
	tcase_add_test(rings, memory_is_given_back_in_pieces);
	tcase_add_test(rings, many_wait_to_be_given_back);
	tcase_add_test(rings, a_user_has_so_many_rings_and_root_more);
	tcase_add_test(rings, sites_and_tags);
	tcase_add_test(rings, a_turn_takes_fewer_definitions_than_events);
	tcase_add_test(rings, capacities);
	tcase_add_loop_test(rings, nonsense_ends_the_ring_and_no_other, 0, sizeof(nonsenses) / sizeof(nonsenses[0]));
	tcase_add_test(rings, a_broken_ring_says_how_far_it_was_booked);
	tcase_add_test(rings, a_silent_ring_is_armed_and_wakes);
	tcase_add_test(rings, an_eventfd_that_blocks);
	tcase_add_test(rings, a_ring_without_barrier_is_never_armed);
	suite_add_tcase(s, rings);

	SRunner *runner = srunner_create(s);
	srunner_run_all(runner, CK_ENV);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}
