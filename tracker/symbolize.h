/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * symbolize.h - what goes between the server (resolver.c) and ttalloc-symbolize (symbolize.c).
 *
 * A socket pair (SOCK_SEQPACKET) on the program's descriptor 0; each request is one packet, and so is its answer. One
 * request at a time. Whoever gets a packet of another length or with a number out of range ends it: the program exits,
 * the server kills the program.
 */
#ifndef TRACKER_SYMBOLIZE_H
#define TRACKER_SYMBOLIZE_H

#include <stdint.h>

#define SYMBOLIZE_PROGRAM "ttalloc-symbolize"
#define SYMBOLIZE_OFFSETS 128
#define SYMBOLIZE_BUILD_ID 64
#define SYMBOLIZE_PATH 4096
#define SYMBOLIZE_NAME 512

struct symbolize_request {
	uint64_t offset[SYMBOLIZE_OFFSETS];    /* return addresses, as ELF addresses of the file */
	uint32_t offsets;                      /* how many of them, 1.. */
	uint32_t limit_ms;                     /* for all of it */
	uint32_t uid;                          /* as whom */
	uint32_t gid;
	int32_t pid;                           /* in whose root directory the path is; 0: in ours */
	uint32_t build_id_len;                 /* 0: any */
	uint8_t build_id[SYMBOLIZE_BUILD_ID];
	char path[SYMBOLIZE_PATH];             /* absolute, ends with NUL */
};

enum symbolize_result {
	SYMBOLIZE_DONE,
	SYMBOLIZE_LATE,  /* had to be ended */
};

struct symbolize_answer {
	uint32_t result;                       /* enum symbolize_result; names may be there with both */
	uint32_t names;                        /* as many as offsets */
	char name[SYMBOLIZE_OFFSETS][SYMBOLIZE_NAME];  /* "": there is none; ends with NUL */
};

#endif
