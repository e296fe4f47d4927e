/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * fire.c - exactness under fire: programs report flat out, are killed at any instruction, and every event that they
 * published is booked once.
 *
 *	fire --mount DIR [--rounds N] [--producers N] [--seed N]      ($TTALLOC_SOCKET: the server's)
 *
 * A round is one producer: a process whose threads allocate and free buffers of all types, and pass them on to each
 * other, so that one frees what another has allocated. Threads end and others take their place; children are forked in
 * the middle of it and do the same for themselves. Each of these processes ends by SIGKILL after a random number of
 * events, or by _exit() of one of its threads, or by itself. Several producers run at once; the numbers are split among
 * as many supervisors, which kill and check.
 *
 * Every process keeps its book in memory that it shares with its supervisor: per buffer what it has become, and per
 * thread the event that is about to be reported, and how far it got: `begun` is stored before the call, `returned`
 * behind it, `settled` when the book has it. A thread that is killed has at most one event that has begun and not
 * returned: it may be booked or not; which, the server's table of the dead process's buffers tells. Then everything
 * else has to follow: that table, buffer by buffer, the number of events, and at the end the totals of all. Since a
 * buffer is freed by other threads than allocated it, an order between lanes that is wrong shows as a free of what is
 * not there.
 *
 * Before that, two rounds without room: the server is stopped until the lanes are full. Here the books say how many
 * events there were, and the server has to have booked or counted as lost each of them.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "client/ttalloc-ring.h"
#include "client/ttalloc.h"

#define BOOKS 6                  /* processes of a round: the producer and its children */
#define CHAINS_FEW 4             /* threads of a process at once; */
#define CHAINS_MAX 90            /* in a crowd, more than there are lanes */
#define LIVES 128                /* threads of a process, also those that have taken the place of others */
#define SLOTS 256                /* buffers of a process */
#define DEVICES 3
#define STEP UINT64_C(0x1000)    /* between addresses */
#define REFS_MAX 5
#define EVENT_BITS 18            /* a process reports at most 2^18 events */
#define FLOOD 100000             /* events more than a lane has room for */
#define NEVER UINT64_MAX
#define BOUND_S 1200             /* a hang is a failure */

/* What a buffer is: references << 32 | size; 0 = not there. */
#define ONE_REF (UINT64_C(1) << 32)
#define REFS(word) ((word) >> 32)
#define SIZE(word) ((word) & (ONE_REF - 1))

/* What is at a slot is always of the same kind. */
enum kind { BUFFER_KINDS = 5, CB = BUFFER_KINDS, KERNEL, KINDS };
static const char *const kind_names[KINDS] = { "dram", "l1", "system_memory", "l1_small", "trace", "cb", "kernel" };

enum outcome { NEW, REF, RESIZE, UNREF, GONE, OUTCOMES };

struct tally {
	uint64_t count[OUTCOMES];
};

/* An event that is about to be reported. */
struct plan {
	unsigned slot;
	enum outcome outcome;
	uint64_t old;
	uint64_t next;
};

/* What one thread keeps; only it writes. */
struct life {
	_Alignas(64) _Atomic uint64_t begun;
	_Atomic uint64_t returned;
	_Atomic uint64_t settled;
	struct plan plan;             /* of event `begun`; means nothing once that is settled */
	struct tally tally[2];        /* after event n: [n & 1] */
};

struct book {
	_Atomic pid_t pid;            /* 0: did not begin */
	_Atomic unsigned lives;
	_Atomic uint64_t dropped;     /* of a process that tells it: its library's counter */
	_Atomic int error;            /* -errno: it could not begin */
	_Atomic bool ringless;        /* it ended since it got no ring */
	_Atomic unsigned asked;       /* questions that it began to ask; */
	_Atomic unsigned answered;    /* each was a message, too */
	uint64_t address;             /* of slot 0 */
	uint64_t kill_at;             /* events */
	uint64_t end_at;              /* events of each chain (threads, one after the other) */
	unsigned chains;
	bool abrupt;                  /* the first chain that ends ends the process */
	bool ended;                   /* the supervisor's: waited for */
	_Atomic uint64_t slot[SLOTS];
	struct life life[LIVES];
};

struct round {
	uint64_t seed;
	_Atomic unsigned books;       /* taken; may be beyond BOOKS */
	struct book book[BOOKS];
};

/* Of all checked processes. */
struct sums {
	struct tally tally;
	uint64_t lost;
	uint64_t live;
	uint64_t bytes;
	uint64_t processes;
	uint64_t killed;
	uint64_t threads;
	uint64_t ringless;            /* processes that ended since they got no ring */
	uint64_t unknown;             /* events that may have been published or not */
	uint64_t published;           /* those of them that were */
	uint64_t failures;
};

/* What the mount says of a dead process. */
struct seen {
	bool known;
	char state[8];
	char transport[16];
	uint64_t events;
	uint64_t lost;
	uint64_t live;
	uint64_t bytes;
	uint64_t slot[SLOTS];
};

static const char *mount_path;
static struct ttalloc *library;
static uint64_t failures;

/* --- helpers --- */

static __attribute__((format(printf, 1, 2))) void fail(const char *format, ...)
{
	va_list args;

	if (++failures > 20)
		return;
	printf("FAIL ");
	va_start(args, format);
	vprintf(format, args);
	va_end(args);
	putchar('\n');
	fflush(stdout);
}

static void die(const char *what)
{
	printf("FAIL %s: %s\n", what, strerror(errno));
	fflush(stdout);
	_exit(1);
}

static void *shared_memory(size_t size)
{
	void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		die("mmap");
	return p;
}

static uint64_t random_next(uint64_t *state)
{
	uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
	return z ^ z >> 31;
}

static uint64_t random_below(uint64_t *state, uint64_t n)
{
	return random_next(state) % n;
}

/* Below a power of two, each of them as likely as any other. */
static uint64_t random_magnitude(uint64_t *state, unsigned bits)
{
	return random_next(state) >> (64 - 1 - random_below(state, bits));
}

static void doze(uint64_t *random, uint64_t most)
{
	nanosleep(&(struct timespec){ .tv_nsec = (long)random_below(random, most) }, NULL);
}

static uint64_t mix(uint64_t seed, uint64_t a, uint64_t b)
{
	uint64_t state = seed ^ a << 32 ^ b << 8;

	return random_next(&state);
}

/* --- reporting --- */

static enum kind kind_of(unsigned slot)
{
	return slot % KINDS;
}

static int device_of(unsigned slot)
{
	return (int)(slot % DEVICES);
}

static enum outcome outcome_of(uint64_t old, uint64_t next)
{
	if (old == 0)
		return NEW;
	if (next == 0)
		return GONE;
	if (REFS(next) < REFS(old))
		return UNREF;
	return SIZE(next) == SIZE(old) ? REF : RESIZE;
}

static void tell_alloc(int device, enum kind kind, uint64_t address, uint64_t size)
{
	if (kind == CB)
		ttalloc_cb_alloc(library, device, address, size);
	else if (kind == KERNEL)
		ttalloc_kernel_load(library, device, TTALLOC_KERNEL_FABRIC, address, size);
	else
		ttalloc_alloc(library, device, (uint8_t)kind, address, size);
}

static void tell_free(int device, enum kind kind, uint64_t address)
{
	if (kind == CB)
		ttalloc_cb_free(library, device, address, 0);
	else if (kind == KERNEL)
		ttalloc_kernel_unload(library, device, address, 0);
	else
		ttalloc_free(library, device, address);
}

static void put(_Atomic uint64_t *to, uint64_t n)
{
	atomic_store_explicit(to, n, memory_order_release);
}

/* Notes that what is at `slot`, which nobody else has now, is about to become `next`. A kill leaves the book exact at
 * any instruction: the stores of a thread that is no more are there up to where it was stopped. */
static void announce(const struct book *b, struct life *l, unsigned slot, uint64_t next)
{
	const uint64_t old = b->slot[slot];

	l->plan = (struct plan){ .slot = slot, .outcome = outcome_of(old, next), .old = old, .next = next };
	put(&l->begun, l->begun + 1);
}

static void tell(const struct book *b, const struct plan *p)
{
	const uint64_t address = b->address + p->slot * STEP;

	if (p->outcome == UNREF || p->outcome == GONE)
		tell_free(device_of(p->slot), kind_of(p->slot), address);
	else
		tell_alloc(device_of(p->slot), kind_of(p->slot), address, SIZE(p->next));
}

static void conclude(struct book *b, struct life *l)
{
	const uint64_t n = l->begun;

	put(&l->returned, n);
	l->tally[n & 1] = l->tally[(n - 1) & 1];
	l->tally[n & 1].count[l->plan.outcome]++;
	put(&b->slot[l->plan.slot], l->plan.next);
	put(&l->settled, n);
}

static void report(struct book *b, struct life *l, unsigned slot, uint64_t next)
{
	announce(b, l, slot, next);
	tell(b, &l->plan);
	conclude(b, l);
}

/* --- a process and its threads --- */

/* Slots that no thread has; and how many chains of threads are not at their end. */
struct pool {
	pthread_mutex_t lock;
	pthread_cond_t ended;
	unsigned running;
	unsigned count;
	unsigned slot[SLOTS];
};

struct worker {
	struct round *round;
	struct book *book;
	struct life *life;
	uint64_t random;
	uint64_t left;                /* events, of the chain */
	unsigned count;
	unsigned slot[SLOTS];         /* its own for now */
};

static struct pool pool;

static void produce(struct round *r, unsigned number) __attribute__((noreturn));

static void pool_init(unsigned chains)
{
	unsigned i;

	pool = (struct pool){
		.lock = PTHREAD_MUTEX_INITIALIZER,
		.ended = PTHREAD_COND_INITIALIZER,
		.running = chains,
		.count = SLOTS,
	};
	for (i = 0; i < SLOTS; i++)
		pool.slot[i] = i;
}

static unsigned take_out(unsigned *slots, unsigned *countp, uint64_t *random)
{
	const unsigned i = (unsigned)random_below(random, *countp);
	const unsigned slot = slots[i];

	slots[i] = slots[--*countp];
	return slot;
}

/* Gives one slot to the others and takes one, as it is. */
static void exchange(struct worker *w)
{
	pthread_mutex_lock(&pool.lock);
	if (w->count > 0 && (w->count > SLOTS / 8 || random_below(&w->random, 2)))
		pool.slot[pool.count++] = take_out(w->slot, &w->count, &w->random);
	if (pool.count > 0)
		w->slot[w->count++] = take_out(pool.slot, &pool.count, &w->random);
	pthread_mutex_unlock(&pool.lock);
}

static void give_all(struct worker *w)
{
	pthread_mutex_lock(&pool.lock);
	while (w->count > 0)
		pool.slot[pool.count++] = w->slot[--w->count];
	pthread_mutex_unlock(&pool.lock);
}

static uint64_t random_size(struct worker *w)
{
	return 1 + random_below(&w->random, 1 << 20);
}

static uint64_t next_of(struct worker *w, unsigned slot)
{
	const uint64_t word = w->book->slot[slot];
	const uint64_t dice = random_below(&w->random, 8);

	if (word == 0)
		return ONE_REF | random_size(w);
	if (kind_of(slot) < BUFFER_KINDS && dice < 3 && REFS(word) < REFS_MAX)
		return dice == 0 ? ((word + ONE_REF) & ~(ONE_REF - 1)) | random_size(w) : word + ONE_REF;
	return REFS(word) == 1 ? 0 : word - ONE_REF;
}

static void bear_child(struct worker *w)
{
	const unsigned number = w->round->books++;

	if (number < BOOKS && fork() == 0)
		produce(w->round, number);
}

static void step(struct worker *w)
{
	const uint64_t dice = random_below(&w->random, 4096);
	unsigned slot;

	if (dice == 0)
		bear_child(w);
	if (w->count == 0 || dice < 1024)
		exchange(w);
	if (w->count == 0)
		return;
	slot = w->slot[random_below(&w->random, w->count)];
	report(w->book, w->life, slot, next_of(w, slot));
	w->left--;
}

static struct life *new_life(struct book *b)
{
	unsigned n = b->lives;

	while (n < LIVES && !atomic_compare_exchange_weak(&b->lives, &n, n + 1))
		;
	return n < LIVES ? &b->life[n] : NULL;
}

static void *work(void *arg);

/* Another thread takes the place of this one. Return: false if there cannot be one. */
static bool replace(const struct worker *w)
{
	struct worker *next = malloc(sizeof(*next));
	pthread_t thread;

	if (!next)
		return false;
	*next = *w;
	next->life = new_life(w->book);
	if (!next->life || pthread_create(&thread, NULL, work, next) != 0) {
		free(next);
		return false;
	}
	pthread_detach(thread);
	return true;
}

static void end_of_chain(struct book *b)
{
	if (b->abrupt)
		_exit(0);
	pthread_mutex_lock(&pool.lock);
	if (--pool.running == 0)
		pthread_cond_signal(&pool.ended);
	pthread_mutex_unlock(&pool.lock);
}

/* Takes `arg` over. */
static void *work(void *arg)
{
	struct worker *w = arg;
	uint64_t until;

	do {
		until = random_below(&w->random, 3000);
		until = until < w->left ? w->left - until : 0;
		while (w->left > until)
			step(w);
		give_all(w);
	} while (w->left > 0 && !replace(w));
	if (w->left == 0)
		end_of_chain(w->book);
	free(w);
	return NULL;
}

static struct worker *new_worker(struct round *r, unsigned number, unsigned chain)
{
	struct worker *w = calloc(1, sizeof(*w));

	if (!w)
		die("calloc");
	w->round = r;
	w->book = &r->book[number];
	w->random = mix(r->seed, number + 1, chain);
	w->left = w->book->end_at;
	w->life = new_life(w->book);
	return w;
}

static int ask(struct book *b)
{
	int r;

	b->asked++;
	r = ttalloc_sync(library);
	b->answered++;
	return r;
}

/* Connects, and gets a ring with the first event: what is reported before there is one may be kept in the process, and
 * ends with it. A client that is not answered in time goes on without a ring; that is not what is tested. */
static void begin(struct book *b, struct life *l)
{
	struct ttalloc_counters counters;
	int r;

	b->pid = getpid();
	r = ask(b);
	if (r == 0) {
		announce(b, l, 0, ONE_REF | 1);
		tell(b, &l->plan);
		r = ask(b);
	}
	b->error = r;
	if (r != 0)
		_exit(0);
	conclude(b, l);
	ttalloc_get_counters(library, &counters);
	b->ringless = counters.rings != 1;
	if (b->ringless)
		_exit(0);
}

/* The life of a process of a round. A child comes here from the middle of a thread of its parent, and goes on in it. */
static void produce(struct round *r, unsigned number)
{
	struct book *b = &r->book[number];
	struct worker *w[CHAINS_MAX];
	pthread_t thread;
	unsigned i;

	for (i = 0; i < b->chains; i++)
		w[i] = new_worker(r, number, i);
	begin(b, w[0]->life);
	pool_init(b->chains);
	for (i = 1; i < b->chains; i++)
		if (pthread_create(&thread, NULL, work, w[i]) != 0)
			die("pthread_create");
	work(w[0]);
	pthread_mutex_lock(&pool.lock);
	while (pool.running > 0)
		pthread_cond_wait(&pool.ended, &pool.lock);
	pthread_mutex_unlock(&pool.lock);
	_exit(0);
}

/* --- the mount --- */

/* The whole of a file of the mount, to be freed; NULL if there is none. */
static char *text_of(const char *name)
{
	size_t size = 0, room = 1 << 16;
	char path[4096], *text = malloc(room + 1);
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "%s/%s", mount_path, name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0) {
		if (errno != ENOENT)
			die(path);
		free(text);
		return NULL;
	}
	while (text && (n = read(fd, text + size, room - size)) > 0) {
		size += (size_t)n;
		if (size == room)
			text = realloc(text, (room *= 2) + 1);
	}
	if (!text || n < 0)
		die(path);
	close(fd);
	text[size] = '\0';
	return text;
}

