/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * registry.c - records, chunks, holdings, devices and their totals; see registry.h for the model.
 *
 * Order of stores: a record is complete before its bit in the chunk's tag is set, and the bit is cleared before
 * anything of the record is reused. The bits are therefore the truth; index, totals and lists can be made anew from
 * them.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tracker/registry-internal.h"

/* ---- layout of the arena ---- */

struct layout {
	size_t record, chunk, holding, process, device, heads, events, persons;
	size_t module, site, frame, tag, pair, module_text, tag_text, account, sum, mark_device, cell;
	size_t size;
	uint32_t max_chunks;
};

static size_t reserve(size_t *at, size_t bytes)
{
	size_t start = *at;

	*at = (start + bytes + 4095) & ~(size_t)4095;
	return start;
}

/* Twice the chunks that max_buffers would fill, and some for many small holdings: chunks are seldom full. */
static struct layout layout_of(const struct registry_config *c)
{
	struct layout l = { .max_chunks = c->max_buffers / CHUNK * 2 + 65536 };
	size_t at = 0;

	l.record = reserve(&at, (size_t)l.max_chunks * CHUNK * sizeof(struct record));
	l.chunk = reserve(&at, l.max_chunks * sizeof(struct chunk));
	l.holding = reserve(&at, MAX_HOLDINGS * sizeof(struct holding));
	l.process = reserve(&at, c->max_processes * sizeof(struct process_slot));
	l.device = reserve(&at, DEVICE_MAX * sizeof(struct device));
	l.heads = reserve(&at, history_heads_size(c->history_events));
	l.events = reserve(&at, history_events_size(c->history_events));
	l.persons = reserve(&at, history_persons_size());
	l.module = reserve(&at, REGISTRY_MODULES * sizeof(struct module));
	l.site = reserve(&at, REGISTRY_SITES * sizeof(struct site));
	l.frame = reserve(&at, REGISTRY_FRAMES * sizeof(struct site_frame));
	l.tag = reserve(&at, REGISTRY_TAGS * sizeof(struct tag));
	l.pair = reserve(&at, REGISTRY_PAIRS * sizeof(struct site_pair));
	l.module_text = reserve(&at, REGISTRY_MODULE_TEXT);
	l.tag_text = reserve(&at, REGISTRY_TAG_TEXT);
	l.account = reserve(&at, REGISTRY_ACCOUNTS * sizeof(struct account));
	l.sum = reserve(&at, REGISTRY_ACCOUNTS * sizeof(struct account));
	l.mark_device = reserve(&at, (size_t)MARKS_MAX * DEVICE_MAX * sizeof(struct mark_device));
	l.cell = reserve(&at, (GROWTH_CELLS + 1) * sizeof(struct cell));
	l.size = at;
	return l;
}
static_assert((REGISTRY_MAX_BUFFERS_LIMIT / CHUNK * 2 + 65536) * CHUNK <= INDEX_VALUE_MAX, "slots fit an index value");

size_t registry_arena_size(const struct registry_config *config)
{
	return layout_of(config).size;
}

/* Any number as seed gives a hash that spreads: its bits go into all bits of this one (the finaliser of splitmix64). */
static uint64_t spread(uint64_t seed)
{
	uint64_t z = seed + UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
	return z ^ z >> 31;
}

int registry_new(struct registry **regp, const struct registry_config *config, void *arena)
{
	if (config->max_buffers < 1 || config->max_buffers > REGISTRY_MAX_BUFFERS_LIMIT || config->max_processes < 1 ||
	    config->max_processes > 65535 || config->history_events > HISTORY_EVENTS_MAX ||
	    config->history_per_buffer > REGISTRY_HISTORY_PER_BUFFER_LIMIT)
		return -EINVAL;
	struct registry *reg = calloc(1, sizeof(*reg));
	if (!reg)
		return -ENOMEM;
	struct layout l = layout_of(config);
	char *base = arena;

	reg->config = *config;
	reg->config.seed = spread(config->seed);
	reg->max_buffers = config->max_buffers;
	reg->max_chunks = l.max_chunks;
	reg->record = (void *)(base + l.record);
	reg->chunk = (void *)(base + l.chunk);
	reg->holding = (void *)(base + l.holding);
	reg->process = (void *)(base + l.process);
	reg->device = (void *)(base + l.device);
	reg->module = (void *)(base + l.module);
	reg->site = (void *)(base + l.site);
	reg->frame = (void *)(base + l.frame);
	reg->tag = (void *)(base + l.tag);
	reg->pair = (void *)(base + l.pair);
	reg->module_text = base + l.module_text;
	reg->tag_text = base + l.tag_text;
	reg->account = (void *)(base + l.account);
	reg->sum = (void *)(base + l.sum);
	reg->mark_device = (void *)(base + l.mark_device);
	reg->cell = (void *)(base + l.cell);
	reg->used_chunks = 1;
	reg->used_holdings = 1;
	reg->used_accounts = 1;
	reg->growth = (struct growth_state){ .marks = GROWTH_MARKS_DEFAULT, .used = 1 };
	history_init(&reg->history, &reg->index, reg->config.seed, config->history_events, config->history_per_buffer,
		     base + l.heads, base + l.events, base + l.persons, &reg->counters.history_dropped);
	if (index_init(&reg->index) < 0 || index_init(&reg->holdings) < 0 || index_init(&reg->definitions) < 0 ||
	    index_init(&reg->accounts) < 0 || index_init(&reg->cells) < 0) {
		registry_free(reg);
		return -ENOMEM;
	}
	*regp = reg;
	return 0;
}

