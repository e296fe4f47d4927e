/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * spool.c - a long text kept in blocks; the contract is in spool.h.
 */
#include "fs/spool.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* A block that is not in use begins with the address of the next one. */
static void pool_add(struct spool_pool *pool, void *block)
{
	memcpy(block, &pool->first, sizeof(pool->first));
	pool->first = block;
	pool->blocks++;
}

/* NULL: there is none. */
static void *pool_take(struct spool_pool *pool)
{
	void *block = pool->first;

	if (!block)
		return NULL;
	memcpy(&pool->first, block, sizeof(pool->first));
	pool->blocks--;
	return block;
}

void spool_pool_free(struct spool_pool *pool, size_t blocks)
{
	for (; pool->blocks && blocks; blocks--)
		munmap(pool_take(pool), SPOOL_BLOCK);
}

void spool_discard(struct spool *s, struct spool_pool *pool)
{
	for (size_t i = 0; i < s->blocks; i++)
		pool_add(pool, s->block[i]);
	free(s->block);
	*s = (struct spool){ 0 };
}

static void *block_new(void)
{
	void *block = mmap(NULL, SPOOL_BLOCK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return block == MAP_FAILED ? NULL : block;
}

static int add_block(struct spool *s, struct spool_pool *pool)
{
	if (s->blocks == s->room) {
		size_t room = s->room ? s->room * 2 : 4;
		char **block = realloc(s->block, room * sizeof(*block));
		if (!block)
			return -ENOMEM;
		s->block = block;
		s->room = room;
	}
	char *block = pool_take(pool);
	if (!block)
		block = block_new();
	if (!block)
		return -ENOMEM;
	s->block[s->blocks++] = block;
	return 0;
}

int spool_append(struct spool *s, struct spool_pool *pool, const char *data, size_t len)
{
	while (s->start + s->blocks * SPOOL_BLOCK < s->end + len)
		if (add_block(s, pool) < 0)
			return -ENOMEM;
	while (len) {
		uint64_t at = s->end - s->start;
		size_t n = (size_t)(SPOOL_BLOCK - at % SPOOL_BLOCK);
		if (n > len)
			n = len;
		memcpy(s->block[at / SPOOL_BLOCK] + at % SPOOL_BLOCK, data, n);
		s->end += n;
		data += n;
		len -= n;
	}
	return 0;
}

uint64_t spool_bytes(const struct spool *s)
{
	return s->blocks * SPOOL_BLOCK;
}

void spool_drop(struct spool *s, struct spool_pool *pool)
{
	if (!s->blocks)
		return;
	pool_add(pool, s->block[0]);
	s->blocks--;
	memmove(s->block, s->block + 1, s->blocks * sizeof(*s->block));
	s->start += SPOOL_BLOCK;
}

int spool_read(const struct spool *s, uint64_t offset, size_t size, struct iovec iov[SPOOL_IOV])
{
	int n = 0;

	if (offset >= s->end)
		return 0;
	if (size > s->end - offset)
		size = (size_t)(s->end - offset);
	if (size > SPOOL_READ_MAX)
		size = SPOOL_READ_MAX;
	while (size) {
		uint64_t at = offset - s->start;
		size_t len = (size_t)(SPOOL_BLOCK - at % SPOOL_BLOCK);
		if (len > size)
			len = size;
		iov[n++] = (struct iovec){ .iov_base = s->block[at / SPOOL_BLOCK] + at % SPOOL_BLOCK, .iov_len = len };
		offset += len;
		size -= len;
	}
	return n;
}
