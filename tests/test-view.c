/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * test-view.c - what every file of the mount looks like: the views' texts against golden files, and names.
 *
 * The golden files are in the directory that the environment variable TTALLOC_GOLDEN names, or else in the one that
 * was compiled in. When a format was changed on purpose, write them anew and read the difference:
 *
 *   TTALLOC_GOLDEN_UPDATE=1 build/tests/test-view && git diff tests/golden
 *
 * What tables do in pieces and under change is the matter of test-view-tables.c.
 */
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/util-registry.h"
#include "tracker/mark.h"
#include "tracker/symbols.h"
#include "tracker/view.h"

#ifndef TTALLOC_GOLDEN_DIR
#define TTALLOC_GOLDEN_DIR "tests/golden"
#endif

#define GIB (UINT64_C(1) << 30)
#define MIB (UINT64_C(1) << 20)
#define SECOND UINT64_C(1000000000)
#define FIRE "\xf0\x9f\x94\xa5"  /* a character of four bytes */

/* A world with something of everything in it. */
struct world {
	struct util *u;
	struct server_info server;
	struct view view;
	uint32_t python;   /* slots of processes */
	uint32_t worker;
	uint32_t trainer;  /* ended, with buffers left */
	uint32_t hidden;   /* the server cannot see its pid */
	struct symbols *symbols;
	uint32_t site[5];  /* from 1 on */
	uint32_t tag[3];   /* the same */
};

static void world_init(struct world *w)
{
	*w = (struct world){ .u = util_new(0, 0, 0) };
	w->server = (struct server_info){
		.version = "0.1.0",
		.pid = 4711,
		.instance = "6f1c0a2b3c4d5e6f",
		.started = UTIL_NOW - 100000 * SECOND,
		.mountpoint = "/mnt/ttalloc",
		.socket = "/run/ttalloc/ttalloc.sock",
		.compat_socket = "/tmp/tt_allocation_server.sock",
		.clients = 3,
		.max_clients = 4096,
		.fs_requests = 1234,
		.ctl_commands = 5,
		.ctl_refused = 1,
		.turns = 70000,
		.turns_over_1ms = 2,
		.turn_max_ns = 1234567,
	};
	ck_assert_int_eq(symbols_new(&w->symbols, 42), 0);
	w->view = (struct view){
		.symbols = w->symbols,
		.registry = w->u->reg,
		.trace = &w->u->trace,
		.errlog = &w->u->errlog,
		.server = &w->server,
		.now = UTIL_NOW,
	};
}

static void world_free(struct world *w)
{
	symbols_free(w->symbols);
	util_free(w->u);
}

/* Sets the time of what follows, `seconds` before the tests' now. */
static void ago(struct world *w, uint64_t seconds)
{
	w->u->now = UTIL_NOW - seconds * SECOND;
}

static void load_kernel(struct world *w, uint32_t process, unsigned kernel_class, uint64_t id, uint64_t size)
{
	util_event(w->u, (struct event){
		.type = TTALLOC_MSG_KERNEL_LOAD,
		.wire_type = (uint8_t)kernel_class,
		.dialect = 144,
		.process = process,
		.address = id,
		.size = size,
	});
}

static void world_processes(struct world *w)
{
	struct process_identity hidden = { .uid = 1002, .gid = 1002 };

	ago(w, 900);
	w->python = util_process(w->u, 12345, 1000, "python3");
	registry_process_dialect(w->u->reg, w->python, 72);
	ago(w, 800);
	w->worker = util_process(w->u, 12400, 1001, "llm worker%1");
	registry_process_dialect(w->u->reg, w->worker, EVENT_RING);
	registry_process_ring(w->u->reg, w->worker, true);
	w->trainer = util_process(w->u, 13000, 1000, "trainer");
	registry_process_dialect(w->u->reg, w->trainer, 112);
	ck_assert_int_eq(registry_process_add(w->u->reg, &hidden, w->u->now, &w->hidden), 0);
	registry_process_reported(w->u->reg, w->hidden, 7);
	registry_process_lost(w->u->reg, w->hidden, 2);
}

static uint32_t define_tag(struct world *w, const char *text)
{
	return registry_tag(w->u->reg, text, strlen(text), 1000);
}

/* Frames of every kind: with and without the name of their function, their file, and any of it. */
static void world_sites(struct world *w)
{
	static const uint8_t build_id[] = { 0xab, 0xcd, 0x01 };
	struct registry *reg = w->u->reg;
	uint32_t lib = registry_module(reg, build_id, 3, "/usr/lib/libtt metal.so", 23, 1000);
	uint32_t app = registry_module(reg, NULL, 0, "/opt/app/train", 14, 1000);
	uint32_t deleted = registry_module(reg, build_id, 2, NULL, 0, 1000);
	const struct site_frame deep[] = { { lib, 0x1234 }, { app, 0x10 }, { 0, 0x7fff00001234 } };
	const struct site_frame frame[] = { { app, 0x2000 }, { deleted, 0x77 }, { 0, 0x7f00dead } };

	w->site[1] = registry_site(reg, TTALLOC_STACK_FRAME_POINTER, false, deep, 3, 1000);
	w->site[2] = registry_site(reg, TTALLOC_STACK_RETURN_ADDRESS, true, &frame[0], 1, 1000);
	w->site[3] = registry_site(reg, TTALLOC_STACK_RETURN_ADDRESS, false, &frame[1], 1, 1000);
	w->site[4] = registry_site(reg, 77, false, &frame[2], 1, 1000);
	w->tag[1] = define_tag(w, "layer 0/attn%");
	w->tag[2] = define_tag(w, "train");
	symbols_want(w->symbols, lib, 0x1234, 1);
	ck_assert_uint_eq(symbols_ask(w->symbols, lib, &(uint64_t){ 0 }, 1), 1);
	symbols_add(w->symbols, lib, 0x1234, "tt::Buffer::create(int, int)");
	symbols_want(w->symbols, app, 0x10, 1);
}