void registry_free(struct registry *reg)
{
	if (!reg)
		return;
	registry_process_deinit(reg);
	registry_users_deinit(reg);
	index_deinit(&reg->index);
	index_deinit(&reg->holdings);
	index_deinit(&reg->definitions);
	index_deinit(&reg->accounts);
	index_deinit(&reg->cells);
	suppressions_free(&reg->suppressions);
	free(reg);
}

/* ---- settings and small accessors ---- */

uint32_t registry_max_buffers(const struct registry *reg)
{
	return reg->max_buffers;
}

uint32_t registry_max_buffers_limit(const struct registry *reg)
{
	return reg->config.max_buffers;
}

int registry_set_max_buffers(struct registry *reg, uint64_t n)
{
	if (n < 1 || n > reg->config.max_buffers)
		return -ERANGE;
	reg->max_buffers = (uint32_t)n;
	return 0;
}

uint32_t registry_history_per_buffer(const struct registry *reg)
{
	return reg->history.per_key;
}

int registry_set_history_per_buffer(struct registry *reg, uint64_t n)
{
	if (n > REGISTRY_HISTORY_PER_BUFFER_LIMIT)
		return -ERANGE;
	reg->history.per_key = (uint32_t)n;
	return 0;
}

const struct counters *registry_counters(const struct registry *reg)
{
	return &reg->counters;
}

struct counters *registry_counters_edit(struct registry *reg)
{
	return &reg->counters;
}

struct totals registry_totals(const struct registry *reg)
{
	return reg->total;
}

uint64_t registry_history_records(const struct registry *reg)
{
	return reg->history.events;
}

uint64_t registry_memory(const struct registry *reg)
{
	return sizeof(*reg) + index_bytes(&reg->index) + index_bytes(&reg->holdings) + index_bytes(&reg->definitions) +
	       index_bytes(&reg->accounts) + index_bytes(&reg->cells) +
	       (uint64_t)reg->used_chunks *
		       (CHUNK * sizeof(struct record) + sizeof(struct chunk)) +
	       (uint64_t)reg->used_holdings * sizeof(struct holding) +
	       (uint64_t)reg->used_processes * sizeof(struct process_slot) +
	       history_memory(&reg->history) +
	       (uint64_t)reg->used[SHARE_MODULES] * sizeof(struct module) +
	       (uint64_t)reg->used[SHARE_SITES] * sizeof(struct site) +
	       (uint64_t)reg->used[SHARE_FRAMES] * sizeof(struct site_frame) +
	       (uint64_t)reg->used[SHARE_PAIRS] * sizeof(struct site_pair) +
	       (uint64_t)reg->used[SHARE_TAGS] * sizeof(struct tag) + reg->used[SHARE_MODULE_TEXT] +
	       reg->used[SHARE_TAG_TEXT] +
	       ((uint64_t)reg->used_accounts + reg->used[SHARE_SUMS]) * sizeof(struct account) +
	       (uint64_t)reg->growth.used * sizeof(struct cell);
}

uint64_t registry_version(const struct registry *reg)
{
	return reg->version;
}

void registry_touch(struct registry *reg)
{
	reg->version++;
}

uint64_t registry_take_event(struct registry *reg, uint32_t process)
{
	reg->counters.events_total++;
	reg->process[process].p.events++;
	return ++reg->seq;
}

