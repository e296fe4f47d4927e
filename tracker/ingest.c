/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * ingest.c - one event, one booking; see ingest.h. docs/protocol.md has the rules in a table.
 *
 * A free that finds no live buffer of its sender is judged in this order, and the order matters:
 *   1. rerouted   old clients send device 0 with every FREE;
 *   2. double     the sender's own buffer was freed there before. Asked before looking at other processes: they may
 *                 have been given the same address since, and must not lose their buffer to somebody's double free;
 *   3. foreign    exactly one buffer of other processes of the same user is there (a child frees for its parent);
 *   4. double     a process of the same user had freed there before;
 *   5. unknown    normal for buffers that are older than the server.
 */
#include "tracker/ingest.h"

#include <endian.h>
#include <errno.h>
#include <string.h>

#include "client/ttalloc-proto.h"
#include "tracker/mark.h"

#define BLOCK 256   /* events */
#define GROUP 16    /* of these, for which memory is asked for at once */
#define STAGES 4
#define TYPES_OF_FREE ((1U << BUFFER_TYPES_OF_FREE) - 1)

/* One event on its way through the rules. */
struct booking {
	struct ingest *in;
	const struct event *event;
	const struct process *process;
	uint64_t now;
	uint64_t seq;
};

static struct counters *counters(const struct booking *k)
{
	return registry_counters_edit(k->in->registry);
}

static struct process_faults *faults(const struct booking *k)
{
	return registry_process_faults(k->in->registry, k->event->process);
}

static void trace_buffer(const struct booking *k, enum trace_kind kind, const struct buffer *b)
{
	*trace_next(k->in->trace) = (struct trace_entry){
		.time = k->now,
		.seq = k->seq,
		.address = b->address,
		.has_address = true,
		.size = b->size,
		.pid = k->process->pid,
		.refs = b->refs,
		.device = b->device,
		.type = b->type,
		.kind = kind & 127,
		.site = k->event->site,
	};
}

/* A free that took nothing: there is no buffer to describe it with. */
static void trace_free(const struct booking *k, enum trace_kind kind, uint8_t type)
{
	trace_add(k->in->trace, &(struct trace_entry){
		.time = k->now,
		.seq = k->seq,
		.address = k->event->address,
		.has_address = true,
		.pid = k->process->pid,
		.device = (uint16_t)k->event->device,
		.type = type,
		.kind = kind & 127,
		.site = k->event->site,
	});
	registry_touch(k->in->registry);
}

static void refuse(const struct booking *k, const char *why)
{
	counters(k)->refused_events++;
	errlog_add(k->in->errlog, k->now, "event refused: pid %d (%s): message type %u, device %d, size %llu, type %u: %s",
		   k->process->pid, k->process->comm, k->event->type, k->event->device,
		   (unsigned long long)k->event->size, k->event->wire_type, why);
	registry_touch(k->in->registry);
}

static bool device_ok(const struct booking *k)
{
	if (k->event->device >= 0 && k->event->device < DEVICE_MAX)
		return true;
	refuse(k, "device out of range");
	return false;
}

/* The sender's stamp, where it can be true: an allocation is not older than its process, nor from the future. */
static uint64_t time_of(const struct booking *k)
{
	uint64_t t = k->event->time;

	return t && t <= k->now && k->process->started && t >= k->process->started ? t : k->now;
}

/* ---- allocations ---- */

static const char *lost_reason(int r)
{
	switch (r) {
	case -ENOSPC:
		return "max_buffers or the tables behind it are full";
	case -EMLINK:
		return "too many buffers at this address";
	case -EOVERFLOW:
		return "the sum of all sizes would not fit 64 bits";
	default:
		return "out of memory";
	}
}

static void lost(const struct booking *k, int reason)
{
	counters(k)->events_lost++;
	registry_process_lost(k->in->registry, k->event->process, 1);
	registry_history_doubt(k->in->registry, k->event->process, (unsigned)k->event->device, k->event->address);
	errlog_add(k->in->errlog, k->now, "event lost: pid %d (%s): no room for another buffer: %s", k->process->pid,
		   k->process->comm, lost_reason(reason));
	registry_touch(k->in->registry);
}