static void world_events(struct world *w)
{
	struct util *u = w->u;

	/* An address with a past, as in the documentation. */
	ago(w, 103);
	util_alloc_at(u, w->python, 0, BUFFER_DRAM, 0x40000000, 524288, w->site[1], 0);
	ago(w, 102);
	util_release(u, w->python, 0, 0x40000000);
	ago(w, 101);
	util_alloc_at(u, w->python, 0, BUFFER_DRAM, 0x40000000, 4096, w->site[1], 0);
	util_release(u, w->python, 0, 0x40000000);
	ago(w, 61);
	util_alloc_at(u, w->python, 0, BUFFER_DRAM, 0x40000000, 12288, w->site[1], w->tag[1]);
	/* One address of three owners, one of whom ends; references, another size. */
	ago(w, 60);
	util_alloc_at(u, w->trainer, 0, BUFFER_DRAM, 0x40010000, 65536, w->site[2], w->tag[2]);
	util_alloc_at(u, w->worker, 0, BUFFER_DRAM, 0x40010000, 32768, w->site[1], 0);
	util_alloc_at(u, w->worker, 0, BUFFER_DRAM, 0x40010000, 32768, w->site[2], w->tag[2]);
	util_alloc(u, w->worker, 0, BUFFER_DRAM, 0x40010000, 24576);
	ago(w, 59);
	util_alloc(u, w->hidden, 0, BUFFER_DRAM, 0x40010000, 1000);
	/* Every other type. */
	util_alloc_at(u, w->python, 0, BUFFER_L1, 0x40000000, 5 * MIB + 790000, w->site[3], 0);
	util_alloc(u, w->python, 0, BUFFER_SYSTEM_MEMORY, 0x1000, 3 * GIB);
	util_alloc(u, w->worker, 0, BUFFER_L1_SMALL, 0x2000, 512);
	util_alloc(u, w->worker, 0, BUFFER_TRACE, 0x7fff00000000, 2 * MIB);
	util_alloc_at(u, w->worker, 0, BUFFER_CB, 0x3000, 2048, w->site[4], 0);
	load_kernel(w, w->python, TTALLOC_WIRE_KERNEL_APPLICATION, 0xabcdef, 30000);
	load_kernel(w, w->trainer, TTALLOC_WIRE_KERNEL_FABRIC, 0x77, 10240);
	util_alloc_at(u, w->worker, 1, BUFFER_DRAM, 0x50000000, GIB, w->site[1], w->tag[2]);
	util_alloc(u, w->trainer, 1, BUFFER_DRAM, 0x90000000, 10 * GIB);
	/* What could not be booked. */
	ago(w, 50);
	util_release(u, w->python, 0, 0x66660000);
	util_alloc(u, w->python, 0, BUFFER_DRAM, 0x60000000, 4096);
	util_release(u, w->python, 0, 0x60000000);
	util_release(u, w->python, 0, 0x60000000);
	util_alloc(u, w->worker, 5000, BUFFER_DRAM, 0x1000, 4096);
	util_alloc(u, w->worker, 5000, BUFFER_DRAM, 0x1000, 4096);
	ago(w, 40);
	ingest_exit(&u->in, w->trainer, u->now);
}

static void world_busy(struct world *w)
{
	world_init(w);
	registry_device_declare(w->u->reg, 0, 12 * GIB, 96 * MIB, TTALLOC_WIRE_ARCH_WORMHOLE_B0);
	world_processes(w);
	world_sites(w);
	world_events(w);
}

/* ---- the texts ---- */

static void make_table(struct world *w, view_table table, struct view_key key, struct textbuf *t)
{
	struct view_cursor c = { 0 };
	int r;

	while ((r = table(&w->view, &key, &c, 4096, t)) == 1)
		;
	ck_assert_int_eq(r, 0);
	view_table_end(&c);
}

static uint32_t slot_of(struct world *w, unsigned device, unsigned type, uint64_t address)
{
	struct buffer b;

	ck_assert_uint_ge(registry_find(w->u->reg, device, type, address, &b, 1), 1);
	return b.slot;
}

static uint32_t slot_of_owner(struct world *w, unsigned type, uint64_t address, uint32_t process)
{
	struct buffer b;

	ck_assert_uint_eq(registry_own(w->u->reg, process, 0, address, 1U << type, &b), 1);
	return b.slot;
}

static void make_buffer(struct world *w, view_text text, unsigned type, uint64_t address, struct textbuf *t)
{
	struct view_key key = { .device = 0, .type = type, .slot = slot_of(w, 0, type, address) };

	ck_assert_int_eq(text(&w->view, &key, t), 0);
}

static void make_readme(struct world *w, struct textbuf *t)
{
	ck_assert_int_eq(view_readme(&w->view, NULL, t), 0);
}

static void make_readme_deep(struct world *w, struct textbuf *t)
{
	w->server.mountpoint = "/home/somebody/some/rather/long/path/to/a/mountpoint";
	ck_assert_int_eq(view_readme(&w->view, NULL, t), 0);
}

