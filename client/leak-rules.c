/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * leak-rules.c - see leak-rules.h.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "client/leak-rules.h"

/* --- lines --- */

/* Takes one line, which it may write into. 0 or -errno; error->what then tells what is wrong. */
typedef int take_line(void *arg, char *line, struct rules_error *error);

/* What stands behind a # that begins a word is a comment; blanks at both ends go. */
static char *trim(char *line)
{
	char *at, *end;

	line += strspn(line, " \t");
	for (at = line; *at && !(*at == '#' && (at == line || at[-1] == ' ' || at[-1] == '\t')); at++)
		;
	*at = '\0';
	for (end = line + strlen(line); end > line && strchr(" \t\r", end[-1]); end--)
		end[-1] = '\0';
	return line;
}

static int each_line(const char *text, struct rules_error *error, take_line *take, void *arg)
{
	size_t length;
	char *line, *trimmed;
	int r = 0;

	*error = (struct rules_error){ 0, "not understood" };
	for (; *text && r == 0; text += length + (text[length] == '\n')) {
		length = strcspn(text, "\n");
		error->line++;
		line = strndup(text, length);
		if (!line)
			return -ENOMEM;
		trimmed = trim(line);
		if (*trimmed)
			r = take(arg, trimmed, error);
		free(line);
	}
	return r;
}

/* Room for one element more: it doubles whenever the count is a power of two. */
static void *grow(void *list, size_t count, size_t size)
{
	return count & (count - 1) ? list : reallocarray(list, count ? count * 2 : 1, size);
}

/* A number, with K, M, G or T for powers of 1024. */
static int parse_size(const char *text, const char **endp, uint64_t *vp)
{
	static const char units[] = "KMGT";
	const char *unit;
	char *end;
	int shift = 0;

	errno = 0;
	*vp = strtoull(text, &end, 10);
	if (*text < '0' || *text > '9' || errno)
		return -EINVAL;
	unit = *end ? strchr(units, *end) : NULL;
	if (unit) {
		shift = 10 * (int)(unit - units + 1);
		end++;
	}
	*endp = end;
	if (*vp > UINT64_MAX >> shift)
		return -EINVAL;
	*vp <<= shift;
	return 0;
}

/* --- suppressions --- */

static int take_suppression(void *arg, char *line, struct rules_error *error)
{
	struct suppressions *s = arg;
	struct suppression *list;

	error->what = "not 'leak:PATTERN'";
	if (strncmp(line, "leak:", 5) != 0 || !line[5])
		return -EINVAL;
	list = grow(s->list, s->count, sizeof(*list));
	if (!list)
		return -ENOMEM;
	s->list = list;
	list[s->count] = (struct suppression){ .pattern = strdup(line + 5) };
	return list[s->count].pattern ? (s->count++, 0) : -ENOMEM;
}

int suppressions_read(struct suppressions *s, const char *text, struct rules_error *error)
{
	*s = (struct suppressions){ 0 };
	return each_line(text, error, take_suppression, s);
}

void suppressions_free(struct suppressions *s)
{
	size_t i;

	for (i = 0; i < s->count; i++)
		free(s->list[i].pattern);
	free(s->list);
	*s = (struct suppressions){ 0 };
}

/* Part of a name: from `at` on, `len` bytes of it. */
static bool part_matches(const char *pattern, const char *at, size_t len)
{
	char part[1024];

	if (len >= sizeof(part))
		return false;
	memcpy(part, at, len);
	part[len] = '\0';
	return leak_pattern_matches(pattern, part);
}

/* "function@file.c:12" has three names: a pattern with an end means that of one of them. */
static bool function_matches(const char *pattern, const char *name)
{
	const char *at = strrchr(name, '@'), *colon = at ? strrchr(at, ':') : NULL;

	if (leak_pattern_matches(pattern, name))
		return true;
	return at && (part_matches(pattern, name, (size_t)(at - name)) ||
		      part_matches(pattern, at + 1, colon ? (size_t)(colon - at - 1) : strlen(at + 1)));
}

