/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * analyze-book.c - see analyze-book.h.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define HASH_NONFATAL_OOM 1
#define uthash_nonfatal_oom(entry) ((entry)->failed = true)
#include <uthash.h>

#include "client/analyze-book.h"

#define DEVICES 1024
#define SIZE_LARGEST (UINT64_C(1) << 56)

struct device {
	struct device_counts counts;
	bool failed;
	UT_hash_handle hh;
};

/* A process that has ended. */
struct ended {
	int32_t pid;
	bool failed;
	uint64_t when;             /* number of the event; what was allocated before it was left */
	UT_hash_handle hh;
};

struct book {
	struct shelf shelf;
	struct device *devices;
	struct ended *ended;
	const struct device_counts **sorted;
	struct book_counts counts;
	uint64_t now;              /* number of the event */
	uint64_t reset;            /* what was allocated before it is forgotten */
	bool letters;              /* this log has hex numbers without 0x */
	struct wanted wanted;
	struct moment *moments;    /* a ring once it has BOOK_TIMELINE_MAX */
	size_t moment_count;
	size_t moment_room;
	size_t moment_first;
	uint64_t moments_dropped;
};

/* What is being booked. */
struct booking {
	struct book *book;
	const struct line *line;
	const struct place *place;
	struct device *device;
	struct address *address;
	/* For the timeline. */
	enum line_kind outcome;
	const struct buffer *buffer;  /* NULL: of a refused event */
};

struct book *book_new(const struct wanted *wanted)
{
	struct book *b = calloc(1, sizeof(*b));

	if (b)
		b->wanted = *wanted;
	return b;
}

void book_free(struct book *b)
{
	struct device *d, *next_device;
	struct ended *n, *next_ended;
	size_t i;

	if (!b)
		return;
	shelf_deinit(&b->shelf);
	HASH_ITER(hh, b->devices, d, next_device) {
		HASH_DEL(b->devices, d);
		free(d);
	}
	HASH_ITER(hh, b->ended, n, next_ended) {
		HASH_DEL(b->ended, n);
		free(n);
	}
	for (i = 0; i < b->moment_count; i++)
		free(b->moments[i].origin);
	free(b->moments);
	free(b->sorted);
	free(b);
}

/* --- tables --- */

static struct device *device_of(struct book *b, int32_t number)
{
	struct device *d;

	HASH_FIND(hh, b->devices, &number, sizeof(number), d);
	if (d)
		return d;
	d = calloc(1, sizeof(*d));
	if (!d)
		return NULL;
	d->counts.number = number;
	HASH_ADD(hh, b->devices, counts.number, sizeof(number), d);
	if (!d->failed)
		return d;
	free(d);
	return NULL;
}

static struct address *address_of(struct book *b, const struct line *line)
{
	const bool digits = line->notation == LINE_DIGITS && !b->letters;
	enum space space = SPACE_BUFFER;
	uint64_t value = line->address;
	struct address *a;

	if (line->notation == LINE_DIGITS && b->letters)
		line_as_hex(line->address, &value);
	if (line->type == LINE_CB || line->type == LINE_KERNEL)
		space = line->type == LINE_CB ? SPACE_CB : SPACE_KERNEL;
	a = shelf_get(&b->shelf, line->device, space, value);
	/* How it was written the first time counts. */
	if (a && a->count == 0 && !a->retired)
		a->digits = digits;
	return a;
}

static uint64_t ended_when(const struct book *b, int32_t pid)
{
	struct ended *n;

	HASH_FIND(hh, b->ended, &pid, sizeof(pid), n);
	return n ? n->when : 0;
}

static int end_process(struct book *b, int32_t pid)
{
	struct ended *n;

	HASH_FIND(hh, b->ended, &pid, sizeof(pid), n);
	if (!n) {
		n = calloc(1, sizeof(*n));
		if (!n)
			return -ENOMEM;
		n->pid = pid;
		HASH_ADD(hh, b->ended, pid, sizeof(pid), n);
		if (n->failed) {
			free(n);
			return -ENOMEM;
		}
	}
	n->when = b->now;
	return 0;
}

/* --- buffers --- */

bool book_is_held(const struct book *b, const struct buffer *buffer)
{
	return buffer->refs > 0 && buffer->since > b->reset;
}

bool book_is_left(const struct book *b, const struct buffer *buffer)
{
	return book_is_held(b, buffer) && (buffer->retired || ended_when(b, buffer->pid) > buffer->since);
}

