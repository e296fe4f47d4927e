/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * registry-site.c - definitions: modules, sites and tags, interned, and what each user has of their tables.
 *
 * The tables and their texts are in the arena and only grow. The index over them and the users' shares are derived: an
 * entry says who defined it.
 */
#include <endian.h>
#include <stdlib.h>
#include <string.h>

#define HASH_NONFATAL_OOM 1
#include <uthash.h>

#include "client/ttalloc-ring.h"
#include "tracker/registry-internal.h"

/* Index tags. */
#define INDEX_MODULE 1
#define INDEX_SITE 2
#define INDEX_TAG 3
#define INDEX_PAIR 4

/* How much there is of everything; number 0 of a table is none of them. */
static const uint32_t most[SHARES] = {
	[SHARE_MODULES] = REGISTRY_MODULES - 1,
	[SHARE_MODULE_TEXT] = REGISTRY_MODULE_TEXT,
	[SHARE_SITES] = REGISTRY_SITES - 1,
	[SHARE_FRAMES] = REGISTRY_FRAMES,
	[SHARE_TAGS] = REGISTRY_TAGS - 1,
	[SHARE_TAG_TEXT] = REGISTRY_TAG_TEXT,
	[SHARE_PAIRS] = REGISTRY_PAIRS - 1,
	[SHARE_ACCOUNTS] = REGISTRY_ACCOUNTS - 1,
	[SHARE_SUMS] = REGISTRY_ACCOUNTS - 1,
	[SHARE_CELLS] = GROWTH_CELLS,
};

/* ---- shares ---- */

struct user {
	uint32_t uid;
	uint32_t used[SHARES];
	UT_hash_handle hh;
};

void registry_users_deinit(struct registry *reg)
{
	struct user *u, *next;

	HASH_ITER(hh, reg->users, u, next) {
		HASH_DEL(reg->users, u);
		free(u);
	}
}

static struct user *user_of(struct registry *reg, uint32_t uid)
{
	struct user *u;

	HASH_FIND(hh, reg->users, &uid, sizeof(uid), u);
	if (u)
		return u;
	u = calloc(1, sizeof(*u));
	if (!u)
		return NULL;
	u->uid = uid;
	HASH_ADD(hh, reg->users, uid, sizeof(u->uid), u);
	if (!u->hh.tbl) {
		free(u);
		return NULL;
	}
	return u;
}

static bool fits(const struct registry *reg, const struct user *u, enum share what, uint32_t n)
{
	return n <= most[what] - reg->used[what] && (!u->uid || u->used[what] + n <= most[what] / 2);
}

static void take(struct registry *reg, struct user *u, enum share what, uint32_t n)
{
	reg->used[what] += n;
	u->used[what] += n;
}

bool registry_share_take(struct registry *reg, uint32_t uid, enum share what)
{
	struct user *u = user_of(reg, uid);

	if (!u || !fits(reg, u, what, 1))
		return false;
	take(reg, u, what, 1);
	return true;
}

void registry_share_return(struct registry *reg, uint32_t uid, enum share what)
{
	struct user *u;

	HASH_FIND(hh, reg->users, &uid, sizeof(uid), u);
	if (u)
		u->used[what]--;
	reg->used[what]--;
}

void registry_share_forget(struct registry *reg, enum share what)
{
	for (struct user *u = reg->users; u; u = u->hh.next)
		u->used[what] = 0;
	reg->used[what] = 0;
}

/* Takes one entry of `table` and `n` units of its pool, and puts the entry, whose number is returned, into the index.
 * 0 = no room. */
static uint32_t entry_new(struct registry *reg, uint32_t uid, enum share table, enum share pool, size_t n,
			  uint32_t hash,
			  uint32_t tag)
{
	struct user *u = user_of(reg, uid);
	uint32_t number = reg->used[table] + 1;

	if (!u || n > most[pool] || !fits(reg, u, table, 1) || !fits(reg, u, pool, (uint32_t)n) ||
	    index_insert(&reg->definitions, hash, tag, number) < 0) {
		reg->counters.definitions_lost++;
		return 0;
	}
	take(reg, u, table, 1);
	take(reg, u, pool, (uint32_t)n);
	reg->version++;
	return number;
}

