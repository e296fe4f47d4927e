/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * registry.h - what is held: live buffers, processes, devices, their totals, and what is remembered of each address.
 *
 * Pure: no I/O, no logging, no clock (time is an argument, ns since the epoch, 0 = never). ingest.c books events
 * into it, view.c reads it, the control operations clean it.
 *
 * Layout. State that has to survive (records, chunk tags, holdings, processes, history) sits in one arena that the
 * caller provides, and refers to each other by number, never by pointer. The index over it and the process
 * table's hash are derived and owned by the registry.
 *
 *   process ──┐
 *             ├─ holding (process, device, type) ── chunks of 16 records ── record (one live buffer)
 *   device  ──┘
 *
 * A chunk belongs to one holding, so that a 48-byte record need not repeat owner, device and type, and a listing
 * filters chunk by chunk. A live buffer costs 48 bytes of record, 1 byte of chunk and 11.4 to 14.3 bytes of index.
 * Where it was allocated is a number, see site.h.
 *
 * Slot numbers (chunk * 16 + i) are stable while a buffer lives; listings go through them in ascending order, so a
 * cursor is a plain number: every buffer that lives during the whole listing appears exactly once, none twice.
 */
#ifndef TRACKER_REGISTRY_H
#define TRACKER_REGISTRY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "tracker/ahead.h"
#include "tracker/event.h"

struct registry;

/* ---- totals ---- */

/* Exact at any time: bytes is the sum of the sizes of the live buffers, count their number. They never wrap: what would
 * make the sum of all sizes do so is not booked. */
struct totals {
	uint64_t count;
	uint64_t bytes;
	uint64_t peak;    /* highest value of bytes since the start or `reset peaks`; of a device: registry_device_totals() */
	uint64_t allocs;  /* new buffers */
	uint64_t frees;   /* buffers given back (the last reference) */
};

/* What was booked and what could not be; names as in the mount's `stats`. */
struct counters {
	uint64_t events_total;     /* decoded messages of any type that were taken in */
	uint64_t allocs_total;     /* new records */
	uint64_t frees_total;      /* records gone by their last FREE, foreign frees included */
	uint64_t refs_total;       /* ALLOC at a live address of the same owner, same size */
	uint64_t unrefs_total;     /* FREE that took one of several references */
	uint64_t resized_total;    /* ALLOC at a live address of the same owner, other size */
	uint64_t unknown_frees;
	uint64_t double_frees;
	uint64_t foreign_frees;    /* booked or refused */
	uint64_t ambiguous_frees;
	uint64_t rerouted_frees;
	uint64_t refused_events;   /* device, size or type out of range, or a message only a server sends */
	uint64_t events_lost;      /* events that could not be booked for want of room (max_buffers, memory) */
	uint64_t queries_total;
	uint64_t dumps_total;
	uint64_t history_dropped;  /* events that history had no room for */
	uint64_t history_unplaced; /* events that it has without their call sites, for want of room */
	uint64_t definitions_lost; /* modules, sites and tags that there was no room for; buffers without their site so */
};

struct device {
	bool known;               /* has had an event, or its capacity was declared */
	bool declared;            /* capacity comes from the command line: survives `reset` */
	bool reported;            /* capacity comes from a client of this user */
	uint32_t reporter;
	uint32_t arch;            /* enum ttalloc_wire_arch; 0 = unknown */
	uint64_t capacity[BUFFER_TYPES];  /* bytes; 0 = unknown */
	uint32_t epoch;           /* changes when the device is forgotten: part of its directory's identity */
	struct totals type[BUFFER_TYPES];  /* their peaks are those since the newest mark, */
	struct totals total;
	uint64_t past_peak[BUFFER_TYPES + 1];  /* and these those before it */
};

/* Who a process is, as the kernel says; made by the edge that can look (watch.c). */
#define PROCESS_ANCESTORS 24  /* more are not kept */

