/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * test-decode.c - tracker/decode.c and the names of tracker/event.c.
 *
 * Streams are synthesised here. With TTALLOC_CAPTURES set to a directory, its recorded streams (*.c2s, the dialect
 * being the number in the name) go through the same comparisons: however a stream is cut, the outcome is that of the
 * whole stream, and that is what a second decoder finds, which is told the dialect and takes one message at a time.
 */
#include "tracker/decode.h"

#include <check.h>
#include <dirent.h>
#include <endian.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const unsigned dialects[] = { 72, 112, 128, 144 };
#define DIALECTS 4

/* A stream under construction. */
struct stream {
	uint8_t *data;
	size_t len;
	size_t size;
};

/* What a decoder made of a stream. */
struct outcome {
	struct event *event;
	size_t n;
	size_t consumed;
	int feed;      /* of the last decoder_feed() */
	int end;
	unsigned dialect;
	char reason[160];
};

/* --- building --- */

static void stream_put(struct stream *s, const void *data, size_t len)
{
	if (s->len + len > s->size) {
		s->size = (s->len + len) * 2;
		s->data = realloc(s->data, s->size);
		ck_assert_ptr_nonnull(s->data);
	}
	memcpy(s->data + s->len, data, len);
	s->len += len;
}

static void stream_put_zeros(struct stream *s, size_t len)
{
	uint8_t zeros[TTALLOC_MSG_MAX] = { 0 };

	stream_put(s, zeros, len);
}

static void stream_put_message(struct stream *s, unsigned dialect, struct ttalloc_msg_head head)
{
	head.device_id = (int32_t)htole32((uint32_t)head.device_id);
	head.process_id = (int32_t)htole32((uint32_t)head.process_id);
	head.size = htole64(head.size);
	head.buffer_id = htole64(head.buffer_id);
	head.timestamp = htole64(head.timestamp);
	stream_put(s, &head, sizeof(head));
	stream_put_zeros(s, dialect - sizeof(head));
}

static void put(struct stream *s, unsigned dialect, uint8_t type, int32_t device)
{
	stream_put_message(s, dialect, (struct ttalloc_msg_head){ .type = type, .device_id = device });
}

static void stream_deinit(struct stream *s)
{
	free(s->data);
}

static uint32_t random_u32(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return (uint32_t)(*state >> 16);
}

static bool exists_in(uint8_t type, unsigned dialect)
{
	return type < 6 || type == 7 || (type == 6 && dialect >= 112) || (type >= 8 && dialect >= 128);
}

/* Messages as the known clients send them: every type of the dialect, fields of all magnitudes. */
static void put_random_message(struct stream *s, unsigned dialect, uint64_t *seed)
{
	uint8_t type;

	do
		type = (uint8_t)(1 + random_u32(seed) % 12);
	while (!exists_in(type, dialect));
	stream_put_message(s, dialect, (struct ttalloc_msg_head){
		.type = type,
		.device_id = (int32_t)(random_u32(seed) % 3),
		.size = (uint64_t)random_u32(seed) << random_u32(seed) % 24,
		.buffer_type = (uint8_t)(random_u32(seed) % 5),
		.process_id = (int32_t)(random_u32(seed) % 70000),
		.buffer_id = (uint64_t)random_u32(seed) << random_u32(seed) % 33,
		.timestamp = random_u32(seed) % 2 ? (uint64_t)random_u32(seed) << 30 : 0,
	});
}

/* --- decoding --- */

static void feed_piece(struct decoder *d, const uint8_t *data, size_t len, size_t max, struct outcome *o)
{
	size_t at = 0;

	do {
		size_t consumed, n;

		o->feed = decoder_feed(d, data + at, len - at, &consumed, o->event + o->n, max, &n);
		/* Not ck_assert: each one that holds costs a write to libcheck's pipe, and this runs often. */
		if (consumed > len - at || n > max)
			ck_abort_msg("%zu bytes of %zu and %zu events of %zu", consumed, len - at, n, max);
		if (!o->feed && n < max && consumed < len - at)
			ck_abort_msg("stopped at %zu of %zu bytes without need", consumed, len - at);
		at += consumed;
		o->n += n;
	} while (!o->feed && at < len);
	o->consumed += at;
}

/* Feeds the stream cut at the given positions, in order. */
static struct outcome decode_cut(const uint8_t *data, size_t len, const size_t *cuts, size_t n_cuts, size_t max)
{
	struct outcome o = { .event = malloc((len / TTALLOC_MSG_HEAD + max + 2) * sizeof(*o.event)) };
	struct textbuf reason = TEXTBUF_INIT;
	struct decoder d;
	size_t at = 0, n;

	if (!o.event)
		ck_abort_msg("no memory");
	decoder_init(&d);
	for (size_t i = 0; i <= n_cuts && !o.feed; i++) {
		size_t next = i < n_cuts ? cuts[i] : len;

		feed_piece(&d, data + at, next - at, max, &o);
		at = next;
	}
	o.end = decoder_end(&d, o.event + o.n, &n);
	o.n += n;
	o.dialect = decoder_dialect(&d);
	decoder_reason(&d, &reason);
	if (reason.len >= sizeof(o.reason))
		ck_abort_msg("a reason of %zu bytes", reason.len);
	if (reason.len)
		memcpy(o.reason, reason.data, reason.len);
	textbuf_deinit(&reason);
	return o;
}

static struct outcome decode_whole(const struct stream *s)
{
	return decode_cut(s->data, s->len, NULL, 0, s->len / TTALLOC_MSG_HEAD + 2);
}

