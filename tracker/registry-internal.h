/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * registry-internal.h - what the parts of the registry share; nobody else includes this.
 *
 * registry.c           the arena, records, chunks, holdings, totals, listings and booking
 * registry-process.c   processes: their slots, their pids, who may be forgotten
 * registry-history.c   what is remembered of an address
 * registry-site.c      modules, call sites and tags, and what each user has of the tables
 * registry-account.c   the totals of call sites
 * registry-mark.c      marks
 * registry-growth.c    what is held more at each mark
 * registry-suspect.c   which buffers are suspects, clear, and what a scan judges
 * registry-control.c   clean and reset
 *
 * Number 0 of chunks, holdings, history heads and events, definitions and accounts is never used: 0 means none.
 */
#ifndef TRACKER_REGISTRY_INTERNAL_H
#define TRACKER_REGISTRY_INTERNAL_H

#include <assert.h>

#include "tracker/history.h"
#include "tracker/index.h"
#include "tracker/mark.h"
#include "tracker/registry.h"
#include "tracker/site.h"
#include "tracker/suppress.h"

#define CHUNK 16
#define CHUNK_FULL 0xffffU
#define MAX_HOLDINGS (UINT32_C(1) << 20)
#define REGISTRY_FRAMES (UINT32_C(1) << 22)       /* of all sites together */
#define REGISTRY_MODULE_TEXT (UINT32_C(8) << 20)  /* bytes of build ids and paths */
#define REGISTRY_TAG_TEXT (UINT32_C(8) << 20)

struct record {
	uint64_t address;
	uint64_t size : 58;
	uint64_t kernel_class : 2;
	uint64_t suppressed : 1;  /* see registry-suspect.c */
	uint64_t judged : 2;      /* enum suspect_reason */
	uint64_t spare : 1;
	uint64_t time;
	uint64_t seq;
	uint32_t refs;
	uint32_t history;  /* head that it carries; believed only after registry_history_head() */
	uint32_t account;  /* of its call site; 0 = none */
	uint32_t tag;
};
static_assert(sizeof(struct record) == 48, "a record is 48 bytes");

struct chunk {
	uint32_t holding;  /* 0 = the chunk is free */
	uint16_t live;     /* bit i: record i is a live buffer */
	uint16_t spare;
	uint32_t prev;     /* a chunk with room is in its holding's list; a free one in that of free chunks (`next`) */
	uint32_t next;
};

/* What one process has of one type on one device. */
struct holding {
	uint32_t process;
	uint16_t device;
	uint8_t type;
	uint8_t used;
	uint32_t count;
	uint32_t partial;  /* first chunk with room */
	uint32_t next;     /* of the same process; or of the free list */
	uint32_t prev;
};

/* Definitions; `uid` is the user whose share they are of. */
struct module {
	uint64_t identity;   /* what it is in the hash of a site */
	uint32_t text;       /* where its build id begins in module_text, behind that its path, and a NUL */
	uint32_t path_len;
	uint32_t uid;
	uint8_t build_id_len;
	bool suppressed;
	uint8_t spare[2];
};

struct site {
	uint64_t hash;
	uint32_t frames;     /* number of the first */
	uint32_t uid;
	uint8_t n;
	uint8_t method;
	bool truncated;
	bool suppressed;
	uint8_t spare[4];
};

struct tag {
	uint32_t text;       /* where it begins in tag_text; ends with a NUL */
	uint32_t len;
	uint32_t uid;
	bool suppressed;
};

/* Where a buffer's life began and ended, or (with no end) where anything else happened: sites, 0 = not known. What
 * history keeps of an event is the number of such a pair. */
struct site_pair {
	uint32_t begin;
	uint32_t end;
	uint32_t uid;
};

