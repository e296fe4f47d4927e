/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * test-nodes.c - the table of nodes and what is built on it: names, inode numbers, attributes, listings, open files,
 * frozen reports.
 */
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fs/handle.h"
#include "fs/nodes.h"
#include "fs/tree.h"
#include "tests/util-registry.h"
#include "tracker/mark.h"

#define UID 1000
#define SERVER_UID 7
#define BUDGET 1000000

struct world {
	struct util *u;
	struct server_info server;
	struct view view;
	struct spool_pool pool;
	struct dumps dumps;
	struct tree *tree;
	struct handles *handles;
	uint32_t process;
};

static struct world *w;

static void setup(void)
{
	w = calloc(1, sizeof(*w));
	ck_assert_ptr_nonnull(w);
	w->u = util_new(0, 0, 0);
	w->server = (struct server_info){ .version = "0.1.0", .pid = 4711, .started = UTIL_STARTED,
					  .mountpoint = "/mnt/ttalloc", .max_clients = 16 };
	w->view = (struct view){ .registry = w->u->reg, .trace = &w->u->trace, .errlog = &w->u->errlog,
				  .server = &w->server, .now = UTIL_NOW };
	dumps_init(&w->dumps, DUMPS_LIMIT_DEFAULT, &w->pool);
	const struct tree_config tree = { &w->view, &w->dumps, SERVER_UID, SERVER_UID };
	ck_assert_int_eq(tree_new(&w->tree, nodes, nodes_count, &tree), 0);
	const struct handles_config handles = { w->tree, &w->view, &w->u->errlog, &w->dumps, &w->pool };
	ck_assert_int_eq(handles_new(&w->handles, &handles), 0);
	w->process = util_process(w->u, 100, UID, "python3");
}

static void teardown(void)
{
	handles_free(w->handles);
	dumps_deinit(&w->dumps);
	spool_pool_free(&w->pool, SIZE_MAX);
	tree_free(w->tree);
	util_free(w->u);
	free(w);
}

/* Walks a path as the kernel does. */
static int walk(const char *path, struct place *p)
{
	char copy[256], *rest = copy, *name;
	int r = tree_get(w->tree, INODE_ROOT, p);

	snprintf(copy, sizeof(copy), "%s", path);
	while (r == 0 && (name = strsep(&rest, "/")) && *name) {
		struct place dir = *p;
		r = tree_lookup(w->tree, &dir, name, p);
	}
	return r;
}

static struct place at(const char *path)
{
	struct place p = { 0 };

	ck_assert_msg(walk(path, &p) == 0, "%s", path);
	return p;
}

static struct stat attr(const char *path)
{
	struct place p = at(path);
	struct stat st;

	ck_assert_int_eq(tree_attr(w->tree, &p, NULL, &st), 0);
	ck_assert_uint_eq(st.st_ino, p.number);
	return st;
}

/* The names in a directory, blank in front of each, in the order of the listing; every entry is what a lookup finds. */
static const char *names(const char *path)
{
	static char text[65536];
	struct place dir = at(path);
	uint64_t offset = 0;
	unsigned budget = BUDGET;
	struct tree_entry e;
	size_t len = 0;
	int r;

	text[0] = '\0';
	while ((r = tree_list(w->tree, &dir, &offset, registry_seq(w->u->reg), &budget, &e)) == 1) {
		struct place p;
		ck_assert_uint_eq(e.next, offset);
		if (e.name[0] == '.')
			continue;
		ck_assert_int_eq(tree_lookup(w->tree, &dir, e.name, &p), 0);
		ck_assert_uint_eq(p.number, e.number);
		len += (size_t)snprintf(text + len, sizeof(text) - len, " %s", e.name);
	}
	ck_assert_int_eq(r, 0);
	return text;
}

/* ---- the table ---- */

START_TEST(rows_are_complete)
{
	for (unsigned i = 0; i < nodes_count; i++) {
		const struct node *n = &nodes[i];
		bool writable = n->mode & 0222;
		bool set = n->kind == NODE_CTL || n->kind == NODE_OPTION || n->kind == NODE_LIST;
		bool text = n->kind == NODE_TEXT || set;
		for (unsigned k = 0; k < i; k++)
			ck_assert_str_ne(n->path, nodes[k].path);
		ck_assert_msg(!n->show == !text, "%s: show", n->path);
		ck_assert_msg(!n->table == (n->kind != NODE_TABLE), "%s: table", n->path);
		ck_assert_msg(!n->option == (n->kind != NODE_OPTION), "%s: option", n->path);
		if (n->kind != NODE_DIR)
			ck_assert_msg(writable == set, "%s: mode", n->path);
		ck_assert_msg(!n->set == (n->kind != NODE_LIST), "%s: set", n->path);
		ck_assert_msg((n->mode & 0444) == 0444, "%s: readable", n->path);
	}
}
END_TEST

