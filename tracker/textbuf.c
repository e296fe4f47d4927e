/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * textbuf.c - a growing piece of text; the contract is in textbuf.h.
 *
 * Listings of a million buffers are written through here, ten fields a line, so each append asks once for the room
 * it may need and then writes in place. Room grows by doubling; TEXTBUF_MAX keeps every size computation far from
 * overflow, and no real text comes near it.
 */
#include "tracker/textbuf.h"

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TEXTBUF_MIN 256
#define TEXTBUF_MAX (SIZE_MAX / 4)

#define U64_DIGITS 20  /* of UINT64_MAX */
#define ADDR_DIGITS 12
#define NS_PER_US UINT64_C(1000)
#define US_PER_S UINT64_C(1000000)

static const char digit_pairs[] =
	"0001020304050607080910111213141516171819202122232425262728293031323334353637383940414243444546474849"
	"5051525354555657585960616263646566676869707172737475767778798081828384858687888990919293949596979899";
static const char hex_lower[] = "0123456789abcdef";
static const char hex_upper[] = "0123456789ABCDEF";

static bool grow(struct textbuf *t, size_t room)
{
	size_t size = t->size ? t->size * 2 : TEXTBUF_MIN;
	char *data;

	if (room > TEXTBUF_MAX - t->len) {
		t->error = -ENOMEM;
		return false;
	}
	if (size < t->len + room)
		size = t->len + room;
	data = realloc(t->data, size);
	if (!data) {
		t->error = -ENOMEM;
		return false;
	}
	t->data = data;
	t->size = size;
	return true;
}

/* Where the next `room` bytes may be written, or NULL when there is an error, old or new. */
static inline char *reserve(struct textbuf *t, size_t room)
{
	if (t->error)
		return NULL;
	if (room > t->size - t->len && !grow(t, room))
		return NULL;
	return t->data + t->len;
}

void textbuf_deinit(struct textbuf *t)
{
	free(t->data);
	*t = (struct textbuf)TEXTBUF_INIT;
}

void textbuf_clear(struct textbuf *t)
{
	t->len = 0;
	t->error = 0;
}

int textbuf_error(const struct textbuf *t)
{
	return t->error;
}

void textbuf_put(struct textbuf *t, const char *data, size_t len)
{
	char *p;

	if (!len)
		return;
	p = reserve(t, len);
	if (!p)
		return;
	memcpy(p, data, len);
	t->len += len;
}

void textbuf_puts(struct textbuf *t, const char *s)
{
	textbuf_put(t, s, strlen(s));
}

void textbuf_putc(struct textbuf *t, char c)
{
	char *p = reserve(t, 1);

	if (!p)
		return;
	*p = c;
	t->len++;
}

void textbuf_fill(struct textbuf *t, char c, size_t len)
{
	char *p;

	if (!len)
		return;
	p = reserve(t, len);
	if (!p)
		return;
	memset(p, c, len);
	t->len += len;
}

static unsigned count_digits(uint64_t v)
{
	unsigned digits = 1;

	for (; v >= 10000; v /= 10000)
		digits += 4;
	return digits + (v >= 10) + (v >= 100) + (v >= 1000);
}

/* Writes exactly the last `digits` decimal digits of v, from the right, two at a time. */
static void write_digits(char *p, uint64_t v, unsigned digits)
{
	while (digits >= 2) {
		digits -= 2;
		memcpy(p + digits, digit_pairs + v % 100 * 2, 2);
		v /= 100;
	}
	if (digits)
		*p = (char)('0' + v % 10);
}

void textbuf_u64(struct textbuf *t, uint64_t v)
{
	char *p = reserve(t, U64_DIGITS);
	unsigned digits;

	if (!p)
		return;
	digits = count_digits(v);
	write_digits(p, v, digits);
	t->len += digits;
}

