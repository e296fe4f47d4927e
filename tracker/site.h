/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * site.h - call sites, their modules, and tags: what the registry knows of where an allocation was made.
 *
 * Part of the registry (registry-site.c, registry-account.c); its state is in the registry's arena. A *definition*,
 * that is a module, a site or a tag, is interned: the same content has one number for all processes, 1 and up; 0 means
 * none. Definitions stay until the server ends, also over `reset`, since open rings refer to them. Their tables are
 * bounded, and no user but root gets more than half of one, so that nobody can keep them from the others.
 *
 * A site is known by a 64-bit hash of its stack: of each frame the module's build id (its path, where it has none) and
 * the offset in it. So it is the same number in every run, and on every machine with the same binaries.
 *
 * An *account* is the totals of one site of one process on one device of one type; over all processes such accounts
 * have a sum, which lives on when they have gone with their process. Both are exact at any time: they are booked
 * together with the other totals.
 */
#ifndef TRACKER_SITE_H
#define TRACKER_SITE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tracker/registry.h"

#define REGISTRY_MODULES 16384
#define REGISTRY_SITES (UINT32_C(1) << 18)
#define REGISTRY_TAGS 65536
#define REGISTRY_PAIRS 65536
#define REGISTRY_ACCOUNTS (UINT32_C(1) << 18)  /* of processes; as many sums over all processes */

/* Where a frame returns to. Module 0: not in a file, the offset is the address. */
struct site_frame {
	uint32_t module;
	uint64_t offset;
};

/* ---- defining; 0 = no room (counted in definitions_lost), or nothing said ---- */

/* `uid` is who defines it. Texts end at their first NUL; a tag longer than 255 bytes is cut. */
uint32_t registry_module(struct registry *reg, const uint8_t *build_id, size_t build_id_len, const char *path,
			 size_t len, uint32_t uid);
/* `n` is 1..TTALLOC_FRAMES_MAX frames, innermost first. `method` (enum ttalloc_stack_method) and `truncated` are no
 * part of what a site is: whoever defines it first says them. */
uint32_t registry_site(struct registry *reg, uint8_t method, bool truncated, const struct site_frame *frames,
		       unsigned n, uint32_t uid);
uint32_t registry_tag(struct registry *reg, const char *text, size_t len, uint32_t uid);

/* ---- reading ---- */

struct module_info {
	const uint8_t *build_id;
	size_t build_id_len;  /* 0 = it has none */
	const char *path;     /* "" = not known */
};

struct site_info {
	uint64_t hash;
	const struct site_frame *frames;
	unsigned n;
	uint8_t method;       /* enum ttalloc_stack_method */
	bool truncated;       /* there were more frames */
};

/* false, and *out is empty, for 0 and for a number that nothing has. */
bool registry_module_get(const struct registry *reg, uint32_t number, struct module_info *out);
bool registry_site_get(const struct registry *reg, uint32_t number, struct site_info *out);
/* NULL for 0 and for a number that nothing has. */
const char *registry_tag_text(const struct registry *reg, uint32_t number);
/* The site of that hash, or 0. */
uint32_t registry_site_find(const struct registry *reg, uint64_t hash);
/* How many there are: they have the numbers 1 to that. */
uint32_t registry_modules(const struct registry *reg);
uint32_t registry_sites(const struct registry *reg);
uint32_t registry_tags(const struct registry *reg);

struct account_info {
	uint32_t site;
	uint16_t device;
	uint8_t type;
	struct totals totals;
};

/* The next account of a process in the order of their making, or the next sum over all processes (PROCESS_NONE), behind
 * *pos, which is 0 at the beginning and is moved. false = there is none. */
bool registry_account_next(const struct registry *reg, uint32_t process, uint32_t *pos, struct account_info *out);
/* The sum that the live buffer in that slot is part of: of its site on its device of its type. false = it has none. */
bool registry_site_totals(const struct registry *reg, uint32_t slot, struct totals *out);

#endif
