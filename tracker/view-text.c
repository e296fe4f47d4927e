/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * view-text.c - the small files that are written whole: README, version, error_log, stats, a device's summary and
 * info, a process's status.
 *
 * Each costs the same whatever the number of buffers: it reads totals and counters only.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "tracker/mark.h"
#include "tracker/symbols.h"
#include "tracker/view-part.h"
#include "tracker/view.h"

int view_version(const struct view *v, const struct view_key *k, struct textbuf *t)
{
	textbuf_printf(t, "ttalloc %s abi %d pid %d instance %s socket ", v->server->version, TTALLOC_ABI,
		       v->server->pid, v->server->instance);
	textbuf_escaped(t, v->server->socket);
	textbuf_puts(t, " compat_socket ");
	textbuf_escaped(t, v->server->compat_socket);
	textbuf_putc(t, '\n');
	return 0;
}

int view_error_log(const struct view *v, const struct view_key *k, struct textbuf *t)
{
	errlog_text(v->errlog, t);
	return 0;
}

/* ---- README ---- */

#define README_COLUMN 42  /* where explanations begin */

/* '@' stands for the mountpoint. */
static const struct {
	const char *command;
	const char *what;  /* at most 80 - README_COLUMN characters */
} readme_lines[] = {
	{ "cat @/summary", "everything on one screen" },
	{ "watch -n1 cat @/summary", "the same, live" },
	{ "cat @/device0/summary", "one device: totals, peaks, capacity" },
	{ "cat @/pids/12345/status", "one process" },
	{ "ls @/leaks", "suspected leaks; empty means none" },
	{ "echo clear > @/ctl", "what is held now is no leak; then run" },
	{ "echo scan > @/ctl", "what came since, and is held, is one" },
	{ "sort -k4nr @/allocs | head", "the largest buffers of all" },
	{ "du -sh @/device0/dram", "memory in use, as disk usage" },
	{ "ls -lst @/device0/dram | head", "the newest buffers" },
	{ "sort -k3nr @/sites | head", "the call sites that hold most" },
	{ "cat @/stacks/3f4741b293c957e7", "the stack of one of them" },
	{ "grep layers.3 @/allocs", "what a program has tagged so" },
	{ "find @/device0/dram -user bob -mmin +60", "bob's, older than an hour" },
	{ "cat @/device0/dram/0x40000000", "one buffer: owner, time, history" },
	{ "cat @/device0/history/0x40000000", "what was there, also after a free" },
	{ "awk '$4==\"free\"' @/device0/map", "the holes between the buffers" },
	{ "timeout 5 cat @/events | grep free", "what happens now; trace: what happened" },
	{ "echo mark a > @/ctl", "marks/a/: what has changed since" },
	{ "echo dump > @/ctl", "freeze a report in dumps/" },
	{ "cat @/ctl", "which commands there are" },
	{ "tail @/error_log", "why something was refused" },
};

static const char readme_tail[] =
	"\n"
	"Files\n"
	"  summary processes allocs suspects sites events trace stats error_log version\n"
	"  ctl  leaks/<name>  stacks/<site>  dumps/<n>  options/<name>\n"
	"  marks/<name>/{summary,allocs}\n"
	"  pids/<pid>/{status,allocs,sites,ctl}\n"
	"  device<N>/{summary,info,allocs,map}  device<N>/<type>/<address>\n"
	"  with the types dram l1 system_memory l1_small trace cb kernel\n"
	"\n"
	"Sizes are bytes, times seconds since the epoch; a missing value is -. A table\n"
	"begins with a line that names its columns; new columns are only ever appended.\n"
	"The format of every file: man 5 ttalloc-fs.\n"
	"\n"
	"To wait for a change\n"
	"  inotify does not work on this filesystem. Read events, which blocks until\n"
	"  something happens, or poll any file: POLLPRI tells that it changed since this\n"
	"  descriptor has read it.\n"
	"  python3 -c 'import select; f = open(\"@/summary\"); f.read();\n"
	"  p = select.poll(); p.register(f, select.POLLPRI); print(p.poll())'\n";

