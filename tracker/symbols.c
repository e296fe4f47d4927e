/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * symbols.c - the names of frames; the contract is in symbols.h.
 *
 * All tables are mapped in their full size and used from the front, so nothing is ever copied to grow. Frames and
 * names are found through two struct index: the value is a frame's number, or where a name begins in the pool.
 */
#include "tracker/symbols.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "tracker/index.h"

/* What stands in frame.name before there is one. Names begin behind these. */
enum { WANTED, ASKED, FAILED, NAMES };

struct frame {
	uint64_t offset;
	uint32_t module;
	uint32_t name;  /* where in the pool, or one of the above */
	uint32_t next;  /* of the wanted ones of its module; a frame's number + 1, 0 = it is the last */
	uint16_t by;    /* where it is looked for, or was in vain */
	uint16_t again; /* where it was wanted meanwhile; 0 = nowhere else */
};
static_assert(SYMBOLS_MODULES <= UINT16_MAX, "a module number is 16 bits");

struct module {
	uint32_t first, last;  /* wanted frames; as above */
	uint32_t next;         /* of the modules in the row; 0 = it is the last */
};

struct symbols {
	uint64_t seed;
	struct index by_frame;
	struct index by_name;
	struct frame *frame;
	struct module *module;  /* by number; 0 is the head of the row: first and last are module numbers */
	char *pool;
	uint32_t pool_used;
	struct symbols_count count;
};

static_assert(SYMBOLS_FRAMES - 1 <= INDEX_VALUE_MAX, "a frame's number is a value of the index");
static_assert(SYMBOLS_POOL - 1 <= INDEX_VALUE_MAX, "a name's place is a value of the index");

/* ---- life ---- */

static void *map(size_t size)
{
	void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return p == MAP_FAILED ? NULL : p;
}

static void unmap(void *p, size_t size)
{
	if (p)
		munmap(p, size);
}

#define FRAMES_SIZE (SYMBOLS_FRAMES * sizeof(struct frame))
#define MODULES_SIZE ((SYMBOLS_MODULES + 1) * sizeof(struct module))

int symbols_new(struct symbols **sp, uint64_t seed)
{
	struct symbols *s = calloc(1, sizeof(*s));

	if (!s)
		return -ENOMEM;
	s->seed = seed;
	s->pool_used = NAMES;
	s->frame = map(FRAMES_SIZE);
	s->module = map(MODULES_SIZE);
	s->pool = map(SYMBOLS_POOL);
	if (!s->frame || !s->module || !s->pool || index_init(&s->by_frame) < 0 || index_init(&s->by_name) < 0) {
		symbols_free(s);
		return -ENOMEM;
	}
	*sp = s;
	return 0;
}

void symbols_free(struct symbols *s)
{
	if (!s)
		return;
	index_deinit(&s->by_frame);
	index_deinit(&s->by_name);
	unmap(s->frame, FRAMES_SIZE);
	unmap(s->module, MODULES_SIZE);
	unmap(s->pool, SYMBOLS_POOL);
	free(s);
}

/* ---- finding ---- */

/* One multiplication folded: both inputs reach every bit. */
static uint64_t mix(uint64_t a, uint64_t b)
{
	unsigned __int128 m = (unsigned __int128)(a ^ UINT64_C(0xa0761d6478bd642f)) * (b ^ UINT64_C(0xe7037ed1a0b428db));

	return (uint64_t)m ^ (uint64_t)(m >> 64);
}

struct hash {
	uint32_t home;
	uint32_t tag;
};

static struct hash hash_of(uint64_t mixed)
{
	return (struct hash){
		.home = (uint32_t)(mixed >> (64 - INDEX_HASH_BITS)),
		.tag = (uint32_t)mixed & ((1U << INDEX_TAG_BITS) - 1),
	};
}

static struct hash frame_hash(const struct symbols *s, uint32_t module, uint64_t offset)
{
	return hash_of(mix(offset ^ s->seed, mix(module, s->seed)));
}

static struct hash name_hash(const struct symbols *s, const char *name, size_t len)
{
	uint64_t h = mix(len, s->seed);

	for (size_t i = 0; i < len; i += sizeof(uint64_t)) {
		uint64_t part = 0;
		memcpy(&part, name + i, len - i < sizeof(part) ? len - i : sizeof(part));
		h = mix(part ^ s->seed, h);
	}
	return hash_of(h);
}

static struct frame *find_frame(const struct symbols *s, uint32_t module, uint64_t offset)
{
	struct hash hash = frame_hash(s, module, offset);
	struct index_cursor c = index_find(&s->by_frame, hash.home);
	uint64_t e;

	while ((e = index_next(&c))) {
		struct frame *f = &s->frame[index_entry_value(e)];
		if (index_entry_tag(e) == hash.tag && f->module == module && f->offset == offset)
			return f;
	}
	return NULL;
}

const char *symbols_name(const struct symbols *s, uint32_t module, uint64_t offset)
{
	const struct frame *f = find_frame(s, module, offset);

	return f && f->name >= NAMES ? s->pool + f->name : NULL;
}

/* ---- wanting and asking ---- */