/* `-` is no name: what has none is not meant by any pattern. */
static bool is_named(const char *text)
{
	return strcmp(text, "-") != 0;
}

static bool stack_matches(const char *pattern, const struct stack *stack)
{
	const struct frame *f;
	size_t i;

	for (i = 0; stack && i < stack->count; i++) {
		f = &stack->frames[i];
		if ((is_named(f->function) && function_matches(pattern, f->function)) ||
		    (is_named(f->module) && leak_pattern_matches(pattern, f->module)))
			return true;
	}
	return false;
}

static bool suppresses(const char *pattern, const struct leak *leak, const struct stack *stack)
{
	return (is_named(leak->tag) && leak_pattern_matches(pattern, leak->tag)) ||
	       leak_pattern_matches(pattern, leak->comm) || stack_matches(pattern, stack);
}

void suppressions_apply(struct suppressions *s, struct leak *leak, const struct stack *stack)
{
	size_t i;

	for (i = 0; i < s->count && !leak->suppressed; i++) {
		if (!suppresses(s->list[i].pattern, leak, stack))
			continue;
		leak->suppressed = (uint32_t)i + 1;
		s->list[i].count++;
		s->list[i].bytes += leak->size;
	}
}

/* --- baseline --- */

/* Digits only: a sign or an overflow would let everything pass. */
static bool whole_number(const char *text, uint64_t *out)
{
	char *end;

	if (!*text || text[strspn(text, "0123456789")])
		return false;
	errno = 0;
	*out = strtoull(text, &end, 10);
	return errno == 0;
}

/* One word, terminated; `line` goes on to the next. NULL: there is none. */
static char *next_word(char **line)
{
	char *word = *line + strspn(*line, " \t");
	const size_t length = strcspn(word, " \t");

	*line = word + length;
	if (length == 0)
		return NULL;
	if (**line)
		*(*line)++ = '\0';
	return word;
}

static int take_baseline(void *arg, char *line, struct rules_error *error)
{
	struct baseline *b = arg;
	struct baseline_entry *list = grow(b->list, b->count, sizeof(*list)), *e;
	const char *key = next_word(&line), *count = next_word(&line), *bytes = next_word(&line);
	const char *names = next_word(&line);

	if (!list)
		return -ENOMEM;
	b->list = list;
	e = &list[b->count];
	*e = (struct baseline_entry){ .line = error->line };
	error->what = "not 'KEY COUNT BYTES [NAMES]'";
	if (!bytes || next_word(&line) || !whole_number(count, &e->sum.count) || !whole_number(bytes, &e->sum.bytes))
		return -EINVAL;
	b->count++;
	e->key = strdup(key);
	e->names = names ? strdup(names) : NULL;
	return e->key && (e->names || !names) ? 0 : -ENOMEM;
}

static int compare_entries(const void *left, const void *right)
{
	const struct baseline_entry *const *a = left, *const *b = right;

	return strcmp((*a)->key, (*b)->key);
}

/* Of all lines with a key that another one has, one that is not the first; 0: there is none; -ENOMEM. */
static long find_repeated(const struct baseline *b)
{
	const struct baseline_entry **order = calloc(b->count + 1, sizeof(*order));
	long line = 0;
	size_t i;

	if (!order)
		return -ENOMEM;
	for (i = 0; i < b->count; i++)
		order[i] = &b->list[i];
	qsort(order, b->count, sizeof(*order), compare_entries);
	for (i = 1; i < b->count && line == 0; i++)
		if (compare_entries(&order[i - 1], &order[i]) == 0)
			line = (long)(order[i]->line > order[i - 1]->line ? order[i]->line : order[i - 1]->line);
	free(order);
	return line;
}

int baseline_read(struct baseline *b, const char *text, struct rules_error *error)
{
	long line;
	int r;

	*b = (struct baseline){ 0 };
	r = each_line(text, error, take_baseline, b);
	line = r == 0 ? find_repeated(b) : 0;
	if (line <= 0)
		return r < 0 ? r : (int)line;
	*error = (struct rules_error){ (unsigned)line, "a key that was there before" };
	return -EINVAL;
}

