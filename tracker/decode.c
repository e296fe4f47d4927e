/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * decode.c - the bytes of one connection of an existing client, made into events; the rules are in decode.h.
 *
 * Two paths. step() goes through a message in pieces of any size and knows every rule; it keeps the 40 bytes of the
 * head and the number of zeros behind it, so that no byte is looked at twice. feed_whole() is the loop for what
 * nearly always comes, whole messages in a proved dialect; it leaves everything irregular, untouched, to step().
 */
#include "tracker/decode.h"

#include <endian.h>
#include <errno.h>
#include <stdbool.h>
#include <string.h>

enum decoder_violation {
	VIOLATION_NONE,
	VIOLATION_TYPE,           /* a message begins with something else than a type */
	VIOLATION_DIALECT,        /* a type that the proved dialect does not have */
	VIOLATION_FIRST_SIZE,     /* the first message ends where no dialect ends */
	VIOLATION_FIRST_DIALECT,  /* the first message ends as in a dialect that does not have its type */
	VIOLATION_TAIL,           /* a byte in a tail is not zero */
	VIOLATION_END,            /* the stream ended within a message */
};

#define NEVER UINT8_MAX

/* The smallest dialect that has a type. */
static const uint8_t smallest_dialect[TTALLOC_MSG_TYPE_MAX + 1] = {
	[0] = NEVER,
	[TTALLOC_MSG_ALLOC] = 72,
	[TTALLOC_MSG_FREE] = 72,
	[TTALLOC_MSG_QUERY] = 72,
	[TTALLOC_MSG_RESPONSE] = 72,
	[TTALLOC_MSG_DUMP] = 72,
	[TTALLOC_MSG_DEVICE_INFO_QUERY] = 112,
	[TTALLOC_MSG_DEVICE_INFO_RESPONSE] = 72,
	[TTALLOC_MSG_CB_ALLOC] = 128,
	[TTALLOC_MSG_CB_FREE] = 128,
	[TTALLOC_MSG_KERNEL_LOAD] = 128,
	[TTALLOC_MSG_KERNEL_UNLOAD] = 128,
	[TTALLOC_MSG_DUMP_KERNELS] = 128,
	[TTALLOC_MSG_RING] = 144,
	[TTALLOC_MSG_RING_RESPONSE] = NEVER,
	[TTALLOC_MSG_MARK] = 144,
};
static_assert(TTALLOC_MSG_MAX < NEVER, "every dialect is smaller than the one that never comes");

static inline bool type_fits(uint8_t type, unsigned dialect)
{
	return type <= TTALLOC_MSG_TYPE_MAX && smallest_dialect[type] <= dialect;
}

/* The sizes that a first message may have without reaching the largest, which is proved by its length alone. */
static bool is_shorter_dialect(unsigned size)
{
	return size == TTALLOC_DIALECT_72 || size == TTALLOC_DIALECT_112 || size == TTALLOC_DIALECT_128;
}

static inline void event_from_head(struct event *e, const uint8_t *bytes, unsigned dialect)
{
	struct ttalloc_msg_head head;

	memcpy(&head, bytes, sizeof(head));
	*e = (struct event){
		.type = head.type,
		.wire_type = head.buffer_type,
		.dialect = (uint16_t)dialect,
		.device = (int32_t)le32toh((uint32_t)head.device_id),
		.reported_pid = (int32_t)le32toh((uint32_t)head.process_id),
		.process = PROCESS_NONE,
		.address = le64toh(head.buffer_id),
		.size = le64toh(head.size),
		.time = le64toh(head.timestamp),
	};
}

static inline bool tail_is_zero(const uint8_t *message, unsigned dialect)
{
	uint64_t any = 0, word;

	for (unsigned i = TTALLOC_MSG_HEAD; i < dialect; i += sizeof(word)) {
		memcpy(&word, message + i, sizeof(word));
		any |= word;
	}
	return !any;
}