START_TEST(bad_tables_are_refused)
{
	static const struct node no_root[] = { { "a", NODE_DIR, .mode = 0555 } };
	static const struct node orphan[] = { { "", NODE_DIR, .mode = 0555 }, { "a/b", NODE_TEXT, .mode = 0444 } };
	static const struct node unknown[] = { { "", NODE_DIR, .mode = 0555 }, { "{x}", NODE_TEXT, .mode = 0444 } };
	const struct tree_config config = { &w->view, &w->dumps, 0, 0 };
	struct tree *t = NULL;

	ck_assert_int_eq(tree_new(&t, no_root, 1, &config), -EINVAL);
	ck_assert_int_eq(tree_new(&t, orphan, 2, &config), -EINVAL);
	ck_assert_int_eq(tree_new(&t, unknown, 2, &config), -EINVAL);
	ck_assert_int_eq(tree_new(&t, nodes, 0, &config), -EINVAL);
}
END_TEST

/* Every row can be reached: all variable parts stand for something. */
START_TEST(every_row_resolves)
{
	struct dump *dump;
	uint32_t dead = util_process(w->u, 200, UID, "gone");

	util_alloc(w->u, w->process, 3, BUFFER_DRAM, 0x1000, 4096);
	util_alloc_at(w->u, dead, 3, BUFFER_L1, 0x2000, 512, util_site(w->u, 1), 0);
	registry_process_end(w->u->reg, dead, UTIL_NOW);
	util_alloc(w->u, w->process, 3, BUFFER_DRAM, 0x3000, 4096);
	util_release(w->u, w->process, 3, 0x3000);
	ck_assert_int_eq(registry_mark(w->u->reg, "a.1", 3, UTIL_NOW), 0);
	dump = dumps_begin(&w->dumps, "", UTIL_NOW);
	dumps_finish(&w->dumps, dump);
	dumps_release(&w->dumps, dump);
	for (unsigned i = 0; i < nodes_count; i++) {
		char path[256] = "";
		const char *in = nodes[i].path;
		while (*in) {
			size_t len = strlen(path);
			const char *end = *in == '{' ? strchr(in, '}') + 1 : in + 1;
			const char *name = strncmp(in, "{device}", 8) == 0 ? "3" :
					   strncmp(in, "{type}", 6) == 0 ? "dram" :
					   strncmp(in, "{address}", 9) == 0 ? "0x000000001000" :
					   strncmp(in, "{pid}", 5) == 0 ? "100" :
					   strncmp(in, "{dump}", 6) == 0 ? "1" :
					   strncmp(in, "{mark}", 6) == 0 ? "a.1" :
					   strncmp(in, "{past}", 6) == 0 ? "0x000000003000" :
					   strncmp(in, "{site}", 6) == 0 ? names("stacks") + 1 :
					   strncmp(in, "{leak}", 6) == 0 ? names("leaks") + 1 : NULL;
			snprintf(path + len, sizeof(path) - len, "%.*s", name ? (int)strlen(name) : 1,
				 name ? name : in);
			in = end;
		}
		struct place p = at(path), again;
		ck_assert_ptr_eq(p.node, &nodes[i]);
		ck_assert_int_eq(tree_get(w->tree, p.number, &again), 0);
		ck_assert_ptr_eq(again.node, p.node);
		ck_assert_int_eq(memcmp(&again.key, &p.key, sizeof(p.key)), 0);
		struct stat st = attr(path);
		ck_assert_uint_eq(st.st_mode & 07777, nodes[i].mode);
		ck_assert_int_eq(S_ISDIR(st.st_mode), nodes[i].kind == NODE_DIR);
	}
}
END_TEST

/* ---- names ---- */

START_TEST(names_that_are_none)
{
	static const char *const paths[] = {
		"x", "device", "device3", "device-1", "device1024", "device00", "device0x0",
		"device99999999999999999999",
		"device0/DRAM", "device0/dram/1000", "device0/dram/0x", "device0/dram/0x2000", "device0/dram/0x1000 ",
		"device0/dram/0x10000000000001000", "device0/l1/0x1000", "pids/1", "pids/0100", "pids/+100",
		"pids/100/x", "leaks/x", "leaks/pid100-device0-dram-0x000000001000-1", "dumps/1", "Summary",
		"stacks/0", "stacks/0000000000000000", "stacks/x",
	};
	struct place p;

	util_alloc(w->u, w->process, 0, BUFFER_DRAM, 0x1000, 4096);
	for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++)
		ck_assert_msg(walk(paths[i], &p) == -ENOENT, "%s", paths[i]);
	ck_assert_int_eq(walk("summary/x", &p), -ENOTDIR);
}
END_TEST

START_TEST(an_address_in_any_spelling)
{
	util_alloc(w->u, w->process, 0, BUFFER_DRAM, 0xabc000, 4096);
	uint64_t number = at("device0/dram/0x000000abc000").number;
	ck_assert_uint_eq(at("device0/dram/0xabc000").number, number);
	ck_assert_uint_eq(at("device0/dram/0XABC000").number, number);
	ck_assert_uint_eq(at("device0/dram/0x0000000000abc000").number, number);
}
END_TEST

/* ---- numbers of what has gone ---- */

