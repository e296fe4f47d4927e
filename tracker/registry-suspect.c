/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * registry-suspect.c - which buffers are suspects, `clear`, and what a scan judges.
 *
 * Of a buffer it needs three bits, and its seq: whether it is suppressed, what the last scan judged, and whether it is
 * as old as its process's last dismissal (process.excused_until). Each process counts its live buffers that are excused
 * by that, and those that were judged, so that `clear`, and the end of a process, touch no buffer, and how many suspects
 * there are is known at any time. Those counts change here, or where a buffer that is neither goes the short way
 * (registry.c). What was judged of a buffer means nothing once it is excused, or its process has ended.
 */
#include <errno.h>
#include <string.h>

#include "tracker/registry-internal.h"

#define NS_PER_MS UINT64_C(1000000)

/* ---- settings and small accessors ---- */

uint64_t registry_suspects(const struct registry *reg)
{
	return reg->suspects[SUSPECT_DIED] + reg->suspects[SUSPECT_GROWING] + reg->suspects[SUSPECT_OUTLIVED];
}

uint64_t registry_suspects_of(const struct registry *reg, enum suspect_reason reason)
{
	return reg->suspects[reason];
}

uint64_t registry_cleared(const struct registry *reg)
{
	return reg->cleared;
}

uint64_t registry_scanned(const struct registry *reg)
{
	return reg->scanned;
}

uint64_t registry_min_age_ms(const struct registry *reg)
{
	return reg->min_age / NS_PER_MS;
}

int registry_set_min_age_ms(struct registry *reg, uint64_t ms)
{
	if (ms > REGISTRY_MIN_AGE_MS_LIMIT)
		return -ERANGE;
	reg->min_age = ms * NS_PER_MS;
	return 0;
}

uint64_t registry_min_size(const struct registry *reg)
{
	return reg->min_size;
}

int registry_set_min_size(struct registry *reg, uint64_t bytes)
{
	if (bytes > BUFFER_SIZE_MAX)
		return -ERANGE;
	reg->min_size = bytes;
	return 0;
}

static struct process *owner_of(const struct registry *reg, uint32_t slot)
{
	return &reg->process[reg->holding[reg->chunk[slot / CHUNK].holding].process].p;
}

enum suspect_reason registry_suspect(const struct registry *reg, uint32_t slot)
{
	if (slot / CHUNK >= reg->used_chunks || !(reg->chunk[slot / CHUNK].live >> slot % CHUNK & 1))
		return SUSPECT_NONE;
	return registry_reason(&reg->record[slot], owner_of(reg, slot));
}

/* ---- counting ---- */

/* How a buffer counts, taken from the counts or (`by` 1) put into them. */
static void count(struct registry *reg, const struct record *r, struct process *p, uint64_t by)
{
	enum suspect_reason reason = registry_reason(r, p);

	p->excused += registry_excused(r, p) ? by : 0;
	if (reason == SUSPECT_NONE)
		return;
	reg->suspects[reason] += by;
	if (!p->ended)
		p->judged[reason] += by;
}

#define MORE UINT64_C(1)
#define LESS UINT64_MAX  /* the counts are unsigned: -1 */

static void change(struct registry *reg, struct record *r, struct process *p, bool suppressed, enum suspect_reason judged)
{
	if (r->suppressed == suppressed && r->judged == judged)
		return;
	count(reg, r, p, LESS);
	r->suppressed = suppressed;
	r->judged = judged & 3;
	count(reg, r, p, MORE);
}

static bool suppressed(const struct registry *reg, const struct record *r, const struct process *p)
{
	return reg->suppressions.n && (p->suppressed || reg->tag[r->tag].suppressed ||
				       reg->site[reg->account[r->account].site].suppressed);
}

void registry_suspect_add(struct registry *reg, uint32_t slot)
{
	struct record *r = &reg->record[slot];
	struct process *p = owner_of(reg, slot);

	r->suppressed = suppressed(reg, r, p);
	count(reg, r, p, MORE);
}

void registry_suspect_remove(struct registry *reg, uint32_t slot)
{
	count(reg, &reg->record[slot], owner_of(reg, slot), LESS);
}

