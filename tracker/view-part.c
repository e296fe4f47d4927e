/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * view-part.c - pieces that several views are made of; the contract is in view-part.h.
 */
#include "tracker/view-part.h"

#include <errno.h>
#include <stdlib.h>
#include <time.h>

#include "client/ttalloc-proto.h"
#include "client/ttalloc-ring.h"
#include "tracker/symbols.h"

#define NS_PER_TENTH (VIEW_NS_PER_S / 10)

static const char *const arch_names[] = {
	[TTALLOC_WIRE_ARCH_UNKNOWN] = "unknown",
	[TTALLOC_WIRE_ARCH_GRAYSKULL] = "grayskull",
	[TTALLOC_WIRE_ARCH_WORMHOLE_B0] = "wormhole_b0",
	[TTALLOC_WIRE_ARCH_BLACKHOLE] = "blackhole",
	[TTALLOC_WIRE_ARCH_QUASAR] = "quasar",
};

static const char *const class_names[] = {
	[TTALLOC_WIRE_KERNEL_APPLICATION] = "application",
	[TTALLOC_WIRE_KERNEL_FABRIC] = "fabric",
	[TTALLOC_WIRE_KERNEL_DISPATCH] = "dispatch",
};

static const char *const method_names[] = {
	[TTALLOC_STACK_FRAME_POINTER] = "frame-pointer",
	[TTALLOC_STACK_RETURN_ADDRESS] = "return-address",
};

static const char *const reason_names[SUSPECT_REASONS] = {
	[SUSPECT_NONE] = "-",
	[SUSPECT_DIED] = "died",
	[SUSPECT_GROWING] = "growing",
	[SUSPECT_OUTLIVED] = "outlived",
};

#define LENGTH(array) (sizeof(array) / sizeof((array)[0]))

const char *view_arch_name(uint32_t arch)
{
	return arch < LENGTH(arch_names) ? arch_names[arch] : "unknown";
}

const char *view_class_name(unsigned kernel_class)
{
	return kernel_class < LENGTH(class_names) ? class_names[kernel_class] : "unknown";
}

const char *view_method_name(unsigned method)
{
	return method < LENGTH(method_names) && method_names[method] ? method_names[method] : "unknown";
}

const char *view_reason_name(enum suspect_reason reason)
{
	return reason_names[reason];
}

void view_put_pid(struct textbuf *t, int32_t pid)
{
	if (pid)
		textbuf_i64(t, pid);
	else
		textbuf_putc(t, '-');
}

void view_put_comm(struct textbuf *t, const struct process *owner)
{
	textbuf_escaped(t, owner ? owner->comm : NULL);
}

void view_put_transport(struct textbuf *t, const struct process *p)
{
	if (p->dialect == EVENT_RING) {
		textbuf_puts(t, "ring");
		return;
	}
	textbuf_puts(t, "socket");
	if (p->dialect)
		textbuf_u64(t, p->dialect);
	else
		textbuf_putc(t, '?');
}

void view_put_known(struct textbuf *t, uint64_t v)
{
	if (v)
		textbuf_u64(t, v);
	else
		textbuf_putc(t, '-');
}

void view_put_age(struct textbuf *t, uint64_t now, uint64_t then)
{
	uint64_t tenths;

	if (!then) {
		textbuf_putc(t, '-');
		return;
	}
	tenths = now > then ? (now - then) / NS_PER_TENTH : 0;
	textbuf_u64(t, tenths / 10);
	textbuf_putc(t, '.');
	textbuf_putc(t, (char)('0' + tenths % 10));
}

void view_put_utc(struct textbuf *t, uint64_t ns)
{
	time_t seconds = (time_t)(ns / VIEW_NS_PER_S);
	char text[32];
	struct tm tm;

	/* 2^64 ns end in the year 2554, so neither call can fail. */
	gmtime_r(&seconds, &tm);
	textbuf_put(t, text, strftime(text, sizeof(text), "%Y-%m-%d %H:%M:%S", &tm));
}

void view_put_history(struct textbuf *t, const struct history_line *line)
{
	for (const char *kind = trace_kind_name(line->kind); kind && *kind; kind++)
		textbuf_putc(t, *kind >= 'a' && *kind <= 'z' ? (char)(*kind - 'a' + 'A') : *kind);
	textbuf_puts(t, " size=");
	view_put_known(t, line->size);
	textbuf_puts(t, " pid=");
	view_put_pid(t, line->pid);
	textbuf_puts(t, " ref=");
	textbuf_u64(t, line->refs);
}

/* ---- call sites ---- */

void view_put_hex16(struct textbuf *t, uint64_t v)
{
	char text[16];

	for (int i = 16; i-- > 0; v >>= 4)
		text[i] = "0123456789abcdef"[v & 15];
	textbuf_put(t, text, sizeof(text));
}

void view_put_site(struct textbuf *t, const struct registry *reg, uint32_t site)
{
	struct site_info info;

	if (registry_site_get(reg, site, &info))
		view_put_hex16(t, info.hash);
	else
		textbuf_putc(t, '-');
}

void view_put_tag(struct textbuf *t, const struct registry *reg, uint32_t tag)
{
	textbuf_escaped(t, registry_tag_text(reg, tag));
}

const char *view_frame_name(const struct view *v, const struct site_frame *frame)
{
	return v->symbols ? symbols_name(v->symbols, frame->module, frame->offset) : NULL;
}

void view_put_stack(const struct view *v, const struct site_info *site, struct textbuf *t)
{
	textbuf_puts(t, "stack ");
	textbuf_puts(t, view_method_name(site->method));
	textbuf_putc(t, ' ');
	textbuf_u64(t, site->n);
	textbuf_puts(t, site->truncated ? " truncated\n" : "\n");
	for (unsigned i = 0; i < site->n; i++) {
		struct module_info module;

		registry_module_get(v->registry, site->frames[i].module, &module);
		textbuf_puts(t, "  0x");
		view_put_hex16(t, site->frames[i].offset);
		textbuf_putc(t, ' ');
		textbuf_escaped(t, view_frame_name(v, &site->frames[i]));
		textbuf_putc(t, ' ');
		textbuf_escaped(t, module.path);
		textbuf_putc(t, '\n');
	}
}

int view_find_history(const struct registry *reg, unsigned device, unsigned type, uint64_t address,
		      struct view_history *out)
{
	*out = (struct view_history){ 0 };
	/* The answer does not say how much was left out, so a full array is asked for again with all the room there may be:
	 * each question goes through all that is remembered of the address. */
	for (size_t max = 16;; max = VIEW_HISTORY_MAX) {
		struct history_line *line = realloc(out->line, max * sizeof(*line));

		if (!line) {
			free(out->line);
			*out = (struct view_history){ 0 };
			return -ENOMEM;
		}
		ssize_t n = registry_history(reg, device, type, address, &out->summary, line, max);
		if (n < 0) {
			free(line);
			*out = (struct view_history){ 0 };
			return (int)n;
		}
		out->line = line;
		out->n = (size_t)n;
		if (out->n < max || max >= VIEW_HISTORY_MAX)
			return 0;
	}
}