static struct buffer_owner owner_of(const struct line *line)
{
	if (line->source == LINE_SERVER)
		return (struct buffer_owner){ .type = LINE_NO_TYPE };
	return (struct buffer_owner){ .pid = line->pid, .type = line->type };
}

static struct buffer *find_buffer(struct address *a, const struct buffer_owner *owner)
{
	struct buffer *buffer = address_first_of(a, owner->pid);

	while (buffer && buffer->owner.type != owner->type)
		buffer = address_next_of(buffer);
	return buffer;
}

/* The process's own, of whatever type: a free says none. The held one that was allocated last, else a freed one. */
static struct buffer *find_own(const struct booking *k)
{
	const struct buffer_owner owner = owner_of(k->line);
	struct buffer *buffer, *found = NULL;
	bool held, found_held = false;

	if (owner.type != LINE_NO_TYPE || k->line->source == LINE_SERVER)
		return find_buffer(k->address, &owner);
	for (buffer = address_first_of(k->address, owner.pid); buffer; buffer = address_next_of(buffer)) {
		held = book_is_held(k->book, buffer);
		if (!found || held > found_held || (held == found_held && buffer->since > found->since)) {
			found = buffer;
			found_held = held;
		}
	}
	return found;
}

/*
 * What is held at the address, of the line's type if it says one; *onep is it if there is only one. More than that are
 * not looked at, whose is meant is not clear then.
 */
static unsigned find_held(const struct booking *k, struct buffer **onep)
{
	struct buffer *buffer, *older;
	unsigned n = 0;

	for (buffer = k->address->newest[BUFFERS_HELD]; buffer && n < 2; buffer = older) {
		older = buffer->older;
		if (!book_is_held(k->book, buffer)) {
			/* Before a reset: it is not met again. */
			address_list(k->address, buffer, BUFFERS_OTHER);
		} else if (k->line->type == LINE_NO_TYPE || buffer->owner.type == k->line->type) {
			*onep = buffer;
			n++;
		}
	}
	return n;
}

/* What is to be counted as wrong needs a record, also where nothing is known to have been. */
static struct buffer *own_or_new(const struct booking *k)
{
	const struct buffer_owner owner = owner_of(k->line);
	struct buffer *buffer = find_own(k);

	return buffer ? buffer : address_make(&k->book->shelf, k->address, &owner);
}

/* Caller and tag, each with a zero at its end; NULL: no memory. */
static char *copy_origin(const struct line *line)
{
	char *origin = malloc(line->caller_length + line->tag_length + 2);

	if (!origin)
		return NULL;
	if (line->caller_length > 0)
		memcpy(origin, line->caller, line->caller_length);
	origin[line->caller_length] = 0;
	if (line->tag_length > 0)
		memcpy(origin + line->caller_length + 1, line->tag, line->tag_length);
	origin[line->caller_length + 1 + line->tag_length] = 0;
	return origin;
}

static int set_origin(struct buffer *buffer, const struct line *line)
{
	free(buffer->origin);
	buffer->origin = NULL;
	if (line->caller_length + line->tag_length == 0)
		return 0;
	buffer->origin = copy_origin(line);
	return buffer->origin ? 0 : -ENOMEM;
}

static void set_size(struct buffer *buffer, uint64_t size)
{
	buffer->size = size;
	if (buffer->size_min == 0 || size < buffer->size_min)
		buffer->size_min = size;
	if (size > buffer->size_max)
		buffer->size_max = size;
}

/* --- events --- */

uint32_t book_faults(const struct buffer *buffer, enum fault kind)
{
	return buffer->faults ? buffer->faults->count[kind] : 0;
}

struct place book_fault_place(const struct buffer *buffer, enum fault kind)
{
	return buffer->faults ? buffer->faults->at[kind] : (struct place){ .line = 0 };
}

static int fault(struct booking *k, struct buffer *buffer, enum fault kind)
{
	if (!buffer->faults)
		buffer->faults = calloc(1, sizeof(*buffer->faults));
	if (!buffer->faults)
		return -ENOMEM;
	buffer->faults->count[kind]++;
	buffer->faults->at[kind] = *k->place;
	if (buffer->pid == 0)
		buffer->pid = k->line->pid;
	k->buffer = buffer;
	return 0;
}

static void set_refs(const struct booking *k, struct buffer *buffer, uint32_t refs)
{
	buffer->refs = refs;
	if (refs > 0)
		address_list(k->address, buffer, BUFFERS_HELD);
	else
		address_list(k->address, buffer, buffer->frees > 0 ? BUFFERS_GONE : BUFFERS_OTHER);
}