/* The value of `key` in a text of keys and values; "" if it is not there. */
static const char *value_of(const char *text, const char *key)
{
	const size_t length = strlen(key);
	const char *line;

	for (line = text; line; line = strchr(line, '\n') ? strchr(line, '\n') + 1 : NULL)
		if (strncmp(line, key, length) == 0 && line[length] == ' ')
			return line + length + 1;
	return "";
}

static uint64_t number_of(const char *text, const char *key)
{
	const char *value = value_of(text, key);
	char *end;
	uint64_t n = strtoull(value, &end, 10);

	if (end == value || *end != '\n')
		fail("no number: %s", key);
	return n;
}

static void word_of(const char *text, const char *key, char *word, size_t size)
{
	snprintf(word, size, "%.*s", (int)strcspn(value_of(text, key), "\n"), value_of(text, key));
}

/* Takes one line of a table of buffers. Return: false if it is no buffer that the process can have. */
static bool see_row(const struct book *b, const char *line, struct seen *s)
{
	uint64_t address, size, refs;
	char kind[16];
	unsigned slot;
	int device, pid;

	if (sscanf(line, "%d %15s %" SCNx64 " %" SCNu64 " %" SCNu64 " %d ", &device, kind, &address, &size, &refs,
		   &pid) != 6)
		return false;
	if (address < b->address || address >= b->address + SLOTS * STEP || address % STEP != 0)
		return false;
	slot = (unsigned)((address - b->address) / STEP);
	if (device != device_of(slot) || strcmp(kind, kind_names[kind_of(slot)]) != 0 || pid != b->pid)
		return false;
	if (s->slot[slot] != 0 || refs == 0 || size == 0)
		return false;
	s->slot[slot] = refs << 32 | size;
	s->live++;
	s->bytes += size;
	return true;
}