static struct deed deed(const struct booking *k)
{
	return (struct deed){ .process = k->event->process, .site = k->event->site, .time = k->now };
}

static void add_reference(const struct booking *k, struct buffer *b)
{
	bool resized = b->size != k->event->size;
	const struct deed by = deed(k);
	int r = registry_ref(k->in->registry, b, k->event->size, &by);

	if (r < 0)
		lost(k, r);
	else if (resized)
		counters(k)->resized_total++;
	else
		counters(k)->refs_total++;
	if (r == 0)
		trace_buffer(k, resized ? TRACE_RESIZE : TRACE_REF, b);
}

static void book_alloc(const struct booking *k, uint8_t type)
{
	const struct event *e = k->event;
	struct buffer b;

	if (!device_ok(k))
		return;
	if (e->size < 1 || e->size > BUFFER_SIZE_MAX) {
		refuse(k, "size out of range");
		return;
	}
	if (registry_own(k->in->registry, e->process, (unsigned)e->device, e->address, 1U << type, &b)) {
		add_reference(k, &b);
		return;
	}
	b = (struct buffer){
		.process = e->process,
		.device = (uint16_t)e->device,
		.type = type,
		.kernel_class = type == BUFFER_KERNEL ? e->wire_type : 0,
		.refs = 1,
		.address = e->address,
		.size = e->size,
		.time = time_of(k),
		.seq = k->seq,
		.site = e->site,
		.tag = e->tag,
	};
	int r = registry_insert(k->in->registry, &b);
	if (r < 0) {
		lost(k, r);
		return;
	}
	counters(k)->allocs_total++;
	trace_buffer(k, TRACE_ALLOC, &b);
}

/* ---- frees ---- */

static void take_reference(const struct booking *k, struct buffer *b, bool foreign)
{
	const struct deed by = deed(k);

	if (registry_unref(k->in->registry, b, foreign ? TRACE_FOREIGN_FREE : TRACE_FREE, &by)) {
		counters(k)->frees_total++;
		trace_buffer(k, foreign ? TRACE_FOREIGN_FREE : TRACE_FREE, b);
	} else {
		counters(k)->unrefs_total++;
		trace_buffer(k, foreign ? TRACE_FOREIGN_FREE : TRACE_UNREF, b);
	}
}

static bool free_rerouted(const struct booking *k)
{
	const struct event *e = k->event;
	struct buffer b;

	if (e->device != 0 || (e->dialect != TTALLOC_DIALECT_72 && e->dialect != TTALLOC_DIALECT_112))
		return false;
	if (registry_own_elsewhere(k->in->registry, e->process, 0, e->address, TYPES_OF_FREE, &b) != 1)
		return false;
	counters(k)->rerouted_frees++;
	take_reference(k, &b, false);
	return true;
}

static void double_free(const struct booking *k)
{
	const struct deed by = deed(k);

	counters(k)->double_frees++;
	faults(k)->double_frees++;
	registry_double_free(k->in->registry, &by, (unsigned)k->event->device, k->event->address, TYPES_OF_FREE);
	trace_free(k, TRACE_DOUBLE_FREE, TRACE_NO_TYPE);
}

static bool free_foreign(const struct booking *k)
{
	const struct event *e = k->event;
	unsigned same_uid, other_uid;
	struct buffer b;

	registry_others(k->in->registry, e->process, (unsigned)e->device, e->address, TYPES_OF_FREE, &same_uid,
			&other_uid, &b);
	if (!same_uid && !other_uid)
		return false;
	counters(k)->foreign_frees++;
	faults(k)->foreign_frees++;
	if (same_uid == 1) {
		take_reference(k, &b, true);
		return true;
	}
	const struct process *owner = registry_process(k->in->registry, b.process);
	errlog_add(k->in->errlog, k->now, "free refused: pid %d (%s): device %d address 0x%012llx belongs to %s %d (%s)",
		   k->process->pid, k->process->comm, e->device, (unsigned long long)e->address,
		   same_uid ? "several buffers, one of them of pid" : "another user's pid", owner->pid, owner->comm);
	trace_free(k, TRACE_FOREIGN_FREE, TRACE_NO_TYPE);
	return true;
}

