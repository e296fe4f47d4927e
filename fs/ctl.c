/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * ctl.c - the text written to a ctl file or to an option, made into values; the rules are in ctl.h.
 *
 * One table says which commands there are, word by word. It drives the parsing and the list that reading a ctl file
 * shows, so a new command is a row here and an enum value in ctl.h.
 */
#include "fs/ctl.h"

#include <errno.h>
#include <string.h>

#include "tracker/event.h"

#define WORDS_MAX 3        /* of a command */
#define SHOWN_MAX 40       /* characters of a wrong word that a reason repeats */
#define HELP_COLUMN 32     /* where the explanations start */

struct word {
	const char *text;
	size_t len;
};

/* What may stand at one place of a command. Optional words come last. */
enum pattern_kind {
	PATTERN_END,
	PATTERN_LITERAL,
	PATTERN_PID,
	PATTERN_DEVICE,
	PATTERN_LEVEL,
	PATTERN_FORCE,   /* optional */
	PATTERN_NAME,    /* optional; not a number, since nameless dumps get those */
	PATTERN_MARK,    /* a name, also a number */
};

struct pattern {
	enum pattern_kind kind;
	const char *text;  /* of a literal: the word; of the others: how the list shows it */
};

#define LITERAL(word) { PATTERN_LITERAL, word }
#define PID { PATTERN_PID, "<pid>" }
#define DEVICE { PATTERN_DEVICE, "<n>" }
#define LEVEL { PATTERN_LEVEL, "error|warning|info|debug" }
#define OPTIONAL_FORCE { PATTERN_FORCE, "[force]" }
#define OPTIONAL_NAME { PATTERN_NAME, "[name]" }
#define MARK { PATTERN_MARK, "<name>" }

static const struct row {
	enum ctl_scope scope;
	enum ctl_kind kind;
	struct pattern pattern[WORDS_MAX + 1];
	const char *help;
} rows[] = {
	{ CTL_SCOPE_ROOT, CTL_DUMP, { LITERAL("dump"), OPTIONAL_NAME },
	  "freeze a report in dumps/ and in the server's log" },
	{ CTL_SCOPE_ROOT, CTL_MARK, { LITERAL("mark"), MARK },
	  "marks/<name>/ reports everything since now" },
	{ CTL_SCOPE_ROOT, CTL_UNMARK, { LITERAL("unmark"), MARK },
	  "remove a mark" },
	{ CTL_SCOPE_ROOT, CTL_CLEAR, { LITERAL("clear") },
	  "baseline: what is held now is no suspect; empties leaks/" },
	{ CTL_SCOPE_ROOT, CTL_SCAN, { LITERAL("scan") },
	  "check which processes live, judge what is held, bring leaks/ up to date" },
	{ CTL_SCOPE_ROOT, CTL_CLEAN_DEAD, { LITERAL("clean"), LITERAL("dead") },
	  "forget the buffers of all ended processes" },
	{ CTL_SCOPE_ROOT, CTL_CLEAN, { LITERAL("clean"), PID, OPTIONAL_FORCE },
	  "forget the buffers of one process, of a live one only with force" },
	{ CTL_SCOPE_ROOT, CTL_RESET, { LITERAL("reset") },
	  "forget everything, as if just started" },
	{ CTL_SCOPE_ROOT, CTL_RESET_DEVICE, { LITERAL("reset"), LITERAL("device"), DEVICE },
	  "forget one device" },
	{ CTL_SCOPE_ROOT, CTL_RESET_PEAKS, { LITERAL("reset"), LITERAL("peaks") },
	  "let all peaks start again from what is held now" },
	{ CTL_SCOPE_ROOT, CTL_RESET_HISTORY, { LITERAL("reset"), LITERAL("history") },
	  "forget histories, dumps and suspects" },
	{ CTL_SCOPE_ROOT, CTL_LOG, { LITERAL("log"), LEVEL },
	  "how much the server writes to its log" },
	{ CTL_SCOPE_PID, CTL_CLEAN, { LITERAL("clean"), OPTIONAL_FORCE },
	  "forget the buffers of this process, of a live one only with force" },
};
#define ROWS (sizeof(rows) / sizeof(rows[0]))