uint64_t registry_seq(const struct registry *reg)
{
	return reg->seq;
}

/* ---- devices: a direct table, since ids are small ---- */

const struct device *registry_device(const struct registry *reg, unsigned id)
{
	return id < DEVICE_MAX && reg->device[id].known ? &reg->device[id] : NULL;
}

int registry_device_next(const struct registry *reg, unsigned id)
{
	for (; id < DEVICE_MAX; id++)
		if (reg->device[id].known)
			return (int)id;
	return -1;
}

unsigned registry_device_count(const struct registry *reg)
{
	unsigned n = 0;

	for (unsigned id = 0; id < DEVICE_MAX; id++)
		n += reg->device[id].known;
	return n;
}

struct totals registry_device_totals(const struct device *d, unsigned type)
{
	struct totals t = type < BUFFER_TYPES ? d->type[type] : d->total;

	if (d->past_peak[type] > t.peak)
		t.peak = d->past_peak[type];
	return t;
}

static void set_capacity(struct registry *reg, struct device *d, uint64_t dram, uint64_t l1, uint32_t arch)
{
	d->known = true;
	d->capacity[BUFFER_DRAM] = dram;
	d->capacity[BUFFER_L1] = l1;
	d->arch = arch;
	reg->version++;
}

void registry_device_declare(struct registry *reg, unsigned id, uint64_t dram, uint64_t l1, uint32_t arch)
{
	if (id >= DEVICE_MAX)
		return;
	reg->device[id].declared = true;
	set_capacity(reg, &reg->device[id], dram, l1, arch);
}

int registry_device_report(struct registry *reg, unsigned id, uint32_t uid, uint64_t dram, uint64_t l1, uint32_t arch)
{
	struct device *d;
	bool same;

	if (id >= DEVICE_MAX)
		return -ERANGE;
	d = &reg->device[id];
	same = d->capacity[BUFFER_DRAM] == dram && d->capacity[BUFFER_L1] == l1 && d->arch == arch;
	if (d->declared || (d->reported && uid != d->reporter && uid != 0))
		return same ? 0 : -EPERM;
	d->reported = true;
	d->reporter = uid;
	if (!same || !d->known)
		set_capacity(reg, d, dram, l1, arch);
	return 0;
}

/* ---- totals ---- */

static void totals_grow(struct totals *t, uint64_t bytes)
{
	t->bytes += bytes;
	if (t->bytes > t->peak)
		t->peak = t->bytes;
}

/* The sums that a buffer of this holding and this account is part of; without an account the first five. */
#define SUMS 7
#define SUMS_WITHOUT_ACCOUNT 5
static inline int sums_of(struct registry *reg, const struct holding *h, uint32_t account, struct totals *t[SUMS])
{
	struct device *d = &reg->device[h->device];
	struct process *p = &reg->process[h->process].p;

	t[0] = &d->type[h->type];
	t[1] = &d->total;
	t[2] = &p->type[h->type];
	t[3] = &p->total;
	t[4] = &reg->total;
	if (!account)
		return SUMS_WITHOUT_ACCOUNT;
	t[5] = &reg->account[account].totals;
	t[6] = &reg->sum[reg->account[account].sum].totals;
	return SUMS;
}

static inline void totals_add(struct totals *t, uint64_t size)
{
	t->count++;
	t->allocs++;
	totals_grow(t, size);
}

static inline void totals_remove(struct totals *t, uint64_t size, bool freed)
{
	t->count--;
	t->bytes -= size;
	t->frees += freed;
}

static void sums_add(struct registry *reg, const struct holding *h, uint32_t account, uint64_t size)
{
	struct totals *t[SUMS];
	int n = sums_of(reg, h, account, t);

	for (int i = 0; i < n; i++)
		totals_add(t[i], size);
}

/* `freed`: given back by a free, not forgotten by a control command. */
static void sums_remove(struct registry *reg, const struct holding *h, uint32_t account, uint64_t size, bool freed)
{
	struct totals *t[SUMS];
	int n = sums_of(reg, h, account, t);

	for (int i = 0; i < n; i++)
		totals_remove(t[i], size, freed);
}

static void sums_resize(struct registry *reg, const struct holding *h, uint32_t account, uint64_t from, uint64_t to)
{
	struct totals *t[SUMS];
	int n = sums_of(reg, h, account, t);

	for (int i = 0; i < n; i++) {
		t[i]->bytes -= from;
		totals_grow(t[i], to);
	}
}

