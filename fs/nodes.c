/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * nodes.c - the one table of nodes; what a row means is in nodes.h.
 *
 * At the top the few texts and settings that are no views of the registry; the table is at the end.
 */
#include "fs/nodes.h"

#define MAX_CLIENTS_LIMIT (1U << 20)  /* what the kernel lets one process open, usually */

static int show_ctl(const struct view *v, const struct view_key *k, struct textbuf *t)
{
	ctl_help(t, CTL_SCOPE_ROOT);
	return 0;
}

static int show_process_ctl(const struct view *v, const struct view_key *k, struct textbuf *t)
{
	ctl_help(t, CTL_SCOPE_PID);
	return 0;
}

static void show_value(struct textbuf *t, uint64_t value)
{
	textbuf_u64(t, value);
	textbuf_putc(t, '\n');
}

/* ---- options ---- */

static int show_history_per_buffer(const struct view *v, const struct view_key *k, struct textbuf *t)
{
	show_value(t, registry_history_per_buffer(v->registry));
	return 0;
}

static uint64_t limit_history_per_buffer(const struct view *v)
{
	return REGISTRY_HISTORY_PER_BUFFER_LIMIT;
}

static int set_history_per_buffer(struct ingest *state, struct server_info *server, uint64_t value)
{
	return registry_set_history_per_buffer(state->registry, value);
}

static int show_growth_marks(const struct view *v, const struct view_key *k, struct textbuf *t)
{
	show_value(t, registry_growth_marks(v->registry));
	return 0;
}

static uint64_t limit_growth_marks(const struct view *v)
{
	return GROWTH_MARKS_MAX;
}

static int set_growth_marks(struct ingest *state, struct server_info *server, uint64_t value)
{
	return registry_set_growth_marks(state->registry, value);
}

static int show_trace_events(const struct view *v, const struct view_key *k, struct textbuf *t)
{
	show_value(t, v->trace->size);
	return 0;
}

static uint64_t limit_trace_events(const struct view *v)
{
	return TRACE_EVENTS_MAX;
}

static int set_trace_events(struct ingest *state, struct server_info *server, uint64_t value)
{
	return trace_resize(state->trace, value);
}

static int show_max_buffers(const struct view *v, const struct view_key *k, struct textbuf *t)
{
	show_value(t, registry_max_buffers(v->registry));
	return 0;
}

static uint64_t limit_max_buffers(const struct view *v)
{
	return registry_max_buffers_limit(v->registry);
}

static int set_max_buffers(struct ingest *state, struct server_info *server, uint64_t value)
{
	return registry_set_max_buffers(state->registry, value);
}

static int show_max_clients(const struct view *v, const struct view_key *k, struct textbuf *t)
{
	show_value(t, v->server->max_clients);
	return 0;
}

static uint64_t limit_max_clients(const struct view *v)
{
	return MAX_CLIENTS_LIMIT;
}

static int set_max_clients(struct ingest *state, struct server_info *server, uint64_t value)
{
	server->max_clients = (uint32_t)value;
	return 0;
}

static int show_min_age_ms(const struct view *v, const struct view_key *k, struct textbuf *t)
{
	show_value(t, registry_min_age_ms(v->registry));
	return 0;
}

static uint64_t limit_min_age_ms(const struct view *v)
{
	return REGISTRY_MIN_AGE_MS_LIMIT;
}

static int set_min_age_ms(struct ingest *state, struct server_info *server, uint64_t value)
{
	return registry_set_min_age_ms(state->registry, value);
}

static int show_min_size(const struct view *v, const struct view_key *k, struct textbuf *t)
{
	show_value(t, registry_min_size(v->registry));
	return 0;
}

static uint64_t limit_min_size(const struct view *v)
{
	return BUFFER_SIZE_MAX;
}

static int set_min_size(struct ingest *state, struct server_info *server, uint64_t value)
{
	return registry_set_min_size(state->registry, value);
}

static int show_suppressions(const struct view *v, const struct view_key *k, struct textbuf *t)
{
	size_t len;
	const char *text = registry_suppressions(v->registry, &len);

	if (len)
		textbuf_put(t, text, len);
	return 0;
}