void textbuf_i64(struct textbuf *t, int64_t v)
{
	if (v >= 0) {
		textbuf_u64(t, (uint64_t)v);
		return;
	}
	textbuf_putc(t, '-');
	textbuf_u64(t, 0 - (uint64_t)v);  /* as unsigned, for INT64_MIN has no positive counterpart */
}

void textbuf_addr(struct textbuf *t, uint64_t v)
{
	char *p = reserve(t, 2 + 16);
	unsigned digits = ADDR_DIGITS;

	if (!p)
		return;
	while (digits < 16 && v >> (4 * digits))
		digits++;
	*p++ = '0';
	*p++ = 'x';
	for (unsigned i = digits; i-- > 0; v >>= 4)
		p[i] = hex_lower[v & 0xf];
	t->len += 2 + digits;
}

void textbuf_time(struct textbuf *t, uint64_t ns)
{
	uint64_t us = ns / NS_PER_US;
	unsigned digits;
	char *p;

	if (!ns) {
		textbuf_putc(t, '-');
		return;
	}
	p = reserve(t, U64_DIGITS + 1 + 6);
	if (!p)
		return;
	digits = count_digits(us / US_PER_S);
	write_digits(p, us / US_PER_S, digits);
	p[digits] = '.';
	write_digits(p + digits + 1, us % US_PER_S, 6);
	t->len += digits + 1 + 6;
}

/* Names come from anybody: what is no valid UTF-8 would make a strict reader give up the whole file, control characters
 * would reach a terminal. */
size_t textbuf_plain(const char *s)
{
	const unsigned char *u = (const unsigned char *)s;
	size_t len = u[0] < 0x80 ? 1 : u[0] < 0xc2 ? 0 : u[0] < 0xe0 ? 2 : u[0] < 0xf0 ? 3 : u[0] < 0xf5 ? 4 : 0;

	if (len == 1)
		return u[0] > ' ' && u[0] != '%' && u[0] != 0x7f;
	for (size_t i = 1; i < len; i++)
		if ((u[i] & 0xc0) != 0x80)
			return 0;
	if ((u[0] == 0xc2 && u[1] < 0xa0) ||                                    /* control characters C1 */
	    (u[0] == 0xe0 && u[1] < 0xa0) || (u[0] == 0xf0 && u[1] < 0x90) ||   /* longer than need be */
	    (u[0] == 0xed && u[1] >= 0xa0) || (u[0] == 0xf4 && u[1] >= 0x90))   /* surrogates, beyond the last */
		return 0;
	return len;
}

void textbuf_escaped(struct textbuf *t, const char *s)
{
	if (!s || !*s) {
		textbuf_putc(t, '-');
		return;
	}
	while (*s) {
		const char *run = s;
		size_t len;

		while ((len = textbuf_plain(s)) > 0)
			s += len;
		textbuf_put(t, run, (size_t)(s - run));
		if (*s) {
			unsigned char u = (unsigned char)*s++;
			char escape[3] = { '%', hex_upper[u >> 4], hex_upper[u & 0xf] };

			textbuf_put(t, escape, sizeof(escape));
		}
	}
}

void textbuf_printf(struct textbuf *t, const char *format, ...)
{
	va_list args;
	char *p;
	int len;

	/* Most pieces fit the room that is there; the others are formatted again once their length is known. */
	p = reserve(t, 1);
	if (!p)
		return;
	va_start(args, format);
	len = vsnprintf(p, t->size - t->len, format, args);
	va_end(args);
	if (len >= 0 && (size_t)len >= t->size - t->len) {
		p = reserve(t, (size_t)len + 1);
		if (!p)
			return;
		va_start(args, format);
		len = vsnprintf(p, (size_t)len + 1, format, args);
		va_end(args);
	}
	if (len < 0) {
		t->error = -ENOMEM;  /* a piece of 2 GiB or more, or one that cannot be formatted: it is not there */
		return;
	}
	t->len += (size_t)len;
}