void baseline_free(struct baseline *b)
{
	size_t i;

	for (i = 0; i < b->count; i++) {
		free(b->list[i].key);
		free(b->list[i].names);
	}
	free(b->list);
	*b = (struct baseline){ 0 };
}

/* One word, without the source line, which moves with every change. */
static void put_name(FILE *out, const char *function)
{
	const unsigned char *s = (const unsigned char *)function;

	for (; *s && *s != '@'; s++) {
		if (*s <= ' ' || *s == 0x7f || strchr("%,#", *s))
			fprintf(out, "%%%02X", *s);
		else
			fputc(*s, out);
	}
}

/* "create,load,main": without frames that have no name. NULL: no memory. */
static char *names_of(const struct stack *stack)
{
	char *names = NULL;
	size_t size, i;
	bool any = false;
	FILE *out = open_memstream(&names, &size);

	if (!out)
		return NULL;
	for (i = 0; i < stack->count; i++) {
		if (strcmp(stack->frames[i].function, "-") == 0)
			continue;
		if (any)
			fputc(',', out);
		any = true;
		put_name(out, stack->frames[i].function);
	}
	if (fclose(out) == 0)
		return names;
	free(names);
	return NULL;
}

int baseline_name(struct leak_groups *groups)
{
	struct leak_group *g;
	size_t i;

	for (i = 0; i < groups->count; i++) {
		g = &groups->groups[i];
		free(g->names);
		g->names = g->stack ? names_of(g->stack) : NULL;
		if (g->stack && !g->names)
			return -ENOMEM;
	}
	return 0;
}

static void sum_add(struct leak_sum *sum, uint64_t count, uint64_t bytes)
{
	sum->count += count;
	if (__builtin_add_overflow(sum->bytes, bytes, &sum->bytes))
		sum->bytes = UINT64_MAX;
}

static void judge(struct leak_group *g, const struct leak_sum *known, const struct leak_sum *found)
{
	g->in_baseline = true;
	g->baseline = *known;
	g->judged = *found;
	g->fails = found->count > known->count || found->bytes > known->bytes;
}

/* Whether a key is SITE/TYPE or SITE/TYPE/TAG. */
static bool is_of_site(const char *key)
{
	return strspn(key, "0123456789abcdef") == 16 && key[16] == '/';
}

/* How much of a key stands in front of its tag, or is all of it, where it has none. */
static size_t without_tag(const char *key)
{
	const char *at = strchr(key, '/');

	at = at ? strchr(at + 1, '/') : NULL;
	if (at && !is_of_site(key))
		at = strchr(at + 1, '/');
	return at ? (size_t)(at - key) : strlen(key);
}

/* What entries and groups have to have in common, most exact first. An entry without a tag, as they were once, is for
 * all tags that have none of their own. */
enum step { BY_KEY, BY_KEY_ANY_TAG, BY_NAMES, BY_NAMES_ANY_TAG, STEPS };

/* An entry or a group, and what it goes by in one step. */
struct item {
	const char *names;                  /* "": not by them */
	const char *key;
	size_t length;                      /* of the key */
	struct baseline_entry *entry;
	struct leak_group *group;
};

static int compare_items(const void *left, const void *right)
{
	const struct item *a = left, *b = right;
	int r = strcmp(a->names, b->names);

	if (r == 0)
		r = memcmp(a->key, b->key, a->length < b->length ? a->length : b->length);
	return r ? r : (a->length > b->length) - (a->length < b->length);
}

/* Whether there is something to go by. With other names there are other numbers: then the type is what counts. */
static bool item_make(struct item *item, enum step step, const char *key, const char *names)
{
	const bool by_names = step == BY_NAMES || step == BY_NAMES_ANY_TAG;
	const bool any_tag = step == BY_KEY_ANY_TAG || step == BY_NAMES_ANY_TAG;

	if (by_names && (!names || !*names || !is_of_site(key)))
		return false;
	*item = (struct item){ .names = by_names ? names : "", .key = key };
	item->length = any_tag ? without_tag(key) : strlen(key);
	if (by_names) {
		item->key += 17;
		item->length -= 17;
	}
	return true;
}

