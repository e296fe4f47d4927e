/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * leak-report.c - see leak-report.h.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "client/escape.h"
#include "client/leak-report.h"

#define FRAMES_SHOWN 12
#define TAGS_SHOWN 8
#define PLACES_SHOWN 8  /* of double frees */

const char *const leak_format_names[LEAK_FORMATS] = { "text", "json", "junit" };

/* --- sums --- */

static void sum_add(struct leak_sum *sum, uint64_t count, uint64_t bytes)
{
	sum->count += count;
	if (__builtin_add_overflow(sum->bytes, bytes, &sum->bytes))
		sum->bytes = UINT64_MAX;
}

static struct leak_device *device_of(struct leak_report *r, uint32_t device)
{
	struct leak_device *devices;
	size_t i = 0;

	while (i < r->device_count && r->devices[i].device < device)
		i++;
	if (i < r->device_count && r->devices[i].device == device)
		return &r->devices[i];
	devices = reallocarray(r->devices, r->device_count + 1, sizeof(*devices));
	if (!devices)
		return NULL;
	memmove(devices + i + 1, devices + i, (r->device_count - i) * sizeof(*devices));
	devices[i] = (struct leak_device){ .device = device };
	r->devices = devices;
	r->device_count++;
	return &devices[i];
}

/* What nothing else says anything about may be what devices have as a whole. */
static void add_rest(struct leak_report *r, const struct leak_group *g)
{
	size_t i;

	if (g->known || strcmp(g->first->tag, "-") != 0)
		return;
	for (i = 0; i < g->list_count; i++)
		if (!g->first[i].suppressed)
			sum_add(&device_of(r, g->first[i].device)->rest, 1, g->first[i].size);
}

int leak_report_sums(struct leak_report *r, const struct leak_list *list, const struct known *known)
{
	struct leak_device *d;
	size_t i;

	for (i = 0; i < list->count; i++) {
		if (list->leaks[i].suppressed) {
			sum_add(&r->suppressed, 1, list->leaks[i].size);
			continue;
		}
		sum_add(&r->all, 1, list->leaks[i].size);
		d = device_of(r, list->leaks[i].device);
		if (!d)
			return -ENOMEM;
		sum_add(&d->sum, 1, list->leaks[i].size);
	}
	for (i = 0; i < r->groups->count; i++)
		add_rest(r, &r->groups->groups[i]);
	for (i = 0; i < r->device_count; i++)
		r->devices[i].known = known_find_device(known, r->devices[i].device, r->devices[i].rest.count,
							r->devices[i].rest.bytes);
	for (i = 0; i < r->groups->count; i++)
		if (r->groups->groups[i].fails)
			sum_add(&r->failing, r->groups->groups[i].count, r->groups->groups[i].bytes);
	return 0;
}

void leak_report_deinit(struct leak_report *r)
{
	free(r->devices);
	r->devices = NULL;
}

void leak_report_note(struct leak_report *r, const char *note)
{
	if (r->note_count < LEAK_NOTES)
		r->notes[r->note_count++] = note;
}

static uint64_t unseen(const struct baseline *b)
{
	uint64_t n = 0;
	size_t i;

	for (i = 0; b && i < b->count; i++)
		n += !b->list[i].seen;
	return n;
}

static uint64_t failing_groups(const struct leak_report *r)
{
	uint64_t n = 0;
	size_t i;

	for (i = 0; i < r->groups->count; i++)
		n += r->groups->groups[i].fails;
	return n;
}

static uint64_t failing_places(const struct leak_report *r)
{
	uint64_t n = 0;
	size_t i;

	for (i = 0; i < r->places->count; i++)
		n += r->places->places[i].all.fails;
	return n;
}

/* --- for people --- */

static const char *plural(uint64_t n)
{
	return n == 1 ? "" : "s";
}