/* Totals of a site: of one process, or the sum over all. */
struct account {
	struct totals totals;
	uint32_t site;       /* 0 = free */
	uint32_t process;    /* slot; PROCESS_NONE in a sum */
	uint16_t device;
	uint8_t type;
	uint8_t spare;
	uint32_t sum;        /* that this one is part of; 0 in a sum */
	uint32_t next;       /* of the same process; or of the free list */
};
static_assert(sizeof(struct account) == 64, "an account is one cache line");

/* The totals of one device at a mark: of each type and of all together. Their `peak` is that of the time from this mark to
 * the next newer one. */
struct mark_device {
	struct totals then[BUFFER_TYPES + 1];
};

/* What a process holds of one size from one call site, and how that changed from mark to mark. A cell is brought up to
 * date when it is touched, or asked; until then it is as at `moment`. */
#define GROWTH_GAINS 32
struct cell {
	uint64_t size;       /* of each buffer; with any_size of no site the highest bit of the sizes, of a site 0 */
	uint64_t since;      /* buffers of an earlier seq are not counted */
	uint32_t process;    /* slot, */
	uint32_t serial;     /* and serial; 0 = the cell is free */
	uint32_t uid;        /* whose share it is of */
	uint32_t site;
	uint16_t device;
	uint8_t type;
	bool any_size;
	bool spoiled;        /* since `moment` something was freed that was held then */
	bool listed;         /* in growth.near */
	uint32_t moment;     /* number of the process's moment up to which this is told */
	uint64_t held;       /* now */
	uint64_t bytes;
	uint64_t then_held;  /* at `moment` */
	uint64_t then_bytes;
	uint64_t then_seq;
	uint32_t run;        /* intervals up to `moment`, each with a gain and nothing freed */
	uint32_t went;       /* the longest run that ended because something was freed */
	uint64_t run_bytes;  /* at the begin of the run */
	uint64_t run_seq;
	uint32_t gain[GROWTH_GAINS];  /* buffers, of the interval that ended with moment n in n % GROWTH_GAINS */
};
static_assert(GROWTH_GAINS >= 2 * (GROWTH_MARKS_MAX - 1), "both tests can look back far enough");

#define GROWTH_NEAR 256
struct growth_state {
	unsigned marks;      /* the option growth_marks */
	uint32_t used;       /* high-water mark of cells */
	uint32_t free;       /* list, through cell.moment */
	uint32_t hand;
	uint32_t moments;    /* the most that any process has had */
	unsigned near_n;
	uint32_t near[GROWTH_NEAR];  /* cells that grow, or nearly so */
};

/* What is divided among users. */
enum share {
	SHARE_MODULES,
	SHARE_MODULE_TEXT,
	SHARE_SITES,
	SHARE_FRAMES,
	SHARE_TAGS,
	SHARE_TAG_TEXT,
	SHARE_PAIRS,
	SHARE_ACCOUNTS,
	SHARE_SUMS,
	SHARE_CELLS,
	SHARES,
};

struct process_slot {
	struct process p;
	uint32_t holdings;      /* list, through holding.next */
	uint32_t first_account; /* list, through account.next */
	uint32_t last_account;
	uint32_t newer_ended;   /* list of those that may be forgotten; slot + 1, 0 = none */
	uint32_t older_ended;
	bool forgettable;
	uint32_t moments;       /* marks that count for its growth; 0: nothing of it is looked at */
	uint32_t marks;         /* that it made itself */
	uint64_t moment_seq;    /* of the newest moment */
};

struct registry {
	struct registry_config config;
	uint32_t max_buffers;   /* the ceiling in force, <= config.max_buffers */
	uint32_t max_chunks;
	size_t page;

	/* in the arena */
	struct record *record;
	struct chunk *chunk;
	struct holding *holding;
	struct process_slot *process;
	struct device *device;
	struct module *module;
	struct site *site;
	struct site_frame *frame;
	struct tag *tag;
	struct site_pair *pair;
	char *module_text;
	char *tag_text;
	struct account *account;
	struct account *sum;    /* over all processes */
	struct mark_device *mark_device;  /* DEVICE_MAX of each mark */
	struct cell *cell;

