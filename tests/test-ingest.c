/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * test-ingest.c - the booking rules: each by itself, and all together at random beside a naive model.
 */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "tests/util-registry.h"

static struct util *u;
static uint32_t ann, ben, eve;  /* ann and ben are of one user, eve of another */

static void setup(void)
{
	u = util_new(0, 0, 0);
	ann = util_process(u, 100, 1000, "ann");
	ben = util_process(u, 101, 1000, "ben");
	eve = util_process(u, 102, 2000, "eve");
}

static void teardown(void)
{
	util_check_totals(u);
	util_free(u);
}

static const struct counters *count(void)
{
	return registry_counters(u->reg);
}

static unsigned live(unsigned device, unsigned type, uint64_t address)
{
	struct buffer b;

	return (unsigned)registry_find(u->reg, device, type, address, &b, 1);
}

static struct buffer the(unsigned device, unsigned type, uint64_t address)
{
	struct buffer b;

	ck_assert_uint_ge(registry_find(u->reg, device, type, address, &b, 1), 1);
	return b;
}

static const char *error_log(void)
{
	static struct textbuf t;

	textbuf_clear(&t);
	errlog_text(&u->errlog, &t);
	textbuf_putc(&t, '\0');
	return t.data;
}

START_TEST(alloc_and_free)
{
	util_alloc(u, ann, 0, BUFFER_DRAM, 0x1000, 4096);
	struct buffer b = the(0, BUFFER_DRAM, 0x1000);
	ck_assert_uint_eq(b.size, 4096);
	ck_assert_uint_eq(b.refs, 1);
	ck_assert_uint_eq(b.process, ann);
	ck_assert_uint_eq(b.time, UTIL_NOW);
	util_release(u, ann, 0, 0x1000);
	ck_assert_uint_eq(live(0, BUFFER_DRAM, 0x1000), 0);
	ck_assert_uint_eq(count()->allocs_total, 1);
	ck_assert_uint_eq(count()->frees_total, 1);
	ck_assert_uint_eq(registry_totals(u->reg).peak, 4096);
}
END_TEST

START_TEST(same_size_is_a_reference)
{
	for (int i = 0; i < 3; i++)
		util_alloc(u, ann, 0, BUFFER_L1, 0x1000, 64);
	ck_assert_uint_eq(the(0, BUFFER_L1, 0x1000).refs, 3);
	ck_assert_uint_eq(count()->refs_total, 2);
	ck_assert_uint_eq(count()->allocs_total, 1);
	for (int i = 0; i < 2; i++)
		util_release(u, ann, 0, 0x1000);
	ck_assert_uint_eq(the(0, BUFFER_L1, 0x1000).refs, 1);
	ck_assert_uint_eq(count()->unrefs_total, 2);
	ck_assert_uint_eq(count()->frees_total, 0);
	util_release(u, ann, 0, 0x1000);
	ck_assert_uint_eq(live(0, BUFFER_L1, 0x1000), 0);
	ck_assert_uint_eq(count()->frees_total, 1);
}
END_TEST

START_TEST(other_size_is_a_resize)
{
	util_alloc(u, ann, 0, BUFFER_DRAM, 0x1000, 100);
	util_alloc(u, ann, 0, BUFFER_DRAM, 0x1000, 300);
	util_alloc(u, ann, 0, BUFFER_DRAM, 0x1000, 200);
	ck_assert_uint_eq(count()->resized_total, 2);
	ck_assert_uint_eq(count()->refs_total, 0);
	ck_assert_uint_eq(the(0, BUFFER_DRAM, 0x1000).size, 200);
	ck_assert_uint_eq(the(0, BUFFER_DRAM, 0x1000).refs, 3);
	ck_assert_uint_eq(registry_totals(u->reg).bytes, 200);
	ck_assert_uint_eq(registry_totals(u->reg).peak, 300);
}
END_TEST

START_TEST(two_owners_at_one_address_are_two_buffers)
{
	util_alloc(u, ann, 0, BUFFER_DRAM, 0x1000, 100);
	util_alloc(u, ben, 0, BUFFER_DRAM, 0x1000, 200);
	ck_assert_uint_eq(live(0, BUFFER_DRAM, 0x1000), 2);
	ck_assert_uint_eq(the(0, BUFFER_DRAM, 0x1000).process, ben);
	util_release(u, ann, 0, 0x1000);
	ck_assert_uint_eq(live(0, BUFFER_DRAM, 0x1000), 1);
	ck_assert_uint_eq(the(0, BUFFER_DRAM, 0x1000).process, ben);
}
END_TEST

