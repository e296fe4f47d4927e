/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * control.h - does what was written to a ctl file or an option: the one way back from the mount into the registry.
 *
 * A write is parsed whole (ctl.h) and then executed line by line. What takes long is done in bounded steps, one per
 * turn of the loop, and the writer waits until the effect is complete. There is one queue and one operation at a
 * time, in the order in which they came; SIGUSR1 and clients that ask for a dump stand in the same queue.
 *
 * The reason for every refusal is in error_log before the writer learns the errno. Knows no libfuse.
 */
#ifndef FS_CONTROL_H
#define FS_CONTROL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "fs/dumps.h"
#include "fs/tree.h"
#include "tracker/ingest.h"
#include "tracker/intake.h"
#include "tracker/log.h"
#include "tracker/loop.h"
#include "tracker/view.h"

struct control;

struct control_config {
	struct loop *loop;
	struct log *log;
	struct ingest *state;
	struct server_info *server;
	const struct view *view;
	struct dumps *dumps;
	const struct tree *tree;
};

int control_new(struct control **cp, const struct control_config *config);
void control_free(struct control *c);

/* Where the processes are known that `scan` looks at; nothing to scan before. */
void control_set_intake(struct control *c, struct intake *in);
/* Who is told which inode numbers have just died, so that nothing remembered of them is shown any more. */
void control_set_forget(struct control *c, void (*forget)(void *data, const uint64_t *numbers, unsigned n), void *data);

/* One write to a ctl file; embedded by whoever waits for it. */
struct control_write {
	/* Called once, possibly before control_write() returns: the bytes that were executed, or -errno. */
	void (*done)(struct control_write *w, ssize_t result);
};
void control_write(struct control *c, struct control_write *w, const struct place *file, pid_t caller,
		   const char *text, size_t len);
/* One write to a list: at offset 0 it is the new list, at its end (a writer's next piece) or to append it adds to it. */
void control_list(struct control *c, struct control_write *w, const struct place *file, pid_t caller,
		  const char *text, size_t len, uint64_t offset, bool append);
/* A write to an option: the bytes written, or -errno. */
ssize_t control_option(struct control *c, const struct place *file, pid_t caller, const char *text, size_t len);

/* A dump that nobody waits for. While one for the same reason has not begun yet, another one adds nothing. */
enum control_reason { CONTROL_CLIENT, CONTROL_SIGNAL };
void control_dump(struct control *c, enum control_reason reason);

/* Ends everything: whoever still waits gets -EINTR. */
void control_stop(struct control *c);

#endif