START_TEST(a_freed_buffer_is_stale)
{
	struct place p;

	util_alloc(w->u, w->process, 0, BUFFER_DRAM, 0x1000, 4096);
	uint64_t number = at("device0/dram/0x1000").number;
	util_release(w->u, w->process, 0, 0x1000);
	ck_assert_int_eq(tree_get(w->tree, number, &p), -ESTALE);
	util_alloc(w->u, w->process, 0, BUFFER_DRAM, 0x1000, 4096);
	ck_assert_int_eq(tree_get(w->tree, number, &p), -ESTALE);
	ck_assert_uint_ne(at("device0/dram/0x1000").number, number);
}
END_TEST

START_TEST(a_forgotten_device_is_stale)
{
	uint64_t dirs[16], pos = 0, removed = 0;
	struct place p;

	util_alloc(w->u, w->process, 5, BUFFER_DRAM, 0x1000, 4096);
	uint64_t file = at("device5/summary").number;
	unsigned n = tree_device_dirs(w->tree, 5, dirs, 16);
	ck_assert_uint_eq(n, 2 + BUFFER_TYPES);
	ck_assert_uint_eq(dirs[0], at("device5").number);
	ck_assert_uint_eq(dirs[1], at("device5/history").number);
	ck_assert_uint_eq(dirs[2], at("device5/dram").number);
	while (registry_reset_device_step(w->u->reg, 5, &pos, 10, &removed))
		;
	for (unsigned i = 0; i < n; i++)
		ck_assert_int_eq(tree_get(w->tree, dirs[i], &p), -ESTALE);
	ck_assert_int_eq(tree_get(w->tree, file, &p), -ESTALE);
	ck_assert_int_eq(walk("device5", &p), -ENOENT);
	util_alloc(w->u, w->process, 5, BUFFER_DRAM, 0x1000, 4096);
	ck_assert_uint_ne(at("device5").number, dirs[0]);
}
END_TEST

START_TEST(a_leak_that_was_cleaned_is_stale)
{
	uint64_t pos = 0, removed = 0, number;
	struct place p;

	util_alloc(w->u, w->process, 0, BUFFER_DRAM, 0x1000, 4096);
	ck_assert_str_eq(names("leaks"), "");
	registry_process_end(w->u->reg, w->process, UTIL_NOW);
	ck_assert_str_eq(names("leaks"), " pid100-device0-dram-0x000000001000-1");
	number = at("leaks/pid100-device0-dram-0x000000001000-1").number;
	ck_assert_int_eq(tree_get(w->tree, number, &p), 0);
	while (registry_clean_step(w->u->reg, w->process, &pos, 10, &removed))
		;
	ck_assert_int_eq(tree_get(w->tree, number, &p), -ESTALE);
	ck_assert_str_eq(names("leaks"), "");
}
END_TEST

/* The buffer lives on, but it is no leak. */
START_TEST(a_leak_that_was_cleared_is_stale)
{
	struct place p;
	uint64_t number;

	util_alloc(w->u, w->process, 0, BUFFER_DRAM, 0x1000, 4096);
	registry_process_end(w->u->reg, w->process, UTIL_NOW);
	number = at("leaks/pid100-device0-dram-0x000000001000-1").number;
	registry_clear(w->u->reg, UTIL_NOW);
	ck_assert_int_eq(tree_get(w->tree, number, &p), -ESTALE);
	ck_assert_int_eq(walk("leaks/pid100-device0-dram-0x000000001000-1", &p), -ENOENT);
	ck_assert_str_eq(names("leaks"), "");
	ck_assert_str_eq(names("device0/dram"), " 0x000000001000");
}
END_TEST

START_TEST(numbers_that_are_none)
{
	struct place p;

	ck_assert_int_eq(tree_get(w->tree, (uint64_t)nodes_count << 56 | 1, &p), -ESTALE);
	ck_assert_int_eq(tree_get(w->tree, UINT64_MAX, &p), -ESTALE);
	for (unsigned row = 1; row < nodes_count; row++)
		if (strchr(nodes[row].path, '{'))
			ck_assert_int_eq(tree_get(w->tree, (uint64_t)row << 56 | 0xfffffffffffff, &p), -ESTALE);
}
END_TEST

/* ---- attributes ---- */

START_TEST(a_record_carries_the_allocation)
{
	uint32_t other = util_process(w->u, 101, UID + 1, "other");

	w->u->now = UTIL_NOW;
	util_alloc(w->u, w->process, 0, BUFFER_DRAM, 0x1000, 12289);
	struct stat st = attr("device0/dram/0x1000");
	ck_assert_int_eq(st.st_blocks, 25);
	ck_assert_uint_eq(st.st_uid, UID);
	ck_assert_int_eq(st.st_mtim.tv_sec, (time_t)(UTIL_NOW / 1000000000));
	ck_assert_int_eq(st.st_mtim.tv_nsec, (long)(UTIL_NOW % 1000000000));
	util_alloc(w->u, other, 0, BUFFER_DRAM, 0x1000, 512);
	st = attr("device0/dram/0x1000");
	ck_assert_int_eq(st.st_blocks, 26);
	ck_assert_uint_eq(st.st_uid, UID + 1);
	ck_assert_str_eq(names("device0/dram"), " 0x000000001000");
}
END_TEST