static void make_version(struct world *w, struct textbuf *t)
{
	ck_assert_int_eq(view_version(&w->view, NULL, t), 0);
}

static void make_error_log(struct world *w, struct textbuf *t)
{
	ck_assert_int_eq(view_error_log(&w->view, NULL, t), 0);
}

/* How much memory the registry takes is its own affair: that number is replaced. */
static void make_stats(struct world *w, struct textbuf *t)
{
	static const char key[] = "memory_bytes ";
	struct textbuf raw = TEXTBUF_INIT;
	char *number;

	ck_assert_int_eq(view_stats(&w->view, NULL, &raw), 0);
	textbuf_putc(&raw, '\0');
	number = strstr(raw.data, key);
	ck_assert_ptr_nonnull(number);
	number += sizeof(key) - 1;
	ck_assert_uint_eq(strtoull(number, NULL, 10), registry_memory(w->u->reg) + symbols_memory(w->symbols));
	textbuf_put(t, raw.data, (size_t)(number - raw.data));
	textbuf_puts(t, "N");
	textbuf_puts(t, strchr(number, '\n'));
	textbuf_deinit(&raw);
}

static void make_summary(struct world *w, struct textbuf *t)
{
	ck_assert_int_eq(view_summary(&w->view, NULL, t), 0);
}

static void make_summary_eight(struct world *w, struct textbuf *t)
{
	for (int id = 0; id < 8; id++)
		registry_device_declare(w->u->reg, (unsigned)id, 12 * GIB, 0, 0);
	w->server.malformed_senders = 1;
	for (int i = 0; i < 14; i++) {
		uint32_t process = util_process(w->u, 20000 + i, 1000, "a-command-with-a-very-long-name");

		util_alloc(w->u, process, 2 + i % 4, BUFFER_L1, 0x1000, (uint64_t)(i + 1) * 10000);
	}
	make_summary(w, t);
}

static void make_summary_idle(struct world *w, struct textbuf *t)
{
	util_release(w->u, w->worker, 1, 0x50000000);
	ck_assert_int_eq(registry_clean_step(w->u->reg, w->trainer, &(uint64_t){ 0 }, 1000, &(uint64_t){ 0 }), 0);
	make_summary(w, t);
}

static void make_device_summary(struct world *w, struct textbuf *t)
{
	ck_assert_int_eq(view_device_summary(&w->view, &(struct view_key){ .device = 0 }, t), 0);
}

static void make_device_summary_unknown(struct world *w, struct textbuf *t)
{
	ck_assert_int_eq(view_device_summary(&w->view, &(struct view_key){ .device = 1 }, t), 0);
}

static void make_device_info(struct world *w, struct textbuf *t)
{
	ck_assert_int_eq(view_device_info(&w->view, &(struct view_key){ .device = 0 }, t), 0);
}

static void make_device_info_unknown(struct world *w, struct textbuf *t)
{
	ck_assert_int_eq(view_device_info(&w->view, &(struct view_key){ .device = 1 }, t), 0);
}

static void make_buffer_one(struct world *w, struct textbuf *t)
{
	make_buffer(w, view_buffer, BUFFER_DRAM, 0x40000000, t);
}

static void make_buffer_owners(struct world *w, struct textbuf *t)
{
	make_buffer(w, view_buffer, BUFFER_DRAM, 0x40010000, t);
}

static void make_buffer_kernel(struct world *w, struct textbuf *t)
{
	make_buffer(w, view_buffer, BUFFER_KERNEL, 0xabcdef, t);
}

static void make_leak(struct world *w, struct textbuf *t)
{
	struct view_key key = { .slot = slot_of_owner(w, BUFFER_DRAM, 0x40010000, w->trainer) };

	ck_assert_int_eq(view_leak(&w->view, &key, t), 0);
}

static void make_leak_kernel(struct world *w, struct textbuf *t)
{
	make_buffer(w, view_leak, BUFFER_KERNEL, 0x77, t);
}

static void make_status(struct world *w, struct textbuf *t)
{
	ck_assert_int_eq(view_process_status(&w->view, &(struct view_key){ .process = w->python }, t), 0);
}

static void make_status_dead(struct world *w, struct textbuf *t)
{
	ck_assert_int_eq(view_process_status(&w->view, &(struct view_key){ .process = w->trainer }, t), 0);
}

static void make_status_hidden(struct world *w, struct textbuf *t)
{
	ck_assert_int_eq(view_process_status(&w->view, &(struct view_key){ .process = w->hidden }, t), 0);
}

static void make_allocs(struct world *w, struct textbuf *t)
{
	make_table(w, view_allocs, (struct view_key){ 0 }, t);
}

static void make_device_allocs(struct world *w, struct textbuf *t)
{
	make_table(w, view_device_allocs, (struct view_key){ .device = 1 }, t);
}

static void make_process_allocs(struct world *w, struct textbuf *t)
{
	make_table(w, view_process_allocs, (struct view_key){ .process = w->worker }, t);
}

static void make_sites(struct world *w, struct textbuf *t)
{
	make_table(w, view_sites, (struct view_key){ 0 }, t);
}

static void make_process_sites(struct world *w, struct textbuf *t)
{
	make_table(w, view_process_sites, (struct view_key){ .process = w->worker }, t);
}

static void make_site(struct world *w, struct textbuf *t)
{
	ck_assert_int_eq(view_site(&w->view, &(struct view_key){ .site = w->site[1] }, t), 0);
}

