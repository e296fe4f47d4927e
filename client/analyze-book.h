/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * analyze-book.h - what became of every address that a log speaks of.
 *
 * Keeps a record per buffer, not the lines: memory follows the number of different addresses, however long the log is.
 * Only of one wanted address the events are kept, the newest BOOK_TIMELINE_MAX.
 *
 * Where the log says what was booked (a server's lines, `trace`) that is believed; from a detailed log, which has only
 * what a process reported, it is worked out by the rules of docs/protocol.md.
 *
 * Pure but for memory. After -ENOMEM the book must not be used but for book_free().
 */
#ifndef CLIENT_ANALYZE_BOOK_H
#define CLIENT_ANALYZE_BOOK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "client/analyze-line.h"
#include "client/analyze-shelf.h"

#define BOOK_TIMELINE_MAX 100000

struct device_counts {
	int32_t number;
	uint64_t events;
	uint64_t allocs;
	uint64_t frees;
	uint64_t refs;             /* allocations of what was held already */
	uint64_t sum_allocs;       /* without an address */
	uint64_t sum_frees;
};

/* One event at the wanted address, as it was booked. */
struct moment {
	struct place place;
	int64_t time;
	uint64_t address;          /* as in struct line */
	uint64_t size;
	enum line_kind kind;
	enum line_type type;
	enum line_notation notation;
	int32_t device;
	int32_t pid;
	uint32_t refs;
	char *origin;              /* as in struct buffer */
};

struct book_counts {
	uint64_t lines;
	uint64_t events;           /* of buffers, circular buffers and kernels */
	uint64_t unknown;          /* lines that are not understood */
	uint64_t refused;          /* of the events: a server refuses them, and nothing else counts them */
	struct place refused_at;   /* the first of these */
	uint64_t lost;             /* events or lines that the log says are missing */
};

struct wanted {
	bool any;                  /* the rest counts */
	bool all_devices;
	int32_t device;
	uint64_t address;
};

struct book;

/* NULL: no memory. */
struct book *book_new(const struct wanted *wanted);
void book_free(struct book *b);

/* Return: 0 or -ENOMEM. */
int book_line(struct book *b, const struct line *line, const struct place *place);

/* Whether the buffer is held, as far as the log goes. */
bool book_is_held(const struct book *b, const struct buffer *buffer);
/* Whether its owner ended and left it. */
bool book_is_left(const struct book *b, const struct buffer *buffer);
/* How often, and where it was the last time. */
uint32_t book_faults(const struct buffer *buffer, enum fault kind);
struct place book_fault_place(const struct buffer *buffer, enum fault kind);

const struct book_counts *book_counts(const struct book *b);
/* In ascending order. The array is the book's, until the next line. NULL with *np > 0: no memory. */
const struct device_counts *const *book_devices(struct book *b, size_t *np);
/* Every buffer, in no order, until `each` returns something else than 0, which is returned. */
int book_each(const struct book *b, int (*each)(void *arg, const struct address *a, const struct buffer *buffer),
	      void *arg);
/* The events at the wanted address, oldest first, in the same way. */
int book_each_moment(const struct book *b, int (*each)(void *arg, const struct moment *m), void *arg);
/* Events at the wanted address that are older than what was kept. */
uint64_t book_moments_dropped(const struct book *b);

#endif