static void unknown_free(const struct booking *k, uint8_t type)
{
	const struct event *e = k->event;
	const struct deed by = deed(k);

	counters(k)->unknown_frees++;
	faults(k)->unknown_frees++;
	registry_unknown_free(k->in->registry, &by, (unsigned)e->device, e->address,
			      type == TRACE_NO_TYPE ? TYPES_OF_FREE : 1U << type);
	trace_free(k, TRACE_UNKNOWN_FREE, type);
}

static void book_free(const struct booking *k)
{
	const struct event *e = k->event;
	struct buffer b;

	if (!device_ok(k))
		return;
	unsigned device = (unsigned)e->device;
	size_t own = registry_own(k->in->registry, e->process, device, e->address, TYPES_OF_FREE, &b);
	if (own) {
		counters(k)->ambiguous_frees += own > 1;
		take_reference(k, &b, false);
		return;
	}
	if (free_rerouted(k))
		return;
	enum freed_before before =
		registry_freed_before(k->in->registry, e->process, device, e->address, TYPES_OF_FREE);
	if (before == FREED_OWN)
		double_free(k);
	else if (free_foreign(k))
		return;
	else if (before == FREED_FAMILY)
		double_free(k);
	else
		unknown_free(k, TRACE_NO_TYPE);
}

/* Circular buffers and kernels say what they free; only their owner does. */
static void book_typed_free(const struct booking *k, uint8_t type)
{
	const struct event *e = k->event;
	struct buffer b;

	if (!device_ok(k))
		return;
	if (registry_own(k->in->registry, e->process, (unsigned)e->device, e->address, 1U << type, &b))
		take_reference(k, &b, false);
	else
		unknown_free(k, type);
}

/* ---- all messages ---- */

static void book(const struct booking *k)
{
	switch (k->event->type) {
	case TTALLOC_MSG_ALLOC:
		if (k->event->wire_type > TTALLOC_WIRE_TRACE)
			refuse(k, "unknown buffer type");
		else
			book_alloc(k, k->event->wire_type);
		break;
	case TTALLOC_MSG_FREE:
		book_free(k);
		break;
	case TTALLOC_MSG_CB_ALLOC:
		book_alloc(k, BUFFER_CB);
		break;
	case TTALLOC_MSG_CB_FREE:
		book_typed_free(k, BUFFER_CB);
		break;
	case TTALLOC_MSG_KERNEL_LOAD:
		if (k->event->wire_type > TTALLOC_WIRE_KERNEL_DISPATCH)
			refuse(k, "unknown kernel class");
		else
			book_alloc(k, BUFFER_KERNEL);
		break;
	case TTALLOC_MSG_KERNEL_UNLOAD:
		book_typed_free(k, BUFFER_KERNEL);
		break;
	case TTALLOC_MSG_QUERY:
	case TTALLOC_MSG_DEVICE_INFO_QUERY:
		counters(k)->queries_total++;
		break;
	case TTALLOC_MSG_DUMP:
	case TTALLOC_MSG_DUMP_KERNELS:
		counters(k)->dumps_total++;
		break;
	default:
		refuse(k, "only a server sends this");
		break;
	}
}

static void book_one(struct ingest *in, const struct event *e, uint64_t now)
{
	const struct process *p = registry_process(in->registry, e->process);
	struct booking k = { .in = in, .event = e, .process = p, .now = now };

	/* The rest of a question that was counted, what is no event at all, and a piece of a mark's name. */
	if (e->reply_from || e->type == TTALLOC_MSG_RING || e->type == TTALLOC_MSG_MARK)
		return;
	/* Of a ring's event the server's own clock tells when it was reported, which may be a while before it is read. */
	if (e->dialect == EVENT_RING && e->time >= p->started)
		k.now = e->time;
	k.seq = registry_take_event(in->registry, e->process);
	book(&k);
}

