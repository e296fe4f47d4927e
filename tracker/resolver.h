/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * resolver.h - finds the names that are wanted of a struct symbols, in another process.
 *
 * Reading users' executables means libdw, files of any size and content, and reads that may never return: none of it
 * in the server. A program, ttalloc-symbolize, does it; it is started when the first name is wanted, and answers one
 * request after the other, each for some frames of one module (tracker/symbolize.h). Its answers come through the loop
 * like anything else. The server trusts an answer as little as a client.
 *
 * Never blocks the loop and never queues more than one request. A request that takes too long is ended; its frames
 * have no names, and the user on whose behalf it was is passed over for a while, so that nobody can keep names from the
 * others. A program that ended is started again, RESOLVER_RESTARTS times in all; then, or when it is not
 * installed, error_log has one line and names stay unknown. That is no failure of the server.
 *
 * Borrows everything in its config. Ends with resolver_free(): the program is gone and reaped when that returns.
 */
#ifndef TRACKER_RESOLVER_H
#define TRACKER_RESOLVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tracker/errlog.h"
#include "tracker/loop.h"
#include "tracker/symbols.h"

#define RESOLVER_RESTARTS 5
#define RESOLVER_LIMIT_MS 15000  /* for one request; a user is passed over four times as long */

struct resolver;

/* What a module is, and as whom it is looked at. */
struct resolver_module {
	const uint8_t *build_id;
	size_t build_id_len;  /* 0: any file will do */
	const char *path;     /* as the process saw it */
	uint32_t uid;         /* of who defined it: nothing is read that this user cannot read */
	uint32_t gid;
	int32_t pid;          /* of a process that has it; 0: not known */
};

struct resolver_config {
	struct loop *loop;
	struct symbols *symbols;
	struct errlog *errlog;
	const char *program;  /* ttalloc-symbolize; NULL: beside the running executable, else where it gets installed */
	unsigned limit_ms;    /* 0: RESOLVER_LIMIT_MS */
	/* false: nothing is known of it (any more), its frames have no names. What is returned is used at once. */
	bool (*module)(void *data, uint32_t number, struct resolver_module *out);
	void (*changed)(void *data);  /* names have come in, or will not come; called from the loop, once per request */
	void *data;
};

int resolver_new(struct resolver **rp, const struct resolver_config *config);  /* 0 or -errno */
void resolver_free(struct resolver *r);                                         /* NULL is allowed */

/* To be called after symbols_want() has returned true; cheap. What is to be done is done in turns of the loop. */
void resolver_kick(struct resolver *r);
/* Names may come in soon: whoever waits for one asks again after each `changed`. What waits for a user that is passed
 * over does not count. Many requests may follow each other, so who waits has to set himself a limit. */
bool resolver_busy(const struct resolver *r);

#endif
