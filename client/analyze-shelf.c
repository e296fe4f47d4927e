/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * analyze-shelf.c - see analyze-shelf.h.
 */
#include <errno.h>
#include <stdlib.h>

#include "client/analyze-shelf.h"

#define ROOM_MIN 1024
/* So many buffers per bucket of an address before it gets more, and so many more then. */
#define CROWD 8
#define CROWD_BITS 3
#define CHUNK (256 * 1024)

/* Addresses and buffers lie one behind the other as they came: none goes before all go. */
struct shelf_chunk {
	struct shelf_chunk *next;
	size_t used;
	_Alignas(8) uint8_t bytes[CHUNK];
};

/* Zeroes; NULL: no memory. */
static void *take(struct shelf *s, size_t size)
{
	struct shelf_chunk *c = s->chunks;

	if (!c || CHUNK - c->used < size) {
		c = calloc(1, sizeof(*c));
		if (!c)
			return NULL;
		c->next = s->chunks;
		s->chunks = c;
	}
	c->used += size;
	return c->bytes + c->used - size;
}

static uint64_t mix(uint64_t v)
{
	v = (v ^ v >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	v = (v ^ v >> 27) * UINT64_C(0x94d049bb133111eb);
	return v ^ v >> 31;
}

/* --- the buffers of an address --- */

static size_t bucket_count(const struct address *a)
{
	return (size_t)1 << a->bits;
}

static struct buffer **bucket(struct address *a, size_t i)
{
	return a->bits == 0 ? &a->buffers.one : &a->buffers.many[i];
}

static struct buffer **bucket_of(struct address *a, int32_t pid)
{
	return bucket(a, mix((uint64_t)pid) & (bucket_count(a) - 1));
}

static void insert(struct address *a, struct buffer *buffer)
{
	struct buffer **p = bucket_of(a, buffer->owner.pid);

	buffer->next = *p;
	*p = buffer;
	a->count++;
}

/* Without memory it goes on as it is, only slower. */
static void grow(struct address *a)
{
	struct address grown = *a;
	struct buffer *buffer, *next;
	size_t i;

	grown.bits = (uint8_t)(a->bits + CROWD_BITS);
	grown.count = 0;
	grown.buffers.many = calloc(bucket_count(&grown), sizeof(struct buffer *));
	if (!grown.buffers.many)
		return;
	for (i = 0; i < bucket_count(a); i++) {
		for (buffer = *bucket(a, i); buffer; buffer = next) {
			next = buffer->next;
			insert(&grown, buffer);
		}
	}
	if (a->bits > 0)
		free(a->buffers.many);
	*a = grown;
}

static struct buffer *same_pid(struct buffer *buffer, int32_t pid)
{
	while (buffer && buffer->owner.pid != pid)
		buffer = buffer->next;
	return buffer;
}

struct buffer *address_first_of(struct address *a, int32_t pid)
{
	return same_pid(*bucket_of(a, pid), pid);
}

struct buffer *address_next_of(const struct buffer *buffer)
{
	return same_pid(buffer->next, buffer->owner.pid);
}

struct buffer *address_make(struct shelf *s, struct address *a, const struct buffer_owner *owner)
{
	struct buffer *buffer = take(s, sizeof(*buffer));

	if (!buffer)
		return NULL;
	buffer->owner = *owner;
	buffer->type = owner->type;
	buffer->pid = owner->pid;
	buffer->time = LINE_NO_TIME;
	if (a->count >= CROWD * bucket_count(a))
		grow(a);
	insert(a, buffer);
	return buffer;
}

void address_retire(struct address *a, struct buffer *buffer)
{
	struct buffer **p = bucket_of(a, buffer->owner.pid);

	while (*p != buffer)
		p = &(*p)->next;
	*p = buffer->next;
	a->count--;
	buffer->retired = true;
	buffer->next = a->retired;
	a->retired = buffer;
}

void address_list(struct address *a, struct buffer *buffer, enum buffer_list list)
{
	if (buffer->list == list)
		return;
	if (buffer->older)
		buffer->older->newer = buffer->newer;
	if (buffer->newer)
		buffer->newer->older = buffer->older;
	else if (buffer->list != BUFFERS_OTHER)
		a->newest[buffer->list] = buffer->older;
	buffer->list = (uint8_t)list;
	buffer->older = buffer->newer = NULL;
	/* Nobody looks for the others. */
	if (list == BUFFERS_OTHER)
		return;
	buffer->older = a->newest[list];
	if (buffer->older)
		buffer->older->newer = buffer;
	a->newest[list] = buffer;
}

/* --- the addresses --- */

static size_t slot_of(const struct shelf *s, int32_t device, enum space space, uint64_t value)
{
	return mix(mix(value) + ((uint64_t)(uint32_t)device << 2 | space)) & (s->room - 1);
}

static void put(struct shelf *s, struct address *a)
{
	struct address **p = &s->table[slot_of(s, a->device, a->space, a->value)];

	a->next = *p;
	*p = a;
	s->count++;
}

static int make_room(struct shelf *s)
{
	const size_t room = s->room ? s->room * 2 : ROOM_MIN;
	struct address **table = calloc(room, sizeof(struct address *));
	struct address *a;

	if (!table)
		return -ENOMEM;
	free(s->table);
	s->table = table;
	s->room = room;
	s->count = 0;
	for (a = s->first; a; a = a->later)
		if (!a->merged)
			put(s, a);
	return 0;
}

static int free_parts(void *arg, const struct address *a, const struct buffer *buffer)
{
	free(buffer->faults);
	free(buffer->origin);
	return 0;
}

void shelf_deinit(struct shelf *s)
{
	struct shelf_chunk *c, *next;
	struct address *a;

	shelf_each(s, free_parts, NULL);
	for (a = s->first; a; a = a->later)
		if (a->bits > 0)
			free(a->buffers.many);
	for (c = s->chunks; c; c = next) {
		next = c->next;
		free(c);
	}
	free(s->table);
	*s = (struct shelf){ .table = NULL };
}

/* NULL: it is not there. */
static struct address *find(const struct shelf *s, int32_t device, enum space space, uint64_t value)
{
	struct address *a = s->room > 0 ? s->table[slot_of(s, device, space, value)] : NULL;

	while (a && (a->value != value || a->device != device || a->space != space))
		a = a->next;
	return a;
}

struct address *shelf_get(struct shelf *s, int32_t device, enum space space, uint64_t value)
{
	struct address *a = find(s, device, space, value);

	if (a)
		return a;
	if (s->count == s->room && make_room(s) < 0)
		return NULL;
	a = take(s, sizeof(*a));
	if (!a)
		return NULL;
	a->value = value;
	a->device = device;
	a->space = (uint8_t)space;
	put(s, a);
	if (s->last)
		s->last->later = a;
	else
		s->first = a;
	s->last = a;
	return a;
}

static int each_of_chain(const struct address *a, const struct buffer *buffer,
			 int (*each)(void *arg, const struct address *a, const struct buffer *buffer), void *arg)
{
	int r = 0;

	for (; buffer && r == 0; buffer = buffer->next)
		r = each(arg, a, buffer);
	return r;
}

int shelf_each(const struct shelf *s, int (*each)(void *arg, const struct address *a, const struct buffer *buffer),
	       void *arg)
{
	struct address *a;
	size_t i;
	int r = 0;

	for (a = s->first; a && r == 0; a = a->later) {
		for (i = 0; i < bucket_count(a) && r == 0; i++)
			r = each_of_chain(a, *bucket(a, i), each, arg);
		if (r == 0)
			r = each_of_chain(a, a->retired, each, arg);
	}
	return r;
}

/* --- digits that turn out to be hex --- */

/* Takes the addresses with digits out of the table, in one chain. */
static struct address *take_digits(struct shelf *s)
{
	struct address **p, *a, *taken = NULL;
	size_t i;

	for (i = 0; i < s->room; i++) {
		for (p = &s->table[i]; (a = *p);) {
			if (!a->digits) {
				p = &a->next;
				continue;
			}
			*p = a->next;
			s->count--;
			a->next = taken;
			taken = a;
		}
	}
	return taken;
}

static void relist(struct address *a, struct buffer *buffer)
{
	const enum buffer_list list = buffer->list;

	buffer->list = BUFFERS_OTHER;
	buffer->older = buffer->newer = NULL;
	address_list(a, buffer, list);
}

/* Moves all buffers of `from`, which stays empty, and out of the table: they were at the same address. */
static void merge(struct address *a, struct address *from)
{
	struct buffer *buffer, *next;
	size_t i;

	for (i = 0; i < bucket_count(from); i++) {
		for (buffer = *bucket(from, i); buffer; buffer = next) {
			next = buffer->next;
			insert(a, buffer);
			relist(a, buffer);
		}
	}
	for (buffer = from->retired; buffer; buffer = next) {
		next = buffer->next;
		buffer->next = a->retired;
		a->retired = buffer;
		relist(a, buffer);
	}
	if (from->bits > 0)
		free(from->buffers.many);
	from->bits = 0;
	from->buffers.one = from->retired = NULL;
	from->merged = true;
}

void shelf_read_digits_as_hex(struct shelf *s)
{
	/* All are out before the first is put back, for the new name of one may be the old name of another. */
	struct address *a, *next, *there, *taken = take_digits(s);

	for (a = taken; a; a = next) {
		next = a->next;
		a->digits = false;
		line_as_hex(a->value, &a->value);
		there = find(s, a->device, a->space, a->value);
		if (there)
			merge(there, a);
		else
			put(s, a);
	}
}