/* ---- holdings ---- */

static uint32_t holding_hash(const struct registry *reg, const struct process *p, unsigned device, unsigned type)
{
	return history_hash(reg->config.seed, device, (uint64_t)p->serial << 8 | type);
}

static uint32_t holding_find(const struct registry *reg, uint32_t process, unsigned device, unsigned type)
{
	struct index_cursor c = index_find(&reg->holdings,
					   holding_hash(reg, &reg->process[process].p, device, type));
	uint64_t e;

	while ((e = index_next(&c)) != 0) {
		const struct holding *h = &reg->holding[index_entry_value(e)];
		if (h->process == process && h->device == device && h->type == type)
			return index_entry_value(e);
	}
	return 0;
}

static int holding_get(struct registry *reg, uint32_t process, unsigned device, unsigned type, uint32_t *number)
{
	struct process_slot *s = &reg->process[process];
	const struct holding *last = &reg->holding[reg->last_holding];

	/* One event after the other is for the same. */
	if (last->used && last->process == process && last->device == device && last->type == type) {
		*number = reg->last_holding;
		return 0;
	}
	*number = reg->last_holding = holding_find(reg, process, device, type);
	if (*number)
		return 0;
	if (!reg->free_holdings && reg->used_holdings == MAX_HOLDINGS)
		return -ENOSPC;
	uint32_t n = reg->free_holdings ? reg->free_holdings : reg->used_holdings;
	int r = index_insert(&reg->holdings, holding_hash(reg, &s->p, device, type), 0, n);
	if (r < 0)
		return r;
	if (reg->free_holdings)
		reg->free_holdings = reg->holding[n].next;
	else
		reg->used_holdings++;
	reg->holding[n] = (struct holding){
		.process = process,
		.device = (uint16_t)device,
		.type = (uint8_t)type,
		.used = 1,
		.next = s->holdings,
	};
	if (s->holdings)
		reg->holding[s->holdings].prev = n;
	s->holdings = n;
	s->p.device_mask[device / 32] |= UINT32_C(1) << device % 32;
	*number = n;
	return 0;
}

void registry_holding_release(struct registry *reg, uint32_t number)
{
	struct holding *h = &reg->holding[number];
	struct process_slot *s = &reg->process[h->process];

	if (h->prev)
		reg->holding[h->prev].next = h->next;
	else
		s->holdings = h->next;
	if (h->next)
		reg->holding[h->next].prev = h->prev;
	index_remove(&reg->holdings, holding_hash(reg, &s->p, h->device, h->type), 0, number);
	*h = (struct holding){ .next = reg->free_holdings };
	reg->free_holdings = number;
}

/* ---- chunks ---- */

static void partial_add(struct registry *reg, struct holding *h, uint32_t chunk)
{
	reg->chunk[chunk].prev = 0;
	reg->chunk[chunk].next = h->partial;
	if (h->partial)
		reg->chunk[h->partial].prev = chunk;
	h->partial = chunk;
}

static void partial_remove(struct registry *reg, struct holding *h, uint32_t chunk)
{
	const struct chunk *c = &reg->chunk[chunk];

	if (c->prev)
		reg->chunk[c->prev].next = c->next;
	else
		h->partial = c->next;
	if (c->next)
		reg->chunk[c->next].prev = c->prev;
}

static int chunk_with_room(struct registry *reg, uint32_t number, uint32_t *chunk)
{
	struct holding *h = &reg->holding[number];

	if (h->partial) {
		*chunk = h->partial;
		return 0;
	}
	if (reg->free_chunks) {
		*chunk = reg->free_chunks;
		reg->free_chunks = reg->chunk[*chunk].next;
	} else if (reg->used_chunks < reg->max_chunks) {
		*chunk = reg->used_chunks++;
	} else {
		return -ENOSPC;
	}
	reg->chunk[*chunk] = (struct chunk){ .holding = number };
	partial_add(reg, h, *chunk);
	return 0;
}

/* A chunk without live records goes back to the free ones. */
static void chunk_settle(struct registry *reg, struct holding *h, uint32_t chunk)
{
	if (reg->chunk[chunk].live)
		return;
	partial_remove(reg, h, chunk);
	reg->chunk[chunk] = (struct chunk){ .next = reg->free_chunks };
	reg->free_chunks = chunk;
}

/* ---- reading records ---- */

static struct buffer buffer_at(const struct registry *reg, uint32_t slot)
{
	const struct record *r = &reg->record[slot];
	const struct holding *h = &reg->holding[reg->chunk[slot / CHUNK].holding];