struct process_identity {
	int32_t pid;           /* as the server sees it; 0 when it cannot see the process */
	uint32_t uid;
	uint32_t gid;
	uint64_t start_ticks;  /* /proc/<pid>/stat field 22: with pid, unique while the machine is up; 0 = unknown */
	uint64_t started;      /* the same as ns since the epoch; 0 = unknown */
	const char *comm;      /* NULL = unknown */
	const char *exe;       /* NULL = unknown */
	const int32_t *ancestors;  /* pids: its parent, the parent's parent, ... */
	unsigned ancestor_count;   /* 0 = unknown */
};

/* Why a live buffer is suspected of being a leak. The first that holds is the reason. */
enum suspect_reason {
	SUSPECT_NONE,
	SUSPECT_DIED,      /* its owner ended without freeing it */
	SUSPECT_GROWING,   /* at the last scan: what it is one of has become more and more */
	SUSPECT_OUTLIVED,  /* at the last scan: allocated after the last clear, and still held */
	SUSPECT_REASONS,
};

/* Frees of a process that were none of its own live buffers; as in the counters. */
struct process_faults {
	uint64_t double_frees;
	uint64_t unknown_frees;
	uint64_t foreign_frees;
};

struct process {
	uint32_t serial;       /* never reused; 0 = this slot is free */
	int32_t pid;
	int32_t reported_pid;  /* the last pid it gave for itself that was not `pid`, 0 = none */
	uint32_t uid;
	uint32_t gid;
	uint16_t dialect;      /* of its last proved connection, or EVENT_RING; 0 = not known */
	bool ended;
	bool suppressed;       /* options/suppressions means it by its name */
	uint32_t connections;  /* open now */
	uint32_t rings;        /* open now, see client/ttalloc-ring.h */
	uint32_t older;        /* slot + 1 of an older process that had the same pid; 0 = none */
	uint64_t excused_until;  /* buffers up to this seq are no suspects (`clear`, `reset history`) */
	uint64_t start_ticks;
	uint64_t started;
	uint64_t connected;    /* first connection */
	uint64_t ended_at;
	uint64_t events;
	uint64_t lost;
	struct process_faults faults;
	uint32_t device_mask[DEVICE_MAX / 32];  /* devices it ever had a holding on */
	struct totals type[BUFFER_TYPES];
	struct totals total;
	uint64_t excused;      /* live buffers that are no suspects, come what may: cleared, or suppressed */
	uint64_t judged[SUSPECT_REASONS];  /* other live buffers that the last scan suspects; 0 once it has ended */
	int32_t ancestors[PROCESS_ANCESTORS];  /* when it connected first; ends with 0, if there is room */
	char comm[32];
	char exe[256];
};

/* One live buffer, put together from its record, its chunk and its holding. */
struct buffer {
	uint32_t slot;
	uint32_t process;      /* slot of the owner */
	uint16_t device;
	uint8_t type;          /* enum buffer_type */
	uint8_t kernel_class;  /* enum ttalloc_wire_kernel_class; only for BUFFER_KERNEL */
	uint32_t refs;
	uint32_t history;      /* internal: head of history that it carries, if that is still there; 0 = none */
	uint32_t site;         /* numbers, see site.h; 0 = none. A reference or resize later on does not change them */
	uint32_t tag;
	uint64_t address;
	uint64_t size;
	uint64_t time;         /* of the allocation */
	uint64_t seq;          /* number of the event that allocated it: unique */
};

/* ---- life ---- */

struct registry_config {
	uint64_t seed;                 /* of the hash; random in production so that nobody can aim at one place */
	uint32_t max_buffers;          /* ceiling of live buffers, 1..REGISTRY_MAX_BUFFERS_LIMIT; sizes the arena */
	uint32_t history_events;       /* global bound of remembered events (32 bytes each) */
	uint32_t history_per_buffer;   /* events remembered per address, type and owner */
	uint32_t max_processes;        /* 1..65535 */
};
#define REGISTRY_MAX_BUFFERS_DEFAULT (UINT32_C(16) << 20)
#define REGISTRY_MAX_BUFFERS_LIMIT (UINT32_C(48) << 20)
#define REGISTRY_HISTORY_PER_BUFFER_DEFAULT 50
#define REGISTRY_HISTORY_PER_BUFFER_LIMIT 1000
#define REGISTRY_HISTORY_EVENTS_DEFAULT (UINT32_C(1) << 20)
#define REGISTRY_MAX_PROCESSES_DEFAULT 65535
#define REGISTRY_ENDED_KEPT 4096