START_TEST(an_address_of_an_ended_owner_is_reused)
{
	util_alloc(u, eve, 0, BUFFER_DRAM, 0x1000, 100);
	ingest_exit(&u->in, eve, u->now);
	ck_assert_uint_eq(registry_suspects(u->reg), 1);
	util_alloc(u, ann, 0, BUFFER_DRAM, 0x1000, 200);
	ck_assert_uint_eq(live(0, BUFFER_DRAM, 0x1000), 2);
	ck_assert_uint_eq(registry_suspects(u->reg), 1);
	ck_assert_uint_eq(registry_totals(u->reg).bytes, 300);
}
END_TEST

START_TEST(free_without_type_takes_the_newest)
{
	util_alloc(u, ann, 0, BUFFER_DRAM, 0x1000, 100);
	util_alloc(u, ann, 0, BUFFER_L1, 0x1000, 200);
	util_alloc(u, ann, 0, BUFFER_CB, 0x1000, 400);
	util_release(u, ann, 0, 0x1000);
	ck_assert_uint_eq(count()->ambiguous_frees, 1);
	ck_assert_uint_eq(live(0, BUFFER_L1, 0x1000), 0);
	ck_assert_uint_eq(live(0, BUFFER_DRAM, 0x1000), 1);
	util_release(u, ann, 0, 0x1000);
	ck_assert_uint_eq(count()->ambiguous_frees, 1);
	ck_assert_uint_eq(live(0, BUFFER_DRAM, 0x1000), 0);
	ck_assert_uint_eq(live(0, BUFFER_CB, 0x1000), 1);
	ck_assert_uint_eq(count()->frees_total, 2);
}
END_TEST

START_TEST(a_free_of_the_family_is_foreign)
{
	util_alloc(u, ann, 0, BUFFER_DRAM, 0x1000, 100);
	util_release(u, ben, 0, 0x1000);
	ck_assert_uint_eq(count()->foreign_frees, 1);
	ck_assert_uint_eq(count()->frees_total, 1);
	ck_assert_uint_eq(live(0, BUFFER_DRAM, 0x1000), 0);
	util_release(u, ann, 0, 0x1000);
	ck_assert_uint_eq(count()->double_frees, 1);
}
END_TEST

START_TEST(a_foreign_free_among_several_is_refused)
{
	uint32_t cat = util_process(u, 103, 1000, "cat");
	util_alloc(u, ann, 0, BUFFER_DRAM, 0x1000, 100);
	util_alloc(u, ben, 0, BUFFER_DRAM, 0x1000, 100);
	util_release(u, cat, 0, 0x1000);
	ck_assert_uint_eq(count()->foreign_frees, 1);
	ck_assert_uint_eq(count()->frees_total, 0);
	ck_assert_uint_eq(live(0, BUFFER_DRAM, 0x1000), 2);
	ck_assert_ptr_nonnull(strstr(error_log(), "several buffers"));
}
END_TEST

/* A process that connects after others have ended, and was started then. */
static uint32_t later(int pid, uint64_t started)
{
	struct process_identity id = { .pid = pid, .uid = 1000, .gid = 1000, .start_ticks = 1, .started = started,
				       .comm = "later", .exe = "later" };
	uint32_t slot;

	u->now++;
	ck_assert_int_eq(registry_process_add(u->reg, &id, u->now, &slot), 0);
	ingest_connect(&u->in, slot, u->now);
	return slot;
}

/* What is left by the dead is not for those who were started later. */
static const struct {
	uint64_t started;
	unsigned met;
} after_ann[] = { { UTIL_NOW + 1000, 0 }, { UTIL_NOW + 999, 1 }, { UTIL_NOW - 1, 1 }, { 0, 1 } };

START_TEST(the_dead_have_no_strangers_for_heirs)
{
	const unsigned met = after_ann[_i].met;
	uint32_t p;

	util_alloc(u, ann, 0, BUFFER_DRAM, 0x1000, 100);
	util_alloc(u, ann, 0, BUFFER_DRAM, 0x2000, 100);
	util_release(u, ann, 0, 0x2000);
	registry_process_end(u->reg, ann, u->now);
	p = later(200, after_ann[_i].started);
	util_release(u, p, 0, 0x1000);
	ck_assert_uint_eq(count()->foreign_frees, met);
	ck_assert_uint_eq(count()->unknown_frees, !met);
	ck_assert_uint_eq(live(0, BUFFER_DRAM, 0x1000), !met);
	/* Nor is what ann has freed itself freed a second time by them. */
	util_release(u, p, 0, 0x2000);
	ck_assert_uint_eq(count()->double_frees, met);
	ck_assert_uint_eq(count()->unknown_frees, met ? 0 : 2);
}
END_TEST