/* It came to be. */
static int begin(struct booking *k, struct buffer *buffer)
{
	const struct line *line = k->line;

	if (buffer->allocs > 0 && line->size != buffer->size && fault(k, buffer, FAULT_REUSE) < 0)
		return -ENOMEM;
	buffer->allocs++;
	buffer->pid = line->pid;
	buffer->type = line->type;
	buffer->since = k->book->now;
	buffer->time = line->time;
	buffer->allocated = *k->place;
	set_refs(k, buffer, line->refs > 0 ? line->refs : 1);
	k->buffer = buffer;
	set_size(buffer, line->size);
	return set_origin(buffer, line);
}

/* One more reference, perhaps with another size. */
static int refer(struct booking *k, struct buffer *buffer)
{
	const struct line *line = k->line;

	set_refs(k, buffer, line->refs > 0 ? line->refs : buffer->refs + 1);
	k->device->counts.refs++;
	k->buffer = buffer;
	k->outcome = LINE_REF;
	if (line->size == buffer->size)
		return 0;
	k->outcome = LINE_RESIZE;
	set_size(buffer, line->size);
	return fault(k, buffer, FAULT_RESIZE);
}

static void end(struct booking *k, struct buffer *buffer)
{
	buffer->frees++;
	set_refs(k, buffer, 0);
	k->device->counts.frees++;
	k->buffer = buffer;
	k->outcome = LINE_FREE;
}

/* A reference less; `left` of them, where the log says so. */
static void unrefer(struct booking *k, struct buffer *buffer, uint32_t left)
{
	if (left == 0 && buffer->refs <= 1) {
		end(k, buffer);
		return;
	}
	set_refs(k, buffer, left > 0 ? left : buffer->refs - 1);
	k->buffer = buffer;
	k->outcome = LINE_UNREF;
}

static int book_alloc(struct booking *k)
{
	const struct line *line = k->line;
	const struct buffer_owner owner = owner_of(line);
	struct buffer *buffer = find_buffer(k->address, &owner);
	bool held = buffer && book_is_held(k->book, buffer);

	/* A server has dropped what a dead process left; it stays a leak, and the address begins anew. */
	if (held && line->kind == LINE_ALLOC && book_is_left(k->book, buffer)) {
		address_retire(k->address, buffer);
		buffer = NULL;
		held = false;
	}
	/* A server that says it is new has forgotten what was there. */
	if (held && (line->kind != LINE_ALLOC || line->source != LINE_TABLE))
		return refer(k, buffer);
	if (!buffer)
		buffer = address_make(&k->book->shelf, k->address, &owner);
	if (!buffer)
		return -ENOMEM;
	k->device->counts.allocs++;
	k->outcome = LINE_ALLOC;
	return begin(k, buffer);
}

/* Another size, of a server that tells it beside the allocation. */
static int book_resize(struct booking *k)
{
	struct buffer *buffer = own_or_new(k);

	if (!buffer)
		return -ENOMEM;
	if (buffer->size_min == 0)
		set_size(buffer, k->line->old_size);
	set_size(buffer, k->line->size);
	return fault(k, buffer, FAULT_RESIZE);
}

static int book_double_free(struct booking *k)
{
	struct buffer *buffer = own_or_new(k);

	if (!buffer)
		return -ENOMEM;
	/* Who says so knows that it is gone, whatever this log has of it. */
	set_refs(k, buffer, 0);
	k->outcome = LINE_DOUBLE_FREE;
	return fault(k, buffer, FAULT_DOUBLE_FREE);
}

static int book_unknown_free(struct booking *k)
{
	struct buffer *buffer = own_or_new(k);

	if (!buffer)
		return -ENOMEM;
	/* An existing server forgets what it has freed, and calls a double free the same. */
	if (k->line->source == LINE_SERVER && buffer->frees > 0 && !book_is_held(k->book, buffer))
		return book_double_free(k);
	if (!book_is_left(k->book, buffer))
		set_refs(k, buffer, 0);
	k->outcome = LINE_UNKNOWN_FREE;
	return fault(k, buffer, FAULT_UNKNOWN_FREE);
}

static int free_foreign(struct booking *k, struct buffer *other)
{
	unrefer(k, other, k->line->refs);
	k->outcome = LINE_FOREIGN_FREE;
	return fault(k, other, FAULT_FOREIGN_FREE);
}