START_TEST(owners_and_links)
{
	ck_assert_uint_eq(attr("").st_nlink, 2 + 6);
	ck_assert_uint_eq(attr("marks").st_nlink, 2);
	ck_assert_int_eq(registry_mark(w->u->reg, "a", 1, UTIL_NOW), 0);
	ck_assert_uint_eq(attr("marks").st_nlink, 2 + 1);
	ck_assert_uint_eq(attr("marks/a").st_nlink, 2);
	ck_assert_uint_eq(attr("pids").st_nlink, 2 + 1);
	util_alloc(w->u, w->process, 0, BUFFER_DRAM, 0x1000, 4096);
	util_alloc(w->u, w->process, 9, BUFFER_DRAM, 0x1000, 4096);
	ck_assert_uint_eq(attr("").st_nlink, 2 + 6 + 2);
	ck_assert_uint_eq(attr("device9").st_nlink, 2 + 1 + BUFFER_TYPES);
	ck_assert_uint_eq(attr("device9/l1").st_nlink, 2);
	ck_assert_uint_eq(attr("summary").st_nlink, 1);
	ck_assert_uint_eq(attr("summary").st_uid, SERVER_UID);
	ck_assert_uint_eq(attr("pids/100").st_uid, UID);
	ck_assert_uint_eq(attr("pids/100/ctl").st_uid, UID);
	ck_assert_int_eq(attr("allocs").st_size, 0);
	ck_assert_int_eq(attr("options/max_clients").st_size, 3);
	ck_assert_int_eq(attr("options/suppressions").st_size, 0);
	ck_assert_int_eq(attr("options/suppressions").st_mtim.tv_sec, (time_t)(UTIL_STARTED / 1000000000));
	ck_assert_int_gt(attr("stats").st_mtim.tv_sec, (time_t)(UTIL_STARTED / 1000000000));
}
END_TEST

START_TEST(what_lasts)
{
	static const struct {
		const char *path;
		bool name, attr;
	} expected[] = {
		{ "summary", true, false }, { "README", true, true },
		{ "device0", true, true }, { "device0/dram", true, true },
		{ "pids", true, true }, { "pids/100", false, true }, { "pids/100/ctl", true, true },
		{ "device0/dram/0x1000", false, false },
	};

	util_alloc(w->u, w->process, 0, BUFFER_DRAM, 0x1000, 4096);
	for (size_t i = 0; i < sizeof(expected) / sizeof(expected[0]); i++) {
		struct place p = at(expected[i].path);
		ck_assert_msg(tree_name_lasts(w->tree, &p) == expected[i].name, "%s", expected[i].path);
		ck_assert_msg(tree_attr_lasts(w->tree, &p) == expected[i].attr, "%s", expected[i].path);
	}
}
END_TEST

START_TEST(a_site_in_any_spelling)
{
	const struct node *node;
	char path[64];
	uint32_t site = util_site(w->u, 1);
	struct site_info info;
	struct stat st;

	ck_assert(registry_site_get(w->u->reg, site, &info));
	snprintf(path, sizeof(path), "stacks/%016llx", (unsigned long long)info.hash);
	struct place p = at(path);
	node = p.node;
	ck_assert_uint_eq(p.key.site, site);
	ck_assert(tree_name_lasts(w->tree, &p));
	ck_assert(!tree_attr_lasts(w->tree, &p));
	st = attr(path);
	ck_assert_uint_eq(st.st_uid, SERVER_UID);
	snprintf(path, sizeof(path), "stacks/0X00%llX", (unsigned long long)info.hash);
	p = at(path);
	ck_assert_ptr_eq(p.node, node);
	ck_assert_uint_eq(attr(path).st_ino, st.st_ino);
	/* A site stays, also over `reset`. */
	registry_reset(w->u->reg);
	ck_assert_int_eq(tree_get(w->tree, st.st_ino, &p), 0);
	ck_assert_uint_eq(p.key.site, site);
	/* A number of none. */
	ck_assert_int_eq(tree_get(w->tree, st.st_ino + 1, &p), -ESTALE);
	ck_assert_int_eq(tree_get(w->tree, st.st_ino - 1, &p), -ESTALE);
}
END_TEST

/* ---- listings ---- */

/* Each once, those that come in the middle of it, too. */
START_TEST(a_listing_of_sites)
{
	struct place dir = at("stacks");
	unsigned seen[64] = { 0 }, budget = BUDGET;
	uint64_t offset = 0, number = 0;
	struct tree_entry e;

	ck_assert_str_eq(names("stacks"), "");
	util_site(w->u, number++);
	while (tree_list(w->tree, &dir, &offset, 0, &budget, &e) == 1) {
		struct place p;
		if (number < 60)
			util_site(w->u, number++);
		if (e.name[0] == '.')
			continue;
		ck_assert_uint_eq(strlen(e.name), 16);
		ck_assert_int_eq(tree_lookup(w->tree, &dir, e.name, &p), 0);
		ck_assert_uint_eq(p.number, e.number);
		ck_assert_uint_lt(p.key.site, 64);
		seen[p.key.site]++;
	}
	for (unsigned i = 1; i <= 60; i++)
		ck_assert_uint_eq(seen[i], 1);
}
END_TEST