/* ---- hashing: SipHash-2-4 ---- */

static inline uint64_t rotate(uint64_t v, int bits)
{
	return v << bits | v >> (64 - bits);
}

static void sip_rounds(uint64_t v[4], int rounds)
{
	while (rounds--) {
		v[0] += v[1];
		v[2] += v[3];
		v[1] = rotate(v[1], 13) ^ v[0];
		v[3] = rotate(v[3], 16) ^ v[2];
		v[0] = rotate(v[0], 32);
		v[2] += v[1];
		v[0] += v[3];
		v[1] = rotate(v[1], 17) ^ v[2];
		v[3] = rotate(v[3], 21) ^ v[0];
		v[2] = rotate(v[2], 32);
	}
}

static void sip_word(uint64_t v[4], uint64_t word)
{
	v[3] ^= word;
	sip_rounds(v, 2);
	v[0] ^= word;
}

static uint64_t hash_bytes(uint64_t key0, uint64_t key1, const void *data, size_t len)
{
	uint64_t v[4] = { key0 ^ UINT64_C(0x736f6d6570736575), key1 ^ UINT64_C(0x646f72616e646f6d),
			  key0 ^ UINT64_C(0x6c7967656e657261), key1 ^ UINT64_C(0x7465646279746573) };
	const char *at = data;
	uint64_t word;

	for (size_t left = len; left >= sizeof(word); left -= sizeof(word), at += sizeof(word)) {
		memcpy(&word, at, sizeof(word));
		sip_word(v, le64toh(word));
	}
	word = 0;
	if (len % sizeof(word))
		memcpy(&word, at, len % sizeof(word));
	sip_word(v, le64toh(word) | (uint64_t)len << 56);
	v[2] ^= 0xff;
	sip_rounds(v, 4);
	return v[0] ^ v[1] ^ v[2] ^ v[3];
}

/* What a module is in the hash of a site. The keys are fixed, here and below: the hash is the same everywhere. */
static uint64_t module_identity(const uint8_t *build_id, size_t build_id_len, const char *path, size_t len)
{
	return build_id_len ? hash_bytes(1, 0, build_id, build_id_len) : hash_bytes(2, 0, path, len);
}

/* ---- modules ---- */

static uint32_t module_find(const struct registry *reg, uint32_t hash, const uint8_t *build_id, size_t build_id_len,
			    const char *path, size_t len)
{
	struct index_cursor c = index_find(&reg->definitions, hash);
	uint64_t e;

	while ((e = index_next(&c)) != 0) {
		const struct module *m = &reg->module[index_entry_value(e)];
		if (index_entry_tag(e) != INDEX_MODULE || m->build_id_len != build_id_len || m->path_len != len)
			continue;
		const char *text = reg->module_text + m->text;
		if ((!build_id_len || !memcmp(text, build_id, build_id_len)) &&
		    (!len || !memcmp(text + build_id_len, path, len)))
			return index_entry_value(e);
	}
	return 0;
}

uint32_t registry_module(struct registry *reg, const uint8_t *build_id, size_t build_id_len, const char *path,
			 size_t len, uint32_t uid)
{
	len = len ? strnlen(path, len) : 0;
	if ((!build_id_len && !len) || build_id_len > UINT8_MAX)
		return 0;
	uint64_t key = hash_bytes(reg->config.seed, INDEX_MODULE, build_id, build_id_len);
	uint32_t hash = registry_hash(reg, INDEX_MODULE, hash_bytes(key, INDEX_MODULE, path, len));
	uint32_t number = module_find(reg, hash, build_id, build_id_len, path, len);
	uint32_t text = reg->used[SHARE_MODULE_TEXT];

	if (number)
		return number;
	number = entry_new(reg, uid, SHARE_MODULES, SHARE_MODULE_TEXT, build_id_len + len + 1, hash, INDEX_MODULE);
	if (!number)
		return 0;
	if (build_id_len)
		memcpy(reg->module_text + text, build_id, build_id_len);
	if (len)
		memcpy(reg->module_text + text + build_id_len, path, len);
	reg->module_text[text + build_id_len + len] = '\0';
	reg->module[number] = (struct module){
		.identity = module_identity(build_id, build_id_len, path, len),
		.text = text,
		.path_len = (uint32_t)len,
		.uid = uid,
		.build_id_len = (uint8_t)build_id_len,
		.suppressed = registry_suppresses(reg, path, len),
	};
	return number;
}