static void see_rows(const struct book *b, struct seen *s)
{
	char name[64], *text, *line, *rest;

	snprintf(name, sizeof(name), "pids/%d/allocs", b->pid);
	text = text_of(name);
	rest = text;
	while ((line = strsep(&rest, "\n")))
		if (*line && *line != '#' && !see_row(b, line, s))
			fail("pid %d: not a buffer of its, or twice: %s", b->pid, line);
	free(text);
}

static void see_kinds(const struct book *b, const char *text, const struct seen *s)
{
	uint64_t count[KINDS] = { 0 }, bytes[KINDS] = { 0 };
	unsigned i;
	char key[32];

	for (i = 0; i < SLOTS; i++) {
		count[kind_of(i)] += s->slot[i] != 0;
		bytes[kind_of(i)] += SIZE(s->slot[i]);
	}
	for (i = 0; i < KINDS; i++) {
		snprintf(key, sizeof(key), "%s_count", kind_names[i]);
		if (number_of(text, key) != count[i])
			fail("pid %d: %s is not that of the table, %" PRIu64, b->pid, key, count[i]);
		snprintf(key, sizeof(key), "%s_bytes", kind_names[i]);
		if (number_of(text, key) != bytes[i])
			fail("pid %d: %s is not that of the table, %" PRIu64, b->pid, key, bytes[i]);
	}
}

