/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * view-site.c - call sites: the tables `sites` of all processes and of one, and the file of each site with its stack.
 *
 * Names of functions are filled in as they are found out: until then, and where there is none, a frame is its offset.
 */
#include <errno.h>
#include <string.h>

#include "tracker/mark.h"
#include "tracker/view-part.h"
#include "tracker/view.h"

/* ---- tables ---- */

/* What the innermost frame is called: by its function, or "module+0xoffset". */
static void put_top_frame(const struct view *v, const struct site_info *site, struct textbuf *t)
{
	const struct site_frame *f = site->frames;
	const char *name = view_frame_name(v, f);
	struct module_info module;

	if (name) {
		textbuf_escaped(t, name);
		return;
	}
	if (registry_module_get(v->registry, f->module, &module)) {
		const char *slash = strrchr(module.path, '/');
		textbuf_escaped(t, slash ? slash + 1 : module.path);
		textbuf_putc(t, '+');
	}
	textbuf_printf(t, "0x%llx", (unsigned long long)f->offset);
}

/* " growth " */
static void put_growth(const struct view *v, uint32_t process, const struct account_info *a, struct textbuf *t)
{
	int64_t growth = registry_site_growth(v->registry, process, a->site, a->device, a->type);

	textbuf_putc(t, ' ');
	if (growth < 0)
		textbuf_putc(t, '-');
	else
		textbuf_i64(t, growth);
	textbuf_putc(t, ' ');
}

static void put_account(const struct view *v, uint32_t process, const struct account_info *a, struct textbuf *t)
{
	struct site_info site;

	if (!registry_site_get(v->registry, a->site, &site))
		return;
	view_put_hex16(t, site.hash);
	textbuf_putc(t, ' ');
	textbuf_u64(t, a->totals.count);
	textbuf_putc(t, ' ');
	textbuf_u64(t, a->totals.bytes);
	textbuf_putc(t, ' ');
	textbuf_u64(t, a->totals.peak);
	textbuf_putc(t, ' ');
	textbuf_u64(t, a->totals.allocs);
	textbuf_putc(t, ' ');
	textbuf_u64(t, a->totals.frees);
	put_growth(v, process, a, t);
	textbuf_u64(t, a->device);
	textbuf_putc(t, ' ');
	textbuf_puts(t, buffer_type_name(a->type));
	textbuf_putc(t, ' ');
	put_top_frame(v, &site, t);
	textbuf_putc(t, '\n');
}

/* What was forgotten with its device, and has not come again, is not shown. */
static int put_accounts(const struct view *v, uint32_t process, struct view_cursor *c, size_t want, struct textbuf *t)
{
	size_t start = t->len;
	uint32_t pos = (uint32_t)c->pos;
	unsigned budget = VIEW_STEP / 4;  /* rows; of each, all that grows is looked at */
	struct account_info a;
	bool more = true;

	while (more && budget-- && t->len - start < want && !textbuf_error(t)) {
		more = registry_account_next(v->registry, process, &pos, &a);
		if (more && a.totals.allocs)
			put_account(v, process, &a, t);
	}
	c->pos = pos;
	return textbuf_error(t) ? textbuf_error(t) : more;
}

static void put_header(struct view_cursor *c, struct textbuf *t)
{
	if (!c->begun)
		textbuf_puts(t, "# site live bytes peak allocs frees growth device type top_frame\n");
	c->begun = true;
}

int view_sites(const struct view *v, const struct view_key *k, struct view_cursor *c, size_t want, struct textbuf *t)
{
	put_header(c, t);
	return put_accounts(v, PROCESS_NONE, c, want, t);
}

/* The mark is the serial of the process, as in its allocs. */
int view_process_sites(const struct view *v, const struct view_key *k, struct view_cursor *c, size_t want,
		       struct textbuf *t)
{
	const struct process *p = registry_process(v->registry, k->process);

	if (!c->begun) {
		if (!p)
			return -ENOENT;
		c->mark = p->serial;
	}
	put_header(c, t);
	if (!p || p->serial != c->mark)
		return textbuf_error(t);
	return put_accounts(v, k->process, c, want, t);
}

/* ---- one site ---- */

int view_site(const struct view *v, const struct view_key *k, struct textbuf *t)
{
	struct site_info site;

	if (!registry_site_get(v->registry, k->site, &site))
		return -ENOENT;
	textbuf_puts(t, "site ");
	view_put_hex16(t, site.hash);
	textbuf_puts(t, "\nmethod ");
	textbuf_puts(t, view_method_name(site.method));
	textbuf_puts(t, "\nframes ");
	textbuf_u64(t, site.n);
	textbuf_putc(t, '\n');
	view_put_stack(v, &site, t);
	return 0;
}