static void make_site_truncated(struct world *w, struct textbuf *t)
{
	ck_assert_int_eq(view_site(&w->view, &(struct view_key){ .site = w->site[2] }, t), 0);
}

/* Without anybody who knows names, and found in a way that is not known here. */
static void make_site_nameless(struct world *w, struct textbuf *t)
{
	w->view.symbols = NULL;
	ck_assert_int_eq(view_site(&w->view, &(struct view_key){ .site = w->site[1] }, t), 0);
	ck_assert_int_eq(view_site(&w->view, &(struct view_key){ .site = w->site[4] }, t), 0);
}

static void make_past(struct world *w, struct textbuf *t)
{
	const struct view_key key = { .device = 0, .address = 0x40000000 };

	util_alloc(w->u, w->python, 0, BUFFER_L1, 0x40000000, 64);
	util_release(w->u, w->python, 0, 0x40000000);
	ck_assert_int_eq(view_past(&w->view, &key, t), 0);
}

/* Something goes, something comes, a device is new, and a peak is over. */
static uint32_t marked(struct world *w)
{
	ck_assert_int_eq(registry_mark(w->u->reg, "a", 1, w->u->now), 0);
	util_release(w->u, w->python, 0, 0x40000000);
	util_alloc(w->u, w->worker, 0, BUFFER_DRAM, 0x70000000, 1 << 20);
	util_alloc(w->u, w->worker, 0, BUFFER_DRAM, 0x71000000, 100);
	util_release(w->u, w->worker, 0, 0x70000000);
	util_alloc(w->u, w->worker, 7, BUFFER_L1, 0x100, 200);
	return registry_mark_find(w->u->reg, "a");
}

static void make_mark_summary(struct world *w, struct textbuf *t)
{
	const struct view_key key = { .mark = marked(w) };

	ck_assert_int_eq(view_mark_summary(&w->view, &key, t), 0);
}

static void make_mark_allocs(struct world *w, struct textbuf *t)
{
	make_table(w, view_mark_allocs, (struct view_key){ .mark = marked(w) }, t);
}

/* 64 bytes at each of five marks, by one process. */
static void grow(struct world *w)
{
	for (uint64_t i = 0; i < 6; i++) {
		util_alloc_at(w->u, w->python, 0, BUFFER_DRAM, 0x60000000 + 64 * i, 64, w->site[1], 0);
		ck_assert_int_eq(registry_mark(w->u->reg, "step", 4, w->u->now), 0);
	}
}

static void make_sites_growing(struct world *w, struct textbuf *t)
{
	grow(w);
	make_table(w, view_sites, (struct view_key){ 0 }, t);
}

static void make_process_sites_growing(struct world *w, struct textbuf *t)
{
	grow(w);
	make_table(w, view_process_sites, (struct view_key){ .process = w->python }, t);
}

static void make_suspects(struct world *w, struct textbuf *t)
{
	make_table(w, view_suspects, (struct view_key){ 0 }, t);
}

/* Linked instead of registry_growing(): what grows is what the test says. */
static bool l1_grows;

bool __real_registry_growing(const struct registry *reg, const struct buffer *b, struct growth *out);
bool __wrap_registry_growing(const struct registry *reg, const struct buffer *b, struct growth *out);

bool __wrap_registry_growing(const struct registry *reg, const struct buffer *b, struct growth *out)
{
	return l1_grows ? b->type == BUFFER_L1 : __real_registry_growing(reg, b, out);
}

/* A baseline, and then a suspect of each kind: places 0x100, 0x200, 0x300. */
static void judged(struct world *w)
{
	uint32_t child;
	uint64_t pos = 0;

	ago(w, 20);
	child = util_process(w->u, 14000, 1000, "child");
	registry_clear(w->u->reg, w->u->now);
	ago(w, 10);
	util_alloc_at(w->u, w->worker, 0, BUFFER_DRAM, 0x100, 4096, w->site[1], w->tag[1]);
	util_alloc(w->u, w->hidden, 0, BUFFER_L1, 0x200, 77);
	util_alloc_at(w->u, child, 1, BUFFER_DRAM, 0x300, 1, w->site[2], 0);
	ago(w, 5);
	ingest_exit(&w->u->in, child, w->u->now);
	l1_grows = true;
	while (registry_judge_step(w->u->reg, w->u->now, &pos, 1000))
		;
	l1_grows = false;
}

static void make_suspects_judged(struct world *w, struct textbuf *t)
{
	judged(w);
	make_suspects(w, t);
}

static void make_judged(struct world *w, unsigned type, uint64_t address, struct textbuf *t)
{
	struct buffer b;

	judged(w);
	ck_assert_uint_eq(registry_find(w->u->reg, 0, type, address, &b, 1), 1);
	ck_assert_int_eq(view_leak(&w->view, &(struct view_key){ .slot = b.slot }, t), 0);
}

static void make_leak_outlived(struct world *w, struct textbuf *t)
{
	make_judged(w, BUFFER_DRAM, 0x100, t);
}

static void make_leak_growing(struct world *w, struct textbuf *t)
{
	make_judged(w, BUFFER_L1, 0x200, t);
}

static void make_stats_judged(struct world *w, struct textbuf *t)
{
	judged(w);
	make_stats(w, t);
}

static void make_summary_judged(struct world *w, struct textbuf *t)
{
	judged(w);
	make_summary(w, t);
}

static void make_processes(struct world *w, struct textbuf *t)
{
	make_table(w, view_processes, (struct view_key){ 0 }, t);
}

