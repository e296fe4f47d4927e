/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * tree.c - the table of nodes made into a tree; the contract is in tree.h.
 *
 * The last part of a row's path is a name or one of the variable parts of the table `parts` below. Each of those knows
 * three things: which one a name means (find), which ones there are (next), and whether an inode number still means one
 * (get). Everything else is the same for all rows.
 */
#include "fs/tree.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tracker/mark.h"
#include "tracker/site.h"

#define NS_PER_S UINT64_C(1000000000)
#define NO_ROW UINT32_MAX
#define ST_BLOCK 512          /* the unit of st_blocks */
#define TEXT_BLKSIZE 4096     /* what tools are told to read at once */
#define TABLE_BLKSIZE 131072

/* Offsets in a listing: the ordinal of the child row above, the position among what it stands for below. */
#define OFFSET_SHIFT 40
#define OFFSET_POS ((UINT64_C(1) << OFFSET_SHIFT) - 1)
#define OFFSET_DOT UINT64_C(0)
#define OFFSET_DOTDOT UINT64_C(1)
#define OFFSET_CHILDREN (UINT64_C(1) << OFFSET_SHIFT)

struct listing {
	uint64_t since;
	uint64_t pos;
	unsigned *budget;
	char *name;
	size_t name_size;
};

struct part {
	const char *pattern;
	enum inode_shape shape;
	bool lasts;
	/* Fill in p->inode, p->key and p->dump, which are those of the directory at the call. 0 or -ENOENT, -ESTALE. */
	int (*find)(const struct tree *t, const char *name, struct place *p);
	int (*get)(const struct tree *t, struct place *p);
	/* As tree_list(), with l->pos; also writes the name. */
	int (*next)(struct tree *t, struct listing *l, struct place *p);
};

struct row {
	const struct node *node;
	const char *name;         /* last part of the path */
	size_t name_len;
	const struct part *part;  /* what the last part is, NULL = a name */
	const struct part *deepest;  /* the last variable part of the whole path, NULL = none */
	uint32_t parent, child, sibling;
};

struct tree {
	struct tree_config config;
	unsigned rows;
	struct textbuf text;      /* for lengths */
	struct buffer *found;     /* answers of registry_find() */
	size_t found_room;
	struct row row[];
};

/* ---- names that are numbers ---- */

/* Decimal without sign, leading zeros or anything behind it: a directory must have one name only. */
static bool parse_number(const char *s, uint64_t max, uint64_t *number)
{
	uint64_t v = 0;

	if (!*s || (s[0] == '0' && s[1]))
		return false;
	for (; *s; s++) {
		if (*s < '0' || *s > '9')
			return false;
		v = v * 10 + (uint64_t)(*s - '0');
		if (v > max)
			return false;
	}
	*number = v;
	return true;
}

static int finish_name(const struct listing *l, const struct textbuf *text)
{
	if (textbuf_error(text))
		return -ENOMEM;
	size_t len = text->len < l->name_size ? text->len : l->name_size - 1;
	memcpy(l->name, text->data, len);
	l->name[len] = '\0';
	return 1;
}

/* ---- device{device} ---- */

static void place_device(struct place *p, unsigned device, uint32_t epoch)
{
	p->key.device = device;
	p->inode.device = device;
	p->inode.epoch = epoch;
}

static int device_find(const struct tree *t, const char *name, struct place *p)
{
	const size_t prefix = strlen("device");
	uint64_t id;

	if (strncmp(name, "device", prefix) != 0 || !parse_number(name + prefix, DEVICE_MAX - 1, &id))
		return -ENOENT;
	const struct device *d = registry_device(t->config.view->registry, (unsigned)id);
	if (!d)
		return -ENOENT;
	place_device(p, (unsigned)id, d->epoch);
	return 0;
}

static int device_get(const struct tree *t, struct place *p)
{
	const struct device *d = registry_device(t->config.view->registry, p->inode.device);

	if (!d || d->epoch != p->inode.epoch)
		return -ESTALE;
	p->key.device = p->inode.device;
	return 0;
}

