/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * naming.h - which frames want names: between the registry, which knows call sites, and the resolver, which finds
 * names.
 *
 * Remembers of each module on whose behalf it is looked at: the process that used it last in a call site, so that a
 * file that only its container can see is found as long as that lives, and nothing is read that its user could not
 * read. What found no name is looked for again when a process comes that has the same file (by its build id) at another
 * path: it may be readable there, or have names.
 *
 * Owns the resolver and the names; borrows the registry. One per server.
 */
#ifndef TRACKER_NAMING_H
#define TRACKER_NAMING_H

#include <stdint.h>

#include "tracker/errlog.h"
#include "tracker/loop.h"
#include "tracker/registry.h"
#include "tracker/site.h"
#include "tracker/symbols.h"

struct naming;

/* 0 or -errno. `seed` of the hash of names. */
int naming_new(struct naming **np, struct loop *loop, struct registry *reg, struct errlog *errlog, uint64_t seed);
void naming_free(struct naming *n);  /* NULL is allowed */

const struct symbols *naming_symbols(const struct naming *n);
/* A process has defined a call site, whose modules it knows as those of `frames`: they want names. Cheap; the rest is
 * done in turns of the loop. */
void naming_site(struct naming *n, uint32_t site, const struct site_frame *frames, uint32_t process);

#endif
