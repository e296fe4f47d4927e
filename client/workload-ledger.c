/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * workload-ledger.c - see workload-ledger.h.
 */
#include <inttypes.h>
#include <sys/mman.h>

#include "client/workload-ledger.h"

static const char *const type_names[LEDGER_TYPES] = {
	"dram", "l1", "system_memory", "l1_small", "trace", "cb", "kernel",
};

static size_t ledger_size(unsigned devices)
{
	return sizeof(struct ledger) + devices * sizeof(struct ledger_device);
}

struct ledger *ledger_new(unsigned processes, unsigned devices)
{
	void *p;

	p = mmap(NULL, processes * ledger_size(devices), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	return p == MAP_FAILED ? NULL : p;
}

struct ledger *ledger_at(struct ledger *all, unsigned i, unsigned devices)
{
	return (struct ledger *)(void *)((char *)all + i * ledger_size(devices));
}

static void row_alloc(struct ledger_row *r, uint64_t size)
{
	r->count++;
	r->allocs++;
	r->bytes += size;
	if (r->bytes > r->peak)
		r->peak = r->bytes;
}

static void row_free(struct ledger_row *r, uint64_t size)
{
	r->count--;
	r->frees++;
	r->bytes -= size;
}

void ledger_alloc(struct ledger *l, unsigned device, unsigned type, uint64_t size)
{
	row_alloc(&l->devices[device].types[type], size);
	row_alloc(&l->devices[device].total, size);
}

void ledger_free(struct ledger *l, unsigned device, unsigned type, uint64_t size)
{
	row_free(&l->devices[device].types[type], size);
	row_free(&l->devices[device].total, size);
}

static void row_add(struct ledger_row *sum, const struct ledger_row *r)
{
	sum->count += r->count;
	sum->bytes += r->bytes;
	sum->peak += r->peak;
	sum->allocs += r->allocs;
	sum->frees += r->frees;
}

static void row_print(FILE *f, unsigned device, const char *type, const struct ledger_row *r, bool peak)
{
	fprintf(f, "device %u %s count %" PRIu64 " bytes %" PRIu64 " peak ", device, type, r->count, r->bytes);
	if (peak)
		fprintf(f, "%" PRIu64, r->peak);
	else
		fputc('-', f);
	fprintf(f, " allocs %" PRIu64 " frees %" PRIu64 "\n", r->allocs, r->frees);
}

static struct ledger_device device_sum(struct ledger *all, unsigned processes, unsigned devices, unsigned device)
{
	struct ledger_device sum = { 0 };
	unsigned i, type;

	for (i = 0; i < processes; i++) {
		const struct ledger_device *d = &ledger_at(all, i, devices)->devices[device];

		for (type = 0; type < LEDGER_TYPES; type++)
			row_add(&sum.types[type], &d->types[type]);
		row_add(&sum.total, &d->total);
	}
	return sum;
}

/* Prints one device and adds its total to *overall. */
static void device_print(FILE *f, struct ledger *all, unsigned processes, unsigned devices, unsigned device,
			 struct ledger_row *overall)
{
	const struct ledger_device sum = device_sum(all, processes, devices, device);
	unsigned type;

	for (type = 0; type < LEDGER_TYPES; type++)
		row_print(f, device, type_names[type], &sum.types[type], processes == 1);
	row_print(f, device, "total", &sum.total, processes == 1);
	row_add(overall, &sum.total);
}

void ledger_print_left(FILE *f, struct ledger *all, unsigned processes, unsigned devices)
{
	unsigned device, type;
	uint64_t left = 0;

	for (device = 0; device < devices; device++) {
		const struct ledger_device sum = device_sum(all, processes, devices, device);

		left += sum.total.count;
		for (type = 0; type < LEDGER_TYPES; type++)
			if (sum.types[type].count > 0)
				fprintf(f, "expect died device %u %s count %" PRIu64 " bytes %" PRIu64 "\n", device,
					type_names[type], sum.types[type].count, sum.types[type].bytes);
	}
	if (left == 0)
		fprintf(f, "expect no leak\n");
}

void ledger_print(FILE *f, struct ledger *all, unsigned processes, unsigned devices)
{
	struct ledger_row overall = { 0 };
	struct ledger sum = { 0 };
	unsigned i;

	for (i = 0; i < devices; i++)
		device_print(f, all, processes, devices, i, &overall);
	for (i = 0; i < processes; i++) {
		const struct ledger *l = ledger_at(all, i, devices);

		sum.refs += l->refs;
		sum.double_frees += l->double_frees;
		sum.unknown_frees += l->unknown_frees;
		sum.events += l->events;
		sum.sent += l->sent;
		sum.queued += l->queued;
		sum.dropped += l->dropped;
		sum.uncertain += l->uncertain;
	}
	fprintf(f, "total count %" PRIu64 " bytes %" PRIu64 "\n", overall.count, overall.bytes);
	fprintf(f, "counters allocs %" PRIu64 " frees %" PRIu64 " refs %" PRIu64, overall.allocs, overall.frees,
		sum.refs);
	fprintf(f, " double_frees %" PRIu64 " unknown_frees %" PRIu64 "\n", sum.double_frees, sum.unknown_frees);
	fprintf(f, "events reported %" PRIu64 " sent %" PRIu64 " queued %" PRIu64, sum.events, sum.sent, sum.queued);
	fprintf(f, " dropped %" PRIu64 " uncertain %" PRIu64 "\n", sum.dropped, sum.uncertain);
}