static int device_next(struct tree *t, struct listing *l, struct place *p)
{
	int id = l->pos < DEVICE_MAX ? registry_device_next(t->config.view->registry, (unsigned)l->pos) : -1;

	if (id < 0)
		return 0;
	place_device(p, (unsigned)id, registry_device(t->config.view->registry, (unsigned)id)->epoch);
	l->pos = (uint64_t)id + 1;
	snprintf(l->name, l->name_size, "device%d", id);
	return 1;
}

/* ---- {type} ---- */

static void place_type(struct place *p, unsigned type)
{
	p->key.type = type;
	p->inode.type = type;
}

static int type_find(const struct tree *t, const char *name, struct place *p)
{
	int type = buffer_type_parse(name);

	if (type < 0)
		return -ENOENT;
	place_type(p, (unsigned)type);
	return 0;
}

static int type_get(const struct tree *t, struct place *p)
{
	if (p->inode.type >= BUFFER_TYPES)
		return -ESTALE;
	place_type(p, p->inode.type);
	return device_get(t, p);
}

static int type_next(struct tree *t, struct listing *l, struct place *p)
{
	if (l->pos >= BUFFER_TYPES)
		return 0;
	place_type(p, (unsigned)l->pos);
	snprintf(l->name, l->name_size, "%s", buffer_type_name((unsigned)l->pos));
	l->pos++;
	return 1;
}

/* ---- {address} and {leak} ---- */

static void place_buffer(struct place *p, const struct buffer *b)
{
	p->key.device = b->device;
	p->key.type = b->type;
	p->key.slot = b->slot;
	p->inode.slot = b->slot;
	p->inode.seq = (uint32_t)b->seq & INODE_SEQ_MASK;
}

/* All live buffers of one name, newest first, in t->found. Returns how many, or -ENOMEM. */
static ssize_t find_all(struct tree *t, unsigned device, unsigned type, uint64_t address)
{
	for (;;) {
		size_t n = registry_find(t->config.view->registry, device, type, address, t->found, t->found_room);
		if (n <= t->found_room)
			return (ssize_t)n;
		struct buffer *found = realloc(t->found, 2 * n * sizeof(*found));
		if (!found)
			return -ENOMEM;
		t->found = found;
		t->found_room = 2 * n;
	}
}

static int buffer_find(const struct tree *t, const char *name, struct place *p)
{
	struct buffer b;
	uint64_t address;

	if (!view_parse_address(name, &address) ||
	    !registry_find(t->config.view->registry, p->key.device, p->key.type, address, &b, 1))
		return -ENOENT;
	place_buffer(p, &b);
	return 0;
}

static int buffer_get(const struct tree *t, struct place *p)
{
	struct buffer b;

	if (!registry_buffer(t->config.view->registry, p->inode.slot, &b) ||
	    ((uint32_t)b.seq & INODE_SEQ_MASK) != p->inode.seq)
		return -ESTALE;
	place_buffer(p, &b);
	return 0;
}

static int buffer_next(struct tree *t, struct listing *l, struct place *p)
{
	const struct registry *reg = t->config.view->registry;
	struct buffer_filter filter = BUFFER_FILTER_ALL;
	struct textbuf name = TEXTBUF_INIT;
	struct buffer b;
	int r;

	filter.device = (int)p->key.device;
	filter.type = (int)p->key.type;
	do {
		if (!*l->budget)
			return -EAGAIN;
		--*l->budget;
		r = registry_next(reg, &filter, &l->pos, l->budget, &b);
		if (r <= 0)
			return r;
	} while (!registry_stands_for_name(reg, &b, l->since, l->budget));
	textbuf_addr(&name, b.address);
	registry_find(reg, b.device, b.type, b.address, &b, 1);
	place_buffer(p, &b);
	r = finish_name(l, &name);
	textbuf_deinit(&name);
	return r;
}

static int leak_find(const struct tree *t, const char *name, struct place *p)
{
	struct buffer b;
	uint32_t slot;

	if (view_leak_find(t->config.view, name, &slot) < 0 || !registry_buffer(t->config.view->registry, slot, &b))
		return -ENOENT;
	place_buffer(p, &b);
	return 0;
}

