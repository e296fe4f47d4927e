/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * view-summary.c - the root `summary`: all that is held on one screen, for human eyes and `watch`.
 *
 * At most 80 columns, ASCII, no colours: it must look the same in a terminal, a log and a bug report. Up to four
 * devices get a line per type in use, more get one line each; whatever is zero is left out. Sizes have units of
 * 1024. Reads totals only, so its cost depends on the number of devices and processes, not of buffers.
 */
#include <stdio.h>
#include <string.h>

#include "tracker/view-part.h"
#include "tracker/view.h"

#define DETAILED_DEVICES 4
#define TOP_PROCESSES 10
#define SIZE_TEXT 24

/* "512 B", "12.0 KiB": at most 9 columns, as the next unit begins at 999.95. */
static const char *size_text(uint64_t bytes, char *text)
{
	static const char *const units[] = { "KiB", "MiB", "GiB", "TiB", "PiB", "EiB" };
	double value = (double)bytes / 1024;
	size_t unit = 0;

	if (bytes < 1000) {
		snprintf(text, SIZE_TEXT, "%u B", (unsigned)bytes);
		return text;
	}
	for (; value >= 999.95 && unit + 1 < sizeof(units) / sizeof(units[0]); unit++)
		value /= 1024;
	snprintf(text, SIZE_TEXT, "%.1f %s", value, units[unit]);
	return text;
}

static void put_size(struct textbuf *t, uint64_t bytes)
{
	char text[SIZE_TEXT];

	textbuf_printf(t, " %9s", size_text(bytes, text));
}

/* " 23.4% [####------]"; any use at all shows. */
static void put_share(struct textbuf *t, uint64_t bytes, uint64_t capacity, unsigned cells)
{
	double share = (double)bytes / (double)capacity;
	unsigned full = share >= 1 ? cells : (unsigned)(share * cells + 0.5);

	if (!full && bytes)
		full = 1;
	textbuf_printf(t, " %5.1f%% [", share > 9.999 ? 999.9 : 100 * share);
	textbuf_fill(t, '#', full);
	textbuf_fill(t, '-', cells - full);
	textbuf_putc(t, ']');
}

/* Of a text with escapes, cut to `columns`. */
static void put_comm_cut(struct textbuf *t, const struct process *p, size_t columns)
{
	size_t start = t->len;

	view_put_comm(t, p);
	if (t->len - start > columns) {
		t->len = start + columns - 1;
		/* Not in the middle of a character of UTF-8. */
		while (((unsigned char)t->data[t->len] & 0xc0) == 0x80)
			t->len--;
		textbuf_putc(t, '+');
	}
}

static void put_title(const struct view *v, struct textbuf *t)
{
	uint64_t up = v->now > v->server->started ? (v->now - v->server->started) / VIEW_NS_PER_S : 0;

	textbuf_printf(t, "ttalloc %s  ", v->server->version);
	view_put_utc(t, v->now);
	textbuf_puts(t, " UTC  up ");
	if (up >= 86400)
		textbuf_printf(t, "%llud ", (unsigned long long)(up / 86400));
	textbuf_printf(t, "%02u:%02u:%02u\n\n", (unsigned)(up / 3600 % 24), (unsigned)(up / 60 % 60),
		       (unsigned)(up % 60));
}

/* ---- few devices: a line per type ---- */

static void put_type_line(struct textbuf *t, const struct device *device, unsigned type)
{
	const struct totals totals = registry_device_totals(device, type);
	uint64_t capacity = device->capacity[type];

	textbuf_printf(t, "  %-13s", buffer_type_name(type));
	put_size(t, totals.bytes);
	put_size(t, totals.peak);
	textbuf_printf(t, " %9llu", (unsigned long long)totals.count);
	if (capacity) {
		put_size(t, capacity);
		put_share(t, totals.bytes, capacity, 15);
	}
	textbuf_putc(t, '\n');
}

static void put_device(struct textbuf *t, unsigned id, const struct device *device)
{
	uint64_t peak = registry_device_totals(device, BUFFER_TYPES).peak;
	char text[SIZE_TEXT];

	snprintf(text, sizeof(text), "device %u", id);
	if (!device->total.count) {
		textbuf_printf(t, "%-15s nothing held", text);
		if (peak)
			textbuf_printf(t, ", peak %s", size_text(peak, text));
		textbuf_putc(t, '\n');
		return;
	}
	textbuf_printf(t, "%-15s %9s %9s %9s %9s\n", text, "used", "peak", "buffers", "capacity");
	for (unsigned type = 0; type < BUFFER_TYPES; type++)
		if (device->type[type].count)
			put_type_line(t, device, type);
}

static void put_devices_detailed(const struct registry *reg, struct textbuf *t)
{
	for (int id = registry_device_next(reg, 0); id >= 0; id = registry_device_next(reg, (unsigned)id + 1))
		put_device(t, (unsigned)id, registry_device(reg, (unsigned)id));
}

/* ---- many devices: a line each ---- */

static void put_device_line(struct textbuf *t, unsigned id, const struct device *device)
{
	uint64_t dram = device->type[BUFFER_DRAM].bytes;
	uint64_t l1 = device->type[BUFFER_L1].bytes;

	textbuf_printf(t, "%6u", id);
	put_size(t, dram);
	if (device->capacity[BUFFER_DRAM])
		put_share(t, dram, device->capacity[BUFFER_DRAM], 10);
	else
		textbuf_fill(t, ' ', 20);
	put_size(t, l1);
	put_size(t, device->total.bytes - dram - l1);
	put_size(t, registry_device_totals(device, BUFFER_TYPES).peak);
	textbuf_printf(t, " %9llu\n", (unsigned long long)device->total.count);
}