/* Buffers of those who have long ended do not make that of the family one of several, however many they are. */
START_TEST(strangers_do_not_make_a_free_ambiguous)
{
	uint32_t parent, child;

	for (int i = 0; i < 300; i++) {
		uint32_t stranger = later(1000 + i, UTIL_NOW);
		util_alloc(u, stranger, 0, BUFFER_L1, 0x1000, 100);
		registry_process_end(u->reg, stranger, u->now);
	}
	parent = later(200, u->now + 1000);
	child = later(201, u->now + 1000);
	util_alloc(u, parent, 0, BUFFER_DRAM, 0x1000, 50);
	util_release(u, child, 0, 0x1000);
	ck_assert_uint_eq(count()->foreign_frees, 1);
	ck_assert_uint_eq(count()->frees_total, 1);
	ck_assert_uint_eq(live(0, BUFFER_DRAM, 0x1000), 0);
	ck_assert_uint_eq(live(0, BUFFER_L1, 0x1000), 300);
	/* Those who were there with one of them can have it from it. */
	util_alloc(u, parent, 0, BUFFER_DRAM, 0x3000, 50);
	registry_process_end(u->reg, parent, u->now);
	util_release(u, ben, 0, 0x3000);
	ck_assert_uint_eq(count()->foreign_frees, 2);
	ck_assert_uint_eq(live(0, BUFFER_DRAM, 0x3000), 0);
}
END_TEST

START_TEST(nobody_reaches_across_users)
{
	util_alloc(u, ann, 0, BUFFER_DRAM, 0x1000, 100);
	util_release(u, eve, 0, 0x1000);
	ck_assert_uint_eq(count()->foreign_frees, 1);
	ck_assert_uint_eq(count()->frees_total, 0);
	ck_assert_uint_eq(live(0, BUFFER_DRAM, 0x1000), 1);
	ck_assert_ptr_nonnull(strstr(error_log(), "free refused: pid 102 (eve): device 0 address 0x000000001000 belongs "
						  "to another user's pid 100 (ann)"));
	util_release(u, ann, 0, 0x1000);
	util_release(u, eve, 0, 0x1000);
	ck_assert_uint_eq(count()->double_frees, 0);
	ck_assert_uint_eq(count()->unknown_frees, 1);
}
END_TEST

/* The result must not depend on how two processes' events interleave. */
START_TEST(a_double_free_does_not_take_the_next_owners_buffer)
{
	util_alloc(u, ann, 0, BUFFER_L1, 0x1000, 100);
	util_release(u, ann, 0, 0x1000);
	util_alloc(u, ben, 0, BUFFER_L1, 0x1000, 100);
	util_release(u, ann, 0, 0x1000);
	ck_assert_uint_eq(count()->double_frees, 1);
	ck_assert_uint_eq(count()->foreign_frees, 0);
	ck_assert_uint_eq(live(0, BUFFER_L1, 0x1000), 1);
}
END_TEST

START_TEST(old_clients_frees_are_rerouted)
{
	struct event e = { .type = TTALLOC_MSG_FREE, .dialect = 72, .process = ann, .address = 0x1000 };

	util_alloc(u, ann, 3, BUFFER_DRAM, 0x1000, 100);
	e.dialect = 144;
	util_event(u, e);
	ck_assert_uint_eq(count()->unknown_frees, 1);
	e.dialect = 72;
	util_event(u, e);
	ck_assert_uint_eq(count()->rerouted_frees, 1);
	ck_assert_uint_eq(count()->frees_total, 1);
	util_alloc(u, ann, 3, BUFFER_DRAM, 0x1000, 100);
	util_alloc(u, ann, 4, BUFFER_DRAM, 0x1000, 100);
	util_event(u, e);
	ck_assert_uint_eq(count()->rerouted_frees, 1);
	ck_assert_uint_eq(count()->unknown_frees, 2);
}
END_TEST