static void enqueue_module(struct symbols *s, uint32_t number)
{
	struct module *row = &s->module[0];

	s->module[number].next = 0;
	if (row->last)
		s->module[row->last].next = number;
	else
		row->first = number;
	row->last = number;
}

static void dequeue_module(struct symbols *s, uint32_t number)
{
	struct module *row = &s->module[0];
	uint32_t before = 0, at = row->first;

	while (at != number) {
		before = at;
		at = s->module[at].next;
	}
	if (before)
		s->module[before].next = s->module[number].next;
	else
		row->first = s->module[number].next;
	if (row->last == number)
		row->last = before;
	s->module[number].next = 0;
}

static void enqueue_frame(struct symbols *s, uint32_t number)
{
	struct frame *f = &s->frame[number];
	struct module *m = &s->module[f->module];

	if (m->last) {
		s->frame[m->last - 1].next = number + 1;
	} else {
		m->first = number + 1;
		enqueue_module(s, f->module);
	}
	m->last = number + 1;
}

static void want(struct symbols *s, struct frame *f, uint16_t by)
{
	f->name = WANTED;
	f->by = by;
	f->again = 0;
	f->next = 0;
	s->count.wanted++;
	enqueue_frame(s, (uint32_t)(f - s->frame));
}

static bool want_again(struct symbols *s, struct frame *f, uint16_t by)
{
	if (f->name >= NAMES || f->by == by)
		return false;
	if (f->name != FAILED) {
		f->again = by;
		return false;
	}
	s->count.failed--;
	want(s, f, by);
	return true;
}

bool symbols_want(struct symbols *s, uint32_t module, uint64_t offset, uint32_t by)
{
	struct hash hash = frame_hash(s, module, offset);
	struct frame *f = find_frame(s, module, offset);
	uint32_t number = s->count.frames;

	if (!module || module > SYMBOLS_MODULES || !by || by > SYMBOLS_MODULES)
		return false;
	if (f)
		return want_again(s, f, (uint16_t)by);
	if (number == SYMBOLS_FRAMES || index_insert(&s->by_frame, hash.home, hash.tag, number) < 0)
		return false;
	s->frame[number] = (struct frame){ .offset = offset, .module = module };
	s->count.frames++;
	want(s, &s->frame[number], (uint16_t)by);
	return true;
}

uint32_t symbols_wanted_by(const struct symbols *s, uint32_t module)
{
	return s->module[module].first ? s->frame[s->module[module].first - 1].by : 0;
}

uint32_t symbols_wanted(const struct symbols *s, uint32_t after)
{
	return after ? s->module[after].next : s->module[0].first;
}

unsigned symbols_ask(struct symbols *s, uint32_t module, uint64_t *offset, unsigned max)
{
	struct module *m;
	uint32_t by;
	unsigned n = 0;

	if (!module || module > SYMBOLS_MODULES || !s->module[module].first || !max)
		return 0;
	m = &s->module[module];
	by = symbols_wanted_by(s, module);
	while (n < max && symbols_wanted_by(s, module) == by) {
		struct frame *f = &s->frame[m->first - 1];

		m->first = f->next;
		f->next = 0;
		f->name = ASKED;
		s->count.wanted--;
		s->count.asked++;
		offset[n++] = f->offset;
	}
	dequeue_module(s, module);
	if (m->first)
		enqueue_module(s, module);
	else
		m->last = 0;
	return n;
}

/* ---- names ---- */

/* Where the name stands in the pool; FAILED = there is no room. */
static uint32_t intern(struct symbols *s, const char *name, size_t len)
{
	struct hash hash = name_hash(s, name, len);
	struct index_cursor c = index_find(&s->by_name, hash.home);
	uint32_t at = s->pool_used;
	uint64_t e;

	while ((e = index_next(&c))) {
		const char *old = s->pool + index_entry_value(e);
		if (index_entry_tag(e) == hash.tag && strncmp(old, name, len) == 0 && !old[len])
			return index_entry_value(e);
	}
	if (len >= SYMBOLS_POOL - at || index_insert(&s->by_name, hash.home, hash.tag, at) < 0)
		return FAILED;
	memcpy(s->pool + at, name, len);
	s->pool_used += (uint32_t)len + 1;
	s->count.names++;
	return at;
}

void symbols_add(struct symbols *s, uint32_t module, uint64_t offset, const char *name)
{
	struct frame *f = find_frame(s, module, offset);

	if (!f || f->name != ASKED)
		return;
	s->count.asked--;
	f->name = name && *name ? intern(s, name, strnlen(name, SYMBOLS_NAME_MAX)) : FAILED;
	if (f->name == FAILED && f->again)
		want(s, f, f->again);
	else if (f->name == FAILED)
		s->count.failed++;
	else
		s->count.named++;
}

struct symbols_count symbols_count(const struct symbols *s)
{
	return s->count;
}

size_t symbols_memory(const struct symbols *s)
{
	return sizeof(*s) + s->count.frames * sizeof(struct frame) + MODULES_SIZE + s->pool_used +
	       index_bytes(&s->by_frame) + index_bytes(&s->by_name);
}
