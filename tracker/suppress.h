/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * suppress.h - the text of options/suppressions: which names stand for buffers that are no leaks.
 *
 * Lines `leak:PATTERN` as LeakSanitizer has them; blanks around a line do not count, empty lines and those that begin
 * with '#' say nothing. A pattern means each text that contains it. In it `*` stands for any characters, also none; `^`
 * at its beginning and `$` at its end for those of the text. Everything else, blanks inside too, stands for itself.
 *
 * Pure. What is accepted is plain text (UTF-8, no control characters) and bounded, and so is what a match can cost.
 */
#ifndef TRACKER_SUPPRESS_H
#define TRACKER_SUPPRESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tracker/textbuf.h"

#define SUPPRESS_TEXT_MAX 16384
#define SUPPRESS_RULES_MAX 256
#define SUPPRESS_PATTERN_MAX 255  /* bytes */

struct suppress_rule {
	uint16_t start;  /* of the pattern in the text */
	uint16_t len;
};

/* All zero: the empty list. Owns its memory. */
struct suppressions {
	char *text;      /* as it was written */
	size_t len;
	struct suppress_rule *rule;
	unsigned n;
};

/* Fills in *s. 0; or, with *s untouched and the reason appended to `why` as one line of at most 160 bytes:
 *   -EINVAL  a line is no rule (the reason has its number)
 *   -E2BIG   more than SUPPRESS_TEXT_MAX bytes
 *   -ENOSPC  more than SUPPRESS_RULES_MAX rules
 *   -ENOMEM  (without a reason) */
int suppressions_parse(struct suppressions *s, const char *text, size_t len, struct textbuf *why);
void suppressions_free(struct suppressions *s);
/* Whether any pattern means the text; none means an empty one. */
bool suppressions_match(const struct suppressions *s, const char *text, size_t len);

#endif