static void make_trace(struct world *w, struct textbuf *t)
{
	make_table(w, view_trace, (struct view_key){ 0 }, t);
}

static void make_map(struct world *w, struct textbuf *t)
{
	make_table(w, view_device_map, (struct view_key){ .device = 0 }, t);
}

static void make_dump(struct world *w, struct textbuf *t)
{
	/* More of a past than one line takes. */
	for (int i = 0; i < 4; i++) {
		util_alloc(w->u, w->python, 0, BUFFER_L1, 0x5000, 1024);
		util_release(w->u, w->python, 0, 0x5000);
	}
	util_alloc(w->u, w->python, 0, BUFFER_L1, 0x5000, 1023);
	make_table(w, view_dump, (struct view_key){ 0 }, t);
}

static void make_dump_plain(struct world *w, struct textbuf *t)
{
	make_table(w, view_dump, (struct view_key){ 0 }, t);
}

static const struct {
	const char *name;
	void (*make)(struct world *w, struct textbuf *t);
	bool empty;  /* in a world where nothing has happened yet */
} goldens[] = {
	{ "readme", make_readme, true },
	{ "readme-deep", make_readme_deep, true },
	{ "version", make_version, true },
	{ "error_log", make_error_log, false },
	{ "stats", make_stats, false },
	{ "stats-empty", make_stats, true },
	{ "summary", make_summary, false },
	{ "summary-empty", make_summary, true },
	{ "summary-eight-devices", make_summary_eight, false },
	{ "summary-idle-device", make_summary_idle, false },
	{ "device-summary", make_device_summary, false },
	{ "device-summary-unknown", make_device_summary_unknown, false },
	{ "device-info", make_device_info, false },
	{ "device-info-unknown", make_device_info_unknown, false },
	{ "buffer", make_buffer_one, false },
	{ "buffer-owners", make_buffer_owners, false },
	{ "buffer-kernel", make_buffer_kernel, false },
	{ "leak", make_leak, false },
	{ "leak-kernel", make_leak_kernel, false },
	{ "process-status", make_status, false },
	{ "process-status-dead", make_status_dead, false },
	{ "process-status-hidden", make_status_hidden, false },
	{ "allocs", make_allocs, false },
	{ "allocs-empty", make_allocs, true },
	{ "device-allocs", make_device_allocs, false },
	{ "process-allocs", make_process_allocs, false },
	{ "sites", make_sites, false },
	{ "sites-empty", make_sites, true },
	{ "process-sites", make_process_sites, false },
	{ "sites-growing", make_sites_growing, false },
	{ "process-sites-growing", make_process_sites_growing, false },
	{ "past", make_past, false },
	{ "mark-summary", make_mark_summary, false },
	{ "mark-allocs", make_mark_allocs, false },
	{ "site", make_site, false },
	{ "site-truncated", make_site_truncated, false },
	{ "site-nameless", make_site_nameless, false },
	{ "suspects", make_suspects, false },
	{ "suspects-empty", make_suspects, true },
	{ "suspects-judged", make_suspects_judged, false },
	{ "leak-outlived", make_leak_outlived, false },
	{ "leak-growing", make_leak_growing, false },
	{ "stats-judged", make_stats_judged, false },
	{ "summary-judged", make_summary_judged, false },
	{ "processes", make_processes, false },
	{ "trace", make_trace, false },
	{ "map", make_map, false },
	{ "dump", make_dump, false },
	{ "dump-empty", make_dump_plain, true },
};
#define GOLDENS ((int)(sizeof(goldens) / sizeof(goldens[0])))

static void golden_path(const char *name, char *path, size_t size)
{
	const char *dir = getenv("TTALLOC_GOLDEN");

	snprintf(path, size, "%s/%s.txt", dir ? dir : TTALLOC_GOLDEN_DIR, name);
}

static void golden_write(const char *path, const struct textbuf *t)
{
	FILE *f = fopen(path, "w");

	ck_assert_msg(f != NULL, "%s: %s", path, strerror(errno));
	ck_assert_uint_eq(fwrite(t->data, 1, t->len, f), t->len);
	ck_assert_int_eq(fclose(f), 0);
}

static void golden_compare(const char *path, struct textbuf *t)
{
	static char expected[1 << 16];
	FILE *f = fopen(path, "r");
	size_t len;

	ck_assert_msg(f != NULL, "%s: %s", path, strerror(errno));
	len = fread(expected, 1, sizeof(expected) - 1, f);
	fclose(f);
	expected[len] = '\0';
	textbuf_putc(t, '\0');
	ck_assert_msg(t->len == len + 1 && !memcmp(t->data, expected, len),
		      "%s differs; expected:\n%s\nfound:\n%s", path, expected, t->data);
}

START_TEST(golden)
{
	struct textbuf t = TEXTBUF_INIT;
	char path[4096];
	struct world w;

	if (goldens[_i].empty)
		world_init(&w);
	else
		world_busy(&w);
	goldens[_i].make(&w, &t);
	ck_assert_int_eq(textbuf_error(&t), 0);
	golden_path(goldens[_i].name, path, sizeof(path));
	if (getenv("TTALLOC_GOLDEN_UPDATE"))
		golden_write(path, &t);
	golden_compare(path, &t);
	textbuf_deinit(&t);
	world_free(&w);
}
END_TEST

/* ---- what the texts promise beyond their wording ---- */

