/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * view-record.c - the record of one live buffer, the record of one leak, and the names such files, and those of call
 * sites, have.
 *
 * A buffer's file is named after (device, type, address), and several processes can hold a buffer there: the file
 * then has one block per buffer, newest first, separated by an empty line. What is remembered of the address
 * belongs to all of them and stands once, in the first block; repeated in each it would grow with the square of
 * their number. The stack of the newest one ends that block; those of the others are in the files of their sites.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tracker/view-part.h"
#include "tracker/view.h"

#define BLOCKS_MAX 64  /* owners of one address that its file describes; the others are counted */

static void put_string(struct textbuf *t, const char *key, const char *value)
{
	textbuf_puts(t, key);
	textbuf_puts(t, value);
	textbuf_putc(t, '\n');
}

static void put_number(struct textbuf *t, const char *key, uint64_t value)
{
	textbuf_puts(t, key);
	textbuf_u64(t, value);
	textbuf_putc(t, '\n');
}

static void put_block(const struct view *v, const struct buffer *b, struct textbuf *t)
{
	const struct process *owner = registry_process(v->registry, b->process);

	textbuf_puts(t, "address ");
	textbuf_addr(t, b->address);
	put_number(t, "\ndevice ", b->device);
	put_string(t, "type ", buffer_type_name(b->type));
	put_number(t, "size ", b->size);
	put_number(t, "refs ", b->refs);
	if (b->type == BUFFER_KERNEL)
		put_string(t, "class ", view_class_name(b->kernel_class));
	textbuf_puts(t, "pid ");
	view_put_pid(t, owner ? owner->pid : 0);
	put_number(t, "\nuid ", owner ? owner->uid : 0);
	textbuf_puts(t, "comm ");
	view_put_comm(t, owner);
	textbuf_puts(t, "\nallocated ");
	textbuf_time(t, b->time);
	put_number(t, "\nseq ", b->seq);
	textbuf_puts(t, "tag ");
	view_put_tag(t, v->registry, b->tag);
	textbuf_puts(t, "\nsite ");
	view_put_site(t, v->registry, b->site);
	textbuf_putc(t, '\n');
}

static void put_lines(const struct view *v, const struct view_history *history, struct textbuf *t)
{
	textbuf_puts(t, "history allocs=");
	textbuf_u64(t, history->summary.allocs);
	textbuf_puts(t, " frees=");
	textbuf_u64(t, history->summary.frees);
	textbuf_putc(t, '\n');
	for (size_t i = 0; i < history->n; i++) {
		textbuf_puts(t, "  ");
		textbuf_time(t, history->line[i].time);
		textbuf_putc(t, ' ');
		view_put_history(t, &history->line[i]);
		if (history->line[i].site) {
			textbuf_puts(t, " site=");
			view_put_site(t, v->registry, history->line[i].site);
		}
		textbuf_putc(t, '\n');
	}
}

static void put_past(const struct view *v, const struct buffer *b, struct textbuf *t)
{
	struct view_history history;

	if (view_find_history(v->registry, b->device, b->type, b->address, &history) < 0) {
		t->error = -ENOMEM;
		return;
	}
	put_lines(v, &history, t);
	free(history.line);
}

static void put_stack(const struct view *v, const struct buffer *b, struct textbuf *t)
{
	struct site_info site;

	if (registry_site_get(v->registry, b->site, &site))
		view_put_stack(v, &site, t);
}

int view_buffer(const struct view *v, const struct view_key *k, struct textbuf *t)
{
	struct buffer found[BLOCKS_MAX], named;

	if (!registry_buffer(v->registry, k->slot, &named))
		return -ENOENT;
	size_t n = registry_find(v->registry, named.device, named.type, named.address, found, BLOCKS_MAX);
	for (size_t i = 0; i < n && i < BLOCKS_MAX; i++) {
		if (i)
			textbuf_putc(t, '\n');
		put_block(v, &found[i], t);
		if (!i) {
			put_past(v, &found[i], t);
			put_stack(v, &found[i], t);
		}
	}
	if (n > BLOCKS_MAX)
		textbuf_printf(t, "\nmore %zu\n", n - BLOCKS_MAX);
	return 0;
}