/* Takes away what was judged of all buffers of a process at once. */
static void forget_judged(struct registry *reg, struct process *p)
{
	for (int reason = 0; reason < SUSPECT_REASONS; reason++)
		reg->suspects[reason] -= p->judged[reason];
	memset(p->judged, 0, sizeof(p->judged));
}

void registry_suspect_end(struct registry *reg, struct process *p)
{
	forget_judged(reg, p);
	reg->suspects[SUSPECT_DIED] += p->total.count - p->excused;
}

void registry_excuse(struct registry *reg, struct process *p)
{
	forget_judged(reg, p);
	if (p->ended)
		reg->suspects[SUSPECT_DIED] -= p->total.count - p->excused;
	p->excused_until = reg->seq;
	p->excused = p->total.count;
}

void registry_clear(struct registry *reg, uint64_t now)
{
	for (uint32_t s = 0; s < reg->used_processes; s++)
		registry_excuse(reg, &reg->process[s].p);
	reg->cleared = now;
	reg->version++;
}

/* ---- going through all buffers ---- */

typedef void (*visit)(struct registry *reg, uint32_t slot, uint64_t now);

static int each_step(struct registry *reg, visit act, uint64_t now, uint64_t *pos, unsigned budget)
{
	for (; *pos < reg->used_chunks && budget; ++*pos, budget--)
		for (unsigned live = reg->chunk[*pos].live; live; live &= live - 1)
			act(reg, (uint32_t)*pos * CHUNK + (unsigned)__builtin_ctz(live), now);
	reg->version++;
	return *pos < reg->used_chunks;
}

static bool grows(const struct registry *reg, uint32_t slot)
{
	struct growth growth;
	struct buffer b;

	return registry_buffer(reg, slot, &b) && registry_growing(reg, &b, &growth);
}

/* What a buffer of a live process is that is not excused: so it came after the last clear, if there was one. A stamp from
 * the future has no age. */
static enum suspect_reason judgement(const struct registry *reg, uint32_t slot, uint64_t now)
{
	const struct record *r = &reg->record[slot];

	if (r->size < reg->min_size || (now > r->time ? now - r->time : 0) < reg->min_age)
		return SUSPECT_NONE;
	if (grows(reg, slot))
		return SUSPECT_GROWING;
	return reg->cleared ? SUSPECT_OUTLIVED : SUSPECT_NONE;
}

static void judge(struct registry *reg, uint32_t slot, uint64_t now)
{
	struct record *r = &reg->record[slot];
	struct process *p = owner_of(reg, slot);
	enum suspect_reason judged = SUSPECT_NONE;
	bool no_leak = suppressed(reg, r, p);

	if (!no_leak && !p->ended && r->seq > p->excused_until && r->seq <= reg->judge_until)
		judged = judgement(reg, slot, now);
	change(reg, r, p, no_leak, judged);
}

static void excuse(struct registry *reg, uint32_t slot, uint64_t now)
{
	struct record *r = &reg->record[slot];
	struct process *p = owner_of(reg, slot);
	bool no_leak = suppressed(reg, r, p);

	change(reg, r, p, no_leak, no_leak ? SUSPECT_NONE : (enum suspect_reason)r->judged);
}

static void unjudge(struct registry *reg, uint32_t slot, uint64_t now)
{
	struct record *r = &reg->record[slot];

	change(reg, r, owner_of(reg, slot), r->suppressed, SUSPECT_NONE);
}

int registry_judge_step(struct registry *reg, uint64_t now, uint64_t *pos, unsigned budget)
{
	if (!*pos)
		reg->judge_until = reg->seq;
	if (each_step(reg, judge, now, pos, budget))
		return 1;
	reg->scanned = now;
	return 0;
}

int registry_excuse_step(struct registry *reg, uint64_t *pos, unsigned budget)
{
	return each_step(reg, excuse, 0, pos, budget);
}

int registry_unjudge_step(struct registry *reg, uint64_t *pos, unsigned budget)
{
	if (!reg->suspects[SUSPECT_GROWING] && !reg->suspects[SUSPECT_OUTLIVED])
		return 0;
	return each_step(reg, unjudge, 0, pos, budget);
}

/* ---- who is meant by a suppression ---- */