START_TEST(typed_frees_never_wrap)
{
	util_event(u, (struct event){ .type = TTALLOC_MSG_CB_FREE, .process = ann, .address = 1, .size = 64 });
	util_event(u, (struct event){ .type = TTALLOC_MSG_KERNEL_UNLOAD, .process = ann, .address = 1, .size = 64 });
	ck_assert_uint_eq(count()->unknown_frees, 2);
	util_alloc(u, ann, 0, BUFFER_CB, 1, 64);
	util_alloc(u, ann, 0, BUFFER_KERNEL, 1, 64);
	util_event(u, (struct event){ .type = TTALLOC_MSG_CB_FREE, .process = ann, .address = 1, .size = 64 });
	ck_assert_uint_eq(live(0, BUFFER_CB, 1), 0);
	ck_assert_uint_eq(live(0, BUFFER_KERNEL, 1), 1);
	util_event(u, (struct event){ .type = TTALLOC_MSG_KERNEL_UNLOAD, .process = ann, .address = 1, .size = 64 });
	ck_assert_uint_eq(live(0, BUFFER_KERNEL, 1), 0);
}
END_TEST

START_TEST(what_is_out_of_range_is_refused)
{
	util_alloc(u, ann, -1, BUFFER_DRAM, 0x1000, 1);
	util_alloc(u, ann, 1024, BUFFER_DRAM, 0x1000, 1);
	util_alloc(u, ann, 0, BUFFER_DRAM, 0x1000, 0);
	util_alloc(u, ann, 0, BUFFER_DRAM, 0x1000, BUFFER_SIZE_MAX + 1);
	util_alloc(u, ann, 0, BUFFER_KERNEL, 0x1000, 0);
	util_event(u, (struct event){ .type = TTALLOC_MSG_ALLOC, .wire_type = 5, .process = ann, .size = 1 });
	util_event(u, (struct event){ .type = TTALLOC_MSG_KERNEL_LOAD, .wire_type = 3, .process = ann, .size = 1 });
	util_event(u, (struct event){ .type = TTALLOC_MSG_RESPONSE, .process = ann });
	util_event(u, (struct event){ .type = TTALLOC_MSG_DEVICE_INFO_RESPONSE, .process = ann });
	util_release(u, ann, -1, 0x1000);
	ck_assert_uint_eq(count()->refused_events, 10);
	ck_assert_uint_eq(count()->events_total, 10);
	ck_assert_uint_eq(registry_device_count(u->reg), 0);
	util_alloc(u, ann, 1023, BUFFER_DRAM, UINT64_MAX, BUFFER_SIZE_MAX);
	ck_assert_uint_eq(the(1023, BUFFER_DRAM, UINT64_MAX).size, BUFFER_SIZE_MAX);
	ck_assert_uint_eq(registry_totals(u->reg).bytes, BUFFER_SIZE_MAX);
}
END_TEST

START_TEST(the_ceiling_is_counted)
{
	ck_assert_int_eq(registry_set_max_buffers(u->reg, 2), 0);
	for (uint64_t a = 1; a <= 5; a++)
		util_alloc(u, ann, 0, BUFFER_DRAM, a << 12, 64);
	ck_assert_uint_eq(registry_totals(u->reg).count, 2);
	ck_assert_uint_eq(count()->events_lost, 3);
	ck_assert_uint_eq(registry_process(u->reg, ann)->lost, 3);
	ck_assert_ptr_nonnull(strstr(error_log(), "no room for another buffer: max_buffers"));
	util_alloc(u, ann, 0, BUFFER_DRAM, 1 << 12, 64);
	ck_assert_uint_eq(count()->refs_total, 1);
	util_release(u, ann, 0, 5 << 12);
	ck_assert_uint_eq(count()->unknown_frees, 1);
	ck_assert_int_eq(registry_set_max_buffers(u->reg, 0), -34);
	ck_assert_int_eq(registry_set_max_buffers(u->reg, 4097), -34);
}
END_TEST

START_TEST(sums_never_wrap)
{
	for (uint64_t a = 0; a < 300; a++)
		util_alloc(u, ann, 0, BUFFER_DRAM, a << 12, BUFFER_SIZE_MAX);
	ck_assert_uint_eq(registry_totals(u->reg).count, 255);
	ck_assert_uint_eq(registry_totals(u->reg).bytes, 255 * BUFFER_SIZE_MAX);
	ck_assert_uint_eq(count()->events_lost, 45);
	util_alloc(u, ben, 0, BUFFER_L1, 0x1000, BUFFER_SIZE_MAX - 2);
	util_alloc(u, ben, 0, BUFFER_L1, 0x1000, BUFFER_SIZE_MAX - 1);
	util_alloc(u, ben, 0, BUFFER_L1, 0x1000, BUFFER_SIZE_MAX);
	ck_assert_uint_eq(registry_totals(u->reg).bytes, UINT64_MAX);
	ck_assert_uint_eq(the(0, BUFFER_L1, 0x1000).refs, 2);
	ck_assert_uint_eq(count()->events_lost, 46);
	ck_assert_ptr_nonnull(strstr(error_log(), "would not fit 64 bits"));
}
END_TEST