	return (struct buffer){
		.slot = slot,
		.process = h->process,
		.device = h->device,
		.type = h->type,
		.kernel_class = r->kernel_class,
		.refs = r->refs,
		.history = r->history,
		.site = reg->account[r->account].site,
		.tag = r->tag,
		.address = r->address,
		.size = r->size,
		.time = r->time,
		.seq = r->seq,
	};
}

bool registry_buffer(const struct registry *reg, uint32_t slot, struct buffer *out)
{
	if (slot / CHUNK >= reg->used_chunks || !(reg->chunk[slot / CHUNK].live >> slot % CHUNK & 1))
		return false;
	*out = buffer_at(reg, slot);
	return true;
}

/* ---- what booking will look at ---- */

void registry_ahead_index(const struct registry *reg, const struct event *events, size_t n, struct registry_ahead *of,
			  struct ahead *ask)
{
	for (size_t i = 0; i < n; i++) {
		of[i].hash = registry_hash(reg, (unsigned)events[i].device, events[i].address);
		ahead_add(ask, index_start(&reg->index, of[i].hash));
	}
}

/* What the first entry of that hash points at. Without a branch that depends on what is found: half of them would be
 * guessed wrong, which costs more than to ask for something that is there already. */
void registry_ahead_entries(const struct registry *reg, size_t n, struct registry_ahead *of, struct ahead *ask)
{
	const char *const base[2] = { (const char *)reg->record, (const char *)reg->history.head };
	const size_t width[2] = { sizeof(struct record), sizeof(union history_head) };

	for (size_t i = 0; i < n; i++) {
		uint64_t e = *index_seek(index_start(&reg->index, of[i].hash), of[i].hash);
		uint32_t found = (uint32_t)((e != 0) & (index_entry_hash(e) == of[i].hash));
		uint32_t value = index_entry_value(e) & -found;
		uint32_t head = index_tag_is_head(index_entry_tag(e)) & found;
		const char *first = base[head] + (size_t)value * width[head];
		of[i].record = value & (head - 1);
		ahead_add(ask, first);
		ahead_add(ask, first + width[head] - 1);  /* a record may reach into the next line */
		ahead_add(ask, &reg->chunk[of[i].record / CHUNK]);
	}
}

void registry_ahead_history(const struct registry *reg, size_t n, const struct registry_ahead *of, struct ahead *ask)
{
	for (size_t i = 0; i < n; i++)
		ahead_add(ask, &reg->history.head[reg->record[of[i].record].history]);
}

void registry_ahead_events(struct registry *reg, size_t n, const struct registry_ahead *of, struct ahead *ask)
{
	for (size_t i = 0; i < n; i++)
		history_ahead_append(&reg->history, reg->record[of[i].record].history, ask);
	history_ahead_evict(&reg->history, (unsigned)n, ask);
}

struct walk registry_walk(const struct registry *reg, unsigned device, uint64_t address, unsigned types)
{
	return (struct walk){
		.cursor = index_find(&reg->index, registry_hash(reg, device, address)),
		.device = device,
		.types = types,
		.address = address,
	};
}

bool registry_walk_next(const struct registry *reg, struct walk *w, struct buffer *out)
{
	uint64_t e;

	while ((e = index_next(&w->cursor)) != 0) {
		uint32_t tag = index_entry_tag(e);
		if (index_tag_is_head(tag) || !(w->types >> index_tag_type(tag) & 1))
			continue;
		uint32_t slot = index_entry_value(e);
		if (reg->record[slot].address != w->address)
			continue;
		*out = buffer_at(reg, slot);
		if (out->device == w->device)
			return true;
	}
	return false;
}

/* Entries of one hash stand in the order of their insertion, so the newest of them comes last. */
size_t registry_find(const struct registry *reg, unsigned device, unsigned type, uint64_t address, struct buffer *out,
		     size_t max)
{
	struct walk count = registry_walk(reg, device, address, 1U << type);
	struct walk w = count;
	struct buffer b;
	size_t n = 0;

	while (registry_walk_next(reg, &count, &b))
		n++;
	for (size_t i = n; max && i > 0 && registry_walk_next(reg, &w, &b); i--)
		if (i <= max)
			out[i - 1] = b;
	return n;
}

