/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * suppress.c - lines `leak:PATTERN` and what they mean; see suppress.h.
 */
#include "tracker/suppress.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define PREFIX "leak:"

/* ---- parsing ---- */

struct span {
	const char *at;
	size_t len;
};

static bool is_blank(char c)
{
	return c == ' ' || c == '\t';
}

static struct span trimmed(struct span s)
{
	while (s.len && (is_blank(s.at[s.len - 1]) || s.at[s.len - 1] == '\r'))
		s.len--;
	while (s.len && is_blank(*s.at)) {
		s.at++;
		s.len--;
	}
	return s;
}

/* The first thing in the line that is not to be in a file of plain text; NULL: nothing. The text ends with a NUL. */
static const char *not_plain(struct span line)
{
	const char *end = line.at + line.len;

	for (const char *c = line.at; c < end;) {
		size_t len = is_blank(*c) || *c == '%' ? 1 : textbuf_plain(c);
		if (!len)
			return c;
		c += len;
	}
	return NULL;
}

/* 0 with an empty *pattern: the line says nothing. */
static int parse_line(struct span line, unsigned number, struct span *pattern, struct textbuf *why)
{
	const char *wrong;

	line = trimmed(line);
	*pattern = (struct span){ 0 };
	wrong = not_plain(line);
	if (wrong) {
		textbuf_printf(why, "line %u: byte 0x%02x is not plain text", number, (unsigned char)*wrong);
		return -EINVAL;
	}
	if (!line.len || *line.at == '#')
		return 0;
	if (line.len < strlen(PREFIX) || memcmp(line.at, PREFIX, strlen(PREFIX)) != 0) {
		textbuf_printf(why, "line %u: does not begin with " PREFIX, number);
		return -EINVAL;
	}
	*pattern = trimmed((struct span){ line.at + strlen(PREFIX), line.len - strlen(PREFIX) });
	if (pattern->len && pattern->len <= SUPPRESS_PATTERN_MAX)
		return 0;
	if (pattern->len)
		textbuf_printf(why, "line %u: a pattern of more than %d bytes", number, SUPPRESS_PATTERN_MAX);
	else
		textbuf_printf(why, "line %u: " PREFIX " without a pattern", number);
	return -EINVAL;
}

static int parse(struct suppressions *s, struct textbuf *why)
{
	unsigned number = 0;

	for (size_t at = 0; at < s->len; number++) {
		const char *newline = memchr(s->text + at, '\n', s->len - at);
		struct span line = { s->text + at, newline ? (size_t)(newline - s->text) - at : s->len - at }, pattern;
		int r = parse_line(line, number + 1, &pattern, why);
		if (r < 0)
			return r;
		if (pattern.len && s->n == SUPPRESS_RULES_MAX) {
			textbuf_printf(why, "line %u: more than %d patterns", number + 1, SUPPRESS_RULES_MAX);
			return -ENOSPC;
		}
		if (pattern.len)
			s->rule[s->n++] = (struct suppress_rule){ (uint16_t)(pattern.at - s->text), (uint16_t)pattern.len };
		at += line.len + 1;
	}
	return 0;
}

int suppressions_parse(struct suppressions *s, const char *text, size_t len, struct textbuf *why)
{
	struct suppressions parsed = { .len = len };
	int r = -ENOMEM;

	if (len > SUPPRESS_TEXT_MAX) {
		textbuf_printf(why, "the list would be longer than %d bytes", SUPPRESS_TEXT_MAX);
		return -E2BIG;
	}
	parsed.text = calloc(1, len + 1);
	parsed.rule = calloc(SUPPRESS_RULES_MAX, sizeof(*parsed.rule));
	if (parsed.text && parsed.rule) {
		if (len)
			memcpy(parsed.text, text, len);
		r = parse(&parsed, why);
	}
	if (r < 0)
		suppressions_free(&parsed);
	else
		*s = parsed;
	return r;
}

void suppressions_free(struct suppressions *s)
{
	free(s->text);
	free(s->rule);
	*s = (struct suppressions){ 0 };
}

/* ---- matching ---- */

static const char *find(struct span text, struct span part)
{
	return memmem(text.at, text.len, part.at, part.len);
}

/* What stands between two stars, taken where it is found first, leaves most for what follows; only the last part of a
 * pattern that ends with `$` has its place. */
static bool matches(struct span pattern, struct span text)
{
	bool begin = *pattern.at == '^';
	bool end = pattern.len > begin && pattern.at[pattern.len - 1] == '$';

	pattern.at += begin;
	pattern.len -= (size_t)begin + end;
	for (;;) {
		const char *star = memchr(pattern.at, '*', pattern.len);
		struct span part = { pattern.at, star ? (size_t)(star - pattern.at) : pattern.len };
		if (!star && end) {
			if (part.len > text.len || (begin && part.len != text.len))
				return false;
			return !part.len || !memcmp(text.at + text.len - part.len, part.at, part.len);
		}
		const char *found = find(text, part);
		if (!found || (begin && found != text.at))
			return false;
		if (!star)
			return true;
		begin = false;
		text.len -= (size_t)(found - text.at) + part.len;
		text.at = found + part.len;
		pattern.at += part.len + 1;
		pattern.len -= part.len + 1;
	}
}

bool suppressions_match(const struct suppressions *s, const char *text, size_t len)
{
	for (unsigned i = 0; len && i < s->n; i++) {
		struct span pattern = { s->text + s->rule[i].start, s->rule[i].len };
		if (matches(pattern, (struct span){ text, len }))
			return true;
	}
	return false;
}