static void see(const struct book *b, struct seen *s)
{
	char name[64], *text;

	*s = (struct seen){ .known = false };
	snprintf(name, sizeof(name), "pids/%d/status", b->pid);
	text = text_of(name);
	if (!text)
		return;
	s->known = true;
	s->events = number_of(text, "events");
	s->lost = number_of(text, "lost");
	word_of(text, "state", s->state, sizeof(s->state));
	word_of(text, "transport", s->transport, sizeof(s->transport));
	see_rows(b, s);
	see_kinds(b, text, s);
	free(text);
}

/* --- checking a process that has ended --- */

static uint64_t events_begun(const struct book *b)
{
	uint64_t n = 0;
	unsigned i;

	for (i = 0; i < b->lives; i++)
		n += b->life[i].begun;
	return n;
}

/* What the book says of one life: its tally, what its last event has made of a slot, and whether that was booked. */
static void settle(const struct book *b, const struct life *l, const struct seen *s, uint64_t want[SLOTS],
		   struct sums *sums)
{
	const struct plan *p = &l->plan;
	bool published = true;
	unsigned i;

	for (i = 0; i < OUTCOMES; i++)
		sums->tally.count[i] += l->tally[l->settled & 1].count[i];
	if (l->begun == l->settled)
		return;
	if (l->begun != l->returned) {
		published = s->slot[p->slot] == p->next;
		sums->unknown++;
		sums->published += published;
	}
	want[p->slot] = published ? p->next : p->old;
	sums->tally.count[p->outcome] += published;
}

