/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * analyze-line.c - see analyze-line.h.
 */
#include <assert.h>
#include <string.h>

#include "client/analyze-line.h"

#define FIELDS_TRACE 9
#define FIELDS_DETAIL 13
#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static const char *const type_names[LINE_TYPES] = {
	[LINE_DRAM] = "dram", [LINE_L1] = "l1", [LINE_SYSTEM_MEMORY] = "system_memory", [LINE_L1_SMALL] = "l1_small",
	[LINE_TRACE] = "trace", [LINE_CB] = "cb", [LINE_KERNEL] = "kernel", [LINE_NO_TYPE] = "-",
};

static const char *const kind_names[LINE_KINDS] = {
	[LINE_UNKNOWN] = "unknown", [LINE_BLANK] = "blank", [LINE_NOTE] = "note", [LINE_ALLOC] = "alloc",
	[LINE_REF] = "ref", [LINE_RESIZE] = "resize", [LINE_FREE] = "free", [LINE_UNREF] = "unref",
	[LINE_DOUBLE_FREE] = "double_free", [LINE_UNKNOWN_FREE] = "unknown_free",
	[LINE_FOREIGN_FREE] = "foreign_free", [LINE_SUM] = "sum", [LINE_EXIT] = "exit", [LINE_RESET] = "reset",
	[LINE_LOST] = "lost", [LINE_REFUSED] = "refused",
};

const char *line_kind_name(enum line_kind kind)
{
	return kind_names[kind];
}

const char *line_type_name(enum line_type type)
{
	return type_names[type];
}

/* --- scanning --- */

/* What is left of the text. Each take_...() takes something from its front, or leaves it as it is and is false. */
struct scan {
	const char *at;
	const char *end;
};

static bool take(struct scan *s, const char *literal)
{
	const size_t n = strlen(literal);

	if ((size_t)(s->end - s->at) < n || memcmp(s->at, literal, n) != 0)
		return false;
	s->at += n;
	return true;
}

static unsigned digit_of(char c)
{
	if (c >= '0' && c <= '9')
		return (unsigned)(c - '0');
	if (c >= 'a' && c <= 'f')
		return (unsigned)(c - 'a') + 10;
	if (c >= 'A' && c <= 'F')
		return (unsigned)(c - 'A') + 10;
	return 16;
}

static bool take_digits(struct scan *s, unsigned base, uint64_t *vp)
{
	struct scan left = *s;
	uint64_t v = 0;

	for (; left.at < left.end && digit_of(*left.at) < base; left.at++)
		if (__builtin_mul_overflow(v, base, &v) || __builtin_add_overflow(v, digit_of(*left.at), &v))
			return false;
	if (left.at == s->at)
		return false;
	*s = left;
	*vp = v;
	return true;
}

static bool take_number(struct scan *s, uint64_t max, uint64_t *vp)
{
	struct scan left = *s;

	if (!take_digits(&left, 10, vp) || *vp > max)
		return false;
	*s = left;
	return true;
}

static bool take_device(struct scan *s, int32_t *devicep)
{
	struct scan left = *s;
	const bool negative = take(&left, "-");
	uint64_t v;

	if (!take_number(&left, INT32_MAX, &v))
		return false;
	*s = left;
	*devicep = negative ? -(int32_t)v : (int32_t)v;
	return true;
}

static bool take_pid(struct scan *s, int32_t *pidp)
{
	uint64_t v;

	if (!take_number(s, INT32_MAX, &v))
		return false;
	*pidp = (int32_t)v;
	return true;
}

/* An address as the existing servers print it: decimal, hex, hex without 0x. */
static bool take_address(struct scan *s, struct line *line)
{
	struct scan left = *s, decimal = *s;

	line->has_address = true;
	line->notation = LINE_EXACT;
	if (take(&left, "0x") || take(&left, "0X")) {
		if (!take_digits(&left, 16, &line->address))
			return false;
		*s = left;
		return true;
	}
	/* Whether letters follow the digits is seen by reading it as hex; a decimal number may be too long for that. */
	if (take_digits(&decimal, 10, &line->address)) {
		if (decimal.at == decimal.end || digit_of(*decimal.at) == 16) {
			line->notation = LINE_DIGITS;
			*s = decimal;
			return true;
		}
	}
	line->notation = LINE_LETTERS;
	return take_digits(s, 16, &line->address);
}

bool line_as_hex(uint64_t decimal, uint64_t *hexp)
{
	unsigned shift = 0;
	uint64_t hex = 0;

	do {
		if (shift == 64)
			return false;
		hex |= decimal % 10 << shift;
		shift += 4;
		decimal /= 10;
	} while (decimal > 0);
	*hexp = hex;
	return true;
}

