/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * options.c - the command line of ttallocd; the contract is in options.h.
 *
 * One table says which options there are: it drives getopt_long() and --help.
 */
#include "fs/options.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "client/ttalloc-proto.h"
#include "tracker/registry.h"

#define HELP_COLUMN 36
#define CAPACITY_MAX BUFFER_SIZE_MAX

static int set_foreground(struct options *o, const char *value, struct textbuf *why)
{
	o->foreground = true;
	return 0;
}

static int set_help(struct options *o, const char *value, struct textbuf *why)
{
	o->help = true;
	return 0;
}

static int set_version(struct options *o, const char *value, struct textbuf *why)
{
	o->version = true;
	return 0;
}

static int set_mount(struct options *o, const char *value, struct textbuf *why)
{
	o->mount = value;
	return 0;
}

static int set_socket(struct options *o, const char *value, struct textbuf *why)
{
	o->socket = strcmp(value, "none") == 0 ? NULL : value;
	return 0;
}

static int set_compat_socket(struct options *o, const char *value, struct textbuf *why)
{
	o->compat_socket = strcmp(value, "none") == 0 ? NULL : value;
	return 0;
}

static int set_log(struct options *o, const char *value, struct textbuf *why)
{
	int level = log_level_parse(value);

	if (level < 0) {
		textbuf_printf(why, "--log: not a level: %s (error, warning, info or debug)", value);
		return -EINVAL;
	}
	o->log = (enum log_level)level;
	return 0;
}

static int set_max_buffers(struct options *o, const char *value, struct textbuf *why)
{
	uint64_t n;

	if (!options_parse_bytes(value, REGISTRY_MAX_BUFFERS_LIMIT, &n) || !n) {
		textbuf_printf(why, "--max-buffers: not a number from 1 to %" PRIu32 ": %s",
			       REGISTRY_MAX_BUFFERS_LIMIT, value);
		return -EINVAL;
	}
	o->max_buffers = (uint32_t)n;
	return 0;
}

/* ---- --device ---- */

static const char *const arch_names[] = {
	[TTALLOC_WIRE_ARCH_UNKNOWN] = "unknown",
	[TTALLOC_WIRE_ARCH_GRAYSKULL] = "grayskull",
	[TTALLOC_WIRE_ARCH_WORMHOLE_B0] = "wormhole_b0",
	[TTALLOC_WIRE_ARCH_BLACKHOLE] = "blackhole",
	[TTALLOC_WIRE_ARCH_QUASAR] = "quasar",
};

static bool parse_arch(const char *name, uint32_t *arch)
{
	for (uint32_t i = 0; i < sizeof(arch_names) / sizeof(arch_names[0]); i++)
		if (strcmp(name, arch_names[i]) == 0) {
			*arch = i;
			return true;
		}
	return false;
}

static bool set_property(struct options_device *d, char *property)
{
	char *value = strchr(property, '=');

	if (!value)
		return false;
	*value++ = '\0';
	if (strcmp(property, "dram") == 0)
		return options_parse_bytes(value, CAPACITY_MAX, &d->dram);
	if (strcmp(property, "l1") == 0)
		return options_parse_bytes(value, CAPACITY_MAX, &d->l1);
	return strcmp(property, "arch") == 0 && parse_arch(value, &d->arch);
}

static bool parse_device(struct options *o, char *text)
{
	char *list = strchr(text, ':'), *property;
	uint64_t id;

	if (!list)
		return false;
	*list++ = '\0';
	if (!options_parse_bytes(text, DEVICE_MAX - 1, &id))
		return false;
	o->device[id].given = true;
	while ((property = strsep(&list, ",")))
		if (!set_property(&o->device[id], property))
			return false;
	return true;
}

static int set_device(struct options *o, const char *value, struct textbuf *why)
{
	char *text = strdup(value);
	bool ok;

	if (!text)
		return -ENOMEM;
	ok = parse_device(o, text);
	free(text);
	if (!ok) {
		textbuf_printf(why, "--device: not of the form N:dram=BYTES,l1=BYTES,arch=NAME: %s", value);
		return -EINVAL;
	}
	return 0;
}

/* ---- the table ---- */

