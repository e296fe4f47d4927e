/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * handle.c - open files; the contract is in handle.h.
 */
#include "fs/handle.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define HASH_NONFATAL_OOM 1
#define uthash_nonfatal_oom(entry) ((entry)->head = NULL)
#include <uthash.h>

/* What one step of a table produces: not a line at a time for a reader of single bytes, and not longer than a step. */
#define STEP_MIN (UINT64_C(16) << 10)
#define STEP_MAX (UINT64_C(48) << 10)
#define STREAM_STEP (UINT64_C(32) << 10)

#define TABLE_KEPT (SPOOL_IOV * SPOOL_BLOCK)  /* of each open table, whatever the others take: one answer */

#define OPENER_SEARCH 256  /* handles of one inode that are looked at for their opener */

#define ID_SHIFT 32  /* generation above, slot below: an id is not used twice */

/* All handles of one inode, the newest first. */
struct same {
	uint64_t number;
	struct handle *head;
	UT_hash_handle hh;
};

struct handles {
	struct handles_config config;
	struct handle **slot;
	size_t slots;
	size_t lowest_free;    /* no slot below it is free */
	uint32_t generation;
	struct same *same;
	uint64_t bytes;        /* of text in all handles */
	uint64_t sorted;       /* bytes of copies in all cursors */
	struct textbuf scratch;
};

int handles_new(struct handles **hsp, const struct handles_config *config)
{
	struct handles *hs = calloc(1, sizeof(*hs));

	if (!hs)
		return -ENOMEM;
	hs->config = *config;
	*hsp = hs;
	return 0;
}

void handles_free(struct handles *hs)
{
	if (!hs)
		return;
	for (size_t i = 0; i < hs->slots; i++)
		if (hs->slot[i])
			handle_close(hs, hs->slot[i]);
	free(hs->slot);
	textbuf_deinit(&hs->scratch);
	free(hs);
}

uint64_t handles_version(const struct handles *hs)
{
	const struct view *v = hs->config.view;

	/* Each of them only grows, so a sum that is the same means that each is. */
	return registry_version(v->registry) + v->errlog->version + v->trace->next + hs->config.dumps->version;
}

/* ---- the set of handles ---- */

static int slot_take(struct handles *hs, size_t *slot)
{
	size_t i = hs->lowest_free;

	while (i < hs->slots && hs->slot[i])
		i++;
	if (i == HANDLES_MAX)
		return -ENFILE;
	if (i == hs->slots) {
		size_t slots = hs->slots ? hs->slots * 2 : 64;
		struct handle **grown = realloc(hs->slot, slots * sizeof(struct handle *));
		if (!grown)
			return -ENOMEM;
		memset(grown + hs->slots, 0, (slots - hs->slots) * sizeof(struct handle *));
		hs->slot = grown;
		hs->slots = slots;
	}
	hs->lowest_free = i + 1;
	*slot = i;
	return 0;
}

static int same_add(struct handles *hs, struct handle *h)
{
	struct same *same;

	HASH_FIND(hh, hs->same, &h->number, sizeof(h->number), same);
	if (!same) {
		same = calloc(1, sizeof(*same));
		if (!same)
			return -ENOMEM;
		struct same *added = same;
		same->number = h->number;
		same->head = h;
		HASH_ADD(hh, hs->same, number, sizeof(same->number), added);
		if (!same->head) {
			free(same);
			return -ENOMEM;
		}
		return 0;
	}
	h->older = same->head;
	same->head->newer = h;
	same->head = h;
	return 0;
}

static void same_remove(struct handles *hs, struct handle *h)
{
	struct same *same;

	HASH_FIND(hh, hs->same, &h->number, sizeof(h->number), same);
	if (!same)
		return;
	if (h->older)
		h->older->newer = h->newer;
	if (h->newer)
		h->newer->older = h->older;
	else
		same->head = h->older;
	if (!same->head) {
		HASH_DEL(hs->same, same);
		free(same);
	}
}

