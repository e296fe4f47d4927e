/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * spool.c - a long text kept in blocks; the contract is in spool.h.
 */
#include "fs/spool.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* A wasted block begins with the address of the next one. */
void spool_discard(struct spool *s, struct spool_waste *waste)
{
	for (size_t i = 0; i < s->blocks; i++) {
		memcpy(s->block[i], &waste->first, sizeof(waste->first));
		waste->first = s->block[i];
	}
	free(s->block);
	*s = (struct spool){ 0 };
}

bool spool_waste_free(struct spool_waste *waste, size_t blocks)
{
	for (; waste->first && blocks; blocks--) {
		void *block = waste->first;

		memcpy(&waste->first, block, sizeof(waste->first));
		free(block);
	}
	return waste->first != NULL;
}

static int add_block(struct spool *s)
{
	if (s->blocks == s->room) {
		size_t room = s->room ? s->room * 2 : 4;
		char **block = realloc(s->block, room * sizeof(*block));
		if (!block)
			return -ENOMEM;
		s->block = block;
		s->room = room;
	}
	s->block[s->blocks] = malloc(SPOOL_BLOCK);
	if (!s->block[s->blocks])
		return -ENOMEM;
	s->blocks++;
	return 0;
}

int spool_append(struct spool *s, const char *data, size_t len)
{
	while (s->start + s->blocks * SPOOL_BLOCK < s->end + len)
		if (add_block(s) < 0)
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

void spool_drop(struct spool *s)
{
	if (!s->blocks)
		return;
	free(s->block[0]);
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