/* The group with that number, which may lie behind the events: then it is empty. */
struct group {
	size_t from, n;
};

static struct group group_of(size_t events, size_t number)
{
	size_t from = number * GROUP;

	return from >= events ? (struct group){ 0 } : (struct group){ from, events - from < GROUP ? events - from : GROUP };
}

/* While a group is booked, what the following ones need is on its way. */
static void book_some(struct ingest *in, const struct event *events, size_t n, uint64_t now)
{
	struct registry_ahead of[BLOCK];
	const size_t groups = (n + GROUP - 1) / GROUP;
	struct ahead ask;

	ask.n = 0;
	struct group at[STAGES + 1] = { 0 };

	for (size_t g = 0; g < groups + STAGES; g++) {
		memmove(at + 1, at, STAGES * sizeof(*at));
		at[0] = group_of(n, g);
		registry_ahead_index(in->registry, events + at[0].from, at[0].n, of + at[0].from, &ask);
		registry_ahead_entries(in->registry, at[1].n, of + at[1].from, &ask);
		registry_ahead_history(in->registry, at[2].n, of + at[2].from, &ask);
		registry_ahead_events(in->registry, at[3].n, of + at[3].from, &ask);
		ahead_ask(&ask);
		for (size_t i = 0; i < at[STAGES].n; i++)
			book_one(in, &events[at[STAGES].from + i], now);
	}
}

void ingest_events(struct ingest *in, const struct event *events, size_t n, uint64_t now)
{
	for (size_t at = 0; at < n; at += BLOCK)
		book_some(in, events + at, n - at < BLOCK ? n - at : BLOCK, now);
}

/* ---- replies ---- */

static void put64(uint8_t *at, uint64_t v)
{
	v = htole64(v);
	memcpy(at, &v, sizeof(v));
}

static void reply_totals(const struct ingest *in, const struct event *e, uint8_t *reply)
{
	const struct device *d = e->device < 0 ? NULL : registry_device(in->registry, (unsigned)e->device);

	if (!d)
		return;
	put64(reply + TTALLOC_REPLY_DRAM, d->type[BUFFER_DRAM].bytes);
	put64(reply + TTALLOC_REPLY_L1, d->type[BUFFER_L1].bytes);
	put64(reply + TTALLOC_REPLY_L1_SMALL, d->type[BUFFER_L1_SMALL].bytes);
	put64(reply + TTALLOC_REPLY_TRACE, d->type[BUFFER_TRACE].bytes);
	if (e->dialect >= TTALLOC_DIALECT_128) {
		put64(reply + TTALLOC_REPLY_CB, d->type[BUFFER_CB].bytes);
		put64(reply + TTALLOC_REPLY_KERNEL, d->type[BUFFER_KERNEL].bytes);
	}
}

/* Clients ask "how many" and then go through 0..n-1, so n is the highest known id and one. */
static uint32_t devices_to_ask_for(const struct registry *reg)
{
	int last = -1;

	for (int id = -1; (id = registry_device_next(reg, (unsigned)(id + 1))) >= 0;)
		last = id;
	return (uint32_t)(last + 1);
}

static void reply_device_info(const struct ingest *in, const struct event *e, uint8_t *reply)
{
	struct ttalloc_reply_info info = { 0 };
	uint32_t devices = devices_to_ask_for(in->registry);

	if (e->dialect == TTALLOC_DIALECT_72)
		return;
	if (e->device == -1) {
		info.num_devices = htole32(devices);
		info.is_available = htole32(devices > 0);
	} else if (e->device >= 0) {
		const struct device *d = registry_device(in->registry, (unsigned)e->device);
		if (d && (d->capacity[BUFFER_DRAM] || d->capacity[BUFFER_L1])) {
			info.total_dram = htole64(d->capacity[BUFFER_DRAM]);
			info.total_l1 = htole64(d->capacity[BUFFER_L1]);
			info.arch = htole32(d->arch);
			info.is_available = htole32(1);
		}
		info.num_devices = htole32(devices);
	}
	memcpy(reply + (e->dialect == TTALLOC_DIALECT_112 ? TTALLOC_REPLY_INFO_112 : TTALLOC_REPLY_INFO_128), &info,
	       sizeof(info));
}