/* Returns how many columns it wrote. */
static size_t put_at_mount(struct textbuf *t, const char *text, const char *mountpoint)
{
	size_t columns = 0;

	for (;;) {
		size_t run = strcspn(text, "@");

		textbuf_put(t, text, run);
		columns += run;
		if (!text[run])
			return columns;
		textbuf_puts(t, mountpoint);
		columns += strlen(mountpoint);
		text += run + 1;
	}
}

static void put_readme_line(struct textbuf *t, const char *command, const char *what, const char *mountpoint)
{
	size_t columns;

	textbuf_puts(t, "  ");
	columns = 2 + put_at_mount(t, command, mountpoint);
	if (columns + 2 > README_COLUMN) {
		textbuf_putc(t, '\n');
		columns = 0;
	}
	textbuf_fill(t, ' ', README_COLUMN - columns);
	textbuf_puts(t, what);
	textbuf_putc(t, '\n');
}

static void put_readme_sockets(struct textbuf *t, const struct server_info *server)
{
	if (!server->socket && !server->compat_socket)
		return;
	textbuf_puts(t, "Programs report to ");
	textbuf_puts(t, server->socket ? server->socket : server->compat_socket);
	if (server->socket && server->compat_socket) {
		textbuf_puts(t, "\nor ");
		textbuf_puts(t, server->compat_socket);
	}
	textbuf_puts(t, ".\n");
}

int view_readme(const struct view *v, const struct view_key *k, struct textbuf *t)
{
	textbuf_printf(t, "This is ttalloc %s, filesystem ABI %d: who holds how much device memory,\n"
			  "since when, and what was never given back. Every event that a program has\n"
			  "reported before a file is opened is in that file.\n", v->server->version, TTALLOC_ABI);
	put_readme_sockets(t, v->server);
	textbuf_putc(t, '\n');
	for (size_t i = 0; i < sizeof(readme_lines) / sizeof(readme_lines[0]); i++)
		put_readme_line(t, readme_lines[i].command, readme_lines[i].what, v->server->mountpoint);
	put_at_mount(t, readme_tail, v->server->mountpoint);
	return 0;
}

/* ---- stats ---- */

static void put_key(struct textbuf *t, const char *key, uint64_t value)
{
	textbuf_puts(t, key);
	textbuf_putc(t, ' ');
	textbuf_u64(t, value);
	textbuf_putc(t, '\n');
}

static void put_time_key(struct textbuf *t, const char *key, uint64_t time)
{
	textbuf_puts(t, key);
	textbuf_putc(t, ' ');
	textbuf_time(t, time);
	textbuf_putc(t, '\n');
}