/* Bytes of arena that registry_new() wants for a configuration. Only touched pages cost memory. */
size_t registry_arena_size(const struct registry_config *config);

/* A registry in `arena` (zeroed, page-aligned, at least registry_arena_size() bytes; stays the caller's).
 * 0, -ENOMEM, or -EINVAL for a configuration out of range. */
int registry_new(struct registry **regp, const struct registry_config *config, void *arena);
void registry_free(struct registry *reg);

/* ---- settings that may change while running; 0 or -ERANGE ---- */

uint32_t registry_max_buffers(const struct registry *reg);
/* At most the number the arena was made for. Lowering it below what is live refuses new buffers, nothing else. */
int registry_set_max_buffers(struct registry *reg, uint64_t n);
uint32_t registry_max_buffers_limit(const struct registry *reg);
uint32_t registry_history_per_buffer(const struct registry *reg);
int registry_set_history_per_buffer(struct registry *reg, uint64_t n);

/* ---- processes ---- */

/* The slot of the process with that pid and start time, made when it is new. *slotp is valid while the process is
 * not forgotten; that happens only to ended processes without connections and buffers, the longest ended first, when
 * there are more than REGISTRY_ENDED_KEPT of them or all slots are taken. 0, or -ENOSPC when every slot is held by
 * a live process or one that still holds buffers. */
int registry_process_add(struct registry *reg, const struct process_identity *id, uint64_t now, uint32_t *slotp);
/* NULL for a free slot. */
const struct process *registry_process(const struct registry *reg, uint32_t slot);
/* The newest process with that pid, or PROCESS_NONE. */
uint32_t registry_process_find(const struct registry *reg, int32_t pid);
/* The next used slot at or after `slot`, or PROCESS_NONE. */
uint32_t registry_process_next(const struct registry *reg, uint32_t slot);
uint32_t registry_process_count(const struct registry *reg);
void registry_process_connect(struct registry *reg, uint32_t slot);
void registry_process_disconnect(struct registry *reg, uint32_t slot);
void registry_process_dialect(struct registry *reg, uint32_t slot, uint16_t dialect);
/* One of its rings was opened, or closed. */
void registry_process_ring(struct registry *reg, uint32_t slot, bool open);
void registry_process_reported(struct registry *reg, uint32_t slot, int32_t pid);
void registry_process_lost(struct registry *reg, uint32_t slot, uint64_t events);
struct process_faults *registry_process_faults(struct registry *reg, uint32_t slot);
/* The process has ended: what it still holds is suspected as `died`. Repeating it does nothing; true the first time. */
bool registry_process_end(struct registry *reg, uint32_t slot, uint64_t now);

/* ---- devices ---- */

/* NULL when the device is not known (or the number out of range). */
const struct device *registry_device(const struct registry *reg, unsigned id);
/* Of a type, or of all together (BUFFER_TYPES), with the peak since the start or `reset peaks`. */
struct totals registry_device_totals(const struct device *d, unsigned type);
/* The next known device at or after `id`, or -1. */
int registry_device_next(const struct registry *reg, unsigned id);
unsigned registry_device_count(const struct registry *reg);
/* Declares what a device has; 0 = not told. */
void registry_device_declare(struct registry *reg, unsigned id, uint64_t dram, uint64_t l1, uint32_t arch);
/* The same from a client of user `uid`. 0; -ERANGE; -EPERM when the command line, or another user (whom only root
 * overrules), has said otherwise. */
int registry_device_report(struct registry *reg, unsigned id, uint32_t uid, uint64_t dram, uint64_t l1, uint32_t arch);

/* ---- reading ---- */

