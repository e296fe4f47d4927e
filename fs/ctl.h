/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * ctl.h - the text written to a ctl file or to an option, made into values.
 *
 * Pure: parsing only. What a command does, and whether its process or device exists, is the caller's business.
 *
 * One write is one or more lines, and all of them are parsed before any is executed: an error anywhere means that
 * there is nothing to execute. Words are separated by blanks and tabs and are matched exactly, upper and lower case
 * being different. A word that begins with '#' begins a comment, up to the end of the line; lines without words are
 * skipped. The last newline may be missing. A carriage return before the newline (or at the end) is taken as part
 * of the line end, for files that were edited elsewhere. A NUL byte is an error wherever it stands.
 */
#ifndef FS_CTL_H
#define FS_CTL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tracker/mark.h"
#include "tracker/textbuf.h"

#define CTL_TEXT_MAX 4096  /* bytes in one write */
#define CTL_NAME_MAX MARK_NAME_MAX
#define CTL_PID_MAX INT32_MAX  /* what a pid_t can express: beyond the kernel's own limit it is ESRCH, as for kill(2) */

/* More commands do not fit into CTL_TEXT_MAX: the shortest one takes 4 characters and a newline. */
#define CTL_COMMANDS_MAX ((CTL_TEXT_MAX + 1) / 5)

#define CTL_REASON_MAX 160

/* Which file was written to. */
enum ctl_scope {
	CTL_SCOPE_ROOT,  /* ctl */
	CTL_SCOPE_PID,   /* pids/<pid>/ctl: the process is that of the file */
};

enum ctl_kind {
	CTL_DUMP,           /* name, "" = none given */
	CTL_MARK,           /* name */
	CTL_UNMARK,         /* name */
	CTL_CLEAR,
	CTL_SCAN,
	CTL_CLEAN_DEAD,
	CTL_CLEAN,          /* number = pid, 0 in CTL_SCOPE_PID; force */
	CTL_RESET,
	CTL_RESET_DEVICE,   /* number = device */
	CTL_RESET_PEAKS,
	CTL_RESET_HISTORY,
	CTL_LOG,            /* number = 0 error, 1 warning, 2 info, 3 debug */
	CTL_SUPPRESS,       /* no command of a ctl file: what a write to options/suppressions has begun */
};

struct ctl_command {
	enum ctl_kind kind;
	uint32_t number;
	bool force;
	char name[CTL_NAME_MAX + 1];
	unsigned line;  /* counted from 1 */
	size_t start;   /* where its line starts in the text: what a write that fails here returns, if it is not 0 */
	size_t end;     /* just behind its line, the newline included */
};

/* Parses a whole write. CTL_COMMANDS_MAX commands are always room enough. Returns 0 and the number of commands in
 * *n; or, with *n = 0 and the reason appended to `why` as one line in words, of at most CTL_REASON_MAX bytes:
 *   -EINVAL  unknown command, wrong number of words, not a number, not a name
 *   -ERANGE  a number out of range
 *   -E2BIG   more than CTL_TEXT_MAX bytes (or more than `max` commands) */
int ctl_parse(enum ctl_scope scope, const char *text, size_t len, struct ctl_command *out, size_t max, size_t *n,
	      struct textbuf *why);

/* What reading a ctl file shows: one command per line with what it does. */
void ctl_help(struct textbuf *out, enum ctl_scope scope);

/* The value written to an option: one decimal number min..max, blanks and newlines around it allowed. Returns 0, or
 * -EINVAL, -ERANGE or -E2BIG as above and the reason in `why`; *value is set only on success. */
int option_parse(const char *text, size_t len, uint64_t min, uint64_t max, uint64_t *value, struct textbuf *why);

#endif