/* Up to the next blank. */
static struct scan take_word(struct scan *s)
{
	struct scan word = *s;

	while (s->at < s->end && *s->at != ' ' && *s->at != '\t')
		s->at++;
	word.end = s->at;
	return word;
}

static bool is_word(const struct scan *word, const char *literal)
{
	const size_t n = (size_t)(word->end - word->at);

	return n == strlen(literal) && memcmp(word->at, literal, n) == 0;
}

static bool is_word_of_any_case(const struct scan *word, const char *lower)
{
	const size_t n = (size_t)(word->end - word->at);
	size_t i;

	if (n != strlen(lower))
		return false;
	for (i = 0; i < n; i++)
		if ((word->at[i] >= 'A' && word->at[i] <= 'Z' ? word->at[i] - 'A' + 'a' : word->at[i]) != lower[i])
			return false;
	return true;
}

static enum line_type type_of(const struct scan *word)
{
	unsigned i;

	for (i = 0; i < LINE_NO_TYPE; i++)
		if (is_word_of_any_case(word, type_names[i]))
			return (enum line_type)i;
	return LINE_NO_TYPE;
}

static bool find(const struct scan *s, const char *literal, struct scan *behind)
{
	const size_t n = strlen(literal);
	const char *at = memmem(s->at, (size_t)(s->end - s->at), literal, n);

	if (!at)
		return false;
	*behind = (struct scan){ .at = at + n, .end = s->end };
	return true;
}

/* --- tables: `trace`, `events`, and the detailed log --- */

enum field {
	TIME,
	SEQ,
	KIND,
	DEVICE,
	TYPE,
	ADDRESS,
	SIZE,
	PID,
	REFS,
	TID,
	CLASS,
	CALLER,
	TAG,
};
static_assert(REFS + 1 == FIELDS_TRACE && TAG + 1 == FIELDS_DETAIL, "fields of a table");

static size_t split(struct scan s, struct scan fields[FIELDS_DETAIL])
{
	size_t n = 0;

	for (;;) {
		while (s.at < s.end && (*s.at == ' ' || *s.at == '\t'))
			s.at++;
		if (s.at == s.end)
			return n;
		/* Columns that a later version appends are not ours to read. */
		if (n == FIELDS_DETAIL)
			return n;
		fields[n++] = take_word(&s);
	}
}

static bool parse_time(struct scan s, int64_t *timep)
{
	const char *point;
	uint64_t seconds, micros;

	if (!take_number(&s, INT64_MAX / 2000000, &seconds) || !take(&s, "."))
		return false;
	point = s.at;
	if (!take_number(&s, 999999, &micros) || s.at - point != 6 || s.at != s.end)
		return false;
	*timep = (int64_t)(seconds * 1000000 + micros);
	return true;
}

/* The kinds of a table; those that say nothing about buffers are notes. */
static bool table_kind(const struct scan *word, enum line_kind *kindp)
{
	static const char *const notes[] = { "connect", "mark", "clear", "scan", "clean", "dump" };
	size_t i;

	for (i = LINE_ALLOC; i < LINE_REFUSED; i++) {
		if (i != LINE_SUM && is_word(word, kind_names[i])) {
			*kindp = (enum line_kind)i;
			return true;
		}
	}
	*kindp = LINE_NOTE;
	for (i = 0; i < COUNT(notes); i++)
		if (is_word(word, notes[i]))
			return true;
	return false;
}

/* A number, or - for none. */
static bool parse_number(struct scan s, uint64_t max, uint64_t *vp)
{
	*vp = 0;
	return is_word(&s, "-") || (take_number(&s, max, vp) && s.at == s.end);
}

static bool parse_numbers(const struct scan *fields, struct line *line)
{
	struct scan device = fields[DEVICE], address = fields[ADDRESS];
	uint64_t pid, refs;

	if (!is_word(&device, "-") && (!take_device(&device, &line->device) || device.at != device.end))
		return false;
	if (!is_word(&address, "-")) {
		line->has_address = true;
		if (!take(&address, "0x") || !take_digits(&address, 16, &line->address) || address.at != address.end)
			return false;
	}
	line->has_size = !is_word(&fields[SIZE], "-");
	if (!parse_number(fields[SEQ], UINT64_MAX, &line->seq) ||
	    !parse_number(fields[SIZE], UINT64_MAX, &line->size) ||
	    !parse_number(fields[PID], INT32_MAX, &pid) || !parse_number(fields[REFS], UINT32_MAX, &refs))
		return false;
	line->pid = (int32_t)pid;
	line->refs = (uint32_t)refs;
	return true;
}