static void outcome_deinit(struct outcome *o)
{
	free(o->event);
}

static void assert_event_eq(const struct event *a, const struct event *b)
{
	ck_assert_uint_eq(a->type, b->type);
	ck_assert_uint_eq(a->wire_type, b->wire_type);
	ck_assert_uint_eq(a->dialect, b->dialect);
	ck_assert_uint_eq(a->reply_from, b->reply_from);
	ck_assert_int_eq(a->device, b->device);
	ck_assert_int_eq(a->reported_pid, b->reported_pid);
	ck_assert_uint_eq(a->process, b->process);
	ck_assert_uint_eq(a->address, b->address);
	ck_assert_uint_eq(a->size, b->size);
	ck_assert_uint_eq(a->time, b->time);
}

static bool event_eq(const struct event *a, const struct event *b)
{
	return a->type == b->type && a->wire_type == b->wire_type && a->dialect == b->dialect &&
	       a->reply_from == b->reply_from && a->device == b->device && a->reported_pid == b->reported_pid &&
	       a->process == b->process && a->address == b->address && a->size == b->size && a->time == b->time;
}

static void assert_outcome_eq(const struct outcome *a, const struct outcome *b)
{
	if (strcmp(a->reason, b->reason))
		ck_assert_str_eq(a->reason, b->reason);
	if (a->n != b->n || a->consumed != b->consumed || a->feed != b->feed || a->end != b->end ||
	    a->dialect != b->dialect)
		ck_abort_msg("%zu events, %zu bytes, %d, %d, dialect %u instead of "
			     "%zu events, %zu bytes, %d, %d, dialect %u",
			     a->n, a->consumed, a->feed, a->end, a->dialect, b->n, b->consumed, b->feed, b->end,
			     b->dialect);
	for (size_t i = 0; i < a->n; i++)
		if (!event_eq(&a->event[i], &b->event[i]))
			assert_event_eq(&a->event[i], &b->event[i]);
}

static int compare_size(const void *a, const void *b)
{
	const size_t *x = a, *y = b;

	return (*x > *y) - (*x < *y);
}

static void assert_same_when_cut(const struct stream *s, const size_t *cuts, size_t n_cuts, size_t max,
				 const struct outcome *whole)
{
	struct outcome o = decode_cut(s->data, s->len, cuts, n_cuts, max);

	assert_outcome_eq(&o, whole);
	outcome_deinit(&o);
}

/* Cut at `n` random positions. */
static void assert_same_when_cut_at_random(const struct stream *s, size_t n, uint64_t *seed,
					   const struct outcome *whole)
{
	size_t cuts[200];

	ck_assert_uint_le(n, sizeof(cuts) / sizeof(cuts[0]));
	for (size_t i = 0; i < n; i++)
		cuts[i] = random_u32(seed) % (s->len + 1);
	qsort(cuts, n, sizeof(*cuts), compare_size);
	assert_same_when_cut(s, cuts, n, 1 + random_u32(seed) % 70, whole);
}

/* Whole with little room for events, byte by byte, cut once at each of the first positions, and cut at random. */
static void assert_cuts_do_not_matter(const struct stream *s, const struct outcome *whole)
{
	size_t *every = calloc(s->len + 1, sizeof(*every));
	uint64_t seed = 88172645463325252u + s->len;
	struct stream start = *s;
	struct outcome of_start;

	ck_assert_ptr_nonnull(every);
	for (size_t i = 0; i < s->len; i++)
		every[i] = i;
	assert_same_when_cut(s, every, s->len, 1, whole);
	free(every);
	for (size_t max = 1; max < 4; max++)
		assert_same_when_cut(s, NULL, 0, max, whole);
	assert_same_when_cut_at_random(s, s->len < 200 ? s->len : 200, &seed, whole);
	assert_same_when_cut_at_random(s, s->len < 200 ? s->len / 40 : 200, &seed, whole);
	if (start.len > 600)
		start.len = 600;
	of_start = decode_whole(&start);
	for (size_t cut = 1; cut < start.len; cut++)
		assert_same_when_cut(&start, &cut, 1, 16, &of_start);
	outcome_deinit(&of_start);
}

