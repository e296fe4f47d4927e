/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * fuzz-decode.c - the decoder against any bytes. The input is the stream, as it would come from a socket. Checked:
 *
 *   - fed whole it yields what a plain reading of docs/protocol.md yields, which is written down a second time below;
 *   - cut anywhere, with any room for events, it yields the same events and the same outcome in the same words;
 *   - with decoder_idle() called at every cut, replies only come early or in pieces that add up to the same reply.
 */
#include "tracker/decode.h"

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define STREAM_MAX 8192
#define EVENTS_MAX (STREAM_MAX / TTALLOC_MSG_HEAD + 8)
#define IDLE_EXTRA 8  /* a waiting event can come up to four times */

#define REQUIRE(condition) require(condition, #condition, __LINE__)

struct outcome {
	struct event event[EVENTS_MAX + IDLE_EXTRA];
	size_t n;
	bool violated;
	size_t at;  /* offset of the violation or the end */
	unsigned dialect;
	char reason[160];
};

static void require(bool condition, const char *text, int line)
{
	if (condition)
		return;
	fprintf(stderr, "fuzz-decode.c:%d: not true: %s\n", line, text);
	abort();
}

static bool event_eq(const struct event *a, const struct event *b)
{
	return a->type == b->type && a->wire_type == b->wire_type && a->dialect == b->dialect &&
	       a->reply_from == b->reply_from && a->device == b->device && a->reported_pid == b->reported_pid &&
	       a->process == b->process && a->address == b->address && a->size == b->size && a->time == b->time;
}

/* --- a plain reading of the protocol, over the whole stream at once --- */

static uint64_t number(const uint8_t *p, int bytes)
{
	uint64_t v = 0;

	while (bytes-- > 0)
		v = v << 8 | p[bytes];
	return v;
}

static bool type_exists(unsigned type, unsigned dialect)
{
	if (type == 0 || type == 14 || type > 15)
		return false;
	if (type == 6)
		return dialect >= 112;
	if (type >= 13)
		return dialect == 144;
	return type < 8 || dialect >= 128;
}

static void reference_event(struct outcome *o, const uint8_t *p, unsigned dialect)
{
	o->event[o->n++] = (struct event){
		.type = p[0],
		.wire_type = p[16],
		.dialect = (uint16_t)dialect,
		.device = (int32_t)number(p + 4, 4),
		.reported_pid = (int32_t)number(p + 20, 4),
		.process = PROCESS_NONE,
		.address = number(p + 24, 8),
		.size = number(p + 8, 8),
		.time = number(p + 32, 8),
	};
}

/* The first message: returns its size, or 0 if the stream is broken or ends there. */
static unsigned reference_first(struct outcome *o, const uint8_t *data, size_t size)
{
	bool waits;
	size_t s = 40;

	if (!type_exists(data[0], 144)) {
		o->violated = true;
		return 0;
	}
	if (size < 40) {
		o->violated = true;
		o->at = size;
		return 0;
	}
	waits = data[0] == 3 || data[0] == 6 || (data[0] == 2 && number(data + 4, 4) == 0);
	if (!waits)
		reference_event(o, data, 0);
	while (s < size && s < 144 && !data[s])
		s++;
	o->at = s;
	if ((s != 72 && s != 112 && s != 128 && s != 144) || !type_exists(data[0], (unsigned)s) ||
	    (s < 144 && s < size && !type_exists(data[s], 144))) {
		o->violated = true;
		return 0;
	}
	if (waits)
		reference_event(o, data, (unsigned)s);
	o->dialect = (unsigned)s;
	return (unsigned)s;
}

static void reference(struct outcome *o, const uint8_t *data, size_t size)
{
	unsigned dialect;

	memset(o, 0, sizeof(*o));
	dialect = size ? reference_first(o, data, size) : 0;
	while (dialect && o->at < size) {
		const uint8_t *p = data + o->at;
		size_t left = size - o->at;

		o->violated = true;
		if (!type_exists(p[0], dialect))
			return;
		if (left >= 40)
			reference_event(o, p, dialect);
		for (size_t i = 40; i < left && i < dialect; i++) {
			if (p[i]) {
				o->at += i;
				return;
			}
		}
		if (left < dialect) {
			o->at = size;
			return;
		}
		o->violated = false;
		o->at += dialect;
	}
}

/* --- the decoder --- */

static uint32_t random_u32(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return (uint32_t)(*state >> 16);
}

