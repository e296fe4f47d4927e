/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * options.h - the command line of ttallocd, made into values. Pure.
 */
#ifndef FS_OPTIONS_H
#define FS_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#include "tracker/event.h"
#include "tracker/log.h"
#include "tracker/textbuf.h"

#define OPTIONS_MOUNT_DEFAULT "/mnt/ttalloc"

/* --device N:dram=BYTES,l1=BYTES,arch=NAME; 0 = not told. */
struct options_device {
	bool given;
	uint64_t dram;
	uint64_t l1;
	uint32_t arch;  /* enum ttalloc_wire_arch */
};

struct options {
	bool help;
	bool version;
	bool foreground;
	const char *mount;
	const char *socket;         /* NULL = none */
	const char *compat_socket;  /* NULL = none */
	enum log_level log;
	uint32_t max_buffers;
	struct options_device device[DEVICE_MAX];
};

/* 0, or -EINVAL with the reason in `why`. Strings point into argv. */
int options_parse(struct options *o, int argc, char **argv, struct textbuf *why);
/* What --help shows. */
void options_usage(struct textbuf *out);
/* "12884901888", "12G", "12GiB" (the same), "12GB" (10^9 bytes each); at most `max`. */
bool options_parse_bytes(const char *text, uint64_t max, uint64_t *bytes);

#endif