static void set_word(const struct scan *word, const char **textp, size_t *lengthp)
{
	if (is_word(word, "-"))
		return;
	*textp = word->at;
	*lengthp = (size_t)(word->end - word->at);
}

/* The column that `trace` has behind the others: the call site, as 16 hexadecimal digits. */
static bool is_site(struct scan word)
{
	const char *begin = word.at;
	uint64_t site;

	return is_word(&word, "-") || (take_digits(&word, 16, &site) && word.at == word.end && word.end - begin == 16);
}

static bool is_class(const struct scan *word)
{
	return is_word(word, "-") || is_word(word, "application") || is_word(word, "fabric") || is_word(word, "dispatch");
}

/* Whether it is about a buffer, so that it must say which. */
static bool is_of_buffer(enum line_kind kind)
{
	return kind >= LINE_ALLOC && kind <= LINE_FOREIGN_FREE;
}

static bool parse_table(const struct scan *s, struct line *line)
{
	struct scan fields[FIELDS_DETAIL];
	const size_t n = split(*s, fields);

	/* What is in between is a detailed log's line that was torn. */
	const bool has_site = n == FIELDS_TRACE + 1 && is_site(fields[FIELDS_TRACE]);

	if (n != FIELDS_TRACE && !has_site && n < FIELDS_DETAIL)
		return false;
	if (!parse_time(fields[TIME], &line->time) || !table_kind(&fields[KIND], &line->kind) ||
	    !parse_numbers(fields, line))
		return false;
	if (is_of_buffer(line->kind) && (!line->has_address || line->device == LINE_NO_DEVICE))
		return false;
	line->type = type_of(&fields[TYPE]);
	line->source = n >= FIELDS_DETAIL ? LINE_DETAIL : LINE_TABLE;
	if (has_site)
		set_word(&fields[FIELDS_TRACE], &line->caller, &line->caller_length);
	if (n >= FIELDS_DETAIL) {
		line->no_class = line->type == LINE_KERNEL && !is_class(&fields[CLASS]);
		set_word(&fields[CALLER], &line->caller, &line->caller_length);
		set_word(&fields[TAG], &line->tag, &line->tag_length);
	}
	return true;
}

/* --- the existing servers --- */

/* " on device 3"; an early version of the servers leaves it out. */
static void take_on_device(struct scan *s, struct line *line)
{
	struct scan left = *s;

	if (take(&left, " on device ") && take_device(&left, &line->device))
		*s = left;
}

/* "4096 bytes of DRAM on device 0 (buffer_id=0x40)", "(buffer_id=0x40, ref_count=2)" */
static bool parse_allocated(struct scan s, struct line *line)
{
	struct scan word;
	uint64_t refs;

	line->kind = LINE_ALLOC;
	line->has_size = true;
	if (!take_number(&s, UINT64_MAX, &line->size) || !take(&s, " bytes of "))
		return false;
	word = take_word(&s);
	line->type = type_of(&word);
	take_on_device(&s, line);
	if (line->device == LINE_NO_DEVICE || !take(&s, " (buffer_id=") || !take_address(&s, line))
		return false;
	if (take(&s, ", ref_count=") && take_number(&s, UINT32_MAX, &refs))
		line->refs = (uint32_t)refs;
	return take(&s, ")");
}

/* "0x40 on device 0 (4096 bytes, FINAL)", "(4096 bytes, ref_count=1 remaining)", "(4096 bytes)" */
static bool parse_freed(struct scan s, struct line *line)
{
	uint64_t refs;

	line->kind = LINE_FREE;
	line->has_size = true;
	if (!take_address(&s, line))
		return false;
	take_on_device(&s, line);
	if (line->device == LINE_NO_DEVICE || !take(&s, " (") || !take_number(&s, UINT64_MAX, &line->size) ||
	    !take(&s, " bytes"))
		return false;
	if (take(&s, ", FINAL)") || take(&s, ")"))
		return true;
	if (!take(&s, ", ref_count=") || !take_number(&s, UINT32_MAX, &refs))
		return false;
	line->refs = (uint32_t)refs;
	line->kind = refs > 0 ? LINE_UNREF : LINE_FREE;
	return true;
}

/* "0x40 on device 0 (...)", or nothing behind it. The F of "10Freed", of two lines in each other, would make it hex. */
static bool parse_unknown(struct scan s, struct line *line)
{
	line->kind = LINE_UNKNOWN_FREE;
	if (!take_address(&s, line) || (s.at < s.end && *s.at != ' '))
		return false;
	take_on_device(&s, line);
	return true;
}