START_TEST(a_listing_in_full)
{
	util_alloc(w->u, w->process, 0, BUFFER_DRAM, 0x1000, 4096);
	util_alloc(w->u, w->process, 12, BUFFER_DRAM, 0x1000, 4096);
	ck_assert_str_eq(names(""), " README version ctl error_log summary stats allocs suspects sites processes"
				    " events trace leaks stacks pids marks dumps options device0 device12");
	ck_assert_str_eq(names("device12"), " summary info allocs map history dram l1 system_memory l1_small trace cb kernel");
	ck_assert_str_eq(names("pids"), " 100");
	ck_assert_str_eq(names("pids/100"), " status allocs sites ctl");
	ck_assert_str_eq(names("options"), " growth_marks history_per_buffer trace_events max_buffers max_clients min_age_ms"
				          " min_size suppressions");
	ck_assert_str_eq(names("device0/dram"), " 0x000000001000");
	ck_assert_str_eq(names("device0/l1"), "");
}
END_TEST

START_TEST(marks_come_and_go)
{
	struct place p;

	ck_assert_str_eq(names("marks"), "");
	ck_assert_int_eq(registry_mark(w->u->reg, "b", 1, UTIL_NOW), 0);
	ck_assert_int_eq(registry_mark(w->u->reg, "a", 1, UTIL_NOW), 0);
	ck_assert_str_eq(names("marks"), " b a");
	ck_assert_str_eq(names("marks/a"), " summary allocs");
	uint64_t dir = at("marks/b").number, file = at("marks/b/allocs").number;
	/* It starts anew: the directory is the same. */
	ck_assert_int_eq(registry_mark(w->u->reg, "b", 1, UTIL_NOW), 0);
	ck_assert_int_eq(tree_get(w->tree, dir, &p), 0);
	ck_assert(!tree_name_lasts(w->tree, &p));
	ck_assert_int_eq(registry_unmark(w->u->reg, "b"), 0);
	ck_assert_int_eq(tree_get(w->tree, dir, &p), -ESTALE);
	ck_assert_int_eq(tree_get(w->tree, file, &p), -ESTALE);
	ck_assert_int_eq(walk("marks/b", &p), -ENOENT);
	ck_assert_int_eq(registry_mark(w->u->reg, "b", 1, UTIL_NOW), 0);
	ck_assert_uint_ne(at("marks/b").number, dir);
}
END_TEST

/* Also of what is live again, and by whomever: once. */
START_TEST(the_past_is_listed_once)
{
	uint32_t other = util_process(w->u, 200, UID + 1, "other");
	uint64_t pos = 0;
	struct place p;

	for (uint64_t i = 0; i < 40; i++) {
		util_alloc(w->u, w->process, 2, BUFFER_DRAM, i << 12, 64);
		util_alloc(w->u, other, 2, BUFFER_L1, i << 12, 64);
		util_release(w->u, w->process, 2, i << 12);
		util_release(w->u, other, 2, i << 12);
		if (i % 2)
			util_alloc(w->u, w->process, 2, BUFFER_DRAM, i << 12, 64);
		util_alloc(w->u, w->process, 3, BUFFER_DRAM, i << 20, 64);
	}
	const char *list = names("device2/history");
	for (unsigned i = 0; i < 40; i++) {
		char name[32];
		snprintf(name, sizeof(name), " 0x%012x", i << 12);
		const char *found = strstr(list, name);
		ck_assert_ptr_nonnull(found);
		ck_assert_ptr_null(strstr(found + 1, name));
	}
	/* What is only live has no past. */
	ck_assert_str_eq(names("device3/history"), "");
	uint64_t number = at("device2/history/0x1000").number;
	ck_assert_int_eq(tree_get(w->tree, number, &p), 0);
	ck_assert_uint_eq(p.key.address, 0x1000);
	ck_assert_uint_eq(p.key.device, 2);
	ck_assert_int_eq(walk("device2/history/0x1001", &p), -ENOENT);
	while (registry_reset_history_step(w->u->reg, &pos, 10))
		;
	ck_assert_int_eq(tree_get(w->tree, number, &p), -ESTALE);
	ck_assert_str_eq(names("device2/history"), "");
}
END_TEST

/* A listing that is broken off anywhere and taken up at the offset of its last entry, with a tiny budget, while buffers
 * come and go: what lives all the time is there exactly once. */
