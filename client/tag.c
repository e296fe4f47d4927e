/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * tag.c - see tag.h.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "client/ring.h"
#include "client/tag.h"
#include "client/ttalloc.h"

#define TAG_DEPTH 64

struct tag {
	unsigned depth;                  /* pushes that were not popped, also those beyond TAG_DEPTH */
	size_t length;
	size_t lengths[TAG_DEPTH];       /* before each push */
	char text[TTALLOC_NAME_MAX];
};

void tag_free(struct ring_self *self)
{
	struct tag *tag = self->tag;

	self->tag = NULL;
	self->tag_version++;
	free(tag);
}

static void append(struct tag *tag, const char *bytes, size_t length)
{
	const size_t room = sizeof(tag->text) - tag->length;

	length = length < room ? length : room;
	memcpy(tag->text + tag->length, bytes, length);
	tag->length += length;
}

static void push(struct tag *tag, const char *name)
{
	if (tag->depth < TAG_DEPTH) {
		tag->lengths[tag->depth] = tag->length;
		if (name && name[0]) {
			if (tag->length > 0)
				append(tag, "/", 1);
			append(tag, name, strlen(name));
		}
	}
	tag->depth++;
}

static void pop(struct tag *tag)
{
	if (tag->depth == 0)
		return;
	tag->depth--;
	if (tag->depth < TAG_DEPTH)
		tag->length = tag->lengths[tag->depth];
}

/* For the time of a change, in which a signal handler may report, the thread has no tag. */
static struct tag *begin(struct ring_self *self)
{
	struct tag *tag = self->tag;

	self->tag = NULL;
	atomic_signal_fence(memory_order_seq_cst);
	self->tag_version++;
	atomic_signal_fence(memory_order_seq_cst);
	return tag;
}

static void end(struct ring_self *self, struct tag *tag)
{
	atomic_signal_fence(memory_order_seq_cst);
	self->tag = tag;
	atomic_signal_fence(memory_order_seq_cst);
	self->tag_version++;
}

void ttalloc_tag_push(const char *name)
{
	struct ring_self *self = &ring_self;
	const int error = errno;
	struct tag *tag = begin(self);

	if (!tag)
		tag = calloc(1, sizeof(*tag));
	if (tag)
		push(tag, name);
	end(self, tag);
	errno = error;
}

void ttalloc_tag_pop(void)
{
	struct ring_self *self = &ring_self;
	struct tag *tag = begin(self);

	if (tag)
		pop(tag);
	/* Nobody would free it when the thread ends: it has not reported yet, or is ending. */
	if (tag && tag->depth == 0 && (!self->watched || self->leaving)) {
		free(tag);
		tag = NULL;
	}
	end(self, tag);
}

size_t tag_text(const struct ring_self *self, const char **textp)
{
	const struct tag *tag = self->tag;

	*textp = tag ? tag->text : NULL;
	return tag ? tag->length : 0;
}

static uint64_t hash_of(const struct tag *tag)
{
	uint64_t hash = tag->length;
	size_t i;

	for (i = 0; i < tag->length; i++)
		hash = site_mix(hash, (uint8_t)tag->text[i]);
	return site_mixed(hash);
}

/* The number of the tag, defined if it is new; 0: it got none. The ring's `defining` is held. */
static uint32_t number_of(const struct tag *tag, struct ring_lane *l)
{
	struct sites *s = &l->ring->sites;
	const uint64_t hash = hash_of(tag);
	const uint32_t number = site_lookup(s->tags, SITE_TAG_BITS, hash);

	if (number != 0 || s->tag_count == TTALLOC_TAGS_MAX)
		return number;
	if (!ring_define(l, TTALLOC_RECORD_TAG, s->tag_count + 1, (const uint8_t *)tag->text, tag->length))
		return 0;
	site_insert(s->tags, SITE_TAG_BITS, hash, ++s->tag_count);
	return s->tag_count;
}

void tag_resolve(struct ring_binding *b, struct ring_lane *l, struct ring_self *self, bool nested)
{
	const uint32_t version = self->tag_version;
	uint32_t number = 0;

	if (self->tag && self->tag->length > 0) {
		if (!nested)
			pthread_mutex_lock(&l->ring->defining);
		else if (pthread_mutex_trylock(&l->ring->defining) != 0)
			return;
		number = number_of(self->tag, l);
		pthread_mutex_unlock(&l->ring->defining);
		/* There was no room: the next event tries again. */
		if (number == 0 && l->ring->sites.tag_count < TTALLOC_TAGS_MAX) {
			b->tag = 0;
			return;
		}
	}
	b->tag = number;
	atomic_signal_fence(memory_order_seq_cst);
	b->tag_version = version;
}