static bool parse_already_freed(struct scan s, struct line *line)
{
	if (!parse_unknown(s, line))
		return false;
	line->kind = LINE_DOUBLE_FREE;
	return true;
}

/* "old=4096 new=8192 (buffer_id=64, device=0)": this one is decimal also where all others are hex. */
static bool parse_reused(struct scan s, struct line *line)
{
	line->kind = LINE_RESIZE;
	line->has_size = true;
	if (!take(&s, "old=") || !take_number(&s, UINT64_MAX, &line->old_size) || !take(&s, " new=") ||
	    !take_number(&s, UINT64_MAX, &line->size) || !take(&s, " (buffer_id=") || !take_address(&s, line) ||
	    !take(&s, ", device=") || !take_device(&s, &line->device))
		return false;
	if (line->notation == LINE_DIGITS)
		line->notation = LINE_EXACT;
	return true;
}

static bool parse_dead(struct scan s, struct line *line)
{
	line->kind = LINE_EXIT;
	return true;
}

/* "Device 0: +0.25 MB (Total: 0.5 MB)", "Application kernel on Device 0: +2.5 MB (Total: 2.5 MB)" */
static bool parse_sum(struct scan s, struct line *line, enum line_type type, bool is_free)
{
	line->kind = LINE_SUM;
	line->type = type;
	line->is_free = is_free;
	return find(&s, "Device ", &s) && take_device(&s, &line->device) && take(&s, ": ");
}

static bool parse_cb_alloc(struct scan s, struct line *line)
{
	return parse_sum(s, line, LINE_CB, false);
}

static bool parse_cb_free(struct scan s, struct line *line)
{
	return parse_sum(s, line, LINE_CB, true);
}

static bool parse_kernel_load(struct scan s, struct line *line)
{
	return parse_sum(s, line, LINE_KERNEL, false);
}

static bool parse_kernel_unload(struct scan s, struct line *line)
{
	return parse_sum(s, line, LINE_KERNEL, true);
}

/* Words of the existing servers, and what reads on behind them. Where the line says "[PID 7] " they follow that. */
static const struct phrase {
	const char *words;
	bool (*parse)(struct scan s, struct line *line);
} phrases[] = {
	{ "Allocated ", parse_allocated },
	{ "Freed buffer ", parse_freed },
	{ "Deallocation for unknown buffer ", parse_unknown },
	{ "Deallocation for ALREADY FREED buffer ", parse_already_freed },
	{ "Buffer reused with DIFFERENT size: ", parse_reused },
	{ "is dead, removing its buffers", parse_dead },
	{ "[CB_ALLOC] ", parse_cb_alloc },
	{ "[CB_FREE] ", parse_cb_free },
	{ "[KERNEL_LOAD] ", parse_kernel_load },
	{ "[KERNEL_UNLOAD] ", parse_kernel_unload },
};

/* The phrase whose words stand at, or with `anywhere` somewhere behind, the front. */
static bool parse_phrase(const struct scan *s, bool anywhere, struct line *line)
{
	const struct line before = *line;
	struct scan behind;
	size_t i;

	for (i = 0; i < COUNT(phrases); i++) {
		behind = *s;
		if (!(anywhere ? find(s, phrases[i].words, &behind) : take(&behind, phrases[i].words)))
			continue;
		if (phrases[i].parse(behind, line))
			return true;
		*line = before;
	}
	return false;
}

static bool parse_server(const struct scan *s, struct line *line)
{
	struct scan behind;

	line->source = LINE_SERVER;
	/* Whatever stands in front: a mark, a time, the name of a container. */
	if (find(s, "[PID ", &behind) && take_pid(&behind, &line->pid) && take(&behind, "] "))
		return parse_phrase(&behind, false, line);
	line->pid = 0;
	if (find(s, "PID ", &behind) && take_pid(&behind, &line->pid) && take(&behind, " "))
		return parse_phrase(&behind, false, line);
	line->pid = 0;
	return parse_phrase(s, true, line) && line->kind != LINE_EXIT;
}

void line_parse(const char *text, size_t length, struct line *line)
{
	struct scan s = { .at = text, .end = text + length };
	const struct line nothing = { .device = LINE_NO_DEVICE, .time = LINE_NO_TIME, .type = LINE_NO_TYPE };

	while (s.end > s.at && (s.end[-1] == '\r' || s.end[-1] == ' ' || s.end[-1] == '\t'))
		s.end--;
	*line = nothing;
	if (s.at == s.end || *s.at == '#') {
		line->kind = LINE_BLANK;
		return;
	}
	if (parse_table(&s, line))
		return;
	*line = nothing;
	if (parse_server(&s, line))
		return;
	*line = nothing;
}
