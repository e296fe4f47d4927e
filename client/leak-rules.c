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

/* Takes one line, which it may write into. 0 or -errno; *whatp then tells what is wrong. */
typedef int take_line(void *arg, char *line, const char **whatp);

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
			r = take(arg, trimmed, &error->what);
		free(line);
	}
	return r;
}

/* Room for one element more. */
static void *grow(void *list, size_t count, size_t size)
{
	return reallocarray(list, count + 1, size);
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

static int take_suppression(void *arg, char *line, const char **whatp)
{
	struct suppressions *s = arg;
	struct suppression *list;

	*whatp = "not 'leak:PATTERN'";
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

static bool stack_matches(const char *pattern, const struct stack *stack)
{
	size_t i;

	for (i = 0; stack && i < stack->count; i++)
		if (function_matches(pattern, stack->frames[i].function) ||
		    leak_pattern_matches(pattern, stack->frames[i].module))
			return true;
	return false;
}

static bool suppresses(const char *pattern, const struct leak *leak, const struct stack *stack)
{
	return leak_pattern_matches(pattern, leak->tag) || leak_pattern_matches(pattern, leak->comm) ||
	       stack_matches(pattern, stack);
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

static bool has_key(const struct baseline *b, const char *key)
{
	size_t i;

	for (i = 0; i < b->count; i++)
		if (strcmp(b->list[i].key, key) == 0)
			return true;
	return false;
}

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

static int take_baseline(void *arg, char *line, const char **whatp)
{
	struct baseline *b = arg;
	struct baseline_entry e = { 0 }, *list;
	int end = -1;

	char count[21], bytes[21];

	*whatp = "not 'KEY COUNT BYTES [NAMES]'";
	if (sscanf(line, "%63s %20s %20s %n", e.key, count, bytes, &end) != 3 || end < 0 || strchr(line + end, ' ') ||
	    !whole_number(count, &e.sum.count) || !whole_number(bytes, &e.sum.bytes))
		return -EINVAL;
	*whatp = "a key that was there before";
	if (has_key(b, e.key))
		return -EINVAL;
	list = grow(b->list, b->count, sizeof(*list));
	if (!list)
		return -ENOMEM;
	b->list = list;
	if (line[end]) {
		e.names = strdup(line + end);
		if (!e.names)
			return -ENOMEM;
	}
	list[b->count++] = e;
	return 0;
}

int baseline_read(struct baseline *b, const char *text, struct rules_error *error)
{
	*b = (struct baseline){ 0 };
	return each_line(text, error, take_baseline, b);
}

void baseline_free(struct baseline *b)
{
	size_t i;

	for (i = 0; i < b->count; i++)
		free(b->list[i].names);
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
	g->fails = found->count > known->count || found->bytes > known->bytes;
}

/* Whether a key is of a call site and of that type. */
static bool is_site_of_type(const char *key, const char *type)
{
	const char *slash = strchr(key, '/');

	return slash == key + 16 && strcmp(slash + 1, type) == 0;
}

/* What the entries that no call site has by its number know of these functions. */
static struct leak_sum known_by_names(struct baseline *b, const struct leak_group *g)
{
	struct leak_sum sum = { 0 };
	size_t i;

	for (i = 0; i < b->count; i++)
		if (b->list[i].names && !b->list[i].by_key && strcmp(b->list[i].names, g->names) == 0 &&
		    is_site_of_type(b->list[i].key, g->first->type)) {
			sum_add(&sum, b->list[i].sum.count, b->list[i].sum.bytes);
			b->list[i].seen = true;
		}
	return sum;
}

/* Call sites with the same functions, at other lines, are one then. */
static struct leak_sum found_by_names(const struct leak_groups *groups, const struct leak_group *like)
{
	struct leak_sum sum = { 0 };
	const struct leak_group *g;
	size_t i;

	for (i = 0; i < groups->count; i++) {
		g = &groups->groups[i];
		if (g->names && !g->by_key && strcmp(g->names, like->names) == 0 &&
		    strcmp(g->first->type, like->first->type) == 0)
			sum_add(&sum, g->count, g->bytes);
	}
	return sum;
}

static void apply_by_key(struct baseline *b, struct leak_group *g)
{
	const struct leak_sum found = { g->count, g->bytes };
	size_t i;

	for (i = 0; i < b->count; i++) {
		if (strcmp(b->list[i].key, g->key) != 0)
			continue;
		b->list[i].by_key = b->list[i].seen = true;
		g->by_key = true;
		judge(g, &b->list[i].sum, &found);
	}
}

void baseline_apply(struct baseline *b, struct leak_groups *groups)
{
	struct leak_sum known, found;
	struct leak_group *g;
	size_t i;

	for (i = 0; i < groups->count; i++)
		apply_by_key(b, &groups->groups[i]);
	for (i = 0; i < groups->count; i++) {
		g = &groups->groups[i];
		if (g->by_key || !g->names || !*g->names)
			continue;
		known = known_by_names(b, g);
		found = found_by_names(groups, g);
		if (known.count > 0)
			judge(g, &known, &found);
	}
}

void baseline_write(FILE *out, const struct leak_groups *groups)
{
	const struct leak_group *g;
	size_t i;

	fputs("# Leaks that are known, for 'ttalloc run --baseline' and 'ttalloc leaks --baseline': more than these fails.\n"
	      "# call site or class, buffers, bytes, functions\n", out);
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

	*range = (struct known_range){ 0, UINT64_MAX };
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

static struct known_range *range_of(struct known_rule *rule, const char *name)
{
	return strcmp(name, "size") == 0    ? &rule->size :
	       strcmp(name, "count") == 0   ? &rule->count :
	       strcmp(name, "bytes") == 0   ? &rule->bytes :
	       strcmp(name, "device") == 0  ? &rule->device : NULL;
}

static int set_pattern(struct known_rule *rule, const char *name, const char *value)
{
	unsigned i;

	for (i = 0; i < KNOWN_PATTERNS; i++) {
		if (strcmp(name, pattern_names[i]) != 0)
			continue;
		free(rule->pattern[i]);
		rule->pattern[i] = strdup(value);
		return rule->pattern[i] ? 0 : -ENOMEM;
	}
	return -EINVAL;
}

/* "size=12K..24K" */
static int take_condition(struct known_rule *rule, char *word, const char **whatp)
{
	char *value = strchr(word, '=');
	struct known_range *range;

	*whatp = "a condition is not KEY=VALUE";
	if (!value || !value[1])
		return -EINVAL;
	*value++ = '\0';
	range = range_of(rule, word);
	if (range) {
		*whatp = "not a range MIN..MAX";
		return parse_range(value, range);
	}
	*whatp = "an unknown condition";
	if (strcmp(word, "per") == 0) {
		rule->per_device = true;
		return strcmp(value, "device") == 0 ? 0 : -EINVAL;
	}
	return set_pattern(rule, word, value);
}

static int take_conditions(struct known_rule *rule, char *text, const char **whatp)
{
	char *rest = NULL, *word;
	unsigned i;
	int r = 0;

	for (word = strtok_r(text, " \t", &rest); word && r == 0; word = strtok_r(NULL, " \t", &rest))
		r = take_condition(rule, word, whatp);
	for (i = 0; r == 0 && rule->per_device && i < KNOWN_PATTERNS; i++)
		if (rule->pattern[i]) {
			*whatp = "per=device goes with count, bytes and device only";
			r = -EINVAL;
		}
	return r;
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
static int take_rule(void *arg, char *line, const char **whatp)
{
	const struct known_range all = { 0, UINT64_MAX };
	struct known_rule rule = { .size = all, .count = all, .bytes = all, .device = all }, *list;
	char *conditions = strstr(line, ": "), *text = conditions ? strstr(conditions + 2, ": ") : NULL;
	struct known *k = arg;
	int r;

	*whatp = "not 'NAME: CONDITION...: TEXT'";
	if (!text || strcspn(line, " \t") < (size_t)(conditions - line))
		return -EINVAL;
	*conditions = *text = '\0';
	rule.name = strdup(line);
	rule.text = strdup(text + 2 + strspn(text + 2, " \t"));
	r = rule.name && rule.text ? take_conditions(&rule, conditions + 2, whatp) : -ENOMEM;
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

static bool one_matches(const char *pattern, const struct leak_values *values)
{
	unsigned i;

	for (i = 0; i < values->count; i++)
		if (leak_pattern_matches(pattern, values->value[i]))
			return true;
	return false;
}

static bool is_listed(const char *list, const char *word)
{
	const size_t length = strlen(word);

	for (; *list; list += strcspn(list, ",") + (list[strcspn(list, ",")] == ','))
		if (strncmp(list, word, length) == 0 && strcspn(list, ",") == length)
			return true;
	return false;
}

static bool patterns_match(const struct known_rule *rule, const struct leak_group *g)
{
	char *const *p = rule->pattern;

	return (!p[KNOWN_TYPE] || is_listed(p[KNOWN_TYPE], g->first->type)) &&
	       (!p[KNOWN_TAG] || one_matches(p[KNOWN_TAG], &g->tags)) &&
	       (!p[KNOWN_COMM] || one_matches(p[KNOWN_COMM], &g->comms)) &&
	       (!p[KNOWN_REASON] || one_matches(p[KNOWN_REASON], &g->reasons)) &&
	       (!p[KNOWN_FRAME] || stack_matches(p[KNOWN_FRAME], g->stack));
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