/* Pieces of 1..piece bytes, room for 1..room events; piece 1 and room 1 are exact. */
static void decode(struct outcome *o, const uint8_t *data, size_t size, uint32_t piece, uint32_t room, bool idle,
		   uint64_t seed)
{
	struct textbuf reason = TEXTBUF_INIT;
	size_t at = 0, fed = 0, n;
	struct decoder d;
	int r = 0;

	memset(o, 0, sizeof(*o));
	decoder_init(&d);
	while (!r && fed < size) {
		size_t len = 1 + random_u32(&seed) % piece;

		fed = len < size - fed ? fed + len : size;
		while (!r && at < fed) {
			size_t max = 1 + random_u32(&seed) % room, consumed;
			uint8_t *exact = malloc(fed - at);  /* so that AddressSanitizer sees a byte read too many */

			REQUIRE(exact != NULL);
			memcpy(exact, data + at, fed - at);
			r = decoder_feed(&d, exact, fed - at, &consumed, o->event + o->n, max, &n);
			free(exact);
			REQUIRE(r == 0 || r == -EBADMSG);
			REQUIRE(n <= max);
			REQUIRE(consumed <= fed - at);
			REQUIRE(r || n == max || consumed == fed - at);
			at += consumed;
			o->n += n;
			REQUIRE(o->n <= EVENTS_MAX);
		}
		if (idle)
			o->n += decoder_idle(&d, o->event + o->n);
		REQUIRE(o->n <= EVENTS_MAX);
	}
	r = decoder_end(&d, o->event + o->n, &n);
	o->n += n;
	o->violated = r != 0;
	o->at = at;
	o->dialect = decoder_dialect(&d);
	decoder_reason(&d, &reason);
	REQUIRE((reason.len > 0) == o->violated);
	REQUIRE(reason.len < sizeof(o->reason));
	if (reason.len)
		memcpy(o->reason, reason.data, reason.len);
	textbuf_deinit(&reason);
}

static void require_same(const struct outcome *a, const struct outcome *b)
{
	REQUIRE(a->violated == b->violated);
	REQUIRE(a->at == b->at);
	REQUIRE(a->dialect == b->dialect);
	REQUIRE(a->n == b->n);
	for (size_t i = 0; i < a->n; i++)
		REQUIRE(event_eq(&a->event[i], &b->event[i]));
}

/* Puts the pieces of replies together, and takes back what only decoder_idle() let out: then nothing differs. */
static void join_replies(struct outcome *o, const struct outcome *whole)
{
	size_t kept = 0;

	for (size_t i = 0; i < o->n; i++) {
		struct event *e = &o->event[i];

		if (e->reply_from) {
			REQUIRE(kept == 1);
			REQUIRE(e->type == 3 || e->type == 6);
			REQUIRE(e->reply_from == o->event[0].dialect);
			REQUIRE(e->dialect > e->reply_from);
			o->event[0].dialect = e->dialect;
			REQUIRE(e->type == o->event[0].type && e->device == o->event[0].device);
		} else {
			o->event[kept++] = *e;
		}
	}
	o->n = kept;
	if (whole->n == 0 && o->n == 1) {
		REQUIRE(whole->violated);
		o->n = 0;
	} else if (o->n && o->event[0].type == 2 && o->event[0].dialect) {
		/* A FREE is judged by the first likely dialect and not again. */
		REQUIRE(o->event[0].dialect <= whole->event[0].dialect);
		o->event[0].dialect = whole->event[0].dialect;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const uint32_t pieces[] = { 1, 2, 40, 72, 150, 1000 };
	static struct outcome plain, whole, cut;
	uint64_t seed = UINT64_C(1469598103934665603);

	if (size > STREAM_MAX)
		return 0;
	for (size_t i = 0; i < size; i++)
		seed = (seed ^ data[i]) * UINT64_C(1099511628211);
	seed |= 1;

	reference(&plain, data, size);
	memset(&whole, 0, sizeof(whole));
	decode(&whole, data, size, STREAM_MAX * 64, EVENTS_MAX, false, seed);
	require_same(&whole, &plain);
	for (size_t i = 0; i < sizeof(pieces) / sizeof(pieces[0]); i++) {
		decode(&cut, data, size, pieces[i], i % 2 ? 3 : 1, false, seed + 2 * i);
		require_same(&cut, &whole);
		REQUIRE(!strcmp(cut.reason, whole.reason));
		decode(&cut, data, size, pieces[i], 8, true, seed + 2 * i);
		join_replies(&cut, &whole);
		require_same(&cut, &whole);
		REQUIRE(!strcmp(cut.reason, whole.reason));
	}
	return 0;
}