static void check_screen(const struct textbuf *t, size_t max_lines)
{
	size_t lines = 0;

	for (const char *line = t->data; line < t->data + t->len; lines++) {
		const char *end = memchr(line, '\n', (size_t)(t->data + t->len - line));

		ck_assert_ptr_nonnull(end);
		ck_assert_msg(end - line <= 80, "too wide: %.*s", (int)(end - line), line);
		line = end + 1;
	}
	ck_assert_uint_le(lines, max_lines);
}

START_TEST(fits_the_screen)
{
	struct textbuf t = TEXTBUF_INIT;
	struct world w;

	world_busy(&w);
	make_readme(&w, &t);
	check_screen(&t, 60);
	textbuf_clear(&t);
	make_summary(&w, &t);
	check_screen(&t, 24);
	textbuf_clear(&t);
	/* Eight devices and more than ten processes are not the usual machine. */
	make_summary_eight(&w, &t);
	check_screen(&t, 30);
	textbuf_deinit(&t);
	world_free(&w);
}
END_TEST

/* The largest numbers there can be still make lines of 80 columns. */
START_TEST(summary_of_extremes)
{
	struct textbuf t = TEXTBUF_INIT;
	struct world w;

	world_init(&w);
	w.server.started = 1;
	w.view.now = UINT64_MAX;
	registry_device_declare(w.u->reg, 1023, 1, UINT64_MAX, 99);
	w.hidden = util_process(w.u, INT32_MAX, UINT32_MAX, FIRE FIRE FIRE FIRE FIRE FIRE FIRE);
	for (uint64_t i = 0; i < 100; i++) {
		util_alloc(w.u, w.hidden, 1023, BUFFER_DRAM, i, BUFFER_SIZE_MAX);
		util_alloc(w.u, w.hidden, 1023, BUFFER_L1, i, BUFFER_SIZE_MAX);
	}
	make_summary(&w, &t);
	check_screen(&t, 24);
	textbuf_putc(&t, '\0');
	ck_assert_ptr_nonnull(strstr(t.data, FIRE "+\n"));
	textbuf_deinit(&t);
	world_free(&w);
}
END_TEST

START_TEST(summary_units)
{
	static const struct {
		uint64_t bytes;
		const char *text;
	} sizes[] = {
		{ 1, "     1 B" },       { 999, "   999 B" },     { 1000, " 1.0 KiB" },
		{ 1024, " 1.0 KiB" },    { 1200, " 1.2 KiB" },    { 1023948, "999.9 KiB" },
		{ 1023949, " 1.0 MiB" }, { MIB, " 1.0 MiB" },     { 12 * GIB, "12.0 GiB" },
		{ 1000 * GIB, " 1.0 TiB" }, { BUFFER_SIZE_MAX, "64.0 PiB" },
	};

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		struct textbuf t = TEXTBUF_INIT;
		const char *line;
		struct world w;

		world_init(&w);
		w.python = util_process(w.u, 12345, 1000, "python3");
		util_alloc(w.u, w.python, 0, BUFFER_L1, 0, sizes[i].bytes);
		make_summary(&w, &t);
		textbuf_putc(&t, '\0');
		line = strstr(t.data, "\n  l1 ");
		ck_assert_ptr_nonnull(line);
		ck_assert_msg(!strncmp(line + 25 - strlen(sizes[i].text) + 1, sizes[i].text, strlen(sizes[i].text)),
			      "%s: %s", sizes[i].text, line);
		textbuf_deinit(&t);
		world_free(&w);
	}
}
END_TEST

/* A clock that was set back does not make ages of centuries. */
START_TEST(ages_are_not_negative)
{
	struct textbuf t = TEXTBUF_INIT;
	struct world w;

	world_busy(&w);
	w.view.now = UTIL_NOW - 10000 * SECOND;
	make_dump_plain(&w, &t);
	make_suspects(&w, &t);
	textbuf_putc(&t, '\0');
	ck_assert_ptr_nonnull(strstr(t.data, " allocated 0.0 s ago"));
	ck_assert_ptr_nonnull(strstr(t.data, " dead 0.0 "));
	textbuf_deinit(&t);
	world_free(&w);
}
END_TEST

START_TEST(history_is_whole)
{
	struct textbuf t = TEXTBUF_INIT;
	struct world w;
	int lines = 0;

	world_init(&w);
	w.python = util_process(w.u, 12345, 1000, "python3");
	for (int i = 0; i < 50; i++)
		util_alloc(w.u, w.python, 0, BUFFER_L1, 0x1000, 1024);
	make_buffer(&w, view_buffer, BUFFER_L1, 0x1000, &t);
	textbuf_putc(&t, '\0');
	for (const char *line = t.data; (line = strstr(line, "\n  ")) != NULL; line++)
		lines++;
	ck_assert_int_eq(lines, 50);
	textbuf_deinit(&t);
	world_free(&w);
}
END_TEST