static const char *const levels[] = { "error", "warning", "info", "debug" };
#define LEVELS (sizeof(levels) / sizeof(levels[0]))

/* How one line fits one row. A later value is the better explanation of why the line is wrong. */
enum fit {
	FIT_UNEXPECTED,  /* the word is not the one of this row, or one too many */
	FIT_MISSING,
	FIT_INVALID,     /* the word is not what an argument must be */
	FIT_RANGE,
	FIT_YES,
};

/* --- reasons --- */

/* The word as it was written, except that it is bounded and holds nothing that could upset a terminal or a line. */
static void put_word(struct textbuf *out, struct word w)
{
	size_t shown = 0, i;

	textbuf_putc(out, '\'');
	for (i = 0; i < w.len; i++) {
		unsigned char c = (unsigned char)w.text[i];
		bool plain = c > ' ' && c <= '~' && c != '%';

		shown += plain ? 1 : 3;
		if (shown > SHOWN_MAX)
			break;
		if (plain)
			textbuf_putc(out, (char)c);
		else
			textbuf_printf(out, "%%%02X", c);
	}
	textbuf_puts(out, i < w.len ? "...'" : "'");
}

static int too_long(struct textbuf *why)
{
	textbuf_printf(why, "more than %d bytes in one write", CTL_TEXT_MAX);
	return -E2BIG;
}

/* --- words --- */

static bool is_blank(char c)
{
	return c == ' ' || c == '\t';
}

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static bool word_is(struct word w, const char *text)
{
	return w.len == strlen(text) && !memcmp(w.text, text, w.len);
}

/* Takes the next word off the line; false at its end or at a comment. */
static bool next_word(struct word *line, struct word *w)
{
	while (line->len && is_blank(*line->text)) {
		line->text++;
		line->len--;
	}
	if (!line->len || *line->text == '#')
		return false;
	*w = (struct word){ .text = line->text };
	while (line->len && !is_blank(*line->text)) {
		line->text++;
		line->len--;
		w->len++;
	}
	return true;
}

/* A decimal number: 0, -EINVAL, or -ERANGE also for what is negative or beyond 64 bits. */
static int parse_number(struct word w, uint64_t min, uint64_t max, uint64_t *value)
{
	bool negative = w.len > 1 && w.text[0] == '-', overflow = false;
	uint64_t v = 0;

	if (!w.len)
		return -EINVAL;
	for (size_t i = negative; i < w.len; i++) {
		if (!is_digit(w.text[i]))
			return -EINVAL;
		overflow |= __builtin_mul_overflow(v, 10u, &v);
		overflow |= __builtin_add_overflow(v, (uint64_t)(w.text[i] - '0'), &v);
	}
	if (negative || overflow || v < min || v > max)
		return -ERANGE;
	*value = v;
	return 0;
}

static bool is_number(struct word w)
{
	for (size_t i = 0; i < w.len; i++)
		if (!is_digit(w.text[i]))
			return false;
	return true;
}

/* --- commands --- */

static bool is_optional(enum pattern_kind kind)
{
	return kind == PATTERN_END || kind == PATTERN_FORCE || kind == PATTERN_NAME;
}

static void number_range(enum pattern_kind kind, uint64_t *min, uint64_t *max)
{
	*min = kind == PATTERN_PID ? 1 : 0;
	*max = kind == PATTERN_PID ? CTL_PID_MAX : DEVICE_MAX - 1;
}

static enum fit fit_number(enum pattern_kind kind, struct word w, struct ctl_command *command)
{
	uint64_t min, max, value;
	int r;

	number_range(kind, &min, &max);
	r = parse_number(w, min, max, &value);
	if (r)
		return r == -ERANGE ? FIT_RANGE : FIT_INVALID;
	command->number = (uint32_t)value;
	return FIT_YES;
}