size_t ingest_reply(const struct ingest *in, const struct event *event, uint8_t *reply)
{
	bool totals = event->type == TTALLOC_MSG_QUERY;

	if (!event->dialect || (!totals && event->type != TTALLOC_MSG_DEVICE_INFO_QUERY))
		return 0;
	struct ttalloc_msg_head head = {
		.type = totals ? TTALLOC_MSG_RESPONSE : TTALLOC_MSG_DEVICE_INFO_RESPONSE,
		.device_id = (int32_t)htole32((uint32_t)event->device),
	};
	memset(reply, 0, event->dialect);
	memcpy(reply, &head, sizeof(head));
	if (totals)
		reply_totals(in, event, reply);
	else
		reply_device_info(in, event, reply);
	return event->dialect;
}

/* ---- what is not about a buffer ---- */

void ingest_note(struct ingest *in, enum trace_kind kind, uint16_t device, int32_t pid, uint64_t size, uint64_t now)
{
	trace_add(in->trace, &(struct trace_entry){
		.time = now,
		.seq = registry_seq(in->registry),
		.size = size,
		.pid = pid,
		.device = device,
		.type = TRACE_NO_TYPE,
		.kind = kind & 127,
	});
	registry_touch(in->registry);
}

void ingest_lost(struct ingest *in, uint32_t process, uint64_t events, uint64_t now)
{
	const struct process *p = registry_process(in->registry, process);

	registry_counters_edit(in->registry)->events_lost += events;
	registry_process_lost(in->registry, process, events);
	errlog_add(in->errlog, now, "events lost: pid %d (%s): %llu, its ring was full", p->pid, p->comm,
		   (unsigned long long)events);
	registry_touch(in->registry);
}

void ingest_device(struct ingest *in, uint32_t process, uint32_t device, uint64_t dram, uint64_t l1, uint32_t arch,
		   uint64_t now)
{
	const struct process *p = registry_process(in->registry, process);

	if (registry_device_report(in->registry, device, p->uid, dram, l1, arch) == 0)
		return;
	registry_counters_edit(in->registry)->refused_events++;
	errlog_add(in->errlog, now, "device capacity refused: pid %d (%s): device %u: %s", p->pid, p->comm, device,
		   device < DEVICE_MAX ? "declared otherwise by the command line or another user" : "out of range");
	registry_touch(in->registry);
}

static const char *mark_reason(int r)
{
	switch (r) {
	case -EPERM:
		return "it is another user's";
	case -EDQUOT:
		return "this process or user has made too many";
	case -ENOSPC:
		return "there are too many";
	default:
		return "not a name";
	}
}

void ingest_mark(struct ingest *in, uint32_t process, const char *name, size_t len, uint64_t now)
{
	const struct process *p = registry_process(in->registry, process);
	int r;

	registry_take_event(in->registry, process);
	r = registry_mark_by(in->registry, process, name, len, now);
	if (r == 0) {
		ingest_note(in, TRACE_MARK, TRACE_NO_DEVICE, p->pid, 0, now);
		return;
	}
	registry_counters_edit(in->registry)->refused_events++;
	errlog_add(in->errlog, now, "mark refused: pid %d (%s): '%.*s': %s", p->pid, p->comm, (int)len, name,
		   mark_reason(r));
	registry_touch(in->registry);
}

void ingest_connect(struct ingest *in, uint32_t process, uint64_t now)
{
	registry_process_connect(in->registry, process);
	ingest_note(in, TRACE_CONNECT, TRACE_NO_DEVICE, registry_process(in->registry, process)->pid, 0, now);
}

void ingest_exit(struct ingest *in, uint32_t process, uint64_t now)
{
	const struct process *p = registry_process(in->registry, process);
	int32_t pid = p ? p->pid : 0;

	if (p && registry_process_end(in->registry, process, now))
		ingest_note(in, TRACE_EXIT, TRACE_NO_DEVICE, pid, 0, now);
}