START_TEST(gone)
{
	struct textbuf t = TEXTBUF_INIT;
	struct view_cursor c = { 0 };
	struct view_key key;
	struct world w;

	world_busy(&w);
	key = (struct view_key){ .slot = slot_of(&w, 0, BUFFER_L1, 0x40000000) };
	ck_assert_int_eq(view_leak(&w.view, &key, &t), -ENOENT);
	/* DRAM and L1 share the address; the newer one is taken first. */
	util_release(w.u, w.python, 0, 0x40000000);
	ck_assert_int_eq(view_buffer(&w.view, &key, &t), -ENOENT);
	ck_assert_int_eq(view_leak(&w.view, &key, &t), -ENOENT);
	key = (struct view_key){ .slot = UINT32_MAX, .device = 7, .process = 999, .site = 99 };
	ck_assert_int_eq(view_buffer(&w.view, &key, &t), -ENOENT);
	ck_assert_int_eq(view_leak(&w.view, &key, &t), -ENOENT);
	ck_assert_int_eq(view_device_summary(&w.view, &key, &t), -ENOENT);
	ck_assert_int_eq(view_device_info(&w.view, &key, &t), -ENOENT);
	ck_assert_int_eq(view_process_status(&w.view, &key, &t), -ENOENT);
	ck_assert_int_eq(view_device_allocs(&w.view, &key, &c, 100, &t), -ENOENT);
	ck_assert_int_eq(view_process_allocs(&w.view, &key, &c, 100, &t), -ENOENT);
	ck_assert_int_eq(view_process_sites(&w.view, &key, &c, 100, &t), -ENOENT);
	ck_assert_int_eq(view_site(&w.view, &key, &t), -ENOENT);
	key.site = 0;
	ck_assert_int_eq(view_site(&w.view, &key, &t), -ENOENT);
	ck_assert_int_eq(view_device_map(&w.view, &key, &c, 100, &t), -ENOENT);
	view_table_end(&c);
	ck_assert_uint_eq(t.len, 0);
	textbuf_deinit(&t);
	world_free(&w);
}
END_TEST

/* What was forgotten with its device is no row any more; what comes again is. */
START_TEST(sites_of_a_forgotten_device)
{
	struct textbuf t = TEXTBUF_INIT;
	uint64_t pos = 0, removed = 0;
	struct world w;

	world_busy(&w);
	while (registry_reset_device_step(w.u->reg, 0, &pos, 1000, &removed))
		;
	make_sites(&w, &t);
	make_process_sites(&w, &t);
	util_alloc_at(w.u, w.python, 0, BUFFER_DRAM, 0x1000, 7, w.site[2], 0);
	make_sites(&w, &t);
	textbuf_putc(&t, '\0');
	ck_assert_str_eq(t.data,
			 "# site live bytes peak allocs frees growth device type top_frame\n"
			 "3f4741b293c957e7 1 1073741824 1073741824 1 0 - 1 dram tt::Buffer::create(int,%20int)\n"
			 "# site live bytes peak allocs frees growth device type top_frame\n"
			 "3f4741b293c957e7 1 1073741824 1073741824 1 0 - 1 dram tt::Buffer::create(int,%20int)\n"
			 "# site live bytes peak allocs frees growth device type top_frame\n"
			 "5a1f4ab33aa0752d 1 7 7 1 0 - 0 dram train+0x2000\n"
			 "3f4741b293c957e7 1 1073741824 1073741824 1 0 - 1 dram tt::Buffer::create(int,%20int)\n");
	textbuf_deinit(&t);
	world_free(&w);
}
END_TEST

/* A suspect that was dismissed has no record and no name any more. */
START_TEST(dismissed)
{
	struct textbuf t = TEXTBUF_INIT;
	struct view_key key;
	struct buffer b;
	uint32_t slot;
	struct world w;

	world_busy(&w);
	key = (struct view_key){ .slot = slot_of_owner(&w, BUFFER_DRAM, 0x40010000, w.trainer) };
	ck_assert(registry_buffer(w.u->reg, key.slot, &b));
	view_leak_name(&w.view, &b, &t);
	textbuf_putc(&t, '\0');
	ck_assert_int_eq(view_leak_find(&w.view, t.data, &slot), 0);
	ck_assert_int_eq(registry_reset_history_step(w.u->reg, &(uint64_t){ 0 }, 1000000), 0);
	ck_assert_int_eq(view_leak_find(&w.view, t.data, &slot), -ENOENT);
	ck_assert_int_eq(view_leak(&w.view, &key, &t), -ENOENT);
	textbuf_deinit(&t);
	world_free(&w);
}
END_TEST

/* ---- names ---- */

START_TEST(address_names)
{
	static const struct {
		const char *name;
		uint64_t address;
	} good[] = {
		{ "0x40000000", 0x40000000 },
		{ "0x000040000000", 0x40000000 },
		{ "0X40000000", 0x40000000 },
		{ "0xabcdef", 0xabcdef },
		{ "0xABCdef", 0xabcdef },
		{ "0x0", 0 },
		{ "0xffffffffffffffff", UINT64_MAX },
		{ "0x00000000000000000000ffffffffffffffff", UINT64_MAX },
	};
	static const char *const bad[] = {
		"", "0", "0x", "x40", "40000000", "0x4000000g", "0x40000000 ", " 0x40000000", "+0x4", "-0x4", "0x-4",
		"0x10000000000000000", "0x0x4", "0x4.", "0x4\n", "00x4",
	};

	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		uint64_t address = 1;

		ck_assert_msg(view_parse_address(good[i].name, &address), "%s", good[i].name);
		ck_assert_uint_eq(address, good[i].address);
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		uint64_t address = 1;

		ck_assert_msg(!view_parse_address(bad[i], &address), "%s", bad[i]);
		ck_assert_uint_eq(address, 1);
	}
}
END_TEST