static enum fit fit_level(struct word w, struct ctl_command *command)
{
	for (uint32_t i = 0; i < LEVELS; i++) {
		if (word_is(w, levels[i])) {
			command->number = i;
			return FIT_YES;
		}
	}
	return FIT_INVALID;
}

static enum fit fit_name(enum pattern_kind kind, struct word w, struct ctl_command *command)
{
	if (!mark_name_ok(w.text, w.len) || (kind == PATTERN_NAME && is_number(w)))
		return FIT_INVALID;
	memcpy(command->name, w.text, w.len);
	command->name[w.len] = '\0';
	return FIT_YES;
}

static enum fit fit_word(const struct pattern *p, struct word w, struct ctl_command *command)
{
	switch (p->kind) {
	case PATTERN_END:
		return FIT_UNEXPECTED;
	case PATTERN_LITERAL:
		return word_is(w, p->text) ? FIT_YES : FIT_UNEXPECTED;
	case PATTERN_PID:
	case PATTERN_DEVICE:
		return fit_number(p->kind, w, command);
	case PATTERN_LEVEL:
		return fit_level(w, command);
	case PATTERN_FORCE:
		command->force = word_is(w, "force");
		return command->force ? FIT_YES : FIT_UNEXPECTED;
	case PATTERN_NAME:
	case PATTERN_MARK:
		return fit_name(p->kind, w, command);
	}
	return FIT_UNEXPECTED;
}

/* How far a line fits a row; `word` is the one it ended at, empty if that is missing. */
struct attempt {
	const struct row *row;
	size_t words;
	enum fit fit;
	struct word word;
};

static struct attempt try_row(const struct row *row, struct word line, struct ctl_command *command)
{
	struct attempt a = { .row = row, .fit = FIT_YES };
	struct word w;

	command->kind = row->kind;
	while (next_word(&line, &w)) {
		a.fit = fit_word(&row->pattern[a.words], w, command);
		a.word = w;
		if (a.fit != FIT_YES)
			return a;
		a.words++;
	}
	if (!is_optional(row->pattern[a.words].kind))
		a.fit = FIT_MISSING;
	return a;
}

static bool explains_better(const struct attempt *a, const struct attempt *b)
{
	return !b->row || a->words > b->words || (a->words == b->words && a->fit > b->fit);
}

/* The first `words` words of a row. */
static void put_words(struct textbuf *out, const struct row *row, size_t words)
{
	for (size_t i = 0; i < words; i++) {
		if (i)
			textbuf_putc(out, ' ');
		textbuf_puts(out, row->pattern[i].text);
	}
}

static int explain(const struct attempt *a, unsigned line, struct textbuf *why)
{
	const struct pattern *p = &a->row->pattern[a->words];
	uint64_t min, max;

	textbuf_printf(why, "line %u: ", line);
	if (!a->words) {
		textbuf_puts(why, "unknown command ");
		put_word(why, a->word);
		return -EINVAL;
	}
	put_words(why, a->row, a->words);
	textbuf_puts(why, ": ");
	if (a->fit == FIT_MISSING) {
		textbuf_puts(why, "a word is missing");
		return -EINVAL;
	}
	put_word(why, a->word);
	if (a->fit == FIT_RANGE) {
		number_range(p->kind, &min, &max);
		textbuf_printf(why, " is not in %llu..%llu", (unsigned long long)min, (unsigned long long)max);
		return -ERANGE;
	}
	if (a->fit == FIT_UNEXPECTED)
		textbuf_puts(why, " is not understood here");
	else if (p->kind == PATTERN_NAME)
		textbuf_puts(why, " is not a name (1 to 63 of A-Z a-z 0-9 . _ -, no leading dot, not a number)");
	else if (p->kind == PATTERN_MARK)
		textbuf_puts(why, " is not a name (1 to 63 of A-Z a-z 0-9 . _ -, no leading dot)");
	else if (p->kind == PATTERN_LEVEL)
		textbuf_printf(why, " is not one of %s", p->text);
	else
		textbuf_puts(why, " is not a number");
	return -EINVAL;
}

