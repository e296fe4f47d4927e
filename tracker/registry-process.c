/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * registry-process.c - who the processes are: slots in the arena, a hash over their pids, and who may be forgotten.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define HASH_NONFATAL_OOM 1
#include <uthash.h>

#include "tracker/registry-internal.h"

/* The newest process of a pid; older ones hang behind it (process.older). */
struct pid_entry {
	int32_t pid;
	uint32_t slot;
	UT_hash_handle hh;
};

void registry_process_deinit(struct registry *reg)
{
	struct pid_entry *e, *next;

	HASH_ITER(hh, reg->pids, e, next) {
		HASH_DEL(reg->pids, e);
		free(e);
	}
}

const struct process *registry_process(const struct registry *reg, uint32_t slot)
{
	return slot < reg->used_processes && reg->process[slot].p.serial ? &reg->process[slot].p : NULL;
}

uint32_t registry_process_find(const struct registry *reg, int32_t pid)
{
	struct pid_entry *e;

	HASH_FIND_INT(reg->pids, &pid, e);
	return e ? e->slot : PROCESS_NONE;
}

bool registry_process_met(const struct process *p, const struct process *ended)
{
	/* In us, as pids/<pid>/status shows them: whoever looks there can tell. */
	return !ended->ended || p->started / 1000 <= ended->ended_at / 1000;
}

uint32_t registry_process_next(const struct registry *reg, uint32_t slot)
{
	for (; slot < reg->used_processes; slot++)
		if (reg->process[slot].p.serial)
			return slot;
	return PROCESS_NONE;
}

uint32_t registry_process_count(const struct registry *reg)
{
	return reg->processes;
}

static void copy_name(char *to, size_t size, const char *from)
{
	size_t len = from ? strnlen(from, size - 1) : 0;

	if (len)
		memcpy(to, from, len);
	to[len] = '\0';
}

/* ---- the list of ended processes that may be forgotten ---- */

static void ended_remove(struct registry *reg, uint32_t slot)
{
	struct process_slot *s = &reg->process[slot];

	if (!s->forgettable)
		return;
	if (s->newer_ended)
		reg->process[s->newer_ended - 1].older_ended = s->older_ended;
	else
		reg->newest_ended = s->older_ended;
	if (s->older_ended)
		reg->process[s->older_ended - 1].newer_ended = s->newer_ended;
	else
		reg->oldest_ended = s->newer_ended;
	s->forgettable = false;
	s->newer_ended = s->older_ended = 0;
	reg->ended--;
}

static void ended_add(struct registry *reg, uint32_t slot)
{
	struct process_slot *s = &reg->process[slot];

	s->forgettable = true;
	s->older_ended = reg->newest_ended;
	s->newer_ended = 0;
	if (reg->newest_ended)
		reg->process[reg->newest_ended - 1].newer_ended = slot + 1;
	else
		reg->oldest_ended = slot + 1;
	reg->newest_ended = slot + 1;
	reg->ended++;
	if (reg->used[SHARE_ACCOUNTS] > REGISTRY_ACCOUNTS / 4)
		registry_accounts_release(reg, slot);
}

/* Takes the process out of its pid's chain. */
static void pid_unlink(struct registry *reg, uint32_t slot)
{
	struct process *p = &reg->process[slot].p;
	struct pid_entry *e;

	HASH_FIND_INT(reg->pids, &p->pid, e);
	if (!e)
		return;
	if (e->slot == slot) {
		if (p->older) {
			e->slot = p->older - 1;
		} else {
			HASH_DEL(reg->pids, e);
			free(e);
		}
		return;
	}
	for (uint32_t s = e->slot; reg->process[s].p.older; s = reg->process[s].p.older - 1) {
		if (reg->process[s].p.older - 1 == slot) {
			reg->process[s].p.older = p->older;
			return;
		}
	}
}

void registry_process_forget(struct registry *reg, uint32_t slot)
{
	struct process_slot *s = &reg->process[slot];

	ended_remove(reg, slot);
	pid_unlink(reg, slot);
	while (s->holdings)
		registry_holding_release(reg, s->holdings);
	registry_accounts_release(reg, slot);
	memset(s, 0, sizeof(*s));
	s->older_ended = reg->free_processes;
	reg->free_processes = slot + 1;
	reg->processes--;
	reg->version++;
}

void registry_process_settle(struct registry *reg, uint32_t slot)
{
	struct process_slot *s = &reg->process[slot];
	bool may = s->p.ended && !s->p.connections && !s->p.total.count;

	if (may && !s->forgettable) {
		ended_add(reg, slot);
		if (reg->ended > REGISTRY_ENDED_KEPT)
			registry_process_forget(reg, reg->oldest_ended - 1);
	} else if (!may) {
		ended_remove(reg, slot);
	}
}