/* The walk goes oldest first, and old buffers usually have small slots: mostly the first one decides. */
bool registry_stands_for_name(const struct registry *reg, const struct buffer *b, uint64_t since, unsigned *budget)
{
	struct walk w = registry_walk(reg, b->device, b->address, 1U << b->type);
	struct buffer other;

	while (registry_walk_next(reg, &w, &other)) {
		bool older = other.seq <= since;
		if (b->seq > since ? older || other.slot < b->slot : older && other.slot < b->slot)
			return false;
		*budget -= *budget > 0;
	}
	return true;
}

size_t registry_own(const struct registry *reg, uint32_t process, unsigned device, uint64_t address, unsigned types,
		    struct buffer *out)
{
	struct index_cursor c = index_find(&reg->index, registry_hash(reg, device, address));
	const uint32_t owner = reg->process[process].p.serial & 31;
	uint32_t newest = 0;
	size_t n = 0;
	uint64_t e;

	/* As registry_walk_next(), but nothing is copied before it is known to be wanted: each event begins here. */
	while ((e = index_next(&c)) != 0) {
		uint32_t tag = index_entry_tag(e), slot = index_entry_value(e);
		if (index_tag_is_head(tag) || index_tag_owner(tag) != owner || !(types >> index_tag_type(tag) & 1))
			continue;
		if (reg->record[slot].address != address)
			continue;
		const struct holding *h = &reg->holding[reg->chunk[slot / CHUNK].holding];
		if (h->process != process || h->device != device)
			continue;
		if (!n++ || reg->record[slot].seq > reg->record[newest].seq)
			newest = slot;
	}
	if (n)
		*out = buffer_at(reg, newest);
	return n;
}

size_t registry_own_elsewhere(const struct registry *reg, uint32_t process, unsigned device, uint64_t address,
			      unsigned types, struct buffer *out)
{
	const struct process *p = &reg->process[process].p;
	unsigned devices = 0;
	size_t n = 0;

	for (unsigned word = 0; word < DEVICE_MAX / 32; word++)
		devices += (unsigned)__builtin_popcount(p->device_mask[word]);
	if (devices > REGISTRY_REROUTE_DEVICES)
		return 0;
	for (unsigned word = 0; word < DEVICE_MAX / 32; word++) {
		for (uint32_t bits = p->device_mask[word]; bits; bits &= bits - 1) {
			unsigned d = word * 32 + (unsigned)__builtin_ctz(bits);
			struct buffer b;
			size_t found = d == device ? 0 : registry_own(reg, process, d, address, types, &b);
			if (found && (!n || b.seq > out->seq))
				*out = b;
			n += found;
		}
	}
	return n;
}

void registry_others(const struct registry *reg, uint32_t process, unsigned device, uint64_t address, unsigned types,
		     unsigned *same_uid, unsigned *other_uid, struct buffer *out)
{
	struct walk w = registry_walk(reg, device, address, types);
	uint32_t uid = reg->process[process].p.uid;
	struct buffer b;

	*same_uid = *other_uid = 0;
	while (*same_uid < 2 && registry_walk_next(reg, &w, &b)) {
		if (b.process == process ||
		    !registry_process_met(&reg->process[process].p, &reg->process[b.process].p))
			continue;
		bool same = reg->process[b.process].p.uid == uid;
		if (same ? !*same_uid : !*same_uid && !*other_uid)
			*out = b;
		if (same)
			++*same_uid;
		else if (*other_uid < 2)
			++*other_uid;
	}
}

static bool filter_wants(const struct registry *reg, const struct buffer_filter *f, uint32_t number)
{
	const struct holding *h = &reg->holding[number];

	return (f->device < 0 || h->device == f->device) && (f->type < 0 || h->type == f->type) &&
	       (f->process == PROCESS_NONE || h->process == f->process) &&
	       (!f->suspects || registry_holds_suspects(&reg->process[h->process].p));
}

#define COST_OF_RECORDS 8  /* of looking at those of a chunk, too, in chunks */

/* Of the records whose bits are in `live`. */
static unsigned only_suspects(const struct registry *reg, uint32_t chunk, unsigned live)
{
	const struct process *p = &reg->process[reg->holding[reg->chunk[chunk].holding].process].p;
	unsigned suspects = 0;

	for (; live; live &= live - 1) {
		unsigned at = (unsigned)__builtin_ctz(live);
		if (registry_reason(&reg->record[chunk * CHUNK + at], p) != SUSPECT_NONE)
			suspects |= 1U << at;
	}
	return suspects;
}