static int32_t i32_at(const uint8_t *p)
{
	return (int32_t)((uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24);
}

/* The second decoder: told the dialect, one message after the other. For streams without violations. */
static void assert_as_naive(const struct stream *s, unsigned dialect, const struct outcome *o)
{
	ck_assert_int_eq(o->feed, 0);
	ck_assert_int_eq(o->end, 0);
	ck_assert_str_eq(o->reason, "");
	ck_assert_uint_eq(o->dialect, dialect);
	ck_assert_uint_eq(s->len % dialect, 0);
	ck_assert_uint_eq(o->n, s->len / dialect);
	for (size_t i = 0; i < o->n; i++) {
		const uint8_t *p = s->data + i * dialect;
		struct event want = { .type = p[0], .wire_type = p[16], .process = PROCESS_NONE };

		for (int byte = 7; byte >= 0; byte--) {
			want.size = want.size << 8 | p[8 + byte];
			want.address = want.address << 8 | p[24 + byte];
			want.time = want.time << 8 | p[32 + byte];
		}
		want.device = i32_at(p + 4);
		want.reported_pid = i32_at(p + 20);
		if (i > 0 || p[0] == TTALLOC_MSG_QUERY || p[0] == TTALLOC_MSG_DEVICE_INFO_QUERY ||
		    (p[0] == TTALLOC_MSG_FREE && want.device == 0))
			want.dialect = (uint16_t)dialect;
		if (!event_eq(&o->event[i], &want))
			assert_event_eq(&o->event[i], &want);
	}
}

/* --- one message --- */

START_TEST(fields_of_a_message)
{
	struct stream s = { 0 };
	struct event want = {
		.type = TTALLOC_MSG_ALLOC, .wire_type = 0xfe, .device = -2, .reported_pid = -70000,
		.process = PROCESS_NONE, .address = 0xfedcba9876543210, .size = 0x8123456789abcdef,
		.time = UINT64_MAX - 1,
	};
	struct outcome o;

	for (int i = 0; i < 2; i++)
		stream_put_message(&s, 112, (struct ttalloc_msg_head){
			.type = 1, .device_id = -2, .size = 0x8123456789abcdef, .buffer_type = 0xfe,
			.process_id = -70000, .buffer_id = 0xfedcba9876543210, .timestamp = UINT64_MAX - 1,
		});
	o = decode_whole(&s);
	ck_assert_int_eq(o.end, 0);
	ck_assert_uint_eq(o.n, 2);
	assert_event_eq(&o.event[0], &want);
	want.dialect = 112;
	assert_event_eq(&o.event[1], &want);
	outcome_deinit(&o);
	stream_deinit(&s);
}
END_TEST

START_TEST(padding_may_be_anything)
{
	struct stream s = { 0 };
	struct outcome o;

	for (int i = 0; i < 3; i++)
		stream_put_message(&s, 72, (struct ttalloc_msg_head){
			.type = 1, .zero1 = { 0xff, 1, 0x80 }, .zero2 = { 7, 0xff, 9 }, .buffer_id = 0x1000,
		});
	o = decode_whole(&s);
	ck_assert_int_eq(o.end, 0);
	ck_assert_uint_eq(o.n, 3);
	ck_assert_uint_eq(o.event[0].wire_type, 0);
	ck_assert_int_eq(o.event[2].device, 0);
	ck_assert_uint_eq(o.event[2].address, 0x1000);
	assert_cuts_do_not_matter(&s, &o);
	outcome_deinit(&o);
	stream_deinit(&s);
}
END_TEST

static size_t feed(struct decoder *d, const uint8_t *data, size_t len, struct event *out)
{
	size_t consumed, n;

	if (decoder_feed(d, data, len, &consumed, out, 16, &n) || consumed != len)
		ck_abort_msg("refused at %zu of %zu bytes", consumed, len);
	return n;
}

START_TEST(event_at_the_40th_byte)
{
	unsigned dialect = dialects[_i];
	struct stream s = { 0 };
	struct event e[16];
	struct decoder d;

	put(&s, dialect, TTALLOC_MSG_ALLOC, 3);
	put(&s, dialect, TTALLOC_MSG_QUERY, 4);
	decoder_init(&d);
	ck_assert_uint_eq(feed(&d, s.data, 39, e), 0);
	ck_assert_uint_eq(feed(&d, s.data + 39, 1, e), 1);
	ck_assert_int_eq(e[0].device, 3);
	ck_assert_uint_eq(feed(&d, s.data + 40, dialect - 40, e), 0);
	ck_assert_uint_eq(feed(&d, s.data + dialect, 39, e), 0);
	ck_assert_uint_eq(feed(&d, s.data + dialect + 39, 1, e), 1);
	ck_assert_int_eq(e[0].device, 4);
	ck_assert_uint_eq(e[0].dialect, dialect);
	ck_assert_uint_eq(feed(&d, s.data + dialect + 40, dialect - 40, e), 0);
	stream_deinit(&s);
}
END_TEST

START_TEST(small_and_movable)
{
	struct stream s = { 0 };
	struct decoder d[2];
	struct event e[16];

	ck_assert_uint_le(sizeof(struct decoder), 256);
	put(&s, 112, TTALLOC_MSG_QUERY, 5);
	put(&s, 112, TTALLOC_MSG_ALLOC, 6);
	decoder_init(&d[0]);
	for (size_t i = 0; i < s.len; i++) {
		size_t n = feed(&d[i % 2], s.data + i, 1, e);

		ck_assert_uint_eq(n, i == 112 || i == 112 + 39 ? 1 : 0);
		d[(i + 1) % 2] = d[i % 2];
		memset(&d[i % 2], 0xa5, sizeof(d[0]));
	}
	stream_deinit(&s);
}
END_TEST

START_TEST(no_bytes_and_no_room)
{
	size_t consumed = 9, n = 9;
	struct decoder d;
	uint8_t byte = 1;

	decoder_init(&d);
	ck_assert_int_eq(decoder_feed(&d, NULL, 0, &consumed, NULL, 0, &n), 0);
	ck_assert_uint_eq(consumed, 0);
	ck_assert_uint_eq(n, 0);
	consumed = n = 9;
	ck_assert_int_eq(decoder_feed(&d, &byte, 1, &consumed, NULL, 0, &n), 0);
	ck_assert_uint_eq(consumed, 0);
	ck_assert_uint_eq(n, 0);
}
END_TEST

/* --- the dialect --- */

/* Types that are emitted at once, and those that wait, as first messages. */
static const struct {
	uint8_t type;
	int32_t device;
	bool waits;
} first_messages[] = {
	{ TTALLOC_MSG_ALLOC, 0, false },
	{ TTALLOC_MSG_FREE, 0, true },
	{ TTALLOC_MSG_FREE, 1, false },
	{ TTALLOC_MSG_FREE, -1, false },
	{ TTALLOC_MSG_FREE, 0x100, false },
	{ TTALLOC_MSG_QUERY, 0, true },
	{ TTALLOC_MSG_QUERY, 1, true },
	{ TTALLOC_MSG_RESPONSE, 0, false },
	{ TTALLOC_MSG_DUMP, 0, false },
	{ TTALLOC_MSG_DEVICE_INFO_QUERY, -1, true },
	{ TTALLOC_MSG_DEVICE_INFO_QUERY, 0, true },
	{ TTALLOC_MSG_DEVICE_INFO_RESPONSE, 0, false },
	{ TTALLOC_MSG_CB_ALLOC, 0, false },
	{ TTALLOC_MSG_CB_FREE, 0, false },
	{ TTALLOC_MSG_KERNEL_LOAD, 0, false },
	{ TTALLOC_MSG_KERNEL_UNLOAD, 0, false },
	{ TTALLOC_MSG_DUMP_KERNELS, 0, false },
};
#define FIRST_MESSAGES ((int)(sizeof(first_messages) / sizeof(first_messages[0])))

START_TEST(next_message_proves_the_dialect)
{
	uint8_t type = first_messages[_i].type;
	bool waits = first_messages[_i].waits;

	for (int k = 0; k < DIALECTS; k++) {
		unsigned dialect = dialects[k];
		struct stream s = { 0 };
		struct event e[16];
		struct decoder d;

		if (!exists_in(type, dialect))
			continue;
		put(&s, dialect, type, first_messages[_i].device);
		decoder_init(&d);
		ck_assert_uint_eq(feed(&d, s.data, 40, e), waits ? 0 : 1);
		ck_assert_uint_eq(feed(&d, s.data + 40, dialect - 40, e), waits && dialect == 144 ? 1 : 0);
		ck_assert_uint_eq(decoder_dialect(&d), dialect == 144 ? 144 : 0);
		ck_assert_uint_eq(feed(&d, s.data, 1, e), waits && dialect != 144 ? 1 : 0);
		ck_assert_uint_eq(decoder_dialect(&d), dialect);
		if (waits) {
			ck_assert_uint_eq(e[0].type, type);
			ck_assert_uint_eq(e[0].dialect, dialect);
			ck_assert_uint_eq(e[0].reply_from, 0);
			ck_assert_int_eq(e[0].device, first_messages[_i].device);
		}
		/* The second one does not wait. */
		ck_assert_uint_eq(feed(&d, s.data + 1, 39, e), 1);
		ck_assert_uint_eq(e[0].dialect, dialect);
		stream_deinit(&s);
	}
}
END_TEST

START_TEST(idle_answers_a_likely_dialect_once)
{
	uint8_t type = first_messages[_i].type;

	/* Byte by byte up to `held`, then idle: only the exact sizes that have the type answer. */
	for (unsigned held = 0; held <= TTALLOC_MSG_MAX; held++) {
		bool likely = (held == 72 || held == 112 || held == 128) && exists_in(type, held);
		bool answers = likely && first_messages[_i].waits;
		struct stream s = { 0 };
		struct event e[16];
		struct decoder d;

		put(&s, 144, type, first_messages[_i].device);
		decoder_init(&d);
		for (unsigned i = 0; i < held; i++)
			feed(&d, s.data + i, 1, e);
		ck_assert_uint_eq(decoder_likely_dialect(&d), likely ? held : 0);
		ck_assert_uint_eq(decoder_idle(&d, e), answers);
		if (answers) {
			ck_assert_uint_eq(e[0].type, type);
			ck_assert_uint_eq(e[0].dialect, held);
			ck_assert_uint_eq(e[0].reply_from, 0);
		}
		ck_assert_uint_eq(decoder_idle(&d, e), 0);
		ck_assert_uint_eq(decoder_dialect(&d), held == 144 ? 144 : 0);
		stream_deinit(&s);
	}
}
END_TEST

START_TEST(proof_of_the_likely_dialect_says_nothing_new)
{
	struct stream s = { 0 };
	struct event e[16];
	struct decoder d;

	put(&s, 112, TTALLOC_MSG_QUERY, 2);
	put(&s, 112, TTALLOC_MSG_QUERY, 3);
	decoder_init(&d);
	ck_assert_uint_eq(feed(&d, s.data, 112, e), 0);
	ck_assert_uint_eq(decoder_idle(&d, e), 1);
	ck_assert_uint_eq(e[0].dialect, 112);
	ck_assert_uint_eq(feed(&d, s.data + 112, 112, e), 1);
	ck_assert_int_eq(e[0].device, 3);
	ck_assert_uint_eq(e[0].reply_from, 0);
	ck_assert_uint_eq(decoder_idle(&d, e), 0);
	stream_deinit(&s);
}
END_TEST

START_TEST(more_zeros_widen_a_reply)
{
	static const struct {
		unsigned dialect;
		unsigned idle_at[3];   /* 0 = not */
		struct {
			uint16_t dialect, from;
		} want[5];
	} rows[] = {
		{ 112, { 72 }, { { 72, 0 }, { 112, 72 } } },
		{ 128, { 72 }, { { 72, 0 }, { 128, 72 } } },
		{ 144, { 72 }, { { 72, 0 }, { 144, 72 } } },
		{ 144, { 112 }, { { 112, 0 }, { 144, 112 } } },
		{ 144, { 128 }, { { 128, 0 }, { 144, 128 } } },
		{ 128, { 72, 112 }, { { 72, 0 }, { 112, 72 }, { 128, 112 } } },
		{ 144, { 72, 128 }, { { 72, 0 }, { 128, 72 }, { 144, 128 } } },
		{ 144, { 72, 112, 128 }, { { 72, 0 }, { 112, 72 }, { 128, 112 }, { 144, 128 } } },
		{ 144, { 0 }, { { 144, 0 } } },
	};
	struct stream s = { 0 };
	struct decoder d;
	struct event e[16];
	size_t n = 0;

	put(&s, rows[_i].dialect, TTALLOC_MSG_QUERY, 7);
	put(&s, rows[_i].dialect, TTALLOC_MSG_DUMP, 0);
	decoder_init(&d);
	for (unsigned i = 0; i <= rows[_i].dialect; i++) {
		for (int k = 0; k < 3; k++)
			if (i && rows[_i].idle_at[k] == i)
				n += decoder_idle(&d, e + n);
		n += feed(&d, s.data + i, 1, e + n);
	}
	for (size_t i = 0; i < 5; i++) {
		if (!rows[_i].want[i].dialect) {
			ck_assert_uint_eq(n, i);
			break;
		}
		ck_assert_uint_lt(i, n);
		ck_assert_uint_eq(e[i].type, TTALLOC_MSG_QUERY);
		ck_assert_int_eq(e[i].device, 7);
		ck_assert_uint_eq(e[i].dialect, rows[_i].want[i].dialect);
		ck_assert_uint_eq(e[i].reply_from, rows[_i].want[i].from);
	}
	ck_assert_uint_eq(decoder_dialect(&d), rows[_i].dialect);
	ck_assert_uint_eq(decoder_idle(&d, e), 0);
	stream_deinit(&s);
}
END_TEST

START_TEST(a_free_is_never_repeated)
{
	struct stream s = { 0 };
	struct event e[16];
	struct decoder d;
	size_t n;

	put(&s, 144, TTALLOC_MSG_FREE, 0);
	decoder_init(&d);
	ck_assert_uint_eq(feed(&d, s.data, 72, e), 0);
	ck_assert_uint_eq(decoder_idle(&d, e), 1);
	ck_assert_uint_eq(e[0].dialect, 72);
	ck_assert_uint_eq(feed(&d, s.data + 72, 40, e), 0);
	ck_assert_uint_eq(decoder_idle(&d, e), 0);
	ck_assert_uint_eq(feed(&d, s.data + 112, 32, e), 0);
	ck_assert_uint_eq(decoder_dialect(&d), 144);
	ck_assert_int_eq(decoder_end(&d, e, &n), 0);
	ck_assert_uint_eq(n, 0);
	stream_deinit(&s);
}
END_TEST

START_TEST(end_widens_too)
{
	struct stream s = { 0 };
	struct event e[16];
	struct decoder d;
	size_t n;

	put(&s, 112, TTALLOC_MSG_QUERY, 1);
	decoder_init(&d);
	ck_assert_uint_eq(feed(&d, s.data, 72, e), 0);
	ck_assert_uint_eq(decoder_idle(&d, e), 1);
	ck_assert_uint_eq(feed(&d, s.data + 72, 40, e), 0);
	ck_assert_int_eq(decoder_end(&d, e, &n), 0);
	ck_assert_uint_eq(n, 1);
	ck_assert_uint_eq(e[0].dialect, 112);
	ck_assert_uint_eq(e[0].reply_from, 72);
	ck_assert_uint_eq(decoder_dialect(&d), 112);
	stream_deinit(&s);
}
END_TEST

/* --- the end of the stream --- */

START_TEST(end_within_the_first_message)
{
	uint8_t type = first_messages[_i].type;
	bool waits = first_messages[_i].waits;

	for (unsigned len = 0; len <= TTALLOC_MSG_MAX; len++) {
		bool whole = (len == 72 || len == 112 || len == 128 || len == 144) && exists_in(type, len);
		struct stream s = { 0 };
		struct outcome o;
		char want[80];

		put(&s, 144, type, first_messages[_i].device);
		s.len = len;
		o = decode_whole(&s);
		ck_assert_int_eq(o.feed, 0);
		ck_assert_int_eq(o.end, len == 0 || whole ? 0 : -EBADMSG);
		ck_assert_uint_eq(o.dialect, whole ? len : 0);
		snprintf(want, sizeof(want), "byte %u: the stream ended %u bytes into a message", len, len);
		ck_assert_str_eq(o.reason, len == 0 || whole ? "" : want);
		ck_assert_uint_eq(o.n, waits ? whole : len >= 40);
		if (o.n) {
			ck_assert_uint_eq(o.event[0].type, type);
			ck_assert_uint_eq(o.event[0].dialect, waits ? len : 0);
		}
		for (size_t cut = 1; cut < len; cut += 7)
			assert_same_when_cut(&s, &cut, 1, 1, &o);
		outcome_deinit(&o);
		stream_deinit(&s);
	}
}
END_TEST

START_TEST(end_within_a_later_message)
{
	unsigned dialect = dialects[_i];

	for (unsigned more = 1; more <= dialect; more++) {
		struct stream s = { 0 };
		struct outcome o;
		char want[80];

		put(&s, dialect, TTALLOC_MSG_ALLOC, 0);
		put(&s, dialect, TTALLOC_MSG_QUERY, 0);
		s.len = dialect + more;
		o = decode_whole(&s);
		ck_assert_int_eq(o.end, more == dialect ? 0 : -EBADMSG);
		ck_assert_uint_eq(o.n, more >= 40 ? 2 : 1);
		ck_assert_uint_eq(o.dialect, dialect);
		snprintf(want, sizeof(want), "byte %u: the stream ended %u bytes into a message", dialect + more, more);
		ck_assert_str_eq(o.reason, more == dialect ? "" : want);
		for (size_t cut = 1; cut < s.len; cut += 7)
			assert_same_when_cut(&s, &cut, 1, 1, &o);
		outcome_deinit(&o);
		stream_deinit(&s);
	}
}
END_TEST

/* --- violations --- */

/* The stream is broken: so many events came out, and this is why; whatever the chunking. Frees the stream. */
static void assert_violation(struct stream *s, size_t events, size_t consumed, const char *reason)
{
	struct outcome o = decode_whole(s);

	ck_assert_str_eq(o.reason, reason);
	ck_assert_int_eq(o.feed, -EBADMSG);
	ck_assert_int_eq(o.end, -EBADMSG);
	ck_assert_uint_eq(o.n, events);
	ck_assert_uint_eq(o.consumed, consumed);
	assert_cuts_do_not_matter(s, &o);
	outcome_deinit(&o);
	stream_deinit(s);
}

START_TEST(no_type_at_the_start)
{
	for (unsigned type = 0; type < 256; type++) {
		uint8_t byte = (uint8_t)type;
		struct stream s = { 0 };
		char want[80];

		if ((type >= 1 && type <= 13) || type == 15)
			continue;
		stream_put(&s, &byte, 1);
		stream_put_zeros(&s, 3);
		snprintf(want, sizeof(want), "byte 0: message type %u does not exist", type);
		assert_violation(&s, 0, 0, want);
	}
}
END_TEST

START_TEST(no_type_behind_the_first_message)
{
	unsigned dialect = dialects[_i];
	uint8_t bad[] = { 14, 0x80, 0xff };

	for (size_t i = 0; i < sizeof(bad); i++) {
		/* Of a waiting event nothing comes out, for nothing proved its dialect; but 144 needs no proof. */
		for (uint8_t type = 1; type <= 3; type += 2) {
			struct stream s = { 0 };
			char want[80];

			put(&s, dialect, type, 0);
			stream_put(&s, &bad[i], 1);
			snprintf(want, sizeof(want), "byte %u: message type %u does not exist", dialect, bad[i]);
			assert_violation(&s, type == 1 || dialect == 144 ? 1 : 0, dialect, want);
		}
	}
}
END_TEST

START_TEST(too_many_zeros)
{
	for (uint8_t type = 1; type <= 13; type++) {
		struct stream s = { 0 };

		put(&s, 144, type, 0);
		stream_put_zeros(&s, 1);
		assert_violation(&s, 1, 144, "byte 144: message type 0 does not exist");
	}
}
END_TEST

START_TEST(first_message_of_no_size)
{
	for (unsigned size = 40; size < 144; size++) {
		struct stream s = { 0 };
		char want[120];

		if (size == 72 || size == 112 || size == 128)
			continue;
		put(&s, size, TTALLOC_MSG_ALLOC, 0);
		put(&s, size, TTALLOC_MSG_CB_FREE, 0);
		snprintf(want, sizeof(want),
			 "byte %u: value 0x09 after %u bytes of the first message, which is the size of no dialect",
			 size, size);
		assert_violation(&s, 1, size, want);
	}
}
END_TEST

START_TEST(types_and_dialects)
{
	unsigned dialect = dialects[_i];

	for (uint8_t type = 1; type <= 12; type++) {
		struct stream first = { 0 }, later = { 0 };
		char want[120];

		put(&first, dialect, type, 1);
		put(&first, dialect, TTALLOC_MSG_ALLOC, 2);
		put(&later, dialect, TTALLOC_MSG_QUERY, 1);
		put(&later, dialect, TTALLOC_MSG_ALLOC, 1);
		put(&later, dialect, type, 1);
		put(&later, dialect, TTALLOC_MSG_ALLOC, 2);
		if (exists_in(type, dialect)) {
			struct outcome o = decode_whole(&first);

			assert_as_naive(&first, dialect, &o);
			outcome_deinit(&o);
			o = decode_whole(&later);
			assert_as_naive(&later, dialect, &o);
			outcome_deinit(&o);
			stream_deinit(&first);
			stream_deinit(&later);
			continue;
		}
		snprintf(want, sizeof(want),
			 "byte %u: the first message has type %u, which does not exist in dialect %u", dialect, type,
			 dialect);
		assert_violation(&first, type == TTALLOC_MSG_DEVICE_INFO_QUERY ? 0 : 1, dialect, want);
		snprintf(want, sizeof(want), "byte %u: message type %u does not exist in dialect %u", 2 * dialect, type,
			 dialect);
		assert_violation(&later, 2, (size_t)2 * dialect, want);
	}
}
END_TEST

START_TEST(second_message_not_of_the_dialect)
{
	struct stream s = { 0 };

	/* The type byte proves the dialect, which lets the query out, and then breaks it. */
	put(&s, 72, TTALLOC_MSG_QUERY, 0);
	put(&s, 72, TTALLOC_MSG_KERNEL_LOAD, 0);
	assert_violation(&s, 1, 72, "byte 72: message type 10 does not exist in dialect 72");
}
END_TEST

START_TEST(tail_with_something_in_it)
{
	unsigned dialect = dialects[_i];

	for (unsigned at = 40; at < dialect; at++) {
		struct stream s = { 0 };
		char want[80];

		for (int i = 0; i < 4; i++)
			put(&s, dialect, TTALLOC_MSG_FREE, i);
		s.data[2 * dialect + at] = (uint8_t)(1 << at % 8);
		snprintf(want, sizeof(want), "byte %u: value 0x%02x in the tail of a message of dialect %u",
			 2 * dialect + at, 1 << at % 8, dialect);
		assert_violation(&s, 3, 2 * dialect + at, want);
	}
}
END_TEST

START_TEST(nothing_after_a_violation)
{
	uint8_t good[72] = { 1 }, bad = 99;
	size_t consumed, n;
	struct event e[4];
	struct decoder d;

	decoder_init(&d);
	ck_assert_int_eq(decoder_feed(&d, &bad, 1, &consumed, e, 4, &n), -EBADMSG);
	consumed = n = 9;
	ck_assert_int_eq(decoder_feed(&d, good, sizeof(good), &consumed, e, 4, &n), -EBADMSG);
	ck_assert_uint_eq(consumed, 0);
	ck_assert_uint_eq(n, 0);
	ck_assert_uint_eq(decoder_idle(&d, e), 0);
	ck_assert_uint_eq(decoder_likely_dialect(&d), 0);
	ck_assert_int_eq(decoder_end(&d, e, &n), -EBADMSG);
	ck_assert_uint_eq(n, 0);
}
END_TEST

START_TEST(idle_after_a_violation)
{
	uint8_t query[73] = { TTALLOC_MSG_QUERY };
	size_t consumed, n;
	struct event e[4];
	struct decoder d;

	/* Held are exactly 72 bytes, but what came behind them shows that they were no message. */
	query[72] = 77;
	decoder_init(&d);
	ck_assert_int_eq(decoder_feed(&d, query, sizeof(query), &consumed, e, 4, &n), -EBADMSG);
	ck_assert_uint_eq(n, 0);
	ck_assert_uint_eq(consumed, 72);
	ck_assert_uint_eq(decoder_idle(&d, e), 0);
}
END_TEST

START_TEST(offsets_beyond_4_gib)
{
	struct stream s = { 0 };
	struct textbuf reason = TEXTBUF_INIT;
	struct decoder d;
	struct event e[16];
	size_t consumed, n;
	uint8_t bad = 0;

	put(&s, 72, TTALLOC_MSG_ALLOC, 0);
	put(&s, 72, TTALLOC_MSG_ALLOC, 0);
	decoder_init(&d);
	feed(&d, s.data, s.len, e);
	d.offset += UINT64_C(72) << 32;
	ck_assert_int_eq(decoder_feed(&d, &bad, 1, &consumed, e, 16, &n), -EBADMSG);
	decoder_reason(&d, &reason);
	textbuf_putc(&reason, '\0');
	ck_assert_str_eq(reason.data, "byte 309237645456: message type 0 does not exist");
	textbuf_deinit(&reason);
	stream_deinit(&s);
}
END_TEST

/* --- whole streams --- */

START_TEST(streams_cut_anywhere)
{
	unsigned dialect = dialects[_i % DIALECTS];
	uint64_t seed = 1000003u * (unsigned)(_i + 1);
	struct stream s = { 0 };
	struct outcome o;

	for (unsigned i = 0, n = 1 + random_u32(&seed) % 300; i < n; i++)
		put_random_message(&s, dialect, &seed);
	o = decode_whole(&s);
	assert_as_naive(&s, dialect, &o);
	assert_cuts_do_not_matter(&s, &o);
	outcome_deinit(&o);
	stream_deinit(&s);
}
END_TEST

START_TEST(every_first_message_cut_anywhere)
{
	for (int k = 0; k < DIALECTS; k++) {
		unsigned dialect = dialects[k];
		struct stream s = { 0 };
		uint64_t seed = 5 + (unsigned)_i;
		struct outcome o;

		if (!exists_in(first_messages[_i].type, dialect))
			continue;
		put(&s, dialect, first_messages[_i].type, first_messages[_i].device);
		for (int i = 0; i < 5; i++)
			put_random_message(&s, dialect, &seed);
		o = decode_whole(&s);
		assert_as_naive(&s, dialect, &o);
		assert_cuts_do_not_matter(&s, &o);
		outcome_deinit(&o);
		stream_deinit(&s);
	}
}
END_TEST

static void read_file(const char *folder, const char *name, struct stream *s)
{
	char path[1024], chunk[4096];
	size_t got;
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", folder, name);
	f = fopen(path, "rb");
	ck_assert_msg(f != NULL, "cannot open %s", path);
	while ((got = fread(chunk, 1, sizeof(chunk), f)) > 0)
		stream_put(s, chunk, got);
	fclose(f);
}

START_TEST(captures)
{
	const char *folder = getenv("TTALLOC_CAPTURES");
	struct dirent *entry;
	int found = 0;
	DIR *dir;

	if (!folder)
		return;
	dir = opendir(folder);
	ck_assert_msg(dir != NULL, "cannot open %s", folder);
	while ((entry = readdir(dir))) {
		size_t digits = strcspn(entry->d_name, "0123456789");
		unsigned dialect = (unsigned)strtoul(entry->d_name + digits, NULL, 10);
		struct stream s = { 0 };
		struct outcome o;

		if (!strstr(entry->d_name, ".c2s"))
			continue;
		read_file(folder, entry->d_name, &s);
		o = decode_whole(&s);
		assert_as_naive(&s, dialect, &o);
		assert_cuts_do_not_matter(&s, &o);
		printf("%s: %zu events of dialect %u\n", entry->d_name, o.n, o.dialect);
		outcome_deinit(&o);
		stream_deinit(&s);
		found++;
	}
	closedir(dir);
	ck_assert_int_gt(found, 0);
}
END_TEST

/* --- names --- */

START_TEST(names)
{
	ck_assert_str_eq(buffer_type_name(BUFFER_DRAM), "dram");
	ck_assert_str_eq(buffer_type_name(BUFFER_L1), "l1");
	ck_assert_str_eq(buffer_type_name(BUFFER_SYSTEM_MEMORY), "system_memory");
	ck_assert_str_eq(buffer_type_name(BUFFER_L1_SMALL), "l1_small");
	ck_assert_str_eq(buffer_type_name(BUFFER_TRACE), "trace");
	ck_assert_str_eq(buffer_type_name(BUFFER_CB), "cb");
	ck_assert_str_eq(buffer_type_name(BUFFER_KERNEL), "kernel");
	ck_assert_ptr_null(buffer_type_name(BUFFER_TYPES));
	ck_assert_ptr_null(buffer_type_name(UINT32_MAX));
	for (int type = 0; type < BUFFER_TYPES; type++)
		ck_assert_int_eq(buffer_type_parse(buffer_type_name((unsigned)type)), type);
	ck_assert_int_eq(buffer_type_parse("l"), -1);
	ck_assert_int_eq(buffer_type_parse("l1_"), -1);
	ck_assert_int_eq(buffer_type_parse("DRAM"), -1);
	ck_assert_int_eq(buffer_type_parse(""), -1);
	ck_assert_str_eq(trace_kind_name(TRACE_ALLOC), "alloc");
	ck_assert_str_eq(trace_kind_name(TRACE_REF), "ref");
	ck_assert_str_eq(trace_kind_name(TRACE_RESIZE), "resize");
	ck_assert_str_eq(trace_kind_name(TRACE_FREE), "free");
	ck_assert_str_eq(trace_kind_name(TRACE_UNREF), "unref");
	ck_assert_str_eq(trace_kind_name(TRACE_DOUBLE_FREE), "double_free");
	ck_assert_str_eq(trace_kind_name(TRACE_UNKNOWN_FREE), "unknown_free");
	ck_assert_str_eq(trace_kind_name(TRACE_FOREIGN_FREE), "foreign_free");
	ck_assert_str_eq(trace_kind_name(TRACE_CONNECT), "connect");
	ck_assert_str_eq(trace_kind_name(TRACE_EXIT), "exit");
	ck_assert_str_eq(trace_kind_name(TRACE_SCAN), "scan");
	ck_assert_str_eq(trace_kind_name(TRACE_RESET), "reset");
	ck_assert_str_eq(trace_kind_name(TRACE_CLEAN), "clean");
	ck_assert_str_eq(trace_kind_name(TRACE_DUMP), "dump");
	ck_assert_str_eq(trace_kind_name(TRACE_LOST), "lost");
	ck_assert_ptr_null(trace_kind_name(TRACE_KINDS));
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("decode");
	TCase *message = tcase_create("message"), *dialect = tcase_create("dialect"), *end = tcase_create("end");
	TCase *violation = tcase_create("violation"), *streams = tcase_create("streams");
	SRunner *runner = srunner_create(suite);
	int failed;

	tcase_add_test(message, fields_of_a_message);
	tcase_add_test(message, padding_may_be_anything);
	tcase_add_loop_test(message, event_at_the_40th_byte, 0, DIALECTS);
	tcase_add_test(message, small_and_movable);
	tcase_add_test(message, no_bytes_and_no_room);
	tcase_add_test(message, names);
	suite_add_tcase(suite, message);

	tcase_add_loop_test(dialect, next_message_proves_the_dialect, 0, FIRST_MESSAGES);
	tcase_add_loop_test(dialect, idle_answers_a_likely_dialect_once, 0, FIRST_MESSAGES);
	tcase_add_test(dialect, proof_of_the_likely_dialect_says_nothing_new);
	tcase_add_loop_test(dialect, more_zeros_widen_a_reply, 0, 9);
	tcase_add_test(dialect, a_free_is_never_repeated);
	tcase_add_test(dialect, end_widens_too);
	suite_add_tcase(suite, dialect);

	tcase_add_loop_test(end, end_within_the_first_message, 0, FIRST_MESSAGES);
	tcase_add_loop_test(end, end_within_a_later_message, 0, DIALECTS);
	tcase_set_timeout(end, 60);
	suite_add_tcase(suite, end);

	tcase_add_test(violation, no_type_at_the_start);
	tcase_add_loop_test(violation, no_type_behind_the_first_message, 0, DIALECTS);
	tcase_add_test(violation, too_many_zeros);
	tcase_add_test(violation, first_message_of_no_size);
	tcase_add_loop_test(violation, types_and_dialects, 0, DIALECTS);
	tcase_add_test(violation, second_message_not_of_the_dialect);
	tcase_add_loop_test(violation, tail_with_something_in_it, 0, DIALECTS);
	tcase_add_test(violation, nothing_after_a_violation);
	tcase_add_test(violation, idle_after_a_violation);
	tcase_add_test(violation, offsets_beyond_4_gib);
	tcase_set_timeout(violation, 60);
	suite_add_tcase(suite, violation);

	tcase_add_loop_test(streams, streams_cut_anywhere, 0, 40);
	tcase_add_loop_test(streams, every_first_message_cut_anywhere, 0, FIRST_MESSAGES);
	tcase_add_test(streams, captures);
	tcase_set_timeout(streams, 120);
	suite_add_tcase(suite, streams);

	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