START_TEST(a_listing_under_churn)
{
	enum { KEPT = 300, CHURN = 300 };
	unsigned seen[KEPT] = { 0 };
	uint64_t offset = 0, since;

	for (unsigned i = 0; i < KEPT; i++) {
		util_alloc(w->u, w->process, 0, BUFFER_DRAM, 0x100000 + i * 0x1000, 4096);
		util_alloc(w->u, w->process, 0, BUFFER_DRAM, 0x800000 + i * 0x1000, 4096);
	}
	since = registry_seq(w->u->reg);
	for (unsigned turn = 0;; turn++) {
		struct place dir = at("device0/dram");
		struct tree_entry e;
		unsigned budget = turn % 3;
		uint64_t address;
		int r = tree_list(w->tree, &dir, &offset, since, &budget, &e);
		if (turn < CHURN) {
			util_release(w->u, w->process, 0, 0x800000 + turn * 0x1000);
			util_alloc(w->u, w->process, 0, BUFFER_DRAM, 0x900000 + turn * 0x1000, 4096);
		}
		if (!r)
			break;
		if (r == -EAGAIN || e.name[0] == '.')
			continue;
		ck_assert_int_eq(r, 1);
		ck_assert(view_parse_address(e.name, &address));
		if (address >= 0x100000 && address < 0x100000 + KEPT * 0x1000)
			seen[(address - 0x100000) / 0x1000]++;
	}
	for (unsigned i = 0; i < KEPT; i++)
		ck_assert_uint_eq(seen[i], 1);
}
END_TEST

/* A name that one process gives up for another one, in front of the listing or behind it, is not missed. */
START_TEST(a_shared_name_is_listed_once)
{
	uint32_t other = util_process(w->u, 101, UID, "other");

	/* Twenty buffers of this process first, so that the other one's are behind them. */
	for (unsigned i = 0; i < 20; i++)
		util_alloc(w->u, w->process, 0, BUFFER_DRAM, 0x1000 + i * 0x1000, 4096);
	util_alloc(w->u, other, 0, BUFFER_DRAM, 0x99000, 4096);
	util_alloc(w->u, w->process, 0, BUFFER_DRAM, 0x99000, 4096);
	const char *all = names("device0/dram");
	const char *first = strstr(all, "0x000000099000");
	ck_assert_ptr_nonnull(first);
	ck_assert_ptr_null(strstr(first + 1, "0x000000099000"));

	/* The one in the lower slot came while the listing had passed that slot. */
	util_release(w->u, w->process, 0, 0x99000);
	struct place dir = at("device0/dram");
	uint64_t offset = 0, since = registry_seq(w->u->reg);
	unsigned budget = BUDGET, seen = 0;
	struct tree_entry e;
	for (unsigned i = 0; tree_list(w->tree, &dir, &offset, since, &budget, &e) == 1; i++) {
		if (i == 10) {
			util_release(w->u, w->process, 0, 0x1000);
			util_alloc(w->u, w->process, 0, BUFFER_DRAM, 0x99000, 4096);
		}
		seen += strcmp(e.name, "0x000000099000") == 0;
	}
	ck_assert_uint_eq(seen, 1);
}
END_TEST

START_TEST(a_pid_that_was_used_again)
{
	uint32_t slot;
	const struct process_identity again = { .pid = 100, .uid = UID, .start_ticks = 999, .comm = "new" };

	util_alloc(w->u, w->process, 0, BUFFER_DRAM, 0x1000, 4096);
	uint64_t number = at("pids/100").number;
	registry_process_end(w->u->reg, w->process, UTIL_NOW);
	ck_assert_int_eq(registry_process_add(w->u->reg, &again, UTIL_NOW, &slot), 0);
	ck_assert_str_eq(names("pids"), " 100");
	ck_assert_uint_ne(at("pids/100").number, number);
	ck_assert_uint_eq(at("pids/100").key.process, slot);
}
END_TEST

/* ---- open files ---- */

static struct handle *open_path(const char *path)
{
	struct place p = at(path);
	struct handle *h = NULL;

	ck_assert_int_eq(handle_open(w->handles, &p, 1, &h), 0);
	ck_assert_ptr_eq(handle_get(w->handles, h->id), h);
	return h;
}

/* Reads until there is an answer. Returns its length, the bytes in `out`. */
static size_t read_at(struct handle *h, uint64_t offset, size_t size, char *out)
{
	struct iovec iov[SPOOL_IOV];
	size_t len = 0;
	bool again = false;
	int n, r;

	while ((r = handle_read(w->handles, h, offset, size, again, iov, &n)) == -EAGAIN)
		again = true;
	ck_assert_int_eq(r, 0);
	for (int i = 0; i < n; i++) {
		memcpy(out + len, iov[i].iov_base, iov[i].iov_len);
		len += iov[i].iov_len;
	}
	ck_assert_uint_le(len, size);
	return len;
}