START_TEST(an_address_takes_so_many_and_no_more)
{
	util_free(u);
	u = util_new(1 << 20, 0, 0);
	ann = util_process(u, 100, 1000, "ann");
	for (int i = 0; i < 700; i++) {
		uint32_t p = util_process(u, 2000 + i, 1000, "p");
		for (unsigned type = 0; type < BUFFER_TYPES; type++)
			util_alloc(u, p, 0, type, 0x1000, 64);
	}
	ck_assert_uint_eq(registry_totals(u->reg).count, REGISTRY_BUFFERS_AT_ADDRESS);
	ck_assert_uint_eq(count()->events_lost, 4900 - REGISTRY_BUFFERS_AT_ADDRESS);
	ck_assert_ptr_nonnull(strstr(error_log(), "too many buffers at this address"));
	util_alloc(u, ann, 0, BUFFER_DRAM, 0x2000, 64);
	ck_assert_uint_eq(live(0, BUFFER_DRAM, 0x2000), 1);
}
END_TEST

/* A free that may belong to a buffer that was not booked is not called a double free. */
START_TEST(the_free_of_a_lost_buffer_is_unknown)
{
	util_alloc(u, ann, 0, BUFFER_DRAM, 0x1000, 64);
	util_release(u, ann, 0, 0x1000);
	util_alloc(u, ben, 0, BUFFER_DRAM, 0x2000, 64);
	ck_assert_int_eq(registry_set_max_buffers(u->reg, 1), 0);
	util_alloc(u, ann, 0, BUFFER_DRAM, 0x1000, 64);
	ck_assert_uint_eq(count()->events_lost, 1);
	util_release(u, ann, 0, 0x1000);
	ck_assert_uint_eq(count()->double_frees, 0);
	ck_assert_uint_eq(count()->unknown_frees, 1);
	/* So is that of a buffer which a control command has forgotten. */
	ck_assert_int_eq(registry_set_max_buffers(u->reg, 4096), 0);
	util_alloc(u, ann, 0, BUFFER_DRAM, 0x3000, 64);
	util_release(u, ann, 0, 0x3000);
	util_alloc(u, ann, 0, BUFFER_DRAM, 0x3000, 64);
	uint64_t pos = 0, removed = 0;
	while (registry_clean_step(u->reg, ann, &pos, 1, &removed))
		;
	util_release(u, ann, 0, 0x3000);
	ck_assert_uint_eq(count()->double_frees, 0);
	ck_assert_uint_eq(count()->unknown_frees, 2);
	/* From the next whole life on it is known again. */
	util_alloc(u, ann, 0, BUFFER_DRAM, 0x3000, 64);
	util_release(u, ann, 0, 0x3000);
	util_release(u, ann, 0, 0x3000);
	ck_assert_uint_eq(count()->double_frees, 1);
}
END_TEST

START_TEST(rerouting_stops_at_many_devices)
{
	struct event e = { .type = TTALLOC_MSG_FREE, .dialect = 72, .process = ann, .address = 0x1000 };

	for (int d = 1; d <= REGISTRY_REROUTE_DEVICES; d++)
		util_alloc(u, ann, d, BUFFER_DRAM, (uint64_t)d << 20, 64);
	util_alloc(u, ann, 1, BUFFER_DRAM, 0x1000, 64);
	util_event(u, e);
	ck_assert_uint_eq(count()->rerouted_frees, 1);
	util_alloc(u, ann, 1, BUFFER_DRAM, 0x1000, 64);
	util_alloc(u, ann, 1000, BUFFER_DRAM, 0x5000, 64);
	util_event(u, e);
	ck_assert_uint_eq(count()->rerouted_frees, 1);
	ck_assert_uint_eq(count()->unknown_frees, 1);
}
END_TEST

