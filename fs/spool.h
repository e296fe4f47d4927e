/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * spool.h - a long text kept in blocks: appended at its end, read anywhere, forgotten from its front.
 *
 * Serves the two places where text can be as long as the registry is large: what a reader of a table has been shown so
 * far, and a frozen report. Nothing is ever moved, so each operation is bounded. Owns its blocks; does nothing else with
 * the system than to take memory and give it back.
 *
 * Both are slow: on a virtual machine 10 us for each page that is touched for the first time, and more for giving it
 * back. So blocks go to a struct spool_pool, from which the next text takes them; its owner gives back what nobody
 * takes, a block at a time. (malloc() would give back many at once, at a time of its own choice: 18 ms were seen.)
 */
#ifndef FS_SPOOL_H
#define FS_SPOOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#define SPOOL_BLOCK (UINT64_C(64) << 10)
#define SPOOL_READ_MAX (UINT64_C(128) << 10)  /* bytes of one read at most, */
#define SPOOL_IOV 3                           /* which can lie in that many blocks */

struct spool {
	char **block;
	size_t blocks;
	size_t room;     /* of block[] */
	uint64_t start;  /* offset of the first byte kept, a multiple of SPOOL_BLOCK */
	uint64_t end;    /* length of the text, what was forgotten included */
};

/* Blocks that are not in use; all zero = none. */
struct spool_pool {
	void *first;
	size_t blocks;
};

/* Everything goes to the pool, and the spool is ready for a new text from offset 0. */
void spool_discard(struct spool *s, struct spool_pool *pool);
/* Gives back at most that many blocks. */
void spool_pool_free(struct spool_pool *pool, size_t blocks);
/* 0, or -ENOMEM with nothing appended. */
int spool_append(struct spool *s, struct spool_pool *pool, const char *data, size_t len);
/* Memory in use. */
uint64_t spool_bytes(const struct spool *s);
/* Forgets the block at the front. */
void spool_drop(struct spool *s, struct spool_pool *pool);
/* Where the bytes from `offset` on are; `offset` must not be in front of what is kept. At most `size` bytes and
 * SPOOL_READ_MAX; how many places were filled in, 0 at the end of the text. */
int spool_read(const struct spool *s, uint64_t offset, size_t size, struct iovec iov[SPOOL_IOV]);

#endif