static int leak_get(const struct tree *t, struct place *p)
{
	int r = buffer_get(t, p);

	if (r < 0)
		return r;
	return registry_suspect(t->config.view->registry, p->key.slot) != SUSPECT_NONE ? 0 : -ESTALE;
}

static int leak_next(struct tree *t, struct listing *l, struct place *p)
{
	struct buffer_filter filter = BUFFER_FILTER_ALL;
	struct textbuf name = TEXTBUF_INIT;
	struct buffer b;
	int r;

	if (!registry_suspects(t->config.view->registry))
		return 0;
	filter.suspects = true;
	r = registry_next(t->config.view->registry, &filter, &l->pos, l->budget, &b);
	if (r <= 0)
		return r;
	place_buffer(p, &b);
	view_leak_name(t->config.view, &b, &name);
	r = finish_name(l, &name);
	textbuf_deinit(&name);
	return r;
}

/* ---- {pid} ---- */

static void place_process(struct place *p, uint32_t slot, const struct process *process)
{
	p->key.process = slot;
	p->inode.process = slot;
	p->inode.serial = process->serial;
}

static int process_find(const struct tree *t, const char *name, struct place *p)
{
	uint64_t pid;
	uint32_t slot;

	if (!parse_number(name, INT32_MAX, &pid))
		return -ENOENT;
	slot = registry_process_find(t->config.view->registry, (int32_t)pid);
	if (slot == PROCESS_NONE)
		return -ENOENT;
	place_process(p, slot, registry_process(t->config.view->registry, slot));
	return 0;
}

static int process_get(const struct tree *t, struct place *p)
{
	const struct process *process = registry_process(t->config.view->registry, p->inode.process);

	if (!process || process->serial != p->inode.serial)
		return -ESTALE;
	p->key.process = p->inode.process;
	return 0;
}

/* Of several processes that had one pid, one after the other, the newest has the name. */
static int process_next(struct tree *t, struct listing *l, struct place *p)
{
	const struct registry *reg = t->config.view->registry;

	for (;;) {
		uint32_t slot = l->pos < PROCESS_NONE ? registry_process_next(reg, (uint32_t)l->pos) : PROCESS_NONE;
		if (slot == PROCESS_NONE)
			return 0;
		const struct process *process = registry_process(reg, slot);
		l->pos = (uint64_t)slot + 1;
		if (registry_process_find(reg, process->pid) == slot) {
			place_process(p, slot, process);
			snprintf(l->name, l->name_size, "%" PRId32, process->pid);
			return 1;
		}
		if (!*l->budget)
			return -EAGAIN;
		--*l->budget;
	}
}

/* ---- {site} ---- */

static void place_site(struct place *p, uint32_t site)
{
	p->key.site = site;
	p->inode.site = site;
}

static int site_find(const struct tree *t, const char *name, struct place *p)
{
	uint32_t site;

	if (view_site_find(t->config.view, name, &site) < 0)
		return -ENOENT;
	place_site(p, site);
	return 0;
}

static int site_get(const struct tree *t, struct place *p)
{
	if (!p->inode.site || p->inode.site > registry_sites(t->config.view->registry))
		return -ESTALE;
	place_site(p, p->inode.site);
	return 0;
}

static int site_next(struct tree *t, struct listing *l, struct place *p)
{
	struct textbuf name = TEXTBUF_INIT;
	int r;

	if (l->pos >= registry_sites(t->config.view->registry))
		return 0;
	l->pos++;
	place_site(p, (uint32_t)l->pos);
	view_site_name(t->config.view, p->key.site, &name);
	r = finish_name(l, &name);
	textbuf_deinit(&name);
	return r;
}

/* ---- {past} ---- */

static void place_past(struct place *p, const struct past *past)
{
	p->key.device = past->device;
	p->key.address = past->address;
	p->inode.head = past->head;
	p->inode.place = past->place;
}

static int past_find(const struct tree *t, const char *name, struct place *p)
{
	struct past past;
	uint64_t address;

	if (!view_parse_address(name, &address) ||
	    !registry_past_find(t->config.view->registry, p->key.device, address, &past))
		return -ENOENT;
	place_past(p, &past);
	return 0;
}