/* "3 buffers, 12288 bytes" */
static void print_sum(FILE *out, const struct leak_sum *sum)
{
	static const char units[] = "KMGTPE";
	double value = (double)sum->bytes;
	unsigned unit = 0;

	fprintf(out, "%" PRIu64 " buffer%s, %" PRIu64 " byte%s", sum->count, plural(sum->count), sum->bytes,
		plural(sum->bytes));
	if (sum->bytes < 1024)
		return;
	for (value /= 1024; value >= 1023.95; value /= 1024)
		unit++;
	fprintf(out, " (%.1f %ciB)", value, units[unit]);
}

static void print_values(FILE *out, const char *before, const struct leak_values *v, bool with_times)
{
	unsigned i;

	for (i = 0; i < v->count; i++) {
		fputs(i ? ", " : before, out);
		escape_print(out, v->value[i]);
		if (with_times && v->count > 1)
			fprintf(out, " %" PRIu64, v->times[i]);
	}
	if (v->more)
		fputs(", ...", out);
}

static void print_range(FILE *out, const char *before, uint64_t min, uint64_t max)
{
	fprintf(out, "%s%" PRIu64, before, min);
	if (max != min)
		fprintf(out, "..%" PRIu64, max);
}

static void print_frames(FILE *out, const struct stack *stack)
{
	const struct frame *f;
	size_t i;

	for (i = 0; stack && i < stack->count && i < FRAMES_SHOWN; i++) {
		f = &stack->frames[i];
		fprintf(out, "    #%zu ", i);
		if (strcmp(f->function, "-") != 0) {
			escape_print(out, f->function);
		} else {
			if (strcmp(f->module, "-") != 0) {
				escape_print(out, f->module);
				fputc('+', out);
			}
			escape_print(out, f->offset);
		}
		fputc('\n', out);
	}
	if (stack && i < stack->count)
		fprintf(out, "    ... %zu more\n", stack->count - i);
}

static void print_known(FILE *out, const struct known_rule *known)
{
	if (!known)
		return;
	fputs("    probably ", out);
	escape_print(out, known->text);
	fputs(" [", out);
	escape_print(out, known->name);
	fputs("]\n", out);
}

static void print_baseline(FILE *out, const struct leak_group *g)
{
	if (!g->in_baseline)
		return;
	fprintf(out, "    %s: %" PRIu64 " buffer%s, %" PRIu64 " bytes are in the baseline",
		g->fails ? "more than known" : "known", g->baseline.count, plural(g->baseline.count), g->baseline.bytes);
	if (g->judged.count != g->count)
		fprintf(out, ", for this and others: %" PRIu64 " buffers, %" PRIu64 " bytes", g->judged.count,
			g->judged.bytes);
	fputc('\n', out);
}

/* One of several tags of a place. */
static void print_tag(FILE *out, const struct leak_group *g, bool with_name)
{
	const struct leak_sum sum = { g->count, g->bytes };

	fputs("      ", out);
	print_sum(out, &sum);
	fputs(strcmp(g->first->tag, "-") != 0 ? "  tag " : "  no tag", out);
	if (strcmp(g->first->tag, "-") != 0)
		escape_print(out, g->first->tag);
	if (with_name && g->known) {
		fputs(" [", out);
		escape_print(out, g->known->name);
		fputc(']', out);
	}
	if (g->in_baseline)
		fputs(g->fails ? ": more than known" : ": known", out);
	fputc('\n', out);
}

static void print_tags(FILE *out, const struct leak_place *p)
{
	struct leak_sum rest = { 0 };
	size_t i;

	for (i = 0; i < p->count && i < TAGS_SHOWN; i++)
		print_tag(out, p->groups[i], !p->all.known);
	for (; i < p->count; i++)
		sum_add(&rest, p->groups[i]->count, p->groups[i]->bytes);
	if (rest.count == 0)
		return;
	fputs("      ", out);
	print_sum(out, &rest);
	fprintf(out, "  %zu more tag%s\n", p->count - TAGS_SHOWN, plural(p->count - TAGS_SHOWN));
}