static void put_devices_compact(const struct registry *reg, struct textbuf *t)
{
	unsigned idle = 0;

	textbuf_printf(t, "%6s %9s %19s %9s %9s %9s %9s\n", "device", "dram", "of capacity", "l1", "other", "peak",
		       "buffers");
	for (int id = registry_device_next(reg, 0); id >= 0; id = registry_device_next(reg, (unsigned)id + 1)) {
		const struct device *device = registry_device(reg, (unsigned)id);

		if (device->total.count)
			put_device_line(t, (unsigned)id, device);
		else
			idle++;
	}
	if (idle)
		textbuf_printf(t, "  %u more %s nothing\n", idle, idle == 1 ? "device holds" : "devices hold");
}

static void put_devices(const struct registry *reg, struct textbuf *t)
{
	unsigned devices = registry_device_count(reg);

	if (!devices)
		textbuf_puts(t, "No device has been seen yet.\n");
	else if (!registry_totals(reg).count)
		textbuf_printf(t, "Nothing is held on %s.\n", devices == 1 ? "the only known device" : "any device");
	else if (devices <= DETAILED_DEVICES)
		put_devices_detailed(reg, t);
	else
		put_devices_compact(reg, t);
}

/* ---- processes ---- */

struct top {
	const struct process *process[TOP_PROCESSES];  /* most bytes first */
	unsigned n;
	unsigned holders;  /* processes that hold anything */
};

static void top_add(struct top *top, const struct process *p)
{
	unsigned at = top->n;

	top->holders++;
	while (at > 0 && top->process[at - 1]->total.bytes < p->total.bytes)
		at--;
	if (at == TOP_PROCESSES)
		return;
	if (top->n < TOP_PROCESSES)
		top->n++;
	memmove(&top->process[at + 1], &top->process[at], (top->n - at - 1) * sizeof(top->process[0]));
	top->process[at] = p;
}

static void put_processes(const struct registry *reg, struct textbuf *t)
{
	struct top top = { 0 };

	for (uint32_t slot = registry_process_next(reg, 0); slot != PROCESS_NONE;
	     slot = registry_process_next(reg, slot + 1)) {
		const struct process *p = registry_process(reg, slot);

		if (p->total.count)
			top_add(&top, p);
	}
	if (!top.n)
		return;
	textbuf_printf(t, "\n%-15s %9s %9s %9s  %s  %s\n", "process", "used", "peak", "buffers", "state", "command");
	for (unsigned i = 0; i < top.n; i++) {
		const struct process *p = top.process[i];
		size_t start = t->len;

		textbuf_puts(t, "  ");
		view_put_pid(t, p->pid);
		if (t->len - start < 15)
			textbuf_fill(t, ' ', 15 - (t->len - start));
		put_size(t, p->total.bytes);
		put_size(t, p->total.peak);
		textbuf_printf(t, " %9llu  %s   ", (unsigned long long)p->total.count, p->ended ? "dead" : "live");
		put_comm_cut(t, p, 26);
		textbuf_putc(t, '\n');
	}
	if (top.holders > top.n)
		textbuf_printf(t, "  and %u more: see processes\n", top.holders - top.n);
}

/* ---- what needs attention ---- */

/* One line of counts: the title, "3 unknown, 1 double", the advice; nothing at all when every count is zero. */
struct trouble {
	const char *title;
	struct {
		uint64_t n;
		const char *one;
		const char *many;
	} count[3];
	const char *advice;
};

static bool trouble_put(const struct trouble *trouble, bool first, struct textbuf *t)
{
	bool any = false;

	for (size_t i = 0; i < sizeof(trouble->count) / sizeof(trouble->count[0]); i++) {
		uint64_t n = trouble->count[i].n;

		if (!n)
			continue;
		if (!any)
			textbuf_printf(t, "%s%-9s", first ? "\n" : "", trouble->title);
		textbuf_printf(t, "%s %llu %s", any ? "," : "", (unsigned long long)n,
			       n == 1 ? trouble->count[i].one : trouble->count[i].many);
		any = true;
	}
	if (any)
		textbuf_printf(t, "%s\n", trouble->advice);
	return any;
}

static void put_troubles(const struct view *v, struct textbuf *t)
{
	const struct counters *c = registry_counters(v->registry);
	const struct trouble troubles[] = {
		{ "suspects:", { { registry_suspects_of(v->registry, SUSPECT_DIED), "died", "died" },
				 { registry_suspects_of(v->registry, SUSPECT_OUTLIVED), "outlived", "outlived" },
				 { registry_suspects_of(v->registry, SUSPECT_GROWING), "growing", "growing" } },
		  ": see leaks/" },
		{ "frees:", { { c->unknown_frees, "unknown", "unknown" }, { c->double_frees, "double", "double" },
			      { c->foreign_frees, "foreign", "foreign" } }, "" },
		{ "lost:", { { c->events_lost, "event", "events" } }, " without room: totals are too low" },
		{ "refused:", { { c->refused_events, "event", "events" },
				{ v->server->malformed_senders, "malformed sender", "malformed senders" } },
		  ": see error_log" },
	};
	bool any = false;

	for (size_t i = 0; i < sizeof(troubles) / sizeof(troubles[0]); i++)
		any |= trouble_put(&troubles[i], !any, t);
}

int view_summary(const struct view *v, const struct view_key *k, struct textbuf *t)
{
	put_title(v, t);
	put_devices(v->registry, t);
	put_processes(v->registry, t);
	put_troubles(v, t);
	return 0;
}