static const struct row {
	const char *name;
	const char *value;  /* NULL = takes none */
	const char *help;
	int (*set)(struct options *o, const char *value, struct textbuf *why);
} rows[] = {
	{ "foreground", NULL, "stay in the foreground and log to standard error", set_foreground },
	{ "mount", "DIR", "where to mount (" OPTIONS_MOUNT_DEFAULT ")", set_mount },
	{ "socket", "PATH|none", "where to listen (" TTALLOC_NATIVE_SOCKET ")", set_socket },
	{ "compat-socket", "PATH|none", "and for existing clients (" TTALLOC_COMPAT_SOCKET ")", set_compat_socket },
	{ "log", "LEVEL", "error, warning, info (the default) or debug", set_log },
	{ "max-buffers", "N", "live buffers at most (16777216)", set_max_buffers },
	{ "device", "N:dram=BYTES,l1=BYTES,arch=NAME", "what a device has, if nothing else tells", set_device },
	{ "version", NULL, "show the version", set_version },
	{ "help", NULL, "show this", set_help },
};
#define ROWS (sizeof(rows) / sizeof(rows[0]))

static int parse_all(struct options *o, int argc, char **argv, struct textbuf *why)
{
	struct option table[ROWS + 1] = { 0 };
	int row = 0, c;

	for (size_t i = 0; i < ROWS; i++)
		table[i] = (struct option){ rows[i].name, rows[i].value ? required_argument : no_argument, NULL, 0 };
	opterr = 0;
	optind = 0;
	while ((c = getopt_long(argc, argv, "+:", table, &row)) == 0) {
		int r = rows[row].set(o, optarg, why);
		if (r < 0)
			return r;
	}
	if (c == -1 && optind == argc)
		return 0;
	if (c == ':')
		textbuf_printf(why, "%s needs a value", argv[optind - 1]);
	else
		textbuf_printf(why, "unknown option or argument: %s", c == -1 ? argv[optind] : argv[optind - 1]);
	textbuf_puts(why, " (--help shows what there is)");
	return -EINVAL;
}

int options_parse(struct options *o, int argc, char **argv, struct textbuf *why)
{
	*o = (struct options){
		.mount = OPTIONS_MOUNT_DEFAULT,
		.socket = TTALLOC_NATIVE_SOCKET,
		.compat_socket = TTALLOC_COMPAT_SOCKET,
		.log = LOG_LEVEL_INFO,
		.max_buffers = REGISTRY_MAX_BUFFERS_DEFAULT,
	};
	return parse_all(o, argc, argv, why);
}

void options_usage(struct textbuf *out)
{
	textbuf_puts(out, "usage: ttallocd [option]...\n");
	for (size_t i = 0; i < ROWS; i++) {
		size_t start = out->len;
		textbuf_printf(out, "  --%s %s", rows[i].name, rows[i].value ? rows[i].value : "");
		size_t used = out->len - start;
		if (used >= HELP_COLUMN) {
			textbuf_putc(out, '\n');
			used = 0;
		}
		textbuf_fill(out, ' ', HELP_COLUMN - used);
		textbuf_printf(out, "%s\n", rows[i].help);
	}
	textbuf_puts(out, "BYTES: a number, also with K, M, G, T, P or KiB, MiB, ... (powers of 1024), KB, MB, ... (of "
			  "1000).\n");
}

/* ---- bytes ---- */

static bool parse_unit(const char *suffix, uint64_t *unit)
{
	static const char letters[] = "KMGTP";
	const char *letter;
	uint64_t base = 1024;

	*unit = 1;
	if (!*suffix)
		return true;
	letter = strchr(letters, *suffix);
	if (!letter)
		return false;
	if (strcmp(suffix + 1, "B") == 0)
		base = 1000;
	else if (suffix[1] && strcmp(suffix + 1, "iB") != 0)
		return false;
	for (const char *l = letters; l <= letter; l++)
		*unit *= base;
	return true;
}

bool options_parse_bytes(const char *text, uint64_t max, uint64_t *bytes)
{
	uint64_t number, unit;
	char *end;

	if (*text < '0' || *text > '9')
		return false;
	errno = 0;
	number = strtoull(text, &end, 10);
	if (errno || !parse_unit(end, &unit) || number > max / unit)
		return false;
	*bytes = number * unit;
	return true;
}