static void print_place(FILE *out, const struct leak_place *p)
{
	const struct leak_group *g = p->count == 1 ? p->groups[0] : &p->all;
	const struct leak_sum sum = { g->count, g->bytes };

	print_sum(out, &sum);
	fprintf(out, "  %s", g->first->type);
	print_range(out, g->device_min == g->device_max ? " of device " : " of devices ", g->device_min, g->device_max);
	print_values(out, ": ", &g->reasons, true);
	fputs("\n    at ", out);
	escape_print(out, g->key);
	print_range(out, ", size ", g->size_min, g->size_max);
	fprintf(out, ", of %" PRIu32 " process%s", g->pids, g->pids == 1 ? "" : "es");
	print_values(out, " ", &g->comms, false);
	if (p->count > 1) {
		fprintf(out, ", %zu tags:\n", p->count);
		print_tags(out, p);
	} else {
		if (strcmp(g->first->tag, "-") != 0) {
			fputs(", tag ", out);
			escape_print(out, g->first->tag);
		}
		fputc('\n', out);
	}
	print_frames(out, g->stack);
	print_known(out, g->known);
	print_baseline(out, g);
}

static void print_group(FILE *out, const struct leak_group *g)
{
	const struct leak_place alone = { .groups = &g, .count = 1 };

	print_place(out, &alone);
}

static void print_devices(FILE *out, const struct leak_report *r)
{
	size_t i;

	for (i = 0; i < r->device_count; i++) {
		fprintf(out, "device %" PRIu32 ": ", r->devices[i].device);
		print_sum(out, &r->devices[i].sum);
		fputc('\n', out);
		if (r->devices[i].known && r->devices[i].rest.count < r->devices[i].sum.count) {
			fputs("    of these ", out);
			print_sum(out, &r->devices[i].rest);
			fputc('\n', out);
		}
		print_known(out, r->devices[i].known);
	}
}

static void print_suppressed(FILE *out, const struct leak_report *r)
{
	const struct suppressions *s = r->suppressions;
	struct leak_sum sum;
	size_t i;

	for (i = 0; i < s->count; i++) {
		if (s->list[i].count == 0)
			continue;
		sum = (struct leak_sum){ s->list[i].count, s->list[i].bytes };
		fputs("suppressed: ", out);
		print_sum(out, &sum);
		fputs(" by leak:", out);
		escape_print(out, s->list[i].pattern);
		fputc('\n', out);
	}
}

static void print_outside(FILE *out, const char *what, const struct leak_sum *sum)
{
	if (sum->count == 0)
		return;
	fputs("not counted: ", out);
	print_sum(out, sum);
	fprintf(out, " %s\n", what);
}

static const char strangers[] = "of processes of which it is not known who started them";
static const char others[] = "of processes that the command did not start";

static void print_double_frees(FILE *out, const struct odd_frees *o)
{
	const struct leak_group *g;
	uint64_t told = 0;
	size_t i;

	fprintf(out, "%" PRIu64 " double free%s: of what had been freed before\n", o->twice, plural(o->twice));
	for (i = 0; i < o->places.count && i < PLACES_SHOWN; i++) {
		g = &o->places.groups[i];
		told += g->count;
		fprintf(out, "    %" PRIu64 " at %s, 0x%012" PRIx64 " of device %" PRIu32 "%s\n", g->count,
			strcmp(g->first->site, LEAK_NO_SITE) != 0 ? g->first->site : "an unknown call site",
			g->first->address, g->first->device, g->count > 1 ? " and others" : "");
		print_frames(out, g->stack);
	}
	if (told < o->twice)
		fprintf(out, "    %" PRIu64 " more, of which no place is told\n", o->twice - told);
}

