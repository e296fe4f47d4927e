/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * mount.h - a ttallocd's mount, as the commands read it.
 */
#ifndef CLIENT_MOUNT_H
#define CLIENT_MOUNT_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "client/leak-report.h"
#include "client/leak.h"

#define MOUNT_DEFAULT "/mnt/ttalloc"

struct mount {
	char *path;
	int32_t pid;           /* of the server */
	char *instance;        /* another one in each server */
	char *socket;          /* where it listens; NULL: nowhere */
	char *compat_socket;
};

/* The mount at a path. 0; -ENOENT, -ENOTCONN and the like: no ttallocd lives there; -EPROTO: something else does. */
int mount_open(struct mount *m, const char *path);
void mount_close(struct mount *m);
/* The one that is meant: `wanted`, else $TTALLOC_MOUNT, else the default. */
const char *mount_path(const char *wanted);

/* A whole file, as a string; its length without the NUL. 0 or -errno. */
int read_whole(const char *path, char **textp, size_t *lengthp);
int mount_text(const struct mount *m, const char *name, char **textp);
/* Writes a line to ctl. 0 or -errno. */
int mount_command(const struct mount *m, const char *line);

/* --- stacks --- */

struct site_stack {
	const char *site;      /* of a leak */
	struct stack stack;
};

struct stacks {
	struct site_stack *list;
	size_t count;
};

/* The stacks of all call sites of a list that is in order of groups. Waits a while for names that the server is looking
 * up. What cannot be read is left out. 0 or -ENOMEM. */
int mount_stacks(const struct mount *m, const struct leak_list *list, struct stacks *stacks);
void stacks_free(struct stacks *stacks);
const struct stack *stacks_find(const struct stacks *stacks, const char *site);

/* --- what a command left --- */

struct run_scope {
	pid_t runner;          /* whose descendants are meant */
	uint64_t since_us;     /* when it began */
	bool is_private;       /* nobody else should have reported to this server */
};

/* What the descendants of a process still hold, with how many they are; `strangers` and `others` of the report are the
 * sums of what is not theirs, or may be. 0 or -errno. */
int mount_left_by(const struct mount *m, const struct run_scope *scope, struct leak_list *list, struct leak_report *r);

#endif