static uint64_t tally_sum(const struct tally *t)
{
	uint64_t n = 0;
	unsigned i;

	for (i = 0; i < OUTCOMES; i++)
		n += t->count[i];
	return n;
}

static void sums_add(struct sums *to, const struct sums *from)
{
	unsigned i;

	for (i = 0; i < OUTCOMES; i++)
		to->tally.count[i] += from->tally.count[i];
	to->lost += from->lost;
	to->live += from->live;
	to->bytes += from->bytes;
	to->processes += from->processes;
	to->killed += from->killed;
	to->threads += from->threads;
	to->ringless += from->ringless;
	to->unknown += from->unknown;
	to->published += from->published;
}

static void check_slots(const struct book *b, const struct seen *s, const uint64_t want[SLOTS], struct sums *sums)
{
	unsigned i;

	for (i = 0; i < SLOTS; i++) {
		if (want[i] != s->slot[i])
			fail("pid %d: buffer %u: %" PRIu64 " references, %" PRIu64 " bytes; in its book %" PRIu64 ", %" PRIu64,
			     b->pid, i, REFS(s->slot[i]), SIZE(s->slot[i]), REFS(want[i]), SIZE(want[i]));
		sums->live += want[i] != 0;
		sums->bytes += SIZE(want[i]);
	}
}

static void check_number(const struct book *b, const char *what, uint64_t want, uint64_t got)
{
	if (want != got)
		fail("pid %d: %s: %" PRIu64 ", by its book %" PRIu64, b->pid, what, got, want);
}

static void check_word(const struct book *b, const char *what, const char *want, const char *got)
{
	if (strcmp(want, got) != 0)
		fail("pid %d: %s: %s instead of %s", b->pid, what, got, want);
}

/* Besides events the server counts the questions, the request for a ring, and the question by which the library orders
 * what it sent before the ring came; these two are its own business. */
static void check_messages(const struct book *b, uint64_t events, const struct seen *s)
{
	if (s->events < events + b->answered || s->events > events + b->asked + 2)
		fail("pid %d: %" PRIu64 " messages; by its book %" PRIu64 " events and %u questions", b->pid, s->events,
		     events, b->asked);
}