int registry_set_suppressions(struct registry *reg, const char *text, size_t len, struct textbuf *why)
{
	struct suppressions parsed;
	int r = suppressions_parse(&parsed, text, len, why);

	if (r < 0)
		return r;
	suppressions_free(&reg->suppressions);
	reg->suppressions = parsed;
	reg->version++;
	return 0;
}

const char *registry_suppressions(const struct registry *reg, size_t *len)
{
	*len = reg->suppressions.len;
	return reg->suppressions.text;
}

static bool suppresses(const struct registry *reg, const char *text)
{
	return registry_suppresses(reg, text, strlen(text));
}

bool registry_suppresses_process(const struct registry *reg, const struct process *p)
{
	const char *slash = strrchr(p->exe, '/');

	return suppresses(reg, p->comm) || suppresses(reg, slash ? slash + 1 : p->exe);
}

bool registry_suppresses_site(const struct registry *reg, const struct site *s)
{
	for (unsigned i = 0; i < s->n; i++)
		if (reg->module[reg->frame[s->frames + i].module].suppressed)
			return true;
	return false;
}

/* The name of a frame is FUNCTION or FUNCTION@SOURCE:LINE: two names. */
static bool suppresses_name(const struct registry *reg, const char *name)
{
	const char *at = strrchr(name, '@'), *colon = at ? strrchr(at, ':') : NULL;

	if (!colon)
		return suppresses(reg, name);
	return registry_suppresses(reg, name, (size_t)(at - name)) ||
	       registry_suppresses(reg, at + 1, (size_t)(colon - at) - 1);
}

static bool suppresses_frames(const struct registry *reg, const struct site *s, registry_namer namer, const void *data)
{
	for (unsigned i = 0; i < s->n; i++) {
		const struct site_frame *f = &reg->frame[s->frames + i];
		const char *name = namer(data, f->module, f->offset);
		if (name && suppresses_name(reg, name))
			return true;
	}
	return false;
}

/* Positions: which table, and above what number in it. */
enum { OF_PROCESSES, OF_MODULES, OF_TAGS, OF_SITES, OF_TABLES };
#define TABLE_SHIFT 32

static uint32_t entries(const struct registry *reg, unsigned table)
{
	switch (table) {
	case OF_PROCESSES:
		return reg->used_processes;
	case OF_MODULES:
		return reg->used[SHARE_MODULES];
	case OF_TAGS:
		return reg->used[SHARE_TAGS];
	default:
		return reg->used[SHARE_SITES];
	}
}

/* Returns how many names that were. Processes are counted from 0, all others from 1. */
static unsigned find_out(struct registry *reg, unsigned table, uint32_t at, registry_namer namer, const void *data)
{
	struct process *p = &reg->process[at].p;

	switch (table) {
	case OF_PROCESSES:
		p->suppressed = p->serial && registry_suppresses_process(reg, p);
		return 2;
	case OF_MODULES: {
		struct module *m = &reg->module[at + 1];
		m->suppressed = suppresses(reg, reg->module_text + m->text + m->build_id_len);
		return 1;
	}
	case OF_TAGS:
		reg->tag[at + 1].suppressed = suppresses(reg, reg->tag_text + reg->tag[at + 1].text);
		return 1;
	default: {
		struct site *s = &reg->site[at + 1];
		s->suppressed = registry_suppresses_site(reg, s) || suppresses_frames(reg, s, namer, data);
		return 2U * s->n;
	}
	}
}

int registry_suppress_step(struct registry *reg, registry_namer namer, const void *data, uint64_t *pos, unsigned budget)
{
	unsigned left = budget;

	/* What was found out for a list that is gone is not asked any more. */
	if (!reg->suppressions.n)
		return 0;
	while (*pos >> TABLE_SHIFT < OF_TABLES) {
		unsigned table = (unsigned)(*pos >> TABLE_SHIFT);
		uint32_t at = (uint32_t)*pos;
		if (at >= entries(reg, table)) {
			*pos = (uint64_t)(table + 1) << TABLE_SHIFT;
			continue;
		}
		unsigned cost = find_out(reg, table, at, namer, data) * reg->suppressions.n;
		++*pos;
		if (cost >= left)
			return 1;
		left -= cost;
	}
	return 0;
}