/* They are no leaks, and fail nothing. */
static void print_odd_frees(FILE *out, const struct odd_frees *o)
{
	if (o->twice > 0)
		print_double_frees(out, o);
	if (o->foreign > 0)
		fprintf(out, "%" PRIu64 " free%s of another process's buffer\n", o->foreign, plural(o->foreign));
	if (o->unknown > 0)
		fprintf(out, "%" PRIu64 " free%s of what ttallocd never heard of: normal for what is older than it\n",
			o->unknown, plural(o->unknown));
}

/* What is not about single groups. */
static void print_summary(FILE *out, const struct leak_report *r)
{
	unsigned i;

	print_odd_frees(out, &r->odd);

	print_devices(out, r);
	print_suppressed(out, r);
	print_outside(out, strangers, &r->strangers);
	print_outside(out, others, &r->others);
	if (unseen(r->baseline) > 0)
		fprintf(out, "the baseline has %" PRIu64 " line%s that %s not seen this time\n", unseen(r->baseline),
			plural(unseen(r->baseline)), unseen(r->baseline) == 1 ? "was" : "were");
	for (i = 0; i < r->note_count; i++)
		fprintf(out, "%s\n", r->notes[i]);
}

static void write_text(FILE *out, const struct leak_report *r)
{
	size_t i;

	if (r->groups->count > 0) {
		fputs(r->who, out);
		fputs(": what is still held, the largest first\n", out);
	}
	for (i = 0; i < r->places->count; i++) {
		fputc('\n', out);
		print_place(out, &r->places->places[i]);
	}
	if (r->device_count > 0)
		fputc('\n', out);
	print_summary(out, r);
	leak_report_line(out, r);
}

void leak_report_line(FILE *out, const struct leak_report *r)
{
	if (r->error)
		fprintf(out, "%s: error: %s\n", r->who, r->error);
	fprintf(out, "%s: ", r->who);
	if (r->all.count == 0) {
		fputs(r->error ? "nothing is known to leak" : "no leaks", out);
	} else {
		print_sum(out, &r->all);
		fprintf(out, " leaked at %zu place%s", r->places->count, plural(r->places->count));
		if (r->baseline) {
			fprintf(out, "; %" PRIu64 " of the places are more than the baseline: ", failing_places(r));
			print_sum(out, &r->failing);
		}
	}
	if (r->suppressed.count > 0)
		fprintf(out, "; %" PRIu64 " buffer%s suppressed", r->suppressed.count, plural(r->suppressed.count));
	if (r->command)
		fprintf(out, "; %" PRIu64 " process%s reported", r->processes, r->processes == 1 ? "" : "es");
	fputc('\n', out);
}

/* --- JSON --- */

static void json_key(FILE *out, const char *key, const char *text)
{
	fprintf(out, ", \"%s\": ", key);
	if (text && strcmp(text, "-") != 0)
		escape_json(out, text);
	else
		fputs("null", out);
}

static void json_sum(FILE *out, const char *key, const struct leak_sum *sum)
{
	fprintf(out, ",\n  \"%s\": {\"count\": %" PRIu64 ", \"bytes\": %" PRIu64 "}", key, sum->count, sum->bytes);
}

static void json_values(FILE *out, const char *key, const struct leak_values *v)
{
	unsigned i;

	fprintf(out, ",\n      \"%s\": [", key);
	for (i = 0; i < v->count; i++) {
		fputs(i ? ", {\"value\": " : "{\"value\": ", out);
		escape_json(out, v->value[i]);
		fprintf(out, ", \"count\": %" PRIu64 "}", v->times[i]);
	}
	fprintf(out, "], \"more_%s\": %s", key, v->more ? "true" : "false");
}

static void json_stack(FILE *out, const struct stack *stack)
{
	size_t i;

	fputs(",\n      \"stack\": [", out);
	for (i = 0; stack && i < stack->count; i++) {
		fprintf(out, "%s\n        {\"offset\": ", i ? "," : "");
		escape_json(out, stack->frames[i].offset);
		json_key(out, "function", stack->frames[i].function);
		json_key(out, "module", stack->frames[i].module);
		fputc('}', out);
	}
	fputc(']', out);
}

