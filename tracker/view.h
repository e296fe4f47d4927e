/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * view.h - from the registry to text: one function per file of the mount.
 *
 * Pure: reads the registry and its companions, writes a textbuf, knows no clock (`now` is in the view), no file
 * system and no FUSE. The formats are the ABI of docs/filesystem.md; golden files in tests/golden/ hold them fast.
 *
 * Two shapes. A *text* is written whole; its cost does not depend on the number of buffers. A *table* can be as long
 * as the registry is large and is written in pieces: the cursor says where it stands, every call does a bounded
 * piece of work (about VIEW_STEP chunks or `want` bytes), and nothing else is remembered between calls. A buffer that
 * lives during the whole reading appears exactly once, none appears twice.
 */
#ifndef TRACKER_VIEW_H
#define TRACKER_VIEW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tracker/errlog.h"
#include "tracker/registry.h"
#include "tracker/textbuf.h"
#include "tracker/trace.h"

#define TTALLOC_ABI 1
#define VIEW_STEP 4096  /* chunks of the registry that one call of a table looks at, at most */

/* What the server knows about itself; kept by main and the edges, read by views. */
struct server_info {
	const char *version;        /* "0.1.0" */
	int32_t pid;
	char instance[17];          /* 16 hex digits, new at every start */
	uint64_t started;           /* ns since the epoch */
	const char *mountpoint;     /* for the README file */
	const char *socket;         /* NULL when off */
	const char *compat_socket;  /* NULL when off */
	uint32_t clients;           /* open connections */
	uint32_t rings;             /* of them with a ring */
	uint32_t max_clients;
	uint64_t malformed_senders;
	uint64_t refused_clients;   /* connections turned away at max_clients or for want of process slots */
	uint64_t fs_requests;
	uint64_t ctl_commands;      /* executed */
	uint64_t ctl_refused;       /* refused, parsed or not */
	uint64_t turns;             /* of the event loop */
	uint64_t turns_over_1ms;    /* of them */
	uint64_t turn_max_ns;
};

struct symbols;

struct view {
	const struct registry *registry;
	const struct trace *trace;
	const struct errlog *errlog;
	const struct server_info *server;
	uint64_t now;
	const struct symbols *symbols;  /* names of functions (symbols.h); NULL: none are known */
};

/* What a path's variable parts stand for; only the fields that the path has are set. */
struct view_key {
	unsigned device;   /* device<N> */
	unsigned type;     /* enum buffer_type, <type> */
	uint32_t slot;     /* buffer slot: the newest live buffer of that name, or the suspect */
	uint32_t process;  /* process slot, pids/<pid> */
	uint32_t site;     /* number of a call site, stacks/<site> */
	uint32_t mark;     /* slot of a mark, marks/<name> */
	uint64_t address;  /* device<N>/history/<address> */
};

/* 0, or -ENOENT when what the key names is gone. Out of memory is remembered in the textbuf. */
typedef int (*view_text)(const struct view *v, const struct view_key *k, struct textbuf *t);

int view_readme(const struct view *v, const struct view_key *k, struct textbuf *t);
int view_version(const struct view *v, const struct view_key *k, struct textbuf *t);
int view_error_log(const struct view *v, const struct view_key *k, struct textbuf *t);
int view_summary(const struct view *v, const struct view_key *k, struct textbuf *t);
int view_stats(const struct view *v, const struct view_key *k, struct textbuf *t);
int view_device_summary(const struct view *v, const struct view_key *k, struct textbuf *t);
int view_device_info(const struct view *v, const struct view_key *k, struct textbuf *t);
int view_buffer(const struct view *v, const struct view_key *k, struct textbuf *t);       /* device<N>/<type>/<addr> */
int view_leak(const struct view *v, const struct view_key *k, struct textbuf *t);         /* leaks/<name> */
int view_site(const struct view *v, const struct view_key *k, struct textbuf *t);         /* stacks/<site> */
int view_past(const struct view *v, const struct view_key *k, struct textbuf *t);         /* device<N>/history/<addr> */
int view_mark_summary(const struct view *v, const struct view_key *k, struct textbuf *t); /* marks/<name>/summary */
int view_process_status(const struct view *v, const struct view_key *k, struct textbuf *t);

/* How far the reading of a table has come; zeroed at its start, given to view_table_end() at its end. */
struct view_cursor {
	uint64_t pos;
	uint64_t mark;      /* what a table has to remember of its beginning; each says what */
	bool begun;         /* the header line is out */
	struct sorted *sorted;  /* tables in an order: what was collected (view-sort.c), else NULL */
};

/* Appends about `want` bytes. 1 = call again (possibly without new text: it was still collecting), 0 = the end,
 * -ENOMEM, -ENOENT when what the key names is gone. */
typedef int (*view_table)(const struct view *v, const struct view_key *k, struct view_cursor *c, size_t want,
			  struct textbuf *t);
void view_table_end(struct view_cursor *c);
/* Bytes that the cursor has allocated: the copies of a table in an order, else 0. */
uint64_t view_table_bytes(const struct view_cursor *c);

int view_allocs(const struct view *v, const struct view_key *k, struct view_cursor *c, size_t want, struct textbuf *t);
int view_device_allocs(const struct view *v, const struct view_key *k, struct view_cursor *c, size_t want,
		       struct textbuf *t);
int view_process_allocs(const struct view *v, const struct view_key *k, struct view_cursor *c, size_t want,
			struct textbuf *t);
/* What was allocated since the mark and is held still. */
int view_mark_allocs(const struct view *v, const struct view_key *k, struct view_cursor *c, size_t want,
		     struct textbuf *t);
int view_suspects(const struct view *v, const struct view_key *k, struct view_cursor *c, size_t want,
		  struct textbuf *t);
/* Totals of call sites, live and past, by device and type: over all processes, and of one. */
int view_sites(const struct view *v, const struct view_key *k, struct view_cursor *c, size_t want, struct textbuf *t);
int view_process_sites(const struct view *v, const struct view_key *k, struct view_cursor *c, size_t want,
		       struct textbuf *t);
int view_processes(const struct view *v, const struct view_key *k, struct view_cursor *c, size_t want,
		   struct textbuf *t);
int view_trace(const struct view *v, const struct view_key *k, struct view_cursor *c, size_t want, struct textbuf *t);
/* Address ranges in use in ascending order with the holes between them. */
int view_device_map(const struct view *v, const struct view_key *k, struct view_cursor *c, size_t want,
		    struct textbuf *t);
/* The report of `dump`: sorted by device, type, address; its sums are those of the buffers it lists. */
int view_dump(const struct view *v, const struct view_key *k, struct view_cursor *c, size_t want, struct textbuf *t);

/* Names of directory entries that stand for a buffer. */
void view_leak_name(const struct view *v, const struct buffer *b, struct textbuf *t);
/* "pid<pid>-device<N>-<type>-<addr>-<seq>" -> the slot of that suspect, or -ENOENT. Any spelling of the numbers. */
int view_leak_find(const struct view *v, const char *name, uint32_t *slot);
/* Of a call site: 16 hex digits; any spelling of the number is found. 0 or -ENOENT. */
void view_site_name(const struct view *v, uint32_t site, struct textbuf *t);
int view_site_find(const struct view *v, const char *name, uint32_t *site);
/* "0x40000000", "0x000040000000", upper case: -> the address; false for anything else. */
bool view_parse_address(const char *name, uint64_t *address);

#endif