START_TEST(a_stamp_is_believed_when_it_can_be_true)
{
	static const struct { uint64_t stamp, taken; } t[] = {
		{ 0, UTIL_NOW },
		{ UTIL_NOW + 1, UTIL_NOW },
		{ UTIL_NOW - 1, UTIL_NOW - 1 },
		{ UTIL_STARTED, UTIL_STARTED },
		{ UTIL_STARTED - 1, UTIL_NOW },
	};
	for (unsigned i = 0; i < sizeof(t) / sizeof(*t); i++) {
		util_event(u, (struct event){ .type = TTALLOC_MSG_ALLOC, .process = ann, .address = i + 1, .size = 64,
					      .time = t[i].stamp });
		ck_assert_uint_eq(the(0, BUFFER_DRAM, i + 1).time, t[i].taken);
	}
}
END_TEST

static uint64_t reply64(const uint8_t *reply, size_t at)
{
	uint64_t v;

	memcpy(&v, reply + at, sizeof(v));
	return v;
}

START_TEST(replies_have_the_askers_size)
{
	static const uint16_t dialect[] = { 72, 112, 128, 144 };
	uint8_t reply[TTALLOC_MSG_MAX];

	for (unsigned type = 0; type < BUFFER_TYPES; type++)
		util_alloc(u, ann, 5, type, 0x1000, type + 1);
	for (int i = 0; i < 4; i++) {
		struct event e = { .type = TTALLOC_MSG_QUERY, .dialect = dialect[i], .device = 5, .process = ann };
		memset(reply, 0xff, sizeof(reply));
		ck_assert_uint_eq(ingest_reply(&u->in, &e, reply), dialect[i]);
		ck_assert_uint_eq(reply[0], TTALLOC_MSG_RESPONSE);
		ck_assert_uint_eq(reply[4], 5);
		ck_assert_uint_eq(reply64(reply, 40), BUFFER_DRAM + 1);
		ck_assert_uint_eq(reply64(reply, 48), BUFFER_L1 + 1);
		ck_assert_uint_eq(reply64(reply, 56), BUFFER_L1_SMALL + 1);
		ck_assert_uint_eq(reply64(reply, 64), BUFFER_TRACE + 1);
		if (dialect[i] >= 128) {
			ck_assert_uint_eq(reply64(reply, 72), BUFFER_CB + 1);
			ck_assert_uint_eq(reply64(reply, 80), BUFFER_KERNEL + 1);
		}
		for (size_t at = dialect[i]; at < sizeof(reply); at++)
			ck_assert_uint_eq(reply[at], 0xff);
	}
	struct event none = { .type = TTALLOC_MSG_QUERY, .device = 5 };
	ck_assert_uint_eq(ingest_reply(&u->in, &none, reply), 0);
}
END_TEST

START_TEST(device_info)
{
	struct ttalloc_reply_info info;
	uint8_t reply[TTALLOC_MSG_MAX];
	struct event e = { .type = TTALLOC_MSG_DEVICE_INFO_QUERY, .dialect = 112, .device = -1 };

	ck_assert_uint_eq(ingest_reply(&u->in, &e, reply), 112);
	memcpy(&info, reply + 72, sizeof(info));
	ck_assert_uint_eq(info.num_devices, 0);
	ck_assert_uint_eq(info.is_available, 0);
	registry_device_declare(u->reg, 2, UINT64_C(12) << 30, 93 << 20, TTALLOC_WIRE_ARCH_WORMHOLE_B0);
	ck_assert_uint_eq(ingest_reply(&u->in, &e, reply), 112);
	memcpy(&info, reply + 72, sizeof(info));
	ck_assert_uint_eq(info.num_devices, 3);
	ck_assert_uint_eq(info.is_available, 1);
	e.device = 2;
	e.dialect = 144;
	ck_assert_uint_eq(ingest_reply(&u->in, &e, reply), 144);
	memcpy(&info, reply + 88, sizeof(info));
	ck_assert_uint_eq(info.total_dram, UINT64_C(12) << 30);
	ck_assert_uint_eq(info.total_l1, 93 << 20);
	ck_assert_uint_eq(info.arch, 2);
	ck_assert_uint_eq(info.is_available, 1);
	e.device = 1;
	ck_assert_uint_eq(ingest_reply(&u->in, &e, reply), 144);
	memcpy(&info, reply + 88, sizeof(info));
	ck_assert_uint_eq(info.is_available, 0);
}
END_TEST

/* ---- all rules at random beside a model that does everything the slow way ---- */