/* Others have something there, but it is not clear whose is meant: nothing is freed. */
static int refuse_foreign(struct booking *k)
{
	struct buffer *own = own_or_new(k);

	if (!own)
		return -ENOMEM;
	k->outcome = LINE_FOREIGN_FREE;
	return fault(k, own, FAULT_FOREIGN_FREE);
}

static int book_foreign_free(struct booking *k)
{
	struct buffer *one = NULL;

	/* Without a type: it was refused. */
	if (k->line->type == LINE_NO_TYPE || find_held(k, &one) != 1)
		return refuse_foreign(k);
	return free_foreign(k, one);
}

/* The free was booked as the process's own, so something of it was there, if not in this log. */
static int book_free_told(struct booking *k)
{
	struct buffer *buffer = own_or_new(k);

	if (!buffer)
		return -ENOMEM;
	if (buffer->size_min == 0)
		set_size(buffer, k->line->size);
	if (buffer->since == 0) {
		buffer->pid = k->line->pid;
		buffer->since = k->book->now;
	}
	if (k->line->kind == LINE_FREE)
		end(k, buffer);
	else
		unrefer(k, buffer, k->line->refs);
	return 0;
}

/* Of what the process itself never had: another one's, by the rules that know nothing of its own. */
static int book_free_of_others(struct booking *k)
{
	struct buffer *one = NULL, *gone = k->address->newest[BUFFERS_GONE];
	const unsigned held = find_held(k, &one);

	if (held > 1)
		return refuse_foreign(k);
	if (held == 1)
		return free_foreign(k, one);
	if (!gone)
		return book_unknown_free(k);
	k->outcome = LINE_DOUBLE_FREE;
	return fault(k, gone, FAULT_DOUBLE_FREE);
}

/* Only reported: what it is has to be found out. */
static int book_free_reported(struct booking *k)
{
	struct buffer *own = find_own(k);

	if (own && book_is_held(k->book, own)) {
		unrefer(k, own, 0);
		return 0;
	}
	if (own && own->frees > 0)
		return book_double_free(k);
	/* Circular buffers and kernels are freed by their owners only. */
	return k->line->type != LINE_NO_TYPE ? book_unknown_free(k) : book_free_of_others(k);
}

static int book_free_event(struct booking *k)
{
	return k->line->source == LINE_DETAIL ? book_free_reported(k) : book_free_told(k);
}

static int book_resize_event(struct booking *k)
{
	return k->line->source == LINE_SERVER ? book_resize(k) : book_alloc(k);
}

/* --- the timeline --- */

static bool is_wanted(const struct book *b, const struct line *line)
{
	const struct wanted *w = &b->wanted;
	uint64_t hex;

	if (!w->any || !line->has_address || (!w->all_devices && line->device != w->device))
		return false;
	return line->address == w->address ||
	       (line->notation == LINE_DIGITS && line_as_hex(line->address, &hex) && hex == w->address);
}

/* Room for one more, from the oldest if there is no other. */
static struct moment *new_moment(struct book *b)
{
	struct moment *moments, *oldest;
	size_t room;

	if (b->moment_count == BOOK_TIMELINE_MAX) {
		oldest = &b->moments[b->moment_first];
		b->moment_first = (b->moment_first + 1) % BOOK_TIMELINE_MAX;
		b->moments_dropped++;
		free(oldest->origin);
		return oldest;
	}
	if (b->moment_count == b->moment_room) {
		room = b->moment_room ? b->moment_room * 2 : 64;
		room = room < BOOK_TIMELINE_MAX ? room : BOOK_TIMELINE_MAX;
		moments = realloc(b->moments, room * sizeof(*moments));
		if (!moments)
			return NULL;
		b->moments = moments;
		b->moment_room = room;
	}
	return &b->moments[b->moment_count++];
}

static int add_moment(const struct booking *k)
{
	const struct line *line = k->line;
	const struct buffer *buffer = k->buffer;
	struct moment *m = new_moment(k->book);

	if (!m)
		return -ENOMEM;
	*m = (struct moment){
		.place = *k->place,
		.time = line->time,
		.address = line->address,
		.size = line->size > 0 || !buffer ? line->size : buffer->size,
		.kind = k->outcome,
		.type = line->type != LINE_NO_TYPE || !buffer ? line->type : buffer->type,
		.notation = line->notation,
		.device = line->device,
		.pid = line->pid,
		.refs = buffer ? buffer->refs : 0,
	};
	if (line->caller_length + line->tag_length == 0)
		return 0;
	m->origin = copy_origin(line);
	return m->origin ? 0 : -ENOMEM;
}