static void json_known(FILE *out, const struct known_rule *known)
{
	if (!known) {
		fputs(", \"known\": null", out);
		return;
	}
	fputs(", \"known\": {\"name\": ", out);
	escape_json(out, known->name);
	json_key(out, "text", known->text);
	fputc('}', out);
}

static void json_group(FILE *out, const struct leak_group *g)
{
	fputs("\n    {\"key\": ", out);
	escape_json(out, g->key);
	json_key(out, "site", g->first->site);
	json_key(out, "type", g->first->type);
	json_key(out, "tag", g->first->tag);
	fprintf(out, ", \"count\": %" PRIu64 ", \"bytes\": %" PRIu64 ", \"size_min\": %" PRIu64 ", \"size_max\": %" PRIu64,
		g->count, g->bytes, g->size_min, g->size_max);
	fprintf(out, ",\n      \"device_min\": %" PRIu32 ", \"device_max\": %" PRIu32 ", \"processes\": %" PRIu32
		     ", \"fails\": %s",
		g->device_min, g->device_max, g->pids, g->fails ? "true" : "false");
	if (g->in_baseline)
		fprintf(out, ", \"baseline\": {\"count\": %" PRIu64 ", \"bytes\": %" PRIu64 "}", g->baseline.count,
			g->baseline.bytes);
	else
		fputs(", \"baseline\": null", out);
	json_known(out, g->known);
	json_values(out, "reasons", &g->reasons);
	json_values(out, "comms", &g->comms);
	json_stack(out, g->stack);
	fputc('}', out);
}

static void json_odd_frees(FILE *out, const struct odd_frees *o)
{
	const struct leak_group *g;
	size_t i;

	fprintf(out, ",\n  \"double_frees\": %" PRIu64 ", \"unknown_frees\": %" PRIu64 ", \"foreign_frees\": %" PRIu64
		     ",\n  \"double_free_places\": [", o->twice, o->unknown, o->foreign);
	for (i = 0; i < o->places.count; i++) {
		g = &o->places.groups[i];
		fprintf(out, "%s\n    {\"count\": %" PRIu64 ", \"device\": %" PRIu32 ", \"address\": \"0x%012" PRIx64 "\"",
			i ? "," : "", g->count, g->first->device, g->first->address);
		json_key(out, "site", g->first->site);
		json_stack(out, g->stack);
		fputc('}', out);
	}
	fputc(']', out);
}

static void json_command(FILE *out, const struct leak_report *r)
{
	char *const *word;

	fputs(",\n  \"command\": [", out);
	for (word = r->command; *word; word++) {
		if (word != r->command)
			fputs(", ", out);
		escape_json(out, *word);
	}
	fprintf(out, "],\n  \"status\": %d,\n  \"private\": %s,\n  \"processes\": %" PRIu64
		     ",\n  \"lost_events\": %" PRIu64,
		r->status, r->is_private ? "true" : "false", r->processes, r->lost);
	json_odd_frees(out, &r->odd);
	json_sum(out, "unattributed", &r->strangers);
	json_sum(out, "others", &r->others);
}

static void json_devices(FILE *out, const struct leak_report *r)
{
	size_t i;

	fputs(",\n  \"devices\": [", out);
	for (i = 0; i < r->device_count; i++) {
		fprintf(out, "%s\n    {\"device\": %" PRIu32 ", \"count\": %" PRIu64 ", \"bytes\": %" PRIu64, i ? "," : "",
			r->devices[i].device, r->devices[i].sum.count, r->devices[i].sum.bytes);
		fprintf(out, ", \"rest\": {\"count\": %" PRIu64 ", \"bytes\": %" PRIu64 "}", r->devices[i].rest.count,
			r->devices[i].rest.bytes);
		json_known(out, r->devices[i].known);
		fputc('}', out);
	}
	fputc(']', out);
}

