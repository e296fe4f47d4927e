/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * registry-account.c - the totals of call sites: of each process, and over all of them.
 *
 * A process's accounts are in its list, in the order of their making, and go all together: with the process, or, when
 * more than a quarter of the table is in use, as soon as it has ended and holds nothing. The sums stay.
 */
#include <string.h>

#include "tracker/registry-internal.h"

/* Index tags. */
#define INDEX_ACCOUNT 0
#define INDEX_SUM 1

static uint32_t account_hash(const struct registry *reg, uint32_t serial, unsigned device, unsigned type, uint32_t site)
{
	return history_hash(reg->config.seed, device * BUFFER_TYPES + type, (uint64_t)serial << 32 | site);
}

static bool account_is(const struct account *a, uint32_t process, unsigned device, unsigned type, uint32_t site)
{
	return a->site == site && a->process == process && a->device == device && a->type == type;
}

static uint32_t account_find(const struct registry *reg, const struct account *table, uint32_t tag, uint32_t hash,
			     const struct account *wanted)
{
	struct index_cursor c = index_find(&reg->accounts, hash);
	uint64_t e;

	while ((e = index_next(&c)) != 0)
		if (index_entry_tag(e) == tag &&
		    account_is(&table[index_entry_value(e)], wanted->process, wanted->device, wanted->type, wanted->site))
			return index_entry_value(e);
	return 0;
}

/* The sum over all processes, made when it is new; 0 = no room. */
static uint32_t sum_get(struct registry *reg, uint32_t uid, const struct account *account)
{
	struct account wanted = {
		.site = account->site, .process = PROCESS_NONE, .device = account->device, .type = account->type };
	uint32_t hash = account_hash(reg, 0, wanted.device, wanted.type, wanted.site);
	uint32_t number = account_find(reg, reg->sum, INDEX_SUM, hash, &wanted);

	if (number || !registry_share_take(reg, uid, SHARE_SUMS))
		return number;
	number = reg->used[SHARE_SUMS];
	if (index_insert(&reg->accounts, hash, INDEX_SUM, number) < 0) {
		registry_share_return(reg, uid, SHARE_SUMS);
		return 0;
	}
	reg->sum[number] = wanted;
	return number;
}

/* Makes an account; 0 = no room. */
static uint32_t account_new(struct registry *reg, uint32_t hash, struct account *account)
{
	struct process_slot *s = &reg->process[account->process];

	account->sum = sum_get(reg, s->p.uid, account);
	if (!account->sum || !registry_share_take(reg, s->p.uid, SHARE_ACCOUNTS))
		return 0;
	uint32_t number = reg->free_accounts ? reg->free_accounts : reg->used_accounts;
	if (index_insert(&reg->accounts, hash, INDEX_ACCOUNT, number) < 0) {
		registry_share_return(reg, s->p.uid, SHARE_ACCOUNTS);
		return 0;
	}
	if (reg->free_accounts)
		reg->free_accounts = reg->account[number].next;
	else
		reg->used_accounts++;
	reg->account[number] = *account;
	if (s->last_account)
		reg->account[s->last_account].next = number;
	else
		s->first_account = number;
	s->last_account = number;
	return number;
}

uint32_t registry_account(struct registry *reg, uint32_t process, unsigned device, unsigned type, uint32_t site)
{
	struct account wanted = {
		.site = site, .process = process, .device = (uint16_t)device, .type = (uint8_t)type };
	uint32_t hash = account_hash(reg, reg->process[process].p.serial, device, type, site);
	uint32_t number = account_find(reg, reg->account, INDEX_ACCOUNT, hash, &wanted);

	if (!number)
		number = account_new(reg, hash, &wanted);
	reg->counters.definitions_lost += !number;
	return number;
}

void registry_accounts_release(struct registry *reg, uint32_t process)
{
	struct process_slot *s = &reg->process[process];

	for (uint32_t number = s->first_account, next; number; number = next) {
		struct account *a = &reg->account[number];
		next = a->next;
		index_remove(&reg->accounts, account_hash(reg, s->p.serial, a->device, a->type, a->site), INDEX_ACCOUNT,
			     number);
		registry_share_return(reg, s->p.uid, SHARE_ACCOUNTS);
		*a = (struct account){ .next = reg->free_accounts };
		reg->free_accounts = number;
	}
	s->first_account = s->last_account = 0;
}

void registry_accounts_clear(struct registry *reg)
{
	memset(reg->account, 0, (size_t)reg->used_accounts * sizeof(*reg->account));
	memset(reg->sum, 0, ((size_t)reg->used[SHARE_SUMS] + 1) * sizeof(*reg->sum));
	(void)index_clear(&reg->accounts);
	registry_share_forget(reg, SHARE_ACCOUNTS);
	registry_share_forget(reg, SHARE_SUMS);
	reg->used_accounts = 1;
	reg->free_accounts = 0;
}

void registry_accounts_each(struct registry *reg, int device, void (*act)(struct totals *t))
{
	for (uint32_t i = 1; i < reg->used_accounts; i++)
		if (reg->account[i].site && (device < 0 || reg->account[i].device == device))
			act(&reg->account[i].totals);
	for (uint32_t i = 1; i <= reg->used[SHARE_SUMS]; i++)
		if (device < 0 || reg->sum[i].device == device)
			act(&reg->sum[i].totals);
}

bool registry_account_next(const struct registry *reg, uint32_t process, uint32_t *pos, struct account_info *out)
{
	const struct account *a;
	uint32_t number;

	if (process == PROCESS_NONE) {
		number = *pos < reg->used[SHARE_SUMS] ? *pos + 1 : 0;
		a = &reg->sum[number];
	} else {
		const struct account *last = &reg->account[*pos];
		if (*pos && (!last->site || last->process != process))
			return false;  /* gone meanwhile, with all others */
		number = *pos ? last->next : reg->process[process].first_account;
		a = &reg->account[number];
	}
	if (!number)
		return false;
	*pos = number;
	*out = (struct account_info){ .site = a->site, .device = a->device, .type = a->type, .totals = a->totals };
	return true;
}

bool registry_site_totals(const struct registry *reg, uint32_t slot, struct totals *out)
{
	struct buffer b;

	if (!registry_buffer(reg, slot, &b) || !b.site)
		return false;
	*out = reg->sum[reg->account[reg->record[slot].account].sum].totals;
	return true;
}
