/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * decode.h - the bytes of one connection, made into events.
 *
 * Pure: bytes in, events out; no I/O, no clock. Nothing on the wire says which of the four dialects (message sizes)
 * a client speaks, so the decoder finds out, by the rule of docs/protocol.md, from what every client leaves zero:
 *
 *   the first message starts at 0, bytes 40..size-1 of it are zero, the next message begins with a type (1..13, 15).
 *
 * The dialect is *proved* by the first non-zero byte at or after 40, or by 144 bytes without one, as no message is
 * longer. Until then it is *likely* whenever exactly 72 or 112 or 128 bytes are held, which is what a client that
 * waits for its answer has sent.
 *
 * What a stream means does not depend on how it was cut. An event is out as soon as the 40 bytes are there that it
 * is made from, but three in a first message wait for the dialect, without which they cannot be acted upon: QUERY and
 * DEVICE_INFO_QUERY (a reply has the size of the asker's dialect) and FREE on device 0 (see rerouted frees in
 * docs/protocol.md). Other events of the first message have dialect 0, all later ones the proved dialect.
 *
 * A likely dialect can turn out too small when a longer message arrives in pieces. The reply was sent then, too short;
 * the decoder emits the query a second time, with the wider dialect and `reply_from` = the bytes that were sent, and
 * the server sends bytes reply_from..dialect-1 of the wider reply. It is not a second query and must not be counted
 * as one. The asker gets a reply of its size; its totals (bytes 40..71) are at the same place in every dialect.
 * A FREE that was judged by a likely dialect is not repeated.
 *
 * Bytes 1..3 and 17..19 are zero in everything recorded, but they are padding: a client that leaves them unset would
 * be as right, and nothing here depends on them, so they are not looked at.
 *
 * The caller owns the struct, which is one plain value without pointers: it may be copied and moved.
 */
#ifndef TRACKER_DECODE_H
#define TRACKER_DECODE_H

#include <stddef.h>
#include <stdint.h>

#include "client/ttalloc-proto.h"
#include "tracker/event.h"
#include "tracker/textbuf.h"

struct decoder {
	uint64_t offset;                  /* in the stream, of the next byte */
	uint16_t dialect;                 /* proved; 0 = not yet */
	uint16_t held;                    /* bytes taken of the current message */
	uint16_t answered;                /* size by which the event that waits was judged already; 0 = not yet */
	uint8_t violation;                /* enum decoder_violation */
	uint8_t culprit;                  /* the byte that is one */
	uint8_t head[TTALLOC_MSG_HEAD];   /* of the current message; its tail needs no room, for it is zeros */
};

void decoder_init(struct decoder *d);

/* Takes bytes, writes at most `max` events; *consumed and *n tell how many of each, also at a violation. It stops
 * early only when `out` is full: call again with the rest. Returns 0, or -EBADMSG when the sender broke the protocol:
 * the events before that are good, nothing is taken any more, and decoder_reason() tells why. */
int decoder_feed(struct decoder *d, const uint8_t *data, size_t len, size_t *consumed, struct event *out, size_t max,
		 size_t *n);

/* The socket has nothing more for now and everything read was fed: emits the event that waits for its dialect, if
 * that is likely. Returns the number of events, 0 or 1. */
size_t decoder_idle(struct decoder *d, struct event *out);

/* The stream has ended, which proves a dialect that was likely: as decoder_idle() (*n is 0 or 1), and returns 0, or
 * -EBADMSG when it ended within a message. */
int decoder_end(struct decoder *d, struct event *out, size_t *n);

/* 72, 112, 128 or 144; 0 = not known. */
unsigned decoder_dialect(const struct decoder *d);
unsigned decoder_likely_dialect(const struct decoder *d);

/* After -EBADMSG: appends the reason in words, starting with the offset in the stream; one line, without newline. */
void decoder_reason(const struct decoder *d, struct textbuf *out);

#endif