static int process_slot_alloc(struct registry *reg, uint32_t *slotp)
{
	if (!reg->free_processes && reg->used_processes == reg->config.max_processes) {
		if (!reg->oldest_ended)
			return -ENOSPC;
		registry_process_forget(reg, reg->oldest_ended - 1);
	}
	if (reg->free_processes) {
		*slotp = reg->free_processes - 1;
		reg->free_processes = reg->process[*slotp].older_ended;
	} else {
		*slotp = reg->used_processes++;
	}
	return 0;
}

/* Puts the process in front of its pid's chain. */
static int pid_link(struct registry *reg, uint32_t slot)
{
	struct process *p = &reg->process[slot].p;
	struct pid_entry *e;

	HASH_FIND_INT(reg->pids, &p->pid, e);
	if (e) {
		p->older = e->slot + 1;
		e->slot = slot;
		return 0;
	}
	e = calloc(1, sizeof(*e));
	if (!e)
		return -ENOMEM;
	e->pid = p->pid;
	e->slot = slot;
	HASH_ADD_INT(reg->pids, pid, e);
	if (!e->hh.tbl) {
		free(e);
		return -ENOMEM;
	}
	return 0;
}

/* The same process is meant when pid, user and start time agree. */
static bool process_is(const struct process *p, const struct process_identity *id)
{
	return p->start_ticks == id->start_ticks && p->uid == id->uid && (id->start_ticks || !p->ended);
}

/* A process that changes its user is another owner, and the first one again when it changes back. */
static uint32_t process_of(const struct registry *reg, const struct process_identity *id)
{
	uint32_t slot = id->pid ? registry_process_find(reg, id->pid) : PROCESS_NONE;

	while (slot != PROCESS_NONE && !process_is(&reg->process[slot].p, id))
		slot = reg->process[slot].p.older ? reg->process[slot].p.older - 1 : PROCESS_NONE;
	return slot;
}

int registry_process_add(struct registry *reg, const struct process_identity *id, uint64_t now, uint32_t *slotp)
{
	uint32_t slot = process_of(reg, id);

	if (slot == PROCESS_NONE) {
		int r = process_slot_alloc(reg, &slot);
		if (r < 0)
			return r;
		struct process_slot *s = &reg->process[slot];
		memset(s, 0, sizeof(*s));
		if (!++reg->serial)
			++reg->serial;
		s->p.serial = reg->serial;
		s->p.pid = id->pid;
		s->p.uid = id->uid;
		s->p.gid = id->gid;
		s->p.start_ticks = id->start_ticks;
		s->p.started = id->started;
		s->p.connected = now;
		r = pid_link(reg, slot);
		if (r < 0) {
			s->p.serial = 0;
			s->older_ended = reg->free_processes;
			reg->free_processes = slot + 1;
			return r;
		}
		history_person_add(&reg->history, &(struct history_person){ s->p.serial, id->pid, id->uid, slot });
		reg->processes++;
		reg->version++;
	}
	struct process *p = &reg->process[slot].p;
	if (id->comm)
		copy_name(p->comm, sizeof(p->comm), id->comm);
	if (id->exe)
		copy_name(p->exe, sizeof(p->exe), id->exe);
	p->suppressed = registry_suppresses_process(reg, p);
	/* Those of its first connection: later on some of them may have gone, and others taken their place. */
	for (unsigned i = 0, known = p->ancestors[0] != 0; !known && i < id->ancestor_count && i < PROCESS_ANCESTORS; i++)
		p->ancestors[i] = id->ancestors[i];
	*slotp = slot;
	return 0;
}

void registry_process_connect(struct registry *reg, uint32_t slot)
{
	reg->process[slot].p.connections++;
	registry_process_settle(reg, slot);
	reg->version++;
}

void registry_process_disconnect(struct registry *reg, uint32_t slot)
{
	reg->process[slot].p.connections--;
	registry_process_settle(reg, slot);
	reg->version++;
}

void registry_process_dialect(struct registry *reg, uint32_t slot, uint16_t dialect)
{
	reg->process[slot].p.dialect = dialect;
}

void registry_process_ring(struct registry *reg, uint32_t slot, bool open)
{
	if (open)
		reg->process[slot].p.rings++;
	else
		reg->process[slot].p.rings--;
	reg->version++;
}

void registry_process_reported(struct registry *reg, uint32_t slot, int32_t pid)
{
	reg->process[slot].p.reported_pid = pid;
}

void registry_process_lost(struct registry *reg, uint32_t slot, uint64_t events)
{
	reg->process[slot].p.lost += events;
}

struct process_faults *registry_process_faults(struct registry *reg, uint32_t slot)
{
	return &reg->process[slot].p.faults;
}

bool registry_process_end(struct registry *reg, uint32_t slot, uint64_t now)
{
	struct process *p = &reg->process[slot].p;

	if (p->ended)
		return false;
	p->ended = true;
	p->ended_at = now;
	registry_suspect_end(reg, p);
	reg->version++;
	registry_process_settle(reg, slot);
	return true;
}