int view_stats(const struct view *v, const struct view_key *k, struct textbuf *t)
{
	const struct counters *counters = registry_counters(v->registry);
	const struct server_info *server = v->server;
	struct totals totals = registry_totals(v->registry);

	put_key(t, "uptime_s", v->now > server->started ? (v->now - server->started) / VIEW_NS_PER_S : 0);
	put_key(t, "clients", server->clients);
	put_key(t, "devices", registry_device_count(v->registry));
	put_key(t, "processes", registry_process_count(v->registry));
	put_key(t, "live_buffers", totals.count);
	put_key(t, "live_bytes", totals.bytes);
	put_key(t, "events_total", counters->events_total);
	put_key(t, "allocs_total", counters->allocs_total);
	put_key(t, "frees_total", counters->frees_total);
	put_key(t, "refs_total", counters->refs_total);
	put_key(t, "resized_total", counters->resized_total);
	put_key(t, "unknown_frees", counters->unknown_frees);
	put_key(t, "double_frees", counters->double_frees);
	put_key(t, "foreign_frees", counters->foreign_frees);
	put_key(t, "ambiguous_frees", counters->ambiguous_frees);
	put_key(t, "rerouted_frees", counters->rerouted_frees);
	put_key(t, "refused_events", counters->refused_events);
	put_key(t, "malformed_senders", server->malformed_senders);
	put_key(t, "events_lost", counters->events_lost);
	put_key(t, "history_records", registry_history_records(v->registry));
	put_key(t, "suspects", registry_suspects(v->registry));
	put_key(t, "memory_bytes", registry_memory(v->registry) + (v->symbols ? symbols_memory(v->symbols) : 0));
	put_key(t, "fs_requests", server->fs_requests);
	put_key(t, "ctl_commands", server->ctl_commands);
	put_key(t, "ctl_refused", server->ctl_refused);
	put_key(t, "unrefs_total", counters->unrefs_total);
	put_key(t, "queries_total", counters->queries_total);
	put_key(t, "dumps_total", counters->dumps_total);
	put_key(t, "history_dropped", counters->history_dropped);
	put_key(t, "refused_clients", server->refused_clients);
	put_key(t, "max_buffers", registry_max_buffers(v->registry));
	put_key(t, "peak_bytes", totals.peak);
	put_key(t, "rings", server->rings);
	put_key(t, "sites", registry_sites(v->registry));
	put_key(t, "tags", registry_tags(v->registry));
	put_key(t, "modules", registry_modules(v->registry));
	put_key(t, "history_unplaced", counters->history_unplaced);
	put_key(t, "definitions_lost", counters->definitions_lost);
	put_key(t, "turns", server->turns);
	put_key(t, "turns_over_1ms", server->turns_over_1ms);
	put_key(t, "turn_max_us", (server->turn_max_ns + 999) / 1000);
	put_key(t, "suspects_died", registry_suspects_of(v->registry, SUSPECT_DIED));
	put_key(t, "suspects_outlived", registry_suspects_of(v->registry, SUSPECT_OUTLIVED));
	put_key(t, "suspects_growing", registry_suspects_of(v->registry, SUSPECT_GROWING));
	put_time_key(t, "cleared", registry_cleared(v->registry));
	put_time_key(t, "scanned", registry_scanned(v->registry));
	return 0;
}

/* ---- devices ---- */

/* "name count bytes peak capacity used_pct allocs frees" */
static void put_totals(struct textbuf *t, const char *name, const struct totals *totals, uint64_t capacity)
{
	textbuf_puts(t, name);
	textbuf_putc(t, ' ');
	textbuf_u64(t, totals->count);
	textbuf_putc(t, ' ');
	textbuf_u64(t, totals->bytes);
	textbuf_putc(t, ' ');
	textbuf_u64(t, totals->peak);
	textbuf_putc(t, ' ');
	view_put_known(t, capacity);
	if (capacity)
		textbuf_printf(t, " %.2f ", 100.0 * (double)totals->bytes / (double)capacity);
	else
		textbuf_puts(t, " - ");
	textbuf_u64(t, totals->allocs);
	textbuf_putc(t, ' ');
	textbuf_u64(t, totals->frees);
}

static const char *row_name(unsigned type)
{
	return type < BUFFER_TYPES ? buffer_type_name(type) : "total";
}

/* The types are different memories: a sum of their capacities would be the size of nothing. */
static uint64_t row_capacity(const struct device *device, unsigned type)
{
	return type < BUFFER_TYPES ? device->capacity[type] : 0;
}

int view_device_summary(const struct view *v, const struct view_key *k, struct textbuf *t)
{
	const struct device *device = registry_device(v->registry, k->device);

	if (!device)
		return -ENOENT;
	textbuf_puts(t, "# type count bytes peak capacity used_pct allocs frees\n");
	for (unsigned type = 0; type <= BUFFER_TYPES; type++) {
		struct totals totals = registry_device_totals(device, type);
		put_totals(t, row_name(type), &totals, row_capacity(device, type));
		textbuf_putc(t, '\n');
	}
	return 0;
}

/* ---- marks ---- */

static void put_difference(struct textbuf *t, uint64_t now, uint64_t then)
{
	textbuf_putc(t, ' ');
	textbuf_i64(t, (int64_t)(now - then));
}