/* What is not judged yet, and what of the baseline is still to be had. Returns how many. */
static size_t items_make(struct item *items, enum step step, struct baseline *b, struct leak_groups *groups)
{
	const bool any_tag = step == BY_KEY_ANY_TAG || step == BY_NAMES_ANY_TAG;
	struct baseline_entry *e;
	struct leak_group *g;
	size_t i, n = 0;

	for (i = 0; i < b->count; i++) {
		e = &b->list[i];
		if (!e->by_key && any_tag == !e->key[without_tag(e->key)] &&
		    item_make(&items[n], step, e->key, e->names))
			items[n++].entry = e;
	}
	for (i = 0; i < groups->count; i++) {
		g = &groups->groups[i];
		if (!g->in_baseline && item_make(&items[n], step, g->key, g->names))
			items[n++].group = g;
	}
	return n;
}

/* Items that are equal share what is known of them. */
static void judge_equals(struct item *items, size_t n, enum step step)
{
	struct leak_sum known = { 0 }, found = { 0 };
	size_t i, entries = 0;

	for (i = 0; i < n; i++) {
		entries += items[i].entry != NULL;
		if (items[i].entry)
			sum_add(&known, items[i].entry->sum.count, items[i].entry->sum.bytes);
		else
			sum_add(&found, items[i].group->count, items[i].group->bytes);
	}
	if (entries == 0 || entries == n)
		return;
	for (i = 0; i < n; i++) {
		if (items[i].group) {
			judge(items[i].group, &known, &found);
			continue;
		}
		items[i].entry->seen = true;
		items[i].entry->by_key = step <= BY_KEY_ANY_TAG;
	}
}

int baseline_apply(struct baseline *b, struct leak_groups *groups)
{
	struct item *items = calloc(b->count + groups->count + 1, sizeof(*items));
	size_t i, end, n;
	enum step step;

	if (!items)
		return -ENOMEM;
	for (step = BY_KEY; step < STEPS; step++) {
		n = items_make(items, step, b, groups);
		qsort(items, n, sizeof(*items), compare_items);
		for (i = 0; i < n; i = end) {
			for (end = i + 1; end < n && compare_items(&items[i], &items[end]) == 0; end++)
				;
			judge_equals(items + i, end - i, step);
		}
	}
	free(items);
	return 0;
}

void baseline_write(FILE *out, const struct leak_groups *groups)
{
	const struct leak_group *g;
	size_t i;

	fputs("# Leaks that are known, for 'ttalloc run --baseline' and 'ttalloc leaks --baseline': more than these fails.\n"
	      "# call site or class and tag, buffers, bytes, functions\n", out);
	for (i = 0; i < groups->count; i++) {
		g = &groups->groups[i];
		fprintf(out, "%s %" PRIu64 " %" PRIu64, g->key, g->count, g->bytes);
		if (g->names && *g->names)
			fprintf(out, " %s", g->names);
		fputc('\n', out);
	}
}

/* --- names --- */

static int parse_range(const char *text, struct known_range *range)
{
	const char *end = text;

	*range = (struct known_range){ 0, UINT64_MAX, true };
	if (strncmp(text, "..", 2) != 0 && parse_size(text, &end, &range->min) < 0)
		return -EINVAL;
	if (!*end) {
		range->max = range->min;
		return 0;
	}
	if (strncmp(end, "..", 2) != 0)
		return -EINVAL;
	end += 2;
	if (*end && (parse_size(end, &end, &range->max) < 0 || *end))
		return -EINVAL;
	return range->min <= range->max ? 0 : -EINVAL;
}