static int past_get(const struct tree *t, struct place *p)
{
	struct past past = { .head = p->inode.head, .place = p->inode.place };

	if (!registry_past_get(t->config.view->registry, &past))
		return -ESTALE;
	place_past(p, &past);
	return 0;
}

static int past_next(struct tree *t, struct listing *l, struct place *p)
{
	struct textbuf name = TEXTBUF_INIT;
	struct past past;
	int r = registry_past_next(t->config.view->registry, p->key.device, &l->pos, l->budget, &past);

	if (r <= 0)
		return r;
	place_past(p, &past);
	textbuf_addr(&name, past.address);
	r = finish_name(l, &name);
	textbuf_deinit(&name);
	return r;
}

/* ---- {mark} ---- */

static void place_mark(struct place *p, uint32_t slot, const struct mark *m)
{
	p->key.mark = slot;
	p->inode.mark = m->number;
}

static int mark_find(const struct tree *t, const char *name, struct place *p)
{
	uint32_t slot = registry_mark_find(t->config.view->registry, name);

	if (slot == MARKS_MAX)
		return -ENOENT;
	place_mark(p, slot, registry_mark_at(t->config.view->registry, slot));
	return 0;
}

static int mark_get(const struct tree *t, struct place *p)
{
	for (uint32_t slot = 0; slot < MARKS_MAX; slot++) {
		const struct mark *m = registry_mark_at(t->config.view->registry, slot);
		if (!m || m->number != p->inode.mark)
			continue;
		place_mark(p, slot, m);
		return 0;
	}
	return -ESTALE;
}

static int mark_next(struct tree *t, struct listing *l, struct place *p)
{
	for (; l->pos < MARKS_MAX; l->pos++) {
		const struct mark *m = registry_mark_at(t->config.view->registry, (uint32_t)l->pos);
		if (!m)
			continue;
		place_mark(p, (uint32_t)l->pos++, m);
		snprintf(l->name, l->name_size, "%s", m->name);
		return 1;
	}
	return 0;
}

/* ---- {dump} ---- */

static int dump_find(const struct tree *t, const char *name, struct place *p)
{
	p->dump = dumps_find_name(t->config.dumps, name);
	if (!p->dump)
		return -ENOENT;
	p->inode.dump = p->dump->number;
	return 0;
}

static int dump_get(const struct tree *t, struct place *p)
{
	p->dump = dumps_find(t->config.dumps, p->inode.dump);
	return p->dump ? 0 : -ESTALE;
}

static int dump_next(struct tree *t, struct listing *l, struct place *p)
{
	p->dump = dumps_next(t->config.dumps, l->pos);
	if (!p->dump)
		return 0;
	p->inode.dump = p->dump->number;
	l->pos = p->dump->number + 1;
	snprintf(l->name, l->name_size, "%s", p->dump->name);
	return 1;
}

static const struct part parts[] = {
	{ "device{device}", INODE_DEVICE, true, device_find, device_get, device_next },
	{ "{type}", INODE_TYPE, true, type_find, type_get, type_next },
	{ "{address}", INODE_BUFFER, false, buffer_find, buffer_get, buffer_next },
	{ "{leak}", INODE_BUFFER, false, leak_find, leak_get, leak_next },
	{ "{site}", INODE_SITE, true, site_find, site_get, site_next },
	{ "{pid}", INODE_PROCESS, false, process_find, process_get, process_next },
	{ "{past}", INODE_PAST, false, past_find, past_get, past_next },
	{ "{mark}", INODE_MARK, false, mark_find, mark_get, mark_next },
	{ "{dump}", INODE_DUMP, false, dump_find, dump_get, dump_next },
};

/* ---- building ---- */

static uint32_t find_row(const struct tree *t, const char *path, size_t len)
{
	for (uint32_t i = 0; i < t->rows; i++)
		if (strlen(t->row[i].node->path) == len && memcmp(t->row[i].node->path, path, len) == 0)
			return i;
	return NO_ROW;
}

static const struct part *find_part(const char *name)
{
	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++)
		if (strcmp(name, parts[i].pattern) == 0)
			return &parts[i];
	return NULL;
}