START_TEST(a_text_is_a_snapshot)
{
	char before[4096], after[4096];

	util_alloc(w->u, w->process, 0, BUFFER_L1, 0x1000, 512);
	struct handle *h = open_path("device0/summary");
	size_t len = read_at(h, 0, sizeof(before), before);
	ck_assert_uint_eq(len, (size_t)h->attr.st_size);
	ck_assert(!handle_changed(w->handles, h));
	util_alloc(w->u, w->process, 0, BUFFER_DRAM, 0x1000, 4096);
	ck_assert(handle_changed(w->handles, h));
	ck_assert_uint_eq(read_at(h, 7, sizeof(after), after), len - 7);
	ck_assert_int_eq(memcmp(after, before + 7, len - 7), 0);
	len = read_at(h, 0, sizeof(after), after);
	ck_assert_uint_eq(len, (size_t)h->attr.st_size);
	ck_assert_ptr_nonnull(memmem(after, len, "dram 1 4096", 11));
	ck_assert(!handle_changed(w->handles, h));
	ck_assert_uint_eq(read_at(h, 100000, sizeof(after), after), 0);
	handle_close(w->handles, h);
}
END_TEST

START_TEST(a_text_of_what_is_gone)
{
	struct iovec iov[SPOOL_IOV];
	char text[4096];
	int n;

	util_alloc(w->u, w->process, 0, BUFFER_DRAM, 0x1000, 4096);
	struct handle *h = open_path("device0/dram/0x1000");
	uint64_t number = h->number;
	util_release(w->u, w->process, 0, 0x1000);
	ck_assert_uint_eq(read_at(h, 0, sizeof(text), text), (size_t)h->attr.st_size);
	ck_assert_int_eq(handle_read(w->handles, h, 0, sizeof(text), false, iov, &n), -ESTALE);
	ck_assert_ptr_eq(handle_of(w->handles, number, 1), h);
	handle_close(w->handles, h);
	ck_assert_ptr_null(handle_of(w->handles, number, 1));
	ck_assert_ptr_null(handle_get(w->handles, UINT64_C(1) << 32));
}
END_TEST

/* Single bytes, any offset and the whole show the same table. */
START_TEST(a_table_by_bytes)
{
	enum { BUFFERS = 3000 };
	static char whole[1 << 20], bytes[1 << 20];
	size_t len, n = 0;

	for (unsigned i = 0; i < BUFFERS; i++)
		util_alloc(w->u, w->process, 0, BUFFER_DRAM, 0x1000 + i * 0x1000, 4096);
	struct handle *h = open_path("allocs");
	struct handle *single = open_path("allocs");
	len = read_at(h, 0, SPOOL_READ_MAX, whole);
	ck_assert_uint_eq(len, SPOOL_READ_MAX);
	for (size_t more = len; more; len += more)
		more = read_at(h, len, SPOOL_READ_MAX, whole + len);
	while (read_at(single, n, 1, bytes + n))
		n++;
	ck_assert_uint_eq(n, len);
	ck_assert_int_eq(memcmp(whole, bytes, len), 0);
	ck_assert_uint_eq(read_at(h, len - 5, 100, bytes), 5);
	ck_assert_uint_eq(read_at(h, 12345, 77, bytes), 77);
	ck_assert_int_eq(memcmp(bytes, whole + 12345, 77), 0);
	/* from the beginning it is new */
	util_release(w->u, w->process, 0, 0x1000);
	ck_assert_uint_eq(read_at(h, 0, SPOOL_READ_MAX, bytes), SPOOL_READ_MAX);
	ck_assert_ptr_null(memmem(bytes, SPOOL_READ_MAX, " 0x000000001000 ", 16));
	handle_close(w->handles, single);
	handle_close(w->handles, h);
}
END_TEST

/* Far ahead is produced step by step; what fell out of the kept text is refused with a reason. */
START_TEST(a_table_that_is_no_longer_kept)
{
	struct iovec iov[SPOOL_IOV];
	char text[16];
	int n;

	for (unsigned i = 0; i < 3000; i++)
		util_alloc(w->u, w->process, 0, BUFFER_DRAM, 0x1000 + i * 0x1000, 4096);
	struct handle *h = open_path("allocs");
	ck_assert_int_eq(handle_read(w->handles, h, 200000, 10, false, iov, &n), -EAGAIN);
	ck_assert_uint_eq(read_at(h, 200000, 10, text), 10);
	spool_drop(&h->spool, &w->pool);
	ck_assert_int_eq(handle_read(w->handles, h, 10, 10, false, iov, &n), -EINVAL);
	struct textbuf log = TEXTBUF_INIT;
	errlog_text(&w->u->errlog, &log);
	ck_assert_ptr_nonnull(memmem(log.data, log.len, "allocs: offset 10 is no longer kept", 35));
	textbuf_deinit(&log);
	ck_assert_uint_eq(read_at(h, 0, 10, text), 10);
	handle_close(w->handles, h);
}
END_TEST