static void json_suppressions(FILE *out, const struct suppressions *s)
{
	bool any = false;
	size_t i;

	fputs(",\n  \"suppressions\": [", out);
	for (i = 0; i < s->count; i++) {
		if (s->list[i].count == 0)
			continue;
		fputs(any ? ",\n    {\"pattern\": " : "\n    {\"pattern\": ", out);
		any = true;
		escape_json(out, s->list[i].pattern);
		fprintf(out, ", \"count\": %" PRIu64 ", \"bytes\": %" PRIu64 "}", s->list[i].count, s->list[i].bytes);
	}
	fputc(']', out);
}

static void json_baseline(FILE *out, const struct baseline *b)
{
	bool any = false;
	size_t i;

	fputs(",\n  \"baseline_unseen\": [", out);
	for (i = 0; b && i < b->count; i++) {
		if (b->list[i].seen)
			continue;
		fputs(any ? ", " : "", out);
		any = true;
		escape_json(out, b->list[i].key);
	}
	fputc(']', out);
}

static void write_json(FILE *out, const struct leak_report *r)
{
	unsigned i;

	fputs("{\n  \"tool\": ", out);
	escape_json(out, r->who);
	json_key(out, "version", TTALLOC_VERSION);
	json_key(out, "mount", r->mount);
	if (r->command)
		json_command(out, r);
	json_key(out, "error", r->error);
	json_sum(out, "leaks", &r->all);
	json_sum(out, "failing", &r->failing);
	json_sum(out, "suppressed", &r->suppressed);
	fputs(",\n  \"groups\": [", out);
	for (i = 0; i < r->groups->count; i++) {
		fputs(i ? "," : "", out);
		json_group(out, &r->groups->groups[i]);
	}
	fputc(']', out);
	json_devices(out, r);
	json_suppressions(out, r->suppressions);
	json_baseline(out, r->baseline);
	fputs(",\n  \"notes\": [", out);
	for (i = 0; i < r->note_count; i++) {
		fputs(i ? ", " : "", out);
		escape_json(out, r->notes[i]);
	}
	fputs("]\n}\n", out);
}

/* --- JUnit: a case for the command and one for each group, which fails, or is skipped if the baseline has it --- */

static void junit_property(FILE *out, const char *name, uint64_t value)
{
	fprintf(out, "      <property name=\"%s\" value=\"%" PRIu64 "\"/>\n", name, value);
}

static void junit_device(FILE *out, const struct leak_device *d)
{
	char name[40];

	snprintf(name, sizeof(name), "device%" PRIu32 ".count", d->device);
	junit_property(out, name, d->sum.count);
	snprintf(name, sizeof(name), "device%" PRIu32 ".bytes", d->device);
	junit_property(out, name, d->sum.bytes);
	if (!d->known)
		return;
	fprintf(out, "      <property name=\"device%" PRIu32 ".known\" value=\"", d->device);
	escape_xml(out, d->known->name);
	fputs("\"/>\n", out);
}

static void junit_properties(FILE *out, const struct leak_report *r)
{
	size_t i;

	fputs("    <properties>\n", out);
	junit_property(out, "leaks.count", r->all.count);
	junit_property(out, "leaks.bytes", r->all.bytes);
	junit_property(out, "failing.count", r->failing.count);
	junit_property(out, "failing.bytes", r->failing.bytes);
	junit_property(out, "suppressed.count", r->suppressed.count);
	junit_property(out, "suppressed.bytes", r->suppressed.bytes);
	if (r->command) {
		junit_property(out, "processes", r->processes);
		junit_property(out, "lost_events", r->lost);
		junit_property(out, "double_frees", r->odd.twice);
		junit_property(out, "unknown_frees", r->odd.unknown);
		junit_property(out, "foreign_frees", r->odd.foreign);
		junit_property(out, "unattributed.count", r->strangers.count);
		junit_property(out, "unattributed.bytes", r->strangers.bytes);
		junit_property(out, "others.count", r->others.count);
		junit_property(out, "others.bytes", r->others.bytes);
	}
	for (i = 0; i < r->device_count; i++)
		junit_device(out, &r->devices[i]);
	fputs("    </properties>\n", out);
}

