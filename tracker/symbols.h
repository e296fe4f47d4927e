/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * symbols.h - the names of frames: what is known, what is wanted, and what cannot be found out.
 *
 * A frame is (module number, offset in the module), as in site.h. It is *wanted* once somebody has asked for its
 * name, *asked for* when the resolver has taken it up, and then has a name or has *failed*. A name is final; what has
 * failed is looked for again when it is wanted *by* another module: one that is the same file at another path. Nothing
 * is forgotten: module numbers keep their meaning as long as the server runs.
 *
 * Bounded: SYMBOLS_FRAMES frames, SYMBOLS_POOL bytes of names, each different name stored once. What finds no room
 * stays without a name.
 *
 * Pure; owns its memory (anonymous mappings, used where something was written). A name is valid as long as the
 * symbols are, and may hold any byte but NUL: it comes out of a user's file.
 */
#ifndef TRACKER_SYMBOLS_H
#define TRACKER_SYMBOLS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SYMBOLS_FRAMES (UINT32_C(1) << 20)
#define SYMBOLS_MODULES UINT32_C(16384)   /* module numbers are 1..this; 0, in no file, has no names */
#define SYMBOLS_POOL (UINT32_C(64) << 20)
#define SYMBOLS_NAME_MAX 511              /* bytes of a name; the rest is cut off */

struct symbols;

/* `seed` of the hash: random in production, so that nobody can aim at one place. 0 or -ENOMEM. */
int symbols_new(struct symbols **sp, uint64_t seed);
void symbols_free(struct symbols *s);  /* NULL is allowed */

/* NULL: not known, or not yet. */
const char *symbols_name(const struct symbols *s, uint32_t module, uint64_t offset);
/* From now on this frame's name is wanted, from where module `by` is. false: nothing to do now, because it is known,
 * wanted or asked for already (if that fails, and by another module, it is wanted from there again), has failed there,
 * or because there is no room. */
bool symbols_want(struct symbols *s, uint32_t module, uint64_t offset, uint32_t by);

/* The modules of which frames are wanted, the one that has waited longest first: the next behind `after`, which is such
 * a module itself, or 0 for the first. 0 = there is none. */
uint32_t symbols_wanted(const struct symbols *s, uint32_t after);
/* By which module its oldest wanted frame is wanted; 0 = it has none. */
uint32_t symbols_wanted_by(const struct symbols *s, uint32_t module);
/* Takes up to `max` wanted frames of a module, oldest first, all by the same one: they are asked for now. If there are
 * more, the module goes to the end of the row. Returns how many. */
unsigned symbols_ask(struct symbols *s, uint32_t module, uint64_t *offset, unsigned max);
/* The answer for a frame that was asked for; anything else is ignored. NULL or "": there is no name. */
void symbols_add(struct symbols *s, uint32_t module, uint64_t offset, const char *name);

struct symbols_count {
	uint32_t frames;   /* all that follow together */
	uint32_t wanted;
	uint32_t asked;
	uint32_t named;
	uint32_t failed;
	uint32_t names;    /* different ones */
};

struct symbols_count symbols_count(const struct symbols *s);
size_t symbols_memory(const struct symbols *s);  /* bytes in use */

#endif
