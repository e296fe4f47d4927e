/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * textbuf.h - a growing piece of text; every file of the mount is written with it.
 *
 * The append functions never fail at the call: the first failure (out of memory) is remembered in `error` and
 * everything after it is ignored, so a view is written without a check per line and its caller looks once, with
 * textbuf_error(). The hot ones (numbers, addresses) do not go through printf.
 *
 * Not terminated by NUL. The struct is embedded by its owner, who calls textbuf_deinit().
 */
#ifndef TRACKER_TEXTBUF_H
#define TRACKER_TEXTBUF_H

#include <stddef.h>
#include <stdint.h>

struct textbuf {
	char *data;
	size_t len;
	size_t size;
	int error;   /* 0 or -ENOMEM */
};

#define TEXTBUF_INIT { 0 }

void textbuf_deinit(struct textbuf *t);
/* Forgets the text and the error, keeps the memory. */
void textbuf_clear(struct textbuf *t);
/* 0 or -ENOMEM: whether everything appended so far is there. */
int textbuf_error(const struct textbuf *t);

void textbuf_put(struct textbuf *t, const char *data, size_t len);
void textbuf_puts(struct textbuf *t, const char *s);
void textbuf_putc(struct textbuf *t, char c);
/* `len` blanks or other characters. */
void textbuf_fill(struct textbuf *t, char c, size_t len);
void textbuf_u64(struct textbuf *t, uint64_t v);
void textbuf_i64(struct textbuf *t, int64_t v);
/* "0x" and 12 lower-case hex digits, more only where the number needs more. */
void textbuf_addr(struct textbuf *t, uint64_t v);
/* `seconds.microseconds` of a time in ns since the epoch; "-" for 0. */
void textbuf_time(struct textbuf *t, uint64_t ns);
/* A string as one word of valid UTF-8: blank, '%', control characters and bytes that are no UTF-8 become %XX
 * (upper-case hex). "-" for NULL and "". */
void textbuf_escaped(struct textbuf *t, const char *s);
/* The bytes of the character at `s`, which ends with a NUL, if it stands as it is in such a word; else 0. */
size_t textbuf_plain(const char *s);
void textbuf_printf(struct textbuf *t, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