/* A process that has ended: everything that its book says is in the mount, and nothing else. */
static void check_book(const struct book *b, struct sums *all)
{
	struct sums sums = { .processes = 1, .threads = b->lives, .ringless = b->ringless };
	uint64_t want[SLOTS];
	struct seen s;
	unsigned i;

	if (b->error)
		fail("pid %d: ttalloc_sync: %s", b->pid, strerror(-b->error));
	see(b, &s);
	for (i = 0; i < SLOTS; i++)
		want[i] = b->slot[i];
	for (i = 0; i < b->lives; i++)
		settle(b, &b->life[i], &s, want, &sums);
	check_slots(b, &s, want, &sums);
	check_messages(b, tally_sum(&sums.tally), &s);
	check_number(b, "lost", 0, s.lost);
	if (s.known)
		check_word(b, "state", "dead", s.state);
	if (b->answered == 2 && !b->ringless)
		check_word(b, "transport", "ring", s.transport);
	sums_add(all, &sums);
}

/* --- a round --- */

static void plan_round(struct round *r, uint64_t seed, uint64_t number)
{
	uint64_t random = mix(seed, number, 0);
	struct book *b;

	memset(r, 0, sizeof(*r));
	r->seed = random_next(&random);
	r->books = 1;
	for (b = r->book; b < r->book + BOOKS; b++) {
		b->address = UINT64_C(0x10000000) * (1 + random_below(&random, 64));
		b->chains = 1 + (unsigned)random_below(&random, random_below(&random, 16) ? CHAINS_FEW : CHAINS_MAX);
		b->end_at = 1 + random_magnitude(&random, EVENT_BITS) / b->chains;
		b->abrupt = random_below(&random, 2);
		b->kill_at = random_below(&random, 4) ? random_below(&random, b->end_at * b->chains) : NEVER;
	}
}

static void take_away(struct round *r, pid_t pid, int status)
{
	struct book *b;

	if (!(WIFEXITED(status) && WEXITSTATUS(status) == 0) && !(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL))
		fail("pid %d ended with status %#x", pid, (unsigned)status);
	for (b = r->book; b < r->book + BOOKS; b++)
		if (b->pid == pid)
			b->ended = true;
}

/* Kills each process of the round when it has got as far as it may, until all have ended. */
static void hunt(struct round *r, uint64_t *random, struct sums *sums)
{
	struct book *b;
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) >= 0) {
		if (pid > 0) {
			sums->killed += WIFSIGNALED(status);
			take_away(r, pid, status);
			continue;
		}
		for (b = r->book; b < r->book + BOOKS; b++)
			if (b->pid && !b->ended && b->kill_at != NEVER && events_begun(b) >= b->kill_at)
				kill(b->pid, SIGKILL);
		doze(random, 100000);
	}
}

static pid_t start(struct round *r, void (*body)(struct round *r, unsigned number))
{
	pid_t pid = fork();

	if (pid < 0)
		die("fork");
	if (pid == 0)
		body(r, 0);
	return pid;
}

static void play(struct round *r, uint64_t seed, uint64_t number, struct sums *sums)
{
	uint64_t random = mix(seed, number, 1);
	const uint64_t before = failures;
	unsigned i;

	plan_round(r, seed, number);
	start(r, produce);
	hunt(r, &random, sums);
	for (i = 0; i < BOOKS; i++)
		if (r->book[i].pid)
			check_book(&r->book[i], sums);
	if (failures != before)
		printf("(round %" PRIu64 ")\n", number);
}

/* Rounds first, first + every, ... below `rounds`. */
static void supervise(uint64_t seed, uint64_t first, uint64_t every, uint64_t rounds, struct sums *sums)
{
	struct round *r = shared_memory(sizeof(*r));
	uint64_t n;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	/* The server gets the processor when it wants it: a producer that waits in vain for its ring goes on without. */
	if (setpriority(PRIO_PROCESS, 0, 19) < 0)
		die("setpriority");
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	alarm(BOUND_S);
	failures = 0;
	for (n = first; n < rounds && failures == 0; n += every)
		play(r, seed, n, sums);
	sums->failures = failures;
	fflush(stdout);
	_exit(0);
}

/* --- rounds without room --- */

static void *flood(void *arg)
{
	const struct worker *w = arg;
	const unsigned slot = (unsigned)(w->life - w->book->life);
	uint64_t n;

	for (n = 0; n < TTALLOC_LANE_RECORDS + FLOOD; n++)
		report(w->book, w->life, slot, (w->book->slot[slot] + ONE_REF) | 1);
	return NULL;
}

