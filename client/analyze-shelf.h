/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * analyze-shelf.h - where a book (analyze-book.h) keeps its buffers: by address, and there by process.
 *
 * Whatever is asked costs the same with one process at an address and with a million, one after the other or at the
 * same time: those of a process are found through a table of its own at an address that many use, and those that are
 * held, and those that are gone, are lists, the newest first.
 *
 * Knows nothing of events. Pure but for memory.
 */
#ifndef CLIENT_ANALYZE_SHELF_H
#define CLIENT_ANALYZE_SHELF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "client/analyze-line.h"

/* Where a line stands. */
struct place {
	uint32_t log;              /* number of the file, from 0 */
	uint64_t line;             /* from 1 */
};

/* What a buffer is told apart by. Of existing servers' logs pid is 0 and type LINE_NO_TYPE: they do not tell. */
struct buffer_owner {
	int32_t pid;
	enum line_type type;
};

/* What is counted as wrong, or as strange, of a buffer. */
enum fault {
	FAULT_DOUBLE_FREE,
	FAULT_UNKNOWN_FREE,
	FAULT_FOREIGN_FREE,
	FAULT_RESIZE,              /* while it was held */
	FAULT_REUSE,               /* allocated again with another size than before */
	FAULTS,
};

/* Few buffers have any. */
struct faults {
	uint32_t count[FAULTS];
	struct place at[FAULTS];   /* the last of each */
};

/* Which list of its address a buffer is in. */
enum buffer_list {
	BUFFERS_OTHER,
	BUFFERS_HELD,              /* has references */
	BUFFERS_GONE,              /* was freed */
	BUFFER_LISTS,
};

/* A buffer, or those that were at the same address one after the other. */
struct buffer {
	struct buffer *next;       /* that is found in the same way */
	struct buffer *older;      /* in its list */
	struct buffer *newer;
	struct buffer_owner owner;
	bool retired;              /* leaked: its owner has ended, and the address is used by another one */
	uint8_t list;              /* enum buffer_list */
	int32_t pid;               /* who allocated it last; 0: not known */
	enum line_type type;
	uint32_t refs;             /* 0: not held */
	uint32_t allocs;           /* times it came to be */
	uint32_t frees;            /* times it was gone */
	uint64_t size;             /* of the last allocation; 0: not known */
	uint64_t size_min;
	uint64_t size_max;
	uint64_t since;            /* number of the event that made it */
	int64_t time;
	struct place allocated;
	struct faults *faults;     /* NULL: none */
	char *origin;              /* caller and tag, as in the log, each with a zero at its end; NULL: neither */
};

/* Circular buffers and kernels have numbers of their own. */
enum space {
	SPACE_BUFFER,
	SPACE_CB,
	SPACE_KERNEL,
};

struct address {
	struct address *next;      /* in the shelf's table */
	struct address *later;     /* came after it */
	uint64_t value;
	int32_t device;
	uint8_t space;             /* enum space */
	bool digits;               /* the value may have to be read as hex */
	bool merged;               /* into that of another notation: not in the table */
	uint8_t bits;              /* 0: all buffers hang at `one` */
	uint32_t count;            /* of buffers that are not retired */
	union {
		struct buffer *one;
		struct buffer **many;  /* 1 << bits of them, by pid */
	} buffers;
	struct buffer *retired;
	struct buffer *newest[BUFFER_LISTS];
};

struct shelf {
	struct address **table;
	size_t room;               /* a power of two; 0: nothing yet */
	size_t count;
	struct address *first;     /* in the order in which they came */
	struct address *last;
	struct shelf_chunk *chunks;
};

void shelf_deinit(struct shelf *s);
/* The address, made if it is not there; NULL: no memory. */
struct address *shelf_get(struct shelf *s, int32_t device, enum space space, uint64_t value);
/* All addresses with `digits` have the number that those are in hex from now on. */
void shelf_read_digits_as_hex(struct shelf *s);
/* Every buffer, in the order in which their addresses came, until `each` returns something else than 0: which is
 * returned. */
int shelf_each(const struct shelf *s, int (*each)(void *arg, const struct address *a, const struct buffer *buffer),
	       void *arg);

/* Those of a process that are not retired: at most one per type. NULL: no more. */
struct buffer *address_first_of(struct address *a, int32_t pid);
struct buffer *address_next_of(const struct buffer *buffer);
/* NULL: no memory. */
struct buffer *address_make(struct shelf *s, struct address *a, const struct buffer_owner *owner);
/* It is not found by its process any more. */
void address_retire(struct address *a, struct buffer *buffer);
/* In front of the list, unless it is in it already. */
void address_list(struct address *a, struct buffer *buffer, enum buffer_list list);

#endif
