/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * errlog.c - the last refusals and their reasons; see errlog.h.
 */
#include "tracker/errlog.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void errlog_add(struct errlog *e, uint64_t now, const char *format, ...)
{
	char text[ERRLOG_LINE];
	va_list ap;

	va_start(ap, format);
	int len = vsnprintf(text, sizeof(text), format, ap);
	va_end(ap);
	if (len >= (int)sizeof(text))
		memcpy(text + sizeof(text) - 4, "...", 4);
	/* Names of processes come from anybody; here they are for eyes only, so whatever is not ASCII goes. */
	for (char *c = text; *c; c++)
		if (*c < ' ' || *c > '~')
			*c = '?';

	e->version++;
	struct errlog_entry *last = &e->line[(e->total + ERRLOG_LINES - 1) % ERRLOG_LINES];
	if (e->total && strcmp(last->text, text) == 0) {
		last->repeats++;
		last->time = now;
		return;
	}
	struct errlog_entry *line = &e->line[e->total++ % ERRLOG_LINES];
	line->time = now;
	line->repeats = 1;
	memcpy(line->text, text, sizeof(text));
}

void errlog_text(const struct errlog *e, struct textbuf *out)
{
	uint64_t first = e->total > ERRLOG_LINES ? e->total - ERRLOG_LINES : 0;

	for (uint64_t i = first; i < e->total; i++) {
		const struct errlog_entry *line = &e->line[i % ERRLOG_LINES];
		textbuf_time(out, line->time);
		textbuf_putc(out, ' ');
		textbuf_puts(out, line->text);
		if (line->repeats > 1)
			textbuf_printf(out, " (x%llu)", (unsigned long long)line->repeats);
		textbuf_putc(out, '\n');
	}
}