bool registry_module_get(const struct registry *reg, uint32_t number, struct module_info *out)
{
	*out = (struct module_info){ .path = "" };
	if (!number || number > reg->used[SHARE_MODULES])
		return false;
	const struct module *m = &reg->module[number];

	out->build_id = (const uint8_t *)reg->module_text + m->text;
	out->build_id_len = m->build_id_len;
	out->path = reg->module_text + m->text + m->build_id_len;
	return true;
}

/* ---- sites ---- */

static uint64_t identity_of(const struct registry *reg, uint32_t module)
{
	return module && module <= reg->used[SHARE_MODULES] ? reg->module[module].identity : 0;
}

static uint64_t site_hash(const struct registry *reg, const struct site_frame *frames, unsigned n)
{
	uint64_t words[2 * TTALLOC_FRAMES_MAX];

	for (unsigned i = 0; i < n; i++) {
		words[2 * i] = htole64(identity_of(reg, frames[i].module));
		words[2 * i + 1] = htole64(frames[i].offset);
	}
	return hash_bytes(0, 0, words, 2 * n * sizeof(words[0]));
}

static bool site_is(const struct registry *reg, const struct site *s, const struct site_frame *frames, unsigned n)
{
	const struct site_frame *own = &reg->frame[s->frames];

	if (s->n != n)
		return false;
	for (unsigned i = 0; i < n; i++)
		if (own[i].offset != frames[i].offset ||
		    identity_of(reg, own[i].module) != identity_of(reg, frames[i].module))
			return false;
	return true;
}

uint32_t registry_site_find(const struct registry *reg, uint64_t hash)
{
	struct index_cursor c = index_find(&reg->definitions, registry_hash(reg, INDEX_SITE, hash));
	uint64_t e;

	while ((e = index_next(&c)) != 0)
		if (index_entry_tag(e) == INDEX_SITE && reg->site[index_entry_value(e)].hash == hash)
			return index_entry_value(e);
	return 0;
}

uint32_t registry_site(struct registry *reg, uint8_t method, bool truncated, const struct site_frame *frames,
		       unsigned n, uint32_t uid)
{
	if (!n || n > TTALLOC_FRAMES_MAX)
		return 0;
	uint64_t hash = site_hash(reg, frames, n);
	uint32_t number = registry_site_find(reg, hash), first = reg->used[SHARE_FRAMES];

	if (number) {
		if (site_is(reg, &reg->site[number], frames, n))
			return number;
		reg->counters.definitions_lost++;  /* two stacks of one hash: a name can only mean one of them */
		return 0;
	}
	number = entry_new(reg, uid, SHARE_SITES, SHARE_FRAMES, n, registry_hash(reg, INDEX_SITE, hash), INDEX_SITE);
	if (!number)
		return 0;
	for (unsigned i = 0; i < n; i++)
		reg->frame[first + i] = (struct site_frame){
			.module = frames[i].module <= reg->used[SHARE_MODULES] ? frames[i].module : 0,
			.offset = frames[i].offset,
		};
	reg->site[number] = (struct site){
		.hash = hash, .frames = first, .uid = uid, .n = (uint8_t)n, .method = method, .truncated = truncated };
	reg->site[number].suppressed = registry_suppresses_site(reg, &reg->site[number]);
	return number;
}

static uint32_t pair_find(const struct registry *reg, uint32_t hash, uint32_t begin, uint32_t end)
{
	struct index_cursor c = index_find(&reg->definitions, hash);
	uint64_t e;

	while ((e = index_next(&c)) != 0) {
		const struct site_pair *p = &reg->pair[index_entry_value(e)];
		if (index_entry_tag(e) == INDEX_PAIR && p->begin == begin && p->end == end)
			return index_entry_value(e);
	}
	return 0;
}

static uint32_t pair_hash(const struct registry *reg, uint32_t begin, uint32_t end)
{
	return registry_hash(reg, INDEX_PAIR, (uint64_t)begin << 32 | end);
}