	uint32_t used[SHARES];  /* of the tables that only grow also the highest number */
	uint32_t used_accounts; /* high-water mark */
	uint32_t free_accounts;
	uint32_t used_chunks;   /* high-water mark */
	uint32_t free_chunks;
	uint32_t used_holdings;
	uint32_t free_holdings;
	uint32_t last_holding;  /* the one that was looked up last; 0 = none */
	uint16_t last_pair;     /* the same */
	uint32_t used_processes;
	uint32_t free_processes; /* slot + 1, through older_ended */
	uint32_t processes;
	uint32_t newest_ended;  /* slot + 1 */
	uint32_t oldest_ended;
	uint32_t ended;         /* length of that list */
	uint32_t serial;

	struct index index;     /* live buffers, and heads of history that none carries */
	struct index holdings;
	struct index definitions;
	struct index accounts;
	struct index cells;
	struct history history;
	struct pid_entry *pids;   /* uthash, registry-process.c */
	struct user *users;       /* uthash, registry-site.c */
	struct mark mark[MARKS_MAX];
	uint64_t mark_numbers;    /* given out */
	uint64_t mark_order;
	struct growth_state growth;

	struct counters counters;
	struct totals total;
	uint64_t suspects[SUSPECT_REASONS];
	uint64_t cleared;       /* time of the last clear, */
	uint64_t scanned;       /* and of the last scan */
	uint64_t judge_until;   /* seq when the scan that is under way began */
	uint64_t min_age;       /* ns */
	uint64_t min_size;
	struct suppressions suppressions;
	uint64_t seq;
	uint64_t version;
};

static inline uint32_t registry_hash(const struct registry *reg, unsigned device, uint64_t address)
{
	return history_hash(reg->config.seed, device, address);
}

/* No suspect, come what may. */
static inline bool registry_excused(const struct record *r, const struct process *p)
{
	return r->suppressed || r->seq <= p->excused_until;
}

static inline enum suspect_reason registry_reason(const struct record *r, const struct process *p)
{
	return registry_excused(r, p) ? SUSPECT_NONE : p->ended ? SUSPECT_DIED : (enum suspect_reason)r->judged;
}

static inline bool registry_holds_suspects(const struct process *p)
{
	return p->ended ? p->total.count > p->excused : p->judged[SUSPECT_OUTLIVED] || p->judged[SUSPECT_GROWING];
}

/* ---- registry.c ---- */

/* Steps through the live buffers at (device, address) whose type is in `types`. */
struct walk {
	struct index_cursor cursor;
	unsigned device;
	unsigned types;
	uint64_t address;
};
struct walk registry_walk(const struct registry *reg, unsigned device, uint64_t address, unsigned types);
bool registry_walk_next(const struct registry *reg, struct walk *w, struct buffer *out);

/* Takes a live buffer out of everything; `freed`: given back by a free, not forgotten by a control command. */
void registry_remove(struct registry *reg, const struct buffer *b, bool freed);
/* An empty holding goes back to the free list. */
void registry_holding_release(struct registry *reg, uint32_t number);

/* ---- registry-process.c ---- */

void registry_process_deinit(struct registry *reg);
/* Whether a process can have to do with what the other one allocated and freed: not when it was started after that one
 * had ended. (It can be a child of a child that was left behind, but that is rarer than addresses that come again from
 * run to run.) When it was started is known to 10 ms, the end as soon as the server has seen it; in between, and when
 * it is not known at all, they may have met. */
bool registry_process_met(const struct process *p, const struct process *ended);
/* Forgets a process that holds nothing. */
void registry_process_forget(struct registry *reg, uint32_t slot);
/* Keeps the list of forgettable processes right after something about `slot` has changed. */
void registry_process_settle(struct registry *reg, uint32_t slot);

/* ---- registry-suspect.c ---- */