static void put_owner(const struct process *owner, struct textbuf *t)
{
	textbuf_puts(t, "owner ");
	view_put_pid(t, owner->pid);
	textbuf_puts(t, " (");
	view_put_comm(t, owner);
	textbuf_putc(t, ')');
}

static void put_why(const struct view *v, enum suspect_reason reason, const struct process *owner, struct textbuf *t)
{
	if (reason == SUSPECT_DIED) {
		put_owner(owner, t);
		textbuf_puts(t, " ended at ");
		textbuf_time(t, owner->ended_at);
		textbuf_puts(t, " without freeing it");
		return;
	}
	if (reason == SUSPECT_OUTLIVED) {
		textbuf_puts(t, "allocated after the clear at ");
		textbuf_time(t, registry_cleared(v->registry));
	} else {
		textbuf_puts(t, "its call site (or all of its size) held more at each of the last marks");
	}
	textbuf_puts(t, ", and ");
	put_owner(owner, t);
	textbuf_puts(t, " still held it at the scan at ");
	textbuf_time(t, registry_scanned(v->registry));
}

/* What else its call site holds on this device, of this type, in all processes. */
static void put_site_totals(const struct view *v, const struct buffer *b, struct textbuf *t)
{
	struct totals totals;

	if (!registry_site_totals(v->registry, b->slot, &totals))
		return;
	put_number(t, "site_live ", totals.count);
	put_number(t, "site_bytes ", totals.bytes);
	put_number(t, "site_peak ", totals.peak);
	put_number(t, "site_allocs ", totals.allocs);
	put_number(t, "site_frees ", totals.frees);
}

int view_leak(const struct view *v, const struct view_key *k, struct textbuf *t)
{
	enum suspect_reason reason = registry_suspect(v->registry, k->slot);
	const struct process *owner;
	struct buffer b;

	if (reason == SUSPECT_NONE || !registry_buffer(v->registry, k->slot, &b))
		return -ENOENT;
	owner = registry_process(v->registry, b.process);
	put_string(t, "reason ", view_reason_name(reason));
	put_string(t, "state ", owner->ended ? "dead" : "live");
	textbuf_puts(t, "ended ");
	textbuf_time(t, owner->ended_at);
	textbuf_puts(t, "\nwhy ");
	put_why(v, reason, owner, t);
	textbuf_puts(t, "\nage_s ");
	view_put_age(t, v->now, b.time);
	textbuf_putc(t, '\n');
	put_block(v, &b, t);
	put_site_totals(v, &b, t);
	put_past(v, &b, t);
	put_stack(v, &b, t);
	return 0;
}

/* What is remembered of one type; false: nothing. */
static bool put_past_of_type(const struct view *v, const struct view_key *k, unsigned type, struct textbuf *t)
{
	struct view_history history;
	bool any;

	if (view_find_history(v->registry, k->device, type, k->address, &history) < 0) {
		t->error = -ENOMEM;
		return true;
	}
	any = history.summary.allocs || history.summary.frees || history.n;
	if (any) {
		put_string(t, "type ", buffer_type_name(type));
		put_lines(v, &history, t);
	}
	free(history.line);
	return any;
}

int view_past(const struct view *v, const struct view_key *k, struct textbuf *t)
{
	struct past past;
	bool any = false;

	if (!registry_past_find(v->registry, k->device, k->address, &past))
		return -ENOENT;
	textbuf_puts(t, "address ");
	textbuf_addr(t, k->address);
	put_number(t, "\ndevice ", k->device);
	for (unsigned type = 0; type < BUFFER_TYPES; type++)
		any |= put_past_of_type(v, k, type, t);
	return any ? 0 : -ENOENT;
}

/* ---- names ---- */