/* Parses a line that has words, into a command that knows its place in the text already. */
static int parse_line(enum ctl_scope scope, struct word line, struct ctl_command *command, struct textbuf *why)
{
	struct attempt best = { 0 };

	for (size_t i = 0; i < ROWS; i++) {
		struct ctl_command candidate = *command;
		struct attempt a;

		if (rows[i].scope != scope)
			continue;
		a = try_row(&rows[i], line, &candidate);
		if (a.fit == FIT_YES) {
			*command = candidate;
			return 0;
		}
		if (explains_better(&a, &best))
			best = a;
	}
	return explain(&best, command->line, why);
}

/* The line at text[at..], without its end; *next is where the following one starts. */
static struct word line_at(const char *text, size_t len, size_t at, size_t *next)
{
	const char *newline = memchr(text + at, '\n', len - at);
	struct word line = { text + at, newline ? (size_t)(newline - text) - at : len - at };

	*next = at + line.len + (newline ? 1 : 0);
	if (line.len && line.text[line.len - 1] == '\r')
		line.len--;
	return line;
}

static int parse_text(enum ctl_scope scope, const char *text, size_t len, struct ctl_command *out, size_t max,
		      size_t *n, struct textbuf *why)
{
	unsigned number = 0;

	for (size_t at = 0, next; at < len; at = next) {
		struct word line = line_at(text, len, at, &next), rest = line, first;
		int r;

		number++;
		if (line.len && memchr(line.text, '\0', line.len)) {
			textbuf_printf(why, "line %u: a NUL byte", number);
			return -EINVAL;
		}
		if (!next_word(&rest, &first))
			continue;
		if (*n == max) {
			textbuf_printf(why, "line %u: more than %zu commands", number, max);
			return -E2BIG;
		}
		out[*n] = (struct ctl_command){ .line = number, .start = at, .end = next };
		r = parse_line(scope, line, &out[*n], why);
		if (r)
			return r;
		++*n;
	}
	return 0;
}

int ctl_parse(enum ctl_scope scope, const char *text, size_t len, struct ctl_command *out, size_t max, size_t *n,
	      struct textbuf *why)
{
	int r;

	*n = 0;
	if (len > CTL_TEXT_MAX)
		return too_long(why);
	r = parse_text(scope, text, len, out, max, n, why);
	if (r)
		*n = 0;
	return r;
}

void ctl_help(struct textbuf *out, enum ctl_scope scope)
{
	for (size_t i = 0; i < ROWS; i++) {
		size_t start = out->len, words = 0, column;

		if (rows[i].scope != scope)
			continue;
		while (rows[i].pattern[words].kind != PATTERN_END)
			words++;
		put_words(out, &rows[i], words);
		column = out->len - start;
		textbuf_fill(out, ' ', column < HELP_COLUMN ? HELP_COLUMN - column : 1);
		textbuf_puts(out, rows[i].help);
		textbuf_putc(out, '\n');
	}
}

/* --- options --- */

static bool is_space(char c)
{
	return is_blank(c) || c == '\n' || c == '\r';
}

int option_parse(const char *text, size_t len, uint64_t min, uint64_t max, uint64_t *value, struct textbuf *why)
{
	struct word w = { text, len };
	int r;

	if (len > CTL_TEXT_MAX)
		return too_long(why);
	while (w.len && is_space(w.text[0])) {
		w.text++;
		w.len--;
	}
	while (w.len && is_space(w.text[w.len - 1]))
		w.len--;
	if (!w.len) {
		textbuf_puts(why, "a number is missing");
		return -EINVAL;
	}
	r = parse_number(w, min, max, value);
	if (!r)
		return 0;
	put_word(why, w);
	if (r == -ERANGE)
		textbuf_printf(why, " is not in %llu..%llu", (unsigned long long)min, (unsigned long long)max);
	else
		textbuf_puts(why, " is not a number");
	return r;
}