static int add_row(struct tree *t, const struct node *node)
{
	struct row *row = &t->row[t->rows];
	const char *slash = strrchr(node->path, '/');
	uint32_t parent = NO_ROW;

	*row = (struct row){ .node = node, .child = NO_ROW, .sibling = NO_ROW };
	row->name = slash ? slash + 1 : node->path;
	row->name_len = strlen(row->name);
	row->part = find_part(row->name);
	if (t->rows) {
		parent = find_row(t, node->path, slash ? (size_t)(slash - node->path) : 0);
		if (parent == NO_ROW || !row->name_len || (strchr(row->name, '{') && !row->part))
			return -EINVAL;
		uint32_t *link = &t->row[parent].child;
		while (*link != NO_ROW)
			link = &t->row[*link].sibling;
		*link = t->rows;
	}
	row->parent = parent;
	row->deepest = row->part ? row->part : parent == NO_ROW ? NULL : t->row[parent].deepest;
	t->rows++;
	return 0;
}

int tree_new(struct tree **tp, const struct node *table, unsigned count, const struct tree_config *config)
{
	if (!count || count > INODE_ROWS || *table[0].path)
		return -EINVAL;
	struct tree *t = calloc(1, sizeof(*t) + count * sizeof(t->row[0]));
	if (!t)
		return -ENOMEM;
	t->config = *config;
	for (unsigned i = 0; i < count; i++) {
		int r = add_row(t, &table[i]);
		if (r < 0) {
			tree_free(t);
			return r;
		}
	}
	*tp = t;
	return 0;
}

void tree_free(struct tree *t)
{
	if (!t)
		return;
	textbuf_deinit(&t->text);
	free(t->found);
	free(t);
}

/* ---- places ---- */

static enum inode_shape shape(const struct row *row)
{
	return row->deepest ? row->deepest->shape : INODE_FIXED;
}

static void settle(const struct tree *t, uint32_t row, struct place *p)
{
	p->node = t->row[row].node;
	p->inode.row = row;
	p->number = inode_pack(shape(&t->row[row]), &p->inode);
}

int tree_get(const struct tree *t, uint64_t number, struct place *p)
{
	unsigned row = inode_row(number);

	if (row >= t->rows)
		return -ESTALE;
	*p = (struct place){ .node = t->row[row].node, .number = number };
	p->inode = inode_unpack(shape(&t->row[row]), number);
	return t->row[row].deepest ? t->row[row].deepest->get(t, p) : 0;
}

int tree_lookup(const struct tree *t, const struct place *dir, const char *name, struct place *p)
{
	if (dir->node->kind != NODE_DIR)
		return -ENOTDIR;
	for (uint32_t i = t->row[dir->inode.row].child; i != NO_ROW; i = t->row[i].sibling) {
		*p = *dir;
		if (t->row[i].part ? t->row[i].part->find(t, name, p) < 0 : strcmp(t->row[i].name, name) != 0)
			continue;
		settle(t, i, p);
		return 0;
	}
	return -ENOENT;
}

bool tree_name_lasts(const struct tree *t, const struct place *p)
{
	const struct part *part = t->row[p->inode.row].part;

	return !part || part->lasts;
}

bool tree_number_lasts(const struct tree *t, uint64_t number)
{
	const struct part *part = inode_row(number) < t->rows ? t->row[inode_row(number)].deepest : NULL;

	return !part || part->lasts;
}

bool tree_attr_lasts(const struct tree *t, const struct place *p)
{
	return p->node->kind == NODE_DIR || (p->node->constant && tree_name_lasts(t, p));
}

/* ---- attributes ---- */

static struct timespec time_of(uint64_t ns)
{
	return (struct timespec){ .tv_sec = (time_t)(ns / NS_PER_S), .tv_nsec = (long)(ns % NS_PER_S) };
}

static void set_times(struct stat *st, uint64_t ns)
{
	st->st_atim = time_of(ns);
	st->st_mtim = time_of(ns);
	st->st_ctim = time_of(ns);
}