void view_leak_name(const struct view *v, const struct buffer *b, struct textbuf *t)
{
	const struct process *owner = registry_process(v->registry, b->process);

	textbuf_puts(t, "pid");
	textbuf_i64(t, owner ? owner->pid : 0);
	textbuf_puts(t, "-device");
	textbuf_u64(t, b->device);
	textbuf_putc(t, '-');
	textbuf_puts(t, buffer_type_name(b->type));
	textbuf_putc(t, '-');
	textbuf_addr(t, b->address);
	textbuf_putc(t, '-');
	textbuf_u64(t, b->seq);
}

void view_site_name(const struct view *v, uint32_t site, struct textbuf *t)
{
	view_put_site(t, v->registry, site);
}

static int digit_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

/* Takes all digits at *s, at least one, and moves *s behind them. */
static bool take_digits(const char **s, unsigned base, uint64_t *value)
{
	const char *start = *s;
	uint64_t v = 0;

	for (;; (*s)++) {
		int digit = digit_value(**s);

		if (digit < 0 || (unsigned)digit >= base)
			break;
		if (__builtin_mul_overflow(v, base, &v) || __builtin_add_overflow(v, (unsigned)digit, &v))
			return false;
	}
	*value = v;
	return *s != start;
}

static bool take_word(const char **s, const char *word)
{
	size_t len = strlen(word);

	if (strncmp(*s, word, len))
		return false;
	*s += len;
	return true;
}

static bool take_address(const char **s, uint64_t *address)
{
	if ((*s)[0] != '0' || ((*s)[1] != 'x' && (*s)[1] != 'X'))
		return false;
	*s += 2;
	return take_digits(s, 16, address);
}

static bool take_type(const char **s, unsigned *type)
{
	for (unsigned i = 0; i < BUFFER_TYPES; i++) {
		const char *rest = *s;

		if (take_word(&rest, buffer_type_name(i)) && *rest == '-') {
			*s = rest;
			*type = i;
			return true;
		}
	}
	return false;
}

bool view_parse_address(const char *name, uint64_t *address)
{
	uint64_t value;

	if (!take_address(&name, &value) || *name)
		return false;
	*address = value;
	return true;
}

int view_site_find(const struct view *v, const char *name, uint32_t *site)
{
	uint64_t hash;

	if (name[0] == '0' && (name[1] == 'x' || name[1] == 'X'))
		name += 2;
	if (!take_digits(&name, 16, &hash) || *name)
		return -ENOENT;
	*site = registry_site_find(v->registry, hash);
	return *site ? 0 : -ENOENT;
}

struct leak_name {
	uint64_t pid;
	uint64_t device;
	unsigned type;
	uint64_t address;
	uint64_t seq;
};

static bool parse_leak_name(const char *s, struct leak_name *out)
{
	return take_word(&s, "pid") && take_digits(&s, 10, &out->pid) &&
	       take_word(&s, "-device") && take_digits(&s, 10, &out->device) && out->device < DEVICE_MAX &&
	       take_word(&s, "-") && take_type(&s, &out->type) &&
	       take_word(&s, "-") && take_address(&s, &out->address) &&
	       take_word(&s, "-") && take_digits(&s, 10, &out->seq) && !*s;
}

int view_leak_find(const struct view *v, const char *name, uint32_t *slot)
{
	struct leak_name wanted;

	if (!parse_leak_name(name, &wanted) || wanted.pid > INT32_MAX)
		return -ENOENT;
	/* Through the owner, for the address can have thousands of them. */
	uint32_t owner = registry_process_find(v->registry, (int32_t)wanted.pid);
	while (owner != PROCESS_NONE) {
		const struct process *p = registry_process(v->registry, owner);
		struct buffer b;

		if (registry_own(v->registry, owner, (unsigned)wanted.device, wanted.address, 1U << wanted.type, &b) &&
		    b.seq == wanted.seq && registry_suspect(v->registry, b.slot) != SUSPECT_NONE) {
			*slot = b.slot;
			return 0;
		}
		owner = p->older ? p->older - 1 : PROCESS_NONE;
	}
	return -ENOENT;
}
