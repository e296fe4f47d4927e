/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * analyze-line.h - what one line of a log says about device memory.
 *
 * Three kinds of log are understood, line by line, whatever they are mixed with:
 *  - the table of the mount's `trace` and `events` files (docs/filesystem.md): 9 fields;
 *  - the detailed log of libttalloc (client/detail.h): the same and 4 more;
 *  - what the existing allocation servers print: "[PID 7] Allocated 4096 bytes of DRAM on device 0 (buffer_id=0x40)".
 *
 * Pure: text in, struct out. Nothing is allocated; `caller` and `tag` point into the text.
 */
#ifndef CLIENT_ANALYZE_LINE_H
#define CLIENT_ANALYZE_LINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LINE_NO_DEVICE INT32_MIN
#define LINE_NO_TIME INT64_MIN

enum line_kind {
	LINE_UNKNOWN,        /* says nothing that is understood */
	LINE_BLANK,          /* empty, or a comment */
	LINE_NOTE,           /* understood, and no event of a buffer: `connect`, a list of the servers' ... */
	LINE_ALLOC,
	LINE_REF,            /* one more reference */
	LINE_RESIZE,         /* another size; in tables one more reference, too */
	LINE_FREE,           /* the last reference is gone; in a detailed log: one reference less */
	LINE_UNREF,
	LINE_DOUBLE_FREE,
	LINE_UNKNOWN_FREE,
	LINE_FOREIGN_FREE,   /* without a type: refused */
	LINE_SUM,            /* of circular buffers or kernels that a server gives no address of */
	LINE_EXIT,           /* the process has ended */
	LINE_RESET,          /* the server has forgotten everything */
	LINE_LOST,           /* `size` lines or events are missing */
	LINE_REFUSED,        /* of no line: what becomes of an event that a server refuses */
	LINE_KINDS,
};

/* Who says so. */
enum line_source {
	LINE_SERVER,         /* an existing server: one record per device and address, whoever allocates and frees */
	LINE_TABLE,          /* ours: the kinds are what was booked */
	LINE_DETAIL,         /* the library: only what was reported, unbooked */
};

enum line_type {
	LINE_DRAM,
	LINE_L1,
	LINE_SYSTEM_MEMORY,
	LINE_L1_SMALL,
	LINE_TRACE,
	LINE_CB,
	LINE_KERNEL,
	LINE_NO_TYPE,        /* not said, or not known */
	LINE_TYPES,
};

/* How an address is written. */
enum line_notation {
	LINE_EXACT,          /* beyond doubt */
	LINE_DIGITS,         /* digits only: decimal, unless a LINE_LETTERS says that this log has hex without 0x */
	LINE_LETTERS,        /* hex without 0x */
};

struct line {
	enum line_kind kind;
	enum line_source source;
	enum line_type type;
	enum line_notation notation;
	bool has_address;
	bool has_size;
	bool is_free;        /* of a LINE_SUM */
	bool no_class;       /* of a kernel in a detailed log: it has none that is known */
	int32_t device;      /* LINE_NO_DEVICE */
	int32_t pid;         /* 0: not said */
	uint32_t refs;       /* that are left; 0: not said */
	uint64_t address;    /* LINE_DIGITS: read as decimal */
	uint64_t size;
	uint64_t old_size;   /* of a server's LINE_RESIZE */
	uint64_t seq;
	int64_t time;        /* microseconds since the epoch, LINE_NO_TIME */
	const char *caller;
	const char *tag;
	size_t caller_length;  /* 0: none */
	size_t tag_length;
};

/* `text` is a line without its end; it need not be terminated. */
void line_parse(const char *text, size_t length, struct line *line);

const char *line_kind_name(enum line_kind kind);
const char *line_type_name(enum line_type type);
/* What the digits of the decimal number are as hex; false: more than 64 bits. */
bool line_as_hex(uint64_t decimal, uint64_t *hexp);

#endif