static const char *const pattern_names[KNOWN_PATTERNS] = {
	[KNOWN_TYPE] = "type", [KNOWN_TAG] = "tag", [KNOWN_COMM] = "comm", [KNOWN_FRAME] = "frame",
	[KNOWN_REASON] = "reason",
};

static const char *const type_names[] = { "dram", "l1", "system_memory", "l1_small", "trace", "cb", "kernel", NULL };
static const char *const reason_names[] = { "died", "outlived", "growing", NULL };

static bool is_listed(const char *list, const char *word)
{
	const size_t length = strlen(word);

	for (; *list; list += strcspn(list, ",") + (list[strcspn(list, ",")] == ','))
		if (strncmp(list, word, length) == 0 && strcspn(list, ",") == length)
			return true;
	return false;
}

/* Whether all words of a list are among these. */
static bool is_list_of(const char *list, const char *const *words)
{
	size_t i, length;

	for (;; list += length + 1) {
		length = strcspn(list, ",");
		for (i = 0; words[i] && (strlen(words[i]) != length || strncmp(words[i], list, length) != 0); i++)
			;
		if (!words[i])
			return false;
		if (!list[length])
			return true;
	}
}

static struct known_range *range_of(struct known_rule *rule, const char *name)
{
	return strcmp(name, "size") == 0    ? &rule->size :
	       strcmp(name, "count") == 0   ? &rule->count :
	       strcmp(name, "bytes") == 0   ? &rule->bytes :
	       strcmp(name, "device") == 0  ? &rule->device : NULL;
}

static int set_pattern(struct known_rule *rule, enum known_pattern i, const char *value, const char **whatp)
{
	if (i == KNOWN_TYPE && !is_list_of(value, type_names)) {
		*whatp = "a type that is none of dram, l1, system_memory, l1_small, trace, cb, kernel";
		return -EINVAL;
	}
	if (i == KNOWN_REASON && !is_list_of(value, reason_names)) {
		*whatp = "a reason that is none of died, outlived, growing";
		return -EINVAL;
	}
	*whatp = "a condition twice";
	if (rule->pattern[i])
		return -EINVAL;
	rule->pattern[i] = strdup(value);
	return rule->pattern[i] ? 0 : -ENOMEM;
}

static int set_range(struct known_range *range, const char *value, const char **whatp)
{
	*whatp = "a condition twice";
	if (range->given)
		return -EINVAL;
	*whatp = "not a range MIN..MAX";
	return parse_range(value, range);
}

/* "size=12K..24K" */
static int take_condition(struct known_rule *rule, char *word, const char **whatp)
{
	char *value = strchr(word, '=');
	struct known_range *range;
	unsigned i;

	*whatp = "a condition is not KEY=VALUE";
	if (!value || !value[1])
		return -EINVAL;
	*value++ = '\0';
	range = range_of(rule, word);
	if (range)
		return set_range(range, value, whatp);
	for (i = 0; i < KNOWN_PATTERNS; i++)
		if (strcmp(word, pattern_names[i]) == 0)
			return set_pattern(rule, i, value, whatp);
	*whatp = "an unknown condition";
	rule->per_device = true;
	return strcmp(word, "per") == 0 && strcmp(value, "device") == 0 ? 0 : -EINVAL;
}

static int take_conditions(struct known_rule *rule, char *text, const char **whatp)
{
	char *rest = NULL, *word;
	bool of_buffers;
	unsigned i;
	int r = 0;

	for (word = strtok_r(text, " \t", &rest); word && r == 0; word = strtok_r(NULL, " \t", &rest))
		r = take_condition(rule, word, whatp);
	of_buffers = rule->size.given;
	for (i = 0; i < KNOWN_PATTERNS; i++)
		of_buffers |= rule->pattern[i] != NULL;
	if (r < 0 || !rule->per_device || !of_buffers)
		return r;
	*whatp = "per=device goes with count, bytes and device only";
	return -EINVAL;
}

static void rule_free(struct known_rule *rule)
{
	unsigned i;

	free(rule->name);
	free(rule->text);
	for (i = 0; i < KNOWN_PATTERNS; i++)
		free(rule->pattern[i]);
}