static void put_mark_device(const struct view *v, uint32_t mark, unsigned id, struct textbuf *t)
{
	for (unsigned type = 0; type <= BUFFER_TYPES; type++) {
		struct mark_totals totals = registry_mark_totals(v->registry, mark, id, type);

		put_totals(t, row_name(type), &totals.now, row_capacity(registry_device(v->registry, id), type));
		put_difference(t, totals.now.count, totals.count);
		put_difference(t, totals.now.bytes, totals.bytes);
		textbuf_putc(t, ' ');
		textbuf_u64(t, id);
		textbuf_putc(t, '\n');
	}
}

int view_mark_summary(const struct view *v, const struct view_key *k, struct textbuf *t)
{
	if (!registry_mark_at(v->registry, k->mark))
		return -ENOENT;
	textbuf_puts(t, "# type count bytes peak capacity used_pct allocs frees delta_count delta_bytes device\n");
	for (int id = -1; (id = registry_device_next(v->registry, (unsigned)(id + 1))) >= 0;)
		put_mark_device(v, k->mark, (unsigned)id, t);
	return 0;
}

/* ---- what a device is ---- */

int view_device_info(const struct view *v, const struct view_key *k, struct textbuf *t)
{
	const struct device *device = registry_device(v->registry, k->device);

	if (!device)
		return -ENOENT;
	put_key(t, "device", k->device);
	textbuf_puts(t, "arch ");
	textbuf_puts(t, view_arch_name(device->arch));
	textbuf_puts(t, "\ndram_capacity ");
	view_put_known(t, device->capacity[BUFFER_DRAM]);
	textbuf_puts(t, "\nl1_capacity ");
	view_put_known(t, device->capacity[BUFFER_L1]);
	textbuf_putc(t, '\n');
	put_key(t, "buffers", device->total.count);
	put_key(t, "bytes", device->total.bytes);
	put_key(t, "peak", registry_device_totals(device, BUFFER_TYPES).peak);
	return 0;
}

/* ---- processes ---- */

static void put_ancestors(struct textbuf *t, const struct process *p)
{
	textbuf_puts(t, p->ancestors[0] ? "ancestors" : "ancestors -");
	for (unsigned i = 0; i < PROCESS_ANCESTORS && p->ancestors[i]; i++)
		textbuf_printf(t, " %" PRId32, p->ancestors[i]);
	textbuf_putc(t, '\n');
}

int view_process_status(const struct view *v, const struct view_key *k, struct textbuf *t)
{
	const struct process *p = registry_process(v->registry, k->process);

	if (!p)
		return -ENOENT;
	textbuf_puts(t, "pid ");
	view_put_pid(t, p->pid);
	textbuf_puts(t, "\nreported_pid ");
	view_put_pid(t, p->reported_pid);
	textbuf_puts(t, "\ncomm ");
	textbuf_escaped(t, p->comm);
	textbuf_puts(t, "\nexe ");
	textbuf_escaped(t, p->exe);
	textbuf_putc(t, '\n');
	put_ancestors(t, p);
	put_key(t, "uid", p->uid);
	put_key(t, "gid", p->gid);
	textbuf_puts(t, p->ended ? "state dead\n" : "state live\n");
	put_time_key(t, "started", p->started);
	put_time_key(t, "connected", p->connected);
	put_time_key(t, "ended", p->ended_at);
	textbuf_puts(t, "transport ");
	view_put_transport(t, p);
	textbuf_putc(t, '\n');
	put_key(t, "events", p->events);
	put_key(t, "lost", p->lost);
	put_key(t, "double_frees", p->faults.double_frees);
	put_key(t, "unknown_frees", p->faults.unknown_frees);
	put_key(t, "foreign_frees", p->faults.foreign_frees);
	put_key(t, "rings", p->rings);
	for (unsigned type = 0; type < BUFFER_TYPES; type++) {
		const struct totals *totals = &p->type[type];
		const char *name = buffer_type_name(type);

		textbuf_puts(t, name);
		put_key(t, "_count", totals->count);
		textbuf_puts(t, name);
		put_key(t, "_bytes", totals->bytes);
		textbuf_puts(t, name);
		put_key(t, "_peak", totals->peak);
	}
	return 0;
}