const struct counters *registry_counters(const struct registry *reg);
struct totals registry_totals(const struct registry *reg);   /* all devices; peak is of the sum */
uint64_t registry_suspects(const struct registry *reg);      /* live buffers that are suspects */
uint64_t registry_suspects_of(const struct registry *reg, enum suspect_reason reason);
/* Why the live buffer in that slot is a suspect; SUSPECT_NONE also for a slot that holds none. */
enum suspect_reason registry_suspect(const struct registry *reg, uint32_t slot);
uint64_t registry_cleared(const struct registry *reg);       /* time of the last clear, scan; 0 = there was none */
uint64_t registry_scanned(const struct registry *reg);
uint64_t registry_history_records(const struct registry *reg);
/* Bytes of memory in use for records, chunks, index and history. */
uint64_t registry_memory(const struct registry *reg);
/* Changes with everything that changes a view: for poll. */
uint64_t registry_version(const struct registry *reg);

/* false: that slot holds no live buffer. */
bool registry_buffer(const struct registry *reg, uint32_t slot, struct buffer *out);

/* Live buffers at one address: fills at most max, newest first; returns how many there are in all. */
size_t registry_find(const struct registry *reg, unsigned device, unsigned type, uint64_t address, struct buffer *out,
		     size_t max);

/* A name that several owners hold is listed once: whether `b` stands for it in a listing that began at event
 * `since`. Of those that were there then the one in the first slot does: the listing has passed it, or will; later
 * ones stand for it only among themselves. *budget is counted down by the buffers looked at. */
bool registry_stands_for_name(const struct registry *reg, const struct buffer *b, uint64_t since, unsigned *budget);

/* Which buffers a listing wants. */
struct buffer_filter {
	int device;        /* -1 = any */
	int type;          /* -1 = any */
	uint32_t process;  /* PROCESS_NONE = any */
	bool suspects;     /* only suspects */
	uint64_t since;    /* only those with a higher seq */
};
#define BUFFER_FILTER_ALL ((struct buffer_filter){ .device = -1, .type = -1, .process = PROCESS_NONE })

/* The first matching buffer in a slot >= *pos; *pos is then the slot behind it. 1 = found, 0 = the end,
 * -EAGAIN = looked at `budget` chunks without a match (call again). *budget is counted down. */
int registry_next(const struct registry *reg, const struct buffer_filter *filter, uint64_t *pos, unsigned *budget,
		  struct buffer *out);

/* One line of a buffer's past. */
struct history_line {
	uint64_t time;    /* of an ALLOC its sender's stamp, which can be older than the arrival of a FREE before it */
	uint64_t order;   /* ascending: time, but never before what the same owner did first; */
	uint32_t nth;     /* then as found */
	uint64_t size;
	int32_t pid;      /* who did it */
	uint32_t site;    /* where, 0 = not known */
	uint32_t refs;    /* after it */
	uint8_t kind;     /* enum trace_kind: ALLOC REF RESIZE FREE UNREF DOUBLE_FREE FOREIGN_FREE */
};
struct history_summary {
	uint64_t allocs;  /* buffers there ever were at (device, type, address), as far as it is remembered */
	uint64_t frees;
};

/* What is remembered of an address, by all owners, in order, the live buffers' own ALLOC included. Fills at
 * most max lines (the newest), returns how many were filled, or -ENOMEM. */
ssize_t registry_history(const struct registry *reg, unsigned device, unsigned type, uint64_t address,
			struct history_summary *summary, struct history_line *out, size_t max);

/* An address of which something is remembered, named by one of the heads of history that are there: there is one name
 * whatever the types and owners. */
struct past {
	uint32_t head;
	uint32_t place;    /* with the head: tells an address from the one that the head is of later */
	uint16_t device;
	uint64_t address;
};
/* The next one on a device in head *pos or behind it; *pos is then behind it. As registry_next(). */
int registry_past_next(const struct registry *reg, unsigned device, uint64_t *pos, unsigned *budget, struct past *out);
bool registry_past_find(const struct registry *reg, unsigned device, uint64_t address, struct past *out);
/* Whether the head is still one of that place; fills in the rest. */
bool registry_past_get(const struct registry *reg, struct past *p);

