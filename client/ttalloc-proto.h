/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * ttalloc-proto.h - the one wire contract: what travels over the Unix socket.
 *
 * Four dialects of one message exist in the field; they differ only in total size. All are packed and
 * little-endian, one message is one send(), messages coalesce in the stream, and there is no greeting, length or
 * acknowledgement. The first 40 bytes (struct ttalloc_msg_head) are the same in every dialect; what follows is zero
 * in everything a client sends and holds totals in replies. docs/protocol.md tells how they are told apart.
 *
 * Source of each fact: streams recorded from the existing clients (dialects 72, 112 and 144); dialect 128 is known
 * from its documents only.
 *
 * Included by the client library and by the server. Holds definitions only, no code that does I/O.
 */
#ifndef TTALLOC_PROTO_H
#define TTALLOC_PROTO_H

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

/* The path compiled into every existing client, and the one of libttalloc. Both take everything. */
#define TTALLOC_COMPAT_SOCKET "/tmp/tt_allocation_server.sock"
#define TTALLOC_NATIVE_SOCKET "/run/ttalloc/ttalloc.sock"

/* Total sizes of a message, in bytes. */
enum ttalloc_dialect {
	TTALLOC_DIALECT_72 = 72,
	TTALLOC_DIALECT_112 = 112,
	TTALLOC_DIALECT_128 = 128,
	TTALLOC_DIALECT_144 = 144,
};
#define TTALLOC_MSG_MAX 144

/* Byte 0 of a message; never 0. */
enum ttalloc_msg_type {
	TTALLOC_MSG_ALLOC = 1,                 /* new buffer, or one more reference at a live address */
	TTALLOC_MSG_FREE = 2,                  /* one reference less; carries no buffer type */
	TTALLOC_MSG_QUERY = 3,                 /* totals of a device, please */
	TTALLOC_MSG_RESPONSE = 4,              /* server: the answer to QUERY */
	TTALLOC_MSG_DUMP = 5,                  /* make a dump; no reply */
	TTALLOC_MSG_DEVICE_INFO_QUERY = 6,     /* device -1: how many devices; else its capacity */
	TTALLOC_MSG_DEVICE_INFO_RESPONSE = 7,  /* server: the answer to DEVICE_INFO_QUERY */
	TTALLOC_MSG_CB_ALLOC = 8,              /* circular buffer; dialects 128 and 144 */
	TTALLOC_MSG_CB_FREE = 9,
	TTALLOC_MSG_KERNEL_LOAD = 10,          /* kernel binary; dialects 128 and 144 */
	TTALLOC_MSG_KERNEL_UNLOAD = 11,
	TTALLOC_MSG_DUMP_KERNELS = 12,         /* treated as DUMP */
	/* Dialect 144 between libttalloc and this server; see ttalloc-ring.h. */
	TTALLOC_MSG_RING = 13,                 /* give me a ring, please: buffer_id = TTALLOC_RING_MAGIC, size = version */
	TTALLOC_MSG_RING_RESPONSE = 14,        /* server: device_id = 0 or -errno, size = bytes of the memory; with it
	                                          come its descriptor and the eventfd's (SCM_RIGHTS, in this order) */
	TTALLOC_MSG_MARK = 15,                 /* a piece of a mark's name, see below; no reply */
	TTALLOC_MSG_TYPE_MAX = 15,             /* of what a client sends; existing ones: 12 */
};

/* Byte 16 of ALLOC. */
enum ttalloc_wire_type {
	TTALLOC_WIRE_DRAM = 0,
	TTALLOC_WIRE_L1 = 1,
	TTALLOC_WIRE_SYSTEM_MEMORY = 2,
	TTALLOC_WIRE_L1_SMALL = 3,
	TTALLOC_WIRE_TRACE = 4,
};

/* Byte 16 of KERNEL_LOAD and KERNEL_UNLOAD. */
enum ttalloc_wire_kernel_class {
	TTALLOC_WIRE_KERNEL_APPLICATION = 0,
	TTALLOC_WIRE_KERNEL_FABRIC = 1,
	TTALLOC_WIRE_KERNEL_DISPATCH = 2,
};

/* Device architectures in DEVICE_INFO_RESPONSE. */
enum ttalloc_wire_arch {
	TTALLOC_WIRE_ARCH_UNKNOWN = 0,
	TTALLOC_WIRE_ARCH_GRAYSKULL = 1,
	TTALLOC_WIRE_ARCH_WORMHOLE_B0 = 2,
	TTALLOC_WIRE_ARCH_BLACKHOLE = 3,
	TTALLOC_WIRE_ARCH_QUASAR = 4,
};

/* Bytes 0..39 of every message. */
struct __attribute__((packed)) ttalloc_msg_head {
	uint8_t type;         /* enum ttalloc_msg_type */
	uint8_t zero1[3];
	int32_t device_id;    /* 0..1023; -1 in DEVICE_INFO_QUERY asks for the number of devices */
	uint64_t size;        /* bytes; 0 in FREE and in queries */
	uint8_t buffer_type;  /* enum ttalloc_wire_type, or enum ttalloc_wire_kernel_class; 0 in FREE */
	uint8_t zero2[3];
	int32_t process_id;   /* getpid() of the sender as it sees itself */
	uint64_t buffer_id;   /* device address, circular-buffer address or kernel id */
	uint64_t timestamp;   /* ns since the epoch in ALLOC, CB_ALLOC and KERNEL_LOAD; else 0 */
};
#define TTALLOC_MSG_HEAD 40
static_assert(sizeof(struct ttalloc_msg_head) == TTALLOC_MSG_HEAD, "the head of a message is 40 bytes");
static_assert(offsetof(struct ttalloc_msg_head, buffer_id) == 24, "buffer_id is at 24");

/* MARK: the name in pieces of 24 bytes, in order, one message right after the other; the last piece makes the mark. In the
 * place of size, buffer_id and timestamp stand the bytes of the piece, in this order, padded with zeros. */
#define TTALLOC_MARK_PIECE 24
#define TTALLOC_MARK_NAME_MAX 63  /* device_id = the offset of the piece, buffer_type = the length of the whole name */

/* Replies: the four totals stand at the same place in every dialect. */
#define TTALLOC_REPLY_DRAM 40
#define TTALLOC_REPLY_L1 48
#define TTALLOC_REPLY_L1_SMALL 56
#define TTALLOC_REPLY_TRACE 64

/* The device information of dialect 112 starts at 72, that of 128 and 144 at 88; all six fields in this order. */
#define TTALLOC_REPLY_INFO_112 72
#define TTALLOC_REPLY_INFO_128 88
struct __attribute__((packed)) ttalloc_reply_info {
	uint64_t total_dram;
	uint64_t total_l1;
	uint32_t arch;                  /* enum ttalloc_wire_arch */
	uint32_t num_dram_channels;
	uint32_t dram_size_per_channel;
	uint32_t l1_size_per_core;
	uint32_t is_available;
	uint32_t num_devices;
};
static_assert(TTALLOC_REPLY_INFO_112 + sizeof(struct ttalloc_reply_info) == TTALLOC_DIALECT_112, "112 ends there");
static_assert(TTALLOC_REPLY_INFO_128 + sizeof(struct ttalloc_reply_info) == TTALLOC_DIALECT_128, "128 ends there");

/* Dialects 128 and 144 only. Bytes 128..143 of dialect 144 are its client's own ring statistics; we send zeros. */
#define TTALLOC_REPLY_CB 72
#define TTALLOC_REPLY_KERNEL 80

#endif