/* "NAME: CONDITION...: TEXT": names of functions have colons, but no blank behind them. */
static int take_rule(void *arg, char *line, struct rules_error *error)
{
	const struct known_range all = { 0, UINT64_MAX, false };
	struct known_rule rule = { .size = all, .count = all, .bytes = all, .device = all }, *list;
	char *conditions = strstr(line, ": "), *text = conditions ? strstr(conditions + 2, ": ") : NULL;
	struct known *k = arg;
	int r;

	error->what = "not 'NAME: CONDITION...: TEXT'";
	if (!text || strcspn(line, " \t") < (size_t)(conditions - line))
		return -EINVAL;
	*conditions = *text = '\0';
	rule.name = strdup(line);
	rule.text = strdup(text + 2 + strspn(text + 2, " \t"));
	r = rule.name && rule.text ? take_conditions(&rule, conditions + 2, &error->what) : -ENOMEM;
	list = r == 0 ? grow(k->list, k->count, sizeof(*list)) : NULL;
	if (!list) {
		rule_free(&rule);
		return r < 0 ? r : -ENOMEM;
	}
	k->list = list;
	list[k->count++] = rule;
	return 0;
}

int known_read(struct known *k, const char *text, struct rules_error *error)
{
	return each_line(text, error, take_rule, k);
}

void known_free(struct known *k)
{
	size_t i;

	for (i = 0; i < k->count; i++)
		rule_free(&k->list[i]);
	free(k->list);
	*k = (struct known){ 0 };
}

static bool in_range(const struct known_range *range, uint64_t min, uint64_t max)
{
	return min >= range->min && max <= range->max;
}

/* A group tells a few of its commands only, its leaks tell all. */
static bool comm_matches(const char *pattern, const struct leak_group *g)
{
	size_t i;

	for (i = 0; i < g->list_count; i++)
		if (!g->first[i].suppressed && leak_pattern_matches(pattern, g->first[i].comm))
			return true;
	return false;
}

static bool reason_matches(const char *list, const struct leak_values *reasons)
{
	unsigned i;

	for (i = 0; i < reasons->count; i++)
		if (is_listed(list, reasons->value[i]))
			return true;
	return false;
}

static bool patterns_match(const struct known_rule *rule, const struct leak_group *g)
{
	char *const *p = rule->pattern;
	const char *tag = g->first->tag;

	return (!p[KNOWN_TYPE] || is_listed(p[KNOWN_TYPE], g->first->type)) &&
	       (!p[KNOWN_TAG] || (strcmp(tag, "-") != 0 && leak_pattern_matches(p[KNOWN_TAG], tag))) &&
	       (!p[KNOWN_REASON] || reason_matches(p[KNOWN_REASON], &g->reasons)) &&
	       (!p[KNOWN_FRAME] || stack_matches(p[KNOWN_FRAME], g->stack)) &&
	       (!p[KNOWN_COMM] || comm_matches(p[KNOWN_COMM], g));
}

const struct known_rule *known_find(const struct known *k, const struct leak_group *group)
{
	const struct known_rule *rule;
	size_t i;

	for (i = 0; i < k->count; i++) {
		rule = &k->list[i];
		if (!rule->per_device && in_range(&rule->size, group->size_min, group->size_max) &&
		    in_range(&rule->count, group->count, group->count) &&
		    in_range(&rule->bytes, group->bytes, group->bytes) &&
		    in_range(&rule->device, group->device_min, group->device_max) && patterns_match(rule, group))
			return rule;
	}
	return NULL;
}

const struct known_rule *known_find_device(const struct known *k, uint32_t device, uint64_t count, uint64_t bytes)
{
	const struct known_rule *rule;
	size_t i;

	for (i = 0; i < k->count; i++) {
		rule = &k->list[i];
		if (rule->per_device && in_range(&rule->count, count, count) && in_range(&rule->bytes, bytes, bytes) &&
		    in_range(&rule->device, device, device))
			return rule;
	}
	return NULL;
}
