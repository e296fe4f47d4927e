/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * workload-scenario.c - see workload-scenario.h.
 *
 * Every scenario has its function below, whose name is in the stacks of what it allocates, and its row in the table at
 * the end.
 */
#include <string.h>

#include "client/workload-scenario.h"

#define KIB UINT64_C(1024)
#define TOKEN_SIZE UINT64_C(64)
#define SCRATCHES 3
#define SCRATCH_SIZE_MAX (64 * KIB)
#define SCRATCHES_SIZE (SCRATCHES * SCRATCH_SIZE_MAX)
/* Below the addresses of all processes. */
#define COMMON_ADDRESS UINT64_C(0x3f000000)

static void make_tagged(struct model *m, unsigned device, const char *tag, uint64_t address, uint64_t size)
{
	ttalloc_tag_push(tag);
	model_make(m, device, TTALLOC_DRAM, address, size);
	ttalloc_tag_pop();
}

/* In a detailed log a free has the tag of who made it. */
static void drop_tagged(struct model *m, unsigned device, const char *tag, uint64_t address, uint64_t size)
{
	ttalloc_tag_push(tag);
	model_drop(m, device, TTALLOC_DRAM, address, size);
	ttalloc_tag_pop();
}

static void drop_tagged_again(struct model *m, unsigned device, const char *tag, uint64_t address)
{
	ttalloc_tag_push(tag);
	model_drop_again(m, device, address);
	ttalloc_tag_pop();
}

/* Two programs are compiled and stay cached, since nobody clears the program cache. */
static void fill_program_cache(struct model *m, unsigned device, uint64_t step)
{
	static const uint64_t sizes[] = { 12 * KIB, 24 * KIB };

	if (step < 2)
		make_tagged(m, device, "program_cache", model_area(m) + step * sizes[0], sizes[step]);
}

/* Each step is a run that leaves a buffer, until the memory is full. */
static void leave_of_run(struct model *m, unsigned device, uint64_t step)
{
	const uint64_t size = 36 * KIB;

	if ((step + 1) * size <= MODEL_AREA)
		make_tagged(m, device, "run", model_area(m) + step * size, size);
}

/* The place that leaks 64 bytes also makes large buffers that are freed: what it holds moves by far more. */
static void append_token(struct model *m, unsigned device, uint64_t step)
{
	const uint64_t token = model_area(m) + SCRATCHES_SIZE + step * TOKEN_SIZE;
	const unsigned scratches = 1 + (unsigned)(step % SCRATCHES);
	uint64_t size[SCRATCHES + 1], at[SCRATCHES + 1];
	unsigned i;

	if (token + TOKEN_SIZE > model_area(m) + MODEL_AREA)
		return;
	for (i = 0; i <= scratches; i++) {
		at[i] = i < scratches ? model_area(m) + i * SCRATCH_SIZE_MAX : token;
		size[i] = i < scratches ? model_random_size(m, KIB, SCRATCH_SIZE_MAX) : TOKEN_SIZE;
		make_tagged(m, device, "token", at[i], size[i]);
	}
	for (i = 0; i < scratches; i++)
		drop_tagged(m, device, "token", at[i], size[i]);
}

/* One tensor is freed twice, and the second free takes another one, which had got its address. */
static void free_of_another(struct model *m, unsigned device, uint64_t step)
{
	const uint64_t at = model_area(m), size_a = 4 * KIB, size_b = 2 * KIB;

	if (step > 0)
		return;
	make_tagged(m, device, "tensor_a", at, size_a);
	drop_tagged(m, device, "tensor_a", at, size_a);
	make_tagged(m, device, "tensor_b", at, size_b);
	drop_tagged(m, device, "tensor_a", at, size_b);
	drop_tagged_again(m, device, "tensor_b", at);
}

/* A buffer that is made at a given address is not reported, but its free is: that of the view takes the base. */
static void free_base_by_view(struct model *m, unsigned device, uint64_t step)
{
	const uint64_t at = model_area(m), size = 8 * KIB;

	if (step > 0)
		return;
	make_tagged(m, device, "base", at, size);
	drop_tagged(m, device, "view", at, size);
	drop_tagged_again(m, device, "base", at);
}

/* Each step takes a reference to one tensor and keeps it; only its owner gives his back, at the end. */
static void attach(struct model *m, unsigned device, uint64_t step)
{
	const uint64_t at = model_area(m), size = 32 * KIB;

	ttalloc_tag_push("shared");
	if (step == 0)
		model_make(m, device, TTALLOC_DRAM, at, size);
	model_share(m, device, TTALLOC_DRAM, at, size);
	ttalloc_tag_pop();
}