#define M_PROCESSES 7
#define M_DEVICES 4
#define M_ADDRESSES 9

struct m_buffer {
	bool live;
	bool freed_before;
	uint64_t size;
	uint32_t refs;
	uint64_t seq;
};

static struct m_buffer m[M_PROCESSES][M_DEVICES][M_ADDRESSES][BUFFER_TYPES];
static struct counters mc;
static uint32_t m_uid[M_PROCESSES];
static uint64_t m_seq;

static unsigned m_own(int p, int d, int a, struct m_buffer **best)
{
	unsigned n = 0;

	for (int t = 0; t < BUFFER_TYPES_OF_FREE; t++) {
		struct m_buffer *b = &m[p][d][a][t];
		if (b->live && (!n++ || b->seq > (*best)->seq))
			*best = b;
	}
	return n;
}

static bool m_freed(int p, int d, int a)
{
	for (int t = 0; t < BUFFER_TYPES_OF_FREE; t++)
		if (m[p][d][a][t].freed_before)
			return true;
	return false;
}

static void m_take(struct m_buffer *b)
{
	if (--b->refs) {
		mc.unrefs_total++;
		return;
	}
	b->live = false;
	b->freed_before = true;
	mc.frees_total++;
}

static bool m_rerouted(int p, int a, uint16_t dialect, int d)
{
	struct m_buffer *b = NULL, *found = NULL;
	unsigned n = 0;

	if (d != 0 || dialect > 112)
		return false;
	for (int other = 1; other < M_DEVICES; other++) {
		unsigned k = m_own(p, other, a, &b);
		n += k;
		if (k)
			found = b;
	}
	if (n != 1)
		return false;
	mc.rerouted_frees++;
	m_take(found);
	return true;
}

static void m_free(int p, int d, int a, uint16_t dialect)
{
	struct m_buffer *b = NULL, *foreign = NULL;
	unsigned n = m_own(p, d, a, &b), same = 0, other = 0;
	bool family = false;

	if (n) {
		mc.ambiguous_frees += n > 1;
		m_take(b);
		return;
	}
	if (m_rerouted(p, a, dialect, d))
		return;
	if (m_freed(p, d, a)) {
		mc.double_frees++;
		return;
	}
	for (int q = 0; q < M_PROCESSES; q++) {
		n = m_own(q, d, a, &b);
		if (n && m_uid[q] == m_uid[p])
			foreign = b;
		same += m_uid[q] == m_uid[p] ? n : 0;
		other += m_uid[q] == m_uid[p] ? 0 : n;
		family |= m_uid[q] == m_uid[p] && m_freed(q, d, a);
	}
	if (same || other) {
		mc.foreign_frees++;
		if (same == 1)
			m_take(foreign);
	} else if (family) {
		mc.double_frees++;
	} else {
		mc.unknown_frees++;
	}
}

static void m_alloc(int p, int d, int a, int type, uint64_t size)
{
	struct m_buffer *b = &m[p][d][a][type];

	if (!b->live) {
		*b = (struct m_buffer){ .live = true, .freed_before = b->freed_before, .size = size, .refs = 1,
					.seq = m_seq };
		mc.allocs_total++;
		return;
	}
	b->refs++;
	if (b->size == size)
		mc.refs_total++;
	else
		mc.resized_total++;
	b->size = size;
}

static void m_typed_free(int p, int d, int a, int type)
{
	if (m[p][d][a][type].live)
		m_take(&m[p][d][a][type]);
	else
		mc.unknown_frees++;
}

static uint64_t m_address(int a)
{
	return 0x40000000 + (uint64_t)a * 0x1000;
}

/* Every buffer of the model is in the registry with the same values, and the other way round. */
static void m_compare(const uint32_t *slot)
{
	uint64_t n = 0;

	for (int p = 0; p < M_PROCESSES; p++)
		for (int d = 0; d < M_DEVICES; d++)
			for (int a = 0; a < M_ADDRESSES; a++)
				for (int t = 0; t < BUFFER_TYPES; t++) {
					const struct m_buffer *want = &m[p][d][a][t];
					struct buffer b;
					size_t k = registry_own(u->reg, slot[p], (unsigned)d, m_address(a), 1U << t, &b);
					ck_assert_uint_eq(k, want->live);
					n += want->live;
					if (!want->live)
						continue;
					ck_assert_uint_eq(b.size, want->size);
					ck_assert_uint_eq(b.refs, want->refs);
				}
	ck_assert_uint_eq(registry_totals(u->reg).count, n);
	mc.events_total = count()->events_total;
	ck_assert_mem_eq(count(), &mc, sizeof(mc));
	util_check_totals(u);
}