/* What a part of the text report prints, escaped. */
static void junit_text(FILE *out, void (*print)(FILE *out, const void *what), const void *what)
{
	char *text = NULL;
	size_t size;
	FILE *memory = open_memstream(&text, &size);

	if (!memory)
		return;
	print(memory, what);
	/* Without it the numbers are still in messages and properties. */
	if (fclose(memory) == 0)
		escape_xml(out, text);
	free(text);
}

static void text_of_group(FILE *out, const void *group)
{
	print_group(out, group);
}

/* A command that failed by itself is the failure; that less was seen of it than should have been is said here. */
static void text_of_summary(FILE *out, const void *report)
{
	const struct leak_report *r = report;

	print_summary(out, r);
	if (r->error && r->status)
		fprintf(out, "error: %s\n", r->error);
}

static void junit_group(FILE *out, const struct leak_report *r, const struct leak_group *g)
{
	const char *element = g->fails ? "failure" : "skipped";

	fputs("    <testcase classname=\"", out);
	escape_xml(out, r->who);
	fputs("\" name=\"", out);
	escape_xml(out, g->key);
	fprintf(out, "\" time=\"0\">\n      <%s%s message=\"%" PRIu64 " buffer%s, %" PRIu64 " bytes%s\">", element,
		g->fails ? " type=\"leak\"" : "", g->count, plural(g->count), g->bytes,
		g->fails ? "" : ", known in the baseline");
	junit_text(out, text_of_group, g);
	fprintf(out, "</%s>\n    </testcase>\n", element);
}

static void junit_command(FILE *out, const struct leak_report *r)
{
	fputs("    <testcase classname=\"", out);
	escape_xml(out, r->who);
	fputs("\" name=\"", out);
	escape_xml(out, r->command ? r->command[0] : "leaks");
	fputs("\" time=\"0\"", out);
	if (r->status) {
		fprintf(out, ">\n      <failure type=\"status\" message=\"exit status %d\"/>\n    </testcase>\n",
			r->status);
	} else if (r->error) {
		fputs(">\n      <error type=\"tracking\" message=\"", out);
		escape_xml(out, r->error);
		fputs("\"/>\n    </testcase>\n", out);
	} else {
		fputs("/>\n", out);
	}
}

static void write_junit(FILE *out, const struct leak_report *r)
{
	const size_t cases = r->groups->count + 1;
	const uint64_t failing = failing_groups(r);
	size_t i;

	fputs("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n  <testsuite name=\"", out);
	escape_xml(out, r->who);
	fprintf(out, "\" tests=\"%zu\" failures=\"%" PRIu64 "\" errors=\"%d\" skipped=\"%" PRIu64 "\" time=\"0\">\n",
		cases, failing + (r->status != 0), r->error && !r->status, r->groups->count - failing);
	junit_properties(out, r);
	junit_command(out, r);
	for (i = 0; i < r->groups->count; i++)
		junit_group(out, r, &r->groups->groups[i]);
	fputs("    <system-out>", out);
	junit_text(out, text_of_summary, r);
	fputs("</system-out>\n  </testsuite>\n</testsuites>\n", out);
}

void leak_report_write(FILE *out, const struct leak_report *r, enum leak_format format)
{
	static void (*const writers[LEAK_FORMATS])(FILE *, const struct leak_report *) = {
		[LEAK_TEXT] = write_text, [LEAK_JSON] = write_json, [LEAK_JUNIT] = write_junit,
	};

	writers[format](out, r);
}
