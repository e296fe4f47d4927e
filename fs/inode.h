/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * inode.h - inode numbers are computed: arithmetic between what a node stands for and its 64-bit number.
 *
 * A number is the row of the node table (8 bits) and what the path's variable parts stand for (56 bits), and nothing
 * is kept for it: no table of inodes, no lookup counts, nothing to forget. It is also what stat() shows as st_ino.
 *
 * A number is never used for anything else later: each carries what tells its thing from the next one in the same
 * place (a device's epoch, a buffer's sequence number, a process's serial number, a dump's, a mark's or a site's number). So a
 * number that the kernel kept too long is recognised as dead. Of a buffer's sequence number only the low 29 bits fit:
 * the same slot would have to be filled again exactly 2^29 events later to be mistaken.
 *
 * Pure.
 */
#ifndef FS_INODE_H
#define FS_INODE_H

#include <stdint.h>

#define INODE_ROOT UINT64_C(1)  /* what the kernel calls the root; row 0, payload 1 */

#define INODE_ROWS 128          /* rows are 0..127, so that a number is also positive as a signed one */
#define INODE_SEQ_MASK ((UINT32_C(1) << 29) - 1)
#define INODE_SLOT_MAX ((UINT32_C(1) << 27) - 1)

/* What the variable parts of a path are; decides how the 56 bits are used. */
enum inode_shape {
	INODE_FIXED,    /* nothing */
	INODE_DEVICE,   /* device 10, epoch 32 */
	INODE_TYPE,     /* device 10, epoch 32, type 3 */
	INODE_BUFFER,   /* slot 27, low bits of seq 29 */
	INODE_PROCESS,  /* slot 16, serial 32 */
	INODE_SITE,     /* number 32: they are not forgotten */
	INODE_PAST,     /* head of history 24, 32 bits of what its address and device are */
	INODE_MARK,     /* number 56 */
	INODE_DUMP,     /* number 56 */
};

/* Only the fields of the shape count; the others are 0. */
struct inode {
	unsigned row;
	unsigned device;
	unsigned type;
	uint32_t epoch;    /* of the device */
	uint32_t slot;     /* of the buffer */
	uint32_t seq;      /* of the buffer, low bits */
	uint32_t process;  /* slot */
	uint32_t serial;   /* of the process */
	uint32_t site;
	uint32_t head;
	uint32_t place;    /* of the head */
	uint64_t mark;
	uint64_t dump;
};

uint64_t inode_pack(enum inode_shape shape, const struct inode *i);
unsigned inode_row(uint64_t number);
struct inode inode_unpack(enum inode_shape shape, uint64_t number);

#endif
