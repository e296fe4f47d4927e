/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * leak-seeds.c - random runs that leave nothing, or exactly the leaks that were sown, and the book of them.
 *
 *	leak-seeds KIND SEED RUNS LEAKS       ($TTALLOC_SOCKET: the server's)
 *
 * A run is a few threads that allocate, reference, resize and free buffers of all types on several devices, with tags,
 * through two dozen call sites. Its end leaves nothing, but that LEAKS leaks of KIND are sown among the events of the
 * last run:
 *
 *	exit      forgotten: held when the process ends
 *	outlived  forgotten: held at the look that follows the run
 *	refs      the same, since a reference was never given back
 *	growing   some buffers more at each mark, held at the look
 *	killed    everything that is held in the middle of the run, when SIGKILL comes
 *
 * It is judged by tools/seeds.py, to whom it speaks, line by line:
 *
 *	site NAME OFFSET                   a call site: where its function begins in the file
 *	clear                              make a baseline, and answer
 *	leak NUMBER REASON DEVICE TYPE ADDRESS SIZE REFS SITE TAG
 *	look                               scan, compare what is suspected with the leaks so far, and answer
 *
 * When it has ended, each leak has `died`, whatever its reason was.
 *
 * What goes on between two marks must not look like growth: sizes are random, but for those of a cache that is full at
 * the second mark and of what is freed before the next one.
 */
#include <dlfcn.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/ttalloc.h"

#define PARTIES 4                /* threads of a run, the main one included */
#define SLOTS 24                 /* buffers of a party */
#define CACHE 6                  /* entries of the cache */
#define RESIDENTS 8              /* what is held all the time */
#define LEAKS_MAX 8
#define GROWS_MAX 3              /* buffers per mark of one leak */
#define STEPS_MAX 12             /* between marks */
#define SOWN_MAX (LEAKS_MAX * GROWS_MAX * STEPS_MAX)
#define DEVICES 4
#define REFS_MAX 5
#define TAG_MAX 64
#define SIZE_UNIT 32
#define SIZE_UNITS 16384         /* most of a buffer */
#define STEP UINT64_C(0x100000)  /* between addresses */
#define BASE UINT64_C(0x40000000)

enum type { BUFFER_TYPES = 5, CB = BUFFER_TYPES, KERNEL, TYPES };
static const char *const type_names[TYPES] = { "dram", "l1", "system_memory", "l1_small", "trace", "cb", "kernel" };

struct slot {
	unsigned device;
	unsigned type;
	unsigned site;
	unsigned refs;               /* 0: nothing is there */
	uint64_t address;
	uint64_t size;
	char tag[TAG_MAX];
};

struct party {
	uint64_t random;
	unsigned events;             /* to make */
	struct slot slots[SLOTS];
};

/* A leak per mark: the same buffers each time. */
struct growth {
	struct slot like;
	unsigned buffers;
};

enum kind { EXIT, OUTLIVED, REFS, GROWING, KILLED, KINDS };
static const char *const kind_names[KINDS] = { "exit", "outlived", "refs", "growing", "killed" };

static struct ttalloc *library;
static struct party parties[PARTIES];
static struct slot residents[RESIDENTS];
static struct slot cache[CACHE];
static struct slot sown[SOWN_MAX];
static unsigned sown_count;
static uint64_t seed;            /* what the main thread decides comes from this */

/* --- call sites --- */

static inline __attribute__((always_inline)) void report(const struct slot *s)
{
	if (s->type == CB)
		ttalloc_cb_alloc(library, (int)s->device, s->address, s->size);
	else if (s->type == KERNEL)
		ttalloc_kernel_load(library, (int)s->device, TTALLOC_KERNEL_APPLICATION, s->address, s->size);
	else
		ttalloc_alloc(library, (int)s->device, (uint8_t)s->type, s->address, s->size);
}

#define EACH_SITE(X) \
	X(a) X(b) X(c) X(d) X(e) X(f) X(g) X(h) X(i) X(j) X(k) X(l) X(m) X(n) X(o) X(p) X(q) X(r) X(s) X(t) X(u) X(v) \
	X(w) X(x)
#define DEFINE_SITE(name) static __attribute__((noinline)) void site_##name(const struct slot *s) { report(s); }
#define SITE_ROW(name) { "site_" #name, site_##name },

EACH_SITE(DEFINE_SITE)

static const struct {
	const char *name;
	void (*report)(const struct slot *s);
} sites[] = { EACH_SITE(SITE_ROW) };

#define SITES (sizeof(sites) / sizeof(sites[0]))

static void tell_sites(void)
{
	union { void (*function)(const struct slot *s); char *address; } at;
	Dl_info info;
	unsigned i;

	for (i = 0; i < SITES; i++) {
		at.function = sites[i].report;
		if (!dladdr(at.address, &info))
			abort();
		printf("site %s 0x%tx\n", sites[i].name, at.address - (char *)info.dli_fbase);
	}
}

/* --- chance --- */

static uint64_t random_next(uint64_t *state)
{
	uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
	return z ^ z >> 31;
}

static unsigned random_below(uint64_t *state, unsigned n)
{
	return (unsigned)(random_next(state) % n);
}

static uint64_t random_size(uint64_t *state)
{
	return (uint64_t)(1 + random_below(state, SIZE_UNITS)) * SIZE_UNIT;
}

/* Up to three names, as random code would be deep in calls. */
static void random_tag(uint64_t *state, char tag[TAG_MAX])
{
	static const char *const names[] = { "attention", "mlp", "norm", "kv_cache", "embedding", "prefill", "decode" };
	const unsigned depth = random_below(state, 4);
	size_t length = 0;
	unsigned i;

	tag[0] = '\0';
	for (i = 0; i < depth; i++)
		length += (size_t)snprintf(tag + length, TAG_MAX - length, "%s%s.%u", i ? "/" : "",
					   names[random_below(state, sizeof(names) / sizeof(names[0]))],
					   random_below(state, 10));
}

static struct slot random_slot(uint64_t *state, uint64_t address)
{
	struct slot s = {
		.device = random_below(state, DEVICES),
		.type = random_below(state, TYPES),
		.site = random_below(state, SITES),
		.size = random_size(state),
		.address = address,
	};

	random_tag(state, s.tag);
	return s;
}

/* --- events --- */

/* Once more at a live address: one more reference. */
static void make(struct slot *s)
{
	ttalloc_tag_push(s->tag);
	sites[s->site].report(s);
	ttalloc_tag_pop();
	s->refs++;
}

static void drop(struct slot *s)
{
	if (s->type == CB)
		ttalloc_cb_free(library, (int)s->device, s->address, s->size);
	else if (s->type == KERNEL)
		ttalloc_kernel_unload(library, (int)s->device, s->address, s->size);
	else
		ttalloc_free(library, (int)s->device, s->address);
	s->refs--;
}

static void drop_all(struct slot *slots, unsigned n)
{
	unsigned i;

	for (i = 0; i < n; i++)
		while (slots[i].refs > 0)
			drop(&slots[i]);
}

/* For a moment something else is at the address, in another memory. */
static void make_twin(const struct slot *s)
{
	struct slot twin = *s;

	if (s->type >= BUFFER_TYPES)
		return;
	twin.type = (s->type + 1) % BUFFER_TYPES;
	twin.refs = 0;
	make(&twin);
	drop(&twin);
}

static void do_event(struct party *p)
{
	const unsigned i = random_below(&p->random, SLOTS), what = random_below(&p->random, 8);
	struct slot *s = &p->slots[i];
	const uint64_t party = (uint64_t)(p - parties);

	if (s->refs == 0) {
		*s = random_slot(&p->random, BASE + (party * SLOTS + i) * STEP);
		make(s);
	} else if (what == 0 && s->refs < REFS_MAX) {
		make(s);
	} else if (what == 1 && s->refs < REFS_MAX) {
		s->size = random_size(&p->random);
		make(s);
	} else if (what == 2) {
		make_twin(s);
	} else {
		drop(s);
	}
}

static void *do_events(void *arg)
{
	struct party *p = arg;
	unsigned i;

	for (i = 0; i < p->events; i++)
		do_event(p);
	return NULL;
}

/* The main thread, and often some others at once. */
static void churn(void)
{
	pthread_t threads[PARTIES];
	const unsigned n = random_below(&seed, 3) ? 1 : 1 + random_below(&seed, PARTIES);
	unsigned i;

	for (i = 0; i < n; i++) {
		parties[i].random = random_next(&seed);
		parties[i].events = 10 + random_below(&seed, 40);
		if (i > 0 && pthread_create(&threads[i], NULL, do_events, &parties[i]) != 0)
			abort();
	}
	do_events(&parties[0]);
	for (i = 1; i < n; i++)
		pthread_join(threads[i], NULL);
}

static void drop_churn(void)
{
	unsigned i;

	for (i = 0; i < PARTIES; i++)
		drop_all(parties[i].slots, SLOTS);
}

/* --- what is sown --- */

static struct slot *sow(const struct slot *like)
{
	struct slot *s = &sown[sown_count];

	*s = *like;
	s->refs = 0;
	s->address = BASE + (PARTIES * SLOTS + RESIDENTS + CACHE + sown_count) * STEP;
	sown_count++;
	make(s);
	return s;
}

static void tell(unsigned number, const char *reason, const struct slot *s)
{
	printf("leak %u %s %u %s 0x%" PRIx64 " %" PRIu64 " %u %s %s\n", number, reason, s->device, type_names[s->type],
	       s->address, s->size, s->refs, sites[s->site].name, s->tag[0] ? s->tag : "-");
}

static void forget(unsigned number, enum kind kind)
{
	const struct slot like = random_slot(&seed, 0);
	struct slot *s = sow(&like);
	unsigned refs;

	/* Some of the references are given back, the owner's among them; one at least is not. */
	if (kind == REFS) {
		refs = 1 + random_below(&seed, REFS_MAX - 1);
		while (s->refs <= refs)
			make(s);
		refs = 1 + random_below(&seed, refs);
		while (s->refs > refs)
			drop(s);
	}
	tell(number, kind == EXIT ? "died" : "outlived", s);
}

/* --- kinds of runs --- */

static void ask(const char *what)
{
	char answer[16];

	puts(what);
	fflush(stdout);
	if (!fgets(answer, sizeof(answer), stdin))
		exit(EXIT_FAILURE);
}

static void run_forgetful(enum kind kind, unsigned leaks)
{
	unsigned i;

	if (kind != EXIT)
		ask("clear");
	for (i = 0; i < leaks; i++) {
		churn();
		forget(i, kind);
	}
	churn();
	drop_churn();
	if (kind != EXIT)
		ask("look");
}

/* The oldest entry gives way, once all places are taken. */
static void fill_cache(unsigned step)
{
	static const struct slot entry = { .type = TTALLOC_DRAM, .size = 65536, .tag = "cache" };
	const unsigned n = step < 2 ? CACHE / 2 : 1;
	unsigned i;

	for (i = 0; i < n; i++) {
		const unsigned at = step < 2 ? step * n + i : step % CACHE;

		drop_all(&cache[at], 1);
		cache[at] = entry;
		cache[at].address = BASE + (PARTIES * SLOTS + RESIDENTS + at) * STEP;
		make(&cache[at]);
	}
}

static void grow(const struct growth *g, unsigned leaks)
{
	unsigned i, n;

	for (i = 0; i < leaks; i++)
		for (n = 0; n < g[i].buffers; n++)
			tell(i, "growing", sow(&g[i].like));
}

static void run_marked(unsigned leaks)
{
	struct growth g[LEAKS_MAX];
	const unsigned steps = 8 + random_below(&seed, STEPS_MAX - 8 + 1), early = random_below(&seed, steps);
	unsigned i;

	for (i = 0; i < leaks; i++) {
		g[i].like = random_slot(&seed, 0);
		g[i].buffers = 1 + random_below(&seed, GROWS_MAX);
	}
	ttalloc_mark(library, "step");
	for (i = 0; i < steps; i++) {
		churn();
		fill_cache(i);
		grow(g, leaks);
		ttalloc_mark(library, "step");
		if (leaks == 0 && i == early)
			ask("look");
	}
	ask("look");
	drop_churn();
	drop_all(cache, CACHE);
}

static unsigned held(const struct party *p)
{
	unsigned i, n = 0;

	for (i = 0; i < SLOTS; i++)
		n += p->slots[i].refs > 0;
	return n;
}

static void run_killed(unsigned leaks)
{
	struct party *p = &parties[0];
	unsigned i, number = 0;

	churn();
	drop_churn();
	drop_all(residents, RESIDENTS);
	do
		do_event(p);
	while (held(p) != leaks);
	for (i = 0; i < SLOTS; i++)
		if (p->slots[i].refs > 0)
			tell(number++, "died", &p->slots[i]);
	fflush(stdout);
	raise(SIGKILL);
}

static void run(enum kind kind, unsigned leaks)
{
	if (kind == GROWING)
		run_marked(leaks);
	else if (kind == KILLED && leaks > 0)
		run_killed(leaks);
	else
		run_forgetful(kind == KILLED ? EXIT : kind, leaks);
}

/* --- the whole --- */

static int find_kind(const char *name)
{
	int i;

	for (i = 0; i < KINDS; i++)
		if (strcmp(kind_names[i], name) == 0)
			return i;
	return -1;
}

int main(int argc, char **argv)
{
	const int kind = argc == 5 ? find_kind(argv[1]) : -1;
	unsigned runs, leaks, i;

	if (kind < 0 || strtoul(argv[4], NULL, 10) > LEAKS_MAX) {
		fprintf(stderr, "Usage: leak-seeds exit|outlived|refs|growing|killed SEED RUNS LEAKS (at most %d)\n", LEAKS_MAX);
		return EXIT_FAILURE;
	}
	seed = strtoull(argv[2], NULL, 10);
	runs = (unsigned)strtoul(argv[3], NULL, 10);
	leaks = (unsigned)strtoul(argv[4], NULL, 10);
	if (ttalloc_open(&library, NULL) < 0 || ttalloc_sync(library) < 0) {
		fprintf(stderr, "leak-seeds: no server\n");
		return EXIT_FAILURE;
	}
	tell_sites();
	for (i = 0; i < RESIDENTS; i++) {
		residents[i] = random_slot(&seed, BASE + (PARTIES * SLOTS + i) * STEP);
		make(&residents[i]);
	}
	for (i = 1; i <= runs; i++)
		run((enum kind)kind, i == runs ? leaks : 0);
	drop_all(residents, RESIDENTS);
	ttalloc_close(library);
	return EXIT_SUCCESS;
}