static int set_suppressions(struct ingest *state, const char *text, size_t len, struct textbuf *why)
{
	return registry_set_suppressions(state->registry, text, len, why);
}

static const struct node_option option_growth_marks = { GROWTH_MARKS_MIN, limit_growth_marks, set_growth_marks };
static const struct node_option option_history_per_buffer = { 0, limit_history_per_buffer, set_history_per_buffer };
static const struct node_option option_trace_events = { TRACE_EVENTS_MIN, limit_trace_events, set_trace_events };
static const struct node_option option_max_buffers = { 1, limit_max_buffers, set_max_buffers };
static const struct node_option option_max_clients = { 1, limit_max_clients, set_max_clients };
static const struct node_option option_min_age_ms = { 0, limit_min_age_ms, set_min_age_ms };
static const struct node_option option_min_size = { 0, limit_min_size, set_min_size };

/* ---- the table ---- */

#define DIR(path) { path, NODE_DIR, .mode = 0555 }
#define OWNER_DIR(path) { path, NODE_DIR, .mode = 0755 }
#define TEXT(path, view) { path, NODE_TEXT, .mode = 0444, .show = view }
#define CONSTANT(path, view) { path, NODE_TEXT, .mode = 0444, .constant = true, .show = view }
#define TABLE(path, view) { path, NODE_TABLE, .mode = 0444, .table = view }
#define CTL(path, bits, which, help) \
	{ path, NODE_CTL, .mode = bits, .constant = true, .scope = which, .show = help }
#define OPTION(name) \
	{ "options/" #name, NODE_OPTION, .mode = 0644, .show = show_##name, .option = &option_##name }

#define LIST(name) \
	{ "options/" #name, NODE_LIST, .mode = 0644, .show = show_##name, .set = set_##name }

const struct node nodes[] = {
	DIR(""),
	CONSTANT("README", view_readme),
	CONSTANT("version", view_version),
	CTL("ctl", 0664, CTL_SCOPE_ROOT, show_ctl),
	TEXT("error_log", view_error_log),
	TEXT("summary", view_summary),
	TEXT("stats", view_stats),
	TABLE("allocs", view_allocs),
	TABLE("suspects", view_suspects),
	TABLE("sites", view_sites),
	TABLE("processes", view_processes),
	{ "events", NODE_STREAM, .mode = 0444 },
	TABLE("trace", view_trace),
	DIR("leaks"),
	TEXT("leaks/{leak}", view_leak),
	DIR("stacks"),
	TEXT("stacks/{site}", view_site),
	DIR("pids"),
	DIR("pids/{pid}"),
	TEXT("pids/{pid}/status", view_process_status),
	TABLE("pids/{pid}/allocs", view_process_allocs),
	TABLE("pids/{pid}/sites", view_process_sites),
	CTL("pids/{pid}/ctl", 0644, CTL_SCOPE_PID, show_process_ctl),
	DIR("marks"),
	DIR("marks/{mark}"),
	TEXT("marks/{mark}/summary", view_mark_summary),
	TABLE("marks/{mark}/allocs", view_mark_allocs),
	OWNER_DIR("dumps"),
	{ "dumps/{dump}", NODE_DUMP, .mode = 0444, .constant = true },
	DIR("options"),
	OPTION(growth_marks),
	OPTION(history_per_buffer),
	OPTION(trace_events),
	OPTION(max_buffers),
	OPTION(max_clients),
	OPTION(min_age_ms),
	OPTION(min_size),
	LIST(suppressions),
	DIR("device{device}"),
	TEXT("device{device}/summary", view_device_summary),
	TEXT("device{device}/info", view_device_info),
	TABLE("device{device}/allocs", view_device_allocs),
	TABLE("device{device}/map", view_device_map),
	DIR("device{device}/history"),
	TEXT("device{device}/history/{past}", view_past),
	DIR("device{device}/{type}"),
	TEXT("device{device}/{type}/{address}", view_buffer),
};

const unsigned nodes_count = sizeof(nodes) / sizeof(nodes[0]);