/* Of the live records of a chunk those that were allocated after `seq`. */
static unsigned newer_than(const struct registry *reg, uint64_t chunk, unsigned live, uint64_t seq)
{
	for (unsigned bits = live; bits; bits &= bits - 1) {
		unsigned i = (unsigned)__builtin_ctz(bits);
		if (reg->record[chunk * CHUNK + i].seq <= seq)
			live &= ~(1U << i);
	}
	return live;
}

int registry_next(const struct registry *reg, const struct buffer_filter *filter, uint64_t *pos, unsigned *budget,
		  struct buffer *out)
{
	uint64_t chunk = *pos / CHUNK;
	unsigned live_mask = CHUNK_FULL << *pos % CHUNK & CHUNK_FULL;

	for (; chunk < reg->used_chunks; chunk++, live_mask = CHUNK_FULL) {
		const struct chunk *t = &reg->chunk[chunk];
		unsigned live = t->live & live_mask, cost = 1;
		if (live && !filter_wants(reg, filter, t->holding))
			live = 0;
		if (live && (filter->since || filter->suspects))
			cost = COST_OF_RECORDS;
		if (live && filter->since)
			live = newer_than(reg, chunk, live, filter->since);
		if (live && filter->suspects)
			live = only_suspects(reg, (uint32_t)chunk, live);
		if (live) {
			uint32_t slot = (uint32_t)chunk * CHUNK + (uint32_t)__builtin_ctz(live);
			*out = buffer_at(reg, slot);
			*pos = (uint64_t)slot + 1;
			return 1;
		}
		if (!*budget) {
			*pos = (chunk + 1) * CHUNK;
			return -EAGAIN;
		}
		*budget -= *budget < cost ? *budget : cost;
	}
	*pos = chunk * CHUNK;
	return 0;
}

/* ---- booking ---- */

/* How many live buffers there are at an address, up to the bound: entries are counted, not looked behind. *head is
 * what remembers `id` there, 0 = nothing does. */
static unsigned live_at(const struct registry *reg, uint32_t hash, const struct history_id *id, uint32_t *head)
{
	struct index_cursor c = index_find(&reg->index, hash);
	const uint32_t own = index_tag_head(id->type, id->owner);
	unsigned live = 0;
	uint64_t e;

	*head = 0;
	while (live < REGISTRY_BUFFERS_AT_ADDRESS && (e = index_next(&c)) != 0) {
		uint32_t tag = index_entry_tag(e);
		live += !index_tag_is_head(tag);
		if (tag == own && history_is(&reg->history, index_entry_value(e), id))
			*head = index_entry_value(e);
	}
	return live;
}

/* Gives a new buffer its entry in the index, and its head to carry. 0 or -ENOMEM. */
static int enter(struct registry *reg, uint32_t hash, uint32_t tag, const struct buffer *b)
{
	if (b->history && history_carry(&reg->history, b->history, hash, tag, b->slot))
		return 0;
	int r = index_insert(&reg->index, hash, tag, b->slot);
	if (r < 0 && b->history)
		history_forget(&reg->history, b->history);
	return r;
}

/* Gives its entry back; `head` remembers it, 0 = nothing does. */
static void leave(struct registry *reg, const struct buffer *b, uint32_t head)
{
	uint32_t hash = registry_hash(reg, b->device, b->address);
	uint32_t tag = index_tag_live(b->type, reg->process[b->process].p.serial);

	if (head)
		history_release(&reg->history, head, hash, tag, b->slot);
	else
		index_remove(&reg->index, hash, tag, b->slot);
}

