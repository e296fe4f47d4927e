/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * leak-rules.h - the three files that tell which leaks are known, and in which way:
 *  - suppressions: lines `leak:PATTERN`, as LeakSanitizer; what they match is counted, not reported;
 *  - a baseline: lines `KEY COUNT BYTES [NAMES]`; only what is more fails. NAMES are the functions of the stack: with
 *    another build the call site has another number, and is recognised by them. A KEY that ends before its tag, as those of
 *    older files, is for all tags that have no line of their own;
 *  - names: lines `NAME: CONDITION...: TEXT`; what they match is reported with that text, and fails as ever.
 * Empty lines and what follows a `#` at the beginning of a line or a word are comments.
 *
 * Pure but for memory.
 */
#ifndef CLIENT_LEAK_RULES_H
#define CLIENT_LEAK_RULES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "client/leak.h"

/* What is wrong with a file: the readers return -EINVAL with it, or -ENOMEM. */
struct rules_error {
	unsigned line;
	const char *what;
};

/* --- suppressions --- */

struct suppression {
	char *pattern;
	uint64_t count;        /* buffers that it was the first to match */
	uint64_t bytes;
};

struct suppressions {
	struct suppression *list;
	size_t count;
};

int suppressions_read(struct suppressions *s, const char *text, struct rules_error *error);
void suppressions_free(struct suppressions *s);
/* Marks a leak that is meant: by its tag, its command, or a function, source file or binary of its stack (may be NULL). */
void suppressions_apply(struct suppressions *s, struct leak *leak, const struct stack *stack);

/* --- baseline --- */

struct baseline_entry {
	char *key;
	struct leak_sum sum;
	unsigned line;
	char *names;           /* NULL: none */
	bool by_key;           /* a call site has this number */
	bool seen;
};

struct baseline {
	struct baseline_entry *list;
	size_t count;
};

int baseline_read(struct baseline *b, const char *text, struct rules_error *error);
void baseline_free(struct baseline *b);
/* Gives all groups that have a stack its `names`, which the two below go by. 0 or -ENOMEM. */
int baseline_name(struct leak_groups *groups);
/* Sets `baseline` and `fails` of all groups. 0 or -ENOMEM. */
int baseline_apply(struct baseline *b, struct leak_groups *groups);
/* Writes the file that has all groups. */
void baseline_write(FILE *out, const struct leak_groups *groups);

/* --- names --- */

struct known_range {
	uint64_t min;
	uint64_t max;
	bool given;
};

enum known_pattern { KNOWN_TYPE, KNOWN_TAG, KNOWN_COMM, KNOWN_FRAME, KNOWN_REASON, KNOWN_PATTERNS };

struct known_rule {
	char *name;
	char *text;
	bool per_device;                     /* it is about all that leaks on a device, not about a group */
	struct known_range size;             /* of each buffer */
	struct known_range count;
	struct known_range bytes;            /* the sum */
	struct known_range device;
	char *pattern[KNOWN_PATTERNS];       /* NULL: any. Types and reasons are lists with commas */
};

struct known {
	struct known_rule *list;
	size_t count;
};

/* Puts the rules behind those that are there: the first that matches counts. */
int known_read(struct known *k, const char *text, struct rules_error *error);
void known_free(struct known *k);
/* NULL: none. */
const struct known_rule *known_find(const struct known *k, const struct leak_group *group);
/* The same for all that leaks on one device. */
const struct known_rule *known_find_device(const struct known *k, uint32_t device, uint64_t count, uint64_t bytes);

#endif