/* 0 = no room. */
static uint32_t pair_new(struct registry *reg, uint32_t uid, uint32_t hash, uint32_t begin, uint32_t end)
{
	if (!registry_share_take(reg, uid, SHARE_PAIRS))
		return 0;
	const uint32_t number = reg->used[SHARE_PAIRS];
	if (index_insert(&reg->definitions, hash, INDEX_PAIR, number) < 0) {
		registry_share_return(reg, uid, SHARE_PAIRS);
		return 0;
	}
	reg->pair[number] = (struct site_pair){ .begin = begin, .end = end, .uid = uid };
	return number;
}

uint16_t registry_site_pair(struct registry *reg, uint32_t uid, uint32_t begin, uint32_t end)
{
	const struct site_pair *last = &reg->pair[reg->last_pair];
	uint32_t hash, number;

	if (!begin && !end)
		return 0;
	/* One event after the other is from the same place. */
	if (last->begin == begin && last->end == end)
		return reg->last_pair;
	hash = pair_hash(reg, begin, end);
	number = pair_find(reg, hash, begin, end);
	if (!number)
		number = pair_new(reg, uid, hash, begin, end);
	if (!number) {
		reg->counters.history_unplaced++;
		return 0;
	}
	reg->last_pair = (uint16_t)number;
	return reg->last_pair;
}

void registry_pairs_clear(struct registry *reg)
{
	for (uint32_t i = 1; i <= reg->used[SHARE_PAIRS]; i++) {
		const struct site_pair *p = &reg->pair[i];
		(void)index_remove(&reg->definitions, pair_hash(reg, p->begin, p->end), INDEX_PAIR, i);
	}
	registry_share_forget(reg, SHARE_PAIRS);
	reg->last_pair = 0;
}

bool registry_site_get(const struct registry *reg, uint32_t number, struct site_info *out)
{
	*out = (struct site_info){ 0 };
	if (!number || number > reg->used[SHARE_SITES])
		return false;
	const struct site *s = &reg->site[number];

	*out = (struct site_info){
		.hash = s->hash,
		.frames = &reg->frame[s->frames],
		.n = s->n,
		.method = s->method,
		.truncated = s->truncated,
	};
	return true;
}

/* ---- tags ---- */

static uint32_t tag_find(const struct registry *reg, uint32_t hash, const char *text, size_t len)
{
	struct index_cursor c = index_find(&reg->definitions, hash);
	uint64_t e;

	while ((e = index_next(&c)) != 0) {
		const struct tag *t = &reg->tag[index_entry_value(e)];
		if (index_entry_tag(e) == INDEX_TAG && t->len == len && !memcmp(reg->tag_text + t->text, text, len))
			return index_entry_value(e);
	}
	return 0;
}

uint32_t registry_tag(struct registry *reg, const char *text, size_t len, uint32_t uid)
{
	len = len ? strnlen(text, len > TTALLOC_NAME_MAX ? TTALLOC_NAME_MAX : len) : 0;
	if (!len)
		return 0;
	uint32_t hash = registry_hash(reg, INDEX_TAG, hash_bytes(reg->config.seed, INDEX_TAG, text, len));
	uint32_t number = tag_find(reg, hash, text, len), start = reg->used[SHARE_TAG_TEXT];

	if (number)
		return number;
	number = entry_new(reg, uid, SHARE_TAGS, SHARE_TAG_TEXT, len + 1, hash, INDEX_TAG);
	if (!number)
		return 0;
	memcpy(reg->tag_text + start, text, len);
	reg->tag_text[start + len] = '\0';
	reg->tag[number] = (struct tag){
		.text = start, .len = (uint32_t)len, .uid = uid, .suppressed = registry_suppresses(reg, text, len) };
	return number;
}

const char *registry_tag_text(const struct registry *reg, uint32_t number)
{
	return number && number <= reg->used[SHARE_TAGS] ? reg->tag_text + reg->tag[number].text : NULL;
}

/* ---- counts ---- */

uint32_t registry_modules(const struct registry *reg)
{
	return reg->used[SHARE_MODULES];
}

uint32_t registry_sites(const struct registry *reg)
{
	return reg->used[SHARE_SITES];
}

uint32_t registry_tags(const struct registry *reg)
{
	return reg->used[SHARE_TAGS];
}