int registry_insert(struct registry *reg, struct buffer *b)
{
	struct process *p = &reg->process[b->process].p;
	const struct history_id id = { b->address, p->serial, b->device, b->type };
	const uint32_t hash = registry_hash(reg, b->device, b->address);
	uint32_t number, chunk;

	if (reg->total.count >= reg->max_buffers)
		return -ENOSPC;
	if (b->size > UINT64_MAX - reg->total.bytes)
		return -EOVERFLOW;
	if (live_at(reg, hash, &id, &b->history) == REGISTRY_BUFFERS_AT_ADDRESS)
		return -EMLINK;
	int r = holding_get(reg, b->process, b->device, b->type, &number);
	if (r < 0)
		return r;
	r = chunk_with_room(reg, number, &chunk);
	if (r < 0)
		return r;
	struct holding *h = &reg->holding[number];
	struct chunk *t = &reg->chunk[chunk];
	unsigned at = (unsigned)__builtin_ctz(~(unsigned)t->live);

	b->slot = chunk * CHUNK + at;
	r = enter(reg, hash, index_tag_live(b->type, p->serial), b);
	if (r < 0) {
		chunk_settle(reg, h, chunk);
		return r;
	}
	uint32_t account = b->site ? registry_account(reg, b->process, b->device, b->type, b->site) : 0;
	if (!account)
		b->site = 0;
	reg->record[b->slot] = (struct record){
		.address = b->address,
		.size = b->size & ((UINT64_C(1) << 58) - 1),
		.kernel_class = (unsigned char)(b->kernel_class & 3),
		.time = b->time,
		.seq = b->seq,
		.refs = b->refs,
		.history = b->history,
		.account = account,
		.tag = b->tag,
	};
	__atomic_store_n(&t->live, (uint16_t)(t->live | 1U << at), __ATOMIC_RELEASE);
	if (t->live == CHUNK_FULL)
		partial_remove(reg, h, chunk);
	h->count++;
	reg->device[b->device].known = true;
	sums_add(reg, h, account, b->size);
	if (reg->process[b->process].moments)
		registry_growth_add(reg, b);
	if (reg->suppressions.n || p->ended)
		registry_suspect_add(reg, b->slot);
	if (p->ended)
		registry_process_settle(reg, b->process);
	reg->version++;
	return 0;
}

/* `head`: what remembers it. */
static void take_out(struct registry *reg, const struct buffer *b, bool freed, uint32_t head)
{
	uint32_t chunk = b->slot / CHUNK;
	struct chunk *t = &reg->chunk[chunk];
	uint32_t number = t->holding;
	struct holding *h = &reg->holding[number];
	struct process *p = &reg->process[b->process].p;
	const struct record *r = &reg->record[b->slot];
	bool was_full = t->live == CHUNK_FULL;

	if (r->suppressed || r->judged || r->seq <= p->excused_until || p->ended)
		registry_suspect_remove(reg, b->slot);
	__atomic_store_n(&t->live, (uint16_t)(t->live & ~(1U << b->slot % CHUNK)), __ATOMIC_RELEASE);
	leave(reg, b, head);
	if (was_full)
		partial_add(reg, h, chunk);
	h->count--;
	sums_remove(reg, h, r->account, b->size, freed);
	if (reg->process[b->process].moments)
		registry_growth_remove(reg, b, freed);
	chunk_settle(reg, h, chunk);
	/* A live process will use its holding again, but may not keep it from others when they get scarce. */
	if (!h->count && (p->ended || reg->used_holdings > MAX_HOLDINGS / 2))
		registry_holding_release(reg, number);
	if (p->ended)
		registry_process_settle(reg, b->process);
	reg->version++;
}

void registry_remove(struct registry *reg, const struct buffer *b, bool freed)
{
	take_out(reg, b, freed, registry_history_head(reg, b));
}

int registry_ref(struct registry *reg, struct buffer *b, uint64_t size, const struct deed *by)
{
	struct record *r = &reg->record[b->slot];
	bool resized = size != b->size;

	if (size > b->size && size - b->size > UINT64_MAX - reg->total.bytes)
		return -EOVERFLOW;
	uint32_t key = registry_history_begin(reg, b);
	if (resized) {
		sums_resize(reg, &reg->holding[reg->chunk[b->slot / CHUNK].holding], r->account, b->size, size);
		if (reg->process[b->process].moments)
			registry_growth_remove(reg, b, true);
		b->size = size;
		r->size = size & ((UINT64_C(1) << 58) - 1);
		if (reg->process[b->process].moments)
			registry_growth_add(reg, b);
	}
	if (b->refs < UINT32_MAX)
		b->refs++;
	r->refs = b->refs;
	if (key)
		registry_remember(reg, key, resized ? TRACE_RESIZE : TRACE_REF, by, b->size, b->refs);
	reg->version++;
	return 0;
}

bool registry_unref(struct registry *reg, struct buffer *b, uint8_t kind, const struct deed *by)
{
	if (b->refs == 1) {
		uint32_t head = registry_history_end(reg, b, kind, by);

		b->refs = 0;
		take_out(reg, b, true, head);
		return true;
	}
	uint32_t key = registry_history_begin(reg, b);
	b->refs--;
	reg->record[b->slot].refs = b->refs;
	if (key)
		registry_remember(reg, key, kind == TRACE_FREE ? TRACE_UNREF : kind, by, b->size, b->refs);
	reg->version++;
	return false;
}