static uint32_t rnd(uint64_t *state, uint32_t below)
{
	*state = *state * UINT64_C(6364136223846793005) + 1442695040888963407;
	return (uint32_t)((*state >> 33) % below);
}

START_TEST(random_events_beside_a_model)
{
	uint64_t state = (uint64_t)_i + 1;
	uint32_t slot[M_PROCESSES];

	/* Room for all of it: what history forgets, the model would have to forget too. */
	util_free(u);
	u = util_new(0, 1 << 20, 0);
	memset(m, 0, sizeof(m));
	memset(&mc, 0, sizeof(mc));
	m_seq = 0;
	for (int p = 0; p < M_PROCESSES; p++) {
		m_uid[p] = 1000 + (uint32_t)p / 3;
		slot[p] = util_process(u, 500 + p, m_uid[p], "model");
	}
	for (int step = 0; step < 30000; step++) {
		int p = (int)rnd(&state, M_PROCESSES), d = (int)rnd(&state, M_DEVICES);
		int a = (int)rnd(&state, M_ADDRESSES), what = (int)rnd(&state, 100);
		uint16_t dialect = rnd(&state, 2) ? 72 : 144;
		uint64_t size = 64 * (1 + rnd(&state, 3));
		m_seq++;
		u->now += 1000;
		if (what < 50) {
			int type = (int)rnd(&state, BUFFER_TYPES);
			m_alloc(p, d, a, type, size);
			util_alloc(u, slot[p], d, (unsigned)type, m_address(a), size);
		} else if (what < 90) {
			m_free(p, d, a, dialect);
			util_event(u, (struct event){ .type = TTALLOC_MSG_FREE, .dialect = dialect, .device = d,
						      .process = slot[p], .address = m_address(a) });
		} else {
			int type = rnd(&state, 2) ? BUFFER_CB : BUFFER_KERNEL;
			m_typed_free(p, d, a, type);
			util_event(u, (struct event){
				.type = type == BUFFER_CB ? TTALLOC_MSG_CB_FREE : TTALLOC_MSG_KERNEL_UNLOAD,
				.dialect = 144, .device = d, .process = slot[p], .address = m_address(a) });
		}
		if (step % 1000 == 999)
			m_compare(slot);
	}
}
END_TEST

int main(void)
{
	Suite *s = suite_create("ingest");
	TCase *t = tcase_create("rules");
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_set_timeout(t, 120);
	tcase_add_test(t, alloc_and_free);
	tcase_add_test(t, same_size_is_a_reference);
	tcase_add_test(t, other_size_is_a_resize);
	tcase_add_test(t, two_owners_at_one_address_are_two_buffers);
	tcase_add_test(t, an_address_of_an_ended_owner_is_reused);
	tcase_add_test(t, free_without_type_takes_the_newest);
	tcase_add_test(t, a_free_of_the_family_is_foreign);
	tcase_add_test(t, a_foreign_free_among_several_is_refused);
	tcase_add_loop_test(t, the_dead_have_no_strangers_for_heirs, 0,
			    (int)(sizeof(after_ann) / sizeof(after_ann[0])));
	tcase_add_test(t, strangers_do_not_make_a_free_ambiguous);
	tcase_add_test(t, nobody_reaches_across_users);
	tcase_add_test(t, a_double_free_does_not_take_the_next_owners_buffer);
	tcase_add_test(t, old_clients_frees_are_rerouted);
	tcase_add_test(t, typed_frees_never_wrap);
	tcase_add_test(t, what_is_out_of_range_is_refused);
	tcase_add_test(t, the_ceiling_is_counted);
	tcase_add_test(t, sums_never_wrap);
	tcase_add_test(t, an_address_takes_so_many_and_no_more);
	tcase_add_test(t, the_free_of_a_lost_buffer_is_unknown);
	tcase_add_test(t, rerouting_stops_at_many_devices);
	tcase_add_test(t, a_stamp_is_believed_when_it_can_be_true);
	tcase_add_test(t, replies_have_the_askers_size);
	tcase_add_test(t, device_info);
	tcase_add_loop_test(t, random_events_beside_a_model, 0, 8);
	suite_add_tcase(s, t);
	SRunner *r = srunner_create(s);
	srunner_run_all(r, CK_NORMAL);
	int failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