/* Two threads add references while the server is stopped. Then it stops itself, and goes on when the server does. */
static void overflow(struct round *r, unsigned number)
{
	struct book *b = &r->book[number];
	struct worker *w[2] = { new_worker(r, number, 0), new_worker(r, number, 1) };
	struct ttalloc_counters counters;
	pthread_t thread[2];
	unsigned i;

	begin(b, w[0]->life);
	raise(SIGSTOP);
	for (i = 0; i < 2; i++)
		if (pthread_create(&thread[i], NULL, flood, w[i]) != 0)
			die("pthread_create");
	for (i = 0; i < 2; i++)
		pthread_join(thread[i], NULL);
	ttalloc_get_counters(library, &counters);
	b->dropped = counters.dropped;
	raise(SIGSTOP);
	b->error = ask(b) == -EIO ? ask(b) : -ENOMSG;
	_exit(0);
}

/* Every event of the book was booked as one reference, or counted as lost. */
static void check_overflow(const struct book *b, struct sums *sums)
{
	uint64_t certain = 0, possible = 0, refs = 0;
	struct seen s;
	unsigned i;

	see(b, &s);
	for (i = 0; i < 2; i++) {
		certain += b->life[i].returned;
		possible += b->life[i].begun;
		refs += REFS(s.slot[i]);
		sums->tally.count[NEW] += s.slot[i] != 0;
	}
	sums->tally.count[REF] += refs - s.live;
	sums->live += s.live;
	sums->bytes += s.bytes;
	sums->lost += s.lost;
	sums->processes++;
	check_messages(b, refs, &s);
	if (refs + s.lost < certain || refs + s.lost > possible)
		fail("pid %d: %" PRIu64 " events booked and %" PRIu64 " lost; in its book %" PRIu64 " to %" PRIu64, b->pid,
		     refs, s.lost, certain, possible);
	if (s.lost == 0)
		fail("pid %d: nothing was lost", b->pid);
	if (b->error)
		fail("pid %d: ttalloc_sync: %s", b->pid, strerror(-b->error));
	check_word(b, "transport", "ring", s.transport);
	if (b->kill_at == NEVER)
		check_number(b, "lost", b->dropped, s.lost);
}

static void wait_stopped(pid_t pid)
{
	int status;

	if (waitpid(pid, &status, WUNTRACED) != pid || !WIFSTOPPED(status))
		die("a process that was to stop");
}

static void play_overflow(pid_t server, uint64_t kill_at, struct sums *sums)
{
	struct round *r = shared_memory(sizeof(*r));
	struct sums killed = { 0 };
	uint64_t random = 1;
	pid_t pid;

	r->book[0].address = STEP;
	r->book[0].kill_at = kill_at;
	pid = start(r, overflow);
	wait_stopped(pid);
	kill(server, SIGSTOP);
	kill(pid, SIGCONT);
	if (kill_at == NEVER) {
		wait_stopped(pid);
		kill(server, SIGCONT);
		kill(pid, SIGCONT);
		hunt(r, &random, &killed);
	} else {
		hunt(r, &random, &killed);
		kill(server, SIGCONT);
	}
	check_overflow(&r->book[0], sums);
	munmap(r, sizeof(*r));
}

/* --- all --- */

static void check_stat(const char *stats, const char *key, uint64_t want)
{
	uint64_t got = number_of(stats, key);

	if (got != want)
		fail("stats: %s %" PRIu64 ", by the books %" PRIu64, key, got, want);
}

static void check_stats(const struct sums *s)
{
	static const char *const zero[] = {
		"unknown_frees", "double_frees", "foreign_frees", "ambiguous_frees", "rerouted_frees", "refused_events",
		"malformed_senders", "refused_clients",
	};
	char *stats = text_of("stats");
	unsigned i;

	check_stat(stats, "allocs_total", s->tally.count[NEW]);
	check_stat(stats, "refs_total", s->tally.count[REF]);
	check_stat(stats, "resized_total", s->tally.count[RESIZE]);
	check_stat(stats, "unrefs_total", s->tally.count[UNREF]);
	check_stat(stats, "frees_total", s->tally.count[GONE]);
	check_stat(stats, "events_lost", s->lost);
	check_stat(stats, "live_buffers", s->live);
	check_stat(stats, "live_bytes", s->bytes);
	check_stat(stats, "suspects", s->live);
	check_stat(stats, "clients", 0);
	for (i = 0; i < sizeof(zero) / sizeof(zero[0]); i++)
		check_stat(stats, zero[i], 0);
	free(stats);
}

