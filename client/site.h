/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * site.h - call sites: which numbers stand for which stacks, in one ring.
 *
 * A stack is walked along frame pointers, from the caller of the public function, and hashed on the way; the hash is
 * looked up without a lock. Only a stack that is new to the ring is looked at more closely, and defined.
 *
 * What is read is never unmapped: the walk stays between the stack pointer and the end of the thread's stack,
 * strictly upwards. On any other stack (a coroutine's, an alternate signal stack) only the return address is used.
 * Where code has no frame pointers a chain leads to garbage: it is cut at the first address that is not code of a
 * loaded file, and when that has happened SITE_CUTS_MAX times only return addresses are used in this process.
 *
 * A buffer is freed from many more places than it is made, and what matters most is where it was made. So frees define
 * at most SITE_FREES_MAX sites, and their garbage does not keep allocations from being walked.
 *
 * A file that is unloaded and another one loaded at the same addresses are not told apart.
 */
#ifndef CLIENT_SITE_H
#define CLIENT_SITE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "client/ttalloc-ring.h"

/* Of what walks a stack: it reads what a garbage chain leads to, as long as that is in the stack. */
#define SITE_WALKS __attribute__((no_sanitize("address")))
#define SITE_CUTS_MAX 256
#define SITE_FREES_MAX (TTALLOC_SITES_MAX / 2)
#define SITE_BITS 15
#define SITE_TAG_BITS 13
/* What happens at a site; where both do, what did first. */
enum site_use {
	SITE_ALLOC,
	SITE_FREE,
	SITE_USES,
};

/* Slots are never all used: searches end at an empty one. */
static_assert((1u << SITE_BITS) > TTALLOC_SITES_MAX + SITE_USES * 2 * SITE_CUTS_MAX, "room for all sites");
static_assert((1u << SITE_TAG_BITS) > TTALLOC_TAGS_MAX, "room for all tags");

struct ring;
struct ring_lane;
struct ring_self;

struct site_slot {
	_Atomic uint64_t hash;           /* 0: empty */
	_Atomic uint32_t number;
};

/* A loaded file. */
struct site_module {
	uintptr_t start, end;            /* as mapped */
	uintptr_t load;                  /* what is subtracted from an address to get the file's */
	uintptr_t code_start, code_end;
	uint32_t number;                 /* 0: not defined */
};

/* Of one ring; all zero at first. */
struct sites {
	struct site_slot slots[1 << SITE_BITS];
	struct site_slot tags[1 << SITE_TAG_BITS];
	/* under the ring's `defining` */
	uint32_t count;
	uint32_t frees;                  /* of these, defined by frees */
	uint32_t tag_count;
	uint32_t module_count;
	struct site_module modules[TTALLOC_MODULES_MAX];
	uint8_t scratch[TTALLOC_DEFINITION_MAX];
};

/* Frames that are recorded, $TTALLOC_STACK_DEPTH; 0: none, and no call sites. */
extern unsigned site_depth __attribute__((visibility("hidden")));
/* Set when frame pointers have led to garbage too often. */
extern _Atomic bool site_no_walk[SITE_USES] __attribute__((visibility("hidden")));

/* Reads the environment, once. */
void site_setup(void);

/* Finds out where the thread's stack is; whether `frame` is on it. */
bool site_find_stack(struct ring_self *self, uintptr_t frame);
/* Looks at a stack that has no number yet, and defines it in the lane. 0: it got none. */
uint32_t site_define(struct ring_lane *l, struct ring_self *self, const uintptr_t *frame, enum site_use use, bool walk,
		     bool nested);

/* The last part of the path of the file that holds the code in front of a return address, and where in the file it is;
 * NULL, and *offsetp is the address: it cannot be told. */
const char *site_file(uintptr_t address, uintptr_t *offsetp);

static inline uint64_t site_mix(uint64_t hash, uintptr_t address)
{
	return (hash ^ address) * UINT64_C(0x9e3779b97f4a7c15);
}

/* Never 0. */
static inline uint64_t site_mixed(uint64_t hash)
{
	hash = (hash ^ hash >> 32) * UINT64_C(0xd6e8feb86659fd93);
	return hash ? hash : 1;
}

/* The number of a hash; 0: not there. */
static inline uint32_t site_lookup(const struct site_slot *slots, unsigned bits, uint64_t hash)
{
	const size_t mask = ((size_t)1 << bits) - 1;
	size_t i = (size_t)(hash >> (64 - bits));
	uint64_t h;

	for (;; i = (i + 1) & mask) {
		h = atomic_load_explicit(&slots[i].hash, memory_order_acquire);
		if (h == hash)
			return atomic_load_explicit(&slots[i].number, memory_order_relaxed);
		if (h == 0)
			return 0;
	}
}

/* A return address without what the processor has signed it with. */
static inline uintptr_t site_address(uintptr_t word)
{
#if defined(__aarch64__)
	/* XPACLRI, a no-op where nothing signs. Only the processor knows where the address ends: with kernels of 16 KiB
	 * pages at bit 47, with some at 39. */
	register uintptr_t x30 __asm__("x30") = word;

	__asm__("hint #7" : "+r"(x30));
	return x30;
#else
	return word;
#endif
}

#if defined(__x86_64__)
#define SITE_FRAME_ALIGN 16
#else
#define SITE_FRAME_ALIGN 8
#endif

/* The caller's frame, of the same layout everywhere: [0] its caller's, [1] the return address. NULL: there is none. */
static inline SITE_WALKS const uintptr_t *site_next_frame(const uintptr_t *frame, uintptr_t stack_high)
{
	const uintptr_t next = frame[0];

	if (next <= (uintptr_t)frame || next > stack_high - 2 * sizeof(uintptr_t) || next % SITE_FRAME_ALIGN != 0)
		return NULL;
	return (const uintptr_t *)next;
}

/* Adds a site to the table; the ring's `defining` is held. */
void site_insert(struct site_slot *slots, unsigned bits, uint64_t hash, uint32_t number);

#endif