static void count_sorted(struct handles *hs, struct handle *h)
{
	hs->sorted -= h->sorted;
	h->sorted = view_table_bytes(&h->cursor);
	hs->sorted += h->sorted;
}

static void table_restart(struct handles *hs, struct handle *h)
{
	hs->bytes -= spool_bytes(&h->spool);
	spool_discard(&h->spool, hs->config.pool);
	view_table_end(&h->cursor);
	h->cursor = (struct view_cursor){ 0 };
	count_sorted(hs, h);
	h->ended = false;
	h->version = handles_version(hs);
}

/* Takes over a newly written text. */
static void take_text(struct handles *hs, struct handle *h, struct textbuf *text)
{
	hs->bytes = hs->bytes - h->text.size + text->size;
	textbuf_deinit(&h->text);
	h->text = *text;
	*text = (struct textbuf)TEXTBUF_INIT;
	h->attr.st_size = (off_t)h->text.len;
	h->version = handles_version(hs);
}

static void table_open(struct handles *hs, struct handle *h);

static int begin(struct handles *hs, struct handle *h, const struct place *p)
{
	struct textbuf text = TEXTBUF_INIT;
	int r = tree_attr(hs->config.tree, p, &text, &h->attr);

	if (r < 0) {
		textbuf_deinit(&text);
		return r;
	}
	take_text(hs, h, &text);
	h->attr.st_size = p->node->kind == NODE_DUMP ? (off_t)p->dump->text.end : h->attr.st_size;
	h->pos = hs->config.view->trace->next;
	h->since = registry_seq(hs->config.view->registry);
	h->dump = p->dump;
	if (h->dump)
		dumps_hold(h->dump);
	if (p->node->kind == NODE_TABLE)
		table_open(hs, h);
	return 0;
}

static void dispose(struct handles *hs, struct handle *h)
{
	table_restart(hs, h);
	hs->bytes -= h->text.size;
	textbuf_deinit(&h->text);
	dumps_release(hs->config.dumps, h->dump);
	free(h);
}

int handle_open(struct handles *hs, const struct place *p, pid_t opener, struct handle **hp)
{
	size_t slot;
	int r = hs->bytes > 2 * HANDLES_TEXT ? -ENFILE : slot_take(hs, &slot);

	if (r < 0)
		return r;
	struct handle *h = calloc(1, sizeof(*h));
	if (!h)
		return -ENOMEM;
	h->node = p->node;
	h->number = p->number;
	h->key = p->key;
	h->opener = opener;
	h->id = (uint64_t)++hs->generation << ID_SHIFT | slot;
	r = begin(hs, h, p);
	if (r == 0)
		r = same_add(hs, h);
	if (r < 0) {
		dispose(hs, h);
		hs->lowest_free = slot < hs->lowest_free ? slot : hs->lowest_free;
		return r;
	}
	hs->slot[slot] = h;
	*hp = h;
	return 0;
}

void handle_close(struct handles *hs, struct handle *h)
{
	size_t slot = (uint32_t)h->id;

	same_remove(hs, h);
	hs->slot[slot] = NULL;
	if (slot < hs->lowest_free)
		hs->lowest_free = slot;
	dispose(hs, h);
}

struct handle *handle_get(const struct handles *hs, uint64_t id)
{
	size_t slot = (uint32_t)id;

	return slot < hs->slots && hs->slot[slot] && hs->slot[slot]->id == id ? hs->slot[slot] : NULL;
}

struct handle *handle_of(const struct handles *hs, uint64_t number, pid_t opener)
{
	struct same *same;

	HASH_FIND(hh, hs->same, &number, sizeof(number), same);
	if (!same)
		return NULL;
	struct handle *h = same->head;
	for (unsigned i = 0; h && i < OPENER_SEARCH; i++, h = h->older)
		if (h->opener == opener)
			return h;
	return same->head;
}

