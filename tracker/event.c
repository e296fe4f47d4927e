/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * event.c - the names of buffer types and of what happened, as the mount spells them.
 */
#include "tracker/event.h"

#include <stddef.h>
#include <string.h>

static const char *const type_names[BUFFER_TYPES] = {
	[BUFFER_DRAM] = "dram",
	[BUFFER_L1] = "l1",
	[BUFFER_SYSTEM_MEMORY] = "system_memory",
	[BUFFER_L1_SMALL] = "l1_small",
	[BUFFER_TRACE] = "trace",
	[BUFFER_CB] = "cb",
	[BUFFER_KERNEL] = "kernel",
};

static const char *const kind_names[TRACE_KINDS] = {
	[TRACE_ALLOC] = "alloc",
	[TRACE_REF] = "ref",
	[TRACE_RESIZE] = "resize",
	[TRACE_FREE] = "free",
	[TRACE_UNREF] = "unref",
	[TRACE_DOUBLE_FREE] = "double_free",
	[TRACE_UNKNOWN_FREE] = "unknown_free",
	[TRACE_FOREIGN_FREE] = "foreign_free",
	[TRACE_CONNECT] = "connect",
	[TRACE_EXIT] = "exit",
	[TRACE_CLEAR] = "clear",
	[TRACE_SCAN] = "scan",
	[TRACE_RESET] = "reset",
	[TRACE_CLEAN] = "clean",
	[TRACE_DUMP] = "dump",
	[TRACE_MARK] = "mark",
	[TRACE_LOST] = "lost",
};

const char *buffer_type_name(unsigned type)
{
	return type < BUFFER_TYPES ? type_names[type] : NULL;
}

int buffer_type_parse(const char *name)
{
	for (int type = 0; type < BUFFER_TYPES; type++)
		if (!strcmp(name, type_names[type]))
			return type;
	return -1;
}

const char *trace_kind_name(unsigned kind)
{
	return kind < TRACE_KINDS ? kind_names[kind] : NULL;
}