/* Whether the number is the wanted one now that it is known how numbers without 0x are meant. */
static bool is_meant(const struct book *b, const struct moment *m)
{
	uint64_t value = m->address;

	if (m->notation == LINE_DIGITS && b->letters)
		line_as_hex(value, &value);
	return value == b->wanted.address;
}

int book_each_moment(const struct book *b, int (*each)(void *arg, const struct moment *m), void *arg)
{
	const struct moment *m;
	size_t i;
	int r;

	for (i = 0; i < b->moment_count; i++) {
		m = &b->moments[(b->moment_first + i) % b->moment_count];
		r = is_meant(b, m) ? each(arg, m) : 0;
		if (r != 0)
			return r;
	}
	return 0;
}

uint64_t book_moments_dropped(const struct book *b)
{
	return b->moments_dropped;
}

/* --- lines --- */

/* What a process reports is not believed beyond the ranges of docs/protocol.md. What a server says was booked. */
static bool is_refused(const struct line *line)
{
	if (line->source != LINE_DETAIL)
		return false;
	if (line->device < 0 || line->device >= DEVICES)
		return true;
	return line->kind == LINE_ALLOC && (line->size < 1 || line->size > SIZE_LARGEST ||
					    line->type == LINE_NO_TYPE || line->no_class);
}

static int refuse(struct booking *k)
{
	struct book *b = k->book;

	if (b->counts.refused++ == 0)
		b->counts.refused_at = *k->place;
	k->outcome = LINE_REFUSED;
	return is_wanted(b, k->line) ? add_moment(k) : 0;
}

static int book_event(struct book *b, const struct line *line, const struct place *place)
{
	static int (*const events[LINE_KINDS])(struct booking *k) = {
		[LINE_ALLOC] = book_alloc,
		[LINE_REF] = book_alloc,
		[LINE_RESIZE] = book_resize_event,
		[LINE_FREE] = book_free_event,
		[LINE_UNREF] = book_free_told,
		[LINE_DOUBLE_FREE] = book_double_free,
		[LINE_UNKNOWN_FREE] = book_unknown_free,
		[LINE_FOREIGN_FREE] = book_foreign_free,
	};
	struct booking k = { .book = b, .line = line, .place = place, .outcome = line->kind };
	int r;

	b->counts.events++;
	if (is_refused(line))
		return refuse(&k);
	k.device = device_of(b, line->device);
	if (!k.device)
		return -ENOMEM;
	k.device->counts.events++;
	if (line->kind == LINE_SUM) {
		++*(line->is_free ? &k.device->counts.sum_frees : &k.device->counts.sum_allocs);
		return 0;
	}
	k.address = address_of(b, line);
	if (!k.address)
		return -ENOMEM;
	r = events[line->kind](&k);
	return r == 0 && is_wanted(b, line) ? add_moment(&k) : r;
}

int book_line(struct book *b, const struct line *line, const struct place *place)
{
	b->counts.lines++;
	b->now++;
	if (line->notation == LINE_LETTERS && !b->letters) {
		b->letters = true;
		shelf_read_digits_as_hex(&b->shelf);
	}
	switch (line->kind) {
	case LINE_UNKNOWN:
		b->counts.unknown++;
		return 0;
	case LINE_BLANK:
	case LINE_NOTE:
		return 0;
	case LINE_EXIT:
		return end_process(b, line->pid);
	case LINE_RESET:
		b->reset = b->now;
		return 0;
	case LINE_LOST:
		b->counts.lost += line->size;
		return 0;
	default:
		return book_event(b, line, place);
	}
}

/* --- reading the book --- */

const struct book_counts *book_counts(const struct book *b)
{
	return &b->counts;
}

static int by_number(const void *a, const void *b)
{
	const struct device_counts *const *left = a, *const *right = b;

	return ((*left)->number > (*right)->number) - ((*left)->number < (*right)->number);
}

const struct device_counts *const *book_devices(struct book *b, size_t *np)
{
	struct device *d, *next;
	size_t n = 0;

	*np = HASH_COUNT(b->devices);
	free(b->sorted);
	b->sorted = calloc(*np + 1, sizeof(*b->sorted));
	if (!b->sorted)
		return NULL;
	HASH_ITER(hh, b->devices, d, next)
		b->sorted[n++] = &d->counts;
	qsort(b->sorted, n, sizeof(*b->sorted), by_number);
	return b->sorted;
}

int book_each(const struct book *b, int (*each)(void *arg, const struct address *a, const struct buffer *buffer),
	      void *arg)
{
	return shelf_each(&b->shelf, each, arg);
}