struct handle *handle_each(const struct handles *hs, size_t *at)
{
	while (*at < hs->slots) {
		struct handle *h = hs->slot[(*at)++];
		if (h)
			return h;
	}
	return NULL;
}

/* ---- texts ---- */

/* The registry may have given the slots in the handle's key to something else since they were looked up. */
static int refresh_key(const struct handles *hs, struct handle *h, struct place *p)
{
	int r = tree_get(hs->config.tree, h->number, p);

	if (r == 0)
		h->key = p->key;
	return r;
}

/* Writes the text as it would be now into the scratch buffer. */
static int write_again(struct handles *hs, struct handle *h)
{
	struct place p;
	int r = refresh_key(hs, h, &p);

	if (r < 0)
		return r;
	textbuf_clear(&hs->scratch);
	r = h->node->show(hs->config.view, &h->key, &hs->scratch);
	if (r < 0)
		return r == -ENOENT ? -ESTALE : r;
	return textbuf_error(&hs->scratch);
}

static int give(const char *data, size_t len, uint64_t offset, size_t size, struct iovec *iov)
{
	if (offset >= len)
		return 0;
	if (size > len - offset)
		size = len - (size_t)offset;
	iov->iov_base = (char *)(uintptr_t)data + offset;
	iov->iov_len = size;
	return 1;
}

static int text_read(struct handles *hs, struct handle *h, uint64_t offset, size_t size, struct iovec *iov, int *n)
{
	if (offset == 0 && h->begun && !h->node->constant) {
		int r = write_again(hs, h);
		if (r < 0)
			return r;
		take_text(hs, h, &hs->scratch);
	}
	h->begun = true;
	*n = give(h->text.data, h->text.len, offset, size, iov);
	return 0;
}

/* ---- the stream ---- */

static int stream_read(struct handles *hs, struct handle *h, size_t size, struct iovec *iov, int *n)
{
	const struct view *v = hs->config.view;

	if (h->taken == h->text.len) {
		hs->bytes -= h->text.size;
		textbuf_clear(&h->text);
		h->taken = 0;
		trace_read(v->trace, v->registry, &h->pos, v->now, size < STREAM_STEP ? size : STREAM_STEP, &h->text);
		hs->bytes += h->text.size;
		if (textbuf_error(&h->text))
			return -ENOMEM;
		if (!h->text.len)
			return -EAGAIN;
	}
	*n = give(h->text.data, h->text.len, h->taken, size, iov);
	h->taken += iov->iov_len;
	return 0;
}

/* ---- tables ---- */

/* The front of the longest texts makes way. The last TABLE_KEPT bytes of each stay: somebody may wait for them. */
static void trim(struct handles *hs, struct handle *h)
{
	while (spool_bytes(&h->spool) > HANDLES_TABLE_TEXT) {
		spool_drop(&h->spool, hs->config.pool);
		hs->bytes -= SPOOL_BLOCK;
	}
	while (hs->bytes > HANDLES_TEXT) {
		struct handle *longest = h, *other;
		size_t at = 0;
		while ((other = handle_each(hs, &at)))
			if (spool_bytes(&other->spool) > spool_bytes(&longest->spool))
				longest = other;
		if (spool_bytes(&longest->spool) <= TABLE_KEPT)
			return;
		spool_drop(&longest->spool, hs->config.pool);
		hs->bytes -= SPOOL_BLOCK;
	}
}

static const char *last_name(const struct handle *h)
{
	const char *slash = strrchr(h->node->path, '/');

	return slash ? slash + 1 : h->node->path;
}

static int too_many_sorted(struct handles *hs, struct handle *h)
{
	errlog_add(hs->config.errlog, hs->config.view->now, "%s: too many are being read at once, read again from 0",
		   last_name(h));
	table_restart(hs, h);
	return -ENOMEM;
}

