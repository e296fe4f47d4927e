/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * trace.c - the ring of what happened, and its lines; see trace.h.
 */
#include "tracker/trace.h"

#include <errno.h>
#include <stdlib.h>

#include "tracker/view-part.h"

#define AHEAD 8  /* entries */

int trace_init(struct trace *t, uint32_t size)
{
	*t = (struct trace){ .size = size };
	t->ring = calloc(size, sizeof(*t->ring));
	return t->ring ? 0 : -ENOMEM;
}

void trace_deinit(struct trace *t)
{
	free(t->ring);
	*t = (struct trace){ 0 };
}

int trace_resize(struct trace *t, uint64_t size)
{
	if (size < TRACE_EVENTS_MIN || size > TRACE_EVENTS_MAX)
		return -ERANGE;
	struct trace_entry *ring = calloc(size, sizeof(*ring));
	if (!ring)
		return -ENOMEM;
	if (t->next - t->first > size)
		t->first = t->next - size;
	for (uint64_t i = t->first; i < t->next; i++)
		ring[i % size] = t->ring[i % t->size];
	free(t->ring);
	t->ring = ring;
	t->size = (uint32_t)size;
	t->at = (uint32_t)(t->next % size);
	return 0;
}

void trace_clear(struct trace *t)
{
	t->first = t->next;
}

struct trace_entry *trace_next(struct trace *t)
{
	struct trace_entry *e = &t->ring[t->at];

	t->at = t->at + 1 == t->size ? 0 : t->at + 1;
	/* The ring is larger than the caches next to the processor; it is never read here, so nothing else asks for it. */
	__builtin_prefetch(&t->ring[t->at + AHEAD < t->size ? t->at + AHEAD : 0], 1);
	t->next++;
	if (t->next - t->first > t->size)
		t->first = t->next - t->size;
	return e;
}

void trace_add(struct trace *t, const struct trace_entry *e)
{
	*trace_next(t) = *e;
}

static void put_number_or_dash(struct textbuf *out, uint64_t v, bool applies)
{
	if (applies)
		textbuf_u64(out, v);
	else
		textbuf_putc(out, '-');
}

static void put_line(const struct trace_entry *e, const struct registry *reg, struct textbuf *out)
{
	textbuf_time(out, e->time);
	textbuf_putc(out, ' ');
	textbuf_u64(out, e->seq);
	textbuf_putc(out, ' ');
	textbuf_puts(out, trace_kind_name(e->kind));
	textbuf_putc(out, ' ');
	put_number_or_dash(out, e->device, e->device != TRACE_NO_DEVICE);
	textbuf_putc(out, ' ');
	textbuf_puts(out, e->type == TRACE_NO_TYPE ? "-" : buffer_type_name(e->type));
	textbuf_putc(out, ' ');
	if (e->has_address)
		textbuf_addr(out, e->address);
	else
		textbuf_putc(out, '-');
	textbuf_putc(out, ' ');
	put_number_or_dash(out, e->size, e->size != 0);
	textbuf_putc(out, ' ');
	put_number_or_dash(out, (uint64_t)e->pid, e->pid > 0);
	textbuf_putc(out, ' ');
	put_number_or_dash(out, e->refs, e->refs != 0);
	textbuf_putc(out, ' ');
	view_put_site(out, reg, e->site);
	textbuf_putc(out, '\n');
}

void trace_read(const struct trace *t, const struct registry *reg, uint64_t *pos, uint64_t now, size_t want,
		struct textbuf *out)
{
	size_t begin = out->len;

	if (*pos < t->first) {
		put_line(&(struct trace_entry){ .time = now,
						.kind = TRACE_LOST,
						.device = TRACE_NO_DEVICE,
						.type = TRACE_NO_TYPE,
						.size = t->first - *pos },
			 reg, out);
		*pos = t->first;
	}
	while (*pos < t->next && out->len - begin < want && !textbuf_error(out))
		put_line(&t->ring[(*pos)++ % t->size], reg, out);
}