/* ---- booking: used by ingest.c only ---- */

struct counters *registry_counters_edit(struct registry *reg);
/* An event of that process is taken in: counts it, and returns its number. */
uint64_t registry_take_event(struct registry *reg, uint32_t process);
uint64_t registry_seq(const struct registry *reg);
void registry_touch(struct registry *reg);             /* something visible changed */
/* For batches: what booking `n` events will look at (ahead.h), in four stages, each of which needs what the one before
 * has asked for. A look that has to wait for memory costs ten times one that does not. What else is booked between the
 * stages does no harm. */
struct registry_ahead {
	uint32_t hash;    /* internal */
	uint32_t record;
};
void registry_ahead_index(const struct registry *reg, const struct event *events, size_t n, struct registry_ahead *of,
			  struct ahead *ask);
void registry_ahead_entries(const struct registry *reg, size_t n, struct registry_ahead *of, struct ahead *ask);
void registry_ahead_history(const struct registry *reg, size_t n, const struct registry_ahead *of, struct ahead *ask);
void registry_ahead_events(struct registry *reg, size_t n, const struct registry_ahead *of, struct ahead *ask);

/* The owner's live buffers at an address among `types` (bit mask of enum buffer_type): the most recent in *out;
 * returns how many. */
size_t registry_own(const struct registry *reg, uint32_t process, unsigned device, uint64_t address, unsigned types,
		    struct buffer *out);
/* The owner's live buffers of that address on any other device: as above. None for an owner that has used more than
 * REGISTRY_REROUTE_DEVICES devices: each of them is a look-up. */
#define REGISTRY_REROUTE_DEVICES 64
size_t registry_own_elsewhere(const struct registry *reg, uint32_t process, unsigned device, uint64_t address,
			      unsigned types, struct buffer *out);
/* Live buffers there of other processes, but not of those that had ended when this one was started: *same_uid and
 * *other_uid count them (at most 2 each are looked for); *out is one of the same uid, or else one of another uid. */
void registry_others(const struct registry *reg, uint32_t process, unsigned device, uint64_t address, unsigned types,
		     unsigned *same_uid, unsigned *other_uid, struct buffer *out);

/* What history knows of a free at an address. */
enum freed_before {
	FREED_NEVER,
	FREED_OWN,    /* a buffer of this very process was freed there */
	FREED_FAMILY, /* a buffer of another process of the same uid was, of one as in registry_others() */
};
enum freed_before registry_freed_before(const struct registry *reg, uint32_t process, unsigned device,
					uint64_t address, unsigned types);

/* Live buffers at one address of one device, all types and owners together: more are not booked, since whoever acts on
 * an address has to look at all of them. */
#define REGISTRY_BUFFERS_AT_ADDRESS 4096

/* A new live buffer (b->slot is filled in). 0; -ENOSPC at max_buffers; -EMLINK at REGISTRY_BUFFERS_AT_ADDRESS;
 * -EOVERFLOW when the sum of all sizes would not fit 64 bits; -ENOMEM. */
int registry_insert(struct registry *reg, struct buffer *b);
/* Who has done something to a buffer, where and when. */
struct deed {
	uint32_t process;  /* slot */
	uint32_t site;     /* 0 = not known */
	uint64_t time;
};
/* One reference more; b is changed along. `size` differs from b->size: resized. 0 or -EOVERFLOW (nothing changed). */
int registry_ref(struct registry *reg, struct buffer *b, uint64_t size, const struct deed *by);
/* One reference less; at the last one the buffer is gone: returns true. `kind` is how the history names it: TRACE_FREE or
 * TRACE_FOREIGN_FREE. */
bool registry_unref(struct registry *reg, struct buffer *b, uint8_t kind, const struct deed *by);
/* A buffer of the process at that address was not booked, or forgotten by a control command: a free of it that comes is
 * no double free of what was there before. */