static int table_step(struct handles *hs, struct handle *h, uint64_t missing)
{
	uint64_t want = missing < STEP_MIN ? STEP_MIN : missing > STEP_MAX ? STEP_MAX : missing;
	uint64_t before = spool_bytes(&h->spool);
	struct place p;
	int r = refresh_key(hs, h, &p);

	if (r < 0)
		return r;
	if (hs->sorted > HANDLES_SORTED && h->sorted && h->sorted < hs->sorted)
		return too_many_sorted(hs, h);
	textbuf_clear(&hs->scratch);
	int more = h->node->table(hs->config.view, &h->key, &h->cursor, want, &hs->scratch);
	if (more < 0)
		return more == -ENOENT ? -ESTALE : more;
	if (textbuf_error(&hs->scratch))
		return -ENOMEM;
	r = spool_append(&h->spool, hs->config.pool, hs->scratch.data, hs->scratch.len);
	hs->bytes += spool_bytes(&h->spool) - before;
	if (!more) {
		h->ended = true;
		view_table_end(&h->cursor);
	}
	count_sorted(hs, h);
	trim(hs, h);
	return r;
}

/* The first step is made at once: of a table that it is all of, the length is known, and whoever goes by the length
 * (sendfile, tar, tac) gets all of it, too. If it fails, the first read makes it again. */
static void table_open(struct handles *hs, struct handle *h)
{
	table_restart(hs, h);
	h->fresh = table_step(hs, h, STEP_MAX) == 0;
}

static int not_kept(struct handles *hs, const struct handle *h, uint64_t offset)
{
	errlog_add(hs->config.errlog, hs->config.view->now, "%s: offset %llu is no longer kept, read again from 0",
		   last_name(h), (unsigned long long)offset);
	return -EINVAL;
}

static int table_read(struct handles *hs, struct handle *h, uint64_t offset, size_t size, bool again,
		      struct iovec iov[SPOOL_IOV], int *n)
{
	uint64_t end = offset + (size < SPOOL_READ_MAX ? size : SPOOL_READ_MAX);

	if (!h->fresh && (!h->begun || (offset == 0 && !again)))
		table_restart(hs, h);
	h->begun = true;
	h->fresh = false;
	if (offset < h->spool.start)
		return not_kept(hs, h, offset);
	if (!h->ended && h->spool.end < end) {
		int r = table_step(hs, h, end - h->spool.end);
		if (r < 0)
			return r;
		if (!h->ended && h->spool.end < end)
			return -EAGAIN;
	}
	*n = spool_read(&h->spool, offset, size, iov);
	return 0;
}

/* ---- reading ---- */

int handle_read(struct handles *hs, struct handle *h, uint64_t offset, size_t size, bool again,
		struct iovec iov[SPOOL_IOV], int *n)
{
	*n = 0;
	switch (h->node->kind) {
	case NODE_TEXT:
	case NODE_CTL:
	case NODE_OPTION:
	case NODE_LIST:
		return text_read(hs, h, offset, size, iov, n);
	case NODE_TABLE:
		return table_read(hs, h, offset, size, again, iov, n);
	case NODE_STREAM:
		return stream_read(hs, h, size, iov, n);
	case NODE_DUMP:
		*n = spool_read(&h->dump->text, offset, size, iov);
		return 0;
	case NODE_DIR:
		break;
	}
	return -EISDIR;
}

bool handle_ready(const struct handles *hs, const struct handle *h)
{
	if (h->node->kind != NODE_STREAM)
		return true;
	return h->taken < h->text.len || h->pos != hs->config.view->trace->next;
}

bool handle_changed(struct handles *hs, struct handle *h)
{
	uint64_t version = handles_version(hs);

	if (h->node->constant || h->node->kind == NODE_STREAM || h->version == version)
		return false;
	if (h->node->kind == NODE_TABLE)
		return true;
	if (write_again(hs, h) < 0)
		return true;
	if (hs->scratch.len != h->text.len)
		return true;
	if (h->text.len && memcmp(hs->scratch.data, h->text.data, h->text.len) != 0)
		return true;
	h->version = version;
	return false;
}
