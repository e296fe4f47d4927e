/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * registry-mark.c - marks: totals as they were, and the peaks since; see mark.h.
 *
 * The marks in the order of their time cut it into pieces. The peak of a piece stands with the mark at its begin; that of
 * the piece that is not over is the `peak` of the device's own totals. When a mark goes, its piece becomes part of the
 * one before.
 */
#include <errno.h>
#include <string.h>

#include "tracker/registry-internal.h"

#define NS_PER_MS UINT64_C(1000000)

bool mark_name_ok(const char *name, size_t len)
{
	if (len < 1 || len > MARK_NAME_MAX || name[0] == '.')
		return false;
	for (size_t i = 0; i < len; i++) {
		char c = name[i];
		bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'), digit = c >= '0' && c <= '9';

		if (!letter && !digit && c != '.' && c != '_' && c != '-')
			return false;
	}
	return true;
}

static uint64_t higher(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

static bool remembers(const struct mark *m, unsigned device)
{
	return m->devices[device / 32] >> device % 32 & 1;
}

static struct mark_device *device_at(const struct registry *reg, uint32_t slot, unsigned device)
{
	return &reg->mark_device[(size_t)slot * DEVICE_MAX + device];
}

/* The same for writing: until now it may have been nothing. */
static struct mark_device *device_of(struct registry *reg, uint32_t slot, unsigned device)
{
	struct mark *m = &reg->mark[slot];
	struct mark_device *d = device_at(reg, slot, device);

	if (!remembers(m, device))
		*d = (struct mark_device){ 0 };
	m->devices[device / 32] |= UINT32_C(1) << device % 32;
	return d;
}

static struct totals *device_total(struct device *d, unsigned type)
{
	return type < BUFFER_TYPES ? &d->type[type] : &d->total;
}

/* The slot of the newest mark before `order`; MARKS_MAX: there is none. */
static uint32_t newest_before(const struct registry *reg, uint64_t order)
{
	uint32_t best = MARKS_MAX;

	for (uint32_t i = 0; i < MARKS_MAX; i++)
		if (reg->mark[i].number && reg->mark[i].order < order &&
		    (best == MARKS_MAX || reg->mark[i].order > reg->mark[best].order))
			best = i;
	return best;
}

/* ---- pieces ---- */

/* A mark goes, or moves to now. */
static void give_piece_away(struct registry *reg, uint32_t slot)
{
	uint32_t before = newest_before(reg, reg->mark[slot].order);

	for (unsigned device = 0; before != MARKS_MAX && device < DEVICE_MAX; device++) {
		if (!remembers(&reg->mark[slot], device))
			continue;
		const struct totals *from = device_at(reg, slot, device)->then;
		struct totals *to = device_of(reg, before, device)->then;
		for (unsigned type = 0; type <= BUFFER_TYPES; type++)
			to[type].peak = higher(to[type].peak, from[type].peak);
	}
	memset(reg->mark[slot].devices, 0, sizeof(reg->mark[slot].devices));
}

/* The piece that is not over ends here, and the mark's begins. */
static void cut_here(struct registry *reg, uint32_t slot, uint32_t newest)
{
	for (int id = -1; (id = registry_device_next(reg, (unsigned)(id + 1))) >= 0;) {
		struct device *d = &reg->device[id];
		struct totals *then = device_of(reg, slot, (unsigned)id)->then;
		struct totals *before = newest == MARKS_MAX ? NULL : device_of(reg, newest, (unsigned)id)->then;

		for (unsigned type = 0; type <= BUFFER_TYPES; type++) {
			struct totals *t = device_total(d, type);
			if (before)
				before[type].peak = higher(before[type].peak, t->peak);
			d->past_peak[type] = higher(d->past_peak[type], t->peak);
			t->peak = t->bytes;
			then[type] = *t;
		}
	}
}

static void begin(struct registry *reg, uint32_t slot, const char *name, size_t len, uint32_t uid, uint64_t now)
{
	struct mark *m = &reg->mark[slot];
	uint32_t newest;

	if (m->number) {
		give_piece_away(reg, slot);
	} else {
		*m = (struct mark){ .number = ++reg->mark_numbers, .uid = uid };
		memcpy(m->name, name, len);
	}
	m->order = ++reg->mark_order;
	newest = newest_before(reg, m->order);
	cut_here(reg, slot, newest);
	m->seq = reg->seq;
	m->time = now;
	reg->version++;
}

/* ---- the outside ---- */

static uint32_t find(const struct registry *reg, const char *name, size_t len)
{
	for (uint32_t i = 0; i < MARKS_MAX; i++)
		if (reg->mark[i].number && strlen(reg->mark[i].name) == len && memcmp(reg->mark[i].name, name, len) == 0)
			return i;
	return MARKS_MAX;
}

uint32_t registry_mark_find(const struct registry *reg, const char *name)
{
	return find(reg, name, strlen(name));
}

static uint32_t free_slot(const struct registry *reg)
{
	uint32_t slot = 0;

	while (slot < MARKS_MAX && reg->mark[slot].number)
		slot++;
	return slot;
}

/* Whether the user may have one more: so there is always room for those of ctl. 0 or -errno. */
static int check_share(const struct registry *reg, uint32_t uid)
{
	unsigned own = 0, users = 0;

	for (uint32_t i = 0; i < MARKS_MAX; i++) {
		own += reg->mark[i].number && reg->mark[i].uid == uid;
		users += reg->mark[i].number && reg->mark[i].uid;
	}
	if (uid && own >= MARKS_OF_USER)
		return -EDQUOT;
	return uid && users >= MARKS_OF_USERS ? -ENOSPC : 0;
}

/* The slot in which the user's mark of that name begins, or -errno. */
static int slot_for(const struct registry *reg, const char *name, size_t len, uint32_t uid)
{
	uint32_t slot;
	int r;

	if (!mark_name_ok(name, len))
		return -EINVAL;
	slot = find(reg, name, len);
	if (slot != MARKS_MAX)
		return uid && reg->mark[slot].uid != uid ? -EPERM : (int)slot;
	r = check_share(reg, uid);
	if (r < 0)
		return r;
	slot = free_slot(reg);
	return slot == MARKS_MAX ? -ENOSPC : (int)slot;
}

int registry_mark(struct registry *reg, const char *name, size_t len, uint64_t now)
{
	int slot = slot_for(reg, name, len, 0);

	if (slot < 0)
		return slot;
	begin(reg, (uint32_t)slot, name, len, 0, now);
	for (uint32_t p = 0; p < reg->used_processes; p++)
		if (reg->process[p].p.serial && !reg->process[p].p.ended)
			registry_moment(reg, p);
	return 0;
}

int registry_mark_by(struct registry *reg, uint32_t process, const char *name, size_t len, uint64_t now)
{
	struct process_slot *s = &reg->process[process];
	uint64_t connected_ms = now > s->p.connected ? (now - s->p.connected) / NS_PER_MS : 0;
	int slot = slot_for(reg, name, len, s->p.uid);

	if (slot >= 0 && s->marks >= MARKS_AT_ONCE + connected_ms)
		return -EDQUOT;
	if (slot < 0)
		return slot;
	s->marks++;
	begin(reg, (uint32_t)slot, name, len, s->p.uid, now);
	registry_moment(reg, process);
	return 0;
}

int registry_unmark(struct registry *reg, const char *name)
{
	uint32_t slot = registry_mark_find(reg, name);

	if (slot == MARKS_MAX)
		return -ENOENT;
	give_piece_away(reg, slot);
	reg->mark[slot] = (struct mark){ 0 };
	reg->version++;
	return 0;
}

const struct mark *registry_mark_at(const struct registry *reg, uint32_t slot)
{
	return slot < MARKS_MAX && reg->mark[slot].number ? &reg->mark[slot] : NULL;
}

unsigned registry_mark_count(const struct registry *reg)
{
	unsigned n = 0;

	for (uint32_t i = 0; i < MARKS_MAX; i++)
		n += reg->mark[i].number != 0;
	return n;
}

struct mark_totals registry_mark_totals(const struct registry *reg, uint32_t slot, unsigned device, unsigned type)
{
	static const struct totals nothing;
	const struct mark *m = &reg->mark[slot];
	const struct totals *then = remembers(m, device) ? &device_at(reg, slot, device)->then[type] : &nothing;
	struct mark_totals t = { .now = *device_total(&reg->device[device], type) };

	t.count = then->count;
	t.bytes = then->bytes;
	t.now.allocs -= then->allocs;
	t.now.frees -= then->frees;
	for (uint32_t i = 0; i < MARKS_MAX; i++)
		if (reg->mark[i].number && reg->mark[i].order >= m->order && remembers(&reg->mark[i], device))
			t.now.peak = higher(t.now.peak, device_at(reg, i, device)->then[type].peak);
	return t;
}

/* ---- reset ---- */

void registry_marks_clear(struct registry *reg)
{
	memset(reg->mark, 0, sizeof(reg->mark));
}

void registry_marks_forget_device(struct registry *reg, unsigned device)
{
	for (uint32_t i = 0; i < MARKS_MAX; i++)
		reg->mark[i].devices[device / 32] &= ~(UINT32_C(1) << device % 32);
}

void registry_marks_reset_peaks(struct registry *reg)
{
	for (uint32_t i = 0; i < MARKS_MAX; i++)
		for (unsigned device = 0; device < DEVICE_MAX; device++)
			for (unsigned type = 0; type <= BUFFER_TYPES && remembers(&reg->mark[i], device); type++)
				device_at(reg, i, device)->then[type].peak = 0;
}