void registry_history_doubt(struct registry *reg, uint32_t process, unsigned device, uint64_t address);
/* Remembers a double free of `types` at the address in the owner's history. */
void registry_double_free(struct registry *reg, const struct deed *by, unsigned device, uint64_t address,
			  unsigned types);

/* Remembers an unknown free of `types` at the address, if the process, or another one of its user, is remembered there: an
 * address of which nothing is known, or what is of somebody else, is not the place for it. */
void registry_unknown_free(struct registry *reg, const struct deed *by, unsigned device, uint64_t address,
			   unsigned types);

/* ---- control operations; steps do at most about `budget` chunks of work ---- */

/* Forgets the buffers of process slot `process` (or of all ended ones: PROCESS_NONE). *pos starts at 0. Returns 1 =
 * more to do, 0 = done; *removed is counted up. */
int registry_clean_step(struct registry *reg, uint32_t process, uint64_t *pos, unsigned budget, uint64_t *removed);
/* Forgets one device's buffers, totals and history; same contract. At the end the device is unknown again. */
int registry_reset_device_step(struct registry *reg, unsigned device, uint64_t *pos, unsigned budget,
			       uint64_t *removed);

/* ---- suspects (registry-suspect.c) ----
 *
 * A buffer whose owner ended is a suspect at once, and is none any more when it is gone. The other reasons are judged
 * by a scan, and stand until the next one. How many suspects there are is exact at any time, and costs nothing to ask.
 *
 * What was held at the last clear is never a suspect. Nor is what is suppressed: what options/suppressions means by the
 * names of its process, its tag, or the modules and functions of its call site. Who is meant is found out once for each
 * name, not for each buffer; names of functions, which become known late, count from the next pass over everything on.
 */

#define REGISTRY_MIN_AGE_MS_LIMIT (UINT64_C(365) * 86400 * 1000)

/* What a scan asks of a buffer. A dead owner's age nothing: `died` does not depend on them. 0 or -ERANGE. */
uint64_t registry_min_age_ms(const struct registry *reg);
int registry_set_min_age_ms(struct registry *reg, uint64_t ms);
uint64_t registry_min_size(const struct registry *reg);
int registry_set_min_size(struct registry *reg, uint64_t bytes);

/* Takes over the text of a suppression list (suppress.h), all of it or nothing: 0, or -errno with the reason in `why`.
 * What is new from now on is suppressed by it; for what is there it takes registry_suppress_step(). */
struct textbuf;
int registry_set_suppressions(struct registry *reg, const char *text, size_t len, struct textbuf *why);
/* The text in force. */
const char *registry_suppressions(const struct registry *reg, size_t *len);
/* The name of the function that a frame returns to, or NULL. */
typedef const char *(*registry_namer)(const void *data, uint32_t module, uint64_t offset);
/* Finds out anew which names are meant. Same contract as above; a step looks at about `budget` names and patterns. */
int registry_suppress_step(struct registry *reg, registry_namer name, const void *data, uint64_t *pos, unsigned budget);
/* Then: which buffers those are; what was a suspect and is not suppressed stays one. */
int registry_excuse_step(struct registry *reg, uint64_t *pos, unsigned budget);
/* A scan: the same, and the judgement of every buffer that was there at its first step. `now` at the last step is when
 * it was made. */
int registry_judge_step(struct registry *reg, uint64_t now, uint64_t *pos, unsigned budget);
/* The baseline: what is held now is no suspect any more, whatever happens. Cost: the number of processes. */
void registry_clear(struct registry *reg, uint64_t now);

/* ---- reset ---- */

/* As if just started: buffers, devices (but for declared capacities), counters, history and ended processes are
 * forgotten; live processes stay known with nothing booked. Sequence numbers go on, so that names stay unique. */
void registry_reset(struct registry *reg);
void registry_reset_peaks(struct registry *reg);
/* What ended processes still hold now is no suspect any more, what was judged has to be judged again, and all histories
 * are forgotten; in steps, same contract as above. */
int registry_reset_history_step(struct registry *reg, uint64_t *pos, unsigned budget);

#endif