/* That there was something to check. */
static void check_fire(const struct sums *s, uint64_t rounds)
{
	if (s->processes < rounds)
		fail("%" PRIu64 " processes in %" PRIu64 " rounds", s->processes, rounds);
	if (rounds >= 100 && (s->killed < rounds / 4 || s->unknown == 0))
		fail("%" PRIu64 " were killed, %" PRIu64 " in an event", s->killed, s->unknown);
	if (s->ringless > s->processes / 4)
		fail("%" PRIu64 " of %" PRIu64 " processes got no ring", s->ringless, s->processes);
}

static pid_t server_pid(void)
{
	char *version = text_of("version");
	const char *at = version ? strstr(version, " pid ") : NULL;
	pid_t pid = at ? (pid_t)strtol(at + 5, NULL, 10) : 0;

	if (pid <= 1)
		die("no pid in version");
	free(version);
	return pid;
}

static int set_policy(pid_t pid, int policy)
{
	return sched_setscheduler(pid, policy, &(struct sched_param){ .sched_priority = 0 });
}

/* Whether what disturb() does can be undone here; asked of a process that nobody needs. */
static bool can_disturb(void)
{
	pid_t pid = fork();
	int status;

	if (pid == 0)
		_exit(set_policy(0, SCHED_IDLE) < 0 || set_policy(0, SCHED_OTHER) < 0);
	return waitpid(pid, &status, 0) == pid && status == 0;
}

/* Until all supervisors have ended: most of the time anybody may interrupt the server, wherever it is, for instance
 * between its looks at two lanes, and get far ahead of it there. In between it catches up, before clients get tired of
 * waiting for an answer. */
static void disturb(pid_t server, uint64_t seed)
{
	const bool can = can_disturb();
	uint64_t random = seed;
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) >= 0) {
		if (pid > 0 && (!WIFEXITED(status) || WEXITSTATUS(status) != 0))
			fail("a supervisor ended with status %#x", (unsigned)status);
		if (can && set_policy(server, SCHED_IDLE) < 0)
			die("the server's scheduling");
		doze(&random, 40000000);
		if (can && set_policy(server, SCHED_OTHER) < 0)
			die("the server's scheduling");
		doze(&random, 2000000);
	}
}

static void fire(pid_t server, uint64_t seed, uint64_t rounds, unsigned producers, struct sums *sums)
{
	struct sums *each = shared_memory(producers * sizeof(*each));
	unsigned i;

	for (i = 0; i < producers; i++)
		if (fork() == 0)
			supervise(seed, i, producers, rounds, &each[i]);
	disturb(server, seed);
	for (i = 0; i < producers; i++) {
		failures += each[i].failures;
		sums_add(sums, &each[i]);
	}
	munmap(each, producers * sizeof(*each));
}

int main(int argc, char **argv)
{
	uint64_t seed = 20261124, rounds = 100, producers = 8;
	struct sums sums = { 0 };
	pid_t server;
	int i;

	for (i = 1; i + 1 < argc; i += 2) {
		if (strcmp(argv[i], "--mount") == 0)
			mount_path = argv[i + 1];
		else if (strcmp(argv[i], "--rounds") == 0)
			rounds = strtoull(argv[i + 1], NULL, 10);
		else if (strcmp(argv[i], "--producers") == 0)
			producers = strtoull(argv[i + 1], NULL, 10);
		else if (strcmp(argv[i], "--seed") == 0)
			seed = strtoull(argv[i + 1], NULL, 10);
	}
	if (!mount_path || i != argc || producers == 0) {
		fprintf(stderr, "usage: fire --mount DIR [--rounds N] [--producers N] [--seed N]\n");
		return 2;
	}
	printf("seed %" PRIu64 "\n", seed);
	fflush(stdout);
	if (ttalloc_open(&library, NULL) != 0)
		die("ttalloc_open");
	alarm(BOUND_S);

	server = server_pid();
	play_overflow(server, NEVER, &sums);
	play_overflow(server, 2 * TTALLOC_LANE_RECORDS + FLOOD, &sums);
	fire(server, seed, rounds, (unsigned)producers, &sums);
	if (failures == 0) {
		check_stats(&sums);
		check_fire(&sums, rounds);
	}
	printf("%" PRIu64 " rounds: %" PRIu64 " processes (%" PRIu64 " killed, %" PRIu64 " without a ring), %" PRIu64
	       " threads, %" PRIu64 " events, %" PRIu64 " lost, %" PRIu64 " may have been published and %" PRIu64 " were\n",
	       rounds, sums.processes, sums.killed, sums.ringless, sums.threads, tally_sum(&sums.tally), sums.lost,
	       sums.unknown, sums.published);
	return failures == 0 ? 0 : 1;
}
