/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * inode.c - inode numbers are computed; the contract is in inode.h.
 */
#include "fs/inode.h"

#include <assert.h>

#include "tracker/event.h"

#define ROW_SHIFT 56
#define PAYLOAD_MASK ((UINT64_C(1) << ROW_SHIFT) - 1)
#define FIXED_PAYLOAD UINT64_C(1)  /* any would do; this one makes row 0 the kernel's root */

#define DEVICE_BITS 10
#define EPOCH_BITS 32
#define SEQ_BITS 29
#define SERIAL_BITS 32
#define PLACE_BITS 32

static_assert(DEVICE_MAX <= 1 << DEVICE_BITS, "a device number fits");
static_assert(BUFFER_TYPES <= 8, "a type fits in the three bits above device and epoch");

static uint64_t payload(enum inode_shape shape, const struct inode *i)
{
	switch (shape) {
	case INODE_DEVICE:
		return (uint64_t)i->device << EPOCH_BITS | i->epoch;
	case INODE_TYPE:
		return (uint64_t)i->type << (DEVICE_BITS + EPOCH_BITS) | (uint64_t)i->device << EPOCH_BITS | i->epoch;
	case INODE_BUFFER:
		return (uint64_t)i->slot << SEQ_BITS | (i->seq & INODE_SEQ_MASK);
	case INODE_PROCESS:
		return (uint64_t)i->process << SERIAL_BITS | i->serial;
	case INODE_SITE:
		return i->site;
	case INODE_PAST:
		return (uint64_t)i->head << PLACE_BITS | i->place;
	case INODE_MARK:
		return i->mark;
	case INODE_DUMP:
		return i->dump;
	case INODE_FIXED:
		break;
	}
	return FIXED_PAYLOAD;
}

uint64_t inode_pack(enum inode_shape shape, const struct inode *i)
{
	return (uint64_t)i->row << ROW_SHIFT | (payload(shape, i) & PAYLOAD_MASK);
}

unsigned inode_row(uint64_t number)
{
	return (unsigned)(number >> ROW_SHIFT);
}

struct inode inode_unpack(enum inode_shape shape, uint64_t number)
{
	uint64_t p = number & PAYLOAD_MASK;
	struct inode i = { .row = inode_row(number) };

	switch (shape) {
	case INODE_TYPE:
		i.type = (unsigned)(p >> (DEVICE_BITS + EPOCH_BITS)) & 7;
		i.device = (unsigned)(p >> EPOCH_BITS) & ((1U << DEVICE_BITS) - 1);
		i.epoch = (uint32_t)p;
		break;
	case INODE_DEVICE:
		i.device = (unsigned)(p >> EPOCH_BITS) & ((1U << DEVICE_BITS) - 1);
		i.epoch = (uint32_t)p;
		break;
	case INODE_BUFFER:
		i.slot = (uint32_t)(p >> SEQ_BITS);
		i.seq = (uint32_t)p & INODE_SEQ_MASK;
		break;
	case INODE_PROCESS:
		i.process = (uint32_t)(p >> SERIAL_BITS);
		i.serial = (uint32_t)p;
		break;
	case INODE_SITE:
		i.site = (uint32_t)p;
		break;
	case INODE_PAST:
		i.head = (uint32_t)(p >> PLACE_BITS);
		i.place = (uint32_t)p;
		break;
	case INODE_MARK:
		i.mark = p;
		break;
	case INODE_DUMP:
		i.dump = p;
		break;
	case INODE_FIXED:
		break;
	}
	return i;
}