START_TEST(the_stream_by_bytes)
{
	struct iovec iov[SPOOL_IOV];
	char text[256];
	int n;

	struct handle *h = open_path("events");
	ck_assert(!handle_ready(w->handles, h));
	ck_assert_int_eq(handle_read(w->handles, h, 0, 100, false, iov, &n), -EAGAIN);
	util_alloc(w->u, w->process, 0, BUFFER_DRAM, 0x1000, 4096);
	ck_assert(handle_ready(w->handles, h));
	for (n = 0; handle_ready(w->handles, h); n++)
		ck_assert_uint_eq(read_at(h, (uint64_t)n, 1, text + n), 1);
	ck_assert_int_eq(text[n - 1], '\n');
	ck_assert_ptr_nonnull(memmem(text, (size_t)n, " alloc 0 dram 0x000000001000 4096 100 1 -\n", 42));
	handle_close(w->handles, h);
}
END_TEST

/* ---- frozen reports ---- */

static void make_dump(const char *name, size_t len)
{
	struct dump *dump = dumps_begin(&w->dumps, name, UTIL_NOW);
	char line[1024];

	ck_assert_ptr_nonnull(dump);
	memset(line, 'x', sizeof(line));
	line[sizeof(line) - 1] = '\n';
	for (; len >= sizeof(line); len -= sizeof(line))
		ck_assert_int_eq(dumps_append(&w->dumps, dump, line, sizeof(line)), 0);
	dumps_finish(&w->dumps, dump);
	dumps_release(&w->dumps, dump);
}

START_TEST(the_newest_dumps_are_kept)
{
	for (unsigned i = 0; i < DUMPS_KEPT + 4; i++)
		make_dump(i == 5 ? "five" : "", 2048);
	ck_assert_str_eq(names("dumps"), " 5 five 7 8 9 10 11 12 13 14 15 16 17 18 19 20");
	make_dump("five", 1024);
	ck_assert_str_eq(names("dumps"), " 5 7 8 9 10 11 12 13 14 15 16 17 18 19 20 five");
	ck_assert_int_eq(attr("dumps/five").st_size, 1024);
}
END_TEST

START_TEST(dumps_are_bounded)
{
	struct place p;
	char text[256];

	w->dumps.limit = 4 * SPOOL_BLOCK;
	make_dump("small", SPOOL_BLOCK);
	make_dump("old", SPOOL_BLOCK);
	make_dump("large", 8 * SPOOL_BLOCK);
	ck_assert_str_eq(names("dumps"), " large");
	ck_assert_uint_le(w->dumps.bytes, w->dumps.limit);
	p = at("dumps/large");
	ck_assert_uint_gt(p.dump->left_out, 0);
	struct handle *h = open_path("dumps/large");
	size_t len = read_at(h, p.dump->text.end - 60, sizeof(text), text);
	ck_assert_uint_eq(len, 60);
	ck_assert_ptr_nonnull(memmem(text, len, "... cut: ", 9));
	ck_assert_int_eq(text[len - 1], '\n');
	/* a removed one stays readable for whoever has it open, and takes room as long */
	dumps_remove(&w->dumps, p.dump);
	ck_assert_str_eq(names("dumps"), "");
	ck_assert_uint_eq(read_at(h, 0, 10, text), 10);
	handle_close(w->handles, h);
	ck_assert_uint_eq(w->dumps.bytes, 0);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("nodes");
	TCase *tcase = tcase_create("nodes");
	SRunner *runner = srunner_create(suite);
	int failed;

	tcase_add_checked_fixture(tcase, setup, teardown);
	tcase_add_test(tcase, rows_are_complete);
	tcase_add_test(tcase, bad_tables_are_refused);
	tcase_add_test(tcase, every_row_resolves);
	tcase_add_test(tcase, names_that_are_none);
	tcase_add_test(tcase, an_address_in_any_spelling);
	tcase_add_test(tcase, a_freed_buffer_is_stale);
	tcase_add_test(tcase, a_forgotten_device_is_stale);
	tcase_add_test(tcase, a_leak_that_was_cleaned_is_stale);
	tcase_add_test(tcase, a_leak_that_was_cleared_is_stale);
	tcase_add_test(tcase, numbers_that_are_none);
	tcase_add_test(tcase, a_record_carries_the_allocation);
	tcase_add_test(tcase, owners_and_links);
	tcase_add_test(tcase, what_lasts);
	tcase_add_test(tcase, a_site_in_any_spelling);
	tcase_add_test(tcase, a_listing_of_sites);
	tcase_add_test(tcase, a_listing_in_full);
	tcase_add_test(tcase, marks_come_and_go);
	tcase_add_test(tcase, the_past_is_listed_once);
	tcase_add_test(tcase, a_listing_under_churn);
	tcase_add_test(tcase, a_shared_name_is_listed_once);
	tcase_add_test(tcase, a_pid_that_was_used_again);
	tcase_add_test(tcase, a_text_is_a_snapshot);
	tcase_add_test(tcase, a_text_of_what_is_gone);
	tcase_add_test(tcase, a_table_by_bytes);
	tcase_add_test(tcase, a_table_that_is_no_longer_kept);
	tcase_add_test(tcase, the_stream_by_bytes);
	tcase_add_test(tcase, the_newest_dumps_are_kept);
	tcase_add_test(tcase, dumps_are_bounded);
	suite_add_tcase(suite, tcase);

	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