static uint64_t newest_event(const struct view *v)
{
	const struct trace *trace = v->trace;

	return trace->next > trace->first ? trace->ring[(trace->next - 1) % trace->size].time : v->server->started;
}

static void set_owner(const struct tree *t, struct stat *st, uint32_t process)
{
	const struct process *owner = registry_process(t->config.view->registry, process);

	if (!owner)
		return;
	st->st_uid = owner->uid;
	st->st_gid = owner->gid;
}

static void set_blocks(struct stat *st, uint64_t bytes)
{
	st->st_blocks = (blkcnt_t)(bytes / ST_BLOCK + (bytes % ST_BLOCK != 0));
}

/* A record carries the allocation in its attributes: owner, time, and the memory held under its name. */
static int attr_buffer(struct tree *t, const struct place *p, struct stat *st)
{
	struct buffer b;
	uint64_t bytes = 0;
	ssize_t n;

	if (!registry_buffer(t->config.view->registry, p->key.slot, &b))
		return -ENOENT;
	set_owner(t, st, b.process);
	set_times(st, b.time);
	if (t->row[p->inode.row].deepest->find == leak_find) {
		set_blocks(st, b.size);
		return 0;
	}
	n = find_all(t, b.device, b.type, b.address);
	if (n < 0)
		return (int)n;
	for (ssize_t i = 0; i < n; i++)
		bytes += t->found[i].size;
	set_blocks(st, bytes);
	return 0;
}

static void attr_process(const struct tree *t, const struct place *p, struct stat *st)
{
	const struct process *process = registry_process(t->config.view->registry, p->key.process);

	set_owner(t, st, p->key.process);
	if (process && (p->node->kind == NODE_DIR || p->node->constant))
		set_times(st, process->connected);
}

static int attr_text(const struct tree *t, const struct place *p, struct textbuf *text, struct stat *st)
{
	textbuf_clear(text);
	int r = p->node->show(t->config.view, &p->key, text);
	if (r < 0)
		return r;
	if (textbuf_error(text))
		return -ENOMEM;
	st->st_size = (off_t)text->len;
	return 0;
}

static void attr_dump(const struct place *p, struct stat *st)
{
	st->st_size = (off_t)p->dump->text.end;
	set_blocks(st, p->dump->text.end);
	set_times(st, p->dump->made);
}

static mode_t mode(const struct node *node)
{
	return (node->kind == NODE_DIR ? S_IFDIR : S_IFREG) | node->mode;
}

int tree_attr(struct tree *t, const struct place *p, struct textbuf *text, struct stat *st)
{
	const struct view *v = t->config.view;
	enum node_kind kind = p->node->kind;
	int r = 0;

	*st = (struct stat){ .st_ino = p->number, .st_mode = mode(p->node), .st_nlink = 1 };
	st->st_uid = t->config.uid;
	st->st_gid = t->config.gid;
	/* So that stdio writes a list in one piece: a piece that ends within a line would be understood as a whole one. */
	bool large = kind == NODE_TABLE || kind == NODE_DUMP || kind == NODE_LIST;
	st->st_blksize = large ? TABLE_BLKSIZE : TEXT_BLKSIZE;
	set_times(st, v->server->started);
	if (kind != NODE_DIR && kind != NODE_OPTION && kind != NODE_LIST && !p->node->constant)
		st->st_mtim = time_of(newest_event(v));
	if (kind == NODE_DIR)
		st->st_nlink = 2 + tree_subdirs(t, p);
	if (shape(&t->row[p->inode.row]) == INODE_PROCESS)
		attr_process(t, p, st);
	else if (shape(&t->row[p->inode.row]) == INODE_BUFFER)
		r = attr_buffer(t, p, st);
	if (kind == NODE_DUMP)
		attr_dump(p, st);
	if (r == 0 && p->node->show)
		r = attr_text(t, p, text ? text : &t->text, st);
	return r;
}