/* Returns the number of events; each took `dialect` bytes. Inlined once per dialect: all sizes are constants. */
static inline __attribute__((always_inline)) size_t feed_whole(const uint8_t *data, size_t len, unsigned dialect,
							       struct event *out, size_t max)
{
	size_t whole = len / dialect, i;

	if (whole > max)
		whole = max;
	for (i = 0; i < whole; i++, data += dialect) {
		if (!type_fits(data[0], dialect) || !tail_is_zero(data, dialect))
			break;
		event_from_head(&out[i], data, dialect);
	}
	return i;
}

static size_t feed_whole_messages(unsigned dialect, const uint8_t *data, size_t len, struct event *out, size_t max)
{
	switch (dialect) {
	case TTALLOC_DIALECT_72:
		return feed_whole(data, len, TTALLOC_DIALECT_72, out, max);
	case TTALLOC_DIALECT_112:
		return feed_whole(data, len, TTALLOC_DIALECT_112, out, max);
	case TTALLOC_DIALECT_128:
		return feed_whole(data, len, TTALLOC_DIALECT_128, out, max);
	default:
		return feed_whole(data, len, TTALLOC_DIALECT_144, out, max);
	}
}

static bool is_query(uint8_t type)
{
	return type == TTALLOC_MSG_QUERY || type == TTALLOC_MSG_DEVICE_INFO_QUERY;
}

/* Whether the event of the held head cannot be acted upon without the dialect. */
static bool needs_dialect(const struct decoder *d)
{
	struct ttalloc_msg_head head;

	memcpy(&head, d->head, sizeof(head));
	return is_query(head.type) || (head.type == TTALLOC_MSG_FREE && head.device_id == 0);
}

/* The first message is `size` bytes long, for certain or likely: emits its event if that waited. */
static size_t judge(struct decoder *d, unsigned size, struct event *out)
{
	if (!needs_dialect(d) || d->answered == size)
		return 0;
	if (d->answered && !is_query(d->head[0]))
		return 0;
	event_from_head(out, d->head, size);
	out->reply_from = d->answered;
	d->answered = (uint16_t)size;
	return 1;
}

static int violate(struct decoder *d, enum decoder_violation violation, uint8_t culprit)
{
	d->violation = (uint8_t)violation;
	d->culprit = culprit;
	return -EBADMSG;
}

static size_t count_zeros(const uint8_t *data, size_t len)
{
	size_t zeros = 0;

	while (zeros < len && !data[zeros])
		zeros++;
	return zeros;
}

static int step_head(struct decoder *d, const uint8_t *data, size_t len, size_t *used, struct event *out, size_t *n)
{
	size_t missing = (size_t)TTALLOC_MSG_HEAD - d->held;

	if (d->held == 0) {
		if (!type_fits(data[0], TTALLOC_MSG_MAX))
			return violate(d, VIOLATION_TYPE, data[0]);
		if (d->dialect && !type_fits(data[0], d->dialect))
			return violate(d, VIOLATION_DIALECT, data[0]);
	}
	*used = len < missing ? len : missing;
	memcpy(d->head + d->held, data, *used);
	d->held = (uint16_t)(d->held + *used);
	if (d->held == TTALLOC_MSG_HEAD && (d->dialect || !needs_dialect(d))) {
		event_from_head(out, d->head, d->dialect);
		*n = 1;
	}
	return 0;
}

static int step_tail(struct decoder *d, const uint8_t *data, size_t len, size_t *used)
{
	size_t missing = (size_t)d->dialect - d->held;
	size_t take = len < missing ? len : missing;

	*used = count_zeros(data, take);
	if (*used < take)
		return violate(d, VIOLATION_TAIL, data[*used]);
	d->held = *used < missing ? (uint16_t)(d->held + *used) : 0;
	return 0;
}

