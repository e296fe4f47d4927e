/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * leak.h - buffers that are held and should not be, as read from the mount's tables, and the call sites that they are
 * grouped by.
 *
 * Buffers with a call site are one group per site, type and tag: all that Python allocates comes from the same C
 * function, and the tag tells its lines apart. Others are grouped by device, type, class of size (a power of two and
 * what is below the next) and tag. The key of a group, SITE/TYPE/TAG or deviceN/TYPE/MIN..MAX/TAG, is the same in every
 * run; without a tag it ends with `-`.
 *
 * Pure but for memory: text in, structs out. Strings in a struct leak belong to the list.
 */
#ifndef CLIENT_LEAK_H
#define CLIENT_LEAK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LEAK_NO_SITE "-"

struct leak {
	char *row;             /* what the strings point into */
	const char *reason;    /* NULL: the table does not say */
	const char *type;
	const char *site;      /* 16 hex digits, or LEAK_NO_SITE */
	const char *tag;       /* "-": none. Like comm without escapes */
	const char *comm;
	uint32_t device;
	int32_t pid;           /* 0: not known */
	uint64_t address;
	uint64_t size;
	uint64_t seq;
	uint64_t time_us;      /* of the allocation */
	uint32_t suppressed;   /* number of the suppression + 1, 0: none */
};

struct leak_list {
	struct leak *leaks;
	size_t count;
	size_t room;
};

/* Takes over the rows of a table with the columns of `allocs` or `suspects`, in whatever order its first line tells,
 * into what is there already. 0, -ENOMEM, -EPROTO (it is no such table; what was read so far stays). */
int leak_list_read(struct leak_list *list, const char *text);
void leak_list_free(struct leak_list *list);
/* One leak more, with the row. On failure the row stays the caller's. */
int leak_list_add(struct leak_list *list, const struct leak *leak);

struct frame {
	char *offset;          /* as in the mount */
	char *function;        /* "-": not known */
	char *module;
};

struct stack {
	struct frame *frames;
	size_t count;
};

/* The frames of a file of stacks/. 0 or -ENOMEM. */
int stack_read(struct stack *stack, const char *text);
void stack_free(struct stack *stack);

/* Distinct values of a group: a few, for the report, and whether there are more. */
#define LEAK_VALUES 4
struct leak_values {
	const char *value[LEAK_VALUES];
	uint64_t times[LEAK_VALUES];
	unsigned count;
	bool more;
};

struct leak_sum {
	uint64_t count;
	uint64_t bytes;
};

struct known_rule;

struct leak_group {
	char *key;
	const struct leak *first;      /* the largest; its type, site and tag are those of all */
	size_t list_count;             /* from `first` on, with what is suppressed */
	uint64_t count;                /* without what is suppressed, like all that follows */
	uint64_t bytes;
	uint64_t size_min;
	uint64_t size_max;
	uint32_t device_min;
	uint32_t device_max;
	uint32_t pids;
	struct leak_values reasons;
	struct leak_values comms;
	const struct stack *stack;     /* NULL: none */
	const struct known_rule *known;
	char *names;                   /* of the stack, see leak-rules.h; NULL: not made */
	bool in_baseline;
	struct leak_sum baseline;      /* how much of it is known, */
	struct leak_sum judged;        /* of how much, with the other groups that the same lines of the baseline are for */
	bool fails;                    /* there is more of it than that */
};

struct leak_groups {
	struct leak_group *groups;     /* the largest first */
	size_t count;
};

/* The key of a leak's group, allocated; NULL: no memory. */
char *leak_key(const struct leak *leak);
/* An order of groups; 0: both are of the same. */
int leak_compare_groups(const struct leak *a, const struct leak *b);
/* Puts the list in order of groups. What is suppressed is in none, and a group without anything else is left out. The
 * list must stay as it is while the groups are used. 0 or -ENOMEM. */
int leak_groups_make(struct leak_groups *groups, struct leak_list *list);
/* One group of those n leaks, as if they were of one; the key is made with the tag or ends before it. Of nothing but
 * suppressed ones `count` is 0 and there is no key. 0 or -ENOMEM; the key is the caller's to free. */
int leak_group_make(struct leak_group *g, const struct leak *leaks, size_t n, bool with_tag);
void leak_groups_free(struct leak_groups *groups);

/* `*` is anything, a `^` in front is the beginning, a `$` at the end the end; otherwise the pattern may stand anywhere:
 * as in LeakSanitizer. */
bool leak_pattern_matches(const char *pattern, const char *text);

#endif