static void detach_owner(struct model *m, unsigned device, uint64_t steps)
{
	if (steps > 0)
		model_unshare(m, device, model_area(m));
}

/* All processes have a buffer at one address; the first one frees its own. */
static void share_address(struct model *m, unsigned device, uint64_t step)
{
	const uint64_t size = 4 * KIB;

	if (step > 0)
		return;
	make_tagged(m, device, "common", COMMON_ADDRESS, size);
	if (model_process(m) == 0)
		model_drop(m, device, TTALLOC_DRAM, COMMON_ADDRESS, size);
}

/* DRAM and L1 are two memories, and one number is an address in both. */
static void use_both_memories(struct model *m, unsigned device, uint64_t step)
{
	const uint64_t at = model_l1_area(m), dram_size = 4 * KIB, l1_size = 2 * KIB;

	if (step > 0)
		return;
	ttalloc_tag_push("both");
	model_make(m, device, TTALLOC_DRAM, at, dram_size);
	model_make(m, device, TTALLOC_L1, at, l1_size);
	ttalloc_tag_pop();
	model_drop(m, device, TTALLOC_L1, at, l1_size);
}

static const struct scenario scenarios[] = {
	{
		.name = "program-cache", .help = "two programs, 36 KB, are left in the program cache of each device",
		.step = fill_program_cache,
		.expect = { "tag program_cache", "function fill_program_cache" },
	}, {
		.name = "kv-cache", .help = "weights are freed, the KV cache is kept",
		.keep = MODEL_KEEP_CACHE,
		.expect = { "tag layers.*/kv_cache/*", "function load_kv_cache" },
	}, {
		.name = "grows-per-run", .help = "36 KB more are held after each step; with marks",
		.mark = true, .step = leave_of_run,
		.expect = { "tag run", "function leave_of_run", "growth 36864" },
	}, {
		.name = "grows-per-step", .help = "64 B more are held after each step, where more comes and goes; with marks",
		.mark = true, .step = append_token,
		.expect = { "tag token", "function append_token", "growth 64" },
	}, {
		.name = "double-free", .help = "a second free hits another tensor, whose own is a double free then",
		.step = free_of_another,
		.expect = { "history 0x000138000000 ALLOC FREE ALLOC FREE DOUBLE_FREE" },
	}, {
		.name = "early-frees", .help = "8 buffers from before the server's time are freed (--unknown-free 8)",
		.unknown_free = 8,
	}, {
		.name = "view", .help = "a view frees its base, whose own free is a double free then",
		.step = free_base_by_view,
		.expect = { "history 0x000138000000 ALLOC FREE DOUBLE_FREE" },
	}, {
		.name = "killed", .help = "SIGKILL in the middle of a step (--die-after 300)",
		.die_after = 300,
	}, {
		.name = "exit", .help = "the program ends and frees nothing",
		.keep = MODEL_KEEP_EVERYTHING,
	}, {
		.name = "refs", .help = "each step takes a reference that is never given back",
		.step = attach, .end = detach_owner,
		.expect = { "tag shared", "function attach" },
	}, {
		.name = "two-processes", .help = "two have a buffer at one address, one of them frees its own",
		.processes = 2, .step = share_address,
		.expect = { "tag common", "function share_address", "address 0x00003f000000" },
	}, {
		.name = "two-types", .help = "DRAM and L1 at one address, where only L1 is freed",
		.step = use_both_memories,
		.expect = { "tag both", "function use_both_memories", "address 0x00000025e000", "ambiguous_frees 1" },
	},
};

#define SCENARIOS (sizeof(scenarios) / sizeof(scenarios[0]))

const struct scenario *scenario_find(const char *name)
{
	unsigned i;

	for (i = 0; i < SCENARIOS; i++)
		if (strcmp(scenarios[i].name, name) == 0)
			return &scenarios[i];
	return NULL;
}

void scenario_list(FILE *f)
{
	unsigned i;

	for (i = 0; i < SCENARIOS; i++)
		fprintf(f, "%-15s %s\n", scenarios[i].name, scenarios[i].help);
}

void scenario_print(FILE *f, const struct scenario *s)
{
	unsigned i;

	fprintf(f, "scenario %s\n", s->name);
	for (i = 0; i < SCENARIO_EXPECTS && s->expect[i]; i++)
		fprintf(f, "expect %s\n", s->expect[i]);
}