/* Counts the zeros behind the head of the first message, until the next message or the largest size proves it. */
static int step_first_tail(struct decoder *d, const uint8_t *data, size_t len, size_t *used, struct event *out,
			   size_t *n)
{
	size_t missing = (size_t)TTALLOC_MSG_MAX - d->held;
	size_t take = len < missing ? len : missing;

	*used = count_zeros(data, take);
	d->held = (uint16_t)(d->held + *used);
	if (*used < take) {
		if (!is_shorter_dialect(d->held))
			return violate(d, VIOLATION_FIRST_SIZE, data[*used]);
		if (!type_fits(d->head[0], d->held))
			return violate(d, VIOLATION_FIRST_DIALECT, d->head[0]);
		if (!type_fits(data[*used], TTALLOC_MSG_MAX))
			return violate(d, VIOLATION_TYPE, data[*used]);
	} else if (d->held < TTALLOC_MSG_MAX) {
		return 0;
	}
	*n = judge(d, d->held, out);
	d->dialect = d->held;
	d->held = 0;
	return 0;
}

/* Takes a piece of the current message, at least one byte or what proves the first message; emits at most one event. */
static int step(struct decoder *d, const uint8_t *data, size_t len, size_t *used, struct event *out, size_t *n)
{
	if (d->held < TTALLOC_MSG_HEAD)
		return step_head(d, data, len, used, out, n);
	if (d->dialect)
		return step_tail(d, data, len, used);
	return step_first_tail(d, data, len, used, out, n);
}

void decoder_init(struct decoder *d)
{
	*d = (struct decoder){ 0 };
}

int decoder_feed(struct decoder *d, const uint8_t *data, size_t len, size_t *consumed, struct event *out, size_t max,
		 size_t *n)
{
	int r = d->violation ? -EBADMSG : 0;
	size_t at = 0, events = 0;

	while (!r && at < len && events < max) {
		size_t used = 0, more = 0;

		if (d->dialect && !d->held) {
			more = feed_whole_messages(d->dialect, data + at, len - at, out + events, max - events);
			used = more * d->dialect;
		}
		if (!more)
			r = step(d, data + at, len - at, &used, out + events, &more);
		at += used;
		events += more;
	}
	d->offset += at;
	*consumed = at;
	*n = events;
	return r;
}

size_t decoder_idle(struct decoder *d, struct event *out)
{
	unsigned likely = decoder_likely_dialect(d);

	return likely ? judge(d, likely, out) : 0;
}

int decoder_end(struct decoder *d, struct event *out, size_t *n)
{
	unsigned likely = decoder_likely_dialect(d);

	*n = 0;
	if (d->violation)
		return -EBADMSG;
	if (likely) {
		*n = judge(d, likely, out);
		d->dialect = (uint16_t)likely;
		d->held = 0;
	}
	return d->held ? violate(d, VIOLATION_END, 0) : 0;
}

unsigned decoder_dialect(const struct decoder *d)
{
	return d->dialect;
}

unsigned decoder_likely_dialect(const struct decoder *d)
{
	bool likely = !d->violation && !d->dialect && is_shorter_dialect(d->held) && type_fits(d->head[0], d->held);

	return likely ? d->held : 0;
}

void decoder_reason(const struct decoder *d, struct textbuf *out)
{
	if (d->violation)
		textbuf_printf(out, "byte %llu: ", (unsigned long long)d->offset);
	switch ((enum decoder_violation)d->violation) {
	case VIOLATION_NONE:
		break;
	case VIOLATION_TYPE:
		textbuf_printf(out, "message type %u does not exist", d->culprit);
		break;
	case VIOLATION_DIALECT:
		textbuf_printf(out, "message type %u does not exist in dialect %u", d->culprit, d->dialect);
		break;
	case VIOLATION_FIRST_SIZE:
		textbuf_printf(out, "value 0x%02x after %u bytes of the first message, which is the size of no dialect",
			       d->culprit, d->held);
		break;
	case VIOLATION_FIRST_DIALECT:
		textbuf_printf(out, "the first message has type %u, which does not exist in dialect %u", d->culprit,
			       d->held);
		break;
	case VIOLATION_TAIL:
		textbuf_printf(out, "value 0x%02x in the tail of a message of dialect %u", d->culprit, d->dialect);
		break;
	case VIOLATION_END:
		textbuf_printf(out, "the stream ended %u bytes into a message", d->held);
		break;
	}
}