static unsigned entries_of(const struct tree *t, const struct part *part)
{
	switch (part->shape) {
	case INODE_DEVICE:
		return registry_device_count(t->config.view->registry);
	case INODE_TYPE:
		return BUFFER_TYPES;
	case INODE_PROCESS:
		return registry_process_count(t->config.view->registry);
	case INODE_MARK:
		return registry_mark_count(t->config.view->registry);
	case INODE_FIXED:
	case INODE_BUFFER:
	case INODE_SITE:
	case INODE_PAST:
	case INODE_DUMP:
		break;
	}
	return 0;
}

unsigned tree_subdirs(const struct tree *t, const struct place *dir)
{
	unsigned n = 0;

	for (uint32_t i = t->row[dir->inode.row].child; i != NO_ROW; i = t->row[i].sibling)
		if (t->row[i].node->kind == NODE_DIR)
			n += t->row[i].part ? entries_of(t, t->row[i].part) : 1;
	return n;
}

/* ---- listings ---- */

/* "." and "..". */
static int list_dots(const struct tree *t, const struct place *dir, uint64_t *offset, struct tree_entry *e)
{
	uint32_t parent = t->row[dir->inode.row].parent;
	struct place p = *dir;

	if (*offset >= OFFSET_DOTDOT && parent != NO_ROW)
		settle(t, parent, &p);
	snprintf(e->name, sizeof(e->name), "%s", *offset == OFFSET_DOT ? "." : "..");
	e->number = p.number;
	e->mode = S_IFDIR;
	*offset = *offset == OFFSET_DOT ? OFFSET_DOTDOT : OFFSET_CHILDREN;
	e->next = *offset;
	return 1;
}

/* The next entry of one child row; pos 0 is its first. 0 = no more of it. */
static int list_child(struct tree *t, uint32_t child, struct listing *l, struct place *p)
{
	if (t->row[child].part)
		return t->row[child].part->next(t, l, p);
	if (l->pos)
		return 0;
	l->pos = 1;
	snprintf(l->name, l->name_size, "%s", t->row[child].name);
	return 1;
}

int tree_list(struct tree *t, const struct place *dir, uint64_t *offset, uint64_t since, unsigned *budget,
	      struct tree_entry *e)
{
	if (*offset < OFFSET_CHILDREN)
		return list_dots(t, dir, offset, e);

	struct listing l = { .since = since, .budget = budget, .name = e->name, .name_size = sizeof(e->name) };
	uint64_t wanted = *offset / OFFSET_CHILDREN, ordinal = 1;
	uint32_t child = t->row[dir->inode.row].child;

	for (; child != NO_ROW; child = t->row[child].sibling, ordinal++) {
		if (ordinal < wanted)
			continue;
		struct place p = *dir;
		l.pos = ordinal == wanted ? *offset & OFFSET_POS : 0;
		int r = list_child(t, child, &l, &p);
		*offset = ordinal << OFFSET_SHIFT | l.pos;
		if (r < 0)
			return r;
		if (!r)
			continue;
		settle(t, child, &p);
		e->number = p.number;
		e->mode = mode(p.node);
		e->next = *offset;
		return 1;
	}
	return 0;
}

unsigned tree_fixed_dirs(const struct tree *t, uint64_t *numbers, unsigned max)
{
	unsigned n = 0;

	for (uint32_t i = 0; i < t->rows && n < max; i++) {
		struct place p = { 0 };
		if (t->row[i].node->kind != NODE_DIR || t->row[i].deepest)
			continue;
		settle(t, i, &p);
		numbers[n++] = p.number;
	}
	return n;
}

unsigned tree_device_dirs(const struct tree *t, unsigned device, uint64_t *numbers, unsigned max)
{
	const struct device *d = registry_device(t->config.view->registry, device);
	unsigned n = 0;

	for (uint32_t i = 0; d && i < t->rows; i++) {
		struct place p = { 0 };
		enum inode_shape s = shape(&t->row[i]);
		if (t->row[i].node->kind != NODE_DIR || (s != INODE_DEVICE && s != INODE_TYPE))
			continue;
		place_device(&p, device, d->epoch);
		for (unsigned type = 0; type < (s == INODE_TYPE ? BUFFER_TYPES : 1) && n < max; type++) {
			place_type(&p, type);
			settle(t, i, &p);
			numbers[n++] = p.number;
		}
	}
	return n;
}