/* A buffer has come, or is about to go, that may count as excused or suspected. */
void registry_suspect_add(struct registry *reg, uint32_t slot);
void registry_suspect_remove(struct registry *reg, uint32_t slot);
/* The process has ended. */
void registry_suspect_end(struct registry *reg, struct process *p);
/* What the process holds now is no suspect any more. */
void registry_excuse(struct registry *reg, struct process *p);
/* Forgets what scans have judged, in steps. */
int registry_unjudge_step(struct registry *reg, uint64_t *pos, unsigned budget);
/* Whether the names of a process, the modules of a site are meant by a suppression. */
bool registry_suppresses_process(const struct registry *reg, const struct process *p);
bool registry_suppresses_site(const struct registry *reg, const struct site *s);
/* The same of a text. */
static inline bool registry_suppresses(const struct registry *reg, const char *text, size_t len)
{
	return reg->suppressions.n && suppressions_match(&reg->suppressions, text, len);
}

/* ---- registry-site.c ---- */

void registry_users_deinit(struct registry *reg);
/* One more of that for the user; false = there is none left for it. */
bool registry_share_take(struct registry *reg, uint32_t uid, enum share what);
void registry_share_return(struct registry *reg, uint32_t uid, enum share what);
/* Nobody has any of that. */
void registry_share_forget(struct registry *reg, enum share what);

/* The number of two call sites, made when it is new; 0 = neither is known, or there is no room. */
uint16_t registry_site_pair(struct registry *reg, uint32_t uid, uint32_t begin, uint32_t end);
/* History has been cleared, so nothing has any of their numbers. */
void registry_pairs_clear(struct registry *reg);

/* ---- registry-account.c ---- */

/* The account, made when it is new; 0 = no room (counted in definitions_lost). */
uint32_t registry_account(struct registry *reg, uint32_t process, unsigned device, unsigned type, uint32_t site);
/* Gives the accounts of a process that holds nothing back. */
void registry_accounts_release(struct registry *reg, uint32_t process);
/* Forgets all; the processes' lists are the caller's to empty. */
void registry_accounts_clear(struct registry *reg);
/* Does `act` to the totals of all accounts and sums, or (>= 0) those of a device. */
void registry_accounts_each(struct registry *reg, int device, void (*act)(struct totals *t));

/* ---- registry-mark.c ---- */

/* All marks go. */
void registry_marks_clear(struct registry *reg);
/* What they know of a device is forgotten. */
void registry_marks_forget_device(struct registry *reg, unsigned device);
void registry_marks_reset_peaks(struct registry *reg);

/* ---- registry-growth.c ---- */

/* A moment of the process. */
void registry_moment(struct registry *reg, uint32_t process);
/* A buffer of a process that has moments came to be, goes. */
void registry_growth_add(struct registry *reg, const struct buffer *b);
void registry_growth_remove(struct registry *reg, const struct buffer *b, bool freed);
void registry_growth_clear(struct registry *reg);

/* ---- registry-history.c ---- */

/* The head that a live buffer carries, 0 = none: what its record says may have been forgotten. */
uint32_t registry_history_head(const struct registry *reg, const struct buffer *b);
/* The same, if the buffer's own ALLOC is written down there. */
uint32_t registry_history_begun(const struct registry *reg, const struct buffer *b);
/* Writes the ALLOC of a live buffer down, if it is not yet: more is to follow than a plain free. Returns its head. */
uint32_t registry_history_begin(struct registry *reg, struct buffer *b);
/* Writes the end of a live buffer down. Returns what remembers it, 0 = nothing does. */
uint32_t registry_history_end(struct registry *reg, struct buffer *b, uint8_t kind, const struct deed *by);
/* Writes down what happened at a head: an event of that kind, with the buffer's size and the references left. */
void registry_remember(struct registry *reg, uint32_t head, uint8_t kind, const struct deed *by, uint64_t size,
		       uint64_t refs);

#endif