START_TEST(site_names)
{
	static const char *const bad[] = { "", "0x", "-", " 3f4741b293c957e7", "3f4741b293c957e7 ", "3f4741b293c957e7g", "0x0x3f4741b293c957e7", "13f4741b293c957e7",
					   "10000000000000000" };
	static const char *const good[] = { "3f4741b293c957e7", "3F4741B293C957E7", "0x3f4741b293c957e7", "0X03f4741b293c957e7" };
	uint32_t site;
	struct world w;

	world_busy(&w);
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		ck_assert_msg(view_site_find(&w.view, good[i], &site) == 0, "%s", good[i]);
		ck_assert_uint_eq(site, w.site[1]);
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		ck_assert_msg(view_site_find(&w.view, bad[i], &site) == -ENOENT, "%s", bad[i]);
	world_free(&w);
}
END_TEST

START_TEST(leak_names)
{
	struct textbuf t = TEXTBUF_INIT;
	unsigned budget = 1000;
	uint64_t pos = 0;
	struct buffer b;
	struct world w;
	int suspects = 0;

	world_busy(&w);
	while (registry_next(w.u->reg, &BUFFER_FILTER_ALL, &pos, &budget, &b) == 1) {
		uint32_t slot = UINT32_MAX;

		textbuf_clear(&t);
		view_leak_name(&w.view, &b, &t);
		textbuf_putc(&t, '\0');
		if (b.process != w.trainer) {
			ck_assert_int_eq(view_leak_find(&w.view, t.data, &slot), -ENOENT);
			continue;
		}
		ck_assert_int_eq(view_leak_find(&w.view, t.data, &slot), 0);
		ck_assert_uint_eq(slot, b.slot);
		suspects++;
	}
	ck_assert_int_eq(suspects, 3);
	textbuf_deinit(&t);
	world_free(&w);
}
END_TEST

START_TEST(leak_name_spellings)
{
	struct buffer b;
	char name[128];
	uint32_t slot;
	struct world w;
	static const struct {
		const char *name;  /* '@' stands for the sequence number */
		int r;
	} names[] = {
		{ "pid13000-device0-dram-0x000040010000-@", 0 },
		{ "pid13000-device0-dram-0x40010000-@", 0 },
		{ "pid0013000-device00-dram-0X40010000-000@", 0 },
		{ "pid13000-device0-dram-0x40010000-1@", -ENOENT },
		{ "pid13000-device0-dram-0x40010000-@ ", -ENOENT },
		{ "pid13000-device0-dram-0x40010000-@-", -ENOENT },
		{ " pid13000-device0-dram-0x40010000-@", -ENOENT },
		{ "pid12400-device0-dram-0x40010000-@", -ENOENT },
		{ "pid13000-device1-dram-0x40010000-@", -ENOENT },
		{ "pid13000-device1024-dram-0x40010000-@", -ENOENT },
		{ "pid13000-device0-l1-0x40010000-@", -ENOENT },
		{ "pid13000-device0-DRAM-0x40010000-@", -ENOENT },
		{ "pid13000-device0-dra-0x40010000-@", -ENOENT },
		{ "pid13000-device0-dram-40010000-@", -ENOENT },
		{ "pid13000-device0-dram-0x40010001-@", -ENOENT },
		{ "pid13000-device-dram-0x40010000-@", -ENOENT },
		{ "pid+13000-device0-dram-0x40010000-@", -ENOENT },
		{ "pid4294980296-device0-dram-0x40010000-@", -ENOENT },
		{ "pid13000-device0-dram-0x40010000-18446744073709551616", -ENOENT },
		{ "pid-device0-dram-0x40010000-@", -ENOENT },
		{ "pid13000_device0-dram-0x40010000-@", -ENOENT },
		{ "pid13000-device0-system_memory-0x40010000-@", -ENOENT },
		{ "", -ENOENT },
	};

	world_busy(&w);
	ck_assert_uint_eq(registry_own(w.u->reg, w.trainer, 0, 0x40010000, 1U << BUFFER_DRAM, &b), 1);
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		const char *rest = strchrnul(names[i].name, '@');

		if (*rest)
			snprintf(name, sizeof(name), "%.*s%llu%s", (int)(rest - names[i].name), names[i].name,
				 (unsigned long long)b.seq, rest + 1);
		else
			snprintf(name, sizeof(name), "%s", names[i].name);
		slot = UINT32_MAX;
		ck_assert_msg(view_leak_find(&w.view, name, &slot) == names[i].r, "%s", name);
		ck_assert_uint_eq(slot, names[i].r ? UINT32_MAX : b.slot);
	}
	world_free(&w);
}
END_TEST

static Suite *view_suite(void)
{
	Suite *s = suite_create("view");
	TCase *tc;

	tc = tcase_create("golden");
	tcase_add_loop_test(tc, golden, 0, GOLDENS);
	suite_add_tcase(s, tc);
	tc = tcase_create("text");
	tcase_add_test(tc, fits_the_screen);
	tcase_add_test(tc, summary_of_extremes);
	tcase_add_test(tc, summary_units);
	tcase_add_test(tc, ages_are_not_negative);
	tcase_add_test(tc, history_is_whole);
	tcase_add_test(tc, gone);
	tcase_add_test(tc, sites_of_a_forgotten_device);
	tcase_add_test(tc, dismissed);
	suite_add_tcase(s, tc);
	tc = tcase_create("names");
	tcase_add_test(tc, address_names);
	tcase_add_test(tc, site_names);
	tcase_add_test(tc, leak_names);
	tcase_add_test(tc, leak_name_spellings);
	suite_add_tcase(s, tc);
	return s;
}

int main(void)
{
	SRunner *runner = srunner_create(view_suite());
	int failed;

	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
